-- What every create_METHOD does before its own part: read the arguments, ask the source about
-- the table, and write the row of the replica.

CREATE OR REPLACE FUNCTION roneo.describe_by_name_query(source_table text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('SELECT pg_catalog.jsonb_build_object(''path'', pg_catalog.current_setting(''search_path''), '
              '''role'', current_user, ''encoding'', pg_catalog.current_setting(''server_encoding''), '
              '''oid'', pg_catalog.to_regclass(%L)::pg_catalog.oid)', source_table);
COMMENT ON FUNCTION roneo.describe_by_name_query(text) IS
    'A query on the source that resolves a name under the search_path of its role, before settings are pinned.';

CREATE OR REPLACE FUNCTION roneo.describe_query(source_oid text)
RETURNS text LANGUAGE sql STABLE
RETURN format('SELECT pg_catalog.jsonb_build_object(''relation'', (%s), ''indexes'', (%s), '
              '''system_identifier'', (SELECT c.system_identifier::text FROM pg_catalog.pg_control_system() AS c), '
              '''database'', (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()))',
              -- No table has oid 0, and NULL would not be SQL.
              roneo.relation_query(format('%s::pg_catalog.oid', coalesce(source_oid, '0'))),
              roneo.index_query(format('%s::pg_catalog.oid', coalesce(source_oid, '0'))));
COMMENT ON FUNCTION roneo.describe_query(text) IS
    'A query on the source that describes a table, given as an expression of type oid: columns, indexes, and where it is.';

