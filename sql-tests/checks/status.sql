-- What roneo.status says about a replica, and what stays in the history.
SET client_min_messages = warning;
SELECT plan(61);

SELECT on_source('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)') \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT roneo.create_plain('src', 't', 'p', refresh_every => '1 hour', copy_data => false),
       roneo.create_snapshot('src', 't', 's', copy_data => false) \g /dev/null
SELECT dblink_connect('other', format('host=%s port=%s dbname=%s user=postgres', :'socket', :'port', :'dest_db')) \g /dev/null
CREATE FUNCTION told(wanted text) RETURNS text LANGUAGE sql
RETURN (SELECT concat_ws(' ', s.state, s.alert) FROM roneo.status AS s WHERE s.dest = format('public.%s', wanted));

-- From new to ok.
SELECT is(told('p'), 'new OK', 'what was never refreshed is new');
SELECT is((method, source_name, source_table, age, promised_age, lag, last_rows)::text, '(plain,src,public.t,,01:00:00,00:00:00,)',
    'its names and promises are told') FROM roneo.status WHERE dest = 'public.p';
SELECT roneo.refresh('p') \g /dev/null
SELECT is(told('p'), 'ok OK', 'what was refreshed is ok');
SELECT is((last_outcome, last_rows, failures, message)::text, '(ok,2,0,)', 'and how it went is told') FROM roneo.status WHERE dest = 'public.p';
SELECT ok(age >= interval '0' AND lag = interval '0' AND due_at > last_success_at AND last_seconds >= 0, 'and how old it is')
FROM roneo.status WHERE dest = 'public.p';
SELECT is((promised_age, lag, due_at)::text, '(,00:00:00,)', 'without an interval nothing is promised') FROM roneo.status WHERE dest = 'public.s';

