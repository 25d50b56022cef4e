import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import { TestClient } from './support/client.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, roomLog, type Person } from './support/people.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

const insert = 'INSERT INTO messages (room_id, user_id, content) VALUES ($1, $2, $3)';

let db: TestDatabase;
let nodes: TestNode[];
let ann: Person;
let bob: Person;
/** Another program, with a connection of its own. */
let psql: pg.Client;
const sockets: TestClient[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
  nodes = await Promise.all([startNode(db.url), startNode(db.url)]);
  [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
});
beforeEach(async () => {
  psql = new pg.Client({ connectionString: db.url });
  await psql.connect();
});
afterEach(async () => {
  await psql.end();
  await Promise.all(sockets.splice(0).map((socket) => socket.close()));
});
afterAll(async () => {
  await Promise.all(nodes.map((node) => node.close()));
  await db.drop();
});

/** A room of Ann's and Bob's (last seq 1), with Ann's socket on one node and Bob's on the other. */
async function openRoom(): Promise<string> {
  const room = await createRoom(db.sql, [ann, bob]);
  if (sockets.length === 0)
    for (const [n, { token }] of [ann, bob].entries()) sockets.push(await TestClient.connect(nodes[n]?.url ?? '', token));
  await Promise.all(sockets.map((socket) => socket.join(room)));
  return room;
}

/** What each socket got after its join, once it has got everything; fails when something was doubled, skipped or out of order. */
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

const refusal = (query: Promise<unknown>): Promise<{ code: string; message: string }> =>
  query.then(
    () => ({ code: '', message: 'it was not refused' }),
    ({ code, message }: pg.DatabaseError) => ({ code: code ?? '', message }),
  );

/** What psql does for COPY … FROM STDIN. */
function copyIn(target: string, rows: string): Promise<void> {
  return new Promise((done, failed) => {
    let failure: Error | undefined;
    psql.query({
      submit: (connection: pg.Connection) => connection.query(`COPY ${target} FROM STDIN`),
      handleCopyInResponse(connection: { sendCopyFromChunk(rows: Buffer): void; endCopyFrom(): void }) {
        connection.sendCopyFromChunk(Buffer.from(rows));
        connection.endCopyFrom();
      },
      handleError: (error: Error) => (failure = error),
      handleCommandComplete: () => undefined,
      handleReadyForQuery: () => (failure === undefined ? done() : failed(failure)),
    } as pg.Submittable);
  });
}

