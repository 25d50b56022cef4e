/**
 * Every setting of Trunkline, validated once at start. Nothing else reads `process.env`.
 *
 * A setting's schema carries its type, range, default and reason; `.env.example` and the table in README.md are checked against this list by
 * `config.spec.ts`. Times are in the unit that the name ends with, sizes in bytes.
 */
import ipaddr from 'ipaddr.js';
import Type, { type Static, type TSchema } from 'typebox';
import Value from 'typebox/value';

const whole = (minimum: number, maximum: number, fallback: number, description: string) =>
  Type.Integer({ minimum, maximum, default: fallback, description });

const oneOf = <T extends string>(values: readonly T[], fallback: T, description: string) =>
  Type.Enum([...values], { default: fallback, description });

/** A list with commas, empty by default, whose entries all have to pass. */
const listOf = (isEntry: (entry: string) => boolean, rule: string, description: string) =>
  Type.Refine(
    Type.String({ default: '', description }),
    (list) => list === '' || list.split(',').every((entry) => isEntry(entry.trim())),
    () => rule,
  );

const isOrigin = (text: string): boolean => URL.canParse(text) && new URL(text).origin === text;

/** No network of all addresses: who trusts everybody believes whatever address a client makes up. */
const isNetwork = (text: string): boolean => (ipaddr.isValidCIDR(text) ? ipaddr.parseCIDR(text)[1] > 0 : ipaddr.isValid(text));

export const settings = {
  PORT: whole(0, 65_535, 3000, 'TCP port for REST and WebSocket; 0 takes a free one.'),
  METRICS_PORT: whole(
    0,
    65_535,
    0,
    'TCP port, on HOST, of a listener of its own with nothing but GET /metrics, for Prometheus; 0 is none. Keep it from the outside.',
  ),
  HOST: Type.String({
    minLength: 1,
    default: '0.0.0.0',
    description: 'Address to listen on; 127.0.0.1 hides the node behind a proxy on the same machine.',
  }),
  NODE_NAME: Type.String({
    pattern: '^[A-Za-z0-9._-]{0,64}$',
    default: '',
    description: 'Name of this node in logs and in `hello`; empty makes one from host name and process id.',
  }),
  DATABASE_URL: Type.String({
    pattern: '^(postgres(ql)?://.+)?$',
    default: '',
    description: 'PostgreSQL 15 to 18, a database of its own. Empty starts the embedded PostgreSQL in DATA_DIR.',
  }),
  DATABASE_LISTEN_URL: Type.String({
    pattern: '^(postgres(ql)?://.+)?$',
    default: '',
    description:
      'Direct address of the same database for LISTEN and migrations, needed when DATABASE_URL goes through PgBouncer; empty uses DATABASE_URL.',
  }),
  DATABASE_POOL_SIZE: whole(
    2,
    200,
    10,
    'Connections for everything but message writes, which have up to 2 for each lane, and the bus, which has 3.',
  ),
  DATA_DIR: Type.String({
    minLength: 1,
    default: '.data',
    description: 'Folder of the embedded PostgreSQL and of the generated JWT secret.',
  }),
  JWT_ACCESS_SECRET: Type.String({
    pattern: '^([\\s\\S]{32,})?$',
    default: '',
    description:
      'Key that signs access tokens, at least 32 bytes, the same on every node. Required with DATABASE_URL; else made once and kept in DATA_DIR.',
  }),
  ACCESS_TOKEN_TTL_S: whole(1, 86_400, 1_800, 'Life of an access token; a socket lives no longer unless it sends refresh_token.'),
  REFRESH_TOKEN_TTL_S: whole(60, 31_536_000, 2_592_000, 'Life of a session since its last refresh.'),
  SESSION_MAX_AGE_S: whole(60, 315_360_000, 7_776_000, 'Life of a session at most, however often it is refreshed.'),
  RATE_LIMITS: oneOf(
    ['on', 'off'],
    'on',
    '`off` takes away the limits on login, register and refresh, and all limits of one user, for load tests.',
  ),
  USER_MESSAGES_PER_S: whole(
    1,
    1_000_000,
    100,
    'Messages that one user may send in each second on this node, in the long run; one more is refused with `rate_limited`, as with the limits below.',
  ),
  USER_MESSAGES_BURST: whole(1, 1_000_000, 1_000, 'Messages that one user may send at once, after a pause.'),
  USER_BYTES_PER_HOUR: whole(
    1_048_576,
    1_099_511_627_776,
    268_435_456,
    'Bytes of messages that one user may send in an hour on this node; so many at once after a pause.',
  ),
  USER_ROOMS_PER_HOUR: whole(1, 1_000_000, 200, 'Rooms that one user may make in an hour on this node.'),
  USER_JOINS_PER_HOUR: whole(1, 1_000_000, 1_000, 'Rooms that one user may join in an hour on this node.'),
  USER_CHANGES_PER_HOUR: whole(
    1,
    1_000_000,
    1_000,
    'Changes of rooms and of the membership of others that one user may make in an hour on this node.',
  ),
  USER_INVITES_PER_HOUR: whole(1, 1_000_000, 200, 'Invitations that one user may make in an hour on this node.'),
  ALLOWED_ORIGINS: listOf(
    isOrigin,
    'be empty or origins like https://chat.example.org, separated by commas',
    "Origins whose pages may call REST (CORS) and use the cookies, for the socket too; empty allows those of the request's own host.",
  ),
  TRUSTED_PROXIES: listOf(
    isNetwork,
    'be empty or addresses and networks like 10.0.0.0/8, separated by commas',
    'Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; empty believes nobody.',
  ),
  WRITER_LANES: whole(1, 16, 2, 'Batches of messages that may be in flight at once; rooms are spread over the lanes by bucket.'),
  WRITER_QUEUE_MESSAGES: whole(
    500,
    1_000_000,
    20_000,
    'Messages that may wait for their batch on this node, of one user at most half; above it a send is refused with `overloaded`.',
  ),
  SOCKETS_MAX: whole(
    1,
    1_000_000,
    20_000,
    'Sockets of this node; one more is closed with 1013. Each needs a file descriptor (`ulimit -n`) and about 10 KiB.',
  ),
  SOCKETS_PER_USER_MAX: whole(
    1,
    1_000_000,
    1_000,
    'Sockets of one user on this node; one more is closed with 4429. RATE_LIMITS=off takes this limit away too.',
  ),
  ROOMS_PER_SOCKET_MAX: whole(
    1,
    100_000,
    1_000,
    'Rooms that one socket may follow: each costs memory, and a share of every catch-up of that socket.',
  ),
  SOCKET_BUFFER_BYTES: whole(
    65_536,
    1_073_741_824,
    1_048_576,
    'Bytes that may wait for one slow socket before it is taken out of the live stream and caught up later.',
  ),
  SLOW_SOCKET_TIMEOUT_MS: whole(
    1_000,
    600_000,
    30_000,
    'A socket that takes nothing for so long is closed with 4409; a connection of REST that takes nothing of its answers is cut.',
  ),
  HEARTBEAT_MS: whole(
    1_000,
    300_000,
    25_000,
    "Interval of WebSocket pings; a socket that answers none of two is terminated. Keep it below the proxy's read timeout.",
  ),
  DRAIN_MS: whole(
    0,
    60_000,
    3_000,
    'After SIGTERM, the span over which clients are told to come back elsewhere, each at a random moment of it.',
  ),
  OTEL_EXPORTER_OTLP_ENDPOINT: Type.Refine(
    Type.String({ default: '', description: 'OpenTelemetry collector that takes traces by OTLP over HTTP; empty makes none.' }),
    (text) => text === '' || (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)),
    () => 'be empty or an address like http://collector:4318',
  ),
  OTEL_SERVICE_NAME: Type.String({ minLength: 1, default: 'trunkline', description: 'Name of the service in traces.' }),
  LOG_LEVEL: oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], 'info', 'Least severe level that is logged.'),
  LOG_FORMAT: oneOf(['auto', 'json', 'pretty'], 'auto', '`auto` is readable at a terminal and JSON elsewhere.'),
} as const satisfies Record<string, TSchema>;