-- Each state, from what the tables say.
CREATE FUNCTION with_facts(facts text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('UPDATE roneo.replica SET %s WHERE dest_name = ''p''', facts);
    found := told('p');
    -- Nothing of it stays.
    RAISE EXCEPTION USING ERRCODE = 'ZZ000', MESSAGE = found;
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
    RETURN found;
END;
$$;
SELECT is(with_facts(facts), expected, what) FROM (VALUES
    ('enabled = false',                          'disabled OK',       'a disabled one'),
    ('last_outcome = ''deferred''',              'deferred OK',       'one that waits for others'),
    ('last_outcome = ''unchanged''',             'ok OK',             'one whose source is unchanged'),
    ('last_outcome = ''failed'', failures = 1',  'failed WARNING',    'one that failed'),
    ('last_outcome = ''failed'', failures = 2',  'failed WARNING',    'one that failed twice'),
    ('last_outcome = ''failed'', failures = 3',  'failed CRITICAL',   'one that failed three times'),
    ('last_outcome = ''deferred'', failures = 3', 'deferred CRITICAL', 'a deferral makes no failure good'),
    ('last_outcome = ''failed'', failures = 3, enabled = false', 'disabled CRITICAL', 'nor does disabling it'),
    ('created_at = now() - interval ''630 minutes'', last_success_at = now() - interval ''50 minutes''',  'ok OK', 'less than an interval late'),
    ('created_at = now() - interval ''630 minutes'', last_success_at = now() - interval ''115 minutes''', 'ok WARNING', 'more than an interval late'),
    ('created_at = now() - interval ''630 minutes'', last_success_at = now() - interval ''235 minutes''', 'ok CRITICAL', 'more than three intervals late'),
    ('enabled = false, last_success_at = now() - interval ''300 days''', 'disabled OK', 'nothing is promised of a disabled one'),
    ('last_success_at = NULL, created_at = now() - interval ''9 hours''', 'new CRITICAL', 'one that should have been refreshed long ago'),
    ('refresh_every = NULL, last_success_at = now() - interval ''9 days''', 'ok OK', 'one without an interval is never late')
) AS c (facts, expected, what);
SELECT is(told('p'), 'ok OK', 'none of this was left');

-- Others at work.
SELECT dblink_exec('other', 'BEGIN') \g /dev/null
SELECT * FROM dblink('other', $$ SELECT outcome FROM roneo.refresh('p') $$) AS t(o text) \g /dev/null
SELECT is(told('p'), 'running OK', 'one that another session refreshes is running');
SELECT is(told('s'), 'new OK', 'the others are not');
SELECT dblink_exec('other', 'ROLLBACK') \g /dev/null
SELECT is(told('p'), 'ok OK', 'until that has ended');
SELECT pg_advisory_lock(roneo.lock_class(), 0) \g /dev/null
SELECT pg_advisory_lock((roneo.lock_class()::bigint << 32) + replica_id) FROM roneo.replica WHERE dest_name = 'p' \g /dev/null
SELECT is(told('p'), 'ok OK', 'locks of other kinds mean nothing');
SELECT pg_advisory_unlock_all() \g /dev/null

-- A runner that records its start.
SELECT roneo.record_start('p', 'r1 on host a') AS first_run \gset
SELECT is(told('p'), 'running OK', 'a refresh that has just been recorded is running');
UPDATE roneo.run SET started_at = started_at - interval '1 minute' WHERE run_id = :first_run;
UPDATE roneo.run SET started_at = started_at - interval '1 hour' WHERE run_id < :first_run;
SELECT is(told('p'), 'abandoned CRITICAL', 'one without a lock has been abandoned');
SELECT dblink_exec('other', 'BEGIN') \g /dev/null
SELECT * FROM dblink('other', $$ SELECT state FROM roneo.begin_refresh('{p}') $$) AS t(o text) \g /dev/null
SELECT is(told('p'), 'running OK', 'one with a lock is running');
SELECT dblink_exec('other', 'ROLLBACK') \g /dev/null
SELECT roneo.record_start('s', 'r2 on host a') AS other_run \gset
SELECT roneo.record_start('p', 'r3 on host b') AS second_run \gset
SELECT is((outcome, ended_at IS NOT NULL, runner, message IS NOT NULL)::text, '(abandoned,t,"r1 on host a",t)', 'the next start calls the earlier one abandoned')
FROM roneo.run WHERE run_id = :first_run;
SELECT is(array_agg(run_id ORDER BY run_id), ARRAY[:other_run, :second_run]::bigint[], 'those of other replicas go on')
FROM roneo.run WHERE outcome = 'running';
SELECT is(roneo.record_failure('{p}', '22012', 'division by zero', NULL, NULL, format('{"run_id": %s, "hand": "runner", "step": "step 2"}', :second_run)::jsonb),
    'failed', 'its failure is recorded');
SELECT is((outcome, sqlstate, message, runner)::text, '(failed,22012,"step 2: division by zero","r3 on host b")', 'in the row of its start')
FROM roneo.run WHERE run_id = :second_run;
SELECT is(roneo.failure_outcome(code), outcome, format('%s is %s', code, outcome))
FROM (VALUES ('55P03', 'deferred'), ('RO002', 'deferred'), ('RO013', 'deferred'), ('RO016', 'deferred'),
             ('RO014', 'failed'), ('RO008', 'failed'), ('40001', 'failed'), ('XX000', 'failed')) AS c (code, outcome);
SELECT roneo.record_start('p', 'r4 on host b') AS third_run \gset
SELECT is((roneo.refresh('p')).outcome, 'ok', 'a refresh over dblink may be the next one');
SELECT is(outcome, 'abandoned', 'and calls the earlier one abandoned too') FROM roneo.run WHERE run_id = :third_run;
SELECT is(told('p'), 'ok OK', 'then all is well');
UPDATE roneo.run SET outcome = 'abandoned', ended_at = now() WHERE run_id = :other_run;

-- A swap that waits.
SELECT is((roneo.refresh('s')).outcome, 'ok', 'the snapshot is loaded');
INSERT INTO roneo.setting VALUES ('lock_timeout_ms', '10'), ('lock_attempts', '1');
SELECT * FROM dblink('other', 'BEGIN; SELECT count(*) FROM s') AS t(o text) \g /dev/null
SELECT on_source('INSERT INTO t VALUES (3)') \g /dev/null
SELECT roneo.refresh('s') \g /dev/null
SELECT is(told('s'), 'swap pending OK', 'a load that waits for its swap is told');
UPDATE roneo.replica SET last_outcome = 'failed', failures = 1 WHERE dest_name = 's';
SELECT is(told('s'), 'failed WARNING', 'but a failure matters more');
SELECT dblink_exec('other', 'COMMIT') \g /dev/null
SELECT roneo.refresh('s') \g /dev/null
SELECT is(told('s'), 'ok OK', 'until it is made');

-- A destination that was renamed, and one that is gone.
CREATE SCHEMA "New Place";
ALTER TABLE p SET SCHEMA "New Place";
ALTER TABLE "New Place".p RENAME TO "q.r";
SELECT is(dest, '"New Place"."q.r"', 'a destination is told by the name it has now') FROM roneo.status WHERE method = 'plain';
SELECT is((roneo.refresh('"New Place"."q.r"')).dest, '"New Place"."q.r"', 'and refreshed under it');
DROP TABLE "New Place"."q.r";
SELECT is(concat_ws(' ', dest, state, alert), '"New Place"."q.r" gone CRITICAL', 'one that was dropped by its last') FROM roneo.status WHERE method = 'plain';

-- The history.
SELECT count(*) AS runs FROM roneo.run \gset
INSERT INTO roneo.setting VALUES ('history_days', '5');
INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, ended_at)
SELECT r.replica_id, d.what, r.method, 'sql', d.outcome, now() - d.age::interval, CASE WHEN d.outcome <> 'running' THEN now() END
FROM roneo.replica AS r, (VALUES ('old', 'ok', '6 days'), ('old failure', 'failed', '5 days 1 minute'), ('young', 'ok', '4 days 23 hours'),
                                 ('endless', 'running', '4 days')) AS d (what, outcome, age)
