-- What is kept of a verification, and the run that a repair is.

CREATE OR REPLACE FUNCTION roneo.record_repair(r roneo.replica, answer jsonb, state jsonb, facts jsonb)
RETURNS bigint LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO roneo.run (replica_id, dest, method, hand, kind, outcome, started_at, ended_at, seconds,
                           inserted, updated, deleted, message, steps, runner)
    VALUES (r.replica_id, format('%I.%I', r.dest_schema, r.dest_name), r.method, answer ->> 'hand', 'repair', 'ok',
            coalesce((facts ->> 'started_at')::timestamptz, clock_timestamp()), clock_timestamp(), round((facts ->> 'seconds')::numeric, 3),
            (state ->> 'inserted')::bigint, (state ->> 'updated')::bigint, (state ->> 'deleted')::bigint,
            format('%s rows differed', (state ->> 'missing')::bigint + (state ->> 'extra')::bigint + (state ->> 'changed')::bigint),
            state -> 'steps', facts ->> 'runner')
    RETURNING run_id;
END;
COMMENT ON FUNCTION roneo.record_repair(roneo.replica, jsonb, jsonb, jsonb) IS 'Writes a repair into the history.';

CREATE OR REPLACE FUNCTION roneo.record_slice(id integer, slice integer, state jsonb)
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    UPDATE roneo.verification_slice AS s SET
        checked_at = clock_timestamp(), verdict = state ->> 'verdict',
        rows_there = (state ->> 'rows_there')::bigint, rows_here = (state ->> 'rows_here')::bigint,
        missing = (state ->> 'missing')::bigint, extra = (state ->> 'extra')::bigint, changed = (state ->> 'changed')::bigint
    WHERE s.replica_id = id AND s.slice = record_slice.slice;
END;
COMMENT ON FUNCTION roneo.record_slice(integer, integer, jsonb) IS 'Keeps what was found in one slice.';

-- Of the whole, or of all slices together. A slice that could not be compared leaves the time of the
-- last one that could.
CREATE OR REPLACE FUNCTION roneo.record_verdict(id integer, state jsonb)
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO roneo.verification AS v (replica_id, checked_at, verdict, why, rows_there, rows_here, missing, extra, changed,
                                         verified_at, repaired_at, repaired)
    VALUES (id, clock_timestamp(), state ->> 'verdict', state ->> 'why', (state ->> 'rows_there')::bigint, (state ->> 'rows_here')::bigint,
            coalesce((state ->> 'missing')::bigint, 0), coalesce((state ->> 'extra')::bigint, 0), coalesce((state ->> 'changed')::bigint, 0),
            CASE WHEN state ->> 'verdict' IN ('equal', 'repaired') AND (state ->> 'whole')::boolean THEN (state ->> 'since')::timestamptz END,
            CASE WHEN state ->> 'verdict' = 'repaired' THEN clock_timestamp() END,
            coalesce((state ->> 'inserted')::bigint + (state ->> 'updated')::bigint + (state ->> 'deleted')::bigint, 0))
    ON CONFLICT (replica_id) DO UPDATE SET
        checked_at = excluded.checked_at, verdict = excluded.verdict, why = excluded.why, rows_there = excluded.rows_there, rows_here = excluded.rows_here,
        missing = excluded.missing, extra = excluded.extra, changed = excluded.changed,
        verified_at = coalesce(excluded.verified_at, v.verified_at), repaired_at = coalesce(excluded.repaired_at, v.repaired_at),
        repaired = v.repaired + excluded.repaired;
END;
COMMENT ON FUNCTION roneo.record_verdict(integer, jsonb) IS 'Keeps what the last verification found of a replica. whole and since: whether all of it was looked at, and when first.';

CREATE OR REPLACE FUNCTION roneo.slices_together(id integer, state jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT state || jsonb_build_object(
        'whole', bool_and(s.verdict IN ('equal', 'repaired') AND s.checked_at IS NOT NULL), 'since', min(s.checked_at),
        'verdict', CASE WHEN bool_or(s.verdict = 'differs') THEN 'differs'
                        WHEN bool_or(s.verdict = 'undecided' OR s.checked_at IS NULL) THEN 'undecided' ELSE state ->> 'verdict' END,
        'why', CASE WHEN bool_or(s.checked_at IS NULL) THEN format('%s of %s slices have been compared', count(s.checked_at), count(*)) ELSE state ->> 'why' END,
        'rows_there', sum(s.rows_there), 'rows_here', sum(s.rows_here),
        'missing', coalesce(sum(s.missing) FILTER (WHERE s.verdict <> 'repaired'), 0), 'extra', coalesce(sum(s.extra) FILTER (WHERE s.verdict <> 'repaired'), 0),
        'changed', coalesce(sum(s.changed) FILTER (WHERE s.verdict <> 'repaired'), 0))
    FROM roneo.verification_slice AS s WHERE s.replica_id = id
);
COMMENT ON FUNCTION roneo.slices_together(integer, jsonb) IS 'What is known of a replica by its slices, after one of them was compared.';

