-- What is read on the source, and how it arrives.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT no_plan();

CREATE SCHEMA "Odd %";
CREATE TYPE "Odd %".mood AS ENUM ('sad', 'ok');
CREATE TABLE "Odd %"."T.x \" (
    id bigint, "Odd, ""B""" varchar(5), "user" int, mood "Odd %".mood);
CREATE TABLE "Odd %".arrays (id int, moods "Odd %".mood[]);
CREATE TABLE "Odd %".nothing ();

CREATE FUNCTION pg_temp.step(name text, condition text, encoding text DEFAULT NULL)
RETURNS roneo.step LANGUAGE sql
BEGIN ATOMIC
    SELECT (roneo.transfer_step('copy the rows', 'Odd %', step.name, d.c, d.c, condition,
                                'app', 'copy of it', true, encoding)).*
    FROM (SELECT roneo.local_relation(format('%I.%I', 'Odd %', step.name)::regclass) -> 'columns')
        AS d(c);
END;

SELECT is(statement,
    'SELECT id::bigint, "Odd, ""B"""::character varying, "user"::integer, mood::"Odd %".mood '
    'FROM "Odd %"."T.x \"', 'every column is cast, and every name quoted')
FROM pg_temp.step('T.x \', NULL);
SELECT is(statement, concat('SELECT id::integer, moods::"Odd %".mood[] FROM "Odd %".arrays ',
    E'WHERE (id > 1 OR true -- all\n)'), 'a comment at the end of the filter stays inside it')
FROM pg_temp.step('arrays', 'id > 1 OR true -- all');
SELECT unalike(statement, '%WHERE%', 'a blank filter is none')
FROM pg_temp.step('arrays', E' \n');
SELECT row_eq($$ SELECT stage, kind, purpose, into_table, into_list, into_types, copy_format,
                        copy_freeze, counts, patient FROM pg_temp.step('T.x \', NULL) $$,
    ROW(2::smallint, 'transfer'::text, 'copy the rows'::text, 'app."copy of it"'::text,
        'id, "Odd, ""B""", "user", mood'::text,
        'id bigint, "Odd, ""B""" character varying, "user" integer, mood "Odd %".mood'::text,
        'binary'::text, true, 'inserted'::text, false),
    'the step says where rows go, and as what');
SELECT is(copy_format, 'text', 'an array of a user''s type travels as text')
FROM pg_temp.step('arrays', NULL);
SELECT is(copy_format, 'text', 'and so does what must be re-encoded')
FROM pg_temp.step('T.x \', NULL, 'LATIN1');

SELECT is(roneo.copy_out(s, NULL), format('COPY (%s) TO STDOUT (FORMAT binary)', s.statement),
    'the source sends what the step selects')
FROM pg_temp.step('T.x \', NULL) AS s;
SELECT is(roneo.copy_in(s, NULL),
    'COPY app."copy of it" (id, "Odd, ""B""", "user", mood) FROM STDIN '
    '(FORMAT binary, FREEZE true)', 'and the destination takes it in the same form')
FROM pg_temp.step('T.x \', NULL) AS s;
SELECT is(roneo.copy_in(s, 'LATIN1'),
    'COPY app."copy of it" (id, moods) FROM STDIN (FORMAT text, FREEZE true, ENCODING ''LATIN1'')',
    'text comes in the encoding that the source really has')
FROM pg_temp.step('arrays', NULL, 'LATIN1') AS s;
SELECT matches(roneo.copy_out(s, 'LATIN1'), $$TO STDOUT \(FORMAT text, ENCODING 'LATIN1'\)$$,
    'and leaves in it, for a SQL_ASCII server lets no bytes out that its client could not read')
FROM pg_temp.step('arrays', NULL, 'LATIN1') AS s;
SELECT is(ARRAY[s.statement, s.into_list, s.into_types, roneo.copy_in(s, NULL)],
    ARRAY['SELECT FROM "Odd %".nothing', '', 'nothing boolean',
          'COPY app."copy of it" FROM STDIN (FORMAT binary, FREEZE true)'],
    'a table without columns has rows all the same')
FROM pg_temp.step('nothing', NULL) AS s;

INSERT INTO "Odd %"."T.x \" VALUES (1, 'a', 2, 'ok'), (2, 'b', 3, NULL);
SELECT lives_ok(format('CREATE TEMP TABLE read AS %s', statement), 'what was planned can be run')
FROM pg_temp.step('T.x \', '"user" < 3 -- few');
SELECT results_eq('TABLE read', 'SELECT * FROM "Odd %"."T.x \" WHERE id = 1',
    'and brings the rows in the filter');

SELECT * FROM finish();
ROLLBACK;
