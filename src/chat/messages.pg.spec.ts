import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import { startNode, type TestNode } from '../../test/support/node.js';
import { type Answer } from '../../test/support/any-call.js';
import { call, createRoom, registerUser, type TestUser } from '../../test/support/rest.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { connectionConfig, Database } from '../database/database.js';
import { findMembership, type Membership } from '../rooms/room.store.js';
import { newest, readHistory } from './history.store.js';

interface Message {
  seq: number;
  content: string;
}
interface Page {
  messages: Message[];
  next_cursor: number | null;
  newer_cursor?: number | null;
}

let db: TestDatabase;
let node: TestNode;
let ann: TestUser;
let bob: TestUser;

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url);
  [ann, bob] = await Promise.all([registerUser(node.url, 'ann'), registerUser(node.url, 'bob')]);
});
afterAll(async () => {
  await node.close();
  await db.drop();
});

const send = (user: TestUser, roomId: string, body: unknown): Promise<Answer> =>
  call(node.url, `/rooms/${roomId}/messages`, { method: 'POST', token: user.token, body });
const history = (user: TestUser, roomId: string, query = ''): Promise<Answer> =>
  call(node.url, `/rooms/${roomId}/messages${query}`, { token: user.token });
const page = async (user: TestUser, roomId: string, query = ''): Promise<Page> => (await history(user, roomId, query)).body as Page;
const join = (user: TestUser, roomId: string): Promise<Answer> =>
  call(node.url, `/rooms/${roomId}/join`, { method: 'POST', token: user.token });
/** Messages by another program: one statement, each with the next seq. */
const insert = (user: TestUser, roomId: string, count: number, prefix = 'message') =>
  db.sql.query('INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, $4 || n FROM generate_series(1, $3) AS n', [
    roomId,
    user.id,
    count,
    `${prefix} `,
  ]);

describe('sending by POST', () => {
  it('answers the message as history has it', async () => {
    const room = await createRoom(node.url, ann.token, 'post office');
    const clientMsgId = uuidv7();
    const answer = await send(ann, room, { content: 'hello "world" \u2028 💥', client_msg_id: clientMsgId.toUpperCase() });
    expect(answer.status).toBe(201);
    expect(answer.body).toEqual({
      id: expect.any(Number),
      seq: 1,
      room_id: room,
      user_id: ann.id,
      username: 'ann',
      content: 'hello "world" \u2028 💥',
      client_msg_id: clientMsgId,
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    });
    expect(await page(ann, room)).toEqual({ messages: [answer.body], next_cursor: null });
  });

  it('a retry with the same client_msg_id gives the first one, and another content is a conflict', async () => {
    const room = await createRoom(node.url, ann.token, 'retries');
    const client_msg_id = uuidv7();
    const first = await send(ann, room, { content: 'once', client_msg_id });
    expect((await send(ann, room, { content: 'once', client_msg_id })).body).toEqual(first.body);
    expect((await send(ann, room, { content: 'twice', client_msg_id })).body).toMatchObject({ status: 409, code: 'conflict' });
    expect((await page(ann, room)).messages).toHaveLength(1);
  });

  it('into a room that is not the sender’s answers as if there were none', async () => {
    const room = await createRoom(node.url, ann.token, 'not for bob');
    for (const id of [room, uuidv7()]) {
      const { body } = await send(bob, id, { content: 'let me in' });
      expect(body).toMatchObject({ status: 404, code: 'room_not_found' });
      expect((await history(bob, id)).body).toMatchObject({ status: 404, code: 'room_not_found' });
    }
  });

  it('takes 65,536 characters in any script, also escaped, whole, and not one more', async () => {
    const room = await createRoom(node.url, ann.token, 'long letters');
    const contents = ['💥'.repeat(65_536), '\u5b57'.repeat(65_536), 'x'.repeat(65_536)];
    for (const content of contents) expect((await send(ann, room, { content })).status).toBe(201);
    for (const escaped of ['\\u0416', '\\ud83d\\udca5']) {
      const raw = `{"content":"${escaped.repeat(65_536)}"}`;
      expect((await call(node.url, `/rooms/${room}/messages`, { token: ann.token, raw })).status).toBe(201);
    }
    const { messages } = await page(ann, room);
    expect(messages.map(({ content }) => content)).toEqual(['💥'.repeat(65_536), 'Ж'.repeat(65_536), ...contents.toReversed()]);
    expect((await send(ann, room, { content: '💥'.repeat(65_537) })).body).toMatchObject({ status: 413, code: 'message_too_long' });
    expect((await send(ann, room, { content: 'x'.repeat(600_000) })).body).toMatchObject({ status: 413, code: 'message_too_long' });
  });

  it('refuses what is no message', async () => {
    const room = await createRoom(node.url, ann.token, 'refusals');
    const bad: unknown[] = [
      {},
      { content: '' },
      { content: 'a\0b' },
      { content: null },
      { content: 7 },
      { content: ['x'] },
      { content: { a: 1 } },
    ];
    bad.push({ content: 'x', client_msg_id: 'one' }, { content: 'x', client_msg_id: 7 }, { content: 'x', seq: 1 }, [], 'text', 7);
    for (const body of bad)
      expect([body, await send(ann, room, body)]).toMatchObject([body, { status: 400, body: { code: 'invalid_payload' } }]);
    const loneSurrogate = await call(node.url, `/rooms/${room}/messages`, { token: ann.token, raw: '{"content":"\\ud83d"}' });
    expect(loneSurrogate.body).toMatchObject({ status: 400, code: 'invalid_payload' });
    expect((await page(ann, room)).messages).toEqual([]);
  });
});

