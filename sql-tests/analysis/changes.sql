-- What becomes of a source's tables, told from looks at its counters, files and rows.
SET client_min_messages = warning;
SELECT no_plan();

SELECT on_source($$
    CREATE SCHEMA app;
    CREATE TABLE app.still (id int PRIMARY KEY, v text);
    CREATE TABLE app.empty (id int PRIMARY KEY);
    CREATE TABLE app.log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), v text);
    CREATE TABLE app.late (at timestamptz PRIMARY KEY);
    CREATE TABLE app.edited (id int PRIMARY KEY, v text);
    CREATE TABLE app.shrunk (id int PRIMARY KEY, v text);
    CREATE TABLE app.emptied (id int PRIMARY KEY, v text);
    CREATE TABLE app.reloaded (id int PRIMARY KEY, v text);
    CREATE TABLE app.packed (id int PRIMARY KEY, v text);
    CREATE TABLE app.retyped (id int PRIMARY KEY, v text);
    CREATE TABLE app.widened (id int PRIMARY KEY, v text);
    CREATE TABLE app.days (day int, id int, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
    CREATE TABLE app.days_1 PARTITION OF app.days FOR VALUES FROM (1) TO (2);
    CREATE TABLE app.days_2 PARTITION OF app.days FOR VALUES FROM (2) TO (3);
    CREATE TABLE app.dropped (id int);
    INSERT INTO app.still SELECT n, n FROM generate_series(1, 100) AS n;
    INSERT INTO app.log (v) SELECT n FROM generate_series(1, 100) AS n;
    INSERT INTO app.late SELECT now() - n * interval '1 min' FROM generate_series(1, 100) AS n;
    INSERT INTO app.edited TABLE app.still; INSERT INTO app.shrunk TABLE app.still; INSERT INTO app.emptied TABLE app.still;
    INSERT INTO app.reloaded TABLE app.still; INSERT INTO app.packed TABLE app.still; INSERT INTO app.retyped TABLE app.still;
    INSERT INTO app.widened TABLE app.still; INSERT INTO app.days SELECT 1 + n % 2, n FROM generate_series(1, 100) AS n;
$$) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
CREATE FUNCTION seen(of_table text, by_partition boolean DEFAULT false) RETURNS text LANGUAGE sql
RETURN (SELECT concat_ws(' ', c.verdict, CASE WHEN NOT c.proven THEN '?' END, 'by ' || c.grows_by, CASE WHEN NOT c.grows_by_proven THEN '?' END,
                         format('+%s ~%s -%s', c.inserted, c.updated, c.deleted), nullif(format('(%s)', c.remarks), '()'))
        FROM roneo.changes('src', by_partition => by_partition) AS c WHERE c.source_table = of_table);

SELECT throws_ok($$ SELECT * FROM roneo.changes('nowhere') $$, 'RO003', NULL, 'there must be such a source');
SELECT is((SELECT count(*) FROM roneo.changes('src')), 0::bigint, 'before it was looked at nothing is known');
SELECT settle_source() \g /dev/null
SELECT is((roneo.observe('src')).era_reason, 'first look', 'the first look says so');
SELECT is(seen('app.still'), 'unknown ? +0 ~0 -0 (looked at once only)', 'one look proves nothing');

SELECT on_source($$ INSERT INTO app.log (v) SELECT n FROM generate_series(1, 50) AS n;
    INSERT INTO app.late VALUES (now() - interval '30 s'), (now() - interval '1 day'); UPDATE app.edited SET v = 'new' WHERE id < 10; DELETE FROM app.shrunk WHERE id < 10;
    ALTER TABLE app.widened ADD w int DEFAULT 7; INSERT INTO app.days VALUES (2, 1000); DROP TABLE app.dropped; CREATE TABLE app.young (id int PRIMARY KEY) $$) \g /dev/null
SELECT on_source('TRUNCATE app.emptied') \g /dev/null
SELECT on_source('TRUNCATE app.reloaded; INSERT INTO app.reloaded TABLE app.still') \g /dev/null
SELECT on_source('VACUUM FULL app.packed') \g /dev/null
SELECT on_source('ALTER TABLE app.retyped ALTER v TYPE int USING v::int') \g /dev/null
SELECT settle_source() \g /dev/null
SELECT is((SELECT (o.problem, o.era_reason, o.doubt)::text FROM roneo.observe('src') AS o), '(,,)', 'a second look finds nothing to complain of');
SELECT results_eq($$ SELECT source_table, seen(source_table) FROM roneo.changes('src') ORDER BY 1 $$, $$ VALUES
    ('app.days', 'grows +1 ~0 -0'),
    ('app.dropped', 'gone ? +0 ~0 -0 (looked at once only)'),
    ('app.edited', 'updated +0 ~9 -0'),
    ('app.emptied', 'truncated +0 ~0 -0'),
    ('app.empty', 'unchanged +0 ~0 -0'),
    ('app.late', 'grows +2 ~0 -0'),
    ('app.log', 'grows by at, id +50 ~0 -0'),
    ('app.packed', 'unchanged +0 ~0 -0 (packed by VACUUM FULL or CLUSTER, with the same rows)'),
    ('app.reloaded', 'truncated +100 ~0 -0'),
    ('app.retyped', 'rewritten +0 ~0 -0 (its columns were changed)'),
    ('app.shrunk', 'deleted from +0 ~0 -9'),
    ('app.still', 'unchanged +0 ~0 -0'),
    ('app.widened', 'rewritten +0 ~0 -0 (its columns were changed)'),
    ('app.young', 'new ? +0 ~0 -0 (looked at once only)') $$, 'each table became what was done to it');
