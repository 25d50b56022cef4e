-- Up Migration

-- What must be atomic: a seq and its row, a membership and its event, a row and its notification.

-- Stores a batch and returns, for each item in the order given, what became of it:
--   status 's' stored, 'd' a duplicate of seq (same sender, room and client_msg_id), 'c' a client_msg_id used before with another content,
--   'm' the sender is not a member, 'r' no such room; with seq, id and created_at (ms) of the stored or earlier message.
-- room_ids are the batch's distinct rooms; item_rooms gives each item's place in them. A client_msg_id must not stand twice for the same
-- sender and room in a batch: the unique index then refuses the batch as a whole.
--
-- Volatile plpgsql on purpose: each of its statements has a snapshot of its own. The first waits for the rooms' locks; the second judges
-- with all that was committed while it waited (a kick, the same client_msg_id from another node). In one statement the judgement would be
-- older than the lock. The locks are held to commit, so that a room's order of seq is its order of commit, without a hole.
-- Its plans are made once, for any number of items and whatever the statistics say (SET): planning anew costs more than a small batch does, and
-- on tables that were empty when they were last analyzed the planner would read a whole room for each client_msg_id. BETWEEN with ORDER BY
-- says which index to read: with `=` the primary key looks as good while there are no statistics.
CREATE FUNCTION append_messages(room_ids uuid[], item_rooms int[], user_ids uuid[], contents text[], client_msg_ids uuid[])
RETURNS TABLE (status json, seq json, id json, created_at_ms json) LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_sort = off SET jit = off AS $$
DECLARE
  heads bigint[]; -- last_seq of each of room_ids; -1 where there is no such room
  first_id bigint := nextval('message_id_blocks');
  at timestamptz(3) := clock_timestamp();
BEGIN
  -- In (bucket, id) order in every session: no two batches can wait for each other. LATERAL, so that each room is found by its key and locked
  -- when its turn comes, however many rooms there are.
  WITH locked AS MATERIALIZED (
    SELECT r.id, r.last_seq
    FROM (SELECT u.id, room_bucket(u.id) AS bucket FROM unnest(room_ids) AS u (id) ORDER BY 2, 1) AS w
    CROSS JOIN LATERAL (
      SELECT rooms.id, rooms.last_seq FROM rooms WHERE rooms.bucket = w.bucket AND rooms.id = w.id FOR NO KEY UPDATE
    ) AS r
  )
  SELECT array_agg(coalesce(l.last_seq, -1) ORDER BY w.place) INTO heads
  FROM unnest(room_ids) WITH ORDINALITY AS w (id, place) LEFT JOIN locked AS l ON l.id = w.id;

  RETURN QUERY
  WITH judged AS MATERIALIZED (
    SELECT j.*, CASE WHEN j.status = 's' THEN heads[j.place] + row_number() OVER (PARTITION BY j.place, j.status ORDER BY j.n) END AS new_seq
    FROM (
      SELECT i.n, i.place, i.bucket, i.room_id, i.user_id, i.content, i.client_msg_id, m.username,
        e.seq AS earlier_seq, e.id AS earlier_id, e.created_at AS earlier_at,
        CASE
          WHEN heads[i.place] < 0 THEN 'r'
          WHEN m.username IS NULL THEN 'm'
          WHEN e.seq IS NULL THEN 's'
          WHEN e.content = i.content THEN 'd'
          ELSE 'c'
        END AS status
      FROM (
        SELECT u.n, u.place, room_ids[u.place] AS room_id, room_bucket(room_ids[u.place]) AS bucket, u.user_id, u.content, u.client_msg_id
        FROM unnest(item_rooms, user_ids, contents, client_msg_ids) WITH ORDINALITY AS u (place, user_id, content, client_msg_id, n)
      ) AS i
      LEFT JOIN LATERAL (
        SELECT rm.username FROM room_members AS rm
        WHERE rm.bucket = i.bucket AND rm.room_id = i.room_id AND rm.user_id = i.user_id LIMIT 1
      ) AS m ON true
      LEFT JOIN LATERAL (
        SELECT em.seq, em.id, em.created_at, em.content FROM messages AS em
        WHERE em.bucket = i.bucket AND em.room_id = i.room_id AND em.user_id = i.user_id
          AND em.client_msg_id BETWEEN i.client_msg_id AND i.client_msg_id AND i.client_msg_id IS NOT NULL
        ORDER BY em.client_msg_id LIMIT 1
      ) AS e ON true
    ) AS j
  ), bumped AS (
    UPDATE rooms SET last_seq = b.last_seq
    FROM (SELECT p.bucket, p.room_id, max(p.new_seq) AS last_seq FROM judged AS p WHERE p.new_seq IS NOT NULL GROUP BY p.bucket, p.room_id) AS b
    WHERE rooms.bucket = b.bucket AND rooms.id = b.room_id
  ), stored AS (
    INSERT INTO messages (bucket, room_id, seq, id, user_id, username, content, client_msg_id, created_at)
    SELECT p.bucket, p.room_id, p.new_seq, first_id + p.n - 1, p.user_id, p.username, p.content, p.client_msg_id, at
    FROM judged AS p WHERE p.new_seq IS NOT NULL
  )
  SELECT array_to_json(array_agg(j.status ORDER BY j.n)),
    array_to_json(array_agg(coalesce(j.new_seq, j.earlier_seq) ORDER BY j.n)),
    array_to_json(array_agg(CASE WHEN j.new_seq IS NULL THEN j.earlier_id ELSE first_id + j.n - 1 END ORDER BY j.n)),
    array_to_json(array_agg((extract(epoch FROM coalesce(j.earlier_at, at)) * 1000)::bigint ORDER BY j.n))
  FROM judged AS j;
