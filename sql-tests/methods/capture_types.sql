-- To change the type of a captured column fails no write of the application, of no session, and is noticed.
\ir ../support/capture.sql
SELECT plan(61);
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
-- Columns, each with a value for the number %1$s before and after its type has changed. First those whose
-- type stays the same but for its length. (bit first: there is no value of it left that was deleted before.)
CREATE TEMP TABLE change (n int GENERATED ALWAYS AS IDENTITY, old_type text, new_type text, before text, after text, using_value text, noticed boolean DEFAULT true);
INSERT INTO change (old_type, new_type, before, after, noticed, using_value) VALUES
    ('bit(4)',       'bit(9)',        '''1010''',                 '''101010101''',                              false, '%I::bit(9)'),
    ('varchar(5)',   'varchar(20)',   '''a''',                    'repeat(''a'', 20)',                          false, NULL),
    ('char(4)',      'char(9)',       '''a''',                    'repeat(''a'', 9)',                           false, NULL),
    ('numeric(6,2)', 'numeric(12,4)', '1.25',                     '12345678.1234',                              false, NULL),
    ('varbit(4)',    'varbit(9)',     '''1''',                    '''101010101''',                              false, NULL),
    ('timestamp(0)', 'timestamp(6)',  '''2020-01-01 00:00:00''',  '''2020-01-01 00:00:00.123456''',             false, NULL),
    ('time(0)',      'time(6)',       '''01:00:00''',             '''01:00:00.123456''',                        false, NULL),
    ('interval day', 'interval',      '''1 day''',                '''1 day 00:00:01''',                         false, NULL),
    ('whole',        'integer',       '1',                        '-5',                                         false, NULL);
INSERT INTO change (old_type, new_type, before, after, using_value) VALUES
    ('smallint',     'integer',       '1',                        '70000',                                      NULL),
    ('integer',      'bigint',        '1',                        '5000000000',                                 NULL),
    ('integer',      'numeric',       '1',                        '1e30',                                       NULL),
    ('integer',      'text',          '1',                        '''one''',                                    NULL),
    ('integer',      'uuid',          '1',                        'md5(''1'')::uuid',                           'md5(%I::text)::uuid'),
    ('integer',      'whole',         '1',                        '1',                                          NULL),
    ('bigint',       'integer',       '1',                        '1',                                          NULL),
    ('varchar(5)',   'text',          '''a''',                    'repeat(''a'', 20)',                          NULL),
    ('char(4)',      'text',          '''a''',                    'repeat(''a'', 20)',                          NULL),
    ('real',         'float8',        '1.5',                      '1e300',                                      NULL),
    ('date',         'timestamptz',   '''2020-01-01''',           '''2020-01-01 12:00''',                       NULL),
    ('timestamp',    'timestamptz',   '''2020-01-01 12:00''',     '''2020-01-01 12:00''',                       NULL),
    ('text',         'integer',       '''1''',                    '12',                                         '1'),
    ('mood',         'text',          '''glad''',                 '''who knows''',                              NULL),
    ('integer[]',    'bigint[]',      '''{1}''',                  '''{5000000000}''',                           NULL),
    ('integer',      'integer[]',     '1',                        '''{1,2}''',                                  'ARRAY[%I]'),
    ('pair',         'text',          '''(1,2)''',                '''no pair''',                                NULL),
    ('int4range',    'int8range',     '''[1,2)''',                '''[1,5000000000)''',                         'int8range(lower(%I), upper(%I))');
