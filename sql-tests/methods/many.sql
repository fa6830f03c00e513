-- Registering many tables by one call.
SET client_min_messages = warning;
SELECT plan(40);

SELECT on_source($$
    CREATE SCHEMA app;
    CREATE TABLE app.a (id int PRIMARY KEY, v text); INSERT INTO app.a SELECT n, 'a' FROM generate_series(1, 10) AS n;
    CREATE TABLE app."Odd ""T.x" (id int PRIMARY KEY, "At" timestamp); INSERT INTO app."Odd ""T.x" VALUES (1, now());
    CREATE TABLE app.keyless (id int); INSERT INTO app.keyless VALUES (1), (2);
    CREATE TABLE app.parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE app.part_1 PARTITION OF app.parts FOR VALUES FROM (0) TO (10); INSERT INTO app.parts VALUES (1);
    CREATE VIEW app.seen AS SELECT * FROM app.a;
    CREATE TABLE public.elsewhere (id int);
    CREATE SCHEMA many; CREATE SCHEMA nothing $$) \g /dev/null
SELECT on_source(format('CREATE TABLE many.%I (id int PRIMARY KEY, at timestamptz)', concat('t', n))) FROM generate_series(1, 60) AS n \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
CREATE SCHEMA app; CREATE SCHEMA many; CREATE SCHEMA logged; CREATE SCHEMA added; CREATE SCHEMA narrow;

-- What a CALL in a session of its own says: a procedure that commits cannot be called from a function.
SELECT dblink_connect('here', format('host=%s port=%s dbname=%I', :'socket', :'port', current_database())) \g /dev/null
CREATE FUNCTION called(arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    RETURN dblink_exec('here', format('CALL roneo.create_replicas(%s)', arguments));
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', SQLSTATE, message, detail, hint);
END;
$$;
CREATE FUNCTION known(place text) RETURNS text LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', r.dest_name, r.method), ', ' ORDER BY r.dest_name) FROM roneo.replica AS r WHERE r.dest_schema = place);
CREATE FUNCTION open_connections() RETURNS bigint LANGUAGE sql
RETURN (SELECT count(*) FROM dblink('here', 'SELECT dblink_get_connections()') AS t (names text[]) WHERE names IS NOT NULL);

SELECT is(called($$'src', 'app', refresh_every => '1 hour'$$), 'CALL', 'all tables of a schema are registered');
SELECT is(known('app'), 'Odd "T.x snapshot, a snapshot, keyless snapshot, parts snapshot', 'under their names; no view, and no partition by itself');
SELECT is((SELECT count(*) FROM roneo.replica WHERE refresh_every = '1 hour' AND last_attempt_at IS NULL), 4::bigint, 'and not loaded yet');
SELECT is(open_connections(), 0::bigint, 'no connection is left open');
SELECT is(called($$'src', 'app', refresh_every => '1 hour'$$), 'CALL', 'what is registered is passed over');
SELECT is((SELECT count(*) FROM roneo.replica), 4::bigint, 'and stays as it is');
SELECT is((roneo.refresh('app.a')).inserted, 10::bigint, 'a refresh loads it');
SELECT is((roneo.refresh('app."Odd ""T.x"')).inserted, 1::bigint, 'whatever its name');

-- One that cannot be stops no other.
SELECT matches(called($$'src', 'app', 'logged', 'dml'$$), '^RO007\n1 of 4 tables of schema app could not be registered\nRO007 keyless: .* key.*\n.*call this again', 'what cannot be is told');
SELECT is(known('logged'), 'Odd "T.x dml, a dml, parts dml', 'the others are registered');
SELECT is(source_value('SELECT count(*) FROM roneo_capture.consumer')::int, 3, 'on the source too');
SELECT is(open_connections(), 0::bigint, 'no connection is left open');
SELECT on_source('ALTER TABLE app.keyless ADD PRIMARY KEY (id)') \g /dev/null
SELECT is(called($$'src', 'app', 'logged', 'dml'$$), 'CALL', 'called again');
SELECT is(known('logged'), 'Odd "T.x dml, a dml, keyless dml, parts dml', 'it makes what is missing');
SELECT is((roneo.refresh('logged.a')).inserted, 10::bigint, 'which is loaded too');

-- A control column.
CREATE TABLE added.keyless (id int PRIMARY KEY); INSERT INTO added.keyless VALUES (1);
SELECT is(called($$'src', 'app', 'added', 'inserter', '{a,keyless}', 'id'$$), 'CALL', 'those that are named, by a control column');
SELECT is(known('added'), 'a inserter, keyless inserter', 'and no others');
SELECT is((roneo.refresh('added.a')).inserted, 10::bigint, 'a table that is made is loaded from the beginning');
SELECT is((roneo.refresh('added.keyless')).inserted, 1::bigint, 'one that is there from its highest value on');
SELECT matches(called($$'src', 'app', 'narrow', 'updater', '{a,"Odd \"T.x",nobody}', 'At'$$), '2 of 3 .*\nRO00[47] ', 'which all must have');
SELECT is(known('narrow'), 'Odd "T.x updater', 'or are left out');
SELECT is(called($$'src', 'app', 'narrow', 'snapshot', '{keyless}', with_indexes => false$$), 'CALL', 'without indexes');
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'narrow.keyless_snap1'::regclass), 0::bigint, 'none is made');

