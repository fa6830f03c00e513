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

CREATE OR REPLACE FUNCTION roneo.base_type(type_id oid)
RETURNS oid LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE base AS (
        SELECT t.oid, t.typtype, t.typbasetype FROM pg_type AS t WHERE t.oid = type_id
        UNION ALL
        SELECT t.oid, t.typtype, t.typbasetype FROM base AS b JOIN pg_type AS t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
    )
    SELECT b.oid FROM base AS b WHERE b.typtype <> 'd';
END;
COMMENT ON FUNCTION roneo.base_type(oid) IS 'What a domain, of a domain perhaps, is made of; other types are their own.';

CREATE OR REPLACE FUNCTION roneo.equality(type_id oid)
RETURNS text LANGUAGE sql STABLE
RETURN coalesce((
    SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
    FROM pg_opclass AS k
    JOIN pg_am AS m ON m.oid = k.opcmethod AND m.amname = 'btree'
    JOIN pg_amop AS a ON a.amopfamily = k.opcfamily AND a.amoplefttype = k.opcintype AND a.amoprighttype = k.opcintype
        AND a.amopstrategy = 3
    JOIN pg_operator AS o ON o.oid = a.amopopr
    JOIN pg_namespace AS n ON n.oid = o.oprnamespace
    -- By a subquery, once: else it is asked for each of these rows.
    WHERE k.opcdefault AND k.opcintype = (SELECT roneo.base_type(type_id))), 'OPERATOR(pg_catalog.=)');
COMMENT ON FUNCTION roneo.equality(oid) IS 'The operator by which an index finds values of a type, whatever the search_path.';

CREATE OR REPLACE FUNCTION roneo.same_key(target regclass, key_columns name[], one text, other text)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT string_agg(format('%1$s.%3$I %4$s %2$s.%3$I', one, other, k.name, roneo.equality(a.atttypid)), ' AND ' ORDER BY k.nr)
    FROM unnest(key_columns) WITH ORDINALITY AS k (name, nr)
    JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = k.name
);
COMMENT ON FUNCTION roneo.same_key(regclass, name[], text, text) IS 'True where two rows have the same key, as the key''s index sees it.';

