import fc from 'fast-check';
import { check } from './check.js';
import {
  place,
  type Alarms,
  type Counted,
  type Event,
  type Fault,
  type History,
  type Invariant,
  type Ok,
  type Receive,
  type Resources,
  type Rest,
} from './history.js';
import { diceOf, type Dice } from './dice.js';
import { play } from './model.js';

/** Breaks a good history in one way; undefined where it has nothing of the kind. */
type Mutation = (history: History, dice: Dice) => History | undefined;

const isReceive = (event: Event): event is Receive => event.type === 'receive';
const isStored = (event: Event): event is Ok => event.type === 'ok' && !event.duplicate;

const one = <T>(values: readonly T[], dice: Dice): T | undefined => values[dice.below(Math.max(1, values.length))];
const withEvents = (history: History, events: readonly Event[]): History => ({ ...history, events });
const replaced = (history: History, old: Event, ...by: Event[]): History =>
  withEvents(
    history,
    history.events.flatMap((event) => (event === old ? by : [event])),
  );

/** What a stream brought, as lists: receives of one connection and room between two begins. */
function runs({ events }: History): Receive[][] {
  const open = new Map<string, Receive[]>();
  const all: Receive[][] = [];
  for (const event of events) {
    if (event.type === 'joined' || event.type === 'resync') {
      const run: Receive[] = [];
      all.push(run);
      open.set(place(event.conn, event.room), run);
    }
    if (isReceive(event)) open.get(place(event.conn, event.room))?.push(event);
  }
  return all;
}

/** Lets two messages of a room change places, everywhere. */
function exchanged(history: History, a: Ok, b: Ok): History | undefined {
  const rows = history.tables.messages;
  const roomOf = (ok: Ok) => history.events.find((event) => event.type === 'invoke' && event.op === ok.op);
  const [inviteA, inviteB] = [roomOf(a), roomOf(b)];
  if (inviteA?.type !== 'invoke' || inviteB?.type !== 'invoke' || inviteA.room !== inviteB.room) return undefined;
  const seqOf = (seq: number) => (seq === a.seq ? b.seq : seq === b.seq ? a.seq : seq);
  const rowAt = (seq: number) => rows.find((row) => row.room === inviteA.room && row.seq === seq);
  const ofRoom = new Set(history.events.flatMap((event) => (event.type === 'invoke' && event.room === inviteA.room ? [event.op] : [])));
  return {
    ...history,
    events: history.events.map((event): Event => {
      if (event.type === 'ok' && ofRoom.has(event.op)) return { ...event, seq: seqOf(event.seq) };
      if (!isReceive(event) || event.room !== inviteA.room) return event;
      return { ...event, digest: rowAt(seqOf(event.seq))?.digest ?? event.digest };
    }),
    tables: {
      ...history.tables,
      messages: rows.map((row) => (row.room === inviteA.room ? { ...row, seq: seqOf(row.seq) } : row)),
    },
  };
}

const without = (history: History, { seq, op }: Ok): History => {
  const room = history.events.find((event) => event.type === 'invoke' && event.op === op);
  const name = room?.type === 'invoke' ? room.room : '';
  return {
    ...history,
    tables: { ...history.tables, messages: history.tables.messages.filter((row) => row.room !== name || row.seq !== seq) },
  };
};

