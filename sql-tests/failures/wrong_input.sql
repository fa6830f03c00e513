-- Arguments that cannot work, and destinations that are gone: each is told by its code, and nothing is left of it.
SET client_min_messages = warning;
SELECT plan(160);

SELECT format('host=%s port=%s dbname=%s user=postgres', :'socket', :'port', :'dest_db') AS dest_conninfo \gset
SELECT on_source($$
    CREATE TABLE events (id int PRIMARY KEY, v text);
    INSERT INTO events VALUES (1, 'a'), (2, 'b'), (3, 'c');
    CREATE TABLE secret (id int);
    GRANT SELECT ON events TO reader;
    CREATE TABLE half (id int, hidden text);
    GRANT SELECT (id) ON half TO reader;
    CREATE SCHEMA closed; CREATE TABLE closed.t (id int);
    CREATE SCHEMA faraway; CREATE TABLE faraway.t (id int);
    CREATE SEQUENCE counter; CREATE INDEX by_v ON events (v); CREATE TYPE pair AS (a int, b int);
$$) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo'),
       roneo.create_source('limited', format('host=%s port=%s dbname=%s user=reader password=''reader secret''', :'socket', :'port', :'source_db')),
       roneo.create_source('refused', 'host=127.0.0.1 port=1 dbname=x user=x password=x connect_timeout=2'),
       roneo.create_source('nobody', format('host=%s port=%s dbname=%s user=nobody', :'socket', :'port', :'source_db')),
       roneo.create_source('wrong', format('host=%s port=%s dbname=%s user=reader password=wrong', :'socket', :'port', :'source_db')),
       roneo.create_source('self', :'dest_conninfo') \g /dev/null
CREATE TABLE a_table (id int PRIMARY KEY, v text);
CREATE TABLE needy (id int, needed int NOT NULL);
CREATE TABLE other (x int);
CREATE VIEW a_view AS SELECT 1 AS id;
CREATE MATERIALIZED VIEW a_matview AS SELECT 1 AS id;
CREATE SEQUENCE a_sequence;
CREATE TYPE a_type AS (id int);
CREATE TABLE referenced (id int PRIMARY KEY, v text);
CREATE TABLE referring (id int REFERENCES referenced);
SELECT roneo.create_snapshot('src', 'public.events', 'taken'), roneo.create_plain('src', 'public.events', 'taken_too') \g /dev/null

CREATE FUNCTION everything() RETURNS text LANGUAGE sql
RETURN (SELECT md5(concat(
    (SELECT string_agg(r::text, E'\n' ORDER BY replica_id) FROM roneo.replica AS r),
    (SELECT string_agg(r::text, E'\n' ORDER BY replica_id) FROM roneo.snapshot_replica AS r),
    (SELECT string_agg(r::text, E'\n' ORDER BY replica_id) FROM roneo.plain_replica AS r),
    (SELECT string_agg(r::text, E'\n' ORDER BY run_id) FROM roneo.run AS r),
    (SELECT string_agg(concat(c.oid, c.relname, c.relfilenode), E'\n' ORDER BY c.oid) FROM pg_class AS c
     WHERE c.relnamespace = 'public'::regnamespace))));
SELECT everything() AS before \gset

