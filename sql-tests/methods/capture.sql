-- What dml does with the tables here: unique values, adopted tables, filters, columns, batches, transactions.
\ir ../support/capture.sql
SELECT plan(89);
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT dblink_connect('a', :'source_conninfo') \g /dev/null

-- Unique values that change hands within a refresh.
SELECT on_source($$ CREATE TABLE u (id int PRIMARY KEY, n int UNIQUE, s text, CONSTRAINT u_pair UNIQUE (s, n)); INSERT INTO u SELECT g, g, 'x' || g FROM generate_series(1, 10) AS g $$) \g /dev/null
SELECT roneo.create_dml('src', 'u') \g /dev/null
SELECT is((SELECT string_agg(concat(contype, condeferrable), ' ' ORDER BY conname) FROM pg_constraint WHERE conrelid = 'u'::regclass AND contype IN ('u', 'p')), 'ut ut pf',
    'on a table of ours unique constraints are deferrable, but not the key');
SELECT on_source($$ UPDATE u SET n = -n WHERE id < 3; UPDATE u SET n = 2 WHERE id = 1; UPDATE u SET n = 1 WHERE id = 2; DELETE FROM u WHERE id = 3; INSERT INTO u VALUES (30, 3, 'x3') $$) \g /dev/null
SELECT is(did('u'), 'ok +1 ~2 -1 =0', 'two rows swap a unique value, and one takes that of a row that went');
SELECT ok(same('u'), 'equal');
SELECT on_source($$ UPDATE u SET n = n + 1000; UPDATE u SET n = n - 999 $$) \g /dev/null
SELECT is(did('u'), 'ok +0 ~10 -0 =0', 'each takes that of the next');
SELECT ok(same('u'), 'equal again');

CREATE TABLE adopted (id int PRIMARY KEY, n int UNIQUE, s text, note text DEFAULT 'mine');
CREATE UNIQUE INDEX ON adopted (lower(s));
CREATE UNIQUE INDEX ON adopted (s) WHERE n > 0;
CREATE EXTENSION btree_gist;
ALTER TABLE adopted ADD EXCLUDE USING gist (n WITH =);
INSERT INTO adopted SELECT g, g, 'x' || g FROM generate_series(1, 8) AS g;
SELECT roneo.create_dml('src', 'u', 'adopted') \g /dev/null
SELECT ok(same('u', 'adopted', 'id, n, s'), 'a filled table that is adopted is compared');
SELECT is((SELECT count(*) FROM adopted WHERE note = 'mine'), 10::bigint, 'its own columns have their defaults');
SELECT on_source($$ UPDATE u SET n = -n WHERE id < 3; UPDATE u SET n = 3 WHERE id = 1; UPDATE u SET n = 2 WHERE id = 2; UPDATE u SET s = 'tmp' WHERE id = 5; UPDATE u SET s = 'X5' WHERE id = 4; UPDATE u SET s = 'X4' WHERE id = 5 $$) \g /dev/null
SELECT is((roneo.refresh('adopted')).outcome, 'ok', 'immediate unique, expression, partial and exclusion indexes');
SELECT ok(same('u', 'adopted', 'id, n, s'), 'equal');
UPDATE adopted SET note = 'yours' WHERE id > 6;
SELECT on_source($$ UPDATE u SET s = s || '!' WHERE id > 6 $$) \g /dev/null
SELECT did('adopted') \g /dev/null
SELECT ok(same('u', 'adopted', 'id, n, s'), 'an update of a column that is unique');

