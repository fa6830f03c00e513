-- Alone in the cluster: others' transactions would be in the positions.
-- Consumers, rotation, limits, pauses: what keeps a queue small and loses nothing.
\ir ../support/capture.sql
SELECT plan(84);
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT dblink_connect(s, :'source_conninfo') FROM unnest('{a,b}'::text[]) AS s \g /dev/null
SELECT format('host=%s port=%s dbname=%I user=postgres', :'socket', :'port', current_database()) AS here \gset
CREATE FUNCTION bytes(dest regclass) RETURNS bigint LANGUAGE sql RETURN source_value((SELECT format('SELECT roneo_capture.queue_size(%s)', capture_id) FROM feed AS f WHERE f.dest = $1))::bigint;
CREATE FUNCTION rotated(dest regclass) RETURNS text LANGUAGE sql RETURN source_value((SELECT format('SELECT roneo_capture.rotate(%s, 1)', capture_id) FROM feed AS f WHERE f.dest = $1));
CREATE FUNCTION state(dest regclass) RETURNS text LANGUAGE sql RETURN source_value((SELECT format('SELECT state FROM roneo_capture.capture WHERE capture_id = %s', capture_id) FROM feed AS f WHERE f.dest = $1));

CREATE FUNCTION indexed(dest regclass) RETURNS text LANGUAGE sql RETURN source_value((SELECT format($$ SELECT count(*) FROM pg_indexes WHERE schemaname = 'roneo_capture' AND tablename LIKE 'queue\_%s\_%%' $$, capture_id) FROM feed AS f WHERE f.dest = $1));

-- An index costs each change of the application: a single copy can do without.
SELECT on_source($$ CREATE TABLE lone (id int PRIMARY KEY, v text); INSERT INTO lone VALUES (1, 'a') $$) \g /dev/null
SELECT roneo.create_dml('src', 'lone') \g /dev/null
SELECT on_source($$ CREATE INDEX queue_1_1_xid_idx ON roneo_capture.queue_1_1 (xid); UPDATE lone SET v = 'b' $$) \g /dev/null
SELECT rotated('lone'), did('lone'), rotated('lone'), did('lone'), rotated('lone'), rotated('lone'), rotated('lone') \g /dev/null
SELECT is(indexed('lone'), '0', 'the queue of a single copy has no index, and loses that of an older version');
SELECT roneo.drop_replica('lone', keep_table => false) \g /dev/null

-- Two copies here, and one in another database.
SELECT on_source($$ CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'a' FROM generate_series(1, 100) AS g $$) \g /dev/null
SELECT roneo.create_dml('src', 't'), roneo.create_dml('src', 't', 't2') \g /dev/null
SELECT format('%s_two', current_database()) AS two \gset
SELECT dblink_exec(:'here', format('CREATE DATABASE %I TEMPLATE roneo_dest_template', :'two')) \g /dev/null
SELECT dblink_connect('two', format('host=%s port=%s dbname=%I user=postgres', :'socket', :'port', :'two')) \g /dev/null
SELECT * FROM dblink('two', format($$ SELECT roneo.create_source('src', %L)::text $$, :'source_conninfo')) AS t (x text) \g /dev/null
SELECT * FROM dblink('two', $$ SELECT roneo.create_dml('src', 't')::text $$) AS t (x text) \g /dev/null
CREATE FUNCTION did_there() RETURNS text LANGUAGE sql RETURN (SELECT x FROM dblink('two', $$ SELECT concat_ws(' ', outcome, sqlstate, updated) FROM roneo.refresh('t') $$) AS t (x text));
SELECT is(source_value('SELECT count(*) FROM roneo_capture.capture'), '1', 'three copies are fed from one capture');
SELECT is((SELECT count(DISTINCT (consumer_id, destination)) FROM roneo.captures('src') WHERE problem IS NULL AND state = 'running' AND role_name = 'postgres' AND queue_bytes > 0), 3::bigint, 'each known by itself');
SELECT on_source($$ UPDATE t SET v = 'b' WHERE id <= 10 $$) \g /dev/null
SELECT is(did('t'), 'ok +0 ~10 -0 =0', 'one copy');
SELECT on_source($$ UPDATE t SET v = 'c' WHERE id <= 5 $$) \g /dev/null
SELECT is(did('t2'), 'ok +0 ~10 -0 =0', 'another one');
SELECT is(did_there(), 'ok 10', 'one in another database');
SELECT is(did('t'), 'ok +0 ~5 -0 =0', 'each from where it stands');
SELECT is(did('t2'), 'unchanged', 'and no further');

