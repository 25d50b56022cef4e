-- Up Migration

-- As it was, but for the way of a statement that stored one message, as append_lone does: the statements below, which group, sort and pack any number
-- of them, take half as long again for one.
CREATE OR REPLACE FUNCTION messages_notify() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  max_bytes CONSTANT int := 7999 - 32; -- NOTIFY takes fewer than 8,000 bytes, the digest takes 32
  lone messages;
  line text;
  one_time text; -- created_at of all of them, where it is the same
  lines bytea;
  sizes int[]; -- of the lines, in bytes
  size int;
  sent_bytes int := 0;
  next_bytes int := 0; -- what goes into the next payload
BEGIN
  IF (SELECT count(*) FROM new_messages) = 1 THEN
    SELECT * INTO lone FROM new_messages;
    IF lone.seq < 1
      OR NOT EXISTS (SELECT FROM rooms AS r WHERE r.bucket = lone.bucket AND r.id = lone.room_id AND r.last_seq >= lone.seq)
      OR EXISTS (SELECT FROM room_events AS e WHERE e.bucket = lone.bucket AND e.room_id = lone.room_id AND e.seq = lone.seq)
    THEN
      RAISE EXCEPTION 'seq is given by the database and must continue its room: leave seq out of the INSERT' USING ERRCODE = 'check_violation';
    END IF;
    line := E'\nm' || message_json_at(
      lone.room_id, lone.seq, lone.id, lone.user_id, lone.username, lone.content, lone.client_msg_id, time_text(lone.created_at));
    IF octet_length(line) > max_bytes THEN
      line := E'\nr{"room_id":"' || lone.room_id || '","seq":' || lone.seq || ',"to":' || lone.seq || '}';
    END IF;
    PERFORM bus_notify(line);
    RETURN NULL;
  END IF;

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
