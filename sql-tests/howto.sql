-- Alone in the cluster: role roneo_capture is dropped at the end, and other files need it.
-- Every example of extension/HOWTO.md is run, and does what the page says.
\set howto `cat extension/HOWTO.md`
CREATE TEMPORARY TABLE howto AS
SELECT concat(split_part(p, E'\n', 1), ' ', row_number() OVER (PARTITION BY p ORDER BY m.nr)) AS key,
       m.found[1] AS language, m.found[2] AS body
FROM regexp_split_to_table(:'howto', '\n#+ ') AS p
CROSS JOIN LATERAL regexp_matches(p, E'\n```(sql|sh)\n([^`]*)\n```', 'g') WITH ORDINALITY AS m (found, nr);
CREATE TEMPORARY TABLE ran (key text);

\set file :socket/howto.sql
\setenv HOWTO_FILE :file
\setenv HOWTO_DIR :socket
\setenv SHOP :source_conninfo
SELECT :'source_conninfo' AS first_conninfo,
       format('host=%s port=%s dbname=%s user=postgres', :'socket', :'port', :'dest_db') AS here,
       format('host=%s port=%s dbname=%s_other user=postgres', :'socket', :'port', :'dest_db') AS other,
       format('host=%s port=%s dbname=%s_restored user=postgres', :'socket', :'port', :'source_db') AS restored_conninfo,
       concat(:'dest_db', '_other') AS other_db, concat(:'source_db', '_restored') AS restored_db,
       concat(:'source_db', '_berlin') AS berlin_db, concat(:'source_db', '_paris') AS paris_db \gset
\setenv HERE :here
\setenv OTHER :other

CREATE FUNCTION public.new_shop()
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM on_source($source$
        DROP SCHEMA IF EXISTS app CASCADE;
        CREATE SCHEMA app;
        CREATE TABLE app.customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
        CREATE TABLE app.orders (id bigserial PRIMARY KEY, customer_id bigint NOT NULL, total numeric);
        INSERT INTO app.customers (name) SELECT format('customer %s', n) FROM generate_series(1, 100) AS n;
        INSERT INTO app.orders (customer_id, total) SELECT 1 + n % 100, n / 7.0 FROM generate_series(1, 2000) AS n $source$);
    DROP SCHEMA IF EXISTS app CASCADE;
    CREATE SCHEMA app;
END;
$$;

-- Some of each kind of change.
CREATE FUNCTION public.business()
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM on_source('INSERT INTO app.customers (name) VALUES (''new'')');
    PERFORM on_source('INSERT INTO app.orders (customer_id, total) SELECT max(id), 1 FROM app.customers');
    PERFORM on_source('UPDATE app.orders SET total = total + 1 WHERE id IN (1, (SELECT max(id) - 1 FROM app.orders))');
    PERFORM on_source('DELETE FROM app.orders WHERE id = (SELECT min(id) FROM app.orders WHERE id > 1)');
END;
$$;

CREATE FUNCTION public.content(relation text, key text)
RETURNS text LANGUAGE sql
RETURN format('SELECT md5(string_agg(concat_ws('','', %1$s, customer_id, total), '';'' ORDER BY %1$s)) FROM %2$s', key, relation);

