-- logdel: rows that are deleted on the source stay here, with their last values and a stamp.
\ir ../support/capture.sql
SELECT plan(58);
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT dblink_connect('a', :'source_conninfo') \g /dev/null
CREATE FUNCTION kept(relation text, columns text DEFAULT 'id, v') RETURNS text LANGUAGE sql
RETURN shown(format('(SELECT * FROM %s WHERE roneo_source_deleted IS NOT NULL)', relation), columns);
CREATE FUNCTION live(relation text, columns text DEFAULT 'id, v') RETURNS text LANGUAGE sql
RETURN shown(format('(SELECT * FROM %s WHERE roneo_source_deleted IS NULL)', relation), columns);

\set mode statement
SELECT on_source($$ CREATE TABLE t (id int PRIMARY KEY, v text, n int UNIQUE); INSERT INTO t SELECT g, 'v' || g, g FROM generate_series(1, 20) AS g $$) \g /dev/null
SELECT roneo.create_dml('src', 't', 'd') \g /dev/null
SELECT on_source('UPDATE t SET v = $$d$$ WHERE id = 20') \g /dev/null
SELECT roneo.create_logdel('src', 't') \g /dev/null
SELECT is(source_value('SELECT count(*) FROM roneo_capture.capture'), '1', 'one capture feeds a dml and a logdel');
SELECT is(source_value('SELECT image_columns::text FROM roneo_capture.capture'), '{id,v,n}', 'which adds what is kept of deleted rows');
SELECT is(did('d'), 'ok +0 ~1 -0 =0', 'the other one goes on');
SELECT is((SELECT count(*) FROM t WHERE roneo_source_deleted IS NULL), 20::bigint, 'the rows');
SELECT on_source($$ UPDATE t SET v = 'last' WHERE id IN (1, 2); DELETE FROM t WHERE id IN (1, 2, 3); INSERT INTO t VALUES (21, 'short', 21); UPDATE t SET v = 'lived' WHERE id = 21; DELETE FROM t WHERE id = 21 $$) \g /dev/null
SELECT clock_timestamp() AS now \gset
SELECT is(did('t'), 'ok +0 ~0 -4 =0', 'deleted rows are counted');
SELECT is(kept('t'), '(1,last) (2,last) (21,lived) (3,v3)', 'they have the values they had last, also what came and went meanwhile');
SELECT ok((SELECT bool_and(roneo_source_deleted BETWEEN :'now'::timestamptz - interval '1 minute' AND :'now') FROM t WHERE roneo_source_deleted IS NOT NULL), 'and the time of the deletion');
SELECT is(did('t'), 'unchanged', 'once');
SELECT is(did('d'), 'ok +0 ~0 -3 =0', 'dml deletes them');
SELECT ok(same('t', 'd'), 'and is equal');
SELECT ok(same('t', '(SELECT id, v, n FROM t WHERE roneo_source_deleted IS NULL)'), 'as are the rows that live');

