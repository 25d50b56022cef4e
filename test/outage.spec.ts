import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, roomLog, type Person } from './support/people.js';
import { startProxy, type Proxy } from './support/proxy.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { call } from './support/rest.js';

describe('while PostgreSQL is away', () => {
  let db: TestDatabase;
  let proxy: Proxy;
  let node: TestNode;
  let ann: Person;

  beforeAll(async () => {
    db = await createTestDatabase();
    proxy = await startProxy(db.url);
    node = await startNode(proxy.through(db.url));
    ann = await createPerson(db.sql);
  });
  afterAll(async () => {
    await node.close();
    await proxy.close();
    await db.drop();
  });

  const readyIs = (status: number) =>
    eventually(async () => (await call(node.url, '/health/ready')).status === status, `ready to be ${status}`, 5_000);

  it('the node says within 5 s that it is not ready and why, keeps its sockets, and heals by itself; what was sent meanwhile is stored once', async () => {
    const room = await createRoom(db.sql, [ann]);
    const client = await TestClient.connect(node.url, ann.token);
    await client.join(room, true);
    await client.send(room, 'before');
    await readyIs(200);

    proxy.swallow();
    const meanwhile = [client.send(room, 'during 1'), client.send(room, 'during 2')];
    await readyIs(503);
    expect((await call(node.url, '/health/ready')).body).toMatchObject({
      status: 'unavailable',
      reasons: [expect.stringMatching(/database|bus/)],
    });
    expect((await call(node.url, '/health/live')).status).toBe(200);
    expect((await client.command('ping', {})).event).toBe('pong');

    proxy.heal();
    proxy.cut();
    expect(await Promise.all(meanwhile)).toEqual([2, 3]);
    await readyIs(200);
    await client.send(room, 'after');
    await client.reaches(room, 4);
    expect(client.violations).toEqual([]);
    expect(await roomLog(db.sql, room)).toEqual({ lastSeq: 4, contiguous: true, contents: ['before', 'during 1', 'during 2', 'after'] });
    await client.close();
  });

  it('a send without a client_msg_id whose fate is unknown is answered with unavailable, and REST with 503 and Retry-After', async () => {
    const room = await createRoom(db.sql, [ann]);
    const client = await TestClient.connect(node.url, ann.token);
    await client.join(room, true);
    await client.send(room, 'before');
    proxy.swallow();
    const answer = client.command('send_message', { room_id: room, content: 'lost in between' });
    await eventually(async () => {
      proxy.cut();
      return Promise.race([answer, new Promise<undefined>((later) => setTimeout(() => later(undefined), 50))]);
    }, 'the answer');
    expect((await answer).data).toMatchObject({ code: 'unavailable', temporary: true, retry_after_ms: expect.any(Number) });
    const rest = await call(node.url, `/rooms/${room}`, { token: ann.token });
    expect(rest.status).toBe(503);
    expect(rest.headers.get('retry-after')).not.toBeNull();
    expect(rest.body).toMatchObject({ code: 'unavailable' });
    proxy.heal();
    proxy.cut();
    await readyIs(200);
    await client.close();
  }, 60_000);
});
