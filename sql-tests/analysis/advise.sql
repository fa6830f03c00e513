-- Which method is advised for which table, and that the advice can be carried out.
SET client_min_messages = warning;
SELECT no_plan();

SELECT on_source($$
    CREATE SCHEMA app;
    CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END';
    CREATE TABLE app.small (id int PRIMARY KEY);
    CREATE TABLE app.still (id int PRIMARY KEY, v text);
    CREATE TABLE app.log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), v text);
    CREATE TABLE app.keyless (at timestamptz DEFAULT now(), v text);
    CREATE TABLE app.customers (id int PRIMARY KEY, v text, updated_at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX ON app.customers (updated_at);
    CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON app.customers FOR EACH ROW EXECUTE FUNCTION app.touch();
    CREATE TABLE app.orders (id bigserial PRIMARY KEY, v text);
    CREATE TABLE app.nothing_tells (k uuid PRIMARY KEY DEFAULT gen_random_uuid(), v text);
    CREATE TABLE app."Odd 'name" (v text);
    CREATE UNLOGGED TABLE app.scratch (id int PRIMARY KEY, v text);
    CREATE TABLE app.days (day date, id int, v text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
    CREATE TABLE app.days_1 PARTITION OF app.days FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE VIEW app.shown AS TABLE app.orders;
    INSERT INTO app.still SELECT n, repeat('x', 100) FROM generate_series(1, 20000) AS n;
    INSERT INTO app.log (v) SELECT repeat('x', 100) FROM generate_series(1, 20000) AS n;
    INSERT INTO app.keyless (v) SELECT repeat('x', 100) FROM generate_series(1, 20000) AS n;
    INSERT INTO app.customers SELECT n, repeat('x', 100) FROM generate_series(1, 20000) AS n;
    INSERT INTO app.orders (v) SELECT repeat('x', 100) FROM generate_series(1, 20000) AS n;
    INSERT INTO app.nothing_tells (v) SELECT repeat('x', 100) FROM generate_series(1, 20000) AS n;
    INSERT INTO app."Odd 'name" SELECT repeat('x', 100) FROM generate_series(1, 20000) AS n;
    INSERT INTO app.scratch SELECT n, repeat('x', 100) FROM generate_series(1, 20000) AS n;
    INSERT INTO app.days SELECT date '2024-01-01' + n % 300, n, repeat('x', 100) FROM generate_series(1, 20000) AS n;
$$) \g /dev/null
SELECT on_source('ANALYZE') \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT settle_source(), roneo.observe('src') \g /dev/null
SELECT on_source($$
    INSERT INTO app.log (v) SELECT 'x' FROM generate_series(1, 10); INSERT INTO app.keyless (v) VALUES ('x');
    UPDATE app.customers SET v = 'new' WHERE id < 10; DELETE FROM app.orders WHERE id < 10; UPDATE app.nothing_tells SET v = 'new' WHERE k = (SELECT min(k::text)::uuid FROM app.nothing_tells);
    UPDATE app."Odd 'name" SET v = 'y' WHERE ctid = '(0,1)'; UPDATE app.scratch SET v = 'y' WHERE id = 1; DELETE FROM app.days WHERE id = 7 $$) \g /dev/null
SELECT settle_source(), roneo.observe('src') \g /dev/null
-- The looks were a moment apart; as if they had been a day.
UPDATE roneo.observation SET observed_at = observed_at - interval '1 day' WHERE observation_id = 1;
SELECT results_eq($$ SELECT source_table, method, control, reason FROM roneo.advise('src', small_mb => 1) ORDER BY source_table COLLATE "C" $$, $$ VALUES
    ('app."Odd ''name"', 'snapshot', NULL, 'it has no key to match rows by'),
    ('app.customers', 'updater', 'updated_at', 'no row is deleted, and a trigger gives each changed one a new updated_at'),
    ('app.days', 'dml', NULL, 'deletes must arrive'),
    ('app.keyless', 'inserter', 'at', 'rows are only added, and at grows with them; there is no key, so append_only is your word that it stays so'),
    ('app.log', 'inserter', 'id', 'rows are only added, and id grows with them'),
    ('app.nothing_tells', 'dml', NULL, 'rows change, and no column tells which'),
    ('app.orders', 'dml', NULL, 'deletes must arrive'),
    ('app.scratch', 'snapshot', NULL, 'it is unlogged, and no column tells which rows changed'),
    ('app.shown', 'snapshot', NULL, 'a view: nothing tells what changed in it'),
    ('app.small', 'snapshot', NULL, 'small, and skipped while nothing changes'),
    ('app.still', 'snapshot', NULL, 'it never changed while it was observed, and is skipped as long as that is so') $$, 'each table has its method');
SELECT results_eq($$ SELECT source_table, needs[1], remarks FROM roneo.advise('src', small_mb => 1) WHERE needs <> '{}' OR remarks IS NOT NULL ORDER BY source_table COLLATE "C" $$, $$ VALUES
    ('app."Odd ''name"', NULL, 'no key'), ('app.keyless', 'CREATE INDEX CONCURRENTLY ON app.keyless (at);', 'at may be NULL: say null_control if it is; no key'),
    ('app.scratch', NULL, 'unlogged') $$, 'what is missing is said');
SELECT results_eq($$ SELECT added_per_day, updated_per_day, deleted_per_day, known_from LIKE 'observed since %', key_columns, kind FROM roneo.advise('src') WHERE source_table IN ('app.days', 'app.log') ORDER BY source_table $$,
    $$ VALUES (0.0, 0.0, 1.0, true, '{day,id}'::text[], 'partitioned'), (10.0, 0.0, 0.0, true, '{id}', 'table') $$, 'rates are those that were observed');
SELECT is((refresh_bytes BETWEEN 1 AND 1000, refresh_seconds < 0.1, speed_is_measured)::text, '(t,t,f)', 'a refresh moves what changes in between, at a speed that is a guess')
FROM roneo.advise('src', small_mb => 1) WHERE source_table = 'app.log';
SELECT is(refresh_bytes, bytes, 'a snapshot moves all of it') FROM roneo.advise('src', small_mb => 1) WHERE source_table = 'app.still';
SELECT is((SELECT string_agg(DISTINCT method, ',' ORDER BY method) FROM roneo.advise('src')), 'snapshot', 'what is small is copied whole');
SELECT is(method, 'plain', 'into a table, if told so') FROM roneo.advise('src', as_tables => true) WHERE source_table = 'app.small';
SELECT is(method, 'logdel', 'deleted rows stay, if told so') FROM roneo.advise('src', keep_deleted => true) WHERE source_table = 'app.small';
SELECT is(method, 'snapshot', 'where most rows change between two refreshes, all are copied')
FROM roneo.advise('src', refresh_every => '10000 days', small_mb => 1) WHERE source_table = 'app.orders';
SELECT is((SELECT count(*) FROM roneo.advise('src', '{public}')), 0::bigint, 'schemas can be chosen');
SELECT throws_ok($$ SELECT roneo.advise('src', '{}') $$, 'RO007', NULL, 'an empty list is refused');
SELECT throws_ok($$ SELECT roneo.advise('src', refresh_every => '0') $$, 'RO007', NULL, 'so is an interval of nothing');
SELECT throws_ok($$ SELECT roneo.advise('nowhere') $$, 'RO003', NULL, 'and a source that is not known');

-- Rights.
SELECT on_source('ALTER TABLE app.log ENABLE ROW LEVEL SECURITY') \g /dev/null
SELECT roneo.create_source('reading', :'source_conninfo', 'reader', 'reader secret') \g /dev/null
SELECT results_eq($$ SELECT source_table, method, rights, needs FROM roneo.advise('reading', small_mb => 1) WHERE source_table IN ('app.orders', 'app.customers') ORDER BY 1 $$, $$ VALUES
    ('app.customers', 'updater', 'SELECT: no', ARRAY['GRANT USAGE ON SCHEMA app TO reader;', 'GRANT SELECT ON TABLE app.customers TO reader;']),
    ('app.orders', 'dml', 'SELECT: no; owner: no; roneo_capture: no', ARRAY['GRANT USAGE ON SCHEMA app TO reader;', 'GRANT SELECT ON TABLE app.orders TO reader;',
        '-- a DBA runs what this prints: roneo preflight reading --capture app.orders']) $$, 'a role that may nothing is told what it lacks');
SELECT on_source('GRANT USAGE ON SCHEMA app TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA app TO reader') \g /dev/null
SELECT is((SELECT count(*) FROM roneo.advise('reading', small_mb => 1) WHERE needs && ARRAY(SELECT format('GRANT SELECT ON TABLE %s TO reader;', source_table) FROM roneo.advise('reading'))), 0::bigint, 'until it has it');
SELECT is((SELECT array_agg(source_table) FROM roneo.advise('reading') WHERE 'ALTER ROLE reader BYPASSRLS;' = ANY (needs)), '{app.log}', 'policies are in the way');
SELECT roneo.drop_source('reading') \g /dev/null
SELECT on_source('ALTER TABLE app.log DISABLE ROW LEVEL SECURITY; DROP OWNED BY reader') \g /dev/null

-- What has no test table.
SELECT is((roneo.method_choice('{"kind":"r","unlogged":false,"standby":false,"small":false,"key":["id"],"keep_deleted":false,"grow":null,"touch":null}'::jsonb || facts)).method, wanted, facts::text)
FROM (VALUES ('{"inserted": 0, "updated": 0, "deleted": 0}'::jsonb, 'snapshot'), ('{"inserted": 9, "updated": 9, "deleted": 0, "share": 0.6}', 'snapshot'),
    ('{"standby": true}', 'snapshot'), ('{"standby": true, "touch": {"name": "at"}}', 'updater'), ('{"standby": true, "grow": {"name": "at"}, "keep_deleted": true, "updated": 0}', 'inserter'),
    ('{"unlogged": true, "deleted": 1, "updated": 1, "touch": {"name": "at"}}', 'updater'), ('{"kind": "m", "keep_deleted": true}', 'snapshot'), ('{"kind": "f"}', 'snapshot'), ('{}', 'dml')) AS f (facts, wanted);

-- The advice is carried out.
CREATE FUNCTION carry_out(statement text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE statement; END $$;
SELECT is(statement, 'CREATE SCHEMA IF NOT EXISTS app; SELECT roneo.create_inserter(''src'', ''app.log'', control => ''id'', refresh_every => ''01:00:00'');', 'a statement is complete')
FROM roneo.advise('src', refresh_every => '1 hour', small_mb => 1) WHERE source_table = 'app.log';
SELECT on_source('UPDATE app.keyless SET at = now() WHERE at IS NULL') \g /dev/null
SELECT lives_ok(format('SELECT carry_out(%L)', statement), source_table) FROM roneo.advise('src', small_mb => 1);
SELECT is((SELECT count(*) FROM roneo.replica AS r WHERE (roneo.fingerprint(r.dest::text) ->> 'fingerprint') = roneo.fingerprint(format('%I.%I', source_schema, source_table), source => 'src') ->> 'fingerprint'),
    11::bigint, 'each is then equal to its source');
SELECT results_eq($$ SELECT DISTINCT statement IS NULL, copied_as = source_table || ' by ' || method FROM roneo.advise('src', small_mb => 1) $$, 'VALUES (true, true)', 'and it is told how it is copied');
SELECT is((SELECT is_measured FROM roneo.copy_speed('src')), true, 'copies have told how fast they are');
SELECT roneo.drop_replica(dest) FROM roneo.replica \g /dev/null
SELECT * FROM finish();
