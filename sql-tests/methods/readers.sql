-- A source read by a role that may do little: what it must be granted, and what happens when a
-- grant is missing, is taken away, or row-level security hides rows.
SET client_min_messages = warning;
SELECT no_plan();

SELECT on_source($$
    CREATE SCHEMA app;
    GRANT USAGE ON SCHEMA app TO reader;
    CREATE TABLE app.open (id int PRIMARY KEY, v text, secret text DEFAULT 'hidden');
    CREATE TABLE app.closed (id int);
    CREATE TABLE app.partial (id int PRIMARY KEY, v text, secret text DEFAULT 'hidden');
    CREATE TABLE app.parted (id int, v text, secret text) PARTITION BY LIST (id);
    CREATE TABLE app.part PARTITION OF app.parted DEFAULT;
    CREATE VIEW app.view AS SELECT id, v, secret FROM app.partial;
    CREATE MATERIALIZED VIEW app.matview AS SELECT 1 AS id, 'one' AS v, '' AS secret;
    CREATE TABLE app.guarded (id int PRIMARY KEY, v text, secret text);
    INSERT INTO app.open VALUES (1, 'one');
    INSERT INTO app.partial VALUES (1, 'one');
    INSERT INTO app.parted VALUES (1, 'one');
    INSERT INTO app.guarded VALUES (1, 'one');
    GRANT SELECT ON app.open, app.parted, app.view, app.matview, app.guarded TO reader;
    GRANT SELECT (id, v) ON app.partial TO reader;
$$) \g /dev/null
SELECT roneo.create_source('main', current_setting('test.source_conninfo'), username => 'reader',
    password => 'reader secret') \g /dev/null
