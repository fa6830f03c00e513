-- Indexes of a replica: those of its source, of every kind, and those that somebody adds.
SET client_min_messages = warning;
SELECT no_plan();

SELECT on_source($$
    CREATE EXTENSION pg_trgm;
    CREATE SCHEMA app;
    CREATE TABLE app.items (
        id int, "Odd %s" text, n int NOT NULL, doc jsonb, at tstzrange, words tsvector, gone int, part int,
        CONSTRAINT "the key" PRIMARY KEY (id, n) INCLUDE (part),
        CONSTRAINT later UNIQUE (n) DEFERRABLE INITIALLY DEFERRED,
        CONSTRAINT apart EXCLUDE USING gist (at WITH &&),
        CONSTRAINT plain UNIQUE (part, id) WITH (fillfactor = 70));
    CREATE INDEX ON app.items (n DESC, "Odd %s" NULLS FIRST);
    CREATE UNIQUE INDEX ON app.items (lower("Odd %s"), (n + 1)) WHERE n > 0 AND "Odd %s" <> 'a''b';
    CREATE INDEX ON app.items ("Odd %s" text_pattern_ops, "Odd %s" COLLATE "POSIX");
    CREATE INDEX ON app.items USING hash ("Odd %s");
    CREATE INDEX ON app.items USING gin (doc jsonb_path_ops) WITH (fastupdate = off);
    CREATE INDEX ON app.items USING gin ("Odd %s" gin_trgm_ops);
    CREATE INDEX ON app.items USING gist (words tsvector_ops (siglen = 12));
    CREATE INDEX ON app.items USING brin (id, n) WITH (pages_per_range = 7);
    CREATE INDEX ON app.items (gone);
    CREATE INDEX by_part ON app.items (part);
    CREATE INDEX broken ON app.items (n, part);
    UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.broken'::regclass;
    INSERT INTO app.items
    SELECT i, 'v' || i, i, '{}', tstzrange(to_timestamp(i * 86400), to_timestamp((i + 1) * 86400)), '', i, i
    FROM generate_series(1, 9) AS i;
$$);
SELECT on_source('CREATE UNIQUE INDEX ON app.items (id, part) NULLS NOT DISTINCT')
WHERE current_setting('server_version_num')::int >= 150000;
CREATE SCHEMA "Ext %";
CREATE EXTENSION pg_trgm SCHEMA "Ext %";
CREATE SCHEMA app;
SELECT roneo.create_source('main', :'source_conninfo');
-- Definitions without the names of index and table; with what only a constraint has.
CREATE FUNCTION public.indexes_of(relation regclass) RETURNS SETOF text LANGUAGE sql SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT concat_ws(' ', CASE WHEN i.indisprimary THEN 'key' END, k.contype, k.condeferrable, k.condeferred,
                     regexp_replace(replace(pg_get_indexdef(i.indexrelid), '"Ext %".', 'public.'), 'INDEX .* USING', 'USING'))
    FROM pg_index AS i LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u')
    WHERE i.indrelid = relation AND i.indisvalid;
END;
SELECT on_source(pg_get_functiondef('public.indexes_of(regclass)'::regprocedure));
CREATE TEMP VIEW wanted AS
SELECT v FROM dblink(current_setting('test.source_conninfo'), $$ SELECT indexes_of('app.items') $$) AS t (v text);
CREATE FUNCTION shown(view regclass) RETURNS regclass LANGUAGE sql
RETURN (SELECT format('%I.%I', m.table_schema, roneo.shown_table(m))::regclass
        FROM roneo.snapshot_replica AS m JOIN roneo.replica AS r USING (replica_id) WHERE r.dest = view);
CREATE FUNCTION hidden(view regclass) RETURNS regclass LANGUAGE sql
RETURN (SELECT format('%I.%I', m.table_schema, roneo.hidden_table(m))::regclass
        FROM roneo.snapshot_replica AS m JOIN roneo.replica AS r USING (replica_id) WHERE r.dest = view);

