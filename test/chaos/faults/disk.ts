/** Disks that are full: a small one for an index, and one for the write-ahead log. */
import { execFile } from 'node:child_process';
import { appendFile, mkdir, mkdtemp, rename, rm, rmdir, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from '../../support/eventually.js';
import { seconds, type World } from '../world.js';
import { Skipped, type Fault, type Scene } from './scene.js';
import { inSession } from './sql.js';

const run = promisify(execFile);

interface Disk {
  /** A folder of PostgreSQL's account on it. */
  readonly folder: string;
  /** Leaves no byte free. */
  fill(): Promise<void>;
  free(): Promise<void>;
  remove(): Promise<void>;
}

/** @throws Skipped where this account may not mount, as whoever is not root */
async function smallDisk({ postgres }: World, bytes: number): Promise<Disk> {
  const path = await mkdtemp(join(tmpdir(), 'trunkline-disk-'));
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${Math.ceil(bytes)},mode=0755`, 'tmpfs', path]);
  } catch (error) {
    await rmdir(path);
    throw new Skipped(`a small disk can't be mounted: ${(error as { stderr?: string }).stderr?.trim()}`, { cause: error });
  }
  const folder = join(path, 'postgres');
  await mkdir(folder);
  await run('chown', [`--reference=${postgres.data}`, folder]);
  await run('chmod', [`--reference=${postgres.data}`, folder]);
  const ballast = join(path, 'ballast');
  return {
    folder,
    async fill() {
      for (const size of [1_048_576, 4_096]) {
        const block = Buffer.alloc(size);
        while (
          await appendFile(ballast, block).then(
            () => true,
            () => false,
          )
        );
      }
    },
    free: () => rm(ballast),
    async remove() {
      await run('umount', ['--lazy', path]); // sessions may still have files of it open
      await rmdir(path);
    },
  };
}

const sqlState = (error: unknown): string | undefined => (error as { code?: string }).code;

/** A plain INSERT, until it is refused for want of space. */
const untilFull = (scene: Scene): Promise<unknown> =>
  inSession(scene, (client) =>
    eventually(
      () =>
        client
          .query("INSERT INTO messages (room_id, user_id, content) VALUES ($1, $2, 'x' || random())", [
            scene.rooms[0],
            scene.clients[0]?.user.id,
          ])
          .then(
            () => false,
            (error: unknown) => sqlState(error) === '53100',
          ),
      'the disk to be full',
      20_000,
    ),
  );

export const diskFaults = {
  'disk full': async (scene) => {
    const { sql } = scene.world.postgres;
    const { rows } = await sql.query<{ bytes: number }>("SELECT pg_relation_size('messages_pkey')::float8 AS bytes");
    const disk = await smallDisk(scene.world, (rows[0]?.bytes ?? 0) * 1.2 + 8 * 1_048_576);
    await sql.query(`CREATE TABLESPACE small LOCATION '${disk.folder}'`);
    await sql.query('ALTER INDEX messages_pkey SET TABLESPACE small');
    await disk.fill();
    await untilFull(scene);
    await seconds(5);
    await disk.free();
    await sql.query('ALTER INDEX messages_pkey SET TABLESPACE pg_default');
    await sql.query('CHECKPOINT'); // what was dropped is removed then
    await sql.query('DROP TABLESPACE small');
    await disk.remove();
  },
  'disk of the write-ahead log full': async ({ world }) => {
    const { postgres } = world;
    const wal = join(postgres.data, 'pg_wal');
    const { stdout } = await run('du', ['-sb', wal]);
    const disk = await smallDisk(world, Number.parseInt(stdout, 10) + 64 * 1_048_576);
    await postgres.halt('SIGINT');
    await run('cp', ['-a', `${wal}/.`, disk.folder]);
    await rename(wal, `${wal}.away`);
    await symlink(disk.folder, wal);
    await postgres.boot();
    await seconds(3);

    await disk.fill();
    const isDown = () =>
      postgres.sql.query('SELECT pg_switch_wal()').then(
        () => false,
        () => true,
      );
    await eventually(isDown, 'PostgreSQL to have no room for its log', 30_000);
    await seconds(6);
    await disk.free();
    await eventually(() => postgres.boot().then(() => true), 'PostgreSQL to come back', 30_000);
    await seconds(3);

    await postgres.halt('SIGINT');
    await rm(wal);
    await rename(`${wal}.away`, wal);
    await run('cp', ['-a', `${disk.folder}/.`, wal]);
    await postgres.boot();
    await disk.remove();
  },
} as const satisfies Record<string, Fault>;
