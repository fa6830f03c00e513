-- What an inserter or updater asks of its source.

CREATE OR REPLACE FUNCTION roneo.serial_top_query(r roneo.replica, c roneo.control_replica)
RETURNS text LANGUAGE sql STABLE
RETURN CASE roneo.control_class(c.control_type) WHEN 'serial'
    -- NaN and Infinity are no place to count from.
    THEN format('(SELECT pg_catalog.max(%I)::text FROM %s%s)', c.control, roneo.source_name_of(r),
                format(CASE c.control_type WHEN 'numeric' THEN ' WHERE %I %s ''1e1000''::pg_catalog.numeric' END,
                       c.control, roneo.own_operator(c, '<')))
    ELSE 'NULL::text' END;
COMMENT ON FUNCTION roneo.serial_top_query(roneo.replica, roneo.control_replica) IS
    'SQL for the highest number of the source''s control column; NULL for one that is no number.';

-- Clock, then open transactions, then the snapshot, in this order: with the snapshot first, a
-- transaction that ends in between would be seen by neither.
CREATE OR REPLACE FUNCTION roneo.control_before(r roneo.replica, c roneo.control_replica)
RETURNS text LANGUAGE sql STABLE
RETURN format($query$SELECT pg_catalog.jsonb_build_object('identity', %s, 'clock', t.clock, 'top', t.top, 'open', o.list, 'state', %s)
FROM (SELECT pg_catalog.clock_timestamp() AS clock, %s AS top OFFSET 0) AS t
CROSS JOIN LATERAL (
    SELECT pg_catalog.jsonb_agg(DISTINCT CASE l.locktype WHEN 'virtualxid' THEN l.virtualxid
                                         ELSE pg_catalog.concat('p/', l.transactionid) END)
    FROM pg_catalog.pg_locks AS l
    WHERE l.granted AND t.clock IS NOT NULL
      AND (l.locktype = 'virtualxid' AND l.pid <> pg_catalog.pg_backend_pid()
           OR l.locktype = 'transactionid' AND l.pid IS NULL)
    OFFSET 0) AS o (list)$query$,
    roneo.identity_query(),
    CASE WHEN r.source_kind IN ('r', 'p') THEN roneo.state_of(roneo.source_regclass(r)) ELSE 'NULL::text' END,
    -- A view is asked inside, under a search_path of its own; it shows no transactions to be in time for.
    CASE r.source_kind WHEN 'v' THEN 'NULL::text' ELSE roneo.serial_top_query(r, c) END);
COMMENT ON FUNCTION roneo.control_before(roneo.replica, roneo.control_replica) IS
    'The query before the snapshot: identity, the clock or the highest value, then the open transactions; and the state, which only has to be older than the snapshot.';

CREATE OR REPLACE FUNCTION roneo.control_leaves(r roneo.replica)
RETURNS text LANGUAGE sql STABLE
RETURN roneo.files_query(roneo.source_regclass(r));
COMMENT ON FUNCTION roneo.control_leaves(roneo.replica) IS 'SQL for the tables that rows come from, with their files.';

CREATE OR REPLACE FUNCTION roneo.upto_query(r roneo.replica, c roneo.control_replica, ready text)
RETURNS text LANGUAGE sql STABLE
RETURN format(
    'coalesce(%s(SELECT %2$I FROM %3$s WHERE %4$s ORDER BY %2$I DESC LIMIT 1))',
    format(CASE WHEN c.batch_limit IS NOT NULL THEN '(SELECT %1$I FROM %2$s WHERE %3$s ORDER BY %1$I OFFSET %4$s LIMIT 1), ' END,
           c.control, roneo.source_name_of(r), ready, c.batch_limit - 1),
    c.control, roneo.source_name_of(r), ready);
COMMENT ON FUNCTION roneo.upto_query(roneo.replica, roneo.control_replica, text) IS
    'SQL for the highest value that this round reads: all rows of one value or none, so that a limit cannot cut through ties, and always gets on.';

