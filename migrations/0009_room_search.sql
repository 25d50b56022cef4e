-- Up Migration

-- Rooms are searched by any part of their name. The extension comes with PostgreSQL and may be made by the owner of the database; where it is
-- not installed or not allowed, a search walks the rooms from the newest on, and finds the same.
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') THEN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX rooms_name_search_idx ON rooms USING gin (name gin_trgm_ops) WHERE NOT private AND deleted_at IS NULL;
  END IF;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
  RAISE WARNING 'pg_trgm could not be made: rooms are searched without an index';
END $$;

-- Down Migration

DROP INDEX IF EXISTS rooms_name_search_idx;
DO $$
BEGIN
  DROP EXTENSION IF EXISTS pg_trgm;
EXCEPTION WHEN insufficient_privilege OR dependent_objects_still_exist THEN
  NULL; -- it is somebody else's too
END $$;