END $$;

-- A plain INSERT, from psql or from another program, inside any transaction: gives the row what append_messages would have given it.
CREATE FUNCTION messages_take_seq() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET enable_seqscan = off SET enable_sort = off AS $$ -- for the look-up of client_msg_id, as in append_messages
DECLARE
  earlier bigint;
BEGIN
  NEW.bucket := room_bucket(NEW.room_id);
  UPDATE rooms SET last_seq = last_seq + 1 WHERE bucket = NEW.bucket AND id = NEW.room_id RETURNING last_seq INTO NEW.seq;
  IF NEW.seq IS NULL THEN
    RAISE EXCEPTION 'there is no room %', NEW.room_id USING ERRCODE = 'foreign_key_violation';
  END IF;
  SELECT username INTO NEW.username FROM room_members
    WHERE bucket = NEW.bucket AND room_id = NEW.room_id AND user_id = NEW.user_id;
  IF NEW.username IS NULL THEN
    RAISE EXCEPTION 'user % is not a member of room %', NEW.user_id, NEW.room_id USING ERRCODE = 'foreign_key_violation';
  END IF;
  -- Beyond these years there is no ISO 8601 for it, and of infinity not even a text.
  IF NEW.created_at NOT BETWEEN '0001-01-01T00:00:00Z' AND '9999-12-31T23:59:59.999Z' THEN
    RAISE EXCEPTION 'created_at % is not within the years 1 to 9999', NEW.created_at USING ERRCODE = 'check_violation';
  END IF;
  -- Raised here and not left to the unique index: ON CONFLICT DO NOTHING would swallow the row and keep the seq, a hole.
  IF NEW.client_msg_id IS NOT NULL THEN
    SELECT seq INTO earlier FROM messages
      WHERE bucket = NEW.bucket AND room_id = NEW.room_id AND user_id = NEW.user_id
        AND client_msg_id BETWEEN NEW.client_msg_id AND NEW.client_msg_id ORDER BY client_msg_id LIMIT 1;
    IF earlier IS NOT NULL THEN
      RAISE EXCEPTION 'client_msg_id % was already stored as seq %', NEW.client_msg_id, earlier USING ERRCODE = 'unique_violation';
    END IF;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER messages_take_seq BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.seq IS NULL) EXECUTE FUNCTION messages_take_seq();

-- Sends what a statement stored, its bodies included, as few payloads as fit. Lines are 'm' and a message, or 'r' and a range to be read from the
-- table where a message is too large for a payload.
CREATE FUNCTION messages_notify() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  max_bytes CONSTANT int := 7999 - 32; -- NOTIFY takes fewer than 8,000 bytes, the digest takes 32
  lines text[];
  ends bigint[]; -- where each line ends, counted in bytes from the first
  next_line int := 1;
  last_line int;
  sent_bytes bigint := 0;
BEGIN
  -- A seq that was given by hand and does not continue its room, or is an event's, would be a hole or a fork for ever.
  IF EXISTS (
    SELECT 1
    FROM (SELECT bucket, room_id, min(seq) AS first, max(seq) AS last, count(*) AS n FROM new_messages GROUP BY bucket, room_id) AS s
    LEFT JOIN LATERAL (SELECT last_seq FROM rooms WHERE rooms.bucket = s.bucket AND rooms.id = s.room_id LIMIT 1) AS r ON true
    WHERE r.last_seq IS NULL OR s.first < 1 OR r.last_seq < s.last OR s.last - s.first + 1 <> s.n
      OR EXISTS (SELECT FROM room_events AS e WHERE e.bucket = s.bucket AND e.room_id = s.room_id AND e.seq BETWEEN s.first AND s.last)
  ) THEN
    RAISE EXCEPTION 'seq is given by the database and must continue its room: leave seq out of the INSERT' USING ERRCODE = 'check_violation';
  END IF;

  SELECT array_agg(l.line), array_agg(l.ends_at) INTO lines, ends FROM (
    SELECT f.line, sum(octet_length(f.line)) OVER (ORDER BY f.room_id, f.seq ROWS UNBOUNDED PRECEDING) AS ends_at FROM (
      SELECT w.room_id, w.seq,
        CASE
          WHEN octet_length(w.line) <= max_bytes THEN w.line
          ELSE E'\nr{"room_id":"' || w.room_id || '","seq":' || w.seq || ',"to":' || w.seq || '}'
        END AS line
      FROM (
        SELECT n.room_id, n.seq, E'\nm' || message_json(n.room_id, n.seq, n.id, n.user_id, n.username, n.content, n.client_msg_id, n.created_at) AS line
        FROM new_messages AS n OFFSET 0 -- so that the text is made once
      ) AS w
    ) AS f
  ) AS l;
  WHILE next_line <= cardinality(lines) LOOP
    last_line := width_bucket(sent_bytes + max_bytes, ends); -- how many lines end by there
    PERFORM bus_notify(array_to_string(lines[next_line:last_line], ''));
    sent_bytes := ends[last_line];
    next_line := last_line + 1;
  END LOOP;
  RETURN NULL;
