import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { asyncApiYaml } from '../../src/docs/asyncapi.js';
import { withProtocolTables } from '../../scripts/protocol-docs.js';

it('docs/protocol.md has every room event, error code and close code as the contract has it (npm run docs:protocol)', async () => {
  const text = await readFile(resolve(import.meta.dirname, '../../docs/protocol.md'), 'utf8');
  expect(withProtocolTables(text)).toBe(text);
});

it('docs/asyncapi.yaml is as the contract is (npm run docs:protocol)', async () => {
  expect(await readFile(resolve(import.meta.dirname, '../../docs/asyncapi.yaml'), 'utf8')).toBe(asyncApiYaml());
});

it('a document without its markers is refused', () => {
  expect(() => withProtocolTables('# Codes')).toThrow('needs <!-- commands -->');
});
