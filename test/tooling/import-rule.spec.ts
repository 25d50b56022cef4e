import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..');
const { imports, everything } = (await import(join(root, 'oxlint.config.mjs'))) as {
  imports: Record<string, string[]>;
  everything: string[];
};
const folders = Object.keys(imports);

interface Plant {
  /** Below src/. */
  file: string;
  imported: string;
  forbidden: boolean;
}

/** An import of each other folder, allowed or not, and of whatever else must or must not be within reach. */
function plantsIn(folder: string): Plant[] {
  const leaf = folder === 'protocol';
  const plant = (name: string, imported: string, forbidden: boolean): Plant => ({
    file: `${folder}/imports-${name}.ts`,
    imported,
    forbidden,
  });
  return [
    ...folders
      .filter((other) => other !== folder)
      .map((other) => plant(other, `../${other}/planted.js`, !imports[folder]?.includes(other))),
    ...everything.map((file) => plant(file, `../${file}`, leaf)),
    plant('itself', './planted.js', false),
    plant('the-app', '../app.js', true),
    plant('the-tests', '../../test/support/planted.js', true),
    plant('a-new-folder', '../utils/planted.js', true),
    plant('by-a-detour', './../app.js', true),
    plant('by-another-detour', './planted/../../app.js', true),
    plant('pg-listen', 'pg-listen', true),
    ...['@nestjs/common', 'pg', 'ws'].map((outside) => plant(outside.replace('/', '-'), outside, leaf)),
    { file: `${folder}/imports-anything.spec.ts`, imported: '../app.js', forbidden: false },
  ];
}

const plantsAtTheTop: Plant[] = [
  { file: 'app.module.ts', imported: './realtime/planted.js', forbidden: false },
  { file: 'app.ts', imported: 'pg-listen', forbidden: true },
  { file: 'config.ts', imported: './protocol/planted.js', forbidden: true },
  { file: 'logger.ts', imported: './protocol/planted.js', forbidden: true },
  { file: 'main.ts', imported: './app.js', forbidden: false },
];
const exceptions: Plant[] = [
  { file: 'bus/listener.ts', imported: 'pg-listen', forbidden: false },
  { file: 'chat/uses-a-guard.ts', imported: '../auth/auth.guard.js', forbidden: false },
  { file: 'chat/uses-auth.ts', imported: '../auth/planted.js', forbidden: true },
];

let planted: string;
/** The planted files in which oxlint named the rule, each once. */
let refused: string[];

beforeAll(async () => {
  planted = await mkdtemp(join(tmpdir(), 'trunkline-import-rule-'));
  await cp(join(root, 'oxlint.config.mjs'), join(planted, 'oxlint.config.mjs'));
  await symlink(join(root, 'node_modules'), join(planted, 'node_modules'));
  for (const { file, imported } of [...folders.flatMap(plantsIn), ...plantsAtTheTop, ...exceptions]) {
    const path = join(planted, 'src', file);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, `export * from '${imported}';\n`);
  }
  refused = await lint();
});

afterAll(() => rm(planted, { recursive: true, force: true }));

async function lint(): Promise<string[]> {
  const args = [join(root, 'node_modules/oxlint/bin/oxlint'), '-c', 'oxlint.config.mjs', '-f', 'json', 'src'];
  const report = await new Promise<string>((done) => {
    execFile(process.execPath, args, { cwd: planted, maxBuffer: 1 << 26 }, (_refused, stdout) => done(stdout));
  });
  const { diagnostics } = JSON.parse(report) as { diagnostics: { code: string; filename: string }[] };
  return diagnostics
    .filter(({ code }) => code === 'eslint(no-restricted-imports)')
    .map(({ filename }) => filename.replace(/^.*?src\//, ''));
}

const forbiddenOf = (plants: Plant[]) => plants.flatMap(({ file, forbidden }) => (forbidden ? [file] : [])).toSorted();
const refusedOf = (plants: Plant[]) => refused.filter((file) => plants.some((plant) => plant.file === file)).toSorted();

it('the table names each folder of src/', async () => {
  const entries = await readdir(join(root, 'src'), { withFileTypes: true });
  const unknown = entries.filter((entry) => entry.isDirectory() && imports[entry.name] === undefined);
  expect(unknown.map(({ name }) => name)).toEqual([]);
});

it.each(folders)('%s: the linter refuses each import that the table does not allow, and no other', (folder) => {
  expect(refusedOf(plantsIn(folder))).toEqual(forbiddenOf(plantsIn(folder)));
});

it('the files that join the parts may import all of them; the settings and the log none', () => {
  expect(refusedOf(plantsAtTheTop)).toEqual(forbiddenOf(plantsAtTheTop));
});

it('one file may listen, and chat may use the guards', () => {
  expect(refusedOf(exceptions)).toEqual(forbiddenOf(exceptions));
});

it('chat and bus never import each other', () => {
  expect(refused).toEqual(expect.arrayContaining(['chat/imports-bus.ts', 'bus/imports-chat.ts']));
});
