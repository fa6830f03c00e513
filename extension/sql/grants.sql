-- Who may run what, in one place, last.

-- A refresh writes state, never what a replica is: who may refresh cannot give another's replica a
-- filter or a post_script, which would run as its owner.
CREATE OR REPLACE FUNCTION roneo.needed_grants()
RETURNS TABLE (privilege text, relation regclass, columns name[])
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'SELECT', c.oid::regclass, NULL::name[]
    FROM pg_depend AS d
    JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
    WHERE e.extname = 'roneo' AND d.deptype = 'e' AND c.relkind IN ('r', 'v')
      AND c.oid <> 'roneo.grantee'::regclass
    UNION ALL
    SELECT w.privilege, 'roneo.run'::regclass, NULL
    FROM (VALUES ('INSERT'), ('UPDATE'), ('DELETE')) AS w (privilege)
    UNION ALL
    SELECT 'UPDATE', 'roneo.source'::regclass, ARRAY['paused_since', 'paused_by', 'unread_limits']::name[]
    UNION ALL
    SELECT w.privilege, w.relation, NULL
    FROM (VALUES ('INSERT', 'roneo.verification'::regclass), ('UPDATE', 'roneo.verification'),
                 ('INSERT', 'roneo.verification_slice'), ('UPDATE', 'roneo.verification_slice')) AS w (privilege, relation)
    UNION ALL
    -- Not for a refresh: for roneo.observe, which the same role calls.
    SELECT w.privilege, t.relation, NULL
    FROM (VALUES ('INSERT'), ('UPDATE'), ('DELETE')) AS w (privilege),
         (VALUES ('roneo.observation'::regclass), ('roneo.observed_state'::regclass)) AS t (relation)
    UNION ALL
    SELECT 'UPDATE', s.relation, array_agg(a.attname ORDER BY a.attnum)
    FROM (VALUES
        ('roneo.replica'::regclass,
         ARRAY['source_id', 'source_schema', 'source_table', 'method', 'wanted_columns', 'filter',
               'filter_path', 'refresh_every', 'enabled', 'created_at', 'replica_id', 'source_lockable', 'refresh_group',
               'priority', 'windows', 'window_text', 'window_zone', 'refresh_timeout']),
        ('roneo.control_replica'::regclass,
         ARRAY['replica_id', 'control', 'control_type', 'key_columns', 'key_is_unique', 'append_only', 'null_control',
               'reads_xmin', 'boundary', 'look_back', 'batch_limit', 'blackout', 'control_zone', 'sweep_every']),
        ('roneo.capture_replica'::regclass,
         ARRAY['replica_id', 'capture_id', 'consumer_id', 'key_columns', 'row_level', 'packs', 'deleted_column', 'batch_limit']),
        ('roneo.snapshot_replica'::regclass,
         ARRAY['replica_id', 'table_schema', 'first_table', 'second_table', 'check_changes',
               'max_skip_age', 'post_script']),
        ('roneo.plain_replica'::regclass,
         ARRAY['replica_id', 'sequences', 'truncate_cascade'])
    ) AS s (relation, not_state)
    JOIN pg_attribute AS a ON a.attrelid = s.relation AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attname <> ALL (s.not_state)
    GROUP BY s.relation;
END;
COMMENT ON FUNCTION roneo.needed_grants() IS 'What a role must be granted on our tables and views before it can refresh.';

CREATE OR REPLACE FUNCTION roneo.missing_grants(role_name name)
RETURNS SETOF text LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('GRANT USAGE ON SCHEMA roneo TO %I;', role_name)
    WHERE NOT has_schema_privilege(role_name, 'roneo', 'USAGE')
    UNION ALL
    SELECT format('GRANT %s%s ON TABLE %s TO %I;', n.privilege,
                  CASE WHEN n.columns IS NULL THEN ''
                       ELSE format(' (%s)', roneo.column_list(n.columns)) END,
                  string_agg(n.relation::text, ', ' ORDER BY n.relation::text), role_name)
    FROM roneo.needed_grants() AS n
    WHERE CASE WHEN n.columns IS NULL
          THEN NOT has_table_privilege(role_name, n.relation, n.privilege)
          ELSE EXISTS (SELECT FROM unnest(n.columns) AS k
                       WHERE NOT has_column_privilege(role_name, n.relation, k::text, n.privilege)) END
    GROUP BY n.privilege, n.columns
    UNION ALL
    SELECT format('GRANT EXECUTE ON ROUTINE %s TO %I;',
                  string_agg(f.oid::regprocedure::text, ', ' ORDER BY f.oid), role_name)
    FROM pg_depend AS d
    JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    JOIN pg_proc AS f ON d.classid = 'pg_proc'::regclass AND d.objid = f.oid
    WHERE e.extname = 'roneo' AND d.deptype = 'e'
      AND NOT has_function_privilege(role_name, f.oid, 'EXECUTE')
    HAVING count(*) > 0;