-- Referenced by tables of this database: rows that stay are never taken away.
CREATE TABLE child (id int PRIMARY KEY, u int REFERENCES u ON DELETE CASCADE);
INSERT INTO child SELECT id, id FROM u;
SELECT on_source($$ UPDATE u SET n = n + 1000; UPDATE u SET n = n - 1001; INSERT INTO u VALUES (40, 4000, 'x40') $$) \g /dev/null
SELECT did('u') \g /dev/null
SELECT ok(same('u'), 'swapped values in a table that is referenced');
SELECT is((SELECT count(*) FROM child), 10::bigint, 'took no children');
SELECT on_source($$ BEGIN; CREATE TEMP TABLE k ON COMMIT DROP AS SELECT * FROM u; TRUNCATE u; INSERT INTO u SELECT * FROM k WHERE id <> 1; COMMIT $$) \g /dev/null
SELECT is(did('u'), 'ok +0 ~0 -1 =10', 'nor does TRUNCATE, but for those of rows that are gone');
SELECT is((SELECT count(*) FROM child), 9::bigint, 'which cascade');
ALTER TABLE child DROP CONSTRAINT child_u_fkey, ADD CONSTRAINT child_u_fkey FOREIGN KEY (u) REFERENCES u;
SELECT on_source('DELETE FROM u WHERE id = 2') \g /dev/null
SELECT is(did('u'), 'failed 23503', 'a child without cascade prevents a deletion');
DELETE FROM child WHERE u = 2;
SELECT is(did('u'), 'ok +0 ~0 -1 =0', 'until it goes');
CREATE TABLE refers (id int PRIMARY KEY, n int UNIQUE, s text);
CREATE TABLE refers_child (r int REFERENCES refers ON DELETE CASCADE);
SELECT roneo.create_dml('src', 'u', 'refers') \g /dev/null
INSERT INTO refers_child SELECT id FROM refers;
SELECT on_source($$ UPDATE u SET n = n + 5000; UPDATE u SET n = n - 4999 $$) \g /dev/null
SELECT did('refers') \g /dev/null
SELECT is((SELECT count(*) FROM refers_child), (SELECT count(*) FROM refers), 'an adopted one with immediate unique values loses no children, whatever else');

-- Filters.
SELECT on_source($$ CREATE SCHEMA lib; CREATE FUNCTION lib.wanted(text) RETURNS boolean LANGUAGE sql AS $f$ SELECT $1 LIKE 'y%' $f$;
    CREATE TABLE f (id int PRIMARY KEY, state text, v text, secret text); INSERT INTO f SELECT g, CASE WHEN g % 2 = 0 THEN 'yes' ELSE 'no' END, 'v', 's' FROM generate_series(1, 10) AS g $$) \g /dev/null
SELECT on_source(format('ALTER DATABASE %I SET search_path = lib, public', :'source_db')) \g /dev/null
SELECT roneo.create_dml('src', 'public.f', columns => '{id,v}', filter => 'wanted(state) AND id <> 7 -- not this') \g /dev/null
SELECT on_source(format('ALTER DATABASE %I RESET search_path', :'source_db')) \g /dev/null
SELECT is(shown('f'), '(10,v) (2,v) (4,v) (6,v) (8,v)', 'the rows that pass a filter, on a column that is not copied');
SELECT on_source($$ UPDATE f SET state = 'yes' WHERE id IN (1, 7); UPDATE f SET state = 'no' WHERE id = 2; UPDATE f SET v = 'w' WHERE id IN (3, 4); DELETE FROM f WHERE id = 5; UPDATE f SET id = 70 WHERE id = 6; INSERT INTO f VALUES (11, 'yes', 'v'), (12, 'no', 'v') $$) \g /dev/null
SELECT is(did('f'), 'ok +3 ~1 -2 =0', 'rows enter and leave it');
SELECT is(shown('f'), '(1,v) (10,v) (11,v) (4,w) (70,v) (8,v)', 'just so');
SELECT on_source('TRUNCATE f; INSERT INTO f VALUES (1, $$yes$$, $$z$$), (2, $$no$$, $$z$$)') \g /dev/null
SELECT did('f') \g /dev/null
SELECT is(shown('f'), '(1,z)', 'also after TRUNCATE');
SELECT throws_ok($$ SELECT roneo.create_dml('src', 'public.f', 'f2', columns => '{v}') $$, 'RO007', NULL, 'a list of columns without the key');
SELECT is(to_regclass('f2'), NULL, 'makes nothing');

