-- The COPY statements that a plan has for the roneo program carry values of every type as they are,
-- in binary form and as text. A file stands for the program here.
SET client_min_messages = warning;
SELECT no_plan();

\ir ../support/kinds.sql

SELECT roneo.create_source('main', :'source_conninfo');
-- The four phases; on the source in one session, as the program does it.
CREATE FUNCTION copied(replica regclass) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    begun   record;
    answers jsonb;
    planned record;
    file    text := format('%s/copied %s', current_setting('data_directory'), current_database());
    reports jsonb := '[]';
    moved   bigint;
BEGIN
    SELECT * INTO STRICT begun FROM roneo.begin_refresh(ARRAY[replica]);
    PERFORM public.dblink_connect('program', roneo.source_conninfo('main'));
    answers := jsonb_build_array(jsonb_build_object('replica_id', begun.replica_id, 'hand', 'runner',
        'before', (SELECT v::jsonb FROM public.dblink('program', begun.before) AS t (v text))));
    PERFORM public.dblink_exec('program', begun.opening), public.dblink_exec('program', begun.lock);
    answers := jsonb_set(answers, '{0,inside}', v::jsonb)
        FROM public.dblink('program', begun.inside) AS t (v text);
    FOR planned IN SELECT * FROM roneo.plan_refresh(answers) LOOP
        IF planned.kind = 'transfer' THEN
            PERFORM public.dblink_exec('program',
                replace(planned.copy_out, ' TO STDOUT ', format(' TO %L ', file)));
            -- A function has a snapshot open, which FREEZE forbids.
            EXECUTE replace(replace(planned.copy_in, ' FROM STDIN ', format(' FROM %L ', file)),
                            ', FREEZE true', '');
            GET DIAGNOSTICS moved = ROW_COUNT;
            RETURN NEXT substring(planned.copy_out FROM '\(FORMAT .*\)$');
        ELSIF planned.kind = 'dest' THEN
            EXECUTE planned.statement;
        END IF;
        reports := reports || jsonb_build_object('number', planned.number, 'stage', planned.stage,
            'kind', planned.kind, 'counts', planned.counts, 'outcome', 'done', 'sent', moved, 'received', moved, 'rows', 0);
    END LOOP;
    PERFORM roneo.finish_refresh(answers, jsonb_build_array(jsonb_build_object(
        'replica_id', begun.replica_id, 'planned', jsonb_array_length(reports), 'steps', reports, 'seconds', 1)));
    PERFORM public.dblink_disconnect('program');
END $$;
-- The columns whose values may travel in binary form. citext is not called here as on the source,
-- and what a domain is made of nobody looks at for a snapshot.
SELECT roneo.create_plain('main', 'app.kinds', 'everything', copy_data => false);
CREATE TEMP TABLE carried AS
SELECT c ->> 'name' AS name, dest
FROM jsonb_array_elements(roneo.local_relation('everything') -> 'columns') AS c,
     (VALUES ('compact', 'citext|email'), ('swapped', 'citext|email|positive|large|ints|moods')) AS v (dest, without)
WHERE (c ->> 'binary')::boolean AND c ->> 'name' !~ without;
SELECT roneo.create_plain('main', 'app.kinds', 'compact', copy_data => false,
                          columns => ARRAY(SELECT name FROM carried WHERE dest = 'compact')),
       roneo.create_snapshot('main', 'app.kinds', 'swapped', copy_data => false,
                             columns => ARRAY(SELECT name FROM carried WHERE dest = 'swapped'));

SELECT is(copied('everything'), '(FORMAT text)',
    'one type that cannot travel in binary form makes the whole copy text');
SELECT is(copied('compact'), '(FORMAT binary)', 'the others travel in binary form');
SELECT is(copied('swapped'), '(FORMAT binary)', 'into a snapshot too');
CREATE TEMP TABLE sent AS
SELECT * FROM dblink(:'source_conninfo', $$ SELECT name, content FROM contents('app.kinds') $$) AS t (name text, content text);
SELECT is(count(*), (SELECT count(*) + 1 FROM kind), 'the source has a column of every type')
FROM sent WHERE content <> '';
SELECT is(here.content, sent.content, format('%s travels as text', sent.name))
FROM sent LEFT JOIN contents('everything') AS here USING (name) ORDER BY name;
SELECT is(here.content, sent.content, format('%s travels in binary form: %s', name, dest))
FROM carried
JOIN sent USING (name)
LEFT JOIN (SELECT 'compact' AS dest, name, content FROM contents('compact')
           UNION ALL
           SELECT 'swapped', name, content FROM contents('swapped')) AS here USING (name, dest)
ORDER BY dest, name;
SELECT cmp_ok(count(*), '>', 70::bigint, format('most types do: %s', dest)) FROM carried GROUP BY dest;

SELECT * FROM finish();
