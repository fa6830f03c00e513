-- Which server a source is, and how far its log has got.

CREATE OR REPLACE FUNCTION roneo.utc_text(expression text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(
    'pg_catalog.to_char(%s AT TIME ZONE ''UTC'', ''YYYY-MM-DD"T"HH24:MI:SS.US"Z"'')', expression);
COMMENT ON FUNCTION roneo.utc_text(text) IS
    'SQL for a timestamptz expression as text that reads back the same under any TimeZone and DateStyle.';

-- On a standby pg_walfile_name is refused, and the control file's timeline is the one of the last
-- restart point; after a promotion it lags, and so it is not used on a primary.
CREATE OR REPLACE FUNCTION roneo.identity_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$(
    SELECT pg_catalog.jsonb_build_object(
        'system_identifier', (SELECT c.system_identifier
                              FROM pg_catalog.pg_control_system() AS c)::text,
        'timeline', CASE WHEN here.in_recovery
            THEN (SELECT pg_catalog.lpad(pg_catalog.upper(pg_catalog.to_hex(c.timeline_id)), 8, '0')
                  FROM pg_catalog.pg_control_checkpoint() AS c)
            ELSE pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) END,
        'lsn', CASE WHEN here.in_recovery
            THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn() END::text,
        'in_recovery', here.in_recovery,
        'postmaster_start', %1$s,
        'version', pg_catalog.current_setting('server_version_num')::integer,
        'stats_reset', (SELECT %2$s FROM pg_catalog.pg_stat_database AS d
                        WHERE d.datname = pg_catalog.current_database()),
        'stats_discarded', (SELECT %3$s FROM pg_catalog.pg_stat_bgwriter AS b),
        'database', pg_catalog.current_database(),
        'encoding', pg_catalog.current_setting('server_encoding'),
        'clock', %4$s)
    FROM (SELECT pg_catalog.pg_is_in_recovery() AS in_recovery OFFSET 0) AS here)$query$,
    roneo.utc_text('pg_catalog.pg_postmaster_start_time()'), roneo.utc_text('d.stats_reset'),
    roneo.utc_text('b.stats_reset'), roneo.utc_text('pg_catalog.clock_timestamp()'));
COMMENT ON FUNCTION roneo.identity_query() IS
    'A SQL expression for the source: one jsonb object that says which server answers, on which timeline, how far its log is, and since when its statistics count. Any role may run it.';
