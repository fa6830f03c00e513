-- Alone in the cluster: while transactions are open, an updater reads rows again, and mends them.
-- Tables of every type are equal to their sources by verify, by every method; and each difference
-- that was planted is found, in its row and its column.
SET client_min_messages = warning;
SELECT no_plan();

\ir ../support/kinds.sql

SELECT on_source(format('ALTER DATABASE %I SET %s', :'source_db', s))
FROM unnest(ARRAY['DateStyle = ''SQL, DMY''', 'IntervalStyle = sql_standard', 'TimeZone = ''Asia/Kolkata''', 'extra_float_digits = -5',
                  'bytea_output = escape']) AS s \g /dev/null
SET DateStyle = 'German';
SET TimeZone = 'America/St_Johns';

SELECT roneo.create_source('main', current_setting('test.source_conninfo')) \g /dev/null
SELECT on_source('ALTER TABLE app.kinds ADD COLUMN moved timestamptz NOT NULL DEFAULT now()') \g /dev/null
SELECT roneo.create_snapshot('main', 'app.kinds', 'kinds_snapshot'), roneo.create_plain('main', 'app.kinds', 'kinds_plain'),
       roneo.create_updater('main', 'app.kinds', 'kinds_updater', control => 'moved'),
       roneo.create_inserter('main', 'app.kinds', 'kinds_inserter', control => 'id'),
       roneo.create_dml('main', 'app.kinds', 'kinds_dml'), roneo.create_logdel('main', 'app.kinds', 'kinds_logdel') \g /dev/null

CREATE TEMP VIEW copy AS
SELECT r.dest, r.method, format('kinds_%s', r.method) AS name,
       CASE r.method WHEN 'snapshot' THEN (SELECT format('%I.%I', m.table_schema, roneo.shown_table(m)) FROM roneo.snapshot_replica AS m) ELSE r.dest::text END AS target
FROM roneo.replica AS r;
SELECT is(row(v.verdict, v.why, v.rows_here)::text, '(equal,,13)', format('%s: nothing differs', c.method)) FROM copy AS c, roneo.verify(c.dest) AS v;

-- One value of each column is changed here, in a row of its own column's: the first that has another one.
CREATE FUNCTION pg_temp.plant(target text, name name) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    planted int;
BEGIN
    EXECUTE format('UPDATE %s AS k SET %I = NULL WHERE id = (SELECT min(id) FROM %1$s WHERE %2$I IS NOT NULL) RETURNING id', target, name) INTO planted;
    RETURN planted;
END $$;
CREATE TEMP TABLE planted AS
SELECT c.method, c.dest, a.attname, pg_temp.plant(c.target, a.attname) AS id
FROM copy AS c JOIN pg_attribute AS a ON a.attrelid = c.target::regclass
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attname NOT IN ('id', 'moved', 'roneo_source_deleted') AND c.method IN ('dml', 'updater');
CREATE TEMP TABLE found AS
SELECT c.method, (d -> 'key' ->> 'id')::int AS id, n.name
FROM copy AS c CROSS JOIN roneo.verify(c.dest) AS v
CROSS JOIN jsonb_array_elements(v.differences) AS d CROSS JOIN jsonb_array_elements_text(d -> 'columns') AS n (name)
WHERE c.method IN ('dml', 'updater');
SELECT cmp_ok((SELECT count(*) FROM planted), '>', 200::bigint, 'a value of each column is gone here');
SELECT set_eq('SELECT method, id, name FROM found', 'SELECT method, id, attname::text FROM planted', 'each is found, and nothing else');
SELECT is(v.verdict, 'repaired', format('%s: all of it is repaired', c.method)) FROM copy AS c, roneo.repair(c.dest, apply => true) AS v WHERE c.method IN ('dml', 'updater');
SELECT is(v.verdict, 'equal', format('%s: and nothing differs any more', c.method)) FROM copy AS c, roneo.verify(c.dest) AS v WHERE c.method IN ('dml', 'updater');
CREATE TEMP TABLE sent AS
SELECT * FROM dblink(current_setting('test.source_conninfo'), $$ SELECT * FROM contents('app.kinds') $$) AS t (name text, type text, content text);
SELECT is_empty($$ SELECT here.method, name FROM (SELECT c.method, t.* FROM copy AS c, contents(c.dest::text) AS t WHERE c.method IN ('dml', 'updater')) AS here
                   JOIN sent USING (name) WHERE here.content IS DISTINCT FROM sent.content $$, 'all values are as on the source');

