-- What may go wrong while the SQL hand refreshes: the destination stays as it was, and nothing is left behind.
SET client_min_messages = warning;
SELECT plan(105);

SELECT format('host=%s port=%s dbname=%s user=postgres', :'socket', :'port', :'dest_db') AS dest_conninfo \gset
INSERT INTO roneo.setting VALUES ('lock_timeout_ms', '20'), ('lock_attempts', '2');

-- A view whose 300th row is what the table trouble says.
SELECT on_source($source$
    CREATE TABLE trouble (kind text);
    CREATE FUNCTION meet(i int) RETURNS int LANGUAGE plpgsql AS $$
    DECLARE
        met text := (SELECT kind FROM trouble WHERE i = 300);
    BEGIN
        IF met = 'terminate' THEN PERFORM pg_terminate_backend(pg_backend_pid());
        ELSIF met = 'divide' THEN RETURN 1 / 0;
        ELSIF met = 'cancel' THEN PERFORM pg_cancel_backend(pg_backend_pid()), pg_sleep(1);
        ELSIF met = 'raise' THEN RAISE insufficient_privilege;
        END IF;
        RETURN i;
    END;
    $$;
    CREATE TABLE numbers (id int);
    INSERT INTO numbers SELECT generate_series(1, 400);
    CREATE VIEW troubled AS SELECT id, meet(id) AS met FROM numbers;
$source$) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT roneo.create_snapshot('src', 'public.troubled', 'shown'), roneo.create_plain('src', 'troubled', 'emptied') \g /dev/null
SELECT on_source('INSERT INTO numbers VALUES (401)') \g /dev/null
SELECT count(*) AS temporary FROM pg_class WHERE relnamespace = pg_my_temp_schema() \gset

CREATE FUNCTION is_clean(what text, temporary bigint, session text DEFAULT NULL) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT is(ARRAY(SELECT c FROM unnest(dblink_get_connections()) AS c WHERE c LIKE 'roneo%'), '{}',
        concat(what, ': no connection is left'));
    RETURN NEXT is((SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
                    WHERE l.locktype = 'advisory' AND d.datname = current_database()), 0::bigint,
        concat(what, ': no lock'));
    RETURN NEXT is((SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()), temporary,
        concat(what, ': no temporary table'));
