-- Which rows of a source an inserter or updater reads: new ones above its position, and late ones
-- below it, known by the transaction that wrote them.
--
-- A row is held while a transaction older than its writer is open: age(xmin) <= age(X), X being the
-- snapshot's xmin. Frozen rows keep their raw xmin, which wraps; hence age(xmin) > age(M) too, M
-- being the snapshot's xmax. A replica without a key leaves held rows for later, and so reads each
-- row exactly once; one with a key reads them at once, and again until X has passed them.

CREATE OR REPLACE FUNCTION roneo.follows_xmin(c roneo.control_replica)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN c.reads_xmin AND (c.key_columns IS NOT NULL OR c.append_only);
COMMENT ON FUNCTION roneo.follows_xmin(roneo.control_replica) IS
    'Whether late rows are known by their transaction. Without a key a new xmin can be an updated row too, unless the user says that there are none.';

CREATE OR REPLACE FUNCTION roneo.value_literal(c roneo.control_replica, value text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN value IS NOT NULL THEN '%L::%s' END, value, c.control_type);
COMMENT ON FUNCTION roneo.value_literal(roneo.control_replica, text) IS
    'A control value as a literal of its type: it never passes through a client''s type.';

-- A view is read under the search_path that it was registered under, and there may be operators in
-- it that fit better: for types such as varchar, and for domains.
CREATE OR REPLACE FUNCTION roneo.own_operator(c roneo.control_replica, sign text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN c.reads_xmin THEN sign ELSE format('OPERATOR(pg_catalog.%s)', sign) END;
COMMENT ON FUNCTION roneo.own_operator(roneo.control_replica, text) IS
    'PostgreSQL''s own operator, by its full name where the source is read under a search_path that is not ours.';

CREATE OR REPLACE FUNCTION roneo.compared(c roneo.control_replica, sign text, value text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN value IS NOT NULL THEN '%I %s %s' END, c.control, roneo.own_operator(c, sign), roneo.value_literal(c, value));
COMMENT ON FUNCTION roneo.compared(roneo.control_replica, text, text) IS
    'A condition that compares the control column with a value; NULL without one.';

CREATE OR REPLACE FUNCTION roneo.age_of(x xid8)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN x IS NOT NULL THEN '(SELECT pg_catalog.age(%L::pg_catalog.xid))' END,
              (x::text::numeric % 4294967296)::text);
COMMENT ON FUNCTION roneo.age_of(xid8) IS 'An SQL expression for the age of a transaction on the source.';

-- age() tells the order of transactions that are less than two billion apart.
CREATE OR REPLACE FUNCTION roneo.is_distant(x xid8)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::pg_catalog.numeric - %s >= 2147483647)', x::text);
COMMENT ON FUNCTION roneo.is_distant(xid8) IS
    'An SQL expression that is true where the source has had too many transactions since that one to know older from newer ones.';

