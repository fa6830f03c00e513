CREATE OR REPLACE FUNCTION roneo.protection(c roneo.control_replica, standby boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN c.replica_id IS NULL THEN NULL
    WHEN c.far_value IS NOT NULL THEN format('%s is far above all other values of %I, and rows below it are found by a sweep only: correct it on the source, or set sweep_every',
                                             c.far_value, c.control)
    WHEN NOT roneo.follows_xmin(c) THEN format('late rows are found only within the boundary of %s%s', c.boundary,
        format(CASE WHEN c.key_columns IS NOT NULL AND c.look_back IS NOT NULL THEN ' and the look_back of %s' END, c.look_back))
    WHEN standby THEN format('late rows are known by their transaction; of a standby those older than %s can be missed', c.look_back)
    ELSE 'late rows are known by their transaction'
END;
COMMENT ON FUNCTION roneo.protection(roneo.control_replica, boolean) IS
    'What keeps an inserter or updater from missing rows that are committed late.';

CREATE OR REPLACE VIEW roneo.status AS
SELECT d.dest,
       r.method,
       s.source_name,
       format('%I.%I', r.source_schema, r.source_table) AS source_table,
       x.state,
       CASE
           WHEN x.state IN ('abandoned', 'gone') OR r.quarantined_at IS NOT NULL OR r.failures >= t.failures_critical
                OR w.late > r.refresh_every * (t.late_critical_pct / 100.0) THEN 'CRITICAL'
           WHEN r.failures >= t.failures_warning
                OR w.late > r.refresh_every * (t.late_warning_pct / 100.0) THEN 'WARNING'
           ELSE 'OK'
       END AS alert,
       r.last_success_at,
       date_trunc('second', clock_timestamp() - r.last_success_at) AS age,
       r.refresh_every AS promised_age,
       date_trunc('second', greatest(w.late, interval '0')) AS lag,
       w.due_at,
       r.last_attempt_at,
       r.last_outcome,
       r.failures,
       u.rows_received AS last_rows,
       u.seconds AS last_seconds,
       coalesce(r.last_message, u.message) AS message,
       o.last_value AS position,
       roneo.protection(o, r.identity ->> 'in_recovery' = 'true') AS protection,
       o.held_by,
       o.held_since,
       r.replica_id,
       r.priority,
       r.window_text AS windows,
       r.window_zone,
       r.quarantined_at,
       v.verdict,
       v.verified_at,
       coalesce(v.missing, 0) + coalesce(v.extra, 0) + coalesce(v.changed, 0) AS differences
FROM roneo.replica AS r
JOIN roneo.source AS s USING (source_id)
CROSS JOIN (
    SELECT max(e.value::integer) FILTER (WHERE e.setting_name = 'failures_warning')  AS failures_warning,
           max(e.value::integer) FILTER (WHERE e.setting_name = 'failures_critical') AS failures_critical,
           max(e.value::integer) FILTER (WHERE e.setting_name = 'late_warning_pct')  AS late_warning_pct,
           max(e.value::integer) FILTER (WHERE e.setting_name = 'late_critical_pct') AS late_critical_pct
    FROM roneo.settings AS e
) AS t
LEFT JOIN pg_catalog.pg_class AS c ON c.oid = r.dest
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT v.* FROM roneo.run AS v
    -- A verification that failed is no refresh that did.
    WHERE v.replica_id = r.replica_id AND v.kind <> 'verify'
    ORDER BY v.started_at DESC, v.run_id DESC
    LIMIT 1
) AS u ON true
LEFT JOIN roneo.snapshot_replica AS m ON m.replica_id = r.replica_id
LEFT JOIN roneo.control_replica AS o ON o.replica_id = r.replica_id
LEFT JOIN roneo.verification AS v ON v.replica_id = r.replica_id
CROSS JOIN LATERAL (
    SELECT format('%I.%I', coalesce(n.nspname, r.dest_schema), coalesce(c.relname, r.dest_name)) AS dest
) AS d
CROSS JOIN LATERAL (
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_locks AS l
        JOIN pg_catalog.pg_database AS b ON b.oid = l.database AND b.datname = current_database()
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
          AND l.classid::bigint = roneo.lock_class() AND l.objid::bigint = r.replica_id) AS locked
) AS k
CROSS JOIN LATERAL (
    SELECT CASE
               WHEN c.oid IS NULL THEN 'gone'
               WHEN k.locked THEN 'running'
               -- Between its start record and its lock a runner takes a moment.
               WHEN u.outcome = 'running' AND u.started_at < clock_timestamp() - interval '5 seconds'
                   THEN 'abandoned'
               WHEN u.outcome = 'running' THEN 'running'
               WHEN NOT r.enabled THEN 'disabled'
               WHEN r.quarantined_at IS NOT NULL THEN 'quarantined'
               WHEN r.last_outcome = 'failed' THEN 'failed'
               WHEN m.pending_at IS NOT NULL THEN 'swap pending'
               WHEN r.last_outcome = 'deferred' THEN 'deferred'
               WHEN r.last_success_at IS NULL THEN 'new'
               ELSE 'ok'
           END AS state
) AS x
-- OFFSET 0: worked out once for each. What missed its window is due when the next one opens.
CROSS JOIN LATERAL (
    SELECT CASE WHEN r.enabled THEN roneo.late_by(r) END AS late,
           CASE WHEN r.windows IS NULL OR d.due_at IS NULL THEN d.due_at
                ELSE greatest(d.due_at, nullif(roneo.next_opening(r.windows, r.window_zone, statement_timestamp()), statement_timestamp()))
           END AS due_at
    FROM (SELECT roneo.due_at(r) AS due_at OFFSET 0) AS d
    OFFSET 0
) AS w;
COMMENT ON VIEW roneo.status IS
    'One line a replica: how fresh it is, how fresh it should be, and what hinders it. alert, as the settings say: OK; WARNING after a failure or when later than one interval; CRITICAL after three failures in a row, when later than three intervals; in quarantine; and when its runner was killed, or the destination is gone. A disabled one is never late.';
COMMENT ON COLUMN roneo.status.state IS
    'ok, new, running, deferred, swap pending, failed, abandoned (its runner was killed), disabled, quarantined (it failed too often), gone (the destination was dropped).';
COMMENT ON COLUMN roneo.status.position IS 'The highest control value that was read.';
COMMENT ON COLUMN roneo.status.protection IS 'What keeps an inserter or updater from missing rows that are committed late.';
COMMENT ON COLUMN roneo.status.held_by IS 'The transaction on the source that rows of a replica without a key wait for, since held_since.';
COMMENT ON COLUMN roneo.status.lag IS
    'How long it has been due, from when a refresh could have begun; the latest time in which its windows were shut is left out.';
COMMENT ON COLUMN roneo.status.windows IS 'When a refresh may begin, on the clocks of window_zone; NULL: always.';
COMMENT ON COLUMN roneo.status.quarantined_at IS 'Since when it is not refreshed any more, after too many failures; roneo.release ends that.';
COMMENT ON COLUMN roneo.status.verdict IS 'What the last comparison with the source found; NULL: there was none.';
COMMENT ON COLUMN roneo.status.verified_at IS 'When the whole of it was last known to be equal to its source.';
