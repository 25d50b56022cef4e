import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EmbeddedPostgresError, secretFile } from './embedded-postgres.js';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'trunkline-secret-'));
});
afterEach(() => rm(folder, { recursive: true }));

it('a secret is made once, however many ask for it at the same moment, and its owner alone reads it', async () => {
  const path = join(folder, 'secret');
  const secrets = await Promise.all(Array.from({ length: 20 }, () => secretFile(path)));
  expect(new Set(secrets).size).toBe(1);
  expect(Buffer.from(secrets[0] ?? '', 'base64url')).toHaveLength(32);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(folder)).toEqual(['secret']);
});

it('what a full disk or a fall of the power has left of a secret is none', async () => {
  for (const half of ['', '\n', 'x'.repeat(31)]) {
    await writeFile(join(folder, 'secret'), half);
    await expect(secretFile(join(folder, 'secret'))).rejects.toThrow(EmbeddedPostgresError);
  }
});
