/**
 * Accounts. A user is found by key (src/protocol/names.ts), so that no two accounts have names or addresses that are the same to a reader.
 * An account of a version before migration 0017 may have no key of its own, where another account had it: it is found by its former key, which
 * therefore comes first. Nodes of that version look for former keys alone, so that each account has them too.
 */
import Type, { type Static } from 'typebox';
import type { Queryable } from '../database/database.js';
import { time, uuid } from '../protocol/fields.js';
import { emailKey, formerKey, nameKey, nameLook } from '../protocol/names.js';

/** A user as its owner and the wire see it. */
export const userSchema = Type.Object(
  { id: uuid('UUID v7'), username: Type.String(), email: Type.String(), created_at: time('when it was registered') },
  { title: 'User' },
);
export type User = Static<typeof userSchema>;

export interface Account {
  user: User;
  /** In the PHC string format. */
  passwordHash: string;
  /** Goes up with each change of the password. */
  passwordVersion: number;
}

export interface NewUser {
  id: string;
  username: string;
  email: string;
  passwordHash: string;
}

/** @throws pg.DatabaseError unique_violation when the name or the address is taken */
export async function insertUser(db: Queryable, { id, username, email, passwordHash }: NewUser): Promise<User> {
  const { rows } = await db.query<{ created_at: string }>(
    `INSERT INTO users (id, username, username_key, username_fold, username_look, email, email_key, email_fold, keys_made, password_hash)
      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, true, $9)
      RETURNING created_at`,
    [id, username, formerKey(username), nameKey(username), nameLook(username), email, formerKey(email), emailKey(email), passwordHash],
  );
  const [row] = rows;
  if (row === undefined) throw new Error('INSERT INTO users returned no row');
  return { id, username, email, created_at: row.created_at };
}

export interface Taken {
  readonly field: 'username' | 'email';
  /** Whether the name of the account is another one, that looks the same. */
  readonly looksAlike?: boolean;
}

/** What of the two an account has already. */
export async function findTaken(db: Queryable, username: string, email: string): Promise<Taken[]> {
  const { rows } = await db.query<{ username: boolean; look: boolean; email: boolean }>(
    // Keys of accounts that nodes of the version before make are former ones: in them, a key is looked for too.
    `SELECT EXISTS (SELECT FROM users WHERE username_key IN ($1, $2)) OR EXISTS (SELECT FROM users WHERE username_fold = $2) AS username,
        EXISTS (SELECT FROM users WHERE username_look = $3) AS look,
        EXISTS (SELECT FROM users WHERE email_key IN ($4, $5)) OR EXISTS (SELECT FROM users WHERE email_fold = $5) AS email`,
    [formerKey(username), nameKey(username), nameLook(username), formerKey(email), emailKey(email)],
  );
  const [taken] = rows;
  return [
    ...(taken?.username === true ? [{ field: 'username' as const }] : []),
    ...(taken?.username === false && taken.look ? [{ field: 'username' as const, looksAlike: true }] : []),
    ...(taken?.email === true ? [{ field: 'email' as const }] : []),
  ];
}

export const findAccountByUsername = (db: Queryable, username: string): Promise<Account | undefined> =>
  findAccount(db, byKey('username'), [formerKey(username), nameKey(username)]);

export const findAccountByEmail = (db: Queryable, email: string): Promise<Account | undefined> =>
  findAccount(db, byKey('email'), [formerKey(email), emailKey(email)]);

export const findAccountById = (db: Queryable, id: string): Promise<Account | undefined> =>
  findAccount(db, `${selectAccount} WHERE id = $1`, [id]);

const selectAccount = 'SELECT id, username, email, created_at, password_hash, password_version FROM users';
const byKey = (name: 'username' | 'email'): string =>
  `${selectAccount} WHERE ${name}_key = $1 OR ${name}_fold = $2 ORDER BY ${name}_key = $1 DESC LIMIT 1`;

async function findAccount(db: Queryable, text: string, keys: readonly string[]): Promise<Account | undefined> {
  const { rows } = await db.query<User & { password_hash: string; password_version: number }>(text, [...keys]);
  const [row] = rows;
  if (row === undefined) return undefined;
  const { password_hash: passwordHash, password_version: passwordVersion, ...user } = row;
  return { user, passwordHash, passwordVersion };
}

export async function findUser(db: Queryable, id: string): Promise<User | undefined> {
  const { rows } = await db.query<User>('SELECT id, username, email, created_at FROM users WHERE id = $1', [id]);
  return rows[0];
}

/** Puts a hash in the place of another of the same password; does nothing when the password was changed meanwhile. */
export async function replacePasswordHash(db: Queryable, id: string, oldHash: string, newHash: string): Promise<void> {
  await db.query('UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2', [id, oldHash, newHash]);
}

/** Puts another password in the place of that of the given version. @returns false where it was changed meanwhile */
export async function changePassword(db: Queryable, id: string, passwordVersion: number, newHash: string): Promise<boolean> {
  const { rowCount } = await db.query(
    'UPDATE users SET password_hash = $3, password_version = password_version + 1 WHERE id = $1 AND password_version = $2',
    [id, passwordVersion, newHash],
  );
  return rowCount === 1;
}
