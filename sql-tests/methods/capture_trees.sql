-- Captures of partitioned tables and of tables that inherit.
\ir ../support/capture.sql
SELECT plan(80);
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT dblink_connect('a', :'source_conninfo') \g /dev/null

SELECT on_source($$
    CREATE TABLE pt (id int, v text, k int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE pt1 PARTITION OF pt FOR VALUES FROM (0) TO (1000);
    CREATE TABLE pt2 PARTITION OF pt FOR VALUES FROM (1000) TO (2000) PARTITION BY RANGE (id);
    CREATE TABLE pt2a PARTITION OF pt2 FOR VALUES FROM (1000) TO (1500);
    CREATE TABLE pt2b PARTITION OF pt2 FOR VALUES FROM (1500) TO (2000);
    INSERT INTO pt SELECT g, 'a', 0 FROM generate_series(0, 1999, 10) AS g $$) \g /dev/null
SELECT roneo.create_dml('src', 'pt', capture_mode => 'statement') \g /dev/null
SELECT roneo.create_logdel('src', 'pt', 'pt_kept') \g /dev/null
SELECT ok(same('pt'), 'all partitions are copied');
SELECT is(source_value('SELECT bool_and(row_level)::text FROM roneo_capture.capture'), 'true', 'row triggers, whatever was asked for');
CREATE FUNCTION both_do(expected text, description text, kept text DEFAULT NULL) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT is(did('pt'), expected, description);
    RETURN NEXT ok(same('pt'), concat(description, ': equal'));
    PERFORM roneo.refresh('pt_kept', raise_errors => true);
    RETURN NEXT ok(same('pt', '(SELECT id, v, k FROM pt_kept WHERE roneo_source_deleted IS NULL)'), concat(description, ': equal in logdel'));
END;
$$;
SELECT on_source($$ UPDATE pt SET id = id + 1001 WHERE id < 500 $$) \g /dev/null
SELECT * FROM both_do('ok +50 ~0 -50 =0', 'rows that move from one partition to another');
SELECT is((SELECT count(*) FROM pt_kept WHERE roneo_source_deleted IS NOT NULL), 50::bigint, 'are kept under their old keys');
SELECT on_source($$ INSERT INTO pt1 VALUES (1, 'leaf', 0); DELETE FROM pt2b WHERE id < 1600; UPDATE pt2 SET id = id - 303 WHERE id BETWEEN 1600 AND 1700; UPDATE ONLY pt SET v = 'x' $$) \g /dev/null
SELECT * FROM both_do('ok +12 ~0 -21 =0', 'statements on leaves and on what is between');
SELECT told('a', format('COPY pt1 FROM PROGRAM %L', 'printf "2\tcopied\t0\n3\tcopied\t0\n"')) \g /dev/null
SELECT * FROM both_do('ok +2 ~0 -0 =0', 'COPY into a leaf');
SELECT on_source($$ INSERT INTO pt VALUES (1, 'upsert', 1), (4, 'new', 1) ON CONFLICT (id) DO UPDATE SET v = excluded.v $$) \g /dev/null
SELECT * FROM both_do('ok +1 ~1 -0 =0', 'ON CONFLICT through the root');
SELECT on_source($$ TRUNCATE pt2b $$) \g /dev/null
SELECT is(mode_of('pt'), 'compare', 'a leaf that was truncated: all is compared');
SELECT did('pt') \g /dev/null
SELECT ok(same('pt'), 'and its rows are gone');
SELECT did('pt_kept') \g /dev/null
SELECT on_source($$ INSERT INTO pt VALUES (1501, 'b', 1); TRUNCATE pt2; INSERT INTO pt VALUES (1502, 'c', 1) $$) \g /dev/null
SELECT did('pt') \g /dev/null
SELECT ok(same('pt'), 'what is between was truncated, and filled again');
SELECT did('pt_kept') \g /dev/null

-- A partition that is new, and empty.
SELECT on_source($$ CREATE TABLE pt3 PARTITION OF pt FOR VALUES FROM (2000) TO (3000); INSERT INTO pt VALUES (2001, 'root', 0); INSERT INTO pt3 VALUES (2002, 'leaf', 0); UPDATE pt SET id = 2003 WHERE id = 1 $$) \g /dev/null
SELECT is((SELECT problem FROM roneo.captures('src') WHERE source_table = 'public.pt' LIMIT 1), NULL, 'a new partition is no problem');
SELECT * FROM both_do('ok +3 ~0 -1 =0', 'changes of a new partition');
SELECT on_source($$ TRUNCATE pt3; INSERT INTO pt3 VALUES (2009, 'after', 0) $$) \g /dev/null
SELECT is(mode_of('pt'), 'compare', 'its TRUNCATE has no trigger, and is seen by its file');
SELECT * FROM both_do('ok +1 ~0 -3 =54', 'it is brought in line');
SELECT is(did('pt'), 'unchanged', 'once');

-- Attached with rows, one of them with partitions of its own.
SELECT on_source($$ CREATE TABLE pt4 (id int PRIMARY KEY, v text, k int); INSERT INTO pt4 SELECT g, 'old', 0 FROM generate_series(3000, 3099) AS g;
    CREATE TABLE pt5 (k int, v text, id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE pt5a PARTITION OF pt5 FOR VALUES FROM (4000) TO (4500);
    INSERT INTO pt5 (id, v) SELECT g, 'old' FROM generate_series(4000, 4099) AS g;
    INSERT INTO pt VALUES (10, 'x', 0);
    ALTER TABLE pt ATTACH PARTITION pt4 FOR VALUES FROM (3000) TO (4000); ALTER TABLE pt ATTACH PARTITION pt5 FOR VALUES FROM (4000) TO (5000);
    DELETE FROM pt WHERE id = 3001; UPDATE pt4 SET v = 'changed' WHERE id = 3002; DELETE FROM pt5a WHERE id = 4000; INSERT INTO pt5 (id) VALUES (4200) $$) \g /dev/null
SELECT is(mode_of('pt'), 'replay', 'rows of attached partitions are read beside the queue');
SELECT * FROM both_do('ok +200 ~0 -0 =0', 'partitions that came with rows');
SELECT is(did('pt'), 'unchanged', 'they are read once');
SELECT roneo.resync('pt') \g /dev/null
SELECT is(did('pt'), 'ok +0 ~0 -0 =' || (SELECT count(*) FROM pt), 'a resync makes the triggers for TRUNCATE');
SELECT is(source_value($$ SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%truncate' AND tgrelid IN ('pt3'::regclass, 'pt4'::regclass, 'pt5a'::regclass) $$), '3', 'on every leaf');
SELECT is(did('pt_kept'), 'unchanged', 'another copy is not disturbed by that');
SELECT on_source('TRUNCATE pt4') \g /dev/null
SELECT * FROM both_do('ok +0 ~0 -99 =156', 'a leaf whose TRUNCATE is recorded now');

-- Attached with rows that are there already, from another partition.
SELECT on_source($$ BEGIN; CREATE TABLE pt6 (LIKE pt INCLUDING ALL); INSERT INTO pt6 SELECT id + 5000, v, k FROM pt1; DELETE FROM pt1; ALTER TABLE pt ATTACH PARTITION pt6 FOR VALUES FROM (5000) TO (6000); COMMIT $$) \g /dev/null
SELECT did('pt'), did('pt_kept') \g /dev/null
SELECT ok(same('pt'), 'rows that went into a table which became a partition');

-- Detached: two ways out.
SELECT on_source($$ ALTER TABLE pt DETACH PARTITION pt4; ALTER TABLE pt DETACH PARTITION pt6; INSERT INTO pt VALUES (11, 'later', 0);
    CREATE TABLE pt7 (LIKE pt INCLUDING ALL); INSERT INTO pt7 VALUES (6001, 'beside', 0); ALTER TABLE pt ATTACH PARTITION pt7 FOR VALUES FROM (6000) TO (7000) $$) \g /dev/null
SELECT is(did('pt'), 'failed RO025', 'a partition that has left is a question');
SELECT ok(hint_of('pt') ~ 'accept_source' AND hint_of('pt') ~ 'resync', 'with two answers');
SELECT is(did('pt_kept'), 'failed RO025', 'for each copy');
SELECT count(*) AS before FROM pt \gset
SELECT roneo.accept_source('pt') \g /dev/null
SELECT is(did('pt'), 'ok +2 ~0 -0 =0', 'accepted: what changed beside it, a partition that was attached with rows too');
SELECT is((SELECT count(*) FROM pt), (:before + 2)::bigint, 'and its rows stay');
SELECT is(did('pt'), 'unchanged', 'it is accepted once and for all');
SELECT roneo.resync('pt_kept') \g /dev/null
SELECT did('pt_kept') \g /dev/null
SELECT ok(same('pt', '(SELECT id, v, k FROM pt_kept WHERE roneo_source_deleted IS NULL)'), 'resync removes them');
SELECT on_source('DROP TABLE pt7') \g /dev/null
SELECT is(did('pt'), 'failed RO025', 'a partition that was dropped has left too');
SELECT roneo.resync('pt') \g /dev/null
SELECT did('pt') \g /dev/null
SELECT ok(same('pt'), 'equal again');
SELECT roneo.accept_source('pt_kept') \g /dev/null
SELECT is(did('pt_kept'), 'unchanged', 'and accepted');
SELECT roneo.resync('pt_kept') \g /dev/null
SELECT did('pt_kept') \g /dev/null
SELECT on_source($$ ALTER TABLE pt ATTACH PARTITION pt6 FOR VALUES FROM (5000) TO (6000) $$) \g /dev/null
SELECT * FROM both_do(format('ok +%s ~0 -0 =0', source_value('SELECT count(*) FROM pt6')), 'one that came back');

-- A transaction that writes to a table while it is not yet a partition, and to the tree.
SELECT on_source('CREATE TABLE pt8 (LIKE pt INCLUDING ALL)') \g /dev/null
SELECT told('a', $$ BEGIN; UPDATE pt SET v = 'open' WHERE id = 11 $$) \g /dev/null
SELECT on_source($$ INSERT INTO pt8 VALUES (7001, 'early', 0) $$) \g /dev/null
SELECT did('pt') \g /dev/null
SELECT told('a', $$ INSERT INTO pt8 VALUES (7002, 'within', 0); ALTER TABLE pt ATTACH PARTITION pt8 FOR VALUES FROM (7000) TO (8000); COMMIT $$) \g /dev/null
SELECT * FROM both_do('ok +2 ~1 -0 =0', 'a partition that was attached by a transaction that was open');

-- A leaf as a source of its own.
SELECT roneo.create_dml('src', 'pt1', 'leaf', capture_mode => 'statement') \g /dev/null
SELECT on_source($$ INSERT INTO pt VALUES (50, 'through root', 0); INSERT INTO pt1 VALUES (51, 'direct', 0); UPDATE pt SET id = 1200 WHERE id = 11 $$) \g /dev/null
SELECT did('leaf') \g /dev/null
SELECT ok(same('pt1', 'leaf'), 'a partition as a source: what comes through its root');
SELECT on_source('TRUNCATE pt') \g /dev/null
SELECT did('leaf') \g /dev/null
SELECT is(shown('leaf'), NULL, 'also TRUNCATE of the root');
SELECT * FROM both_do('ok +0 ~0 -' || (SELECT count(*) FROM pt) || ' =0', 'TRUNCATE of the root');
SELECT on_source($$ ALTER TABLE pt DETACH PARTITION pt1; INSERT INTO pt1 VALUES (1, 'alone', 0) $$) \g /dev/null
SELECT did('leaf') \g /dev/null
SELECT is(shown('leaf'), '(1,alone,0)', 'it may leave the tree');
SELECT on_source('DROP TABLE pt') \g /dev/null
SELECT is(did('pt'), 'failed RO004', 'a tree that is gone');

-- A partition elsewhere.
SELECT on_source($$ CREATE EXTENSION IF NOT EXISTS file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
    CREATE TABLE far (id int) PARTITION BY RANGE (id); CREATE TABLE far1 (id int NOT NULL); CREATE UNIQUE INDEX ON far1 (id); ALTER TABLE far ATTACH PARTITION far1 FOR VALUES FROM (0) TO (10);
    ALTER TABLE far ALTER id SET NOT NULL; CREATE UNIQUE INDEX ON far (id) $$) \g /dev/null
SELECT roneo.create_dml('src', 'far') \g /dev/null
SELECT on_source($$ DROP INDEX far_id_idx; CREATE FOREIGN TABLE far2 PARTITION OF far FOR VALUES FROM (10) TO (20) SERVER files OPTIONS (filename '/dev/null') $$) \g /dev/null
SELECT is(did('far'), 'failed RO024', 'changes of a foreign partition are made where no trigger is');

-- Inheritance.
SELECT on_source($$ CREATE TABLE par (id int PRIMARY KEY, v text); CREATE TABLE chi (more int) INHERITS (par); INSERT INTO par VALUES (1, 'p'); INSERT INTO chi VALUES (100, 'c', 1) $$) \g /dev/null
SELECT roneo.create_dml('src', 'par') \g /dev/null
SELECT is(shown('par'), '(1,p) (100,c)', 'a parent is copied with its children');
SELECT on_source($$ INSERT INTO chi VALUES (101, 'c2', 1); UPDATE par SET v = v || '!'; DELETE FROM ONLY par WHERE id = 1; UPDATE chi SET id = 102 WHERE id = 100; INSERT INTO par VALUES (2, 'q') $$) \g /dev/null
SELECT did('par') \g /dev/null
SELECT ok(same('par'), 'changes of parent and child');
SELECT on_source('TRUNCATE chi') \g /dev/null
SELECT did('par') \g /dev/null
SELECT is(shown('par'), '(2,q)', 'TRUNCATE of the child');
SELECT on_source($$ CREATE TABLE chi2 () INHERITS (par); INSERT INTO chi2 VALUES (200, 'unseen') $$) \g /dev/null
SELECT is(did('par'), 'failed RO024', 'a new child has no triggers yet');
SELECT roneo.resync('par') \g /dev/null
SELECT did('par') \g /dev/null
SELECT on_source($$ INSERT INTO chi2 VALUES (201, 'seen'); DELETE FROM chi2 WHERE id = 200; TRUNCATE ONLY par $$) \g /dev/null
SELECT did('par') \g /dev/null
SELECT is(shown('par'), '(201,seen)', 'resync makes them');
SELECT on_source($$ ALTER TABLE chi2 NO INHERIT par $$) \g /dev/null
SELECT is(did('par'), 'failed RO025', 'a child that leaves');
SELECT roneo.resync('par') \g /dev/null
SELECT did('par') \g /dev/null
SELECT is(shown('par'), NULL, 'takes its rows with it');
SELECT on_source('INSERT INTO chi2 VALUES (202, $$alone$$)') \g /dev/null
SELECT is(did('par'), 'ok +0 ~0 -0 =0', 'what it does then is not taken');

-- A table that becomes part of a tree.
SELECT on_source($$ CREATE TABLE alone (id int PRIMARY KEY, v text); INSERT INTO alone VALUES (1, 'a'); CREATE TABLE tree (id int PRIMARY KEY, v text) PARTITION BY RANGE (id) $$) \g /dev/null
SELECT roneo.create_dml('src', 'alone') \g /dev/null
SELECT is(source_value($$ SELECT row_level::text FROM roneo_capture.capture WHERE relation_name = 'public.alone' $$), 'false', 'by itself it needs no row triggers');
SELECT on_source($$ CREATE TABLE heir () INHERITS (alone); INSERT INTO heir VALUES (5, 'heir') $$) \g /dev/null
SELECT is(did('alone'), 'failed RO024', 'with a child it does');
SELECT roneo.resync('alone') \g /dev/null
SELECT did('alone') \g /dev/null
SELECT is(shown('alone'), '(1,a) (5,heir)', 'resync changes over to row triggers');
SELECT on_source($$ UPDATE alone SET v = 'b'; DELETE FROM alone WHERE id = 5 $$) \g /dev/null
SELECT is(did('alone'), 'ok +0 ~1 -1 =0', 'which see all of it');
SELECT is(source_value($$ SELECT string_agg(tgname, ' ' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'alone'::regclass AND tgname ~ 'insert|update|delete' $$), NULL, 'the others are gone');
SELECT on_source('DROP TABLE heir') \g /dev/null
SELECT roneo.accept_source('alone') \g /dev/null
SELECT is(did('alone'), 'unchanged', 'a child that goes can be accepted');
SELECT on_source($$ CREATE TABLE joins (id int PRIMARY KEY, v text); INSERT INTO joins VALUES (1, 'a') $$) \g /dev/null
SELECT roneo.create_dml('src', 'joins') \g /dev/null
SELECT on_source($$ ALTER TABLE tree ATTACH PARTITION joins FOR VALUES FROM (0) TO (10); INSERT INTO tree VALUES (7, 'unseen') $$) \g /dev/null
SELECT is(did('joins'), 'failed RO024', 'a table that becomes a partition: what comes through its root fires no statement trigger');
SELECT roneo.resync('joins') \g /dev/null
SELECT did('joins') \g /dev/null
SELECT on_source($$ UPDATE tree SET v = 'seen' $$) \g /dev/null
SELECT is(did('joins'), 'ok +0 ~2 -0 =0', 'row triggers see it');
SELECT ok(same('joins'), 'all of it');
SELECT * FROM finish();
