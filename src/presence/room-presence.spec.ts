import fc from 'fast-check';
import { limits } from '../protocol/limits.js';
import type { OnlineText } from '../protocol/encode.js';
import type { OnlineUser } from '../protocol/replies.js';
import { RoomPresence, type PresenceNews } from './room-presence.js';

/** A client as it should be: what it was told when it joined, and each news since. */
class Client {
  online: Set<string>;
  count: number;
  constructor(list: OnlineText) {
    this.online = namedIn(list);
    this.count = list.count;
  }
  take(news: PresenceNews): void {
    if (news.kind === 'count') {
      this.count = news.count;
    } else if (news.kind === 'list') {
      this.online = namedIn(news.list);
      this.count = news.list.count;
    } else {
      for (const { user_id, status } of news.changes) {
        if (status === 'online') this.online.add(user_id);
        else this.online.delete(user_id);
      }
      this.count = this.online.size;
    }
  }
}

const namedIn = ({ online }: OnlineText): Set<string> => new Set((JSON.parse(online) as OnlineUser[]).map(({ user_id }) => user_id));

const users = Array.from({ length: 130 }, (_, n) => `user-${n}`);
const nodes = ['a', 'b', 'c'];
const step = fc.oneof(
  fc.record({
    op: fc.constantFrom('on', 'off'),
    node: fc.constantFrom(...nodes),
    from: fc.nat(129),
    count: fc.integer({ min: 1, max: 130 }),
  }),
  fc.record({
    op: fc.constantFrom('drop', 'replace', 'news', 'join'),
    node: fc.constantFrom(...nodes),
    from: fc.nat(129),
    count: fc.nat(130),
  }),
);

it('whenever a client joins, what it was told then and each news since make what it would be told now', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const room = new RoomPresence();
      room.begin();
      const clients = [new Client(room.list)];
      const online = new Map(nodes.map((node) => [node, new Set<string>()]));
      let isCrowd = false;
      const tell = () => {
        const news = room.takeNews();
        if (news !== undefined) for (const client of clients) client.take(news);
        if (news !== undefined) isCrowd = news.kind === 'count';
        expect(room.hasNews).toBe(false);
        const truth = new Set([...online.values()].flatMap((of) => [...of]));
        for (const client of clients) {
          expect(client.count).toBe(truth.size);
          if (truth.size <= limits.onlineListMax * 0.8) expect(client.online).toEqual(truth);
        }
        expectListed();
      };
      const expectListed = () => {
        const truth = new Set([...online.values()].flatMap((of) => [...of]));
        const named = namedIn(room.list);
        expect(room.list.count).toBe(truth.size);
        expect(named.size).toBe(Math.min(truth.size, limits.onlineListMax));
        for (const user of named) expect(truth).toContain(user);
      };
      for (const { op, node, from, count } of steps) {
        const some = users.slice(from, from + count);
        const ofNode = online.get(node) ?? new Set();
        if (op === 'on') for (const user of some) room.on(user, user, node);
        if (op === 'on') for (const user of some) ofNode.add(user);
        if (op === 'off') for (const user of some) room.off(user, node);
        if (op === 'off') for (const user of some) ofNode.delete(user);
        if (op === 'drop') room.drop(node);
        if (op === 'drop') ofNode.clear();
        if (op === 'replace') {
          room.replace([{ nodeId: node, users: some.map((user) => ({ userId: user, username: user })) }], [node]);
          online.set(node, new Set(some));
        }
        if (op === 'news') tell();
        if (op === 'join') clients.push(new Client(room.list));
        if (isCrowd || !room.hasNews) expectListed();
      }
      tell();
    }),
    { numRuns: 200 },
  );
});

it('who goes and comes back before anybody was told makes no news', () => {
  const room = new RoomPresence();
  room.on('ann', 'Ann', 'a');
  room.begin();
  room.off('ann', 'a');
  room.on('ann', 'Ann', 'b');
  expect(room.takeNews()).toBeUndefined();
  room.off('ann', 'b');
  expect(room.takeNews()).toEqual({ kind: 'each', changes: [{ user_id: 'ann', username: 'Ann', status: 'offline' }] });
});

it('what is read of some nodes says nothing of the others', () => {
  const room = new RoomPresence();
  room.on('ann', 'Ann', 'lives');
  room.on('bob', 'Bob', 'writes anew');
  room.begin();
  room.replace([], ['lives']);
  expect(room.takeNews()).toMatchObject({ changes: [{ user_id: 'ann', status: 'offline' }] });
});

it('of many online only the number is told, and when it is few again, all of them', () => {
  const room = new RoomPresence();
  room.begin();
  for (const user of users) room.on(user, user, 'a');
  expect(room.takeNews()).toEqual({ kind: 'count', count: users.length });
  for (const user of users.slice(0, 40)) room.off(user, 'a');
  expect(room.takeNews()).toEqual({ kind: 'count', count: 90 });
  for (const user of users.slice(40, 60)) room.off(user, 'a');
  expect(room.takeNews()).toMatchObject({ kind: 'list', list: { count: 70 } });
  for (const user of users.slice(0, 25)) room.on(user, user, 'a');
  expect(room.takeNews()).toMatchObject({ kind: 'each' });
});

it('who is listed of many follows those who go, and those who come where there is a place', () => {
  const room = new RoomPresence();
  for (const user of users.slice(0, 101)) room.on(user, user, 'a');
  room.begin();
  expect(namedIn(room.list)).toEqual(new Set(users.slice(0, 100)));
  room.off('user-0', 'a');
  expect(namedIn(room.list)).toEqual(new Set(users.slice(1, 101)));
  room.off('user-1', 'a');
  expect(room.list.count).toBe(99);
  expect(namedIn(room.list)).toEqual(new Set(users.slice(2, 101)));
  room.on('user-0', 'user-0', 'a');
  expect(namedIn(room.list)).toEqual(new Set([...users.slice(2, 101), 'user-0']));
});
