-- From 0.1.0 on: inserters and updaters, runs that end with more to read, and what is believed of counters.

CREATE TABLE roneo.control_replica (
    replica_id     integer NOT NULL,
    control        name    NOT NULL,
    control_type   text    NOT NULL,
    key_columns    name[],
    key_is_unique  boolean NOT NULL DEFAULT true,
    append_only    boolean NOT NULL DEFAULT false,
    null_control   text    NOT NULL DEFAULT 'refuse',
    reads_xmin     boolean NOT NULL,
    boundary       text    NOT NULL,
    look_back      text,
    batch_limit    bigint,
    blackout       text    NOT NULL DEFAULT 'auto',
    control_zone   text    NOT NULL,
    sweep_every    interval,
    last_value     text,
    horizon        xid8,
    window_start   text,
    clock          text,
    open_since     jsonb   NOT NULL DEFAULT '{}',
    leaves         jsonb,
    swept          xid8,
    swept_at       timestamptz,
    repull_from    text,
    repull_to      text,
    repulling      boolean NOT NULL DEFAULT false,
    held_by        text,
    held_since     timestamptz,
    far_value      text,
    met_rows       boolean NOT NULL DEFAULT false,
    CONSTRAINT control_replica_pkey PRIMARY KEY (replica_id),
    CONSTRAINT control_replica_replica_id_fkey FOREIGN KEY (replica_id)
        REFERENCES roneo.replica ON DELETE CASCADE,
    CONSTRAINT control_replica_null_control_chk CHECK (null_control IN ('refuse', 'read', 'ignore')),
    CONSTRAINT control_replica_batch_limit_chk CHECK (batch_limit > 0),
    CONSTRAINT control_replica_sweep_every_chk CHECK (sweep_every >= interval '0')
);
COMMENT ON TABLE roneo.control_replica IS
    'Replicas that follow a control column, inserters and updaters: what was asked for, and the position, which commits with the rows.';
COMMENT ON COLUMN roneo.control_replica.control_type IS 'Its type on the source, without a domain around it.';
COMMENT ON COLUMN roneo.control_replica.key_columns IS 'What rows are matched by; NULL: rows are only added.';
COMMENT ON COLUMN roneo.control_replica.key_is_unique IS 'Whether an index of the source vouches for the key.';
COMMENT ON COLUMN roneo.control_replica.reads_xmin IS
    'Whether the source shows which transaction wrote a row; where it does not, the boundary is the only protection.';
COMMENT ON COLUMN roneo.control_replica.boundary IS
    'How far the upper bound stays behind the source''s clock (an interval) or highest value (a number): a delay.';
COMMENT ON COLUMN roneo.control_replica.look_back IS
    'How far below the position late values are still looked for: a range of the index, and no delay. NULL: no distance is known.';
COMMENT ON COLUMN roneo.control_replica.control_zone IS 'The time zone that values without one are written in.';
COMMENT ON COLUMN roneo.control_replica.sweep_every IS
    'How often the whole table is looked through for rows written since; NULL: only when told to.';
COMMENT ON COLUMN roneo.control_replica.last_value IS 'The highest value that was read, as the source writes it.';
COMMENT ON COLUMN roneo.control_replica.horizon IS
    'Rows of older transactions have been read; of this and newer ones they may not.';
COMMENT ON COLUMN roneo.control_replica.window_start IS
    'Down to this value rows of newer transactions are looked for; NULL: down to the lowest.';
COMMENT ON COLUMN roneo.control_replica.clock IS
    'The source''s clock at the last refresh, or its highest value, from just before the snapshot.';
COMMENT ON COLUMN roneo.control_replica.open_since IS
    'The transactions that were open on the source, each with a clock from before its start.';
COMMENT ON COLUMN roneo.control_replica.leaves IS 'The tables that rows came from, with their files.';
COMMENT ON COLUMN roneo.control_replica.swept IS 'What horizon is for the last sweep.';
COMMENT ON COLUMN roneo.control_replica.repull_from IS 'Where a repull that is under way goes on; NULL: at the lowest value.';
COMMENT ON COLUMN roneo.control_replica.repull_to IS 'Where it ends, exclusive; NULL: at the position.';
COMMENT ON COLUMN roneo.control_replica.held_by IS 'The transaction on the source that rows wait for.';
COMMENT ON COLUMN roneo.control_replica.far_value IS
    'The highest value, where it lies far above all others: new rows are below it.';
