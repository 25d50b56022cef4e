/**
 * The limit of a fan-out: it writes buffers to raw sockets in a loop, and knows nothing else. It speaks as much of the protocol as the load needs, so
 * that the same receivers read it in the same closed loop: each send is answered with the next seq of its room, and as soon as a room has as many sends
 * as a frame is to have messages, one frame is made and written to all the room's sockets. What it sends is one message over and over, but for the seq.
 */
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { encodeBatch } from '../../src/protocol/encode.js';
import { textFrame } from '../../src/realtime/frame.js';
import { serveCalls } from '../calls.js';

const handshake = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
/** The load masks its frames with 0, so that they can be read as they are. */
const commands = /\{"event":"(\w+)",(?:"id":(\d+),)?"data":\{"room_id":"([0-9a-f-]+)"/g;

interface ServeOptions {
  /** JSON of a message as nodes send it. */
  readonly message: string;
  /** On average, at least 1. */
  readonly messagesPerFrame: number;
}

class Room {
  readonly sockets: Socket[] = [];
  seq = 0;
  private written = 0;
  private frames = 0;
  private readonly start: string;
  private readonly end: string;

  constructor(
    roomId: string,
    message: string,
    private readonly messagesPerFrame: number,
  ) {
    this.start = `{"room_id":"${roomId}","seq":`;
    this.end = message.slice(message.indexOf(',"id":'));
  }

  writeWholeFrames(): void {
    for (let end = this.nextEnd; end <= this.seq; end = this.nextEnd) this.write(end - this.written);
  }

  writeRest(): void {
    if (this.seq > this.written) this.write(this.seq - this.written);
  }

  /** The seq with which the next frame ends. */
  private get nextEnd(): number {
    return Math.floor((this.frames + 1) * this.messagesPerFrame);
  }

  private write(count: number): void {
    const frame = textFrame(encodeBatch(Array.from({ length: count }, () => `${this.start}${++this.written}${this.end}`)));
    this.frames++;
    for (const socket of this.sockets) socket.write(frame);
  }
}

const rooms = new Map<string, Room>();
let options: ServeOptions = { message: '', messagesPerFrame: 1 };

const calls = {
  async serve(given: ServeOptions): Promise<{ url: string }> {
    options = given;
    const server = createServer({ noDelay: true }, serveSocket);
    server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 });
    await once(server, 'listening');
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
  },

  /** Writes what does not make a whole frame. @returns the last seq of each room */
  async finish(): Promise<Record<string, number>> {
    for (const room of rooms.values()) room.writeRest();
    return Object.fromEntries([...rooms].map(([roomId, { seq }]) => [roomId, seq]));
  },
};

export type FanOutLoopCalls = typeof calls;

serveCalls(calls);

function serveSocket(socket: Socket): void {
  let rest: string | undefined;
  socket.on('error', () => undefined); // 'close' follows
  socket.on('data', (bytes) => {
    if (rest === undefined) {
      rest = '';
      socket.write(handshake);
      return;
    }
    rest = accept(socket, rest + bytes.toString('latin1'));
  });
}

/** @returns what is not read yet: a command that is not all there */
function accept(socket: Socket, text: string): string {
  let answers = '';
  let end = 0;
  const touched = new Set<Room>();
  for (const command of text.matchAll(commands)) {
    const [all, event, id, roomId = ''] = command;
    end = command.index + all.length;
    const room = roomOf(roomId);
    if (event === 'join_room') {
      room.sockets.push(socket);
      socket.write(textFrame(`{"event":"joined_room","data":{"room_id":"${roomId}","last_seq":0}}`));
    } else {
      touched.add(room);
      const ack = `{"event":"message_ack","id":${id},"data":{"room_id":"${roomId}","seq":${++room.seq}}}`;
      answers += String.fromCharCode(0x81, ack.length) + ack; // fewer than 126 characters
    }
  }
  if (answers !== '') socket.write(answers, 'latin1');
  for (const room of touched) room.writeWholeFrames();
  return text.slice(end);
}

function roomOf(roomId: string): Room {
  const room = rooms.get(roomId) ?? new Room(roomId, options.message, options.messagesPerFrame);
  rooms.set(roomId, room);
  return room;
}
