-- Up Migration

-- What members of a room may do to it and to each other: every change of it is an event of the room, with a seq.

ALTER TABLE rooms
  ADD COLUMN private boolean NOT NULL DEFAULT false,
  -- Of a deleted room the log remains, because it is append-only; without members nobody reads it.
  ADD COLUMN deleted_at timestamptz(3);
-- The list of rooms. Private ones are found by their members.
CREATE INDEX rooms_listed_idx ON rooms (created_at DESC, id DESC) WHERE NOT private AND deleted_at IS NULL;
DROP INDEX rooms_newest_idx;

CREATE TABLE room_bans (
  bucket    smallint NOT NULL,
  room_id   uuid NOT NULL,
  user_id   uuid NOT NULL,
  username  text NOT NULL,
  banned_by uuid NOT NULL,
  banned_at timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (bucket, room_id, user_id),
  FOREIGN KEY (bucket, room_id) REFERENCES rooms (bucket, id)
);

-- A room that is being renamed has two names until the old one is released.
ALTER TABLE room_names DROP CONSTRAINT room_names_room_id_key;

-- What belongs to an event of a kind, beside who it is about: its fields stand with the others on the wire.
ALTER TABLE room_events ADD COLUMN data jsonb CHECK (jsonb_typeof(data) = 'object' AND data <> '{}');

CREATE FUNCTION room_event_json(room_id uuid, seq bigint, kind text, actor_id uuid, user_id uuid, username text, created_at timestamptz, data jsonb)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN data IS NULL THEN json ELSE left(json, -1) || ',' || substr(data::text, 2) END
  FROM room_event_json(room_id, seq, kind, actor_id, user_id, username, created_at) AS json
$$;

CREATE OR REPLACE FUNCTION room_events_notify() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  line text := E'\ne' || room_event_json(NEW.room_id, NEW.seq, NEW.kind, NEW.actor_id, NEW.user_id, NEW.username, NEW.created_at, NEW.data);
BEGIN
  IF NOT EXISTS (SELECT FROM rooms WHERE bucket = NEW.bucket AND id = NEW.room_id AND last_seq >= NEW.seq)
    OR EXISTS (SELECT FROM messages WHERE bucket = NEW.bucket AND room_id = NEW.room_id AND seq = NEW.seq) THEN
    RAISE EXCEPTION 'seq % is not the room''s next one: call append_room_event instead', NEW.seq USING ERRCODE = 'check_violation';
  END IF;
  -- NOTIFY takes fewer than 8,000 bytes, the digest takes 32: what is larger is read from the table.
  IF octet_length(line) > 7999 - 32 THEN
    line := E'\nr{"room_id":"' || NEW.room_id || '","seq":' || NEW.seq || ',"to":' || NEW.seq || '}';
  END IF;
  PERFORM bus_notify(line);
  RETURN NULL;
END $$;

