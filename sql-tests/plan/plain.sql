-- The plans of a plain replica, for answers that no source gave.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT plan(23);

CREATE SCHEMA app;
CREATE TABLE app.source_side (id bigint PRIMARY KEY, "Odd %s" varchar(5), n integer, made int GENERATED ALWAYS AS (1) STORED);
CREATE TABLE app.dest (n smallint, "Odd %s" text, id bigint GENERATED ALWAYS AS IDENTITY (MINVALUE 5 MAXVALUE 900),
                       mine text DEFAULT 'x', twice bigint GENERATED ALWAYS AS (id * 2) STORED);
CREATE SEQUENCE app."Counter" AS int INCREMENT -1 MINVALUE -100 START -1;
ALTER TABLE app.dest ALTER n SET DEFAULT nextval('app."Counter"');
CREATE TABLE app.parted (id bigint) PARTITION BY RANGE (id);

INSERT INTO roneo.source (source_name, server_name, owns_server) VALUES ('src', 'none', false);
INSERT INTO roneo.replica (source_id, source_schema, source_table, source_kind, source_lockable, dest, dest_schema, dest_name, method, filter_path)
SELECT source_id, 'app', 'source_side', 'r', true, 'app.dest', 'app', 'dest', 'plain', 'public' FROM roneo.source;
INSERT INTO roneo.plain_replica (replica_id, columns) SELECT replica_id, '{id,"Odd %s",n}' FROM roneo.replica;

CREATE FUNCTION pg_temp.plan(hand text) RETURNS SETOF record LANGUAGE sql
BEGIN ATOMIC
    SELECT p.number, p.stage, p.kind, p.patient, p.counts, p.statement, p.copy_in, p.into_types
    FROM roneo.replica AS r
    CROSS JOIN LATERAL roneo.plan_refresh(jsonb_build_array(jsonb_build_object(
        'replica_id', r.replica_id, 'hand', hand, 'options', '{}'::jsonb, 'before', '{}'::jsonb,
        'inside', jsonb_build_object('relation', roneo.local_relation('app.source_side'))))) AS p;
END;
CREATE FUNCTION pg_temp.statements(hand text) RETURNS text[] LANGUAGE sql
BEGIN ATOMIC
    SELECT array_agg(concat_ws(' ', p.stage, p.kind, CASE WHEN p.patient THEN 'patiently' END, p.counts || ':', p.statement) ORDER BY p.number)
    FROM pg_temp.plan(hand) AS p (number integer, stage integer, kind text, patient boolean, counts text, statement text, copy_in text, into_types text)
    WHERE p.kind <> 'check';
END;
CREATE FUNCTION pg_temp.copy_in(hand text) RETURNS text LANGUAGE sql
BEGIN ATOMIC
    SELECT concat(p.copy_in, ' of ', p.into_types)
    FROM pg_temp.plan(hand) AS p (number integer, stage integer, kind text, patient boolean, counts text, statement text, copy_in text, into_types text)
    WHERE p.kind = 'transfer';
END;

CREATE TEMP TABLE part ON COMMIT DROP AS SELECT * FROM (VALUES
    ('read',  '2 transfer inserted: SELECT id::bigint, "Odd %s"::text, n::smallint FROM app.source_side'),
    ('up',    $$4 dest ALTER SEQUENCE app.dest_id_seq RESTART; SELECT pg_catalog.setval('app.dest_id_seq'::pg_catalog.regclass, greatest(5, least(900, coalesce(pg_catalog.max(id), 5)))::pg_catalog.int8, pg_catalog.max(id) IS NOT NULL) FROM app.dest$$),
    ('down',  $$4 dest ALTER SEQUENCE app."Counter" RESTART; SELECT pg_catalog.setval('app."Counter"'::pg_catalog.regclass, greatest(-100, least(-1, coalesce(pg_catalog.min(n), -1)))::pg_catalog.int8, pg_catalog.min(n) IS NOT NULL) FROM app.dest$$),
    ('count', '4 dest ANALYZE app.dest')) AS p (name, text);
CREATE FUNCTION pg_temp.parts(VARIADIC wanted text[]) RETURNS text[] LANGUAGE sql
RETURN (SELECT array_agg(coalesce(p.text, w.name) ORDER BY w.place)
        FROM unnest(wanted) WITH ORDINALITY AS w (name, place) LEFT JOIN part AS p ON p.name = w.name);

SELECT is(pg_temp.statements('runner'), pg_temp.parts(
    '1 dest patiently LOCK TABLE ONLY app.dest IN ACCESS EXCLUSIVE MODE', '1 dest TRUNCATE TABLE ONLY app.dest',
    'read', 'up', 'down', 'count'), 'the runner truncates, copies and sets the sequences');
SELECT is(pg_temp.statements('sql'), pg_temp.parts(
    '1 dest patiently LOCK TABLE ONLY app.dest IN SHARE ROW EXCLUSIVE MODE', '1 dest deleted: DELETE FROM ONLY app.dest',
    '1 dest ' || roneo.empty_check('ONLY app.dest'), 'read', 'up', 'down', 'count'), 'the SQL hand deletes, so that no reader finds it empty');
SELECT is(pg_temp.copy_in('runner'), 'COPY app.dest (id, "Odd %s", n) FROM STDIN (FORMAT binary, FREEZE true) of id bigint, "Odd %s" text, n smallint',
    'what is generated here is left out, and the rest cast to the types here');