const mutations: [name: string, invariant: Invariant, mutation: Mutation][] = [
  [
    'a delivery dropped amid a stream',
    'I5',
    (history, dice) => {
      const lost = one(
        runs(history).flatMap((run) => run.slice(0, -1)),
        dice,
      );
      return lost && replaced(history, lost);
    },
  ],
  [
    'a delivery doubled',
    'I5',
    (history, dice) => {
      const event = one(history.events.filter(isReceive), dice);
      return event && replaced(history, event, event, event);
    },
  ],
  [
    'two deliveries in the wrong order',
    'I5',
    (history, dice) => {
      const run = one(
        runs(history).filter(({ length }) => length > 1),
        dice,
      );
      const [a, b] = run ?? [];
      if (a === undefined || b === undefined) return undefined;
      return withEvents(
        history,
        history.events.map((event) => (event === a ? b : event === b ? a : event)),
      );
    },
  ],
  [
    'a stream that stops',
    'I8',
    (history, dice) => {
      const healed = history.events.findIndex(({ type }) => type === 'head');
      const last = new Map(
        history.events
          .slice(healed)
          .filter(isReceive)
          .map((event) => [place(event.conn, event.room), event]),
      );
      const event = one(
        [...last.values()].filter((end) => !['[left]', '[kicked]'].includes(end.digest)),
        dice,
      );
      return event && replaced(history, event);
    },
  ],
  [
    'a delivery above the end of the membership',
    'I7',
    (history, dice) => {
      const ends = runs(history).flatMap((run) => {
        const end = run.at(-1);
        const isOver = history.tables.events.some(
          ({ room, seq, user, kind }) => room === end?.room && seq === end.seq && user === end.user && kind !== 'joined',
        );
        const next = history.tables.messages.find(({ room, seq }) => room === end?.room && seq === end.seq + 1);
        return end !== undefined && isOver && next !== undefined ? [{ end, next }] : [];
      });
      const leak = one(ends, dice);
      return leak && replaced(history, leak.end, leak.end, { ...leak.end, seq: leak.next.seq, digest: leak.next.digest, via: 'live' });
    },
  ],
  [
    'a message of who was no member any more',
    'I7',
    (history, dice) => {
      const { messages, events } = history.tables;
      const ends = events.filter(({ kind, user, seq, room }) => {
        const isLast = !events.some((later) => later.room === room && later.user === user && later.seq > seq);
        return kind !== 'joined' && isLast && messages.some((row) => row.room === room && row.seq > seq);
      });
      const end = one(ends, dice);
      const message = messages.find(({ room, seq }) => end !== undefined && room === end.room && seq > end.seq);
      if (end === undefined || message === undefined) return undefined;
      const forged = messages.map((row) => (row === message ? { ...row, user: end.user ?? '' } : row));
      return { ...history, tables: { ...history.tables, messages: forged } };
    },
  ],
  [
    'a history that is hidden',
    'I7',
    (history, dice) => {
      const joins = history.events.filter((event) => event.type === 'resync' && event.reason === 'history_hidden' && event.lastSeq > 1);
      const resync = one(joins, dice);
      const seen = history.tables.messages.find(
        ({ room, seq }) => resync?.type === 'resync' && room === resync.room && seq < resync.lastSeq,
      );
      if (resync?.type !== 'resync' || seen === undefined) return undefined;
      const { at, conn, user, room, epoch } = resync;
      const leak: Receive = { type: 'receive', at, conn, user, room, seq: seen.seq, digest: seen.digest, via: 'history', epoch };
      return replaced(history, resync, resync, leak);
    },
  ],
  [
    'a seq with two bodies',
    'I4',
    (history, dice) => {
      const seen = history.events.filter(isReceive);
      const twice = seen.filter((a) => seen.some((b) => a !== b && a.room === b.room && a.seq === b.seq));
      const event = one(twice, dice);
      return event && replaced(history, event, { ...event, digest: 'another' });
    },
  ],
  [
    'a delivery of what is not stored',
    'I6',
    (history, dice) => {
      const event = one(history.events.filter(isReceive), dice);
      return event && replaced(history, event, { ...event, digest: 'another' });
    },
  ],
  [
    'a refusal of what was stored',
    'I6',
    (history, dice) => {
      const digests = history.events.flatMap((event) => (event.type === 'invoke' ? [event.digest] : []));
      const once = new Set(digests.filter((digest) => digests.indexOf(digest) === digests.lastIndexOf(digest)));
      const lone = new Set(history.events.flatMap((event) => (event.type === 'invoke' && once.has(event.digest) ? [event.op] : [])));
      const ok = one(
        history.events.filter(isStored).filter(({ op }) => lone.has(op)),
        dice,
      );
      return ok && replaced(history, ok, { type: 'fail', at: ok.at, op: ok.op, code: 'overloaded' });
    },
  ],
  [
    'an ack without its row',
    'I1',
    (history, dice) => {
      const ok = one(history.events.filter(isStored), dice);
      return ok && without(history, ok);
    },
  ],
  [
    'an ack with another seq than its row',
    'I1',
    (history, dice) => {
      const ok = one(history.events.filter(isStored), dice);
      return ok && replaced(history, ok, { ...ok, seq: ok.seq + 1 });
    },
  ],
  [
    'a send stored twice',
    'I2',
    (history, dice) => {
      const row = one(history.tables.messages, dice);
      if (row === undefined) return undefined;
      const again = { ...row, seq: row.seq + 1_000, id: row.id + 1_000 };
      return { ...history, tables: { ...history.tables, messages: [...history.tables.messages, again] } };
    },
  ],
  [
    'a retry with another answer',
    'I2',
    (history, dice) => {
      const first = one(history.events.filter(isStored), dice);
      const invoke = history.events.find((event) => event.type === 'invoke' && event.op === first?.op);
      if (first === undefined || invoke?.type !== 'invoke') return undefined;
      return withEvents(history, [...history.events, { ...invoke, op: -1 }, { ...first, op: -1, seq: first.seq + 1, duplicate: true }]);
    },
  ],
  [
    'a hole in the table',
    'I3',
    (history, dice) => {
      const row = one(history.tables.messages, dice);
      return row && { ...history, tables: { ...history.tables, messages: history.tables.messages.filter((other) => other !== row) } };
    },
  ],
  [
    'a seq given again after a crash',
    'I13',
    (history, dice) => {
      const stored = history.events.filter(isStored);
      const first = one(stored, dice);
      const invokes = new Map(history.events.flatMap((event) => (event.type === 'invoke' ? [[event.op, event] as const] : [])));
      const second = stored.find(({ op, seq }) => seq !== first?.seq && invokes.get(op)?.room === invokes.get(first?.op ?? 0)?.room);
      return first && second && replaced(history, second, { ...second, seq: first.seq, id: first.id });
    },
  ],
  [
    'an epoch that streams were not told of',
    'I13',
    (history) => {
      const closed = new Set(
        history.events
          .slice(
            0,
            history.events.findIndex(({ type }) => type === 'head'),
          )
          .map((event) => event.type === 'close' && event.conn),
      );
      // Who owns a room doesn't leave it.
      const isOpen = history.events.some((event) => event.type === 'joined' && event.user === 'ann' && !closed.has(event.conn));
      return isOpen ? { ...history, tables: { ...history.tables, epoch: 'e2' } } : undefined;
    },
  ],
  [
    'an ack of an epoch that is over, lost by a fault that loses nothing',
    'I1',
    (history, dice) => {
      const ok = one(history.events.filter(isStored), dice);
      return ok && { ...without(history, ok), tables: { ...without(history, ok).tables, epoch: 'e2' } };
    },
  ],
  [
    'a send that was stored before what was acked when it began',
    'I9',
    (history, dice) => {
      const stored = history.events.filter(isStored);
      const sent = new Map(history.events.flatMap((event) => (event.type === 'invoke' ? [[event.op, event.digest] as const] : [])));
      const began = (ok: Ok) => history.events.findIndex((event) => event.type === 'invoke' && event.digest === sent.get(ok.op));
      const pairs = stored.flatMap((a) => stored.filter((b) => history.events.indexOf(a) < began(b)).map((b) => [a, b] as const));
      const pair = one(
        pairs.filter(([a, b]) => exchanged(history, a, b) !== undefined),
        dice,
      );
      return pair && exchanged(history, ...pair);
    },
  ],
  [
    'pipelined sends stored in another order',
    'I10',
    (history, dice) => {
      const invokes = new Map(history.events.flatMap((event) => (event.type === 'invoke' ? [[event.op, event] as const] : [])));
      const stored = history.events.filter(isStored);
      const pairs = stored.flatMap((a) => {
        const b = stored.find(
          ({ op }) => op > a.op && invokes.get(op)?.conn === invokes.get(a.op)?.conn && invokes.get(op)?.room === invokes.get(a.op)?.room,
        );
        return b === undefined ? [] : [[a, b] as const];
      });
      const pair = one(pairs, dice);
      return pair && exchanged(history, ...pair);
    },
  ],
  [
    'something that a node still holds',
    'I11',
    (history, dice) => {
      const rest = one(
        history.events.filter((event): event is Rest => event.type === 'rest' && event.phase === 'after'),
        dice,
      );
      const of = rest && one(Object.keys(rest.resources) as (keyof Resources)[], dice);
      return rest && of && replaced(history, rest, { ...rest, resources: { ...rest.resources, [of]: rest.resources[of] + 20 } });
    },
  ],
];