-- Columns.
SELECT on_source($$ CREATE TABLE c (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 2) STORED, d text DEFAULT 'there'); INSERT INTO c (a) SELECT generate_series(1, 4) $$) \g /dev/null
SELECT roneo.create_dml('src', 'c') \g /dev/null
SELECT on_source('UPDATE c SET a = 10 WHERE id = 1; DELETE FROM c WHERE id = 2; INSERT INTO c (a) VALUES (5)') \g /dev/null
SELECT is(did('c'), 'ok +1 ~1 -1 =0', 'generated and identity columns');
SELECT ok(same('c'), 'are as there');
SELECT on_source('ALTER TABLE c ADD n int DEFAULT 7; UPDATE c SET a = 11 WHERE id = 1') \g /dev/null
SELECT is(did('c'), 'ok +0 ~1 -0 =0', 'a column that is new on the source is left out');
ALTER TABLE c ADD n int;
SELECT is(mode_of('c'), 'compare', 'until the table has it: then all rows are read for it');
SELECT is(did('c'), 'ok +0 ~4 -0 =0', 'and have its values');
SELECT ok(same('c'), 'all of them');
SELECT is(did('c'), 'unchanged', 'once');
SELECT on_source('ALTER TABLE c ADD m int DEFAULT 8') \g /dev/null
ALTER TABLE c ADD m int;
SELECT did('c') \g /dev/null
SELECT ok(same('c'), 'both at once');
SELECT on_source('ALTER TABLE c ALTER d TYPE text USING upper(d)') \g /dev/null
SELECT is(mode_of('c'), 'compare', 'values that ALTER TABLE changes, and no trigger sees');
SELECT did('c') \g /dev/null
SELECT ok(same('c'), 'are found all the same');
SELECT told('a', 'VACUUM FULL c') \g /dev/null
SELECT is(did('c'), 'unchanged', 'VACUUM FULL changes none');
SELECT on_source('ALTER TABLE c DROP n; ALTER TABLE c ADD n int DEFAULT 70') \g /dev/null
SELECT did('c') \g /dev/null
SELECT ok(same('c', NULL, 'id, a, n'), 'a column that was dropped and made again is another one');
SELECT on_source('ALTER TABLE c DROP m; UPDATE c SET a = 12') \g /dev/null
SELECT is(did('c'), 'failed RO015', 'a column that is gone from the source');
ALTER TABLE c DROP m;
SELECT is(did('c'), 'ok +0 ~4 -0 =0', 'goes here too');
SELECT on_source('ALTER TABLE c RENAME a TO b; UPDATE c SET b = 13 WHERE id = 1') \g /dev/null
SELECT is(did('c'), 'failed RO015', 'a renamed one');
ALTER TABLE c RENAME a TO b;
SELECT did('c') \g /dev/null
SELECT ok(same('c', NULL, 'id, b, n'), 'is renamed here');

-- The key: nobody changes it unnoticed.
SELECT on_source($$ CREATE TABLE key (id int PRIMARY KEY, v text); INSERT INTO key VALUES (1, 'a') $$) \g /dev/null
SELECT roneo.create_dml('src', 'key') \g /dev/null
SELECT is(code('ALTER TABLE key DROP id'), '2BP01', 'the key cannot be dropped');
SELECT is(code('ALTER TABLE key ALTER id TYPE bigint'), '0A000', 'nor have another type');
SELECT on_source('ALTER TABLE key RENAME id TO number') \g /dev/null
SELECT is(code($$ INSERT INTO key VALUES (2, 'b') $$), 'done', 'renamed, the application writes on');
SELECT is(did('key'), 'failed RO024', 'and the refresh fails');
SELECT matches(problem, 'key columns id were renamed', 'which says why') FROM roneo.captures('src') WHERE source_table = 'public.key';
SELECT ok(hint_of('key') ~ 'resync', 'with what to do');
SELECT roneo.drop_replica('key') \g /dev/null
SELECT is(code($$ UPDATE key SET v = 'c' WHERE number = 2 $$), 'done', 'nor does it matter that the replica is dropped');
ALTER TABLE key RENAME id TO number;
SELECT roneo.create_dml('src', 'key', 'key') \g /dev/null
SELECT ok(same('key'), 'and it is made again with the new name');
SELECT on_source('ALTER TABLE key RENAME number TO id') \g /dev/null
SELECT on_source('ALTER TABLE key RENAME id TO number; INSERT INTO key VALUES (3, $$c$$)') \g /dev/null
SELECT is(did('key'), 'ok +1 ~0 -0 =0', 'renamed back it was not away');

