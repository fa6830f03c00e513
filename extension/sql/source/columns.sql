-- What a table looks like, asked in SQL that runs alike on a source and here: any role, PostgreSQL
-- 13 to 18, search_path pg_catalog (which makes PostgreSQL qualify the names of users' types).
-- A parsed body needs what it calls, so here and below the parts come before the whole.

CREATE OR REPLACE FUNCTION roneo.type_ddl_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$
    CASE
        WHEN e.oid < 16384 OR m.extension IS NOT NULL THEN NULL
        WHEN e.typtype = 'e' THEN (
            SELECT format('CREATE TYPE %s AS ENUM (%s);', format_type(e.oid, NULL),
                          string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder))
            FROM pg_enum AS l
            WHERE l.enumtypid = e.oid)
        WHEN e.typtype = 'd' THEN (
            SELECT format('CREATE DOMAIN %s AS %s%s%s;', format_type(e.oid, NULL),
                          format_type(e.typbasetype, e.typtypmod),
                          CASE WHEN e.typnotnull THEN ' NOT NULL' END,
                          string_agg(format(' CONSTRAINT %I CHECK (%s)', k.conname,
                                            pg_get_expr(k.conbin, 0)), '' ORDER BY k.conname))
            FROM pg_constraint AS k
            WHERE k.contypid = e.oid AND k.contype = 'c')
        WHEN e.typtype = 'c' THEN (
            SELECT format('CREATE TYPE %s AS (%s);', format_type(e.oid, NULL),
                          string_agg(format('%I %s', f.attname,
                                            format_type(f.atttypid, f.atttypmod)),
                                     ', ' ORDER BY f.attnum))
            FROM pg_attribute AS f
            WHERE f.attrelid = e.typrelid AND f.attnum > 0 AND NOT f.attisdropped)
    END$query$;
COMMENT ON FUNCTION roneo.type_ddl_query() IS
    'A SQL expression for the statement that makes a user''s type e (its extension m): part of '
    'types_query.';

-- An array is described by its element. Its binary form carries the element's oid, which for users'
-- types differs between the sides; so do the oids that are the binary form of the reg types. An
-- empty int2vector has a binary form that PostgreSQL itself does not accept.
CREATE OR REPLACE FUNCTION roneo.types_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
    WITH RECURSIVE used AS (
        SELECT DISTINCT a.atttypid AS type
        FROM pg_attribute AS a
        WHERE a.attrelid = %1$s AND a.attnum > 0 AND NOT a.attisdropped
    ), unwrapped AS (
        SELECT type, type AS base FROM used
        UNION ALL
        SELECT u.type, d.typbasetype
        FROM unwrapped AS u
        JOIN pg_type AS d ON d.oid = u.base AND d.typtype = 'd'
    ), member AS (
        SELECT d.objid AS type, x.extname AS extension
        FROM pg_depend AS d
        JOIN pg_extension AS x ON x.oid = d.refobjid
        WHERE d.classid = 'pg_type'::regclass
          AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    )
    SELECT t.oid AS type, t.typcollation AS collation, e.oid AS named, b.oid AS base,
           n.nspname AS schema_name, e.typname AS type_name, e.typtype AS kind, m.extension,
           (%2$s) AS ddl,
           CASE
               WHEN f.oid <> b.oid OR b.oid < 16384
                   THEN f.oid < 16384 AND f.typtype IN ('b', 'r', 'm') AND f.typsend <> 0
                        AND NOT starts_with(f.typname::text, 'reg')
                        AND f.typname NOT IN ('int2vector', 'oidvector')
               ELSE b.typtype = 'e' OR (b.typname = 'citext' AND EXISTS (
                   SELECT FROM member AS c WHERE c.type = b.oid AND c.extension = 'citext'))
           END AS is_binary
    FROM used AS u
    JOIN pg_type AS t ON t.oid = u.type
    LEFT JOIN pg_type AS item ON item.oid = t.typelem AND item.typarray = t.oid
    JOIN pg_type AS e ON e.oid = coalesce(item.oid, t.oid)
    JOIN pg_namespace AS n ON n.oid = e.typnamespace
    LEFT JOIN member AS m ON m.type = e.oid
    JOIN unwrapped AS w ON w.type = t.oid
    JOIN pg_type AS b ON b.oid = w.base AND b.typtype <> 'd'
    LEFT JOIN pg_type AS base_item ON base_item.oid = b.typelem AND base_item.typarray = b.oid
    JOIN pg_type AS f ON f.oid = coalesce(base_item.oid, b.oid)$query$,
    relation, roneo.type_ddl_query());
COMMENT ON FUNCTION roneo.types_query(text) IS
    'SQL for the types that a table uses, one row each: part of columns_query.';