-- Twice, between different words: what leaves its parentheses to come back, a) OR (b, fails.
CREATE OR REPLACE FUNCTION roneo.filter_query(source_schema text, source_table text, filter text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(E'SELECT pg_catalog.count(*) FROM (SELECT FROM %1$I.%2$I WHERE (%3$s\n) AND CASE WHEN %3$s\n THEN true END LIMIT 0) AS tried',
              source_schema, source_table, filter);
COMMENT ON FUNCTION roneo.filter_query(text, text, text) IS
    'A query on the source that fails where the filter does not fit the table, and reads no row.';

CREATE OR REPLACE FUNCTION roneo.find_over_link(link text, source_name text, source_table text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    RETURN roneo.ask_link(link, roneo.describe_by_name_query(source_table))::jsonb;
EXCEPTION WHEN insufficient_privilege THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    RAISE EXCEPTION USING
        ERRCODE = 'RO009',
        MESSAGE = format('%s of source %s may not be looked at', source_table, quote_ident(source_name)),
        DETAIL  = problem,
        HINT    = format('On the source: GRANT USAGE ON SCHEMA %I TO %I;',
                         (roneo.parse_name(source_table, NULL)).schema,
                         roneo.ask_link(link, 'SELECT current_user'));
END;
$$;
COMMENT ON FUNCTION roneo.find_over_link(text, text, text) IS
    'Finds a table of the source by its name; raises RO009 where its schema is closed.';

CREATE OR REPLACE FUNCTION roneo.describe_source(source_name text, source_table text, filter text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named       jsonb;
    description jsonb;
    link        text;
BEGIN
    PERFORM roneo.parse_name(source_table, NULL);
    link := roneo.open_link(source_name);
    BEGIN
        named := roneo.find_over_link(link, source_name, source_table);
        PERFORM roneo.tell_link(link, roneo.source_opening());
        -- Planning it takes longer than running it.
        description := named || coalesce(roneo.ask_link(link,
            CASE WHEN link LIKE '%\_held' THEN format('EXECUTE roneo_describe(%s)', coalesce(named ->> 'oid', '0'))
                 ELSE roneo.describe_query(named ->> 'oid') END)::jsonb, '{}');
        PERFORM roneo.require_described(source_name, source_table, description);
        IF filter IS NOT NULL THEN
            PERFORM roneo.tell_link(link, format('SET LOCAL search_path = %s', named ->> 'path'));
            PERFORM roneo.try_filter(link, description, filter);
        END IF;
        PERFORM roneo.tell_link(link, 'ROLLBACK');
        PERFORM roneo.close_link(link);
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        -- A dblink connection stays open after a rollback.
        PERFORM roneo.close_link(link);
        RAISE;
    END;
    RETURN description;
END;
$$;
COMMENT ON FUNCTION roneo.describe_source(text, text, text) IS
    'Describes a table of a source over dblink and tries the filter on it; raises RO004, RO006, RO007 and what open_link raises.';

CREATE OR REPLACE FUNCTION roneo.refuse_filter(description jsonb, filter text, problem text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'RO007',
        MESSAGE = format('the filter does not fit %I.%I: %s', description #>> '{relation,schema}', description #>> '{relation,name}', problem),
        DETAIL  = format('Filter: %s', filter),
        HINT    = 'A filter is a condition over the columns of the table, without the word WHERE.';
END;
$$;
COMMENT ON FUNCTION roneo.refuse_filter(jsonb, text, text) IS 'Raises RO007 for a filter that a server did not accept.';

CREATE OR REPLACE FUNCTION roneo.try_filter(link text, description jsonb, filter text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    PERFORM roneo.ask_link(link, roneo.filter_query(
        description #>> '{relation,schema}', description #>> '{relation,name}', filter));
EXCEPTION WHEN query_canceled THEN
    RAISE;
WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    PERFORM roneo.refuse_filter(description, filter, problem);
END;
$$;
COMMENT ON FUNCTION roneo.try_filter(text, jsonb, text) IS 'Raises RO007 where the source does not accept the filter.';

CREATE OR REPLACE FUNCTION roneo.require_described(source_name text, source_table text, description jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    relation jsonb := nullif(description -> 'relation', 'null');
BEGIN
    IF relation IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO004',
            MESSAGE = format('source %s has no table %s', quote_ident(source_name), source_table),
            DETAIL  = format('Looked for as role %s, whose search_path is %s.',
                             description ->> 'role', description ->> 'path'),
            HINT    = 'Names are case-sensitive inside double quotes and lower case without them; name the schema too.';
    ELSIF relation ->> 'kind' NOT IN ('r', 'p', 'v', 'm', 'f') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO004',
            MESSAGE = format('%s of source %s is not a table or a view', source_table, quote_ident(source_name)),
            HINT    = 'Tables, partitioned tables, views, materialized views and foreign tables can be copied.';
    ELSIF relation ->> 'persistence' = 't' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO004',
            MESSAGE = format('%s of source %s is a temporary table', source_table, quote_ident(source_name)),
            HINT    = 'Only the session that made it can read it.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_described(text, text, jsonb) IS
    'Raises RO004 where the source has no such table, or it is of a kind that cannot be copied.';

CREATE OR REPLACE FUNCTION roneo.require_not_itself(description jsonb, dest_schema name, dest_name name)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (description ->> 'system_identifier')
           = (SELECT c.system_identifier::text FROM pg_control_system() AS c)
       AND (description ->> 'database')::oid
           = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
       AND (dest_schema, dest_name)
           = (description #>> '{relation,schema}', description #>> '{relation,name}') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO005',
            MESSAGE = format('%I.%I would be a copy of itself', dest_schema, dest_name),
            DETAIL  = 'The source is this database.',
            HINT    = 'Name another dest, or look where the source''s foreign server points to.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_not_itself(jsonb, name, name) IS
    'Raises RO005 where source and destination are one table.';

CREATE OR REPLACE FUNCTION roneo.require_dest_name(dest text, description jsonb, OUT place_schema name, OUT place_name name)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF dest IS NULL THEN
        place_schema := description #>> '{relation,schema}';
        place_name := description #>> '{relation,name}';
    ELSE
        SELECT p.schema, p.name INTO place_schema, place_name FROM roneo.parse_name(dest, 'public') AS p;
    END IF;
    IF to_regnamespace(quote_ident(place_schema)) IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO005',
            MESSAGE = format('schema %I does not exist here', place_schema),
            HINT    = format('CREATE SCHEMA %I, or name a dest in another schema.', place_schema);
    END IF;
    PERFORM roneo.require_not_itself(description, place_schema, place_name);
    IF EXISTS (SELECT FROM roneo.replica AS r
               WHERE r.dest = to_regclass(format('%I.%I', place_schema, place_name)))
       OR EXISTS (SELECT FROM roneo.snapshot_replica AS m
                  WHERE m.table_schema = place_schema AND place_name IN (m.first_table, m.second_table)) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO005',
            MESSAGE = format('%I.%I is a replica already, or a table behind one', place_schema, place_name),
            HINT    = 'Drop that one first with roneo.drop_replica, or name another dest.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_dest_name(text, jsonb) IS
    'Schema and name of a destination that is to be made or adopted; raises RO005 or RO006. Without a name it is called as its source is.';

CREATE OR REPLACE FUNCTION roneo.require_columns_exist(columns text[], description jsonb)
RETURNS name[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missing text;
BEGIN
    -- Compared as text: the type name would cut what is too long.
    SELECT string_agg(coalesce(quote_ident(w), 'NULL'), ', ') INTO missing
    FROM roneo.missing_columns(columns, ARRAY(
        SELECT c.col ->> 'name' FROM jsonb_array_elements(description #> '{relation,columns}') AS c (col))) AS w;
    IF columns = '{}' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = 'the list of columns is empty',
            HINT    = 'Leave the argument out to copy all columns.';
    ELSIF missing IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('source table %I.%I has no column %s',
                             description #>> '{relation,schema}', description #>> '{relation,name}', missing),
            HINT    = 'Give names as they are stored, without quotes: ARRAY[''id'', ''Mixed Case''].';
    END IF;
    RETURN columns::name[];
END;
$$;
COMMENT ON FUNCTION roneo.require_columns_exist(text[], jsonb) IS
    'The list of columns asked for; raises RO007 where it is empty or the source lacks one of them.';

CREATE OR REPLACE FUNCTION roneo.new_replica(
    source_name text, description jsonb, dest regclass, method text, columns text[], filter text,
    refresh_every interval)
RETURNS roneo.replica LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made     roneo.replica;
    relation jsonb := description -> 'relation';
BEGIN
    IF refresh_every <= interval '0' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('refresh_every is %s', refresh_every),
            HINT    = 'Give a positive interval such as ''10 minutes'', or NULL to refresh only when told to.';
    END IF;
    INSERT INTO roneo.replica (source_id, source_schema, source_table, source_kind, source_lockable,
        dest, dest_schema, dest_name, method, wanted_columns, filter, filter_path, refresh_every)
    SELECT (roneo.require_source(source_name)).source_id, relation ->> 'schema', relation ->> 'name',
           (relation ->> 'kind')::"char",
           relation ->> 'kind' IN ('r', 'p', 'v') AND (relation ->> 'readable')::boolean,
           c.oid, n.nspname, c.relname, new_replica.method,
           roneo.require_columns_exist(columns, description), new_replica.filter,
           description ->> 'path', new_replica.refresh_every
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = new_replica.dest
    RETURNING * INTO made;
    RETURN made;
END;
$$;
COMMENT ON FUNCTION roneo.new_replica(text, jsonb, regclass, text, text[], text, interval) IS
    'Writes the row of a replica whose destination exists.';

CREATE OR REPLACE FUNCTION roneo.described_columns(description jsonb, columns text[])
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT coalesce(jsonb_agg(c.col ORDER BY (c.col ->> 'number')::integer), '[]')
    FROM jsonb_array_elements(description #> '{relation,columns}') AS c (col)
    WHERE columns IS NULL OR c.col ->> 'name' = ANY (columns)
);
COMMENT ON FUNCTION roneo.described_columns(jsonb, text[]) IS
    'The columns of a described table that are in the list, all of them where there is none.';

CREATE OR REPLACE FUNCTION roneo.column_names(columns jsonb)
RETURNS name[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT (c.col ->> 'name')::name
             FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, place) ORDER BY c.place);
COMMENT ON FUNCTION roneo.column_names(jsonb) IS 'The names in a list of columns, in its order.';

CREATE OR REPLACE FUNCTION roneo.make_table(
    table_schema name, table_name name, description jsonb, columns jsonb, with_indexes boolean,
    keep_names boolean)
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Planned anew for each table, the statements about indexes take longer than making them.
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    build text;
BEGIN
    EXECUTE roneo.table_statement(table_schema, table_name, columns);
    IF with_indexes THEN
        FOR build IN
            SELECT i.statement
            FROM roneo.index_statements(table_schema, table_name, description -> 'indexes',
                                        roneo.column_names(columns), keep_names) AS i
            ORDER BY i.position
        LOOP
            EXECUTE build;
        END LOOP;
    END IF;
    RETURN to_regclass(format('%I.%I', table_schema, table_name));
END;
$$;
COMMENT ON FUNCTION roneo.make_table(name, name, jsonb, jsonb, boolean, boolean) IS
    'Makes an empty table with the columns of a described one, and with its indexes where asked for.';
