-- Alone in the cluster: others' transactions would hold rows back.
-- Which of many replicas have nothing to do, as the program asks it: without locks, in one query.
SET client_min_messages = warning;
SELECT plan(27);

SELECT on_source($$
    CREATE TABLE times (id int PRIMARY KEY, at timestamptz DEFAULT clock_timestamp()); INSERT INTO times VALUES (1);
    CREATE TABLE numbers (id int); INSERT INTO numbers SELECT generate_series(1, 5);
    CREATE TABLE undated (id int PRIMARY KEY, at timestamp); INSERT INTO undated VALUES (1, now());
    CREATE TABLE words (id text PRIMARY KEY); INSERT INTO words VALUES ('a');
    CREATE VIEW seen AS SELECT * FROM numbers $$) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT roneo.create_updater('src', 'public.times', control => 'at', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_inserter('src', 'public.numbers', control => 'id', append_only => true, refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_updater('src', 'public.undated', control => 'at', null_control => 'read', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_inserter('src', 'public.words', control => 'id', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_inserter('src', 'public.seen', control => 'id', refresh_every => '1 ms') \g /dev/null
SELECT roneo.create_snapshot('src', 'public.numbers', dest => 'snap', refresh_every => '1 ms') \g /dev/null
-- What a keyed one has read beside an open transaction, such as ours, is read once more.
SELECT count(roneo.refresh(dest)) FROM roneo.replica \g /dev/null
SELECT count(roneo.refresh(dest)) FROM roneo.replica \g /dev/null

CREATE FUNCTION idle(batch integer DEFAULT 100) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    asked    record;
    identity jsonb;
    still    jsonb;
    one      text;
    marked   text[] := '{}';
BEGIN
    FOR asked IN SELECT * FROM roneo.idle_checks(batch => batch) LOOP
        identity := source_value(asked.identity_query)::jsonb;
        still := coalesce(source_value(asked.query)::jsonb, '[]');
        FOR one IN SELECT m FROM roneo.mark_idle(asked.replica_ids, asked.generations, asked.asked_at, identity, still) AS m LOOP
            marked := array_append(marked, one);
        END LOOP;
    END LOOP;
    RETURN (SELECT string_agg(split_part(m, '.', 2), ' ' ORDER BY m) FROM unnest(marked) AS m);
END;
$$;
CREATE FUNCTION position_of(dest regclass) RETURNS text LANGUAGE sql
RETURN (SELECT c::text FROM roneo.control_replica AS c JOIN roneo.replica AS r USING (replica_id) WHERE r.dest = position_of.dest);
CREATE TEMP TABLE positions AS SELECT r.dest, position_of(r.dest) AS before FROM roneo.replica AS r;

SELECT is(idle(), 'numbers times undated words', 'where nothing happened there is nothing to do; of views and snapshots only a refresh can tell');
SELECT is((SELECT count(*) FROM roneo.idle_checks()), 1::bigint, 'one query asks for all of a source');
SELECT is((SELECT count(*) FROM roneo.idle_checks(batch => 2)), 2::bigint, 'or for so many');
SELECT is(idle(2), 'numbers times undated words', 'with the same result');
SELECT row_eq($$ SELECT last_outcome, failures FROM roneo.replica WHERE dest = 'times'::regclass $$, ROW('unchanged'::text, 0), 'that counts as a success');
SELECT is((SELECT count(*) FROM positions WHERE before IS DISTINCT FROM position_of(dest)), 0::bigint, 'and moves no position');

SELECT on_source('INSERT INTO times VALUES (2)') \g /dev/null
SELECT is(idle(), 'numbers undated words', 'a new row is something to do');
SELECT on_source('INSERT INTO numbers VALUES (3)') \g /dev/null
SELECT is(idle(), 'undated words', 'so is a late one');
SELECT on_source('INSERT INTO undated VALUES (2, NULL)') \g /dev/null
SELECT is(idle(), 'words', 'and one without a value');
SELECT on_source('INSERT INTO words VALUES (''0'')') \g /dev/null
SELECT is(idle(), NULL, 'or a low one, where values have no distance');
SELECT count(roneo.refresh(dest)) FROM roneo.replica \g /dev/null
SELECT count(roneo.refresh(dest)) FROM roneo.replica \g /dev/null
SELECT is(idle(), 'numbers times undated words', 'until they are read');

-- What is held is no reason to call a keyless one idle.
SELECT dblink_connect('open', :'source_conninfo') \g /dev/null
SELECT dblink_exec('open', 'BEGIN; INSERT INTO words VALUES (''open'')') \g /dev/null
SELECT on_source('INSERT INTO numbers VALUES (6)') \g /dev/null
SELECT is(idle(), 'times undated words', 'a row that is held is looked after by refreshes');
SELECT dblink_exec('open', 'ROLLBACK') \g /dev/null
SELECT roneo.refresh('numbers') \g /dev/null
SELECT is(idle(), 'numbers times undated words', 'until it has been read');

-- Clocks.
UPDATE roneo.control_replica SET clock = clock_timestamp() + interval '1 hour' WHERE control_type LIKE 'time%';
SELECT is(idle(), 'numbers words', 'a clock that was set back is a matter for a refresh');
SELECT roneo.refresh(d) FROM unnest('{times,undated}'::regclass[]) AS d \g /dev/null
SELECT is(idle(), 'numbers times undated words', 'which takes care of it');
UPDATE roneo.control_replica SET clock = '7' WHERE control_type = 'integer';
SELECT is(idle(), 'times undated words', 'and so are numbers that went back');
SELECT roneo.refresh('numbers') \g /dev/null
SELECT is(idle(), 'numbers times undated words', 'and no longer');

-- What the source's files and identity say.
SELECT on_source('ALTER TABLE times ALTER id TYPE bigint') \g /dev/null
SELECT is(idle(), 'numbers undated words', 'a rewrite is a matter for a refresh');
SELECT roneo.refresh('times'), roneo.refresh('times') \g /dev/null
SELECT on_source('CREATE TABLE kid () INHERITS (undated)') \g /dev/null
SELECT is(idle(), 'numbers times words', 'and a child that joined');
SELECT on_source('DROP TABLE numbers CASCADE; CREATE TABLE numbers (id int)') \g /dev/null
SELECT is(idle(), 'times words', 'and a table that was made again');
UPDATE roneo.replica SET identity = jsonb_set(identity, '{system_identifier}', '"1"');
SELECT is(idle(), NULL, 'and another cluster');
UPDATE roneo.replica SET identity = jsonb_set(identity, '{system_identifier}', (SELECT to_jsonb(system_identifier::text) FROM pg_control_system()));
SELECT is(idle(), 'times words', 'but not the same');

-- What goes on here.
SELECT roneo.begin_repull('times') \g /dev/null
SELECT is(idle(), 'words', 'a repull that is under way is something to do');
SELECT roneo.refresh('times') \g /dev/null
UPDATE roneo.control_replica AS c SET sweep_every = '1 hour', swept_at = now() - interval '2 hours' FROM roneo.replica AS r WHERE r.replica_id = c.replica_id AND r.dest = 'times'::regclass;
SELECT is(idle(), 'words', 'and so is a sweep that is due');
UPDATE roneo.control_replica SET swept_at = now();
SELECT is(idle(), 'times words', 'and not one that is not');
CREATE TEMP TABLE asked AS SELECT * FROM roneo.idle_checks();
SELECT roneo.refresh('times') \g /dev/null
SELECT is((SELECT string_agg(m, ' ') FROM asked AS a, roneo.mark_idle(a.replica_ids, a.generations, a.asked_at, source_value(a.identity_query)::jsonb, source_value(a.query)::jsonb) AS m),
    'public.words', 'one that was refreshed meanwhile keeps its own outcome');
UPDATE roneo.replica SET enabled = false;
SELECT is_empty('SELECT * FROM roneo.idle_checks()', 'nobody asks for what is not due');