describe('a plain INSERT', () => {
  it('gets the next seq, the sender’s name and a time, and reaches sockets on both nodes', async () => {
    const room = await openRoom();
    const { rows } = await psql.query(`${insert} RETURNING seq::int, id::int, username, created_at`, [room, ann.id, 'from psql']);
    expect(rows[0]).toMatchObject({ seq: 2, username: ann.name });
    expect(await heard(room)).toEqual(['from psql']);
    expect(sockets[1]?.messages).toEqual([
      {
        id: rows[0].id,
        seq: 2,
        room_id: room,
        user_id: ann.id,
        username: ann.name,
        content: 'from psql',
        created_at: rows[0].created_at.toISOString(),
      },
    ]);
  });

  it('of many rows gives them seqs in the order of the rows', async () => {
    const room = await openRoom();
    await psql.query('INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, n::text FROM generate_series(1, 300) AS n', [
      room,
      ann.id,
    ]);
    expect(await heard(room)).toEqual(Array.from({ length: 300 }, (_, n) => `${n + 1}`));
  });

  it('by COPY is one too', async () => {
    const room = await openRoom();
    await copyIn(
      `messages (room_id, user_id, content)`,
      ['1', '2', 'tab\\tand\\\\'].map((content) => `${room}\t${ann.id}\t${content}\n`).join(''),
    );
    expect(await heard(room)).toEqual(['1', '2', 'tab\tand\\']);
  });

  it('twice in one statement is twice', async () => {
    const room = await openRoom();
    const select = 'INSERT INTO messages (room_id, user_id, content) SELECT $1::uuid, $2::uuid, unnest($3::text[])';
    await psql.query(`WITH a AS (${select}), b AS (${select}) SELECT`, [room, ann.id, ['1', '2', '3']]);
    expect((await heard(room)).toSorted((a, b) => a.localeCompare(b))).toEqual(['1', '1', '2', '2', '3', '3']);
  });

  it('may be answered by a trigger of one’s own, in the same room', async () => {
    const room = await openRoom();
    await psql.query(`
      CREATE FUNCTION echo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO messages (room_id, user_id, content) VALUES (NEW.room_id, NEW.user_id, 'echo of ' || NEW.content);
        RETURN NULL;
      END $$`);
    await psql.query(
      "CREATE TRIGGER echo AFTER INSERT ON messages FOR EACH ROW WHEN (NEW.content NOT LIKE 'echo%' AND pg_trigger_depth() = 0) EXECUTE FUNCTION echo()",
    );
    try {
      await psql.query(`${insert}, ($1, $2, 'two')`, [room, ann.id, 'one']);
      await sockets[0]?.send(room, 'three');
      expect(await heard(room)).toEqual(['one', 'two', 'echo of one', 'echo of two', 'three', 'echo of three']);
    } finally {
      await psql.query('DROP TRIGGER echo ON messages');
    }
  });

  it('into several rooms in one transaction is delivered with its COMMIT, and with what sockets send meanwhile', async () => {
    const rooms = [await openRoom(), await openRoom(), await openRoom()];
    await psql.query('BEGIN');
    for (const n of [1, 2]) for (const room of rooms) await psql.query(insert, [room, ann.id, `${n}`]);
    await psql.query('INSERT INTO messages (room_id, user_id, content) SELECT unnest($1::uuid[]), $2, $3', [rooms, bob.id, '3']);
    const sent = rooms.map(async (room, n) => sockets[n % 2]?.send(room, 'meanwhile'));
    await psql.query('COMMIT');
    expect(await Promise.all(sent)).toEqual([5, 5, 5]);
    for (const room of rooms) expect(await heard(room)).toEqual(['1', '2', '3', 'meanwhile']);
  });

  it('that is rolled back leaves no hole and is heard by nobody', async () => {
    const room = await openRoom();
    await psql.query('BEGIN');
    await psql.query(insert, [room, ann.id, 'never said']);
    await psql.query('SAVEPOINT s');
    await psql.query(insert, [room, ann.id, 'never said either']);
    await psql.query('ROLLBACK TO s');
    await psql.query('ROLLBACK');
    expect(await sockets[0]?.send(room, 'first')).toBe(2);
    await psql.query('BEGIN');
    await psql.query(insert, [room, ann.id, 'second']);
    await psql.query('SAVEPOINT s');
    await psql.query(insert, [room, ann.id, 'never said']);
    await psql.query('ROLLBACK TO s');
    await psql.query(insert, [room, ann.id, 'third']);
    await psql.query('COMMIT');
    expect(await heard(room)).toEqual(['first', 'second', 'third']);
  });

  it('is durable before it is heard, also in a session that does not wait for that', async () => {
    const room = await openRoom();
    const synchronous = async () =>
      (await psql.query<{ synchronous_commit: string }>('SHOW synchronous_commit')).rows[0]?.synchronous_commit;
    const says: [statement: string, values: unknown[]][] = [
      [insert, [room, ann.id, 'by a loader in a hurry']],
      ['SELECT append_room_event($1, $2, $3, NULL, NULL, $4)', [room, 'updated', ann.id, { description: 'by hand' }]],
    ];
    await psql.query('SET synchronous_commit = off');
    try {
      for (const [statement, values] of says) {
        await psql.query('BEGIN');
        await psql.query(statement, values);
        expect(await synchronous()).toBe('on');
        await psql.query('COMMIT');
        expect(await synchronous()).toBe('off');
      }
      await psql.query('SET synchronous_commit = remote_apply; BEGIN');
      await psql.query(insert, [room, ann.id, 'by one who waits for more']);
      expect(await synchronous()).toBe('remote_apply');
      await psql.query('COMMIT');
    } finally {
      await psql.query('RESET synchronous_commit');
    }
  });

  it('needs no right but INSERT on the table and USAGE of the sequence', async () => {
    const room = await openRoom();
    const role = `poster_${randomUUID().slice(0, 8)}`;
    await psql.query(`CREATE ROLE ${role}; GRANT INSERT ON messages TO ${role}; GRANT USAGE ON SEQUENCE message_id_blocks TO ${role}`);
    try {
      await psql.query(`SET ROLE ${role}`);
      await psql.query(insert, [room, ann.id, 'by a poor role']);
      expect((await refusal(psql.query('SELECT content FROM messages'))).code).toBe('42501');
      expect((await refusal(psql.query('UPDATE rooms SET last_seq = 9'))).code).toBe('42501');
      expect((await refusal(psql.query('SELECT key FROM bus_key'))).code).toBe('42501');
      expect((await refusal(psql.query("SELECT bus_notify('x')"))).code).toBe('42501');
      expect(await heard(room)).toEqual(['by a poor role']);
    } finally {
      await psql.query(`RESET ROLE; DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
  });

  it('with a client_msg_id is the same send as a socket’s with it', async () => {
    const room = await openRoom();
    const key = randomUUID();
    await psql.query('INSERT INTO messages (room_id, user_id, content, client_msg_id) VALUES ($1, $2, $3, $4)', [
      room,
      ann.id,
      'once',
      key,
    ]);
    expect(await sockets[0]?.send(room, 'once', key)).toBe(2);
    await expect(sockets[0]?.send(room, 'twice', key)).rejects.toThrow('conflict');
    expect(await heard(room)).toEqual(['once']);
  });
});

describe('a plain INSERT is refused with a sentence, and takes no seq', () => {
  it('where the room or the membership is missing', async () => {
    const room = await openRoom();
    const stranger = uuidv7();
    const nowhere = uuidv7();
    expect(await refusal(psql.query(insert, [room, stranger, 'x']))).toEqual({
      code: '23503',
      message: `user ${stranger} is not a member of room ${room}`,
    });
    expect(await refusal(psql.query(insert, [nowhere, ann.id, 'x']))).toEqual({ code: '23503', message: `there is no room ${nowhere}` });
    expect(await sockets[0]?.send(room, 'next')).toBe(2);
    expect(await heard(room)).toEqual(['next']);
  });

  it('where the content is empty or too long', async () => {
    const room = await openRoom();
    for (const content of ['', 'x'.repeat(65_537)]) expect((await refusal(psql.query(insert, [room, ann.id, content]))).code).toBe('23514');
    expect(await sockets[0]?.send(room, 'next')).toBe(2);
  });

  it('where the client_msg_id was used, also with ON CONFLICT DO NOTHING, also within one statement', async () => {
    const room = await openRoom();
    const key = randomUUID();
    const withKey = 'INSERT INTO messages (room_id, user_id, content, client_msg_id) VALUES ($1, $2, $3, $4)';
    await psql.query(withKey, [room, ann.id, 'once', key]);
    const message = `client_msg_id ${key} was already stored as seq 2`;
    expect(await refusal(psql.query(withKey, [room, ann.id, 'once', key]))).toEqual({ code: '23505', message });
    expect(await refusal(psql.query(`${withKey} ON CONFLICT DO NOTHING`, [room, ann.id, 'once', key]))).toEqual({ code: '23505', message });
    const fresh = randomUUID();
    expect(await refusal(psql.query(`${withKey}, ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, [room, ann.id, 'x', fresh]))).toEqual({
      code: '23505',
      message: `client_msg_id ${fresh} was already stored as seq 3`,
    });
    expect(await sockets[0]?.send(room, 'next')).toBe(3);
    expect(await heard(room)).toEqual(['once', 'next']);
  });

  it('where it brings a seq of its own that does not continue the room, be it taken, skipped, or an event’s', async () => {
    const room = await openRoom(); // seq 1 is Bob's joining
    const withSeq = 'INSERT INTO messages (bucket, room_id, seq, user_id, username, content) VALUES (room_bucket($1), $1, $2, $3, $4, $5)';
    const attempt = (seq: number) => refusal(psql.query(withSeq, [room, seq, ann.id, ann.name, 'forged']));
    const sentence = { code: '23514', message: 'seq is given by the database and must continue its room: leave seq out of the INSERT' };
    for (const seq of [-1, 0, 1, 2, 3, 2_000_000]) expect([seq, await attempt(seq)]).toEqual([seq, sentence]);
    for (const seq of [-1, 0, 1, 2, 3]) {
      expect([
        seq,
        await refusal(psql.query(`${withSeq}, (room_bucket($1), $1, $2 + 1, $3, $4, $5)`, [room, seq, ann.id, ann.name, 'forged'])),
      ]).toEqual([seq, sentence]);
    }
    expect(await sockets[0]?.send(room, 'next')).toBe(2);
    expect((await attempt(2)).code).toBe('23505');
    expect(await attempt(3)).toEqual(sentence);
    expect(await heard(room)).toEqual(['next']);
  });

  it('where its time has no ISO 8601', async () => {
    const room = await openRoom();
    const at = (time: string) =>
      refusal(
        psql.query('INSERT INTO messages (room_id, user_id, content, created_at) VALUES ($1, $2, $3, $4)', [room, ann.id, 'x', time]),
      );
    for (const time of ['infinity', '-infinity', '10000-01-01T00:00:00Z', '0044-03-15T00:00:00Z BC']) {
      expect(await at(time)).toMatchObject({
        code: '23514',
        message: expect.stringMatching(/^created_at .* is not within the years 1 to 9999$/),
      });
    }
    expect(await at('1969-07-20T20:17:40Z')).toMatchObject({ code: '' });
    await heard(room);
    expect(sockets[0]?.messages.at(-1)?.created_at).toBe('1969-07-20T20:17:40.000Z');
  });
});

