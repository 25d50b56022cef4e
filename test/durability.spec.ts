import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import { rawSocketOf } from '../src/realtime/raw-socket.js';
import { TestClient } from './support/client.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, roomLog, type Person } from './support/people.js';
import { startProxy, type Proxy } from './support/proxy.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

let db: TestDatabase;
let proxy: Proxy;
let nodes: TestNode[];
let ann: Person;
let bob: Person;
/** Ann's socket is on the node that reaches PostgreSQL through the proxy, Bob's on the other. */
let sockets: [TestClient, TestClient];

beforeAll(async () => {
  db = await createTestDatabase();
  proxy = await startProxy(db.url);
  nodes = await Promise.all([startNode(proxy.through(db.url)), startNode(db.url)]);
  [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
  sockets = [await TestClient.connect(nodes[0]?.url ?? '', ann.token), await TestClient.connect(nodes[1]?.url ?? '', bob.token)];
});
afterAll(async () => {
  await Promise.all(sockets.map((socket) => socket.close()));
  await Promise.all(nodes.map((node) => node.close()));
  await proxy.close();
  await db.drop();
});

/** A room with both in it (last seq 1), which both sockets have joined. */
async function openRoom(): Promise<string> {
  const room = await createRoom(db.sql, [ann, bob]);
  await Promise.all(sockets.map((socket) => socket.join(room)));
  return room;
}

/** What both sockets got, once they have everything; fails where it is not what is stored. */
async function heard(room: string): Promise<string[]> {
  const { lastSeq, contiguous, contents } = await roomLog(db.sql, room);
  expect(contiguous).toBe(true);
  for (const socket of sockets) {
    await socket.reaches(room, lastSeq);
    expect(socket.violations).toEqual([]);
    expect(socket.contents(room).slice(1)).toEqual(contents.slice(1));
  }
  return contents.slice(1);
}

/** One to four bytes of UTF-8 each, and whatever JSON, JavaScript or a line-based format could stumble over. */
const units = [
  'a',
  ' ',
  'é',
  '漢',
  '💥',
  '"',
  '\\',
  '/',
  '\n',
  '\r',
  '\t',
  '\u0001',
  '\u001f',
  '\u007f',
  '\u0085',
  '\u2028',
  '\u2029',
  '\ufeff',
  '\ufffd',
  '\uffff',
  'e\u0301',
  '</script>',
  "'",
  '$1',
  '%s',
];
const pattern = fc.array(fc.constantFrom(...units), { minLength: 1, maxLength: 8 }).map((parts) => parts.join(''));
/** Few characters, about as many bytes as a notification takes, or up to the limit. */
const length = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 1, max: 60 }) },
  {
    weight: 5,
    arbitrary: fc
      .integer({ min: 7_400, max: 8_100 })
      .chain((bytes) => fc.constantFrom(bytes, Math.ceil(bytes / 2), Math.ceil(bytes / 3), Math.ceil(bytes / 4), Math.ceil(bytes / 6))),
  },
  { weight: 1, arbitrary: fc.integer({ min: 8_000, max: 65_536 }) },
  { weight: 1, arbitrary: fc.constant(65_536) },
);
const content = fc.tuple(pattern, length).map(([text, characters]) =>
  Array.from(text.repeat(Math.ceil(characters / Array.from(text).length)))
    .slice(0, characters)
    .join(''),
);

