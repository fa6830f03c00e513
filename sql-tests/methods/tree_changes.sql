-- Alone in the cluster: others' transactions would hold rows back.
-- Tables that join or leave a tree between the snapshot and the reading: no row is lost, and without a key none comes twice. The phases are driven by hand here.
SET client_min_messages = warning;
SELECT plan(39);

CREATE FUNCTION ids(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT string_agg(id::text, '' '' ORDER BY id) FROM %s', dest) INTO found;
    RETURN found;
END;
$$;
CREATE FUNCTION outcome(dest regclass) RETURNS text LANGUAGE sql RETURN (roneo.refresh(dest)).outcome;
-- A refresh in which a statement is committed on the source between the snapshot and the reading; without the lock where it could not be had.
CREATE FUNCTION refresh_amid(dest regclass, statement text, locked boolean DEFAULT true) RETURNS text LANGUAGE plpgsql AS $$
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
    answers := jsonb_build_array(jsonb_build_object('replica_id', begun.replica_id, 'hand', 'sql', 'options', '{}'::jsonb, 'before', before, 'inside', inside));
    reports := roneo.run_steps(answers, 'hand', jsonb_build_array(to_jsonb(begun)));
    SELECT f.outcome INTO outcome FROM roneo.finish_refresh(answers, jsonb_build_array(jsonb_build_object(
        'replica_id', begun.replica_id, 'planned', jsonb_array_length(reports), 'steps', reports))) AS f;
    PERFORM dblink_disconnect('hand');
    RETURN outcome;
EXCEPTION WHEN OTHERS THEN
    PERFORM dblink_disconnect('hand');
    RETURN SQLSTATE;
END;
$$;
CREATE FUNCTION two(source_table text, start text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM roneo.create_inserter('src', source_table, dest => format('%s_log', source_table), control => 'at', append_only => true, copy_data => false, start_value => start),
            roneo.create_updater('src', source_table, dest => format('%s_keyed', source_table), control => 'at', copy_data => false, start_value => start);
END;
$$;
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null

-- Each way in which a table with rows can join: below, in, and above what a refresh reads.
CREATE TABLE way (name text, before text, statement text);
INSERT INTO way VALUES
    ('attached', 'CREATE TABLE %1$s (id int NOT NULL, at int NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE %1$s_1 PARTITION OF %1$s FOR VALUES FROM (20) TO (29); CREATE TABLE %1$s_new (id int NOT NULL, at int NOT NULL);
        CREATE TABLE %1$s_3 PARTITION OF %1$s FOR VALUES FROM (30) TO (90)', 'ALTER TABLE %1$s ATTACH PARTITION %1$s_new DEFAULT'),
    ('attached_tree', 'CREATE TABLE %1$s (id int NOT NULL, at int NOT NULL, PRIMARY KEY (id, at)) PARTITION BY LIST (at);
        CREATE TABLE %1$s_1 PARTITION OF %1$s FOR VALUES IN (20, 30, 40, 50); CREATE TABLE %1$s_root (id int NOT NULL, at int NOT NULL) PARTITION BY RANGE (id);
        CREATE TABLE %1$s_new PARTITION OF %1$s_root DEFAULT', 'ALTER TABLE %1$s ATTACH PARTITION %1$s_root FOR VALUES IN (9, 29, 99)'),
    ('inherited', 'CREATE TABLE %1$s (id int PRIMARY KEY, at int NOT NULL); CREATE TABLE %1$s_1 () INHERITS (%1$s); CREATE TABLE %1$s_new (id int NOT NULL, at int NOT NULL)',
        'ALTER TABLE %1$s_new INHERIT %1$s'),
    ('first_child', 'CREATE TABLE %1$s (id int PRIMARY KEY, at int NOT NULL); CREATE TABLE %1$s_new (id int NOT NULL, at int NOT NULL)',
        'ALTER TABLE %1$s_new INHERIT %1$s');
SELECT on_source(concat(format(before, name), format('; INSERT INTO %1$s VALUES (1, 20), (2, 30); INSERT INTO %1$s_new VALUES (11, 9), (12, 29), (13, 99)', name))) FROM way \g /dev/null
SELECT two(name, '10') FROM way \g /dev/null
SELECT is(refresh_amid(format('%s_log', name)::regclass, format(statement, name)), 'ok', format('%s while it is read', name)) FROM way;
SELECT is(ids(format('%s_log', name)::regclass), '1 2', format('%s: without a key its rows are left to the next refresh', name)) FROM way;
SELECT is(outcome(format('%s_log', name)::regclass), 'ok', format('%s: which reads them', name)) FROM way;
SELECT is(outcome(format('%s_log', name)::regclass), 'unchanged', format('%s: and then there is nothing', name)) FROM way;
SELECT is(ids(format('%s_log', name)::regclass), '1 2 11 12 13', format('%s: each once', name)) FROM way;

-- The same with a key: twice read, once there.
SELECT on_source(format(CASE name WHEN 'attached' THEN 'ALTER TABLE %1$s DETACH PARTITION %1$s_new' WHEN 'attached_tree' THEN 'ALTER TABLE %1$s DETACH PARTITION %1$s_root'
                                  ELSE 'ALTER TABLE %1$s_new NO INHERIT %1$s' END, name)) FROM way \g /dev/null
SELECT is(refresh_amid(format('%s_keyed', name)::regclass, format(statement, name)), 'ok', format('%s while it is read with a key', name)) FROM way;
SELECT is(outcome(format('%s_keyed', name)::regclass), 'ok', format('%s: with a key it is read again', name)) FROM way;
SELECT is(ids(format('%s_keyed', name)::regclass), '1 2 11 12 13', format('%s: and all are there', name)) FROM way;

-- One that leaves: whoever has asked holds it.
SELECT on_source(format('ALTER DATABASE %I SET lock_timeout = ''100ms''', :'source_db')) \g /dev/null
SELECT on_source('INSERT INTO attached VALUES (3, 40), (4, 22); INSERT INTO inherited_1 VALUES (5, 41)') \g /dev/null
SELECT is(refresh_amid('attached_log', 'ALTER TABLE attached DETACH PARTITION attached_3'), '55P03', 'a partition cannot be detached before it is read');
SELECT is(refresh_amid('inherited_log', 'ALTER TABLE inherited_1 NO INHERIT inherited'), '55P03', 'nor can a child leave');
SELECT is(outcome('attached_log'), 'ok', 'so a refresh reads it');
SELECT is(ids('attached_log'), '1 2 3 4 11 12 13', 'to the last row');

-- A table that was left, and comes back, between two refreshes: which of its rows are here nobody knows.
SELECT is(outcome('inherited_log'), 'ok', 'a child is read');
SELECT on_source('ALTER TABLE inherited_1 NO INHERIT inherited') \g /dev/null
SELECT outcome('inherited_log') \g /dev/null
SELECT on_source('ALTER TABLE inherited_1 INHERIT inherited') \g /dev/null
SELECT is((roneo.refresh('inherited_log')).sqlstate, 'RO021', 'when it was gone for a refresh and is back, that is refused');
SELECT is(ids('inherited_log'), '1 2 5 11 12 13', 'and doubles nothing');
