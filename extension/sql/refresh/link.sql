-- The SQL hand's way to a source: a named dblink connection. dblink is looked up where it was
-- installed, and only when it is used.

CREATE OR REPLACE FUNCTION roneo.dblink_function(function_name text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    home name;
BEGIN
    SELECT n.nspname INTO home
    FROM pg_extension AS e
    JOIN pg_namespace AS n ON n.oid = e.extnamespace
    WHERE e.extname = 'dblink';
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO011',
            MESSAGE = 'dblink is not installed in this database',
            DETAIL  = 'Without the roneo program, rows travel over dblink.',
            HINT    = 'CREATE EXTENSION dblink, or refresh with the roneo program, which needs none.';
    END IF;
    RETURN format('%I.%I', home, function_name);
END;
$$;
COMMENT ON FUNCTION roneo.dblink_function(text) IS
    'The qualified name of a function of dblink; raises RO011 where it is not installed.';

CREATE OR REPLACE FUNCTION roneo.link_name(source_id integer)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('roneo_%s', source_id);
COMMENT ON FUNCTION roneo.link_name(integer) IS 'The name of this session''s dblink connection to a source.';

CREATE OR REPLACE FUNCTION roneo.link_advice(code text, server_name name)
RETURNS text LANGUAGE sql STABLE
RETURN CASE code
    WHEN '42704' THEN format('CREATE USER MAPPING FOR %I SERVER %I OPTIONS (user ''…'', password ''…'');',
                             current_user, server_name)
    WHEN '42501' THEN format('GRANT USAGE ON FOREIGN SERVER %I TO %I;', server_name, current_user)
    ELSE 'dblink lets only superusers connect without a password: put one into the user mapping, and let the source ask for it. Refreshes by the roneo program need none.'
END;
COMMENT ON FUNCTION roneo.link_advice(text, name) IS
    'What helps the current role where dblink may not connect.';

-- A server's own options may name no time to wait, and a host that answers nothing would be waited
-- for without end. Who may use a mapping need not be allowed to see it; then the server's name will do.
CREATE OR REPLACE FUNCTION roneo.link_target(source roneo.source)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN roneo.source_conninfo(source.source_name);
EXCEPTION WHEN SQLSTATE 'RO009' OR undefined_object THEN
    RETURN source.server_name;
END;
$$;
COMMENT ON FUNCTION roneo.link_target(roneo.source) IS
    'What dblink is to connect to: the options that this role may see, with time limits, else the name of the foreign server.';

-- Who does many things on one source, one after the other, holds one connection for all of them.
CREATE OR REPLACE FUNCTION roneo.held_link(source_id integer)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('roneo_%s_held', source_id);
COMMENT ON FUNCTION roneo.held_link(integer) IS 'The name of a dblink connection to a source that stays open until hold_source''s caller closes it.';

CREATE OR REPLACE FUNCTION roneo.is_open(link text)
RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer boolean;
BEGIN
    EXECUTE format('SELECT $1 = ANY (%s())', roneo.dblink_function('dblink_get_connections'))
    INTO answer USING link;
    RETURN coalesce(answer, false);
END;
$$;
COMMENT ON FUNCTION roneo.is_open(text) IS 'Whether this session has a dblink connection of that name.';

CREATE OR REPLACE FUNCTION roneo.connect_link(source roneo.source, link text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
    reason  text;
BEGIN
    EXECUTE format('SELECT %s($1, $2)', roneo.dblink_function('dblink_connect'))
    USING link, roneo.link_target(source);
EXCEPTION WHEN sqlclient_unable_to_establish_sqlconnection THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, reason = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION USING
        ERRCODE = 'RO008',
        MESSAGE = format('source %s cannot be reached', quote_ident(source.source_name)),
        DETAIL  = coalesce(nullif(btrim(reason), ''), problem),
        HINT    = format('Look at the options of the foreign server %I and of your user mapping for it.',
                         source.server_name);
WHEN undefined_object OR insufficient_privilege OR SQLSTATE '2F003' THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, reason = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION USING
        ERRCODE = 'RO009',
        MESSAGE = format('role %I may not connect to source %s over dblink',
                         current_user, quote_ident(source.source_name)),
        DETAIL  = concat_ws('. ', problem, nullif(reason, '')),
        HINT    = roneo.link_advice(SQLSTATE, source.server_name);
END;
$$;
COMMENT ON FUNCTION roneo.connect_link(roneo.source, text) IS
    'Connects to a source over dblink; raises RO008, RO009 or RO011.';

CREATE OR REPLACE FUNCTION roneo.open_link(source_name text)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source roneo.source := roneo.require_source(source_name);
    link   text := roneo.link_name(source.source_id);
BEGIN
    IF roneo.is_open(roneo.held_link(source.source_id)) THEN
        RETURN roneo.held_link(source.source_id);
    END IF;
    PERFORM roneo.close_link(link);
    PERFORM roneo.connect_link(source, link);
    RETURN link;
END;
$$;
COMMENT ON FUNCTION roneo.open_link(text) IS
    'Connects to a source over dblink and returns the name of the connection; raises RO003, RO008, RO009 or RO011.';

CREATE OR REPLACE FUNCTION roneo.disconnect_link(link text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('SELECT %s($1)', roneo.dblink_function('dblink_disconnect')) USING link;
END;
$$;
COMMENT ON FUNCTION roneo.disconnect_link(text) IS 'Closes a dblink connection that is open.';

CREATE OR REPLACE FUNCTION roneo.close_link(link text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF roneo.is_open(link) THEN
        IF link LIKE '%\_held' THEN
            BEGIN
                PERFORM roneo.tell_link(link, 'ROLLBACK');
                RETURN;
            EXCEPTION WHEN OTHERS THEN
                -- It is broken; whoever comes next makes one of their own.
                NULL;
            END;
        END IF;
        PERFORM roneo.disconnect_link(link);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.close_link(text) IS 'Closes a dblink connection where it is open; one that is held only has its transaction rolled back.';

CREATE OR REPLACE FUNCTION roneo.ask_link(link text, query text)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE format('SELECT answer FROM %s($1, $2) AS t (answer text)', roneo.dblink_function('dblink'))
    INTO answer USING link, query;
    RETURN answer;
END;
$$;
COMMENT ON FUNCTION roneo.ask_link(text, text) IS 'The one value that a query on the source returns.';

CREATE OR REPLACE FUNCTION roneo.tell_link(link text, command text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('SELECT %s($1, $2)', roneo.dblink_function('dblink_exec')) USING link, command;
END;
$$;
COMMENT ON FUNCTION roneo.tell_link(text, text) IS 'Runs commands on the source.';

CREATE OR REPLACE FUNCTION roneo.call_source(source_name text, query text, opening text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    link   text := roneo.open_link(source_name);
    answer text;
BEGIN
    IF opening IS NOT NULL THEN
        PERFORM roneo.tell_link(link, opening);
    END IF;
    answer := roneo.ask_link(link, query);
    PERFORM roneo.close_link(link);
    RETURN answer;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link(link);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.call_source(text, text, text) IS
    'The one value that a query on a source returns, over a connection of its own. opening: what begins its transaction, which is rolled back; without it what the query does is committed.';
