-- From 0.3.0 on: settings for roneo.check and pg_jobmon.

ALTER TABLE roneo.setting DROP CONSTRAINT setting_setting_name_chk, DROP CONSTRAINT setting_value_chk;
ALTER TABLE roneo.setting ADD CONSTRAINT setting_setting_name_chk CHECK (setting_name IN
    ('history_days', 'lock_timeout_ms', 'lock_attempts', 'connect_timeout_s', 'exact_check_s',
     'late_warning_pct', 'late_critical_pct', 'failures_warning', 'failures_critical', 'copy_mb_warning',
     'copy_s_warning', 'drift_warning_pct', 'held_warning_s', 'jobmon'));
ALTER TABLE roneo.setting ADD CONSTRAINT setting_value_chk CHECK (
    value ~ CASE WHEN setting_name IN ('lock_timeout_ms', 'lock_attempts', 'connect_timeout_s', 'failures_warning', 'failures_critical')
                     THEN '^0*[1-9][0-9]{0,8}$' WHEN setting_name = 'jobmon' THEN '^[01]$' ELSE '^[0-9]{1,9}$' END);
COMMENT ON TABLE roneo.setting IS
    'Settings that differ from their defaults; roneo.settings lists them all. history_days: how long runs are kept. lock_timeout_ms, lock_attempts: how a patient step waits. connect_timeout_s: for a source. exact_check_s: how long counters are believed. late_, failures_, copy_, drift_, held_: when roneo.check gives alarm. jobmon: whether pg_jobmon hears of runs.';

-- An inserter copies into its table where no row is likely to be there.
ALTER TABLE roneo.control_replica ADD COLUMN met_rows boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN roneo.control_replica.met_rows IS
    'Whether new rows had keys that were there, so that the next ones are staged; false: they are copied into the table.';
CREATE OR REPLACE VIEW roneo.inserter_replica AS
SELECT c.* FROM roneo.control_replica AS c JOIN roneo.replica AS r USING (replica_id) WHERE r.method = 'inserter';
CREATE OR REPLACE VIEW roneo.updater_replica AS
SELECT c.* FROM roneo.control_replica AS c JOIN roneo.replica AS r USING (replica_id) WHERE r.method = 'updater';
DROP FUNCTION roneo.goes_straight(roneo.replica, roneo.control_replica, jsonb, jsonb, boolean);

ALTER TABLE roneo.run ADD COLUMN repeats integer NOT NULL DEFAULT 1;
ALTER TABLE roneo.run ADD CONSTRAINT run_repeats_chk CHECK (repeats = 1 OR repeats > 1 AND outcome = 'unchanged');
COMMENT ON COLUMN roneo.run.repeats IS
    'How many refreshes it stands for, one after the other, that found nothing to do: the first began at started_at, and of the last one are ended_at, seconds and runner.';

-- It takes an expression.
DROP FUNCTION roneo.describe_query(oid);
