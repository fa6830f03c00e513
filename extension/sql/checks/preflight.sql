-- What is missing before a refresh can work, as SQL that mends it. Nothing here changes anything.

CREATE OR REPLACE FUNCTION roneo.preflight_probe(name text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked roneo.source := roneo.require_source(name);
BEGIN
    RETURN format($probe$
SELECT pg_catalog.jsonb_build_object(
    'user', current_user,
    'reads_stats', pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'),
    'superuser', (SELECT u.rolsuper FROM pg_catalog.pg_roles AS u WHERE u.rolname = current_user),
    'identity', %s,
    'capture', (
        SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc AS f
                               WHERE f.pronamespace = n.oid AND f.prorettype <> 'pg_catalog.trigger'::pg_catalog.regtype
                                 AND NOT pg_catalog.has_function_privilege(f.oid, 'EXECUTE'))
        FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'roneo_capture'),
    'tables', (
        SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'replica_id', w.replica_id,
            'schema_exists', n.oid IS NOT NULL,
            'usage', pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
            'exists', c.oid IS NOT NULL,
            'kind', c.relkind,
            'readable', pg_catalog.has_table_privilege(c.oid, 'SELECT'),
            'unreadable', (
                SELECT pg_catalog.jsonb_agg(a.attname ORDER BY a.attnum)
                FROM pg_catalog.pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                  AND (w.columns IS NULL OR a.attname = ANY (w.columns))
                  AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')),
            'gone', (
                SELECT pg_catalog.jsonb_agg(k.wanted)
                FROM pg_catalog.unnest(w.columns) AS k (wanted)
                WHERE NOT EXISTS (
                    SELECT FROM pg_catalog.pg_attribute AS a
                    WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attname = k.wanted)),
            'row_security', pg_catalog.row_security_active(c.oid)
        ) ORDER BY w.replica_id), '[]')
        FROM pg_catalog.jsonb_to_recordset(%L)
            AS w (replica_id integer, schema_name name, table_name name, columns name[])
        LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema_name
        LEFT JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.table_name
            AND c.relkind IN ('r', 'p', 'v', 'm', 'f'))
)::text$probe$,
        roneo.identity_query(),
        (SELECT coalesce(jsonb_agg(jsonb_build_object(
             'replica_id', r.replica_id, 'schema_name', r.source_schema,
             'table_name', r.source_table, 'columns', r.wanted_columns)), '[]')
         FROM roneo.replica AS r WHERE r.source_id = asked.source_id));
END;
$$;
COMMENT ON FUNCTION roneo.preflight_probe(text) IS
    'A query for a source: one JSON document that says who asks, which server answers, and what may be read of each replica''s table.';