-- In the probe the snapshot is not known yet as a value.
CREATE OR REPLACE FUNCTION roneo.age_of_snapshot(bound text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(SELECT pg_catalog.age(pg_catalog.pg_snapshot_%s(pg_catalog.pg_current_snapshot())::pg_catalog.xid))', bound);
COMMENT ON FUNCTION roneo.age_of_snapshot(text) IS
    'An SQL expression for the age of the xmin or xmax of the snapshot it runs under.';

-- The first comparison names no column: where nothing is open the rows are not looked at at all.
CREATE OR REPLACE FUNCTION roneo.held_condition(x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(%1$s > %2$s AND pg_catalog.age(xmin) <= %1$s AND pg_catalog.age(xmin) > %2$s)', x, m);
COMMENT ON FUNCTION roneo.held_condition(text, text) IS
    'True for a row whose transaction is not older than all that are open.';

CREATE OR REPLACE FUNCTION roneo.since_condition(c roneo.control_replica, since xid8, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN since IS NULL OR NOT roneo.follows_xmin(c) THEN NULL
    WHEN c.key_columns IS NULL THEN format('pg_catalog.age(xmin) <= %s AND pg_catalog.age(xmin) > %s', roneo.age_of(since), x)
    ELSE format('(%s OR pg_catalog.age(xmin) <= %s AND pg_catalog.age(xmin) > %s)', roneo.is_distant(since), roneo.age_of(since), m)
END;
COMMENT ON FUNCTION roneo.since_condition(roneo.control_replica, xid8, text, text) IS
    'True for a row written since a horizon; of a replica without a key, and not held. With one, for all rows where that can no longer be told.';

CREATE OR REPLACE FUNCTION roneo.ready_condition(c roneo.control_replica, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN roneo.follows_xmin(c) AND c.key_columns IS NULL
            THEN format('NOT %s', roneo.held_condition(x, m)) END;
COMMENT ON FUNCTION roneo.ready_condition(roneo.control_replica, text, text) IS
    'True for a row that need not wait; NULL where none has to.';

-- The transaction's own start, which precedes its snapshot.
CREATE OR REPLACE FUNCTION roneo.bound_condition(c roneo.control_replica, relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN roneo.control_class(c.control_type) = 'time'
         AND (c.boundary::interval <> interval '0' OR NOT roneo.follows_xmin(c))
        THEN format('%I %s ((pg_catalog.now() - %L::pg_catalog.interval) AT TIME ZONE %L)%s', c.control, roneo.own_operator(c, '<'), c.boundary,
                    roneo.written_zone(c), CASE c.control_type WHEN 'timestamp with time zone' THEN ' AT TIME ZONE ''UTC'''
                                                               WHEN 'date' THEN '::pg_catalog.date' END)
    WHEN roneo.control_class(c.control_type) = 'serial' AND c.boundary::numeric <> 0
        THEN format('%1$I %4$s ((SELECT pg_catalog.max(%1$I) FROM %2$s) %5$s %3$s)', c.control, relation, c.boundary::numeric,
                    roneo.own_operator(c, '<='), roneo.own_operator(c, '-'))
END;
COMMENT ON FUNCTION roneo.bound_condition(roneo.control_replica, text) IS
    'The upper bound that the boundary gives; NULL for none.';

CREATE OR REPLACE FUNCTION roneo.new_condition(c roneo.control_replica, upto text, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws(' AND ',
    coalesce(roneo.compared(c, '>', c.last_value), format('%I IS NOT NULL', c.control)),
    roneo.compared(c, '<=', upto),
    roneo.ready_condition(c, x, m));
COMMENT ON FUNCTION roneo.new_condition(roneo.control_replica, text, text, text) IS
    'True for a row above the position that can be read now.';

CREATE OR REPLACE FUNCTION roneo.late_condition(c roneo.control_replica, swept boolean, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN c.last_value IS NULL THEN NULL
    -- Nothing is known of what an adopted table without a key has of them.
    WHEN c.horizon IS NULL AND c.key_columns IS NULL THEN NULL
    WHEN roneo.follows_xmin(c) THEN
        concat_ws(' AND ',
            format(CASE WHEN c.window_start IS NOT NULL AND NOT swept THEN '%I >= %s' END,
                   c.control, roneo.value_literal(c, c.window_start)),
            format('%I <= %s', c.control, roneo.value_literal(c, c.last_value)),
            coalesce(roneo.since_condition(c, CASE WHEN swept AND c.key_columns IS NOT NULL
                                                   THEN coalesce(c.swept, c.horizon) ELSE c.horizon END, x, m), 'true'))
    -- Without xmin a key still lets the look-back be read again.
    WHEN c.key_columns IS NOT NULL AND c.window_start IS NOT NULL THEN
        format('%s AND %s', roneo.compared(c, '>=', c.window_start), roneo.compared(c, '<=', c.last_value))
END;
COMMENT ON FUNCTION roneo.late_condition(roneo.control_replica, boolean, text, text) IS
    'True for a row at or below the position that may not have been read; NULL where that cannot be known. swept: looked for in the whole table.';

CREATE OR REPLACE FUNCTION roneo.repulls_nulls(c roneo.control_replica)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN c.repulling AND c.last_value IS NOT NULL AND c.null_control = 'read'
   AND c.repull_from IS NULL AND c.repull_to IS NULL;
COMMENT ON FUNCTION roneo.repulls_nulls(roneo.control_replica) IS
    'Whether this round pulls the rows without a control value again: the first one of a repull of everything.';

CREATE OR REPLACE FUNCTION roneo.null_condition(c roneo.control_replica, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN c.null_control = 'read'
    THEN concat_ws(' AND ', format('%I IS NULL', c.control),
                   coalesce(CASE WHEN NOT roneo.repulls_nulls(c) THEN roneo.since_condition(c, c.horizon, x, m) END,
                            roneo.ready_condition(c, x, m)))
END;
COMMENT ON FUNCTION roneo.null_condition(roneo.control_replica, text, text) IS
    'True for a row without a control value that may not have been read; NULL where such rows are not wanted.';

CREATE OR REPLACE FUNCTION roneo.grouped(condition text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN condition <> '' THEN '(%s)' END, condition);
COMMENT ON FUNCTION roneo.grouped(text) IS 'A condition in parentheses; NULL for none.';

CREATE OR REPLACE FUNCTION roneo.leaf_condition(operator text, leaves oid[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN cardinality(leaves) > 0 THEN 'tableoid %s (%L::pg_catalog.oid[])' END, operator, leaves);
COMMENT ON FUNCTION roneo.leaf_condition(text, oid[]) IS
    'True for rows of some leaves (= ANY) or of all others (<> ALL); NULL where there are no such leaves.';

-- One range of the index, from the lowest value that can matter.
CREATE OR REPLACE FUNCTION roneo.range_condition(
    c roneo.control_replica, swept boolean, upto text, fresh_leaves oid[], chunk text, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE WHEN parts.either IS NOT NULL THEN concat_ws(' AND ',
        CASE WHEN c.window_start IS NOT NULL AND c.last_value IS NOT NULL AND NOT swept
             THEN roneo.compared(c, '>=', c.window_start) END,
        roneo.leaf_condition('<> ALL', fresh_leaves),
        format(CASE WHEN chunk IS NOT NULL THEN 'NOT (%s)' END, chunk),
        parts.either) END
    FROM (SELECT roneo.grouped(concat_ws(' OR ',
        CASE WHEN upto IS NOT NULL THEN roneo.grouped(roneo.new_condition(c, upto, x, m)) END,
        roneo.grouped(roneo.late_condition(c, swept, x, m))))) AS parts (either)
);
COMMENT ON FUNCTION roneo.range_condition(roneo.control_replica, boolean, text, oid[], text, text, text) IS
    'The new and the late rows, but for a chunk and for leaves that are read whole.';

CREATE OR REPLACE FUNCTION roneo.window_condition(
    c roneo.control_replica, swept boolean, upto text, fresh_leaves oid[], chunk text, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws(' OR ',
    roneo.grouped(roneo.range_condition(c, swept, upto, fresh_leaves, chunk, x, m)),
    roneo.grouped(CASE WHEN chunk IS NOT NULL
        THEN concat_ws(' AND ', chunk, roneo.leaf_condition('<> ALL', fresh_leaves), roneo.ready_condition(c, x, m)) END),
    roneo.grouped(CASE WHEN cardinality(fresh_leaves) > 0
        THEN concat_ws(' AND ', roneo.leaf_condition('= ANY', fresh_leaves),
                       format(CASE c.null_control WHEN 'read' THEN '(%1$I <= %2$s OR %1$I IS NULL)' ELSE '%1$I <= %2$s' END,
                              c.control, roneo.value_literal(c, coalesce(upto, c.last_value))),
                       roneo.ready_condition(c, x, m)) END),
    roneo.grouped(CASE WHEN roneo.null_condition(c, x, m) IS NOT NULL
        THEN concat_ws(' AND ', roneo.null_condition(c, x, m), roneo.leaf_condition('<> ALL', fresh_leaves)) END));
COMMENT ON FUNCTION roneo.window_condition(roneo.control_replica, boolean, text, oid[], text, text, text) IS
    'Which rows one round reads: new, late, of a chunk that is pulled again, of leaves that were not there before, and without a control value. Each row fits only one of these, and is sent once.';
