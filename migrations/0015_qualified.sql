-- Up Migration

-- The functions run with the rights of the owner: as SECURITY DEFINER, or because a node calls them. Names in their
-- bodies must not resolve to objects of another role. A function or operator in public with the exact types is preferred
-- to a polymorphic one of pg_catalog (unnest, array_agg, text || anynonarray), and to one that needs a conversion.
--
-- 1. SQL: a body of the SQL standard (RETURN), which is resolved here and now and can still be inlined.
-- 2. plpgsql that fires no trigger of an operator's: search_path is pg_catalog alone, and pg_temp last.
-- 3. Other plpgsql: public stays in the search_path, on which the operator's own triggers rely. Every name in it is
--    qualified or has exact types in pg_catalog, which is searched first.
--
-- A migration that replaces one of them keeps to this: src/database/functions.pg.spec.ts, test/hostile-objects.spec.ts.

CREATE OR REPLACE FUNCTION public.room_bucket(room_id uuid)
 RETURNS smallint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
RETURN (get_byte(uuid_send(room_id), 15) & 15)::smallint;

CREATE OR REPLACE FUNCTION public.time_text(at timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

CREATE OR REPLACE FUNCTION public.message_json_at(room_id uuid, seq bigint, id bigint, user_id uuid, username text, content text, client_msg_id uuid, created_at text)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN '{"room_id":"' || room_id::text || '","seq":' || seq::text || ',"id":' || id::text || ',"user_id":"' || user_id::text
    || '","username":' || to_json(username)::text || ',"content":' || to_json(content)::text
    || CASE WHEN client_msg_id IS NULL THEN '' ELSE ',"client_msg_id":"' || client_msg_id::text || '"' END
    || ',"created_at":"' || created_at || '"}';

CREATE OR REPLACE FUNCTION public.message_json(room_id uuid, seq bigint, id bigint, user_id uuid, username text, content text, client_msg_id uuid, created_at timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN public.message_json_at(room_id, seq, id, user_id, username, content, client_msg_id, public.time_text(created_at));

CREATE OR REPLACE FUNCTION public.room_event_json(room_id uuid, seq bigint, kind text, actor_id uuid, user_id uuid, username text, created_at timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN '{"room_id":"' || room_id::text || '","seq":' || seq::text || ',"kind":"' || kind || '","actor_id":"' || actor_id::text || '"'
    || CASE WHEN user_id IS NULL THEN '' ELSE ',"user_id":"' || user_id::text || '","username":' || to_json(username)::text END
    || ',"created_at":"' || public.time_text(created_at) || '"}';

CREATE OR REPLACE FUNCTION public.room_event_json(room_id uuid, seq bigint, kind text, actor_id uuid, user_id uuid, username text, created_at timestamp with time zone, data jsonb)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN (
  SELECT CASE WHEN data IS NULL THEN json ELSE left(json, -1) || ',' || substr(data::text, 2) END
  FROM public.room_event_json(room_id, seq, kind, actor_id, user_id, username, created_at) AS json
);

CREATE OR REPLACE FUNCTION public.current_epoch()
 RETURNS text
 LANGUAGE sql
 STABLE
RETURN left(encode(sha256(convert_to(concat_ws('/',
    (SELECT system_identifier FROM pg_control_system()),
    left(pg_walfile_name(pg_current_wal_lsn()), 8),
    (SELECT epoch FROM public.operator_epoch)), 'UTF8')), 'hex'), 16);

CREATE OR REPLACE FUNCTION public.add_member(p_room_id uuid, p_user_id uuid, p_username text, p_actor_id uuid, p_invited boolean)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, public, pg_temp
AS $$
DECLARE
  is_private boolean;
  is_first boolean;
BEGIN
  SELECT private INTO is_private FROM public.rooms WHERE bucket = public.room_bucket(p_room_id) AND id = p_room_id AND deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN 'no_room';
  END IF;
  PERFORM 1 FROM public.room_members WHERE bucket = public.room_bucket(p_room_id) AND room_id = p_room_id AND user_id = p_user_id;
  IF FOUND THEN
    RETURN 'already';
  END IF;
  IF is_private AND NOT p_invited THEN
    RETURN 'no_room';
  END IF;
  PERFORM 1 FROM public.room_bans WHERE bucket = public.room_bucket(p_room_id) AND room_id = p_room_id AND user_id = p_user_id;
  IF FOUND THEN
    RETURN 'banned';
  END IF;
  is_first := NOT EXISTS (SELECT FROM public.room_members WHERE bucket = public.room_bucket(p_room_id) AND room_id = p_room_id);
  INSERT INTO public.room_members (bucket, room_id, user_id, username, role, joined_seq)
  VALUES (public.room_bucket(p_room_id), p_room_id, p_user_id, p_username, CASE WHEN is_first THEN 'owner' ELSE 'member' END,
    public.append_room_event(p_room_id, 'joined'::text, p_actor_id, p_user_id, p_username, NULL::jsonb));
  IF is_first THEN
    PERFORM public.append_room_event(p_room_id, 'owner_changed'::text, p_actor_id, p_user_id, p_username, NULL::jsonb);
  END IF;
  RETURN 'joined';
END $$;

CREATE OR REPLACE FUNCTION public.append_batch(room_ids uuid[], room_counts integer[], member_rooms integer[], member_ids uuid[], item_members integer[], contents text[], client_msg_ids uuid[], retries_likely boolean, OUT heads json, OUT first_id bigint, OUT created_at_ms bigint, OUT judged json)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, public, pg_temp
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
AS $$
DECLARE
  old_heads bigint[];
BEGIN
  IF client_msg_ids IS NULL THEN
    SELECT n.heads, n.first_id, n.created_at_ms INTO old_heads, first_id, created_at_ms
    FROM public.append_new(room_ids, room_counts, member_rooms, member_ids, item_members, contents, client_msg_ids) AS n;
  ELSIF NOT retries_likely THEN
    BEGIN
      SELECT n.heads, n.first_id, n.created_at_ms INTO old_heads, first_id, created_at_ms
      FROM public.append_new(room_ids, room_counts, member_rooms, member_ids, item_members, contents, client_msg_ids) AS n;
    EXCEPTION WHEN unique_violation THEN NULL; -- old_heads too
    END;
  END IF;
  IF old_heads IS NOT NULL THEN
    heads := pg_catalog.array_to_json(old_heads);
    RETURN;
  END IF;
  SELECT pg_catalog.json_build_object('status', a.status, 'seq', a.seq, 'id', a.id, 'created_at_ms', a.created_at_ms) INTO judged
  FROM public.append_messages(
    room_ids,
    ARRAY(SELECT member_rooms[u.member] FROM pg_catalog.unnest(item_members) WITH ORDINALITY AS u (member, n) ORDER BY u.n),
    ARRAY(SELECT member_ids[u.member] FROM pg_catalog.unnest(item_members) WITH ORDINALITY AS u (member, n) ORDER BY u.n),
    contents, client_msg_ids
  ) AS a;
END $$;

CREATE OR REPLACE FUNCTION public.append_lone(to_room uuid, sender uuid, body text, key uuid, OUT heads json, OUT first_id bigint, OUT created_at_ms bigint, OUT judged json)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, public, pg_temp
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
AS $$
DECLARE
  its_bucket smallint := public.room_bucket(to_room);
  head bigint;
  name text;
  at timestamptz(3) := clock_timestamp();
BEGIN
  SELECT r.last_seq INTO head FROM public.rooms AS r WHERE r.bucket = its_bucket AND r.id = to_room FOR NO KEY UPDATE;
  SELECT rm.username INTO name FROM public.room_members AS rm WHERE rm.bucket = its_bucket AND rm.room_id = to_room AND rm.user_id = sender;
  -- BETWEEN and ORDER BY for the reason that append_messages has: no other index will do for them.
  IF head IS NULL OR name IS NULL OR key IS NOT NULL AND EXISTS (
    SELECT FROM public.messages AS em
    WHERE em.bucket = its_bucket AND em.room_id = to_room AND em.user_id = sender
      AND em.client_msg_id BETWEEN key AND key AND em.client_msg_id IS NOT NULL
    ORDER BY em.client_msg_id LIMIT 1
  ) THEN
    SELECT pg_catalog.json_build_object('status', a.status, 'seq', a.seq, 'id', a.id, 'created_at_ms', a.created_at_ms) INTO judged
    FROM public.append_messages(ARRAY[to_room], ARRAY[1], ARRAY[sender], ARRAY[body], ARRAY[key]) AS a;
    RETURN;
  END IF;
  heads := pg_catalog.json_build_array(head);
  first_id := pg_catalog.nextval('public.message_id_blocks'::regclass);
  created_at_ms := extract(epoch FROM at) * 1000::numeric;
  UPDATE public.rooms AS r SET last_seq = head + 1 WHERE r.bucket = its_bucket AND r.id = to_room;
  INSERT INTO public.messages (bucket, room_id, seq, id, user_id, username, content, client_msg_id, created_at)
  VALUES (its_bucket, to_room, head + 1, first_id, sender, name, body, key, at);
END $$;

CREATE OR REPLACE FUNCTION public.append_messages(room_ids uuid[], item_rooms integer[], user_ids uuid[], contents text[], client_msg_ids uuid[])
 RETURNS TABLE(status json, seq json, id json, created_at_ms json)
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, public, pg_temp
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
AS $$
DECLARE
  heads bigint[]; -- last_seq of each of room_ids; -1 where there is no such room
  first_id bigint := pg_catalog.nextval('public.message_id_blocks'::regclass);
  at timestamptz(3) := clock_timestamp();
BEGIN
  -- In (bucket, id) order in every session: no two batches can wait for each other. LATERAL, so that each room is found by its key and locked
  -- when its turn comes, however many rooms there are.
  WITH locked AS MATERIALIZED (
    SELECT r.id, r.last_seq
    FROM (SELECT u.id, public.room_bucket(u.id) AS bucket FROM pg_catalog.unnest(room_ids) AS u (id) ORDER BY 2, 1) AS w
    CROSS JOIN LATERAL (
      SELECT rooms.id, rooms.last_seq FROM public.rooms WHERE rooms.bucket = w.bucket AND rooms.id = w.id FOR NO KEY UPDATE
    ) AS r
  )
  SELECT pg_catalog.array_agg(coalesce(l.last_seq, -1) ORDER BY w.place) INTO heads
  FROM pg_catalog.unnest(room_ids) WITH ORDINALITY AS w (id, place) LEFT JOIN locked AS l ON l.id = w.id;

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
        SELECT u.n, u.place, room_ids[u.place] AS room_id, public.room_bucket(room_ids[u.place]) AS bucket, u.user_id, u.content, u.client_msg_id
        FROM unnest(item_rooms, user_ids, contents, client_msg_ids) WITH ORDINALITY AS u (place, user_id, content, client_msg_id, n)
      ) AS i
      LEFT JOIN LATERAL (
        SELECT rm.username FROM public.room_members AS rm
        WHERE rm.bucket = i.bucket AND rm.room_id = i.room_id AND rm.user_id = i.user_id LIMIT 1
      ) AS m ON true
      LEFT JOIN LATERAL (
        SELECT em.seq, em.id, em.created_at, em.content FROM public.messages AS em
        WHERE em.bucket = i.bucket AND em.room_id = i.room_id AND em.user_id = i.user_id
          AND em.client_msg_id BETWEEN i.client_msg_id AND i.client_msg_id AND i.client_msg_id IS NOT NULL
        ORDER BY em.client_msg_id LIMIT 1
      ) AS e ON true
    ) AS j
  ), bumped AS (
    UPDATE public.rooms SET last_seq = b.last_seq
    FROM (SELECT p.bucket, p.room_id, max(p.new_seq) AS last_seq FROM judged AS p WHERE p.new_seq IS NOT NULL GROUP BY p.bucket, p.room_id) AS b
    WHERE rooms.bucket = b.bucket AND rooms.id = b.room_id
  ), stored AS (
    INSERT INTO public.messages (bucket, room_id, seq, id, user_id, username, content, client_msg_id, created_at)
    SELECT p.bucket, p.room_id, p.new_seq, first_id + p.n - 1, p.user_id, p.username, p.content, p.client_msg_id, at
    FROM judged AS p WHERE p.new_seq IS NOT NULL
  )
  SELECT pg_catalog.array_to_json(pg_catalog.array_agg(j.status ORDER BY j.n)),
    pg_catalog.array_to_json(pg_catalog.array_agg(coalesce(j.new_seq, j.earlier_seq) ORDER BY j.n)),
    pg_catalog.array_to_json(pg_catalog.array_agg(CASE WHEN j.new_seq IS NULL THEN j.earlier_id ELSE first_id + j.n - 1 END ORDER BY j.n)),
    pg_catalog.array_to_json(pg_catalog.array_agg((extract(epoch FROM coalesce(j.earlier_at, at)) * 1000::numeric)::bigint ORDER BY j.n))
  FROM judged AS j;
