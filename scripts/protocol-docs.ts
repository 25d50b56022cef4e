/**
 * Writes docs/asyncapi.yaml, and the tables of docs/protocol.md, each between its two markers, from src/protocol. Run it by
 * `npm run docs:protocol` after a change there; a test compares.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { asyncApiYaml } from '../src/docs/asyncapi.js';
import { closeCodes } from '../src/protocol/close-codes.js';
import { commandSchemas, type CommandName } from '../src/protocol/commands.js';
import { errorCodes } from '../src/protocol/errors.js';
import { limitMeanings, wireLimits } from '../src/protocol/limits.js';
import { messageSchema } from '../src/protocol/message.js';
import { pushSchemas } from '../src/protocol/pushes.js';
import { repliesTo, replySchemas, resyncReasons } from '../src/protocol/replies.js';
import { roomEventKinds } from '../src/protocol/room-event.js';
import { markdownTable, withSection } from './markdown.js';

const document = resolve(import.meta.dirname, '../docs/protocol.md');

const sentenceOf = (schema: object): string => (schema as { description?: string }).description ?? '';

/** The fields of an event's data; what may be missing has a question mark. */
function fieldsOf(schema: object): string {
  const { properties, items, required = [] } = schema as { properties?: object; items?: object; required?: readonly string[] };
  if (items !== undefined) return 'array of messages';
  const names = Object.keys(properties ?? {}).map((name) => `${name}${required.includes(name) ? '' : '?'}`);
  return names.length === 0 ? '' : `\`${names.join(', ')}\``;
}

const eventRows = (schemas: Readonly<Record<string, object>>) =>
  Object.entries(schemas).map(([event, schema]) => [`\`${event}\``, fieldsOf(schema), sentenceOf(schema)]);
const answersOf = (command: string): string => repliesTo[command as CommandName].map((reply) => `\`${reply}\``).join(', ');

const tables: Readonly<Record<string, readonly (readonly string[])[]>> = {
  commands: [
    ['Command', 'Data', 'Answered by', 'What it does'],
    ...Object.entries(commandSchemas).map(([command, schema]) => [
      `\`${command}\``,
      fieldsOf(schema),
      answersOf(command),
      sentenceOf(schema),
    ]),
  ],
  message: [
    ['Field', 'What it is'],
    ...Object.entries(messageSchema.properties).map(([field, schema]) => [
      `\`${field}${messageSchema.required.includes(field as never) ? '' : '?'}\``,
      sentenceOf(schema),
    ]),
  ],
  replies: [['Reply', 'Data', 'What it says'], ...eventRows(replySchemas)],
  pushes: [['Push', 'Data', 'What it says'], ...eventRows(pushSchemas)],
  'resync reasons': [['Reason', 'What it says'], ...Object.entries(resyncReasons).map(([reason, meaning]) => [`\`${reason}\``, meaning])],
  limits: [
    ['Limit', 'Value', 'What it is'],
    ...Object.entries(limitMeanings).map(([name, meaning]) => [
      `\`${name}\``,
      String(wireLimits[name as keyof typeof wireLimits]),
      meaning,
    ]),
  ],
  'room events': [['Kind', 'What it says'], ...Object.entries(roomEventKinds).map(([kind, meaning]) => [`\`${kind}\``, meaning])],
  'error codes': [
    ['Code', 'Status', 'Temporary', 'What it says'],
    ...Object.entries(errorCodes).map(([code, { status, temporary, meaning }]) => [
      `\`${code}\``,
      String(status),
      temporary ? 'yes' : 'no',
      meaning,
    ]),
  ],
  'close codes': [
    ['Code', 'What it says'],
    ...Object.values(closeCodes)
      .toSorted((a, b) => a.code - b.code)
      .map(({ code, meaning }) => [String(code), meaning]),
  ],
};

export const withProtocolTables = (text: string): string =>
  Object.entries(tables).reduce((result, [name, rows]) => withSection(result, name, markdownTable(rows)), text);

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeFile(document, withProtocolTables(await readFile(document, 'utf8')));
  await writeFile(resolve(import.meta.dirname, '../docs/asyncapi.yaml'), asyncApiYaml());
}
