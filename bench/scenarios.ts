/** How messages are offered. */
export type Offer =
  /** As many unanswered by each sender. */
  | { readonly kind: 'closed'; readonly unansweredPerSender: number }
  /** As many, of all rooms, that have not reached every receiver: what fans out sets the pace, not what stores. The rooms must be alike. */
  | { readonly kind: 'delivered'; readonly undelivered: number }
  /** At a rate, whatever the answers do. */
  | {
      readonly kind: 'open';
      readonly messagesPerSecond: number;
      /** Before it, for what a quiet node that has run for days has behind it: its code is compiled and its heap has grown. */
      readonly afterBusy?: { readonly seconds: number; readonly messagesPerSecond: number };
    };

/** Users who come online beside those who send and receive, at even intervals. */
export interface Arrivals {
  readonly users: number;
  readonly withinMs: number;
  readonly rooms: number;
  /** Rooms of each user: so a room has users * roomsEach / rooms members. */
  readonly roomsEach: number;
}

/** One load on the nodes. */
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
}
