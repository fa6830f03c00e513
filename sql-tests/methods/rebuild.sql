-- A snapshot's view that must be built anew, because a column is gone: what is kept, what is run,
-- and what must not be lost with it.
SET client_min_messages = warning;
SELECT no_plan();

SELECT on_source($$ CREATE TABLE public.orders (id int PRIMARY KEY, "B b" text, c int, d int);
                    INSERT INTO orders VALUES (1, 'one', 10, 100) $$);
SELECT roneo.create_source('main', :'source_conninfo');
CREATE SCHEMA place;
-- Roles belong to the cluster: their names carry the name of this test's database.
SELECT format('owner "%s"', current_database()) AS owner, format('first %s',
    current_database()) AS first,
       format('second %s', current_database()) AS second, format('third %s', current_database()) AS third \gset
SELECT format('CREATE ROLE %I', r)
FROM unnest(ARRAY[:'owner', :'first', :'second', :'third']) AS r \gexec
GRANT USAGE, CREATE ON SCHEMA place TO :"owner", :"first", :"second";

CREATE TABLE ran (place int GENERATED ALWAYS AS IDENTITY, who name DEFAULT current_user, columns bigint);
GRANT INSERT ON ran TO PUBLIC;
SELECT roneo.create_snapshot('main', 'orders', 'place.orders', check_changes => false, post_script => $$
    INSERT INTO public.ran (columns)
    SELECT count(*) FROM pg_attribute WHERE attrelid = 'place.orders'::regclass AND attnum > 0;
    ALTER VIEW place.orders ALTER COLUMN id SET DEFAULT 7 $$);
SELECT results_eq('SELECT columns FROM ran', 'VALUES (4::bigint)',
    'a post_script is run when the view is made');

-- Everything that a view can have.
ALTER VIEW place.orders OWNER TO :"owner";
ALTER TABLE place.orders_snap1 OWNER TO :"owner";
ALTER TABLE place.orders_snap2 OWNER TO :"owner";
ALTER VIEW place.orders SET (security_barrier = true);
SELECT 'ALTER VIEW place.orders SET (security_invoker = true)'
WHERE current_setting('server_version_num')::int >= 150000 \gexec
SET ROLE :"owner";
GRANT SELECT, INSERT ON place.orders TO :"first" WITH GRANT OPTION;
GRANT SELECT ("B b", id), UPDATE (c) ON place.orders TO :"second";
GRANT SELECT (id) ON place.orders TO :"third" WITH GRANT OPTION;
GRANT TRIGGER ON place.orders TO PUBLIC;
REVOKE DELETE, TRUNCATE ON place.orders FROM :"owner";
SET ROLE :"first";
GRANT SELECT ON place.orders TO :"third";
RESET ROLE;
-- Somebody else gets privileges on what is made from now on; not on what was there.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA place GRANT UPDATE, DELETE ON TABLES TO :"second";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT SELECT ON TABLES TO PUBLIC;
COMMENT ON VIEW place.orders IS 'It''s \ the "orders"';
COMMENT ON COLUMN place.orders.id IS 'key';
COMMENT ON COLUMN place.orders."B b" IS 'b';
COMMENT ON COLUMN place.orders.c IS 'c';
CREATE FUNCTION state() RETURNS TABLE (fact text) LANGUAGE sql
BEGIN ATOMIC
    SELECT format('owner %s, options %s, comment %s', c.relowner::regrole, c.reloptions,
                  obj_description(c.oid, 'pg_class'))
    FROM pg_class AS c WHERE c.oid = to_regclass('place.orders')
    UNION ALL
    SELECT format('%s has %s, %s', x.grantee::regrole, x.privilege_type, x.is_grantable)
    FROM pg_class AS c, aclexplode(c.relacl) AS x WHERE c.oid = to_regclass('place.orders')
    UNION ALL
    SELECT format('%s has %s on %s, %s', x.grantee::regrole, x.privilege_type, a.attname, x.is_grantable)
    FROM pg_attribute AS a, aclexplode(a.attacl) AS x WHERE a.attrelid = to_regclass('place.orders')
    UNION ALL
    SELECT format('%s is commented %s', a.attname, col_description(a.attrelid, a.attnum))
    FROM pg_attribute AS a WHERE a.attrelid = to_regclass('place.orders') AND a.attnum > 0 AND a.attname <> 'd'
    UNION ALL
    SELECT format('default %s', pg_get_expr(f.adbin, f.adrelid))
    FROM pg_attrdef AS f WHERE f.adrelid = to_regclass('place.orders');
