-- Alone in the cluster: others' transactions would hold rows back.
-- Which of many replicas have nothing to do, as the counters of their source tell it to the program.
SET client_min_messages = warning;
SELECT plan(73);

SELECT on_source($$
    CREATE TABLE times (id int PRIMARY KEY, at timestamptz DEFAULT clock_timestamp()); INSERT INTO times VALUES (1), (2);
    CREATE TABLE numbers (id int); INSERT INTO numbers SELECT generate_series(1, 5);
    CREATE TABLE undated (id int PRIMARY KEY, at timestamp); INSERT INTO undated VALUES (1, now());
    CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
    INSERT INTO parts VALUES (1);
    CREATE TYPE mood AS ENUM ('good'); CREATE TABLE moods (id int PRIMARY KEY, mood mood);
    CREATE TABLE other (id int);
    CREATE VIEW seen AS SELECT * FROM numbers $$) \g /dev/null
CREATE TYPE mood AS ENUM ('good');
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
-- So long that nobody's own moment comes while this runs.
INSERT INTO roneo.setting VALUES ('exact_check_s', '99999999');
SELECT roneo.create_updater('src', 'public.times', control => 'at', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_inserter('src', 'public.numbers', control => 'id', append_only => true, refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_updater('src', 'public.undated', control => 'at', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_inserter('src', 'public.parts', control => 'id', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_snapshot('src', 'public.times', dest => 'snap', refresh_every => '1 ms') \g /dev/null
-- Those that are never told by counters.
SELECT roneo.create_inserter('src', 'public.seen', control => 'id', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_updater('src', 'public.times', dest => 'behind', control => 'at', boundary => '1 minute', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_inserter('src', 'public.numbers', dest => 'behind_numbers', control => 'id', append_only => true, boundary => '2', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_inserter('src', 'public.numbers', dest => 'not_said', control => 'id', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_updater('src', 'public.times', dest => 'by_clock', control => 'at', filter => 'at < now()', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_snapshot('src', 'public.times', dest => 'snap_by_clock', filter => 'at < now()', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_snapshot('src', 'public.times', dest => 'always', check_changes => false, refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_snapshot('src', 'public.moods', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_snapshot('src', 'public.seen', dest => 'snap_seen', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_plain('src', 'public.times', dest => 'plainly', refresh_every => '1 ms') \g /dev/null

-- A session that ends hands over what it has counted.
CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 1000 LOOP
        PERFORM pg_stat_clear_snapshot();
        EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = split_part(split_part(current_setting('test.source_conninfo'), 'dbname=', 2), ' ', 1)
                                                             AND application_name NOT IN ('open', 'asking') AND backend_type = 'client backend');
        PERFORM pg_sleep(0.01);
    END LOOP;
END;
$$;
-- One transaction each: our own would hold rows back, too.
CREATE PROCEDURE refresh_all(methods text DEFAULT '{numbers,parts,snap,times,undated}') LANGUAGE plpgsql AS $$
DECLARE
    dest regclass;
BEGIN
    FOREACH dest IN ARRAY methods::regclass[] || methods::regclass[] LOOP
        PERFORM roneo.refresh(dest);
        COMMIT;
    END LOOP;
    CALL settle();
END;
$$;
CREATE FUNCTION asked(query text) RETURNS jsonb LANGUAGE sql
RETURN (SELECT v::jsonb FROM dblink('asking', query) AS t (v text));
CREATE FUNCTION watched() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    w     record;
    m     record;
    told  text[] := '{}';
BEGIN
    FOR w IN SELECT * FROM roneo.watches() LOOP
        FOR m IN SELECT * FROM roneo.mark_watched(w.replica_ids, w.generations, w.asked_at, asked(w.query)) LOOP
            told := array_append(told, concat(CASE WHEN NOT m.is_idle THEN '!' END, split_part(m.dest, '.', 2)));
        END LOOP;
    END LOOP;
    RETURN (SELECT string_agg(t, ' ' ORDER BY ltrim(t, '!')) FROM unnest(told) AS t);
END;
$$;
-- All that can be watched but these.
CREATE FUNCTION all_but(one text DEFAULT '', another text DEFAULT '') RETURNS text LANGUAGE sql
RETURN (SELECT string_agg(n, ' ') FROM unnest('{numbers,parts,snap,times,undated}'::text[]) AS n WHERE n NOT IN (one, another));
SELECT dblink_connect('asking', :'source_conninfo' || ' application_name=asking') \g /dev/null
SELECT dblink_exec('asking', 'SET lock_timeout = ''2s''') \g /dev/null
SELECT dblink_connect('open', :'source_conninfo' || ' application_name=open') \g /dev/null
CALL settle();
CALL refresh_all('{behind,behind_numbers,not_said,by_clock,snap_by_clock,always,moods,snap_seen,seen,plainly}');
CALL refresh_all();
CREATE FUNCTION position_of(dest regclass) RETURNS text LANGUAGE sql
RETURN (SELECT c::text FROM roneo.control_replica AS c JOIN roneo.replica AS r USING (replica_id) WHERE r.dest = position_of.dest);
CREATE TEMP TABLE positions AS SELECT r.dest, position_of(r.dest) AS before, generation, looked_at FROM roneo.replica AS r;

SELECT is((SELECT count(*) FROM roneo.watches()), 1::bigint, 'one query asks for all of a source');
SELECT is(watched(), all_but(), 'where nothing was counted there is nothing to do; of what can change uncounted only rows tell, or a refresh');
SELECT is(watched(), all_but(), 'and it stays so');
SELECT row_eq($$ SELECT last_outcome, failures FROM roneo.replica WHERE dest = 'times'::regclass $$, ROW('unchanged'::text, 0), 'that counts as a success');
SELECT row_eq($$ SELECT r.generation - p.generation, r.looked_at FROM roneo.replica AS r JOIN positions AS p USING (dest) WHERE dest = 'times'::regclass $$,
    ROW(2::bigint, (SELECT looked_at FROM positions WHERE dest = 'times'::regclass)), 'but not as a look at the rows');
SELECT is((SELECT count(*) FROM positions WHERE before IS DISTINCT FROM position_of(dest)), 0::bigint, 'and moves no position');

-- What changes is noticed, and a refresh puts it right.
CREATE TABLE noticed (number serial, statement text, expected text, told text, what text);
CREATE PROCEDURE change_all() LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT * FROM noticed ORDER BY number LOOP
        PERFORM on_source(one.statement);
        CALL settle();
        UPDATE noticed SET told = watched() WHERE number = one.number;
        COMMIT;
        CALL refresh_all();
    END LOOP;
END;
$$;
INSERT INTO noticed (statement, expected, what)
VALUES
    ('INSERT INTO times VALUES (3)', 'numbers parts !snap !times undated', 'a row that was inserted'),
    ('INSERT INTO numbers VALUES (2)', '!numbers parts snap times undated', 'a late one'),
    ('UPDATE times SET at = at WHERE id = 1', 'numbers parts !snap !times undated', 'one that was updated'),
    ('DELETE FROM times WHERE id = 1', 'numbers parts !snap !times undated', 'one that was deleted'),
    ('BEGIN; INSERT INTO undated VALUES (7); ROLLBACK', 'numbers parts snap times !undated', 'one that was taken back, which costs a refresh'),
    ('INSERT INTO parts VALUES (2)', 'numbers !parts snap times undated', 'one in a partition'),
    ('TRUNCATE times', 'numbers parts !snap !times undated', 'a TRUNCATE, which is not counted'),
    ('INSERT INTO times VALUES (4)', 'numbers parts !snap !times undated', 'and a row after it'),
    ('VACUUM FULL undated', 'numbers parts snap times !undated', 'another file'),
    ('ALTER TABLE times ADD COLUMN more text', 'numbers parts !snap !times undated', 'a column that was added'),
    ('ALTER TABLE times RENAME COLUMN more TO others', 'numbers parts !snap !times undated', 'or renamed'),
    ('CREATE TABLE part_2 PARTITION OF parts FOR VALUES FROM (10) TO (20)', 'numbers !parts snap times undated', 'a new partition'),
    ('CREATE TABLE kid () INHERITS (undated)', 'numbers parts snap times !undated', 'a child'),
    ('ALTER TABLE parts DETACH PARTITION part_2', 'numbers !parts snap times undated', 'a partition that has left'),
    ('INSERT INTO part_1 VALUES (3)', 'numbers !parts snap times undated', 'a row that was written past the root'),
    ('VACUUM FULL part_1', 'numbers !parts snap times undated', 'another file of a partition');
CALL change_all();
SELECT is(told, expected, what) FROM noticed ORDER BY number;
SELECT is(watched(), all_but(), 'and each time until it is refreshed');
SELECT is((SELECT string_agg(id::text, ' ' ORDER BY id) FROM parts), '1 2 3', 'so that all rows are here');
SELECT on_source('ALTER TABLE numbers RENAME TO gone; CREATE TABLE numbers (id int); INSERT INTO numbers SELECT generate_series(1, 5)') \g /dev/null
CALL settle();
SELECT is(watched(), '!numbers parts snap times undated', 'another table of the same name');
SELECT on_source('DROP TABLE numbers; ALTER TABLE gone RENAME TO numbers; CREATE SCHEMA aside; ALTER TABLE other SET SCHEMA aside') \g /dev/null
CALL refresh_all();
SELECT is(watched(), all_but(), 'and until it has gone');

-- Counters that start anew can come to where they were.
SELECT source_value('SELECT pg_stat_reset_single_table_counters(''undated''::regclass)') \g /dev/null
CALL settle();
SELECT is(watched(), '!numbers !parts !snap !times !undated', 'counters that were reset are no longer those of the last refresh');
CALL refresh_all();
SELECT on_source('INSERT INTO undated VALUES (8, now())') \g /dev/null
SELECT source_value('SELECT pg_stat_reset_single_table_counters(''undated''::regclass)') \g /dev/null
CALL settle();
SELECT is(source_value('SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = ''undated'''), '0', 'where they are the same,');
SELECT is(watched(), '!numbers !parts !snap !times !undated', 'the time of the reset tells');
CALL refresh_all();
SELECT is((SELECT count(*) FROM undated WHERE id = 8), 1::bigint, 'and the row comes');
SELECT is(watched(), all_but(), 'and then all is quiet');
SELECT alike(roneo.identity_query(), '%' || field || '%', format('a state knows the %s', field))
FROM unnest('{postmaster_start,stats_discarded,stats_reset,system_identifier,timeline}'::text[]) AS field;

-- What is being written now.
SELECT dblink_exec('open', 'BEGIN; LOCK TABLE times IN ROW EXCLUSIVE MODE') \g /dev/null
SELECT is(watched(), all_but('snap', 'times'), 'who holds a writer''s lock may have committed already: the rows are asked');
SELECT dblink_exec('open', 'ROLLBACK; BEGIN; LOCK TABLE part_1 IN SHARE ROW EXCLUSIVE MODE') \g /dev/null
SELECT is(watched(), all_but('parts'), 'in a partition too');
SELECT dblink_exec('open', 'ROLLBACK; BEGIN; LOCK TABLE times IN ACCESS EXCLUSIVE MODE') \g /dev/null
SELECT is(watched(), all_but('snap', 'times'), 'and nobody waits for a table that is closed');
SELECT dblink_exec('open', 'ROLLBACK; BEGIN; LOCK TABLE times IN ACCESS SHARE MODE; LOCK TABLE times IN SHARE UPDATE EXCLUSIVE MODE') \g /dev/null
SELECT is(watched(), all_but(), 'readers, VACUUM and ANALYZE write no rows');
SELECT dblink_exec('open', 'ROLLBACK; BEGIN; INSERT INTO times VALUES (30); PREPARE TRANSACTION ''counters''') \g /dev/null
SELECT is(watched(), all_but('snap', 'times'), 'a prepared transaction holds its locks');
CALL refresh_all();
SELECT on_source('COMMIT PREPARED ''counters''') \g /dev/null
CALL settle();
SELECT is(watched(), 'numbers parts !snap !times undated', 'and is counted when it is committed, also after a refresh that could not see it');
CALL refresh_all();
SELECT is((SELECT count(*) FROM times WHERE id = 30), 1::bigint, 'so that its row comes');

-- Counters come late. The first commit of a session is handed over at once, the next one not.
SELECT dblink_exec('open', 'INSERT INTO aside.other VALUES (1)') \g /dev/null
SELECT dblink_exec('open', 'INSERT INTO times VALUES (31)') \g /dev/null
SELECT dblink_exec('open', 'INSERT INTO undated SELECT n, now() FROM generate_series(1000, 3000) AS n') \g /dev/null
SELECT matches(watched(), '!undated', 'of many rows the size tells before they are counted');
UPDATE roneo.replica SET looked_at = now() - interval '4 years' WHERE dest = 'times'::regclass;
SELECT ok(watched() !~ '(^| )times', 'after exact_check_s counters are not believed');
SELECT is((SELECT count(*) FROM roneo.idle_checks() AS a
           WHERE source_value(a.query)::jsonb @> (SELECT to_jsonb(replica_id) FROM roneo.replica WHERE dest = 'times'::regclass)), 0::bigint,
    'the rows show what is not counted yet');
SELECT dblink_disconnect('open') \g /dev/null
CALL settle();
CALL refresh_all();
SELECT is((SELECT count(*) FROM times WHERE id = 31), 1::bigint, 'and it is read');
UPDATE roneo.replica SET looked_at = now() - interval '4 years' WHERE dest = 'times'::regclass;
SELECT is(watched(), all_but('times'), 'counters that are not believed');
SELECT count(*)
FROM roneo.idle_checks(settled => ARRAY['public.numbers']) AS a,
     roneo.mark_idle(a.replica_ids, a.generations, a.asked_at, source_value(a.identity_query)::jsonb, source_value(a.query)::jsonb) \g /dev/null
SELECT is(watched(), all_but(), 'are so again when the rows said the same');
SELECT is((SELECT looked_at > now() - interval '1 minute' FROM roneo.replica WHERE dest = 'times'::regclass), true, 'from then on for as long');
SELECT is((SELECT count(*) FROM roneo.idle_checks(settled => ARRAY['public.numbers']) AS a
           WHERE (SELECT replica_id FROM roneo.replica WHERE dest = 'numbers'::regclass) = ANY (a.replica_ids)), 0::bigint, 'nobody asks the rows of what is settled');
UPDATE roneo.setting SET value = '0' WHERE setting_name = 'exact_check_s';
SELECT is_empty('SELECT * FROM roneo.watches()', 'who does not believe in counters is not bothered with them');
UPDATE roneo.setting SET value = '99999999' WHERE setting_name = 'exact_check_s';

-- Not all is counted.
SELECT on_source(format('ALTER DATABASE %I SET track_counts = off', :'source_db')) \g /dev/null
SELECT is(watched(), NULL, 'where some changes may not be counted nothing is idle, nor known to be changed');
SELECT on_source(format('ALTER DATABASE %I RESET track_counts', :'source_db')) \g /dev/null
SELECT is(watched(), all_but(), 'but elsewhere');
SELECT matches(roneo.state_query('SELECT 1, 1'), '>= 150000 AND .*in_recovery.* = ''false''', 'before PostgreSQL 15, and on a standby, there is no state');

-- What goes on here. Each of these is taken back.
CREATE FUNCTION watched_after(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    told text;
BEGIN
    BEGIN
        EXECUTE replace(replace(change, 'CONTROL OF', 'UPDATE roneo.control_replica AS c SET'), 'FOR',
            'FROM roneo.replica AS r WHERE r.replica_id = c.replica_id AND r.dest_name =');
        told := watched();
        RAISE EXCEPTION 'taken back';
    EXCEPTION WHEN raise_exception THEN
        RETURN told;
    END;
END;
$$;
SELECT is(watched_after(c.change), c.told, c.what)
FROM (VALUES
    ('SELECT roneo.begin_repull(''times'')', all_but('times'), 'a repull that is under way is something to do'),
    ('CONTROL OF sweep_every = ''1 hour'', swept_at = now() - interval ''2 hours'' FOR ''times''', all_but('times'), 'and so is a sweep that is due'),
    ('CONTROL OF held_by = ''somebody'' FOR ''numbers''', all_but('numbers'), 'a row that is held is looked after by refreshes'),
    ('CONTROL OF null_control = ''read'' FOR ''numbers''', all_but('numbers'), 'of rows without a value it is not known whether they are held'),
    ('CONTROL OF window_start = NULL FOR ''numbers''', all_but('numbers'), 'nor of those below the window'),
    ('CONTROL OF horizon = NULL FOR ''times''', all_but('times'), 'a source that was accepted is read'),
    -- A zone in which it is no longer summer, whatever day it is.
    (format('CONTROL OF control_zone = %L, clock = %L FOR ''undated''',
            CASE WHEN extract(month FROM now()) > 6 THEN 'AAA0BBB,J10,J90' ELSE 'AAA0BBB,J200,J300' END,
            CASE WHEN extract(month FROM now()) > 6 THEN '2000-02-01' ELSE '2000-08-01' END), all_but('undated'),
     'an hour that came twice is a matter for a refresh'),
    ('UPDATE roneo.replica SET identity = jsonb_set(identity, ''{clock}'', to_jsonb(now() + interval ''1 hour'')) WHERE dest_name = ''times''', all_but('times'),
     'and so is a clock that was set back'),
    ('UPDATE roneo.replica SET identity = jsonb_set(identity, ''{clock}'', to_jsonb(now() - interval ''25 hours'')) WHERE dest_name = ''times''', all_but('times'),
     'and so is a position that is a day old'),
    ('UPDATE roneo.snapshot_replica SET loaded_at = now() - interval ''25 hours''', all_but('snap'), 'a snapshot is copied once in its max_skip_age'),
    ('UPDATE roneo.snapshot_replica SET pending_at = now(), pending_columns = columns', all_but('snap'), 'a load that waits for its swap is something to do'),
    ('UPDATE roneo.replica SET filter = ''id > 1'' WHERE dest_name = ''snap''', all_but('snap'), 'and so is another filter'),
    ('UPDATE roneo.replica SET last_outcome = ''failed'' WHERE dest_name = ''times''', all_but('times'), 'after a failure only a refresh can say that all is well'),
    ('UPDATE roneo.replica SET source_state = NULL WHERE dest_name = ''times''', all_but('times'), 'what did not read all has no state'),
    ('DROP TABLE numbers', all_but('numbers'), 'a destination that is gone is not up to date')) AS c (change, told, what);
CREATE TEMP TABLE watching AS SELECT * FROM roneo.watches();
SELECT roneo.refresh('times') \g /dev/null
SELECT is((SELECT string_agg(split_part(m.dest, '.', 2), ' ' ORDER BY m.dest) FROM watching AS w, roneo.mark_watched(w.replica_ids, w.generations, w.asked_at, asked(w.query)) AS m),
    all_but('times'), 'one that was refreshed meanwhile keeps its own outcome');
SELECT roneo.create_inserter('src', 'public.numbers', dest => 'bit_by_bit', control => 'id', append_only => true, batch_limit => 2, copy_data => false, refresh_every => '1 ms') \g /dev/null
SELECT on_source('INSERT INTO numbers SELECT generate_series(10, 20)') \g /dev/null
SELECT roneo.refresh('bit_by_bit') \g /dev/null
SELECT row_eq($$ SELECT last_outcome, source_state FROM roneo.replica WHERE dest = 'bit_by_bit'::regclass $$, ROW('ok'::text, NULL::uuid), 'what a batch_limit leaves is not forgotten');
UPDATE roneo.replica SET enabled = false;
SELECT is_empty('SELECT * FROM roneo.watches()', 'nobody asks for what is not due');
SELECT * FROM finish();