WHERE r.dest_name = 's';
INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, ended_at) VALUES (0, 'of another', 'plain', 'sql', 'ok', now() - interval '6 days', now());
SELECT roneo.refresh('s') \g /dev/null
SELECT set_eq($$ SELECT dest, outcome FROM roneo.run WHERE started_at < now() - interval '1 day' $$,
    $$ VALUES ('young', 'ok'), ('of another', 'ok'), ('endless', 'abandoned') $$, 'runs older than history_days are forgotten with the next refresh');
SELECT is((SELECT count(*) FROM roneo.run), :runs + 4::bigint, 'and no others');
SELECT throws_ok($$ INSERT INTO roneo.run (replica_id, dest, method, hand, outcome) VALUES (1, 'x', 'plain', 'sql', 'ok') $$, '23514', NULL,
    'what has an outcome has ended');
SELECT throws_ok(format('INSERT INTO roneo.setting VALUES (%L, %L)', n, v), '23514', NULL, format('a setting %s of %s is refused', n, v))
FROM (VALUES ('nothing', '1'), ('connect_timeout_s', '-1'), ('connect_timeout_s', 'ten'), ('connect_timeout_s', ''),
             ('lock_timeout_ms', '0'), ('lock_attempts', '00'), ('connect_timeout_s', '1000000000')) AS s (n, v);
SELECT set_has('SELECT setting_name, value, changed FROM roneo.settings', $$ VALUES ('history_days', '5', true), ('lock_timeout_ms', '10', true),
    ('lock_attempts', '1', true), ('connect_timeout_s', '10', false), ('exact_check_s', '600', false) $$, 'settings are listed, with their defaults');
