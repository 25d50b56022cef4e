-- Up Migration

-- Who is online. Nothing here outlives a crash of the server (UNLOGGED): each node knows its own sockets and writes them anew. In exchange a
-- change costs no WAL, and a commit that notifies of it waits for no disk while it holds the lock that messages need too.

-- The nodes that live, each as long as it renews its lease. A node whose lease was swept never takes the same id up again, so that what
-- was known under an id stays true until the id is gone, and is void then. Of neither side: each server of buckets would have its own.
CREATE UNLOGGED TABLE presence_nodes (
  node_id    uuid PRIMARY KEY,
  expires_at timestamptz NOT NULL
) WITH (fillfactor = 50); -- changes every few seconds: room for HOT updates

-- A user who follows a room through sockets of a node. Online is who has a row with any node. On the room side, and not one row for each
-- user and node, because presence is read by room (who joins, the list of members), never by user, and so needs no join of memberships
-- with accounts. The name is a copy, like the one in room_members.
CREATE UNLOGGED TABLE room_presence (
  bucket   smallint NOT NULL,
  room_id  uuid NOT NULL,
  user_id  uuid NOT NULL,
  node_id  uuid NOT NULL,
  username text NOT NULL,
  PRIMARY KEY (bucket, room_id, user_id, node_id)
);

-- Writes what changed at a node and sends the payloads that say so, in one transaction: what was notified is in the table, and what is read
-- after LISTEN took continues with what is notified next. Returns false, and does nothing, when the node's lease is gone.
-- Two statements, because a sweep that was waited for must be seen; the lock makes a sweep wait that would miss these rows.
CREATE FUNCTION write_presence(
  p_node_id uuid, on_rooms uuid[], on_users uuid[], on_names text[], off_rooms uuid[], off_users uuid[], payloads text[]
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
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

-- Takes away nodes whose lease has expired, and their rows. Returns those of the given that are gone, by whomever; not those that live after
-- all. By a scan of the table: it happens when a node has died, and an index for it would be paid for at every change.
CREATE FUNCTION sweep_presence(node_ids uuid[]) RETURNS uuid[] LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  gone uuid[];
BEGIN
  DELETE FROM presence_nodes WHERE node_id = ANY (node_ids) AND expires_at < now();
  SELECT array_agg(id) INTO gone FROM unnest(node_ids) AS id WHERE NOT EXISTS (SELECT FROM presence_nodes WHERE node_id = id);
  DELETE FROM room_presence WHERE bucket BETWEEN 0 AND 15 AND node_id = ANY (gone);
  RETURN coalesce(gone, '{}');
END $$;

-- Down Migration

DROP FUNCTION sweep_presence(uuid[]);
DROP FUNCTION write_presence(uuid, uuid[], uuid[], text[], uuid[], uuid[], text[]);
DROP TABLE room_presence;
DROP TABLE presence_nodes;
