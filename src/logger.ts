import { hostname } from 'node:os';
import { pino, type Logger, type LoggerOptions } from 'pino';
import pretty from 'pino-pretty';
import type { LoggerService } from '@nestjs/common';
import type { Config } from './config.js';

/** Nest injection token of the node's pino logger. */
export const LOGGER = Symbol('LOGGER');

/** Never logged, wherever it turns up. */
const redact = ['token', 'password', 'content', 'accessToken', 'refreshToken', 'authorization', 'cookie'].flatMap((name) => [
  name,
  `*.${name}`,
  `*.*.${name}`,
]);

/**
 * JSON lines in production, readable lines at a terminal.
 * @param more what to add to a line, asked for as it is written
 */
export function createLogger(config: Config, more?: () => object): Logger {
  const options: LoggerOptions = {
    level: config.LOG_LEVEL,
    base: { node: nodeName(config) },
    redact: { paths: redact, censor: '(hidden)' },
    ...(more !== undefined && { mixin: more }),
  };
  const readable = config.LOG_FORMAT === 'pretty' || (config.LOG_FORMAT === 'auto' && process.stdout.isTTY);
  return readable ? pino(options, pretty({ ignore: 'pid,hostname,node', translateTime: 'HH:MM:ss.l', sync: true })) : pino(options);
}

const seldomMs = 10_000;

/** Writes the first of many alike, then at most one in 10 s: for what is tried again soon, by many. */
export function seldom(write: (error: unknown) => void): (error: unknown) => void {
  let writtenAt = Number.NEGATIVE_INFINITY;
  return (error) => {
    if (performance.now() - writtenAt < seldomMs) return;
    writtenAt = performance.now();
    write(error);
  };
}

/** Nest's own messages, in our log; what is routine at its start is debug for us. */
export function nestLogger(log: Logger): LoggerService {
  const write =
    (level: 'debug' | 'warn' | 'error' | 'fatal') =>
    (message: unknown, ...rest: unknown[]) =>
      log[level]({ context: rest.at(-1) }, message instanceof Error ? (message.stack ?? message.message) : String(message));
  return {
    log: write('debug'),
    debug: write('debug'),
    verbose: write('debug'),
    warn: write('warn'),
    error: write('error'),
    fatal: write('fatal'),
  };
}

/** The name of this node in logs and in `hello`. */
export const nodeName = ({ NODE_NAME }: Config): string => (NODE_NAME === '' ? `${hostname()}-${process.pid}` : NODE_NAME);