COMMENT ON COLUMN roneo.control_replica.met_rows IS
    'Whether new rows had keys that were there, so that the next ones are staged; false: they are copied into the table.';
SELECT pg_catalog.pg_extension_config_dump('roneo.control_replica', '');

-- A method finds its rows by its own name.
CREATE OR REPLACE VIEW roneo.inserter_replica AS
SELECT c.* FROM roneo.control_replica AS c JOIN roneo.replica AS r USING (replica_id) WHERE r.method = 'inserter';
COMMENT ON VIEW roneo.inserter_replica IS 'The replicas of method inserter.';

CREATE OR REPLACE VIEW roneo.updater_replica AS
SELECT c.* FROM roneo.control_replica AS c JOIN roneo.replica AS r USING (replica_id) WHERE r.method = 'updater';
COMMENT ON VIEW roneo.updater_replica IS 'The replicas of method updater.';

ALTER TABLE roneo.run ADD COLUMN has_more boolean;
COMMENT ON COLUMN roneo.run.has_more IS 'Whether it ended at a batch_limit or in the middle of a repull, with more to read.';

ALTER TABLE roneo.replica ADD COLUMN source_state uuid, ADD COLUMN looked_at timestamptz;
COMMENT ON COLUMN roneo.replica.source_state IS
    'A hash of what the source counted of the table just before the last refresh read it; NULL: not known, or not all was read.';
COMMENT ON COLUMN roneo.replica.looked_at IS
    'When it was last asked of the source''s rows, and not only of its counters, whether there is anything to do.';

ALTER TABLE roneo.setting DROP CONSTRAINT setting_setting_name_chk, DROP CONSTRAINT setting_value_chk;
ALTER TABLE roneo.setting ADD CONSTRAINT setting_setting_name_chk CHECK (setting_name IN
    ('history_days', 'lock_timeout_ms', 'lock_attempts', 'connect_timeout_s', 'exact_check_s',
     'late_warning_pct', 'late_critical_pct', 'failures_warning', 'failures_critical', 'copy_mb_warning',
     'copy_s_warning', 'drift_warning_pct', 'held_warning_s', 'jobmon', 'quarantine_after', 'refresh_timeout_s', 'paused_warning_s'));
ALTER TABLE roneo.setting ADD CONSTRAINT setting_value_chk CHECK (
    value ~ CASE WHEN setting_name IN ('lock_timeout_ms', 'lock_attempts', 'connect_timeout_s', 'failures_warning', 'failures_critical')
                     THEN '^0*[1-9][0-9]{0,8}$' WHEN setting_name = 'jobmon' THEN '^[01]$' ELSE '^[0-9]{1,9}$' END);
COMMENT ON TABLE roneo.setting IS
    'Settings that differ from their defaults; roneo.settings lists them all. history_days: how long runs are kept. lock_timeout_ms, lock_attempts: how a patient step waits. connect_timeout_s: for a source. exact_check_s: how long counters are believed. late_, failures_, copy_, drift_, held_, paused_: when roneo.check gives alarm. jobmon: whether pg_jobmon hears of runs. quarantine_after: how many lasting failures in a row. refresh_timeout_s: how long a refresh may take.';

-- They have an argument more.
DROP FUNCTION roneo.refresh(regclass, boolean, boolean, boolean), roneo.plan(regclass, boolean, boolean);
DROP PROCEDURE roneo.refresh_now(regclass, boolean, boolean);

-- From 0.2.0 on: captures, for dml and logdel, and refresh groups.

CREATE TABLE roneo.capture_replica (
    replica_id     integer  NOT NULL,
    capture_id     integer  NOT NULL,
    consumer_id    uuid     NOT NULL,
    key_columns    name[]   NOT NULL,
    row_level      boolean  NOT NULL DEFAULT false,
    packs          boolean  NOT NULL,
    deleted_column name,
    batch_limit    bigint,
    is_fresh       boolean  NOT NULL DEFAULT false,
    position       pg_snapshot,
    written_by     xid8,
    tables         jsonb,
    confirmed      pg_snapshot,
    CONSTRAINT capture_replica_pkey PRIMARY KEY (replica_id),
    CONSTRAINT capture_replica_replica_id_fkey FOREIGN KEY (replica_id)
        REFERENCES roneo.replica ON DELETE CASCADE,
    CONSTRAINT capture_replica_batch_limit_chk CHECK (batch_limit > 0)
);
COMMENT ON TABLE roneo.capture_replica IS
    'Replicas that are fed from a capture on the source, dml and logdel: what was asked for, and the position, which commits with the rows.';
