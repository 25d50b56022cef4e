import { TestClient } from './support/client.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, roomLog } from './support/people.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

describe('the circle, on two nodes', () => {
  let db: TestDatabase;
  let one: TestNode;
  let two: TestNode;

  beforeAll(async () => {
    db = await createTestDatabase();
    [one, two] = await Promise.all([startNode(db.url), startNode(db.url)]);
  });
  afterAll(async () => {
    await Promise.all([one.close(), two.close()]);
    await db.drop();
  });

  it('a message sent on one node arrives on both, exactly once, and is acked with its seq', async () => {
    const [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
    const room = await createRoom(db.sql, [ann, bob]);
    const [a, b] = [await TestClient.connect(one.url, ann.token), await TestClient.connect(two.url, bob.token)];
    expect((await a.frame('hello')).data).toMatchObject({ user_id: ann.id });
    expect((await a.join(room)).data).toMatchObject({ room_id: room, last_seq: 1 });
    await b.join(room);

    const seq = await a.send(room, 'hello, world');
    expect(seq).toBe(2);
    await Promise.all([a.reaches(room, 2), b.reaches(room, 2)]);
    expect(b.messages).toEqual([
      {
        id: expect.any(Number),
        seq: 2,
        room_id: room,
        user_id: ann.id,
        username: ann.name,
        content: 'hello, world',
        client_msg_id: expect.any(String),
        created_at: expect.stringMatching(/Z$/),
      },
    ]);
    expect(a.messages).toEqual(b.messages);
    await Promise.all([a.close(), b.close()]);
  });

  it('what many send at once arrives everywhere in the same order, without a hole', async () => {
    const people = await Promise.all(Array.from({ length: 6 }, () => createPerson(db.sql)));
    const room = await createRoom(db.sql, people);
    const clients = await Promise.all(people.map((person, n) => TestClient.connect(n % 2 === 0 ? one.url : two.url, person.token)));
    await Promise.all(clients.map((client) => client.join(room)));
    await Promise.all(clients.map(async (client, n) => Promise.all(Array.from({ length: 200 }, (_, k) => client.send(room, `${n}:${k}`)))));
    const log = await roomLog(db.sql, room);
    expect(log.contiguous).toBe(true);
    expect(log.lastSeq).toBe(5 + 1_200);
    await Promise.all(clients.map((client) => client.reaches(room, log.lastSeq)));
    for (const client of clients) {
      expect(client.violations).toEqual([]);
      expect(client.contents(room).slice(1)).toEqual(log.contents.slice(5));
    }
    // FIFO: each sender's messages stand in the order in which it sent them.
    for (const n of people.keys()) {
      expect(log.contents.filter((content) => content.startsWith(`${n}:`))).toEqual(Array.from({ length: 200 }, (_, k) => `${n}:${k}`));
    }
    await Promise.all(clients.map((client) => client.close()));
  });
});
