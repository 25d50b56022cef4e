/** One round: clients that talk in rooms of their own while a fault happens, then time to heal, then the judgement. */
import { v7 as uuidv7 } from 'uuid';
import { eventually } from '../support/eventually.js';
import { createPerson, createRoom, type Person } from '../support/people.js';
import { callAnything } from '../support/any-call.js';
import { check } from './check.js';
import { ChaosClient } from './client.js';
import { diceOf, type Dice } from './dice.js';
import { faults, type FaultName } from './faults.js';
import { acksOf, sendsOf, type History, type Violation } from './history.js';
import { dumpTables, Recorder } from './recorder.js';
import { seconds, type World } from './world.js';

const roomCount = 4;
const clientCount = 24;
/** Who stays out of the churn of members. */
const settledCount = 12;
const sendsPerSecond = 1_200;
const callDeadlineMs = 5_000;
/** The longest that clients may take, after all is healed, to be connected again and to have sent what waited meanwhile. */
const recoveryDeadlineS = 30;

export interface RoundResult {
  readonly fault: FaultName;
  readonly seed: number;
  readonly history: History;
  readonly violations: readonly Violation[];
  readonly acked: number;
  readonly refused: number;
  readonly received: number;
  /** From the end of the fault until all clients were connected, with their rooms and nothing undecided, in s. */
  readonly recoveryS: number;
}

/** @param recordTo path of the history as JSON lines */
export async function playRound(world: World, fault: FaultName, seed: number, recordTo?: string): Promise<RoundResult> {
  const dice = diceOf(seed);
  const recorder = new Recorder(recordTo);
  const { sql } = world.postgres;
  const people: Person[] = [];
  for (let n = 0; n < clientCount; n++) people.push(await createPerson(sql, `chaos-${uuidv7().slice(-12)}`, 86_400));
  const rooms: string[] = [];
  for (let n = 0; n < roomCount; n++) rooms.push(await createRoom(sql, people, n % 2 === 0 ? 'shared' : 'joined'));

  const urls = world.nodes.map(({ url }) => url);
  const clients = people.map((person) => new ChaosClient(person, urls, recorder, dice));
  for (const client of clients) {
    client.start();
    for (const [n, room] of rooms.entries()) if (n === 0 || dice.below(2) > 0) client.follow(room);
  }
  const load = new Load(world, clients, people, rooms, dice);
  await eventually(() => clients.every(({ isConnected }) => isConnected), 'all clients to connect', 30_000);
  load.start();
  await seconds(2);

  recorder.record({ type: 'fault', name: fault, phase: 'begin' });
  await faults[fault]({ world, clients, rooms, dice });
  await Promise.all(world.nodes.map((node) => node.ready(60_000)));
  recorder.record({ type: 'fault', name: fault, phase: 'end' });

  const healedAt = performance.now();
  await load.stop();
  const whole = () => clients.every((client) => client.isConnected && client.undecided === 0);
  await eventually(
    () => {
      for (const client of clients) client.resend();
      return whole();
    },
    'all clients to be connected, and every send to be decided',
    recoveryDeadlineS * 1_000,
  );
  const recoveryS = (performance.now() - healedAt) / 1_000;

  const heads = await sql.query<{ room: string; seq: number }>('SELECT id AS room, last_seq::int AS seq FROM rooms WHERE id = ANY ($1)', [
    rooms,
  ]);
  for (const head of heads.rows) recorder.record({ type: 'head', ...head });
  await seconds(2.5);
  for (const client of clients) client.stop();
  await recorder.close();

  const history: History = { seed, events: recorder.events, tables: await dumpTables(sql, rooms) };
  return {
    fault,
    seed,
    history,
    violations: check(history),
    acked: acksOf(history).length,
    refused: sendsOf(history).filter(({ outcome }) => outcome?.type === 'fail').length,
    received: history.events.filter(({ type }) => type === 'receive').length,
    recoveryS,
  };
}

/** What the clients do all the time: send, in bursts that are pipelined; join, leave, be kicked; lose their connection; type. */
class Load {
  private timers: NodeJS.Timeout[] = [];
  private readonly calls = new Set<Promise<unknown>>();

  constructor(
    private readonly world: World,
    private readonly clients: readonly ChaosClient[],
    private readonly people: readonly Person[],
    private readonly rooms: readonly string[],
    private readonly dice: Dice,
  ) {}

  start(): void {
    const burst = 4;
    this.every(1_000 / (sendsPerSecond / burst), () => {
      const client = this.pick(this.clients);
      const room = this.pick(this.rooms);
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
        await eventually(join, 'a join', recoveryDeadlineS * 1_000);
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
    const call = callAnything(url, path, { method, token: person.token, signal: AbortSignal.timeout(callDeadlineMs) })
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