it('an event that is put in by hand can’t take a seq that is not the room’s next', async () => {
  const room = await openRoom();
  await psql.query(insert, [room, ann.id, 'said']);
  const event = (seq: number) =>
    refusal(
      psql.query("INSERT INTO room_events (bucket, room_id, seq, kind, actor_id) VALUES (room_bucket($1), $1, $2, 'left', $3)", [
        room,
        seq,
        ann.id,
      ]),
    );
  for (const seq of [2, 3])
    expect(await event(seq)).toEqual({ code: '23514', message: `seq ${seq} is not the room's next one: call append_room_event instead` });
  await psql.query("SELECT append_room_event($1, 'left', $2, $2, $3)", [room, ann.id, ann.name]);
  expect(await heard(room)).toEqual(['said', '[left]']);
});

describe('what was said stays said:', () => {
  it.each([
    ['DELETE of a message', "DELETE FROM messages WHERE room_id = '$ROOM'", 'DELETE of messages is refused'],
    ['UPDATE of a seq', "UPDATE messages SET seq = 9 WHERE room_id = '$ROOM'", 'UPDATE of messages is refused'],
    ['UPDATE of a content', "UPDATE messages SET content = 'x' WHERE room_id = '$ROOM'", 'UPDATE of messages is refused'],
    ['TRUNCATE of the messages', 'TRUNCATE messages', 'TRUNCATE of messages is refused'],
    ['DELETE of an event', "DELETE FROM room_events WHERE room_id = '$ROOM'", 'DELETE of room_events is refused'],
    ['UPDATE of an event', "UPDATE room_events SET kind = 'x' WHERE room_id = '$ROOM'", 'UPDATE of room_events is refused'],
    ['TRUNCATE of the events', 'TRUNCATE room_events', 'TRUNCATE of room_events is refused'],
    ['TRUNCATE of the rooms with all that hangs on them', 'TRUNCATE rooms CASCADE', 'TRUNCATE of room_events is refused'],
    [
      'setting a room’s last_seq back',
      "UPDATE rooms SET last_seq = 0 WHERE id = '$ROOM'",
      "last_seq of room $ROOM can't go back from 2 to 0",
    ],
    ['DELETE of a room', "DELETE FROM rooms WHERE id = '$ROOM'", 'violates foreign key constraint'],
  ])('%s is refused, and the error says why', async (_, statement, sentence) => {
    const room = await createRoom(db.sql, [ann, bob]);
    await psql.query(insert, [room, ann.id, 'said']);
    const { code, message } = await refusal(psql.query(statement.replaceAll('$ROOM', room)));
    expect(message).toContain(sentence.replaceAll('$ROOM', room));
    if (message.includes('is refused')) expect(message).toContain('clients hold what was delivered');
    expect(['23001', '23503']).toContain(code);
    expect((await roomLog(db.sql, room)).contents).toEqual(['[joined]', 'said']);
  });
});

