import { randomUUID } from 'node:crypto';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { createPerson, createRoom } from './support/people.js';
import { startProcessNode } from './support/process-node.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { call } from './support/rest.js';

describe('the log', () => {
  let db: TestDatabase;
  beforeAll(async () => {
    db = await createTestDatabase();
  });
  afterAll(() => db.drop());

  it('says who did what by request and connection id, at its most talkative, and never a token, a password or a body', async () => {
    const node = await startProcessNode({ DATABASE_URL: db.url, LOG_LEVEL: 'trace' });
    const post = async (path: string, body: object, token = '') => {
      const answer = await call(node.url, path, { token, body });
      return {
        id: answer.headers.get('x-request-id') ?? '',
        body: answer.body as { id: string; tokens: { accessToken: string; refreshToken: string } },
      };
    };
    const password = `password-${randomUUID()}`;
    const content = `content-${randomUUID()}`;
    const registered = await post('/auth/register', { username: 'ann', email: 'ann@example.org', password });
    const { accessToken, refreshToken } = registered.body.tokens;
    await post('/auth/login', { username: 'ann', password: `${password}x` });
    await post('/auth/refresh', { refreshToken: `${refreshToken}x` });
    const room = await post('/rooms', { name: 'lobby' }, accessToken);
    await post(`/rooms/${room.body.id}/messages`, { content }, accessToken);
    await expect(TestClient.connect(node.url, `${accessToken}x`)).rejects.toThrow('401');
    const client = await TestClient.connect(node.url, accessToken);
    const hello = await client.frame('hello');
    await client.send(room.body.id, content);
    await client.command('refresh_token', { token: 'nonsense' });
    for (let n = 0; n < 100; n++) client.raw(`{"event":"nonsense","data":{"token":"${accessToken}"}}`);
    await client.command('ping', {}).catch(() => undefined);
    await node.stop();

    const output = node.output();
    for (const secret of [password, content, accessToken, refreshToken]) expect(output).not.toContain(secret);
    expect(output).toContain(registered.id);
    expect(output).toContain(hello.data['connection_id']);
    for (const line of output.trim().split('\n'))
      expect(JSON.parse(line)).toMatchObject({ level: expect.any(Number), msg: expect.any(String), node: expect.any(String) });
  }, 60_000);

  it('says once, and not at each try, that a statement of the bus is refused; when it is not any more, clients get what they missed', async () => {
    const node = await startProcessNode({ DATABASE_URL: db.url, LOG_LEVEL: 'error' });
    const ann = await createPerson(db.sql);
    const room = await createRoom(db.sql, [ann]);
    for (const content of ['one', 'two'])
      await db.sql.query('INSERT INTO messages (room_id, user_id, content) VALUES ($1, $2, $3)', [room, ann.id, content]);
    await db.sql.query('ALTER FUNCTION message_json RENAME TO message_json_gone');
    const clients = [await TestClient.connect(node.url, ann.token), await TestClient.connect(node.url, ann.token)];
    for (const client of clients) await client.join(room, true);
    const refusals = () =>
      node
        .output()
        .split('\n')
        .filter((line) => line.includes('what a socket missed could not be read'));
    await eventually(() => refusals().length > 0);
    expect(JSON.parse(refusals()[0] ?? '')).toMatchObject({ level: 50, err: { code: '42883' } });
    await db.sql.query('ALTER FUNCTION message_json_gone RENAME TO message_json');
    for (const client of clients) {
      await client.reaches(room, 2);
      await client.close();
    }
    expect(refusals()).toHaveLength(1);
    await node.stop();
  }, 60_000);
});