END;
CREATE TEMP TABLE kept AS SELECT fact, 'place.orders'::regclass::oid AS view FROM state();
SELECT cmp_ok(count(*), '>', 17::bigint, 'there is much to keep') FROM kept;

SELECT on_source('UPDATE orders SET c = 20');
SELECT is((roneo.refresh('place.orders')).message, NULL, 'a view that another role owns is swapped');
SELECT set_eq('SELECT * FROM state()', 'SELECT fact FROM kept', 'a swap keeps everything');
SELECT on_source('ALTER TABLE orders ADD e int');
SELECT is((roneo.refresh('place.orders')).message, NULL, 'a column more');
SELECT set_eq('SELECT * FROM state() WHERE fact !~ ''^e is''', 'SELECT fact FROM kept',
    'keeps everything too');
SELECT is(max(place), 1, 'and runs no post_script') FROM ran;
SELECT on_source('ALTER TABLE orders DROP d; ALTER TABLE orders DROP e');
SELECT is((roneo.refresh('place.orders')).message, NULL, 'columns less');
SELECT isnt('place.orders'::regclass::oid, view, 'make another view') FROM kept LIMIT 1;
SELECT set_eq('SELECT * FROM state()', 'SELECT fact FROM kept',
    'that has the owner, options, privileges, comments and defaults of the former');
SELECT row_eq('SELECT who, columns FROM ran WHERE place = 2', ROW(:'owner'::name, 3::bigint),
    'the post_script has run, as the owner');
SELECT is(r.dest, 'place.orders'::regclass, 'and the replica knows it') FROM roneo.replica AS r;
SET ROLE :"third";
SELECT lives_ok('SELECT count(*) FROM place.orders', 'who could read it can')
WHERE current_setting('server_version_num')::int < 150000;
RESET ROLE;
SELECT on_source('ALTER TABLE orders DROP c');
SELECT is((roneo.refresh('place.orders')).message, NULL,
    'a column that had a comment and privileges goes');
SELECT set_eq('SELECT * FROM state()', $$ SELECT fact FROM kept WHERE fact !~ ' on c,|^c is ' $$,
    'with these only');
SELECT on_source('ALTER TABLE orders RENAME "B b" TO "C c"');
SELECT is((roneo.refresh('place.orders')).message, NULL, 'a column that has them is renamed');
SELECT set_eq('SELECT * FROM state()',
    $$ SELECT replace(fact, 'B b', 'C c') FROM kept WHERE fact !~ ' on c,|^c is ' $$, 'and keeps them');
UPDATE roneo.snapshot_replica SET post_script = 'SELECT 1/0';
SELECT on_source('ALTER TABLE orders DROP "C c"');
SELECT is((roneo.refresh('place.orders')).sqlstate, '22012', 'a post_script that fails is an error');
SELECT set_eq('SELECT * FROM state()',
    $$ SELECT replace(fact, 'B b', 'C c') FROM kept WHERE fact !~ ' on c,|^c is ' $$, 'and leaves all as it was');
SELECT hasnt_column('place', 'orders', 'e', 'without columns of the source');
UPDATE roneo.snapshot_replica SET post_script = NULL;