SELECT results_eq($$ SELECT source_table, part_of, seen(source_table, true) FROM roneo.changes('src', by_partition => true) WHERE part_of IS NOT NULL ORDER BY 1 $$, $$ VALUES
    ('app.days_1', 'app.days', 'unchanged +0 ~0 -0'), ('app.days_2', 'app.days', 'grows +1 ~0 -0') $$, 'partitions are told by themselves, if asked for');
SELECT is((bytes > 0, reads >= 0, parts, looks, observed_until > observed_from, changed_until > changed_after)::text, '(t,t,2,2,t,t)', 'with sizes and times')
FROM roneo.changes('src') WHERE source_table = 'app.days';

-- Looks cost a row where something is new, and nothing is asked where nothing is.
CREATE TEMP TABLE before AS SELECT count(*) FROM roneo.observed_state;
SELECT is((SELECT problem FROM roneo.observe('src')), NULL, 'a look at what is as it was');
SELECT is((SELECT count(*) FROM roneo.observed_state), count, 'costs no row') FROM before;
SELECT is(roneo.observe_values_probe('src', roneo.ask_source('src', roneo.survey_probe('src'))::jsonb, 64000000), NULL, 'and no look at values');

-- Growth of what is too big to be read: as many rows above as were counted, and no late one nearby.
SELECT on_source('INSERT INTO app.log (v) VALUES (1), (2)') \g /dev/null
SELECT settle_source(), roneo.observe('src', scan_mb => 0) \g /dev/null
SELECT is(seen('app.log'), 'grows by id +52 ~0 -0', 'growth is proven by counts, of columns with an index');
SELECT on_source($$ INSERT INTO app.log (v) VALUES (3); DO 'BEGIN INSERT INTO app.log (v) VALUES (4); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN END' $$) \g /dev/null
SELECT settle_source(), roneo.observe('src', scan_mb => 0) \g /dev/null
SELECT is(seen('app.log'), 'grows by id ? +54 ~0 -0', 'rows that were rolled back are counted, and make it likely only');
-- A transaction that was open at a look, and commits below what that saw.
SELECT on_source('CREATE TABLE app.slow (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY); INSERT INTO app.slow SELECT generate_series(1, 3)') \g /dev/null
SELECT dblink_connect('open', :'source_conninfo'), dblink_exec('open', 'BEGIN; INSERT INTO app.slow VALUES (4)') \g /dev/null
SELECT on_source('INSERT INTO app.slow VALUES (5)') \g /dev/null
SELECT settle_source(), roneo.observe('src') \g /dev/null
SELECT is(seen('app.slow'), 'new ? +4 ~0 -0 (looked at once only; somebody was writing at the last look)', 'who writes at the time of a look is seen');
SELECT dblink_exec('open', 'COMMIT'), dblink_disconnect('open') \g /dev/null
SELECT on_source('INSERT INTO app.slow VALUES (6)') \g /dev/null
UPDATE roneo.observed_state SET first_seen = 1 WHERE table_name = 'slow';
SELECT settle_source(), roneo.observe('src') \g /dev/null
SELECT is((SELECT control #> '{columns,id}' FROM roneo.observed_state WHERE table_name = 'slow' ORDER BY state_id DESC LIMIT 1), '{"top": "6", "late": 1, "above": 1}', 'a row that came late is found');
SELECT is(seen('app.slow'), 'grows +2 ~0 -0', 'and so its number is no column to follow blindly');

SELECT dblink_connect('open', :'source_conninfo'), dblink_exec('open', 'BEGIN; LOCK TABLE app.empty IN ROW EXCLUSIVE MODE') \g /dev/null
SELECT settle_source(), roneo.observe('src') \g /dev/null
SELECT is(seen('app.empty'), 'unchanged ? +0 ~0 -0 (somebody was writing at the last look)', 'while somebody writes nothing is proven unchanged');
SELECT dblink_disconnect('open') \g /dev/null

-- Counters that begin anew, and servers that are others.
SELECT on_source($$ DO 'BEGIN PERFORM pg_stat_reset(); END' $$) \g /dev/null
SELECT settle_source() \g /dev/null
SELECT is((roneo.observe('src')).era_reason, 'counters reset', 'a reset is noticed');
SELECT is(seen('app.still'), 'unknown ? +0 ~0 -0 (counters reset)', 'and nothing is proven across it');
SELECT settle_source(), roneo.observe('src') \g /dev/null
SELECT is(c.verdict || c.proven, 'unchangedtrue', 'but after it') FROM roneo.changes('src', since => (SELECT max(observed_at) FROM roneo.observation WHERE era_reason IS NOT NULL)) AS c WHERE source_table = 'app.still';
CREATE FUNCTION era_after(change jsonb, at text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE roneo.observation SET identity = identity || change, snapshot = coalesce(at::pg_snapshot, snapshot)
    WHERE observation_id = (SELECT max(observation_id) FROM roneo.observation);
    RETURN (roneo.observe('src')).era_reason;
END $$;
SELECT is(era_after(change), reason, reason) FROM (VALUES
    ('{"postmaster_start": "x"}'::jsonb, 'restarted'), ('{"postmaster_start": "x", "stats_discarded": "x"}', 'crashed, counters lost'), ('{"system_identifier": "1"}', 'another cluster answered'),
    ('{"timeline": "00000009"}', 'promoted, or restored to an earlier time'), ('{"database": "x"}', 'restored, or another database answered'), ('{"track_counts": "off"}', 'track_counts changed'),
    ('{"in_recovery": true}', 'no standby any more, or one now')) AS c (change, reason);
SELECT is(era_after('{}', '999999:999999:'), 'restored, or another database answered', 'a server with fewer transactions was restored');
SELECT is(seen('app.still'), 'unknown ? +0 ~0 -0 (another cluster answered, counters reset, crashed, counters lost, no standby any more, or one now, promoted, or restored to an earlier time, restarted, restored, or another database answered, track_counts changed)', 'each of them is told');
SELECT is(roneo.counters_doubt(jsonb_build_object('track_counts', t, 'identity', jsonb_build_object('in_recovery', r, 'version', v))), doubt, coalesce(doubt, 'or all is well'))
FROM (VALUES ('on', 'true', 150000, 'a standby does not count'), ('off', 'false', 150000, 'track_counts is off'), ('on', 'false', 140000, 'before PostgreSQL 15 an idle session may keep its counts'), ('on', 'false', 150000, NULL)) AS d (t, r, v, doubt);

-- A partition that goes takes its rows along; what is renamed stays what it was.
SELECT on_source('DROP TABLE app.days_1; ALTER TABLE app.still RENAME TO quiet') \g /dev/null
SELECT settle_source(), roneo.observe('src') \g /dev/null
SELECT matches(seen('app.days'), '^deleted from .*a part of it is gone', 'a partition that is gone is a deletion');
SELECT matches(seen('app.quiet'), '^unknown', 'a table with another name is the same one');

-- What cannot be read is counted all the same.
SELECT roneo.create_source('reading', :'source_conninfo', 'reader', 'reader secret') \g /dev/null
SELECT is((SELECT (o.problem, o.tables > 5)::text FROM roneo.observe('reading') AS o), '(,t)', 'a role that may read nothing can look');
SELECT is((SELECT count(*) FROM roneo.observed_state AS s JOIN roneo.source USING (source_id) WHERE source_name = 'reading' AND control ? 'columns'), 0::bigint, 'and sees no values');
SELECT dblink_connect('lock', :'source_conninfo'), dblink_exec('lock', 'BEGIN; UPDATE app.edited SET v = 1; LOCK TABLE app.edited') \g /dev/null
SELECT is((SELECT problem FROM roneo.observe('src')), NULL, 'a table that is locked is not waited for');
SELECT dblink_disconnect('lock') \g /dev/null
SELECT throws_ok($$ SELECT settle_source(), roneo.observe('src', keep_days => 0) $$, 'RO007', NULL, 'nothing cannot be kept');
SELECT throws_ok($$ SELECT settle_source(), roneo.observe('src', '{}') $$, 'RO007', NULL, 'nor can no schema be looked at');
SELECT is((SELECT (count(*), bool_and(c.source_table LIKE 'app.%'))::text FROM roneo.changes('src', '{app}') AS c), (SELECT format('(%s,t)', count(*)) FROM roneo.changes('src')), 'schemas can be chosen');
UPDATE roneo.observation SET observed_at = observed_at - interval '10 days';
SELECT settle_source(), roneo.observe('src', keep_days => 1) \g /dev/null
SELECT is((SELECT (count(*) < 30, min(last_seen) = (SELECT max(observation_id) FROM roneo.observation))::text FROM roneo.observed_state JOIN roneo.source USING (source_id) WHERE source_name = 'src'), '(t,t)', 'what is old is forgotten');
SELECT lives_ok($$ SELECT roneo.drop_source('reading'), roneo.drop_source('src') $$, 'looks go with their source');
SELECT is((SELECT count(*) FROM roneo.observed_state), 0::bigint, 'and so does what they saw');
SELECT is(dblink_get_connections(), NULL, 'no connection stays open');
SELECT * FROM finish();
