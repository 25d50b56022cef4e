import { randomUUID } from 'node:crypto';
import { TestClient } from './support/client.js';
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
});
