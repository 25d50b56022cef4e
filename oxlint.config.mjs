/**
 * Which folder of src/ may import which; `everything` else may import too, and app.ts, app.module.ts and main.ts, which join the parts, import
 * all. An entry with a dot is a file. Tests may import anything.
 */
export const imports = {
  realtime: ['chat', 'bus', 'presence', 'auth', 'protocol'],
  chat: ['rooms', 'limits', 'database', 'protocol', 'rest', 'auth/*.guard.js'],
  bus: ['database', 'protocol'],
  presence: ['rooms', 'bus', 'database', 'protocol'],
  rooms: ['auth', 'users', 'limits', 'database', 'protocol', 'rest'],
  auth: ['users', 'database', 'protocol', 'rest'],
  users: ['database', 'protocol', 'rest'],
  limits: ['protocol'],
  docs: ['auth/*.guard.js', 'protocol', 'rest'],
  doctor: ['auth', 'bus', 'database', 'protocol'],
  verify: ['database'],
  health: ['realtime', 'chat', 'bus', 'database', 'protocol', 'rest'],
  metrics: ['realtime', 'presence', 'chat', 'bus', 'database', 'protocol', 'rest'],
  tracing: ['chat', 'database'],
  database: ['protocol'],
  rest: ['protocol'],
  protocol: [],
};
export const everything = ['config.js', 'logger.js'];

/** What every other file leaves to the one named here. */
const listener = 'src/bus/listener.ts';
const pgListen = { name: 'pg-listen', message: `LISTEN belongs to ${listener} alone.` };
/** `./../bus/feed.js` would pass as a file of one's own folder. */
const detour = { regex: '^\\./(.*/)?\\.\\./|[^.]/\\.\\./', message: 'Write the path without a detour.' };
const outside = { group: ['@nestjs/**', 'fastify', 'pg', 'ws', 'pino'], message: 'protocol is a leaf: no Nest, pg or ws.' };

const restricted = (files, patterns, { paths = [pgListen], excludeFiles = ['**/*.spec.ts'] } = {}) => ({
  files,
  excludeFiles,
  rules: { 'no-restricted-imports': ['error', { paths, patterns: [...patterns, detour] }] },
});

const importsAlone = (folder) => {
  const allowed = folder === 'protocol' ? imports[folder] : [...imports[folder], ...everything];
  return {
    group: ['../**', ...allowed.map((entry) => `!../${entry.includes('.') ? entry : `${entry}/**`}`)],
    message: `${folder} may import ${allowed.join(', ') || 'no other folder'}${allowed.length > 0 ? ', nothing else' : ''}.`,
  };
};

const importRule = [
  restricted(['src/*.ts'], []),
  ...Object.keys(imports).map((folder) =>
    restricted([`src/${folder}/**`], folder === 'protocol' ? [importsAlone(folder), outside] : [importsAlone(folder)]),
  ),
  restricted([listener], [importsAlone('bus')], { paths: [] }),
  restricted(['src/config.ts'], [{ group: ['./**'], message: 'config.ts stands alone.' }]),
  restricted(['src/logger.ts'], [{ group: ['./**', '!./config.js'], message: 'logger.ts may import the settings, nothing else.' }]),
];

/** @type {import('oxlint').OxlintConfig} */
export default {
  plugins: ['typescript', 'unicorn', 'oxc', 'import', 'node', 'promise', 'jest'],
  options: { typeAware: true, denyWarnings: true, reportUnusedDisableDirectives: 'error' },
  ignorePatterns: ['dist', '.data', 'coverage'],
  categories: { correctness: 'error', suspicious: 'error' },
  rules: {
    eqeqeq: 'error',
    'no-console': 'error',
    'import/no-cycle': 'error',
    'node/no-process-env': 'error',
    'typescript/await-thenable': 'error',
    'typescript/no-explicit-any': 'error',
    'typescript/no-floating-promises': 'error',
    'typescript/no-misused-promises': 'error',
    'typescript/no-non-null-assertion': 'error',
    'typescript/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
    'typescript/no-extraneous-class': ['error', { allowWithDecorator: true }],
    'import/no-unassigned-import': ['error', { allow: ['reflect-metadata'] }],
    'jest/expect-expect': ['error', { assertFunctionNames: ['expect*', 'fc.assert', 'eventually'] }],
    // A property branches on what it was given.
    'jest/no-conditional-expect': 'off',
    // The compiler proves that every path returns, also after an exhaustive switch.
    'typescript/consistent-return': 'off',
    // `import pg from 'pg'` and `import Type from 'typebox'` are how these packages are used.
    'import/no-named-as-default': 'off',
    'import/no-named-as-default-member': 'off',
    // What comes from outside is checked by a schema and then asserted; `pg` types its object ids as an enum and delivers numbers.
    'typescript/no-unsafe-type-assertion': 'off',
    'typescript/no-unsafe-enum-assignment': 'off',
    'typescript/no-unsafe-enum-comparison': 'off',
    // `import type {} from '@fastify/cookie'` is how its additions to Fastify's types are taken in.
    'import/no-empty-named-blocks': 'off',
    'unicorn/require-module-specifiers': 'off',
    // A `then` may be there for its effect.
    'promise/always-return': 'off',
    // A function stands where it is used.
    'unicorn/consistent-function-scoping': 'off',
  },
  overrides: [
    { files: ['scripts/**', 'bench/**', 'loadtest/**'], rules: { 'no-console': 'off', 'node/no-process-env': 'off' } },
    { files: ['src/config.ts', 'test/**', '**/*.spec.ts', '*.mjs'], rules: { 'node/no-process-env': 'off' } },
    {
      files: ['test/**', '**/*.spec.ts'],
      excludeFiles: ['test/support/any-call.ts', 'test/support/metrics.ts', 'test/tooling/nginx.spec.ts'],
      rules: {
        'no-restricted-globals': [
          'error',
          { name: 'fetch', message: '`call` of test/support/rest.ts holds each answer against the document.' },
        ],
      },
    },
    ...importRule,
  ],
};
