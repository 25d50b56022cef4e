/** docs/reliability.md: what a run of chaos came to, as a table. */
import { format } from 'prettier';
import { machineLine, type Machine } from '../../bench/machine.js';
import type { Violation } from './history.js';
import type { RoundResult } from './round.js';

export type PlayedRound = Pick<RoundResult, 'faults' | 'seed' | 'acked' | 'received' | 'recoveryS' | 'skipped'> & {
  readonly harm: Harm;
};

/** How often a promise was broken, by what it came to for who was there. */
export interface Harm {
  readonly lost: number;
  readonly doubled: number;
  readonly reordered: number;
  readonly leaked: number;
  readonly other: number;
}

export interface Sabotage {
  /** The protection that was taken out. */
  readonly without: string;
  /** What the checker had to find. */
  readonly breaks: string;
  readonly isFound: boolean;
  readonly foundInWhole: boolean;
}

export interface Run {
  readonly command: string;
  readonly seed: number;
  readonly startedAt: Date;
  readonly minutes: number;
  readonly machine: Machine;
  readonly version: string;
  readonly isPartial: boolean;
  readonly rounds: readonly PlayedRound[];
  readonly sabotage: readonly Sabotage[];
}

export function harmOf(violations: readonly Violation[]): Harm {
  const harm = { lost: 0, doubled: 0, reordered: 0, leaked: 0, other: 0 };
  for (const violation of violations) harm[kindOf(violation)]++;
  return harm;
}

function kindOf({ invariant, witness }: Violation): keyof Harm {
  if (witness[0]?.type === 'counted') return 'other'; // no client had anything of it
  switch (invariant) {
    case 'I1':
    case 'I3':
    case 'I8':
      return 'lost';
    case 'I2':
    case 'I13':
      return 'doubled';
    case 'I4':
    case 'I9':
    case 'I10':
      return 'reordered';
    case 'I6':
    case 'I7':
      return 'leaked';
    case 'I5': {
      const [before, now] = witness.map((event) => ('seq' in event ? event.seq : 'lastSeq' in event ? event.lastSeq : 0));
      return (now ?? 0) > (before ?? 0) ? 'lost' : 'doubled';
    }
    case 'I11':
    case 'I12':
      return 'other';
  }
}

/** The text of the page, in the form that the formatter wants it. */
export function reliabilityPage(run: Run): Promise<string> {
  return format([...head(run), ...table(run.rounds), ...zeroes(run.rounds), ...sabotageTable(run.sabotage)].join('\n'), {
    parser: 'markdown',
  });
}

const count = (value: number): string => value.toLocaleString('en');

function head({ command, seed, startedAt, minutes, machine, version, isPartial, rounds }: Run): string[] {
  return [
    '# Reliability',
    '',
    'Written by the run itself; `test/chaos` is what it plays. Three nodes and their PostgreSQL serve 24 clients, who send up to 2,000 messages a second into four rooms, join, leave, are kicked and reconnect, while',
    'something is broken. All that a client did and saw is recorded, and when the fault is over, a checker compares the record with the tables, by one fold for each promise of [the design](design.md).',
    '',
    ...(isPartial ? ['**This run was interrupted: what follows is a part of it.**', ''] : []),
    `- Command: \`${command}\`, seed ${seed}`,
    `- When: ${startedAt.toISOString().slice(0, 16).replace('T', ' ')} UTC, ${minutes} minutes, ${rounds.length} rounds`,
    `- Where: ${machineLine(machine)}`,
    `- What: Trunkline ${version}`,
    '',
  ];
}

