-- Alone in the cluster: others' transactions would hold rows back.
-- A repull makes a range equal to the source again, in chunks, and loses nothing that arrives meanwhile.
SET client_min_messages = warning;
SELECT plan(49);

CREATE FUNCTION ids(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT string_agg(concat(id, note), '' '' ORDER BY id, note) FROM %s', dest) INTO found;
    RETURN found;
END;
$$;
CREATE FUNCTION source_ids(source_table text) RETURNS text LANGUAGE sql
RETURN source_value(format('SELECT string_agg(concat(id, note), '' '' ORDER BY id, note) FROM %s', source_table));
CREATE FUNCTION outcome(dest regclass) RETURNS text LANGUAGE sql RETURN (roneo.refresh(dest)).outcome;
CREATE VIEW here AS SELECT r.dest_name, c.* FROM roneo.control_replica AS c JOIN roneo.replica AS r USING (replica_id);
CREATE FUNCTION told(session text, statement text) RETURNS text LANGUAGE sql RETURN dblink_exec(session, statement);

SELECT on_source($$
    CREATE TABLE log (id int PRIMARY KEY, note text); INSERT INTO log SELECT n, 'a' FROM generate_series(1, 12) AS n;
    CREATE TABLE loose (id int, note text); INSERT INTO loose SELECT n, 'a' FROM generate_series(1, 12) AS n $$) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT roneo.create_inserter('src', 'public.log', control => 'id') \g /dev/null
SELECT roneo.create_updater('src', 'public.log', dest => 'upd', control => 'id') \g /dev/null
SELECT roneo.create_inserter('src', 'public.loose', control => 'id', append_only => true, batch_limit => 3) \g /dev/null
CALL roneo.repull('loose');
SELECT is(ids('loose'), source_ids('loose'), 'a first copy in batches is finished by a repull');
SELECT is(array_agg(k.key_columns::text ORDER BY dest_name), '{"{id}",NULL,"{id}"}', 'the three are keyed, keyless, keyed') FROM here AS k;

-- Everything.
SELECT on_source($$ DELETE FROM log WHERE id IN (2, 12); UPDATE log SET note = 'b' WHERE id = 3; INSERT INTO log VALUES (13, 'new');
    DELETE FROM loose WHERE id IN (2, 12); INSERT INTO loose VALUES (13, 'new'), (13, 'twice') $$) \g /dev/null
INSERT INTO loose VALUES (5, 'a'), (7, 'mine');
CALL roneo.repull('log');
CALL roneo.repull('upd');
CALL roneo.repull('loose');
SELECT is(ids(d::regclass), source_ids(s), format('%s is equal to its source again', d))
FROM (VALUES ('log', 'log'), ('upd', 'log'), ('loose', 'loose')) AS v (d, s);
SELECT is(last_value, '13', format('%s has the position of what it read', dest_name)) FROM here ORDER BY dest_name;
SELECT ok(NOT repulling AND repull_from IS NULL AND repull_to IS NULL, format('nothing is left to repull of %s', dest_name)) FROM here ORDER BY dest_name;
SELECT is(outcome(d::regclass), 'unchanged', format('%s has nothing to do afterwards', d)) FROM unnest('{log,upd,loose}'::text[]) AS d;

-- Rows that are the same stay, and what references them too.
CREATE TABLE child (id int REFERENCES upd ON DELETE CASCADE);
CREATE TABLE log_child (id int REFERENCES log ON DELETE CASCADE);
INSERT INTO child SELECT id FROM upd;
INSERT INTO log_child SELECT id FROM log;
CREATE TEMP TABLE places AS SELECT 'upd' AS t, ctid::text AS place, id FROM upd UNION ALL SELECT 'log', ctid::text, id FROM log;
SELECT on_source($$ UPDATE log SET note = 'c' WHERE id = 4; DELETE FROM log WHERE id = 5 $$) \g /dev/null
CALL roneo.repull('upd');
CALL roneo.repull('log');
SELECT is((SELECT array_agg(id ORDER BY id) FROM child), ARRAY[1, 3, 4, 6, 7, 8, 9, 10, 11, 13], 'children of rows that stay are not deleted');
SELECT ok((SELECT count(*) = 9 FROM log_child), 'of an inserter those of a row that differs are');
SELECT is((SELECT array_agg(p.id ORDER BY p.id) FROM places AS p JOIN upd AS u ON p.t = 'upd' AND u.ctid::text = p.place AND u.id = p.id),
    ARRAY[1, 3, 6, 7, 8, 9, 10, 11, 13], 'rows that are the same are not written');
SELECT row_eq($$ SELECT deleted, inserted, updated, unchanged FROM roneo.run WHERE dest = 'public.upd' ORDER BY run_id DESC LIMIT 1 $$,
    ROW(1::bigint, 0::bigint, 1::bigint, 9::bigint), 'and the run counts what was done');
DROP TABLE child, log_child;

-- A half-open range, and one side.
SELECT on_source($$ UPDATE log SET note = 'd'; UPDATE loose SET note = 'd' WHERE note = 'a' $$) \g /dev/null
CALL roneo.repull('log', '3', '6');
SELECT is(ids('log'), '1a 3d 4d 6a 7a 8a 9a 10a 11a 13new', 'the first value of a range is pulled, the last one is not');
CALL roneo.repull('log', from_value => '10');
SELECT is(ids('log'), '1a 3d 4d 6a 7a 8a 9a 10d 11d 13d', 'a range may have no end');
CALL roneo.repull('log', to_value => '7');
SELECT is(ids('log'), '1d 3d 4d 6d 7a 8a 9a 10d 11d 13d', 'or no beginning');
CALL roneo.repull('log', '7', '7');
SELECT is(ids('log'), '1d 3d 4d 6d 7a 8a 9a 10d 11d 13d', 'an empty range is none');

-- A row of an inserter has the value it came with; when that grows at the source, the row is not gone.
SELECT on_source($$ CREATE TABLE grown (id int PRIMARY KEY, n int); INSERT INTO grown SELECT g, g FROM generate_series(1, 5) AS g $$) \g /dev/null
SELECT roneo.create_inserter('src', 'public.grown', control => 'n') \g /dev/null
SELECT on_source($$ UPDATE grown SET n = 5 WHERE id = 2; DELETE FROM grown WHERE id = 3 $$) \g /dev/null
SELECT outcome('grown') \g /dev/null
CALL roneo.repull('grown', '1', '4');
SELECT is((SELECT string_agg(format('%s:%s', id, n), ' ' ORDER BY id) FROM grown), '1:1 2:2 3:3 4:4 5:5', 'nothing is removed because it is in no range any more');
CALL roneo.repull('grown', '4');
SELECT is((SELECT string_agg(format('%s:%s', id, n), ' ' ORDER BY id) FROM grown), '1:1 2:5 3:3 4:4 5:5', 'the range that it is in now brings it as it is');
CALL roneo.repull('grown');
SELECT is((SELECT string_agg(format('%s:%s', id, n), ' ' ORDER BY id) FROM grown), '1:1 2:5 4:4 5:5', 'everything makes all equal');

-- In chunks, interrupted, and continued by ordinary refreshes.
UPDATE roneo.control_replica SET horizon = horizon, batch_limit = 3;
SELECT on_source($$ TRUNCATE loose; INSERT INTO loose SELECT n, 'e' FROM generate_series(1, 20) AS n $$) \g /dev/null
SELECT is((roneo.refresh('loose')).sqlstate, 'RO021', 'a table that was emptied and filled again stops a keyless replica');
SELECT roneo.accept_source('loose') \g /dev/null
SELECT roneo.begin_repull('loose') \g /dev/null
SELECT is((roneo.refresh('loose')).has_more, true, 'a chunk has more after it');
SELECT isnt(repull_from, NULL, 'and is noted') FROM here WHERE dest_name = 'loose';
SELECT on_source($$ INSERT INTO loose VALUES (2, 'late'), (11, 'late'), (21, 'late'); DELETE FROM loose WHERE id = 10 $$) \g /dev/null
SELECT dblink_connect('open', :'source_conninfo') \g /dev/null
SELECT told('open', $$ BEGIN; INSERT INTO loose VALUES (3, 'open'), (15, 'open') $$) \g /dev/null
SELECT on_source($$ INSERT INTO loose VALUES (4, 'held'), (14, 'held') $$) \g /dev/null
DO $$ BEGIN
    FOR n IN 1 .. 50 LOOP EXIT WHEN NOT (roneo.refresh('loose', raise_errors => true)).has_more; END LOOP;
END $$;
SELECT ok(NOT repulling, 'ordinary refreshes finish it') FROM here WHERE dest_name = 'loose';
SELECT told('open', 'COMMIT') \g /dev/null
SELECT is(outcome('loose'), 'ok', 'what was open meanwhile is read after it');
SELECT is(ids('loose'), source_ids('loose'), 'nothing that came meanwhile is lost, and nothing doubled');
SELECT is(outcome('loose'), 'unchanged', 'and all is done');

-- The same with a key, killed in the middle: what was not committed is begun again.
SELECT on_source($$ DELETE FROM log WHERE id = 9; UPDATE log SET note = 'f'; INSERT INTO log SELECT n, 'f' FROM generate_series(14, 20) AS n $$) \g /dev/null
SELECT roneo.begin_repull('upd') \g /dev/null
SELECT is((roneo.refresh('upd')).has_more, true, 'a keyed one has chunks too');
BEGIN;
SELECT is((roneo.refresh('upd')).outcome, 'ok', 'a chunk that is rolled back');
ROLLBACK;
SELECT on_source($$ INSERT INTO log VALUES (5, 'late'); UPDATE log SET note = 'g' WHERE id IN (1, 20) $$) \g /dev/null
DO $$ BEGIN
    FOR n IN 1 .. 50 LOOP EXIT WHEN NOT (roneo.refresh('upd', raise_errors => true)).has_more; END LOOP;
END $$;
SELECT is(ids('upd'), source_ids('log'), 'is read again, and the copy is equal');
SELECT is(count(*), 4::bigint, 'in more than one transaction') FROM roneo.run WHERE dest = 'public.upd' AND has_more;

-- One value may fill more than a chunk.
SELECT on_source($$ UPDATE loose SET note = 'h'; INSERT INTO loose SELECT 6, concat('h', n) FROM generate_series(1, 10) AS n $$) \g /dev/null
CALL roneo.repull('loose');
SELECT is(ids('loose'), source_ids('loose'), 'a value with more rows than a chunk does not stop it');

-- Rows without a value belong to no range, and to everything.
SELECT on_source($$ CREATE TABLE undated (id int PRIMARY KEY, at timestamp, note text);
    INSERT INTO undated VALUES (1, '2026-01-01', 'a'), (2, NULL, 'a'), (3, NULL, 'a') $$) \g /dev/null
SELECT roneo.create_updater('src', 'public.undated', control => 'at', null_control => 'read') \g /dev/null
SELECT on_source($$ DELETE FROM undated WHERE id = 2 $$) \g /dev/null
CALL roneo.repull('undated', to_value => '2027-01-01');
SELECT is(ids('undated'), '1a 2a 3a', 'a range is one of values');
CALL roneo.repull('undated');
SELECT is(ids('undated'), '1a 3a', 'a repull of everything makes equal what has no value too');

-- Where rows do not show their transaction, the position must not stay above those that the source has.
SELECT on_source($$ CREATE TABLE numbers (id int, note text); INSERT INTO numbers SELECT n, 'a' FROM generate_series(1, 30) AS n; CREATE VIEW seen AS SELECT * FROM numbers $$) \g /dev/null
SELECT roneo.create_inserter('src', 'public.seen', control => 'id', boundary => '0', batch_limit => 4) \g /dev/null
CALL roneo.repull('seen');
SELECT is(last_value, '30', 'a view has been read to its end') FROM here WHERE dest_name = 'seen';
SELECT on_source($$ DELETE FROM numbers WHERE id > 10 $$) \g /dev/null
CALL roneo.repull('seen', to_value => '5');
SELECT is(last_value, '30', 'a range leaves the position') FROM here WHERE dest_name = 'seen';
CALL roneo.repull('seen');
SELECT is(last_value, '10', 'a repull of everything brings it back to what is there') FROM here WHERE dest_name = 'seen';
SELECT on_source($$ INSERT INTO numbers VALUES (11, 'again') $$) \g /dev/null
SELECT is(outcome('seen'), 'ok', 'so that the next row is new');
SELECT is(ids('seen'), source_ids('seen'), 'and all is equal');
SELECT on_source($$ DELETE FROM numbers $$) \g /dev/null
CALL roneo.repull('seen');
SELECT is(last_value, NULL, 'an emptied source is one without a position') FROM here WHERE dest_name = 'seen';
SELECT is(ids('seen'), NULL, 'and its copy is empty');

SELECT throws_ok($$ SELECT roneo.begin_repull('log', 'x') $$, 'RO007', NULL, 'a range of another type is refused');
SELECT throws_ok($$ SELECT roneo.begin_repull('places') $$, 'RO001', NULL, 'and a table that is no replica');
SELECT roneo.create_plain('src', 'public.undated', dest => 'plain') \g /dev/null
SELECT throws_ok($$ SELECT roneo.begin_repull('plain') $$, 'RO007', NULL, 'a replica that follows nothing has no ranges');