END;
$$;
CREATE FUNCTION total(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT concat(count(*), '' '', sum(id)) FROM %s', dest) INTO found;
    RETURN found;
END;
$$;
-- A refresh that fails with this code, and the next one when there is no trouble any more.
CREATE FUNCTION is_survived(dest regclass, trouble text, code text, what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    before text := total(dest);
    done   roneo.run;
BEGIN
    PERFORM on_source(format('TRUNCATE trouble; INSERT INTO trouble VALUES (%L); INSERT INTO numbers VALUES (500)', trouble));
    done := roneo.refresh(dest);
    RETURN NEXT is(concat_ws(' ', done.outcome, done.sqlstate), concat('failed ', code), what);
    RETURN NEXT is(total(dest), before, concat(what, ': the destination is as it was'));
    RETURN NEXT is((SELECT concat_ws(' ', s.state, s.failures, s.message) FROM roneo.status AS s
                    WHERE s.dest = format('public.%s', is_survived.dest)),
        concat_ws(' ', 'failed', 1, done.message), concat(what, ': the status tells'));
    PERFORM on_source('TRUNCATE trouble');
END;
$$;
CREATE FUNCTION is_repaired(dest regclass, what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT is((roneo.refresh(dest)).outcome, 'ok', concat(what, ': the next refresh is right'));
    RETURN NEXT is(total(dest), source_value('SELECT concat(count(*), '' '', sum(id)) FROM numbers'),
        concat(what, ': and complete'));
END;
$$;

CREATE PROCEDURE await_alone() LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 400 LOOP
        PERFORM pg_stat_clear_snapshot();
        EXIT WHEN NOT roneo.others_connected();
        PERFORM pg_sleep(0.05);
    END LOOP;
END;
$$;

-- The source.
SELECT is_survived('emptied', 'terminate', '08006', 'the source''s session dies (plain)');
SELECT is_clean('after that', :temporary);
SELECT is_repaired('emptied', 'the source''s session dies (plain)');
SELECT is_survived('shown', 'terminate', '08006', 'the source''s session dies (snapshot)');
SELECT is_clean('after that', :temporary);
SELECT is_repaired('shown', 'the source''s session dies (snapshot)');
SELECT is_survived(d, 'divide', '22012', format('a row of the source cannot be computed (%s)', d))
FROM unnest('{shown,emptied}'::regclass[]) AS d;
SELECT is_clean('after that', :temporary);
SELECT is_repaired(d, format('a row can be computed again (%s)', d)) FROM unnest('{shown,emptied}'::regclass[]) AS d;
SELECT is_survived('shown', 'raise', '42501', 'the source refuses');
SELECT is_repaired('shown', 'the source refuses');
SELECT is_survived('shown', 'cancel', '57014', 'someone cancels it on the source');
SELECT is_clean('after that', :temporary);
SELECT is_repaired('shown', 'someone cancels it on the source');

-- The destination.
ALTER TABLE emptied ADD CONSTRAINT small CHECK (id <> 300) NOT VALID;
SELECT is_survived('emptied', NULL, '23514', 'a constraint of the destination is against it');
ALTER TABLE emptied DROP CONSTRAINT small;
SELECT is_clean('after that', :temporary);
SELECT is_repaired('emptied', 'a constraint of the destination is against it');
CREATE FUNCTION interfere() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.id = 300 THEN
        CASE TG_ARGV[0] WHEN 'full' THEN RAISE disk_full USING MESSAGE = 'no space left on device';
                        WHEN 'wait' THEN PERFORM pg_sleep(600);
                        WHEN 'swallow' THEN RETURN NULL; END CASE;
    END IF;
    RETURN new;
END;
$$;
CREATE TRIGGER interfere BEFORE INSERT ON emptied FOR EACH ROW EXECUTE FUNCTION interfere('full');
SELECT is_survived('emptied', NULL, '53100', 'the disk is full');
SELECT is_clean('after that', :temporary);
CREATE OR REPLACE TRIGGER interfere BEFORE INSERT ON emptied FOR EACH ROW EXECUTE FUNCTION interfere('swallow');
SELECT count(*) AS here, count(*) - 1 AS arrived FROM dblink(:'source_conninfo', 'SELECT id FROM numbers') AS t(id int) \gset
SELECT is((SELECT concat_ws(' ', outcome, sqlstate, message) FROM roneo.refresh('emptied')),
    format('failed RO014 refresh of public.emptied is not accepted: %s rows were sent and %s arrived', :here, :arrived),
    'a trigger that swallows a row is told from a row that is not there');
SELECT is_clean('after that', :temporary);
DROP TRIGGER interfere ON emptied;
SELECT is_repaired('emptied', 'the triggers are gone');
CREATE TABLE referenced (id int PRIMARY KEY);
INSERT INTO referenced SELECT i FROM generate_series(1, 500) AS i WHERE i <> 300;
ALTER TABLE emptied ADD FOREIGN KEY (id) REFERENCES referenced DEFERRABLE INITIALLY DEFERRED NOT VALID;
SELECT is_survived('emptied', NULL, '23503', 'a deferred constraint is against it');
INSERT INTO referenced VALUES (300);
SELECT is_repaired('emptied', 'a deferred constraint is against it');

-- A cancel is always raised, and not recorded.
CREATE TRIGGER interfere BEFORE INSERT ON emptied FOR EACH ROW EXECUTE FUNCTION interfere('wait');
SELECT dblink_connect('worker', :'dest_conninfo') \g /dev/null
SELECT count(*) AS runs FROM roneo.run \gset
SELECT total('emptied') AS before \gset
SELECT pid AS worker FROM dblink('worker', 'SELECT pg_backend_pid()') AS t(pid int) \gset
SELECT dblink_send_query('worker', $$ SELECT roneo.refresh('emptied') $$) \g /dev/null
DO $$ BEGIN
    FOR i IN 1 .. 400 LOOP
        EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database());
        PERFORM pg_sleep(0.05), pg_stat_clear_snapshot();
    END LOOP;
END $$;
SELECT ok(pg_cancel_backend(:worker), 'a refresh is cancelled');
-- throws_ok lets a cancel pass.
CREATE FUNCTION answer_of(session text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT r FROM dblink_get_result(session) AS t(r text));
EXCEPTION WHEN query_canceled THEN
    RETURN SQLSTATE;
END;
$$;
SELECT is(answer_of('worker'), '57014', 'which is raised');
SELECT is_empty($$ SELECT * FROM dblink_get_result('worker') AS t(r text) $$, 'and that is all');
SELECT is((SELECT count(*) FROM roneo.run), :runs::bigint, 'it is not recorded');
SELECT is(total('emptied'), :'before', 'and has changed nothing');
SELECT is(c, NULL, 'no connection is left in that session') FROM dblink('worker', 'SELECT dblink_get_connections()') AS t(c text);
SELECT is_clean('after that', :temporary);
DROP TRIGGER interfere ON emptied;
SELECT is(o, 'ok', 'the same session can refresh again')
FROM dblink('worker', $$ SELECT outcome FROM roneo.refresh('emptied') $$) AS t(o text);

-- Two at once.
-- Both would forget this one.
INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, ended_at)
SELECT replica_id, 'public.emptied', 'plain', 'sql', 'ok', now() - interval '1 year', now() FROM roneo.replica WHERE dest = 'emptied'::regclass;
SET statement_timeout = '10s';
SELECT dblink_exec('worker', 'BEGIN') \g /dev/null
SELECT is(o, 'ok', 'one session refreshes, and has not committed')
FROM dblink('worker', $$ SELECT outcome FROM roneo.refresh('emptied') $$) AS t(o text);
SELECT is(concat_ws(' ', outcome, sqlstate, message),
    'deferred RO002 public.emptied is being refreshed by another session', 'another one is deferred') FROM roneo.refresh('emptied');
SELECT throws_ok($$ SELECT roneo.refresh('emptied', raise_errors => true) $$, 'RO002', NULL, 'or gets an error where it asked for one');
SELECT throws_ok($$ SELECT roneo.plan('emptied') $$, 'RO002', NULL, 'nor can it plan');
SELECT throws_ok($$ SELECT roneo.drop_replica('emptied') $$, 'RO002', NULL, 'nor drop the replica');
SELECT dblink_exec('worker', 'COMMIT') \g /dev/null
RESET statement_timeout;
SELECT is(array_agg(u.outcome ORDER BY u.outcome), '{deferred,ok}', 'both are in the history')
FROM (SELECT * FROM roneo.run WHERE dest = 'public.emptied' ORDER BY run_id DESC LIMIT 2) AS u;
SELECT is(state, 'ok', 'the one that refreshed decides about the status') FROM roneo.status WHERE dest = 'public.emptied';
SELECT is_clean('after that', :temporary);

-- Where it cannot work at all.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT throws_ok($$ SELECT roneo.refresh('shown') $$, 'RO010', NULL, 'REPEATABLE READ is refused');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT throws_ok($$ SELECT roneo.refresh('shown') $$, 'RO010', NULL, 'and SERIALIZABLE');
ROLLBACK;
BEGIN;
DROP EXTENSION dblink CASCADE;
SELECT throws_ok($$ SELECT roneo.refresh('shown', raise_errors => true) $$, 'RO011', NULL, 'dblink is missed');
SELECT is(concat_ws(' ', outcome, sqlstate), 'failed RO011', 'which is recorded like any failure') FROM roneo.refresh('shown');
ROLLBACK;
-- Alone again, one transaction loads and shows.
SELECT dblink_disconnect('worker') \g /dev/null
CALL await_alone();
SELECT is_repaired('shown', 'nothing is missing');

-- The caller's session.
CREATE FUNCTION session() RETURNS text LANGUAGE sql
RETURN (SELECT concat(current_setting('role'), ' ', string_agg(concat(name, '=', setting), ' ' ORDER BY name))
        FROM pg_settings WHERE name IN (SELECT p.setting_name FROM roneo.pinned_settings() AS p));
SELECT format('CREATE ROLE %1$I; GRANT CREATE ON SCHEMA public TO %1$I; ALTER TABLE emptied OWNER TO %1$I',
              'owner of ' || :'dest_db') \gexec
BEGIN;
SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL DateStyle = 'German'; SET LOCAL search_path = public, pg_catalog;
SET LOCAL statement_timeout = '9min'; SET LOCAL lock_timeout = '8min'; SET LOCAL extra_float_digits = 0;
SELECT session() AS before \gset
SELECT is((roneo.refresh('emptied')).outcome, 'ok', 'a refresh inside a transaction');
SELECT is(session(), :'before', 'leaves the settings of its caller alone');
SELECT roneo.plan('shown') \g /dev/null
SELECT is(session(), :'before', 'so does a dry run');
SELECT on_source($$ INSERT INTO trouble VALUES ('divide') $$) \g /dev/null
SELECT is((roneo.refresh('emptied')).outcome, 'failed', 'a failure inside a transaction');
SELECT is(session(), :'before', 'leaves them alone too');
SELECT is(current_user::text, 'postgres', 'and the role');
SELECT throws_ok($$ SELECT roneo.refresh('emptied', raise_errors => true) $$, '22012', NULL, 'an error that is raised');
SELECT is(session(), :'before', 'does no more');
COMMIT;
SELECT is(last_outcome, 'failed', 'the failure is recorded by that transaction') FROM roneo.replica WHERE dest = 'emptied'::regclass;
SELECT on_source('TRUNCATE trouble') \g /dev/null
SELECT is_clean('at the end', :temporary);
SELECT format('ALTER TABLE emptied OWNER TO postgres; DROP OWNED BY %1$I; DROP ROLE %1$I', 'owner of ' || :'dest_db') \gexec
