import { createTestDatabase } from './support/test-database.js';
import { startNode } from './support/node.js';

it('starts', async () => {
  const db = await createTestDatabase();
  const node = await startNode(db.url);
  expect((await fetch(node.url)).status).toBe(404);
  await node.close();
  await db.drop();
});
