-- Putting what a capture brought: rows by key, and deletions.

-- A key without a row has NULL for the other columns, which a domain may refuse.
CREATE OR REPLACE FUNCTION roneo.bare_columns(target regclass, columns name[], alias text)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT string_agg(concat(alias, format('%I', c.name), format(CASE WHEN t.typtype = 'd' THEN '::%s' END, format_type(roneo.base_type(t.oid), -1)),
                             CASE WHEN alias = '' AND t.typtype = 'd' THEN format(' AS %I', c.name) END), ', ' ORDER BY c.nr)
    FROM unnest(columns) WITH ORDINALITY AS c (name, nr)
    JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = c.name AND NOT a.attisdropped
    JOIN pg_type AS t ON t.oid = a.atttypid
);
COMMENT ON FUNCTION roneo.bare_columns(regclass, name[], text) IS
    'Columns of a table by alias (with its dot, or empty), those of domains as the types under them.';

CREATE OR REPLACE FUNCTION roneo.image_of(target regclass, columns name[], alias text)
RETURNS text LANGUAGE sql STABLE
RETURN format('ROW(%s)::record', roneo.bare_columns(target, columns, concat(alias, '.')));
COMMENT ON FUNCTION roneo.image_of(regclass, name[], text) IS 'Some columns of a row as a record, whose image can be compared.';

CREATE OR REPLACE FUNCTION roneo.live_condition(c roneo.capture_replica, alias text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN c.deleted_column IS NOT NULL THEN ' AND %s.%I IS NULL' END, alias, c.deleted_column);
COMMENT ON FUNCTION roneo.live_condition(roneo.capture_replica, text) IS 'For logdel: true for a row that is not deleted; NULL for dml.';

-- Columns that unique indexes use, other than the key's own and those that are checked at the end
-- of the statement.
CREATE OR REPLACE FUNCTION roneo.clashing_columns(target regclass, key_columns name[])
RETURNS name[] LANGUAGE sql STABLE
RETURN ARRAY(
    SELECT DISTINCT a.attname
    FROM pg_index AS i
    JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = target AND d.refobjsubid > 0
    JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = d.refobjsubid
    WHERE i.indrelid = target AND (i.indisunique OR i.indisexclusion) AND i.indimmediate
      AND a.attname <> ALL (key_columns)
    ORDER BY 1
);
COMMENT ON FUNCTION roneo.clashing_columns(regclass, name[]) IS
    'Columns in which one row of a batch may take over the unique value of another before that one is written.';

CREATE OR REPLACE FUNCTION roneo.is_referenced(target regclass)
RETURNS boolean LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM pg_constraint AS f WHERE f.contype = 'f' AND f.confrelid = target);
COMMENT ON FUNCTION roneo.is_referenced(regclass) IS 'Whether foreign keys point at a table.';

-- A row that others reference is never taken away to be put back: its children would go, or refuse.
CREATE OR REPLACE FUNCTION roneo.clash_steps(r roneo.replica, c roneo.capture_replica, columns name[])
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.*
    FROM (SELECT ARRAY(SELECT x FROM unnest(roneo.clashing_columns(r.dest, c.key_columns)) AS x WHERE x = ANY (columns)) AS columns) AS u
    CROSS JOIN LATERAL roneo.dest_step(3, 'take out rows whose unique values change', format(
        'DELETE FROM %I.%I AS kept USING pg_temp.%I AS arrived WHERE %s%s AND %s OPERATOR(pg_catalog.*<>) %s',
        r.dest_schema, r.dest_name, roneo.staging_name(r), roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived'),
        roneo.live_condition(c, 'kept'), roneo.image_of(r.dest, u.columns, 'kept'), roneo.image_of(r.dest, u.columns, 'arrived'))) AS s
    WHERE u.columns <> '{}' AND NOT roneo.is_referenced(r.dest);
END;
COMMENT ON FUNCTION roneo.clash_steps(roneo.replica, roneo.capture_replica, name[]) IS
    'A step that makes room where two rows swap values of a unique index that is checked at once; none where foreign keys point here.';

CREATE OR REPLACE FUNCTION roneo.differs_condition(r roneo.replica, c roneo.capture_replica, columns name[])
RETURNS text LANGUAGE sql STABLE
RETURN format('NOT EXISTS (SELECT FROM %I.%I AS present WHERE %s%s AND %s OPERATOR(pg_catalog.*=) %s)',
    r.dest_schema, r.dest_name, roneo.same_key(r.dest, c.key_columns, 'present', 'arrived'), roneo.live_condition(c, 'present'),
    roneo.image_of(r.dest, columns, 'present'), roneo.image_of(r.dest, columns, 'arrived'));
COMMENT ON FUNCTION roneo.differs_condition(roneo.replica, roneo.capture_replica, name[]) IS
    'True for what arrived and is not there already just so: where most of it is, that is cheaper than to put it.';

