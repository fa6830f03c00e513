-- Hashes of rows: every difference that a copy can have from its source changes them, and nothing
-- else does: not the settings of a session, the order of rows, or how a table came about.
SET client_min_messages = warning;
SELECT no_plan();

\ir ../support/kinds.sql

-- The hash of expressions of types, as verify asks for it. Settings are those of a refresh.
CREATE FUNCTION hash_of(expressions text[], types text[], weak text[] DEFAULT '{}', recode text DEFAULT NULL, nullable boolean DEFAULT true,
                        seldom_null boolean DEFAULT false)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer bigint;
BEGIN
    PERFORM roneo.pin_settings();
    EXECUTE format('SELECT %s', roneo.row_hash((
        SELECT jsonb_agg(jsonb_build_object('expression', format('(%s)', e), 'kind', CASE WHEN t LIKE 'numeric(%' THEN 'scaled' ELSE roneo.hash_kind(t) END,
                                            'nullable', nullable, 'seldom_null', seldom_null, 'is_jsonb', t = 'jsonb') ORDER BY nr)
        FROM unnest(expressions, types) WITH ORDINALITY AS u (e, t, nr)), weak, recode)) INTO answer;
    RETURN answer;
END $$;

CREATE TEMP TABLE pair (what text, type text, one text, other text);
INSERT INTO pair VALUES
    ('a NULL', 'text', 'NULL::text', ''''''), ('a NULL number', 'integer', 'NULL::int', '0'),
    ('a NULL truth', 'boolean', 'NULL::bool', 'false'), ('a NULL time', 'timestamp with time zone', 'NULL::timestamptz', '''2000-01-01 00:00+00''::timestamptz'),
    ('a NULL uuid', 'uuid', 'NULL::uuid', '''00000000-0000-0000-0000-000000000000''::uuid'),
    ('a scale', 'numeric', '1.0', '1.00'), ('a sign', 'numeric', '1', '-1'), ('zeros with another scale', 'numeric', '0', '0.0'),
    ('a myriad', 'numeric', '1.00', '10000.00'), ('a sign where all have one scale', 'numeric(12,2)', '1.50', '-1.50'),
    ('a myriad where all have one scale', 'numeric(12,2)', '1.00', '10000.00'), ('what is no number', 'numeric(12,2)', '''NaN''::numeric', '0.00'),
    ('a second', 'timestamp with time zone', '''1999-12-31 23:59:59+00''::timestamptz', '''2000-01-01 00:00:00+00''::timestamptz'),
    ('a microsecond of long ago', 'timestamp with time zone', '''0800-12-25 12:00:00.000001+00''::timestamptz', '''0800-12-25 12:00:00+00''::timestamptz'),
    ('a microsecond before Christ', 'timestamp without time zone', '''4713-01-01 00:00:00.000002 BC''::timestamp', '''4713-01-01 00:00:00.000001 BC''::timestamp'),
    ('a microsecond of our days', 'timestamp with time zone', '''1960-01-01 00:00:00.000001+00''::timestamptz', '''1960-01-01 00:00:00.000002+00''::timestamptz'),
    ('the first microsecond', 'timestamp without time zone', '''1959-12-31 23:59:59.999999''::timestamp', '''1960-01-01 00:00:00''::timestamp'),
    ('the day that is measured from', 'timestamp without time zone', '''1959-12-31''::timestamp', '''1959-12-30 23:59:59.999999''::timestamp'),
    ('a microsecond of the next century', 'timestamp with time zone', '''2099-12-31 23:59:59.999998+00''::timestamptz', '''2099-12-31 23:59:59.999999+00''::timestamptz'),
    ('a day', 'date', '''1999-12-31''::date', '''2000-01-01''::date'),
    ('NaN and infinity', 'numeric', '''NaN''::numeric', '''Infinity''::numeric'),
    ('the last bit of a float', 'double precision', '0.3::float8', '0.1::float8 + 0.2::float8'),
    ('the last bit of a real', 'real', '''1e-45''::float4', '''0''::float4'),
    ('the sign of a zero', 'double precision', '''0''::float8', '''-0''::float8'),
    ('a trailing blank', 'text', '''ab''', '''ab '''), ('a trailing blank in bpchar', 'bpchar', '''ab''::bpchar', '''ab ''::bpchar'),
    ('the letters'' size in citext', 'text', '''Foo''', '''foo'''),
    ('an hour', 'timestamp with time zone', '''2024-10-27 01:30:00+01''::timestamptz', '''2024-10-27 01:30:00+02''::timestamptz'),
    ('a microsecond', 'timestamp without time zone', '''294276-12-31 23:59:59.999999''::timestamp', '''294276-12-31 23:59:59.999998''::timestamp'),
    ('an infinity', 'timestamp without time zone', '''infinity''::timestamp', '''-infinity''::timestamp'),
    ('dates without end', 'date', '''infinity''::date', '''-infinity''::date'), ('far dates', 'date', '''5874897-12-31''::date', '''infinity''::date'),
    ('a month', 'interval', '''1 mon''::interval', '''30 days''::interval'), ('a day', 'interval', '''1 day''::interval', '''24:00''::interval'),
    ('halves of a bigint', 'bigint', '0::bigint', '4294967297'), ('a bigint', 'bigint', '9223372036854775807', '-9223372036854775808'),
    ('midnight', 'time without time zone', '''00:00''::time', '''24:00''::time'),
    ('a zone', 'time with time zone', '''12:00+00''::timetz', '''13:00+01''::timetz'),
    ('json''s text', 'json', '''{"a":1}''::json', '''{"a": 1}''::json'), ('a number in jsonb', 'jsonb', '''1.0''::jsonb', '''1.00''::jsonb'),
    ('NULL in an array', 'text[]', '''{NULL}''::text[]', '''{"NULL"}''::text[]'), ('an empty array', 'text[]', '''{}''::text[]', 'NULL::text[]'),
    ('bounds of an array', 'integer[]', '''[0:0]={1}''::int[]', '''{1}''::int[]'),
    ('a range''s scale', 'numrange', '''[1.0,2)''::numrange', '''[1.00,2)''::numrange'),
    ('bytes', 'bytea', '''\x00''::bytea', '''\x''::bytea'), ('bits', 'bit varying', 'B''0''', 'B''00'''),
    ('a net', 'inet', '''10.0.0.1''::inet', '''10.0.0.1/24''::inet'), ('a zero point', 'point', '''(0,0)''::point', '''(0,-0)''::point'),
    ('a char', '"char"', '''a''::"char"', '''b''::"char"'), ('text that marks NULL', 'text', 'E''\\N''', 'NULL::text');
SELECT isnt(hash_of(ARRAY[one], ARRAY[type]), hash_of(ARRAY[other], ARRAY[type]), format('%s is seen', what)) FROM pair;
SELECT isnt(hash_of(ARRAY[one], ARRAY[type], seldom_null => true), hash_of(ARRAY[other], ARRAY[type], seldom_null => true),
            format('%s is seen where NULL is not looked for first', what)) FROM pair;
SELECT isnt(hash_of(ARRAY[one], ARRAY[type], ARRAY[roneo.hash_kind(type)], seldom_null => true), hash_of(ARRAY[other], ARRAY[type], ARRAY[roneo.hash_kind(type)], seldom_null => true),
            format('%s is seen by md5', what)) FROM pair;
SELECT isnt(hash_of(ARRAY[one], ARRAY[type], '{int4}'), hash_of(ARRAY[other], ARRAY[type], '{int4}'), format('%s is seen by md5 alone', what)) FROM pair;

-- Where values are swapped: between columns, whatever they are, and between rows under a sum.
SELECT isnt(hash_of(ARRAY[one, other], ARRAY[type, type]), hash_of(ARRAY[other, one], ARRAY[type, type]), format('%s: columns swapped', what)) FROM pair;
SELECT isnt(hash_of(ARRAY[one, other], ARRAY[type, type], seldom_null => true), hash_of(ARRAY[other, one], ARRAY[type, type], seldom_null => true),
            format('%s: columns swapped that are seldom NULL', what)) FROM pair;
SELECT isnt(hash_of(ARRAY[one, other], ARRAY[type, type], nullable => false), hash_of(ARRAY[other, one], ARRAY[type, type], nullable => false),
            format('%s: columns swapped that are never NULL', what))
FROM pair WHERE concat(one, other) !~ '^NULL|NULL::';
SELECT isnt(hash_of(ARRAY[zero, other], ARRAY[type, type]), hash_of(ARRAY[other, zero], ARRAY[type, type]), format('%s next to another: swapped', zero))
FROM (VALUES ('integer', '0', '7'), ('bigint', '0::bigint', '7::bigint'), ('timestamp without time zone', '''1970-01-01''::timestamp', '''2024-01-01''::timestamp'),
             ('time without time zone', '''00:00''::time', '''01:00''::time'), ('numeric', '0', '1'), ('double precision', '0::float8', '1::float8'),
             ('text', '''''', '''a'''), ('integer', 'NULL::int', '7'), ('uuid', '''00000000-0000-0000-0000-000000000000''::uuid',
              '''a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11''::uuid')) AS v (type, zero, other);
-- In the last column nothing comes after them that would tell.
SELECT is(count(*) FILTER (
        WHERE hash_of(ARRAY[n::text, one], ARRAY['integer', type])::numeric + hash_of(ARRAY[(-n)::text, other], ARRAY['integer', type])
            = hash_of(ARRAY[n::text, other], ARRAY['integer', type])::numeric + hash_of(ARRAY[(-n)::text, one], ARRAY['integer', type])),
    0::bigint, format('%s: swapped between rows', what))
FROM pair, generate_series(1, 8) AS n
GROUP BY what;
SELECT isnt(hash_of('{1,2}', '{integer,integer}')::numeric + hash_of('{3,4}', '{integer,integer}'),
            hash_of('{1,4}', '{integer,integer}')::numeric + hash_of('{3,2}', '{integer,integer}'), 'values swapped between rows change the sum');

-- Every value of every type is told from every other one of its type.
CREATE TEMP VIEW source_columns AS
SELECT source_value(roneo.columns_query('''app.kinds''::regclass'))::jsonb AS columns;
SELECT dblink_connect('here', current_setting('test.source_conninfo')) \g /dev/null
SELECT dblink_exec('here', roneo.source_opening()) \g /dev/null
CREATE TEMP TABLE told AS
SELECT c.col ->> 'name' AS name, d.*
FROM source_columns, jsonb_array_elements(columns) AS c (col),
     dblink('here', format('SELECT count(DISTINCT %1$s), count(DISTINCT coalesce(%2$s, ''nothing'')), bool_and(%1$s IS NOT NULL) FROM app.kinds',
        roneo.row_hash(roneo.hashed_columns(columns, ARRAY[(c.col ->> 'name')::name])),
        CASE WHEN c.col ->> 'type_base' = 'character' THEN format('concat(%I)', c.col ->> 'name') ELSE format('%I::text', c.col ->> 'name') END))
     AS d (hashes bigint, vals bigint, every boolean);
SELECT is(hashes, vals, format('all values of %s have hashes of their own', name)) FROM told;
SELECT ok(bool_and(every), 'and each row has one') FROM told;

-- The same rows have the same hash in another table, of another server, under other settings.
SELECT dblink_exec('here', 'ROLLBACK') \g /dev/null
CREATE TEMP TABLE asked AS
SELECT format('SELECT concat_ws('' '', rows, sum) FROM (SELECT %s FROM app.kinds) AS s',
              roneo.hash_sum(roneo.row_hash(roneo.hashed_columns(columns, ARRAY(SELECT (c.col ->> 'name')::name FROM jsonb_array_elements(columns) AS c (col)))))) AS query,
       roneo.row_hash(roneo.hashed_columns(columns, ARRAY(SELECT (c.col ->> 'name')::name FROM jsonb_array_elements(columns) AS c (col)))) AS hash
FROM source_columns;
CREATE FUNCTION pg_temp.sum_under(settings text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    PERFORM dblink_exec('here', settings);
    PERFORM dblink_exec('here', roneo.source_opening());
    SELECT v INTO answer FROM asked, dblink('here', query) AS t (v text);
    PERFORM dblink_exec('here', 'ROLLBACK');
    RETURN answer;
END $$;
CREATE TEMP TABLE first_sum AS SELECT pg_temp.sum_under('SET jit = off') AS v;
SELECT matches(v, '^13 -?[0-9]{15,}$', 'thirteen rows of all types have a sum') FROM first_sum;
SELECT is(pg_temp.sum_under('SET DateStyle = ''SQL, DMY''; SET IntervalStyle = sql_standard; SET TimeZone = ''Asia/Kolkata'';
    SET extra_float_digits = -5; SET bytea_output = escape; SET xmloption = document; SET quote_all_identifiers = off; SET lc_monetary = ''C.UTF-8'''),
    v, 'whatever the settings of the session') FROM first_sum;
SELECT on_source('UPDATE app.kinds SET id = id; CREATE TABLE app.other AS SELECT * FROM app.kinds ORDER BY id DESC;
                  DROP TABLE app.kinds; ALTER TABLE app.other RENAME TO kinds') \g /dev/null
SELECT is(pg_temp.sum_under('SET jit = off'), v, 'whatever the order of rows') FROM first_sum;
SELECT on_source('INSERT INTO app.kinds SELECT * FROM app.kinds WHERE id = 3') \g /dev/null
SELECT isnt(substr(pg_temp.sum_under('SET jit = off'), 4), substr(v, 4), 'a row that is there twice counts twice') FROM first_sum;

-- Encodings: a text has the hash of its characters, and a SQL_ASCII one of what its bytes are told to be.
SELECT is(hash_of(ARRAY['''Größe'''], '{text}', recode => 'server'), hash_of(ARRAY['''Größe'''], '{text}', recode => 'UTF8'),
    'characters are the same in any encoding');
SELECT isnt(hash_of(ARRAY['''Größe'''], '{text}', recode => 'server'), hash_of(ARRAY['''Größe'''], '{text}', recode => 'LATIN1'),
    'and bytes are not');

SELECT isnt(hash_of(ARRAY['NULL::jsonb'], '{jsonb}', recode => 'server', seldom_null => s), hash_of(ARRAY[v], '{jsonb}', recode => 'server', seldom_null => s),
    format('no jsonb, and %s; taken to be seldom NULL: %s', v, s))
FROM unnest(ARRAY['''[]''::jsonb', '''{}''::jsonb', '''null''::jsonb', '''""''::jsonb']) AS v, unnest('{true,false}'::boolean[]) AS s;
SELECT is(hash_of(ARRAY['''{"ä": 1, "abc": [2, {"ü": null}]}''::jsonb'], '{jsonb}', recode => 'server'),
          hash_of(ARRAY['''{"abc": [2, {"ü": null}], "ä": 1}''::jsonb'], '{jsonb}', recode => 'server'), 'the same jsonb');

-- The handshake.
CREATE TEMP TABLE hands (there jsonb);
SELECT dblink_exec('here', roneo.source_opening()) \g /dev/null
INSERT INTO hands SELECT v::jsonb FROM dblink('here', roneo.handshake_query()) AS t (v text);
SELECT set_eq('SELECT jsonb_object_keys(there) FROM hands',
    $$ VALUES ('int4'), ('int8'), ('bool'), ('oid'), ('numeric'), ('scaled'), ('date'), ('uuid'), ('timestamp'), ('timestamptz'), ('time'), ('bytes'), ('padded'), ('ascii'), ('text') $$,
    'constants of each kind are asked for');
SELECT is(roneo.weak_kinds(there, there), '{}', 'one server agrees with itself') FROM hands;
SELECT is(roneo.weak_kinds(there, (there || '{"uuid": "1"}') - 'time'::text), '{time,uuid}', 'what differs or is missing is hashed by md5') FROM hands;
SELECT is(roneo.row_hash('[{"expression": "id", "kind": "uuid", "nullable": false}, {"expression": "n", "kind": "int8", "nullable": false}]', '{uuid}'),
    replace('pg_catalog.hashint8extended((n), pg_catalog.hashint4extended(((n) >> 32)::pg_catalog.int4, '
    '(''x'' || pg_catalog.left(pg_catalog.md5(pg_catalog.concat(0, '':'', ((id)::pg_catalog.text COLLATE "C"))), 16))::pg_catalog.bit(64)::pg_catalog.int8))', '  ', ' '),
    'only that');

-- Wide tables and odd names.
SELECT isnt(hash_of(array_agg(n::text), array_agg('bigint'::text)), NULL, '1,600 columns have a hash') FROM generate_series(1, 1600) AS n;
SELECT isnt(hash_of(array_agg(format('''%s''', n)), array_agg('text'::text), '{int4}'), NULL, 'by md5 too') FROM generate_series(1, 1600) AS n;
SELECT isnt(hash_of(array_agg(n::text ORDER BY n), array_agg('bigint'::text)), hash_of(array_agg(n::text ORDER BY CASE n WHEN 3 THEN 800 WHEN 800 THEN 3 ELSE n END), array_agg('bigint'::text)),
    'swapped ones another one') FROM generate_series(1, 1600) AS n;
SELECT is(roneo.row_hash('[]'), '0::pg_catalog.int8', 'a row without columns has one too');
CREATE TEMP TABLE "odd %1$s :s" ("a ""b"" %2$s ':v :s" smallint, "x:smallint" "char");
INSERT INTO "odd %1$s :s" VALUES (1, 'x'), (NULL, NULL);
SELECT lives_ok(format('SELECT %s FROM pg_temp."odd %%1$s :s"', roneo.row_hash(roneo.hashed_columns(
    roneo.local_relation('"odd %1$s :s"'::regclass) -> 'columns', ARRAY[E'a "b" %2$s '':v :s', 'x:smallint']::name[]))), 'names can look like anything');

SELECT dblink_disconnect('here') \g /dev/null
SELECT * FROM finish();
