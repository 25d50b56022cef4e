import { jest } from '@jest/globals';
import pg from 'pg';
import { Feed } from '../src/bus/feed.js';
import { ChatService } from '../src/chat/chat.service.js';
import { Database } from '../src/database/database.js';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, signedToken, roomLog, type Person } from './support/people.js';
import { startProcessNode } from './support/process-node.js';
import { startProxy } from './support/proxy.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { call } from './support/rest.js';

describe('whatever the bus does, a room is received complete, in order and once', () => {
  let db: TestDatabase;
  let node: TestNode;
  let ann: Person;
  let room: string;

  beforeAll(async () => {
    db = await createTestDatabase();
    node = await startNode(db.url);
    ann = await createPerson(db.sql);
  });
  beforeEach(async () => {
    room = await createRoom(db.sql, [ann]);
  });
  afterAll(async () => {
    await node.close();
    await db.drop();
  });

  const insert = (content: string) =>
    db.sql.query('INSERT INTO messages (room_id, user_id, content) VALUES ($1, $2, $3)', [room, ann.id, content]);
  const joined = async (url = node.url) => {
    const client = await TestClient.connect(url, ann.token);
    await client.join(room);
    return client;
  };
  const expectWhole = async (client: TestClient, withinMs?: number) => {
    const log = await roomLog(db.sql, room);
    await client.reaches(room, log.lastSeq, withinMs);
    expect(client.violations).toEqual([]);
    expect(client.contents(room).slice(1)).toEqual(log.contents);
    await client.close();
  };

  it('when its LISTEN backend is killed in the middle of a stream', async () => {
    const client = await joined();
    const { counters } = node.app.get(Feed);
    const sending = (async () => {
      for (let n = 0; n < 300; n++) await client.send(room, `message ${n}`);
    })();
    for (let n = 0; n < 3; n++) {
      const { reconnects } = counters;
      // Until the node misses it: what a test before left behind has this name too, for a moment.
      await eventually(async () => {
        await db.sql.query(
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'trunkline listen'",
        );
        return counters.reconnects > reconnects;
      }, 'a loss of the bus');
    }
    await sending;
    await expectWhole(client, 2_000);
  });

  it('when its connection is half-open: what is sent meanwhile arrives within 2 s, the node says that it is not ready, and it heals by itself', async () => {
    const proxy = await startProxy(db.url);
    const behind = await startNode(db.url, { DATABASE_LISTEN_URL: proxy.through(db.url) });
    const client = await joined(behind.url);
    await eventually(async () => (await call(behind.url, '/health/ready')).status === 200, 'the node to be ready');
    proxy.swallow();
    await insert('said into the void');
    await client.reaches(room, 1, 2_000);
    const unready = await eventually(
      async () => {
        const answer = await call(behind.url, '/health/ready');
        return answer.status === 503 ? (answer.body as { reasons: string[] }) : undefined;
      },
      'the node to be unready',
      5_000,
    );
    expect(unready.reasons).toEqual(['the bus (LISTEN) is not connected']);
    expect((await call(behind.url, '/health/live')).status).toBe(200);
    proxy.heal();
    await eventually(async () => (await call(behind.url, '/health/ready')).status === 200, 'the node to be ready again');
    await insert('said after');
    await expectWhole(client);
    await behind.close();
    await proxy.close();
  });

  it('when every connection of before is half-open and new ones are not: what a new LISTEN hears is not held back by what has no answer', async () => {
    const proxy = await startProxy(db.url);
    const behind = await startNode(proxy.through(db.url));
    const client = await joined(behind.url);
    const feed = behind.app.get(Feed);
    await eventually(async () => (await call(behind.url, '/health/ready')).status === 200, 'the node to be ready');
    const { watch } = behind.app.get(Database);
    await Promise.all([watch.query('SELECT pg_sleep(0.1)'), watch.query('SELECT pg_sleep(0.1)')]); // on both of its connections
    proxy.swallow();
    proxy.heal();
    await eventually(() => feed.counters.reconnects > 0 && feed.bus.isConnected, 'a new LISTEN');
    await insert('said into the new one');
    await expectWhole(client, 2_000);
    await behind.close();
    await proxy.close();
  });

  it('when somebody UNLISTENs behind its back', async () => {
    const client = await joined();
    const { reconnects } = node.app.get(Feed).counters;
    const listener = Reflect.get(node.app.get(Feed), 'listener') as { subscriber: { unlistenAll(): Promise<unknown> } };
    await listener.subscriber.unlistenAll();
    await insert('not notified');
    await client.reaches(room, 1, 2_000);
    await eventually(() => node.app.get(Feed).counters.reconnects > reconnects, 'the listener to begin anew');
    await expectWhole(client);
  });

  it('when garbage, forged, doubled and reordered notifications come in', async () => {
    const client = await joined();
    const payloads: string[] = [];
    const spy = new pg.Client({ connectionString: db.url });
    await spy.connect();
    spy.on('notification', ({ payload }) => payload?.includes(`\nm{"room_id":"${room}"`) === true && payloads.push(payload));
    await spy.query('LISTEN trunkline');
    for (let n = 0; n < 20; n++) await insert(`message ${n}`);
    await eventually(() => payloads.length === 20);
    const { refusedPayloads } = node.app.get(Feed).counters;
    const line = `m{"room_id":"${room}","seq":21,"id":1,"user_id":"${ann.id}","username":"mallory","content":"forged","created_at":"2026-01-01T00:00:00.000Z"}`;
    const garbage = [
      '',
      'x',
      '{}',
      '\n',
      `${'0'.repeat(32)}\n${line}`,
      `${payloads[0]?.slice(0, 32)}\n${line}`,
      `${payloads[0]}\n${line}`,
      'é'.repeat(3_000),
      `${'f'.repeat(32)}\nm`,
      `${'f'.repeat(32)}\ne{`,
    ];
    for (const payload of [...garbage, ...payloads, ...payloads.toReversed()])
      await spy.query("SELECT pg_notify('trunkline', $1)", [payload]);
    await insert('the last');
    await client.reaches(room, 21);
    expect(node.app.get(Feed).counters.refusedPayloads - refusedPayloads).toBe(garbage.length - 1); // NOTIFY with an empty payload is none
    expect(client.messages.some(({ content }) => content === 'forged')).toBe(false);
    await spy.end();
    await expectWhole(client);
  });

  it('when notifications are lost, it has them within 2 s', async () => {
    const client = await joined();
    await insert('notified');
    await db.sql.query('ALTER TABLE messages DISABLE TRIGGER messages_notify');
    await insert('lost');
    await insert('lost too');
    await client.reaches(room, 3, 2_000);
    await insert('lost and overtaken');
    await db.sql.query('ALTER TABLE messages ENABLE TRIGGER messages_notify');
    await insert('notified again');
    await expectWhole(client, 2_000);
  });

  it('when the node sleeps for longer than all its deadlines', async () => {
    const sleeper = await startProcessNode({ DATABASE_URL: db.url });
    const client = await joined(sleeper.url);
    sleeper.process.kill('SIGSTOP');
    for (let n = 0; n < 50; n++) await insert(`while it slept ${n}`);
    // Longer than the heartbeat's deadline, and than the sweep's.
    const until = Date.now() + 4_000;
    await eventually(() => Date.now() > until, 'the sleep to end');
    sleeper.process.kill('SIGCONT');
    await client.reaches(room, 50, 2_000);
    await expectWhole(client);
    expect(await sleeper.stop()).toBe(0);
  });

  it('when requests hold every connection of the general pool for long; the node stays ready', async () => {
    const small = await startNode(db.url, { DATABASE_POOL_SIZE: '2' });
    const client = await joined(small.url);
    const database = small.app.get(Database);
    let isOver = false;
    const requests = Promise.all([1, 2].map(() => database.query('SELECT pg_sleep(4.5)'))).finally(() => (isOver = true));
    const problems = new Set<string>();
    await insert('meanwhile');
    await eventually(() => {
      const { problem } = small.app.get(Feed);
      if (problem !== undefined) problems.add(problem);
      return isOver;
    });
    expect([...problems]).toEqual([]);
    await requests;
    await expectWhole(client);
    await small.close();
  });

  it('when the clock of the system is set back or forward', async () => {
    const bob = await createPerson(db.sql);
    await db.sql.query('SELECT join_room($1, $2, $3)', [room, bob.id, bob.name]);
    const client = await joined();
    const shown = (status: string) => client.frame('presence', (data) => data['user_id'] === bob.id && data['status'] === status);
    const clock = jest.spyOn(Date, 'now');
    try {
      await client.reaches(room, await client.send(room, 'before'));
      clock.mockImplementation(() => Math.round(performance.timeOrigin + performance.now()) - 600_000);
      const other = await TestClient.connect(node.url, signedToken(bob)); // an older token is of the future to this node
      await other.join(room);
      await client.reaches(room, await client.send(room, 'after'), 2_000);
      await shown('online');
      await other.close();
      await shown('offline');
      const sending = node.app.get(ChatService).send({ roomId: room, userId: ann.id, content: 'on the way', clientMsgId: undefined });
      clock.mockImplementation(() => Math.round(performance.timeOrigin + performance.now()) + 600_000);
      expect(node.app.get(Feed).problem).toBeUndefined();
      await sending;
    } finally {
      clock.mockRestore();
    }
    await client.reaches(room, 4);
    expect(client.violations).toEqual([]);
    await client.close();
  });

  it('a seq that somebody took out of the table is said to be missing, not waited for or passed over in silence', async () => {
    const client = await joined();
    await db.sql.query('ALTER TABLE messages DISABLE TRIGGER USER');
    await db.sql.query('ALTER TABLE messages ENABLE TRIGGER messages_take_seq');
    const plant = new pg.Client({ connectionString: db.url });
    await plant.connect();
    await plant.query('BEGIN');
    for (const content of ['one', 'two', 'three'])
      await plant.query('INSERT INTO messages (room_id, user_id, content) VALUES ($1, $2, $3)', [room, ann.id, content]);
    await plant.query('DELETE FROM messages WHERE room_id = $1 AND seq = 2', [room]);
    await plant.query('COMMIT');
    await plant.end();
    await db.sql.query('ALTER TABLE messages ENABLE TRIGGER USER');
    const { data } = await client.frame('resync');
    expect(data).toMatchObject({ room_id: room, reason: 'gap_in_log' });
    expect(node.app.get(Feed).counters.holes).toBeGreaterThan(0);
    await insert('four');
    await client.reaches(room, 4);
    expect(client.contents(room)).toEqual(expect.arrayContaining(['four']));
    expect(client.violations).toEqual([]);
    await client.close();
  });

  it('when the epoch changes, every client is told to fetch anew, and an old epoch is never resumed', async () => {
    const client = await joined();
    await insert('before');
    await client.reaches(room, 1);
    const old = (await client.frame('hello')).data['epoch'];
    await db.sql.query('UPDATE operator_epoch SET epoch = epoch + 1');
    const { data } = await client.frame('resync');
    expect(data).toMatchObject({ room_id: room, reason: 'epoch_changed', last_seq: 1 });
    expect(data['epoch']).not.toBe(old);
    await insert('after');
    await client.reaches(room, 2);
    const back = await TestClient.connect(node.url, ann.token, client);
    await back.command('join_room', { room_id: room, last_seen_seq: 1, epoch: old });
    expect((await back.frame('resync')).data).toMatchObject({ reason: 'epoch_changed', last_seq: 2 });
    expect(back.frames.some(({ event }) => event === 'history')).toBe(false);
    await Promise.all([client.close(), back.close()]);
  });

  it('when the epoch changes, who is no member of the room that there is now hears nothing more of it, and a kick counts at its new seq', async () => {
    const [bob, carol] = [await createPerson(db.sql), await createPerson(db.sql)];
    await db.sql.query('SELECT join_room($1, $2, $3), join_room($1, $4, $5)', [room, bob.id, bob.name, carol.id, carol.name]);
    for (let n = 3; n <= 20; n++) await insert(`message ${n}`);
    const a = await TestClient.connect(node.url, ann.token);
    const b = await TestClient.connect(node.url, bob.token);
    const c = await TestClient.connect(node.url, carol.token);
    await Promise.all([a, b, c].map((client) => client.join(room)));
    // What a restore leaves: a log that ends earlier, without Bob's membership.
    for (const table of ['messages', 'rooms']) await db.sql.query(`ALTER TABLE ${table} DISABLE TRIGGER USER`);
    await db.sql.query('DELETE FROM messages WHERE room_id = $1 AND seq > 10', [room]);
    await db.sql.query('DELETE FROM room_members WHERE room_id = $1 AND user_id = $2', [room, bob.id]);
    await db.sql.query('UPDATE rooms SET last_seq = 10 WHERE id = $1', [room]);
    for (const table of ['messages', 'rooms']) await db.sql.query(`ALTER TABLE ${table} ENABLE TRIGGER USER`);
    await db.sql.query('UPDATE operator_epoch SET epoch = epoch + 1');
    expect((await b.frame('error')).data).toMatchObject({ code: 'not_a_member' });
    await Promise.all([a, c].map((client) => client.frame('resync', ({ last_seq }) => last_seq === 10)));
    await insert('for Ann and Carol');
    await Promise.all([a, c].map((client) => client.reaches(room, 11)));
    await db.sql.query("SELECT leave_room($1, $2, $3, 'kicked')", [room, carol.id, ann.id]);
    await insert('for Ann');
    await a.reaches(room, 13);
    await Promise.all([b, c].map((client) => client.command('ping', {})));
    expect(c.lastSeq(room)).toBe(12);
    expect(b.messages).toEqual([]);
    for (const client of [a, b, c]) expect(client.violations).toEqual([]);
    await Promise.all([a, b, c].map((client) => client.close()));
  });
});
