-- What is compared: the rows that a replica is to have, on its source, with those that it has.
--
-- A verification is the last part of a refresh, in the same transactions: both sides are compared as
-- of the one snapshot of the source that the refresh brought the copy up to. So there is nothing that
-- could have changed meanwhile, and a difference is one.

CREATE OR REPLACE FUNCTION roneo.key_of_table(target regclass, names name[])
RETURNS name[] LANGUAGE sql STABLE
RETURN (
    SELECT k.columns
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    CROSS JOIN LATERAL (
        SELECT array_agg(a.attname ORDER BY n.place) AS columns, bool_and(a.attnotnull AND a.attname = ANY (names)) AS fits
        FROM generate_series(0, i.indnkeyatts - 1) AS n (place)
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n.place]) AS k
    WHERE i.indrelid = target AND i.indisunique AND NOT i.indisexclusion AND i.indisvalid
      AND i.indpred IS NULL AND i.indexprs IS NULL AND k.fits
    ORDER BY i.indisprimary DESC, cardinality(k.columns), c.relname
    LIMIT 1
);
COMMENT ON FUNCTION roneo.key_of_table(regclass, name[]) IS
    'The columns of a unique index without NULLs, of those named, the primary key first; NULL for none.';

CREATE OR REPLACE FUNCTION roneo.verified_snapshot(r roneo.replica, m roneo.snapshot_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN jsonb_build_object('counted', true, 'target', format('%I.%I', m.table_schema, roneo.shown_table(m)));
COMMENT ON FUNCTION roneo.verified_snapshot(roneo.replica, roneo.snapshot_replica, jsonb) IS 'What is particular to a snapshot when it is compared: the table behind the view, and that only counters say whether the source has changed since it was copied.';

CREATE OR REPLACE FUNCTION roneo.verified_plain(r roneo.replica, m roneo.plain_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN '{"counted": true}'::jsonb;
COMMENT ON FUNCTION roneo.verified_plain(roneo.replica, roneo.plain_replica, jsonb) IS 'What is particular to a plain replica when it is compared: that only counters say whether the source has changed since it was copied.';

-- What lies above the position, or is held, is not to be here yet.
CREATE OR REPLACE FUNCTION roneo.verified_control(r roneo.replica, c roneo.control_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN jsonb_build_object(
    'key', to_jsonb(c.key_columns),
    'keyless', c.key_columns IS NULL,
    'range_column', c.control,
    'ready', concat_ws(' AND ',
        CASE WHEN c.last_value IS NULL THEN 'false'
             WHEN c.null_control = 'read' THEN format('(%s OR %I IS NULL)', roneo.compared(c, '<=', c.last_value), c.control)
             ELSE roneo.compared(c, '<=', c.last_value) END,
        roneo.ready_condition(c, roneo.age_of(roneo.answered_xid(answer, 'xmin')), roneo.age_of(roneo.answered_xid(answer, 'xmax')))),
    'trouble', CASE WHEN c.key_columns IS NOT NULL AND NOT c.key_is_unique
                    THEN format('the key (%s) is not unique on the source, and which of its rows is here is not known', roneo.column_list(c.key_columns)) END);
COMMENT ON FUNCTION roneo.verified_control(roneo.replica, roneo.control_replica, jsonb) IS
    'What is particular to an inserter or updater when it is compared: only rows at or below its position are to be here.';

CREATE OR REPLACE FUNCTION roneo.reaches_above(c roneo.control_replica, upto text)
RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer boolean;
BEGIN
    EXECUTE format('SELECT %1$L::%3$s > %2$L::%3$s', upto, c.last_value, c.control_type) INTO answer;
    RETURN coalesce(answer, true);
END;
$$;
COMMENT ON FUNCTION roneo.reaches_above(roneo.control_replica, text) IS
    'Whether rows above the position lie in a range up to a control value; NULL for a range without an end.';

-- A boundary keeps rows away for a while; so do open transactions, where there is no key.
CREATE OR REPLACE FUNCTION roneo.not_compared(c roneo.control_replica, answer jsonb, upto text)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT format(CASE WHEN w.what <> '' THEN '%s are not to be here yet, and were not compared' END, w.what)
    FROM (SELECT concat_ws(', and ',
        CASE WHEN roneo.bound_condition(c, '') IS NULL OR NOT roneo.reaches_above(c, upto) THEN NULL
             WHEN c.last_value IS NULL THEN 'rows of any age'
             ELSE format('rows above %s of %I', c.last_value, c.control) END,
        CASE WHEN c.key_columns IS NULL AND roneo.follows_xmin(c) AND roneo.answered_xid(answer, 'xmin') <> roneo.answered_xid(answer, 'xmax')
             THEN 'rows that wait for a transaction of the source' END)) AS w (what));
COMMENT ON FUNCTION roneo.not_compared(roneo.control_replica, jsonb, text) IS
    'Which rows of its source an inserter or updater is not to have yet, in words; NULL where there can be none.';

CREATE OR REPLACE FUNCTION roneo.verified_inserter(r roneo.replica, m roneo.inserter_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (SELECT roneo.verified_control(r, c, answer) || '{"keeps": true}' FROM roneo.control_replica AS c WHERE c.replica_id = r.replica_id);
COMMENT ON FUNCTION roneo.verified_inserter(roneo.replica, roneo.inserter_replica, jsonb) IS
    'What is particular to an inserter when it is compared: rows that are gone from the source may stay.';

CREATE OR REPLACE FUNCTION roneo.verified_updater(r roneo.replica, m roneo.updater_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (SELECT roneo.verified_control(r, c, answer) FROM roneo.control_replica AS c WHERE c.replica_id = r.replica_id);
COMMENT ON FUNCTION roneo.verified_updater(roneo.replica, roneo.updater_replica, jsonb) IS 'What is particular to an updater when it is compared.';

CREATE OR REPLACE FUNCTION roneo.verified_dml(r roneo.replica, m roneo.dml_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN jsonb_build_object('key', to_jsonb(m.key_columns));
COMMENT ON FUNCTION roneo.verified_dml(roneo.replica, roneo.dml_replica, jsonb) IS 'What is particular to a dml replica when it is compared: its key.';

CREATE OR REPLACE FUNCTION roneo.verified_logdel(r roneo.replica, m roneo.logdel_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN jsonb_build_object('key', to_jsonb(m.key_columns), 'live', format('%I IS NULL', m.deleted_column), 'deleted_column', m.deleted_column);
COMMENT ON FUNCTION roneo.verified_logdel(roneo.replica, roneo.logdel_replica, jsonb) IS
    'What is particular to a logdel replica when it is compared: rows that were deleted on the source do not count.';

-- Each value is compared as the column here would hold it: numeric(10,2) rounds what it is given.
CREATE OR REPLACE FUNCTION roneo.verified_columns(wanted jsonb, present jsonb, seldom_null name[])
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'name', p.name,
        'source_type', p.source_type, 'dest_type', p.dest_type,
        'there', CASE WHEN p.source_type = p.dest_type OR p.cast_type = p.source_type AND d.col ->> 'type_schema' <> 'pg_catalog'
                      THEN quote_ident(p.name) ELSE format('%I::%s', p.name, p.dest_type) END,
        'here', quote_ident(p.name),
        'kind', CASE WHEN p.source_type = p.dest_type AND p.dest_type LIKE 'numeric(%)' THEN 'scaled'
                     WHEN d.col ->> 'type_schema' = 'pg_catalog' AND d.col ->> 'type_extension' IS NULL
                       OR s.col ->> 'type_base' = d.col ->> 'type_base'
                     THEN roneo.hash_kind(d.col ->> 'type_base') ELSE 'text' END,
        'nullable', NOT ((s.col ->> 'not_null')::boolean AND (d.col ->> 'not_null')::boolean),
        'is_jsonb', d.col ->> 'type_base' = 'jsonb',
        'seldom_null', p.name = ANY (seldom_null)) ORDER BY p."position"), '[]')
    FROM roneo.pair_columns(wanted, present) AS p
    JOIN jsonb_array_elements(wanted) AS s (col) ON s.col ->> 'name' = p.name
    JOIN jsonb_array_elements(present) AS d (col) ON d.col ->> 'name' = p.name
);
COMMENT ON FUNCTION roneo.verified_columns(jsonb, jsonb, name[]) IS
    'The columns that are compared: the expression for each on either side, and how it is hashed.';

CREATE OR REPLACE FUNCTION roneo.seldom_null(target regclass)
RETURNS name[] LANGUAGE sql STABLE
RETURN ARRAY(
    SELECT s.attname
    FROM pg_stats AS s
    -- By subqueries: joined, the view would be made for all tables.
    WHERE s.schemaname = (SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = target)
      AND s.tablename = (SELECT c.relname FROM pg_class AS c WHERE c.oid = target)
      AND s.null_frac < 0.01
);
COMMENT ON FUNCTION roneo.seldom_null(regclass) IS 'Columns that have next to no NULL, as far as statistics tell: a guess, by which hashes are made fast.';

-- By bytes, for a text is in another order under another collation.
CREATE OR REPLACE FUNCTION roneo.verified_range(col jsonb, side text, from_value text, to_value text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT nullif(concat_ws(' AND ',
        format(CASE WHEN from_value IS NOT NULL THEN '%1$I%3$s >= %2$L::%4$s%3$s' END, col ->> 'name', from_value, o.order_of, o.type_name),
        -- Rows without a value belong to the range that has no lower end: each row is in one slice.
        format(CASE WHEN to_value IS NULL THEN NULL WHEN from_value IS NULL AND (col ->> 'nullable')::boolean THEN '(%1$I%3$s < %2$L::%4$s%3$s OR %1$I IS NULL)'
                    ELSE '%1$I%3$s < %2$L::%4$s%3$s' END, col ->> 'name', to_value, o.order_of, o.type_name)), '')
    FROM (SELECT CASE WHEN col ->> 'kind' IN ('text', 'padded') THEN '::pg_catalog.text COLLATE "C"' ELSE '' END AS order_of,
                 col ->> CASE side WHEN 'there' THEN 'source_type' ELSE 'dest_type' END AS type_name) AS o
);
COMMENT ON FUNCTION roneo.verified_range(jsonb, text, text, text) IS
    'A condition for the half-open range from a value up to another one, on either side (there, here); NULL for everything.';

CREATE OR REPLACE FUNCTION roneo.verified_part(r roneo.replica, answer jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part jsonb;
BEGIN
    EXECUTE format('SELECT roneo.%I(r, m, $2) FROM roneo.replica AS r JOIN roneo.%I AS m ON m.replica_id = r.replica_id WHERE r.replica_id = $1',
                   concat('verified_', r.method), concat(r.method, '_replica'))
    INTO STRICT part USING r.replica_id, answer;
    RETURN part;
END;
$$;
COMMENT ON FUNCTION roneo.verified_part(roneo.replica, jsonb) IS 'What is particular to the method of a replica when it is compared.';

-- Two servers write characters as other bytes where their encodings differ.
CREATE OR REPLACE FUNCTION roneo.recoded(r roneo.replica, answer jsonb, side text)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT CASE WHEN answer #>> '{before,identity,encoding}' = current_setting('server_encoding') THEN NULL
                WHEN side = 'there' THEN coalesce(s.source_encoding, 'server') ELSE 'server' END
    FROM roneo.source AS s WHERE s.source_id = r.source_id
);
COMMENT ON FUNCTION roneo.recoded(roneo.replica, jsonb, text) IS 'In which encoding the bytes of a side are; NULL where both sides have the same.';

CREATE OR REPLACE FUNCTION roneo.verify_subject(r roneo.replica, answer jsonb, options jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part    jsonb := roneo.verified_part(r, answer);
    target  text := coalesce(part ->> 'target', format('%I.%I', r.dest_schema, r.dest_name));
    wanted  jsonb := roneo.wanted_source_columns(r, answer);
    columns jsonb := roneo.verified_columns(wanted, roneo.local_relation(target::regclass) -> 'columns', roneo.seldom_null(target::regclass));
    names   name[] := ARRAY(SELECT (c.col ->> 'name')::name FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, nr) ORDER BY c.nr);
    key     jsonb := CASE WHEN (part ->> 'keyless')::boolean THEN 'null'
                          ELSE coalesce(nullif(part -> 'key', 'null'), to_jsonb(roneo.key_of_table(target::regclass, names)), 'null') END;
    ranging text := coalesce(part ->> 'range_column', key ->> 0);
    ranged  jsonb := (SELECT c.col FROM jsonb_array_elements(columns) AS c (col) WHERE c.col ->> 'name' = ranging);
BEGIN
    IF coalesce(options ->> 'from', options ->> 'to') IS NOT NULL AND ranged IS NULL THEN
        PERFORM roneo.bad_argument(format('%s has no column to take a range of', target), 'A range is one of the control column, or of the first column of the key.');
    END IF;
    RETURN part || jsonb_build_object(
        'target', target, 'columns', columns, 'wanted', wanted, 'key', key, 'range_column', ranging,
        'not_compared', (SELECT roneo.not_compared(c, answer, options ->> 'to') FROM roneo.control_replica AS c WHERE c.replica_id = r.replica_id),
        'from', roneo.source_name_of(r),
        'filter', r.filter,
        'there', roneo.verified_range(ranged, 'there', options ->> 'from', options ->> 'to'),
        'here', roneo.verified_range(ranged, 'here', options ->> 'from', options ->> 'to'),
        'recode_there', roneo.recoded(r, answer, 'there'),
        'recode_here', roneo.recoded(r, answer, 'here'));
END;
$$;
COMMENT ON FUNCTION roneo.verify_subject(roneo.replica, jsonb, jsonb) IS
    'Everything that says what is compared with what: tables, columns, key, conditions. options: from and to, the half-open range of control values or keys.';
