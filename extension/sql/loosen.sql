-- Begins every update script: each parsed body of ours becomes a quoted stub, because a column
-- cannot be added NOT NULL or retyped while a parsed body uses the row type. Arguments, result,
-- settings, comments, grants, and the users' views on our functions stay.
-- All functions follow after the delta, with their true bodies. One that was forgotten, or that
-- the delta itself calls, fails by the stub's name rather than give a wrong answer.
DO $loosen$
DECLARE
    own record;
BEGIN
    FOR own IN
        SELECT pg_catalog.pg_get_functiondef(p.oid) AS definition,
               pg_catalog.pg_get_function_sqlbody(p.oid) AS body
        FROM pg_catalog.pg_proc AS p
        JOIN pg_catalog.pg_depend AS d
            ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
        JOIN pg_catalog.pg_extension AS e
            ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
            AND d.refobjid = e.oid
        WHERE e.extname = 'roneo' AND d.deptype = 'e' AND p.prosqlbody IS NOT NULL
    LOOP
        -- A definition is its head, its body and the end of the line.
        EXECUTE format('%s AS %L', left(own.definition, -(length(own.body) + 1)),
            'SELECT roneo.loosened_until_the_update_ends()');
    END LOOP;
END;
$loosen$;

