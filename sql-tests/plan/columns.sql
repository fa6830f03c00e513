-- Names, types, and which columns are copied to which.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT no_plan();

CREATE SCHEMA app;
CREATE SCHEMA elsewhere;
CREATE EXTENSION citext SCHEMA elsewhere;
CREATE TYPE app.mood AS ENUM ('sad', 'it''s \ fine');

-- parse_name
SELECT results_eq(
    $$ SELECT (roneo.parse_name(input, 'here')).*
       FROM unnest(ARRAY['orders', 'App.Orders', '"Odd Name"."T.x"', ' a . "b""c" ', '"50 % \"'])
           AS input $$,
    $$ VALUES ('here'::name, 'orders'::name), ('app', 'orders'), ('Odd Name', 'T.x'),
              ('a', 'b"c'), ('here', '50 % \') $$,
    'a name is read as SQL reads it');
SELECT throws_ok(format('SELECT roneo.parse_name(%L, NULL)', input), 'RO006', NULL,
    format('%s is no name of a table', coalesce(quote_literal(input), 'NULL')))
FROM unnest(ARRAY['a.b.c', '', 'a.', '.b', 'a b', 'a."', '"".b', '1a', repeat('é', 32),
                  concat(repeat('a', 64), '.b'), NULL]) AS input;
SELECT is((roneo.parse_name(concat('a', repeat('é', 31)), NULL)).name,
    concat('a', repeat('é', 31))::name, 'a name of 63 bytes is kept whole');

-- fit_name
SELECT is(roneo.fit_name('orders', '_snap1'), 'orders_snap1', 'a short name only gets its suffix');
SELECT is(roneo.fit_name(repeat('é', 40), '_snap1'), concat(repeat('é', 28), '_snap1')::name,
    'a long name is cut by bytes, between characters');
SELECT is(octet_length(roneo.fit_name(repeat('a', 63), '_snap1')::text), 63,
    'and no shorter than needed');

-- column_list and missing_columns
SELECT is(roneo.column_list('{id,B c,"say \"x\"",user,Größe}'),
    'id, "B c", "say ""x""", "user", "Größe"', 'names are quoted where SQL wants it');
SELECT is(roneo.column_list('{}'), '', 'no names make no list');
SELECT bag_eq($$ SELECT roneo.missing_columns('{a,b,B,c}', '{b,a}') $$,
    $$ VALUES ('B'::name), ('c') $$, 'names differ by case');

-- local_type
CREATE TABLE app.types (
    a varchar(10), b numeric(10, 2)[], c app.mood, d app.mood[], e elsewhere.citext,
    f elsewhere.citext[], g bit(7), h interval second(3), i timestamptz(0));
SELECT results_eq(
    $$ SELECT roneo.local_type(c) FROM jsonb_array_elements(
           roneo.local_relation('app.types') -> 'columns') AS c $$,
    $$ VALUES ('character varying(10)'), ('numeric(10,2)[]'), ('app.mood'), ('app.mood[]'),
              ('elsewhere.citext'), ('elsewhere.citext[]'), ('bit(7)'), ('interval second(3)'),
              ('timestamp(0) with time zone') $$,
    'a type that is here keeps its name and its length');
SELECT is(roneo.local_type(jsonb_build_object('name', 'x', 'type', 'public.citext[]',
        'type_schema', 'public', 'type_name', 'citext', 'type_extension', 'citext',
        'type_modifier', '', 'type_array', true)),
    'elsewhere.citext[]', 'a type of an extension is found in the schema that has it here');

CREATE FUNCTION pg_temp.refusal(col jsonb) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    code   text;
    said   text;
    advice text;
BEGIN
    PERFORM roneo.local_type(col);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS code := RETURNED_SQLSTATE, said := MESSAGE_TEXT,
                            advice := PG_EXCEPTION_HINT;
    RETURN ARRAY[code, said, advice];
END;
$$;
SELECT is(pg_temp.refusal('{"name": "x", "type": "app.\"Hue\"[]", "type_schema": "app",
        "type_name": "Hue", "type_array": true,
        "type_ddl": "CREATE TYPE app.\"Hue\" AS ENUM ();"}'),
    ARRAY['RO015', 'type app."Hue" of column "x" does not exist here',
          'CREATE TYPE app."Hue" AS ENUM ();'],
    'a type that is not here is refused, with the statement that makes it');
SELECT is(pg_temp.refusal('{"name": "x", "type": "public.hstore", "type_schema": "public",
        "type_name": "hstore", "type_extension": "hstore"}'),
    ARRAY['RO015', 'type public.hstore of column "x" does not exist here',
          'CREATE EXTENSION hstore;'],
    'and so is a type whose extension is not');
SELECT isnt(pg_temp.refusal('{"name": "x", "type": "int4); DROP TABLE app.types; --"}'), NULL,
    'a source cannot send SQL for a type');

-- pair_columns
CREATE TABLE app.sent (
    id bigint, "Odd ""x""" varchar(20), mood app.mood, ci elsewhere.citext, moods app.mood[],
    gone int, code char(3), flags bit(2), amount numeric(10, 2), kin regclass);
CREATE TABLE app.kept (
    extra int, amount numeric(8, 1), code char(5), "Odd ""x""" varchar(10), mood text,
    id bigint, ci elsewhere.citext, moods app.mood[], flags bit(2), kin text,
    made int GENERATED ALWAYS AS (1) STORED);
SELECT results_eq(
    $$ SELECT * FROM roneo.pair_columns(roneo.local_relation('app.sent') -> 'columns',
                                        roneo.local_relation('app.kept') -> 'columns') $$,
    $$ VALUES
        (1, 'id'::name, 'bigint', 'bigint', 'bigint', true, 'bigint'),
        (2, 'Odd "x"', 'character varying(20)', 'character varying', 'character varying(10)',
            true, 'character varying'),
        (3, 'mood', 'app.mood', 'text', 'text', true, 'text'),
        (4, 'ci', 'elsewhere.citext', 'elsewhere.citext', 'elsewhere.citext', true,
            'elsewhere.citext'),
        (5, 'moods', 'app.mood[]', 'app.mood[]', 'app.mood[]', false, 'app.mood[]'),
        (6, 'code', 'character(3)', 'bpchar', 'character(5)', true, 'bpchar'),
        (7, 'flags', 'bit(2)', '"bit"', 'bit(2)', true, '"bit"'),
        (8, 'amount', 'numeric(10,2)', 'numeric', 'numeric(8,1)', true, 'numeric'),
        (9, 'kin', 'regclass', 'text', 'text', true, 'text') $$,
    'columns are paired by name in the source''s order, cast to built-in types without length');
CREATE TABLE app.made (gone int, made int GENERATED ALWAYS AS (1) STORED, made2 int);
SELECT results_eq(
    $$ SELECT name FROM roneo.pair_columns(
           '[{"name": "made", "type": "integer"}, {"name": "gone", "type": "integer"}]',
           roneo.local_relation('app.made') -> 'columns') $$,
    $$ VALUES ('gone'::name) $$, 'generated columns of the destination are left out');
CREATE DOMAIN app.size AS bigint;
SELECT results_eq(
    $$ SELECT p.is_binary
       FROM unnest(ARRAY['bigint', 'timestamp with time zone']) AS base,
           roneo.pair_columns(jsonb_build_array(jsonb_build_object(
               'name', 'x', 'type', 'app.size', 'binary', true, 'type_schema', 'app',
               'type_base', base)),
           '[{"name": "x", "type": "app.size", "binary": true, "type_schema": "app",
              "type_base": "bigint"}]') AS p $$,
    $$ VALUES (true), (false) $$,
    'domains of one name over two types do not travel in binary form');

SELECT * FROM finish();
ROLLBACK;
