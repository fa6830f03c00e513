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
                                         verified_at, repaired_at, repaired, differed_at, failed_run_id)
    VALUES (id, clock_timestamp(), state ->> 'verdict', state ->> 'why', (state ->> 'rows_there')::bigint, (state ->> 'rows_here')::bigint,
            coalesce((state ->> 'missing')::bigint, 0), coalesce((state ->> 'extra')::bigint, 0), coalesce((state ->> 'changed')::bigint, 0),
            CASE WHEN state ->> 'verdict' IN ('equal', 'repaired') AND (state ->> 'whole')::boolean THEN (state ->> 'since')::timestamptz END,
            CASE WHEN state ->> 'verdict' = 'repaired' THEN clock_timestamp() END,
            coalesce((state ->> 'inserted')::bigint + (state ->> 'updated')::bigint + (state ->> 'deleted')::bigint, 0),
            CASE WHEN state ->> 'verdict' = 'differs' THEN clock_timestamp() END, (state ->> 'failed_run')::bigint)
    ON CONFLICT (replica_id) DO UPDATE SET
        checked_at = excluded.checked_at, verdict = excluded.verdict, rows_there = excluded.rows_there, rows_here = excluded.rows_here,
        why = CASE WHEN (state ->> 'failing')::boolean THEN coalesce(excluded.why, v.why) ELSE excluded.why END,
        missing = CASE WHEN excluded.verdict = 'undecided' AND v.differed_at IS NOT NULL THEN v.missing ELSE excluded.missing END,
        extra   = CASE WHEN excluded.verdict = 'undecided' AND v.differed_at IS NOT NULL THEN v.extra ELSE excluded.extra END,
        changed = CASE WHEN excluded.verdict = 'undecided' AND v.differed_at IS NOT NULL THEN v.changed ELSE excluded.changed END,
        differed_at = CASE WHEN excluded.verdict = 'undecided' THEN v.differed_at ELSE excluded.differed_at END,
        failed_run_id = CASE WHEN (state ->> 'failing')::boolean THEN coalesce(excluded.failed_run_id, v.failed_run_id) END,
        verified_at = coalesce(excluded.verified_at, v.verified_at), repaired_at = coalesce(excluded.repaired_at, v.repaired_at),
        repaired = v.repaired + excluded.repaired;
END;
COMMENT ON FUNCTION roneo.record_verdict(integer, jsonb) IS 'Keeps what the last verification found of a replica. whole and since: whether all of it was looked at, and when first. failing: whether some of it could not be looked at, last by failed_run.';

