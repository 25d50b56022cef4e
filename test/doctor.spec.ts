/** The doctor as an operator runs it, and what it says of a real Nginx before a real node. */
import { findNginx } from '../scripts/cluster/nginx.js';
import { freePort } from '../scripts/cluster/node-process.js';
import { runCommand } from './support/command.js';
import { startNginx, type TestNginx } from './support/nginx.js';
import { startNode, type TestNode } from './support/node.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { loadConfig } from '../src/config.js';
import { runChecks } from '../src/doctor/check.js';
import { frontChecks } from '../src/doctor/front-checks.js';
import { openServer } from '../src/doctor/server.js';

const secret = 'q3bT9vX0zKf7mR2wY8sLc1nJ5hG4dPaE6uVoZiBt';
/** Where Nginx comes from in these tests: an address that nothing else of this machine has, so that trusting it trusts nobody else. */
const proxyAddress = '127.0.0.77';

let db: TestDatabase;
let node: TestNode;
let nginx: TestNginx | undefined;
beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url, { RATE_LIMITS: 'on', TRUSTED_PROXIES: proxyAddress });
});
afterEach(async () => {
  await nginx?.stop();
  nginx = undefined;
});
afterAll(async () => {
  await node.close();
  await db.drop();
});

const doctor = (args: readonly string[], env: Record<string, string> = {}) =>
  runCommand('doctor', args, { DATABASE_URL: db.url, JWT_ACCESS_SECRET: secret, ...env });

describe('npm run doctor', () => {
  it('examines a deployment that is well, one line a check, and exits with 0', async () => {
    const { code, stdout, stderr } = await doctor(['--url', `${node.url}/`, '--nodes', '3']);
    const lines = stdout.trimEnd().split('\n');
    expect(lines.filter((line) => !/^(ok {4}|warn {2})[^:]+: ./.test(line))).toEqual([
      expect.stringMatching(/^\d+ ok, \d+ to look at, 0 failed$/),
    ]);
    for (const name of ['settings', 'migrations', 'LISTEN round trip', 'clock', 'WebSocket upgrade', 'GET /health']) {
      expect(lines).toContainEqual(expect.stringMatching(new RegExp(`^ok {4}${name}: `)));
    }
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).not.toContain(secret);
  });

  it('goes on with the rest when the database is down and a setting is wrong, shows no secret, and exits with 1', async () => {
    const { code, stdout } = await doctor(['--url', node.url], {
      DATABASE_URL: 'postgres://somebody:8f4e3c1d77aa@127.0.0.1:1/chat',
      HEARTBEAT_MS: 'soon',
    });
    expect(code).toBe(1);
    expect(stdout).toMatch(/^fail {2}settings: HEARTBEAT_MS=soon: must be a whole number/m);
    expect(stdout).toMatch(/^fail {2}database: can't be used: .*ECONNREFUSED/m);
    expect(stdout).toMatch(/^ok {4}WebSocket upgrade: reaches a node/m);
    expect(stdout).not.toMatch(/8f4e3c1d77aa|migrations/);
    expect(stdout).not.toContain(secret);
  });

  it('without a database says where one would come from', async () => {
    const { code, stdout } = await runCommand('doctor', [], { JWT_ACCESS_SECRET: secret, DATA_DIR: '/nowhere' });
    expect([code, stdout]).toEqual([1, expect.stringMatching(/^fail {2}database: DATABASE_URL is not set .*npm start/m)]);
  });

  it('says how it is used', async () => {
    expect(await doctor(['--help'])).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Usage: .*--url/) });
    for (const args of [['--url', 'chat.example.org'], ['--nodes', 'many'], ['more'], ['--fix']]) {
      expect(await doctor(args)).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/^Usage: /) });
    }
  });
});

const upgrade = 'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";';
const host = 'proxy_set_header Host $http_host;';
const forwarded = 'proxy_set_header X-Forwarded-For $remote_addr;';

// Whoever works without Nginx does without these; the gate does not.
const hasNginx = await findNginx().then(
  () => true,
  () => false,
);
const describeWithNginx = hasNginx || process.env['CI'] === 'true' ? describe : describe.skip;
describeWithNginx('by way of Nginx', () => {
  /** What is not ok. */
  async function examine(url: string, env: Record<string, string> = { TRUSTED_PROXIES: proxyAddress }): Promise<string[]> {
    const config = loadConfig({ DATABASE_URL: db.url, JWT_ACCESS_SECRET: secret, ...env });
    const server = await openServer(config, undefined);
    const lines: string[] = [];
    await runChecks(
      frontChecks,
      { url, config, server },
      (name, { verdict, text }) => verdict !== 'ok' && lines.push(`${verdict} ${name}: ${text}`),
    );
    await server.close();
    return lines;
  }
  const behind = async (headers: string, more = '') => {
    const upstream = new URL(node.url).host;
    nginx = await startNginx(`${more} location / { proxy_pass http://${upstream}; proxy_bind ${proxyAddress}; ${headers} }`);
    return nginx.url;
  };

  it('finds all well where it passes on what the nodes need', async () => {
    expect(await examine(await behind(upgrade + host + forwarded))).toEqual([]);
  });

  // prettier-ignore
  it.each<[what: string, headers: string, more: string, lines: RegExp[]]>([
    ['does not pass the upgrade on', host + forwarded, '', [/^fail WebSocket upgrade: it is answered with 404 instead of 401: .*\$http_upgrade/, /^fail WebSocket frames: /]],
    ['does not pass the host on', upgrade + forwarded, '', [/^warn Host header: .*proxy_set_header Host \$http_host/]],
    ['passes on the address that a client makes up', upgrade + host + 'proxy_set_header X-Forwarded-For $http_x_forwarded_for;', '', [/^fail client addresses: a client can make up its address.*TRUSTED_PROXIES with the proxy’s address alone$/]],
    ['takes small requests alone', upgrade + host + forwarded, 'client_max_body_size 100k;', [/^warn size of requests: .*client_max_body_size of at least 1048576/]],
    ['shows the metrics to everybody', upgrade + host + forwarded, 'location = /metrics { return 200 "# HELP up Is it?\\n"; }', [/^fail GET \/metrics: /]],
  ])('finds out a proxy that %s', async (_, headers, more, lines) => {
    expect(await examine(await behind(headers, more))).toEqual(lines.map((line) => expect.stringMatching(line)));
  })

  it('finds out that the nodes don’t know whom to believe', async () => {
    expect(await examine(await behind(upgrade + host + forwarded), {})).toEqual([
      expect.stringMatching(/^warn client addresses: all clients count as one, the proxy.*set TRUSTED_PROXIES/),
    ]);
  });

  it('does not accuse the proxy from a machine that is trusted itself', async () => {
    const headers = upgrade + host + 'proxy_set_header X-Forwarded-For $http_x_forwarded_for;';
    expect(await examine(await behind(headers), { TRUSTED_PROXIES: `${proxyAddress},127.0.0.0/8` })).toEqual([
      expect.stringMatching(/^warn client addresses: .*run the doctor elsewhere$/),
    ]);
  });

  it('says that no node is reached, and once that nothing is', async () => {
    const gone = await freePort();
    nginx = await startNginx(`location / { proxy_pass http://127.0.0.1:${gone}; }`);
    expect((await examine(nginx.url))[0]).toMatch(/^fail GET \/health: the proxy answers 502: it reaches no node/);
    expect(await examine(`http://127.0.0.1:${gone}`)).toEqual([expect.stringMatching(/^fail address: can't be reached: .*ECONNREFUSED/)]);
  });
});