mutations.push([
  'more that waits in a node than its sockets may have',
  'I11',
  (history) => withEvents(history, [...history.events, { type: 'unsent', at: 0, node: 'n1', bytes: 40_000_000, sockets: 12 }]),
]);

const alarms: [keyof Alarms, Invariant, Partial<Fault> | undefined][] = [
  ['streamFaults', 'I5', undefined],
  ['logHoles', 'I3', { makesHoles: true }],
  ['unknownSends', 'I12', { leavesDoubt: true }],
];

const counting = (history: History, of: keyof Alarms, dice: Dice): History | undefined => {
  const last = one(
    history.events.filter((event): event is Counted => event.type === 'counted' && event.phase === 'after'),
    dice,
  );
  return last && replaced(history, last, { ...last, alarms: { ...last.alarms, [of]: last.alarms[of] + 1 } });
};

mutations.push(
  ...alarms.map(([of, invariant]): (typeof mutations)[number] => [
    `${of} that a node counted and no client noticed`,
    invariant,
    (history, dice) => counting(history, of, dice),
  ]),
);

/** A run to try: shorter ones are simpler. */
const plays = fc.record({ seed: fc.nat(), steps: fc.integer({ min: 1, max: 200 }) });

describe('the checker', () => {
  it('finds nothing in the history of a server that does as promised', () => {
    fc.assert(
      fc.property(plays, ({ seed, steps }) => {
        expect(check(play(diceOf(seed), steps))).toEqual([]);
      }),
      { numRuns: 200 },
    );
  });

  it.each(mutations)('calls %s a violation of %s', (_, invariant, mutation) => {
    let tried = 0;
    fc.assert(
      fc.property(plays, ({ seed, steps }) => {
        const dice = diceOf(seed);
        const broken = mutation(play(dice, steps), dice);
        fc.pre(broken !== undefined);
        tried++;
        const violations = check(broken);
        expect(violations.map((violation) => violation.invariant)).toContain(invariant);
        for (const { witness } of violations) expect(witness.length).toBeLessThanOrEqual(5);
      }),
      { numRuns: 30, maxSkipsPerRun: 100 },
    );
    expect(tried).toBeGreaterThan(0);
  });

  it('finds nothing in what a node counted because of a fault that is just that', () => {
    for (const [of, , expected] of alarms.filter((alarm) => alarm[2] !== undefined)) {
      const history = counting(play(diceOf(1), 100), of, diceOf(1)) as History;
      const fault: Fault = { type: 'fault', at: 0, name: 'some', phase: 'begin', ...expected };
      expect(check(withEvents(history, [fault, ...history.events]))).toEqual([]);
    }
  });

  it('judges a hundred thousand events in a few seconds', () => {
    const history = play(diceOf(1), 4_000);
    const events = Array.from({ length: Math.ceil(100_000 / history.events.length) }, (_, n) =>
      history.events.map((event) => ('conn' in event ? { ...event, conn: event.conn + n * 100_000 } : event)),
    ).flat();
    const begun = performance.now();
    check({ ...history, events });
    expect(performance.now() - begun).toBeLessThan(10_000);
  });
});
