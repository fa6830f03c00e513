-- The cases of changes, through refreshes of a dml replica: \set mode statement or row.
SELECT on_source(format('CREATE SCHEMA %1$I; ALTER DATABASE %2$I SET search_path = %1$I, public', :'mode', :'source_db')) \g /dev/null
CREATE SCHEMA :"mode";
SET search_path = :"mode", public, pg_catalog;
SELECT * FROM diag(format('capture_mode %s', :'mode'));

SELECT on_source($$ CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'a' FROM generate_series(1, 200) AS g $$) \g /dev/null
SELECT roneo.create_dml('src', 't', capture_mode => :'mode') \g /dev/null
SELECT ok(same('t'), 'the first copy');
SELECT is(source_value($$ SELECT row_level::text FROM roneo_capture.capture WHERE relation = 't'::regclass $$), (:'mode' = 'row')::text, 'the triggers are those that were asked for');
SELECT is(did('t'), 'unchanged', 'nothing new');
SELECT on_source($$ INSERT INTO t VALUES (1001, 'n'); UPDATE t SET v = 'u' WHERE id < 10; DELETE FROM t WHERE id = 50 $$) \g /dev/null
SELECT is(did('t'), 'ok +1 ~9 -1 =0', 'insert, update, delete');
SELECT ok(same('t'), 'are there');
SELECT is(did('t'), 'unchanged', 'once');
SELECT on_source($$ UPDATE t SET v = v WHERE id < 4; UPDATE t SET v = 'x' WHERE id = 5; UPDATE t SET v = 'u' WHERE id = 5; INSERT INTO t VALUES (1002, 'short'); DELETE FROM t WHERE id = 1002 $$) \g /dev/null
SELECT is(did('t'), 'ok +0 ~0 -0 =4', 'what is as before in the end writes nothing');

-- A transaction that is still open.
SELECT told('a', $$ BEGIN; UPDATE t SET v = 'late' WHERE id = 20 $$) \g /dev/null
SELECT on_source($$ UPDATE t SET v = 'early' WHERE id = 21 $$) \g /dev/null
SELECT is(did('t'), 'ok +0 ~1 -0 =0', 'what committed first, though it began last');
SELECT is(did('t'), 'unchanged', 'the open one waits');
SELECT told('a', 'COMMIT') \g /dev/null
SELECT is(did('t'), 'ok +0 ~1 -0 =0', 'and comes when it commits, alone');
SELECT told('a', $$ BEGIN; UPDATE t SET v = 'never' WHERE id < 100; ROLLBACK $$) \g /dev/null
SELECT is(did('t'), 'unchanged', 'what was rolled back left nothing');
SELECT told('a', $$ BEGIN; SAVEPOINT x; UPDATE t SET v = 'no' WHERE id = 30; ROLLBACK TO x; SAVEPOINT y; UPDATE t SET v = 'yes' WHERE id = 31; RELEASE y; DELETE FROM t WHERE id = 32 $$) \g /dev/null
SELECT on_source($$ INSERT INTO t VALUES (1003, 'other') $$) \g /dev/null
SELECT is(did('t'), 'ok +1 ~0 -0 =0', 'while savepoints are open');
SELECT told('a', 'COMMIT') \g /dev/null
SELECT is(did('t'), 'ok +0 ~1 -1 =0', 'what they left');
SELECT ok(same('t'), 'no more and no less');
SELECT on_source($$ DO $do$ BEGIN BEGIN UPDATE t SET v = 'gone' WHERE id = 33; RAISE 'x'; EXCEPTION WHEN OTHERS THEN UPDATE t SET v = 'kept' WHERE id = 34; END; END $do$ $$) \g /dev/null
SELECT is(did('t'), 'ok +0 ~1 -0 =0', 'subtransactions of a block');

