-- Views that call functions which find their names by search_path only: each method reads them under the path that the replica was registered under.
SET client_min_messages = warning;
SELECT plan(36);

CREATE FUNCTION ids(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT string_agg(id::text, '' '' ORDER BY id) FROM %s', dest) INTO found;
    RETURN found;
END;
$$;
CREATE FUNCTION outcome(dest regclass) RETURNS text LANGUAGE sql RETURN (roneo.refresh(dest)).outcome;
CREATE VIEW here AS SELECT r.dest_name, c.* FROM roneo.control_replica AS c JOIN roneo.replica AS r USING (replica_id);

-- A function that PostgreSQL plans into the query, one that it does not, and one that is compiled when it runs first.
SELECT on_source(format('ALTER DATABASE %I SET search_path = app, public', :'source_db')) \g /dev/null
SELECT on_source($$
    CREATE SCHEMA app;
    CREATE TABLE app.rate (kind text, factor int);
    INSERT INTO app.rate VALUES ('a', 1), ('b', 1);
    CREATE TABLE app.base (id int PRIMARY KEY, at timestamptz NOT NULL, code varchar(9) NOT NULL, kind text);
    INSERT INTO app.base VALUES (1, now() - interval '1 hour', 'c1', 'a'), (2, now() - interval '30 minutes', 'c2', 'b') $$) \g /dev/null
-- As a session of the role has it: the bodies are not looked into.
SELECT on_source($$ SET search_path = app, public; SET check_function_bodies = off;
    CREATE FUNCTION app.inlined(k text) RETURNS int LANGUAGE sql STABLE AS 'SELECT min(factor) FROM rate WHERE kind = k';
    CREATE FUNCTION app.called(k text) RETURNS int LANGUAGE sql STABLE SET work_mem = '4MB' AS 'SELECT factor FROM rate WHERE kind = k';
    CREATE FUNCTION app.compiled(k text) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT factor FROM rate WHERE kind = k); END';
    CREATE FUNCTION app.listed() RETURNS SETOF base LANGUAGE sql STABLE AS 'SELECT * FROM base';
    CREATE VIEW app.seen AS
    SELECT b.id * inlined(b.kind) AS id, b.at, b.code, (called(b.kind) + compiled(b.kind))::int AS v FROM listed() AS b;
    -- What a foreigner might put in the way: they fit varchar better than what PostgreSQL has.
    CREATE FUNCTION app.never(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''not mine''; END';
    CREATE OPERATOR app.> (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = app.never);
    CREATE OPERATOR app.>= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = app.never);
    CREATE OPERATOR app.< (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = app.never);
    CREATE OPERATOR app.<= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = app.never);
    CREATE OPERATOR app.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = app.never) $$) \g /dev/null
SELECT throws_ok($$ SELECT source_value('SET search_path = pg_catalog; SELECT count(*) FROM app.seen') $$, '42P01', NULL, 'under another path the view cannot be read');

SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT lives_ok(format('SELECT roneo.create_%s(''src'', ''app.seen'', dest => %L%s)', method, dest, arguments), format('%s is made', dest))
FROM (VALUES ('snapshot', 'snap', ''), ('plain', 'whole', ''),
    ('inserter', 'log', ', control => ''at'''), ('updater', 'keyed', ', control => ''at'', key_columns => ''{id}'', batch_limit => 1'),
    ('updater', 'numbered', ', control => ''id'', key_columns => ''{id}'', boundary => ''0'''),
    ('inserter', 'coded', ', control => ''code'', boundary => ''0'', batch_limit => 1'),
    ('updater', 'filtered', ', control => ''at'', key_columns => ''{id}'', filter => ''compiled(''''a'''') = 1 AND id > 1''')) AS m (method, dest, arguments);
SELECT is((SELECT count(outcome(d)) FROM unnest('{keyed,coded}'::regclass[]) AS d), 2::bigint, 'each batch is one refresh');
SELECT is(ids(d), CASE d WHEN 'filtered' THEN '2' ELSE '1 2' END, format('%s has its rows', d))
FROM unnest('{snap,whole,log,keyed,numbered,coded,filtered}'::text[]) AS d;
SELECT is(last_value, CASE dest_name WHEN 'numbered' THEN '2' ELSE 'c2' END, format('the position of %s', dest_name))
FROM here WHERE dest_name IN ('numbered', 'coded') ORDER BY dest_name;
SELECT is((SELECT window_start FROM here WHERE dest_name = 'numbered'), (2 - 10000)::text, 'and its window reaches down from it');

SELECT on_source($$ INSERT INTO app.base VALUES (3, now() - interval '20 minutes', 'c3', 'a') $$) \g /dev/null
SELECT is(outcome(d), 'ok', format('%s goes on', d)) FROM unnest('{snap,whole,log,keyed,numbered,coded,filtered}'::regclass[]) AS d;
CALL roneo.repull('keyed', now()::text, NULL);
CALL roneo.repull('keyed');
CALL roneo.repull('log');
SELECT is(ids(d), CASE d WHEN 'filtered' THEN '2 3' ELSE '1 2 3' END, format('%s has the new one too', d))
FROM unnest('{snap,whole,log,keyed,numbered,coded,filtered}'::text[]) AS d;

-- The path is the one of then, and only of the reading.
SELECT on_source(format('ALTER DATABASE %I SET search_path = public', :'source_db')) \g /dev/null
SELECT on_source($$ INSERT INTO app.base VALUES (4, now() - interval '15 minutes', 'c4', 'b') $$) \g /dev/null
SELECT is((SELECT string_agg(outcome(d), ' ') FROM unnest('{snap,whole,log,keyed,numbered,coded,filtered}'::regclass[]) AS d),
    'ok ok ok ok ok ok ok', 'another path of the role since then does not matter');
SELECT is((SELECT string_agg(ids(d), ', ') FROM unnest('{log,numbered}'::regclass[]) AS d), '1 2 3 4, 1 2 3 4', 'rows come as before');
SELECT is((SELECT string_agg(c.col ->> 'type', ', ' ORDER BY c.col ->> 'name')
           FROM roneo.replica AS r, jsonb_array_elements(roneo.local_relation(r.dest) -> 'columns') AS c (col) WHERE r.dest_name = 'log'),
    'timestamp with time zone, character varying(9), integer, integer', 'and the types have the names that they have everywhere');