-- IS DISTINCT FROM calls 1.0 and 1.00 the same, fails on json, and has no operator for some types;
-- *<> compares the images of the values.
CREATE OR REPLACE FUNCTION roneo.put_clause(key_columns name[], columns name[], settable name[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('ON CONFLICT (%s) DO %s', roneo.column_list(key_columns),
    CASE WHEN cardinality(settable) > 0 THEN format('UPDATE SET %s WHERE ROW(%s)::record OPERATOR(pg_catalog.*<>) ROW(%s)::record',
        (SELECT string_agg(format('%1$I = excluded.%1$I', k), ', ') FROM unnest(settable) AS k),
        (SELECT string_agg(format('kept.%I', k), ', ') FROM unnest(columns) AS k),
        (SELECT string_agg(format('excluded.%I', k), ', ') FROM unnest(columns) AS k))
    ELSE 'NOTHING' END);
COMMENT ON FUNCTION roneo.put_clause(name[], name[], name[]) IS
    'What an INSERT does with a row whose key is there: sets these columns where it differs, or leaves it.';

-- PostgreSQL lets nobody update an identity that is always generated.
CREATE OR REPLACE FUNCTION roneo.settable_columns(target regclass, columns name[])
RETURNS name[] LANGUAGE sql STABLE
RETURN ARRAY(
    SELECT c.name
    FROM unnest(columns) WITH ORDINALITY AS c (name, place)
    JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = c.name AND a.attidentity <> 'a'
    ORDER BY c.place
);
COMMENT ON FUNCTION roneo.settable_columns(regclass, name[]) IS 'Those of the columns that an UPDATE may set.';

-- A row that was inserted has no xmax. A partitioned table does not show it; there the keys are
-- counted that were not there before.
CREATE OR REPLACE FUNCTION roneo.put_statement(r roneo.replica, key_columns name[], insert_rows text, updates boolean)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT CASE WHEN c.relkind = 'p' AND updates THEN format($put$WITH put AS (
    %1$s
    RETURNING true
)
SELECT pg_catalog.jsonb_build_object('inserted', n.missing, 'updated', (SELECT pg_catalog.count(*) FROM put) - n.missing) AS counts
FROM (SELECT pg_catalog.count(*) AS missing FROM (SELECT DISTINCT %2$s FROM pg_temp.%3$I) AS arrived
      WHERE NOT EXISTS (SELECT FROM %4$I.%5$I AS kept WHERE %6$s)) AS n$put$,
            insert_rows, roneo.column_list(key_columns), roneo.staging_name(r), r.dest_schema, r.dest_name,
            roneo.same_key(r.dest, key_columns, 'kept', 'arrived'))
    ELSE format($put$WITH put AS (
    %1$s
    RETURNING %2$s AS is_new
)
SELECT pg_catalog.jsonb_build_object('inserted', pg_catalog.count(*) FILTER (WHERE is_new),
                                     'updated', pg_catalog.count(*) FILTER (WHERE NOT is_new)) AS counts FROM put$put$,
            insert_rows, CASE WHEN updates THEN '(kept.xmax = 0)' ELSE 'true' END)
    END
    FROM pg_class AS c WHERE c.oid = r.dest
);
COMMENT ON FUNCTION roneo.put_statement(roneo.replica, name[], text, boolean) IS
    'An INSERT, wrapped to answer with how many rows it inserted and how many it updated.';

-- Rows that are updated are visited in the order of their key: in that of the control column each is
-- likely to be in another page of the index and of the table.
CREATE OR REPLACE FUNCTION roneo.put_step(
    r roneo.replica, key_columns name[], columns name[], settable name[], newest_by name)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN (
    SELECT ROW(4, 'dest', CASE WHEN settable IS NULL THEN 'insert what is new' ELSE 'insert what is new, update what differs' END,
        roneo.put_statement(r, key_columns, format(
            E'INSERT INTO %1$I.%2$I AS kept (%3$s) OVERRIDING SYSTEM VALUE\n    SELECT %4$s%3$s FROM pg_temp.%5$I%6$s\n    %7$s',
            r.dest_schema, r.dest_name, roneo.column_list(columns),
            format(CASE WHEN newest_by IS NOT NULL THEN 'DISTINCT ON (%s) ' END, roneo.column_list(key_columns)),
            roneo.staging_name(r),
            CASE WHEN newest_by IS NOT NULL OR settable IS NOT NULL
                 THEN concat(' ORDER BY ', roneo.column_list(key_columns), format(CASE WHEN newest_by IS NOT NULL THEN ', %I DESC NULLS LAST' END, newest_by)) END,
            roneo.put_clause(key_columns, columns, settable)), coalesce(cardinality(settable) > 0, false)),
        NULL, NULL, NULL, NULL, NULL, 'put', false)::roneo.step
);
COMMENT ON FUNCTION roneo.put_step(roneo.replica, name[], name[], name[], name) IS
    'The step that puts staged rows by key, and answers with how many were inserted and updated. settable: the columns that are set in a row that is there; NULL: it is left. newest_by: of several rows with one key the highest by this column counts.';

CREATE OR REPLACE FUNCTION roneo.same_keys(target regclass, key_columns name[], wanted jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN NOT EXISTS (
    SELECT
    FROM unnest(key_columns) AS k (name)
    LEFT JOIN roneo.pair_columns(wanted, roneo.local_relation(target) -> 'columns') AS p ON p.name = k.name
    LEFT JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = k.name
    LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
    WHERE p.source_type IS DISTINCT FROM p.dest_type OR p.dest_type IS NULL
       OR NOT coalesce(l.collisdeterministic, true)
);
COMMENT ON FUNCTION roneo.same_keys(regclass, name[], jsonb) IS
    'Whether rows whose keys differ on the source have other keys here too: of the same types, and no collation that calls different texts the same.';

-- Only an index tells without reading the table. A row of somebody else that comes in between
-- makes the COPY fail, and the next refresh sees it.
CREATE OR REPLACE FUNCTION roneo.has_rows(target regclass, above name, bound text)
RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found boolean;
BEGIN
    IF NOT has_table_privilege(target, 'SELECT') OR row_security_active(target) OR above IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = target AND i.indisvalid AND i.indpred IS NULL AND a.attname = above)
    THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s%s)', target, format(CASE WHEN above IS NOT NULL THEN ' WHERE %I > %s' END, above, bound))
    INTO found;
    RETURN found;
END;
$$;
COMMENT ON FUNCTION roneo.has_rows(regclass, name, text) IS
    'Whether a table has rows, or rows with a column above a bound; NULL where that cannot be told quickly.';

-- The counts do not tell: a row that was not put could have been there.
CREATE OR REPLACE FUNCTION roneo.swallowed_steps(r roneo.replica, key_columns name[])
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.*
    FROM roneo.dest_step(4, 'see that no trigger kept a row out', format('DO %L', format(
        'BEGIN IF EXISTS (SELECT FROM pg_temp.%I AS arrived WHERE NOT EXISTS (SELECT FROM %I.%I AS kept WHERE %s)) THEN '
        'RAISE EXCEPTION USING ERRCODE = ''RO014'', MESSAGE = ''rows that arrived are not in the destination'', '
        'HINT = ''Look for a trigger on the destination that swallows rows.''; END IF; END',
        roneo.staging_name(r), r.dest_schema, r.dest_name, roneo.same_key(r.dest, key_columns, 'kept', 'arrived')))) AS s
    -- Before each row, at INSERT or UPDATE.
    WHERE EXISTS (SELECT FROM pg_partition_tree(r.dest) AS p JOIN pg_trigger AS t ON t.tgrelid = p.relid
                  WHERE t.tgtype & 3 = 3 AND t.tgtype & 20 <> 0 AND t.tgenabled <> 'D')
       OR EXISTS (SELECT FROM pg_trigger AS t
                  WHERE t.tgrelid = r.dest AND t.tgtype & 3 = 3 AND t.tgtype & 20 <> 0 AND t.tgenabled <> 'D');
END;
COMMENT ON FUNCTION roneo.swallowed_steps(roneo.replica, name[]) IS
    'A step that raises RO014 where rows that arrived are not there afterwards; none for a table without a trigger that could do that.';
