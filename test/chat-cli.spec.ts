import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { createApp } from '../src/app.js';
import { loadConfig } from '../src/config.js';
import { eventually } from './support/eventually.js';
import { startNode, testSecret, type TestNode } from './support/node.js';
import { freePort } from '../scripts/cluster/node-process.js';
import { call } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

const script = fileURLToPath(new URL('../scripts/chat.ts', import.meta.url));
const password = 'a password of the terminal';

/** The chat as a process, by pipes. */
class Chat {
  out = '';
  err = '';
  readonly exit: Promise<number | null>;
  private readonly process: ChildProcessWithoutNullStreams;

  constructor(user: string, room: string, url: string, env: Record<string, string> = { TRUNKLINE_PASSWORD: password }) {
    const args = ['--import', 'tsx', script, '--user', user, '--room', room, '--url', url];
    const { TRUNKLINE_PASSWORD: _, ...inherited } = process.env;
    this.process = spawn(process.execPath, args, { env: { ...inherited, ...env } });
    this.process.stdout.on('data', (chunk: Buffer) => (this.out += chunk.toString()));
    this.process.stderr.on('data', (chunk: Buffer) => (this.err += chunk.toString()));
    this.exit = once(this.process, 'close').then(([code]) => code as number | null);
  }

  type(...lines: string[]): void {
    this.process.stdin.write(lines.map((line) => `${line}\n`).join(''));
  }

  /** The input ends, as with Ctrl-D. */
  end(): Promise<number | null> {
    this.process.stdin.end();
    return this.exit;
  }

  signal(name: 'SIGINT'): Promise<number | null> {
    this.process.kill(name);
    return this.exit;
  }

  /** What was said, without the times. */
  said(): string[] {
    return this.out.split('\n').flatMap((line) => /^\d\d:\d\d (\S+: .*)$/.exec(line)?.[1] ?? []);
  }

  shows(line: string): Promise<unknown> {
    return eventually(() => this.said().includes(line), `${line} to be shown; so far: ${this.out}${this.err}`, 20_000);
  }
}

