-- Alone in the cluster: role roneo_capture is dropped, and other files need it.
-- How a source knows its copies by name, and what is left there when the last one goes.
\ir ../support/capture.sql
SELECT plan(24);
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT on_source($$ CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'a' FROM generate_series(1, 10) AS g; CREATE TABLE other (id int PRIMARY KEY) $$) \g /dev/null
SELECT is(roneo.unprepare_source('src'), false, 'a source that was never prepared has nothing to take away');
SELECT roneo.create_dml('src', 't', 'copy'), roneo.create_logdel('src', 'other') \g /dev/null

-- Names.
CREATE FUNCTION called() RETURNS text LANGUAGE sql RETURN (SELECT string_agg(destination, ', ' ORDER BY capture_id) FROM roneo.captures('src'));
CREATE FUNCTION called_there() RETURNS text LANGUAGE sql RETURN source_value('SELECT string_agg(destination, '', '' ORDER BY capture_id) FROM roneo_capture.consumer');
SELECT format('of database %I', current_database()) AS here \gset
SELECT is(called(), format('public.copy %1$s, public.other %1$s', :'here'), 'copies are known by their names');
CREATE SCHEMA later;
ALTER TABLE copy SET SCHEMA later;
ALTER TABLE later.copy RENAME TO "New copy";
SELECT is(called(), format('later."New copy" %1$s, public.other %1$s', :'here'), 'one that was renamed is called as it is now');
SELECT is(called_there(), format('public.copy %1$s, public.other %1$s', :'here'), 'which the source does not know yet');
SELECT is((SELECT outcome FROM roneo.refresh('later."New copy"')), 'unchanged', 'a refresh');
SELECT is(called_there(), format('later."New copy" %1$s, public.other %1$s', :'here'), 'tells it');
SELECT on_source($$ UPDATE roneo_capture.consumer SET destination = destination || ' at 10.0.0.1:5432' WHERE capture_id = 1 $$) \g /dev/null
SELECT did('later."New copy"') \g /dev/null
SELECT matches(called_there(), 'at 10.0.0.1:5432,', 'by another address it is no other copy');
SELECT on_source($$ UPDATE roneo_capture.consumer SET dest_identity = '1/1', destination = 'far.away' WHERE capture_id = 2 $$) \g /dev/null
SELECT matches(called(), ', far.away$', 'a copy of another database is called as the source knows it');

-- What is in use stays.
SELECT throws_ok($$ SELECT roneo.unprepare_source('src') $$, '2BP01', 'tables of source src are captured', 'captures that feed copies are left alone');
SELECT is(source_value('SELECT count(*) FROM roneo_capture.capture'), '2', 'both');
SELECT roneo.drop_replica('later."New copy"') \g /dev/null
SELECT throws_ok($$ SELECT roneo.unprepare_source('src') $$, '2BP01', NULL, 'also those of other destinations');
SELECT is(did('other'), 'failed RO025', 'here the other one is a stranger');
SELECT roneo.expire_consumer('src', consumer_id) FROM roneo.captures('src') \g /dev/null
SELECT is((SELECT count(*) FROM roneo.captures('src') WHERE consumer_id IS NULL), 1::bigint, 'one that feeds nobody');
SELECT dblink_connect('a', :'source_conninfo') \g /dev/null
SELECT told('a', 'BEGIN; INSERT INTO other VALUES (1)') \g /dev/null
SELECT throws_ok($$ SELECT roneo.unprepare_source('src') $$, '55P03', NULL, 'and is written to is not waited for');
SELECT told('a', 'COMMIT') \g /dev/null
SELECT is(source_value('SELECT count(*) FROM roneo_capture.capture'), '1', 'and stays');
-- Something of somebody else's.
SELECT on_source('CREATE VIEW watched AS SELECT capture_id FROM roneo_capture.capture') \g /dev/null
SELECT throws_ok($$ SELECT roneo.unprepare_source('src') $$, '2BP01', NULL, 'nor is anything of others dropped');
SELECT on_source('DROP VIEW watched') \g /dev/null

SELECT format('%s_too', :'source_db') AS too \gset
SELECT on_source(format('CREATE DATABASE %I', :'too')) \g /dev/null
SELECT roneo.create_source('too', replace(:'source_conninfo', :'source_db', :'too')) \g /dev/null
SELECT dblink_exec(replace(:'source_conninfo', :'source_db', :'too'), 'CREATE TABLE t (id int PRIMARY KEY)') \g /dev/null
SELECT roneo.create_dml('too', 't', 't_too') \g /dev/null
SELECT is(roneo.unprepare_source('src'), true, 'else it goes');
SELECT is(source_value('SELECT to_regnamespace(''roneo_capture'')::text'), NULL, 'with the schema');
SELECT is(source_value('SELECT to_regrole(''roneo_capture'')::text'), 'roneo_capture', 'the role stays while another database needs it');
SELECT is(code('INSERT INTO other VALUES (2)'), 'done', 'the application goes on');
SELECT is(roneo.unprepare_source('src'), false, 'once');
SELECT lives_ok($$ SELECT roneo.create_dml('src', 't', 'again') $$, 'a new capture makes it again');
SELECT roneo.drop_replica(d::regclass) FROM unnest('{again,t_too}'::text[]) AS d \g /dev/null
SELECT roneo.unprepare_source('src') \g /dev/null
SELECT is(roneo.unprepare_source('too'), true, 'the last one');
SELECT is(source_value('SELECT to_regrole(''roneo_capture'')::text'), NULL, 'takes the role along');
SELECT on_source(format('DROP DATABASE %I WITH (FORCE)', :'too')) \g /dev/null
SELECT * FROM finish();
