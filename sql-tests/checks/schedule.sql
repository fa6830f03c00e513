-- When a refresh may begin and which comes first: windows, priority, jitter, quarantine, groups.
SET client_min_messages = error;
SET TimeZone = 'UTC';
SELECT plan(137);

-- Windows as people write them.
SELECT is(roneo.windows_of(windows)::text, expected, format('%L is understood', windows)) FROM (VALUES
    ('mon 08:00-09:30',                   '{[480,570)}'),
    ('Monday 8:00-9:30',                  '{[480,570)}'),
    (' tue ,  thu 12:00 - 13:00 ; ',      '{[2160,2220),[5040,5100)}'),
    ('sat,sun',                           '{[7200,10080)}'),
    ('mon-fri 22:00-06:00; sat,sun',      '{[1320,1800),[2760,3240),[4200,4680),[5640,6120),[7080,10080)}'),
    ('fri 22:00-24:00',                   '{[7080,7200)}'),
    ('sun 23:00-02:00',                   '{[10020,10200)}'),
    ('sun 23:00-24:00; mon 00:00-01:00',  '{[10020,10140)}'),
    ('sat-mon',                           '{[7200,11520)}'),
    ('wed 06:00-07:00,20:00-21:00',       '{[3240,3300),[4080,4140)}'),
    ('mon 00:00-06:00; mon 05:00-07:00',  '{[0,420)}'),
    ('00:00-24:00',                       NULL),
    ('mon-sun',                           NULL),
    ('',                                  NULL)
) AS c (windows, expected);
SELECT throws_ok(format('SELECT roneo.windows_of(%L)', windows), 'RO028', NULL, format('%L is refused', windows))
FROM unnest('{nights,mon-fri 22-6,25:00-26:00,12:00-12:60,24:00-06:00,22:00-22:00,"mon-fri,","mon 22:00-","22:00-06:00 mon",mo 08:00-09:00,mon08:00-09:00}'::text[]) AS windows;
SELECT throws_like($$ SELECT roneo.windows_of('mon-fri 22:00-06:00; nights') $$, '%''nights''%', 'and the error says which');
SELECT is(roneo.zone_of('europe/berlin'), 'Europe/Berlin', 'a zone is found in any case');
SELECT throws_ok($$ SELECT roneo.zone_of('Berlin') $$, 'RO028', NULL, 'an unknown one is refused');
SELECT throws_ok($$ SELECT roneo.zone_of('Foo+3') $$, 'RO028', NULL, 'as is one without rules');

-- On the clocks of a zone.
CREATE FUNCTION opens(at timestamptz, windows text, zone text) RETURNS text LANGUAGE sql
RETURN (SELECT concat_ws(' to ', o.at AT TIME ZONE 'UTC', roneo.shuts_at(roneo.windows_of(windows), zone, o.at) AT TIME ZONE 'UTC')
        FROM (SELECT roneo.next_opening(roneo.windows_of(windows), zone, opens.at) AS at) AS o);
