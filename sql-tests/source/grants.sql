-- Who may do what: nobody by default, and who was granted the refresh of an owner's replicas.
SET client_min_messages = warning;
SELECT plan(35);

-- Roles belong to the cluster: their names carry the name of this test's database.
SELECT set_config('test.owner', concat('Owner ', current_database()), false),
       set_config('test.caller', concat('caller ', current_database()), false) \g /dev/null
SELECT format('CREATE ROLE %I', r)
FROM (VALUES (current_setting('test.owner')), (current_setting('test.caller'))) AS v (r) \gexec
CREATE PROCEDURE become(setting text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET ROLE %I', current_setting(setting));
END;
$$;

SELECT is_empty($$ SELECT f.oid::regprocedure FROM own_function AS f,
        aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS p WHERE p.grantee = 0 $$,
    'no function of ours is for everyone');
SELECT is_empty($$ SELECT c.relname FROM pg_class AS c, aclexplode(c.relacl) AS p
        WHERE c.relnamespace = 'roneo'::regnamespace AND p.grantee = 0 $$, 'nor any table');

SELECT on_source($$
    CREATE SCHEMA app;
    CREATE TABLE app.items (id integer PRIMARY KEY, v text);
    INSERT INTO app.items VALUES (1, 'one'), (2, 'two');
    GRANT USAGE ON SCHEMA app TO reader;
    GRANT SELECT ON app.items TO reader;
$$) \g /dev/null
SELECT roneo.create_source('main', current_setting('test.source_conninfo'),
                           username => 'reader', password => 'reader secret') \g /dev/null
SELECT roneo.create_plain('main', 'app.items', 'public.items'),
       roneo.create_snapshot('main', 'app.items', 'public.shown'),
       roneo.create_plain('main', 'app.items', 'public.private') \g /dev/null

-- What is refused.
SELECT throws_ok($$ SELECT roneo.grant_refresh('nobody at all') $$, '42704', NULL, 'a role must exist');
SELECT throws_ok($$ SELECT roneo.grant_refresh('public') $$, '42704', NULL, 'everyone is no role');
SELECT throws_ok($$ SELECT roneo.grant_refresh(current_setting('test.caller'), 'pg_class') $$, 'RO001', NULL,
    'a table must be a replica');
SELECT throws_ok($$ SELECT roneo.grant_refresh(current_setting('test.caller')) $$, 'RO009', NULL,
    'what a superuser owns is not granted');

SELECT format('ALTER TABLE items OWNER TO %1$I; ALTER VIEW shown OWNER TO %1$I;
               ALTER TABLE shown_snap1 OWNER TO %1$I; ALTER TABLE shown_snap2 OWNER TO %1$I;
               GRANT USAGE, CREATE ON SCHEMA public TO %1$I',
              current_setting('test.owner')) \gexec
CREATE FUNCTION advice(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    PERFORM roneo.grant_refresh(current_setting('test.caller'), dest);
    RETURN NULL;
EXCEPTION WHEN SQLSTATE 'RO009' THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN hint;
END;
$$;
SELECT alike(advice('items'), 'Run: GRANT USAGE ON SCHEMA roneo TO "Owner %', 'the owner must be able to refresh');
SELECT alike(advice('items'), '%CREATE USER MAPPING FOR "Owner % SERVER roneo_main OPTIONS%', 'with a mapping of its own');
SELECT lives_ok(replace(replace(substr(advice('items'), 6), 'user ''…''', 'user ''reader'''),
                        'password ''…''', 'password ''reader secret'''),
    'what the error advises runs');
SELECT is(advice('items'), NULL, 'and is enough');
SELECT is(advice('shown'), NULL, 'for all that the owner has');
SELECT is((SELECT array_agg(p.oid::regprocedure::text) FROM pg_proc AS p
           WHERE p.pronamespace = 'roneo'::regnamespace AND p.proname ~ '^refresh_as_'),
    ARRAY[format('roneo.%I(regclass)', concat('refresh_as_', current_setting('test.owner')))],
    'there is one function for an owner');
SELECT is(pg_get_userbyid(proowner), current_setting('test.owner')::name, 'which the owner owns')
FROM pg_proc WHERE proname ~ '^refresh_as_';
SELECT ok(prosecdef AND proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], 'and which fixes its path')
FROM pg_proc WHERE proname ~ '^refresh_as_';
SELECT ok(NOT has_schema_privilege(current_setting('test.owner'), 'roneo', 'CREATE'),
    'the owner may make nothing in our schema');
SELECT throws_ok($$ SELECT roneo.grant_refresh(current_setting('test.caller')) $$, 'RO009', NULL,
    'all replicas are not granted while a superuser owns one of them');

-- What the one granted can do.
CREATE FUNCTION refresh_now(dest regclass) RETURNS roneo.run LANGUAGE plpgsql AS $$
DECLARE
    done roneo.run;
BEGIN
    EXECUTE format('SELECT (%s($1)).*', (SELECT p.oid::regproc FROM pg_proc AS p WHERE p.proname ~ '^refresh_as_'))
    INTO done USING dest;
    RETURN done;
END;
$$;
CALL become('test.caller');
SELECT is(concat_ws(' ', outcome, rows_received, message), 'ok 2', 'a plain replica is refreshed') FROM refresh_now('items');
SELECT matches(concat_ws(' ', outcome, message), '^(ok|unchanged)$', 'a snapshot too') FROM refresh_now('shown');
SELECT throws_ok($$ SELECT refresh_now('private') $$, 'RO009', NULL, 'but not what another role owns');
SELECT throws_ok($$ SELECT refresh_now('pg_class') $$, 'RO009', NULL, 'nor what is no replica');
SELECT throws_ok($$ SELECT roneo.refresh('items') $$, '42501', NULL, 'nor by refresh itself');
SELECT throws_ok($$ SELECT * FROM items $$, '42501', NULL, 'the rows stay closed');
SELECT throws_ok($$ DELETE FROM roneo.run $$, '42501', NULL, 'and the history');
SELECT lives_ok($$ SELECT * FROM roneo.status $$, 'status is seen');
SELECT lives_ok($$ SELECT * FROM roneo.run $$, 'and the runs');
RESET ROLE;
SELECT is(outcome, 'ok', 'the run is recorded') FROM roneo.run WHERE dest = 'public.items' ORDER BY run_id DESC LIMIT 1;
CALL become('test.owner');
SELECT throws_ok($$ UPDATE roneo.snapshot_replica SET post_script = 'x' $$, '42501', NULL,
    'an owner cannot change what runs as another owner');
SELECT throws_ok($$ UPDATE roneo.replica SET filter = 'true' $$, '42501', NULL, 'nor what is read for it');
RESET ROLE;

-- A trigger of the owner runs as the owner.
CREATE TABLE seen (who name, session name);
GRANT ALL ON seen TO PUBLIC;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.seen VALUES (current_user, session_user);
    RETURN NEW;
END;
$$;
CREATE TRIGGER note BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION note();
CALL become('test.caller');
SELECT is(outcome, 'ok', 'with a trigger too') FROM refresh_now('items');
RESET ROLE;
SELECT is(string_agg(DISTINCT who, ','), current_setting('test.owner'), 'steps run as the owner') FROM seen;

-- Taken back.
SELECT is(role_name, current_setting('test.caller')::name, 'the grant is remembered') FROM roneo.grantee;
SELECT lives_ok($$ SELECT roneo.revoke_refresh(current_setting('test.caller'), 'items') $$, 'a grant is taken back');
SELECT is_empty($$ SELECT FROM pg_proc WHERE proname ~ '^refresh_as_' UNION ALL SELECT FROM roneo.grantee $$,
    'and leaves nothing');
CALL become('test.caller');
SELECT throws_ok($$ SELECT * FROM roneo.status $$, '42501', NULL, 'not even the status');
RESET ROLE;
SELECT lives_ok($$ SELECT roneo.grant_refresh(current_setting('test.caller'), 'items') $$, 'it can be given again');

SELECT roneo.revoke_refresh(current_setting('test.caller')) \g /dev/null
SELECT format('REASSIGN OWNED BY %1$I TO CURRENT_USER; DROP OWNED BY %1$I; DROP ROLE %1$I', r)
FROM (VALUES (current_setting('test.owner')), (current_setting('test.caller'))) AS v (r) \gexec
SELECT * FROM finish();
