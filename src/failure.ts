import { ConfigError } from './config.js';
import { EmbeddedPostgresError } from './database/embedded-postgres.js';
import { DatabaseAway } from './database/sql-error.js';

/** A command line that can't be understood; the message is the usage. */
export class UsageError extends Error {}

/** What stands in the way of a command of the operator's; the message says what to do. */
export class OperatorError extends Error {}

/** Ends the process with 1 after saying why: in a sentence where somebody can do something about it, with the stack where it is a bug. */
export function failForPeople(error: unknown): never {
  const expected = [ConfigError, EmbeddedPostgresError, UsageError, OperatorError].some((kind) => error instanceof kind);
  const message = expected && error instanceof Error ? error.message : (describePort(error) ?? describeUnreachable(rootOf(error)));
  process.stderr.write(`${message ?? (error instanceof Error ? error.stack : String(error))}\n`);
  process.exit(1);
}

/** What a node says to a client hides the database's own words in its cause. */
const rootOf = (error: unknown): unknown => (error instanceof Error && error.cause !== undefined ? rootOf(error.cause) : error);

/** @param code of the error that `listen` failed with */
export const portProblem = (port: number, code: string | undefined): string =>
  `Port ${port} ${code === 'EADDRINUSE' ? 'is in use by another program' : `can't be had (${code})`}`;

function describePort(error: unknown): string | undefined {
  const { code, syscall, port } = error as NodeJS.ErrnoException & { port?: number };
  if (syscall !== 'listen' || port === undefined) return undefined;
  return `${portProblem(port, code)}: give another as PORT, or as METRICS_PORT.`;
}

/** Errors of the network and of a server's refusal to let us in (SQLSTATE classes 08, 28, 3D, 53 and 57). */
function describeUnreachable(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const unreachable =
    error instanceof DatabaseAway ||
    /^(ECONN|EHOST|ENET|ETIMEDOUT|ENOTFOUND|EAI_|08|28|3D|53|57)/.test(code) ||
    (error instanceof Error && /timeout/i.test(error.message));
  if (!unreachable) return undefined;
  const messages = error instanceof AggregateError ? error.errors.map((inner: Error) => inner.message) : [(error as Error).message];
  return `Trunkline can't use the database at DATABASE_URL: ${messages.join('; ')}`;
}
