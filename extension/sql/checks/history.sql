-- What the program makes metrics and reports of.

-- Of a row that stands for many refreshes only the first and the last are known; the others are
-- taken to have come at equal distances.
CREATE OR REPLACE FUNCTION roneo.runs_before(u roneo.run, moment timestamptz)
RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN moment <= u.started_at THEN 0
    WHEN u.repeats = 1 OR moment > u.ended_at THEN u.repeats
    ELSE ceil(extract(epoch FROM moment - u.started_at) * (u.repeats - 1)
              / nullif(extract(epoch FROM u.ended_at - u.started_at), 0))
END;
COMMENT ON FUNCTION roneo.runs_before(roneo.run, timestamptz) IS
    'How many of the refreshes that a row of the history stands for had come before a moment, about.';

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
            FROM (SELECT h.outcome, sum(h.repeats - roneo.runs_before(h, clock_timestamp() - interval '1 day')) AS runs
                  FROM roneo.run AS h
                  -- No row stands for more than a day.
                  WHERE h.replica_id = s.replica_id AND h.kind <> 'verify' AND h.started_at > clock_timestamp() - interval '3 days'
                    AND (h.started_at > clock_timestamp() - interval '1 day' OR h.repeats > 1 AND h.ended_at > clock_timestamp() - interval '1 day')
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

CREATE OR REPLACE FUNCTION roneo.runs_by_bucket(
    u roneo.run, since timestamptz, until timestamptz, buckets integer, OUT slot integer, OUT runs bigint)
RETURNS SETOF record LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH reach AS (
        SELECT min(p.slot) AS first_slot, max(p.slot) AS last_slot
        FROM (SELECT least(floor(extract(epoch FROM m.moment - since) * buckets / extract(epoch FROM until - since)), buckets - 1)::integer
              FROM (VALUES (greatest(u.started_at, since)),
                           (least(CASE WHEN u.repeats > 1 THEN u.ended_at ELSE u.started_at END, until))) AS m (moment)) AS p (slot)
    ), part AS (
        SELECT k AS slot,
               -- What is rounded away at a border is counted on its other side.
               CASE WHEN k = r.last_slot THEN roneo.runs_before(u, until + interval '1 microsecond')
                    ELSE roneo.runs_before(u, since + (until - since) * ((k + 1)::float8 / buckets)) END
               - CASE WHEN k = r.first_slot THEN roneo.runs_before(u, since)
                      ELSE roneo.runs_before(u, since + (until - since) * (k::float8 / buckets)) END AS runs
        FROM reach AS r
        CROSS JOIN LATERAL generate_series(r.first_slot, r.last_slot) AS k
    )
    SELECT p.slot, p.runs FROM part AS p WHERE p.runs > 0;
END;
COMMENT ON FUNCTION roneo.runs_by_bucket(roneo.run, timestamptz, timestamptz, integer) IS
    'How many of the refreshes that a row of the history stands for fall into each of so many equal stretches of time.';

-- A replica that nothing is new for is noted as fresh without a run. So only after a run that did not
-- succeed the one before that counts; else the delay is what it must have been at the least.
CREATE OR REPLACE FUNCTION roneo.run_buckets(since timestamptz, until timestamptz, buckets integer)
RETURNS TABLE (replica_id integer, bucket integer, runs bigint, copied bigint, failed bigint, deferred bigint,
               rows bigint, bytes bigint, seconds float8, waited float8)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH history AS (
        SELECT u AS run, u.*, lag(u.outcome) OVER before AS former_outcome,
               max(CASE WHEN u.repeats > 1 THEN u.ended_at - make_interval(secs => u.seconds::float8) ELSE u.started_at END)
                   FILTER (WHERE u.outcome IN ('ok', 'unchanged'))
                   OVER (before ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS former_success
        FROM roneo.run AS u
        WHERE u.kind <> 'verify' AND u.started_at <= until AND (u.started_at >= since OR u.repeats > 1 AND u.ended_at >= since)
        WINDOW before AS (PARTITION BY u.replica_id ORDER BY u.started_at, u.run_id)
    )
    SELECT u.replica_id, n.slot,
           sum(n.runs)::bigint, count(*) FILTER (WHERE u.outcome = 'ok'),
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
    CROSS JOIN LATERAL roneo.runs_by_bucket(u.run, since, until, buckets) AS n
    GROUP BY u.replica_id, n.slot
    ORDER BY u.replica_id, n.slot;
END;
COMMENT ON FUNCTION roneo.run_buckets(timestamptz, timestamptz, integer) IS
    'The history in so many equal stretches of time, for plots; waited: the longest time from when one was due to its end, at the least.';

CREATE OR REPLACE FUNCTION roneo.run_failures(since timestamptz, until timestamptz)
RETURNS TABLE (replica_id integer, dest text, times bigint, first_at timestamptz, last_at timestamptz,
               outcome text, sqlstate text, message text, detail text, hint text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT u.replica_id, (array_agg(u.dest ORDER BY u.run_id DESC))[1], count(*), min(u.started_at), max(u.started_at),
           u.outcome, u.sqlstate, CASE u.kind WHEN 'verify' THEN concat('verification: ', u.message) ELSE u.message END,
           (array_agg(u.detail ORDER BY u.run_id DESC))[1], (array_agg(u.hint ORDER BY u.run_id DESC))[1]
    FROM roneo.run AS u
    WHERE u.started_at >= since AND u.started_at <= until AND u.outcome IN ('failed', 'abandoned')
    GROUP BY u.replica_id, u.kind, u.outcome, u.sqlstate, u.message
    ORDER BY max(u.started_at) DESC;
END;
COMMENT ON FUNCTION roneo.run_failures(timestamptz, timestamptz) IS
    'Failed and abandoned runs, those that say the same in one row, the latest first.';
