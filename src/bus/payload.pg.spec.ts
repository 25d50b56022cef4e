import { randomBytes } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import pg from 'pg';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { createPerson, createRoom } from '../../test/support/people.js';
import { eventually } from '../../test/support/eventually.js';
import { digest, readPayload, type LogEntry, type PayloadReader } from './payload.js';

class Reading implements PayloadReader {
  readonly read: LogEntry[] = [];
  /** Of each entry, the room that it was given for. */
  readonly rooms: string[] = [];
  readonly ranges: [string, number][] = [];
  readonly beats: string[] = [];
  constructor(readonly wanted: (roomId: string) => boolean = () => true) {}
  wants = (roomId: string) => this.wanted(roomId);
  entries = (roomId: string, entries: readonly LogEntry[]) => {
    this.read.push(...entries);
    this.rooms.push(...entries.map(() => roomId));
  };
  upTo = (roomId: string, seq: number) => void this.ranges.push([roomId, seq]);
  signal = (): void => undefined;
  heartbeat = (beat: string) => void this.beats.push(beat);
}

const someRoom = '01890000-0000-7000-8000-000000000001';
const otherRoom = '01890000-0000-7000-8000-000000000002';
const seqs = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });

describe('a payload', () => {
  const key = randomBytes(32);

  it('that is not ours is refused before anything of it is read, whatever it is', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary', maxLength: 200 }), fc.stringMatching(/^[0-9a-f]{32}\n[mehr]\{.*$/)), (payload) => {
        const reading = new Reading();
        expect(readPayload(payload, key, reading)).toBe(false);
        expect([...reading.read, ...reading.ranges, ...reading.beats]).toEqual([]);
      }),
      { numRuns: 1_000 },
    );
  });

  it('with a right digest never makes the reader throw, whatever is in its lines', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom('m', 'e', 'h', 'r', 't', 'p', 'z', ''), fc.string({ maxLength: 80 })), { minLength: 1 }),
        (parts) => {
          const lines = parts.map(([tag, text]) => `\n${tag}${text}`).join('');
          expect(readPayload(digest(lines, key) + lines, key, new Reading())).toBe(true);
        },
      ),
      { numRuns: 1_000 },
    );
  });

  it('with a right digest says what was written into it, in its order', () => {
    const content = fc.string({ unit: 'binary' }).filter((text) => text.isWellFormed());
    const room_id = fc.constantFrom(someRoom, otherRoom);
    const line = fc.oneof(
      { weight: 4, arbitrary: fc.record({ tag: fc.constantFrom('m', 'm', 'm', 'e'), room_id, seq: seqs, content }) },
      { weight: 1, arbitrary: fc.record({ tag: fc.constant('r'), room_id, seq: seqs }) },
    );
    fc.assert(
      fc.property(fc.array(line), (written) => {
        const texts = written.map(({ tag, ...fields }) => ({ tag, ...fields, json: JSON.stringify(fields) }));
        const lines = texts.map(({ tag, json }) => `\n${tag}${json}`).join('');
        const reading = new Reading();
        expect(readPayload(digest(lines, key) + lines, key, reading)).toBe(true);
        const entries = texts.filter(({ tag }) => tag !== 'r');
        expect(reading.read.map(({ seq, json }) => ({ seq, json }))).toEqual(entries.map(({ seq, json }) => ({ seq, json })));
        expect(reading.read.map(({ event }) => event)).toEqual(
          entries.map(({ tag, json }) => (tag === 'e' ? (JSON.parse(json) as unknown) : undefined)),
        );
        expect(reading.rooms).toEqual(entries.map((entry) => entry.room_id));
        expect(reading.ranges).toEqual(texts.filter(({ tag }) => tag === 'r').map((range) => [range.room_id, range.seq]));
      }),
    );
  });

  it('never gives an entry or a range without a seq, however its lines are mangled', () => {
    const line = fc
      .tuple(fc.constantFrom('m', 'e', 'r', 't', 'p'), seqs, fc.nat(90), fc.nat(20), fc.string({ unit: 'binary', maxLength: 20 }))
      .map(([tag, seq, at, cut, by]) => {
        const text = `\n${tag}${JSON.stringify({ room_id: someRoom, seq, content: 'x' })}`;
        return text.slice(0, at) + by + text.slice(at + cut);
      });
    fc.assert(
      fc.property(fc.array(line, { minLength: 1 }), (mangled) => {
        const lines = mangled.join('');
        const reading = new Reading();
        readPayload(digest(lines, key) + lines, key, reading);
        for (const seq of [...reading.read.map((entry) => entry.seq), ...reading.ranges.map(([, upTo]) => upTo)])
          expect(Number.isSafeInteger(seq)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  it('is not kept in memory by the few messages of it that are', () => {
    const heapMiB = () => {
      setFlagsFromString('--expose-gc');
      (runInNewContext('gc') as () => void)();
      return process.memoryUsage().heapUsed / 1_048_576;
    };
    const kept: LogEntry[] = [];
    const reading = Object.assign(new Reading((roomId) => roomId === someRoom), {
      entries: (_: string, entries: readonly LogEntry[]) => void kept.push(...entries),
    });
    const before = heapMiB();
    for (let seq = 1; seq <= 4_000; seq++) {
      const line = (roomId: string, content: string) => `\nm${JSON.stringify({ room_id: roomId, seq, content })}`;
      const lines = line(someRoom, 'of ours') + line(otherRoom, 'x'.repeat(7_500)) + line(someRoom, 'of ours');
      readPayload(digest(lines, key) + lines, key, reading);
    }
    expect(kept).toHaveLength(8_000);
    expect(heapMiB() - before).toBeLessThan(6);
  });

  it('that was changed in one place is refused', () => {
    const lines = `\nh${'beat'.repeat(10)}`;
    const payload = digest(lines, key) + lines;
    for (let at = 0; at < payload.length; at++) {
      const changed = payload.slice(0, at) + (payload[at] === 'a' ? 'b' : 'a') + payload.slice(at + 1);
      expect(readPayload(changed, key, new Reading())).toBe(false);
    }
  });

  describe('made by PostgreSQL', () => {
    let db: TestDatabase;
    beforeAll(async () => {
      db = await createTestDatabase();
    });
    afterAll(() => db.drop());

    it.each([
      ['of one statement for all', (all: readonly string[]) => [all]],
      ['of one statement for each', (all: readonly string[]) => all.map((content) => [content])],
    ])(
      '%s is believed, and says what was stored, in (room_id, seq) order; rooms that are not wanted are passed over',
      async (_, inStatements) => {
        const payloads: string[] = [];
        const listener = new pg.Client({ connectionString: db.url });
        await listener.connect();
        listener.on('notification', ({ payload }) => payloads.push(payload ?? ''));
        await listener.query('LISTEN trunkline');
        const ann = await createPerson(db.sql);
        const rooms = [await createRoom(db.sql, [ann]), await createRoom(db.sql, [ann])];
        const contents = ['plain', '"quoted"\\', 'é漢𝒳\u2028', '\u0001\n\t', 'x'.repeat(9_000)];
        const insert =
          'INSERT INTO messages (room_id, user_id, content) SELECT r, $2, c FROM unnest($1::uuid[]) AS r, unnest($3::text[]) AS c';
        for (const some of inStatements(contents)) {
          if (some.length > 1) await db.sql.query(insert, [rooms, ann.id, some]);
          else for (const room of rooms) await db.sql.query(insert, [[room], ann.id, some]);
        }
        await db.sql.query('SELECT leave_room($1, $2, $2, $3)', [rooms[0], ann.id, 'left']);
        await eventually(() => payloads.some((payload) => payload.includes('"kind"')));
        const { rows } = await db.sql.query<{ key: Buffer }>('SELECT key FROM bus_key');
        const [all, one] = [new Reading(), new Reading((roomId) => roomId === rooms[1])];
        for (const payload of payloads) {
          expect(Buffer.byteLength(payload)).toBeLessThan(8_000);
          expect(readPayload(payload, rows[0]?.key ?? Buffer.alloc(0), all)).toBe(true);
          readPayload(payload, rows[0]?.key ?? Buffer.alloc(0), one);
        }
        const stored = all.read.map(({ json }) => JSON.parse(json) as { room_id: string; content?: string });
        expect(one.read.map(({ json }) => json)).toEqual(
          all.read.filter(({ json }) => json.includes(rooms[1] ?? '')).map(({ json }) => json),
        );
        for (const room of rooms) {
          expect(stored.filter(({ room_id, content }) => room_id === room && content !== undefined).map(({ content }) => content)).toEqual(
            contents.slice(0, 4),
          );
        }
        expect(all.ranges.map(([room]) => room).toSorted()).toEqual([...rooms].toSorted());
        expect(all.read.at(-1)?.event).toMatchObject({ kind: 'left', user_id: ann.id, username: ann.name });
        await listener.end();
      },
    );
  });
});