describe('history', () => {
  it('pages from the newest to the oldest without a gap, whatever else took a seq', async () => {
    const room = await createRoom(node.url, ann.token, 'long memory');
    await insert(ann, room, 60);
    await join(bob, room); // seq 61
    await insert(bob, room, 59);
    const seqs: number[] = [];
    let cursor: number | null = null;
    let pages = 0;
    do {
      const answer: Page = await page(bob, room, `?limit=17${cursor === null ? '' : `&cursor=${cursor}`}`);
      seqs.push(...answer.messages.map(({ seq }) => seq));
      cursor = answer.next_cursor;
      pages++;
    } while (cursor !== null);
    expect(pages).toBe(7); // 119 messages: the last page is full, and says that it is the last
    expect(seqs).toEqual(Array.from({ length: 120 }, (_, n) => 120 - n).filter((seq) => seq !== 61));
    expect((await page(bob, room)).messages).toHaveLength(50);
    expect((await page(bob, room, '?cursor=&limit=')).messages).toHaveLength(50);
    expect(await page(bob, room, '?cursor=1')).toEqual({ messages: [], next_cursor: null });
  });

  it('of a room that keeps it to those who were there ends at the reader’s join', async () => {
    const shared = await createRoom(node.url, ann.token, 'open book');
    const joined = await createRoom(node.url, ann.token, 'closed book', { history: 'joined' });
    for (const room of [shared, joined]) {
      await insert(ann, room, 3, 'before');
      await join(bob, room); // seq 4
      await insert(ann, room, 2, 'after');
    }
    const seqsOf = async (user: TestUser, room: string, query = '') => (await page(user, room, query)).messages.map(({ seq }) => seq);
    expect(await seqsOf(bob, shared)).toEqual([6, 5, 3, 2, 1]);
    expect(await seqsOf(bob, joined)).toEqual([6, 5]);
    expect(await page(bob, joined, '?limit=2')).toMatchObject({ next_cursor: null });
    expect(await seqsOf(bob, joined, '?cursor=5')).toEqual([]);
    expect(await seqsOf(ann, joined)).toEqual([6, 5, 3, 2, 1]);
  });

  it('pages from the oldest to the newest by after, each page newest first', async () => {
    const room = await createRoom(node.url, ann.token, 'forward');
    await insert(ann, room, 25);
    const pages: number[][] = [];
    let after: number | null | undefined = 0;
    let answer: Page;
    do {
      answer = await page(ann, room, `?after=${after}&limit=10`);
      expect(answer.next_cursor).toBe(after === 0 ? null : answer.messages.at(-1)?.seq);
      pages.push(answer.messages.map(({ seq }) => seq));
      after = answer.newer_cursor;
    } while (typeof after === 'number');
    const down = (from: number, to: number) => Array.from({ length: from - to + 1 }, (_, n) => from - n);
    expect(pages).toEqual([down(10, 1), down(20, 11), down(25, 21)]);
    expect(await page(ann, room, '?after=25')).toEqual({ messages: [], next_cursor: 26, newer_cursor: null });
    expect(await page(ann, room, '?before=26')).toEqual(await page(ann, room, '?cursor=26'));
  });

  it('around a seq has half a page on each side, and goes on in both directions', async () => {
    const room = await createRoom(node.url, ann.token, 'permalink');
    await insert(ann, room, 30);
    const seqsAround = async (query: string) => {
      const { messages, next_cursor, newer_cursor } = await page(ann, room, query);
      return [messages.map(({ seq }) => seq), next_cursor, newer_cursor];
    };
    expect(await seqsAround('?around=15&limit=4')).toEqual([[16, 15, 14, 13], 13, 16]);
    expect(await seqsAround('?around=15&limit=5')).toEqual([[17, 16, 15, 14, 13], 13, 17]);
    expect(await seqsAround('?around=15&limit=1')).toEqual([[15], 15, 15]);
    expect(await seqsAround('?around=1&limit=4')).toEqual([[2, 1], null, 2]);
    expect(await seqsAround('?around=30&limit=4')).toEqual([[30, 29, 28], 28, null]);
    expect(await seqsAround('?around=90&limit=4')).toEqual([[30, 29], 29, null]);
  });

  it('shows nothing from before the reader’s join by any parameter, where the room keeps it', async () => {
    const room = await createRoom(node.url, ann.token, 'no way round', { history: 'joined' });
    await insert(ann, room, 3);
    await join(bob, room); // seq 4
    await insert(ann, room, 2);
    for (const query of ['', '?before=9', '?after=0', '?around=2', '?around=5']) {
      const { messages, next_cursor } = await page(bob, room, query);
      expect([query, messages.map(({ seq }) => seq), next_cursor]).toEqual([query, [6, 5], null]);
    }
  });

  it('of one author pages by the same places, and shows a reader no more than the rest of it does', async () => {
    const room = await createRoom(node.url, ann.token, 'two voices');
    const closed = await createRoom(node.url, ann.token, 'two voices, closed', { history: 'joined' });
    for (const id of [room, closed]) {
      await insert(ann, id, 3);
      await join(bob, id); // seq 4
      for (let n = 0; n < 4; n++) {
        await insert(bob, id, 1);
        await insert(ann, id, 2);
      }
    } // bob's: 5, 8, 11, 14; ann's: 1-3, 6, 7, 9, 10, 12, 13, 15, 16
    const seqs = async (user: TestUser, id: string, query: string) => {
      const { messages, next_cursor, newer_cursor } = await page(user, id, query);
      return [messages.map(({ seq }) => seq), next_cursor, newer_cursor];
    };
    const by = `?author=${bob.id.toUpperCase()}`;
    expect(await seqs(ann, room, by)).toEqual([[14, 11, 8, 5], null, undefined]);
    expect(await seqs(ann, room, `${by}&limit=2`)).toEqual([[14, 11], 11, undefined]);
    expect(await seqs(ann, room, `${by}&limit=2&cursor=11`)).toEqual([[8, 5], null, undefined]);
    expect(await seqs(ann, room, `${by}&limit=2&after=5`)).toEqual([[11, 8], 6, 11]);
    expect(await seqs(ann, room, `${by}&limit=2&after=11`)).toEqual([[14], 12, null]);
    expect(await seqs(ann, room, `${by}&limit=2&around=10`)).toEqual([[11, 8], 8, 11]);
    expect(await seqs(ann, room, `${by}&after=0`)).toEqual([[14, 11, 8, 5], null, null]);
    expect(await seqs(bob, room, `?author=${ann.id}&limit=100`)).toEqual([[16, 15, 13, 12, 10, 9, 7, 6, 3, 2, 1], null, undefined]);
    for (const query of ['', '&after=0', '&around=1', '&around=8', '&before=99']) {
      const [shown, older] = await seqs(bob, closed, `?author=${ann.id}${query}`);
      expect([query, shown, older]).toEqual([query, [16, 15, 13, 12, 10, 9, 7, 6], null]);
    }
    expect(await seqs(ann, room, `?author=${room}`)).toEqual([[], null, undefined]);
    expect((await page(ann, room, `${by}&limit=1`)).messages).toEqual([(await page(ann, room, '?cursor=15&limit=1')).messages[0]]);
  });

  it('ends where the reader was read to be a member, by any parameter, whatever came since', async () => {
    const room = await createRoom(node.url, ann.token, 'the moment of reading');
    await insert(ann, room, 3);
    const database = node.app.get(Database);
    const membership = await findMembership(database, room, ann.id);
    await insert(ann, room, 3);
    for (const place of [newest, { before: 9 }, { after: 1 }, { around: 2 }, { around: 9 }]) {
      for (const authorId of [undefined, ann.id]) {
        const { messages, newerCursor } = await readHistory(database, room, membership as Membership, 6, place, authorId);
        expect([place, (JSON.parse(messages[0] ?? '{}') as Message).seq, newerCursor ?? null]).toEqual([place, 3, null]);
      }
    }
  });

  describe('of large messages', () => {
    const [pageBytes, entryBytes] = [1_048_576, 400_000];
    const scripts = ['x', '"', '\u{1f4a5}', 'я', '\u001f\\'];
    /** The first are 65,536 bytes each, and 393,216 in JSON; then there are all sizes, in several scripts. */
    const contents = [
      ...Array.from({ length: 12 }, () => '\u0001'.repeat(65_536)),
      ...Array.from({ length: 30 }, (_, n) => (scripts[n % 5] ?? '').repeat(2_100 * (n + 1)).slice(0, 65_536)),
      ...Array.from({ length: 80 }, (_, n) => `small ${n}`),
    ];
    let room: string;
    let raw: string[];

    beforeAll(async () => {
      room = await createRoom(node.url, ann.token, 'large messages');
      await db.sql.query('INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, c FROM unnest($3::text[]) AS c', [
        room,
        ann.id,
        contents,
      ]);
      raw = contents.toReversed();
    });

    const sized = async (query: string): Promise<Page> => {
      const read = await page(ann, room, query);
      const bytes = Buffer.byteLength(JSON.stringify(read));
      expect(bytes).toBeLessThan(pageBytes + 1_000);
      // No shorter than it has to be: the next message would not have fitted.
      if (read.messages.length < 100 && ![read.next_cursor, read.newer_cursor].includes(null))
        expect(bytes).toBeGreaterThan(pageBytes / 2 - entryBytes);
      return read;
    };

    it.each(['', `&author=`])('a page ends by its bytes, and who pages on reads each message once, in both directions%s', async (by) => {
      const author = by && by + ann.id;
      const down: string[] = [];
      for (let cursor: number | null = Number.MAX_SAFE_INTEGER; cursor !== null;) {
        const read: Page = await sized(`?limit=100&cursor=${cursor}${author}`);
        expect(read.messages.length).toBeGreaterThan(0);
        down.push(...read.messages.map(({ content }) => content));
        cursor = read.next_cursor;
      }
      expect(down.length).toBe(raw.length);
      expect(down.every((content, n) => content === raw[n])).toBe(true);
      const up: string[] = [];
      for (let after: number | null | undefined = 0; typeof after === 'number';) {
        const read: Page = await sized(`?limit=100&after=${after}${author}`);
        expect(read.messages.length).toBeGreaterThan(0);
        up.push(...read.messages.map(({ content }) => content).toReversed());
        after = read.newer_cursor;
      }
      expect(up.length).toBe(contents.length);
      expect(up.every((content, n) => content === contents[n])).toBe(true);
    });

    it('a page around a seq has that one, and goes on in both directions', async () => {
      for (const limit of [1, 2, 100]) {
        const seqs: number[] = [];
        const middle = await sized(`?around=8&limit=${limit}`);
        seqs.push(...middle.messages.map(({ seq }) => seq));
        expect(seqs).toContain(8);
        for (let cursor = middle.next_cursor; cursor !== null;) {
          const older = await sized(`?before=${cursor}`);
          seqs.push(...older.messages.map(({ seq }) => seq));
          cursor = older.next_cursor;
        }
        for (let after = middle.newer_cursor; typeof after === 'number';) {
          const newer = await sized(`?after=${after}`);
          seqs.unshift(...newer.messages.map(({ seq }) => seq));
          after = newer.newer_cursor;
        }
        expect(seqs).toEqual(contents.map((_, n) => contents.length - n));
      }
    });

    it('PostgreSQL reads no more of them from their places than a page has, and one', async () => {
      const other = await createRoom(node.url, ann.token, 'large and incompressible');
      const noise = Array.from({ length: 60 }, () => Buffer.from(randomBytes(65_536).map((byte) => 1 + (byte & 127))).toString('latin1'));
      const contentsOfNoise = noise.map((text) => text.replaceAll('\x80', 'x'));
      await db.sql.query('INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, c FROM unnest($3::text[]) AS c', [
        other,
        ann.id,
        contentsOfNoise,
      ]);
      const client = new pg.Client(connectionConfig(db.url, 'blocks'));
      await client.connect();
      const blocks = async (): Promise<number> => {
        await client.query('SELECT pg_stat_force_next_flush()');
        const { rows } = await client.query<{ n: string }>(
          "SELECT toast_blks_read + toast_blks_hit AS n FROM pg_statio_user_tables WHERE relname = 'messages'",
        );
        return Number(rows[0]?.n);
      };
      const member = (await findMembership(client, other, ann.id)) as Membership;
      const blocksOf = async (limit: number): Promise<[blocks: number, messages: number]> => {
        const before = await blocks();
        const { messages } = await readHistory(client, other, member, limit, newest);
        return [(await blocks()) - before, messages.length];
      };
      try {
        const [ofOne] = await blocksOf(1);
        const [ofPage, count] = await blocksOf(60);
        expect(ofOne).toBeGreaterThan(5);
        expect(count).toBeGreaterThan(3);
        expect(count).toBeLessThan(12);
        expect(ofPage).toBeLessThan(ofOne * (count + 2));
      } finally {
        await client.end();
      }
    });
  });

  it('takes one place at a time', async () => {
    const room = await createRoom(node.url, ann.token, 'one place');
    const fields = async (query: string) =>
      ((await history(ann, room, query)).body as { errors: { field: string }[] }).errors.map(({ field }) => field);
    expect(await fields('?before=3&after=1')).toEqual(['before', 'after']);
    expect(await fields('?cursor=3&before=3')).toEqual(['cursor', 'before']);
    expect(await fields('?cursor=3&around=1&limit=5')).toEqual(['cursor', 'around']);
  });

  it('is closed to who has left', async () => {
    const room = await createRoom(node.url, ann.token, 'left behind');
    await join(bob, room);
    expect((await history(bob, room)).status).toBe(200);
    await call(node.url, `/rooms/${room}/leave`, { method: 'POST', token: bob.token });
    expect((await history(bob, room)).body).toMatchObject({ status: 404, code: 'room_not_found' });
  });

  it('refuses a bad parameter by name', async () => {
    const room = await createRoom(node.url, ann.token, 'parameters');
    for (const [query, field] of [
      ['limit=0', 'limit'],
      ['limit=101', 'limit'],
      ['limit=-1', 'limit'],
      ['limit=50.5', 'limit'],
      ['cursor=0', 'cursor'],
      ['cursor=abc', 'cursor'],
      ['cursor=99999999999999999999', 'cursor'],
      ['cursor=1&cursor=2', 'cursor'],
      ['cursor=%00', 'cursor'],
      ['before=0', 'before'],
      ['after=-1', 'after'],
      ['around=0', 'around'],
      ['author=bob', 'author'],
      ['past=3', 'past'],
    ]) {
      expect([query, await history(ann, room, `?${query}`)]).toMatchObject([query, { status: 400, body: { errors: [{ field }] } }]);
    }
  });
});