-- A destination with ideas of its own.
CREATE TABLE ideas (id int PRIMARY KEY, v text, noted text DEFAULT 'mine', CHECK (v <> 'bad'));
SELECT roneo.create_dml('src', 'key', 'swallows') \g /dev/null
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER swallow BEFORE INSERT ON swallows FOR EACH ROW EXECUTE FUNCTION swallow();
SELECT on_source($$ INSERT INTO key VALUES (4, 'd') $$) \g /dev/null
SELECT is(did('swallows'), 'failed RO014', 'a trigger that swallows rows is found out');
DROP TRIGGER swallow ON swallows;
SELECT is(did('swallows'), 'ok +1 ~0 -0 =0', 'and the position has not moved');
CREATE TRIGGER swallow BEFORE DELETE ON swallows FOR EACH ROW EXECUTE FUNCTION swallow();
SELECT on_source($$ DELETE FROM key WHERE number = 4 $$) \g /dev/null
SELECT is(did('swallows'), 'failed RO014', 'one that swallows deletions too');
DROP TRIGGER swallow ON swallows;
SELECT did('swallows') \g /dev/null
SELECT ok(same('key', 'swallows'), 'equal');
CREATE TABLE spread (number int, v text, extra int DEFAULT 5, PRIMARY KEY (number)) PARTITION BY HASH (number);
CREATE TABLE spread0 PARTITION OF spread FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE spread1 PARTITION OF spread FOR VALUES WITH (MODULUS 2, REMAINDER 1);
SELECT roneo.create_dml('src', 'key', 'spread') \g /dev/null
SELECT on_source($$ INSERT INTO key SELECT g, 'p' FROM generate_series(10, 20) AS g; UPDATE key SET v = 'q' WHERE number < 12; DELETE FROM key WHERE number = 2 $$) \g /dev/null
SELECT is(did('spread'), 'ok +11 ~2 -1 =0', 'a partitioned destination');
SELECT ok(same('key', 'spread', 'number, v'), 'is equal');
SELECT on_source('TRUNCATE key; INSERT INTO key VALUES (1, $$t$$)') \g /dev/null
SELECT did('spread') \g /dev/null
SELECT ok(same('key', 'spread', 'number, v'), 'also after TRUNCATE');
SELECT throws_ok($$ CREATE TABLE nokey (number int, v text); SELECT roneo.create_dml('src', 'key', 'nokey') $$, 'RO007', NULL, 'a table without a unique index is not adopted');

-- A filled table, compared or believed.
SELECT on_source($$ CREATE TABLE b (id int PRIMARY KEY, v text); INSERT INTO b SELECT g, 'v' FROM generate_series(1, 100) AS g $$) \g /dev/null
CREATE TABLE b AS SELECT g AS id, 'v' AS v FROM generate_series(1, 100) AS g;
ALTER TABLE b ADD PRIMARY KEY (id);
UPDATE b SET v = 'other' WHERE id = 5;
DELETE FROM b WHERE id = 6;
INSERT INTO b VALUES (999, 'mine');
CREATE TABLE b2 (LIKE b INCLUDING ALL);
INSERT INTO b2 SELECT * FROM b;
SELECT roneo.create_dml('src', 'b') \g /dev/null
SELECT row_eq($$ SELECT inserted, updated, deleted, unchanged FROM roneo.run WHERE dest = 'public.b' $$, ROW(1::bigint, 1::bigint, 1::bigint, 98::bigint), 'copy_data => true: what differs is mended');
SELECT ok(same('b'), 'and the table is equal');
SELECT roneo.create_dml('src', 'b', 'b2', copy_data => false) \g /dev/null
SELECT on_source($$ UPDATE b SET v = 'new' WHERE id = 7 $$) \g /dev/null
SELECT is(did('b2'), 'ok +0 ~1 -0 =0', 'copy_data => false: it is believed, and only changes come');
SELECT is((SELECT count(*) FROM b2 WHERE id IN (5, 999) AND v <> 'v'), 2::bigint, 'whatever it holds');
SELECT roneo.resync('b2') \g /dev/null
SELECT is(did('b2'), 'ok +1 ~1 -1 =98', 'until it is resynced');
SELECT roneo.create_dml('src', 'b', 'b3', copy_data => false) \g /dev/null
SELECT is(mode_of('b3'), 'load', 'one that was made and not filled is loaded by the first refresh');
SELECT is(did('b3'), 'ok +100 ~0 -0 =0', 'whole');

