-- Content of databases of unlike encodings: the same characters are equal, by fingerprints and by
-- verifications, whatever their bytes, and others are not.
SET client_min_messages = warning;
SELECT no_plan();

-- A table that has the same characters in each encoding; the bytes of SQL_ASCII are those of LATIN1.
CREATE TEMP TABLE encoded (encoding name, database name, byte_encoding name);
INSERT INTO encoded SELECT e, concat(:'source_db', '_', lower(e)), replace(e, 'SQL_ASCII', 'LATIN1') FROM unnest('{UTF8,LATIN1,SQL_ASCII}'::name[]) AS e;
SELECT format('CREATE DATABASE %I TEMPLATE template0 ENCODING %L LOCALE ''C''', database, encoding) FROM encoded \gexec
CREATE FUNCTION conninfo(database name) RETURNS text LANGUAGE sql RETURN regexp_replace(current_setting('test.source_conninfo'), 'dbname=\S+', 'dbname=' || database);
CREATE FUNCTION on_each(statement text, encodings name[] DEFAULT '{UTF8,LATIN1,SQL_ASCII}') RETURNS void LANGUAGE plpgsql AS $$
DECLARE e record;
BEGIN
    FOR e IN SELECT * FROM encoded WHERE encoding = ANY (encodings) LOOP
        PERFORM dblink_connect('each', conninfo(e.database)), dblink_exec('each', 'SET client_encoding = ' || CASE e.encoding WHEN 'SQL_ASCII' THEN e.encoding ELSE 'UTF8' END);
        -- Where nothing is converted, bytes are written as such.
        PERFORM dblink_exec('each', CASE e.encoding WHEN 'SQL_ASCII' THEN format('DO $do$ BEGIN EXECUTE convert_from(%L, ''SQL_ASCII''); END $do$', convert_to(statement, 'LATIN1')) ELSE statement END),
                dblink_disconnect('each');
    END LOOP;
END $$;
SELECT on_each($$
    CREATE TABLE t (id int PRIMARY KEY, plain text, n int, z text, padded char(6), list text[], doc json, same jsonb);
    INSERT INTO t VALUES (1, 'Größe', 1, 'z', 'é', '{ä,"b c"}', '{"ü": "ß"}', '{"ä": 1, "zz": {"öö": [1, {"ä": null, "b": 2}], "abc": "Maß"}}'), (2, 'only ascii', 2, NULL, 'e', '{}', '{}', '{}'),
        (3, NULL, 3, 'ÿ', NULL, NULL, NULL, NULL) $$) \g /dev/null
SELECT roneo.create_source(lower(encoding), conninfo(database), source_encoding => CASE encoding WHEN 'SQL_ASCII' THEN byte_encoding END) FROM encoded \g /dev/null
CREATE FUNCTION taken(source text, columns text[] DEFAULT NULL, hash text DEFAULT 'fast', any_encoding boolean DEFAULT true) RETURNS text LANGUAGE sql
RETURN roneo.fingerprint('public.t', source => source, columns => columns, hash => hash, any_encoding => any_encoding) ->> 'fingerprint';

SELECT is(roneo.fingerprint('public.t', source => 'latin1') ->> 'encoding', 'LATIN1', 'a fingerprint says which encoding it is of');
SELECT is(roneo.compare_fingerprints(taken('utf8', any_encoding => false), taken('latin1', any_encoding => false))::text,
    '(,"hashed in different ways: take both with the same options; with md5 and any_encoding if they are of unlike servers")', 'without any_encoding unlike ones cannot be compared');
SELECT is((roneo.compare_fingerprints(taken('utf8', '{id,n}', any_encoding => false), taken('latin1', '{id,n}', any_encoding => false))).is_equal, true, 'but what has no text can');
SELECT is(taken('latin1', hash => h), taken('utf8', hash => h), h || ': the same characters are equal') FROM unnest('{fast,md5}'::text[]) AS h;
SELECT is(taken('sql_ascii', hash => h), taken('utf8', hash => h), h || ': those that a SQL_ASCII source is said to have too') FROM unnest('{fast,md5}'::text[]) AS h;

-- What cannot be.
UPDATE roneo.source SET source_encoding = NULL WHERE source_name = 'sql_ascii';
SELECT throws_ok($$ SELECT taken('sql_ascii') $$, 'RO007', 'source sql_ascii is a SQL_ASCII database, and what its bytes mean is not known', 'bytes that are not said to be characters have no such fingerprint');
SELECT isnt(taken('sql_ascii', any_encoding => false), NULL, 'but one of their own');
UPDATE roneo.source SET source_encoding = 'LATIN1' WHERE source_name = 'sql_ascii';

