-- snapshot: the whole table is loaded into the one of two tables that a view does not show, and
-- then the view is swapped.

CREATE OR REPLACE FUNCTION roneo.create_snapshot(
    source text,
    source_table text,
    dest text DEFAULT NULL,
    columns text[] DEFAULT NULL,
    filter text DEFAULT NULL,
    with_indexes boolean DEFAULT true,
    copy_data boolean DEFAULT true,
    refresh_every interval DEFAULT NULL,
    check_changes boolean DEFAULT true,
    post_script text DEFAULT NULL,
    max_skip_age interval DEFAULT interval '1 day')
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    description jsonb := roneo.describe_source(source, source_table, filter);
    wanted      jsonb;
    place       record;
    first_name  name;
    second_name name;
    made        roneo.replica;
BEGIN
    IF max_skip_age < interval '0' OR max_skip_age IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('max_skip_age is %s', coalesce(max_skip_age::text, 'NULL')),
            HINT    = 'Give an interval such as ''1 day''; check_changes => false copies always.';
    END IF;
    SELECT * INTO place FROM roneo.require_dest_name(dest, description);
    PERFORM roneo.require_free_name(place.place_schema, place.place_name);
    PERFORM roneo.require_columns_exist(columns, description);
    wanted := roneo.described_columns(description, columns);
    first_name := roneo.free_name(place.place_schema, place.place_name, '_snap1');
    second_name := roneo.free_name(place.place_schema, place.place_name, '_snap2');
    PERFORM roneo.make_table(place.place_schema, first_name, description, wanted, with_indexes, false);
    PERFORM roneo.make_table(place.place_schema, second_name, description, wanted, false, false);
    EXECUTE roneo.view_statement(format('%I.%I', place.place_schema, place.place_name), NULL, wanted,
                                 place.place_schema, first_name);
    made := roneo.new_replica(source, description,
        format('%I.%I', place.place_schema, place.place_name)::regclass, 'snapshot', columns, filter, refresh_every);
    INSERT INTO roneo.snapshot_replica (replica_id, table_schema, first_table, second_table,
        check_changes, max_skip_age, post_script, columns)
    VALUES (made.replica_id, place.place_schema, first_name, second_name,
        create_snapshot.check_changes, create_snapshot.max_skip_age, create_snapshot.post_script, wanted);
    IF post_script IS NOT NULL THEN
        EXECUTE post_script;
    END IF;
    IF copy_data THEN
        PERFORM roneo.refresh(made.dest, raise_errors => true);
    END IF;
    RETURN made.dest;
END;
$$;
COMMENT ON FUNCTION roneo.create_snapshot(text, text, text, text[], text, boolean, boolean, interval, boolean, text, interval) IS
    'Makes a replica that is copied whole into a hidden table and then shown by swapping a view. dest: name of the view, that of the source table by default. columns: only these. filter: only rows for which this is true. with_indexes: the source''s indexes too. copy_data: copy now, over dblink. refresh_every: the promised age. check_changes: skip a copy when the source is unchanged. post_script: SQL to run after the view was built anew. max_skip_age: copy at least this often. Returns the view.';

CREATE OR REPLACE FUNCTION roneo.require_free_name(dest_schema name, dest_name name)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regclass(format('%I.%I', dest_schema, dest_name)) IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO005',
            MESSAGE = format('%I.%I exists already', dest_schema, dest_name),
            DETAIL  = 'A snapshot makes a view of that name, and two tables behind it.',
            HINT    = 'Rename or drop it, or name another dest.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_free_name(name, name) IS 'Raises RO005 where a relation of that name exists.';

CREATE OR REPLACE FUNCTION roneo.free_name(table_schema name, base text, suffix text)
RETURNS name LANGUAGE sql STABLE
RETURN CASE
    -- As a rule; to try all of them takes a hundred times as long.
    WHEN to_regclass(format('%I.%I', table_schema, roneo.fit_name(base, suffix))) IS NULL THEN roneo.fit_name(base, suffix)
    ELSE (SELECT candidate
          FROM generate_series(1, 99) AS n
          CROSS JOIN LATERAL roneo.fit_name(base, format('_%s%s', n, suffix)) AS candidate
          WHERE to_regclass(format('%I.%I', table_schema, candidate)) IS NULL
          ORDER BY n
          LIMIT 1)
