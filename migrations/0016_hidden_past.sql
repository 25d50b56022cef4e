-- Up Migration

-- What a room did not show stays hidden (I7). While history is `shared`, a member who joined later may read what is above this seq: the room's last seq
-- when its history was made `shared`, when a private room was opened, or when somebody joined it while it had no members.
ALTER TABLE rooms ADD COLUMN shared_from bigint NOT NULL DEFAULT 0 CHECK (shared_from >= 0);

UPDATE rooms AS r SET shared_from = s.seq
FROM (
  SELECT e.bucket, e.room_id, max(CASE e.kind WHEN 'joined' THEN e.seq ELSE e.seq - 1 END) AS seq
  FROM room_events AS e
  WHERE e.kind = 'updated' AND (e.data ->> 'history' = 'shared' OR e.data -> 'private' = 'false')
    -- add_member makes whoever joins an empty room its owner, and nothing else appends this pair.
    OR e.kind = 'joined' AND EXISTS (
      SELECT FROM room_events AS o
      WHERE o.bucket = e.bucket AND o.room_id = e.room_id AND o.seq = e.seq + 1
        AND o.kind = 'owner_changed' AND o.actor_id = e.user_id AND o.user_id = e.user_id
    )
  GROUP BY e.bucket, e.room_id
) AS s
WHERE r.bucket = s.bucket AND r.id = s.room_id;

-- Makes a user a member. p_invited: by a member or an invitation, which is the only way into a private room. Returns 'joined', 'already' (nothing
-- changed, no seq taken), 'banned' or 'no_room'. A user who joins a room without members owns it, so that a room never stays without an owner, and reads
-- nothing that was said before: no member is left who could decide to share it.
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

-- Down Migration

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

ALTER TABLE rooms DROP COLUMN shared_from;