CREATE SCHEMA app;
CREATE FUNCTION rows_of(relation text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    found text[];
BEGIN
    EXECUTE format('SELECT array_agg(concat(id, v) ORDER BY id, v) FROM %s', relation) INTO found;
    RETURN found;
END $$;

-- A grant on the table is enough.
SELECT lives_ok(format('SELECT roneo.create_snapshot(''main'', %L),
                               roneo.create_plain(''main'', %1$L, ''p_%s'')', 'app.' || name, name),
    format('SELECT is enough for: %s', name))
FROM unnest('{open,parted,view,matview,guarded}'::text[]) AS name;
SELECT is(rows_of(place || name), '{1one}', format('to copy its rows: %s%s', place, name))
FROM unnest('{open,parted,view,matview,guarded}'::text[]) AS name, unnest('{app.,p_}'::text[]) AS place;
SELECT throws_ok(format('SELECT roneo.%I(''main'', ''app.closed'', ''new'')', method), 'RO009', NULL,
    format('without it there is none: %s', method))
FROM unnest('{create_snapshot,create_plain}'::text[]) AS method;

-- Grants on columns are enough for those columns.
SELECT throws_ok(format('SELECT roneo.%I(''main'', ''app.partial'', ''new'')', method), 'RO009', NULL,
    format('some columns are not all: %s', method))
FROM unnest('{create_snapshot,create_plain}'::text[]) AS method;
SELECT throws_ok(format('SELECT roneo.%I(''main'', ''app.partial'', ''new'', columns => ''{id,secret}'')', method),
    'RO009', NULL,
    format('nor are they others: %s', method))
FROM unnest('{create_snapshot,create_plain}'::text[]) AS method;
SELECT hasnt_relation('new', 'nothing is made');
SELECT lives_ok($$ SELECT roneo.create_snapshot('main', 'app.partial', columns => '{id,v}', filter => 'v <> ''no'''),
                          roneo.create_plain('main', 'app.partial', 'p_partial', columns => '{id,v}') $$,
    'they are what they are');
SELECT on_source($$ UPDATE app.partial SET v = 'eins'; ALTER TABLE app.partial ADD COLUMN later int $$) \g /dev/null
SELECT is((roneo.refresh(r::regclass)).outcome, 'ok',
    format('columns without a grant do not matter: %s', r))
FROM unnest('{app.partial,p_partial}'::text[]) AS r;
SELECT is(rows_of(r), '{1eins}',
    format('rows are read by the others: %s', r))
FROM unnest('{app.partial,p_partial}'::text[]) AS r;
SELECT on_source('TRUNCATE app.partial; INSERT INTO app.partial SELECT i, i FROM generate_series(1, 3) AS i') \g /dev/null
SELECT is((roneo.refresh(r::regclass)).rows_received, 3::bigint,
    format('a rewritten table that may not be locked is read: %s', r))
FROM unnest('{app.partial,p_partial}'::text[]) AS r;

-- Taking a grant away changes nothing here.
SELECT on_source($$
    REVOKE SELECT ON app.open FROM reader;
    REVOKE SELECT (v) ON app.partial FROM reader;
    UPDATE app.open SET v = 'two';
    UPDATE app.partial SET v = 'x';
$$) \g /dev/null
CREATE TEMP TABLE refused AS
SELECT r AS dest, f.outcome, f.sqlstate, f.hint
FROM unnest('{app.open,p_open,app.partial,p_partial}'::text[]) AS r, roneo.refresh(r::regclass) AS f;
SELECT results_eq('SELECT dest, outcome, sqlstate FROM refused ORDER BY dest COLLATE "C"',
    $$ VALUES ('app.open', 'failed', 'RO009'), ('app.partial', 'failed', 'RO009'),
              ('p_open', 'failed', 'RO009'), ('p_partial', 'failed', 'RO009') $$,
    'a grant that was taken away is missed');
SELECT alike(hint, '%GRANT SELECT %', format('what to grant is told: %s', dest)) FROM refused;
SELECT is(rows_of(r), expected, format('and the copy stays: %s', r))
FROM (VALUES ('app.open', '{1one}'::text[]), ('p_open', '{1one}'),
             ('app.partial', '{11,22,33}'), ('p_partial', '{11,22,33}')) AS v (r, expected);
SELECT on_source('GRANT SELECT ON app.open TO reader') \g /dev/null
SELECT is((roneo.refresh(r::regclass)).outcome, 'ok',
    format('until it is granted again: %s', r))
FROM unnest('{app.open,p_open}'::text[]) AS r;

-- Some rows are not all rows.
SELECT on_source($$ ALTER TABLE app.guarded ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON app.guarded USING (id > 1);
                    INSERT INTO app.guarded VALUES (2, 'two') $$) \g /dev/null
SELECT results_eq(format('SELECT outcome, sqlstate FROM roneo.refresh(%L)', r),
    $$ VALUES ('failed', 'RO009') $$,
    format('row-level security is an error: %s', r))
FROM unnest('{app.guarded,p_guarded}'::text[]) AS r;
SELECT is(rows_of(r), '{1one}',
    format('and takes no row away: %s', r))
FROM unnest('{app.guarded,p_guarded}'::text[]) AS r;
SELECT throws_ok(format('SELECT roneo.%I(''main'', ''app.guarded'', ''new'')', method), 'RO009', NULL,
    format('nor can a copy be made: %s', method))
FROM unnest('{create_snapshot,create_plain}'::text[]) AS method;
SELECT throws_ok(format('SELECT roneo.%I(''main'', ''app.guarded'', ''new'', columns => ''{id}'')', method), 'RO009', NULL,
    format('of some columns either: %s', method))
FROM unnest('{create_snapshot,create_plain}'::text[]) AS method;
-- A view reads with its owner's rights; a policy below it does not hide what its owner may see.
SELECT on_source('CREATE VIEW app.all_guarded AS SELECT * FROM app.guarded;
                  GRANT SELECT ON app.all_guarded TO reader') \g /dev/null
SELECT roneo.create_plain('main', 'app.all_guarded', 'p_all') \g /dev/null
SELECT is(rows_of('p_all'), '{1one,2two}', 'a view of its owner''s shows all rows');
SELECT on_source('ALTER TABLE app.guarded FORCE ROW LEVEL SECURITY; ALTER TABLE app.guarded OWNER TO reader') \g /dev/null
SELECT is((roneo.refresh('p_guarded')).sqlstate, 'RO009', 'an owner can be under a policy too');
SELECT on_source('ALTER TABLE app.guarded NO FORCE ROW LEVEL SECURITY') \g /dev/null
SELECT is((roneo.refresh('p_guarded')).outcome, 'ok', 'or not');
SELECT is(rows_of('p_guarded'), '{1one,2two}', 'and then all rows are there');

SELECT is(dblink_get_connections(), NULL, 'no connection is left');
SELECT * FROM finish();
