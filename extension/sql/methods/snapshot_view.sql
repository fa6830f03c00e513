-- snapshot, the view: swapping it under a short lock, and building it anew when its columns
-- cannot stay.

CREATE OR REPLACE FUNCTION roneo.view_fit(view regclass, wanted jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT CASE
        WHEN count(*) FILTER (WHERE v.name IS NOT NULL AND w.name IS NULL) > 0
             OR bool_or(v.type <> w.type OR v.collation <> w.collation) THEN 'rebuild'
        WHEN NOT bool_or(v.name <> w.name) OR count(v.name) = 0 THEN 'keep'
        -- A name that the view has elsewhere cannot be given before it is free.
        WHEN bool_or(v.name <> w.name AND w.name IN (SELECT a.attname FROM pg_attribute AS a
                                                     WHERE a.attrelid = view AND a.attnum > 0)) THEN 'rebuild'
        WHEN bool_or(v.name <> w.name AND v.name IN (SELECT x.col ->> 'name'
                                                     FROM jsonb_array_elements(wanted) AS x (col))) THEN 'rebuild'
        ELSE 'rename'
    END
    FROM (SELECT c.col ->> 'name' AS name, c.col ->> 'type' AS type, c.place,
                 coalesce(c.col ->> 'collation', '') AS collation
          FROM jsonb_array_elements(roneo.local_relation(view) -> 'columns')
              WITH ORDINALITY AS c (col, place)) AS v
    FULL JOIN (SELECT c.col ->> 'name' AS name, roneo.local_type(c.col) AS type, c.place,
                      coalesce(c.col ->> 'collation', '') AS collation
               FROM jsonb_array_elements(wanted) WITH ORDINALITY AS c (col, place)) AS w
        ON w.place = v.place
);
COMMENT ON FUNCTION roneo.view_fit(regclass, jsonb) IS
    'How a view comes to show these columns: keep (as they are, or some appended), rename, or rebuild.';

-- A view is what its rule _RETURN belongs to. Triggers and rules of the view itself go silently
-- with it; they are named like the rest.
CREATE OR REPLACE FUNCTION roneo.dependents(view regclass)
RETURNS TABLE (dependent text) LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE found AS (
        SELECT 'pg_class'::regclass::oid AS class, view::oid AS object, 0 AS part, false AS named
        UNION
        SELECT CASE WHEN w.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass::oid END,
               coalesce(w.ev_class, d.objid),
               CASE WHEN w.oid IS NULL THEN d.objsubid ELSE 0 END,
               d.deptype = 'n' OR f.object = view AND d.classid IN ('pg_trigger'::regclass, 'pg_rewrite'::regclass)
        FROM found AS f
        JOIN pg_depend AS d ON d.refclassid = f.class AND d.refobjid = f.object
            AND (f.part = 0 OR d.refobjsubid = f.part) AND d.deptype IN ('n', 'a', 'i')
        LEFT JOIN pg_rewrite AS w
            ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid AND w.rulename = '_RETURN'
    )
    SELECT DISTINCT pg_describe_object(f.class, f.object, f.part)
    FROM found AS f
    WHERE f.named AND f.object <> view
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.dependents(regclass) IS
    'What would be dropped with a view: views on it and on those, functions that use it, its own triggers and rules.';

