import fc from 'fast-check';
import type pg from 'pg';
import { loadConfig } from '../src/config.js';
import { Database } from '../src/database/database.js';
import { limits } from '../src/protocol/limits.js';
import { TestClient, type Frame } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, roomLog, type Person } from './support/people.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

describe('joining many rooms', () => {
  let db: TestDatabase;
  let node: TestNode;
  let ann: Person;
  let bob: Person;
  let rooms: string[];
  /** The statements that the node sent, by name or text, those of the bus and of the writer not counted. */
  let statements: { name: string; values: readonly unknown[] }[] = [];

  beforeAll(async () => {
    db = await createTestDatabase();
    node = await startNode(db.url);
    [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
    const database = node.app.get(Database);
    const query = database.query.bind(database);
    database.query = (<Row extends pg.QueryResultRow>(config: pg.QueryConfig | string, values?: unknown[]) => {
      const statement: pg.QueryConfig = typeof config === 'string' ? { text: config } : config;
      statements.push({ name: statement.name ?? statement.text, values: statement.values ?? [] });
      return query<Row>(config, values);
    }) as typeof database.query;
    rooms = [];
    for (let n = 0; n < 100; n++) rooms.push(await createRoom(db.sql, [ann]));
    for (const room of rooms) await fill(room, 20);
  }, 30_000);
  beforeEach(() => (statements = []));
  afterAll(async () => {
    await node.close();
    await db.drop();
  });

  const fill = (room: string, count: number) =>
    db.sql.query("INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, 'message ' || n FROM generate_series(1, $3::int) AS n", [
      room,
      ann.id,
      count,
    ]);
  /** Beside them there are the statements of presence, which is written and read in batches of its own. */
  const reads = () => statements.filter(({ name }) => ['find-memberships', 'read_logs'].includes(name));
  /** Not what the sockets and nodes of tests before leave: some seconds later it is written who has gone, and their leases are swept. */
  const ofPresence = () =>
    statements.filter(({ name, values: [, roomsOfWhoCame] }) =>
      name === 'write_presence' ? (roomsOfWhoCame as string[]).length > 0 : name.includes('presence') && !name.includes('sweep_presence'),
    );
  const resumed = async (client: TestClient) => {
    for (const room of rooms) await client.reaches(room, 20);
    expect(client.violations).toEqual([]);
    await eventually(() => client.frames.filter(({ event, data }) => event === 'history' && data['has_more'] === false).length === 100);
  };

  it('join_rooms of 100 rooms that all have missed messages costs a few statements, whatever their number', async () => {
    const client = await TestClient.connect(node.url, ann.token);
    const begin = rooms.map((room_id) => ({ room_id, last_seen_seq: 0 }));
    client.raw(JSON.stringify({ event: 'join_rooms', id: 'all', data: { rooms: begin } }));
    await resumed(client);
    expect(client.frames.filter(({ event }) => event === 'joined_room').map(({ id }) => id)).toEqual(rooms.map(() => 'all'));
    expect(reads().length).toBeLessThanOrEqual(3);
    expect(ofPresence().length).toBeLessThanOrEqual(4);
    await client.close();
  });

  it('100 join_room commands sent without waiting cost little more', async () => {
    const client = await TestClient.connect(node.url, ann.token);
    for (const room of rooms) client.raw(JSON.stringify({ event: 'join_room', id: room, data: { room_id: room, last_seen_seq: 0 } }));
    await resumed(client);
    for (const { id, data } of client.frames.filter(({ event }) => event === 'joined_room')) expect(id).toBe(data['room_id']);
    expect(reads().length).toBeLessThanOrEqual(12);
    await client.close();
  });

  it('whatever else is sent waits for the joins before it', async () => {
    const [room = '', other = ''] = rooms;
    const client = await TestClient.connect(node.url, ann.token);
    const order: string[] = [];
    const note = (name: string, answer: Promise<unknown>) => answer.then(() => order.push(name));
    await Promise.all([
      note('join', client.join(room)),
      note('join of another', client.join(other)),
      note('ping', client.command('ping', {})),
      note('join again', client.command('join_room', { room_id: room, last_seen_seq: 3 })),
      note('leave', client.command('leave_room', { room_id: room })),
      note('nonsense', client.command('nonsense', {})),
    ]);
    expect(order.slice(2)).toEqual(['ping', 'join again', 'leave', 'nonsense']);
    const late = await TestClient.connect(node.url, ann.token);
    const joined = late.join(room);
    const seq = await late.send(room, 'right behind the join');
    await joined;
    await late.reaches(room, seq);
    expect(late.contents(room).at(-1)).toBe('right behind the join');
    await Promise.all([client.close(), late.close()]);
  });

  it('a room that is named twice refuses the command, before anything is joined', async () => {
    const client = await TestClient.connect(node.url, ann.token);
    const [room = ''] = rooms;
    const twice = await client.command('join_rooms', { rooms: [{ room_id: room }, { room_id: room.toUpperCase() }] });
    expect(twice).toMatchObject({ event: 'error', data: { code: 'invalid_payload', fields: [{ field: 'rooms.1.room_id' }] } });
    for (const list of [[], [...rooms, ann.id].map((room_id) => ({ room_id }))])
      expect((await client.command('join_rooms', { rooms: list })).data).toMatchObject({ code: 'invalid_payload' });
    expect(client.frames.some(({ event }) => event === 'joined_room')).toBe(false);
    await client.close();
  });

  it('a socket follows as many rooms as the setting says, also where they are joined at once; an error names its room', async () => {
    expect(loadConfig({}).ROOMS_PER_SOCKET_MAX).toBe(limits.roomsPerSocketMax);
    const small = await startNode(db.url, { ROOMS_PER_SOCKET_MAX: '5' });
    const client = await TestClient.connect(small.url, ann.token);
    expect((await client.frame('hello')).data['limits']).toMatchObject({ rooms_per_socket_max: 5 });
    client.raw(JSON.stringify({ event: 'join_rooms', id: 'all', data: { rooms: rooms.slice(0, 8).map((room_id) => ({ room_id })) } }));
    const answers = await eventually(() => {
      const found = client.frames.filter(({ id }) => id === 'all');
      return found.length === 8 ? found : undefined;
    });
    const errors = answers.filter(({ event }) => event === 'error').map(({ data }) => data);
    expect(errors).toMatchObject(rooms.slice(5, 8).map((room_id) => ({ code: 'conflict', room_id })));
    expect((await client.join(rooms[1] ?? '')).event).toBe('joined_room'); // one that it follows
    await client.command('leave_room', { room_id: rooms[0] });
    expect((await client.join(rooms[7] ?? '')).event).toBe('joined_room');
    await client.close();
    await small.close();
  });

  it('each room is answered as by a join_room of its own, whatever the others are', async () => {
    const open = await createRoom(db.sql, [ann, bob]);
    const long = await createRoom(db.sql, [ann, bob]);
    const hidden = await createRoom(db.sql, [ann], 'joined');
    const strange = await createRoom(db.sql, [ann]);
    await fill(hidden, 5);
    await db.sql.query('SELECT join_room($1, $2, $3)', [hidden, bob.id, bob.name]);
    for (const [room, count] of [
      [open, 10],
      [long, 1_200],
      [hidden, 4],
      [strange, 3],
    ] as const)
      await fill(room, count);
    const heads = new Map<string, number>();
    for (const room of [open, long, hidden]) heads.set(room, (await roomLog(db.sql, room)).lastSeq);
    const oneJoin = (room_id: string) =>
      fc.record(
        {
          room_id: fc.constant(room_id),
          last_seen_seq: fc.oneof(fc.constant(null), fc.nat({ max: 1_300 }), fc.nat({ max: 12 })),
          epoch: fc.constantFrom(null, 'of another life'),
        },
        { requiredKeys: ['room_id'] },
      );
    type Room = { room_id: string; last_seen_seq?: number | null };
    const missing = '018f0000-0000-7000-8000-000000000000';
    const joins: fc.Arbitrary<Room[]> = fc
      .tuple(...[open, long, hidden, strange, missing].map(oneJoin))
      .chain((all) => fc.shuffledSubarray(all, { minLength: 1 }));
    /** What of the answers must be the same: of history, what was sent and not how it was cut. */
    const gist = (frames: readonly Frame[], room: string) => {
      const ofRoom = frames.filter(({ data }) => data['room_id'] === room);
      const seqs = ofRoom.flatMap(({ event, data }) =>
        event === 'history'
          ? [...(data['messages'] as { seq: number }[]), ...(data['events'] as { seq: number }[])].map(({ seq }) => seq)
          : [],
      );
      const others = ofRoom.filter(({ event }) => ['joined_room', 'resync', 'error'].includes(event));
      return {
        seqs: seqs.toSorted((a, b) => a - b),
        ends: ofRoom.filter(({ event, data }) => event === 'history' && data['has_more'] === false).map(({ data }) => data['next_cursor']),
        others: others.map(({ event, id, data: { last_seq, reason, code, epoch } }) => ({ event, id, last_seq, reason, code, epoch })),
      };
    };
    const isAnswered = (frames: readonly Frame[], { room_id, last_seen_seq }: Room) => {
      const { others, ends } = gist(frames, room_id);
      const goesOn =
        typeof last_seen_seq === 'number' &&
        !others.some(({ event, reason }) => event === 'error' || (event === 'resync' && reason !== 'history_hidden'));
      return others.length > 0 && (!goesOn || ends.length > 0);
    };
    await fc.assert(
      fc.asyncProperty(joins, async (list) => {
        const [together, alone] = [await TestClient.connect(node.url, bob.token), await TestClient.connect(node.url, bob.token)];
        together.socket.send(JSON.stringify({ event: 'join_rooms', id: 'j', data: { rooms: list } }));
        for (const data of list) {
          alone.socket.send(JSON.stringify({ event: 'join_room', id: 'j', data }));
          await eventually(() => isAnswered(alone.frames, data), 'the answer to one');
        }
        await eventually(() => list.every((data) => isAnswered(together.frames, data)), 'the answers to all');
        for (const { room_id } of list) expect(gist(together.frames, room_id)).toEqual(gist(alone.frames, room_id));
        await Promise.all([together.close(), alone.close()]);
      }),
      { numRuns: 25 },
    );
  }, 60_000);
});
