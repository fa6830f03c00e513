-- How long a refresh may take, and what a source is spared: connections, long snapshots, and being
-- read while its standbys lag or its vacuum is held back.

CREATE OR REPLACE FUNCTION roneo.set_refresh_timeout(dest regclass, refresh_timeout interval)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    IF refresh_timeout < interval '0' THEN
        PERFORM roneo.bad_argument(format('a refresh of %s cannot take less than no time', dest),
            'Give an interval such as ''30 minutes''; ''0'': no limit; NULL: as the setting refresh_timeout_s says.');
    END IF;
    UPDATE roneo.replica AS r SET refresh_timeout = set_refresh_timeout.refresh_timeout
    WHERE r.dest = set_refresh_timeout.dest;
END;
$$;
COMMENT ON FUNCTION roneo.set_refresh_timeout(regclass, interval) IS
    'How long one refresh of a replica may take, or one batch of it where it has a batch_limit; then it is cancelled on both servers and rolled back, and fails with RO030. 0: as long as it likes; NULL: as the setting refresh_timeout_s says. Raises RO001 and RO007.';

CREATE OR REPLACE FUNCTION roneo.set_source_limits(
    source          text,
    max_connections integer  DEFAULT NULL,
    max_snapshot    interval DEFAULT NULL,
    max_lag         interval DEFAULT NULL,
    max_lag_bytes   bigint   DEFAULT NULL,
    max_xmin_age    bigint   DEFAULT NULL)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    limited roneo.source := roneo.require_source(source);
    wrong   text := CASE
        WHEN max_connections NOT BETWEEN 1 AND 999 THEN 'max_connections is from 1 to 999'
        WHEN max_snapshot < interval '1 second' THEN 'max_snapshot is at least a second'
        WHEN max_lag < interval '1 second' THEN 'max_lag is at least a second'
        WHEN max_lag_bytes < 1 THEN 'max_lag_bytes is at least 1'
        WHEN max_xmin_age < 1 THEN 'max_xmin_age is at least 1' END;
BEGIN
    IF wrong IS NOT NULL THEN
        PERFORM roneo.bad_argument(format('source %s cannot have such a limit: %s', quote_ident(source), wrong),
            'NULL, or leaving it out, is no limit.');
    END IF;
    UPDATE roneo.source AS s SET
        max_connections = set_source_limits.max_connections,
        max_snapshot    = set_source_limits.max_snapshot,
        max_lag         = set_source_limits.max_lag,
        max_lag_bytes   = set_source_limits.max_lag_bytes,
        max_xmin_age    = set_source_limits.max_xmin_age,
        -- The next refresh finds out anew.
        paused_since = NULL, paused_by = NULL, unread_limits = NULL
    WHERE s.source_id = limited.source_id;
END;
$$;
COMMENT ON FUNCTION roneo.set_source_limits(text, integer, interval, interval, bigint, bigint) IS
    'Sets all limits of a source; those that are left out are none. max_connections: how many connections all runners of this database may have to it at once; more refreshes are deferred (RO033). max_snapshot: how long a refresh may hold a snapshot there; then it is cancelled and fails (RO031). max_lag, max_lag_bytes: how far its standbys may lag, max_xmin_age: how many transactions its oldest snapshot may be old; beyond that refreshes are deferred (RO032). Raises RO003 and RO007.';

-- Two locks a source and connection: this class, and a number of both.
CREATE OR REPLACE FUNCTION roneo.slot_class()
RETURNS integer LANGUAGE sql IMMUTABLE
RETURN 1919905395;
COMMENT ON FUNCTION roneo.slot_class() IS
    'The first key of the advisory locks that count the connections to a source, "rons" in ASCII; the second one is source_id * 1000 + the number of the connection.';

