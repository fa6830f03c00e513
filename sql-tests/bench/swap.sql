-- The report of swap, from its tables read, finding, reader_log, refresh, lock_wait, lock_timeout.
\pset border 1
\pset footer off

SELECT CASE r.phase WHEN 'quiet' THEN '1. without swaps' WHEN 'swapping' THEN '2. during swaps'
                    WHEN 'beside_slow' THEN '3. during swaps, beside a slow reader'
                    ELSE '4. the slow reader (1 s is its own)' END AS "reads",
       count(*) AS "number",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds)::numeric / 1e3, 1) AS "median ms",
       round(percentile_cont(0.99) WITHIN GROUP (ORDER BY r.microseconds)::numeric / 1e3, 1) AS "99 % ms",
       round(max(r.microseconds) / 1e3, 1) AS "longest ms"
FROM read AS r
GROUP BY 1
ORDER BY 1;

SELECT f.*
FROM (SELECT count(*) FILTER (WHERE outcome = 'ok') AS swapped,
             count(*) FILTER (WHERE outcome = 'deferred') AS deferred,
             count(*) FILTER (WHERE outcome NOT IN ('ok', 'deferred')) AS otherwise
      FROM roneo.run WHERE hand = 'runner') AS n
CROSS JOIN (SELECT times FROM lock_timeout) AS t
CROSS JOIN (SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY microseconds)
                             FILTER (WHERE phase = 'swapping')::numeric / 1e3) AS refresh_ms,
                   round(percentile_cont(0.5) WITHIN GROUP (ORDER BY microseconds)
                             FILTER (WHERE phase = 'beside_slow')::numeric / 1e3) AS slow_ms,
                   count(*) FILTER (WHERE exit_status <> 0) AS exits_not_0
            FROM refresh) AS e
CROSS JOIN LATERAL (VALUES ('refreshes that swapped', n.swapped), ('swaps deferred', n.deferred),
    ('refreshes that ended otherwise', n.otherwise), ('exit statuses other than 0', e.exits_not_0),
    ('times the swap let go of its place in the queue', t.times), ('median ms of a refresh', e.refresh_ms), ('… beside a slow reader', e.slow_ms)
) AS f (refreshes, number);

WITH setting AS (
    SELECT value::numeric AS lock_timeout FROM roneo.settings WHERE setting_name = 'lock_timeout_ms'
), measured (place, demand, measured, at_most) AS (
    -- Behind a swap that waits for a reader: until it gives up; behind one that did not: until it commits.
    SELECT 1, 'longest read, ms (lock_timeout_ms and a retry)', max(microseconds) / 1e3, 2 * lock_timeout
    FROM read, setting WHERE phase IN ('swapping', 'beside_slow') GROUP BY lock_timeout
    UNION ALL
    SELECT 2, 'longest wait of a reader for a lock, ms', coalesce(max(milliseconds), 0), 2 * lock_timeout
    FROM setting LEFT JOIN lock_wait ON true GROUP BY lock_timeout
    UNION ALL
    SELECT 3, 'reads that failed', count(*), 0 FROM reader_log
    UNION ALL
    SELECT 4, 'reads of two loads at once, of too few rows, or of an older load', count(*), 0 FROM finding
)
SELECT demand AS "acceptance", round(measured, 1) AS measured, at_most AS "at most",
       CASE WHEN measured <= at_most THEN 'PASS' ELSE 'FAIL' END AS verdict
FROM measured
ORDER BY place;
