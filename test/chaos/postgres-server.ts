/** The PostgreSQL of a run: a server in a folder of its own, which can be stopped in every way that a server stops, and replaced by its standby. */
import { execFile } from 'node:child_process';
import { appendFile, chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { freePort } from '../../scripts/cluster/node-process.js';
import { startEmbeddedPostgres } from '../../src/database/embedded-postgres.js';
import { eventually } from '../support/eventually.js';

const run = promisify(execFile);
const settings = { shared_buffers: '128MB', max_connections: '150', max_notify_queue_pages: '64', log_min_messages: 'fatal' };
/** What a base backup leaves out: https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP-DATA */
const notBackedUp = ['pg_wal/*', 'pg_replslot/*', 'pg_dynshmem/*', 'pg_notify/*', 'pg_serial/*', 'pg_snapshots/*', 'pg_subtrans/*'].concat([
  'pg_stat_tmp/*',
  'postmaster.pid',
  'postmaster.opts',
  'server.log',
  '*/pgsql_tmp*',
]);

export class PostgresServer {
  /** Of the server itself, without a proxy. */
  url = '';
  readonly sql: pg.Pool;

  private constructor(
    private folder: string,
    private port: number,
  ) {
    this.sql = new pg.Pool({ connectionTimeoutMillis: 5_000, max: 4, application_name: 'chaos' });
    this.sql.on('error', () => undefined); // a fault stops the server
  }

  private static async create(): Promise<PostgresServer> {
    const folder = await mkdtemp(join(tmpdir(), 'trunkline-chaos-'));
    await chmod(folder, 0o755); // the server may run under an account of its own
    return new PostgresServer(folder, await freePort());
  }

  static async start(): Promise<PostgresServer> {
    const server = await PostgresServer.create();
    await server.boot();
    return server;
  }

  /** Where its files are. */
  get data(): string {
    return join(this.folder, 'postgres');
  }

  async boot(): Promise<void> {
    const { connectionString } = await startEmbeddedPostgres(this.folder, { ...settings, port: String(this.port) });
    this.url = connectionString;
    this.sql.options.connectionString = connectionString;
  }

  /** @param how SIGINT ends it in an orderly way, SIGQUIT at once, as a crash */
  async halt(how: 'SIGINT' | 'SIGQUIT'): Promise<void> {
    const pid = await this.pid();
    process.kill(pid, how);
    await eventually(() => !isAlive(pid), 'PostgreSQL to stop', 30_000);
  }

  async pid(): Promise<number> {
    return Number((await readFile(join(this.data, 'postmaster.pid'), 'utf8')).split('\n')[0]);
  }

  /**
   * A standby of this server, streaming from it. Its base backup is made by the low-level API, because the embedded PostgreSQL has no pg_basebackup.
   * @param primaryUrl where it streams from: this server, or a proxy before it
   */
  async createStandby(primaryUrl: string): Promise<PostgresServer> {
    const standby = await PostgresServer.create();
    await copyFile(join(this.folder, 'postgres-password'), join(standby.folder, 'postgres-password'));
    const session = new pg.Client({ connectionString: this.url, application_name: 'chaos backup' });
    await session.connect();
    try {
      await session.query("SELECT pg_create_physical_replication_slot('standby', true)");
      await session.query("SELECT pg_backup_start('standby', true)");
      await mkdir(standby.data);
      const left = notBackedUp.map((path) => `--exclude=./${path}`);
      // Files that change or vanish while they are read are mended by the WAL from the start of the backup on; tar ends with 1 then.
      await run('bash', [
        '-c',
        'tar -C "$0" -cf - "${@:2}" . | tar -C "$1" -xpf -; (( PIPESTATUS[0] < 2 ))',
        this.data,
        standby.data,
        ...left,
      ]);
      const { rows } = await session.query<{ labelfile: string }>('SELECT labelfile FROM pg_backup_stop()');
      await writeFile(join(standby.data, 'backup_label'), rows[0]?.labelfile ?? '');
    } finally {
      await session.end();
    }
    const { hostname, port, username, password } = new URL(primaryUrl);
    const primary = `host=${hostname} port=${port} user=${username} password=${password} application_name=standby`;
    await appendFile(
      join(standby.data, 'postgresql.auto.conf'),
      `\nprimary_conninfo = '${primary}'\nprimary_slot_name = 'standby'\nwal_retrieve_retry_interval = '500ms'\n`,
    );
    await writeFile(join(standby.data, 'standby.signal'), '');
    await run('chown', ['-R', `--reference=${this.data}`, standby.data]);
    await standby.boot();
    await eventually(
      async () => (await this.sql.query("SELECT FROM pg_stat_replication WHERE state = 'streaming'")).rowCount === 1,
      'the standby to stream',
      30_000,
    );
    return standby;
  }

  /** Becomes its standby, which is promoted: the server that was is down, and its files are removed. */
  async failOverTo(standby: PostgresServer): Promise<void> {
    await this.halt('SIGQUIT');
    await standby.sql.query('SELECT pg_promote(true, 60)');
    await standby.sql.end();
    await rm(this.folder, { recursive: true });
    this.folder = standby.folder;
    this.port = standby.port;
    this.url = standby.url;
    this.sql.options.connectionString = standby.url;
  }

  async remove(): Promise<void> {
    await this.sql.end();
    await this.halt('SIGINT').catch(() => undefined);
    await rm(this.folder, { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
