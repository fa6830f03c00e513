-- What is done on a source to capture the changes of a table: over a connection, or by a person who
-- runs what capture_script prints.

CREATE OR REPLACE FUNCTION roneo.dest_identity()
RETURNS text LANGUAGE sql STABLE
RETURN (SELECT format('%s/%s', c.system_identifier, d.oid)
        FROM pg_control_system() AS c, pg_database AS d WHERE d.datname = current_database());
COMMENT ON FUNCTION roneo.dest_identity() IS 'Which cluster and database this is, for a source to know its copies by.';

CREATE OR REPLACE FUNCTION roneo.dest_label(place_schema name, place_name name)
RETURNS text LANGUAGE sql STABLE
RETURN format('%I.%I of database %I%s', place_schema, place_name, current_database(),
              format(CASE WHEN inet_server_addr() IS NOT NULL THEN ' at %s:%s' END, host(inet_server_addr()), inet_server_port()));
COMMENT ON FUNCTION roneo.dest_label(name, name) IS 'What a person at the source is told of a copy.';

CREATE OR REPLACE FUNCTION roneo.capture_call(source_oid oid, key_columns name[], image_columns name[], row_level boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('SELECT roneo_capture.capture_table(%s::pg_catalog.regclass, %L, %L, %L)',
              source_oid, key_columns, image_columns, row_level);
COMMENT ON FUNCTION roneo.capture_call(oid, name[], name[], boolean) IS 'The statement on the source that makes a capture, or brings it up to date.';

CREATE OR REPLACE FUNCTION roneo.capture_found_query(source_oid oid, key_columns name[], image_columns name[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('SELECT c.capture_id FROM roneo_capture.capture AS c WHERE c.relation = %s AND c.key_columns = %L::pg_catalog.name[] '
              'AND c.image_columns @> %L::pg_catalog.name[] AND roneo_capture.problem(c) IS NULL AND NOT roneo_capture.can_complete(c)',
              source_oid, key_columns, image_columns);
COMMENT ON FUNCTION roneo.capture_found_query(oid, name[], name[]) IS 'A query on the source for a capture that is in order and will do; not one that this role can complete.';

CREATE OR REPLACE FUNCTION roneo.refuse_capture(source_name text, description jsonb, problem text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'RO024',
        MESSAGE = format('changes of source table %I.%I are not captured, and role %I may not change that',
                         description #>> '{relation,schema}', description #>> '{relation,name}', description ->> 'role'),
        DETAIL  = problem,
        HINT    = format('SELECT roneo.capture_script(%L, %L) prints what the owner of the table is to run on the source.',
                         source_name, format('%I.%I', description #>> '{relation,schema}', description #>> '{relation,name}'));
END;
$$;
COMMENT ON FUNCTION roneo.refuse_capture(text, jsonb, text) IS 'Raises RO024 where the role of the connection may not capture a table.';

CREATE OR REPLACE FUNCTION roneo.capture_version()
RETURNS integer LANGUAGE sql IMMUTABLE
RETURN 3;
COMMENT ON FUNCTION roneo.capture_version() IS 'Which roneo_capture.version() a source must have at least.';

CREATE OR REPLACE FUNCTION roneo.prepare_source(link text, source_name text, description jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    IF roneo.ask_link(link, 'SELECT pg_catalog.to_regclass(''roneo_capture.capture'') IS NOT NULL')::boolean
       AND roneo.ask_link(link, 'SELECT roneo_capture.version()')::integer >= roneo.capture_version() THEN
        RETURN;
    END IF;
    PERFORM roneo.tell_link(link, roneo.capture_setup());
    PERFORM roneo.ask_link(link, 'SELECT roneo_capture.allow(session_user)');
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR undefined_object THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    PERFORM roneo.tell_link(link, 'ROLLBACK');
    PERFORM roneo.refuse_capture(source_name, description, problem);
END;
$$;
COMMENT ON FUNCTION roneo.prepare_source(text, text, jsonb) IS
    'Makes schema roneo_capture on the source where it is missing, or older than this version needs; raises RO024 where that is not allowed.';

CREATE OR REPLACE FUNCTION roneo.ensure_capture(
    link text, source_name text, description jsonb, key_columns name[], image_columns name[], row_level boolean)
RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source_oid oid := (description #>> '{relation,oid}')::oid;
    id         text;
    problem    text;
BEGIN
    PERFORM roneo.prepare_source(link, source_name, description);
    BEGIN
        id := roneo.ask_link(link, roneo.capture_found_query(source_oid, key_columns, image_columns));
    EXCEPTION WHEN insufficient_privilege THEN
        GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
        PERFORM roneo.refuse_capture(source_name, description, problem);
    END;
    FOR attempt IN 1 .. roneo.setting('lock_attempts') LOOP
        EXIT WHEN id IS NOT NULL;
        BEGIN
            PERFORM roneo.tell_link(link, format('SET lock_timeout = ''%sms''', roneo.setting('lock_timeout_ms')));
            id := roneo.ask_link(link, roneo.capture_call(source_oid, key_columns, image_columns, row_level));
        EXCEPTION WHEN lock_not_available THEN
            -- Writers who queued up behind us go first.
            PERFORM pg_sleep(0.05 + 0.15 * random());
        WHEN insufficient_privilege THEN
            GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
            PERFORM roneo.refuse_capture(source_name, description, problem);
        END;
    END LOOP;
    IF id IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO016',
            MESSAGE = format('source table %I.%I is in use, its triggers could not be made',
                             description #>> '{relation,schema}', description #>> '{relation,name}'),
            HINT    = 'CREATE TRIGGER waits for open transactions that have written to it; try again when they have ended.';
    END IF;
    PERFORM roneo.tell_link(link, 'RESET lock_timeout');
    RETURN id;
END;
$$;
COMMENT ON FUNCTION roneo.ensure_capture(text, text, jsonb, name[], name[], boolean) IS
    'The number of a capture on the source, which is made or repaired where needed; raises RO024 or RO016.';

CREATE OR REPLACE FUNCTION roneo.register_query(capture_id integer, place_schema name, place_name name)
RETURNS text LANGUAGE sql STABLE
RETURN format('SELECT roneo_capture.register(%s, %L, %L)', capture_id, roneo.dest_label(place_schema, place_name), roneo.dest_identity());
COMMENT ON FUNCTION roneo.register_query(integer, name, name) IS 'The statement on the source that registers a copy, for which from then on everything is kept.';

CREATE OR REPLACE FUNCTION roneo.capture_script(
    source text,
    source_table text,
    key_columns text[] DEFAULT NULL,
    keeps_deleted boolean DEFAULT false,
    row_level boolean DEFAULT false)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    description jsonb := roneo.describe_source(source, source_table, NULL);
    wanted      text[] := coalesce(key_columns, roneo.natural_key(description, NULL)::text[]);
BEGIN
    PERFORM roneo.require_key(description, wanted);
    RETURN concat_ws(E'\n\n',
        format(E'-- Captures the changes of %I.%I for roneo. To be run on the source, with psql, by a superuser;\n'
               '-- or by the owner of the table, if that role may CREATE ROLE and CREATE in the database.',
               description #>> '{relation,schema}', description #>> '{relation,name}'),
        roneo.capture_setup(),
        format('SELECT roneo_capture.allow(%L);', description ->> 'role'),
        '-- CREATE TRIGGER waits for open transactions that have written to the table, and writers behind it.',
        'SET lock_timeout = ''2s''; SET client_min_messages = warning;',
        format('SELECT roneo_capture.capture_table(%L, %L, %L, %L);',
               format('%I.%I', description #>> '{relation,schema}', description #>> '{relation,name}'), wanted::name[],
               CASE WHEN keeps_deleted THEN roneo.column_names(description #> '{relation,columns}') ELSE '{}'::name[] END, row_level));
END;
$$;
COMMENT ON FUNCTION roneo.capture_script(text, text, text[], boolean, boolean) IS
    'What a person at the source can run where the role of the connection may make no triggers there: schema roneo_capture, the rights of that role, the capture. key_columns: the primary key by default. keeps_deleted: for logdel. row_level: row triggers.';
