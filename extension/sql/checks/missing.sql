-- Tables of a source that nobody copies.

CREATE OR REPLACE FUNCTION roneo.tables_probe(name text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.require_source(name);
    -- A partition or child is read with its parent; what belongs to an extension is made by that.
    RETURN $probe$
SELECT pg_catalog.jsonb_build_object('tables', (
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
        'schema_name', n.nspname, 'table_name', c.relname,
        'bytes', (WITH RECURSIVE tree AS (
                      SELECT c.oid
                      UNION
                      SELECT i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid)
                  SELECT pg_catalog.sum(CASE WHEN k.relkind = 'r' THEN pg_catalog.pg_table_size(k.oid) ELSE 0 END)
                  FROM tree AS t JOIN pg_catalog.pg_class AS k ON k.oid = t.oid)
        ) ORDER BY n.nspname, c.relname), '[]')
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'roneo', 'roneo_capture')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                        AND d.deptype = 'e')))::text$probe$;
END;
$$;
COMMENT ON FUNCTION roneo.tables_probe(text) IS 'A query for a source: one JSON document with its tables and their sizes.';

CREATE OR REPLACE FUNCTION roneo.judge_tables(name text, answer jsonb, schemas text[] DEFAULT NULL)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked roneo.source := roneo.require_source(name);
BEGIN
    RETURN QUERY
        SELECT 'missing table', format('%I.%I', t.schema_name, t.table_name), 'WARNING',
               format('no replica copies this table of source %I (%s)', name, pg_size_pretty(t.bytes)),
               CASE WHEN t.bytes < roneo.setting('copy_mb_warning') * 1e6 OR roneo.setting('copy_mb_warning') = 0
                    THEN format('SELECT roneo.create_snapshot(%L, %L);', name, format('%I.%I', t.schema_name, t.table_name))
                    ELSE format('SELECT roneo.create_updater(%L, %L, control => …);', name, format('%I.%I', t.schema_name, t.table_name)) END
        FROM jsonb_to_recordset(answer -> 'tables') AS t (schema_name name, table_name name, bytes bigint)
        WHERE (schemas IS NULL OR t.schema_name = ANY (schemas))
          AND NOT EXISTS (SELECT FROM roneo.replica AS r
                          WHERE r.source_id = asked.source_id AND r.source_schema = t.schema_name
                            AND r.source_table = t.table_name)
        ORDER BY 2;
END;
$$;
COMMENT ON FUNCTION roneo.judge_tables(text, jsonb, text[]) IS
    'The tables in a source''s answer to tables_probe that no replica copies.';

CREATE OR REPLACE FUNCTION roneo.check_missing_tables(source text, schemas text[] DEFAULT NULL)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked record := roneo.try_source(source, roneo.tables_probe(source));
BEGIN
    IF asked.answer IS NULL THEN
        RETURN QUERY SELECT 'missing table', quote_ident(source), 'UNKNOWN', asked.problem, asked.advice;
    ELSE
        RETURN QUERY SELECT * FROM roneo.judge_tables(source, asked.answer, schemas);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.check_missing_tables(text, text[]) IS
    'Tables of a source, in some schemas or in all, that no replica copies, over dblink. Partitions count as their root.';
