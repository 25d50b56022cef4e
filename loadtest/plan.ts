/** What a run consists of, worked out before anybody connects. The scripts in k6's language read it as plan.json. */
import { Unusable } from './unusable.js';

export const scenarios = {
  'chat-ws': { script: 'k6-chat-ws.js', title: 'Chat', vus: 720, intervalMs: 1_000 },
  'message-delivery': { script: 'k6-message-delivery.js', title: 'Message delivery', vus: 420, intervalMs: 80 },
} as const;

export type ScenarioName = keyof typeof scenarios;

export interface Scale {
  readonly vus: number;
  readonly durationMs: number;
  readonly intervalMs: number;
  /** A sender's; in the chat, who sends sends all the time. */
  readonly messages: number;
}

export interface Shape extends Scale {
  readonly title: string;
  /** How many users play what; they follow each other in the list of users. */
  readonly roles: Readonly<Record<string, { readonly from: number; readonly count: number }>>;
  /** Senders of each room. */
  readonly senders: readonly number[];
  /** Room of each user, as an index. */
  readonly places: readonly number[];
  /** Latency is taken of one seq in so many, at every client: every one would be millions of samples. */
  readonly sampleEvery: number;
  /** Before the first message everybody connects, and after the last one what is on its way arrives. */
  readonly gatherMs: number;
  readonly settleMs: number;
  /** Until the last sender has come. */
  readonly rampMs: number;
}

/** One room has so many of the chat's users. */
const usersPerRoom = 72;
const latencySamples = 250_000;
/** For a sender to connect and join. */
const joinMs = 1_000;

/** @throws Unusable when that can't be done in the time */
export function shapeOf(name: ScenarioName, scale: Scale): Shape {
  const { vus, durationMs, intervalMs } = scale;
  const gatherMs = between(2_000, durationMs / 12, 15_000);
  const settleMs = between(3_000, durationMs / 12, 10_000);
  const sendingMs = durationMs - gatherMs - settleMs - joinMs;
  const title = scenarios[name].title;
  const common = { ...scale, title, gatherMs, settleMs };

  if (name === 'message-delivery') {
    const rampMs = sendingMs - scale.messages * intervalMs;
    if (rampMs < 1_000)
      throw new Unusable(`${scale.messages} messages at ${intervalMs} ms do not fit into DURATION: make it longer, or MESSAGES fewer.`);
    const senders = between(1, (vus * 2) / 7, vus - 1);
    return { ...common, rampMs, ...crowd({ senders, receivers: vus - senders }, 1, scale.messages) };
  }

  const messages = Math.floor(sendingMs / intervalMs) - 1;
  if (messages < 1) throw new Unusable(`Nobody could send at INTERVAL_MS=${intervalMs}: make DURATION longer.`);
  const rooms = between(1, vus / usersPerRoom, vus);
  const senders = between(1, (vus * 5) / 18, vus);
  const churners = between(1, (vus * 5) / 36, vus);
  const counts = { senders, receivers: vus - senders - churners - 2 * rooms, churners, typists: 2 * rooms };
  return { ...common, messages, rampMs: 0, ...crowd(counts, rooms, messages) };
}

/** Spreads the users of each role evenly over the rooms, neighbours together: so the two of a pair of typists are in the same. */
function crowd(counts: { senders: number } & Record<string, number>, rooms: number, messages: number) {
  const placesOf = (count: number): number[] => Array.from({ length: count }, (_, n) => Math.floor((n * rooms) / count));
  const roles: Record<string, { from: number; count: number }> = {};
  const places: number[] = [];
  for (const [role, count] of Object.entries(counts)) {
    roles[role] = { from: places.length, count };
    places.push(...placesOf(count));
  }
  const senders = Array.from({ length: rooms }, (_, room) => placesOf(counts.senders).filter((place) => place === room).length);
  const deliveries = places.reduce((sum, room) => sum + (senders[room] ?? 0) * messages, 0);
  return { roles, places, senders, sampleEvery: Math.ceil(deliveries / latencySamples) };
}

const between = (min: number, value: number, max: number): number => Math.round(Math.min(max, Math.max(min, value)));
