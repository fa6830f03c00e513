-- Alone in the cluster: others' transactions would hold rows back.
-- An updater: keys, what is written and what is left alone, views, rights.
SET client_min_messages = warning;
SELECT plan(58);

CREATE FUNCTION shown(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT string_agg(t::text, '' '' ORDER BY t::text) FROM %s AS t', dest) INTO found;
    RETURN found;
END;
$$;
CREATE FUNCTION there(source_table text) RETURNS text LANGUAGE sql
RETURN source_value(format('SELECT string_agg(t::text, '' '' ORDER BY t::text) FROM %s AS t', source_table));
CREATE FUNCTION outcome(dest regclass) RETURNS text LANGUAGE sql RETURN (roneo.refresh(dest)).outcome;
CREATE VIEW here AS SELECT r.dest_name, c.* FROM roneo.control_replica AS c JOIN roneo.replica AS r USING (replica_id);
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null

-- Insert, update, leave.
SELECT on_source($$ CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz DEFAULT clock_timestamp());
    INSERT INTO t SELECT g, 'a' FROM generate_series(1, 5) AS g $$) \g /dev/null
SELECT roneo.create_updater('src', 'public.t', control => 'at') \g /dev/null
SELECT is(shown('t'), there('t'), 'the rows that are there');
SELECT outcome('t') \g /dev/null
SELECT is(outcome('t'), 'unchanged', 'nothing new, nothing to do');
CREATE TEMP TABLE place AS SELECT id, ctid::text AS at FROM t;
SELECT on_source($$ UPDATE t SET v = 'b', at = clock_timestamp() WHERE id = 2; INSERT INTO t VALUES (6, 'c'); UPDATE t SET at = at WHERE id = 3 $$) \g /dev/null
SELECT row_eq($$ SELECT outcome, inserted, updated, unchanged, rows_sent FROM roneo.refresh('t') $$,
    ROW('ok'::text, 1::bigint, 1::bigint, 1::bigint, 3::bigint), 'a new row, an updated one, and one that only has a new transaction');
SELECT is(shown('t'), there('t'), 'are there');
SELECT is((SELECT array_agg(p.id ORDER BY p.id) FROM place AS p JOIN t ON t.id = p.id AND t.ctid::text = p.at), '{1,3,4,5}', 'rows that are the same are not written');
SELECT on_source('UPDATE t SET id = 60, at = clock_timestamp() WHERE id = 6') \g /dev/null
SELECT outcome('t') \g /dev/null
SELECT is((SELECT array_agg(id ORDER BY id) FROM t), '{1,2,3,4,5,6,60}', 'a key that changed is a new row; the old one stays, as after a deletion');
SELECT is((SELECT count(*) FROM roneo.run WHERE dest = 'public.t' AND rows_sent <> inserted + updated + unchanged), 0::bigint, 'every row is accounted for');

-- Images are compared, not values.
CREATE EXTENSION citext;
SELECT on_source($$ CREATE EXTENSION citext; CREATE TABLE images (id int PRIMARY KEY, n numeric, c citext, j json, p point, i interval, f float8, at int);
    INSERT INTO images VALUES (1, 1.0, 'Foo', '{"a":1}', '(1,1)', '1 mon', 0, 1), (2, 1.0, 'Foo', '{"a":1}', '(1,1)', '1 mon', 0, 1), (3, NULL, NULL, NULL, NULL, NULL, NULL, 1) $$) \g /dev/null
SELECT roneo.create_updater('src', 'public.images', control => 'at') \g /dev/null
SELECT on_source($$ UPDATE images SET (n, c, j, p, i, f, at) = (1.00, 'FOO', '{"a": 1}', '(1,1.0000001)', '30 days', '-0', 2) WHERE id = 1; UPDATE images SET at = 1 $$) \g /dev/null
SELECT row_eq($$ SELECT updated, unchanged FROM roneo.refresh('images') $$, ROW(1::bigint, 2::bigint), 'a value that only looks another way is another one');
SELECT is(shown('images'), there('images'), 'and is copied');

