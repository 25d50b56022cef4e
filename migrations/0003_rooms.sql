-- Up Migration

-- The room side. Every table starts with the room's bucket, every key and every WHERE too, so that the rooms can one day be
-- spread over servers (docs/design.md, "Two sides").

-- The bucket of a room is the last hex digit of its id. src/database/bucket.ts has the same rule.
CREATE FUNCTION room_bucket(room_id uuid) RETURNS smallint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT (get_byte(uuid_send(room_id), 15) & 15)::smallint
$$;

CREATE TABLE rooms (
  bucket      smallint NOT NULL,
  id          uuid NOT NULL,
  name        text NOT NULL,
  description text NOT NULL DEFAULT '',
  history     text NOT NULL DEFAULT 'shared' CHECK (history IN ('shared', 'joined')),
  created_by  uuid NOT NULL,
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  last_seq    bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (bucket, id),
  CHECK (bucket = room_bucket(id))
) WITH (fillfactor = 70); -- last_seq changes with every batch: room for HOT updates
CREATE INDEX rooms_newest_idx ON rooms (created_at DESC, id DESC);

CREATE TABLE room_members (
  bucket     smallint NOT NULL,
  room_id    uuid NOT NULL,
  user_id    uuid NOT NULL,
  username   text NOT NULL,
  role       text NOT NULL DEFAULT 'member' CHECK (role IN ('owner', 'admin', 'member')),
  joined_seq bigint NOT NULL,
  joined_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (bucket, room_id, user_id),
  FOREIGN KEY (bucket, room_id) REFERENCES rooms (bucket, id)
);
CREATE INDEX room_members_user_idx ON room_members (user_id);

-- Unique without being ordered or contiguous, and without an index: (room_id, seq) is what pages and sorts. A batch takes one
-- block of 512 and numbers its items within it.
CREATE SEQUENCE message_id_blocks MINVALUE 512 START 512 INCREMENT 512;

-- No foreign key to rooms: the append function and the trigger hold the room's lock when they insert, and a check for each row would
-- cost the hot path a lookup for what they know already.
CREATE TABLE messages (
  bucket        smallint NOT NULL,
  room_id       uuid NOT NULL,
  seq           bigint NOT NULL,
  id            bigint NOT NULL DEFAULT nextval('message_id_blocks'),
  user_id       uuid NOT NULL,
  username      text NOT NULL,
  content       text NOT NULL CHECK (char_length(content) BETWEEN 1 AND 65536),
  client_msg_id uuid,
  created_at    timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (bucket, room_id, seq) INCLUDE (user_id) -- the history of one author is looked for in the index alone (src/chat/history.store.ts)
);
CREATE UNIQUE INDEX messages_client_msg_id_key ON messages (bucket, room_id, user_id, client_msg_id) WHERE client_msg_id IS NOT NULL;

-- Everything else that changes a room. A seq stands either in messages or here.
CREATE TABLE room_events (
  bucket     smallint NOT NULL,
  room_id    uuid NOT NULL,
  seq        bigint NOT NULL,
  kind       text NOT NULL,
  actor_id   uuid NOT NULL,
  user_id    uuid,
  username   text,
  created_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (bucket, room_id, seq),
  FOREIGN KEY (bucket, room_id) REFERENCES rooms (bucket, id)
);

-- The one text form of a message and of an event: what the bus carries, what history answers, what sockets receive. room_id and seq come
-- first, at fixed places, so that a node can route a line without parsing it (src/bus/payload.ts).
CREATE FUNCTION message_json(room_id uuid, seq bigint, id bigint, user_id uuid, username text, content text, client_msg_id uuid, created_at timestamptz)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT '{"room_id":"' || room_id || '","seq":' || seq || ',"id":' || id || ',"user_id":"' || user_id
    || '","username":' || to_json(username)::text || ',"content":' || to_json(content)::text
    || CASE WHEN client_msg_id IS NULL THEN '' ELSE ',"client_msg_id":"' || client_msg_id || '"' END
    || ',"created_at":"' || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '"}'
$$;

CREATE FUNCTION room_event_json(room_id uuid, seq bigint, kind text, actor_id uuid, user_id uuid, username text, created_at timestamptz)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT '{"room_id":"' || room_id || '","seq":' || seq || ',"kind":"' || kind || '","actor_id":"' || actor_id || '"'
    || CASE WHEN user_id IS NULL THEN '' ELSE ',"user_id":"' || user_id || '","username":' || to_json(username)::text END
    || ',"created_at":"' || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '"}'
$$;

-- Down Migration

DROP FUNCTION room_event_json(uuid, bigint, text, uuid, uuid, text, timestamptz);
DROP FUNCTION message_json(uuid, bigint, bigint, uuid, text, text, uuid, timestamptz);
DROP TABLE room_events;
DROP TABLE messages;
DROP SEQUENCE message_id_blocks;
DROP TABLE room_members;
DROP TABLE rooms;
DROP FUNCTION room_bucket(uuid);
