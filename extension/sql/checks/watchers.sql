-- Who may look at all of it, and at nothing else.

CREATE OR REPLACE FUNCTION roneo.watch_objects()
RETURNS TABLE (privilege text, kind text, object text, oid oid)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE used (classid, objid) AS (
        -- What PL/pgSQL calls is recorded nowhere, so it is named here; the rest is found.
        SELECT d.classid, d.objid
        FROM pg_depend AS d
        JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'roneo'
        JOIN pg_proc AS f ON d.classid = 'pg_proc'::regclass AND f.oid = d.objid
        WHERE d.deptype = 'e'
          AND f.proname IN ('check', 'watched_replicas', 'require_source', 'find_problems', 'setting',
                            'replica_metrics', 'run_buckets', 'run_failures', 'source_opening', 'columns_probe',
                            'relation_query', 'local_relation', 'judge_columns', 'judge_followed_columns',
                            'judge_table_columns', 'level_rank', 'type_fits', 'tables_probe', 'judge_tables')
        UNION
        -- A view reads its tables as its owner, but calls its functions as whoever reads it.
        SELECT x.refclassid, x.refobjid
        FROM used AS u
        CROSS JOIN LATERAL (
            SELECT d.refclassid, d.refobjid FROM pg_depend AS d
            WHERE u.classid = 'pg_proc'::regclass AND d.classid = u.classid AND d.objid = u.objid
            UNION ALL
            SELECT d.refclassid, d.refobjid
            FROM pg_rewrite AS w
            JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
            WHERE u.classid = 'pg_class'::regclass AND w.ev_class = u.objid AND d.refclassid = 'pg_proc'::regclass
        ) AS x
    )
    SELECT 'SELECT', 'TABLE', c.oid::regclass::text, c.oid
    FROM pg_class AS c
    WHERE c.relnamespace = 'roneo'::regnamespace AND c.relkind IN ('r', 'v')
      AND (c.oid IN (SELECT u.objid FROM used AS u WHERE u.classid = 'pg_class'::regclass)
           OR c.relname IN ('status', 'run', 'settings', 'source', 'sources', 'snapshot_replica', 'plain_replica'))
    UNION ALL
    SELECT 'EXECUTE', 'FUNCTION', f.oid::regprocedure::text, f.oid
    FROM used AS u
    JOIN pg_proc AS f ON u.classid = 'pg_proc'::regclass AND f.oid = u.objid
    WHERE f.pronamespace = 'roneo'::regnamespace;
END;
COMMENT ON FUNCTION roneo.watch_objects() IS 'What a role must be granted to look at the state of replicas.';

CREATE OR REPLACE FUNCTION roneo.watch_grants(role_name name)
RETURNS SETOF text LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('GRANT USAGE ON SCHEMA roneo TO %I;', role_name)
    WHERE NOT has_schema_privilege(role_name, 'roneo', 'USAGE')
    UNION ALL
    SELECT format('GRANT %s ON %s %s TO %I;', w.privilege, w.kind, string_agg(w.object, ', ' ORDER BY w.object), role_name)
    FROM roneo.watch_objects() AS w
    WHERE NOT CASE w.kind WHEN 'TABLE' THEN has_table_privilege(role_name, w.oid, w.privilege)
                          ELSE has_function_privilege(role_name, w.oid, w.privilege) END
    GROUP BY w.privilege, w.kind;
END;
COMMENT ON FUNCTION roneo.watch_grants(name) IS
    'The GRANT statements that a role lacks before it can call roneo status, history, check, metrics and report; it can change nothing by them.';