END;
COMMENT ON FUNCTION roneo.missing_grants(name) IS
    'The GRANT statements that a role lacks before it can refresh the replicas that it owns.';

-- A view reads its tables as its owner, but calls its functions as whoever reads it.
CREATE OR REPLACE FUNCTION roneo.status_objects()
RETURNS TABLE (privilege text, object text, acl aclitem[])
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE used AS (
        SELECT d.refobjid
        FROM pg_rewrite AS w
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        WHERE w.ev_class = 'roneo.status'::regclass AND d.refclassid = 'pg_proc'::regclass
        UNION
        SELECT d.refobjid
        FROM used AS u
        JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = u.refobjid
        WHERE d.refclassid = 'pg_proc'::regclass
    )
    SELECT 'USAGE', 'SCHEMA roneo', n.nspacl FROM pg_namespace AS n WHERE n.nspname = 'roneo'
    UNION ALL
    SELECT 'SELECT', format('TABLE %s', c.oid::regclass), c.relacl
    FROM pg_class AS c WHERE c.oid IN ('roneo.status'::regclass, 'roneo.run'::regclass)
    UNION ALL
    SELECT 'EXECUTE', format('FUNCTION %s', f.oid::regprocedure), f.proacl
    FROM used AS u
    JOIN pg_proc AS f ON f.oid = u.refobjid
    WHERE f.pronamespace = 'roneo'::regnamespace;
END;
COMMENT ON FUNCTION roneo.status_objects() IS 'What a role must be granted to see the status of replicas, and their runs.';

CREATE OR REPLACE FUNCTION roneo.wrapper_name(owner name)
RETURNS name LANGUAGE sql IMMUTABLE
RETURN CASE WHEN octet_length(owner::text) <= 52 THEN concat('refresh_as_', owner)
            ELSE concat('refresh_as_', md5(owner::text)) END::name;
COMMENT ON FUNCTION roneo.wrapper_name(name) IS
    'The function that refreshes as an owner of destinations; a long name is replaced by its hash.';

-- SECURITY DEFINER, and owned by the owner of the destinations: steps, filters and post scripts run
-- as that role, never as the one who calls, nor as the owner of the extension.
CREATE OR REPLACE FUNCTION roneo.wrapper_statement(owner name)
RETURNS text LANGUAGE sql STABLE
RETURN format($statement$
CREATE OR REPLACE FUNCTION roneo.%1$I(dest regclass)
RETURNS roneo.run LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $wrapper$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class AS c
                   WHERE c.oid = dest AND c.relowner = %2$L::regrole AND current_user = %3$L) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('%%s is not a table or view of role %%I', dest, %3$L),
            HINT    = 'roneo.grant_refresh(role, dest) makes the function that refreshes it.';
    END IF;
    RETURN roneo.refresh(dest);
END;
$wrapper$$statement$, roneo.wrapper_name(owner), quote_ident(owner), owner);
COMMENT ON FUNCTION roneo.wrapper_statement(name) IS 'The statement that makes the wrapper of an owner.';

CREATE OR REPLACE FUNCTION roneo.grant_refresh(grantee text, dest regclass DEFAULT NULL)
RETURNS SETOF regprocedure LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner   name;
    wrapper regprocedure;
    seen    record;
BEGIN
    PERFORM roneo.refuse_grantee(grantee, dest);
    FOR owner IN
        SELECT DISTINCT pg_get_userbyid(c.relowner)
        FROM roneo.replica AS r JOIN pg_class AS c ON c.oid = r.dest
        WHERE r.dest = grant_refresh.dest OR grant_refresh.dest IS NULL
        ORDER BY 1
    LOOP
        PERFORM roneo.refuse_owner(owner);
        wrapper := roneo.run_make_wrapper(owner);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', wrapper, grantee);
        INSERT INTO roneo.grantee (role_name, dest_owner) VALUES (grantee, owner)
        ON CONFLICT DO NOTHING;
        RETURN NEXT wrapper;
    END LOOP;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO001',
            MESSAGE = 'there is no replica to grant the refresh of',
            HINT    = 'roneo.create_snapshot and roneo.create_plain make replicas.';
    END IF;
    FOR seen IN SELECT o.* FROM roneo.status_objects() AS o LOOP
        EXECUTE format('GRANT %s ON %s TO %I', seen.privilege, seen.object, grantee);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.grant_refresh(text, regclass) IS
    'Lets a role refresh replicas, of all owners or of the owner of dest, and see their status; returns the functions it calls, one an owner.';