-- Keys that change.
SELECT on_source('UPDATE t SET id = 5000 WHERE id = 40') \g /dev/null
SELECT is(did('t'), 'ok +1 ~0 -1 =0', 'a key that changes is the one and the other');
SELECT on_source('UPDATE t SET id = -1 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2; UPDATE t SET id = 2 WHERE id = -1') \g /dev/null
SELECT is(did('t'), 'ok +0 ~0 -0 =2', 'keys that are swapped: -1 came and went, the rows look the same');
SELECT on_source($$ UPDATE t SET v = id::text; UPDATE t SET id = -1 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2; UPDATE t SET id = 2 WHERE id = -1 $$) \g /dev/null
SELECT did('t') \g /dev/null
SELECT is((SELECT array_agg(v ORDER BY id) FROM t WHERE id < 3), '{2,1}', 'and here they do not');
SELECT on_source('UPDATE t SET id = id + 100000') \g /dev/null
SELECT did('t') \g /dev/null
SELECT ok(same('t'), 'every key shifted');
SELECT on_source('ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id) DEFERRABLE; UPDATE t SET id = id + 1; ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id)') \g /dev/null
SELECT did('t') \g /dev/null
SELECT ok(same('t'), 'every key the next one''s, in one statement');
SELECT on_source($$ CREATE FUNCTION shift() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN IF NEW.v = 'shift' THEN NEW.id := NEW.id + 1; END IF; RETURN NEW; END $f$;
    CREATE TRIGGER shift BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION shift(); UPDATE t SET v = 'shift' WHERE id = (SELECT max(id) FROM t) $$) \g /dev/null
SELECT is(did('t'), 'ok +1 ~0 -1 =0', 'a key that a trigger changes, unnamed in the statement');
SELECT on_source('DROP TRIGGER shift ON t') \g /dev/null
SELECT ok(same('t'), 'is followed');

-- Statements that do several things.
SELECT on_source($$ DELETE FROM t; INSERT INTO t SELECT g, 'base' FROM generate_series(1, 500) AS g $$) \g /dev/null
SELECT did('t') \g /dev/null
SELECT on_source($$ INSERT INTO t SELECT g, 'oc' FROM generate_series(491, 510) AS g ON CONFLICT (id) DO UPDATE SET v = excluded.v $$) \g /dev/null
SELECT is(did('t'), 'ok +10 ~10 -0 =0', 'INSERT ON CONFLICT DO UPDATE');
SELECT on_source($$ INSERT INTO t VALUES (1, 'zz'), (900, 'new') ON CONFLICT DO NOTHING $$) \g /dev/null
SELECT is(did('t'), 'ok +1 ~0 -0 =0', 'INSERT ON CONFLICT DO NOTHING');
SELECT on_source($$ INSERT INTO t VALUES (1, 'moved') ON CONFLICT (id) DO UPDATE SET id = 901 $$) \g /dev/null
SELECT is(did('t'), 'ok +1 ~0 -1 =0', 'ON CONFLICT that changes the key');
SELECT source_value('SHOW server_version_num')::int >= 150000 AS has_merge \gset
\if :has_merge
SELECT on_source($$ MERGE INTO t USING (SELECT g FROM generate_series(400, 600) AS g) AS s ON t.id = s.g WHEN MATCHED AND g % 3 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 'm' WHEN NOT MATCHED THEN INSERT VALUES (g, 'mi') $$) \g /dev/null
SELECT is(did('t'), 'ok +90 ~74 -37 =0', 'MERGE inserts, updates and deletes');
\else
SELECT skip('no MERGE before 15');
\endif
SELECT ok(same('t'), 'all as there');
SELECT on_source($$ INSERT INTO t SELECT g, 'bulk' FROM generate_series(200001, 203000) AS g $$) \g /dev/null
SELECT is(queued('t', 'p1 IS NOT NULL') > 0, :'mode' = 'statement', 'many keys are packed by statement triggers');
SELECT is(did('t'), 'ok +3000 ~0 -0 =0', 'and all of them are found');
SELECT on_source($$ UPDATE t SET v = 'b2' WHERE id >= 201001; DELETE FROM t WHERE id BETWEEN 200500 AND 201500 $$) \g /dev/null
SELECT is(did('t'), 'ok +0 ~1500 -1001 =0', 'also updated and deleted ones');
SELECT on_source(format('INSERT INTO t SELECT g, ''edge'' FROM generate_series(%s, %s) AS g', n * 10000 + 300000, n * 10000 + 300000 + n - 1)) FROM unnest(ARRAY[63, 64, 65, 66, 563, 564, 565, 1064]) AS n \g /dev/null
SELECT is(did('t'), 'ok +3014 ~0 -0 =0', 'none is lost or doubled at the edges of the arrays');
SELECT on_source($$ WITH a AS (UPDATE t SET v = 'cte' WHERE id = 200001), b AS (DELETE FROM t WHERE id = 200002) INSERT INTO t VALUES (7777, 'cte') $$) \g /dev/null
SELECT is(did('t'), 'ok +1 ~1 -1 =0', 'data-modifying CTEs');
SELECT told('a', format('COPY t FROM PROGRAM %L', 'printf "8001\tx\n8002\ty\n"')) \g /dev/null
SELECT is(did('t'), 'ok +2 ~0 -0 =0', 'COPY');

