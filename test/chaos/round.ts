/** One round: clients that talk in rooms of their own while a fault happens, then time to heal, then the judgement. */
import { v7 as uuidv7 } from 'uuid';
import { eventually } from '../support/eventually.js';
import { createPerson, createRoom, type Person } from '../support/people.js';
import { check } from './check.js';
import { ChaosClient } from './client.js';
import { diceOf, type Dice } from './dice.js';
import { faults, leavesDoubt, losesCommits, makesHoles, type FaultName } from './faults.js';
import { Skipped, type Scene } from './faults/scene.js';
import { acksOf, sendsOf, type Event, type History, type Resources, type Violation } from './history.js';
import { bounded } from './invariants/bounded.js';
import { Load } from './load.js';
import { dumpTables, Recorder } from './recorder.js';
import { seconds, type World, type WorldNode } from './world.js';

const roomCount = 4;
const clientCount = 24;
/** The longest that clients may take, after all is healed, to be connected again and to have sent what waited meanwhile. */
const recoveryDeadlineS = 30;
/** The longest that a node may take to give back what it holds for clients that are gone. */
const restDeadlineS = 20;

export interface RoundResult {
  /** One, or several at once. */
  readonly faults: readonly FaultName[];
  readonly seed: number;
  readonly history: History;
  readonly violations: readonly Violation[];
  readonly acked: number;
  readonly refused: number;
  readonly received: number;
  /** From the end of the fault until all clients were connected, with their rooms and nothing undecided, in s. */
  readonly recoveryS: number;
  /** Why faults could not be had here; the round was played without them. */
  readonly skipped: readonly string[];
}

interface RoundOptions {
  readonly sendsPerSecond: number;
  /** Path of the history as JSON lines. */
  readonly recordTo?: string;
}

export async function playRound(
  world: World,
  names: readonly FaultName[],
  seed: number,
  { sendsPerSecond, recordTo }: RoundOptions,
): Promise<RoundResult> {
  const recorder = new Recorder(recordTo);
  const { sql } = world.postgres;
  await Promise.all(world.nodes.map((node) => (node.isRunning ? node.ready(30_000) : node.start())));
  const held = await Promise.all(world.nodes.map(async (node) => ({ node, resources: await node.resourcesAtFirst() })));
  for (const { node, resources } of held) recorder.record({ type: 'rest', node: node.name, phase: 'before', resources });
  await recordAlarms(world, 'before', recorder);
  const cast = await Cast.gather(world, seed, recorder);
  const load = new Load(world, [...cast.clients], cast.people, cast.rooms, cast.dice, sendsPerSecond);
  const outcome = await perform(cast, load, names, recorder);
  for (const client of cast.clients) client.stop();
  // A node that did not come back holds whatever it holds.
  if (outcome.troubles.length === 0) {
    await Promise.all(held.map(({ node, resources }) => untilRested(node, resources, recorder)));
    await recordAlarms(world, 'after', recorder);
  }
  await recorder.close();

  const history: History = { seed, events: recorder.events, tables: await dumpTables(sql, cast.allRooms) };
  return {
    faults: names,
    seed,
    history,
    violations: [...outcome.troubles, ...check(history)],
    acked: acksOf(history).length,
    refused: sendsOf(history).filter(({ outcome: answer }) => answer?.type === 'fail').length,
    received: history.events.filter(({ type }) => type === 'receive').length,
    recoveryS: outcome.recoveryS,
    skipped: outcome.skipped,
  };
}

interface Outcome {
  readonly recoveryS: number;
  /** What kept the world from healing. */
  readonly troubles: readonly Violation[];
  readonly skipped: readonly string[];
}

async function perform(cast: Cast, load: Load, names: readonly FaultName[], recorder: Recorder): Promise<Outcome> {
  const { world, clients } = cast;
  let healedAt = performance.now();
  try {
    await eventually(() => clients.every(({ isConnected }) => isConnected), 'all clients to connect', 30_000);
    load.start();
    await seconds(2);
    const skipped = await befall(cast, names, recorder);
    await Promise.all(world.nodes.map((node) => node.ready(60_000)));
    for (const name of names) recorder.record({ type: 'fault', name, phase: 'end' });

    healedAt = performance.now();
    await load.stop();
    const whole = () => {
      for (const client of clients) client.catchUp();
      return clients.every(({ isWhole }) => isWhole);
    };
    await eventually(whole, 'all clients to be connected, in their rooms, and every send to be decided', recoveryDeadlineS * 1_000);
    const recoveryS = (performance.now() - healedAt) / 1_000;
    await cast.recordHeads(recorder);
    await seconds(2.5);
    return { recoveryS, skipped, troubles: [] };
  } catch (error) {
    await load.stop().catch(() => undefined);
    const what = error instanceof Error ? error.message : String(error);
    return { recoveryS: (performance.now() - healedAt) / 1_000, troubles: [{ invariant: 'I8', what, witness: [] }], skipped: [] };
  }
}

