-- Whether all is well: roneo.check, its levels and settings, and what it tells pg_jobmon.
SET client_min_messages = warning;
SELECT plan(66);

SELECT on_source('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)') \g /dev/null
SELECT is((check_name, level)::text, '(replicas,UNKNOWN)', 'without a replica nothing is known') FROM roneo.check();
SELECT roneo.create_source('src', :'source_conninfo'), roneo.create_source('other', :'source_conninfo') \g /dev/null
SELECT roneo.create_plain('src', 't', 'p', refresh_every => '1 hour', copy_data => false),
       roneo.create_snapshot('src', 't', 's', copy_data => false),
       roneo.create_inserter('other', 't', 'i', control => 'id', refresh_every => '1 day', copy_data => false) \g /dev/null

-- What is found about all, or some, of it: name, object and level of each finding, but for the good.
CREATE FUNCTION found() RETURNS text LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', c.check_name, replace(c.object, 'public.', ''), c.level), ', ' ORDER BY c.check_name, c.object)
        FROM roneo.check() AS c WHERE c.level <> 'OK');

-- Arguments.
SELECT is(found(), NULL, 'what is new and not due for long is well');
SELECT set_eq('SELECT check_name, object, level, advice FROM roneo.check()',
    $$ VALUES ('freshness', 'public.p', 'OK', NULL), ('freshness', 'public.s', 'OK', NULL), ('freshness', 'public.i', 'OK', NULL) $$,
    'each replica has a row about its freshness');
SELECT is(message, 'never refreshed; no age is promised', 'which says what is promised') FROM roneo.check() WHERE object = 'public.s';
SELECT set_eq($$ SELECT object FROM roneo.check(source_names => '{src}') $$, $$ VALUES ('public.p'), ('public.s') $$, 'of one source');
SELECT set_eq($$ SELECT object FROM roneo.check(dests => '{i,s}') $$, $$ VALUES ('public.i'), ('public.s') $$, 'or some destinations');
SELECT is((check_name, level)::text, '(replicas,UNKNOWN)', 'where these have no replica, nothing is known') FROM roneo.check('{src}', '{i}');
SELECT throws_ok($$ SELECT * FROM roneo.check('{nobody}') $$, 'RO003', NULL, 'an unknown source is an error');
SELECT throws_ok($$ SELECT * FROM roneo.check(dests => '{pg_class}') $$, 'RO001', NULL, 'and so is a table that is no replica');

