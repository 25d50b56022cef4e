-- Up Migration

-- Links by which who has one may join. The secret of a link is stored as its SHA-256: who reads this table can't join by it.
CREATE TABLE room_invites (
  bucket      smallint NOT NULL,
  room_id     uuid NOT NULL,
  id          uuid NOT NULL,
  secret_hash bytea NOT NULL,
  created_by  uuid NOT NULL,
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  expires_at  timestamptz(3) NOT NULL,
  max_uses    integer CHECK (max_uses > 0), -- null: any number
  uses        integer NOT NULL DEFAULT 0,
  PRIMARY KEY (bucket, room_id, id),
  UNIQUE (bucket, room_id, secret_hash),
  FOREIGN KEY (bucket, room_id) REFERENCES rooms (bucket, id)
);

-- Down Migration

DROP TABLE room_invites;
