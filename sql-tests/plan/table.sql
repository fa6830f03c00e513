-- Making a table like the source's, and making it follow the source's columns.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT no_plan();

CREATE SCHEMA "Odd %";
CREATE TYPE "Odd %".mood AS ENUM ('sad', 'ok');
CREATE FUNCTION pg_temp.columns(name text) RETURNS jsonb LANGUAGE sql
RETURN roneo.local_relation(format('"Odd %%".%s', name)::regclass) -> 'columns';
CREATE FUNCTION pg_temp.run(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
END;
$$;

-- table_statement
CREATE TABLE "Odd %".source (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "Odd, ""B""" varchar(5) COLLATE "C" NOT NULL,
    "user" "Odd %".mood[], gone int, twice bigint GENERATED ALWAYS AS (1) STORED);
ALTER TABLE "Odd %".source DROP COLUMN gone;
SELECT is(roneo.table_statement('Odd %', 'T.x \', pg_temp.columns('source')),
    'CREATE TABLE "Odd %"."T.x \" (id bigint NOT NULL, '
    '"Odd, ""B""" character varying(5) COLLATE pg_catalog."C" NOT NULL, '
    '"user" "Odd %".mood[], twice bigint)',
    'a copy has the source''s types, collations and NOT NULL; all its columns are ordinary');
SELECT is(roneo.table_statement('app', 'nothing', '[]'), 'CREATE TABLE app.nothing ()',
    'a table can have no columns');
SELECT pg_temp.run(roneo.table_statement('Odd %', 'copy', pg_temp.columns('source')));
SELECT ok(roneo.same_shape(pg_temp.columns('copy'), pg_temp.columns('source')),
    'what was made has the shape that was wanted');
SELECT is_empty($$ SELECT * FROM roneo.reshape_statements('Odd %', 'copy', pg_temp.columns('copy'),
        pg_temp.columns('source'), pg_temp.columns('source'), true) $$,
    'and nothing is left to change');

-- same_shape
CREATE TABLE "Odd %".shuffled (twice bigint, "user" "Odd %".mood[], id bigint NOT NULL,
    "Odd, ""B""" varchar(5) COLLATE "C" NOT NULL);
SELECT ok(roneo.same_shape(pg_temp.columns('shuffled'), pg_temp.columns('source')),
    'the order of columns does not matter');
CREATE FUNCTION pg_temp.shape_after(action text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    same boolean;
BEGIN
    EXECUTE format('ALTER TABLE "Odd %%".shuffled %s', action);
    same := roneo.same_shape(pg_temp.columns('shuffled'), pg_temp.columns('source'));
    RAISE EXCEPTION USING ERRCODE = 'ZZ000', MESSAGE = same::text;
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
    RETURN SQLERRM::boolean;
END;
$$;
SELECT ok(NOT pg_temp.shape_after(action), format('%s changes the shape', action))
FROM unnest(ARRAY['ADD x int', 'DROP twice', 'RENAME twice TO "Twice"', 'ALTER twice TYPE int',
    'ALTER twice SET NOT NULL', 'ALTER id DROP NOT NULL', 'ALTER "Odd, ""B""" TYPE varchar(6)',
    'ALTER "Odd, ""B""" TYPE varchar(5) COLLATE "POSIX"']) AS action;

-- reshape_statements: each change is made to a source, and its copy must follow.
CREATE FUNCTION pg_temp.reshape(actions text[], same_table boolean) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    known  jsonb;
    wanted jsonb;
    done   text[];
    s      record;
BEGIN
    CREATE TABLE "Odd %".s (a int, b text, c int NOT NULL, "D ""d""" text, e int);
    known := pg_temp.columns('s');
    EXECUTE roneo.table_statement('Odd %', 'd', known);
    FOR i IN 1 .. cardinality(actions) LOOP
        EXECUTE format('ALTER TABLE "Odd %%".s %s', actions[i]);
    END LOOP;
    wanted := pg_temp.columns('s');
    FOR s IN SELECT * FROM roneo.reshape_statements('Odd %', 'd', pg_temp.columns('d'), known,
                                                    wanted, same_table)
             ORDER BY position LOOP
        EXECUTE s.statement;
        done := array_append(done, replace(s.statement, 'ALTER TABLE "Odd %".d ', ''));
    END LOOP;
    done := array_append(done,
        CASE WHEN roneo.same_shape(pg_temp.columns('d'), wanted) THEN 'same' ELSE 'DIFFERENT' END);
    DROP TABLE "Odd %".s, "Odd %".d;
    RETURN done;
END;
$$;
SELECT is(pg_temp.reshape(ARRAY['RENAME a TO "New %"'], true),
    ARRAY['RENAME COLUMN a TO "New %"', 'same'], 'a renamed column is renamed');
SELECT is(pg_temp.reshape(ARRAY['RENAME a TO "New %"'], false),
    ARRAY['DROP COLUMN a', 'ADD COLUMN "New %" integer', 'same'],
    'a renamed column of another table is another column');
SELECT is(regexp_replace(s, '"?[0-9a-f]{32}_passing"?', 'PASSING'), expected,
    format('two columns swap their names: %s', expected))
FROM ROWS FROM (
    unnest(pg_temp.reshape('{RENAME a TO x,RENAME b TO a,RENAME x TO b}', true)),
    unnest(ARRAY['RENAME COLUMN a TO PASSING', 'RENAME COLUMN b TO PASSING',
                 'RENAME COLUMN PASSING TO b', 'RENAME COLUMN PASSING TO a', 'same'])
) AS u(s, expected);
SELECT is((pg_temp.reshape('{RENAME c TO x,RENAME b TO c,RENAME a TO b,RENAME x TO a}', true))[7],
    'same', 'three columns can change their names in a circle');
SELECT is(array_length(pg_temp.reshape('{RENAME b TO x,RENAME a TO b}', true), 1), 4,
    'a chain of renames passes through one name only');
SELECT is(pg_temp.reshape('{DROP a,RENAME b TO a}', true),
    '{DROP COLUMN a,RENAME COLUMN b TO a,same}',
    'a column can take the name of one that is gone');
SELECT is(pg_temp.reshape('{RENAME a TO f,ADD a int}', true),
    '{RENAME COLUMN a TO f,ADD COLUMN a integer,same}',
    'and a new one that of one that was renamed');
SELECT is(pg_temp.reshape(ARRAY['DROP a', 'ADD a text COLLATE "C" NOT NULL'], same_table),
    ARRAY['ALTER COLUMN a TYPE text COLLATE pg_catalog."C" USING NULL',
          'ALTER COLUMN a SET NOT NULL', 'same'],
    'a column that was dropped and added again changes its type')
FROM unnest(ARRAY[true, false]) AS same_table;
SELECT is(pg_temp.reshape(ARRAY['ALTER c DROP NOT NULL',
        'ALTER "D ""d""" TYPE "Odd %".mood[] USING NULL'], true),
    ARRAY['ALTER COLUMN "D ""d""" TYPE "Odd %".mood[] USING NULL', 'ALTER COLUMN c DROP NOT NULL',
          'same'], 'types and NOT NULL follow');
SELECT is(pg_temp.reshape(ARRAY['ADD f numeric(10,2) NOT NULL'], true),
    ARRAY['ADD COLUMN f numeric(10,2) NOT NULL', 'same'], 'a column can be added NOT NULL');
SELECT is(pg_temp.reshape(ARRAY['DROP a', 'DROP b', 'DROP c', 'DROP "D ""d"""', 'DROP e'], true),
    ARRAY['DROP COLUMN a', 'DROP COLUMN b', 'DROP COLUMN c', 'DROP COLUMN "D ""d"""',
          'DROP COLUMN e', 'same'], 'all columns can go');

SELECT * FROM finish();
ROLLBACK;
