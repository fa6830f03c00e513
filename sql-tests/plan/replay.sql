-- Replay of captures: positions, batches, modes and indexes, as values and as text.
SELECT plan(51);
CREATE FUNCTION cap("position" text DEFAULT '10:20:10,15', batch_limit bigint DEFAULT NULL, is_fresh boolean DEFAULT false, tables jsonb DEFAULT '{"7": {"file": "1", "name": "t", "sees_truncate": true, "triggers": {"a": "1"}}}', deleted_column name DEFAULT NULL)
RETURNS roneo.capture_replica LANGUAGE sql
RETURN jsonb_populate_record(NULL::roneo.capture_replica, jsonb_build_object('replica_id', 1, 'capture_id', 3, 'consumer_id', '00000000-0000-0000-0000-000000000001', 'key_columns', ARRAY['id'],
    'packs', true, 'position', "position", 'batch_limit', batch_limit, 'is_fresh', is_fresh, 'tables', tables, 'deleted_column', deleted_column));
CREATE FUNCTION answered(pending jsonb DEFAULT '{}', tables jsonb DEFAULT '{"7": {"file": "1", "name": "t", "sees_truncate": true, "triggers": {"a": "1"}}}', rows numeric DEFAULT 100000)
RETURNS jsonb LANGUAGE sql
RETURN jsonb_build_object('inside', jsonb_build_object('snapshot', '12:40:12,30', 'capture', jsonb_build_object('relation', 7, 'tables', tables, 'rows', rows, 'equality', '["OPERATOR(pg_catalog.=)"]'::jsonb),
    'pending', '{"keys": 0, "resyncs": 0, "truncates": 0, "deletes": 0}'::jsonb || pending));

-- A snapshot that ends before a transaction.
SELECT is(roneo.snapshot_before('10:20:10,15'::pg_snapshot, w.cut)::text, w.expected, format('10:20:10,15 before %s', coalesce(w.cut, 'nothing')))
FROM (VALUES (NULL, '10:20:10,15'), ('20', '10:20:10,15'), ('25', '10:20:10,15'), ('16', '10:16:10,15'), ('15', '10:15:10'), ('12', '10:12:10'), ('10', '10:10:'), ('5', '5:5:'),
             ('18446744073709551615', '10:20:10,15')) AS w (cut, expected);
SELECT is((SELECT array_agg(x ORDER BY x) FROM generate_series(1, 25) AS x WHERE pg_visible_in_snapshot(x::text::xid8, roneo.snapshot_before('10:20:10,15'::pg_snapshot, '13'))),
    '{1,2,3,4,5,6,7,8,9,11,12}', 'it sees what the whole one sees, of those before it only');

-- Where a batch ends.
SELECT is(roneo.cut_of(cap(), answered('{"cut": "25", "last": "30"}')), '26', 'a batch ends behind its last transaction');
SELECT is(roneo.cut_of(cap(), answered('{"cut": "30", "last": "30"}')), NULL, 'or nowhere, if that is the last of all');
SELECT is(roneo.cut_of(cap(), answered('{"cut": "12", "last": "30"}')), '20', 'what the position has seen stays seen: a late transaction below it comes with all that are');
SELECT is(roneo.cut_of(cap(), answered()), NULL, 'without a limit');
SELECT is(roneo.position_reached(cap(), answered('{"keys": 5, "cut": "25", "last": "39"}'))::text, '12:26:12', 'the position of a batch');
SELECT is(roneo.position_reached(cap(), answered('{"keys": 5}'))::text, '12:40:12,30', 'of all that is there');
SELECT is(roneo.position_reached(cap(), answered('{"keys": 5, "cut": "25", "last": "39", "truncates": 1}'))::text, '12:40:12,30', 'a comparison reads all: no batch');

-- What to do.
SELECT is(roneo.replay_mode(w.c, w.a), w.expected, w.description)
FROM (VALUES
    (cap(NULL, is_fresh => true), answered(), 'load', 'a table of ours that is new'),
    (cap(NULL), answered(), 'compare', 'one without a position'),
    (cap(), answered(), 'nothing', 'nothing pending'),
    (cap(), answered('{"keys": 1}'), 'replay', 'a key'),
    (cap(), answered('{"keys": 1, "truncates": 1}'), 'truncated', 'TRUNCATE'),
    (cap(), answered('{"keys": 1, "truncates": 1, "resyncs": 1}'), 'compare', 'a mark'),
    (cap(), answered('{"keys": 400001}'), 'compare', 'more than four keys for each row'),
    (cap(), answered('{"keys": 400000}'), 'replay', 'four'),
    (cap(), answered('{"keys": 10000}', rows => 100), 'replay', 'few keys of fewer rows'),
    (cap(), answered('{"keys": 400001}', rows => -1), 'replay', 'nobody knows how many rows there are'),
    (cap(batch_limit => 5), answered('{"keys": 400001}'), 'replay', 'with a batch_limit'),
    (cap(), answered(tables => '{"7": {"file": "2", "sees_truncate": true}}'), 'nothing', 'another file, where TRUNCATE is recorded'),
    (cap(tables => '{"7": {"file": "1", "sees_truncate": false}}'), answered(tables => '{"7": {"file": "2", "sees_truncate": true}}'), 'compare', 'another file, where it was not'),
    (cap(), answered(tables => '{"7": {"file": "1"}, "8": {"file": "5"}}'), 'replay', 'a new partition'),
    (cap(), answered(tables => '{"7": {"file": "1"}, "8": {"file": null}}'), 'nothing', 'a new partition that is partitioned itself')) AS w (c, a, expected, description);
