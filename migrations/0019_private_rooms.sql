-- Up Migration

-- Takes a room from everybody: its members, bans and invitations are gone. Its log stays, for it is append-only. The last
-- event, and the lock, are the caller's.
CREATE FUNCTION public.forget_room(p_room_id uuid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, public, pg_temp
AS $$
BEGIN
  DELETE FROM public.room_members WHERE bucket = public.room_bucket(p_room_id) AND room_id = p_room_id;
  DELETE FROM public.room_bans WHERE bucket = public.room_bucket(p_room_id) AND room_id = p_room_id;
  DELETE FROM public.room_invites WHERE bucket = public.room_bucket(p_room_id) AND room_id = p_room_id;
  UPDATE public.rooms SET deleted_at = now() WHERE bucket = public.room_bucket(p_room_id) AND id = p_room_id;
END $$;

-- Makes a user a member. p_invited: by a member or an invitation, which is the only way into a private room. Returns
-- 'joined', 'already' (nothing changed, no seq taken), 'banned' or 'no_room'. A user who joins a room without members owns
-- it, so that a room never stays without an owner, and reads nothing that was said before: no member is left who could
-- decide to share it.
CREATE OR REPLACE FUNCTION public.add_member(p_room_id uuid, p_user_id uuid, p_username text, p_actor_id uuid, p_invited boolean)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, public, pg_temp
AS $$
DECLARE
  is_private boolean;
  is_first boolean;
  join_seq bigint;
BEGIN
  -- Without the lock: strangers who know or guess the id of a private room can't hold it up, nor tell by the time that it exists.
  SELECT private INTO is_private FROM public.rooms WHERE bucket = public.room_bucket(p_room_id) AND id = p_room_id AND deleted_at IS NULL;
  IF NOT FOUND OR is_private AND NOT p_invited AND NOT EXISTS (
    SELECT FROM public.room_members WHERE bucket = public.room_bucket(p_room_id) AND room_id = p_room_id AND user_id = p_user_id
  ) THEN
    RETURN 'no_room';
  END IF;
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
  join_seq := public.append_room_event(p_room_id, 'joined'::text, p_actor_id, p_user_id, p_username, NULL::jsonb);
  INSERT INTO public.room_members (bucket, room_id, user_id, username, role, joined_seq)
  VALUES (public.room_bucket(p_room_id), p_room_id, p_user_id, p_username, CASE WHEN is_first THEN 'owner' ELSE 'member' END, join_seq);
  IF is_first THEN
    UPDATE public.rooms SET shared_from = join_seq WHERE bucket = public.room_bucket(p_room_id) AND id = p_room_id;
    PERFORM public.append_room_event(p_room_id, 'owner_changed'::text, p_actor_id, p_user_id, p_username, NULL::jsonb);
  END IF;
  RETURN 'joined';
END $$;

-- Ends a membership: p_kind is 'left' (by the user) or 'kicked' (by another). Returns 'left', 'already' or 'no_room', which
-- a private room is to a user who is no member. When the owner goes, the room passes to the admin who has been there
-- longest, else to such a member, one seq before the end. A private room that its last member leaves is deleted: no user
-- could find it any more, and it would keep its name.
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
  -- Without the lock, as in add_member.
  SELECT private INTO is_private FROM public.rooms WHERE bucket = public.room_bucket(p_room_id) AND id = p_room_id AND deleted_at IS NULL;
  IF NOT FOUND THEN
    RETURN 'no_room';
  END IF;
  PERFORM 1 FROM public.room_members WHERE bucket = public.room_bucket(p_room_id) AND room_id = p_room_id AND user_id = p_user_id;
  IF NOT FOUND THEN
    RETURN CASE WHEN is_private THEN 'no_room' ELSE 'already' END;
  END IF;
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
  IF is_private AND NOT EXISTS (SELECT FROM public.room_members WHERE bucket = public.room_bucket(p_room_id) AND room_id = p_room_id) THEN
    PERFORM public.append_room_event(p_room_id, 'deleted'::text, p_actor_id, NULL::uuid, NULL::text, NULL::jsonb);
    PERFORM public.forget_room(p_room_id);
  END IF;
  RETURN 'left';
END $$;

UPDATE rooms SET deleted_at = now()
WHERE private AND deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM room_members AS m WHERE m.bucket = rooms.bucket AND m.room_id = rooms.id)
  AND NOT EXISTS (SELECT FROM room_invites AS i WHERE i.bucket = rooms.bucket AND i.room_id = rooms.id AND i.expires_at > now());

-- Down Migration

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

CREATE OR REPLACE FUNCTION public.add_member(p_room_id uuid, p_user_id uuid, p_username text, p_actor_id uuid, p_invited boolean)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO pg_catalog, public, pg_temp
AS $$
DECLARE
  is_private boolean;
  is_first boolean;
  join_seq bigint;
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
  join_seq := public.append_room_event(p_room_id, 'joined'::text, p_actor_id, p_user_id, p_username, NULL::jsonb);
  INSERT INTO public.room_members (bucket, room_id, user_id, username, role, joined_seq)
  VALUES (public.room_bucket(p_room_id), p_room_id, p_user_id, p_username, CASE WHEN is_first THEN 'owner' ELSE 'member' END, join_seq);
  IF is_first THEN
    UPDATE public.rooms SET shared_from = join_seq WHERE bucket = public.room_bucket(p_room_id) AND id = p_room_id;
    PERFORM public.append_room_event(p_room_id, 'owner_changed'::text, p_actor_id, p_user_id, p_username, NULL::jsonb);
  END IF;
  RETURN 'joined';
END $$;

DROP FUNCTION public.forget_room(uuid);
