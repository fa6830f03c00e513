-- What tests of captures share. \ir after \set's of the file; makes source src.
SET client_min_messages = warning;
CREATE FUNCTION public.same(source_table text, dest text DEFAULT NULL, columns text DEFAULT 't.*')
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    here  text;
    there text := source_value(format('SELECT string_agg(x::text, '','' ORDER BY x::text COLLATE "C") FROM (SELECT %s FROM %s AS t) AS x', columns, source_table));
BEGIN
    EXECUTE format('SELECT string_agg(x::text, '','' ORDER BY x::text COLLATE "C") FROM (SELECT %s FROM %s AS t) AS x', columns, coalesce(dest, source_table)) INTO here;
    RETURN here IS NOT DISTINCT FROM there;
END;
$$;
COMMENT ON FUNCTION public.same(text, text, text) IS 'Whether a table of the source and its copy show the same rows.';

CREATE FUNCTION public.did(dest regclass) RETURNS text LANGUAGE sql
RETURN (SELECT concat_ws(' ', u.outcome, u.sqlstate,
                         CASE WHEN u.outcome = 'ok' THEN format('+%s ~%s -%s =%s', u.inserted, coalesce(u.updated, 0), coalesce(u.deleted, 0), coalesce(u.unchanged, 0)) END)
        FROM roneo.refresh(dest) AS u);
COMMENT ON FUNCTION public.did(regclass) IS 'Refreshes, and says what came of it: rows inserted, updated, deleted, and found the same.';

CREATE FUNCTION public.told(session text, statement text) RETURNS text LANGUAGE sql RETURN dblink_exec(session, statement);
COMMENT ON FUNCTION public.told(text, text) IS 'Executes statements in another session of the source.';

CREATE FUNCTION public.code(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM on_source(statement);
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END;
$$;
COMMENT ON FUNCTION public.code(text) IS 'What the source says to a statement: done, or the SQLSTATE.';

CREATE FUNCTION public.shown(relation text, columns text DEFAULT 't.*') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT string_agg(x::text, '' '' ORDER BY x::text COLLATE "C") FROM (SELECT %s FROM %s AS t) AS x', columns, relation) INTO found;
    RETURN found;
END;
$$;
COMMENT ON FUNCTION public.shown(text, text) IS 'The rows of a table, in one line.';

CREATE FUNCTION public.hint_of(dest regclass) RETURNS text LANGUAGE sql
RETURN (SELECT u.hint FROM roneo.run AS u JOIN roneo.replica AS r USING (replica_id) WHERE r.dest = $1 ORDER BY u.run_id DESC LIMIT 1);
COMMENT ON FUNCTION public.hint_of(regclass) IS 'What the last run advised.';

CREATE FUNCTION public.mode_of(dest regclass) RETURNS text LANGUAGE sql
RETURN (SELECT CASE WHEN bool_or(p.purpose ~ 'read what changed') THEN 'replay' WHEN bool_or(p.purpose ~ 'read all rows') THEN 'compare'
                    WHEN bool_or(p.purpose ~ 'copy the rows') THEN 'load' ELSE 'nothing' END FROM roneo.plan(dest) AS p);
COMMENT ON FUNCTION public.mode_of(regclass) IS 'What the next refresh would do.';

CREATE VIEW public.feed AS
SELECT r.dest, r.dest_schema, r.dest_name, c.* FROM roneo.capture_replica AS c JOIN roneo.replica AS r USING (replica_id);
COMMENT ON VIEW public.feed IS 'What is known of replicas that are fed from a capture.';

CREATE FUNCTION public.queued(dest regclass, condition text DEFAULT 'true') RETURNS bigint LANGUAGE sql
RETURN (SELECT source_value(format('SELECT count(*) FROM (%s) AS q WHERE %s',
            (SELECT string_agg(format('SELECT * FROM roneo_capture.queue_%s_%s', f.capture_id, s), ' UNION ALL ') FROM generate_series(0, 2) AS s), condition))::bigint
        FROM feed AS f WHERE f.dest = $1);
COMMENT ON FUNCTION public.queued(regclass, text) IS 'Rows in the queue that feeds a replica.';
