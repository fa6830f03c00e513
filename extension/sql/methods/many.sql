-- Registering many tables at once: over one connection to the source, whose answers are planned once
-- for all of them.

CREATE OR REPLACE FUNCTION roneo.hold_source(source_name text)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source roneo.source := roneo.require_source(source_name);
    link   text := roneo.held_link(source.source_id);
BEGIN
    IF roneo.is_open(link) THEN
        PERFORM roneo.disconnect_link(link);
    END IF;
    PERFORM roneo.connect_link(source, link);
    -- What would close it rolls back what is open, and mostly nothing is.
    PERFORM roneo.tell_link(link, 'SET client_min_messages = error; SET plan_cache_mode = force_generic_plan');
    PERFORM roneo.tell_link(link, roneo.source_opening());
    PERFORM roneo.tell_link(link, format('PREPARE roneo_describe (pg_catalog.oid) AS %s', roneo.describe_query('$1')));
    PERFORM roneo.tell_link(link, 'ROLLBACK');
    RETURN link;
END;
$$;
COMMENT ON FUNCTION roneo.hold_source(text) IS
    'Connects to a source, for all in this session that asks it, until let_go_source.';

CREATE OR REPLACE FUNCTION roneo.let_go_source(source_name text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    link text := roneo.held_link((roneo.require_source(source_name)).source_id);
BEGIN
    IF roneo.is_open(link) THEN
        PERFORM roneo.disconnect_link(link);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.let_go_source(text) IS 'Closes the connection of hold_source, where it is open.';

CREATE OR REPLACE FUNCTION roneo.require_method(method text, control text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known text := (SELECT string_agg(substr(f.proname, 8), ', ' ORDER BY f.proname) FROM pg_proc AS f
                   WHERE f.pronamespace = 'roneo'::regnamespace AND starts_with(f.proname::text, 'create_')
                     AND to_regclass(format('roneo.%I', concat(substr(f.proname, 8), '_replica'))) IS NOT NULL);
BEGIN
    IF method = ANY (string_to_array(known, ', ')) IS NOT TRUE THEN
        PERFORM roneo.bad_argument(format('%s is no method', coalesce(quote_literal(method), 'NULL')), format('There are: %s.', known));
    ELSIF method IN ('inserter', 'updater') <> (control IS NOT NULL) THEN
        PERFORM roneo.bad_argument(
            CASE WHEN control IS NULL THEN format('an %s follows a control column, and none is given', method)
                 ELSE format('control is given, and a %s follows no control column', method) END,
            'control => ''id'' names a column that all of the tables have; it is for inserters and updaters.');
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_method(text, text) IS
    'Raises RO007 for a method that does not exist, or does not go with that control column.';

-- What a refresh is to load is loaded from the beginning, as with copy_data, but by whoever comes.
CREATE OR REPLACE FUNCTION roneo.create_one(
    source text, source_table text, dest text, method text, control text, refresh_every interval, with_indexes boolean)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_there boolean := to_regclass(dest) IS NOT NULL;
    made     regclass;
BEGIN
    EXECUTE format('SELECT roneo.%I($1, $2, $3, copy_data => false, refresh_every => $4, with_indexes => $5%s)',
                   concat('create_', method), CASE WHEN control IS NOT NULL THEN ', control => $6' END)
    INTO made USING source, source_table, dest, refresh_every, with_indexes, control;
    UPDATE roneo.control_replica AS c SET last_value = NULL, horizon = NULL, leaves = NULL
    FROM roneo.replica AS r
    WHERE NOT is_there AND r.replica_id = c.replica_id AND r.dest = made;
END;
$$;
COMMENT ON FUNCTION roneo.create_one(text, text, text, text, text, interval, boolean) IS
    'Registers one table by a method, for the first refresh to load.';

CREATE OR REPLACE FUNCTION roneo.create_some(
    source text, source_schema text, names text[], dest_schema text, method text, control text,
    refresh_every interval, with_indexes boolean)
RETURNS text[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one      text;
    code     text;
    message  text;
    hint     text;
    problems text[] := '{}';
BEGIN
    PERFORM roneo.hold_source(source);
    FOREACH one IN ARRAY names LOOP
        BEGIN
            PERFORM roneo.create_one(source, format('%I.%I', source_schema, one), format('%I.%I', dest_schema, one),
                                     method, control, refresh_every, with_indexes);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
            problems := problems || format('%s %s: %s', code, one, concat_ws(' - ', message, nullif(hint, '')));
        END;
    END LOOP;
    PERFORM roneo.let_go_source(source);
    RETURN problems;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.let_go_source(source);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.create_some(text, text, text[], text, text, text, interval, boolean) IS
    'Registers some tables of a schema, each by itself, over one connection; returns what hindered the others.';

CREATE OR REPLACE FUNCTION roneo.tables_to_create(source text, source_schema text, tables text[], dest_schema text)
RETURNS text[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known roneo.source := roneo.require_source(source);
    found text[] := tables;
BEGIN
    IF to_regnamespace(quote_ident(dest_schema)) IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO005',
            MESSAGE = format('schema %I does not exist here', dest_schema),
            HINT    = format('CREATE SCHEMA %I, or name another dest_schema.', dest_schema);
    END IF;
    IF found IS NULL THEN
        found := ARRAY(SELECT t.table_name
                       FROM jsonb_to_recordset(roneo.call_source(source, roneo.tables_probe(source))::jsonb -> 'tables')
                           AS t (schema_name text, table_name text)
                       WHERE t.schema_name = source_schema);
    END IF;
    IF found = '{}' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO004',
            MESSAGE = format('source %s has no table in schema %I', quote_ident(source), source_schema),
            HINT    = 'Give the schema''s name as it is stored, without quotes; views are registered one by one.';
    END IF;
    RETURN ARRAY(
        SELECT DISTINCT f.name FROM unnest(found) AS f (name)
        WHERE NOT EXISTS (SELECT FROM roneo.replica AS r
                          WHERE r.source_id = known.source_id AND r.source_schema = tables_to_create.source_schema AND r.source_table = f.name
                            AND r.dest_schema = tables_to_create.dest_schema AND r.dest_name = f.name)
        ORDER BY f.name);
END;
$$;
COMMENT ON FUNCTION roneo.tables_to_create(text, text, text[], text) IS
    'The tables of a source''s schema, or those that are named, which are not registered yet under their own names; raises RO003, RO004, RO005.';

CREATE OR REPLACE PROCEDURE roneo.create_replicas(
    source text,
    source_schema text,
    dest_schema text DEFAULT NULL,
    method text DEFAULT 'snapshot',
    tables text[] DEFAULT NULL,
    control text DEFAULT NULL,
    refresh_every interval DEFAULT NULL,
    with_indexes boolean DEFAULT true)
LANGUAGE plpgsql
AS $$
DECLARE
    place    text := coalesce(dest_schema, source_schema);
    names    text[];
    problems text[] := '{}';
    wanted   integer;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM roneo.require_method(method, control);
    names := roneo.tables_to_create(source, source_schema, tables, place);
    wanted := cardinality(names);
    -- Each table holds a dozen locks until the commit, and servers have some thousands of them.
    WHILE cardinality(names) > 0 LOOP
        problems := problems || roneo.create_some(source, source_schema, names[1:25], place, method, control, refresh_every, with_indexes);
        names := names[26:];
        COMMIT;
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    END LOOP;
    IF problems <> '{}' THEN
        RAISE EXCEPTION USING
            ERRCODE = left(problems[1], 5),
            MESSAGE = format('%s of %s tables of schema %I could not be registered', cardinality(problems), wanted, source_schema),
            DETAIL  = array_to_string(problems[1:20] || CASE WHEN cardinality(problems) > 20 THEN ARRAY['and others'] END, E'\n'),
            HINT    = 'The others are. Mend what is told, and call this again: it makes what is missing.';
    END IF;
END;
$$;
COMMENT ON PROCEDURE roneo.create_replicas(text, text, text, text, text[], text, interval, boolean) IS
    'Registers all tables of a schema of a source, or the named ones, under their own names and by one method, for the next refreshes to load. What is registered so already is left as it is; what cannot be stops no other, and is raised at the end. Commits 25 tables at a time. A procedure that commits can fix no search_path in its definition; it pins it in its first statement.';
