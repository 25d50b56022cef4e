import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { recordSession, withSession } from '../scripts/protocol-session.js';
import { startProcessNode } from './support/process-node.js';
import { createTestDatabase } from './support/test-database.js';

it('the session in docs/protocol.md is what a node says today (npm run docs:session)', async () => {
  const db = await createTestDatabase();
  const node = await startProcessNode({ DATABASE_URL: db.url });
  try {
    const text = await readFile(resolve(import.meta.dirname, '../docs/protocol.md'), 'utf8');
    expect(withSession(text, await recordSession(node.url))).toBe(text);
  } finally {
    await node.stop();
    await db.drop();
  }
});