CREATE OR REPLACE FUNCTION roneo.slices_together(id integer, state jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT state || jsonb_build_object(
        'failing', bool_or(s.verdict = 'undecided' AND s.checked_at IS NOT NULL),
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
    inserted bigint, updated bigint, deleted bigint, run_id bigint, differences jsonb, retry boolean,
    not_compared text, copied_anew boolean
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    r     roneo.replica := roneo.replica_of(answer);
    slice integer := (state #>> '{options,slice}')::integer;
    made  bigint;
    above text    := CASE WHEN state ->> 'verdict' <> 'undecided' THEN state #>> '{subject,not_compared}' END;
    anew  boolean := state ->> 'verdict' <> 'undecided' AND coalesce((state #>> '{subject,counted}')::boolean, false)
                     AND NOT coalesce((state #>> '{options,skipped}')::boolean, false);
BEGIN
    IF state ->> 'verdict' = 'repaired' THEN
        made := roneo.record_repair(r, answer, state, facts);
    END IF;
    state := state || jsonb_build_object('noted', nullif(concat_ws('; ', state ->> 'why', above,
        CASE WHEN anew THEN 'copied anew first: only that copy was compared' END), ''));
    IF slice IS NOT NULL THEN
        PERFORM roneo.record_slice(r.replica_id, slice, state);
        PERFORM roneo.record_verdict(r.replica_id, roneo.slices_together(r.replica_id, state || jsonb_build_object('why', state -> 'noted')));
    ELSIF coalesce(state #>> '{options,from}', state #>> '{options,to}') IS NULL AND NOT coalesce((state ->> 'again')::boolean, false) THEN
        PERFORM roneo.record_verdict(r.replica_id, state || jsonb_build_object('whole', true, 'since', clock_timestamp(), 'why', state -> 'noted'));
    END IF;
    RETURN QUERY SELECT format('%I.%I', r.dest_schema, r.dest_name), state ->> 'verdict', state ->> 'why',
        (state ->> 'rows_there')::bigint, (state ->> 'rows_here')::bigint,
        coalesce((state ->> 'missing')::bigint, e.none), coalesce((state ->> 'extra')::bigint, e.none), coalesce((state ->> 'changed')::bigint, e.none),
        (state ->> 'inserted')::bigint, (state ->> 'updated')::bigint, (state ->> 'deleted')::bigint,
        made, coalesce(state -> 'shown', '[]'), coalesce((state ->> 'again')::boolean, false), above, anew
        FROM (SELECT CASE state ->> 'verdict' WHEN 'equal' THEN 0 END::bigint AS none) AS e;
END;
$$;
COMMENT ON FUNCTION roneo.verify_finish(jsonb, jsonb, jsonb) IS
    'Keeps the verdict of a verification that is done, and returns it. facts: started_at, seconds, runner. retry: the source was changing, and the whole is to be done again with the option force. not_compared: which rows are not to be here yet; NULL: there can be none. copied_anew: the refresh copied all of it, and so only that copy was compared.';

-- The slices of a replica whose source is away fail alike, and are told in one row.
CREATE OR REPLACE FUNCTION roneo.same_failure(id integer, sqlstate_code text, message text, facts jsonb)
RETURNS bigint LANGUAGE sql STABLE
RETURN (
    SELECT u.run_id
    FROM (SELECT v.* FROM roneo.run AS v WHERE v.replica_id = id ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1) AS u
    WHERE u.kind = 'verify' AND u.sqlstate = sqlstate_code AND u.message = concat_ws(': ', facts ->> 'step', same_failure.message)
      AND u.hand = coalesce(facts ->> 'hand', 'sql') AND u.runner IS NOT DISTINCT FROM facts ->> 'runner'
      AND u.started_at > clock_timestamp() - interval '1 day');
COMMENT ON FUNCTION roneo.same_failure(integer, text, text, jsonb) IS
    'The run that already tells of such a failed verification; NULL: the last run of the replica tells something else.';

-- Whatever of it failed, its refresh too: that one was not due, and when it is it will meet the same
-- error, and count it. So a verification moves no schedule, and nothing into quarantine.
CREATE OR REPLACE FUNCTION roneo.record_failed_verification(
    dest regclass, options jsonb, sqlstate_code text, message text, detail text, hint text, facts jsonb)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r     roneo.replica;
    ended bigint := (facts ->> 'run_id')::bigint;
    slice integer := (options ->> 'slice')::integer;
    state jsonb;
BEGIN
    -- Only the answer to the COMMIT was lost: what it committed says how it ended.
    IF EXISTS (SELECT FROM roneo.run AS u WHERE u.run_id = ended AND u.outcome IN ('ok', 'unchanged')) THEN
        RETURN (SELECT u.outcome FROM roneo.run AS u WHERE u.run_id = ended);
    END IF;
    SELECT k.* INTO STRICT r FROM roneo.replica AS k WHERE k.dest = record_failed_verification.dest;
    PERFORM roneo.note_pause(r.source_id, sqlstate_code, record_failed_verification.message);
    ended := roneo.end_failed_run(r, 'verify', coalesce(ended, roneo.same_failure(r.replica_id, sqlstate_code, record_failed_verification.message, facts)),
        sqlstate_code, record_failed_verification.message, detail, hint, facts);
    -- Who cancels a verification, or comes while others hold the lock, need not be told of it by an alarm.
    state := jsonb_build_object('verdict', 'undecided', 'why', record_failed_verification.message, 'failing', true,
        'failed_run', CASE WHEN roneo.failure_outcome(sqlstate_code) = 'failed' AND NOT coalesce((facts ->> 'cancelled')::boolean, false) THEN ended END);
    IF slice IS NOT NULL THEN
        PERFORM roneo.record_slice(r.replica_id, slice, state);
        PERFORM roneo.record_verdict(r.replica_id, roneo.slices_together(r.replica_id, state));
    ELSIF options IS NOT NULL AND coalesce(options ->> 'from', options ->> 'to') IS NULL THEN
        PERFORM roneo.record_verdict(r.replica_id, state);
    END IF;
    PERFORM roneo.forget_old_runs(r.replica_id);
    RETURN roneo.failure_outcome(sqlstate_code);
END;
$$;
COMMENT ON FUNCTION roneo.record_failed_verification(regclass, jsonb, text, text, text, text, jsonb) IS
    'Records a verification that was rolled back, with the refresh it began with, in a transaction of its own: as a run of kind verify, which counts as no refresh, and that there is no verdict. options: as of verify_start; NULL: of another one of its refresh group. Returns failed, or deferred, as record_failure does.';

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
