/** A round that is made for one thing: few clients in one room, and what happens to them in so many steps; then the judgement of the checker. */
import { eventually } from '../../support/eventually.js';
import { createPerson, createRoom, type Person } from '../../support/people.js';
import { check } from '../check.js';
import { ChaosClient } from '../client.js';
import { diceOf } from '../dice.js';
import type { Violation } from '../history.js';
import { dumpTables, Recorder } from '../recorder.js';
import type { PostgresServer } from '../postgres-server.js';
import { seconds, type WorldNode } from '../world.js';

export interface Stage {
  readonly postgres: PostgresServer;
  readonly nodes: readonly WorldNode[];
  readonly people: readonly Person[];
  /** In the order of the people. */
  readonly clients: readonly ChaosClient[];
  readonly room: string;
  readonly recorder: Recorder;
}

const clientCount = 8;
const deadlineMs = 20_000;
/** What is healed must be whole again in 2 s. */
const graceS = 2.1;

export async function performOn(
  { postgres, nodes }: Pick<Stage, 'postgres' | 'nodes'>,
  act: (stage: Stage) => Promise<void>,
): Promise<Violation[]> {
  const { sql } = postgres;
  const recorder = new Recorder();
  const people = await Promise.all(Array.from({ length: clientCount }, () => createPerson(sql, undefined, 86_400)));
  const room = await createRoom(sql, people);
  const urls = nodes.map(({ url }) => url);
  const dice = diceOf(7);
  const clients = people.map((person) => new ChaosClient(person, urls, recorder, dice));
  for (const client of clients) {
    client.follow(room);
    client.start();
  }
  await eventually(() => clients.every((client) => client.follows(room)), 'all to follow the room', deadlineMs);

  await act({ postgres, nodes, people, clients, room, recorder });
  await Promise.all(nodes.map((node) => node.ready(deadlineMs)));
  const isWhole = () => {
    for (const client of clients) client.resend();
    return clients.every((client) => client.isConnected && client.undecided === 0);
  };
  await eventually(isWhole, 'every send to be decided', deadlineMs);

  const { rows } = await sql.query<{ seq: number }>('SELECT last_seq::int AS seq FROM rooms WHERE id = $1', [room]);
  recorder.record({ type: 'head', room, seq: rows[0]?.seq ?? 0 });
  await seconds(graceS);
  for (const client of clients) client.stop();
  return check({ seed: 0, events: recorder.events, tables: await dumpTables(sql, [room]) });
}

/** Sends, and waits until every send is decided. */
export async function sent({ clients, room }: Stage, count: number, padding = 0): Promise<void> {
  for (let n = 0; n < count; n++) clients[n % clients.length]?.send(room, padding);
  await eventually(() => clients.every(({ undecided }) => undecided === 0), 'the answers', deadlineMs);
}
