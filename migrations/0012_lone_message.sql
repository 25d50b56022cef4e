-- Up Migration

-- A message that is alone in its batch, as nearly all are on a quiet server, in statements of one row: to set up those of append_batch, for any number
-- of rooms and members, costs more than such a message itself.

-- Stores one message and returns what append_batch returns. A client_msg_id is looked for under the room's lock: what one look costs is less than a
-- subtransaction. Statements of their own as in append_new, each of which sees what was committed while the first one waited for the lock.
CREATE FUNCTION append_lone(
  to_room uuid, sender uuid, body text, key uuid, OUT heads json, OUT first_id bigint, OUT created_at_ms bigint, OUT judged json
) LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_sort = off SET jit = off AS $$
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

-- Down Migration

DROP FUNCTION append_lone(uuid, uuid, text, uuid);
