-- What the program makes metrics and reports of.

CREATE OR REPLACE FUNCTION roneo.replica_metrics()
RETURNS TABLE (dest text, source_name text, method text, state text, alert text, created_at float8,
               last_success_at float8, age float8, promised_age float8, lag float8, failures integer,
               refreshes bigint, rows bigint, bytes bigint, seconds numeric, runs jsonb, quarantined_at float8)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.dest, s.source_name, s.method, s.state, s.alert,
           extract(epoch FROM r.created_at), extract(epoch FROM s.last_success_at),
           extract(epoch FROM clock_timestamp() - s.last_success_at),
           extract(epoch FROM s.promised_age), extract(epoch FROM s.lag), s.failures, r.generation,
           u.rows_received, u.bytes, u.seconds,
           (SELECT jsonb_object_agg(g.outcome, g.runs)
            FROM (SELECT h.outcome, count(*) AS runs FROM roneo.run AS h
                  WHERE h.replica_id = s.replica_id AND h.started_at > clock_timestamp() - interval '1 day'
                  GROUP BY h.outcome) AS g),
           extract(epoch FROM s.quarantined_at)
    FROM roneo.status AS s
    JOIN roneo.replica AS r ON r.replica_id = s.replica_id
    LEFT JOIN LATERAL (
        SELECT v.* FROM roneo.run AS v
        WHERE v.replica_id = s.replica_id AND v.outcome = 'ok'
        ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1
    ) AS u ON true
    ORDER BY s.dest;
END;
COMMENT ON FUNCTION roneo.replica_metrics() IS
    'Numbers about each replica, times in seconds since 1970: rows, bytes and seconds of the last run that copied, and the outcomes of the runs of a day.';

-- A replica that nothing is new for is noted as fresh without a run. So only after a run that did not
-- succeed the one before that counts; else the delay is what it must have been at the least.
CREATE OR REPLACE FUNCTION roneo.run_buckets(since timestamptz, until timestamptz, buckets integer)
RETURNS TABLE (replica_id integer, bucket integer, runs bigint, copied bigint, failed bigint, deferred bigint,
               rows bigint, bytes bigint, seconds float8, waited float8)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH history AS (
        SELECT u.*, lag(u.outcome) OVER before AS former_outcome,
               max(u.started_at) FILTER (WHERE u.outcome IN ('ok', 'unchanged'))
                   OVER (before ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS former_success
        FROM roneo.run AS u
        WHERE u.started_at >= since AND u.started_at <= until
        WINDOW before AS (PARTITION BY u.replica_id ORDER BY u.started_at, u.run_id)
    )
    SELECT u.replica_id,
           least(floor(extract(epoch FROM u.started_at - since) * buckets / extract(epoch FROM until - since)), buckets - 1)::integer AS slot,
           count(*), count(*) FILTER (WHERE u.outcome = 'ok'),
           count(*) FILTER (WHERE u.outcome IN ('failed', 'abandoned')),
           count(*) FILTER (WHERE u.outcome = 'deferred'),
           sum(u.rows_received)::bigint, sum(u.bytes)::bigint,
           max(u.seconds) FILTER (WHERE u.outcome = 'ok'),
           max(extract(epoch FROM u.ended_at - d.due_at)) FILTER (WHERE u.outcome = 'ok')
    FROM history AS u
    JOIN roneo.replica AS r ON r.replica_id = u.replica_id
    CROSS JOIN LATERAL (
        SELECT least(roneo.opens_at(r, least(roneo.next_on_grid(r.created_at, r.refresh_every, u.started_at) - r.refresh_every,
                     CASE WHEN u.former_outcome NOT IN ('ok', 'unchanged')
                          THEN roneo.next_on_grid(r.created_at, r.refresh_every, u.former_success) END)), u.started_at)
    ) AS d (due_at)
    GROUP BY u.replica_id, slot
    ORDER BY u.replica_id, slot;
END;
COMMENT ON FUNCTION roneo.run_buckets(timestamptz, timestamptz, integer) IS
    'The history in so many equal stretches of time, for plots; waited: the longest time from when one was due to its end, at the least.';

CREATE OR REPLACE FUNCTION roneo.run_failures(since timestamptz, until timestamptz)
RETURNS TABLE (replica_id integer, dest text, times bigint, first_at timestamptz, last_at timestamptz,
               outcome text, sqlstate text, message text, detail text, hint text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT u.replica_id, (array_agg(u.dest ORDER BY u.run_id DESC))[1], count(*), min(u.started_at), max(u.started_at),
           u.outcome, u.sqlstate, u.message,
           (array_agg(u.detail ORDER BY u.run_id DESC))[1], (array_agg(u.hint ORDER BY u.run_id DESC))[1]
    FROM roneo.run AS u
    WHERE u.started_at >= since AND u.started_at <= until AND u.outcome IN ('failed', 'abandoned')
    GROUP BY u.replica_id, u.outcome, u.sqlstate, u.message
    ORDER BY max(u.started_at) DESC;
END;
COMMENT ON FUNCTION roneo.run_failures(timestamptz, timestamptz) IS
    'Failed and abandoned runs, those that say the same in one row, the latest first.';
