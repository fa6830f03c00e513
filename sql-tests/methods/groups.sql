-- Refresh groups: one snapshot of the source, one transaction here, foreign keys that hold at each
-- commit.
SET client_min_messages = warning;
SELECT plan(36);

CREATE FUNCTION same(relation text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    query text := format('SELECT md5(string_agg(t::text, '','' ORDER BY t::text COLLATE "C")) FROM %s AS t', relation);
    here  text;
BEGIN
    EXECUTE query INTO here;
    RETURN here IS NOT DISTINCT FROM source_value(query);
END;
$$;
CREATE FUNCTION outcome(dest regclass) RETURNS text LANGUAGE sql RETURN (roneo.refresh(dest)).outcome;
CREATE FUNCTION last_outcomes() RETURNS text LANGUAGE sql
RETURN (SELECT string_agg(r.last_outcome, ' ' ORDER BY r.dest_name) FROM roneo.replica AS r WHERE r.refresh_group = 'family');
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null

SELECT on_source($$
    CREATE TABLE par (id int PRIMARY KEY, name text UNIQUE);
    CREATE TABLE chi (id int PRIMARY KEY, par int REFERENCES par ON DELETE CASCADE ON UPDATE CASCADE, at timestamptz DEFAULT clock_timestamp());
    CREATE TABLE gra (id int PRIMARY KEY, chi int REFERENCES chi ON DELETE CASCADE ON UPDATE CASCADE);
    INSERT INTO par SELECT g, 'n' || g FROM generate_series(1, 50) AS g;
    INSERT INTO chi SELECT g, 1 + g % 50 FROM generate_series(1, 500) AS g;
    INSERT INTO gra SELECT g, 1 + g % 500 FROM generate_series(1, 2000) AS g $$) \g /dev/null

-- Children first, in the order of their registration and of their names.
SELECT roneo.create_dml('src', 'public.' || t, copy_data => false) FROM unnest(ARRAY['gra', 'chi', 'par']) AS t \g /dev/null
SELECT roneo.set_refresh_group(t::regclass, 'family') FROM unnest(ARRAY['gra', 'chi', 'par']) AS t \g /dev/null
ALTER TABLE chi ADD FOREIGN KEY (par) REFERENCES par;
ALTER TABLE gra ADD FOREIGN KEY (chi) REFERENCES chi;

SELECT is(outcome('chi'), 'ok', 'the group is loaded, whichever of it was named');
SELECT is((SELECT count(*) FROM roneo.run WHERE outcome = 'ok'), 3::bigint, 'each of it has a run');
SELECT ok(same('par'), 'parents');
SELECT ok(same('chi'), 'children');
SELECT ok(same('gra'), 'grandchildren');
SELECT is((SELECT count(DISTINCT position::text) FROM roneo.capture_replica), 1::bigint, 'all at one snapshot of the source');

-- Deletions, new families, and keys that cascade.
SELECT on_source($$ DELETE FROM par WHERE id <= 10 $$) \g /dev/null
SELECT on_source($$ UPDATE par SET id = id + 1000 WHERE id > 40 $$) \g /dev/null
SELECT on_source($$ INSERT INTO par VALUES (3, 'again'); INSERT INTO chi VALUES (9001, 3); INSERT INTO gra VALUES (90001, 9001) $$) \g /dev/null
SELECT on_source($$ UPDATE chi SET id = id + 10000 WHERE id % 7 = 0 $$) \g /dev/null
SELECT on_source($$ DELETE FROM par WHERE id = 20; INSERT INTO par VALUES (2000, 'n20') $$) \g /dev/null
SELECT is(outcome('gra'), 'ok', 'foreign keys that are checked at once hold: parents come first and go last');
SELECT ok(same('par'), 'parents, one with the unique value of another that went');
SELECT ok(same('chi'), 'children');
SELECT ok(same('gra'), 'grandchildren');
SELECT is(outcome('par'), 'unchanged', 'nothing more');
SELECT is(last_outcomes(), 'unchanged unchanged unchanged', 'for none of them');

-- Only one of them has changed.
SELECT on_source($$ UPDATE par SET name = name || '!' WHERE id = 15 $$) \g /dev/null
SELECT is(outcome('gra'), 'unchanged', 'one that has nothing itself says so');
SELECT is(last_outcomes(), 'unchanged unchanged ok', 'and refreshes the others');
SELECT ok(same('par'), 'it is there');

-- The plan, for all.
SELECT on_source($$ DELETE FROM gra WHERE id = 2000; DELETE FROM par WHERE id = 16 $$) \g /dev/null
SELECT is((SELECT array_agg(split_part(p.purpose, ':', 1) ORDER BY p.ordinality) FROM roneo.plan('chi') WITH ORDINALITY AS p WHERE p.stage = 4),
    '{public.par,public.chi,public.gra}', 'rows are put parents first');
SELECT is((SELECT array_agg(split_part(p.purpose, ':', 1) ORDER BY p.ordinality) FROM roneo.plan('chi') WITH ORDINALITY AS p WHERE p.purpose ~ 'delete what is gone'),
    '{public.gra,public.chi,public.par}', 'and removed children first');

-- One that fails takes back all.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
CREATE TRIGGER refuse AFTER DELETE ON gra FOR EACH STATEMENT EXECUTE FUNCTION refuse();
SELECT is(outcome('par'), 'failed', 'one that cannot be written fails the group');
SELECT is(last_outcomes(), 'failed failed failed', 'all of it');
SELECT ok((SELECT count(*) = 1 FROM par WHERE id = 16), 'and nothing was changed');
DROP TRIGGER refuse ON gra;
SELECT is(outcome('par'), 'ok', 'the next refresh does it');
SELECT ok(same('par') AND same('chi') AND same('gra'), 'all of it');

-- TRUNCATE of a table that is referenced: nothing is truncated here.
SELECT on_source('TRUNCATE par CASCADE') \g /dev/null
SELECT on_source($$ INSERT INTO par VALUES (1, 'first'); INSERT INTO chi VALUES (1, 1); INSERT INTO gra VALUES (1, 1) $$) \g /dev/null
SELECT is(outcome('par'), 'ok', 'TRUNCATE comes over');
SELECT ok(same('par') AND same('chi') AND same('gra'), 'and what was filled in after it');

-- An updater among them.
SELECT roneo.drop_replica('chi', keep_table => true) \g /dev/null
SELECT roneo.create_updater('src', 'public.chi', control => 'at') \g /dev/null
SELECT roneo.set_refresh_group('chi', 'family') \g /dev/null
SELECT on_source($$ INSERT INTO par VALUES (2, 'second'); INSERT INTO chi VALUES (2, 2); INSERT INTO gra VALUES (2, 2) $$) \g /dev/null
SELECT is(outcome('gra'), 'ok', 'methods can be mixed');
SELECT ok(same('par') AND same('chi') AND same('gra'), 'and their rows come together');

-- It is due once.
UPDATE roneo.replica SET refresh_every = '1 hour', last_success_at = now() - interval '1 day', created_at = now() - interval '2 days';
SELECT is((SELECT count(*) FROM roneo.due()), 1::bigint, 'a group is due as one');
CALL roneo.refresh_due();
SELECT is((SELECT count(*) FROM roneo.due()), 0::bigint, 'and done as one');

-- Another session at one of it.
SELECT dblink_connect('other', format('host=%s port=%s dbname=%I user=postgres', :'socket', :'port', current_database())) \g /dev/null
SELECT dblink_exec('other', 'BEGIN') \g /dev/null
SELECT * FROM dblink('other', format('SELECT pg_advisory_xact_lock(roneo.lock_class(), %s)::text', (SELECT replica_id FROM roneo.replica WHERE dest_name = 'gra'))) AS t (x text) \g /dev/null
SELECT throws_ok($$ SELECT roneo.refresh('par', raise_errors => true) $$, 'RO002', NULL, 'a group is busy while one of it is');
SELECT dblink_disconnect('other') \g /dev/null

-- What cannot be part of one.
SELECT on_source('CREATE TABLE alone (id int PRIMARY KEY, n serial)') \g /dev/null
SELECT roneo.create_plain('src', 'public.alone', 'public.p') \g /dev/null
SELECT throws_ok($$ SELECT roneo.set_refresh_group('p', 'family') $$, 'RO007', NULL, 'a table that is emptied');
SELECT roneo.create_inserter('src', 'public.alone', 'public.i', control => 'n', append_only => true) \g /dev/null
SELECT throws_ok($$ SELECT roneo.set_refresh_group('i', 'family') $$, 'RO007', NULL, 'an inserter without a key');
SELECT roneo.create_dml('src', 'public.alone', 'public.b', batch_limit => 10) \g /dev/null
SELECT throws_ok($$ SELECT roneo.set_refresh_group('b', 'family') $$, 'RO007', NULL, 'one with a batch_limit');
SELECT roneo.create_source('src2', :'source_conninfo') \g /dev/null
SELECT roneo.create_dml('src2', 'public.alone', 'public.c') \g /dev/null
SELECT throws_ok($$ SELECT roneo.set_refresh_group('c', 'family') $$, 'RO007', NULL, 'one of another source');
CREATE ROLE groups_other;
ALTER TABLE gra OWNER TO groups_other;
SELECT throws_ok($$ SELECT roneo.refresh('par', raise_errors => true) $$, 'RO007', NULL, 'tables of several owners');
ALTER TABLE gra OWNER TO postgres;
DROP ROLE groups_other;
SELECT throws_ok($$ SELECT roneo.set_refresh_group('pg_class', 'family') $$, 'RO001', NULL, 'what is no replica');

SELECT roneo.set_refresh_group('chi', NULL) \g /dev/null
SELECT is((SELECT count(*) FROM roneo.begin_refresh(ARRAY['chi'::regclass])), 1::bigint, 'one that was taken out is alone again');
SELECT * FROM finish();