SELECT is(opens(at::timestamptz, windows, zone), expected, what) FROM (VALUES
    ('2026-06-10 12:00+00', '22:00-06:00', 'UTC', '2026-06-10 22:00:00 to 2026-06-11 06:00:00', 'the next night'),
    ('2026-06-10 23:30+00', '22:00-06:00', 'UTC', '2026-06-10 23:30:00 to 2026-06-11 06:00:00', 'this night'),
    ('2026-06-10 05:59:59+00', '22:00-06:00', 'UTC', '2026-06-10 05:59:59 to 2026-06-10 06:00:00', 'the end of a night'),
    ('2026-06-10 06:00+00', '22:00-06:00', 'UTC', '2026-06-10 22:00:00 to 2026-06-11 06:00:00', 'its end is no part of it'),
    ('2026-06-10 12:00+00', '22:00-06:00', 'Europe/Berlin', '2026-06-10 20:00:00 to 2026-06-11 04:00:00', 'a night in Berlin'),
    ('2026-06-10 12:00+00', 'sat,sun', 'America/New_York', '2026-06-13 04:00:00 to 2026-06-15 04:00:00', 'a weekend in New York'),
    ('2026-06-14 12:00+00', 'sun 22:00-06:00', 'UTC', '2026-06-14 22:00:00 to 2026-06-15 06:00:00', 'over the end of the week'),
    ('2026-06-15 03:00+00', 'sun 22:00-06:00', 'UTC', '2026-06-15 03:00:00 to 2026-06-15 06:00:00', 'on the other side of it'),
    ('2026-06-15 07:00+00', 'sun 22:00-06:00', 'UTC', '2026-06-21 22:00:00 to 2026-06-22 06:00:00', 'in a week'),
    -- Clocks go from 2:00 to 3:00.
    ('2026-03-08 00:00+00', '02:00-03:00', 'America/New_York', '2026-03-08 07:00:00 to 2026-03-08 08:00:00', 'the hour that is skipped comes later'),
    ('2026-03-08 00:00+00', '02:30-02:45', 'America/New_York', '2026-03-08 07:30:00 to 2026-03-08 07:45:00', 'so does a part of it'),
    ('2026-03-08 00:00+00', '01:00-04:00', 'America/New_York', '2026-03-08 06:00:00 to 2026-03-08 08:00:00', 'what it lies in is an hour shorter'),
    ('2026-03-08 00:00+00', '22:00-06:00', 'America/New_York', '2026-03-08 03:00:00 to 2026-03-08 10:00:00', 'as is the night'),
    ('2026-03-29 00:00+00', '02:00-03:00', 'Europe/Berlin', '2026-03-29 01:00:00 to 2026-03-29 02:00:00', 'in Berlin too'),
    ('2026-03-29 00:00+00', '00:00-02:30', 'Europe/Berlin', '2026-03-29 00:00:00 to 2026-03-29 01:30:00', 'what ends in it goes by the old clock'),
    -- Clocks go from 2:00 to 1:00, in Berlin from 3:00 to 2:00.
    ('2026-11-01 00:00+00', '01:15-01:45', 'America/New_York', '2026-11-01 06:15:00 to 2026-11-01 06:45:00', 'of the hour that comes twice the second is meant'),
    ('2026-11-01 00:00+00', '00:30-01:30', 'America/New_York', '2026-11-01 04:30:00 to 2026-11-01 06:30:00', 'what it ends is an hour longer'),
    ('2026-11-01 00:00+00', '22:00-06:00', 'America/New_York', '2026-11-01 02:00:00 to 2026-11-01 11:00:00', 'as is the night'),
    ('2026-10-25 00:00+00', '02:00-03:00', 'Europe/Berlin', '2026-10-25 01:00:00 to 2026-10-25 02:00:00', 'in Berlin too')
) AS c (at, windows, zone, expected, what);
SELECT is_empty($$
    SELECT zone, windows, count(DISTINCT n.opens)
    FROM unnest('{America/New_York,Europe/Berlin,Australia/Lord_Howe,Africa/Casablanca}'::text[]) AS zone,
         unnest('{02:00-03:00,01:30-02:00,22:00-06:00,00:00-00:01}'::text[]) AS windows,
         roneo.windows_of(windows) AS week,
         generate_series(timestamp '2026-01-01 12:00', timestamp '2026-12-31 12:00', '1 day') AS noon,
         LATERAL (SELECT roneo.next_opening(week, zone, noon AT TIME ZONE zone) OFFSET 0) AS n (opens)
    GROUP BY zone, windows HAVING count(DISTINCT n.opens) <> 365
$$, 'every night of a year opens once, whatever clocks do');
SELECT is_empty($$
    SELECT zone, windows, moment, n.opens
    FROM unnest('{America/New_York,Europe/Berlin,Australia/Lord_Howe}'::text[]) AS zone,
         unnest('{mon-fri 22:00-06:00; sat,sun 01:00-13:00,sun 23:00-04:00}'::text[]) AS windows,
         roneo.windows_of(windows) AS week,
         generate_series(timestamptz '2026-01-01', '2026-12-31', '31:37:11.123457') AS moment,
         LATERAL (SELECT roneo.next_opening(week, zone, moment) OFFSET 0) AS n (opens)
    WHERE n.opens < moment OR roneo.shuts_at(week, zone, n.opens) IS NULL
       OR n.opens > moment AND roneo.shuts_at(week, zone, n.opens - interval '1 us') > n.opens
       OR (n.opens = moment) <> (roneo.shuts_at(week, zone, moment) IS NOT NULL)
$$, 'over a year the next opening is in a window, and nothing before it is');

