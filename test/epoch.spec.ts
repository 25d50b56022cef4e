import type pg from 'pg';
import { raiseEpoch, readEpoch } from '../src/bus/epoch.store.js';
import { Feed } from '../src/bus/feed.js';
import { Database } from '../src/database/database.js';
import { TestClient } from './support/client.js';
import { runCommand } from './support/command.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, type Person } from './support/people.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

/** A sweep a second, and the time of the machine. */
const noticedWithinMs = 2_000;

let db: TestDatabase;
let nodes: TestNode[];
beforeAll(async () => {
  db = await createTestDatabase();
  nodes = await Promise.all([startNode(db.url), startNode(db.url)]);
});
afterAll(async () => {
  await Promise.all(nodes.map((node) => node.close()));
  await db.drop();
});

const epoch = (...args: string[]) => runCommand('epoch', args, { DATABASE_URL: db.url });

it('`epoch raise` tells the clients of every running node to fetch anew, within 2 s and without a restart', async () => {
  const ann = await createPerson(db.sql);
  const room = await createRoom(db.sql, [ann]);
  const clients = await Promise.all(nodes.map(({ url }) => TestClient.connect(url, ann.token)));
  const old = await Promise.all(clients.map(async (client) => (await client.join(room)).data['epoch']));
  const shown = (await epoch()).stdout.trim();
  expect(old).toEqual([shown, shown]);

  const resyncs = Promise.all(clients.map((client) => client.frame('resync')));
  const { code, stdout, stderr } = await epoch('raise');
  const raisedAt = performance.now();
  const told = await resyncs;
  expect(performance.now() - raisedAt).toBeLessThan(noticedWithinMs);
  expect([code, stderr]).toEqual([0, '']);
  const raised = (await epoch()).stdout.trim();
  expect(raised).not.toBe(shown);
  expect(stdout).toBe(`The epoch was ${shown} and is ${raised}: every client will be told to fetch anew.\n`);
  for (const { data } of told) expect(data).toMatchObject({ room_id: room, reason: 'epoch_changed', epoch: raised });

  const back = await TestClient.connect(nodes[0]?.url ?? '', ann.token);
  await back.command('join_room', { room_id: room, last_seen_seq: 0, epoch: shown });
  expect((await back.frame('resync')).data).toMatchObject({ reason: 'epoch_changed' });
  await Promise.all([...clients, back].map((client) => client.close()));
});

it('a backup that is restored twice, and raised each time, never has the same epoch twice', async () => {
  const restored = await createTestDatabase();
  const { rows } = await restored.sql.query<{ epoch: number }>('SELECT epoch FROM operator_epoch');
  const seen = new Set<string>();
  for (let life = 1; life <= 3; life++) {
    await restored.sql.query('UPDATE operator_epoch SET epoch = $1', [rows[0]?.epoch]);
    await raiseEpoch(restored.sql);
    seen.add(JSON.stringify(await readEpoch(restored.sql)));
    expect(seen.size).toBe(life);
  }
  await restored.drop();
});

it('says what it does, and what is wrong, and exits with 1 when it did nothing', async () => {
  const empty = await createTestDatabase('empty');
  expect(await epoch('--help')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Usage: .*raise/), stderr: '' });
  for (const args of [['lower'], ['raise', 'twice'], ['--force']]) {
    expect(await epoch(...args)).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/^Usage: /) });
  }
  expect(await runCommand('epoch', ['raise'], { DATABASE_URL: empty.url })).toEqual({
    code: 1,
    stdout: '',
    stderr: 'This database has no schema of Trunkline. Is DATABASE_URL the right one? An empty one needs: npm run migrate\n',
  });
  expect(await runCommand('epoch', ['raise'], { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' })).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^Trunkline can't use the database at DATABASE_URL: .*ECONNREFUSED.*\n$/),
  });
  await empty.drop();
});

