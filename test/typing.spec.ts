import pg from 'pg';
import { limits } from '../src/protocol/limits.js';
import { TestClient, type Frame } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, type Person } from './support/people.js';
import { startProcessNode } from './support/process-node.js';
import { call } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

describe('typing', () => {
  let db: TestDatabase;
  let nodes: [TestNode, TestNode];
  let ann: Person;
  let bob: Person;
  let room: string;
  let clients: TestClient[] = [];

  beforeAll(async () => {
    db = await createTestDatabase();
    nodes = [await startNode(db.url), await startNode(db.url)];
    [ann, bob] = [await createPerson(db.sql, 'ann'), await createPerson(db.sql, 'bob')];
  });
  beforeEach(async () => {
    room = await createRoom(db.sql, [ann, bob]);
  });
  afterEach(async () => {
    await Promise.all(clients.map((client) => client.close()));
    clients = [];
  });
  afterAll(async () => {
    await Promise.all(nodes.map((node) => node.close()));
    await db.drop();
  });

  const connect = async (person: Person, url: string): Promise<TestClient> => {
    const client = await TestClient.connect(url, person.token);
    clients.push(client);
    await client.join(room);
    return client;
  };
  const type = (client: TestClient, event: 'typing_start' | 'typing_stop' = 'typing_start', roomId = room) =>
    client.raw(JSON.stringify({ event, data: { room_id: roomId } }));
  /** What a client was told of the room: `+name` and `-name`. */
  const told = (client: TestClient): string[] =>
    client.frames
      .filter(({ event, data }) => event === 'typing' && data['room_id'] === room)
      .map(({ data }) => `${data['is_typing'] === true ? '+' : '-'}${String(data['username'])}`);
  const expectTold = (client: TestClient, what: string[], withinMs?: number) =>
    eventually(() => expect(told(client)).toEqual(what) === undefined, `${what.join()} to be told`, withinMs);

  it('is pushed to the room on both nodes, with id and name, when it begins and ends, and to none of the typist’s own sockets', async () => {
    const [typist, alsoAnn, here, there] = await Promise.all([
      connect(ann, nodes[0].url),
      connect(ann, nodes[1].url),
      connect(bob, nodes[0].url),
      connect(bob, nodes[1].url),
    ]);
    type(typist);
    await Promise.all([expectTold(here, ['+ann'], 3_000), expectTold(there, ['+ann'], 3_000)]);
    expect(there.frames.find(({ event }) => event === 'typing')).toEqual({
      event: 'typing',
      data: { room_id: room, user_id: ann.id, username: 'ann', is_typing: true },
    });
    type(typist, 'typing_stop');
    await Promise.all([expectTold(here, ['+ann', '-ann'], 3_000), expectTold(there, ['+ann', '-ann'], 3_000)]);
    // Bob's comes to Ann's sockets after all of Ann's would have.
    type(here);
    await Promise.all([expectTold(typist, ['+bob']), expectTold(alsoAnn, ['+bob'])]);
  });

  it('that is repeated makes one signal and one frame', async () => {
    const lines: string[] = [];
    const spy = new pg.Client({ connectionString: db.url });
    await spy.connect();
    spy.on('notification', ({ payload }) =>
      lines.push(...(payload ?? '').split('\n').filter((line) => line.startsWith('t') && line.includes(room))),
    );
    await spy.query('LISTEN trunkline');
    const [typist, after, other] = [await connect(ann, nodes[0].url), await connect(bob, nodes[0].url), await connect(bob, nodes[1].url)];
    const signals = () => lines.filter((line) => line.includes(ann.id)).length;
    for (let n = 0; n < 50; n++) type(typist);
    await expectTold(other, ['+ann']);
    for (let n = 0; n < 50; n++) type(typist);
    await typist.command('ping', {});
    // Comes out of the same node after what the repetitions would have made.
    type(after);
    await expectTold(typist, ['+bob']);
    // The spy hears for itself, maybe later than the nodes.
    await eventually(() => lines.some((line) => line.includes(bob.id)), 'the spy to hear of Bob');
    expect(signals()).toBe(1);
    type(typist, 'typing_stop');
    await expectTold(other, ['+ann', '-ann']);
    await eventually(() => signals() >= 2, 'the spy to hear of the end');
    expect(signals()).toBe(2);
    await spy.end();
  });

  it('ends with the typist’s message, sent through whatever socket, and begins again at the next key', async () => {
    const [typist, other] = [await connect(ann, nodes[0].url), await connect(bob, nodes[1].url)];
    type(typist);
    await expectTold(other, ['+ann']);
    await typist.send(room, 'said');
    await expectTold(other, ['+ann', '-ann'], 3_000);
    type(typist);
    await expectTold(other, ['+ann', '-ann', '+ann'], 3_000);
    await call(nodes[1].url, `/rooms/${room}/messages`, { token: ann.token, body: { content: 'said elsewhere' } });
    await expectTold(other, ['+ann', '-ann', '+ann', '-ann'], 3_000);
  });

  it('never stays after a message, however close the two are', async () => {
    const [typist, after, other] = [await connect(ann, nodes[0].url), await connect(bob, nodes[0].url), await connect(bob, nodes[1].url)];
    for (let n = 0; n < 40; n++) {
      type(typist);
      await typist.send(room, `message ${n}`);
      if (n % 5 === 0) await eventually(() => told(other).at(-1) !== '+ann', 'the typing to end', 3_000);
    }
    await eventually(() => told(other).at(-1) !== '+ann', 'the typing to end', 3_000);
    // Comes out of the same node after everything of Ann's that was on its way.
    type(after);
    await expectTold(typist, ['+bob']);
    await eventually(() => told(other).at(-1) !== '+ann', 'the typing to end', 3_000);
  });

  it('ends when the socket closes, and when it leaves the room', async () => {
    const [first, second, other] = [await connect(ann, nodes[0].url), await connect(ann, nodes[0].url), await connect(bob, nodes[1].url)];
    type(first);
    await expectTold(other, ['+ann']);
    first.cut();
    await expectTold(other, ['+ann', '-ann'], 3_000);
    type(second);
    await expectTold(other, ['+ann', '-ann', '+ann']);
    await second.command('leave_room', { room_id: room });
    await expectTold(other, ['+ann', '-ann', '+ann', '-ann'], 3_000);
  });

  it('goes on while another socket of the typist types', async () => {
    const [first, second, other] = [await connect(ann, nodes[0].url), await connect(ann, nodes[0].url), await connect(bob, nodes[1].url)];
    type(first);
    type(second);
    await expectTold(other, ['+ann']);
    type(first, 'typing_stop');
    type(other);
    await expectTold(second, ['+bob']);
    expect(told(other)).toEqual(['+ann']);
    type(second, 'typing_stop');
    await expectTold(other, ['+ann', '-ann']);
  });

  it('ends by itself when it is not renewed, also when the typist’s node dies', async () => {
    const dies = await startProcessNode({ DATABASE_URL: db.url });
    const [silent, dead, other] = [await connect(bob, nodes[0].url), await connect(ann, dies.url), await connect(ann, nodes[1].url)];
    const third = await createPerson(db.sql, 'cyd');
    await db.sql.query('SELECT join_room($1, $2, $3)', [room, third.id, third.name]);
    const watcher = await connect(third, nodes[1].url);
    type(silent);
    type(dead);
    await eventually(() => told(watcher).length === 2, 'both to be told');
    const at = Date.now();
    dies.process.kill('SIGKILL');
    await eventually(() => told(watcher).length === 4, 'both to end', limits.typingExpiryMs + 2_000);
    expect(Date.now() - at).toBeGreaterThan(limits.typingExpiryMs - 1_500);
    expect(told(watcher).toSorted()).toEqual(['+ann', '+bob', '-ann', '-bob']);
    expect(told(other)).toEqual(['+bob', '-bob']);
    await dies.stop('SIGKILL');
  });

  it('is told to who joins while it goes on', async () => {
    const [typist, early] = [await connect(ann, nodes[0].url), await connect(bob, nodes[1].url)];
    type(typist);
    await expectTold(early, ['+ann']);
    const late = await connect(bob, nodes[1].url);
    expect(told(late)).toEqual(['+ann']);
  });

  it('is refused from who does not follow the room on this socket, and is seen by nobody there', async () => {
    const other = await connect(bob, nodes[1].url);
    const stranger = await createPerson(db.sql);
    const outside = await TestClient.connect(nodes[0].url, stranger.token);
    clients.push(outside);
    const expectRefused = ({ event, data }: Frame) =>
      expect({ event, data }).toMatchObject({ event: 'error', data: { code: 'not_a_member' } });
    expectRefused(await outside.command('typing_start', { room_id: room }));
    expectRefused(await outside.command('typing_stop', { room_id: room }));
    const left = await connect(ann, nodes[0].url);
    await left.command('leave_room', { room_id: room });
    expectRefused(await left.command('typing_start', { room_id: room }));
    await left.join(room);
    type(left);
    await expectTold(other, ['+ann']);
  });

  it('is told only in its room', async () => {
    const elsewhere = await createRoom(db.sql, [ann, bob]);
    const [typist, other] = [await connect(ann, nodes[0].url), await connect(bob, nodes[1].url)];
    await Promise.all([typist.join(elsewhere), other.command('leave_room', { room_id: room })]);
    await other.join(elsewhere);
    type(typist);
    type(typist, 'typing_start', elsewhere);
    const { data } = await other.frame('typing');
    expect(data).toMatchObject({ room_id: elsewhere });
    expect(told(other)).toEqual([]);
  });
});
