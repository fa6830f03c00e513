-- Alone in the cluster: others' transactions would hold rows back.
-- Rows that are committed late: each arrives, and without a key exactly once.
SET client_min_messages = warning;
SELECT plan(63);

CREATE FUNCTION told(session text, statement text) RETURNS text LANGUAGE sql RETURN dblink_exec(session, statement);
CREATE FUNCTION shown(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT coalesce(string_agg(note, '' '' ORDER BY note), '''') FROM %s', dest) INTO found;
    RETURN found;
END;
$$;
CREATE FUNCTION outcome(dest regclass) RETURNS text LANGUAGE sql RETURN (roneo.refresh(dest)).outcome;
-- The keyless and the keyed one are refreshed, and show these rows.
CREATE FUNCTION both_show(keyless text, keyed text, description text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM roneo.refresh('log', raise_errors => true), roneo.refresh('keyed', raise_errors => true);
    RETURN NEXT is(shown('log'), keyless, concat(description, ': without a key'));
    RETURN NEXT is(shown('keyed'), keyed, concat(description, ': with a key'));
END;
$$;

SELECT on_source($$
    CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), note text);
    CREATE INDEX ON log (at);
    INSERT INTO log (at, note) VALUES (now() - interval '1 hour', 'a') $$) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT roneo.create_inserter('src', 'public.log', control => 'at', append_only => true) \g /dev/null
SELECT roneo.create_updater('src', 'public.log', dest => 'keyed', control => 'at') \g /dev/null
SELECT row_eq($$ SELECT key_columns, append_only, reads_xmin, boundary, look_back FROM roneo.inserter_replica $$,
    ROW(NULL::name[], true, true, '0'::text, '10 minutes'::text), 'an append-only inserter has no key, and no delay');
SELECT row_eq($$ SELECT key_columns, reads_xmin, boundary, look_back FROM roneo.updater_replica $$,
    ROW('{id}'::name[], true, '0'::text, '10 minutes'::text), 'an updater takes the primary key');
SELECT is(shown(d), 'a', format('%s starts with the rows that are there', d)) FROM unnest('{log,keyed}'::regclass[]) AS d;
SELECT is(outcome(d), 'unchanged', format('%s has nothing to do then', d)) FROM unnest('{log,keyed}'::regclass[]) AS d;
SELECT count(dblink_connect(s, :'source_conninfo')) FROM unnest('{one,two}'::text[]) AS s \g /dev/null

-- A late committer.
SELECT told('one', $$ BEGIN; INSERT INTO log (note) VALUES ('late') $$) \g /dev/null
SELECT on_source($$ INSERT INTO log (note) VALUES ('b') $$) \g /dev/null
SELECT * FROM both_show('a', 'a b', 'a row beside an open transaction');
SELECT matches(held_by, format('^process \d+ of role postgres in database %s$', :'source_db'), 'whoever is waited for is named')
FROM roneo.inserter_replica;
SELECT ok(held_since <= clock_timestamp(), 'and since when') FROM roneo.inserter_replica;
SELECT is(held_by, NULL, 'a keyed replica waits for nobody') FROM roneo.updater_replica;
SELECT held_since AS since FROM roneo.inserter_replica \gset
SELECT is(outcome('log'), 'unchanged', 'what is held is not there to be read');
SELECT is(held_since, :'since', 'it is held since the first time') FROM roneo.inserter_replica;
SELECT told('one', 'COMMIT') \g /dev/null
SELECT * FROM both_show('a b late', 'a b late', 'the late row');
SELECT is(held_by, NULL, 'nothing is held any more') FROM roneo.inserter_replica;
SELECT * FROM both_show('a b late', 'a b late', 'and nothing twice');

-- A subtransaction has an id of its own.
SELECT told('one', $$ BEGIN; INSERT INTO log (note) VALUES ('top'); SAVEPOINT s; INSERT INTO log (note) VALUES ('sub');
    RELEASE s; SAVEPOINT t; INSERT INTO log (note) VALUES ('undone'); ROLLBACK TO t $$) \g /dev/null
SELECT on_source($$ INSERT INTO log (note) VALUES ('c') $$) \g /dev/null
SELECT * FROM both_show('a b late', 'a b c late', 'before the end of one with savepoints');
SELECT told('one', 'COMMIT') \g /dev/null
SELECT * FROM both_show('a b c late sub top', 'a b c late sub top', 'its rows, but what was undone');

-- A prepared transaction belongs to no session, and is forgotten easily.
SELECT told('one', $$ BEGIN; INSERT INTO log (note) VALUES ('twophase'); PREPARE TRANSACTION 'forgotten late rows' $$) \g /dev/null
SELECT on_source($$ INSERT INTO log (note) VALUES ('d') $$) \g /dev/null
SELECT * FROM both_show('a b c late sub top', 'a b c d late sub top', 'before a prepared transaction ends');
SELECT is(held_by, format('prepared transaction ''forgotten late rows'' in database %I', :'source_db'), 'it is named')
FROM roneo.inserter_replica;
SELECT told('two', $$ COMMIT PREPARED 'forgotten late rows' $$) \g /dev/null
SELECT * FROM both_show('a b c d late sub top twophase', 'a b c d late sub top twophase', 'after it');

-- VACUUM FREEZE between the commit and the refresh.
SELECT told('one', $$ BEGIN; INSERT INTO log (note) VALUES ('frozen') $$) \g /dev/null
SELECT on_source($$ INSERT INTO log (note) VALUES ('e') $$) \g /dev/null
SELECT * FROM both_show('a b c d late sub top twophase', 'a b c d e late sub top twophase', 'before it');
SELECT told('one', 'COMMIT'), told('two', 'VACUUM (FREEZE) log') \g /dev/null
SELECT * FROM both_show('a b c d e frozen late sub top twophase', 'a b c d e frozen late sub top twophase', 'rows frozen since');
SELECT told('two', 'VACUUM (FREEZE) log') \g /dev/null
SELECT * FROM both_show('a b c d e frozen late sub top twophase', 'a b c d e frozen late sub top twophase', 'frozen rows that are known');

-- A late update; only the updater is there for those.
SELECT told('one', $$ BEGIN; UPDATE log SET note = 'a2', at = clock_timestamp() WHERE note = 'a' $$) \g /dev/null
SELECT on_source($$ INSERT INTO log (note) VALUES ('f') $$) \g /dev/null
SELECT is(outcome('keyed'), 'ok', 'beside an open update new rows come');
SELECT told('one', 'COMMIT') \g /dev/null
SELECT is(outcome('keyed'), 'ok', 'and then the update');
SELECT is(shown('keyed'), 'a2 b c d e f frozen late sub top twophase', 'which overwrites its row');
SELECT is((SELECT array_agg(k ORDER BY k.id) FROM keyed AS k)::text, source_value('SELECT array_agg(k ORDER BY k.id) FROM log AS k'),
    'with the whole of it');

-- A transaction that is open in another database holds rows without a key back, and no others.
SELECT on_source($$ CREATE TABLE quiet (id int, at timestamptz DEFAULT clock_timestamp(), note text) $$) \g /dev/null
SELECT roneo.create_inserter('src', 'public.quiet', control => 'at', append_only => true) \g /dev/null
SELECT is(last_value, NULL, 'an empty table has no position') FROM roneo.control_replica ORDER BY replica_id DESC LIMIT 1;
SELECT format('host=%s port=%s dbname=%s user=postgres', :'socket', :'port', :'dest_db') AS dest_conninfo \gset
SELECT dblink_connect('elsewhere', :'dest_conninfo') \g /dev/null
CREATE TABLE other (id int);
SELECT told('elsewhere', 'BEGIN; INSERT INTO other VALUES (1)') \g /dev/null
SELECT on_source($$ INSERT INTO log (note) VALUES ('g'); INSERT INTO quiet (note) VALUES ('x') $$) \g /dev/null
SELECT is(outcome('keyed'), 'ok', 'a keyed replica does not wait for another database');
SELECT ok(shown('keyed') LIKE '% g %', 'and has the row');
SELECT is(outcome('quiet'), 'unchanged', 'a keyless one does');
SELECT matches(held_by, format('^process \d+ of role postgres in database %s$', :'dest_db'), 'and tells where the transaction is')
FROM roneo.control_replica ORDER BY replica_id DESC LIMIT 1;
SELECT told('elsewhere', 'COMMIT') \g /dev/null
SELECT is(outcome('quiet'), 'ok', 'until it ends');
SELECT is(shown('quiet'), 'x', 'then the row is there');

-- Not all who hold rows back have a role; autovacuum has none.
SELECT format('brief %s', :'dest_db') AS brief_role \gset
SELECT on_source(format('CREATE ROLE %I LOGIN', :'brief_role')) \g /dev/null
SELECT dblink_connect('brief', format('%s user=%s', :'source_conninfo', quote_literal(:'brief_role'))) \g /dev/null
SELECT told('brief', 'BEGIN') \g /dev/null
SELECT v FROM dblink('brief', 'SELECT pg_current_xact_id()::text') AS t (v text) \g /dev/null
SELECT on_source(format('DROP ROLE %I', :'brief_role')) \g /dev/null
SELECT on_source($$ INSERT INTO quiet (note) VALUES ('y') $$) \g /dev/null
SELECT is(outcome('quiet'), 'unchanged', 'a row is held by someone without a role');
SELECT matches(held_by, format('^process \d+ in database %s$', :'source_db'), 'who is named as far as there are names')
FROM roneo.control_replica AS c JOIN roneo.replica AS r USING (replica_id) WHERE r.dest_name = 'quiet';
SELECT told('brief', 'COMMIT'), outcome('quiet'), dblink_disconnect('brief') \g /dev/null
DELETE FROM quiet WHERE note = 'y';

-- Below look_back only a sweep looks.
SELECT is(outcome('keyed'), 'ok', 'what was read beside an open transaction is read once more with a key');
SELECT on_source($$ INSERT INTO log (at, note) VALUES (now() - interval '1 day', 'backdated') $$) \g /dev/null
SELECT is(outcome('keyed'), 'unchanged', 'a row below look_back is not seen');
SELECT ok('read new and late rows' = ANY (ARRAY(SELECT purpose FROM roneo.plan('keyed', sweep => true))), 'the plan of a sweep reads rows');
SELECT is((roneo.refresh('keyed', sweep => true)).inserted, 1::bigint, 'a sweep finds it');
SELECT is((roneo.refresh('keyed', sweep => true)).inserted, 0::bigint, 'once');
SELECT on_source($$ INSERT INTO quiet (at, note) VALUES (now() - interval '1 day', 'old') $$) \g /dev/null
SELECT is((roneo.refresh('quiet', sweep => true)).inserted, 1::bigint, 'without a key too, as long as no refresh was in between');
SELECT is((roneo.refresh('quiet', sweep => true)).inserted, 0::bigint, 'and once');
UPDATE roneo.control_replica AS c SET sweep_every = '0' FROM roneo.replica AS r
WHERE r.replica_id = c.replica_id AND r.dest = 'quiet'::regclass;
SELECT on_source($$ INSERT INTO quiet (at, note) VALUES ('-infinity', 'oldest') $$) \g /dev/null
SELECT is(outcome('quiet'), 'ok', 'with sweep_every each refresh that is due sweeps');
SELECT is(outcome('quiet'), 'unchanged', 'and has nothing to do when there is nothing');
SELECT is(shown('quiet'), 'old oldest x', 'each row came once');

-- A sweep while rows are held forgets none of them.
UPDATE roneo.control_replica SET sweep_every = NULL;
SELECT told('one', $$ BEGIN; INSERT INTO other_log VALUES (1) $$) FROM on_source('CREATE TABLE other_log (id int)') \g /dev/null
SELECT on_source($$ INSERT INTO quiet (at, note) VALUES (now() - interval '2 days', 'heldold') $$) \g /dev/null
SELECT is((roneo.refresh('quiet', sweep => true)).inserted, 0::bigint, 'a sweep leaves what is held');
SELECT told('one', 'COMMIT') \g /dev/null
SELECT is(outcome('quiet'), 'ok', 'and the next refresh reads it, far below the window');
SELECT is(shown('quiet'), 'heldold old oldest x', 'once');

-- A transaction that outlives the boundary: the boundary is a delay, and not what rows depend on.
SELECT on_source('CREATE TABLE delayed (id int PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(), note text)') \g /dev/null
SELECT roneo.create_inserter('src', 'public.delayed', dest => 'delayed_log', control => 'at', append_only => true, boundary => '1 second', look_back => '0'),
       roneo.create_updater('src', 'public.delayed', dest => 'delayed_keyed', control => 'at', boundary => '1 second', look_back => '0') \g /dev/null
SELECT count(outcome(d)) FROM unnest('{delayed_log,delayed_keyed}'::regclass[]) AS d \g /dev/null
SELECT told('one', $$ BEGIN; INSERT INTO delayed (id, note) VALUES (1, 'long') $$) \g /dev/null
SELECT on_source($$ INSERT INTO delayed (id, note) VALUES (2, 'short') $$) \g /dev/null
SELECT pg_sleep(1.1) \g /dev/null
SELECT count(outcome(d)) FROM unnest('{delayed_log,delayed_keyed}'::regclass[]) AS d \g /dev/null
SELECT is(shown('delayed_keyed'), 'short', 'a row that is older than the boundary is read');
SELECT is(shown('delayed_log'), '', 'or held');
SELECT told('one', 'COMMIT') \g /dev/null
SELECT count(outcome(d)) FROM unnest('{delayed_log,delayed_keyed}'::regclass[]) AS d \g /dev/null
SELECT is(shown(d), 'long short', format('one of a transaction that was open for longer than the boundary is not lost: %s', d)) FROM unnest('{delayed_log,delayed_keyed}'::regclass[]) AS d;
