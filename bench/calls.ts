/** How a suite asks a process that it forked: one call at a time, each answered with a result or an error. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** By name; argument and result are what JSON can carry. */
type Calls = Readonly<Record<string, (argument: never) => Promise<unknown>>>;

interface Answer {
  readonly result?: unknown;
  readonly error?: string;
}

/** @throws Error what the call threw there, or that the process has ended */
export function callsTo<Served extends Calls>(child: ChildProcess) {
  return async <Name extends keyof Served>(
    name: Name,
    argument: Parameters<Served[Name]>[0],
  ): Promise<Awaited<ReturnType<Served[Name]>>> => {
    const answered = new AbortController();
    const ended = once(child, 'exit', answered).then(([code]) => {
      throw new Error(`a process that was asked to ${String(name)} ended with code ${code}`);
    });
    try {
      if (!child.connected) throw new Error(`a process that is to be asked to ${String(name)} has ended`);
      const answer = once(child, 'message', answered);
      child.send({ name, argument });
      const [{ result, error }] = (await Promise.race([answer, ended])) as [Answer];
      if (error !== undefined) throw new Error(error);
      return result as Awaited<ReturnType<Served[Name]>>;
    } finally {
      ended.catch(() => undefined);
      answered.abort();
    }
  };
}

/** In the process: answers calls until its parent lets it go. */
export function serveCalls(calls: Calls): void {
  process.on('disconnect', () => process.exit());
  process.on('message', ({ name, argument }: { name: string; argument: never }) => {
    const answer = (what: Answer): void => void process.send?.(what);
    Promise.resolve(calls[name]?.(argument)).then(
      (result) => answer({ result }),
      (error: Error) => answer({ error: String(error.stack) }),
    );
  });
}
