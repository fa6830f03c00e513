-- Verifications that fail: told by the history, the verdict and check, and never counted as refreshes;
-- and what a verdict of equal does not vouch for.
SET client_min_messages = warning;
SELECT no_plan();

SELECT on_source($$
    CREATE TABLE switch (sqlstate text);
    CREATE FUNCTION allowed(id int) RETURNS boolean LANGUAGE plpgsql AS $f$
    DECLARE code text := (SELECT sqlstate FROM public.switch);
    BEGIN IF code IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = code, MESSAGE = 'not now'; END IF; RETURN true; END $f$;
    CREATE TABLE orders (id int PRIMARY KEY, code text UNIQUE, at timestamptz NOT NULL);
    INSERT INTO orders SELECT i, 'c' || i, timestamptz '2024-01-01' + i * interval '1 s' FROM generate_series(1, 100) AS i;
    CREATE TABLE log (at timestamptz NOT NULL, n int);
    INSERT INTO log SELECT timestamptz '2024-01-01' + i * interval '1 s', i FROM generate_series(1, 100) AS i $$) \g /dev/null
SELECT roneo.create_source('main', current_setting('test.source_conninfo')) \g /dev/null
SELECT roneo.create_dml('main', 'orders', 'dml', filter => 'public.allowed(id)', refresh_every => '1 hour'),
       roneo.create_plain('main', 'orders', 'plain', refresh_every => '1 hour'),
       roneo.create_snapshot('main', 'orders', 'snapshot'),
       roneo.create_updater('main', 'orders', 'updater', control => 'at', boundary => '1 hour'),
       roneo.create_updater('main', 'orders', 'updater_id', control => 'id', boundary => '10'),
       roneo.create_updater('main', 'orders', 'updater_all', control => 'at'),
       roneo.create_inserter('main', 'log', 'bounded', control => 'at', boundary => '1 hour') \g /dev/null
SELECT count(*) FROM roneo.replica AS r, roneo.verify(r.dest) \g /dev/null
SELECT roneo.set_verification('dml', '1 week') \g /dev/null

-- While the rows are compared.
CREATE TEMP TABLE before AS SELECT to_jsonb(r) - 'generation' - 'last_attempt_at' AS replica, roneo.due_at(r) AS due_at FROM roneo.replica AS r WHERE dest = 'dml'::regclass;
SELECT on_source('INSERT INTO switch VALUES (''P0001'')') \g /dev/null
SELECT is((verdict, why)::text, '(undecided,"not now")', 'an error of the source leaves it undecided') FROM roneo.verify('dml');
SELECT is((kind, outcome, sqlstate, hand)::text, '(verify,failed,P0001,sql)', 'and is a run, of kind verify')
FROM roneo.run WHERE dest = 'public.dml' ORDER BY run_id DESC LIMIT 1;
SELECT is((failures, lasting_failures, quarantined_at, last_outcome)::text, '(0,0,,unchanged)', 'no refresh has failed') FROM roneo.replica WHERE dest = 'dml'::regclass;
SELECT results_eq($$ SELECT to_jsonb(r) - 'generation' - 'last_attempt_at', roneo.due_at(r) FROM roneo.replica AS r WHERE dest = 'dml'::regclass $$,
    'TABLE before', 'nothing about its refreshes has changed, nor when it is due');
SELECT is((state, alert, failures, verdict, message)::text, '(ok,OK,0,undecided,)', 'nor in the status, but the verdict') FROM roneo.status WHERE dest = 'public.dml';
SELECT is((verdict, why)::text, '(undecided,"not now")', 'it is kept why') FROM roneo.verifications WHERE dest = 'public.dml';
SELECT results_eq($$ SELECT check_name, level, message, advice FROM roneo.check() WHERE object = 'public.dml' AND level <> 'OK' $$,
    $$ VALUES ('verification', 'WARNING', 'the last verification failed 0 s ago: P0001 not now',
               'Read the whole error and mend it: roneo history ''public.dml''. Then: roneo verify ''public.dml''') $$, 'and check finds that, and no more');