CREATE OR REPLACE FUNCTION roneo.put_changed_statement(r roneo.replica, c roneo.capture_replica, columns name[], wanted text)
RETURNS text LANGUAGE sql STABLE
RETURN format(E'INSERT INTO %1$I.%2$I AS kept (%3$s) OVERRIDING SYSTEM VALUE\n    SELECT %3$s FROM pg_temp.%4$I AS arrived%5$s\n    ON CONFLICT (%6$s)%7$s DO %8$s',
    r.dest_schema, r.dest_name, roneo.column_list(columns), roneo.staging_name(r),
    format(E'\n    WHERE %s', wanted),
    roneo.column_list(c.key_columns),
    format(CASE WHEN c.deleted_column IS NOT NULL THEN ' WHERE %I IS NULL' END, c.deleted_column),
    (SELECT CASE WHEN s.columns = '{}' THEN 'NOTHING' ELSE format('UPDATE SET %s WHERE %s OPERATOR(pg_catalog.*<>) %s',
         (SELECT string_agg(format('%1$I = excluded.%1$I', k), ', ') FROM unnest(s.columns) AS k),
         roneo.image_of(r.dest, columns, 'kept'), roneo.image_of(r.dest, columns, 'excluded')) END
     FROM (SELECT roneo.settable_columns(r.dest, columns) AS columns) AS s));
COMMENT ON FUNCTION roneo.put_changed_statement(roneo.replica, roneo.capture_replica, name[], text) IS
    'An INSERT of what arrived and is wanted, by key.';

