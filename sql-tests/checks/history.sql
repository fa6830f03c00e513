-- Alone in the cluster: others' open transactions would have rows read again.
-- Refreshes that find nothing to do, one after the other, are one row of the history; and moments of
-- one's own, at which thousands do not do the same thing together.
SET client_min_messages = warning;
SELECT plan(31);

SELECT on_source('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)') \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT roneo.create_updater('src', 't', 'u', control => 'id', refresh_every => '1 minute', copy_data => false),
       roneo.create_updater('src', 't', 'v', control => 'id', copy_data => false) \g /dev/null
-- What the history says of one, in its order.
CREATE FUNCTION rows_of(dest text) RETURNS text LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', h.outcome, nullif(h.repeats, 1)), ', ' ORDER BY h.run_id) FROM roneo.run AS h WHERE h.dest = rows_of.dest);

DO $$ BEGIN FOR n IN 1 .. 20 LOOP PERFORM roneo.refresh('u'); END LOOP; END $$;
SELECT matches(rows_of('public.u'), '^(ok, ){0,2}unchanged (18|19|20)$', 'of many refreshes that find nothing to do, one row tells');
DELETE FROM roneo.run;
SELECT * FROM roneo.refresh('u') \gset first_
SELECT * FROM roneo.refresh('u') \gset second_
SELECT roneo.refresh('v') FROM generate_series(1, 3) \g /dev/null
SELECT * FROM roneo.refresh('u') \gset third_
SELECT is(ARRAY[:second_run_id, :third_run_id], ARRAY[:first_run_id, :first_run_id], 'a refresh returns it');
SELECT is(:'third_started_at'::text, :'first_started_at', 'it begins with the first');
SELECT ok(:'third_ended_at'::timestamptz > :'second_ended_at'::timestamptz AND :'second_ended_at'::timestamptz > :'first_ended_at'::timestamptz,
    'and ends with the last');
SELECT is((:third_repeats, :second_repeats, :first_repeats)::text, '(3,2,1)', 'of so many');
SELECT is(generation, 23::bigint, 'each of them counts for the replica') FROM roneo.replica WHERE dest_name = 'u';
SELECT ok(last_success_at > :'second_ended_at', 'which is as fresh as the last one says') FROM roneo.replica WHERE dest_name = 'u';
SELECT matches(rows_of('public.v'), 'unchanged', 'another replica has its own');

-- What it does not stand for.
SELECT on_source('INSERT INTO t VALUES (3)') \g /dev/null
SELECT roneo.refresh('u') \g /dev/null
SELECT roneo.refresh('u') \g /dev/null
SELECT matches(rows_of('public.u'), '^unchanged 3, ok(, ok)?, unchanged$|^unchanged 3, ok, ok$', 'nothing is counted past a copy');
DELETE FROM roneo.run;
SELECT roneo.refresh('u') FROM generate_series(1, 3) \g /dev/null
DELETE FROM roneo.run WHERE outcome <> 'unchanged';
UPDATE roneo.run SET repeats = 1;
SELECT roneo.refresh('u') \g /dev/null
SELECT is(rows_of('public.u'), 'unchanged 2', 'refreshes go on');
UPDATE roneo.run SET warning = 'something';
SELECT roneo.refresh('u') \g /dev/null
SELECT is(rows_of('public.u'), 'unchanged 2, unchanged', 'nor past a warning');
UPDATE roneo.run SET hand = 'runner';
SELECT roneo.refresh('u') \g /dev/null
SELECT is(rows_of('public.u'), 'unchanged 2, unchanged, unchanged', 'another hand');
UPDATE roneo.run SET started_at = started_at - interval '1 day';
SELECT roneo.refresh('u') \g /dev/null
SELECT is(rows_of('public.u'), 'unchanged 2, unchanged, unchanged, unchanged', 'or a day');
INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at)
SELECT replica_id, 'public.u', 'updater', 'sql', 'running', clock_timestamp() FROM roneo.replica WHERE dest_name = 'u';
SELECT roneo.refresh('u') \g /dev/null
SELECT matches(rows_of('public.u'), 'unchanged, abandoned, unchanged$', 'and one that was killed is seen');
SELECT throws_ok($$ UPDATE roneo.run SET repeats = 2 WHERE outcome = 'abandoned' $$, '23514', NULL, 'only what found nothing to do stands for others');
SELECT throws_ok('UPDATE roneo.run SET repeats = 0', '23514', NULL, 'and none for nothing');
ALTER TABLE u RENAME TO renamed;
SELECT roneo.refresh('renamed') \g /dev/null
SELECT is(rows_of('public.renamed'), 'unchanged', 'under another name it is told apart');
ALTER TABLE renamed RENAME TO u;
SELECT roneo.refresh('u') \g /dev/null