CREATE OR REPLACE FUNCTION roneo.verify_finish(answer jsonb, state jsonb, facts jsonb)
RETURNS TABLE (
    dest text, verdict text, why text, rows_there bigint, rows_here bigint, missing bigint, extra bigint, changed bigint,
    inserted bigint, updated bigint, deleted bigint, run_id bigint, differences jsonb, retry boolean
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    r     roneo.replica := roneo.replica_of(answer);
    slice integer := (state #>> '{options,slice}')::integer;
    made  bigint;
BEGIN
    IF state ->> 'verdict' = 'repaired' THEN
        made := roneo.record_repair(r, answer, state, facts);
    END IF;
    IF slice IS NOT NULL THEN
        PERFORM roneo.record_slice(r.replica_id, slice, state);
        PERFORM roneo.record_verdict(r.replica_id, roneo.slices_together(r.replica_id, state));
    ELSIF coalesce(state #>> '{options,from}', state #>> '{options,to}') IS NULL AND NOT coalesce((state ->> 'again')::boolean, false) THEN
        PERFORM roneo.record_verdict(r.replica_id, state || jsonb_build_object('whole', true, 'since', clock_timestamp()));
    END IF;
    RETURN QUERY SELECT format('%I.%I', r.dest_schema, r.dest_name), state ->> 'verdict', state ->> 'why',
        (state ->> 'rows_there')::bigint, (state ->> 'rows_here')::bigint,
        coalesce((state ->> 'missing')::bigint, e.none), coalesce((state ->> 'extra')::bigint, e.none), coalesce((state ->> 'changed')::bigint, e.none),
        (state ->> 'inserted')::bigint, (state ->> 'updated')::bigint, (state ->> 'deleted')::bigint,
        made, coalesce(state -> 'shown', '[]'), coalesce((state ->> 'again')::boolean, false)
        FROM (SELECT CASE state ->> 'verdict' WHEN 'equal' THEN 0 END::bigint AS none) AS e;
END;
$$;
COMMENT ON FUNCTION roneo.verify_finish(jsonb, jsonb, jsonb) IS
    'Keeps the verdict of a verification that is done, and returns it. facts: started_at, seconds, runner. retry: the source was changing, and the whole is to be done again with the option force.';

CREATE OR REPLACE FUNCTION roneo.record_undecided(dest regclass, why text, options jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id integer := (SELECT r.replica_id FROM roneo.replica AS r WHERE r.dest = record_undecided.dest);
    state jsonb := jsonb_build_object('verdict', 'undecided', 'why', why);
BEGIN
    IF options ->> 'slice' IS NOT NULL THEN
        PERFORM roneo.record_slice(id, (options ->> 'slice')::integer, state);
        PERFORM roneo.record_verdict(id, roneo.slices_together(id, state));
    ELSIF coalesce(options ->> 'from', options ->> 'to') IS NULL THEN
        PERFORM roneo.record_verdict(id, state);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.record_undecided(regclass, text, jsonb) IS
    'Keeps that a replica could not be compared, in a transaction of its own.';

CREATE OR REPLACE FUNCTION roneo.set_verification(dest regclass, verify_every interval, deletes boolean DEFAULT NULL)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id integer;
BEGIN
    SELECT r.replica_id INTO id FROM roneo.replica AS r WHERE r.dest = set_verification.dest;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO001',
            MESSAGE = format('%s is not a replica', dest),
            HINT    = 'SELECT dest FROM roneo.replica lists those that are.';
    ELSIF verify_every <= interval '0' THEN
        PERFORM roneo.bad_argument(format('verify_every is %s', verify_every), 'Give an interval such as ''1 week''; NULL: only when told to.');
    END IF;
    INSERT INTO roneo.verification (replica_id, verify_every, deletes) VALUES (id, set_verification.verify_every, set_verification.deletes)
    ON CONFLICT (replica_id) DO UPDATE SET verify_every = excluded.verify_every, deletes = excluded.deletes;
    -- They are made anew, by the size of the table as it is then.
    DELETE FROM roneo.verification_slice AS s WHERE s.replica_id = id;
END;
$$;
COMMENT ON FUNCTION roneo.set_verification(regclass, interval, boolean) IS
    'How often a replica is to be compared with its source by verify_due; NULL: only when told to. deletes: whether rows that the source has no more are a difference and removed by a repair; NULL: for all methods but inserter.';
