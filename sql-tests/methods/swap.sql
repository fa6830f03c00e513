-- How a snapshot's view is swapped: readers are never hurt, and a swap that must wait loses nothing.
SET client_min_messages = warning;
SELECT plan(60);

SELECT format('host=%s port=%s dbname=%s user=postgres', :'socket', :'port', :'dest_db') AS dest_conninfo \gset
INSERT INTO roneo.setting VALUES ('lock_timeout_ms', '20'), ('lock_attempts', '2');

CREATE FUNCTION shown(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT string_agg(t::text, '' '' ORDER BY t::text) FROM %s AS t', dest) INTO found;
    RETURN found;
END;
$$;
CREATE FUNCTION outcome(dest regclass) RETURNS text LANGUAGE sql RETURN (roneo.refresh(dest)).outcome;
-- As one who waits for both transactions.
CREATE FUNCTION last_outcome(wanted regclass) RETURNS text LANGUAGE sql
RETURN (SELECT r.last_outcome FROM roneo.replica AS r WHERE r.dest = wanted);
CREATE FUNCTION state(wanted text) RETURNS text LANGUAGE sql
RETURN (SELECT s.state FROM roneo.status AS s WHERE s.dest = wanted);
-- What another session answers.
CREATE FUNCTION asked(session text, query text) RETURNS text LANGUAGE sql
RETURN (SELECT v FROM dblink(session, query) AS t(v text));
CREATE FUNCTION kinds(dest regclass) RETURNS text[] LANGUAGE sql
RETURN ARRAY(SELECT concat(p.stage, ' ', p.kind) FROM roneo.plan(dest) WITH ORDINALITY AS p ORDER BY p.ordinality);

SELECT on_source($$ CREATE TABLE events (id int PRIMARY KEY); INSERT INTO events VALUES (1) $$) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT roneo.create_snapshot('src', 'public.events') \g /dev/null
CREATE TABLE other (id int);
SELECT count(dblink_connect(s, :'dest_conninfo')) FROM unnest(ARRAY['reader', 'later']) AS s \g /dev/null

-- A reader holds the view.
SELECT asked('reader', 'BEGIN; SELECT string_agg(id::text, '' '') FROM events') \g /dev/null
SELECT on_source('INSERT INTO events VALUES (2)') \g /dev/null
SELECT row_eq($$ SELECT outcome, sqlstate, rows_sent, rows_received, message FROM roneo.refresh('events') $$,
    ROW('deferred'::text, NULL::text, 2::bigint, 2::bigint, 'loaded; the next refresh shows it'::text),
    'where the view is busy its rows are loaded, and the swap is deferred');
SELECT is(state('public.events'), 'swap pending', 'the status says so');
SELECT is(message, 'loaded; the next refresh shows it', 'and why') FROM roneo.status;
SELECT is(shown('events'), '(1)', 'the view still shows the old rows');
SELECT is(asked('reader', 'SELECT string_agg(id::text, '' '') FROM events'), '1', 'to its reader too');
SELECT is(kinds('events'), ARRAY['5 dest'], 'the next refresh is only to swap');
SELECT is(outcome('events'), 'deferred', 'which waits as long as the reader stays');
SELECT is(count(*), 1::bigint, 'the rows were read once') FROM roneo.run WHERE outcome = 'deferred' AND rows_sent = 2;
SELECT is((last_success_at, failures), (SELECT (max(started_at), 0) FROM roneo.run WHERE outcome = 'ok'),
    'a deferred refresh is neither a success nor a failure') FROM roneo.replica;
SELECT dblink_exec('reader', 'COMMIT') \g /dev/null
SELECT row_eq($$ SELECT outcome, rows_sent FROM roneo.refresh('events') $$, ROW('ok'::text, NULL::bigint),
    'when the reader has left, what was loaded is shown');
SELECT is(shown('events'), '(1) (2)', 'and it is complete');
SELECT is(state('public.events'), 'ok', 'nothing is pending any more');
SELECT is(outcome('events'), 'unchanged', 'the load counts as a copy of what the source is now');

-- The source goes on while a swap is pending.
SELECT asked('reader', 'BEGIN; SELECT string_agg(id::text, '' '') FROM events') \g /dev/null
SELECT on_source('INSERT INTO events VALUES (3)') \g /dev/null
SELECT is(outcome('events'), 'deferred', 'a second swap is deferred');
SELECT on_source('DELETE FROM events WHERE id = 1') \g /dev/null
SELECT ok('2 transfer' = ANY (kinds('events')), 'a pending load of an older source is loaded again');
SELECT is(outcome('events'), 'deferred', 'and the swap deferred again');
SELECT is(shown('events'), '(1) (2)', 'the old rows are shown all the time');

-- Someone reads the table that is to be loaded.
SELECT on_source('INSERT INTO events VALUES (4)') \g /dev/null
SELECT asked('later', 'BEGIN; SELECT string_agg(id::text, '' '') FROM events_snap2') \g /dev/null
SELECT is(to_regclass('events_snap2'), to_regclass(roneo.hidden_table(m)), 'the hidden table has a reader')
FROM roneo.snapshot_replica AS m;
SELECT row_eq($$ SELECT outcome, sqlstate, rows_sent FROM roneo.refresh('events') $$,
    ROW('deferred'::text, 'RO016'::text, NULL::bigint), 'whose end is waited for before the next load');
SELECT throws_ok($$ SELECT roneo.refresh('events', raise_errors => true) $$, 'RO016', NULL, 'as an error where asked');
SELECT is(asked('later', 'SELECT string_agg(id::text, '' '' ORDER BY id) FROM events_snap2'), '2 3',
    'it still sees the rows of the load that is pending');
SELECT is(state('public.events'), 'swap pending', 'that load is not forgotten');
SELECT dblink_exec(s, 'COMMIT') FROM unnest(ARRAY['reader', 'later']) AS s \g /dev/null
CALL roneo.refresh_now('events');
SELECT is(last_outcome('events'), 'ok', 'when both have left, the rows of today are loaded and shown');
SELECT is(shown('events'), '(2) (3) (4)', 'nothing was lost');

-- Sessions with an older snapshot.
SELECT asked('reader', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*)::text FROM other') \g /dev/null
SELECT on_source('INSERT INTO events VALUES (5)') \g /dev/null
SELECT is(outcome('events'), 'deferred', 'an older snapshot defers the swap although it has not touched the view');
SELECT is(outcome('events'), 'deferred', 'and the one of what was committed meanwhile');
SELECT is(asked('reader', 'SELECT string_agg(id::text, '' '' ORDER BY id) FROM events'), '2 3 4',
    'so it never finds the view empty');
SELECT dblink_exec('reader', 'COMMIT') \g /dev/null
SELECT asked('later', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*)::text FROM other') \g /dev/null
SELECT is(outcome('events'), 'deferred', 'one that began after the load is waited for too');
SELECT is(asked('later', 'SELECT string_agg(id::text, '' '' ORDER BY id) FROM events'), '2 3 4', 'and sees the old rows');
SELECT dblink_exec('later', 'COMMIT') \g /dev/null
SELECT is(outcome('events'), 'ok', 'then the swap is made');
SELECT is(shown('events'), '(2) (3) (4) (5)', 'and shows the rows');

-- A reader whose first statement waits for the view has a snapshot from before the COMMIT.
CREATE PROCEDURE await_waiting(wanted regclass) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 400 LOOP
        EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = wanted);
        PERFORM pg_sleep(0.05);
    END LOOP;
