-- How a position moves: windows, open transactions, clocks and pauses, as tables of cases.
SET client_min_messages = warning;
SELECT plan(105);

-- A replica that has refreshed at noon, UTC.
CREATE FUNCTION c(type text, last_value text, clock text DEFAULT '2026-06-01 12:00+00', open_since jsonb DEFAULT '{}',
    look_back text DEFAULT NULL, zone text DEFAULT 'UTC', blackout text DEFAULT 'auto', key_columns name[] DEFAULT NULL)
RETURNS roneo.control_replica LANGUAGE plpgsql AS $$
DECLARE
    made roneo.control_replica;
BEGIN
    made.control := 'at'; made.control_type := type; made.last_value := last_value; made.clock := clock; made.open_since := open_since;
    made.look_back := coalesce(look_back, CASE roneo.control_class(type) WHEN 'time' THEN '10 minutes' WHEN 'serial' THEN '100' END);
    made.control_zone := zone; made.blackout := blackout; made.append_only := true; made.reads_xmin := true; made.key_columns := key_columns;
    made.null_control := 'ignore'; made.boundary := '0'; made.repulling := false; made.horizon := '100'; made.leaves := '{}';
    RETURN made;
END;
$$;
CREATE FUNCTION answer(clock text, open text[] DEFAULT '{}', top text DEFAULT NULL, held_from text DEFAULT NULL, snapshot text DEFAULT '200:200:', upto text DEFAULT NULL)
RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object(
    'before', jsonb_build_object('clock', clock, 'open', to_jsonb(open), 'top', top),
    'inside', jsonb_build_object('held_from', held_from, 'snapshot', snapshot, 'leaves', '{}'::jsonb, 'upto', upto));
