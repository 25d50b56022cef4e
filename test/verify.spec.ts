import { randomUUID } from 'node:crypto';
import { runCommand } from './support/command.js';
import { createPerson, createRoom, type Person } from './support/people.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

describe('npm run verify', () => {
  let db: TestDatabase;
  let ann: Person;
  let bob: Person;
  beforeEach(async () => {
    db = await createTestDatabase();
    [ann, bob] = [await createPerson(db.sql, 'ann'), await createPerson(db.sql, 'bob')];
  });
  afterEach(() => db.drop());

  const verify = (...args: string[]) => runCommand('verify', args, { DATABASE_URL: db.url });
  const say = (room: string, { id }: Person, count = 1, key: string | null = null) =>
    db.sql.query(
      "INSERT INTO messages (room_id, user_id, content, client_msg_id) SELECT $1, $2, 'hello', $4 FROM generate_series(1, $3::int)",
      [room, id, count, key],
    );
  /** ann's, with bob from seq 3 to 5, and from 7 on. */
  async function livelyRoom(): Promise<string> {
    const room = await createRoom(db.sql, [ann]);
    await say(room, ann, 2);
    await db.sql.query('SELECT join_room($1, $2, $3)', [room, bob.id, bob.name]);
    await say(room, bob, 1, randomUUID());
    await db.sql.query("SELECT leave_room($1, $2, $2, 'left')", [room, bob.id]);
    await say(room, ann);
    await db.sql.query('SELECT join_room($1, $2, $3)', [room, bob.id, bob.name]);
    await say(room, bob, 3);
    return room;
  }
  /** As somebody with the rights of the owner could, past every guard. */
  const tamper = async (statement: string, values: unknown[]) => {
    const client = await db.sql.connect();
    await client.query("SET session_replication_role = 'replica'");
    await client.query(statement, values);
    await client.query('RESET session_replication_role');
    client.release();
  };

  it('finds nothing wrong with rooms that were only used', async () => {
    const room = await livelyRoom();
    const deleted = await createRoom(db.sql, [ann, bob]);
    await db.sql.query("SELECT append_room_event($1, 'deleted', $2, NULL, NULL)", [deleted, ann.id]);
    await db.sql.query('DELETE FROM room_members WHERE room_id = $1', [deleted]);
    await db.sql.query('UPDATE rooms SET deleted_at = now() WHERE id = $1', [deleted]);
    expect(await verify('--all')).toEqual({ code: 0, stdout: '2 rooms with 12 messages and events: all whole\n', stderr: '' });
    expect(await verify('--room', room)).toMatchObject({ code: 0, stdout: '1 room with 10 messages and events: all whole\n' });
  });

  it.each<[string, string, (room: string, whom: { ann: Person; bob: Person }) => unknown[], RegExp]>([
    [
      'a message that is gone',
      'DELETE FROM messages WHERE room_id = $1 AND seq = 4',
      (room) => [room],
      /the log has seq 5 where 4 should be/,
    ],
    [
      'an event that is gone',
      'DELETE FROM room_events WHERE room_id = $1 AND seq = 5',
      (room) => [room],
      /the log has seq 6 where 5 should be/,
    ],
    [
      'a head that is too high',
      'UPDATE rooms SET last_seq = 11 WHERE id = $1',
      (room) => [room],
      /last_seq is 11, and the log has 10 entries/,
    ],
    [
      'a seq that stands in both tables',
      "INSERT INTO messages (bucket, room_id, seq, user_id, username, content) VALUES (room_bucket($1), $1, 3, $2, 'ann', 'x')",
      (room, whom) => [room, whom.ann.id],
      /the log has seq 3 where 4 should be/,
    ],
    [
      'a member without a join',
      "INSERT INTO room_members (bucket, room_id, user_id, username, joined_seq) VALUES (room_bucket($1), $1, $2, 'x', 1)",
      (room) => [room, randomUUID()],
      /is a member, and by the events it is none/,
    ],
    [
      'a member that is missing',
      'DELETE FROM room_members WHERE room_id = $1 AND user_id = $2',
      (room, whom) => [room, whom.bob.id],
      /is no member, and by the events it is one/,
    ],
    [
      'a membership from another seq',
      'UPDATE room_members SET joined_seq = 3 WHERE room_id = $1 AND user_id = $2',
      (room, whom) => [room, whom.bob.id],
      /is a member since seq 3, and by the events since 7/,
    ],
    [
      'two owners',
      "UPDATE room_members SET role = 'owner' WHERE room_id = $1 AND user_id = $2",
      (room, whom) => [room, whom.bob.id],
      /the room has 2 owners/,
    ],
    [
      'a sender who was no member then',
      'UPDATE messages SET user_id = $2 WHERE room_id = $1 AND seq = 6',
      (room, whom) => [room, whom.bob.id],
      /was no member when it sent seq 6/,
    ],
    [
      'a sender who never was a member',
      'UPDATE messages SET user_id = $2 WHERE room_id = $1 AND seq IN (1, 2)',
      (room) => [room, randomUUID()],
      /was no member when it sent seq 1 and 1 more/,
    ],
  ])('finds %s', async (_, statement, valuesOf, problem) => {
    const room = await livelyRoom();
    await livelyRoom();
    await tamper(statement, valuesOf(room, { ann, bob }));
    const { code, stdout } = await verify('--all');
    expect([code, stdout]).toEqual([1, expect.stringMatching(problem)]);
    expect(stdout).toContain(`room ${room}: `);
    expect(stdout).toMatch(/2 rooms with \d+ messages and events: 1 of them not whole\n$/);
  });

  it('finds a client_msg_id that stands twice, past the index that should not let it', async () => {
    const room = await livelyRoom();
    await db.sql.query('DROP INDEX messages_client_msg_id_key');
    await tamper('UPDATE messages SET client_msg_id = $2 WHERE room_id = $1 AND seq IN (8, 9)', [room, randomUUID()]);
    expect(await verify('--room', room)).toMatchObject({ code: 1, stdout: expect.stringMatching(/stands at seq 8 and 9/) as string });
  });

  it('says how it is used', async () => {
    for (const args of [[], ['--all', '--room', randomUUID()], ['--room', 'lobby'], ['--rooms']])
      expect(await verify(...args)).toMatchObject({ code: 1, stderr: expect.stringContaining('Usage: npm run verify') as string });
    expect(await verify('--room', randomUUID())).toMatchObject({ code: 1, stderr: expect.stringContaining('There is no room') as string });
    expect(await verify('--help')).toMatchObject({ code: 0, stdout: expect.stringContaining('Usage') as string });
  });
});
