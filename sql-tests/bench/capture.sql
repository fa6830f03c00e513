-- The report of capture, from the tables result and cycle.
\pset border 1
\pset footer off
\pset null '-'

CREATE TABLE added AS
SELECT r.round, r.contender, r.work, r.microseconds, r.cpu * 10000 AS cpu, r.microseconds - n.microseconds AS added,
       (r.cpu - n.cpu) * 10000 AS added_cpu
FROM result AS r
JOIN result AS n ON n.round = r.round AND n.work = r.work AND n.contender = 'none';

SELECT a.work, a.contender,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY a.microseconds)::numeric / 1e3) AS "median ms",
       format('%s–%s', round(min(a.microseconds) / 1e3), round(max(a.microseconds) / 1e3)) AS "min–max",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY a.added)::numeric / 1e3) AS "added ms",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY a.added_cpu)::numeric / 1e3) AS "added CPU ms",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY a.added)::numeric
             / CASE a.work WHEN 'single' THEN :singles ELSE :rows END, 2) AS "added us a row",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY a.added::numeric / nullif(m.added, 0))::numeric, 2) AS "to mimeo",
       format('%s–%s', round(percentile_cont(0.25) WITHIN GROUP (ORDER BY a.added::numeric / nullif(m.added, 0))::numeric, 2),
              round(percentile_cont(0.75) WITHIN GROUP (ORDER BY a.added::numeric / nullif(m.added, 0))::numeric, 2)) AS "middle half",
       round((percentile_cont(0.5) WITHIN GROUP (ORDER BY a.added_cpu)
              / nullif(percentile_cont(0.5) WITHIN GROUP (ORDER BY m.added_cpu), 0))::numeric, 2) AS "CPU to mimeo"
FROM added AS a
LEFT JOIN added AS m ON m.round = a.round AND m.work = a.work AND m.contender = 'mimeo'
GROUP BY a.work, a.contender
ORDER BY array_position(ARRAY['update', 'delete', 'copy', 'single'], a.work),
         array_position(ARRAY['none', 'roneo_statement', 'roneo_row', 'mimeo'], a.contender);

WITH demand (place, contender, work, title, at_most) AS (
    VALUES (1, 'roneo_statement', 'update', 'UPDATE of all rows', 0.5),
           (2, 'roneo_statement', 'delete', 'DELETE of all rows', 0.5),
           (3, 'roneo_statement', 'copy', 'COPY of all rows', 0.5),
           (4, 'roneo_statement', 'single', 'single-row UPDATE, by statement', 1.5),
           (5, 'roneo_row', 'single', 'single-row UPDATE, by row', 1.0)
)
SELECT format('added time / mimeo''s: %s', d.title) AS "acceptance",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY a.added::numeric / m.added)::numeric, 2) AS measured, d.at_most AS "at most",
       CASE WHEN percentile_cont(0.5) WITHIN GROUP (ORDER BY a.added::numeric / m.added) <= d.at_most THEN 'PASS' ELSE 'FAIL' END AS verdict
FROM demand AS d
JOIN added AS a ON a.contender = d.contender AND a.work = d.work
JOIN added AS m ON m.contender = 'mimeo' AND m.work = a.work AND m.round = a.round
GROUP BY d.place, d.title, d.at_most
ORDER BY d.place;

SELECT format('queue over %s cycles, largest, MB', count(*)) AS "acceptance", round(max(queue) / 1048576.0, 1) AS measured, 5 AS "at most",
       CASE WHEN max(queue) <= 5 * 1048576 THEN 'PASS' ELSE 'FAIL' END AS verdict,
       format('pg_proc %s to %s', pg_size_pretty(min(catalog)), pg_size_pretty(max(catalog))) AS beside
FROM cycle
HAVING count(*) > 0;
