/** Memory and CPU of processes, from /proc; on other systems than Linux there are no figures. */
import { readdir, readFile } from 'node:fs/promises';
import type pg from 'pg';

const ticksPerSecond = 100;

export interface Usage {
  /** When it was read, in seconds of this process's clock. */
  readonly at: number;
  /** Seconds of CPU since its start. */
  readonly cpuSeconds: number;
  /** Resident; for several processes their proportional shares, so that shared memory counts once. */
  readonly residentMiB: number;
}

const nothing = (): Usage => ({ at: now(), cpuSeconds: Number.NaN, residentMiB: Number.NaN });
const now = (): number => performance.now() / 1_000;

export async function usageOf(pid: number | undefined): Promise<Usage> {
  try {
    const [stat, status] = await Promise.all([readFile(`/proc/${pid}/stat`, 'utf8'), readFile(`/proc/${pid}/status`, 'utf8')]);
    return { at: now(), cpuSeconds: cpuSeconds(stat), residentMiB: kib(/^VmRSS:\s+(\d+)/m.exec(status)) / 1_024 };
  } catch {
    return nothing();
  }
}

/** The whole machine, so that a run can tell what others took from it. Its memory is not read. */
export async function usageOfMachine(): Promise<Usage> {
  const at = now();
  const all = /^cpu +(.+)/
    .exec(await readFile('/proc/stat', 'utf8').catch(() => ''))?.[1]
    ?.split(' ')
    .map(Number);
  if (all === undefined) return nothing();
  const [user = 0, nice = 0, system = 0, , , interrupts = 0, softInterrupts = 0, stolen = 0] = all; // between them: idle, waiting for disks
  return { at, cpuSeconds: (user + nice + system + interrupts + softInterrupts + stolen) / ticksPerSecond, residentMiB: Number.NaN };
}

/** A process and all its children, as PostgreSQL's server is. */
export async function usageOfFamily(parent: number): Promise<Usage> {
  try {
    const family = await familyOf(parent);
    const at = now();
    let residentMiB = 0;
    let seconds = 0;
    for (const pid of family) {
      seconds += cpuSeconds(await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ''));
    }
    for (const pid of family) {
      residentMiB += kib(/^Pss:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => ''))) / 1_024;
    }
    return { at, cpuSeconds: seconds, residentMiB };
  } catch {
    return nothing();
  }
}

/** The parent of the server's processes. @returns undefined where the server is on another machine */
export async function postmasterPid(db: pg.Client): Promise<number | undefined> {
  try {
    const { rows } = await db.query<{ pid: string }>(`SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1) AS pid`);
    return rows[0] && Number(rows[0].pid);
  } catch {
    return undefined;
  }
}

async function familyOf(parent: number): Promise<number[]> {
  const family = [parent];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    if (Number(afterName(stat)[1]) === parent) family.push(Number(name));
  }
  return family;
}

/** The fields after the process's name, which may have blanks in it: state, parent, … (proc_pid_stat(5)). */
const afterName = (stat: string): string[] => stat.slice(stat.lastIndexOf(')') + 2).split(' ');

function cpuSeconds(stat: string): number {
  const fields = afterName(stat);
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / ticksPerSecond;
}

const kib = (match: RegExpExecArray | null): number => Number(match?.[1] ?? 0);