-- Under jitter.
SELECT is(roneo.due_in_window(roneo.windows_of('22:00-06:00'), 'UTC', at::timestamptz, shift::interval), expected::timestamptz, what) FROM (VALUES
    ('2026-06-10 12:00Z', '0',      '2026-06-10 22:00Z', 'what waits for a window is due when it opens'),
    ('2026-06-10 12:00Z', '7 min',  '2026-06-10 22:07Z', 'or a little later'),
    ('2026-06-10 12:00Z', '9 hours', '2026-06-10 23:00Z', 'but in that window'),
    ('2026-06-10 23:00Z', '7 min',  '2026-06-10 23:00Z', 'what is due in a window is moved already')
) AS c (at, shift, expected, what);

-- How late that makes it. Due on Wednesday at 05:59, for an hour only, or on Thursday.
SELECT is(roneo.open_lag(roneo.windows_of(windows), 'UTC', since::timestamptz, until::timestamptz), expected::interval, what) FROM (VALUES
    ('22:00-06:00', '2026-06-10 05:59Z', '2026-06-10 05:59:30Z', '30 s',  'in the window it is late'),
    ('22:00-06:00', '2026-06-10 05:59Z', '2026-06-10 21:59Z',    '1 min', 'in shut hours not more and more'),
    ('22:00-06:00', '2026-06-10 05:59Z', '2026-06-10 22:00Z',    '1 min', 'nor at once when they end'),
    ('22:00-06:00', '2026-06-10 05:59Z', '2026-06-10 23:00Z',    '61 min', 'but from then on'),
    ('22:00-06:00', '2026-06-10 12:00Z', '2026-06-10 21:00Z',    '0',     'what is due in shut hours is not late in them'),
    ('22:00-06:00', '2026-06-10 12:00Z', '2026-06-10 22:30Z',    '30 min', 'it is due when they end'),
    ('22:00-06:00', '2026-06-10 12:00Z', '2026-06-11 12:00Z',    '8 hours', 'a night that was missed'),
    ('22:00-06:00', '2026-06-10 12:00Z', '2026-06-12 12:00Z',    '32 hours', 'after two nights the day between them counts'),
    ('22:00-06:00', '2026-06-10 12:00Z', '2026-06-14 12:00Z',    '80 hours', 'after four all but the last'),
    ('22:00-06:00', '2026-06-11 12:00Z', '2026-06-10 23:00Z',    '0',     'what is due later is not late'),
    ('sun 22:00-06:00', '2026-06-14 05:00Z', '2026-06-15 03:00Z', '5 hours', 'a window over the end of the week is one'),
    ('sun', '2026-06-01 00:00Z', '2026-06-20 00:00Z',            '8 days', 'two Sundays are a week and a day')
) AS c (windows, since, until, expected, what);

-- Setting it.
SELECT on_source('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)') \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT roneo.create_plain('src', 't', d, refresh_every => '1 hour', copy_data => false) FROM unnest('{a,b,c}'::text[]) AS d \g /dev/null
CREATE FUNCTION schedule_of(dest regclass) RETURNS text LANGUAGE sql
RETURN (SELECT concat_ws('|', r.refresh_every, r.windows, r.window_text, r.window_zone, r.priority) FROM roneo.replica AS r WHERE r.dest = schedule_of.dest);
-- Windows around now, and such that are shut now.
SELECT format('%s-%s', to_char(now() - interval '2 hours', 'HH24:MI'), to_char(now() + interval '2 hours', 'HH24:MI')) AS open,
       format('%s-%s', to_char(now() + interval '2 hours', 'HH24:MI'), to_char(now() + interval '4 hours', 'HH24:MI')) AS shut \gset
