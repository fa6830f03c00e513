-- What a source's tables are, what its server has counted of them, and what its role may do: one
-- document, from which tables are observed and methods advised. It reads catalogs and counters, no row.

-- A value that grows by itself has a default, or is given by a trigger: whoever writes to NEW.column
-- in a trigger before INSERT or UPDATE. That is a guess from the text of the function, and said so.
CREATE OR REPLACE FUNCTION roneo.survey_controls_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'name', a.attname, 'type', format_type(a.atttypid, NULL), 'base', b.base,
        'not_null', a.attnotnull, 'readable', has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
        'given', CASE WHEN a.attidentity <> '' THEN 'identity'
                      WHEN d.text LIKE '%nextval(%' THEN 'serial'
                      WHEN d.text ~* '\m(now|current_timestamp|clock_timestamp|transaction_timestamp|statement_timestamp|localtimestamp)\M' THEN 'clock'
                      WHEN d.text ~* '(uuid_?v7|uuid_generate_v7|uuid7|ulid|ksuid)' THEN 'uuid' END,
        'touched', EXISTS (
            SELECT FROM pg_trigger AS g JOIN pg_proc AS f ON f.oid = g.tgfoid
            WHERE g.tgrelid = a.attrelid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 19 = 19
              AND (f.prosrc ~* concat('\mnew\."?', regexp_replace(a.attname, '(\W)', '\\\1', 'g'), '"?\s*:?=')
                   OR f.proname = 'moddatetime' AND encode(g.tgargs, 'escape') = concat(a.attname, '\000'))),
        'indexed', EXISTS (
            SELECT FROM pg_index AS i
            WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL
              AND (SELECT k.relam FROM pg_class AS k WHERE k.oid = i.indexrelid) = 403)
        ) ORDER BY a.attnum), '[]')
    FROM pg_attribute AS a
    CROSS JOIN LATERAL (
        SELECT format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) AS base FROM pg_type AS t WHERE t.oid = a.atttypid) AS b
    LEFT JOIN LATERAL (
        SELECT pg_get_expr(e.adbin, e.adrelid) AS text FROM pg_attrdef AS e
        WHERE e.adrelid = a.attrelid AND e.adnum = a.attnum AND a.attgenerated = '') AS d ON true
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND b.base IN ('timestamp with time zone', 'timestamp without time zone', 'date', 'smallint', 'integer', 'bigint', 'uuid')
      AND (b.base LIKE 'timestamp%' OR b.base IN ('date', 'uuid') OR d.text LIKE '%nextval(%' OR a.attidentity <> ''
           OR EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisprimary AND i.indnatts = 1 AND i.indkey[0] = a.attnum))$query$;
COMMENT ON FUNCTION roneo.survey_controls_query() IS
    'SQL for the columns of table c that a copy could follow, as a JSON array: part of survey_probe.';

-- As natural_key chooses it.
CREATE OR REPLACE FUNCTION roneo.survey_key_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$
    SELECT k.names
    FROM pg_index AS i
    CROSS JOIN LATERAL (
        SELECT jsonb_agg(a.attname ORDER BY u.place) AS names, bool_and(a.attnotnull) AND count(a.attname) = count(*) AS is_key
        FROM unnest((i.indkey::smallint[])[0:i.indnkeyatts - 1]) WITH ORDINALITY AS u (number, place)
        LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.number AND u.number > 0) AS k
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND k.is_key
    ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid
    LIMIT 1$query$;
COMMENT ON FUNCTION roneo.survey_key_query() IS 'SQL for the key of table c, as a JSON array: part of survey_probe.';

