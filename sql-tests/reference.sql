-- extension/README.md is true: what is installed stands in it, and what stands in it is there.
\set readme `cat extension/README.md`
-- The codes that only the program uses.
\set program_codes `grep -rhoE 'RO[0-9]{3}' Sources | sort -u`

SELECT plan(15);

-- A part begins with its heading and ends before the next one.
CREATE TEMPORARY TABLE part AS
SELECT replace(split_part(p, E'\n', 1), '`', '') AS heading,
       regexp_replace(p, '\s+', ' ', 'g') AS flat, p AS body
FROM regexp_split_to_table(:'readme', '\n#+ ') AS p;

CREATE TEMPORARY VIEW public_function AS
SELECT f.oid, f.proname, f.caller, array_to_string(p.proargnames[:p.pronargs], ', ') AS arguments
FROM (
    SELECT o.oid, o.proname,
           CASE WHEN o.proname IN ('begin_refresh', 'plan_refresh', 'finish_refresh', 'record_start',
                                   'record_failure', 'preflight_probe', 'preflight', 'watches', 'mark_watched', 'idle_checks', 'mark_idle', 'still_due',
                                   'columns_probe', 'judge_columns', 'tables_probe', 'judge_tables',
                                   'replica_metrics', 'run_buckets', 'run_failures', 'source_opening',
                                   'survey_probe', 'observe_opening', 'observe_values_probe', 'record_observation', 'judge_methods', 'fingerprint_find_query', 'fingerprint_opening', 'fingerprint_path', 'fingerprint_query', 'fingerprint_document', 'fingerprint_parts', 'refuse_filter', 'verify_options', 'verify_start', 'verify_plan', 'verify_judge', 'verify_finish', 'record_failed_verification', 'due_verifications', 'refresh_limits', 'judge_load', 'try_source_slot', 'give_back_slot')
                THEN 'program' ELSE 'people' END AS caller
    FROM own_function AS o
    WHERE o.proname IN ('create_source', 'drop_source', 'source_conninfo', 'check_source',
        'create_snapshot', 'create_plain', 'create_inserter', 'create_updater', 'create_replicas', 'repull', 'begin_repull',
        'accept_source', 'create_dml', 'create_logdel', 'capture_script', 'captures', 'resync', 'pause_capture',
        'resume_capture', 'pending_transactions', 'forget_transaction', 'expire_consumer', 'set_queue_limit',
        'next_due', 'still_due', 'set_refresh_timeout', 'set_source_limits', 'refresh_limits', 'judge_load', 'try_source_slot', 'give_back_slot', 'unprepare_source', 'set_refresh_group', 'set_schedule', 'release', 'watches', 'mark_watched', 'idle_checks', 'mark_idle', 'drop_replica', 'refresh', 'refresh_now', 'refresh_due', 'due', 'plan',
        'setting', 'version', 'preflight_local', 'missing_grants', 'grant_refresh',
        'revoke_refresh', 'begin_refresh', 'plan_refresh', 'finish_refresh', 'record_start',
        'record_failure', 'preflight_probe', 'preflight', 'check', 'check_columns', 'check_missing_tables', 'watch_grants',
        'columns_probe', 'judge_columns', 'tables_probe', 'judge_tables', 'replica_metrics', 'run_buckets',
        'run_failures', 'source_opening', 'verify', 'repair', 'verify_due', 'set_verification',
        'fingerprint', 'compare_fingerprints', 'observe', 'changes', 'advise', 'survey_probe', 'observe_opening', 'observe_values_probe', 'record_observation', 'judge_methods', 'fingerprint_find_query', 'fingerprint_opening', 'fingerprint_path', 'fingerprint_query', 'fingerprint_document', 'fingerprint_parts', 'refuse_filter', 'verify_options', 'verify_start', 'verify_plan', 'verify_judge', 'verify_finish', 'record_failed_verification', 'due_verifications')
) AS f
JOIN pg_proc AS p USING (oid);

-- The view of a method that has no table of its own is told with that table.
CREATE TEMPORARY VIEW own_relation AS
SELECT c.oid, regexp_replace(regexp_replace(c.relname, '^(inserter|updater)_replica$', 'control_replica'),
                             '^(dml|logdel)_replica$', 'capture_replica') AS relname
FROM pg_class AS c
JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'roneo' AND c.relkind IN ('r', 'p', 'v', 'm', 'f');

SELECT is((SELECT count(*) FROM public_function), 98::bigint, 'each public function exists once');

SELECT is_empty($$ SELECT proname FROM public_function
                   WHERE caller = 'people' AND NOT EXISTS (
                       SELECT FROM part
                       WHERE split_part(heading, '(', 1) = concat('roneo.', proname)
                         AND strpos(flat, format('roneo.%s(%s)', proname, arguments)) > 0) $$,
    'each function for people has a part of its own with its arguments in their order');

SELECT is_empty($$ SELECT proname FROM public_function
                   WHERE caller = 'program' AND NOT EXISTS (
                       SELECT FROM part
                       WHERE heading = 'Functions for the program'
                         AND strpos(flat, format('| `roneo.%s(%s)` |', proname, arguments)) > 0) $$,
    'each function for the program is in the list of those');

