import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startProcessNode } from './support/process-node.js';
import { createPerson, createRoom, roomLog } from './support/people.js';
import { RawSocket } from './support/raw-socket.js';
import { call } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

describe('a node that is told to stop', () => {
  let db: TestDatabase;
  beforeAll(async () => {
    db = await createTestDatabase();
  });
  afterAll(() => db.drop());

  it('sends its clients elsewhere, answers what it accepted, closes with 1012 and exits with 0 within 10 s', async () => {
    const [stopped, stays] = await Promise.all([
      startProcessNode({ DATABASE_URL: db.url, DRAIN_MS: '1500' }),
      startProcessNode({ DATABASE_URL: db.url }),
    ]);
    const ann = await createPerson(db.sql);
    const room = await createRoom(db.sql, [ann]);
    const clients = await Promise.all(Array.from({ length: 20 }, () => TestClient.connect(stopped.url, ann.token)));
    await Promise.all(clients.map((client) => client.join(room, true)));

    const acked: string[] = [];
    const senders = clients.map(async (client, n) => {
      for (let k = 0; client.socket.readyState === client.socket.OPEN; k++) {
        const content = `${n}:${k}`;
        // A send that was not accepted before the close is never answered: its client sends it again elsewhere.
        await client.send(room, content).then(
          () => acked.push(content),
          () => undefined,
        );
      }
    });
    await eventually(() => acked.length > 100, 'the stream to run');

    const at = Date.now();
    stopped.process.kill('SIGTERM');
    await eventually(async () => (await call(stopped.url, '/health/ready')).status === 503, 'the node to be unready', 2_000);
    await expect(TestClient.connect(stopped.url, ann.token)).rejects.toThrow('refused with 503');
    await Promise.all(senders);
    expect(await stopped.stop()).toBe(0);
    expect(Date.now() - at).toBeLessThan(10_000);

    const delays = clients.map((client) => client.frames.find(({ event }) => event === 'reconnect')?.data['after_ms'] as number);
    expect(Math.max(...delays)).toBeLessThanOrEqual(1_500);
    expect(new Set(delays).size).toBeGreaterThan(10);
    expect(new Set(clients.map(({ closed }) => closed?.code))).toEqual(new Set([1012]));

    const log = await roomLog(db.sql, room);
    expect(log.contiguous).toBe(true);
    expect(acked.filter((content) => log.contents.filter((stored) => stored === content).length !== 1)).toEqual([]);
    // On any other node each goes on where it was.
    for (const client of clients) {
      const back = await TestClient.connect(stays.url, ann.token, client);
      await back.join(room, true);
      await back.reaches(room, log.lastSeq);
      expect([...client.violations, ...back.violations]).toEqual([]);
      expect(back.contents(room)).toEqual(log.contents);
      await back.close();
    }
    expect(await stays.stop()).toBe(0);
  }, 60_000);

  it('serves REST to its last moment, and keeps no connection for another request', async () => {
    const node = await startProcessNode({ DATABASE_URL: db.url, DRAIN_MS: '1000' });
    const ann = await createPerson(db.sql);
    const room = await createRoom(db.sql, [ann]);
    await Promise.all(Array.from({ length: 5 }, () => TestClient.connect(node.url, ann.token)));
    const post = () => call(node.url, `/rooms/${room}/messages`, { token: ann.token, body: { content: 'still here' } });
    expect((await post()).headers.get('connection')).toBe('keep-alive');

    node.process.kill('SIGTERM');
    await eventually(async () => (await call(node.url, '/health/ready')).status === 503, 'the node to be unready', 2_000);
    const answers: string[] = [];
    const callers = Array.from({ length: 4 }, async () => {
      for (;;) {
        const answer = await post().catch(() => undefined);
        if (answer === undefined) return; // the port is closed
        answers.push(`${answer.status} ${answer.headers.get('connection')}`);
      }
    });
    expect(await node.stop()).toBe(0);
    await Promise.all(callers);
    expect(answers.length).toBeGreaterThan(20);
    expect(new Set(answers)).toEqual(new Set(['201 close']));
  }, 30_000);

  it('does not wait for who has a connection and sends no whole request', async () => {
    const node = await startProcessNode({ DATABASE_URL: db.url, DRAIN_MS: '0' });
    const begun = ['', 'GET /rooms HTTP/1.1\r\nHost: x\r\n', 'POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{'];
    const peers = await Promise.all(begun.map((bytes) => RawSocket.connect(node.url).then((raw) => (raw.write(bytes), raw))));
    await call(node.url, '/health/live'); // behind them: the node has them
    expect(await node.stop()).toBe(0);
    for (const raw of peers) await raw.end();
  }, 30_000);

  it('gives a request that waits for a lock its answer', async () => {
    const node = await startProcessNode({ DATABASE_URL: db.url, DRAIN_MS: '0' });
    const [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
    const room = await createRoom(db.sql, [ann]);
    const holder = await db.sql.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM rooms WHERE id = $1 FOR UPDATE', [room]);
    const answer = call(node.url, `/rooms/${room}/join`, { method: 'POST', token: bob.token });
    const waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    await eventually(async () => (await db.sql.query(waiting)).rowCount === 1, 'the request to wait');
    const stopped = node.stop();
    await delay(1_300); // longer than a connection without a request has, and less than a lock is waited for
    await holder.query('ROLLBACK');
    holder.release();
    expect((await answer).status).toBe(200);
    expect(await stopped).toBe(0);
  }, 30_000);

  it('answers also what it can not store, and exits with 0, when somebody holds the lock of a room', async () => {
    const node = await startProcessNode({ DATABASE_URL: db.url, DRAIN_MS: '500' });
    const ann = await createPerson(db.sql);
    const room = await createRoom(db.sql, [ann]);
    const client = await TestClient.connect(node.url, ann.token);
    await client.join(room);
    const holder = await db.sql.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT 1 FROM rooms WHERE id = $1 FOR UPDATE', [room]);
    const answer = client.command('send_message', { room_id: room, content: 'locked out', client_msg_id: randomUUID() });
    await client.command('ping', {});
    const at = Date.now();
    expect(await node.stop()).toBe(0);
    expect(Date.now() - at).toBeLessThan(10_000);
    expect((await answer).data).toMatchObject({ code: 'unavailable' });
    expect(client.closed?.code).toBe(1012);
    await holder.query('ROLLBACK');
    holder.release();
  }, 30_000);
});
