-- How the SQL hand executes one step. The runner does the same with two connections of its own.

-- Both counts come from one statement: a loop that ends on the rows inserted would end early
-- where a trigger swallows a batch. Where the table references itself all rows are one batch: a
-- row may reference one that comes later.
CREATE OR REPLACE FUNCTION roneo.fetch_statement(s roneo.step, link text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format(
        'WITH fetched AS MATERIALIZED (SELECT * FROM %1$s AS f (%2$s)),
              put AS (INSERT INTO %3$s%4$s SELECT %5$s FROM fetched RETURNING 1)
         SELECT (SELECT count(*) FROM fetched), (SELECT count(*) FROM put),
                (SELECT coalesce(sum(pg_column_size(fetched)), 0) FROM fetched)',
        CASE WHEN EXISTS (SELECT FROM pg_constraint AS c
                          WHERE c.contype = 'f' AND c.conrelid = to_regclass(s.into_table) AND c.confrelid = c.conrelid)
             THEN format('%s(%L, ''FETCH ALL FROM roneo'')', roneo.dblink_function('dblink'), link)
             ELSE format('%s(%L, ''roneo'', $1)', roneo.dblink_function('dblink_fetch'), link) END,
        s.into_types, s.into_table,
        CASE WHEN s.into_list = '' THEN '' ELSE format(' (%s) OVERRIDING SYSTEM VALUE', s.into_list) END,
        s.into_list);
END;
$$;
COMMENT ON FUNCTION roneo.fetch_statement(roneo.step, text) IS
    'A statement that moves one batch, of $1 rows (all of them where the table references itself), and counts the rows fetched, the rows put, and the bytes.';

CREATE OR REPLACE FUNCTION roneo.become(owner name)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- In a definer function of that owner the role is right already, and must not be set.
    IF owner <> current_user THEN
        PERFORM set_config('role', owner, true);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.become(name) IS
    'Sets the role for the rest of the transaction, or until it is set back: steps run as the destination''s owner.';

CREATE OR REPLACE FUNCTION roneo.transfer_over_link(s roneo.step, link text, owner name)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Rows of unknown width: the first batch is small, and the next ones about eight megabytes.
    batch    integer := 100;
    one_batch text := roneo.fetch_statement(s, link);
    caller   text := current_setting('role');
    fetched  bigint;
    put      bigint;
    size     bigint;
    sent     bigint := 0;
    received bigint := 0;
    bytes    bigint := 0;
BEGIN
    EXECUTE format('SELECT %s($1, ''roneo'', $2)', roneo.dblink_function('dblink_open'))
    USING link, CASE WHEN s.into_list = ''
                     THEN format('SELECT NULL::pg_catalog.bool FROM (%s) AS source', s.statement)
                     ELSE s.statement END;
    PERFORM roneo.become(owner);
    LOOP
        EXECUTE one_batch INTO fetched, put, size USING batch;
        EXIT WHEN fetched = 0;
        sent := sent + fetched;
        received := received + put;
        bytes := bytes + size;
        batch := least(50000, greatest(1, 8388608 * fetched / greatest(size, 1)));
    END LOOP;
    PERFORM set_config('role', caller, true) WHERE caller <> current_setting('role');
    EXECUTE format('SELECT %s($1, ''roneo'')', roneo.dblink_function('dblink_close')) USING link;
    RETURN jsonb_build_object('sent', sent, 'received', received, 'bytes', bytes);
END;
$$;
COMMENT ON FUNCTION roneo.transfer_over_link(roneo.step, text, name) IS
    'Moves the rows of a transfer step over dblink, in batches of about eight megabytes.';

CREATE OR REPLACE FUNCTION roneo.run_as(owner name, statement text)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    caller text := current_setting('role');
    moved  bigint;
BEGIN
    PERFORM roneo.become(owner);
    EXECUTE statement;
    GET DIAGNOSTICS moved = ROW_COUNT;
    PERFORM set_config('role', caller, true) WHERE caller <> current_setting('role');
    RETURN moved;
END;
$$;
COMMENT ON FUNCTION roneo.run_as(name, text) IS
    'Executes statements as the owner of a destination; returns the number of rows of the last one.';

CREATE OR REPLACE FUNCTION roneo.ask_as(owner name, query text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    caller text := current_setting('role');
    answer jsonb;
BEGIN
    PERFORM roneo.become(owner);
    EXECUTE query INTO STRICT answer;
    PERFORM set_config('role', caller, true) WHERE caller <> current_setting('role');
    RETURN answer;
END;
$$;
COMMENT ON FUNCTION roneo.ask_as(name, text) IS
    'Executes a statement as the owner of a destination; returns the one value that it answers with.';

CREATE OR REPLACE FUNCTION roneo.run_patiently(owner name, statement text)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    FOR attempt IN 1 .. roneo.setting('lock_attempts') LOOP
        BEGIN
            PERFORM set_config('lock_timeout', format('%sms', roneo.setting('lock_timeout_ms')), true);
            PERFORM roneo.run_as(owner, statement);
            PERFORM set_config('lock_timeout', '0', true);
            RETURN 'done';
        EXCEPTION WHEN lock_not_available THEN
            -- Those who queued up behind us go first.
            PERFORM pg_sleep(0.05 + 0.15 * random());
        END;
    END LOOP;
    RETURN 'deferred';
END;
$$;
COMMENT ON FUNCTION roneo.run_patiently(name, text) IS
    'Executes statements with a short lock_timeout and tries again a few times; returns done or deferred.';

CREATE OR REPLACE FUNCTION roneo.attempt_over_link(s roneo.step, link text, owner name)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    RETURN roneo.transfer_over_link(s, link, owner);
EXCEPTION WHEN unique_violation THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    RAISE EXCEPTION USING ERRCODE = 'RO027', MESSAGE = problem;
END;
$$;
COMMENT ON FUNCTION roneo.attempt_over_link(roneo.step, text, name) IS
    'Moves rows into a table where their keys are not expected; raises RO027 where one is there, for the refresh to begin anew by way of staging.';

CREATE OR REPLACE FUNCTION roneo.run_step(kind text, s roneo.step, link text, owner name)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE
        WHEN kind = 'transfer' THEN
            RETURN roneo.transfer_over_link(s, link, owner);
        WHEN kind = 'attempt' THEN
            RETURN roneo.attempt_over_link(s, link, owner);
        WHEN kind = 'check' THEN
            RETURN jsonb_build_object('answer', roneo.ask_link(link, s.statement)::jsonb);
        WHEN kind = 'dest' AND s.statement IS NULL THEN
            RETURN '{"outcome": "deferred"}'::jsonb;
        WHEN kind = 'dest' AND s.patient THEN
            RETURN jsonb_build_object('outcome', roneo.run_patiently(owner, s.statement));
        WHEN kind = 'dest' AND s.counts = 'put' THEN
            RETURN jsonb_build_object('answer', roneo.ask_as(owner, s.statement));
        WHEN kind = 'dest' THEN
            RETURN jsonb_build_object('rows', roneo.run_as(owner, s.statement));
        WHEN kind = 'source' THEN
            PERFORM roneo.tell_link(link, s.statement);
            RETURN '{}'::jsonb;
        WHEN kind = 'after' THEN
            -- The caller commits, and perhaps does not. What is to follow is idempotent and may be lost.
            RETURN '{"outcome": "skipped"}'::jsonb;
    END CASE;
END;
$$;
COMMENT ON FUNCTION roneo.run_step(text, roneo.step, text, name) IS
    'Executes one step of a plan and returns what is to be reported of it.';
