-- One line a fact of the public interface: what callers and the roneo program write.
CREATE TEMPORARY VIEW api AS
WITH public_function (proname, caller) AS (
    SELECT unnest(ARRAY['create_source', 'drop_source', 'check_source', 'create_snapshot',
               'create_plain', 'create_inserter', 'create_updater', 'repull', 'begin_repull', 'accept_source', 'drop_replica',
               'create_replicas', 'next_due', 'create_dml', 'create_logdel', 'capture_script', 'captures', 'resync', 'pause_capture', 'resume_capture', 'pending_transactions', 'forget_transaction', 'expire_consumer', 'unprepare_source', 'set_queue_limit', 'set_refresh_group', 'refresh', 'refresh_now', 'refresh_due', 'plan', 'due', 'set_schedule', 'release',
               'preflight_local', 'grant_refresh', 'revoke_refresh', 'version',
               'observe', 'changes', 'advise', 'fingerprint', 'compare_fingerprints', 'verify', 'repair', 'verify_due', 'set_verification', 'set_refresh_timeout', 'set_source_limits', 'check', 'check_columns', 'check_missing_tables', 'watch_grants']), 'people'
    UNION ALL
    SELECT unnest(ARRAY['begin_refresh', 'plan_refresh', 'finish_refresh', 'record_start',
               'record_failure', 'watches', 'mark_watched', 'idle_checks', 'mark_idle', 'still_due', 'source_conninfo', 'preflight_probe', 'preflight',
               'columns_probe', 'judge_columns', 'tables_probe', 'judge_tables', 'replica_metrics', 'run_buckets',
               'survey_probe', 'observe_opening', 'observe_values_probe', 'record_observation', 'judge_methods', 'fingerprint_find_query', 'fingerprint_opening', 'fingerprint_path', 'fingerprint_query', 'fingerprint_document', 'fingerprint_parts', 'refuse_filter', 'verify_options', 'verify_start', 'verify_plan', 'verify_judge', 'verify_finish', 'record_failed_verification', 'due_verifications', 'run_failures', 'source_opening', 'refresh_limits', 'judge_load', 'try_source_slot', 'give_back_slot']), 'the program'
),
signature AS (
    -- An argument a line, so that a diff shows the one that changed.
    SELECT f.caller, p.oid::regprocedure::text AS identity, p.prokind,
           pg_get_function_result(p.oid) AS result, a.argument, a.place
    FROM public_function AS f
    JOIN pg_proc AS p USING (proname)
    JOIN own_function AS o ON o.oid = p.oid
    LEFT JOIN LATERAL (
        SELECT n.place, format('%s %s%s', p.proargnames[n.place],
                   format_type(coalesce(p.proallargtypes[n.place], p.proargtypes[n.place - 1]),
                       NULL),
                   ' DEFAULT ' || pg_get_function_arg_default(p.oid, n.place)) AS argument
        FROM generate_series(1, p.pronargs) AS n(place)
    ) AS a ON true
)
SELECT format('%s: %s %s', caller, CASE prokind WHEN 'p' THEN 'procedure' ELSE 'function' END,
           split_part(identity, '(', 1)) AS object,
       identity, 0 AS place, coalesce('returns ' || result, 'returns nothing') AS line
FROM signature
GROUP BY caller, prokind, identity, result
UNION ALL
SELECT format('%s: %s %s', caller, CASE prokind WHEN 'p' THEN 'procedure' ELSE 'function' END,
           split_part(identity, '(', 1)), identity, place, argument
FROM signature
WHERE argument IS NOT NULL
UNION ALL
SELECT format('people: %s %s',
           CASE c.relkind WHEN 'v' THEN 'view' WHEN 'c' THEN 'type' ELSE 'table' END, c.oid::regclass),
       '', a.attnum, format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod))
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid = ANY (ARRAY['roneo.status', 'roneo.run', 'roneo.setting', 'roneo.step', 'roneo.sources']::regclass[]);
