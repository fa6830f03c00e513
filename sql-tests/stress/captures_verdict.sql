-- Prints one line a replica of a destination. \set source_conninfo. An error where a row differs.
\set QUIET on
CREATE FUNCTION pg_temp.key_of(t text, r jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE t WHEN 'ordinary' THEN r ->> 'id' WHEN 'composite' THEN (r ->> 'a') || '/' || (r ->> 'b')
                  ELSE (r ->> 'id') || '/' || (r ->> 'region') END $$;
CREATE TEMP TABLE source_row AS
SELECT t.name, s.row
FROM unnest(ARRAY['ordinary', 'composite', 'parted']) AS t (name),
     public.dblink(:'source_conninfo', format('SELECT to_jsonb(s) FROM app.%I AS s', t.name)) AS s (row jsonb);
CREATE TEMP TABLE gone AS
SELECT * FROM public.dblink(:'source_conninfo', 'SELECT * FROM app.gone') AS g (name text, key text, v text, truncated boolean);
CREATE TEMP TABLE dest_row (name text, method text, row jsonb, is_live boolean);
SELECT format($$INSERT INTO dest_row SELECT %1$L, 'dml', to_jsonb(d), true FROM app.%1$I AS d$$, n),
       format($$INSERT INTO dest_row SELECT %1$L, 'logdel', to_jsonb(d) - 'roneo_source_deleted', d.roneo_source_deleted IS NULL FROM app.%2$I AS d$$, n, n || '_kept')
FROM unnest(ARRAY['ordinary', 'composite', 'parted']) AS n \gexec
CREATE TEMP TABLE stamped AS
SELECT d.name, pg_temp.key_of(d.name, d.row) AS key, d.row ->> 'v' AS v, count(*) AS n
FROM dest_row AS d WHERE NOT is_live GROUP BY 1, 2, 3;
ANALYZE gone, stamped, dest_row, source_row;

CREATE TEMP TABLE verdict AS
SELECT n.name, m.method,
       (SELECT count(*) FROM source_row AS s WHERE s.name = n.name) AS source_rows,
       (SELECT count(*) FROM (
           (SELECT s.row FROM source_row AS s WHERE s.name = n.name
            EXCEPT ALL SELECT d.row FROM dest_row AS d WHERE (d.name, d.method) = (n.name, m.method) AND d.is_live)
           UNION ALL
           (SELECT d.row FROM dest_row AS d WHERE (d.name, d.method) = (n.name, m.method) AND d.is_live
            EXCEPT ALL SELECT s.row FROM source_row AS s WHERE s.name = n.name)) AS x) AS differing,
       g.deleted, g.unstamped, g.twice, g.invented
FROM unnest(ARRAY['ordinary', 'composite', 'parted']) AS n (name)
CROSS JOIN unnest(ARRAY['dml', 'logdel']) AS m (method)
LEFT JOIN LATERAL (
    SELECT (SELECT count(*) FROM gone AS g WHERE g.name = n.name AND NOT g.truncated) AS deleted,
           (SELECT count(*) FROM gone AS g LEFT JOIN stamped AS s ON (s.name, s.key, s.v) = (g.name, g.key, g.v)
            WHERE g.name = n.name AND NOT g.truncated AND s.n IS NULL) AS unstamped,
           (SELECT count(*) FROM stamped AS s WHERE s.name = n.name AND s.n > 1) AS twice,
           -- What TRUNCATE took is stamped with the values that were here.
           (SELECT count(*) FROM stamped AS s WHERE s.name = n.name
              AND NOT EXISTS (SELECT FROM gone AS g WHERE (g.name, g.key, g.v) = (s.name, s.key, s.v))
              AND NOT EXISTS (SELECT FROM gone AS g WHERE (g.name, g.key) = (s.name, s.key) AND g.truncated)) AS invented
) AS g ON m.method = 'logdel'
ORDER BY 1, 2;
SELECT format('# %-9s %-6s: %s rows, %s differ%s', name, method, source_rows, differing,
              format(CASE WHEN method = 'logdel' THEN '; of %s deletions %s have no record, %s have two, %s records are of none' END,
                     deleted, unstamped, twice, invented))
FROM verdict;
DO $$ BEGIN
    IF (SELECT sum(differing + coalesce(unstamped + twice + invented, 0)) FROM verdict) <> 0 THEN
        RAISE EXCEPTION 'the copies are not what the source is';
    END IF;
END $$;
