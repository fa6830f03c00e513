-- What becomes of a source's tables, told from looks at its counters, files and rows.
SET client_min_messages = warning;
SELECT plan(1);

SELECT on_source($$
    CREATE SCHEMA app;
    CREATE TABLE app.still (id int PRIMARY KEY, v text);
    CREATE TABLE app.empty (id int PRIMARY KEY);
    CREATE TABLE app.log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), v text);
    CREATE TABLE app.late (at timestamptz PRIMARY KEY);
    CREATE TABLE app.edited (id int PRIMARY KEY, v text);
    CREATE TABLE app.shrunk (id int PRIMARY KEY, v text);
    CREATE TABLE app.emptied (id int PRIMARY KEY, v text);
    CREATE TABLE app.reloaded (id int PRIMARY KEY, v text);
    CREATE TABLE app.packed (id int PRIMARY KEY, v text);
    CREATE TABLE app.retyped (id int PRIMARY KEY, v text);
    CREATE TABLE app.widened (id int PRIMARY KEY, v text);
    CREATE TABLE app.days (day int, id int, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
    CREATE TABLE app.days_1 PARTITION OF app.days FOR VALUES FROM (1) TO (2);
    CREATE TABLE app.days_2 PARTITION OF app.days FOR VALUES FROM (2) TO (3);
    CREATE TABLE app.dropped (id int);
    INSERT INTO app.still SELECT n, n FROM generate_series(1, 100) AS n;
    INSERT INTO app.log (v) SELECT n FROM generate_series(1, 100) AS n;
    INSERT INTO app.late SELECT now() - n * interval '1 min' FROM generate_series(1, 100) AS n;
    INSERT INTO app.edited TABLE app.still; INSERT INTO app.shrunk TABLE app.still; INSERT INTO app.emptied TABLE app.still;
    INSERT INTO app.reloaded TABLE app.still; INSERT INTO app.packed TABLE app.still; INSERT INTO app.retyped TABLE app.still;
    INSERT INTO app.widened TABLE app.still; INSERT INTO app.days SELECT 1 + n % 2, n FROM generate_series(1, 100) AS n;
$$) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
CREATE FUNCTION seen(of_table text, by_partition boolean DEFAULT false) RETURNS text LANGUAGE sql
RETURN (SELECT concat_ws(' ', c.verdict, CASE WHEN NOT c.proven THEN '?' END, 'by ' || c.grows_by, CASE WHEN NOT c.grows_by_proven THEN '?' END,
                         format('+%s ~%s -%s', c.inserted, c.updated, c.deleted), nullif(format('(%s)', c.remarks), '()'))
        FROM roneo.changes('src', by_partition => by_partition) AS c WHERE c.source_table = of_table);

SELECT roneo.observe('src') \g /dev/null
SELECT on_source($$ INSERT INTO app.log (v) SELECT n FROM generate_series(1, 50) AS n;
    INSERT INTO app.late VALUES (now() - interval '30 s'), (now() - interval '1 day'); UPDATE app.edited SET v = 'new' WHERE id < 10; DELETE FROM app.shrunk WHERE id < 10;
    ALTER TABLE app.widened ADD w int DEFAULT 7; INSERT INTO app.days VALUES (2, 1000); DROP TABLE app.dropped; CREATE TABLE app.young (id int PRIMARY KEY) $$) \g /dev/null
SELECT on_source('TRUNCATE app.emptied') \g /dev/null
SELECT on_source('TRUNCATE app.reloaded; INSERT INTO app.reloaded TABLE app.still') \g /dev/null
SELECT on_source('VACUUM FULL app.packed') \g /dev/null
SELECT on_source('ALTER TABLE app.retyped ALTER v TYPE int USING v::int') \g /dev/null
SELECT roneo.observe('src') \g /dev/null
SELECT source_table, part_of, seen(source_table) FROM roneo.changes('src') \g (format=aligned) | sed 's/^/# /'
SELECT * FROM roneo.observed_state;
SELECT source_table, part_of, seen(source_table, true) FROM roneo.changes('src', by_partition => true) \g (format=aligned) | sed 's/^/# /'

SELECT pass('x');
SELECT * FROM finish();