-- Where every row has changed several times over, all are read.
SELECT on_source($$ CREATE TABLE big (id int PRIMARY KEY, v int); INSERT INTO big SELECT g, 0 FROM generate_series(1, 4000) AS g $$) \g /dev/null
SELECT told('a', 'ANALYZE big') \g /dev/null
SELECT roneo.create_dml('src', 'big') \g /dev/null
SELECT on_source(format('UPDATE big SET v = %s', n)) FROM generate_series(1, 4) AS n \g /dev/null
SELECT is(mode_of('big'), 'replay', 'all rows, four times, are replayed');
SELECT on_source('UPDATE big SET v = v % 4 WHERE id <= 3000; DELETE FROM big WHERE id = 4000') \g /dev/null
SELECT is(mode_of('big'), 'compare', 'above that all rows are compared');
SELECT is(did('big'), 'ok +0 ~999 -1 =3000', 'with the same result');

-- Batches: whole transactions, in their order.
SELECT on_source($$ CREATE TABLE ba (id int PRIMARY KEY, v int) $$) \g /dev/null
SELECT roneo.create_dml('src', 'ba', batch_limit => 50) \g /dev/null
SELECT on_source(format('INSERT INTO ba SELECT g, %1$s FROM generate_series(%1$s * 100, %1$s * 100 + 29) AS g', n)) FROM generate_series(1, 5) AS n \g /dev/null
SELECT told('a', 'BEGIN; INSERT INTO ba VALUES (1, 1)') \g /dev/null
SELECT on_source('INSERT INTO ba SELECT g, 6 FROM generate_series(600, 799) AS g') \g /dev/null
CREATE TEMP TABLE went (nr serial, position pg_snapshot, more boolean, n bigint);
INSERT INTO went (more, n) SELECT u.has_more, u.inserted FROM roneo.refresh('ba') AS u;
UPDATE went SET position = (SELECT position FROM feed WHERE dest_name = 'ba') WHERE position IS NULL;
SELECT is((SELECT n FROM went), 60::bigint, 'a batch ends with the transaction in which it reaches its limit');
SELECT ok((SELECT more FROM went), 'and says that there is more');
DO $$ BEGIN
    FOR i IN 1 .. 10 LOOP
        EXIT WHEN (SELECT NOT more FROM went ORDER BY nr DESC LIMIT 1);
        INSERT INTO went (more, n) SELECT u.has_more, u.inserted FROM roneo.refresh('ba') AS u;
        UPDATE went SET position = (SELECT f.position FROM feed AS f WHERE dest_name = 'ba') WHERE position IS NULL;
    END LOOP;
END $$;
SELECT is((SELECT array_agg(n ORDER BY nr) FROM went), '{60,60,230}', 'a transaction that is larger comes whole');
SELECT is(did('ba'), 'unchanged', 'then nothing is left but what is open');
SELECT on_source(format('UPDATE ba SET v = 0 WHERE id BETWEEN %1$s * 100 AND %1$s * 100 + 29', n)) FROM generate_series(1, 3) AS n \g /dev/null
SELECT is(did('ba'), 'ok +0 ~60 -0 =0', 'a batch while an old transaction is open');
SELECT told('a', 'COMMIT') \g /dev/null
SELECT is(did('ba'), 'ok +1 ~30 -0 =0', 'which is not forgotten when it commits behind the position');
SELECT ok(same('ba'), 'all is there');
SELECT is((SELECT count(*) FROM went AS w JOIN went AS v ON v.nr = w.nr + 1
           WHERE pg_snapshot_xmax(v.position) < pg_snapshot_xmax(w.position)
              OR EXISTS (SELECT FROM pg_snapshot_xip(v.position) AS x WHERE pg_visible_in_snapshot(x, w.position))), 0::bigint, 'no position sees less than the one before');