CREATE OR REPLACE FUNCTION roneo.try_source_slot(source_id integer, max_connections integer, for_session boolean)
RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    slot integer;
BEGIN
    FOR slot IN SELECT source_id * 1000 + n FROM generate_series(1, max_connections) AS n LOOP
        IF for_session AND pg_try_advisory_lock(roneo.slot_class(), slot)
           OR NOT for_session AND pg_try_advisory_xact_lock(roneo.slot_class(), slot) THEN
            RETURN slot;
        END IF;
    END LOOP;
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION roneo.try_source_slot(integer, integer, boolean) IS
    'For the program: takes a place among the connections that a source may have, until the end of the session or of the transaction; NULL: all are taken. A session must not hold two of one source.';

CREATE OR REPLACE FUNCTION roneo.give_back_slot(slot integer)
RETURNS boolean LANGUAGE sql
RETURN pg_advisory_unlock(roneo.slot_class(), slot);
COMMENT ON FUNCTION roneo.give_back_slot(integer) IS 'For the program: gives back what try_source_slot took for the session.';

-- Rows of pg_stat_replication and another role's backend_xmin are for pg_read_all_stats. A standby
-- that says nothing reports no lag: its silence counts too. What a standby itself has not replayed yet
-- is a lag as well.
CREATE OR REPLACE FUNCTION roneo.load_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$WITH here AS MATERIALIZED (
    SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
                ELSE pg_catalog.pg_current_wal_lsn() END AS lsn,
           CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() END AS replayed
), lag AS MATERIALIZED (
    SELECT pg_catalog.pg_wal_lsn_diff(h.lsn, r.replay_lsn) AS bytes,
           greatest(extract(epoch FROM r.replay_lag)::double precision,
                    CASE WHEN r.replay_lsn < h.lsn
                         THEN extract(epoch FROM pg_catalog.clock_timestamp() - r.reply_time)::double precision END) AS seconds
    FROM here AS h CROSS JOIN pg_catalog.pg_stat_replication AS r
    WHERE r.state <> 'backup'
    UNION ALL
    SELECT pg_catalog.pg_wal_lsn_diff(h.lsn, h.replayed),
           CASE WHEN h.replayed < h.lsn
                THEN extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp())::double precision END
    FROM here AS h WHERE h.replayed IS NOT NULL
), holder AS MATERIALIZED (
    SELECT pg_catalog.age(a.backend_xmin) AS age, pg_catalog.format('process %s (%s)', a.pid, a.application_name) AS name
    FROM pg_catalog.pg_stat_activity AS a WHERE a.backend_xmin IS NOT NULL
    UNION ALL
    SELECT greatest(pg_catalog.age(s.xmin), pg_catalog.age(s.catalog_xmin)), pg_catalog.format('replication slot %s', s.slot_name)
    FROM pg_catalog.pg_replication_slots AS s WHERE s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL
    UNION ALL
    SELECT pg_catalog.age(p.transaction), pg_catalog.format('prepared transaction %L', p.gid) FROM pg_catalog.pg_prepared_xacts AS p
)
SELECT pg_catalog.jsonb_build_object(
    'reads_stats', pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'), 'user', current_user,
    'lag_bytes', (SELECT pg_catalog.max(l.bytes) FROM lag AS l),
    'lag_s', (SELECT pg_catalog.round(pg_catalog.max(l.seconds)::numeric, 1) FROM lag AS l),
    'xmin', (SELECT pg_catalog.jsonb_build_object('age', o.age, 'holder', o.name) FROM holder AS o ORDER BY o.age DESC LIMIT 1))::text$query$;
COMMENT ON FUNCTION roneo.load_query() IS
    'A query for a source: how far its standbys lag, how old its oldest snapshot is and whose, and whether the role may know.';

