-- What create_inserter and create_updater have in common: reading their arguments, asking the source
-- about the control column, choosing the key, and the first position.

CREATE OR REPLACE FUNCTION roneo.control_column(description jsonb, control text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found jsonb;
BEGIN
    SELECT c.col INTO found
    FROM jsonb_array_elements(description #> '{relation,columns}') AS c (col)
    WHERE c.col ->> 'name' = control;
    IF found IS NULL OR roneo.control_class(found ->> 'type_base') IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = CASE
                WHEN control IS NULL THEN 'no control column is given'
                WHEN found IS NULL THEN format('source table %I.%I has no column %I', description #>> '{relation,schema}',
                                               description #>> '{relation,name}', control)
                ELSE format('column %I of type %s cannot be followed', control, found ->> 'type') END,
            HINT    = 'control => ''updated_at'' names a column whose values grow: a timestamp, a date, an integer, a numeric; a uuid or text that sorts by age.';
    END IF;
    RETURN found;
END;
$$;
COMMENT ON FUNCTION roneo.control_column(jsonb, text) IS
    'The control column out of a description; raises RO007 where there is none, or of a type without an order of age.';

CREATE OR REPLACE FUNCTION roneo.files_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$WITH RECURSIVE tree AS (
        SELECT (%s)::pg_catalog.oid AS oid
        UNION
        SELECT i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
    )
    SELECT coalesce(pg_catalog.jsonb_object_agg(p.oid, p.relfilenode::bigint), '{}')
    FROM tree AS t JOIN pg_catalog.pg_class AS p ON p.oid = t.oid
    WHERE p.relkind = 'r'$query$, relation);
COMMENT ON FUNCTION roneo.files_query(text) IS
    'SQL for the tables that rows of a table come from, with their files; the table is given as an expression of type oid.';

-- pg_sequences hides those of others; a cache too small to matter is the default of one.
CREATE OR REPLACE FUNCTION roneo.control_facts_query(description jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$SELECT pg_catalog.jsonb_build_object(
    'snapshot', pg_catalog.pg_current_snapshot()::text,
    'zone', pg_catalog.current_setting('TimeZone'),
    'cache', (SELECT pg_catalog.max(q.seqcache) FROM pg_catalog.pg_sequence AS q
              JOIN pg_catalog.pg_depend AS d ON d.objid = q.seqrelid AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = %1$s::pg_catalog.oid),
    'inherited', EXISTS (SELECT FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent
                         WHERE p.oid = %1$s::pg_catalog.oid AND p.relkind = 'r'),
    'leaves', (%3$s),
    'xmin', %2$s,
    'plain', NOT EXISTS (
        WITH RECURSIVE tree AS (
            SELECT %1$s::pg_catalog.oid AS oid
            UNION
            SELECT i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid)
        SELECT FROM tree AS t JOIN pg_catalog.pg_class AS p ON p.oid = t.oid WHERE p.relkind NOT IN ('r', 'p')))$query$,
    description #>> '{relation,oid}',
    CASE WHEN description #>> '{relation,kind}' IN ('r', 'p')
         THEN format('pg_catalog.has_column_privilege(%1$s::pg_catalog.oid, ''xmin'', ''SELECT'') AND '
                     '(pg_catalog.has_column_privilege(%1$s::pg_catalog.oid, ''tableoid'', ''SELECT'') OR NOT EXISTS ('
                     'SELECT FROM pg_catalog.pg_class AS p WHERE p.oid = %1$s::pg_catalog.oid AND (p.relkind = ''p'' OR p.relhassubclass)))',
                     description #>> '{relation,oid}')
         ELSE 'false' END,
    roneo.files_query(description #>> '{relation,oid}'));
COMMENT ON FUNCTION roneo.control_facts_query(jsonb) IS
    'A query on the source about the table of a control column: its leaves, and whether rows show their transaction.';

CREATE OR REPLACE FUNCTION roneo.control_values_query(description jsonb, control text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$SELECT pg_catalog.jsonb_build_object(
    'top', (SELECT x.%1$I::pg_catalog.text FROM %2$I.%3$I AS x WHERE x.%1$I IS NOT NULL ORDER BY x.%1$I DESC LIMIT 1),
    'nulls', EXISTS (SELECT FROM %2$I.%3$I AS x WHERE x.%1$I IS NULL))$query$,
    control, description #>> '{relation,schema}', description #>> '{relation,name}');
COMMENT ON FUNCTION roneo.control_values_query(jsonb, text) IS
    'A query on the source about the values of its control column: the highest one, and whether some are missing.';

CREATE OR REPLACE FUNCTION roneo.control_facts(source_name text, description jsonb, control text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    facts   jsonb;
    zone    text;
    problem text;
    link    text := roneo.open_link(source_name);
BEGIN
    zone := roneo.ask_link(link, 'SELECT pg_catalog.current_setting(''TimeZone'')');
    PERFORM roneo.tell_link(link, roneo.source_opening());
    facts := roneo.ask_link(link, roneo.control_facts_query(description))::jsonb;
    -- As the probe reads it: the functions of a view find their names there.
    IF description #>> '{relation,kind}' = 'v' THEN
        PERFORM roneo.ask_link(link, format('SELECT pg_catalog.set_config(''search_path'', %L, true)', description ->> 'path'));
    END IF;
    facts := facts || roneo.ask_link(link, roneo.control_values_query(description, control))::jsonb;
    PERFORM roneo.tell_link(link, 'ROLLBACK');
    PERFORM roneo.close_link(link);
    RETURN facts || jsonb_build_object('zone', zone);
EXCEPTION WHEN insufficient_privilege THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    PERFORM roneo.close_link(link);
    RAISE EXCEPTION USING
        ERRCODE = 'RO009',
        MESSAGE = format('column %I of source table %I.%I may not be read', control, description #>> '{relation,schema}',
                         description #>> '{relation,name}'),
        DETAIL  = problem,
        HINT    = format('On the source: GRANT SELECT ON TABLE %I.%I TO the role of the user mapping; or columns, and xmin (of a partitioned table tableoid too) with them.',
                         description #>> '{relation,schema}', description #>> '{relation,name}');
WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link(link);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.control_facts(text, jsonb, text) IS 'Asks a source about a control column, over dblink; raises RO009 where it may not be read.';

-- The primary key, else the unique index with the fewest columns, else the first by name.
CREATE OR REPLACE FUNCTION roneo.natural_key(description jsonb, columns text[])
RETURNS name[] LANGUAGE sql STABLE
RETURN (
    SELECT k.names
    FROM jsonb_array_elements(description -> 'indexes') AS i (index)
    CROSS JOIN LATERAL (
        SELECT array_agg((c.col ->> 'name')::name ORDER BY e.place) AS names, bool_and((c.col ->> 'not_null')::boolean) AS not_null
        FROM jsonb_array_elements(i.index -> 'keys') WITH ORDINALITY AS e (key, place)
        LEFT JOIN jsonb_array_elements(description #> '{relation,columns}') AS c (col)
            ON quote_ident(c.col ->> 'name') = e.key ->> 'text'
    ) AS k
    WHERE (i.index ->> 'unique')::boolean AND i.index ->> 'predicate' IS NULL
      AND array_position(k.names, NULL) IS NULL AND k.not_null
      AND (columns IS NULL OR k.names <@ columns::name[])
    ORDER BY (i.index ->> 'primary')::boolean DESC, cardinality(k.names), i.index ->> 'name'
    LIMIT 1
);
COMMENT ON FUNCTION roneo.natural_key(jsonb, text[]) IS
    'The key of a source table: unique, without NULLs, not partial, of plain columns that are copied; NULL for none.';

CREATE OR REPLACE FUNCTION roneo.has_arbiter(target regclass, key_columns name[], deleted_column name DEFAULT NULL)
RETURNS boolean LANGUAGE sql STABLE
RETURN EXISTS (
    SELECT FROM pg_index AS i
    WHERE i.indrelid = target AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indexprs IS NULL
      AND pg_get_expr(i.indpred, i.indrelid) IS NOT DISTINCT FROM format(CASE WHEN deleted_column IS NOT NULL THEN '(%I IS NULL)' END, deleted_column)
      AND (SELECT array_agg(a.attname ORDER BY a.attname)
           FROM pg_attribute AS a
           WHERE a.attrelid = target AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1]))
          = (SELECT array_agg(k ORDER BY k) FROM unnest(key_columns) AS k));
COMMENT ON FUNCTION roneo.has_arbiter(regclass, name[], name) IS
    'Whether a table here has a unique index on exactly these columns, by which rows can be put; with deleted_column one of the rows that are not deleted.';

CREATE OR REPLACE FUNCTION roneo.require_key(description jsonb, key_columns text[])
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    SELECT CASE WHEN c.col IS NULL THEN format('the source has no column %I', k)
                ELSE format('column %I can be NULL, and two rows with a NULL never match', k) END
    INTO problem
    FROM unnest(key_columns) AS k
    LEFT JOIN jsonb_array_elements(description #> '{relation,columns}') AS c (col) ON c.col ->> 'name' = k
    WHERE c.col IS NULL OR NOT (c.col ->> 'not_null')::boolean AND description #>> '{relation,kind}' NOT IN ('v', 'm', 'f')
    LIMIT 1;
    IF key_columns IS NULL OR problem IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = CASE WHEN problem IS NULL
                THEN format('source table %I.%I has no key', description #>> '{relation,schema}', description #>> '{relation,name}')
                ELSE format('the key cannot be used: %s', problem) END,
            DETAIL  = 'An updater finds the row to overwrite by its key: the primary key, or a unique index on columns that are NOT NULL.',
            HINT    = 'Give key_columns => ARRAY[…], columns that are NOT NULL and unique together; or use a snapshot.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_key(jsonb, text[]) IS 'Raises RO007 for a key that is missing, unknown, or can be NULL.';

CREATE OR REPLACE FUNCTION roneo.bad_argument(problem text, advice text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'RO007', MESSAGE = problem, HINT = advice;
END;
$$;
COMMENT ON FUNCTION roneo.bad_argument(text, text) IS 'Raises RO007.';

-- A person means a time in the zone of the session; 'today' is one day, however long a repull takes.
CREATE OR REPLACE FUNCTION roneo.settled_value(value text, control_type text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settled text;
BEGIN
    EXECUTE format('SELECT pg_catalog.to_jsonb(%L::%s) #>> ''{}''', value, control_type) INTO settled;
    RETURN settled;
END;
$$;
COMMENT ON FUNCTION roneo.settled_value(text, text) IS
    'A value that a person gave, in a form that does not depend on when and where it is read.';

CREATE OR REPLACE FUNCTION roneo.require_distance(argument text, value text, control_type text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_good boolean := false;
BEGIN
    BEGIN
        is_good := value IS NULL OR CASE roneo.control_class(control_type)
            WHEN 'time' THEN value::interval >= interval '0'
            WHEN 'serial' THEN value::numeric >= 0 AND value::numeric < 'Infinity'
            ELSE value::numeric = 0 END;
    EXCEPTION WHEN data_exception THEN
        -- Reported below.
        NULL;
    END;
    IF NOT is_good THEN
        PERFORM roneo.bad_argument(format('%s is %L, for a control column of type %s', argument, value, control_type),
            CASE roneo.control_class(control_type) WHEN 'time' THEN 'Give an interval such as ''10 minutes''.'
                 WHEN 'serial' THEN 'Give a number such as ''10000''.'
                 ELSE 'Values of this type have no distance: leave it out, late rows are looked for in the whole table.' END);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_distance(text, text, text) IS
    'Raises RO007 for a boundary or look_back that is no distance on that column.';

CREATE OR REPLACE FUNCTION roneo.require_control_arguments(c roneo.control_replica, facts jsonb, start_value text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.require_distance('boundary', c.boundary, c.control_type);
    PERFORM roneo.require_distance('look_back', c.look_back, c.control_type);
    IF c.batch_limit <= 0 THEN
        PERFORM roneo.bad_argument(format('batch_limit is %s', c.batch_limit), 'Give the number of rows that one transaction may read, or NULL.');
    ELSIF c.sweep_every < interval '0' THEN
        PERFORM roneo.bad_argument(format('sweep_every is %s', c.sweep_every), 'Give an interval; 0 sweeps at every refresh.');
    ELSIF c.sweep_every IS NOT NULL AND NOT roneo.follows_xmin(c) THEN
        PERFORM roneo.bad_argument('sweep_every is given, and rows do not show which transaction wrote them',
            'That takes a table, the right to read xmin, and a key or append_only => true.');
    ELSIF c.sweep_every > interval '0' AND c.key_columns IS NULL THEN
        -- Of older ones it is not known which of them the window has had.
        PERFORM roneo.bad_argument(format('sweep_every is %s, for a replica without a key', c.sweep_every),
            'Without a key a sweep finds only what was written since the last refresh: give 0, which sweeps at every refresh.');
    ELSIF c.blackout NOT IN ('auto', 'off', 'on') AND c.blackout !~ '^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$' THEN
        PERFORM roneo.bad_argument(format('blackout is %L', c.blackout), 'Give auto, off, on, or hours such as ''00:30-02:30''.');
    ELSIF c.null_control NOT IN ('refuse', 'read', 'ignore') THEN
        PERFORM roneo.bad_argument(format('null_control is %L', c.null_control), 'Give refuse, read or ignore.');
    ELSIF c.null_control = 'refuse' AND (facts ->> 'nulls')::boolean THEN
        PERFORM roneo.bad_argument(format('rows have no value in the control column %I', c.control),
            'Choose null_control => ''read'' (they are known by their transaction) or ''ignore''.');
    ELSIF c.null_control = 'read' AND NOT roneo.follows_xmin(c) THEN
        PERFORM roneo.bad_argument('null_control is read, and rows do not show which transaction wrote them',
            'That takes a table, the right to read xmin, and a key or append_only => true.');
    END IF;
    -- Not by the list of names: a server's own zone may be of another form, such as <+03>-03.
    BEGIN
        PERFORM now() AT TIME ZONE c.control_zone;
    EXCEPTION WHEN data_exception THEN
        PERFORM roneo.bad_argument(format('control_zone %L is no time zone', c.control_zone), 'pg_timezone_names lists them.');
    END;
    BEGIN
        PERFORM roneo.settled_value(start_value, c.control_type);
    EXCEPTION WHEN data_exception THEN
        PERFORM roneo.bad_argument(format('start_value %L is no value of type %s', start_value, c.control_type),
            'Rows above it are copied.');
    END;
END;
$$;
COMMENT ON FUNCTION roneo.require_control_arguments(roneo.control_replica, jsonb, text) IS
    'Raises RO007 for an argument of create_inserter or create_updater that cannot be.';

CREATE OR REPLACE FUNCTION roneo.with_defaults(c roneo.control_replica, facts jsonb)
RETURNS roneo.control_replica LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind text := roneo.control_class(c.control_type);
BEGIN
    c.boundary := coalesce(c.boundary, CASE
        WHEN roneo.follows_xmin(c) OR kind = 'order' THEN '0'
        WHEN kind = 'time' THEN '10 minutes'
        ELSE '10' END);
    -- Where values have no distance, each refresh looks for late rows in the whole table.
    c.look_back := coalesce(c.look_back, CASE kind
        WHEN 'time' THEN '10 minutes'
        WHEN 'serial' THEN greatest(10000, 10 * coalesce((facts ->> 'cache')::bigint, 1))::text END);
    c.blackout := coalesce(c.blackout, 'auto');
    c.null_control := coalesce(c.null_control, 'refuse');
    c.control_zone := coalesce(c.control_zone, facts ->> 'zone');
    RETURN c;
END;
$$;
COMMENT ON FUNCTION roneo.with_defaults(roneo.control_replica, jsonb) IS
    'Fills in what the caller of create_inserter or create_updater left open.';

CREATE OR REPLACE FUNCTION roneo.highest_here(target regclass, control name)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, YMD'
AS $$
DECLARE
    value text;
BEGIN
    -- Without x. the order would be that of the text.
    EXECUTE format('SELECT x.%1$I::text FROM %2$s AS x WHERE x.%1$I IS NOT NULL ORDER BY x.%1$I DESC LIMIT 1', control, target) INTO value;
    RETURN value;
END;
$$;
COMMENT ON FUNCTION roneo.highest_here(regclass, name) IS 'The highest value of a column of a table here, in the pinned form.';

-- Rows written since the snapshot of the facts are late ones, wherever they are; and so are those
-- of transactions open then, whose starts nobody knows.
CREATE OR REPLACE FUNCTION roneo.first_position(
    c roneo.control_replica, facts jsonb, target regclass, start_value text, adopted boolean, copy_data boolean)
RETURNS roneo.control_replica LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, YMD'
AS $$
BEGIN
    EXECUTE format('SELECT %L::%s::text', start_value, c.control_type) INTO c.last_value;
    c.last_value := coalesce(c.last_value,
        CASE WHEN adopted THEN roneo.highest_here(target, c.control) END,
        CASE WHEN NOT copy_data AND NOT adopted THEN facts ->> 'top' END);
    IF c.last_value IS NOT NULL THEN
        c.horizon := pg_snapshot_xmin((facts ->> 'snapshot')::pg_snapshot);
        c.leaves := facts -> 'leaves';
    END IF;
    RETURN c;
END;
$$;
COMMENT ON FUNCTION roneo.first_position(roneo.control_replica, jsonb, regclass, text, boolean, boolean) IS
    'Where a replica starts: at start_value; at the highest value of an adopted table; at the source''s highest where nothing is to be copied; else at the beginning.';

CREATE OR REPLACE FUNCTION roneo.require_control_here(
    target regclass, description jsonb, method text, key_columns name[], control name, start_value text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    control_here text;
    loose        name;
BEGIN
    SELECT c.col ->> 'type_base' INTO control_here
    FROM jsonb_array_elements(roneo.local_relation(target) -> 'columns') AS c (col) WHERE c.col ->> 'name' = control;
    IF control_here IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO015',
            MESSAGE = format('table %s has no column %I, the control column', target, control),
            HINT    = 'Add it, or name a dest that does not exist.';
    ELSIF start_value IS NULL AND control_here <> (roneo.control_column(description, control) ->> 'type_base')
          AND (roneo.control_class(control_here) = 'serial' AND roneo.control_class(
                   roneo.control_column(description, control) ->> 'type_base') = 'serial') IS NOT TRUE THEN
        PERFORM roneo.bad_argument(format('column %I of table %s is of type %s, and another one at the source', control, target, control_here),
            'So its highest value does not tell where to go on: give start_value.');
    END IF;
    -- An inserter sets nothing; a key has the same value on both sides.
    SELECT a.attname INTO loose FROM pg_attribute AS a
    WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = 'a' AND a.attname <> ALL (key_columns)
      AND a.attname = ANY (roneo.column_names(description #> '{relation,columns}'));
    IF FOUND AND method = 'updater' THEN
        PERFORM roneo.bad_argument(format('column %I of table %s is an identity that cannot be updated', loose, target),
            format('ALTER TABLE %s ALTER COLUMN %I SET GENERATED BY DEFAULT;', target, loose));
    END IF;
    SELECT a.attname INTO loose
    FROM jsonb_array_elements(description #> '{relation,columns}') AS c (col)
    JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = c.col ->> 'name' AND a.attnum > 0 AND NOT a.attnotnull
    WHERE a.attname = ANY (key_columns) AND NOT (c.col ->> 'not_null')::boolean;
    IF FOUND THEN
        PERFORM roneo.bad_argument(format('column %I of the key can be NULL on both sides', loose),
            format('Rows with a NULL would come again and again. ALTER TABLE %s ALTER COLUMN %I SET NOT NULL;', target, loose));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_control_here(regclass, jsonb, text, name[], name, text) IS
    'Raises RO015 or RO007 where an adopted table does not tell how far it has got, or would take rows without a key.';

CREATE OR REPLACE FUNCTION roneo.prepare_target(
    table_schema name, table_name name, description jsonb, method text, columns text[], wish roneo.control_replica,
    with_indexes boolean, start_value text, OUT target regclass, OUT adopted boolean)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key_column name;
BEGIN
    target := to_regclass(format('%I.%I', table_schema, table_name));
    adopted := target IS NOT NULL;
    IF adopted THEN
        PERFORM roneo.require_adoptable(target, roneo.described_columns(description, columns), columns);
        PERFORM roneo.require_control_here(target, description, method, wish.key_columns, wish.control, start_value);
    ELSE
        target := roneo.make_table(table_schema, table_name, description,
            roneo.described_columns(description, columns), with_indexes, true);
        IF wish.key_columns IS NOT NULL AND NOT roneo.has_arbiter(target, wish.key_columns) THEN
            EXECUTE format('CREATE UNIQUE INDEX ON %s (%s)', target, roneo.column_list(wish.key_columns));
        END IF;
        -- The columns of a view can be NULL, and such keys would match nothing.
        FOREACH key_column IN ARRAY coalesce(wish.key_columns, '{}') LOOP
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', target, key_column);
        END LOOP;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.prepare_target(name, name, jsonb, text, text[], roneo.control_replica, boolean, text) IS
    'Makes the table of a replica with a unique index on its key, or adopts the one that is there.';

CREATE OR REPLACE FUNCTION roneo.register_control(
    source text, source_table text, dest text, method text, columns text[], filter text, with_indexes boolean,
    copy_data boolean, refresh_every interval, wish roneo.control_replica, start_value text)
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    description jsonb := roneo.describe_source(source, source_table, filter);
    column_here jsonb := roneo.control_column(description, wish.control);
    facts       jsonb := roneo.control_facts(source, description, wish.control);
    natural_key name[] := roneo.natural_key(description, columns);
    described   jsonb;
    place       record;
    target      record;
    made        roneo.replica;
BEGIN
    SELECT * INTO place FROM roneo.require_dest_name(dest, description);
    PERFORM roneo.require_columns_exist(columns, description);
    described := jsonb_set(description, '{relation,columns}', roneo.described_columns(description, columns));
    PERFORM roneo.require_columns_exist(ARRAY[wish.control]::text[], described);
    PERFORM roneo.require_columns_exist(wish.key_columns::text[], described);
    IF method = 'updater' THEN
        wish.key_columns := coalesce(wish.key_columns, natural_key);
        PERFORM roneo.require_key(description, wish.key_columns::text[]);
    ELSIF NOT wish.append_only OR wish.key_columns IS NOT NULL THEN
        wish.key_columns := coalesce(wish.key_columns, natural_key);
    END IF;
    -- An index of a table says nothing about those that inherit from it.
    wish.key_is_unique := coalesce(wish.key_columns @> natural_key, false) AND NOT (facts ->> 'inherited')::boolean;
    -- As a type to cast to, character has one place.
    wish.control_type := CASE column_here ->> 'type_base' WHEN 'character' THEN 'bpchar' ELSE column_here ->> 'type_base' END;
    wish.reads_xmin := (facts ->> 'xmin')::boolean AND (facts ->> 'plain')::boolean;
    SELECT * INTO target FROM roneo.prepare_target(place.place_schema, place.place_name, description, method, columns, wish,
                                                   with_indexes, start_value);
    IF wish.key_columns IS NOT NULL AND NOT roneo.has_arbiter(target.target, wish.key_columns) THEN
        PERFORM roneo.bad_argument(format('%s has no unique index on (%s)', target.target, roneo.column_list(wish.key_columns)),
            format('CREATE UNIQUE INDEX ON %s (%s);', target.target, roneo.column_list(wish.key_columns)));
    END IF;
    wish := roneo.with_defaults(wish, facts);
    PERFORM roneo.require_control_arguments(wish, facts, start_value);
    wish := roneo.first_position(wish, facts, target.target, roneo.settled_value(start_value, wish.control_type),
                                 target.adopted, copy_data);
    made := roneo.new_replica(source, description, target.target, method, columns, filter, refresh_every);
    wish.replica_id := made.replica_id;
    wish.open_since := '{}';
    wish.repulling := false;
    wish.met_rows := false;
    INSERT INTO roneo.control_replica SELECT wish.*;
    IF copy_data THEN
        PERFORM roneo.refresh(made.dest, raise_errors => true);
    END IF;
    RETURN made.dest;
END;
$$;
COMMENT ON FUNCTION roneo.register_control(text, text, text, text, text[], text, boolean, boolean, interval, roneo.control_replica, text) IS
    'Registers an inserter or updater, whose own arguments are in wish.';