END $$;

CREATE OR REPLACE FUNCTION public.append_new(room_ids uuid[], room_counts integer[], member_rooms integer[], member_ids uuid[], item_members integer[], contents text[], client_msg_ids uuid[], OUT heads bigint[], OUT first_id bigint, OUT created_at_ms bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, public, pg_temp
AS $$
DECLARE
  buckets smallint[];
  bases bigint[]; -- what to add to an item's place in the batch for its seq, by room
  names text[]; -- by member
  at timestamptz(3) := clock_timestamp();
BEGIN
  -- In (bucket, id) order, as in append_messages.
  WITH locked AS MATERIALIZED (
    SELECT r.id, r.last_seq
    FROM (SELECT u.id, public.room_bucket(u.id) AS bucket FROM pg_catalog.unnest(room_ids) AS u (id) ORDER BY 2, 1) AS w
    CROSS JOIN LATERAL (
      SELECT rooms.id, rooms.last_seq FROM public.rooms WHERE rooms.bucket = w.bucket AND rooms.id = w.id FOR NO KEY UPDATE
    ) AS r
  )
  SELECT pg_catalog.array_agg(l.last_seq ORDER BY w.place), pg_catalog.array_agg(public.room_bucket(w.id) ORDER BY w.place), pg_catalog.array_agg(l.last_seq - w.before ORDER BY w.place)
  INTO heads, buckets, bases
  FROM (
    SELECT u.id, u.place, sum(u.n) OVER (ORDER BY u.place ROWS UNBOUNDED PRECEDING) - u.n AS before
    FROM unnest(room_ids, room_counts) WITH ORDINALITY AS u (id, n, place)
  ) AS w
  LEFT JOIN locked AS l ON l.id = w.id;

  SELECT pg_catalog.array_agg((
    SELECT rm.username FROM public.room_members AS rm
    WHERE rm.bucket = buckets[u.place] AND rm.room_id = room_ids[u.place] AND rm.user_id = u.user_id
  ) ORDER BY u.n) INTO names
  FROM unnest(member_rooms, member_ids) WITH ORDINALITY AS u (place, user_id, n);

  IF pg_catalog.array_position(heads, NULL::bigint) IS NOT NULL OR pg_catalog.array_position(names, NULL::text) IS NOT NULL THEN
    heads := NULL;
    RETURN;
  END IF;

  first_id := pg_catalog.nextval('public.message_id_blocks'::regclass);
  created_at_ms := extract(epoch FROM at) * 1000::numeric;
  WITH bumped AS (
    UPDATE public.rooms SET last_seq = rooms.last_seq + b.n FROM unnest(buckets, room_ids, room_counts) AS b (bucket, id, n)
    WHERE rooms.bucket = b.bucket AND rooms.id = b.id
  )
  INSERT INTO public.messages (bucket, room_id, seq, id, user_id, username, content, client_msg_id, created_at)
  SELECT buckets[member_rooms[i.member]], room_ids[member_rooms[i.member]], bases[member_rooms[i.member]] + i.n, first_id + i.n - 1,
    member_ids[i.member], names[i.member], i.content, i.client_msg_id, at
  FROM unnest(item_members, contents, client_msg_ids) WITH ORDINALITY AS i (member, content, client_msg_id, n);
END $$;

CREATE OR REPLACE FUNCTION public.append_room_event(p_room_id uuid, p_kind text, p_actor_id uuid, p_user_id uuid, p_username text, p_data jsonb DEFAULT NULL::jsonb)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, public, pg_temp
AS $$
DECLARE
  new_seq bigint;
BEGIN
  UPDATE public.rooms SET last_seq = last_seq + 1 WHERE bucket = public.room_bucket(p_room_id) AND id = p_room_id RETURNING last_seq INTO new_seq;
  IF new_seq IS NOT NULL THEN
    INSERT INTO public.room_events (bucket, room_id, seq, kind, actor_id, user_id, username, data)
    VALUES (public.room_bucket(p_room_id), p_room_id, new_seq, p_kind, p_actor_id, p_user_id, p_username, p_data);
  END IF;
  RETURN new_seq;
END $$;

CREATE OR REPLACE FUNCTION public.bus_notify(lines text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  k bytea := (SELECT key FROM public.bus_key);
BEGIN
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  PERFORM pg_notify('trunkline', left(encode(sha256(k || sha256(k || convert_to(lines, 'UTF8'))), 'hex'), 32) || lines);
END $$;

CREATE OR REPLACE FUNCTION public.join_room(p_room_id uuid, p_user_id uuid, p_username text)
 RETURNS text
 LANGUAGE sql
RETURN public.add_member(p_room_id, p_user_id, p_username, p_user_id, false);

CREATE OR REPLACE FUNCTION public.leave_room(p_room_id uuid, p_user_id uuid, p_actor_id uuid, p_kind text)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, public, pg_temp
AS $$
DECLARE
  is_private boolean;
  member record;
  heir record;
BEGIN
  SELECT private INTO is_private FROM public.rooms WHERE bucket = public.room_bucket(p_room_id) AND id = p_room_id AND deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN 'no_room';
  END IF;
  DELETE FROM public.room_members WHERE bucket = public.room_bucket(p_room_id) AND room_id = p_room_id AND user_id = p_user_id
    RETURNING username, role INTO member;
  IF NOT FOUND THEN
    RETURN CASE WHEN is_private THEN 'no_room' ELSE 'already' END;
  END IF;
  IF member.role = 'owner' THEN
    SELECT user_id, username INTO heir FROM public.room_members WHERE bucket = public.room_bucket(p_room_id) AND room_id = p_room_id
      ORDER BY role = 'admin' DESC, joined_seq, user_id LIMIT 1;
    IF FOUND THEN
      UPDATE public.room_members SET role = 'owner' WHERE bucket = public.room_bucket(p_room_id) AND room_id = p_room_id AND user_id = heir.user_id;
      PERFORM public.append_room_event(p_room_id, 'owner_changed'::text, p_actor_id, heir.user_id, heir.username, NULL::jsonb);
    END IF;
  END IF;
  PERFORM public.append_room_event(p_room_id, p_kind, p_actor_id, p_user_id, member.username, NULL::jsonb);
  RETURN 'left';
END $$;

CREATE OR REPLACE FUNCTION public.messages_notify()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  max_bytes CONSTANT int := 7999 - 32; -- NOTIFY takes fewer than 8,000 bytes, the digest takes 32
  lone public.messages;
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
      OR NOT EXISTS (SELECT FROM public.rooms AS r WHERE r.bucket = lone.bucket AND r.id = lone.room_id AND r.last_seq >= lone.seq)
      OR EXISTS (SELECT FROM public.room_events AS e WHERE e.bucket = lone.bucket AND e.room_id = lone.room_id AND e.seq = lone.seq)
    THEN
      RAISE EXCEPTION 'seq is given by the database and must continue its room: leave seq out of the INSERT' USING ERRCODE = 'check_violation';
    END IF;
    line := E'\nm' || public.message_json_at(
      lone.room_id, lone.seq, lone.id, lone.user_id, lone.username, lone.content, lone.client_msg_id, public.time_text(lone.created_at));
    IF octet_length(line) > max_bytes THEN
      line := E'\nr{"room_id":"' || lone.room_id::text || '","seq":' || lone.seq::text || ',"to":' || lone.seq::text || '}';
    END IF;
    PERFORM public.bus_notify(line);
    RETURN NULL;
  END IF;

  -- A seq that was given by hand and does not continue its room, or is an event's, would be a hole or a fork for ever.
  IF EXISTS (
    SELECT 1
    FROM (SELECT bucket, room_id, min(seq) AS first, max(seq) AS last, count(*) AS n FROM new_messages GROUP BY bucket, room_id) AS s
    LEFT JOIN LATERAL (SELECT last_seq FROM public.rooms WHERE rooms.bucket = s.bucket AND rooms.id = s.room_id LIMIT 1) AS r ON true
    WHERE r.last_seq IS NULL OR s.first < 1 OR r.last_seq < s.last OR s.last - s.first + 1 <> s.n
      OR EXISTS (SELECT FROM public.room_events AS e WHERE e.bucket = s.bucket AND e.room_id = s.room_id AND e.seq BETWEEN s.first AND s.last)
  ) THEN
    RAISE EXCEPTION 'seq is given by the database and must continue its room: leave seq out of the INSERT' USING ERRCODE = 'check_violation';
  END IF;

  SELECT public.time_text(min(created_at)) INTO one_time FROM new_messages HAVING min(created_at) = max(created_at);
  SELECT convert_to(string_agg(l.line, ''), 'UTF8'), array_agg(octet_length(l.line)) INTO lines, sizes FROM (
    SELECT
      CASE
        WHEN octet_length(w.line) <= max_bytes THEN w.line
        ELSE E'\nr{"room_id":"' || w.room_id::text || '","seq":' || w.seq::text || ',"to":' || w.seq::text || '}'
      END AS line
    FROM (
      SELECT n.room_id, n.seq, E'\nm' || public.message_json_at(
        n.room_id, n.seq, n.id, n.user_id, n.username, n.content, n.client_msg_id, coalesce(one_time, public.time_text(n.created_at))) AS line
      FROM (SELECT * FROM new_messages ORDER BY room_id, seq) AS n OFFSET 0 -- so that the text is made once
    ) AS w
  ) AS l;
  FOREACH size IN ARRAY coalesce(sizes, '{}') LOOP
    IF next_bytes + size > max_bytes THEN
      PERFORM public.bus_notify(convert_from(substring(lines FROM sent_bytes + 1 FOR next_bytes), 'UTF8'));
      sent_bytes := sent_bytes + next_bytes;
      next_bytes := 0;
    END IF;
    next_bytes := next_bytes + size;
  END LOOP;
  IF next_bytes > 0 THEN
    PERFORM public.bus_notify(convert_from(substring(lines FROM sent_bytes + 1 FOR next_bytes), 'UTF8'));
  END IF;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION public.messages_take_seq()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO pg_catalog, public, pg_temp
 SET enable_seqscan TO 'off'
 SET enable_sort TO 'off'
AS $$ -- for the look-up of client_msg_id, as in append_messages
DECLARE
  earlier bigint;
BEGIN
  NEW.bucket := public.room_bucket(NEW.room_id);
  UPDATE public.rooms SET last_seq = last_seq + 1 WHERE bucket = NEW.bucket AND id = NEW.room_id RETURNING last_seq INTO NEW.seq;
  IF NEW.seq IS NULL THEN
    RAISE EXCEPTION 'there is no room %', NEW.room_id USING ERRCODE = 'foreign_key_violation';
  END IF;
  SELECT username INTO NEW.username FROM public.room_members
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
    SELECT seq INTO earlier FROM public.messages
      WHERE bucket = NEW.bucket AND room_id = NEW.room_id AND user_id = NEW.user_id
        AND client_msg_id BETWEEN NEW.client_msg_id AND NEW.client_msg_id ORDER BY client_msg_id LIMIT 1;
    IF earlier IS NOT NULL THEN
      RAISE EXCEPTION 'client_msg_id % was already stored as seq %', NEW.client_msg_id, earlier USING ERRCODE = 'unique_violation';
    END IF;
  END IF;
  RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION public.room_events_notify()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
  line text := E'\ne' || public.room_event_json(NEW.room_id, NEW.seq, NEW.kind, NEW.actor_id, NEW.user_id, NEW.username, NEW.created_at, NEW.data);
BEGIN
  IF NOT EXISTS (SELECT FROM public.rooms WHERE bucket = NEW.bucket AND id = NEW.room_id AND last_seq >= NEW.seq)
    OR EXISTS (SELECT FROM public.messages WHERE bucket = NEW.bucket AND room_id = NEW.room_id AND seq = NEW.seq) THEN
    RAISE EXCEPTION 'seq % is not the room''s next one: call append_room_event instead', NEW.seq USING ERRCODE = 'check_violation';
  END IF;
  -- NOTIFY takes fewer than 8,000 bytes, the digest takes 32: what is larger is read from the table.
  IF octet_length(line) > 7999 - 32 THEN
    line := E'\nr{"room_id":"' || NEW.room_id::text || '","seq":' || NEW.seq::text || ',"to":' || NEW.seq::text || '}';
  END IF;
  PERFORM public.bus_notify(line);
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION public.room_log_is_append_only()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION '% of % is refused: clients hold what was delivered, and each seq of a room stands for ever', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation', HINT = 'A change to a room is a new row of room_events with a seq of its own.';
END $$;

CREATE OR REPLACE FUNCTION public.rooms_seq_goes_up()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION 'last_seq of room % can''t go back from % to %', OLD.id, OLD.last_seq, NEW.last_seq USING ERRCODE = 'restrict_violation';
END $$;

CREATE OR REPLACE FUNCTION public.sweep_presence(node_ids uuid[])
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, public, pg_temp
AS $$
DECLARE
  gone uuid[];
BEGIN
  DELETE FROM public.presence_nodes WHERE node_id = ANY (node_ids) AND expires_at < now();
  SELECT pg_catalog.array_agg(id) INTO gone FROM pg_catalog.unnest(node_ids) AS id WHERE NOT EXISTS (SELECT FROM public.presence_nodes WHERE node_id = id);
  DELETE FROM public.room_presence WHERE bucket BETWEEN 0 AND 15 AND node_id = ANY (gone);
  RETURN coalesce(gone, '{}');
END $$;

CREATE OR REPLACE FUNCTION public.write_presence(p_node_id uuid, on_rooms uuid[], on_users uuid[], on_names text[], off_rooms uuid[], off_users uuid[], payloads text[])
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, public, pg_temp
AS $$
BEGIN
  PERFORM 1 FROM public.presence_nodes WHERE node_id = p_node_id FOR KEY SHARE;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  DELETE FROM public.room_presence AS p USING unnest(off_rooms, off_users) AS off (room_id, user_id)
    WHERE p.bucket = public.room_bucket(off.room_id) AND p.room_id = off.room_id AND p.user_id = off.user_id AND p.node_id = p_node_id;
  INSERT INTO public.room_presence (bucket, room_id, user_id, node_id, username)
    SELECT public.room_bucket(o.room_id), o.room_id, o.user_id, p_node_id, o.username FROM unnest(on_rooms, on_users, on_names) AS o (room_id, user_id, username)
    ON CONFLICT DO NOTHING;
  PERFORM public.bus_notify(payload) FROM pg_catalog.unnest(payloads) AS payload;
  RETURN true;
END $$;

-- Down Migration

CREATE OR REPLACE FUNCTION public.add_member(p_room_id uuid, p_user_id uuid, p_username text, p_actor_id uuid, p_invited boolean)
 RETURNS text
 LANGUAGE plpgsql
AS $$
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

CREATE OR REPLACE FUNCTION public.append_batch(room_ids uuid[], room_counts integer[], member_rooms integer[], member_ids uuid[], item_members integer[], contents text[], client_msg_ids uuid[], retries_likely boolean, OUT heads json, OUT first_id bigint, OUT created_at_ms bigint, OUT judged json)
 RETURNS record
 LANGUAGE plpgsql
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
AS $$
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

CREATE OR REPLACE FUNCTION public.append_lone(to_room uuid, sender uuid, body text, key uuid, OUT heads json, OUT first_id bigint, OUT created_at_ms bigint, OUT judged json)
 RETURNS record
 LANGUAGE plpgsql
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
AS $$
DECLARE
  its_bucket smallint := room_bucket(to_room);
  head bigint;
  name text;
  at timestamptz(3) := clock_timestamp();
BEGIN
  SELECT r.last_seq INTO head FROM rooms AS r WHERE r.bucket = its_bucket AND r.id = to_room FOR NO KEY UPDATE;
  SELECT rm.username INTO name FROM room_members AS rm WHERE rm.bucket = its_bucket AND rm.room_id = to_room AND rm.user_id = sender;
  -- BETWEEN and ORDER BY for the reason that append_messages has: no other index will do for them.
  IF head IS NULL OR name IS NULL OR key IS NOT NULL AND EXISTS (
    SELECT FROM messages AS em
    WHERE em.bucket = its_bucket AND em.room_id = to_room AND em.user_id = sender
      AND em.client_msg_id BETWEEN key AND key AND em.client_msg_id IS NOT NULL
    ORDER BY em.client_msg_id LIMIT 1
  ) THEN
    SELECT json_build_object('status', a.status, 'seq', a.seq, 'id', a.id, 'created_at_ms', a.created_at_ms) INTO judged
    FROM append_messages(ARRAY[to_room], ARRAY[1], ARRAY[sender], ARRAY[body], ARRAY[key]) AS a;
    RETURN;
  END IF;
  heads := json_build_array(head);
  first_id := nextval('message_id_blocks');
  created_at_ms := extract(epoch FROM at) * 1000;
  UPDATE rooms AS r SET last_seq = head + 1 WHERE r.bucket = its_bucket AND r.id = to_room;
  INSERT INTO messages (bucket, room_id, seq, id, user_id, username, content, client_msg_id, created_at)
  VALUES (its_bucket, to_room, head + 1, first_id, sender, name, body, key, at);
END $$;

CREATE OR REPLACE FUNCTION public.append_messages(room_ids uuid[], item_rooms integer[], user_ids uuid[], contents text[], client_msg_ids uuid[])
 RETURNS TABLE(status json, seq json, id json, created_at_ms json)
 LANGUAGE plpgsql
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
AS $$
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

CREATE OR REPLACE FUNCTION public.append_new(room_ids uuid[], room_counts integer[], member_rooms integer[], member_ids uuid[], item_members integer[], contents text[], client_msg_ids uuid[], OUT heads bigint[], OUT first_id bigint, OUT created_at_ms bigint)
 RETURNS record
 LANGUAGE plpgsql
AS $$
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

CREATE OR REPLACE FUNCTION public.append_room_event(p_room_id uuid, p_kind text, p_actor_id uuid, p_user_id uuid, p_username text, p_data jsonb DEFAULT NULL::jsonb)
 RETURNS bigint
 LANGUAGE plpgsql
AS $$
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

CREATE OR REPLACE FUNCTION public.bus_notify(lines text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $$
DECLARE
  k bytea := (SELECT key FROM bus_key);
BEGIN
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  PERFORM pg_notify('trunkline', left(encode(sha256(k || sha256(k || convert_to(lines, 'UTF8'))), 'hex'), 32) || lines);
END $$;

CREATE OR REPLACE FUNCTION public.current_epoch()
 RETURNS text
 LANGUAGE sql
 STABLE
AS $$
  SELECT left(encode(sha256(convert_to(concat_ws('/',
    (SELECT system_identifier FROM pg_control_system()),
    left(pg_walfile_name(pg_current_wal_lsn()), 8),
    (SELECT epoch FROM operator_epoch)), 'UTF8')), 'hex'), 16)
$$;

CREATE OR REPLACE FUNCTION public.join_room(p_room_id uuid, p_user_id uuid, p_username text)
 RETURNS text
 LANGUAGE sql
AS $$
  SELECT add_member(p_room_id, p_user_id, p_username, p_user_id, false)
$$;

CREATE OR REPLACE FUNCTION public.leave_room(p_room_id uuid, p_user_id uuid, p_actor_id uuid, p_kind text)
 RETURNS text
 LANGUAGE plpgsql
AS $$
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

CREATE OR REPLACE FUNCTION public.message_json(room_id uuid, seq bigint, id bigint, user_id uuid, username text, content text, client_msg_id uuid, created_at timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $$
  SELECT message_json_at(room_id, seq, id, user_id, username, content, client_msg_id, time_text(created_at))
$$;

CREATE OR REPLACE FUNCTION public.message_json_at(room_id uuid, seq bigint, id bigint, user_id uuid, username text, content text, client_msg_id uuid, created_at text)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $$
  SELECT '{"room_id":"' || room_id || '","seq":' || seq || ',"id":' || id || ',"user_id":"' || user_id
    || '","username":' || to_json(username)::text || ',"content":' || to_json(content)::text
    || CASE WHEN client_msg_id IS NULL THEN '' ELSE ',"client_msg_id":"' || client_msg_id || '"' END
    || ',"created_at":"' || created_at || '"}'
$$;

CREATE OR REPLACE FUNCTION public.messages_notify()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $$
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

CREATE OR REPLACE FUNCTION public.messages_take_seq()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_sort TO 'off'
AS $$ -- for the look-up of client_msg_id, as in append_messages
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

CREATE OR REPLACE FUNCTION public.room_bucket(room_id uuid)
 RETURNS smallint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
AS $$
  SELECT (get_byte(uuid_send(room_id), 15) & 15)::smallint
$$;

CREATE OR REPLACE FUNCTION public.room_event_json(room_id uuid, seq bigint, kind text, actor_id uuid, user_id uuid, username text, created_at timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $$
  SELECT '{"room_id":"' || room_id || '","seq":' || seq || ',"kind":"' || kind || '","actor_id":"' || actor_id || '"'
    || CASE WHEN user_id IS NULL THEN '' ELSE ',"user_id":"' || user_id || '","username":' || to_json(username)::text END
    || ',"created_at":"' || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '"}'
$$;

CREATE OR REPLACE FUNCTION public.room_event_json(room_id uuid, seq bigint, kind text, actor_id uuid, user_id uuid, username text, created_at timestamp with time zone, data jsonb)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $$
  SELECT CASE WHEN data IS NULL THEN json ELSE left(json, -1) || ',' || substr(data::text, 2) END
  FROM room_event_json(room_id, seq, kind, actor_id, user_id, username, created_at) AS json
$$;

CREATE OR REPLACE FUNCTION public.room_events_notify()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $$
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

CREATE OR REPLACE FUNCTION public.room_log_is_append_only()
 RETURNS trigger
 LANGUAGE plpgsql
AS $$
BEGIN
  RAISE EXCEPTION '% of % is refused: clients hold what was delivered, and each seq of a room stands for ever', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation', HINT = 'A change to a room is a new row of room_events with a seq of its own.';
END $$;

CREATE OR REPLACE FUNCTION public.rooms_seq_goes_up()
 RETURNS trigger
 LANGUAGE plpgsql
AS $$
BEGIN
  RAISE EXCEPTION 'last_seq of room % can''t go back from % to %', OLD.id, OLD.last_seq, NEW.last_seq USING ERRCODE = 'restrict_violation';
END $$;

CREATE OR REPLACE FUNCTION public.sweep_presence(node_ids uuid[])
 RETURNS uuid[]
 LANGUAGE plpgsql
AS $$
DECLARE
  gone uuid[];
BEGIN
  DELETE FROM presence_nodes WHERE node_id = ANY (node_ids) AND expires_at < now();
  SELECT array_agg(id) INTO gone FROM unnest(node_ids) AS id WHERE NOT EXISTS (SELECT FROM presence_nodes WHERE node_id = id);
  DELETE FROM room_presence WHERE bucket BETWEEN 0 AND 15 AND node_id = ANY (gone);
  RETURN coalesce(gone, '{}');
END $$;

CREATE OR REPLACE FUNCTION public.time_text(at timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $$
  SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

CREATE OR REPLACE FUNCTION public.write_presence(p_node_id uuid, on_rooms uuid[], on_users uuid[], on_names text[], off_rooms uuid[], off_users uuid[], payloads text[])
 RETURNS boolean
 LANGUAGE plpgsql
AS $$
BEGIN
  PERFORM 1 FROM presence_nodes WHERE node_id = p_node_id FOR KEY SHARE;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  DELETE FROM room_presence AS p USING unnest(off_rooms, off_users) AS off (room_id, user_id)
    WHERE p.bucket = room_bucket(off.room_id) AND p.room_id = off.room_id AND p.user_id = off.user_id AND p.node_id = p_node_id;
  INSERT INTO room_presence (bucket, room_id, user_id, node_id, username)
    SELECT room_bucket(o.room_id), o.room_id, o.user_id, p_node_id, o.username FROM unnest(on_rooms, on_users, on_names) AS o (room_id, user_id, username)
    ON CONFLICT DO NOTHING;
  PERFORM bus_notify(payload) FROM unnest(payloads) AS payload;
  RETURN true;
END $$;
