-- Sources: a foreign server and its user mappings keep the connection and the secret.

CREATE OR REPLACE FUNCTION roneo.create_source(
    name            text,
    conninfo        text DEFAULT NULL,
    username        text DEFAULT NULL,
    password        text DEFAULT NULL,
    for_role        text DEFAULT NULL,
    server          text DEFAULT NULL,
    source_encoding text DEFAULT NULL
)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    secret_options text[] := ARRAY['user', 'password', 'sslpassword'];
    options        jsonb  := '{}';
    used_server    name;
BEGIN
    PERFORM roneo.refuse_source_arguments(name, conninfo, server, source_encoding);
    IF conninfo IS NOT NULL THEN
        options := roneo.parse_conninfo(conninfo);
    END IF;
    options := options || jsonb_strip_nulls(
        jsonb_build_object('user', nullif(username, ''), 'password', nullif(password, '')));

    IF server IS NULL THEN
        used_server := roneo.run_create_server(name, options - secret_options);
    ELSE
        used_server := roneo.usable_server(server);
    END IF;
    IF server IS NULL OR options <> '{}' THEN
        PERFORM roneo.run_create_mapping(used_server, coalesce(for_role, current_user), (
            SELECT coalesce(jsonb_object_agg(o.key, o.value), '{}')
            FROM jsonb_each(options) AS o WHERE o.key = ANY (secret_options)));
    END IF;
    INSERT INTO roneo.source (source_name, server_name, owns_server, source_encoding)
    VALUES (name, used_server, server IS NULL,
            pg_encoding_to_char(pg_char_to_encoding(create_source.source_encoding)));
END;
$$;
COMMENT ON FUNCTION roneo.create_source(text, text, text, text, text, text, text) IS
    'Registers a source: makes a foreign server and a user mapping from a conninfo or URI, or adopts an existing server.';

