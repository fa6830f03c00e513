-- Columns that have drifted apart, and tables that nobody copies.
SET client_min_messages = warning;
SELECT plan(38);

SELECT on_source($$
    CREATE SCHEMA app;
    CREATE TABLE app.t (id int PRIMARY KEY, v varchar(10) NOT NULL, n int);
    CREATE TABLE app.visits (id int PRIMARY KEY, at timestamptz NOT NULL, v text);
    CREATE TABLE app.alone (id int);
    CREATE TABLE public."Odd %s 'name" (id int);
    CREATE TABLE app.root (id int) PARTITION BY RANGE (id);
    CREATE TABLE app.leaf PARTITION OF app.root FOR VALUES FROM (0) TO (9);
    CREATE TABLE app.child () INHERITS (app.alone);
$$) \g /dev/null
CREATE SCHEMA app;
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT roneo.create_plain('src', 'app.t', 'plain'), roneo.create_plain('src', 'app.t', 'some', columns => '{id,v}'),
       roneo.create_snapshot('src', 'app.t', 'snap'), roneo.create_updater('src', 'app.visits', 'visits', control => 'at') \g /dev/null
CREATE FUNCTION found() RETURNS text LANGUAGE sql
RETURN (SELECT string_agg(format('%s %s: %s', c.level, replace(c.object, 'public.', ''), c.message), E'\n' ORDER BY c.object, c.message)
        FROM roneo.check_columns() AS c);
CREATE FUNCTION advice(words text) RETURNS text LANGUAGE sql
RETURN (SELECT c.advice FROM roneo.check_columns() AS c WHERE strpos(c.message, words) > 0 AND c.object <> 'public.snap');

SELECT is(found(), NULL, 'what was just made has not drifted apart');