CREATE DOMAIN whole AS integer CHECK (VALUE > 0) NOT NULL; CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TYPE pair AS (a int, b int);
SELECT on_source($$ CREATE DOMAIN whole AS integer CHECK (VALUE > 0) NOT NULL; CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TYPE pair AS (a int, b int) $$) \g /dev/null
CREATE FUNCTION work(relation text, first integer, changed integer) RETURNS text LANGUAGE sql STABLE
RETURN (SELECT format('INSERT INTO %1$I SELECT g, %2$s FROM generate_series(%3$s, %3$s + 99) AS g; UPDATE %1$I SET v = ''up'' WHERE id = %3$s; UPDATE %1$I SET id = %3$s + 900 WHERE id = %3$s; DELETE FROM %1$I WHERE id > %3$s AND id < %3$s + 9',
                      relation, string_agg(CASE WHEN c.n <= changed THEN c.after ELSE c.before END, ', ' ORDER BY c.n), first) FROM change AS c);
CREATE FUNCTION retyped(relation text, noticed boolean) RETURNS text LANGUAGE sql STABLE
RETURN (SELECT format('ALTER TABLE %I ', relation) || string_agg(format('ALTER %1$I TYPE %2$s%3$s', 'c' || c.n, c.new_type, format(' USING (' || replace(c.using_value, '%I', '%1$I') || ')', 'c' || c.n)), ', ')
        FROM change AS c WHERE c.noticed = retyped.noticed);
