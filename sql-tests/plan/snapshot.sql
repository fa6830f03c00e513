-- The plans of a snapshot, for answers that no source gave.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT plan(40);

CREATE SCHEMA app;
CREATE TABLE app.first (id bigint PRIMARY KEY, "Odd %s" varchar(5) COLLATE "C", at timestamptz);
CREATE INDEX ON app.first (lower("Odd %s"));
CREATE TABLE app.second (LIKE app.first INCLUDING ALL);
CREATE VIEW app.shown WITH (security_barrier = true) AS SELECT id, "Odd %s", at FROM app.first;
GRANT SELECT ON app.first TO PUBLIC;
GRANT UPDATE (id) ON app.first TO PUBLIC;
CREATE TABLE app.source_side (LIKE app.first);

INSERT INTO roneo.source (source_name, server_name, owns_server) VALUES ('src', 'none', false);
INSERT INTO roneo.replica (source_id, source_schema, source_table, source_kind, source_lockable, dest, dest_schema, dest_name, method, filter_path)
SELECT source_id, 'app', 'source_side', 'r', true, 'app.shown', 'app', 'shown', 'snapshot', '"$user", public' FROM roneo.source;
INSERT INTO roneo.snapshot_replica (replica_id, table_schema, first_table, second_table, columns)
SELECT replica_id, 'app', 'first', 'second', roneo.local_relation('app.source_side') -> 'columns' FROM roneo.replica;

