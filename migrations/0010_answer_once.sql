-- Up Migration

-- append_messages as it was, but that a send which is stored already is a duplicate also where its sender is no member any more: when the answer to
-- its COMMIT was lost, and a kick came before it was tried again, it was refused although everybody has it.
CREATE OR REPLACE FUNCTION append_messages(room_ids uuid[], item_rooms int[], user_ids uuid[], contents text[], client_msg_ids uuid[])
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
          WHEN e.content = i.content THEN 'd'
          WHEN m.username IS NULL THEN 'm'
          WHEN e.seq IS NULL THEN 's'
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

-- Down Migration

CREATE OR REPLACE FUNCTION append_messages(room_ids uuid[], item_rooms int[], user_ids uuid[], contents text[], client_msg_ids uuid[])
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
