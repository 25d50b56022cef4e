/** How messages are offered: `closed` keeps so many unanswered per sender, `open` keeps a rate whatever the answers do. */
export type Offer =
  { readonly kind: 'closed'; readonly unansweredPerSender: number } | { readonly kind: 'open'; readonly messagesPerSecond: number };

export interface Goal {
  readonly messagesPerSecond?: number;
  readonly deliveriesPerSecond?: number;
  readonly p50Ms?: number;
  readonly p99Ms?: number;
}

/** Users who come online beside those who send and receive, at even intervals. */
export interface Arrivals {
  readonly users: number;
  readonly withinMs: number;
  readonly rooms: number;
  /** Rooms of each user: so a room has users * roomsEach / rooms members. */
  readonly roomsEach: number;
}

export interface Scenario {
  readonly name: string;
  readonly title: string;
  readonly rooms: number;
  /** Spread over the rooms and, within a room, over the nodes. They follow no room. */
  readonly senders: number;
  /** Spread in the same way; each follows one room. */
  readonly receivers: number;
  readonly offer: Offer;
  readonly clientMsgIds: boolean;
  /** Latency is taken of one seq in so many, at every receiver. */
  readonly sampleEvery: number;
  /** Latency is taken before, while and after they come, each for the measured time; what stands for the scenario is the time while they come. */
  readonly arrivals?: Arrivals;
  readonly goal: Goal;
}

const tenRooms = {
  rooms: 10,
  senders: 20,
  receivers: 200,
  offer: { kind: 'closed', unansweredPerSender: 100 },
  sampleEvery: 16,
  goal: { messagesPerSecond: 25_000, deliveriesPerSecond: 500_000 },
} as const;

const fiftyRooms = {
  rooms: 50,
  senders: 50,
  receivers: 200,
  offer: { kind: 'open', messagesPerSecond: 200 },
  clientMsgIds: false,
  sampleEvery: 1,
} as const;

export const scenarios: readonly Scenario[] = [
  { ...tenRooms, name: '1', title: '10 rooms, 20 senders x 100 unanswered, 200 receivers', clientMsgIds: false },
  { ...tenRooms, name: '1b', title: 'the same with client_msg_id', clientMsgIds: true },
  { ...fiftyRooms, name: '2', title: '50 rooms, 200 messages/s in all, 200 receivers', goal: { p50Ms: 4, p99Ms: 20 } },
  {
    name: '3',
    title: '1 room, 120 senders x 2 unanswered, 300 receivers',
    rooms: 1,
    senders: 120,
    receivers: 300,
    offer: { kind: 'closed', unansweredPerSender: 2 },
    clientMsgIds: false,
    sampleEvery: 16,
    goal: { deliveriesPerSecond: 1_200_000 },
  },
  {
    ...fiftyRooms,
    name: 'presence',
    title: 'as 2, while 10,000 users, each in 3 of 300 rooms, come online within 10 s',
    arrivals: { users: 10_000, withinMs: 10_000, rooms: 300, roomsEach: 3 },
    goal: {},
  },
];
