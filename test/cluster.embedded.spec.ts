/** Five nodes behind a real Nginx, as `npm run cluster` starts them, under clients that lose nothing and count everything. */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { clusterState, type ClusterState } from '../scripts/cluster/control.js';
import { findNginx } from '../scripts/cluster/nginx.js';
import { freePorts, isFree } from '../scripts/cluster/node-process.js';
import { closeCodes } from '../src/protocol/close-codes.js';
import { eventually } from './support/eventually.js';
import { testSecret } from './support/node.js';
import { createPerson, createRoom, roomLog, type Person } from './support/people.js';
import { callAnything } from './support/any-call.js';
import { call, createRoom as createRoomByRest, registerUser } from './support/rest.js';
import { SteadyClient, type Closed } from './support/steady-client.js';
import { createTestDatabase } from './support/test-database.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const startDeadlineMs = 90_000;

interface Command {
  readonly process: ChildProcess;
  output(): string;
  readonly ended: Promise<number | string>;
}

let folder: string;
const running: ChildProcess[] = [];
/** What goes on until it is ended. */
const ongoing: { end(): unknown }[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'trunkline-cluster-'));
  await chmod(folder, 0o755); // run by root, the server is another account
});
afterEach(async () => {
  for (const one of ongoing.splice(0)) await one.end();
  for (const child of running.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGTERM'); // not SIGKILL, after which its nodes would be left
    await once(child, 'exit');
  }
  await rm(folder, { recursive: true });
});

