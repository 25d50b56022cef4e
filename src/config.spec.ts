import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import Type from 'typebox';
import { envExample, withSettingsTable } from '../scripts/settings-table.js';
import { ConfigError, loadConfig, settings } from './config.js';

const root = resolve(import.meta.dirname, '..');
const names = Object.keys(settings) as (keyof typeof settings)[];
const secret = 'a secret of the tests, of more than 32 bytes';

interface SchemaRule {
  default?: unknown;
  description?: string;
  minimum?: number;
  maximum?: number;
}
const schemaOf = (name: keyof typeof settings) => settings[name] as SchemaRule;

/** The lines that tell what is wrong, without the sentence above them. */
function problemsOf(env: Record<string, string>): readonly string[] {
  try {
    loadConfig(env);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    expect(error.message.split('\n').slice(1)).toEqual(error.problems.map((problem) => `  ${problem}`));
    return error.problems;
  }
}

/** Values that a setting must refuse. HOST, DATA_DIR and OTEL_SERVICE_NAME take any text; empty is their default. */
function wrongValues(name: keyof typeof settings): string[] {
  const { minimum, maximum } = schemaOf(name);
  if (minimum !== undefined && maximum !== undefined) {
    return [String(minimum - 1), String(maximum + 1), '1.5', '1e3', '0x10', '1_000', 'many', ' ', `${minimum} ${minimum}`, '∞'];
  }
  if (Type.IsEnum(settings[name])) return ['loud', 'INFO', 'info,debug'];
  if (name === 'NODE_NAME') return ['a b', 'n'.repeat(65)];
  if (name === 'JWT_ACCESS_SECRET') return ['hunter2', 's'.repeat(31)];
  if (name === 'ALLOWED_ORIGINS')
    return ['chat.example.org', 'https://chat.example.org/', 'https://chat.example.org/app', 'https://a.example,', 'null', '*'];
  if (name === 'TRUSTED_PROXIES') return ['proxy', '10.0.0.0/33', '0.0.0.0/0', '::/0', '10.0.0.1, nonsense', '10.0.0.0/255.0.0.0'];
  if (name === 'OTEL_EXPORTER_OTLP_ENDPOINT') return ['collector', 'collector:4318', 'grpc://collector:4317', 'http://'];
  return name.startsWith('DATABASE_') ? ['mysql://user:hunter2@host/db', 'host:5432', 'postgres://'] : [];
}

it('an empty environment takes every default', () => {
  const config = loadConfig({});
  for (const name of names) expect(config[name]).toBe(schemaOf(name).default);
  expect(Object.keys(config)).toEqual(names);
});

it('an empty variable takes the default, and a variable that is not a setting is ignored', () => {
  expect(loadConfig({ PORT: '', LOG_LEVEL: '', PATH: '/bin' })).toEqual(loadConfig({}));
});

it('a given value is taken, as a number where it is one', () => {
  const config = loadConfig({ PORT: '0', HOST: '::1', LOG_FORMAT: 'json', DATABASE_URL: 'postgres://u@h/d', JWT_ACCESS_SECRET: secret });
  expect(config).toMatchObject({ PORT: 0, HOST: '::1', LOG_FORMAT: 'json', DATABASE_URL: 'postgres://u@h/d', JWT_ACCESS_SECRET: secret });
});

it('a list may have one entry or several', () => {
  const lists = { ALLOWED_ORIGINS: 'https://chat.example.org, http://localhost:5173', TRUSTED_PROXIES: '10.0.0.0/8, ::1,192.0.2.1' };
  expect(loadConfig(lists)).toMatchObject(lists);
});

it('the settings cannot be changed after the start', () => {
  expect(Object.isFrozen(loadConfig({}))).toBe(true);
});

it('the limits of each number are allowed', () => {
  for (const limit of ['minimum', 'maximum'] as const) {
    const env = Object.fromEntries(
      names.flatMap((name) => (schemaOf(name)[limit] === undefined ? [] : [[name, String(schemaOf(name)[limit])]])),
    );
    expect(loadConfig(env)).toMatchObject(Object.fromEntries(Object.entries(env).map(([name, text]) => [name, Number(text)])));
  }
});

it.each(names.filter((name) => wrongValues(name).length > 0))(
  'a wrong %s stops the start with one line that names it and says what is allowed',
  (name) => {
    for (const value of wrongValues(name)) {
      const problems = problemsOf({ JWT_ACCESS_SECRET: secret, [name]: value });
      expect(problems).toHaveLength(1);
      expect(problems[0]).toMatch(new RegExp(`^${name}=.*: must .+$`));
    }
  },
);

it('every wrong setting is told at once', () => {
  const env = Object.fromEntries(
    names.flatMap((name) =>
      wrongValues(name)
        .slice(0, 1)
        .map((value) => [name, value]),
    ),
  );
  expect(problemsOf(env).map((problem) => problem.split('=')[0])).toEqual(Object.keys(env));
});

it('a wrong value is shown, unless it is a secret', () => {
  expect(problemsOf({ PORT: 'http' })).toEqual(['PORT=http: must be a whole number from 0 to 65535']);
  expect(problemsOf({ JWT_ACCESS_SECRET: 'hunter2' })).toEqual(['JWT_ACCESS_SECRET=(hidden): must have at least 32 bytes']);
  for (const name of ['DATABASE_URL', 'DATABASE_LISTEN_URL']) {
    const env = { JWT_ACCESS_SECRET: secret, [name]: 'mysql://user:hunter2@host/db' };
    expect(problemsOf(env)).toEqual([`${name}=(hidden): must be empty or start with postgres:// or postgresql://`]);
  }
});

it('a database of one’s own requires a secret of one’s own', () => {
  const DATABASE_URL = 'postgresql://trunkline@localhost/trunkline';
  expect(problemsOf({ DATABASE_URL })).toEqual([expect.stringMatching(/^JWT_ACCESS_SECRET is missing: /)]);
  expect(problemsOf({ DATABASE_URL, JWT_ACCESS_SECRET: '' })).toHaveLength(1);
  expect(problemsOf({ DATABASE_URL, JWT_ACCESS_SECRET: 's'.repeat(31) })).toEqual([
    'JWT_ACCESS_SECRET=(hidden): must have at least 32 bytes',
  ]);
  expect(problemsOf({ DATABASE_URL, JWT_ACCESS_SECRET: 's'.repeat(32) })).toEqual([]);
});

it('.env.example has each setting once, commented out at its default, below what it is', async () => {
  const text = await readFile(resolve(root, '.env.example'), 'utf8');
  expect(text).toBe(envExample());
  for (const name of names) {
    const { default: fallback, description } = schemaOf(name);
    expect(text.match(new RegExp(`^# ${name}=.*$`, 'gm'))).toEqual([`# ${name}=${String(fallback)}`]);
    expect(text).toContain(`# ${description}\n`);
  }
});

it('the README’s table of the settings is what `npm run docs:settings` writes', async () => {
  const readme = await readFile(resolve(root, 'README.md'), 'utf8');
  expect(readme).toBe(withSettingsTable(readme));
  for (const name of names) expect(readme.match(new RegExp(`^\\| \`${name}\` `, 'gm'))).toHaveLength(1);
});