SELECT roneo.set_schedule('a', '1 day', 'sun 22:00-23:00', 'europe/berlin', 5) AS due_at \gset
SELECT is(due_at, timestamptz :'due_at', 'all of it, and when it is due then') FROM roneo.status WHERE dest = 'public.a';
SELECT is(schedule_of('a'), '1 day|{[9960,10020)}|sun 22:00-23:00|Europe/Berlin|5', 'is kept');
SELECT is((windows, window_zone, priority, promised_age)::text, '("sun 22:00-23:00",Europe/Berlin,5,"1 day")', 'and shown') FROM roneo.status WHERE dest = 'public.a';
SELECT roneo.set_schedule('a', priority => -100), roneo.set_schedule('a', '2 days') \g /dev/null
SELECT is(schedule_of('a'), '2 days|{[9960,10020)}|sun 22:00-23:00|Europe/Berlin|-100', 'what is not given stays');
SELECT roneo.set_schedule('a', zone => 'UTC') \g /dev/null
SELECT is(schedule_of('a'), '2 days|{[9960,10020)}|sun 22:00-23:00|UTC|-100', 'the zone alone');
SELECT roneo.set_schedule('a', windows => 'mon') \g /dev/null
SELECT is(schedule_of('a'), '2 days|{[0,1440)}|mon|UTC|-100', 'or the windows alone');
SELECT throws_ok(statement, code, NULL, what) FROM (VALUES
    ($$ SELECT roneo.set_schedule('a', '3 days', 'never', 'UTC') $$,       'RO028', 'windows that are none'),
    ($$ SELECT roneo.set_schedule('a', '3 days', 'mon', 'Mars/Utopia') $$, 'RO028', 'a zone that is none'),
    ($$ SELECT roneo.set_schedule('b', '3 days', 'mon') $$,                'RO028', 'windows without a zone'),
    ($$ SELECT roneo.set_schedule('b', '3 days', zone => 'UTC') $$,        'RO028', 'a zone without windows'),
    ($$ SELECT roneo.set_schedule('a', '-1 day') $$,                       'RO028', 'a negative interval'),
    ($$ SELECT roneo.set_schedule('a', '3 days', priority => 101) $$,      'RO028', 'a priority that is too high'),
    ($$ SELECT roneo.set_schedule('pg_class', '3 days') $$,                'RO001', 'what is no replica')
) AS c (statement, code, what);
SELECT is(concat_ws(' ', schedule_of('a'), schedule_of('b')), '2 days|{[0,1440)}|mon|UTC|-100 01:00:00|0', 'change nothing');
SELECT is(roneo.set_schedule('a', '0', '', priority => 0), NULL, 'without an interval it is never due');
SELECT is(schedule_of('a'), '0', 'and always, without windows');
SELECT roneo.set_schedule('a', '1 hour') \g /dev/null

-- Due in windows only.
CREATE FUNCTION due_now(jitter interval DEFAULT NULL) RETURNS text LANGUAGE sql RETURN (SELECT string_agg(d.dest, ' ') FROM roneo.due(jitter => due_now.jitter) AS d);
UPDATE roneo.replica SET created_at = now() - interval '50 min' - replica_id * interval '1 s';
SELECT is(due_now(), 'public.c public.b public.a', 'without windows all are due');
SELECT roneo.set_schedule('b', windows => :'shut', zone => 'UTC'), roneo.set_schedule('c', windows => :'open', zone => 'UTC') \g /dev/null
SELECT is(due_now(), 'public.c public.a', 'one whose windows are shut is not');
SELECT ok(begin_before BETWEEN now() + interval '118 min' AND now() + interval '2 hours', 'how long an open one is open is told') FROM roneo.due() WHERE dest = 'public.c';
SELECT is(begin_before, NULL, 'always, without') FROM roneo.due() WHERE dest = 'public.a';
SELECT ok(roneo.due_at(r) = roneo.next_opening(r.windows, 'UTC', r.created_at) AND roneo.due_at(r) > now(), 'it is due when they open')
FROM roneo.replica AS r WHERE dest_name = 'b';
UPDATE roneo.replica SET created_at = created_at - interval '9 hours' WHERE dest_name <> 'c';
SELECT results_eq($$ SELECT object, level FROM roneo.check() WHERE check_name = 'freshness' ORDER BY 1 $$,
    $$ VALUES ('public.a', 'CRITICAL'), ('public.b', 'OK'), ('public.c', 'OK') $$, 'and gives no alarm before');
