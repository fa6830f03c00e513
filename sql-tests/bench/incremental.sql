-- The report of incremental, from the table result.
\pset border 1
\pset footer off
\pset null '-'

SELECT r.label AS "incremental",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds)::numeric / 1e6, 2) AS "median s",
       format('%s–%s', round(min(r.microseconds) / 1e6, 2), round(max(r.microseconds) / 1e6, 2)) AS "min–max",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / a.microseconds)::numeric, 2)
           AS "to the pipe",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / m.microseconds)::numeric, 2)
           AS "to mimeo",
       round(min(r.microseconds)::numeric / min(a.microseconds), 2) AS "best to best",
       round((percentile_cont(0.5) WITHIN GROUP (ORDER BY nullif(greatest(r.cpu, 0), 0)) / 100)::numeric, 2) AS "CPU s"
FROM result AS r
LEFT JOIN result AS a ON a.round = r.round AND a.contender = r.kind || '_pipe'
LEFT JOIN result AS m ON m.round = r.round AND m.contender = r.kind || '_mimeo'
GROUP BY r.kind, r.label
ORDER BY r.kind, "median s";

WITH demand (place, contender, against, at_most) AS (
    VALUES (1, 'append_only', 'append_pipe', 1.30),
           (2, 'append_keyed', 'append_pipe', 1.30),
           (3, 'append_apart', 'append_pipe', 1.30),
           (4, 'upsert', 'upsert_mimeo', 0.60)
), measured AS (
    SELECT d.place, r.label, d.at_most,
           CASE d.against WHEN 'append_pipe' THEN 'the pipe' ELSE 'mimeo' END AS against,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / o.microseconds)::numeric AS ratio,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY r.cpu::numeric / nullif(o.cpu, 0))::numeric AS cpu_ratio,
           min(r.microseconds::numeric / o.microseconds) AS lowest, max(r.microseconds::numeric / o.microseconds) AS highest
    FROM demand AS d
    JOIN result AS o ON o.contender = d.against
    JOIN result AS r ON r.contender = d.contender AND r.round = o.round
    GROUP BY d.place, r.label, d.against, d.at_most
)
SELECT format('%s / %s', label, against) AS "acceptance", round(ratio, 2) AS ratio,
       format('%s–%s', round(lowest, 2), round(highest, 2)) AS "min–max", round(cpu_ratio, 2) AS "of CPU",
       at_most AS "at most", CASE WHEN ratio <= at_most THEN 'PASS' ELSE 'FAIL' END AS verdict
FROM measured
ORDER BY place;

-- Where the time goes. What is not in a step: start, connections, probe, plan, commit. The first run
-- of a replica copies the whole table, and the second one is not counted either.
SELECT concat_ws(' ', r.dest, 'by', r.hand) AS "step", s.step ->> 'purpose' AS purpose,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY (s.step ->> 'seconds')::numeric)::numeric, 3) AS "median s"
FROM (SELECT *, row_number() OVER (PARTITION BY dest ORDER BY run_id) AS nr FROM roneo.run) AS r
CROSS JOIN LATERAL jsonb_array_elements(r.steps) AS s (step)
WHERE r.outcome = 'ok' AND r.nr > 2
GROUP BY 1, 2
HAVING percentile_cont(0.5) WITHIN GROUP (ORDER BY (s.step ->> 'seconds')::numeric) >= 0.005
ORDER BY 1, min((s.step ->> 'number')::integer);