-- The size of a table that is locked against everybody cannot be asked without waiting, so it is left out.
CREATE OR REPLACE FUNCTION roneo.survey_relations_query(schemas text[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
WITH RECURSIVE root AS (
    SELECT c.oid
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'roneo', 'roneo_capture')
      AND (%1$L::name[] IS NULL OR n.nspname = ANY (%1$L::name[]))
      AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
), tree AS (
    SELECT r.oid AS root, r.oid FROM root AS r
    UNION
    SELECT t.root, i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
), lock AS MATERIALIZED (
    SELECT l.relation, bool_or(l.mode = 'AccessExclusiveLock') AS closed
    FROM pg_locks AS l
    WHERE l.locktype = 'relation' AND l.granted
      AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
      AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
    GROUP BY l.relation
)
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'oid', c.oid::bigint, 'root', t.root::bigint, 'schema', n.nspname, 'name', c.relname, 'kind', c.relkind,
    'persistence', c.relpersistence, 'rows', c.reltuples::bigint, 'written', k.relation IS NOT NULL, 'closed', coalesce(k.closed, false),
    'ins', pg_stat_get_tuples_inserted(c.oid), 'upd', pg_stat_get_tuples_updated(c.oid), 'del', pg_stat_get_tuples_deleted(c.oid),
    'hot', pg_stat_get_tuples_hot_updated(c.oid), 'live', pg_stat_get_live_tuples(c.oid),
    'reads', pg_stat_get_numscans(c.oid) + coalesce((SELECT sum(pg_stat_get_numscans(x.indexrelid)) FROM pg_index AS x WHERE x.indrelid = c.oid), 0),
    'file', pg_relation_filenode(c.oid)::bigint,
    'bytes', CASE WHEN k.closed IS NOT TRUE AND c.relkind IN ('r', 'm') THEN pg_table_size(c.oid) END,
    'readable', has_table_privilege(c.oid, 'SELECT'),
    'shape', (SELECT md5(string_agg(concat_ws(' ', a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attisdropped, a.atthasmissing), ',' ORDER BY a.attnum))
              FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0))
    || CASE WHEN t.oid <> t.root THEN '{}' ELSE jsonb_build_object(
        'usage', has_schema_privilege(n.oid, 'USAGE'),
        'triggers', pg_has_role(c.relowner, 'USAGE') OR has_table_privilege(c.oid, 'TRIGGER'), 'owned', pg_has_role(c.relowner, 'USAGE'),
        'xmin', c.relkind IN ('r', 'p') AND has_column_privilege(c.oid, 'xmin', 'SELECT'),
        'row_security', row_security_active(c.oid), 'key', (%2$s), 'controls', (%3$s)) END
    ORDER BY n.nspname, c.relname), '[]')
FROM tree AS t
JOIN pg_class AS c ON c.oid = t.oid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN lock AS k ON k.relation = c.oid$query$, schemas, roneo.survey_key_query(), roneo.survey_controls_query());
COMMENT ON FUNCTION roneo.survey_relations_query(text[]) IS
    'SQL for the tables and views of a source in some schemas or all, partitions and children with their root, as a JSON array: part of survey_probe.';

CREATE OR REPLACE FUNCTION roneo.survey_probe(name text, schemas text[] DEFAULT NULL)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.require_source(name);
    IF schemas = '{}' THEN
        PERFORM roneo.bad_argument('the list of schemas is empty', 'Leave the argument out for all schemas.');
    END IF;
    RETURN format($probe$SELECT jsonb_build_object(
    'relations', (%s),
    'identity', %s, 'track_counts', %s,
    'snapshot', pg_current_snapshot()::text,
    'user', current_user,
    'superuser', (SELECT u.rolsuper FROM pg_roles AS u WHERE u.rolname = current_user),
    'creates', has_database_privilege(current_database(), 'CREATE')
        AND (SELECT u.rolsuper OR u.rolcreaterole FROM pg_roles AS u WHERE u.rolname = current_user),
    'capture', (
        SELECT has_schema_privilege(n.oid, 'USAGE')
               AND NOT EXISTS (SELECT FROM pg_proc AS f
                               WHERE f.pronamespace = n.oid AND f.prorettype <> 'trigger'::regtype AND NOT has_function_privilege(f.oid, 'EXECUTE'))
        FROM pg_namespace AS n WHERE n.nspname = 'roneo_capture'))::text$probe$,
        roneo.survey_relations_query(schemas), roneo.identity_query(), roneo.track_counts_query());
END;
$$;
COMMENT ON FUNCTION roneo.survey_probe(text, text[]) IS
    'A query for a source, under source_opening(): one JSON document with its tables, in some schemas or all, what was counted of them, and what the role may do.';
