-- What is due already is told by due(); for the others somebody may sleep until then. Who asks for
-- this first and for due() afterwards misses nothing that falls due in between. One whose window is
-- shut has been due since then for both: whoever sleeps looks again now and then.
CREATE OR REPLACE FUNCTION roneo.next_due(
    source_names text[] DEFAULT NULL, methods text[] DEFAULT NULL, refresh_groups text[] DEFAULT NULL,
    jitter interval DEFAULT NULL)
RETURNS timestamptz LANGUAGE sql
BEGIN ATOMIC
    SELECT min(d.due_at)
    -- OFFSET 0: worked out once for each.
    FROM (SELECT roneo.due_on(k, CASE WHEN j.seconds > 0 AND k.refresh_every IS NOT NULL
                                      THEN k.created_at + roneo.jitter_shift(k, j.salt, j.seconds) ELSE k.created_at END) AS due_at
          FROM roneo.replica AS k
          JOIN roneo.source AS s USING (source_id)
          CROSS JOIN (SELECT roneo.jitter_seconds(jitter) AS seconds,
                             CASE WHEN jitter IS NOT NULL THEN roneo.jitter_salt() END AS salt OFFSET 0) AS j
          WHERE (source_names IS NULL OR s.source_name = ANY (source_names))
            AND (methods IS NULL OR k.method = ANY (methods))
            AND (refresh_groups IS NULL OR k.refresh_group = ANY (refresh_groups))
          OFFSET 0) AS d
    WHERE d.due_at > clock_timestamp();
END;
COMMENT ON FUNCTION roneo.next_due(text[], text[], text[], interval) IS
    'When the next of the replicas that are not due yet falls due; NULL: none of them ever does. source_names, methods, refresh_groups, jitter: as for due.';

-- For whoever holds the lock of one that due() told of a while ago.
CREATE OR REPLACE FUNCTION roneo.still_due(ids integer[])
RETURNS boolean LANGUAGE sql
RETURN coalesce((SELECT bool_or(roneo.due_at(r) <= clock_timestamp())
                 FROM roneo.replica AS r WHERE r.replica_id = ANY (ids)), false);
COMMENT ON FUNCTION roneo.still_due(integer[]) IS
    'Whether any of these replicas is due: of a refresh group, all of them.';