COMMENT ON COLUMN roneo.capture_replica.capture_id IS 'Its number in roneo_capture.capture on the source.';
COMMENT ON COLUMN roneo.capture_replica.consumer_id IS 'What this copy is called in roneo_capture.consumer on the source.';
COMMENT ON COLUMN roneo.capture_replica.row_level IS 'Whether row triggers were asked for.';
COMMENT ON COLUMN roneo.capture_replica.packs IS 'Whether the queue holds many keys in one row, as arrays.';
COMMENT ON COLUMN roneo.capture_replica.deleted_column IS 'When a row was deleted on the source, for logdel; NULL: rows are deleted here too.';
COMMENT ON COLUMN roneo.capture_replica.batch_limit IS 'How many keys a refresh may read before it commits, in whole transactions of the source.';
COMMENT ON COLUMN roneo.capture_replica.is_fresh IS 'Whether the table was made for this replica and has never been filled.';
COMMENT ON COLUMN roneo.capture_replica.position IS
    'A snapshot of the source: what it sees is here. NULL: the copy is to be made anew.';
COMMENT ON COLUMN roneo.capture_replica.written_by IS 'The transaction here that wrote the position: until it is committed the source must not hear of it.';
COMMENT ON COLUMN roneo.capture_replica.tables IS 'The tables that the capture consisted of, with their files and a print of their triggers.';
COMMENT ON COLUMN roneo.capture_replica.confirmed IS
    'What the source had been told when the position was written. It remembers that, or the position; else it was set back. NULL: not known.';
SELECT pg_catalog.pg_extension_config_dump('roneo.capture_replica', '');

CREATE OR REPLACE VIEW roneo.dml_replica AS
SELECT c.* FROM roneo.capture_replica AS c JOIN roneo.replica AS r USING (replica_id) WHERE r.method = 'dml';
COMMENT ON VIEW roneo.dml_replica IS 'The replicas of method dml.';

CREATE OR REPLACE VIEW roneo.logdel_replica AS
SELECT c.* FROM roneo.capture_replica AS c JOIN roneo.replica AS r USING (replica_id) WHERE r.method = 'logdel';
COMMENT ON VIEW roneo.logdel_replica IS 'The replicas of method logdel.';

ALTER TABLE roneo.replica ADD COLUMN refresh_group text;
COMMENT ON COLUMN roneo.replica.refresh_group IS
    'Replicas of one group are read in one snapshot of their source and written in one transaction here; NULL: by itself.';

-- A group is asked, and its steps are taken, as one.
DROP FUNCTION roneo.lock_over_link(text, text);
DROP FUNCTION roneo.answer_over_link(integer, roneo.probe, jsonb, text);
DROP FUNCTION roneo.run_steps(jsonb, text, name);

-- Schedules: windows, priority, quarantine.
ALTER TABLE roneo.replica
    ADD COLUMN priority integer NOT NULL DEFAULT 0, ADD COLUMN windows int4multirange, ADD COLUMN window_text text,
    ADD COLUMN window_zone text, ADD COLUMN lasting_failures integer NOT NULL DEFAULT 0, ADD COLUMN quarantined_at timestamptz,
    ADD CONSTRAINT replica_priority_chk CHECK (priority BETWEEN -100 AND 100),
    ADD CONSTRAINT replica_windows_chk CHECK (
        num_nulls(windows, window_text, window_zone) IN (0, 3)
        AND NOT isempty(windows) AND windows <@ '{[0,20160)}'::int4multirange);
COMMENT ON COLUMN roneo.replica.priority IS 'Of several that are due, higher ones come first.';
COMMENT ON COLUMN roneo.replica.windows IS
    'When a refresh may begin: minutes of the week, from Monday 00:00, on the clocks of window_zone; NULL: always. Written by set_schedule.';
