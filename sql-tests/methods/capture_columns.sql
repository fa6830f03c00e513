-- What is done to the columns of a captured table fails no write of the application, and is noticed.
\ir ../support/capture.sql
SELECT plan(49);
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
-- A session of the application that has written before, and stays.
SELECT dblink_connect('old', :'source_conninfo') \g /dev/null
CREATE FUNCTION told_code(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM dblink_exec('old', statement);
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END;
$$;
SELECT on_source(format($$ CREATE TABLE %1$I (id int, part int, v text, PRIMARY KEY (id, part)); INSERT INTO %1$I SELECT g, 0, 'a' FROM generate_series(1, 300) AS g $$, x)) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT roneo.create_dml('src', x, capture_mode => x) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
CREATE FUNCTION work(first integer, key text) RETURNS text LANGUAGE sql
RETURN format('INSERT INTO %%1$I VALUES (%1$s, 0, ''new''), (%2$s, 0, ''new''); UPDATE %%1$I SET v = ''up'' WHERE %4$I = %1$s; UPDATE %%1$I SET %4$I = %3$s WHERE %4$I = %1$s; DELETE FROM %%1$I WHERE %4$I = %2$s;
    INSERT INTO %%1$I SELECT g, 0, ''many'' FROM generate_series(%1$s + 10, %1$s + 209) AS g', first, first + 1, first + 2, key);
SELECT is(told_code(format(work(1000, 'id'), x)), 'done', format('%s triggers: the application works', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT did(x::regclass) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null

-- A column of the key is renamed.
SELECT on_source(format('ALTER TABLE %I RENAME id TO number', x)) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT is(code(format(work(2000, 'number'), x)), 'done', format('%s triggers: a key column that was renamed fails no write', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT is(told_code(format(work(3000, 'number'), x)), 'done', format('%s triggers: nor one of a session that wrote before', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT cmp_ok(queued(x::regclass, $$ op = 'r' $$), '>', 0::bigint, format('%s triggers: marks are left', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT is(did(x::regclass), 'failed RO024', format('%s triggers: the refresh says so', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT on_source(format('ALTER TABLE %I RENAME number TO id', x)) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT is(mode_of(x::regclass), 'compare', format('%s triggers: renamed back, all is compared', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT matches(did(x::regclass), '^ok ', format('%s triggers: which', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT ok(same(x), format('%s triggers: finds everything', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT is(did(x::regclass), 'unchanged', format('%s triggers: once', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT is(code(format(work(4000, 'id'), x)), 'done', format('%s triggers: then', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT is(told_code(format(work(5000, 'id'), x)), 'done', format('%s triggers: it', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT is(mode_of(x::regclass), 'replay', format('%s triggers: goes on', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT did(x::regclass) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT ok(same(x), format('%s triggers: as before', x)) FROM unnest('{statement,row}'::text[]) AS x;

-- It is dropped, with all that depends on it.
SELECT on_source(format('ALTER TABLE %I DROP id CASCADE', x)) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT is(code(format($$ INSERT INTO %1$I SELECT g, 'x' FROM generate_series(1, 200) AS g; UPDATE %1$I SET v = 'y'; DELETE FROM %1$I $$, x)), 'done', format('%s triggers: nor does a key column that was dropped', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT is(told_code(format($$ INSERT INTO %1$I SELECT g, 'x' FROM generate_series(1, 200) AS g; UPDATE %1$I SET v = 'y'; DELETE FROM %1$I $$, x)), 'done', format('%s triggers: for a session that stays', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT is(did(x::regclass), 'failed RO024', format('%s triggers: and the refresh fails', x)) FROM unnest('{statement,row}'::text[]) AS x;

-- Columns of which last values are kept.
SELECT on_source(format($$ CREATE TABLE %1$I (id int PRIMARY KEY, v text, w text, d date); INSERT INTO %1$I SELECT g, 'v' || g, 'w' || g, NULL FROM generate_series(1, 100) AS g $$, 'k_' || x)) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT roneo.create_logdel('src', 'k_' || x, columns => '{id,v,w}', capture_mode => x) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT told('old', format('DELETE FROM k_%s WHERE id = 1', x)) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT did(('k_' || x)::regclass) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT on_source(format('ALTER TABLE k_%s RENAME w TO w2', x)) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT is(code(format('DELETE FROM k_%s WHERE id = 2', x)), 'done', format('%s triggers: a kept column that was renamed fails no deletion', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT is(told_code(format('DELETE FROM k_%s WHERE id = 3', x)), 'done', format('%s triggers: nor one of a session that stays', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT on_source(format('ALTER TABLE k_%1$s RENAME w2 TO w; DELETE FROM k_%1$s WHERE id = 4', x)) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT did(('k_' || x)::regclass) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT is(shown(format('(SELECT * FROM k_%s WHERE roneo_source_deleted IS NOT NULL)', x), 'id, v, w'), '(1,v1,w1) (2,v2,w2) (3,v3,w3) (4,v4,w4)', format('%s triggers: renamed back, each has its record, with the values that were here', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT is((SELECT count(*) FROM k_statement) || ' ' || (SELECT count(*) FROM k_row), '100 100', 'and one record only');
SELECT on_source(format('ALTER TABLE k_%s DROP w', x)) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT is(code(format('DELETE FROM k_%s WHERE id = 5', x)), 'done', format('%s triggers: nor does one that was dropped', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT is(told_code(format('DELETE FROM k_%s WHERE id = 6', x)), 'done', format('%s triggers: for a session that stays', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT is(did(('k_' || x)::regclass), 'failed RO015', format('%s triggers: the refresh misses it', x)) FROM unnest('{statement,row}'::text[]) AS x;

-- Columns that are called like what the triggers' functions use.
SELECT on_source(format($$ CREATE TABLE %I (new int, old int, newt int, oldt int, n int, x int, r int, missing int, gone int, found int, k1 int, tg_op text, PRIMARY KEY (new, old, newt, oldt, n, x, r, missing, gone, found, k1)) $$, 'odd_' || x)) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT roneo.create_logdel('src', 'odd_' || x, capture_mode => x) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT on_source(format($$ INSERT INTO %1$I SELECT g, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 'op' FROM generate_series(1, 100) AS g; UPDATE %1$I SET tg_op = 'set' WHERE new = 1; UPDATE %1$I SET old = 22 WHERE new = 2; DELETE FROM %1$I WHERE new = 3 $$, 'odd_' || x)) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT is(did(('odd_' || x)::regclass), 'ok +99 ~0 -2 =0', format('%s triggers: any name of a column will do', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT ok(same('odd_' || x, format('(SELECT * FROM odd_%s WHERE roneo_source_deleted IS NULL)', x), 't.new, t.old, t.newt, t.oldt, t.n, t.x, t.r, t.missing, t.gone, t.found, t.k1, t.tg_op'), format('%s triggers: of the key too', x)) FROM unnest('{statement,row}'::text[]) AS x;
SELECT * FROM finish();
