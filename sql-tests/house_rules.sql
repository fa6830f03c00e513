-- What the style asks of every function, table and error is asked here of the catalog.
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'plpgsql_check') AS has_check \gset
\if :has_check
CREATE EXTENSION plpgsql_check;
\endif

-- The reference, as psql finds it from the top of the tree.
\set reference `cat extension/README.md 2>/dev/null`

CREATE TEMPORARY VIEW own_relation AS
SELECT c.oid, c.relname, c.relkind
FROM pg_class AS c
JOIN pg_depend AS d
    ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'roneo';

-- Every error code that a body of ours raises or looks for.
CREATE TEMPORARY VIEW used_code AS
SELECT f.oid, m[1] AS code
FROM own_function AS f,
     regexp_matches(pg_get_functiondef(f.oid), '''(RO[0-9A-Z]{3})''', 'g') AS m;

SELECT plan(18);

SELECT cmp_ok((SELECT count(*) FROM own_function), '>', 50::bigint,
    'there are functions to look at');

SELECT is_empty($$ SELECT oid::regprocedure FROM own_function
                   WHERE obj_description(oid, 'pg_proc') IS NULL $$,
    'each function says what it does');

SELECT is_empty($$ SELECT oid::regprocedure FROM own_function
                   WHERE lanname = 'plpgsql' AND prokind <> 'p'
                     AND 'search_path=pg_catalog, pg_temp' = ANY (proconfig) IS NOT TRUE $$,
    'each PL/pgSQL function fixes its path');

SELECT is_empty($$ SELECT oid::regprocedure FROM own_function
                   WHERE prokind = 'p' AND proconfig IS NULL
                     AND coalesce(obj_description(oid, 'pg_proc'), '') !~* 'commit' $$,
    'a procedure without a fixed path says that it commits');

SELECT is_empty($$ SELECT oid::regprocedure FROM own_function
                   WHERE lanname = 'sql' AND prosqlbody IS NULL
                     AND 'search_path=pg_catalog, pg_temp' = ANY (proconfig) IS NOT TRUE $$,
    'each SQL function is parsed when it is made, or fixes its path');

SELECT is_empty($$ SELECT oid::regprocedure FROM own_function
                   WHERE prosecdef
                     AND 'search_path=pg_catalog, pg_temp' = ANY (proconfig) IS NOT TRUE $$,
    'each function that lends its owner''s rights fixes its path');

SELECT is_empty($$ SELECT oid::regprocedure FROM own_function
                   WHERE cardinality(string_to_array(btrim(prosrc, E'\n'), E'\n')) > 60
                     -- A script for the source, as text.
                     AND proname <> 'capture_setup' $$,
    'no body outgrows a screen');

SELECT is_empty($$ SELECT f.oid::regprocedure
                   FROM own_function AS f,
                        aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS x
                   WHERE x.grantee = 0 $$,
    'no function can be executed by PUBLIC');

SELECT is_empty($$ SELECT r.oid::regclass, x.privilege_type
                   FROM own_relation AS r
                   JOIN pg_class AS c USING (oid), aclexplode(c.relacl) AS x
                   WHERE x.grantee = 0 AND x.privilege_type <> 'SELECT' $$,
    'PUBLIC can write nowhere');

SELECT is_empty($$ SELECT oid::regclass FROM own_relation
                   WHERE relkind <> 'S' AND obj_description(oid, 'pg_class') IS NULL $$,
    'each table and view says what it is');

SELECT is_empty($$ SELECT t.oid::regtype
                   FROM pg_type AS t
                   JOIN pg_depend AS d
                       ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
                   JOIN pg_extension AS e
                       ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
                   LEFT JOIN pg_class AS c ON c.oid = t.typrelid
                   WHERE e.extname = 'roneo' AND t.typelem = 0
                     AND coalesce(c.relkind, 'c') = 'c'
                     AND obj_description(t.oid, 'pg_type') IS NULL $$,
    'each type says what it is');

SELECT is_empty($$ SELECT r.oid::regclass
                   FROM own_relation AS r
                   WHERE r.relkind IN ('r', 'p')
                     AND NOT EXISTS (SELECT FROM pg_extension AS e
                                     WHERE e.extname = 'roneo' AND r.oid = ANY (e.extconfig)) $$,
    'each table is dumped with its rows');

SELECT is_empty($$ SELECT r.oid::regclass
                   FROM own_relation AS r
                   WHERE r.relkind = 'S'
                     AND NOT EXISTS (SELECT FROM pg_extension AS e
                                     WHERE e.extname = 'roneo' AND r.oid = ANY (e.extconfig)) $$,
    'and each sequence with where it stands');

-- Not counted: a constant assigned to another type than text, OUT columns that RETURN QUERY fills,
-- and an end that is not reached because a called function raises.
\if :has_check
SELECT is_empty($$ SELECT f.oid::regprocedure, c.lineno, c.statement, c.sqlstate, c.message
                   FROM own_function AS f,
                        plpgsql_check_function_tb(f.oid, fatal_errors => false) AS c
                   WHERE f.lanname = 'plpgsql'
                     AND (c.level, c.sqlstate) <> ('warning', '42804')
                     AND (c.level, c.sqlstate) <> ('warning extra', '2F005')
                     AND (c.level <> 'warning extra' OR c.message !~ 'OUT variable')
                     AND f.oid NOT IN (SELECT oid FROM pg_proc
                                       WHERE prorettype IN ('trigger'::regtype,
                                                            'event_trigger'::regtype)) $$,
    'plpgsql_check finds nothing');
\else
SELECT skip('plpgsql_check is not there');
\endif

SELECT is_empty($$ SELECT f.oid::regprocedure
                   FROM own_function AS f
                   WHERE f.prosrc ~* 'raise\s+exception\M(?!\s+using\s+errcode\M)' $$,
    'each error is raised with a code');

SELECT is_empty($$ SELECT f.oid::regprocedure, p.setting_name
                   FROM own_function AS f
                   CROSS JOIN roneo.pinned_settings() AS p
                   WHERE f.proname IN ('refresh_with', 'plan')
                     AND NOT EXISTS (SELECT FROM unnest(f.proconfig) AS c
                                     WHERE split_part(c, '=', 1) = p.setting_name) $$,
    'what a refresh pins for its transaction, its functions give back to their caller');

SELECT isnt(:'reference'::text, '', 'extension/README.md is there');

SELECT is_empty(format($$ SELECT DISTINCT code FROM used_code
                          EXCEPT
                          SELECT m[1] FROM regexp_matches(%L, '\m(RO[0-9A-Z]{3})\M', 'g') AS m $$,
                    :'reference'),
    'and lists each code that a function uses');

SELECT * FROM finish();
