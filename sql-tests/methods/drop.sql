-- Ending a replication: what stays, what goes, and what forbids it.
SET client_min_messages = warning;
SELECT no_plan();

SELECT on_source($$ CREATE TABLE public.orders (id int PRIMARY KEY, v text); INSERT INTO orders VALUES (1, 'one') $$);
SELECT roneo.create_source('main', :'source_conninfo');
CREATE FUNCTION make(names text[]) RETURNS void LANGUAGE sql
BEGIN ATOMIC
    SELECT roneo.create_snapshot('main', 'orders', 's_' || n), roneo.create_plain('main', 'orders', 'p_' || n)
    FROM unnest(names) AS n;
END;
SELECT make('{kept,gone,used,lost,renamed}');

-- Kept, the default.
SELECT lives_ok(format('SELECT roneo.drop_replica(%L)', r), format('a replica is ended: %s', r))
FROM unnest('{s_kept,p_kept}'::text[]) AS r;
SELECT set_eq($$ SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'v') AND relname ~ '_kept' $$,
    $$ VALUES ('p_kept'), ('s_kept'), ('s_kept_snap2') $$, 'what one sees stays, with the table behind a view');
SELECT results_eq('SELECT s.*, p.* FROM s_kept AS s, p_kept AS p', $$ VALUES (1, 'one', 1, 'one') $$,
    'and its rows');
SELECT throws_ok(format('SELECT roneo.refresh(%L)', r), 'RO001', NULL,
    format('it is refreshed no more: %s', r))
FROM unnest('{s_kept,p_kept}'::text[]) AS r;
SELECT throws_ok(format('SELECT roneo.drop_replica(%L)', r), 'RO001', NULL,
    format('nor ended again: %s', r))
FROM unnest('{s_kept,p_kept}'::text[]) AS r;
SELECT is(count(*), 2::bigint, 'its history stays')
FROM roneo.run WHERE dest ~ '_kept' AND outcome = 'ok';
SELECT is_empty($$ SELECT replica_id FROM roneo.snapshot_replica
                   UNION ALL SELECT replica_id FROM roneo.plain_replica EXCEPT SELECT replica_id FROM roneo.replica $$,
    'nothing is left of what described it');
SELECT throws_ok($$ SELECT roneo.create_snapshot('main', 'orders', 's_kept') $$, 'RO005', NULL,
    'a kept view is not taken over');
SELECT lives_ok($$ SELECT roneo.create_plain('main', 'orders', 'p_kept') $$, 'a kept table is');
SELECT lives_ok($$ SELECT roneo.create_plain('main', 'orders', 's_kept_snap2') $$,
    'also one from behind a view');

-- Dropped.
SELECT lives_ok(format('SELECT roneo.drop_replica(%L, keep_table => false)', r),
    format('a replica is dropped with its table: %s', r))
FROM unnest('{s_gone,p_gone}'::text[]) AS r;
SELECT is_empty($$ SELECT relname FROM pg_class WHERE relname ~ '_gone' $$, 'nothing is left of it');
SELECT make('{gone}');
SELECT results_eq('SELECT s.*, p.* FROM s_gone AS s, p_gone AS p', $$ VALUES (1, 'one', 1, 'one') $$,
    'it can be made again');

-- Used by others.
CREATE VIEW s_user AS SELECT id FROM s_used;
CREATE VIEW p_user AS SELECT id FROM p_used;
SELECT throws_ok(format('SELECT roneo.drop_replica(%L, keep_table => false)', r), '2BP01', NULL,
    format('what others use is not dropped: %s', r))
FROM unnest('{s_used,p_used}'::text[]) AS r;
SELECT is((roneo.refresh(r::regclass, force => true)).outcome, 'ok', format('and goes on: %s', r))
FROM unnest('{s_used,p_used}'::text[]) AS r;
SELECT lives_ok(format('SELECT roneo.drop_replica(%L)', r), format('but it can be ended: %s', r))
FROM unnest('{s_used,p_used}'::text[]) AS r;
SELECT results_eq('SELECT s.id, p.id FROM s_user AS s, p_user AS p', 'VALUES (1, 1)',
    'for its users nothing changes');

-- Gone already.
SELECT 's_lost'::regclass::oid AS s_lost, 'p_lost'::regclass::oid AS p_lost \gset
DROP VIEW s_lost;
DROP TABLE p_lost;
CREATE TABLE p_lost AS SELECT 1 AS mine;
SELECT is((roneo.refresh(id::oid)).sqlstate, 'RO018',
    format('what somebody dropped is not refreshed: %s', what))
FROM (VALUES (:'s_lost', 'a view'), (:'p_lost', 'a table')) AS v (id, what);
SELECT lives_ok(format('SELECT roneo.drop_replica(%s, keep_table => false)', id),
    format('but can be forgotten: %s', what))
FROM (VALUES (:'s_lost', 'a view'), (:'p_lost', 'a table')) AS v (id, what);
SELECT set_eq($$ SELECT relname::text FROM pg_class WHERE relname ~ '_lost' $$, $$ VALUES ('p_lost') $$,
    'with what was behind it, and not what has its name now');

-- Under another name.
CREATE SCHEMA elsewhere;
ALTER VIEW s_renamed RENAME TO "Other";
ALTER VIEW "Other" SET SCHEMA elsewhere;
ALTER TABLE p_renamed RENAME TO "Other p";
-- A stranger takes its old name.
CREATE TABLE p_renamed (mine int);
CREATE VIEW s_renamed AS SELECT 1 AS mine;
SELECT lives_ok(format('SELECT roneo.drop_replica(%L, keep_table => false)', r),
    format('a renamed replica is dropped: %s', r))
FROM unnest(ARRAY['elsewhere."Other"', '"Other p"']) AS r;
SELECT set_eq($$ SELECT relname::text FROM pg_class WHERE relname ~ '_renamed|^Other' AND relkind <> 'i' $$,
    $$ VALUES ('p_renamed'), ('s_renamed') $$,
    'and not what has its old name');
SELECT throws_ok($$ SELECT roneo.drop_replica('pg_class') $$, 'RO001', NULL,
    'other tables are nobody''s business');

SELECT * FROM finish();
