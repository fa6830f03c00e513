-- Columns that change on the source: a snapshot follows, a plain replica copies what both have.
SELECT no_plan();

SELECT on_source('CREATE SCHEMA app');
CREATE SCHEMA app;
SELECT roneo.create_source('main', :'source_conninfo');

-- The columns of a table and all its rows, as text; the same on both sides.
CREATE FUNCTION public.picture(relation regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    shape text;
    rows  text;
BEGIN
    SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)
    INTO shape
    FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped;
    EXECUTE format('SELECT string_agg(r::text, '' '' ORDER BY r::text) FROM %s AS r', relation)
    INTO rows;
    RETURN format('%s: %s', shape, rows);
END $$;
SELECT on_source(pg_get_functiondef('public.picture(regclass)'::regprocedure));

CREATE TEMP TABLE change (
    number int GENERATED ALWAYS AS IDENTITY, what text, statements text, keeps_view boolean);
INSERT INTO change (what, statements, keeps_view) VALUES
    ('nothing', 'UPDATE t SET b = ''changed''', true),
    ('a column is added', 'ALTER TABLE t ADD e int; UPDATE t SET e = a', true),
    ('one with a default that rewrites nothing', 'ALTER TABLE t ADD e int DEFAULT 7 NOT NULL', true),
    ('a generated one', 'ALTER TABLE t ADD e int GENERATED ALWAYS AS (a * 2) STORED', true),
    ('an identity', 'ALTER TABLE t ADD e int GENERATED ALWAYS AS IDENTITY', true),
    ('several, one of an odd name',
     'ALTER TABLE t ADD "e %I" int, ADD f text DEFAULT ''f'', ADD g int[]', true),
    ('the last column goes', 'ALTER TABLE t DROP d', false),
    ('one in the middle goes', 'ALTER TABLE t DROP b', false),
    ('the key goes', 'ALTER TABLE t DROP a', false),
    ('all but one go', 'ALTER TABLE t DROP a, DROP b, DROP d', false),
    ('one goes and one comes', 'ALTER TABLE t DROP b, ADD e text DEFAULT ''e''', false),
    ('a column is renamed', 'ALTER TABLE t RENAME b TO "New %"', true),
    ('all are renamed',
     'ALTER TABLE t RENAME a TO w; ALTER TABLE t RENAME b TO x; ALTER TABLE t RENAME c TO y;
      ALTER TABLE t RENAME d TO z', true),
    ('renamed and added', 'ALTER TABLE t RENAME d TO z; ALTER TABLE t ADD e int DEFAULT 1', true),
    ('two of one type swap their names',
     'ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME c TO a; ALTER TABLE t RENAME x TO c', false),
    ('two of unlike types do',
     'ALTER TABLE t RENAME b TO x; ALTER TABLE t RENAME d TO b; ALTER TABLE t RENAME x TO d', false),
    ('three go round',
     'ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME c TO a; ALTER TABLE t RENAME d TO c;
      ALTER TABLE t RENAME x TO d', false),
    ('one takes the name of one that goes', 'ALTER TABLE t DROP a; ALTER TABLE t RENAME c TO a', false),
    ('a new one takes the name of one that is renamed',
     'ALTER TABLE t RENAME c TO e; ALTER TABLE t ADD c int DEFAULT -1', false),
    ('a column grows', 'ALTER TABLE t ALTER c TYPE bigint', false),
    ('changes its type', 'ALTER TABLE t ALTER c TYPE text USING concat(''c'', c)', false),
    ('its length', 'ALTER TABLE t ALTER d TYPE numeric(9,4)', false),
    ('its collation', 'ALTER TABLE t ALTER b TYPE text COLLATE "C"', false),
    ('columns change places',
     'ALTER TABLE t ADD e text; UPDATE t SET e = b; ALTER TABLE t DROP b;
      ALTER TABLE t RENAME e TO b', false),
    ('a column goes and comes back empty',
     'ALTER TABLE t DROP d; ALTER TABLE t ADD d numeric(6,2)', true),
    ('with another type', 'ALTER TABLE t DROP d; ALTER TABLE t ADD d text DEFAULT ''text''', false),
    ('the key is dropped', 'ALTER TABLE t DROP CONSTRAINT "t key"; ALTER TABLE t ALTER a DROP NOT NULL;
      INSERT INTO t VALUES (NULL, NULL, 0)', true),
    ('NULL becomes possible',
     'ALTER TABLE t ALTER c DROP NOT NULL; INSERT INTO t (a) VALUES (9)', true),
    ('or impossible', 'ALTER TABLE t ALTER b SET NOT NULL', true),
    ('the table is made again',
     'DROP TABLE t; CREATE TABLE t (a int, b text, c int NOT NULL, d numeric(6,2));
      INSERT INTO t VALUES (5, ''five'', 50, 5.5)', true),
    ('with its columns in another order',
     'DROP TABLE t; CREATE TABLE t (d numeric(6,2), c int, b text, a int);
      INSERT INTO t VALUES (1, 2, ''three'', 4)', false),
    ('with other columns',
     'DROP TABLE t; CREATE TABLE t (x text, c int[]); INSERT INTO t VALUES (''x'', ''{1}'')', false),
    ('with more columns',
     'DROP TABLE t; CREATE TABLE t (a int, b text, c int NOT NULL, d numeric(6,2), e int);
      INSERT INTO t VALUES (1, 2, 3, 4, 5)', true),
    ('a view takes its place',
     'DROP TABLE t; CREATE VIEW t AS SELECT 1 AS a, text ''one'' AS b', false);

CREATE FUNCTION changed(number int, statements text) RETURNS void LANGUAGE sql
RETURN on_source(format('SET search_path = app; %s',
                        regexp_replace(statements, '\mt\M', format('t%s', number), 'g')));
CREATE FUNCTION same(number int) RETURNS text LANGUAGE sql
RETURN nullif(picture(format('app.t%s', number)::regclass),
              source_value(format('SELECT picture(%L)', format('app.t%s', number))));
SELECT changed(number, 'CREATE TABLE t (a int CONSTRAINT "t key" PRIMARY KEY, b text, c int NOT NULL, d numeric(6,2));
                        INSERT INTO t VALUES (1, ''one'', 10, 1.10), (2, ''two'', 20, 2.20)') FROM change;
SELECT roneo.create_snapshot('main', format('app.t%s', number), check_changes => false) FROM change;
CREATE TEMP TABLE first_view AS SELECT number, format('app.t%s', number)::regclass::oid AS view FROM change;
SELECT changed(number, statements) FROM change;

SELECT is((roneo.refresh(format('app.t%s', number)::regclass)).message, NULL,
    format('%s: a snapshot follows', what)) FROM change;
SELECT is(same(number), NULL,
    format('%s: it has the source''s columns, in their order, and its rows', what))
FROM change;
SELECT is(to_regclass(format('app.t%s', number))::oid = view, keeps_view,
    format('%s: the view is %s', what, CASE WHEN keeps_view THEN 'the same' ELSE 'another' END))
FROM change JOIN first_view USING (number);
-- The hidden table is of the first shape still, and comes to the third.
SELECT changed(number, 'ALTER TABLE t ADD again text DEFAULT ''again''; ALTER TABLE t DROP IF EXISTS c')
FROM change WHERE what !~ 'view';
SELECT is((roneo.refresh(format('app.t%s', number)::regclass)).message, NULL,
    format('%s: a second change is followed', what)) FROM change;
SELECT is(same(number), NULL, format('%s: completely', what)) FROM change;
SELECT is((roneo.refresh(format('app.t%s', number)::regclass)).message, NULL,
    format('%s: by the other table behind the view too', what)) FROM change;
SELECT is(same(number), NULL, format('%s: which has the same', what)) FROM change;
SELECT is(count(DISTINCT shape), 1::bigint, 'at last both tables behind a view are alike')
FROM roneo.snapshot_replica AS m, unnest(ARRAY[m.first_table, m.second_table]) AS t,
     split_part(picture(format('app.%I', t)::regclass), ':', 1) AS shape
GROUP BY m.replica_id;

-- A list of columns.
SELECT on_source($$ CREATE TABLE app.listed (a int, b text, c int); INSERT INTO app.listed VALUES (1, 'one', 10) $$);
SELECT roneo.create_snapshot('main', 'app.listed', columns => '{b,a}', check_changes => false),
       roneo.create_plain('main', 'app.listed', 'p_listed', columns => '{b,a}');
SELECT on_source($$ ALTER TABLE app.listed DROP c; ALTER TABLE app.listed ADD d int DEFAULT 1;
                    UPDATE app.listed SET a = 2 $$);
SELECT is((roneo.refresh(r::regclass)).outcome, 'ok',
    format('columns that are not in the list may come and go: %s', r))
FROM unnest('{app.listed,p_listed}'::text[]) AS r;
SELECT is(picture(r::regclass), 'a integer, b text: (2,one)', format('and are not copied: %s', r))
FROM unnest('{app.listed,p_listed}'::text[]) AS r;
SELECT on_source('ALTER TABLE app.listed RENAME b TO bb; UPDATE app.listed SET a = 3');
SELECT results_eq(format('SELECT outcome, sqlstate FROM roneo.refresh(%L)', r),
    $$ VALUES ('failed', 'RO015') $$,
    format('one that is in the list may not: %s', r)) FROM unnest('{app.listed,p_listed}'::text[]) AS r;
SELECT is(picture(r::regclass), 'a integer, b text: (2,one)', format('the copy stays as it is: %s', r))
FROM unnest('{app.listed,p_listed}'::text[]) AS r;
SELECT on_source('ALTER TABLE app.listed RENAME bb TO b');
SELECT is((roneo.refresh(r::regclass)).outcome, 'ok', format('until it is back: %s', r))
FROM unnest('{app.listed,p_listed}'::text[]) AS r;

-- Types that are not known here.
SELECT on_source($$
    CREATE TYPE app.mood AS ENUM ('sad', 'it''s "ok"');
    CREATE EXTENSION citext;
    CREATE TABLE app.typed (id int);
    INSERT INTO app.typed VALUES (1);
    CREATE TABLE app.moody (m app.mood[]);
    CREATE TABLE app.loose (c citext);
$$);
SELECT roneo.create_snapshot('main', 'app.typed', check_changes => false);
SELECT throws_ok(format('SELECT roneo.%I(''main'', ''app.%s'', ''new'')', method, source), 'RO015',
    NULL,
    format('a type that is unknown here: %s, %s', source, method))
FROM unnest('{moody,loose}'::text[]) AS source, unnest('{create_snapshot,create_plain}'::text[]) AS method;
SELECT hasnt_relation('new', 'and nothing is made');
SELECT on_source($$ ALTER TABLE app.typed ADD m app.mood DEFAULT 'it''s "ok"' $$);
CREATE TEMP TABLE failed AS SELECT * FROM roneo.refresh('app.typed');
SELECT results_eq('SELECT outcome, sqlstate FROM failed', $$ VALUES ('failed', 'RO015') $$,
    'a new column of such a type is not copied');
SELECT is(picture('app.typed'), 'id integer: (1)', 'the copy stays as it is');
SELECT is(split_part(hint, ';', 1), $$CREATE TYPE app.mood AS ENUM ('sad', 'it''s "ok"')$$,
    'the hint is how to make it')
FROM failed;
SELECT hint FROM failed \gexec
SELECT is((roneo.refresh('app.typed')).outcome, 'ok', 'and that is all that is needed');
SELECT is(picture('app.typed'), $$id integer, m app.mood: (1,"it's ""ok""")$$, 'to copy it');

-- A plain replica: its table is its owner's to change.
SELECT on_source($$ CREATE TABLE app.plain (a int, b text, c int); INSERT INTO app.plain VALUES (1, 'one', 10) $$);
SELECT roneo.create_plain('main', 'app.plain', 'plain');
SELECT on_source($$ ALTER TABLE app.plain ADD d int DEFAULT 4 $$);
SELECT is((roneo.refresh('plain')).outcome, 'ok',
    'a new column of the source does not matter to a plain replica');
SELECT is(picture('plain'), 'a integer, b text, c integer: (1,one,10)', 'which has no place for it');
ALTER TABLE plain ADD d bigint, ADD own text DEFAULT 'own';
SELECT is((roneo.refresh('plain')).outcome, 'ok', 'when it was added here too');
SELECT is(picture('plain'), 'a integer, b text, c integer, d bigint, own text: (1,one,10,4,own)',
    'it is copied');
SELECT on_source($$ ALTER TABLE app.plain DROP d; UPDATE app.plain SET a = 2 $$);
SELECT is((roneo.refresh('plain')).sqlstate, 'RO015', 'when the source loses it that is an error');
SELECT is(picture('plain'), 'a integer, b text, c integer, d bigint, own text: (1,one,10,4,own)',
    'and not a column of NULLs');
ALTER TABLE plain RENAME d TO former;
SELECT is((roneo.refresh('plain')).outcome, 'ok', 'until it is not a copy of that column any more');
SELECT on_source('ALTER TABLE app.plain RENAME c TO cc; ALTER TABLE app.plain ADD c int DEFAULT 0');
SELECT is((roneo.refresh('plain')).outcome, 'ok', 'columns are matched by name');
SELECT is(picture('plain'), 'a integer, b text, c integer, former bigint, own text: (2,one,0,,own)',
    'as they are at each refresh');
ALTER TABLE plain ALTER b TYPE int USING 0;
SELECT is((roneo.refresh('plain')).sqlstate, '22P02',
    'a value that does not fit is the server''s error');
SELECT is(picture('plain'), 'a integer, b integer, c integer, former bigint, own text: (2,0,0,,own)',
    'and changes nothing');

SELECT * FROM finish();
