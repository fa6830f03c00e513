-- Many replicas at once: which of them have nothing to do is asked without locks, and noted in one
-- statement here. First of the counters: one query for all replicas of a source, microseconds each.
-- Where these cannot tell, of the rows: a condition for each, a hundred in one query. Those that
-- moved are refreshed each by itself, under its own lock. A position that is not moved is never
-- wrong, only older.

-- What was refreshed by one run would for ever be asked by one run. The golden ratio puts numbers
-- that follow each other evenly between 0 and 1. Both can be inlined, for thousands of replicas.
CREATE OR REPLACE FUNCTION roneo.own_share(id integer)
RETURNS float8 LANGUAGE sql IMMUTABLE
RETURN id * 0.618033988749895::float8 - floor(id * 0.618033988749895::float8);
COMMENT ON FUNCTION roneo.own_share(integer) IS 'A number from 0 to 1 that is a replica''s own.';

CREATE OR REPLACE FUNCTION roneo.own_moment(id integer, after timestamptz, period interval)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN to_timestamp((floor(extract(epoch FROM after)::float8 / extract(epoch FROM period)::float8 - roneo.own_share(id))
                     + 1 + roneo.own_share(id)) * extract(epoch FROM period)::float8);
COMMENT ON FUNCTION roneo.own_moment(integer, timestamptz, interval) IS
    'The first of a replica''s own moments after another one: they lie one period apart, and differently for each replica.';

-- A transaction's number tells its age for the next two billion; and while nothing is refreshed,
-- the first refresh's unknown transactions stay unknown.
CREATE OR REPLACE FUNCTION roneo.position_until(r roneo.replica)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN (r.identity ->> 'clock')::timestamptz + interval '12 hours' * (1 + roneo.own_share(r.replica_id));
COMMENT ON FUNCTION roneo.position_until(roneo.replica) IS
    'When a refresh is to move the position although nothing is new.';

