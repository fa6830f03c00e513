-- Columns of source and destination that have drifted apart. Like preflight it has two halves: a
-- query for the source, and a function that judges its answer; so the program needs no dblink.

CREATE OR REPLACE FUNCTION roneo.ask_source(name text, query text)
RETURNS text LANGUAGE sql
RETURN roneo.call_source(name, query, roneo.source_opening());
COMMENT ON FUNCTION roneo.ask_source(text, text) IS
    'The one value that a query gives on a source, over dblink, under settings of ours.';

-- One source that does not answer hides nothing of the others.
CREATE OR REPLACE FUNCTION roneo.try_source(name text, query text, OUT answer jsonb, OUT problem text, OUT advice text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reason text;
BEGIN
    answer := roneo.ask_source(name, query)::jsonb;
EXCEPTION WHEN SQLSTATE 'RO011' OR query_canceled THEN
    RAISE;
WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, reason = PG_EXCEPTION_DETAIL, advice = PG_EXCEPTION_HINT;
    problem := concat_ws(': ', problem, nullif(btrim(reason), ''));
    advice  := coalesce(nullif(advice, ''), 'roneo preflight says what is missing.');
END;
$$;
COMMENT ON FUNCTION roneo.try_source(text, text) IS
    'What ask_source answers, or why it could not be asked. Raises only RO011.';

CREATE OR REPLACE FUNCTION roneo.columns_probe(name text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked roneo.source := roneo.require_source(name);
BEGIN
    RETURN format($probe$
SELECT pg_catalog.jsonb_build_object('tables', (
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
        'replica_id', wanted.replica_id, 'relation', (%s)) ORDER BY wanted.replica_id), '[]')
    FROM (
        SELECT k.replica_id, c.oid
        FROM pg_catalog.jsonb_to_recordset(%L) AS k (replica_id integer, schema_name name, table_name name)
        LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = k.schema_name
        LEFT JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = k.table_name
            AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    ) AS wanted))::text$probe$,
        roneo.relation_query('wanted.oid'),
        (SELECT coalesce(jsonb_agg(jsonb_build_object('replica_id', r.replica_id,
             'schema_name', r.source_schema, 'table_name', r.source_table)), '[]')
         FROM roneo.replica AS r WHERE r.source_id = asked.source_id));
END;
$$;
COMMENT ON FUNCTION roneo.columns_probe(text) IS
    'A query for a source, under source_opening(): one JSON document with the columns of each replica''s table.';

-- A wider type takes what a narrower one holds, and so does one that every value of the other is
-- cast to without being asked.
CREATE OR REPLACE FUNCTION roneo.type_fits(source_column jsonb, dest_column jsonb)
RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE
    WHEN s.type = d.type OR s.bare = d.bare AND d.type = d.bare THEN true
    WHEN s.bare = d.bare AND d.bare IN ('character varying', 'character', 'bit varying')
        THEN coalesce(substring(s.type FROM '\((\d+)\)')::integer <= substring(d.type FROM '\((\d+)\)')::integer, false)
    WHEN s.bare = d.bare THEN false
    ELSE d.type = d.bare AND EXISTS (
        SELECT FROM pg_cast AS c
        WHERE c.castsource = to_regtype(s.bare) AND c.casttarget = to_regtype(d.bare) AND c.castcontext = 'i')
END
FROM (SELECT source_column ->> 'type', source_column ->> 'type_bare') AS s (type, bare),
     (SELECT dest_column ->> 'type', dest_column ->> 'type_bare') AS d (type, bare);
$$;
COMMENT ON FUNCTION roneo.type_fits(jsonb, jsonb) IS
    'Whether a column of the destination takes every value that one of the source can hold, as their types say.';

