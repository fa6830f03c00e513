-- Failures, and what they make of a schedule. All of them let a replica rest. Those that somebody
-- has to mend are counted, and after so many it is left alone: it would fail for ever, and load the
-- source for nothing. What may pass by itself never leads there: after a weekend without its source
-- a replica goes on by itself, and nobody has to release a thousand of them. roneo.check alarms
-- in both cases, long before.

CREATE OR REPLACE FUNCTION roneo.may_pass(sqlstate_code text)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN roneo.failure_outcome(sqlstate_code) = 'deferred'
    OR left(sqlstate_code, 2) IN ('08', '53')
    OR sqlstate_code IN ('40001', '40P01', '57P01', '57P02', '57P03', '57P05', '25P03', '25P04', '72000', 'RO008');
COMMENT ON FUNCTION roneo.may_pass(text) IS
    'Whether a failure can pass without anyone mending anything: connections, resources, deadlocks, serialization and conflicts with recovery, restarts, sources that are away.';

CREATE OR REPLACE FUNCTION roneo.count_failure(id integer, failure text, sqlstate_code text, message text)
RETURNS boolean LANGUAGE sql
BEGIN ATOMIC
    -- A row that another session is writing belongs to a refresh that is newer than this one.
    WITH known AS (
        SELECT k.replica_id, k.quarantined_at,
               k.lasting_failures + (failure = 'failed' AND NOT roneo.may_pass(sqlstate_code))::integer AS lasting
        FROM roneo.replica AS k
        WHERE k.replica_id = id
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE roneo.replica AS r SET
        generation       = r.generation + 1,
        last_attempt_at  = clock_timestamp(),
        last_outcome     = failure,
        last_message     = count_failure.message,
        failures         = r.failures + (failure = 'failed')::integer,
        lasting_failures = k.lasting,
        quarantined_at   = coalesce(k.quarantined_at, CASE
            WHEN k.lasting > r.lasting_failures AND k.lasting >= nullif(roneo.setting('quarantine_after'), 0) THEN clock_timestamp() END)
    FROM known AS k
    WHERE r.replica_id = k.replica_id
    RETURNING r.quarantined_at IS NOT NULL AND k.quarantined_at IS NULL;
END;
COMMENT ON FUNCTION roneo.count_failure(integer, text, text, text) IS
    'Writes a refresh that was rolled back into its replica; true where it enters quarantine by it.';

CREATE OR REPLACE FUNCTION roneo.release(dest regclass)
RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    members  regclass[] := roneo.with_group(ARRAY[dest]);
    released boolean;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    released := EXISTS (SELECT FROM roneo.replica AS r WHERE r.dest = ANY (members) AND r.quarantined_at IS NOT NULL);
    UPDATE roneo.replica AS r SET quarantined_at = NULL, failures = 0, lasting_failures = 0
    WHERE r.dest = ANY (members) AND (r.quarantined_at IS NOT NULL OR r.failures > 0);
    RETURN released;
END;
$$;
COMMENT ON FUNCTION roneo.release(regclass) IS
    'Ends the quarantine of a replica, with its refresh group, and the rest after its failures: it is due again at once, and its failures are counted anew. False where it was in none. A refresh that succeeds ends it too. Raises RO001.';