-- Rotation waits for who lags, and for who writes.
SELECT did('t') \g /dev/null
SELECT did('t2') \g /dev/null
SELECT did_there() \g /dev/null
SELECT did('t') \g /dev/null
SELECT on_source($$ UPDATE t SET v = 'r1' WHERE id = 2 $$) \g /dev/null
SELECT told('a', $$ BEGIN; UPDATE t SET v = 'open' WHERE id = 3 $$) \g /dev/null
SELECT is(rotated('t'), 't', 'a queue is rotated while a writer is in it');
SELECT on_source($$ UPDATE t SET v = 'r2' WHERE id = 77 $$) \g /dev/null
SELECT rotated('t'), rotated('t') \g /dev/null
SELECT on_source($$ UPDATE t SET v = 'r3' WHERE id = 78 $$) \g /dev/null
SELECT rotated('t'), rotated('t') \g /dev/null
SELECT is(did('t'), 'ok +0 ~3 -0 =0', 'nothing that is unread is emptied');
SELECT told('a', $$ UPDATE t SET v = 'open' WHERE id = 4; COMMIT $$) \g /dev/null
SELECT did('t') \g /dev/null
SELECT rotated('t'), rotated('t'), rotated('t'), rotated('t') \g /dev/null
SELECT is(did('t2'), 'ok +0 ~5 -0 =0', 'for a copy that lags it is all there, the transaction that was open too');
SELECT ok(same('t', 't2'), 'equal');
SELECT is(did_there(), 'ok 5', 'also for the one elsewhere');
SELECT did('t') \g /dev/null
SELECT did('t2') \g /dev/null
SELECT did_there() \g /dev/null
SELECT did('t') \g /dev/null
SELECT did('t2') \g /dev/null
SELECT did_there() \g /dev/null
SELECT rotated('t'), rotated('t'), rotated('t') \g /dev/null
SELECT is(queued('t'), 0::bigint, 'what all have is emptied');
SELECT ok(indexed('t')::int >= 2, 'where one of many copies may lag, emptied segments get an index');
SELECT is(source_value($$ SELECT count(*) FROM pg_indexes WHERE schemaname = 'roneo_capture' AND tablename LIKE 'queue%' AND indexdef !~ '\(xid\)' $$), '0', 'by transaction');
SELECT c.command
FROM generate_series(1, 10) AS round, unnest(ARRAY[
    $$ SELECT on_source('UPDATE t SET v = left(v, 5) || 1'), on_source('UPDATE t SET v = v || 2 WHERE id % 2 = 0') $$,
    $$ SELECT on_source('INSERT INTO t SELECT g, 1 FROM generate_series(1000, 9000) AS g') $$, $$ SELECT on_source('DELETE FROM t WHERE id >= 1000') $$,
    $$ SELECT did('t') IS NULL $$, $$ SELECT did('t2') IS NULL $$, $$ SELECT did_there() IS NULL $$, $$ SELECT did('t') IS NULL $$, $$ SELECT did('t2') IS NULL $$, $$ SELECT did_there() IS NULL $$, $$ SELECT rotated('t') $$])
    WITH ORDINALITY AS c (command, nr)
ORDER BY round, c.nr \gexec
SELECT cmp_ok(bytes('t'), '<', 4000000::bigint, 'a queue that is read stays small, however much goes through it');
SELECT ok(same('t') AND same('t', 't2'), 'and nothing got lost');
SELECT told('b', 'BEGIN ISOLATION LEVEL REPEATABLE READ') \g /dev/null
SELECT throws_ok(format($$ SELECT * FROM dblink('b', 'SELECT roneo_capture.rotate(%s, 1)::text') AS t (x text) $$, capture_id), '25001', NULL, 'it is rotated in READ COMMITTED only') FROM feed WHERE dest_name = 't';
SELECT told('b', 'ROLLBACK') \g /dev/null

