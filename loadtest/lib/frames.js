/**
 * What came, read and checked. Clients of one room receive the same frames, so a VU that plays many reads each frame once: parsed anew for every client, they
 * would take more CPU than the nodes.
 */
import { checkMessage } from './content.js';
import { plan } from './plan.js';

const keptMax = 256;
const kept = new Map();

/** The frame {event, data, id}; of one with messages `data` is what `batchOf` makes. */
export function readFrame(text) {
  const known = kept.get(text);
  if (known !== undefined) return known;
  const frame = read(JSON.parse(text));
  if (kept.size >= keptMax) kept.clear();
  kept.set(text, frame);
  return frame;
}

function read({ event, data, id }) {
  if (event === 'new_message_batch') return { event: 'messages', data: batchOf(data) };
  if (event === 'new_message') return { event: 'messages', data: batchOf([data]) };
  if (event === 'history') return { event, data: batchOf(data.messages ?? [], data.events ?? []) };
  if (event === 'room_event') return { event: 'messages', data: batchOf([], [data]) };
  return { event, data, id };
}

/** {entries: ascending, isRun: consecutive and all as they were sent, samples: when those were sent whose latency is taken} */
function batchOf(messages, events = []) {
  const entries = messages.map(checkMessage);
  for (const { room_id: roomId, seq } of events) entries.push({ roomId, seq, isEvent: true });
  if (events.length > 0) entries.sort((a, b) => a.seq - b.seq);
  const first = entries[0];
  const isRun = entries.every((entry, n) => !entry.problem && entry.seq === first.seq + n && entry.roomId === first.roomId);
  const samples = entries.filter(({ sentAt, seq }) => sentAt !== undefined && seq % plan.sampleEvery === 0).map(({ sentAt }) => sentAt);
  return { entries, isRun, samples, messages: messages.length };
}
