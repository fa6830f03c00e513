-- Verifications and repairs by the SQL hand, over dblink. The runner does the same over COPY.

-- Both sides work at the same time.
CREATE OR REPLACE FUNCTION roneo.compare_over_link(link text, there text, here text, owner name)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    theirs jsonb;
    ours   jsonb;
BEGIN
    EXECUTE format('SELECT %s($1, $2)', roneo.dblink_function('dblink_send_query')) USING link, there;
    ours := roneo.ask_as(owner, here);
    EXECUTE format('SELECT answer::jsonb FROM %s($1) AS t (answer text)', roneo.dblink_function('dblink_get_result')) INTO STRICT theirs USING link;
    -- Only an empty result sets the connection free.
    EXECUTE format('SELECT answer FROM %s($1) AS t (answer text)', roneo.dblink_function('dblink_get_result')) USING link;
    RETURN jsonb_build_object('answer', jsonb_build_object('there', theirs, 'here', ours));
END;
$$;
COMMENT ON FUNCTION roneo.compare_over_link(text, text, text, name) IS 'Runs a query on the source and one here, and returns both answers.';

CREATE OR REPLACE FUNCTION roneo.phase_over_link(answer jsonb, state jsonb, link text, owner name)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    planned record;
    report  jsonb;
    reports jsonb := '[]';
BEGIN
    FOR planned IN
        SELECT p.*, ROW(p.stage, p.kind, p.purpose, p.statement, p.into_table, p.into_list, p.into_types, NULL, NULL, p.counts, p.patient)::roneo.step AS step
        FROM roneo.verify_plan(answer, state) AS p ORDER BY p.number
    LOOP
        report := CASE planned.kind WHEN 'compare' THEN roneo.compare_over_link(link, planned.statement, planned.here, owner)
                                    ELSE roneo.run_step(planned.kind, planned.step, link, owner) END;
        reports := reports || ('{"outcome": "done"}'::jsonb || report || jsonb_build_object(
            'number', planned.number, 'kind', planned.kind, 'purpose', planned.purpose, 'counts', planned.counts));
    END LOOP;
    RETURN reports;
END;
$$;
COMMENT ON FUNCTION roneo.phase_over_link(jsonb, jsonb, text, name) IS 'Executes what verify_plan says is next; returns the report of each step.';

