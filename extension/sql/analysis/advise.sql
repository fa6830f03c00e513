-- Which method suits which table of a source: from what its columns, keys and rights are, what it counts,
-- and what roneo.observe has seen of it.

-- Rows a day, from looks where there were two; else from the server's counters, which may have counted
-- the load of the table.
CREATE OR REPLACE FUNCTION roneo.change_rates(source_name text, survey jsonb)
RETURNS TABLE (relation bigint, days numeric, inserted numeric, updated numeric, deleted numeric, verdict text, grows_by text, known_from text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH counted AS (
        SELECT (e.relation ->> 'root')::bigint AS relation, sum((e.relation ->> 'ins')::numeric) AS inserted,
               sum((e.relation ->> 'upd')::numeric) AS updated, sum((e.relation ->> 'del')::numeric) AS deleted
        FROM jsonb_array_elements(survey -> 'relations') AS e (relation)
        WHERE e.relation ->> 'kind' IN ('r', 'p')
        GROUP BY 1
    ), since AS (
        SELECT greatest((survey #>> '{identity,stats_reset}')::timestamptz, (survey #>> '{identity,stats_discarded}')::timestamptz) AS at,
               (survey #>> '{identity,clock}')::timestamptz AS now,
               survey #>> '{identity,in_recovery}' = 'false' AND survey ->> 'track_counts' = 'on' AS counts
    ), seen AS (
        SELECT c.*, extract(epoch FROM c.observed_until - c.observed_from) / 86400 AS days,
               n.relation
        FROM roneo.changes(source_name) AS c
        JOIN (SELECT format('%I.%I', e.relation ->> 'schema', e.relation ->> 'name') AS name, (e.relation ->> 'oid')::bigint AS relation
              FROM jsonb_array_elements(survey -> 'relations') AS e (relation)) AS n ON n.name = c.source_table
        WHERE c.looks > 1 AND c.observed_until > c.observed_from AND c.verdict <> 'unknown'
    )
    SELECT c.relation, CASE WHEN s.days > 1 / 24.0 THEN s.days WHEN s.days IS NULL AND since.now - since.at > interval '1 day' THEN extract(epoch FROM since.now - since.at) / 86400 END,
           coalesce(s.inserted, CASE WHEN since.counts THEN c.inserted END), coalesce(s.updated, CASE WHEN since.counts THEN c.updated END),
           coalesce(s.deleted, CASE WHEN since.counts THEN c.deleted END), s.verdict || CASE WHEN s.proven THEN '' ELSE '?' END, s.grows_by,
           CASE WHEN s.days IS NOT NULL THEN concat('observed since ', to_char(s.observed_from, 'YYYY-MM-DD HH24:MI'),
                                                    CASE WHEN NOT s.proven THEN format(', not proven (%s)', s.remarks) END)
                WHEN since.counts THEN concat('counted since ', to_char(since.at, 'YYYY-MM-DD HH24:MI')) END
    FROM counted AS c CROSS JOIN since LEFT JOIN seen AS s ON s.relation = c.relation;
END;
COMMENT ON FUNCTION roneo.change_rates(text, jsonb) IS
    'How many rows of each table of a source came, changed and went, in how many days, and how that is known. days: NULL where they are too few for a rate. verdict: as changes has it, with a question mark where it is not proven; NULL where nothing is known.';

-- First what was seen to grow, then what is made to; an index before none.
CREATE OR REPLACE FUNCTION roneo.control_choice(controls jsonb, follows_updates boolean, grows_by text)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT c.col
    FROM jsonb_array_elements(controls) WITH ORDINALITY AS c (col, nr)
    WHERE CASE WHEN follows_updates THEN (c.col ->> 'touched')::boolean
               ELSE c.col ->> 'given' IS NOT NULL OR c.col ->> 'name' = ANY (string_to_array(grows_by, ', ')) END
    ORDER BY (c.col ->> 'indexed')::boolean DESC, coalesce(c.col ->> 'name' = ANY (string_to_array(grows_by, ', ')), false) DESC,
             (c.col ->> 'not_null')::boolean DESC, array_position('{identity,serial,clock,uuid}'::text[], c.col ->> 'given'), c.nr
    LIMIT 1
);
COMMENT ON FUNCTION roneo.control_choice(jsonb, boolean, text) IS
    'The column that an inserter, or an updater, best follows; NULL for none.';

-- facts: kind, unlogged, standby, small, key, inserted, updated, deleted, share (of rows that change
-- between two refreshes), grow, touch (columns), keep_deleted, verdict. The first that fits.
CREATE OR REPLACE FUNCTION roneo.method_choice(f jsonb, OUT method text, OUT reason text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT c.method, c.reason
    FROM (SELECT f ->> 'kind' IN ('r', 'p') AS is_table, f -> 'key' <> 'null' AS has_key, NOT (f ->> 'unlogged')::boolean AND NOT (f ->> 'standby')::boolean AS can_capture,
                 (f ->> 'inserted')::numeric AS ins, (f ->> 'updated')::numeric AS upd, (f ->> 'deleted')::numeric AS del,
                 f -> 'grow' <> 'null' AS grows, f -> 'touch' <> 'null' AS is_touched) AS t
    CROSS JOIN LATERAL (VALUES
        (1, f ->> 'kind' = 'v', 'snapshot', 'a view: nothing tells what changed in it'),
        (2, f ->> 'kind' = 'm', 'snapshot', 'a materialized view: nothing tells what changed in it'),
        (3, f ->> 'kind' = 'f', 'snapshot', 'a foreign table: better make its server a source'),
        (4, (f ->> 'keep_deleted')::boolean AND t.has_key AND t.can_capture, 'logdel', 'deleted rows are to stay here'),
        (5, (f ->> 'small')::boolean, 'snapshot', concat('small', CASE WHEN t.ins + t.upd + t.del = 0 THEN ', and skipped while nothing changes' END)),
        (6, t.ins + t.upd + t.del = 0 AND f ->> 'verdict' = 'unchanged', 'snapshot', 'it never changed while it was observed, and is skipped as long as that is so'),
        (7, t.ins + t.upd + t.del = 0 AND f ->> 'verdict' = 'unchanged?', 'snapshot', 'no change was seen while it was observed, and it is skipped as long as that is so'),
        (7, t.ins + t.upd + t.del = 0 AND f ->> 'verdict' IS NULL, 'snapshot', 'no change is counted, and it is skipped as long as that is so'),
        (8, (f ->> 'share')::numeric > 0.5, 'snapshot', 'most rows change between two refreshes'),
        (9, t.upd + t.del = 0 AND t.grows AND t.has_key, 'inserter', format('rows are only added, and %s grows with them', quote_ident(f #>> '{grow,name}'))),
        (10, t.upd + t.del = 0 AND t.grows, 'inserter', format('rows are only added, and %s grows with them; there is no key, so append_only is your word that it stays so', quote_ident(f #>> '{grow,name}'))),
        (11, NOT t.has_key, 'snapshot', 'it has no key to match rows by'),
        (12, t.del = 0 AND t.is_touched, 'updater', format('no row is deleted, and a trigger gives each changed one a new %s', quote_ident(f #>> '{touch,name}'))),
        (13, t.can_capture, 'dml', CASE WHEN t.del > 0 THEN 'deletes must arrive' ELSE 'rows change, and no column tells which' END),
        (14, t.is_touched, 'updater', format('a trigger gives each changed row a new %s; deletes do not arrive', quote_ident(f #>> '{touch,name}'))),
        (15, t.grows AND t.upd = 0, 'inserter', format('%s grows with new rows; deletes do not arrive', quote_ident(f #>> '{grow,name}'))),
        (16, true, 'snapshot', CASE WHEN (f ->> 'standby')::boolean THEN 'a standby counts nothing and takes no triggers' ELSE 'it is unlogged, and no column tells which rows changed' END)
    ) AS c (place, fits, method, reason)
    WHERE c.fits
    ORDER BY c.place
    LIMIT 1;
END;
COMMENT ON FUNCTION roneo.method_choice(jsonb) IS 'The method for a table with these facts, and why.';

CREATE OR REPLACE FUNCTION roneo.method_statement(
    source_name text, table_name text, method text, control text, has_key boolean, refresh_every interval, is_big boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('SELECT roneo.create_%s(%s);', method, concat_ws(', ', quote_literal(source_name), quote_literal(table_name),
    CASE WHEN method IN ('inserter', 'updater') THEN format('control => %L', control) END,
    CASE WHEN method = 'inserter' AND NOT has_key THEN 'append_only => true' END,
    CASE WHEN is_big THEN 'copy_data => false' END,
    format('refresh_every => %L', refresh_every)));
COMMENT ON FUNCTION roneo.method_statement(text, text, text, text, boolean, interval, boolean) IS
    'The statement that registers a replica as advised.';

-- What the role of the source lacks, as statements to be run there.
CREATE OR REPLACE FUNCTION roneo.method_needs(source_name text, survey jsonb, relation jsonb, method text, control jsonb)
RETURNS text[] LANGUAGE sql STABLE
RETURN array_remove(ARRAY[
    CASE WHEN NOT (relation ->> 'usage')::boolean THEN format('GRANT USAGE ON SCHEMA %I TO %I;', relation ->> 'schema', survey ->> 'user') END,
    CASE WHEN NOT (relation ->> 'readable')::boolean THEN format('GRANT SELECT ON TABLE %I.%I TO %I;', relation ->> 'schema', relation ->> 'name', survey ->> 'user') END,
    CASE WHEN (relation ->> 'row_security')::boolean THEN format('ALTER ROLE %I BYPASSRLS;', survey ->> 'user') END,
    CASE WHEN method IN ('inserter', 'updater') AND NOT (control ->> 'indexed')::boolean
         THEN format('CREATE INDEX %sON %I.%I (%I);', CASE WHEN relation ->> 'kind' = 'r' THEN 'CONCURRENTLY ' END,
                     relation ->> 'schema', relation ->> 'name', control ->> 'name') END,
    CASE WHEN method IN ('dml', 'logdel') AND NOT (survey ->> 'superuser')::boolean
              AND NOT ((relation ->> 'owned')::boolean AND coalesce((survey ->> 'capture')::boolean, (survey ->> 'creates')::boolean))
         THEN format('-- a DBA runs what this prints: roneo preflight %s --capture %s%s', source_name,
                     format('%I.%I', relation ->> 'schema', relation ->> 'name'), CASE WHEN method = 'logdel' THEN ' --keeps-deleted' END) END], NULL);
COMMENT ON FUNCTION roneo.method_needs(text, jsonb, jsonb, text, jsonb) IS
    'What is missing on a source before a table can be copied by a method, as SQL to run there.';

CREATE OR REPLACE FUNCTION roneo.method_rights(survey jsonb, relation jsonb, method text)
RETURNS text LANGUAGE sql STABLE
RETURN concat('SELECT: ', CASE WHEN (relation ->> 'usage')::boolean AND (relation ->> 'readable')::boolean THEN 'yes' ELSE 'no' END,
    CASE WHEN method IN ('dml', 'logdel') THEN concat('; owner: ', CASE WHEN (survey ->> 'superuser')::boolean OR (relation ->> 'owned')::boolean THEN 'yes' ELSE 'no' END,
         '; roneo_capture: ', CASE WHEN (survey ->> 'superuser')::boolean OR (survey ->> 'capture')::boolean THEN 'yes'
                                   WHEN survey ->> 'capture' IS NULL AND (survey ->> 'creates')::boolean THEN 'can be made' ELSE 'no' END) END);
COMMENT ON FUNCTION roneo.method_rights(jsonb, jsonb, text) IS 'Which rights a method needs on a source, and whether the role has them.';

-- Megabytes a second: what refreshes of this source did, else a guess.
CREATE OR REPLACE FUNCTION roneo.copy_speed(source_name text, OUT bytes_a_second numeric, OUT is_measured boolean)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT coalesce(m.speed, 30000000), m.speed IS NOT NULL
    FROM (SELECT sum(u.bytes) / nullif(sum(u.seconds), 0) AS speed
          FROM roneo.run AS u
          JOIN roneo.replica AS r USING (replica_id)
          JOIN roneo.source AS s USING (source_id)
          WHERE s.source_name = copy_speed.source_name AND u.outcome = 'ok' AND u.bytes > 1000000) AS m;
END;
COMMENT ON FUNCTION roneo.copy_speed(text) IS 'How many bytes a second refreshes of a source have copied; 30 MB where none of more than 1 MB was measured.';

CREATE OR REPLACE FUNCTION roneo.advice_facts(source_name text, survey jsonb, refresh_every interval, small_mb integer, keep_deleted boolean)
RETURNS TABLE (relation jsonb, facts jsonb) LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH entry AS MATERIALIZED (
        SELECT e.relation FROM jsonb_array_elements(survey -> 'relations') AS e (relation)
    ), tree AS (
        SELECT l.relation -> 'root' AS root, sum((l.relation ->> 'bytes')::bigint) AS bytes,
               sum(CASE WHEN (l.relation ->> 'rows')::bigint >= 0 THEN (l.relation ->> 'rows')::bigint ELSE (l.relation ->> 'live')::bigint END)
                   FILTER (WHERE l.relation ->> 'kind' <> 'p') AS rows
        FROM entry AS l
        GROUP BY 1
    )
    SELECT e.relation, jsonb_build_object(
        'kind', e.relation -> 'kind', 'unlogged', e.relation ->> 'persistence' = 'u', 'standby', survey #> '{identity,in_recovery}',
        'small', coalesce(t.bytes <= small_mb * 1000000::bigint, false), 'key', e.relation -> 'key', 'keep_deleted', keep_deleted,
        'bytes', t.bytes, 'rows', t.rows, 'inserted', r.inserted, 'updated', r.updated, 'deleted', r.deleted, 'days', r.days,
        'known_from', r.known_from, 'verdict', r.verdict,
        'share', (r.inserted + r.updated + r.deleted) / nullif(r.days * nullif(t.rows, 0), 0) * (extract(epoch FROM refresh_every) / 86400),
        'grow', roneo.control_choice(e.relation -> 'controls', false, r.grows_by),
        'touch', roneo.control_choice(e.relation -> 'controls', true, NULL))
    FROM tree AS t
    JOIN entry AS e ON e.relation -> 'oid' = t.root
    LEFT JOIN roneo.change_rates(source_name, survey) AS r ON r.relation = (e.relation ->> 'oid')::bigint;
END;
COMMENT ON FUNCTION roneo.advice_facts(text, jsonb, interval, integer, boolean) IS 'What a method is chosen by, of each table of a source.';

CREATE OR REPLACE FUNCTION roneo.advice_remarks(relation jsonb, facts jsonb, method text, control jsonb, is_big boolean)
RETURNS text LANGUAGE sql STABLE
RETURN nullif(concat_ws('; ',
    CASE WHEN method IN ('inserter', 'updater') AND NOT (control ->> 'not_null')::boolean
         THEN format('%I may be NULL: say null_control if it is', control ->> 'name') END,
    CASE WHEN method IN ('inserter', 'updater') AND is_big
         THEN 'load what is there with: roneo refresh --repull, after it is made' END,
    CASE WHEN relation ->> 'kind' IN ('r', 'p') AND relation -> 'key' = 'null' THEN 'no key' END,
    CASE WHEN relation ->> 'persistence' = 'u' THEN 'unlogged' END,
    CASE WHEN facts ->> 'known_from' IS NULL AND relation ->> 'kind' IN ('r', 'p') THEN 'nothing is known of its changes' END), '');
COMMENT ON FUNCTION roneo.advice_remarks(jsonb, jsonb, text, jsonb, boolean) IS 'What is to be known of an advice besides.';

CREATE OR REPLACE FUNCTION roneo.judge_methods(
    name text, survey jsonb, refresh_every interval DEFAULT '10 minutes', small_mb integer DEFAULT 100,
    keep_deleted boolean DEFAULT false, as_tables boolean DEFAULT false)
RETURNS TABLE (source_table text, kind text, method text, reason text, control text, key_columns text[], rows_estimate bigint, bytes bigint,
               added_per_day numeric, updated_per_day numeric, deleted_per_day numeric, known_from text,
               refresh_bytes bigint, refresh_seconds numeric, speed_is_measured boolean, rights text, needs text[], remarks text,
               copied_as text, statement text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT n.name, CASE f.relation ->> 'kind' WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned' WHEN 'v' THEN 'view' WHEN 'm' THEN 'matview' ELSE 'foreign' END,
           c.method, m.reason, c.control ->> 'name', ARRAY(SELECT jsonb_array_elements_text(nullif(f.relation -> 'key', 'null'))),
           (f.facts ->> 'rows')::bigint, (f.facts ->> 'bytes')::bigint,
           round((f.facts ->> 'inserted')::numeric / d.days, 1), round((f.facts ->> 'updated')::numeric / d.days, 1), round((f.facts ->> 'deleted')::numeric / d.days, 1),
           f.facts ->> 'known_from', b.refresh_bytes, round(b.refresh_bytes / v.bytes_a_second, 2), v.is_measured,
           roneo.method_rights(survey, f.relation, c.method), roneo.method_needs(judge_methods.name, survey, f.relation, c.method, c.control),
           roneo.advice_remarks(f.relation, f.facts, c.method, c.control, d.is_big), u.copied_as,
           CASE WHEN u.copied_as IS NULL THEN concat(
               CASE WHEN to_regnamespace(quote_ident(f.relation ->> 'schema')) IS NULL THEN format('CREATE SCHEMA IF NOT EXISTS %I; ', f.relation ->> 'schema') END,
               roneo.method_statement(judge_methods.name, n.name, c.method, c.control ->> 'name', f.relation -> 'key' <> 'null', refresh_every, d.is_big)) END
    FROM roneo.advice_facts(name, survey, refresh_every, small_mb, keep_deleted) AS f
    CROSS JOIN roneo.copy_speed(name) AS v
    CROSS JOIN LATERAL roneo.method_choice(f.facts) AS m
    CROSS JOIN LATERAL (SELECT CASE WHEN m.method = 'snapshot' AND as_tables THEN 'plain' ELSE m.method END,
                               nullif(CASE m.method WHEN 'inserter' THEN f.facts -> 'grow' WHEN 'updater' THEN f.facts -> 'touch' END, 'null')) AS c (method, control)
    CROSS JOIN LATERAL (SELECT format('%I.%I', f.relation ->> 'schema', f.relation ->> 'name')) AS n (name)
    CROSS JOIN LATERAL (SELECT nullif((f.facts ->> 'days')::numeric, 0), coalesce((f.facts ->> 'bytes')::bigint > 100000000, false)) AS d (days, is_big)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN c.method IN ('snapshot', 'plain') THEN (f.facts ->> 'bytes')::bigint
                    WHEN f.facts ->> 'share' IS NOT NULL THEN least(1, (f.facts ->> 'share')::numeric) * (f.facts ->> 'bytes')::bigint END::bigint) AS b (refresh_bytes)
    LEFT JOIN LATERAL (
        SELECT string_agg(format('%I.%I by %s', r.dest_schema, r.dest_name, r.method), ', ' ORDER BY r.replica_id)
        FROM roneo.replica AS r JOIN roneo.source AS s USING (source_id)
        WHERE s.source_name = judge_methods.name AND r.source_schema = f.relation ->> 'schema' AND r.source_table = f.relation ->> 'name') AS u (copied_as) ON true
    ORDER BY (f.facts ->> 'bytes')::bigint DESC NULLS LAST, n.name;
END;
COMMENT ON FUNCTION roneo.judge_methods(text, jsonb, interval, integer, boolean, boolean) IS
    'A method for each table of a source, from its answer to survey_probe; see advise.';

CREATE OR REPLACE FUNCTION roneo.advise(
    source text,
    schemas text[] DEFAULT NULL,
    refresh_every interval DEFAULT '10 minutes',
    small_mb integer DEFAULT 100,
    keep_deleted boolean DEFAULT false,
    as_tables boolean DEFAULT false)
RETURNS TABLE (source_table text, kind text, method text, reason text, control text, key_columns text[], rows_estimate bigint, bytes bigint,
               added_per_day numeric, updated_per_day numeric, deleted_per_day numeric, known_from text,
               refresh_bytes bigint, refresh_seconds numeric, speed_is_measured boolean, rights text, needs text[], remarks text,
               copied_as text, statement text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (refresh_every > interval '0') IS NOT TRUE OR (small_mb >= 0) IS NOT TRUE THEN
        PERFORM roneo.bad_argument(format('refresh_every is %s and small_mb is %s', coalesce(refresh_every::text, 'NULL'), coalesce(small_mb::text, 'NULL')),
                                   'Give an interval above 0, and megabytes from 0 on.');
    END IF;
    RETURN QUERY SELECT * FROM roneo.judge_methods(source, roneo.ask_source(source, roneo.survey_probe(source, schemas))::jsonb,
                                                   refresh_every, small_mb, keep_deleted, as_tables);
END;
$$;
COMMENT ON FUNCTION roneo.advise(text, text[], interval, integer, boolean, boolean) IS
    'A method for each table of a source, with the reason, what it costs, what is missing there, and the statement that registers it; over dblink. small_mb: up to this size a table is copied whole. keep_deleted: deleted rows are to stay here. as_tables: plain in place of snapshot.';