-- A copy that does not come any more.
SELECT on_source($$ UPDATE t SET v = 'x' WHERE id <= 3 $$) \g /dev/null
SELECT is(roneo.expire_consumer('src', (SELECT consumer_id FROM feed WHERE dest_name = 't2')), true, 'it is expired');
SELECT is(roneo.expire_consumer('src', (SELECT consumer_id FROM feed WHERE dest_name = 't2')), false, 'once');
SELECT is(did('t2'), 'failed RO025', 'should it come back, it is told so');
SELECT is(did('t'), 'ok +0 ~3 -0 =0', 'others are not');
SELECT roneo.resync('t2') \g /dev/null
SELECT is(did('t2'), 'ok +0 ~3 -0 =97', 'resync compares it');
SELECT is(did('t2'), 'unchanged', 'and it goes on from there');
SELECT * FROM dblink('two', $$ SELECT roneo.drop_replica('t')::text $$) AS t (x text) \g /dev/null
SELECT is((SELECT count(*) FROM roneo.captures('src')), 2::bigint, 'a copy that is dropped takes its place with it');

-- A clone of this database; a copy that was set back; a source that was.
SELECT dblink_disconnect('two') \g /dev/null
CREATE TEMP TABLE good AS SELECT * FROM roneo.capture_replica WHERE replica_id = (SELECT replica_id FROM feed WHERE dest_name = 't');
SELECT on_source((SELECT format('UPDATE roneo_capture.consumer SET dest_identity = ''1/1'', destination = ''public.t of database elsewhere'' WHERE consumer_id = %L', consumer_id) FROM good)) \g /dev/null
SELECT on_source($$ UPDATE t SET v = 'y' WHERE id <= 4 $$) \g /dev/null
SELECT is(did('t'), 'failed RO025', 'a clone of a destination is a stranger');
SELECT matches((SELECT message FROM roneo.run WHERE dest = 'public.t' ORDER BY run_id DESC LIMIT 1), 'elsewhere', 'and hears whose place that is');
SELECT ok(hint_of('t') ~ 'accept_source' AND hint_of('t') ~ 'resync', 'and its two ways');
SELECT roneo.accept_source('t') \g /dev/null
SELECT is(did('t'), 'ok +0 ~4 -0 =0', 'one that has moved takes its place over');
SELECT on_source((SELECT format('UPDATE roneo_capture.consumer SET dest_identity = ''1/1'' WHERE consumer_id = %L', consumer_id) FROM good)) \g /dev/null
SELECT roneo.resync('t') \g /dev/null
SELECT is(did('t'), 'ok +0 ~0 -0 =100', 'one that is another gets its own');
SELECT is(roneo.expire_consumer('src', (SELECT consumer_id FROM good)), true, 'and leaves the other its own');

