import { execFile, execFileSync } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

export interface RunAsServer {
  /** The account's user and group id; undefined where it is our own. */
  readonly uid?: number;
  /** Runs a command of the server to its end; rejects on an exit code other than 0. */
  run(file: string, args: readonly string[]): Promise<unknown>;
}

/**
 * Who runs PostgreSQL. It refuses to run as root; there, its commands run as user postgres, made if missing.
 * @param paths that the account must be able to reach
 */
export async function serverAccount(paths: readonly string[]): Promise<RunAsServer> {
  if (process.getuid?.() !== 0) return { run: (file, args) => execute(file, args) };
  const uid = accountId('postgres') ?? makeAccount('postgres');
  const reachable = await Promise.all(paths.map(othersMayPass));
  if (reachable.every(Boolean)) return { uid, run: (file, args) => execute(file, args, { uid, gid: uid }) };
  // Below a folder that only root may enter, such as /root: the commands keep root's right to pass, and nothing else of it.
  const keep = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--inh-caps=+dac_override', '--ambient-caps=+dac_override'];
  return { uid, run: (file, args) => execute('setpriv', [...keep, file, ...args]) };
}

function accountId(name: string): number | undefined {
  try {
    return Number(execFileSync('id', ['-u', name], { stdio: ['ignore', 'pipe', 'ignore'] }).toString());
  } catch {
    return undefined;
  }
}

function makeAccount(name: string): number {
  execFileSync('useradd', ['--system', '--user-group', '--no-create-home', name]);
  return accountId(name) ?? 0;
}

async function othersMayPass(path: string): Promise<boolean> {
  const parent = dirname(path);
  if (parent === path) return true;
  const mode = await stat(parent).then(
    (found) => found.mode,
    () => 0o001, // made later, by us
  );
  return (mode & 0o001) !== 0 && othersMayPass(parent);
}
