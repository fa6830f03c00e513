-- When a replica is due, and what refresh_due makes of those that are.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SELECT plan(47);

-- The grid.
SELECT is(roneo.next_on_grid('2026-01-01 10:00', every::interval, after::timestamptz), expected::timestamptz, what)
FROM (VALUES
    ('1 hour',     '2026-01-01 10:00',           '2026-01-01 11:00',    'the next point is later than the last success'),
    ('1 hour',     '2026-01-01 10:59:59.999999', '2026-01-01 11:00',    'a late success does not move the grid'),
    ('1 hour',     '2026-01-01 11:00',           '2026-01-01 12:00',    'a success on the grid is one for that point'),
    ('1 hour',     '2026-01-01 11:00:00.000001', '2026-01-01 12:00',    'and so is one just after it'),
    ('1 hour',     '2026-01-03 07:30',           '2026-01-03 08:00',    'missed hours are one run'),
    ('1 hour',     '2026-01-01 08:30',           '2026-01-01 09:00',    'the grid reaches back before its anchor'),
    ('1 day',      '2026-03-29 09:00',           '2026-03-29 10:00',    'days have 24 hours on the day that clocks change'),
    ('90 seconds', '2026-01-01 10:01',           '2026-01-01 10:01:30', 'any interval makes a grid'),
    ('0.25 s',     '2026-01-01 10:00:00.3',      '2026-01-01 10:00:00.5', 'even a very short one'),
    ('1 month',    '2026-01-01 10:01',           '2026-01-31 10:00',    'and a month has thirty days'),
    (NULL,         '2026-01-01 10:01',           NULL,                  'without an interval there is none'),
    ('1 hour',     NULL,                         NULL,                  'nor without a success')
) AS c (every, after, expected, what);
SELECT is_empty($$
    SELECT every, after, next
    FROM unnest('{7 minutes 1 second,0.1 s,1 hour,3 days 5 hours}'::interval[]) AS every,
         generate_series(0, 2000) AS n,
         LATERAL (SELECT timestamptz '2026-01-01 10:00' + n * interval '13:37:11.123457') AS a (after),
         roneo.next_on_grid('2026-01-01 10:00', every, after) AS next
    WHERE NOT (next > after AND next - every <= after)
       OR mod(extract(epoch FROM next - timestamptz '2026-01-01 10:00'), extract(epoch FROM every)) <> 0
$$, 'over years the next point is always on the grid, and the first one');

-- Failures.
SELECT is(roneo.backoff(failures), pause::interval, format('after %s failures in a row it is left alone for %s', failures, pause))
FROM (VALUES (0, NULL), (1, '1 min'), (2, '2 min'), (3, '4 min'), (6, '32 min'), (7, '1 hour'), (1000000, '1 hour')) AS c (failures, pause);
SELECT is(roneo.due_at(jsonb_populate_record(NULL::roneo.replica, jsonb_build_object('enabled', true, 'refresh_every', '1 hour',
              'created_at', '2026-01-01 10:00Z', 'failures', 0) || facts::jsonb)), expected::timestamptz, what)
FROM (VALUES
    ('{}',                                                                '2026-01-01 10:00', 'what was never refreshed is due from its creation on'),
    ('{"last_success_at": "2026-01-01 10:07Z", "last_attempt_at": "2026-01-01 10:07Z"}', '2026-01-01 11:00', 'then at each point of the grid'),
    ('{"last_success_at": "2026-01-01 10:07Z", "last_attempt_at": "2026-01-01 11:20Z"}', '2026-01-01 11:00', 'a deferred attempt leaves it due'),
    ('{"last_success_at": "2026-01-01 10:07Z", "last_attempt_at": "2026-01-01 11:20Z", "failures": 1}', '2026-01-01 11:21', 'a failed one leaves it alone for a minute'),
    ('{"last_success_at": "2026-01-01 10:07Z", "last_attempt_at": "2026-01-01 11:20Z", "failures": 4}', '2026-01-01 11:28', 'several for longer'),
    ('{"last_success_at": "2026-01-01 10:07Z", "last_attempt_at": "2026-01-01 10:30Z", "failures": 1}', '2026-01-01 11:00', 'but not less than the interval'),
    ('{"last_attempt_at": "2026-01-01 10:30Z", "failures": 2}',           '2026-01-01 10:32', 'one that has only failed is tried again too'),
    ('{"enabled": false}',                                                NULL, 'what is disabled is never due'),
    ('{"refresh_every": null}',                                           NULL, 'nor what has no interval')
) AS c (facts, expected, what);

-- Replicas that are due.
SELECT on_source($$ CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE gone (id int) $$) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo'), roneo.create_source('other', :'source_conninfo') \g /dev/null
SELECT roneo.create_plain('src', 't', d, refresh_every => '1 hour', copy_data => false)
FROM unnest('{third,first,rejecting,disabled,recent,busy,dropped}'::text[]) AS d \g /dev/null
SELECT roneo.create_plain('src', 't', 'unscheduled', copy_data => false),
       roneo.create_plain('src', 'gone', 'lost', refresh_every => '1 hour', copy_data => false),
       roneo.create_snapshot('other', 't', 'elsewhere', refresh_every => '1 hour', copy_data => false) \g /dev/null
