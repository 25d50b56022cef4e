/**
 * Floods nodes at a fixed rate, whatever they answer; started by suites/floods.ts. As cheap as it can be, for it shares the cores with what is
 * measured: requests are texts made beforehand but for a number, commands leave in bursts, and of answers no more is read than what they are.
 */
import { connect } from 'node:net';
import type { FloodPlan, FloodResult, ToFlood } from '../flood.js';
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
  if (message.kind === 'begin') return begin(message.plan);
  ending = true;
  process.send?.({ sent, answers } satisfies FloodResult, () => process.exit());
});

function begin(plan: FloodPlan): void {
  const send = plan.kind === 'login' || plan.kind === 'register' ? requests(plan) : commands(plan);
  const from = performance.now();
  setInterval(() => {
    let left = Math.floor(((performance.now() - from) / 1_000) * plan.perSecond) - sent;
    while (left > 0) {
      const just = send();
      if (just === 0) return;
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

function count(answer: string): void {
  answers[answer] = (answers[answer] ?? 0) + 1;
}
