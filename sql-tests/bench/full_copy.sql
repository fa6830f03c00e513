-- The report of full_copy, from the tables result and idle.
\pset border 1
\pset footer off
\pset null '-'

SELECT r.label AS "full copy, with primary key",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds)::numeric / 1e6, 2) AS "median s",
       format('%s–%s', round(min(r.microseconds) / 1e6, 2), round(max(r.microseconds) / 1e6, 2)) AS "min–max",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / a.microseconds)::numeric, 2)
           AS "to the pipe",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / m.microseconds)::numeric, 2)
           AS "to mimeo",
       round(min(r.microseconds)::numeric / min(a.microseconds), 2) AS "best to best",
       round((percentile_cont(0.5) WITHIN GROUP (ORDER BY nullif(greatest(r.cpu, 0), 0)) / 100)::numeric, 2) AS "CPU s"
FROM result AS r
LEFT JOIN result AS a ON a.round = r.round AND a.contender = 'pipe_keyed'
LEFT JOIN result AS m ON m.round = r.round AND m.contender = 'mimeo_snap'
GROUP BY r.label
ORDER BY "median s";

WITH demand (place, against, title, at_most) AS (
    VALUES (1, 'pipe_keyed', 'the pipe into a table that has the key', 1.00),
           (2, 'mimeo_snap', 'mimeo refresh_snap', 0.40)
), measured AS (
    SELECT d.*, percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / o.microseconds)::numeric AS ratio
    FROM demand AS d
    JOIN result AS o ON o.contender = d.against
    JOIN result AS r ON r.contender = 'snapshot_runner' AND r.round = o.round
    GROUP BY d.place, d.against, d.title, d.at_most
)
SELECT format('snapshot by the runner / %s', title) AS "acceptance", round(ratio, 2) AS ratio, at_most AS "at most",
       CASE WHEN ratio <= at_most THEN 'PASS' ELSE 'FAIL' END AS verdict
FROM measured
ORDER BY place;

SELECT i.label AS "unchanged source, whole command",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY i.microseconds)::numeric / 1e3, 1) AS "median ms",
       format('%s–%s', round(min(i.microseconds) / 1e3, 1), round(max(i.microseconds) / 1e3, 1)) AS "min–max"
FROM idle AS i
GROUP BY i.label
ORDER BY "median ms";

-- Where the time of a full copy goes. What is not in a step: start, connections, probe, plan, commit.
SELECT concat_ws(' ', r.method, 'by', r.hand) AS "step", s.step ->> 'purpose' AS purpose,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY (s.step ->> 'seconds')::numeric)::numeric, 3) AS "median s"
FROM roneo.run AS r
CROSS JOIN LATERAL jsonb_array_elements(r.steps) AS s (step)
WHERE r.outcome = 'ok'
GROUP BY 1, 2
HAVING percentile_cont(0.5) WITHIN GROUP (ORDER BY (s.step ->> 'seconds')::numeric) >= 0.01
ORDER BY 1, min((s.step ->> 'number')::integer);
