-- Privileges on the tables behind a snapshot, which a reader of a security_invoker view needs: a
-- swap takes none away, and gives none back.
SET client_min_messages = warning;
SELECT no_plan();

SELECT on_source($$ CREATE TABLE public.orders (id int PRIMARY KEY, v text, w int, x int);
                    INSERT INTO orders VALUES (1, 'one', 2, 3) $$);
SELECT roneo.create_source('main', :'source_conninfo');
-- Roles belong to the cluster: their names carry the name of this test's database.
SELECT format('first "%s"', current_database()) AS first, format('second %s',
    current_database()) AS second,
       format('third %s', current_database()) AS third \gset
SELECT format('CREATE ROLE %I', r) FROM unnest(ARRAY[:'first', :'second', :'third']) AS r \gexec
SELECT roneo.create_snapshot('main', 'orders', check_changes => false);
CREATE FUNCTION behind() RETURNS regclass LANGUAGE sql
RETURN (SELECT format('%I.%I', m.table_schema, roneo.shown_table(m))::regclass FROM roneo.snapshot_replica AS m);
-- Who has what, by which right.
CREATE FUNCTION granted() RETURNS TABLE (who text, what text) LANGUAGE sql
BEGIN ATOMIC
    SELECT CASE WHEN x.grantee = 0 THEN 'all' ELSE split_part(pg_get_userbyid(x.grantee), ' ', 1) END,
           concat_ws(' ', lower(x.privilege_type), p.attname, CASE WHEN x.is_grantable THEN 'too' END)
    FROM (SELECT c.relacl AS acl, NULL AS attname FROM pg_class AS c WHERE c.oid = behind()
          UNION ALL
          SELECT a.attacl, a.attname FROM pg_attribute AS a WHERE a.attrelid = behind() AND NOT a.attisdropped) AS p,
         aclexplode(p.acl) AS x
    WHERE x.grantee <> (SELECT relowner FROM pg_class WHERE oid = behind());
END;
-- Quoted, lest it depend on the view.
CREATE FUNCTION swapped() RETURNS text LANGUAGE sql
AS $$ SELECT concat_ws(' ', outcome, message) FROM roneo.refresh('orders') $$;

SELECT is(swapped(), 'ok', 'without privileges');
SELECT is_empty('SELECT * FROM granted()', 'there are none to give');
SELECT format('GRANT SELECT (v) ON %s TO %I', behind(), :'second') \gexec
SELECT is(swapped(), 'ok', 'privileges on columns alone');
SELECT set_eq('SELECT * FROM granted()', $$ VALUES ('second', 'select v') $$,
    'are given to the next table');
SELECT format('GRANT SELECT, INSERT ON %1$s TO %2$I WITH GRANT OPTION;
               GRANT SELECT ON %1$s TO PUBLIC; GRANT UPDATE (w, x) ON %1$s TO %3$I',
              behind(), :'first', :'second') \gexec
SELECT behind() AS behind \gset
SET ROLE :"first";
GRANT SELECT ON :behind TO :"third";
RESET ROLE;
CREATE TEMP TABLE kept AS SELECT * FROM granted();
SELECT is(count(*), 7::bigint, 'when there are more') FROM kept;
SELECT is(swapped(), 'ok', format('swap %s', n)) FROM generate_series(1, 3) AS n;
SELECT set_eq('SELECT * FROM granted()', 'SELECT * FROM kept', 'all are given, over and over');
SELECT is_empty($$ SELECT purpose FROM roneo.plan('orders') WHERE purpose ~ 'privileges' $$,
    'where both tables have them there is nothing to do');

-- What is taken away.
SELECT format('REVOKE ALL ON %1$s FROM PUBLIC; REVOKE ALL ON %1$s FROM %2$I, %4$I; REVOKE UPDATE (w) ON %1$s FROM %3$I',
              behind(), :'first', :'second', :'third') \gexec
SELECT is(swapped(), 'ok', 'when some are taken away');
SELECT set_eq('SELECT * FROM granted()', $$ VALUES ('second', 'select v'), ('second', 'update x') $$,
    'a swap does not bring them back');
SELECT is(swapped(), 'ok', 'nor does');
SELECT set_eq('SELECT * FROM granted()', $$ VALUES ('second', 'select v'), ('second', 'update x') $$,
    'the next one');

-- A table that is made anew.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT DELETE, SELECT ON TABLES TO :"third";
ALTER DEFAULT PRIVILEGES GRANT TRIGGER ON TABLES TO PUBLIC;
SELECT on_source('ALTER TABLE orders DROP w');
SELECT is(swapped(), 'ok', 'a table that is made anew');
SELECT set_eq('SELECT * FROM granted()', $$ VALUES ('second', 'select v'), ('second', 'update x') $$,
    'has the privileges of the former, and not those of new tables');
SELECT on_source('ALTER TABLE orders DROP v');
SELECT is(swapped(), 'ok', 'without a column that had privileges');
SELECT set_eq('SELECT * FROM granted()', $$ VALUES ('second', 'update x') $$, 'it has the others');
SELECT is(swapped(), 'ok', 'and so has');
SELECT set_eq('SELECT * FROM granted()', $$ VALUES ('second', 'update x') $$, 'the other table');
SELECT format('REVOKE ALL ON %s FROM %I', behind(), :'second') \gexec
SELECT is(swapped(), 'ok', 'when all are taken away');
SELECT is_empty('SELECT * FROM granted()', 'none is left');

SELECT * FROM finish();
