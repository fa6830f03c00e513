CREATE OR REPLACE VIEW roneo.settings AS
SELECT d.setting_name, coalesce(s.value, d.value) AS value, s.value IS NOT NULL AS changed, d.meaning
FROM (VALUES
    ('history_days',      '90',  'days that a run is kept in roneo.run'),
    ('lock_timeout_ms',   '200', 'milliseconds that a patient step waits for its lock, once'),
    ('lock_attempts',     '25',  'times that it tries'),
    ('connect_timeout_s', '10',  'seconds to wait for a connection to a source'),
    ('exact_check_s',     '600', 'seconds that the source''s counters are believed without a look at its rows; 0: never'),
    ('late_warning_pct',  '100', 'percent of refresh_every that a replica may be late before that is a WARNING'),
    ('late_critical_pct', '300', 'percent of refresh_every that it may be late before that is CRITICAL'),
    ('failures_warning',  '1',   'failures in a row that are a WARNING'),
    ('failures_critical', '3',   'failures in a row that are CRITICAL'),
    ('copy_mb_warning',   '10000', 'megabytes that one copy of a whole table may move before that is a WARNING; 0: any number'),
    ('copy_s_warning',    '1800', 'seconds that one copy of a whole table may take before that is a WARNING; 0: any number'),
    ('drift_warning_pct', '50',  'percent of refresh_every that copies may be older than promised, as a rule, before that is a WARNING; 0: any number'),
    ('held_warning_s',    '3600', 'seconds that a transaction on the source may hold rows back before that is a WARNING'),
    ('jobmon',            '0',   '1: the end of each run is told to pg_jobmon'),
    ('quarantine_after',  '10',  'failures that do not pass by themselves before a replica is put in quarantine; 0: never'),
    ('refresh_timeout_s', '0',   'seconds that a refresh of a replica without a limit of its own may take; 0: any number'),
    ('paused_warning_s',  '3600', 'seconds that a source may be left alone because of its limits before that is a WARNING')
) AS d (setting_name, value, meaning)
LEFT JOIN roneo.setting AS s USING (setting_name);
COMMENT ON VIEW roneo.settings IS
    'All settings, with their defaults. Change one by INSERT INTO roneo.setting.';

CREATE OR REPLACE FUNCTION roneo.setting(wanted text)
RETURNS integer LANGUAGE sql STABLE
RETURN (SELECT value::integer FROM roneo.settings WHERE setting_name = wanted);
COMMENT ON FUNCTION roneo.setting(text) IS 'The value of a setting, its default where it was not changed.';

CREATE OR REPLACE FUNCTION roneo.version()
RETURNS text LANGUAGE sql STABLE
RETURN (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'roneo');
COMMENT ON FUNCTION roneo.version() IS 'The installed version of the extension.';
