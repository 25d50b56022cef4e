/** What somebody does to the tables by hand. */
import { eventually } from '../../support/eventually.js';
import { oneNode, type Fault, type Scene } from './scene.js';
import { inSession } from './sql.js';

/** One transaction without the triggers that keep the log as it was delivered. Resolves with the first row of its last statement. */
const byHand = <Row extends object>(scene: Scene, ...statements: (readonly [text: string, values: unknown[]])[]): Promise<Row> =>
  inSession(scene, async (client) => {
    await client.query('BEGIN');
    await client.query('SET LOCAL session_replication_role = replica');
    let row: Row | undefined;
    for (const [text, values] of statements) {
      row = (await client.query<Row & { [column: string]: unknown }>(text, values)).rows[0];
      if (row === undefined) throw new Error(`no row came of: ${text}`);
    }
    await client.query('COMMIT');
    return row as Row;
  });

const putBack = 'INSERT INTO messages SELECT * FROM json_populate_record(NULL::messages, $1) RETURNING seq';

/** Resolves when the node has told somebody of the hole, or when the user is given, that user. */
const isTold = (scene: Scene, room: string, userId?: string): Promise<unknown> => {
  const from = scene.events.length;
  const told = () =>
    scene.events
      .slice(from)
      .some(
        (event) =>
          event.type === 'resync' && event.room === room && event.reason === 'gap_in_log' && [event.user, undefined].includes(userId),
      );
  return eventually(told, 'a client to be told of the hole', 15_000);
};

export const tableFaults = {
  'holes in a log': async (scene) => {
    const [room = ''] = scene.rooms; // whose history all members may read
    const [, client] = scene.clients;
    if (client === undefined) return;
    // A seq that nothing was stored under: all who follow the room come to it.
    const told = isTold(scene, room);
    // Its author, when the hole is filled, is somebody who was a member at that seq: a statement of its own, so that it is read under the room's lock.
    const { seq, ...author } = await byHand<{ seq: number; user_id: string; username: string }>(
      scene,
      ['UPDATE rooms SET last_seq = last_seq + 1 WHERE id = $1 RETURNING id', [room]],
      [
        `SELECT r.last_seq::int AS seq, m.user_id, m.username FROM rooms AS r JOIN room_members AS m ON m.room_id = r.id
         WHERE r.id = $1 AND m.joined_seq < r.last_seq LIMIT 1`,
        [room],
      ],
    );
    await told;
    // A message that is gone: a node that was not there comes to it, for a device that was away.
    const { row } = await byHand<{ row: { seq: number } }>(scene, [
      `DELETE FROM messages WHERE room_id = $1 AND seq = (SELECT max(seq) FROM messages WHERE room_id = $1 AND seq <= $2)
       RETURNING to_json(messages) AS row`,
      [room, Math.floor(seq / 2)],
    ]);
    const node = oneNode(scene);
    await node.stop('SIGKILL');
    await node.start();
    const metrics = await node.scrape();
    client.moveTo([node.url]);
    const toldAgain = isTold(scene, room, client.user.id);
    client.rewind(room, row.seq - 5);
    await toldAgain;
    const counted = (await node.scrape()).sum('trunkline_log_holes_total') - metrics.sum('trunkline_log_holes_total');
    if (counted < 1) throw new Error('the hole was not counted');
    client.moveTo(scene.world.nodes.map(({ url }) => url));
    await byHand(scene, [putBack, [row]], [putBack, [{ ...row, ...author, seq, id: 0, client_msg_id: null, content: `${room} ${seq}` }]]);
  },
} as const satisfies Record<string, Fault>;
