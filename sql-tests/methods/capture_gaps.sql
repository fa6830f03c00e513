-- Where changes cannot have been recorded, a refresh says so, and never goes on as if nothing were.
\ir ../support/capture.sql
SELECT plan(42);
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT dblink_connect('a', :'source_conninfo') \g /dev/null
CREATE FUNCTION said(dest text) RETURNS text LANGUAGE sql RETURN (SELECT message FROM roneo.run AS u WHERE u.dest = format('public.%s', $1) ORDER BY run_id DESC LIMIT 1);
SELECT on_source($$ CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'a' FROM generate_series(1, 10) AS g $$) \g /dev/null
SELECT roneo.create_dml('src', 't') \g /dev/null
CREATE FUNCTION mended(description text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM roneo.resync('t');
    RETURN NEXT is((roneo.refresh('t')).outcome, 'ok', concat(description, ': resync mends it'));
    RETURN NEXT ok(same('t'), concat(description, ': and all is there'));
END;
$$;

-- Triggers.
SELECT on_source($$ ALTER TABLE t DISABLE TRIGGER ALL; UPDATE t SET v = 'missed' WHERE id = 1 $$) \g /dev/null
SELECT is(did('t'), 'failed RO024', 'disabled triggers');
SELECT matches(said('t'), 'trigger .* is disabled', 'are named');
SELECT on_source('ALTER TABLE t ENABLE TRIGGER ALL') \g /dev/null
SELECT is(did('t'), 'failed RO024', 'enabled again they do not fire always');
SELECT on_source((SELECT string_agg(format('ALTER TABLE t ENABLE ALWAYS TRIGGER %I', x), '; ') FROM dblink(:'source_conninfo', $$ SELECT tgname FROM pg_trigger WHERE tgname LIKE 'roneo%' $$) AS g (x name))) \g /dev/null
SELECT is(did('t'), 'failed RO025', 'and made to, they have been away all the same');
SELECT matches(said('t'), 'triggers of public.t|triggers of t', 'which is said');
SELECT * FROM mended('disabled triggers');
SELECT on_source($$ DROP TRIGGER roneo_capture_1_update ON t; UPDATE t SET v = 'missed too' WHERE id = 2 $$) \g /dev/null
SELECT is(did('t'), 'failed RO024', 'a trigger that is missing');
SELECT * FROM mended('a missing trigger');
SELECT on_source($$ CREATE TEMP TABLE d AS SELECT pg_get_triggerdef(oid) AS x FROM pg_trigger WHERE tgname = 'roneo_capture_1_delete'; DROP TRIGGER roneo_capture_1_delete ON t; DELETE FROM t WHERE id = 3;
    DO $do$ BEGIN EXECUTE (SELECT x FROM d); EXECUTE 'ALTER TABLE t ENABLE ALWAYS TRIGGER roneo_capture_1_delete'; END $do$ $$) \g /dev/null
SELECT is(did('t'), 'failed RO025', 'one that was made again by somebody');
SELECT * FROM mended('a trigger made again');
SELECT is(code($$ ALTER TABLE t DISABLE TRIGGER roneo_capture_1_truncate; TRUNCATE t $$), 'done', 'the trigger for TRUNCATE');
SELECT is(did('t'), 'failed RO024', 'is looked at like the others');
SELECT * FROM mended('TRUNCATE');
SELECT on_source($$ INSERT INTO t VALUES (4, 'x') $$) \g /dev/null
SELECT is(did('t'), 'ok +1 ~0 -0 =0', 'and from there it goes on');

-- The table itself.
SELECT on_source($$ ALTER TABLE t RENAME TO other; INSERT INTO other VALUES (5, 'renamed') $$) \g /dev/null
SELECT is(did('t'), 'failed RO004', 'a table that was renamed');
SELECT on_source($$ ALTER TABLE other RENAME TO t $$) \g /dev/null
SELECT is(did('t'), 'ok +1 ~0 -0 =0', 'and came back');
SELECT on_source($$ DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'new') $$) \g /dev/null
SELECT ok(did('t') IN ('failed RO022', 'failed RO024'), 'a table that was dropped and made again');
SELECT * FROM mended('a new table');
SELECT is(source_value('SELECT count(*) FROM roneo_capture.capture'), '1', 'the capture of the old one is gone');
SELECT on_source($$ INSERT INTO t VALUES (2, 'seen') $$) \g /dev/null
SELECT is(did('t'), 'ok +1 ~0 -0 =0', 'its changes are seen');

-- Logical replication into it.
SELECT on_source($$ CREATE SUBSCRIPTION sub CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE) $$) \g /dev/null
SELECT on_source($$ INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) SELECT oid, 't'::regclass, 'r' FROM pg_subscription WHERE subname = 'sub' $$) \g /dev/null
SELECT is(did('t'), 'failed RO024', 'a table that a subscription feeds needs row triggers');
SELECT * FROM mended('a subscription');
SELECT is(source_value('SELECT row_level::text FROM roneo_capture.capture'), 'true', 'which it has now');
SELECT on_source('DELETE FROM pg_subscription_rel; DROP SUBSCRIPTION sub') \g /dev/null
SELECT is(did('t'), 'unchanged', 'and keeps');

-- What was installed over there.
SELECT on_source('DROP SCHEMA roneo_capture CASCADE; UPDATE t SET v = $$lost$$') \g /dev/null
SELECT is(left(did('t'), 6), 'failed', 'the schema is gone');
SELECT ok(hint_of('t') ~ 'resync', 'resync is advised');
SELECT * FROM mended('a schema that was dropped');
SELECT is(code('UPDATE t SET v = $$z$$'), 'done', 'the application goes on');
SELECT is(did('t'), 'ok +0 ~2 -0 =0', 'and so do we');
SELECT is(did('t'), 'unchanged', 'nothing more');

-- An older version over there is brought up to date, with the captures that it has.
SELECT on_source($$ CREATE OR REPLACE FUNCTION roneo_capture.version() RETURNS integer LANGUAGE sql AS 'SELECT 0';
    CREATE OR REPLACE FUNCTION roneo_capture.row_old_1() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NULL; -- of old
        END'; CREATE TABLE other (id int PRIMARY KEY, v text) $$) \g /dev/null
SELECT roneo.create_dml('src', 'public.other') \g /dev/null
SELECT is(source_value('SELECT roneo_capture.version()')::integer, roneo.capture_version(), 'what is needed is there');
SELECT is(source_value($$ SELECT count(*) FROM pg_proc WHERE pronamespace = 'roneo_capture'::regnamespace AND prosrc ~ 'of old' $$), '0', 'and the functions of captures are of that version');
SELECT is(code('UPDATE t SET v = $$up$$; DELETE FROM t WHERE id = (SELECT min(id) FROM t)'), 'done', 'changes are made');
SELECT matches(did('t'), '^ok ', 'and brought');
SELECT ok(same('t'), 'all of them');
SELECT * FROM finish();
