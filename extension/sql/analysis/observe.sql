-- Looks at a source's tables now and then, and keeps what was seen: counters, files, sizes, highest
-- values. A table that is as it was costs one row however often it is looked at, and no look at its rows.

-- Each statement takes a snapshot of its own: what is counted is asked before the rows are looked at.
CREATE OR REPLACE FUNCTION roneo.observe_opening(time_limit interval)
RETURNS text LANGUAGE sql STABLE
RETURN concat(replace(roneo.source_opening(), 'REPEATABLE READ', 'READ COMMITTED'),
              format('; SET LOCAL statement_timeout = %s; SET LOCAL lock_timeout = ''1s''',
                     least(round(extract(epoch FROM greatest(time_limit, '0')) * 1000), 2147483647)));
COMMENT ON FUNCTION roneo.observe_opening(interval) IS
    'Statements that open the transaction in which a source is looked at, each statement limited in time; 0: not limited.';

-- One probe of the index for each table: their history may be long.
CREATE OR REPLACE FUNCTION roneo.latest_state(wanted_source integer, wanted_relation oid)
RETURNS roneo.observed_state LANGUAGE sql STABLE
RETURN (SELECT s FROM roneo.observed_state AS s WHERE s.source_id = wanted_source AND s.relation = wanted_relation
        ORDER BY s.state_id DESC LIMIT 1);
COMMENT ON FUNCTION roneo.latest_state(integer, oid) IS 'What was last seen of a table of a source; NULL: nothing.';

CREATE OR REPLACE FUNCTION roneo.latest_observation(wanted_source integer)
RETURNS roneo.observation LANGUAGE sql STABLE
RETURN (SELECT o FROM roneo.observation AS o WHERE o.source_id = wanted_source ORDER BY o.observation_id DESC LIMIT 1);
COMMENT ON FUNCTION roneo.latest_observation(integer) IS 'The last look at a source; NULL for none.';

CREATE OR REPLACE FUNCTION roneo.went_back(old pg_snapshot, new pg_snapshot)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN pg_snapshot_xmax(new) < pg_snapshot_xmax(old);
COMMENT ON FUNCTION roneo.went_back(pg_snapshot, pg_snapshot) IS 'Whether a server is younger in transactions than it was.';

