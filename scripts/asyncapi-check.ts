/** Holds docs/asyncapi.yaml against the specification of AsyncAPI, with the parser of its community. */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Parser } from '@asyncapi/parser';

const text = await readFile(resolve(import.meta.dirname, '../docs/asyncapi.yaml'), 'utf8');
const { document, diagnostics } = await new Parser().parse(text);
const found = diagnostics.filter(({ severity }) => severity <= 1);
for (const { message, path } of found) console.error(`docs/asyncapi.yaml: ${path.join('.')}: ${message}`);
if (document === undefined || found.length > 0) process.exitCode = 1;