CREATE FUNCTION pg_temp.answer(hand text, options jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql
BEGIN ATOMIC
    SELECT jsonb_build_object('replica_id', r.replica_id, 'hand', hand, 'options', options,
        'before', $json${"track_counts": "on", "identity": {"in_recovery": false, "postmaster_start": "a", "stats_discarded": "b"},
            "leaves": [{"oid": 2, "kind": "r", "filenode": 9, "size": 8192, "ins": 4, "upd": 3, "del": 2}]}$json$::jsonb,
        'inside', jsonb_build_object('relation', roneo.local_relation('app.source_side')))
    FROM roneo.replica AS r;
END;
CREATE FUNCTION pg_temp.planned(hand text, options jsonb DEFAULT '{}') RETURNS text[] LANGUAGE sql
BEGIN ATOMIC
    SELECT array_agg(concat_ws(' ', p.number, p.stage, p.kind, CASE WHEN p.patient THEN 'patiently' END, p.purpose) ORDER BY p.number)
    FROM roneo.plan_refresh(jsonb_build_array(pg_temp.answer(hand, options))) AS p;
END;
CREATE FUNCTION pg_temp.step(hand text, wanted text, options jsonb DEFAULT '{}') RETURNS text LANGUAGE sql
BEGIN ATOMIC
    SELECT p.statement FROM roneo.plan_refresh(jsonb_build_array(pg_temp.answer(hand, options))) AS p WHERE p.purpose = wanted;
END;

-- A load.
SELECT is(pg_temp.planned(hand), ARRAY[
    '1 1 dest patiently wait for the last readers of the hidden table',
    '2 1 dest empty the hidden table',
    '3 1 dest drop index second_pkey',
    '4 1 dest drop index second_lower_idx',
    '5 2 transfer copy the rows into the hidden table',
    '6 2 check see that the source was not rewritten meanwhile',
    '7 4 dest build index first_pkey',
    '8 4 dest build index first_lower_idx',
    '9 4 dest give the table the privileges of the one that is shown',
    '10 4 dest gather statistics',
    '11 5 dest patiently show the loaded table'], format('empty, load, index, show (%s)', hand))
FROM unnest('{sql,runner}'::text[]) AS hand;
SELECT is(array_agg(statement ORDER BY number), ARRAY[
    'LOCK TABLE app.second IN ACCESS EXCLUSIVE MODE',
    'TRUNCATE TABLE app.second',
    'ALTER TABLE app.second DROP CONSTRAINT second_pkey',
    'DROP INDEX app.second_lower_idx',
    'SELECT id::bigint, "Odd %s"::character varying, at::timestamp with time zone FROM app.source_side',
    'ALTER TABLE app.second ADD PRIMARY KEY (id)',
    'CREATE INDEX ON app.second USING btree (lower(("Odd %s")::text))',
    'ANALYZE app.second',
    'CREATE OR REPLACE VIEW app.shown WITH (security_barrier = ''true'') AS SELECT id, "Odd %s", at FROM app.second'],
    'in these words')
FROM roneo.plan_refresh(jsonb_build_array(pg_temp.answer('runner'))) WHERE kind <> 'check' AND purpose NOT LIKE 'give %';
SELECT alike(pg_temp.step('sql', 'give the table the privileges of the one that is shown'),
    'GRANT SELECT ON app.second TO PUBLIC; GRANT UPDATE (id) ON app.second TO PUBLIC',
    'privileges of the table and of columns are repeated');
SELECT results_eq($$ SELECT copy_out, copy_in, into_table, into_list, into_types, counts
                     FROM roneo.plan_refresh(jsonb_build_array(pg_temp.answer('runner'))) WHERE kind = 'transfer' $$,
    $$ VALUES ('COPY (SELECT id::bigint, "Odd %s"::character varying, at::timestamp with time zone FROM app.source_side) TO STDOUT (FORMAT binary)',
               'COPY app.second (id, "Odd %s", at) FROM STDIN (FORMAT binary, FREEZE true)',
               'app.second', 'id, "Odd %s", at', 'id bigint, "Odd %s" character varying, at timestamp with time zone', 'inserted') $$,
    'the runner copies with FREEZE');
SELECT is(copy_in, 'COPY app.second (id, "Odd %s", at) FROM STDIN (FORMAT binary)', 'the SQL hand could not, and has no use for it')
FROM roneo.plan_refresh(jsonb_build_array(pg_temp.answer('sql'))) WHERE kind = 'transfer';
SELECT alike(pg_temp.step('runner', 'see that the source was not rewritten meanwhile'), '%to_regclass(''app.source_side'')%relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode%',
    'after the reading the files are looked at');

-- What older snapshots could not see.
SELECT unalike(pg_temp.step(hand, 'show the loaded table'), '%virtualxid%', format('the first load shows nobody less than before (%s)', hand))
FROM unnest('{sql,runner}'::text[]) AS hand;
UPDATE roneo.snapshot_replica SET fingerprint = '{"older": true}', loaded_at = clock_timestamp();
SELECT unalike(pg_temp.step('runner', 'show the loaded table'), '%virtualxid%', 'rows loaded with FREEZE are seen by all');
SELECT alike(pg_temp.step('sql', 'show the loaded table'), 'DO %pg_stat_activity%CREATE OR REPLACE VIEW app.shown%',
    'those that the SQL hand has just loaded are shown where nobody else is connected');

-- An unchanged source.
UPDATE roneo.snapshot_replica SET fingerprint = roneo.change_print(pg_temp.answer('sql'));
SELECT is(pg_temp.planned(hand), NULL, format('an unchanged source is not copied (%s)', hand)) FROM unnest('{sql,runner}'::text[]) AS hand;
SELECT is(cardinality(pg_temp.planned('sql', '{"force": true}')), 11, 'unless it is forced');
UPDATE roneo.replica SET filter = 'at > now()';
SELECT is(cardinality(pg_temp.planned('sql')), 12, 'or what its filter finds changes by itself');
SELECT is((pg_temp.planned('sql'))[5:6], ARRAY['5 2 check take the search_path that it was registered under', '6 2 transfer copy the rows into the hidden table'],
    'a filter is read under the path it was registered under');
SELECT is(pg_temp.step('runner', 'take the search_path that it was registered under'),
    $$SELECT pg_catalog.jsonb_build_object('search_path', pg_catalog.set_config('search_path', '"$user", public', true))$$, 'which is set for the transaction');
SELECT alike(pg_temp.step('runner', 'copy the rows into the hidden table'), E'% FROM app.source_side WHERE (at > now()\n)', 'and stays between parentheses');
UPDATE roneo.replica SET filter = NULL, source_kind = 'v';
SELECT ok('5 2 check take the search_path that it was registered under' = ANY (pg_temp.planned('sql', '{"force": true}')), 'so is a view, for the functions that it calls');
UPDATE roneo.replica SET source_kind = 'r';

-- A load that waits for its swap.
UPDATE roneo.snapshot_replica SET fingerprint = '{"older": true}', pending_fingerprint = fingerprint, pending_columns = columns,
    pending_at = clock_timestamp(), pending_frozen = true;
SELECT is(pg_temp.planned(hand), '{1 5 dest patiently show the loaded table}', format('what was loaded is only to be shown (%s)', hand))
FROM unnest('{sql,runner}'::text[]) AS hand;
SELECT unalike(pg_temp.step('sql', 'show the loaded table'), '%virtualxid%', 'at once where the runner loaded it');
UPDATE roneo.snapshot_replica SET pending_frozen = false;
SELECT alike(pg_temp.step('runner', 'show the loaded table'), '%virtualxid%''200 ms''%', 'else those who are here now may finish, for a while');
SELECT is(cardinality(pg_temp.planned('sql', '{"force": true}')), 11, 'a forced refresh loads again');
UPDATE roneo.snapshot_replica SET pending_fingerprint = '{"other": true}';
SELECT is(cardinality(pg_temp.planned('runner')), 11, 'so does one whose source has changed meanwhile');
SELECT is(pg_temp.planned('sql', '{"show_pending": true}'), '{1 5 dest patiently show the loaded table}', 'unless it is to be shown all the same');
UPDATE roneo.snapshot_replica SET pending_columns = '[]';
SELECT is(cardinality(pg_temp.planned('sql', '{"show_pending": true}')), 11, 'which its columns must allow');
UPDATE roneo.snapshot_replica SET pending_fingerprint = NULL, pending_columns = NULL, pending_at = NULL, pending_frozen = NULL;

-- The other table's turn.
UPDATE roneo.snapshot_replica SET shown = 2;
SELECT alike(pg_temp.step('runner', 'show the loaded table'), '%FROM app.first', 'what is shown decides which table is loaded, and no name does');
UPDATE roneo.snapshot_replica SET shown = 1;

-- Columns.
ALTER TABLE app.source_side ADD COLUMN "new one" integer NOT NULL;
SELECT is(array_agg(statement ORDER BY number), ARRAY[
    'LOCK TABLE app.second IN ACCESS EXCLUSIVE MODE', 'DROP TABLE app.second', 'CREATE TABLE app.second (LIKE app.first INCLUDING ALL)',
    'ALTER TABLE app.second ADD COLUMN "new one" integer NOT NULL'], 'a new column makes the hidden table anew')
FROM roneo.plan_refresh(jsonb_build_array(pg_temp.answer('runner'))) WHERE stage = 1;
SELECT is(pg_temp.step('runner', 'show the loaded table'),
    'CREATE OR REPLACE VIEW app.shown WITH (security_barrier = ''true'') AS SELECT id, "Odd %s", at, "new one" FROM app.second', 'and the view grows by it');
ALTER TABLE app.source_side DROP COLUMN "new one";
ALTER TABLE app.source_side RENAME COLUMN at TO since;
SELECT alike(pg_temp.step('runner', 'show the loaded table'), 'ALTER VIEW app.shown RENAME COLUMN at TO since; CREATE OR REPLACE VIEW app.shown %',
    'a column that was renamed is renamed in the view');
ALTER TABLE app.source_side ALTER COLUMN id TYPE numeric;
UPDATE roneo.snapshot_replica SET post_script = 'GRANT SELECT ON app.shown TO reader';
COMMENT ON COLUMN app.shown.id IS 'It''s the key.';
SELECT alike(pg_temp.step('runner', 'build the view anew over the loaded table'),
    'DROP VIEW app.shown; CREATE OR REPLACE VIEW app.shown WITH (security_barrier = ''true'') AS SELECT id, "Odd %s", since FROM app.second; '
    'ALTER VIEW app.shown OWNER TO postgres%; COMMENT ON COLUMN app.shown.id IS ''It''''s the key.''; GRANT SELECT ON app.shown TO reader',
    'one of another type makes the view anew, with what belongs to it');
CREATE VIEW app.on_it AS SELECT id FROM app.shown;
SELECT throws_ok($$ SELECT pg_temp.planned('runner') $$, 'RO012', NULL, 'not while others depend on it');
SELECT alike(pg_temp.step('runner', 'build the view anew over the loaded table', '{"drop_dependents": true}'), 'DROP VIEW app.shown CASCADE; %',
    'unless these may be dropped');
ALTER TABLE app.source_side ALTER COLUMN id TYPE bigint;
UPDATE roneo.replica SET wanted_columns = '{id,gone}';
SELECT throws_ok($$ SELECT pg_temp.planned('sql') $$, 'RO015', NULL, 'a column of the list that is gone is missed');
UPDATE roneo.replica SET wanted_columns = NULL;
ALTER TABLE app.second RENAME TO third;
SELECT throws_ok($$ SELECT pg_temp.planned('sql') $$, 'RO018', NULL, 'so is a table behind the view');

-- What is asked of the source.
SELECT is((p).lock, 'LOCK TABLE app.source_side IN ACCESS SHARE MODE', 'a table is locked before the snapshot') FROM roneo.probes(ARRAY[(SELECT replica_id FROM roneo.replica)]) AS f(i, p);
SELECT ok((p).before LIKE '%pg_stat_get_tuples_inserted%' AND (p).inside NOT LIKE '%pg_stat_get%', 'counters are read before it, never inside')
FROM roneo.probes(ARRAY[(SELECT replica_id FROM roneo.replica)]) AS f(i, p);
UPDATE roneo.replica SET source_lockable = false;
SELECT is((p).lock, NULL, 'what cannot be locked is not') FROM roneo.probes(ARRAY[(SELECT replica_id FROM roneo.replica)]) AS f(i, p);
SELECT alike(roneo.source_opening(), 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL TimeZone = ''UTC''; %; SET LOCAL row_security = ''off''; %; SET LOCAL lock_timeout = ''30s''',
    'the source is read in one snapshot, under settings of ours');

SELECT * FROM finish();
ROLLBACK;