CREATE OR REPLACE FUNCTION roneo.preflight(name text, answer jsonb)
RETURNS TABLE (side text, item text, ok boolean, detail text, fix text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.require_source(name);
    RETURN QUERY SELECT 'source', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_server(name, answer) AS f;
    RETURN QUERY SELECT 'source', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_capture(name, answer) AS f;
    RETURN QUERY SELECT 'source', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_schemas(answer) AS f;
    RETURN QUERY SELECT 'source', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_tables(answer) AS f;
END;
$$;
COMMENT ON FUNCTION roneo.preflight(text, jsonb) IS
    'Findings about a source from its answer to preflight_probe; fix is SQL to run there.';

CREATE OR REPLACE FUNCTION roneo.preflight_server(name text, answer jsonb)
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'server version', v.number BETWEEN 130000 AND 189999,
           format('PostgreSQL %s; a source may be 13 to 18', v.number / 10000), NULL
    FROM (SELECT (answer #>> '{identity,version}')::integer) AS v (number)
    UNION ALL
    SELECT 'role', true, format('connects as %I%s', answer ->> 'user',
           CASE WHEN (answer ->> 'superuser')::boolean THEN ', a superuser: SELECT alone is enough'
                ELSE '' END), NULL
    UNION ALL
    SELECT 'server', true, format('database %I, %s', answer #>> '{identity,database}',
           CASE WHEN (answer #>> '{identity,in_recovery}')::boolean
                THEN 'a standby: long reads can be cancelled by its replay'
                ELSE 'a primary' END), NULL
    UNION ALL
    SELECT 'encoding',
           answer #>> '{identity,encoding}' <> 'SQL_ASCII' OR s.source_encoding IS NOT NULL
               OR current_setting('server_encoding') = 'SQL_ASCII',
           CASE WHEN answer #>> '{identity,encoding}' <> 'SQL_ASCII'
                THEN answer #>> '{identity,encoding}'
                ELSE format('SQL_ASCII: what its bytes mean is %s', CASE
                     WHEN s.source_encoding IS NOT NULL
                     THEN format('taken to be %s', s.source_encoding)
                     ELSE 'unknown; name it as source_encoding of roneo.source, such as LATIN1'
                     END) END,
           NULL
    FROM roneo.source AS s WHERE s.source_name = name
    UNION ALL
    SELECT 'limits', u.problem IS NULL, coalesce(u.problem, 'can be kept'),
           CASE WHEN u.problem IS NOT NULL THEN format('GRANT pg_read_all_stats TO %I;', answer ->> 'user') END
    FROM roneo.source AS s
    CROSS JOIN LATERAL (SELECT roneo.unread_limits(s, (answer ->> 'reads_stats')::boolean, answer ->> 'user')) AS u (problem)
    WHERE s.source_name = name AND coalesce(s.max_lag::text, s.max_lag_bytes::text, s.max_xmin_age::text) IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.preflight_server(text, jsonb) IS 'Findings about a source as a whole.';

CREATE OR REPLACE FUNCTION roneo.preflight_capture(name text, answer jsonb)
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'schema roneo_capture', coalesce((answer ->> 'capture')::boolean, false),
           CASE WHEN (answer ->> 'capture')::boolean THEN 'may be used'
                WHEN answer ->> 'capture' IS NOT NULL THEN format('%I may not use all of it', answer ->> 'user')
                ELSE 'does not exist: roneo.resync makes it, and roneo.capture_script prints it' END,
           CASE WHEN NOT (answer ->> 'capture')::boolean THEN format('SELECT roneo_capture.allow(%L);', answer ->> 'user') END
    WHERE EXISTS (SELECT FROM roneo.replica AS r JOIN roneo.source AS s USING (source_id)
                  WHERE s.source_name = name AND r.method IN ('dml', 'logdel'));
END;
COMMENT ON FUNCTION roneo.preflight_capture(text, jsonb) IS 'A finding about what dml and logdel need on a source, where it has any.';

CREATE OR REPLACE FUNCTION roneo.preflight_schemas(answer jsonb)
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('schema %I', s.name), coalesce(s.usage, false),
           CASE WHEN s.usage THEN 'may be used'
                WHEN s.schema_exists THEN format('%I has no USAGE', answer ->> 'user')
                ELSE 'does not exist' END,
           CASE WHEN s.schema_exists AND NOT s.usage
                THEN format('GRANT USAGE ON SCHEMA %I TO %I;', s.name, answer ->> 'user') END
    FROM (
        SELECT DISTINCT r.source_schema AS name, t.schema_exists, t.usage
        FROM jsonb_to_recordset(answer -> 'tables')
            AS t (replica_id integer, schema_exists boolean, usage boolean)
        JOIN roneo.replica AS r USING (replica_id)
    ) AS s
    ORDER BY s.name;
END;
COMMENT ON FUNCTION roneo.preflight_schemas(jsonb) IS 'Findings about the schemas that replicas read from.';

CREATE OR REPLACE FUNCTION roneo.preflight_tables(answer jsonb)
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH seen AS (
        SELECT format('%I.%I', r.source_schema, r.source_table) AS name, r.wanted_columns,
               r.filter, t.*, t.readable OR t.unreadable IS NULL AS enough
        FROM jsonb_to_recordset(answer -> 'tables')
            AS t (replica_id integer, "exists" boolean, readable boolean, unreadable name[],
                  gone name[], row_security boolean)
        JOIN roneo.replica AS r USING (replica_id)
    )
    SELECT format('table %s', s.name), s."exists" AND s.enough,
           CASE WHEN NOT s."exists" THEN 'does not exist'
                WHEN s.readable THEN 'may be read'
                WHEN s.enough THEN concat('the columns asked for may be read',
                    CASE WHEN s.filter IS NOT NULL THEN '; the filter may need others' END)
                ELSE format('%I has no SELECT on %s', answer ->> 'user', CASE
                    WHEN s.wanted_columns IS NULL THEN 'it'
                    ELSE format('(%s)', roneo.column_list(s.unreadable)) END) END,
           CASE WHEN s."exists" AND NOT s.enough THEN format('GRANT SELECT%s ON TABLE %s TO %I;',
                    CASE WHEN s.wanted_columns IS NOT NULL
                         THEN format(' (%s)', roneo.column_list(s.unreadable)) ELSE '' END,
                    s.name, answer ->> 'user') END
    FROM seen AS s
    UNION ALL
    SELECT format('columns of %s', s.name), false,
           format('gone from the source: %s', roneo.column_list(s.gone)), NULL
    FROM seen AS s WHERE s."exists" AND s.gone IS NOT NULL
    UNION ALL
    SELECT format('row security of %s', s.name), false,
           format('%I sees only the rows that policies show it', answer ->> 'user'),
           format('ALTER ROLE %I BYPASSRLS;', answer ->> 'user')
    FROM seen AS s WHERE s.row_security
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.preflight_tables(jsonb) IS 'Findings about the tables that replicas read from.';

CREATE OR REPLACE FUNCTION roneo.check_source(name text)
RETURNS TABLE (side text, item text, ok boolean, detail text, fix text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    probe   text := roneo.preflight_probe(name);
    link    text;
    answer  jsonb;
    problem text;
    reason  text;
    advice  text;
BEGIN
    BEGIN
        link := roneo.open_link(name);
    EXCEPTION WHEN SQLSTATE 'RO011' OR query_canceled THEN
        RAISE;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS
            problem = MESSAGE_TEXT, reason = PG_EXCEPTION_DETAIL, advice = PG_EXCEPTION_HINT;
        RETURN QUERY SELECT 'source', 'connection', false,
            concat_ws('. ', problem, nullif(rtrim(reason, '.'), ''), nullif(advice, '')), NULL::text;
        RETURN;
    END;
    BEGIN
        answer := roneo.ask_link(link, probe);
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        -- A dblink connection stays open after a rollback.
        PERFORM roneo.close_link(link);
        RAISE;
    END;
    PERFORM roneo.close_link(link);
    RETURN QUERY SELECT 'source', 'connection', true, 'can be reached', NULL::text;
    RETURN QUERY SELECT f.* FROM roneo.preflight(name, answer) AS f;
END;
$$;
COMMENT ON FUNCTION roneo.check_source(text) IS
    'Whether a source can be reached over dblink and what its role lacks there; fix is SQL to run on the source.';

CREATE OR REPLACE FUNCTION roneo.preflight_local()
RETURNS TABLE (side text, item text, ok boolean, detail text, fix text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT 'destination', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_database() AS f;
    RETURN QUERY SELECT 'destination', format('privileges of %I', current_user), NOT f.lacks,
                        CASE WHEN f.lacks THEN 'are not enough to refresh' ELSE 'are enough to refresh' END,
                        f.fix
                 FROM (SELECT count(*) > 0 AS lacks, string_agg(g, ' ') AS fix
                       FROM roneo.missing_grants(current_user) AS g) AS f;
    RETURN QUERY SELECT 'destination', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_mappings() AS f;
    RETURN QUERY SELECT 'destination', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_replicas() AS f;
END;
$$;
COMMENT ON FUNCTION roneo.preflight_local() IS
    'Findings about this database and what the current role may do in it; fix is SQL to run here.';

CREATE OR REPLACE FUNCTION roneo.preflight_database()
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'server version', v.number BETWEEN 140000 AND 189999,
           format('PostgreSQL %s; a destination may be 14 to 18', v.number / 10000), NULL
    FROM (SELECT current_setting('server_version_num')::integer) AS v (number)
    UNION ALL
    SELECT 'server', NOT pg_is_in_recovery(),
           CASE WHEN pg_is_in_recovery() THEN 'a standby: nothing can be refreshed here'
                ELSE 'a primary' END, NULL
    UNION ALL
    SELECT 'dblink', true,
           CASE WHEN EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'dblink')
                THEN 'installed'
                ELSE 'not installed; refreshes by SQL need it, the roneo program does not' END, NULL
    UNION ALL
    SELECT 'transaction isolation', i.level = 'read committed', format('default is %s', i.level),
           CASE WHEN i.level <> 'read committed'
                THEN format('ALTER ROLE %I IN DATABASE %I SET default_transaction_isolation = %L;',
                            current_user, current_database(), 'read committed') END
    FROM (SELECT current_setting('default_transaction_isolation')) AS i (level);
END;
COMMENT ON FUNCTION roneo.preflight_database() IS 'Findings about the destination as a whole.';

CREATE OR REPLACE FUNCTION roneo.preflight_mappings()
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH asked AS (
        SELECT s.source_name, s.server_name, f.oid AS server_id, m.mapped_role, m.visible,
               has_server_privilege(f.oid, 'USAGE') AS usable,
               r.rolsuper OR EXISTS (SELECT FROM unnest(m.options) AS o
                                     WHERE o LIKE 'password=%') AS has_password
        FROM roneo.source AS s
        JOIN pg_roles AS r ON r.rolname = current_user
        LEFT JOIN pg_foreign_server AS f ON f.srvname = s.server_name
        LEFT JOIN LATERAL roneo.server_mapping(s.server_name, current_user) AS m ON true
    )
    SELECT format('server %I of source %I', a.server_name, a.source_name), coalesce(a.usable, false),
           CASE WHEN a.server_id IS NULL THEN 'does not exist: roneo.create_source makes it again after DELETE FROM roneo.source'
                WHEN a.usable THEN 'may be used' ELSE format('%I has no USAGE', current_user) END,
           CASE WHEN NOT a.usable
                THEN format('GRANT USAGE ON FOREIGN SERVER %I TO %I;', a.server_name, current_user) END
    FROM asked AS a
    UNION ALL
    SELECT format('user mapping for source %I', a.source_name),
           coalesce(a.visible, false),
           CASE WHEN a.mapped_role IS NULL THEN format('%I has none', current_user)
                WHEN NOT a.visible THEN format('%I may not read that of %I', current_user, a.mapped_role)
                WHEN a.has_password THEN format('that of %I', a.mapped_role)
                ELSE 'has no password: dblink, not the roneo program, wants one of all but superusers' END,
           CASE WHEN a.visible IS NOT TRUE
                THEN format('CREATE USER MAPPING FOR %I SERVER %I OPTIONS (user ''…'', password ''…'');',
                            current_user, a.server_name) END
    FROM asked AS a WHERE a.server_id IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.preflight_mappings() IS
    'Findings about the foreign servers and user mappings that the current role connects with.';

CREATE OR REPLACE FUNCTION roneo.preflight_replicas()
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH asked AS (
        SELECT format('%I.%I', r.dest_schema, r.dest_name) AS name, r.method, o.rolname AS owner_name,
               n.nspname, p.wanted,
               pg_has_role(r.owner_id, CASE  -- MEMBER may be without SET from 16 on
                   WHEN current_setting('server_version_num')::integer < 160000
                   THEN 'MEMBER' ELSE 'SET' END) AS member,
               CASE WHEN o.rolname IS NOT NULL
                    THEN has_schema_privilege(o.oid, n.oid, p.wanted) END AS schema_open
        FROM (SELECT q.*, c.relowner AS owner_id, c.relnamespace
              FROM roneo.replica AS q LEFT JOIN pg_class AS c ON c.oid = q.dest) AS r
        LEFT JOIN pg_roles AS o ON o.oid = r.owner_id
        LEFT JOIN pg_namespace AS n ON n.oid = r.relnamespace
        CROSS JOIN LATERAL (SELECT CASE WHEN r.method = 'plain' THEN 'USAGE' ELSE 'CREATE' END)
            AS p (wanted)
    )
    SELECT format('replica %s', a.name), coalesce(a.member, false),
           CASE WHEN a.owner_name IS NULL THEN 'its table or view is gone'
                WHEN a.member THEN format('steps run as its owner %I', a.owner_name)
                ELSE format('%I may not become its owner %I', current_user, a.owner_name) END,
           CASE WHEN NOT a.member THEN format('GRANT %I TO %I;', a.owner_name, current_user) END
    FROM asked AS a
    UNION ALL
    SELECT format('schema of %s', a.name), false,
           format('its owner %I has no %s on it', a.owner_name, a.wanted),
           format('GRANT %s ON SCHEMA %I TO %I;', a.wanted, a.nspname, a.owner_name)
    FROM asked AS a WHERE NOT a.schema_open
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.preflight_replicas() IS
    'Findings about the destinations: whether they exist, and whether the current role may work as their owners.';
