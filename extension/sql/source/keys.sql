-- The indexes of a table, taken apart from the catalogs and never from the text of a definition.

-- Whether an expression's own collation is the index's cannot be seen in the catalogs. A definition
-- without the word has none to repeat; otherwise it is said once too often, which does no harm.
-- An operator class is left out only where it is surely what PostgreSQL would choose.
CREATE OR REPLACE FUNCTION roneo.index_keys_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$
    SELECT jsonb_agg(jsonb_build_object(
        'text', pg_get_indexdef(c.oid, g, false),
        'collation', (
            SELECT format('%I.%I', n.nspname, l.collname)
            FROM pg_collation AS l
            JOIN pg_namespace AS n ON n.oid = l.collnamespace
            WHERE l.oid = i.indcollation[g - 1] AND l.oid IS DISTINCT FROM a.attcollation
              AND strpos(pg_get_indexdef(c.oid), ' COLLATE ') > 0),
        'opclass', (
            SELECT format('%I.%I', n.nspname, o.opcname)
            FROM pg_namespace AS n
            WHERE n.oid = o.opcnamespace AND (o.opcdefault AND x.attoptions IS NULL AND (
                o.opcintype = t.oid
                OR (o.opcintype = 'text'::regtype AND t.oid = 'varchar'::regtype)
                OR (o.opcintype IN (SELECT p.oid FROM pg_type AS p WHERE p.typtype = 'p')
                    AND t.oid NOT IN (
                        SELECT rival.opcintype
                        FROM pg_opclass AS rival
                        WHERE rival.opcmethod = o.opcmethod AND rival.opcdefault)))
            ) IS NOT TRUE),
        'opclass_options', coalesce(to_jsonb(x.attoptions), '[]'),
        'desc', i.indoption[g - 1] & 1 > 0,
        'nulls_first', i.indoption[g - 1] & 2 > 0) ORDER BY g)
    FROM generate_series(1, i.indnkeyatts) AS g
    JOIN pg_opclass AS o ON o.oid = i.indclass[g - 1]
    JOIN pg_attribute AS x ON x.attrelid = c.oid AND x.attnum = g
    LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[g - 1]
        AND a.attnum <> 0
    CROSS JOIN LATERAL (
        SELECT CASE WHEN a.attnum IS NOT NULL THEN a.atttypid
                    WHEN o.opckeytype = 0 THEN x.atttypid END) AS t (oid)$query$;
COMMENT ON FUNCTION roneo.index_keys_query() IS
    'SQL for the keys of the index i (its relation c) as a JSON array: part of index_query.';

CREATE OR REPLACE FUNCTION roneo.index_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'name', c.relname,
    'method', m.amname,
    'unique', i.indisunique AND NOT i.indisexclusion,
    'primary', i.indisprimary AND NOT i.indisexclusion,
    'constraint', k.oid IS NOT NULL,
    'deferrable', coalesce(k.condeferrable, false),
    'deferred', coalesce(k.condeferred, false),
    'nulls_not_distinct', coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
    'keys', (%2$s),
    'include', (
        SELECT coalesce(jsonb_agg(pg_get_indexdef(c.oid, g, false) ORDER BY g), '[]')
        FROM generate_series(i.indnkeyatts + 1, i.indnatts::integer) AS g),
    'predicate', pg_get_expr(i.indpred, i.indrelid),
    'with', coalesce(to_jsonb(c.reloptions), '[]'),
    'uses', (
        SELECT coalesce(jsonb_agg(a.attname ORDER BY a.attnum), '[]')
        FROM pg_attribute AS a
        WHERE a.attrelid = i.indrelid AND (a.attnum = ANY (i.indkey) OR a.attnum IN (
            SELECT d.refobjsubid
            FROM pg_depend AS d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
              AND d.refclassid = 'pg_class'::regclass
              AND d.refobjid = i.indrelid AND d.refobjsubid > 0)))
    ) ORDER BY i.indisprimary DESC, c.relname), '[]')
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_am AS m ON m.oid = c.relam
-- From 18 on a key WITHOUT OVERLAPS is an exclusion constraint too.
LEFT JOIN pg_constraint AS k ON k.conindid = c.oid AND k.conrelid = i.indrelid
    AND k.contype IN ('p', 'u') AND NOT i.indisexclusion
WHERE i.indrelid = (%1$s) AND i.indisvalid AND i.indislive
  -- An expression over the whole row takes the row type of that one table.
  AND strpos(concat(i.indexprs, i.indpred), ' :varattno 0 ') = 0$query$,
    relation, roneo.index_keys_query());
COMMENT ON FUNCTION roneo.index_query(text) IS
    'SQL that answers with the valid indexes of a table as one JSON array, the primary key first.';

DO $do$ BEGIN
    EXECUTE format($function$CREATE OR REPLACE FUNCTION roneo.local_indexes(relation regclass)
        RETURNS jsonb LANGUAGE plpgsql STABLE STRICT
        SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
        AS %L$function$, format('BEGIN RETURN (%s); END', roneo.on_one_line(roneo.index_query('relation::oid'))));
END $do$;
COMMENT ON FUNCTION roneo.local_indexes(regclass) IS
    'The document of index_query for a table of this database.';
