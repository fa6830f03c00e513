-- A bridge to pg_jobmon, where that is installed and the setting jobmon is 1: each run's end is a
-- job there, with one step. Only its documented functions are called.

CREATE OR REPLACE FUNCTION roneo.jobmon_schema()
RETURNS name LANGUAGE sql STABLE
RETURN coalesce((SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
                 WHERE e.extname = 'pg_jobmon'), 'jobmon');
COMMENT ON FUNCTION roneo.jobmon_schema() IS 'The schema of pg_jobmon; the one it documents where it is not installed as an extension.';

CREATE OR REPLACE FUNCTION roneo.tell_jobmon(ended roneo.run)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    home name    := roneo.jobmon_schema();
    good boolean := ended.outcome NOT IN ('failed', 'abandoned');
    job  bigint;
    step bigint;
BEGIN
    EXECUTE format('SELECT %I.add_job($1)', home) INTO job USING concat('RONEO ', ended.dest);
    EXECUTE format('SELECT %I.add_step($1, $2)', home) INTO step
    USING job, format('Refresh %s, run %s, by %s', ended.method, ended.run_id, coalesce(ended.runner, ended.hand));
    EXECUTE format('SELECT %I.update_step($1, $2, $3)', home)
    USING step, CASE WHEN good THEN 'OK' ELSE 'CRITICAL' END,
          concat_ws('; ', ended.outcome, format('%s rows', ended.rows_received), format('%s s', ended.seconds),
                    concat_ws(' ', ended.sqlstate, ended.message), ended.warning);
    IF good THEN
        EXECUTE format('SELECT %I.close_job($1)', home) USING job;
    ELSE
        EXECUTE format('SELECT %I.fail_job($1)', home) USING job;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.tell_jobmon(roneo.run) IS
    'Makes a run that has ended a job of pg_jobmon, named RONEO and the destination: closed, or failed where the run failed.';

-- At the commit, and not when the run ends: pg_jobmon writes over a connection of its own, and what
-- it once heard is not rolled back. Then the session has the role of the destination's owner, who
-- has no business with pg_jobmon; so it is put aside. Whether it works is no matter of the refresh.
CREATE OR REPLACE FUNCTION roneo.run_told()
RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    worker  text := current_setting('role');
    problem text;
BEGIN
    BEGIN
        PERFORM set_config('role', 'none', true);
        PERFORM roneo.tell_jobmon(NEW);
        PERFORM set_config('role', worker, true);
    EXCEPTION WHEN query_canceled THEN
        RAISE;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
        RAISE WARNING USING
            ERRCODE = SQLSTATE,
            MESSAGE = format('pg_jobmon was not told of run %s: %s', NEW.run_id, problem),
            HINT    = 'Install it, grant this role what it needs, or set jobmon to 0 in roneo.setting.';
    END;
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION roneo.run_told() IS 'A trigger of roneo.run: tells pg_jobmon of runs that have ended.';

-- Both hands make all constraints immediate before they look whether the refresh can be accepted.
CREATE OR REPLACE FUNCTION roneo.put_off_telling()
RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SET CONSTRAINTS roneo.run_told DEFERRED;
    RETURN NEW;
END;
$$;
COMMENT ON FUNCTION roneo.put_off_telling() IS 'A trigger of roneo.run: leaves run_told for the commit.';

-- The conditions are looked at when the row is written, by who writes it. A verification that failed
-- must not count as a failure of the job that refreshes; roneo.check tells of it.
CREATE OR REPLACE TRIGGER put_off_telling BEFORE INSERT OR UPDATE OF outcome ON roneo.run
FOR EACH ROW WHEN (NEW.outcome <> 'running' AND NEW.kind <> 'verify' AND roneo.setting('jobmon') = 1) EXECUTE FUNCTION roneo.put_off_telling();
COMMENT ON TRIGGER put_off_telling ON roneo.run IS 'Leaves run_told for the commit.';

DROP TRIGGER IF EXISTS run_told ON roneo.run;
CREATE CONSTRAINT TRIGGER run_told AFTER INSERT OR UPDATE OF outcome ON roneo.run
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.outcome <> 'running' AND NEW.kind <> 'verify' AND roneo.setting('jobmon') = 1) EXECUTE FUNCTION roneo.run_told();
COMMENT ON TRIGGER run_told ON roneo.run IS 'Tells pg_jobmon of runs that have ended, where the setting jobmon is 1.';
