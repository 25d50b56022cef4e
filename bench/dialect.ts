/** What the load generator and the nodes say to each other: Trunkline's protocol, or the same commands and messages by Socket.IO's. */
import { LeanSocket, textFrame, type FrameHandler } from './lean-socket.js';
import type { Person } from './plan.js';

export type DialectName = 'trunkline' | 'socket.io';

export type Answer =
  | { readonly kind: 'acked'; readonly id: number; readonly seq: number }
  | { readonly kind: 'refused'; readonly id: number; readonly code: string }
  | { readonly kind: 'joined'; readonly lastSeq: number }
  | { readonly kind: 'greeting' | 'unexpected' };

export interface Dialect {
  /** @param onOpen called when commands may be sent */
  connect(person: Person, handler: FrameHandler, onOpen: () => void): LeanSocket;
  join(roomId: string): string;
  /** @param content ASCII, without a quote or a backslash */
  send(id: number, roomId: string, content: string, clientMsgId?: string): string;
  answer(text: string): Answer;
  readonly live: LiveFrames;
}

/** What stands around the messages of a live frame, which are comma-separated, and before an event of the room. */
export interface LiveFrames {
  readonly batchStart: string;
  readonly batchEnd: string;
  readonly eventStart: string;
}

const ackStart = '{"event":"message_ack","id":';

const trunkline: Dialect = {
  connect: ({ nodeUrl, token }, handler, onOpen) => new LeanSocket(new URL(nodeUrl), token, handler, onOpen),
  join: (roomId) => textFrame(`{"event":"join_room","data":{"room_id":"${roomId}"}}`),
  send(id, roomId, content, clientMsgId) {
    const key = clientMsgId === undefined ? '' : `,"client_msg_id":"${clientMsgId}"`;
    return textFrame(`{"event":"send_message","id":${id},"data":{"room_id":"${roomId}","content":"${content}"${key}}}`);
  },
  answer(text) {
    if (text.startsWith(ackStart))
      return { kind: 'acked', id: Number.parseInt(text.slice(ackStart.length, ackStart.length + 16), 10), seq: seqIn(text) };
    const { event, id = 0, data } = JSON.parse(text) as { event: string; id?: number; data: { code?: string; last_seq?: number } };
    if (event === 'hello') return { kind: 'greeting' };
    if (event === 'error') return { kind: 'refused', id, code: data.code ?? '' };
    if (event === 'joined_room' && data.last_seq !== undefined) return { kind: 'joined', lastSeq: data.last_seq };
    return { kind: 'unexpected' };
  },
  live: { batchStart: '{"event":"new_message_batch","data":[', batchEnd: ']}', eventStart: '{"event":"room_event","data":' },
};

/** Types of packets: Engine.IO's, and after a `message` Socket.IO's (protocol version 4 and 5, https://socket.io/docs/v4/socket-io-protocol/). */
const packet = { open: '0', ping: '2', pong: '3', connect: '40', event: '42', ack: '43' } as const;

class SocketIoFrames implements FrameHandler {
  readonly socket: LeanSocket;
  private readonly connectFrame: string;

  constructor(
    { nodeUrl, token }: Person,
    private readonly handler: FrameHandler,
    private readonly onOpen: () => void,
  ) {
    this.connectFrame = textFrame(`${packet.connect}${JSON.stringify({ token })}`);
    this.socket = new LeanSocket(new URL(nodeUrl), token, this, () => undefined, '/socket.io/?EIO=4&transport=websocket');
  }

  frame(bytes: Buffer, start: number, end: number): void {
    const [type, kind] = bytes.toString('latin1', start, start + 2);
    if (type === packet.open) this.socket.write(this.connectFrame);
    else if (type === packet.ping) this.socket.write(textFrame(packet.pong));
    else if (`${type}${kind}` === packet.connect) this.onOpen();
    else this.handler.frame(bytes, start, end);
  }

  closed(code: number): void {
    this.handler.closed(code);
  }
}

const socketIo: Dialect = {
  connect: (person, handler, onOpen) => new SocketIoFrames(person, handler, onOpen).socket,
  join: (roomId) => textFrame(`${packet.event}0["join_room",{"room_id":"${roomId}"}]`),
  send: (id, roomId, content) => textFrame(`${packet.event}${id}["send_message",{"room_id":"${roomId}","content":"${content}"}]`),
  answer(text) {
    if (!text.startsWith(packet.ack)) return { kind: 'unexpected' };
    const id = Number.parseInt(text.slice(packet.ack.length, packet.ack.length + 16), 10);
    if (text.includes('"seq":')) return { kind: 'acked', id, seq: seqIn(text) };
    const [{ last_seq, error = '' } = {}] = JSON.parse(text.slice(text.indexOf('['))) as { last_seq?: number; error?: string }[];
    return last_seq === undefined ? { kind: 'refused', id, code: error } : { kind: 'joined', lastSeq: last_seq };
  },
  live: { batchStart: '42["new_message",', batchEnd: ']', eventStart: '42["room_event",' },
};

export const dialects: Readonly<Record<DialectName, Dialect>> = { trunkline, 'socket.io': socketIo };

const seqIn = (text: string): number => Number.parseInt(text.slice(text.indexOf('"seq":') + 6), 10);
