-- Table app.kinds on the source: a column of every type, named like it, with its odd values. The types
-- are on the destination too, and what tells the contents of a table is on both.
SELECT $$
    CREATE SCHEMA app;
    CREATE TYPE app.mood AS ENUM ('sad', 'it''s \ ok', 'Ünï, "x"', '');
    CREATE TYPE app.inner AS (a int, "B b" text[]);
    CREATE TYPE app.outer AS (i app.inner, many app.inner[], moods app.mood[], n numeric(4,2));
    CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN app.large AS app.positive CHECK (VALUE > 9);
    CREATE DOMAIN app.ints AS int[];
    CREATE DOMAIN app.moods AS app.mood[];
    CREATE TYPE app.floatrange AS RANGE (subtype = float8, multirange_type_name = app.floatranges);
    CREATE TABLE app.somewhere (id int);
$$ AS types \gset
:types
SELECT on_source(:'types') \g /dev/null
SELECT on_source('CREATE EXTENSION citext; CREATE EXTENSION hstore;
                  CREATE DOMAIN app.email AS citext') \g /dev/null
-- The same extensions in another schema than on the source.
CREATE SCHEMA "Ext %";
CREATE EXTENSION citext SCHEMA "Ext %";
CREATE EXTENSION hstore SCHEMA "Ext %";
CREATE DOMAIN app.email AS "Ext %".citext;

CREATE FUNCTION public.contents(relation text)
RETURNS TABLE (name text, type text, content text) LANGUAGE plpgsql
SET search_path = pg_catalog, public
SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres'
SET extra_float_digits = 3 SET bytea_output = 'hex' SET quote_all_identifiers = off AS $$
BEGIN
    FOR name, type IN
        SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = relation::regclass AND attnum > 0 AND NOT attisdropped
    LOOP
        EXECUTE format('SELECT string_agg(coalesce(%I::text, ''nothing''), '' | '' ORDER BY id)
                        FROM %s', name, relation) INTO content;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION public.contents(text) IS 'What all values of each column look like, under fixed settings.';
SELECT on_source(pg_get_functiondef('public.contents(text)'::regprocedure)) \g /dev/null

CREATE TEMP TABLE kind (type text, vals text[]);
INSERT INTO kind VALUES
    ('boolean', '{t,f}'), ('smallint', '{-32768,32767}'), ('integer', '{-2147483648,0}'),
    ('bigint', '{-9223372036854775808,9223372036854775807}'),
    ('numeric', ARRAY['NaN', 'Infinity', '-Infinity', '0.00', '1.10', concat(repeat('9', 3000), '.', repeat('1', 2000)), '1e-1000']),
    ('numeric(10,2)', '{NaN,-12345678.90,0}'), ('numeric[]', '{"{NaN,Infinity,1.0,1.00}"}'),
    ('real', '{NaN,-Infinity,-0,1e-45,3.4028235e38,0.1}'),
    ('double precision', '{NaN,Infinity,-Infinity,-0,5e-324,0.30000000000000004,1.7976931348623157e308}'),
    ('double precision[]', '{"{-0,NaN,0.1}"}'), ('money', '{-92233720368547758.08,0.01}'),
    ('text', ARRAY['', E'a\nb\r\n\tc', '\N', '\.', '\\', 'NULL', '"q"', '''',
        'Größe 日本 🐘', E'\u0001\u007f', repeat('TOAST ', 500000), ' ']),
    ('text[]', ARRAY['{}', '{NULL,"NULL","","a\\b","\"","{","a,b"," x "}', '{{a,b},{c,d}}', '[-1:0][2:3]={{1,2},{3,4}}', '{{{1},{2}}}']),
    ('character varying(5)', ARRAY['', 'ab   ', 'äöüßx']),
    ('character(5)', ARRAY['ab   ', '', '     ', 'äöüßx']), ('character(3)[]', '{"{ab,\"  \",c}"}'),
    ('"char"', ARRAY['a', '', '\']), ('name', ARRAY['', repeat('n', 63)]),
    ('bytea', ARRAY['\x', '\x00', '\x5c4e0a', (SELECT string_agg(set_byte('\x00', 0, i), '' ORDER BY i)::text FROM generate_series(0, 255) AS i)]),
    ('bytea[]', ARRAY['{"\\x00ff",NULL,"\\x"}']), ('bit(7)', '{1010101,0000000}'),
    ('bit varying', ARRAY['', '1', repeat('01', 100)]), ('bit varying(5)', ARRAY['', '10110']),
    ('bit(2)[]', '{"{01,10}"}'),
    ('date', ARRAY['infinity', '-infinity', '4713-01-01 BC', '2024-02-29', '5874897-12-31']),
    ('time without time zone', '{24:00:00,00:00:00.000001}'),
    ('time(0) without time zone', '{23:59:59}'),
    ('time with time zone', '{12:00:00.123456+05:30,23:59:59-15:59:59,24:00:00+00}'),
    ('timestamp without time zone', ARRAY['infinity', '-infinity', '4713-01-01 00:00:00 BC', '294276-12-31 23:59:59.999999', '2024-03-10 02:30:00']),
    ('timestamp with time zone', ARRAY['infinity', '-infinity', '4713-01-02 00:00:00+00 BC', '294276-12-31 23:59:59.999999+00', '2024-10-27 01:30:00+01', '2024-10-27 01:30:00+02']),
    ('timestamp(3) with time zone', ARRAY['2024-01-01 00:00:00.1235+00']),
    ('timestamp with time zone[]', ARRAY['{infinity,"0044-03-15 12:00:00+00 BC"}']),
    ('interval', ARRAY['1 mon -1 day 00:00:00.000001', '1 mon', '30 days', '24:00:00', '-178000000 years', '0', '-1 year -2 mons +3 days -04:05:06.789']),
    ('interval day to second(3)', ARRAY['3 days 04:05:06.789']),
    ('interval year to month', ARRAY['-1 year -1 mon']),
    ('interval[]', ARRAY['{1 mon,"-1 days +02:03:04"}']),
    ('json', ARRAY['{"b": 1,  "a": 1, "a": 2}', '{"n": 12345678901234567890.123456789012345678901234567890, "u": "\u0000"}', 'null', ' [ ] ', '"\ud83d\ude00 \\ \n"']),
    ('jsonb', ARRAY['{"b": 1, "a": 1, "a": 2}', '{"n": 1e300, "m": 1.10, "u": "\u00e9 \\ \""}', 'null', '[]']),
    ('jsonb[]', ARRAY['{"{\"a\": \"b,c\"}",NULL}']),
    ('jsonpath', ARRAY['strict $."a b"[*] ? (@ > 1)']),
    ('xml', ARRAY['<a b="c">é &amp; <!-- x --></a>', 'text<b/>more', '<?xml version="1.0" standalone="yes"?><a/>', '']),
    ('uuid', '{00000000-0000-0000-0000-000000000000,ffffffff-ffff-ffff-ffff-ffffffffffff}'),
    ('uuid[]', '{"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"}'),
    ('inet', '{192.168.0.1,192.168.0.1/24,::1/128,::ffff:1.2.3.4/64}'),
    ('cidr', '{10.0.0.0/8,2001:db8::/32}'), ('macaddr', '{08:00:2b:01:02:03}'),
    ('macaddr8', '{08:00:2b:01:02:03:04:05}'),
    ('point', ARRAY['(-0,1e-300)', '(NaN,Infinity)', '(0.30000000000000004,1)']),
    ('line', '{"{1,-1,0.1}"}'), ('lseg', '{"[(0,0),(1,1.5)]"}'), ('box', '{"(1,1),(0,0)"}'),
    ('path', '{"[(0,0),(1,1)]","((0,0),(1,1))"}'), ('polygon', '{"((0,0),(1,1),(1,0))"}'),
    ('circle', '{"<(1,2),3>"}'), ('box[]', '{"{(1,1),(0,0);(2,2),(1,1)}"}'),
    ('tsvector', ARRAY['a:1A ''fat cat'':2B,4C ''it''''s'':5 ''\\'':6', '']),
    ('tsquery', ARRAY['!a & (''b c'':AB* | d) <2> e']), ('pg_lsn', '{0/0,FFFFFFFF/FFFFFFFF}'),
    ('oid', '{0,4294967295}'), ('xid', '{3,4294967295}'), ('cid', '{7}'),
    ('tid', '{"(4294967295,65535)"}'),
    ('xid8', '{18446744073709551615}'), ('pg_snapshot', ARRAY['10:20:10,14']),
    ('txid_snapshot', ARRAY['10:20:10,14']), ('int2vector', ARRAY['1 2 3', '']),
    ('oidvector', ARRAY['1 4294967295']), ('aclitem[]', '{"{postgres=arw/postgres,=r/postgres}"}'),
    ('regclass', '{pg_class,app.somewhere,-}'), ('regtype', '{integer,app.mood[],app.outer}'),
    ('regproc', '{now,-}'), ('regprocedure', ARRAY['abs(integer)', 'public.contents(text)']),
    ('regoper', '{||/,0}'), ('regoperator', ARRAY['+(integer,integer)']),
    ('regrole', '{pg_monitor}'), ('regnamespace', '{app}'), ('regconfig', '{english}'),
    ('regdictionary', '{simple}'), ('regcollation', ARRAY['"C"']),
    ('regclass[]', '{"{app.somewhere,pg_type}"}'),
    ('int4range', ARRAY['empty', '(,)', '[1,2)', '[5,)']),
    ('int8range', '{"(,9223372036854775807)"}'),
    ('numrange', ARRAY['[1.10,NaN)', '(-Infinity,Infinity]']),
    ('daterange', ARRAY['(-infinity,infinity)', '["4713-01-01 BC",2024-01-01)']),
    ('tsrange', ARRAY['(,"2024-01-01 12:00:00"]']),
    ('tstzrange', ARRAY['["2024-01-01 12:00:00+00",infinity]']),
    ('int4range[]', ARRAY['{"[1,2)",empty}']),
    ('int4multirange', ARRAY['{}', '{[1,2),[5,)}']),
    ('tstzmultirange', ARRAY['{[2024-01-01 00:00:00+00,2024-01-02 00:00:00+00)}']),
    ('app.floatrange', ARRAY['[-0,0.30000000000000004)', '(,1e300]', 'empty']),
    ('app.floatranges', ARRAY['{[0.1,0.2),[1,2]}']),
    ('app.floatrange[]', ARRAY['{"[0.1,0.2)",NULL}']),
    ('app.mood', ARRAY['sad', 'it''s \ ok', 'Ünï, "x"', '']),
    ('app.mood[]', ARRAY['{}', '{sad,NULL,"it''s \\ ok","Ünï, \"x\"",""}', '{{sad},{""}}']),
    ('app.positive', '{1}'), ('app.large', '{10,2147483647}'), ('app.large[]', '{"{10,NULL}"}'),
    ('app.ints', ARRAY['{}', '{{1,2},{3,NULL}}']), ('app.moods', ARRAY['{"",sad}']),
    ('app."inner"', ARRAY['(,)', '(1,"{NULL,"""",""a\\\\b""}")']),
    ('app."outer"', ARRAY['("(1,""{a,b}"")","{""(2,{})"",NULL}","{sad,""it''s \\\\ ok""}",1.50)', '(,,,NaN)']),
    ('app."outer"[]', ARRAY['{"(\"(1,\\\"{x}\\\")\",{},,)",NULL}']),
    ('public.citext', ARRAY['Foo', 'foo', 'ÄÖ', '']), ('public.citext[]', '{"{Foo,fOO,NULL}"}'),
    ('app.email', '{Me@Example}'),
    ('public.hstore', ARRAY['', '"a b"=>"c\"d", "n"=>NULL, "e"=>""']),
    ('public.hstore[]', ARRAY['{"\"a\"=>\"1\"",NULL}']);
DO $$ BEGIN
    PERFORM xmlparse(content '');
EXCEPTION WHEN feature_not_supported THEN
    -- This server was built without libxml.
    DELETE FROM kind WHERE type = 'xml';
END $$;

-- Row n has the nth value of each column; the last row has none.
SELECT on_source(format('CREATE TABLE app.kinds (id int PRIMARY KEY, %s)',
                        string_agg(format('%I %s', type, type), ', ')))
FROM kind \g /dev/null
SELECT on_source(format('INSERT INTO app.kinds (id, %s) VALUES (%s, %s)',
                        string_agg(quote_ident(type), ', '), n,
                        string_agg(format('CAST(%L AS %s)', vals[n], type), ', ')))
FROM kind, generate_series(1, 13) AS n GROUP BY n \g /dev/null
