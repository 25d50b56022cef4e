import type { Server } from 'node:http';
import { connect } from 'node:net';
import WebSocket from 'ws';
import { RealtimeGateway } from '../src/realtime/realtime.gateway.js';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, tokenFor, type Person } from './support/people.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

describe('the socket', () => {
  let db: TestDatabase;
  let one: TestNode;
  let two: TestNode;
  let ann: Person;
  let room: string;

  beforeAll(async () => {
    db = await createTestDatabase();
    [one, two] = await Promise.all([startNode(db.url), startNode(db.url, { HEARTBEAT_MS: '1000' })]);
    ann = await createPerson(db.sql);
    room = await createRoom(db.sql, [ann]);
  });
  afterAll(async () => {
    await Promise.all([one.close(), two.close()]);
    await db.drop();
  });

  describe('lets in', () => {
    it('by a token in the address, by a bearer header, and by a first frame', async () => {
      const byAddress = await TestClient.connect(one.url, ann.token);
      expect((await byAddress.frame('hello')).data).toMatchObject({ user_id: ann.id, epoch: expect.any(String), heartbeat_ms: 25_000 });
      const byHeader = new WebSocket(`${one.url.replace('http', 'ws')}/ws`, { headers: { authorization: `Bearer ${ann.token}` } });
      const hello = await new Promise<string>((got) => byHeader.once('message', (data) => got((data as Buffer).toString())));
      expect(JSON.parse(hello)).toMatchObject({ event: 'hello', data: { user_id: ann.id } });
      byHeader.close();
      const byFrame = await TestClient.connect(one.url);
      expect((await byFrame.command('join_room', { room_id: room })).data).toMatchObject({ code: 'unauthenticated' });
      expect(await byFrame.command('auth', { token: ann.token })).toMatchObject({ event: 'hello', data: { user_id: ann.id } });
      expect((await byFrame.join(room)).event).toBe('joined_room');
      await Promise.all([byAddress.close(), byFrame.close()]);
    });

    it('into the room that its address names, with the replies of join_room, before any other command', async () => {
      const byToken = await TestClient.connect(one.url, ann.token, undefined, `/ws/${room.toUpperCase()}`);
      const seq = await byToken.send(room, 'at once');
      expect(byToken.frames.slice(0, 2)).toMatchObject([{ event: 'hello' }, { event: 'joined_room', data: { room_id: room } }]);
      expect(byToken.frames[1]?.id).toBeUndefined();
      await byToken.reaches(room, seq);
      const byFrame = await TestClient.connect(two.url, undefined, undefined, `/ws/${room}`);
      const answers = [byFrame.command('auth', { token: ann.token }), byFrame.command('ping', {})];
      expect((await Promise.all(answers)).map(({ event }) => event)).toEqual(['hello', 'pong']);
      expect(byFrame.frames.map(({ event }) => event).slice(0, 3)).toEqual(['hello', 'joined_room', 'pong']);
      const stranger = await TestClient.connect(one.url, ann.token, undefined, `/ws/${ann.id}`);
      expect((await stranger.frame('error')).data).toMatchObject({ code: 'not_a_member' });
      expect((await stranger.command('ping', {})).event).toBe('pong');
      await expect(TestClient.connect(one.url, ann.token, undefined, '/ws/lobby')).rejects.toThrow('refused with 404');
      await Promise.all([byToken, byFrame, stranger].map((client) => client.close()));
    });

    it('nobody with a bad token: the handshake is refused with 401', async () => {
      for (const token of ['nonsense', '', tokenFor(ann, -10), `${ann.token}x`])
        await expect(TestClient.connect(one.url, token)).rejects.toThrow('refused with 401');
    });

    it('nobody at another path', async () => {
      const elsewhere = new WebSocket(`${one.url.replace('http', 'ws')}/elsewhere`);
      const status = await new Promise((refused) => {
        elsewhere.once('unexpected-response', (_, response) => refused(response.statusCode));
        elsewhere.on('error', () => undefined);
      });
      expect(status).toBe(404);
    });

    it('nobody for ever: a refused connection is closed, whether or not its peer closes its side', async () => {
      const server: Server = one.app.getHttpServer();
      const count = () => new Promise<number>((counted) => server.getConnections((_, connections) => counted(connections)));
      await eventually(async () => (await count()) < 10);
      const before = await count();
      const peers = Array.from({ length: 20 }, () =>
        connect({ port: Number(new URL(one.url).port), host: '127.0.0.1', allowHalfOpen: true }),
      );
      for (const peer of peers) {
        peer.on('error', () => undefined);
        peer.write('GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
      }
      await Promise.all(peers.map((peer) => new Promise((answered) => peer.once('data', answered))));
      await eventually(async () => (await count()) <= before, 'the node to be rid of them', 3_000);
      for (const peer of peers) peer.destroy();
    });

    it('nobody who does not authenticate within 5 s: closed with 4408', async () => {
      const silent = await TestClient.connect(one.url);
      expect((await silent.command('auth', { token: 'nonsense' })).data).toMatchObject({ code: 'unauthenticated' });
      await eventually(() => silent.closed, 'the close');
      expect(silent.closed?.code).toBe(4408);
    });
  });

  describe('answers every bad frame with a typed error, and lives', () => {
    const roomId = '018f0000-0000-7000-8000-000000000000';
    const message = (data: object) => JSON.stringify({ event: 'send_message', id: 7, data: { room_id: roomId, content: 'x', ...data } });
    const cases: [name: string, frame: string | Buffer, code: string][] = [
      ['not JSON', 'hello', 'invalid_frame'],
      ['empty', '', 'invalid_frame'],
      ['a JSON string', '"hello"', 'invalid_frame'],
      ['an array', '[1]', 'invalid_frame'],
      ['null', 'null', 'invalid_frame'],
      ['binary', Buffer.from('{"event":"ping"}'), 'invalid_frame'],
      ['no event', '{"data":{}}', 'invalid_frame'],
      ['an event that is no string', '{"event":1}', 'invalid_frame'],
      ['an unknown event', '{"event":"shout"}', 'unknown_event'],
      ['an event of Object.prototype', '{"event":"constructor","data":{}}', 'unknown_event'],
      ['data of the wrong type', '{"event":"join_room","data":[]}', 'invalid_payload'],
      ['a missing field', '{"event":"join_room","data":{}}', 'invalid_payload'],
      ['a room that is no UUID', message({ room_id: 'lobby' }), 'invalid_payload'],
      ['content of the wrong type', message({ content: 5 }), 'invalid_payload'],
      ['no content', message({ content: '' }), 'invalid_payload'],
      ['NUL in the content', message({ content: 'a\0b' }), 'invalid_payload'],
      ['a lone surrogate', `{"event":"send_message","data":{"room_id":"${roomId}","content":"\\ud800"}}`, 'invalid_payload'],
      ['65,537 characters', message({ content: 'x'.repeat(65_537) }), 'message_too_long'],
      ['a client_msg_id that is no UUID', message({ client_msg_id: '1' }), 'invalid_payload'],
      ['a negative last_seen_seq', JSON.stringify({ event: 'join_room', data: { room_id: roomId, last_seen_seq: -1 } }), 'invalid_payload'],
      ['an id that is an object', '{"event":"ping","id":{}}', 'invalid_payload'],
      ['a room that does not exist', message({}), 'room_not_found'],
    ];
    it.each(cases)('%s', async (_name, frame, code) => {
      const client = await TestClient.connect(one.url, ann.token);
      client.raw(frame);
      const { data } = await client.frame('error');
      expect(data).toMatchObject({ code, message: expect.stringMatching(/\.$/), temporary: false });
      expect((await client.command('ping', {})).event).toBe('pong');
      await client.close();
    });

    it('names the field, and carries the id of the command', async () => {
      const client = await TestClient.connect(one.url, ann.token);
      const answer = await client.command('send_message', { room_id: room, content: 5 });
      expect(answer.data).toMatchObject({
        code: 'invalid_payload',
        message: 'content: must be string.',
        fields: [{ field: 'content', message: 'must be string' }],
      });
      await client.close();
    });

    it('but closes a socket that sends nothing else, with 4400, and one whose frame is too big, with 1009', async () => {
      const [bad, big] = [await TestClient.connect(one.url, ann.token), await TestClient.connect(one.url, ann.token)];
      for (let n = 0; n < 100; n++) bad.raw('nonsense');
      await eventually(() => bad.closed, 'the close');
      expect(bad.closed?.code).toBe(4400);
      expect(bad.frames.filter(({ event }) => event === 'error')).toHaveLength(100);
      big.raw('x'.repeat(1_100_000));
      await eventually(() => big.closed, 'the close');
      expect(big.closed?.code).toBe(1009);
    });
  });

  it('carries messages of 1 to 65,536 characters of any script whole to the other node', async () => {
    const [sender, receiver] = [await TestClient.connect(one.url, ann.token), await TestClient.connect(two.url, ann.token)];
    await receiver.join(room);
    const contents = [
      'x',
      'é'.repeat(65_536),
      '漢'.repeat(65_536),
      '𝒳'.repeat(65_536),
      '\u0001'.repeat(65_536),
      '"\\\u2028\n'.repeat(16_384),
      'x'.repeat(7_700),
      'x'.repeat(8_000),
    ];
    const seqs = await Promise.all(contents.map((content) => sender.send(room, content)));
    sender.raw(`{"event":"send_message","data":{"room_id":"${room}","content":"${'\\ud83d\\ude00'.repeat(65_536)}"}}`);
    await receiver.reaches(room, (seqs.at(-1) ?? 0) + 1);
    expect(receiver.messages.map(({ content }) => content)).toEqual([...contents, '😀'.repeat(65_536)]);
    expect(receiver.violations).toEqual([]);
    await Promise.all([sender.close(), receiver.close()]);
  });

  it('answers a retry with the first seq, and a client_msg_id used for something else with conflict', async () => {
    const client = await TestClient.connect(one.url, ann.token);
    const id = '018F0000-0000-7000-8000-0000000000AB';
    const first = await client.command('send_message', { room_id: room, content: 'once', client_msg_id: id });
    expect(first.data).toMatchObject({ client_msg_id: id.toLowerCase(), duplicate: false });
    const elsewhere = await TestClient.connect(two.url, ann.token);
    const again = await elsewhere.command('send_message', { room_id: room, content: 'once', client_msg_id: id });
    expect(again.data).toEqual({ ...first.data, duplicate: true });
    expect((await client.command('send_message', { room_id: room, content: 'twice', client_msg_id: id })).data).toMatchObject({
      code: 'conflict',
    });
    await Promise.all([client.close(), elsewhere.close()]);
  });

  it('accepts the commands of one socket in their order, and answers those on one room in that order', async () => {
    const client = await TestClient.connect(one.url, ann.token);
    const other = await createRoom(db.sql, [ann]);
    for (let n = 0; n < 300; n++) {
      if (n === 150) client.raw(JSON.stringify({ event: 'join_room', id: 'join', data: { room_id: other, last_seen_seq: 0 } }));
      client.raw(JSON.stringify({ event: 'send_message', id: n, data: { room_id: other, content: String(n) } }));
    }
    await client.reaches(other, 300);
    expect(client.contents(other)).toEqual(Array.from({ length: 300 }, (_, n) => String(n)));
    // The bus may bring a message to its sender before the acks of its batch are written.
    const acks = () => client.frames.filter(({ event }) => event === 'message_ack');
    await eventually(() => acks().length === 300, 'an ack for each');
    expect(acks().map(({ id }) => id)).toEqual(Array.from({ length: 300 }, (_, n) => n));
    expect(acks().map(({ data }) => data['seq'])).toEqual(Array.from({ length: 300 }, (_, n) => n + 1));
    const answers = client.frames.filter(({ event }) => event === 'message_ack' || event === 'joined_room').map(({ id }) => id);
    expect(answers.map(String).indexOf('join')).toBe(150);
    await client.close();
  });

  it('answers the end of a room’s stream after the sends before it, also while a room is being joined; other rooms wait for neither', async () => {
    const client = await TestClient.connect(one.url, ann.token);
    const [locked, free] = [await createRoom(db.sql, [ann]), await createRoom(db.sql, [ann])];
    const holder = await db.sql.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM rooms WHERE id = $1 FOR UPDATE', [locked]);
    const say = (event: string, id: string, room_id: string) =>
      client.raw(JSON.stringify({ event, id, data: { room_id, ...(event === 'send_message' && { content: id }) } }));
    say('join_room', 'join', free);
    say('send_message', 'one', locked);
    say('join_room', 'join again', free);
    say('send_message', 'two', locked);
    say('leave_room', 'leave', locked);
    const answered = () => client.frames.flatMap(({ id }) => (id === undefined ? [] : [String(id)]));
    await eventually(() => answered().includes('join again'), 'the free room to be joined');
    await holder.query('COMMIT');
    holder.release();
    await eventually(() => answered().includes('leave'), 'the last answer');
    expect(answered()).toEqual(['join', 'join again', 'one', 'two', 'leave']);
    await client.close();
  });

  it('stops to read a client that does not wait for its answers, and loses none of its sends', async () => {
    const client = await TestClient.connect(one.url, ann.token);
    const other = await createRoom(db.sql, [ann]);
    await client.join(other, true);
    for (let n = 0; n < 5_000; n++)
      client.raw(JSON.stringify({ event: 'send_message', id: n, data: { room_id: other, content: String(n) } }));
    await client.reaches(other, 5_000, 20_000);
    // As above.
    await eventually(() => client.frames.filter(({ event }) => event === 'message_ack').length === 5_000, 'an ack for each');
    expect(client.violations).toEqual([]);
    await client.close();
  });

  it('closes with 4401 when the token expires, unless it was refreshed in band', async () => {
    const short = tokenFor(ann, 3);
    const [left, renewed] = [await TestClient.connect(one.url, short), await TestClient.connect(one.url, short)];
    expect((await renewed.command('refresh_token', { token: 'nonsense' })).data).toMatchObject({ code: 'unauthenticated' });
    const stranger = await createPerson(db.sql);
    expect((await renewed.command('refresh_token', { token: stranger.token })).data).toMatchObject({ code: 'forbidden' });
    expect((await renewed.command('refresh_token', { token: tokenFor(ann, 600) })).event).toBe('token_refreshed');
    await eventually(() => left.closed, 'the close');
    expect(left.closed?.code).toBe(4401);
    expect((await renewed.command('ping', {})).event).toBe('pong');
    await renewed.close();
  });

  it('is cut when its peer is gone without a word', async () => {
    const gateway = two.app.get(RealtimeGateway);
    await eventually(() => gateway.connectionCount === 0);
    const gone = await TestClient.connect(two.url, ann.token);
    const alive = await TestClient.connect(two.url, ann.token);
    await gone.frame('hello');
    gone.socket.pause(); // answers no ping any more
    await eventually(() => gateway.connectionCount === 1, 'the cut', 5_000);
    expect((await alive.command('ping', {})).event).toBe('pong');
    gone.socket.resume();
    await eventually(() => gone.closed, 'the end to be seen');
    expect(gone.closed?.code).toBe(1006);
    await alive.close();
  });

  it('has a limit for the node, closed with 1013, and for each user, closed with 4429; both give back what was closed', async () => {
    const node = await startNode(db.url, { SOCKETS_MAX: '3', SOCKETS_PER_USER_MAX: '2', RATE_LIMITS: 'on' });
    const [bob, carol] = [await createPerson(db.sql), await createPerson(db.sql)];
    const open = async ({ token }: Person) => {
      const client = await TestClient.connect(node.url, token);
      await eventually(() => client.frames.some(({ event }) => event === 'hello') || client.closed !== undefined, 'hello or a close');
      return client;
    };
    const closedWith = (client: TestClient) => eventually(() => client.closed?.code, 'the close');
    const [first, second] = [await open(bob), await open(bob)];
    expect(await closedWith(await open(bob))).toBe(4429);
    const later = await TestClient.connect(node.url);
    later.raw(JSON.stringify({ event: 'auth', data: { token: bob.token } }));
    expect(await closedWith(later)).toBe(4429);
    const third = await open(carol);
    expect(await closedWith(await open(ann))).toBe(1013);
    await first.close();
    const again = await open(bob);
    expect((await again.command('ping', {})).event).toBe('pong');
    await Promise.all([second, third, again].map((client) => client.close()));
    await node.close();
  });
});