SELECT is(lag, interval '0', 'nor is it late') FROM roneo.status WHERE dest = 'public.b';
UPDATE roneo.replica SET created_at = created_at - interval '30 days' WHERE dest_name = 'b';
SELECT results_eq($$ SELECT level FROM roneo.check() WHERE check_name = 'freshness' AND object = 'public.b' $$, $$ VALUES ('CRITICAL') $$,
    'unless it was so before they shut');
SELECT ok(due_at > now(), 'what missed its window is due in the next one') FROM roneo.status WHERE dest = 'public.b';
CALL roneo.refresh_due();
SELECT is(ARRAY(SELECT dest FROM roneo.run ORDER BY run_id), '{public.a,public.c}', 'refresh_due leaves it alone');
SELECT is((roneo.refresh('b')).outcome, 'ok', 'a person does not');

-- Priority.
UPDATE roneo.replica SET windows = NULL, window_text = NULL, window_zone = NULL, last_success_at = NULL, last_attempt_at = NULL,
    created_at = now() - CASE dest_name WHEN 'a' THEN interval '10 min' WHEN 'b' THEN interval '20 min' ELSE interval '30 min' END;
SELECT is(due_now(), 'public.c public.b public.a', 'those that have waited longest come first');
SELECT roneo.set_schedule('a', priority => 2), roneo.set_schedule('c', priority => -1) \g /dev/null
SELECT is(due_now(), 'public.a public.b public.c', 'but after those of a higher priority');
UPDATE roneo.replica SET created_at = created_at - interval '1 hour' WHERE dest_name = 'c';
SELECT is(due_now(), 'public.a public.c public.b', 'an interval that one is late counts as one more');
UPDATE roneo.replica SET created_at = created_at - interval '3 hours' WHERE dest_name = 'c';
SELECT is(due_now(), 'public.c public.a public.b', 'so that none waits for ever');
SELECT is(ARRAY(SELECT priority FROM roneo.due()), '{-1,2,0}', 'which changes no priority');

-- Groups: of one source, each given by the first that was asked for.
UPDATE roneo.replica SET priority = 0, refresh_group = CASE WHEN dest_name <> 'a' THEN 'pair' END, method = CASE dest_name WHEN 'c' THEN 'dml' ELSE method END;
SELECT is(due_now(), 'public.c public.a', 'a group is given once');
SELECT is(ARRAY(SELECT dest FROM roneo.due(refresh_groups => '{pair}')), '{public.c}', 'by its name');
SELECT is(ARRAY(SELECT dest FROM roneo.due(refresh_groups => '{other}')), '{}', 'not by another one');
SELECT is(ARRAY(SELECT dest FROM roneo.due(methods => '{plain}')), '{public.b,public.a}', 'by one of the method asked for, although another one waits longer');
SELECT is(ARRAY(SELECT dest FROM roneo.due(methods => '{dml}')), '{public.c}', 'of each method');
UPDATE roneo.replica SET last_success_at = now() WHERE dest_name = 'b';
SELECT is(ARRAY(SELECT dest FROM roneo.due(methods => '{plain}')), '{public.a}', 'if that one is due');
SELECT roneo.set_schedule('b', windows => :'open', zone => 'UTC', priority => 3) \g /dev/null
SELECT is(ARRAY(SELECT concat_ws(' ', dest_name, window_zone, priority) FROM roneo.replica ORDER BY 1), '{"a 0","b UTC 3","c UTC 3"}', 'its windows and priority are those of all');
UPDATE roneo.replica SET refresh_group = NULL, method = 'plain', windows = NULL, window_text = NULL, window_zone = NULL, priority = 0;
CALL roneo.refresh_due(refresh_groups => '{pair}');
SELECT is((SELECT count(*) FROM roneo.run WHERE run_id > 3), 0::bigint, 'refresh_due takes those of a group');

