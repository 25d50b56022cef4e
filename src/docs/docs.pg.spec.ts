import { startNode, type TestNode } from '../../test/support/node.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { asyncApiYaml } from './asyncapi.js';

let db: TestDatabase;
let node: TestNode;
beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url);
});
afterAll(async () => {
  await node.close();
  await db.drop();
});

it('a node serves the contract of its socket to anybody', async () => {
  const answer = await fetch(`${node.url}/docs/asyncapi.yaml`);
  expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/yaml; charset=utf-8']);
  expect(await answer.text()).toBe(asyncApiYaml());
});
