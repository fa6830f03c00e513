-- Whether a table has changed, told without looking at a row: by what its server counts.

-- Who writes may be another role than who asks.
CREATE OR REPLACE FUNCTION roneo.track_counts_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$(
    SELECT CASE WHEN pg_catalog.count(*) = 0 THEN pg_catalog.current_setting('track_counts')
                ELSE 'for some roles or databases' END
    FROM pg_catalog.pg_db_role_setting AS s, pg_catalog.unnest(s.setconfig) AS c (line)
    WHERE c.line LIKE 'track_counts=%'
      AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database AS d
                                WHERE d.datname = pg_catalog.current_database())))$query$;
COMMENT ON FUNCTION roneo.track_counts_query() IS
    'A SQL expression for the source: on where the changes of all roles are counted, but for a session that turned that off by itself.';

-- One hash for a table and all that inherits from it: counters, files, sizes, the name and the
-- shape of its columns, and the server with the start of its counting. No state where changes may go
-- uncounted: on a standby, for views and foreign tables, with track_counts off; before PostgreSQL
-- 15, where an idle session can keep its counters for ever.
--
-- Why a state that is read before a snapshot may be kept with what was read under it: a session
-- hands its counters over after its transaction has ended, and so after others could see its rows.
-- Each change that is counted in the state is in the snapshot. One that the snapshot does not have,
-- by a transaction that was open or even prepared at that time, is counted later, and makes the state
-- another one. So do changes that were seen but not counted yet, and those that were rolled back:
-- then it is looked for nothing, which only costs time. Counters never go down but by a reset, and
-- each reset leaves its time.
--
-- What can hide is what is late: an idle session hands over after ten seconds, a procedure that
-- commits again and again when it ends. is_written tells of those that hold a writer's lock now.
-- A table that is locked against everybody has no state: its size could not be asked without waiting.
CREATE OR REPLACE FUNCTION roneo.state_query(asked text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$WITH RECURSIVE tree AS (
    SELECT a.id, a.oid AS root, a.oid FROM (%1$s) AS a (id, oid)
    UNION
    SELECT t.id, t.root, i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
), locked AS MATERIALIZED (
    SELECT l.relation, pg_catalog.bool_or(l.mode = 'AccessExclusiveLock') AS is_closed
    FROM pg_catalog.pg_locks AS l
    WHERE l.locktype = 'relation'
      AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
    GROUP BY l.relation
), server AS MATERIALIZED (
    SELECT (i.identity - 'clock' - 'lsn')::text AS line
    FROM (SELECT %2$s AS identity OFFSET 0) AS i
    WHERE (i.identity ->> 'version')::integer >= 150000 AND i.identity ->> 'in_recovery' = 'false' AND %3$s = 'on'
), leaf AS (
    SELECT t.id, t.root, c.oid, c.relkind, c.relname, c.relnamespace, c.xmin AS written, k.relation IS NOT NULL AS is_written,
           pg_catalog.pg_relation_filenode(c.oid) AS file,
           CASE WHEN k.is_closed IS NOT TRUE AND c.relkind = 'r' THEN pg_catalog.pg_relation_size(c.oid) END AS size
    FROM tree AS t
    JOIN pg_catalog.pg_class AS c ON c.oid = t.oid
    LEFT JOIN locked AS k ON k.relation = c.oid
)
SELECT l.id, pg_catalog.bool_or(l.is_written) AS is_written,
       CASE WHEN pg_catalog.bool_and(l.relkind = 'p' OR l.relkind = 'r' AND l.file > 0 AND l.size IS NOT NULL)
            THEN pg_catalog.md5(pg_catalog.concat(s.line, pg_catalog.string_agg(pg_catalog.concat_ws(',',
                l.oid, l.relkind, l.file, l.size, pg_catalog.pg_stat_get_tuples_inserted(l.oid),
                pg_catalog.pg_stat_get_tuples_updated(l.oid), pg_catalog.pg_stat_get_tuples_deleted(l.oid),
                CASE WHEN l.oid = l.root THEN (
                    SELECT pg_catalog.concat_ws(',', n.nspname, l.relname, l.written, pg_catalog.string_agg(a.xmin::text, ',' ORDER BY a.attnum))
                    FROM pg_catalog.pg_namespace AS n
                    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = l.oid AND a.attnum > 0
                    WHERE n.oid = l.relnamespace
                    GROUP BY n.nspname) END), ';' ORDER BY l.oid)))::uuid END AS state
FROM leaf AS l CROSS JOIN server AS s
GROUP BY l.id, s.line$query$, asked, roneo.identity_query(), roneo.track_counts_query());
COMMENT ON FUNCTION roneo.state_query(text) IS
    'SQL for the states of many tables at once, given as a query of (id, oid): a row each, with the state, NULL where changes may go uncounted, and whether somebody holds a writer''s lock now. No row: no such table, or a server that does not count them all.';

CREATE OR REPLACE FUNCTION roneo.state_of(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(SELECT roneo_state.state FROM (%s) AS roneo_state)',
              roneo.state_query(format('SELECT 0, (%s)::pg_catalog.oid', relation)));
COMMENT ON FUNCTION roneo.state_of(text) IS
    'A SQL expression for the state of one table, given as an expression of type oid.';
