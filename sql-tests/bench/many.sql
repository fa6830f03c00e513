-- The report of many, from its tables result and phase.
\pset null '-'
SELECT r.part AS "many", r.label, r.tables,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds)::numeric / 1e3) AS "median ms",
       format('%s–%s', round(min(r.microseconds) / 1e3), round(max(r.microseconds) / 1e3)) AS "min–max",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds)::numeric / 1e3 / r.tables, 2) AS "ms a table",
       round(1e6 * r.tables / percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds)::numeric) AS "replicas/s",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY nullif(r.rows, 0) * 1e6 / r.microseconds)::numeric) AS "rows/s",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / m.microseconds)::numeric, 3) AS "to mimeo",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY nullif(greatest(r.cpu, 0), 0))::numeric / 100, 2) AS "CPU s"
FROM result AS r
LEFT JOIN result AS m ON m.round = r.round AND m.part = r.part AND m.label = 'run_refresh.py'
GROUP BY r.part, r.label, r.tables
ORDER BY CASE r.part WHEN 'register' THEN 1 WHEN 'load' THEN 2 WHEN 'idle' THEN 3 WHEN 'changed' THEN 4 ELSE 5 END, "ms a table";

SELECT 'all idle, seconds' AS "acceptance", round(percentile_cont(0.5) WITHIN GROUP (ORDER BY microseconds)::numeric / 1e6, 2) AS measured,
       1.0 AS "at most", CASE WHEN percentile_cont(0.5) WITHIN GROUP (ORDER BY microseconds) <= 1e6 THEN 'PASS' ELSE 'FAIL' END AS verdict
FROM result WHERE part = 'idle' HAVING count(*) > 0;

-- Where the time of the jobs goes: their number times the wall clock of the command.
SELECT x.what AS "time of the jobs", round(percentile_cont(0.5) WITHIN GROUP (ORDER BY x.seconds)::numeric, 2) AS "median s",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY 100 * x.seconds / x.wall)::numeric) AS "%"
FROM (
    SELECT round, wall, w.place, w.what, w.seconds
    FROM (SELECT round, wall, coalesce(sum(seconds) FILTER (WHERE kind IN ('transfer', 'attempt')), 0) AS transfer,
                 coalesce(sum(seconds) FILTER (WHERE kind NOT IN ('transfer', 'attempt', 'run')), 0) AS other,
                 sum(seconds) FILTER (WHERE kind = 'run') AS runs
          FROM phase GROUP BY round, wall) AS p
    CROSS JOIN LATERAL (VALUES (1, 'steps that transfer rows', transfer), (2, 'other steps', other),
                               (3, 'runs, but no step: lock, probe, plan, finish', runs - transfer - other),
                               (4, 'no run: start, what is idle, commits, waiting for the last', wall - runs),
                               (5, 'all that is not transfer', wall - transfer)) AS w (place, what, seconds)
) AS x
GROUP BY x.place, x.what
ORDER BY x.place;

SELECT p.method AS "step", coalesce(regexp_replace(p.purpose, ' index .*', ' an index'), 'the whole run') AS purpose, count(*) AS times,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY p.seconds)::numeric * 1e3, 1) AS "median ms"
FROM phase AS p
GROUP BY p.method, 2, p.kind = 'run'
HAVING percentile_cont(0.5) WITHIN GROUP (ORDER BY p.seconds) >= 0.001
ORDER BY p.method, p.kind = 'run' DESC, "median ms" DESC;