-- What create_snapshot and create_plain refuse alike.
CREATE TEMP TABLE wrong AS
SELECT code, arguments, what FROM (VALUES
    ('RO003', '''nothing'', ''events''',                 'a source that is not known'),
    ('RO003', 'NULL, ''events''',                        'no source'),
    ('RO004', '''src'', ''public.absent''',              'a table that the source lacks'),
    ('RO004', '''src'', ''absent.events''',              'a schema that the source lacks'),
    ('RO004', '''src'', ''"Events"''',                   'a name in the wrong case'),
    ('RO004', '''src'', ''counter''',                    'a sequence as source'),
    ('RO004', '''src'', ''by_v''',                       'an index as source'),
    ('RO004', '''src'', ''pair''',                       'a type as source'),
    ('RO006', '''src'', NULL',                           'no source table'),
    ('RO006', '''src'', ''''',                           'an empty name'),
    ('RO006', '''src'', ''a.b.c''',                      'a name of three parts'),
    ('RO006', '''src'', ''"open''',                      'an open quote'),
    ('RO006', '''src'', ''events; DROP TABLE events''',  'a statement for a name'),
    ('RO006', format('''src'', %L', repeat('x', 64)),    'a source name that is too long'),
    ('RO006', format('''src'', ''events'', %L', repeat('x', 64)), 'a name that is too long'),
    ('RO006', format('''src'', ''events'', %L', repeat('é', 32)), 'a name of too many bytes'),
    ('RO006', '''src'', ''events'', ''a.b.c''',          'a destination of three parts'),
    ('RO005', '''src'', ''events'', ''nowhere.events''', 'a schema that does not exist here'),
    ('RO005', '''src'', ''faraway.t''',                  'the source''s schema where it does not exist here'),
    ('RO005', '''src'', ''events'', ''a_view''',         'a destination that is a view'),
    ('RO005', '''src'', ''events'', ''a_matview''',      'a destination that is a materialized view'),
    ('RO005', '''src'', ''events'', ''a_sequence''',     'a destination that is a sequence'),
    ('RO005', '''src'', ''events'', ''a_type''',         'a destination that is a type'),
    ('RO005', '''src'', ''events'', ''a_table_pkey''',   'a destination that is an index'),
    ('RO005', '''src'', ''events'', ''taken''',          'a destination that is a snapshot'),
    ('RO005', '''src'', ''events'', ''taken_too''',      'a destination that is a plain replica'),
    ('RO005', '''src'', ''events'', ''taken_snap1''',    'a destination that is part of a snapshot'),
    ('RO005', '''self'', ''public.a_table''',            'a copy of itself'),
    ('RO005', '''self'', ''a_table'', ''a_table''',      'a copy of itself, by name'),
    ('RO007', '''src'', ''events'', ''d'', filter => ''id >''',        'half a filter'),
    ('RO007', '''src'', ''events'', ''d'', filter => ''''',            'an empty filter'),
    ('RO007', '''src'', ''events'', ''d'', filter => ''absent > 1''',  'a filter on a column that is not there'),
    ('RO007', '''src'', ''events'', ''d'', filter => ''id''',          'a filter that is no condition'),
    ('RO007', '''src'', ''events'', ''d'', filter => ''id > ''''x''''''', 'a filter with a value of another type'),
    ('RO007', '''src'', ''events'', ''d'', filter => ''count(*) > 1''', 'a filter with an aggregate'),
    ('RO007', '''src'', ''events'', ''d'', filter => ''WHERE id > 1''', 'a filter with the word WHERE'),
    ('RO007', '''src'', ''events'', ''d'', filter => ''id > 1)''',     'a filter with a parenthesis too many'),
    ('RO007', '''src'', ''events'', ''d'', filter => ''id > 1 /*''',   'a filter with an open comment'),
    ('RO007', '''src'', ''events'', ''d'', columns => ''{id,absent}''', 'a column that is not there'),
    ('RO007', '''src'', ''events'', ''d'', columns => ''{"\"v\""}''',  'a column with its quotes'),
    ('RO007', '''src'', ''events'', ''d'', columns => ''{}''',         'no column'),
    ('RO007', '''src'', ''events'', ''d'', columns => ''{NULL}''',     'a column without a name'),
    ('RO007', '''src'', ''events'', ''d'', refresh_every => ''-1 hour''', 'a negative interval'),
    ('RO007', '''src'', ''events'', ''d'', refresh_every => ''0''',    'no interval'),
    ('RO007', '''src'', ''events'', ''d'', refresh_every => ''1 month -40 days''', 'an interval below zero'),
    ('RO008', '''refused'', ''events''',                 'a host that nobody listens on'),
    ('RO008', '''nobody'', ''events''',                  'a role that does not exist'),
    ('RO008', '''wrong'', ''events''',                   'a wrong password'),
    ('RO009', '''limited'', ''secret''',                 'a table that may not be read'),
    ('RO009', '''limited'', ''half''',                   'a column that may not be read'),
    ('RO009', '''limited'', ''half'', ''d'', columns => ''{id,hidden}''', 'a column of the list that may not be read'),
    ('RO009', '''limited'', ''closed.t'', ''d''',        'a schema that may not be used')
) AS w (code, arguments, what);
SELECT throws_ok(format('SELECT roneo.%s(%s)', f, arguments), code, NULL, format('%s: %s', f, what))
FROM wrong, unnest(ARRAY['create_snapshot', 'create_plain']) AS f;

-- What only one of them refuses.
SELECT throws_ok(format('SELECT roneo.%s', call), code, NULL, what) FROM (VALUES
    ('RO005', $$ create_snapshot('src', 'events', 'a_table') $$, 'a snapshot makes its own view'),
    ('RO007', $$ create_snapshot('src', 'events', 'd', max_skip_age => '-1 day') $$, 'a negative max_skip_age'),
    ('RO007', $$ create_snapshot('src', 'events', 'd', max_skip_age => NULL) $$, 'no max_skip_age'),
    ('42601', $$ create_snapshot('src', 'events', 'd', post_script => 'no SQL') $$, 'a post_script that is no SQL'),
    ('RO015', $$ create_plain('src', 'events', 'needy') $$, 'a table with a column that the source cannot fill'),
    ('RO015', $$ create_plain('src', 'events', 'other') $$, 'a table that shares no column'),
    ('RO015', $$ create_plain('src', 'events', 'other', columns => '{id}') $$, 'a table without the columns asked for'),
    ('RO017', $$ create_plain('src', 'events', 'referenced') $$, 'a table that others reference'),
    ('RO007', $$ create_plain('src', 'events', 'd', sequences => '{a_sequence}') $$, 'a sequence of another table'),
    ('RO007', $$ create_plain('src', 'events', 'd', sequences => '{absent}') $$, 'a sequence that is not there'),
    ('RO001', $$ refresh('pg_class') $$, 'a table that is no replica is not refreshed'),
    ('RO001', $$ refresh('taken_snap1') $$, 'nor is a table behind a view'),
    ('RO001', $$ refresh(0::regclass) $$, 'nor one that does not exist'),
    ('RO001', $$ plan('a_table') $$, 'nor planned'),
    ('RO001', $$ drop_replica('a_table') $$, 'nor dropped')
) AS w (code, call, what);
CREATE TEMP TABLE passing (id int);
SELECT throws_ok($$ SELECT roneo.create_plain('src', 'events', 'pg_temp.passing') $$, 'RO005', NULL,
    'a table that ends with the session is no destination');
SELECT is(ARRAY(SELECT c FROM unnest(dblink_get_connections()) AS c WHERE c LIKE 'roneo%'), '{}', 'no connection is left of all that');
SELECT is(everything(), :'before', 'nothing has changed');

-- A source that cannot be reached is told to people.
CREATE FUNCTION told(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', SQLSTATE, message, detail, hint);
END;
$$;
SELECT alike(told($$ SELECT roneo.create_plain('refused', 'events') $$),
    E'RO008\nsource refused cannot be reached\n%onnection%refused%\nLook at the options of the foreign server roneo_refused %',
    'with the reason and a hint');
SELECT is(position('secret' IN told($$ SELECT roneo.create_plain('wrong', 'events') $$)), 0, 'and without a password');
SELECT alike(told($$ SELECT roneo.create_plain('src', 'events', 'd', filter => 'absent > 1') $$),
    E'RO007\nthe filter does not fit public.events: column "absent" does not exist\nFilter: absent > 1\n%',
    'what is wrong with a filter is told');

-- Filters that work.
SELECT roneo.create_plain('src', 'events', d, filter => f)
FROM (VALUES ('commented', 'id > 1 -- the first one is a test'), ('either', 'id = 1 OR id = 2'),
             ('percent', $$ v LIKE '%b' AND v <> '%s%I' $$)) AS c (d, f) \g /dev/null
SELECT results_eq('SELECT id FROM commented', 'VALUES (2), (3)', 'a comment swallows nothing');
SELECT results_eq('SELECT id FROM either', 'VALUES (1), (2)', 'an OR works');
SELECT results_eq('SELECT id FROM percent', 'VALUES (2)', 'a percent sign is nothing special');
SELECT alike(statement, E'%WHERE (id = 1 OR id = 2\n)', 'and stays between parentheses') FROM roneo.plan('either') WHERE kind = 'transfer';

-- A source that is no more what it was when the replica was made.
SELECT on_source('ALTER TABLE events RENAME TO gone') \g /dev/null
SELECT is(concat_ws(' ', u.outcome, u.sqlstate), 'failed RO004', format('a lost source table fails (%s)', d))
FROM unnest('{taken,taken_too}'::regclass[]) AS d, roneo.refresh(d) AS u;
SELECT is((SELECT count(*) FROM taken) + (SELECT count(*) FROM taken_too), 6::bigint, 'and its copies stay');
SELECT on_source('ALTER TABLE gone RENAME TO events; ALTER TABLE events ENABLE ROW LEVEL SECURITY') \g /dev/null
SELECT roneo.create_plain('limited', 'events', 'by_reader', copy_data => false) \g /dev/null
SELECT is(concat_ws(' ', u.outcome, u.sqlstate), 'failed RO009', 'rows that a policy hides are not left out silently')
FROM roneo.refresh('by_reader') AS u;
SELECT on_source('ALTER TABLE events DISABLE ROW LEVEL SECURITY; REVOKE SELECT ON events FROM reader') \g /dev/null
SELECT is(concat_ws(' ', u.outcome, u.sqlstate), 'failed RO009', 'a privilege that was taken back is missed') FROM roneo.refresh('by_reader') AS u;

-- Destinations that are gone.
SELECT 'taken'::regclass::oid AS taken, 'taken_too'::regclass::oid AS taken_too \gset
DROP VIEW taken;
DROP TABLE taken_too;
SELECT throws_ok(format('SELECT roneo.refresh(%s::regclass, raise_errors => true)', d), 'RO018', NULL, 'a destination that was dropped is missed')
FROM unnest(ARRAY[:taken, :taken_too]) AS d;
SELECT is(concat_ws(' ', u.outcome, u.sqlstate, u.message), 'failed RO018 the destination public.taken is gone', 'which is recorded')
FROM roneo.refresh(:taken::regclass) AS u;
SELECT set_eq($$ SELECT dest FROM roneo.status WHERE state = 'gone' AND alert = 'CRITICAL' $$,
    ARRAY['public.taken', 'public.taken_too'], 'and the status says so loudly');
SELECT lives_ok(format('SELECT roneo.drop_replica(%s)', d), 'it can be forgotten by its oid') FROM unnest(ARRAY[:taken, :taken_too]) AS d;
SELECT is_empty($$ SELECT * FROM roneo.status WHERE state = 'gone' $$, 'and is');
SELECT is(to_regclass('taken_snap1'), NULL, 'with its hidden table') WHERE to_regclass('taken_snap2') IS NOT NULL
UNION ALL SELECT is(to_regclass('taken_snap2'), NULL, 'with its hidden table') WHERE to_regclass('taken_snap1') IS NOT NULL;
SELECT roneo.create_snapshot('src', 'events', 'again') \g /dev/null
ALTER TABLE again_snap1 RENAME TO elsewhere;
SELECT throws_ok($$ SELECT roneo.refresh('again', raise_errors => true, force => true) $$, 'RO018', NULL, 'so is a table behind a view');
ALTER TABLE elsewhere RENAME TO again_snap1;
SELECT is((roneo.refresh('again', force => true)).outcome, 'ok', 'until it is back');

-- drop_replica.
SELECT roneo.create_snapshot('src', 'events', 'leaving'), roneo.create_plain('src', 'events', 'leaving_too') \g /dev/null
SELECT count(*) AS runs FROM roneo.run \gset
SELECT lives_ok(format('SELECT roneo.drop_replica(%L)', d), 'a replica is dropped') FROM unnest(ARRAY['again', 'either']) AS d;
SELECT is((SELECT count(*) FROM again), 3::bigint, 'the view stays, with its rows');
SELECT is((SELECT count(*) FROM either), 2::bigint, 'and so does the table');
SELECT is((SELECT count(*) FROM pg_class WHERE relname IN ('again_snap1', 'again_snap2')), 1::bigint, 'what only refreshes need goes');
CREATE VIEW on_them AS SELECT FROM leaving, leaving_too;
SELECT everything() AS before \gset
SELECT throws_ok(format('SELECT roneo.drop_replica(%L, keep_table => false)', d), '2BP01', NULL, 'what others depend on is not dropped')
FROM unnest(ARRAY['leaving', 'leaving_too']) AS d;
SELECT is(everything(), :'before', 'and nothing else then');
DROP VIEW on_them;
SELECT lives_ok(format('SELECT roneo.drop_replica(%L, keep_table => false)', d), 'a replica is dropped with its rows')
FROM unnest(ARRAY['leaving', 'leaving_too']) AS d;
SELECT is_empty($$ SELECT relname FROM pg_class WHERE relname LIKE 'leaving%' $$, 'nothing of it stays');
SELECT is((SELECT count(*) FROM roneo.run), :runs::bigint, 'but the history');
SELECT is((SELECT count(*) FROM roneo.snapshot_replica) + (SELECT count(*) FROM roneo.plain_replica),
    (SELECT count(*) FROM roneo.replica), 'and no row of a method');
SELECT throws_ok($$ SELECT roneo.create_snapshot('src', 'events', 'again') $$, 'RO005', NULL, 'a view that was kept is nobody''s now');
SELECT lives_ok($$ SELECT roneo.create_plain('src', 'events', 'either') $$, 'a table that was kept can be adopted');
SELECT throws_ok($$ SELECT roneo.drop_source('src') $$, '2BP01', NULL, 'a source in use is not dropped');
