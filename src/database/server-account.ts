import { execFile, execFileSync } from 'node:child_process';
import { chown, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const account = 'postgres';

export interface RunAsServer {
  /** Runs a command of the server to its end; rejects on an exit code other than 0. */
  run(file: string, args: readonly string[]): Promise<unknown>;
  /** Makes a file or folder of ours the account's. */
  own: (path: string) => Promise<void>;
}

/**
 * Who runs PostgreSQL. It refuses to run as root; there, its commands run as user postgres, made if missing.
 * @param paths that the account must be able to reach
 */
export async function serverAccount(paths: readonly string[]): Promise<RunAsServer> {
  if (process.getuid?.() !== 0) return { run: (file, args) => execute(file, args), own: () => Promise.resolve() };
  if (accountId('-u') === undefined) execFileSync('useradd', ['--system', '--user-group', '--no-create-home', account]);
  const [uid = 0, gid = 0] = [accountId('-u'), accountId('-g')];
  const own = (path: string) => chown(path, uid, gid);
  const reachable = await Promise.all(paths.map(othersMayPass));
  if (reachable.every(Boolean)) return { own, run: (file, args) => execute(file, args, { uid, gid }) };
  // Below a folder that only root may enter, such as /root: the commands keep root's right to pass, and nothing else of it. The secure bit
  // is for access(2), which forgets capabilities without it.
  const drop = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];
  const keep = ['--securebits=+no_setuid_fixup', '--inh-caps=+dac_override', '--ambient-caps=+dac_override'];
  return { own, run: (file, args) => execute('setpriv', [...drop, ...keep, file, ...args]) };
}

function accountId(which: '-u' | '-g'): number | undefined {
  try {
    return Number(execFileSync('id', [which, account], { stdio: ['ignore', 'pipe', 'ignore'] }).toString());
  } catch {
    return undefined;
  }
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
