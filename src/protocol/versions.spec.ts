import { createHash } from 'node:crypto';
import { closeCodes } from './close-codes.js';
import { commandSchemas } from './commands.js';
import { errorCodes } from './errors.js';
import { limits } from './limits.js';
import { pushSchemas } from './pushes.js';
import { repliesTo, replySchemas } from './replies.js';
import { contractVersions } from './versions.js';

const contract = {
  commands: commandSchemas,
  replies: replySchemas,
  pushes: pushSchemas,
  repliesTo,
  limits,
  errors: Object.fromEntries(Object.entries(errorCodes).map(([code, { status, temporary }]) => [code, { status, temporary }])),
  closeCodes: Object.fromEntries(Object.entries(closeCodes).map(([name, { code }]) => [name, code])),
};

/** Keys in order, and without sentences: a field may be named description, but then it is no string. */
const canonical = (value: unknown): string =>
  JSON.stringify(value, (key, part: unknown) => {
    if (key === 'description' && typeof part === 'string') return undefined;
    if (typeof part !== 'object' || part === null || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  });
const hashOf = (value: unknown): string => createHash('sha256').update(canonical(value)).digest('hex');

it('whoever changes the contract says so: a new first entry in src/protocol/versions.ts with the hash that this test received', () => {
  expect(contractVersions[0].hash).toBe(hashOf(contract));
});

it('a change of what is on the wire changes the hash, another sentence does not', () => {
  const { pong } = replySchemas;
  const wire = { ...contract, replies: { ...replySchemas, pong: { ...pong, properties: { at: { type: 'string' } } } } };
  const sentence = { ...contract, replies: { ...replySchemas, pong: { ...pong, description: 'Another sentence.' } } };
  const field = { ...contract, replies: { ...replySchemas, pong: { ...pong, properties: { description: { type: 'string' } } } } };
  expect(new Set([contract, wire, field].map(hashOf)).size).toBe(3);
  expect(hashOf(sentence)).toBe(hashOf(contract));
});

it('versions go up, each with its date and what changed', () => {
  const numbers = contractVersions.map(({ version }) => version.split('.').reduce((sum, part) => sum * 1_000 + Number(part), 0));
  expect(numbers).toEqual([...new Set(numbers)].toSorted((a, b) => b - a));
  expect(new Set(contractVersions.map(({ hash }) => hash)).size).toBe(contractVersions.length);
  for (const { date, changes } of contractVersions) {
    expect(new Date(date).toISOString().slice(0, 10)).toBe(date);
    expect(changes).toMatch(/^[A-Z].+\.$/);
  }
});