CREATE TEMP TABLE before AS SELECT * FROM roneo.capture_replica;
SELECT on_source($$ UPDATE t SET v = 'z' WHERE id = 1 $$) \g /dev/null
SELECT did('t') \g /dev/null
SELECT did('t') \g /dev/null
UPDATE roneo.capture_replica AS c SET position = b.position FROM before AS b WHERE b.replica_id = c.replica_id;
SELECT is(did('t'), 'failed RO025', 'a destination that was set back');
SELECT matches((SELECT message FROM roneo.run WHERE dest = 'public.t' ORDER BY run_id DESC LIMIT 1), 'copy has gone back', 'is told so');
SELECT roneo.resync('t') \g /dev/null
SELECT did('t') \g /dev/null
-- Set back to where a transaction was open that it had seen ended: with the same bounds.
SELECT told('a', $$ BEGIN; UPDATE t SET v = 'held' WHERE id = 2 $$), told('b', $$ BEGIN; UPDATE t SET v = 'held' WHERE id = 3 $$), on_source($$ UPDATE t SET v = 'held' WHERE id = 4 $$) \g /dev/null
SELECT did('t') \g /dev/null
SELECT did('t') \g /dev/null
TRUNCATE before;
INSERT INTO before SELECT * FROM roneo.capture_replica;
SELECT told('b', 'COMMIT') \g /dev/null
SELECT did('t') \g /dev/null
SELECT did('t') \g /dev/null
SELECT is((SELECT pg_snapshot_xmin(b.position) = pg_snapshot_xmin(c.position) AND b.position::text <> c.position::text FROM before AS b JOIN feed AS c USING (replica_id) WHERE c.dest_name = 't'), true, 'a position of the same start');
UPDATE roneo.capture_replica AS c SET position = b.position, confirmed = b.confirmed FROM before AS b WHERE b.replica_id = c.replica_id;
SELECT is(did('t'), 'failed RO025', 'that sees less is behind too');
SELECT matches((SELECT message FROM roneo.run WHERE dest = 'public.t' ORDER BY run_id DESC LIMIT 1), 'copy has gone back', 'and told so');
UPDATE roneo.capture_replica SET position = '5:9:5,7', confirmed = '5:9:5' WHERE replica_id = (SELECT replica_id FROM feed WHERE dest_name = 't');
SELECT on_source((SELECT format('UPDATE roneo_capture.consumer SET position = ''5:9:5'' WHERE consumer_id = %L', consumer_id) FROM feed WHERE dest_name = 't')) \g /dev/null
SELECT is(did('t'), 'failed RO025', 'also where only a transaction between the bounds is the difference');
SELECT told('a', 'COMMIT') \g /dev/null
SELECT roneo.resync('t') \g /dev/null
SELECT did('t') \g /dev/null
UPDATE roneo.capture_replica SET position = '900000000:900000000:' WHERE replica_id = (SELECT replica_id FROM feed WHERE dest_name = 't');
SELECT is(did('t'), 'failed RO025', 'a source that was set back');
SELECT matches((SELECT message FROM roneo.run WHERE dest = 'public.t' ORDER BY run_id DESC LIMIT 1), 'source has gone back', 'is named');
SELECT roneo.resync('t') \g /dev/null
UPDATE roneo.replica SET identity = jsonb_set(identity, '{system_identifier}', '"1"') WHERE dest_name = 't2';
SELECT on_source($$ UPDATE t SET v = 'other' $$) \g /dev/null
SELECT is(did('t2'), 'failed RO022', 'another cluster behind the address');
SELECT roneo.accept_source('t2') \g /dev/null
SELECT is((SELECT outcome FROM roneo.refresh('t2')), 'ok', 'accepted');
SELECT did('t') \g /dev/null
SELECT ok(same('t') AND same('t', 't2'), 'both are equal');

-- The limit of a queue. A transaction is open across the stop.
SELECT did('t') \g /dev/null
SELECT did('t2') \g /dev/null
SELECT roneo.set_queue_limit('t', '100 kB') \g /dev/null
SELECT throws_ok($$ SELECT roneo.set_queue_limit('t', 'much') $$, 'RO007', NULL, 'a limit is a size');
SELECT told('a', $$ BEGIN; UPDATE t SET v = 'early' WHERE id = 1 $$) \g /dev/null
SELECT on_source('INSERT INTO t SELECT g, 1 FROM generate_series(10000, 40000) AS g') \g /dev/null
SELECT on_source('UPDATE t SET v = 2 WHERE id >= 10000') \g /dev/null
SELECT is(state('t'), 'stopped', 'a queue that outgrows its limit is stopped, and the application goes on');
SELECT bytes('t') AS size \gset
SELECT on_source('UPDATE t SET v = 3 WHERE id >= 10000') \g /dev/null
SELECT is(bytes('t'), :size::bigint, 'nothing is recorded any more');
SELECT told('a', $$ UPDATE t SET v = 'unrecorded' WHERE id = 5 $$) \g /dev/null
SELECT is(did('t'), 'deferred RO026', 'refreshes are put off');
SELECT is(did('t2'), 'deferred RO026', 'of all copies');
SELECT told('a', 'COMMIT') \g /dev/null
SELECT told('b', $$ BEGIN; UPDATE t SET v = 'held' WHERE id = 6 $$) \g /dev/null
SELECT did('t') \g /dev/null
SELECT is(did('t'), 'deferred RO026', 'the restart waits for who writes');
SELECT is(state('t'), 'restarting', 'and may not have been seen');
SELECT told('b', $$ UPDATE t SET v = 'held too' WHERE id = 7; COMMIT $$) \g /dev/null
SELECT did('t2') \g /dev/null
SELECT is(state('t'), 'running', 'when they have ended it runs again');
SELECT is((SELECT outcome FROM roneo.refresh('t')), 'ok', 'and each copy is compared');
SELECT did('t2') \g /dev/null
SELECT ok(same('t'), 'one');
SELECT ok(same('t', 't2'), 'and the other');
SELECT is(did('t'), 'unchanged', 'once');
SELECT cmp_ok(bytes('t'), '<', 100000::bigint, 'and the queue is small again');
SELECT roneo.set_queue_limit('t', '1 GB') \g /dev/null

