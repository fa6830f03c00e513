-- Prints one line a replica, and 'equal' or 'DIFFERENT' behind it.
SELECT set_config('stress.source_conninfo', :'source_conninfo', false) \g /dev/null
CREATE TEMP TABLE verdict AS
WITH keyed AS MATERIALIZED (
    SELECT * FROM public.dblink(:'source_conninfo', 'SELECT id, at, v FROM app.keyed') AS s (id bigint, at timestamptz, v text)),
keyless AS MATERIALIZED (
    SELECT * FROM public.dblink(:'source_conninfo', 'SELECT id FROM app.keyless') AS s (id bigint)),
numbered AS MATERIALIZED (
    SELECT * FROM public.dblink(:'source_conninfo', 'SELECT id FROM app.numbered') AS s (id bigint)),
local AS MATERIALIZED (
    SELECT * FROM public.dblink(:'source_conninfo', 'SELECT id FROM app.local') AS s (id bigint)),
compared AS (
    SELECT 1 AS place, 'inserter with a key' AS replica, (SELECT count(*) FROM keyed) AS source_rows,
           (SELECT count(*) FROM app.keyed) AS rows,
           (SELECT count(*) FROM keyed FULL JOIN app.keyed AS d USING (id) WHERE keyed.at IS NULL OR d.at IS NULL) AS differing
    UNION ALL
    SELECT 2, 'updater', (SELECT count(*) FROM keyed), (SELECT count(*) FROM app.updated),
           (SELECT count(*) FROM keyed FULL JOIN app.updated AS d USING (id)
            WHERE (keyed.at, keyed.v) IS DISTINCT FROM (d.at, d.v))
    UNION ALL
    SELECT 3, 'inserter without a key, by time', (SELECT count(*) FROM keyless), (SELECT count(*) FROM app.keyless),
           (SELECT count(*) FROM (SELECT id FROM keyless EXCEPT ALL SELECT id FROM app.keyless) AS x)
           + (SELECT count(*) FROM (SELECT id FROM app.keyless EXCEPT ALL SELECT id FROM keyless) AS x)
    UNION ALL
    SELECT 4, 'inserter without a key, by number', (SELECT count(*) FROM numbered), (SELECT count(*) FROM app.numbered),
           (SELECT count(*) FROM (SELECT id FROM numbered EXCEPT ALL SELECT id FROM app.numbered) AS x)
           + (SELECT count(*) FROM (SELECT id FROM app.numbered EXCEPT ALL SELECT id FROM numbered) AS x)
    UNION ALL
    SELECT 5, 'inserter without a key, partitions, local time', (SELECT count(*) FROM local), (SELECT count(*) FROM app.local),
           (SELECT count(*) FROM (SELECT id FROM local EXCEPT ALL SELECT id FROM app.local) AS x)
           + (SELECT count(*) FROM (SELECT id FROM app.local EXCEPT ALL SELECT id FROM local) AS x)
)
SELECT *, CASE WHEN differing = 0 AND source_rows = rows AND rows > 0 THEN 'equal' ELSE 'DIFFERENT' END AS verdict FROM compared;
SELECT format('%-48s %6s rows at the source, %6s here, %s differ: %s', replica, source_rows, rows, differing, verdict)
FROM verdict ORDER BY place;
SELECT format('# %s rows came late; a cursor that only looks above its position lost %s of %s', late.n, lost.n, total.n)
FROM (SELECT count(*) FROM app.keyless AS k
      WHERE k.at <= (SELECT max(o.at) FROM app.keyless AS o WHERE o.arrived < k.arrived)) AS late (n),
     (SELECT count(*) FROM app.keyless AS k WHERE NOT EXISTS (SELECT FROM public.plain_cursor AS p WHERE p.id = k.id)) AS lost (n),
     (SELECT count(*) FROM app.keyless) AS total (n);
SELECT format('# runs: %s', string_agg(format('%s %s', n, outcome), ', ' ORDER BY n DESC))
FROM (SELECT outcome, count(*) AS n FROM roneo.run GROUP BY outcome) AS r;
SELECT format('# %s: %s', dest, message) FROM roneo.run WHERE outcome = 'failed' ORDER BY run_id DESC LIMIT 3;
SELECT count(*) FILTER (WHERE verdict = 'equal') AS good, count(*) FILTER (WHERE verdict <> 'equal') AS bad FROM verdict \gset
\echo :good passed, :bad failed
SELECT 1 / (:bad = 0)::integer \g /dev/null