-- Each finding, from what the tables say; nothing of it stays.
CREATE FUNCTION with_facts(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    f text;
BEGIN
    EXECUTE statement;
    f := found();
    RAISE EXCEPTION USING ERRCODE = 'ZZ000', MESSAGE = coalesce(f, 'nothing');
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
    RETURN SQLERRM;
END;
$$;
SELECT roneo.refresh('p'), roneo.refresh('s'), roneo.refresh('i') \g /dev/null
SELECT is(found(), NULL, 'all is well after a refresh');
SELECT is(with_facts(format('UPDATE roneo.replica SET %s WHERE dest_name = ''p''', facts)), expected, what) FROM (VALUES
    ('created_at = now() - interval ''630 minutes'', last_success_at = now() - interval ''50 minutes''',  'nothing', 'less than an interval late is well'),
    ('created_at = now() - interval ''630 minutes'', last_success_at = now() - interval ''115 minutes''', 'freshness p WARNING', 'more than an interval late is a warning'),
    ('created_at = now() - interval ''630 minutes'', last_success_at = now() - interval ''235 minutes''', 'freshness p CRITICAL', 'more than three are critical'),
    ('enabled = false, created_at = now() - interval ''10 days'', last_success_at = now() - interval ''9 days''', 'nothing', 'of a disabled one nothing is promised'),
    ('refresh_every = NULL, last_success_at = now() - interval ''9 days''', 'nothing', 'nor of one without an interval'),
    ('last_outcome = ''failed'', failures = 1',  'failures p WARNING',    'one failure is a warning'),
    ('last_outcome = ''failed'', failures = 2',  'failures p WARNING',    'two are'),
    ('last_outcome = ''failed'', failures = 3',  'failures p CRITICAL',   'three are critical'),
    ('last_outcome = ''deferred''',              'nothing',               'one that gave way to others is no failure')
) AS c (facts, expected, what);
SELECT is(with_facts('DROP TABLE p'), 'destination p CRITICAL', 'a destination that was dropped is one finding');

-- Nobody refreshes at all.
SELECT is(with_facts($$ UPDATE roneo.replica SET created_at = now() - interval '9 hours', last_success_at = NULL, last_attempt_at = NULL $$),
    'freshness p CRITICAL, runner ' || quote_ident(:'dest_db') || ' CRITICAL', 'a runner that never ran is found');
SELECT is(with_facts($$ UPDATE roneo.replica SET created_at = now() - interval '630 minutes', last_success_at = now() - interval '115 minutes', last_attempt_at = now() - interval '115 minutes' $$),
    'freshness p WARNING, runner ' || quote_ident(:'dest_db') || ' WARNING', 'one that stopped too, as badly as what it left undone');
SELECT is(with_facts($$ UPDATE roneo.replica SET created_at = now() - interval '630 minutes', last_success_at = now() - interval '115 minutes', last_attempt_at = now() - interval '1 minute' $$),
    'freshness p WARNING', 'but not one that still tries');
SELECT is(with_facts($$ UPDATE roneo.replica SET created_at = now() - interval '630 minutes', last_success_at = now() - interval '115 minutes', last_attempt_at = CASE dest_name WHEN 's' THEN now() ELSE now() - interval '115 minutes' END $$),
    'freshness p WARNING', 'even if it tries others');

-- What it says and advises.
UPDATE roneo.replica SET failures = 3, last_outcome = 'failed', last_message = 'no room' WHERE dest_name = 'p';
INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, ended_at, sqlstate, message, hint)
SELECT replica_id, 'public.p', 'plain', 'sql', 'failed', clock_timestamp(), '53100', 'no room', 'Make room.' FROM roneo.replica WHERE dest_name = 'p';
SELECT matches(message, '^3 failures in a row, the last one \d+ s ago: 53100 no room$', 'a failure is told by its code and message') FROM roneo.check() WHERE check_name = 'failures';
SELECT is(advice, 'Make room.', 'with the hint of its error') FROM roneo.check() WHERE check_name = 'failures';
UPDATE roneo.replica SET created_at = now() - interval '630 minutes', last_success_at = now() - interval '235 minutes' WHERE dest_name = 'p';
SELECT is(message, '3 h old; promised every 60 min; due since 3 h; last attempt failed: no room', 'an age is told with its promise and the reason') FROM roneo.check() WHERE check_name = 'freshness' AND object = 'public.p';
SELECT matches(advice, 'roneo history ''public.p''', 'and with where to read more') FROM roneo.check() WHERE check_name = 'freshness' AND object = 'public.p';
SELECT results_eq('SELECT level FROM roneo.check()', $$ VALUES ('CRITICAL'), ('CRITICAL'), ('OK'), ('OK') $$, 'the worst comes first');

-- Levels: of the call, and of the settings; status says the same.
SELECT is(level, 'WARNING', 'a call may bear more') FROM roneo.check(late_critical => 4) WHERE check_name = 'freshness' AND object = 'public.p';
SELECT is(level, 'OK', 'much more') FROM roneo.check(late_warning => 10, late_critical => 10) WHERE check_name = 'freshness' AND object = 'public.p';
SELECT is(level, 'CRITICAL', 'or less') FROM roneo.check(late_warning => 0.1, late_critical => 0.2) WHERE check_name = 'freshness' AND object = 'public.p';
INSERT INTO roneo.setting VALUES ('failures_warning', '4'), ('failures_critical', '5'), ('late_warning_pct', '400'), ('late_critical_pct', '500');
SELECT is(found(), NULL, 'settings say how much is borne');
SELECT is(alert, 'OK', 'also to status') FROM roneo.status WHERE dest = 'public.p';
UPDATE roneo.setting SET value = '2' WHERE setting_name IN ('failures_warning', 'failures_critical');
SELECT is((found(), (SELECT alert FROM roneo.status WHERE dest = 'public.p'))::text, '("failures p CRITICAL",CRITICAL)', 'and how little');
DELETE FROM roneo.setting;
UPDATE roneo.replica SET failures = 0, last_outcome = 'ok', created_at = now(), last_success_at = now() WHERE dest_name = 'p';
DELETE FROM roneo.run WHERE outcome = 'failed';

