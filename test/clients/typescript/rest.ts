/** Lists rooms by the types that openapi-typescript makes of the OpenAPI document. The page size is a plain number. */
import createClient from 'openapi-fetch';
import type { paths } from './openapi.js';

const client = createClient<paths>({ baseUrl: process.argv[2] ?? '' });
const name = `ts-${process.pid}`;
const account = { username: name, email: `${name}@example.org`, password: 'a password of the client' };
const { data: registered, error } = await client.POST('/auth/register', { body: account });
if (registered === undefined) throw new Error(JSON.stringify(error));
const headers = { authorization: `Bearer ${registered.tokens.accessToken}` };
for (const room of ['one', 'two']) await client.POST('/rooms', { headers, body: { name: `${name} ${room}` } });
const { data: rooms } = await client.GET('/rooms', { headers, params: { query: { limit: 1, member: 'me' } } });
if (rooms?.length !== 1 || rooms[0]?.name !== `${name} two` || rooms[0].role !== 'owner') throw new Error(JSON.stringify(rooms));