-- Columns that come.
SELECT on_source('ALTER TABLE app.t ADD "New one" numeric(5,2); ALTER TABLE app.visits ADD w text') \g /dev/null
SELECT is(found(),
'WARNING plain: column "New one" numeric(5,2) is new on the source and not copied
OK snap: the source has changed: "New one" is new
WARNING visits: column w text is new on the source and not copied', 'a new column is told, but not where columns were chosen');
SELECT is(advice('New one'), 'ALTER TABLE public.plain ADD COLUMN "New one" numeric(5,2); -- the next refresh that copies fills it', 'with what adds it');
SELECT is(advice('column w'), 'ALTER TABLE public.visits ADD COLUMN w text; CALL roneo.repull(''public.visits''); -- fills the rows that are here', 'and fills it');
ALTER TABLE plain ADD COLUMN "New one" numeric(5,2);
ALTER TABLE visits ADD COLUMN w text;
SELECT is(found(), 'OK snap: the source has changed: "New one" is new', 'that is all it takes');
SELECT is(advice, 'The next refresh takes it over.', 'a snapshot takes it over by itself') FROM roneo.check_columns() WHERE object = 'public.snap';
SELECT roneo.refresh(dest) FROM roneo.replica \g /dev/null
SELECT is(found(), NULL, 'which it does');

-- Columns that go.
SELECT on_source('ALTER TABLE app.t DROP n, DROP v') \g /dev/null
SELECT is(found(),
'CRITICAL "some": column v is gone from the source, and the replica copies it by name
WARNING plain: column n is not on the source
CRITICAL plain: column v is not on the source, and NOT NULL here: new rows do not fit
OK snap: the source has changed: n is gone, v is gone', 'columns that went are told, as badly as they hurt');
SELECT is(advice('column n'), 'ALTER TABLE public.plain DROP COLUMN n;', 'with what takes them away here');
SELECT is((roneo.refresh('some')).sqlstate, 'RO015', 'what is called critical fails');
SELECT is((roneo.refresh('plain')).sqlstate, 'RO015', 'both times');
SELECT roneo.drop_replica('some'), roneo.drop_replica('plain', keep_table => false), roneo.drop_replica('snap') \g /dev/null
ALTER TABLE visits ADD COLUMN own text, ADD COLUMN loaded timestamptz NOT NULL DEFAULT now(), ADD COLUMN twice int GENERATED ALWAYS AS (2 * id) STORED;
SELECT is((roneo.refresh('visits')).outcome IN ('ok', 'unchanged'), true, 'columns that only are here do not hurt');
SELECT is(found(), 'OK visits: column loaded is not on the source' || E'\n' || 'OK visits: column own is not on the source', 'and so are no alarm');
ALTER TABLE visits DROP own, DROP loaded, DROP twice;
SELECT on_source('ALTER TABLE app.visits DROP at, DROP id') \g /dev/null
SELECT is((SELECT count(*) FROM roneo.check_columns() WHERE level = 'CRITICAL' AND (message ~ 'the control column at is gone' OR message ~ 'the key column id is gone')), 2::bigint,
    'control and key columns that went are critical');
SELECT on_source('DROP TABLE app.visits') \g /dev/null
SELECT is((level, message)::text, '(CRITICAL,"source table app.visits is gone")', 'and so is a table that went') FROM roneo.check_columns();
SELECT roneo.drop_replica('visits', keep_table => false) \g /dev/null

-- Types.
SELECT is(roneo.type_fits(jsonb_build_object('type', s, 'type_bare', format_type(s::regtype, -1)), jsonb_build_object('type', d, 'type_bare', format_type(d::regtype, -1))), fits,
    format('%s %s into %s', s, CASE WHEN fits THEN 'fits' ELSE 'does not fit' END, d))
FROM (VALUES ('integer', 'integer', true), ('integer', 'bigint', true), ('bigint', 'integer', false), ('character varying(10)', 'character varying(9)', false),
             ('character varying(10)', 'character varying(20)', true), ('character varying', 'character varying(20)', false), ('character varying(10)', 'text', true),
             ('text', 'character varying', true), ('numeric(5,2)', 'numeric', true), ('numeric(6,2)', 'numeric(5,2)', false), ('text', 'integer', false)) AS c (s, d, fits);
SELECT on_source('CREATE TABLE app.typed (id int PRIMARY KEY, v varchar(20))') \g /dev/null
CREATE TABLE typed (id int PRIMARY KEY, v varchar(10) NOT NULL);
SELECT roneo.create_plain('src', 'app.typed', 'typed') \g /dev/null
SELECT is(found(),
'WARNING typed: column v is NOT NULL here and not on the source: a row without it fails the refresh
WARNING typed: column v is character varying(20) on the source and character varying(10) here: values may not fit', 'a narrower column is told');
SELECT lives_ok(string_agg(advice, ' '), 'with what mends it') FROM roneo.check_columns();
SELECT is(found(), NULL, 'which it does');

-- Tables that nobody copies.
SELECT set_eq($$ SELECT check_name, object, level FROM roneo.check_missing_tables('src') $$,
    $$ VALUES ('missing table', 'app.t', 'WARNING'), ('missing table', 'app.alone', 'WARNING'), ('missing table', 'app.root', 'WARNING'), ('missing table', 'public."Odd %s ''name"', 'WARNING') $$,
    'tables that nobody copies are told, partitions and children with their root');
SELECT set_eq($$ SELECT object FROM roneo.check_missing_tables('src', '{app}') $$, $$ VALUES ('app.t'), ('app.alone'), ('app.root') $$, 'or those of some schemas');
SELECT lives_ok(advice, 'with what copies them') FROM roneo.check_missing_tables('src', '{public}');
SELECT is_empty($$ SELECT * FROM roneo.check_missing_tables('src', '{public}') $$, 'then nothing is missing');

-- Sources that cannot be asked.
SELECT roneo.create_source('away', 'host=/nowhere dbname=x') \g /dev/null
SELECT is((object, level, message ~ 'source away cannot be reached: .*/nowhere', advice <> '')::text, '(away,UNKNOWN,t,t)', 'a source that cannot be asked is unknown') FROM roneo.check_columns();
SELECT is(level, 'UNKNOWN', 'also for its tables') FROM roneo.check_missing_tables('away');
SELECT throws_ok($$ SELECT * FROM roneo.check_columns('{nobody}') $$, 'RO003', NULL, 'an unknown source is an error');
SELECT throws_ok($$ SELECT * FROM roneo.check_missing_tables('nobody') $$, 'RO003', NULL, 'for both');
SELECT is(dblink_get_connections(), NULL, 'no connection is left');

SELECT * FROM finish();
