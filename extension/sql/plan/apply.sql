-- Putting rows that have arrived in a staging table: by key, and only where they differ.

CREATE OR REPLACE FUNCTION roneo.staging_name(r roneo.replica)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('roneo_arrived_%s', r.replica_id);
COMMENT ON FUNCTION roneo.staging_name(roneo.replica) IS 'The temporary table that the rows of a replica arrive in.';

CREATE OR REPLACE FUNCTION roneo.staging_step(r roneo.replica, columns name[])
RETURNS roneo.step LANGUAGE sql IMMUTABLE
RETURN roneo.dest_step(1, 'make a table for what arrives', format(
    'DROP TABLE IF EXISTS pg_temp.%1$I; CREATE TEMPORARY TABLE %1$I ON COMMIT DROP AS SELECT %2$s FROM ONLY %3$I.%4$I WITH NO DATA',
    roneo.staging_name(r), roneo.column_list(columns), r.dest_schema, r.dest_name));
COMMENT ON FUNCTION roneo.staging_step(roneo.replica, name[]) IS
    'A step that makes an empty temporary table with the columns that are copied; nothing is indexed, nothing analysed.';

CREATE OR REPLACE FUNCTION roneo.key_match(key_columns name[], one text, other text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT string_agg(format('%2$s.%1$I = %3$s.%1$I', k.name, one, other), ' AND ' ORDER BY k.place)
    FROM unnest(key_columns) WITH ORDINALITY AS k (name, place)
);
COMMENT ON FUNCTION roneo.key_match(name[], text, text) IS 'True where two rows have the same key.';

-- IS DISTINCT FROM calls 1.0 and 1.00 the same, fails on json, and has no operator for some types;
-- *<> compares the images of the values.
CREATE OR REPLACE FUNCTION roneo.put_clause(key_columns name[], columns name[], overwrite boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('ON CONFLICT (%s) DO %s', roneo.column_list(key_columns),
    CASE WHEN overwrite THEN format('UPDATE SET %s WHERE ROW(%s)::record OPERATOR(pg_catalog.*<>) ROW(%s)::record',
        (SELECT string_agg(format('%1$I = excluded.%1$I', k), ', ') FROM unnest(columns) AS k),
        (SELECT string_agg(format('kept.%I', k), ', ') FROM unnest(columns) AS k),
        (SELECT string_agg(format('excluded.%I', k), ', ') FROM unnest(columns) AS k))
    ELSE 'NOTHING' END);
COMMENT ON FUNCTION roneo.put_clause(name[], name[], boolean) IS
    'What an INSERT does with a row whose key is there: overwrites it where it differs, or leaves it.';

CREATE OR REPLACE FUNCTION roneo.put_step(
    r roneo.replica, key_columns name[], columns name[], overwrite boolean, newest_by name)
RETURNS roneo.step LANGUAGE sql IMMUTABLE
RETURN (
    SELECT ROW(4, 'dest', CASE WHEN overwrite THEN 'insert what is new, update what differs' ELSE 'insert what is new' END,
        format($put$WITH put AS (
    INSERT INTO %1$I.%2$I AS kept (%3$s) OVERRIDING SYSTEM VALUE
    SELECT %4$s%3$s FROM pg_temp.%5$I%6$s
    %7$s
    RETURNING %8$s AS is_new
)
SELECT pg_catalog.jsonb_build_object('inserted', pg_catalog.count(*) FILTER (WHERE is_new),
                                     'updated', pg_catalog.count(*) FILTER (WHERE NOT is_new)) AS counts FROM put$put$,
            r.dest_schema, r.dest_name, roneo.column_list(columns),
            format(CASE WHEN newest_by IS NOT NULL THEN 'DISTINCT ON (%s) ' END, roneo.column_list(key_columns)),
            roneo.staging_name(r),
            format(CASE WHEN newest_by IS NOT NULL THEN ' ORDER BY %s, %I DESC NULLS LAST' END,
                   roneo.column_list(key_columns), newest_by),
            roneo.put_clause(key_columns, columns, overwrite),
            CASE WHEN overwrite THEN '(kept.xmax = 0)' ELSE 'true' END),
        NULL, NULL, NULL, NULL, NULL, 'put', false)::roneo.step
);
COMMENT ON FUNCTION roneo.put_step(roneo.replica, name[], name[], boolean, name) IS
    'The step that puts staged rows by key, and answers with how many were inserted and updated. newest_by: of several rows with one key the highest by this column counts.';