SELECT is(pg_temp.copy_in('sql'), 'COPY app.dest (id, "Odd %s", n) FROM STDIN (FORMAT binary) of id bigint, "Odd %s" text, n smallint',
    'rows that are not alone in their table are not frozen');
SELECT is((SELECT count(*) FROM pg_temp.plan(hand) AS p (number integer, stage integer, kind text, patient boolean, counts text, statement text, copy_in text, into_types text)
           WHERE kind = 'check' AND stage = 2), 1::bigint, format('the source''s files are compared after the reading (%s)', hand))
FROM unnest('{sql,runner}'::text[]) AS hand;

-- Sequences.
UPDATE roneo.plain_replica SET sequences = '{"app.\"Counter\""}';
SELECT is((pg_temp.statements('sql'))[5:], pg_temp.parts('down', 'count'), 'only those sequences that were named are set');
UPDATE roneo.plain_replica SET sequences = '{}';
SELECT is((pg_temp.statements('sql'))[5:], pg_temp.parts('count'), 'or none');

-- What is read.
UPDATE roneo.replica SET filter = 'n > 1 OR id = 2';
SELECT is((pg_temp.statements('runner'))[3], (pg_temp.parts('read'))[1] || E' WHERE (n > 1 OR id = 2\n)', 'a filter stays between parentheses');
UPDATE roneo.replica SET filter = NULL, wanted_columns = '{id}';
UPDATE roneo.plain_replica SET columns = '{id}';
SELECT is((pg_temp.statements('runner'))[3], '2 transfer inserted: SELECT id::bigint FROM app.source_side', 'a list of columns is kept to');
UPDATE roneo.replica SET wanted_columns = NULL;
UPDATE roneo.plain_replica SET columns = '{id,"Odd %s",n}';
UPDATE roneo.source SET source_encoding = 'LATIN1';
SELECT alike(pg_temp.copy_in('runner'), '%(FORMAT text, FREEZE true, ENCODING ''LATIN1'') of %', 'bytes of another encoding travel as text');
UPDATE roneo.source SET source_encoding = NULL;
ALTER TABLE app.source_side ADD COLUMN added int;
SELECT is((pg_temp.statements('runner'))[3], (pg_temp.parts('read'))[1], 'a column that only the source has is left there');
ALTER TABLE app.dest ADD COLUMN added bigint;
SELECT alike((pg_temp.statements('runner'))[3], '%, added::bigint FROM app.source_side', 'until the destination has it too');
ALTER TABLE app.source_side RENAME COLUMN n TO m;
SELECT throws_ok($$ SELECT pg_temp.statements('sql') $$, 'RO015', NULL, 'a column that was copied is not filled with NULL');
ALTER TABLE app.dest RENAME COLUMN n TO m;
SELECT alike((pg_temp.statements('runner'))[3], '%, m::smallint, added::bigint FROM app.source_side', 'a rename on both sides is followed');

-- Tables that reference it.
CREATE UNIQUE INDEX ON app.dest (id);
CREATE TABLE app.referring (id bigint UNIQUE REFERENCES app.dest (id));
CREATE TABLE app.indirect (id bigint REFERENCES app.referring (id));
SELECT throws_ok(format('SELECT pg_temp.statements(%L)', hand), 'RO017', NULL, format('what others reference is not emptied (%s)', hand))
FROM unnest('{sql,runner}'::text[]) AS hand;
UPDATE roneo.plain_replica SET truncate_cascade = true;
SELECT is((pg_temp.statements(hand))[1:2], ARRAY['1 dest patiently LOCK TABLE ONLY app.dest IN ACCESS EXCLUSIVE MODE', '1 dest TRUNCATE TABLE app.dest CASCADE'],
    format('unless they may be emptied too (%s)', hand)) FROM unnest('{sql,runner}'::text[]) AS hand;
SELECT alike(string_agg(purpose, ' '), '%app.referring, app.indirect%', 'and then they are named') FROM roneo.replica AS r, roneo.plan_refresh(jsonb_build_array(jsonb_build_object(
    'replica_id', r.replica_id, 'hand', 'sql', 'inside', jsonb_build_object('relation', roneo.local_relation('app.source_side')))));
UPDATE roneo.plain_replica SET truncate_cascade = false;

-- A partitioned destination.
DELETE FROM roneo.replica;
INSERT INTO roneo.replica (source_id, source_schema, source_table, source_kind, source_lockable, dest, dest_schema, dest_name, method, filter_path)
SELECT source_id, 'app', 'source_side', 'r', true, 'app.parted', 'app', 'parted', 'plain', 'public' FROM roneo.source;
INSERT INTO roneo.plain_replica (replica_id, columns) SELECT replica_id, '{id}' FROM roneo.replica;
SELECT is((pg_temp.statements('runner'))[1:3], ARRAY['1 dest patiently LOCK TABLE app.parted IN ACCESS EXCLUSIVE MODE', '1 dest TRUNCATE TABLE app.parted',
    '2 transfer inserted: SELECT id::bigint FROM app.source_side'], 'a partitioned table is emptied with its leaves');
SELECT is((pg_temp.statements('sql'))[2], '1 dest deleted: DELETE FROM app.parted', 'by both hands');
SELECT is(pg_temp.copy_in('runner'), 'COPY app.parted (id) FROM STDIN (FORMAT binary) of id bigint', 'and cannot be frozen');

SELECT * FROM finish();
ROLLBACK;