export type Config = { readonly [K in keyof typeof settings]: Static<(typeof settings)[K]> };
export type SettingName = keyof Config;

/** Settings whose values are never shown. */
const secrets: ReadonlySet<SettingName> = new Set(['JWT_ACCESS_SECRET', 'DATABASE_URL', 'DATABASE_LISTEN_URL']);

/** Nest injection token of the validated `Config`. */
export const CONFIG = Symbol('CONFIG');

/** One line for each wrong setting: its name, the value (secrets hidden) and what is allowed. */
export class ConfigError extends Error {
  constructor(readonly problems: readonly string[]) {
    super(`Trunkline can't start with these settings:\n${problems.map((problem) => `  ${problem}`).join('\n')}`);
  }
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Validates an environment. An unset or empty variable takes its default.
 * @throws ConfigError naming every wrong setting at once.
 */
export function loadConfig(env: Environment = process.env): Config {
  const { config, problems } = readConfig(env);
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

/** The same for whoever goes on all the same: a setting that is wrong is named among the problems, and has its default. */
export function readConfig(env: Environment = process.env): { config: Config; problems: string[] } {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, schema] of Object.entries(settings) as [SettingName, (typeof settings)[SettingName]][]) {
    const text = env[name];
    const value = text === undefined || text === '' ? Value.Default(schema, undefined) : Type.IsInteger(schema) ? numberFrom(text) : text;
    const isAllowed = Value.Check(schema, value);
    if (!isAllowed) problems.push(`${name}=${secrets.has(name) ? '(hidden)' : JSON.stringify(text).slice(1, -1)}: ${allowed(schema)}`);
    values[name] = isAllowed ? value : Value.Default(schema, undefined);
  }
  const config = values as Config;
  if (config.DATABASE_URL !== '' && config.JWT_ACCESS_SECRET === '' && !env['JWT_ACCESS_SECRET']) {
    problems.push(
      'JWT_ACCESS_SECRET is missing: with DATABASE_URL set it must be given, at least 32 bytes, e.g. from: openssl rand -base64 48',
    );
  }
  return { config: Object.freeze(config), problems };
}

/** What a setting may be, in words, from its schema. */
export function allowed(schema: TSchema): string {
  const { minimum, maximum, enum: values, pattern } = schema as JsonSchemaRule;
  if (Type.IsRefine(schema)) return `must ${schema['~refine'].map(({ error }) => error('')).join(' and ')}`;
  if (minimum !== undefined) return `must be a whole number from ${minimum} to ${maximum}`;
  if (values !== undefined) return `must be one of ${values.join(', ')}`;
  if (schema === settings.JWT_ACCESS_SECRET) return 'must have at least 32 bytes';
  if (schema === settings.DATABASE_URL || schema === settings.DATABASE_LISTEN_URL)
    return 'must be empty or start with postgres:// or postgresql://';
  return pattern === undefined ? 'must not be empty' : `must match ${pattern}`;
}

interface JsonSchemaRule extends TSchema {
  minimum?: number;
  maximum?: number;
  enum?: string[];
  pattern?: string;
}

const numberFrom = (text: string): number => (/^\d+$/.test(text.trim()) ? Number(text) : Number.NaN);
