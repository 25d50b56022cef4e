import { callAnything } from '../support/any-call.js';
import { eventually } from '../support/eventually.js';
import type { Person } from '../support/people.js';
import type { ChaosClient } from './client.js';
import type { Dice } from './dice.js';
import type { World } from './world.js';

/** Who has so many sends without an answer sends no more until there is one: what a minute's outage piles up, this process could not take in 2 s. */
const undecidedMax = 500;
/** Who stays out of the churn of members. */
const settledCount = 12;
const callDeadlineMs = 5_000;
const rejoinDeadlineMs = 30_000;

/** What the clients do all the time: send, in bursts that are pipelined; join, leave, be kicked; lose their connection; type. */
export class Load {
  private timers: NodeJS.Timeout[] = [];
  private readonly calls = new Set<Promise<unknown>>();

  constructor(
    private readonly world: World,
    private readonly clients: readonly ChaosClient[],
    private readonly people: readonly Person[],
    private readonly rooms: readonly string[],
    private readonly dice: Dice,
    private readonly sendsPerSecond: number,
  ) {}

  start(): void {
    const burst = 4;
    this.every(1_000 / (this.sendsPerSecond / burst), () => {
      const client = this.pick(this.clients);
      const room = this.pick(this.rooms);
      if (client.undecided >= undecidedMax) return;
      const count = 1 + this.dice.below(burst * 2 - 1);
      for (let n = 0; n < count; n++) client.send(room, this.dice.below(50) === 0 ? this.dice.below(9_000) : this.dice.below(40));
    });
    this.every(500, () => {
      for (const client of this.clients) client.resend();
    });
    this.every(150, () => this.churn());
    this.every(400, () => this.pick(this.clients).cut());
    this.every(100, () => this.pick(this.clients).typing(this.pick(this.rooms)));
  }

  async stop(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    await Promise.all(this.calls);
    // Everybody is to be in every room again, and to follow what it did.
    for (const room of this.rooms) {
      for (const { person, client } of this.restless()) {
        const join = async () =>
          (await this.world.postgres.sql.query('SELECT join_room($1, $2, $3)', [room, person.id, person.name])).rowCount;
        await eventually(join, 'a join', rejoinDeadlineMs);
        client.follow(room);
      }
    }
  }

  private churn(): void {
    const { person, client } = this.pick(this.restless());
    const room = this.pick(this.rooms);
    const owner = this.people[0];
    const act = this.dice.below(3);
    if (act === 0) this.call(person, 'POST', `/rooms/${room}/leave`);
    else if (act === 1 && owner !== undefined) this.call(owner, 'DELETE', `/rooms/${room}/members/${person.id}`);
    else this.call(person, 'POST', `/rooms/${room}/join`, () => client.follow(room));
  }

  private restless(): { person: Person; client: ChaosClient }[] {
    return this.clients.slice(settledCount).map((client, n) => ({ client, person: this.people[settledCount + n] as Person }));
  }

  /** By any node; what it answers is of no matter here, the tables tell. */
  private call(person: Person, method: string, path: string, then?: () => void): void {
    const url = this.pick(this.world.nodes).url;
    const call = callAnything(url, path, {
      method,
      token: person.token,
      headers: { connection: 'close' }, // nothing is to be left at the node
      signal: AbortSignal.timeout(callDeadlineMs),
    })
      .then(({ status }) => {
        if (status < 300) then?.();
      })
      .catch(() => undefined)
      .finally(() => this.calls.delete(call));
    this.calls.add(call);
  }

  private every(ms: number, act: () => void): void {
    this.timers.push(setInterval(act, ms));
  }

  private pick<T>(values: readonly T[]): T {
    return values[this.dice.below(values.length)] as T;
  }
}
