/**
 * Accounts. A user is found by key: the name or address as `comparisonKey` makes it, so that no two accounts differ in case or width alone.
 */
import Type, { type Static } from 'typebox';
import type { Queryable } from '../database/database.js';
import { time, uuid } from '../protocol/fields.js';
import { comparisonKey } from '../protocol/text.js';

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
    `INSERT INTO users (id, username, username_key, email, email_key, password_hash)
      VALUES ($1, $2, $3, $4, $5, $6)
      RETURNING created_at`,
    [id, username, comparisonKey(username), email, comparisonKey(email), passwordHash],
  );
  const [row] = rows;
  if (row === undefined) throw new Error('INSERT INTO users returned no row');
  return { id, username, email, created_at: row.created_at };
}

/** Which of the two an account has already. */
export async function findTaken(db: Queryable, username: string, email: string): Promise<('username' | 'email')[]> {
  const { rows } = await db.query<{ username: boolean; email: boolean }>(
    `SELECT EXISTS (SELECT 1 FROM users WHERE username_key = $1) AS username, EXISTS (SELECT 1 FROM users WHERE email_key = $2) AS email`,
    [comparisonKey(username), comparisonKey(email)],
  );
  const [taken] = rows;
  return (['username', 'email'] as const).filter((name) => taken?.[name]);
}

export const findAccountByUsername = (db: Queryable, username: string): Promise<Account | undefined> =>
  findAccount(db, `${selectAccount} WHERE username_key = $1`, comparisonKey(username));

export const findAccountByEmail = (db: Queryable, email: string): Promise<Account | undefined> =>
  findAccount(db, `${selectAccount} WHERE email_key = $1`, comparisonKey(email));

export const findAccountById = (db: Queryable, id: string): Promise<Account | undefined> =>
  findAccount(db, `${selectAccount} WHERE id = $1`, id);

const selectAccount = 'SELECT id, username, email, created_at, password_hash, password_version FROM users';

async function findAccount(db: Queryable, text: string, key: string): Promise<Account | undefined> {
  const { rows } = await db.query<User & { password_hash: string; password_version: number }>(text, [key]);
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