CREATE OR REPLACE FUNCTION roneo.require_no_dependents(r roneo.replica, answer jsonb, fit text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named text;
BEGIN
    IF fit = 'rebuild'
       AND NOT coalesce((answer #>> '{options,drop_dependents}')::boolean, false) THEN
        SELECT string_agg(d.dependent, ', ') INTO named FROM roneo.dependents(r.dest) AS d;
        IF named IS NOT NULL THEN
            RAISE EXCEPTION USING
                ERRCODE = 'RO012',
                MESSAGE = format('the columns of source table %s have changed, and %I.%I cannot follow while others depend on it',
                                 roneo.source_name_of(r), r.dest_schema, r.dest_name),
                DETAIL  = format('They depend on it: %s.', named),
                HINT    = 'Drop them and make them again afterwards; or let the refresh drop them (drop_dependents => true, roneo refresh --drop-dependents). Until then the copy stays as it is.';
        END IF;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_no_dependents(roneo.replica, jsonb, text) IS
    'Raises RO012, naming them, where the view must be rebuilt and others depend on it; unless the refresh may drop them.';

-- Rows that a transaction inserts are invisible to a session whose REPEATABLE READ snapshot is older
-- than its commit, and after the swap that one would find the view empty. It can take its snapshot
-- while it waits for the swap itself; so over dblink a load and its swap go into one transaction only
-- where nobody else is connected. Once the load is committed it is enough that the transactions open
-- then come to their end. Rows loaded with FREEZE need none of this.

CREATE OR REPLACE FUNCTION roneo.others_connected()
RETURNS boolean LANGUAGE sql STABLE
RETURN EXISTS (
    -- Everyone may see who has a role: sessions and their workers do, autovacuum does not.
    SELECT FROM pg_stat_activity AS a
    WHERE a.datname = current_database() AND a.usesysid IS NOT NULL AND a.pid <> pg_backend_pid());
COMMENT ON FUNCTION roneo.others_connected() IS 'Whether other sessions are connected to this database.';

CREATE OR REPLACE FUNCTION roneo.snapshot_guard(committed boolean)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN committed THEN format($guard$DO $roneo$
DECLARE
    older text[] := ARRAY(
        SELECT l.virtualtransaction
        FROM pg_catalog.pg_locks AS l
        JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
        WHERE l.locktype = 'virtualxid' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
          AND l.virtualxid = l.virtualtransaction
          AND a.datname = pg_catalog.current_database() AND a.usesysid IS NOT NULL);
    until timestamptz := pg_catalog.clock_timestamp() + interval '%s ms';
BEGIN
    WHILE EXISTS (SELECT FROM pg_catalog.pg_locks AS l
                  WHERE l.locktype = 'virtualxid' AND l.virtualxid = ANY (older)) LOOP
        IF pg_catalog.clock_timestamp() > until THEN
            RAISE lock_not_available USING
                MESSAGE = 'a session with an older snapshot is still open';
        END IF;
        PERFORM pg_catalog.pg_sleep(0.005);
    END LOOP;
END $roneo$; $guard$, roneo.setting('lock_timeout_ms'))
ELSE $guard$DO $roneo$
BEGIN
    PERFORM pg_catalog.pg_stat_clear_snapshot();
    IF EXISTS (SELECT FROM pg_catalog.pg_stat_activity AS a
               WHERE a.datname = pg_catalog.current_database() AND a.usesysid IS NOT NULL
                 AND a.pid <> pg_catalog.pg_backend_pid()) THEN
        RAISE lock_not_available USING
            MESSAGE = 'a session that has connected meanwhile may not see the loaded rows';
    END IF;
END $roneo$; $guard$ END;
COMMENT ON FUNCTION roneo.snapshot_guard(boolean) IS
    'A statement that fails with 55P03 while a session of this database may hold a snapshot that does not see the loaded rows.';

CREATE OR REPLACE FUNCTION roneo.swap_statement(r roneo.replica, m roneo.snapshot_replica, wanted jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat(
        (SELECT string_agg(format('ALTER VIEW %I.%I RENAME COLUMN %I TO %I; ', r.dest_schema, r.dest_name,
                                  a.attname, w.col ->> 'name'), '' ORDER BY a.attnum)
         FROM pg_attribute AS a
         JOIN jsonb_array_elements(wanted) WITH ORDINALITY AS w (col, place) ON w.place = a.attnum
         WHERE a.attrelid = r.dest AND a.attname <> w.col ->> 'name'),
        roneo.view_statement(format('%I.%I', r.dest_schema, r.dest_name), c.reloptions, wanted,
                             m.table_schema, roneo.hidden_table(m)))
    FROM pg_class AS c
    WHERE c.oid = r.dest
);
COMMENT ON FUNCTION roneo.swap_statement(roneo.replica, roneo.snapshot_replica, jsonb) IS
    'Statements that make the view show the hidden table, and rename its columns first where only names changed.';

CREATE OR REPLACE FUNCTION roneo.comment_statements(view regclass, wanted jsonb)
RETURNS TABLE (statement text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT CASE WHEN d.objsubid = 0
        THEN format('COMMENT ON VIEW %I.%I IS %L', n.nspname, c.relname, d.description)
        ELSE format('COMMENT ON COLUMN %I.%I.%I IS %L', n.nspname, c.relname, a.attname, d.description) END
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_description AS d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid
    LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0
    WHERE c.oid = view
      AND (d.objsubid = 0 OR a.attname = ANY (roneo.column_names(wanted)))
    ORDER BY d.objsubid;
END;
COMMENT ON FUNCTION roneo.comment_statements(regclass, jsonb) IS
    'COMMENTs of a view, and of those of its columns that stay.';

CREATE OR REPLACE FUNCTION roneo.rebuild_statement(r roneo.replica, m roneo.snapshot_replica, answer jsonb, wanted jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat(
        format('DROP VIEW %I.%I%s; ', r.dest_schema, r.dest_name,
               CASE WHEN (answer #>> '{options,drop_dependents}')::boolean THEN ' CASCADE' END),
        roneo.view_statement(format('%I.%I', r.dest_schema, r.dest_name), c.reloptions, wanted,
                             m.table_schema, roneo.hidden_table(m)),
        format('; ALTER VIEW %I.%I OWNER TO %I', r.dest_schema, r.dest_name, pg_get_userbyid(c.relowner)),
        -- What default privileges gave the new view is not what the old one had.
        (SELECT string_agg(format('; REVOKE ALL ON %I.%I FROM %s', r.dest_schema, r.dest_name,
                    CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END), '')
         FROM (SELECT DISTINCT e.grantee
               FROM pg_default_acl AS f
               CROSS JOIN LATERAL aclexplode(f.defaclacl) AS e
               WHERE f.defaclrole = c.relowner AND f.defaclobjtype = 'r'
                 AND f.defaclnamespace IN (0, c.relnamespace)) AS x),
        (SELECT string_agg(concat('; ', p.statement), '')
         FROM roneo.privilege_statements(c.oid, format('%I.%I', r.dest_schema, r.dest_name)) AS p
         WHERE roneo.column_names(wanted) @> p.column_names),
        (SELECT string_agg(concat('; ', d.statement), '') FROM roneo.comment_statements(c.oid, wanted) AS d),
        CASE WHEN m.post_script IS NOT NULL THEN format('; %s', m.post_script) END)
    FROM pg_class AS c
    WHERE c.oid = r.dest
);
COMMENT ON FUNCTION roneo.rebuild_statement(roneo.replica, roneo.snapshot_replica, jsonb, jsonb) IS
    'Statements that build the view anew over the hidden table, with its options, owner, privileges, comments, and the post_script.';

CREATE OR REPLACE FUNCTION roneo.show_steps(
    r roneo.replica, m roneo.snapshot_replica, answer jsonb, wanted jsonb, fit text,
    guarded boolean, committed boolean)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF guarded AND NOT committed AND roneo.others_connected() THEN
        RETURN NEXT roneo.dest_step(5, 'leave the swap to the next refresh, because others are connected', NULL, true);
        RETURN;
    END IF;
    RETURN NEXT roneo.dest_step(5,
        CASE fit
            WHEN 'rebuild' THEN 'build the view anew over the loaded table'
            ELSE 'show the loaded table' END,
        concat(CASE WHEN guarded THEN roneo.snapshot_guard(committed) END,
            CASE fit
                WHEN 'rebuild' THEN roneo.rebuild_statement(r, m, answer, wanted)
                ELSE roneo.swap_statement(r, m, wanted) END),
        true);
END;
$$;
COMMENT ON FUNCTION roneo.show_steps(roneo.replica, roneo.snapshot_replica, jsonb, jsonb, text, boolean, boolean) IS
    'The patient step that makes the view show what was loaded; without a statement where that must wait for the load''s commit.';

CREATE OR REPLACE FUNCTION roneo.finish_snapshot(ended roneo.ended[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(ended) AS e
               WHERE jsonb_path_exists(e.result, '$.steps[*] ? (@.stage == 1 && @.outcome == "deferred")')) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO016',
            MESSAGE = 'the table to be loaded is still being read by sessions from before the last swap',
            HINT    = 'The next refresh tries again; a transaction that stays open for long keeps it waiting.';
    END IF;
    UPDATE roneo.snapshot_replica AS m SET
        shown               = CASE WHEN x.showed THEN 3 - m.shown ELSE m.shown END,
        columns             = CASE WHEN x.showed THEN coalesce(x.columns, m.pending_columns) ELSE m.columns END,
        fingerprint         = CASE WHEN x.showed THEN coalesce(x.print, m.pending_fingerprint) ELSE m.fingerprint END,
        loaded_at           = CASE WHEN x.showed THEN coalesce(x.at, m.pending_at) ELSE m.loaded_at END,
        pending_columns     = CASE WHEN x.showed THEN NULL ELSE coalesce(x.columns, m.pending_columns) END,
        pending_fingerprint = CASE WHEN x.showed THEN NULL ELSE coalesce(x.print, m.pending_fingerprint) END,
        pending_at          = CASE WHEN x.showed THEN NULL ELSE coalesce(x.at, m.pending_at) END,
        pending_frozen      = CASE WHEN x.showed THEN NULL ELSE coalesce(x.frozen, m.pending_frozen) END
    FROM (
        SELECT r.replica_id,
               jsonb_path_exists(e.result, '$.steps[*] ? (@.stage == 5 && @.outcome == "done")') AS showed,
               CASE WHEN l.loaded THEN roneo.wanted_source_columns(r, e.answer) END AS columns,
               CASE WHEN l.loaded THEN roneo.change_print(e.answer) END AS print,
               CASE WHEN l.loaded THEN clock_timestamp() END AS at,
               CASE WHEN l.loaded THEN e.answer ->> 'hand' = 'runner' END AS frozen
        FROM unnest(ended) AS e
        JOIN roneo.replica AS r ON r.replica_id = e.replica_id
        CROSS JOIN LATERAL (SELECT jsonb_path_exists(e.result,
            '$.steps[*] ? (@.kind == "transfer" && @.outcome == "done")')) AS l (loaded)
        WHERE jsonb_array_length(e.result -> 'steps') > 0
    ) AS x
    WHERE x.replica_id = m.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.finish_snapshot(roneo.ended[]) IS
    'Snapshot, phase four: which table is shown and what was loaded; a load whose swap was deferred stays pending.';

-- By its oid: another relation can have its old name.
CREATE OR REPLACE FUNCTION roneo.remove_snapshot(r roneo.replica, m roneo.snapshot_replica, keep_table boolean)
RETURNS TABLE (statement text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT w.statement
    FROM (
        SELECT 1, false, format('DROP VIEW %I.%I', n.nspname, c.relname)
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = r.dest
        UNION ALL VALUES
        (2, false, format('DROP TABLE IF EXISTS %I.%I', m.table_schema, roneo.shown_table(m))),
        (3, true,  format('DROP TABLE IF EXISTS %I.%I', m.table_schema, roneo.hidden_table(m)))
    ) AS w (place, always, statement)
    WHERE w.always OR NOT keep_table
    ORDER BY w.place;
END;
COMMENT ON FUNCTION roneo.remove_snapshot(roneo.replica, roneo.snapshot_replica, boolean) IS
    'What is dropped with a snapshot: the hidden table always, the view and the shown table unless they are kept.';