CREATE OR REPLACE FUNCTION roneo.revoke_refresh(grantee text, dest regclass DEFAULT NULL)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner   name;
    wrapper regprocedure;
    seen    record;
BEGIN
    FOR owner IN
        DELETE FROM roneo.grantee AS g
        WHERE g.role_name = revoke_refresh.grantee
          AND (dest IS NULL OR g.dest_owner = (SELECT pg_get_userbyid(c.relowner)
                                               FROM pg_class AS c WHERE c.oid = dest))
        RETURNING g.dest_owner
    LOOP
        wrapper := to_regprocedure(format('roneo.%I(regclass)', roneo.wrapper_name(owner)));
        IF wrapper IS NULL THEN
            CONTINUE;
        ELSIF EXISTS (SELECT FROM roneo.grantee AS g WHERE g.dest_owner = owner) THEN
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM %I', wrapper, grantee);
        ELSE
            EXECUTE format('DROP FUNCTION %s', wrapper);
        END IF;
    END LOOP;
    -- An owner of destinations needs them for refreshes of its own.
    IF FOUND AND NOT EXISTS (SELECT FROM roneo.grantee AS g
                             WHERE revoke_refresh.grantee IN (g.role_name, g.dest_owner)) THEN
        FOR seen IN SELECT o.* FROM roneo.status_objects() AS o LOOP
            EXECUTE format('REVOKE %s ON %s FROM %I', seen.privilege, seen.object, grantee);
        END LOOP;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.revoke_refresh(text, regclass) IS 'Takes back what grant_refresh gave.';

CREATE OR REPLACE FUNCTION roneo.refuse_grantee(grantee text, dest regclass)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = grantee) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'undefined_object',
            MESSAGE = format('role %s does not exist', coalesce(quote_ident(grantee), 'NULL')),
            HINT    = 'Refreshes are granted to single roles, and never to PUBLIC.';
    ELSIF dest IS NOT NULL
          AND NOT EXISTS (SELECT FROM roneo.replica AS r WHERE r.dest = refuse_grantee.dest) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO001',
            MESSAGE = format('table %s is not a replica', dest),
            HINT    = 'SELECT dest FROM roneo.replica lists those that are.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.refuse_grantee(text, regclass) IS
    'Raises an error where grant_refresh names no role or no replica.';

CREATE OR REPLACE FUNCTION roneo.refuse_owner(owner name)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lacking text;
BEGIN
    IF (SELECT o.rolsuper FROM pg_roles AS o WHERE o.rolname = owner) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('refreshes of what superuser %I owns cannot be granted', owner),
            DETAIL  = 'Whoever may refresh would run the steps as a superuser.',
            HINT    = 'Give the destinations to another role: ALTER TABLE … OWNER TO, for a snapshot ALTER VIEW … OWNER TO and its two tables.';
    END IF;
    SELECT string_agg(g.statement, ' ') INTO lacking FROM (
        SELECT roneo.missing_grants(owner)
        UNION ALL
        SELECT format('GRANT USAGE ON FOREIGN SERVER %I TO %I;', u.srvname, owner)
        FROM roneo.servers_of(owner) AS u WHERE NOT u.usable
        UNION ALL
        SELECT format('CREATE USER MAPPING FOR %I SERVER %I OPTIONS (user ''…'', password ''…'');',
                      owner, u.srvname)
        FROM roneo.servers_of(owner) AS u WHERE NOT u.mapped
    ) AS g (statement);
    IF lacking IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I, the owner of the destinations, could not refresh them itself', owner),
            DETAIL  = 'A granted refresh runs with the privileges of that role.',
            HINT    = format('Run: %s', lacking);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.refuse_owner(name) IS
    'Raises an error, with the GRANTs that mend it, where an owner of destinations could not refresh them over dblink.';

