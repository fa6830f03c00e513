-- SQL that reads a queue on the source: what became visible since a position.

CREATE OR REPLACE FUNCTION roneo.pending_condition(c roneo.capture_replica, cut text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws(' AND ',
    format('q.xid OPERATOR(pg_catalog.>=) %L::pg_catalog.xid8', pg_snapshot_xmin(c.position)),
    format('NOT pg_catalog.pg_visible_in_snapshot(q.xid, %L::pg_catalog.pg_snapshot)', c.position),
    format(CASE WHEN cut IS NOT NULL THEN 'q.xid OPERATOR(pg_catalog.<) %L::pg_catalog.xid8' END, cut));
COMMENT ON FUNCTION roneo.pending_condition(roneo.capture_replica, text) IS
    'True for what is in the queue q and was not seen at the position; cut: only of transactions below this one.';

CREATE OR REPLACE FUNCTION roneo.queue_query(c roneo.capture_replica, what text, cut text, condition text DEFAULT NULL)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT string_agg(format('SELECT %s FROM roneo_capture.queue_%s_%s AS q WHERE %s', what, c.capture_id, s,
                             concat_ws(' AND ', roneo.pending_condition(c, cut), condition)), E'\n    UNION ALL ' ORDER BY s)
    FROM generate_series(0, 2) AS s
);
COMMENT ON FUNCTION roneo.queue_query(roneo.capture_replica, text, text, text) IS 'What is pending in the three segments of a queue.';