-- Which key.
SELECT on_source($$ CREATE TABLE k1 (a int NOT NULL, "B c" text NOT NULL, x int, UNIQUE (x), PRIMARY KEY ("B c", a));
    CREATE TABLE k2 (a int NOT NULL, b int NOT NULL, c int NOT NULL, d int, e int NOT NULL);
    CREATE UNIQUE INDEX k2_x ON k2 (a, b); CREATE UNIQUE INDEX k2_z ON k2 (c); CREATE UNIQUE INDEX k2_y ON k2 (b);
    CREATE UNIQUE INDEX k2_d ON k2 (d); CREATE UNIQUE INDEX k2_p ON k2 (e) WHERE a > 0; CREATE UNIQUE INDEX k2_e ON k2 (abs(e));
    CREATE TABLE k3 (a int, b int NOT NULL, UNIQUE (a)); CREATE UNIQUE INDEX ON k3 (b) WHERE a > 0; CREATE UNIQUE INDEX ON k3 (abs(b));
    INSERT INTO k1 VALUES (1, 'x', 1), (1, 'y', 2); INSERT INTO k2 VALUES (1, 1, 1, 1, 1); INSERT INTO k3 VALUES (1, 1) $$) \g /dev/null
SELECT roneo.create_updater('src', 'public.k1', control => 'x') \g /dev/null
SELECT is(key_columns, '{"B c",a}'::name[], 'the primary key') FROM here WHERE dest_name = 'k1';
SELECT roneo.create_updater('src', 'public.k2', control => 'a') \g /dev/null
SELECT is(key_columns, '{b}'::name[], 'else the unique index with the fewest columns, by name, and no NULLs, condition or expression') FROM here WHERE dest_name = 'k2';
SELECT throws_ok($$ SELECT roneo.create_updater('src', 'public.k3', control => 'b') $$, 'RO007', 'source table public.k3 has no key', 'what can be NULL, is partial or an expression is no key');
SELECT throws_ok(format('SELECT roneo.create_updater(''src'', ''public.k3'', control => ''b'', key_columns => %s)', k), 'RO007', NULL, format('refused as a key: %s', k))
FROM unnest(ARRAY['''{a}''', '''{nothing}''', '''{}''', '''{b,b}''', '''{NULL}''']) AS k;
SELECT throws_ok($$ SELECT roneo.create_updater('src', 'public.k2', dest => 'k2b', control => 'a', key_columns => '{c}', columns => '{a,b}') $$, 'RO007', NULL, 'a key that is not copied is refused');
CREATE TABLE swapped ("B c" text, a int, x int);
CREATE UNIQUE INDEX ON swapped (a, "B c") INCLUDE (x);
SELECT roneo.create_updater('src', 'public.k1', dest => 'swapped', control => 'x') \g /dev/null
SELECT is((SELECT count(*) FROM swapped), 2::bigint, 'an index with the columns in another order serves');
SELECT on_source($$ UPDATE k1 SET x = 10 WHERE "B c" = 'y' $$) \g /dev/null
SELECT is((roneo.refresh('swapped')).updated, 1::bigint, 'also later');
CREATE TABLE late_key (a int, "B c" text, x int, UNIQUE (a, "B c") DEFERRABLE);
SELECT throws_ok($$ SELECT roneo.create_updater('src', 'public.k1', dest => 'late_key', control => 'x') $$, 'RO007', NULL, 'a deferrable constraint cannot serve');
CREATE TABLE part_key (a int, "B c" text, x int);
CREATE UNIQUE INDEX ON part_key (a, "B c") WHERE x > 0;
SELECT throws_ok($$ SELECT roneo.create_updater('src', 'public.k1', dest => 'part_key', control => 'x') $$, 'RO007', NULL, 'nor a partial index');
SELECT roneo.create_updater('src', 'public.k1', dest => 'bare', control => 'x', with_indexes => false) \g /dev/null
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'bare'::regclass AND indisunique), 1::bigint, 'a table made without indexes has that of the key');