CREATE OR REPLACE FUNCTION roneo.is_other_server(before roneo.observation, survey jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN (before.identity ->> 'system_identifier', before.identity ->> 'timeline', before.identity ->> 'database')
       IS DISTINCT FROM (survey #>> '{identity,system_identifier}', survey #>> '{identity,timeline}', survey #>> '{identity,database}')
       OR roneo.went_back(before.snapshot, (survey ->> 'snapshot')::pg_snapshot);
COMMENT ON FUNCTION roneo.is_other_server(roneo.observation, jsonb) IS
    'Whether what answers is not what was looked at before: another cluster, timeline or database, or an earlier time.';

-- Why counters of now cannot be compared with those of the last look; NULL: they can.
CREATE OR REPLACE FUNCTION roneo.era_break(before roneo.observation, survey jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN CASE
    WHEN before.observation_id IS NULL THEN 'first look'
    WHEN before.identity ->> 'system_identifier' <> survey #>> '{identity,system_identifier}' THEN 'another cluster answered'
    WHEN before.identity ->> 'timeline' <> survey #>> '{identity,timeline}' THEN 'promoted, or restored to an earlier time'
    WHEN roneo.is_other_server(before, survey) THEN 'restored, or another database answered'
    WHEN before.identity ->> 'in_recovery' <> survey #>> '{identity,in_recovery}' THEN 'no standby any more, or one now'
    WHEN before.identity -> 'stats_discarded' <> survey #> '{identity,stats_discarded}'
         AND before.identity ->> 'postmaster_start' <> survey #>> '{identity,postmaster_start}' THEN 'crashed, counters lost'
    WHEN before.identity -> 'stats_reset' IS DISTINCT FROM survey #> '{identity,stats_reset}'
         OR before.identity -> 'stats_discarded' <> survey #> '{identity,stats_discarded}' THEN 'counters reset'
    WHEN before.identity ->> 'postmaster_start' <> survey #>> '{identity,postmaster_start}' THEN 'restarted'
    WHEN before.identity ->> 'track_counts' <> survey ->> 'track_counts' THEN 'track_counts changed'
END;
COMMENT ON FUNCTION roneo.era_break(roneo.observation, jsonb) IS
    'Why what a source counts now does not go on from the last look; NULL: it does.';

-- Why counters of this server prove nothing even while they go on; NULL: they do.
CREATE OR REPLACE FUNCTION roneo.counters_doubt(survey jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN survey #>> '{identity,in_recovery}' = 'true' THEN 'a standby does not count'
    WHEN survey ->> 'track_counts' <> 'on' THEN format('track_counts is %s', survey ->> 'track_counts')
    WHEN (survey #>> '{identity,version}')::integer < 150000 THEN 'before PostgreSQL 15 an idle session may keep its counts'
END;
COMMENT ON FUNCTION roneo.counters_doubt(jsonb) IS 'Why the counters of a source prove nothing; NULL: they do.';

-- A server that is stopped in order writes its counters down.
CREATE OR REPLACE FUNCTION roneo.hides_changes(reason text)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN coalesce(reason NOT IN ('restarted', 'before PostgreSQL 15 an idle session may keep its counts'), false);
COMMENT ON FUNCTION roneo.hides_changes(text) IS
    'Whether all that was written between two looks may go unseen, for a reason of era_break or counters_doubt: not only what a session had not handed over.';

CREATE OR REPLACE FUNCTION roneo.is_same_state(s roneo.observed_state, relation jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN (s.inserted, s.updated, s.deleted, s.shape, s.schema_name, s.table_name, s.root::bigint) IS NOT DISTINCT FROM
       ((relation ->> 'ins')::bigint, (relation ->> 'upd')::bigint, (relation ->> 'del')::bigint, relation ->> 'shape',
        (relation ->> 'schema')::name, (relation ->> 'name')::name, (relation ->> 'root')::bigint)
   AND s.file IS NOT DISTINCT FROM (relation ->> 'file')::bigint;
COMMENT ON FUNCTION roneo.is_same_state(roneo.observed_state, jsonb) IS 'Whether a table counts and is stored as when it was last looked at.';

-- Rows of transactions that began after a snapshot, or were open in it. Frozen rows keep old, perhaps
-- wrapped numbers, which look as if from the future. Open subtransactions of that time are not known.
CREATE OR REPLACE FUNCTION roneo.newer_rows(row_name name, seen pg_snapshot)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws(' OR ', format('age(%1$I.xmin) BETWEEN 0 AND age(%2$L::xid)', row_name,
                                (pg_snapshot_xmax(seen)::text::numeric % 4294967296)::text),
    (SELECT format('%I.xmin::text = ANY (%L::text[])', row_name, array_agg((x::text::numeric % 4294967296)::text))
     FROM pg_snapshot_xip(seen) AS x HAVING count(*) > 0));
COMMENT ON FUNCTION roneo.newer_rows(name, pg_snapshot) IS
    'A condition for rows of a source that a snapshot did not see, by their transactions.';

-- above: rows beyond the highest value of then. late: rows that came since, below it; of a table that
-- is too big to be read, among the 10,000 highest only.
CREATE OR REPLACE FUNCTION roneo.observe_control_query(relation jsonb, control jsonb, seen jsonb, whole boolean)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT format($query$jsonb_build_object(%1$L, jsonb_build_object(
    'top', (SELECT x.%1$I::text FROM %2$I.%3$I AS x WHERE x.%1$I IS NOT NULL ORDER BY x.%1$I DESC LIMIT 1),
    'above', %4$s, 'late', %5$s))$query$,
    control ->> 'name', relation ->> 'schema', relation ->> 'name',
    CASE WHEN seen ->> 'at' IS NULL THEN 'NULL'
         ELSE format('(SELECT count(*) FROM (SELECT FROM %1$I.%2$I AS x WHERE %3$s LIMIT 1000001) AS n)',
             relation ->> 'schema', relation ->> 'name',
             CASE WHEN t.top IS NULL THEN format('x.%I IS NOT NULL', control ->> 'name')
                  ELSE format('x.%I > %L::%s', control ->> 'name', t.top, control ->> 'base') END) END,
    CASE WHEN seen ->> 'at' IS NULL OR NOT (relation ->> 'xmin')::boolean THEN 'NULL'
         WHEN t.top IS NULL THEN '0'
         ELSE format(CASE WHEN whole THEN '(SELECT count(*) FROM %1$I.%2$I AS x WHERE x.%3$I <= %4$L::%5$s AND (%6$s))'
                          ELSE '(SELECT count(*) FROM (SELECT x.xmin FROM %1$I.%2$I AS x WHERE x.%3$I <= %4$L::%5$s ORDER BY x.%3$I DESC LIMIT 10000) AS x WHERE %6$s)' END,
             relation ->> 'schema', relation ->> 'name', control ->> 'name', t.top, control ->> 'base',
             roneo.newer_rows('x', (seen ->> 'at')::pg_snapshot)) END)
FROM (SELECT seen #>> ARRAY['columns', control ->> 'name', 'top'] AS top) AS t
);
COMMENT ON FUNCTION roneo.observe_control_query(jsonb, jsonb, jsonb, boolean) IS
    'SQL for what became of a column that may grow, since a table''s values were last looked at: part of observe_values_probe.';

-- A table whose file is another one: were its rows copied as they were (VACUUM FULL, CLUSTER), written
-- anew (ALTER TABLE), or are they gone (TRUNCATE)? Old transactions, new ones, or no rows tell.
CREATE OR REPLACE FUNCTION roneo.observe_file_query(relation jsonb, seen pg_snapshot)
RETURNS text LANGUAGE sql STABLE
RETURN format('(SELECT jsonb_build_object(''old'', count(*) FILTER (WHERE NOT (%1$s)), ''new'', count(*) FILTER (WHERE %1$s)) '
              'FROM (SELECT x.xmin FROM ONLY %2$I.%3$I AS x LIMIT 100000) AS x)',
              roneo.newer_rows('x', seen), relation ->> 'schema', relation ->> 'name');
COMMENT ON FUNCTION roneo.observe_file_query(jsonb, pg_snapshot) IS
    'SQL for whose rows a table has whose file is another one: part of observe_values_probe.';

CREATE OR REPLACE FUNCTION roneo.observe_table_query(relation jsonb, old roneo.observed_state, seen_at pg_snapshot, bytes numeric, scan_bytes numeric)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT format('(%s::bigint, (SELECT jsonb_build_object(''at'', pg_current_snapshot()::text, ''scanned'', %s, ''columns'', %s, ''file'', %s)))',
        relation ->> 'oid', CASE WHEN bytes <= scan_bytes THEN 'true' ELSE 'false' END,
        coalesce(string_agg(roneo.observe_control_query(relation, c.control,
            CASE WHEN seen_at IS NOT NULL THEN old.control END, bytes <= scan_bytes), ' || '), 'NULL'),
        CASE WHEN seen_at IS NOT NULL AND old.file <> (relation ->> 'file')::bigint AND (relation ->> 'xmin')::boolean
             THEN roneo.observe_file_query(relation, seen_at) ELSE 'NULL' END)
    FROM (VALUES (0)) AS one
    LEFT JOIN jsonb_array_elements(relation -> 'controls') AS c (control)
        ON (c.control ->> 'readable')::boolean AND ((c.control ->> 'indexed')::boolean OR bytes <= scan_bytes)
);
COMMENT ON FUNCTION roneo.observe_table_query(jsonb, roneo.observed_state, pg_snapshot, numeric, numeric) IS
    'SQL for the values and rows of one table that is not as it was: part of observe_values_probe. seen_at: the last look, where it can be compared with.';

-- Nothing is asked of what cannot be read without waiting, or is not all here; nor of more tables than
-- can be locked at a time. One subquery each: planning a UNION of so many takes minutes.
CREATE OR REPLACE FUNCTION roneo.observe_values_probe(name text, survey jsonb, scan_bytes bigint)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked_id integer := (roneo.require_source(name)).source_id;
    before   roneo.observation := roneo.latest_observation(asked_id);
    seen_at  pg_snapshot := CASE WHEN NOT roneo.is_other_server(before, survey) THEN before.snapshot END;
    query    text;
BEGIN
    WITH relation AS (
        SELECT e.relation, (e.relation ->> 'root')::bigint AS root, s AS state,
               s.state_id IS NULL OR NOT roneo.is_same_state(s, e.relation) AS is_changed
        FROM jsonb_array_elements(survey -> 'relations') AS e (relation)
        CROSS JOIN LATERAL roneo.latest_state(asked_id, (e.relation ->> 'oid')::bigint::oid) AS s
    ), tree AS (
        SELECT r.root, sum((r.relation ->> 'bytes')::numeric) AS bytes
        FROM relation AS r
        GROUP BY r.root
        HAVING bool_or(r.is_changed) AND bool_and(r.relation ->> 'kind' IN ('r', 'p') AND NOT (r.relation ->> 'closed')::boolean)
    )
    SELECT string_agg(roneo.observe_table_query(r.relation, r.state, seen_at, coalesce(t.bytes, 0), scan_bytes), E',\n') INTO query
    FROM (SELECT t.* FROM tree AS t ORDER BY t.bytes DESC NULLS LAST LIMIT 500) AS t
    JOIN relation AS r ON r.root = t.root
    JOIN relation AS top ON top.root = t.root AND (top.relation ->> 'oid')::bigint = t.root
    WHERE (r.relation ->> 'readable')::boolean AND (top.relation ->> 'usage')::boolean AND NOT (top.relation ->> 'row_security')::boolean
      AND ((r.relation ->> 'oid')::bigint = t.root AND jsonb_array_length(r.relation -> 'controls') > 0
           OR (r.state).file <> (r.relation ->> 'file')::bigint);
    RETURN CASE WHEN query IS NOT NULL
                THEN format('SELECT jsonb_object_agg(v.oid, v.found)::text FROM (VALUES %s) AS v (oid, found)', query) END;
END;
$$;
COMMENT ON FUNCTION roneo.observe_values_probe(text, jsonb, bigint) IS
    'A query for a source, after its answer to survey_probe: the highest values of what may grow, and what came since the last look, of tables that have changed. Tables up to so many bytes are read, of at most 500 trees, the biggest first. NULL: nothing is to be asked.';

CREATE OR REPLACE FUNCTION roneo.store_states(seen roneo.observation, survey jsonb, found jsonb)
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    WITH relation AS (
        SELECT e.relation, s AS state, found -> (e.relation ->> 'oid') AS found,
               s.era = seen.era AND roneo.is_same_state(s, e.relation) AND found -> (e.relation ->> 'oid') IS NULL AS is_same
        FROM jsonb_array_elements(survey -> 'relations') AS e (relation)
        CROSS JOIN LATERAL roneo.latest_state(seen.source_id, (e.relation ->> 'oid')::bigint::oid) AS s
        WHERE e.relation ->> 'kind' IN ('r', 'p')
    ), tree AS (
        -- What a tree has counted in all: with it the rows above are compared.
        SELECT r.relation -> 'root' AS root, sum((r.relation ->> 'ins')::bigint) AS counted FROM relation AS r GROUP BY 1
    ), extended AS (
        UPDATE roneo.observed_state AS s
        SET last_seen = seen.observation_id, bytes = coalesce((r.relation ->> 'bytes')::bigint, s.bytes), reads = (r.relation ->> 'reads')::bigint,
            live = (r.relation ->> 'live')::bigint, rows_estimate = (r.relation ->> 'rows')::bigint, is_written = (r.relation ->> 'written')::boolean
        FROM relation AS r
        WHERE s.state_id = (r.state).state_id AND r.is_same
    )
    INSERT INTO roneo.observed_state (source_id, era, relation, root, schema_name, table_name, kind, first_seen, last_seen,
        inserted, updated, deleted, hot_updated, live, reads, rows_estimate, bytes, file, shape, is_written, control, file_rows)
    SELECT seen.source_id, seen.era, (r.relation ->> 'oid')::bigint::oid, (r.relation ->> 'root')::bigint::oid,
           r.relation ->> 'schema', r.relation ->> 'name', (r.relation ->> 'kind')::"char", seen.observation_id, seen.observation_id,
           (r.relation ->> 'ins')::bigint, (r.relation ->> 'upd')::bigint, (r.relation ->> 'del')::bigint, (r.relation ->> 'hot')::bigint,
           (r.relation ->> 'live')::bigint, (r.relation ->> 'reads')::bigint, (r.relation ->> 'rows')::bigint,
           coalesce((r.relation ->> 'bytes')::bigint, (r.state).bytes), (r.relation ->> 'file')::bigint, r.relation ->> 'shape',
           (r.relation ->> 'written')::boolean,
           -- Values that were not asked for now stay those of then, with their snapshot.
           CASE WHEN jsonb_typeof(r.found -> 'columns') = 'object' THEN (r.found - 'file') || jsonb_build_object('counted', t.counted)
                ELSE (r.state).control || jsonb_build_object('kept', true) END,
           nullif(r.found -> 'file', 'null')
    FROM relation AS r
    LEFT JOIN tree AS t ON t.root = r.relation -> 'oid'
    WHERE r.is_same IS NOT TRUE;
END;
COMMENT ON FUNCTION roneo.store_states(roneo.observation, jsonb, jsonb) IS
    'Writes what was seen of each table: a row where something is new, else the time of the last row.';

CREATE OR REPLACE FUNCTION roneo.record_observation(
    name text, schemas text[], survey jsonb, looked jsonb, problem text DEFAULT NULL, keep_days integer DEFAULT 90)
RETURNS roneo.observation LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked_id integer := (roneo.require_source(name)).source_id;
    before   roneo.observation;
    seen     roneo.observation;
    broken   text;
BEGIN
    -- Two at a time would both go on from the same look. Replicas are locked by positive numbers.
    PERFORM pg_advisory_xact_lock(roneo.lock_class(), -asked_id);
    before := roneo.latest_observation(asked_id);
    broken := roneo.era_break(before, survey);
    INSERT INTO roneo.observation (source_id, era, era_reason, identity, snapshot, schemas, doubt, tables, problem)
    VALUES (asked_id, coalesce(before.era, 0) + (broken IS NOT NULL)::integer, broken,
            (survey -> 'identity') - 'clock' - 'lsn' || jsonb_build_object('track_counts', survey -> 'track_counts'),
            (survey ->> 'snapshot')::pg_snapshot, schemas, roneo.counters_doubt(survey),
            (SELECT count(*) FROM jsonb_array_elements(survey -> 'relations') AS e (relation)
             WHERE e.relation -> 'oid' = e.relation -> 'root' AND e.relation ->> 'kind' IN ('r', 'p')), problem)
    RETURNING * INTO seen;
    PERFORM roneo.store_states(seen, survey, looked);
    PERFORM roneo.forget_observations(asked_id, keep_days);
    RETURN seen;
END;
$$;
COMMENT ON FUNCTION roneo.record_observation(text, text[], jsonb, jsonb, text, integer) IS
    'Keeps a look at a source: its answers to survey_probe and observe_values_probe, or why the second was not given. Forgets what is older than keep_days.';

-- The look at which a kept state was first seen is kept too, so that its time is known.
CREATE OR REPLACE FUNCTION roneo.forget_observations(source_id integer, keep_days integer)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    oldest bigint;
BEGIN
    IF coalesce(keep_days, 0) < 1 THEN
        PERFORM roneo.bad_argument(format('keep_days is %s', coalesce(keep_days::text, 'NULL')), 'Give a number of days from 1 on.');
    END IF;
    SELECT min(o.observation_id) INTO oldest FROM roneo.observation AS o
    WHERE o.source_id = forget_observations.source_id AND o.observed_at > now() - make_interval(days => keep_days);
    DELETE FROM roneo.observed_state AS s WHERE s.source_id = forget_observations.source_id AND s.last_seen < oldest;
    DELETE FROM roneo.observation AS o
    WHERE o.source_id = forget_observations.source_id AND o.observation_id < oldest
      AND NOT EXISTS (SELECT FROM roneo.observed_state AS s
                      WHERE s.source_id = o.source_id AND o.observation_id IN (s.first_seen, s.last_seen));
END;
$$;
COMMENT ON FUNCTION roneo.forget_observations(integer, integer) IS 'Deletes looks at a source, and what was seen, that are older.';

CREATE OR REPLACE FUNCTION roneo.observe(
    source text,
    schemas text[] DEFAULT NULL,
    scan_mb integer DEFAULT 64,
    time_limit interval DEFAULT '30 seconds',
    keep_days integer DEFAULT 90)
RETURNS roneo.observation LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    probe   text := roneo.survey_probe(source, schemas);
    link    text := roneo.open_link(source);
    survey  jsonb;
    looked   jsonb;
    problem text;
BEGIN
    PERFORM roneo.tell_link(link, roneo.observe_opening(time_limit));
    survey := roneo.ask_link(link, probe);
    probe := roneo.observe_values_probe(source, survey, scan_mb * 1000000::bigint);
    IF probe IS NOT NULL THEN
        BEGIN
            looked := roneo.ask_link(link, probe);
        EXCEPTION WHEN OTHERS THEN
            -- Counters and files are worth keeping without it.
            GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
        END;
    END IF;
    PERFORM roneo.close_link(link);
    RETURN roneo.record_observation(source, schemas, survey, looked, problem, keep_days);
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link(link);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.observe(text, text[], integer, interval, integer) IS
    'Looks at the tables of a source, over dblink, and keeps what their server has counted; roneo.changes tells what became of them. scan_mb: tables up to this size are read when they have changed. time_limit: of each of two queries; 0: none.';