-- A pause, with transactions open across its begin and its end; one of them is prepared meanwhile.
SELECT told('a', $$ BEGIN; UPDATE t SET v = 'pause' WHERE id = 8 $$), told('b', 'BEGIN') \g /dev/null
SELECT roneo.pause_capture('t') \g /dev/null
SELECT on_source($$ UPDATE t SET v = 'mass' WHERE id > 20 $$) \g /dev/null
SELECT told('a', $$ UPDATE t SET v = 'within' WHERE id = 10 $$), told('b', $$ UPDATE t SET v = 'within' WHERE id = 11 $$) \g /dev/null
SELECT is(did('t'), 'deferred RO026', 'while it is paused');
SELECT ok(hint_of('t') ~ 'resume_capture', 'refreshes say how it ends');
SELECT is((SELECT count(*) FROM roneo.captures('src') WHERE state = 'paused'), 2::bigint, 'captures says so too');
SELECT told('a', 'COMMIT') \g /dev/null
SELECT roneo.resume_capture('t') \g /dev/null
SELECT did('t') \g /dev/null
SELECT did('t') \g /dev/null
SELECT is(state('t'), 'restarting', 'a transaction that is open is awaited');
SELECT told('b', format('PREPARE TRANSACTION %L', current_database())) \g /dev/null
SELECT did('t') \g /dev/null
SELECT did('t') \g /dev/null
SELECT is(state('t'), 'restarting', 'also when it is prepared');
-- Older servers, and those that were started again, show it under another name then.
SELECT is(source_value($$ SELECT string_agg(coalesce(roneo_capture.still_awaited(w.awaited, w.writers)::text, 'none'), ' ' ORDER BY w.nr)
    FROM (VALUES (1, NULL, '{3/1,-1/7}'::text[]), (2, '{3/1}'::text[], '{3/1,4/1,-1/7}'), (3, '{3/1}', '{-1/7,4/1}'), (4, '{-1/7}', '{-1/7,-1/8}'), (5, '{-1/7}', '{-1/8}'), (6, '{3/1}', '{4/1}')) AS w (nr, awaited, writers) $$),
    '{3/1,-1/7} {3/1} {-1/7} {-1/7} {} {}', 'or may be one of those that are');
SELECT told('b', format('COMMIT PREPARED %L', current_database())) \g /dev/null
SELECT did('t') \g /dev/null
SELECT did('t2') \g /dev/null
SELECT did('t') \g /dev/null
SELECT did('t2') \g /dev/null
SELECT is(state('t'), 'running', 'then it runs');
SELECT ok(same('t') AND same('t', 't2'), 'and all that was not recorded is found');
SELECT is(did('t'), 'unchanged', 'once');
SELECT roneo.pause_capture('t'), roneo.resume_capture('t') \g /dev/null
SELECT did('t') \g /dev/null
SELECT did('t2') \g /dev/null
SELECT did('t') \g /dev/null
SELECT did('t2') \g /dev/null
SELECT is(state('t'), 'running', 'without writers it takes two refreshes');
SELECT throws_ok($$ SELECT roneo.pause_capture('pg_class') $$, 'RO001', NULL, 'what is no replica is not paused');