-- Differences that equality, or a text of the value, does not show.
CREATE TEMP TABLE hard (what text, name name, id int, value text);
INSERT INTO hard VALUES
    ('an empty text for NULL', 'text', 13, ''''''), ('NULL for an empty text', 'text', 1, 'NULL'), ('a scale', 'numeric', 5, '1.1'),
    ('the last bit of a float', 'double precision', 6, '0.3'), ('a zero without its sign', 'double precision', 4, '0'), ('a real''s', 'real', 3, '0'),
    ('a trailing blank', 'text', 12, '''  '''), ('blanks of varchar', 'character varying(5)', 2, '''ab'''), ('an hour', 'timestamp with time zone', 5, '''2024-10-27 01:30:00+02'''),
    ('a microsecond', 'timestamp without time zone', 4, '''294276-12-31 23:59:59.999998'''), ('a month for thirty days', 'interval', 3, '''1 mon'''),
    ('the blanks of json', 'json', 1, '''{"b":1,"a":1,"a":2}'''), ('a number in jsonb', 'jsonb', 2, '''{"n": 1e300, "m": 1.1, "u": "\u00e9 \\ \""}'''),
    ('upper case in citext', 'public.citext', 1, '''FOO'''), ('bounds of an array', 'text[]', 4, '''{{1,2},{3,4}}'''),
    ('NULL in an array', 'text[]', 2, '''{"NULL","NULL","","a\\b","\"","{","a,b"," x "}'''),
    ('an enum', 'app.mood', 1, '''it''''s \ ok'''), ('a composite', 'app."inner"', 1, '''(1,)'''), ('a byte', 'bytea', 2, '''\x'''),
    ('one end of a range', 'int4range', 3, '''[1,3)'''), ('a point', 'point', 1, '''(0,1e-300)'''), ('a letter', '"char"', 1, '''A''');
SELECT lives_ok(format('UPDATE kinds_dml SET %I = %s WHERE id = %s', name, value, id), format('planted: %s', what)) FROM hard;
SELECT set_eq($$ SELECT (d -> 'key' ->> 'id')::int, n.name FROM roneo.verify('kinds_dml') AS v, jsonb_array_elements(v.differences) AS d,
                     jsonb_array_elements_text(d -> 'columns') AS n (name) $$,
    'SELECT DISTINCT id, name::text FROM hard', 'each of them is found');
SELECT set_eq($$ SELECT (d -> 'key' ->> 'id')::int, n.name FROM roneo.verify('kinds_dml', show_values => true) AS v, jsonb_array_elements(v.differences) AS d,
                     jsonb_array_elements_text(d -> 'columns') AS n (name) $$,
    'SELECT DISTINCT id, name::text FROM hard', 'with values too');
SELECT is(verdict, 'repaired', 'all are repaired') FROM roneo.repair('kinds_dml', apply => true);
SELECT is_empty($$ SELECT name FROM contents('kinds_dml') AS here JOIN sent USING (name) WHERE here.content IS DISTINCT FROM sent.content $$,
    'all values are as on the source again');

-- The same by md5, as between machines that hash differently.
SELECT is(roneo.weak_kinds('{"int4": "1"}', '{"int4": "2"}'), '{int4}', 'kinds are told apart');
CREATE FUNCTION pg_temp.sums(weak text[], seldom_null boolean) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    there   jsonb;
    here    jsonb;
    columns jsonb;
BEGIN
    PERFORM roneo.pin_settings();
    columns := roneo.local_relation('public.kinds_dml'::regclass) -> 'columns';
    columns := roneo.verified_columns(public.source_value(roneo.columns_query('''app.kinds''::regclass'))::jsonb, columns,
        ARRAY(SELECT c ->> 'name' FROM jsonb_array_elements(columns) AS c WHERE seldom_null)::name[]);
    PERFORM public.dblink_connect('there', current_setting('test.source_conninfo'));
    PERFORM public.dblink_exec('there', roneo.source_opening());
    SELECT v::jsonb INTO there FROM public.dblink('there', roneo.sums_query(jsonb_build_object('columns', columns, 'key', '["id"]'::jsonb, 'from', 'app.kinds'), 'there', weak)) AS t (v text);
    PERFORM public.dblink_disconnect('there');
    EXECUTE roneo.sums_query(jsonb_build_object('columns', columns, 'key', '["id"]'::jsonb, 'target', 'public.kinds_dml'), 'here', weak) INTO here;
    RETURN format('%s rows, differing: %s', there ->> 'rows', roneo.differing_buckets(there, here));
END $$;
SELECT is(pg_temp.sums('{}', s), '13 rows, differing: {}', format('equal; taken to be seldom NULL: %s', s)) FROM unnest('{true,false}'::boolean[]) AS s;
SELECT is(pg_temp.sums(w, true), '13 rows, differing: {}', format('equal with %s by md5', w)) FROM unnest(ARRAY['{uuid,ascii}', '{text}', '{timestamp,date,time,padded,bytes}'] ) AS x (l), LATERAL (SELECT l::text[] AS w) AS y;

SELECT * FROM finish();