function table(rounds: readonly PlayedRound[]): string[] {
  const alone = new Map<string, PlayedRound[]>();
  const mixed = rounds.filter(({ faults }) => faults.length > 1);
  for (const round of rounds) {
    if (round.faults.length === 1) alone.set(round.faults[0] ?? '', [...(alone.get(round.faults[0] ?? '') ?? []), round]);
  }
  const rows = [...alone].map(([fault, played]) => [
    fault,
    String(played.length),
    String(mixed.filter(({ faults }) => (faults as readonly string[]).includes(fault)).length),
    ...figures(played),
  ]);
  if (mixed.length > 0) rows.push(['two or three of these at once', String(mixed.length), '', ...figures(mixed)]);
  rows.push(['**all**', String(rounds.length), '', ...figures(rounds)]);
  return [
    row(['Fault', 'Rounds', 'In mixtures', 'Sends acked', 'Lost', 'Doubled', 'Reordered', 'Leaked', 'Other', 'Worst recovery']),
    row(['---', ...Array.from({ length: 9 }, () => '---:')]),
    ...rows.map(row),
    '',
    ...new Set(rounds.flatMap(({ faults, skipped }) => skipped.map((why) => `- Not had on this machine: ${faults.join(' + ')}: ${why}`))),
    '',
    '*Rounds* are those of the fault alone; in a mixture it was had with others. *Lost*, *doubled*, *reordered* and *leaked* count breaches of what a send or a delivery is promised: acked and not stored, missing from',
    'the log or not delivered within 2 s of the end of the fault (lost); stored, delivered or numbered twice (doubled); in an order that contradicts acks, or differs between observers (reordered); seen by who was no member,',
    'or although it was refused (leaked). *Other* are resources that a node did not give back, and what it counted though no client noticed: sends of unknown end, streams out of order, holes. *Worst recovery* is the longest time from the end of a fault until every client was connected, in all its rooms, and had an answer',
    'to every send.',
    '',
  ];
}

function figures(rounds: readonly PlayedRound[]): string[] {
  if (rounds.every(({ skipped }) => skipped.length > 0)) return ['not had', '', '', '', '', '', ''];
  const sum = (of: (round: PlayedRound) => number): string => count(rounds.reduce((all, round) => all + of(round), 0));
  const harms = (['lost', 'doubled', 'reordered', 'leaked', 'other'] as const).map((kind) => sum(({ harm }) => harm[kind]));
  return [sum(({ acked }) => acked), ...harms, `${Math.max(...rounds.map(({ recoveryS }) => recoveryS)).toFixed(1)} s`];
}

/** Of n trials in which nothing happened, 3/n bounds how often it does (95 %): Hanley and Lippman-Hand, JAMA 249 (1983). */
function zeroes(rounds: readonly PlayedRound[]): string[] {
  const acked = rounds.reduce((sum, round) => sum + round.acked, 0);
  const received = rounds.reduce((sum, round) => sum + round.received, 0);
  const broken = rounds.filter(({ harm }) => Object.values(harm).some((times) => times > 0)).length;
  const verdict =
    broken > 0
      ? `A promise was broken in ${broken} of ${rounds.length} rounds.`
      : `No promise was broken. What a zero is worth, by the rule of three (95 %): of ${count(acked)} acked sends none was lost, so at most ${perMillion(acked)} in a million are; of ${count(received)} deliveries none was wrong, at most ${perMillion(received)} in a million; of ${rounds.length} rounds none was broken, at most ${Math.min(100, 300 / rounds.length).toFixed(1)} % of such rounds are.`;
  return ['## What the zeroes are worth', '', verdict, ''];
}

const perMillion = (trials: number): string =>
  ((3 / Math.max(1, trials)) * 1_000_000).toLocaleString('en', { maximumSignificantDigits: 2 });

function sabotageTable(sabotage: readonly Sabotage[]): string[] {
  if (sabotage.length === 0) return [];
  return [
    '## Whether the checker would see it',
    '',
    'The same server with one protection taken out of it, in a round that needs this protection, and as it is.',
    '',
    row(['Without', 'Promise broken', 'Found', 'In the whole server']),
    row(['---', '---', '---', '---']),
    ...sabotage.map(({ without, breaks, isFound, foundInWhole }) =>
      row([without, breaks, isFound ? 'yes' : '**no**', foundInWhole ? '**broken**' : 'held']),
    ),
    '',
  ];
}

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
