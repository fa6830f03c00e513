-- What a replica that is fed from a capture asks of its source, and when it believes the answer.

-- Not the position of a transaction that may still be rolled back: what the source hears of, it
-- gives away.
CREATE OR REPLACE FUNCTION roneo.told_position(c roneo.capture_replica)
RETURNS pg_snapshot LANGUAGE sql STABLE
RETURN CASE WHEN (c.written_by = pg_current_xact_id_if_assigned()) IS NOT TRUE THEN c.position END;
COMMENT ON FUNCTION roneo.told_position(roneo.capture_replica) IS 'The position that is committed here; NULL where it is not.';

CREATE OR REPLACE FUNCTION roneo.attend_query(c roneo.capture_replica, told pg_snapshot, told_before pg_snapshot)
RETURNS text LANGUAGE sql STABLE
RETURN format('roneo_capture.attend(%L::pg_catalog.uuid, %L, %L, %L)', c.consumer_id, roneo.dest_identity(), told, told_before);
COMMENT ON FUNCTION roneo.attend_query(roneo.capture_replica, pg_snapshot, pg_snapshot) IS
    'SQL that tells the source how far this copy has got, and what it was told before, which it must remember.';

-- The address at its end is that of this connection, and changes with it.
CREATE OR REPLACE FUNCTION roneo.readdress_query(r roneo.replica, c roneo.capture_replica)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT format('(SELECT roneo_capture.readdress(u.consumer_id, u.dest_identity, %L) FROM roneo_capture.consumer AS u '
                  'WHERE u.consumer_id = %L AND u.dest_identity = %L AND pg_catalog.left(u.destination || '' '', %s) <> %L)',
                  roneo.dest_label(r.dest_schema, r.dest_name), c.consumer_id, roneo.dest_identity(), length(n.name), n.name)
    FROM format('%I.%I of database %I ', r.dest_schema, r.dest_name, current_database()) AS n (name)
);
COMMENT ON FUNCTION roneo.readdress_query(roneo.replica, roneo.capture_replica) IS
    'SQL that tells the source how a copy is called, where it was renamed.';

