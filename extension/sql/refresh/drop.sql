CREATE OR REPLACE FUNCTION roneo.removal(r roneo.replica, keep_table boolean)
RETURNS SETOF text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT x.statement FROM roneo.%I AS m CROSS JOIN LATERAL roneo.%I($1, m, $2) AS x WHERE m.replica_id = $3',
        concat(r.method, '_replica'), concat('remove_', r.method))
    USING r, keep_table, r.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.removal(roneo.replica, boolean) IS
    'Statements that drop what a replica is made of, beside the rows that describe it.';

CREATE OR REPLACE FUNCTION roneo.drop_replica(dest regclass, keep_table boolean DEFAULT true)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r       roneo.replica;
    removal text;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    SELECT known.* INTO STRICT r FROM roneo.replica AS known WHERE known.dest = drop_replica.dest;
    PERFORM roneo.lock_replica(r.replica_id, format('%I.%I', r.dest_schema, r.dest_name),
        'Wait until that refresh has ended, or terminate it; roneo.status shows it.');
    FOR removal IN SELECT x FROM roneo.removal(r, keep_table) AS x LOOP
        EXECUTE removal;
    END LOOP;
    DELETE FROM roneo.replica AS known WHERE known.replica_id = r.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.drop_replica(regclass, boolean) IS
    'Ends the replication of a table. keep_table: what a query sees stays, filled as it is; else it is dropped too, and what depends on it prevents that. The history stays. For a destination that was dropped give its oid: roneo.drop_replica(16423).';
