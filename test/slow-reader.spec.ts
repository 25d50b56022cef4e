import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, roomLog, type Person } from './support/people.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { RealtimeGateway } from '../src/realtime/realtime.gateway.js';

const budgetBytes = 262_144;

describe('a client that reads too slowly', () => {
  let db: TestDatabase;
  let node: TestNode;
  let ann: Person;

  beforeAll(async () => {
    db = await createTestDatabase();
    node = await startNode(db.url, { SOCKET_BUFFER_BYTES: String(budgetBytes) });
    ann = await createPerson(db.sql);
  });
  afterAll(async () => {
    await node.close();
    await db.drop();
  });

  /** More than the kernel's buffers hold, so that the node's own must stop. */
  const flood = async (room: string) => {
    for (let n = 0; n < 80; n++) {
      await db.sql.query(
        "INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, repeat('x', 60000) || n FROM generate_series($3::int, $3::int + 4) AS n",
        [room, ann.id, n * 5],
      );
    }
  };
  const waitingBytes = () => {
    const connections = [...(Reflect.get(node.app.get(RealtimeGateway), 'connections') as Set<{ outbox: { waitingBytes: number } }>)];
    return Math.max(...connections.map(({ outbox }) => outbox.waitingBytes));
  };

  it('costs the node no more than its budget, is caught up when it reads again, and others do not notice', async () => {
    const room = await createRoom(db.sql, [ann]);
    const [slow, quick] = [await TestClient.connect(node.url, ann.token), await TestClient.connect(node.url, ann.token)];
    await Promise.all([slow.join(room, true), quick.join(room, true)]);
    slow.socket.pause();
    let worst = 0;
    const watching = setInterval(() => (worst = Math.max(worst, waitingBytes())), 5);
    await flood(room);
    const { lastSeq } = await roomLog(db.sql, room);
    await quick.reaches(room, lastSeq, 30_000);
    clearInterval(watching);
    expect(quick.violations).toEqual([]);
    expect(slow.lastSeq(room)).toBeLessThan(lastSeq);
    // What one window brought may go over it, for it was let in while there was room. All of it were 24 MB.
    expect(worst).toBeGreaterThan(budgetBytes / 2);
    expect(worst).toBeLessThan(budgetBytes + 4_000_000);

    slow.socket.resume();
    await slow.reaches(room, lastSeq, 30_000);
    await slow.send(room, 'back again');
    await slow.reaches(room, lastSeq + 1);
    expect(slow.violations).toEqual([]);
    expect(slow.closed).toBeUndefined();
    await Promise.all([slow.close(), quick.close()]);
  }, 60_000);

  it('is closed with 4409 when it does not catch up in time, and misses nothing when it resumes', async () => {
    const room = await createRoom(db.sql, [ann]);
    const strict = await startNode(db.url, { SOCKET_BUFFER_BYTES: String(budgetBytes), SLOW_SOCKET_TIMEOUT_MS: '1000' });
    const slow = await TestClient.connect(strict.url, ann.token);
    await slow.join(room, true);
    slow.socket.pause();
    await flood(room);
    await eventually(() => strict.app.get(RealtimeGateway).connectionCount === 0, 'the node to be rid of it', 20_000);
    slow.socket.resume();
    await eventually(() => slow.closed, 'the close');
    const { lastSeq } = await roomLog(db.sql, room);
    const back = await TestClient.connect(node.url, ann.token, slow);
    await back.join(room, true);
    await back.reaches(room, lastSeq, 30_000);
    expect([...slow.violations, ...back.violations]).toEqual([]);
    expect(back.rooms.get(room)?.size).toBe(lastSeq);
    await back.close();
    await strict.close();
  }, 60_000);

  it('and asks all the same is not read any more: what it would be answered is bounded too', async () => {
    const socket = await TestClient.connect(node.url, ann.token);
    socket.socket.pause();
    const ping = JSON.stringify({ event: 'ping', id: 'x'.repeat(250) });
    let worst = 0;
    for (let n = 0; n < 400; n++) {
      for (let k = 0; k < 250; k++) socket.raw(ping);
      await new Promise((turn) => setImmediate(turn));
      worst = Math.max(worst, waitingBytes());
    }
    await eventually(() => socket.socket.bufferedAmount > 0, 'the client to have to wait');
    expect(worst).toBeLessThan(budgetBytes + 1_500_000);
    socket.socket.terminate();
    await eventually(() => socket.closed, 'the close');
  }, 60_000);
});
