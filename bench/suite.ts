/** What a suite of `npm run bench` is: one file of bench/suites/, listed in suites.ts. */
import type { ChildProcess } from 'node:child_process';
import type { Node } from './cluster.js';

export interface Suite {
  /** In kebab-case, as `--suite` takes it. */
  readonly name: string;
  /** What is measured, in a sentence without a full stop. */
  readonly title: string;
  /** Its loads, where it has several: `--suite name:part` measures that one alone. */
  readonly parts?: readonly string[];
  /** Measured only where it is named, or with `--suite all`. */
  readonly isExtra?: true;
  /** Left out of `--quick`, which has a minute for all suites. */
  readonly isLong?: true;
  run(run: Run): Promise<SuiteResult>;
}

/** What a suite is given. All that it starts by way of this is stopped after it. */
export interface Run {
  /** An empty, migrated database of this suite. The server has pg_stat_statements loaded: see statements.ts. */
  readonly databaseUrl: string;
  /** Another one on the same server: migrated, or with what these statements make. */
  newDatabase(tables?: string): Promise<string>;
  /** The key of access tokens: what makeCrowd signs with, and the nodes check by. */
  readonly secret: string;
  /** How long a load is measured, and how long it runs before. */
  readonly seconds: number;
  readonly warmUp: number;
  readonly contentChars: number;
  /** With `--quick`: leave out what takes longest, and say so in the notes. */
  readonly quick: boolean;
  /** False where `--suite name:part` named other parts of this suite. */
  wants(part: string): boolean;
  /** Nodes on this suite's database, each a process, that serve. `env` are settings of theirs. */
  startNodes(count: number, env?: Readonly<Record<string, string>>): Promise<readonly Node[]>;
  stopNodes(): Promise<void>;
  /** Runs a TypeScript file as a process of its own, with a profile where one is wanted. Ends with the run. */
  fork(entry: URL, name: string, env?: Readonly<Record<string, string>>): ChildProcess;
  /** One line for whoever looks on. */
  status(text: string): void;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
}

export type Goal = { readonly atLeast: number } | { readonly atMost: number };

export interface Figure {
  /** Unique in its suite, and the same in every run: `--compare` goes by it. */
  readonly name: string;
  readonly value: number;
  /** `messages/s`, `ms`, `KiB`, … */
  readonly unit: string;
  readonly goal?: Goal;
  /** What it is set against, of the same unit and measured in the same run: its limit, or a peer. */
  readonly against?: readonly Reference[];
}

export interface Reference {
  readonly name: string;
  readonly value: number;
  /** Of the ratio: the figure divided by this. */
  readonly goal?: Goal;
}

export interface SuiteResult {
  readonly figures: readonly Figure[];
  /** Loss, doubles, disorder, refusals, in words: with one of them the bench fails. A missed goal is none. */
  readonly failures: readonly string[];
  /** Lines for the reader: what was left out, CPU of the processes, … */
  readonly notes: readonly string[];
  /** For the file of `--json` alone. */
  readonly detail?: unknown;
}

export const isReached = (goal: Goal, value: number): boolean => ('atLeast' in goal ? value >= goal.atLeast : value <= goal.atMost);
