-- Up Migration

-- The account side: users and their sessions. Nothing here refers to the room side or is joined with it (docs/design.md, "Two sides").

CREATE TABLE users (
  id            uuid PRIMARY KEY,
  username      text NOT NULL,
  username_key  text NOT NULL UNIQUE, -- the name as it is compared: NFKC, lower case; made by the node, so that no locale of a server matters
  email         text NOT NULL,
  email_key     text NOT NULL UNIQUE,
  password_hash text NOT NULL,
  created_at    timestamptz(3) NOT NULL DEFAULT now()
);

-- One row for each login: the family of all refresh tokens that descend from it. Only the newest token is live.
CREATE TABLE sessions (
  id                 uuid PRIMARY KEY,
  user_id            uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  refresh_token_hash bytea NOT NULL UNIQUE,
  created_at         timestamptz(3) NOT NULL DEFAULT now(),
  refreshed_at       timestamptz(3) NOT NULL DEFAULT now(),
  expires_at         timestamptz(3) NOT NULL,
  ended_at           timestamptz(3)
);
CREATE INDEX sessions_user_id_idx ON sessions (user_id);

-- Tokens that were exchanged already: the second use of one ends its session (RFC 9700, section 4.14.2).
CREATE TABLE spent_refresh_tokens (
  hash       bytea PRIMARY KEY,
  session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE
);
CREATE INDEX spent_refresh_tokens_session_id_idx ON spent_refresh_tokens (session_id);

-- Room names are unique over all buckets, so their claim can't stand on the room side.
CREATE TABLE room_names (
  name_key   text PRIMARY KEY,
  room_id    uuid NOT NULL UNIQUE,
  claimed_at timestamptz(3) NOT NULL DEFAULT now()
);

-- Down Migration

DROP TABLE room_names;
DROP TABLE spent_refresh_tokens;
DROP TABLE sessions;
DROP TABLE users;