-- Appends an event of the room, whose lock the caller holds or takes hereby. Returns its seq, or null where there is no such room.
DROP FUNCTION append_room_event(uuid, text, uuid, uuid, text);
CREATE FUNCTION append_room_event(p_room_id uuid, p_kind text, p_actor_id uuid, p_user_id uuid, p_username text, p_data jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  new_seq bigint;
BEGIN
  UPDATE rooms SET last_seq = last_seq + 1 WHERE bucket = room_bucket(p_room_id) AND id = p_room_id RETURNING last_seq INTO new_seq;
  IF new_seq IS NOT NULL THEN
    INSERT INTO room_events (bucket, room_id, seq, kind, actor_id, user_id, username, data)
    VALUES (room_bucket(p_room_id), p_room_id, new_seq, p_kind, p_actor_id, p_user_id, p_username, p_data);
  END IF;
  RETURN new_seq;
END $$;

-- Makes a user a member. p_invited: by a member or an invitation, which is the only way into a private room. Returns 'joined', 'already' (nothing
-- changed, no seq taken), 'banned' or 'no_room'. Who comes into a room without members owns it, so that a room never stays without an owner.
CREATE FUNCTION add_member(p_room_id uuid, p_user_id uuid, p_username text, p_actor_id uuid, p_invited boolean) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  is_private boolean;
  is_first boolean;
BEGIN
  SELECT private INTO is_private FROM rooms WHERE bucket = room_bucket(p_room_id) AND id = p_room_id AND deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN 'no_room';
  END IF;
  PERFORM 1 FROM room_members WHERE bucket = room_bucket(p_room_id) AND room_id = p_room_id AND user_id = p_user_id;
  IF FOUND THEN
    RETURN 'already';
  END IF;
  IF is_private AND NOT p_invited THEN
    RETURN 'no_room';
  END IF;
  PERFORM 1 FROM room_bans WHERE bucket = room_bucket(p_room_id) AND room_id = p_room_id AND user_id = p_user_id;
  IF FOUND THEN
    RETURN 'banned';
  END IF;
  is_first := NOT EXISTS (SELECT FROM room_members WHERE bucket = room_bucket(p_room_id) AND room_id = p_room_id);
  INSERT INTO room_members (bucket, room_id, user_id, username, role, joined_seq)
  VALUES (room_bucket(p_room_id), p_room_id, p_user_id, p_username, CASE WHEN is_first THEN 'owner' ELSE 'member' END,
    append_room_event(p_room_id, 'joined', p_actor_id, p_user_id, p_username));
  IF is_first THEN
    PERFORM append_room_event(p_room_id, 'owner_changed', p_actor_id, p_user_id, p_username);
  END IF;
  RETURN 'joined';
END $$;

CREATE OR REPLACE FUNCTION join_room(p_room_id uuid, p_user_id uuid, p_username text) RETURNS text LANGUAGE sql VOLATILE AS $$
  SELECT add_member(p_room_id, p_user_id, p_username, p_user_id, false)
$$;

-- Ends a membership: kind is 'left' (by the user) or 'kicked' (by another). Returns 'left', 'already' or 'no_room', which a private room is to who is
-- no member. When the owner goes, the room passes to the admin who has been there longest, else to such a member, one seq before the end.
CREATE OR REPLACE FUNCTION leave_room(p_room_id uuid, p_user_id uuid, p_actor_id uuid, p_kind text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  is_private boolean;
  member record;
  heir record;
BEGIN
  SELECT private INTO is_private FROM rooms WHERE bucket = room_bucket(p_room_id) AND id = p_room_id AND deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN 'no_room';
  END IF;
  DELETE FROM room_members WHERE bucket = room_bucket(p_room_id) AND room_id = p_room_id AND user_id = p_user_id
    RETURNING username, role INTO member;
  IF NOT FOUND THEN
    RETURN CASE WHEN is_private THEN 'no_room' ELSE 'already' END;
  END IF;
  IF member.role = 'owner' THEN
    SELECT user_id, username INTO heir FROM room_members WHERE bucket = room_bucket(p_room_id) AND room_id = p_room_id
      ORDER BY role = 'admin' DESC, joined_seq, user_id LIMIT 1;
    IF FOUND THEN
      UPDATE room_members SET role = 'owner' WHERE bucket = room_bucket(p_room_id) AND room_id = p_room_id AND user_id = heir.user_id;
      PERFORM append_room_event(p_room_id, 'owner_changed', p_actor_id, heir.user_id, heir.username);
    END IF;
  END IF;
  PERFORM append_room_event(p_room_id, p_kind, p_actor_id, p_user_id, member.username);
  RETURN 'left';
END $$;

-- Down Migration

CREATE OR REPLACE FUNCTION leave_room(p_room_id uuid, p_user_id uuid, p_actor_id uuid, p_kind text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  member_name text;
BEGIN
  PERFORM 1 FROM rooms WHERE bucket = room_bucket(p_room_id) AND id = p_room_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN 'no_room';
  END IF;
  DELETE FROM room_members WHERE bucket = room_bucket(p_room_id) AND room_id = p_room_id AND user_id = p_user_id RETURNING username INTO member_name;
  IF NOT FOUND THEN
    RETURN 'already';
  END IF;
  PERFORM append_room_event(p_room_id, p_kind, p_actor_id, p_user_id, member_name);
  RETURN 'left';
END $$;

CREATE OR REPLACE FUNCTION join_room(p_room_id uuid, p_user_id uuid, p_username text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM 1 FROM rooms WHERE bucket = room_bucket(p_room_id) AND id = p_room_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN 'no_room';
  END IF;
  PERFORM 1 FROM room_members WHERE bucket = room_bucket(p_room_id) AND room_id = p_room_id AND user_id = p_user_id;
  IF FOUND THEN
    RETURN 'already';
  END IF;
  INSERT INTO room_members (bucket, room_id, user_id, username, joined_seq)
  VALUES (room_bucket(p_room_id), p_room_id, p_user_id, p_username, append_room_event(p_room_id, 'joined', p_user_id, p_user_id, p_username));
  RETURN 'joined';
END $$;

DROP FUNCTION add_member(uuid, uuid, text, uuid, boolean);
DROP FUNCTION append_room_event(uuid, text, uuid, uuid, text, jsonb);
CREATE FUNCTION append_room_event(p_room_id uuid, p_kind text, p_actor_id uuid, p_user_id uuid, p_username text) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  new_seq bigint;
BEGIN
  UPDATE rooms SET last_seq = last_seq + 1 WHERE bucket = room_bucket(p_room_id) AND id = p_room_id RETURNING last_seq INTO new_seq;
  IF new_seq IS NOT NULL THEN
    INSERT INTO room_events (bucket, room_id, seq, kind, actor_id, user_id, username)
    VALUES (room_bucket(p_room_id), p_room_id, new_seq, p_kind, p_actor_id, p_user_id, p_username);
  END IF;
  RETURN new_seq;
END $$;

CREATE OR REPLACE FUNCTION room_events_notify() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM rooms WHERE bucket = NEW.bucket AND id = NEW.room_id AND last_seq >= NEW.seq)
    OR EXISTS (SELECT FROM messages WHERE bucket = NEW.bucket AND room_id = NEW.room_id AND seq = NEW.seq) THEN
    RAISE EXCEPTION 'seq % is not the room''s next one: call append_room_event instead', NEW.seq USING ERRCODE = 'check_violation';
  END IF;
  PERFORM bus_notify(E'\ne' || room_event_json(NEW.room_id, NEW.seq, NEW.kind, NEW.actor_id, NEW.user_id, NEW.username, NEW.created_at));
  RETURN NULL;
END $$;

DROP FUNCTION room_event_json(uuid, bigint, text, uuid, uuid, text, timestamptz, jsonb);
ALTER TABLE room_events DROP COLUMN data;
DELETE FROM room_names AS n USING room_names AS newer WHERE newer.room_id = n.room_id AND newer.claimed_at > n.claimed_at;
ALTER TABLE room_names ADD CONSTRAINT room_names_room_id_key UNIQUE (room_id);
DROP TABLE room_bans;
CREATE INDEX rooms_newest_idx ON rooms (created_at DESC, id DESC);
DROP INDEX rooms_listed_idx;
ALTER TABLE rooms DROP COLUMN deleted_at, DROP COLUMN private;