CREATE OR REPLACE FUNCTION roneo.still_leaves(r roneo.replica, leaves jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN leaves ? (r.identity ->> 'table') AND (SELECT count(*) FROM jsonb_object_keys(leaves)) = 1 THEN format(
        'pg_catalog.pg_relation_filenode(%1$s) = %2$s::pg_catalog.oid AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = %1$s)',
        format('%s::pg_catalog.oid', r.identity ->> 'table'), leaves ->> (r.identity ->> 'table'))
    ELSE format('(%s) = %L::pg_catalog.jsonb', roneo.control_leaves(r), jsonb_strip_nulls(leaves)) END;
COMMENT ON FUNCTION roneo.still_leaves(roneo.replica, jsonb) IS
    'An SQL expression that is true where the tables that rows come from are in the files that they were in.';

CREATE OR REPLACE FUNCTION roneo.still_rows(relation text, condition text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN condition IS NOT NULL THEN 'NOT EXISTS (SELECT FROM %s WHERE %s)' END, relation, condition);
COMMENT ON FUNCTION roneo.still_rows(text, text) IS 'An SQL expression that is true where no such row is there; NULL without a condition.';

-- While rows below the window may have been given out, only a refresh can tell: after it they would
-- not be looked for any more.
CREATE OR REPLACE FUNCTION roneo.still_clock(c roneo.control_replica, relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE roneo.control_class(c.control_type)
    WHEN 'time' THEN format('pg_catalog.clock_timestamp() >= %L::pg_catalog.timestamptz', c.clock)
    WHEN 'serial' THEN format('coalesce((SELECT pg_catalog.max(%I) FROM %s) >= %s::pg_catalog.numeric, true)', c.control, relation, quote_literal(c.clock))
END;
COMMENT ON FUNCTION roneo.still_clock(roneo.control_replica, text) IS
    'An SQL expression that is true where the source''s clock, or its highest value, has not gone back.';

-- As for a replica with a key: held rows are no reason to look closer, for one without.
CREATE OR REPLACE FUNCTION roneo.still_control(r roneo.replica, c roneo.control_replica)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat_ws(' AND ',
        format('%s = %s::pg_catalog.oid', roneo.source_regclass(r), r.identity ->> 'table'),
        roneo.still_clock(c, s.relation),
        roneo.still_leaves(r, c.leaves),
        roneo.still_rows(s.relation, roneo.new_condition(c, NULL, s.m, s.m)),
        roneo.still_rows(s.relation, roneo.late_condition(c, false, s.m, s.m)),
        roneo.still_rows(s.relation, CASE c.null_control WHEN 'read' THEN roneo.null_condition(c, s.m, s.m)
                                                         WHEN 'refuse' THEN format('%I IS NULL', c.control) END))
    FROM (SELECT roneo.source_name_of(r) AS relation, roneo.age_of_snapshot('xmax') AS m) AS s
    WHERE NOT c.repulling
      AND r.identity IS NOT NULL
      AND c.horizon IS NOT NULL AND roneo.follows_xmin(c)
      AND NOT roneo.values_repeat(c, jsonb_build_object('before', jsonb_build_object('clock', clock_timestamp())))
      AND coalesce(c.swept_at + c.sweep_every > clock_timestamp(), true)
      AND coalesce(roneo.position_until(r) > clock_timestamp(), true)
);
COMMENT ON FUNCTION roneo.still_control(roneo.replica, roneo.control_replica) IS
    'An SQL expression that is true where a refresh would find nothing to read; NULL where only a refresh can tell.';

-- What a refresh saw and left behind is counted already, and needs no change to be read later:
-- rows behind a boundary, and rows that a replica without a key holds back. Of those without a value
-- held_by does not tell, nor of those below the window until that is open again.
CREATE OR REPLACE FUNCTION roneo.has_read_all(c roneo.control_replica)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN NOT c.repulling
    AND CASE roneo.control_class(c.control_type) WHEN 'time' THEN c.boundary::interval = interval '0'
                                                 WHEN 'serial' THEN c.boundary::numeric = 0 ELSE true END
    AND (c.key_columns IS NOT NULL
         OR c.held_by IS NULL AND c.null_control <> 'read' AND (c.look_back IS NULL OR c.window_start IS NOT NULL));
COMMENT ON FUNCTION roneo.has_read_all(roneo.control_replica) IS
    'Whether the last refresh read all rows that it saw, so that only a change can bring others.';

CREATE OR REPLACE FUNCTION roneo.watched_control(r roneo.replica, c roneo.control_replica, exact_every interval)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN CASE WHEN c.horizon IS NOT NULL AND roneo.follows_xmin(c)
                 AND roneo.has_read_all(c) AND roneo.is_steady(r.filter)
                 -- Not clock_timestamp(): the call could not be inlined, and would cost ten times as much.
                 AND NOT coalesce(roneo.hour_repeats(c, statement_timestamp()), false)
            THEN least(roneo.own_moment(r.replica_id, r.looked_at, exact_every), c.swept_at + c.sweep_every, roneo.position_until(r)) END;
COMMENT ON FUNCTION roneo.watched_control(roneo.replica, roneo.control_replica, interval) IS
    'Until when the counters alone may say that there is nothing to do; NULL: never.';

-- A change that a capture records is one of its table, and that is counted. What else is in a queue,
-- a mark of somebody, waits for the exact look.
CREATE OR REPLACE FUNCTION roneo.watched_capture(r roneo.replica, c roneo.capture_replica, exact_every interval)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN CASE WHEN c.position IS NOT NULL THEN roneo.own_moment(r.replica_id, r.looked_at, exact_every) END;
COMMENT ON FUNCTION roneo.watched_capture(roneo.replica, roneo.capture_replica, interval) IS
    'Until when the counters alone may say that there is nothing to do; NULL: never.';

-- A hook that a method need not have: still_METHOD, watched_METHOD.
CREATE OR REPLACE FUNCTION roneo.methods_with(hook text, ids integer[])
RETURNS SETOF text LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT DISTINCT r.method
    FROM roneo.replica AS r
    WHERE r.replica_id = ANY (ids)
      AND EXISTS (SELECT FROM pg_proc AS f WHERE f.pronamespace = 'roneo'::regnamespace
                                             AND f.proname = concat(hook, '_', r.method))
    ORDER BY r.method;
END;
COMMENT ON FUNCTION roneo.methods_with(text, integer[]) IS
    'The methods of some replicas that have a function of that name.';

CREATE OR REPLACE FUNCTION roneo.still_conditions(ids integer[])
RETURNS TABLE (replica_id integer, condition text) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_method text;
BEGIN
    FOR found_method IN SELECT f.m FROM roneo.methods_with('still', ids) AS f (m) LOOP
        RETURN QUERY EXECUTE format(
            'SELECT r.replica_id, roneo.%I(r, m)
             FROM roneo.replica AS r
             JOIN roneo.%I AS m ON m.replica_id = r.replica_id
             WHERE r.replica_id = ANY ($1)',
            concat('still_', found_method), concat(found_method, '_replica'))
        USING ids;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.still_conditions(integer[]) IS
    'For replicas whose method can tell by one condition whether there is nothing to do: that condition.';

CREATE OR REPLACE FUNCTION roneo.watched_until(ids integer[], exact_every interval)
RETURNS TABLE (replica_id integer, until timestamptz) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_method text;
BEGIN
    FOR found_method IN SELECT f.m FROM roneo.methods_with('watched', ids) AS f (m) LOOP
        RETURN QUERY EXECUTE format(
            'SELECT r.replica_id, roneo.%I(r, m, $2)
             FROM roneo.replica AS r
             JOIN roneo.%I AS m ON m.replica_id = r.replica_id
             WHERE r.replica_id = ANY ($1)',
            concat('watched_', found_method), concat(found_method, '_replica'))
        USING ids, exact_every;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.watched_until(integer[], interval) IS
    'For replicas whose method can be told by counters that there is nothing to do: until when they are believed; NULL: they are not.';

-- Whoever waits for a lock here keeps a hundred others waiting.
CREATE OR REPLACE FUNCTION roneo.idle_opening()
RETURNS text LANGUAGE sql STABLE
RETURN concat(roneo.source_opening(), '; SET LOCAL lock_timeout = ''1s''');
COMMENT ON FUNCTION roneo.idle_opening() IS
    'Statements that open the transaction in which a source is asked about many replicas.';

-- A state that is another one is for a refresh, which keeps it. One that is the same but not to be
-- believed, for the rows.
CREATE OR REPLACE FUNCTION roneo.watch_query(ids integer[], tables oid[], states uuid[], believed boolean[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$WITH roneo_asked AS MATERIALIZED (
    SELECT a.* FROM ROWS FROM (pg_catalog.unnest(%L::integer[]), pg_catalog.unnest(%L::pg_catalog.oid[]),
                               pg_catalog.unnest(%L::pg_catalog.uuid[]), pg_catalog.unnest(%L::boolean[])) AS a (id, oid, state, believed)
)
SELECT pg_catalog.jsonb_build_object('identity', %s,
    'same', coalesce(pg_catalog.jsonb_agg(a.id) FILTER (WHERE n.state = a.state AND a.believed AND NOT n.is_written), '[]'),
    'changed', coalesce(pg_catalog.jsonb_agg(a.id) FILTER (WHERE n.state <> a.state), '[]'))
FROM roneo_asked AS a
JOIN (%s) AS n ON n.id = a.id$query$, ids, tables, states, believed,
    roneo.identity_query(), roneo.state_query('SELECT w.id, w.oid FROM roneo_asked AS w'));
COMMENT ON FUNCTION roneo.watch_query(integer[], oid[], uuid[], boolean[]) IS
    'The query on a source that compares the states of its tables with those of the last refreshes.';

-- After a failure or a deferral only a refresh can say that all is well again.
CREATE OR REPLACE FUNCTION roneo.watches(
    source_names text[] DEFAULT NULL, methods text[] DEFAULT NULL, refresh_groups text[] DEFAULT NULL,
    jitter interval DEFAULT NULL)
RETURNS TABLE (
    source_name text, asked_at timestamptz, replica_ids integer[], generations bigint[], opening text, query text)
LANGUAGE sql
BEGIN ATOMIC
    WITH belief AS MATERIALIZED (
        SELECT make_interval(secs => roneo.setting('exact_check_s')) AS exact_every
    ), due AS MATERIALIZED (
        SELECT d.replica_id, d.source_name
        FROM belief AS b
        CROSS JOIN LATERAL roneo.due_replicas(source_names, methods, refresh_groups, jitter) AS d
        WHERE b.exact_every > interval '0'
    ), asked AS (
        SELECT d.source_name, r.replica_id, r.generation, (r.identity ->> 'table')::oid AS source_table,
               r.source_state, w.until > statement_timestamp() AS believed
        FROM due AS d
        JOIN roneo.replica AS r ON r.replica_id = d.replica_id
        JOIN pg_class AS c ON c.oid = r.dest
        JOIN roneo.watched_until(ARRAY(SELECT replica_id FROM due), (SELECT exact_every FROM belief)) AS w
            ON w.replica_id = r.replica_id
        -- One of a group says nothing of the others.
        WHERE r.refresh_group IS NULL AND r.source_state IS NOT NULL AND w.until IS NOT NULL AND r.last_outcome IN ('ok', 'unchanged')
    )
    SELECT a.source_name, clock_timestamp(), array_agg(a.replica_id), array_agg(a.generation), roneo.idle_opening(),
           roneo.watch_query(array_agg(a.replica_id), array_agg(a.source_table), array_agg(a.source_state), array_agg(a.believed))
    FROM asked AS a
    GROUP BY a.source_name
    ORDER BY a.source_name;
END;
COMMENT ON FUNCTION roneo.watches(text[], text[], text[], interval) IS
    'For the runner: a query for each source that tells by its counters which of the replicas that are due have nothing to do. It answers with one JSON document, to be handed to mark_watched.';

-- A clock that went back is for a refresh to see: values that the window has passed come again. The
-- identity is in the state; what another session is writing is that one's to tell of.
CREATE OR REPLACE FUNCTION roneo.mark_watched(
    replica_ids integer[], generations bigint[], asked_at timestamptz, answer jsonb)
RETURNS TABLE (dest text, is_idle boolean) LANGUAGE sql
BEGIN ATOMIC
    WITH same AS (
        SELECT r.replica_id
        FROM jsonb_array_elements_text(answer -> 'same') AS s (id)
        JOIN unnest(replica_ids, generations) AS i (replica_id, generation) ON i.replica_id = s.id::integer
        JOIN roneo.replica AS r ON r.replica_id = i.replica_id AND r.generation = i.generation
        WHERE (answer #>> '{identity,clock}')::timestamptz >= (r.identity ->> 'clock')::timestamptz
        FOR NO KEY UPDATE OF r SKIP LOCKED
    ), marked AS (
        UPDATE roneo.replica AS r SET
            generation      = r.generation + 1,
            last_attempt_at = mark_watched.asked_at,
            last_success_at = mark_watched.asked_at,
            last_outcome    = 'unchanged',
            last_message    = NULL,
            failures        = 0,
            lasting_failures = 0
        FROM same AS s
        WHERE r.replica_id = s.replica_id
        RETURNING format('%I.%I', r.dest_schema, r.dest_name) AS dest
    )
    SELECT m.dest, true FROM marked AS m
    UNION ALL
    SELECT format('%I.%I', r.dest_schema, r.dest_name), false
    FROM jsonb_array_elements_text(answer -> 'changed') AS s (id)
    JOIN roneo.replica AS r ON r.replica_id = s.id::integer;
END;
COMMENT ON FUNCTION roneo.mark_watched(integer[], bigint[], timestamptz, jsonb) IS
    'For the runner: notes that replicas have nothing to do, by the counters of their source, and returns them, and those that have changed there, for which a refresh is the next thing. Of all others their rows are to be asked.';

CREATE OR REPLACE FUNCTION roneo.idle_checks(
    source_names text[] DEFAULT NULL, methods text[] DEFAULT NULL, batch integer DEFAULT 100,
    settled text[] DEFAULT '{}', refresh_groups text[] DEFAULT NULL, jitter interval DEFAULT NULL)
RETURNS TABLE (
    source_name text, asked_at timestamptz, replica_ids integer[], generations bigint[],
    opening text, identity_query text, query text)
LANGUAGE sql
BEGIN ATOMIC
    WITH due AS (
        SELECT r.replica_id, r.generation, d.source_name
        FROM roneo.due_replicas(source_names, methods, refresh_groups, jitter) AS d
        JOIN roneo.replica AS r ON r.replica_id = d.replica_id
        WHERE r.refresh_group IS NULL AND NOT EXISTS (SELECT FROM unnest(settled) AS n WHERE n = d.dest)
    ), asked AS (
        SELECT u.*, s.condition,
               (row_number() OVER (PARTITION BY u.source_name ORDER BY u.replica_id) - 1) / batch AS part
        FROM due AS u
        JOIN roneo.still_conditions(ARRAY(SELECT replica_id FROM due)) AS s ON s.replica_id = u.replica_id
        WHERE s.condition IS NOT NULL
    )
    SELECT a.source_name, clock_timestamp(), array_agg(a.replica_id ORDER BY a.replica_id), array_agg(a.generation ORDER BY a.replica_id),
           roneo.idle_opening(), format('SELECT %s', roneo.identity_query()),
           format('SELECT pg_catalog.jsonb_agg(w.id) FROM (%s) AS w WHERE w.still',
                  string_agg(format('SELECT %s AS id, (%s) AS still', a.replica_id, a.condition), E'\nUNION ALL ' ORDER BY a.replica_id))
    FROM asked AS a
    GROUP BY a.source_name, a.part
    ORDER BY a.source_name, a.part;
END;
COMMENT ON FUNCTION roneo.idle_checks(text[], text[], integer, text[], text[], interval) IS
    'For the runner: queries that tell which of the replicas that are due have nothing to do, up to batch of them in one query, those aside that are settled. It answers with one JSON document, to be handed to mark_idle with that of identity_query.';

CREATE OR REPLACE FUNCTION roneo.mark_idle(
    replica_ids integer[], generations bigint[], asked_at timestamptz, identity jsonb, still jsonb)
RETURNS SETOF text LANGUAGE sql
BEGIN ATOMIC
    UPDATE roneo.replica AS r SET
        generation      = r.generation + 1,
        last_attempt_at = mark_idle.asked_at,
        last_success_at = mark_idle.asked_at,
        last_outcome    = 'unchanged',
        last_message    = NULL,
        failures        = 0,
        lasting_failures = 0,
        looked_at       = mark_idle.asked_at
    FROM unnest(replica_ids, generations) AS i (replica_id, generation)
    WHERE r.replica_id = i.replica_id
      -- One that was refreshed meanwhile has its own outcome.
      AND r.generation = i.generation
      AND mark_idle.still @> to_jsonb(i.replica_id)
      AND roneo.identity_warning(r, jsonb_build_object(
              'before', jsonb_build_object('identity', mark_idle.identity),
              'inside', jsonb_build_object('relation', jsonb_build_object('oid', r.identity -> 'table')))) IS NULL
    RETURNING format('%I.%I', r.dest_schema, r.dest_name);
END;
COMMENT ON FUNCTION roneo.mark_idle(integer[], bigint[], timestamptz, jsonb, jsonb) IS
    'For the runner: notes that replicas have nothing to do, in one statement and without a run in the history, and returns them. Those that moved, were refreshed meanwhile, or whose source is another one stay due.';