-- Keys and unique values come again.
SELECT on_source($$ INSERT INTO t VALUES (1, 'again', 1), (2, 'again', 3) $$) \g /dev/null
SELECT is(did('t'), 'ok +2 ~0 -0 =0', 'a key that comes again is a new row');
SELECT is(kept('t'), '(1,last) (2,last) (21,lived) (3,v3)', 'beside the old one');
SELECT on_source($$ DELETE FROM t WHERE id = 1 $$), on_source($$ INSERT INTO t VALUES (1, 'third', 1) $$), on_source($$ DELETE FROM t WHERE id = 1 $$), on_source($$ INSERT INTO t VALUES (1, 'fourth', 1) $$) \g /dev/null
SELECT is(did('t'), 'ok +1 ~0 -2 =0', 'several lives of one key within a refresh');
SELECT is(kept('t') , '(1,again) (1,last) (1,third) (2,last) (21,lived) (3,v3)', 'leave each its record');
SELECT is((SELECT v FROM t WHERE id = 1 AND roneo_source_deleted IS NULL), 'fourth', 'and one that lives');
SELECT is((SELECT array_agg(v ORDER BY roneo_source_deleted) FROM t WHERE id = 1 AND roneo_source_deleted IS NOT NULL), '{last,again,third}', 'in their order');
SELECT on_source($$ UPDATE t SET id = 100, v = 'moved' WHERE id = 4; UPDATE t SET id = -5 WHERE id = 5; UPDATE t SET id = 5 WHERE id = 6; UPDATE t SET id = 6 WHERE id = -5 $$) \g /dev/null
SELECT did('t') \g /dev/null
SELECT ok(same('t', '(SELECT id, v, n FROM t WHERE roneo_source_deleted IS NULL)'), 'keys that change');
SELECT ok(kept('t') ~ '\(4,v4\)', 'leave a record under the old key');
SELECT told('a', 'BEGIN; DELETE FROM t WHERE id = 7') \g /dev/null
SELECT on_source('DELETE FROM t WHERE id = 8') \g /dev/null
SELECT is(did('t'), 'ok +0 ~0 -1 =0', 'while a deletion is open');
SELECT told('a', 'ROLLBACK') \g /dev/null
SELECT is(did('t'), 'unchanged', 'and rolled back');
SELECT on_source($$ DELETE FROM t WHERE id >= 9; INSERT INTO t SELECT g, 'bulk', g FROM generate_series(1000, 1999) AS g $$) \g /dev/null
SELECT did('t') \g /dev/null
SELECT on_source($$ DELETE FROM t WHERE id >= 1000 $$) \g /dev/null
SELECT is(did('t'), 'ok +0 ~0 -1000 =0', 'many at once');
SELECT is((SELECT count(*) FROM t WHERE v = 'bulk' AND roneo_source_deleted IS NOT NULL), 1000::bigint, 'each with its record');

-- TRUNCATE shows no rows: they keep what was here.
SELECT on_source($$ UPDATE t SET v = 'unseen' WHERE id = 7; DELETE FROM t WHERE id = 5; TRUNCATE t; INSERT INTO t VALUES (7, 'new', 7) $$) \g /dev/null
SELECT did('t') \g /dev/null
SELECT is(live('t'), '(7,new)', 'TRUNCATE stamps what it took');
SELECT is((SELECT count(*) FROM t WHERE id = 5 AND roneo_source_deleted IS NOT NULL), 2::bigint, 'what was deleted before it has one record more');
SELECT is(did('t'), 'unchanged', 'once');

-- A resync: what is gone is stamped, nothing is stamped twice.
SELECT count(*) AS records FROM t WHERE roneo_source_deleted IS NOT NULL \gset
SELECT roneo.resync('t') \g /dev/null
SELECT on_source($$ INSERT INTO t VALUES (50, 'r', 50); DELETE FROM t WHERE id = 7 $$) \g /dev/null
SELECT did('t') \g /dev/null
SELECT is(live('t'), '(50,r)', 'a comparison stamps what is gone');
SELECT is((SELECT count(*) FROM t WHERE roneo_source_deleted IS NOT NULL), (:records + 1)::bigint, 'and leaves the old records alone');

-- Filters: the images pass them too.
SELECT on_source($$ CREATE TABLE f (id int PRIMARY KEY, v text, state text); INSERT INTO f VALUES (1, 'a', 'in'), (2, 'b', 'out'), (3, 'c', 'in'), (4, 'd', 'in') $$) \g /dev/null
SELECT roneo.create_logdel('src', 'f', columns => '{id,v}', filter => $$ state = 'in' $$) \g /dev/null
SELECT is(source_value($$ SELECT image_columns::text FROM roneo_capture.capture WHERE relation = 'f'::regclass $$), '{id,v,state}', 'with a filter all columns are kept');
SELECT on_source($$ DELETE FROM f WHERE id IN (1, 2); UPDATE f SET state = 'out', v = 'left' WHERE id = 3; INSERT INTO f VALUES (9, 'never in', 'out'); DELETE FROM f WHERE id = 9; INSERT INTO f VALUES (10, 'was in', 'in'); DELETE FROM f WHERE id = 10 $$) \g /dev/null
SELECT did('f') \g /dev/null
SELECT is(kept('f'), '(1,a) (10,"was in") (3,c)', 'what was never in the filter leaves no record, and what leaves it keeps what was here');
SELECT on_source($$ UPDATE f SET state = 'in', v = 'back' WHERE id = 3 $$) \g /dev/null
SELECT did('f') \g /dev/null
SELECT is(live('f'), '(3,back) (4,d)', 'and comes again as a new row');