/** All at once, but that each begins at a moment of its own. @returns why some could not be had */
async function befall(cast: Cast, names: readonly FaultName[], recorder: Recorder): Promise<string[]> {
  const played = names.map(async (name, n) => {
    if (n > 0) await seconds(cast.dice.below(2_000) / 1_000);
    recorder.record({
      type: 'fault',
      name,
      phase: 'begin',
      ...(losesCommits.has(name) && { losesCommits: true as const }),
      ...(leavesDoubt.has(name) && { leavesDoubt: true as const }),
      ...(makesHoles.has(name) && { makesHoles: true as const }),
    });
    await faults[name](cast);
  });
  const failures = (await Promise.allSettled(played)).flatMap((end) => (end.status === 'rejected' ? [end.reason as Error] : []));
  const failure = failures.find((error) => !(error instanceof Skipped));
  if (failure !== undefined) throw failure;
  return failures.map(({ message }) => message);
}

/** Who is there, and where they talk. */
class Cast implements Scene {
  readonly clients: ChaosClient[] = [];
  readonly people: Person[] = [];
  readonly rooms: string[] = [];
  /** With those that a fault made for itself, in which nobody talks but who the fault lets talk. */
  readonly allRooms: string[] = [];
  readonly dice: Dice;

  private constructor(
    readonly world: World,
    seed: number,
    private readonly recorder: Recorder,
  ) {
    this.dice = diceOf(seed);
  }

  static async gather(world: World, seed: number, recorder: Recorder): Promise<Cast> {
    const cast = new Cast(world, seed, recorder);
    for (let n = 0; n < clientCount; n++) cast.people.push(await cast.newPerson());
    for (let n = 0; n < roomCount; n++) cast.rooms.push(await cast.newRoom(cast.people, n % 2 === 0 ? 'shared' : 'joined'));
    for (const person of cast.people) {
      const client = cast.newClient(person);
      for (const [n, room] of cast.rooms.entries()) if (n === 0 || cast.dice.below(2) > 0) client.follow(room);
    }
    return cast;
  }

  get events(): readonly Event[] {
    return this.recorder.events;
  }

  newPerson(): Promise<Person> {
    return createPerson(this.world.postgres.sql, `chaos-${uuidv7().slice(-12)}`, 86_400);
  }

  async newRoom(members: readonly Person[], history: 'shared' | 'joined' = 'shared'): Promise<string> {
    const room = await createRoom(this.world.postgres.sql, members, history);
    this.allRooms.push(room);
    return room;
  }

  newClient(person: Person): ChaosClient {
    const urls = this.world.nodes.map(({ url }) => url);
    const client = new ChaosClient(person, urls, this.recorder, this.dice);
    this.clients.push(client);
    client.start();
    return client;
  }

  dismiss(client: ChaosClient): void {
    client.stop();
    this.clients.splice(this.clients.indexOf(client), 1);
  }

  async recordHeads(recorder: Recorder): Promise<void> {
    const heads = await this.world.postgres.sql.query<{ room: string; seq: number }>(
      'SELECT id AS room, last_seq::int AS seq FROM rooms WHERE id = ANY ($1)',
      [this.allRooms],
    );
    for (const head of heads.rows) recorder.record({ type: 'head', ...head });
  }
}

async function recordAlarms({ nodes }: World, phase: 'before' | 'after', recorder: Recorder): Promise<void> {
  for (const node of nodes) recorder.record({ type: 'counted', node: node.name, phase, alarms: await node.alarms() });
}

/** Records what the node holds as soon as that is no more than it was, and at the latest when its time for it is over. */
async function untilRested(node: WorldNode, held: Resources, recorder: Recorder): Promise<void> {
  const rest = { type: 'rest', node: node.name, at: 0 } as const;
  for (const until = Date.now() + restDeadlineS * 1_000; ; await seconds(0.5)) {
    const resources = await node.resources();
    const events = [{ ...rest, phase: 'before', resources: held } as const, { ...rest, phase: 'after', resources } as const];
    if (Date.now() < until && bounded({ events }).length > 0) continue;
    return recorder.record({ type: 'rest', node: node.name, phase: 'after', resources });
  }
}
