-- Fingerprints: equal wherever the rows are, whatever their order and storage, and not for any
-- difference.
SET client_min_messages = warning;
SELECT no_plan();

SELECT on_source($$
    CREATE SCHEMA app;
    CREATE TABLE app.t (id int PRIMARY KEY, v text, n numeric, at timestamptz, "Odd ""name" jsonb);
    INSERT INTO app.t SELECT k, 'v' || k, k / 7.0, timestamptz '2024-01-01 00:00+00' + k * interval '1 h', jsonb_build_object('k', k) FROM generate_series(1, 500) AS k;
    INSERT INTO app.t (id) VALUES (501);
$$) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
CREATE FUNCTION of_source(wanted text DEFAULT 'app.t', filter text DEFAULT NULL, columns text[] DEFAULT NULL) RETURNS text LANGUAGE sql
RETURN roneo.fingerprint(wanted, filter, columns, 'src') ->> 'fingerprint';
SELECT of_source() AS first \gset
SELECT matches(:'first'::text, '^roneo1:501:[0-9a-f]{32}:[0-9a-f]{8}:[0-9a-f]{8}$', 'a fingerprint is one line');

-- What must not matter.
SELECT on_source('CREATE TABLE app.u (gone int, at timestamptz, "Odd ""name" jsonb, n numeric, gone2 text DEFAULT ''x'', v text, id int); ALTER TABLE app.u DROP gone, DROP gone2;
    INSERT INTO app.u (id, v, n, at, "Odd ""name") SELECT id, v, n, at, "Odd ""name" FROM app.t ORDER BY md5(v)') \g /dev/null
SELECT is(of_source('app.u'), :'first', 'the order of rows and columns, and dropped columns do not matter');
SELECT on_source('UPDATE app.t SET v = v; DELETE FROM app.t WHERE id < 0') \g /dev/null
SELECT on_source('VACUUM FULL app.t') \g /dev/null
SELECT is(of_source(), :'first', 'nor does how rows are stored');
SELECT on_source('ALTER DATABASE ' || quote_ident(:'source_db') || ' SET TimeZone = ''Asia/Tokyo''; ALTER DATABASE ' || quote_ident(:'source_db') || ' SET extra_float_digits = 0;
    ALTER DATABASE ' || quote_ident(:'source_db') || ' SET search_path = app') \g /dev/null
SELECT is(of_source('t'), :'first', 'nor settings; a name is found as the role finds it');
SELECT on_source('CREATE TABLE app.p (LIKE app.t) PARTITION BY HASH (id); CREATE TABLE app.p0 PARTITION OF app.p FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE app.p1 PARTITION OF app.p FOR VALUES WITH (MODULUS 2, REMAINDER 1); INSERT INTO app.p TABLE app.t; CREATE VIEW app.w AS TABLE app.p;
    CREATE MATERIALIZED VIEW app.m AS TABLE app.t') \g /dev/null
SELECT is(ARRAY[of_source('app.p'), of_source('app.w'), of_source('app.m')], array_fill(:'first'::text, '{3}'), 'a partitioned table, a view and a materialized view have that of their rows');
-- Tables of another server: there, here, and as a partition.
SELECT on_source(format('CREATE EXTENSION postgres_fdw; CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host %L, port %L, dbname %L); CREATE USER MAPPING FOR PUBLIC SERVER self OPTIONS (user ''postgres'');
    CREATE FOREIGN TABLE app.f (id int, v text, n numeric, at timestamptz, "Odd ""name" jsonb) SERVER self OPTIONS (table_name ''t'')', :'socket', :'port', :'source_db')) \g /dev/null
SELECT is(of_source('app.f'), :'first', 'a foreign table too');
SELECT is(of_source('app.f', 'id <= 100', '{v,id}'), of_source('app.t', 'id <= 100', '{v,id}'), 'and a part of it');
SELECT on_source('CREATE TABLE app.q (LIKE app.t) PARTITION BY RANGE (id); CREATE TABLE app.q0 PARTITION OF app.q FOR VALUES FROM (1) TO (101); INSERT INTO app.q SELECT * FROM app.t WHERE id <= 100;
    CREATE VIEW app.rest AS SELECT * FROM app.t WHERE id > 100; CREATE FOREIGN TABLE app.q1 PARTITION OF app.q FOR VALUES FROM (101) TO (1000) SERVER self OPTIONS (table_name ''rest'')') \g /dev/null
SELECT is(of_source('app.q'), :'first', 'and a table of which a part is foreign');
CREATE EXTENSION postgres_fdw;
CREATE SERVER theirs FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host :'socket', port :'port', dbname :'source_db');
CREATE USER MAPPING FOR PUBLIC SERVER theirs OPTIONS (user 'postgres');
CREATE SCHEMA far;
IMPORT FOREIGN SCHEMA app LIMIT TO (t) FROM SERVER theirs INTO far;
SELECT is(roneo.fingerprint('far.t') ->> 'fingerprint', :'first', 'and one here');
SELECT throws_ok($$ SELECT roneo.fingerprint('far.t', 'none > 1') $$, 'RO007', NULL, 'whose conditions are looked at as others are');
SELECT on_source('UPDATE app.t SET v = ''other'' WHERE id = 7') \g /dev/null
SELECT is((roneo.compare_fingerprints(:'first', f))::text, '(f,"as many rows, but not the same")', 'what changes behind it is seen') FROM unnest(ARRAY[of_source('app.f'), roneo.fingerprint('far.t') ->> 'fingerprint']) AS f;
SELECT on_source('UPDATE app.t SET v = ''v7'' WHERE id = 7') \g /dev/null

CREATE SCHEMA app;
SELECT roneo.create_plain('src', 'app.t') \g /dev/null
SELECT is(roneo.fingerprint('app.t') ->> 'fingerprint', :'first', 'a copy has that of its source');
SET search_path = app, public; SET TimeZone = 'America/New_York'; SET extra_float_digits = -3;
SELECT is(roneo.fingerprint('t') ->> 'fingerprint', :'first', 'whatever is set here');
SELECT is(current_setting('search_path'), 'app, public', 'and that stays so');
RESET ALL;
SET client_min_messages = warning;
SELECT results_eq(format($$ SELECT * FROM roneo.compare_fingerprints(%L, %L) $$, :'first', roneo.fingerprint('app.t')),
    $$ VALUES (true, NULL::text) $$, 'the line and the JSON of equal rows are equal');
SELECT is(of_source('app.t', 'id <= 100'), of_source('app.u', 'id < 101 OR false'), 'a slice is compared with a slice');
SELECT is(of_source('app.t', columns => '{id,v}'), of_source('app.u', columns => '{v,id}'), 'and columns with columns');
SELECT is(of_source('app.t', 'id > 1000'), of_source('app.u', 'false'), 'nothing is equal to nothing');

-- What must matter.
CREATE TEMP TABLE planted (what text, statement text);
INSERT INTO planted VALUES
    ('a value', 'UPDATE app.u SET v = ''other'' WHERE id = 7'), ('a case', 'UPDATE app.u SET v = ''V7'' WHERE id = 7'), ('a NULL', 'UPDATE app.u SET v = NULL WHERE id = 7'),
    ('a scale', 'UPDATE app.u SET n = 1.00 WHERE id = 7'), ('a microsecond', 'UPDATE app.u SET at = at + interval ''1 us'' WHERE id = 7'),
    ('a row less', 'DELETE FROM app.u WHERE id = 7'), ('a row twice', 'INSERT INTO app.u SELECT * FROM app.u WHERE id = 7'),
    ('one row twice for another', 'UPDATE app.u AS a SET v = b.v, n = b.n, at = b.at, "Odd ""name" = b."Odd ""name", id = 8 FROM app.u AS b WHERE a.id = 7 AND b.id = 8'),
    ('values swapped between rows', 'UPDATE app.u AS a SET v = b.v FROM app.u AS b WHERE (a.id, b.id) IN ((7, 8), (8, 7))');
CREATE FUNCTION with_planted(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
    CREATE SCHEMA planted; CREATE TABLE planted.u AS TABLE app.t;
    EXECUTE replace(statement, 'app.u', 'planted.u');
    answer := roneo.fingerprint('planted.u') ->> 'fingerprint';
    DROP SCHEMA planted CASCADE;
    RETURN answer;
END $$;
SELECT is(with_planted('SELECT'), :'first', 'where nothing is planted nothing differs');
SELECT is((roneo.compare_fingerprints(:'first', with_planted(statement))).is_equal, false, format('%s differs', what)) FROM planted;
SELECT is((roneo.compare_fingerprints(:'first', with_planted('ALTER TABLE app.u ALTER v TYPE varchar(20)')))::text, '(f,"other columns or types")', 'a type differs');
SELECT is((roneo.compare_fingerprints(:'first', with_planted('ALTER TABLE app.u RENAME v TO w')))::text, '(f,"other columns or types")', 'a name differs');
SELECT is((roneo.compare_fingerprints(:'first', with_planted('DELETE FROM app.u WHERE id = 7'))).difference, '500 rows, not 501', 'and it is said what');
SELECT is((roneo.compare_fingerprints(:'first', with_planted('UPDATE app.u SET v = NULL WHERE id = 7'))).difference, 'as many rows, but not the same', 'in a few words');

-- Ways to hash.
SELECT is(roneo.fingerprint('app.t', hash => 'md5') ->> 'fingerprint', roneo.fingerprint('app.u', source => 'src', hash => 'md5') ->> 'fingerprint', 'md5 is a way too');
SELECT is((roneo.compare_fingerprints(:'first', roneo.fingerprint('app.t', hash => 'md5')::text)).is_equal, NULL, 'two ways cannot be compared');
SELECT is((roneo.compare_fingerprints(:'first', roneo.fingerprint('app.t', any_encoding => true)::text)).is_equal, NULL, 'nor one for any encoding with another');
SELECT isnt(roneo.fingerprint('app.t', any_encoding => true) ->> 'fingerprint', NULL, 'which there is');

-- The document.
SELECT is(roneo.fingerprint('app.t', 'id > 0', '{id}', 'src') - '{fingerprint,scheme,columns_digest,sum,taken_at,snapshot,seconds,server_version,database,system_identifier}'::text[],
    '{"algorithm": 1, "hash": "fast", "any_encoding": false, "source": "src", "table": "app.t", "filter": "id > 0", "columns": [{"name": "id", "type": "integer", "kind": "int4"}], "rows": 501, "encoding": "UTF8"}'::jsonb,
    'the document says what it was taken of');

-- What cannot be.
SELECT throws_ok($$ SELECT roneo.fingerprint('app.none', source => 'src') $$, 'RO004', NULL, 'no such table');
SELECT throws_ok($$ SELECT roneo.fingerprint('app.none') $$, 'RO004', NULL, 'nor here');
SELECT throws_ok($$ SELECT roneo.fingerprint('a.b.c') $$, 'RO006', NULL, 'nor such a name');
SELECT throws_ok($$ SELECT roneo.fingerprint('app.t', columns => '{id,none}') $$, 'RO007', NULL, 'no such column');
SELECT throws_ok($$ SELECT roneo.fingerprint('app.t', hash => 'crc') $$, 'RO007', NULL, 'no such hash');
SELECT throws_ok($$ SELECT roneo.fingerprint('app.t', 'none > 1') $$, 'RO007', NULL, 'no such condition');
SELECT throws_ok($$ SELECT roneo.fingerprint('app.t', 'true) OR (true') $$, 'RO007', NULL, 'nor one that leaves its place');
SELECT throws_ok($$ SELECT roneo.fingerprint('app.t', 'none > 1', source => 'src') $$, 'RO007', NULL, 'nor on the source');
SELECT throws_ok($$ SELECT roneo.fingerprint('app.t', source => 'nowhere') $$, 'RO003', NULL, 'no such source');
SELECT throws_ok($$ SELECT roneo.compare_fingerprints('roneo1:x', 'y') $$, 'RO007', NULL, 'what is none cannot be compared');
SELECT throws_ok($$ SELECT roneo.compare_fingerprints('{"a": ', 'y') $$, 'RO007', NULL, 'nor JSON that is cut off');
SELECT throws_ok($$ SELECT roneo.fingerprint('(SELECT pg_sleep(5)) IS NULL', source => 'src') $$, 'RO006', NULL, 'a name is a name');
CREATE FUNCTION canceled(statement text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN EXECUTE statement; RETURN false; EXCEPTION WHEN query_canceled THEN RETURN true; END $$;
SELECT ok(canceled($$ SELECT roneo.fingerprint('app.t', 'pg_sleep(5) IS NULL', source => 'src', time_limit => '50 ms') $$), 'a time limit is kept');
SELECT roneo.create_source('reading', :'source_conninfo', 'reader', 'reader secret') \g /dev/null
SELECT throws_ok($$ SELECT roneo.fingerprint('app.t', source => 'reading') $$, 'RO009', NULL, 'a schema may be closed');
SELECT on_source('GRANT USAGE ON SCHEMA app TO reader; GRANT SELECT (id, v) ON app.t TO reader') \g /dev/null
SELECT throws_ok($$ SELECT roneo.fingerprint('app.t', source => 'reading') $$, 'RO009', 'role reader may not read n, at, "Odd ""name" of app.t', 'or some columns');
SELECT is(roneo.fingerprint('app.t', columns => '{id,v}', source => 'reading') ->> 'fingerprint', of_source('app.t', columns => '{id,v}'), 'others may be read');
SELECT on_source('ALTER TABLE app.t ENABLE ROW LEVEL SECURITY') \g /dev/null
SELECT throws_ok($$ SELECT roneo.fingerprint('app.t', columns => '{id,v}', source => 'reading') $$, 'RO009', NULL, 'who sees some rows only is refused');
SELECT on_source('ALTER TABLE app.t DISABLE ROW LEVEL SECURITY; DROP OWNED BY reader') \g /dev/null
SELECT is(dblink_get_connections(), NULL, 'no connection stays open');
SELECT * FROM finish();
