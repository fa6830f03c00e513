-- Who may do what on a source with captures, and with how little.
\ir ../support/capture.sql
SELECT plan(48);
CREATE FUNCTION as_role(role name, statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM dblink_exec(replace(current_setting('test.source_conninfo'), 'user=postgres', format('user=%s', role)), statement);
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END;
$$;
SELECT md5(current_database()) AS tag \gset
SELECT format('o%s', left(:'tag', 12)) AS owner, format('r%s', left(:'tag', 12)) AS reads, format('x%s', left(:'tag', 12)) AS app, format('s%s', left(:'tag', 12)) AS strange \gset
SELECT on_source(format('CREATE ROLE %I LOGIN; CREATE ROLE %I LOGIN; CREATE ROLE %I LOGIN; CREATE ROLE %I LOGIN', :'owner', :'reads', :'app', :'strange')) \g /dev/null
SELECT on_source(format($$ CREATE SCHEMA app AUTHORIZATION %1$I; GRANT USAGE ON SCHEMA app TO %2$I, %3$I, %4$I; SET ROLE %1$I; CREATE TABLE app.t (id int PRIMARY KEY, v text, secret text);
    GRANT INSERT, UPDATE, DELETE, SELECT, TRUNCATE ON app.t TO %3$I; GRANT SELECT (id, v) ON app.t TO %2$I; CREATE TYPE app.mood AS ENUM ('a', 'b'); CREATE TABLE app.moody (k app.mood PRIMARY KEY, v int); GRANT SELECT ON app.moody TO %2$I;
    INSERT INTO app.t VALUES (1, 'a', 's') $$, :'owner', :'reads', :'app', :'strange')) \g /dev/null
SELECT roneo.create_source('src', replace(:'source_conninfo', 'user=postgres', ''), username => :'reads') \g /dev/null
CREATE SCHEMA app;

-- A connection that may only read.
SELECT throws_ok($$ SELECT roneo.create_dml('src', 'app.t', columns => '{id,v}') $$, 'RO024', NULL, 'a role that may make no triggers says so');
SELECT ok(to_regclass('app.t') IS NULL, 'and nothing was made');
SELECT roneo.capture_script('src', 'app.t') AS script \gset
\set script_file '/tmp/roneo-script-' :tag '.sql'
\o :script_file
\qecho :script
\o
SELECT format('psql -X -q -v ON_ERROR_STOP=1 -h %s -p %s -d %s -U postgres -f %s', :'socket', :'port', :'source_db', :'script_file') AS run_script \gset
\setenv RUN_SCRIPT :run_script
\! $RUN_SCRIPT >/dev/null
SELECT is(source_value('SELECT count(*) FROM roneo_capture.capture'), '1', 'the script that is printed makes the capture');
\! $RUN_SCRIPT >/dev/null
SELECT is(source_value('SELECT count(*) FROM roneo_capture.capture'), '1', 'and may be run again');
SELECT lives_ok($$ SELECT roneo.create_dml('src', 'app.t', columns => '{id,v}') $$, 'then that role may feed a copy');
SELECT is(shown('app.t'), '(1,a)', 'of the columns that it may read');
SELECT is(as_role(:'app', $$ INSERT INTO app.t VALUES (2, 'b', 's'); UPDATE app.t SET id = 3 WHERE id = 1; INSERT INTO app.t SELECT g, 'x', 's' FROM generate_series(100, 300) AS g; DELETE FROM app.t WHERE id > 150 $$), 'done', 'the application needs no rights');
SELECT is(did('app.t'), 'ok +53 ~0 -1 =0', 'and its changes are recorded');
SELECT is(as_role(:'app', 'SELECT FROM roneo_capture.queue_1_0'), '42501', 'which it cannot see');
SELECT is(as_role(:'app', 'SELECT roneo_capture.guard(1)'), '42501', 'nor touch');
SELECT is(as_role(:'app', 'TRUNCATE app.t'), 'done', 'TRUNCATE');
SELECT is(did('app.t'), 'ok +0 ~0 -53 =0', 'too');

-- What is installed: only the triggers' functions, and what they call for each row, fix no path, for that would cost too much; they qualify all names.
SELECT is(source_value($$ SELECT string_agg(p.proname, ' ') FROM pg_proc AS p WHERE pronamespace = 'roneo_capture'::regnamespace AND prorettype <> 'trigger'::regtype
    AND proname NOT IN ('version', 'kept', 'is_missing') AND 'search_path=pg_catalog, pg_temp' = ANY (proconfig) IS NOT TRUE $$), NULL, 'each function fixes its path');
SELECT is(source_value($$ SELECT string_agg(p.proname, ' ') FROM pg_proc AS p WHERE pronamespace = 'roneo_capture'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL $$), NULL, 'and says what it does');
SELECT is(source_value($$ SELECT string_agg(p.proname, ' ') FROM pg_proc AS p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS x WHERE pronamespace = 'roneo_capture'::regnamespace AND x.grantee = 0 $$), NULL, 'none is open to all');
SELECT is(source_value($$ SELECT string_agg(p.proname, ' ') FROM pg_proc AS p WHERE pronamespace = 'roneo_capture'::regnamespace AND cardinality(string_to_array(btrim(prosrc, E'\n'), E'\n')) > 60 $$), NULL, 'no body outgrows a screen');
SELECT is(source_value($$ SELECT rolcanlogin::text || rolsuper FROM pg_roles WHERE rolname = 'roneo_capture' $$), 'falsefalse', 'the role that owns it cannot log in');
SELECT is(source_value($$ SELECT string_agg(DISTINCT pg_get_userbyid(proowner), ' ') FROM pg_proc WHERE pronamespace = 'roneo_capture'::regnamespace $$), 'roneo_capture', 'and owns all of it');

-- Objects that stand in the way.
SELECT is(as_role(:'app', $$ CREATE TEMP TABLE newt (id int, v text); CREATE TEMP TABLE oldt (id int); CREATE TEMP TABLE rest (id int, k1 int, part int);
    CREATE FUNCTION pg_temp.evil(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN RAISE 'hijacked by %', current_user; END $f$;
    CREATE OPERATOR pg_temp.= (FUNCTION = pg_temp.evil, LEFTARG = bigint, RIGHTARG = bigint);
    CREATE FUNCTION pg_temp.pg_current_xact_id() RETURNS xid8 LANGUAGE plpgsql AS $f$ BEGIN RAISE 'hijacked'; END $f$;
    SET search_path = pg_temp, pg_catalog, app;
    INSERT INTO app.t VALUES (7, 'seven', 's'); UPDATE app.t SET id = 8; INSERT INTO app.t SELECT g, 'y', 's' FROM generate_series(1000, 1200) AS g; DELETE FROM app.t WHERE id = 1000 $$), 'done', 'nobody''s objects come before ours');
SELECT is(did('app.t'), 'ok +201 ~0 -0 =0', 'and all is recorded');

-- What a role may not.
SELECT on_source(format('DO $do$ BEGIN PERFORM roneo_capture.allow(%L); END $do$', :'strange')) \g /dev/null
SELECT consumer_id, capture_id FROM feed \gset
SELECT is(as_role(:'strange', format('SELECT roneo_capture.attend(%L, ''1/1'', NULL)', :'consumer_id')), '42501', 'another role may not speak for a copy');
SELECT is(as_role(:'strange', format('SELECT roneo_capture.expire(%L)', :'consumer_id')), '42501', 'nor expire it');
SELECT is(as_role(:'strange', format('SELECT roneo_capture.readdress(%L, '''', '''')', :'consumer_id')), '42501', 'nor move it');
SELECT is(as_role(:'strange', format('SELECT roneo_capture.%s', call)), '42501', format('nor %s', call))
FROM unnest(ARRAY['pause(1)', 'resume(1)', 'set_limit(1, 1)', 'mark(1)', 'forget(1, ''1'')', 'register(1, '''', '''')', 'prepare(''app.t'', ''{id}'', ''{secret}'')', 'capture_table(''app.t'', ''{v}'')']) AS call;
SELECT is(as_role(:'reads', $$ SELECT roneo_capture.prepare('app.t', '{id}', '{secret}') $$), '42501', 'a reader cannot have last values kept of what it may not read');
SELECT on_source(format('DO $do$ BEGIN PERFORM roneo_capture.allow(%L); END $do$', :'owner')) \g /dev/null
SELECT is(as_role(:'owner', $$ DO $do$ BEGIN PERFORM roneo_capture.capture_table('app.t', '{id}', '{id,v,secret}'); END $do$ $$), 'done', 'the owner of the table may');
SELECT is(as_role(:'reads', 'DO $do$ BEGIN PERFORM xid, op, at, k1, p1 FROM roneo_capture.queue_1_0; END $do$'), 'done', 'a reader reads the keys of the queue');
SELECT is(as_role(:'reads', 'DO $do$ BEGIN PERFORM i3 FROM roneo_capture.queue_1_0; END $do$'), '42501', 'and no last values of columns that it may not read');
SELECT is(as_role(:'app', $$ DELETE FROM app.t WHERE id = 8 $$), 'done', 'with last values kept');
SELECT is(did('app.t'), 'ok +0 ~0 -1 =0', 'its copy goes on');

-- logdel as the reader, with and without a filter.
SELECT lives_ok($$ SELECT roneo.create_logdel('src', 'app.t', 'app.kept', columns => '{id,v}') $$, 'a logdel of what it may read');
SELECT is(as_role(:'app', $$ DELETE FROM app.t WHERE id = 1001 $$), 'done', 'a row goes');
SELECT is(did('app.kept'), 'ok +0 ~0 -1 =0', 'and is kept');
SELECT is((SELECT v FROM app.kept WHERE roneo_source_deleted IS NOT NULL), 'y', 'with its last values');

-- The owner connects: it makes its captures itself, also with types of a schema that is closed to others.
SELECT roneo.create_source('own', replace(:'source_conninfo', 'user=postgres', ''), username => :'owner') \g /dev/null
CREATE TYPE app.mood AS ENUM ('a', 'b');
SELECT lives_ok($$ SELECT roneo.create_dml('own', 'app.moody') $$, 'the owner of a table captures it');
SELECT is(as_role(:'owner', $$ INSERT INTO app.moody VALUES ('a', 1), ('b', 2) $$), 'done', 'writes');
SELECT is(did('app.moody'), 'ok +2 ~0 -0 =0', 'and reads');
SELECT roneo.drop_replica(d) FROM unnest('{app.t,app.kept,app.moody}'::regclass[]) AS d \g /dev/null
SELECT is(source_value('SELECT count(*) FROM roneo_capture.capture'), '0', 'all of it goes with the copies');

-- The script run by the owner of the table, who may make a schema and has the role of the queues.
SELECT on_source(format('DROP SCHEMA roneo_capture CASCADE; GRANT CREATE ON DATABASE %I TO %I; GRANT roneo_capture TO %2$I', :'source_db', :'owner')) \g /dev/null
SELECT replace(:'run_script', '-U postgres', '-U ' || :'owner') AS run_script \gset
\setenv RUN_SCRIPT :run_script
\! $RUN_SCRIPT >/dev/null
SELECT lives_ok($$ SELECT roneo.create_dml('src', 'app.t', 'app.by_owner', columns => '{id,v}') $$, 'the owner can run the script too');
SELECT is(as_role(:'app', $$ INSERT INTO app.t VALUES (5000, 'z', 's') $$), 'done', 'the application writes');
SELECT is(did('app.by_owner'), 'ok +1 ~0 -0 =0', 'and is followed');
SELECT roneo.drop_replica('app.by_owner') \g /dev/null
SELECT on_source(format('DROP OWNED BY %1$I, %2$I, %3$I, %4$I CASCADE; DROP ROLE %1$I, %2$I, %3$I, %4$I', :'owner', :'reads', :'app', :'strange')) \g /dev/null
\setenv RUN_SCRIPT
\set cleanup 'rm -f ' :script_file
\setenv CLEANUP :cleanup
\! $CLEANUP
SELECT * FROM finish();
