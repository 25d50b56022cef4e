/** Whatever bytes come to the port: each ends as RFC 6455 or our contract says, the process lives, and nobody else notices. */
import type { Server } from 'node:http';
import { freePort } from '../scripts/cluster/node-process.js';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { scrape } from './support/metrics.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, type Person } from './support/people.js';
import { startProcessNode, type ProcessNode } from './support/process-node.js';
import { frame, handshake, length64, opcodes, RawSocket } from './support/raw-socket.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

const { continuation, text, binary, close, ping, pong } = opcodes;
const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(' ', ''), 'hex');
const code = (number: number, reason: Buffer | string = ''): Buffer =>
  Buffer.concat([Buffer.from([number >> 8, number & 255]), Buffer.from(reason as string)]);
const command = JSON.stringify({ event: 'ping', id: 'mine' });
const isPong = '{"event":"pong"';

describe('the port', () => {
  let db: TestDatabase;
  let node: ProcessNode;
  let metricsPort: number;
  let ann: Person;
  let room: string;
  let neighbour: TestClient;

  beforeAll(async () => {
    db = await createTestDatabase();
    metricsPort = await freePort();
    // An exception or rejection that nobody caught would end it.
    node = await startProcessNode({ DATABASE_URL: db.url, METRICS_PORT: String(metricsPort) });
    ann = await createPerson(db.sql);
    room = await createRoom(db.sql, [ann]);
    neighbour = await TestClient.connect(node.url, ann.token);
    await neighbour.join(room);
  });
  afterEach(async () => {
    const seq = await neighbour.send(room, 'still here');
    await neighbour.reaches(room, seq);
    await eventually(async () => (await scrape(metricsPort)).value('trunkline_connections') === 1, 'the node to be rid of it', 4_000);
  });
  afterAll(async () => {
    await neighbour.close();
    const problems = [
      ...neighbour.violations,
      ...node
        .output()
        .split('\n')
        .filter((line) => /"level":[56]0/.test(line)),
    ];
    const exitCode = await node.stop();
    await db.drop();
    if (exitCode !== 0 || problems.length > 0) throw new Error(`the node ended with ${exitCode}:\n${problems.join('\n')}`);
  });

  describe('closes the socket', () => {
    const cases: [name: string, sent: Buffer[], closeCode: number][] = [
      ['after a frame without a mask', [frame(text, command, { masked: false })], 1002],
      ['after a ping without a mask', [frame(ping, '', { masked: false })], 1002],
      ...[1, 2, 4].map((rsv): [string, Buffer[], number] => [`after RSV bits ${rsv}`, [frame(text, command, { rsv })], 1002]),
      ['after an RSV bit of a control frame', [frame(ping, '', { rsv: 4 })], 1002],
      ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode): [string, Buffer[], number] => [
        `after the reserved opcode ${opcode}`,
        [frame(opcode, 'x')],
        1002,
      ]),
      ['after a ping in fragments', [frame(ping, 'a', { fin: false }), frame(continuation, 'b')], 1002],
      ['after a close in fragments', [frame(close, code(1000), { fin: false })], 1002],
      ['after a ping of 126 bytes', [frame(ping, 'x'.repeat(126))], 1002],
      ['after a close of 126 bytes', [frame(close, code(1000, 'x'.repeat(124)))], 1002],
      ['after a pong with a length of 64 bits', [frame(pong, '', { length: length64(0n) })], 1002],
      ['after a continuation of nothing', [frame(continuation, command)], 1002],
      ['after a continuation of what was whole', [frame(text, command), frame(continuation, '')], 1002],
      ['after a text within a fragmented message', [frame(text, '{', { fin: false }), frame(text, '}')], 1002],
      ['after binary data within a fragmented message', [frame(text, '{', { fin: false }), frame(binary, '}')], 1002],
      ['after a byte that is in no UTF-8', [frame(text, bytes('7b ff 7d'))], 1007],
      ['after bad UTF-8 split over frames', [frame(text, bytes('e6 bc'), { fin: false }), frame(continuation, bytes('28'))], 1007],
      ['after half a code point', [frame(text, bytes('f0 9f 92'))], 1007],
      ['after half a code point at the end of fragments', [frame(text, 'x', { fin: false }), frame(continuation, bytes('e6 bc'))], 1007],
      ['after a surrogate in UTF-8', [frame(text, bytes('ed a0 80'))], 1007],
      ['after an overlong code point', [frame(text, bytes('c0 af'))], 1007],
      ['after a code point above U+10FFFF', [frame(text, bytes('f4 90 80 80'))], 1007],
      ['after a close of one byte', [frame(close, 'x')], 1002],
      ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535].map((illegal): [string, Buffer[], number] => [
        `after the close code ${illegal}`,
        [frame(close, code(illegal))],
        1002,
      ]),
      ['after a close with a reason that is no UTF-8', [frame(close, code(1000, bytes('c3 28')))], 1007],
      ['after a length of 1 MiB and one byte', [frame(text, 'x', { length: length64(1_048_577n) })], 1009],
      ['after a length of 2^40', [frame(text, 'x', { length: length64(1n << 40n) })], 1009],
      ['after a length of 2^53', [frame(text, 'x', { length: length64(1n << 53n) })], 1009],
      ['after a length below zero', [frame(text, 'x', { length: length64((1n << 64n) - 1n) })], 1009],
      ['after fragments of more than 1 MiB', Array.from({ length: 17 }, () => Buffer.alloc(65_536)).map(nth), 1009],
      ['after 1,025 fragments', Array.from({ length: 1_025 }, () => Buffer.from('x')).map(nth), 1008],
      ['after 1,025 fragments of nothing', Array.from({ length: 1_025 }, () => Buffer.alloc(0)).map(nth), 1008],
      ['after a request for another upgrade', [Buffer.from(handshake('/ws'))], 1002],
      ['after a request of REST', [Buffer.from('POST /rooms HTTP/1.1\r\nHost: x\r\n\r\n')], 1002],
      ['after zeroes', [Buffer.alloc(64)], 1002],
    ];
    function nth(payload: Buffer, n: number): Buffer {
      return frame(n === 0 ? text : continuation, payload, { fin: false });
    }

    it.each(cases)('%s', async (_name, sent, closeCode) => {
      const raw = await RawSocket.open(node.url, ann.token);
      raw.write(Buffer.concat(sent));
      await raw.end();
      expect(raw.closeCode).toBe(closeCode);
      expect(raw.frames.at(-1)?.opcode).toBe(close);
    });

    it('when it says goodbye, with its own code', async () => {
      for (const [payload, answered] of [['', 1005] as const, [code(1000), 1000] as const, [code(4999, 'enough'), 4999] as const]) {
        const raw = await RawSocket.open(node.url, ann.token);
        raw.write(Buffer.concat([frame(close, payload), frame(text, command)]));
        await raw.end();
        expect([raw.closeCode, raw.texts().some((one) => one.includes(isPong))]).toEqual([answered, false]);
      }
    });

    it('whose peer ends in the midst of its handshake, of a frame, or of a message', async () => {
      const cut = [
        frame(text, 'x', { length: length64(1_000_000n) }),
        frame(text, command).subarray(0, 7),
        frame(text, '{', { fin: false }),
      ];
      for (const [n, begun] of [handshake('/ws').slice(0, -2), ...cut].entries()) {
        const raw = n === 0 ? await RawSocket.connect(node.url) : await RawSocket.open(node.url, ann.token);
        raw.write(begun);
        raw.socket.end();
        await raw.end();
        expect(raw.texts().length).toBe(n === 0 ? 0 : 1);
      }
    });

    it('whose peer takes no part in that', async () => {
      const raw = await RawSocket.open(node.url, ann.token, { allowHalfOpen: true });
      raw.write(frame(3));
      await raw.end();
      expect(raw.closeCode).toBe(1002);
      await eventually(async () => (await scrape(metricsPort)).value('trunkline_connections') === 1, 'the cut', 4_000);
      raw.cut();
    });
  });

  describe('takes', () => {
    const whole: [name: string, sent: Buffer[]][] = [
      ['a code point split over frames', [frame(text, command.slice(0, -1), { fin: false }), frame(continuation, '}')]],
      [
        'a ping between fragments',
        [frame(text, command.slice(0, 9), { fin: false }), frame(ping, 'a'), frame(continuation, command.slice(9))],
      ],
      ['fragments of nothing', [frame(text, '', { fin: false }), frame(continuation, command, { fin: false }), frame(continuation, '')]],
      ['a length that is longer than it need be', [frame(text, command, { length: length64(BigInt(command.length)) })]],
      ['a pong that nobody asked for', [frame(pong, 'x'), frame(text, command)]],
      [
        'the text of a frame in the smallest fragments',
        Array.from(command, (one, n) => frame(n === 0 ? text : continuation, one, { fin: n === command.length - 1 })),
      ],
      ['a command after a bad one', [frame(text, 'nonsense'), frame(binary, 'x'), frame(text, command)]],
    ];
    it.each(whole)('%s', async (_name, sent) => {
      for (const slowly of [false, true]) {
        const raw = await RawSocket.open(node.url, ann.token);
        if (slowly) await raw.writeSlowly(Buffer.concat(sent));
        else raw.write(Buffer.concat(sent));
        expect(await raw.text(isPong)).toContain('"id":"mine"');
        raw.write(frame(close, code(1000)));
        await raw.end();
        expect(raw.closeCode).toBe(1000);
      }
    });

    it('a code point of which each byte is in a frame of its own', async () => {
      const raw = await RawSocket.open(node.url, ann.token);
      const content = Buffer.from(JSON.stringify({ event: 'send_message', data: { room_id: room, content: '漢𝒳é' } }));
      raw.write(
        Buffer.concat(
          Array.from(content, (byte, n) => frame(n === 0 ? text : continuation, Buffer.from([byte]), { fin: n === content.length - 1 })),
        ),
      );
      await eventually(() => neighbour.messages.some((message) => message.content === '漢𝒳é'));
      raw.cut();
    });

    it('a handshake byte by byte, and frames that are in one packet with it', async () => {
      const slow = await RawSocket.connect(node.url);
      await slow.writeSlowly(handshake(`/ws?token=${ann.token}`));
      await slow.text('"hello"');
      const quick = await RawSocket.connect(node.url);
      const auth = JSON.stringify({ event: 'auth', data: { token: ann.token } });
      quick.write(Buffer.concat([Buffer.from(handshake('/ws')), frame(text, auth), frame(text, command)]));
      await quick.text(isPong);
      expect(quick.texts().map((one) => (JSON.parse(one) as { event: string }).event)).toEqual(['hello', 'pong']);
      const wrong = await RawSocket.connect(node.url);
      wrong.write(`${handshake('/ws')}GET / HTTP/1.1\r\n\r\n`);
      await wrong.end();
      expect(wrong.closeCode).toBe(1002);
      slow.cut();
      quick.cut();
    });
  });

  describe('refuses', () => {
    const cases: [name: string, request: string, status: number][] = [
      ['another version', handshake('/ws', { 'Sec-WebSocket-Version': '12' }), 400],
      ['no version', handshake('/ws', { 'Sec-WebSocket-Version': undefined }), 400],
      ['no key', handshake('/ws', { 'Sec-WebSocket-Key': undefined }), 400],
      ['a key of 15 bytes', handshake('/ws', { 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25j' }), 400],
      ['a key that is no base64', handshake('/ws', { 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25j!!==' }), 400],
      ['two keys', handshake('/ws', { 'X-More': 'x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' }), 400],
      ['two versions', handshake('/ws', { 'Sec-WebSocket-Version': '13, 8' }), 400],
      ['another protocol', handshake('/ws', { Upgrade: 'h2c' }), 400],
      ['another protocol beside ours', handshake('/ws', { Upgrade: 'websocket, h2c' }), 400],
      ['what asks for no upgrade', handshake('/ws', { Upgrade: undefined, Connection: 'close' }), 404],
      ['what asks for an upgrade without a connection for it', handshake('/ws', { Connection: 'close' }), 404],
      ['a bad list of subprotocols', handshake('/ws', { 'Sec-WebSocket-Protocol': ',,' }), 400],
      ['POST', handshake('/ws', {}, 'POST /ws HTTP/1.1'), 405],
      ['a body', `${handshake('/ws', { 'Content-Length': '5' })}hello`, 400],
      ['another path', handshake('/elsewhere'), 404],
      ['the path in other letters', handshake('/WS'), 404],
      ['the path in escapes', handshake('/%77s'), 404],
      ['the path and more behind it', handshake('/ws/'), 404],
      ['a room that is none', handshake('/ws/lobby'), 404],
      ['an address that is none', handshake('', {}, 'GET http://[ HTTP/1.1'), 404],
      ['a bad token', handshake('/ws?token=nonsense'), 401],
      ['HTTP/1.0', handshake('/ws', {}, 'GET /ws HTTP/1.0'), 400],
      ['HTTP/1.2', handshake('/ws', {}, 'GET /ws HTTP/1.2'), 400],
      ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400],
      ['a header without a colon', handshake('/ws').replace('Host: ', 'Host '), 400],
      ['a blank before a colon', handshake('/ws').replace('Upgrade:', 'Upgrade :'), 400],
      ['NUL in a header', handshake('/ws', { 'X-More': 'a\0b' }), 400],
      ['half a line break in a header', handshake('/ws', { 'X-More': 'a\rX-Forged: b' }), 400],
      ['the other half', handshake('/ws', { 'X-More': 'a\nX-Forged: b' }), 400],
      ['a header over two lines', handshake('/ws', { 'X-More': 'a\r\n b' }), 400],
      ['no host', handshake('/ws', { Host: undefined }), 400],
      ['a header of 20 KiB', handshake('/ws', { 'X-More': 'x'.repeat(20_480) }), 431],
      ['4,000 headers', handshake('/ws', Object.fromEntries(Array.from({ length: 4_000 }, (_, n) => [`X-${n}`, 'x']))), 431],
      ['an address of 20 KiB', handshake(`/ws?${'x'.repeat(20_480)}`), 431],
      ['what is no HTTP', 'nonsense\r\n\r\n', 400],
      ['TLS', bytes('16 03 01 00 05 01 00 00 01 00 0d 0a 0d 0a').toString('latin1'), 400],
      [
        'a request with two lengths',
        'POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
        400,
      ],
      ['a length that is none', 'POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n', 400],
      ['a chunk that is none', 'POST /auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n', 400],
    ];
    it.each(cases)('%s', async (_name, request, status) => {
      const raw = await RawSocket.connect(node.url);
      raw.write(request);
      await raw.end();
      expect(raw.status).toBe(status);
      const [, body = ''] = raw.answer.split('\r\n\r\n');
      if (raw.answer.includes('problem+json')) expect(JSON.parse(body)).toMatchObject({ status });
    });

    it('an offer of another protocol to REST, by answering in its own, where Node lets it', async () => {
      const login = JSON.stringify({ username: 'nobody-at-all', password: 'a password of nobody' });
      const headers = { Connection: 'close, Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABkAAQCAAAAAAIAAAAA' };
      const more = { ...headers, 'Content-Type': 'application/json', 'Content-Length': String(login.length) };
      const raw = await RawSocket.connect(node.url);
      raw.write(handshake('', more, 'POST /auth/login HTTP/1.1') + login);
      await raw.end(10_000);
      const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
      expect(raw.status).toBe(major > 24 || (major === 24 && minor >= 9) || (major === 22 && minor >= 21) ? 401 : 404);
    });

    it('a version that it does not speak, with those that it does', async () => {
      const raw = await RawSocket.connect(node.url);
      raw.write(handshake('/ws', { 'Sec-WebSocket-Version': '99' }));
      await raw.end();
      expect(raw.answer).toMatch(/^sec-websocket-version: 13\b/im);
    });

    it('what is no HTTP, with a problem document', async () => {
      const raw = await RawSocket.connect(node.url);
      raw.write('nonsense\r\n\r\n');
      await raw.end();
      expect(raw.answer).toContain('content-type: application/problem+json');
      expect(JSON.parse(raw.answer.split('\r\n\r\n')[1] ?? '')).toMatchObject({
        status: 400,
        code: 'invalid_payload',
        request_id: expect.any(String),
      });
    });
  });

  describe('gives each socket its turn', () => {
    it('where one asks for much at once', async () => {
      const [flooding, other] = [await RawSocket.open(node.url, ann.token), await TestClient.connect(node.url, ann.token)];
      const last = frame(text, JSON.stringify({ event: 'send_message', data: { room_id: room, content: 'the last of many' } }));
      node.process.kill('SIGSTOP'); // so that both are there when it looks, this one first
      flooding.write(Buffer.concat([...Array.from({ length: 1_500 }, () => frame(text, '{"event":"ping"}')), last]));
      await eventually(() => flooding.socket.writableLength === 0);
      const sent = other.send(room, 'the first of few');
      await eventually(() => other.socket.bufferedAmount === 0);
      node.process.kill('SIGCONT');
      const seq = await sent;
      const lastOfMany = await eventually(() => neighbour.messages.find(({ content }) => content === 'the last of many'));
      expect(seq).toBeLessThan(lastOfMany.seq);
      flooding.cut();
      await other.close();
    });

    it('where one pings without end: the last ping of a turn is answered for all of them', async () => {
      const flooding = await RawSocket.open(node.url, ann.token);
      flooding.write(Buffer.concat(Array.from({ length: 40_000 }, (_, n) => frame(ping, String(n)))));
      const pongs = () => flooding.frames.filter(({ opcode }) => opcode === pong).map(({ payload }) => Number(payload.toString()));
      await eventually(() => pongs().at(-1) === 39_999, 'the last pong', 20_000);
      expect(pongs().length).toBeLessThan(20_000);
      expect(pongs()).toEqual(pongs().toSorted((a, b) => a - b));
      flooding.cut();
    });

    it('where one sends pongs without end that nobody asked for: what comes behind them is read', async () => {
      const flooding = await RawSocket.open(node.url, ann.token);
      flooding.write(Buffer.concat([...Array.from({ length: 20_000 }, () => frame(pong, 'x')), frame(text, command)]));
      expect(await flooding.text(isPong)).toContain('"id":"mine"');
      flooding.cut();
    });
  });
});

describe('a node in this process', () => {
  let db: TestDatabase;
  let node: TestNode;
  let server: Server;

  beforeAll(async () => {
    db = await createTestDatabase();
    node = await startNode(db.url);
    server = node.app.getHttpServer();
  });
  afterAll(async () => {
    await node.close();
    await db.drop();
  });

  it('closes a socket whose frame comes in more than 8,192 pieces', async () => {
    const ann = await createPerson(db.sql);
    const raw = await RawSocket.open(node.url, ann.token);
    await raw.writeSlowly(frame(text, 'x'.repeat(20_000)));
    await raw.end();
    expect(raw.closeCode).toBe(1008);
  });

  it('answers a connection without a whole request with 408, and cuts it: after 10 s for its header, after 30 s for its body', async () => {
    expect(server.requestTimeout).toBe(30_000);
    server.requestTimeout = 11_000;
    const [silent, begun, dripping, slowBody] = await Promise.all(
      Array.from({ length: 4 }, () => RawSocket.connect(node.url, { allowHalfOpen: true })),
    );
    begun?.write('GET /ws HTTP/1.1\r\nHost: x\r\n');
    dripping?.write('GET /ws HTTP/1.1\r\n');
    slowBody?.write('POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{');
    const drops = setInterval(() => {
      dripping?.write('X-More: x\r\n');
      slowBody?.write(' ');
    }, 500);
    try {
      for (const raw of [silent, begun, dripping, slowBody]) {
        await raw?.end(16_000);
        expect(raw?.answer).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n/);
        expect(raw?.answer).toContain('application/problem+json');
      }
      const open = () => new Promise<number>((counted) => server.getConnections((_, connections) => counted(connections)));
      await eventually(async () => (await open()) === 0, 'all to be cut');
    } finally {
      clearInterval(drops);
      for (const raw of [silent, begun, dripping, slowBody]) raw?.cut();
    }
  });
});