CREATE FUNCTION window_of(c roneo.control_replica, a jsonb) RETURNS text LANGUAGE sql
RETURN roneo.window_after(c, a, roneo.open_starts(c, a), coalesce(a #>> '{inside,upto}', c.last_value));

-- Which transactions are open, and since when.
SELECT is(roneo.open_starts(v.c, v.a), v.wanted, v.description) FROM (VALUES
    (c('timestamp with time zone', NULL, NULL), answer('2026-06-01 12:10+00', '{3/7}'), '{"3/7": "unknown"}'::jsonb, 'at the first refresh nothing is known of what is open'),
    (c('timestamp with time zone', NULL), answer('2026-06-01 12:10+00', '{3/7}'), '{"3/7": "2026-06-01 12:00+00"}', 'what was not open the last time began after it'),
    (c('timestamp with time zone', NULL, open_since => '{"3/7": "2026-06-01 09:00+00", "4/1": "unknown"}'), answer('2026-06-01 12:10+00', '{3/7,4/1}'),
        '{"3/7": "2026-06-01 09:00+00", "4/1": "unknown"}', 'what was open then keeps its start'),
    (c('timestamp with time zone', NULL, open_since => '{"3/7": "2026-06-01 09:00+00"}'), answer('2026-06-01 12:10+00', '{}'), '{}', 'what has ended is forgotten'),
    (c('timestamp with time zone', NULL, open_since => '{"3/7": "2026-06-01 09:00+00", "4/1": "2026-06-01 10:00+00"}'), answer('2026-06-01 12:10+00', '{p/700}'),
        '{"p/700": "2026-06-01 09:00+00"}', 'a prepared transaction takes over the oldest start'),
    (c('timestamp with time zone', NULL, open_since => '{"3/7": "unknown"}'), answer('2026-06-01 12:10+00', '{p/700,5/5}'), '{"p/700": "unknown", "5/5": "2026-06-01 12:00+00"}', 'or an unknown one'),
    (c('timestamp with time zone', NULL), answer('2026-06-01 12:10+00', '{p/700}'), '{"p/700": "2026-06-01 12:00+00"}', 'or began after the last refresh'),
    (c('timestamp with time zone', NULL, open_since => '{"p/700": "2026-06-01 08:00+00"}'), answer('2026-06-01 12:10+00', '{p/700}'), '{"p/700": "2026-06-01 08:00+00"}', 'and keeps what it has'),
    (c('timestamp with time zone', NULL, open_since => '{"3/7": "2026-06-01 09:00+00"}'), answer('2026-06-01 11:00+00', '{3/7,4/1}'), '{"3/7": "unknown", "4/1": "unknown"}', 'when the clock was set back nobody knows what they wrote'),
    (c('integer', NULL, '500', '{"3/7": "90", "4/1": "400"}'), answer('2026-06-01 12:10+00', '{p/1,4/1,5/1}', '600'), '{"p/1": "90", "4/1": "400", "5/1": "500"}', 'numbers are ordered as numbers'),
    (c('integer', NULL, '500'), answer('2026-06-01 12:10+00', '{5/1}', '400'), '{"5/1": "unknown"}', 'and can go back too')
) AS v (c, a, wanted, description);

SELECT is(roneo.open_starts(c('timestamptz', NULL), '{"before": {"open": null}}'), '{}', 'an idle source has none');

-- Down to which value the next refresh looks.
SELECT is(window_of(v.c, v.a), v.wanted, v.description) FROM (VALUES
    (c('timestamp with time zone', '2026-06-01 12:05:00+00'), answer('2026-06-01 12:10+00'), '2026-06-01 11:55:00+00', 'from the last value'),
    (c('timestamp with time zone', '2026-06-01 12:30:00+00'), answer('2026-06-01 12:10+00'), '2026-06-01 12:00:00+00', 'from the clock, where the value is ahead of it'),
    (c('timestamp with time zone', 'infinity'), answer('2026-06-01 12:10+00'), '2026-06-01 12:00:00+00', 'above all from infinity'),
    (c('timestamp with time zone', '-infinity'), answer('2026-06-01 12:10+00'), NULL, 'below minus infinity is nothing'),
    (c('timestamp with time zone', NULL), answer('2026-06-01 12:10+00'), NULL, 'an empty table has no window'),
    (c('timestamp with time zone', '2026-01-01 02:00:00+00'), answer('2026-06-01 12:10+00'), '2026-01-01 01:50:00+00', 'an idle table waits for a row of an earlier time'),
    (c('timestamp with time zone', '2026-06-01 12:05:00+00', open_since => '{"3/7": "2026-06-01 09:00+00"}'), answer('2026-06-01 12:10+00', '{3/7}'), '2026-06-01 08:50:00+00', 'from the start of the oldest transaction'),
    (c('timestamp with time zone', '2026-06-01 12:05:00+00'), answer('2026-06-01 12:10+00', '{3/7}'), '2026-06-01 11:50:00+00', 'from the last refresh, where it began after that'),
    (c('timestamp with time zone', '2026-06-01 12:05:00+00', open_since => '{"3/7": "unknown"}'), answer('2026-06-01 12:10+00', '{3/7}'), NULL, 'nowhere, where that is unknown'),
    (c('timestamp with time zone', '2026-06-01 12:05:00+00'), answer('2026-06-01 12:10+00', held_from => '2026-06-01 10:00:00+00'), '2026-06-01 09:50:00+00', 'from the lowest row that is held'),
    (c('timestamp with time zone', '2026-06-01 12:05:00+00'), answer('2026-06-01 11:00+00'), '2026-06-01 09:50:00+00', 'a clock that was set back by an hour shows it again'),
    (c('timestamp with time zone', '2026-06-01 12:05:00.123456+00', look_back => '0'), answer('2026-06-01 12:10+00'), '2026-06-01 12:04:59.123456+00', 'never less than a second'),
    (c('timestamp with time zone', '2026-06-01 12:05:00+00', look_back => '1 mon'), answer('2026-06-01 12:10+00'), '2026-05-01 12:05:00+00', 'months are months'),
    (c('timestamp with time zone', '0001-01-01 00:05:00+00 BC'), answer('2026-06-01 12:10+00'), '0002-12-31 23:55:00+00 BC', 'before Christ too'),
    (c('timestamp without time zone', '2026-06-01 14:05:00', zone => 'Europe/Berlin'), answer('2026-06-01 12:10+00'), '2026-06-01 13:55:00', 'a value without a zone is one of the column''s zone'),
    (c('timestamp without time zone', '2026-06-02 14:05:00', zone => 'Europe/Berlin'), answer('2026-06-01 12:10+00'), '2026-06-01 14:00:00', 'and so is the clock'),
    (c('date', '2026-06-01'), answer('2026-06-01 12:10+00'), '2026-05-31', 'a date rounds down'),
    (c('date', '2026-06-03'), answer('2026-06-01 12:10+00'), '2026-06-01', 'today''s row of a date column is in the window'),
    (c('date', '2026-06-03', zone => 'Pacific/Kiritimati'), answer('2026-06-01 12:10+00'), '2026-06-02', 'in its zone'),
    (c('date', '2026-06-03'), answer('2026-06-01 00:05+00'), '2026-05-31', 'and yesterday''s, just after midnight'),
    (c('date', 'infinity'), answer('2026-06-01 12:10+00'), '2026-06-01', 'dates may be infinite'),
    (c('integer', '1000', '950'), answer('2026-06-01 12:10+00', top => '1000'), '900', 'of numbers, from the last one'),
    (c('integer', '1000', '950'), answer('2026-06-01 12:10+00', '{3/7}', '1000'), '850', 'from the highest one before a transaction began'),
    (c('integer', '1000', '950', '{"3/7": "70", "4/7": "600"}'), answer('2026-06-01 12:10+00', '{4/7,3/7}', '1000'), '-30', 'the lowest of them'),
    (c('integer', '1000', '950', '{"3/7": "unknown"}'), answer('2026-06-01 12:10+00', '{3/7}', '1000'), NULL, 'or nowhere'),
    (c('integer', '1000', '1000'), answer('2026-06-01 12:10+00', top => NULL), '900', 'an emptied table stays where it was'),
    (c('integer', '1000', '1000'), answer('2026-06-01 12:10+00', top => '5'), '-95', 'numbers that begin again are followed'),
    (c('integer', '1000', '950'), answer('2026-06-01 12:10+00', top => '1000', held_from => '20'), '-80', 'what is held counts'),
    (c('integer', '1000', '950', look_back => '0'), answer('2026-06-01 12:10+00', top => '1000'), '999', 'never less than one'),
    (c('smallint', '-32700', '-32700'), answer('2026-06-01 12:10+00', top => '-32700'), '-32768', 'not below the lowest smallint'),
    (c('integer', '-2147483600', '-2147483600'), answer('2026-06-01 12:10+00', top => '-2147483600'), '-2147483648', 'nor the lowest integer'),
    (c('bigint', '-9223372036854775800', '-9223372036854775800'), answer('2026-06-01 12:10+00', top => '-9223372036854775800'), '-9223372036854775808', 'nor the lowest bigint'),
    (c('bigint', '9223372036854775807', '9223372036854775807'), answer('2026-06-01 12:10+00', top => '9223372036854775807'), '9223372036854775707', 'to the last digit'),
    (c('integer', '1000', '1000', look_back => '10.5'), answer('2026-06-01 12:10+00', top => '1000'), '989', 'half a number rounds down'),
    (c('numeric', '1000.25', '1000.25', look_back => '0.5'), answer('2026-06-01 12:10+00', top => '1000.25'), '999.25', 'one of a numeric does not, but is at least one'),
    (c('numeric', 'Infinity', '1000'), answer('2026-06-01 12:10+00', top => '1000'), '900', 'above all from the highest finite one'),
    (c('numeric', 'NaN', '1000'), answer('2026-06-01 12:10+00', top => '1000'), '900', 'NaN is higher still'),
    (c('numeric', '-Infinity', '1000'), answer('2026-06-01 12:10+00', top => '1000'), NULL, 'and below minus infinity is nothing'),
    (c('uuid', '019b0000-0000-7000-8000-000000000000'), answer('2026-06-01 12:10+00'), NULL, 'where values have no distance there is no window')
) AS v (c, a, wanted, description);

-- The lowest value that a clock can have shown.
SELECT is(roneo.lowest_local(zone, since::timestamptz, until::timestamptz), wanted::timestamp, description) FROM (VALUES
    ('UTC', '2026-10-25 00:30+00', '2026-10-25 01:30+00', '2026-10-25 00:30', 'UTC never falls back'),
    ('Europe/Berlin', '2026-10-25 00:30+00', '2026-10-25 00:50+00', '2026-10-25 02:30', 'before Berlin falls back'),
    ('Europe/Berlin', '2026-10-25 00:30+00', '2026-10-25 01:10+00', '2026-10-25 01:30', 'since, it can be an hour earlier'),
    ('Europe/Berlin', '2026-10-25 01:10+00', '2026-10-25 01:20+00', '2026-10-25 02:10', 'afterwards it is not'),
    ('Europe/Berlin', '2026-03-29 00:50+00', '2026-03-29 01:10+00', '2026-03-29 01:50', 'an hour that is skipped was shown by none'),
    ('Australia/Lord_Howe', '2026-04-04 14:50+00', '2026-04-04 15:10+00', '2026-04-05 01:20', 'Lord Howe falls back by half an hour'),
    ('Australia/Lord_Howe', '2026-10-03 15:20+00', '2026-10-03 15:40+00', '2026-10-04 01:50', 'and springs forward by as much'),
    ('UTC', '-infinity', '2026-06-01 00:00+00', '-infinity', 'of an unknown start nothing is known')
) AS v (zone, since, until, wanted, description);

SELECT is(roneo.values_repeat(v.c, answer(v.clock, top => v.top)), v.wanted, v.description) FROM (VALUES
    (c('timestamp with time zone', NULL, NULL), '2026-06-01 12:00+00', NULL, false, 'at the first refresh nothing has been given out'),
    (c('timestamp with time zone', NULL), '2026-06-01 12:00:00.000001+00', NULL, false, 'a clock that goes on repeats nothing'),
    (c('timestamp with time zone', NULL), '2026-06-01 11:59:59.999999+00', NULL, true, 'one that was set back does'),
    (c('timestamp with time zone', NULL, '2026-10-25 00:30+00', zone => 'Europe/Berlin'), '2026-10-25 01:30+00', NULL, false, 'with a time zone, no change of the clock'),
    (c('timestamp without time zone', NULL, '2026-10-25 00:30+00', zone => 'Europe/Berlin'), '2026-10-25 01:30+00', NULL, true, 'without one, an hour comes twice'),
    (c('timestamp without time zone', NULL, '2026-10-25 01:30+00', zone => 'Europe/Berlin'), '2026-10-25 02:30+00', NULL, false, 'not thrice'),
    (c('timestamp without time zone', NULL, '2026-03-29 00:30+00', zone => 'Europe/Berlin'), '2026-03-29 01:30+00', NULL, false, 'a skipped one does not'),
    (c('integer', NULL, '100'), '2026-06-01 12:00+00', '99', true, 'numbers can begin again'),
    (c('integer', NULL, '100'), '2026-06-01 12:00+00', '100', false, 'or stay'),
    (c('integer', NULL, '100'), '2026-06-01 12:00+00', NULL, false, 'or be gone')
) AS v (c, clock, top, wanted, description);

-- What is stored.
CREATE TEMP TABLE stored AS SELECT (roneo.position_after(v.c, v.a)).*, v.n FROM (VALUES
    (1, c('integer', '10', '10'), answer('2026-06-01 12:10+00', top => '20', upto => '15', snapshot => '200:210:')),
    (2, c('integer', '10', '10'), answer('2026-06-01 12:10+00', top => '20', snapshot => '90:210:')),
    (3, c('integer', '10', '10'), jsonb_set(answer('2026-06-01 12:10+00', top => '20', snapshot => '200:210:'), '{options}', '{"sweep": true}')),
    (4, c('integer', '10', '10', key_columns => '{id}'), jsonb_set(answer('2026-06-01 12:10+00', top => '20', snapshot => '200:210:'), '{options}', '{"sweep": true}')),
    (5, c('integer', '10', '10'), jsonb_set(answer('2026-06-01 12:10+00', top => '20', snapshot => '210:210:'), '{options}', '{"sweep": true}'))) AS v (n, c, a);
SELECT row_eq('SELECT last_value, horizon, window_start, clock FROM stored WHERE n = 1', ROW('15'::text, '200'::xid8, '-85'::text, '20'::text), 'the highest value read, and the snapshot''s xmin');
SELECT row_eq('SELECT last_value, horizon FROM stored WHERE n = 2', ROW('10'::text, '100'::xid8), 'neither goes back');
SELECT is(window_start, NULL, 'a sweep while rows may be held leaves no window') FROM stored WHERE n = 3;
SELECT is(window_start, '-90', 'unless a key lets it read them') FROM stored WHERE n = 4;
SELECT is(window_start, '-90', 'or none can be') FROM stored WHERE n = 5;

SELECT throws_ok($$ SELECT roneo.require_readable_rows(jsonb_populate_record(NULL::roneo.replica, '{"source_schema": "s", "source_table": "t", "dest_schema": "d", "dest_name": "t"}'), c('integer', '10', '10'), answer('2026-06-01 12:10+00', snapshot => '3000000000:3000000000:')) $$,
    'RO021', NULL, 'without a key, two billion transactions are too many');
SELECT lives_ok($$ SELECT roneo.require_readable_rows(jsonb_populate_record(NULL::roneo.replica, '{"source_schema": "s", "source_table": "t", "dest_schema": "d", "dest_name": "t"}'), c('integer', '10', '10', key_columns => '{id}'), answer('2026-06-01 12:10+00', snapshot => '3000000000:3000000000:')) $$,
    'with one they are not');

-- Pauses, in local time.
CREATE FUNCTION pause(zone text, moment text, blackout text DEFAULT 'auto', type text DEFAULT 'timestamp without time zone') RETURNS text LANGUAGE sql
RETURN (SELECT format('%s..%s', to_char(lower(p) AT TIME ZONE zone, 'MM-DD HH24:MI'), to_char(upper(p) AT TIME ZONE zone, 'MM-DD HH24:MI'))
        FROM roneo.blackout_at(c(type, NULL, zone => zone, blackout => blackout), moment::timestamptz) AS p WHERE p IS NOT NULL);
SELECT is(pause(zone, moment, blackout, type), wanted, concat_ws(' ', zone, moment, blackout, type)) FROM (VALUES
    ('Europe/Berlin', '2026-03-29 00:30+00', 'auto', 'timestamp without time zone', '03-29 00:30..03-29 04:00'),
    ('Europe/Berlin', '2026-10-25 00:30+00', 'auto', 'timestamp without time zone', '10-25 00:30..10-25 03:00'),
    ('Europe/Berlin', '2026-10-25 01:59:59+00', 'auto', 'timestamp without time zone', '10-25 00:30..10-25 03:00'),
    ('Europe/Berlin', '2026-10-25 02:00+00', 'auto', 'timestamp without time zone', NULL),
    ('Europe/Berlin', '2026-10-24 22:30+00', 'auto', 'timestamp without time zone', '10-25 00:30..10-25 03:00'),
    ('Europe/Berlin', '2026-10-24 22:29:59+00', 'auto', 'timestamp without time zone', NULL),
    ('Europe/Berlin', '2026-10-26 00:30+00', 'auto', 'timestamp without time zone', NULL),
    ('Europe/Berlin', '2026-10-25 00:30+00', 'off', 'timestamp without time zone', NULL),
    ('Europe/Berlin', '2026-10-25 00:30+00', 'auto', 'timestamp with time zone', NULL),
    ('Europe/Berlin', '2026-10-25 00:30+00', 'auto', 'date', NULL),
    ('Europe/Berlin', '2026-10-25 00:30+00', 'auto', 'integer', NULL),
    ('Europe/Berlin', '2026-10-25 00:30+00', 'on', 'timestamp with time zone', '10-25 00:30..10-25 03:00'),
    ('Europe/Berlin', '2026-10-25 00:30+00', '00:00-05:00', 'timestamp without time zone', '10-25 00:00..10-25 05:00'),
    ('Europe/Berlin', '2026-10-25 00:30+00', '23:00-04:00', 'timestamp without time zone', '10-24 23:00..10-25 04:00'),
    ('America/New_York', '2026-11-01 05:30+00', 'auto', 'timestamp without time zone', '11-01 00:30..11-01 02:30'),
    ('America/New_York', '2026-03-08 07:00+00', 'auto', 'timestamp without time zone', '03-08 00:30..03-08 04:00'),
    ('Australia/Lord_Howe', '2026-04-04 15:10+00', 'auto', 'timestamp without time zone', '04-05 00:30..04-05 02:30'),
    ('Australia/Lord_Howe', '2026-10-03 15:40+00', 'auto', 'timestamp without time zone', '10-04 00:30..10-04 03:00'),
    ('America/Sao_Paulo', '2018-02-18 01:30+00', 'auto', 'timestamp without time zone', '02-17 23:00..02-18 02:30'),
    ('America/Sao_Paulo', '2018-02-17 12:00+00', 'auto', 'timestamp without time zone', NULL),
    ('America/Sao_Paulo', '2018-11-04 03:30+00', 'auto', 'timestamp without time zone', '11-03 23:00..11-04 02:30'),
    ('America/Sao_Paulo', '2026-02-18 01:30+00', 'auto', 'timestamp without time zone', NULL),
    ('Australia/Sydney', '2026-04-04 16:30+00', 'auto', 'timestamp without time zone', '04-05 00:30..04-05 03:00'),
    ('UTC', '2026-10-25 01:00+00', 'auto', 'timestamp without time zone', NULL),
    ('Asia/Tokyo', '2026-10-25 01:00+00', 'on', 'timestamp without time zone', NULL)
) AS v (zone, moment, blackout, type, wanted);
CREATE FUNCTION paused(blackout text) RETURNS text LANGUAGE sql
RETURN format($$ SELECT roneo.require_no_blackout(jsonb_populate_record(NULL::roneo.replica, '{"dest_schema": "d", "dest_name": "t"}'),
    c('timestamp without time zone', NULL, zone => 'Europe/Berlin', blackout => %L), answer('2026-10-25 00:30+00')) $$, blackout);
SELECT throws_ok(paused('auto'), 'RO020', 'the clock of Europe/Berlin changes: d.t waits until 2026-10-25 03:00', 'a refresh in a pause says how long it lasts');
SELECT lives_ok(paused('off'), 'unless there is none');
SELECT is(roneo.failure_outcome('RO020'), 'deferred', 'and is deferred');
SELECT is(count(*), 0::bigint, 'no instant between two pauses of a day is lost to both')
FROM generate_series('2026-01-01'::timestamptz, '2027-01-01', '6 hours') AS m
WHERE roneo.blackout_at(c('timestamp without time zone', NULL, zone => 'Europe/Berlin'), m) IS NOT NULL AND NOT m::date IN ('2026-03-29', '2026-10-25');
