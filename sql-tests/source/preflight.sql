-- Preflight: what is missing, as SQL that mends it.
SET client_min_messages = warning;
SELECT plan(32);

-- Roles belong to the cluster: their names carry the name of this test's database.
SELECT set_config('test.reader', concat('reader ', current_database()), false),
       set_config('test.refresher', concat('refresher ', current_database()), false) \g /dev/null
SELECT format('CREATE ROLE %I LOGIN', current_setting('test.reader')),
       format('CREATE ROLE %I', current_setting('test.refresher')) \gexec

SELECT on_source($$
    CREATE SCHEMA app;
    CREATE SCHEMA open;
    CREATE TABLE app.orders (id bigint PRIMARY KEY, "Odd" text);
    CREATE TABLE app.parts (a integer, b integer, c integer);
    CREATE TABLE open.safe (id integer);
    ALTER TABLE open.safe ENABLE ROW LEVEL SECURITY;
$$) \g /dev/null
SELECT on_source(format('GRANT USAGE ON SCHEMA open TO %1$I; GRANT SELECT ON open.safe TO %1$I',
                        current_setting('test.reader'))) \g /dev/null

SELECT roneo.create_source('main', current_setting('test.source_conninfo'),
                           username => current_setting('test.reader')) \g /dev/null
CREATE TABLE orders (id bigint); CREATE TABLE parts (a integer); CREATE TABLE safe (id integer); CREATE TABLE gone (id integer);
CREATE FUNCTION register(source_table text, dest regclass, columns name[]) RETURNS void LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO roneo.replica (source_id, source_schema, source_table, source_kind, dest,
                               dest_schema, dest_name, method, wanted_columns, filter_path,
                               source_lockable)
    SELECT s.source_id, split_part(source_table, '.', 1), split_part(source_table, '.', 2), 'r', dest,
           'public', dest::text, 'plain', columns, 'public', true
    FROM roneo.source AS s WHERE s.source_name = 'main';
END;
SELECT register('app.orders', 'orders', NULL), register('app.parts', 'parts', '{a,c}'),
       register('open.safe', 'safe', NULL), register('open.nothing', 'gone', NULL) \g /dev/null

CREATE TEMP TABLE found AS SELECT * FROM roneo.check_source('main');
CREATE FUNCTION fix(wanted text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT replace(f.fix, quote_ident(current_setting('test.reader')), 'READER')
            FROM found AS f WHERE f.item = wanted AND NOT f.ok);
END;
$$;
SELECT is(count(*), 1::bigint, 'a source that answers can be reached') FROM found WHERE item = 'connection' AND ok;
SELECT is(fix('schema app'), 'GRANT USAGE ON SCHEMA app TO READER;', 'USAGE on a schema is asked for');
SELECT is(fix('schema open'), NULL, 'where it is missing');
SELECT is(fix('table app.orders'), 'GRANT SELECT ON TABLE app.orders TO READER;', 'so is SELECT on a table');
SELECT is(fix('table app.parts'), 'GRANT SELECT (a, c) ON TABLE app.parts TO READER;', 'or on the columns asked for');
SELECT is(fix('row security of open.safe'), 'ALTER ROLE READER BYPASSRLS;', 'row security is told');
SELECT is(detail, 'does not exist', 'a missing table too') FROM found WHERE item = 'table open.nothing';
SELECT is(count(*), 0::bigint, 'nothing that is well has a fix') FROM found WHERE ok AND fix IS NOT NULL;
SELECT is(count(*), 0::bigint, 'each finding says something') FROM found WHERE concat_ws('', detail) = '' OR side IS DISTINCT FROM 'source';

SELECT lives_ok($$ SELECT on_source(string_agg(f.fix, ' ')) FROM found AS f WHERE f.fix IS NOT NULL $$,
    'the fixes run as they are');
SELECT set_eq($$ SELECT item FROM roneo.check_source('main') WHERE NOT ok $$,
    $$ VALUES ('table open.nothing') $$, 'and mend what they name');
SELECT on_source('ALTER TABLE app.parts DROP COLUMN c') \g /dev/null
SELECT is(detail, 'gone from the source: c', 'a column that is gone is named')
FROM roneo.check_source('main') WHERE item = 'columns of app.parts';

-- What dml and logdel need beside SELECT.
UPDATE roneo.replica SET method = 'dml' WHERE dest = 'orders'::regclass;
SELECT is(ok, false, 'without what captures changes, dml is said to lack it')
FROM roneo.check_source('main') WHERE item = 'schema roneo_capture';
SELECT on_source(roneo.capture_setup()) \g /dev/null
TRUNCATE found;
INSERT INTO found SELECT * FROM roneo.check_source('main');
SELECT is(fix('schema roneo_capture'), format('SELECT roneo_capture.allow(%L);', current_setting('test.reader')),
    'and the right to use it');