COMMENT ON COLUMN roneo.replica.window_text IS 'The windows as they were given.';
COMMENT ON COLUMN roneo.replica.lasting_failures IS 'Failures since the last success that do not pass by themselves.';
COMMENT ON COLUMN roneo.replica.quarantined_at IS
    'Since when it is not due any more, after quarantine_after such failures; NULL: it is not in quarantine.';

-- What is due can be asked by group, with jitter, and is told with how long it takes.
DROP PROCEDURE roneo.refresh_due(text[], text[], interval);
DROP FUNCTION roneo.due(text[], text[]);

-- Limits of refreshes and of sources.
ALTER TABLE roneo.replica ADD COLUMN refresh_timeout interval,
    ADD CONSTRAINT replica_refresh_timeout_chk CHECK (refresh_timeout >= interval '0');
COMMENT ON COLUMN roneo.replica.refresh_timeout IS
    'How long one refresh, or one batch of it, may take; 0: as long as it likes; NULL: as the setting refresh_timeout_s says.';
ALTER TABLE roneo.source
    ADD COLUMN max_connections integer, ADD COLUMN max_snapshot interval, ADD COLUMN max_lag interval,
    ADD COLUMN max_lag_bytes bigint, ADD COLUMN max_xmin_age bigint, ADD COLUMN paused_since timestamptz,
    ADD COLUMN paused_by text, ADD COLUMN unread_limits text,
    ADD CONSTRAINT source_max_connections_chk CHECK (max_connections BETWEEN 1 AND 999),
    ADD CONSTRAINT source_limits_chk CHECK (max_snapshot > interval '0' AND max_lag > interval '0' AND max_lag_bytes > 0 AND max_xmin_age > 0);
COMMENT ON COLUMN roneo.source.max_connections IS 'How many connections to it all runners of this database may have at once; NULL: any number. So all limits.';
COMMENT ON COLUMN roneo.source.max_snapshot IS 'How long a refresh may hold a snapshot there.';
COMMENT ON COLUMN roneo.source.max_lag IS 'How far its standbys may lag before it is left alone.';
COMMENT ON COLUMN roneo.source.max_lag_bytes IS 'The same, in bytes of its log.';
COMMENT ON COLUMN roneo.source.max_xmin_age IS 'How many transactions its oldest snapshot may be old before it is left alone.';
COMMENT ON COLUMN roneo.source.paused_since IS 'Since when refreshes from it are put off; NULL: they are not.';
COMMENT ON COLUMN roneo.source.paused_by IS 'Which limit was passed.';
COMMENT ON COLUMN roneo.source.unread_limits IS 'Why limits are not kept: the role of the connection may not know; NULL: they are.';

ALTER TABLE roneo.run ADD COLUMN repeats integer NOT NULL DEFAULT 1;
ALTER TABLE roneo.run ADD CONSTRAINT run_repeats_chk CHECK (repeats = 1 OR repeats > 1 AND outcome = 'unchanged');
COMMENT ON COLUMN roneo.run.repeats IS
    'How many refreshes it stands for, one after the other, that found nothing to do: the first began at started_at, and of the last one are ended_at, seconds and runner.';

-- It takes an expression.
DROP FUNCTION roneo.describe_query(oid);

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
    differed_at  timestamptz,
    failed_run_id bigint,
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
COMMENT ON COLUMN roneo.verification.differed_at IS 'When rows were found that differ, until a comparison finds none or a repair mends them: one that failed takes nothing back.';
COMMENT ON COLUMN roneo.verification.failed_run_id IS 'The run that says how the last comparison failed; NULL: it did not.';
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
ALTER TABLE roneo.run ADD CONSTRAINT run_kind_chk CHECK (kind IN ('refresh', 'repair', 'verify'));
COMMENT ON COLUMN roneo.run.kind IS 'refresh; repair: rows that a verification found to differ were brought in line; verify: a verification or repair that failed, with the refresh it began with.';