END $$;
CREATE TRIGGER messages_notify AFTER INSERT ON messages REFERENCING NEW TABLE AS new_messages
  FOR EACH STATEMENT EXECUTE FUNCTION messages_notify();

CREATE FUNCTION room_events_notify() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM rooms WHERE bucket = NEW.bucket AND id = NEW.room_id AND last_seq >= NEW.seq)
    OR EXISTS (SELECT FROM messages WHERE bucket = NEW.bucket AND room_id = NEW.room_id AND seq = NEW.seq) THEN
    RAISE EXCEPTION 'seq % is not the room''s next one: call append_room_event instead', NEW.seq USING ERRCODE = 'check_violation';
  END IF;
  PERFORM bus_notify(E'\ne' || room_event_json(NEW.room_id, NEW.seq, NEW.kind, NEW.actor_id, NEW.user_id, NEW.username, NEW.created_at));
  RETURN NULL;
END $$;
CREATE TRIGGER room_events_notify AFTER INSERT ON room_events FOR EACH ROW EXECUTE FUNCTION room_events_notify();

-- The log of a room is append-only: what was delivered stays as it was delivered.
CREATE FUNCTION room_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% of % is refused: clients hold what was delivered, and each seq of a room stands for ever', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation', HINT = 'A change to a room is a new row of room_events with a seq of its own.';
END $$;
CREATE TRIGGER messages_no_delete BEFORE DELETE ON messages FOR EACH ROW EXECUTE FUNCTION room_log_is_append_only();
CREATE TRIGGER messages_no_truncate BEFORE TRUNCATE ON messages FOR EACH STATEMENT EXECUTE FUNCTION room_log_is_append_only();
CREATE TRIGGER messages_no_update BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION room_log_is_append_only();
CREATE TRIGGER room_events_no_delete BEFORE DELETE ON room_events FOR EACH ROW EXECUTE FUNCTION room_log_is_append_only();
CREATE TRIGGER room_events_no_truncate BEFORE TRUNCATE ON room_events FOR EACH STATEMENT EXECUTE FUNCTION room_log_is_append_only();
CREATE TRIGGER room_events_no_update BEFORE UPDATE ON room_events FOR EACH ROW EXECUTE FUNCTION room_log_is_append_only();

CREATE FUNCTION rooms_seq_goes_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'last_seq of room % can''t go back from % to %', OLD.id, OLD.last_seq, NEW.last_seq USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER rooms_seq_goes_up BEFORE UPDATE OF last_seq ON rooms FOR EACH ROW WHEN (NEW.last_seq < OLD.last_seq)
  EXECUTE FUNCTION rooms_seq_goes_up();

-- Appends an event of the room, whose lock the caller holds or takes hereby. Returns its seq, or null where there is no such room.
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

-- Makes a user a member. Returns 'joined', 'already' (nothing changed, no seq taken) or 'no_room'.
CREATE FUNCTION join_room(p_room_id uuid, p_user_id uuid, p_username text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
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

-- Ends a membership: kind is 'left' (by the user) or 'kicked' (by another). Returns 'left', 'already' or 'no_room'.
CREATE FUNCTION leave_room(p_room_id uuid, p_user_id uuid, p_actor_id uuid, p_kind text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
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

-- Whoever may run a trigger function may attach it to a table of their own, and would forge with it: nobody but the owner.
REVOKE ALL ON FUNCTION messages_take_seq(), messages_notify(), room_events_notify() FROM PUBLIC;

-- Down Migration

DROP FUNCTION leave_room(uuid, uuid, uuid, text);
DROP FUNCTION join_room(uuid, uuid, text);
DROP FUNCTION append_room_event(uuid, text, uuid, uuid, text);
DROP TRIGGER rooms_seq_goes_up ON rooms;
DROP FUNCTION rooms_seq_goes_up();
DROP TRIGGER messages_no_delete ON messages;
DROP TRIGGER messages_no_truncate ON messages;
DROP TRIGGER messages_no_update ON messages;
DROP TRIGGER room_events_no_delete ON room_events;
DROP TRIGGER room_events_no_truncate ON room_events;
DROP TRIGGER room_events_no_update ON room_events;
DROP FUNCTION room_log_is_append_only();
DROP TRIGGER room_events_notify ON room_events;
DROP FUNCTION room_events_notify();
DROP TRIGGER messages_notify ON messages;
DROP FUNCTION messages_notify();
DROP TRIGGER messages_take_seq ON messages;
DROP FUNCTION messages_take_seq();
DROP FUNCTION append_messages(uuid[], int[], uuid[], text[], uuid[]);
