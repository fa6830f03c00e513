-- Whether all is well, in rows for people and for what alarms them. Everything is computed from
-- the last success and the clock: where no runner ever ran, that is what is found.

CREATE OR REPLACE FUNCTION roneo.span_text(span interval)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN extract(epoch FROM span) < 120 THEN format('%s s', floor(extract(epoch FROM span)))
    WHEN extract(epoch FROM span) < 7200 THEN format('%s min', floor(extract(epoch FROM span) / 60))
    WHEN extract(epoch FROM span) < 172800 THEN format('%s h', floor(extract(epoch FROM span) / 3600))
    WHEN span IS NOT NULL THEN format('%s d', floor(extract(epoch FROM span) / 86400))
END;
COMMENT ON FUNCTION roneo.span_text(interval) IS 'A length of time in its largest unit, such as 25 min.';

CREATE OR REPLACE FUNCTION roneo.level_rank(level text)
RETURNS integer LANGUAGE sql IMMUTABLE
RETURN CASE level WHEN 'CRITICAL' THEN 0 WHEN 'WARNING' THEN 1 WHEN 'UNKNOWN' THEN 2 ELSE 3 END;
COMMENT ON FUNCTION roneo.level_rank(text) IS 'Orders alert levels, the worst first, as plugins of Nagios do.';

CREATE OR REPLACE FUNCTION roneo.judge_freshness(s roneo.status, late_warning numeric, late_critical numeric)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'freshness', s.dest, j.level,
           concat_ws('; ',
               CASE WHEN s.age IS NULL THEN 'never refreshed' ELSE format('%s old', roneo.span_text(s.age)) END,
               CASE WHEN s.state = 'disabled' THEN 'disabled, so nothing is promised'
                    WHEN s.promised_age IS NULL THEN 'no age is promised'
                    ELSE format('promised every %s', roneo.span_text(s.promised_age)) END,
               format(CASE WHEN s.lag > interval '0' THEN 'due since %s' END, roneo.span_text(s.lag)),
               format(CASE WHEN j.level <> 'OK' AND s.last_outcome IN ('failed', 'deferred') THEN 'last attempt %s: %s' END,
                      s.last_outcome, s.message)),
           CASE WHEN j.level = 'OK' THEN NULL
                WHEN s.state = 'running' THEN 'It is being refreshed now. If that always takes so long, promise less: roneo.set_schedule(dest, refresh_every => …)'
                WHEN s.state = 'quarantined' THEN format('It is in quarantine. Read the error and mend it: roneo history %L', s.dest)
                WHEN s.last_attempt_at > clock_timestamp() - s.lag AND s.last_outcome = 'failed'
                    THEN format('Read the error and mend it: roneo history %L', s.dest)
                WHEN s.last_attempt_at > clock_timestamp() - s.lag AND s.last_outcome = 'deferred'
                    THEN 'Others hold what it needs, here or on the source: end the transaction that the message tells of.'
                ELSE 'No refresh was tried since it is due. Look at the line of cron (roneo run), its mail, --jobs and --max-runtime.' END
    FROM (SELECT CASE
              WHEN s.state = 'disabled' OR s.promised_age IS NULL THEN 'OK'
              WHEN f.factor > late_critical THEN 'CRITICAL'
              WHEN f.factor > late_warning THEN 'WARNING'
              ELSE 'OK' END AS level
          FROM (SELECT extract(epoch FROM s.lag) / extract(epoch FROM s.promised_age)) AS f (factor)) AS j
    WHERE s.state <> 'gone';
END;
COMMENT ON FUNCTION roneo.judge_freshness(roneo.status, numeric, numeric) IS
    'The finding about a replica''s age: how many times refresh_every it may be late.';