-- TRUNCATE.
SELECT told('a', 'BEGIN; TRUNCATE t; ROLLBACK') \g /dev/null
SELECT is(did('t'), 'unchanged', 'a TRUNCATE that was rolled back');
SELECT on_source($$ BEGIN; INSERT INTO t VALUES (-5, 'before'); TRUNCATE t; INSERT INTO t VALUES (2, 'after'), (7777, 'cte'); COMMIT $$) \g /dev/null
SELECT is(mode_of('t'), 'compare', 'after TRUNCATE the table is compared');
SELECT did('t') \g /dev/null
SELECT is(shown('t'), '(2,after) (7777,cte)', 'it took all, and what came after it is there');
SELECT on_source('TRUNCATE t') \g /dev/null
SELECT is(did('t'), 'ok +0 ~0 -2 =0', 'TRUNCATE alone');
SELECT is(shown('t'), NULL, 'leaves nothing');
SELECT is(did('t'), 'unchanged', 'once');

-- Who writes, and how it commits.
SELECT told('a', $$ SET session_replication_role = replica; INSERT INTO t VALUES (3, 'rep'); UPDATE t SET id = 4 WHERE id = 3; INSERT INTO t VALUES (5, 'x'); DELETE FROM t WHERE id = 5 $$) \g /dev/null
SELECT is(did('t'), 'ok +1 ~0 -0 =0', 'session_replication_role hides nothing');
SELECT told('a', $$ TRUNCATE t; RESET session_replication_role $$) \g /dev/null
SELECT is(did('t'), 'ok +0 ~0 -1 =0', 'nor TRUNCATE');
SELECT told('a', format($$ BEGIN; INSERT INTO t VALUES (77, '2pc'); PREPARE TRANSACTION '%s' $$, :'dest_db')) \g /dev/null
SELECT on_source($$ INSERT INTO t VALUES (78, 'x') $$) \g /dev/null
SELECT is(did('t'), 'ok +1 ~0 -0 =0', 'while a transaction is prepared');
SELECT told('a', format('COMMIT PREPARED %L', :'dest_db')) \g /dev/null
SELECT is(did('t'), 'ok +1 ~0 -0 =0', 'and when it is committed');
SELECT told('a', 'BEGIN; UPDATE t SET v = $$none$$ WHERE false; DELETE FROM t WHERE false; INSERT INTO t SELECT 1, $$x$$ WHERE false') \g /dev/null
SELECT is((SELECT x FROM dblink('a', 'SELECT pg_current_xact_id_if_assigned()::text') AS q (x text)), NULL, 'statements that change nothing get no transaction id');
SELECT told('a', 'COMMIT') \g /dev/null

