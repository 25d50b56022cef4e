/** What readers of history cost a node that take nothing of their answers, and what another user notices of them. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { usageOf } from '../process-usage.js';
import { makeNewcomers } from '../set-up.js';
import type { Run, Suite } from '../suite.js';

const readers = 200;
const pagesEach = 10;
/** Shorter than the time after which they are cut. */
const watchedMs = 10_000;
const sampleEveryMs = 50;
const maxMoreMiB = 200;

export const untaken: Suite = {
  name: 'untaken',
  title: `one node, ${readers} connections of one user ask for ${pagesEach} pages of large messages each and take nothing: memory of the node`,
  isLong: true,
  async run(run) {
    const [{ url, process: child } = { url: '', process: undefined }] = await run.startNodes(1);
    run.status('setting up');
    const { roomId, stalling, other } = await makeRoom(run, url);
    const page = `/rooms/${roomId}/messages?limit=100`;
    const residentMiB = async (): Promise<number> => (await usageOf(child?.pid)).residentMiB;
    const isAlive = (): boolean => child?.exitCode === null && child.signalCode === null;
    await readOnce(url, page, other);
    const before = await residentMiB();
    run.status('stalling');
    const sockets = await Promise.all(Array.from({ length: readers }, () => stall(url, page, stalling)));
    let highest = before;
    const answers: Record<string, number> = {};
    let slowestMs = 0;
    for (const until = performance.now() + watchedMs; performance.now() < until && isAlive();) {
      const asked = performance.now();
      const answer = await readOnce(url, page, other);
      answers[answer] = (answers[answer] ?? 0) + 1;
      slowestMs = Math.max(slowestMs, performance.now() - asked);
      highest = Math.max(highest, await residentMiB());
      await delay(sampleEveryMs);
    }
    for (const socket of sockets) socket.destroy();
    const isServed = Object.keys(answers).every((answer) => answer === '200');
    return {
      figures: [
        { name: 'resident, beside what it was', value: highest - before, unit: 'MiB', goal: { atMost: maxMoreMiB } },
        { name: 'slowest page of another user', value: slowestMs, unit: 'ms' },
      ],
      failures: [...(isAlive() ? [] : ['the node ended']), ...(isServed ? [] : ['another user was not served'])],
      notes: [
        `answers to another user: ${JSON.stringify(answers)}; resident before ${before.toFixed(0)} MiB, at most ${highest.toFixed(0)} MiB`,
      ],
    };
  },
};

const readOnce = (url: string, page: string, token: string): Promise<string> =>
  fetch(`${url}${page}`, { headers: { authorization: `Bearer ${token}` }, signal: AbortSignal.timeout(watchedMs) }).then(
    async (answer) => {
      await answer.arrayBuffer();
      return String(answer.status);
    },
    () => 'none',
  );

async function stall(url: string, page: string, token: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.on('error', () => undefined); // it is cut
  await once(socket, 'connect');
  socket.pause();
  socket.write(`GET ${page} HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer ${token}\r\n\r\n`.repeat(pagesEach));
  return socket;
}

/** Of two members, with 100 messages that are 39 MB as JSON. */
async function makeRoom(run: Run, url: string): Promise<{ roomId: string; stalling: string; other: string }> {
  const db = new pg.Client({ connectionString: run.databaseUrl, application_name: 'trunkline bench' });
  await db.connect();
  try {
    const [stalling, other] = await makeNewcomers(db, { users: 2, rooms: 1, roomsEach: 1 }, [url], run.secret);
    const [roomId = ''] = stalling?.roomIds ?? [];
    await db.query(
      `INSERT INTO messages (room_id, user_id, content)
       SELECT $1, (SELECT user_id FROM room_members WHERE room_id = $1 LIMIT 1), repeat($2, 65536) FROM generate_series(1, 100)`,
      [roomId, '\u0001'],
    );
    return { roomId, stalling: stalling?.token ?? '', other: other?.token ?? '' };
  } finally {
    await db.end();
  }
}