CREATE OR REPLACE FUNCTION roneo.drop_source(name text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dropped roneo.source := roneo.require_source(name);
    in_use  text;
    mapped  record;
BEGIN
    SELECT string_agg(format('%I.%I', r.dest_schema, r.dest_name), ', '
                      ORDER BY r.dest_schema, r.dest_name)
    INTO in_use
    FROM roneo.replica AS r WHERE r.source_id = dropped.source_id;
    IF in_use IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('source %s is in use', quote_ident(name)),
            DETAIL  = format('Its replicas are: %s.', in_use),
            HINT    = 'roneo.drop_replica(dest) takes them away, one by one.';
    END IF;

    DELETE FROM roneo.source AS s WHERE s.source_id = dropped.source_id;
    IF NOT dropped.owns_server THEN
        RETURN;
    END IF;
    -- Another source may have adopted the server that this one made.
    UPDATE roneo.source AS s SET owns_server = true WHERE s.server_name = dropped.server_name;
    IF FOUND THEN
        RETURN;
    END IF;
    FOR mapped IN
        SELECT CASE WHEN m.umuser = 0 THEN 'PUBLIC' ELSE quote_ident(m.usename) END AS role_text
        FROM pg_user_mappings AS m WHERE m.srvname = dropped.server_name
    LOOP
        EXECUTE format('DROP USER MAPPING FOR %s SERVER %I', mapped.role_text, dropped.server_name);
    END LOOP;
    EXECUTE format('DROP SERVER IF EXISTS %I', dropped.server_name);
END;
$$;
COMMENT ON FUNCTION roneo.drop_source(text) IS
    'Forgets a source that no replica uses; drops its foreign server when create_source made it.';

CREATE OR REPLACE FUNCTION roneo.require_source(name text)
RETURNS roneo.source LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_source roneo.source;
    existing     text;
BEGIN
    SELECT s.* INTO found_source FROM roneo.source AS s WHERE s.source_name = name;
    IF NOT FOUND THEN
        SELECT string_agg(quote_ident(s.source_name), ', ' ORDER BY s.source_name)
        INTO existing FROM roneo.source AS s;
        RAISE EXCEPTION USING
            ERRCODE = 'RO003',
            MESSAGE = format('there is no source %s', coalesce(quote_ident(name), 'NULL')),
            HINT    = CASE WHEN existing IS NULL
                      THEN 'There is none yet: roneo.create_source makes one.'
                      ELSE format('The sources are: %s.', existing) END;
    END IF;
    RETURN found_source;
END;
$$;
COMMENT ON FUNCTION roneo.require_source(text) IS
    'The row of a source, or an error that lists those that exist.';

CREATE OR REPLACE FUNCTION roneo.refuse_source_arguments(
    name text, conninfo text, server text, source_encoding text
)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF coalesce(name, '') = '' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO006',
            MESSAGE = 'a source needs a name',
            HINT    = 'Any text: you give it to create a replica, and status shows it.';
    ELSIF EXISTS (SELECT FROM roneo.source AS s WHERE s.source_name = name) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'duplicate_object',
            MESSAGE = format('source %s already exists', quote_ident(name)),
            HINT    = 'To change its connection, use ALTER SERVER and ALTER USER MAPPING; to begin anew, roneo.drop_source.';
    ELSIF (conninfo IS NULL) = (server IS NULL) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = 'a source is made from either conninfo or server',
            HINT    = 'Give a connection string or URI as conninfo, or the name of an existing foreign server as server.';
    ELSIF pg_char_to_encoding(source_encoding) < 0 THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('%s is not an encoding', quote_literal(source_encoding)),
            HINT    = 'Use a name of PostgreSQL, such as LATIN1, WIN1252 or UTF8.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.refuse_source_arguments(text, text, text, text) IS
    'Raises an error where the arguments of create_source cannot make a source.';

-- Connection strings. Their errors name places, never what stands there: it may be the password.

CREATE OR REPLACE FUNCTION roneo.bad_conninfo(problem text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'RO007',
        MESSAGE = format('conninfo cannot be read: %s', problem),
        HINT    = 'Write it as for psql: ''host=db1 port=5432 dbname=app user=reader'' or ''postgresql://reader@db1:5432/app''.';
END;
$$;
COMMENT ON FUNCTION roneo.bad_conninfo(text) IS
    'Raises the error for a connection string that cannot be read.';

CREATE OR REPLACE FUNCTION roneo.parse_conninfo(conninfo text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    options jsonb;
BEGIN
    IF conninfo ~ '^postgres(ql)?://' THEN
        options := roneo.parse_uri(conninfo);
    ELSE
        options := roneo.parse_keywords(conninfo);
    END IF;
    IF options ?| ARRAY['client_encoding', 'replication'] THEN
        PERFORM roneo.bad_conninfo('client_encoding and replication are set by roneo itself');
    END IF;
    -- libpq takes an empty value for one that was not given.
    RETURN (SELECT coalesce(jsonb_object_agg(o.key, o.value), '{}')
            FROM jsonb_each_text(options) AS o WHERE o.value <> '');
END;
$$;
COMMENT ON FUNCTION roneo.parse_conninfo(text) IS
    'The options of a connection string as libpq reads it, be it keywords and values or a URI.';

CREATE OR REPLACE FUNCTION roneo.parse_keywords(conninfo text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    options jsonb := '{}';
    rest    text  := conninfo;
    token   text[];
    value   text;
BEGIN
    WHILE rest ~ '\S' LOOP
        token := regexp_match(rest,
            '^(\s*([^=\s]+)\s*=\s*(''(?:[^''\\]|\\.)*''|(?![''\s])(?:[^\s\\]|\\.|\\$)*))');
        IF token IS NULL THEN
            PERFORM roneo.bad_conninfo(format('no option with "=" and a complete value at character %s',
                length(conninfo) - length(ltrim(rest, E' \t\n\r\f\v')) + 1));
        END IF;
        value := token[3];
        IF left(value, 1) = '''' THEN
            value := substr(value, 2, length(value) - 2);
        END IF;
        value   := regexp_replace(value, '\\(.|$)', '\1', 'g');
        options := jsonb_set(options, ARRAY[token[2]], to_jsonb(value));
        rest    := substr(rest, length(token[1]) + 1);
    END LOOP;
    RETURN options;
END;
$$;
COMMENT ON FUNCTION roneo.parse_keywords(text) IS
    'The options of a connection string of keywords and values.';

CREATE OR REPLACE FUNCTION roneo.parse_uri(uri text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- user and password, hosts with ports, database, parameters
    part       text[] := regexp_match(uri,
        '^postgres(?:ql)?://(?:([^:@/]*)(?::([^@/]*))?@)?([^/?]*)(?:/([^?]*))?(?:\?(.*))?$');
    options    jsonb;
    host_list  text;
    port_list  text;
    parameter  text;
BEGIN
    IF part IS NULL THEN
        PERFORM roneo.bad_conninfo('a URI is postgresql://user@host:port/database?option=value');
    END IF;
    IF EXISTS (SELECT FROM regexp_split_to_table(part[3], ',') AS h
               WHERE h !~ '^(\[[^\[\]]+\]|[^:\[\]]*)(:[^:]*)?$') THEN
        PERFORM roneo.bad_conninfo('a host in the URI is not of the form name:port or [IPv6]:port');
    END IF;
    SELECT string_agg(btrim((regexp_match(h, '^(\[[^]]+\]|[^:]*)'))[1], '[]'), ',' ORDER BY n),
           string_agg(coalesce((regexp_match(h, ':([^:\]]*)$'))[1], ''), ',' ORDER BY n)
    INTO host_list, port_list
    FROM regexp_split_to_table(part[3], ',') WITH ORDINALITY AS u(h, n);
    options := jsonb_build_object(
        'user', roneo.decode_percent(part[1]), 'password', roneo.decode_percent(part[2]),
        'host', roneo.decode_percent(host_list), 'dbname', roneo.decode_percent(part[4]),
        'port', nullif(btrim(port_list, ','), ''));
    IF options ->> 'port' IS NOT NULL THEN
        options := jsonb_set(options, '{port}', to_jsonb(roneo.decode_percent(port_list)));
    END IF;

    FOR parameter IN
        SELECT p
        FROM regexp_split_to_table(nullif(rtrim(part[5], '&'), ''), '&') WITH ORDINALITY AS u(p, n)
        ORDER BY n
    LOOP
        IF parameter !~ '^[^=]+=[^=]*$' THEN
            PERFORM roneo.bad_conninfo('a parameter of the URI is not of the form option=value');
        ELSIF parameter = 'ssl=true' THEN
            parameter := 'sslmode=require';
        END IF;
        options := jsonb_set(options, ARRAY[roneo.decode_percent(split_part(parameter, '=', 1))],
                             to_jsonb(roneo.decode_percent(split_part(parameter, '=', 2))));
    END LOOP;
    RETURN jsonb_strip_nulls(options);
END;
$$;
COMMENT ON FUNCTION roneo.parse_uri(text) IS 'The options of a connection URI.';

CREATE OR REPLACE FUNCTION roneo.decode_percent(encoded text)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF encoded ~ '%(?![0-9A-Fa-f]{2})|%00' THEN
        PERFORM roneo.bad_conninfo('a "%" in the URI is not followed by two hexadecimal digits (or by 00)');
    END IF;
    RETURN (
        SELECT coalesce(convert_from(string_agg(
            CASE WHEN left(p[1], 1) = '%' THEN decode(substr(p[1], 2), 'hex')
                 ELSE convert_to(p[1], getdatabaseencoding()) END,
            ''::bytea ORDER BY n), getdatabaseencoding()), '')
        FROM regexp_matches(encoded, '%..|[^%]+', 'g') WITH ORDINALITY AS u(p, n));
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    PERFORM roneo.bad_conninfo(format('bytes in the URI are not valid in %s', getdatabaseencoding()));
END;
$$;
COMMENT ON FUNCTION roneo.decode_percent(text) IS 'A part of a URI without its percent signs.';

-- Servers and mappings.

CREATE OR REPLACE FUNCTION roneo.option_list(options jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE WHEN count(*) = 0 THEN ''
           ELSE format('OPTIONS (%s)',
               string_agg(format('%I %L', o.key, o.value), ', ' ORDER BY o.key)) END
    FROM jsonb_each_text(options) AS o
);
COMMENT ON FUNCTION roneo.option_list(jsonb) IS
    'The OPTIONS clause for a server or a user mapping.';

CREATE OR REPLACE FUNCTION roneo.run_create_server(source_name text, options jsonb)
RETURNS name LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made_server name := roneo.fit_name(concat('roneo_', source_name), '');
    wrapper     name;
    usable      boolean;
    problem     text;
    advice      text;
BEGIN
    SELECT w.fdwname, has_foreign_data_wrapper_privilege(w.oid, 'USAGE') INTO wrapper, usable
    FROM pg_foreign_data_wrapper AS w WHERE w.fdwname IN ('dblink_fdw', 'postgres_fdw')
    ORDER BY has_foreign_data_wrapper_privilege(w.oid, 'USAGE') DESC, w.fdwname LIMIT 1;
    IF wrapper IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO011',
            MESSAGE = 'there is no foreign-data wrapper to keep the connection in',
            HINT    = 'Let a superuser run CREATE EXTENSION dblink; in this database.';
    ELSIF NOT usable THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I may not make servers of foreign-data wrapper %I',
                             current_user, wrapper),
            HINT    = format('GRANT USAGE ON FOREIGN DATA WRAPPER %I TO %I;',
                             wrapper, current_user);
    ELSIF EXISTS (SELECT FROM pg_foreign_server AS s WHERE s.srvname = made_server) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'duplicate_object',
            MESSAGE = format('foreign server %I already exists', made_server),
            HINT    = format('To use it, give server => %L in place of conninfo.', made_server);
    END IF;
    BEGIN
        EXECUTE format('CREATE SERVER %I FOREIGN DATA WRAPPER %I %s',
                       made_server, wrapper, roneo.option_list(options));
    EXCEPTION WHEN fdw_error OR fdw_invalid_option_name OR invalid_parameter_value
                   OR syntax_error THEN
        -- The context of the error would show all options, a mistyped password among them.
        GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('conninfo cannot be used: %s', problem),
            HINT    = coalesce(nullif(advice, ''), 'Its options are those of libpq.');
    END;
    RETURN made_server;
END;
$$;
COMMENT ON FUNCTION roneo.run_create_server(text, jsonb) IS
    'Makes the foreign server of a new source, and returns its name.';

CREATE OR REPLACE FUNCTION roneo.run_create_mapping(server_name name, role_name text, options jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    code    text;
    problem text;
BEGIN
    IF role_name <> 'public'
       AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = role_name) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'undefined_object',
            MESSAGE = format('role %s does not exist', quote_ident(role_name)),
            HINT    = 'for_role is the role on this server that refreshes; the one on the source is username.';
    END IF;
    EXECUTE format('CREATE USER MAPPING FOR %s SERVER %I %s',
                   CASE role_name WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(role_name) END,
                   server_name, roneo.option_list(options));
EXCEPTION WHEN OTHERS THEN
    -- Not RAISE alone: the context of the error would show the statement with its password.
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, problem = MESSAGE_TEXT;
    RAISE EXCEPTION USING
        ERRCODE = code,
        MESSAGE = problem,
        DETAIL  = format('It was to be the user mapping of role %s for server %I.',
                         role_name, server_name),
        HINT    = 'ALTER USER MAPPING changes one that exists; the owner of a server makes mappings for others.';
END;
$$;
COMMENT ON FUNCTION roneo.run_create_mapping(name, text, jsonb) IS
    'Makes a user mapping, and keeps its password out of errors.';

CREATE OR REPLACE FUNCTION roneo.usable_server(server text)
RETURNS name LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_server record;
BEGIN
    SELECT s.srvname, w.fdwname, v.proname AS validator,
           has_server_privilege(s.oid, 'USAGE') AS usable
    INTO found_server
    FROM pg_foreign_server AS s
    JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw
    LEFT JOIN pg_proc AS v ON v.oid = w.fdwvalidator
    WHERE s.srvname = server;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'undefined_object',
            MESSAGE = format('foreign server %s does not exist', quote_ident(server)),
            HINT    = 'SELECT srvname FROM pg_foreign_server lists those that do; conninfo in place of server makes one.';
    ELSIF coalesce(found_server.validator !~ '^(dblink|postgres|postgresql)_fdw_validator$', true) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('foreign server %I does not lead to PostgreSQL', server),
            DETAIL  = format('Its foreign-data wrapper is %I.', found_server.fdwname),
            HINT    = 'Use a server of dblink_fdw or postgres_fdw.';
    ELSIF NOT found_server.usable THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I may not use foreign server %I', current_user, server),
            HINT    = format('GRANT USAGE ON FOREIGN SERVER %I TO %I;', server, current_user);
    END IF;
    RETURN found_server.srvname;
END;
$$;
COMMENT ON FUNCTION roneo.usable_server(text) IS
    'The name of a foreign server that can be a source, or an error that says why it cannot.';

-- An empty mapping and a hidden one both have NULL options in pg_user_mappings; its rule tells which.
CREATE OR REPLACE FUNCTION roneo.server_mapping(
    wanted_server name, role_name name,
    OUT mapped_role name, OUT visible boolean, OUT options text[]
)
RETURNS SETOF record LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT m.usename,
           r.rolsuper OR pg_has_role(r.oid, s.srvowner, 'USAGE')
               OR (m.umuser <> 0 AND has_server_privilege(r.oid, s.oid, 'USAGE')),
           m.umoptions
    FROM pg_user_mappings AS m
    JOIN pg_foreign_server AS s ON s.oid = m.srvid
    JOIN pg_roles AS r ON r.rolname = role_name
    WHERE s.srvname = wanted_server AND m.umuser IN (0, r.oid)
    ORDER BY m.umuser = 0
    LIMIT 1;
END;
COMMENT ON FUNCTION roneo.server_mapping(name, name) IS
    'The user mapping that a role connects with (its own, else that of PUBLIC), and whether that role may read it.';

CREATE OR REPLACE FUNCTION roneo.source_conninfo(name text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted  roneo.source := roneo.require_source(name);
    mapping record;
BEGIN
    SELECT m.* INTO mapping FROM roneo.server_mapping(wanted.server_name, current_user) AS m;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I has no user mapping for the server of source %s',
                             current_user, quote_ident(name)),
            HINT    = format('CREATE USER MAPPING FOR %I SERVER %I OPTIONS (user ''…'', password ''…''); or give the roneo program --source-conninfo.',
                             current_user, wanted.server_name);
    ELSIF NOT mapping.visible THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I may not read the user mapping of %I for source %s',
                             current_user, mapping.mapped_role, quote_ident(name)),
            HINT    = format('Make a user mapping for %1$I and GRANT USAGE ON FOREIGN SERVER %2$I TO %1$I; or give the roneo program --source-conninfo.',
                             current_user, wanted.server_name);
    END IF;
    RETURN roneo.conninfo_text(wanted.server_name, mapping.options);
END;
$$;
COMMENT ON FUNCTION roneo.source_conninfo(text) IS
    'How the current role connects to a source: a connection string with everything libpq needs, the password among it.';

-- What dblink_fdw and postgres_fdw add of their own (fetch_size, extensions) libpq would refuse.
-- application_name and the encoding are set by whoever connects.
CREATE OR REPLACE FUNCTION roneo.conninfo_text(wanted_server name, mapping_options text[])
RETURNS text LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH given AS (
        SELECT o.option_name, o.option_value
        FROM pg_foreign_server AS s, pg_options_to_table(s.srvoptions) AS o
        WHERE s.srvname = wanted_server
        UNION ALL
        SELECT o.option_name, o.option_value FROM pg_options_to_table(mapping_options) AS o
    ), complete AS (
        SELECT g.option_name, g.option_value FROM given AS g
        WHERE g.option_name = ANY (string_to_array(
            'host hostaddr port dbname user password passfile require_auth channel_binding '
            'connect_timeout options keepalives keepalives_idle keepalives_interval keepalives_count '
            'tcp_user_timeout gssencmode sslmode sslnegotiation sslcompression sslcert sslkey '
            'sslpassword sslcertmode sslrootcert sslcrl sslcrldir sslsni requirepeer '
            'ssl_min_protocol_version ssl_max_protocol_version min_protocol_version '
            'max_protocol_version krbsrvname gsslib gssdelegation service target_session_attrs '
            'load_balance_hosts', ' '))
        UNION ALL
        SELECT d.option_name, d.option_value
        FROM (VALUES
            ('connect_timeout', coalesce((SELECT v.value FROM roneo.setting AS v
                                          WHERE v.setting_name = 'connect_timeout_s'), '10')),
            ('keepalives_idle', '30'), ('keepalives_interval', '10'), ('keepalives_count', '3'),
            ('tcp_user_timeout', '60000')) AS d (option_name, option_value)
        WHERE d.option_name NOT IN (SELECT g.option_name FROM given AS g)
    )
    SELECT string_agg(format('%s=''%s''', c.option_name,
        regexp_replace(c.option_value, '([''\\])', '\\\1', 'g')), ' ' ORDER BY c.option_name)
    FROM complete AS c;
END;
COMMENT ON FUNCTION roneo.conninfo_text(name, text[]) IS
    'The options of a server and a mapping as one connection string, with the timeouts that they lack.';
