/**
 * A client of the protocol in one room: it connects, joins, and after any loss of the connection comes back with the last seq that it saw, and sends
 * again what was not acked, under the same client_msg_id.
 */
import exec from 'k6/execution';
import { setTimeout } from 'k6/timers';
import { WebSocket } from 'k6/websockets';
import { contentOf } from './content.js';
import { readFrame } from './frames.js';
import { connectFailed, connectMs, dropped, errors, resumed, resyncs, sent } from './metrics.js';
import { plan } from './plan.js';

const connecting = 0;
const open = 1;
const backoffMinMs = 200;
const backoffMaxMs = 5_000;

export class Client {
  isJoined = false;
  #user;
  #ledger;
  #on;
  #socket;
  #isWanted = false;
  #wasJoined = false;
  #failures = 0;
  #presentSince = Infinity;
  #unacked = new Map();

  /** @param on `joined()` each time it is in the room, `typing(data)` */
  constructor(user, ledger, on = {}) {
    this.#user = user;
    this.#ledger = ledger;
    this.#on = on;
  }

  connect() {
    this.#isWanted = true;
    const startedAt = Date.now();
    const socket = new WebSocket(`${plan.wsUrl}?token=${this.#user.token}`, null, { tags: { name: 'ws' } });
    let isOpen = false;
    this.#socket = socket;
    socket.addEventListener('open', () => {
      // k6 blocks for ever on the close of a socket that is not open yet, so who has left meanwhile closes it now.
      if (this.#socket !== socket) return socket.close();
      isOpen = true;
      if (this.#wasJoined) resumed.add(1);
      this.command('join_room', { room_id: this.#ledger.roomId, last_seen_seq: this.#ledger.last }, 'join');
    });
    socket.addEventListener('message', ({ data }) => this.#take(readFrame(data), startedAt));
    socket.addEventListener('close', () => {
      if (this.#socket === socket) this.#lost(isOpen);
    });
  }

  /** Goes away on purpose; `connect` resumes. */
  leave() {
    const socket = this.#socket;
    this.#isWanted = false;
    this.isJoined = false;
    this.#presentSince = Infinity;
    this.#socket = undefined;
    if (socket?.readyState !== connecting) socket?.close();
  }

  /** Nothing when there is no connection: the caller repeats it once joined, or does without. */
  command(event, data, id) {
    if (this.#socket?.readyState === open) this.#socket.send(JSON.stringify({ event, data, id }));
  }

  /** Sends message n of this sender, now or as soon as there is a connection. */
  send(n) {
    const data = {
      room_id: this.#ledger.roomId,
      content: contentOf(this.#user.index, n, Date.now()),
      client_msg_id: crypto.randomUUID(),
    };
    this.#unacked.set(data.client_msg_id, data);
    if (this.isJoined) this.#transmit(data);
  }

  #take({ event, data, id }, startedAt) {
    const now = Date.now();
    switch (event) {
      case 'messages':
      case 'history':
        this.#ledger.take(data, now, this.#presentSince);
        break;
      case 'joined_room':
        this.#joined(data, startedAt, now);
        break;
      case 'message_ack':
        this.#unacked.delete(data.client_msg_id);
        break;
      case 'resync':
        resyncs.add(1);
        this.#ledger.last = data.last_seq;
        break;
      case 'typing':
        this.#on.typing?.(data);
        break;
      case 'error':
        errors.add(1, { code: data.code });
        if (id === 'join') this.#socket?.close();
        break;
    }
  }

  #joined({ last_seq: lastSeq }, startedAt, now) {
    connectMs.add(now - startedAt);
    this.#ledger.last ??= lastSeq ?? null;
    if (this.#presentSince === Infinity) this.#presentSince = now;
    this.#failures = 0;
    this.isJoined = true;
    this.#wasJoined = true;
    for (const data of this.#unacked.values()) this.#transmit(data);
    this.#on.joined?.();
  }

  #transmit(data) {
    sent.add(1);
    this.command('send_message', data);
  }

  #lost(wasOpen) {
    this.isJoined = false;
    (wasOpen ? dropped : connectFailed).add(1);
    if (exec.instance.currentTestRunDuration >= plan.durationMs) return;
    const backoffMs = Math.min(backoffMaxMs, backoffMinMs * 2 ** this.#failures++) * (0.5 + Math.random() / 2);
    setTimeout(() => {
      if (this.#isWanted) this.connect();
    }, backoffMs);
  }
}