SELECT roneo.create_plain('main', 'app.items');
SELECT bag_eq($$ SELECT indexes_of('app.items') $$, 'SELECT v FROM wanted',
    'a plain replica has the indexes of its source, with all they can have');
SELECT set_has($$ SELECT relname::text FROM pg_class WHERE relkind = 'i' AND relnamespace = 'app'::regnamespace $$,
    $$ VALUES ('the key'), ('later'), ('plain'), ('by_part') $$, 'under their names');
SELECT cmp_ok(count(*), '>=', 15::bigint, 'which are many') FROM wanted;
SELECT roneo.create_snapshot('main', 'app.items', 'app.snap', check_changes => false);
SELECT bag_eq($$ SELECT indexes_of(shown('app.snap')) $$, 'SELECT v FROM wanted',
    'a snapshot has them too');
SELECT lives_ok($$ SELECT roneo.refresh('app.snap', raise_errors => true) FROM generate_series(1, 5) $$,
    'it is swapped many times');
SELECT bag_eq(format('SELECT indexes_of(%s(''app.snap''))', which), 'SELECT v FROM wanted',
    format('and has the same: %s', which))
FROM unnest('{shown,hidden}'::text[]) AS which;
SELECT is((SELECT count(*) FROM app.snap WHERE id = 7 AND n = 7), 1::bigint, 'which find its rows');
SELECT alike(string_agg(line, ' '), '%Index%Scan%on snap_snap%Index Cond%',
    'a query of the view uses them')
FROM dblink(format('host=%s port=%s dbname=%s user=postgres options=-cenable_seqscan=off', :'socket', :'port', :'dest_db'),
            'EXPLAIN SELECT id FROM app.snap WHERE id = 7 AND n = 7') AS t (line text);
SELECT roneo.refresh('app.items');
SELECT bag_eq($$ SELECT indexes_of('app.items') $$, 'SELECT v FROM wanted',
    'a plain replica keeps them over a refresh');

-- Somebody's own.
SELECT format('CREATE INDEX mine ON %s (n) WHERE n > 5; ALTER TABLE %1$s ADD CONSTRAINT "my own" UNIQUE ("Odd %%s")',
    shown('app.snap')) \gexec
SELECT format('DROP INDEX %s', i.indexrelid::regclass) FROM pg_index AS i
WHERE i.indrelid = shown('app.snap') AND pg_get_indexdef(i.indexrelid) ~ 'brin' \gexec
CREATE TEMP TABLE own AS SELECT * FROM indexes_of(shown('app.snap')) AS t (v);
SELECT is((SELECT count(*) FROM own), (SELECT count(*) + 1 FROM wanted),
    'two indexes are added, one is dropped');
SELECT roneo.refresh('app.snap');
SELECT bag_eq($$ SELECT indexes_of(shown('app.snap')) $$, 'SELECT v FROM own',
    'what a person did to the shown table''s indexes lasts over a swap');
SELECT roneo.refresh('app.snap'), roneo.refresh('app.snap');
SELECT bag_eq(format('SELECT indexes_of(%s(''app.snap''))', which), 'SELECT v FROM own',
    format('and over others: %s', which))
FROM unnest('{shown,hidden}'::text[]) AS which;
SELECT on_source('CREATE INDEX ON app.items (part, gone)');
SELECT roneo.refresh('app.snap');
SELECT bag_eq($$ SELECT indexes_of(shown('app.snap')) $$, 'SELECT v FROM own',
    'what is done on the source later does not interfere');

-- Rows that do not fit.
SELECT on_source($$ UPDATE app.items SET "Odd %s" = 'v1' WHERE id = 2 $$);
CREATE TEMP TABLE before AS SELECT shown('app.snap') AS shown;
SELECT is((roneo.refresh('app.snap')).sqlstate, '23505',
    'rows that do not fit a unique index are an error');