SELECT on_source($$ INSERT INTO ba SELECT g, 7 FROM generate_series(1000, 1100) AS g $$), on_source('TRUNCATE ba'), on_source('INSERT INTO ba VALUES (9, 9)') \g /dev/null
SELECT did('ba') \g /dev/null
SELECT ok(same('ba'), 'TRUNCATE among them');

-- Transactions here.
SELECT on_source($$ CREATE TABLE tx (id int PRIMARY KEY, v text); INSERT INTO tx VALUES (1, 'a') $$) \g /dev/null
SELECT roneo.create_dml('src', 'tx') \g /dev/null
CREATE FUNCTION told_there() RETURNS text LANGUAGE sql RETURN source_value((SELECT format('SELECT position FROM roneo_capture.consumer WHERE consumer_id = %L', consumer_id) FROM feed WHERE dest_name = 'tx'));
SELECT on_source($$ UPDATE tx SET v = 'b' $$) \g /dev/null
SELECT position AS before FROM feed WHERE dest_name = 'tx' \gset
BEGIN;
SELECT is(did('tx'), 'ok +0 ~1 -0 =0', 'a refresh in a transaction');
SELECT on_source($$ INSERT INTO tx VALUES (2, 'c') $$) \g /dev/null
SELECT is(did('tx'), 'ok +1 ~0 -0 =0', 'and another one in it');
SELECT is(told_there(), :'before', 'of which the source does not hear');
ROLLBACK;
SELECT is(shown('tx'), '(1,a)', 'rolled back');
SELECT is(did('tx'), 'ok +1 ~1 -0 =0', 'nothing is lost');
SELECT ok(same('tx'), 'equal');
SELECT on_source($$ UPDATE tx SET v = 'd' $$) \g /dev/null
BEGIN;
SAVEPOINT s;
SELECT did('tx') \g /dev/null
ROLLBACK TO s;
SELECT is(did('tx'), 'ok +0 ~2 -0 =0', 'in a subtransaction that was rolled back');
COMMIT;
SELECT ok(same('tx'), 'equal too');
DO $$ BEGIN
    PERFORM on_source('UPDATE tx SET v = $x$e$x$');
    BEGIN
        PERFORM roneo.refresh('tx');
        RAISE 'undo';
    EXCEPTION WHEN raise_exception THEN
        NULL;
    END;
END $$;
SELECT is(did('tx'), 'ok +0 ~2 -0 =0', 'in a block that failed');
SELECT ok((SELECT f.position::text = told_there() OR f.written_by IS NOT NULL FROM feed AS f WHERE dest_name = 'tx'), 'the position is told later');
SELECT did('tx') \g /dev/null
SELECT is(told_there(), (SELECT position::text FROM feed WHERE dest_name = 'tx'), 'by the next refresh');
BEGIN;
SELECT roneo.create_dml('src', 'tx', 'tx2') \g /dev/null
ROLLBACK;
SELECT is((SELECT count(*) FROM roneo.captures('src') WHERE destination ~ 'tx2'), 1::bigint, 'a registration that was rolled back is left on the source, where roneo.captures shows it');
SELECT ok(roneo.expire_consumer('src', (SELECT consumer_id FROM roneo.captures('src') WHERE destination ~ 'tx2')), 'and expire_consumer ends it');
-- An open transaction that writes elsewhere holds up nobody.
SELECT on_source('CREATE TABLE elsewhere (id int); UPDATE tx SET v = $$f$$') \g /dev/null
SELECT told('a', 'BEGIN; INSERT INTO elsewhere VALUES (1)') \g /dev/null
SELECT is(did('tx'), 'ok +0 ~2 -0 =0', 'what others have written and not committed need not be on disk');
SELECT told('a', 'ROLLBACK') \g /dev/null
SELECT * FROM finish();
