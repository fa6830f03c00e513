CREATE OR REPLACE FUNCTION roneo.require_complete(r roneo.replica, result jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    SELECT CASE
        WHEN result ->> 'planned' IS NULL
             OR jsonb_agg(s.step ->> 'number' ORDER BY (s.step ->> 'number')::integer)
             IS DISTINCT FROM (SELECT jsonb_agg(n::text ORDER BY n)
                               FROM generate_series(1, (result ->> 'planned')::integer) AS n)
            THEN 'not every planned step was reported'
        WHEN bool_or(s.step ->> 'outcome' NOT IN ('done', 'deferred', 'skipped')
                     OR s.step ->> 'outcome' IS NULL)
            THEN 'a step was reported without its outcome'
        -- What waits on the step that was put off must not be done, and nothing else may be left out.
        WHEN bool_or(s.step ->> 'kind' IS DISTINCT FROM 'after' AND (s.step ->> 'outcome' = 'skipped')
                     <> coalesce((s.step ->> 'number')::integer > d.first_deferred, false))
            THEN 'the steps that were skipped are not those after one that was deferred'
        WHEN bool_or(s.step ->> 'kind' IN ('transfer', 'attempt') AND s.step ->> 'outcome' = 'done'
                     AND (s.step ->> 'sent' = s.step ->> 'received') IS NOT TRUE)
            THEN format('%s rows were sent and %s arrived', sum((s.step ->> 'sent')::bigint),
                        sum((s.step ->> 'received')::bigint))
    END INTO problem
    FROM jsonb_array_elements(nullif(result -> 'steps', 'null')) AS s (step)
    CROSS JOIN (SELECT min((f.step ->> 'number')::integer) AS first_deferred
                FROM jsonb_array_elements(nullif(result -> 'steps', 'null')) AS f (step)
                WHERE f.step ->> 'outcome' = 'deferred') AS d;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO014',
            MESSAGE = format('refresh of %I.%I is not accepted: %s', r.dest_schema, r.dest_name, problem),
            HINT    = 'Look for a trigger or a rule on the destination that swallows rows.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_complete(roneo.replica, jsonb) IS
    'Raises RO014 unless every planned step was reported and as many rows arrived as were sent.';

CREATE OR REPLACE FUNCTION roneo.require_unmoved(r roneo.replica, result jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM jsonb_array_elements(result -> 'steps') AS s (step)
               WHERE (s.step -> 'answer' ->> 'moved')::boolean) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO013',
            MESSAGE = format('source table %I.%I was rewritten while it was read',
                             r.source_schema, r.source_table),
            DETAIL  = 'TRUNCATE, ALTER TABLE or a detached partition can hide rows from a snapshot that is older.',
            HINT    = 'Nothing was changed; the next refresh reads it again.';
    ELSIF EXISTS (SELECT FROM jsonb_array_elements(result -> 'steps') AS s (step)
                  WHERE NOT (s.step -> 'answer' ->> 'on_disk')::boolean) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO013',
            MESSAGE = format('what was read of source table %I.%I is not on the source''s disk yet', r.source_schema, r.source_table),
            DETAIL  = 'With synchronous_commit off, a crash would take it back there.',
            HINT    = 'Nothing was changed; the next refresh reads it again.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_unmoved(roneo.replica, jsonb) IS
    'Raises RO013 where the files of the source are not those that the snapshot knew, or what it saw is not on disk there.';

CREATE OR REPLACE FUNCTION roneo.outcome_of(result jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN (result ->> 'planned')::integer = 0 THEN 'unchanged'
    WHEN jsonb_path_exists(result, '$.steps[*].outcome ? (@ == "deferred")') THEN 'deferred'
    ELSE 'ok'
END;
COMMENT ON FUNCTION roneo.outcome_of(jsonb) IS
    'ok, deferred, or unchanged; unchanged comes only from an empty plan, never from a count of zero.';

CREATE OR REPLACE FUNCTION roneo.counted(result jsonb, what text, field text)
RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN (
    SELECT sum((s.step ->> field)::bigint)
    FROM jsonb_array_elements(result -> 'steps') AS s (step)
    WHERE s.step ->> 'counts' = what AND s.step ->> 'outcome' = 'done'
);
COMMENT ON FUNCTION roneo.counted(jsonb, text, text) IS
    'The sum of a field over the steps that count for inserted, updated and so on.';

CREATE OR REPLACE FUNCTION roneo.identity_of(answer jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object(
    'system_identifier', answer #> '{before,identity,system_identifier}',
    'timeline',          answer #> '{before,identity,timeline}',
    'version',           answer #> '{before,identity,version}',
    'in_recovery',       answer #> '{before,identity,in_recovery}',
    'lsn',               answer #> '{before,identity,lsn}',
    'clock',             answer #> '{before,identity,clock}',
    'table',             answer #> '{inside,relation,oid}');
COMMENT ON FUNCTION roneo.identity_of(jsonb) IS 'Which cluster and table an answer came from.';

CREATE OR REPLACE FUNCTION roneo.identity_warning(r roneo.replica, answer jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN CASE
    WHEN r.identity -> 'system_identifier' <> roneo.identity_of(answer) -> 'system_identifier'
        THEN format('the source is another cluster than at the last refresh: system identifier %s was %s',
                    roneo.identity_of(answer) ->> 'system_identifier', r.identity ->> 'system_identifier')
    WHEN r.identity -> 'timeline' <> roneo.identity_of(answer) -> 'timeline'
        THEN format('the source has been promoted or restored since the last refresh: timeline %s was %s',
                    roneo.identity_of(answer) ->> 'timeline', r.identity ->> 'timeline')
    -- Two standbys need not be equally far.
    WHEN r.identity ->> 'in_recovery' = 'false' AND answer #>> '{before,identity,in_recovery}' = 'false'
         AND (r.identity ->> 'lsn')::pg_lsn > (answer #>> '{before,identity,lsn}')::pg_lsn
        THEN format('the source has gone back in time since the last refresh: its log is at %s and was at %s',
                    answer #>> '{before,identity,lsn}', r.identity ->> 'lsn')
    WHEN r.identity -> 'table' <> roneo.identity_of(answer) -> 'table'
        THEN format('source table %I.%I has been dropped and made again since the last refresh',
                    r.source_schema, r.source_table)
END;
COMMENT ON FUNCTION roneo.identity_warning(roneo.replica, jsonb) IS
    'What to tell a person when the rows came from another cluster or table than before; NULL when they did not.';

CREATE OR REPLACE FUNCTION roneo.put_counts(result jsonb, received bigint, OUT counts jsonb, OUT rest bigint)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT p.counts, received - (p.counts ->> 'inserted')::bigint - coalesce((p.counts ->> 'updated')::bigint, 0)
    FROM (SELECT jsonb_path_query_first(result, '$.steps[*] ? (@.counts == "put").answer')) AS p (counts);
END;
COMMENT ON FUNCTION roneo.put_counts(jsonb, bigint) IS
    'What the step that put rows by key says of them, and how many are left: rows that were there already.';

CREATE OR REPLACE FUNCTION roneo.wants_again(id integer, answer jsonb, outcome text)
RETURNS boolean LANGUAGE sql STABLE
RETURN outcome = 'ok' AND (
    coalesce((answer #>> '{inside,cut}')::boolean, false)
    OR coalesce((answer #>> '{inside,pending,cut}')::numeric < (answer #>> '{inside,pending,last}')::numeric, false)
    OR EXISTS (SELECT FROM roneo.control_replica AS c WHERE c.replica_id = id AND c.repulling));
COMMENT ON FUNCTION roneo.wants_again(integer, jsonb, text) IS
    'Whether another round is to follow: a batch_limit was reached, or a repull is under way.';

-- A table that seldom changes would fill the history with rows that say the same. One row stands for
-- a day of them at the most, so that days can still be told apart, and forgotten.
CREATE OR REPLACE FUNCTION roneo.prolong_run(r roneo.replica, hand text, result jsonb, warning text)
RETURNS bigint LANGUAGE sql
BEGIN ATOMIC
    UPDATE roneo.run AS u SET
        -- Named, although it stays: pg_jobmon is told where it is written.
        outcome  = 'unchanged',
        ended_at = clock_timestamp(),
        seconds  = round((result ->> 'seconds')::numeric, 3),
        runner   = result ->> 'runner',
        repeats  = u.repeats + 1
    WHERE u.run_id = (SELECT v.run_id FROM roneo.run AS v WHERE v.replica_id = r.replica_id
                      ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1)
      AND u.outcome = 'unchanged' AND u.hand = prolong_run.hand
      AND u.method = r.method AND u.dest = format('%I.%I', r.dest_schema, r.dest_name)
      AND u.warning IS NOT DISTINCT FROM prolong_run.warning
      AND u.started_at > clock_timestamp() - interval '1 day'
    RETURNING u.run_id;
END;
COMMENT ON FUNCTION roneo.prolong_run(roneo.replica, text, jsonb, text) IS
    'Lets the last row of the history stand for one more refresh that found nothing to do, and returns it; NULL where that one tells something else.';

CREATE OR REPLACE FUNCTION roneo.record_run(r roneo.replica, answer jsonb, result jsonb, ended roneo.run)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF ended.run_id IS NULL THEN
        PERFORM roneo.abandon_runs(r.replica_id);
        IF ended.outcome = 'unchanged' THEN
            ended.run_id := roneo.prolong_run(r, answer ->> 'hand', result, ended.warning);
            IF ended.run_id IS NOT NULL THEN
                RETURN ended.run_id;
            END IF;
        END IF;
        ended.run_id := roneo.new_run(r, answer ->> 'hand', ended.started_at, result ->> 'runner');
    END IF;
    UPDATE roneo.run SET
        outcome       = ended.outcome,
        ended_at      = clock_timestamp(),
        seconds       = round((result ->> 'seconds')::numeric, 3),
        rows_sent     = ended.rows_sent,
        rows_received = ended.rows_received,
        inserted      = coalesce((put.counts ->> 'inserted')::bigint, ended.rows_received),
        updated       = (put.counts ->> 'updated')::bigint,
        unchanged     = CASE WHEN r.method IN ('updater', 'dml', 'logdel') THEN put.rest - coalesce(roneo.counted(result, 'gone', 'rows'), 0) END,
        ignored       = CASE WHEN r.method NOT IN ('updater', 'dml', 'logdel') THEN put.rest END,
        has_more      = ended.has_more,
        deleted       = roneo.counted(result, 'deleted', 'rows'),
        bytes         = roneo.counted(result, 'inserted', 'bytes'),
        warning       = ended.warning,
        message       = CASE WHEN ended.outcome = 'deferred'
                             THEN 'loaded; the next refresh shows it' END,
        steps         = (SELECT jsonb_agg(s.step - 'answer' ORDER BY s.number)
                         FROM jsonb_array_elements(result -> 'steps') WITH ORDINALITY AS s (step, number))
    FROM roneo.put_counts(result, ended.rows_received) AS put
    WHERE run_id = ended.run_id;
    RETURN ended.run_id;
END;
$$;
COMMENT ON FUNCTION roneo.record_run(roneo.replica, jsonb, jsonb, roneo.run) IS
    'Writes the end of a refresh into its run, or into the last one where both found nothing to do; returns that.';

CREATE OR REPLACE FUNCTION roneo.record_end(r roneo.replica, answer jsonb, result jsonb)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ended roneo.run;
BEGIN
    ended.run_id        := (result ->> 'run_id')::bigint;
    ended.outcome       := roneo.outcome_of(result);
    ended.started_at    := coalesce((result ->> 'started_at')::timestamptz, clock_timestamp());
    ended.rows_sent     := roneo.counted(result, 'inserted', 'sent');
    ended.rows_received := roneo.counted(result, 'inserted', 'received');
    ended.has_more      := roneo.wants_again(r.replica_id, answer, ended.outcome);
    ended.warning       := nullif(concat_ws('; ', roneo.identity_warning(r, answer), answer #>> '{inside,warning}'), '');
    ended.run_id        := roneo.record_run(r, answer, result, ended);
    UPDATE roneo.replica SET
        dest            = coalesce(to_regclass(format('%I.%I', dest_schema, dest_name)), dest),
        generation      = generation + 1,
        last_attempt_at = ended.started_at,
        last_success_at = CASE WHEN ended.outcome = 'deferred' THEN last_success_at ELSE ended.started_at END,
        last_outcome    = ended.outcome,
        last_message    = NULL,
        failures        = CASE WHEN ended.outcome = 'deferred' THEN failures ELSE 0 END,
        lasting_failures = CASE WHEN ended.outcome = 'deferred' THEN lasting_failures ELSE 0 END,
        quarantined_at  = CASE WHEN ended.outcome = 'deferred' THEN quarantined_at END,
        source_kind     = coalesce((answer #>> '{inside,relation,kind}')::"char", source_kind),
        identity        = roneo.identity_of(answer),
        source_state    = CASE WHEN ended.outcome <> 'deferred' AND NOT ended.has_more THEN (answer #>> '{before,state}')::uuid END,
        looked_at       = ended.started_at
    WHERE replica_id = r.replica_id;
    RETURN ended.run_id;
END;
$$;
COMMENT ON FUNCTION roneo.record_end(roneo.replica, jsonb, jsonb) IS
    'Writes the end of a refresh into its run and its replica, and returns the run.';

CREATE OR REPLACE FUNCTION roneo.new_run(r roneo.replica, hand text, started_at timestamptz, runner text)
RETURNS bigint LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, runner)
    VALUES (r.replica_id, format('%I.%I', r.dest_schema, r.dest_name), r.method, hand, 'running',
            started_at, runner)
    RETURNING run_id;
END;
COMMENT ON FUNCTION roneo.new_run(roneo.replica, text, timestamptz, text) IS
    'A new row of the history, running.';

CREATE OR REPLACE FUNCTION roneo.abandon_runs(id integer)
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    UPDATE roneo.run SET
        outcome  = 'abandoned',
        ended_at = clock_timestamp(),
        message  = 'its hand was killed or lost the destination; nothing of it was committed'
    WHERE replica_id = id AND outcome = 'running';
END;
COMMENT ON FUNCTION roneo.abandon_runs(integer) IS
    'Ends the runs of a replica that are recorded as running. To be called by who holds its lock: whoever wrote them is gone.';

CREATE OR REPLACE FUNCTION roneo.forget_old_runs(id integer)
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    -- Without waiting for another session that forgets them too.
    DELETE FROM roneo.run
    WHERE run_id IN (
        SELECT u.run_id
        FROM roneo.run AS u
        WHERE u.replica_id = id
          AND u.ended_at IS NOT NULL
          AND u.started_at < now() - make_interval(days => roneo.setting('history_days'))
          -- One that stands for many refreshes is as old as the last of them.
          AND (u.repeats = 1 OR u.ended_at < now() - make_interval(days => roneo.setting('history_days')))
        FOR UPDATE SKIP LOCKED);
END;
COMMENT ON FUNCTION roneo.forget_old_runs(integer) IS
    'Deletes the runs of a replica that are older than the setting history_days.';

CREATE OR REPLACE FUNCTION roneo.finish_methods(ended roneo.ended[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_method text;
BEGIN
    FOR found_method IN
        SELECT DISTINCT r.method
        FROM unnest(ended) AS e
        JOIN roneo.replica AS r ON r.replica_id = e.replica_id
        ORDER BY 1
    LOOP
        EXECUTE format(
            'SELECT roneo.%I(array_agg(e))
             FROM unnest($1) AS e
             JOIN roneo.replica AS r ON r.replica_id = e.replica_id
             WHERE r.method = $2', concat('finish_', found_method))
        USING ended, found_method;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.finish_methods(roneo.ended[]) IS
    'Lets each method store the positions of its replicas: one call a method.';

CREATE OR REPLACE FUNCTION roneo.finish_refresh(answers jsonb, results jsonb)
RETURNS TABLE (
    replica_id integer, run_id bigint, outcome text, again boolean, message text, warning text,
    rows_sent bigint, rows_received bigint, inserted bigint, updated bigint, unchanged bigint,
    ignored bigint, deleted bigint, bytes bigint
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    one   roneo.ended;
    ended roneo.ended[];
    r     roneo.replica;
    runs  bigint[];
BEGIN
    SELECT array_agg(ROW((a.answer ->> 'replica_id')::integer, a.answer, b.result)::roneo.ended)
    INTO ended
    FROM jsonb_array_elements(answers) AS a (answer)
    LEFT JOIN jsonb_array_elements(results) AS b (result)
        ON b.result ->> 'replica_id' = a.answer ->> 'replica_id';
    FOREACH one IN ARRAY ended LOOP
        SELECT * INTO STRICT r FROM roneo.replica AS known WHERE known.replica_id = one.replica_id;
        PERFORM roneo.require_complete(r, one.result);
        PERFORM roneo.require_unmoved(r, one.result);
    END LOOP;
    PERFORM roneo.finish_methods(ended);
    FOREACH one IN ARRAY ended LOOP
        SELECT * INTO STRICT r FROM roneo.replica AS known WHERE known.replica_id = one.replica_id;
        runs := array_append(runs, roneo.record_end(r, one.answer, one.result));
        PERFORM roneo.forget_old_runs(one.replica_id);
    END LOOP;
    RETURN QUERY
        SELECT u.replica_id, u.run_id, u.outcome, coalesce(u.has_more, false), u.message, u.warning,
               u.rows_sent, u.rows_received, u.inserted, u.updated, u.unchanged,
               u.ignored, u.deleted, u.bytes
        FROM roneo.run AS u
        WHERE u.run_id = ANY (runs)
        ORDER BY 1;
END;
$$;
COMMENT ON FUNCTION roneo.finish_refresh(jsonb, jsonb) IS
    'Fourth phase, in the transaction of the steps: checks the accounting, stores the positions and the runs. Raises RO013, RO014 or RO016, and then nothing of the refresh may be committed.';

CREATE OR REPLACE FUNCTION roneo.record_start(dest regclass, runner text)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r roneo.replica;
BEGIN
    SELECT known.* INTO r FROM roneo.replica AS known WHERE known.dest = record_start.dest;
    -- The caller holds the lock in another transaction.
    PERFORM roneo.abandon_runs(r.replica_id);
    RETURN roneo.new_run(r, 'runner', clock_timestamp(), runner);
END;
$$;
COMMENT ON FUNCTION roneo.record_start(regclass, text) IS
    'Records that a refresh is running, in a transaction of its own, so that one that was killed is seen afterwards. To be called while another transaction of the caller holds the lock on the replica.';

CREATE OR REPLACE FUNCTION roneo.failure_outcome(sqlstate_code text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN sqlstate_code IN ('55P03', 'RO002', 'RO013', 'RO016', 'RO020', 'RO026', 'RO032', 'RO033') THEN 'deferred' ELSE 'failed' END;
COMMENT ON FUNCTION roneo.failure_outcome(text) IS
    'deferred where another attempt is all that is needed, else failed.';

CREATE OR REPLACE FUNCTION roneo.failure_hint(r roneo.replica, sqlstate_code text, message text)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN sqlstate_code IN ('3F000', '42P01', '42883', '42501') AND message ~ 'roneo_capture|queue_[0-9]+_[0-2]' THEN format(
    'The source has lost what captures its changes, or this role may not use it any more: SELECT roneo.resync(%L) makes it again; roneo.capture_script prints it.',
    format('%I.%I', r.dest_schema, r.dest_name)) END;
COMMENT ON FUNCTION roneo.failure_hint(roneo.replica, text, text) IS 'What helps against an error of the source that PostgreSQL knows no hint for.';

CREATE OR REPLACE FUNCTION roneo.end_failed_run(
    r roneo.replica, kind text, known bigint, sqlstate_code text, message text, detail text, hint text, facts jsonb)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ended bigint := coalesce(known, roneo.new_run(r, coalesce(facts ->> 'hand', 'sql'),
        clock_timestamp() - make_interval(secs => coalesce((facts ->> 'seconds')::float8, 0)), facts ->> 'runner'));
BEGIN
    UPDATE roneo.run AS u SET
        kind    = end_failed_run.kind,
        outcome = roneo.failure_outcome(sqlstate_code), ended_at = clock_timestamp(),
        seconds = round((facts ->> 'seconds')::numeric, 3), sqlstate = sqlstate_code,
        message = concat_ws(': ', facts ->> 'step', end_failed_run.message),
        detail  = end_failed_run.detail,
        hint    = coalesce(end_failed_run.hint, roneo.failure_hint(r, sqlstate_code, end_failed_run.message))
    WHERE u.run_id = ended;
    RETURN ended;
END;
$$;
COMMENT ON FUNCTION roneo.end_failed_run(roneo.replica, text, bigint, text, text, text, text, jsonb) IS
    'Writes an error into a run of a replica, or into a new one where none is known; returns that.';

CREATE OR REPLACE FUNCTION roneo.record_failure(
    dests regclass[], sqlstate_code text, message text, detail text, hint text, facts jsonb)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r       roneo.replica;
    ended   bigint := (facts ->> 'run_id')::bigint;
    failure text := roneo.failure_outcome(sqlstate_code);
BEGIN
    -- Only the answer to the COMMIT was lost: what it committed says how the refresh ended.
    IF EXISTS (SELECT FROM roneo.run AS u WHERE u.run_id = ended AND u.outcome IN ('ok', 'unchanged')) THEN
        RETURN (SELECT u.outcome FROM roneo.run AS u WHERE u.run_id = ended);
    END IF;
    FOR r IN SELECT known.* FROM roneo.replica AS known WHERE known.dest = ANY (dests) LOOP
        PERFORM roneo.note_pause(r.source_id, sqlstate_code, record_failure.message);
        PERFORM roneo.end_failed_run(r, 'refresh',
            coalesce((facts ->> 'run_id')::bigint, roneo.same_pause(r.replica_id, sqlstate_code)),
            sqlstate_code, record_failure.message, detail, hint, facts);
        IF roneo.count_failure(r.replica_id, failure, sqlstate_code, record_failure.message) THEN
            RAISE WARNING USING
                MESSAGE = format('%I.%I is in quarantine: it is not refreshed any more until it is released', r.dest_schema, r.dest_name),
                HINT    = format('Mend it, then: SELECT roneo.release(%L);', format('%I.%I', r.dest_schema, r.dest_name));
        END IF;
        PERFORM roneo.forget_old_runs(r.replica_id);
    END LOOP;
    RETURN failure;
END;
$$;
COMMENT ON FUNCTION roneo.record_failure(regclass[], text, text, text, text, jsonb) IS
    'Records a refresh that was rolled back, in a transaction of its own; returns failed, or deferred for those SQLSTATEs that only ask for another attempt. A run that was committed after all keeps its outcome, and that is returned.';
