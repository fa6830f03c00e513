-- Alone in the cluster: others' transactions would hold rows back.
-- An inserter: every type of control column, limits, ends of the range, and what is refused.
SET client_min_messages = warning;
SELECT plan(156);

CREATE FUNCTION ids(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT string_agg(id::text, '' '' ORDER BY id) FROM %s', dest) INTO found;
    RETURN found;
END;
$$;
CREATE FUNCTION outcome(dest regclass) RETURNS text LANGUAGE sql RETURN (roneo.refresh(dest)).outcome;
CREATE VIEW here AS SELECT r.dest_name, r.method, c.* FROM roneo.control_replica AS c JOIN roneo.replica AS r USING (replica_id);
CREATE FUNCTION told(session text, statement text) RETURNS text LANGUAGE sql RETURN dblink_exec(session, statement);
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT dblink_connect('open', :'source_conninfo') \g /dev/null

-- Each type: three values in their order, one between the first two, and one above all. A late one is found below the position.
CREATE TABLE sample (t text, one text, two text, three text, late text, above text);
INSERT INTO sample VALUES
    ('timestamptz', '0044-03-15 00:00:00+00 BC', '2026-01-02 00:00:00.000001+00', '2026-01-02 00:00:00.000002+00', '2026-01-02 00:00:00.0000015+00', '2026-01-03 10:00+02'),
    ('timestamp', '2026-01-01', '2026-01-02 00:00:00.000001', '2026-01-02 00:00:00.000003', '2026-01-02 00:00:00.000002', '2026-01-03'),
    ('date', '2025-12-31', '2026-01-02', '2026-01-03', '2026-01-02', '2026-01-04'),
    ('smallint', '-32768', '9', '10', '8', '32767'),
    ('integer', '-2147483648', '99', '100', '98', '2147483647'),
    ('bigint', '-9223372036854775808', '999', '1000', '998', '9223372036854775807'),
    ('numeric', '-1e30', '0.3', '0.30000000000000000000000000000000001', '0.29', '1e30'),
    ('uuid', '00000000-0000-0000-0000-000000000001', '019b0000-0000-7000-8000-000000000000', '019b0000-0001-7000-8000-000000000000', '019a0000-0000-7000-8000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff'),
    ('text', 'a', 'b''\"', 'b''\"%', 'aa', 'ü'),
    ('varchar(20)', 'a', 'b', 'c d', 'aa', 'd'),
    ('char(20)', 'a', 'bbb', 'ccc', 'aa', 'ddd');
-- One transaction a statement: a transaction here that has written holds rows back, where both databases are of one cluster.
SELECT format('SELECT on_source(%L)', format('CREATE TABLE %I (id int, "Control" %s); INSERT INTO %1$I VALUES (1, %3$L), (2, %4$L), (3, %5$L)', d, t, one, two, three)),
       format('SELECT roneo.create_inserter(''src'', ''public.%I'', control => ''Control'', append_only => true)', d),
       format('SELECT is(ids(%L), ''1 2 3'', ''%s: the rows that are there'')', d, t),
       format('SELECT is(outcome(%L), ''unchanged'', ''%s: the value is as it was written, nothing comes twice'')', d, t),
       format('SELECT told(''open'', %L), on_source(%L)', format('BEGIN; INSERT INTO %I VALUES (4, %L)', d, late), format('INSERT INTO %I VALUES (5, %L)', d, above)),
       format('SELECT is(outcome(%L), ''unchanged'', ''%s: a row above is held'')', d, t),
       'SELECT told(''open'', ''COMMIT'')',
       format('SELECT is((SELECT inserted FROM roneo.refresh(%L)), 2::bigint, ''%s: and comes, and the late one below'')', d, t),
       format('SELECT is(outcome(%L), ''unchanged'', ''%s: once'')', d, t),
       format('SELECT is(ids(%L), ''1 2 3 4 5'', ''%s: all are there'')', d, t)
FROM (SELECT s.*, concat('t_', split_part(s.t, '(', 1)) AS d FROM sample AS s) AS s \gexec
SELECT is(c.last_value, '1000000000000000000000000000000', 'a number is kept as it is') FROM here AS c WHERE dest_name = 't_numeric';
SELECT is(c.last_value, '9223372036854775807', 'to its last digit') FROM here AS c WHERE dest_name = 't_bigint';

-- Limits and ties.
SELECT on_source($$ CREATE TABLE ties (id int, n int); INSERT INTO ties SELECT g, g / 10 FROM generate_series(0, 49) AS g $$) \g /dev/null
SELECT roneo.create_inserter('src', 'public.ties', control => 'n', append_only => true, copy_data => false, start_value => '-1', batch_limit => 10) \g /dev/null
SELECT row_eq($$ SELECT outcome, inserted, has_more, warning FROM roneo.refresh('ties') $$, ROW('ok'::text, 10::bigint, true, NULL::text),
    'a limit that is the number of ties is kept to');
UPDATE roneo.control_replica SET batch_limit = 4 WHERE control = 'n';
SELECT row_eq($$ SELECT outcome, inserted, has_more, warning FROM roneo.refresh('ties') $$,
    ROW('ok'::text, 10::bigint, true, 'more than batch_limit, 4 rows, have the value 1 in column n'::text), 'more ties than the limit come at once, with a warning');
UPDATE roneo.control_replica SET batch_limit = 15 WHERE control = 'n';
SELECT row_eq($$ SELECT inserted, has_more, warning FROM roneo.refresh('ties') $$, ROW(20::bigint, true, NULL::text),
    'a limit never cuts through one value');
SELECT is((SELECT min(n) FROM ties HAVING count(*) = 40), 0, 'rows come in the order of their values');
UPDATE roneo.replica SET refresh_every = '1 hour', created_at = now() - interval '2 days', last_success_at = now() - interval '1 day' WHERE dest = 'ties'::regclass;
SELECT on_source($$ INSERT INTO ties SELECT g, g / 10 FROM generate_series(50, 199) AS g $$) \g /dev/null
CALL roneo.refresh_due();
SELECT is((SELECT count(*) FROM ties), 200::bigint, 'refresh_due goes on until nothing more is there');
SELECT is(outcome('ties'), 'unchanged', 'then there is nothing');

-- Where nothing is, or nothing but rows within the boundary.
SELECT on_source($$ CREATE TABLE fresh (id int, at timestamptz); CREATE TABLE nums (id int) $$) \g /dev/null
SELECT roneo.create_inserter('src', 'public.fresh', control => 'at', boundary => '1 hour') \g /dev/null
SELECT roneo.create_inserter('src', 'public.nums', control => 'id') \g /dev/null
SELECT row_eq($$ SELECT key_columns, boundary, look_back FROM here WHERE dest_name = 'nums' $$, ROW(NULL::name[], '10'::text, '10000'::text),
    'without a key, and rows that may be updated, the boundary protects');
SELECT is(last_value, NULL, format('%s has no position yet', dest_name)) FROM here WHERE dest_name IN ('fresh', 'nums');
SELECT on_source($$ INSERT INTO fresh VALUES (1, now() - interval '59 minutes'); INSERT INTO nums SELECT generate_series(1, 10) $$) \g /dev/null
SELECT is(outcome(d), 'unchanged', format('%s reads nothing within its boundary', d)) FROM unnest('{fresh,nums}'::regclass[]) AS d;
SELECT is(last_value, NULL, format('%s still has none', dest_name)) FROM here WHERE dest_name IN ('fresh', 'nums');
SELECT on_source($$ INSERT INTO fresh VALUES (2, now() - interval '61 minutes'), (3, 'infinity'), (4, now() + interval '1 year'); INSERT INTO nums VALUES (15) $$) \g /dev/null
SELECT is(outcome(d), 'ok', format('%s reads what is beyond it', d)) FROM unnest('{fresh,nums}'::regclass[]) AS d;
SELECT is(ids('fresh'), '2', 'and what is not stays there');
SELECT is(ids('nums'), '1 2 3 4 5', 'for numbers as well');
SELECT on_source('DELETE FROM nums') \g /dev/null
SELECT is(outcome('nums'), 'unchanged', 'an emptied source is nothing new');
SELECT is(last_value, '5', 'and leaves the position') FROM here WHERE dest_name = 'nums';

-- Values at the end of all.
SELECT on_source($$ CREATE TABLE ends (id int PRIMARY KEY, at timestamptz, num numeric); CREATE INDEX ON ends (at);
    INSERT INTO ends VALUES (1, '-infinity', '-1e100'), (2, now(), 1), (3, 'infinity', 'NaN') $$) \g /dev/null
SELECT roneo.create_inserter('src', 'public.ends', dest => 'ends_at', control => 'at', append_only => true) \g /dev/null
SELECT roneo.create_inserter('src', 'public.ends', dest => 'ends_num', control => 'num', append_only => true) \g /dev/null
SELECT is(last_value, 'infinity', 'infinity is a value') FROM here WHERE dest_name = 'ends_at';
SELECT matches(warning, 'far in the future', 'that a person is told of') FROM roneo.run WHERE dest = 'public.ends_at';
SELECT on_source($$ INSERT INTO ends VALUES (4, now(), 2), (5, 'infinity', 'NaN'), (6, now() + interval '10 years', 3) $$) \g /dev/null
SELECT is(outcome(d), 'ok', format('%s goes on below it', d)) FROM unnest('{ends_at,ends_num}'::regclass[]) AS d;
SELECT is(ids(d), '1 2 3 4 5 6', format('%s has all', d)) FROM unnest('{ends_at,ends_num}'::regclass[]) AS d;
SELECT is(outcome(d), 'unchanged', format('%s has them once', d)) FROM unnest('{ends_at,ends_num}'::regclass[]) AS d;
SELECT on_source('TRUNCATE ends; INSERT INTO ends VALUES (7, now(), 1)') \g /dev/null
SELECT roneo.create_inserter('src', 'public.ends', dest => 'zero', control => 'at', boundary => '0', look_back => '0') \g /dev/null
-- Of the transactions that were open at the first refresh nothing is known, and ours was.
SELECT outcome('zero') \g /dev/null
SELECT is(window_start::timestamptz, last_value::timestamptz - interval '1 second', 'a look_back of nothing is a second')
FROM here WHERE dest_name = 'zero';

-- A sequence that begins anew.
SELECT on_source($$ CREATE TABLE anew (id serial, v text); SELECT setval('anew_id_seq', 999999); INSERT INTO anew (v) VALUES ('a') $$) \g /dev/null
SELECT roneo.create_inserter('src', 'public.anew', control => 'id', append_only => true) \g /dev/null
SELECT on_source($$ TRUNCATE anew RESTART IDENTITY; INSERT INTO anew (v) VALUES ('b') $$) \g /dev/null
SELECT is((roneo.refresh('anew')).sqlstate, 'RO021', 'a table that was emptied, and numbers from 1 on: without a key no one can tell');
SELECT on_source($$ CREATE TABLE back (id serial, v text); SELECT setval('back_id_seq', 999999); INSERT INTO back (v) VALUES ('a') $$) \g /dev/null
SELECT roneo.create_inserter('src', 'public.back', control => 'id', append_only => true) \g /dev/null
SELECT on_source($$ DELETE FROM back; SELECT setval('back_id_seq', 1, false); INSERT INTO back (v) VALUES ('b') $$) \g /dev/null
SELECT is(outcome('back'), 'ok', 'numbers that begin again are noticed');
SELECT is(ids('back'), '1 1000000', 'and read');

-- Filter, columns, name.
SELECT on_source($$ CREATE TABLE wide (id int PRIMARY KEY, n int, "Odd" text, secret text);
    INSERT INTO wide SELECT g, g, g % 3, 's' FROM generate_series(1, 9) AS g $$) \g /dev/null
CREATE SCHEMA other;
SELECT roneo.create_inserter('src', 'public.wide', dest => 'other."Wi.de"', columns => ARRAY['Odd', 'id', 'n'], control => 'n',
    filter => '"Odd" = ''1'' OR n = 2 -- or so') \g /dev/null
SELECT is(ids('other."Wi.de"'), '1 2 4 7', 'a filter with OR and a comment is one condition');
SELECT is((SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'other."Wi.de"'::regclass AND attnum > 0),
    '{id,n,Odd}', 'only the columns of the list are copied');
SELECT on_source('INSERT INTO wide SELECT g, g, g % 3 FROM generate_series(10, 12) AS g') \g /dev/null
SELECT is((roneo.refresh('other."Wi.de"')).inserted, 1::bigint, 'also later');
SELECT on_source('UPDATE wide SET n = 100, secret = ''x'' WHERE id = 1') \g /dev/null
SELECT row_eq($$ SELECT inserted, updated, ignored FROM roneo.refresh('other."Wi.de"') $$, ROW(0::bigint, 0::bigint, 1::bigint),
    'an inserter with a key leaves a row that is there');

-- Names that a query could use for itself.
SELECT on_source(format($$ CREATE TABLE %1$I (value int, list int, key int, x int, kept int); CREATE INDEX ON %1$I (value);
    INSERT INTO %1$I SELECT g, g, g, g, g FROM generate_series(1, 5) AS g $$, t)) FROM unnest('{u,leaf,n,k,x,t,o,z,w,arrived,put}'::text[]) AS t \g /dev/null
SELECT format('SELECT roneo.create_inserter(''src'', ''public.%I'', control => ''value'', append_only => true, batch_limit => 2)', t),
       format('CALL roneo.repull(%L)', t),
       format('SELECT on_source(''INSERT INTO %I VALUES (6, 6, 6, 6, 6)'')', t)
FROM unnest('{u,leaf,n,k,x,t,o,z,w,arrived,put}'::text[]) AS t \gexec
SELECT is((roneo.refresh(t::regclass)).inserted, 1::bigint, format('a table may be called %s', t)) FROM unnest('{u,leaf,n,k,x,t,o,z,w,arrived,put}'::text[]) AS t;

-- Tables that are there.
CREATE TABLE kept (id int, n int, more text DEFAULT 'mine');
INSERT INTO kept VALUES (1, 1), (2, 9), (3, 10);
SELECT on_source($$ CREATE TABLE kept (id int, n int); INSERT INTO kept SELECT g, g FROM generate_series(1, 12) AS g; CREATE TABLE kept2 AS TABLE kept;
    CREATE TABLE kept3 AS TABLE kept; CREATE TABLE kept4 AS TABLE kept; ALTER TABLE kept ADD PRIMARY KEY (id) $$) \g /dev/null
SELECT throws_ok($$ SELECT roneo.create_inserter('src', 'public.kept', control => 'n') $$, 'RO007', NULL, 'an adopted table needs an index on the key');
SELECT roneo.create_inserter('src', 'public.kept', control => 'n', append_only => true) \g /dev/null
SELECT is((SELECT string_agg(concat(n, more), ' ' ORDER BY n) FROM kept), '1mine 9mine 10mine 11mine 12mine', 'goes on from the highest value, and keeps its other columns');
CREATE TABLE kept2 (n int, id int);
INSERT INTO kept2 VALUES (10, 10);
SELECT roneo.create_inserter('src', 'public.kept2', control => 'n', append_only => true, start_value => '11') \g /dev/null
SELECT is(ids('kept2'), '10 12', 'or from a value that is given');
SELECT roneo.create_inserter('src', 'public.kept3', control => 'n', append_only => true, copy_data => false) \g /dev/null
SELECT is(ids('kept3'), NULL, 'copy_data false leaves the table empty');
SELECT on_source('INSERT INTO kept3 VALUES (13, 13)') \g /dev/null
SELECT is(outcome('kept3'), 'ok', 'and is about what comes later');
SELECT is(ids('kept3'), '13', 'which does');
CREATE TABLE kept4 (id int, n text);
INSERT INTO kept4 VALUES (9, '9');
SELECT throws_ok($$ SELECT roneo.create_inserter('src', 'public.kept4', control => 'n', append_only => true) $$, 'RO007', NULL,
    'of another type the highest value says nothing');
CREATE TABLE kept5 (id int);
SELECT throws_ok($$ SELECT roneo.create_inserter('src', 'public.kept4', dest => 'kept5', control => 'n', append_only => true) $$, 'RO015', NULL,
    'a table without the control column is refused');

-- Wrong arguments.
SELECT on_source($$ CREATE TABLE nulls (id int PRIMARY KEY, at timestamp, b bool, j jsonb, u uuid); INSERT INTO nulls VALUES (1, now()), (2, NULL) $$) \g /dev/null
CREATE TABLE wrong (arguments text, why text);
INSERT INTO wrong VALUES
    ('control => NULL', 'no control column'), ('control => ''nothing''', 'a column that is not there'), ('control => ''b''', 'a boolean'),
    ('control => ''j''', 'a jsonb'), ('control => ''id'', boundary => ''ten''', 'a boundary that is no number'),
    ('control => ''at'', boundary => ''-1 day'', null_control => ''ignore''', 'a negative boundary'),
    ('control => ''at'', look_back => ''10 apples'', null_control => ''ignore''', 'a look_back that is no interval'),
    ('control => ''id'', look_back => ''NaN''', 'a look_back that is not a number'),
    ('control => ''u'', boundary => ''1 hour'', null_control => ''ignore''', 'a distance where there is none'),
    ('control => ''id'', batch_limit => 0', 'a limit of nothing'), ('control => ''id'', sweep_every => ''-1 day''', 'a negative sweep_every'),
    ('control => ''id'', append_only => true, sweep_every => ''1 day''', 'a sweep without a key that cannot tell'),
    ('control => ''id'', blackout => ''25:00-26:00''', 'hours that are none'), ('control => ''id'', blackout => ''night''', 'a word for a blackout'),
    ('control => ''id'', control_zone => ''Mars/Olympus''', 'a zone that is none'), ('control => ''id'', null_control => ''maybe''', 'a null_control that is none'),
    ('control => ''at''', 'rows without a value, and no word on them'), ('control => ''id'', start_value => ''x''', 'a start_value of another type'),
    ('control => ''id'', columns => ARRAY[''at'']', 'a control column that is not copied'), ('control => ''id'', refresh_every => ''0''', 'an interval of nothing');
SELECT throws_ok(format('SELECT roneo.create_inserter(''src'', ''public.nulls'', %s)', arguments), 'RO007', NULL, format('refused: %s', why)) FROM wrong;
SELECT is(to_regclass('nulls'), NULL, 'and nothing is left behind');

SELECT lives_ok($$ SELECT roneo.create_inserter('src', 'public.nulls', dest => 'posix', control => 'id', columns => '{id,at}', control_zone => '<+03>-03') $$, 'a zone may be of any form');

-- NULLs, by choice.
SELECT roneo.create_inserter('src', 'public.nulls', dest => 'nulls_ignored', control => 'at', null_control => 'ignore', columns => '{id,at}') \g /dev/null
SELECT roneo.create_inserter('src', 'public.nulls', dest => 'nulls_read', control => 'at', null_control => 'read', columns => '{id,at}') \g /dev/null
SELECT roneo.create_inserter('src', 'public.nulls', dest => 'nulls_once', control => 'at', null_control => 'read', columns => '{id,at}', append_only => true) \g /dev/null
SELECT is(ids(d), CASE d WHEN 'nulls_ignored' THEN '1' ELSE '1 2' END, format('%s has', d)) FROM unnest('{nulls_ignored,nulls_read,nulls_once}'::text[]) AS d;
SELECT told('open', 'BEGIN; INSERT INTO nulls VALUES (3, NULL)'), on_source('INSERT INTO nulls VALUES (4, NULL)') \g /dev/null
SELECT count(outcome(d)) FROM unnest('{nulls_ignored,nulls_read,nulls_once}'::regclass[]) AS d \g /dev/null
SELECT is(ids(d), CASE d WHEN 'nulls_ignored' THEN '1' WHEN 'nulls_once' THEN '1 2' ELSE '1 2 4' END, format('%s beside an open one', d)) FROM unnest('{nulls_ignored,nulls_read,nulls_once}'::text[]) AS d;
SELECT told('open', 'COMMIT') \g /dev/null
SELECT count(outcome(d)) FROM unnest('{nulls_ignored,nulls_read,nulls_once}'::regclass[]) AS d \g /dev/null
SELECT is(ids(d), CASE d WHEN 'nulls_ignored' THEN '1' ELSE '1 2 3 4' END, format('%s after it', d)) FROM unnest('{nulls_ignored,nulls_read,nulls_once}'::text[]) AS d;
SELECT is(outcome(d), 'unchanged', format('%s once', d)) FROM unnest('{nulls_ignored,nulls_once}'::regclass[]) AS d;
SELECT roneo.create_inserter('src', 'public.kept4', dest => 'refusing', control => 'n') \g /dev/null
SELECT on_source('INSERT INTO kept4 VALUES (14, NULL)') \g /dev/null
SELECT is((roneo.refresh('refusing')).sqlstate, 'RO023', 'a row without a value stops one that refuses them');