END;
COMMENT ON FUNCTION roneo.free_name(name, text, text) IS
    'A name made of base and suffix that no relation of the schema has, at most 63 bytes long.';

CREATE OR REPLACE FUNCTION roneo.view_statement(
    view_name text, options text[], columns jsonb, table_schema name, table_name name)
RETURNS text LANGUAGE sql STABLE
RETURN format('CREATE OR REPLACE VIEW %s%s AS SELECT %s FROM %I.%I', view_name,
    (SELECT format(' WITH (%s)', string_agg(format('%I = %L', o.option_name, o.option_value), ', '))
     FROM pg_options_to_table(options) AS o HAVING count(*) > 0),
    roneo.column_list(roneo.column_names(columns)), table_schema, table_name);
COMMENT ON FUNCTION roneo.view_statement(text, text[], jsonb, name, name) IS
    'A statement that makes a view show one table, with the view''s options: CREATE OR REPLACE VIEW forgets them otherwise.';

CREATE OR REPLACE FUNCTION roneo.shown_table(m roneo.snapshot_replica)
RETURNS name LANGUAGE sql IMMUTABLE
RETURN CASE m.shown WHEN 1 THEN m.first_table ELSE m.second_table END;
COMMENT ON FUNCTION roneo.shown_table(roneo.snapshot_replica) IS 'The table that the view shows.';

CREATE OR REPLACE FUNCTION roneo.hidden_table(m roneo.snapshot_replica)
RETURNS name LANGUAGE sql IMMUTABLE
RETURN CASE m.shown WHEN 1 THEN m.second_table ELSE m.first_table END;
COMMENT ON FUNCTION roneo.hidden_table(roneo.snapshot_replica) IS 'The table that the next refresh loads.';

CREATE OR REPLACE FUNCTION roneo.probe_snapshot(r roneo.replica, m roneo.snapshot_replica)
RETURNS roneo.probe LANGUAGE sql STABLE
RETURN roneo.table_probe(r);
COMMENT ON FUNCTION roneo.probe_snapshot(roneo.replica, roneo.snapshot_replica) IS
    'Snapshot, phase one: what to ask of the source.';