SELECT source_value(fix) FROM found WHERE item = 'schema roneo_capture' \g /dev/null
SELECT is(ok, true, 'until it is given') FROM roneo.check_source('main') WHERE item = 'schema roneo_capture';
UPDATE roneo.replica SET method = 'plain' WHERE dest = 'orders'::regclass;

-- The connection.
SELECT is(dblink_get_connections(), NULL, 'no connection is left');
SELECT roneo.create_source('away', 'host=/nowhere dbname=x') \g /dev/null
SELECT is(count(*), 1::bigint, 'an unreachable source is a finding')
FROM roneo.check_source('away') WHERE item = 'connection' AND NOT ok;
SELECT throws_ok($$ SELECT * FROM roneo.check_source('nobody') $$, 'RO003', NULL, 'an unknown source is an error');
UPDATE roneo.replica SET source_schema = 'a''b"c', source_table = 'T.%s\' WHERE dest = 'gone'::regclass;
SELECT is(count(*), 1::bigint, 'names may be odd')
FROM roneo.check_source('main') WHERE item = 'table "a''b""c"."T.%s\"' AND NOT ok;
ALTER EXTENSION dblink SET SCHEMA roneo;
SELECT lives_ok($$ SELECT * FROM roneo.check_source('main') $$, 'dblink may be in any schema');
ALTER EXTENSION dblink SET SCHEMA public;

-- Identity, by a role without any privilege.
SELECT format('SET test.identity = %L', source_value(format('SELECT %s::text', roneo.identity_query()))) \gexec
CREATE VIEW identity AS SELECT current_setting('test.identity')::jsonb AS i;
SELECT dblink_connect('reader', roneo.source_conninfo('main')) \g /dev/null
SELECT is(v::jsonb - 'lsn' - 'clock' - 'stats_reset', i - 'lsn' - 'clock' - 'stats_reset',
    'an unprivileged role reads the same identity under other settings')
FROM dblink_exec('reader', 'SET TimeZone = ''Asia/Kolkata''; SET DateStyle = ''SQL, DMY''') AS x,
     dblink('reader', format('SELECT %s::text', roneo.identity_query())) AS d (v text), identity;
SELECT dblink_disconnect('reader') \g /dev/null
SELECT is(i ->> 'system_identifier', system_identifier::text, 'it knows the cluster')
FROM identity, pg_control_system();
SELECT matches(i ->> 'timeline', '^[0-9A-F]{8}$', 'the timeline') FROM identity;
SELECT ok((i ->> 'lsn')::pg_lsn <= pg_current_wal_lsn(), 'and the place in the log') FROM identity;
SELECT is((i ->> 'postmaster_start')::timestamptz, pg_postmaster_start_time(), 'times read back exactly') FROM identity;

-- The destination.
SELECT set_eq($$ SELECT item FROM roneo.preflight_local() WHERE NOT ok $$, $$ VALUES (''::text) LIMIT 0 $$,
    'a superuser lacks nothing on the destination');
SELECT format('SET ROLE %I', current_setting('test.refresher')) \gexec
SELECT throws_ok($$ SELECT * FROM roneo.preflight_local() $$, '42501', NULL, 'nothing of ours is for everyone');
RESET ROLE;
SELECT format('GRANT USAGE ON SCHEMA roneo TO %1$I; GRANT SELECT ON ALL TABLES IN SCHEMA roneo TO %1$I;
               GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA roneo TO %1$I',
              current_setting('test.refresher')) \gexec
SELECT format('SET ROLE %I', current_setting('test.refresher')) \gexec
CREATE TEMP TABLE lacking AS SELECT * FROM roneo.preflight_local() WHERE NOT ok;
RESET ROLE;
SELECT set_eq($$ SELECT split_part(item, ' ', 1) FROM lacking $$,
    $$ VALUES ('privileges'), ('server'), ('user'), ('replica') $$, 'another role lacks grants, servers, mappings and owners');
SELECT lives_ok(fix, 'what is proposed runs') FROM (SELECT string_agg(fix, ' ') AS fix FROM lacking) AS l;
SELECT format('SET ROLE %I', current_setting('test.refresher')) \gexec
SELECT set_eq($$ SELECT item FROM roneo.preflight_local() WHERE NOT ok $$, $$ VALUES (''::text) LIMIT 0 $$,
    'and then nothing is missing');
SET default_transaction_isolation = 'serializable';
SELECT isnt(fix, NULL, 'but the wrong isolation level is found')
FROM roneo.preflight_local() WHERE item = 'transaction isolation';
RESET ROLE;
RESET default_transaction_isolation;
DROP TABLE gone;
SELECT is(detail, 'its table or view is gone', 'and a destination that was dropped')
FROM roneo.preflight_local() WHERE item = 'replica public.gone';

SELECT format('DROP OWNED BY %I', r), format('DROP ROLE %I', r) FROM (VALUES (current_setting('test.refresher'))) AS v (r) \gexec
SELECT on_source(format('DROP OWNED BY %1$I; DROP ROLE %1$I', current_setting('test.reader'))) \g /dev/null
SELECT * FROM finish();
