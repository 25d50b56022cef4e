/**
 * What the doctor is made of: small checks, each a name and a function from what is examined to findings. A finding that is not `ok` says what
 * is the matter and what to do. Checks change nothing, except that those by way of a URL fail one login.
 */
import { setTimeout as wait } from 'node:timers/promises';

export type Verdict = 'ok' | 'warn' | 'fail';

export interface Finding {
  readonly verdict: Verdict;
  readonly text: string;
}

export interface Check<Subject> {
  readonly name: string;
  /** Where it fails, the checks after it would only say the same. */
  readonly isGate?: true;
  run(subject: Subject): readonly Finding[] | Promise<readonly Finding[]>;
}

export const ok = (text: string): Finding[] => [{ verdict: 'ok', text }];
/** It runs, but not as well or as safely as it could. */
export const warn = (text: string): Finding[] => [{ verdict: 'warn', text }];
/** It does not run, or can break a promise. */
export const fail = (text: string): Finding[] => [{ verdict: 'fail', text }];

export type Report = (name: string, finding: Finding) => void;

/** A check that takes longer is given up: what it asked does not answer. */
const checkDeadlineMs = 10_000;

/** Runs the checks one after the other. What one throws, or does not say in time, is a `fail` of that one. */
export async function runChecks<Subject>(
  checks: readonly Check<Subject>[],
  subject: Subject,
  report: Report,
  deadlineMs = checkDeadlineMs,
): Promise<void> {
  for (const check of checks) {
    const found = await findings(check, subject, deadlineMs);
    for (const finding of found) report(check.name, finding);
    if (check.isGate === true && found.some(({ verdict }) => verdict === 'fail')) return;
  }
}

async function findings<Subject>(check: Check<Subject>, subject: Subject, deadlineMs: number): Promise<readonly Finding[]> {
  const giveUp = new AbortController();
  try {
    return await Promise.race([
      check.run(subject),
      wait(deadlineMs, undefined, { signal: giveUp.signal }).then(() => fail(`no answer within ${deadlineMs / 1_000} s`)),
    ]);
  } catch (error) {
    return fail(reasonOf(error));
  } finally {
    giveUp.abort();
  }
}

/** An error's own words; of several, as for a name with several addresses, all. Never a URL, which may hold a password. */
export function reasonOf(error: unknown): string {
  const text =
    error instanceof AggregateError ? error.errors.map(reasonOf).join('; ') : error instanceof Error ? error.message : String(error);
  return text.replaceAll(/(postgres(?:ql)?:\/\/)\S+/g, '$1(hidden)');
}