CREATE OR REPLACE FUNCTION roneo.key_count(packs boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN packs THEN 'CASE WHEN q.p1 IS NULL THEN 1 ELSE pg_catalog.cardinality(q.p1) END' ELSE '1' END;
COMMENT ON FUNCTION roneo.key_count(boolean) IS 'SQL for the number of keys in one row of the queue.';

CREATE OR REPLACE FUNCTION roneo.fresh_tables(c roneo.capture_replica, answer jsonb)
RETURNS oid[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(
    SELECT n.key::oid
    FROM jsonb_each(answer #> '{inside,capture,tables}') AS n
    WHERE NOT c.tables ? n.key AND n.value ->> 'file' IS NOT NULL
    ORDER BY 1);
COMMENT ON FUNCTION roneo.fresh_tables(roneo.capture_replica, jsonb) IS
    'Partitions and children that were not there at the position: they may have been filled before they came.';

-- Which keys, one row each however often they changed, in their order: the rows are then looked up in
-- the order of the index, page by page. One key becomes an array of one, for a function in FROM would
-- cost more for each row of the queue.
CREATE OR REPLACE FUNCTION roneo.keys_query(r roneo.replica, c roneo.capture_replica, answer jsonb, cut text)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT format(E'SELECT DISTINCT %1$s FROM (\n    %2$s) AS d ORDER BY %1$s', k.names, concat_ws(E'\n    UNION ALL ',
        (SELECT string_agg(format('SELECT %s FROM roneo_capture.queue_%s_%s AS q WHERE %s', k.found, c.capture_id, s,
             concat_ws(' AND ', roneo.pending_condition(c, cut), 'q.op IS DISTINCT FROM ''r'' AND q.op IS DISTINCT FROM ''t''')),
             E'\n    UNION ALL ' ORDER BY s)
         FROM generate_series(0, 2) AS s),
        (SELECT string_agg(format('SELECT %s FROM %s AS t WHERE t.tableoid OPERATOR(pg_catalog.=) %s::pg_catalog.oid%s', k.columns, roneo.source_name_of(r), f.leaf,
                    format(' AND (%s)', answer #>> ARRAY['inside', 'capture', 'tables', f.leaf::text, 'bounds'])), E'\n    UNION ALL ' ORDER BY f.leaf)
         FROM unnest(roneo.fresh_tables(c, answer)) AS f (leaf))))
    FROM (SELECT string_agg(format('k%s', n.nr), ', ' ORDER BY n.nr) AS names,
                 string_agg(format(CASE WHEN c.packs THEN 'pg_catalog.unnest(coalesce(q.p%1$s, ARRAY[q.k%1$s])) AS k%1$s' ELSE 'q.k%s' END, n.nr),
                            ', ' ORDER BY n.nr) AS found,
                 string_agg(format('t.%I', n.name), ', ' ORDER BY n.nr) AS columns
          FROM unnest(c.key_columns) WITH ORDINALITY AS n (name, nr)) AS k
);
COMMENT ON FUNCTION roneo.keys_query(roneo.replica, roneo.capture_replica, jsonb, text) IS
    'SQL for the keys that changed since the position, as k1, k2 and so on, and those of all rows of tables that are new in the tree.';

CREATE OR REPLACE FUNCTION roneo.source_rows(r roneo.replica)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN r.filter IS NULL THEN '%1$I.%2$I' ELSE E'(SELECT * FROM %1$I.%2$I WHERE (%3$s\n))' END,
              r.source_schema, r.source_table, r.filter);
COMMENT ON FUNCTION roneo.source_rows(roneo.replica) IS 'The rows of the source that are copied, for a FROM clause.';

-- A batch reads rows as they are now, and so finds rows gone that only a later one buries with their
-- last values: until then they stay.
CREATE OR REPLACE FUNCTION roneo.buried_later(c roneo.capture_replica, answer jsonb, cut text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN c.deleted_column IS NOT NULL AND cut IS NOT NULL THEN (
    SELECT format(E'\nLEFT JOIN (SELECT DISTINCT %s FROM (\n    %s) AS d) AS later ON %s', k.names,
                  roneo.queue_query(c, k.names, NULL, format('q.op OPERATOR(pg_catalog.=) ''d'' AND q.xid OPERATOR(pg_catalog.>=) %L::pg_catalog.xid8', cut)),
                  k.matched)
    FROM (SELECT string_agg(format('k%s', n.nr), ', ' ORDER BY n.nr) AS names,
                 string_agg(format('later.k%1$s %2$s k.k%1$s', n.nr, answer #>> ARRAY['inside', 'capture', 'equality', (n.nr - 1)::text]),
                            ' AND ' ORDER BY n.nr) AS matched
          FROM unnest(c.key_columns) WITH ORDINALITY AS n (name, nr)) AS k) END;
COMMENT ON FUNCTION roneo.buried_later(roneo.capture_replica, jsonb, text) IS
    'For a batch of logdel: a join with the keys whose rows are deleted by transactions behind it; else NULL.';

-- No match: the row is gone, or has left the filter.
CREATE OR REPLACE FUNCTION roneo.changed_rows(r roneo.replica, c roneo.capture_replica, wanted jsonb, answer jsonb, cut text)
RETURNS text LANGUAGE sql STABLE
RETURN format(E'(SELECT %1$s, t.%2$I IS NULL AS roneo_gone\nFROM (%3$s) AS k\nLEFT JOIN %4$s AS t ON %5$s%6$s%7$s)',
    (SELECT string_agg(CASE WHEN n.nr IS NULL THEN format('t.%I', w.col ->> 'name')
                            ELSE format('coalesce(t.%1$I, k.k%2$s) AS %1$I', w.col ->> 'name', n.nr) END, ', ' ORDER BY w.place)
     FROM jsonb_array_elements(wanted) WITH ORDINALITY AS w (col, place)
     LEFT JOIN unnest(c.key_columns) WITH ORDINALITY AS n (name, nr) ON n.name = w.col ->> 'name'),
    c.key_columns[1],
    roneo.keys_query(r, c, answer, cut),
    roneo.source_rows(r),
    (SELECT string_agg(format('t.%I %s k.k%s', n.name, answer #>> ARRAY['inside', 'capture', 'equality', (n.nr - 1)::text], n.nr), ' AND ' ORDER BY n.nr)
     FROM unnest(c.key_columns) WITH ORDINALITY AS n (name, nr)),
    roneo.buried_later(c, answer, cut),
    format(CASE WHEN roneo.buried_later(c, answer, cut) IS NOT NULL THEN E'\nWHERE t.%I IS NOT NULL OR later.k1 IS NULL' END, c.key_columns[1]));
COMMENT ON FUNCTION roneo.changed_rows(roneo.replica, roneo.capture_replica, jsonb, jsonb, text) IS
    'SQL for the keys that changed, each with its row as it is now, or with roneo_gone.';

CREATE OR REPLACE FUNCTION roneo.deleted_rows(r roneo.replica, c roneo.capture_replica, wanted jsonb, answer jsonb, cut text)
RETURNS text LANGUAGE sql STABLE
RETURN format(E'(SELECT %s FROM (\n    %s) AS old%s)',
    concat_ws(', ', roneo.column_list(roneo.column_names(wanted)), 'roneo_at'),
    roneo.queue_query(c, concat_ws(', ', (
        SELECT string_agg(format('q.i%s AS %I', i.nr, i.name), ', ' ORDER BY i.nr)
        FROM jsonb_array_elements_text(answer #> '{inside,capture,image_columns}') WITH ORDINALITY AS i (name, nr)
        -- Others may have more kept, which this role may not read.
        WHERE EXISTS (SELECT FROM jsonb_array_elements(CASE WHEN r.filter IS NULL THEN wanted ELSE answer #> '{inside,relation,columns}' END) AS w (col)
                      WHERE w.col ->> 'name' = i.name AND (w.col ->> 'readable')::boolean)), 'q.at AS roneo_at'),
        cut, 'q.op OPERATOR(pg_catalog.=) ''d'''),
    format(CASE WHEN r.filter IS NOT NULL THEN E' WHERE (%s\n)' END, r.filter));
COMMENT ON FUNCTION roneo.deleted_rows(roneo.replica, roneo.capture_replica, jsonb, jsonb, text) IS
    'SQL for the last images of rows that were deleted since the position.';

-- A batch ends between two transactions, but brings rows as they are now. So one of its rows may have
-- a unique value, or a parent, that only a row behind the batch gives up, or is.
CREATE OR REPLACE FUNCTION roneo.usable_batch_limit(target regclass, c roneo.capture_replica)
RETURNS bigint LANGUAGE sql STABLE
RETURN CASE WHEN NOT EXISTS (
        SELECT FROM pg_index AS i
        WHERE i.indrelid = target AND (i.indisunique OR i.indisexclusion)
          AND (i.indnkeyatts <> cardinality(c.key_columns)
               OR EXISTS (SELECT FROM generate_series(0, i.indnkeyatts - 1) AS n
                          LEFT JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = i.indkey[n]
                          WHERE (a.attname = ANY (c.key_columns)) IS NOT TRUE)))
    AND NOT EXISTS (SELECT FROM pg_constraint AS f WHERE f.contype = 'f' AND f.conrelid = target AND f.confrelid = target)
    THEN c.batch_limit END;
COMMENT ON FUNCTION roneo.usable_batch_limit(regclass, roneo.capture_replica) IS
    'The batch_limit of a replica; NULL where its table has unique indexes other than its key, or references itself: there everything that is pending must come at once.';

CREATE OR REPLACE FUNCTION roneo.pending_query(c roneo.capture_replica, batch_limit bigint)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN c.position IS NULL THEN '''{}''::pg_catalog.jsonb'
    ELSE format($query$(SELECT pg_catalog.jsonb_build_object(
        'keys', coalesce(pg_catalog.sum(p.keys), 0),
        'resyncs', pg_catalog.count(*) FILTER (WHERE p.op = 'r'),
        'truncates', pg_catalog.count(*) FILTER (WHERE p.op = 't'),
        'deletes', pg_catalog.count(*) FILTER (WHERE p.op = 'd'),
        'last', (SELECT l.xid::text FROM (%3$s) AS l ORDER BY l.xid DESC LIMIT 1),
        'cut', %2$s)
    FROM (%1$s) AS p)$query$,
        roneo.queue_query(c, format('q.op, %s AS keys', roneo.key_count(c.packs)), NULL),
        -- Whole transactions, in the order of their numbers; what the position has seen must stay seen.
        CASE WHEN batch_limit IS NULL THEN 'NULL' ELSE format($cut$(
            SELECT b.xid::text FROM (
                SELECT a.xid, pg_catalog.sum(a.keys) OVER (ORDER BY a.xid) - a.keys AS before
                FROM (SELECT x.xid, pg_catalog.sum(x.keys) AS keys FROM (%s) AS x GROUP BY x.xid) AS a) AS b
            WHERE b.before < %s ORDER BY b.xid DESC LIMIT 1)$cut$,
            roneo.queue_query(c, format('q.xid, %s AS keys', roneo.key_count(c.packs)), NULL), batch_limit) END,
        roneo.queue_query(c, 'q.xid', NULL))
    END;
COMMENT ON FUNCTION roneo.pending_query(roneo.capture_replica, bigint) IS
    'SQL for how much is pending: keys, marks, deletions that were kept, and with a batch_limit the last transaction of this batch.';
