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

CREATE OR REPLACE FUNCTION roneo.due_time(r roneo.replica, anchor timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN greatest(coalesce(roneo.next_on_grid(anchor, r.refresh_every, r.last_success_at), anchor),
                r.last_attempt_at + roneo.backoff(r.failures));
COMMENT ON FUNCTION roneo.due_time(roneo.replica, timestamptz) IS
    'When the grid of that anchor and the rest after failures would let a replica be refreshed next.';

CREATE OR REPLACE FUNCTION roneo.due_on(r roneo.replica, anchor timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN CASE WHEN r.enabled AND r.refresh_every IS NOT NULL AND r.quarantined_at IS NULL THEN
    CASE WHEN r.windows IS NULL THEN roneo.due_time(r, anchor)
         ELSE roneo.due_in_window(r.windows, r.window_zone, roneo.due_time(r, anchor), anchor - r.created_at) END
END;
COMMENT ON FUNCTION roneo.due_on(roneo.replica, timestamptz) IS
    'When a replica is to be refreshed next, on the grid of that anchor; NULL: only when told to.';

CREATE OR REPLACE FUNCTION roneo.due_at(r roneo.replica)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN roneo.due_on(r, r.created_at);
COMMENT ON FUNCTION roneo.due_at(roneo.replica) IS
    'When a replica is to be refreshed next, and in a window; NULL: only when told to, or in quarantine.';

-- Not STABLE, as the clock is not: else it would be no part of the query, and planned for each replica.
CREATE OR REPLACE FUNCTION roneo.late_by(r roneo.replica)
RETURNS interval LANGUAGE sql VOLATILE
RETURN CASE
    WHEN r.windows IS NULL THEN clock_timestamp()
        - roneo.next_on_grid(r.created_at, r.refresh_every, coalesce(r.last_success_at, r.created_at))
    ELSE roneo.open_lag(r.windows, r.window_zone,
        roneo.next_on_grid(r.created_at, r.refresh_every, coalesce(r.last_success_at, r.created_at)), clock_timestamp()) END;
COMMENT ON FUNCTION roneo.late_by(roneo.replica) IS
    'How long a replica has been late, counted from when a refresh could have begun; NULL: it has no interval.';

CREATE OR REPLACE FUNCTION roneo.jitter_seconds(jitter interval)
RETURNS float8 LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF jitter < interval '0' THEN
        PERFORM roneo.bad_schedule(format('jitter is %s', jitter), 'Give an interval such as ''5 min'', or NULL.');
    END IF;
    RETURN extract(epoch FROM jitter);
END;
$$;
COMMENT ON FUNCTION roneo.jitter_seconds(interval) IS 'A span of jitter in seconds. Raises RO028 for a negative one.';

CREATE OR REPLACE FUNCTION roneo.jitter_salt()
RETURNS text LANGUAGE sql STABLE
RETURN (SELECT format('%s/%s', c.system_identifier, current_database()) FROM pg_control_system() AS c);
COMMENT ON FUNCTION roneo.jitter_salt() IS 'What tells this database from all others, on all hosts; a standby says the same.';

CREATE OR REPLACE FUNCTION roneo.jitter_shift(r roneo.replica, salt text, seconds float8)
RETURNS interval LANGUAGE sql IMMUTABLE
RETURN make_interval(secs => least(seconds, extract(epoch FROM r.refresh_every)::float8)
    * ('x' || left(md5(format('%s/%I.%I', salt, r.dest_schema, r.dest_name)), 8))::bit(32)::bigint / 4294967296);
COMMENT ON FUNCTION roneo.jitter_shift(roneo.replica, text, float8) IS
    'How much later than its grid a replica is due under jitter: always the same for the same names, less than so many seconds, and less than refresh_every.';

-- Each whole interval that it is late counts as one more, so none waits for ever behind those that
-- come first.
CREATE OR REPLACE FUNCTION roneo.due_replicas(source_names text[], methods text[], refresh_groups text[], jitter interval)
RETURNS TABLE (replica_id integer, dest text, source_name text, method text, due_at timestamptz,
               priority integer, begin_before timestamptz) LANGUAGE sql
BEGIN ATOMIC
    SELECT f.replica_id, format('%I.%I', coalesce(n.nspname, f.dest_schema), coalesce(c.relname, f.dest_name)),
           f.source_name, f.method, f.due_at, f.priority, f.begin_before
    FROM (
        -- The others of its group come with the first one.
        SELECT d.*, s.source_name, row_number() OVER (
                   PARTITION BY d.source_id, d.refresh_group, CASE WHEN d.refresh_group IS NULL THEN d.replica_id END
                   ORDER BY d.weight DESC, d.due_at, d.replica_id) AS place
        FROM (SELECT r.*, r.priority + floor(extract(epoch FROM clock_timestamp() - r.due_at) / extract(epoch FROM r.refresh_every)) AS weight,
                     CASE WHEN r.windows IS NOT NULL THEN roneo.shuts_at(r.windows, r.window_zone, clock_timestamp()) END AS begin_before
              -- OFFSET 0: worked out once for each, of many.
              FROM (SELECT k.replica_id, k.source_id, k.dest, k.dest_schema, k.dest_name, k.method, k.refresh_group, k.priority,
                           k.refresh_every, k.windows, k.window_zone, roneo.due_on(k, a.anchor) AS due_at
                    FROM roneo.replica AS k
                    CROSS JOIN (SELECT roneo.jitter_seconds(jitter) AS seconds,
                                       CASE WHEN jitter IS NOT NULL THEN roneo.jitter_salt() END AS salt OFFSET 0) AS j
                    CROSS JOIN LATERAL (
                        SELECT CASE WHEN j.seconds > 0 AND k.refresh_every IS NOT NULL
                                    THEN k.created_at + roneo.jitter_shift(k, j.salt, j.seconds) ELSE k.created_at END AS anchor OFFSET 0) AS a
                    WHERE (methods IS NULL OR k.method = ANY (methods))
                      AND (refresh_groups IS NULL OR k.refresh_group = ANY (refresh_groups))
                    OFFSET 0) AS r
              WHERE r.due_at <= clock_timestamp()) AS d
        JOIN roneo.source AS s USING (source_id)
        WHERE (source_names IS NULL OR s.source_name = ANY (source_names))
          AND (d.windows IS NULL OR d.begin_before IS NOT NULL)
    ) AS f
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid = f.dest
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE f.place = 1
    ORDER BY f.weight DESC, f.due_at, f.replica_id;
END;
COMMENT ON FUNCTION roneo.due_replicas(text[], text[], text[], interval) IS
    'What due() tells, with the number of each replica.';

-- Runs that found nothing to copy say nothing of how long a copy takes.
CREATE OR REPLACE FUNCTION roneo.usual_seconds(id integer)
RETURNS float8 LANGUAGE sql STABLE
RETURN (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY u.seconds::float8)
    FROM (SELECT v.outcome, v.seconds FROM roneo.run AS v
          WHERE v.replica_id = id AND v.kind <> 'verify' ORDER BY v.started_at DESC LIMIT 50) AS u
    WHERE u.outcome = 'ok'
);
COMMENT ON FUNCTION roneo.usual_seconds(integer) IS
    'How long a refresh of a replica takes: the median of those of its last fifty runs that copied something; NULL: not known.';

CREATE OR REPLACE FUNCTION roneo.due(
    source_names text[] DEFAULT NULL, methods text[] DEFAULT NULL, refresh_groups text[] DEFAULT NULL,
    jitter interval DEFAULT NULL)
RETURNS TABLE (dest text, source_name text, method text, due_at timestamptz, priority integer,
               expected_seconds float8, begin_before timestamptz) LANGUAGE sql
BEGIN ATOMIC
    SELECT d.dest, d.source_name, d.method, d.due_at, d.priority, roneo.usual_seconds(d.replica_id), d.begin_before
    FROM roneo.due_replicas(source_names, methods, refresh_groups, jitter) AS d;
END;
COMMENT ON FUNCTION roneo.due(text[], text[], text[], interval) IS
    'The replicas that are due now and in a window, in the order in which they are to be refreshed: by priority, each whole interval of delay counting as one more, then those that have waited longest. NULL: of all sources, methods, groups. Of a group the first one that was asked for. jitter: each is due so much later, always the same for one replica.';

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

CREATE OR REPLACE FUNCTION roneo.may_begin(one jsonb, is_first boolean, stop timestamptz)
RETURNS boolean LANGUAGE sql STABLE
RETURN coalesce((one ->> 'begin_before')::timestamptz > clock_timestamp(), true)
   AND coalesce(is_first OR clock_timestamp() + make_interval(secs => (one ->> 'expected_seconds')::float8) <= stop, true);
COMMENT ON FUNCTION roneo.may_begin(jsonb, boolean, timestamptz) IS
    'Whether what due() told of is still in its window, and usually ends before the time is up. The first one may always begin, or what takes longer than the whole would never be refreshed.';

CREATE OR REPLACE PROCEDURE roneo.refresh_due(
    source_names text[] DEFAULT NULL,
    methods text[] DEFAULT NULL,
    max_runtime interval DEFAULT NULL,
    refresh_groups text[] DEFAULT NULL,
    jitter interval DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    stop     timestamptz := clock_timestamp() OPERATOR(pg_catalog.+) max_runtime;
    is_first boolean := true;
    waiting  jsonb[];
    one      jsonb;
    dest     regclass;
BEGIN
    -- A job of pg_cron runs on the standby too.
    IF pg_catalog.pg_is_in_recovery() THEN
        RETURN;
    END IF;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    waiting := ARRAY(SELECT to_jsonb(d) FROM roneo.due(source_names, methods, refresh_groups, jitter) AS d);
    COMMIT;
    FOREACH one IN ARRAY waiting LOOP
        EXIT WHEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>) stop;
        CONTINUE WHEN NOT roneo.may_begin(one, is_first, stop);
        dest := roneo.dest_named(one OPERATOR(pg_catalog.->>) 'dest');
        CONTINUE WHEN dest IS NULL;
        is_first := false;
        CALL roneo.refresh_now(dest, until => stop);
    END LOOP;
END;
$$;
COMMENT ON PROCEDURE roneo.refresh_due(text[], text[], interval, text[], interval) IS
    'Refreshes all replicas that are due, over dblink, in the order of due(), one transaction each; one that fails is a warning and stops no other. Starts none after max_runtime, nor one that usually takes longer than what is left of it, unless it is the first. Does nothing on a standby. A procedure that commits can fix no search_path in its definition; it pins it in its first statement.';
