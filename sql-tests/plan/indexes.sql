-- Indexes are taken apart on the source and built alike on an empty copy.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT no_plan();

CREATE SCHEMA app;
CREATE EXTENSION citext;
CREATE EXTENSION pg_trgm;
CREATE EXTENSION btree_gist;
CREATE TYPE app.mood AS ENUM ('sad', 'ok');
CREATE DOMAIN app.size AS int;
CREATE FUNCTION app.plain(text) RETURNS text IMMUTABLE LANGUAGE sql RETURN $1;
CREATE FUNCTION pg_temp.column_names(relation regclass) RETURNS name[] LANGUAGE sql
RETURN (SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped);
CREATE FUNCTION pg_temp.run(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
END;
$$;
-- What PostgreSQL says about an index, without the names of it and its table.
CREATE FUNCTION pg_temp.definitions(relation regclass) RETURNS SETOF text LANGUAGE sql
BEGIN ATOMIC
    SELECT concat_ws(' ',
        regexp_replace(pg_get_indexdef(x.indexrelid), 'INDEX .*? ON (ONLY )?app\.\w+ ', 'INDEX '),
        (SELECT format('constraint %s %s %s', k.contype, k.condeferrable, k.condeferred)
         FROM pg_constraint AS k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u')))
    FROM pg_index AS x WHERE x.indrelid = relation;
END;

CREATE TABLE app.t (
    gone int, id int, "Odd, name" text, "b""c" text COLLATE "C", name text, nm text COLLATE "C",
    body tsvector, j jsonb, arr int[], r int4range, v varchar(20), ci citext, n int, m app.mood,
    d app.size, ch char(3), ts timestamptz, p point,
    CONSTRAINT "T pk" PRIMARY KEY (id) INCLUDE ("Odd, name") WITH (fillfactor = 71),
    CONSTRAINT uq_deferred UNIQUE (name, v) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT uq_deferrable UNIQUE (n) DEFERRABLE,
    CONSTRAINT uq UNIQUE (v, n) INCLUDE (id),
    CONSTRAINT ex EXCLUDE USING gist (r WITH &&, n WITH =) WHERE (n > 0));
ALTER TABLE app.t DROP COLUMN gone;
CREATE INDEX ON app.t (lower(name));
CREATE INDEX ON app.t (lower(nm));
CREATE INDEX ON app.t (lower(name) COLLATE "C");
CREATE INDEX ON app.t (lower(nm) COLLATE "default");
CREATE INDEX ON app.t (("Odd, name" COLLATE "POSIX"));
CREATE INDEX ON app.t ((name || ' , (x)' || nm) DESC NULLS LAST, id NULLS FIRST, n DESC);
CREATE INDEX ON app.t (name text_pattern_ops, v varchar_pattern_ops DESC, ch bpchar_pattern_ops);
CREATE INDEX ON app.t (v);
CREATE INDEX ON app.t (v bpchar_ops);
CREATE INDEX ON app.t (ci);
CREATE INDEX ON app.t (ci text_ops);
CREATE INDEX ON app.t (m, d) INCLUDE (j, "Odd, name") WHERE m = 'sad'::app.mood;
CREATE INDEX ON app.t ((CASE WHEN id > 3 THEN name END), coalesce(name, nm));
CREATE INDEX ON app.t ((row(id, name) = row(1, 'COLLATE')), (1),
    (extract(year FROM ts AT TIME ZONE 'UTC')));
CREATE INDEX "50 % \ of ""it""" ON app.t (n) WITH (fillfactor = 50, deduplicate_items = off);
CREATE UNIQUE INDEX ON app.t (app.plain(name))
    WHERE "b""c" IS NOT NULL AND j ->> 'a' = 'x COLLATE y';
CREATE UNIQUE INDEX ON app.t (name COLLATE "C", nm COLLATE "default", "b""c");
CREATE INDEX ON app.t USING gin (body);
CREATE INDEX ON app.t USING gin (to_tsvector('english', name), name gin_trgm_ops);
CREATE INDEX ON app.t USING gin (j jsonb_path_ops, arr);
CREATE INDEX ON app.t USING gin ((ARRAY[id, n])) WITH (fastupdate = off);
CREATE INDEX ON app.t USING gist (name gist_trgm_ops (siglen = 64), p);
CREATE INDEX ON app.t USING gist (r) INCLUDE (id);
CREATE INDEX ON app.t USING brin (ts, id) WITH (pages_per_range = 7, autosummarize = on);
CREATE INDEX ON app.t USING brin (ts timestamptz_minmax_multi_ops (values_per_range = 20));
CREATE INDEX ON app.t USING hash (name);
CREATE INDEX ON app.t USING hash (v);
CREATE INDEX ON app.t USING spgist (name);
SELECT CASE WHEN current_setting('server_version_num')::int >= 150000 THEN
    pg_temp.run('CREATE UNIQUE INDEX ON app.t (id, n, d) NULLS NOT DISTINCT') END;
SELECT CASE WHEN current_setting('server_version_num')::int >= 150000 THEN
    pg_temp.run('ALTER TABLE app.t ADD UNIQUE NULLS NOT DISTINCT (id, n)') END;

SELECT pg_temp.run(roneo.table_statement('app', 'copy',
                                         roneo.local_relation('app.t') -> 'columns'));
CREATE TEMP TABLE planned AS
SELECT * FROM roneo.index_statements('app', 'copy', roneo.local_indexes('app.t'),
                                     pg_temp.column_names('app.t'), false);
SELECT cmp_ok(count(*), '>', 30::bigint, 'all indexes are planned') FROM planned;
SELECT pg_temp.run(statement) FROM planned ORDER BY position;
SELECT bag_eq($$ SELECT pg_temp.definitions('app.copy') $$,
    $$ SELECT pg_temp.definitions('app.t') $$,
    'each index of the copy is defined as the source''s');
SET LOCAL search_path = app, public;
SELECT results_eq(
    $$ SELECT * FROM roneo.index_statements('app', 'copy', roneo.local_indexes('t'),
                                            pg_temp.column_names('t'), false) $$,
    'TABLE planned ORDER BY position', 'whatever the search_path');
SET LOCAL search_path = public;
SELECT is((SELECT statement FROM planned WHERE position = 1),
    'ALTER TABLE app.copy ADD PRIMARY KEY (id) INCLUDE ("Odd, name") WITH (fillfactor = ''71'')',
    'the primary key comes first');
SELECT is((SELECT purpose FROM planned WHERE position = 1), 'build index T pk',
    'and its step says what it is for');
SELECT ok(statement IN (SELECT statement FROM planned), format('%s is planned', statement))
FROM unnest(ARRAY['CREATE INDEX ON app.copy USING btree (lower(name))',
                  'CREATE INDEX ON app.copy USING gin (body)',
                  'CREATE INDEX ON app.copy USING btree (v)']) AS statement;

SELECT pg_temp.run(statement) FROM roneo.drop_index_statements('app.copy');
SELECT is_empty($$ SELECT pg_temp.definitions('app.copy') $$, 'all of them can be dropped');

-- An index needs all of its columns, those of expressions and predicates too.
SELECT bag_eq(
    $$ SELECT x ->> 'name' AS name, x -> 'uses' AS uses
       FROM jsonb_array_elements(roneo.local_indexes('app.t')) AS x
       WHERE x ->> 'name' IN ('T pk', 'ex', 't_plain_idx') $$,
    $$ VALUES ('T pk', '["id", "Odd, name"]'::jsonb), ('ex', '["r", "n"]'),
              ('t_plain_idx', '["b\"c", "name", "j"]') $$,
    'an index names every column that it uses');
SELECT results_eq(
    $$ SELECT purpose FROM roneo.index_statements('app', 'copy', roneo.local_indexes('app.t'),
                                                  '{n,body,gone}', false) $$,
    $$ VALUES ('build index 50 % \ of "it"'), ('build index t_body_idx'),
              ('build index uq_deferrable') $$,
    'indexes on columns that are not copied are left out');
SELECT is_empty($$ SELECT * FROM roneo.index_statements('app', 'copy', '[]', '{id}', true) $$,
    'no indexes, no statements');

-- Names
CREATE TABLE app.a (id int CONSTRAINT "Key %" PRIMARY KEY, n int);
CREATE INDEX taken ON app.a (n);
CREATE SCHEMA other;
CREATE TABLE other.a (id int, n int);
CREATE TABLE other.taken ();
SELECT results_eq(
    $$ SELECT position, statement FROM roneo.index_statements('other', 'a',
           roneo.local_indexes('app.a'), '{id,n}', true) $$,
    $$ VALUES (1::bigint, 'ALTER TABLE other.a ADD CONSTRAINT "Key %" PRIMARY KEY (id)'),
              (2, 'CREATE INDEX ON other.a USING btree (n)') $$,
    'an index keeps its name where that is free');
SELECT results_eq($$ SELECT purpose, statement FROM roneo.drop_index_statements('app.a') $$,
    $$ VALUES ('drop index Key %', 'ALTER TABLE app.a DROP CONSTRAINT "Key %"'),
              ('drop index taken', 'DROP INDEX app.taken') $$, 'constraints are dropped first');

-- Partitioned, and not valid
CREATE TABLE app.parent (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE INDEX ON app.parent (at DESC);
CREATE INDEX unfinished ON ONLY app.parent (id);
CREATE TABLE app.part PARTITION OF app.parent DEFAULT;
CREATE INDEX ON ONLY app.parent ((id + 1));
CREATE TABLE app.whole (id int NOT NULL, at date NOT NULL);
SELECT bag_eq(
    $$ SELECT statement FROM roneo.index_statements('app', 'whole',
           roneo.local_indexes('app.parent'), '{id,at}', false) $$,
    $$ VALUES ('ALTER TABLE app.whole ADD PRIMARY KEY (id, at)'),
              ('CREATE INDEX ON app.whole USING btree (at DESC)'),
              ('CREATE INDEX ON app.whole USING btree (id)') $$,
    'the indexes of a partitioned table are those of the whole; unfinished ones are left out');

CREATE TABLE app.whole_row (id int);
CREATE FUNCTION app.row_text(app.whole_row) RETURNS text IMMUTABLE LANGUAGE sql RETURN $1.id::text;
CREATE INDEX ON app.whole_row (app.row_text(whole_row));
CREATE INDEX ON app.whole_row (id) WHERE app.row_text(whole_row) = '1';
SELECT is(roneo.local_indexes('app.whole_row'), '[]',
    'an index on whole rows cannot be built on another table, and is left out');

-- Another schema
CREATE TABLE app.trigrams (name text);
SELECT alike(statement, '%(name public.gin_trgm_ops)',
    'an operator class is found where it is here')
FROM roneo.index_statements('app', 'trigrams', '[{"name": "x", "method": "gin", "constraint": false,
    "keys": [{"text": "name", "opclass": "extensions.gin_trgm_ops", "opclass_options": [],
              "desc": false, "nulls_first": false}], "include": [], "with": [], "uses": []}]',
    '{}', false);

SELECT * FROM finish();
ROLLBACK;
