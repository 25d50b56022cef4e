/** What somebody does to the tables by hand. */
import { eventually } from '../../support/eventually.js';
import { oneNode, type Fault, type Scene } from './scene.js';
import { inSession } from './sql.js';

/** Without the triggers that keep the log as it was delivered. */
const byHand = <Row extends object>(scene: Scene, statement: string, values: unknown[]): Promise<Row> =>
  inSession(scene, async (client) => {
    await client.query('SET session_replication_role = replica');
    const { rows } = await client.query<Row & { [column: string]: unknown }>(statement, values);
    if (rows[0] === undefined) throw new Error(`nothing was changed by: ${statement}`);
    return rows[0];
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
    const { seq } = await byHand<{ seq: number }>(
      scene,
      'UPDATE rooms SET last_seq = last_seq + 1 WHERE id = $1 RETURNING last_seq::int AS seq',
      [room],
    );
    await told;
    // A message that is gone: a node that was not there comes to it, for a device that was away.
    const { row } = await byHand<{ row: { seq: number } }>(
      scene,
      `DELETE FROM messages WHERE room_id = $1 AND seq = (SELECT max(seq) FROM messages WHERE room_id = $1 AND seq <= $2)
       RETURNING to_json(messages) AS row`,
      [room, Math.floor(seq / 2)],
    );
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
    await byHand(scene, putBack, [row]);
    await byHand(scene, putBack, [{ ...row, seq, id: 0, client_msg_id: null, content: `${room} ${seq}` }]);
  },
} as const satisfies Record<string, Fault>;
