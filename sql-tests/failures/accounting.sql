-- What finish_refresh does not accept: a source that was rewritten while it was read, and reports
-- that do not add up. The phases are driven by hand here, without the lock that would prevent the first.
SET client_min_messages = warning;
SELECT plan(79);

SELECT on_source($$
    CREATE TABLE events (id int PRIMARY KEY, v varchar DEFAULT 'x');
    INSERT INTO events SELECT generate_series(1, 3);
    CREATE TABLE parted (id int) PARTITION BY RANGE (id);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10);
    CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
    INSERT INTO parted VALUES (1), (10);
    CREATE TABLE parent (id int);
    CREATE TABLE child () INHERITS (parent);
    INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2);
    CREATE MATERIALIZED VIEW kept AS SELECT id FROM events;
$$) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT roneo.create_snapshot('src', format('public.%s', t)), roneo.create_plain('src', format('public.%s', t), format('plain_%s', t))
FROM unnest(ARRAY['events', 'parted', 'parent', 'kept']) AS t \g /dev/null

-- A refresh in which a statement is committed on the source between the snapshot and the reading.
CREATE FUNCTION refresh_with(dest regclass, statement text, locked boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    begun   record;
    before  jsonb;
    inside  jsonb;
    answers jsonb;
    reports jsonb;
    outcome text;
BEGIN
    PERFORM dblink_connect('hand', current_setting('test.source_conninfo'));
    SELECT * INTO begun FROM roneo.begin_refresh(ARRAY[dest]);
    SELECT v INTO before FROM dblink('hand', begun.before) AS t(v jsonb);
    PERFORM dblink_exec('hand', begun.opening);
    IF locked THEN
        PERFORM dblink_exec('hand', begun.lock);
    END IF;
    SELECT v INTO inside FROM dblink('hand', begun.inside) AS t(v jsonb);
    PERFORM on_source(statement);
    answers := jsonb_build_array(jsonb_build_object('replica_id', begun.replica_id, 'hand', 'sql',
                                                    'options', '{"force": true}'::jsonb, 'before', before, 'inside', inside));
    reports := roneo.run_steps(answers, 'hand', jsonb_build_array(to_jsonb(begun)));
    SELECT f.outcome INTO outcome FROM roneo.finish_refresh(answers, jsonb_build_array(jsonb_build_object(
        'replica_id', begun.replica_id, 'planned', jsonb_array_length(reports), 'steps', reports))) AS f;
    PERFORM dblink_disconnect('hand');
    RETURN outcome;
EXCEPTION WHEN OTHERS THEN
    PERFORM dblink_disconnect('hand');
    RAISE;
END;
$$;
CREATE FUNCTION shown(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT string_agg(id::text, '' '' ORDER BY id) FROM %s', dest) INTO found;
    RETURN found;
END;
$$;
CREATE FUNCTION is_told(dest regclass, statement text, what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    before text := shown(dest);
BEGIN
    RETURN NEXT throws_ok(format('SELECT refresh_with(%L, %L)', dest, statement), 'RO013', NULL,
        format('%s between snapshot and reading is noticed (%s)', what, dest));
    RETURN NEXT is(shown(dest), before, 'and the destination left as it was');
END;
$$;

SELECT is(refresh_with('events', 'INSERT INTO events VALUES (4)'), 'ok', 'a row that comes between does no harm');
SELECT is(shown('events'), '1 2 3', 'and is not in the snapshot');
SELECT is((roneo.refresh('events')).outcome, 'ok', 'the next refresh knows that it came');
SELECT is(shown('events'), '1 2 3 4', 'and brings it');
SELECT is_told('events', 'TRUNCATE events; INSERT INTO events VALUES (5)', 'TRUNCATE');
SELECT is_told('events', 'ALTER TABLE events ALTER v TYPE text USING upper(v)', 'ALTER TABLE that rewrites');
SELECT is_told('plain_events', 'VACUUM FULL events', 'VACUUM FULL');
SELECT is_told('plain_events', 'TRUNCATE events; INSERT INTO events VALUES (6)', 'TRUNCATE');
SELECT is_told('parted', 'TRUNCATE parted_2', 'TRUNCATE of a leaf');
SELECT is_told('parted', 'INSERT INTO parted VALUES (11); ALTER TABLE parted DETACH PARTITION parted_2', 'DETACH of a leaf');
SELECT is_told('plain_parted', 'DROP TABLE parted_1', 'a leaf that is dropped');
SELECT is_told('parent', 'ALTER TABLE child NO INHERIT parent', 'a child that leaves');
SELECT is_told('plain_kept', 'REFRESH MATERIALIZED VIEW kept', 'a refreshed materialized view');
SELECT is(concat_ws(' ', u.outcome, shown(r.dest_name::text::regclass)), concat_ws(' ', 'ok', w.rows), format('the next refresh of %s is right', r.dest_name))
FROM roneo.replica AS r
CROSS JOIN LATERAL roneo.refresh(r.dest, force => true) AS u
JOIN (VALUES ('events', '6'), ('plain_events', '6'), ('parted', NULL), ('plain_parted', NULL),
             ('parent', '1'), ('plain_parent', '1'), ('kept', '6'), ('plain_kept', '6')) AS w (name, rows) ON w.name = r.dest_name;
SELECT roneo.create_plain('src', 'parted', 'pruned', filter => 'id < 10') \g /dev/null
SELECT on_source('CREATE VIEW seen AS SELECT id FROM parted') \g /dev/null
SELECT roneo.create_plain('src', 'seen') \g /dev/null
SELECT is(refresh_with(r.dest, 'INSERT INTO events VALUES (7) ON CONFLICT DO NOTHING'), 'ok', format('nothing is told where nothing is rewritten (%s)', r.dest_name))
FROM roneo.replica AS r;
SELECT is(lock IS NOT NULL, r.source_kind <> 'm', format('what can be locked is: %s', r.dest))
FROM roneo.replica AS r, roneo.begin_refresh(ARRAY[r.dest]);
SELECT throws_ok($$ SELECT refresh_with('events', 'SET lock_timeout = 20; TRUNCATE events', locked => true) $$, '55P03', NULL,
    'with its lock nothing of this can happen');

-- Reports that do not add up.
CREATE FUNCTION accepted(steps jsonb, planned jsonb DEFAULT '3') RETURNS text LANGUAGE sql
BEGIN ATOMIC
    SELECT f.outcome
    FROM roneo.replica AS r
    CROSS JOIN LATERAL roneo.finish_refresh(
        format('[{"replica_id": %s, "hand": "runner", "options": {}, "before": {"identity": {}},
                  "inside": {"relation": {"oid": 1, "readable": true, "row_security": false, "columns": []}}}]', r.replica_id)::jsonb,
        jsonb_build_array(jsonb_build_object('replica_id', r.replica_id, 'planned', planned, 'steps', steps))) AS f
    WHERE r.dest_name = 'events';
END;
CREATE TEMP TABLE report AS SELECT '[
    {"number": 1, "stage": 1, "kind": "dest", "outcome": "done"},
    {"number": 2, "stage": 2, "kind": "transfer", "outcome": "done", "sent": 7, "received": 7, "counts": "inserted"},
    {"number": 3, "stage": 5, "kind": "dest", "outcome": "done"}]'::jsonb AS steps;
BEGIN;
SELECT is(accepted(steps), 'ok', 'a report that adds up is accepted') FROM report;
SELECT is(accepted(jsonb_set(steps, '{2,outcome}', '"deferred"')), 'deferred', 'one whose swap was deferred too') FROM report;
SELECT is(accepted('[]', '0'), 'unchanged', 'and that of an empty plan');
SELECT is(accepted(steps - 2, '2'), 'ok', 'the number of rows never makes it unchanged')
FROM (SELECT jsonb_set(jsonb_set(steps, '{1,sent}', '0'), '{1,received}', '0') AS steps FROM report) AS empty;
ROLLBACK;
SELECT throws_ok(format('SELECT accepted(%L, %L)', wrong, planned), 'RO014', NULL, format('not accepted: %s', what))
FROM report, LATERAL (VALUES
    (steps - 0, '3', 'a step is missing'),
    (steps - 2, '3', 'the last step is missing'),
    (steps || '{"number": 4, "kind": "dest", "outcome": "done"}', '3', 'a step more than planned'),
    (jsonb_set(steps, '{2,number}', '2'), '3', 'a step is reported twice'),
    (jsonb_set(steps, '{2,number}', 'null'), '3', 'a step has no number'),
    ('[]', '3', 'nothing is reported'),
    (NULL, '3', 'not even an empty list'),
    (steps, '0', 'steps of an empty plan'),
    (steps, NULL, 'nobody says how many steps there were'),
    ('[]', NULL, 'and nothing is reported'),
    (jsonb_set(steps, '{1,received}', '6'), '3', 'a row did not arrive'),
    (jsonb_set(steps, '{1,received}', '8'), '3', 'a row too many arrived'),
    (steps #- '{1,received}', '3', 'nobody counted what arrived'),
    (steps #- '{1,sent}', '3', 'nobody counted what was sent'),
    (steps #- '{1,sent}' #- '{1,received}', '3', 'nobody counted at all'),
    (jsonb_set(steps, '{0,outcome}', '"skipped"'), '3', 'a step was skipped though none was deferred'),
    (jsonb_set(jsonb_set(steps, '{0,outcome}', '"skipped"'), '{2,outcome}', '"deferred"'), '3', 'a step was skipped before one was deferred'),
    (jsonb_set(jsonb_set(steps, '{1,outcome}', '"deferred"'), '{2,outcome}', '"done"'), '3', 'a step was done after one was deferred'),
    (jsonb_set(steps, '{0,outcome}', '"maybe"'), '3', 'an outcome that nobody knows'),
    (steps #- '{0,outcome}', '3', 'no outcome')
) AS w (wrong, planned, what);
SELECT throws_ok($$ SELECT roneo.finish_refresh(format('[{"replica_id": %s}]', min(replica_id))::jsonb, '[]') FROM roneo.replica $$,
    'RO014', NULL, 'not accepted: a replica that is not reported');
SELECT throws_ok(format($$ SELECT accepted(%L) $$, jsonb_set(steps, '{0}',
    '{"number": 1, "stage": 2, "kind": "check", "outcome": "done", "answer": {"moved": true}}')), 'RO013', NULL,
    'a check that found a rewrite defers the refresh') FROM report;
SELECT throws_ok(format($$ SELECT accepted(%L) $$, steps), 'RO016', NULL, 'what was not even loaded is rolled back')
FROM (SELECT jsonb_path_query_array(jsonb_set(steps, '{0,outcome}', '"deferred"'), '$[0]')
             || '[{"number": 2, "stage": 2, "kind": "transfer", "outcome": "skipped"},
                  {"number": 3, "stage": 5, "kind": "dest", "outcome": "skipped"}]' AS steps FROM report) AS d;
SELECT is((SELECT count(*) FROM roneo.run WHERE outcome = 'running'), 0::bigint, 'nothing of this is in the history');