-- What was observed of sources.
CREATE TABLE roneo.observation (
    observation_id bigint      GENERATED ALWAYS AS IDENTITY,
    source_id      integer     NOT NULL,
    era            integer     NOT NULL,
    era_reason     text,
    observed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    identity       jsonb       NOT NULL,
    snapshot       pg_snapshot NOT NULL,
    schemas        text[],
    doubt          text,
    tables         integer     NOT NULL,
    problem        text,
    CONSTRAINT observation_pkey PRIMARY KEY (observation_id),
    CONSTRAINT observation_source_id_fkey FOREIGN KEY (source_id) REFERENCES roneo.source ON DELETE CASCADE
);
CREATE INDEX observation_source_id_idx ON roneo.observation (source_id, observation_id);
COMMENT ON TABLE roneo.observation IS 'Looks at the tables of a source, by roneo.observe.';
COMMENT ON COLUMN roneo.observation.era IS 'Counts up where the source''s counters do not go on from the look before.';
COMMENT ON COLUMN roneo.observation.era_reason IS 'Why an era began with this look; NULL: it goes on.';
COMMENT ON COLUMN roneo.observation.identity IS 'Which server answered, since when it runs and counts.';
COMMENT ON COLUMN roneo.observation.snapshot IS 'The transactions of the source at that time.';
COMMENT ON COLUMN roneo.observation.schemas IS 'Only these were looked at; NULL: all.';
COMMENT ON COLUMN roneo.observation.doubt IS 'Why the counters prove nothing; NULL: they do.';
COMMENT ON COLUMN roneo.observation.problem IS 'Why no values were read; NULL: they were, or nothing had changed.';
SELECT pg_catalog.pg_extension_config_dump('roneo.observation', '');
SELECT pg_catalog.pg_extension_config_dump('roneo.observation_observation_id_seq', '');

CREATE TABLE roneo.observed_state (
    state_id      bigint  GENERATED ALWAYS AS IDENTITY,
    source_id     integer NOT NULL,
    era           integer NOT NULL,
    relation      oid     NOT NULL,
    root          oid     NOT NULL,
    schema_name   name    NOT NULL,
    table_name    name    NOT NULL,
    kind          "char"  NOT NULL,
    first_seen    bigint  NOT NULL,
    last_seen     bigint  NOT NULL,
    inserted      bigint,
    updated       bigint,
    deleted       bigint,
    hot_updated   bigint,
    live          bigint,
    reads         bigint,
    rows_estimate bigint,
    bytes         bigint,
    file          bigint,
    shape         text,
    is_written    boolean,
    control       jsonb,
    file_rows     jsonb,
    CONSTRAINT observed_state_pkey PRIMARY KEY (state_id),
    CONSTRAINT observed_state_source_id_fkey FOREIGN KEY (source_id) REFERENCES roneo.source ON DELETE CASCADE
);
CREATE INDEX observed_state_relation_idx ON roneo.observed_state (source_id, relation, state_id);
COMMENT ON TABLE roneo.observed_state IS
    'What was seen of a table of a source, or of a partition, from one look to another: one row as long as nothing changed.';
COMMENT ON COLUMN roneo.observed_state.root IS 'The table whose partition or child it is; itself for others.';
COMMENT ON COLUMN roneo.observed_state.first_seen IS 'The first look that saw it so.';
COMMENT ON COLUMN roneo.observed_state.last_seen IS 'The last one.';
COMMENT ON COLUMN roneo.observed_state.inserted IS 'Rows that the source has counted, as are the next three.';
COMMENT ON COLUMN roneo.observed_state.live IS 'Rows, as the counters estimate, at the last look.';
COMMENT ON COLUMN roneo.observed_state.reads IS 'Scans of the table and its indexes, at the last look.';
COMMENT ON COLUMN roneo.observed_state.bytes IS 'Its size without indexes, at the last look.';
COMMENT ON COLUMN roneo.observed_state.shape IS 'A hash of its columns.';
COMMENT ON COLUMN roneo.observed_state.is_written IS 'Whether somebody held a writer''s lock, at the last look.';
COMMENT ON COLUMN roneo.observed_state.control IS
    'Of columns that may grow: the highest value (top), rows beyond that of the look before (above) and late ones below it (late); and in which snapshot that was.';
COMMENT ON COLUMN roneo.observed_state.file_rows IS 'Where its file was another one: how many of the first 100,000 rows were older than the look before, and newer.';
SELECT pg_catalog.pg_extension_config_dump('roneo.observed_state', '');
SELECT pg_catalog.pg_extension_config_dump('roneo.observed_state_state_id_seq', '');

-- Now called change_print: the name is that of a function for people.
DROP FUNCTION roneo.fingerprint(jsonb);
