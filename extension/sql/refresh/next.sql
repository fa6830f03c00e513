-- What is due already is told by due(); for the others somebody may sleep until then. Who asks for
-- this first and for due() afterwards misses nothing that falls due in between.
CREATE OR REPLACE FUNCTION roneo.next_due(
    source_names text[] DEFAULT NULL, methods text[] DEFAULT NULL)
RETURNS timestamptz LANGUAGE sql
BEGIN ATOMIC
    SELECT min(d.due_at)
    -- OFFSET 0: worked out once for each.
    FROM (SELECT roneo.due_at(r) AS due_at
          FROM roneo.replica AS r
          JOIN roneo.source AS s USING (source_id)
          WHERE (source_names IS NULL OR s.source_name = ANY (source_names))
            AND (methods IS NULL OR r.method = ANY (methods))
          OFFSET 0) AS d
    WHERE d.due_at > clock_timestamp();
END;
COMMENT ON FUNCTION roneo.next_due(text[], text[]) IS
    'When the next of the replicas that are not due yet falls due; NULL: none of them ever does. NULL as an argument: of all sources, of all methods.';

-- For whoever holds the lock of one that due() told of a while ago.
CREATE OR REPLACE FUNCTION roneo.still_due(ids integer[])
RETURNS boolean LANGUAGE sql
RETURN coalesce((SELECT bool_or(roneo.due_at(r) <= clock_timestamp())
                 FROM roneo.replica AS r WHERE r.replica_id = ANY (ids)), false);
COMMENT ON FUNCTION roneo.still_due(integer[]) IS
    'Whether any of these replicas is due: of a refresh group, all of them.';
