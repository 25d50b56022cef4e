import pino from 'pino';
import { loadConfig } from '../config.js';
import type { Database } from '../database/database.js';
import { Feed } from './feed.js';
import type { LogEntry } from './payload.js';

const roomId = '018f0000-0000-7000-8000-000000000001';
const entry = (seq: number): LogEntry => ({ seq, json: `{"seq":${seq}}` });

it('what was read for those who followed a room before is nothing for those who follow it now', async () => {
  const config = loadConfig({ DATABASE_URL: 'postgres://nowhere', JWT_ACCESS_SECRET: 'x'.repeat(32) });
  const feed = new Feed({} as Database, config, pino({ level: 'silent' }));
  let answer: (entries: readonly LogEntry[]) => void = () => undefined;
  Object.assign(feed, { reads: { read: () => new Promise((read) => (answer = read)) } });
  const delivered: number[] = [];
  feed.attach({ deliver: (_, entries) => delivered.push(...entries.map(({ seq }) => seq)), resync: () => undefined });

  const before = feed.follow(roomId);
  feed.open(before, 5);
  feed.open(before, 7); // 6 and 7 are read
  feed.unfollow(roomId);
  feed.open(feed.follow(roomId), 9);
  answer([entry(6), entry(7)]);
  await new Promise((turn) => setImmediate(turn));
  expect(delivered).toEqual([]);
});
