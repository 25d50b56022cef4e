-- Up Migration

-- A batch is stored first and judged only where that fails: append_messages looks for each client_msg_id and answers for each item, a third of
-- its work, although nearly all there is to find out is that everything is new.

-- Stores a batch of which everything can be stored, room by room: room_counts says how many items each of room_ids has; a member is a place in
-- room_ids and a user; item_members gives the place of each item's sender among the members. client_msg_ids may be null where there is none.
-- Returns last_seq of each room before, and the id of the first item; the next item of a room has the next seq, the next item the next id.
-- Returns null heads, and has written nothing, where a room is not there or somebody is no member of it; raises unique_violation for a
-- client_msg_id that is there already.
--
-- Three statements for the reasons that append_messages gives: the second sees all that was committed while the first waited for the locks. Its
-- plans are made under the settings of append_batch, its only caller.
CREATE FUNCTION append_new(
  room_ids uuid[], room_counts int[], member_rooms int[], member_ids uuid[], item_members int[], contents text[], client_msg_ids uuid[],
  OUT heads bigint[], OUT first_id bigint, OUT created_at_ms bigint
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  buckets smallint[];
  bases bigint[]; -- what to add to an item's place in the batch for its seq, by room
  names text[]; -- by member
  at timestamptz(3) := clock_timestamp();
BEGIN
  -- In (bucket, id) order, as in append_messages.
  WITH locked AS MATERIALIZED (
    SELECT r.id, r.last_seq
    FROM (SELECT u.id, room_bucket(u.id) AS bucket FROM unnest(room_ids) AS u (id) ORDER BY 2, 1) AS w
    CROSS JOIN LATERAL (
      SELECT rooms.id, rooms.last_seq FROM rooms WHERE rooms.bucket = w.bucket AND rooms.id = w.id FOR NO KEY UPDATE
    ) AS r
  )
  SELECT array_agg(l.last_seq ORDER BY w.place), array_agg(room_bucket(w.id) ORDER BY w.place), array_agg(l.last_seq - w.before ORDER BY w.place)
  INTO heads, buckets, bases
  FROM (
    SELECT u.id, u.place, sum(u.n) OVER (ORDER BY u.place ROWS UNBOUNDED PRECEDING) - u.n AS before
    FROM unnest(room_ids, room_counts) WITH ORDINALITY AS u (id, n, place)
  ) AS w
  LEFT JOIN locked AS l ON l.id = w.id;

  SELECT array_agg((
    SELECT rm.username FROM room_members AS rm
    WHERE rm.bucket = buckets[u.place] AND rm.room_id = room_ids[u.place] AND rm.user_id = u.user_id
  ) ORDER BY u.n) INTO names
  FROM unnest(member_rooms, member_ids) WITH ORDINALITY AS u (place, user_id, n);

  IF array_position(heads, NULL) IS NOT NULL OR array_position(names, NULL) IS NOT NULL THEN
    heads := NULL;
    RETURN;
  END IF;

  first_id := nextval('message_id_blocks');
  created_at_ms := extract(epoch FROM at) * 1000;
  WITH bumped AS (
    UPDATE rooms SET last_seq = rooms.last_seq + b.n FROM unnest(buckets, room_ids, room_counts) AS b (bucket, id, n)
    WHERE rooms.bucket = b.bucket AND rooms.id = b.id
  )
  INSERT INTO messages (bucket, room_id, seq, id, user_id, username, content, client_msg_id, created_at)
  SELECT buckets[member_rooms[i.member]], room_ids[member_rooms[i.member]], bases[member_rooms[i.member]] + i.n, first_id + i.n - 1,
    member_ids[i.member], names[i.member], i.content, i.client_msg_id, at
  FROM unnest(item_members, contents, client_msg_ids) WITH ORDINALITY AS i (member, content, client_msg_id, n);
END $$;

-- Stores a batch, given as append_new takes it. Where all of it was stored: heads and first_id, from which the node knows every item's seq and id, and
-- created_at_ms. Else judged: what append_messages says of each item, {"status": […], "seq": […], "id": […], "created_at_ms": […]}.
-- A client_msg_id must not stand twice for the same sender and room. retries_likely: judge at once, because a batch that is stored in vain costs
-- as much as one that is stored.
--
-- The unique index tells what was sent before, in a subtransaction, which takes back all that append_new did, its locks too: were they
-- taken outside, each UPDATE of rooms would make a MultiXact. A batch without a client_msg_id needs none.
CREATE FUNCTION append_batch(
  room_ids uuid[], room_counts int[], member_rooms int[], member_ids uuid[], item_members int[], contents text[], client_msg_ids uuid[],
  retries_likely boolean, OUT heads json, OUT first_id bigint, OUT created_at_ms bigint, OUT judged json
) LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_sort = off SET jit = off AS $$
DECLARE
  old_heads bigint[];
BEGIN
  IF client_msg_ids IS NULL THEN
    SELECT n.heads, n.first_id, n.created_at_ms INTO old_heads, first_id, created_at_ms
    FROM append_new(room_ids, room_counts, member_rooms, member_ids, item_members, contents, client_msg_ids) AS n;
  ELSIF NOT retries_likely THEN
    BEGIN
      SELECT n.heads, n.first_id, n.created_at_ms INTO old_heads, first_id, created_at_ms
      FROM append_new(room_ids, room_counts, member_rooms, member_ids, item_members, contents, client_msg_ids) AS n;
    EXCEPTION WHEN unique_violation THEN NULL; -- old_heads too
    END;
  END IF;
  IF old_heads IS NOT NULL THEN
    heads := array_to_json(old_heads);
    RETURN;
  END IF;
  SELECT json_build_object('status', a.status, 'seq', a.seq, 'id', a.id, 'created_at_ms', a.created_at_ms) INTO judged
  FROM append_messages(
    room_ids,
    ARRAY(SELECT member_rooms[u.member] FROM unnest(item_members) WITH ORDINALITY AS u (member, n) ORDER BY u.n),
    ARRAY(SELECT member_ids[u.member] FROM unnest(item_members) WITH ORDINALITY AS u (member, n) ORDER BY u.n),
    contents, client_msg_ids
  ) AS a;
END $$;

-- message_json, given the time as text: most batches have one time.
CREATE FUNCTION message_json_at(
  room_id uuid, seq bigint, id bigint, user_id uuid, username text, content text, client_msg_id uuid, created_at text
) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT '{"room_id":"' || room_id || '","seq":' || seq || ',"id":' || id || ',"user_id":"' || user_id
    || '","username":' || to_json(username)::text || ',"content":' || to_json(content)::text
    || CASE WHEN client_msg_id IS NULL THEN '' ELSE ',"client_msg_id":"' || client_msg_id || '"' END
    || ',"created_at":"' || created_at || '"}'
$$;
CREATE FUNCTION time_text(at timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;
CREATE OR REPLACE FUNCTION message_json(room_id uuid, seq bigint, id bigint, user_id uuid, username text, content text, client_msg_id uuid, created_at timestamptz)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT message_json_at(room_id, seq, id, user_id, username, content, client_msg_id, time_text(created_at))
$$;

-- As it was, but for how the lines come into payloads: cut out of one text of all lines, where each was cut out of an array of them, which copied the
-- whole array for each payload.
CREATE OR REPLACE FUNCTION messages_notify() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  max_bytes CONSTANT int := 7999 - 32; -- NOTIFY takes fewer than 8,000 bytes, the digest takes 32
  one_time text; -- created_at of all of them, where it is the same
  lines bytea;
  sizes int[]; -- of the lines, in bytes
  size int;
  sent_bytes int := 0;
  next_bytes int := 0; -- what goes into the next payload
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

  SELECT time_text(min(created_at)) INTO one_time FROM new_messages HAVING min(created_at) = max(created_at);
  SELECT convert_to(string_agg(l.line, ''), 'UTF8'), array_agg(octet_length(l.line)) INTO lines, sizes FROM (
    SELECT
      CASE
        WHEN octet_length(w.line) <= max_bytes THEN w.line
        ELSE E'\nr{"room_id":"' || w.room_id || '","seq":' || w.seq || ',"to":' || w.seq || '}'
      END AS line
    FROM (
      SELECT n.room_id, n.seq, E'\nm' || message_json_at(
        n.room_id, n.seq, n.id, n.user_id, n.username, n.content, n.client_msg_id, coalesce(one_time, time_text(n.created_at))) AS line
      FROM (SELECT * FROM new_messages ORDER BY room_id, seq) AS n OFFSET 0 -- so that the text is made once
    ) AS w
  ) AS l;
  FOREACH size IN ARRAY coalesce(sizes, '{}') LOOP
    IF next_bytes + size > max_bytes THEN
      PERFORM bus_notify(convert_from(substring(lines FROM sent_bytes + 1 FOR next_bytes), 'UTF8'));
      sent_bytes := sent_bytes + next_bytes;
      next_bytes := 0;
    END IF;
    next_bytes := next_bytes + size;
  END LOOP;
  IF next_bytes > 0 THEN
    PERFORM bus_notify(convert_from(substring(lines FROM sent_bytes + 1 FOR next_bytes), 'UTF8'));
  END IF;
  RETURN NULL;
END $$;

-- Down Migration

CREATE OR REPLACE FUNCTION messages_notify() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
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

CREATE OR REPLACE FUNCTION message_json(room_id uuid, seq bigint, id bigint, user_id uuid, username text, content text, client_msg_id uuid, created_at timestamptz)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT '{"room_id":"' || room_id || '","seq":' || seq || ',"id":' || id || ',"user_id":"' || user_id
    || '","username":' || to_json(username)::text || ',"content":' || to_json(content)::text
    || CASE WHEN client_msg_id IS NULL THEN '' ELSE ',"client_msg_id":"' || client_msg_id || '"' END
    || ',"created_at":"' || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '"}'
$$;
DROP FUNCTION message_json_at(uuid, bigint, bigint, uuid, text, text, uuid, text);
DROP FUNCTION time_text(timestamptz);

DROP FUNCTION append_batch(uuid[], int[], int[], uuid[], int[], text[], uuid[], boolean);
DROP FUNCTION append_new(uuid[], int[], int[], uuid[], int[], text[], uuid[]);