UPDATE roneo.replica SET created_at = now() - since::interval
FROM (VALUES ('first', '9 days'), ('rejecting', '8 days'), ('lost', '7 days'), ('dropped', '6 days'), ('busy', '5 days'),
             ('third', '4 days'), ('elsewhere', '3 days'), ('recent', '2 days'), ('disabled', '10 days'), ('unscheduled', '10 days')) AS s (name, since)
WHERE dest_name = name;
UPDATE roneo.replica SET enabled = false WHERE dest_name = 'disabled';
UPDATE roneo.replica SET last_success_at = now() WHERE dest_name = 'recent';
SELECT is(ARRAY(SELECT dest FROM roneo.due()), ARRAY['public.first', 'public.rejecting', 'public.lost', 'public.dropped', 'public.busy', 'public.third', 'public.elsewhere'],
    'those that have waited longest come first, and no others');
SELECT is(ARRAY(SELECT dest FROM roneo.due('{other}')), '{public.elsewhere}', 'those of some sources');
SELECT is(ARRAY(SELECT dest FROM roneo.due(methods => '{snapshot}')), '{public.elsewhere}', 'of some methods');
SELECT is(ARRAY(SELECT dest FROM roneo.due('{other}', '{plain}')), '{}', 'of both');
SELECT is(ARRAY(SELECT dest FROM roneo.due('{}')), '{}', 'of none');
SELECT is_empty('SELECT * FROM roneo.due() WHERE due_at > now()', 'none is due in the future');

-- Refreshing them: one cannot be read, one takes no rows, one no COMMIT, one is gone, and one has another session.
SELECT on_source('DROP TABLE gone') \g /dev/null
CREATE TABLE referenced (id int PRIMARY KEY);
ALTER TABLE rejecting ADD FOREIGN KEY (id) REFERENCES referenced DEFERRABLE INITIALLY DEFERRED;
DROP TABLE dropped;
SELECT dblink_connect('busy', format('host=%s port=%s dbname=%s user=postgres', :'socket', :'port', :'dest_db')) \g /dev/null
SELECT dblink_exec('busy', 'BEGIN') \g /dev/null
SELECT r FROM dblink('busy', $$ SELECT state FROM roneo.begin_refresh('{busy}') $$) AS t(r text) \g /dev/null
CALL roneo.refresh_due(max_runtime => '0');
SELECT is((SELECT count(*) FROM roneo.run), 0::bigint, 'without time nothing is started');
CALL roneo.refresh_due('{other}');
SELECT results_eq('SELECT dest, outcome FROM roneo.run', $$ VALUES ('public.elsewhere', 'ok') $$, 'one source can be refreshed alone');
-- What it says goes to the session's client.
\set said `psql -X -q -d :dest_db -c 'CALL roneo.refresh_due()' 2>&1`
SELECT results_eq('SELECT dest, outcome, sqlstate FROM roneo.run WHERE run_id > 1 ORDER BY run_id', $$ VALUES
    ('public.first', 'ok', NULL), ('public.rejecting', 'failed', '23503'), ('public.lost', 'failed', 'RO004'),
    ('public.dropped', 'failed', 'RO018'), ('public.busy', 'deferred', 'RO002'), ('public.third', 'ok', NULL) $$,
    'all that are due are refreshed, whatever happens to one of them');
SELECT is(ARRAY(SELECT m[1] FROM regexp_matches(:'said', 'WARNING:  (\S+) was not refreshed', 'g') AS m),
    '{public.rejecting,public.lost,public.dropped}', 'a warning tells each that failed');
SELECT is((SELECT count(*) FROM first) + (SELECT count(*) FROM third) + (SELECT count(*) FROM elsewhere), 3::bigint, 'the others have their rows');
SELECT is(ARRAY(SELECT dest FROM roneo.due()), '{public.busy}', 'one that was busy is still due, those that failed are left alone');
SELECT dblink_exec('busy', 'ROLLBACK') \g /dev/null
UPDATE roneo.replica SET last_attempt_at = last_attempt_at - interval '2 minutes' WHERE failures > 0;
SELECT is(ARRAY(SELECT dest FROM roneo.due()), '{public.busy,public.rejecting,public.lost,public.dropped}', 'for a while');
INSERT INTO referenced VALUES (1);
SET search_path = pg_temp, pg_catalog;
SET client_min_messages = error;
CALL roneo.refresh_due();
SET client_min_messages = warning;
SELECT current_setting('search_path') AS path \gset
RESET search_path;
SELECT is(:'path', text 'pg_temp, pg_catalog', 'the search_path of the caller stays');
SELECT is(ARRAY(SELECT concat_ws(' ', dest_name, last_outcome, failures) FROM roneo.replica
                WHERE last_attempt_at IS NOT NULL ORDER BY last_outcome, dest_name),
    '{dropped failed 2,lost failed 2,busy ok 0,elsewhere ok 0,first ok 0,rejecting ok 0,third ok 0}',
    'failures are counted until the next success');
SELECT is((SELECT last_message FROM roneo.replica WHERE dest_name = 'rejecting'), NULL, 'which forgets what was wrong');
SELECT is_empty('SELECT * FROM roneo.due()', 'nothing is due any more');
UPDATE roneo.replica SET last_success_at = last_success_at - interval '5 hours' WHERE dest_name IN ('first', 'third');
CALL roneo.refresh_due();
SELECT is((SELECT count(*) FROM roneo.run WHERE dest = 'public.first'), 2::bigint, 'hours that were missed are one refresh');
