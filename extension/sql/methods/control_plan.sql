-- How an inserter or updater turns an answer into steps. Both read the same rows; they differ in
-- what happens to a row whose key is there already.

CREATE OR REPLACE FUNCTION roneo.require_same_source(r roneo.replica, answer jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    difference text := roneo.identity_warning(r, answer);
BEGIN
    IF difference IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO022',
            MESSAGE = format('the position of %I.%I is of no use: %s', r.dest_schema, r.dest_name, difference),
            DETAIL  = 'Rows may have been undone there, or come again under other transactions.',
            HINT    = format(CASE WHEN r.method IN ('dml', 'logdel')
                THEN 'If it is the same data (a promoted standby that had everything, pg_upgrade): SELECT roneo.accept_source(%1$L). Else SELECT roneo.resync(%1$L): the next refresh compares the whole table.'
                ELSE 'If it is the same data (a promoted standby that had everything, pg_upgrade): SELECT roneo.accept_source(%1$L). Else that, and then CALL roneo.repull(%1$L), which makes the copy equal again.' END,
                format('%I.%I', r.dest_schema, r.dest_name));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_same_source(roneo.replica, jsonb) IS
    'Raises RO022 where the answer came from another cluster, timeline or table than the position.';

CREATE OR REPLACE FUNCTION roneo.require_no_blackout(r roneo.replica, c roneo.control_replica, answer jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pause tstzrange := roneo.blackout_at(c, (answer #>> '{before,clock}')::timestamptz);
BEGIN
    IF pause IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO020',
            MESSAGE = format('the clock of %s changes: %I.%I waits until %s', c.control_zone, r.dest_schema, r.dest_name,
                             to_char(upper(pause) AT TIME ZONE c.control_zone, 'YYYY-MM-DD HH24:MI')),
            DETAIL  = format('Values of %I have no time zone, and an hour of them is skipped or comes twice.', c.control),
            HINT    = 'The next refresh after that reads everything. blackout => ''off'' leaves the pause out.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_no_blackout(roneo.replica, roneo.control_replica, jsonb) IS
    'Raises RO020 during the pause around a change of the source''s clock.';

CREATE OR REPLACE FUNCTION roneo.fresh_leaves(c roneo.control_replica, answer jsonb)
RETURNS oid[] LANGUAGE sql STABLE
RETURN ARRAY(
    SELECT n.key::oid
    FROM jsonb_each(coalesce(answer #> '{inside,leaves}', '{}')) AS n
    WHERE c.leaves IS NOT NULL AND c.last_value IS NOT NULL
      AND coalesce(c.leaves -> n.key, 'null') = 'null'
    ORDER BY 1);
COMMENT ON FUNCTION roneo.fresh_leaves(roneo.control_replica, jsonb) IS
    'Leaves that were attached since the last refresh: their rows are older than that, and read whole.';

CREATE OR REPLACE FUNCTION roneo.require_readable_rows(r roneo.replica, c roneo.control_replica, answer jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source text := roneo.source_name_of(r);
    problem text;
BEGIN
    IF c.null_control = 'refuse' AND (answer #>> '{inside,nulls}')::boolean THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO023',
            MESSAGE = format('rows of source table %s have no value in the control column %I', source, c.control),
            HINT    = 'Create the replica with null_control => ''read'' (they are known by their transaction) or ''ignore''.';
    END IF;
    IF c.key_columns IS NULL AND roneo.follows_xmin(c) THEN
        problem := CASE
            WHEN roneo.answered_xid(answer, 'xmax')::text::numeric - c.horizon::text::numeric >= 2147483647
                THEN format('source table %s has not been read for two billion transactions', source)
            WHEN (answer #>> '{inside,rewritten}')::boolean
                THEN format('source table %s was rewritten, and each of its rows has a new transaction', source)
            WHEN EXISTS (SELECT FROM unnest(roneo.fresh_leaves(c, answer)) AS f WHERE c.leaves ? f::text)
                THEN format('a partition of source table %s has come back after it was gone', source) END;
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO021',
            MESSAGE = problem,
            DETAIL  = format('%I.%I has no key, and cannot tell which of those rows it has.', r.dest_schema, r.dest_name),
            HINT    = format('If it has them all: SELECT roneo.accept_source(%L). Else that, and then CALL roneo.repull(%L).',
                             format('%I.%I', r.dest_schema, r.dest_name), format('%I.%I', r.dest_schema, r.dest_name));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_readable_rows(roneo.replica, roneo.control_replica, jsonb) IS
    'Raises RO023 for rows without a control value that are refused, and RO021 where a replica without a key would take rows twice.';

CREATE OR REPLACE FUNCTION roneo.chunk_condition(c roneo.control_replica, answer jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN c.repulling AND c.last_value IS NOT NULL THEN concat_ws(' AND ',
    roneo.compared(c, '<=', c.last_value), roneo.compared(c, '>=', c.repull_from),
    roneo.compared(c, '<', coalesce(answer #>> '{inside,chunk_to}', c.repull_to))) END;
COMMENT ON FUNCTION roneo.chunk_condition(roneo.control_replica, jsonb) IS
    'The half-open range that this round of a repull makes equal; NULL without one.';

CREATE OR REPLACE FUNCTION roneo.remove_step(stage integer, statement text)
RETURNS roneo.step LANGUAGE sql IMMUTABLE
RETURN ROW(stage, 'dest', 'remove rows of the range that is pulled again', statement,
           NULL, NULL, NULL, NULL, NULL, 'deleted', false)::roneo.step;
COMMENT ON FUNCTION roneo.remove_step(integer, text) IS 'A step that deletes rows, and counts them.';

-- Without a key the rows are deleted before they are read again. With one, those that are the same
-- on both sides stay: deleting them would take what references them along. An inserter leaves a row
-- that is there; so what differs has to go. Its rows keep the values that they came with: one whose
-- control column grew since is not gone from the source, only from the range, if that has an end.
CREATE OR REPLACE FUNCTION roneo.clear_range_steps(
    r roneo.replica, c roneo.control_replica, columns name[], overwrite boolean, chunk text)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target text := format('%I.%I', r.dest_schema, r.dest_name);
    doomed text := CASE WHEN roneo.repulls_nulls(c) THEN format('(%s OR %I IS NULL)', chunk, c.control) ELSE chunk END;
BEGIN
    IF c.key_columns IS NULL THEN
        RETURN NEXT roneo.remove_step(1, format('DELETE FROM %s WHERE %s', target, doomed));
        RETURN NEXT roneo.dest_step(1, 'see that the range is empty', roneo.empty_check(format('%s WHERE %s', target, doomed)));
        RETURN;
    END IF;
    IF NOT overwrite THEN
        RETURN NEXT roneo.remove_step(3, format(
            'DELETE FROM %s AS kept USING (SELECT * FROM pg_temp.%I WHERE %s) AS arrived WHERE %s AND ROW(%s)::record OPERATOR(pg_catalog.*<>) ROW(%s)::record',
            target, roneo.staging_name(r), doomed, roneo.same_key(r.dest, c.key_columns, 'arrived', 'kept'),
            (SELECT string_agg(format('kept.%I', k), ', ') FROM unnest(columns) AS k),
            (SELECT string_agg(format('arrived.%I', k), ', ') FROM unnest(columns) AS k)));
    END IF;
    IF overwrite OR c.repull_to IS NULL THEN
        RETURN NEXT roneo.remove_step(3, format(
            'DELETE FROM %s AS kept WHERE %s AND NOT EXISTS (SELECT FROM pg_temp.%I AS arrived WHERE %s)',
            target, doomed, roneo.staging_name(r), roneo.same_key(r.dest, c.key_columns, 'arrived', 'kept')));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.clear_range_steps(roneo.replica, roneo.control_replica, name[], boolean, text) IS
    'Steps that delete what a chunk of a repull is to replace; with a key, only what the source has no more, or has another way.';

CREATE OR REPLACE FUNCTION roneo.has_news(c roneo.control_replica, answer jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN answer #>> '{inside,upto}' IS NOT NULL
    OR coalesce((answer #>> '{inside,late}')::boolean, false)
    OR c.null_control = 'read' AND coalesce((answer #>> '{inside,nulls}')::boolean, false)
    OR cardinality(roneo.fresh_leaves(c, answer)) > 0
    OR c.repulling
    OR roneo.is_swept(c, answer) AND coalesce((answer #>> '{inside,swept}')::boolean, true);
COMMENT ON FUNCTION roneo.has_news(roneo.control_replica, jsonb) IS 'Whether there is anything to read.';

-- A table that joins the tree between the snapshot and the reading brings rows that the snapshot sees.
-- The next refresh finds it new, and reads it whole: without a key its rows would come twice.
CREATE OR REPLACE FUNCTION roneo.known_leaves_condition(r roneo.replica, c roneo.control_replica, answer jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(roneo.leaf_condition('= ANY', l.leaves), 'false')
    FROM (SELECT ARRAY(SELECT k::oid FROM jsonb_object_keys(answer #> '{inside,leaves}') AS k ORDER BY 1)) AS l (leaves)
    -- A right to read columns of a single table need not include tableoid.
    WHERE c.key_columns IS NULL AND roneo.follows_xmin(c)
      AND (r.source_lockable OR r.source_kind = 'p' OR cardinality(l.leaves) > 1)
);
COMMENT ON FUNCTION roneo.known_leaves_condition(roneo.replica, roneo.control_replica, jsonb) IS
    'True for rows of the tables that the snapshot''s catalog shows; NULL for a replica with a key, which may read a row twice.';

CREATE OR REPLACE FUNCTION roneo.window_select(r roneo.replica, c roneo.control_replica, answer jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat_ws(' AND ',
        CASE WHEN concat(w.known, r.filter) = '' THEN w.condition ELSE format('(%s)', w.condition) END,
        w.known,
        format(CASE WHEN r.filter IS NOT NULL THEN E'(%s\n)' END, r.filter))
    FROM (SELECT roneo.known_leaves_condition(r, c, answer) AS known,
                 roneo.window_condition(c, roneo.is_swept(c, answer), answer #>> '{inside,upto}',
              roneo.fresh_leaves(c, answer), roneo.chunk_condition(c, answer),
              roneo.age_of(roneo.answered_xid(answer, 'xmin')),
              roneo.age_of(roneo.answered_xid(answer, 'xmax'))) AS condition) AS w
);
COMMENT ON FUNCTION roneo.window_select(roneo.replica, roneo.control_replica, jsonb) IS
    'The condition of the rows that this round reads, the filter included.';

CREATE OR REPLACE FUNCTION roneo.read_step(
    r roneo.replica, answer jsonb, condition text, wanted jsonb, into_schema name, into_name name)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT t.*
    FROM roneo.source AS s
    CROSS JOIN LATERAL roneo.transfer_step('read new and late rows', r.source_schema, r.source_table, wanted,
        roneo.local_relation(r.dest) -> 'columns', condition, into_schema, into_name, false, s.source_encoding) AS t
    WHERE s.source_id = r.source_id;
END;
COMMENT ON FUNCTION roneo.read_step(roneo.replica, jsonb, text, jsonb, name, name) IS
    'The step that reads the rows of a window into the destination or its staging table.';

-- Staging costs as much again as the COPY. Into an empty table it is not needed: a key comes once.
-- Nor for an inserter whose control column is in the key, when there is nothing but rows above the
-- position: no row of the destination has such a key, unless it has rows above the position. With a
-- key apart that cannot be told, but is nearly always so: it is attempted, and where a row is there
-- after all, everything begins anew by way of staging, until a refresh meets no row any more.
CREATE OR REPLACE FUNCTION roneo.way_in(
    r roneo.replica, c roneo.control_replica, answer jsonb, wanted jsonb, overwrite boolean)
RETURNS text LANGUAGE sql STABLE
RETURN CASE
    WHEN c.key_columns IS NULL THEN 'transfer'
    WHEN c.repulling OR NOT c.key_is_unique OR NOT roneo.same_keys(r.dest, c.key_columns, wanted) THEN 'staging'
    WHEN c.last_value IS NULL THEN CASE WHEN roneo.has_rows(r.dest, NULL, NULL) IS FALSE THEN 'transfer' ELSE 'staging' END
    WHEN overwrite OR coalesce((answer #>> '{inside,late}')::boolean, true) OR roneo.is_swept(c, answer)
         OR c.null_control = 'read' AND coalesce((answer #>> '{inside,nulls}')::boolean, true)
         OR cardinality(roneo.fresh_leaves(c, answer)) > 0 THEN 'staging'
    WHEN c.control = ANY (c.key_columns) AND roneo.control_class(c.control_type) <> 'order'
         AND roneo.has_rows(r.dest, c.control, roneo.value_literal(c, c.last_value)) IS FALSE THEN 'transfer'
    WHEN c.met_rows OR coalesce((answer #>> '{options,staging}')::boolean, false) OR NOT roneo.has_arbiter(r.dest, c.key_columns) THEN 'staging'
    ELSE 'attempt' END;
COMMENT ON FUNCTION roneo.way_in(roneo.replica, roneo.control_replica, jsonb, jsonb, boolean) IS
    'How rows get into the table: transfer, into it, where none that arrives can have a key that is there; attempt, into it, where that is likely, and its unique index would say so; or staging.';

CREATE OR REPLACE FUNCTION roneo.plan_control(r roneo.replica, c roneo.control_replica, answer jsonb, overwrite boolean)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted    jsonb := roneo.wanted_source_columns(r, answer);
    columns   name[] := ARRAY(SELECT p.name FROM roneo.pair_columns(wanted, roneo.local_relation(r.dest) -> 'columns') AS p
                              ORDER BY p."position");
    condition text;
    chunk     text := roneo.chunk_condition(c, answer);
    way       text;
    reading   roneo.step;
BEGIN
    PERFORM roneo.require_same_source(r, answer);
    PERFORM roneo.require_no_blackout(r, c, answer);
    PERFORM roneo.require_readable_rows(r, c, answer);
    IF NOT roneo.has_news(c, answer) THEN
        RETURN;
    END IF;
    condition := roneo.window_select(r, c, answer);
    RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
    IF chunk IS NOT NULL THEN
        RETURN QUERY SELECT * FROM roneo.clear_range_steps(r, c, columns, overwrite, chunk);
    END IF;
    way := roneo.way_in(r, c, answer, wanted, overwrite);
    IF way <> 'staging' THEN
        SELECT * INTO reading FROM roneo.read_step(r, answer, condition, wanted, r.dest_schema, r.dest_name);
        reading.kind := way;
        RETURN NEXT reading;
    ELSE
        RETURN NEXT roneo.staging_step(r, columns);
        RETURN QUERY SELECT * FROM roneo.read_step(r, answer, condition, wanted, 'pg_temp', roneo.staging_name(r));
        RETURN NEXT roneo.put_step(r, c.key_columns, columns,
            CASE WHEN overwrite THEN roneo.settable_columns(r.dest, columns) END, CASE WHEN NOT c.key_is_unique THEN c.control END);
        RETURN QUERY SELECT * FROM roneo.swallowed_steps(r, c.key_columns);
        RETURN NEXT roneo.dest_step(5, 'drop the staging table', format('DROP TABLE pg_temp.%I', roneo.staging_name(r)));
    END IF;
    RETURN NEXT roneo.moved_step(r);
    RETURN QUERY SELECT * FROM roneo.on_disk_step(answer);
END;
$$;
COMMENT ON FUNCTION roneo.plan_control(roneo.replica, roneo.control_replica, jsonb, boolean) IS
    'Steps of an inserter (overwrite false) or updater: nothing where nothing is new or late; straight into the table where no key can be there, else by way of a staging table.';

-- Late rows are staged because some are expected to be there; of new ones they tell nothing.
CREATE OR REPLACE FUNCTION roneo.meets_rows(c roneo.control_replica, answer jsonb, result jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN CASE WHEN coalesce((answer #>> '{inside,late}')::boolean, false) AND NOT coalesce((answer #>> '{options,staging}')::boolean, false)
            THEN c.met_rows
            ELSE coalesce((
    SELECT (SELECT sum((t.step ->> 'received')::bigint) FROM jsonb_array_elements(result -> 'steps') AS t (step) WHERE t.step ->> 'kind' = 'transfer')
           > sum((p.step #>> '{answer,inserted}')::bigint)
    FROM jsonb_array_elements(result -> 'steps') AS p (step) WHERE p.step ->> 'counts' = 'put'), c.met_rows) END;
COMMENT ON FUNCTION roneo.meets_rows(roneo.control_replica, jsonb, jsonb) IS
    'Whether new rows that were staged had keys that were there; as before, where none were staged.';

CREATE OR REPLACE FUNCTION roneo.finish_control(ended roneo.ended[])
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    UPDATE roneo.control_replica AS c
    SET (last_value, horizon, window_start, clock, open_since, leaves, swept, swept_at,
         repull_from, repull_to, repulling, held_by, held_since, far_value, met_rows) =
        (SELECT p.last_value, p.horizon, p.window_start, p.clock, p.open_since, p.leaves, p.swept, p.swept_at,
                p.repull_from, p.repull_to, p.repulling, p.held_by, p.held_since, p.far_value,
                roneo.meets_rows(c, e.answer, e.result)
         FROM roneo.position_after(c, e.answer) AS p)
    FROM unnest(ended) AS e
    WHERE e.replica_id = c.replica_id;
END;
COMMENT ON FUNCTION roneo.finish_control(roneo.ended[]) IS 'Stores the positions of inserters and updaters.';
