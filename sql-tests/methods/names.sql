-- Names of every kind, of tables, schemas, columns and sources, on either side.
SET client_min_messages = warning;
SELECT no_plan();

\set main '"Main" ''%s'' \\ $$'
\set strange '%I "S.x" ''\\ %1$s'
SELECT on_source(format('CREATE SCHEMA %I; CREATE SCHEMA one; CREATE SCHEMA two', :'strange')) \g /dev/null
SELECT format('CREATE SCHEMA %I', s)
FROM unnest(ARRAY[:'strange', 'Other %s', 'one', 'two']) AS s \gexec
SELECT roneo.create_source(:'main', current_setting('test.source_conninfo')) \g /dev/null

CREATE TEMP TABLE odd (name text);
INSERT INTO odd VALUES
    ('Mixed Case'), ('select'), ('user'), ('a"b""c'), ('"'), ('it''s ''''quoted'), ('dot.in.name'),
    (' '), ('%I %s %1$s %L %%'), ('back\slash \'), ('$$ $1 $roneo$ $guard$'), ('semi; colon --x/*'), ('-'),
    (E'line\nbreak\ttab'), ('?:@{}[](),'), ('ctid2'), ('NULL'), ('Größe 日本 🐘'), ('1'), ('=>'),
    ('snap1'), ('x_snap1'), ('x_snap2'), ('x'),
    (concat(repeat('ü', 31), 'x')), (repeat('日', 21)), (repeat('"', 63)), (repeat('%', 63)),
    -- All that fits before _snap1 is the same.
    (concat(repeat('n', 57), 'first1')), (concat(repeat('n', 57), 'second')),
    (concat(repeat('é', 28), 'XxAAAAA')), (concat(repeat('é', 28), 'XxBBBBB'));
SELECT is(max(octet_length(name)), 63, 'names are as long as they can be') FROM odd;

-- A table whose column and index keys have its own name is made, registered, and read three times:
-- as it is, with one more row but no key, and without its other column, so that a view is built anew.
CREATE FUNCTION seen(dest regclass, expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE format('SELECT string_agg(%1$s, '' '' ORDER BY %1$s) FROM %2$s', expression, dest)
    INTO answer;
    RETURN answer;
END $$;
CREATE FUNCTION make_table(place text, name text) RETURNS text LANGUAGE sql
RETURN on_source(format($f$
    CREATE TABLE %1$I.%2$I (id int CONSTRAINT k PRIMARY KEY, %2$I text UNIQUE);
    CREATE INDEX %3$I ON %1$I.%2$I (lower(%2$I)) INCLUDE (id) WHERE %2$I > '';
    INSERT INTO %1$I.%2$I VALUES (1, 'a'), (2, 'no'), (3, 'b') $f$,
    place, name, concat('i', left(name, 14))));
CREATE FUNCTION snapshot_of(source text, place text, name text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    source_table text := format('%I.%I', place, name);
    dest regclass;
    seen text[];
BEGIN
    PERFORM make_table(place, name);
    dest := roneo.create_snapshot(source, source_table, filter => format('%I <> ''no'' -- !', name));
    seen := ARRAY[dest::text, seen(dest, format('concat(id, %I)', name))];
    PERFORM on_source(format('INSERT INTO %1$s VALUES (4, ''c'');
        ALTER TABLE %1$s DROP CONSTRAINT k, ALTER id DROP NOT NULL', source_table));
    PERFORM roneo.refresh(dest, raise_errors => true);
    seen := seen || seen(dest, format('concat(id, %I)', name));
    PERFORM on_source(format('ALTER TABLE %s DROP COLUMN id', source_table));
    PERFORM roneo.refresh(dest, raise_errors => true);
    PERFORM on_source(format('DROP TABLE %s', source_table));
    RETURN seen || seen(source_table::regclass, quote_ident(name));
END $$;
CREATE FUNCTION plain_of(source text, place text, name text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    source_table text := format('%I.%I', place, name);
    dest regclass;
    seen text[];
BEGIN
    PERFORM make_table(place, name);
    dest := roneo.create_plain(source, source_table, format('"Other %%s".%I', name),
        columns => ARRAY[name], filter => format('%I <> ''no'' -- !', name));
    seen := ARRAY[dest::text, seen(dest, quote_ident(name))];
    PERFORM on_source(format('INSERT INTO %s VALUES (4, ''c'')', source_table));
    PERFORM roneo.refresh(dest, raise_errors => true);
    PERFORM on_source(format('DROP TABLE %s', source_table));
    RETURN seen || seen(dest, quote_ident(name));
END $$;
-- Reported without what TAP would read as its own.
CREATE FUNCTION called(name text) RETURNS text LANGUAGE sql RETURN translate(name, E'\n\t#\\', '___/');

SELECT is(snapshot_of(:'main', :'strange', name),
    ARRAY[format('%I.%I', :'strange', name), '1a 3b', '1a 3b 4c', 'a b c'],
    format('a snapshot can be called %s', called(name)))
FROM odd;
SELECT is(count(DISTINCT t), 2 * (SELECT count(*) FROM odd), 'each has two tables of its own')
FROM roneo.snapshot_replica AS m, unnest(ARRAY[m.first_table, m.second_table]) AS t;
SELECT is_empty($$ SELECT r.dest_name
                   FROM roneo.replica AS r LEFT JOIN odd AS o ON o.name = r.dest_name
                   WHERE o.name IS NULL OR r.source_table <> o.name
                      OR r.dest <> format('%I.%I', r.dest_schema, r.dest_name)::regclass $$,
    'and is known by the name that it was given');
SELECT is(plain_of(:'main', :'strange', name), ARRAY[format('"Other %%s".%I', name), 'a b', 'a b c'],
    format('a plain replica can be called %s', called(name)))
FROM odd;
SELECT lives_ok($$ SELECT roneo.drop_replica(dest, keep_table => false) FROM roneo.replica $$,
    'all can be dropped');
SELECT is_empty(format('SELECT relname FROM pg_class WHERE relnamespace = %L::regnamespace', n),
    format('and leave nothing in schema %s', called(n)))
FROM (VALUES (quote_ident(:'strange')), ('"Other %s"')) AS v (n);

-- One name in two schemas, and one table under several names.
SELECT on_source($$
    CREATE TABLE one.orders AS SELECT 1 AS v;
    CREATE TABLE two.orders AS SELECT 2 AS v;
    CREATE TABLE public.orders AS SELECT 3 AS v;
$$) \g /dev/null
CREATE TEMP TABLE made AS
SELECT roneo.create_snapshot(:'main', 'one.orders')::text AS a,
       roneo.create_snapshot(:'main', 'two.orders')::text AS b,
       roneo.create_plain(:'main', 'orders')::text AS c,
       roneo.create_snapshot(:'main', 'orders', 'Unquoted')::text AS d,
       roneo.create_plain(:'main', 'TWO . Orders', ' one . "Orders" ')::text AS e,
       roneo.create_snapshot(:'main', '"one"."orders"', '"Other %s"."x.y"')::text AS f;
SELECT results_eq('SELECT * FROM made',
    $$ VALUES ('one.orders', 'two.orders', 'orders', 'unquoted', 'one."Orders"', '"Other %s"."x.y"') $$,
    'names are read as SQL reads them');
SELECT results_eq($$ SELECT * FROM one.orders, two.orders, public.orders, unquoted, one."Orders",
                                   "Other %s"."x.y" $$,
    'VALUES (1, 2, 3, 3, 2, 1)', 'tables of one name in several schemas are not mixed up');
SELECT on_source('UPDATE two.orders SET v = 4') \g /dev/null
SELECT roneo.refresh('one.orders'), roneo.refresh('two.orders'), roneo.refresh('orders') \g /dev/null
SELECT results_eq('SELECT * FROM one.orders, two.orders, orders', 'VALUES (1, 4, 3)',
    'nor when they are refreshed');
ALTER VIEW one.orders RENAME TO "Renamed";
ALTER VIEW one."Renamed" SET SCHEMA "Other %s";
SELECT on_source('ALTER TABLE one.orders ADD COLUMN w int; UPDATE one.orders SET w = 5') \g /dev/null
SELECT is((roneo.refresh('"Other %s"."Renamed"')).outcome, 'ok',
    'a view that was renamed and moved is still refreshed');
SELECT results_eq('SELECT * FROM "Other %s"."Renamed"', 'VALUES (1, 5)', 'under its new name');

-- Names that are none.
CREATE TEMP TABLE bad (kind text, name text);
INSERT INTO bad VALUES
    ('64 bytes', repeat('x', 64)), ('64 bytes in 32 letters', repeat('ü', 32)),
    ('a schema of 64 bytes', format('%s.t', repeat('x', 64))),
    ('64 quoted bytes', format('one."%s"', repeat('ü', 32))),
    ('three parts', 'db.one.orders'), ('nothing', ''), ('blanks', '  '), ('empty quotes', '""'),
    ('an empty part', 'one.""'),
    ('a dot at the end', 'one.'), ('a dot at the start', '.orders'), ('two words', 'one orders'),
    ('an open quote', '"orders'), ('more than a name', 'orders; DROP TABLE orders'), ('a digit first', '1orders');
SELECT throws_ok(format('SELECT roneo.create_snapshot(%L, %L)', :'main', name), 'RO006', NULL,
    format('%s: no source table', kind))
FROM bad;
SELECT throws_ok(format('SELECT roneo.create_plain(%L, %L, %L)', :'main', 'orders', name), 'RO006',
    NULL, format('%s: no dest', kind))
FROM bad;
SELECT throws_ok(format('SELECT roneo.create_plain(%L, NULL)', :'main'), 'RO006', NULL,
    'NULL is no name');
SELECT throws_ok(format('SELECT roneo.create_plain(%L, %L)', :'main', 'one."Orders"'), 'RO004', NULL,
    'capitals are another name');

-- Columns are named as they are stored.
SELECT on_source(format('CREATE TABLE one.wide (id int, %I int)', repeat('c', 63))) \g /dev/null
CREATE FUNCTION with_columns(columns text[]) RETURNS text LANGUAGE sql
RETURN format('SELECT roneo.create_snapshot(%L, ''one.wide'', columns => %L)',
    (SELECT source_name FROM roneo.source), columns);
SELECT throws_ok(with_columns(columns), 'RO007', NULL, format('no column is called by %s', kind))
FROM (VALUES ('64 bytes', ARRAY[repeat('c', 64)]), ('nothing', ARRAY['']), ('capitals', ARRAY['ID']),
             ('quotes', ARRAY['"id"']), ('NULL', ARRAY['id', NULL]), ('an expression', ARRAY['id + 1']),
             ('no name at all', '{}')) AS v (kind, columns);
SELECT lives_ok(with_columns(ARRAY[repeat('c', 63), 'id', 'id']), 'their order does not matter');
SELECT columns_are('one', 'wide', ARRAY['id', repeat('c', 63)], 'it is that of the source');

SELECT * FROM finish();