-- A row that was inserted has no xmax; a partitioned table does not show it.
CREATE OR REPLACE FUNCTION roneo.put_changed_step(r roneo.replica, c roneo.capture_replica, columns name[], wanted text)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN (
    SELECT ROW(4, 'dest', 'insert what is new, update what differs',
        CASE WHEN t.relkind = 'p' THEN format(
            E'WITH put AS (\n    %s\n    RETURNING true\n)\nSELECT pg_catalog.jsonb_build_object(''inserted'', least(n.missing, p.n), ''updated'', p.n - least(n.missing, p.n)) AS counts\n'
            'FROM (SELECT pg_catalog.count(*) AS n FROM put) AS p, (SELECT pg_catalog.count(*) AS missing FROM pg_temp.%I AS arrived WHERE %s AND NOT EXISTS (SELECT FROM %I.%I AS kept WHERE %s%s)) AS n',
            x.statement, roneo.staging_name(r), wanted, r.dest_schema, r.dest_name,
            roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived'), roneo.live_condition(c, 'kept'))
        ELSE format(
            E'WITH put AS (\n    %s\n    RETURNING (kept.xmax = 0) AS is_new\n)\nSELECT pg_catalog.jsonb_build_object(''inserted'', pg_catalog.count(*) FILTER (WHERE is_new),\n'
            '                                     ''updated'', pg_catalog.count(*) FILTER (WHERE NOT is_new)) AS counts FROM put', x.statement) END,
        NULL, NULL, NULL, NULL, NULL, 'put', false)::roneo.step
    FROM pg_class AS t, (SELECT roneo.put_changed_statement(r, c, columns, wanted) AS statement) AS x
    WHERE t.oid = r.dest
);
COMMENT ON FUNCTION roneo.put_changed_step(roneo.replica, roneo.capture_replica, name[], text) IS
    'The step that puts what arrived, and answers with how many rows it inserted and updated.';

CREATE OR REPLACE FUNCTION roneo.counting_step(stage integer, purpose text, statement text, counts text)
RETURNS roneo.step LANGUAGE sql IMMUTABLE
RETURN ROW(stage, 'dest', purpose, statement, NULL, NULL, NULL, NULL, NULL, counts, false)::roneo.step;
COMMENT ON FUNCTION roneo.counting_step(integer, text, text, text) IS 'A step on the destination whose number of rows is counted as something.';

-- A key of a parent that changed is there twice for a moment, so that its children can follow; for
-- that unique values must be checked at the end.
CREATE OR REPLACE FUNCTION roneo.removes_later(r roneo.replica, c roneo.capture_replica)
RETURNS boolean LANGUAGE sql STABLE
RETURN roneo.is_referenced(r.dest) AND roneo.clashing_columns(r.dest, c.key_columns) = '{}';
COMMENT ON FUNCTION roneo.removes_later(roneo.replica, roneo.capture_replica) IS
    'Whether rows that are gone are removed after the others were put: foreign keys point at the table.';

-- gone: a condition on the table kept for rows that the source has no more.
CREATE OR REPLACE FUNCTION roneo.remove_gone_step(r roneo.replica, c roneo.capture_replica, answer jsonb, using_rows text, gone text)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN CASE WHEN c.deleted_column IS NULL
    THEN roneo.counting_step(CASE WHEN roneo.removes_later(r, c) THEN 5 ELSE 3 END, 'delete what is gone', format('DELETE FROM %I.%I AS kept%s WHERE %s',
             r.dest_schema, r.dest_name, format(CASE WHEN using_rows IS NOT NULL THEN ' USING %s' END, using_rows), gone), 'deleted')
    ELSE roneo.counting_step(3, 'stamp what is gone', format('UPDATE %I.%I AS kept SET %I = %L::pg_catalog.timestamptz%s WHERE %s%s',
             r.dest_schema, r.dest_name, c.deleted_column, answer #>> '{before,identity,clock}', format(CASE WHEN using_rows IS NOT NULL THEN ' FROM %s' END, using_rows), gone,
             roneo.live_condition(c, 'kept')), 'deleted') END;
COMMENT ON FUNCTION roneo.remove_gone_step(roneo.replica, roneo.capture_replica, jsonb, text, text) IS
    'A step that deletes rows, or for logdel stamps them with the time of the source.';

-- The number of rows that went does not tell: one that was to go could have been gone already.
CREATE OR REPLACE FUNCTION roneo.undeleted_steps(r roneo.replica, c roneo.capture_replica, using_rows text, gone text)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.*
    FROM roneo.dest_step(5, 'see that no trigger kept a row in', format('DO %L', format(
        'BEGIN IF EXISTS (SELECT FROM %I.%I AS kept%s WHERE %s) THEN '
        'RAISE EXCEPTION USING ERRCODE = ''RO014'', MESSAGE = ''rows that are gone from the source are still in the destination'', '
        'HINT = ''Look for a trigger on the destination that prevents deletions.''; END IF; END',
        r.dest_schema, r.dest_name, format(CASE WHEN using_rows IS NOT NULL THEN ', %s' END, using_rows), gone))) AS s
    -- Before each row, at DELETE.
    WHERE c.deleted_column IS NULL
      AND EXISTS (SELECT FROM pg_trigger AS t
                  WHERE (t.tgrelid = r.dest OR t.tgrelid IN (SELECT p.relid FROM pg_partition_tree(r.dest) AS p))
                    AND t.tgtype & 11 = 11 AND t.tgenabled <> 'D');
END;
COMMENT ON FUNCTION roneo.undeleted_steps(roneo.replica, roneo.capture_replica, text, text) IS
    'A step that raises RO014 where rows were to be deleted and are still there; none for a table without a trigger that could do that.';

CREATE OR REPLACE FUNCTION roneo.graves_name(r roneo.replica)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('roneo_deleted_%s', r.replica_id);
COMMENT ON FUNCTION roneo.graves_name(roneo.replica) IS 'The temporary table that the last images of deleted rows arrive in.';

-- The row that is here becomes the first of the deleted ones of its key; a key that was deleted
-- more than once since the position has the others added.
CREATE OR REPLACE FUNCTION roneo.bury_steps(r roneo.replica, c roneo.capture_replica, columns name[])
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.*
    FROM (VALUES (1, roneo.counting_step(3, 'stamp deleted rows, with their last values', format(
            'UPDATE %1$I.%2$I AS kept SET %3$s FROM (SELECT DISTINCT ON (%4$s) * FROM pg_temp.%5$I ORDER BY %4$s, roneo_at) AS arrived WHERE %6$s%7$s',
            r.dest_schema, r.dest_name, concat_ws(', ',
                (SELECT string_agg(format('%1$I = arrived.%1$I', k), ', ') FROM unnest(roneo.settable_columns(r.dest, columns)) AS k),
                format('%I = arrived.roneo_at', c.deleted_column)),
            roneo.column_list(c.key_columns), roneo.graves_name(r),
            roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived'), roneo.live_condition(c, 'kept')), 'deleted')),
        (2, roneo.counting_step(3, 'add rows that came and went meanwhile', format(
            'INSERT INTO %1$I.%2$I (%3$s, %4$I) OVERRIDING SYSTEM VALUE SELECT %3$s, arrived.roneo_at FROM pg_temp.%5$I AS arrived '
            'WHERE NOT EXISTS (SELECT FROM %1$I.%2$I AS kept WHERE %6$s AND kept.%4$I = arrived.roneo_at)',
            r.dest_schema, r.dest_name, roneo.column_list(columns), c.deleted_column, roneo.graves_name(r),
            roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived')), 'deleted'))) AS v (nr, step)
    CROSS JOIN LATERAL (SELECT (v.step).*) AS s
    ORDER BY v.nr;
END;
COMMENT ON FUNCTION roneo.bury_steps(roneo.replica, roneo.capture_replica, name[]) IS 'Steps of logdel for rows that were deleted with their last images.';