describe('a message arrives whole on both nodes,', () => {
  it('whatever its characters and its size, in whatever company', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(content, { minLength: 1, maxLength: 12 }), async (contents) => {
        const room = await openRoom();
        await Promise.all(contents.map(async (text, n) => sockets[n % 2]?.send(room, text)));
        expect((await heard(room)).toSorted()).toEqual(contents.toSorted());
      }),
      { numRuns: 30, endOnFailure: true },
    );
  });

  it('at every size around that of a notification, alone and with another', async () => {
    const room = await openRoom();
    const listener = new pg.Client({ connectionString: db.url });
    await listener.connect();
    const payloads: number[] = [];
    listener.on('notification', ({ payload = '' }) => payloads.push(Buffer.byteLength(payload)));
    await listener.query('LISTEN trunkline');
    await db.sql.query(
      "INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, repeat('x', n) FROM generate_series(7600, 7800) AS n",
      [room, ann.id],
    );
    await db.sql.query(
      "INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, repeat('é', CASE n % 2 WHEN 0 THEN n ELSE 3700 - n END) FROM generate_series(1700, 1900) AS n",
      [room, bob.id],
    );
    expect(await heard(room)).toHaveLength(402);
    await listener.end();
    expect(Math.max(...payloads)).toBe(7_999); // the largest that NOTIFY takes
  });

  it('as the JSON that PostgreSQL makes of it, which says exactly what is stored', async () => {
    const text = fc.oneof(
      content,
      fc.string({ unit: 'binary', minLength: 1, maxLength: 100 }).map((any) => any.replaceAll('\0', '0')),
    );
    const time = fc.date({ min: new Date('0001-01-01T00:00:00Z'), max: new Date('9999-12-31T23:59:59.999Z'), noInvalidDate: true });
    const seq = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
    await fc.assert(
      fc.asyncProperty(
        text,
        text,
        fc.option(fc.uuid(), { nil: undefined }),
        time,
        seq,
        seq,
        async (said, username, clientMsgId, at, n, id) => {
          const [room, user] = [uuidv7(), uuidv7()];
          const { rows } = await db.sql.query<{ message: string; event: string }>(
            `SELECT message_json($1, $2, $3, $4, $5, $6, $7, $8) AS message, room_event_json($1, $2, 'joined', $4, $4, $5, $8) AS event`,
            [room, n, id, user, username, said, clientMsgId, at.toISOString()],
          );
          const created_at = at.toISOString();
          expect(JSON.parse(rows[0]?.message ?? '')).toEqual({
            room_id: room,
            seq: n,
            id,
            user_id: user,
            username,
            content: said,
            ...(clientMsgId !== undefined && { client_msg_id: clientMsgId }),
            created_at,
          });
          expect(JSON.parse(rows[0]?.event ?? '')).toEqual({
            room_id: room,
            seq: n,
            kind: 'joined',
            actor_id: user,
            user_id: user,
            username,
            created_at,
          });
          expect(rows[0]?.message).not.toContain('\n'); // a line is a message
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe('a send', () => {
  it.each([
    ['alone in its batch', 1, []],
    ['in a batch with another', 1, ['beside it']],
    ['in a batch that is judged before it is stored, as after a retry', 2, ['beside it']],
  ])(
    'whose commit was done and whose answer was cut off is acked with its seq, once there and once heard: %s',
    async (_, times, company) => {
      const room = await openRoom();
      const earlier = randomUUID();
      for (let n = 0; n < times; n++) await sockets[0].send(room, 'before', earlier);
      // In the answer to what was stored first, last_seq before it; to what was judged, what became of each.
      const isStored = (chunk: Buffer) => chunk.includes('SELECT 1\0') && (chunk.includes('[2]') || chunk.includes('"status" : ["s"'));
      let cuts = 0;
      let statement: string | undefined;
      proxy.onClientData = (chunk) => {
        if (chunk.includes('cut here')) statement ??= /append_\w+/.exec(chunk.toString('latin1'))?.[0];
      };
      proxy.onServerData = (chunk) => !(statement !== undefined && isStored(chunk) && cuts++ === 0);
      const key = randomUUID();
      const raw = rawSocketOf(sockets[0].socket);
      raw.cork(); // one write, so that the node has them in one turn
      const sends = ['cut here', ...company].map((text) => sockets[0].send(room, text, text === 'cut here' ? key : undefined));
      raw.uncork();
      const [seq] = await Promise.all(sends);
      proxy.onServerData = undefined;
      proxy.onClientData = undefined;
      expect([statement, seq, cuts]).toEqual([company.length > 0 ? 'append_batch' : 'append_lone', 3, 1]);
      expect(await sockets[0].send(room, 'cut here', key)).toBe(3);
      expect(await sockets[0].send(room, 'after')).toBe(4 + company.length);
      expect(await heard(room)).toEqual(['before', 'cut here', ...company, 'after']);
    },
  );

  it('that the database refuses is answered with internal, and is heard by nobody; what was sent with it is stored', async () => {
    const room = await openRoom();
    await db.sql.query(`
      CREATE FUNCTION refuse_poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$;
      CREATE TRIGGER refuse_poison BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.content = 'poison') EXECUTE FUNCTION refuse_poison()`);
    const contents = Array.from({ length: 40 }, (_, n) => (n % 13 === 7 ? 'poison' : `${n}`));
    const sent = contents.map(async (text) => sockets[0].send(room, text).catch((error: Error) => error.message));
    const answers = await Promise.all(sent);
    await db.sql.query('DROP TRIGGER refuse_poison ON messages');
    expect(answers.filter((answer) => answer === 'internal')).toHaveLength(3);
    expect(await heard(room)).toEqual(contents.filter((text) => text !== 'poison'));
  });

  it('to a room that an open transaction holds is acked after it, while all other rooms go on', async () => {
    const [held, other] = [await openRoom(), await openRoom()];
    const client = await db.sql.connect();
    try {
      await client.query('BEGIN');
      await client.query('INSERT INTO messages (room_id, user_id, content) VALUES ($1, $2, $3)', [held, ann.id, 'slow']);
      const waiting = sockets.map((socket, n) => socket.send(held, `waiting ${n}`));
      for (let n = 0; n < 30; n++) await sockets[n % 2]?.send(other, `${n}`);
      expect((await roomLog(db.sql, held)).lastSeq).toBe(1);
      await client.query('COMMIT');
      expect((await Promise.all(waiting)).toSorted((a, b) => a - b)).toEqual([3, 4]);
    } finally {
      client.release(true); // whatever it still holds
    }
    expect((await heard(held))[0]).toBe('slow');
    expect(await heard(other)).toEqual(Array.from({ length: 30 }, (_, n) => `${n}`));
  });

  it('that is repeated on the other node, again and again, by sockets that come and go, is one message', async () => {
    const room = await openRoom();
    const keys = Array.from({ length: 20 }, () => randomUUID());
    const seqs = new Map<string, Set<number>>();
    for (let round = 0; round < 3; round++) {
      const clients = await Promise.all(nodes.map(({ url }) => TestClient.connect(url, ann.token)));
      const sends = keys.flatMap((key, n) => clients.map(async (client) => ({ key, seq: await client.send(room, `${n}`, key) })));
      for (const { key, seq } of await Promise.all(sends)) seqs.set(key, (seqs.get(key) ?? new Set<number>()).add(seq));
      await Promise.all(clients.map((client) => client.close()));
    }
    expect([...seqs.values()].map(({ size }) => size)).toEqual(keys.map(() => 1));
    expect((await heard(room)).toSorted()).toEqual(keys.map((_, n) => `${n}`).toSorted());
  });
});
