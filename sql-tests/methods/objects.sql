-- What rows can be copied from and into: every kind of relation, and readers with few privileges.
SET client_min_messages = warning;
SELECT no_plan();

SELECT on_source(format($$
    CREATE EXTENSION postgres_fdw;
    CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host %L, port %L, dbname %L);
    CREATE USER MAPPING FOR PUBLIC SERVER itself OPTIONS (user 'postgres');
$$, :'socket', :'port', :'source_db')) \g /dev/null
SELECT on_source($$
    CREATE SCHEMA app;
    CREATE TABLE app.ordinary (id int PRIMARY KEY, v text);
    CREATE UNLOGGED TABLE app.unlogged (id int, v text);
    CREATE VIEW app.view AS SELECT id, v FROM app.ordinary;
    CREATE VIEW app.computed AS SELECT o.id * 1 AS id, concat(v) AS v FROM app.view AS o;
    CREATE MATERIALIZED VIEW app.matview AS SELECT id, v FROM app.ordinary;
    CREATE UNIQUE INDEX ON app.matview (id);
    CREATE FOREIGN TABLE app.foreign (id int, v text) SERVER itself
        OPTIONS (schema_name 'app', table_name 'ordinary');
    CREATE VIEW app.over_foreign AS SELECT id, v FROM app.foreign;
    CREATE TABLE app.inherited (LIKE app.ordinary);
    CREATE TABLE app.child (extra int) INHERITS (app.inherited);
    CREATE TABLE app.grandchild () INHERITS (app.child, app.inherited);
    CREATE TABLE app.partitioned (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
    CREATE TABLE app.low PARTITION OF app.partitioned FOR VALUES FROM (0) TO (3)
        PARTITION BY RANGE (id);
    CREATE TABLE app.one PARTITION OF app.low FOR VALUES FROM (1) TO (2);
    -- Its columns are in another order.
    CREATE TABLE app.rest (v text, gone int, id int NOT NULL);
    ALTER TABLE app.rest DROP COLUMN gone;
    ALTER TABLE app.low ATTACH PARTITION app.rest DEFAULT;
    CREATE TABLE app.partly (id int, v text) PARTITION BY LIST (id);
    CREATE TABLE app.behind (id int, v text);
    CREATE FOREIGN TABLE app.away PARTITION OF app.partly FOR VALUES IN (2, 3) SERVER itself
        OPTIONS (schema_name 'app', table_name 'behind');
    CREATE TABLE app.here PARTITION OF app.partly DEFAULT;
$$) \g /dev/null
SELECT on_source($$
    INSERT INTO app.ordinary VALUES (1, 'one'), (2, 'two');
    INSERT INTO app.unlogged TABLE app.ordinary;
    INSERT INTO app.inherited VALUES (1, 'one');
    INSERT INTO app.grandchild VALUES (2, 'two', 0);
    INSERT INTO app.partitioned TABLE app.ordinary;
    INSERT INTO app.here VALUES (1, 'one');
    INSERT INTO app.behind VALUES (2, 'two');
    REFRESH MATERIALIZED VIEW app.matview;
$$) \g /dev/null
-- The third row, where one can put it.
CREATE TEMP TABLE object (name text, kind "char", change text);
INSERT INTO object VALUES
    ('ordinary', 'r', $$ INSERT INTO app.ordinary VALUES (3, 'three');
                         REFRESH MATERIALIZED VIEW app.matview $$),
    ('view', 'v', NULL), ('computed', 'v', NULL), ('over_foreign', 'v', NULL),
    ('matview', 'm', NULL), ('foreign', 'f', NULL),
    ('unlogged', 'r', $$ INSERT INTO app.unlogged VALUES (3, 'three') $$),
    ('inherited', 'r', $$ INSERT INTO app.child VALUES (3, 'three', 0) $$),
    -- Rows that were there before their partition was.
    ('partitioned', 'p', $$ CREATE TABLE app.high (id int PRIMARY KEY, v text);
                            INSERT INTO app.high VALUES (3, 'three');
                            ALTER TABLE app.partitioned ATTACH PARTITION app.high
                                FOR VALUES FROM (3) TO (MAXVALUE) $$),
    ('partly', 'p', $$ INSERT INTO app.behind VALUES (3, 'three') $$);

SELECT roneo.create_source('main', current_setting('test.source_conninfo')) \g /dev/null
CREATE SCHEMA app;
CREATE FUNCTION rows_of(relation text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    found text[];
BEGIN
    EXECUTE format('SELECT array_agg(concat(id, v) ORDER BY id, v) FROM %s', relation) INTO found;
    RETURN found;
END $$;
SELECT lives_ok(format('SELECT roneo.create_snapshot(''main'', %L),
                               roneo.create_plain(''main'', %1$L, ''p_%s'')', 'app.' || name, name),
    format('a snapshot and a plain replica can be made of: %s', name))
FROM object;
SELECT set_eq('SELECT source_table::text, source_kind, count(*) FROM roneo.replica GROUP BY 1, 2',
    'SELECT name, kind, 2::bigint FROM object', 'and is known to be what it is');
SELECT is(rows_of(place || name), '{1one,2two}', format('each row is there once: %s%s', place, name))
FROM object, unnest('{app.,p_}'::text[]) AS place;
SELECT on_source(change) FROM object WHERE change IS NOT NULL \g /dev/null
SELECT is((roneo.refresh((place || name)::regclass)).outcome, 'ok',
    format('what changed is seen: %s%s', place, name))
FROM object, unnest('{app.,p_}'::text[]) AS place;
SELECT is(rows_of(place || name), '{1one,2two,3three}',
    format('and copied: %s%s', place, name))
FROM object, unnest('{app.,p_}'::text[]) AS place;
SELECT on_source('ALTER TABLE app.partitioned DETACH PARTITION app.low') \g /dev/null
SELECT roneo.refresh('app.partitioned'), roneo.refresh('p_partitioned') \g /dev/null
SELECT is(rows_of(r), '{3three}', format('rows go with their partition: %s', r))
FROM unnest('{app.partitioned,p_partitioned}'::text[]) AS r;
SELECT is((roneo.refresh(r::regclass)).outcome, 'ok',
    format('where nothing counts changes all is copied: %s', r))
FROM unnest('{app.view,app.matview,app.foreign,app.partly,p_ordinary}'::text[]) AS r;

-- Tables of unusual size.
SELECT on_source($$ CREATE TABLE app.empty (id int); CREATE TABLE app.nothing (); CREATE TABLE app.former (gone int);
    INSERT INTO app.nothing DEFAULT VALUES; INSERT INTO app.nothing DEFAULT VALUES;
    INSERT INTO app.former VALUES (1), (2), (3); ALTER TABLE app.former DROP COLUMN gone $$) \g /dev/null
SELECT on_source(format('CREATE TABLE app.wide (%s)', string_agg(format('"Column %s" int DEFAULT %1$s', n), ', ')))
FROM generate_series(1, 1000) AS n \g /dev/null
SELECT on_source('INSERT INTO app.wide DEFAULT VALUES') \g /dev/null
CREATE FUNCTION count_of(relation text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    found bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %s', relation) INTO found;
    RETURN found;
END $$;
SELECT roneo.create_snapshot('main', 'app.' || name), roneo.create_plain('main', 'app.' || name,
    'p_' || name)
FROM unnest('{empty,nothing,former,wide}'::text[]) AS name \g /dev/null
SELECT is(count_of(place || name), rows::bigint,
    format('%s rows of %s columns: %s%s', rows, columns, place, name))
FROM (VALUES ('empty', 0, 1), ('nothing', 2, 0), ('former', 3, 0), ('wide', 1, 1000)) AS v (name, rows, columns),
     unnest('{app.,p_}'::text[]) AS place;
SELECT results_eq($$ SELECT s."Column 1", s."Column 777", p."Column 1000" FROM app.wide AS s, p_wide AS p $$,
    'VALUES (1, 777, 1000)', 'a thousand columns have their values');
SELECT on_source('TRUNCATE app.nothing; INSERT INTO app.empty VALUES (1)') \g /dev/null
SELECT is((roneo.refresh((place || name)::regclass)).rows_sent, rows::bigint,
    format('now %s rows: %s%s', rows, place, name))
FROM (VALUES ('empty', 1), ('nothing', 0)) AS v (name, rows), unnest('{app.,p_}'::text[]) AS place;

-- What is no table, or not for others.
SELECT on_source('CREATE SEQUENCE app.numbers; CREATE TYPE app.pair AS (a int);
                  CREATE INDEX by_v ON app.ordinary (v)') \g /dev/null
SELECT dblink_connect('holder', current_setting('test.source_conninfo')),
       dblink_exec('holder', 'CREATE TEMP TABLE passing (id int)') \g /dev/null
INSERT INTO object
SELECT 'a temporary table', 't', v
FROM dblink('holder', $$ SELECT concat(nspname, '.passing') FROM pg_namespace
                         WHERE oid = pg_my_temp_schema() $$) AS t (v text);
SELECT throws_ok(format('SELECT roneo.%I(''main'', %L, ''new'')', method, name), 'RO004', NULL,
    format('%s: not for %s', method, what))
FROM (SELECT name, change FROM object WHERE kind = 't'
      UNION VALUES ('a sequence', 'app.numbers'), ('an index', 'app.by_v'), ('a type', 'app.pair'),
                   ('a partitioned index', 'app.partitioned_pkey'),
                   ('what is not there', 'app.nowhere'), ('what is in no schema', 'nowhere.orders'),
                   ('a function', 'pg_catalog.now')) AS v (what, name),
     unnest('{create_snapshot,create_plain}'::text[]) AS method;
SELECT dblink_disconnect('holder') \g /dev/null
SELECT hasnt_relation('new', 'and makes nothing');

-- Into a partitioned table, and into a parent.
CREATE TABLE parts (v text, id int) PARTITION BY LIST (id);
CREATE TABLE parts_one PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_rest (gone int, id int, v text);
ALTER TABLE parts_rest DROP COLUMN gone;
ALTER TABLE parts ATTACH PARTITION parts_rest DEFAULT;
INSERT INTO parts VALUES ('old', 1), ('old', 9);
SELECT is((SELECT roneo.create_plain('main', 'app.ordinary', 'parts'))::text, 'parts',
    'a partitioned table is adopted');
SELECT is(rows_of('parts'), '{1one,2two,3three}', 'its rows are replaced');
SELECT is(rows_of('parts_one'), '{1one}', 'each in its partition');
SELECT is((roneo.refresh('parts')).deleted, 3::bigint, 'and again');
CREATE TABLE parent (id int, v text);
CREATE TABLE own () INHERITS (parent);
INSERT INTO own VALUES (7, 'mine');
SELECT roneo.create_plain('main', 'app.ordinary', 'parent') \g /dev/null
SELECT is(rows_of('own'), '{7mine}',
    'rows of tables that inherit from a destination are nobody''s business');
SELECT is(rows_of('ONLY parent'), '{1one,2two,3three}', 'those of the parent are');
SELECT * FROM finish();