CREATE FUNCTION public.value_here(query text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    value text;
BEGIN
    EXECUTE query INTO value;
    RETURN value;
END;
$$;

CREATE FUNCTION public.equal(saying text, dest text DEFAULT 'app.orders', key text DEFAULT 'id')
RETURNS text LANGUAGE sql
RETURN is(value_here(content(dest, key)), source_value(content('app.orders', key)), saying);

SELECT plan(113);
SET client_min_messages = warning;
-- Else each refresh waits until the source has written its log.
ALTER DATABASE :"source_db" SET synchronous_commit = on;
SELECT new_shop();
CREATE DATABASE :"berlin_db" TEMPLATE :"source_db";
CREATE DATABASE :"paris_db" TEMPLATE :"source_db";
SELECT roneo.create_source('shop', :'source_conninfo');

---------------------------------------------------------------- Choose a method
\set block 'Choose a method 1'
\ir support/howto_block.sql

---------------------------------------------------------------- Is it still written?
SELECT new_shop();
SELECT settle_source();
\set block 'Is it still written? 1'
\ir support/howto_block.sql
SELECT on_source('INSERT INTO app.orders (customer_id, total) VALUES (1, 1)');
SELECT settle_source(), roneo.observe('shop');
SELECT results_eq($$ SELECT source_table, verdict, proven, grows_by, grows_by_proven FROM roneo.changes('shop') ORDER BY 1 $$,
    $$ VALUES ('app.customers', 'unchanged', true, NULL, NULL::boolean), ('app.orders', 'grows', true, 'id', true) $$, 'tables tell what becomes of them');
\set block 'Is it still written? 2'
\ir support/howto_block.sql
\set block 'Is it still written? 3'
\ir support/howto_block.sql
SELECT ok((roneo.compare_fingerprints(roneo.fingerprint('app.customers')::text, roneo.fingerprint('app.customers', source => 'shop')::text)).is_equal,
    'what does not change is copied now');
\set block 'Is it still written? 4'
\ir support/howto_block.sql
\set block 'Is it still written? 5'
\ir support/howto_block.sql
SELECT on_source('INSERT INTO app.orders (customer_id, total) VALUES (1, 1)');
\set block 'Is it still written? 6'
\ir support/howto_block.sql
SELECT equal('what grows is copied in two parts');
\set block 'Is it still written? 7'
\ir support/howto_block.sql
SELECT ok((roneo.compare_fingerprints(roneo.fingerprint('app.orders')::text, roneo.fingerprint('app.orders', source => 'shop')::text)).is_equal,
    'and the same');
SELECT roneo.drop_replica(dest, keep_table => false) FROM roneo.replica;

---------------------------------------------------------------- Fill a copy by other means
\set block 'Fill a copy by other means 1'
\ir support/howto_block.sql
SELECT business();
\set block 'Fill a copy by other means 2'
\ir support/howto_block.sql
SELECT business();
\set block 'Fill a copy by other means 3'
\ir support/howto_block.sql
SELECT equal('a copy that pg_dump has filled misses nothing of before, during and after the load');
SELECT cmp_ok((SELECT rows_received FROM roneo.run ORDER BY run_id DESC LIMIT 1), '<', 20::bigint,
    'and what the load has brought is not read again');

---------------------------------------------------------------- A change of most rows
\set block 'A change of most rows 1'
\ir support/howto_block.sql
\set block 'A change of most rows 2'
\ir support/howto_block.sql
SELECT is((SELECT sqlstate FROM roneo.refresh('app.orders')), 'RO026', 'a refresh is deferred meanwhile');
SELECT is((SELECT count(*) FROM roneo.pending_transactions('app.orders')), 0::bigint, 'and nothing is in the queue');
\set block 'A change of most rows 3'
\ir support/howto_block.sql
SELECT equal('after the pause the copy is equal again');

---------------------------------------------------------------- Is the copy right?
UPDATE app.orders SET total = -1 WHERE id = (SELECT max(id) FROM app.orders);
DELETE FROM app.orders WHERE id = (SELECT min(id) FROM app.orders);
\set block 'Is the copy right? 1'
\ir support/howto_block.sql
SELECT is((SELECT verdict FROM roneo.status WHERE dest = 'app.orders'), 'differs', 'a damage is found');
\set block 'Is the copy right? 2'
\ir support/howto_block.sql
SELECT is((SELECT count(*) FROM roneo.check() WHERE check_name = 'content'), 1::bigint, 'and not mended unless that is said');
\set block 'Is the copy right? 3'
\ir support/howto_block.sql
SELECT equal('then it is');
\set block 'Is the copy right? 4'
\ir support/howto_block.sql
SELECT is((SELECT verdict FROM roneo.status WHERE dest = 'app.orders'), 'equal', 'and the next night says so');

---------------------------------------------------------------- Take one transaction out of the queue
\set block 'Take one transaction out of the queue 1'
\ir support/howto_block.sql
\set block 'Take one transaction out of the queue 2'
\ir support/howto_block.sql
SELECT business();
\set block 'Take one transaction out of the queue 3'
\ir support/howto_block.sql
SELECT is((SELECT count(*) FROM roneo.pending_transactions('app.orders')), 3::bigint, 'the mass change is not pending any more');
CALL roneo.refresh_now('app.orders');
SELECT equal('a change that was made on both sides need not come');
SELECT cmp_ok((SELECT rows_received FROM roneo.run ORDER BY run_id DESC LIMIT 1), '<', 20::bigint, 'and has not');

---------------------------------------------------------------- The queue has grown
\set block 'The queue has grown 1'
\ir support/howto_block.sql
SELECT on_source($$ UPDATE roneo_capture.consumer SET confirmed_at = now() - interval '31 days' $$);
CALL roneo.refresh_now('app.orders');
SELECT is((SELECT count(*) FROM roneo.captures('shop') WHERE confirmed_at > now() - interval '1 hour'), 1::bigint,
    'a copy that is refreshed, with nothing to do, is not one of those that are gone');
SELECT on_source($$ UPDATE roneo_capture.consumer SET confirmed_at = now() - interval '31 days' $$);
\set block 'The queue has grown 2'
\ir support/howto_block.sql
SELECT is((SELECT sqlstate FROM roneo.refresh('app.orders')), 'RO025', 'a copy that was forgotten says so');
SELECT lives_ok($$ SELECT roneo.resync('app.orders') $$, 'and can be taken up again');
CALL roneo.refresh_now('app.orders');
SELECT business();
\set block 'The queue has grown 3'
\ir support/howto_block.sql
SELECT is(source_value('SELECT count(*) FROM roneo_capture.queue_1_0 WHERE op IS DISTINCT FROM ''r'''), '0', 'the queue is empty');
SELECT equal('and the copy was compared');
SELECT business();
\set block 'The queue has grown 4'
\ir support/howto_block.sql
CALL roneo.refresh_now('app.orders');
SELECT equal('a queue that was truncated with a mark costs a comparison, and no change');
\set block 'The queue has grown 5'
\ir support/howto_block.sql
SELECT is(source_value('SELECT queue_limit FROM roneo_capture.capture'), (50 * 1024 ^ 3)::bigint::text, 'the queue has another limit');
SELECT roneo.drop_replica('app.orders', keep_table => false);
SELECT is(source_value('SELECT count(*) FROM roneo_capture.capture'), '0', 'the last copy takes the capture along');

---------------------------------------------------------------- A DBA who gives no TRIGGER
SELECT roneo.drop_source('shop');
SELECT on_source('GRANT USAGE ON SCHEMA app TO reader; GRANT SELECT ON app.orders TO reader');
SELECT roneo.create_source('shop', :'source_conninfo', 'reader', 'reader secret');
SELECT throws_ok($$ SELECT roneo.create_dml('shop', 'app.orders') $$, 'RO024', NULL, 'a role that only reads cannot capture');
\set block 'A DBA who gives no TRIGGER 1'
\ir support/howto_block.sql
\set block 'A DBA who gives no TRIGGER 2'
\ir support/howto_block.sql
SELECT business();
CALL roneo.refresh_now('app.orders');
SELECT equal('a role that only reads follows what the DBA captures');
SELECT roneo.drop_replica('app.orders', keep_table => false);
SELECT roneo.drop_source('shop');
SELECT roneo.create_source('shop', :'source_conninfo');

---------------------------------------------------------------- Fan-out and fan-in
SELECT new_shop();
CREATE DATABASE :"other_db" TEMPLATE roneo_dest_template;
\! psql -Xq -v ON_ERROR_STOP=1 "$OTHER" -c 'CREATE SCHEMA app' -c "SELECT roneo.create_source('shop', '$SHOP')" >/dev/null
SELECT roneo.create_dml('shop', 'app.orders');
\set block 'Fan-out and fan-in 1'
\ir support/howto_block.sql
\set block 'Fan-out and fan-in 2'
\ir support/howto_block.sql
SELECT is((SELECT array_agg(DISTINCT capture_id)::text || count(*) FROM roneo.captures('shop')),
          (SELECT format('{%s}2', min(capture_id)) FROM roneo.captures('shop')), 'one capture feeds two databases');
SELECT roneo.create_source('berlin', replace(:'source_conninfo', :'source_db', :'berlin_db'));
SELECT roneo.create_source('paris', replace(:'source_conninfo', :'source_db', :'paris_db'));
\set block 'Fan-out and fan-in 3'
\ir support/howto_block.sql
SELECT is((SELECT count(*) FROM app.orders_of_paris), 2000::bigint, 'each source has its own copy');
\set block 'Fan-out and fan-in 4'
\ir support/howto_block.sql
SELECT dblink_exec(replace(:'source_conninfo', :'source_db', :'paris_db'), 'DELETE FROM app.orders WHERE id > 10');
SELECT dblink_exec(replace(:'source_conninfo', :'source_db', :'paris_db'), 'UPDATE app.orders SET total = 7 WHERE id = 10');
CALL roneo.refresh_now('app.orders_paris');
SELECT results_eq($$ SELECT shop, count(*), max(total) FILTER (WHERE id = 10) = 7 FROM app.all_orders GROUP BY 1 ORDER BY 1 $$,
    $$ VALUES ('berlin', 2000::bigint, false), ('paris', 10, true) $$, 'and each its part of a common table');
\! psql -Xq "$OTHER" -c "SELECT roneo.drop_replica('app.orders')" >/dev/null
DROP DATABASE :"other_db" WITH (FORCE);
SELECT roneo.drop_replica(dest) FROM roneo.replica;
SELECT roneo.drop_source('berlin'), roneo.drop_source('paris');
DROP DATABASE :"berlin_db" WITH (FORCE);
DROP DATABASE :"paris_db" WITH (FORCE);

---------------------------------------------------------------- Tables that must agree
SELECT new_shop();
\set block 'Tables that must agree 1'
\ir support/howto_block.sql
SELECT business();
CALL roneo.refresh_now('app.customers');
SELECT equal('who refreshes one of a group refreshes all');
SELECT roneo.drop_replica(dest) FROM roneo.replica;

---------------------------------------------------------------- Move to a new server
SELECT new_shop();
SELECT on_source($$ ALTER TABLE app.orders ADD FOREIGN KEY (customer_id) REFERENCES app.customers;
    CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''fired''; END';
    CREATE TRIGGER refuse BEFORE DELETE ON app.customers FOR EACH ROW EXECUTE FUNCTION app.refuse();
    CREATE ROLE shop_application LOGIN $$);
DROP SCHEMA app CASCADE;
\set block 'Move to a new server 1'
\ir support/howto_block.sql
\set block 'Move to a new server 2'
\ir support/howto_block.sql
SELECT business();
\set block 'Move to a new server 3'
\ir support/howto_block.sql
SELECT equal('everything is on the new server');
SELECT business();
\set block 'Move to a new server 4'
\ir support/howto_block.sql
\set block 'Move to a new server 5'
\ir support/howto_block.sql
SELECT equal('and so are the last changes');
\set block 'Move to a new server 6'
\ir support/howto_block.sql
SELECT is((SELECT last_value FROM app.orders_id_seq)::text, source_value('SELECT last_value FROM app.orders_id_seq'),
    'sequences are where they were');
\set block 'Move to a new server 7'
\ir support/howto_block.sql
SELECT is((SELECT count(DISTINCT line) FROM string_to_table(rtrim(pg_read_file(concat(:'socket', '/out')), E'\n'), E'\n') AS line), 1::bigint,
    'both sides count the same');
\set block 'Move to a new server 8'
\ir support/howto_block.sql
SELECT throws_ok('DELETE FROM app.customers', 'P0001', 'fired', 'the application''s triggers fire again');
SELECT lives_ok($$ INSERT INTO app.orders (customer_id, total) VALUES (1, 1) $$, 'and the application goes on with new numbers');
SELECT is(source_value('SELECT count(*) FROM pg_trigger WHERE tgname LIKE ''roneo%'''), '0', 'the old server has no trigger of ours left');
SELECT on_source('DROP ROLE shop_application');

---------------------------------------------------------------- Restored, promoted, upgraded
SELECT new_shop();
SELECT roneo.create_dml('shop', 'app.orders', refresh_every => '1 hour');
SELECT business();
UPDATE roneo.replica SET identity = jsonb_set(identity, '{timeline}', '"000000FF"');
SELECT is((SELECT sqlstate FROM roneo.refresh('app.orders')), 'RO022', 'after a promotion of the source nothing is changed');
UPDATE roneo.replica SET created_at = now() - interval '1 day', last_success_at = NULL, last_attempt_at = NULL, failures = 0;
\set block 'Restored, promoted, upgraded 1'
\ir support/howto_block.sql
SELECT equal('until the source is accepted');
SELECT is((SELECT rows_received FROM roneo.run ORDER BY run_id DESC LIMIT 1), 4::bigint, 'then only what changed is read');
SELECT business();
SELECT on_source('UPDATE roneo_capture.consumer SET dest_identity = ''elsewhere''');
SELECT is((SELECT sqlstate FROM roneo.refresh('app.orders')), 'RO025', 'a destination that has moved says so');
SELECT lives_ok($$ SELECT roneo.accept_source('app.orders') $$, 'it is accepted');
CALL roneo.refresh_now('app.orders');
SELECT equal('and goes on');
-- A destination that was set back behind what it has confirmed.
CREATE TEMPORARY TABLE backup AS SELECT * FROM roneo.capture_replica;
SELECT business();
CALL roneo.refresh_now('app.orders');
-- Over dblink the source hears of it from the next one.
CALL roneo.refresh_now('app.orders');
UPDATE roneo.capture_replica AS c SET position = b.position FROM backup AS b;
SELECT is((SELECT sqlstate FROM roneo.refresh('app.orders')), 'RO025', 'so does one that was restored');
UPDATE roneo.replica SET last_success_at = NULL, last_attempt_at = NULL, failures = 0;
\set block 'Restored, promoted, upgraded 2'
\ir support/howto_block.sql
SELECT equal('it is compared');

CREATE DATABASE :"restored_db";
\setenv RESTORED :restored_conninfo
\! pg_dump "$SHOP" | psql -Xq "$RESTORED" >/dev/null 2>&1
SELECT set_config('test.source_conninfo', :'restored_conninfo', false);
\setenv SHOP :restored_conninfo
ALTER SERVER roneo_shop OPTIONS (SET dbname :'restored_db');
SELECT business();
SELECT is((SELECT outcome FROM roneo.refresh('app.orders')), 'failed', 'a source restored from a dump is not believed');
\set block 'A source restored from pg_dump 1'
\ir support/howto_block.sql
\set block 'A source restored from pg_dump 2'
\ir support/howto_block.sql
SELECT equal('until it is compared');
SELECT business();
CALL roneo.refresh_now('app.orders');
SELECT equal('and then it is followed again');
SELECT roneo.drop_replica(dest) FROM roneo.replica;
SELECT set_config('test.source_conninfo', :'first_conninfo', false);
\setenv SHOP :first_conninfo
ALTER SERVER roneo_shop OPTIONS (SET dbname :'source_db');
DROP DATABASE :"restored_db" WITH (FORCE);

---------------------------------------------------------------- Rename a column of the key
SELECT on_source('DROP SCHEMA roneo_capture CASCADE');
SELECT new_shop();
SELECT roneo.create_dml('shop', 'app.orders');
\set block 'Rename a column of the key 1'
\ir support/howto_block.sql
SELECT lives_ok($$ SELECT on_source('INSERT INTO app.orders (customer_id) VALUES (1)') $$, 'a key column that was renamed fails no write');
\set block 'Rename a column of the key 2'
\ir support/howto_block.sql
SELECT equal('and the copy follows', 'app.orders', 'order_id');
SELECT on_source('UPDATE app.orders SET total = 0 WHERE order_id < 10');
CALL roneo.refresh_now('app.orders');
SELECT equal('also what comes later', 'app.orders', 'order_id');

---------------------------------------------------------------- Retype a captured column
SELECT on_source('DROP SCHEMA roneo_capture CASCADE');
SELECT roneo.drop_replica(dest) FROM roneo.replica;
SELECT new_shop();
SELECT roneo.create_dml('shop', 'app.orders');
SELECT throws_ok($$ SELECT on_source('ALTER TABLE app.orders ALTER COLUMN id TYPE numeric(20)') $$, '0A000', NULL, 'a key of statement triggers cannot be retyped just so');
\set block 'Retype a captured column 1'
\ir support/howto_block.sql
SELECT lives_ok('SELECT business()', 'a key column that was retyped fails no write');
SELECT lives_ok($$ SELECT on_source('INSERT INTO app.orders VALUES (1e19, 1); UPDATE app.orders SET id = id + 1 WHERE id = 1e19') $$, 'whatever its values');
SELECT is((SELECT sqlstate FROM roneo.refresh('app.orders')), 'RO024', 'the refresh says so');
\set block 'Retype a captured column 2'
\ir support/howto_block.sql
SELECT equal('and the copy follows');
SELECT on_source('UPDATE app.orders SET id = id + 1 WHERE id = 1e19 + 1');
CALL roneo.refresh_now('app.orders');
SELECT equal('also what comes later');

---------------------------------------------------------------- Remove everything
SELECT business() WHERE false;
\set block 'Remove everything 1'
\ir support/howto_block.sql
SELECT is(source_value('SELECT count(*) FROM pg_trigger WHERE tgname LIKE ''roneo%'''), '0', 'no trigger is left');
SELECT cmp_ok((SELECT count(*) FROM app.orders), '>', 1000::bigint, 'the copy stays');
\set block 'Remove everything 2'
\ir support/howto_block.sql
\set block 'Remove everything 3'
\ir support/howto_block.sql
SELECT is(source_value('SELECT count(*) FROM pg_roles WHERE rolname = ''roneo_capture'''), '0', 'nor a role');

SELECT is_empty('SELECT key FROM howto EXCEPT SELECT key FROM ran', 'every example was run');
SELECT * FROM finish();
