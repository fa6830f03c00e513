-- How a replica that is fed from a capture turns an answer into steps.

-- The last transaction of the batch is in it; what the position has seen stays seen.
CREATE OR REPLACE FUNCTION roneo.cut_of(c roneo.capture_replica, answer jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN (answer #>> '{inside,pending,cut}')::numeric < (answer #>> '{inside,pending,last}')::numeric
    THEN greatest((answer #>> '{inside,pending,cut}')::numeric + 1, pg_snapshot_xmax(c.position)::text::numeric)::text END;
COMMENT ON FUNCTION roneo.cut_of(roneo.capture_replica, jsonb) IS
    'The transaction of the source before which this batch ends; NULL: it takes all.';

-- What reads the table as it is now has the deletions behind a batch too: they are buried with it, or they
-- would be once more by the next one.
CREATE OR REPLACE FUNCTION roneo.without_cut(answer jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN answer #- '{inside,pending,cut}';
COMMENT ON FUNCTION roneo.without_cut(jsonb) IS 'An answer that takes everything that is pending.';

CREATE OR REPLACE FUNCTION roneo.snapshot_before(whole pg_snapshot, cut text)
RETURNS pg_snapshot LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE WHEN cut IS NULL OR cut::numeric >= pg_snapshot_xmax(whole)::text::numeric THEN whole
                ELSE concat(least(pg_snapshot_xmin(whole)::text::numeric, cut::numeric), ':', cut, ':',
                            (SELECT string_agg(x::text, ',' ORDER BY x) FROM pg_snapshot_xip(whole) AS x
                             WHERE x::text::numeric < cut::numeric))::pg_snapshot END
);
COMMENT ON FUNCTION roneo.snapshot_before(pg_snapshot, text) IS
    'A snapshot that sees what this one sees, but of transactions below cut only.';

-- Without a trigger for TRUNCATE, as a new partition is, the file tells.
CREATE OR REPLACE FUNCTION roneo.lost_file(c roneo.capture_replica, answer jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN EXISTS (
    SELECT FROM jsonb_each(c.tables) AS k
    WHERE NOT (k.value ->> 'sees_truncate')::boolean
      AND answer #>> ARRAY['inside', 'capture', 'tables', k.key, 'file'] <> k.value ->> 'file');
COMMENT ON FUNCTION roneo.lost_file(roneo.capture_replica, jsonb) IS
    'Whether a table that could be truncated unseen is in another file.';

-- Even where every row has changed it is cheaper to replay them once than to look for what differs. Only
-- where each has changed several times over do the keys cost more to sort out than all rows to compare.
-- A batch_limit asks for small transactions all the same.
CREATE OR REPLACE FUNCTION roneo.replay_mode(c roneo.capture_replica, answer jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN c.position IS NULL THEN CASE WHEN c.is_fresh THEN 'load' ELSE 'compare' END
    WHEN (answer #>> '{inside,pending,resyncs}')::bigint > 0 OR roneo.lost_file(c, answer) THEN 'compare'
    WHEN (answer #>> '{inside,pending,truncates}')::bigint > 0 THEN 'truncated'
    WHEN c.batch_limit IS NULL AND (answer #>> '{inside,pending,keys}')::numeric > 10000
         AND (answer #>> '{inside,pending,keys}')::numeric > (answer #>> '{inside,capture,rows}')::numeric * 4
         AND (answer #>> '{inside,capture,rows}')::numeric > 0 THEN 'compare'
    WHEN (answer #>> '{inside,pending,keys}')::numeric > 0 OR cardinality(roneo.fresh_tables(c, answer)) > 0 THEN 'replay'
    ELSE 'nothing' END;
COMMENT ON FUNCTION roneo.replay_mode(roneo.capture_replica, jsonb) IS
    'load: into the empty table; compare: read all rows, and bring the table in line; truncated: as compare, or as load where nobody references the table; replay: the rows that changed; nothing.';

-- Who lets the first refresh fill a table that was made empty by other means has not filled it.
CREATE OR REPLACE FUNCTION roneo.is_unfilled(r roneo.replica, c roneo.capture_replica)
RETURNS boolean LANGUAGE sql STABLE
RETURN r.last_success_at IS NULL AND pg_relation_size(r.dest) = 0
    AND NOT EXISTS (SELECT FROM pg_partition_tree(r.dest) AS t WHERE t.isleaf AND pg_relation_size(t.relid) > 0);
COMMENT ON FUNCTION roneo.is_unfilled(roneo.replica, roneo.capture_replica) IS
    'Whether a table that others were to fill is empty still at its first refresh; then all rows are read.';

CREATE OR REPLACE FUNCTION roneo.copied_columns(c roneo.capture_replica, answer jsonb)
RETURNS name[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT k FROM jsonb_array_elements_text(c.tables #> ARRAY[answer #>> '{inside,capture,relation}', 'copied']) AS k);
COMMENT ON FUNCTION roneo.copied_columns(roneo.capture_replica, jsonb) IS 'The columns that the last refresh copied.';

-- A column that is copied now and was not, and one that ALTER TABLE rewrote, have values that no
-- trigger saw. VACUUM FULL moves a table to another file too, and leaves its columns alone.
CREATE OR REPLACE FUNCTION roneo.has_unseen_values(r roneo.replica, c roneo.capture_replica, columns name[], answer jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN (
    SELECT p.was IS NOT NULL AND (
        NOT to_jsonb(columns) <@ coalesce(p.copied, to_jsonb(columns))
        OR EXISTS (
            SELECT FROM jsonb_each(p.is_now) AS k
            WHERE (k.key = ANY (columns) OR r.filter IS NOT NULL)
              AND (k.value -> 'number' IS DISTINCT FROM p.was #> ARRAY[k.key, 'number'] AND k.key = ANY (columns)
                   OR p.moved AND k.value -> 'by' <> p.was #> ARRAY[k.key, 'by'])))
    FROM (SELECT c.tables #> ARRAY[answer #>> '{inside,capture,relation}', 'columns'] AS was,
                 c.tables #> ARRAY[answer #>> '{inside,capture,relation}', 'copied'] AS copied,
                 answer #> ARRAY['inside', 'capture', 'tables', answer #>> '{inside,capture,relation}', 'columns'] AS is_now,
                 EXISTS (SELECT FROM jsonb_each(c.tables) AS t
                         WHERE answer #> ARRAY['inside', 'capture', 'tables', t.key, 'file'] <> t.value -> 'file') AS moved) AS p
);
COMMENT ON FUNCTION roneo.has_unseen_values(roneo.replica, roneo.capture_replica, name[], jsonb) IS
    'Whether columns have to be read again for all rows: they are new here, or were rewritten.';

CREATE OR REPLACE FUNCTION roneo.tables_reached(r roneo.replica, c roneo.capture_replica, answer jsonb, outcome text)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT jsonb_set(answer #> '{inside,capture,tables}', ARRAY[relation, 'copied'], CASE
        WHEN outcome = 'unchanged' AND c.tables #> ARRAY[relation, 'copied'] IS NOT NULL THEN c.tables #> ARRAY[relation, 'copied']
        ELSE (SELECT coalesce(jsonb_agg(p.name ORDER BY p.position), '[]')
              FROM roneo.pair_columns(roneo.wanted_source_columns(r, answer), roneo.local_relation(r.dest) -> 'columns') AS p) END)
    FROM (SELECT answer #>> '{inside,capture,relation}' AS relation) AS n
);
COMMENT ON FUNCTION roneo.tables_reached(roneo.replica, roneo.capture_replica, jsonb, text) IS
    'What is remembered of the source''s tables once an answer has been worked off, with the columns that are copied.';

CREATE OR REPLACE FUNCTION roneo.position_reached(c roneo.capture_replica, answer jsonb)
RETURNS pg_snapshot LANGUAGE sql IMMUTABLE
RETURN roneo.snapshot_before((answer #>> '{inside,snapshot}')::pg_snapshot,
                             CASE WHEN roneo.replay_mode(c, answer) = 'replay' THEN roneo.cut_of(c, answer) END);
COMMENT ON FUNCTION roneo.position_reached(roneo.capture_replica, jsonb) IS 'The position once everything that was planned for an answer has been put.';

CREATE OR REPLACE FUNCTION roneo.extra_column(name text, type text)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN jsonb_build_array(jsonb_build_object('name', name, 'type', type, 'type_bare', type, 'type_base', type,
                                            'type_schema', 'pg_catalog', 'binary', true));
COMMENT ON FUNCTION roneo.extra_column(text, text) IS 'A column that no table has, for what travels beside the rows.';

-- Under its own name, character would be character(1).
CREATE OR REPLACE FUNCTION roneo.without_domains(columns jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(jsonb_agg(c.col || CASE WHEN c.col ->> 'type_kind' = 'd' AND NOT (c.col ->> 'type_array')::boolean
        THEN jsonb_build_object('type', b.name, 'type_bare', b.name) ELSE '{}' END ORDER BY c.nr), '[]')
    FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, nr)
    CROSS JOIN LATERAL (SELECT regexp_replace(regexp_replace(c.col ->> 'type_base', '^character(\[\])?$', 'bpchar\1'), '^bit(\[\])?$', '"bit"\1') AS name) AS b
);
COMMENT ON FUNCTION roneo.without_domains(jsonb) IS 'Columns, those of domains with the types under them.';

CREATE OR REPLACE FUNCTION roneo.transfer_from(
    r roneo.replica, purpose text, rows_of text, wanted jsonb, extra jsonb, into_schema name, into_name name, frozen boolean)
RETURNS roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    step roneo.step;
    here jsonb := (roneo.local_relation(r.dest) -> 'columns') || extra;
BEGIN
    IF into_schema = 'pg_temp' THEN
        wanted := roneo.without_domains(wanted);
        here := roneo.without_domains(here);
    END IF;
    SELECT t.* INTO step
    FROM roneo.source AS s
    CROSS JOIN LATERAL roneo.transfer_step(purpose, r.source_schema, r.source_table, wanted || extra, here, NULL,
                                           into_schema, into_name, frozen, s.source_encoding) AS t
    WHERE s.source_id = r.source_id;
    SELECT format('SELECT %s FROM %s AS source', string_agg(format('%I::%s', p.name, p.cast_type), ', ' ORDER BY p.position), rows_of)
    INTO step.statement
    FROM roneo.pair_columns(wanted || extra, here) AS p;
    RETURN step;
END;
$$;
COMMENT ON FUNCTION roneo.transfer_from(roneo.replica, text, text, jsonb, jsonb, name, name, boolean) IS
    'A step that brings rows of the source, from anything that can stand in a FROM clause, with columns beside those of the table.';

CREATE OR REPLACE FUNCTION roneo.arrival_step(r roneo.replica, table_name text, columns name[], extra text)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN roneo.dest_step(1, 'make a table for what arrives', format(
    'DROP TABLE IF EXISTS pg_temp.%1$I; CREATE TEMPORARY TABLE %1$I ON COMMIT DROP AS SELECT %2$s%3$s FROM ONLY %4$I.%5$I WITH NO DATA',
    table_name, roneo.bare_columns(r.dest, columns, ''), format(CASE WHEN extra IS NOT NULL THEN ', %s' END, extra), r.dest_schema, r.dest_name));
COMMENT ON FUNCTION roneo.arrival_step(roneo.replica, text, name[], text) IS
    'A step that makes an empty temporary table with the columns that are copied, and more.';

CREATE OR REPLACE FUNCTION roneo.replay_steps(r roneo.replica, c roneo.capture_replica, wanted jsonb, columns name[], answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Said this way, few rows are expected, and each is found by the index: to expect half of them, as of
    -- any flag, is to read the whole table.
    gone text := format('(SELECT DISTINCT %1$s FROM pg_temp.%2$I WHERE roneo_gone::integer OPERATOR(pg_catalog.=) 1 ORDER BY %1$s) AS arrived',
                        roneo.column_list(c.key_columns), roneo.staging_name(r));
BEGIN
    RETURN NEXT roneo.arrival_step(r, roneo.staging_name(r), columns, 'false AS roneo_gone');
    RETURN NEXT roneo.transfer_from(r, 'read what changed',
        roneo.changed_rows(r, c, wanted, answer, roneo.cut_of(c, answer)),
        wanted, roneo.extra_column('roneo_gone', 'boolean'), 'pg_temp', roneo.staging_name(r), false);
    RETURN NEXT roneo.remove_gone_step(r, c, answer, gone, roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived'));
    RETURN QUERY SELECT * FROM roneo.undeleted_steps(r, c, gone, roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived'));
    RETURN QUERY SELECT * FROM roneo.clash_steps(r, c, columns);
    RETURN NEXT roneo.put_changed_step(r, c, columns, 'NOT arrived.roneo_gone');
    RETURN NEXT roneo.counting_step(5, 'forget what is gone', format('DELETE FROM pg_temp.%I WHERE roneo_gone', roneo.staging_name(r)), 'gone');
END;
$$;
COMMENT ON FUNCTION roneo.replay_steps(roneo.replica, roneo.capture_replica, jsonb, name[], jsonb) IS
    'Steps that bring the rows whose keys are in the queue: delete or stamp what is gone, put what is there.';

CREATE OR REPLACE FUNCTION roneo.compare_steps(r roneo.replica, c roneo.capture_replica, wanted jsonb, columns name[], answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone text := format('NOT EXISTS (SELECT FROM pg_temp.%I AS arrived WHERE %s)',
                        roneo.staging_name(r), roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived'));
BEGIN
    RETURN NEXT roneo.arrival_step(r, roneo.staging_name(r), columns, NULL);
    RETURN NEXT roneo.transfer_from(r, 'read all rows', roneo.source_rows(r), wanted, '[]', 'pg_temp', roneo.staging_name(r), false);
    RETURN NEXT roneo.remove_gone_step(r, c, answer, NULL, gone);
    RETURN QUERY SELECT * FROM roneo.undeleted_steps(r, c, NULL, gone);
    RETURN QUERY SELECT * FROM roneo.clash_steps(r, c, columns);
    RETURN NEXT roneo.put_changed_step(r, c, columns, roneo.differs_condition(r, c, columns));
END;
$$;
COMMENT ON FUNCTION roneo.compare_steps(roneo.replica, roneo.capture_replica, jsonb, name[], jsonb) IS
    'Steps that read the whole source and bring the table in line: rows that are the same stay untouched, and readers are not disturbed.';

-- To fill a table and index it then takes half the time. A few rows are faster put into indexes that
-- are there; and what somebody has added to an index, its definition does not say.
CREATE OR REPLACE FUNCTION roneo.indexes_later(r roneo.replica, answer jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN answer ->> 'hand' = 'runner'
    AND (answer #>> '{inside,relation,rows_estimate}')::float8 NOT BETWEEN 0 AND 10000
    AND EXISTS (SELECT FROM pg_class AS t WHERE t.oid = r.dest AND t.relkind = 'r' AND NOT t.relispartition)
    AND NOT EXISTS (
        SELECT
        FROM pg_index AS x
        JOIN pg_class AS i ON i.oid = x.indexrelid
        LEFT JOIN pg_constraint AS k ON k.conindid = i.oid AND k.conrelid = x.indrelid AND k.contype IN ('p', 'u', 'x')
        WHERE x.indrelid = r.dest
          AND (x.indisreplident OR x.indisclustered OR NOT x.indisvalid OR i.reltablespace <> 0
               OR obj_description(i.oid, 'pg_class') IS NOT NULL OR obj_description(k.oid, 'pg_constraint') IS NOT NULL
               OR EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = i.oid AND a.attstattarget >= 0)
               -- A view that groups by the key, a part of an extension.
               OR EXISTS (SELECT FROM pg_depend AS d
                          WHERE d.refclassid = 'pg_constraint'::regclass AND d.refobjid = k.oid AND d.deptype = 'n')
               OR EXISTS (SELECT FROM pg_depend AS d
                          WHERE d.classid = 'pg_class'::regclass AND d.objid = i.oid AND d.deptype IN ('e', 'x'))));
COMMENT ON FUNCTION roneo.indexes_later(roneo.replica, jsonb) IS
    'Whether a table that is loaded whole is to be indexed only then, and its indexes are no more than their definitions.';

CREATE OR REPLACE FUNCTION roneo.rebuild_index_statements(relation regclass)
RETURNS TABLE ("position" bigint, purpose text, statement text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT row_number() OVER (ORDER BY x.indisprimary DESC, i.relname),
           format('build index %s', i.relname),
           CASE WHEN k.oid IS NULL THEN pg_get_indexdef(i.oid)
                ELSE format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', n.nspname, t.relname, k.conname, pg_get_constraintdef(k.oid)) END
    FROM pg_index AS x
    JOIN pg_class AS i ON i.oid = x.indexrelid
    JOIN pg_class AS t ON t.oid = x.indrelid
    JOIN pg_namespace AS n ON n.oid = t.relnamespace
    LEFT JOIN pg_constraint AS k ON k.conindid = i.oid AND k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x')
    WHERE x.indrelid = relation
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.rebuild_index_statements(regclass) IS 'Statements that build all indexes of a table as they are now.';

CREATE OR REPLACE FUNCTION roneo.load_steps(r roneo.replica, wanted jsonb, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    as_plain roneo.plain_replica := ROW(r.replica_id, '{}'::name[], NULL, false);
    kind     "char" := (SELECT t.relkind FROM pg_class AS t WHERE t.oid = r.dest);
    later    boolean := roneo.indexes_later(r, answer);
BEGIN
    RETURN QUERY SELECT * FROM roneo.clear_steps(r, as_plain, answer);
    RETURN QUERY
        SELECT (roneo.dest_step(1, d.purpose, d.statement)).*
        FROM roneo.drop_index_statements(r.dest) AS d WHERE later ORDER BY d.position;
    RETURN NEXT roneo.transfer_from(r, 'copy the rows', roneo.source_rows(r), wanted, '[]', r.dest_schema, r.dest_name,
                                    answer ->> 'hand' = 'runner' AND kind = 'r');
    RETURN QUERY
        SELECT (roneo.dest_step(4, d.purpose, d.statement)).*
        FROM roneo.rebuild_index_statements(r.dest) AS d WHERE later ORDER BY d.position;
END;
$$;
COMMENT ON FUNCTION roneo.load_steps(roneo.replica, jsonb, jsonb) IS 'Steps that empty the table and load it.';

CREATE OR REPLACE FUNCTION roneo.graves_steps(r roneo.replica, c roneo.capture_replica, wanted jsonb, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kept    jsonb := (SELECT coalesce(jsonb_agg(w.col ORDER BY w.nr), '[]') FROM jsonb_array_elements(wanted) WITH ORDINALITY AS w (col, nr)
                      WHERE answer #> '{inside,capture,image_columns}' ? (w.col ->> 'name'));
    columns name[] := ARRAY(SELECT p.name FROM roneo.pair_columns(kept, roneo.local_relation(r.dest) -> 'columns') AS p ORDER BY p.position);
BEGIN
    IF c.deleted_column IS NULL OR c.position IS NULL OR coalesce((answer #>> '{inside,pending,deletes}')::bigint, 0) = 0 THEN
        RETURN;
    END IF;
    RETURN NEXT roneo.arrival_step(r, roneo.graves_name(r), columns, 'NULL::timestamptz AS roneo_at');
    RETURN NEXT roneo.graves_transfer(r, c, kept, answer);
    RETURN QUERY SELECT * FROM roneo.bury_steps(r, c, columns);
    RETURN NEXT roneo.dest_step(3, 'drop the table of deleted rows', format('DROP TABLE pg_temp.%I', roneo.graves_name(r)));
END;
$$;

CREATE OR REPLACE FUNCTION roneo.graves_transfer(r roneo.replica, c roneo.capture_replica, kept jsonb, answer jsonb)
RETURNS roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    step roneo.step := roneo.transfer_from(r, 'read the last values of deleted rows',
        roneo.deleted_rows(r, c, kept, answer, CASE WHEN roneo.replay_mode(c, answer) = 'replay' THEN roneo.cut_of(c, answer) END),
        kept, roneo.extra_column('roneo_at', 'timestamp with time zone'), 'pg_temp', roneo.graves_name(r), false);
BEGIN
    step.counts := 'kept';
    RETURN step;
END;
$$;
COMMENT ON FUNCTION roneo.graves_transfer(roneo.replica, roneo.capture_replica, jsonb, jsonb) IS 'The step that brings the last images of deleted rows.';
COMMENT ON FUNCTION roneo.graves_steps(roneo.replica, roneo.capture_replica, jsonb, jsonb) IS
    'For logdel: steps that keep deleted rows with their last values; none where nothing was deleted.';

-- What the source hears it gives away; so the position must be on disk here before.
CREATE OR REPLACE FUNCTION roneo.durable_steps()
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.* FROM roneo.dest_step(1, 'have the commit wait for the disk',
        'SELECT pg_catalog.set_config(''synchronous_commit'', ''on'', true)') AS s
    WHERE current_setting('synchronous_commit') = 'off';
END;
COMMENT ON FUNCTION roneo.durable_steps() IS 'A step for servers with synchronous_commit off, whose crash would set the copy back behind what it confirmed.';

CREATE OR REPLACE FUNCTION roneo.confirm_step(c roneo.capture_replica, answer jsonb)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN ROW(5, 'after', 'tell the source how far the copy is',
    format('SELECT %s', roneo.attend_query(c, roneo.position_reached(c, answer), c.position)), NULL, NULL, NULL, NULL, NULL, NULL, false)::roneo.step;
COMMENT ON FUNCTION roneo.confirm_step(roneo.capture_replica, jsonb) IS
    'A step for after the commit: what is here now, the source need not keep. If it is lost, the next refresh says it.';

CREATE OR REPLACE FUNCTION roneo.plan_capture(r roneo.replica, c roneo.capture_replica, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted  jsonb := roneo.wanted_source_columns(r, answer);
    columns name[] := ARRAY(SELECT p.name FROM roneo.pair_columns(wanted, roneo.local_relation(r.dest) -> 'columns') AS p ORDER BY p.position);
    mode    text;
BEGIN
    PERFORM roneo.require_same_source(r, answer);
    PERFORM roneo.require_capture(r, c, answer);
    PERFORM roneo.require_position(r, c, answer);
    PERFORM roneo.require_no_lost_column(r, ROW(r.replica_id, roneo.copied_columns(c, answer), NULL, false)::roneo.plain_replica, wanted);
    mode := roneo.replay_mode(c, answer);
    mode := CASE WHEN mode IN ('nothing', 'replay') AND (roneo.is_unfilled(r, c) OR roneo.has_unseen_values(r, c, columns, answer)) THEN 'compare' ELSE mode END;
    mode := CASE WHEN r.refresh_group IS NOT NULL AND mode IN ('load', 'truncated') THEN 'compare' ELSE mode END;
    mode := CASE mode WHEN 'truncated' THEN CASE WHEN answer ->> 'hand' = 'runner' AND c.deleted_column IS NULL
                                                      AND NOT roneo.is_referenced(r.dest) THEN 'load' ELSE 'compare' END
                      WHEN 'load' THEN CASE WHEN roneo.is_referenced(r.dest) THEN 'compare' ELSE 'load' END
                      ELSE mode END;
    IF mode = 'nothing' THEN
        RETURN;
    END IF;
    answer := CASE WHEN mode = 'replay' THEN answer ELSE roneo.without_cut(answer) END;
    RETURN QUERY SELECT * FROM roneo.durable_steps();
    IF r.refresh_group IS NOT NULL OR roneo.removes_later(r, c) THEN
        RETURN NEXT roneo.dest_step(1, 'check constraints at the end', 'SET CONSTRAINTS ALL DEFERRED');
    END IF;
    RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
    RETURN QUERY SELECT * FROM roneo.graves_steps(r, c, wanted, answer);
    IF mode = 'load' THEN
        RETURN QUERY SELECT * FROM roneo.raw_bytes_step(answer);
        RETURN QUERY SELECT * FROM roneo.load_steps(r, wanted, answer);
        RETURN NEXT roneo.dest_step(4, 'gather statistics', format('ANALYZE %I.%I', r.dest_schema, r.dest_name));
    ELSE
        RETURN QUERY SELECT * FROM roneo.replay_steps(r, c, wanted, columns, answer) WHERE mode = 'replay';
        RETURN QUERY SELECT * FROM roneo.compare_steps(r, c, wanted, columns, answer) WHERE mode = 'compare';
        RETURN QUERY SELECT 5::smallint, s.kind, s.purpose, s.statement, s.into_table, s.into_list, s.into_types, s.copy_format, s.copy_freeze, s.counts, s.patient
            FROM roneo.swallowed_steps(r, c.key_columns) AS s;
        RETURN NEXT roneo.dest_step(5, 'drop the staging table', format('DROP TABLE pg_temp.%I', roneo.staging_name(r)));
    END IF;
    RETURN NEXT roneo.moved_step(r);
    RETURN QUERY SELECT * FROM roneo.on_disk_step(answer);
    RETURN NEXT roneo.confirm_step(c, answer);
END;
$$;
COMMENT ON FUNCTION roneo.plan_capture(roneo.replica, roneo.capture_replica, jsonb) IS
    'Steps of a dml or logdel replica: nothing where nothing is pending; else the rows that changed; or all rows, where the copy is new, cannot be continued, or each changed several times over.';

CREATE OR REPLACE FUNCTION roneo.finish_capture(ended roneo.ended[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(ended) AS e WHERE roneo.outcome_of(e.result) = 'deferred') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO016',
            MESSAGE = 'the table to be loaded is in use by other sessions',
            HINT    = 'The next refresh tries again.';
    END IF;
    UPDATE roneo.capture_replica AS c SET
        -- Of all modes only the one that reads batches counts what is gone.
        position   = roneo.position_reached(c, CASE WHEN roneo.counted(e.result, 'gone', 'rows') IS NULL THEN roneo.without_cut(e.answer) ELSE e.answer END),
        tables     = roneo.tables_reached(r, c, e.answer, roneo.outcome_of(e.result)),
        written_by = pg_current_xact_id(),
        confirmed  = CASE WHEN e.answer #> '{before,attended}' ? 'position'
                          THEN (e.answer #>> '{before,attended,position}')::pg_snapshot ELSE c.confirmed END,
        is_fresh   = false
    FROM unnest(ended) AS e
    JOIN roneo.replica AS r ON r.replica_id = e.replica_id
    WHERE c.replica_id = e.replica_id
      -- Nothing was pending: the position is as good as a newer one.
      AND (roneo.outcome_of(e.result) <> 'unchanged' OR c.tables IS DISTINCT FROM roneo.tables_reached(r, c, e.answer, 'unchanged'));
END;
$$;
COMMENT ON FUNCTION roneo.finish_capture(roneo.ended[]) IS 'Stores the positions of dml and logdel replicas. Raises RO016 where the table could not be locked.';
