-- Alone in the cluster: others' transactions would hold rows back.
-- Rows whose keys cannot be in the destination are copied into it; all others go by way of a staging table.
SET client_min_messages = warning;
SELECT plan(41);

CREATE FUNCTION shown(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT string_agg(t::text, '' '' ORDER BY t::text) FROM %s AS t', dest) INTO found;
    RETURN found;
END;
$$;
CREATE FUNCTION there(source_table text) RETURNS text LANGUAGE sql
RETURN source_value(format('SELECT string_agg(t::text, '' '' ORDER BY t::text) FROM %s AS t', source_table));
CREATE FUNCTION way(of text) RETURNS text LANGUAGE sql
RETURN (SELECT CASE WHEN jsonb_path_exists(r.steps, '$[*] ? (@.counts == "put")') THEN 'staged'
                    WHEN jsonb_path_exists(r.steps, '$[*] ? (@.kind == "attempt")') THEN 'attempt' ELSE 'straight' END
        FROM roneo.run AS r WHERE r.dest = of AND r.outcome = 'ok' ORDER BY r.run_id DESC LIMIT 1);
CREATE FUNCTION outcome(dest regclass) RETURNS text LANGUAGE sql RETURN (roneo.refresh(dest)).outcome;
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT dblink_connect('open', :'source_conninfo') \g /dev/null

-- An updater, and an inserter that follows its key.
SELECT on_source($$ CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz DEFAULT clock_timestamp()); INSERT INTO t SELECT g, 'a' FROM generate_series(1, 3) AS g $$) \g /dev/null
SELECT roneo.create_updater('src', 'public.t', 'changed', control => 'at') \g /dev/null
SELECT is(way('public.changed'), 'straight', 'into an empty table');
SELECT is(shown('changed'), there('t'), 'the rows that are there');
SELECT roneo.create_inserter('src', 'public.t', 'added', control => 'id') \g /dev/null
SELECT is(way('public.added'), 'straight', 'so does an inserter');
SELECT on_source($$ INSERT INTO t VALUES (4, 'b'), (5, 'b') $$) \g /dev/null
SELECT is(outcome(d), 'ok', format('new rows: %s', d)) FROM unnest('{changed,added}'::regclass[]) AS d;
SELECT is(way('public.changed'), 'staged', 'an updater cannot know');
SELECT is(way('public.added'), 'straight', 'above the position there are no keys');
SELECT is(shown(d), there('t'), format('%s is equal', d)) FROM unnest('{changed,added}'::regclass[]) AS d;

-- A row of somebody else above the position.
INSERT INTO added VALUES (7, 'mine', '2026-01-01');
SELECT on_source($$ INSERT INTO t VALUES (6, 'c'), (7, 'c') $$) \g /dev/null
SELECT row_eq($$ SELECT outcome, inserted, ignored FROM roneo.refresh('added') $$, ROW('ok'::text, 1::bigint, 1::bigint), 'a key that is there is left');
SELECT is((SELECT v FROM added WHERE id = 7), 'mine', 'as it was');
SELECT on_source($$ INSERT INTO t VALUES (8, 'd') $$) \g /dev/null
SELECT outcome('added') \g /dev/null
SELECT is(way('public.added'), 'straight', 'once the position has passed it');

-- A late one.
SELECT dblink_exec('open', $$ BEGIN; INSERT INTO t VALUES (9, 'late') $$), on_source($$ INSERT INTO t VALUES (10, 'e') $$) \g /dev/null
SELECT outcome('added') \g /dev/null
SELECT is((SELECT max(id) FROM added), 10, 'a row beside an open transaction');
SELECT dblink_exec('open', 'COMMIT') \g /dev/null
SELECT is(outcome('added'), 'ok', 'that has ended');
SELECT is(way('public.added'), 'staged', 'late rows come by key');
SELECT is((SELECT string_agg(id::text, ' ' ORDER BY id) FROM added), '1 2 3 4 5 6 7 8 9 10', 'each once');

