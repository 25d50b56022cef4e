-- Up Migration

-- Keys of names as docs/design.md says in "Names". They stand beside the former ones, which nodes of the
-- version before look for. The nodes make them, for no locale may decide: after the migrations, all rows
-- are gone through once (src/database/name-keys.ts). A key that an older row has already stays null.

ALTER TABLE users
  ADD COLUMN username_fold text, -- nameKey
  ADD COLUMN username_look text, -- nameLook
  ADD COLUMN email_fold    text, -- emailKey
  ADD COLUMN keys_made     boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX users_username_fold_idx ON users (username_fold);
CREATE UNIQUE INDEX users_username_look_idx ON users (username_look);
CREATE UNIQUE INDEX users_email_fold_idx ON users (email_fold);
CREATE INDEX users_without_keys_idx ON users (keys_made, id)
  WHERE username_fold IS NULL OR username_look IS NULL OR email_fold IS NULL;

ALTER TABLE room_names
  ADD COLUMN name_look text, -- roomKey
  ADD COLUMN keys_made boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX room_names_name_look_idx ON room_names (name_look);
CREATE INDEX room_names_without_keys_idx ON room_names (keys_made, room_id, name_key) WHERE name_look IS NULL;

-- Down Migration

DROP INDEX room_names_without_keys_idx, room_names_name_look_idx;
ALTER TABLE room_names DROP COLUMN name_look, DROP COLUMN keys_made;
DROP INDEX users_without_keys_idx, users_email_fold_idx, users_username_look_idx, users_username_fold_idx;
ALTER TABLE users DROP COLUMN username_fold, DROP COLUMN username_look, DROP COLUMN email_fold, DROP COLUMN keys_made;