END;
$$;
SELECT on_source('INSERT INTO events VALUES (0)') \g /dev/null
SELECT is(outcome('events'), 'deferred', 'where others are connected, a load and its swap are two transactions');
BEGIN;
SELECT is(outcome('events'), 'ok', 'the swap is made, and not yet committed');
SELECT dblink_exec('reader', 'BEGIN ISOLATION LEVEL REPEATABLE READ') \g /dev/null
SELECT dblink_send_query('reader', 'SELECT string_agg(id::text, '' '' ORDER BY id) FROM events') \g /dev/null
CALL await_waiting('events');
COMMIT;
SELECT is(v, '0 2 3 4 5', 'who came meanwhile does not find the view empty') FROM dblink_get_result('reader') AS t(v text);
SELECT count(*) FROM dblink_get_result('reader') AS t(v text) \g /dev/null
SELECT dblink_exec('reader', 'COMMIT') \g /dev/null
SELECT on_source('DELETE FROM events WHERE id = 0') \g /dev/null
CALL roneo.refresh_now('events');
SELECT is(last_outcome('events'), 'ok', 'the next snapshot finds its rows');

-- The same where the destination's owner may not see what other roles do.
SELECT format('CREATE ROLE %I', 'owner of ' || :'dest_db') \gexec
SELECT format('ALTER %s OWNER TO %I', what, 'owner of ' || :'dest_db')
FROM unnest(ARRAY['VIEW events', 'TABLE events_snap1', 'TABLE events_snap2']) AS what \gexec
SELECT format('GRANT CREATE ON SCHEMA public TO %I', 'owner of ' || :'dest_db') \gexec
SELECT asked('reader', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*)::text FROM other') \g /dev/null
SELECT on_source('INSERT INTO events VALUES (6)') \g /dev/null
SELECT is(outcome('events'), 'deferred', 'a destination of an ordinary role waits for others'' snapshots too');
SELECT is(asked('reader', 'SELECT string_agg(id::text, '' '' ORDER BY id) FROM events'), '2 3 4 5',
    'and they see its rows');
