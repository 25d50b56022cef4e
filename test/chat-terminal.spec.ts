/** `npm run chat` in a pseudo-terminal, judged by what is on its screen. */
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import stringWidth from 'string-width';
import { lineFrame } from '../scripts/chat/line-frame.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { call, createRoom, registerUser, type TestUser } from './support/rest.js';
import { TestTerminal } from './support/terminal.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

const script = fileURLToPath(new URL('../scripts/chat.ts', import.meta.url));
const columns = 40;
const screenRows = 10;
const prompt = 'ann> ';
const long = 'the quick brown fox jumps over the lazy dog and runs through the whole of the wood until night';

let db: TestDatabase;
let node: TestNode;
let bob: TestUser;
let rooms = 0;
const terminals: TestTerminal[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url);
  bob = await registerUser(node.url, 'bob');
  await registerUser(node.url, 'ann');
});
afterEach(() => {
  for (const terminal of terminals.splice(0)) terminal.kill();
});
afterAll(async () => {
  await node.close();
  await db.drop();
});

/** Ann's terminal in a new room of Bob's. */
async function chat() {
  const name = `terminal ${++rooms}`;
  const room = await createRoom(node.url, bob.token, name);
  const terminal = new TestTerminal(
    ['--import', 'tsx', script, '--user', 'ann', '--room', name, '--url', node.url],
    { TRUNKLINE_PASSWORD: 'a password of the tests' },
    columns,
    screenRows,
  );
  terminals.push(terminal);
  const said: string[] = [];
  const shown = () => terminal.lines().flatMap((line) => /^\d\d:\d\d (bob: .*)$/.exec(line)?.[1] ?? []);
  await shows(terminal, '');
  return {
    terminal,
    async say(content: string) {
      said.push(`bob: ${content}`);
      await call(node.url, `/rooms/${room}/messages`, { token: bob.token, body: { content } });
      await onScreen(terminal, () => shown().at(-1) === said.at(-1), content);
      expect(shown()).toEqual(said);
    },
    types: (keys: string, line: string) => {
      terminal.type(keys);
      return shows(terminal, line);
    },
    async stored(content: string) {
      const { rows } = await db.sql.query("SELECT FROM messages WHERE room_id = $1 AND username = 'ann' AND content = $2", [room, content]);
      return rows.length === 1;
    },
    all: () => expect(shown()).toEqual(said),
  };
}

/** With the screen in its error. */
const onScreen = (terminal: TestTerminal, is: () => boolean, what: string) =>
  eventually(
    () => {
      if (!is()) throw new Error(`${what} is not on the screen:\n${terminal.lines().join('\n')}`);
      return true;
    },
    what,
    20_000,
  );

const shows = (terminal: TestTerminal, line: string) => onScreen(terminal, () => terminal.typed(prompt) === line, `“${line}”`);

const fits = columns - prompt.length;

it.each<[what: string, line: string, shown?: string]>([
  ['a line of three rows', long],
  ['a line of exactly one row', 'x'.repeat(fits)],
  ['a line of exactly two rows', 'x'.repeat(fits + columns)],
  ['one character less than a row', 'x'.repeat(fits - 1)],
  ['wide characters, of which one would stand across the edge', `x${'漢字'.repeat(25)}`],
  ['letters with marks', 'e\u0301'.repeat(60)],
  ['a line with tabs', `a\tb${'c'.repeat(60)}\td`, `a    b${'c'.repeat(60)}    d`],
])(
  'messages that arrive over %s stay on the screen, and so does the line',
  async (_what, line, shown = line) => {
    const ann = await chat();
    await ann.say('before');
    await ann.types(line, shown);
    for (let n = 0; n < 4; n++) {
      await ann.say(`meanwhile ${n}`);
      await shows(ann.terminal, shown);
    }
    ann.terminal.type('\r');
    await eventually(() => ann.stored(line), 'the line to be stored as it was typed');
    await shows(ann.terminal, '');
    await ann.say('after');
  },
  60_000,
);

it('with emoji that the terminal counts otherwise than Node, no message is lost', async () => {
  const ann = await chat();
  const line = '👩‍👩‍👧‍👦🏳️‍🌈🇫🇮'.repeat(15);
  await ann.say('before');
  ann.terminal.type(line);
  for (let n = 0; n < 4; n++) await ann.say(`meanwhile ${n}`);
  ann.terminal.type('\r');
  await eventually(() => ann.stored(line), 'the line to be stored as it was typed');
  await ann.say('after');
}, 60_000);