SELECT is(count(*), 20::bigint, 'twenty more') FROM generate_series(1, 20), roneo.verify('dml');
SELECT is((SELECT count(*) FROM roneo.run WHERE dest = 'public.dml' AND kind = 'verify'), 1::bigint, 'are told in one row of the history');
SELECT is((failures, quarantined_at)::text, '(0,)', 'and lead to no quarantine') FROM roneo.replica WHERE dest = 'dml'::regclass;
SELECT is((SELECT message FROM roneo.run_failures(now() - interval '1 hour', clock_timestamp())), 'verification: not now', 'a report tells it from refreshes');
SELECT is((SELECT sum(failed) FROM roneo.run_buckets(now() - interval '1 hour', clock_timestamp(), 1)), 0::numeric, 'and does not count it among them');
SELECT is((SELECT runs -> 'failed' FROM roneo.replica_metrics() WHERE dest = 'public.dml'), NULL, 'nor do metrics');

-- What is known to differ stays so.
SELECT on_source('DELETE FROM switch') \g /dev/null
UPDATE dml SET code = 'x' WHERE id = 7;
SELECT is(verdict, 'differs', 'a row differs') FROM roneo.verify('dml');
SELECT is_empty($$ SELECT FROM roneo.check() WHERE check_name = 'verification' $$, 'a verification that ends takes the failure back');
SELECT on_source('INSERT INTO switch VALUES (''57014'')') \g /dev/null
SELECT is(verdict, 'undecided', 'what is cancelled on the source is a failure too') FROM roneo.repair('dml', apply => true);
SELECT results_eq($$ SELECT check_name, level, message FROM roneo.check() WHERE object = 'public.dml' AND level <> 'OK' $$,
    $$ VALUES ('content', 'CRITICAL', 'differs from its source, found 0 s ago: 0 missing, 0 too many, 1 changed'),
              ('verification', 'WARNING', 'the last verification failed 0 s ago: 57014 not now') $$, 'a failure does not hide the difference');
SELECT is((verdict, differences)::text, '(undecided,1)', 'which is still counted') FROM roneo.status WHERE dest = 'public.dml';
SELECT on_source('DELETE FROM switch') \g /dev/null
SELECT is(verdict, 'repaired', 'until it is repaired') FROM roneo.repair('dml', apply => true);
SELECT is_empty($$ SELECT FROM roneo.check() WHERE object = 'public.dml' AND level <> 'OK' $$, 'then all is well');

-- A part of it, and others of a group.
SELECT on_source('INSERT INTO switch VALUES (''P0001'')') \g /dev/null
SELECT is(verdict, 'undecided', 'a range that fails') FROM roneo.verify('dml', from_value => '5');
SELECT is((SELECT verdict FROM roneo.verifications WHERE dest = 'public.dml'), 'repaired', 'says nothing of the whole');
SELECT is((SELECT count(*) FROM roneo.run WHERE dest = 'public.dml' AND kind = 'verify'), 3::bigint, 'but is in the history');

-- Slices.
INSERT INTO roneo.verification_slice (replica_id, slice, from_value, to_value)
SELECT r.replica_id, n, CASE n WHEN 2 THEN '50' END, CASE n WHEN 1 THEN '50' END FROM roneo.replica AS r, generate_series(1, 2) AS n WHERE dest = 'dml'::regclass;
CALL roneo.verify_due();
SELECT is((SELECT array_agg(verdict) FROM roneo.verification_slice), '{undecided,undecided}', 'slices that fail');
SELECT is((SELECT count(*) FROM roneo.run WHERE dest = 'public.dml' AND kind = 'verify'), 3::bigint, 'alike are told in one row');
SELECT on_source('DELETE FROM switch') \g /dev/null
UPDATE roneo.verification_slice SET checked_at = now() - interval '8 days' WHERE slice = 1;
CALL roneo.verify_due();
SELECT is((SELECT count(*) FROM roneo.check() WHERE check_name = 'verification'), 1::bigint, 'as long as one of them failed, check says so');
SELECT is((verdict, why)::text, '(undecided,"not now")', 'and the verdict') FROM roneo.verifications WHERE dest = 'public.dml';
UPDATE roneo.verification_slice SET checked_at = now() - interval '8 days' WHERE slice = 2;
CALL roneo.verify_due();
SELECT is((SELECT count(*) FROM roneo.check() WHERE check_name = 'verification'), 0::bigint, 'and no longer');