-- It is as old as the last of them.
DELETE FROM roneo.run;
INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, ended_at, seconds, repeats)
SELECT replica_id, 'public.u', 'updater', 'sql', 'unchanged', now() - interval '91 days', now() - age, 1, repeats
FROM roneo.replica, (VALUES (interval '89 days', 2), (interval '90 days 1 minute', 3)) AS e (age, repeats) WHERE dest_name = 'u';
SELECT roneo.refresh('u') \g /dev/null
SELECT is(rows_of('public.u'), 'unchanged 2, unchanged', 'it is forgotten when the last of them is');

-- Numbers: twelve refreshes, an hour apart, the last of them an hour ago.
DELETE FROM roneo.run;
INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, ended_at, seconds, repeats)
SELECT replica_id, 'public.u', 'updater', 'sql', 'unchanged', now() - interval '12 hours', now() - interval '1 hour', 0, 12
FROM roneo.replica WHERE dest_name = 'u';
SELECT results_eq($$ SELECT bucket, runs FROM roneo.run_buckets(now() - interval '12 hours 30 minutes', now() - interval '30 minutes', 12) $$,
    $$ SELECT n, 1::bigint FROM generate_series(0, 11) AS n $$, 'they are spread over the time they took');
SELECT results_eq($$ SELECT bucket, runs FROM roneo.run_buckets(now() - interval '4 hours 40 minutes', now(), 3) $$,
    $$ VALUES (0, 1::bigint), (1, 2::bigint), (2, 1::bigint) $$, 'what came before is left out');
SELECT results_eq($$ SELECT bucket, runs FROM roneo.run_buckets(now() - interval '1 day', now() - interval '6 hours 30 minutes', 1) $$,
    $$ VALUES (0, 6::bigint) $$, 'and what came after');
SELECT is((SELECT sum(b.runs) FROM roneo.run AS u, generate_series(1, 50) AS n, roneo.run_buckets(u.started_at, u.ended_at, n) AS b), 600::numeric,
    'none is lost between two stretches, nor counted twice');
SELECT is(runs, '{"unchanged": 12}', 'the metrics of a day have them all') FROM roneo.replica_metrics() WHERE dest = 'public.u';
UPDATE roneo.run SET started_at = now() - interval '35 hours 30 minutes', ended_at = now() - interval '13 hours 30 minutes', repeats = 23;
SELECT is(runs, '{"unchanged": 11}', 'and no more than came that day') FROM roneo.replica_metrics() WHERE dest = 'public.u';
SELECT isnt_empty($$ SELECT FROM roneo.check() WHERE check_name = 'freshness' AND object = 'public.u' AND level = 'OK' $$, 'it is well');
UPDATE roneo.replica SET last_success_at = now() - interval '1 hour', last_attempt_at = now() - interval '1 hour' WHERE dest_name = 'u';
SELECT isnt_empty($$ SELECT FROM roneo.check() WHERE check_name = 'freshness' AND object = 'public.u' AND level = 'CRITICAL' $$,
    'until nobody comes: the row in the history does not make it fresh');
-- Deferred at its last attempt: what it waited is counted from the last of them.
UPDATE roneo.run SET started_at = now() - interval '3 hours', ended_at = now() - interval '1 hour', seconds = 0, repeats = 3;
INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, ended_at)
SELECT replica_id, 'public.u', 'updater', 'sql', o.outcome, now() - o.age, now() - o.age
FROM roneo.replica, (VALUES ('deferred', interval '50 minutes'), ('ok', interval '40 minutes')) AS o (outcome, age) WHERE dest_name = 'u';
SELECT is(max(waited) BETWEEN 18 * 60 AND 20 * 60, true, 'a delay is counted from the last of them') FROM roneo.run_buckets(now() - interval '1 day', now(), 1);

-- Moments.
CREATE TABLE moment AS
SELECT n, t, roneo.own_moment(n, t, interval '600 s') AS at
FROM generate_series(1, 1000) AS n, (VALUES (timestamptz '2026-03-29 01:00:00.123456+00'), ('2026-03-29 01:09:59+00')) AS v (t);
SELECT is((SELECT count(*) FROM moment WHERE at > t AND at <= t + interval '600.00001 s'), 2000::bigint, 'a replica''s own moment comes, and in time');
SELECT is((SELECT count(*) FROM moment WHERE abs(extract(epoch FROM roneo.own_moment(n, at + interval '1 ms', interval '600 s') - at) - 600) < 0.001), 2000::bigint,
    'and then again and again');
SELECT ok(min(k) >= 95 AND max(k) <= 105, 'a thousand have theirs at all times') FROM (
    SELECT count(*) AS k FROM moment WHERE t = '2026-03-29 01:09:59+00' GROUP BY floor(extract(epoch FROM at - t) / 60)) AS c;
SELECT ok(bool_and(k <= 3), 'and not many at once') FROM (
    SELECT count(*) AS k FROM moment WHERE t = '2026-03-29 01:09:59+00' GROUP BY floor(extract(epoch FROM at - t))) AS c;

SELECT * FROM finish();
