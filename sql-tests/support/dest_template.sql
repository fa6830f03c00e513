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

-- A session counts what it wrote when it ends, and that is after its client has gone.
CREATE FUNCTION public.settle_source()
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        PERFORM pg_stat_clear_snapshot();
        EXIT WHEN (SELECT count(*) FROM pg_stat_activity AS a
                   WHERE a.datname = substring(current_setting('test.source_conninfo') FROM 'dbname=''?([^'' ]+)'))
                  <= coalesce(cardinality(public.dblink_get_connections()), 0);
        PERFORM pg_sleep(0.01);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION public.settle_source() IS
    'Waits until all sessions on the source have ended but the open ones of dblink: then all they wrote is counted.';
