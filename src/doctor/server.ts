/** The database as a node sees it: one connection made as the nodes make theirs, and what the server says of its settings there. */
import ipaddr from 'ipaddr.js';
import type pg from 'pg';
import type { Config } from '../config.js';
import { connectionConfig } from '../database/database.js';
import { openClient } from '../database/session.js';

export interface Server {
  readonly config: Config;
  readonly sql: pg.Client;
  /** pg_settings of this connection by name, in the units of that view. */
  readonly settings: ReadonlyMap<string, string>;
  /** True where something between, such as PgBouncer, gives the connection to one session after another. */
  readonly pooled: boolean;
  /** How many nodes are to be reckoned with; undefined: those that live. */
  readonly nodes: number | undefined;
  close(): Promise<void>;
}

/** @throws what `pg` throws when the database can't be reached. */
export async function openServer(config: Config, nodes: number | undefined): Promise<Server> {
  const sql = await connect(config.DATABASE_URL);
  const { rows } = await sql.query<{ name: string; setting: string }>('SELECT name, setting FROM pg_settings');
  return {
    config,
    sql,
    settings: new Map(rows.map(({ name, setting }) => [name, setting])),
    pooled: await isPooled(sql),
    nodes,
    close: () => sql.end(),
  };
}

export async function connect(url: string): Promise<pg.Client> {
  return openClient(connectionConfig(url, 'doctor'));
}

/** A pooler makes up the process id that it tells its clients (for CancelRequest); the server tells its own. */
export async function isPooled(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return rows[0]?.pid !== (client as pg.Client & { processID: number }).processID;
}

/** True for an address that anybody on the way to it may listen to. */
export const isPublic = (address: string): boolean => ipaddr.isValid(address) && ipaddr.process(address).range() === 'unicast';
