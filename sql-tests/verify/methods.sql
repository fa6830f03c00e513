-- Alone in the cluster: while transactions are open, an updater reads rows again, and mends them.
-- Verifying and repairing by every method: what is missing, too many or changed is found and mended,
-- and what is not to be here yet is no difference.
SET client_min_messages = warning;
SELECT no_plan();

SELECT on_source($$
    CREATE TABLE orders (id bigint PRIMARY KEY, code text UNIQUE, price numeric(10,2), at timestamptz NOT NULL DEFAULT now(), note text);
    INSERT INTO orders SELECT i, 'c' || i, i * 1.1, now() - interval '1 day' + i * interval '1 s', md5(i::text) FROM generate_series(1, 5000) AS i;
    CREATE TABLE log (at timestamptz NOT NULL, what text, n int);
    INSERT INTO log SELECT now() - interval '1 day' + (i / 3) * interval '1 s', 'w' || i % 7, i % 5 FROM generate_series(1, 3000) AS i;
    CREATE VIEW shown AS SELECT id, price FROM orders WHERE id % 2 = 0;
    CREATE TABLE parts (id int, at date, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
    CREATE TABLE parts_b PARTITION OF parts DEFAULT;
    INSERT INTO parts SELECT i, date '2023-12-01' + i % 60, 'p' || i FROM generate_series(1, 1000) AS i $$) \g /dev/null
SELECT roneo.create_source('main', current_setting('test.source_conninfo')) \g /dev/null
SELECT roneo.create_snapshot('main', 'public.orders', 'orders_snapshot'),
       roneo.create_plain('main', 'public.orders', 'orders_plain'),
       roneo.create_plain('main', 'public.orders', 'orders_filtered', columns => '{id,price}', filter => 'id > 100 -- not all'),
       roneo.create_updater('main', 'public.orders', 'orders_updater', control => 'at'),
       roneo.create_inserter('main', 'public.orders', 'orders_inserter', control => 'id'),
       roneo.create_inserter('main', 'public.log', 'log_inserter', control => 'at', append_only => true),
       roneo.create_inserter('main', 'public.log', 'log_bounded', control => 'at', boundary => '1 hour'),
       roneo.create_plain('main', 'public.log', 'log_plain'),
       roneo.create_plain('main', 'public.shown', 'shown_plain'),
       roneo.create_dml('main', 'public.orders', 'orders_dml'),
       roneo.create_logdel('main', 'public.orders', 'orders_logdel'),
       roneo.create_dml('main', 'public.parts', 'parts_dml') \g /dev/null
SELECT is((SELECT jsonb_object_agg(r.dest, v.verdict) FROM roneo.replica AS r, roneo.verify(r.dest) AS v),
    (SELECT jsonb_object_agg(r.dest, 'equal') FROM roneo.replica AS r), 'all replicas are equal to their sources');
SELECT is((SELECT count(*) FROM roneo.verifications WHERE verdict = 'equal' AND verified_at IS NOT NULL AND differences = 0), 12::bigint, 'that is kept');

CREATE FUNCTION pg_temp.said(dest regclass, apply boolean DEFAULT NULL, VARIADIC options text[] DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', v.verdict, CASE v.verdict WHEN 'undecided' THEN v.why END, v.missing, v.extra, v.changed, CASE WHEN apply THEN format('-> %s %s %s', v.inserted, v.updated, v.deleted) END)
    FROM roneo.verify_with(dest, jsonb_build_object('settle', 0, 'repair', apply IS NOT NULL, 'apply', coalesce(apply, false)) || coalesce(jsonb_object(options), '{}')) AS v
$$;

-- Each method with a key: one row changed, one missing, one too many.
CREATE TEMP TABLE keyed (dest regclass, target text);
INSERT INTO keyed SELECT r.dest, CASE r.method WHEN 'snapshot' THEN (SELECT roneo.shown_table(m)::text FROM roneo.snapshot_replica AS m) ELSE r.dest::text END
FROM roneo.replica AS r WHERE r.dest_name IN ('orders_updater', 'orders_dml', 'orders_logdel');
DO $$
DECLARE
    k keyed;
BEGIN
    FOR k IN TABLE keyed LOOP
        EXECUTE format('UPDATE %1$s SET price = price + 1 WHERE id = 7; DELETE FROM %1$s WHERE id = 8;
                        INSERT INTO %1$s (id, code, price, at) VALUES (-1, ''x'', 1, ''2020-01-01'')', k.target);
    END LOOP;
END $$;
SELECT is(pg_temp.said(dest), 'differs 1 1 1', format('%s: they are found', dest)) FROM keyed;
SELECT matches(c.message, 'found 0 s ago: 1 missing, 1 too many, 1 changed', format('%s: check says so', k.dest))
FROM keyed AS k JOIN roneo.check() AS c ON c.object = format('public.%s', k.dest) AND (c.check_name, c.level) = ('content', 'CRITICAL');
SELECT is((SELECT count(*) FROM roneo.check() WHERE check_name = 'content'), 3::bigint, 'of those three');
SELECT is(pg_temp.said(dest, false), 'differs 1 1 1', format('%s: a dry run changes nothing', dest)) FROM keyed;
SELECT is((SELECT jsonb_agg(d) FROM roneo.verify(dest) AS v, jsonb_array_elements(v.differences) AS d),
    '[{"kind": "extra", "key": {"id": "-1"}}, {"kind": "changed", "key": {"id": "7"}, "columns": ["price"]}, {"kind": "missing", "key": {"id": "8"}}]',
    format('%s: by key and column, without values', dest)) FROM keyed;
SELECT is(pg_temp.said(dest, true), 'repaired 1 1 1 -> 1 1 1', format('%s: they are repaired', dest)) FROM keyed;
SELECT is(pg_temp.said(dest), 'equal 0 0 0', format('%s: and equal', dest)) FROM keyed;
SELECT is_empty($$ SELECT object, check_name FROM roneo.check() WHERE check_name IN ('content', 'verification') $$, 'check finds them equal too');
SELECT roneo.set_verification('orders_dml', '1 hour'), roneo.set_verification('orders_logdel', '1 day') \g /dev/null
UPDATE roneo.verification SET verified_at = now() - interval '3 hours';
SELECT results_eq($$ SELECT object, level, message FROM roneo.check() WHERE check_name = 'verification' $$,
    $$ VALUES ('public.orders_dml', 'WARNING', 'verified 3 h ago, promised every 60 min') $$, 'one that was to be verified long ago is found');
SELECT roneo.set_verification(d, NULL) FROM unnest('{orders_dml,orders_logdel}'::regclass[]) AS d \g /dev/null
SELECT is((SELECT count(*) FROM orders_logdel WHERE id = -1 AND roneo_source_deleted IS NOT NULL), 1::bigint, 'logdel stamps what is gone');
SELECT is((SELECT array_agg(format('%s %s %s %s %s', kind, outcome, inserted, updated, deleted)) FROM roneo.run WHERE kind = 'repair'),
    array_fill('repair ok 1 1 1'::text, ARRAY[3]), 'repairs are in the history');
SELECT is((SELECT sum(repaired) FROM roneo.verifications), 9::numeric, 'and counted');

-- Tables that are copied whole: what is wrong here is found although the source has not changed.
UPDATE orders_plain SET price = 0 WHERE id = 7;
SELECT is(pg_temp.said('orders_plain'), 'differs 0 0 1', 'plain: a changed row is found');
SELECT on_source('UPDATE orders SET note = ''new'', at = now() WHERE id = 9') \g /dev/null
SELECT is(pg_temp.said('orders_plain'), 'equal 0 0 0', 'plain: a source that has changed is copied first');
UPDATE orders_plain SET price = 0 WHERE id = 7;
SELECT is(pg_temp.said('orders_plain', true), 'repaired 0 0 1 -> 0 1 0', 'plain: one row is repaired by itself');
SELECT roneo.shown_table(m) AS shown FROM roneo.snapshot_replica AS m \gset
SELECT roneo.refresh('orders_snapshot') \g /dev/null
SELECT roneo.shown_table(m) AS shown FROM roneo.snapshot_replica AS m \gset
DELETE FROM :"shown" WHERE id = 3;
SELECT is(pg_temp.said('orders_snapshot', true), 'repaired 1 0 0 -> 1 0 0', 'snapshot: in the table behind the view');
SELECT is(pg_temp.said('orders_snapshot'), 'equal 0 0 0', 'snapshot: equal');

-- Without a key.
INSERT INTO log_inserter TABLE log_inserter LIMIT 2;
DELETE FROM log_inserter WHERE ctid = (SELECT ctid FROM log_inserter WHERE n = 4 LIMIT 1);
SELECT is(pg_temp.said('log_inserter'), 'differs 1 2 0', 'rows that are there twice, and one too few, are found without a key');
SELECT is(pg_temp.said('log_inserter', true), 'repaired 1 2 0 -> 1 0 0', 'an inserter keeps what its source has not');
SELECT is(pg_temp.said('log_inserter'), 'equal 0 2 0', 'which is no difference');
SELECT is(pg_temp.said('log_inserter', true, 'deletes', 'true'), 'repaired 0 2 0 -> 0 0 2', 'unless told so');
SELECT is((SELECT array_agg(r) FROM (SELECT at::text, what, n FROM log_inserter ORDER BY 1, 2, 3) AS r)::text,
    (SELECT array_agg(r) FROM (SELECT at::text, what, n FROM dblink(current_setting('test.source_conninfo'), 'TABLE log') AS t (at timestamptz, what text, n int) ORDER BY 1, 2, 3) AS r)::text,
    'then it has the rows of its source, each as often');
UPDATE log_plain SET n = 7 WHERE ctid = (SELECT min(ctid) FROM log_plain);
SELECT is(pg_temp.said('log_plain', true), 'repaired 1 1 0 -> 1 0 1', 'a row that was changed is one too many and one too few');
DELETE FROM shown_plain WHERE id = 10;
SELECT is(pg_temp.said('shown_plain'), 'equal 0 0 0', 'a view is always copied first');

-- What is not to be here yet.
SELECT on_source('INSERT INTO log VALUES (now(), ''young'', 1)') \g /dev/null
SELECT is(pg_temp.said('log_bounded'), 'equal 0 0 0', 'a row within the boundary is no difference');
SELECT dblink_connect('open', current_setting('test.source_conninfo')) \g /dev/null
SELECT dblink_exec('open', 'BEGIN; INSERT INTO log VALUES (now() - interval ''1 minute'', ''held'', 1); INSERT INTO orders VALUES (6000, ''z'', 1, now(), NULL)') \g /dev/null
SELECT on_source('INSERT INTO log VALUES (now(), ''behind it'', 1)') \g /dev/null
SELECT is(pg_temp.said(d), 'equal 0 0 0', format('%s: nor is what an open transaction has written, or holds', d))
FROM unnest('{log_inserter,orders_dml,orders_updater}'::regclass[]) AS d;
SELECT dblink_exec('open', 'COMMIT') \g /dev/null
SELECT dblink_disconnect('open') \g /dev/null
SELECT is(pg_temp.said(d), 'equal 0 0 0', format('%s: and it comes', d)) FROM unnest('{log_inserter,orders_dml,orders_updater}'::regclass[]) AS d;

-- Deleted on the source.
SELECT on_source('DELETE FROM orders WHERE id IN (20, 21); UPDATE orders SET price = 5 WHERE id = 22') \g /dev/null
SELECT is(pg_temp.said('orders_dml'), 'equal 0 0 0', 'dml hears of deletions');
SELECT is(pg_temp.said('orders_inserter'), 'differs 0 2 2', 'an inserter does not, nor of changes');
SELECT is(pg_temp.said('orders_updater', true), 'repaired 0 2 1 -> 0 1 2', 'a repair of an updater removes what is gone, and sees what did not move the control column');
SELECT roneo.set_verification('orders_inserter', NULL, deletes => true) \g /dev/null
SELECT is(pg_temp.said('orders_inserter', true), 'repaired 0 2 2 -> 0 2 2', 'that of an inserter too, if it is set so');

-- Rows that a refresh did not expect here: it begins anew.
SELECT roneo.create_inserter('main', 'public.orders', 'orders_apart', control => 'at') \g /dev/null
SELECT is(pg_temp.said('orders_apart'), 'equal 0 0 0', 'an inserter with a key apart');
INSERT INTO orders_apart (id, code, at, note) VALUES (7000, 'mine', now() - interval '1 year', 'mine');
SELECT on_source('INSERT INTO orders VALUES (7000, ''c7000'', 1, now(), NULL)') \g /dev/null
SELECT is(pg_temp.said('orders_apart'), 'differs 0 0 1', 'a key that was here already is found to differ');
SELECT is(pg_temp.said('orders_apart', true), 'repaired 0 0 1 -> 0 1 0', 'and repaired');

-- Ranges.
DELETE FROM orders_dml WHERE id IN (100, 2000);
SELECT is(pg_temp.said('orders_dml', NULL, 'to', '1000'), 'differs 1 0 0', 'only rows below a key');
SELECT is(pg_temp.said('orders_dml', NULL, 'from', '101', 'to', '2000'), 'equal 0 0 0', 'half open');
SELECT is(pg_temp.said('orders_dml', true, 'from', '101'), 'repaired 1 0 0 -> 1 0 0', 'a range is repaired by itself');
SELECT is(pg_temp.said('orders_dml'), 'differs 1 0 0', 'and nothing else');
UPDATE orders_updater SET at = at - interval '1 year' WHERE id = 50;
SELECT is(pg_temp.said('orders_updater', NULL, 'from', (now() - interval '2 days')::text), 'differs 0 0 1', 'a row whose control value is wrong here is changed, and not missing');
SELECT is(pg_temp.said('orders_updater', NULL, 'to', (now() - interval '2 days')::text), 'differs 0 0 1', 'in either range');

-- Unique values that are exchanged; rows that others reference.
UPDATE orders_dml SET code = CASE id WHEN 1 THEN 'tmp' END WHERE id = 1;
UPDATE orders_dml SET code = 'c1' WHERE id = 2;
UPDATE orders_dml SET code = 'c2' WHERE id = 1;
SELECT is(pg_temp.said('orders_dml', true), 'repaired 1 0 2 -> 1 2 0', 'exchanged unique values are put back');
CREATE TABLE child (id bigint REFERENCES orders_dml ON DELETE CASCADE);
INSERT INTO child SELECT 5;
UPDATE orders_dml SET note = 'x' WHERE id = 5;
SELECT is(pg_temp.said('orders_dml', true), 'repaired 0 0 1 -> 0 1 0', 'a row that others reference is updated');
SELECT is((SELECT count(*) FROM child), 1::bigint, 'and never deleted');

-- A guard.
INSERT INTO orders_dml (id, code, at) SELECT -i, concat('g', i), now() FROM generate_series(1, 1000) AS i;
SELECT is(pg_temp.said('orders_dml', true), 'differs 0 1000 0 ->   ', 'nothing is removed where it would be too much');
SELECT matches((SELECT why FROM roneo.repair('orders_dml', apply => true)), 'would remove 1000 of [0-9]+ rows, more than 10 percent', 'and why is said');
SELECT is(pg_temp.said('orders_dml', true, 'most_deleted', '30'), 'repaired 0 1000 0 -> 0 0 1000', 'unless that much is allowed');
CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER swallow BEFORE DELETE OR INSERT ON orders_dml FOR EACH ROW EXECUTE FUNCTION public.swallow();
UPDATE orders_dml SET id = -9 WHERE id = 9;
SELECT throws_ok($$ SELECT * FROM roneo.repair('orders_dml', apply => true) $$, 'RO014', NULL, 'a trigger that keeps rows is an error');
DROP TRIGGER swallow ON orders_dml;
SELECT is(pg_temp.said('orders_dml', true), 'repaired 1 1 0 -> 1 0 1', 'without it all is well');

-- Partitions, here and there.
UPDATE parts_dml SET note = 'x' WHERE id = 4;
SELECT is(pg_temp.said('parts_dml', true), 'repaired 0 0 1 -> 0 1 0', 'a partitioned source, with a key of two columns');

-- What cannot be told.
SELECT on_source('DROP TABLE log CASCADE') \g /dev/null
SELECT is(row(verdict, missing)::text, '(undecided,)', 'a source that is gone') FROM roneo.verify('log_plain');
SELECT matches(why, 'log', 'and why is said') FROM roneo.verifications WHERE dest = 'public.log_plain';
SELECT isnt(verified_at, NULL, 'when it was equal stays known') FROM roneo.verifications WHERE dest = 'public.log_plain';

-- Wrong input.
SELECT throws_ok($$ SELECT * FROM roneo.verify('child') $$, 'RO001', NULL, 'not a replica');
SELECT throws_ok($$ SELECT * FROM roneo.verify('orders_dml', show => -1) $$, 'RO007', NULL, 'no number of differences');
SELECT throws_ok($$ SELECT * FROM roneo.repair('orders_dml', most_deleted => 101) $$, 'RO007', NULL, 'no percentage');
SELECT throws_ok($$ SELECT * FROM roneo.verify('shown_plain', from_value => '1') $$, 'RO007', NULL, 'a range of what has no key');
SELECT throws_ok($$ SELECT roneo.set_verification('orders_dml', '-1 day') $$, 'RO007', NULL, 'no interval');
SELECT throws_ok($$ SELECT roneo.set_verification('child', '1 day') $$, 'RO001', NULL, 'not a replica either');

SELECT * FROM finish();