-- What is kept can become more, and less.
SELECT on_source($$ CREATE DOMAIN must AS int NOT NULL; CREATE TABLE g (id int PRIMARY KEY, v text, d must DEFAULT 1, gone text); INSERT INTO g VALUES (1, 'a', 1, 'x'), (2, 'b', 2, 'x'), (3, 'c', 3, 'x') $$) \g /dev/null
CREATE DOMAIN must AS int NOT NULL;
SELECT roneo.create_logdel('src', 'g', 'g1', columns => '{id,v}') \g /dev/null
SELECT on_source('DELETE FROM g WHERE id = 1') \g /dev/null
SELECT roneo.create_logdel('src', 'g', 'g2') \g /dev/null
SELECT on_source('DELETE FROM g WHERE id = 2; TRUNCATE g; INSERT INTO g VALUES (4, $$n$$, 4, $$x$$)') \g /dev/null
SELECT did('g1'), did('g2') \g /dev/null
SELECT is(kept('g1'), '(1,a) (2,b) (3,c)', 'a copy with few columns');
SELECT is(kept('g2', 'id, v, d, gone'), '(2,b,2,x) (3,c,3,x)', 'and one with more');
SELECT on_source($$ ALTER TABLE g DROP gone $$) \g /dev/null
SELECT is(code('BEGIN; DELETE FROM g WHERE id = 4; ROLLBACK'), 'done', 'a column of which last values are kept is dropped: rows are deleted all the same');
SELECT is(did('g2'), 'failed RO024', 'and the refresh fails');
SELECT matches((SELECT message FROM roneo.run WHERE dest = 'public.g2' ORDER BY run_id DESC LIMIT 1), 'last values are kept.*gone', 'with the reason');
ALTER TABLE g2 DROP gone;
SELECT roneo.resync('g2') \g /dev/null
SELECT is(code('DELETE FROM g WHERE id = 4'), 'done', 'resync mends it');
SELECT did('g2') \g /dev/null
SELECT is(kept('g2', 'id, v, d'), '(2,b,2) (3,c,3) (4,n,4)', 'with the last values again');
SELECT on_source($$ ALTER TABLE g RENAME v TO w; ALTER TABLE g ADD gone int $$) \g /dev/null
ALTER TABLE g2 RENAME v TO w;
ALTER TABLE g2 ADD gone int;
SELECT roneo.resync('g2') \g /dev/null
SELECT did('g2') \g /dev/null
SELECT on_source($$ INSERT INTO g (id, w, d, gone) VALUES (5, 'e', 5, 55); DELETE FROM g WHERE id = 5 $$) \g /dev/null
SELECT did('g2') \g /dev/null
SELECT matches(kept('g2', 'id, w, d, gone'), '\(5,e,5,55\)', 'a renamed column, and one that came again with another type');
SELECT is(did('g1'), 'failed RO015', 'the other copy lacks one of its list');

-- Row triggers, keys in another case, and all types of statement.
CREATE EXTENSION citext;
SELECT on_source($$ CREATE EXTENSION citext; CREATE TABLE r (id citext PRIMARY KEY, v text); INSERT INTO r VALUES ('Foo', 'a'), ('Bar', 'b') $$) \g /dev/null
SELECT roneo.create_logdel('src', 'r', capture_mode => 'row', deleted_column => 'When gone') \g /dev/null
SELECT on_source($$ UPDATE r SET id = 'FOO', v = 'last' WHERE id = 'foo'; DELETE FROM r WHERE id = 'foo'; UPDATE r SET id = 'baz' WHERE id = 'bar' $$) \g /dev/null
SELECT did('r') \g /dev/null
SELECT is(shown('(SELECT * FROM r WHERE "When gone" IS NOT NULL)', 'id, v'), '(Bar,b) (FOO,last)', 'row triggers keep last values, in a column of another name');
SELECT is(shown('(SELECT * FROM r WHERE "When gone" IS NULL)', 'id, v'), '(baz,b)', 'and what lives');

