import { extname } from 'node:path';
import { pino } from 'pino';
import { parse } from 'yaml';
import { createApp } from '../app.js';
import { loadConfig } from '../config.js';
import { startNode, testSecret, type TestNode } from '../../test/support/node.js';
import { document } from '../../test/support/openapi.js';
import { call } from '../../test/support/rest.js';
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

it('every route that a node has is in the document, and the document has no other', async () => {
  const config = loadConfig({ DATABASE_URL: db.url, JWT_ACCESS_SECRET: testSecret, LOG_LEVEL: 'silent' });
  const app = await createApp(config, pino({ level: 'silent' }));
  const routes: string[] = [];
  app
    .getHttpAdapter()
    .getInstance()
    .addHook('onRoute', ({ method, url }) => {
      for (const one of [method].flat()) if (one !== 'HEAD') routes.push(`${one} ${url.replaceAll(/:(\w+)/g, '{$1}')}`);
    });
  await app.init();
  await app.close();
  const documented = Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(routes.length).toBeGreaterThan(30);
  expect(routes.toSorted()).toEqual(documented.toSorted());
});

it('the document is served to anybody, as it is built without a node', async () => {
  const { status, body } = await call(node.url, '/docs/openapi.json');
  expect([status, body]).toEqual([200, JSON.parse(JSON.stringify(document))]);
});

it('the contract of the socket is served to anybody, as YAML and as JSON', async () => {
  const { status, body } = await call(node.url, '/docs/asyncapi.yaml');
  expect([status, body]).toEqual([200, asyncApiYaml()]);
  expect(await call(node.url, '/docs/asyncapi.json')).toMatchObject({ status: 200, body: parse(asyncApiYaml()) as object });
});

const types: Record<string, string> = { '.css': 'text/css', '.js': 'text/javascript', '.yaml': 'application/yaml' };

it('the page and all that it loads are served to anybody by the node itself', async () => {
  const { body: html, headers } = await call(node.url, '/docs');
  expect(headers.get('content-security-policy')).toMatch(/^default-src 'none'; script-src 'self';/);
  const files = Array.from(String(html).matchAll(/(?:src|href)="([^"]+)"/g), ([, file]) => String(file));
  expect(files).toHaveLength(4);
  for (const file of files) {
    expect(file).toMatch(/^docs\//);
    const { status, headers: ofFile, body } = await call(node.url, `/${file}`);
    expect(status).toBe(200);
    expect(ofFile.get('content-type')).toBe(`${types[extname(file)]}; charset=utf-8`);
    expect(String(body).length).toBeGreaterThan(50);
  }
  expect((await call(node.url, '/docs/package.json')).status).toBe(404);
});