-- One transaction, looked at and forgotten.
SELECT on_source($$ UPDATE t SET v = 'small' WHERE id = 1 $$), on_source($$ UPDATE t SET v = 'large' WHERE id > 1 $$) \g /dev/null
SELECT is((SELECT array_agg(changed_keys ORDER BY changed_keys DESC) FROM roneo.pending_transactions('t')), ARRAY[(SELECT count(*) - 1 FROM t), 1], 'the transactions that wait');
SELECT cmp_ok(roneo.forget_transaction('t', (SELECT transaction_id FROM roneo.pending_transactions('t') LIMIT 1)), '>', 64::bigint, 'one is forgotten');
SELECT is(did('t'), 'ok +0 ~1 -0 =0', 'its changes do not come');
SELECT is((SELECT count(*) FROM t WHERE v = 'large'), 0::bigint, 'none of them');
SELECT on_source('TRUNCATE t') \g /dev/null
SELECT is((SELECT bool_or(truncated) FROM roneo.pending_transactions('t')), true, 'TRUNCATE is shown');
SELECT did('t') \g /dev/null
SELECT did('t2') \g /dev/null
SELECT is((SELECT count(*) FROM roneo.pending_transactions('t')), 0::bigint, 'nothing waits');

-- Dropping.
SELECT on_source('INSERT INTO t VALUES (1, $$a$$)') \g /dev/null
SELECT roneo.drop_replica('t2') \g /dev/null
SELECT is(source_value('SELECT count(*) FROM roneo_capture.capture'), '1', 'a capture stays while one copy is fed');
SELECT is(did('t'), 'ok +1 ~0 -0 =0', 'and feeds it');
SELECT told('a', 'BEGIN; INSERT INTO t VALUES (2, $$b$$)') \g /dev/null
SELECT throws_ok($$ DO $do$ BEGIN PERFORM set_config('client_min_messages', 'error', true); PERFORM roneo.drop_replica('t'); RAISE SQLSTATE 'XX001'; END $do$ $$, 'XX001', NULL, 'a source that is in use does not keep a replica from being dropped');
SELECT told('a', 'COMMIT') \g /dev/null
SELECT roneo.resync('t') \g /dev/null
SELECT did('t') \g /dev/null
SELECT ok(same('t'), 'taken back');
SELECT roneo.drop_replica('t') \g /dev/null
SELECT is(source_value($$ SELECT concat_ws(' ', (SELECT count(*) FROM roneo_capture.capture), (SELECT count(*) FROM roneo_capture.consumer), (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'roneo%'),
    (SELECT count(*) FROM pg_proc WHERE proname ~ '_[0-9]+$' AND pronamespace = 'roneo_capture'::regnamespace), (SELECT count(*) FROM pg_class WHERE relname LIKE 'queue%')) $$), '0 0 0 0 0', 'the last copy takes everything with it');
SELECT is(code('INSERT INTO t VALUES (3, $$c$$); UPDATE t SET id = 4 WHERE id = 3; DELETE FROM t; TRUNCATE t'), 'done', 'and the application goes on');
-- A source that cannot be reached.
SELECT on_source('CREATE TABLE lost (id int PRIMARY KEY)') \g /dev/null
SELECT roneo.create_dml('src', 'lost') \g /dev/null
SELECT format('ALTER SERVER %I OPTIONS (SET dbname ''nowhere'')', srvname) AS away FROM pg_foreign_server WHERE srvname ~ 'src' \gset
:away;
SET client_min_messages = error;
SELECT lives_ok($$ SELECT roneo.drop_replica('lost') $$, 'a source that is away does not keep a replica either');
SET client_min_messages = warning;
SELECT format('ALTER SERVER %I OPTIONS (SET dbname %L)', srvname, :'source_db') AS back FROM pg_foreign_server WHERE srvname ~ 'src' \gset
:back;
SELECT is((SELECT count(*) FROM roneo.captures('src') WHERE source_table = 'public.lost'), 1::bigint, 'what is left there is shown');
SELECT ok(roneo.expire_consumer('src', (SELECT consumer_id FROM roneo.captures('src') WHERE source_table = 'public.lost')), 'and can be ended');
SELECT on_source('DROP TABLE lost') \g /dev/null
SELECT is((SELECT problem FROM roneo.captures('src') WHERE source_table = 'public.lost'), 'its table was dropped', 'a table that was dropped');
SELECT is(source_value('SELECT roneo_capture.remove(capture_id) FROM roneo_capture.capture'), 't', 'its capture can be removed');
SELECT dblink_exec(:'here', format('DROP DATABASE %I', :'two')) \g /dev/null
SELECT * FROM finish();
