/**
 * A node of the usual design on `ws`: each message is one INSERT, which is a transaction of its own; row triggers give it its seq and NOTIFY, and each
 * node LISTENs and sends every message to its sockets of the room. It speaks as much of Trunkline's protocol as the load needs. Choices, each to its advantage:
 * - the statement is prepared, and one round trip a message;
 * - the payload has the whole message, so that no node reads the table, and it is framed as one buffer for all sockets;
 * - no compression; no queue of its own in front of the pool.
 */
import { createServer } from 'node:http';
import pg from 'pg';
import { WebSocketServer, type RawData, type WebSocket } from 'ws';
import { claimsOf, servePeer, type Claims } from './peer-process.js';

/** What node-postgres gives by itself. */
const poolSize = 10;

interface Command {
  readonly event: string;
  readonly id?: number;
  readonly data: { readonly room_id: string; readonly content: string };
}

servePeer(async (databaseUrl) => {
  const pool = new pg.Pool({ connectionString: databaseUrl, max: poolSize });
  pool.on('error', (error) => console.error(error));
  const socketsOfRoom = new Map<string, Set<WebSocket>>();
  await listen(databaseUrl, socketsOfRoom);

  const http = createServer();
  const server = new WebSocketServer({ server: http, perMessageDeflate: false, maxPayload: 65_536 });
  server.on('connection', (socket, { headers }) => {
    const user = claimsOf(headers.authorization?.slice('Bearer '.length) ?? '');
    const joined = new Set<string>();
    socket.on('error', () => undefined); // 'close' follows
    socket.on('close', () => {
      for (const roomId of joined) socketsOfRoom.get(roomId)?.delete(socket);
    });
    socket.on('message', (frame: RawData) => {
      const { event, id, data } = JSON.parse((frame as Buffer).toString()) as Command;
      const say = (name: string, what: object): void =>
        socket.send(JSON.stringify({ event: name, ...(id !== undefined && { id }), data: what }));
      const answer = event === 'join_room' ? join(pool, user, data.room_id) : send(pool, user, data.room_id, data.content);
      answer.then(
        (reply) => {
          if (event !== 'join_room') return say('message_ack', reply);
          joined.add(data.room_id);
          socketsOfRoom.set(data.room_id, (socketsOfRoom.get(data.room_id) ?? new Set()).add(socket));
          say('joined_room', reply);
        },
        (error: Error) => say('error', { code: error.message }),
      );
    });
    socket.send(JSON.stringify({ event: 'hello', data: { user_id: user.user_id } }));
  });
  return http;
});

async function listen(databaseUrl: string, socketsOfRoom: ReadonlyMap<string, ReadonlySet<WebSocket>>): Promise<void> {
  const listener = new pg.Client({ connectionString: databaseUrl });
  await listener.connect();
  listener.on('notification', ({ payload = '' }) => {
    const { room_id } = JSON.parse(payload) as { room_id: string };
    const sockets = socketsOfRoom.get(room_id);
    if (sockets === undefined) return;
    const frame = Buffer.from(`{"event":"new_message_batch","data":[${payload}]}`);
    for (const socket of sockets) socket.send(frame, { binary: false });
  });
  await listener.query('LISTEN messages');
}

async function join(pool: pg.Pool, user: Claims, roomId: string): Promise<object> {
  const { rows } = await pool.query<{ room_id: string; last_seq: number }>(
    'SELECT room_id, last_seq FROM rooms JOIN room_members ON room_id = rooms.id WHERE rooms.id = $1 AND user_id = $2',
    [roomId, user.user_id],
  );
  if (rows[0] === undefined) throw new Error('not_a_member');
  return rows[0];
}

async function send(pool: pg.Pool, user: Claims, roomId: string, content: string): Promise<object> {
  const { rows } = await pool.query<{ room_id: string; seq: number; id: number; created_at: Date }>({
    name: 'send',
    text: 'INSERT INTO messages (room_id, user_id, content) VALUES ($1, $2, $3) RETURNING room_id, seq, id, created_at',
    values: [roomId, user.user_id, content],
  });
  return rows[0] ?? {};
}