-- A key apart from the control column: new rows have new keys, as a rule.
SELECT on_source($$ CREATE TABLE event (id int PRIMARY KEY, v text, at timestamptz DEFAULT clock_timestamp()); INSERT INTO event SELECT g, 'a' FROM generate_series(1, 3) AS g $$) \g /dev/null
SELECT roneo.create_inserter('src', 'public.event', control => 'at') \g /dev/null
SELECT on_source($$ INSERT INTO event VALUES (4, 'b'), (5, 'b') $$) \g /dev/null
SELECT row_eq($$ SELECT outcome, inserted, ignored FROM roneo.refresh('event') $$, ROW('ok'::text, 2::bigint, NULL::bigint), 'new rows');
SELECT is(way('public.event'), 'attempt', 'are copied into the table');
SELECT on_source($$ UPDATE event SET v = 'c', at = clock_timestamp() WHERE id = 2; INSERT INTO event VALUES (6, 'c') $$) \g /dev/null
SELECT row_eq($$ SELECT outcome, inserted, ignored FROM roneo.refresh('event') $$, ROW('ok'::text, 1::bigint, 1::bigint), 'one that is there is left');
SELECT is(way('public.event'), 'staged', 'as all begins anew by way of staging');
SELECT is(count(*), 1::bigint, 'in one run') FROM roneo.run WHERE dest = 'public.event' AND started_at > now() - interval '1 hour' AND (outcome <> 'ok' OR ignored > 0);
SELECT is((SELECT string_agg(id || v, ' ' ORDER BY id) FROM event), '1a 2a 3a 4b 5b 6c', 'each once');
SELECT on_source($$ INSERT INTO event VALUES (7, 'd') $$) \g /dev/null
SELECT is(outcome('event'), 'ok', 'once more');
SELECT is(way('public.event'), 'staged', 'rows that were met may be met again');
SELECT on_source($$ INSERT INTO event VALUES (8, 'd') $$) \g /dev/null
SELECT outcome('event') \g /dev/null
SELECT is(way('public.event'), 'attempt', 'until none was');
ALTER TABLE event ADD CONSTRAINT only_one UNIQUE (v, id), ADD CONSTRAINT short EXCLUDE USING btree (at WITH =);
SELECT on_source($$ INSERT INTO event SELECT 9, 'e', max(at) FROM event; INSERT INTO event VALUES (10, 'e') $$) \g /dev/null
SELECT is((roneo.refresh('event')).sqlstate, '23P01', 'what else is in the way fails');
ALTER TABLE event DROP CONSTRAINT short, ADD CONSTRAINT lone UNIQUE (at);
SELECT is((roneo.refresh('event')).sqlstate, '23505', 'another unique index, too, once it was tried by key');
SELECT is((SELECT count(*) FROM event), 8::bigint, 'and nothing is changed');
ALTER TABLE event DROP CONSTRAINT lone;
SELECT is(outcome('event'), 'ok', 'without it');
SELECT is((SELECT count(*) FROM event), 10::bigint, 'all are there');

-- Keys that differ there and are the same here.
CREATE EXTENSION citext;
CREATE TABLE loose (id citext PRIMARY KEY, n int);
SELECT on_source($$ CREATE TABLE strict (id text PRIMARY KEY, n int); INSERT INTO strict VALUES ('a', 1), ('A', 2), ('b', 3) $$) \g /dev/null
SELECT roneo.create_inserter('src', 'public.strict', 'loose', control => 'n') \g /dev/null
SELECT is(way('public.loose'), 'staged', 'a key of another type may be looser');
SELECT is((SELECT count(*) FROM loose), 2::bigint, 'the first one counts');
CREATE FUNCTION let_in() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER let_in BEFORE INSERT ON loose FOR EACH ROW EXECUTE FUNCTION let_in();
SELECT on_source($$ INSERT INTO strict VALUES ('B', 4), ('c', 5) $$) \g /dev/null
SELECT is(outcome('loose'), 'ok', 'keys are the same as their index sees them, where a trigger might have kept them out too');
SELECT is((SELECT string_agg(id::text, ' ' ORDER BY n) FROM loose), 'a b c', 'and each is there once');

-- Only an index tells quickly.
SELECT on_source($$ CREATE TABLE reading (sensor int, at timestamptz, PRIMARY KEY (sensor, at)); INSERT INTO reading VALUES (1, '2026-01-01'), (2, '2026-01-01') $$) \g /dev/null
SELECT roneo.create_inserter('src', 'public.reading', control => 'at') \g /dev/null
SELECT on_source($$ INSERT INTO reading VALUES (1, '2026-01-02'), (2, '2026-01-02') $$) \g /dev/null
SELECT outcome('reading') \g /dev/null
SELECT is(way('public.reading'), 'attempt', 'without an index on the control column nobody knows');
CREATE INDEX ON reading (at);
SELECT on_source($$ INSERT INTO reading VALUES (1, '2026-01-03'), (2, '2026-01-03') $$) \g /dev/null
SELECT outcome('reading') \g /dev/null
SELECT is(way('public.reading'), 'straight', 'with one');
SELECT is(shown('reading'), there('reading'), 'both are equal');

-- What swallows rows is found out on this way too.
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN NEW.sensor = 1 THEN NEW END; END $$;
CREATE TRIGGER swallow BEFORE INSERT ON reading FOR EACH ROW EXECUTE FUNCTION swallow();
SELECT on_source($$ INSERT INTO reading VALUES (1, '2026-01-04'), (2, '2026-01-04') $$) \g /dev/null
SELECT is((roneo.refresh('reading')).sqlstate, 'RO014', 'a trigger that swallows rows');
DROP TRIGGER swallow ON reading;
SELECT is(outcome('reading'), 'ok', 'without it');
SELECT is(shown('reading'), there('reading'), 'nothing is missing');
SELECT is((SELECT count(*) FROM roneo.run WHERE outcome = 'ok' AND rows_sent <> rows_received), 0::bigint, 'every row is accounted for');
