/** Nothing that a client sends ends the process: no exception and no rejection is left to nobody, and no line of the log says that something failed. */
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { freePort } from '../scripts/cluster/node-process.js';
import { callAnything } from './support/any-call.js';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { createPerson, createRoom, signedToken, type Person } from './support/people.js';
import { startProcessNode, type ProcessNode } from './support/process-node.js';
import { frame, handshake, opcodes, RawSocket } from './support/raw-socket.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

describe('the process lives after', () => {
  let db: TestDatabase;
  let node: ProcessNode;
  let metricsPort: number;
  let ann: Person;
  let room: string;
  let neighbour: TestClient;

  beforeAll(async () => {
    db = await createTestDatabase();
    metricsPort = await freePort();
    node = await startProcessNode({ DATABASE_URL: db.url, METRICS_PORT: String(metricsPort), TRUSTED_PROXIES: '127.0.0.0/8' });
    ann = await createPerson(db.sql);
    room = await createRoom(db.sql, [ann]);
    neighbour = await TestClient.connect(node.url, ann.token);
    await neighbour.join(room);
  });
  afterAll(async () => {
    await neighbour.close();
    const exitCode = await node.stop();
    await db.drop();
    if (exitCode !== 0) throw new Error(`the node ended with ${exitCode}`);
  });

  /** On the connection that was there before: the process is the same. */
  async function expectAlive(): Promise<void> {
    const seq = await neighbour.send(room, 'still here');
    await neighbour.reaches(room, seq);
    const lines = node.output().split('\n');
    expect(lines.filter((line) => /"level":[56]0/.test(line) || /^\s+at /.test(line))).toEqual([]);
  }

  /** What is sent on a connection of its own, which is cut when the node has said something, or closed it. */
  async function send(bytes: string | Buffer, port?: number): Promise<string> {
    const raw = await RawSocket.connect(port === undefined ? node.url : `http://127.0.0.1:${port}`);
    raw.write(bytes);
    await eventually(() => raw.answer !== '' || raw.ended, `an answer to ${bytes.toString('latin1').slice(0, 200)}`);
    raw.cut();
    return raw.answer;
  }

  /** None where there is no /proc. */
  async function childrenOf(pid = 0): Promise<number[]> {
    const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
    return text.split(' ').flatMap((child) => Number(child) || []);
  }

  const origin = () => new URL(node.url).origin;
  const request = (line: string, headers: Record<string, string>, body = '') =>
    [line, 'Host: node', ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`), '', body].join('\r\n');
  const json = (path: string, body: string, headers: Record<string, string> = {}) =>
    request(
      `POST ${path} HTTP/1.1`,
      { 'Content-Type': 'application/json', 'Content-Length': String(Buffer.byteLength(body)), ...headers },
      body,
    );

  describe('a token that the right key signed, with what no node writes,', () => {
    const tokens: [name: string, claims: object, header?: object][] = [
      ...[9e15, 9e12, 1e308, -9e15, -1, 1.5, null].map((exp): [string, object] => [`exp ${exp}`, { exp }]),
      ['iat of the far future', { iat: 9e15 }],
      ['a name that is no text', { name: { toString: 1 } }],
      ['half a surrogate as name', { name: '\ud800' }],
      ['NUL in the name', { name: 'a\0b' }],
      ['a critical extension', {}, { crit: ['x'], x: 1 }],
      ['a sub that is an object', { sub: { a: 1 } }],
    ];
    it.each(tokens)('%s, is refused on every way in', async (_name, claims, header = {}) => {
      const token = signedToken(ann, claims, header);
      const withToken = { Authorization: `Bearer ${token}` };
      const withCookie = { Cookie: `trunkline_access=${token}`, Origin: origin(), Host: new URL(origin()).host };
      for (const answer of [
        await send(handshake('/ws', withToken)),
        await send(handshake(`/ws/${room}`, withToken)),
        await send(handshake(`/ws?token=${token}`)),
        await send(request('GET /auth/me HTTP/1.1', withToken)),
        await send(request('GET /auth/me HTTP/1.1', { Cookie: withCookie.Cookie })),
      ])
        expect(answer).toMatch(/^HTTP\/1\.1 401 /);
      await send(handshake('/ws', withCookie));
      const client = await TestClient.connect(node.url);
      expect((await client.command('auth', { token })).event).toBe('error');
      expect((await client.command('auth', { token: ann.token })).event).toBe('hello');
      expect((await client.command('refresh_token', { token })).event).toBe('error');
      await client.close();
      await expectAlive();
    });
  });

  it('any header', async () => {
    const texts = [
      '',
      ' ',
      ',',
      ';',
      '=',
      '%',
      '%E0%A4%A',
      '\xff\xfe',
      '[',
      'http://[',
      '__proto__=1',
      'a=b; a',
      '"',
      'x'.repeat(8_000),
      '-1',
      '1e999',
      'null',
    ];
    const names = [
      'Accept-Encoding',
      'Access-Control-Request-Headers',
      'Authorization',
      'Content-Encoding',
      'Content-Type',
      'Cookie',
      'Expect',
      'Forwarded',
      'Host',
      'If-None-Match',
      'Origin',
      'Range',
      'Sec-WebSocket-Extensions',
      'Sec-WebSocket-Protocol',
      'TE',
      'Trailer',
      'Transfer-Encoding',
      'Upgrade',
      'User-Agent',
      'X-Forwarded-For',
      'X-Forwarded-Host',
      'X-Forwarded-Proto',
      'traceparent',
    ];
    for (const name of names) {
      await Promise.all(
        texts.flatMap((text) =>
          [
            request('GET /auth/me HTTP/1.1', { [name]: text }),
            json('/auth/refresh', '{"refreshToken":"none"}', { [name]: text, Connection: 'close' }),
            request('OPTIONS /rooms HTTP/1.1', { [name]: text, 'Access-Control-Request-Method': 'PUT' }),
            handshake('/ws', { [name]: text }),
          ].map((bytes) => send(Buffer.from(bytes, 'latin1'))),
        ),
      );
    }
    for (const cookie of ['trunkline_access', 'trunkline_refresh'])
      for (const text of texts) {
        const headers = { Cookie: `${cookie}=${text}`, Origin: origin(), Host: new URL(origin()).host };
        await send(Buffer.from(request('GET /auth/me HTTP/1.1', headers), 'latin1'));
        await send(Buffer.from(json('/auth/refresh', '{}', headers), 'latin1'));
        await send(Buffer.from(handshake('/ws', headers), 'latin1'));
      }
    await expectAlive();
  }, 120_000);

  it('any address and method', async () => {
    const addresses = [
      '*',
      '/',
      '//',
      '/%',
      '/%00',
      '/%E0%A4%A',
      '/rooms/%',
      '/rooms/%00/messages',
      '/rooms?limit=1&limit=2',
      '/rooms?__proto__=1',
    ];
    addresses.push(
      '/rooms?q=%',
      '/rooms?q[]=1',
      '/rooms?q=%ED%A0%80',
      '/ws?token=%',
      '/ws/%',
      '/ws?',
      'http://[',
      'http://x:99999/ws',
      'ws://%/ws',
      '/docs/%2e%2e/x',
    );
    addresses.push(
      `/rooms/${room}/messages?cursor=1e999`,
      `/rooms/${room}/messages?cursor=9007199254740993`,
      `/rooms/${'x'.repeat(8_000)}`,
      '/\xff',
    );
    const headers = { Authorization: `Bearer ${ann.token}` };
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'CONNECT', 'M-SEARCH', 'QUERY'])
      await Promise.all(
        addresses.flatMap((address) =>
          [request(`${method} ${address} HTTP/1.1`, headers), handshake('', headers, `${method} ${address} HTTP/1.1`)].map((bytes) =>
            send(Buffer.from(bytes, 'latin1')),
          ),
        ),
      );
    await expectAlive();
  }, 120_000);

  it('any body', async () => {
    const deep = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`;
    const bodies = [
      'null',
      '7',
      '"',
      '[]',
      '{"__proto__":{}}',
      '{"constructor":{"prototype":{}}}',
      '{"username":{"length":1}}',
      '{"toString":1}',
      '\u2028',
    ];
    bodies.push(
      deep(500_000),
      deep(100_000),
      `{"username":${deep(200_000)}}`,
      `{"a":${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}}`,
      '1e999',
    );
    bodies.push(
      `"${'\\ud800'.repeat(1_000)}"`,
      '{"username":"\\ud800","password":"\\ud800xxxxxxx","email":"\\ud800"}',
      `{"content":"${'\\u0000'.repeat(9)}"}`,
    );
    const bob = await createPerson(db.sql); // logged out by some of it
    const paths = ['/auth/login', '/auth/register', '/auth/refresh', '/auth/password', '/rooms', '/auth/logout', `/rooms/${room}/messages`];
    for (const path of paths)
      for (const body of bodies) {
        const headers = { authorization: `Bearer ${bob.token}` };
        const { status } = await callAnything(node.url, path, { raw: body, headers });
        expect([path, body.slice(0, 40), status < 500]).toEqual([path, body.slice(0, 40), true]);
      }
    await expectAlive();
  }, 120_000);

  it('any frame', async () => {
    const deep = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`;
    const texts = [
      'null',
      '[]',
      '{"event":"__proto__"}',
      '{"event":"auth","data":null}',
      '{"event":"ping","data":null}',
      '{"event":"ping","id":1e999}',
    ];
    texts.push(deep(400_000), `{"event":"ping","data":${deep(400_000)}}`, `{"event":"send_message","data":{"room_id":${deep(100_000)}}}`);
    texts.push(
      `{"event":"join_rooms","data":{"rooms":${deep(100_000)}}}`,
      `{"event":"${'x'.repeat(1_000_000)}"}`,
      '{"event":"ping","__proto__":null}',
    );
    texts.push(`{"event":"send_message","data":{"room_id":"${room}","content":"${'\\ud800'.repeat(100)}"}}`);
    texts.push(`{"event":"send_message","data":{"room_id":"${room}","content":"${'x'.repeat(1_000_000)}"}}`);
    texts.push(`{"event":"join_room","data":{"room_id":"${room}","last_seen_seq":9007199254740991,"epoch":"${'\\ud800'.repeat(64)}"}}`);
    for (const token of [undefined, ann.token]) {
      const client = await RawSocket.connect(node.url);
      client.write(handshake(token === undefined ? '/ws' : `/ws?token=${token}`));
      for (const text of texts) client.write(frame(opcodes.text, text));
      client.write(frame(opcodes.text, '{"event":"ping","id":"last"}'));
      await client.text('"last"');
      client.cut();
    }
    await expectAlive();
  });

  describe('any moment to be gone:', () => {
    it('after part of a request, or right after it', async () => {
      const login = json('/auth/login', '{"username":"nobody","password":"nothing at all"}');
      const message = json(`/rooms/${room}/messages`, '{"content":"hello"}', { Authorization: `Bearer ${ann.token}` });
      const whole = [
        login,
        message,
        handshake('/ws'),
        handshake(`/ws/${room}?token=${ann.token}`),
        handshake('/elsewhere'),
        'nonsense\r\n\r\n',
      ];
      const port = Number(new URL(node.url).port);
      await Promise.all(
        whole.flatMap((text) =>
          Array.from({ length: 40 }, (_, n) => {
            const socket = connect({ port, host: '127.0.0.1' });
            return new Promise<void>((gone) => {
              socket.on('error', () => undefined).on('close', () => gone());
              socket.write(text.slice(0, Math.ceil((text.length * (n + 1)) / 40)), () => {
                if (n % 3 === 0) socket.resetAndDestroy();
                else if (n % 3 === 1) socket.destroy();
                else setImmediate(() => socket.resetAndDestroy());
              });
            });
          }),
        ),
      );
      await expectAlive();
    });

    it('in the midst of a flood of commands, with the answers not taken', async () => {
      const commands = Array.from({ length: 300 }, (_, n) =>
        frame(
          opcodes.text,
          JSON.stringify({
            event: n % 2 === 0 ? 'send_message' : 'join_room',
            id: n,
            data: { room_id: room, content: 'x', last_seen_seq: 0 },
          }),
        ),
      );
      for (let n = 0; n < 10; n++) {
        const raw = await RawSocket.open(node.url, ann.token);
        raw.write(Buffer.concat([...commands, frame(opcodes.ping, 'x')]));
        if (n % 2 === 0) await eventually(() => raw.frames.length > n);
        raw.socket.resetAndDestroy();
      }
      await expectAlive();
    });

    it('the process that hashes passwords, with logins on their way', async () => {
      const login = () => callAnything(node.url, '/auth/login', { body: { username: 'nobody', password: 'nothing at all' } });
      await login();
      const answers = Array.from({ length: 20 }, login);
      for (const pid of await childrenOf(node.process.pid)) process.kill(pid, 'SIGKILL');
      for (const { status } of await Promise.all(answers)) expect([401, 503]).toContain(status);
      await eventually(async () => (await login()).status === 401, 'the next process');
      await expectAlive();
    });
  });

  it('anything on the port of the metrics', async () => {
    for (const text of [
      'nonsense\r\n\r\n',
      request('GET //[ HTTP/1.1', {}),
      request('GET /metrics?% HTTP/1.1', {}),
      handshake('/metrics'),
      request('CONNECT x HTTP/1.1', {}),
    ])
      await send(text, metricsPort);
    await expectAlive();
  });
});

it('a bug of ours that nobody caught is logged, and ends the process as a stop does, with 1: clients are sent away, accepted sends are acked', async () => {
  const db = await createTestDatabase();
  const bug =
    'process.on("SIGUSR2", () => { throw new Error("planted") }); process.on("SIGHUP", () => { Promise.reject(new Error("planted")) })';
  for (const signal of ['SIGUSR2', 'SIGHUP'] as const) {
    const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(bug)}`;
    const node = await startProcessNode({ DATABASE_URL: db.url, NODE_OPTIONS });
    const ann = await createPerson(db.sql);
    const room = await createRoom(db.sql, [ann]);
    const client = await TestClient.connect(node.url, ann.token);
    await client.join(room);
    const holder = await db.sql.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM rooms WHERE id = $1 FOR UPDATE', [room]);
    const sent = client.send(room, 'accepted before');
    expect((await client.command('ping', {})).event).toBe('pong'); // so is what came before it
    node.process.kill(signal);
    await client.frame('reconnect');
    await holder.query('COMMIT');
    holder.release();
    expect(await sent).toBe(1);
    await eventually(() => client.closed?.code === 1012, 'the close');
    expect(await node.stop('SIGTERM')).toBe(1);
    const fatal = node
      .output()
      .split('\n')
      .filter((line) => line.includes('"level":60'));
    expect(fatal).toHaveLength(1);
    expect(JSON.parse(fatal[0] ?? '')).toMatchObject({
      msg: 'uncaught exception: this is a bug; stopping',
      err: { message: 'planted', stack: expect.any(String) },
    });
  }
  await db.drop();
}, 60_000);