CREATE OR REPLACE FUNCTION roneo.exists_query(relation text, condition text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN coalesce(format(CASE WHEN condition IS NOT NULL THEN 'EXISTS (SELECT FROM %s WHERE %s)' END, relation, condition), 'false');
COMMENT ON FUNCTION roneo.exists_query(text, text) IS 'SQL that tells whether there is such a row; false without a condition.';

CREATE OR REPLACE FUNCTION roneo.rewritten_query(r roneo.replica, c roneo.control_replica, m text)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN c.leaves IS NULL OR c.last_value IS NULL OR NOT roneo.follows_xmin(c) OR c.horizon IS NULL THEN 'false'
    -- Inside of CASE the rows are looked at only where a file is another one; as a condition of the
    -- join PostgreSQL would look at them first, in the whole table.
    ELSE format($query$coalesce((SELECT pg_catalog.bool_or(CASE WHEN roneo_then.value <> roneo_now.value
                THEN EXISTS (SELECT FROM %2$s WHERE %3$s%4$I <= %5$s AND %6$s)
                     AND NOT EXISTS (SELECT FROM %2$s WHERE %3$sNOT (%6$s))
                ELSE false END)
            FROM pg_catalog.jsonb_each_text(roneo_files.list) AS roneo_now
            JOIN pg_catalog.jsonb_each_text(%1$L) AS roneo_then ON roneo_then.key = roneo_now.key), false)$query$,
        c.leaves, roneo.source_name_of(r),
        -- A right to read columns need not include tableoid; for a single table it is not asked.
        CASE WHEN r.source_kind = 'p' OR (SELECT count(*) > 1 FROM jsonb_object_keys(c.leaves))
             THEN 'tableoid = roneo_now.key::pg_catalog.oid AND ' END,
        c.control, roneo.value_literal(c, c.last_value),
        format('(%s OR pg_catalog.age(xmin) <= %s AND pg_catalog.age(xmin) > %s)', roneo.is_distant(c.horizon), roneo.age_of(c.horizon), m))
END;
COMMENT ON FUNCTION roneo.rewritten_query(roneo.replica, roneo.control_replica, text) IS
    'SQL that tells whether a table is in a new file in which all rows have new transactions, some of them below the position: ALTER TABLE does that, and TRUNCATE. VACUUM FULL keeps the transactions.';

-- Who holds rows back: the transaction that the snapshot's xmin names, wherever in the cluster. An
-- autovacuum worker has no role, and a session may outlive its role.
CREATE OR REPLACE FUNCTION roneo.holder_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$(SELECT coalesce(
        (SELECT pg_catalog.format('prepared transaction %L in database %I', p.gid, p.database)
         FROM pg_catalog.pg_prepared_xacts AS p WHERE p.transaction = w.xid),
        (SELECT pg_catalog.concat_ws(' ', pg_catalog.format('process %s', l.pid),
                    pg_catalog.format(CASE WHEN a.usename IS NOT NULL THEN 'of role %I' END, a.usename),
                    pg_catalog.format(CASE WHEN a.datname IS NOT NULL THEN 'in database %I' END, a.datname))
         FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
         WHERE l.locktype = 'transactionid' AND l.granted AND l.transactionid = w.xid LIMIT 1))
    FROM (SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::pg_catalog.xid AS xid) AS w)$query$;
COMMENT ON FUNCTION roneo.holder_query() IS 'SQL that names the oldest open transaction of the source''s cluster.';

CREATE OR REPLACE FUNCTION roneo.chunk_query(r roneo.replica, c roneo.control_replica)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN c.repulling AND c.last_value IS NOT NULL THEN format(
    -- Without x. the order would be that of the text.
    '(SELECT x.%1$I::text FROM %2$s AS x WHERE %3$s ORDER BY x.%1$I OFFSET %4$s LIMIT 1)',
    c.control, roneo.source_name_of(r),
    concat_ws(' AND ',
        roneo.compared(c, '<=', c.last_value), roneo.compared(c, '>', c.repull_from), roneo.compared(c, '<', c.repull_to)),
    coalesce(c.batch_limit, 200000))
    ELSE 'NULL::text' END;
COMMENT ON FUNCTION roneo.chunk_query(roneo.replica, roneo.control_replica) IS
    'SQL for the value before which this chunk of a repull ends; NULL: it is the last one.';

-- Without transactions a position above all rows would hide those that come below it.
CREATE OR REPLACE FUNCTION roneo.top_query(r roneo.replica, c roneo.control_replica)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN c.repulling AND c.last_value IS NOT NULL AND c.repull_to IS NULL AND NOT roneo.follows_xmin(c) THEN format(
    '(SELECT x.%1$I::text FROM %2$s AS x WHERE %3$s ORDER BY x.%1$I DESC LIMIT 1)',
    c.control, roneo.source_name_of(r), roneo.compared(c, '<=', c.last_value))
    ELSE 'NULL::text' END;
COMMENT ON FUNCTION roneo.top_query(roneo.replica, roneo.control_replica) IS
    'SQL for the highest value up to the position that the source still has, for the end of a repull; NULL where it does not matter.';

CREATE OR REPLACE FUNCTION roneo.value_warning(c roneo.control_replica, relation text, ready text)
RETURNS text LANGUAGE sql STABLE
RETURN format('CASE %s%sEND',
    format(CASE WHEN c.batch_limit IS NOT NULL THEN
        'WHEN (SELECT pg_catalog.count(*) > %1$s FROM (SELECT FROM %2$s WHERE %3$s AND %4$I %6$s roneo_upto.value LIMIT %1$s + 1) AS z) '
        'THEN pg_catalog.format(''more than batch_limit, %1$s rows, have the value %%s in column %%I'', roneo_upto.value, %5$L) ' END,
        c.batch_limit, relation, ready, c.control, c.control, roneo.own_operator(c, '=')),
    CASE WHEN roneo.control_class(c.control_type) = 'time'
        THEN format('WHEN roneo_upto.value %s (pg_catalog.now() + interval ''1 day'') AT TIME ZONE %L%s '
                    'THEN pg_catalog.format(''column %%I has a value far in the future: %%s'', %L, roneo_upto.value) ', roneo.own_operator(c, '>'), roneo.written_zone(c),
                    CASE c.control_type WHEN 'timestamp with time zone' THEN ' AT TIME ZONE ''UTC''' END, c.control)
        WHEN roneo.control_class(c.control_type) = 'serial'
        THEN format('WHEN roneo_far.value IS NOT NULL '
                    'THEN pg_catalog.format(''%%s is far above all other values of column %%I, and rows below it are found by a sweep only'', roneo_far.value, %L) ', c.control)
        ELSE 'WHEN false THEN NULL ' END);
COMMENT ON FUNCTION roneo.value_warning(roneo.control_replica, text, text) IS
    'SQL for what to tell a person about the highest value roneo_upto.value of this round: more rows share it than a batch may have, or it lies in the future, or far above all others.';

-- The window follows the highest number, so one that was written by mistake hides the rows to come.
-- A sequence tells which numbers were drawn; without one, or without a right to look at it, a gap of
-- ten times all others, and of a million, is none that grew.
CREATE OR REPLACE FUNCTION roneo.far_query(r roneo.replica, c roneo.control_replica)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN roneo.control_class(c.control_type) IS DISTINCT FROM 'serial' THEN 'NULL::text'
    ELSE format($query$CASE WHEN roneo_upto.value IS NOT NULL THEN (
        SELECT roneo_upto.value::text
        FROM (SELECT roneo_upto.value::pg_catalog.numeric AS top,
                     (SELECT x.%1$I FROM %2$s AS x WHERE x.%1$I %3$s roneo_upto.value ORDER BY x.%1$I DESC LIMIT 1)::pg_catalog.numeric AS next,
                     (SELECT pg_catalog.min(x.%1$I) FROM %2$s AS x)::pg_catalog.numeric AS lowest,
                     (SELECT pg_catalog.max(CASE WHEN pg_catalog.has_sequence_privilege(q.seqrelid, 'SELECT,USAGE')
                                                 THEN pg_catalog.pg_sequence_last_value(q.seqrelid) END)::pg_catalog.numeric
                      FROM pg_catalog.pg_sequence AS q
                      JOIN pg_catalog.pg_depend AS d ON d.objid = q.seqrelid AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = %4$s
                      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                      WHERE a.attname = %5$L AND q.seqincrement > 0::bigint) AS drawn OFFSET 0) AS n
        WHERE CASE WHEN n.drawn IS NOT NULL THEN least(n.top - n.drawn, n.top - n.next) > %6$L::pg_catalog.numeric
                   ELSE n.top - n.next > 10::pg_catalog.numeric * greatest(n.next - n.lowest, 100000::pg_catalog.numeric) END) END$query$,
        c.control, roneo.source_name_of(r), roneo.own_operator(c, '<'), roneo.source_regclass(r), c.control, coalesce(c.look_back, '0'))
END;
COMMENT ON FUNCTION roneo.far_query(roneo.replica, roneo.control_replica) IS
    'SQL for the highest number of this round where it lies far above all others; NULL where it does not, or is no number.';

-- The functions that a view calls find their names when it is read, in the search_path of then: the
-- one that the replica was registered under. What describes the view is asked before that: the
-- names of types depend on the path too. One query could not do it: a function may be inlined
-- when it is planned.
CREATE OR REPLACE FUNCTION roneo.path_of_view(r roneo.replica)
RETURNS text LANGUAGE sql STABLE
RETURN CASE r.source_kind WHEN 'v' THEN format(
    'SELECT pg_catalog.set_config(''roneo.relation'', (%s)::pg_catalog.text, true); SELECT pg_catalog.set_config(''search_path'', %L, true); ',
    roneo.relation_query(roneo.source_regclass(r)), r.filter_path) END;
COMMENT ON FUNCTION roneo.path_of_view(roneo.replica) IS
    'Statements before the query inside the snapshot: for a view, its description goes into a setting of the transaction, and the search_path that it was registered under is taken.';

CREATE OR REPLACE FUNCTION roneo.control_inside(r roneo.replica, c roneo.control_replica, x text, m text)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT format($query$%14$sSELECT pg_catalog.jsonb_build_object(
    'relation', (%1$s),
    'snapshot', pg_catalog.pg_current_snapshot()::text,
    'lsn', CASE WHEN NOT pg_catalog.pg_is_in_recovery() AND pg_catalog.current_setting('synchronous_commit') = 'off' THEN pg_catalog.pg_current_wal_insert_lsn() END,
    'leaves', roneo_files.list,
    'upto', roneo_upto.value::text,
    'cut', %2$s,
    'warning', %3$s,
    'late', %4$s,
    'swept', %5$s,
    'nulls', %6$s,
    'held_from', %7$s,
    'holder', %8$s,
    'rewritten', %9$s,
    'chunk_to', %10$s,
    'repulled_to', %11$s,
    'top', %15$s,
    'far', roneo_far.value)
FROM (SELECT %12$s AS value OFFSET 0) AS roneo_upto
CROSS JOIN (SELECT (%13$s) AS list OFFSET 0) AS roneo_files
CROSS JOIN LATERAL (SELECT %16$s AS value OFFSET 0) AS roneo_far$query$,
        CASE r.source_kind WHEN 'v' THEN 'pg_catalog.current_setting(''roneo.relation'')::pg_catalog.jsonb'
                           ELSE roneo.relation_query(roneo.source_regclass(r)) END,
        CASE WHEN c.batch_limit IS NULL THEN 'false' ELSE roneo.exists_query(q.relation, format('%s AND %I %s roneo_upto.value', q.ready, c.control, roneo.own_operator(c, '>'))) END,
        roneo.value_warning(c, q.relation, q.ready),
        roneo.exists_query(q.relation, roneo.late_condition(c, false, x, m)),
        CASE WHEN roneo.sweep_is_due(c) THEN roneo.exists_query(q.relation, roneo.late_condition(c, true, x, m)) ELSE 'NULL::boolean' END,
        roneo.exists_query(q.relation, CASE c.null_control WHEN 'read' THEN roneo.null_condition(c, x, m)
                                                           WHEN 'refuse' THEN format('%I IS NULL', c.control) END),
        CASE WHEN roneo.ready_condition(c, x, m) IS NULL THEN 'NULL::text'
             ELSE format('(SELECT x.%1$I::text FROM %2$s AS x WHERE %3$s ORDER BY x.%1$I LIMIT 1)', c.control, q.relation,
                 concat_ws(' AND ', format('%I IS NOT NULL', c.control),
                     format(CASE WHEN c.window_start IS NOT NULL THEN '%I >= %s' END, c.control, roneo.value_literal(c, c.window_start)),
                     roneo.held_condition(x, m))) END,
        CASE WHEN roneo.ready_condition(c, x, m) IS NULL THEN 'NULL::text' ELSE roneo.holder_query() END,
        roneo.rewritten_query(r, c, m),
        roneo.chunk_query(r, c),
        roneo.top_query(r, c),
        roneo.upto_query(r, c, q.ready),
        CASE r.source_kind WHEN 'v' THEN 'SELECT ''{}''::pg_catalog.jsonb' ELSE roneo.control_leaves(r) END,
        roneo.path_of_view(r),
        CASE r.source_kind WHEN 'v' THEN roneo.serial_top_query(r, c) ELSE 'NULL::text' END,
        roneo.far_query(r, c))
    FROM (SELECT roneo.source_name_of(r) AS relation,
                 concat_ws(' AND ', roneo.new_condition(c, NULL, x, m),
                           roneo.bound_condition(c, roneo.source_name_of(r))) AS ready) AS q
);
COMMENT ON FUNCTION roneo.control_inside(roneo.replica, roneo.control_replica, text, text) IS
    'The query inside the snapshot: how far there is something to read, and whether anything is late, held, or without a value.';

CREATE OR REPLACE FUNCTION roneo.control_probe(r roneo.replica, c roneo.control_replica)
RETURNS roneo.probe LANGUAGE sql STABLE
RETURN ROW(
    roneo.control_before(r, c),
    CASE WHEN r.source_lockable THEN format('LOCK TABLE %s IN ACCESS SHARE MODE', roneo.source_name_of(r)) END,
    roneo.control_inside(r, c, roneo.age_of_snapshot('xmin'), roneo.age_of_snapshot('xmax'))
)::roneo.probe;
COMMENT ON FUNCTION roneo.control_probe(roneo.replica, roneo.control_replica) IS
    'What a method that follows a control column asks of the source.';