-- More than a transaction can lock.
SELECT is(called($$'src', 'many', method => 'updater', control => 'id'$$), 'CALL', 'many are registered');
SELECT is((SELECT count(*) FROM roneo.replica WHERE dest_schema = 'many'), 60::bigint, 'all of them');
SELECT ok(count(DISTINCT created_at) > 1, 'in several transactions') FROM roneo.replica WHERE dest_schema = 'many';

-- Wrong arguments change nothing.
SELECT count(*) AS replicas FROM roneo.replica \gset
SELECT matches(called($$'nobody', 'app'$$), '^RO003', 'an unknown source');
SELECT matches(called($$'src', 'nothing', 'app'$$), '^RO004.*no table in schema nothing', 'a schema without tables');
SELECT matches(called($$'src', 'app', 'nowhere'$$), '^RO005.*CREATE SCHEMA nowhere', 'a schema that is not here');
SELECT matches(called($$'src', 'app', method => 'copy'$$), '^RO007.*dml, inserter, logdel, plain, snapshot, updater', 'a method that does not exist');
SELECT matches(called($$'src', 'app', method => NULL$$), '^RO007', 'none');
SELECT matches(called($$'src', 'app', method => 'updater'$$), '^RO007.*none is given', 'a control column that is missing');
SELECT matches(called($$'src', 'app', control => 'id'$$), '^RO007.*follows no control column', 'and one too many');
SELECT matches(called($$'src', 'app', 'narrow', refresh_every => '-1 s'$$), '^RO007', 'a time that is none');
SELECT is((SELECT count(*) FROM roneo.replica), :replicas::bigint, 'nothing was changed by that');
SELECT roneo.create_source('away', 'host=/nonexistent dbname=x user=x') \g /dev/null
SELECT matches(called($$'away', 'app', 'narrow'$$), '^RO008', 'a source that is away is told once');

-- A connection that breaks is not held any longer.
BEGIN;
SELECT roneo.hold_source('src') \g /dev/null
SELECT is(roneo.describe_source('src', 'app.a', NULL) - '{path,role}'::text[], roneo.describe_source('src', 'app.a', NULL) - '{path,role}'::text[], 'one connection answers again and again');
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = :'source_db' \g /dev/null
SELECT throws_like($$ SELECT roneo.describe_source('src', 'app.a', NULL) $$, '%', 'when it breaks, one call fails');
SELECT is(roneo.describe_source('src', 'app.a', NULL) #>> '{relation,name}', 'a', 'and the next one has its own');
SELECT is(dblink_get_connections(), '{here}', 'which it closes');
SELECT roneo.let_go_source('src') \g /dev/null
COMMIT;

SELECT * FROM finish();
