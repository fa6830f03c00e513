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

-- Verification.
CREATE TABLE roneo.verification (
    replica_id   integer NOT NULL,
    verify_every interval,
    deletes      boolean,
    checked_at   timestamptz,
    verdict      text,
    why          text,
    rows_there   bigint,
    rows_here    bigint,
    missing      bigint,
    extra        bigint,
    changed      bigint,
    verified_at  timestamptz,
    repaired_at  timestamptz,
    repaired     bigint  NOT NULL DEFAULT 0,
    CONSTRAINT verification_pkey PRIMARY KEY (replica_id),
    CONSTRAINT verification_replica_id_fkey FOREIGN KEY (replica_id)
        REFERENCES roneo.replica ON DELETE CASCADE,
    CONSTRAINT verification_verify_every_chk CHECK (verify_every > interval '0'),
    CONSTRAINT verification_verdict_chk CHECK (verdict IN ('equal', 'differs', 'undecided', 'repaired'))
);
COMMENT ON TABLE roneo.verification IS
    'What the last comparison of each replica with its source found, and how often it is to be compared.';
COMMENT ON COLUMN roneo.verification.verify_every IS 'How often it is compared by verify_due; NULL: only when told to.';
COMMENT ON COLUMN roneo.verification.deletes IS
    'Whether rows that the source has no more are a difference, and removed by a repair; NULL: for all methods but inserter.';
COMMENT ON COLUMN roneo.verification.verdict IS
    'equal, differs, repaired; undecided: it could not be compared, why says what was in the way.';
COMMENT ON COLUMN roneo.verification.missing IS 'Rows that are not here. extra: rows that the source has not; changed: rows with other values.';
COMMENT ON COLUMN roneo.verification.verified_at IS 'When the whole of it was last known to be equal: of its slices the one that was looked at longest ago.';
COMMENT ON COLUMN roneo.verification.repaired IS 'How many rows repairs have brought in line since it was made.';
SELECT pg_catalog.pg_extension_config_dump('roneo.verification', '');

CREATE TABLE roneo.verification_slice (
    replica_id integer NOT NULL,
    slice      integer NOT NULL,
    from_value text,
    to_value   text,
    checked_at timestamptz,
    verdict    text,
    rows_there bigint,
    rows_here  bigint,
    missing    bigint,
    extra      bigint,
    changed    bigint,
    CONSTRAINT verification_slice_pkey PRIMARY KEY (replica_id, slice),
    CONSTRAINT verification_slice_replica_id_fkey FOREIGN KEY (replica_id)
        REFERENCES roneo.verification ON DELETE CASCADE,
    CONSTRAINT verification_slice_verdict_chk CHECK (verdict IN ('equal', 'differs', 'undecided', 'repaired'))
);
COMMENT ON TABLE roneo.verification_slice IS
    'The parts that a large replica is compared in, one after the other: half-open ranges of its control column or key, which together are all of it.';
SELECT pg_catalog.pg_extension_config_dump('roneo.verification_slice', '');

ALTER TABLE roneo.run ADD COLUMN kind text NOT NULL DEFAULT 'refresh';
ALTER TABLE roneo.run ADD CONSTRAINT run_kind_chk CHECK (kind IN ('refresh', 'repair'));
COMMENT ON COLUMN roneo.run.kind IS 'refresh; repair: rows that a verification found to differ were brought in line.';
