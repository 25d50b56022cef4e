/**
 * The tables of both peers: what a chat on PostgreSQL has at least, without foreign keys and further indexes, which would only cost them. The columns
 * of a message are Trunkline's, in its order.
 */
export const tables = `
  CREATE TABLE rooms (id uuid PRIMARY KEY, last_seq bigint NOT NULL DEFAULT 0) WITH (fillfactor = 70);
  CREATE TABLE room_members (
    room_id  uuid NOT NULL,
    user_id  uuid NOT NULL,
    username text NOT NULL,
    PRIMARY KEY (room_id, user_id)
  );
  CREATE TABLE messages (
    room_id    uuid NOT NULL,
    seq        bigint NOT NULL,
    id         bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    user_id    uuid NOT NULL,
    username   text NOT NULL,
    content    text NOT NULL CHECK (char_length(content) BETWEEN 1 AND 65536),
    created_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (room_id, seq)
  );`;

/** @see https://socket.io/docs/v4/postgres-adapter/ for the table; messages that fit into a NOTIFY never touch it. */
export const attachments = `
  CREATE TABLE socket_io_attachments (id bigserial UNIQUE, created_at timestamptz DEFAULT now(), payload bytea);`;

/** The usual design: whatever inserts a message, by whatever way, gets the next seq of the room and tells every node. */
export const triggers = `
  CREATE FUNCTION number_message() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    SELECT username INTO NEW.username FROM room_members WHERE room_id = NEW.room_id AND user_id = NEW.user_id;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'not a member' USING ERRCODE = 'insufficient_privilege';
    END IF;
    UPDATE rooms SET last_seq = last_seq + 1 WHERE id = NEW.room_id RETURNING last_seq INTO NEW.seq;
    RETURN NEW;
  END $$;
  CREATE TRIGGER number_message BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION number_message();

  CREATE FUNCTION announce_message() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM pg_notify('messages', row_to_json(NEW)::text);
    RETURN NULL;
  END $$;
  CREATE TRIGGER announce_message AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION announce_message();`;