SELECT is(shown('app.snap'), shown, 'the view shows the table that it showed') FROM before;
SELECT is(string_agg("Odd %s", ' ' ORDER BY id), 'v1 v2 v3 v4 v5 v6 v7 v8 v9', 'with the rows of then')
FROM app.snap;
SELECT bag_eq($$ SELECT indexes_of(shown('app.snap')) $$, 'SELECT v FROM own', 'and its indexes');
SELECT on_source($$ UPDATE app.items SET "Odd %s" = 'V2' WHERE id = 2 $$);
SELECT is((roneo.refresh('app.snap')).outcome, 'ok', 'when they fit, it is refreshed');
SELECT bag_eq($$ SELECT indexes_of(shown('app.snap')) $$, 'SELECT v FROM own', 'and has them still');

-- Columns that change.
SELECT on_source('ALTER TABLE app.items DROP gone, ALTER part TYPE bigint, ADD later int;
                  ALTER TABLE app.items RENAME n TO "N %"');
SELECT is((roneo.refresh('app.snap')).message, NULL, 'columns go, come, and change');
SELECT bag_eq($$ SELECT indexes_of(shown('app.snap')) $$,
    $$ SELECT regexp_replace(v, '\mn\M(?! %)', '"N %"', 'g') FROM own WHERE v !~ '\mgone\M' $$,
    'indexes stay, without those of columns that went');
SELECT is((roneo.refresh('app.snap')).message, NULL, 'again');
SELECT bag_eq(format('SELECT indexes_of(%s(''app.snap''))', which),
    $$ SELECT regexp_replace(v, '\mn\M(?! %)', '"N %"', 'g') FROM own WHERE v !~ '\mgone\M' $$,
    format('on both tables: %s', which))
FROM unnest('{shown,hidden}'::text[]) AS which;

-- Without indexes, with some columns, of other kinds of sources.
SELECT roneo.create_snapshot('main', 'app.items', 'app.bare', with_indexes => false,
    check_changes => false),
       roneo.create_plain('main', 'app.items', 'app.bare_plain', with_indexes => false),
       roneo.create_plain('main', 'app.items', 'app.some', columns => '{id,part,"Odd %s"}');
SELECT is_empty($$ SELECT indexes_of(shown('app.bare')) UNION ALL SELECT indexes_of('app.bare_plain') $$,
    'who wants no indexes gets none');
SELECT format('CREATE UNIQUE INDEX ON %s (id)', shown('app.bare')) \gexec
SELECT roneo.refresh('app.bare'), roneo.refresh('app.bare');
SELECT results_eq($$ SELECT indexes_of(shown('app.bare')) $$,
    $$ VALUES ('CREATE UNIQUE USING btree (id)') $$,
    'but keeps what is made later');
SELECT set_eq($$ SELECT indexes_of('app.some') $$,
    $$ SELECT v FROM wanted WHERE v !~ 'N %|doc|at|words|later' OR v ~ 'pattern' $$,
    'a list of columns keeps the indexes that need no others');
SELECT on_source($$
    CREATE TABLE app.parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
    CREATE INDEX ON app.parted (v);
    CREATE TABLE app.part PARTITION OF app.parted DEFAULT;
    CREATE INDEX ON app.part (v, id);
    CREATE MATERIALIZED VIEW app.matview AS SELECT id, v FROM app.parted;
    CREATE UNIQUE INDEX ON app.matview (id);
    CREATE FUNCTION app.half(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 / 2';
    CREATE TABLE app.computed (id int PRIMARY KEY);
    CREATE INDEX ON app.computed (app.half(id));
$$);
SELECT roneo.create_snapshot('main', 'app.parted'), roneo.create_snapshot('main', 'app.matview');
SELECT set_eq($$ SELECT indexes_of(shown('app.parted')) $$,
    $$ VALUES ('key p f f CREATE UNIQUE USING btree (id)'), ('CREATE USING btree (v)') $$,
    'a partitioned table''s');
SELECT set_eq($$ SELECT indexes_of(shown('app.matview')) $$,
    $$ VALUES ('CREATE UNIQUE USING btree (id)') $$,
    'a materialized view''s');
SELECT throws_ok($$ SELECT roneo.create_snapshot('main', 'app.computed') $$, '42883', NULL,
    'an index that needs a function that is not here is an error');
SELECT hasnt_relation('app', 'computed', 'and nothing is made');

SELECT * FROM finish();
