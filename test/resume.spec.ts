import fc from 'fast-check';
import { TestClient, type Message } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, roomLog, type Person } from './support/people.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

describe('joining and resuming', () => {
  let db: TestDatabase;
  let one: TestNode;
  let two: TestNode;
  let ann: Person;
  let bob: Person;

  beforeAll(async () => {
    db = await createTestDatabase();
    [one, two] = await Promise.all([startNode(db.url), startNode(db.url)]);
    [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
  });
  afterAll(async () => {
    await Promise.all([one.close(), two.close()]);
    await db.drop();
  });

  const fill = (room: string, count: number, content = "'message ' || n") =>
    db.sql.query(`INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, ${content} FROM generate_series(1, $3::int) AS n`, [
      room,
      ann.id,
      count,
    ]);

  const expectWhole = async (client: TestClient, room: string, from = 0) => {
    const log = await roomLog(db.sql, room);
    await client.reaches(room, log.lastSeq);
    expect(client.violations).toEqual([]);
    expect(client.contents(room)).toEqual(log.contents.slice(from));
  };

  it('a client that resumes on the other node after 10,000 messages misses none, in pages that end with has_more=false', async () => {
    const room = await createRoom(db.sql, [ann]);
    const before = await TestClient.connect(one.url, ann.token);
    await before.join(room, true);
    await before.send(room, 'the first');
    await before.reaches(room, 1);
    before.cut();
    await fill(room, 10_000);
    const after = await TestClient.connect(two.url, ann.token, before);
    await after.join(room, true);
    await after.send(room, 'the last');
    await after.reaches(room, 10_002);
    await expectWhole(after, room);
    const pages = after.frames.filter(({ event }) => event === 'history').map(({ data }) => data);
    expect(pages.length).toBeGreaterThan(10);
    expect(pages.map(({ has_more }) => has_more)).toEqual([...pages.slice(1).map(() => true), false]);
    for (const { next_cursor, messages } of pages) expect(next_cursor).toBe((messages as Message[]).at(-1)?.seq);
    await after.close();
  }, 60_000);

  it('every reply to a join carries the id of its command, and history is only sent when last_seen_seq was given', async () => {
    const room = await createRoom(db.sql, [ann]);
    await fill(room, 3);
    const client = await TestClient.connect(one.url, ann.token);
    client.raw(JSON.stringify({ event: 'join_room', id: 'first', data: { room_id: room, last_seen_seq: null } }));
    await client.frame('joined_room');
    client.raw(JSON.stringify({ event: 'join_room', id: 'second', data: { room_id: room, last_seen_seq: 1 } }));
    const history = await client.frame('history');
    expect(history).toMatchObject({ id: 'second', data: { next_cursor: 3, has_more: false, events: [] } });
    expect((history.data['messages'] as Message[]).map(({ seq }) => seq)).toEqual([2, 3]);
    expect(client.frames.filter(({ event }) => event === 'joined_room').map(({ id }) => id)).toEqual(['first', 'second']);
    await client.close();
  });

  it('a client that is up to date gets one empty page, so that it knows', async () => {
    const room = await createRoom(db.sql, [ann]);
    await fill(room, 3);
    const client = await TestClient.connect(one.url, ann.token);
    await client.command('join_room', { room_id: room, last_seen_seq: 3 });
    expect((await client.frame('history')).data).toMatchObject({ messages: [], events: [], next_cursor: 3, has_more: false });
    await client.close();
  });

  it('joins and leaves that happened while it was away are in the history, merged by seq', async () => {
    const room = await createRoom(db.sql, [ann]);
    await fill(room, 2);
    await db.sql.query('SELECT join_room($1, $2, $3)', [room, bob.id, bob.name]);
    await fill(room, 1);
    await db.sql.query("SELECT leave_room($1, $2, $2, 'left')", [room, bob.id]);
    const client = await TestClient.connect(one.url, ann.token);
    await client.command('join_room', { room_id: room, last_seen_seq: 0 });
    await expectWhole(client, room);
    expect(client.contents(room)).toEqual(['message 1', 'message 2', '[joined]', 'message 1', '[left]']);
    await client.close();
  });

  it('a last_seen_seq from the future is answered with resync, never with an empty success', async () => {
    const room = await createRoom(db.sql, [ann]);
    await fill(room, 2);
    const client = await TestClient.connect(one.url, ann.token);
    await client.command('join_room', { room_id: room, last_seen_seq: 99 });
    expect((await client.frame('resync')).data).toMatchObject({ room_id: room, reason: 'ahead_of_room', last_seq: 2 });
    expect(client.frames.some(({ event }) => event === 'history')).toBe(false);
    await client.send(room, 'goes on');
    await client.reaches(room, 3);
    expect(client.violations).toEqual([]);
    await client.close();
  });

  it('who left a room with leave_room hears no more of it, and remains a member', async () => {
    const room = await createRoom(db.sql, [ann]);
    const client = await TestClient.connect(one.url, ann.token);
    await client.join(room);
    expect((await client.command('leave_room', { room_id: room })).event).toBe('left_room');
    const seq = await client.send(room, 'into the room');
    const other = await TestClient.connect(one.url, ann.token);
    await other.command('join_room', { room_id: room, last_seen_seq: 0 });
    await other.reaches(room, seq);
    expect(client.messages).toEqual([]);
    await Promise.all([client.close(), other.close()]);
  });

  it('joining again while the stream runs skips nothing', async () => {
    const room = await createRoom(db.sql, [ann]);
    const client = await TestClient.connect(one.url, ann.token);
    await client.join(room);
    const sends = Array.from({ length: 200 }, (_, n) => client.send(room, `message ${n}`));
    const joins = Array.from({ length: 20 }, () => client.join(room));
    await Promise.all([...sends, ...joins]);
    await client.reaches(room, 200);
    expect(client.violations).toEqual([]);
    await client.close();
  });

  it('joining again while what is missed is still read skips nothing, also of before the membership', async () => {
    const room = await createRoom(db.sql, [ann]);
    await fill(room, 5_000);
    await db.sql.query('SELECT join_room($1, $2, $3)', [room, bob.id, bob.name]);
    const client = await TestClient.connect(two.url, bob.token);
    const [first, again] = await Promise.all([
      client.command('join_room', { room_id: room, last_seen_seq: 0 }),
      client.command('join_room', { room_id: room }),
    ]);
    expect(first.data['last_seq']).toBe(5_001);
    expect(again.data['last_seq']).toBeLessThan(5_000); // where the stream is
    await client.frame('history', ({ has_more }) => has_more === false);
    const seqs = client.frames
      .filter(({ event }) => event === 'history')
      .flatMap(({ data }) => [...(data['messages'] as Message[]), ...((data['events'] ?? []) as Message[])].map(({ seq }) => seq));
    expect(seqs.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 5_001 }, (_, n) => n + 1));
    await client.close();
  });

  it('a member who was kicked hears nothing above the seq of the kick, and a member who left nothing above its leave', async () => {
    for (const kind of ['kicked', 'left']) {
      const room = await createRoom(db.sql, [ann, bob]);
      const [a, b] = [await TestClient.connect(one.url, ann.token), await TestClient.connect(two.url, bob.token)];
      await Promise.all([a.join(room), b.join(room)]);
      await a.send(room, 'for both');
      const streaming = Promise.all(Array.from({ length: 100 }, (_, n) => a.send(room, `stream ${n}`)));
      await db.sql.query('SELECT leave_room($1, $2, $3, $4)', [room, bob.id, ann.id, kind]);
      await streaming;
      const last = await a.send(room, 'not for bob');
      await a.reaches(room, last);
      const gone = await b.frame('room_event', (data) => data['kind'] === kind);
      expect(gone.data).toMatchObject({ user_id: bob.id, actor_id: ann.id });
      // Until it got anything else: a later command is answered after what was sent before it.
      await b.command('ping', {});
      expect(b.lastSeq(room)).toBe(gone.data['seq']);
      expect(b.violations).toEqual([]);
      expect((await b.join(room)).data).toMatchObject({ code: 'not_a_member' });
      await expect(b.send(room, 'let me in')).rejects.toThrow('not_a_member');
      await Promise.all([a.close(), b.close()]);
    }
  });

  it("in a room that hides what was before a member's join, resuming from there is a resync and starts at the join", async () => {
    const room = await createRoom(db.sql, [ann], 'joined');
    await fill(room, 5);
    await db.sql.query('SELECT join_room($1, $2, $3)', [room, bob.id, bob.name]);
    await fill(room, 2);
    const client = await TestClient.connect(one.url, bob.token);
    const { id } = await client.command('join_room', { room_id: room, last_seen_seq: 0 });
    expect(await client.frame('resync')).toMatchObject({ id, data: { reason: 'history_hidden', last_seq: 6 } });
    await client.reaches(room, 8);
    expect(client.frames.filter((frame) => frame.id === id).map(({ event }) => event)).toEqual(['joined_room', 'resync', 'history']);
    expect(client.messages.map(({ seq }) => seq)).toEqual([7, 8]);
    await client.close();
  });

  it('a join in the middle of a stream of sends has nothing missing and nothing twice, whatever the interleaving', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          before: fc.integer({ min: 0, max: 30 }),
          steps: fc.array(
            fc.oneof(fc.constant('send'), fc.constant('burst'), fc.constant('cut'), fc.constant('other node'), fc.constant('wait')),
            { minLength: 5, maxLength: 25 },
          ),
        }),
        async ({ before, steps }) => {
          const room = await createRoom(db.sql, [ann, bob]);
          await fill(room, before);
          const sender = await TestClient.connect(one.url, ann.token);
          let reader = await TestClient.connect(two.url, bob.token);
          reader.raw(JSON.stringify({ event: 'join_room', data: { room_id: room, last_seen_seq: 0 } }));
          const sends: Promise<number>[] = [];
          for (const step of steps) {
            if (step === 'send') sends.push(sender.send(room, `send ${sends.length}`));
            else if (step === 'burst') for (let n = 0; n < 30; n++) sends.push(sender.send(room, `burst ${sends.length}`));
            else if (step === 'wait') await sends.at(-1);
            else {
              const previous = reader;
              previous.cut();
              // What a cut connection had received counts, what was under way does not.
              await eventually(() => previous.closed, 'the cut to be seen');
              reader = await TestClient.connect(step === 'cut' ? two.url : one.url, bob.token, previous);
              reader.violations.push(...previous.violations);
              reader.raw(JSON.stringify({ event: 'join_room', data: { room_id: room, last_seen_seq: reader.lastSeq(room) } }));
            }
          }
          await Promise.all(sends);
          await expectWhole(reader, room);
          await Promise.all([sender.close(), reader.close()]);
        },
      ),
      { numRuns: 40 },
    );
  }, 120_000);
});
