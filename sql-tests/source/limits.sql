-- Alone in the cluster: an open snapshot of another file would be that of the source.
-- How long a refresh may take, and what a source is spared.
SELECT plan(67);
SELECT on_source('CREATE TABLE items (id int PRIMARY KEY, at timestamptz DEFAULT now(), note text);
    INSERT INTO items (id, note) SELECT n, ''old'' FROM generate_series(1, 5) AS n;
    CREATE VIEW slow AS SELECT id, CASE WHEN pg_sleep(0.5) IS NOT NULL THEN note END AS note FROM items');
SELECT roneo.create_source('Odd "S"', :'source_conninfo');
SELECT roneo.create_plain('Odd "S"', 'public.items', 'public.items');
SELECT roneo.create_plain('Odd "S"', 'public.slow', 'public.slow', copy_data => false);
SELECT roneo.create_updater('Odd "S"', 'public.items', 'public.kept', control => 'at');

-- Arguments.
SELECT throws_ok($$ SELECT roneo.set_refresh_timeout('pg_class', '1 hour') $$, 'RO001', NULL, 'a limit is for replicas');
SELECT throws_ok($$ SELECT roneo.set_refresh_timeout('items', '-1 hour') $$, 'RO007', NULL, 'and not negative');
SELECT throws_ok($$ SELECT roneo.set_source_limits('nowhere') $$, 'RO003', NULL, 'limits are of sources');
SELECT throws_ok(format('SELECT roneo.set_source_limits(%L, %s)', 'Odd "S"', a), 'RO007', NULL, format('%s is refused', a))
FROM unnest(ARRAY['0', '1000', 'max_connections => -1', $$max_snapshot => '0'$$, $$max_snapshot => '-1 s'$$,
                  $$max_lag => '0.5 s'$$, 'max_lag_bytes => 0', 'max_xmin_age => -5']) AS a;
SELECT is((SELECT count(*) FROM roneo.sources WHERE num_nonnulls(max_connections, max_snapshot, max_lag, max_lag_bytes, max_xmin_age) > 0),
    0::bigint, 'nothing came of those');
SELECT throws_ok($$ UPDATE roneo.source SET max_connections = 0 $$, '23514', NULL, 'nor by another way');
SELECT throws_ok($$ UPDATE roneo.replica SET refresh_timeout = '-1 s' $$, '23514', NULL, 'of a replica too');
SELECT throws_ok($$ INSERT INTO roneo.setting VALUES ('refresh_timeout_s', '-1') $$, '23514', NULL, 'nor by a setting');

-- Which limit is whose.
CREATE FUNCTION timeout_of(dest regclass) RETURNS bigint LANGUAGE sql RETURN (SELECT timeout_ms FROM roneo.refresh_limits(dest));
SELECT is(timeout_of('items'), NULL, 'by default there is none');
INSERT INTO roneo.setting VALUES ('refresh_timeout_s', '60');
SELECT is(timeout_of('items'), 60000::bigint, 'the setting is for all');
SELECT roneo.set_refresh_timeout('items', '2 minutes');
SELECT is(timeout_of('items'), 120000::bigint, 'but for those that have their own');
SELECT is(timeout_of('kept'), 60000::bigint, 'and not for others');
SELECT roneo.set_refresh_timeout('items', '0');
SELECT is(timeout_of('items'), NULL, '0 is no limit');
SELECT roneo.set_refresh_timeout('items', NULL);
SELECT is(timeout_of('items'), 60000::bigint, 'NULL is the setting again');
DELETE FROM roneo.setting;
SELECT is((SELECT source_commands FROM roneo.refresh_limits('items')), NULL, 'without a limit the source''s server is told nothing');
SELECT roneo.set_refresh_timeout('items', '1 minute');
BEGIN;
SELECT count(*) FROM roneo.begin_refresh('{items}');
SELECT is(current_setting('statement_timeout'), '70s', 'this server ends what its client did not');
SELECT is(current_setting('idle_in_transaction_session_timeout'), '70s', 'and a client that does nothing');
SELECT is(current_setting('lock_timeout'), '5min', 'and no lock is waited for without end');
ROLLBACK;
SELECT roneo.set_source_limits('Odd "S"', max_snapshot => '30 s');
SELECT is((SELECT source_commands FROM roneo.refresh_limits('items')),
    $$SET LOCAL statement_timeout = '40000ms'; SET LOCAL idle_in_transaction_session_timeout = '40000ms'$$,
    'the source''s server keeps to the shorter limit');
SELECT alike((SELECT timeout_hint FROM roneo.refresh_limits('kept')), '%control_replica SET batch_limit%', 'of an updater the batch is told');
SELECT alike((SELECT timeout_hint FROM roneo.refresh_limits('items')), '%fewer columns or rows%', 'which a copy has not');
SELECT roneo.set_refresh_timeout('items', NULL);
SELECT roneo.set_source_limits('Odd "S"');
SELECT is((SELECT concat(max_snapshot, source_commands) FROM roneo.sources, roneo.refresh_limits('items')), '', 'what is left out is no limit');

-- Refreshes by SQL that take too long.
SELECT roneo.set_refresh_timeout('slow', '1 s');
SELECT row_eq($$ SELECT outcome, sqlstate FROM roneo.refresh('slow') $$, ROW('failed'::text, 'RO030'::text), 'a refresh that takes too long fails');
SELECT alike((SELECT message FROM roneo.run ORDER BY run_id DESC LIMIT 1), '%refresh of public.slow has taken 00:00:01, as long as it may', 'and says why');
SELECT alike((SELECT hint FROM roneo.run ORDER BY run_id DESC LIMIT 1), '%set_refresh_timeout(''public.slow'', …)%', 'and what to do');
SELECT is((SELECT count(*) FROM slow), 0::bigint, 'and leaves nothing');
SELECT is((SELECT failures FROM roneo.replica WHERE dest = 'slow'::regclass), 1, 'it is counted as a failure');
SELECT roneo.set_refresh_timeout('slow', NULL);
SELECT roneo.set_source_limits('Odd "S"', max_snapshot => '1 s');
SELECT row_eq($$ SELECT outcome, sqlstate FROM roneo.refresh('slow') $$, ROW('failed'::text, 'RO031'::text), 'so does one with too long a snapshot');
SELECT alike((SELECT message FROM roneo.run ORDER BY run_id DESC LIMIT 1), 'a snapshot of source "Odd ""S""" has been open for 00:00:01, as long as it may be', 'which says so');
SELECT is(source_value($$ SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%' $$), '0', 'no snapshot stays');
SELECT is((SELECT outcome FROM roneo.refresh('items')), 'ok', 'another is refreshed');
SELECT roneo.set_source_limits('Odd "S"', max_snapshot => '1 min');
SELECT is((SELECT count(*) > 0 FROM roneo.plan('items')), true, 'nor does a dry run know of another''s limit')
FROM roneo.refresh('items') AS r WHERE r.outcome = 'ok' AND current_setting('roneo.limits', true) = '';
SELECT on_source('CREATE OR REPLACE VIEW slow AS SELECT id, note FROM items');
SELECT is((SELECT outcome FROM roneo.refresh('slow')), 'ok', 'and this one, when it is quick');

-- The load of a source, as it answered.
SELECT lives_ok($$ SELECT roneo.set_source_limits('Odd "S"', max_lag => '1 min', max_lag_bytes => 1000000, max_xmin_age => 500) $$, 'limits of its load');
SELECT is((SELECT outcome FROM roneo.refresh('items')), 'ok', 'within them it is read');
SELECT is(roneo.judge_load('Odd "S"', a.answer::jsonb), a.problem, a.answer) FROM (VALUES
    ('{"reads_stats": true, "user": "u", "lag_bytes": 1000000, "lag_s": 60, "xmin": {"age": 500}}', NULL),
    ('{"reads_stats": true, "user": "u", "lag_bytes": null, "lag_s": null, "xmin": null}', NULL),
    ('{"reads_stats": true, "user": "u", "lag_bytes": 1000001}', 'source "Odd ""S""" is paused: its replication lags by 1000001 bytes, and max_lag_bytes is 1000000'),
    ('{"reads_stats": true, "user": "u", "lag_s": 60.5}', 'source "Odd ""S""" is paused: its replication lags by 60.5 s, and max_lag is 00:01:00'),
    ('{"reads_stats": true, "user": "u", "xmin": {"age": 501, "holder": "process 7 (x)"}}',
     'source "Odd ""S""" is paused: its oldest snapshot, of process 7 (x), is 501 transactions old, and max_xmin_age is 500')) AS a (answer, problem);
SELECT row_eq($$ SELECT state, paused_by FROM roneo.sources $$, ROW('paused'::text, 'its oldest snapshot, of process 7 (x), is 501 transactions old, and max_xmin_age is 500'::text),
    'the source is seen to be paused');
SELECT is_empty($$ SELECT * FROM roneo.check() WHERE check_name = 'paused' $$, 'for a moment that is no alarm');
UPDATE roneo.source SET paused_since = now() - interval '2 hours';
SELECT row_eq($$ SELECT object, level, message FROM roneo.check() WHERE check_name = 'paused' $$, ROW('"Odd ""S"""'::text, 'WARNING'::text,
    'nothing is refreshed from it for 2 h: its oldest snapshot, of process 7 (x), is 501 transactions old, and max_xmin_age is 500'::text), 'for hours it is');

-- A refresh that finds it so, in fact: transactions are used up while one snapshot stays open.
SELECT dblink_connect('holder', :'source_conninfo');
SELECT dblink_exec('holder', 'BEGIN ISOLATION LEVEL REPEATABLE READ');
SELECT on_source('DO $$ BEGIN FOR n IN 1 .. 30 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$')
FROM dblink('holder', 'SELECT 1') AS t (one int);
SELECT roneo.set_source_limits('Odd "S"', max_xmin_age => 20);
SELECT row_eq($$ SELECT outcome, sqlstate FROM roneo.refresh('items') $$, ROW('deferred'::text, 'RO032'::text), 'a refresh is deferred then');
SELECT alike((SELECT message FROM roneo.run ORDER BY run_id DESC LIMIT 1), 'source "Odd ""S""" is paused: its oldest snapshot, of process % transactions old, and max_xmin_age is 20',
    'and says which limit, and what it was');
SELECT is((SELECT state FROM roneo.sources), 'paused', 'the source is paused');
SELECT is((SELECT failures FROM roneo.replica WHERE dest = 'items'::regclass), 0, 'that is no failure');
CREATE TEMPORARY TABLE told AS SELECT count(*) AS runs FROM roneo.run;
SELECT is((SELECT outcome FROM roneo.refresh('items')), 'deferred', 'once more');
SELECT is((SELECT count(*) FROM roneo.run), (SELECT runs FROM told), 'which makes no other row of the history');
SELECT dblink_disconnect('holder');
SELECT is((SELECT outcome FROM roneo.refresh('items')), 'ok', 'when that is over it goes on');
SELECT is((SELECT concat_ws(' ', state, paused_by) FROM roneo.sources), 'ok', 'and the source is not paused');

-- Connections.
SELECT roneo.set_source_limits('Odd "S"', max_connections => 1);
INSERT INTO roneo.setting VALUES ('lock_attempts', '2'), ('lock_timeout_ms', '10');
SELECT dblink_connect('other', format('dbname=%s host=%s port=%s user=postgres', current_database(), :'socket', :'port'));
SELECT isnt((SELECT slot FROM dblink('other', 'SELECT roneo.try_source_slot(source_id, 1, true) FROM roneo.source') AS t (slot int)), NULL, 'another session has the only place');
SELECT is((SELECT connections FROM roneo.sources), 1::bigint, 'which can be seen');
SELECT row_eq($$ SELECT outcome, sqlstate FROM roneo.refresh('items') $$, ROW('deferred'::text, 'RO033'::text), 'there is none for a refresh');
SELECT dblink_disconnect('other');
SELECT is((SELECT outcome FROM roneo.refresh('items')), 'ok', 'until it is given back');
SELECT is((SELECT connections FROM roneo.sources), 0::bigint, 'a refresh gives it back too');

-- A role that may not know.
SELECT roneo.set_source_limits('Odd "S"', max_lag => '1 min', max_xmin_age => 5);
SELECT is(roneo.judge_load('Odd "S"', '{"reads_stats": false, "user": "Some One"}'), NULL, 'what cannot be known defers nothing');
SELECT row_eq($$ SELECT level, message FROM roneo.check() WHERE check_name = 'limits' $$, ROW('WARNING'::text,
    'limits are not kept: role "Some One" may not read there what max_lag, max_xmin_age need'::text), 'but check says so');
SELECT is((SELECT fix FROM roneo.preflight('Odd "S"', '{"reads_stats": false, "user": "Some One", "identity": {"database": "x", "version": 150000, "encoding": "UTF8"}, "tables": []}') WHERE item = 'limits'),
    'GRANT pg_read_all_stats TO "Some One";', 'and preflight what to grant');
SELECT is((SELECT ok FROM roneo.check_source('Odd "S"') WHERE item = 'limits'), true, 'which a superuser needs not');
SELECT * FROM finish();
