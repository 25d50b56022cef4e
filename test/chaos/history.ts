/**
 * What a run is judged by: everything that its clients did and saw, in the order in which it happened to them, and the tables at the end.
 *
 * All clients of a run are in one process, so the order of the list is the order in time. A body stands as its digest; bodies are unique, so
 * equal digests are the same send. Of a command that was invoked, exactly one of `ok`, `fail` and `unknown` follows: a time-out, a lost
 * connection and an answer that doesn't decide (`unavailable`, `internal`) are `unknown`, neither of the other two.
 */

interface At {
  /** Milliseconds on the monotonic clock of the recording process. */
  readonly at: number;
}

/** A connection is authenticated; `hello` told its epoch. */
export interface Open extends At {
  readonly type: 'open';
  readonly conn: number;
  readonly user: string;
  readonly node: string;
  readonly epoch: string;
}

export interface Close extends At {
  readonly type: 'close';
  readonly conn: number;
  readonly code: number;
}

/** A send begins. A retry has the same user, room, key and digest. */
export interface Invoke extends At {
  readonly type: 'invoke';
  readonly op: number;
  readonly conn: number;
  readonly user: string;
  readonly room: string;
  readonly key: string;
  readonly digest: string;
}

export interface Ok extends At {
  readonly type: 'ok';
  readonly op: number;
  readonly seq: number;
  readonly id: number;
  readonly duplicate: boolean;
  readonly epoch: string;
}

export interface Fail extends At {
  readonly type: 'fail';
  readonly op: number;
  readonly code: string;
}

export interface Unknown extends At {
  readonly type: 'unknown';
  readonly op: number;
  readonly why: string;
}

/** A stream begins, by `joined_room`. `after` is the last_seen_seq that was given. */
export interface Joined extends At {
  readonly type: 'joined';
  readonly conn: number;
  readonly user: string;
  readonly room: string;
  readonly lastSeq: number;
  readonly after: number | null;
  readonly epoch: string;
}

/** The client ended its stream, by leave_room. */
export interface Left extends At {
  readonly type: 'left';
  readonly conn: number;
  readonly room: string;
}

/** One entry of a room's log. Of an event of the room, `digest` is its kind in brackets. */
export interface Receive extends At {
  readonly type: 'receive';
  readonly conn: number;
  readonly user: string;
  readonly room: string;
  readonly seq: number;
  readonly digest: string;
  readonly via: 'live' | 'history';
  readonly epoch: string;
}

export interface Resync extends At {
  readonly type: 'resync';
  readonly conn: number;
  readonly user: string;
  readonly room: string;
  readonly lastSeq: number;
  readonly reason: string;
  readonly epoch: string;
}

export interface Fault extends At {
  readonly type: 'fault';
  readonly name: string;
  readonly phase: 'begin' | 'end';
  /** Commits may be lost by it, and their epoch with them. */
  readonly losesCommits?: true;
  /** PostgreSQL, or the way to it, is away for about as long as a send waits: what became of one may stay unknown to its sender. */
  readonly leavesDoubt?: true;
  /** Somebody takes out what was stored. */
  readonly makesHoles?: true;
}

/** All is healed, and the room's last seq is this: every open stream has to get there. */
export interface Head extends At {
  readonly type: 'head';
  readonly room: string;
  readonly seq: number;
}

/** What a node holds. */
export interface Resources {
  readonly connections: number;
  readonly followedRooms: number;
  readonly queuedSends: number;
  readonly busyPoolClients: number;
  readonly poolWaiters: number;
  /** Of files and sockets, those to PostgreSQL that a pool keeps apart; 0 where the system doesn't tell. */
  readonly descriptors: number;
  /** That keep the event loop alive. */
  readonly timers: number;
  /** Heap and buffers outside of it, after a collection. */
  readonly memoryMiB: number;
}

/** No client is connected: before the round, or when it is over and its rest too. */
export interface Rest extends At {
  readonly type: 'rest';
  readonly node: string;
  readonly phase: 'before' | 'after';
  readonly resources: Resources;
}

/** What waits in a node for its sockets to take it. */
export interface Unsent extends At {
  readonly type: 'unsent';
  readonly node: string;
  readonly bytes: number;
  readonly sockets: number;
}

/** What must never happen, as often as the node counted it. */
export interface Alarms {
  /** The next seq for the sockets of a room was not the one after the last. */
  readonly streamFaults: number;
  readonly logHoles: number;
  /** Sends of which the node could not tell its client what became of them. */
  readonly unknownSends: number;
}

/** Counts of a node over all its restarts; what it counted just before it was killed may be missing. */
export interface Counted extends At {
  readonly type: 'counted';
  readonly node: string;
  readonly phase: 'before' | 'after';
  readonly alarms: Alarms;
}

export type Event = Open | Close | Invoke | Ok | Fail | Unknown | Joined | Left | Receive | Resync | Fault | Head | Rest | Unsent | Counted;

export interface Tables {
  readonly epoch: string;
  readonly rooms: readonly {
    readonly room: string;
    readonly lastSeq: number;
    readonly owner: string;
    readonly history: 'shared' | 'joined';
  }[];
  readonly messages: readonly {
    readonly room: string;
    readonly seq: number;
    readonly id: number;
    readonly user: string;
    readonly key: string | null;
    readonly digest: string;
  }[];
  readonly events: readonly { readonly room: string; readonly seq: number; readonly kind: string; readonly user: string | null }[];
}

export interface History {
  readonly seed: number;
  readonly events: readonly Event[];
  readonly tables: Tables;
}

export type Invariant = 'I1' | 'I2' | 'I3' | 'I4' | 'I5' | 'I6' | 'I7' | 'I8' | 'I9' | 'I10' | 'I11' | 'I12' | 'I13';

export interface Violation {
  readonly invariant: Invariant;
  readonly what: string;
  /** The few events that show it, in order; rows of the tables are told in `what`. */
  readonly witness: readonly Event[];
}

export type StoredMessage = Tables['messages'][number];

/** Whether what was acked or delivered under an epoch may be gone from the tables: the epoch is over, and the fault was one that loses commits. */
export function maybeLost({ events, tables }: History): (epoch: string) => boolean {
  const losesCommits = events.some((event) => event.type === 'fault' && event.losesCommits === true);
  return (epoch) => losesCommits && epoch !== tables.epoch;
}

/** One key for two or three values that hold no blank. */
export const place = (...parts: (string | number)[]): string => parts.join(' ');

/** A send and what came of it. */
export interface Send {
  readonly invoke: Invoke;
  readonly outcome: Ok | Fail | Unknown | undefined;
}

/** Every send, in order of its invoke. */
export function sendsOf({ events }: Pick<History, 'events'>): Send[] {
  const outcomes = new Map<number, Ok | Fail | Unknown>();
  for (const event of events) {
    if (event.type === 'ok' || event.type === 'fail' || event.type === 'unknown') outcomes.set(event.op, event);
  }
  return events.filter((event): event is Invoke => event.type === 'invoke').map((invoke) => ({ invoke, outcome: outcomes.get(invoke.op) }));
}

/** The sends that were acked, in order of their acks. */
export function acksOf({ events }: Pick<History, 'events'>): { invoke: Invoke; ok: Ok }[] {
  const invokes = new Map(events.filter((event): event is Invoke => event.type === 'invoke').map((invoke) => [invoke.op, invoke]));
  return events.flatMap((ok) => {
    if (ok.type !== 'ok') return [];
    const invoke = invokes.get(ok.op);
    return invoke === undefined ? [] : [{ invoke, ok }];
  });
}
