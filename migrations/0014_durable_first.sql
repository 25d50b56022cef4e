-- Up Migration

-- Whatever a session of somebody else's says: what goes out on the bus has to be there after a crash, or its seq would be given to something else in
-- the same epoch. For this transaction alone.
CREATE OR REPLACE FUNCTION bus_notify(lines text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  k bytea := (SELECT key FROM bus_key);
BEGIN
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  PERFORM pg_notify('trunkline', left(encode(sha256(k || sha256(k || convert_to(lines, 'UTF8'))), 'hex'), 32) || lines);
END $$;

-- Down Migration

CREATE OR REPLACE FUNCTION bus_notify(lines text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  k bytea := (SELECT key FROM bus_key);
BEGIN
  PERFORM pg_notify('trunkline', left(encode(sha256(k || sha256(k || convert_to(lines, 'UTF8'))), 'hex'), 32) || lines);
END $$;
