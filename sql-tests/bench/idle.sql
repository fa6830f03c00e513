-- The report of idle, from its table result.
SELECT r.method, r.label AS "nothing to do", r.tables,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds)::numeric / 1e3) AS "median ms",
       format('%s–%s', round(min(r.microseconds) / 1e3), round(max(r.microseconds) / 1e3)) AS "min–max",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds)::numeric / 1e3 / r.tables, 3) AS "ms a table",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.microseconds::numeric / r.tables / m.microseconds * m.tables)::numeric, 4)
           AS "to mimeo",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY nullif(greatest(r.cpu, 0), 0))::numeric * 10 / r.tables, 3)
           AS "CPU ms a table"
FROM result AS r
LEFT JOIN result AS m ON m.round = r.round AND m.method = r.method AND m.label LIKE 'mimeo%'
GROUP BY r.method, r.label, r.tables
ORDER BY r.method, "ms a table";