-- Names are characters too, and so are labels. dblink brings none of a SQL_ASCII source.
SELECT on_each('ALTER TABLE t RENAME n TO "zähler"; CREATE TYPE "Töne" AS ENUM (''grün'', ''weiß''); ALTER TABLE t ADD zz "Töne" DEFAULT ''grün''', '{UTF8,LATIN1}') \g /dev/null
SELECT is(taken('latin1'), taken('utf8'), 'a name with other bytes is the same name');
SELECT is((roneo.compare_fingerprints(taken('utf8', '{id,zähler}', any_encoding => false), taken('latin1', '{id,zähler}', any_encoding => false))).is_equal, true, 'and its column, without texts, has the same fingerprint');
-- Taken there, by an installation there.
CREATE FUNCTION taken_in(wanted name) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
    PERFORM dblink_connect('there', conninfo(database)), dblink_exec('there', 'CREATE EXTENSION IF NOT EXISTS dblink; CREATE EXTENSION IF NOT EXISTS roneo') FROM encoded WHERE encoding = wanted;
    SELECT v INTO answer FROM dblink('there', $q$SELECT roneo.fingerprint('public.t', any_encoding => true) ->> 'fingerprint'$q$) AS d (v text);
    PERFORM dblink_disconnect('there');
    RETURN answer;
END $$;
SELECT is(taken_in(encoding), taken('utf8'), encoding || ': also when taken in that database') FROM encoded WHERE encoding <> 'SQL_ASCII';

-- What differs is told.
SELECT on_each('UPDATE t SET plain = ''Grösse'' WHERE id = 1') \g /dev/null
CREATE TEMP TABLE changed AS SELECT s, taken(s) AS print FROM unnest('{utf8,latin1,sql_ascii}'::text[]) AS s;
SELECT on_each('UPDATE t SET plain = ''GröSse'' WHERE id = 1') \g /dev/null
SELECT is((roneo.compare_fingerprints(c.print, taken(c.s))).difference, 'as many rows, but not the same', c.s || ': another character is a difference') FROM changed AS c;
UPDATE changed SET print = taken(s);
SELECT on_each('UPDATE t SET same = ''{"zz": 1, "ä": {"öö": [1, {"ä": null, "b": 2}], "abc": "Maß"}}'' WHERE id = 1') \g /dev/null
SELECT is((roneo.compare_fingerprints(c.print, taken(c.s))).difference, 'as many rows, but not the same', c.s || ': so are values of jsonb under each other''s keys') FROM changed AS c;

-- Verifications, of LATIN1 here in UTF8.
CREATE TYPE "Töne" AS ENUM ('grün', 'weiß');
SELECT roneo.create_plain('latin1', 'public.t', 'by_plain'), roneo.create_snapshot('latin1', 'public.t', 'by_snapshot'),
       roneo.create_dml('latin1', 'public.t', 'by_dml'), roneo.create_updater('latin1', 'public.t', 'by_updater', control => 'id') \g /dev/null
SELECT is((SELECT string_agg(plain, ' ' ORDER BY id) FROM by_plain), 'GröSse only ascii', 'rows come as characters');
SELECT is(v.verdict, 'equal', format('%s: equal characters are equal', r.dest_name)) FROM roneo.replica AS r, roneo.verify(r.dest) AS v;
UPDATE by_dml SET plain = 'GrößE' WHERE id = 1;
INSERT INTO by_dml (id, plain) VALUES (9, 'überzählig');
DELETE FROM by_dml WHERE id = 3;
SELECT is((v.verdict, v.missing, v.extra, v.changed)::text, '(differs,1,1,1)', 'rows that differ are found') FROM roneo.verify('by_dml') AS v;
SELECT roneo.repair('by_dml', apply => true, most_deleted => 100) \g /dev/null
SELECT is(v.verdict, 'equal', 'and mended') FROM roneo.verify('by_dml') AS v;
SELECT is((SELECT string_agg(b::text, ' ' ORDER BY id) FROM by_dml AS b), (SELECT string_agg(p::text, ' ' ORDER BY id) FROM by_plain AS p), 'to what the source has');
SELECT is(dblink_get_connections(), NULL, 'no connection stays open');

SELECT format('DROP DATABASE %I WITH (FORCE)', database) FROM encoded \gexec
SELECT * FROM finish();