-- The refresh that it begins with.
SELECT on_source('INSERT INTO orders VALUES (200, ''c200'', now())') \g /dev/null
INSERT INTO plain VALUES (-1, 'mine', now());
ALTER TABLE plain ADD CONSTRAINT few CHECK (id < 200);
SELECT is(verdict, 'undecided', 'rows that are refused here') FROM roneo.verify('plain');
SELECT is((kind, outcome, sqlstate)::text, '(verify,failed,23514)', 'are a failed verification') FROM roneo.run WHERE dest = 'public.plain' ORDER BY run_id DESC LIMIT 1;
SELECT is((failures, last_outcome = 'failed')::text, '(0,f)', 'which counts for nothing') FROM roneo.replica WHERE dest = 'plain'::regclass;
SELECT is((kind, outcome, sqlstate)::text, '(refresh,failed,23514)', 'the refresh itself counts it') FROM roneo.refresh('plain');
SELECT is((failures, last_outcome)::text, '(1,failed)', 'when it comes') FROM roneo.replica WHERE dest = 'plain'::regclass;
SELECT is(verdict, 'undecided', 'a verification in between') FROM roneo.verify('plain');
SELECT is((message ~ 'few', last_seconds IS NOT NULL)::text, '(t,t)', 'leaves the status of the refresh as it is') FROM roneo.status WHERE dest = 'public.plain';
ALTER TABLE plain DROP CONSTRAINT few;
SELECT is((verdict, copied_anew)::text, '(equal,t)', 'mended, it is copied anew') FROM roneo.verify('plain');
SELECT is(failures, 0, 'and the refresh that a verification began with ends the failures') FROM roneo.replica WHERE dest = 'plain'::regclass;

-- Put off.
SELECT is(roneo.record_failed_verification('plain', '{}', '55P03', 'busy', NULL, NULL, '{}'), 'deferred', 'a lock that is not there puts it off');
SELECT is(roneo.record_failed_verification('plain', '{}', '57014', 'told to stop', NULL, NULL, '{"cancelled": true}'), 'failed', 'one that was cancelled');
SELECT is((SELECT count(*) FROM roneo.check() WHERE check_name = 'verification'), 0::bigint, 'neither is an alarm');
SELECT is((SELECT why FROM roneo.verifications WHERE dest = 'public.plain'), 'told to stop', 'but there is no verdict');
SELECT is(roneo.record_failed_verification('plain', NULL, 'P0001', 'of another', NULL, NULL, '{}'), 'failed', 'of one that was only refreshed along');
SELECT is((SELECT why FROM roneo.verifications WHERE dest = 'public.plain'), 'told to stop', 'nothing is said');

-- What was not compared.
SELECT on_source('INSERT INTO orders VALUES (300, ''c300'', now()); INSERT INTO log VALUES (now(), 1)') \g /dev/null
SELECT results_eq($$ SELECT v.verdict, v.not_compared FROM unnest('{updater,updater_id,bounded}'::regclass[]) WITH ORDINALITY AS d (dest, nr), roneo.verify(d.dest) AS v ORDER BY nr $$,
    $$ VALUES ('equal', 'rows above 2024-01-01 00:01:40+00 of at are not to be here yet, and were not compared'),
              ('equal', 'rows above 200 of id are not to be here yet, and were not compared'),
              ('equal', 'rows above 2024-01-01 00:01:40+00 of at are not to be here yet, and were not compared') $$,
    'rows within the boundary are said to be left out');
SELECT is(not_compared, NULL, 'not where the range ends below the position') FROM roneo.verify('updater_id', to_value => '100');
SELECT isnt(not_compared, NULL, 'but where it goes beyond') FROM roneo.verify('updater_id', to_value => '250');
SELECT results_eq($$ SELECT v.verdict, v.not_compared FROM roneo.verify('updater_all') AS v $$, $$ VALUES ('equal', NULL::text) $$, 'nor where there can be none');
SELECT matches(why, '^rows above 200 of id', 'which is kept') FROM roneo.verifications WHERE dest = 'public.updater_id';

-- What was copied anew.
SELECT count(*) FROM roneo.verify('snapshot') \g /dev/null
SELECT is((verdict, copied_anew)::text, '(equal,f)', 'a snapshot whose source is as it was is compared as it is') FROM roneo.verify('snapshot');
SELECT roneo.shown_table(m) AS shown FROM roneo.snapshot_replica AS m \gset
DELETE FROM :"shown" WHERE id = 3;
SELECT on_source('UPDATE orders SET at = at WHERE id = 4') \g /dev/null
SELECT settle_source() \g /dev/null
SELECT is((verdict, copied_anew)::text, '(equal,t)', 'after a change it is copied anew, and what was wrong is gone unseen') FROM roneo.verify('snapshot');
SELECT is(why, 'copied anew first: only that copy was compared', 'which is kept') FROM roneo.verifications WHERE dest = 'public.snapshot';
SELECT is(copied_anew, false, 'other methods are not') FROM roneo.verify('dml');
SELECT * FROM finish();
