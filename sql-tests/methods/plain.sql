-- plain: a table that exists is adopted, emptied and loaded; what is wrong with it changes nothing.
SELECT no_plan();

SELECT on_source($$
    CREATE TABLE public.orders (id int PRIMARY KEY, v text, at date DEFAULT '2024-01-01');
    INSERT INTO orders VALUES (1, 'one'), (2, 'two'), (30, 'thirty');
$$);
SELECT roneo.create_source('main', :'source_conninfo');
CREATE FUNCTION rows_of(relation regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT coalesce(string_agg(r::text, '' '' ORDER BY r::text), ''none'') FROM %s AS r', relation)
    INTO found;
    RETURN found;
END $$;
-- Registers without reading, or only refreshes, and says how it ended.
CREATE FUNCTION adopt(table_name text) RETURNS text LANGUAGE sql
RETURN roneo.create_plain('main', 'orders', table_name, copy_data => false);
CREATE FUNCTION ended(replica regclass) RETURNS text LANGUAGE sql
BEGIN ATOMIC
    SELECT concat_ws(' ', u.outcome, u.sqlstate) FROM roneo.refresh(replica) AS u;
END;

-- A table that is made.
SELECT is(roneo.create_plain('main', 'orders')::text, 'orders',
    'a table is made, called as its source');
SELECT is(rows_of('orders'), '(1,one,2024-01-01) (2,two,2024-01-01) (30,thirty,2024-01-01)',
    'and filled');
SELECT has_table('orders'::name);
SELECT col_is_pk('orders', 'id', 'it has the key of the source');
SELECT on_source('DELETE FROM orders WHERE id = 2; INSERT INTO orders VALUES (3, ''three'')');
SELECT results_eq($$ SELECT outcome, rows_sent, rows_received, inserted, deleted FROM roneo.refresh('orders') $$,
    $$ VALUES ('ok', 3::bigint, 3::bigint, 3::bigint, 3::bigint) $$, 'each refresh replaces all rows and counts them');
SELECT is(rows_of('orders'), '(1,one,2024-01-01) (3,three,2024-01-01) (30,thirty,2024-01-01)',
    'it has those of now');
UPDATE orders SET v = 'mine';
INSERT INTO orders VALUES (99, 'mine');
SELECT is(ended('orders'), 'ok', 'there is no skipping');
SELECT is(rows_of('orders'), '(1,one,2024-01-01) (3,three,2024-01-01) (30,thirty,2024-01-01)',
    'whatever was done to them here');
SELECT is((roneo.create_plain('main', 'orders', 'later', copy_data => false))::text, 'later',
    'a copy can wait');
SELECT is(rows_of('later'), 'none', 'and is empty until it is made');
SELECT throws_ok($$ SELECT roneo.create_plain('main', 'orders', 'new', refresh_every => '0') $$,
    'RO007', NULL, 'no time is no promise');
SELECT throws_ok($$ SELECT roneo.create_plain('main', 'orders') $$, 'RO005', NULL,
    'a replica is not registered twice');
SELECT throws_ok($$ SELECT roneo.create_plain('nobody', 'orders', 'new') $$, 'RO003', NULL,
    'nor from an unknown source');
SELECT throws_ok($$ SELECT roneo.create_plain('main', 'orders', 'nowhere.new') $$, 'RO005', NULL,
    'nor into a schema that is not there');
SELECT roneo.create_source('self',
    format('host=%s port=%s dbname=%s user=postgres', :'socket', :'port', :'dest_db'));
SELECT throws_ok($$ SELECT roneo.create_plain('self', 'later', 'later') $$, 'RO005', NULL,
    'nor as a copy of itself');

-- Tables that exist.
CREATE TABLE fewer (v text, nothing int, id int);
ALTER TABLE fewer DROP COLUMN nothing;
CREATE TABLE more (extra text DEFAULT 'extra', id int, v text, at date, 
    made date NOT NULL DEFAULT '2000-01-01');
CREATE TABLE computed (id int, v text GENERATED ALWAYS AS ('computed') STORED);
CREATE TABLE wider (id bigint, v varchar, at timestamp, PRIMARY KEY (id));
CREATE TABLE stranger (at text, v name, id numeric(9, 2));
INSERT INTO fewer (id) VALUES (9);
INSERT INTO more (id) VALUES (9);
SELECT is(adopt(t), t, format('a table is adopted: %s', t))
FROM unnest('{fewer,more,computed,wider,stranger}'::text[]) AS t;
SELECT results_eq('SELECT f.id, m.id FROM fewer AS f, more AS m', 'VALUES (9, 9)',
    'its rows stay until the first refresh');
SELECT is(ended(t::regclass), 'ok', format('and is filled: %s', t))
FROM unnest('{fewer,more,computed,wider,stranger}'::text[]) AS t;
SELECT is(rows_of(t::regclass), r, format('by the columns that both have: %s', t))
FROM (VALUES ('fewer', '(one,1) (thirty,30) (three,3)'),
    ('computed', '(1,computed) (3,computed) (30,computed)'),
    ('more', '(extra,1,one,2024-01-01,2000-01-01) (extra,3,three,2024-01-01,2000-01-01) '
        '(extra,30,thirty,2024-01-01,2000-01-01)'),
    ('wider', '(1,one,"2024-01-01 00:00:00") (3,three,"2024-01-01 00:00:00") '
        '(30,thirty,"2024-01-01 00:00:00")'),
    ('stranger', '(2024-01-01,one,1.00) (2024-01-01,thirty,30.00) (2024-01-01,three,3.00)')) AS v (t, r);
CREATE TABLE unfit (id int, needed int NOT NULL);
CREATE TABLE apart (other int);
CREATE VIEW shown AS SELECT 1 AS id;
CREATE MATERIALIZED VIEW kept AS SELECT 1 AS id;
CREATE SEQUENCE counting;
CREATE TYPE pair AS (id int);
CREATE TEMP TABLE passing (id int);
SELECT throws_ok(format('SELECT adopt(%L)', t), code, NULL, format('not adopted: %s', what))
FROM (VALUES ('unfit', 'RO015', 'a column that must not be NULL, and is not there'),
    ('apart', 'RO015', 'no column that both have'),
    ('shown', 'RO005', 'a view'), ('kept', 'RO005', 'a materialized view'), ('counting', 'RO005', 'a sequence'),
    ('pair', 'RO005', 'a type'), ('pg_temp.passing', 'RO005', 'a temporary table'),
    ('orders_pkey', 'RO005', 'an index')) AS v (t, code, what);
SELECT throws_ok($$ SELECT roneo.create_plain('main', 'orders', 'fewer', columns => '{id,at}') $$,
    'RO005', NULL, 'a second time');
SELECT roneo.drop_replica('fewer');
SELECT throws_ok($$ SELECT roneo.create_plain('main', 'orders', 'fewer', columns => '{id,at}') $$,
    'RO015', NULL, 'a listed column must be here');

-- Filters and lists.
SELECT lives_ok($$ SELECT roneo.create_plain('main', 'orders', 'some', columns => '{v}',
                                              filter => 'id > 1 OR id > 20 -- comment') $$,
    'a filter may use columns that are not copied, and end with a comment');
SELECT is(rows_of('some'), '(thirty) (three)', 'only those rows come');
SELECT throws_ok(format('SELECT roneo.create_plain(''main'', ''orders'', ''new'', filter => %L)', f),
    'RO007', NULL, format('no filter: %s', f))
FROM unnest(ARRAY['WHERE id > 1', 'id', 'nothing > 1', 'id > 1; DROP TABLE orders',
    'true) OR (true', '', 'count(*) > 1']) AS f;
SELECT on_source($$ CREATE SCHEMA lib; CREATE FUNCTION lib.wanted(int) RETURNS boolean LANGUAGE sql RETURN $1 = 3;
                    CREATE OPERATOR lib.= (LEFTARG = text, RIGHTARG = text, FUNCTION = textne) $$);
SELECT on_source(format('ALTER ROLE postgres IN DATABASE %I SET search_path = lib, public', :'source_db'));
SELECT roneo.create_plain('main', 'orders', 'found', filter => 'wanted(id)');
SELECT on_source(format('ALTER ROLE postgres IN DATABASE %I RESET search_path', :'source_db'));
SELECT is(ended('found'), 'ok', 'a filter means what it meant when it was registered');
SELECT is(rows_of('found'), '(3,three,2024-01-01)', 'under the path of then');

-- What is wrong with a table leaves it as it is.
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION alter_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.v := concat(new.v, '!'); RETURN new; END $$;
CREATE TABLE bad (id int, v text);
INSERT INTO bad VALUES (3, 'mine');
INSERT INTO later VALUES (3);
SELECT adopt('bad');
CREATE FUNCTION ended_with(fault text, remedy text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    seen text;
BEGIN
    EXECUTE fault;
    seen := concat_ws(' ', ended('bad'), rows_of('bad'));
    EXECUTE remedy;
    RETURN seen;
END $$;
SELECT is(ended_with('ALTER TABLE bad ' || fault, 'ALTER TABLE bad ' || remedy),
    format('failed %s (3,mine)', code), format('%s: nothing changes', what))
FROM (VALUES ('23514', 'a check that a row fails', 'ADD CONSTRAINT c CHECK (id < 10)', 'DROP CONSTRAINT c'),
    ('22001', 'a column that is too short', 'ALTER v TYPE varchar(4)', 'ALTER v TYPE text'),
    ('23P01', 'an exclusion', 'ADD CONSTRAINT c EXCLUDE ((length(v) / 3) WITH =)', 'DROP CONSTRAINT c'),
    ('23P01', 'one that is checked at the commit',
        'ADD CONSTRAINT c EXCLUDE ((length(v) / 3) WITH =) DEFERRABLE INITIALLY DEFERRED', 'DROP CONSTRAINT c'),
    ('23503', 'a reference that is, to nothing',
        'ADD CONSTRAINT c FOREIGN KEY (id) REFERENCES later DEFERRABLE INITIALLY DEFERRED', 'DROP CONSTRAINT c'),
    ('23503', 'a reference to nothing',
        'ADD CONSTRAINT c FOREIGN KEY (id) REFERENCES later', 'DROP CONSTRAINT c')) AS v (code, what, fault, remedy);
SELECT is(ended_with(format('CREATE TRIGGER t BEFORE %s ON bad FOR EACH ROW EXECUTE FUNCTION swallow()', event),
                     'DROP TRIGGER t ON bad'),
    'failed RO014 (3,mine)', format('a trigger that swallows rows is found out: %s', event))
FROM unnest('{INSERT,DELETE}'::text[]) AS event;
SELECT is(ended_with('CREATE TRIGGER t BEFORE INSERT ON bad FOR EACH ROW WHEN (new.id = 30) EXECUTE FUNCTION swallow()',
                     'DROP TRIGGER t ON bad'),
    'failed RO014 (3,mine)', 'one row is enough');
SELECT alike(ended_with('CREATE RULE r AS ON INSERT TO bad DO INSTEAD NOTHING', 'DROP RULE r ON bad'),
    'failed % (3,mine)', 'so is a rule');
SELECT is(ended_with('CREATE TRIGGER t BEFORE INSERT ON bad FOR EACH ROW EXECUTE FUNCTION alter_row()',
                     'DROP TRIGGER t ON bad'),
    'ok (1,one!) (3,three!) (30,thirty!)', 'a trigger that changes rows is the owner''s wish');
SELECT format('owner of %s', current_database()) AS owner \gset
CREATE ROLE :"owner";
GRANT SELECT ON later TO :"owner";
ALTER TABLE bad OWNER TO :"owner";
CREATE POLICY few ON bad USING (id < 0) WITH CHECK (true);
SELECT is(ended_with('ALTER TABLE bad ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY',
                     'ALTER TABLE bad NO FORCE ROW LEVEL SECURITY'),
    'failed 42501 (1,one!) (3,three!) (30,thirty!)',
    'rows that a policy hides from the table''s owner are not kept beside the new ones');
SELECT is(current_setting('row_security'), 'on', 'the session is as it was');
SELECT is(ended('bad'), 'ok', 'without all that it is copied');
SELECT is(rows_of('bad'), '(1,one) (3,three) (30,thirty)', 'as it is');
SELECT is((SELECT failures FROM roneo.replica WHERE dest = 'bad'::regclass), 0,
    'and the failures are forgotten');
SELECT is(dblink_get_connections(), NULL, 'no connection is left by any of them');

SELECT * FROM finish();