-- Changes the types there and here, and answers with how the application fares: a new session, and one that stays.
CREATE FUNCTION fares(relation text, noticed boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    changed integer := (SELECT max(c.n) FROM change AS c WHERE c.noticed = fares.noticed);
BEGIN
    PERFORM on_source(retyped(relation, noticed));
    EXECUTE retyped(relation, noticed);
    RETURN concat_ws(', ', code(work(relation, 1000 * changed, changed)), told_code(work(relation, 1000 * changed + 500, changed)));
END;
$$;
-- All columns are in the key, of row triggers; or their last values are kept.
CREATE TEMP TABLE way (name text, description text, kept text);
INSERT INTO way VALUES ('keyed', 'row triggers, keys', NULL), ('statement', 'statement triggers, last values', 'roneo_source_deleted'), ('row', 'row triggers, last values', 'roneo_source_deleted');
CREATE FUNCTION equal_now(w way) RETURNS boolean LANGUAGE sql
RETURN same(w.name, format('(SELECT * FROM %I%s)', w.name, ' WHERE ' || w.kept || ' IS NULL'), (SELECT 't.id, ' || string_agg('t.c' || c.n, ', ' ORDER BY c.n) || ', t.v' FROM change AS c));
SELECT on_source((SELECT format('CREATE TABLE %I (id int, %s, v text%s)', t.name, string_agg(format('c%s %s', c.n, c.old_type), ', ' ORDER BY c.n),
                                CASE WHEN t.name = 'keyed' THEN format(', PRIMARY KEY (id, %s)', string_agg(format('c%s', c.n), ', ' ORDER BY c.n)) ELSE ', PRIMARY KEY (id)' END) FROM change AS c))
FROM unnest('{keyed,statement,row}'::text[]) AS t (name) \g /dev/null
SELECT roneo.create_dml('src', 'keyed', capture_mode => 'row') \g /dev/null
SELECT roneo.create_logdel('src', x, capture_mode => x) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT is(told_code(work(w.name, 1, 0)), 'done', format('%s: the application works', w.description)) FROM way AS w;
SELECT did(w.name::regclass) FROM way AS w \g /dev/null

SELECT is(fares(w.name, false), 'done, done', format('%s: another length fails no write', w.description)) FROM way AS w;
SELECT is(queued(w.name::regclass, $$ op = 'r' $$), 0::bigint, format('%s: and leaves no mark', w.description)) FROM way AS w;
SELECT is(source_value(format($$ SELECT k.problem FROM roneo_capture.capture AS c, roneo_capture.problem(c) AS k (problem) WHERE c.relation = %L::regclass $$, w.name)), NULL, format('%s: it is no problem', w.description)) FROM way AS w;
SELECT matches(did(w.name::regclass), '^ok ', format('%s: the refresh', w.description)) FROM way AS w;
SELECT ok(equal_now(w), format('%s: brings the longer values', w.description)) FROM way AS w;

SELECT is(fares(w.name, true), 'done, done', format('%s: another type fails no write', w.description)) FROM way AS w;
SELECT cmp_ok(queued(w.name::regclass, $$ op = 'r' $$), '>', 0::bigint, format('%s: and leaves marks', w.description)) FROM way AS w;
SELECT is(did(w.name::regclass), 'failed RO024', format('%s: the refresh says so', w.description)) FROM way AS w;
SELECT roneo.resync(w.name::regclass) FROM way AS w \g /dev/null
SELECT is(mode_of(w.name::regclass), 'compare', format('%s: mended, all is compared', w.description)) FROM way AS w;
SELECT matches(did(w.name::regclass), '^ok ', format('%s: which', w.description)) FROM way AS w;
SELECT ok(equal_now(w), format('%s: finds everything', w.description)) FROM way AS w;
SELECT is(concat_ws(', ', code(work(w.name, 90000, 99)), told_code(work(w.name, 92000, 99))), 'done, done', format('%s: then', w.description)) FROM way AS w;
SELECT is(mode_of(w.name::regclass), 'replay', format('%s: it goes on', w.description)) FROM way AS w;
SELECT matches(did(w.name::regclass), '^ok \+184 ', format('%s: by keys', w.description)) FROM way AS w;
SELECT ok(equal_now(w), format('%s: as before', w.description)) FROM way AS w;
SELECT is(code('ALTER TABLE statement ALTER id TYPE bigint'), '0A000', 'a key of statement triggers, which name it in a condition, cannot be retyped');

-- A tree, one partition of which has its columns in another order. There and back, between two refreshes.
SELECT on_source($$ CREATE TABLE tree (id int, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part); CREATE TABLE tree_1 PARTITION OF tree FOR VALUES IN (1);
    CREATE TABLE tree_2 (v text, part int NOT NULL, id int NOT NULL); ALTER TABLE tree ATTACH PARTITION tree_2 FOR VALUES IN (2); INSERT INTO tree SELECT g, 1 + g % 2, 'a' FROM generate_series(1, 100) AS g $$) \g /dev/null
SELECT roneo.create_dml('src', 'tree') \g /dev/null
CREATE FUNCTION tree_work(first bigint) RETURNS text LANGUAGE sql
RETURN format('INSERT INTO tree SELECT %1$s + g, 1 + g %% 2, ''b'' FROM generate_series(1, 9) AS g; INSERT INTO tree_2 (id, part) VALUES (%1$s, 2); UPDATE tree SET v = ''up'' WHERE id > %1$s; UPDATE tree SET part = 2, id = id + 10 WHERE id = %1$s + 2; UPDATE tree_2 SET id = id + 20 WHERE id = %1$s + 3; DELETE FROM tree WHERE id IN (%1$s + 4, %1$s + 5)', first);
SELECT is(told_code(tree_work(1000)), 'done', 'partitions: the application works');
SELECT matches(did('tree'), '^ok ', 'and a refresh');
SELECT on_source('ALTER TABLE tree ALTER id TYPE bigint') \g /dev/null
SELECT is(code(tree_work(5000000000)), 'done', 'partitions: a larger type fails no write');
SELECT is(told_code(tree_work(6000000000)), 'done', 'nor one of a session that stays');
SELECT on_source('DELETE FROM tree WHERE id > 2000000000; ALTER TABLE tree ALTER id TYPE integer') \g /dev/null
SELECT is(concat_ws(', ', code(tree_work(3000)), told_code(tree_work(4000))), 'done, done', 'partitions: nor does the type that it had before');
SELECT is(mode_of('tree'), 'compare', 'all is compared');
SELECT matches(did('tree'), '^ok ', 'which');
SELECT ok(same('tree'), 'finds everything');
SELECT is(told_code(tree_work(2000)), 'done', 'then');
SELECT is(mode_of('tree'), 'replay', 'it goes on');
SELECT matches(did('tree'), '^ok ', 'by keys');
SELECT ok(same('tree'), 'as before');
SELECT * FROM finish();
