-- What every destination database of a test has.
CREATE EXTENSION pgtap;
CREATE EXTENSION dblink;
CREATE EXTENSION roneo;

-- SECURITY DEFINER: a test that has become another role can still change the source.
CREATE FUNCTION public.on_source(statement text)
RETURNS text LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
RETURN public.dblink_exec(current_setting('test.source_conninfo'), statement);
COMMENT ON FUNCTION public.on_source(text) IS
    'Executes statements on the source, committed at once; answers with the last one''s tag.';

CREATE FUNCTION public.source_value(query text)
RETURNS text LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
RETURN (SELECT v FROM public.dblink(current_setting('test.source_conninfo'), query) AS t(v text));
COMMENT ON FUNCTION public.source_value(text) IS
    'The one value that a query gives on the source, as text.';

CREATE VIEW public.own_function AS
SELECT p.oid, p.proname, p.prokind, p.prosrc, p.prosqlbody, p.proconfig, p.proacl, p.proowner,
       p.prosecdef, l.lanname
FROM pg_catalog.pg_proc AS p
JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
JOIN pg_catalog.pg_depend AS d
    ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_catalog.pg_extension AS e
    ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'roneo';
COMMENT ON VIEW public.own_function IS 'The functions and procedures of the extension.';
