-- Up Migration

-- By what somebody recognises a login of his own in the list: the device, from where, and when it was last used.
ALTER TABLE sessions
  ADD COLUMN device_name  text NOT NULL DEFAULT '',
  ADD COLUMN address      inet,
  ADD COLUMN last_used_at timestamptz(3) NOT NULL DEFAULT now();

-- Where sessions that are over are found, to be taken away a few at a time.
CREATE INDEX sessions_over_idx ON sessions (least(ended_at, expires_at));

-- A refresh token carries the id of its session and a seal. So the session is found by its key, and a spent token is known for one of ours
-- without having been kept.
DROP TABLE spent_refresh_tokens;
ALTER TABLE sessions DROP CONSTRAINT sessions_refresh_token_hash_key;

-- Goes up with each change of the password, so that a login that checked the password before starts no session after.
ALTER TABLE users ADD COLUMN password_version integer NOT NULL DEFAULT 0;

-- How often what was tried, counted by all nodes together. The layout is that of rate-limiter-flexible. Nothing in it outlives a crash of the
-- server (UNLOGGED): a count costs no WAL, and its commit waits for no disk.
CREATE UNLOGGED TABLE rate_limits (
  key    text PRIMARY KEY,
  points integer NOT NULL,
  expire bigint NOT NULL -- ms since 1970
) WITH (fillfactor = 50); -- each attempt is an UPDATE: room for HOT updates
CREATE INDEX rate_limits_expire_idx ON rate_limits (expire);

-- Down Migration

DROP TABLE rate_limits;
ALTER TABLE users DROP COLUMN password_version;
ALTER TABLE sessions ADD UNIQUE (refresh_token_hash);
CREATE TABLE spent_refresh_tokens (
  hash       bytea PRIMARY KEY,
  session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE
);
CREATE INDEX spent_refresh_tokens_session_id_idx ON spent_refresh_tokens (session_id);
DROP INDEX sessions_over_idx;
ALTER TABLE sessions DROP COLUMN device_name, DROP COLUMN address, DROP COLUMN last_used_at;
