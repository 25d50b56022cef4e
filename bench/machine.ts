/** What a run was on, for whoever compares it with another. */
import { availableParallelism, cpus, release, totalmem, type as systemType } from 'node:os';
import pg from 'pg';

export interface Machine {
  readonly cores: number;
  readonly model: string;
  readonly memoryGiB: number;
  readonly system: string;
  readonly node: string;
  readonly postgres: string;
}

export async function thisMachine(serverUrl: string): Promise<Machine> {
  const db = new pg.Client({ connectionString: serverUrl });
  await db.connect();
  try {
    const { rows } = await db.query<{ server_version: string }>('SHOW server_version');
    return {
      cores: availableParallelism(),
      model: cpus()[0]?.model ?? '',
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      system: `${systemType()} ${release().split('-')[0]}`,
      node: process.version,
      postgres: rows[0]?.server_version ?? '',
    };
  } finally {
    await db.end();
  }
}

export const machineLine = ({ cores, model, memoryGiB, system, node, postgres }: Machine): string =>
  `${cores} cores (${model.trim()}), ${memoryGiB} GiB, ${system}, Node ${node.replace('v', '')}, PostgreSQL ${postgres}`;