-- Jitter.
CREATE TEMP TABLE shift AS
SELECT n, extract(epoch FROM roneo.jitter_shift(ROW(r.*)::roneo.replica, 'salt', 600)) AS seconds
FROM generate_series(1, 1000) AS n, LATERAL jsonb_populate_record(NULL::roneo.replica, jsonb_build_object('dest_schema', 'public', 'dest_name', 't' || n, 'refresh_every', '1 hour')) AS r;
SELECT ok(min(seconds) >= 0 AND max(seconds) < 600 AND count(DISTINCT width_bucket(seconds, 0, 600, 10)) = 10
          AND max(share) < 0.15, 'a thousand replicas are spread over the span')
FROM (SELECT s.seconds, count(*) OVER (PARTITION BY width_bucket(s.seconds, 0, 600, 10)) / 1000.0 AS share FROM shift AS s) AS s;
SELECT is(roneo.jitter_shift(r, 'salt', 600), make_interval(secs => (SELECT seconds FROM shift WHERE n = 7)::float8), 'each always by the same')
FROM jsonb_populate_record(NULL::roneo.replica, '{"dest_schema": "public", "dest_name": "t7", "refresh_every": "1 hour"}') AS r;
SELECT isnt(roneo.jitter_shift(r, 'other salt', 600), roneo.jitter_shift(r, 'salt', 600), 'and in another database by another')
FROM jsonb_populate_record(NULL::roneo.replica, '{"dest_schema": "public", "dest_name": "t7", "refresh_every": "1 hour"}') AS r;
SELECT ok(roneo.jitter_shift(r, 'salt', 600) < interval '10 s', 'never by a whole interval')
FROM jsonb_populate_record(NULL::roneo.replica, '{"dest_schema": "public", "dest_name": "t7", "refresh_every": "10 s"}') AS r;
UPDATE roneo.replica SET last_success_at = NULL, created_at = now();
SELECT is(due_now('1 hour'), NULL, 'one that was just made is due later');
SELECT is(due_now('0'), 'public.a public.b public.c', 'but not by nothing');
UPDATE roneo.replica SET created_at = now() - interval '2 hours';
SELECT is((SELECT count(*) FROM roneo.due(jitter => '1 hour') WHERE due_at > now() - interval '2 hours' AND due_at < now() - interval '1 hour'), 3::bigint, 'less than an interval later');
SELECT is((SELECT array_agg(due_at) FROM roneo.due(jitter => '1 hour')), (SELECT array_agg(due_at) FROM roneo.due(jitter => '1 hour')), 'each time the same');
SELECT throws_ok($$ SELECT roneo.due(jitter => '-1 min') $$, 'RO028', NULL, 'a negative one is refused');

-- Time that is left.
DELETE FROM roneo.run;
INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, ended_at, seconds)
SELECT r.replica_id, 'public.' || r.dest_name, 'plain', 'sql', v.outcome, now() - v.n * interval '1 hour', now(), v.seconds
FROM roneo.replica AS r, (VALUES (1, 'ok', 3000), (2, 'ok', 3600), (3, 'ok', 7200), (4, 'unchanged', 0), (5, 'unchanged', 0), (6, 'failed', 1)) AS v (n, outcome, seconds)
WHERE r.dest_name IN ('a', 'b');
UPDATE roneo.replica SET created_at = now() - CASE dest_name WHEN 'a' THEN interval '30 min' WHEN 'b' THEN interval '20 min' ELSE interval '10 min' END;
SELECT is(ARRAY(SELECT coalesce(expected_seconds, -1) FROM roneo.due()), '{3600,3600,-1}', 'how long a copy takes is the middle of those that were made');
SELECT max(run_id) AS before FROM roneo.run \gset
CALL roneo.refresh_due(max_runtime => '10 min');
SELECT is(ARRAY(SELECT dest FROM roneo.run WHERE run_id > :before ORDER BY run_id), '{public.a,public.c}',
    'what would not end in time is not begun, but for the first one');
UPDATE roneo.replica SET last_success_at = NULL;
SELECT max(run_id) AS before FROM roneo.run \gset
CALL roneo.refresh_due(max_runtime => '3 hours');
SELECT is(ARRAY(SELECT dest FROM roneo.run WHERE run_id > :before ORDER BY run_id), '{public.a,public.b,public.c}', 'with time for it it is');

-- Quarantine.
CREATE FUNCTION failing(code text, times integer DEFAULT 1) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1..times LOOP
        PERFORM roneo.record_failure('{a}', code, 'it failed', NULL, NULL, '{}');
    END LOOP;