-- A destination with ideas of its own.
SELECT on_source($$ CREATE TABLE ideas (id int PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n * 2) STORED, at int); INSERT INTO ideas (id, n, at) VALUES (1, 1, 1), (2, 2, 2) $$) \g /dev/null
CREATE TABLE ideas (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n bigint, g int GENERATED ALWAYS AS (id * 100) STORED, at numeric, noted text DEFAULT 'mine');
SELECT roneo.create_updater('src', 'public.ideas', control => 'at') \g /dev/null
SELECT is(shown('ideas'), '(1,1,100,1,mine) (2,2,200,2,mine)', 'identity columns are written, generated ones are not');
UPDATE ideas SET noted = 'yours';
SELECT on_source('UPDATE ideas SET n = 7, at = 3 WHERE id = 1') \g /dev/null
SELECT is(outcome('ideas'), 'ok', 'an update');
SELECT is(shown('ideas'), '(1,7,100,3,yours) (2,2,200,2,yours)', 'leaves columns that the source does not have');
CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.noted := concat(TG_OP, NEW.n); RETURN NEW; END $$;
CREATE TRIGGER loud BEFORE INSERT OR UPDATE ON ideas FOR EACH ROW EXECUTE FUNCTION loud();
SELECT on_source('UPDATE ideas SET n = 8, at = 4 WHERE id = 1; INSERT INTO ideas (id, n, at) VALUES (3, 3, 4)') \g /dev/null
SELECT row_eq($$ SELECT inserted, updated FROM roneo.refresh('ideas') $$, ROW(1::bigint, 1::bigint), 'triggers are no hindrance');
SELECT is((SELECT string_agg(noted, ' ' ORDER BY id) FROM ideas), 'UPDATE8 yours INSERT3', 'and fire');
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER swallow BEFORE INSERT ON ideas FOR EACH ROW EXECUTE FUNCTION swallow();
SELECT on_source('INSERT INTO ideas (id, n, at) VALUES (4, 4, 5)') \g /dev/null
SELECT is((roneo.refresh('ideas')).sqlstate, 'RO014', 'a trigger that swallows rows is found out');
DROP TRIGGER swallow ON ideas;
SELECT is((roneo.refresh('ideas')).inserted, 1::bigint, 'and the position has not moved');
CREATE TABLE spread (id int PRIMARY KEY, v text, at timestamptz) PARTITION BY RANGE (id);
CREATE TABLE spread1 PARTITION OF spread DEFAULT;
SELECT roneo.create_updater('src', 'public.t', dest => 'spread', control => 'at') \g /dev/null
SELECT on_source($$ UPDATE t SET v = 'z', at = clock_timestamp() WHERE id = 1 $$) \g /dev/null
SELECT is(outcome('spread'), 'ok', 'a partitioned destination');
SELECT is(shown('spread'), there('t'), 'is equal');

-- Views: only the boundary, and with a key the look_back again.
SELECT on_source($$ CREATE VIEW v AS SELECT id, v, at FROM t; CREATE VIEW dup AS SELECT id % 2 AS id, v, at FROM t WHERE id < 5;
    CREATE VIEW hole AS SELECT nullif(id, 2) AS id, v, at FROM t WHERE id < 3; UPDATE t SET at = now() - interval '1 hour' $$) \g /dev/null
SELECT throws_ok($$ SELECT roneo.create_updater('src', 'public.v', control => 'at') $$, 'RO007', NULL, 'a view has no key');
SELECT roneo.create_updater('src', 'public.v', control => 'at', key_columns => '{id}') \g /dev/null
SELECT row_eq($$ SELECT reads_xmin, boundary, look_back, key_is_unique FROM here WHERE dest_name = 'v' $$, ROW(false, '10 minutes'::text, '10 minutes'::text, false), 'one is given, and the boundary protects');
SELECT is(protection, 'late rows are found only within the boundary of 10 minutes and the look_back of 10 minutes', 'as the status says') FROM roneo.status WHERE dest = 'public.v';
SELECT is(shown('v'), there('v'), 'its rows are copied');
SELECT on_source($$ UPDATE t SET v = 'v2', at = now() - interval '1 hour 5 minutes' WHERE id = 1; UPDATE t SET v = 'v3', at = now() WHERE id = 2 $$) \g /dev/null
SELECT is((roneo.refresh('v')).updated, 1::bigint, 'within the look_back a change is found, within the boundary it waits');
SELECT is((SELECT string_agg(v, ' ' ORDER BY id) FROM v WHERE id < 3), 'v2 b', 'the one and not the other');
SELECT roneo.create_updater('src', 'public.dup', control => 'at', key_columns => '{id}', boundary => '-0') \g /dev/null
SELECT is((SELECT count(*) FROM dup), 2::bigint, 'of rows with one key the newest counts');
SELECT is((SELECT at FROM dup WHERE id = 0), (source_value('SELECT max(at) FROM dup WHERE id = 0'))::timestamptz, 'that is this one');
SELECT throws_ok($$ SELECT roneo.create_updater('src', 'public.hole', control => 'at', key_columns => '{id}', boundary => '0') $$, '23502', NULL,
    'a NULL in the key of a view is an error, not a row that comes again and again');