SELECT dblink_exec('reader', 'COMMIT') \g /dev/null
SELECT is(outcome('events'), 'ok', 'and not for those who have left');
SELECT format('ALTER %s OWNER TO postgres', what)
FROM unnest(ARRAY['VIEW events', 'TABLE events_snap1', 'TABLE events_snap2']) AS what \gexec
SELECT format('DROP OWNED BY %1$I; DROP ROLE %1$I', 'owner of ' || :'dest_db') \gexec

-- refresh_due comes back for what it could only load: the reader leaves when it sees the deferral,
-- and by then the source of one has changed again, and that of the other cannot tell.
SELECT on_source('CREATE VIEW seen AS SELECT id FROM events') \g /dev/null
SELECT roneo.create_snapshot('src', 'seen', refresh_every => '1 hour') \g /dev/null
UPDATE roneo.replica SET refresh_every = '1 hour', created_at = created_at - interval '2 days';
CREATE PROCEDURE refresh_beside_reader(wanted text) LANGUAGE plpgsql AS $$
DECLARE
    before bigint := (SELECT max(run_id) FROM roneo.run);
BEGIN
    UPDATE roneo.replica SET last_success_at = CASE WHEN dest_name = wanted THEN now() - interval '1 day' ELSE now() END;
    PERFORM on_source('INSERT INTO events SELECT max(id) + 1 FROM events');
    PERFORM asked('reader', format('BEGIN; SELECT count(*)::text FROM %s', wanted));
    PERFORM dblink_send_query('reader', format($do$ DO 'BEGIN
        WHILE NOT EXISTS (SELECT FROM roneo.run WHERE run_id > %s AND outcome = ''deferred'') LOOP
            PERFORM pg_sleep(0.02);
        END LOOP;
        PERFORM on_source(''INSERT INTO events SELECT max(id) + 1 FROM events''); END'; COMMIT $do$, before));
END;
$$;
UPDATE roneo.setting SET value = '1000' WHERE setting_name = 'lock_timeout_ms';
SELECT max(run_id) AS before FROM roneo.run \gset
CALL refresh_beside_reader('events');
CALL roneo.refresh_due();
SELECT is(array_agg(concat(outcome, ' ', rows_sent) ORDER BY run_id), ARRAY['deferred 6', 'ok '],
    'refresh_due loads, and swaps in a transaction of its own') FROM roneo.run WHERE run_id > :before;
SELECT is(shown('events'), '(2) (3) (4) (5) (6) (7)', 'so the view shows what was loaded');
SELECT is_empty('SELECT * FROM roneo.due()', 'and is no longer due');
CALL roneo.refresh_now('events');
SELECT is(last_outcome('events'), 'ok', 'what changed meanwhile comes with the next refresh');
SELECT is(shown('events'), '(2) (3) (4) (5) (6) (7) (8)', 'and is complete');
SELECT count(*) FROM dblink_get_result('reader') AS t(r text) \g /dev/null
SELECT count(*) FROM dblink_get_result('reader') AS t(r text) \g /dev/null
SELECT count(*) FROM dblink_get_result('reader') AS t(r text) \g /dev/null
SELECT max(run_id) AS before FROM roneo.run \gset
CALL refresh_beside_reader('seen');
CALL roneo.refresh_due();
SELECT is(array_agg(concat(outcome, ' ', rows_sent) ORDER BY run_id), ARRAY['deferred 8', 'ok '],
    'it need not know whether the source has changed') FROM roneo.run WHERE run_id > :before;
SELECT is(shown('seen'), '(2) (3) (4) (5) (6) (7) (8) (9)', 'to show what it has loaded');
SELECT dblink_disconnect(s) FROM unnest(ARRAY['reader', 'later']) AS s \g /dev/null

-- What the view is, beside its rows, stays.
SELECT format('ALTER VIEW events SET (security_barrier = true%s)',
    CASE WHEN current_setting('server_version_num')::int >= 150000 THEN ', security_invoker = true' END) \gexec
COMMENT ON VIEW events IS 'Copied.';
CREATE VIEW on_it AS SELECT id FROM events;
GRANT SELECT ON events TO PUBLIC;
CREATE TEMP TABLE look AS SELECT oid, reloptions, relacl, obj_description(oid) FROM pg_class WHERE relname = 'events';
SELECT on_source('INSERT INTO events VALUES (18)') \g /dev/null
SELECT is(outcome('events'), 'ok', 'a view with options is swapped');
SELECT on_source('INSERT INTO events VALUES (19)') \g /dev/null
SELECT is(outcome('events'), 'ok', 'there and back');
SELECT results_eq($$ SELECT oid, reloptions, relacl, obj_description(oid) FROM pg_class WHERE relname = 'events' $$,
    'TABLE look', 'options, privileges and comments stay at each swap');
SELECT is((SELECT count(*) FROM on_it), 11::bigint, 'and views on it see the rows');

-- Names tell nothing.
SELECT on_source($$ CREATE SCHEMA snap1; CREATE TABLE snap1.snap1 (snap1 int); INSERT INTO snap1.snap1 VALUES (1) $$) \g /dev/null
CREATE SCHEMA snap1;
CREATE TABLE snap1.snap2_snap1 (mine text);
INSERT INTO snap1.snap2_snap1 VALUES ('mine');
SELECT roneo.create_snapshot('src', 'snap1.snap1', d)
FROM unnest(ARRAY['snap1.events_snap1', 'snap1.snap2', format('snap1.%I', repeat('é', 31))]) AS d \g /dev/null
DO $$ BEGIN
    FOR n IN 2 .. 4 LOOP
        PERFORM on_source(format('INSERT INTO snap1.snap1 VALUES (%s)', n));
        PERFORM roneo.refresh(r.dest, raise_errors => true) FROM roneo.replica AS r WHERE r.dest_schema = 'snap1';
    END LOOP;
END $$;
SELECT is(shown(d), source_value('SELECT string_agg(t::text, '' '' ORDER BY t::text) FROM snap1.snap1 AS t'),
    format('%s shows the last rows after three swaps', d))
FROM unnest(ARRAY['snap1.events_snap1', 'snap1.snap2', format('snap1.%I', repeat('é', 31))]::regclass[]) AS d;
SELECT is(shown('snap1.snap2_snap1'), '(mine)', 'a table that happens to have such a name is left alone');
SELECT set_eq($$ SELECT first_table FROM roneo.snapshot_replica WHERE table_schema = 'snap1' $$,
    ARRAY['events_snap1_snap1', 'snap2_1_snap1', repeat('é', 28) || '_snap1'],
    'tables behind views have names that were free, of 63 bytes at most');

-- How a patient step waits.
CREATE SEQUENCE attempt;
CREATE SEQUENCE timeout;
UPDATE roneo.setting SET value = '3' WHERE setting_name = 'lock_attempts';
UPDATE roneo.setting SET value = '123' WHERE setting_name = 'lock_timeout_ms';
SELECT row_eq($$ SELECT lock_timeout_ms, lock_attempts FROM roneo.begin_refresh('{events}') $$, ROW(123, 3),
    'each hand is told how long and how often to wait');
SELECT is(roneo.run_patiently('postgres', $$ DO 'BEGIN
    PERFORM nextval(''public.attempt''), setval(''public.timeout'', rtrim(current_setting(''lock_timeout''), ''ms'')::int);
    RAISE lock_not_available; END' $$), 'deferred', 'what never gets its lock is deferred');
SELECT is((SELECT last_value FROM attempt), 3::bigint, 'after lock_attempts');
SELECT is((SELECT last_value FROM timeout), 123::bigint, 'of lock_timeout_ms each');
SELECT throws_ok($$ SELECT roneo.run_patiently('postgres', 'SELECT 1/0') $$, '22012', NULL, 'any other error is one at once');
SELECT is(roneo.run_patiently('postgres', 'SELECT 1'), 'done', 'and what gets it is done');
