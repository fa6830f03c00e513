-- Verifications that come round, in slices; which together are all of a table.
SET client_min_messages = warning;
SELECT no_plan();

SELECT on_source($$
    CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz, note text);
    INSERT INTO orders SELECT i, CASE WHEN i % 100 > 0 THEN now() - interval '2 days' + i * interval '1 s' END, 'n' || i FROM generate_series(1, 3000) AS i $$) \g /dev/null
SELECT roneo.create_source('main', current_setting('test.source_conninfo')) \g /dev/null
SELECT roneo.create_dml('main', 'public.orders', 'orders_dml'),
       roneo.create_updater('main', 'public.orders', 'orders_updater', control => 'at', null_control => 'read'),
       roneo.create_plain('main', 'public.orders', 'orders_plain') \g /dev/null
ANALYZE orders_dml, orders_updater;

-- Slices are of half a million rows; statistics that say so make some of a table that has fewer.
UPDATE pg_class SET reltuples = 2500000 WHERE oid IN ('orders_dml'::regclass, 'orders_updater'::regclass);
SELECT is_empty('SELECT * FROM roneo.due_verifications()', 'nothing is due that was not set so');
SELECT roneo.set_verification(d, '1 day') FROM unnest('{orders_dml,orders_updater,orders_plain}'::regclass[]) AS d \g /dev/null
SELECT is((SELECT jsonb_object_agg(dest, n) FROM (SELECT dest, count(*) AS n FROM roneo.due_verifications() GROUP BY dest) AS d),
    '{"orders_dml": 5, "orders_updater": 5, "orders_plain": 1}', 'large tables are cut into slices');
SELECT is(slices_due, 5::bigint, 'which are due') FROM roneo.verifications WHERE dest = 'public.orders_dml';
SELECT set_eq($$ SELECT s.from_value IS NULL AS low, s.to_value IS NULL AS high, count(*) FROM roneo.verification_slice AS s JOIN roneo.replica AS r USING (replica_id)
                 WHERE r.dest = 'orders_dml'::regclass GROUP BY 1, 2 $$,
    $$ VALUES (true, false, 1::bigint), (false, false, 3), (false, true, 1) $$, 'the first and the last one have no end');

UPDATE orders_dml SET note = 'x' WHERE id = 1500;
-- Not a row of the source: while transactions are open, an updater reads those again, and would mend it.
INSERT INTO orders_updater VALUES (-5, NULL, 'x');
CALL roneo.verify_due('0 seconds');
SELECT is((SELECT count(*) FROM roneo.verification_slice WHERE checked_at IS NOT NULL), 0::bigint, 'nothing begins when the time is up');
CALL roneo.verify_due();
SELECT is((SELECT sum(rows_there) FROM roneo.verification_slice JOIN roneo.replica AS r USING (replica_id) WHERE r.dest = d), 3000::numeric,
    format('%s: each row is in one slice, those without a value too', d)) FROM unnest('{orders_dml,orders_updater,orders_plain}'::regclass[]) AS d;
SELECT is((SELECT array_agg(row(dest, verdict, differences, changed, verified_at IS NOT NULL, slices_due)::text ORDER BY dest) FROM roneo.verifications),
    ARRAY['(public.orders_dml,differs,1,1,f,0)', '(public.orders_plain,equal,0,0,t,0)', '(public.orders_updater,differs,1,0,f,0)'], 'what is wrong anywhere is known of the whole');
SELECT is_empty('SELECT * FROM roneo.due_verifications()', 'nothing is due any more');
SELECT is(verdict, 'repaired', format('%s is repaired', d)) FROM unnest('{orders_dml,orders_updater}'::regclass[]) AS d, roneo.repair(d, apply => true);
UPDATE roneo.verification_slice SET checked_at = checked_at - interval '2 days' WHERE slice IN (2, 4);
UPDATE roneo.verification_slice SET checked_at = checked_at - interval '3 days' WHERE slice = 3;
SELECT is((SELECT array_agg((options ->> 'slice')::int ORDER BY n) FROM roneo.due_verifications() WITH ORDINALITY AS d (dest, name, options, at, n) WHERE dest = 'orders_dml'::regclass),
    '{3,2,4}', 'what was looked at longest ago comes first');
CALL roneo.verify_due();
SELECT is(row(verdict, differences, slices_due, repaired)::text, '(equal,0,0,1)', 'equal again, slice by slice') FROM roneo.verifications WHERE dest = 'public.orders_dml';
SELECT ok(v.verified_at = (SELECT min(checked_at) FROM roneo.verification_slice AS s WHERE s.replica_id = v.replica_id), 'since the oldest of them was looked at')
FROM roneo.verification AS v JOIN roneo.replica AS r USING (replica_id) WHERE r.dest = 'orders_dml'::regclass;

-- A slice that cannot be compared is not equal.
SELECT on_source('ALTER TABLE orders RENAME TO away') \g /dev/null
UPDATE roneo.verification_slice SET checked_at = checked_at - interval '2 days' WHERE slice = 1;
CALL roneo.verify_due();
SELECT is(verdict, 'undecided', 'a source that is away') FROM roneo.verifications WHERE dest = 'public.orders_dml';
SELECT on_source('ALTER TABLE away RENAME TO orders') \g /dev/null

-- A replica that is set so anew is cut anew, and one that is dropped is forgotten.
SELECT roneo.set_verification('orders_dml', NULL) \g /dev/null
SELECT is(slices, 0::bigint, 'slices go with a new setting') FROM roneo.verifications WHERE dest = 'public.orders_dml';
SELECT roneo.drop_replica('orders_updater') \g /dev/null
SELECT is((SELECT count(*) FROM roneo.verification), 2::bigint, 'and with the replica');

SELECT * FROM finish();
