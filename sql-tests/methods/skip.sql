-- When a snapshot may leave out a copy because its source is unchanged, and what makes it copy.
SET client_min_messages = warning;
SELECT plan(84);

-- Before PostgreSQL 15 counters reach those who read them some hundred milliseconds late.
CREATE FUNCTION change(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM on_source(statement);
    IF source_value('SHOW server_version_num')::integer < 150000 THEN
        PERFORM pg_sleep(1.5);
    END IF;
END;
$$;
CREATE FUNCTION outcome(dest regclass, force boolean DEFAULT false) RETURNS text LANGUAGE sql
RETURN (roneo.refresh(dest, raise_errors => true, force => force)).outcome;
CREATE FUNCTION rows_of(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN source_value(replace(
        format('SELECT string_agg(t::text, '' '' ORDER BY t::text) FROM %s AS t', dest), '"', ''));
END;
$$;
CREATE FUNCTION shown_rows(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT string_agg(t::text, '' '' ORDER BY t::text) FROM %s AS t', dest) INTO found;
    RETURN found;
END;
$$;
-- A statement on the source, what the next two refreshes do, and whether the copy is right.
CREATE FUNCTION is_copied(dest regclass, statement text, what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM change(statement);
    RETURN NEXT is(outcome(dest), 'ok', concat(what, ': copied'));
    RETURN NEXT is(shown_rows(dest), rows_of(dest), concat(what, ': the copy is like the source'));
    RETURN NEXT is(outcome(dest), 'unchanged', concat(what, ': and only once'));
END;
$$;

SELECT change($$
    CREATE TABLE events (id int PRIMARY KEY, v text);
    INSERT INTO events SELECT i, 'a' FROM generate_series(1, 5) AS i;
    CREATE TABLE measured (id int, day int) PARTITION BY RANGE (day);
    CREATE TABLE measured_1 PARTITION OF measured FOR VALUES FROM (1) TO (2);
    CREATE TABLE measured_2 (id int, day int);
    INSERT INTO measured VALUES (1, 1), (2, 1);
    INSERT INTO measured_2 VALUES (3, 2);
    CREATE TABLE parent (id int);
    CREATE TABLE child () INHERITS (parent);
    INSERT INTO child VALUES (1);
    CREATE VIEW seen AS SELECT id FROM events;
    CREATE MATERIALIZED VIEW kept AS SELECT id FROM events;
    CREATE EXTENSION postgres_fdw;
    CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw;
    CREATE USER MAPPING FOR postgres SERVER itself;
    CREATE FOREIGN TABLE afar (id int) SERVER itself OPTIONS (table_name 'events');
$$) \g /dev/null
SELECT on_source(format('ALTER SERVER itself OPTIONS (host %L, port %L, dbname %L)', :'socket', :'port', :'source_db')) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT roneo.create_snapshot('src', t) FROM unnest(ARRAY['public.events', 'measured', 'parent', 'seen', 'kept', 'afar']) AS t
\g /dev/null

-- Ordinary tables.
SELECT is(outcome('events'), 'unchanged', 'a source without changes is not copied again');
SELECT is(rows_sent, NULL, 'nor read') FROM roneo.run WHERE dest = 'public.events' AND outcome = 'unchanged';
SELECT is_empty($$ SELECT * FROM roneo.plan('events') $$, 'a dry run says so by an empty plan');
SELECT is_copied('events', $$ INSERT INTO events VALUES (6, 'new') $$, 'INSERT');
SELECT is_copied('events', $$ UPDATE events SET v = 'b' WHERE id = 1 $$, 'UPDATE');
SELECT is_copied('events', $$ DELETE FROM events WHERE id = 2 $$, 'DELETE');
SELECT is_copied('events', $$ DELETE FROM events WHERE id = 3; INSERT INTO events VALUES (7, 'a') $$,
    'DELETE and INSERT of as many rows');
SELECT is_copied('events', $$ TRUNCATE events $$, 'TRUNCATE, which counts no row');
SELECT is_copied('events', $$ INSERT INTO events VALUES (1, 'x'), (2, 'y') $$, 'rows in an emptied table');
SELECT is_copied('events', $$ ALTER TABLE events ALTER v TYPE text USING upper(v) $$, 'ALTER TABLE that rewrites');
SELECT is_copied('events', $$ VACUUM FULL events $$, 'VACUUM FULL, which may as well be a rewrite');
SELECT is_copied('events', $$ DO 'BEGIN PERFORM pg_stat_reset(); END' $$, 'a reset of all statistics');
SELECT is_copied('events', $$ DO $do$ BEGIN PERFORM pg_stat_reset_single_table_counters('events'::regclass); END $do$;
    UPDATE events SET v = 'z' WHERE id = 1 $$, 'a reset of the table''s counters, and a change as large as before');
SELECT is_copied('events', $$ ALTER TABLE events ADD COLUMN extra int DEFAULT 5 $$, 'a new column without a rewrite');

-- A writer that stays connected reports late; by then the next refresh copies.
SELECT dblink_connect('writer', :'source_conninfo') \g /dev/null
SELECT dblink_exec('writer', $$ UPDATE events SET v = 'first' WHERE id = 1 $$) \g /dev/null
SELECT dblink_exec('writer', $$ UPDATE events SET v = 'second' WHERE id = 1 $$) \g /dev/null
SELECT outcome('events') \g /dev/null
SELECT dblink_exec('writer', $$ UPDATE events SET v = 'third' WHERE id = 1 $$) \g /dev/null
SELECT dblink_disconnect('writer') \g /dev/null
-- A server process reports when it ends, and that is after its client has left.
CREATE PROCEDURE await(query text) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 400 LOOP
        EXIT WHEN source_value(query)::boolean;
        PERFORM pg_sleep(0.05);
    END LOOP;
END;
$$;
CALL await($$ SELECT n_tup_upd >= 4 FROM pg_stat_user_tables WHERE relname = 'events' $$);
SELECT outcome('events') \g /dev/null
SELECT is(shown_rows('events'), rows_of('events'), 'changes that were counted late are copied');

-- What the user asks for.
SELECT is(outcome('events'), 'unchanged', 'the source is unchanged now');
SELECT is(outcome('events', force => true), 'ok', 'force copies all the same');
UPDATE roneo.snapshot_replica SET loaded_at = loaded_at - interval '2 days' WHERE first_table = 'events_snap1';
SELECT is(outcome('events'), 'ok', 'a copy older than max_skip_age is made again');
SELECT roneo.create_snapshot('src', 'events', 'always', check_changes => false),
       roneo.create_snapshot('src', 'events', 'young', max_skip_age => '0'),
       roneo.create_snapshot('src', 'events', 'later', copy_data => false) \g /dev/null
SELECT is(outcome('always'), 'ok', 'check_changes => false copies always');
SELECT is(outcome('young'), 'ok', 'and so does a max_skip_age of nothing');
SELECT is(outcome('later'), 'ok', 'what has never been copied is copied');
SELECT is(outcome('later'), 'unchanged', 'and then no more');

-- A filter may mean something else each day, or look at other tables.
SELECT roneo.create_snapshot('src', 'events', 'chosen', filter => $$ id IN (SELECT id FROM parent) $$) \g /dev/null
SELECT change($$ INSERT INTO parent VALUES (2) $$) \g /dev/null
SELECT outcome('chosen') \g /dev/null
SELECT results_eq('SELECT id FROM chosen ORDER BY id', 'VALUES (1), (2)',
    'what the filter finds elsewhere is looked at again');

-- Counters that nobody keeps.
SELECT change(format('ALTER DATABASE %I SET track_counts = off', :'source_db')) \g /dev/null
SELECT change($$ UPDATE events SET v = 'uncounted' WHERE id = 1 $$) \g /dev/null
SELECT is(outcome('events'), 'ok', 'without track_counts every refresh copies');
SELECT is(outcome('events'), 'ok', 'each time');
SELECT is(shown_rows('events'), rows_of('events'), 'so an uncounted change arrives');
SELECT change(format('ALTER DATABASE %I RESET track_counts', :'source_db')) \g /dev/null
SELECT is_copied('events', $$ DO 'BEGIN END' $$, 'once it is on again');

SELECT on_source(format('ALTER ROLE reader IN DATABASE %I SET track_counts = 0', :'source_db')) \g /dev/null
SELECT is(outcome('events'), 'ok', 'where one role''s changes are not counted, every refresh copies');
SELECT is(outcome('events'), 'ok', 'each time');
SELECT on_source(format('ALTER ROLE reader IN DATABASE %I RESET ALL', :'source_db')) \g /dev/null

-- A filter that was changed by hand.
SELECT roneo.create_snapshot('src', 'events', 'steady', filter => 'id = 1') \g /dev/null
SELECT is(outcome('steady'), 'unchanged', 'a filter on columns alone is no reason to copy');
UPDATE roneo.replica SET filter = 'id = 2' WHERE dest = 'steady'::regclass;
SELECT is(outcome('steady'), 'ok', 'another filter is');
SELECT results_eq('SELECT id FROM steady', 'VALUES (2)', 'and finds other rows');

-- Partitions and children.
SELECT outcome('measured') \g /dev/null
SELECT is(outcome('measured'), 'unchanged', 'a partitioned table can be unchanged too');
SELECT is_copied('measured', $$ INSERT INTO measured_1 VALUES (4, 1) $$, 'a row in a leaf');
SELECT is_copied('measured', $$ UPDATE measured SET id = 5 WHERE id = 4 $$, 'an update through the root');
SELECT is_copied('measured', $$ TRUNCATE measured_1 $$, 'TRUNCATE of a leaf');
SELECT is_copied('measured', $$ ALTER TABLE measured ATTACH PARTITION measured_2 FOR VALUES FROM (2) TO (3) $$,
    'ATTACH of rows that were committed earlier');
SELECT is_copied('measured', $$ ALTER TABLE measured DETACH PARTITION measured_2 $$, 'DETACH');
SELECT outcome('parent') \g /dev/null
SELECT is_copied('parent', $$ UPDATE child SET id = 7 $$, 'a change in an inheritance child');

-- What has no counters.
SELECT is(outcome(d), 'ok', format('%s is copied always', d))
FROM unnest(ARRAY['seen', 'kept', 'afar']::regclass[]) AS d;
SELECT is(outcome('afar'), 'ok', 'each time');
SELECT is(shown_rows(d), source_value('SELECT string_agg(format(''(%s)'', id), '' '' ORDER BY id) FROM events'), format('%s is like its source', d))
FROM unnest(ARRAY['seen', 'afar']::regclass[]) AS d;

-- A table of the same name and content is another one.
SELECT on_source($$ CREATE TABLE events_new (LIKE events INCLUDING ALL);
    INSERT INTO events_new SELECT * FROM events;
    DROP TABLE events CASCADE; ALTER TABLE events_new RENAME TO events $$) \g /dev/null
SELECT is(u.outcome || ': ' || u.warning,
    'ok: source table public.events has been dropped and made again since the last refresh',
    'a table that was dropped and made again is copied, with a warning')
FROM roneo.refresh('events', raise_errors => true) AS u;
SELECT is(u.outcome, 'unchanged', 'and is known from then on') FROM roneo.refresh('events') AS u;
SELECT is(u.warning, NULL, 'without a warning') FROM roneo.refresh('events', force => true) AS u;
