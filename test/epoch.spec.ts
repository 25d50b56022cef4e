import { raiseEpoch, readEpoch } from '../src/bus/epoch.store.js';
import { TestClient } from './support/client.js';
import { runCommand } from './support/command.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom } from './support/people.js';
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