-- On a standby nothing is told: it could not be written there, and is refused by the plan.
CREATE OR REPLACE FUNCTION roneo.probe_capture(r roneo.replica, c roneo.capture_replica)
RETURNS roneo.probe LANGUAGE sql STABLE
RETURN ROW(
    format('SELECT pg_catalog.jsonb_build_object(''identity'', %s, ''state'', %s, ''attended'', %s)', roneo.identity_query(),
           roneo.state_of(roneo.source_regclass(r)),
           CASE WHEN c.position IS NOT NULL AND roneo.told_position(c) IS NULL THEN '''{"fate": "known"}''::pg_catalog.jsonb'
                ELSE format('CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN %s || pg_catalog.jsonb_build_object(''renamed'', %s) END',
                       roneo.attend_query(c, roneo.told_position(c), c.confirmed), roneo.readdress_query(r, c)) END),
    CASE WHEN r.source_lockable THEN format('LOCK TABLE %s IN ACCESS SHARE MODE', roneo.source_name_of(r)) END,
    format('SELECT pg_catalog.jsonb_build_object(''relation'', (%s), ''snapshot'', pg_catalog.pg_current_snapshot()::text, '
           '''lsn'', CASE WHEN NOT pg_catalog.pg_is_in_recovery() AND pg_catalog.current_setting(''synchronous_commit'') = ''off'' THEN pg_catalog.pg_current_wal_insert_lsn() END, '
           '''capture'', roneo_capture.describe(%s), ''pending'', %s)',
           roneo.relation_query(roneo.source_regclass(r)), c.capture_id, roneo.pending_query(c, roneo.usable_batch_limit(r.dest, c)))
)::roneo.probe;
COMMENT ON FUNCTION roneo.probe_capture(roneo.replica, roneo.capture_replica) IS
    'What to ask: first the identity, and to tell the position; inside the snapshot the state of the capture and how much is pending.';

CREATE OR REPLACE FUNCTION roneo.refuse_position(r roneo.replica, problem text, advice text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dest text := format('%I.%I', r.dest_schema, r.dest_name);
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'RO025',
        MESSAGE = format('the changes of %s cannot be continued: %s', dest, problem),
        DETAIL  = 'Changes may be missing between the copy and the queue. Nothing was changed.',
        HINT    = coalesce(format(advice, dest), format('SELECT roneo.resync(%L): the next refresh compares the whole table.', dest));
END;
$$;
COMMENT ON FUNCTION roneo.refuse_position(roneo.replica, text, text) IS 'Raises RO025: what was captured does not join what is here.';

CREATE OR REPLACE FUNCTION roneo.require_capture(r roneo.replica, c roneo.capture_replica, answer jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    capture jsonb := nullif(answer #> '{inside,capture}', 'null');
    dest    text := format('%I.%I', r.dest_schema, r.dest_name);
    problem text;
BEGIN
    problem := CASE
        WHEN (answer #>> '{before,identity,in_recovery}')::boolean THEN 'the source is a standby, whose snapshots do not show which transactions are open'
        WHEN capture IS NULL THEN format('capture %s is not there any more', c.capture_id)
        WHEN (capture ->> 'relation')::oid IS DISTINCT FROM (answer #>> '{inside,relation,oid}')::oid THEN 'what is captured is another table of that name'
        ELSE capture ->> 'problem' END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO024',
            MESSAGE = format('changes of source table %s are not captured: %s', roneo.source_name_of(r), problem),
            DETAIL  = 'What changed since then is not in the queue, and so nothing was changed here.',
            HINT    = CASE WHEN (answer #>> '{before,identity,in_recovery}')::boolean THEN 'Point the source at the primary.'
                           ELSE format('SELECT roneo.resync(%L) mends the capture, and the next refresh compares the whole table.', dest) END;
    ELSIF capture ->> 'state' <> 'running' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO026',
            MESSAGE = format('the capture of source table %s is %s since %s', roneo.source_name_of(r), capture ->> 'state',
                             to_char((capture ->> 'since')::timestamptz, 'YYYY-MM-DD HH24:MI TZ')),
            DETAIL  = CASE capture ->> 'state' WHEN 'paused' THEN 'Somebody has paused it, and changes are not recorded.'
                           WHEN 'stopped' THEN 'Its queue had grown to its limit, because a copy was not refreshed.'
                           ELSE 'It waits for the end of transactions that write to the table.' END,
            HINT    = CASE capture ->> 'state' WHEN 'paused' THEN format('SELECT roneo.resume_capture(%L) when the change is done.', dest)
                           ELSE 'The next refreshes start it again, and compare the whole table.' END;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_capture(roneo.replica, roneo.capture_replica, jsonb) IS
    'Raises RO024 where changes of the source are not captured, and RO026 (deferred) while they are not yet, or not for now.';

-- What vouches for the rows between the position and now: the same consumer, the same triggers.
CREATE OR REPLACE FUNCTION roneo.require_position(r roneo.replica, c roneo.capture_replica, answer jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fate   text := answer #>> '{before,attended,fate}';
    gone   text;
    marked boolean := (answer #>> '{inside,pending,resyncs}')::bigint > 0;
BEGIN
    IF fate <> 'known' AND (c.position IS NOT NULL OR fate IN ('expired', 'stranger')) THEN
        PERFORM roneo.refuse_position(r, CASE fate
            WHEN 'expired' THEN 'the source has forgotten this copy, and emptied the queue'
            WHEN 'stranger' THEN format('the source knows %s by its number', answer #>> '{before,attended,destination}')
            WHEN 'ahead' THEN 'the source has gone back behind the position, as a restored one has'
            -- Its transactions may be newer by now, and its log longer, than the position knows.
            WHEN 'forgetful' THEN 'the source does not remember what it was told, as a restored one does not'
            ELSE 'the copy has gone back behind what it had confirmed, as a restored one has' END,
            CASE fate WHEN 'stranger' THEN 'If this is that copy, moved here: SELECT roneo.accept_source(%1$L). Else SELECT roneo.resync(%1$L): the next refresh compares the whole table.' END);
    ELSIF c.position IS NULL OR marked THEN
        RETURN;
    END IF;
    SELECT k.value ->> 'name' INTO gone
    FROM jsonb_each(c.tables) AS k
    WHERE answer #> ARRAY['inside', 'capture', 'tables', k.key] IS NULL AND NOT k.value ? 'accepted'
    LIMIT 1;
    IF FOUND THEN
        PERFORM roneo.refuse_position(r, format('%s is no longer part of the source table', gone),
            'SELECT roneo.accept_source(%1$L) keeps its rows here; SELECT roneo.resync(%1$L) removes them: the next refresh compares the whole table.');
    END IF;
    SELECT k.value ->> 'name' INTO gone
    FROM jsonb_each(c.tables) AS k
    -- More of them is well: a partition that came later has got its own for TRUNCATE.
    WHERE NOT coalesce(answer #> ARRAY['inside', 'capture', 'tables', k.key, 'triggers'] @> nullif(k.value -> 'triggers', 'null'), true)
      AND NOT k.value ? 'accepted'
    LIMIT 1;
    IF FOUND THEN
        PERFORM roneo.refuse_position(r, format('the triggers of %s on the source were disabled or made anew meanwhile', gone));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_position(roneo.replica, roneo.capture_replica, jsonb) IS
    'Raises RO025 where something between the position and now cannot have been captured.';