CREATE TABLE hole (id int UNIQUE, v text, at timestamptz);
SELECT throws_ok($$ SELECT roneo.create_updater('src', 'public.hole', control => 'at', key_columns => '{id}') $$, 'RO007', NULL, 'nor may an adopted table take one');
SELECT throws_ok($$ SELECT roneo.create_updater('src', 'public.v', dest => 'v2', control => 'at', key_columns => '{id}', sweep_every => '1 day') $$, 'RO007', NULL, 'a view cannot be swept');
SELECT throws_ok($$ SELECT roneo.create_updater('src', 'public.v', dest => 'v2', control => 'at', key_columns => '{id}', null_control => 'read') $$, 'RO007', NULL, 'nor its NULLs known');

-- Rights.
SELECT on_source($$ CREATE TABLE secret (id int PRIMARY KEY, v text, at timestamptz DEFAULT clock_timestamp(), hidden text); INSERT INTO secret VALUES (1, 'a', now() - interval '1 hour', 'x');
    CREATE TABLE half (LIKE secret INCLUDING ALL); INSERT INTO half TABLE secret; CREATE TABLE closed (LIKE secret INCLUDING ALL); CREATE TABLE open (LIKE secret INCLUDING ALL); INSERT INTO open TABLE secret;
    GRANT SELECT (id, v, at, xmin) ON secret TO reader; GRANT SELECT (id, v, at) ON half TO reader; GRANT SELECT ON open TO reader $$) \g /dev/null
SELECT roneo.create_source('low', replace(:'source_conninfo', 'user=postgres', ''), 'reader', 'reader secret') \g /dev/null
SELECT roneo.create_updater('low', 'public.open', control => 'at') \g /dev/null
SELECT is(reads_xmin, true, 'SELECT on the table is enough') FROM here WHERE dest_name = 'open';
SELECT roneo.create_updater('low', 'public.secret', columns => '{id,v,at}', control => 'at') \g /dev/null
SELECT is(reads_xmin, true, 'and so are columns, with xmin') FROM here WHERE dest_name = 'secret';
SELECT roneo.create_updater('low', 'public.half', columns => '{id,v,at}', control => 'at') \g /dev/null
SELECT row_eq($$ SELECT reads_xmin, boundary FROM here WHERE dest_name = 'half' $$, ROW(false, '10 minutes'::text), 'without xmin the boundary protects');
SELECT on_source(format($$ UPDATE %I SET v = 'b', at = now() - interval '1 minute' $$, t)) FROM unnest('{open,secret,half}'::text[]) AS t \g /dev/null
SELECT is((roneo.refresh(d)).updated, CASE d::text WHEN 'half' THEN 0 ELSE 1 END::bigint, format('%s is refreshed', d)) FROM unnest('{open,secret}'::regclass[]) AS d;
SELECT is((SELECT v FROM half), 'a', 'what lies within the boundary waits');
SELECT throws_ok($$ SELECT roneo.create_updater('low', 'public.closed', control => 'at') $$, 'RO009', NULL, 'a table that may not be read is refused');

-- Two at once.
SELECT format('host=%s port=%s dbname=%s user=postgres', :'socket', :'port', :'dest_db') AS dest_conninfo \gset
SELECT dblink_connect('second', :'dest_conninfo') \g /dev/null
SELECT on_source($$ INSERT INTO t VALUES (7, 'new') $$) \g /dev/null
SELECT dblink_exec('second', 'BEGIN') \g /dev/null
SELECT f.outcome FROM dblink('second', $$ SELECT (roneo.refresh('t')).outcome $$) AS f (outcome text) \gset
SELECT is(:'outcome'::text, 'ok', 'one of two runs refreshes');
SELECT row_eq($$ SELECT outcome, sqlstate FROM roneo.refresh('t') $$, ROW('deferred'::text, 'RO002'::text), 'the other one does not wait');
SELECT dblink_exec('second', 'COMMIT') \g /dev/null
SELECT is((roneo.refresh('t')).sqlstate, NULL, 'after it both are free');
SELECT is((SELECT count(*) FROM t WHERE id = 7), 1::bigint, 'and the row is there once');

-- Gone, and kept.
SELECT roneo.drop_replica('k1') \g /dev/null
SELECT isnt(to_regclass('k1'), NULL, 'drop_replica keeps the table');
SELECT roneo.drop_replica('k2', keep_table => false) \g /dev/null
SELECT is(to_regclass('k2'), NULL, 'unless told otherwise');
SELECT is((SELECT count(*) FROM here WHERE dest_name IN ('k1', 'k2')), 0::bigint, 'and nothing is known of them');