CREATE OR REPLACE FUNCTION roneo.judge_table_columns(r roneo.replica, relation jsonb)
RETURNS TABLE (level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH sent AS (
        SELECT a.col ->> 'name' AS name, a.col
        FROM jsonb_array_elements(relation -> 'columns') AS a (col)
        WHERE r.wanted_columns IS NULL OR a.col ->> 'name' = ANY (r.wanted_columns)
    ), kept AS (
        SELECT a.col ->> 'name' AS name, a.col, d.oid IS NOT NULL AS has_default
        FROM jsonb_array_elements(roneo.local_relation(r.dest) -> 'columns') AS a (col)
        LEFT JOIN pg_attrdef AS d ON d.adrelid = r.dest AND d.adnum = (a.col ->> 'number')::integer
    ), pair AS (
        SELECT coalesce(s.name, k.name) AS name, s.col AS sent, k.col AS kept, k.has_default
        FROM sent AS s FULL JOIN kept AS k ON k.name = s.name
    )
    SELECT 'WARNING', format('column %I %s is new on the source and not copied', p.name, p.sent ->> 'type'),
           format(CASE r.method WHEN 'plain' THEN 'ALTER TABLE %1$s ADD COLUMN %2$I %3$s; -- the next refresh that copies fills it'
                       ELSE 'ALTER TABLE %1$s ADD COLUMN %2$I %3$s; CALL roneo.repull(%1$L); -- fills the rows that are here' END,
                  r.dest, p.name, p.sent ->> 'type')
    FROM pair AS p WHERE p.kept IS NULL
    UNION ALL
    SELECT 'CRITICAL', format('column %I is gone from the source, and the replica copies it by name', w.name),
           'Create the replica anew, with a list of columns that fits; an inserter or updater adopts the table that is kept.'
    FROM unnest(r.wanted_columns) AS w (name) WHERE NOT EXISTS (SELECT FROM sent AS s WHERE s.name = w.name)
    UNION ALL
    SELECT CASE WHEN (p.kept ->> 'not_null')::boolean AND NOT p.has_default AND p.kept ->> 'identity' = '' THEN 'CRITICAL'
                WHEN m.columns IS NOT NULL THEN 'WARNING' ELSE 'OK' END,
           format('column %I is not on the source%s', p.name,
                  CASE WHEN (p.kept ->> 'not_null')::boolean AND NOT p.has_default THEN ', and NOT NULL here: new rows do not fit' END),
           format('ALTER TABLE %s DROP COLUMN %I;', r.dest, p.name)
    FROM pair AS p
    LEFT JOIN roneo.plain_replica AS m ON m.replica_id = r.replica_id AND p.name = ANY (m.columns)
    WHERE p.sent IS NULL AND r.wanted_columns IS NULL AND p.kept ->> 'generated' = '' AND NOT starts_with(p.name, 'roneo_')
    UNION ALL
    SELECT 'WARNING', format('column %I is %s on the source and %s here: values may not fit', p.name, p.sent ->> 'type', p.kept ->> 'type'),
           format('ALTER TABLE %s ALTER COLUMN %I TYPE %s;', r.dest, p.name, p.sent ->> 'type')
    FROM pair AS p
    WHERE p.sent IS NOT NULL AND p.kept IS NOT NULL AND p.kept ->> 'generated' = '' AND NOT roneo.type_fits(p.sent, p.kept)
    UNION ALL
    SELECT 'WARNING', format('column %I is NOT NULL here and not on the source: a row without it fails the refresh', p.name),
           format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', r.dest, p.name)
    FROM pair AS p
    -- Of a view nothing is known.
    WHERE relation ->> 'kind' IN ('r', 'p') AND (p.kept ->> 'not_null')::boolean AND NOT (p.sent ->> 'not_null')::boolean
      AND p.kept ->> 'generated' = '';
END;
COMMENT ON FUNCTION roneo.judge_table_columns(roneo.replica, jsonb) IS
    'How the columns of a source table, in the words of relation_query, and those of a destination that is a table have drifted apart.';

CREATE OR REPLACE FUNCTION roneo.judge_followed_columns(r roneo.replica, relation jsonb)
RETURNS TABLE (level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'CRITICAL', format('the %s column %I is gone from the source', n.what, n.name),
           'Create the replica anew, with another one; it adopts the table that is kept.'
    FROM (SELECT 'control', c.control FROM roneo.control_replica AS c WHERE c.replica_id = r.replica_id
          UNION ALL
          SELECT 'key', k FROM roneo.control_replica AS c, unnest(c.key_columns) AS k
          WHERE c.replica_id = r.replica_id AND k <> c.control) AS n (what, name)
    WHERE NOT EXISTS (SELECT FROM jsonb_array_elements(relation -> 'columns') AS a (col) WHERE a.col ->> 'name' = n.name)
    UNION ALL
    -- A view over two tables takes over what its source has become.
    SELECT 'OK', concat('the source has changed: ',
               string_agg(format('%I %s', d.name, CASE WHEN d.old IS NULL THEN 'is new' WHEN d.new IS NULL THEN 'is gone'
                          ELSE format('is %s and was %s', d.new, d.old) END), ', ' ORDER BY d.name)),
           'The next refresh takes it over.'
    FROM (SELECT coalesce(o.col ->> 'name', n.col ->> 'name') AS name, o.col ->> 'type' AS old, n.col ->> 'type' AS new
          FROM (SELECT e.col FROM roneo.snapshot_replica AS m, jsonb_array_elements(m.columns) AS e (col)
                WHERE m.replica_id = r.replica_id) AS o
          FULL JOIN (SELECT e.col FROM jsonb_array_elements(relation -> 'columns') AS e (col)
                     WHERE r.wanted_columns IS NULL OR e.col ->> 'name' = ANY (r.wanted_columns)) AS n
              ON o.col ->> 'name' = n.col ->> 'name') AS d
    WHERE r.method = 'snapshot' AND d.old IS DISTINCT FROM d.new
    HAVING count(*) > 0;
END;
COMMENT ON FUNCTION roneo.judge_followed_columns(roneo.replica, jsonb) IS
    'What became of the columns that an inserter or updater follows, and of those that a snapshot shows.';

CREATE OR REPLACE FUNCTION roneo.judge_columns(name text, answer jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked roneo.source := roneo.require_source(name);
BEGIN
    RETURN QUERY
        SELECT 'columns', s.dest, j.level, j.message, j.advice
        FROM jsonb_to_recordset(answer -> 'tables') AS t (replica_id integer, relation jsonb)
        JOIN roneo.replica AS r ON r.replica_id = t.replica_id AND r.source_id = asked.source_id
        JOIN roneo.status AS s ON s.replica_id = t.replica_id
        CROSS JOIN LATERAL (
            SELECT 'CRITICAL', format('source table %s is gone', s.source_table),
                   format('roneo.drop_replica(%L), or make the table again.', s.dest)
            WHERE jsonb_typeof(t.relation) IS DISTINCT FROM 'object'
            UNION ALL
            SELECT c.* FROM roneo.judge_followed_columns(r, t.relation) AS c
            WHERE jsonb_typeof(t.relation) = 'object'
            UNION ALL
            SELECT c.* FROM roneo.judge_table_columns(r, t.relation) AS c
            WHERE jsonb_typeof(t.relation) = 'object' AND r.method <> 'snapshot' AND s.state <> 'gone'
        ) AS j (level, message, advice)
        ORDER BY roneo.level_rank(j.level), s.dest, j.message;
END;
$$;
COMMENT ON FUNCTION roneo.judge_columns(text, jsonb) IS
    'Findings about the columns of a source''s replicas, from its answer to columns_probe.';

CREATE OR REPLACE FUNCTION roneo.check_columns(source_names text[] DEFAULT NULL)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one   text;
    asked record;
BEGIN
    PERFORM roneo.require_source(n) FROM unnest(source_names) AS n;
    FOR one IN SELECT s.source_name FROM roneo.source AS s
               WHERE source_names IS NULL OR s.source_name = ANY (source_names) ORDER BY s.source_name LOOP
        asked := roneo.try_source(one, roneo.columns_probe(one));
        IF asked.answer IS NULL THEN
            RETURN QUERY SELECT 'columns', quote_ident(one), 'UNKNOWN', asked.problem, asked.advice;
        ELSE
            RETURN QUERY SELECT * FROM roneo.judge_columns(one, asked.answer);
        END IF;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.check_columns(text[]) IS
    'Where the columns of sources and destinations have drifted apart, one row a finding, over dblink. A source that cannot be asked is UNKNOWN.';