describe('while the nodes find out that the epoch is another one', () => {
  let node: TestNode;
  let ann: Person;
  let room: string;
  let letGo: () => void = () => undefined;
  /** The statements of a name wait until they are let go, from the moment when `isTime`. */
  const hold = (database: Pick<Database, 'query'>, name: string, isTime = () => true): void => {
    const query = database.query.bind(database);
    let open: () => void = () => undefined;
    const held = new Promise<void>((opened) => (open = opened));
    database.query = async <Row extends pg.QueryResultRow>(config: pg.QueryConfig | string, values?: unknown[]) => {
      if (typeof config !== 'string' && config.name === name && isTime()) await held;
      return query<Row>(config, values);
    };
    letGo = () => {
      database.query = query;
      open();
    };
  };
  /** Not those of a sweep that still knows the epoch of now: with it all sweeps would wait, and none would find the next epoch. */
  const holdHeadsOfNext = (): void => {
    const feed = node.app.get(Feed);
    const { epoch: old } = feed;
    hold(node.app.get(Database).watch, 'read_heads', () => feed.epoch !== old);
  };
  const raised = async () => {
    const feed = node.app.get(Feed);
    const { epoch: old } = feed;
    await raiseEpoch(db.sql);
    return eventually(() => feed.epoch !== old && feed.epoch);
  };

  beforeEach(async () => {
    node = await startNode(db.url);
    ann = await createPerson(db.sql);
    room = await createRoom(db.sql, [ann]);
  });
  afterEach(async () => {
    letGo();
    letGo = () => undefined;
    await node.close();
  });

  it('who joins is told the new one, before the heads of the rooms are read', async () => {
    const other = await createRoom(db.sql, [ann]);
    const [before, between] = [await TestClient.connect(node.url, ann.token), await TestClient.connect(node.url, ann.token)];
    await before.join(room);
    holdHeadsOfNext();
    const now = await raised();
    expect((await between.join(other)).data['epoch']).toBe(now);
    expect((await between.join(room)).data['epoch']).toBe(now);
    expect(before.frames.some(({ event }) => event === 'resync')).toBe(false);
    letGo();
    for (const client of [before, between])
      expect((await client.frame('resync')).data).toMatchObject({ room_id: room, reason: 'epoch_changed', epoch: now });
    await between.reaches(other, await before.send(other, 'after'));
    expect([...before.violations, ...between.violations]).toEqual([]);
    await Promise.all([before.close(), between.close()]);
  });

  it('nothing is stored on a new connection before clients were told: the seq of an ack may be one that they know otherwise', async () => {
    const client = await TestClient.connect(node.url, ann.token);
    await client.join(room);
    await client.send(room, 'before');
    holdHeadsOfNext();
    const now = await raised();
    const writers = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'trunkline writer'";
    await db.sql.query(`SELECT pg_terminate_backend(pid) ${writers}`);
    const acked = client.send(room, 'after');
    const isNew = `SELECT 1 ${writers} AND query LIKE '%current_epoch%' AND state = 'idle'`;
    await eventually(async () => ((await db.sql.query(isNew)).rowCount ?? 0) > 0, 'a new connection');
    expect((await db.sql.query('SELECT FROM messages WHERE room_id = $1', [room])).rowCount).toBe(1);
    letGo();
    await acked;
    const events = client.frames.map(({ event }) => event);
    expect(events.indexOf('resync')).toBeGreaterThan(-1);
    expect(events.indexOf('resync')).toBeLessThan(events.lastIndexOf('message_ack'));
    const acks = client.frames.filter(({ event }) => event === 'message_ack');
    expect(acks.map(({ data }) => data['epoch'])).toEqual([undefined, now]);
    await client.close();
  });

  it('a client is told also where the heads of the rooms could not be read at first', async () => {
    const client = await TestClient.connect(node.url, ann.token);
    await client.join(room);
    const lock = await db.sql.connect();
    await lock.query('BEGIN; LOCK TABLE rooms IN ACCESS EXCLUSIVE MODE');
    letGo = () => {
      letGo = () => undefined;
      lock.release(true);
    };
    const now = await raised();
    await eventually(() => node.app.get(Feed).problem !== undefined, 'a reading of the heads to fail');
    letGo();
    expect((await client.frame('resync')).data).toMatchObject({ room_id: room, reason: 'epoch_changed', epoch: now });
    await client.close();
  });

  it('who was joining gets the log that there is now, whatever was notified of the one before', async () => {
    const clients = [await TestClient.connect(node.url, ann.token), await TestClient.connect(node.url, ann.token)];
    hold(node.app.get(Database), 'find-memberships');
    const joins = clients.map((client) => client.join(room));
    const feed = node.app.get(Feed);
    await eventually(() => feed.roomCount === 1);
    const { payloads } = feed.counters;
    await db.sql.query("INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, 'lost' FROM generate_series(1, 3)", [room, ann.id]);
    await eventually(() => feed.counters.payloads > payloads);
    // What a restore leaves: the log without its end.
    for (const table of ['messages', 'rooms']) await db.sql.query(`ALTER TABLE ${table} DISABLE TRIGGER USER`);
    await db.sql.query('DELETE FROM messages WHERE room_id = $1', [room]);
    await db.sql.query('UPDATE rooms SET last_seq = 0 WHERE id = $1', [room]);
    for (const table of ['messages', 'rooms']) await db.sql.query(`ALTER TABLE ${table} ENABLE TRIGGER USER`);
    const now = await raised();
    letGo();
    for (const { data } of await Promise.all(joins)) expect(data).toMatchObject({ last_seq: 0, epoch: now });
    for (const content of ['one', 'two']) await clients[0]?.send(room, content);
    for (const client of clients) {
      await client.reaches(room, 2);
      expect([client.contents(room), client.violations]).toEqual([['[start]', 'one', 'two'], []]);
      await client.close();
    }
  });
});