SELECT is_empty($$ SELECT heading
                   FROM part
                   WHERE heading ~ '^roneo\.\w+(\(.*\))?$'
                     AND split_part(heading, '(', 1) NOT IN (
                         SELECT concat('roneo.', proname) FROM public_function
                         UNION ALL SELECT concat('roneo.', relname) FROM own_relation) $$,
    'no part is of a function or table that is not there');

-- Defaults as they are written in SQL, without the type.
CREATE TEMPORARY VIEW optional_argument AS
SELECT f.proname, p.proargnames[n] AS argument,
       regexp_replace(pg_get_function_arg_default(f.oid, n), '::[a-z \[\]]+$', '') AS value
FROM public_function AS f
JOIN pg_proc AS p USING (oid)
CROSS JOIN LATERAL generate_series(p.pronargs - p.pronargdefaults + 1, p.pronargs) AS n
WHERE f.caller = 'people';

SELECT is_empty($$ SELECT proname, argument, value FROM optional_argument
                   WHERE NOT EXISTS (
                       SELECT FROM part
                       WHERE (split_part(heading, '(', 1) = concat('roneo.', proname)
                              OR heading = 'Arguments of all' AND proname ~ '^create_(snapshot|plain|inserter|updater|dml|logdel)$'
                              OR heading = 'Arguments of inserter and updater' AND proname ~ '^create_(inserter|updater)$'
                              OR heading = 'Arguments of dml and logdel' AND proname ~ '^create_(dml|logdel)$')
                         AND strpos(flat, format('| `%s` | `%s` |', argument, value)) > 0) $$,
    'each argument with a default has a row that says it');

SELECT is_empty($$ SELECT r.relname, a.attname
                   FROM own_relation AS r
                   JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0
                       AND NOT a.attisdropped
                   WHERE NOT EXISTS (
                       SELECT FROM part
                       WHERE heading = concat('roneo.', r.relname)
                         AND strpos(flat, format('| `%s` |', a.attname)) > 0) $$,
    'each table and view has a part, and each of its columns a row');

SELECT is_empty($$ SELECT a.attname
                   FROM pg_attribute AS a
                   WHERE a.attrelid = 'roneo.step'::regclass AND NOT EXISTS (
                       SELECT FROM part
                       WHERE heading ~ '^roneo\.plan\(' AND strpos(flat, format('| `%s` |', a.attname)) > 0) $$,
    'and so has each column of a step');

SELECT is_empty($$ SELECT p.heading, m[1]
                   FROM part AS p
                   JOIN own_relation AS r ON p.heading = concat('roneo.', r.relname),
                        regexp_matches(p.body, '\n\| `(\w+)` \|', 'g') AS m
                   WHERE NOT EXISTS (SELECT FROM pg_attribute AS a
                                     WHERE a.attrelid = r.oid AND a.attname = m[1])
                     AND m[1] NOT IN (SELECT setting_name FROM roneo.settings) $$,
    'no row is of a column that is not there');

SELECT is_empty($$ SELECT s.setting_name, s.value
                   FROM roneo.settings AS s
                   WHERE NOT EXISTS (
                       SELECT FROM part
                       WHERE heading = 'roneo.settings'
                         AND strpos(flat, format('| `%s` | %s |', s.setting_name, s.value)) > 0) $$,
    'each setting is there with its default');

CREATE TEMPORARY VIEW documented AS
SELECT m[1] AS code
FROM part, regexp_matches(body, '\n\| (RO\d\d\d) \|', 'g') AS m
WHERE heading = 'Errors';

SELECT is_empty('SELECT code FROM documented GROUP BY code HAVING count(*) > 1',
    'no code is listed twice');

CREATE TEMPORARY VIEW raised AS
SELECT DISTINCT m[1] AS code
FROM own_function AS f,
     regexp_matches(concat(f.prosrc, pg_get_function_sqlbody(f.oid)), '\m(RO\d\d\d)\M', 'g') AS m;

SELECT is_empty('SELECT code FROM raised EXCEPT SELECT code FROM documented',
    'each code that a function raises is listed');

SELECT is_empty(format($$ SELECT code FROM documented EXCEPT (
                              SELECT code FROM raised UNION ALL
                              SELECT code FROM string_to_table(%L, E'\n') AS code) $$, :'program_codes'),
    'and each that is listed is raised by a function or by the program');

SELECT is_empty($$ SELECT m[1]
                   FROM part, regexp_matches(body, 'roneo\.(\w+)\(', 'g') AS m
                   WHERE m[1] !~ '^refresh_as_'
                   EXCEPT SELECT proname FROM own_function $$,
    'each function that is named exists');

-- On a source.
\set setup `cat extension/capture/setup.sql`
SELECT is_empty(format($$ SELECT m[1], m[2]
                          FROM part, regexp_matches(body, 'roneo_capture\.(\w+)\(([^)]*)\)', 'g') AS m
                          WHERE m[1] !~ '_ID$' AND strpos(m[2], '''') = 0
                          EXCEPT
                          SELECT f[1], regexp_replace(f[2], '(\w+) [^,]+', '\1', 'g')
                          FROM regexp_matches(%L, 'FUNCTION roneo_capture\.(\w+)\(\s*([^)]*)\)\nRETURNS', 'g') AS f $$, :'setup'),
    'and each one on the source that is named, with its arguments');

-- What the page says of all functions.
SELECT is_empty('SELECT oid::regprocedure FROM own_function WHERE prosecdef',
    'none runs with the rights of its owner');

SELECT * FROM finish();
