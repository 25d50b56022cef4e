/**
 * Floods nodes at a fixed rate, whatever they answer; started by suites/floods.ts. As cheap as it can be, for it shares the cores with what is
 * measured: requests are texts made beforehand but for a number, commands leave in bursts, and of answers no more is read than what they are.
 */
import { randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import type { FloodKind, FloodPlan, FloodResult, SendKind, ToFlood } from '../flood.js';
import { LeanSocket, textFrame } from '../lean-socket.js';

const tickMs = 10;
/** Requests without an answer; above it none are sent, so that what is measured is not the flood's own memory. */
const openMax = 4_000;
const socketsMax = 50;
/** Pairs of commands of one socket at a time. */
const burst = 10;

let sent = 0;
const answers: Record<string, number> = {};
let ending = false;

process.on('message', (message: ToFlood) => {
  if (message.kind === 'begin') return void begin(message.plan);
  ending = true;
  process.send?.({ sent, answers } satisfies FloodResult, () => process.exit());
});

async function begin(plan: FloodPlan): Promise<void> {
  const { kind } = plan;
  const send = kind === 'login' || kind === 'register' ? requests(plan) : isSend(kind) ? await sends(plan, kind) : commands(plan);
  const from = performance.now();
  setInterval(() => {
    let left = Math.floor(((performance.now() - from) / 1_000) * plan.perSecond) - sent;
    while (left > 0) {
      const just = send();
      if (just === 0) break;
      sent += just;
      left -= just;
    }
  }, tickMs);
}

/** @returns sends some and says how many: none where the nodes must first be rid of those before */
function requests({ kind, nodeUrls }: FloodPlan): () => number {
  let open = 0;
  return () => {
    if (open >= openMax) return 0;
    const url = new URL(nodeUrls[sent % nodeUrls.length] ?? '');
    const name = `flood-${process.pid}-${sent}`;
    const email = kind === 'register' ? `"email":"${name}@bench.test",` : '';
    const body = `{"username":"${name}",${email}"password":"a password of the flood"}`;
    const address = `10.${(sent >> 16) & 255}.${(sent >> 8) & 255}.${sent & 255}`;
    open++;
    const socket = connect({ host: url.hostname, port: Number(url.port) });
    socket.on('error', () => count('error'));
    socket.on('close', () => open--);
    socket.once('data', (data) => {
      count(data.toString('latin1', 9, 12));
      socket.destroy();
    });
    socket.write(
      `POST /auth/${kind} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\nX-Forwarded-For: ${address}\r\n` +
        `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    return 1;
  };
}

function commands({ kind, people }: FloodPlan): () => number {
  const names = kind === 'join' ? ['join_room', 'leave_room'] : ['typing_start', 'typing_stop'];
  const frame = (event: string, room_id: string) => textFrame(JSON.stringify({ event, data: { room_id } }));
  const ready: (() => void)[] = [];
  for (const { nodeUrl, token, roomId } of people.slice(0, socketsMax)) {
    const pairs = names
      .map((event) => frame(event, roomId))
      .join('')
      .repeat(burst);
    const socket: LeanSocket = new LeanSocket(
      new URL(nodeUrl),
      token,
      {
        frame: (bytes, start) => count(/\w+/.exec(bytes.toString('latin1', start + 10, start + 30))?.[0] ?? ''),
        closed: (code) => void (ending || count(`closed with ${code}`)),
      },
      () => {
        if (kind === 'typing') socket.write(frame('join_room', roomId));
        ready.push(() => socket.write(pairs));
      },
    );
  }
  return () => {
    if (ready.length === 0) return 0;
    ready[(sent / burst) % ready.length]?.();
    return burst;
  };
}

const isSend = (kind: FloodKind): kind is SendKind => !['login', 'register', 'join', 'typing'].includes(kind);

/** One account's sends, over sockets to each node; each of them also follows the room, so that what is stored is delivered. */
async function sends({ nodeUrls, people }: FloodPlan, kind: SendKind): Promise<() => number> {
  const [{ token, nodeUrl } = { token: '', nodeUrl: '' }] = people;
  const room = await fetch(new URL('/rooms', nodeUrl), {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: `flood of ${kind} ${process.pid}` }),
  });
  if (room.status !== 201) throw new Error(`the flood has no room: ${await room.text()}`);
  const { id: ownRoom } = (await room.json()) as { id: string };
  const room_id = kind === 'strangers' ? (people.find((person) => person.roomId !== people[0]?.roomId)?.roomId ?? '') : ownRoom;
  const client_msg_id = randomUUID();
  const emoji = Buffer.from('\u{1f600}').toString('latin1').repeat(65_000);
  const frames = (): string => {
    const key = kind === 'repeats' || kind === 'conflicts' ? client_msg_id : randomUUID();
    const content = kind === 'large' ? emoji : kind === 'conflicts' || kind === 'fresh' ? `${sent} ${Math.random()}` : 'of the flood';
    return textFrame(JSON.stringify({ event: 'send_message', data: { room_id, content, client_msg_id: key } }));
  };
  const ready: (() => number)[] = [];
  for (let n = 0; n < (kind === 'large' ? nodeUrls.length : socketsMax); n++) {
    const socket: LeanSocket = new LeanSocket(
      new URL(nodeUrls[n % nodeUrls.length] ?? ''),
      token,
      {
        frame: (bytes, start) => count(/\w+/.exec(bytes.toString('latin1', start + 10, start + 30))?.[0] ?? ''),
        closed: (code) => void (ending || count(`closed with ${code}`)),
      },
      () => {
        if (n < nodeUrls.length) socket.write(textFrame(JSON.stringify({ event: 'join_room', data: { room_id: ownRoom } })));
        ready.push(() => {
          if (socket.unsentBytes > 0) return 0;
          const messages = kind === 'large' ? 1 : burst;
          socket.write(Array.from({ length: messages }, frames).join(''));
          return messages;
        });
      },
    );
  }
  let next = 0;
  return () => ready[next++ % ready.length]?.() ?? 0;
}

function count(answer: string): void {
  answers[answer] = (answers[answer] ?? 0) + 1;
}
