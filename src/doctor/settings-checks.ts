/** What can be said of the settings without asking anybody. */
import type { Config } from '../config.js';
import { fail, ok, warn, type Check, type Finding } from './check.js';

export interface Settings {
  readonly config: Config;
  /** What `readConfig` said of settings that are not allowed. */
  readonly problems: readonly string[];
}

/** Nginx and most others cut a connection on which nothing was read for so long, unless they are told otherwise. */
const proxyTimeoutMs = 60_000;
/** Of random text of 32 characters in base64, 20 or more are different. */
const fewestDistinctCharacters = 12;
const notSecret = /secret|password|change.?me|example|trunkline|0123456789|1234567890|abcdefghij/i;

/** Pairs of settings that are allowed each, and make no sense together. */
const contradictions: readonly (readonly [is: (config: Config) => boolean, text: (config: Config) => string])[] = [
  [
    ({ HEARTBEAT_MS }) => HEARTBEAT_MS >= proxyTimeoutMs,
    ({ HEARTBEAT_MS }) =>
      `HEARTBEAT_MS=${HEARTBEAT_MS} is not below ${proxyTimeoutMs}, after which Nginx cuts a silent socket by default: lower it, or raise proxy_read_timeout above it`,
  ],
  [
    ({ ACCESS_TOKEN_TTL_S, REFRESH_TOKEN_TTL_S }) => ACCESS_TOKEN_TTL_S >= REFRESH_TOKEN_TTL_S,
    () => 'ACCESS_TOKEN_TTL_S is not below REFRESH_TOKEN_TTL_S: a session is over before its token has to be refreshed',
  ],
  [
    ({ REFRESH_TOKEN_TTL_S, SESSION_MAX_AGE_S }) => REFRESH_TOKEN_TTL_S > SESSION_MAX_AGE_S,
    () => 'REFRESH_TOKEN_TTL_S is above SESSION_MAX_AGE_S, which ends sessions first',
  ],
  [
    ({ DATABASE_URL, DATABASE_LISTEN_URL }) => DATABASE_URL === '' && DATABASE_LISTEN_URL !== '',
    () =>
      'DATABASE_LISTEN_URL is set without DATABASE_URL: the node would write to the embedded database and listen to another. Set both or none',
  ],
  [
    ({ SLOW_SOCKET_TIMEOUT_MS, HEARTBEAT_MS }) => SLOW_SOCKET_TIMEOUT_MS > 3 * HEARTBEAT_MS,
    () => 'SLOW_SOCKET_TIMEOUT_MS is above three heartbeats: a slow socket that reads nothing is terminated for its missed pongs first',
  ],
];

export const settingsChecks: readonly Check<Settings>[] = [
  { name: 'settings', run: allowedSettings },
  { name: 'settings together', run: contradictingSettings },
  { name: 'JWT secret', run: jwtSecret },
  { name: 'passwords', run: databasePasswords },
  { name: 'rate limits', run: rateLimits },
];

function allowedSettings({ problems }: Settings): readonly Finding[] {
  return problems.length === 0 ? ok('all are allowed') : problems.flatMap(fail);
}

function contradictingSettings({ config }: Settings): readonly Finding[] {
  const found = contradictions.filter(([is]) => is(config)).flatMap(([, text]) => warn(text(config)));
  return found.length === 0 ? ok('no contradiction') : found;
}

function jwtSecret({ config: { JWT_ACCESS_SECRET: secret } }: Settings): readonly Finding[] {
  if (secret === '') return ok('made by the node, in DATA_DIR');
  const toDo = 'whoever guesses it is every user. Make a new one: openssl rand -base64 48';
  if (new Set(secret).size < fewestDistinctCharacters)
    return fail(`JWT_ACCESS_SECRET has too few different characters to be random; ${toDo}`);
  if (notSecret.test(secret)) return fail(`JWT_ACCESS_SECRET looks as if it were made up by a person; ${toDo}`);
  return ok('long, and looks random');
}

function databasePasswords({ config }: Settings): readonly Finding[] {
  const found = (['DATABASE_URL', 'DATABASE_LISTEN_URL'] as const).flatMap((name) => {
    if (!URL.canParse(config[name])) return [];
    const { username, password } = new URL(config[name]);
    const text = decodeURIComponent(password);
    if (text === '') return []; // a .pgpass, a certificate or a socket; or none at all, which the server decides
    return text.length < 12 || text === username || /^(postgres|trunkline|password)/i.test(text)
      ? warn(`the password in ${name} can be guessed: ALTER ROLE … PASSWORD with one of 16 random characters or more`)
      : [];
  });
  return found.length === 0 ? ok('none that is easily guessed') : found;
}

function rateLimits({ config: { RATE_LIMITS } }: Settings): readonly Finding[] {
  return RATE_LIMITS === 'on' ? ok('on') : warn('RATE_LIMITS=off: passwords may be guessed without end; it is for load tests');
}