describe('a transaction with an older snapshot', () => {
  it.each(['REPEATABLE READ', 'SERIALIZABLE'])(
    'in %s works while the room stands still, and is refused as unserialisable where it did not: never a hole',
    async (level) => {
      const room = await openRoom();
      await psql.query(`BEGIN ISOLATION LEVEL ${level}`);
      await psql.query('SELECT last_seq FROM rooms');
      expect(await sockets[0]?.send(room, 'by a node')).toBe(2);
      expect((await refusal(psql.query(insert, [room, ann.id, 'too old']))).code).toBe('40001');
      await psql.query('ROLLBACK');

      await psql.query(`BEGIN ISOLATION LEVEL ${level}`);
      await psql.query(insert, [room, ann.id, 'by psql']);
      const waiting = sockets[1]?.send(room, 'by a node again');
      await psql.query(insert, [room, ann.id, 'and again']);
      await psql.query('COMMIT');
      expect(await waiting).toBe(5);
      expect(await heard(room)).toEqual(['by a node', 'by psql', 'and again', 'by a node again']);
    },
  );

  it('amid the nodes’ writes either stores all of it or nothing', async () => {
    const room = await openRoom();
    const stored: string[] = [];
    const writing = (async () => {
      for (let n = 0; n < 100; n++) await sockets[n % 2]?.send(room, `node ${n}`);
    })();
    for (let n = 0; n < 40; n++) {
      const { code } = await refusal(
        (async () => {
          await psql.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
          await psql.query(insert, [room, bob.id, `psql ${n}.1`]);
          await psql.query(insert, [room, bob.id, `psql ${n}.2`]);
          await psql.query('COMMIT');
          stored.push(`psql ${n}.1`, `psql ${n}.2`);
        })(),
      );
      expect(['', '40001']).toContain(code);
      await psql.query('ROLLBACK');
    }
    await writing;
    const contents = await heard(room);
    expect(contents.filter((content) => content.startsWith('psql'))).toEqual(stored);
    expect(contents.filter((content) => content.startsWith('node'))).toHaveLength(100);
  });
});
