CREATE OR REPLACE VIEW roneo.status AS
SELECT d.dest,
       r.method,
       s.source_name,
       format('%I.%I', r.source_schema, r.source_table) AS source_table,
       x.state,
       CASE
           WHEN x.state IN ('abandoned', 'gone') OR r.failures >= 3
                OR x.late > 3 * r.refresh_every THEN 'CRITICAL'
           WHEN r.failures > 0 OR x.late > r.refresh_every THEN 'WARNING'
           ELSE 'OK'
       END AS alert,
       r.last_success_at,
       date_trunc('second', clock_timestamp() - r.last_success_at) AS age,
       r.refresh_every AS promised_age,
       date_trunc('second', greatest(x.late, interval '0')) AS lag,
       roneo.due_at(r) AS due_at,
       r.last_attempt_at,
       r.last_outcome,
       r.failures,
       u.rows_received AS last_rows,
       u.seconds AS last_seconds,
       coalesce(r.last_message, u.message) AS message
FROM roneo.replica AS r
JOIN roneo.source AS s USING (source_id)
LEFT JOIN pg_catalog.pg_class AS c ON c.oid = r.dest
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT v.* FROM roneo.run AS v
    WHERE v.replica_id = r.replica_id
    ORDER BY v.started_at DESC, v.run_id DESC
    LIMIT 1
) AS u ON true
LEFT JOIN roneo.snapshot_replica AS m ON m.replica_id = r.replica_id
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
               WHEN r.last_outcome = 'failed' THEN 'failed'
               WHEN m.pending_at IS NOT NULL THEN 'swap pending'
               WHEN r.last_outcome = 'deferred' THEN 'deferred'
               WHEN r.last_success_at IS NULL THEN 'new'
               ELSE 'ok'
           END AS state,
           CASE WHEN r.enabled THEN clock_timestamp() - roneo.next_on_grid(r.created_at, r.refresh_every,
               coalesce(r.last_success_at, r.created_at)) END AS late
) AS x;
COMMENT ON VIEW roneo.status IS
    'One line a replica: how fresh it is, how fresh it should be, and what hinders it. alert: OK; WARNING after a failure or when later than one interval; CRITICAL after three failures in a row, when later than three intervals, when its runner was killed, or when the destination is gone. A disabled one is never late.';
COMMENT ON COLUMN roneo.status.state IS
    'ok, new, running, deferred, swap pending, failed, abandoned (its runner was killed), disabled, gone (the destination was dropped).';
COMMENT ON COLUMN roneo.status.lag IS 'How long it has been due.';