-- What depends on the view.
CREATE FUNCTION make_dependent(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE CASE what
        WHEN 'view' THEN 'CREATE VIEW dependent AS SELECT id FROM place.orders'
        WHEN 'materialized view' THEN 'CREATE MATERIALIZED VIEW dependent AS SELECT 1 AS x FROM place.orders'
        WHEN 'function with its type' THEN 'CREATE FUNCTION dependent(place.orders) RETURNS int LANGUAGE sql AS ''SELECT 1'''
        WHEN 'function of its rows' THEN 'CREATE FUNCTION dependent() RETURNS SETOF place.orders LANGUAGE sql
                                          AS ''SELECT * FROM place.orders'''
        WHEN 'parsed function' THEN 'CREATE FUNCTION dependent() RETURNS int LANGUAGE sql RETURN (SELECT id FROM place.orders)'
        WHEN 'table with its type' THEN 'CREATE TABLE holder (dependent place.orders)'
        WHEN 'table with an array of it' THEN 'CREATE TABLE holder (dependent place.orders[])'
        WHEN 'rule' THEN 'CREATE TABLE holder (id int);
                          CREATE RULE dependent AS ON INSERT TO holder DO ALSO SELECT id FROM place.orders'
        WHEN 'policy' THEN 'CREATE TABLE holder (id int);
                            CREATE POLICY dependent ON holder USING (id IN (SELECT id FROM place.orders))'
        WHEN 'view on a view' THEN 'CREATE VIEW between AS SELECT id FROM place.orders;
                                    CREATE VIEW dependent AS SELECT id FROM between'
        WHEN 'trigger on it' THEN 'CREATE TRIGGER dependent INSTEAD OF INSERT ON place.orders FOR EACH ROW
                                   EXECUTE FUNCTION suppress_redundant_updates_trigger()'
        WHEN 'rule on it' THEN 'CREATE RULE dependent AS ON INSERT TO place.orders DO INSTEAD NOTHING'
    END;
END $$;
-- The names of all that are there.
CREATE FUNCTION dependents_left() RETURNS bigint LANGUAGE sql
RETURN (SELECT count(*) FROM (SELECT relname FROM pg_class WHERE relname = 'dependent'
        UNION ALL SELECT proname FROM pg_proc WHERE proname = 'dependent'
        UNION ALL SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('holder') AND attname = 'dependent'
        UNION ALL SELECT rulename FROM pg_rewrite WHERE rulename = 'dependent'
        UNION ALL SELECT polname FROM pg_policy WHERE polname = 'dependent'
        UNION ALL SELECT tgname FROM pg_trigger WHERE tgname = 'dependent') AS x);
CREATE FUNCTION tried(what text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    refused roneo.run;
    done    roneo.run;
    shown   text;
    kept    bigint;
BEGIN
    PERFORM on_source('DROP TABLE orders; CREATE TABLE orders (id int PRIMARY KEY, c int);
                       INSERT INTO orders VALUES (1, 2)');
    PERFORM roneo.refresh('place.orders', raise_errors => true);
    PERFORM make_dependent(what);
    PERFORM on_source('ALTER TABLE orders DROP c; UPDATE orders SET id = 3');
    refused := roneo.refresh('place.orders');
    SELECT o::text INTO shown FROM place.orders AS o;
    kept := dependents_left();
    done := roneo.refresh('place.orders', drop_dependents => true);
    DROP TABLE IF EXISTS holder;
    RETURN ARRAY[refused.sqlstate, (refused.detail ~ '\mdependent\M')::text, shown,
        kept::text, done.outcome, (SELECT o::text FROM place.orders AS o), dependents_left()::text];
END $$;
SELECT is(tried(what), ARRAY['RO012', 'true', '(1,2)', '1', 'ok', '(3)', '0'],
    format('a %s: it is named, nothing changes, and it is dropped where that is wanted', what))
FROM unnest(ARRAY['view', 'materialized view', 'function with its type', 'function of its rows', 'parsed function',
    'table with its type', 'table with an array of it', 'rule', 'policy', 'view on a view',
    'trigger on it', 'rule on it']) AS what;

SELECT * FROM finish();