CREATE OR REPLACE FUNCTION roneo.columns_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'number', a.attnum,
    'name', a.attname,
    'type', format_type(a.atttypid, a.atttypmod),
    'type_bare', format_type(a.atttypid, -1),
    'type_modifier', CASE WHEN t.extension IS NOT NULL THEN substr(
        format_type(t.named, a.atttypmod), length(format_type(t.named, -1)) + 1) END,
    'type_schema', t.schema_name,
    'type_name', t.type_name,
    'type_kind', t.kind,
    'type_array', t.named <> t.type,
    'type_base', format_type(t.base, NULL),
    'type_extension', t.extension,
    'type_ddl', t.ddl,
    'binary', t.is_binary,
    'not_null', a.attnotnull AND unproven.number IS NULL,
    'collation', (
        SELECT format('%%I.%%I', n.nspname, o.collname)
        FROM pg_collation AS o
        JOIN pg_namespace AS n ON n.oid = o.collnamespace
        WHERE o.oid = a.attcollation AND a.attcollation <> t.collation),
    'generated', a.attgenerated,
    'identity', a.attidentity,
    'readable', has_column_privilege(a.attrelid, a.attnum, 'SELECT')) ORDER BY a.attnum), '[]')
FROM pg_attribute AS a
JOIN (%2$s) AS t ON t.type = a.atttypid
LEFT JOIN (
    -- From 18 on a NOT NULL constraint can be NOT VALID, and attnotnull is set all the same.
    SELECT k.conkey[1] AS number
    FROM pg_constraint AS k
    WHERE k.conrelid = %1$s AND k.contype = 'n' AND NOT k.convalidated
) AS unproven ON unproven.number = a.attnum
WHERE a.attrelid = %1$s AND a.attnum > 0 AND NOT a.attisdropped$query$,
    relation, roneo.types_query(relation));
COMMENT ON FUNCTION roneo.columns_query(text) IS
    'SQL for the columns of a table as a JSON array: part of relation_query.';

CREATE OR REPLACE FUNCTION roneo.relation_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
SELECT (
    SELECT jsonb_build_object(
        'oid', c.oid::bigint,
        'schema', n.nspname,
        'name', c.relname,
        'kind', c.relkind,
        'owner', pg_get_userbyid(c.relowner),
        'readable', has_table_privilege(c.oid, 'SELECT'),
        'row_security', row_security_active(c.oid),
        'persistence', c.relpersistence,
        'rows_estimate', c.reltuples::bigint,
        'columns', (%2$s))
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = (%1$s))$query$, relation, roneo.columns_query('c.oid'));
COMMENT ON FUNCTION roneo.relation_query(text) IS
    'SQL that answers with one JSON document describing a table, given as an expression of type '
    'oid; NULL where there is none.';

-- The query's own text is the body: planning it, for each table anew, takes twenty times as long as
-- running it. No literal in it has a line break, two blanks or two dashes.
CREATE OR REPLACE FUNCTION roneo.on_one_line(query text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN regexp_replace(regexp_replace(query, '--[^\n]*', '', 'g'), '\s+', ' ', 'g');
COMMENT ON FUNCTION roneo.on_one_line(text) IS 'A query without its comments and line breaks.';

DO $do$ BEGIN
    EXECUTE format($function$CREATE OR REPLACE FUNCTION roneo.local_relation(relation regclass)
        RETURNS jsonb LANGUAGE plpgsql STABLE STRICT
        SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
        AS %L$function$, format('BEGIN RETURN (%s); END', roneo.on_one_line(roneo.relation_query('relation::oid'))));
END $do$;
COMMENT ON FUNCTION roneo.local_relation(regclass) IS
    'The document of relation_query for a table of this database.';

CREATE OR REPLACE FUNCTION roneo.leaves_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
WITH RECURSIVE tree AS (
    SELECT (%1$s)::oid AS oid
    UNION
    SELECT i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
)
SELECT jsonb_agg(jsonb_build_object(
    'oid', c.oid::bigint,
    'kind', c.relkind,
    'filenode', pg_relation_filenode(c.oid)::bigint,
    'snapshot_filenode', c.relfilenode::bigint,
    'size', CASE WHEN c.relkind IN ('r', 'm') THEN pg_relation_size(c.oid) ELSE 0 END,
    'ins', pg_stat_get_tuples_inserted(c.oid),
    'upd', pg_stat_get_tuples_updated(c.oid),
    'del', pg_stat_get_tuples_deleted(c.oid)) ORDER BY c.oid)
FROM tree AS t
JOIN pg_class AS c ON c.oid = t.oid$query$, relation);
COMMENT ON FUNCTION roneo.leaves_query(text) IS
    'SQL that answers with a JSON array of a table and all that inherit from it: their files, '
    'sizes and change counters.';