CREATE OR REPLACE FUNCTION roneo.judge_failures(s roneo.status, levels jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT CASE WHEN s.quarantined_at IS NULL THEN 'failures' ELSE 'quarantine' END, s.dest,
           CASE WHEN s.quarantined_at IS NOT NULL OR s.failures >= (levels ->> 'failures_critical')::integer THEN 'CRITICAL' ELSE 'WARNING' END,
           concat_ws(': ', format(CASE WHEN s.quarantined_at IS NOT NULL THEN 'in quarantine for %s, and not refreshed any more' END,
                            roneo.span_text(clock_timestamp() - s.quarantined_at)),
                     format('%s in a row, the last one %s ago',
                                  CASE s.failures WHEN 1 THEN '1 failure' ELSE format('%s failures', s.failures) END,
                                  roneo.span_text(clock_timestamp() - s.last_attempt_at)),
                     concat_ws(' ', u.sqlstate, coalesce(u.message, s.message))),
           concat_ws(' ', coalesce(u.hint, format('Read the whole error: roneo history %L.', s.dest)),
                     CASE WHEN s.quarantined_at IS NOT NULL THEN format('When it is mended: roneo release %L', s.dest) END)
    FROM (VALUES (1)) AS one
    LEFT JOIN LATERAL (
        SELECT v.* FROM roneo.run AS v
        WHERE v.replica_id = s.replica_id AND v.outcome = 'failed' AND v.kind <> 'verify'
        ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1
    ) AS u ON true
    WHERE s.quarantined_at IS NOT NULL OR s.failures >= least((levels ->> 'failures_warning')::integer, (levels ->> 'failures_critical')::integer);
END;
COMMENT ON FUNCTION roneo.judge_failures(roneo.status, jsonb) IS
    'The finding about a replica that failed several times in a row, or is in quarantine after that.';

-- A verification that was never made is not due, but new: it has no moment to be late from.
CREATE OR REPLACE FUNCTION roneo.judge_verification(s roneo.status)
RETURNS TABLE (check_name text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'content', 'CRITICAL',
           format('differs from its source, found %s ago: %s missing, %s too many, %s changed',
                  roneo.span_text(clock_timestamp() - v.differed_at), coalesce(v.missing, 0), coalesce(v.extra, 0), coalesce(v.changed, 0)),
           format('Look who wrote here. Which rows: roneo repair %L, and with --apply they are brought in line', s.dest)
    FROM roneo.verification AS v
    -- One that failed since, or did not come to an end, has found nothing better.
    WHERE v.replica_id = s.replica_id AND v.differed_at IS NOT NULL
    UNION ALL
    SELECT 'verification', 'WARNING',
           concat_ws('; ',
               format(CASE WHEN j.is_late THEN 'verified %s ago, promised every %s' END,
                      roneo.span_text(clock_timestamp() - coalesce(v.verified_at, v.checked_at)), roneo.span_text(v.verify_every)),
               CASE WHEN v.failed_run_id IS NOT NULL
                    THEN format('the last verification failed %s ago: %s', roneo.span_text(clock_timestamp() - coalesce(u.ended_at, v.checked_at)),
                                concat_ws(' ', u.sqlstate, coalesce(u.message, v.why)))
                    WHEN v.verdict = 'undecided' THEN format('the last look: %s', v.why) END),
           CASE WHEN v.failed_run_id IS NOT NULL
                THEN concat_ws(' ', coalesce(u.hint, format('Read the whole error and mend it: roneo history %L.', s.dest)),
                               format('Then: roneo verify %L', s.dest))
                ELSE 'Is roneo verify --due in the line of cron, and has it the time (--max-runtime)?' END
    FROM roneo.verification AS v
    LEFT JOIN roneo.run AS u ON u.run_id = v.failed_run_id
    CROSS JOIN LATERAL (
        SELECT v.differed_at IS NULL AND clock_timestamp() - coalesce(v.verified_at, v.checked_at) > 2 * v.verify_every AS is_late) AS j
    WHERE v.replica_id = s.replica_id AND (j.is_late OR v.failed_run_id IS NOT NULL) AND s.state <> 'disabled';
END;
COMMENT ON FUNCTION roneo.judge_verification(roneo.status) IS
    'Findings about a replica that is known to differ from its source, that was to be verified long ago, or whose verification failed.';

CREATE OR REPLACE FUNCTION roneo.judge_state(s roneo.status, levels jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'destination', s.dest, 'CRITICAL', 'the destination was dropped',
           format('Forget the replica, and create it anew: SELECT roneo.drop_replica(%s);',
                  (SELECT r.dest::oid FROM roneo.replica AS r WHERE r.replica_id = s.replica_id))
    WHERE s.state = 'gone'
    UNION ALL
    SELECT 'abandoned', s.dest, 'CRITICAL',
           format('its runner was killed or lost the destination%s', (
               SELECT format(': run %s, %s', u.run_id, u.runner) FROM roneo.run AS u
               WHERE u.replica_id = s.replica_id AND u.outcome = 'running' ORDER BY u.run_id DESC LIMIT 1)),
           format('Nothing of it was committed. Find out who killed it, then: roneo refresh %L', s.dest)
    WHERE s.state = 'abandoned'
    UNION ALL
    SELECT 'held', s.dest, 'WARNING',
           format('rows wait for transaction %s on the source since %s', s.held_by,
                  roneo.span_text(clock_timestamp() - s.held_since)),
           'End that transaction on the source: pg_stat_activity or pg_prepared_xacts has it. Or give the replica a key.'
    WHERE clock_timestamp() - s.held_since > make_interval(secs => (levels ->> 'held_warning_s')::float8)
      AND s.held_by IS NOT NULL
    UNION ALL
    SELECT v.check_name, s.dest, v.level, v.message, v.advice FROM roneo.judge_verification(s) AS v
    UNION ALL
    SELECT 'warning', s.dest, 'WARNING', u.warning,
           CASE WHEN c.far_value IS NOT NULL THEN 'Correct the value on the source, or set sweep_every of roneo.control_replica.'
                ELSE 'The next refresh without it takes this away.' END
    FROM (SELECT v.warning FROM roneo.run AS v
          WHERE v.replica_id = s.replica_id AND v.outcome IN ('ok', 'unchanged', 'deferred') AND v.kind <> 'verify'
          ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1) AS u
    LEFT JOIN roneo.control_replica AS c ON c.replica_id = s.replica_id
    WHERE u.warning IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.judge_state(roneo.status, jsonb) IS
    'Findings about a replica that only a person can mend: dropped, abandoned, held back, warned of.';

CREATE OR REPLACE FUNCTION roneo.judge_size(s roneo.status, levels jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'size', s.dest, 'WARNING',
           format('a copy of the whole table moves %s MB in %s; up to %s MB and %s are set as bearable',
                  round(u.bytes / 1e6), roneo.span_text(make_interval(secs => u.seconds::float8)),
                  coalesce(nullif(levels ->> 'copy_mb_warning', '0'), 'any number of'),
                  coalesce(roneo.span_text(make_interval(secs => nullif(levels ->> 'copy_s_warning', '0')::float8)), 'any time')),
           'Copy only what is new (roneo.create_updater, roneo.create_inserter), fewer columns or rows, or less often; or raise copy_mb_warning, copy_s_warning in roneo.setting.'
    FROM (SELECT v.* FROM roneo.run AS v
          WHERE v.replica_id = s.replica_id AND v.outcome = 'ok' AND v.rows_received IS NOT NULL
          ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1) AS u
    WHERE s.method IN ('snapshot', 'plain')
      AND (u.bytes / 1e6 > nullif((levels ->> 'copy_mb_warning')::integer, 0)
           OR u.seconds > nullif((levels ->> 'copy_s_warning')::integer, 0));
END;
COMMENT ON FUNCTION roneo.judge_size(roneo.status, jsonb) IS
    'The finding about a table that has grown too big to be copied whole.';

-- Of each stretch of the grid only the first run: what people refresh between is not a delay.
CREATE OR REPLACE FUNCTION roneo.scheduled_runs(id integer, since timestamptz)
RETURNS TABLE (due_at timestamptz, started_at timestamptz, ended_at timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT DISTINCT ON (g.due_at) g.due_at, u.started_at, u.ended_at
    FROM roneo.replica AS r
    CROSS JOIN LATERAL (
        -- Enough to tell what is the rule.
        SELECT v.started_at, v.ended_at FROM roneo.run AS v
        WHERE v.replica_id = r.replica_id AND v.outcome = 'ok'
          AND v.started_at >= greatest(since, r.created_at + r.refresh_every)
        ORDER BY v.started_at DESC LIMIT 100
    ) AS u
    CROSS JOIN LATERAL (
        SELECT roneo.opens_at(r, roneo.next_on_grid(r.created_at, r.refresh_every, u.started_at) - r.refresh_every)
    ) AS g (due_at)
    WHERE r.replica_id = id AND r.refresh_every IS NOT NULL
      -- Before its window opened nobody but a person began it.
      AND g.due_at <= u.started_at
    ORDER BY g.due_at, u.started_at;
END;
COMMENT ON FUNCTION roneo.scheduled_runs(integer, timestamptz) IS
    'The latest hundred runs that copied something, the first after each point of the grid, with that point: how late they began at the least.';

CREATE OR REPLACE FUNCTION roneo.judge_promise(s roneo.status, levels jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'promise', s.dest, 'WARNING',
           format('promised every %s, but as a rule %s old before it is fresh again: it starts %s late and takes %s',
                  roneo.span_text(s.promised_age), roneo.span_text(s.promised_age + make_interval(secs => d.waits + d.takes)),
                  roneo.span_text(make_interval(secs => d.waits)), roneo.span_text(make_interval(secs => d.takes))),
           CASE WHEN d.waits > d.takes THEN 'Run the runner more often or with more --jobs, or promise less.'
                ELSE 'Copy less, or by another method, or promise less: roneo.set_schedule(dest, refresh_every => …)' END
    FROM (SELECT count(*) AS runs,
                 percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM u.started_at - u.due_at)::float8) AS waits,
                 percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM u.ended_at - u.started_at)::float8) AS takes
          FROM roneo.scheduled_runs(s.replica_id, now() - interval '1 day') AS u) AS d
    -- One slow run is no rule.
    WHERE d.runs >= 3 AND s.state <> 'disabled'
      AND d.waits + d.takes > extract(epoch FROM s.promised_age) * nullif((levels ->> 'drift_warning_pct')::integer, 0) / 100.0;
END;
COMMENT ON FUNCTION roneo.judge_promise(roneo.status, jsonb) IS
    'The finding about a replica whose real age, in the runs of the last day, is not the promised one.';

CREATE OR REPLACE FUNCTION roneo.judge_runner(late roneo.status[], worst text)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'runner', quote_ident(current_database()), judge_runner.worst,
           format('%s, although %s due for %s',
                  CASE WHEN seen.at IS NULL THEN 'no refresh was ever tried'
                       ELSE format('nothing was tried for %s', roneo.span_text(clock_timestamp() - seen.at)) END,
                  CASE cardinality(late) WHEN 1 THEN '1 replica has been' ELSE format('%s replicas have been', cardinality(late)) END,
                  roneo.span_text(due.lag)),
           'Is the line roneo run in cron, does cron run, and what did it mail? CALL roneo.refresh_due() does the same over SQL.'
    FROM (SELECT max(r.last_attempt_at) FROM roneo.replica AS r) AS seen (at),
         (SELECT max(l.lag) FROM unnest(late) AS l) AS due (lag)
    WHERE due.lag IS NOT NULL
      AND coalesce(seen.at < clock_timestamp() - due.lag, true);
END;
COMMENT ON FUNCTION roneo.judge_runner(roneo.status[], text) IS
    'The finding that nobody refreshes at all: no replica was tried since the first of the late ones was due.';

CREATE OR REPLACE FUNCTION roneo.judge_source(s roneo.source, levels jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'paused', quote_ident(s.source_name), 'WARNING',
           format('nothing is refreshed from it for %s: %s', roneo.span_text(clock_timestamp() - s.paused_since), s.paused_by),
           'Look at that source: its standbys, pg_stat_activity, pg_replication_slots, pg_prepared_xacts. Or change the limit: roneo.set_source_limits.'
    WHERE s.paused_since < clock_timestamp() - make_interval(secs => (levels ->> 'paused_warning_s')::float8)
    UNION ALL
    SELECT 'limits', quote_ident(s.source_name), 'WARNING', format('limits are not kept: %s', s.unread_limits),
           format('roneo preflight %L prints the GRANT.', s.source_name)
    WHERE s.unread_limits IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.judge_source(roneo.source, jsonb) IS
    'Findings about a source: paused for long, or limits that cannot be kept.';

CREATE OR REPLACE FUNCTION roneo.find_problems(ids integer[], late_warning numeric, late_critical numeric, levels jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH watched AS MATERIALIZED (
        SELECT s AS line, f.level AS freshness, f.message, f.advice
        FROM roneo.status AS s
        LEFT JOIN LATERAL roneo.judge_freshness(s, late_warning, late_critical) AS f ON true
        WHERE s.replica_id = ANY (ids)
    )
    SELECT * FROM (
        SELECT r.* FROM (
            SELECT array_agg(w.line) AS lines, min(roneo.level_rank(w.freshness)) AS worst
            FROM watched AS w WHERE w.freshness <> 'OK' AND (w.line).quarantined_at IS NULL) AS late
        CROSS JOIN LATERAL roneo.judge_runner(late.lines, CASE late.worst WHEN 0 THEN 'CRITICAL' ELSE 'WARNING' END) AS r
        UNION ALL
        SELECT 'freshness', (w.line).dest, w.freshness, w.message, w.advice FROM watched AS w WHERE w.freshness IS NOT NULL
        UNION ALL
        SELECT j.* FROM watched AS w CROSS JOIN LATERAL roneo.judge_failures(w.line, levels) AS j
        UNION ALL
        SELECT j.* FROM watched AS w CROSS JOIN LATERAL roneo.judge_state(w.line, levels) AS j
        UNION ALL
        SELECT j.* FROM watched AS w CROSS JOIN LATERAL roneo.judge_size(w.line, levels) AS j
        UNION ALL
        SELECT j.* FROM watched AS w CROSS JOIN LATERAL roneo.judge_promise(w.line, levels) AS j
        UNION ALL
        SELECT j.* FROM roneo.source AS o CROSS JOIN LATERAL roneo.judge_source(o, levels) AS j
        WHERE o.source_name IN (SELECT (w.line).source_name FROM watched AS w)
    ) AS a (check_name, object, level, message, advice)
    ORDER BY roneo.level_rank(a.level), a.check_name = 'runner' DESC, a.check_name, a.object;
END;
COMMENT ON FUNCTION roneo.find_problems(integer[], numeric, numeric, jsonb) IS
    'All findings about some replicas, the worst first.';

CREATE OR REPLACE FUNCTION roneo.watched_replicas(source_names text[], dests regclass[])
RETURNS integer[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stranger regclass;
BEGIN
    PERFORM roneo.require_source(n) FROM unnest(source_names) AS n;
    SELECT d INTO stranger FROM unnest(dests) AS d
    WHERE NOT EXISTS (SELECT FROM roneo.replica AS r WHERE r.dest = d) LIMIT 1;
    IF stranger IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO001',
            MESSAGE = format('table %s is not a replica', stranger),
            HINT    = 'SELECT dest FROM roneo.replica lists those that are.';
    END IF;
    RETURN (SELECT coalesce(array_agg(r.replica_id), '{}')
            FROM roneo.replica AS r
            JOIN roneo.source AS s USING (source_id)
            WHERE (source_names IS NULL OR s.source_name = ANY (source_names))
              AND (dests IS NULL OR r.dest = ANY (dests)));
END;
$$;
COMMENT ON FUNCTION roneo.watched_replicas(text[], regclass[]) IS
    'The replicas of some sources and destinations; NULL: all. Raises RO001 and RO003.';

CREATE OR REPLACE FUNCTION roneo.check(
    source_names text[] DEFAULT NULL, dests regclass[] DEFAULT NULL,
    late_warning numeric DEFAULT NULL, late_critical numeric DEFAULT NULL)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ids    integer[] := roneo.watched_replicas(source_names, dests);
    levels jsonb     := (SELECT jsonb_object_agg(e.setting_name, e.value) FROM roneo.settings AS e);
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN QUERY SELECT 'standby', quote_ident(current_database()), 'OK',
            'a standby: nothing is refreshed here', 'Check the primary.';
    ELSIF ids = '{}' THEN
        RETURN QUERY SELECT 'replicas', quote_ident(current_database()), 'UNKNOWN',
            'there is no replica to check', 'roneo.create_snapshot and its like make replicas.';
    ELSE
        RETURN QUERY SELECT * FROM roneo.find_problems(ids,
            coalesce(late_warning, (levels ->> 'late_warning_pct')::numeric / 100),
            coalesce(late_critical, (levels ->> 'late_critical_pct')::numeric / 100), levels);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.check(text[], regclass[], numeric, numeric) IS
    'Whether all is well: one row a finding, the worst first. Each replica has a row about its freshness, OK or not; all other rows say what is wrong, and what to do. late_warning, late_critical: how many times refresh_every a replica may be late, in place of the settings.';