CREATE OR REPLACE FUNCTION roneo.servers_of(owner name)
RETURNS TABLE (srvname name, usable boolean, mapped boolean)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT DISTINCT f.srvname, has_server_privilege(owner, f.oid, 'USAGE'),
           EXISTS (SELECT FROM roneo.server_mapping(f.srvname, owner))
    FROM roneo.replica AS r
    JOIN pg_class AS c ON c.oid = r.dest AND pg_get_userbyid(c.relowner) = owner
    JOIN roneo.source AS s ON s.source_id = r.source_id
    JOIN pg_foreign_server AS f ON f.srvname = s.server_name;
END;
COMMENT ON FUNCTION roneo.servers_of(name) IS
    'The servers that an owner''s replicas read from, and whether that role may connect through them.';

-- The new owner of a function needs CREATE on its schema for a moment, unless a superuser gives it.
CREATE OR REPLACE FUNCTION roneo.run_make_wrapper(owner name)
RETURNS regprocedure LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    signature text    := format('roneo.%I(regclass)', roneo.wrapper_name(owner));
    lend      boolean := NOT has_schema_privilege(owner, 'roneo', 'CREATE');
    known     boolean := to_regprocedure(signature) IS NOT NULL;
BEGIN
    IF known AND owner = (SELECT pg_get_userbyid(f.proowner) FROM pg_proc AS f
                          WHERE f.oid = to_regprocedure(signature)) THEN
        RETURN to_regprocedure(signature);
    END IF;
    EXECUTE roneo.wrapper_statement(owner);
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', signature);
    -- DROP EXTENSION takes it along.
    EXECUTE format('ALTER FUNCTION %s DEPENDS ON EXTENSION roneo', signature);
    IF lend THEN
        EXECUTE format('GRANT CREATE ON SCHEMA roneo TO %I', owner);
    END IF;
    EXECUTE format('ALTER FUNCTION %s OWNER TO %I', signature, owner);
    IF lend THEN
        EXECUTE format('REVOKE CREATE ON SCHEMA roneo FROM %I', owner);
    END IF;
    RETURN to_regprocedure(signature);
END;
$$;
COMMENT ON FUNCTION roneo.run_make_wrapper(name) IS
    'Makes the function that refreshes as an owner of destinations, where it does not exist yet.';

-- From PUBLIC is taken only what was never settled: what an install or an update has just made. A
-- REVOKE of more would tell pg_dump that the users' grants came with the extension, and lose them.
DO $$
DECLARE
    object record;
BEGIN
    FOR object IN
        WITH own AS (
            SELECT d.classid, d.objid
            FROM pg_catalog.pg_depend AS d
            JOIN pg_catalog.pg_extension AS e
                ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid
            WHERE e.extname = 'roneo' AND d.deptype = 'e'
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_init_privs AS i
                              WHERE i.classoid = d.classid AND i.objoid = d.objid)
        )
        SELECT 'ROUTINE' AS kind, f.oid::regprocedure::text AS name
        FROM own JOIN pg_catalog.pg_proc AS f
            ON own.classid = 'pg_catalog.pg_proc'::regclass AND f.oid = own.objid
        WHERE EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(f.proacl,
                          pg_catalog.acldefault('f', f.proowner))) AS p WHERE p.grantee = 0)
        UNION ALL
        SELECT CASE WHEN c.relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass::text
        FROM own JOIN pg_catalog.pg_class AS c
            ON own.classid = 'pg_catalog.pg_class'::regclass AND c.oid = own.objid
        WHERE EXISTS (SELECT FROM pg_catalog.aclexplode(c.relacl) AS p WHERE p.grantee = 0)
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM PUBLIC', object.kind, object.name);
    END LOOP;
END;
$$;

-- What grant_refresh relied on, for functions and views that an update has made anew, and for
-- nothing else: pg_dump takes a GRANT of ours for a part of the extension. (After restoring a dump
-- of an updated database, grant_refresh gives these again.)
DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT roneo.missing_grants(g.dest_owner)
        FROM (SELECT DISTINCT dest_owner FROM roneo.grantee) AS g
        JOIN pg_catalog.pg_roles AS o ON o.rolname = g.dest_owner
        UNION ALL
        SELECT format('GRANT %s ON %s TO %I', s.privilege, s.object, g.role_name)
        FROM (SELECT DISTINCT role_name FROM roneo.grantee) AS g
        JOIN pg_catalog.pg_roles AS o ON o.rolname = g.role_name
        JOIN roneo.status_objects() AS s ON NOT EXISTS (
            SELECT FROM pg_catalog.aclexplode(s.acl) AS p
            WHERE p.grantee = o.oid AND p.privilege_type = s.privilege)
    LOOP
        EXECUTE statement;
    END LOOP;
END;
$$;