-- Batches.
SELECT on_source($$ CREATE TABLE b (id int PRIMARY KEY, v text) $$) \g /dev/null
SELECT roneo.create_logdel('src', 'b', batch_limit => 1) \g /dev/null
SELECT on_source($$ INSERT INTO b VALUES (1, 'one') $$), on_source($$ INSERT INTO b VALUES (2, 'two') $$), on_source($$ DELETE FROM b WHERE id = 1 $$), on_source($$ INSERT INTO b VALUES (1, 'uno') $$), on_source($$ DELETE FROM b WHERE id = 1 $$) \g /dev/null
DO $$ BEGIN
    FOR i IN 1 .. 10 LOOP EXIT WHEN NOT coalesce((roneo.refresh('b')).has_more, false); END LOOP;
END $$;
SELECT is(kept('b'), '(1,one) (1,uno)', 'in batches each life has one record');
SELECT is(live('b'), '(2,two)', 'and what lives is there');
SELECT on_source($$ INSERT INTO b SELECT g, 'v' || g FROM generate_series(11, 14) AS g $$) \g /dev/null
SELECT did('b') \g /dev/null
SELECT on_source($$ DELETE FROM b WHERE id = 11 $$), on_source($$ UPDATE b SET v = 'last' WHERE id = 12 $$), on_source($$ DELETE FROM b WHERE id = 12 $$), on_source($$ INSERT INTO b VALUES (12, 'again') $$), on_source($$ DELETE FROM b WHERE id = 12 $$),
    on_source($$ DELETE FROM b WHERE id = 13 $$), on_source('ALTER TABLE b ADD more int DEFAULT 7') \g /dev/null
ALTER TABLE b ADD more int;
SELECT is(mode_of('b'), 'compare', 'a column that is new while batches wait: all rows are read');
DO $$ BEGIN
    FOR i IN 1 .. 10 LOOP EXIT WHEN NOT coalesce((roneo.refresh('b')).has_more, false); END LOOP;
END $$;
SELECT is(shown('(SELECT * FROM b WHERE roneo_source_deleted IS NOT NULL AND id > 10)', 'id, v'), '(11,v11) (12,again) (12,last) (13,v13)', 'and each deletion has one record, with its own values');
SELECT is(live('b', 'id, v, more'), '(14,v14,7) (2,two,7)', 'beside what lives');
SELECT is(did('b'), 'unchanged', 'once');
SELECT on_source('ALTER TABLE b DROP more; DELETE FROM b WHERE id = 14') \g /dev/null
ALTER TABLE b DROP more;
SELECT did('b') \g /dev/null

-- Adopted tables.
CREATE TABLE a (id int PRIMARY KEY, v text);
SELECT throws_ok($$ SELECT roneo.create_logdel('src', 'b', 'a') $$, 'RO007', NULL, 'a table without the column is refused');
ALTER TABLE a ADD roneo_source_deleted timestamptz;
SELECT throws_ok($$ SELECT roneo.create_logdel('src', 'b', 'a') $$, 'RO007', NULL, 'and one whose key would not let a deleted one come again');
ALTER TABLE a DROP CONSTRAINT a_pkey;
SELECT throws_ok($$ SELECT roneo.create_logdel('src', 'b', 'a') $$, 'RO007', NULL, 'and one without any');
CREATE UNIQUE INDEX ON a (id) WHERE roneo_source_deleted IS NULL;
INSERT INTO a VALUES (2, 'other', NULL), (3, 'gone', NULL), (4, 'buried', now()), (2, 'buried', now());
SELECT lives_ok($$ SELECT roneo.create_logdel('src', 'b', 'a') $$, 'else it is adopted');
SELECT is(live('a'), '(2,two)', 'compared');
SELECT is(kept('a'), '(2,buried) (3,gone) (4,buried)', 'with what it had recorded');
SELECT throws_ok($$ SELECT roneo.create_logdel('src', 'b', 'b9', deleted_column => '') $$, 'RO007', NULL, 'the column needs a name');
SELECT throws_ok($$ SELECT roneo.create_logdel('src', 'b', 'b9', capture_mode => 'both') $$, 'RO007', NULL, 'an unknown mode');

-- Dropping it.
SELECT roneo.drop_replica('t') \g /dev/null
SELECT on_source('UPDATE t SET v = v || 1; DELETE FROM t WHERE id = 50') \g /dev/null
SELECT did('d') \g /dev/null
SELECT ok(same('t', 'd'), 'the dml copy stays when the logdel goes');
SELECT is((SELECT count(*) > 1000 FROM t WHERE roneo_source_deleted IS NOT NULL), true, 'and its records too');
SELECT * FROM finish();
