/** The server as it is started by somebody who has nothing but Node: with the PostgreSQL that it brings along. Needs no DATABASE_URL and uses none. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { runCommand } from './support/command.js';
import { eventually } from './support/eventually.js';
import { freePort } from '../scripts/cluster/node-process.js';
import { call, createRoom, registerUser } from './support/rest.js';
import { createTestDatabase } from './support/test-database.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const startDeadlineMs = 60_000;

interface Started {
  readonly process: ChildProcess;
  readonly url: string;
  output(): string;
  /** Resolves with the exit code, or the name of the signal that ended it. */
  readonly ended: Promise<number | string>;
}

let folder: string;
const running: ChildProcess[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'trunkline-start-'));
  await chmod(folder, 0o755); // run by root, the server is another account
});
afterEach(async () => {
  for (const child of running.splice(0)) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  const postgres = await postgresPid();
  if (postgres !== undefined) process.kill(postgres, 'SIGINT'); // fast shutdown
  await eventually(async () => (await postgresPid()) === undefined, 'PostgreSQL to end');
  await rm(folder, { recursive: true });
});

async function run(env: Record<string, string>): Promise<Started> {
  const port = await freePort();
  const child = spawn(process.execPath, ['dist/main.js'], {
    cwd: root,
    env: { PATH: process.env['PATH'] ?? '', PORT: String(port), LOG_FORMAT: 'json', DRAIN_MS: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string);
  return { process: child, url: `http://localhost:${port}`, output: () => output, ended };
}

/** Starts a node on the test's folder and waits until it says that it listens. */
async function start(env: Record<string, string> = {}): Promise<Started> {
  const node = await run({ DATA_DIR: join(folder, 'data'), ...env });
  await eventually(
    () => node.output().includes('is listening on') || node.process.exitCode !== null,
    'the node to listen',
    startDeadlineMs,
  );
  if (node.process.exitCode !== null) throw new Error(`it exited with ${node.process.exitCode}: ${node.output()}`);
  return node;
}

const kill = (node: Started, signal: NodeJS.Signals): Promise<number | string> => {
  node.process.kill(signal);
  return node.ended;
};

/** The process id of the folder's PostgreSQL, while there is one. */
async function postgresPid(): Promise<number | undefined> {
  const text = await readFile(join(folder, 'data/postgres/postmaster.pid'), 'utf8').catch(() => '');
  const pid = Number.parseInt(text, 10);
  if (Number.isNaN(pid)) return undefined;
  return isAlive(pid) ? pid : undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function say(node: Started, content: string): Promise<{ token: string; room: string }> {
  const { token } = await registerUser(node.url, 'ann');
  const room = await createRoom(node.url, token, 'lobby');
  expect((await call(node.url, `/rooms/${room}/messages`, { token, body: { content } })).status).toBe(201);
  return { token, room };
}

const history = async (node: Started, { token, room }: { token: string; room: string }): Promise<string[]> => {
  const { body } = await call(node.url, `/rooms/${room}/messages`, { token });
  return (body as { messages: { content: string }[] }).messages.map(({ content }) => content);
};

describe('a node with its own PostgreSQL', () => {
  it('starts in an empty folder, says where it listens, keeps its secrets to itself, and stops both within 5 s at SIGINT', async () => {
    const node = await start();
    expect(node.output()).toContain(`listening on ${node.url}`);
    expect(node.output()).toContain(join(folder, 'data', 'postgres'));
    expect((await call(node.url, '/health')).status).toBe(200);
    for (const secret of ['jwt-secret', 'postgres-password', 'database-url']) {
      expect([secret, (await stat(join(folder, 'data', secret))).mode & 0o777]).toEqual([secret, 0o600]);
      const text = (await readFile(join(folder, 'data', secret), 'utf8')).trim();
      expect(node.output()).not.toContain(text);
      expect(text.length).toBeGreaterThanOrEqual(32);
    }
    expect((await stat(join(folder, 'data/postgres'))).mode & 0o077).toBe(0);
    const postgres = await postgresPid();
    expect(postgres).toBeDefined();

    const begin = Date.now();
    expect(await kill(node, 'SIGINT')).toBe(0);
    await eventually(() => !isAlive(postgres ?? 0), 'PostgreSQL to be gone', begin + 5_000 - Date.now());
    expect(await postgresPid()).toBeUndefined();
  }, 90_000);

  it('started again finds its data, and tokens issued before are still good', async () => {
    const first = await start();
    const said = await say(first, 'before the stop');
    expect(await kill(first, 'SIGTERM')).toBe(0);
    const second = await start();
    expect(await history(second, said)).toEqual(['before the stop']);
    expect(await kill(second, 'SIGINT')).toBe(0);
  }, 90_000);

  it('starts again after SIGKILL, on the server that it left behind, with all that was acked', async () => {
    const first = await start();
    const said = await say(first, 'before the kill');
    const orphan = await postgresPid();
    expect(await kill(first, 'SIGKILL')).toBe('SIGKILL');
    expect(await postgresPid()).toBe(orphan);
    const second = await start();
    expect(await postgresPid()).toBe(orphan);
    expect(await history(second, said)).toEqual(['before the kill']);
    expect(await kill(second, 'SIGINT')).toBe(0);
    expect(await postgresPid()).toBeUndefined();
  }, 90_000);

  it('has its epoch raised while it runs, and while it does not', async () => {
    const epoch = (...args: string[]) => runCommand('epoch', args, { DATA_DIR: join(folder, 'data') });
    const node = await start();
    const shown = [(await epoch()).stdout];
    expect(await epoch('raise')).toMatchObject({ code: 0, stdout: expect.stringContaining(`was ${shown[0]?.trim()} and is `) });
    expect((await call(node.url, '/health')).status).toBe(200);
    shown.push((await epoch()).stdout);
    expect(await kill(node, 'SIGTERM')).toBe(0);
    expect(await epoch('raise')).toMatchObject({ code: 0, stdout: expect.stringContaining(`was ${shown[1]?.trim()} and is `) });
    expect(await postgresPid()).toBeUndefined();
  }, 90_000);

  it('told to stop while it starts, leaves no PostgreSQL behind, and starts well the next time', async () => {
    const early = await run({ DATA_DIR: join(folder, 'data') });
    await eventually(postgresPid, 'PostgreSQL to start', startDeadlineMs);
    expect(await kill(early, 'SIGINT')).toBe(0);
    expect(await postgresPid()).toBeUndefined();
    await kill(await start(), 'SIGTERM');
  }, 90_000);

  it('starts below a folder that nobody else may enter, run by root too', async () => {
    await chmod(folder, 0o700);
    expect(await kill(await start(), 'SIGTERM')).toBe(0);
  }, 90_000);

  it('starts again after both were killed', async () => {
    const first = await start();
    const said = await say(first, 'before the crash');
    const postgres = (await postgresPid()) ?? 0;
    await kill(first, 'SIGKILL');
    process.kill(postgres, 'SIGKILL');
    await eventually(() => !isAlive(postgres), 'PostgreSQL to be gone');
    const second = await start();
    expect(await postgresPid()).not.toBe(postgres);
    expect(await history(second, said)).toEqual(['before the crash']);
    expect(await kill(second, 'SIGINT')).toBe(0);
  }, 90_000);

  it('refuses a folder from which another serves, in one line, and does it no harm', async () => {
    const first = await start();
    const said = await say(first, 'undisturbed');
    const second = await run({ DATA_DIR: join(folder, 'data') });
    expect(await second.ended).toBe(1);
    expect(second.output()).toBe(
      `Another Trunkline is serving from ${join(folder, 'data')}. Stop it first, or give this one its own folder: DATA_DIR=…\n`,
    );
    expect((await call(first.url, '/health/ready')).status).toBe(200);
    expect(await history(first, said)).toEqual(['undisturbed']);
    expect(await kill(first, 'SIGINT')).toBe(0);
  }, 90_000);

  it('whose database address stands in its folder takes a plain INSERT from any program', async () => {
    const node = await start();
    const said = await say(node, 'by REST');
    const client = new pg.Client({ connectionString: (await readFile(join(folder, 'data/database-url'), 'utf8')).trim() });
    await client.connect();
    await client.query("INSERT INTO messages (room_id, user_id, content) SELECT room_id, user_id, 'by psql' FROM room_members");
    await client.end();
    expect(await history(node, said)).toEqual(['by psql', 'by REST']);
    expect(await kill(node, 'SIGINT')).toBe(0);
  }, 90_000);
});

describe('a node that can’t start exits with 1 and says why, without a stack:', () => {
  it('synchronous_commit is off', async () => {
    const db = await createTestDatabase('empty');
    await db.sql.query(`ALTER DATABASE ${db.name} SET synchronous_commit = off`);
    const node = await run({ DATABASE_URL: db.url, JWT_ACCESS_SECRET: 'x'.repeat(32) });
    expect(await node.ended).toBe(1);
    expect(node.output()).toBe(
      "Trunkline can't start with these settings:\n  synchronous_commit is off: after a crash, seqs that clients have seen would be given to other messages. Set synchronous_commit = on.\n",
    );
    expect((await db.sql.query("SELECT FROM pg_tables WHERE schemaname = 'public'")).rowCount).toBe(0);
    await db.drop();
  });

  it.each(['PORT', 'METRICS_PORT'])('a %s that another program has', async (name) => {
    const db = await createTestDatabase();
    const holder = createServer().listen(0, '127.0.0.1').unref();
    await once(holder, 'listening');
    const { port } = holder.address() as AddressInfo;
    const settings = { DATABASE_URL: db.url, JWT_ACCESS_SECRET: 'x'.repeat(32), HOST: '127.0.0.1', LOG_LEVEL: 'silent' };
    const node = await run({ ...settings, [name]: String(port) });
    expect(await node.ended).toBe(1);
    expect(node.output()).toBe(`Port ${port} is in use by another program: give another as PORT, or as METRICS_PORT.\n`);
    await db.drop();
  });

  it.each([
    [
      'DATABASE_URL without a secret',
      { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' },
      /^ {2}JWT_ACCESS_SECRET is missing: .*at least 32 bytes.*$/m,
    ],
    [
      'a secret that is too short',
      { JWT_ACCESS_SECRET: 'short-and-secret' },
      /^ {2}JWT_ACCESS_SECRET=\(hidden\): must have at least 32 bytes$/m,
    ],
    ['a port that is none', { PORT: '70000' }, /^ {2}PORT=70000: must be a whole number from 0 to 65535$/m],
  ])('%s', async (_, env, line) => {
    const node = await run({ DATA_DIR: join(folder, 'data'), ...env });
    expect(await node.ended).toBe(1);
    expect(node.output()).toMatch(line);
    expect(node.output().trimEnd().split('\n')).toHaveLength(2);
    expect(node.output()).not.toMatch(/short-and-secret|\n\s+at /);
  });
});
