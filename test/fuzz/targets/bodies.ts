/** A body or query of REST: it comes out as the route's class has it, fit for PostgreSQL, or is refused in a few words. */
import assert from 'node:assert/strict';
import 'reflect-metadata';
import type { ArgumentMetadata, Type } from '@nestjs/common';
import * as auth from '../../../src/auth/auth.dto.js';
import * as message from '../../../src/chat/message.dto.js';
import { ClientError } from '../../../src/protocol/errors.js';
import { fieldsOf, type Dto } from '../../../src/rest/fields.js';
import { RestValidationPipe } from '../../../src/rest/validation.js';
import * as invite from '../../../src/rooms/invite.dto.js';
import * as member from '../../../src/rooms/member.dto.js';
import * as room from '../../../src/rooms/room.dto.js';

const classes = [auth, message, invite, member, room]
  .flatMap((file) => Object.values(file) as unknown[])
  .filter((one): one is Dto & Type => typeof one === 'function' && fieldsOf(one as Dto).size > 0);
const pipe = new RestValidationPipe();
const answerMaxChars = 8_192;

const id = '01890000-0000-7000-8000-00000000000a';
const example = (name: string): unknown =>
  ({ email: 'ann@example.org', limit: '10', private: true, all: false, role: 'admin', history: 'shared', member: 'me' })[name] ??
  (/id$|^before$|^author$/i.test(name) ? id : 'correct horse');
/** The first byte says which class. */
export const seeds = classes.map((one, n) =>
  Buffer.concat([
    Buffer.from([n]),
    Buffer.from(JSON.stringify(Object.fromEntries([...fieldsOf(one).keys()].map((name) => [name, example(name)])))),
  ]),
);

export async function fuzz(input: Buffer): Promise<void> {
  const metatype = classes[(input[0] ?? 0) % classes.length];
  if (metatype === undefined) return;
  let value: unknown;
  try {
    value = JSON.parse(input.toString('utf8', 1));
  } catch {
    return;
  }
  const metadata: ArgumentMetadata = { type: 'body', metatype };
  try {
    const body: unknown = await pipe.transform(value, metadata);
    if (typeof body !== 'object' || body === null) return;
    assert(body instanceof metatype);
    for (const [name, field] of Object.entries(body)) {
      assert(fieldsOf(metatype).has(name), `${name} came through`);
      if (field !== undefined && field !== null) assert(typeof field !== 'object', `${name} is ${typeof field}`);
      if (typeof field === 'string' && name !== 'content') assert(field.isWellFormed() && !field.includes('\0'), `${name} can't be stored`);
      if (typeof field === 'number') assert(Number.isSafeInteger(field));
    }
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
    assert.equal(error.code, 'invalid_payload');
    assert(JSON.stringify([error.message, error.details]).length <= answerMaxChars);
  }
}