function cluster(args: readonly string[], env: Record<string, string> = {}): Command {
  const child = spawn(process.execPath, ['--import', 'tsx', 'scripts/cluster.ts', ...args], {
    cwd: root,
    env: { PATH: process.env['PATH'] ?? '', DATA_DIR: join(folder, 'data'), RATE_LIMITS: 'off', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  return {
    process: child,
    output: () => output,
    ended: once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string),
  };
}

async function serves(command: Command): Promise<string> {
  await eventually(
    () => command.output().includes('is listening on') || command.process.exitCode !== null,
    'the cluster to serve',
    startDeadlineMs,
  );
  const url = /is listening on (\S+)/.exec(command.output())?.[1];
  if (url === undefined) throw new Error(`it exited with ${command.process.exitCode}: ${command.output()}`);
  return url.replace('localhost', '127.0.0.1');
}

const state = async (): Promise<ClusterState> => eventually(() => clusterState(join(folder, 'data')), 'the state of the cluster');

const isAlive = (pid: number | undefined): boolean => {
  try {
    return pid !== undefined && process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** REST beside the sockets: who reads, who posts, who posts what can't be known again. */
class RestTraffic {
  readonly answers: { readonly status: number; readonly what: string; readonly begun: number; readonly ended: number }[] = [];
  /** Of calls to which there was no answer at all. */
  readonly broken: string[] = [];
  readonly posted: string[] = [];
  readonly maybePosted: string[] = [];
  private isOver = false;
  private readonly loops: Promise<void>[];

  constructor(
    private readonly url: string,
    people: readonly Person[],
    private readonly room: string,
  ) {
    this.loops = people.map((person, n) => this.loop(person, n));
  }

  async end(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.loops);
  }

  private async loop({ token }: Person, n: number): Promise<void> {
    for (let k = 0; !this.isOver; k++) {
      const content = `rest ${n}:${k}`;
      if (k % 3 === 0) await this.ask('GET', token);
      else await this.ask('POST', token, { content, ...(k % 3 === 1 && { client_msg_id: randomUUID() }) });
      await delay(20 + Math.random() * 60);
    }
  }

  private async ask(method: string, token: string, body?: { content: string }): Promise<void> {
    const begun = Date.now();
    try {
      const { status } = await callAnything(this.url, `/rooms/${this.room}/messages`, { method, token, ...(body && { body }) });
      this.answers.push({ status, what: method, begun, ended: Date.now() });
      if (body) (status === 201 ? this.posted : this.maybePosted).push(body.content);
    } catch (error) {
      this.broken.push(`${method}: ${String((error as Error).cause ?? error)}`);
      if (body) this.maybePosted.push(body.content);
    }
  }
}

describe('npm run cluster', () => {
  it('keeps every promise to 200 clients while all nodes are rolled, Nginx is reloaded and a node is killed', async () => {
    const db = await createTestDatabase();
    const people = await Promise.all(Array.from({ length: 200 }, () => createPerson(db.sql)));
    const roomCount = 10;
    const membersOf = (n: number): Person[] => people.filter((_, k) => k % roomCount === n);
    const rooms = await Promise.all(Array.from({ length: roomCount }, (_, n) => createRoom(db.sql, membersOf(n))));
    const restRoom = await createRoom(db.sql, people.slice(0, 8));

    const port = await freePorts(6);
    const main = cluster(['--nodes', '5', '--port', String(port)], { DATABASE_URL: db.url, JWT_ACCESS_SECRET: testSecret });
    const url = await serves(main);

    const clients = people.map(({ token }, n) => new SteadyClient(url, token, rooms[n % roomCount] ?? ''));
    await eventually(() => clients.every(({ live }) => live), 'all clients to be live', 30_000);
    let said = 0;
    const speaking = setInterval(() => {
      for (const [n, client] of clients.entries()) if (n % 10 === said % 10 && client.unacked < 20) client.say(`${n}:${said}`);
      said++;
    }, 100);
    const rest = new RestTraffic(url, people.slice(0, 8), restRoom);
    ongoing.push(...clients, rest, { end: () => clearInterval(speaking) });
    const failures = (from: number): typeof rest.answers => rest.answers.filter(({ status, begun }) => status >= 500 && begun >= from);
    const since = (at: number): Closed[] => clients.flatMap(({ closes }) => closes).filter((close) => close.at >= at);
    await delay(2_000); // under way

    const rollAt = Date.now();
    const roll = cluster(['--roll']);
    await eventually(() => roll.output().includes('node-2 serves again'), 'two nodes to be rolled', 60_000);
    const before = await state();
    process.kill(before.nginx ?? 0, 'SIGHUP');
    expect(await roll.ended).toBe(0);
    expect(roll.output().match(/serves again/g)).toHaveLength(5);
    await eventually(() => clients.every(({ live }) => live), 'all clients to be live after the roll');
    expect((await state()).nginx).toBe(before.nginx);
    const ofRoll = { codes: count(since(rollAt)), seconds: (Date.now() - rollAt) / 1_000, recovery: recovery(clients, rollAt) };
    expect({ failed: failures(rollAt), refused: clients.flatMap(({ refusals }) => refusals) }).toEqual({ failed: [], refused: [] });
    expect(Object.keys(ofRoll.codes)).toEqual([String(closeCodes.serviceRestart.code)]);

    await delay(1_000);
    const on = (name: string): SteadyClient[] => clients.filter(({ node }) => node === name);
    const victim = (await state()).nodes.toSorted((a, b) => on(b.name).length - on(a.name).length)[0];
    const onVictim = on(victim?.name ?? '');
    const killAt = Date.now();
    process.kill(victim?.pid ?? 0, 'SIGKILL');
    // Until its memory is given back it still takes connections, and with them requests that nobody will answer.
    await eventually(() => !isAlive(victim?.pid), 'the killed node to be gone');
    const goneAt = Date.now();
    await eventually(
      () => onVictim.every(({ live, liveAt }) => live && (liveAt.at(-1) ?? 0) >= killAt),
      'the clients of the killed node',
      15_000,
    );
    await eventually(
      async () => (await call(String(victim?.url), '/health/ready')).status === 200,
      'the killed node to serve again',
      30_000,
    );
    await delay(1_000);
    const ofKill = { closes: since(killAt), recovery: recovery(onVictim, killAt) };

    clearInterval(speaking);
    await rest.end();
    await eventually(() => clients.every(({ unacked }) => unacked === 0), 'every send to be acked', 15_000);
    const logs = await Promise.all(rooms.map((room) => roomLog(db.sql, room)));
    await eventually(
      () => clients.every(({ lastSeq }, n) => (lastSeq ?? 0) >= (logs[n % roomCount]?.lastSeq ?? 0)),
      'every client to have all',
    );

    report(
      `200 clients, 5 nodes, ${clients.reduce((sum, { acked }) => sum + acked.length, 0)} sends acked, ${clients.reduce((sum, { held }) => sum + held.size, 0)} received, ` +
        `${rest.answers.length} REST calls, ${rest.broken.length} without an answer (${[...new Set(rest.broken)].join('; ')})
roll of 5 nodes with a reload of Nginx: ${ofRoll.seconds.toFixed(1)} s; closed ${JSON.stringify(ofRoll.codes)}; live again after ${ofRoll.recovery}
kill of a node with ${onVictim.length} clients: closed ${JSON.stringify(count(ofKill.closes))}; live again after ${ofKill.recovery}; 5xx ${failures(0).length}`,
    );
    // What a client sees of a node that dies is a connection that ends without a code.
    expect(ofKill.closes.filter(({ code, node }) => code !== 1006 || node !== victim?.name)).toEqual([]);
    expect(failures(goneAt)).toEqual([]);
    expect(rest.answers.filter(({ status }) => status !== 200 && status !== 201 && status < 500)).toEqual([]);
    expect(failures(0).filter(({ ended }) => ended < killAt)).toEqual([]);
    expect(failures(0).length).toBeLessThanOrEqual(8);
    expect(clients.flatMap(({ violations }) => violations)).toEqual([]);
    for (const [n, { contiguous, contents }] of logs.entries()) {
      expect(contiguous).toBe(true);
      const ours = clients.filter((_, k) => k % roomCount === n);
      for (const client of ours) {
        const from = Math.min(...client.held.keys());
        expect([...client.held.values()]).toEqual(contents.slice(from - 1));
        // In the order in which it was said, each once.
        const own = `${clients.indexOf(client)}:`;
        expect(contents.filter((content) => content.startsWith(own))).toEqual(client.acked);
      }
    }
    const { contents } = await roomLog(db.sql, restRoom);
    expect(new Set(contents).size).toBe(contents.length - contents.filter((content) => content === '[joined]').length + 1);
    expect(rest.posted.filter((content) => !contents.includes(content))).toEqual([]);

    expect(main.output()).not.toContain(people[0]?.token.slice(0, 20));
    main.process.kill('SIGTERM');
    expect(await main.ended).toBe(0);
    await db.drop();
  }, 300_000);

  it('brings its own PostgreSQL, starts again what dies, and leaves nothing behind at Ctrl-C', async () => {
    const port = await freePorts(3);
    const metricsPort = await freePorts(2);
    const main = cluster(['--nodes', '2', '--port', String(port)], { METRICS_PORT: String(metricsPort) });
    const url = await serves(main);
    for (const each of [metricsPort, metricsPort + 1])
      expect((await callAnything(`http://127.0.0.1:${each}`, '/metrics')).status).toBe(200);
    const { token } = await registerUser(url, 'ann');
    const room = await createRoomByRest(url, token, 'lobby');
    const post = (content: string) => call(url, `/rooms/${room}/messages`, { token, body: { content } });
    expect((await post('before')).status).toBe(201);

    const first = await state();
    process.kill(first.nginx ?? 0, 'SIGKILL'); // its workers would go on with the port
    process.kill(first.nodes[0]?.pid ?? 0, 'SIGKILL');
    await eventually(async () => (await call(url, '/health/ready')).status === 200, 'Nginx to be back');
    await eventually(async () => (await call(String(first.nodes[0]?.url), '/health/ready')).status === 200, 'the node to be back', 30_000);
    const second = await state();
    expect(second.nginx).not.toBe(first.nginx);
    expect(second.nodes.map(({ pid }) => pid === undefined)).toEqual([false, false]);
    expect((await post('after')).status).toBe(201);

    const again = cluster(['--nodes', '2', '--port', String(port)]);
    expect(await again.ended).toBe(1);
    expect(again.output()).toMatch(/^A cluster is running from \S+ already, on http:\S+\. Stop it first, .*\n$/);

    const postgres = Number.parseInt(await readFile(join(folder, 'data/postgres/postmaster.pid'), 'utf8'), 10);
    main.process.kill('SIGINT');
    expect(await main.ended).toBe(0);
    // PostgreSQL has init for a parent, which takes a moment to notice.
    await eventually(
      () => ![second.nginx, ...second.nodes.map(({ pid }) => pid), postgres].some(isAlive),
      'all processes to be gone',
      2_000,
    );
    expect(await Promise.all([0, 1, 2].map((n) => isFree(port + n)))).toEqual([true, true, true]);
  }, 120_000);

  it.each([
    ['--roll without a cluster', ['--roll'], /^No cluster is running from \S+\. Start one: npm run cluster\n$/],
    ['a number of nodes that is none', ['--nodes', 'many'], /^error: .*must be a whole number from 1 to 32\n$/],
  ])('says in one line what is wrong: %s', async (_, args, line) => {
    const command = cluster(args);
    expect(await command.ended).toBe(1);
    expect(command.output()).toMatch(line);
  });

  it('says in one line that a port is taken, and how it gets another', async () => {
    const port = await freePorts(3);
    const holder = createServer().listen(port + 2);
    ongoing.push({ end: () => holder.close() });
    await once(holder, 'listening');
    const taken = new RegExp(`^Port ${port + 2} is in use by another program\\. .*(--port|METRICS_PORT)\\.\n$`);
    for (const [at, env] of [[port, {}] as const, [await freePorts(3), { METRICS_PORT: String(port + 1) }] as const]) {
      const command = cluster(['--nodes', '2', '--port', String(at)], env);
      expect(await command.ended).toBe(1);
      expect(command.output()).toMatch(taken);
    }
  });

  it('ends when its nodes can not start, and says why', async () => {
    const port = await freePorts(3);
    const command = cluster(['--nodes', '2', '--port', String(port)], {
      DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
      JWT_ACCESS_SECRET: testSecret,
    });
    expect(await command.ended).toBe(1);
    expect(command.output()).toMatch(/^node-\d \| Trunkline can't use the database at DATABASE_URL: connect ECONNREFUSED/m);
    expect(command.output()).toMatch(/^node-\d does not serve \(ended with exit code 1\); the lines above say why\.$/m);
  });

  it('says how to install Nginx where there is none', async () => {
    await expect(findNginx([folder])).rejects.toThrow('sudo apt-get install nginx-light');
  });
});

const count = (closes: readonly Closed[]): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const { code } of closes) counts[code] = (counts[code] ?? 0) + 1;
  return counts;
};

/** From the end of a connection to the next that was live. */
function recovery(clients: readonly SteadyClient[], from: number): string {
  const times = clients.flatMap(({ closes, liveAt }) =>
    closes.filter(({ at }) => at >= from).map(({ at }) => (liveAt.find((live) => live >= at) ?? Number.POSITIVE_INFINITY) - at),
  );
  const sorted = times.toSorted((a, b) => a - b);
  return `${sorted[Math.floor(sorted.length / 2)]} ms at the median, ${sorted.at(-1)} ms at most`;
}

function report(text: string): void {
  process.stderr.write(`\n${text}\n`);
}
