-- A number far above all others, such as the highest that there is: the rows to come are below it, and somebody has to know.
SET client_min_messages = warning;
SELECT plan(17);

CREATE VIEW here AS SELECT r.dest_name, c.* FROM roneo.control_replica AS c JOIN roneo.replica AS r USING (replica_id);
CREATE FUNCTION protection(dest_name text) RETURNS text LANGUAGE sql RETURN (SELECT s.protection FROM roneo.status AS s WHERE s.dest = concat('public.', dest_name));
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT on_source($$
    CREATE TABLE drawn (id serial PRIMARY KEY, v int); INSERT INTO drawn (v) SELECT generate_series(1, 100);
    CREATE TABLE given (id int PRIMARY KEY, v int); INSERT INTO given SELECT g, g FROM generate_series(1, 100000) AS g;
    CREATE TABLE stepped (id serial PRIMARY KEY, v int); INSERT INTO stepped SELECT g, g FROM generate_series(1, 50000) AS g;
    CREATE VIEW seen AS SELECT id, v FROM given $$) \g /dev/null
SELECT roneo.create_updater('src', format('public.%s', t), control => 'id', key_columns => '{id}', boundary => '0') FROM unnest('{drawn,given,stepped,seen}'::text[]) AS t \g /dev/null
SELECT is(far_value, NULL, format('%s is in order', dest_name)) FROM here ORDER BY dest_name;
SELECT is(count(warning), 0::bigint, 'and there is no warning') FROM roneo.run;

SELECT on_source($$ INSERT INTO drawn VALUES (20000, 0); INSERT INTO given VALUES (2147483647, 0); INSERT INTO stepped VALUES (59000, 0) $$) \g /dev/null
SELECT is((roneo.refresh('drawn')).warning, '20000 is far above all other values of column id, and rows below it are found by a sweep only', 'a number that the sequence has not drawn');
SELECT is((roneo.refresh('given')).warning, '2147483647 is far above all other values of column id, and rows below it are found by a sweep only', 'the highest number that there is');
SELECT is((roneo.refresh('seen')).warning, '2147483647 is far above all other values of column id, and rows below it are found by a sweep only', 'a view shows it too');
SELECT is((roneo.refresh('stepped')).warning, NULL, 'what is not far is no reason');
SELECT matches(protection(t), '^(20000|2147483647) is far above all other values of id, .* correct it on the source, or set sweep_every', format('status says it of %s', t))
FROM unnest('{drawn,given,seen}'::text[]) AS t;

-- What is said is true: and so is the way out.
-- As if nothing else had been open: else late rows would be looked for in the whole table.
UPDATE roneo.control_replica SET open_since = '{}', window_start = (last_value::bigint - 10000)::text;
SELECT on_source($$ INSERT INTO given VALUES (100001, 1) $$) \g /dev/null
SELECT roneo.refresh('given') \g /dev/null
SELECT is((SELECT count(*) FROM given WHERE id = 100001), 0::bigint, 'a new row below is not seen');
SELECT is((roneo.refresh('given', sweep => true)).inserted, 1::bigint, 'a sweep finds it');
SELECT isnt(far_value, NULL, 'nothing has changed by that') FROM here WHERE dest_name = 'given';
SELECT on_source($$ DELETE FROM given WHERE id = 2147483647; INSERT INTO given VALUES (100002, 1) $$) \g /dev/null
SELECT is((roneo.refresh('given')).inserted, 1::bigint, 'when it is gone, new rows come');
SELECT is(protection('given'), 'late rows are known by their transaction', 'and nothing is said any more');
