/** What one user may store on a node: by the socket and by REST, which count together. */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { TestClient } from './support/client.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, roomLog, type Person } from './support/people.js';
import { call } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

const limits = {
  RATE_LIMITS: 'on',
  USER_MESSAGES_PER_S: '5',
  USER_MESSAGES_BURST: '10',
  USER_BYTES_PER_HOUR: '1048576',
  USER_ROOMS_PER_HOUR: '2',
  USER_JOINS_PER_HOUR: '2',
  USER_CHANGES_PER_HOUR: '3',
  USER_INVITES_PER_HOUR: '1',
};

let db: TestDatabase;
let node: TestNode;
let ann: Person;
let bob: Person;

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url, limits);
});
beforeEach(async () => {
  [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
});
afterAll(async () => {
  await node.close();
  await db.drop();
});

const rest = (person: Person, method: string, path: string, body?: unknown) => call(node.url, path, { method, token: person.token, body });
/** @returns how many ms to wait */
const expectLimited = ({ status, headers, body }: Awaited<ReturnType<typeof rest>>): number => {
  expect({ status, body }).toMatchObject({ status: 429, body: { code: 'rate_limited' } });
  const retryAfterS = Number(headers.get('retry-after'));
  expect(retryAfterS).toBeGreaterThan(0);
  return retryAfterS * 1_000;
};

it('of many messages at once a burst is stored, in its order; each other one is refused with the time to wait, after which it is taken', async () => {
  const room = await createRoom(db.sql, [ann, bob]);
  const client = await TestClient.connect(node.url, ann.token);
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, n) => client.command('send_message', { room_id: room, content: `${n}`, client_msg_id: randomUUID() })),
  );
  const acked = answers.filter(({ event }) => event === 'message_ack');
  const refused = answers.filter(({ event }) => event === 'error');
  expect(acked.length).toBeGreaterThanOrEqual(10);
  expect(acked.length).toBeLessThan(30);
  expect(acked.length + refused.length).toBe(100);
  for (const { data } of refused) expect(data).toMatchObject({ code: 'rate_limited', temporary: true, retry_after_ms: expect.any(Number) });
  const log = await roomLog(db.sql, room);
  expect(log).toMatchObject({ contiguous: true, lastSeq: (await firstSeq(room)) + acked.length });
  const stored = log.contents.filter((content) => /^\d+$/.test(content)).map(Number);
  expect(stored).toEqual(stored.toSorted((a, b) => a - b));

  const sendByRest = () => rest(ann, 'POST', `/rooms/${room}/messages`, { content: 'by REST' });
  // On a slow machine there may be places again; each try takes one, faster than they come back.
  let byRest = await sendByRest();
  for (let n = 0; n < 20 && byRest.status === 201; n++) byRest = await sendByRest();
  await delay(expectLimited(byRest));
  expect((await sendByRest()).status).toBe(201);
  const other = await TestClient.connect(node.url, bob.token);
  expect(await other.command('send_message', { room_id: room, content: 'of another' })).toMatchObject({ event: 'message_ack' });
  await Promise.all([client.close(), other.close()]);
});

/** The events that the room began with. */
async function firstSeq(room: string): Promise<number> {
  const { rows } = await db.sql.query<{ n: number }>('SELECT count(*)::int AS n FROM room_events WHERE room_id = $1', [room]);
  return rows[0]?.n ?? 0;
}

it('bytes are counted too, whatever they are sent by', async () => {
  const room = await createRoom(db.sql, [ann]);
  const content = '😀'.repeat(65_536);
  const client = await TestClient.connect(node.url, ann.token);
  for (let n = 0; n < 4; n++) {
    const sent =
      n % 2 === 0
        ? await client.command('send_message', { room_id: room, content })
        : await rest(ann, 'POST', `/rooms/${room}/messages`, { content });
    expect(sent).toMatchObject(n % 2 === 0 ? { event: 'message_ack' } : { status: 201 });
  }
  expectLimited(await rest(ann, 'POST', `/rooms/${room}/messages`, { content }));
  expect(await client.command('send_message', { room_id: room, content })).toMatchObject({
    event: 'error',
    data: { code: 'rate_limited' },
  });
  await client.close();
});

it('rooms: so many an hour; a name that is taken is no room', async () => {
  const name = `room of ${ann.name}`;
  expect((await rest(ann, 'POST', '/rooms', { name })).status).toBe(201);
  for (let n = 0; n < 3; n++) expect((await rest(ann, 'POST', '/rooms', { name })).status).toBe(409);
  expect((await rest(ann, 'POST', '/rooms', { name: `${name} 2` })).status).toBe(201);
  expectLimited(await rest(ann, 'POST', '/rooms', { name: `${name} 3` }));
  expect((await rest(bob, 'POST', '/rooms', { name: `${name} 3` })).status).toBe(201);
});

it('joins: so many an hour, by the room or by an invitation; where one is a member already it is none, and leaving is always possible', async () => {
  const rooms = await Promise.all([1, 2, 3].map(() => createRoom(db.sql, [bob])));
  const [first, second, third] = rooms;
  const invite = (await rest(bob, 'POST', `/rooms/${second}/invites`, {})).body as { code: string };
  for (let n = 0; n < 5; n++) expect((await rest(ann, 'POST', `/rooms/${first}/join`)).status).toBe(200);
  expect((await rest(ann, 'POST', `/invites/${invite.code}/join`)).status).toBe(200);
  expectLimited(await rest(ann, 'POST', `/rooms/${third}/join`));
  expectLimited(await rest(ann, 'POST', `/invites/${invite.code}/join`));
  for (const room of rooms) expect((await rest(ann, 'POST', `/rooms/${room}/leave`)).status).toBe(200);
});

it('changes of rooms and members: so many an hour, of whatever kind', async () => {
  const name = `changed by ${ann.name}`;
  const { id } = (await rest(ann, 'POST', '/rooms', { name })).body as { id: string };
  expect((await rest(ann, 'POST', `/rooms/${id}/members`, { user_id: bob.id })).status).toBe(200);
  expect((await rest(ann, 'PUT', `/rooms/${id}/members/${bob.id}`, { role: 'admin' })).status).toBe(200);
  expect((await rest(ann, 'PATCH', `/rooms/${id}`, { description: 'changed' })).status).toBe(200);
  expectLimited(await rest(ann, 'PATCH', `/rooms/${id}`, { description: 'again' }));
  expectLimited(await rest(ann, 'POST', `/rooms/${id}/members`, { user_id: bob.id }));
  expectLimited(await rest(ann, 'PUT', `/rooms/${id}/members/${bob.id}`, { role: 'member' }));
  expectLimited(await rest(ann, 'DELETE', `/rooms/${id}/members/${bob.id}`));
  expectLimited(await rest(ann, 'PUT', `/rooms/${id}/bans/${bob.id}`));
  expectLimited(await rest(ann, 'DELETE', `/rooms/${id}/bans/${bob.id}`));
  expectLimited(await rest(ann, 'POST', `/rooms/${id}/owner`, { user_id: bob.id }));
  expect((await rest(ann, 'DELETE', `/rooms/${id}`)).status).toBe(200);
});

it('invitations: so many an hour', async () => {
  const room = await createRoom(db.sql, [ann]);
  expect((await rest(ann, 'POST', `/rooms/${room}/invites`, {})).status).toBe(201);
  expectLimited(await rest(ann, 'POST', `/rooms/${room}/invites`, {}));
});
