/**
 * Takes one protection out of the built server: `node --import 'without.mjs?protection=…' dist/main.js`, which only tests do. It replaces methods
 * before the server begins; one that is not there any more ends the node, so that no sabotage is in vain without anybody seeing it.
 */
import 'reflect-metadata';

const { Feed } = await import('../../../dist/bus/feed.js');
const { RoomLog } = await import('../../../dist/bus/room-log.js');
const { Outbox } = await import('../../../dist/realtime/outbox.js');
const { Subscription } = await import('../../../dist/realtime/subscription.js');

const sabotages = {
  /** Heads are not compared, neither when LISTEN is had again nor once a second. */
  'catch-up on connect': () => replace(RoomLog, 'isOpen', { get: () => false }),

  /** What comes is passed on as it comes, by the feed and by each stream. */
  'order by seq': () => {
    replace(RoomLog, 'take', {
      value({ seq }) {
        if (this.head === undefined) return false;
        this.head = seq;
        return true;
      },
    });
    replace(Subscription, 'offer', {
      value(entries, frames) {
        if (this.state !== 'live') return;
        this.owner.outbox.put(frames);
        this.cursor = entries.at(-1).seq;
      },
    });
  },

  'gap repair': () => replace(Feed, 'repair', { value: async () => undefined }),

  'byte budget': () => replace(Outbox, 'hasRoom', { get: () => true }),
};

function replace({ prototype, name }, member, by) {
  const old = Object.getOwnPropertyDescriptor(prototype, member);
  if (old === undefined || 'get' in old !== 'get' in by) throw new Error(`${name} has no such ${member} any more`);
  Object.defineProperty(prototype, member, { ...by, configurable: true });
}

sabotages[new URL(import.meta.url).searchParams.get('protection')]();