describe('npm run chat', () => {
  let db: TestDatabase;
  let nodes: [TestNode, TestNode];
  const chats: Chat[] = [];

  function chat(...args: ConstructorParameters<typeof Chat>): Chat {
    const opened = new Chat(...args);
    chats.push(opened);
    return opened;
  }

  beforeAll(async () => {
    db = await createTestDatabase();
    nodes = [await startNode(db.url), await startNode(db.url)];
    await call(nodes[0].url, '/auth/register', { body: { username: 'una', email: 'una@test.local', password } });
  });
  afterAll(async () => {
    await Promise.all(chats.map((open) => open.end()));
    await Promise.all(nodes.map((node) => node.close()));
    await db.drop();
  });

  it('lets two people talk to each other by way of two nodes', async () => {
    const ann = chat('ann', 'lobby', nodes[0].url);
    ann.type('is anybody there?');
    await ann.shows('ann: is anybody there?');
    const bob = chat('bob', 'lobby', nodes[1].url);
    await bob.shows('ann: is anybody there?'); // history
    bob.type('yes, me');
    await ann.shows('bob: yes, me');
    ann.type('good');
    await bob.shows('ann: good');

    expect(ann.err).toContain('Welcome, ann');
    expect(ann.out).toMatch(/^\d\d:\d\d \* bob joined$/m);
    expect(await ann.end()).toBe(0);
    expect(await bob.signal('SIGINT')).toBe(0);
    const { rows } = await db.sql.query<{ open: string }>(
      "SELECT count(*) AS open FROM sessions JOIN users ON users.id = user_id WHERE username IN ('ann', 'bob') AND ended_at IS NULL",
    );
    expect(rows[0]?.open).toBe('0');
  }, 60_000);

  it('sends what stands in a pipe, in its order, and ends when the last line is stored', async () => {
    const lines = Array.from({ length: 250 }, (_, n) => `line ${n}`);
    const robot = chat('robot', 'pipes', nodes[0].url);
    robot.type(...lines);
    expect(await robot.end()).toBe(0);
    const { rows } = await db.sql.query<{ content: string }>("SELECT content FROM messages WHERE username = 'robot' ORDER BY seq");
    expect(rows.map(({ content }) => content)).toEqual(lines);
  }, 60_000);

  it('survives the end of its node, misses nothing of what was said meanwhile, and sends what was typed meanwhile once', async () => {
    const port = await freePort();
    const first = await startNodeAt(port, db.url);
    const eve = chat('eve', 'ferry', `http://127.0.0.1:${port}`);
    const dan = chat('dan', 'ferry', nodes[1].url);
    eve.type('before');
    await dan.shows('eve: before');

    await first.close();
    await eventually(() => eve.err.includes('connection was lost'), 'the loss to be noticed');
    eve.type('typed without a connection');
    const said = Array.from({ length: 150 }, (_, n) => `meanwhile ${n}`);
    dan.type(...said);
    await dan.shows('dan: meanwhile 149');

    const second = await startNodeAt(port, db.url);
    await dan.shows('eve: typed without a connection');
    await eve.shows('eve: typed without a connection');
    expect(eve.said()).toEqual(['eve: before', ...said.map((text) => `dan: ${text}`), 'eve: typed without a connection']);
    expect(dan.said().filter((line) => line === 'eve: typed without a connection')).toHaveLength(1);
    expect(await eve.end()).toBe(0);
    expect(await dan.end()).toBe(0);
    await second.close();
  }, 90_000);

  it('outlives its access token', async () => {
    const node = await startNode(db.url, { ACCESS_TOKEN_TTL_S: '4' });
    const kim = chat('kim', 'tokens', node.url);
    kim.type('with the first token');
    await kim.shows('kim: with the first token');
    await eventually(
      async () => {
        const { rows } = await db.sql.query(
          "SELECT FROM sessions JOIN users ON users.id = user_id WHERE username = 'kim' AND refreshed_at > sessions.created_at + interval '4.5 s'",
        );
        return rows.length > 0;
      },
      'the first token to be over and a second refresh',
      20_000,
    );
    kim.type('with a later one');
    await kim.shows('kim: with a later one');
    expect(kim.err).not.toContain('lost');
    expect(await kim.end()).toBe(0);
    await node.close();
  }, 60_000);

  it('obeys nothing that stands in a message', async () => {
    const mallory = chat('mallory', 'trap', nodes[0].url);
    mallory.type('\x1b]0;owned\x07\x1b[2Jred \x1b[31malert\x9b2J \u202eesrever');
    const victim = chat('victim', 'trap', nodes[1].url);
    await victim.shows('mallory: ]0;owned[2Jred [31malert2J esrever');
    // oxlint-disable-next-line no-control-regex -- none may be left
    expect(victim.out).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  }, 60_000);

  it.each<[string, () => ConstructorParameters<typeof Chat> | Promise<ConstructorParameters<typeof Chat>>, string]>([
    ['a wrong password', () => ['una', 'lobby', nodes[0].url, { TRUNKLINE_PASSWORD: 'another password' }], 'Wrong password for una'],
    ['no password', () => ['ann', 'lobby', nodes[0].url, {}], 'set TRUNKLINE_PASSWORD'],
    ['a short password', () => ['zoe', 'lobby', nodes[0].url, { TRUNKLINE_PASSWORD: 'short' }], 'password: must have'],
    [
      'a server that is not there',
      async () => ['ann', 'lobby', `http://127.0.0.1:${await freePort()}`],
      "can't be reached: nothing listens there.",
    ],
    ['an address that is none', () => ['ann', 'lobby', 'localhost'], '--url localhost: must be like'],
  ])(
    'says in one line what is wrong: %s',
    async (_what, args, line) => {
      const failed = chat(...(await args()));
      expect(await failed.exit).toBe(1);
      expect(failed.err).toContain(line);
      expect(failed.err.trim().split('\n')).toHaveLength(1);
    },
    60_000,
  );
});

/** A node that comes back where it was. */
async function startNodeAt(port: number, databaseUrl: string): Promise<{ close(): Promise<void> }> {
  const config = loadConfig({ DATABASE_URL: databaseUrl, JWT_ACCESS_SECRET: testSecret, DRAIN_MS: '0' });
  const app = await createApp(config, pino({ level: 'silent' }));
  await app.listen(port, '127.0.0.1');
  return app;
}
