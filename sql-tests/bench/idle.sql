-- The report of idle, from its table result.
SELECT r.label AS "unchanged sources",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds)::numeric / 1e3) AS "median ms",
       format('%s–%s', round(min(r.microseconds) / 1e3), round(max(r.microseconds) / 1e3)) AS "min–max",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds)::numeric / 1e3 / :tables, 1) AS "ms a table",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / m.microseconds)::numeric, 2) AS "to mimeo",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY nullif(greatest(r.cpu, 0), 0))::numeric * 10 / :tables, 1)
           AS "CPU ms a table"
FROM result AS r
LEFT JOIN result AS m ON m.round = r.round AND m.label LIKE 'mimeo%'
GROUP BY r.label
ORDER BY "median ms";