-- What foreign keys do by themselves.
SELECT on_source($$ CREATE TABLE par (id int PRIMARY KEY); CREATE TABLE chi (id int PRIMARY KEY, p int REFERENCES par ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE nul (id int PRIMARY KEY, p int REFERENCES par ON DELETE SET NULL ON UPDATE SET NULL); CREATE TABLE gch (id int PRIMARY KEY, c int REFERENCES chi ON DELETE CASCADE);
    INSERT INTO par SELECT generate_series(1, 50); INSERT INTO chi SELECT g, 1 + g % 50 FROM generate_series(1, 500) AS g;
    INSERT INTO nul SELECT g, 1 + g % 50 FROM generate_series(1, 100) AS g; INSERT INTO gch SELECT g, 1 + g % 500 FROM generate_series(1, 2000) AS g $$) \g /dev/null
SELECT roneo.create_dml('src', x, capture_mode => :'mode') FROM unnest('{par,chi,nul,gch}'::text[]) AS x \g /dev/null
SELECT on_source('DELETE FROM par WHERE id <= 10; UPDATE par SET id = id + 1000 WHERE id > 40') \g /dev/null
SELECT did(x::regclass) FROM unnest('{par,chi,nul,gch}'::text[]) AS x \g /dev/null
SELECT ok(same(x), format('what cascades reaches %s', x)) FROM unnest('{par,chi,nul,gch}'::text[]) AS x;

-- Names, and keys of several columns.
SELECT on_source($$ CREATE TABLE "Odd %% Täb""le's" ("a ""b" text, "NEW" date, "oldt.x" int, newt int DEFAULT 1, "k1" int DEFAULT 2, xid text, n text, part int, PRIMARY KEY ("NEW", "a ""b", newt, k1));
    INSERT INTO "Odd %% Täb""le's" ("a ""b", "NEW", "oldt.x") SELECT g, date '2026-01-01' + g, 1 FROM generate_series(1, 10) AS g $$) \g /dev/null
SELECT roneo.create_dml('src', $$ "Odd %% Täb""le's" $$, capture_mode => :'mode') AS odd \gset
SELECT on_source($$ INSERT INTO "Odd %% Täb""le's" ("a ""b", "NEW", "oldt.x") SELECT g || '''ü"\', date '2026-01-01' + g, 1 FROM generate_series(1, 200) AS g; UPDATE "Odd %% Täb""le's" SET "NEW" = "NEW" + 1000, n = 'ß' WHERE "a ""b" = '5';
    DELETE FROM "Odd %% Täb""le's" WHERE "a ""b" = '6' $$) \g /dev/null
SELECT is(did(:'odd'), 'ok +201 ~0 -2 =0', 'odd names, four key columns, many rows');
SELECT ok(same($$ "Odd %% Täb""le's" $$), 'all of them');
SELECT on_source($$ TRUNCATE "Odd %% Täb""le's" $$) \g /dev/null
SELECT is(did(:'odd'), 'ok +0 ~0 -209 =0', 'truncated');
SELECT on_source($$ CREATE TABLE only_key (a int, b text, PRIMARY KEY (a, b)); INSERT INTO only_key SELECT g, g FROM generate_series(1, 5) AS g $$) \g /dev/null
SELECT roneo.create_dml('src', 'only_key', capture_mode => :'mode') \g /dev/null
SELECT on_source($$ UPDATE only_key SET b = 'x' WHERE a = 1; DELETE FROM only_key WHERE a = 2; INSERT INTO only_key VALUES (9, 'y'); UPDATE only_key SET a = a WHERE a = 3 $$) \g /dev/null
SELECT is(did('only_key'), 'ok +2 ~0 -2 =1', 'a table that is all key');
SELECT ok(same('only_key'), 'is the same');

-- Types of keys. value: SQL for the nth one, which differ.
CREATE FUNCTION keyed(type text, value text, mode text, OUT line text) LANGUAGE plpgsql AS $$
DECLARE
    name text := format('k%s', md5(type));
BEGIN
    PERFORM on_source(format('CREATE TABLE %1$I (k %2$s PRIMARY KEY, v int); INSERT INTO %1$I SELECT %3$s, 0 FROM generate_series(1, 200) AS n', name, type, value));
    PERFORM roneo.create_dml('src', name, capture_mode => mode);
    PERFORM on_source(format('INSERT INTO %1$I SELECT %2$s, 0 FROM generate_series(201, 400) AS n; UPDATE %1$I SET v = 1 WHERE k IN (SELECT %2$s FROM generate_series(50, 250) AS n);
        DELETE FROM %1$I WHERE k IN (SELECT %2$s FROM generate_series(100, 220) AS n); INSERT INTO %1$I SELECT %2$s, 5 FROM generate_series(401, 401) AS n;
        DELETE FROM %1$I WHERE k IN (SELECT %2$s FROM generate_series(3, 3) AS n); UPDATE %1$I SET k = (SELECT %2$s FROM generate_series(500, 500) AS n) WHERE k IN (SELECT %2$s FROM generate_series(4, 4) AS n)', name, value));
    line := is(concat_ws(' ', (SELECT u.outcome || coalesce(u.message, '') FROM roneo.refresh(format('%I.%I', mode, name)::regclass) AS u), same(name)), 'ok t', format('a key of type %s', type));
    PERFORM on_source(format('TRUNCATE %I', name));
    PERFORM roneo.refresh(format('%I.%I', mode, name)::regclass, raise_errors => true);
    PERFORM roneo.drop_replica(format('%I.%I', mode, name)::regclass, false);
EXCEPTION WHEN OTHERS THEN
    line := concat_ws(E'\n', fail(format('a key of type %s', type)), diag(SQLERRM));
END;
$$;
SELECT keyed(t.type, t.value, :'mode')
FROM (VALUES ('bigint', 'n * 10000000000'), ('text', 'concat(''t%'', n)'), ('uuid', 'md5(n::text)::uuid'), ('numeric', 'n / 100.0'), ('double precision', 'n::float8 / 3'),
    ('date', 'date ''2020-01-01'' + n'), ('timestamptz', 'timestamptz ''2020-03-28'' + make_interval(mins => n)'), ('bytea', 'decode(lpad(to_hex(n), 8, ''0''), ''hex'')'),
    ('varchar(8)', 'n::text'), ('char(8)', 'n::text'), ('bit(16)', 'n::bit(16)'), ('interval', 'make_interval(mins => n)'), ('inet', '''10.0.0.0''::inet + n'), ('jsonb', 'to_jsonb(n)'),
    ('int4range', 'int4range(n, n + 1)'), ('int[]', 'ARRAY[n, n + 1, NULL]'), ('text[]', 'ARRAY[n::text, ''a,b"'']'), ('name', 'n::text::name'),
    ('public.citext', 'concat(''T'', n)'), ('far.positive', 'n'), ('far.large', 'n'), ('far.ints', 'ARRAY[n, n]'), ('far.email', 'concat(''T'', n)'), ('far.twice_email', 'concat(''T'', n)'),
    ('far.pair', 'ROW(n, n::text)::far.pair'), ('text COLLATE far.blind', 'concat(''T'', n)')) AS t (type, value);
SELECT on_source(format('CREATE TABLE moods (k far.mood PRIMARY KEY, v int); INSERT INTO moods VALUES (''sad'', 1), (''it''''s'', 2)')) \g /dev/null
SELECT roneo.create_dml('src', 'moods', capture_mode => :'mode') \g /dev/null
SELECT on_source($$ UPDATE moods SET v = 3 WHERE k = 'sad'; DELETE FROM moods WHERE k = 'it''s'; INSERT INTO moods VALUES ('', 0) $$) \g /dev/null
SELECT is(did('moods'), 'ok +1 ~1 -1 =0', 'a key that is an enum');

SELECT on_source($$ CREATE TABLE doms (id int PRIMARY KEY, p far.positive, c far.code, m far.email, a far.ints, s far.positive[]); INSERT INTO doms SELECT g, g, 'a' || g, 'M', ARRAY[g], ARRAY[g]::far.positive[] FROM generate_series(1, 5) AS g $$) \g /dev/null
SELECT roneo.create_dml('src', 'doms', capture_mode => :'mode') \g /dev/null
SELECT on_source($$ DELETE FROM doms WHERE id = 1; UPDATE doms SET p = 9, c = 'zz', m = 'n' WHERE id = 2 $$) \g /dev/null
SELECT is(did('doms'), 'ok +0 ~1 -1 =0', 'a row that goes has no values, whatever a domain says');
SELECT ok(same('doms'), 'the others have theirs');
CREATE UNIQUE INDEX ON doms (c);
SELECT roneo.resync('doms') \g /dev/null
SELECT is(did('doms'), 'ok +0 ~0 -0 =4', 'domains compared');
SELECT on_source($$ UPDATE doms SET c = 'tmp' WHERE id = 3; UPDATE doms SET c = 'a3' WHERE id = 4; UPDATE doms SET c = 'a4' WHERE id = 3 $$) \g /dev/null
SELECT did('doms') \g /dev/null
SELECT ok(same('doms'), 'and with values that are swapped');

-- Equal, but not the same.
SELECT on_source($$ CREATE TABLE ci (k public.citext PRIMARY KEY, v int); INSERT INTO ci VALUES ('Foo', 1), ('bar', 2), ('Gone', 3); CREATE TABLE nu (k numeric PRIMARY KEY, v int); INSERT INTO nu VALUES (1.0, 1), (2.00, 2), (3, 3);
    CREATE TABLE bl (k text COLLATE far.blind PRIMARY KEY, v int); INSERT INTO bl VALUES ('Foo', 1), ('bar', 2), ('Gone', 3); CREATE TABLE fl (k float8 PRIMARY KEY, v int); INSERT INTO fl VALUES (0, 1), (1, 1) $$) \g /dev/null
SELECT roneo.create_dml('src', x, capture_mode => :'mode') FROM unnest('{ci,nu,bl,fl}'::text[]) AS x \g /dev/null
SELECT on_source($$ UPDATE ci SET k = 'FOO' WHERE k = 'foo'; UPDATE ci SET v = 7 WHERE k = 'BAR'; UPDATE ci SET k = 'bAR' WHERE k = 'BAR'; UPDATE ci SET k = 'gONE' WHERE k = 'gone'; DELETE FROM ci WHERE k = 'gone';
    UPDATE nu SET k = 1.00 WHERE k = 1; UPDATE nu SET k = 2.000, v = 7 WHERE k = 2; UPDATE nu SET k = 3.0 WHERE k = 3; DELETE FROM nu WHERE k = 3;
    UPDATE bl SET k = 'FOO' WHERE k = 'foo'; UPDATE bl SET v = 7 WHERE k = 'BAR'; UPDATE bl SET k = 'bAR' WHERE k = 'BAR'; UPDATE bl SET k = 'gONE' WHERE k = 'gone'; DELETE FROM bl WHERE k = 'gone';
    UPDATE fl SET k = '-0' WHERE k = 0 $$) \g /dev/null
SELECT is(did('ci'), 'ok +0 ~2 -1 =0', 'citext: letters in another case are an update');
SELECT ok(same('ci'), 'to the letter');
SELECT is(did('nu'), 'ok +0 ~2 -1 =0', 'numeric: more zeros are an update');
SELECT ok(same('nu'), 'to the digit');
SELECT is(did('bl'), 'ok +0 ~2 -1 =0', 'a nondeterministic collation');
SELECT ok(same('bl'), 'to the letter');
SELECT is(did('fl'), 'ok +0 ~1 -0 =0', 'minus zero');
SELECT on_source($$ DELETE FROM ci; INSERT INTO ci VALUES ('fOO', 1), ('bar', 7); DELETE FROM bl; INSERT INTO bl VALUES ('fOO', 1), ('bar', 7) $$) \g /dev/null
SELECT is(did('ci'), 'ok +0 ~2 -0 =0', 'gone and come again in other letters');
SELECT is(did('bl'), 'ok +0 ~2 -0 =0', 'by collation too');
