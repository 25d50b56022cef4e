-- Up Migration

-- From which networks a user has logged in with the right password: those are not locked out by others' guessing. Hashes with a key of the
-- nodes', so that the table does not say who was where.
CREATE TABLE known_networks (
  user_id       uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  network       bytea NOT NULL,
  last_login_at timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, network)
);
-- Where those that were not used for long are found, to be taken away a few at a time.
CREATE INDEX known_networks_last_login_at_idx ON known_networks (last_login_at);

-- Down Migration

DROP TABLE known_networks;