END;
$$;
SELECT is(ARRAY(SELECT code FROM unnest('{08006,08001,40001,40P01,53300,53100,55P03,57P01,57P02,57P03,RO002,RO008}'::text[]) AS code WHERE NOT roneo.may_pass(code)), '{}', 'what passes by itself');
SELECT is(ARRAY(SELECT code FROM unnest('{42P01,42501,42703,23505,22P02,28P01,3D000,57014,RO004,RO015,XX000}'::text[]) AS code WHERE roneo.may_pass(code)), '{}', 'and what does not');
SELECT failing('08006', 30) \g /dev/null
SELECT is((failures, lasting_failures, quarantined_at)::text, '(30,0,)', 'who waits for a source is not put in quarantine') FROM roneo.replica WHERE dest_name = 'a';
SELECT failing('42P01', 9) \g /dev/null
SELECT failing('40001') \g /dev/null
SELECT is((failures, lasting_failures, quarantined_at)::text, '(40,9,)', 'nor before the tenth failure that does not pass') FROM roneo.replica WHERE dest_name = 'a';
\set said `psql -X -q -d :dest_db -c "SET client_min_messages = warning" -c "SELECT roneo.record_failure('{a}', '42P01', 'it failed', NULL, NULL, '{}')" 2>&1`
SELECT matches(text :'said', 'WARNING:  public.a is in quarantine.*HINT:  Mend it, then: SELECT roneo.release\(''public.a''\);', 'which says so');
UPDATE roneo.replica SET created_at = now() - interval '9 hours', last_attempt_at = now() - interval '2 hours', last_success_at = NULL;
SELECT is(due_now(), 'public.b public.c', 'it is not due any more');
SELECT is((state, alert, quarantined_at IS NOT NULL, due_at)::text, '(quarantined,CRITICAL,t,)', 'its status tells') FROM roneo.status WHERE dest = 'public.a';
SELECT is((SELECT concat_ws(' ', state, quarantined_at IS NOT NULL) FROM roneo.replica_metrics() WHERE dest = 'public.a'), 'quarantined t', 'as do its metrics');
SELECT matches(concat_ws('; ', level, message, advice), '^CRITICAL; in quarantine for \d+ s, and not refreshed any more: 41 failures in a row.*42P01 it failed; .*roneo release', 'and the check')
FROM roneo.check() WHERE object = 'public.a' AND check_name = 'quarantine';
SELECT is((SELECT count(*) FROM roneo.check() WHERE check_name IN ('quarantine', 'failures')), 1::bigint, 'once');
SELECT is(roneo.release('a'), true, 'it is released');
SELECT ok(due_now() LIKE '%public.a%', 'and due again at once');
SELECT is((r.failures, r.lasting_failures, s.state)::text, '(0,0,failed)', 'its failures are counted anew') FROM roneo.status AS s JOIN roneo.replica AS r USING (replica_id) WHERE r.dest_name = 'a';
SELECT is(roneo.release('a'), false, 'one that is in none is told');
SELECT throws_ok($$ SELECT roneo.release('pg_class') $$, 'RO001', NULL, 'what is no replica is refused');
INSERT INTO roneo.setting VALUES ('quarantine_after', '2');
SELECT failing('42P01', 2) \g /dev/null
SELECT is((SELECT state FROM roneo.status WHERE dest = 'public.a'), 'quarantined', 'how often is a setting');
SELECT is((roneo.refresh('a')).outcome, 'ok', 'a person can refresh it all the same');
SELECT is((SELECT concat_ws(' ', r.quarantined_at, r.lasting_failures, s.state) FROM roneo.replica AS r JOIN roneo.status AS s USING (replica_id) WHERE r.dest_name = 'a'), '0 ok', 'which ends it');
UPDATE roneo.setting SET value = '0' WHERE setting_name = 'quarantine_after';
SELECT failing('42P01', 12) \g /dev/null
SELECT is((SELECT concat_ws(' ', state, lasting_failures) FROM roneo.status JOIN roneo.replica USING (replica_id) WHERE dest_name = 'a'), 'failed 12', 'never, where it is 0');
SELECT * FROM finish();
