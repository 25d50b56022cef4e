/** What is sent: the content says who sent it, as which of its messages and when, and the rest of it follows from that, so that it can be checked. */
import { plan } from './plan.js';

const phrases = [
  'Shall we meet at the usual place?',
  'Yes — half past six, "by the clock" \\ or a little later.',
  'Grüße aus Köln, naïve façade, Ωmega.',
  '明日の会議は三時からです。',
  '好的，我们明天见。',
  'مرحبا، كيف حالك؟',
  'On my way 🚲💨 👩‍👩‍👧',
  '<b>not bold</b> & {"json": [1, 2]}',
];

/** @param sentAt ms since 1970, of the clock that also reads the receipt */
export const contentOf = (sender, n, sentAt) => `${plan.runId} ${sender} ${n} ${sentAt} ${phrases[(sender + n) % phrases.length]}`;

/** The seq under which each message came first; 0 is none. */
const seqs = new Uint32Array(plan.roles.senders.count * plan.messages);

/** {roomId, seq, sender, sentAt}, or in the place of the last two a `problem`: what is wrong with the message, whoever receives it. */
export function checkMessage({ seq, content, username, room_id: roomId, user_id, id }) {
  const [, sender, n, sentAt] = String(content).split(' ', 4).map(Number);
  const isOurs = sender < plan.roles.senders.count && n < plan.messages && content === contentOf(sender, n, sentAt);
  if (!isOurs || username !== `${plan.runId}-${sender}` || typeof user_id !== 'string' || typeof id !== 'number' || !(seq > 0))
    return { roomId, seq, problem: 'changed' };

  const place = sender * plan.messages + n;
  if (seqs[place] !== 0 && seqs[place] !== seq) return { roomId, seq, problem: 'repeated' };
  seqs[place] = seq;
  const isOvertaken = n > 0 && seqs[place - 1] > seq;
  return { roomId, seq, sender, sentAt, ...(isOvertaken && { problem: 'overtaken' }) };
}
