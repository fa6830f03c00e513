-- Verifications that come round: of large replicas in slices, the one that was looked at longest ago
-- first, so that a little time now and then is enough to know all of it.

-- The statistics of the table cut it into ranges with as many rows each, whatever the values are.
CREATE OR REPLACE FUNCTION roneo.slice_bounds(target regclass, range_column name, wanted integer)
RETURNS text[] LANGUAGE sql STABLE
RETURN (
    SELECT ARRAY(SELECT x.bound FROM (SELECT b.bounds[1 + (n * (cardinality(b.bounds) - 1)) / wanted] AS bound, n FROM generate_series(1, wanted - 1) AS n) AS x
                 GROUP BY x.bound ORDER BY min(x.n))
    FROM (SELECT s.histogram_bounds::text::text[] AS bounds
          FROM pg_stats AS s JOIN pg_class AS c ON c.relname = s.tablename JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = s.schemaname
          WHERE c.oid = target AND s.attname = range_column AND s.histogram_bounds IS NOT NULL
          ORDER BY s.inherited DESC LIMIT 1) AS b
    WHERE cardinality(b.bounds) > wanted
);
COMMENT ON FUNCTION roneo.slice_bounds(regclass, name, integer) IS
    'Values of a column that cut a table into about as many parts of one size; NULL where the statistics do not tell.';

CREATE OR REPLACE FUNCTION roneo.range_column_of(r roneo.replica)
RETURNS TABLE (target regclass, range_column name) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT t.target, coalesce(c.control, k.key_columns[1], (roneo.key_of_table(t.target, ARRAY(
               SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = t.target AND a.attnum > 0 AND NOT a.attisdropped)))[1])
    FROM (SELECT coalesce((SELECT to_regclass(format('%I.%I', m.table_schema, roneo.shown_table(m)))
                           FROM roneo.snapshot_replica AS m WHERE m.replica_id = r.replica_id), r.dest)::regclass AS target) AS t
    LEFT JOIN roneo.control_replica AS c ON c.replica_id = r.replica_id
    LEFT JOIN roneo.capture_replica AS k ON k.replica_id = r.replica_id;
END;
COMMENT ON FUNCTION roneo.range_column_of(roneo.replica) IS 'The table behind a replica, and the column that ranges of it are of.';

-- Only where both sides order values alike without being told to.
CREATE OR REPLACE FUNCTION roneo.make_slices(id integer)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r      roneo.replica;
    place  record;
    bounds text[];
BEGIN
    SELECT k.* INTO STRICT r FROM roneo.replica AS k WHERE k.replica_id = id;
    SELECT p.*, least(c.reltuples / 500000, 90)::integer AS wanted, roneo.hash_kind(format_type(roneo.base_type(a.atttypid), NULL)) AS kind INTO place
    FROM roneo.range_column_of(r) AS p
    JOIN pg_class AS c ON c.oid = p.target
    LEFT JOIN pg_attribute AS a ON a.attrelid = p.target AND a.attname = p.range_column;
    IF place.wanted > 1 AND place.kind IN ('int4', 'int8', 'date', 'timestamp', 'timestamptz', 'uuid') THEN
        bounds := roneo.slice_bounds(place.target, place.range_column, place.wanted);
    END IF;
    INSERT INTO roneo.verification_slice (replica_id, slice, from_value, to_value)
    SELECT id, n, bounds[n - 1], bounds[n] FROM generate_series(1, coalesce(cardinality(bounds), 0) + 1) AS n;
END;
$$;
COMMENT ON FUNCTION roneo.make_slices(integer) IS
    'Cuts a replica into slices of about half a million rows, up to ninety; one slice where its statistics or the type of its key do not allow it.';

CREATE OR REPLACE FUNCTION roneo.due_verifications()
RETURNS TABLE (dest regclass, dest_text text, options jsonb, checked_at timestamptz) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM roneo.make_slices(v.replica_id)
    FROM roneo.verification AS v
    WHERE v.verify_every IS NOT NULL AND NOT EXISTS (SELECT FROM roneo.verification_slice AS s WHERE s.replica_id = v.replica_id);
    RETURN QUERY
        SELECT r.dest, format('%I.%I', r.dest_schema, r.dest_name),
               jsonb_strip_nulls(jsonb_build_object('slice', s.slice, 'from', s.from_value, 'to', s.to_value)), s.checked_at
        FROM roneo.verification AS v
        JOIN roneo.verification_slice AS s ON s.replica_id = v.replica_id
        JOIN roneo.replica AS r ON r.replica_id = v.replica_id
        WHERE r.enabled AND (s.checked_at IS NULL OR s.checked_at + v.verify_every <= clock_timestamp())
        ORDER BY s.checked_at NULLS FIRST, s.replica_id, s.slice;
END;
$$;
COMMENT ON FUNCTION roneo.due_verifications() IS
    'The slices of replicas that are to be compared now, the one that was looked at longest ago first; cuts those that have none yet. options: for verify_start.';

CREATE OR REPLACE PROCEDURE roneo.verify_due(max_runtime interval DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    began timestamptz := pg_catalog.clock_timestamp();
    due   record;
    list  jsonb;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    list := (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('dest', d.dest::oid, 'options', d.options)) FROM roneo.due_verifications() AS d);
    COMMIT;
    FOR due IN SELECT (d ->> 'dest')::oid AS dest, d -> 'options' AS options FROM pg_catalog.jsonb_array_elements(list) AS d LOOP
        EXIT WHEN pg_catalog.clock_timestamp() > began + max_runtime;
        PERFORM pg_catalog.count(*) FROM roneo.verify_with(due.dest::regclass, due.options) AS v;
        COMMIT;
    END LOOP;
END;
$$;
COMMENT ON PROCEDURE roneo.verify_due(interval) IS
    'Compares what is due by set_verification, one slice a transaction, and begins nothing after max_runtime. A procedure that commits can fix no search_path in its definition; it pins it in its first statement.';

CREATE OR REPLACE VIEW roneo.verifications AS
SELECT format('%I.%I', r.dest_schema, r.dest_name) AS dest, r.method, v.verify_every, v.verdict, v.why, v.checked_at, v.verified_at,
       coalesce(v.missing, 0) + coalesce(v.extra, 0) + coalesce(v.changed, 0) AS differences, v.missing, v.extra, v.changed,
       v.repaired, v.repaired_at, s.slices, s.slices_due
FROM roneo.replica AS r
LEFT JOIN roneo.verification AS v ON v.replica_id = r.replica_id
LEFT JOIN LATERAL (
    SELECT count(*) AS slices, count(*) FILTER (WHERE c.checked_at IS NULL OR c.checked_at + v.verify_every <= clock_timestamp()) AS slices_due
    FROM roneo.verification_slice AS c WHERE c.replica_id = r.replica_id) AS s ON true;
COMMENT ON VIEW roneo.verifications IS
    'For each replica: what its last comparison found, when the whole of it was last known to be equal, and how many rows were repaired.';
