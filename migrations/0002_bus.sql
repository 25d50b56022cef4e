-- Up Migration

-- What makes a notification believable, and what tells one life of this database from the next.

-- Any role may NOTIFY any channel. Only who reads this key can make a payload that the nodes believe.
CREATE TABLE bus_key (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  key      bytea NOT NULL
);
REVOKE ALL ON bus_key FROM PUBLIC;
INSERT INTO bus_key (key) VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

-- Sends one payload on the bus: 32 hex digits of a keyed digest, then the lines. The digest is nested because a plain
-- sha256(key || text) can be extended by somebody who doesn't know the key.
CREATE FUNCTION bus_notify(lines text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  k bytea := (SELECT key FROM bus_key);
BEGIN
  PERFORM pg_notify('trunkline', left(encode(sha256(k || sha256(k || convert_to(lines, 'UTF8'))), 'hex'), 32) || lines);
END $$;
REVOKE ALL ON FUNCTION bus_notify(text) FROM PUBLIC;

-- The operator's part of the epoch: raise it after a restore from a backup, which neither the system identifier nor the
-- timeline need show.
CREATE TABLE operator_epoch (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  epoch    integer NOT NULL DEFAULT 1
);
INSERT INTO operator_epoch DEFAULT VALUES;

-- Changes whenever commits can have been lost: another cluster, a promotion (timeline), or the operator's word. Opaque to clients.
CREATE FUNCTION current_epoch() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT left(encode(sha256(convert_to(concat_ws('/',
    (SELECT system_identifier FROM pg_control_system()),
    left(pg_walfile_name(pg_current_wal_lsn()), 8),
    (SELECT epoch FROM operator_epoch)), 'UTF8')), 'hex'), 16)
$$;

-- Down Migration

DROP FUNCTION current_epoch();
DROP TABLE operator_epoch;
DROP FUNCTION bus_notify(text);
DROP TABLE bus_key;