-- Runs: too big, too slow, abandoned, warned of.
CREATE TEMP TABLE big AS SELECT replica_id AS id FROM roneo.replica WHERE dest_name = 'p';
CREATE FUNCTION with_run(facts text) RETURNS text LANGUAGE sql
RETURN with_facts(format($$ UPDATE roneo.run SET %s WHERE replica_id = (SELECT id FROM big) $$, facts));
SELECT is(with_run(facts), expected, what) FROM (VALUES
    ('bytes = 10000000000', 'nothing',        'a copy may move ten gigabytes'),
    ('bytes = 10000000001', 'size p WARNING', 'and not more'),
    ('seconds = 1800',      'nothing',        'or take half an hour'),
    ('seconds = 1801',      'size p WARNING', 'and not more'),
    ('warning = ''beware''', 'warning p WARNING', 'a warning of the last run is told'),
    ('outcome = ''running'', ended_at = NULL, started_at = now() - interval ''1 hour''', 'abandoned p CRITICAL', 'a run whose runner was killed is critical')
) AS c (facts, expected, what);
INSERT INTO roneo.setting VALUES ('copy_mb_warning', '0'), ('copy_s_warning', '0');
SELECT is(with_run('bytes = 10000000001, seconds = 1801'), 'nothing', 'nothing is too big where no bound is set');
DELETE FROM roneo.setting;
SELECT is(with_facts($$ UPDATE roneo.run SET bytes = 10000000001 WHERE dest = 'public.i' $$), 'nothing', 'what copies only what is new may be any size');

-- A promise that is not kept as a rule: begun 20 minutes late, and 25 minutes long.
CREATE FUNCTION with_runs(begun text, took text, runs integer) RETURNS text LANGUAGE sql
RETURN with_facts(format($$
    UPDATE roneo.replica SET created_at = date_trunc('hour', now()) - interval '10 days' WHERE dest_name = 'p';
    INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, ended_at)
    SELECT id, 'public.p', 'plain', 'runner', 'ok', t, t + interval %L
    FROM big, generate_series(date_trunc('hour', now()) - interval '20 hours' + interval %L, now(), '1 hour') AS t LIMIT %s $$, took, begun, runs));
SELECT is(with_runs('20 min', '25 min', 15), 'promise p WARNING', 'a promise that is broken as a rule is told');
SELECT is(with_runs('2 min', '25 min', 15), 'nothing', 'half an interval is borne');
SELECT is(with_runs('20 min', '25 min', 1), 'nothing', 'and two runs are no rule');

-- Rows that wait for a transaction.
SELECT is(with_facts(format('UPDATE roneo.control_replica SET held_by = ''4/7'', held_since = now() - interval %L', ago)), expected, what) FROM (VALUES
    ('59 minutes', 'nothing', 'rows may be held back for a while'), ('61 minutes', 'held i WARNING', 'and not for ever')
) AS c (ago, expected, what);
SELECT is(found(), NULL, 'nothing of all this was left');

-- Numbers for the program.
SELECT is((state, alert, failures, refreshes, rows, runs)::text, '(ok,OK,0,1,2,"{""ok"": 1}")', 'there are numbers about each replica') FROM roneo.replica_metrics() WHERE dest = 'public.p';
SELECT is(array_agg((bucket, runs, copied, failed, rows)::text), '{"(4,1,1,0,2)"}', 'and of the history, in stretches of time')
FROM roneo.run_buckets(now() - interval '9 hours', now() + interval '1 hour', 5) WHERE replica_id = (SELECT id FROM big);
BEGIN;
UPDATE roneo.replica SET created_at = now() - interval '10 days' WHERE dest_name = 'p';
DELETE FROM roneo.run;
INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, ended_at)
SELECT id, 'public.p', 'plain', 'runner', o, now() - make_interval(mins => ago), now() - make_interval(mins => ago - 3)
FROM big, (VALUES ('ok', 595), ('ok', 299), ('failed', 200), ('deferred', 140), ('ok', 100)) AS v (o, ago);
SELECT results_eq('SELECT waited / 60 FROM roneo.run_buckets(now() - interval ''10 hours'', now(), 10)',
    'VALUES (8.0::float8), (4.0), (NULL), (NULL), (143.0)', 'delays are what they were at the least, from the last success where refreshes failed since');
ROLLBACK;
INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, ended_at, sqlstate, message)
SELECT id, 'public.p', 'plain', 'sql', 'failed', clock_timestamp(), '53100', 'no room' FROM big, generate_series(1, 3);
SELECT is((times, sqlstate, message)::text, '(3,53100,"no room")', 'failures that say the same are told once') FROM roneo.run_failures(now() - interval '1 hour', now() + interval '1 hour');

