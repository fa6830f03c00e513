-- The grid is anchored at the replica's creation and counts from the start of the last success:
-- neither a slow run nor a late cron moves it.
CREATE OR REPLACE FUNCTION roneo.next_on_grid(anchor timestamptz, every interval, after timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN anchor + make_interval(secs =>
    ((floor(extract(epoch FROM after - anchor) / extract(epoch FROM every)) + 1)
     * extract(epoch FROM every))::float8);
COMMENT ON FUNCTION roneo.next_on_grid(timestamptz, interval, timestamptz) IS
    'The first point of time after another one that lies a whole number of intervals from the anchor.';

CREATE OR REPLACE FUNCTION roneo.backoff(failures integer)
RETURNS interval LANGUAGE sql IMMUTABLE
RETURN CASE WHEN failures > 0
            THEN least(interval '1 minute' * 2 ^ least(failures - 1, 10), interval '1 hour') END;
COMMENT ON FUNCTION roneo.backoff(integer) IS
    'How long to leave a replica alone after failures in a row: one minute, two, four, up to an hour.';

CREATE OR REPLACE FUNCTION roneo.due_at(r roneo.replica)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN CASE WHEN r.enabled AND r.refresh_every IS NOT NULL THEN
    greatest(coalesce(roneo.next_on_grid(r.created_at, r.refresh_every, r.last_success_at), r.created_at),
             r.last_attempt_at + roneo.backoff(r.failures))
END;
COMMENT ON FUNCTION roneo.due_at(roneo.replica) IS
    'When a replica is to be refreshed next; NULL: only when told to.';

CREATE OR REPLACE FUNCTION roneo.due_replicas(source_names text[], methods text[])
RETURNS TABLE (replica_id integer, dest text, source_name text, method text, due_at timestamptz) LANGUAGE sql
BEGIN ATOMIC
    SELECT r.replica_id, format('%I.%I', coalesce(n.nspname, r.dest_schema), coalesce(c.relname, r.dest_name)),
           s.source_name, r.method, r.due_at
    -- OFFSET 0: worked out once for each, of many.
    FROM (SELECT k.replica_id, k.source_id, k.dest, k.dest_schema, k.dest_name, k.method, k.refresh_group, roneo.due_at(k) AS due_at
          FROM roneo.replica AS k
          WHERE methods IS NULL OR k.method = ANY (methods)
          OFFSET 0) AS r
    JOIN roneo.source AS s USING (source_id)
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid = r.dest
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE r.due_at <= clock_timestamp()
      -- The others of its group come with it.
      AND (r.refresh_group IS NULL OR NOT EXISTS (
          SELECT FROM roneo.replica AS k
          WHERE k.source_id = r.source_id AND k.refresh_group = r.refresh_group
            AND (roneo.due_at(k), k.replica_id) < (r.due_at, r.replica_id)))
      AND (source_names IS NULL OR s.source_name = ANY (source_names))
    ORDER BY r.due_at, r.replica_id;
END;
COMMENT ON FUNCTION roneo.due_replicas(text[], text[]) IS
    'What due() tells, with the number of each replica.';

CREATE OR REPLACE FUNCTION roneo.due(
    source_names text[] DEFAULT NULL, methods text[] DEFAULT NULL)
RETURNS TABLE (dest text, source_name text, method text, due_at timestamptz) LANGUAGE sql
BEGIN ATOMIC
    SELECT d.dest, d.source_name, d.method, d.due_at FROM roneo.due_replicas(source_names, methods) AS d;
END;
COMMENT ON FUNCTION roneo.due(text[], text[]) IS
    'The replicas that are due now, those that have waited longest first; NULL: of all sources, of all methods.';

CREATE OR REPLACE FUNCTION roneo.dest_named(wanted text)
RETURNS regclass LANGUAGE sql STABLE
RETURN CASE
    WHEN to_regclass(wanted) IS NOT NULL THEN (SELECT r.dest FROM roneo.replica AS r WHERE r.dest = to_regclass(wanted))
    -- No index helps here.
    ELSE (SELECT r.dest FROM roneo.replica AS r WHERE format('%I.%I', r.dest_schema, r.dest_name) = wanted LIMIT 1)
END;
COMMENT ON FUNCTION roneo.dest_named(text) IS
    'The destination that due() gave the name of, one that was dropped included; NULL: no replica any more.';

CREATE OR REPLACE FUNCTION roneo.dest_of(wanted text)
RETURNS regclass LANGUAGE sql STABLE
RETURN coalesce(roneo.dest_named(wanted), wanted::regclass);
COMMENT ON FUNCTION roneo.dest_of(text) IS
    'The destination that a person means by a name; also of a replica whose destination was dropped, for a refresh to say so. Raises 42P01 where there is none.';

CREATE OR REPLACE PROCEDURE roneo.refresh_now(
    dest regclass,
    drop_dependents boolean DEFAULT false,
    force boolean DEFAULT false,
    sweep boolean DEFAULT false,
    until timestamptz DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    done roneo.run;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    done := roneo.refresh(dest, false, drop_dependents, force, sweep);
    COMMIT;
    IF done.outcome OPERATOR(pg_catalog.=) 'deferred' AND done.rows_sent IS NOT NULL THEN
        -- What was loaded is committed now, and can be shown. A source that cannot tell, or that
        -- never stands still, would be loaded once more, and again in vain.
        done := roneo.refresh_with(dest, false, pg_catalog.jsonb_build_object(
            'show_pending', true, 'drop_dependents', drop_dependents));
        COMMIT;
    END IF;
    WHILE done.has_more AND (until IS NULL OR pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<=) until) LOOP
        done := roneo.refresh(dest);
        COMMIT;
    END LOOP;
    IF done.outcome OPERATOR(pg_catalog.=) 'failed' THEN
        RAISE WARNING '% was not refreshed: %', done.dest, done.message;
    END IF;
END;
$$;
COMMENT ON PROCEDURE roneo.refresh_now(regclass, boolean, boolean, boolean, timestamptz) IS
    'Refreshes one replica, over dblink, in as many transactions as it takes: a snapshot is loaded in one and shown in the next, so that no session ever finds it empty, and what a batch_limit leaves is read in further ones, none of which starts after until. drop_dependents, force, sweep: as for roneo.refresh. A failure is a warning. A procedure that commits can fix no search_path in its definition; it pins it in its first statement.';

CREATE OR REPLACE PROCEDURE roneo.refresh_due(
    source_names text[] DEFAULT NULL,
    methods text[] DEFAULT NULL,
    max_runtime interval DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    began timestamptz := clock_timestamp();
    dests text[];
    one   text;
    dest  regclass;
BEGIN
    -- A job of pg_cron runs on the standby too.
    IF pg_catalog.pg_is_in_recovery() THEN
        RETURN;
    END IF;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    dests := ARRAY(SELECT d.dest FROM roneo.due(source_names, methods) AS d);
    COMMIT;
    FOREACH one IN ARRAY dests LOOP
        EXIT WHEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>)
                  (began OPERATOR(pg_catalog.+) max_runtime);
        dest := roneo.dest_named(one);
        CONTINUE WHEN dest IS NULL;
        CALL roneo.refresh_now(dest, until => began OPERATOR(pg_catalog.+) max_runtime);
    END LOOP;
END;
$$;
COMMENT ON PROCEDURE roneo.refresh_due(text[], text[], interval) IS
    'Refreshes all replicas that are due, over dblink, one transaction each; one that fails is a warning and stops no other. Starts none after max_runtime. Does nothing on a standby. A procedure that commits can fix no search_path in its definition; it pins it in its first statement.';
