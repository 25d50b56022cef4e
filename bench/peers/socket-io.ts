/**
 * A node of the chat that most people write: Socket.IO with its adapter for PostgreSQL, and for each message one statement that takes the next seq
 * of the room and inserts, which is a transaction of its own; then `io.to(room).emit`. Choices, each to its advantage:
 * - one round trip a message instead of the four of BEGIN, UPDATE, INSERT, COMMIT; prepared;
 * - a pool of its own for the adapter, as large: with fewer connections its NOTIFYs fall behind the inserts;
 * - websocket alone, no compression, no connection state recovery (which this adapter hasn't).
 */
import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/postgres-adapter';
import pg from 'pg';
import { Server, type Socket } from 'socket.io';
import { claimsOf, servePeer, type Claims } from './peer-process.js';

/** What node-postgres gives by itself. */
const poolSize = 10;

interface Message extends Claims {
  readonly room_id: string;
  readonly seq: number;
  readonly id: number;
  readonly content: string;
  readonly created_at: Date;
}

type Reply = (answer: { seq: number; id: number; created_at: Date } | { last_seq: number } | { error: string }) => void;

interface Commands {
  join_room(command: { room_id: string }, reply: Reply): void;
  send_message(command: { room_id: string; content: string }, reply: Reply): void;
}

interface Pushes {
  new_message(message: Message): void;
}

type Io = Server<Commands, Pushes, Record<string, never>, Claims>;
type Client = Socket<Commands, Pushes, Record<string, never>, Claims>;

servePeer(async (databaseUrl) => {
  const pool = new pg.Pool({ connectionString: databaseUrl, max: poolSize });
  const adapterPool = new pg.Pool({ connectionString: databaseUrl, max: poolSize });
  for (const one of [pool, adapterPool]) one.on('error', (error) => console.error(error));

  const http = createServer();
  const io: Io = new Server(http, {
    transports: ['websocket'],
    serveClient: false,
    perMessageDeflate: false,
    adapter: createAdapter(adapterPool, { errorHandler: (error) => console.error(error) }),
  });
  io.use((socket, next) => {
    socket.data = claimsOf((socket.handshake.auth as { token: string }).token);
    next();
  });
  io.on('connection', (socket) => {
    const answering = (reply: Reply, answer: Promise<Parameters<Reply>[0]>): void =>
      void answer.catch((error: Error) => ({ error: error.message })).then(reply);
    socket.on('join_room', ({ room_id }, reply) => answering(reply, join(pool, socket, room_id)));
    socket.on('send_message', ({ room_id, content }, reply) => answering(reply, send(io, pool, socket.data, room_id, content)));
  });
  return Promise.resolve(http);
});

async function join(pool: pg.Pool, socket: Client, roomId: string): Promise<{ last_seq: number }> {
  await socket.join(roomId);
  const { rows } = await pool.query<{ last_seq: number }>(
    'SELECT last_seq FROM rooms JOIN room_members ON room_id = rooms.id WHERE rooms.id = $1 AND user_id = $2',
    [roomId, socket.data.user_id],
  );
  if (rows[0] !== undefined) return rows[0];
  await socket.leave(roomId);
  throw new Error('not_a_member');
}

async function send(
  io: Io,
  pool: pg.Pool,
  user: Claims,
  roomId: string,
  content: string,
): Promise<Pick<Message, 'seq' | 'id' | 'created_at'>> {
  const { rows } = await pool.query<Message>({
    name: 'send',
    text: `WITH room AS (
             UPDATE rooms SET last_seq = last_seq + 1
             WHERE id = $1 AND EXISTS (SELECT FROM room_members WHERE room_id = $1 AND user_id = $2)
             RETURNING last_seq
           )
           INSERT INTO messages (room_id, seq, user_id, username, content) SELECT $1, last_seq, $2, $3, $4 FROM room
           RETURNING room_id, seq, id, user_id, username, content, created_at`,
    values: [roomId, user.user_id, user.username, content],
  });
  const [message] = rows;
  if (message === undefined) throw new Error('not_a_member');
  io.to(roomId).emit('new_message', message);
  return { seq: message.seq, id: message.id, created_at: message.created_at };
}
