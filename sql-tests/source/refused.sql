-- Why a source cannot be read, told with a code and a way out; and that one replica's trouble is
-- not another's.
SET client_min_messages = error;
SELECT plan(19);

CREATE TEMPORARY TABLE told (what text, code text, message text, detail text, hint text);
CREATE FUNCTION tell(what text, statement text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    code text; message text; detail text; hint text;
BEGIN
    EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    INSERT INTO told VALUES (what, code, message, detail, hint);
END;
$$;

SELECT on_source($$
    CREATE SCHEMA app; CREATE TABLE app.items (id int); CREATE SEQUENCE app.numbers;
    CREATE SCHEMA "Shut"; CREATE TABLE "Shut".t (id int);
    GRANT USAGE ON SCHEMA app TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA app TO reader;
$$) \g /dev/null
SELECT roneo.create_source('main', :'source_conninfo', username => 'reader', password => 'reader secret'),
       roneo.create_source('down', 'host=/nowhere dbname=x', username => 'reader', password => 'x') \g /dev/null

SELECT tell('down', $$ SELECT roneo.create_plain('down', 'app.items') $$),
       tell('unknown', $$ SELECT roneo.create_plain('unknown', 'app.items') $$),
       tell('table', $$ SELECT roneo.create_plain('main', 'app.nothing') $$),
       tell('schema', $$ SELECT roneo.create_plain('main', 'nowhere.items') $$),
       tell('sequence', $$ SELECT roneo.create_plain('main', 'app.numbers') $$),
       tell('shut', $$ SELECT roneo.create_plain('main', '"Shut".t') $$) \g /dev/null

-- A role without rights here. Roles belong to the cluster, so it carries the name of this database.
SELECT format('CREATE ROLE %I', concat('Poor ', current_database())) \gexec
SELECT roneo.missing_grants(concat('Poor ', current_database())) \gexec
SELECT format('GRANT INSERT ON told TO %I', concat('Poor ', current_database())) \gexec
SELECT format('SET ROLE %I', concat('Poor ', current_database())) \gexec
SELECT tell('mapping', $$ SELECT roneo.open_link('main') $$) \g /dev/null
RESET ROLE;
SELECT format('CREATE USER MAPPING FOR %I SERVER roneo_main OPTIONS (user ''reader'')',
              concat('Poor ', current_database())) \gexec
SELECT format('SET ROLE %I', concat('Poor ', current_database())) \gexec
SELECT tell('server', $$ SELECT roneo.open_link('main') $$) \g /dev/null
RESET ROLE;
SELECT format('GRANT USAGE ON FOREIGN SERVER roneo_main TO %I', concat('Poor ', current_database())) \gexec
SELECT format('SET ROLE %I', concat('Poor ', current_database())) \gexec
SELECT tell('password', $$ SELECT roneo.open_link('main') $$) \g /dev/null
RESET ROLE;

SELECT is(code, 'RO008', 'a server that is down cannot be reached') FROM told WHERE what = 'down';
SELECT is(code, 'RO003', 'a source must be known') FROM told WHERE what = 'unknown';
SELECT alike(hint, '%down, main%', 'and the hint lists them') FROM told WHERE what = 'unknown';
SELECT is(code, 'RO004', 'a table must exist') FROM told WHERE what = 'table';
SELECT is(code, 'RO004', 'and its schema') FROM told WHERE what = 'schema';
SELECT is(code, 'RO004', 'a sequence is no table') FROM told WHERE what = 'sequence';
SELECT is(code, 'RO009', 'a schema must be open') FROM told WHERE what = 'shut';
SELECT is(hint, 'On the source: GRANT USAGE ON SCHEMA "Shut" TO reader;', 'and the hint opens it')
FROM told WHERE what = 'shut';
SELECT is(code, 'RO009', 'a server must be granted') FROM told WHERE what = 'server';
SELECT alike(hint, 'GRANT USAGE ON FOREIGN SERVER roneo_main TO "Poor %', 'by the hint') FROM told WHERE what = 'server';
SELECT is(code, 'RO009', 'a user mapping is needed') FROM told WHERE what = 'mapping';
SELECT alike(hint, 'CREATE USER MAPPING FOR "Poor % SERVER roneo_main %', 'the hint makes it') FROM told WHERE what = 'mapping';
SELECT is(code, 'RO009', 'dblink wants a password') FROM told WHERE what = 'password';
SELECT alike(hint, '%put one into the user mapping%', 'the hint says where') FROM told WHERE what = 'password';
SELECT is_empty('SELECT what FROM told WHERE coalesce(hint, '''') = ''''', 'there is always a hint');
SELECT is_empty($$ SELECT unnest FROM unnest(dblink_get_connections()) $$, 'no connection stays open');

-- A destination that was dropped.
SELECT roneo.create_plain('main', 'app.items', 'public.first', refresh_every => '1 ms'),
       roneo.create_plain('main', 'app.items', 'public.last', refresh_every => '1 ms') \g /dev/null
DROP TABLE first;
CALL roneo.refresh_due();
SELECT is(sqlstate, 'RO018', 'that a destination is gone is recorded')
FROM roneo.run WHERE dest = 'public.first' ORDER BY run_id DESC LIMIT 1;
SELECT is(count(*), 2::bigint, 'and others are refreshed all the same')
FROM roneo.run WHERE dest = 'public.last' AND outcome = 'ok';
SELECT is(concat_ws(' ', state, alert), 'gone CRITICAL', 'status says so')
FROM roneo.status WHERE dest = 'public.first';

SELECT format('DROP OWNED BY %1$I; DROP ROLE %1$I', concat('Poor ', current_database())) \gexec
SELECT * FROM finish();