-- pg_jobmon, or what has its functions.
CREATE SCHEMA jobmon;
CREATE TABLE jobmon.heard (job bigint GENERATED ALWAYS AS IDENTITY, name text, step text, status text, message text, ended text);
CREATE FUNCTION jobmon.add_job(name text) RETURNS bigint LANGUAGE sql AS 'INSERT INTO jobmon.heard (name) VALUES (upper(name)) RETURNING job';
CREATE FUNCTION jobmon.add_step(job bigint, step text) RETURNS bigint LANGUAGE sql AS 'UPDATE jobmon.heard SET step = $2 WHERE job = $1 RETURNING job';
CREATE FUNCTION jobmon.update_step(step bigint, status text, message text) RETURNS void LANGUAGE sql AS 'UPDATE jobmon.heard SET status = $2, message = $3 WHERE job = $1';
CREATE FUNCTION jobmon.close_job(job bigint) RETURNS void LANGUAGE sql AS 'UPDATE jobmon.heard SET ended = ''closed'' WHERE job = $1';
CREATE FUNCTION jobmon.fail_job(job bigint, level integer DEFAULT 3) RETURNS void LANGUAGE sql AS 'UPDATE jobmon.heard SET ended = concat(''failed '', level) WHERE job = $1';
SELECT roneo.refresh('p') \g /dev/null
SELECT is_empty('SELECT * FROM jobmon.heard', 'it hears nothing unless it is asked to');
INSERT INTO roneo.setting VALUES ('jobmon', '1');
BEGIN;
SELECT roneo.refresh('p') \g /dev/null
SELECT is_empty('SELECT * FROM jobmon.heard', 'nor of what is not committed yet');
COMMIT;
SELECT is((name, status, ended)::text, '("RONEO PUBLIC.P",OK,closed)', 'it hears of a run at its commit') FROM jobmon.heard;
SELECT count(*) AS heard FROM jobmon.heard \gset
SELECT roneo.refresh('i') \g /dev/null
SELECT roneo.refresh('i') \g /dev/null
SELECT roneo.refresh('i') \g /dev/null
SELECT is((SELECT count(*) - :heard FROM jobmon.heard WHERE ended = 'closed'), 3::bigint, 'of each refresh')
FROM roneo.run WHERE dest = 'public.i' AND repeats > 1 ORDER BY run_id DESC LIMIT 1;
SELECT on_source('ALTER TABLE t RENAME TO u') \g /dev/null
SELECT roneo.refresh('p') \g /dev/null
SELECT is((status, ended, message ~ '^failed; .*RO004')::text, '(CRITICAL,"failed 3",t)', 'and of one that failed') FROM jobmon.heard WHERE ended <> 'closed';
DROP FUNCTION jobmon.add_job;
SELECT on_source('ALTER TABLE u RENAME TO t') \g /dev/null
SET client_min_messages = error;
SELECT is((roneo.refresh('p')).outcome, 'ok', 'where it does not work, refreshes do');
SELECT is(last_outcome, 'ok', 'and are committed') FROM roneo.replica WHERE dest_name = 'p';

-- Who may look, and change nothing. Roles belong to the cluster: the name carries the database's.
SELECT format('CREATE ROLE %I', concat('watcher ', current_database())) \gexec
SELECT set_config('test.watcher', concat('watcher ', current_database()), false) \g /dev/null
SELECT roneo.watch_grants(current_setting('test.watcher')) \gexec
SELECT is_empty($$ SELECT roneo.watch_grants(current_setting('test.watcher')) $$, 'the grants for who watches are all that is lacking');
SELECT source_value(roneo.columns_probe('src')) AS columns, source_value(roneo.tables_probe('src')) AS tables \gset
SELECT format('SET ROLE %I', current_setting('test.watcher')) \gexec
SELECT isnt_empty('SELECT * FROM roneo.check()', 'then it can check');
SELECT isnt_empty('SELECT * FROM roneo.status, roneo.replica_metrics(), roneo.run_buckets(now() - interval ''1 day'', now(), 3)', 'measure, and look');
SELECT lives_ok(format('SELECT * FROM roneo.judge_columns(''src'', %L), roneo.judge_tables(''src'', %L)', :'columns', :'tables'), 'and judge what a source answered');
SELECT throws_ok($$ SELECT roneo.refresh('p') $$, '42501', NULL, 'it cannot refresh');
SELECT throws_ok('UPDATE roneo.replica SET enabled = false', '42501', NULL, 'or write');
RESET ROLE;
SELECT format('DROP OWNED BY %1$I; DROP ROLE %1$I', current_setting('test.watcher')) \gexec

SELECT * FROM finish();