CREATE OR REPLACE FUNCTION roneo.verify_over_link(dest regclass, options jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    brought record;
    state   jsonb;
BEGIN
    -- With this option the snapshot of the source stays open.
    SELECT b.* INTO STRICT brought FROM roneo.bring_over_link(dest, options || '{"verify": true}') AS b;
    IF brought.again OR brought.outcome = 'deferred' THEN
        PERFORM roneo.end_over_link(brought.link);
        RETURN jsonb_build_object('again', brought.again, 'verdict', 'undecided', 'why', coalesce(brought.message, 'there is more to read first'));
    END IF;
    state := roneo.verify_start(brought.answer,
        options || jsonb_build_object('skipped', brought.outcome = 'unchanged', 'state', brought.answer #> '{before,state}'));
    WHILE state ->> 'phase' <> 'done' LOOP
        state := roneo.verify_judge(brought.answer, state,
            roneo.phase_over_link(brought.answer, state, brought.link, brought.dest_owner));
    END LOOP;
    PERFORM roneo.run_as(brought.dest_owner, 'SET CONSTRAINTS ALL IMMEDIATE');
    PERFORM roneo.tell_link(brought.link, 'ROLLBACK');
    PERFORM roneo.end_over_link(brought.link);
    RETURN (SELECT to_jsonb(f) FROM roneo.verify_finish(brought.answer, state, jsonb_build_object(
        'started_at', brought.began, 'seconds', extract(epoch FROM clock_timestamp() - brought.began))) AS f);
END;
$$;
COMMENT ON FUNCTION roneo.verify_over_link(regclass, jsonb) IS 'Refreshes a replica and compares it with its source in the same snapshot.';

CREATE OR REPLACE FUNCTION roneo.verify_or_stage(dest regclass, options jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN roneo.verify_over_link(dest, options);
EXCEPTION WHEN SQLSTATE 'RO027' THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link_of(dest);
    RETURN roneo.verify_over_link(dest, options || '{"staging": true}');
END;
$$;
COMMENT ON FUNCTION roneo.verify_or_stage(regclass, jsonb) IS
    'The same; anew, by way of staging, where the refresh met rows that were not expected.';

CREATE OR REPLACE FUNCTION roneo.verify_with(dest regclass, options jsonb)
RETURNS TABLE (
    verdict text, why text, rows_there bigint, rows_here bigint, missing bigint, extra bigint, changed bigint,
    inserted bigint, updated bigint, deleted bigint, run_id bigint, differences jsonb, not_compared text, copied_anew boolean
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, YMD'
SET IntervalStyle = 'postgres'
SET extra_float_digits = 3
SET bytea_output = 'hex'
SET xmloption = 'content'
SET lc_monetary = 'C'
SET standard_conforming_strings = 'on'
SET row_security = off
SET jit = off
SET statement_timeout = 0
SET lock_timeout = 0
SET idle_in_transaction_session_timeout = 0
SET client_min_messages = warning
AS $$
#variable_conflict use_column
DECLARE
    done    jsonb := '{"again": true}';
    began   timestamptz := clock_timestamp();
    code    text;
    message text;
    detail  text;
    hint    text;
    context text;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    options := roneo.verify_options(dest, options);
    BEGIN
        FOR attempt IN 1 .. 1000 LOOP
            done := roneo.verify_or_stage(dest, options);
            EXIT WHEN NOT coalesce((done ->> 'again')::boolean OR (done ->> 'retry')::boolean, false);
            options := options || CASE WHEN (done ->> 'retry')::boolean THEN '{"force": true}'::jsonb ELSE '{}' END;
        END LOOP;
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        -- A dblink connection stays open after a rollback.
        PERFORM roneo.close_link_of(dest);
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
                                hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
        -- What was cancelled on the source is a failure like any other.
        IF code IN ('42601', 'RO007', 'RO010', 'RO014') OR code = '57014' AND context !~ 'on (unnamed )?dblink connection' THEN
            RAISE;
        END IF;
        SELECT p.* INTO code, message, detail, hint
        FROM roneo.name_limit(dest, began, code, message, detail, hint) AS p;
        done := jsonb_build_object('verdict', 'undecided', 'why', message);
        -- Who holds the lock records what comes of it.
        PERFORM roneo.record_failed_verification(dest, options, code, message, nullif(detail, ''), nullif(hint, ''),
            jsonb_build_object('hand', 'sql', 'seconds', extract(epoch FROM clock_timestamp() - began))) WHERE code <> 'RO002';
    END;
    RETURN QUERY SELECT done ->> 'verdict', done ->> 'why', (done ->> 'rows_there')::bigint, (done ->> 'rows_here')::bigint,
        (done ->> 'missing')::bigint, (done ->> 'extra')::bigint, (done ->> 'changed')::bigint,
        (done ->> 'inserted')::bigint, (done ->> 'updated')::bigint, (done ->> 'deleted')::bigint, (done ->> 'run_id')::bigint,
        coalesce(done -> 'differences', '[]'), done ->> 'not_compared', coalesce((done ->> 'copied_anew')::boolean, false);
END;
$$;
COMMENT ON FUNCTION roneo.verify_with(regclass, jsonb) IS 'What roneo.verify and roneo.repair do, with the options of verify_start.';

CREATE OR REPLACE FUNCTION roneo.verify(
    dest regclass, from_value text DEFAULT NULL, to_value text DEFAULT NULL, show integer DEFAULT 100, show_values boolean DEFAULT false,
    deletes boolean DEFAULT NULL)
RETURNS TABLE (
    verdict text, why text, rows_there bigint, rows_here bigint, missing bigint, extra bigint, changed bigint, differences jsonb,
    not_compared text, copied_anew boolean
)
LANGUAGE sql
BEGIN ATOMIC
    SELECT v.verdict, v.why, v.rows_there, v.rows_here, v.missing, v.extra, v.changed, v.differences, v.not_compared, v.copied_anew
    FROM roneo.verify_with(dest, jsonb_build_object('from', from_value, 'to', to_value, 'show', show, 'values', show_values, 'deletes', deletes)) AS v;
END;
COMMENT ON FUNCTION roneo.verify(regclass, text, text, integer, boolean, boolean) IS
    'Refreshes a replica, and compares all its rows with those of its source in the same snapshot, over dblink. from_value, to_value: only this half-open range of the control column, or of the first column of the key. show: how many differences are named, by key; show_values: with the values that differ. deletes: whether rows that the source has no more are a difference; NULL: as set_verification says, else for all methods but inserter. Returns one row: verdict (equal, differs, undecided), why it is undecided, numbers of rows there and here, missing here, extra here, and changed; not_compared: which rows are not to be here yet, where there can be any; copied_anew: its refresh copied the whole, and only that copy was compared.';

CREATE OR REPLACE FUNCTION roneo.repair(
    dest regclass, apply boolean DEFAULT false, from_value text DEFAULT NULL, to_value text DEFAULT NULL, deletes boolean DEFAULT NULL,
    most_deleted numeric DEFAULT 10, show integer DEFAULT 100, show_values boolean DEFAULT false)
RETURNS TABLE (
    verdict text, why text, missing bigint, extra bigint, changed bigint, inserted bigint, updated bigint, deleted bigint, run_id bigint, differences jsonb,
    not_compared text, copied_anew boolean
)
LANGUAGE sql
BEGIN ATOMIC
    SELECT v.verdict, v.why, v.missing, v.extra, v.changed, v.inserted, v.updated, v.deleted, v.run_id, v.differences, v.not_compared, v.copied_anew
    FROM roneo.verify_with(dest, jsonb_build_object('repair', true, 'apply', coalesce(apply, false), 'from', from_value, 'to', to_value, 'deletes', deletes,
        'most_deleted', most_deleted, 'show', show, 'values', show_values)) AS v;
END;
COMMENT ON FUNCTION roneo.repair(regclass, boolean, text, text, boolean, numeric, integer, boolean) IS
    'Does what roneo.verify does, and brings exactly the rows that differ in line, in the same transaction. apply => false, the default, only says what would be done. deletes: also removes rows that the source has no more; NULL: as set_verification says, else for all methods but inserter. most_deleted: it removes nothing at all where that would be more than this percentage of the rows. Returns one row: verdict repaired, equal, undecided, or differs, and why it was not repaired. A repair is a run in roneo.run, of kind repair.';
