-- The rules by which a snapshot believes that nothing changed, case by case, without a source.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT plan(79);

CREATE TEMP TABLE known ON COMMIT DROP AS
SELECT jsonb_populate_record(NULL::roneo.snapshot_replica,
           '{"check_changes": true, "max_skip_age": "1 day"}') AS m,
       '[{"number": 1, "name": "id", "type": "integer"}]'::jsonb AS columns,
       $json${"options": {}, "before": {"track_counts": "on",
          "identity": {"system_identifier": "7001", "timeline": "00000001", "lsn": "0/1A", "in_recovery": false,
                       "postmaster_start": "2026-01-01T00:00:00.000000Z", "version": 150004,
                       "stats_reset": null, "stats_discarded": "2026-01-01T00:00:00.000000Z",
                       "database": "app", "encoding": "UTF8", "clock": "2026-01-02T00:00:00.000000Z"},
          "leaves": [{"oid": 1, "kind": "p", "filenode": null, "snapshot_filenode": 0, "size": 0, "ins": 0, "upd": 0, "del": 0},
                     {"oid": 2, "kind": "r", "filenode": 9, "snapshot_filenode": 9, "size": 8192, "ins": 4, "upd": 3, "del": 2}]}}
       $json$::jsonb AS answer;

CREATE FUNCTION pg_temp.unchanged(answer jsonb) RETURNS boolean LANGUAGE sql
RETURN (SELECT roneo.is_unchanged(k.m, unchanged.answer, k.columns, roneo.change_print(k.answer), k.columns,
                                  clock_timestamp()) FROM known AS k);

SELECT ok(pg_temp.unchanged(answer), 'the same answer means an unchanged source') FROM known;

SELECT is(pg_temp.unchanged(jsonb_set(answer, path::text[], value::jsonb)), expected, what)
FROM known, (VALUES
    ('{before,identity,clock}',            '"2026-01-03T00:00:00.000000Z"', true,  'the clock goes on'),
    ('{before,identity,lsn}',              '"0/2B"',      true,  'the log goes on'),
    ('{before,leaves,1,ins}',              '5',           false, 'rows were inserted'),
    ('{before,leaves,1,upd}',              '4',           false, 'rows were updated'),
    ('{before,leaves,1,del}',              '3',           false, 'rows were deleted'),
    ('{before,leaves,1,ins}',              '0',           false, 'a counter went backwards'),
    ('{before,leaves,1,size}',             '16384',       false, 'the file grew'),
    ('{before,leaves,1,filenode}',         '10',          false, 'the file is another one'),
    ('{before,leaves,1,oid}',              '3',           false, 'the leaf is another one'),
    ('{before,leaves,2}',                  '{"oid": 3, "kind": "r", "filenode": 5, "size": 0, "ins": 0, "upd": 0, "del": 0}', false, 'there is a new leaf'),
    ('{before,identity,stats_reset}',      '"2026-01-02T00:00:00.000000Z"', false, 'the statistics were reset'),
    ('{before,identity,stats_discarded}',  '"2026-01-02T00:00:00.000000Z"', false, 'a crash discarded the statistics'),
    ('{before,identity,postmaster_start}', '"2026-01-02T00:00:00.000000Z"', false, 'the server was restarted'),
    ('{before,identity,system_identifier}', '"7002"',     false, 'it is another cluster'),
    ('{before,identity,timeline}',         '"00000002"',  false, 'a standby was promoted'),
    ('{before,identity,database}',         '"other"',     false, 'it is another database')
) AS c (path, value, expected, what);