CREATE OR REPLACE FUNCTION roneo.load_problem(s roneo.source, answer jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN (answer ->> 'lag_bytes')::numeric > s.max_lag_bytes
        THEN format('its replication lags by %s bytes, and max_lag_bytes is %s', answer ->> 'lag_bytes', s.max_lag_bytes)
    WHEN (answer ->> 'lag_s')::numeric > extract(epoch FROM s.max_lag)
        THEN format('its replication lags by %s s, and max_lag is %s', answer ->> 'lag_s', s.max_lag)
    WHEN (answer #>> '{xmin,age}')::numeric > s.max_xmin_age
        THEN format('its oldest snapshot, of %s, is %s transactions old, and max_xmin_age is %s',
                    answer #>> '{xmin,holder}', answer #>> '{xmin,age}', s.max_xmin_age)
END;
COMMENT ON FUNCTION roneo.load_problem(roneo.source, jsonb) IS
    'Which limit of a source its load has passed, and what it was; NULL: none.';

CREATE OR REPLACE FUNCTION roneo.unread_limits(s roneo.source, reads_stats boolean, user_name text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN NOT reads_stats AND coalesce(s.max_lag::text, s.max_lag_bytes::text, s.max_xmin_age::text) IS NOT NULL THEN
    format('role %I may not read there what %s need%s', user_name,
        concat_ws(', ', CASE WHEN s.max_lag IS NOT NULL THEN 'max_lag' END, CASE WHEN s.max_lag_bytes IS NOT NULL THEN 'max_lag_bytes' END,
                  CASE WHEN s.max_xmin_age IS NOT NULL THEN 'max_xmin_age' END),
        CASE WHEN num_nonnulls(s.max_lag, s.max_lag_bytes, s.max_xmin_age) = 1 THEN 's' ELSE '' END) END;
COMMENT ON FUNCTION roneo.unread_limits(roneo.source, boolean, text) IS
    'Which limits of a source are not kept, because its role may not know; NULL: all are.';

-- Written only where something is new, and not where another session is writing it: refreshes are
-- long, and nobody waits for the other.
CREATE OR REPLACE FUNCTION roneo.judge_load(source_name text, answer jsonb)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked   roneo.source := roneo.require_source(source_name);
    problem text := roneo.load_problem(asked, answer);
    unread  text := roneo.unread_limits(asked, (answer ->> 'reads_stats')::boolean, answer ->> 'user');
BEGIN
    UPDATE roneo.source AS s SET
        paused_since  = CASE WHEN problem IS NOT NULL THEN coalesce(s.paused_since, clock_timestamp()) END,
        paused_by     = problem,
        unread_limits = unread
    WHERE (s.paused_by, s.unread_limits) IS DISTINCT FROM (problem, unread)
      AND s.source_id IN (SELECT k.source_id FROM roneo.source AS k
                          WHERE k.source_id = asked.source_id FOR NO KEY UPDATE SKIP LOCKED);
    RETURN CASE WHEN problem IS NOT NULL THEN format('source %s is paused: %s', quote_ident(source_name), problem) END;
END;
$$;
COMMENT ON FUNCTION roneo.judge_load(text, jsonb) IS
    'For the program: notes what a source answered to load_query; why refreshes from it are to be deferred, or NULL.';

CREATE OR REPLACE FUNCTION roneo.refresh_timeout_of(members regclass[])
RETURNS interval LANGUAGE sql STABLE
RETURN (
    SELECT CASE WHEN bool_and(t.timeout > interval '0') THEN max(t.timeout) END
    FROM roneo.replica AS r
    CROSS JOIN LATERAL (
        SELECT coalesce(r.refresh_timeout, make_interval(secs => roneo.setting('refresh_timeout_s')))
    ) AS t (timeout)
    WHERE r.dest = ANY (members));
COMMENT ON FUNCTION roneo.refresh_timeout_of(regclass[]) IS
    'How long a refresh of these may take, of a group the longest; NULL: as long as it likes.';

-- A server's own limits, in case whoever set them is stopped or cut off: it goes before them.
CREATE OR REPLACE FUNCTION roneo.server_limits(time_limit interval)
RETURNS TABLE (setting_name text, value text) LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT n.name, format('%sms', ceil(extract(epoch FROM time_limit + interval '10 seconds') * 1000))
    FROM unnest(ARRAY['statement_timeout', 'idle_in_transaction_session_timeout']) AS n (name)
    WHERE time_limit IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.server_limits(interval) IS
    'Settings by which a server ends by itself what took longer, ten seconds after its client should have; none without a limit.';

CREATE OR REPLACE FUNCTION roneo.pin_limits(members regclass[])
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    SELECT count(set_config(l.setting_name, l.value, true))
    FROM roneo.server_limits(roneo.refresh_timeout_of(members)) AS l;
END;
COMMENT ON FUNCTION roneo.pin_limits(regclass[]) IS 'Lets this server keep to the limit of a refresh, for this transaction.';

CREATE OR REPLACE FUNCTION roneo.batch_advice(r roneo.replica)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN r.method IN ('snapshot', 'plain')
            THEN 'Copy fewer columns or rows, or use a method that reads only what is new (roneo.create_updater, roneo.create_dml)'
            ELSE format('Let it read in batches: UPDATE roneo.%s SET batch_limit = … WHERE replica_id = %s',
                        CASE WHEN r.method IN ('dml', 'logdel') THEN 'capture_replica' ELSE 'control_replica' END, r.replica_id) END;
COMMENT ON FUNCTION roneo.batch_advice(roneo.replica) IS 'What makes a refresh shorter.';

CREATE OR REPLACE FUNCTION roneo.refresh_limits(dest regclass)
RETURNS TABLE (
    timeout_ms bigint, timeout_text text, timeout_hint text, snapshot_ms bigint, snapshot_text text, snapshot_hint text,
    max_connections integer, load_query text, source_commands text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    r       roneo.replica;
    s       roneo.source;
    timeout interval := roneo.refresh_timeout_of(roneo.with_group(ARRAY[dest]));
BEGIN
    SELECT k.* INTO r FROM roneo.replica AS k WHERE k.dest = refresh_limits.dest;
    SELECT k.* INTO s FROM roneo.source AS k WHERE k.source_id = r.source_id;
    RETURN QUERY SELECT
        (extract(epoch FROM timeout) * 1000)::bigint,
        format('the refresh of %I.%I has taken %s, as long as it may', r.dest_schema, r.dest_name, timeout),
        format('%s; or let it take longer: SELECT roneo.set_refresh_timeout(%L, …). roneo history shows which step takes the time.',
               roneo.batch_advice(r), format('%I.%I', r.dest_schema, r.dest_name)),
        (extract(epoch FROM s.max_snapshot) * 1000)::bigint,
        format('a snapshot of source %I has been open for %s, as long as it may be', s.source_name, s.max_snapshot),
        format('%s; or raise max_snapshot with roneo.set_source_limits.', roneo.batch_advice(r)),
        s.max_connections,
        CASE WHEN coalesce(s.max_lag::text, s.max_lag_bytes::text, s.max_xmin_age::text) IS NOT NULL THEN roneo.load_query() END,
        (SELECT string_agg(format('SET LOCAL %s = %L', l.setting_name, l.value), '; ')
         FROM roneo.server_limits(least(timeout, s.max_snapshot)) AS l);
END;
$$;
COMMENT ON FUNCTION roneo.refresh_limits(regclass) IS
    'For the program: the limits of a refresh, with what is to be said when they are passed, what to ask of the source first, and what to tell its server; NULL: no limit.';

-- For the SQL hand. dblink waits where nothing can interrupt it; so the source's server is told to
-- end what takes too long, and between batches and steps the clock is asked.
CREATE OR REPLACE FUNCTION roneo.require_time()
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    limits jsonb := nullif(current_setting('roneo.limits', true), '')::jsonb;
    passed text := CASE
        WHEN clock_timestamp() > (limits ->> 'snapshot_until')::timestamptz THEN 'snapshot'
        WHEN clock_timestamp() > (limits ->> 'timeout_until')::timestamptz THEN 'timeout' END;
BEGIN
    IF passed IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = CASE passed WHEN 'snapshot' THEN 'RO031' ELSE 'RO030' END,
            MESSAGE = limits ->> concat(passed, '_text'),
            HINT    = limits ->> concat(passed, '_hint');
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_time() IS 'Raises RO030 or RO031 where the refresh that the SQL hand carries out has passed a limit.';

CREATE OR REPLACE FUNCTION roneo.limit_link(link text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    limits jsonb := nullif(current_setting('roneo.limits', true), '')::jsonb;
BEGIN
    IF limits IS NOT NULL THEN
        limits := limits || jsonb_build_object(
            'snapshot_until', clock_timestamp() + make_interval(secs => (limits ->> 'snapshot_ms')::float8 / 1000));
        PERFORM set_config('roneo.limits', limits::text, true);
        PERFORM roneo.tell_link(link, format('SET LOCAL statement_timeout = %L; SET LOCAL idle_in_transaction_session_timeout = %1$L',
            format('%sms', greatest(1, ceil(extract(epoch FROM least((limits ->> 'snapshot_until')::timestamptz,
                (limits ->> 'timeout_until')::timestamptz) - clock_timestamp()) * 1000)))));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.limit_link(text) IS 'Lets a source keep to the limits of a refresh by the SQL hand; to be called in the transaction that it is read in.';

CREATE OR REPLACE FUNCTION roneo.release_link(link text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.tell_link(link, 'ROLLBACK');
    PERFORM set_config('roneo.limits', (l.line::jsonb - 'snapshot_until')::text, true)
    FROM (SELECT nullif(current_setting('roneo.limits', true), '')) AS l (line) WHERE l.line IS NOT NULL;
END;
$$;
COMMENT ON FUNCTION roneo.release_link(text) IS 'Ends the transaction in which a source was read, and so its snapshot.';

CREATE OR REPLACE FUNCTION roneo.name_limit(
    dest regclass, began timestamptz, sqlstate_code text, message text, detail text, hint text)
RETURNS TABLE (code text, problem text, reason text, advice text) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    limits record;
    passed interval := clock_timestamp() - began;
BEGIN
    SELECT l.* INTO limits FROM roneo.refresh_limits(dest) AS l;
    IF sqlstate_code = '57014' AND passed >= make_interval(secs => limits.timeout_ms / 1000.0) THEN
        RETURN QUERY SELECT 'RO030', limits.timeout_text, message, limits.timeout_hint;
    ELSIF sqlstate_code = '57014' AND passed >= make_interval(secs => limits.snapshot_ms / 1000.0) THEN
        RETURN QUERY SELECT 'RO031', limits.snapshot_text, message, limits.snapshot_hint;
    ELSE
        RETURN QUERY SELECT sqlstate_code, message, detail, hint;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.name_limit(regclass, timestamptz, text, text, text, text) IS
    'What to record of an error of the SQL hand: where a source''s server ended what took too long, the limit that was passed.';

CREATE OR REPLACE FUNCTION roneo.open_guarded_link(dest regclass, source_name text)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s       roneo.source := roneo.require_source(source_name);
    limits  record;
    link    text;
    problem text;
BEGIN
    SELECT l.* INTO limits FROM roneo.refresh_limits(dest) AS l;
    PERFORM set_config('roneo.limits', CASE WHEN limits.timeout_ms > 0 OR limits.snapshot_ms > 0 THEN (to_jsonb(limits)
        || jsonb_build_object('timeout_until', clock_timestamp() + make_interval(secs => limits.timeout_ms / 1000.0)))::text
        ELSE '' END, true);
    FOR attempt IN 1 .. roneo.setting('lock_attempts') LOOP
        EXIT WHEN limits.max_connections IS NULL
               OR roneo.try_source_slot(s.source_id, limits.max_connections, false) IS NOT NULL;
        IF attempt = roneo.setting('lock_attempts') THEN
            RAISE EXCEPTION USING
                ERRCODE = 'RO033',
                MESSAGE = format('source %I has %s connection(s) from here, as many as it may have', source_name, limits.max_connections),
                HINT    = 'Nothing to do: the next refresh tries again. Or raise max_connections with roneo.set_source_limits.';
        END IF;
        PERFORM pg_sleep(roneo.setting('lock_timeout_ms') / 1000.0);
    END LOOP;
    link := roneo.open_link(source_name);
    IF limits.load_query IS NOT NULL THEN
        problem := roneo.judge_load(source_name, roneo.ask_link(link, limits.load_query)::jsonb);
        IF problem IS NOT NULL THEN
            RAISE EXCEPTION USING
                ERRCODE = 'RO032',
                MESSAGE = problem,
                HINT    = 'Nothing to do: it is refreshed when that is over. roneo.set_source_limits sets the limit.';
        END IF;
    END IF;
    RETURN link;
END;
$$;
COMMENT ON FUNCTION roneo.open_guarded_link(regclass, text) IS
    'Connects to the source of a refresh over dblink, within the limits of both; raises RO032 and RO033 where these are reached.';

-- Of a refresh that was put off nothing else is left.
CREATE OR REPLACE FUNCTION roneo.note_pause(wanted integer, sqlstate_code text, message text)
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    UPDATE roneo.source AS s SET
        paused_since = coalesce(s.paused_since, clock_timestamp()),
        paused_by    = regexp_replace(note_pause.message, '^source .* is paused: ', '')
    WHERE sqlstate_code = 'RO032' AND s.paused_since IS NULL
      AND s.source_id IN (SELECT k.source_id FROM roneo.source AS k WHERE k.source_id = wanted FOR NO KEY UPDATE SKIP LOCKED);
END;
COMMENT ON FUNCTION roneo.note_pause(integer, text, text) IS
    'Notes that a source is paused, after a refresh was deferred for that reason.';

-- A source that is paused for a day, asked once a minute, is told in one row a replica.
CREATE OR REPLACE FUNCTION roneo.same_pause(id integer, sqlstate_code text)
RETURNS bigint LANGUAGE sql STABLE
RETURN (
    SELECT CASE WHEN u.sqlstate = 'RO032' THEN u.run_id END
    FROM (SELECT v.* FROM roneo.run AS v WHERE v.replica_id = id AND v.kind <> 'verify' ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1) AS u
    WHERE sqlstate_code = 'RO032');
COMMENT ON FUNCTION roneo.same_pause(integer, text) IS
    'The run that already tells that a replica''s source is paused; NULL: its last run tells something else.';

CREATE OR REPLACE VIEW roneo.sources AS
SELECT s.source_name,
       s.server_name,
       (SELECT count(*) FROM roneo.replica AS r WHERE r.source_id = s.source_id) AS replicas,
       (SELECT count(DISTINCT l.objid) FROM pg_catalog.pg_locks AS l
        JOIN pg_catalog.pg_database AS b ON b.oid = l.database AND b.datname = current_database()
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
          AND l.classid::bigint = roneo.slot_class() AND l.objid::bigint / 1000 = s.source_id) AS connections,
       s.max_connections,
       s.max_snapshot,
       s.max_lag,
       s.max_lag_bytes,
       s.max_xmin_age,
       CASE WHEN s.paused_since IS NULL THEN 'ok' ELSE 'paused' END AS state,
       s.paused_since,
       s.paused_by,
       s.unread_limits
FROM roneo.source AS s;
COMMENT ON VIEW roneo.sources IS 'One line a source: its limits, and whether it is left alone because of one of them.';
COMMENT ON COLUMN roneo.sources.connections IS 'How many connections runners of this database have to it; counted only where there is a max_connections.';
COMMENT ON COLUMN roneo.sources.paused_by IS 'Which limit was passed, and what it was when a refresh last asked.';
COMMENT ON COLUMN roneo.sources.unread_limits IS 'Why limits are not kept: the role of the connection may not know.';
