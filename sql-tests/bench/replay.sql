-- The report of replay, from the table result.
\pset border 1
\pset footer off
\pset null '-'

SELECT r.contender AS "changes brought by",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds)::numeric / 1e6, 2) AS "median s",
       format('%s–%s', round(min(r.microseconds) / 1e6, 2), round(max(r.microseconds) / 1e6, 2)) AS "min–max",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / n.microseconds)::numeric, 2) AS "to native",
       format('%s–%s', round(min(r.microseconds::numeric / n.microseconds), 2), round(max(r.microseconds::numeric / n.microseconds), 2)) AS "min–max to native",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / m.microseconds)::numeric, 2) AS "to mimeo",
       round((percentile_cont(0.5) WITHIN GROUP (ORDER BY nullif(greatest(r.cpu, 0), 0)) / 100)::numeric, 2) AS "CPU s"
FROM result AS r
LEFT JOIN result AS n ON n.round = r.round AND n.work = r.work AND n.contender = 'native'
LEFT JOIN result AS m ON m.round = r.round AND m.work = r.work AND m.contender = 'mimeo'
WHERE r.work = 'changes' AND r.round > 0
GROUP BY r.contender
ORDER BY "median s";

SELECT split_part(r.work, ' ', 2)::integer AS "% of rows updated",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds)::numeric / 1e6, 2) AS "replay s",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY c.microseconds)::numeric / 1e6, 2) AS "compare s",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / c.microseconds)::numeric, 2) AS "replay to compare",
       round((percentile_cont(0.5) WITHIN GROUP (ORDER BY r.cpu) / 100)::numeric, 2) AS "replay CPU s",
       round((percentile_cont(0.5) WITHIN GROUP (ORDER BY c.cpu) / 100)::numeric, 2) AS "compare CPU s"
FROM result AS r
JOIN result AS c ON c.round = r.round AND c.work = r.work AND c.contender = 'roneo_compare'
WHERE r.contender = 'roneo_replay'
GROUP BY 1
ORDER BY 1;

SELECT r.contender AS "initial load by",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds)::numeric / 1e6, 2) AS "median s",
       format('%s–%s', round(min(r.microseconds) / 1e6, 2), round(max(r.microseconds) / 1e6, 2)) AS "min–max",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / p.microseconds)::numeric, 2) AS "to the pipe",
       round((percentile_cont(0.5) WITHIN GROUP (ORDER BY r.cpu) / 100)::numeric, 2) AS "CPU s"
FROM result AS r
JOIN result AS p ON p.round = r.round AND p.work = r.work AND p.contender = 'roneo_pipe'
WHERE r.work = 'load'
GROUP BY r.contender
ORDER BY "median s";

WITH demand (place, against, title, at_most) AS (
    VALUES (1, 'mimeo', 'mimeo refresh_dml', 1 / 3.0),
           (2, 'native', 'native logical replication', 1.0)
)
SELECT format('dml by the runner / %s', d.title) AS "acceptance",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / o.microseconds)::numeric, 2) AS ratio,
       round(d.at_most, 2) AS "at most",
       CASE WHEN percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / o.microseconds) <= d.at_most THEN 'PASS' ELSE 'FAIL' END AS verdict
FROM demand AS d
JOIN result AS o ON o.contender = d.against AND o.work = 'changes' AND o.round > 0
JOIN result AS r ON r.contender = 'roneo_runner' AND r.work = o.work AND r.round = o.round
GROUP BY d.place, d.title, d.at_most
ORDER BY d.place;

-- Where the time of a refresh goes. What is not in a step: start, connections, probe, plan, commit.
SELECT r.hand AS "replay by", s.step ->> 'purpose' AS purpose,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY (s.step ->> 'seconds')::numeric)::numeric, 3) AS "median s"
FROM roneo.run AS r
JOIN roneo.replica AS p USING (replica_id)
CROSS JOIN LATERAL jsonb_array_elements(r.steps) AS s (step)
WHERE r.outcome = 'ok' AND p.dest::text IN ('app.roneo_runner', 'app.roneo_sql')
GROUP BY 1, 2
HAVING percentile_cont(0.5) WITHIN GROUP (ORDER BY (s.step ->> 'seconds')::numeric) >= 0.01
ORDER BY 1, min((s.step ->> 'number')::integer);