-- Neither the clock nor the position in the log says whether this table changed.
CREATE OR REPLACE FUNCTION roneo.change_print(answer jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (answer -> 'before') - 'state' #- '{identity,clock}' #- '{identity,lsn}';
COMMENT ON FUNCTION roneo.change_print(jsonb) IS
    'What stays the same as long as nothing changes in the source table: counters, files and sizes of each leaf, resets of the statistics, the server''s start, its identity.';

-- A counter alone lies: TRUNCATE is not counted, a crash resets it, and standbys, views and
-- foreign tables have none. Anything that is not known to be counted is a change.
CREATE OR REPLACE FUNCTION roneo.vouches(answer jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN coalesce(
    answer #>> '{before,identity,in_recovery}' = 'false'
    AND answer #>> '{before,identity,postmaster_start}' IS NOT NULL
    AND answer #>> '{before,identity,stats_discarded}' IS NOT NULL
    AND answer #>> '{before,track_counts}' = 'on'
    AND jsonb_array_length(nullif(answer #> '{before,leaves}', 'null')) > 0
    AND jsonb_array_length(nullif(answer #> '{before,leaves}', 'null')) = jsonb_array_length(jsonb_path_query_array(answer,
        '$.before.leaves[*] ? (@.kind == "p" || @.kind == "r" && @.filenode > 0 && @.size >= 0 && @.ins >= 0 && @.upd >= 0 && @.del >= 0)')),
    false);
COMMENT ON FUNCTION roneo.vouches(jsonb) IS
    'Whether an equal fingerprint means an unchanged source: only tables whose changes the source counts.';

-- What a filter finds can change while its table does not: by the clock, or in another table. Only
-- text in which neither can hide is believed.
CREATE OR REPLACE FUNCTION roneo.is_steady(filter text)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN filter IS NULL OR NOT (
    regexp_replace(filter, '\m(and|or|not|in|any|all|between|is)\s*\(', '+(', 'gi') ~ '[[:alnum:]_$"]\s*\('
    OR filter ~ '--|/\*'
    OR filter ~* '\m(select|table|now|today|tomorrow|yesterday|current_\w+|local\w+|\w*user|reg\w+)\M');
COMMENT ON FUNCTION roneo.is_steady(text) IS
    'Whether a filter depends on nothing but the columns of its table: it calls no function, reads no other table, and names neither time nor user.';

CREATE OR REPLACE FUNCTION roneo.is_unchanged(
    m roneo.snapshot_replica, answer jsonb, columns jsonb, since jsonb, columns_then jsonb, at timestamptz)
RETURNS boolean LANGUAGE sql STABLE
RETURN coalesce(
    m.check_changes
    AND NOT coalesce((answer #>> '{options,force}')::boolean, false)
    AND roneo.vouches(answer)
    AND since = roneo.change_print(answer)
    AND columns_then = columns
    AND at > clock_timestamp() - m.max_skip_age, false);
COMMENT ON FUNCTION roneo.is_unchanged(roneo.snapshot_replica, jsonb, jsonb, jsonb, jsonb, timestamptz) IS
    'Whether the source is as it was at a load, and that load is young enough to be believed.';

-- A user's type can be altered without a trace in the table.
CREATE OR REPLACE FUNCTION roneo.watched_snapshot(r roneo.replica, m roneo.snapshot_replica, exact_every interval)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN CASE WHEN m.check_changes AND m.pending_at IS NULL AND m.fingerprint IS NOT NULL
                 AND roneo.is_steady(r.filter) AND m.fingerprint ->> 'filter' IS NOT DISTINCT FROM r.filter
                 AND NOT jsonb_path_exists(m.columns, '$[*].type_ddl ? (@ != null)')
            THEN m.loaded_at + m.max_skip_age END;
COMMENT ON FUNCTION roneo.watched_snapshot(roneo.replica, roneo.snapshot_replica, interval) IS
    'Until when the counters alone may say that there is nothing to do: until the copy is max_skip_age old, however often the rows of others are looked at; NULL: never.';

CREATE OR REPLACE FUNCTION roneo.plan_snapshot(r roneo.replica, m roneo.snapshot_replica, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted jsonb   := roneo.wanted_source_columns(r, answer);
    steady boolean := roneo.is_steady(r.filter);
    fit    text;
BEGIN
    IF (answer #>> '{options,show_pending}')::boolean AND m.pending_columns = wanted
       OR steady AND roneo.is_unchanged(m, answer, wanted, m.pending_fingerprint, m.pending_columns, m.pending_at) THEN
        fit := roneo.view_fit(r.dest, wanted);
        PERFORM roneo.require_no_dependents(r, answer, fit);
        RETURN QUERY SELECT * FROM roneo.show_steps(r, m, answer, wanted, fit, NOT m.pending_frozen, true);
    ELSIF NOT (steady AND roneo.is_unchanged(m, answer, wanted, m.fingerprint, m.columns, m.loaded_at)) THEN
        -- What a rebuilt view would take along is named before anything is read.
        fit := roneo.view_fit(r.dest, wanted);
        PERFORM roneo.require_no_dependents(r, answer, fit);
        RETURN QUERY SELECT * FROM roneo.empty_steps(r, m, wanted);
        RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
        RETURN QUERY SELECT * FROM roneo.raw_bytes_step(answer);
        RETURN QUERY SELECT * FROM roneo.load_step(r, m, answer, wanted);
        RETURN QUERY SELECT * FROM roneo.moved_step(r);
        RETURN QUERY SELECT * FROM roneo.dress_steps(m, wanted);
        RETURN QUERY SELECT * FROM roneo.show_steps(r, m, answer, wanted, fit,
            answer ->> 'hand' = 'sql' AND m.fingerprint IS NOT NULL, false);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.plan_snapshot(roneo.replica, roneo.snapshot_replica, jsonb) IS
    'Snapshot, phase three: nothing where the source is unchanged; only the swap where an earlier load waits for it; else empty, load, index and swap.';

CREATE OR REPLACE FUNCTION roneo.has_shape(m roneo.snapshot_replica, wanted jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN coalesce(roneo.same_shape(
    roneo.local_relation(to_regclass(format('%I.%I', m.table_schema, roneo.hidden_table(m)))) -> 'columns',
    wanted), false);
COMMENT ON FUNCTION roneo.has_shape(roneo.snapshot_replica, jsonb) IS
    'Whether the hidden table has the columns that the source has now.';

-- The name of a key in a table that is yet to be made is PostgreSQL's choice.
CREATE OR REPLACE FUNCTION roneo.drop_key_step(hidden text, shown regclass, known jsonb, wanted jsonb)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT (roneo.dest_step(1, 'drop the primary key, whose columns can be null on the source now', format('DO %L', format(
        $drop$BEGIN
    EXECUTE (SELECT pg_catalog.format('ALTER TABLE %%s DROP CONSTRAINT %%I', c.conrelid::pg_catalog.regclass, c.conname)
             FROM pg_catalog.pg_constraint AS c
             WHERE c.conrelid = %L::pg_catalog.regclass AND c.contype = 'p');
END$drop$, hidden)))).*
    WHERE EXISTS (
        SELECT
        FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
        JOIN jsonb_array_elements(wanted) AS w (col) ON NOT (w.col ->> 'not_null')::boolean
        LEFT JOIN jsonb_array_elements(known) AS k (col) ON k.col ->> 'number' = w.col ->> 'number'
        WHERE i.indrelid = shown AND i.indisprimary
          AND a.attname IN (w.col ->> 'name', k.col ->> 'name'));
END;
COMMENT ON FUNCTION roneo.drop_key_step(text, regclass, jsonb, jsonb) IS
    'A step that drops the primary key of the hidden table where the source has none any more on these columns.';

CREATE OR REPLACE FUNCTION roneo.empty_steps(r roneo.replica, m roneo.snapshot_replica, wanted jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hidden text := format('%I.%I', m.table_schema, roneo.hidden_table(m));
    shown  regclass := to_regclass(format('%I.%I', m.table_schema, roneo.shown_table(m)));
BEGIN
    IF shown IS NULL OR to_regclass(hidden) IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO018',
            MESSAGE = format('a table behind %I.%I is gone', r.dest_schema, r.dest_name),
            DETAIL  = format('It is made of %I.%I and %I.%I.', m.table_schema, m.first_table,
                             m.table_schema, m.second_table),
            HINT    = 'Drop the replica and create it anew.';
    END IF;
    RETURN NEXT roneo.dest_step(1, 'wait for the last readers of the hidden table',
        format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', hidden), true);
    IF roneo.has_shape(m, wanted) THEN
        RETURN NEXT roneo.dest_step(1, 'empty the hidden table', format('TRUNCATE TABLE %s', hidden));
        RETURN QUERY
            SELECT (roneo.dest_step(1, d.purpose, d.statement)).*
            FROM roneo.drop_index_statements(hidden::regclass) AS d
            ORDER BY d.position;
    ELSE
        RETURN NEXT roneo.dest_step(1, 'drop the hidden table, whose columns do not fit any more',
            format('DROP TABLE %s', hidden));
        RETURN NEXT roneo.dest_step(1, 'make it again like the one that is shown',
            format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', hidden, shown));
        RETURN QUERY SELECT * FROM roneo.drop_key_step(hidden, shown, m.columns, wanted);
        RETURN QUERY
            SELECT (roneo.dest_step(1, c.purpose, c.statement)).*
            FROM roneo.reshape_statements(m.table_schema, roneo.hidden_table(m),
                roneo.local_relation(shown) -> 'columns', m.columns, wanted, true) AS c
            ORDER BY c.position;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.empty_steps(roneo.replica, roneo.snapshot_replica, jsonb) IS
    'Steps that leave the hidden table empty, without indexes, and with the columns of the source.';

CREATE OR REPLACE FUNCTION roneo.as_local_columns(columns jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    -- Of a domain nobody knows here what it is made of; its values go as text.
    SELECT coalesce(jsonb_agg(c.col || jsonb_build_object('type', roneo.local_type(c.col), 'generated', '',
                                  'binary', (c.col ->> 'binary')::boolean AND c.col ->> 'type_kind' <> 'd')
                              ORDER BY c.place), '[]')
    FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, place)
);
COMMENT ON FUNCTION roneo.as_local_columns(jsonb) IS
    'The columns of a table made here for columns of a source.';

CREATE OR REPLACE FUNCTION roneo.load_step(r roneo.replica, m roneo.snapshot_replica, answer jsonb, wanted jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Asked once, as in dress_steps.
    kept jsonb := roneo.local_relation(
        to_regclass(format('%I.%I', m.table_schema, roneo.hidden_table(m)))) -> 'columns';
BEGIN
    IF roneo.same_shape(kept, wanted) IS NOT TRUE THEN
        kept := roneo.as_local_columns(wanted);
    END IF;
    RETURN QUERY
        SELECT t.*
        FROM roneo.source AS s
        CROSS JOIN LATERAL roneo.transfer_step('copy the rows into the hidden table',
            r.source_schema, r.source_table, wanted, kept, r.filter,
            m.table_schema, roneo.hidden_table(m), answer ->> 'hand' = 'runner', s.source_encoding) AS t
        WHERE s.source_id = r.source_id;
END;
$$;
COMMENT ON FUNCTION roneo.load_step(roneo.replica, roneo.snapshot_replica, jsonb, jsonb) IS
    'The step that copies all rows into the hidden table; by the runner with FREEZE, so that sessions with an older snapshot see them too.';

-- The owner has what owners have. A table that is yet to be made gets what default privileges say.
CREATE OR REPLACE FUNCTION roneo.privilege_steps(shown regclass, hidden regclass, target text, names name[])
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH wanted AS (
        SELECT p.statement, p.grantee
        FROM roneo.privilege_statements(shown, target) AS p
        JOIN pg_class AS c ON c.oid = shown AND c.relowner <> p.grantee
        WHERE names @> p.column_names
    ), present AS (
        SELECT p.statement, p.grantee
        FROM roneo.privilege_statements(hidden, target) AS p
        JOIN pg_class AS c ON c.oid = shown AND c.relowner <> p.grantee
        UNION
        SELECT '', e.grantee
        FROM pg_class AS c
        JOIN pg_default_acl AS f ON f.defaclrole = c.relowner AND f.defaclobjtype = 'r'
            AND f.defaclnamespace IN (0, c.relnamespace)
        CROSS JOIN LATERAL aclexplode(f.defaclacl) AS e
        WHERE hidden IS NULL AND c.oid = shown AND c.relowner <> e.grantee
    )
    SELECT (roneo.dest_step(4, 'give the table the privileges of the one that is shown', concat_ws('; ',
        (SELECT string_agg(DISTINCT format('REVOKE ALL ON %s FROM %s CASCADE', target,
                    CASE WHEN p.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(p.grantee)) END), '; ')
         FROM present AS p),
        (SELECT string_agg(w.statement, '; ') FROM wanted AS w)))).*
    WHERE EXISTS ((TABLE wanted EXCEPT TABLE present) UNION ALL (TABLE present EXCEPT TABLE wanted));
END;
COMMENT ON FUNCTION roneo.privilege_steps(regclass, regclass, text, name[]) IS
    'A step that gives the hidden table (NULL: a new one) the privileges of the shown one, and no others; none where they are alike.';

CREATE OR REPLACE FUNCTION roneo.dress_steps(m roneo.snapshot_replica, wanted jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hidden name := roneo.hidden_table(m);
    shown  regclass := to_regclass(format('%I.%I', m.table_schema, roneo.shown_table(m)));
    -- Asked once, for it costs milliseconds: as an argument below it would be asked at each use.
    kept   regclass := CASE WHEN roneo.has_shape(m, wanted)
                            THEN to_regclass(format('%I.%I', m.table_schema, hidden)) END;
BEGIN
    IF kept IS NOT NULL THEN
        RETURN QUERY
            SELECT (roneo.dest_step(4, i.purpose, i.statement)).*
            FROM roneo.index_statements(m.table_schema, hidden, roneo.local_indexes(shown),
                                        roneo.column_names(wanted), false) AS i
            ORDER BY i.position;
    END IF;
    RETURN QUERY
        SELECT s.*
        FROM roneo.privilege_steps(shown, kept, format('%I.%I', m.table_schema, hidden),
                                   roneo.column_names(wanted)) AS s;
    RETURN NEXT roneo.dest_step(4, 'gather statistics', format('ANALYZE %I.%I', m.table_schema, hidden));
END;
$$;
COMMENT ON FUNCTION roneo.dress_steps(roneo.snapshot_replica, jsonb) IS
    'Steps that give the loaded table what the shown one has: indexes, privileges, statistics.';