it('the cursor stays in the middle of a wrapped line, where editing goes on', async () => {
  const ann = await chat();
  await ann.types(long, long);
  const at = 10; // in the first row
  ann.terminal.type(`\x01${'\x1b[C'.repeat(at)}`);
  await eventually(() => ann.terminal.beforeCursor() === prompt + long.slice(0, at), 'the cursor to move');
  await ann.say('first');
  await ann.say('second');
  expect(ann.terminal.beforeCursor()).toBe(prompt + long.slice(0, at));
  const edited = `${long.slice(0, at)}XYZ${long.slice(at)}`;
  await ann.types('XYZ', edited);
  await ann.say('third');
  ann.terminal.type('\r');
  await eventually(() => ann.stored(edited), 'the edited line to be stored');
}, 60_000);

it('a long line of before comes back with the arrow, and goes again, without a message', async () => {
  const ann = await chat();
  await ann.types(long, long);
  ann.terminal.type('\r');
  await eventually(() => ann.stored(long), 'the line to be stored');
  await ann.say('one');
  await ann.types('\x1b[A', long);
  await ann.say('two');
  await ann.types('\x1b[B', '');
  await ann.say('three');
  await ann.types('\x1b[A', long);
  await ann.types('\x15', ''); // Ctrl-U
  await ann.say('four');
}, 60_000);

it('a line taller than the screen shows its rows around the cursor, and takes no message', async () => {
  const ann = await chat();
  await ann.say('before');
  const line = Array.from({ length: 150 }, (_, n) => `word${n}`).join(' ');
  ann.terminal.type(line);
  await eventually(() => ann.terminal.lines().join('').includes('word149'), 'the end of the line');
  for (let n = 0; n < 3; n++) await ann.say(`meanwhile ${n}`);
  ann.terminal.type('\x01');
  await eventually(() => ann.terminal.beforeCursor() === prompt, 'the start of the line');
  await ann.say('at the start');
  ann.terminal.type('\r');
  await eventually(() => ann.stored(line), 'the line to be stored');
}, 60_000);

it.each([
  ['narrower', 23, 10],
  ['wider', 70, 10],
  ['lower', 40, 4],
  ['higher', 40, 30],
])(
  'when the terminal gets %s, no message is lost and the line is drawn anew',
  async (_what, cols, rows) => {
    const ann = await chat();
    await ann.say('before');
    await ann.types(long, long);
    await ann.say('meanwhile');
    ann.terminal.resize(cols, rows);
    await shows(ann.terminal, long);
    ann.all();
    await ann.say('after');
    await shows(ann.terminal, long);
    ann.terminal.type('\r');
    await eventually(() => ann.stored(long), 'the line to be stored');
    await ann.say('at the end');
  },
  60_000,
);

it('a paste of several lines is sent line by line, and what has no end yet stays to be typed', async () => {
  const ann = await chat();
  await ann.types(`${long} 1\r${long} 2\rrest`, 'rest');
  await eventually(async () => (await ann.stored(`${long} 1`)) && (await ann.stored(`${long} 2`)), 'both lines to be stored');
  await ann.say('after');
  await shows(ann.terminal, 'rest');
  ann.terminal.type('\x03'); // Ctrl-C
  expect(await ann.terminal.exit).toBe(0);
  ann.all();
}, 60_000);

it('any line fits its rows, which together are the line, with the cursor in one of them', () => {
  const text = fc.string({ unit: 'grapheme', maxLength: 200 });
  fc.assert(
    fc.property(text, fc.nat(), fc.integer({ min: 2, max: 60 }), fc.integer({ min: 1, max: 20 }), (line, at, width, maxRows) => {
      const cursor = at % (line.length + 1);
      const whole = lineFrame('a> ', line, cursor, width, Infinity);
      for (const row of whole.rows) expect(stringWidth(row)).toBeLessThanOrEqual(width);
      const part = lineFrame('a> ', line, cursor, width, maxRows);
      expect(part.rows.length).toBe(Math.min(whole.rows.length, maxRows));
      expect(part.rows[part.cursorRow]).toBe(whole.rows[whole.cursorRow]);
      expect(part.cursorColumn).toBeLessThan(width);
    }),
  );
});