SELECT is(roneo.fresh_tables(cap(), answered(tables => '{"7": {"file": "1"}, "8": {"file": "5"}, "9": {"file": "6"}, "10": {"file": null}}')), '{8,9}'::oid[], 'the tables that came');
SELECT is(roneo.fresh_tables(cap(tables => NULL), answered()), '{}'::oid[], 'where none are known, none is new');

-- Values that no trigger saw.
CREATE FUNCTION unseen(was text, is_now text, filter text DEFAULT NULL) RETURNS boolean LANGUAGE sql
RETURN roneo.has_unseen_values(jsonb_populate_record(NULL::roneo.replica, jsonb_build_object('filter', filter)), cap(tables => jsonb_build_object('7', was::jsonb)), '{id,v}',
                               answered(tables => jsonb_build_object('7', is_now::jsonb)));
SELECT is(unseen(w.was, w.is_now, w.filter), w.expected, w.description)
FROM (VALUES
    ('{"file": "1"}', '{"file": "2", "columns": {}}', NULL, false, 'nothing known'),
    ('{"file": "1", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 2, "by": "9"}}}', '{"file": "1", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 2, "by": "10"}}}', NULL, false, 'a column written in the catalog, the file the same'),
    ('{"file": "1", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 2, "by": "9"}}}', '{"file": "2", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 2, "by": "9"}}}', NULL, false, 'another file only'),
    ('{"file": "1", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 2, "by": "9"}}}', '{"file": "2", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 2, "by": "10"}}}', NULL, true, 'both'),
    ('{"file": "1", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 2, "by": "9"}}}', '{"file": "1", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 5, "by": "10"}}}', NULL, true, 'another column of the name'),
    ('{"file": "1", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 2, "by": "9"}, "x": {"number": 3, "by": "9"}}}', '{"file": "2", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 2, "by": "9"}, "x": {"number": 3, "by": "10"}}}', NULL, false, 'a column that is not copied'),
    ('{"file": "1", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 2, "by": "9"}, "x": {"number": 3, "by": "9"}}}', '{"file": "2", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 2, "by": "9"}, "x": {"number": 3, "by": "10"}}}', 'x > 1', true, 'but a filter may read it'),
    ('{"file": "1", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 2, "by": "9"}}, "copied": ["id"]}', '{"file": "1", "columns": {"id": {"number": 1, "by": "9"}, "v": {"number": 2, "by": "9"}}}', NULL, true, 'a column that was not copied before')
) AS w (was, is_now, filter, expected, description);

-- Indexes.
CREATE FUNCTION replayed(index jsonb, deleted name DEFAULT NULL) RETURNS jsonb LANGUAGE sql
RETURN (SELECT jsonb_object_agg(k.key, k.value) FROM jsonb_each(roneo.replay_indexes(jsonb_build_array('{"constraint": false, "primary": false, "method": "btree", "deferrable": false, "deferred": false}' || index), '{id}', deleted) -> 0) AS k
        WHERE k.key IN ('constraint', 'deferrable', 'predicate', 'primary'));
SELECT is(replayed(w.index::jsonb, w.deleted) , w.expected::jsonb, w.description)
FROM (VALUES
    ('{"unique": true, "primary": true, "constraint": true, "deferrable": true, "keys": [{"text": "id"}], "uses": ["id"]}', NULL, '{"primary": true, "constraint": true, "deferrable": false}', 'the key is checked at once'),
    ('{"unique": true, "keys": [{"text": "n"}], "uses": ["n"]}', NULL, '{"primary": false, "constraint": true, "deferrable": true}', 'another unique index can be checked later'),
    ('{"unique": false, "keys": [{"text": "n"}], "uses": ["n"]}', NULL, '{"primary": false, "constraint": false, "deferrable": false}', 'one that is not unique stays'),
    ('{"unique": true, "keys": [{"text": "n"}], "uses": ["n"], "predicate": "n > 0"}', NULL, '{"primary": false, "constraint": false, "deferrable": false, "predicate": "n > 0"}', 'a partial one cannot be'),
    ('{"unique": true, "keys": [{"text": "lower(n)"}], "uses": ["n"]}', NULL, '{"primary": false, "constraint": false, "deferrable": false}', 'nor one of an expression'),
    ('{"unique": true, "primary": true, "constraint": true, "keys": [{"text": "id"}], "uses": ["id"], "predicate": null}', 'gone', '{"primary": false, "constraint": false, "deferrable": false, "predicate": "gone IS NULL"}', 'logdel: unique among rows that live'),
    ('{"unique": true, "keys": [{"text": "n"}], "uses": ["n"], "predicate": "n > 0 OR n < -1"}', 'gone', '{"primary": false, "constraint": false, "deferrable": false, "predicate": "(n > 0 OR n < -1) AND gone IS NULL"}', 'with the predicate of the source')
) AS w (index, deleted, expected, description);

-- Text.
SELECT is(roneo.pending_condition(cap(), '30'),
    'q.xid OPERATOR(pg_catalog.>=) ''10''::pg_catalog.xid8 AND NOT pg_catalog.pg_visible_in_snapshot(q.xid, ''10:20:10,15''::pg_catalog.pg_snapshot) AND q.xid OPERATOR(pg_catalog.<) ''30''::pg_catalog.xid8',
    'what became visible since the position, up to the end of the batch');
SELECT is(roneo.told_position(cap())::text, '10:20:10,15', 'a position that no refresh wrote is told');
SELECT * FROM finish();
