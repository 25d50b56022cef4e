import { ChatService } from '../src/chat/chat.service.js';
import { Hub } from '../src/realtime/hub.js';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, roomLog, type Person } from './support/people.js';
import { call } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

describe('changes of a room, as its sockets on two nodes see them', () => {
  let db: TestDatabase;
  let one: TestNode;
  let two: TestNode;
  let ann: Person;
  let bob: Person;
  let room: string;
  let a: TestClient;
  let b: TestClient;

  beforeAll(async () => {
    db = await createTestDatabase();
    [one, two] = await Promise.all([startNode(db.url), startNode(db.url)]);
    [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
  });
  beforeEach(async () => {
    room = await createRoom(db.sql, [ann, bob]);
    [a, b] = [await TestClient.connect(one.url, ann.token), await TestClient.connect(two.url, bob.token)];
    await Promise.all([a.join(room), b.join(room)]);
  });
  afterEach(() => Promise.all([a.close(), b.close()]));
  afterAll(async () => {
    await Promise.all([one.close(), two.close()]);
    await db.drop();
  });

  const rest = async (method: string, path: string, body?: unknown) =>
    expect((await call(one.url, `/rooms/${room}${path}`, { method, token: ann.token, body })).status).toBe(200);
  const event = async (client: TestClient, kind: string) => (await client.frame('room_event', (data) => data['kind'] === kind)).data;

  it('each is an event with a seq, live and in the history of who resumes, and none of them ends a stream', async () => {
    await rest('PATCH', '', { name: `renamed ${room}`, description: '\u0001'.repeat(1_000), history: 'joined', private: true });
    await rest('PUT', `/members/${bob.id}`, { role: 'admin' });
    await rest('POST', '/owner', { user_id: bob.id });
    const last = await a.send(room, 'after all that');
    await Promise.all([a.reaches(room, last), b.reaches(room, last)]);
    expect(await event(b, 'renamed')).toMatchObject({ room_id: room, seq: 2, actor_id: ann.id, name: `renamed ${room}` });
    expect(await event(b, 'updated')).toMatchObject({ seq: 3, description: '\u0001'.repeat(1_000), history: 'joined', private: true });
    expect(await event(b, 'role_changed')).toMatchObject({ seq: 4, user_id: bob.id, username: bob.name, role: 'admin' });
    expect(await event(b, 'owner_changed')).toMatchObject({ seq: 5, user_id: bob.id });
    expect(b.frames.filter(({ event: name }) => name === 'user_left' || name === 'user_joined')).toEqual([]);
    const resumed = await TestClient.connect(two.url, ann.token);
    await resumed.command('join_room', { room_id: room, last_seen_seq: 1 });
    const live = b.frames.filter(({ event: name }) => name === 'room_event').map(({ data }) => data);
    expect((await resumed.frame('history')).data['events']).toEqual(live);
    await resumed.close();
  });

  it('who is banned hears nothing above the seq of the ban, and the others that the membership has ended', async () => {
    const streaming = Promise.all(Array.from({ length: 50 }, (_, n) => a.send(room, `stream ${n}`)));
    await rest('PUT', `/bans/${bob.id}`);
    await streaming;
    await a.reaches(room, await a.send(room, 'not for bob'));
    const { seq } = await event(b, 'banned');
    await b.command('ping', {});
    expect(b.lastSeq(room)).toBe(seq);
    expect((await a.frame('user_left')).data).toEqual({ room_id: room, user_id: bob.id, username: bob.name, seq });
    expect((await b.join(room)).data).toMatchObject({ code: 'not_a_member' });
  });

  it('of a room that is deleted everybody gets the last event, and the stream ends', async () => {
    const streaming = Promise.allSettled(Array.from({ length: 50 }, (_, n) => b.send(room, `stream ${n}`)));
    await rest('DELETE', '');
    await streaming;
    for (const client of [a, b]) {
      const { seq } = await event(client, 'deleted');
      expect((await client.join(room)).data).toMatchObject({ code: 'not_a_member' });
      await expect(client.send(room, 'anybody?')).rejects.toThrow('not_a_member');
      expect(client.lastSeq(room)).toBe(seq);
      expect(client.violations).toEqual([]);
      expect((await roomLog(db.sql, room)).lastSeq).toBe(seq);
    }
  });

  it('a membership that ends between its reading and the reply to join_room does not begin a stream', async () => {
    const chat = two.app.get(ChatService);
    const [reader, late] = [await TestClient.connect(two.url, ann.token), await TestClient.connect(two.url, bob.token)];
    await reader.join(room);
    const read = chat.membership.bind(chat);
    chat.membership = async (...which) => {
      const membership = await read(...which);
      await rest('DELETE', `/members/${bob.id}`);
      await reader.reaches(room, await a.send(room, 'after the kick'));
      return membership;
    };
    try {
      expect((await late.join(room)).data).toMatchObject({ code: 'not_a_member' });
    } finally {
      chat.membership = read;
    }
    await reader.reaches(room, await a.send(room, 'long after the kick'));
    await late.command('ping', {});
    expect(late.messages).toEqual([]);
    await Promise.all([reader.close(), late.close()]);
  });

  it('a membership that ended below the seq at which another join opened the log does not begin a stream', async () => {
    const quiet = await createRoom(db.sql, [ann, bob]); // nobody follows it
    const chat = two.app.get(ChatService);
    const [reader, late] = [await TestClient.connect(two.url, ann.token), await TestClient.connect(two.url, bob.token)];
    const read = chat.membership.bind(chat);
    chat.membership = async (...which) => {
      const membership = await read(...which);
      chat.membership = read;
      expect((await call(one.url, `/rooms/${quiet}/members/${bob.id}`, { method: 'DELETE', token: ann.token })).status).toBe(200);
      expect((await reader.join(quiet)).event).toBe('joined_room');
      return membership;
    };
    expect((await late.join(quiet)).data).toMatchObject({ code: 'not_a_member' });
    await reader.reaches(quiet, await reader.send(quiet, 'after the kick'));
    await late.command('ping', {});
    expect(late.messages).toEqual([]);
    await Promise.all([reader.close(), late.close()]);
  });

  it('a stream of an earlier membership is not taken for one of the next', async () => {
    const hub = two.app.get(Hub);
    const deliver = hub.deliver.bind(hub);
    const held: Parameters<Hub['deliver']>[] = [];
    hub.deliver = (...entries) => void held.push(entries); // the node's sockets are behind
    try {
      await db.sql.query("SELECT leave_room($1, $2, $2, 'left')", [room, bob.id]);
      await db.sql.query('SELECT join_room($1, $2, $3)', [room, bob.id, bob.name]);
      await eventually(() => held.length === 2, 'both events');
      expect((await b.join(room)).event).toBe('joined_room');
    } finally {
      hub.deliver = deliver;
    }
    for (const entries of held) hub.deliver(...entries);
    const seq = await a.send(room, 'to a member again');
    await b.reaches(room, seq);
  });
});