-- These are equal to themselves and prove nothing all the same.
SELECT ok(NOT roneo.is_unchanged(m, a.same, columns, roneo.change_print(a.same), columns, clock_timestamp()), what)
FROM known, (VALUES
    ('{before,identity,in_recovery}',     'true',  'a standby counts nothing'),
    ('{before,identity,in_recovery}',     'null',  'nor does a server that may be a standby'),
    ('{before,identity,stats_discarded}', 'null',  'a server that cannot tell since when it counts'),
    ('{before,identity,postmaster_start}', 'null', 'or since when it runs'),
    ('{before,track_counts}',             '"off"', 'a server that does not count'),
    ('{before,track_counts}',             'null',  'or may not'),
    ('{before,leaves,1,kind}',            '"v"',   'a view'),
    ('{before,leaves,1,kind}',            '"m"',   'a materialized view'),
    ('{before,leaves,1,kind}',            '"f"',   'a foreign table'),
    ('{before,leaves,1,kind}',            '"X"',   'a kind that this version does not know'),
    ('{before,leaves,1,kind}',            'null',  'or none'),
    ('{before,leaves,1,ins}',             'null',  'an unknown number of insertions'),
    ('{before,leaves,1,upd}',             'null',  'of updates'),
    ('{before,leaves,1,del}',             'null',  'of deletions'),
    ('{before,leaves,1,size}',            'null',  'an unknown size'),
    ('{before,leaves,1,filenode}',        'null',  'an unknown file'),
    ('{before,leaves}',                   '[]',    'no table at all'),
    ('{before,leaves}',                   'null',  'or none that is known'),
    ('{options,force}',                   'true',  'whoever forces it')
) AS c (path, value, what)
CROSS JOIN LATERAL (SELECT jsonb_set(answer, path::text[], value::jsonb)) AS a (same);
SELECT ok(NOT roneo.is_unchanged(m, answer #- path::text[], columns, roneo.change_print(answer #- path::text[]),
                                 columns, clock_timestamp()), format('an answer without %s', path))
FROM known, unnest(ARRAY['{before}', '{before,identity}', '{before,identity,in_recovery}',
    '{before,identity,stats_discarded}', '{before,track_counts}', '{before,leaves}', '{before,leaves,1,kind}',
    '{before,leaves,1,ins}', '{before,leaves,1,size}', '{before,leaves,1,filenode}']) AS path;

-- The copy itself.
SELECT ok(NOT roneo.is_unchanged(m, answer, columns, NULL, columns, now()), 'nothing has been copied yet') FROM known;
SELECT ok(NOT roneo.is_unchanged(m, answer, columns, roneo.change_print(answer), NULL, now()),
    'the columns of the copy are unknown') FROM known;
SELECT ok(NOT roneo.is_unchanged(m, answer, columns, roneo.change_print(answer), columns, NULL),
    'its age is unknown') FROM known;
SELECT ok(NOT roneo.is_unchanged(m, answer, NULL, roneo.change_print(answer), columns, now()),
    'the source''s columns are unknown') FROM known;
SELECT ok(NOT roneo.is_unchanged(m, answer, jsonb_set(columns, '{0,type}', '"bigint"'), roneo.change_print(answer),
    columns, now()), 'a column has another type') FROM known;
SELECT ok(NOT roneo.is_unchanged(m, answer, columns, roneo.change_print(answer), columns,
    clock_timestamp() - interval '25 hours'), 'the copy is older than max_skip_age') FROM known;
SELECT ok(NOT roneo.is_unchanged(jsonb_populate_record(m, '{"check_changes": false}'), answer, columns,
    roneo.change_print(answer), columns, now()), 'nobody asked for it') FROM known;

-- Filters.
SELECT is(roneo.is_steady(filter), steady, format('filter %s', coalesce(translate(filter, E'\n\t', '  '), 'none')))
FROM (VALUES
    (NULL, true), ('active', true), ('id > 5 AND (v = ''a'' OR NOT (v IS NULL))', true),
    ('id IN (1, 2)', true), ('id = ANY (''{1,2}'')', true), ('("Odd" AND(id=1)) OR(id=2)', true),
    ('at > ''2026-01-01'' AND at BETWEEN (x) AND (y)', true),
    ('at > now() - interval ''1 day''', false), ('at > pg_catalog.now ()', false), ('"f"(id)', false),
    ('at > current_date - 7', false), ('at > CURRENT_TIMESTAMP', false), ('at > localtime', false),
    ('at > ''now''', false), ('at > date ''yesterday''', false), ('owner = session_user', false),
    ('owner = user', false), ('id IN (SELECT id FROM other)', false), ('id IN (TABLE other)', false),
    ('EXISTS (select)', false), ('public.f(id)', false), ('f/* */(id)', false), (E'f --\n (id)', false),
    (E'f\n\t(id)', false), ('notin(id)', false), ('t = ''app.t''::regclass', false)
) AS c (filter, steady);

SELECT * FROM finish();
ROLLBACK;
