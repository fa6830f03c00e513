-- dml: every kind of change, recorded by statement triggers and by row triggers.
\ir ../support/capture.sql
SELECT plan(186);
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT $$
    CREATE SCHEMA far;
    CREATE TYPE far.mood AS ENUM ('sad', 'it''s', '');
    CREATE TYPE far.pair AS (a int, b text);
    CREATE DOMAIN far.positive AS int NOT NULL CHECK (VALUE > 0);
    CREATE DOMAIN far.large AS far.positive CHECK (VALUE < 1000000);
    CREATE DOMAIN far.ints AS int[];
    CREATE DOMAIN far.code AS char(5) NOT NULL;
    CREATE COLLATION far.blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE EXTENSION citext SCHEMA public;
    CREATE DOMAIN far.email AS public.citext;
    CREATE DOMAIN far.twice_email AS far.email
$$ AS types \gset
:types;
SELECT on_source(:'types') \g /dev/null
\set mode statement
SELECT dblink_connect('a', :'source_conninfo') \g /dev/null
SELECT told('a', 'SET search_path = statement, public') \g /dev/null
\ir ../support/capture_cases.sql
\set mode row
SELECT told('a', 'SET search_path = "row", public') \g /dev/null
\ir ../support/capture_cases.sql
SELECT * FROM finish();
