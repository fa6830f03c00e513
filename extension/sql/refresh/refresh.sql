-- A table that cannot be locked is judged by the plan: it knows what to say of one that is gone,
-- and where it can be read all the same, its files are compared.
CREATE OR REPLACE FUNCTION roneo.lock_over_link(link text, locks text[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lock text;
BEGIN
    FOREACH lock IN ARRAY locks LOOP
        BEGIN
            PERFORM roneo.tell_link(link, lock);
        EXCEPTION WHEN undefined_table OR insufficient_privilege OR wrong_object_type THEN
            -- With it the locks before are gone.
            PERFORM roneo.tell_link(link, 'ROLLBACK');
            PERFORM roneo.tell_link(link, roneo.source_opening());
            PERFORM roneo.lock_over_link(link, array_remove(locks, lock));
            RETURN;
        END;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.lock_over_link(text, text[]) IS
    'Locks tables of the source before its snapshot is taken; opens the transaction anew where one cannot be locked.';

CREATE OR REPLACE FUNCTION roneo.answers_over_link(begun jsonb, options jsonb, link text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one     jsonb;
    before  jsonb := '{}';
    answers jsonb := '[]';
BEGIN
    FOR one IN SELECT b FROM jsonb_array_elements(begun) AS b LOOP
        before := before || jsonb_build_object(one ->> 'replica_id', roneo.ask_link(link, one ->> 'before')::jsonb);
    END LOOP;
    PERFORM roneo.tell_link(link, roneo.source_opening());
    PERFORM roneo.lock_over_link(link, ARRAY(
        SELECT b.one ->> 'lock' FROM jsonb_array_elements(begun) WITH ORDINALITY AS b (one, nr)
        WHERE b.one ->> 'lock' IS NOT NULL ORDER BY b.nr));
    PERFORM roneo.limit_link(link);
    FOR one IN SELECT b FROM jsonb_array_elements(begun) AS b LOOP
        answers := answers || jsonb_build_object(
            'replica_id', one -> 'replica_id', 'hand', 'sql', 'options', options,
            'before', before -> (one ->> 'replica_id'), 'inside', roneo.ask_link(link, one ->> 'inside')::jsonb);
    END LOOP;
    RETURN answers;
END;
$$;
COMMENT ON FUNCTION roneo.answers_over_link(jsonb, jsonb, text) IS
    'Second phase of the SQL hand: asks the source for all that begin_refresh returned, in one transaction, and leaves that open.';

-- dblink hands over bytes as they are; those of a SQL_ASCII source nobody has checked.
CREATE OR REPLACE FUNCTION roneo.require_known_encoding(answers jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF answers #>> '{0,before,identity,encoding}' = 'SQL_ASCII'
       AND current_setting('server_encoding') <> 'SQL_ASCII' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = 'rows of a SQL_ASCII source cannot be read over dblink',
            DETAIL  = 'Nothing would check that their bytes are characters here.',
            HINT    = 'Refresh with the roneo program, and tell create_source the source_encoding.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_known_encoding(jsonb) IS
    'Raises RO007 for a SQL_ASCII source, whose bytes dblink would store unchecked.';

CREATE OR REPLACE FUNCTION roneo.run_steps(answers jsonb, link text, begun jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    planned  record;
    report   jsonb;
    reports  jsonb := '[]';
    began    timestamptz;
    deferred boolean := false;
BEGIN
    FOR planned IN
        SELECT p.*, p.ordinality = max(p.ordinality) FILTER (WHERE p.kind IN ('transfer', 'check')) OVER () AS is_last_read,
               b.one ->> 'dest_owner' AS owner, ROW(p.stage, p.kind, p.purpose, p.statement, p.into_table, p.into_list,
               p.into_types, NULL, NULL, p.counts, p.patient)::roneo.step AS step
        FROM roneo.plan_refresh(answers) WITH ORDINALITY AS p
        JOIN jsonb_array_elements(begun) AS b (one) ON (b.one ->> 'replica_id')::integer = p.replica_id
        ORDER BY p.ordinality
    LOOP
        began := clock_timestamp();
        PERFORM roneo.require_time();
        report := CASE WHEN deferred THEN '{"outcome": "skipped"}'
                       ELSE roneo.run_step(planned.kind, planned.step, link, planned.owner) END;
        report := '{"outcome": "done"}'::jsonb || report || jsonb_build_object(
            'number', planned.number, 'stage', planned.stage, 'kind', planned.kind,
            'purpose', planned.purpose, 'counts', planned.counts,
            'seconds', round(extract(epoch FROM clock_timestamp() - began)::numeric, 3));
        deferred := deferred OR report ->> 'outcome' = 'deferred';
        -- Indexes are built without holding up the source; a verification compares in this snapshot.
        PERFORM roneo.release_link(link)
        WHERE planned.is_last_read AND NOT coalesce((answers #>> '{0,options,verify}')::boolean, false);
        reports := reports || (report || jsonb_build_object('replica_id', planned.replica_id));
    END LOOP;
    RETURN reports;
END;
$$;
COMMENT ON FUNCTION roneo.run_steps(jsonb, text, jsonb) IS
    'Plans a refresh and executes its steps over dblink, each as the owner of its destination; returns the report of each. After a step that was deferred the rest is skipped.';

CREATE OR REPLACE FUNCTION roneo.results_of(begun jsonb, reports jsonb, began timestamptz)
RETURNS jsonb LANGUAGE sql VOLATILE
RETURN (
    SELECT jsonb_agg(jsonb_build_object(
        'replica_id', b.one -> 'replica_id', 'started_at', began,
        'seconds', extract(epoch FROM clock_timestamp() - began),
        'planned', jsonb_array_length(s.steps), 'steps', s.steps))
    FROM jsonb_array_elements(begun) AS b (one)
    CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_agg(r.step - 'replica_id' ORDER BY r.nr), '[]') AS steps
        FROM jsonb_array_elements(reports) WITH ORDINALITY AS r (step, nr)
        WHERE r.step -> 'replica_id' = b.one -> 'replica_id') AS s
);
COMMENT ON FUNCTION roneo.results_of(jsonb, jsonb, timestamptz) IS 'What finish_refresh is told of each replica.';

CREATE OR REPLACE FUNCTION roneo.begin_over_link(dest regclass)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    begun jsonb := (SELECT jsonb_agg(to_jsonb(b) ORDER BY b.replica_id) FROM roneo.begin_refresh(ARRAY[dest]) AS b);
    busy  text := (SELECT x.one ->> 'dest' FROM jsonb_array_elements(begun) AS x (one) WHERE x.one ->> 'state' = 'busy' LIMIT 1);
BEGIN
    IF busy IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO002',
            MESSAGE = format('%s is being refreshed by another session', busy),
            HINT    = 'There is nothing to do: that refresh brings it up to date.';
    END IF;
    RETURN begun;
END;
$$;
COMMENT ON FUNCTION roneo.begin_over_link(regclass) IS
    'First phase of the SQL hand: what begin_refresh returns for a replica and its group; raises RO002 where one of them is being refreshed.';

-- What a refresh and a verification have in common. The connection stays open for who called.
CREATE OR REPLACE FUNCTION roneo.bring_over_link(
    dest regclass, options jsonb, OUT link text, OUT answer jsonb, OUT dest_owner name, OUT began timestamptz,
    OUT run_id bigint, OUT outcome text, OUT again boolean, OUT message text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    begun   jsonb;
    answers jsonb;
    reports jsonb;
    owner   name;
    -- A snapshot whose view is built anew has another oid afterwards.
    asked   integer := (SELECT r.replica_id FROM roneo.replica AS r WHERE r.dest = bring_over_link.dest);
BEGIN
    began := clock_timestamp();
    begun := roneo.begin_over_link(bring_over_link.dest);
    link := roneo.open_guarded_link(bring_over_link.dest, begun #>> '{0,source_name}');
    answers := roneo.answers_over_link(begun, options, link);
    PERFORM roneo.require_known_encoding(answers);
    reports := roneo.run_steps(answers, link, begun);
    -- What a deferred constraint has against the rows is to be recorded, and not to fail the COMMIT.
    FOR owner IN SELECT DISTINCT b.one ->> 'dest_owner' FROM jsonb_array_elements(begun) AS b (one) LOOP
        PERFORM roneo.run_as(owner, 'SET CONSTRAINTS ALL IMMEDIATE');
    END LOOP;
    SELECT f.run_id, f.outcome, f.again, f.message INTO STRICT run_id, outcome, again, message
    FROM roneo.finish_refresh(answers, roneo.results_of(begun, reports, began)) AS f
    WHERE f.replica_id = asked;
    answer := (SELECT a FROM jsonb_array_elements(answers) AS a WHERE (a ->> 'replica_id')::integer = asked);
    dest_owner := (SELECT b.one ->> 'dest_owner' FROM jsonb_array_elements(begun) AS b (one) WHERE (b.one ->> 'replica_id')::integer = asked);
END;
$$;
COMMENT ON FUNCTION roneo.bring_over_link(regclass, jsonb) IS
    'All four phases of one refresh by the SQL hand, of a replica with its group: what the source answered about that replica, and how it ended.';

CREATE OR REPLACE FUNCTION roneo.end_over_link(link text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.close_link(link);
    PERFORM set_config('roneo.limits', '', true);
END;
$$;
COMMENT ON FUNCTION roneo.end_over_link(text) IS 'Ends what bring_over_link has begun: its connection and its limits.';

CREATE OR REPLACE FUNCTION roneo.refresh_over_link(dest regclass, options jsonb)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    brought record;
BEGIN
    SELECT b.* INTO STRICT brought FROM roneo.bring_over_link(dest, options) AS b;
    PERFORM roneo.end_over_link(brought.link);
    RETURN brought.run_id;
END;
$$;
COMMENT ON FUNCTION roneo.refresh_over_link(regclass, jsonb) IS
    'One refresh by the SQL hand, of a replica with its group; returns its run.';

CREATE OR REPLACE FUNCTION roneo.refresh_or_stage(dest regclass, options jsonb)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN roneo.refresh_over_link(dest, options);
EXCEPTION WHEN SQLSTATE 'RO027' THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link_of(dest);
    RETURN roneo.refresh_over_link(dest, options || '{"staging": true}');
END;
$$;
COMMENT ON FUNCTION roneo.refresh_or_stage(regclass, jsonb) IS
    'One refresh; anew, by way of staging, where rows were there that were not expected. Returns its run.';

CREATE OR REPLACE FUNCTION roneo.refresh_with(dest regclass, raise_errors boolean, options jsonb)
RETURNS roneo.run LANGUAGE plpgsql
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
DECLARE
    began   timestamptz := clock_timestamp();
    done    roneo.run;
    code    text;
    message text;
    detail  text;
    hint    text;
    context text;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    BEGIN
        done.run_id := roneo.refresh_or_stage(dest, options);
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        -- A dblink connection stays open after a rollback.
        PERFORM roneo.close_link_of(dest);
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                                detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
                                context = PG_EXCEPTION_CONTEXT;
        -- What was cancelled on the source is a failure like any other.
        IF raise_errors OR (code = '57014' AND context !~ 'on (unnamed )?dblink connection') THEN
            RAISE;
        END IF;
        SELECT p.* INTO code, message, detail, hint
        FROM roneo.name_limit(dest, began, code, message, detail, hint) AS p;
        PERFORM roneo.record_failure(roneo.with_group(ARRAY[dest]), code, message, nullif(detail, ''), nullif(hint, ''),
            jsonb_build_object('hand', 'sql', 'seconds', extract(epoch FROM clock_timestamp() - began)));
    END;
    SELECT u.* INTO done
    FROM roneo.run AS u
    WHERE u.run_id = coalesce(done.run_id, (
        SELECT max(v.run_id)
        FROM roneo.run AS v
        JOIN roneo.replica AS r ON r.replica_id = v.replica_id
        WHERE r.dest = refresh_with.dest AND v.kind <> 'verify'));
    RETURN done;
END;
$$;
COMMENT ON FUNCTION roneo.refresh_with(regclass, boolean, jsonb) IS
    'What roneo.refresh does, with options for the plan: drop_dependents, force, show_pending (show what an earlier refresh loaded, whatever the source looks like now).';

CREATE OR REPLACE FUNCTION roneo.refresh(
    dest regclass,
    raise_errors boolean DEFAULT false,
    drop_dependents boolean DEFAULT false,
    force boolean DEFAULT false,
    sweep boolean DEFAULT false)
RETURNS roneo.run LANGUAGE sql
RETURN roneo.refresh_with(dest, raise_errors,
    jsonb_build_object('drop_dependents', drop_dependents, 'force', force, 'sweep', sweep));
COMMENT ON FUNCTION roneo.refresh(regclass, boolean, boolean, boolean, boolean) IS
    'Brings one replica up to date now, over dblink, and returns its run. A failure leaves the destination as it was and is recorded and returned, or raised where raise_errors is true (a cancel always is, and then not recorded). drop_dependents: what depends on a view that must be rebuilt is dropped. force: copy although the source looks unchanged. sweep: an inserter or updater looks for late rows in the whole table.';

CREATE OR REPLACE FUNCTION roneo.close_link_of(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source integer;
BEGIN
    SELECT r.source_id INTO source FROM roneo.replica AS r WHERE r.dest = close_link_of.dest;
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'dblink') THEN
        PERFORM roneo.close_link(roneo.link_name(source));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.close_link_of(regclass) IS
    'Closes this session''s dblink connection to the source of a replica, where there is one.';

CREATE OR REPLACE FUNCTION roneo.plan(
    dest regclass, drop_dependents boolean DEFAULT false, force boolean DEFAULT false, sweep boolean DEFAULT false)
RETURNS SETOF roneo.step LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- begin_refresh pins these for the rest of the transaction; here they are the caller's again.
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
AS $$
DECLARE
    begun jsonb;
    link  text;
BEGIN
    begun := roneo.begin_over_link(dest);
    link := roneo.open_link(begun #>> '{0,source_name}');
    RETURN QUERY
        SELECT p.stage::smallint, p.kind, p.purpose, p.statement, p.into_table, p.into_list,
               p.into_types, NULL::text, NULL::boolean, p.counts, p.patient
        FROM roneo.plan_refresh(roneo.answers_over_link(begun,
            jsonb_build_object('drop_dependents', drop_dependents, 'force', force, 'sweep', sweep), link)) WITH ORDINALITY AS p
        ORDER BY p.ordinality;
    PERFORM roneo.close_link(link);
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link_of(dest);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.plan(regclass, boolean, boolean, boolean) IS
    'A dry run: asks the source, and returns the steps that a refresh would take now, in their order. Changes nothing. No steps: the source is unchanged.';
