\echo Use "CREATE EXTENSION roneo" to load this file. \quit
-- The catalog. Each table is declared whole, and marked for pg_dump together with its sequence:
-- without that a restored database would give out the same ids again.

CREATE TYPE roneo.probe AS (
    before text,
    lock   text,
    inside text
);
COMMENT ON TYPE roneo.probe IS
    'What a refresh asks of the source: a query before the snapshot, a lock that must precede it, and a query inside it; each query answers with one JSON document.';

CREATE TYPE roneo.step AS (
    stage       smallint,
    kind        text,
    purpose     text,
    statement   text,
    into_table  text,
    into_list   text,
    into_types  text,
    copy_format text,
    copy_freeze boolean,
    counts      text,
    patient     boolean
);
COMMENT ON TYPE roneo.step IS
    'One step of a plan. Stages: 1 prepare, 2 transfer, 3 remove, 4 put, 5 show. Kinds: source, dest, transfer, check (on the source, after the transfers, inside the snapshot), after (on the source, after the commit).';

CREATE TABLE roneo.source (
    source_id       integer     GENERATED ALWAYS AS IDENTITY,
    source_name     text        NOT NULL,
    server_name     name        NOT NULL,
    owns_server     boolean     NOT NULL,
    source_encoding text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    max_connections integer,
    max_snapshot    interval,
    max_lag         interval,
    max_lag_bytes   bigint,
    max_xmin_age    bigint,
    paused_since    timestamptz,
    paused_by       text,
    unread_limits   text,
    CONSTRAINT source_pkey PRIMARY KEY (source_id),
    CONSTRAINT source_source_name_key UNIQUE (source_name),
    CONSTRAINT source_max_connections_chk CHECK (max_connections BETWEEN 1 AND 999),
    CONSTRAINT source_limits_chk CHECK (max_snapshot > interval '0' AND max_lag > interval '0' AND max_lag_bytes > 0 AND max_xmin_age > 0)
);
COMMENT ON TABLE roneo.source IS
    'A database that rows come from. The connection and its secret stay in a foreign server and its user mappings.';
COMMENT ON COLUMN roneo.source.owns_server IS
    'Whether create_source made the foreign server, so that drop_source drops it too.';
COMMENT ON COLUMN roneo.source.source_encoding IS
    'What the bytes of a SQL_ASCII source really are, such as LATIN1; NULL for what the server says.';
COMMENT ON COLUMN roneo.source.max_connections IS 'How many connections to it all runners of this database may have at once; NULL: any number. So all limits.';
COMMENT ON COLUMN roneo.source.max_snapshot IS 'How long a refresh may hold a snapshot there.';
COMMENT ON COLUMN roneo.source.max_lag IS 'How far its standbys may lag before it is left alone.';
COMMENT ON COLUMN roneo.source.max_lag_bytes IS 'The same, in bytes of its log.';
COMMENT ON COLUMN roneo.source.max_xmin_age IS 'How many transactions its oldest snapshot may be old before it is left alone.';
COMMENT ON COLUMN roneo.source.paused_since IS 'Since when refreshes from it are put off; NULL: they are not.';
COMMENT ON COLUMN roneo.source.paused_by IS 'Which limit was passed.';
COMMENT ON COLUMN roneo.source.unread_limits IS 'Why limits are not kept: the role of the connection may not know; NULL: they are.';
SELECT pg_catalog.pg_extension_config_dump('roneo.source', '');
SELECT pg_catalog.pg_extension_config_dump('roneo.source_source_id_seq', '');

CREATE TABLE roneo.replica (
    replica_id      integer     GENERATED ALWAYS AS IDENTITY,
    source_id       integer     NOT NULL,
    source_schema   name        NOT NULL,
    source_table    name        NOT NULL,
    source_kind     "char"      NOT NULL,
    source_lockable boolean     NOT NULL,
    dest            regclass    NOT NULL,
    dest_schema     name        NOT NULL,
    dest_name       name        NOT NULL,
    method          text        NOT NULL,
    wanted_columns  name[],
    filter          text,
    filter_path     text        NOT NULL,
    refresh_every   interval,
    enabled         boolean     NOT NULL DEFAULT true,
    created_at      timestamptz NOT NULL DEFAULT now(),
    generation      bigint      NOT NULL DEFAULT 0,
    last_attempt_at timestamptz,
    last_success_at timestamptz,
    last_outcome    text,
    last_message    text,
    failures        integer     NOT NULL DEFAULT 0,
    identity        jsonb,
    source_state    uuid,
    looked_at       timestamptz,
    refresh_group   text,
    priority        integer     NOT NULL DEFAULT 0,
    windows         int4multirange,
    window_text     text,
    window_zone     text,
    lasting_failures integer    NOT NULL DEFAULT 0,
    quarantined_at  timestamptz,
    refresh_timeout interval,
    CONSTRAINT replica_pkey PRIMARY KEY (replica_id),
    CONSTRAINT replica_dest_key UNIQUE (dest),
    CONSTRAINT replica_source_id_fkey FOREIGN KEY (source_id) REFERENCES roneo.source,
    CONSTRAINT replica_refresh_every_chk CHECK (refresh_every > interval '0'),
    CONSTRAINT replica_failures_chk CHECK (failures >= 0),
    CONSTRAINT replica_priority_chk CHECK (priority BETWEEN -100 AND 100),
    CONSTRAINT replica_windows_chk CHECK (
        num_nulls(windows, window_text, window_zone) IN (0, 3)
        AND NOT isempty(windows) AND windows <@ '{[0,20160)}'::int4multirange),
    CONSTRAINT replica_refresh_timeout_chk CHECK (refresh_timeout >= interval '0')
);
COMMENT ON TABLE roneo.replica IS
    'One registered pair: a source table (or view) and its copy. What only one method knows is in that method''s table.';
COMMENT ON COLUMN roneo.replica.source_kind IS 'pg_class.relkind on the source: r, p, v, m or f.';
COMMENT ON COLUMN roneo.replica.dest_schema IS 'With dest_name the name behind dest when it was last refreshed.';
COMMENT ON COLUMN roneo.replica.source_lockable IS
    'Whether the source can be locked against a rewrite while it is read; else its file is compared.';
COMMENT ON COLUMN roneo.replica.identity IS 'Which cluster and table the last refresh read from.';
COMMENT ON COLUMN roneo.replica.wanted_columns IS 'The columns asked for; NULL for all of them.';
COMMENT ON COLUMN roneo.replica.filter IS 'A condition over the source''s columns, without the word WHERE.';
COMMENT ON COLUMN roneo.replica.filter_path IS 'The search_path on the source that the filter is read under.';
COMMENT ON COLUMN roneo.replica.refresh_group IS
    'Replicas of one group are read in one snapshot of their source and written in one transaction here; NULL: by itself.';
COMMENT ON COLUMN roneo.replica.priority IS 'Of several that are due, higher ones come first.';
COMMENT ON COLUMN roneo.replica.windows IS
    'When a refresh may begin: minutes of the week, from Monday 00:00, on the clocks of window_zone; NULL: always. Written by set_schedule.';
COMMENT ON COLUMN roneo.replica.window_text IS 'The windows as they were given.';
COMMENT ON COLUMN roneo.replica.lasting_failures IS 'Failures since the last success that do not pass by themselves.';
COMMENT ON COLUMN roneo.replica.quarantined_at IS
    'Since when it is not due any more, after quarantine_after such failures; NULL: it is not in quarantine.';
COMMENT ON COLUMN roneo.replica.refresh_every IS 'The promised age; NULL: refreshed only when told to.';
COMMENT ON COLUMN roneo.replica.generation IS 'Counts the refreshes that ended, whatever their outcome.';
COMMENT ON COLUMN roneo.replica.refresh_timeout IS
    'How long one refresh, or one batch of it, may take; 0: as long as it likes; NULL: as the setting refresh_timeout_s says.';
COMMENT ON COLUMN roneo.replica.failures IS 'Failed refreshes in a row.';
COMMENT ON COLUMN roneo.replica.source_state IS
    'A hash of what the source counted of the table just before the last refresh read it; NULL: not known, or not all was read.';
COMMENT ON COLUMN roneo.replica.looked_at IS
    'When it was last asked of the source''s rows, and not only of its counters, whether there is anything to do.';
SELECT pg_catalog.pg_extension_config_dump('roneo.replica', '');
SELECT pg_catalog.pg_extension_config_dump('roneo.replica_replica_id_seq', '');

CREATE TABLE roneo.snapshot_replica (
    replica_id          integer  NOT NULL,
    table_schema        name     NOT NULL,
    first_table         name     NOT NULL,
    second_table        name     NOT NULL,
    shown               smallint NOT NULL DEFAULT 1,
    check_changes       boolean  NOT NULL DEFAULT true,
    max_skip_age        interval NOT NULL DEFAULT interval '1 day',
    post_script         text,
    columns             jsonb    NOT NULL,
    fingerprint         jsonb,
    loaded_at           timestamptz,
    pending_columns     jsonb,
    pending_fingerprint jsonb,
    pending_at          timestamptz,
    pending_frozen      boolean,
    CONSTRAINT snapshot_replica_pkey PRIMARY KEY (replica_id),
    CONSTRAINT snapshot_replica_replica_id_fkey FOREIGN KEY (replica_id)
        REFERENCES roneo.replica ON DELETE CASCADE,
    CONSTRAINT snapshot_replica_shown_chk CHECK (shown IN (1, 2)),
    CONSTRAINT snapshot_replica_max_skip_age_chk CHECK (max_skip_age >= interval '0'),
    CONSTRAINT snapshot_replica_pending_chk
        CHECK ((pending_at IS NULL) = (pending_columns IS NULL))
);
COMMENT ON TABLE roneo.snapshot_replica IS
    'Replicas whose view shows one of two tables, while the other one is loaded.';
COMMENT ON COLUMN roneo.snapshot_replica.shown IS 'Which table the view shows: 1 the first, 2 the second.';
COMMENT ON COLUMN roneo.snapshot_replica.max_skip_age IS
    'A copy older than this is made again although the source looks unchanged: its counters can be late.';
COMMENT ON COLUMN roneo.snapshot_replica.columns IS 'The source''s columns as they were when the shown table was loaded.';
COMMENT ON COLUMN roneo.snapshot_replica.fingerprint IS
    'The state of the source from just before the shown rows were read; NULL: nothing has been loaded.';
COMMENT ON COLUMN roneo.snapshot_replica.pending_frozen IS
    'Whether even a session with an older snapshot sees the rows of that load (COPY FREEZE).';
COMMENT ON COLUMN roneo.snapshot_replica.pending_at IS
    'When the hidden table was loaded for a swap that could not get its lock yet.';
SELECT pg_catalog.pg_extension_config_dump('roneo.snapshot_replica', '');

CREATE TABLE roneo.plain_replica (
    replica_id       integer NOT NULL,
    columns          name[]  NOT NULL,
    sequences        text[],
    truncate_cascade boolean NOT NULL DEFAULT false,
    CONSTRAINT plain_replica_pkey PRIMARY KEY (replica_id),
    CONSTRAINT plain_replica_replica_id_fkey FOREIGN KEY (replica_id)
        REFERENCES roneo.replica ON DELETE CASCADE
);
COMMENT ON TABLE roneo.plain_replica IS 'Replicas that are emptied and loaded again.';
COMMENT ON COLUMN roneo.plain_replica.columns IS 'The columns that the last refresh copied.';
COMMENT ON COLUMN roneo.plain_replica.sequences IS
    'Sequences of the destination to set after a load; NULL: those that its columns use.';
SELECT pg_catalog.pg_extension_config_dump('roneo.plain_replica', '');

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

CREATE TABLE roneo.run (
    run_id        bigint      GENERATED ALWAYS AS IDENTITY,
    replica_id    integer     NOT NULL,
    dest          text        NOT NULL,
    method        text        NOT NULL,
    hand          text        NOT NULL,
    outcome       text        NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at      timestamptz,
    seconds       numeric,
    rows_sent     bigint,
    rows_received bigint,
    inserted      bigint,
    updated       bigint,
    unchanged     bigint,
    ignored       bigint,
    deleted       bigint,
    bytes         bigint,
    sqlstate      text,
    message       text,
    detail        text,
    hint          text,
    warning       text,
    steps         jsonb,
    runner        text,
    has_more      boolean,
    repeats       integer     NOT NULL DEFAULT 1,
    kind          text        NOT NULL DEFAULT 'refresh',
    CONSTRAINT run_pkey PRIMARY KEY (run_id),
    CONSTRAINT run_hand_chk CHECK (hand IN ('sql', 'runner')),
    CONSTRAINT run_outcome_chk
        CHECK (outcome IN ('running', 'ok', 'unchanged', 'deferred', 'failed', 'abandoned')),
    CONSTRAINT run_ended_at_chk CHECK ((outcome = 'running') = (ended_at IS NULL)),
    CONSTRAINT run_repeats_chk CHECK (repeats = 1 OR repeats > 1 AND outcome = 'unchanged'),
    CONSTRAINT run_kind_chk CHECK (kind IN ('refresh', 'repair', 'verify'))
);
CREATE INDEX run_replica_id_started_at_idx ON roneo.run (replica_id, started_at);
COMMENT ON TABLE roneo.run IS
    'The history of refreshes. Kept for the setting history_days, and after its replica is dropped.';
COMMENT ON COLUMN roneo.run.hand IS 'What carried it out: sql (over dblink) or runner (over COPY).';
COMMENT ON COLUMN roneo.run.outcome IS
    'ok, unchanged (nothing to do), deferred (try later), failed, running; abandoned: it was running when its hand was killed.';
COMMENT ON COLUMN roneo.run.steps IS 'What each step did, by number: rows, bytes, seconds.';
COMMENT ON COLUMN roneo.run.has_more IS 'Whether it ended at a batch_limit or in the middle of a repull, with more to read.';
COMMENT ON COLUMN roneo.run.kind IS 'refresh; repair: rows that a verification found to differ were brought in line; verify: a verification or repair that failed, with the refresh it began with.';
COMMENT ON COLUMN roneo.run.runner IS 'Run id, host and process of the runner.';
COMMENT ON COLUMN roneo.run.repeats IS
    'How many refreshes it stands for, one after the other, that found nothing to do: the first began at started_at, and of the last one are ended_at, seconds and runner.';
SELECT pg_catalog.pg_extension_config_dump('roneo.run', '');
SELECT pg_catalog.pg_extension_config_dump('roneo.run_run_id_seq', '');

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

CREATE TABLE roneo.setting (
    setting_name text NOT NULL,
    value        text NOT NULL,
    CONSTRAINT setting_pkey PRIMARY KEY (setting_name),
    CONSTRAINT setting_setting_name_chk CHECK (setting_name IN
        ('history_days', 'lock_timeout_ms', 'lock_attempts', 'connect_timeout_s', 'exact_check_s',
         'late_warning_pct', 'late_critical_pct', 'failures_warning', 'failures_critical', 'copy_mb_warning',
         'copy_s_warning', 'drift_warning_pct', 'held_warning_s', 'jobmon', 'quarantine_after', 'refresh_timeout_s', 'paused_warning_s')),
    -- A lock_timeout of nothing would wait for ever, and no attempt would never get its lock.
    CONSTRAINT setting_value_chk CHECK (
        value ~ CASE WHEN setting_name IN ('lock_timeout_ms', 'lock_attempts', 'connect_timeout_s', 'failures_warning', 'failures_critical')
                     THEN '^0*[1-9][0-9]{0,8}$' WHEN setting_name = 'jobmon' THEN '^[01]$' ELSE '^[0-9]{1,9}$' END)
);
COMMENT ON TABLE roneo.setting IS
    'Settings that differ from their defaults; roneo.settings lists them all. history_days: how long runs are kept. lock_timeout_ms, lock_attempts: how a patient step waits. connect_timeout_s: for a source. exact_check_s: how long counters are believed. late_, failures_, copy_, drift_, held_, paused_: when roneo.check gives alarm. jobmon: whether pg_jobmon hears of runs. quarantine_after: how many lasting failures in a row. refresh_timeout_s: how long a refresh may take.';
SELECT pg_catalog.pg_extension_config_dump('roneo.setting', '');

CREATE TABLE roneo.grantee (
    role_name name NOT NULL,
    dest_owner name NOT NULL,
    CONSTRAINT grantee_pkey PRIMARY KEY (role_name, dest_owner)
);
COMMENT ON TABLE roneo.grantee IS
    'Who was given what by grant_refresh, so that an update can give it again after a function was replaced.';
SELECT pg_catalog.pg_extension_config_dump('roneo.grantee', '');

CREATE TYPE roneo.ended AS (
    replica_id integer,
    answer     jsonb,
    result     jsonb
);
COMMENT ON TYPE roneo.ended IS 'A refresh whose steps were all reported, for its method to store the position of.';

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
-- Sources: a foreign server and its user mappings keep the connection and the secret.

CREATE OR REPLACE FUNCTION roneo.create_source(
    name            text,
    conninfo        text DEFAULT NULL,
    username        text DEFAULT NULL,
    password        text DEFAULT NULL,
    for_role        text DEFAULT NULL,
    server          text DEFAULT NULL,
    source_encoding text DEFAULT NULL
)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    secret_options text[] := ARRAY['user', 'password', 'sslpassword'];
    options        jsonb  := '{}';
    used_server    name;
BEGIN
    PERFORM roneo.refuse_source_arguments(name, conninfo, server, source_encoding);
    IF conninfo IS NOT NULL THEN
        options := roneo.parse_conninfo(conninfo);
    END IF;
    options := options || jsonb_strip_nulls(
        jsonb_build_object('user', nullif(username, ''), 'password', nullif(password, '')));

    IF server IS NULL THEN
        used_server := roneo.run_create_server(name, options - secret_options);
    ELSE
        used_server := roneo.usable_server(server);
    END IF;
    IF server IS NULL OR options <> '{}' THEN
        PERFORM roneo.run_create_mapping(used_server, coalesce(for_role, current_user), (
            SELECT coalesce(jsonb_object_agg(o.key, o.value), '{}')
            FROM jsonb_each(options) AS o WHERE o.key = ANY (secret_options)));
    END IF;
    INSERT INTO roneo.source (source_name, server_name, owns_server, source_encoding)
    VALUES (name, used_server, server IS NULL,
            pg_encoding_to_char(pg_char_to_encoding(create_source.source_encoding)));
END;
$$;
COMMENT ON FUNCTION roneo.create_source(text, text, text, text, text, text, text) IS
    'Registers a source: makes a foreign server and a user mapping from a conninfo or URI, or adopts an existing server.';

CREATE OR REPLACE FUNCTION roneo.drop_source(name text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dropped roneo.source := roneo.require_source(name);
    in_use  text;
    mapped  record;
BEGIN
    SELECT string_agg(format('%I.%I', r.dest_schema, r.dest_name), ', '
                      ORDER BY r.dest_schema, r.dest_name)
    INTO in_use
    FROM roneo.replica AS r WHERE r.source_id = dropped.source_id;
    IF in_use IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('source %s is in use', quote_ident(name)),
            DETAIL  = format('Its replicas are: %s.', in_use),
            HINT    = 'roneo.drop_replica(dest) takes them away, one by one.';
    END IF;

    DELETE FROM roneo.source AS s WHERE s.source_id = dropped.source_id;
    IF NOT dropped.owns_server THEN
        RETURN;
    END IF;
    -- Another source may have adopted the server that this one made.
    UPDATE roneo.source AS s SET owns_server = true WHERE s.server_name = dropped.server_name;
    IF FOUND THEN
        RETURN;
    END IF;
    FOR mapped IN
        SELECT CASE WHEN m.umuser = 0 THEN 'PUBLIC' ELSE quote_ident(m.usename) END AS role_text
        FROM pg_user_mappings AS m WHERE m.srvname = dropped.server_name
    LOOP
        EXECUTE format('DROP USER MAPPING FOR %s SERVER %I', mapped.role_text, dropped.server_name);
    END LOOP;
    EXECUTE format('DROP SERVER IF EXISTS %I', dropped.server_name);
END;
$$;
COMMENT ON FUNCTION roneo.drop_source(text) IS
    'Forgets a source that no replica uses; drops its foreign server when create_source made it.';

CREATE OR REPLACE FUNCTION roneo.require_source(name text)
RETURNS roneo.source LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_source roneo.source;
    existing     text;
BEGIN
    SELECT s.* INTO found_source FROM roneo.source AS s WHERE s.source_name = name;
    IF NOT FOUND THEN
        SELECT string_agg(quote_ident(s.source_name), ', ' ORDER BY s.source_name)
        INTO existing FROM roneo.source AS s;
        RAISE EXCEPTION USING
            ERRCODE = 'RO003',
            MESSAGE = format('there is no source %s', coalesce(quote_ident(name), 'NULL')),
            HINT    = CASE WHEN existing IS NULL
                      THEN 'There is none yet: roneo.create_source makes one.'
                      ELSE format('The sources are: %s.', existing) END;
    END IF;
    RETURN found_source;
END;
$$;
COMMENT ON FUNCTION roneo.require_source(text) IS
    'The row of a source, or an error that lists those that exist.';

CREATE OR REPLACE FUNCTION roneo.refuse_source_arguments(
    name text, conninfo text, server text, source_encoding text
)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF coalesce(name, '') = '' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO006',
            MESSAGE = 'a source needs a name',
            HINT    = 'Any text: you give it to create a replica, and status shows it.';
    ELSIF EXISTS (SELECT FROM roneo.source AS s WHERE s.source_name = name) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'duplicate_object',
            MESSAGE = format('source %s already exists', quote_ident(name)),
            HINT    = 'To change its connection, use ALTER SERVER and ALTER USER MAPPING; to begin anew, roneo.drop_source.';
    ELSIF (conninfo IS NULL) = (server IS NULL) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = 'a source is made from either conninfo or server',
            HINT    = 'Give a connection string or URI as conninfo, or the name of an existing foreign server as server.';
    ELSIF pg_char_to_encoding(source_encoding) < 0 THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('%s is not an encoding', quote_literal(source_encoding)),
            HINT    = 'Use a name of PostgreSQL, such as LATIN1, WIN1252 or UTF8.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.refuse_source_arguments(text, text, text, text) IS
    'Raises an error where the arguments of create_source cannot make a source.';

-- Connection strings. Their errors name places, never what stands there: it may be the password.

CREATE OR REPLACE FUNCTION roneo.bad_conninfo(problem text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'RO007',
        MESSAGE = format('conninfo cannot be read: %s', problem),
        HINT    = 'Write it as for psql: ''host=db1 port=5432 dbname=app user=reader'' or ''postgresql://reader@db1:5432/app''.';
END;
$$;
COMMENT ON FUNCTION roneo.bad_conninfo(text) IS
    'Raises the error for a connection string that cannot be read.';

CREATE OR REPLACE FUNCTION roneo.parse_conninfo(conninfo text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    options jsonb;
BEGIN
    IF conninfo ~ '^postgres(ql)?://' THEN
        options := roneo.parse_uri(conninfo);
    ELSE
        options := roneo.parse_keywords(conninfo);
    END IF;
    IF options ?| ARRAY['client_encoding', 'replication'] THEN
        PERFORM roneo.bad_conninfo('client_encoding and replication are set by roneo itself');
    END IF;
    -- libpq takes an empty value for one that was not given.
    RETURN (SELECT coalesce(jsonb_object_agg(o.key, o.value), '{}')
            FROM jsonb_each_text(options) AS o WHERE o.value <> '');
END;
$$;
COMMENT ON FUNCTION roneo.parse_conninfo(text) IS
    'The options of a connection string as libpq reads it, be it keywords and values or a URI.';

CREATE OR REPLACE FUNCTION roneo.parse_keywords(conninfo text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    options jsonb := '{}';
    rest    text  := conninfo;
    token   text[];
    value   text;
BEGIN
    WHILE rest ~ '\S' LOOP
        token := regexp_match(rest,
            '^(\s*([^=\s]+)\s*=\s*(''(?:[^''\\]|\\.)*''|(?![''\s])(?:[^\s\\]|\\.|\\$)*))');
        IF token IS NULL THEN
            PERFORM roneo.bad_conninfo(format('no option with "=" and a complete value at character %s',
                length(conninfo) - length(ltrim(rest, E' \t\n\r\f\v')) + 1));
        END IF;
        value := token[3];
        IF left(value, 1) = '''' THEN
            value := substr(value, 2, length(value) - 2);
        END IF;
        value   := regexp_replace(value, '\\(.|$)', '\1', 'g');
        options := jsonb_set(options, ARRAY[token[2]], to_jsonb(value));
        rest    := substr(rest, length(token[1]) + 1);
    END LOOP;
    RETURN options;
END;
$$;
COMMENT ON FUNCTION roneo.parse_keywords(text) IS
    'The options of a connection string of keywords and values.';

CREATE OR REPLACE FUNCTION roneo.parse_uri(uri text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- user and password, hosts with ports, database, parameters
    part       text[] := regexp_match(uri,
        '^postgres(?:ql)?://(?:([^:@/]*)(?::([^@/]*))?@)?([^/?]*)(?:/([^?]*))?(?:\?(.*))?$');
    options    jsonb;
    host_list  text;
    port_list  text;
    parameter  text;
BEGIN
    IF part IS NULL THEN
        PERFORM roneo.bad_conninfo('a URI is postgresql://user@host:port/database?option=value');
    END IF;
    IF EXISTS (SELECT FROM regexp_split_to_table(part[3], ',') AS h
               WHERE h !~ '^(\[[^\[\]]+\]|[^:\[\]]*)(:[^:]*)?$') THEN
        PERFORM roneo.bad_conninfo('a host in the URI is not of the form name:port or [IPv6]:port');
    END IF;
    SELECT string_agg(btrim((regexp_match(h, '^(\[[^]]+\]|[^:]*)'))[1], '[]'), ',' ORDER BY n),
           string_agg(coalesce((regexp_match(h, ':([^:\]]*)$'))[1], ''), ',' ORDER BY n)
    INTO host_list, port_list
    FROM regexp_split_to_table(part[3], ',') WITH ORDINALITY AS u(h, n);
    options := jsonb_build_object(
        'user', roneo.decode_percent(part[1]), 'password', roneo.decode_percent(part[2]),
        'host', roneo.decode_percent(host_list), 'dbname', roneo.decode_percent(part[4]),
        'port', nullif(btrim(port_list, ','), ''));
    IF options ->> 'port' IS NOT NULL THEN
        options := jsonb_set(options, '{port}', to_jsonb(roneo.decode_percent(port_list)));
    END IF;

    FOR parameter IN
        SELECT p
        FROM regexp_split_to_table(nullif(rtrim(part[5], '&'), ''), '&') WITH ORDINALITY AS u(p, n)
        ORDER BY n
    LOOP
        IF parameter !~ '^[^=]+=[^=]*$' THEN
            PERFORM roneo.bad_conninfo('a parameter of the URI is not of the form option=value');
        ELSIF parameter = 'ssl=true' THEN
            parameter := 'sslmode=require';
        END IF;
        options := jsonb_set(options, ARRAY[roneo.decode_percent(split_part(parameter, '=', 1))],
                             to_jsonb(roneo.decode_percent(split_part(parameter, '=', 2))));
    END LOOP;
    RETURN jsonb_strip_nulls(options);
END;
$$;
COMMENT ON FUNCTION roneo.parse_uri(text) IS 'The options of a connection URI.';

CREATE OR REPLACE FUNCTION roneo.decode_percent(encoded text)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF encoded ~ '%(?![0-9A-Fa-f]{2})|%00' THEN
        PERFORM roneo.bad_conninfo('a "%" in the URI is not followed by two hexadecimal digits (or by 00)');
    END IF;
    RETURN (
        SELECT coalesce(convert_from(string_agg(
            CASE WHEN left(p[1], 1) = '%' THEN decode(substr(p[1], 2), 'hex')
                 ELSE convert_to(p[1], getdatabaseencoding()) END,
            ''::bytea ORDER BY n), getdatabaseencoding()), '')
        FROM regexp_matches(encoded, '%..|[^%]+', 'g') WITH ORDINALITY AS u(p, n));
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    PERFORM roneo.bad_conninfo(format('bytes in the URI are not valid in %s', getdatabaseencoding()));
END;
$$;
COMMENT ON FUNCTION roneo.decode_percent(text) IS 'A part of a URI without its percent signs.';

-- Servers and mappings.

CREATE OR REPLACE FUNCTION roneo.option_list(options jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE WHEN count(*) = 0 THEN ''
           ELSE format('OPTIONS (%s)',
               string_agg(format('%I %L', o.key, o.value), ', ' ORDER BY o.key)) END
    FROM jsonb_each_text(options) AS o
);
COMMENT ON FUNCTION roneo.option_list(jsonb) IS
    'The OPTIONS clause for a server or a user mapping.';

CREATE OR REPLACE FUNCTION roneo.run_create_server(source_name text, options jsonb)
RETURNS name LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made_server name := roneo.fit_name(concat('roneo_', source_name), '');
    wrapper     name;
    usable      boolean;
    problem     text;
    advice      text;
BEGIN
    SELECT w.fdwname, has_foreign_data_wrapper_privilege(w.oid, 'USAGE') INTO wrapper, usable
    FROM pg_foreign_data_wrapper AS w WHERE w.fdwname IN ('dblink_fdw', 'postgres_fdw')
    ORDER BY has_foreign_data_wrapper_privilege(w.oid, 'USAGE') DESC, w.fdwname LIMIT 1;
    IF wrapper IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO011',
            MESSAGE = 'there is no foreign-data wrapper to keep the connection in',
            HINT    = 'Let a superuser run CREATE EXTENSION dblink; in this database.';
    ELSIF NOT usable THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I may not make servers of foreign-data wrapper %I',
                             current_user, wrapper),
            HINT    = format('GRANT USAGE ON FOREIGN DATA WRAPPER %I TO %I;',
                             wrapper, current_user);
    ELSIF EXISTS (SELECT FROM pg_foreign_server AS s WHERE s.srvname = made_server) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'duplicate_object',
            MESSAGE = format('foreign server %I already exists', made_server),
            HINT    = format('To use it, give server => %L in place of conninfo.', made_server);
    END IF;
    BEGIN
        EXECUTE format('CREATE SERVER %I FOREIGN DATA WRAPPER %I %s',
                       made_server, wrapper, roneo.option_list(options));
    EXCEPTION WHEN fdw_error OR fdw_invalid_option_name OR invalid_parameter_value
                   OR syntax_error THEN
        -- The context of the error would show all options, a mistyped password among them.
        GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('conninfo cannot be used: %s', problem),
            HINT    = coalesce(nullif(advice, ''), 'Its options are those of libpq.');
    END;
    RETURN made_server;
END;
$$;
COMMENT ON FUNCTION roneo.run_create_server(text, jsonb) IS
    'Makes the foreign server of a new source, and returns its name.';

CREATE OR REPLACE FUNCTION roneo.run_create_mapping(server_name name, role_name text, options jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    code    text;
    problem text;
BEGIN
    IF role_name <> 'public'
       AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = role_name) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'undefined_object',
            MESSAGE = format('role %s does not exist', quote_ident(role_name)),
            HINT    = 'for_role is the role on this server that refreshes; the one on the source is username.';
    END IF;
    EXECUTE format('CREATE USER MAPPING FOR %s SERVER %I %s',
                   CASE role_name WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(role_name) END,
                   server_name, roneo.option_list(options));
EXCEPTION WHEN OTHERS THEN
    -- Not RAISE alone: the context of the error would show the statement with its password.
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, problem = MESSAGE_TEXT;
    RAISE EXCEPTION USING
        ERRCODE = code,
        MESSAGE = problem,
        DETAIL  = format('It was to be the user mapping of role %s for server %I.',
                         role_name, server_name),
        HINT    = 'ALTER USER MAPPING changes one that exists; the owner of a server makes mappings for others.';
END;
$$;
COMMENT ON FUNCTION roneo.run_create_mapping(name, text, jsonb) IS
    'Makes a user mapping, and keeps its password out of errors.';

CREATE OR REPLACE FUNCTION roneo.usable_server(server text)
RETURNS name LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_server record;
BEGIN
    SELECT s.srvname, w.fdwname, v.proname AS validator,
           has_server_privilege(s.oid, 'USAGE') AS usable
    INTO found_server
    FROM pg_foreign_server AS s
    JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw
    LEFT JOIN pg_proc AS v ON v.oid = w.fdwvalidator
    WHERE s.srvname = server;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'undefined_object',
            MESSAGE = format('foreign server %s does not exist', quote_ident(server)),
            HINT    = 'SELECT srvname FROM pg_foreign_server lists those that do; conninfo in place of server makes one.';
    ELSIF coalesce(found_server.validator !~ '^(dblink|postgres|postgresql)_fdw_validator$', true) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('foreign server %I does not lead to PostgreSQL', server),
            DETAIL  = format('Its foreign-data wrapper is %I.', found_server.fdwname),
            HINT    = 'Use a server of dblink_fdw or postgres_fdw.';
    ELSIF NOT found_server.usable THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I may not use foreign server %I', current_user, server),
            HINT    = format('GRANT USAGE ON FOREIGN SERVER %I TO %I;', server, current_user);
    END IF;
    RETURN found_server.srvname;
END;
$$;
COMMENT ON FUNCTION roneo.usable_server(text) IS
    'The name of a foreign server that can be a source, or an error that says why it cannot.';

-- An empty mapping and a hidden one both have NULL options in pg_user_mappings; its rule tells which.
CREATE OR REPLACE FUNCTION roneo.server_mapping(
    wanted_server name, role_name name,
    OUT mapped_role name, OUT visible boolean, OUT options text[]
)
RETURNS SETOF record LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT m.usename,
           r.rolsuper OR pg_has_role(r.oid, s.srvowner, 'USAGE')
               OR (m.umuser <> 0 AND has_server_privilege(r.oid, s.oid, 'USAGE')),
           m.umoptions
    FROM pg_user_mappings AS m
    JOIN pg_foreign_server AS s ON s.oid = m.srvid
    JOIN pg_roles AS r ON r.rolname = role_name
    WHERE s.srvname = wanted_server AND m.umuser IN (0, r.oid)
    ORDER BY m.umuser = 0
    LIMIT 1;
END;
COMMENT ON FUNCTION roneo.server_mapping(name, name) IS
    'The user mapping that a role connects with (its own, else that of PUBLIC), and whether that role may read it.';

CREATE OR REPLACE FUNCTION roneo.source_conninfo(name text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted  roneo.source := roneo.require_source(name);
    mapping record;
BEGIN
    SELECT m.* INTO mapping FROM roneo.server_mapping(wanted.server_name, current_user) AS m;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I has no user mapping for the server of source %s',
                             current_user, quote_ident(name)),
            HINT    = format('CREATE USER MAPPING FOR %I SERVER %I OPTIONS (user ''…'', password ''…''); or give the roneo program --source-conninfo.',
                             current_user, wanted.server_name);
    ELSIF NOT mapping.visible THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I may not read the user mapping of %I for source %s',
                             current_user, mapping.mapped_role, quote_ident(name)),
            HINT    = format('Make a user mapping for %1$I and GRANT USAGE ON FOREIGN SERVER %2$I TO %1$I; or give the roneo program --source-conninfo.',
                             current_user, wanted.server_name);
    END IF;
    RETURN roneo.conninfo_text(wanted.server_name, mapping.options);
END;
$$;
COMMENT ON FUNCTION roneo.source_conninfo(text) IS
    'How the current role connects to a source: a connection string with everything libpq needs, the password among it.';

-- What dblink_fdw and postgres_fdw add of their own (fetch_size, extensions) libpq would refuse.
-- application_name and the encoding are set by whoever connects.
CREATE OR REPLACE FUNCTION roneo.conninfo_text(wanted_server name, mapping_options text[])
RETURNS text LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH given AS (
        SELECT o.option_name, o.option_value
        FROM pg_foreign_server AS s, pg_options_to_table(s.srvoptions) AS o
        WHERE s.srvname = wanted_server
        UNION ALL
        SELECT o.option_name, o.option_value FROM pg_options_to_table(mapping_options) AS o
    ), complete AS (
        SELECT g.option_name, g.option_value FROM given AS g
        WHERE g.option_name = ANY (string_to_array(
            'host hostaddr port dbname user password passfile require_auth channel_binding '
            'connect_timeout options keepalives keepalives_idle keepalives_interval keepalives_count '
            'tcp_user_timeout gssencmode sslmode sslnegotiation sslcompression sslcert sslkey '
            'sslpassword sslcertmode sslrootcert sslcrl sslcrldir sslsni requirepeer '
            'ssl_min_protocol_version ssl_max_protocol_version min_protocol_version '
            'max_protocol_version krbsrvname gsslib gssdelegation service target_session_attrs '
            'load_balance_hosts', ' '))
        UNION ALL
        SELECT d.option_name, d.option_value
        FROM (VALUES
            ('connect_timeout', coalesce((SELECT v.value FROM roneo.setting AS v
                                          WHERE v.setting_name = 'connect_timeout_s'), '10')),
            ('keepalives_idle', '30'), ('keepalives_interval', '10'), ('keepalives_count', '3'),
            ('tcp_user_timeout', '60000')) AS d (option_name, option_value)
        WHERE d.option_name NOT IN (SELECT g.option_name FROM given AS g)
    )
    SELECT string_agg(format('%s=''%s''', c.option_name,
        regexp_replace(c.option_value, '([''\\])', '\\\1', 'g')), ' ' ORDER BY c.option_name)
    FROM complete AS c;
END;
COMMENT ON FUNCTION roneo.conninfo_text(name, text[]) IS
    'The options of a server and a mapping as one connection string, with the timeouts that they lack.';
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
-- What a table looks like, asked in SQL that runs alike on a source and here: any role, PostgreSQL
-- 13 to 18, search_path pg_catalog (which makes PostgreSQL qualify the names of users' types).
-- A parsed body needs what it calls, so here and below the parts come before the whole.

CREATE OR REPLACE FUNCTION roneo.type_ddl_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$
    CASE
        WHEN e.oid < 16384 OR m.extension IS NOT NULL THEN NULL
        WHEN e.typtype = 'e' THEN (
            SELECT format('CREATE TYPE %s AS ENUM (%s);', format_type(e.oid, NULL),
                          string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder))
            FROM pg_enum AS l
            WHERE l.enumtypid = e.oid)
        WHEN e.typtype = 'd' THEN (
            SELECT format('CREATE DOMAIN %s AS %s%s%s;', format_type(e.oid, NULL),
                          format_type(e.typbasetype, e.typtypmod),
                          CASE WHEN e.typnotnull THEN ' NOT NULL' END,
                          string_agg(format(' CONSTRAINT %I CHECK (%s)', k.conname,
                                            pg_get_expr(k.conbin, 0)), '' ORDER BY k.conname))
            FROM pg_constraint AS k
            WHERE k.contypid = e.oid AND k.contype = 'c')
        WHEN e.typtype = 'c' THEN (
            SELECT format('CREATE TYPE %s AS (%s);', format_type(e.oid, NULL),
                          string_agg(format('%I %s', f.attname,
                                            format_type(f.atttypid, f.atttypmod)),
                                     ', ' ORDER BY f.attnum))
            FROM pg_attribute AS f
            WHERE f.attrelid = e.typrelid AND f.attnum > 0 AND NOT f.attisdropped)
    END$query$;
COMMENT ON FUNCTION roneo.type_ddl_query() IS
    'A SQL expression for the statement that makes a user''s type e (its extension m): part of '
    'types_query.';

-- An array is described by its element. Its binary form carries the element's oid, which for users'
-- types differs between the sides; so do the oids that are the binary form of the reg types. An
-- empty int2vector has a binary form that PostgreSQL itself does not accept.
CREATE OR REPLACE FUNCTION roneo.types_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
    WITH RECURSIVE used AS (
        SELECT DISTINCT a.atttypid AS type
        FROM pg_attribute AS a
        WHERE a.attrelid = %1$s AND a.attnum > 0 AND NOT a.attisdropped
    ), unwrapped AS (
        SELECT type, type AS base FROM used
        UNION ALL
        SELECT u.type, d.typbasetype
        FROM unwrapped AS u
        JOIN pg_type AS d ON d.oid = u.base AND d.typtype = 'd'
    ), member AS (
        SELECT d.objid AS type, x.extname AS extension
        FROM pg_depend AS d
        JOIN pg_extension AS x ON x.oid = d.refobjid
        WHERE d.classid = 'pg_type'::regclass
          AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    )
    SELECT t.oid AS type, t.typcollation AS collation, e.oid AS named, b.oid AS base,
           n.nspname AS schema_name, e.typname AS type_name, e.typtype AS kind, m.extension,
           (%2$s) AS ddl,
           CASE
               WHEN f.oid <> b.oid OR b.oid < 16384
                   THEN f.oid < 16384 AND f.typtype IN ('b', 'r', 'm') AND f.typsend <> 0
                        AND NOT starts_with(f.typname::text, 'reg')
                        AND f.typname NOT IN ('int2vector', 'oidvector')
               ELSE b.typtype = 'e' OR (b.typname = 'citext' AND EXISTS (
                   SELECT FROM member AS c WHERE c.type = b.oid AND c.extension = 'citext'))
           END AS is_binary
    FROM used AS u
    JOIN pg_type AS t ON t.oid = u.type
    LEFT JOIN pg_type AS item ON item.oid = t.typelem AND item.typarray = t.oid
    JOIN pg_type AS e ON e.oid = coalesce(item.oid, t.oid)
    JOIN pg_namespace AS n ON n.oid = e.typnamespace
    LEFT JOIN member AS m ON m.type = e.oid
    JOIN unwrapped AS w ON w.type = t.oid
    JOIN pg_type AS b ON b.oid = w.base AND b.typtype <> 'd'
    LEFT JOIN pg_type AS base_item ON base_item.oid = b.typelem AND base_item.typarray = b.oid
    JOIN pg_type AS f ON f.oid = coalesce(base_item.oid, b.oid)$query$,
    relation, roneo.type_ddl_query());
COMMENT ON FUNCTION roneo.types_query(text) IS
    'SQL for the types that a table uses, one row each: part of columns_query.';

CREATE OR REPLACE FUNCTION roneo.columns_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'number', a.attnum,
    'name', a.attname,
    'type', format_type(a.atttypid, a.atttypmod),
    'type_bare', format_type(a.atttypid, -1),
    'type_modifier', CASE WHEN t.extension IS NOT NULL THEN substr(
        format_type(t.named, a.atttypmod), length(format_type(t.named, -1)) + 1) END,
    'type_schema', t.schema_name,
    'type_name', t.type_name,
    'type_kind', t.kind,
    'type_array', t.named <> t.type,
    'type_base', format_type(t.base, NULL),
    'type_extension', t.extension,
    'type_ddl', t.ddl,
    'binary', t.is_binary,
    'not_null', a.attnotnull AND unproven.number IS NULL,
    'collation', (
        SELECT format('%%I.%%I', n.nspname, o.collname)
        FROM pg_collation AS o
        JOIN pg_namespace AS n ON n.oid = o.collnamespace
        WHERE o.oid = a.attcollation AND a.attcollation <> t.collation),
    'generated', a.attgenerated,
    'identity', a.attidentity,
    'readable', has_column_privilege(a.attrelid, a.attnum, 'SELECT')) ORDER BY a.attnum), '[]')
FROM pg_attribute AS a
JOIN (%2$s) AS t ON t.type = a.atttypid
LEFT JOIN (
    -- From 18 on a NOT NULL constraint can be NOT VALID, and attnotnull is set all the same.
    SELECT k.conkey[1] AS number
    FROM pg_constraint AS k
    WHERE k.conrelid = %1$s AND k.contype = 'n' AND NOT k.convalidated
) AS unproven ON unproven.number = a.attnum
WHERE a.attrelid = %1$s AND a.attnum > 0 AND NOT a.attisdropped$query$,
    relation, roneo.types_query(relation));
COMMENT ON FUNCTION roneo.columns_query(text) IS
    'SQL for the columns of a table as a JSON array: part of relation_query.';

CREATE OR REPLACE FUNCTION roneo.relation_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
SELECT (
    SELECT jsonb_build_object(
        'oid', c.oid::bigint,
        'schema', n.nspname,
        'name', c.relname,
        'kind', c.relkind,
        'owner', pg_get_userbyid(c.relowner),
        'readable', has_table_privilege(c.oid, 'SELECT'),
        'row_security', row_security_active(c.oid),
        'persistence', c.relpersistence,
        'rows_estimate', c.reltuples::bigint,
        'columns', (%2$s))
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = (%1$s))$query$, relation, roneo.columns_query('c.oid'));
COMMENT ON FUNCTION roneo.relation_query(text) IS
    'SQL that answers with one JSON document describing a table, given as an expression of type '
    'oid; NULL where there is none.';

-- The query's own text is the body: planning it, for each table anew, takes twenty times as long as
-- running it. No literal in it has a line break, two blanks or two dashes.
CREATE OR REPLACE FUNCTION roneo.on_one_line(query text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN regexp_replace(regexp_replace(query, '--[^\n]*', '', 'g'), '\s+', ' ', 'g');
COMMENT ON FUNCTION roneo.on_one_line(text) IS 'A query without its comments and line breaks.';

DO $do$ BEGIN
    EXECUTE format($function$CREATE OR REPLACE FUNCTION roneo.local_relation(relation regclass)
        RETURNS jsonb LANGUAGE plpgsql STABLE STRICT
        SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
        AS %L$function$, format('BEGIN RETURN (%s); END', roneo.on_one_line(roneo.relation_query('relation::oid'))));
END $do$;
COMMENT ON FUNCTION roneo.local_relation(regclass) IS
    'The document of relation_query for a table of this database.';

CREATE OR REPLACE FUNCTION roneo.leaves_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
WITH RECURSIVE tree AS (
    SELECT (%1$s)::oid AS oid
    UNION
    SELECT i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
)
SELECT jsonb_agg(jsonb_build_object(
    'oid', c.oid::bigint,
    'kind', c.relkind,
    'filenode', pg_relation_filenode(c.oid)::bigint,
    'snapshot_filenode', c.relfilenode::bigint,
    'size', CASE WHEN c.relkind IN ('r', 'm') THEN pg_relation_size(c.oid) ELSE 0 END,
    'ins', pg_stat_get_tuples_inserted(c.oid),
    'upd', pg_stat_get_tuples_updated(c.oid),
    'del', pg_stat_get_tuples_deleted(c.oid)) ORDER BY c.oid)
FROM tree AS t
JOIN pg_class AS c ON c.oid = t.oid$query$, relation);
COMMENT ON FUNCTION roneo.leaves_query(text) IS
    'SQL that answers with a JSON array of a table and all that inherit from it: their files, '
    'sizes and change counters.';
-- The indexes of a table, taken apart from the catalogs and never from the text of a definition.

-- Whether an expression's own collation is the index's cannot be seen in the catalogs. A definition
-- without the word has none to repeat; otherwise it is said once too often, which does no harm.
-- An operator class is left out only where it is surely what PostgreSQL would choose.
CREATE OR REPLACE FUNCTION roneo.index_keys_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$
    SELECT jsonb_agg(jsonb_build_object(
        'text', pg_get_indexdef(c.oid, g, false),
        'collation', (
            SELECT format('%I.%I', n.nspname, l.collname)
            FROM pg_collation AS l
            JOIN pg_namespace AS n ON n.oid = l.collnamespace
            WHERE l.oid = i.indcollation[g - 1] AND l.oid IS DISTINCT FROM a.attcollation
              AND strpos(pg_get_indexdef(c.oid), ' COLLATE ') > 0),
        'opclass', (
            SELECT format('%I.%I', n.nspname, o.opcname)
            FROM pg_namespace AS n
            WHERE n.oid = o.opcnamespace AND (o.opcdefault AND x.attoptions IS NULL AND (
                o.opcintype = t.oid
                OR (o.opcintype = 'text'::regtype AND t.oid = 'varchar'::regtype)
                OR (o.opcintype IN (SELECT p.oid FROM pg_type AS p WHERE p.typtype = 'p')
                    AND t.oid NOT IN (
                        SELECT rival.opcintype
                        FROM pg_opclass AS rival
                        WHERE rival.opcmethod = o.opcmethod AND rival.opcdefault)))
            ) IS NOT TRUE),
        'opclass_options', coalesce(to_jsonb(x.attoptions), '[]'),
        'desc', i.indoption[g - 1] & 1 > 0,
        'nulls_first', i.indoption[g - 1] & 2 > 0) ORDER BY g)
    FROM generate_series(1, i.indnkeyatts) AS g
    JOIN pg_opclass AS o ON o.oid = i.indclass[g - 1]
    JOIN pg_attribute AS x ON x.attrelid = c.oid AND x.attnum = g
    LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[g - 1]
        AND a.attnum <> 0
    CROSS JOIN LATERAL (
        SELECT CASE WHEN a.attnum IS NOT NULL THEN a.atttypid
                    WHEN o.opckeytype = 0 THEN x.atttypid END) AS t (oid)$query$;
COMMENT ON FUNCTION roneo.index_keys_query() IS
    'SQL for the keys of the index i (its relation c) as a JSON array: part of index_query.';

CREATE OR REPLACE FUNCTION roneo.index_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'name', c.relname,
    'method', m.amname,
    'unique', i.indisunique AND NOT i.indisexclusion,
    'primary', i.indisprimary AND NOT i.indisexclusion,
    'constraint', k.oid IS NOT NULL,
    'deferrable', coalesce(k.condeferrable, false),
    'deferred', coalesce(k.condeferred, false),
    'nulls_not_distinct', coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
    'keys', (%2$s),
    'include', (
        SELECT coalesce(jsonb_agg(pg_get_indexdef(c.oid, g, false) ORDER BY g), '[]')
        FROM generate_series(i.indnkeyatts + 1, i.indnatts::integer) AS g),
    'predicate', pg_get_expr(i.indpred, i.indrelid),
    'with', coalesce(to_jsonb(c.reloptions), '[]'),
    'uses', (
        SELECT coalesce(jsonb_agg(a.attname ORDER BY a.attnum), '[]')
        FROM pg_attribute AS a
        WHERE a.attrelid = i.indrelid AND (a.attnum = ANY (i.indkey) OR a.attnum IN (
            SELECT d.refobjsubid
            FROM pg_depend AS d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
              AND d.refclassid = 'pg_class'::regclass
              AND d.refobjid = i.indrelid AND d.refobjsubid > 0)))
    ) ORDER BY i.indisprimary DESC, c.relname), '[]')
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_am AS m ON m.oid = c.relam
-- From 18 on a key WITHOUT OVERLAPS is an exclusion constraint too.
LEFT JOIN pg_constraint AS k ON k.conindid = c.oid AND k.conrelid = i.indrelid
    AND k.contype IN ('p', 'u') AND NOT i.indisexclusion
WHERE i.indrelid = (%1$s) AND i.indisvalid AND i.indislive
  -- An expression over the whole row takes the row type of that one table.
  AND strpos(concat(i.indexprs, i.indpred), ' :varattno 0 ') = 0$query$,
    relation, roneo.index_keys_query());
COMMENT ON FUNCTION roneo.index_query(text) IS
    'SQL that answers with the valid indexes of a table as one JSON array, the primary key first.';

DO $do$ BEGIN
    EXECUTE format($function$CREATE OR REPLACE FUNCTION roneo.local_indexes(relation regclass)
        RETURNS jsonb LANGUAGE plpgsql STABLE STRICT
        SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
        AS %L$function$, format('BEGIN RETURN (%s); END', roneo.on_one_line(roneo.index_query('relation::oid'))));
END $do$;
COMMENT ON FUNCTION roneo.local_indexes(regclass) IS
    'The document of index_query for a table of this database.';
-- Whether a table has changed, told without looking at a row: by what its server counts.

-- Who writes may be another role than who asks.
CREATE OR REPLACE FUNCTION roneo.track_counts_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$(
    SELECT CASE WHEN pg_catalog.count(*) = 0 THEN pg_catalog.current_setting('track_counts')
                ELSE 'for some roles or databases' END
    FROM pg_catalog.pg_db_role_setting AS s, pg_catalog.unnest(s.setconfig) AS c (line)
    WHERE c.line LIKE 'track_counts=%'
      AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database AS d
                                WHERE d.datname = pg_catalog.current_database())))$query$;
COMMENT ON FUNCTION roneo.track_counts_query() IS
    'A SQL expression for the source: on where the changes of all roles are counted, but for a session that turned that off by itself.';

-- One hash for a table and all that inherits from it: counters, files, sizes, the name and the
-- shape of its columns, and the server with the start of its counting. No state where changes may go
-- uncounted: on a standby, for views and foreign tables, with track_counts off; before PostgreSQL
-- 15, where an idle session can keep its counters for ever.
--
-- Why a state that is read before a snapshot may be kept with what was read under it: a session
-- hands its counters over after its transaction has ended, and so after others could see its rows.
-- Each change that is counted in the state is in the snapshot. One that the snapshot does not have,
-- by a transaction that was open or even prepared at that time, is counted later, and makes the state
-- another one. So do changes that were seen but not counted yet, and those that were rolled back:
-- then it is looked for nothing, which only costs time. Counters never go down but by a reset, and
-- each reset leaves its time.
--
-- What can hide is what is late: an idle session hands over after ten seconds, a procedure that
-- commits again and again when it ends. is_written tells of those that hold a writer's lock now.
-- A table that is locked against everybody has no state: its size could not be asked without waiting.
CREATE OR REPLACE FUNCTION roneo.state_query(asked text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$WITH RECURSIVE tree AS (
    SELECT a.id, a.oid AS root, a.oid FROM (%1$s) AS a (id, oid)
    UNION
    SELECT t.id, t.root, i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
), locked AS MATERIALIZED (
    SELECT l.relation, pg_catalog.bool_or(l.mode = 'AccessExclusiveLock') AS is_closed
    FROM pg_catalog.pg_locks AS l
    WHERE l.locktype = 'relation'
      AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
    GROUP BY l.relation
), server AS MATERIALIZED (
    SELECT (i.identity - 'clock' - 'lsn')::text AS line
    FROM (SELECT %2$s AS identity OFFSET 0) AS i
    WHERE (i.identity ->> 'version')::integer >= 150000 AND i.identity ->> 'in_recovery' = 'false' AND %3$s = 'on'
), leaf AS (
    SELECT t.id, t.root, c.oid, c.relkind, c.relname, c.relnamespace, c.xmin AS written, k.relation IS NOT NULL AS is_written,
           pg_catalog.pg_relation_filenode(c.oid) AS file,
           CASE WHEN k.is_closed IS NOT TRUE AND c.relkind = 'r' THEN pg_catalog.pg_relation_size(c.oid) END AS size
    FROM tree AS t
    JOIN pg_catalog.pg_class AS c ON c.oid = t.oid
    LEFT JOIN locked AS k ON k.relation = c.oid
)
SELECT l.id, pg_catalog.bool_or(l.is_written) AS is_written,
       CASE WHEN pg_catalog.bool_and(l.relkind = 'p' OR l.relkind = 'r' AND l.file > 0 AND l.size IS NOT NULL)
            THEN pg_catalog.md5(pg_catalog.concat(s.line, pg_catalog.string_agg(pg_catalog.concat_ws(',',
                l.oid, l.relkind, l.file, l.size, pg_catalog.pg_stat_get_tuples_inserted(l.oid),
                pg_catalog.pg_stat_get_tuples_updated(l.oid), pg_catalog.pg_stat_get_tuples_deleted(l.oid),
                CASE WHEN l.oid = l.root THEN (
                    SELECT pg_catalog.concat_ws(',', n.nspname, l.relname, l.written, pg_catalog.string_agg(a.xmin::text, ',' ORDER BY a.attnum))
                    FROM pg_catalog.pg_namespace AS n
                    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = l.oid AND a.attnum > 0
                    WHERE n.oid = l.relnamespace
                    GROUP BY n.nspname) END), ';' ORDER BY l.oid)))::uuid END AS state
FROM leaf AS l CROSS JOIN server AS s
GROUP BY l.id, s.line$query$, asked, roneo.identity_query(), roneo.track_counts_query());
COMMENT ON FUNCTION roneo.state_query(text) IS
    'SQL for the states of many tables at once, given as a query of (id, oid): a row each, with the state, NULL where changes may go uncounted, and whether somebody holds a writer''s lock now. No row: no such table, or a server that does not count them all.';

CREATE OR REPLACE FUNCTION roneo.state_of(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(SELECT roneo_state.state FROM (%s) AS roneo_state)',
              roneo.state_query(format('SELECT 0, (%s)::pg_catalog.oid', relation)));
COMMENT ON FUNCTION roneo.state_of(text) IS
    'A SQL expression for the state of one table, given as an expression of type oid.';
-- Columns of the source, matched with what this database has, and lists of names.

CREATE OR REPLACE FUNCTION roneo.local_type(col jsonb)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_type text;
    extension  text := col ->> 'type_extension';
BEGIN
    IF to_regtype(col ->> 'type') IS NOT NULL THEN
        RETURN col ->> 'type';
    END IF;
    -- The same extension can be in another schema here.
    SELECT format('%I.%I%s%s', n.nspname, t.typname, col ->> 'type_modifier',
                  CASE WHEN (col ->> 'type_array')::boolean THEN '[]' END)
    INTO found_type
    FROM pg_extension AS x
    JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid
        AND d.classid = 'pg_type'::regclass AND d.deptype = 'e'
    JOIN pg_type AS t ON t.oid = d.objid
    JOIN pg_namespace AS n ON n.oid = t.typnamespace
    WHERE x.extname = extension AND t.typname = col ->> 'type_name';
    IF to_regtype(found_type) IS NOT NULL THEN
        RETURN found_type;
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'RO015',
        MESSAGE = format('type %s of column "%s" does not exist here',
            coalesce(format('%I.%I', col ->> 'type_schema', col ->> 'type_name'), col ->> 'type'),
            col ->> 'name'),
        HINT = coalesce(
            col ->> 'type_ddl',
            format(CASE WHEN extension IS NOT NULL THEN 'CREATE EXTENSION %I;' END, extension),
            'Create the type here, or leave the column out with the argument columns.');
END;
$$;
COMMENT ON FUNCTION roneo.local_type(jsonb) IS
    'The type that a column of the source gets in this database.';

-- A value is cast to a built-in type without its length: an explicit cast to varchar(10) cuts,
-- where the destination's own column says that the value is too long.
CREATE OR REPLACE FUNCTION roneo.pair_columns(source_columns jsonb, dest_columns jsonb)
RETURNS TABLE ("position" integer, name name, source_type text, cast_type text, dest_type text,
               is_binary boolean, fetch_type text)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    WITH pair AS (
        SELECT s.nr, s.col ->> 'name' AS name, s.col AS sent, d.col AS kept,
               coalesce(d.col ->> 'type_bare', d.col ->> 'type') AS kept_type,
               d.col ->> 'type_schema' = 'pg_catalog' AND d.col ->> 'type_extension' IS NULL
                   AS built_in
        FROM jsonb_array_elements(source_columns) WITH ORDINALITY AS s(col, nr)
        JOIN jsonb_array_elements(dest_columns) AS d(col) ON d.col ->> 'name' = s.col ->> 'name'
        WHERE coalesce(d.col ->> 'generated', '') = ''
    )
    SELECT row_number() OVER (ORDER BY p.nr)::integer,
           p.name::name,
           p.sent ->> 'type',
           CASE WHEN p.built_in THEN p.kept_type ELSE p.sent ->> 'type' END,
           p.kept ->> 'type',
           coalesce((p.kept ->> 'binary')::boolean AND (p.built_in OR (
               (p.sent ->> 'binary')::boolean AND p.sent ->> 'type' = p.kept ->> 'type'
               AND p.sent ->> 'type_base' IS NOT DISTINCT FROM p.kept ->> 'type_base')), false),
           CASE WHEN p.built_in THEN p.kept_type ELSE p.kept ->> 'type' END
    FROM pair AS p
    ORDER BY p.nr;
END;
COMMENT ON FUNCTION roneo.pair_columns(jsonb, jsonb) IS
    'The columns that rows are copied between, in the source''s order: what each is cast to on '
    'the source, and whether its values can travel in binary form.';

CREATE OR REPLACE FUNCTION roneo.column_list(names name[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(string_agg(quote_ident(u.name), ', ' ORDER BY u.position), '')
    FROM unnest(names) WITH ORDINALITY AS u(name, position)
);
COMMENT ON FUNCTION roneo.column_list(name[]) IS 'Names, quoted, with commas between them.';

CREATE OR REPLACE FUNCTION roneo.missing_columns(wanted text[], present text[])
RETURNS SETOF text LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT unnest(wanted) EXCEPT SELECT unnest(present);
END;
COMMENT ON FUNCTION roneo.missing_columns(text[], text[]) IS
    'The names that are wanted and not present.';

CREATE OR REPLACE FUNCTION roneo.fit_name(base text, suffix text)
RETURNS name LANGUAGE sql STABLE
RETURN (
    SELECT concat(left(base, n), suffix)::name
    FROM generate_series(0, least(char_length(base), 63)) AS n
    WHERE octet_length(left(base, n)) + octet_length(suffix)
        <= current_setting('max_identifier_length')::integer
    ORDER BY n DESC
    LIMIT 1
);
COMMENT ON FUNCTION roneo.fit_name(text, text) IS
    'A name with a suffix, the name shortened by whole characters until both fit the bytes of an '
    'identifier.';

CREATE OR REPLACE FUNCTION roneo.parse_name(input text, default_schema name,
                                            OUT schema name, OUT name name)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts text[];
    most  integer := current_setting('max_identifier_length')::integer;
BEGIN
    BEGIN
        parts := parse_ident(input);
    EXCEPTION WHEN invalid_parameter_value THEN
        -- Reported below, with the code and the hint of all bad names.
        parts := NULL;
    END;
    IF parts IS NULL OR cardinality(parts) > 2 THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO006',
            MESSAGE = format('"%s" is not the name of a table', input),
            HINT = 'Write schema.table, as in SQL. Names with capitals, dots or spaces need double '
                'quotes: ''"Odd Name"."T.x"''.';
    END IF;
    IF EXISTS (SELECT FROM unnest(parts) AS part WHERE octet_length(part) > most) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO006',
            MESSAGE = format('name %s is too long', input),
            HINT = format('A name has at most %s bytes; letters outside ASCII take two or more.',
                          most);
    END IF;
    name := parts[cardinality(parts)]::name;
    schema := CASE cardinality(parts) WHEN 2 THEN parts[1]::name ELSE default_schema END;
END;
$$;
COMMENT ON FUNCTION roneo.parse_name(text, name) IS
    'The schema and name that a text names as SQL would, without cutting either.';
-- Statements that make, index and reshape the table on the destination.

CREATE OR REPLACE FUNCTION roneo.clause(word text, body text)
RETURNS text LANGUAGE sql IMMUTABLE STRICT
RETURN format('%s %s', word, body);
COMMENT ON FUNCTION roneo.clause(text, text) IS
    'A clause of a statement: a keyword and what follows it; NULL without the latter.';

CREATE OR REPLACE FUNCTION roneo.options_clause(options jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT format('(%s)', string_agg(
        format('%I = %L', split_part(o.option, '=', 1),
               substr(o.option, strpos(o.option, '=') + 1)), ', ' ORDER BY o.position))
    FROM jsonb_array_elements_text(options) WITH ORDINALITY AS o(option, position)
    HAVING count(*) > 0
);
COMMENT ON FUNCTION roneo.options_clause(jsonb) IS
    'Options as the catalogs keep them (name=value), in parentheses; NULL for none.';

-- An extension, and so its operator classes, can be in another schema here.
CREATE OR REPLACE FUNCTION roneo.opclass_clause(method text, key jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat_ws(' ',
        CASE WHEN here.n = 1 AND NOT here.same THEN here.opclass ELSE key ->> 'opclass' END,
        roneo.options_clause(key -> 'opclass_options'))
    FROM (
        SELECT count(*) AS n, max(format('%I.%I', n.nspname, o.opcname)) AS opclass,
               coalesce(bool_or(n.nspname = part.names[1]), false) AS same
        FROM (SELECT parse_ident(key ->> 'opclass')) AS part(names)
        JOIN pg_opclass AS o ON o.opcname = part.names[2]
        JOIN pg_am AS m ON m.oid = o.opcmethod AND m.amname = method
        JOIN pg_namespace AS n ON n.oid = o.opcnamespace
    ) AS here
    WHERE key ->> 'opclass' IS NOT NULL
);
COMMENT ON FUNCTION roneo.opclass_clause(text, jsonb) IS
    'The operator class of a key with its options; NULL for the default one.';

CREATE OR REPLACE FUNCTION roneo.nulls_clause(index jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN (index ->> 'nulls_not_distinct')::boolean
             AND current_setting('server_version_num')::integer >= 150000
            THEN 'NULLS NOT DISTINCT' END;
COMMENT ON FUNCTION roneo.nulls_clause(jsonb) IS
    'NULLS NOT DISTINCT where the source''s index says so and this server knows it.';

CREATE OR REPLACE FUNCTION roneo.index_tail(index jsonb, nulls text DEFAULT NULL)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN nullif(concat_ws(' ',
    (
        SELECT format('INCLUDE (%s)', string_agg(u.name, ', ' ORDER BY u.position))
        FROM jsonb_array_elements_text(index -> 'include') WITH ORDINALITY AS u(name, position)
        HAVING count(*) > 0
    ),
    nulls,
    roneo.clause('WITH', roneo.options_clause(index -> 'with'))
), '');
COMMENT ON FUNCTION roneo.index_tail(jsonb, text) IS
    'What follows the keys of an index: included columns and storage parameters.';

CREATE OR REPLACE FUNCTION roneo.is_plain_key(index jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN (index ->> 'constraint')::boolean AND NOT EXISTS (
    SELECT FROM jsonb_array_elements(index -> 'keys') AS k(key)
    WHERE k.key ->> 'collation' IS NOT NULL OR k.key ->> 'opclass' IS NOT NULL
       OR (k.key ->> 'desc')::boolean OR (k.key ->> 'nulls_first')::boolean
);
COMMENT ON FUNCTION roneo.is_plain_key(jsonb) IS
    'Whether an index can be made as a constraint; very old ones can be of a kind that is no '
    'longer allowed.';

CREATE OR REPLACE FUNCTION roneo.key_statement(table_schema name, table_name name, index jsonb,
                                               own_name text)
RETURNS text LANGUAGE sql STABLE
RETURN concat_ws(' ',
    format('ALTER TABLE %I.%I ADD', table_schema, table_name),
    roneo.clause('CONSTRAINT', own_name),
    CASE WHEN (index ->> 'primary')::boolean THEN 'PRIMARY KEY' ELSE 'UNIQUE' END,
    roneo.nulls_clause(index),
    format('(%s)', (
        SELECT string_agg(k.key ->> 'text', ', ' ORDER BY k.position)
        FROM jsonb_array_elements(index -> 'keys') WITH ORDINALITY AS k(key, position))),
    roneo.index_tail(index),
    CASE WHEN (index ->> 'deferrable')::boolean THEN 'DEFERRABLE' END,
    CASE WHEN (index ->> 'deferred')::boolean THEN 'INITIALLY DEFERRED' END
);
COMMENT ON FUNCTION roneo.key_statement(name, name, jsonb, text) IS
    'ALTER TABLE for a primary key or unique constraint of the source.';

CREATE OR REPLACE FUNCTION roneo.index_statement(table_schema name, table_name name, index jsonb,
                                                 own_name text)
RETURNS text LANGUAGE sql STABLE
RETURN concat_ws(' ',
    'CREATE',
    CASE WHEN (index ->> 'unique')::boolean THEN 'UNIQUE' END,
    'INDEX',
    own_name,
    format('ON %I.%I USING %I', table_schema, table_name, index ->> 'method'),
    format('(%s)', (
        SELECT string_agg(concat_ws(' ',
            k.key ->> 'text',
            roneo.clause('COLLATE', k.key ->> 'collation'),
            roneo.opclass_clause(index ->> 'method', k.key),
            CASE WHEN (k.key ->> 'desc')::boolean THEN 'DESC' END,
            CASE WHEN (k.key ->> 'desc')::boolean AND NOT (k.key ->> 'nulls_first')::boolean
                     THEN 'NULLS LAST'
                 WHEN NOT (k.key ->> 'desc')::boolean AND (k.key ->> 'nulls_first')::boolean
                     THEN 'NULLS FIRST'
            END), ', ' ORDER BY k.position)
        FROM jsonb_array_elements(index -> 'keys') WITH ORDINALITY AS k(key, position))),
    roneo.index_tail(index, roneo.nulls_clause(index)),
    roneo.clause('WHERE', index ->> 'predicate')
);
COMMENT ON FUNCTION roneo.index_statement(name, name, jsonb, text) IS
    'CREATE INDEX for an index of the source.';

-- Those with a name of their own first, lest a name that PostgreSQL chooses is one of theirs.
CREATE OR REPLACE FUNCTION roneo.index_statements(table_schema name, table_name name, indexes jsonb,
                                                  columns name[], keep_names boolean)
RETURNS TABLE ("position" bigint, purpose text, statement text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH wanted AS (
        SELECT e.index, e.nr, CASE WHEN keep_names AND to_regclass(format('%I.%I', table_schema, e.index ->> 'name')) IS NULL
                           THEN quote_ident(e.index ->> 'name') END AS own_name
        FROM jsonb_array_elements(indexes) WITH ORDINALITY AS e(index, nr)
        WHERE NOT EXISTS (
            SELECT FROM jsonb_array_elements_text(e.index -> 'uses') AS u(name)
            WHERE u.name <> ALL (columns))
    )
    SELECT row_number() OVER (ORDER BY w.own_name IS NULL, w.nr),
           format('build index %s', w.index ->> 'name'),
           CASE WHEN roneo.is_plain_key(w.index)
               THEN roneo.key_statement(table_schema, table_name, w.index, w.own_name)
               ELSE roneo.index_statement(table_schema, table_name, w.index, w.own_name)
           END
    FROM wanted AS w
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.index_statements(name, name, jsonb, name[], boolean) IS
    'Statements that build the source''s indexes whose columns are all there, under their own '
    'names where those are free.';

CREATE OR REPLACE FUNCTION roneo.drop_index_statements(relation regclass)
RETURNS TABLE ("position" bigint, purpose text, statement text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT row_number() OVER (ORDER BY k.oid IS NULL, i.relname),
           format('drop index %s', i.relname),
           CASE WHEN k.oid IS NULL THEN format('DROP INDEX %I.%I', n.nspname, i.relname)
                ELSE format('ALTER TABLE %I.%I DROP CONSTRAINT %I',
                            n.nspname, t.relname, k.conname)
           END
    FROM pg_index AS x
    JOIN pg_class AS i ON i.oid = x.indexrelid
    JOIN pg_class AS t ON t.oid = x.indrelid
    JOIN pg_namespace AS n ON n.oid = i.relnamespace
    LEFT JOIN pg_constraint AS k ON k.conindid = i.oid AND k.conrelid = t.oid
        AND k.contype IN ('p', 'u', 'x')
    WHERE x.indrelid = relation
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.drop_index_statements(regclass) IS
    'Statements that drop all indexes of a table, those of constraints first.';

CREATE OR REPLACE FUNCTION roneo.column_definition(col jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN concat_ws(' ',
    quote_ident(col ->> 'name'),
    roneo.local_type(col),
    roneo.clause('COLLATE', col ->> 'collation'),
    CASE WHEN (col ->> 'not_null')::boolean THEN 'NOT NULL' END
);
COMMENT ON FUNCTION roneo.column_definition(jsonb) IS
    'A column of the source as CREATE TABLE and ADD COLUMN take it.';

CREATE OR REPLACE FUNCTION roneo.table_statement(table_schema name, table_name name, columns jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN format('CREATE TABLE %I.%I (%s)', table_schema, table_name, (
    SELECT string_agg(roneo.column_definition(e.col), ', ' ORDER BY e.position)
    FROM jsonb_array_elements(columns) WITH ORDINALITY AS e(col, position)
));
COMMENT ON FUNCTION roneo.table_statement(name, name, jsonb) IS
    'CREATE TABLE for columns of the source; generated and identity columns become ordinary ones.';

CREATE OR REPLACE FUNCTION roneo.same_shape(present jsonb, wanted jsonb)
RETURNS boolean LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH here AS (
        SELECT p.col ->> 'name' AS name, p.col ->> 'type' AS type,
               p.col ->> 'collation' AS collation, p.col ->> 'not_null' AS not_null
        FROM jsonb_array_elements(present) AS p(col)
    ), there AS (
        SELECT w.col ->> 'name' AS name, roneo.local_type(w.col) AS type,
               w.col ->> 'collation' AS collation, w.col ->> 'not_null' AS not_null
        FROM jsonb_array_elements(wanted) AS w(col)
    )
    SELECT NOT EXISTS (
        (TABLE here EXCEPT TABLE there) UNION ALL (TABLE there EXCEPT TABLE here)
    );
END;
COMMENT ON FUNCTION roneo.same_shape(jsonb, jsonb) IS
    'Whether columns of this database are as the source''s columns would be made, in any order.';

-- A source column is the same one while its number is; in another table only its name tells.
CREATE OR REPLACE FUNCTION roneo.column_fates(present jsonb, known jsonb, wanted jsonb,
                                              same_table boolean)
RETURNS TABLE (nr bigint, old_name name, new_name name, passing_name name, present jsonb, col jsonb)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    WITH here AS (
        SELECT p.col, p.nr, p.col ->> 'name' AS name, k.col ->> 'number' AS number
        FROM jsonb_array_elements(column_fates.present) WITH ORDINALITY AS p(col, nr)
        LEFT JOIN jsonb_array_elements(known) AS k(col)
            ON same_table AND k.col ->> 'name' = p.col ->> 'name'
    ), there AS (
        SELECT w.col, w.nr, w.col ->> 'name' AS name, w.col ->> 'number' AS number
        FROM jsonb_array_elements(wanted) WITH ORDINALITY AS w(col, nr)
    ), by_number AS (
        SELECT h.name AS old_name, t.name AS new_name
        FROM here AS h JOIN there AS t ON t.number = h.number
    ), matched AS (
        SELECT b.old_name, b.new_name FROM by_number AS b
        UNION ALL
        SELECT h.name, h.name FROM here AS h JOIN there AS t ON t.name = h.name
        WHERE h.name NOT IN (SELECT b.old_name FROM by_number AS b)
          AND h.name NOT IN (SELECT b.new_name FROM by_number AS b)
    ), fate AS (
        SELECT coalesce(t.nr, h.nr) AS nr, h.name AS old_name, t.name AS new_name,
               h.col AS present, t.col,
               -- Another column still has the new name, and gives it up.
               t.name IN (SELECT r.old_name FROM matched AS r
                          WHERE r.old_name <> r.new_name) AND t.name <> h.name AS in_passing
        FROM here AS h
        LEFT JOIN matched AS m ON m.old_name = h.name
        FULL JOIN there AS t ON t.name = m.new_name
    )
    SELECT f.nr, f.old_name::name, f.new_name::name,
           CASE WHEN f.in_passing THEN roneo.fit_name(md5(f.old_name), '_passing') END,
           f.present, f.col
    FROM fate AS f;
END;
COMMENT ON FUNCTION roneo.column_fates(jsonb, jsonb, jsonb, boolean) IS
    'What becomes of each column of a copy: the name it gets (NULL: it goes), and what it passes '
    'through where another still has that name.';

CREATE OR REPLACE FUNCTION roneo.reshape_statements(table_schema name, table_name name,
    present jsonb, known jsonb, wanted jsonb, same_table boolean)
RETURNS TABLE ("position" bigint, purpose text, statement text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH fate AS (
        SELECT f.* FROM roneo.column_fates(present, known, wanted, same_table) AS f
    ), change AS (
        SELECT 1 AS phase, f.nr, format('drop column %s', f.old_name) AS purpose,
               format('DROP COLUMN %I', f.old_name) AS action
        FROM fate AS f WHERE f.new_name IS NULL
        UNION ALL
        SELECT 2, f.nr, format('rename column %s out of the way', f.old_name),
               format('RENAME COLUMN %I TO %I', f.old_name, f.passing_name)
        FROM fate AS f WHERE f.passing_name IS NOT NULL
        UNION ALL
        SELECT CASE WHEN f.passing_name IS NULL THEN 3 ELSE 4 END, f.nr,
               format('rename column %s to %s', f.old_name, f.new_name),
               format('RENAME COLUMN %I TO %I', coalesce(f.passing_name, f.old_name), f.new_name)
        FROM fate AS f WHERE f.old_name <> f.new_name
        UNION ALL
        SELECT 5, f.nr, format('add column %s', f.new_name),
               format('ADD COLUMN %s', roneo.column_definition(f.col))
        FROM fate AS f WHERE f.old_name IS NULL
        UNION ALL
        SELECT 6, f.nr, format('change type of column %s', f.new_name),
               concat_ws(' ', format('ALTER COLUMN %I TYPE', f.new_name), roneo.local_type(f.col),
                         roneo.clause('COLLATE', f.col ->> 'collation'), 'USING NULL')
        FROM fate AS f
        WHERE f.old_name IS NOT NULL AND f.new_name IS NOT NULL
          AND (roneo.local_type(f.col) <> f.present ->> 'type'
               OR f.col ->> 'collation' IS DISTINCT FROM f.present ->> 'collation')
        UNION ALL
        SELECT 7, f.nr, format('change NOT NULL of column %s', f.new_name),
               format('ALTER COLUMN %I %s NOT NULL', f.new_name,
                      CASE WHEN (f.col ->> 'not_null')::boolean THEN 'SET' ELSE 'DROP' END)
        FROM fate AS f
        WHERE f.old_name IS NOT NULL AND f.new_name IS NOT NULL
          AND f.col ->> 'not_null' <> f.present ->> 'not_null'
    )
    SELECT row_number() OVER (ORDER BY c.phase, c.nr), c.purpose,
           format('ALTER TABLE %I.%I %s', table_schema, table_name, c.action)
    FROM change AS c
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.reshape_statements(name, name, jsonb, jsonb, jsonb, boolean) IS
    'ALTER TABLE statements that turn an empty copy of what the source''s columns were into one '
    'of what they are.';
-- The statement that reads the rows on the source, and the COPY around it.

-- The filter ends with a newline, so that a comment at its end does not swallow the parenthesis.
CREATE OR REPLACE FUNCTION roneo.source_select(source_schema name, source_table name,
    source_columns jsonb, dest_columns jsonb, filter text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws(' ',
    'SELECT',
    (
        SELECT string_agg(format('%I::%s', p.name, p.cast_type), ', ' ORDER BY p.position)
        FROM roneo.pair_columns(source_columns, dest_columns) AS p
    ),
    format('FROM %I.%I', source_schema, source_table),
    CASE WHEN btrim(filter, E' \t\r\n') <> '' THEN format(E'WHERE (%s\n)', filter) END
);
COMMENT ON FUNCTION roneo.source_select(name, name, jsonb, jsonb, text) IS
    'The SELECT for the source, each column cast to the type that the destination takes.';

CREATE OR REPLACE FUNCTION roneo.transfer_step(purpose text, source_schema name, source_table name,
    source_columns jsonb, dest_columns jsonb, filter text, into_schema name, into_name name,
    freeze boolean, source_encoding text)
RETURNS roneo.step LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT 2::smallint,
           'transfer',
           purpose,
           roneo.source_select(source_schema, source_table, source_columns, dest_columns, filter),
           format('%I.%I', into_schema, into_name),
           coalesce(string_agg(quote_ident(p.name), ', ' ORDER BY p.position), ''),
           coalesce(string_agg(format('%I %s', p.name, p.fetch_type), ', ' ORDER BY p.position),
                    'nothing boolean'),
           CASE WHEN source_encoding IS NULL AND coalesce(bool_and(p.is_binary), true)
               THEN 'binary' ELSE 'text' END,
           "freeze",
           'inserted',
           false
    FROM roneo.pair_columns(source_columns, dest_columns) AS p;
END;
COMMENT ON FUNCTION roneo.transfer_step(text, name, name, jsonb, jsonb, text, name, name,
    boolean, text) IS
    'The step that brings rows of the source into a table of this database.';

-- A SQL_ASCII source would refuse bytes that are no characters of client_encoding; with the encoding
-- that they really have they go out as they are, and are converted here.
CREATE OR REPLACE FUNCTION roneo.encoding_option(s roneo.step, source_encoding text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN s.copy_format = 'text' AND source_encoding IS NOT NULL
            THEN format('ENCODING %L', source_encoding) END;
COMMENT ON FUNCTION roneo.encoding_option(roneo.step, text) IS
    'The option of COPY that says in which encoding the rows travel; NULL for client_encoding.';

CREATE OR REPLACE FUNCTION roneo.copy_out(s roneo.step, source_encoding text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('COPY (%s) TO STDOUT (%s)', s.statement,
    concat_ws(', ', format('FORMAT %s', s.copy_format), roneo.encoding_option(s, source_encoding)));
COMMENT ON FUNCTION roneo.copy_out(roneo.step, text) IS
    'The COPY that reads a transfer''s rows on the source.';

CREATE OR REPLACE FUNCTION roneo.copy_in(s roneo.step, source_encoding text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('COPY %s FROM STDIN (%s)',
    concat_ws(' ', s.into_table, format(CASE WHEN s.into_list <> '' THEN '(%s)' END, s.into_list)),
    concat_ws(', ',
        format('FORMAT %s', s.copy_format),
        CASE WHEN s.copy_freeze THEN 'FREEZE true' END,
        roneo.encoding_option(s, source_encoding))
);
COMMENT ON FUNCTION roneo.copy_in(roneo.step, text) IS
    'The COPY that writes a transfer''s rows here.';
-- Distances on a control column: between clocks and values, and across changes of the clock.
-- All time types are compared as timestamps of the zone that the column is written in; a
-- timestamptz is written in UTC, which has no changes.

CREATE OR REPLACE FUNCTION roneo.control_class(control_type text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN control_type IN ('timestamp with time zone', 'timestamp without time zone', 'date') THEN 'time'
    WHEN control_type IN ('smallint', 'integer', 'bigint', 'numeric') THEN 'serial'
    WHEN control_type IN ('uuid', 'text', 'character varying', 'character', 'bpchar') THEN 'order'
END;
COMMENT ON FUNCTION roneo.control_class(text) IS
    'time, serial, or order (values have an order but no distance); NULL for a type that cannot be followed.';

CREATE OR REPLACE FUNCTION roneo.written_zone(c roneo.control_replica)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE c.control_type WHEN 'timestamp with time zone' THEN 'UTC' ELSE c.control_zone END;
COMMENT ON FUNCTION roneo.written_zone(roneo.control_replica) IS 'The zone that the values of a control column are written in.';

CREATE OR REPLACE FUNCTION roneo.zone_offset(zone text, at timestamptz)
RETURNS interval LANGUAGE sql STABLE
RETURN (at AT TIME ZONE zone) - (at AT TIME ZONE 'UTC');
COMMENT ON FUNCTION roneo.zone_offset(text, timestamptz) IS 'How far a zone''s clock is ahead of UTC at a point of time.';

CREATE OR REPLACE FUNCTION roneo.hour_repeats(c roneo.control_replica, moment timestamptz)
RETURNS boolean LANGUAGE sql STABLE
RETURN c.control_type IN ('timestamp without time zone', 'date')
    AND roneo.zone_offset(c.control_zone, moment) < roneo.zone_offset(c.control_zone, c.clock::timestamptz);
COMMENT ON FUNCTION roneo.hour_repeats(roneo.control_replica, timestamptz) IS
    'Whether the clock that values are written by was set back between the last refresh and a point of time, as in autumn.';

-- A clock that was set back since shows values again that it showed before: so much lower may a
-- row be that was written after that point of time.
CREATE OR REPLACE FUNCTION roneo.lowest_local(zone text, since timestamptz, until timestamptz)
RETURNS timestamp LANGUAGE sql STABLE
RETURN CASE WHEN isfinite(since)
    THEN (since AT TIME ZONE zone)
         - greatest(interval '0', roneo.zone_offset(zone, since) - roneo.zone_offset(zone, until))
    ELSE '-infinity'::timestamp END;
COMMENT ON FUNCTION roneo.lowest_local(text, timestamptz, timestamptz) IS
    'The lowest value that a clock of that zone can have shown between two points of time.';

CREATE OR REPLACE FUNCTION roneo.as_timestamp(control_type text, value text)
RETURNS timestamp LANGUAGE sql STABLE
RETURN CASE control_type WHEN 'timestamp with time zone' THEN value::timestamptz AT TIME ZONE 'UTC'
                         ELSE value::timestamp END;
COMMENT ON FUNCTION roneo.as_timestamp(text, text) IS 'A control value of a time type, as the clock of its zone shows it.';

CREATE OR REPLACE FUNCTION roneo.as_control(control_type text, value timestamp)
RETURNS text LANGUAGE sql STABLE
RETURN CASE control_type
    WHEN 'timestamp with time zone' THEN (value AT TIME ZONE 'UTC')::text
    WHEN 'date' THEN value::date::text
    ELSE value::text END;
COMMENT ON FUNCTION roneo.as_control(text, timestamp) IS 'The inverse of as_timestamp; rounds a date down.';

-- Not a list of dates: what the zone's data says. Hours first, then the minute.
CREATE OR REPLACE FUNCTION roneo.zone_changes(zone text, around timestamptz)
RETURNS TABLE (at timestamptz, shift interval) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT m.minute, roneo.zone_offset(zone, m.minute) - roneo.zone_offset(zone, m.minute - interval '1 minute')
    FROM generate_series(date_trunc('hour', around) - interval '30 hours',
                         date_trunc('hour', around) + interval '30 hours', interval '1 hour') AS h (hour)
    CROSS JOIN LATERAL generate_series(h.hour + interval '1 minute', h.hour + interval '1 hour',
                                       interval '1 minute') AS m (minute)
    WHERE roneo.zone_offset(zone, h.hour) <> roneo.zone_offset(zone, h.hour + interval '1 hour')
      AND roneo.zone_offset(zone, m.minute) <> roneo.zone_offset(zone, m.minute - interval '1 minute');
END;
COMMENT ON FUNCTION roneo.zone_changes(text, timestamptz) IS
    'The changes of a zone''s clock within thirty hours of a point of time, and by how much it is set forward.';

CREATE OR REPLACE FUNCTION roneo.blackout_hours(blackout text, OUT opens interval, OUT closes interval)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT h.opens, CASE WHEN h.closes > h.opens THEN h.closes ELSE h.closes + interval '24 hours' END
    FROM (SELECT CASE WHEN blackout LIKE '%-%' THEN split_part(blackout, '-', 1)::interval ELSE interval '00:30' END,
                 CASE WHEN blackout LIKE '%-%' THEN split_part(blackout, '-', 2)::interval ELSE interval '02:30' END) AS h (opens, closes);
END;
COMMENT ON FUNCTION roneo.blackout_hours(text) IS
    'The local hours of a blackout, counted from midnight: 00:30 to 02:30, or those given, which may end on the next day.';

-- Of the nights before and after a change the nearer one: a clock set back at midnight shows the
-- day before again.
CREATE OR REPLACE FUNCTION roneo.blackout_at(c roneo.control_replica, moment timestamptz)
RETURNS tstzrange LANGUAGE sql STABLE
RETURN (
    SELECT w.pause
    FROM roneo.zone_changes(c.control_zone, moment) AS z
    CROSS JOIN roneo.blackout_hours(c.blackout) AS h
    CROSS JOIN LATERAL (
        SELECT (d.day + h.opens) AT TIME ZONE c.control_zone AS opens, (d.day + h.closes) AT TIME ZONE c.control_zone AS closes
        FROM generate_series(-1, 1) AS n
        CROSS JOIN LATERAL (SELECT (z.at AT TIME ZONE c.control_zone)::date + n) AS d (day)
        ORDER BY abs(extract(epoch FROM (d.day + (h.opens + h.closes) / 2) AT TIME ZONE c.control_zone - z.at))
        LIMIT 1
    ) AS night
    CROSS JOIN LATERAL (SELECT tstzrange(
        least(night.opens, z.at - greatest(z.shift, -z.shift)),
        greatest(night.closes, z.at + greatest(z.shift, -z.shift))) AS pause) AS w
    WHERE c.blackout <> 'off'
      AND (c.control_type = 'timestamp without time zone' OR c.blackout <> 'auto')
      AND w.pause @> moment
    LIMIT 1
);
COMMENT ON FUNCTION roneo.blackout_at(roneo.control_replica, timestamptz) IS
    'The pause around a change of the clock that a point of time falls into, wide enough to contain the hour that is skipped or repeated; NULL outside.';
-- Which rows of a source an inserter or updater reads: new ones above its position, and late ones
-- below it, known by the transaction that wrote them.
--
-- A row is held while a transaction older than its writer is open: age(xmin) <= age(X), X being the
-- snapshot's xmin. Frozen rows keep their raw xmin, which wraps; hence age(xmin) > age(M) too, M
-- being the snapshot's xmax. A replica without a key leaves held rows for later, and so reads each
-- row exactly once; one with a key reads them at once, and again until X has passed them.

CREATE OR REPLACE FUNCTION roneo.follows_xmin(c roneo.control_replica)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN c.reads_xmin AND (c.key_columns IS NOT NULL OR c.append_only);
COMMENT ON FUNCTION roneo.follows_xmin(roneo.control_replica) IS
    'Whether late rows are known by their transaction. Without a key a new xmin can be an updated row too, unless the user says that there are none.';

CREATE OR REPLACE FUNCTION roneo.value_literal(c roneo.control_replica, value text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN value IS NOT NULL THEN '%L::%s' END, value, c.control_type);
COMMENT ON FUNCTION roneo.value_literal(roneo.control_replica, text) IS
    'A control value as a literal of its type: it never passes through a client''s type.';

-- A view is read under the search_path that it was registered under, and there may be operators in
-- it that fit better: for types such as varchar, and for domains.
CREATE OR REPLACE FUNCTION roneo.own_operator(c roneo.control_replica, sign text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN c.reads_xmin THEN sign ELSE format('OPERATOR(pg_catalog.%s)', sign) END;
COMMENT ON FUNCTION roneo.own_operator(roneo.control_replica, text) IS
    'PostgreSQL''s own operator, by its full name where the source is read under a search_path that is not ours.';

CREATE OR REPLACE FUNCTION roneo.compared(c roneo.control_replica, sign text, value text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN value IS NOT NULL THEN '%I %s %s' END, c.control, roneo.own_operator(c, sign), roneo.value_literal(c, value));
COMMENT ON FUNCTION roneo.compared(roneo.control_replica, text, text) IS
    'A condition that compares the control column with a value; NULL without one.';

CREATE OR REPLACE FUNCTION roneo.age_of(x xid8)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN x IS NOT NULL THEN '(SELECT pg_catalog.age(%L::pg_catalog.xid))' END,
              (x::text::numeric % 4294967296)::text);
COMMENT ON FUNCTION roneo.age_of(xid8) IS 'An SQL expression for the age of a transaction on the source.';

-- age() tells the order of transactions that are less than two billion apart.
CREATE OR REPLACE FUNCTION roneo.is_distant(x xid8)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::pg_catalog.numeric - %s >= 2147483647)', x::text);
COMMENT ON FUNCTION roneo.is_distant(xid8) IS
    'An SQL expression that is true where the source has had too many transactions since that one to know older from newer ones.';

-- In the probe the snapshot is not known yet as a value.
CREATE OR REPLACE FUNCTION roneo.age_of_snapshot(bound text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(SELECT pg_catalog.age(pg_catalog.pg_snapshot_%s(pg_catalog.pg_current_snapshot())::pg_catalog.xid))', bound);
COMMENT ON FUNCTION roneo.age_of_snapshot(text) IS
    'An SQL expression for the age of the xmin or xmax of the snapshot it runs under.';

-- The first comparison names no column: where nothing is open the rows are not looked at at all.
CREATE OR REPLACE FUNCTION roneo.held_condition(x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(%1$s > %2$s AND pg_catalog.age(xmin) <= %1$s AND pg_catalog.age(xmin) > %2$s)', x, m);
COMMENT ON FUNCTION roneo.held_condition(text, text) IS
    'True for a row whose transaction is not older than all that are open.';

CREATE OR REPLACE FUNCTION roneo.since_condition(c roneo.control_replica, since xid8, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN since IS NULL OR NOT roneo.follows_xmin(c) THEN NULL
    WHEN c.key_columns IS NULL THEN format('pg_catalog.age(xmin) <= %s AND pg_catalog.age(xmin) > %s', roneo.age_of(since), x)
    ELSE format('(%s OR pg_catalog.age(xmin) <= %s AND pg_catalog.age(xmin) > %s)', roneo.is_distant(since), roneo.age_of(since), m)
END;
COMMENT ON FUNCTION roneo.since_condition(roneo.control_replica, xid8, text, text) IS
    'True for a row written since a horizon; of a replica without a key, and not held. With one, for all rows where that can no longer be told.';

CREATE OR REPLACE FUNCTION roneo.ready_condition(c roneo.control_replica, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN roneo.follows_xmin(c) AND c.key_columns IS NULL
            THEN format('NOT %s', roneo.held_condition(x, m)) END;
COMMENT ON FUNCTION roneo.ready_condition(roneo.control_replica, text, text) IS
    'True for a row that need not wait; NULL where none has to.';

-- The transaction's own start, which precedes its snapshot.
CREATE OR REPLACE FUNCTION roneo.bound_condition(c roneo.control_replica, relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN roneo.control_class(c.control_type) = 'time'
         AND (c.boundary::interval <> interval '0' OR NOT roneo.follows_xmin(c))
        THEN format('%I %s ((pg_catalog.now() - %L::pg_catalog.interval) AT TIME ZONE %L)%s', c.control, roneo.own_operator(c, '<'), c.boundary,
                    roneo.written_zone(c), CASE c.control_type WHEN 'timestamp with time zone' THEN ' AT TIME ZONE ''UTC'''
                                                               WHEN 'date' THEN '::pg_catalog.date' END)
    WHEN roneo.control_class(c.control_type) = 'serial' AND c.boundary::numeric <> 0
        THEN format('%1$I %4$s ((SELECT pg_catalog.max(%1$I) FROM %2$s) %5$s %3$s)', c.control, relation, c.boundary::numeric,
                    roneo.own_operator(c, '<='), roneo.own_operator(c, '-'))
END;
COMMENT ON FUNCTION roneo.bound_condition(roneo.control_replica, text) IS
    'The upper bound that the boundary gives; NULL for none.';

CREATE OR REPLACE FUNCTION roneo.new_condition(c roneo.control_replica, upto text, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws(' AND ',
    coalesce(roneo.compared(c, '>', c.last_value), format('%I IS NOT NULL', c.control)),
    roneo.compared(c, '<=', upto),
    roneo.ready_condition(c, x, m));
COMMENT ON FUNCTION roneo.new_condition(roneo.control_replica, text, text, text) IS
    'True for a row above the position that can be read now.';

CREATE OR REPLACE FUNCTION roneo.late_condition(c roneo.control_replica, swept boolean, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN c.last_value IS NULL THEN NULL
    -- Nothing is known of what an adopted table without a key has of them.
    WHEN c.horizon IS NULL AND c.key_columns IS NULL THEN NULL
    WHEN roneo.follows_xmin(c) THEN
        concat_ws(' AND ',
            format(CASE WHEN c.window_start IS NOT NULL AND NOT swept THEN '%I >= %s' END,
                   c.control, roneo.value_literal(c, c.window_start)),
            format('%I <= %s', c.control, roneo.value_literal(c, c.last_value)),
            coalesce(roneo.since_condition(c, CASE WHEN swept AND c.key_columns IS NOT NULL
                                                   THEN coalesce(c.swept, c.horizon) ELSE c.horizon END, x, m), 'true'))
    -- Without xmin a key still lets the look-back be read again.
    WHEN c.key_columns IS NOT NULL AND c.window_start IS NOT NULL THEN
        format('%s AND %s', roneo.compared(c, '>=', c.window_start), roneo.compared(c, '<=', c.last_value))
END;
COMMENT ON FUNCTION roneo.late_condition(roneo.control_replica, boolean, text, text) IS
    'True for a row at or below the position that may not have been read; NULL where that cannot be known. swept: looked for in the whole table.';

CREATE OR REPLACE FUNCTION roneo.repulls_nulls(c roneo.control_replica)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN c.repulling AND c.last_value IS NOT NULL AND c.null_control = 'read'
   AND c.repull_from IS NULL AND c.repull_to IS NULL;
COMMENT ON FUNCTION roneo.repulls_nulls(roneo.control_replica) IS
    'Whether this round pulls the rows without a control value again: the first one of a repull of everything.';

CREATE OR REPLACE FUNCTION roneo.null_condition(c roneo.control_replica, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN c.null_control = 'read'
    THEN concat_ws(' AND ', format('%I IS NULL', c.control),
                   coalesce(CASE WHEN NOT roneo.repulls_nulls(c) THEN roneo.since_condition(c, c.horizon, x, m) END,
                            roneo.ready_condition(c, x, m)))
END;
COMMENT ON FUNCTION roneo.null_condition(roneo.control_replica, text, text) IS
    'True for a row without a control value that may not have been read; NULL where such rows are not wanted.';

CREATE OR REPLACE FUNCTION roneo.grouped(condition text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN condition <> '' THEN '(%s)' END, condition);
COMMENT ON FUNCTION roneo.grouped(text) IS 'A condition in parentheses; NULL for none.';

CREATE OR REPLACE FUNCTION roneo.leaf_condition(operator text, leaves oid[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN cardinality(leaves) > 0 THEN 'tableoid %s (%L::pg_catalog.oid[])' END, operator, leaves);
COMMENT ON FUNCTION roneo.leaf_condition(text, oid[]) IS
    'True for rows of some leaves (= ANY) or of all others (<> ALL); NULL where there are no such leaves.';

-- One range of the index, from the lowest value that can matter.
CREATE OR REPLACE FUNCTION roneo.range_condition(
    c roneo.control_replica, swept boolean, upto text, fresh_leaves oid[], chunk text, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE WHEN parts.either IS NOT NULL THEN concat_ws(' AND ',
        CASE WHEN c.window_start IS NOT NULL AND c.last_value IS NOT NULL AND NOT swept
             THEN roneo.compared(c, '>=', c.window_start) END,
        roneo.leaf_condition('<> ALL', fresh_leaves),
        format(CASE WHEN chunk IS NOT NULL THEN 'NOT (%s)' END, chunk),
        parts.either) END
    FROM (SELECT roneo.grouped(concat_ws(' OR ',
        CASE WHEN upto IS NOT NULL THEN roneo.grouped(roneo.new_condition(c, upto, x, m)) END,
        roneo.grouped(roneo.late_condition(c, swept, x, m))))) AS parts (either)
);
COMMENT ON FUNCTION roneo.range_condition(roneo.control_replica, boolean, text, oid[], text, text, text) IS
    'The new and the late rows, but for a chunk and for leaves that are read whole.';

CREATE OR REPLACE FUNCTION roneo.window_condition(
    c roneo.control_replica, swept boolean, upto text, fresh_leaves oid[], chunk text, x text, m text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws(' OR ',
    roneo.grouped(roneo.range_condition(c, swept, upto, fresh_leaves, chunk, x, m)),
    roneo.grouped(CASE WHEN chunk IS NOT NULL
        THEN concat_ws(' AND ', chunk, roneo.leaf_condition('<> ALL', fresh_leaves), roneo.ready_condition(c, x, m)) END),
    roneo.grouped(CASE WHEN cardinality(fresh_leaves) > 0
        THEN concat_ws(' AND ', roneo.leaf_condition('= ANY', fresh_leaves),
                       format(CASE c.null_control WHEN 'read' THEN '(%1$I <= %2$s OR %1$I IS NULL)' ELSE '%1$I <= %2$s' END,
                              c.control, roneo.value_literal(c, coalesce(upto, c.last_value))),
                       roneo.ready_condition(c, x, m)) END),
    roneo.grouped(CASE WHEN roneo.null_condition(c, x, m) IS NOT NULL
        THEN concat_ws(' AND ', roneo.null_condition(c, x, m), roneo.leaf_condition('<> ALL', fresh_leaves)) END));
COMMENT ON FUNCTION roneo.window_condition(roneo.control_replica, boolean, text, oid[], text, text, text) IS
    'Which rows one round reads: new, late, of a chunk that is pulled again, of leaves that were not there before, and without a control value. Each row fits only one of these, and is sent once.';
-- The position of an inserter or updater, and how a refresh moves it.

CREATE OR REPLACE FUNCTION roneo.answered_xid(answer jsonb, bound text)
RETURNS xid8 LANGUAGE sql IMMUTABLE
RETURN CASE bound WHEN 'xmin' THEN pg_snapshot_xmin((answer #>> '{inside,snapshot}')::pg_snapshot)
                  ELSE pg_snapshot_xmax((answer #>> '{inside,snapshot}')::pg_snapshot) END;
COMMENT ON FUNCTION roneo.answered_xid(jsonb, text) IS 'The xmin or xmax of the snapshot that a source was read under.';

CREATE OR REPLACE FUNCTION roneo.clock_order(c roneo.control_replica, clock text)
RETURNS numeric LANGUAGE sql STABLE
RETURN CASE roneo.control_class(c.control_type) WHEN 'serial' THEN clock::numeric
                                                ELSE extract(epoch FROM clock::timestamptz) END;
COMMENT ON FUNCTION roneo.clock_order(roneo.control_replica, text) IS 'A clock of open_starts as a number, to order by.';

CREATE OR REPLACE FUNCTION roneo.clock_of(c roneo.control_replica, answer jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN CASE roneo.control_class(c.control_type) WHEN 'serial' THEN coalesce(answer #>> '{before,top}', answer #>> '{inside,top}', c.clock, '0')
                                                ELSE answer #>> '{before,clock}' END;
COMMENT ON FUNCTION roneo.clock_of(roneo.control_replica, jsonb) IS
    'What the source''s clock showed before its open transactions were listed; of a serial, its highest value.';

CREATE OR REPLACE FUNCTION roneo.clock_was_set_back(c roneo.control_replica, answer jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN roneo.clock_order(c, roneo.clock_of(c, answer)) < roneo.clock_order(c, c.clock);
COMMENT ON FUNCTION roneo.clock_was_set_back(roneo.control_replica, jsonb) IS
    'Whether the source''s clock shows an earlier time than at the last refresh, or its highest value is lower than then; NULL at the first one.';

-- What was written meanwhile can lie below the window, which was made with the old clock.
CREATE OR REPLACE FUNCTION roneo.values_repeat(c roneo.control_replica, answer jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN coalesce(
    roneo.clock_was_set_back(c, answer)
    OR roneo.control_class(c.control_type) = 'time'
       AND roneo.zone_offset(roneo.written_zone(c), (answer #>> '{before,clock}')::timestamptz)
           < roneo.zone_offset(roneo.written_zone(c), c.clock::timestamptz),
    false);
COMMENT ON FUNCTION roneo.values_repeat(roneo.control_replica, jsonb) IS
    'Whether values below those of the last refresh were given out since: the clock was set back, or an hour of local time came twice.';

-- A transaction that was not open at the last refresh began after the clock that was read before
-- it. At the first one nothing is known of those that are open, nor when that clock was set back
-- since. A prepared transaction turns up
-- under a new name: it inherits the oldest start of all.
CREATE OR REPLACE FUNCTION roneo.open_starts(c roneo.control_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT coalesce(jsonb_object_agg(o.name, CASE
        WHEN c.clock IS NULL OR roneo.clock_was_set_back(c, answer) THEN 'unknown'
        WHEN c.open_since ? o.name THEN c.open_since ->> o.name
        WHEN o.name NOT LIKE 'p/%' THEN c.clock
        WHEN EXISTS (SELECT FROM jsonb_each_text(c.open_since) AS k WHERE k.value = 'unknown') THEN 'unknown'
        ELSE coalesce((SELECT k.value FROM jsonb_each_text(c.open_since) AS k
                       ORDER BY roneo.clock_order(c, k.value) LIMIT 1), c.clock) END), '{}')
    FROM jsonb_array_elements_text(coalesce(nullif(answer #> '{before,open}', 'null'), '[]')) AS o (name)
);
COMMENT ON FUNCTION roneo.open_starts(roneo.control_replica, jsonb) IS
    'The transactions that are open on the source, each with a clock from before its start, or unknown.';

-- How far back from the source's clock a row can lie that an open transaction has yet to commit.
CREATE OR REPLACE FUNCTION roneo.lowest_time(c roneo.control_replica, answer jsonb, open_since jsonb)
RETURNS timestamp LANGUAGE sql STABLE
RETURN (
    SELECT min(roneo.lowest_local(roneo.written_zone(c), s.since,
                                  (answer #>> '{before,clock}')::timestamptz))
    FROM (
        SELECT (answer #>> '{before,clock}')::timestamptz AS since
        UNION ALL
        -- A clock that was set back shows the time in between once more.
        SELECT (answer #>> '{before,clock}')::timestamptz - ((c.clock)::timestamptz - (answer #>> '{before,clock}')::timestamptz)
        WHERE c.clock::timestamptz > (answer #>> '{before,clock}')::timestamptz
        UNION ALL
        SELECT CASE k.value WHEN 'unknown' THEN '-infinity' ELSE k.value END::timestamptz
        FROM jsonb_each_text(open_since) AS k
    ) AS s
);
COMMENT ON FUNCTION roneo.lowest_time(roneo.control_replica, jsonb, jsonb) IS
    'The lowest time, as the control column would show it, that a row can have which is not visible yet.';

CREATE OR REPLACE FUNCTION roneo.lowest_serial(c roneo.control_replica, answer jsonb, open_since jsonb)
RETURNS numeric LANGUAGE sql STABLE
RETURN (
    SELECT CASE WHEN bool_or(k.value = 'unknown') THEN '-Infinity'::numeric
                ELSE least(roneo.clock_of(c, answer)::numeric, min(nullif(k.value, 'unknown')::numeric)) END
    FROM (SELECT 1) AS one
    LEFT JOIN jsonb_each_text(open_since) AS k ON true
);
COMMENT ON FUNCTION roneo.lowest_serial(roneo.control_replica, jsonb, jsonb) IS
    'The lowest number that a row can have which is not visible yet, blocks of cached numbers aside.';

CREATE OR REPLACE FUNCTION roneo.window_after(c roneo.control_replica, answer jsonb, open_since jsonb, last_value text)
RETURNS text LANGUAGE sql STABLE
RETURN CASE
    WHEN last_value IS NULL OR c.look_back IS NULL THEN NULL
    WHEN roneo.control_class(c.control_type) = 'time' THEN (
        SELECT CASE WHEN l.lowest > '-infinity' THEN roneo.as_control(c.control_type, l.lowest) END
        FROM (SELECT least(
                  roneo.as_timestamp(c.control_type, last_value),
                  roneo.as_timestamp(c.control_type, answer #>> '{inside,held_from}'),
                  roneo.lowest_time(c, answer, open_since))
              -- Between the start of a statement and its virtual transaction id passes a moment.
              - greatest(c.look_back::interval, interval '1 second') AS lowest) AS l)
    WHEN roneo.control_class(c.control_type) = 'serial' THEN (
        SELECT CASE WHEN l.lowest > '-Infinity' THEN
                    (CASE c.control_type WHEN 'numeric' THEN l.lowest
                     ELSE greatest(floor(l.lowest), CASE c.control_type WHEN 'smallint' THEN -32768 WHEN 'integer' THEN -2147483648
                                                                        ELSE -9223372036854775808 END) END)::text END
        FROM (SELECT least(last_value::numeric, (answer #>> '{inside,held_from}')::numeric,
                           roneo.lowest_serial(c, answer, open_since))
                     - greatest(c.look_back::numeric, 1) AS lowest) AS l)
END;
COMMENT ON FUNCTION roneo.window_after(roneo.control_replica, jsonb, jsonb, text) IS
    'Down to which value the next refresh looks for late rows; NULL: down to the lowest.';

CREATE OR REPLACE FUNCTION roneo.sweep_is_due(c roneo.control_replica)
RETURNS boolean LANGUAGE sql STABLE
RETURN coalesce(c.swept_at + c.sweep_every <= clock_timestamp(), false);
COMMENT ON FUNCTION roneo.sweep_is_due(roneo.control_replica) IS
    'Whether the probe is to ask for late rows in the whole table.';

-- Whether one was due is the probe's to say: the time goes on while it is asked.
CREATE OR REPLACE FUNCTION roneo.is_swept(c roneo.control_replica, answer jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN roneo.follows_xmin(c) AND (
    coalesce((answer #>> '{options,sweep}')::boolean, false)
    OR coalesce((answer #>> '{inside,rewritten}')::boolean, false)
    OR answer #>> '{inside,swept}' IS NOT NULL
    OR roneo.values_repeat(c, answer));
COMMENT ON FUNCTION roneo.is_swept(roneo.control_replica, jsonb) IS
    'Whether late rows are looked for in the whole table this time: told to, due, because every row has a new transaction, or because values come again.';

CREATE OR REPLACE FUNCTION roneo.leaves_after(c roneo.control_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT coalesce(jsonb_object_agg(coalesce(n.key, k.key), n.value), '{}')
    FROM jsonb_each(coalesce(answer #> '{inside,leaves}', '{}')) AS n
    FULL JOIN jsonb_each(coalesce(c.leaves, '{}')) AS k ON k.key = n.key
);
COMMENT ON FUNCTION roneo.leaves_after(roneo.control_replica, jsonb) IS
    'All leaves that were ever seen, with their present files; null for one that is gone, and may return.';

CREATE OR REPLACE FUNCTION roneo.position_after(c roneo.control_replica, answer jsonb)
RETURNS roneo.control_replica LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    after   roneo.control_replica := c;
    inside  jsonb := answer -> 'inside';
    is_held boolean := inside ->> 'held_from' IS NOT NULL;
BEGIN
    after.last_value := coalesce(inside ->> 'upto', c.last_value);
    after.open_since := CASE WHEN roneo.follows_xmin(c) THEN roneo.open_starts(c, answer) ELSE '{}' END;
    after.window_start := roneo.window_after(c, answer, after.open_since, after.last_value);
    -- Of what is held, the probe saw only the rows in the window.
    IF c.key_columns IS NULL AND roneo.answered_xid(answer, 'xmin') <> roneo.answered_xid(answer, 'xmax')
       AND (c.repulling OR roneo.is_swept(c, answer) OR cardinality(roneo.fresh_leaves(c, answer)) > 0) THEN
        after.window_start := NULL;
    END IF;
    after.clock := roneo.clock_of(c, answer);
    after.horizon := greatest(c.horizon, roneo.answered_xid(answer, 'xmin'));
    after.leaves := roneo.leaves_after(c, answer);
    IF roneo.is_swept(c, answer) OR c.swept IS NULL THEN
        after.swept := after.horizon;
        after.swept_at := clock_timestamp();
    END IF;
    after.held_by := CASE WHEN is_held THEN coalesce(inside ->> 'holder', 'a transaction that is not shown') END;
    after.held_since := CASE WHEN is_held THEN coalesce(
        CASE WHEN c.held_by = after.held_by THEN c.held_since END, clock_timestamp()) END;
    after.far_value := CASE WHEN inside ->> 'upto' IS NOT NULL THEN inside ->> 'far'
                            WHEN roneo.control_class(c.control_type) = 'serial'
                                 AND roneo.clock_of(c, answer)::numeric >= c.far_value::numeric THEN c.far_value END;
    IF c.repulling THEN
        after.repull_from := inside ->> 'chunk_to';
        after.repulling := after.repull_from IS NOT NULL;
        after.repull_to := CASE WHEN after.repulling THEN c.repull_to END;
        -- The source may have gone back behind the position; rows it has there from now on are new.
        IF NOT after.repulling AND c.repull_to IS NULL AND NOT roneo.follows_xmin(c) THEN
            after.last_value := coalesce(inside ->> 'upto', inside ->> 'repulled_to');
        END IF;
    END IF;
    RETURN after;
END;
$$;
COMMENT ON FUNCTION roneo.position_after(roneo.control_replica, jsonb) IS
    'The position once everything that was planned for an answer has been put.';
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
CREATE OR REPLACE FUNCTION roneo.lock_class()
RETURNS integer LANGUAGE sql IMMUTABLE
RETURN 1919905381;
COMMENT ON FUNCTION roneo.lock_class() IS
    'The first key of the advisory lock on a replica, "rone" in ASCII; the second one is its replica_id.';

-- What a value looks like as text depends on these, and so do the names of types. Without
-- row_security a policy that would hide rows is an error: a copy of some rows is not a copy, and a
-- table of which some rows were deleted is not empty.
CREATE OR REPLACE FUNCTION roneo.pinned_settings()
RETURNS TABLE (setting_name text, value text) LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    VALUES ('search_path',         'pg_catalog, pg_temp'),
           ('TimeZone',            'UTC'),
           ('DateStyle',           'ISO, YMD'),
           ('IntervalStyle',       'postgres'),
           ('extra_float_digits',  '3'),
           ('bytea_output',        'hex'),
           ('xmloption',           'content'),
           ('lc_monetary',         'C'),
           ('standard_conforming_strings', 'on'),
           ('row_security',        'off'),
           -- Compiling a probe takes longer than running it.
           ('jit',                 'off'),
           ('statement_timeout',   '0'),
           -- Patient steps have a shorter one. Whoever forgot a lock is not waited for.
           ('lock_timeout',        '5min'),
           ('idle_in_transaction_session_timeout', '0');
END;
COMMENT ON FUNCTION roneo.pinned_settings() IS
    'The settings that every refresh runs under, on both ends, for its transaction only.';

CREATE OR REPLACE FUNCTION roneo.pin_settings()
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    SELECT count(set_config(setting_name, value, true)) FROM roneo.pinned_settings();
END;
COMMENT ON FUNCTION roneo.pin_settings() IS 'Applies roneo.pinned_settings() to this transaction.';

-- SET, BEGIN and LOCK take no snapshot; so the lock that follows precedes the snapshot.
-- Behind an ALTER TABLE it waits for half a minute; then the refresh is deferred. A client that is
-- gone without a word is noticed in a minute, not in hours.
CREATE OR REPLACE FUNCTION roneo.source_opening()
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; ',
        string_agg(format('SET LOCAL %s = %s; ', setting_name,
            CASE WHEN setting_name = 'search_path' THEN value ELSE quote_literal(value) END), ''),
        'SET LOCAL tcp_keepalives_idle = 30; SET LOCAL tcp_keepalives_interval = 10; ',
        'SET LOCAL tcp_keepalives_count = 3; SET LOCAL tcp_user_timeout = 60000; ',
        'SET LOCAL lock_timeout = ''30s''')
    FROM roneo.pinned_settings()
);
COMMENT ON FUNCTION roneo.source_opening() IS
    'Statements that open the transaction in which a source is read, without taking its snapshot yet.';

CREATE OR REPLACE FUNCTION roneo.require_replicas(dests regclass[])
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unknown regclass;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO010',
            MESSAGE = format('a refresh cannot run in a %s transaction',
                             current_setting('transaction_isolation')),
            DETAIL  = 'It must see the position that its lock protects, and that may be newer than the snapshot.',
            HINT    = 'Use READ COMMITTED, the default of PostgreSQL.';
    END IF;
    SELECT d INTO unknown
    FROM unnest(dests) AS d
    WHERE NOT EXISTS (SELECT FROM roneo.replica AS r WHERE r.dest = d)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO001',
            MESSAGE = format('%s is not a replica', unknown),
            HINT    = 'SELECT dest FROM roneo.replica lists those that are; roneo.create_snapshot and its like make one.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_replicas(regclass[]) IS
    'Raises RO001 for a table that is not a replica, and RO010 where the isolation level is not READ COMMITTED.';

CREATE OR REPLACE FUNCTION roneo.with_group(dests regclass[])
RETURNS regclass[] LANGUAGE sql STABLE
RETURN ARRAY(
    SELECT r.dest
    FROM roneo.replica AS r
    WHERE r.dest = ANY (dests)
       OR (r.source_id, r.refresh_group) IN (SELECT k.source_id, k.refresh_group FROM roneo.replica AS k WHERE k.dest = ANY (dests))
    ORDER BY r.replica_id);
COMMENT ON FUNCTION roneo.with_group(regclass[]) IS 'Replicas, and with each all those of its refresh group.';

-- In one transaction deferred triggers of all of them fire as one role.
CREATE OR REPLACE FUNCTION roneo.require_one_owner(members regclass[])
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owners text := (SELECT string_agg(DISTINCT quote_ident(pg_get_userbyid(c.relowner)), ', ') FROM pg_class AS c WHERE c.oid = ANY (members)
                    HAVING count(DISTINCT c.relowner) > 1);
BEGIN
    IF owners IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('the tables of a refresh group have several owners: %s', owners),
            DETAIL  = 'They are written in one transaction, as their owner.',
            HINT    = 'ALTER TABLE … OWNER TO, or take one out: roneo.set_refresh_group(dest, NULL).';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_one_owner(regclass[]) IS 'Raises RO007 where the tables of a refresh group do not belong to one role.';

CREATE OR REPLACE FUNCTION roneo.lock_replicas(dests regclass[])
RETURNS integer[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    candidate integer;
    locked    integer[] := '{}';
BEGIN
    FOR candidate IN
        SELECT replica_id FROM roneo.replica WHERE dest = ANY (dests) ORDER BY replica_id
    LOOP
        IF pg_try_advisory_xact_lock(roneo.lock_class(), candidate) THEN
            locked := array_append(locked, candidate);
        END IF;
    END LOOP;
    RETURN locked;
END;
$$;
COMMENT ON FUNCTION roneo.lock_replicas(regclass[]) IS
    'Locks replicas until the end of the transaction, without waiting; returns those that it got.';

CREATE OR REPLACE FUNCTION roneo.lock_replica(id integer, dest text, advice text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(roneo.lock_class(), id) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO002',
            MESSAGE = format('%s is being refreshed by another session', dest),
            HINT    = advice;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.lock_replica(integer, text, text) IS
    'Locks a replica until the end of the transaction; raises RO002 where another session has it.';

CREATE OR REPLACE FUNCTION roneo.note_names(ids integer[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone roneo.replica;
BEGIN
    SELECT r.* INTO gone
    FROM roneo.replica AS r
    WHERE r.replica_id = ANY (ids)
      AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = r.dest);
    IF FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO018',
            MESSAGE = format('the destination %I.%I is gone', gone.dest_schema, gone.dest_name),
            HINT    = format('Forget the replica with SELECT roneo.drop_replica(%s), and create it anew if you want it back.',
                             gone.dest::oid);
    END IF;
    UPDATE roneo.replica AS r
    SET dest_schema = n.nspname, dest_name = c.relname
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE r.replica_id = ANY (ids) AND c.oid = r.dest
      AND (r.dest_schema, r.dest_name) <> (n.nspname, c.relname);
END;
$$;
COMMENT ON FUNCTION roneo.note_names(integer[]) IS
    'Keeps the names of destinations that were renamed; raises RO018 for one that was dropped.';

-- A refresh may give a replica the new oid of its view, or the new name of its table; never another
-- relation. Roles that refresh may write these columns, and the owner of that one would not know.
CREATE OR REPLACE FUNCTION roneo.guard_dest()
RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.dest <> OLD.dest AND (NEW.dest_schema, NEW.dest_name) <> (OLD.dest_schema, OLD.dest_name)
       OR to_regclass(format('%I.%I', NEW.dest_schema, NEW.dest_name)) IS DISTINCT FROM NEW.dest THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('the destination of replica %I.%I cannot be changed', OLD.dest_schema, OLD.dest_name),
            HINT    = 'Drop the replica and create one with the other dest.';
    END IF;
    RETURN NEW;
END;
$$;
COMMENT ON FUNCTION roneo.guard_dest() IS
    'Trigger function: lets a replica follow its destination to a new oid or a new name, and to nothing else.';

CREATE OR REPLACE TRIGGER guard_dest
BEFORE UPDATE OF dest, dest_schema, dest_name ON roneo.replica
FOR EACH ROW WHEN ((OLD.dest, OLD.dest_schema, OLD.dest_name) IS DISTINCT FROM (NEW.dest, NEW.dest_schema, NEW.dest_name))
EXECUTE FUNCTION roneo.guard_dest();
COMMENT ON TRIGGER guard_dest ON roneo.replica IS 'A refresh cannot point a replica at another relation.';

CREATE OR REPLACE FUNCTION roneo.probes(ids integer[])
RETURNS TABLE (replica_id integer, probe roneo.probe) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_method text;
BEGIN
    FOR found_method IN
        SELECT DISTINCT r.method FROM roneo.replica AS r WHERE r.replica_id = ANY (ids) ORDER BY 1
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT r.replica_id, roneo.%I(r, m)
             FROM roneo.replica AS r
             JOIN roneo.%I AS m ON m.replica_id = r.replica_id
             WHERE r.replica_id = ANY ($1)',
            concat('probe_', found_method), concat(found_method, '_replica'))
        USING ids;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.probes(integer[]) IS
    'What is to be asked of the source for each replica: one statement a method, not one a replica.';

CREATE OR REPLACE FUNCTION roneo.begin_refresh(dests regclass[])
RETURNS TABLE (
    replica_id integer, dest text, source_name text, method text, state text, dest_owner name,
    before text, opening text, lock text, inside text,
    lock_timeout_ms integer, lock_attempts integer
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    locked  integer[];
    members regclass[];
BEGIN
    PERFORM roneo.require_replicas(dests);
    members := roneo.with_group(dests);
    PERFORM roneo.require_one_owner(members);
    -- Lock and read are two statements: a snapshot taken with the lock could show the position
    -- from before the refresh that has just let go of it.
    locked := roneo.lock_replicas(members);
    PERFORM roneo.note_names(locked);
    RETURN QUERY
        SELECT r.replica_id, format('%I.%I', r.dest_schema, r.dest_name), s.source_name, r.method,
               CASE WHEN p.replica_id IS NULL THEN 'busy' ELSE 'ready' END,
               pg_get_userbyid(c.relowner),
               (p.probe).before, roneo.source_opening(), (p.probe).lock, (p.probe).inside,
               roneo.setting('lock_timeout_ms'), roneo.setting('lock_attempts')
        FROM roneo.replica AS r
        JOIN roneo.source AS s ON s.source_id = r.source_id
        LEFT JOIN pg_class AS c ON c.oid = r.dest
        LEFT JOIN roneo.probes(locked) AS p ON p.replica_id = r.replica_id
        WHERE r.dest = ANY (members)
        ORDER BY r.replica_id;
    PERFORM roneo.pin_settings();
    PERFORM roneo.pin_limits(members);
END;
$$;
COMMENT ON FUNCTION roneo.begin_refresh(regclass[]) IS
    'First phase: locks the replicas, and those of their refresh groups (state busy: another session has the lock), pins the settings of the transaction, and returns what to ask of their sources. What belongs to one group is asked in one transaction of the source.';
-- How long a refresh may take, and what a source is spared: connections, long snapshots, and being
-- read while its standbys lag or its vacuum is held back.

CREATE OR REPLACE FUNCTION roneo.set_refresh_timeout(dest regclass, refresh_timeout interval)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    IF refresh_timeout < interval '0' THEN
        PERFORM roneo.bad_argument(format('a refresh of %s cannot take less than no time', dest),
            'Give an interval such as ''30 minutes''; ''0'': no limit; NULL: as the setting refresh_timeout_s says.');
    END IF;
    UPDATE roneo.replica AS r SET refresh_timeout = set_refresh_timeout.refresh_timeout
    WHERE r.dest = set_refresh_timeout.dest;
END;
$$;
COMMENT ON FUNCTION roneo.set_refresh_timeout(regclass, interval) IS
    'How long one refresh of a replica may take, or one batch of it where it has a batch_limit; then it is cancelled on both servers and rolled back, and fails with RO030. 0: as long as it likes; NULL: as the setting refresh_timeout_s says. Raises RO001 and RO007.';

CREATE OR REPLACE FUNCTION roneo.set_source_limits(
    source          text,
    max_connections integer  DEFAULT NULL,
    max_snapshot    interval DEFAULT NULL,
    max_lag         interval DEFAULT NULL,
    max_lag_bytes   bigint   DEFAULT NULL,
    max_xmin_age    bigint   DEFAULT NULL)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    limited roneo.source := roneo.require_source(source);
    wrong   text := CASE
        WHEN max_connections NOT BETWEEN 1 AND 999 THEN 'max_connections is from 1 to 999'
        WHEN max_snapshot < interval '1 second' THEN 'max_snapshot is at least a second'
        WHEN max_lag < interval '1 second' THEN 'max_lag is at least a second'
        WHEN max_lag_bytes < 1 THEN 'max_lag_bytes is at least 1'
        WHEN max_xmin_age < 1 THEN 'max_xmin_age is at least 1' END;
BEGIN
    IF wrong IS NOT NULL THEN
        PERFORM roneo.bad_argument(format('source %s cannot have such a limit: %s', quote_ident(source), wrong),
            'NULL, or leaving it out, is no limit.');
    END IF;
    UPDATE roneo.source AS s SET
        max_connections = set_source_limits.max_connections,
        max_snapshot    = set_source_limits.max_snapshot,
        max_lag         = set_source_limits.max_lag,
        max_lag_bytes   = set_source_limits.max_lag_bytes,
        max_xmin_age    = set_source_limits.max_xmin_age,
        -- The next refresh finds out anew.
        paused_since = NULL, paused_by = NULL, unread_limits = NULL
    WHERE s.source_id = limited.source_id;
END;
$$;
COMMENT ON FUNCTION roneo.set_source_limits(text, integer, interval, interval, bigint, bigint) IS
    'Sets all limits of a source; those that are left out are none. max_connections: how many connections all runners of this database may have to it at once; more refreshes are deferred (RO033). max_snapshot: how long a refresh may hold a snapshot there; then it is cancelled and fails (RO031). max_lag, max_lag_bytes: how far its standbys may lag, max_xmin_age: how many transactions its oldest snapshot may be old; beyond that refreshes are deferred (RO032). Raises RO003 and RO007.';

-- Two locks a source and connection: this class, and a number of both.
CREATE OR REPLACE FUNCTION roneo.slot_class()
RETURNS integer LANGUAGE sql IMMUTABLE
RETURN 1919905395;
COMMENT ON FUNCTION roneo.slot_class() IS
    'The first key of the advisory locks that count the connections to a source, "rons" in ASCII; the second one is source_id * 1000 + the number of the connection.';

CREATE OR REPLACE FUNCTION roneo.try_source_slot(source_id integer, max_connections integer, for_session boolean)
RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    slot integer;
BEGIN
    FOR slot IN SELECT source_id * 1000 + n FROM generate_series(1, max_connections) AS n LOOP
        IF for_session AND pg_try_advisory_lock(roneo.slot_class(), slot)
           OR NOT for_session AND pg_try_advisory_xact_lock(roneo.slot_class(), slot) THEN
            RETURN slot;
        END IF;
    END LOOP;
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION roneo.try_source_slot(integer, integer, boolean) IS
    'For the program: takes a place among the connections that a source may have, until the end of the session or of the transaction; NULL: all are taken. A session must not hold two of one source.';

CREATE OR REPLACE FUNCTION roneo.give_back_slot(slot integer)
RETURNS boolean LANGUAGE sql
RETURN pg_advisory_unlock(roneo.slot_class(), slot);
COMMENT ON FUNCTION roneo.give_back_slot(integer) IS 'For the program: gives back what try_source_slot took for the session.';

-- Rows of pg_stat_replication and another role's backend_xmin are for pg_read_all_stats. A standby
-- that says nothing reports no lag: its silence counts too. What a standby itself has not replayed yet
-- is a lag as well.
CREATE OR REPLACE FUNCTION roneo.load_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$WITH here AS MATERIALIZED (
    SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
                ELSE pg_catalog.pg_current_wal_lsn() END AS lsn,
           CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() END AS replayed
), lag AS MATERIALIZED (
    SELECT pg_catalog.pg_wal_lsn_diff(h.lsn, r.replay_lsn) AS bytes,
           greatest(extract(epoch FROM r.replay_lag)::double precision,
                    CASE WHEN r.replay_lsn < h.lsn
                         THEN extract(epoch FROM pg_catalog.clock_timestamp() - r.reply_time)::double precision END) AS seconds
    FROM here AS h CROSS JOIN pg_catalog.pg_stat_replication AS r
    WHERE r.state <> 'backup'
    UNION ALL
    SELECT pg_catalog.pg_wal_lsn_diff(h.lsn, h.replayed),
           CASE WHEN h.replayed < h.lsn
                THEN extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp())::double precision END
    FROM here AS h WHERE h.replayed IS NOT NULL
), holder AS MATERIALIZED (
    SELECT pg_catalog.age(a.backend_xmin) AS age, pg_catalog.format('process %s (%s)', a.pid, a.application_name) AS name
    FROM pg_catalog.pg_stat_activity AS a WHERE a.backend_xmin IS NOT NULL
    UNION ALL
    SELECT greatest(pg_catalog.age(s.xmin), pg_catalog.age(s.catalog_xmin)), pg_catalog.format('replication slot %s', s.slot_name)
    FROM pg_catalog.pg_replication_slots AS s WHERE s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL
    UNION ALL
    SELECT pg_catalog.age(p.transaction), pg_catalog.format('prepared transaction %L', p.gid) FROM pg_catalog.pg_prepared_xacts AS p
)
SELECT pg_catalog.jsonb_build_object(
    'reads_stats', pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'), 'user', current_user,
    'lag_bytes', (SELECT pg_catalog.max(l.bytes) FROM lag AS l),
    'lag_s', (SELECT pg_catalog.round(pg_catalog.max(l.seconds)::numeric, 1) FROM lag AS l),
    'xmin', (SELECT pg_catalog.jsonb_build_object('age', o.age, 'holder', o.name) FROM holder AS o ORDER BY o.age DESC LIMIT 1))::text$query$;
COMMENT ON FUNCTION roneo.load_query() IS
    'A query for a source: how far its standbys lag, how old its oldest snapshot is and whose, and whether the role may know.';

CREATE OR REPLACE FUNCTION roneo.load_problem(s roneo.source, answer jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN (answer ->> 'lag_bytes')::numeric > s.max_lag_bytes
        THEN format('its replication lags by %s bytes, and max_lag_bytes is %s', answer ->> 'lag_bytes', s.max_lag_bytes)
    WHEN (answer ->> 'lag_s')::numeric > extract(epoch FROM s.max_lag)
        THEN format('its replication lags by %s s, and max_lag is %s', answer ->> 'lag_s', s.max_lag)
    WHEN (answer #>> '{xmin,age}')::numeric > s.max_xmin_age
        THEN format('its oldest snapshot, of %s, is %s transactions old, and max_xmin_age is %s',
                    answer #>> '{xmin,holder}', answer #>> '{xmin,age}', s.max_xmin_age)
END;
COMMENT ON FUNCTION roneo.load_problem(roneo.source, jsonb) IS
    'Which limit of a source its load has passed, and what it was; NULL: none.';

CREATE OR REPLACE FUNCTION roneo.unread_limits(s roneo.source, reads_stats boolean, user_name text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN NOT reads_stats AND coalesce(s.max_lag::text, s.max_lag_bytes::text, s.max_xmin_age::text) IS NOT NULL THEN
    format('role %I may not read there what %s need%s', user_name,
        concat_ws(', ', CASE WHEN s.max_lag IS NOT NULL THEN 'max_lag' END, CASE WHEN s.max_lag_bytes IS NOT NULL THEN 'max_lag_bytes' END,
                  CASE WHEN s.max_xmin_age IS NOT NULL THEN 'max_xmin_age' END),
        CASE WHEN num_nonnulls(s.max_lag, s.max_lag_bytes, s.max_xmin_age) = 1 THEN 's' ELSE '' END) END;
COMMENT ON FUNCTION roneo.unread_limits(roneo.source, boolean, text) IS
    'Which limits of a source are not kept, because its role may not know; NULL: all are.';

-- Written only where something is new, and not where another session is writing it: refreshes are
-- long, and nobody waits for the other.
CREATE OR REPLACE FUNCTION roneo.judge_load(source_name text, answer jsonb)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked   roneo.source := roneo.require_source(source_name);
    problem text := roneo.load_problem(asked, answer);
    unread  text := roneo.unread_limits(asked, (answer ->> 'reads_stats')::boolean, answer ->> 'user');
BEGIN
    UPDATE roneo.source AS s SET
        paused_since  = CASE WHEN problem IS NOT NULL THEN coalesce(s.paused_since, clock_timestamp()) END,
        paused_by     = problem,
        unread_limits = unread
    WHERE (s.paused_by, s.unread_limits) IS DISTINCT FROM (problem, unread)
      AND s.source_id IN (SELECT k.source_id FROM roneo.source AS k
                          WHERE k.source_id = asked.source_id FOR NO KEY UPDATE SKIP LOCKED);
    RETURN CASE WHEN problem IS NOT NULL THEN format('source %s is paused: %s', quote_ident(source_name), problem) END;
END;
$$;
COMMENT ON FUNCTION roneo.judge_load(text, jsonb) IS
    'For the program: notes what a source answered to load_query; why refreshes from it are to be deferred, or NULL.';

CREATE OR REPLACE FUNCTION roneo.refresh_timeout_of(members regclass[])
RETURNS interval LANGUAGE sql STABLE
RETURN (
    SELECT CASE WHEN bool_and(t.timeout > interval '0') THEN max(t.timeout) END
    FROM roneo.replica AS r
    CROSS JOIN LATERAL (
        SELECT coalesce(r.refresh_timeout, make_interval(secs => roneo.setting('refresh_timeout_s')))
    ) AS t (timeout)
    WHERE r.dest = ANY (members));
COMMENT ON FUNCTION roneo.refresh_timeout_of(regclass[]) IS
    'How long a refresh of these may take, of a group the longest; NULL: as long as it likes.';

-- A server's own limits, in case whoever set them is stopped or cut off: it goes before them.
CREATE OR REPLACE FUNCTION roneo.server_limits(time_limit interval)
RETURNS TABLE (setting_name text, value text) LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT n.name, format('%sms', ceil(extract(epoch FROM time_limit + interval '10 seconds') * 1000))
    FROM unnest(ARRAY['statement_timeout', 'idle_in_transaction_session_timeout']) AS n (name)
    WHERE time_limit IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.server_limits(interval) IS
    'Settings by which a server ends by itself what took longer, ten seconds after its client should have; none without a limit.';

CREATE OR REPLACE FUNCTION roneo.pin_limits(members regclass[])
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    SELECT count(set_config(l.setting_name, l.value, true))
    FROM roneo.server_limits(roneo.refresh_timeout_of(members)) AS l;
END;
COMMENT ON FUNCTION roneo.pin_limits(regclass[]) IS 'Lets this server keep to the limit of a refresh, for this transaction.';

CREATE OR REPLACE FUNCTION roneo.batch_advice(r roneo.replica)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN r.method IN ('snapshot', 'plain')
            THEN 'Copy fewer columns or rows, or use a method that reads only what is new (roneo.create_updater, roneo.create_dml)'
            ELSE format('Let it read in batches: UPDATE roneo.%s SET batch_limit = … WHERE replica_id = %s',
                        CASE WHEN r.method IN ('dml', 'logdel') THEN 'capture_replica' ELSE 'control_replica' END, r.replica_id) END;
COMMENT ON FUNCTION roneo.batch_advice(roneo.replica) IS 'What makes a refresh shorter.';

CREATE OR REPLACE FUNCTION roneo.refresh_limits(dest regclass)
RETURNS TABLE (
    timeout_ms bigint, timeout_text text, timeout_hint text, snapshot_ms bigint, snapshot_text text, snapshot_hint text,
    max_connections integer, load_query text, source_commands text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    r       roneo.replica;
    s       roneo.source;
    timeout interval := roneo.refresh_timeout_of(roneo.with_group(ARRAY[dest]));
BEGIN
    SELECT k.* INTO r FROM roneo.replica AS k WHERE k.dest = refresh_limits.dest;
    SELECT k.* INTO s FROM roneo.source AS k WHERE k.source_id = r.source_id;
    RETURN QUERY SELECT
        (extract(epoch FROM timeout) * 1000)::bigint,
        format('the refresh of %I.%I has taken %s, as long as it may', r.dest_schema, r.dest_name, timeout),
        format('%s; or let it take longer: SELECT roneo.set_refresh_timeout(%L, …). roneo history shows which step takes the time.',
               roneo.batch_advice(r), format('%I.%I', r.dest_schema, r.dest_name)),
        (extract(epoch FROM s.max_snapshot) * 1000)::bigint,
        format('a snapshot of source %I has been open for %s, as long as it may be', s.source_name, s.max_snapshot),
        format('%s; or raise max_snapshot with roneo.set_source_limits.', roneo.batch_advice(r)),
        s.max_connections,
        CASE WHEN coalesce(s.max_lag::text, s.max_lag_bytes::text, s.max_xmin_age::text) IS NOT NULL THEN roneo.load_query() END,
        (SELECT string_agg(format('SET LOCAL %s = %L', l.setting_name, l.value), '; ')
         FROM roneo.server_limits(least(timeout, s.max_snapshot)) AS l);
END;
$$;
COMMENT ON FUNCTION roneo.refresh_limits(regclass) IS
    'For the program: the limits of a refresh, with what is to be said when they are passed, what to ask of the source first, and what to tell its server; NULL: no limit.';

-- For the SQL hand. dblink waits where nothing can interrupt it; so the source's server is told to
-- end what takes too long, and between batches and steps the clock is asked.
CREATE OR REPLACE FUNCTION roneo.require_time()
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    limits jsonb := nullif(current_setting('roneo.limits', true), '')::jsonb;
    passed text := CASE
        WHEN clock_timestamp() > (limits ->> 'snapshot_until')::timestamptz THEN 'snapshot'
        WHEN clock_timestamp() > (limits ->> 'timeout_until')::timestamptz THEN 'timeout' END;
BEGIN
    IF passed IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = CASE passed WHEN 'snapshot' THEN 'RO031' ELSE 'RO030' END,
            MESSAGE = limits ->> concat(passed, '_text'),
            HINT    = limits ->> concat(passed, '_hint');
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_time() IS 'Raises RO030 or RO031 where the refresh that the SQL hand carries out has passed a limit.';

CREATE OR REPLACE FUNCTION roneo.limit_link(link text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    limits jsonb := nullif(current_setting('roneo.limits', true), '')::jsonb;
BEGIN
    IF limits IS NOT NULL THEN
        limits := limits || jsonb_build_object(
            'snapshot_until', clock_timestamp() + make_interval(secs => (limits ->> 'snapshot_ms')::float8 / 1000));
        PERFORM set_config('roneo.limits', limits::text, true);
        PERFORM roneo.tell_link(link, format('SET LOCAL statement_timeout = %L; SET LOCAL idle_in_transaction_session_timeout = %1$L',
            format('%sms', greatest(1, ceil(extract(epoch FROM least((limits ->> 'snapshot_until')::timestamptz,
                (limits ->> 'timeout_until')::timestamptz) - clock_timestamp()) * 1000)))));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.limit_link(text) IS 'Lets a source keep to the limits of a refresh by the SQL hand; to be called in the transaction that it is read in.';

CREATE OR REPLACE FUNCTION roneo.release_link(link text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.tell_link(link, 'ROLLBACK');
    PERFORM set_config('roneo.limits', (l.line::jsonb - 'snapshot_until')::text, true)
    FROM (SELECT nullif(current_setting('roneo.limits', true), '')) AS l (line) WHERE l.line IS NOT NULL;
END;
$$;
COMMENT ON FUNCTION roneo.release_link(text) IS 'Ends the transaction in which a source was read, and so its snapshot.';

CREATE OR REPLACE FUNCTION roneo.name_limit(
    dest regclass, began timestamptz, sqlstate_code text, message text, detail text, hint text)
RETURNS TABLE (code text, problem text, reason text, advice text) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    limits record;
    passed interval := clock_timestamp() - began;
BEGIN
    SELECT l.* INTO limits FROM roneo.refresh_limits(dest) AS l;
    IF sqlstate_code = '57014' AND passed >= make_interval(secs => limits.timeout_ms / 1000.0) THEN
        RETURN QUERY SELECT 'RO030', limits.timeout_text, message, limits.timeout_hint;
    ELSIF sqlstate_code = '57014' AND passed >= make_interval(secs => limits.snapshot_ms / 1000.0) THEN
        RETURN QUERY SELECT 'RO031', limits.snapshot_text, message, limits.snapshot_hint;
    ELSE
        RETURN QUERY SELECT sqlstate_code, message, detail, hint;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.name_limit(regclass, timestamptz, text, text, text, text) IS
    'What to record of an error of the SQL hand: where a source''s server ended what took too long, the limit that was passed.';

CREATE OR REPLACE FUNCTION roneo.open_guarded_link(dest regclass, source_name text)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s       roneo.source := roneo.require_source(source_name);
    limits  record;
    link    text;
    problem text;
BEGIN
    SELECT l.* INTO limits FROM roneo.refresh_limits(dest) AS l;
    PERFORM set_config('roneo.limits', CASE WHEN limits.timeout_ms > 0 OR limits.snapshot_ms > 0 THEN (to_jsonb(limits)
        || jsonb_build_object('timeout_until', clock_timestamp() + make_interval(secs => limits.timeout_ms / 1000.0)))::text
        ELSE '' END, true);
    FOR attempt IN 1 .. roneo.setting('lock_attempts') LOOP
        EXIT WHEN limits.max_connections IS NULL
               OR roneo.try_source_slot(s.source_id, limits.max_connections, false) IS NOT NULL;
        IF attempt = roneo.setting('lock_attempts') THEN
            RAISE EXCEPTION USING
                ERRCODE = 'RO033',
                MESSAGE = format('source %I has %s connection(s) from here, as many as it may have', source_name, limits.max_connections),
                HINT    = 'Nothing to do: the next refresh tries again. Or raise max_connections with roneo.set_source_limits.';
        END IF;
        PERFORM pg_sleep(roneo.setting('lock_timeout_ms') / 1000.0);
    END LOOP;
    link := roneo.open_link(source_name);
    IF limits.load_query IS NOT NULL THEN
        problem := roneo.judge_load(source_name, roneo.ask_link(link, limits.load_query)::jsonb);
        IF problem IS NOT NULL THEN
            RAISE EXCEPTION USING
                ERRCODE = 'RO032',
                MESSAGE = problem,
                HINT    = 'Nothing to do: it is refreshed when that is over. roneo.set_source_limits sets the limit.';
        END IF;
    END IF;
    RETURN link;
END;
$$;
COMMENT ON FUNCTION roneo.open_guarded_link(regclass, text) IS
    'Connects to the source of a refresh over dblink, within the limits of both; raises RO032 and RO033 where these are reached.';

-- Of a refresh that was put off nothing else is left.
CREATE OR REPLACE FUNCTION roneo.note_pause(wanted integer, sqlstate_code text, message text)
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    UPDATE roneo.source AS s SET
        paused_since = coalesce(s.paused_since, clock_timestamp()),
        paused_by    = regexp_replace(note_pause.message, '^source .* is paused: ', '')
    WHERE sqlstate_code = 'RO032' AND s.paused_since IS NULL
      AND s.source_id IN (SELECT k.source_id FROM roneo.source AS k WHERE k.source_id = wanted FOR NO KEY UPDATE SKIP LOCKED);
END;
COMMENT ON FUNCTION roneo.note_pause(integer, text, text) IS
    'Notes that a source is paused, after a refresh was deferred for that reason.';

-- A source that is paused for a day, asked once a minute, is told in one row a replica.
CREATE OR REPLACE FUNCTION roneo.same_pause(id integer, sqlstate_code text)
RETURNS bigint LANGUAGE sql STABLE
RETURN (
    SELECT CASE WHEN u.sqlstate = 'RO032' THEN u.run_id END
    FROM (SELECT v.* FROM roneo.run AS v WHERE v.replica_id = id AND v.kind <> 'verify' ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1) AS u
    WHERE sqlstate_code = 'RO032');
COMMENT ON FUNCTION roneo.same_pause(integer, text) IS
    'The run that already tells that a replica''s source is paused; NULL: its last run tells something else.';

CREATE OR REPLACE VIEW roneo.sources AS
SELECT s.source_name,
       s.server_name,
       (SELECT count(*) FROM roneo.replica AS r WHERE r.source_id = s.source_id) AS replicas,
       (SELECT count(DISTINCT l.objid) FROM pg_catalog.pg_locks AS l
        JOIN pg_catalog.pg_database AS b ON b.oid = l.database AND b.datname = current_database()
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
          AND l.classid::bigint = roneo.slot_class() AND l.objid::bigint / 1000 = s.source_id) AS connections,
       s.max_connections,
       s.max_snapshot,
       s.max_lag,
       s.max_lag_bytes,
       s.max_xmin_age,
       CASE WHEN s.paused_since IS NULL THEN 'ok' ELSE 'paused' END AS state,
       s.paused_since,
       s.paused_by,
       s.unread_limits
FROM roneo.source AS s;
COMMENT ON VIEW roneo.sources IS 'One line a source: its limits, and whether it is left alone because of one of them.';
COMMENT ON COLUMN roneo.sources.connections IS 'How many connections runners of this database have to it; counted only where there is a max_connections.';
COMMENT ON COLUMN roneo.sources.paused_by IS 'Which limit was passed, and what it was when a refresh last asked.';
COMMENT ON COLUMN roneo.sources.unread_limits IS 'Why limits are not kept: the role of the connection may not know.';
CREATE OR REPLACE FUNCTION roneo.planned_steps(answers jsonb)
RETURNS TABLE (
    replica_id integer, number integer, stage integer, kind text, purpose text, statement text,
    into_table text, into_list text, into_types text, copy_out text, copy_in text,
    counts text, patient boolean
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_method text;
BEGIN
    FOR found_method IN
        SELECT DISTINCT r.method
        FROM jsonb_array_elements(answers) AS a (answer)
        JOIN roneo.replica AS r ON r.replica_id = (a.answer ->> 'replica_id')::integer
        ORDER BY 1
    LOOP
        RETURN QUERY EXECUTE format($plan$
            SELECT r.replica_id,
                   row_number() OVER (PARTITION BY r.replica_id ORDER BY s.stage, s.ordinality)::integer,
                   s.stage::integer, s.kind, s.purpose, s.statement,
                   s.into_table, s.into_list, s.into_types,
                   roneo.copy_out(s.step, o.source_encoding), roneo.copy_in(s.step, o.source_encoding),
                   s.counts, coalesce(s.patient, false)
            FROM jsonb_array_elements($1) AS a (answer)
            JOIN roneo.replica AS r ON r.replica_id = (a.answer ->> 'replica_id')::integer
            JOIN roneo.source AS o ON o.source_id = r.source_id
            JOIN roneo.%I AS m ON m.replica_id = r.replica_id
            CROSS JOIN LATERAL (
                SELECT p.*, ROW(p.stage, p.kind, p.purpose, p.statement, p.into_table, p.into_list,
                    p.into_types, p.copy_format, p.copy_freeze, p.counts, p.patient)::roneo.step AS step
                FROM roneo.%I(r, m, a.answer) WITH ORDINALITY AS p
            ) AS s
            WHERE r.method = $2
            ORDER BY 1, 2 $plan$,
            concat(found_method, '_replica'), concat('plan_', found_method))
        USING answers, found_method;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.planned_steps(jsonb) IS
    'The steps of each replica, numbered: one statement a method, not one a replica.';

-- A parent comes before its children, and goes after them.
CREATE OR REPLACE FUNCTION roneo.reference_depths(dests oid[])
RETURNS TABLE (dest oid, depth integer) LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE reached AS (
        SELECT d AS relid, 0 AS level FROM unnest(dests) AS d
        UNION
        SELECT f.conrelid, w.level + 1
        FROM reached AS w
        JOIN pg_constraint AS f ON f.contype = 'f' AND f.confrelid = w.relid AND f.conrelid <> f.confrelid AND f.conrelid = ANY (dests)
        -- Tables that reference each other in a circle end here too.
        WHERE w.level < cardinality(dests)
    )
    SELECT relid, max(level) FROM reached GROUP BY relid;
END;
COMMENT ON FUNCTION roneo.reference_depths(oid[]) IS
    'How deep below the tables that it references, by foreign keys, each of some tables stands.';

CREATE OR REPLACE FUNCTION roneo.plan_refresh(answers jsonb)
RETURNS TABLE (
    replica_id integer, number integer, stage integer, kind text, purpose text, statement text,
    into_table text, into_list text, into_types text, copy_out text, copy_in text,
    counts text, patient boolean
)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT p.replica_id, p.number, p.stage, p.kind,
           CASE WHEN jsonb_array_length(answers) > 1 THEN format('%I.%I: %s', r.dest_schema, r.dest_name, p.purpose) ELSE p.purpose END,
           p.statement, p.into_table, p.into_list, p.into_types, p.copy_out, p.copy_in, p.counts, p.patient
    FROM roneo.planned_steps(answers) AS p
    JOIN roneo.replica AS r ON r.replica_id = p.replica_id
    LEFT JOIN roneo.reference_depths(ARRAY(
        SELECT k.dest::oid FROM jsonb_array_elements(answers) AS a (answer)
        JOIN roneo.replica AS k ON k.replica_id = (a.answer ->> 'replica_id')::integer)) AS d ON d.dest = r.dest
    ORDER BY p.stage, CASE WHEN p.stage IN (3, 5) THEN -d.depth ELSE d.depth END, p.replica_id, p.number;
END;
COMMENT ON FUNCTION roneo.plan_refresh(jsonb) IS
    'Third phase: from what the sources answered to numbered steps in the order of their execution, with the COPY statements of each transfer. No steps: nothing to do. Of a group, what is removed goes before what is put, children first, and what is put comes after, parents first.';
-- The SQL hand's way to a source: a named dblink connection. dblink is looked up where it was
-- installed, and only when it is used.

CREATE OR REPLACE FUNCTION roneo.dblink_function(function_name text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    home name;
BEGIN
    SELECT n.nspname INTO home
    FROM pg_extension AS e
    JOIN pg_namespace AS n ON n.oid = e.extnamespace
    WHERE e.extname = 'dblink';
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO011',
            MESSAGE = 'dblink is not installed in this database',
            DETAIL  = 'Without the roneo program, rows travel over dblink.',
            HINT    = 'CREATE EXTENSION dblink, or refresh with the roneo program, which needs none.';
    END IF;
    RETURN format('%I.%I', home, function_name);
END;
$$;
COMMENT ON FUNCTION roneo.dblink_function(text) IS
    'The qualified name of a function of dblink; raises RO011 where it is not installed.';

CREATE OR REPLACE FUNCTION roneo.link_name(source_id integer)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('roneo_%s', source_id);
COMMENT ON FUNCTION roneo.link_name(integer) IS 'The name of this session''s dblink connection to a source.';

CREATE OR REPLACE FUNCTION roneo.link_advice(code text, server_name name)
RETURNS text LANGUAGE sql STABLE
RETURN CASE code
    WHEN '42704' THEN format('CREATE USER MAPPING FOR %I SERVER %I OPTIONS (user ''…'', password ''…'');',
                             current_user, server_name)
    WHEN '42501' THEN format('GRANT USAGE ON FOREIGN SERVER %I TO %I;', server_name, current_user)
    ELSE 'dblink lets only superusers connect without a password: put one into the user mapping, and let the source ask for it. Refreshes by the roneo program need none.'
END;
COMMENT ON FUNCTION roneo.link_advice(text, name) IS
    'What helps the current role where dblink may not connect.';

-- A server's own options may name no time to wait, and a host that answers nothing would be waited
-- for without end. Who may use a mapping need not be allowed to see it; then the server's name will do.
CREATE OR REPLACE FUNCTION roneo.link_target(source roneo.source)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN roneo.source_conninfo(source.source_name);
EXCEPTION WHEN SQLSTATE 'RO009' OR undefined_object THEN
    RETURN source.server_name;
END;
$$;
COMMENT ON FUNCTION roneo.link_target(roneo.source) IS
    'What dblink is to connect to: the options that this role may see, with time limits, else the name of the foreign server.';

-- Who does many things on one source, one after the other, holds one connection for all of them.
CREATE OR REPLACE FUNCTION roneo.held_link(source_id integer)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('roneo_%s_held', source_id);
COMMENT ON FUNCTION roneo.held_link(integer) IS 'The name of a dblink connection to a source that stays open until hold_source''s caller closes it.';

CREATE OR REPLACE FUNCTION roneo.is_open(link text)
RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer boolean;
BEGIN
    EXECUTE format('SELECT $1 = ANY (%s())', roneo.dblink_function('dblink_get_connections'))
    INTO answer USING link;
    RETURN coalesce(answer, false);
END;
$$;
COMMENT ON FUNCTION roneo.is_open(text) IS 'Whether this session has a dblink connection of that name.';

CREATE OR REPLACE FUNCTION roneo.connect_link(source roneo.source, link text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
    reason  text;
BEGIN
    EXECUTE format('SELECT %s($1, $2)', roneo.dblink_function('dblink_connect'))
    USING link, roneo.link_target(source);
EXCEPTION WHEN sqlclient_unable_to_establish_sqlconnection THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, reason = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION USING
        ERRCODE = 'RO008',
        MESSAGE = format('source %s cannot be reached', quote_ident(source.source_name)),
        DETAIL  = coalesce(nullif(btrim(reason), ''), problem),
        HINT    = format('Look at the options of the foreign server %I and of your user mapping for it.',
                         source.server_name);
WHEN undefined_object OR insufficient_privilege OR SQLSTATE '2F003' THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, reason = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION USING
        ERRCODE = 'RO009',
        MESSAGE = format('role %I may not connect to source %s over dblink',
                         current_user, quote_ident(source.source_name)),
        DETAIL  = concat_ws('. ', problem, nullif(reason, '')),
        HINT    = roneo.link_advice(SQLSTATE, source.server_name);
END;
$$;
COMMENT ON FUNCTION roneo.connect_link(roneo.source, text) IS
    'Connects to a source over dblink; raises RO008, RO009 or RO011.';

CREATE OR REPLACE FUNCTION roneo.open_link(source_name text)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source roneo.source := roneo.require_source(source_name);
    link   text := roneo.link_name(source.source_id);
BEGIN
    IF roneo.is_open(roneo.held_link(source.source_id)) THEN
        RETURN roneo.held_link(source.source_id);
    END IF;
    PERFORM roneo.close_link(link);
    PERFORM roneo.connect_link(source, link);
    RETURN link;
END;
$$;
COMMENT ON FUNCTION roneo.open_link(text) IS
    'Connects to a source over dblink and returns the name of the connection; raises RO003, RO008, RO009 or RO011.';

CREATE OR REPLACE FUNCTION roneo.disconnect_link(link text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('SELECT %s($1)', roneo.dblink_function('dblink_disconnect')) USING link;
END;
$$;
COMMENT ON FUNCTION roneo.disconnect_link(text) IS 'Closes a dblink connection that is open.';

CREATE OR REPLACE FUNCTION roneo.close_link(link text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF roneo.is_open(link) THEN
        IF link LIKE '%\_held' THEN
            BEGIN
                PERFORM roneo.tell_link(link, 'ROLLBACK');
                RETURN;
            EXCEPTION WHEN OTHERS THEN
                -- It is broken; whoever comes next makes one of their own.
                NULL;
            END;
        END IF;
        PERFORM roneo.disconnect_link(link);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.close_link(text) IS 'Closes a dblink connection where it is open; one that is held only has its transaction rolled back.';

CREATE OR REPLACE FUNCTION roneo.ask_link(link text, query text)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE format('SELECT answer FROM %s($1, $2) AS t (answer text)', roneo.dblink_function('dblink'))
    INTO answer USING link, query;
    RETURN answer;
END;
$$;
COMMENT ON FUNCTION roneo.ask_link(text, text) IS 'The one value that a query on the source returns.';

CREATE OR REPLACE FUNCTION roneo.tell_link(link text, command text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('SELECT %s($1, $2)', roneo.dblink_function('dblink_exec')) USING link, command;
END;
$$;
COMMENT ON FUNCTION roneo.tell_link(text, text) IS 'Runs commands on the source.';

CREATE OR REPLACE FUNCTION roneo.call_source(source_name text, query text, opening text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    link   text := roneo.open_link(source_name);
    answer text;
BEGIN
    IF opening IS NOT NULL THEN
        PERFORM roneo.tell_link(link, opening);
    END IF;
    answer := roneo.ask_link(link, query);
    PERFORM roneo.close_link(link);
    RETURN answer;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link(link);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.call_source(text, text, text) IS
    'The one value that a query on a source returns, over a connection of its own. opening: what begins its transaction, which is rolled back; without it what the query does is committed.';
-- How the SQL hand executes one step. The runner does the same with two connections of its own.

-- Both counts come from one statement: a loop that ends on the rows inserted would end early
-- where a trigger swallows a batch. Where the table references itself all rows are one batch: a
-- row may reference one that comes later.
CREATE OR REPLACE FUNCTION roneo.fetch_statement(s roneo.step, link text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format(
        'WITH fetched AS MATERIALIZED (SELECT * FROM %1$s AS f (%2$s)),
              put AS (INSERT INTO %3$s%4$s SELECT %5$s FROM fetched RETURNING 1)
         SELECT (SELECT count(*) FROM fetched), (SELECT count(*) FROM put),
                (SELECT coalesce(sum(pg_column_size(fetched)), 0) FROM fetched)',
        CASE WHEN EXISTS (SELECT FROM pg_constraint AS c
                          WHERE c.contype = 'f' AND c.conrelid = to_regclass(s.into_table) AND c.confrelid = c.conrelid)
             THEN format('%s(%L, ''FETCH ALL FROM roneo'')', roneo.dblink_function('dblink'), link)
             ELSE format('%s(%L, ''roneo'', $1)', roneo.dblink_function('dblink_fetch'), link) END,
        s.into_types, s.into_table,
        CASE WHEN s.into_list = '' THEN '' ELSE format(' (%s) OVERRIDING SYSTEM VALUE', s.into_list) END,
        s.into_list);
END;
$$;
COMMENT ON FUNCTION roneo.fetch_statement(roneo.step, text) IS
    'A statement that moves one batch, of $1 rows (all of them where the table references itself), and counts the rows fetched, the rows put, and the bytes.';

CREATE OR REPLACE FUNCTION roneo.become(owner name)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- In a definer function of that owner the role is right already, and must not be set.
    IF owner <> current_user THEN
        PERFORM set_config('role', owner, true);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.become(name) IS
    'Sets the role for the rest of the transaction, or until it is set back: steps run as the destination''s owner.';

CREATE OR REPLACE FUNCTION roneo.transfer_over_link(s roneo.step, link text, owner name)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Rows of unknown width: the first batch is small, and the next ones about eight megabytes.
    batch    integer := 100;
    one_batch text := roneo.fetch_statement(s, link);
    caller   text := current_setting('role');
    fetched  bigint;
    put      bigint;
    size     bigint;
    sent     bigint := 0;
    received bigint := 0;
    bytes    bigint := 0;
BEGIN
    EXECUTE format('SELECT %s($1, ''roneo'', $2)', roneo.dblink_function('dblink_open'))
    USING link, CASE WHEN s.into_list = ''
                     THEN format('SELECT NULL::pg_catalog.bool FROM (%s) AS source', s.statement)
                     ELSE s.statement END;
    PERFORM roneo.become(owner);
    LOOP
        EXECUTE one_batch INTO fetched, put, size USING batch;
        EXIT WHEN fetched = 0;
        PERFORM set_config('role', caller, true) WHERE caller <> current_setting('role');
        PERFORM roneo.require_time();
        PERFORM roneo.become(owner);
        sent := sent + fetched;
        received := received + put;
        bytes := bytes + size;
        batch := least(50000, greatest(1, 8388608 * fetched / greatest(size, 1)));
    END LOOP;
    PERFORM set_config('role', caller, true) WHERE caller <> current_setting('role');
    EXECUTE format('SELECT %s($1, ''roneo'')', roneo.dblink_function('dblink_close')) USING link;
    RETURN jsonb_build_object('sent', sent, 'received', received, 'bytes', bytes);
END;
$$;
COMMENT ON FUNCTION roneo.transfer_over_link(roneo.step, text, name) IS
    'Moves the rows of a transfer step over dblink, in batches of about eight megabytes.';

CREATE OR REPLACE FUNCTION roneo.run_as(owner name, statement text)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    caller text := current_setting('role');
    moved  bigint;
BEGIN
    PERFORM roneo.become(owner);
    EXECUTE statement;
    GET DIAGNOSTICS moved = ROW_COUNT;
    PERFORM set_config('role', caller, true) WHERE caller <> current_setting('role');
    RETURN moved;
END;
$$;
COMMENT ON FUNCTION roneo.run_as(name, text) IS
    'Executes statements as the owner of a destination; returns the number of rows of the last one.';

CREATE OR REPLACE FUNCTION roneo.ask_as(owner name, query text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    caller text := current_setting('role');
    answer jsonb;
BEGIN
    PERFORM roneo.become(owner);
    EXECUTE query INTO STRICT answer;
    PERFORM set_config('role', caller, true) WHERE caller <> current_setting('role');
    RETURN answer;
END;
$$;
COMMENT ON FUNCTION roneo.ask_as(name, text) IS
    'Executes a statement as the owner of a destination; returns the one value that it answers with.';

CREATE OR REPLACE FUNCTION roneo.run_patiently(owner name, statement text)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    FOR attempt IN 1 .. roneo.setting('lock_attempts') LOOP
        BEGIN
            PERFORM set_config('lock_timeout', format('%sms', roneo.setting('lock_timeout_ms')), true);
            PERFORM roneo.run_as(owner, statement);
            PERFORM set_config(p.setting_name, p.value, true) FROM roneo.pinned_settings() AS p WHERE p.setting_name = 'lock_timeout';
            RETURN 'done';
        EXCEPTION WHEN lock_not_available THEN
            -- Those who queued up behind us go first.
            PERFORM pg_sleep(0.05 + 0.15 * random());
        END;
    END LOOP;
    RETURN 'deferred';
END;
$$;
COMMENT ON FUNCTION roneo.run_patiently(name, text) IS
    'Executes statements with a short lock_timeout and tries again a few times; returns done or deferred.';

CREATE OR REPLACE FUNCTION roneo.attempt_over_link(s roneo.step, link text, owner name)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    RETURN roneo.transfer_over_link(s, link, owner);
EXCEPTION WHEN unique_violation THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    RAISE EXCEPTION USING ERRCODE = 'RO027', MESSAGE = problem;
END;
$$;
COMMENT ON FUNCTION roneo.attempt_over_link(roneo.step, text, name) IS
    'Moves rows into a table where their keys are not expected; raises RO027 where one is there, for the refresh to begin anew by way of staging.';

CREATE OR REPLACE FUNCTION roneo.run_step(kind text, s roneo.step, link text, owner name)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE
        WHEN kind = 'transfer' THEN
            RETURN roneo.transfer_over_link(s, link, owner);
        WHEN kind = 'attempt' THEN
            RETURN roneo.attempt_over_link(s, link, owner);
        WHEN kind = 'check' THEN
            RETURN jsonb_build_object('answer', roneo.ask_link(link, s.statement)::jsonb);
        WHEN kind = 'dest' AND s.statement IS NULL THEN
            RETURN '{"outcome": "deferred"}'::jsonb;
        WHEN kind = 'dest' AND s.patient THEN
            RETURN jsonb_build_object('outcome', roneo.run_patiently(owner, s.statement));
        WHEN kind = 'dest' AND s.counts = 'put' THEN
            RETURN jsonb_build_object('answer', roneo.ask_as(owner, s.statement));
        WHEN kind = 'dest' THEN
            RETURN jsonb_build_object('rows', roneo.run_as(owner, s.statement));
        WHEN kind = 'source' THEN
            PERFORM roneo.tell_link(link, s.statement);
            RETURN '{}'::jsonb;
        WHEN kind = 'after' THEN
            -- The caller commits, and perhaps does not. What is to follow is idempotent and may be lost.
            RETURN '{"outcome": "skipped"}'::jsonb;
    END CASE;
END;
$$;
COMMENT ON FUNCTION roneo.run_step(text, roneo.step, text, name) IS
    'Executes one step of a plan and returns what is to be reported of it.';
CREATE OR REPLACE FUNCTION roneo.require_complete(r roneo.replica, result jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    SELECT CASE
        WHEN result ->> 'planned' IS NULL
             OR jsonb_agg(s.step ->> 'number' ORDER BY (s.step ->> 'number')::integer)
             IS DISTINCT FROM (SELECT jsonb_agg(n::text ORDER BY n)
                               FROM generate_series(1, (result ->> 'planned')::integer) AS n)
            THEN 'not every planned step was reported'
        WHEN bool_or(s.step ->> 'outcome' NOT IN ('done', 'deferred', 'skipped')
                     OR s.step ->> 'outcome' IS NULL)
            THEN 'a step was reported without its outcome'
        -- What waits on the step that was put off must not be done, and nothing else may be left out.
        WHEN bool_or(s.step ->> 'kind' IS DISTINCT FROM 'after' AND (s.step ->> 'outcome' = 'skipped')
                     <> coalesce((s.step ->> 'number')::integer > d.first_deferred, false))
            THEN 'the steps that were skipped are not those after one that was deferred'
        WHEN bool_or(s.step ->> 'kind' IN ('transfer', 'attempt') AND s.step ->> 'outcome' = 'done'
                     AND (s.step ->> 'sent' = s.step ->> 'received') IS NOT TRUE)
            THEN format('%s rows were sent and %s arrived', sum((s.step ->> 'sent')::bigint),
                        sum((s.step ->> 'received')::bigint))
    END INTO problem
    FROM jsonb_array_elements(nullif(result -> 'steps', 'null')) AS s (step)
    CROSS JOIN (SELECT min((f.step ->> 'number')::integer) AS first_deferred
                FROM jsonb_array_elements(nullif(result -> 'steps', 'null')) AS f (step)
                WHERE f.step ->> 'outcome' = 'deferred') AS d;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO014',
            MESSAGE = format('refresh of %I.%I is not accepted: %s', r.dest_schema, r.dest_name, problem),
            HINT    = 'Look for a trigger or a rule on the destination that swallows rows.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_complete(roneo.replica, jsonb) IS
    'Raises RO014 unless every planned step was reported and as many rows arrived as were sent.';

CREATE OR REPLACE FUNCTION roneo.require_unmoved(r roneo.replica, result jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM jsonb_array_elements(result -> 'steps') AS s (step)
               WHERE (s.step -> 'answer' ->> 'moved')::boolean) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO013',
            MESSAGE = format('source table %I.%I was rewritten while it was read',
                             r.source_schema, r.source_table),
            DETAIL  = 'TRUNCATE, ALTER TABLE or a detached partition can hide rows from a snapshot that is older.',
            HINT    = 'Nothing was changed; the next refresh reads it again.';
    ELSIF EXISTS (SELECT FROM jsonb_array_elements(result -> 'steps') AS s (step)
                  WHERE NOT (s.step -> 'answer' ->> 'on_disk')::boolean) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO013',
            MESSAGE = format('what was read of source table %I.%I is not on the source''s disk yet', r.source_schema, r.source_table),
            DETAIL  = 'With synchronous_commit off, a crash would take it back there.',
            HINT    = 'Nothing was changed; the next refresh reads it again.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_unmoved(roneo.replica, jsonb) IS
    'Raises RO013 where the files of the source are not those that the snapshot knew, or what it saw is not on disk there.';

CREATE OR REPLACE FUNCTION roneo.outcome_of(result jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN (result ->> 'planned')::integer = 0 THEN 'unchanged'
    WHEN jsonb_path_exists(result, '$.steps[*].outcome ? (@ == "deferred")') THEN 'deferred'
    ELSE 'ok'
END;
COMMENT ON FUNCTION roneo.outcome_of(jsonb) IS
    'ok, deferred, or unchanged; unchanged comes only from an empty plan, never from a count of zero.';

CREATE OR REPLACE FUNCTION roneo.counted(result jsonb, what text, field text)
RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN (
    SELECT sum((s.step ->> field)::bigint)
    FROM jsonb_array_elements(result -> 'steps') AS s (step)
    WHERE s.step ->> 'counts' = what AND s.step ->> 'outcome' = 'done'
);
COMMENT ON FUNCTION roneo.counted(jsonb, text, text) IS
    'The sum of a field over the steps that count for inserted, updated and so on.';

CREATE OR REPLACE FUNCTION roneo.identity_of(answer jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object(
    'system_identifier', answer #> '{before,identity,system_identifier}',
    'timeline',          answer #> '{before,identity,timeline}',
    'version',           answer #> '{before,identity,version}',
    'in_recovery',       answer #> '{before,identity,in_recovery}',
    'lsn',               answer #> '{before,identity,lsn}',
    'clock',             answer #> '{before,identity,clock}',
    'table',             answer #> '{inside,relation,oid}');
COMMENT ON FUNCTION roneo.identity_of(jsonb) IS 'Which cluster and table an answer came from.';

CREATE OR REPLACE FUNCTION roneo.identity_warning(r roneo.replica, answer jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN CASE
    WHEN r.identity -> 'system_identifier' <> roneo.identity_of(answer) -> 'system_identifier'
        THEN format('the source is another cluster than at the last refresh: system identifier %s was %s',
                    roneo.identity_of(answer) ->> 'system_identifier', r.identity ->> 'system_identifier')
    WHEN r.identity -> 'timeline' <> roneo.identity_of(answer) -> 'timeline'
        THEN format('the source has been promoted or restored since the last refresh: timeline %s was %s',
                    roneo.identity_of(answer) ->> 'timeline', r.identity ->> 'timeline')
    -- Two standbys need not be equally far.
    WHEN r.identity ->> 'in_recovery' = 'false' AND answer #>> '{before,identity,in_recovery}' = 'false'
         AND (r.identity ->> 'lsn')::pg_lsn > (answer #>> '{before,identity,lsn}')::pg_lsn
        THEN format('the source has gone back in time since the last refresh: its log is at %s and was at %s',
                    answer #>> '{before,identity,lsn}', r.identity ->> 'lsn')
    WHEN r.identity -> 'table' <> roneo.identity_of(answer) -> 'table'
        THEN format('source table %I.%I has been dropped and made again since the last refresh',
                    r.source_schema, r.source_table)
END;
COMMENT ON FUNCTION roneo.identity_warning(roneo.replica, jsonb) IS
    'What to tell a person when the rows came from another cluster or table than before; NULL when they did not.';

CREATE OR REPLACE FUNCTION roneo.put_counts(result jsonb, received bigint, OUT counts jsonb, OUT rest bigint)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT p.counts, received - (p.counts ->> 'inserted')::bigint - coalesce((p.counts ->> 'updated')::bigint, 0)
    FROM (SELECT jsonb_path_query_first(result, '$.steps[*] ? (@.counts == "put").answer')) AS p (counts);
END;
COMMENT ON FUNCTION roneo.put_counts(jsonb, bigint) IS
    'What the step that put rows by key says of them, and how many are left: rows that were there already.';

CREATE OR REPLACE FUNCTION roneo.wants_again(id integer, answer jsonb, outcome text)
RETURNS boolean LANGUAGE sql STABLE
RETURN outcome = 'ok' AND (
    coalesce((answer #>> '{inside,cut}')::boolean, false)
    OR coalesce((answer #>> '{inside,pending,cut}')::numeric < (answer #>> '{inside,pending,last}')::numeric, false)
    OR EXISTS (SELECT FROM roneo.control_replica AS c WHERE c.replica_id = id AND c.repulling));
COMMENT ON FUNCTION roneo.wants_again(integer, jsonb, text) IS
    'Whether another round is to follow: a batch_limit was reached, or a repull is under way.';

-- A table that seldom changes would fill the history with rows that say the same. One row stands for
-- a day of them at the most, so that days can still be told apart, and forgotten.
CREATE OR REPLACE FUNCTION roneo.prolong_run(r roneo.replica, hand text, result jsonb, warning text)
RETURNS bigint LANGUAGE sql
BEGIN ATOMIC
    UPDATE roneo.run AS u SET
        -- Named, although it stays: pg_jobmon is told where it is written.
        outcome  = 'unchanged',
        ended_at = clock_timestamp(),
        seconds  = round((result ->> 'seconds')::numeric, 3),
        runner   = result ->> 'runner',
        repeats  = u.repeats + 1
    WHERE u.run_id = (SELECT v.run_id FROM roneo.run AS v WHERE v.replica_id = r.replica_id
                      ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1)
      AND u.outcome = 'unchanged' AND u.hand = prolong_run.hand
      AND u.method = r.method AND u.dest = format('%I.%I', r.dest_schema, r.dest_name)
      AND u.warning IS NOT DISTINCT FROM prolong_run.warning
      AND u.started_at > clock_timestamp() - interval '1 day'
    RETURNING u.run_id;
END;
COMMENT ON FUNCTION roneo.prolong_run(roneo.replica, text, jsonb, text) IS
    'Lets the last row of the history stand for one more refresh that found nothing to do, and returns it; NULL where that one tells something else.';

CREATE OR REPLACE FUNCTION roneo.record_run(r roneo.replica, answer jsonb, result jsonb, ended roneo.run)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF ended.run_id IS NULL THEN
        PERFORM roneo.abandon_runs(r.replica_id);
        IF ended.outcome = 'unchanged' THEN
            ended.run_id := roneo.prolong_run(r, answer ->> 'hand', result, ended.warning);
            IF ended.run_id IS NOT NULL THEN
                RETURN ended.run_id;
            END IF;
        END IF;
        ended.run_id := roneo.new_run(r, answer ->> 'hand', ended.started_at, result ->> 'runner');
    END IF;
    UPDATE roneo.run SET
        outcome       = ended.outcome,
        ended_at      = clock_timestamp(),
        seconds       = round((result ->> 'seconds')::numeric, 3),
        rows_sent     = ended.rows_sent,
        rows_received = ended.rows_received,
        inserted      = coalesce((put.counts ->> 'inserted')::bigint, ended.rows_received),
        updated       = (put.counts ->> 'updated')::bigint,
        unchanged     = CASE WHEN r.method IN ('updater', 'dml', 'logdel') THEN put.rest - coalesce(roneo.counted(result, 'gone', 'rows'), 0) END,
        ignored       = CASE WHEN r.method NOT IN ('updater', 'dml', 'logdel') THEN put.rest END,
        has_more      = ended.has_more,
        deleted       = roneo.counted(result, 'deleted', 'rows'),
        bytes         = roneo.counted(result, 'inserted', 'bytes'),
        warning       = ended.warning,
        message       = CASE WHEN ended.outcome = 'deferred'
                             THEN 'loaded; the next refresh shows it' END,
        steps         = (SELECT jsonb_agg(s.step - 'answer' ORDER BY s.number)
                         FROM jsonb_array_elements(result -> 'steps') WITH ORDINALITY AS s (step, number))
    FROM roneo.put_counts(result, ended.rows_received) AS put
    WHERE run_id = ended.run_id;
    RETURN ended.run_id;
END;
$$;
COMMENT ON FUNCTION roneo.record_run(roneo.replica, jsonb, jsonb, roneo.run) IS
    'Writes the end of a refresh into its run, or into the last one where both found nothing to do; returns that.';

CREATE OR REPLACE FUNCTION roneo.record_end(r roneo.replica, answer jsonb, result jsonb)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ended roneo.run;
BEGIN
    ended.run_id        := (result ->> 'run_id')::bigint;
    ended.outcome       := roneo.outcome_of(result);
    ended.started_at    := coalesce((result ->> 'started_at')::timestamptz, clock_timestamp());
    ended.rows_sent     := roneo.counted(result, 'inserted', 'sent');
    ended.rows_received := roneo.counted(result, 'inserted', 'received');
    ended.has_more      := roneo.wants_again(r.replica_id, answer, ended.outcome);
    ended.warning       := nullif(concat_ws('; ', roneo.identity_warning(r, answer), answer #>> '{inside,warning}'), '');
    ended.run_id        := roneo.record_run(r, answer, result, ended);
    UPDATE roneo.replica SET
        dest            = coalesce(to_regclass(format('%I.%I', dest_schema, dest_name)), dest),
        generation      = generation + 1,
        last_attempt_at = ended.started_at,
        last_success_at = CASE WHEN ended.outcome = 'deferred' THEN last_success_at ELSE ended.started_at END,
        last_outcome    = ended.outcome,
        last_message    = NULL,
        failures        = CASE WHEN ended.outcome = 'deferred' THEN failures ELSE 0 END,
        lasting_failures = CASE WHEN ended.outcome = 'deferred' THEN lasting_failures ELSE 0 END,
        quarantined_at  = CASE WHEN ended.outcome = 'deferred' THEN quarantined_at END,
        source_kind     = coalesce((answer #>> '{inside,relation,kind}')::"char", source_kind),
        identity        = roneo.identity_of(answer),
        source_state    = CASE WHEN ended.outcome <> 'deferred' AND NOT ended.has_more THEN (answer #>> '{before,state}')::uuid END,
        looked_at       = ended.started_at
    WHERE replica_id = r.replica_id;
    RETURN ended.run_id;
END;
$$;
COMMENT ON FUNCTION roneo.record_end(roneo.replica, jsonb, jsonb) IS
    'Writes the end of a refresh into its run and its replica, and returns the run.';

CREATE OR REPLACE FUNCTION roneo.new_run(r roneo.replica, hand text, started_at timestamptz, runner text)
RETURNS bigint LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, runner)
    VALUES (r.replica_id, format('%I.%I', r.dest_schema, r.dest_name), r.method, hand, 'running',
            started_at, runner)
    RETURNING run_id;
END;
COMMENT ON FUNCTION roneo.new_run(roneo.replica, text, timestamptz, text) IS
    'A new row of the history, running.';

CREATE OR REPLACE FUNCTION roneo.abandon_runs(id integer)
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    UPDATE roneo.run SET
        outcome  = 'abandoned',
        ended_at = clock_timestamp(),
        message  = 'its hand was killed or lost the destination; nothing of it was committed'
    WHERE replica_id = id AND outcome = 'running';
END;
COMMENT ON FUNCTION roneo.abandon_runs(integer) IS
    'Ends the runs of a replica that are recorded as running. To be called by who holds its lock: whoever wrote them is gone.';

CREATE OR REPLACE FUNCTION roneo.forget_old_runs(id integer)
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    -- Without waiting for another session that forgets them too.
    DELETE FROM roneo.run
    WHERE run_id IN (
        SELECT u.run_id
        FROM roneo.run AS u
        WHERE u.replica_id = id
          AND u.ended_at IS NOT NULL
          AND u.started_at < now() - make_interval(days => roneo.setting('history_days'))
          -- One that stands for many refreshes is as old as the last of them.
          AND (u.repeats = 1 OR u.ended_at < now() - make_interval(days => roneo.setting('history_days')))
        FOR UPDATE SKIP LOCKED);
END;
COMMENT ON FUNCTION roneo.forget_old_runs(integer) IS
    'Deletes the runs of a replica that are older than the setting history_days.';

CREATE OR REPLACE FUNCTION roneo.finish_methods(ended roneo.ended[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_method text;
BEGIN
    FOR found_method IN
        SELECT DISTINCT r.method
        FROM unnest(ended) AS e
        JOIN roneo.replica AS r ON r.replica_id = e.replica_id
        ORDER BY 1
    LOOP
        EXECUTE format(
            'SELECT roneo.%I(array_agg(e))
             FROM unnest($1) AS e
             JOIN roneo.replica AS r ON r.replica_id = e.replica_id
             WHERE r.method = $2', concat('finish_', found_method))
        USING ended, found_method;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.finish_methods(roneo.ended[]) IS
    'Lets each method store the positions of its replicas: one call a method.';

CREATE OR REPLACE FUNCTION roneo.finish_refresh(answers jsonb, results jsonb)
RETURNS TABLE (
    replica_id integer, run_id bigint, outcome text, again boolean, message text, warning text,
    rows_sent bigint, rows_received bigint, inserted bigint, updated bigint, unchanged bigint,
    ignored bigint, deleted bigint, bytes bigint
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    one   roneo.ended;
    ended roneo.ended[];
    r     roneo.replica;
    runs  bigint[];
BEGIN
    SELECT array_agg(ROW((a.answer ->> 'replica_id')::integer, a.answer, b.result)::roneo.ended)
    INTO ended
    FROM jsonb_array_elements(answers) AS a (answer)
    LEFT JOIN jsonb_array_elements(results) AS b (result)
        ON b.result ->> 'replica_id' = a.answer ->> 'replica_id';
    FOREACH one IN ARRAY ended LOOP
        SELECT * INTO STRICT r FROM roneo.replica AS known WHERE known.replica_id = one.replica_id;
        PERFORM roneo.require_complete(r, one.result);
        PERFORM roneo.require_unmoved(r, one.result);
    END LOOP;
    PERFORM roneo.finish_methods(ended);
    FOREACH one IN ARRAY ended LOOP
        SELECT * INTO STRICT r FROM roneo.replica AS known WHERE known.replica_id = one.replica_id;
        runs := array_append(runs, roneo.record_end(r, one.answer, one.result));
        PERFORM roneo.forget_old_runs(one.replica_id);
    END LOOP;
    RETURN QUERY
        SELECT u.replica_id, u.run_id, u.outcome, coalesce(u.has_more, false), u.message, u.warning,
               u.rows_sent, u.rows_received, u.inserted, u.updated, u.unchanged,
               u.ignored, u.deleted, u.bytes
        FROM roneo.run AS u
        WHERE u.run_id = ANY (runs)
        ORDER BY 1;
END;
$$;
COMMENT ON FUNCTION roneo.finish_refresh(jsonb, jsonb) IS
    'Fourth phase, in the transaction of the steps: checks the accounting, stores the positions and the runs. Raises RO013, RO014 or RO016, and then nothing of the refresh may be committed.';

CREATE OR REPLACE FUNCTION roneo.record_start(dest regclass, runner text)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r roneo.replica;
BEGIN
    SELECT known.* INTO r FROM roneo.replica AS known WHERE known.dest = record_start.dest;
    -- The caller holds the lock in another transaction.
    PERFORM roneo.abandon_runs(r.replica_id);
    RETURN roneo.new_run(r, 'runner', clock_timestamp(), runner);
END;
$$;
COMMENT ON FUNCTION roneo.record_start(regclass, text) IS
    'Records that a refresh is running, in a transaction of its own, so that one that was killed is seen afterwards. To be called while another transaction of the caller holds the lock on the replica.';

CREATE OR REPLACE FUNCTION roneo.failure_outcome(sqlstate_code text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN sqlstate_code IN ('55P03', 'RO002', 'RO013', 'RO016', 'RO020', 'RO026', 'RO032', 'RO033') THEN 'deferred' ELSE 'failed' END;
COMMENT ON FUNCTION roneo.failure_outcome(text) IS
    'deferred where another attempt is all that is needed, else failed.';

CREATE OR REPLACE FUNCTION roneo.failure_hint(r roneo.replica, sqlstate_code text, message text)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN sqlstate_code IN ('3F000', '42P01', '42883', '42501') AND message ~ 'roneo_capture|queue_[0-9]+_[0-2]' THEN format(
    'The source has lost what captures its changes, or this role may not use it any more: SELECT roneo.resync(%L) makes it again; roneo.capture_script prints it.',
    format('%I.%I', r.dest_schema, r.dest_name)) END;
COMMENT ON FUNCTION roneo.failure_hint(roneo.replica, text, text) IS 'What helps against an error of the source that PostgreSQL knows no hint for.';

CREATE OR REPLACE FUNCTION roneo.end_failed_run(
    r roneo.replica, kind text, known bigint, sqlstate_code text, message text, detail text, hint text, facts jsonb)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ended bigint := coalesce(known, roneo.new_run(r, coalesce(facts ->> 'hand', 'sql'),
        clock_timestamp() - make_interval(secs => coalesce((facts ->> 'seconds')::float8, 0)), facts ->> 'runner'));
BEGIN
    UPDATE roneo.run AS u SET
        kind    = end_failed_run.kind,
        outcome = roneo.failure_outcome(sqlstate_code), ended_at = clock_timestamp(),
        seconds = round((facts ->> 'seconds')::numeric, 3), sqlstate = sqlstate_code,
        message = concat_ws(': ', facts ->> 'step', end_failed_run.message),
        detail  = end_failed_run.detail,
        hint    = coalesce(end_failed_run.hint, roneo.failure_hint(r, sqlstate_code, end_failed_run.message))
    WHERE u.run_id = ended;
    RETURN ended;
END;
$$;
COMMENT ON FUNCTION roneo.end_failed_run(roneo.replica, text, bigint, text, text, text, text, jsonb) IS
    'Writes an error into a run of a replica, or into a new one where none is known; returns that.';

CREATE OR REPLACE FUNCTION roneo.record_failure(
    dests regclass[], sqlstate_code text, message text, detail text, hint text, facts jsonb)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r       roneo.replica;
    ended   bigint := (facts ->> 'run_id')::bigint;
    failure text := roneo.failure_outcome(sqlstate_code);
BEGIN
    -- Only the answer to the COMMIT was lost: what it committed says how the refresh ended.
    IF EXISTS (SELECT FROM roneo.run AS u WHERE u.run_id = ended AND u.outcome IN ('ok', 'unchanged')) THEN
        RETURN (SELECT u.outcome FROM roneo.run AS u WHERE u.run_id = ended);
    END IF;
    FOR r IN SELECT known.* FROM roneo.replica AS known WHERE known.dest = ANY (dests) LOOP
        PERFORM roneo.note_pause(r.source_id, sqlstate_code, record_failure.message);
        PERFORM roneo.end_failed_run(r, 'refresh',
            coalesce((facts ->> 'run_id')::bigint, roneo.same_pause(r.replica_id, sqlstate_code)),
            sqlstate_code, record_failure.message, detail, hint, facts);
        IF roneo.count_failure(r.replica_id, failure, sqlstate_code, record_failure.message) THEN
            RAISE WARNING USING
                MESSAGE = format('%I.%I is in quarantine: it is not refreshed any more until it is released', r.dest_schema, r.dest_name),
                HINT    = format('Mend it, then: SELECT roneo.release(%L);', format('%I.%I', r.dest_schema, r.dest_name));
        END IF;
        PERFORM roneo.forget_old_runs(r.replica_id);
    END LOOP;
    RETURN failure;
END;
$$;
COMMENT ON FUNCTION roneo.record_failure(regclass[], text, text, text, text, jsonb) IS
    'Records a refresh that was rolled back, in a transaction of its own; returns failed, or deferred for those SQLSTATEs that only ask for another attempt. A run that was committed after all keeps its outcome, and that is returned.';
-- Failures, and what they make of a schedule. All of them let a replica rest. Those that somebody
-- has to mend are counted, and after so many it is left alone: it would fail for ever, and load the
-- source for nothing. What may pass by itself never leads there: after a weekend without its source
-- a replica goes on by itself, and nobody has to release a thousand of them. roneo.check alarms
-- in both cases, long before.

CREATE OR REPLACE FUNCTION roneo.may_pass(sqlstate_code text)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN roneo.failure_outcome(sqlstate_code) = 'deferred'
    OR left(sqlstate_code, 2) IN ('08', '53')
    OR sqlstate_code IN ('40001', '40P01', '57P01', '57P02', '57P03', '57P05', '25P03', '25P04', '72000', 'RO008');
COMMENT ON FUNCTION roneo.may_pass(text) IS
    'Whether a failure can pass without anyone mending anything: connections, resources, deadlocks, serialization and conflicts with recovery, restarts, sources that are away.';

CREATE OR REPLACE FUNCTION roneo.count_failure(id integer, failure text, sqlstate_code text, message text)
RETURNS boolean LANGUAGE sql
BEGIN ATOMIC
    -- A row that another session is writing belongs to a refresh that is newer than this one.
    WITH known AS (
        SELECT k.replica_id, k.quarantined_at,
               k.lasting_failures + (failure = 'failed' AND NOT roneo.may_pass(sqlstate_code))::integer AS lasting
        FROM roneo.replica AS k
        WHERE k.replica_id = id
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE roneo.replica AS r SET
        generation       = r.generation + 1,
        last_attempt_at  = clock_timestamp(),
        last_outcome     = failure,
        last_message     = count_failure.message,
        failures         = r.failures + (failure = 'failed')::integer,
        lasting_failures = k.lasting,
        quarantined_at   = coalesce(k.quarantined_at, CASE
            WHEN k.lasting > r.lasting_failures AND k.lasting >= nullif(roneo.setting('quarantine_after'), 0) THEN clock_timestamp() END)
    FROM known AS k
    WHERE r.replica_id = k.replica_id
    RETURNING r.quarantined_at IS NOT NULL AND k.quarantined_at IS NULL;
END;
COMMENT ON FUNCTION roneo.count_failure(integer, text, text, text) IS
    'Writes a refresh that was rolled back into its replica; true where it enters quarantine by it.';

CREATE OR REPLACE FUNCTION roneo.release(dest regclass)
RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    members  regclass[] := roneo.with_group(ARRAY[dest]);
    released boolean;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    released := EXISTS (SELECT FROM roneo.replica AS r WHERE r.dest = ANY (members) AND r.quarantined_at IS NOT NULL);
    UPDATE roneo.replica AS r SET quarantined_at = NULL, failures = 0, lasting_failures = 0
    WHERE r.dest = ANY (members) AND (r.quarantined_at IS NOT NULL OR r.failures > 0);
    RETURN released;
END;
$$;
COMMENT ON FUNCTION roneo.release(regclass) IS
    'Ends the quarantine of a replica, with its refresh group, and the rest after its failures: it is due again at once, and its failures are counted anew. False where it was in none. A refresh that succeeds ends it too. Raises RO001.';
-- A table that cannot be locked is judged by the plan: it knows what to say of one that is gone,
-- and where it can be read all the same, its files are compared.
CREATE OR REPLACE FUNCTION roneo.lock_over_link(link text, locks text[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lock text;
BEGIN
    FOREACH lock IN ARRAY locks LOOP
        BEGIN
            PERFORM roneo.tell_link(link, lock);
        EXCEPTION WHEN undefined_table OR insufficient_privilege OR wrong_object_type THEN
            -- With it the locks before are gone.
            PERFORM roneo.tell_link(link, 'ROLLBACK');
            PERFORM roneo.tell_link(link, roneo.source_opening());
            PERFORM roneo.lock_over_link(link, array_remove(locks, lock));
            RETURN;
        END;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.lock_over_link(text, text[]) IS
    'Locks tables of the source before its snapshot is taken; opens the transaction anew where one cannot be locked.';

CREATE OR REPLACE FUNCTION roneo.answers_over_link(begun jsonb, options jsonb, link text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one     jsonb;
    before  jsonb := '{}';
    answers jsonb := '[]';
BEGIN
    FOR one IN SELECT b FROM jsonb_array_elements(begun) AS b LOOP
        before := before || jsonb_build_object(one ->> 'replica_id', roneo.ask_link(link, one ->> 'before')::jsonb);
    END LOOP;
    PERFORM roneo.tell_link(link, roneo.source_opening());
    PERFORM roneo.lock_over_link(link, ARRAY(
        SELECT b.one ->> 'lock' FROM jsonb_array_elements(begun) WITH ORDINALITY AS b (one, nr)
        WHERE b.one ->> 'lock' IS NOT NULL ORDER BY b.nr));
    PERFORM roneo.limit_link(link);
    FOR one IN SELECT b FROM jsonb_array_elements(begun) AS b LOOP
        answers := answers || jsonb_build_object(
            'replica_id', one -> 'replica_id', 'hand', 'sql', 'options', options,
            'before', before -> (one ->> 'replica_id'), 'inside', roneo.ask_link(link, one ->> 'inside')::jsonb);
    END LOOP;
    RETURN answers;
END;
$$;
COMMENT ON FUNCTION roneo.answers_over_link(jsonb, jsonb, text) IS
    'Second phase of the SQL hand: asks the source for all that begin_refresh returned, in one transaction, and leaves that open.';

-- dblink hands over bytes as they are; those of a SQL_ASCII source nobody has checked.
CREATE OR REPLACE FUNCTION roneo.require_known_encoding(answers jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF answers #>> '{0,before,identity,encoding}' = 'SQL_ASCII'
       AND current_setting('server_encoding') <> 'SQL_ASCII' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = 'rows of a SQL_ASCII source cannot be read over dblink',
            DETAIL  = 'Nothing would check that their bytes are characters here.',
            HINT    = 'Refresh with the roneo program, and tell create_source the source_encoding.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_known_encoding(jsonb) IS
    'Raises RO007 for a SQL_ASCII source, whose bytes dblink would store unchecked.';

CREATE OR REPLACE FUNCTION roneo.run_steps(answers jsonb, link text, begun jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    planned  record;
    report   jsonb;
    reports  jsonb := '[]';
    began    timestamptz;
    deferred boolean := false;
BEGIN
    FOR planned IN
        SELECT p.*, p.ordinality = max(p.ordinality) FILTER (WHERE p.kind IN ('transfer', 'check')) OVER () AS is_last_read,
               b.one ->> 'dest_owner' AS owner, ROW(p.stage, p.kind, p.purpose, p.statement, p.into_table, p.into_list,
               p.into_types, NULL, NULL, p.counts, p.patient)::roneo.step AS step
        FROM roneo.plan_refresh(answers) WITH ORDINALITY AS p
        JOIN jsonb_array_elements(begun) AS b (one) ON (b.one ->> 'replica_id')::integer = p.replica_id
        ORDER BY p.ordinality
    LOOP
        began := clock_timestamp();
        PERFORM roneo.require_time();
        report := CASE WHEN deferred THEN '{"outcome": "skipped"}'
                       ELSE roneo.run_step(planned.kind, planned.step, link, planned.owner) END;
        report := '{"outcome": "done"}'::jsonb || report || jsonb_build_object(
            'number', planned.number, 'stage', planned.stage, 'kind', planned.kind,
            'purpose', planned.purpose, 'counts', planned.counts,
            'seconds', round(extract(epoch FROM clock_timestamp() - began)::numeric, 3));
        deferred := deferred OR report ->> 'outcome' = 'deferred';
        -- Indexes are built without holding up the source; a verification compares in this snapshot.
        PERFORM roneo.release_link(link)
        WHERE planned.is_last_read AND NOT coalesce((answers #>> '{0,options,verify}')::boolean, false);
        reports := reports || (report || jsonb_build_object('replica_id', planned.replica_id));
    END LOOP;
    RETURN reports;
END;
$$;
COMMENT ON FUNCTION roneo.run_steps(jsonb, text, jsonb) IS
    'Plans a refresh and executes its steps over dblink, each as the owner of its destination; returns the report of each. After a step that was deferred the rest is skipped.';

CREATE OR REPLACE FUNCTION roneo.results_of(begun jsonb, reports jsonb, began timestamptz)
RETURNS jsonb LANGUAGE sql VOLATILE
RETURN (
    SELECT jsonb_agg(jsonb_build_object(
        'replica_id', b.one -> 'replica_id', 'started_at', began,
        'seconds', extract(epoch FROM clock_timestamp() - began),
        'planned', jsonb_array_length(s.steps), 'steps', s.steps))
    FROM jsonb_array_elements(begun) AS b (one)
    CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_agg(r.step - 'replica_id' ORDER BY r.nr), '[]') AS steps
        FROM jsonb_array_elements(reports) WITH ORDINALITY AS r (step, nr)
        WHERE r.step -> 'replica_id' = b.one -> 'replica_id') AS s
);
COMMENT ON FUNCTION roneo.results_of(jsonb, jsonb, timestamptz) IS 'What finish_refresh is told of each replica.';

CREATE OR REPLACE FUNCTION roneo.begin_over_link(dest regclass)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    begun jsonb := (SELECT jsonb_agg(to_jsonb(b) ORDER BY b.replica_id) FROM roneo.begin_refresh(ARRAY[dest]) AS b);
    busy  text := (SELECT x.one ->> 'dest' FROM jsonb_array_elements(begun) AS x (one) WHERE x.one ->> 'state' = 'busy' LIMIT 1);
BEGIN
    IF busy IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO002',
            MESSAGE = format('%s is being refreshed by another session', busy),
            HINT    = 'There is nothing to do: that refresh brings it up to date.';
    END IF;
    RETURN begun;
END;
$$;
COMMENT ON FUNCTION roneo.begin_over_link(regclass) IS
    'First phase of the SQL hand: what begin_refresh returns for a replica and its group; raises RO002 where one of them is being refreshed.';

-- What a refresh and a verification have in common. The connection stays open for who called.
CREATE OR REPLACE FUNCTION roneo.bring_over_link(
    dest regclass, options jsonb, OUT link text, OUT answer jsonb, OUT dest_owner name, OUT began timestamptz,
    OUT run_id bigint, OUT outcome text, OUT again boolean, OUT message text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    begun   jsonb;
    answers jsonb;
    reports jsonb;
    owner   name;
    -- A snapshot whose view is built anew has another oid afterwards.
    asked   integer := (SELECT r.replica_id FROM roneo.replica AS r WHERE r.dest = bring_over_link.dest);
BEGIN
    began := clock_timestamp();
    begun := roneo.begin_over_link(bring_over_link.dest);
    link := roneo.open_guarded_link(bring_over_link.dest, begun #>> '{0,source_name}');
    answers := roneo.answers_over_link(begun, options, link);
    PERFORM roneo.require_known_encoding(answers);
    reports := roneo.run_steps(answers, link, begun);
    -- What a deferred constraint has against the rows is to be recorded, and not to fail the COMMIT.
    FOR owner IN SELECT DISTINCT b.one ->> 'dest_owner' FROM jsonb_array_elements(begun) AS b (one) LOOP
        PERFORM roneo.run_as(owner, 'SET CONSTRAINTS ALL IMMEDIATE');
    END LOOP;
    SELECT f.run_id, f.outcome, f.again, f.message INTO STRICT run_id, outcome, again, message
    FROM roneo.finish_refresh(answers, roneo.results_of(begun, reports, began)) AS f
    WHERE f.replica_id = asked;
    answer := (SELECT a FROM jsonb_array_elements(answers) AS a WHERE (a ->> 'replica_id')::integer = asked);
    dest_owner := (SELECT b.one ->> 'dest_owner' FROM jsonb_array_elements(begun) AS b (one) WHERE (b.one ->> 'replica_id')::integer = asked);
END;
$$;
COMMENT ON FUNCTION roneo.bring_over_link(regclass, jsonb) IS
    'All four phases of one refresh by the SQL hand, of a replica with its group: what the source answered about that replica, and how it ended.';

CREATE OR REPLACE FUNCTION roneo.end_over_link(link text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.close_link(link);
    PERFORM set_config('roneo.limits', '', true);
END;
$$;
COMMENT ON FUNCTION roneo.end_over_link(text) IS 'Ends what bring_over_link has begun: its connection and its limits.';

CREATE OR REPLACE FUNCTION roneo.refresh_over_link(dest regclass, options jsonb)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    brought record;
BEGIN
    SELECT b.* INTO STRICT brought FROM roneo.bring_over_link(dest, options) AS b;
    PERFORM roneo.end_over_link(brought.link);
    RETURN brought.run_id;
END;
$$;
COMMENT ON FUNCTION roneo.refresh_over_link(regclass, jsonb) IS
    'One refresh by the SQL hand, of a replica with its group; returns its run.';

CREATE OR REPLACE FUNCTION roneo.refresh_or_stage(dest regclass, options jsonb)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN roneo.refresh_over_link(dest, options);
EXCEPTION WHEN SQLSTATE 'RO027' THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link_of(dest);
    RETURN roneo.refresh_over_link(dest, options || '{"staging": true}');
END;
$$;
COMMENT ON FUNCTION roneo.refresh_or_stage(regclass, jsonb) IS
    'One refresh; anew, by way of staging, where rows were there that were not expected. Returns its run.';

CREATE OR REPLACE FUNCTION roneo.refresh_with(dest regclass, raise_errors boolean, options jsonb)
RETURNS roneo.run LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, YMD'
SET IntervalStyle = 'postgres'
SET extra_float_digits = 3
SET bytea_output = 'hex'
SET xmloption = 'content'
SET lc_monetary = 'C'
SET standard_conforming_strings = 'on'
SET row_security = off
SET jit = off
SET statement_timeout = 0
SET lock_timeout = 0
SET idle_in_transaction_session_timeout = 0
SET client_min_messages = warning
AS $$
DECLARE
    began   timestamptz := clock_timestamp();
    done    roneo.run;
    code    text;
    message text;
    detail  text;
    hint    text;
    context text;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    BEGIN
        done.run_id := roneo.refresh_or_stage(dest, options);
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        -- A dblink connection stays open after a rollback.
        PERFORM roneo.close_link_of(dest);
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                                detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
                                context = PG_EXCEPTION_CONTEXT;
        -- What was cancelled on the source is a failure like any other.
        IF raise_errors OR (code = '57014' AND context !~ 'on (unnamed )?dblink connection') THEN
            RAISE;
        END IF;
        SELECT p.* INTO code, message, detail, hint
        FROM roneo.name_limit(dest, began, code, message, detail, hint) AS p;
        PERFORM roneo.record_failure(roneo.with_group(ARRAY[dest]), code, message, nullif(detail, ''), nullif(hint, ''),
            jsonb_build_object('hand', 'sql', 'seconds', extract(epoch FROM clock_timestamp() - began)));
    END;
    SELECT u.* INTO done
    FROM roneo.run AS u
    WHERE u.run_id = coalesce(done.run_id, (
        SELECT max(v.run_id)
        FROM roneo.run AS v
        JOIN roneo.replica AS r ON r.replica_id = v.replica_id
        WHERE r.dest = refresh_with.dest AND v.kind <> 'verify'));
    RETURN done;
END;
$$;
COMMENT ON FUNCTION roneo.refresh_with(regclass, boolean, jsonb) IS
    'What roneo.refresh does, with options for the plan: drop_dependents, force, show_pending (show what an earlier refresh loaded, whatever the source looks like now).';

CREATE OR REPLACE FUNCTION roneo.refresh(
    dest regclass,
    raise_errors boolean DEFAULT false,
    drop_dependents boolean DEFAULT false,
    force boolean DEFAULT false,
    sweep boolean DEFAULT false)
RETURNS roneo.run LANGUAGE sql
RETURN roneo.refresh_with(dest, raise_errors,
    jsonb_build_object('drop_dependents', drop_dependents, 'force', force, 'sweep', sweep));
COMMENT ON FUNCTION roneo.refresh(regclass, boolean, boolean, boolean, boolean) IS
    'Brings one replica up to date now, over dblink, and returns its run. A failure leaves the destination as it was and is recorded and returned, or raised where raise_errors is true (a cancel always is, and then not recorded). drop_dependents: what depends on a view that must be rebuilt is dropped. force: copy although the source looks unchanged. sweep: an inserter or updater looks for late rows in the whole table.';

CREATE OR REPLACE FUNCTION roneo.close_link_of(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source integer;
BEGIN
    SELECT r.source_id INTO source FROM roneo.replica AS r WHERE r.dest = close_link_of.dest;
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'dblink') THEN
        PERFORM roneo.close_link(roneo.link_name(source));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.close_link_of(regclass) IS
    'Closes this session''s dblink connection to the source of a replica, where there is one.';

CREATE OR REPLACE FUNCTION roneo.plan(
    dest regclass, drop_dependents boolean DEFAULT false, force boolean DEFAULT false, sweep boolean DEFAULT false)
RETURNS SETOF roneo.step LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- begin_refresh pins these for the rest of the transaction; here they are the caller's again.
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, YMD'
SET IntervalStyle = 'postgres'
SET extra_float_digits = 3
SET bytea_output = 'hex'
SET xmloption = 'content'
SET lc_monetary = 'C'
SET standard_conforming_strings = 'on'
SET row_security = off
SET jit = off
SET statement_timeout = 0
SET lock_timeout = 0
SET idle_in_transaction_session_timeout = 0
AS $$
DECLARE
    begun jsonb;
    link  text;
BEGIN
    begun := roneo.begin_over_link(dest);
    link := roneo.open_link(begun #>> '{0,source_name}');
    RETURN QUERY
        SELECT p.stage::smallint, p.kind, p.purpose, p.statement, p.into_table, p.into_list,
               p.into_types, NULL::text, NULL::boolean, p.counts, p.patient
        FROM roneo.plan_refresh(roneo.answers_over_link(begun,
            jsonb_build_object('drop_dependents', drop_dependents, 'force', force, 'sweep', sweep), link)) WITH ORDINALITY AS p
        ORDER BY p.ordinality;
    PERFORM roneo.close_link(link);
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link_of(dest);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.plan(regclass, boolean, boolean, boolean) IS
    'A dry run: asks the source, and returns the steps that a refresh would take now, in their order. Changes nothing. No steps: the source is unchanged.';
-- Windows: the hours of the week in which a refresh may begin, on the clocks of a time zone. They
-- are kept as minutes from Monday 00:00; one that goes on over the end of the week ends behind it.

CREATE OR REPLACE FUNCTION roneo.bad_schedule(problem text, advice text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'RO028', MESSAGE = problem, HINT = advice;
END;
$$;
COMMENT ON FUNCTION roneo.bad_schedule(text, text) IS 'Raises RO028.';

CREATE OR REPLACE FUNCTION roneo.day_number(day text)
RETURNS integer LANGUAGE sql IMMUTABLE
RETURN array_position('{mon,tue,wed,thu,fri,sat,sun}'::text[], left(day, 3)) - 1;
COMMENT ON FUNCTION roneo.day_number(text) IS 'Monday is 0.';

CREATE OR REPLACE FUNCTION roneo.window_pattern()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('^(%1$s(-%1$s)?(,%1$s(-%1$s)?)*)?(^|$|\s+)(%2$s-%3$s(,%2$s-%3$s)*)?$',
    '(mon(day)?|tue(sday)?|wed(nesday)?|thu(rsday)?|fri(day)?|sat(urday)?|sun(day)?)',
    '([01]?[0-9]|2[0-3]):[0-5][0-9]', '(([01]?[0-9]|2[0-3]):[0-5][0-9]|24:00)');
COMMENT ON FUNCTION roneo.window_pattern() IS
    'A regular expression for one window: days, hours or both, without spaces around commas and dashes.';

CREATE OR REPLACE FUNCTION roneo.window_days(one text)
RETURNS TABLE (day integer) LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT DISTINCT (p.first + n) % 7
    FROM regexp_split_to_table(coalesce(substring(one FROM '^[a-z][a-z,-]*'), 'mon-sun'), ',') AS d (days)
    CROSS JOIN LATERAL (
        SELECT roneo.day_number(split_part(d.days, '-', 1)),
               roneo.day_number(coalesce(nullif(split_part(d.days, '-', 2), ''), d.days))
    ) AS p (first, last)
    CROSS JOIN LATERAL generate_series(0, (p.last - p.first + 7) % 7) AS n;
END;
COMMENT ON FUNCTION roneo.window_days(text) IS 'The days that a window begins on; all where it names none.';

CREATE OR REPLACE FUNCTION roneo.window_hours(one text)
RETURNS TABLE (begins integer, ends integer) LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT t.m[1]::integer * 60 + t.m[2]::integer, t.m[3]::integer * 60 + t.m[4]::integer
    FROM regexp_split_to_table(coalesce(substring(one FROM '[0-9].*$'), '00:00-24:00'), ',') AS h (hours)
    CROSS JOIN LATERAL regexp_match(h.hours, '(\d+):(\d+)-(\d+):(\d+)') AS t (m);
END;
COMMENT ON FUNCTION roneo.window_hours(text) IS
    'The hours of a window as minutes of the day; the whole day where it names none.';

CREATE OR REPLACE FUNCTION roneo.window_minutes(one text)
RETURNS int4multirange LANGUAGE sql IMMUTABLE
RETURN (
    SELECT range_agg(int4range(d.day * 1440 + h.begins,
                               d.day * 1440 + h.ends + CASE WHEN h.ends > h.begins THEN 0 ELSE 1440 END))
    FROM roneo.window_days(one) AS d CROSS JOIN roneo.window_hours(one) AS h
);
COMMENT ON FUNCTION roneo.window_minutes(text) IS
    'One window as minutes of the week. Past midnight it belongs to the day that it begins on.';

CREATE OR REPLACE FUNCTION roneo.folded_week(week int4multirange)
RETURNS int4multirange LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    WITH folded AS (
        SELECT range_agg(p.part) AS week
        FROM (SELECT unnest(week * '{[0,10080)}'::int4multirange) AS part
              UNION ALL
              SELECT int4range(lower(o.part) - 10080, upper(o.part) - 10080)
              FROM unnest(week * '{[10080,20160)}'::int4multirange) AS o (part)) AS p
    )
    SELECT f.week - coalesce(int4multirange(a.head), '{}') - coalesce(int4multirange(a.tail), '{}')
           + CASE WHEN a.head IS NULL OR a.tail IS NULL
                  THEN coalesce(int4multirange(coalesce(a.head, a.tail)), '{}')
                  ELSE int4multirange(int4range(lower(a.tail), upper(a.head) + 10080)) END
    FROM folded AS f
    CROSS JOIN LATERAL (
        SELECT (SELECT w FROM unnest(f.week) AS w WHERE lower(w) = 0 AND upper(w) < 10080) AS head,
               (SELECT w FROM unnest(f.week) AS w WHERE upper(w) = 10080 AND lower(w) > 0) AS tail
    ) AS a;
END;
COMMENT ON FUNCTION roneo.folded_week(int4multirange) IS
    'Minutes of the week, of which what lies behind its end is put at its beginning; but a window that goes on over the end stays one.';

CREATE OR REPLACE FUNCTION roneo.windows_of(windows text)
RETURNS int4multirange LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    given text;
    one   text;
    week  int4multirange := '{}';
BEGIN
    FOREACH given IN ARRAY regexp_split_to_array(windows, ';') LOOP
        one := regexp_replace(lower(regexp_replace(given, '\s*([,-])\s*', '\1', 'g')), '^\s+|\s+$', '', 'g');
        CONTINUE WHEN one = '';
        IF one !~ roneo.window_pattern() THEN
            PERFORM roneo.bad_schedule(format('%L is not a window', btrim(given)),
                'Give days, hours or both, several with semicolons: ''mon-fri 22:00-06:00; sat,sun''. Hours are from 00:00 to 24:00.');
        ELSIF EXISTS (SELECT FROM roneo.window_hours(one) AS h WHERE h.begins = h.ends) THEN
            PERFORM roneo.bad_schedule(format('window %L ends when it begins', btrim(given)),
                'A whole day is 00:00-24:00, or the day without hours.');
        END IF;
        week := week + roneo.window_minutes(one);
    END LOOP;
    RETURN nullif(nullif(roneo.folded_week(week), '{}'), '{[0,10080)}');
END;
$$;
COMMENT ON FUNCTION roneo.windows_of(text) IS
    'Windows as a person writes them, such as mon-fri 22:00-06:00; sat,sun: as minutes of the week. NULL: always. Raises RO028.';

CREATE OR REPLACE FUNCTION roneo.zone_of(zone text)
RETURNS text LANGUAGE plpgsql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known text := (SELECT z.name FROM pg_timezone_names AS z WHERE lower(z.name) = lower(zone) ORDER BY z.name = zone DESC LIMIT 1);
BEGIN
    IF known IS NULL THEN
        PERFORM roneo.bad_schedule(format('%L is not the name of a time zone', zone),
            'SELECT name FROM pg_timezone_names lists them, such as Europe/Berlin.');
    END IF;
    RETURN known;
END;
$$;
COMMENT ON FUNCTION roneo.zone_of(text) IS
    'A time zone as PostgreSQL spells it. Raises RO028 for one that it has no rules of.';

-- A local time that clocks skip is read by the clock as it was before, so a window that would begin
-- then begins as much later, and keeps its length; of a time that comes twice the second is meant.
CREATE OR REPLACE FUNCTION roneo.openings(windows int4multirange, zone text, around timestamptz)
RETURNS TABLE (opens timestamptz, shuts timestamptz) LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT o.opens,
           CASE WHEN o.opens AT TIME ZONE zone = l.begins THEN (l.begins + l.length) AT TIME ZONE zone
                ELSE o.opens + l.length END
    FROM (SELECT date_trunc('week', around AT TIME ZONE zone) AS monday) AS w
    CROSS JOIN generate_series(-2, 1) AS n
    CROSS JOIN unnest(windows) AS r
    CROSS JOIN LATERAL (
        SELECT w.monday + make_interval(days => 7 * n, mins => lower(r)) AS begins,
               make_interval(mins => upper(r) - lower(r)) AS length
    ) AS l
    CROSS JOIN LATERAL (SELECT l.begins AT TIME ZONE zone AS opens) AS o;
END;
COMMENT ON FUNCTION roneo.openings(int4multirange, text, timestamptz) IS
    'When windows open and shut, from two weeks before a point of time to one week after it.';

CREATE OR REPLACE FUNCTION roneo.next_opening(windows int4multirange, zone text, at timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN (SELECT min(greatest(o.opens, at)) FROM roneo.openings(windows, zone, at) AS o WHERE o.shuts > at);
COMMENT ON FUNCTION roneo.next_opening(int4multirange, text, timestamptz) IS
    'The first point of time, not before another one, that lies in a window.';

-- What waits for a window to open would all begin at that moment: under jitter each a little later,
-- and still in that window.
CREATE OR REPLACE FUNCTION roneo.due_in_window(windows int4multirange, zone text, at timestamptz, shift interval)
RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE WHEN o.opens <= at THEN at
                ELSE o.opens + make_interval(secs => mod(extract(epoch FROM shift), extract(epoch FROM o.shuts - o.opens))::float8) END
    FROM roneo.openings(windows, zone, at) AS o WHERE o.shuts > at
    ORDER BY o.opens LIMIT 1
);
COMMENT ON FUNCTION roneo.due_in_window(int4multirange, text, timestamptz, interval) IS
    'When a replica is due that is due at some point of time but for its windows: then, or when the next one opens, so much later.';

CREATE OR REPLACE FUNCTION roneo.opens_at(r roneo.replica, at timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN CASE WHEN r.windows IS NULL THEN at ELSE roneo.next_opening(r.windows, r.window_zone, at) END;
COMMENT ON FUNCTION roneo.opens_at(roneo.replica, timestamptz) IS
    'The first point of time, not before another one, at which a refresh of this replica may begin.';

CREATE OR REPLACE FUNCTION roneo.shuts_at(windows int4multirange, zone text, at timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN (SELECT max(o.shuts) FROM roneo.openings(windows, zone, at) AS o WHERE o.opens <= at AND o.shuts > at);
COMMENT ON FUNCTION roneo.shuts_at(int4multirange, text, timestamptz) IS
    'When the window shuts that is open at a point of time; NULL: none is open.';

-- The shut time that it is in, or that ended last, is left out: in the morning nobody is alarmed by
-- what only the night may mend, nor in the first minute of the night. All others count, or a replica
-- that may begin for an hour a day would be ten times as late before anyone heard of it.
CREATE OR REPLACE FUNCTION roneo.open_lag(windows int4multirange, zone text, since timestamptz, until timestamptz)
RETURNS interval LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE
        WHEN NOT n.is_open THEN greatest(n.shut - b.begins, interval '0')
        WHEN b.begins >= n.opened THEN greatest(until - b.begins, interval '0')
        ELSE until - n.opened + greatest(n.shut - b.begins, interval '0') END
    -- A function called in here would be planned anew for each replica.
    FROM (SELECT min(greatest(o.opens, since)) AS begins FROM roneo.openings(windows, zone, since) AS o WHERE o.shuts > since) AS b
    CROSS JOIN (
        SELECT bool_or(o.opens <= until AND o.shuts > until) AS is_open,
               max(o.opens) FILTER (WHERE o.opens <= until) AS opened,
               max(o.shuts) FILTER (WHERE o.shuts <= until) AS shut
        FROM roneo.openings(windows, zone, until) AS o
    ) AS n
    WHERE b.begins IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.open_lag(int4multirange, text, timestamptz, timestamptz) IS
    'How long after the first point of time in a window, not before since, another one is; the latest time in which all were shut does not count.';
-- The grid is anchored at the replica's creation and counts from the start of the last success:
-- neither a slow run nor a late cron moves it.
CREATE OR REPLACE FUNCTION roneo.next_on_grid(anchor timestamptz, every interval, after timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN anchor + make_interval(secs =>
    ((floor(extract(epoch FROM after - anchor) / extract(epoch FROM every)) + 1)
     * extract(epoch FROM every))::float8);
COMMENT ON FUNCTION roneo.next_on_grid(timestamptz, interval, timestamptz) IS
    'The first point of time after another one that lies a whole number of intervals from the anchor.';

CREATE OR REPLACE FUNCTION roneo.backoff(failures integer)
RETURNS interval LANGUAGE sql IMMUTABLE
RETURN CASE WHEN failures > 0
            THEN least(interval '1 minute' * 2 ^ least(failures - 1, 10), interval '1 hour') END;
COMMENT ON FUNCTION roneo.backoff(integer) IS
    'How long to leave a replica alone after failures in a row: one minute, two, four, up to an hour.';

CREATE OR REPLACE FUNCTION roneo.due_time(r roneo.replica, anchor timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN greatest(coalesce(roneo.next_on_grid(anchor, r.refresh_every, r.last_success_at), anchor),
                r.last_attempt_at + roneo.backoff(r.failures));
COMMENT ON FUNCTION roneo.due_time(roneo.replica, timestamptz) IS
    'When the grid of that anchor and the rest after failures would let a replica be refreshed next.';

CREATE OR REPLACE FUNCTION roneo.due_on(r roneo.replica, anchor timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN CASE WHEN r.enabled AND r.refresh_every IS NOT NULL AND r.quarantined_at IS NULL THEN
    CASE WHEN r.windows IS NULL THEN roneo.due_time(r, anchor)
         ELSE roneo.due_in_window(r.windows, r.window_zone, roneo.due_time(r, anchor), anchor - r.created_at) END
END;
COMMENT ON FUNCTION roneo.due_on(roneo.replica, timestamptz) IS
    'When a replica is to be refreshed next, on the grid of that anchor; NULL: only when told to.';

CREATE OR REPLACE FUNCTION roneo.due_at(r roneo.replica)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN roneo.due_on(r, r.created_at);
COMMENT ON FUNCTION roneo.due_at(roneo.replica) IS
    'When a replica is to be refreshed next, and in a window; NULL: only when told to, or in quarantine.';

-- Not STABLE, as the clock is not: else it would be no part of the query, and planned for each replica.
CREATE OR REPLACE FUNCTION roneo.late_by(r roneo.replica)
RETURNS interval LANGUAGE sql VOLATILE
RETURN CASE
    WHEN r.windows IS NULL THEN clock_timestamp()
        - roneo.next_on_grid(r.created_at, r.refresh_every, coalesce(r.last_success_at, r.created_at))
    ELSE roneo.open_lag(r.windows, r.window_zone,
        roneo.next_on_grid(r.created_at, r.refresh_every, coalesce(r.last_success_at, r.created_at)), clock_timestamp()) END;
COMMENT ON FUNCTION roneo.late_by(roneo.replica) IS
    'How long a replica has been late, counted from when a refresh could have begun; NULL: it has no interval.';

CREATE OR REPLACE FUNCTION roneo.jitter_seconds(jitter interval)
RETURNS float8 LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF jitter < interval '0' THEN
        PERFORM roneo.bad_schedule(format('jitter is %s', jitter), 'Give an interval such as ''5 min'', or NULL.');
    END IF;
    RETURN extract(epoch FROM jitter);
END;
$$;
COMMENT ON FUNCTION roneo.jitter_seconds(interval) IS 'A span of jitter in seconds. Raises RO028 for a negative one.';

CREATE OR REPLACE FUNCTION roneo.jitter_salt()
RETURNS text LANGUAGE sql STABLE
RETURN (SELECT format('%s/%s', c.system_identifier, current_database()) FROM pg_control_system() AS c);
COMMENT ON FUNCTION roneo.jitter_salt() IS 'What tells this database from all others, on all hosts; a standby says the same.';

CREATE OR REPLACE FUNCTION roneo.jitter_shift(r roneo.replica, salt text, seconds float8)
RETURNS interval LANGUAGE sql IMMUTABLE
RETURN make_interval(secs => least(seconds, extract(epoch FROM r.refresh_every)::float8)
    * ('x' || left(md5(format('%s/%I.%I', salt, r.dest_schema, r.dest_name)), 8))::bit(32)::bigint / 4294967296);
COMMENT ON FUNCTION roneo.jitter_shift(roneo.replica, text, float8) IS
    'How much later than its grid a replica is due under jitter: always the same for the same names, less than so many seconds, and less than refresh_every.';

-- Each whole interval that it is late counts as one more, so none waits for ever behind those that
-- come first.
CREATE OR REPLACE FUNCTION roneo.due_replicas(source_names text[], methods text[], refresh_groups text[], jitter interval)
RETURNS TABLE (replica_id integer, dest text, source_name text, method text, due_at timestamptz,
               priority integer, begin_before timestamptz) LANGUAGE sql
BEGIN ATOMIC
    SELECT f.replica_id, format('%I.%I', coalesce(n.nspname, f.dest_schema), coalesce(c.relname, f.dest_name)),
           f.source_name, f.method, f.due_at, f.priority, f.begin_before
    FROM (
        -- The others of its group come with the first one.
        SELECT d.*, s.source_name, row_number() OVER (
                   PARTITION BY d.source_id, d.refresh_group, CASE WHEN d.refresh_group IS NULL THEN d.replica_id END
                   ORDER BY d.weight DESC, d.due_at, d.replica_id) AS place
        FROM (SELECT r.*, r.priority + floor(extract(epoch FROM clock_timestamp() - r.due_at) / extract(epoch FROM r.refresh_every)) AS weight,
                     CASE WHEN r.windows IS NOT NULL THEN roneo.shuts_at(r.windows, r.window_zone, clock_timestamp()) END AS begin_before
              -- OFFSET 0: worked out once for each, of many.
              FROM (SELECT k.replica_id, k.source_id, k.dest, k.dest_schema, k.dest_name, k.method, k.refresh_group, k.priority,
                           k.refresh_every, k.windows, k.window_zone, roneo.due_on(k, a.anchor) AS due_at
                    FROM roneo.replica AS k
                    CROSS JOIN (SELECT roneo.jitter_seconds(jitter) AS seconds,
                                       CASE WHEN jitter IS NOT NULL THEN roneo.jitter_salt() END AS salt OFFSET 0) AS j
                    CROSS JOIN LATERAL (
                        SELECT CASE WHEN j.seconds > 0 AND k.refresh_every IS NOT NULL
                                    THEN k.created_at + roneo.jitter_shift(k, j.salt, j.seconds) ELSE k.created_at END AS anchor OFFSET 0) AS a
                    WHERE (methods IS NULL OR k.method = ANY (methods))
                      AND (refresh_groups IS NULL OR k.refresh_group = ANY (refresh_groups))
                    OFFSET 0) AS r
              WHERE r.due_at <= clock_timestamp()) AS d
        JOIN roneo.source AS s USING (source_id)
        WHERE (source_names IS NULL OR s.source_name = ANY (source_names))
          AND (d.windows IS NULL OR d.begin_before IS NOT NULL)
    ) AS f
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid = f.dest
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE f.place = 1
    ORDER BY f.weight DESC, f.due_at, f.replica_id;
END;
COMMENT ON FUNCTION roneo.due_replicas(text[], text[], text[], interval) IS
    'What due() tells, with the number of each replica.';

-- Runs that found nothing to copy say nothing of how long a copy takes.
CREATE OR REPLACE FUNCTION roneo.usual_seconds(id integer)
RETURNS float8 LANGUAGE sql STABLE
RETURN (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY u.seconds::float8)
    FROM (SELECT v.outcome, v.seconds FROM roneo.run AS v
          WHERE v.replica_id = id AND v.kind <> 'verify' ORDER BY v.started_at DESC LIMIT 50) AS u
    WHERE u.outcome = 'ok'
);
COMMENT ON FUNCTION roneo.usual_seconds(integer) IS
    'How long a refresh of a replica takes: the median of those of its last fifty runs that copied something; NULL: not known.';

CREATE OR REPLACE FUNCTION roneo.due(
    source_names text[] DEFAULT NULL, methods text[] DEFAULT NULL, refresh_groups text[] DEFAULT NULL,
    jitter interval DEFAULT NULL)
RETURNS TABLE (dest text, source_name text, method text, due_at timestamptz, priority integer,
               expected_seconds float8, begin_before timestamptz) LANGUAGE sql
BEGIN ATOMIC
    SELECT d.dest, d.source_name, d.method, d.due_at, d.priority, roneo.usual_seconds(d.replica_id), d.begin_before
    FROM roneo.due_replicas(source_names, methods, refresh_groups, jitter) AS d;
END;
COMMENT ON FUNCTION roneo.due(text[], text[], text[], interval) IS
    'The replicas that are due now and in a window, in the order in which they are to be refreshed: by priority, each whole interval of delay counting as one more, then those that have waited longest. NULL: of all sources, methods, groups. Of a group the first one that was asked for. jitter: each is due so much later, always the same for one replica.';

CREATE OR REPLACE FUNCTION roneo.dest_named(wanted text)
RETURNS regclass LANGUAGE sql STABLE
RETURN CASE
    WHEN to_regclass(wanted) IS NOT NULL THEN (SELECT r.dest FROM roneo.replica AS r WHERE r.dest = to_regclass(wanted))
    -- No index helps here.
    ELSE (SELECT r.dest FROM roneo.replica AS r WHERE format('%I.%I', r.dest_schema, r.dest_name) = wanted LIMIT 1)
END;
COMMENT ON FUNCTION roneo.dest_named(text) IS
    'The destination that due() gave the name of, one that was dropped included; NULL: no replica any more.';

CREATE OR REPLACE FUNCTION roneo.dest_of(wanted text)
RETURNS regclass LANGUAGE sql STABLE
RETURN coalesce(roneo.dest_named(wanted), wanted::regclass);
COMMENT ON FUNCTION roneo.dest_of(text) IS
    'The destination that a person means by a name; also of a replica whose destination was dropped, for a refresh to say so. Raises 42P01 where there is none.';

CREATE OR REPLACE PROCEDURE roneo.refresh_now(
    dest regclass,
    drop_dependents boolean DEFAULT false,
    force boolean DEFAULT false,
    sweep boolean DEFAULT false,
    until timestamptz DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    done roneo.run;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    done := roneo.refresh(dest, false, drop_dependents, force, sweep);
    COMMIT;
    IF done.outcome OPERATOR(pg_catalog.=) 'deferred' AND done.rows_sent IS NOT NULL THEN
        -- What was loaded is committed now, and can be shown. A source that cannot tell, or that
        -- never stands still, would be loaded once more, and again in vain.
        done := roneo.refresh_with(dest, false, pg_catalog.jsonb_build_object(
            'show_pending', true, 'drop_dependents', drop_dependents));
        COMMIT;
    END IF;
    WHILE done.has_more AND (until IS NULL OR pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<=) until) LOOP
        done := roneo.refresh(dest);
        COMMIT;
    END LOOP;
    IF done.outcome OPERATOR(pg_catalog.=) 'failed' THEN
        RAISE WARNING '% was not refreshed: %', done.dest, done.message;
    END IF;
END;
$$;
COMMENT ON PROCEDURE roneo.refresh_now(regclass, boolean, boolean, boolean, timestamptz) IS
    'Refreshes one replica, over dblink, in as many transactions as it takes: a snapshot is loaded in one and shown in the next, so that no session ever finds it empty, and what a batch_limit leaves is read in further ones, none of which starts after until. drop_dependents, force, sweep: as for roneo.refresh. A failure is a warning. A procedure that commits can fix no search_path in its definition; it pins it in its first statement.';

CREATE OR REPLACE FUNCTION roneo.may_begin(one jsonb, is_first boolean, stop timestamptz)
RETURNS boolean LANGUAGE sql STABLE
RETURN coalesce((one ->> 'begin_before')::timestamptz > clock_timestamp(), true)
   AND coalesce(is_first OR clock_timestamp() + make_interval(secs => (one ->> 'expected_seconds')::float8) <= stop, true);
COMMENT ON FUNCTION roneo.may_begin(jsonb, boolean, timestamptz) IS
    'Whether what due() told of is still in its window, and usually ends before the time is up. The first one may always begin, or what takes longer than the whole would never be refreshed.';

CREATE OR REPLACE PROCEDURE roneo.refresh_due(
    source_names text[] DEFAULT NULL,
    methods text[] DEFAULT NULL,
    max_runtime interval DEFAULT NULL,
    refresh_groups text[] DEFAULT NULL,
    jitter interval DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    stop     timestamptz := clock_timestamp() OPERATOR(pg_catalog.+) max_runtime;
    is_first boolean := true;
    waiting  jsonb[];
    one      jsonb;
    dest     regclass;
BEGIN
    -- A job of pg_cron runs on the standby too.
    IF pg_catalog.pg_is_in_recovery() THEN
        RETURN;
    END IF;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    waiting := ARRAY(SELECT to_jsonb(d) FROM roneo.due(source_names, methods, refresh_groups, jitter) AS d);
    COMMIT;
    FOREACH one IN ARRAY waiting LOOP
        EXIT WHEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>) stop;
        CONTINUE WHEN NOT roneo.may_begin(one, is_first, stop);
        dest := roneo.dest_named(one OPERATOR(pg_catalog.->>) 'dest');
        CONTINUE WHEN dest IS NULL;
        is_first := false;
        CALL roneo.refresh_now(dest, until => stop);
    END LOOP;
END;
$$;
COMMENT ON PROCEDURE roneo.refresh_due(text[], text[], interval, text[], interval) IS
    'Refreshes all replicas that are due, over dblink, in the order of due(), one transaction each; one that fails is a warning and stops no other. Starts none after max_runtime, nor one that usually takes longer than what is left of it, unless it is the first. Does nothing on a standby. A procedure that commits can fix no search_path in its definition; it pins it in its first statement.';
CREATE OR REPLACE FUNCTION roneo.set_schedule(
    dest regclass,
    refresh_every interval DEFAULT NULL,
    windows text DEFAULT NULL,
    zone text DEFAULT NULL,
    priority integer DEFAULT NULL)
RETURNS timestamptz LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    week     int4multirange;
    is_fixed boolean := windows IS NOT NULL;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    week := roneo.windows_of(windows);
    zone := coalesce(roneo.zone_of(zone), (SELECT r.window_zone FROM roneo.replica AS r WHERE r.dest = set_schedule.dest));
    IF refresh_every < interval '0' THEN
        PERFORM roneo.bad_schedule(format('refresh_every is %s', refresh_every), 'Give an interval such as ''1 hour''; ''0'': only when told to.');
    ELSIF priority NOT BETWEEN -100 AND 100 THEN
        PERFORM roneo.bad_schedule(format('priority is %s', priority), 'Give a number from -100 to 100; 0 is that of all others.');
    ELSIF week IS NOT NULL AND zone IS NULL THEN
        PERFORM roneo.bad_schedule(format('windows %L are on the clocks of no time zone', windows),
            'Say which one: zone => ''Europe/Berlin''. SELECT name FROM pg_timezone_names lists them.');
    ELSIF NOT is_fixed AND zone IS NOT NULL
          AND EXISTS (SELECT FROM roneo.replica AS r WHERE r.dest = set_schedule.dest AND r.windows IS NULL) THEN
        PERFORM roneo.bad_schedule(format('zone is %s, and there are no windows', zone),
            'Give both: windows => ''22:00-06:00'', zone => ''Europe/Berlin''.');
    END IF;
    UPDATE roneo.replica AS r SET refresh_every = nullif(set_schedule.refresh_every, interval '0')
    WHERE r.dest = set_schedule.dest AND set_schedule.refresh_every IS NOT NULL;
    -- A group is refreshed as one.
    UPDATE roneo.replica AS r SET
        windows     = CASE WHEN is_fixed THEN week ELSE r.windows END,
        window_text = CASE WHEN week IS NOT NULL THEN btrim(set_schedule.windows) WHEN NOT is_fixed THEN r.window_text END,
        window_zone = CASE WHEN week IS NOT NULL OR NOT is_fixed THEN zone END,
        priority    = coalesce(set_schedule.priority, r.priority)
    WHERE r.dest = ANY (roneo.with_group(ARRAY[set_schedule.dest]));
    RETURN (SELECT roneo.due_at(r) FROM roneo.replica AS r WHERE r.dest = set_schedule.dest);
END;
$$;
COMMENT ON FUNCTION roneo.set_schedule(regclass, interval, text, text, integer) IS
    'Says when a replica is refreshed, and returns when it is due next; what is not given stays. refresh_every: the promised age; 0: only when told to. windows: when a refresh may begin, such as mon-fri 22:00-06:00; sat,sun, on the clocks of zone; always: an empty text. priority: from -100 to 100, higher ones come first. Windows and priority are those of its whole refresh group. Raises RO001 and RO028.';
-- What is due already is told by due(); for the others somebody may sleep until then. Who asks for
-- this first and for due() afterwards misses nothing that falls due in between. One whose window is
-- shut has been due since then for both: whoever sleeps looks again now and then.
CREATE OR REPLACE FUNCTION roneo.next_due(
    source_names text[] DEFAULT NULL, methods text[] DEFAULT NULL, refresh_groups text[] DEFAULT NULL,
    jitter interval DEFAULT NULL)
RETURNS timestamptz LANGUAGE sql
BEGIN ATOMIC
    SELECT min(d.due_at)
    -- OFFSET 0: worked out once for each.
    FROM (SELECT roneo.due_on(k, CASE WHEN j.seconds > 0 AND k.refresh_every IS NOT NULL
                                      THEN k.created_at + roneo.jitter_shift(k, j.salt, j.seconds) ELSE k.created_at END) AS due_at
          FROM roneo.replica AS k
          JOIN roneo.source AS s USING (source_id)
          CROSS JOIN (SELECT roneo.jitter_seconds(jitter) AS seconds,
                             CASE WHEN jitter IS NOT NULL THEN roneo.jitter_salt() END AS salt OFFSET 0) AS j
          WHERE (source_names IS NULL OR s.source_name = ANY (source_names))
            AND (methods IS NULL OR k.method = ANY (methods))
            AND (refresh_groups IS NULL OR k.refresh_group = ANY (refresh_groups))
          OFFSET 0) AS d
    WHERE d.due_at > clock_timestamp();
END;
COMMENT ON FUNCTION roneo.next_due(text[], text[], text[], interval) IS
    'When the next of the replicas that are not due yet falls due; NULL: none of them ever does. source_names, methods, refresh_groups, jitter: as for due.';

-- For whoever holds the lock of one that due() told of a while ago.
CREATE OR REPLACE FUNCTION roneo.still_due(ids integer[])
RETURNS boolean LANGUAGE sql
RETURN coalesce((SELECT bool_or(roneo.due_at(r) <= clock_timestamp())
                 FROM roneo.replica AS r WHERE r.replica_id = ANY (ids)), false);
COMMENT ON FUNCTION roneo.still_due(integer[]) IS
    'Whether any of these replicas is due: of a refresh group, all of them.';
CREATE OR REPLACE FUNCTION roneo.removal(r roneo.replica, keep_table boolean)
RETURNS SETOF text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT x.statement FROM roneo.%I AS m CROSS JOIN LATERAL roneo.%I($1, m, $2) AS x WHERE m.replica_id = $3',
        concat(r.method, '_replica'), concat('remove_', r.method))
    USING r, keep_table, r.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.removal(roneo.replica, boolean) IS
    'Statements that drop what a replica is made of, beside the rows that describe it.';

CREATE OR REPLACE FUNCTION roneo.drop_replica(dest regclass, keep_table boolean DEFAULT true)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r       roneo.replica;
    removal text;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    SELECT known.* INTO STRICT r FROM roneo.replica AS known WHERE known.dest = drop_replica.dest;
    PERFORM roneo.lock_replica(r.replica_id, format('%I.%I', r.dest_schema, r.dest_name),
        'Wait until that refresh has ended, or terminate it; roneo.status shows it.');
    FOR removal IN SELECT x FROM roneo.removal(r, keep_table) AS x LOOP
        EXECUTE removal;
    END LOOP;
    DELETE FROM roneo.replica AS known WHERE known.replica_id = r.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.drop_replica(regclass, boolean) IS
    'Ends the replication of a table. keep_table: what a query sees stays, filled as it is; else it is dropped too, and what depends on it prevents that. The history stays. For a destination that was dropped give its oid: roneo.drop_replica(16423).';
-- What the methods share: asking the source about one table, and reading the answer.

CREATE OR REPLACE FUNCTION roneo.source_name_of(r roneo.replica)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('%I.%I', r.source_schema, r.source_table);
COMMENT ON FUNCTION roneo.source_name_of(roneo.replica) IS 'The qualified name of the source table.';

CREATE OR REPLACE FUNCTION roneo.source_regclass(r roneo.replica)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('pg_catalog.to_regclass(%L)', roneo.source_name_of(r));
COMMENT ON FUNCTION roneo.source_regclass(roneo.replica) IS
    'An SQL expression that is the source table''s oid on the source, or NULL where it is gone.';

CREATE OR REPLACE FUNCTION roneo.table_probe(r roneo.replica)
RETURNS roneo.probe LANGUAGE sql STABLE
RETURN ROW(
    -- Before the snapshot: inside it the counters can show a row that the snapshot does not see,
    -- and whoever stores that loses the change.
    -- The state comes first: it must not know of a change that the counters beside it do not.
    format('SELECT pg_catalog.jsonb_build_object(''state'', s.state, ''identity'', %s, ''track_counts'', %s, ''filter'', %L::text, ''leaves'', (%s)) FROM (SELECT %s AS state OFFSET 0) AS s',
           roneo.identity_query(), roneo.track_counts_query(), r.filter,
           roneo.leaves_query(roneo.source_regclass(r)), roneo.state_of(roneo.source_regclass(r))),
    CASE WHEN r.source_lockable
         THEN format('LOCK TABLE %s IN ACCESS SHARE MODE', roneo.source_name_of(r)) END,
    format('SELECT pg_catalog.jsonb_build_object(''relation'', (%s))',
           roneo.relation_query(roneo.source_regclass(r)))
)::roneo.probe;
COMMENT ON FUNCTION roneo.table_probe(roneo.replica) IS
    'What every method that reads a whole table asks: identity, counters and files before the snapshot, columns inside it.';

-- A leaf that has left the tree, and that nobody locked for reading, was not read though the
-- snapshot has it.
CREATE OR REPLACE FUNCTION roneo.moved_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
WITH RECURSIVE tree AS (
    SELECT (%1$s)::oid AS oid
    UNION
    SELECT i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
)
SELECT pg_catalog.jsonb_build_object('moved', pg_catalog.count(*) = 0 OR pg_catalog.bool_or(
    c.relkind IN ('r', 'm') AND c.relfilenode <> 0
    AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)
    OR c.oid NOT IN (
        SELECT p.relid::oid FROM pg_catalog.pg_partition_tree(%1$s) AS p
        UNION ALL
        SELECT k.relation FROM pg_catalog.pg_locks AS k
        WHERE k.pid = pg_catalog.pg_backend_pid() AND k.locktype = 'relation')))
FROM tree AS t
JOIN pg_catalog.pg_class AS c ON c.oid = t.oid$query$, relation);
COMMENT ON FUNCTION roneo.moved_query(text) IS
    'SQL that tells whether a table, or one that inherits from it, is in another file or no more in the tree, now, than the snapshot knew: the one reads the catalog under the snapshot, the other does not.';

-- With synchronous_commit off a transaction is visible before it is on disk: after a crash it never
-- was, its number is given to another one, and the copy would have the one and miss the other. The
-- WAL writer brings commits there within three of its cycles; behind them can stand what a
-- transaction has written that is open still, and nobody writes that out until it ends.
CREATE OR REPLACE FUNCTION roneo.on_disk_step(answer jsonb)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 2, 'check', 'see that the source has on disk what was read', format($query$
WITH RECURSIVE wait AS (
    SELECT 1 AS n, pg_catalog.pg_current_wal_flush_lsn() OPERATOR(pg_catalog.>=) %1$L::pg_catalog.pg_lsn AS is_there,
           (SELECT pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) (s.setting::pg_catalog.float8 OPERATOR(pg_catalog.*) '4 ms'::pg_catalog.interval)
            FROM pg_catalog.pg_settings AS s WHERE s.name OPERATOR(pg_catalog.=) 'wal_writer_delay') AS enough
    UNION ALL
    SELECT w.n OPERATOR(pg_catalog.+) 1,
           pg_catalog.pg_current_wal_flush_lsn() OPERATOR(pg_catalog.>=) %1$L::pg_catalog.pg_lsn
           OR pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>) w.enough
              AND pg_catalog.pg_current_wal_flush_lsn() OPERATOR(pg_catalog.>=) pg_catalog.pg_current_wal_lsn(),
           w.enough
    -- Of the row before, or it would sleep but once.
    FROM wait AS w, LATERAL pg_catalog.pg_sleep(CASE WHEN w.n OPERATOR(pg_catalog.>) 0 THEN 0.005 END)
    WHERE NOT w.is_there AND (w.n OPERATOR(pg_catalog.<) 1000 OR pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) w.enough)
)
SELECT pg_catalog.jsonb_build_object('on_disk', pg_catalog.bool_or(w.is_there)) FROM wait AS w$query$, answer #>> '{inside,lsn}'),
           NULL, NULL, NULL, NULL, NULL::boolean, NULL, false
    WHERE answer #>> '{inside,lsn}' IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.on_disk_step(jsonb) IS
    'A step on the source that waits, up to five seconds or four cycles of the WAL writer, until all that the snapshot saw is on its disk; none where the answer does not say how far its log was.';

CREATE OR REPLACE FUNCTION roneo.takes_own_path(r roneo.replica)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN r.filter IS NOT NULL OR r.source_kind = 'v';
COMMENT ON FUNCTION roneo.takes_own_path(roneo.replica) IS
    'Whether the source is read under the search_path that the replica was registered under.';

CREATE OR REPLACE FUNCTION roneo.moved_step(r roneo.replica)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN ROW(2, 'check', 'see that the source was not rewritten meanwhile',
    format('%s%s', CASE WHEN roneo.takes_own_path(r) THEN 'SET LOCAL search_path = pg_catalog, pg_temp; ' END,
           roneo.moved_query(roneo.source_regclass(r))),
    NULL, NULL, NULL, NULL, NULL, NULL, false)::roneo.step;
COMMENT ON FUNCTION roneo.moved_step(roneo.replica) IS
    'A step on the source that compares its files with those that the snapshot knows: a rewrite in between would have hidden rows.';

-- A filter finds its names in the search_path it was registered under, and so do the functions that
-- a view calls.
CREATE OR REPLACE FUNCTION roneo.filter_path_step(r roneo.replica)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 2, 'check', 'take the search_path that it was registered under',
           format('SELECT pg_catalog.jsonb_build_object(''search_path'', pg_catalog.set_config(''search_path'', %L, true))',
                  r.filter_path),
           NULL, NULL, NULL, NULL, NULL::boolean, NULL, false
    WHERE roneo.takes_own_path(r);
END;
COMMENT ON FUNCTION roneo.filter_path_step(roneo.replica) IS
    'A step on the source that sets the search_path under which the replica was registered; none for a table without a filter.';

-- The source would stop at the first byte that is no character of client_encoding, and could not
-- say where it stands; the COPY here names the column.
CREATE OR REPLACE FUNCTION roneo.raw_bytes_step(answer jsonb)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 2, 'check', 'let the bytes of a SQL_ASCII source out as they are',
           'SELECT pg_catalog.jsonb_build_object(''client_encoding'', pg_catalog.set_config(''client_encoding'', ''SQL_ASCII'', true))',
           NULL, NULL, NULL, NULL, NULL::boolean, NULL, false
    WHERE answer #>> '{before,identity,encoding}' = 'SQL_ASCII' AND answer ->> 'hand' = 'runner';
END;
COMMENT ON FUNCTION roneo.raw_bytes_step(jsonb) IS
    'A step on a SQL_ASCII source that leaves it to the destination to check what the bytes are; none for others, and none over dblink, which checks nothing.';

CREATE OR REPLACE FUNCTION roneo.require_relation(r roneo.replica, answer jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    relation jsonb := nullif(answer #> '{inside,relation}', 'null');
BEGIN
    IF relation IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO004',
            MESSAGE = format('source table %s does not exist', roneo.source_name_of(r)),
            DETAIL  = format('%I.%I was copied from it.', r.dest_schema, r.dest_name),
            HINT    = 'If it was renamed, create the replica anew; if it is gone for good, SELECT roneo.drop_replica(…) keeps the copy.';
    ELSIF (relation ->> 'row_security')::boolean THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('row-level security hides rows of source table %s', roneo.source_name_of(r)),
            DETAIL  = 'A copy of some of its rows would look like a copy of all of them.',
            HINT    = 'ALTER ROLE … BYPASSRLS on the source, or replicate a view that shows the rows you mean.';
    ELSIF NOT coalesce((relation ->> 'readable')::boolean, false) AND r.wanted_columns IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('source table %s may not be read', roneo.source_name_of(r)),
            HINT    = format('On the source: GRANT SELECT ON TABLE %s TO the role of the user mapping. roneo.check_source and roneo preflight print it exactly.',
                             roneo.source_name_of(r));
    END IF;
    RETURN relation;
END;
$$;
COMMENT ON FUNCTION roneo.require_relation(roneo.replica, jsonb) IS
    'The description of the source table out of an answer; raises RO004 where it is gone, RO009 where it may not be read whole.';

CREATE OR REPLACE FUNCTION roneo.wanted_source_columns(r roneo.replica, answer jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    relation jsonb := roneo.require_relation(r, answer);
    found    jsonb;
    lost     text;
    closed   text;
BEGIN
    SELECT coalesce(jsonb_agg(c.col ORDER BY (c.col ->> 'number')::integer), '[]'),
           string_agg(quote_ident(c.col ->> 'name'), ', ' ORDER BY (c.col ->> 'number')::integer)
               FILTER (WHERE NOT (c.col ->> 'readable')::boolean)
    INTO found, closed
    FROM jsonb_array_elements(relation -> 'columns') AS c (col)
    WHERE r.wanted_columns IS NULL OR c.col ->> 'name' = ANY (r.wanted_columns);
    SELECT string_agg(quote_ident(w), ', ') INTO lost
    FROM unnest(r.wanted_columns) AS w
    WHERE NOT EXISTS (SELECT FROM jsonb_array_elements(found) AS c (col) WHERE c.col ->> 'name' = w);
    IF lost IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO015',
            MESSAGE = format('source table %s has no column %s', roneo.source_name_of(r), lost),
            HINT    = 'The list of columns names it. Create the replica anew with a list that fits.';
    ELSIF closed IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('columns of source table %s may not be read: %s', roneo.source_name_of(r), closed),
            HINT    = format('On the source: GRANT SELECT (%s) ON TABLE %s TO the role of the user mapping. roneo.check_source and roneo preflight print it exactly.',
                             closed, roneo.source_name_of(r));
    END IF;
    RETURN found;
END;
$$;
COMMENT ON FUNCTION roneo.wanted_source_columns(roneo.replica, jsonb) IS
    'The columns of the source that a replica copies, in the source''s order; raises RO015 where one of its list is gone, RO009 where one may not be read.';

CREATE OR REPLACE FUNCTION roneo.dest_step(stage integer, purpose text, statement text, patient boolean DEFAULT false)
RETURNS roneo.step LANGUAGE sql IMMUTABLE
RETURN ROW(stage, 'dest', purpose, statement, NULL, NULL, NULL, NULL, NULL, NULL, patient)::roneo.step;
COMMENT ON FUNCTION roneo.dest_step(integer, text, text, boolean) IS
    'A step that is a statement on the destination.';

CREATE OR REPLACE FUNCTION roneo.privilege_statements(of_table regclass, onto text)
RETURNS TABLE (statement text, column_names name[], grantee oid) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('GRANT %s%s ON %s TO %s%s', a.privilege_type,
                  CASE WHEN p.attname IS NOT NULL THEN format(' (%I)', p.attname) END, onto,
                  CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                  CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END),
           CASE WHEN p.attname IS NULL THEN '{}'::name[] ELSE ARRAY[p.attname] END,
           a.grantee
    FROM (SELECT NULL::name AS attname, 0 AS attnum, c.relacl AS acl
          FROM pg_class AS c WHERE c.oid = of_table
          UNION ALL
          SELECT t.attname, t.attnum, t.attacl
          FROM pg_attribute AS t
          WHERE t.attrelid = of_table AND t.attnum > 0 AND NOT t.attisdropped) AS p
    CROSS JOIN LATERAL aclexplode(p.acl) AS a
    ORDER BY p.attnum, a.grantee, a.privilege_type;
END;
COMMENT ON FUNCTION roneo.privilege_statements(regclass, text) IS
    'GRANTs that give another relation the privileges of a table and of its columns.';
-- What every create_METHOD does before its own part: read the arguments, ask the source about
-- the table, and write the row of the replica.

CREATE OR REPLACE FUNCTION roneo.describe_by_name_query(source_table text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('SELECT pg_catalog.jsonb_build_object(''path'', pg_catalog.current_setting(''search_path''), '
              '''role'', current_user, ''encoding'', pg_catalog.current_setting(''server_encoding''), '
              '''oid'', pg_catalog.to_regclass(%L)::pg_catalog.oid)', source_table);
COMMENT ON FUNCTION roneo.describe_by_name_query(text) IS
    'A query on the source that resolves a name under the search_path of its role, before settings are pinned.';

CREATE OR REPLACE FUNCTION roneo.describe_query(source_oid text)
RETURNS text LANGUAGE sql STABLE
RETURN format('SELECT pg_catalog.jsonb_build_object(''relation'', (%s), ''indexes'', (%s), '
              '''system_identifier'', (SELECT c.system_identifier::text FROM pg_catalog.pg_control_system() AS c), '
              '''database'', (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()))',
              -- No table has oid 0, and NULL would not be SQL.
              roneo.relation_query(format('%s::pg_catalog.oid', coalesce(source_oid, '0'))),
              roneo.index_query(format('%s::pg_catalog.oid', coalesce(source_oid, '0'))));
COMMENT ON FUNCTION roneo.describe_query(text) IS
    'A query on the source that describes a table, given as an expression of type oid: columns, indexes, and where it is.';

-- Twice, between different words: what leaves its parentheses to come back, a) OR (b, fails.
CREATE OR REPLACE FUNCTION roneo.filter_query(source_schema text, source_table text, filter text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(E'SELECT pg_catalog.count(*) FROM (SELECT FROM %1$I.%2$I WHERE (%3$s\n) AND CASE WHEN %3$s\n THEN true END LIMIT 0) AS tried',
              source_schema, source_table, filter);
COMMENT ON FUNCTION roneo.filter_query(text, text, text) IS
    'A query on the source that fails where the filter does not fit the table, and reads no row.';

CREATE OR REPLACE FUNCTION roneo.find_over_link(link text, source_name text, source_table text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    RETURN roneo.ask_link(link, roneo.describe_by_name_query(source_table))::jsonb;
EXCEPTION WHEN insufficient_privilege THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    RAISE EXCEPTION USING
        ERRCODE = 'RO009',
        MESSAGE = format('%s of source %s may not be looked at', source_table, quote_ident(source_name)),
        DETAIL  = problem,
        HINT    = format('On the source: GRANT USAGE ON SCHEMA %I TO %I;',
                         (roneo.parse_name(source_table, NULL)).schema,
                         roneo.ask_link(link, 'SELECT current_user'));
END;
$$;
COMMENT ON FUNCTION roneo.find_over_link(text, text, text) IS
    'Finds a table of the source by its name; raises RO009 where its schema is closed.';

CREATE OR REPLACE FUNCTION roneo.describe_source(source_name text, source_table text, filter text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named       jsonb;
    description jsonb;
    link        text;
BEGIN
    PERFORM roneo.parse_name(source_table, NULL);
    link := roneo.open_link(source_name);
    BEGIN
        named := roneo.find_over_link(link, source_name, source_table);
        PERFORM roneo.tell_link(link, roneo.source_opening());
        -- Planning it takes longer than running it.
        description := named || coalesce(roneo.ask_link(link,
            CASE WHEN link LIKE '%\_held' THEN format('EXECUTE roneo_describe(%s)', coalesce(named ->> 'oid', '0'))
                 ELSE roneo.describe_query(named ->> 'oid') END)::jsonb, '{}');
        PERFORM roneo.require_described(source_name, source_table, description);
        IF filter IS NOT NULL THEN
            PERFORM roneo.tell_link(link, format('SET LOCAL search_path = %s', named ->> 'path'));
            PERFORM roneo.try_filter(link, description, filter);
        END IF;
        PERFORM roneo.tell_link(link, 'ROLLBACK');
        PERFORM roneo.close_link(link);
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        -- A dblink connection stays open after a rollback.
        PERFORM roneo.close_link(link);
        RAISE;
    END;
    RETURN description;
END;
$$;
COMMENT ON FUNCTION roneo.describe_source(text, text, text) IS
    'Describes a table of a source over dblink and tries the filter on it; raises RO004, RO006, RO007 and what open_link raises.';

CREATE OR REPLACE FUNCTION roneo.refuse_filter(description jsonb, filter text, problem text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'RO007',
        MESSAGE = format('the filter does not fit %I.%I: %s', description #>> '{relation,schema}', description #>> '{relation,name}', problem),
        DETAIL  = format('Filter: %s', filter),
        HINT    = 'A filter is a condition over the columns of the table, without the word WHERE.';
END;
$$;
COMMENT ON FUNCTION roneo.refuse_filter(jsonb, text, text) IS 'Raises RO007 for a filter that a server did not accept.';

CREATE OR REPLACE FUNCTION roneo.try_filter(link text, description jsonb, filter text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    PERFORM roneo.ask_link(link, roneo.filter_query(
        description #>> '{relation,schema}', description #>> '{relation,name}', filter));
EXCEPTION WHEN query_canceled THEN
    RAISE;
WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    PERFORM roneo.refuse_filter(description, filter, problem);
END;
$$;
COMMENT ON FUNCTION roneo.try_filter(text, jsonb, text) IS 'Raises RO007 where the source does not accept the filter.';

CREATE OR REPLACE FUNCTION roneo.require_described(source_name text, source_table text, description jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    relation jsonb := nullif(description -> 'relation', 'null');
BEGIN
    IF relation IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO004',
            MESSAGE = format('source %s has no table %s', quote_ident(source_name), source_table),
            DETAIL  = format('Looked for as role %s, whose search_path is %s.',
                             description ->> 'role', description ->> 'path'),
            HINT    = 'Names are case-sensitive inside double quotes and lower case without them; name the schema too.';
    ELSIF relation ->> 'kind' NOT IN ('r', 'p', 'v', 'm', 'f') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO004',
            MESSAGE = format('%s of source %s is not a table or a view', source_table, quote_ident(source_name)),
            HINT    = 'Tables, partitioned tables, views, materialized views and foreign tables can be copied.';
    ELSIF relation ->> 'persistence' = 't' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO004',
            MESSAGE = format('%s of source %s is a temporary table', source_table, quote_ident(source_name)),
            HINT    = 'Only the session that made it can read it.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_described(text, text, jsonb) IS
    'Raises RO004 where the source has no such table, or it is of a kind that cannot be copied.';

CREATE OR REPLACE FUNCTION roneo.require_not_itself(description jsonb, dest_schema name, dest_name name)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (description ->> 'system_identifier')
           = (SELECT c.system_identifier::text FROM pg_control_system() AS c)
       AND (description ->> 'database')::oid
           = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
       AND (dest_schema, dest_name)
           = (description #>> '{relation,schema}', description #>> '{relation,name}') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO005',
            MESSAGE = format('%I.%I would be a copy of itself', dest_schema, dest_name),
            DETAIL  = 'The source is this database.',
            HINT    = 'Name another dest, or look where the source''s foreign server points to.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_not_itself(jsonb, name, name) IS
    'Raises RO005 where source and destination are one table.';

CREATE OR REPLACE FUNCTION roneo.require_dest_name(dest text, description jsonb, OUT place_schema name, OUT place_name name)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF dest IS NULL THEN
        place_schema := description #>> '{relation,schema}';
        place_name := description #>> '{relation,name}';
    ELSE
        SELECT p.schema, p.name INTO place_schema, place_name FROM roneo.parse_name(dest, 'public') AS p;
    END IF;
    IF to_regnamespace(quote_ident(place_schema)) IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO005',
            MESSAGE = format('schema %I does not exist here', place_schema),
            HINT    = format('CREATE SCHEMA %I, or name a dest in another schema.', place_schema);
    END IF;
    PERFORM roneo.require_not_itself(description, place_schema, place_name);
    IF EXISTS (SELECT FROM roneo.replica AS r
               WHERE r.dest = to_regclass(format('%I.%I', place_schema, place_name)))
       OR EXISTS (SELECT FROM roneo.snapshot_replica AS m
                  WHERE m.table_schema = place_schema AND place_name IN (m.first_table, m.second_table)) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO005',
            MESSAGE = format('%I.%I is a replica already, or a table behind one', place_schema, place_name),
            HINT    = 'Drop that one first with roneo.drop_replica, or name another dest.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_dest_name(text, jsonb) IS
    'Schema and name of a destination that is to be made or adopted; raises RO005 or RO006. Without a name it is called as its source is.';

CREATE OR REPLACE FUNCTION roneo.require_columns_exist(columns text[], description jsonb)
RETURNS name[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missing text;
BEGIN
    -- Compared as text: the type name would cut what is too long.
    SELECT string_agg(coalesce(quote_ident(w), 'NULL'), ', ') INTO missing
    FROM roneo.missing_columns(columns, ARRAY(
        SELECT c.col ->> 'name' FROM jsonb_array_elements(description #> '{relation,columns}') AS c (col))) AS w;
    IF columns = '{}' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = 'the list of columns is empty',
            HINT    = 'Leave the argument out to copy all columns.';
    ELSIF missing IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('source table %I.%I has no column %s',
                             description #>> '{relation,schema}', description #>> '{relation,name}', missing),
            HINT    = 'Give names as they are stored, without quotes: ARRAY[''id'', ''Mixed Case''].';
    END IF;
    RETURN columns::name[];
END;
$$;
COMMENT ON FUNCTION roneo.require_columns_exist(text[], jsonb) IS
    'The list of columns asked for; raises RO007 where it is empty or the source lacks one of them.';

CREATE OR REPLACE FUNCTION roneo.new_replica(
    source_name text, description jsonb, dest regclass, method text, columns text[], filter text,
    refresh_every interval)
RETURNS roneo.replica LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made     roneo.replica;
    relation jsonb := description -> 'relation';
BEGIN
    IF refresh_every <= interval '0' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('refresh_every is %s', refresh_every),
            HINT    = 'Give a positive interval such as ''10 minutes'', or NULL to refresh only when told to.';
    END IF;
    INSERT INTO roneo.replica (source_id, source_schema, source_table, source_kind, source_lockable,
        dest, dest_schema, dest_name, method, wanted_columns, filter, filter_path, refresh_every)
    SELECT (roneo.require_source(source_name)).source_id, relation ->> 'schema', relation ->> 'name',
           (relation ->> 'kind')::"char",
           relation ->> 'kind' IN ('r', 'p', 'v') AND (relation ->> 'readable')::boolean,
           c.oid, n.nspname, c.relname, new_replica.method,
           roneo.require_columns_exist(columns, description), new_replica.filter,
           description ->> 'path', new_replica.refresh_every
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = new_replica.dest
    RETURNING * INTO made;
    RETURN made;
END;
$$;
COMMENT ON FUNCTION roneo.new_replica(text, jsonb, regclass, text, text[], text, interval) IS
    'Writes the row of a replica whose destination exists.';

CREATE OR REPLACE FUNCTION roneo.described_columns(description jsonb, columns text[])
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT coalesce(jsonb_agg(c.col ORDER BY (c.col ->> 'number')::integer), '[]')
    FROM jsonb_array_elements(description #> '{relation,columns}') AS c (col)
    WHERE columns IS NULL OR c.col ->> 'name' = ANY (columns)
);
COMMENT ON FUNCTION roneo.described_columns(jsonb, text[]) IS
    'The columns of a described table that are in the list, all of them where there is none.';

CREATE OR REPLACE FUNCTION roneo.column_names(columns jsonb)
RETURNS name[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT (c.col ->> 'name')::name
             FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, place) ORDER BY c.place);
COMMENT ON FUNCTION roneo.column_names(jsonb) IS 'The names in a list of columns, in its order.';

CREATE OR REPLACE FUNCTION roneo.make_table(
    table_schema name, table_name name, description jsonb, columns jsonb, with_indexes boolean,
    keep_names boolean)
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Planned anew for each table, the statements about indexes take longer than making them.
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    build text;
BEGIN
    EXECUTE roneo.table_statement(table_schema, table_name, columns);
    IF with_indexes THEN
        FOR build IN
            SELECT i.statement
            FROM roneo.index_statements(table_schema, table_name, description -> 'indexes',
                                        roneo.column_names(columns), keep_names) AS i
            ORDER BY i.position
        LOOP
            EXECUTE build;
        END LOOP;
    END IF;
    RETURN to_regclass(format('%I.%I', table_schema, table_name));
END;
$$;
COMMENT ON FUNCTION roneo.make_table(name, name, jsonb, jsonb, boolean, boolean) IS
    'Makes an empty table with the columns of a described one, and with its indexes where asked for.';
-- snapshot: the whole table is loaded into the one of two tables that a view does not show, and
-- then the view is swapped.

CREATE OR REPLACE FUNCTION roneo.create_snapshot(
    source text,
    source_table text,
    dest text DEFAULT NULL,
    columns text[] DEFAULT NULL,
    filter text DEFAULT NULL,
    with_indexes boolean DEFAULT true,
    copy_data boolean DEFAULT true,
    refresh_every interval DEFAULT NULL,
    check_changes boolean DEFAULT true,
    post_script text DEFAULT NULL,
    max_skip_age interval DEFAULT interval '1 day')
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    description jsonb := roneo.describe_source(source, source_table, filter);
    wanted      jsonb;
    place       record;
    first_name  name;
    second_name name;
    made        roneo.replica;
BEGIN
    IF max_skip_age < interval '0' OR max_skip_age IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('max_skip_age is %s', coalesce(max_skip_age::text, 'NULL')),
            HINT    = 'Give an interval such as ''1 day''; check_changes => false copies always.';
    END IF;
    SELECT * INTO place FROM roneo.require_dest_name(dest, description);
    PERFORM roneo.require_free_name(place.place_schema, place.place_name);
    PERFORM roneo.require_columns_exist(columns, description);
    wanted := roneo.described_columns(description, columns);
    first_name := roneo.free_name(place.place_schema, place.place_name, '_snap1');
    second_name := roneo.free_name(place.place_schema, place.place_name, '_snap2');
    PERFORM roneo.make_table(place.place_schema, first_name, description, wanted, with_indexes, false);
    PERFORM roneo.make_table(place.place_schema, second_name, description, wanted, false, false);
    EXECUTE roneo.view_statement(format('%I.%I', place.place_schema, place.place_name), NULL, wanted,
                                 place.place_schema, first_name);
    made := roneo.new_replica(source, description,
        format('%I.%I', place.place_schema, place.place_name)::regclass, 'snapshot', columns, filter, refresh_every);
    INSERT INTO roneo.snapshot_replica (replica_id, table_schema, first_table, second_table,
        check_changes, max_skip_age, post_script, columns)
    VALUES (made.replica_id, place.place_schema, first_name, second_name,
        create_snapshot.check_changes, create_snapshot.max_skip_age, create_snapshot.post_script, wanted);
    IF post_script IS NOT NULL THEN
        EXECUTE post_script;
    END IF;
    IF copy_data THEN
        PERFORM roneo.refresh(made.dest, raise_errors => true);
    END IF;
    RETURN made.dest;
END;
$$;
COMMENT ON FUNCTION roneo.create_snapshot(text, text, text, text[], text, boolean, boolean, interval, boolean, text, interval) IS
    'Makes a replica that is copied whole into a hidden table and then shown by swapping a view. dest: name of the view, that of the source table by default. columns: only these. filter: only rows for which this is true. with_indexes: the source''s indexes too. copy_data: copy now, over dblink. refresh_every: the promised age. check_changes: skip a copy when the source is unchanged. post_script: SQL to run after the view was built anew. max_skip_age: copy at least this often. Returns the view.';

CREATE OR REPLACE FUNCTION roneo.require_free_name(dest_schema name, dest_name name)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regclass(format('%I.%I', dest_schema, dest_name)) IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO005',
            MESSAGE = format('%I.%I exists already', dest_schema, dest_name),
            DETAIL  = 'A snapshot makes a view of that name, and two tables behind it.',
            HINT    = 'Rename or drop it, or name another dest.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_free_name(name, name) IS 'Raises RO005 where a relation of that name exists.';

CREATE OR REPLACE FUNCTION roneo.free_name(table_schema name, base text, suffix text)
RETURNS name LANGUAGE sql STABLE
RETURN CASE
    -- As a rule; to try all of them takes a hundred times as long.
    WHEN to_regclass(format('%I.%I', table_schema, roneo.fit_name(base, suffix))) IS NULL THEN roneo.fit_name(base, suffix)
    ELSE (SELECT candidate
          FROM generate_series(1, 99) AS n
          CROSS JOIN LATERAL roneo.fit_name(base, format('_%s%s', n, suffix)) AS candidate
          WHERE to_regclass(format('%I.%I', table_schema, candidate)) IS NULL
          ORDER BY n
          LIMIT 1)
END;
COMMENT ON FUNCTION roneo.free_name(name, text, text) IS
    'A name made of base and suffix that no relation of the schema has, at most 63 bytes long.';

CREATE OR REPLACE FUNCTION roneo.view_statement(
    view_name text, options text[], columns jsonb, table_schema name, table_name name)
RETURNS text LANGUAGE sql STABLE
RETURN format('CREATE OR REPLACE VIEW %s%s AS SELECT %s FROM %I.%I', view_name,
    (SELECT format(' WITH (%s)', string_agg(format('%I = %L', o.option_name, o.option_value), ', '))
     FROM pg_options_to_table(options) AS o HAVING count(*) > 0),
    roneo.column_list(roneo.column_names(columns)), table_schema, table_name);
COMMENT ON FUNCTION roneo.view_statement(text, text[], jsonb, name, name) IS
    'A statement that makes a view show one table, with the view''s options: CREATE OR REPLACE VIEW forgets them otherwise.';

CREATE OR REPLACE FUNCTION roneo.shown_table(m roneo.snapshot_replica)
RETURNS name LANGUAGE sql IMMUTABLE
RETURN CASE m.shown WHEN 1 THEN m.first_table ELSE m.second_table END;
COMMENT ON FUNCTION roneo.shown_table(roneo.snapshot_replica) IS 'The table that the view shows.';

CREATE OR REPLACE FUNCTION roneo.hidden_table(m roneo.snapshot_replica)
RETURNS name LANGUAGE sql IMMUTABLE
RETURN CASE m.shown WHEN 1 THEN m.second_table ELSE m.first_table END;
COMMENT ON FUNCTION roneo.hidden_table(roneo.snapshot_replica) IS 'The table that the next refresh loads.';

CREATE OR REPLACE FUNCTION roneo.probe_snapshot(r roneo.replica, m roneo.snapshot_replica)
RETURNS roneo.probe LANGUAGE sql STABLE
RETURN roneo.table_probe(r);
COMMENT ON FUNCTION roneo.probe_snapshot(roneo.replica, roneo.snapshot_replica) IS
    'Snapshot, phase one: what to ask of the source.';

-- Neither the clock nor the position in the log says whether this table changed.
CREATE OR REPLACE FUNCTION roneo.change_print(answer jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (answer -> 'before') - 'state' #- '{identity,clock}' #- '{identity,lsn}';
COMMENT ON FUNCTION roneo.change_print(jsonb) IS
    'What stays the same as long as nothing changes in the source table: counters, files and sizes of each leaf, resets of the statistics, the server''s start, its identity.';

-- A counter alone lies: TRUNCATE is not counted, a crash resets it, and standbys, views and
-- foreign tables have none. Anything that is not known to be counted is a change.
CREATE OR REPLACE FUNCTION roneo.vouches(answer jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN coalesce(
    answer #>> '{before,identity,in_recovery}' = 'false'
    AND answer #>> '{before,identity,postmaster_start}' IS NOT NULL
    AND answer #>> '{before,identity,stats_discarded}' IS NOT NULL
    AND answer #>> '{before,track_counts}' = 'on'
    AND jsonb_array_length(nullif(answer #> '{before,leaves}', 'null')) > 0
    AND jsonb_array_length(nullif(answer #> '{before,leaves}', 'null')) = jsonb_array_length(jsonb_path_query_array(answer,
        '$.before.leaves[*] ? (@.kind == "p" || @.kind == "r" && @.filenode > 0 && @.size >= 0 && @.ins >= 0 && @.upd >= 0 && @.del >= 0)')),
    false);
COMMENT ON FUNCTION roneo.vouches(jsonb) IS
    'Whether an equal fingerprint means an unchanged source: only tables whose changes the source counts.';

-- What a filter finds can change while its table does not: by the clock, or in another table. Only
-- text in which neither can hide is believed.
CREATE OR REPLACE FUNCTION roneo.is_steady(filter text)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN filter IS NULL OR NOT (
    regexp_replace(filter, '\m(and|or|not|in|any|all|between|is)\s*\(', '+(', 'gi') ~ '[[:alnum:]_$"]\s*\('
    OR filter ~ '--|/\*'
    OR filter ~* '\m(select|table|now|today|tomorrow|yesterday|current_\w+|local\w+|\w*user|reg\w+)\M');
COMMENT ON FUNCTION roneo.is_steady(text) IS
    'Whether a filter depends on nothing but the columns of its table: it calls no function, reads no other table, and names neither time nor user.';

CREATE OR REPLACE FUNCTION roneo.is_unchanged(
    m roneo.snapshot_replica, answer jsonb, columns jsonb, since jsonb, columns_then jsonb, at timestamptz)
RETURNS boolean LANGUAGE sql STABLE
RETURN coalesce(
    m.check_changes
    AND NOT coalesce((answer #>> '{options,force}')::boolean, false)
    AND roneo.vouches(answer)
    AND since = roneo.change_print(answer)
    AND columns_then = columns
    AND at > clock_timestamp() - m.max_skip_age, false);
COMMENT ON FUNCTION roneo.is_unchanged(roneo.snapshot_replica, jsonb, jsonb, jsonb, jsonb, timestamptz) IS
    'Whether the source is as it was at a load, and that load is young enough to be believed.';

-- A user's type can be altered without a trace in the table.
CREATE OR REPLACE FUNCTION roneo.watched_snapshot(r roneo.replica, m roneo.snapshot_replica, exact_every interval)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN CASE WHEN m.check_changes AND m.pending_at IS NULL AND m.fingerprint IS NOT NULL
                 AND roneo.is_steady(r.filter) AND m.fingerprint ->> 'filter' IS NOT DISTINCT FROM r.filter
                 AND NOT jsonb_path_exists(m.columns, '$[*].type_ddl ? (@ != null)')
            THEN m.loaded_at + m.max_skip_age END;
COMMENT ON FUNCTION roneo.watched_snapshot(roneo.replica, roneo.snapshot_replica, interval) IS
    'Until when the counters alone may say that there is nothing to do: until the copy is max_skip_age old, however often the rows of others are looked at; NULL: never.';

CREATE OR REPLACE FUNCTION roneo.plan_snapshot(r roneo.replica, m roneo.snapshot_replica, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted jsonb   := roneo.wanted_source_columns(r, answer);
    steady boolean := roneo.is_steady(r.filter);
    fit    text;
BEGIN
    IF (answer #>> '{options,show_pending}')::boolean AND m.pending_columns = wanted
       OR steady AND roneo.is_unchanged(m, answer, wanted, m.pending_fingerprint, m.pending_columns, m.pending_at) THEN
        fit := roneo.view_fit(r.dest, wanted);
        PERFORM roneo.require_no_dependents(r, answer, fit);
        RETURN QUERY SELECT * FROM roneo.show_steps(r, m, answer, wanted, fit, NOT m.pending_frozen, true);
    ELSIF NOT (steady AND roneo.is_unchanged(m, answer, wanted, m.fingerprint, m.columns, m.loaded_at)) THEN
        -- What a rebuilt view would take along is named before anything is read.
        fit := roneo.view_fit(r.dest, wanted);
        PERFORM roneo.require_no_dependents(r, answer, fit);
        RETURN QUERY SELECT * FROM roneo.empty_steps(r, m, wanted);
        RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
        RETURN QUERY SELECT * FROM roneo.raw_bytes_step(answer);
        RETURN QUERY SELECT * FROM roneo.load_step(r, m, answer, wanted);
        RETURN QUERY SELECT * FROM roneo.moved_step(r);
        RETURN QUERY SELECT * FROM roneo.dress_steps(m, wanted);
        RETURN QUERY SELECT * FROM roneo.show_steps(r, m, answer, wanted, fit,
            answer ->> 'hand' = 'sql' AND m.fingerprint IS NOT NULL, false);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.plan_snapshot(roneo.replica, roneo.snapshot_replica, jsonb) IS
    'Snapshot, phase three: nothing where the source is unchanged; only the swap where an earlier load waits for it; else empty, load, index and swap.';

CREATE OR REPLACE FUNCTION roneo.has_shape(m roneo.snapshot_replica, wanted jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN coalesce(roneo.same_shape(
    roneo.local_relation(to_regclass(format('%I.%I', m.table_schema, roneo.hidden_table(m)))) -> 'columns',
    wanted), false);
COMMENT ON FUNCTION roneo.has_shape(roneo.snapshot_replica, jsonb) IS
    'Whether the hidden table has the columns that the source has now.';

-- The name of a key in a table that is yet to be made is PostgreSQL's choice.
CREATE OR REPLACE FUNCTION roneo.drop_key_step(hidden text, shown regclass, known jsonb, wanted jsonb)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT (roneo.dest_step(1, 'drop the primary key, whose columns can be null on the source now', format('DO %L', format(
        $drop$BEGIN
    EXECUTE (SELECT pg_catalog.format('ALTER TABLE %%s DROP CONSTRAINT %%I', c.conrelid::pg_catalog.regclass, c.conname)
             FROM pg_catalog.pg_constraint AS c
             WHERE c.conrelid = %L::pg_catalog.regclass AND c.contype = 'p');
END$drop$, hidden)))).*
    WHERE EXISTS (
        SELECT
        FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
        JOIN jsonb_array_elements(wanted) AS w (col) ON NOT (w.col ->> 'not_null')::boolean
        LEFT JOIN jsonb_array_elements(known) AS k (col) ON k.col ->> 'number' = w.col ->> 'number'
        WHERE i.indrelid = shown AND i.indisprimary
          AND a.attname IN (w.col ->> 'name', k.col ->> 'name'));
END;
COMMENT ON FUNCTION roneo.drop_key_step(text, regclass, jsonb, jsonb) IS
    'A step that drops the primary key of the hidden table where the source has none any more on these columns.';

CREATE OR REPLACE FUNCTION roneo.empty_steps(r roneo.replica, m roneo.snapshot_replica, wanted jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hidden text := format('%I.%I', m.table_schema, roneo.hidden_table(m));
    shown  regclass := to_regclass(format('%I.%I', m.table_schema, roneo.shown_table(m)));
BEGIN
    IF shown IS NULL OR to_regclass(hidden) IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO018',
            MESSAGE = format('a table behind %I.%I is gone', r.dest_schema, r.dest_name),
            DETAIL  = format('It is made of %I.%I and %I.%I.', m.table_schema, m.first_table,
                             m.table_schema, m.second_table),
            HINT    = 'Drop the replica and create it anew.';
    END IF;
    RETURN NEXT roneo.dest_step(1, 'wait for the last readers of the hidden table',
        format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', hidden), true);
    IF roneo.has_shape(m, wanted) THEN
        RETURN NEXT roneo.dest_step(1, 'empty the hidden table', format('TRUNCATE TABLE %s', hidden));
        RETURN QUERY
            SELECT (roneo.dest_step(1, d.purpose, d.statement)).*
            FROM roneo.drop_index_statements(hidden::regclass) AS d
            ORDER BY d.position;
    ELSE
        RETURN NEXT roneo.dest_step(1, 'drop the hidden table, whose columns do not fit any more',
            format('DROP TABLE %s', hidden));
        RETURN NEXT roneo.dest_step(1, 'make it again like the one that is shown',
            format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', hidden, shown));
        RETURN QUERY SELECT * FROM roneo.drop_key_step(hidden, shown, m.columns, wanted);
        RETURN QUERY
            SELECT (roneo.dest_step(1, c.purpose, c.statement)).*
            FROM roneo.reshape_statements(m.table_schema, roneo.hidden_table(m),
                roneo.local_relation(shown) -> 'columns', m.columns, wanted, true) AS c
            ORDER BY c.position;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.empty_steps(roneo.replica, roneo.snapshot_replica, jsonb) IS
    'Steps that leave the hidden table empty, without indexes, and with the columns of the source.';

CREATE OR REPLACE FUNCTION roneo.as_local_columns(columns jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    -- Of a domain nobody knows here what it is made of; its values go as text.
    SELECT coalesce(jsonb_agg(c.col || jsonb_build_object('type', roneo.local_type(c.col), 'generated', '',
                                  'binary', (c.col ->> 'binary')::boolean AND c.col ->> 'type_kind' <> 'd')
                              ORDER BY c.place), '[]')
    FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, place)
);
COMMENT ON FUNCTION roneo.as_local_columns(jsonb) IS
    'The columns of a table made here for columns of a source.';

CREATE OR REPLACE FUNCTION roneo.load_step(r roneo.replica, m roneo.snapshot_replica, answer jsonb, wanted jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Asked once, as in dress_steps.
    kept jsonb := roneo.local_relation(
        to_regclass(format('%I.%I', m.table_schema, roneo.hidden_table(m)))) -> 'columns';
BEGIN
    IF roneo.same_shape(kept, wanted) IS NOT TRUE THEN
        kept := roneo.as_local_columns(wanted);
    END IF;
    RETURN QUERY
        SELECT t.*
        FROM roneo.source AS s
        CROSS JOIN LATERAL roneo.transfer_step('copy the rows into the hidden table',
            r.source_schema, r.source_table, wanted, kept, r.filter,
            m.table_schema, roneo.hidden_table(m), answer ->> 'hand' = 'runner', s.source_encoding) AS t
        WHERE s.source_id = r.source_id;
END;
$$;
COMMENT ON FUNCTION roneo.load_step(roneo.replica, roneo.snapshot_replica, jsonb, jsonb) IS
    'The step that copies all rows into the hidden table; by the runner with FREEZE, so that sessions with an older snapshot see them too.';

-- The owner has what owners have. A table that is yet to be made gets what default privileges say.
CREATE OR REPLACE FUNCTION roneo.privilege_steps(shown regclass, hidden regclass, target text, names name[])
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH wanted AS (
        SELECT p.statement, p.grantee
        FROM roneo.privilege_statements(shown, target) AS p
        JOIN pg_class AS c ON c.oid = shown AND c.relowner <> p.grantee
        WHERE names @> p.column_names
    ), present AS (
        SELECT p.statement, p.grantee
        FROM roneo.privilege_statements(hidden, target) AS p
        JOIN pg_class AS c ON c.oid = shown AND c.relowner <> p.grantee
        UNION
        SELECT '', e.grantee
        FROM pg_class AS c
        JOIN pg_default_acl AS f ON f.defaclrole = c.relowner AND f.defaclobjtype = 'r'
            AND f.defaclnamespace IN (0, c.relnamespace)
        CROSS JOIN LATERAL aclexplode(f.defaclacl) AS e
        WHERE hidden IS NULL AND c.oid = shown AND c.relowner <> e.grantee
    )
    SELECT (roneo.dest_step(4, 'give the table the privileges of the one that is shown', concat_ws('; ',
        (SELECT string_agg(DISTINCT format('REVOKE ALL ON %s FROM %s CASCADE', target,
                    CASE WHEN p.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(p.grantee)) END), '; ')
         FROM present AS p),
        (SELECT string_agg(w.statement, '; ') FROM wanted AS w)))).*
    WHERE EXISTS ((TABLE wanted EXCEPT TABLE present) UNION ALL (TABLE present EXCEPT TABLE wanted));
END;
COMMENT ON FUNCTION roneo.privilege_steps(regclass, regclass, text, name[]) IS
    'A step that gives the hidden table (NULL: a new one) the privileges of the shown one, and no others; none where they are alike.';

CREATE OR REPLACE FUNCTION roneo.dress_steps(m roneo.snapshot_replica, wanted jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hidden name := roneo.hidden_table(m);
    shown  regclass := to_regclass(format('%I.%I', m.table_schema, roneo.shown_table(m)));
    -- Asked once, for it costs milliseconds: as an argument below it would be asked at each use.
    kept   regclass := CASE WHEN roneo.has_shape(m, wanted)
                            THEN to_regclass(format('%I.%I', m.table_schema, hidden)) END;
BEGIN
    IF kept IS NOT NULL THEN
        RETURN QUERY
            SELECT (roneo.dest_step(4, i.purpose, i.statement)).*
            FROM roneo.index_statements(m.table_schema, hidden, roneo.local_indexes(shown),
                                        roneo.column_names(wanted), false) AS i
            ORDER BY i.position;
    END IF;
    RETURN QUERY
        SELECT s.*
        FROM roneo.privilege_steps(shown, kept, format('%I.%I', m.table_schema, hidden),
                                   roneo.column_names(wanted)) AS s;
    RETURN NEXT roneo.dest_step(4, 'gather statistics', format('ANALYZE %I.%I', m.table_schema, hidden));
END;
$$;
COMMENT ON FUNCTION roneo.dress_steps(roneo.snapshot_replica, jsonb) IS
    'Steps that give the loaded table what the shown one has: indexes, privileges, statistics.';
-- snapshot, the view: swapping it under a short lock, and building it anew when its columns
-- cannot stay.

CREATE OR REPLACE FUNCTION roneo.view_fit(view regclass, wanted jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT CASE
        WHEN count(*) FILTER (WHERE v.name IS NOT NULL AND w.name IS NULL) > 0
             OR bool_or(v.type <> w.type OR v.collation <> w.collation) THEN 'rebuild'
        WHEN NOT bool_or(v.name <> w.name) OR count(v.name) = 0 THEN 'keep'
        -- A name that the view has elsewhere cannot be given before it is free.
        WHEN bool_or(v.name <> w.name AND w.name IN (SELECT a.attname FROM pg_attribute AS a
                                                     WHERE a.attrelid = view AND a.attnum > 0)) THEN 'rebuild'
        WHEN bool_or(v.name <> w.name AND v.name IN (SELECT x.col ->> 'name'
                                                     FROM jsonb_array_elements(wanted) AS x (col))) THEN 'rebuild'
        ELSE 'rename'
    END
    FROM (SELECT c.col ->> 'name' AS name, c.col ->> 'type' AS type, c.place,
                 coalesce(c.col ->> 'collation', '') AS collation
          FROM jsonb_array_elements(roneo.local_relation(view) -> 'columns')
              WITH ORDINALITY AS c (col, place)) AS v
    FULL JOIN (SELECT c.col ->> 'name' AS name, roneo.local_type(c.col) AS type, c.place,
                      coalesce(c.col ->> 'collation', '') AS collation
               FROM jsonb_array_elements(wanted) WITH ORDINALITY AS c (col, place)) AS w
        ON w.place = v.place
);
COMMENT ON FUNCTION roneo.view_fit(regclass, jsonb) IS
    'How a view comes to show these columns: keep (as they are, or some appended), rename, or rebuild.';

-- A view is what its rule _RETURN belongs to. Triggers and rules of the view itself go silently
-- with it; they are named like the rest.
CREATE OR REPLACE FUNCTION roneo.dependents(view regclass)
RETURNS TABLE (dependent text) LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE found AS (
        SELECT 'pg_class'::regclass::oid AS class, view::oid AS object, 0 AS part, false AS named
        UNION
        SELECT CASE WHEN w.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass::oid END,
               coalesce(w.ev_class, d.objid),
               CASE WHEN w.oid IS NULL THEN d.objsubid ELSE 0 END,
               d.deptype = 'n' OR f.object = view AND d.classid IN ('pg_trigger'::regclass, 'pg_rewrite'::regclass)
        FROM found AS f
        JOIN pg_depend AS d ON d.refclassid = f.class AND d.refobjid = f.object
            AND (f.part = 0 OR d.refobjsubid = f.part) AND d.deptype IN ('n', 'a', 'i')
        LEFT JOIN pg_rewrite AS w
            ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid AND w.rulename = '_RETURN'
    )
    SELECT DISTINCT pg_describe_object(f.class, f.object, f.part)
    FROM found AS f
    WHERE f.named AND f.object <> view
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.dependents(regclass) IS
    'What would be dropped with a view: views on it and on those, functions that use it, its own triggers and rules.';

CREATE OR REPLACE FUNCTION roneo.require_no_dependents(r roneo.replica, answer jsonb, fit text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named text;
BEGIN
    IF fit = 'rebuild'
       AND NOT coalesce((answer #>> '{options,drop_dependents}')::boolean, false) THEN
        SELECT string_agg(d.dependent, ', ') INTO named FROM roneo.dependents(r.dest) AS d;
        IF named IS NOT NULL THEN
            RAISE EXCEPTION USING
                ERRCODE = 'RO012',
                MESSAGE = format('the columns of source table %s have changed, and %I.%I cannot follow while others depend on it',
                                 roneo.source_name_of(r), r.dest_schema, r.dest_name),
                DETAIL  = format('They depend on it: %s.', named),
                HINT    = 'Drop them and make them again afterwards; or let the refresh drop them (drop_dependents => true, roneo refresh --drop-dependents). Until then the copy stays as it is.';
        END IF;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_no_dependents(roneo.replica, jsonb, text) IS
    'Raises RO012, naming them, where the view must be rebuilt and others depend on it; unless the refresh may drop them.';

-- Rows that a transaction inserts are invisible to a session whose REPEATABLE READ snapshot is older
-- than its commit, and after the swap that one would find the view empty. It can take its snapshot
-- while it waits for the swap itself; so over dblink a load and its swap go into one transaction only
-- where nobody else is connected. Once the load is committed it is enough that the transactions open
-- then come to their end. Rows loaded with FREEZE need none of this.

CREATE OR REPLACE FUNCTION roneo.others_connected()
RETURNS boolean LANGUAGE sql STABLE
RETURN EXISTS (
    -- Everyone may see who has a role: sessions and their workers do, autovacuum does not.
    SELECT FROM pg_stat_activity AS a
    WHERE a.datname = current_database() AND a.usesysid IS NOT NULL AND a.pid <> pg_backend_pid());
COMMENT ON FUNCTION roneo.others_connected() IS 'Whether other sessions are connected to this database.';

CREATE OR REPLACE FUNCTION roneo.snapshot_guard(committed boolean)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN committed THEN format($guard$DO $roneo$
DECLARE
    older text[] := ARRAY(
        SELECT l.virtualtransaction
        FROM pg_catalog.pg_locks AS l
        JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
        WHERE l.locktype = 'virtualxid' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
          AND l.virtualxid = l.virtualtransaction
          AND a.datname = pg_catalog.current_database() AND a.usesysid IS NOT NULL);
    until timestamptz := pg_catalog.clock_timestamp() + interval '%s ms';
BEGIN
    WHILE EXISTS (SELECT FROM pg_catalog.pg_locks AS l
                  WHERE l.locktype = 'virtualxid' AND l.virtualxid = ANY (older)) LOOP
        IF pg_catalog.clock_timestamp() > until THEN
            RAISE lock_not_available USING
                MESSAGE = 'a session with an older snapshot is still open';
        END IF;
        PERFORM pg_catalog.pg_sleep(0.005);
    END LOOP;
END $roneo$; $guard$, roneo.setting('lock_timeout_ms'))
ELSE $guard$DO $roneo$
BEGIN
    PERFORM pg_catalog.pg_stat_clear_snapshot();
    IF EXISTS (SELECT FROM pg_catalog.pg_stat_activity AS a
               WHERE a.datname = pg_catalog.current_database() AND a.usesysid IS NOT NULL
                 AND a.pid <> pg_catalog.pg_backend_pid()) THEN
        RAISE lock_not_available USING
            MESSAGE = 'a session that has connected meanwhile may not see the loaded rows';
    END IF;
END $roneo$; $guard$ END;
COMMENT ON FUNCTION roneo.snapshot_guard(boolean) IS
    'A statement that fails with 55P03 while a session of this database may hold a snapshot that does not see the loaded rows.';

CREATE OR REPLACE FUNCTION roneo.swap_statement(r roneo.replica, m roneo.snapshot_replica, wanted jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat(
        (SELECT string_agg(format('ALTER VIEW %I.%I RENAME COLUMN %I TO %I; ', r.dest_schema, r.dest_name,
                                  a.attname, w.col ->> 'name'), '' ORDER BY a.attnum)
         FROM pg_attribute AS a
         JOIN jsonb_array_elements(wanted) WITH ORDINALITY AS w (col, place) ON w.place = a.attnum
         WHERE a.attrelid = r.dest AND a.attname <> w.col ->> 'name'),
        roneo.view_statement(format('%I.%I', r.dest_schema, r.dest_name), c.reloptions, wanted,
                             m.table_schema, roneo.hidden_table(m)))
    FROM pg_class AS c
    WHERE c.oid = r.dest
);
COMMENT ON FUNCTION roneo.swap_statement(roneo.replica, roneo.snapshot_replica, jsonb) IS
    'Statements that make the view show the hidden table, and rename its columns first where only names changed.';

CREATE OR REPLACE FUNCTION roneo.comment_statements(view regclass, wanted jsonb)
RETURNS TABLE (statement text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT CASE WHEN d.objsubid = 0
        THEN format('COMMENT ON VIEW %I.%I IS %L', n.nspname, c.relname, d.description)
        ELSE format('COMMENT ON COLUMN %I.%I.%I IS %L', n.nspname, c.relname, a.attname, d.description) END
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_description AS d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid
    LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0
    WHERE c.oid = view
      AND (d.objsubid = 0 OR a.attname = ANY (roneo.column_names(wanted)))
    ORDER BY d.objsubid;
END;
COMMENT ON FUNCTION roneo.comment_statements(regclass, jsonb) IS
    'COMMENTs of a view, and of those of its columns that stay.';

CREATE OR REPLACE FUNCTION roneo.rebuild_statement(r roneo.replica, m roneo.snapshot_replica, answer jsonb, wanted jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat(
        format('DROP VIEW %I.%I%s; ', r.dest_schema, r.dest_name,
               CASE WHEN (answer #>> '{options,drop_dependents}')::boolean THEN ' CASCADE' END),
        roneo.view_statement(format('%I.%I', r.dest_schema, r.dest_name), c.reloptions, wanted,
                             m.table_schema, roneo.hidden_table(m)),
        format('; ALTER VIEW %I.%I OWNER TO %I', r.dest_schema, r.dest_name, pg_get_userbyid(c.relowner)),
        -- What default privileges gave the new view is not what the old one had.
        (SELECT string_agg(format('; REVOKE ALL ON %I.%I FROM %s', r.dest_schema, r.dest_name,
                    CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END), '')
         FROM (SELECT DISTINCT e.grantee
               FROM pg_default_acl AS f
               CROSS JOIN LATERAL aclexplode(f.defaclacl) AS e
               WHERE f.defaclrole = c.relowner AND f.defaclobjtype = 'r'
                 AND f.defaclnamespace IN (0, c.relnamespace)) AS x),
        (SELECT string_agg(concat('; ', p.statement), '')
         FROM roneo.privilege_statements(c.oid, format('%I.%I', r.dest_schema, r.dest_name)) AS p
         WHERE roneo.column_names(wanted) @> p.column_names),
        (SELECT string_agg(concat('; ', d.statement), '') FROM roneo.comment_statements(c.oid, wanted) AS d),
        CASE WHEN m.post_script IS NOT NULL THEN format('; %s', m.post_script) END)
    FROM pg_class AS c
    WHERE c.oid = r.dest
);
COMMENT ON FUNCTION roneo.rebuild_statement(roneo.replica, roneo.snapshot_replica, jsonb, jsonb) IS
    'Statements that build the view anew over the hidden table, with its options, owner, privileges, comments, and the post_script.';

CREATE OR REPLACE FUNCTION roneo.show_steps(
    r roneo.replica, m roneo.snapshot_replica, answer jsonb, wanted jsonb, fit text,
    guarded boolean, committed boolean)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF guarded AND NOT committed AND roneo.others_connected() THEN
        RETURN NEXT roneo.dest_step(5, 'leave the swap to the next refresh, because others are connected', NULL, true);
        RETURN;
    END IF;
    RETURN NEXT roneo.dest_step(5,
        CASE fit
            WHEN 'rebuild' THEN 'build the view anew over the loaded table'
            ELSE 'show the loaded table' END,
        concat(CASE WHEN guarded THEN roneo.snapshot_guard(committed) END,
            CASE fit
                WHEN 'rebuild' THEN roneo.rebuild_statement(r, m, answer, wanted)
                ELSE roneo.swap_statement(r, m, wanted) END),
        true);
END;
$$;
COMMENT ON FUNCTION roneo.show_steps(roneo.replica, roneo.snapshot_replica, jsonb, jsonb, text, boolean, boolean) IS
    'The patient step that makes the view show what was loaded; without a statement where that must wait for the load''s commit.';

CREATE OR REPLACE FUNCTION roneo.finish_snapshot(ended roneo.ended[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(ended) AS e
               WHERE jsonb_path_exists(e.result, '$.steps[*] ? (@.stage == 1 && @.outcome == "deferred")')) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO016',
            MESSAGE = 'the table to be loaded is still being read by sessions from before the last swap',
            HINT    = 'The next refresh tries again; a transaction that stays open for long keeps it waiting.';
    END IF;
    UPDATE roneo.snapshot_replica AS m SET
        shown               = CASE WHEN x.showed THEN 3 - m.shown ELSE m.shown END,
        columns             = CASE WHEN x.showed THEN coalesce(x.columns, m.pending_columns) ELSE m.columns END,
        fingerprint         = CASE WHEN x.showed THEN coalesce(x.print, m.pending_fingerprint) ELSE m.fingerprint END,
        loaded_at           = CASE WHEN x.showed THEN coalesce(x.at, m.pending_at) ELSE m.loaded_at END,
        pending_columns     = CASE WHEN x.showed THEN NULL ELSE coalesce(x.columns, m.pending_columns) END,
        pending_fingerprint = CASE WHEN x.showed THEN NULL ELSE coalesce(x.print, m.pending_fingerprint) END,
        pending_at          = CASE WHEN x.showed THEN NULL ELSE coalesce(x.at, m.pending_at) END,
        pending_frozen      = CASE WHEN x.showed THEN NULL ELSE coalesce(x.frozen, m.pending_frozen) END
    FROM (
        SELECT r.replica_id,
               jsonb_path_exists(e.result, '$.steps[*] ? (@.stage == 5 && @.outcome == "done")') AS showed,
               CASE WHEN l.loaded THEN roneo.wanted_source_columns(r, e.answer) END AS columns,
               CASE WHEN l.loaded THEN roneo.change_print(e.answer) END AS print,
               CASE WHEN l.loaded THEN clock_timestamp() END AS at,
               CASE WHEN l.loaded THEN e.answer ->> 'hand' = 'runner' END AS frozen
        FROM unnest(ended) AS e
        JOIN roneo.replica AS r ON r.replica_id = e.replica_id
        CROSS JOIN LATERAL (SELECT jsonb_path_exists(e.result,
            '$.steps[*] ? (@.kind == "transfer" && @.outcome == "done")')) AS l (loaded)
        WHERE jsonb_array_length(e.result -> 'steps') > 0
    ) AS x
    WHERE x.replica_id = m.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.finish_snapshot(roneo.ended[]) IS
    'Snapshot, phase four: which table is shown and what was loaded; a load whose swap was deferred stays pending.';

-- By its oid: another relation can have its old name.
CREATE OR REPLACE FUNCTION roneo.remove_snapshot(r roneo.replica, m roneo.snapshot_replica, keep_table boolean)
RETURNS TABLE (statement text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT w.statement
    FROM (
        SELECT 1, false, format('DROP VIEW %I.%I', n.nspname, c.relname)
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = r.dest
        UNION ALL VALUES
        (2, false, format('DROP TABLE IF EXISTS %I.%I', m.table_schema, roneo.shown_table(m))),
        (3, true,  format('DROP TABLE IF EXISTS %I.%I', m.table_schema, roneo.hidden_table(m)))
    ) AS w (place, always, statement)
    WHERE w.always OR NOT keep_table
    ORDER BY w.place;
END;
COMMENT ON FUNCTION roneo.remove_snapshot(roneo.replica, roneo.snapshot_replica, boolean) IS
    'What is dropped with a snapshot: the hidden table always, the view and the shown table unless they are kept.';
-- plain: an ordinary table is emptied and loaded again, in one transaction.

CREATE OR REPLACE FUNCTION roneo.create_plain(
    source text,
    source_table text,
    dest text DEFAULT NULL,
    columns text[] DEFAULT NULL,
    filter text DEFAULT NULL,
    with_indexes boolean DEFAULT true,
    copy_data boolean DEFAULT true,
    refresh_every interval DEFAULT NULL,
    sequences text[] DEFAULT NULL,
    truncate_cascade boolean DEFAULT false)
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    description jsonb := roneo.describe_source(source, source_table, filter);
    place       record;
    target      regclass;
    made        roneo.replica;
BEGIN
    SELECT * INTO place FROM roneo.require_dest_name(dest, description);
    PERFORM roneo.require_columns_exist(columns, description);
    target := to_regclass(format('%I.%I', place.place_schema, place.place_name));
    IF target IS NULL THEN
        target := roneo.make_table(place.place_schema, place.place_name, description,
            roneo.described_columns(description, columns), with_indexes, true);
    ELSE
        PERFORM roneo.require_adoptable(target, roneo.described_columns(description, columns), columns);
    END IF;
    PERFORM roneo.require_sequences(target, sequences);
    PERFORM roneo.require_no_referrers(target, truncate_cascade);
    made := roneo.new_replica(source, description, target, 'plain', columns, filter, refresh_every);
    INSERT INTO roneo.plain_replica (replica_id, columns, sequences, truncate_cascade)
    VALUES (made.replica_id,
        ARRAY(SELECT p.name FROM roneo.pair_columns(roneo.described_columns(description, columns),
                  roneo.local_relation(target) -> 'columns') AS p ORDER BY p.position),
        create_plain.sequences, create_plain.truncate_cascade);
    IF copy_data THEN
        PERFORM roneo.refresh(made.dest, raise_errors => true);
    END IF;
    RETURN made.dest;
END;
$$;
COMMENT ON FUNCTION roneo.create_plain(text, text, text, text[], text, boolean, boolean, interval, text[], boolean) IS
    'Makes a replica that is an ordinary table, emptied and loaded again at each refresh. dest: its name, that of the source table by default; a table that exists is adopted, and its rows are replaced. columns, filter, with_indexes, copy_data, refresh_every: as in create_snapshot. sequences: those of the destination to set after a load; NULL: all that its columns use, {}: none. truncate_cascade: also empty the tables that reference it. Returns the table.';

CREATE OR REPLACE FUNCTION roneo.misfits(target regclass, source_columns jsonb, columns text[])
RETURNS TABLE (misfit text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('Column %I is NOT NULL without a default, and the source has no such column.', a.attname)
    FROM pg_attribute AS a
    WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
      AND NOT a.attname = ANY (roneo.column_names(source_columns))
    UNION ALL
    SELECT format('Column %I of the list is not in it.', c)
    FROM unnest(columns) AS c
    WHERE NOT EXISTS (SELECT FROM pg_attribute AS a
                      WHERE a.attrelid = target AND a.attname = c AND a.attnum > 0 AND NOT a.attisdropped)
    UNION ALL
    SELECT 'It has no column in common with the source.'
    WHERE jsonb_array_length(source_columns) > 0
      AND NOT EXISTS (SELECT FROM pg_attribute AS a
                      WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped
                        AND a.attname = ANY (roneo.column_names(source_columns)));
END;
COMMENT ON FUNCTION roneo.misfits(regclass, jsonb, text[]) IS
    'Why a table here cannot take rows with these columns, one sentence each.';

CREATE OR REPLACE FUNCTION roneo.require_adoptable(target regclass, source_columns jsonb, columns text[])
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reasons text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class AS c
                   WHERE c.oid = target AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO005',
            MESSAGE = format('%s exists and is not an ordinary table', target),
            HINT    = 'Rename or drop it, or name another dest.';
    END IF;
    SELECT string_agg(f.misfit, ' ') INTO reasons
    FROM roneo.misfits(target, source_columns, columns) AS f;
    IF reasons IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO015',
            MESSAGE = format('table %s cannot take the rows of the source', target),
            DETAIL  = reasons,
            HINT    = 'Change the table, give a list of columns that both have, or name a dest that does not exist.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_adoptable(regclass, jsonb, text[]) IS
    'Raises RO005 or RO015 where an existing relation cannot take the rows of a source.';

CREATE OR REPLACE FUNCTION roneo.used_sequences(target regclass)
RETURNS TABLE (sequence regclass, column_name name) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.seqrelid::regclass, a.attname
    FROM pg_depend AS d
    LEFT JOIN pg_attrdef AS f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
    JOIN pg_sequence AS s ON s.seqrelid = CASE WHEN f.oid IS NULL THEN d.objid ELSE d.refobjid END
    JOIN pg_attribute AS a ON a.attrelid = target
        AND a.attnum = CASE WHEN f.oid IS NULL THEN d.refobjsubid ELSE f.adnum END
    WHERE d.refclassid = 'pg_class'::regclass
      AND (f.oid IS NULL AND d.classid = 'pg_class'::regclass AND d.refobjid = target AND d.refobjsubid > 0
           AND d.deptype IN ('a', 'i')
           OR f.adrelid = target)
      AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
    GROUP BY 1, 2
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.used_sequences(regclass) IS
    'The sequences that the columns of a table own or take their defaults from.';

CREATE OR REPLACE FUNCTION roneo.require_sequences(target regclass, sequences text[])
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unknown text;
BEGIN
    SELECT w INTO unknown
    FROM unnest(sequences) AS w
    WHERE NOT EXISTS (SELECT FROM roneo.used_sequences(target) AS u WHERE u.sequence = to_regclass(w));
    IF FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('no column of %s uses the sequence %s', target, unknown),
            HINT    = 'Name sequences with their schema; NULL sets all that its columns use.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_sequences(regclass, text[]) IS
    'Raises RO007 for a sequence that no column of the table uses.';

CREATE OR REPLACE FUNCTION roneo.referrers(target regclass)
RETURNS TABLE (referrer regclass) LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE found AS (
        SELECT c.conrelid FROM pg_constraint AS c
        WHERE c.contype = 'f' AND c.confrelid = target AND c.conrelid <> target
        UNION
        SELECT c.conrelid FROM pg_constraint AS c JOIN found AS f ON c.confrelid = f.conrelid
        WHERE c.contype = 'f' AND c.conrelid <> target
    )
    SELECT conrelid::regclass FROM found ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.referrers(regclass) IS
    'The tables whose foreign keys reference a table, directly or through others: what TRUNCATE … CASCADE empties with it.';

CREATE OR REPLACE FUNCTION roneo.require_no_referrers(target regclass, truncate_cascade boolean)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named text;
BEGIN
    SELECT string_agg(f.referrer::text, ', ') INTO named FROM roneo.referrers(target) AS f;
    IF named IS NOT NULL AND NOT truncate_cascade THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO017',
            MESSAGE = format('table %s cannot be emptied: foreign keys reference it', target),
            DETAIL  = format('TRUNCATE … CASCADE would empty these too: %s.', named),
            HINT    = 'truncate_cascade => true does that. If they are to keep their rows, use a snapshot, or drop the foreign keys.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_no_referrers(regclass, boolean) IS
    'Raises RO017, naming them, where other tables would have to be emptied too and nobody asked for that.';

CREATE OR REPLACE FUNCTION roneo.probe_plain(r roneo.replica, m roneo.plain_replica)
RETURNS roneo.probe LANGUAGE sql STABLE
RETURN roneo.table_probe(r);
COMMENT ON FUNCTION roneo.probe_plain(roneo.replica, roneo.plain_replica) IS
    'Plain, phase one: what to ask of the source.';

CREATE OR REPLACE FUNCTION roneo.require_no_lost_column(r roneo.replica, m roneo.plain_replica, source_columns jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lost text;
BEGIN
    SELECT string_agg(quote_ident(k), ', ') INTO lost
    FROM unnest(m.columns) AS k
    JOIN pg_attribute AS a ON a.attrelid = r.dest AND a.attname = k AND a.attnum > 0 AND NOT a.attisdropped
    WHERE k <> ALL (roneo.column_names(source_columns));
    IF lost IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO015',
            MESSAGE = format('source table %s has lost column %s, which %I.%I still has',
                             roneo.source_name_of(r), lost, r.dest_schema, r.dest_name),
            HINT    = 'Drop or rename it on the destination too. Until then the copy stays as it is.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_no_lost_column(roneo.replica, roneo.plain_replica, jsonb) IS
    'Raises RO015 where a column that used to be copied is gone from the source: filling it with NULL would look like data.';

CREATE OR REPLACE FUNCTION roneo.plan_plain(r roneo.replica, m roneo.plain_replica, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted jsonb := roneo.wanted_source_columns(r, answer);
BEGIN
    PERFORM roneo.require_no_lost_column(r, m, wanted);
    PERFORM roneo.require_no_referrers(r.dest, m.truncate_cascade);
    -- What is to be compared is what was copied, if that can still be what the source has.
    IF (answer #>> '{options,verify}')::boolean AND NOT coalesce((answer #>> '{options,force}')::boolean, false)
       AND r.source_state = (answer #>> '{before,state}')::uuid THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM roneo.clear_steps(r, m, answer);
    RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
    RETURN QUERY SELECT * FROM roneo.raw_bytes_step(answer);
    RETURN QUERY
        SELECT t.*
        FROM roneo.source AS s
        CROSS JOIN pg_class AS c
        CROSS JOIN LATERAL roneo.transfer_step('copy the rows', r.source_schema, r.source_table, wanted,
            roneo.local_relation(r.dest) -> 'columns', r.filter, r.dest_schema, r.dest_name,
            answer ->> 'hand' = 'runner' AND c.relkind = 'r', s.source_encoding) AS t
        WHERE s.source_id = r.source_id AND c.oid = r.dest;
    RETURN QUERY SELECT (roneo.moved_step(r)).*;
    RETURN QUERY SELECT * FROM roneo.sequence_steps(r, m);
    RETURN NEXT roneo.dest_step(4, 'gather statistics', format('ANALYZE %I.%I', r.dest_schema, r.dest_name));
END;
$$;
COMMENT ON FUNCTION roneo.plan_plain(roneo.replica, roneo.plain_replica, jsonb) IS
    'Plain, phase three: empty, load, set the sequences.';

CREATE OR REPLACE FUNCTION roneo.empty_check(target text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('DO %L', format('BEGIN IF EXISTS (SELECT FROM %s) THEN '
    'RAISE EXCEPTION USING ERRCODE = ''RO014'', MESSAGE = %L, HINT = %L; END IF; END', target,
    'rows of the destination were not deleted',
    'Look for a trigger or a rule on the destination that prevents it.'));
COMMENT ON FUNCTION roneo.empty_check(text) IS
    'A statement that raises RO014 where a table has rows: a trigger can keep them from being deleted, and they would stay beside the new ones.';

-- TRUNCATE shows an empty table to a session with an older snapshot, and COPY FREEZE fills it
-- again for that one. The SQL hand has no COPY; it deletes.
CREATE OR REPLACE FUNCTION roneo.clear_steps(r roneo.replica, m roneo.plain_replica, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target   text := format('%I.%I', r.dest_schema, r.dest_name);
    alone    text := (SELECT CASE c.relkind WHEN 'r' THEN 'ONLY ' END FROM pg_class AS c WHERE c.oid = r.dest);
    at_once  boolean := answer ->> 'hand' = 'runner' OR m.truncate_cascade;
    others   text := (SELECT string_agg(f.referrer::text, ', ') FROM roneo.referrers(r.dest) AS f);
    remove   roneo.step;
BEGIN
    RETURN NEXT roneo.dest_step(1, 'lock the table',
        format('LOCK TABLE %s%s IN %s MODE', alone, target,
               CASE WHEN at_once THEN 'ACCESS EXCLUSIVE' ELSE 'SHARE ROW EXCLUSIVE' END), true);
    IF at_once THEN
        RETURN NEXT roneo.dest_step(1, format(CASE WHEN others IS NULL THEN 'empty it' ELSE 'empty it, and with it %s' END, others),
            format('TRUNCATE TABLE %s%s%s', CASE WHEN m.truncate_cascade THEN NULL ELSE alone END, target,
                   CASE WHEN m.truncate_cascade THEN ' CASCADE' END));
    ELSE
        remove := roneo.dest_step(1, 'delete its rows', format('DELETE FROM %s%s', alone, target));
        remove.counts := 'deleted';
        RETURN NEXT remove;
        RETURN NEXT roneo.dest_step(1, 'see that it is empty', roneo.empty_check(concat(alone, target)));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.clear_steps(roneo.replica, roneo.plain_replica, jsonb) IS
    'Steps that empty the table: TRUNCATE for the runner, DELETE for the SQL hand.';

-- A rollback does not undo setval; but ALTER SEQUENCE gives the sequence a new file, which a
-- rollback takes away together with what was set in it. Only its owner can do that.
CREATE OR REPLACE FUNCTION roneo.sequence_steps(r roneo.replica, m roneo.plain_replica)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT (roneo.dest_step(4, format('set the sequence of column %I', u.column_name), format(
        '%sSELECT pg_catalog.setval(%L::pg_catalog.regclass, greatest(%s, least(%s, coalesce(%s, %s)))::pg_catalog.int8, '
        '%s IS NOT NULL) FROM %I.%I',
        CASE WHEN c.relowner = t.relowner THEN format('ALTER SEQUENCE %I.%I RESTART; ', n.nspname, c.relname) END,
        format('%I.%I', n.nspname, c.relname), s.seqmin, s.seqmax, x.last, s.seqstart, x.last,
        r.dest_schema, r.dest_name))).*
    FROM roneo.used_sequences(r.dest) AS u
    JOIN pg_sequence AS s ON s.seqrelid = u.sequence
    JOIN pg_class AS c ON c.oid = u.sequence
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_class AS t ON t.oid = r.dest
    CROSS JOIN LATERAL (SELECT format('pg_catalog.%s(%I)',
        CASE WHEN s.seqincrement > 0 THEN 'max' ELSE 'min' END, u.column_name)) AS x (last)
    WHERE m.sequences IS NULL
       OR u.sequence IN (SELECT to_regclass(w) FROM unnest(m.sequences) AS w)
    ORDER BY u.column_name;
END;
COMMENT ON FUNCTION roneo.sequence_steps(roneo.replica, roneo.plain_replica) IS
    'Steps that set the sequences of a table to its highest values.';

CREATE OR REPLACE FUNCTION roneo.finish_plain(ended roneo.ended[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(ended) AS e WHERE roneo.outcome_of(e.result) = 'deferred') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO016',
            MESSAGE = 'the table to be loaded is in use by other sessions',
            HINT    = 'The next refresh tries again. A snapshot does not disturb readers, and is not disturbed by them.';
    END IF;
    UPDATE roneo.plain_replica AS m
    SET columns = ARRAY(
        SELECT p.name
        FROM roneo.pair_columns(roneo.wanted_source_columns(r, e.answer),
                                roneo.local_relation(r.dest) -> 'columns') AS p
        ORDER BY p.position)
    FROM unnest(ended) AS e
    JOIN roneo.replica AS r ON r.replica_id = e.replica_id
    WHERE m.replica_id = r.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.finish_plain(roneo.ended[]) IS
    'Plain, phase four: which columns were copied. Raises RO016 where the table could not be locked.';

-- By its oid: another relation can have its old name.
CREATE OR REPLACE FUNCTION roneo.remove_plain(r roneo.replica, m roneo.plain_replica, keep_table boolean)
RETURNS TABLE (statement text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('DROP TABLE %I.%I', n.nspname, c.relname)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = r.dest AND NOT keep_table;
END;
COMMENT ON FUNCTION roneo.remove_plain(roneo.replica, roneo.plain_replica, boolean) IS
    'What is dropped with a plain replica: its table, unless it is kept.';
-- Putting rows that have arrived in a staging table: by key, and only where they differ.

CREATE OR REPLACE FUNCTION roneo.staging_name(r roneo.replica)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('roneo_arrived_%s', r.replica_id);
COMMENT ON FUNCTION roneo.staging_name(roneo.replica) IS 'The temporary table that the rows of a replica arrive in.';

CREATE OR REPLACE FUNCTION roneo.staging_step(r roneo.replica, columns name[])
RETURNS roneo.step LANGUAGE sql IMMUTABLE
RETURN roneo.dest_step(1, 'make a table for what arrives', format(
    'DROP TABLE IF EXISTS pg_temp.%1$I; CREATE TEMPORARY TABLE %1$I ON COMMIT DROP AS SELECT %2$s FROM ONLY %3$I.%4$I WITH NO DATA',
    roneo.staging_name(r), roneo.column_list(columns), r.dest_schema, r.dest_name));
COMMENT ON FUNCTION roneo.staging_step(roneo.replica, name[]) IS
    'A step that makes an empty temporary table with the columns that are copied; nothing is indexed, nothing analysed.';

CREATE OR REPLACE FUNCTION roneo.base_type(type_id oid)
RETURNS oid LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE base AS (
        SELECT t.oid, t.typtype, t.typbasetype FROM pg_type AS t WHERE t.oid = type_id
        UNION ALL
        SELECT t.oid, t.typtype, t.typbasetype FROM base AS b JOIN pg_type AS t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
    )
    SELECT b.oid FROM base AS b WHERE b.typtype <> 'd';
END;
COMMENT ON FUNCTION roneo.base_type(oid) IS 'What a domain, of a domain perhaps, is made of; other types are their own.';

CREATE OR REPLACE FUNCTION roneo.equality(type_id oid)
RETURNS text LANGUAGE sql STABLE
RETURN coalesce((
    SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
    FROM pg_opclass AS k
    JOIN pg_am AS m ON m.oid = k.opcmethod AND m.amname = 'btree'
    JOIN pg_amop AS a ON a.amopfamily = k.opcfamily AND a.amoplefttype = k.opcintype AND a.amoprighttype = k.opcintype
        AND a.amopstrategy = 3
    JOIN pg_operator AS o ON o.oid = a.amopopr
    JOIN pg_namespace AS n ON n.oid = o.oprnamespace
    -- By a subquery, once: else it is asked for each of these rows.
    WHERE k.opcdefault AND k.opcintype = (SELECT roneo.base_type(type_id))), 'OPERATOR(pg_catalog.=)');
COMMENT ON FUNCTION roneo.equality(oid) IS 'The operator by which an index finds values of a type, whatever the search_path.';

CREATE OR REPLACE FUNCTION roneo.same_key(target regclass, key_columns name[], one text, other text)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT string_agg(format('%1$s.%3$I %4$s %2$s.%3$I', one, other, k.name, roneo.equality(a.atttypid)), ' AND ' ORDER BY k.nr)
    FROM unnest(key_columns) WITH ORDINALITY AS k (name, nr)
    JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = k.name
);
COMMENT ON FUNCTION roneo.same_key(regclass, name[], text, text) IS 'True where two rows have the same key, as the key''s index sees it.';

-- IS DISTINCT FROM calls 1.0 and 1.00 the same, fails on json, and has no operator for some types;
-- *<> compares the images of the values.
CREATE OR REPLACE FUNCTION roneo.put_clause(key_columns name[], columns name[], settable name[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('ON CONFLICT (%s) DO %s', roneo.column_list(key_columns),
    CASE WHEN cardinality(settable) > 0 THEN format('UPDATE SET %s WHERE ROW(%s)::record OPERATOR(pg_catalog.*<>) ROW(%s)::record',
        (SELECT string_agg(format('%1$I = excluded.%1$I', k), ', ') FROM unnest(settable) AS k),
        (SELECT string_agg(format('kept.%I', k), ', ') FROM unnest(columns) AS k),
        (SELECT string_agg(format('excluded.%I', k), ', ') FROM unnest(columns) AS k))
    ELSE 'NOTHING' END);
COMMENT ON FUNCTION roneo.put_clause(name[], name[], name[]) IS
    'What an INSERT does with a row whose key is there: sets these columns where it differs, or leaves it.';

-- PostgreSQL lets nobody update an identity that is always generated.
CREATE OR REPLACE FUNCTION roneo.settable_columns(target regclass, columns name[])
RETURNS name[] LANGUAGE sql STABLE
RETURN ARRAY(
    SELECT c.name
    FROM unnest(columns) WITH ORDINALITY AS c (name, place)
    JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = c.name AND a.attidentity <> 'a'
    ORDER BY c.place
);
COMMENT ON FUNCTION roneo.settable_columns(regclass, name[]) IS 'Those of the columns that an UPDATE may set.';

-- A row that was inserted has no xmax. A partitioned table does not show it; there the keys are
-- counted that were not there before.
CREATE OR REPLACE FUNCTION roneo.put_statement(r roneo.replica, key_columns name[], insert_rows text, updates boolean)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT CASE WHEN c.relkind = 'p' AND updates THEN format($put$WITH put AS (
    %1$s
    RETURNING true
)
SELECT pg_catalog.jsonb_build_object('inserted', n.missing, 'updated', (SELECT pg_catalog.count(*) FROM put) - n.missing) AS counts
FROM (SELECT pg_catalog.count(*) AS missing FROM (SELECT DISTINCT %2$s FROM pg_temp.%3$I) AS arrived
      WHERE NOT EXISTS (SELECT FROM %4$I.%5$I AS kept WHERE %6$s)) AS n$put$,
            insert_rows, roneo.column_list(key_columns), roneo.staging_name(r), r.dest_schema, r.dest_name,
            roneo.same_key(r.dest, key_columns, 'kept', 'arrived'))
    ELSE format($put$WITH put AS (
    %1$s
    RETURNING %2$s AS is_new
)
SELECT pg_catalog.jsonb_build_object('inserted', pg_catalog.count(*) FILTER (WHERE is_new),
                                     'updated', pg_catalog.count(*) FILTER (WHERE NOT is_new)) AS counts FROM put$put$,
            insert_rows, CASE WHEN updates THEN '(kept.xmax = 0)' ELSE 'true' END)
    END
    FROM pg_class AS c WHERE c.oid = r.dest
);
COMMENT ON FUNCTION roneo.put_statement(roneo.replica, name[], text, boolean) IS
    'An INSERT, wrapped to answer with how many rows it inserted and how many it updated.';

-- Rows that are updated are visited in the order of their key: in that of the control column each is
-- likely to be in another page of the index and of the table.
CREATE OR REPLACE FUNCTION roneo.put_step(
    r roneo.replica, key_columns name[], columns name[], settable name[], newest_by name)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN (
    SELECT ROW(4, 'dest', CASE WHEN settable IS NULL THEN 'insert what is new' ELSE 'insert what is new, update what differs' END,
        roneo.put_statement(r, key_columns, format(
            E'INSERT INTO %1$I.%2$I AS kept (%3$s) OVERRIDING SYSTEM VALUE\n    SELECT %4$s%3$s FROM pg_temp.%5$I%6$s\n    %7$s',
            r.dest_schema, r.dest_name, roneo.column_list(columns),
            format(CASE WHEN newest_by IS NOT NULL THEN 'DISTINCT ON (%s) ' END, roneo.column_list(key_columns)),
            roneo.staging_name(r),
            CASE WHEN newest_by IS NOT NULL OR settable IS NOT NULL
                 THEN concat(' ORDER BY ', roneo.column_list(key_columns), format(CASE WHEN newest_by IS NOT NULL THEN ', %I DESC NULLS LAST' END, newest_by)) END,
            roneo.put_clause(key_columns, columns, settable)), coalesce(cardinality(settable) > 0, false)),
        NULL, NULL, NULL, NULL, NULL, 'put', false)::roneo.step
);
COMMENT ON FUNCTION roneo.put_step(roneo.replica, name[], name[], name[], name) IS
    'The step that puts staged rows by key, and answers with how many were inserted and updated. settable: the columns that are set in a row that is there; NULL: it is left. newest_by: of several rows with one key the highest by this column counts.';

CREATE OR REPLACE FUNCTION roneo.same_keys(target regclass, key_columns name[], wanted jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN NOT EXISTS (
    SELECT
    FROM unnest(key_columns) AS k (name)
    LEFT JOIN roneo.pair_columns(wanted, roneo.local_relation(target) -> 'columns') AS p ON p.name = k.name
    LEFT JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = k.name
    LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
    WHERE p.source_type IS DISTINCT FROM p.dest_type OR p.dest_type IS NULL
       OR NOT coalesce(l.collisdeterministic, true)
);
COMMENT ON FUNCTION roneo.same_keys(regclass, name[], jsonb) IS
    'Whether rows whose keys differ on the source have other keys here too: of the same types, and no collation that calls different texts the same.';

-- Only an index tells without reading the table. A row of somebody else that comes in between
-- makes the COPY fail, and the next refresh sees it.
CREATE OR REPLACE FUNCTION roneo.has_rows(target regclass, above name, bound text)
RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found boolean;
BEGIN
    IF NOT has_table_privilege(target, 'SELECT') OR row_security_active(target) OR above IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = target AND i.indisvalid AND i.indpred IS NULL AND a.attname = above)
    THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s%s)', target, format(CASE WHEN above IS NOT NULL THEN ' WHERE %I > %s' END, above, bound))
    INTO found;
    RETURN found;
END;
$$;
COMMENT ON FUNCTION roneo.has_rows(regclass, name, text) IS
    'Whether a table has rows, or rows with a column above a bound; NULL where that cannot be told quickly.';

-- The counts do not tell: a row that was not put could have been there.
CREATE OR REPLACE FUNCTION roneo.swallowed_steps(r roneo.replica, key_columns name[])
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.*
    FROM roneo.dest_step(4, 'see that no trigger kept a row out', format('DO %L', format(
        'BEGIN IF EXISTS (SELECT FROM pg_temp.%I AS arrived WHERE NOT EXISTS (SELECT FROM %I.%I AS kept WHERE %s)) THEN '
        'RAISE EXCEPTION USING ERRCODE = ''RO014'', MESSAGE = ''rows that arrived are not in the destination'', '
        'HINT = ''Look for a trigger on the destination that swallows rows.''; END IF; END',
        roneo.staging_name(r), r.dest_schema, r.dest_name, roneo.same_key(r.dest, key_columns, 'kept', 'arrived')))) AS s
    -- Before each row, at INSERT or UPDATE.
    WHERE EXISTS (SELECT FROM pg_partition_tree(r.dest) AS p JOIN pg_trigger AS t ON t.tgrelid = p.relid
                  WHERE t.tgtype & 3 = 3 AND t.tgtype & 20 <> 0 AND t.tgenabled <> 'D')
       OR EXISTS (SELECT FROM pg_trigger AS t
                  WHERE t.tgrelid = r.dest AND t.tgtype & 3 = 3 AND t.tgtype & 20 <> 0 AND t.tgenabled <> 'D');
END;
COMMENT ON FUNCTION roneo.swallowed_steps(roneo.replica, name[]) IS
    'A step that raises RO014 where rows that arrived are not there afterwards; none for a table without a trigger that could do that.';
CREATE OR REPLACE FUNCTION roneo.capture_setup()
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $roneo_outer$
SELECT $roneo_setup$
-- What a source keeps for the methods dml and logdel: plain SQL, no extension. To be run by a
-- superuser, or by a role that may CREATE ROLE and CREATE in this database; running it again brings
-- an older one up to date. PostgreSQL 13 or later.
--
-- A capture is a table and its key. Triggers write the keys of changed rows, each with its
-- transaction, into one of three segments; destinations read what became visible between two of
-- their snapshots, and say how far they have got; what all of them have is emptied by TRUNCATE.

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;

DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'roneo_capture') THEN
        -- Another database of this cluster may be prepared at this moment.
        BEGIN
            CREATE ROLE roneo_capture NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
    IF NOT pg_catalog.pg_has_role(current_user, 'roneo_capture', 'USAGE') THEN
        EXECUTE pg_catalog.format('GRANT roneo_capture TO %I', current_user);
    END IF;
    IF pg_catalog.to_regnamespace('roneo_capture') IS NULL THEN
        CREATE SCHEMA roneo_capture AUTHORIZATION roneo_capture;
    END IF;
END;
$do$;

-- Everything below belongs to that role, which nobody can log in as.
SET LOCAL ROLE roneo_capture;
COMMENT ON SCHEMA roneo_capture IS 'Records which rows changed, for roneo.';

CREATE TABLE IF NOT EXISTS roneo_capture.capture (
    capture_id    integer     GENERATED ALWAYS AS IDENTITY,
    relation      oid         NOT NULL,
    relation_name text        NOT NULL,
    key_columns   name[]      NOT NULL,
    key_types     text[]      NOT NULL,
    image_columns name[]      NOT NULL DEFAULT '{}',
    image_types   text[]      NOT NULL DEFAULT '{}',
    row_level     boolean     NOT NULL,
    packs         boolean     NOT NULL,
    segment       integer     NOT NULL DEFAULT 0,
    queue_limit   bigint      NOT NULL DEFAULT 10737418240,
    state         text        NOT NULL DEFAULT 'running',
    state_since   timestamptz NOT NULL DEFAULT now(),
    awaited       text[],
    CONSTRAINT capture_pkey PRIMARY KEY (capture_id),
    CONSTRAINT capture_relation_key_columns_key UNIQUE (relation, key_columns),
    CONSTRAINT capture_segment_chk CHECK (segment BETWEEN 0 AND 2),
    CONSTRAINT capture_queue_limit_chk CHECK (queue_limit > 0),
    CONSTRAINT capture_state_chk CHECK (state IN ('running', 'paused', 'stopped', 'restarting'))
);
COMMENT ON TABLE roneo_capture.capture IS 'A table whose changes are recorded, by its key.';
COMMENT ON COLUMN roneo_capture.capture.image_columns IS
    'Columns whose last values are kept when a row is deleted, for logdel, in the queue as i1, i2 and so on; an empty name: one that is gone.';
COMMENT ON COLUMN roneo_capture.capture.row_level IS
    'Whether triggers fire for each row; else for each statement, which is blind for partitions, inheritance and logical replication.';
COMMENT ON COLUMN roneo_capture.capture.packs IS 'Whether many keys are written as arrays.';
COMMENT ON COLUMN roneo_capture.capture.segment IS 'The segment that is written now: table queue_ID_SEGMENT.';
COMMENT ON COLUMN roneo_capture.capture.queue_limit IS 'Bytes of all segments, above which nothing is recorded any more; the copies are then made anew.';
COMMENT ON COLUMN roneo_capture.capture.state IS
    'running; paused by a person; stopped by queue_limit; restarting: waiting for the transactions that may still record nothing.';

CREATE TABLE IF NOT EXISTS roneo_capture.consumer (
    consumer_id   uuid        NOT NULL,
    capture_id    integer     NOT NULL,
    role_name     name        NOT NULL,
    destination   text        NOT NULL,
    dest_identity text        NOT NULL,
    position      pg_snapshot NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    confirmed_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT consumer_pkey PRIMARY KEY (consumer_id),
    CONSTRAINT consumer_capture_id_fkey FOREIGN KEY (capture_id) REFERENCES roneo_capture.capture
);
COMMENT ON TABLE roneo_capture.consumer IS 'A copy that is fed from a capture, and how far it has got.';
COMMENT ON COLUMN roneo_capture.consumer.position IS 'It has everything that this snapshot sees; what it does not see is kept for it.';
COMMENT ON COLUMN roneo_capture.consumer.role_name IS 'The role that registered it, which may speak for it.';

-- With the schema qualified everywhere, operators included, and no SET: that would cost 7 us a call.
CREATE OR REPLACE FUNCTION roneo_capture.version()
RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 3';
COMMENT ON FUNCTION roneo_capture.version() IS 'Of what is installed here; a destination says which it needs.';

CREATE OR REPLACE FUNCTION roneo_capture.queue_name(capture_id integer, segment integer)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('roneo_capture.queue_%s_%s', capture_id, segment) $$;
COMMENT ON FUNCTION roneo_capture.queue_name(integer, integer) IS 'The table of a segment.';

-- By the clock: random() would use up numbers of the application's own sequence.
CREATE OR REPLACE FUNCTION roneo_capture.one_of_many()
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT $body$pg_catalog.interval_hash(pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '2020-01-01 00:00+00'::pg_catalog.timestamptz) OPERATOR(pg_catalog.<) '-2143289344'::pg_catalog.int4$body$
$$;
COMMENT ON FUNCTION roneo_capture.one_of_many() IS 'A condition that is true for about one call of a thousand, which looks at the size of the queue.';

CREATE OR REPLACE FUNCTION roneo_capture.look_at_size(c roneo_capture.capture, condition text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT format(E'\n    IF %s THEN\n        PERFORM roneo_capture.guard(%s);\n    END IF;',
              concat_ws(' OR ', condition, roneo_capture.one_of_many()), c.capture_id)
$$;
COMMENT ON FUNCTION roneo_capture.look_at_size(roneo_capture.capture, text) IS
    'What a trigger function does where the condition holds, and now and then.';

-- What is done to a column must never fail what the application writes. So the columns of a changed row are
-- named without their table, inside a query that offers the same names as NULLs of a type that no table has:
-- one that was renamed or dropped is found there. One that is not, or no more, of the type of its column in the
-- queue fits only the second of these two: where both fit, the first needs no cast of its last argument. That
-- is settled when a session plans the statement. Without a SET, so that nothing of these four is left in the plan.
CREATE OR REPLACE FUNCTION roneo_capture.kept(value anyelement, queued anyelement, choice integer)
RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT $1';
COMMENT ON FUNCTION roneo_capture.kept(anyelement, anyelement, integer) IS 'A column of a changed row.';

CREATE OR REPLACE FUNCTION roneo_capture.kept(value anyelement, queued anycompatible, choice bigint)
RETURNS anycompatible LANGUAGE sql IMMUTABLE AS 'SELECT $2';
COMMENT ON FUNCTION roneo_capture.kept(anyelement, anycompatible, bigint) IS
    'In the place of a column that is missing, or has another type: what the queue is given instead, a NULL.';

CREATE OR REPLACE FUNCTION roneo_capture.is_missing(value anyelement, queued anyelement, choice integer)
RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
COMMENT ON FUNCTION roneo_capture.is_missing(anyelement, anyelement, integer) IS 'A column that is there.';

CREATE OR REPLACE FUNCTION roneo_capture.is_missing(value anyelement, queued anycompatible, choice bigint)
RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
COMMENT ON FUNCTION roneo_capture.is_missing(anyelement, anycompatible, bigint) IS 'A column that was renamed or dropped, or given another type.';

-- Else a session goes on to read NEW and OLD as the table was when it planned, and fails at a column that has
-- another type since: nothing else in such a statement names the table. It is gone once that is planned.
CREATE OR REPLACE FUNCTION roneo_capture.names_table(c roneo_capture.capture)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('%L::pg_catalog.regclass IS NOT NULL', c.relation) $$;
COMMENT ON FUNCTION roneo_capture.names_table(roneo_capture.capture) IS
    'A condition that is always true, and has a statement planned anew when the table changes.';

-- A CASE of a column and NULL has the type under its domain, as the queue has; nothing is left of it either.
CREATE OR REPLACE FUNCTION roneo_capture.changed_rows(c roneo_capture.capture, rows_of text, with_images boolean)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('%s(SELECT %s) AS missing, LATERAL (SELECT %s OR NOT %s AS gone, %s FROM %s) AS x',
    format(CASE WHEN rows_of IN ('NEW', 'OLD') THEN '(SELECT (%s).*) AS r, ' END, rows_of),
    string_agg(DISTINCT format('NULL::roneo_capture.consumer AS %I', w.name), ', '),
    string_agg(format('roneo_capture.is_missing(%s)', w.found), ' OR '),
    roneo_capture.names_table(c),
    string_agg(format('roneo_capture.kept(%s) AS %s', w.found, w.queued), ', '),
    CASE WHEN rows_of IN ('NEW', 'OLD') THEN '(SELECT r.*) AS n' ELSE rows_of END)
FROM (
    SELECT n.name, n.queued, format('CASE WHEN true THEN %I END, (NULL::%s).%s, 1', n.name, roneo_capture.queue_name(c.capture_id, c.segment), n.queued)
    FROM (
        SELECT k.name, format('k%s', k.n) FROM unnest(c.key_columns) WITH ORDINALITY AS k (name, n)
        UNION ALL
        SELECT i.name, format('i%s', i.n) FROM unnest(c.image_columns) WITH ORDINALITY AS i (name, n)
        WHERE with_images AND i.name <> '') AS n (name, queued)) AS w (name, queued, found)
$$;
COMMENT ON FUNCTION roneo_capture.changed_rows(roneo_capture.capture, text, boolean) IS
    'Rows of newt or oldt, or the row NEW or OLD, for a FROM clause, as x: k1 and so on, i1 and so on, and gone where one of these columns is.';

CREATE OR REPLACE FUNCTION roneo_capture.queue_rows(c roneo_capture.capture, rows_of text, with_images boolean)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('INSERT INTO %s (xid, op, %s) SELECT pg_catalog.pg_current_xact_id(), CASE WHEN x.gone THEN ''r''%s END::pg_catalog."char", %s FROM %s',
    roneo_capture.queue_name(c.capture_id, c.segment),
    concat_ws(', ', CASE WHEN with_images THEN 'at' END, l.names),
    CASE WHEN with_images THEN ' ELSE ''d''' END,
    concat_ws(', ', CASE WHEN with_images THEN 'pg_catalog.clock_timestamp()' END, l.found),
    roneo_capture.changed_rows(c, rows_of, with_images))
FROM (
    SELECT string_agg(w.name, ', ') AS names, string_agg(concat('x.', w.name), ', ') AS found
    FROM (
        SELECT format('k%s', n) FROM generate_series(1, cardinality(c.key_columns)) AS n
        UNION ALL
        SELECT format('i%s', i.n) FROM unnest(c.image_columns) WITH ORDINALITY AS i (name, n)
        WHERE with_images AND i.name <> '') AS w (name)) AS l
$$;
COMMENT ON FUNCTION roneo_capture.queue_rows(roneo_capture.capture, text, boolean) IS
    'An INSERT of changed rows into the queue, as deletions with their last values or by their keys alone; where a column is gone, as marks that have all copies compared.';

-- The first 64 keys of a statement are rows, the others arrays of about 500. The transaction id is
-- asked for only where a row is written: a statement that changes nothing must not burn one. For one
-- row each IF counts, so that there is only one.
CREATE OR REPLACE FUNCTION roneo_capture.statement_body(c roneo_capture.capture, rows_of text)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE
    WHEN rows_of = 'oldt' AND c.image_columns <> '{}' THEN
        roneo_capture.queue_rows(c, rows_of, true) || E';\n    GET DIAGNOSTICS n = ROW_COUNT;'
        || roneo_capture.look_at_size(c, 'n OPERATOR(pg_catalog.>=) 64')
    WHEN NOT c.packs THEN
        roneo_capture.queue_rows(c, rows_of, false) || E';\n    GET DIAGNOSTICS n = ROW_COUNT;'
        || roneo_capture.look_at_size(c, 'n OPERATOR(pg_catalog.>=) 64')
    ELSE format($body$%1$s LIMIT 64;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n OPERATOR(pg_catalog.=) 64 OR %2$s THEN
        INSERT INTO %3$s (xid, %4$s)
        SELECT pg_catalog.pg_current_xact_id(), %5$s
        FROM (SELECT %6$s, pg_catalog.row_number() OVER () OPERATOR(pg_catalog./) 500 AS part FROM %7$s OFFSET 64) AS rest
        GROUP BY part;
        PERFORM roneo_capture.guard(%8$s);
    END IF;$body$, roneo_capture.queue_rows(c, rows_of, false), roneo_capture.one_of_many(),
        roneo_capture.queue_name(c.capture_id, c.segment), l.ps, l.packed, l.ks,
        roneo_capture.changed_rows(c, rows_of, false), c.capture_id) END
FROM (SELECT string_agg(format('p%s', n), ', ' ORDER BY n) AS ps,
             string_agg(format('x.k%s', n), ', ' ORDER BY n) AS ks,
             string_agg(format('pg_catalog.array_agg(rest.k%s)', n), ', ' ORDER BY n) AS packed
      FROM generate_series(1, cardinality(c.key_columns)) AS n) AS l
$$;
COMMENT ON FUNCTION roneo_capture.statement_body(roneo_capture.capture, text) IS
    'What a statement trigger does with its transition table newt or oldt.';

CREATE OR REPLACE FUNCTION roneo_capture.row_body(c roneo_capture.capture, of_row text)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT roneo_capture.queue_rows(c, of_row, of_row = 'OLD' AND c.image_columns <> '{}')
$$;
COMMENT ON FUNCTION roneo_capture.row_body(roneo_capture.capture, text) IS 'What a row trigger does with NEW or OLD.';

-- A WHEN of the trigger would be read anew by each statement. The old key is looked at once the new one was
-- found: an IF offers no other names. It is said only once: (OLD).id is found by its place when that was
-- planned, where OLD.id is looked up again, under a name that may be another one since.
CREATE OR REPLACE FUNCTION roneo_capture.changed_body(c roneo_capture.capture)
RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format($body$%1$s WHERE NOT x.gone;
    IF NOT FOUND THEN
        INSERT INTO %2$s (xid, op) VALUES (pg_catalog.pg_current_xact_id(), 'r');
    ELSIF NOT (%3$s) OR %5$s THEN
        IF NOT (%3$s) THEN
            %4$s;
        ELSE
            PERFORM roneo_capture.guard(%6$s);
        END IF;
    END IF;$body$, roneo_capture.row_body(c, 'NEW'), roneo_capture.queue_name(c.capture_id, c.segment),
        concat_ws(' AND ', roneo_capture.same_key(c, '(OLD)', '(NEW)'), roneo_capture.names_table(c)), roneo_capture.row_body(c, 'OLD'), roneo_capture.one_of_many(), c.capture_id);
END;
$$;
COMMENT ON FUNCTION roneo_capture.changed_body(roneo_capture.capture) IS 'What a row trigger does with an updated row: its old key too, where that is another one.';

-- The segment is a literal: to look it up would cost 3 to 5 us a statement. A session that still
-- runs the text from before a rotation does no harm: nothing is emptied unless all have read it.
CREATE OR REPLACE FUNCTION roneo_capture.write_functions(c roneo_capture.capture)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT w.kind, w.body
        FROM (VALUES
            ('new',     roneo_capture.statement_body(c, 'newt')),
            ('old',     roneo_capture.statement_body(c, 'oldt')),
            ('row_new', roneo_capture.row_body(c, 'NEW') || ';' || roneo_capture.look_at_size(c, NULL)),
            ('row_old', roneo_capture.row_body(c, 'OLD') || ';' || roneo_capture.look_at_size(c, NULL)),
            ('row_changed', roneo_capture.changed_body(c)),
            ('truncate', format('INSERT INTO %s (xid, op) VALUES (pg_catalog.pg_current_xact_id(), CASE WHEN TG_RELID OPERATOR(pg_catalog.=) %s THEN ''t'' ELSE ''r'' END);',
                                roneo_capture.queue_name(c.capture_id, c.segment), c.relation))) AS w (kind, body)
    LOOP
        EXECUTE format($function$CREATE OR REPLACE FUNCTION roneo_capture.%I()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$
#variable_conflict use_column
DECLARE
    n pg_catalog.int8;
BEGIN
    %s
    RETURN NULL;
END;
$body$ $function$, format('%s_%s', part.kind, c.capture_id),
            CASE WHEN c.state IN ('paused', 'stopped') THEN '-- Nothing is recorded.' ELSE part.body END);
        EXECUTE format('REVOKE ALL ON FUNCTION roneo_capture.%I() FROM PUBLIC', format('%s_%s', part.kind, c.capture_id));
        EXECUTE format('COMMENT ON FUNCTION roneo_capture.%I() IS %L', format('%s_%s', part.kind, c.capture_id),
                       format('Records what changes in %s.', c.relation_name));
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo_capture.write_functions(roneo_capture.capture) IS
    'Writes the trigger functions of a capture, for its segment and its state.';

CREATE OR REPLACE FUNCTION roneo_capture.lock_functions(id integer)
RETURNS boolean LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$ SELECT pg_try_advisory_xact_lock(1919905379, id) $$;
COMMENT ON FUNCTION roneo_capture.lock_functions(integer) IS
    'To be taken before functions are written: two sessions that replace one function wait for each other, or fail.';

-- Called by the triggers: whatever happens here must not fail the application's statement.
CREATE OR REPLACE FUNCTION roneo_capture.guard(id integer)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c roneo_capture.capture;
BEGIN
    SELECT k.* INTO c FROM roneo_capture.capture AS k WHERE k.capture_id = id;
    IF c.state = 'running' AND roneo_capture.queue_size(id) > c.queue_limit AND roneo_capture.lock_functions(id) THEN
        UPDATE roneo_capture.capture AS k SET state = 'stopped', state_since = clock_timestamp(), awaited = NULL
        WHERE k.capture_id IN (SELECT s.capture_id FROM roneo_capture.capture AS s WHERE s.capture_id = id FOR UPDATE SKIP LOCKED)
        RETURNING k.* INTO c;
        IF FOUND THEN
            PERFORM roneo_capture.write_functions(c);
        END IF;
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'roneo_capture: the queue of % could not be stopped: %', c.relation_name, SQLERRM;
END;
$$;
COMMENT ON FUNCTION roneo_capture.guard(integer) IS
    'Stops a capture whose queue has outgrown its limit, before it fills the disk; its copies are then made anew.';

CREATE OR REPLACE FUNCTION roneo_capture.queue_size(id integer)
RETURNS bigint LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(sum(pg_total_relation_size(to_regclass(roneo_capture.queue_name(id, s)))), 0)::bigint
FROM generate_series(0, 2) AS s
$$;
COMMENT ON FUNCTION roneo_capture.queue_size(integer) IS 'Bytes that the segments of a capture take.';

CREATE OR REPLACE FUNCTION roneo_capture.own_tables(relation oid)
RETURNS TABLE (relid oid, relkind "char", is_partition boolean, filenode oid) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH RECURSIVE tree AS (
    SELECT relation AS oid
    UNION
    SELECT i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
)
SELECT c.oid, c.relkind, c.relispartition, c.relfilenode
FROM tree AS t JOIN pg_class AS c ON c.oid = t.oid
$$;
COMMENT ON FUNCTION roneo_capture.own_tables(oid) IS 'A table and all its partitions or children.';

CREATE OR REPLACE FUNCTION roneo_capture.needs_rows(relation oid)
RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = relation AND c.relkind = 'p')
    OR EXISTS (SELECT FROM pg_inherits AS i WHERE relation IN (i.inhparent, i.inhrelid))
    OR EXISTS (SELECT FROM pg_subscription_rel AS s WHERE s.srrelid = relation)
$$;
COMMENT ON FUNCTION roneo_capture.needs_rows(oid) IS
    'Whether statement triggers would miss changes: partitions, inheritance, tables fed by logical replication.';

-- The queue holds what a domain is made of: where a column has no value, and where many keys are
-- packed, a NULL stands, which a domain may refuse.
CREATE OR REPLACE FUNCTION roneo_capture.base_type(type_id oid)
RETURNS oid LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH RECURSIVE base AS (
    SELECT t.oid, t.typtype, t.typbasetype FROM pg_type AS t WHERE t.oid = type_id
    UNION ALL
    SELECT t.oid, t.typtype, t.typbasetype FROM base AS b JOIN pg_type AS t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
)
SELECT b.oid FROM base AS b WHERE b.typtype <> 'd'
$$;
COMMENT ON FUNCTION roneo_capture.base_type(oid) IS 'What a domain, of a domain perhaps, is made of; other types are their own.';

CREATE OR REPLACE FUNCTION roneo_capture.column_types(relation oid, names name[])
RETURNS text[] LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT array_agg(format_type(roneo_capture.base_type(a.atttypid), -1) ORDER BY n.place)
FROM unnest(names) WITH ORDINALITY AS n (name, place)
LEFT JOIN pg_attribute AS a ON a.attrelid = relation AND a.attname = n.name AND a.attnum > 0 AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION roneo_capture.column_types(oid, name[]) IS
    'The types of columns, without their lengths and under their domains; NULL for one that is gone.';

-- Two keys that the table takes for one are one in the queue too.
CREATE OR REPLACE FUNCTION roneo_capture.collate_clause(relation oid, name name)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT format(' COLLATE %I.%I', n.nspname, l.collname)
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = roneo_capture.base_type(a.atttypid) AND t.typcollation <> a.attcollation
JOIN pg_collation AS l ON l.oid = a.attcollation
JOIN pg_namespace AS n ON n.oid = l.collnamespace
WHERE a.attrelid = relation AND a.attname = collate_clause.name
$$;
COMMENT ON FUNCTION roneo_capture.collate_clause(oid, name) IS 'The COLLATE of a column that has not that of its type; else NULL.';

-- An array of arrays would be unnested whole, and one of rows into their columns.
CREATE OR REPLACE FUNCTION roneo_capture.can_pack(relation oid, names name[])
RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT NOT EXISTS (
    SELECT FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = roneo_capture.base_type(a.atttypid)
    WHERE a.attrelid = relation AND a.attname = ANY (names) AND (t.typcategory = 'A' OR t.typtype = 'c' OR t.typarray = 0))
$$;
COMMENT ON FUNCTION roneo_capture.can_pack(oid, name[]) IS 'Whether values of columns can be written many at a time, as arrays.';

-- As the one who calls. The role of the queue makes columns of these types.
CREATE OR REPLACE FUNCTION roneo_capture.open_schemas(relation oid, names name[])
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    closed name;
BEGIN
    FOR closed IN
        SELECT DISTINCT n.nspname
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = roneo_capture.base_type(a.atttypid)
        LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
        JOIN pg_namespace AS n ON n.oid IN (t.typnamespace, l.collnamespace)
        WHERE a.attrelid = relation AND a.attname = ANY (names) AND NOT has_schema_privilege('roneo_capture', n.oid, 'USAGE')
    LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO roneo_capture', closed);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo_capture.open_schemas(oid, name[]) IS
    'Lets the role that owns the queues use the types and collations of columns.';

-- citext and its like are equal by an operator of their own, which no search_path need show.
CREATE OR REPLACE FUNCTION roneo_capture.equality(type_id oid)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce((
    SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
    FROM pg_opclass AS k
    JOIN pg_am AS m ON m.oid = k.opcmethod AND m.amname = 'btree'
    JOIN pg_amop AS a ON a.amopfamily = k.opcfamily AND a.amoplefttype = k.opcintype AND a.amoprighttype = k.opcintype
        AND a.amopstrategy = 3
    JOIN pg_operator AS o ON o.oid = a.amopopr
    JOIN pg_namespace AS n ON n.oid = o.oprnamespace
    -- By a subquery, once: else it is asked for each of these rows.
    WHERE k.opcdefault AND k.opcintype = (SELECT roneo_capture.base_type(type_id))), 'OPERATOR(pg_catalog.=)')
$$;
COMMENT ON FUNCTION roneo_capture.equality(oid) IS 'The operator by which an index finds values of a type.';

-- Not by comparing images of records: pg_dump cannot write that down again, and pg_upgrade uses it.
CREATE OR REPLACE FUNCTION roneo_capture.same_key(c roneo_capture.capture, one text, other text)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT string_agg(format('%1$s.%3$I %4$s %2$s.%3$I', one, other, k.name, roneo_capture.equality(a.atttypid)), ' AND ' ORDER BY k.n)
FROM unnest(c.key_columns) WITH ORDINALITY AS k (name, n)
LEFT JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attname = k.name
$$;
COMMENT ON FUNCTION roneo_capture.same_key(roneo_capture.capture, text, text) IS 'A condition on two rows: their key is the same.';

CREATE OR REPLACE FUNCTION roneo_capture.key_changed(c roneo_capture.capture)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('NOT (%s)', roneo_capture.same_key(c, 'OLD', 'NEW')) $$;
COMMENT ON FUNCTION roneo_capture.key_changed(roneo_capture.capture) IS
    'A condition on OLD and NEW: the key is another one.';

CREATE OR REPLACE FUNCTION roneo_capture.images_left(c roneo_capture.capture)
RETURNS name[] LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(array_agg(CASE WHEN roneo_capture.column_types(c.relation, ARRAY[i.name]) = ARRAY[i.type] THEN i.name ELSE '' END ORDER BY i.n), '{}')
FROM unnest(c.image_columns, c.image_types) WITH ORDINALITY AS i (name, type, n)
$$;
COMMENT ON FUNCTION roneo_capture.images_left(roneo_capture.capture) IS
    'The columns of which last values are kept, with an empty name for each that is gone or of another type.';

CREATE OR REPLACE FUNCTION roneo_capture.make_segments(c roneo_capture.capture)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queue text;
BEGIN
    FOR segment IN 0 .. 2 LOOP
        queue := roneo_capture.queue_name(c.capture_id, segment);
        EXECUTE format('CREATE TABLE IF NOT EXISTS %s (xid xid8 NOT NULL, op "char", at timestamptz, %s)', queue, (
            SELECT string_agg(concat(format('k%s %s%s', t.n, t.type, l.clause),
                                     CASE WHEN c.packs THEN format(', p%s %s[]%s', t.n, t.type, l.clause) END), ', ' ORDER BY t.n)
            FROM unnest(c.key_types, c.key_columns) WITH ORDINALITY AS t (type, name, n)
            CROSS JOIN LATERAL roneo_capture.collate_clause(c.relation, t.name) AS l (clause)));
        FOR place IN 1 .. cardinality(c.image_types) LOOP
            EXECUTE format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS i%s %s', queue, place, c.image_types[place]);
        END LOOP;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo_capture.make_segments(roneo_capture.capture) IS
    'Makes the three tables of a queue, or adds to them what is missing.';

-- Of the images only what the role may read in the table itself.
CREATE OR REPLACE FUNCTION roneo_capture.open_queue(c roneo_capture.capture, reader name)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    columns text := concat_ws(', ', 'xid', 'op', 'at',
        (SELECT string_agg(concat_ws(', ', format('k%s', n), format(CASE WHEN c.packs THEN 'p%s' END, n)), ', ' ORDER BY n)
         FROM generate_series(1, cardinality(c.key_columns)) AS n),
        (SELECT string_agg(format('i%s', i.n), ', ' ORDER BY i.n)
         FROM unnest(c.image_columns) WITH ORDINALITY AS i (name, n)
         JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attname = i.name
         WHERE has_column_privilege(reader, c.relation, a.attnum, 'SELECT')));
BEGIN
    FOR segment IN 0 .. 2 LOOP
        EXECUTE format('GRANT SELECT (%s) ON %s TO %I', columns, roneo_capture.queue_name(c.capture_id, segment), reader);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo_capture.open_queue(roneo_capture.capture, name) IS 'Lets a role read the queue of a capture.';

CREATE OR REPLACE FUNCTION roneo_capture.retype(c roneo_capture.capture, types text[])
RETURNS roneo_capture.capture LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queues text := (SELECT string_agg(roneo_capture.queue_name(c.capture_id, s), ', ') FROM generate_series(0, 2) AS s);
    reader name;
BEGIN
    EXECUTE format('DROP TABLE IF EXISTS %s', queues);
    UPDATE roneo_capture.capture AS k SET
        key_types = types, packs = roneo_capture.can_pack(k.relation, k.key_columns)
    WHERE k.capture_id = c.capture_id RETURNING k.* INTO c;
    PERFORM roneo_capture.make_segments(c);
    FOR reader IN SELECT DISTINCT u.role_name FROM roneo_capture.consumer AS u WHERE u.capture_id = c.capture_id LOOP
        PERFORM roneo_capture.open_queue(c, reader);
    END LOOP;
    EXECUTE format('INSERT INTO %s (xid, op) VALUES (pg_current_xact_id(), ''r'')', roneo_capture.queue_name(c.capture_id, c.segment));
    RETURN c;
END;
$$;
COMMENT ON FUNCTION roneo_capture.retype(roneo_capture.capture, text[]) IS
    'Makes the queue anew for a key whose columns have other types; all its copies are to be made anew.';

CREATE OR REPLACE FUNCTION roneo_capture.prepare(
    of_table regclass, key_columns name[], image_columns name[] DEFAULT '{}', row_level boolean DEFAULT false)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c     roneo_capture.capture;
    types text[] := roneo_capture.column_types(of_table, key_columns);
    owner name := (SELECT pg_get_userbyid(k.relowner) FROM pg_class AS k WHERE k.oid = of_table);
    added name[];
BEGIN
    IF NOT pg_has_role(session_user, owner, 'MEMBER') AND NOT has_table_privilege(session_user, of_table, 'TRIGGER') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('role %I may make no triggers on %s', session_user, of_table);
    END IF;
    IF array_position(types, NULL) IS NOT NULL OR cardinality(types) IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('%s has not all of the key columns %s', of_table, key_columns);
    END IF;
    INSERT INTO roneo_capture.capture (relation, relation_name, key_columns, key_types, row_level, packs)
    SELECT of_table, format('%I.%I', n.nspname, k.relname), prepare.key_columns, types,
           prepare.row_level OR roneo_capture.needs_rows(of_table),
           roneo_capture.can_pack(of_table, prepare.key_columns)
    FROM pg_class AS k JOIN pg_namespace AS n ON n.oid = k.relnamespace
    WHERE k.oid = of_table
    ON CONFLICT ON CONSTRAINT capture_relation_key_columns_key DO NOTHING;
    SELECT k.* INTO STRICT c FROM roneo_capture.capture AS k
    WHERE k.relation = prepare.of_table AND k.key_columns = prepare.key_columns
    FOR UPDATE;
    PERFORM pg_advisory_xact_lock(1919905379, c.capture_id);
    IF c.key_types <> types THEN
        c := roneo_capture.retype(c, types);
    END IF;
    c.image_columns := roneo_capture.images_left(c);
    IF NOT c.image_columns @> prepare.image_columns THEN
        added := ARRAY(SELECT i FROM unnest(prepare.image_columns) AS i WHERE i <> ALL (c.image_columns));
        c.image_columns := c.image_columns || added;
        c.image_types := c.image_types || roneo_capture.column_types(of_table, added);
    END IF;
    UPDATE roneo_capture.capture AS k SET
        image_columns = c.image_columns, image_types = c.image_types,
        row_level = k.row_level OR roneo_capture.needs_rows(of_table)
    WHERE k.capture_id = c.capture_id
    RETURNING k.* INTO c;
    PERFORM roneo_capture.make_segments(c);
    PERFORM roneo_capture.write_functions(c);
    EXECUTE format('GRANT EXECUTE ON FUNCTION roneo_capture.new_%1$s(), roneo_capture.old_%1$s(), roneo_capture.row_new_%1$s(), roneo_capture.row_old_%1$s(), roneo_capture.row_changed_%1$s(), roneo_capture.truncate_%1$s() TO %2$I, %3$I',
                   c.capture_id, session_user, owner);
    RETURN c.capture_id;
END;
$$;
COMMENT ON FUNCTION roneo_capture.prepare(regclass, name[], name[], boolean) IS
    'Makes the queue and the trigger functions of a capture, or adds columns to what is kept of deleted rows; returns its number. The triggers are made by attach.';

CREATE OR REPLACE FUNCTION roneo_capture.wanted_triggers(c roneo_capture.capture)
RETURNS TABLE (relid oid, name name, definition text, inherited boolean) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT t.relid, w.name,
       format(w.definition, format('roneo_capture_%s_%s', c.capture_id, w.kind), t.relid::regclass, c.capture_id, changed.condition),
       t.is_partition AND t.relid <> c.relation
FROM roneo_capture.own_tables(c.relation) AS t
CROSS JOIN roneo_capture.key_changed(c) AS changed (condition)
CROSS JOIN LATERAL (
    SELECT v.kind, format('roneo_capture_%s_%s', c.capture_id, v.kind)::name AS name, v.definition
    FROM (VALUES
        (false, 'insert', 'CREATE TRIGGER %I AFTER INSERT ON %s REFERENCING NEW TABLE AS newt FOR EACH STATEMENT EXECUTE FUNCTION roneo_capture.new_%s()'),
        (false, 'update', 'CREATE TRIGGER %I AFTER UPDATE ON %s REFERENCING NEW TABLE AS newt FOR EACH STATEMENT EXECUTE FUNCTION roneo_capture.new_%s()'),
        (false, 'delete', 'CREATE TRIGGER %I AFTER DELETE ON %s REFERENCING OLD TABLE AS oldt FOR EACH STATEMENT EXECUTE FUNCTION roneo_capture.old_%s()'),
        (true,  'add',    'CREATE TRIGGER %I AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION roneo_capture.row_new_%s()'),
        (true,  'change', 'CREATE TRIGGER %I AFTER UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION roneo_capture.row_changed_%s()'),
        (true,  'remove', 'CREATE TRIGGER %I AFTER DELETE ON %s FOR EACH ROW EXECUTE FUNCTION roneo_capture.row_old_%s()'),
        (false, 'key',    'CREATE TRIGGER %I AFTER UPDATE ON %s FOR EACH ROW WHEN (%4$s) EXECUTE FUNCTION roneo_capture.row_old_%3$s()'),
        (NULL,  'truncate', 'CREATE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION roneo_capture.truncate_%s()')
    ) AS v (rows, kind, definition)
    WHERE coalesce(v.rows = c.row_level, true)
      AND (t.relkind IN ('r', 'p'))
      -- A partition gets its row triggers from its root.
      AND (v.kind = 'truncate' OR NOT t.is_partition OR t.relid = c.relation)) AS w
$$;
COMMENT ON FUNCTION roneo_capture.wanted_triggers(roneo_capture.capture) IS
    'The triggers of a capture that have to be made; partitions get those for rows from their root.';

-- As the one who calls: a trigger is made by who has the TRIGGER privilege, and said to fire always
-- by the owner of the table. CREATE TRIGGER waits for all writers: what comes after it is recorded.
CREATE OR REPLACE FUNCTION roneo_capture.attach(id integer)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c      roneo_capture.capture;
    wanted record;
    stale  record;
BEGIN
    SELECT k.* INTO STRICT c FROM roneo_capture.capture AS k WHERE k.capture_id = id;
    FOR stale IN
        SELECT g.tgname, g.tgrelid FROM pg_trigger AS g
        WHERE g.tgname LIKE format('roneo\_capture\_%s\_%%', id) AND g.tgparentid = 0
          AND g.tgrelid IN (SELECT t.relid FROM roneo_capture.own_tables(c.relation) AS t)
          AND NOT EXISTS (SELECT FROM roneo_capture.wanted_triggers(c) AS w WHERE (w.relid, w.name) = (g.tgrelid, g.tgname))
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', stale.tgname, stale.tgrelid::regclass);
    END LOOP;
    FOR wanted IN
        SELECT w.*, g.oid AS found, g.tgenabled
        FROM roneo_capture.wanted_triggers(c) AS w
        LEFT JOIN pg_trigger AS g ON g.tgrelid = w.relid AND g.tgname = w.name
        ORDER BY w.inherited, w.relid, w.name
    LOOP
        IF wanted.found IS NULL THEN
            EXECUTE wanted.definition;
        END IF;
        IF wanted.tgenabled IS DISTINCT FROM 'A' THEN
            EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', wanted.relid::regclass, wanted.name);
        END IF;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo_capture.attach(integer) IS
    'Makes the triggers of a capture, as the owner of the table, those that are missing or were disabled.';

CREATE OR REPLACE FUNCTION roneo_capture.capture_table(
    of_table regclass, key_columns name[], image_columns name[] DEFAULT '{}', row_level boolean DEFAULT false)
RETURNS integer LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id integer;
BEGIN
    PERFORM roneo_capture.open_schemas(of_table, key_columns || image_columns);
    id := roneo_capture.prepare(of_table, key_columns, image_columns, row_level);
    PERFORM roneo_capture.attach(id);
    RETURN id;
END;
$$;
COMMENT ON FUNCTION roneo_capture.capture_table(regclass, name[], name[], boolean) IS
    'Begins to record the changes of a table, or brings its capture up to date; returns its number.';

CREATE OR REPLACE FUNCTION roneo_capture.allow(role_name name)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queue text;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA roneo_capture TO %I', role_name);
    EXECUTE format('GRANT SELECT ON roneo_capture.capture, roneo_capture.consumer TO %I', role_name);
    EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA roneo_capture TO %I', role_name);
END;
$$;
COMMENT ON FUNCTION roneo_capture.allow(name) IS
    'Lets a role capture the tables that it owns, and feed copies from the captures of tables that it may read.';

CREATE OR REPLACE FUNCTION roneo_capture.problem(c roneo_capture.capture)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(
    CASE WHEN NOT EXISTS (SELECT FROM pg_class AS k WHERE k.oid = c.relation) THEN 'its table was dropped'
         WHEN roneo_capture.column_types(c.relation, c.key_columns) IS DISTINCT FROM c.key_types
             THEN format('the key columns %s were renamed, dropped or changed', array_to_string(c.key_columns, ', '))
         WHEN roneo_capture.images_left(c) <> c.image_columns
             THEN format('columns whose last values are kept were renamed, dropped or changed: %s', (
                      SELECT string_agg(i, ', ') FROM unnest(c.image_columns) AS i WHERE i <> ALL (roneo_capture.images_left(c))))
         WHEN EXISTS (SELECT FROM roneo_capture.own_tables(c.relation) AS t WHERE t.relkind = 'f')
             THEN 'one of its partitions is a foreign table, whose rows can change where no trigger of ours is'
         WHEN NOT c.row_level AND roneo_capture.needs_rows(c.relation)
             THEN 'the table has become part of a tree, or is fed by logical replication: row triggers are needed' END,
    (SELECT format('trigger %s on %s %s', w.name, w.relid::regclass,
                   CASE WHEN g.oid IS NULL THEN 'is missing' ELSE 'is disabled, or does not fire always' END)
     FROM roneo_capture.wanted_triggers(c) AS w
     LEFT JOIN pg_trigger AS g ON g.tgrelid = w.relid AND g.tgname = w.name
         AND g.tgfoid IN (SELECT f.oid FROM pg_proc AS f WHERE f.pronamespace = 'roneo_capture'::regnamespace)
     -- A new partition has no trigger for TRUNCATE yet; its file tells.
     WHERE (g.oid IS NULL AND NOT w.inherited) OR g.tgenabled <> 'A'
     ORDER BY w.relid, w.name LIMIT 1),
    (SELECT format('trigger %s on %s is disabled, or does not fire always', g.tgname, g.tgrelid::regclass)
     FROM roneo_capture.own_tables(c.relation) AS t
     JOIN pg_trigger AS g ON g.tgrelid = t.relid
     WHERE g.tgname LIKE format('roneo\_capture\_%s\_%%', c.capture_id) AND g.tgenabled <> 'A'
     ORDER BY g.tgrelid, g.tgname LIMIT 1))
$$;
COMMENT ON FUNCTION roneo_capture.problem(roneo_capture.capture) IS
    'Why a capture would miss changes of its table, now; NULL where it does not.';

-- What is no problem can still be better: the file of a partition without a trigger for TRUNCATE is
-- watched, and VACUUM FULL changes it too.
CREATE OR REPLACE FUNCTION roneo_capture.can_complete(c roneo_capture.capture)
RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (
    SELECT FROM roneo_capture.wanted_triggers(c) AS w
    JOIN pg_class AS k ON k.oid = w.relid AND pg_has_role(k.relowner, 'MEMBER')
    WHERE NOT EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = w.relid AND g.tgname = w.name))
$$;
COMMENT ON FUNCTION roneo_capture.can_complete(roneo_capture.capture) IS
    'Whether a capture lacks triggers that this role can make.';

-- ALTER TABLE can give a column other values, and no trigger fires: it writes the row of the column
-- in the catalog, and the table to another file.
CREATE OR REPLACE FUNCTION roneo_capture.column_prints(relation oid)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT jsonb_object_agg(a.attname, jsonb_build_object('number', a.attnum, 'by', concat_ws(' ', a.xmin, d.xmin)))
FROM pg_attribute AS a
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated <> ''
WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION roneo_capture.column_prints(oid) IS
    'The columns of a table with their numbers, and the transactions that last wrote them in the catalog.';

-- The transaction that last wrote a trigger's row in the catalog: whoever disabled it and enabled
-- it again has left a trace.
CREATE OR REPLACE FUNCTION roneo_capture.describe(id integer)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT jsonb_build_object(
    'capture_id', c.capture_id, 'relation', c.relation, 'name', c.relation_name, 'state', c.state, 'since', c.state_since,
    'key_columns', to_jsonb(c.key_columns), 'image_columns', to_jsonb(c.image_columns), 'packs', c.packs,
    'problem', roneo_capture.problem(c),
    'equality', (SELECT jsonb_agg(roneo_capture.equality(a.atttypid) ORDER BY k.n)
                 FROM unnest(c.key_columns) WITH ORDINALITY AS k (name, n)
                 LEFT JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attname = k.name),
    'rows', (SELECT k.reltuples FROM pg_class AS k WHERE k.oid = c.relation),
    'tables', (SELECT jsonb_object_agg(t.relid, jsonb_build_object(
                   'name', t.relid::regclass::text, 'file', CASE WHEN t.relkind = 'r' THEN t.filenode END,
                   'sees_truncate', coalesce(g.sees_truncate, false), 'triggers', g.print,
                   'columns', CASE WHEN t.relid = c.relation THEN roneo_capture.column_prints(t.relid) END,
                   'bounds', CASE WHEN t.is_partition AND t.relid <> c.relation THEN pg_get_partition_constraintdef(t.relid) END))
               FROM roneo_capture.own_tables(c.relation) AS t
               LEFT JOIN LATERAL (
                   SELECT jsonb_object_agg(r.tgname, concat_ws(' ', r.oid, r.tgfoid, r.tgenabled, r.xmin)) AS print,
                          bool_or(r.tgname LIKE '%\_truncate') AS sees_truncate
                   FROM pg_trigger AS r
                   WHERE r.tgrelid = t.relid AND r.tgname LIKE format('roneo\_capture\_%s\_%%', id)) AS g ON true))
FROM roneo_capture.capture AS c
WHERE c.capture_id = id
$$;
COMMENT ON FUNCTION roneo_capture.describe(integer) IS
    'What a refresh looks at before it believes a capture: its state, what is wrong with it, and each of its tables with its file and a print of each of its triggers.';

CREATE OR REPLACE FUNCTION roneo_capture.require_own(id uuid)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner name := (SELECT u.role_name FROM roneo_capture.consumer AS u WHERE u.consumer_id = id);
BEGIN
    IF owner IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_roles AS o, pg_roles AS me
        WHERE o.rolname = owner AND me.rolname = session_user
          AND (me.rolsuper OR pg_has_role(me.oid, o.oid, 'MEMBER') OR pg_has_role(me.oid, 'roneo_capture', 'MEMBER'))) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('consumer %s was registered by role %I', id, owner),
            HINT = format('roneo.resync registers the copy for role %I; or GRANT %I TO %I.', session_user, owner, session_user);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo_capture.require_own(uuid) IS 'Raises an error for the consumer of another role.';

CREATE OR REPLACE FUNCTION roneo_capture.require_party(id integer)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM roneo_capture.capture AS c
        LEFT JOIN pg_class AS k ON k.oid = c.relation
        LEFT JOIN roneo_capture.consumer AS u ON u.capture_id = c.capture_id
        WHERE c.capture_id = id
          AND (pg_has_role(session_user, 'roneo_capture', 'MEMBER') OR pg_has_role(session_user, k.relowner, 'MEMBER')
               OR u.role_name = session_user)) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('capture %s is not of a table of role %I, nor does it feed a copy of that role', id, session_user);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo_capture.require_party(integer) IS
    'Raises an error for who neither owns the captured table nor feeds a copy from it.';

CREATE OR REPLACE FUNCTION roneo_capture.register(id integer, destination text, dest_identity text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made   roneo_capture.consumer;
    c      roneo_capture.capture;
    -- Before the position: a partition that comes in between is new.
    tables jsonb := roneo_capture.describe(id) -> 'tables';
BEGIN
    SELECT k.* INTO STRICT c FROM roneo_capture.capture AS k WHERE k.capture_id = id FOR UPDATE;
    IF EXISTS (SELECT FROM unnest(c.key_columns) AS k WHERE NOT has_column_privilege(session_user, c.relation, k, 'SELECT')) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('role %I may not read the key of %s', session_user, c.relation_name);
    END IF;
    INSERT INTO roneo_capture.consumer (consumer_id, capture_id, role_name, destination, dest_identity, position)
    VALUES (gen_random_uuid(), id, session_user, register.destination, register.dest_identity, pg_current_snapshot())
    RETURNING * INTO made;
    PERFORM roneo_capture.open_queue(c, session_user);
    RETURN jsonb_build_object('consumer_id', made.consumer_id, 'position', made.position::text, 'packs', c.packs, 'tables', tables);
END;
$$;
COMMENT ON FUNCTION roneo_capture.register(integer, text, text) IS
    'A new copy that is to be fed. From this moment all changes are kept for it.';

CREATE OR REPLACE FUNCTION roneo_capture.expire(id uuid, dest_identity text DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo_capture.require_own(id);
    DELETE FROM roneo_capture.consumer AS u
    WHERE u.consumer_id = id AND (expire.dest_identity IS NULL OR u.dest_identity = expire.dest_identity);
    RETURN FOUND;
END;
$$;
COMMENT ON FUNCTION roneo_capture.expire(uuid, text) IS
    'Forgets a copy: nothing is kept for it any more. Should it come back, it is made anew. dest_identity: only if it is the copy of that database.';

CREATE OR REPLACE FUNCTION roneo_capture.readdress(id uuid, dest_identity text, destination text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo_capture.require_own(id);
    UPDATE roneo_capture.consumer AS u SET dest_identity = readdress.dest_identity, destination = readdress.destination
    WHERE u.consumer_id = id;
    RETURN FOUND;
END;
$$;
COMMENT ON FUNCTION roneo_capture.readdress(uuid, text, text) IS 'A copy has moved to another database, or another cluster.';

-- Functions first: dropping one drops its triggers, whoever owns the table.
CREATE OR REPLACE FUNCTION roneo_capture.remove(id integer)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $$
DECLARE
    kind text;
BEGIN
    IF NOT EXISTS (SELECT FROM roneo_capture.capture AS k WHERE k.capture_id = id) THEN
        RETURN false;
    END IF;
    PERFORM FROM roneo_capture.capture AS k WHERE k.capture_id = id FOR UPDATE;
    IF NOT FOUND OR EXISTS (SELECT FROM roneo_capture.consumer AS u WHERE u.capture_id = id) THEN
        RETURN false;
    END IF;
    FOREACH kind IN ARRAY ARRAY['new', 'old', 'row_new', 'row_old', 'row_changed', 'truncate'] LOOP
        EXECUTE format('DROP FUNCTION IF EXISTS roneo_capture.%I() CASCADE', format('%s_%s', kind, id));
    END LOOP;
    FOR segment IN 0 .. 2 LOOP
        EXECUTE format('DROP TABLE IF EXISTS %s', roneo_capture.queue_name(id, segment));
    END LOOP;
    DELETE FROM roneo_capture.capture AS k WHERE k.capture_id = id;
    RETURN true;
END;
$$;
COMMENT ON FUNCTION roneo_capture.remove(integer) IS
    'Ends a capture that feeds no copy: triggers, functions and queue are dropped. False where one is still fed. Waits two seconds for locks.';

-- A single copy reads all that is there. Where one of several lags, the others must not read its
-- backlog again and again; and the index costs each single-row change a microsecond.
CREATE OR REPLACE FUNCTION roneo_capture.index_segment(id integer, segment integer)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queue text := roneo_capture.queue_name(id, segment);
    name  text := format('queue_%s_%s_xid_idx', id, segment);
    is_shared boolean := (SELECT count(*) FROM roneo_capture.consumer AS u WHERE u.capture_id = id) > 1;
BEGIN
    IF is_shared = (to_regclass(format('roneo_capture.%I', name)) IS NOT NULL) THEN
        RETURN;
    END IF;
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', queue);
    EXECUTE format(CASE WHEN is_shared THEN 'CREATE INDEX %I ON %s (xid)' ELSE 'DROP INDEX roneo_capture.%I' END, name, queue);
EXCEPTION WHEN lock_not_available THEN
    -- The next time it is looked at.
    NULL;
END;
$$;
COMMENT ON FUNCTION roneo_capture.index_segment(integer, integer) IS
    'Gives an empty segment the index that several copies need, or takes it away, if nobody is using it.';

-- What is to be emptied is checked under the lock, so that a row that came meanwhile is never lost.
CREATE OR REPLACE FUNCTION roneo_capture.empty_segment(id integer, segment integer)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queue text := roneo_capture.queue_name(id, segment);
    found boolean;
BEGIN
    IF pg_relation_size(to_regclass(queue)) = 0 THEN
        PERFORM roneo_capture.index_segment(id, segment);
        RETURN true;
    END IF;
    -- Without the lock first: a copy that lags must not make others wait at each look.
    FOR attempt IN 1 .. 2 LOOP
        EXECUTE format($check$SELECT EXISTS (
            SELECT FROM roneo_capture.consumer AS u, %s AS q
            WHERE u.capture_id = %s AND q.xid >= pg_snapshot_xmin(u.position) AND NOT pg_visible_in_snapshot(q.xid, u.position))$check$,
            queue, id) INTO found;
        IF found THEN
            RETURN false;
        ELSIF attempt = 1 THEN
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', queue);
        END IF;
    END LOOP;
    EXECUTE format('TRUNCATE %s', queue);
    PERFORM roneo_capture.index_segment(id, segment);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END;
$$;
COMMENT ON FUNCTION roneo_capture.empty_segment(integer, integer) IS
    'Empties a segment that all copies have read, if nobody is using it; tells whether it is empty.';

CREATE OR REPLACE FUNCTION roneo_capture.rotate(id integer, at_size bigint DEFAULT 1048576)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c       roneo_capture.capture;
    is_free boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING ERRCODE = 'active_sql_transaction', MESSAGE = 'a queue is rotated in READ COMMITTED only';
    END IF;
    SELECT k.* INTO c FROM roneo_capture.capture AS k WHERE k.capture_id = id AND k.state = 'running';
    IF NOT FOUND
       OR (SELECT max(pg_relation_size(to_regclass(roneo_capture.queue_name(id, s)))) FROM generate_series(0, 2) AS s) < at_size
       OR NOT roneo_capture.lock_functions(id) THEN
        RETURN false;
    END IF;
    SELECT k.* INTO c FROM roneo_capture.capture AS k WHERE k.capture_id = id AND k.state = 'running' FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM roneo_capture.empty_segment(id, (c.segment + 2) % 3);
    is_free := roneo_capture.empty_segment(id, (c.segment + 1) % 3)
        AND pg_relation_size(to_regclass(roneo_capture.queue_name(id, c.segment))) >= at_size;
    IF is_free THEN
        c.segment := (c.segment + 1) % 3;
        UPDATE roneo_capture.capture AS k SET segment = c.segment WHERE k.capture_id = id;
        PERFORM roneo_capture.write_functions(c);
    END IF;
    RETURN is_free;
END;
$$;
COMMENT ON FUNCTION roneo_capture.rotate(integer, bigint) IS
    'Once a segment has grown to that size in bytes, empties those that are not written, where all copies have read them; and if it is the one that is written, writes to the next. Tells whether it did that.';

-- Writers that came from before the stop may still hold a segment; nobody must wait behind us.
CREATE OR REPLACE FUNCTION roneo_capture.discard(id integer)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queues text := (SELECT string_agg(roneo_capture.queue_name(id, s), ', ') FROM generate_series(0, 2) AS s);
BEGIN
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', queues);
    EXECUTE format('TRUNCATE %s', queues);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END;
$$;
COMMENT ON FUNCTION roneo_capture.discard(integer) IS 'Empties a queue whose copies are to be made anew; false while it is in use.';

-- A transaction that is prepared has another name from then on: while one of those that are awaited
-- has gone, each prepared one may be it.
CREATE OR REPLACE FUNCTION roneo_capture.still_awaited(awaited text[], writers text[])
RETURNS text[] LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN awaited IS NULL THEN writers ELSE ARRAY(
    SELECT w FROM unnest(writers) AS w
    WHERE w = ANY (awaited)
       OR w LIKE '-1/%' AND EXISTS (SELECT FROM unnest(awaited) AS a WHERE a NOT LIKE '-1/%' AND a <> ALL (writers))) END
$$;
COMMENT ON FUNCTION roneo_capture.still_awaited(text[], text[]) IS
    'Of transactions that are awaited those that still write, by their virtual numbers; NULL: all that write now.';

-- A capture that recorded nothing for a while starts again when the last transaction that may still
-- run the empty functions has ended; then all copies are told to be made anew.
CREATE OR REPLACE FUNCTION roneo_capture.restart(id integer)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c       roneo_capture.capture;
    writers text[];
BEGIN
    SELECT k.* INTO c FROM roneo_capture.capture AS k WHERE k.capture_id = id FOR UPDATE;
    IF c.state = 'stopped' AND roneo_capture.lock_functions(id) AND roneo_capture.discard(id) THEN
        UPDATE roneo_capture.capture AS k SET state = 'restarting', state_since = clock_timestamp(), awaited = NULL
        WHERE k.capture_id = id RETURNING k.* INTO c;
        PERFORM roneo_capture.write_functions(c);
    ELSIF c.state = 'restarting' THEN
        SELECT coalesce(array_agg(DISTINCT l.virtualtransaction), '{}') INTO writers
        FROM pg_locks AS l
        WHERE l.locktype = 'relation' AND l.granted AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
          AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
          AND l.relation IN (SELECT t.relid FROM roneo_capture.own_tables(c.relation) AS t);
        c.awaited := roneo_capture.still_awaited(c.awaited, writers);
        c.state := CASE WHEN c.awaited = '{}' THEN 'running' ELSE 'restarting' END;
        IF c.state = 'running' THEN
            EXECUTE format('INSERT INTO %s (xid, op) VALUES (pg_current_xact_id(), ''r'')', roneo_capture.queue_name(id, c.segment));
        END IF;
        UPDATE roneo_capture.capture AS k SET state = c.state, awaited = nullif(c.awaited, '{}') WHERE k.capture_id = id;
    END IF;
    RETURN c.state;
END;
$$;
COMMENT ON FUNCTION roneo_capture.restart(integer) IS
    'Brings a capture that was stopped one step nearer to running, and returns its state. It takes two calls, and the end of the transactions that wrote meanwhile.';

-- Who was refused is refused the next time as well: nothing is written but for a copy that is known.
CREATE OR REPLACE FUNCTION roneo_capture.attend(id uuid, dest_identity text, told text, told_before text DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    u    roneo_capture.consumer;
    have pg_snapshot := told::pg_snapshot;
    fate text;
BEGIN
    PERFORM roneo_capture.require_own(id);
    SELECT k.* INTO u FROM roneo_capture.consumer AS k WHERE k.consumer_id = id;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('fate', 'expired', 'position', told);
    END IF;
    fate := CASE
        WHEN u.dest_identity <> attend.dest_identity THEN 'stranger'
        WHEN pg_snapshot_xmax(have) > pg_snapshot_xmax(pg_current_snapshot()) THEN 'ahead'
        -- A transaction that it had is open for it again.
        WHEN pg_snapshot_xmax(have) < pg_snapshot_xmax(u.position)
             OR EXISTS (SELECT FROM pg_snapshot_xip(have) AS x WHERE pg_visible_in_snapshot(x, u.position)) THEN 'behind'
        WHEN u.position::text NOT IN (told, told_before) THEN 'forgetful'
        ELSE 'known' END;
    IF fate = 'known' THEN
        -- Now and then also where nothing changes: who looks for copies that are gone sees when they last came.
        IF have IS NULL OR have::text <> u.position::text OR u.confirmed_at < now() - interval '1 hour' THEN
            -- One that is to be made anew needs nothing from before now.
            UPDATE roneo_capture.consumer AS k SET position = coalesce(have, pg_current_snapshot()), confirmed_at = now()
            WHERE k.consumer_id = id;
        END IF;
        PERFORM roneo_capture.restart(u.capture_id)
        FROM roneo_capture.capture AS k WHERE k.capture_id = u.capture_id AND k.state IN ('stopped', 'restarting');
        PERFORM roneo_capture.rotate(u.capture_id);
    END IF;
    RETURN jsonb_build_object('fate', fate, 'confirmed', u.position::text, 'position', told, 'destination', u.destination,
        'segment', (SELECT k.segment FROM roneo_capture.capture AS k WHERE k.capture_id = u.capture_id));
END;
$$;
COMMENT ON FUNCTION roneo_capture.attend(uuid, text, text, text) IS
    'Called by a refresh before its snapshot: a copy says how far it has got (NULL: it is to be made anew), and hears whether that can be. expired: it was forgotten; stranger: another destination has its number; ahead or behind: source or destination were set back; forgetful: the source knows neither this nor what it was told_before, and so was set back and has gone on since.';

CREATE OR REPLACE FUNCTION roneo_capture.pause(id integer)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c roneo_capture.capture;
BEGIN
    PERFORM roneo_capture.require_party(id);
    PERFORM pg_advisory_xact_lock(1919905379, id);
    UPDATE roneo_capture.capture AS k SET state = 'paused', state_since = clock_timestamp(), awaited = NULL
    WHERE k.capture_id = id RETURNING k.* INTO STRICT c;
    PERFORM roneo_capture.write_functions(c);
END;
$$;
COMMENT ON FUNCTION roneo_capture.pause(integer) IS
    'Records nothing until resume, so that a change of most rows costs nothing; the copies are then made anew.';

CREATE OR REPLACE FUNCTION roneo_capture.resume(id integer)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo_capture.require_party(id);
    UPDATE roneo_capture.capture AS k SET state = 'stopped', state_since = clock_timestamp()
    WHERE k.capture_id = id AND k.state = 'paused';
    PERFORM roneo_capture.restart(id);
END;
$$;
COMMENT ON FUNCTION roneo_capture.resume(integer) IS 'Ends a pause; the next refresh of each copy makes it anew.';

CREATE OR REPLACE FUNCTION roneo_capture.set_limit(id integer, bytes bigint)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo_capture.require_party(id);
    UPDATE roneo_capture.capture AS k SET queue_limit = bytes WHERE k.capture_id = id;
END;
$$;
COMMENT ON FUNCTION roneo_capture.set_limit(integer, bigint) IS 'How many bytes the queue of a capture may take.';

CREATE OR REPLACE FUNCTION roneo_capture.mark(id integer)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo_capture.require_party(id);
    EXECUTE format('INSERT INTO %s (xid, op) VALUES (pg_current_xact_id(), ''r'')',
        roneo_capture.queue_name(id, (SELECT k.segment FROM roneo_capture.capture AS k WHERE k.capture_id = id)));
END;
$$;
COMMENT ON FUNCTION roneo_capture.mark(integer) IS 'Tells all copies of a capture to be made anew.';

CREATE OR REPLACE FUNCTION roneo_capture.forget(id integer, transaction_id xid8)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone  bigint;
    total bigint := 0;
BEGIN
    PERFORM roneo_capture.require_party(id);
    FOR segment IN 0 .. 2 LOOP
        EXECUTE format('DELETE FROM %s WHERE xid = $1', roneo_capture.queue_name(id, segment)) USING transaction_id;
        GET DIAGNOSTICS gone = ROW_COUNT;
        total := total + gone;
    END LOOP;
    RETURN total;
END;
$$;
COMMENT ON FUNCTION roneo_capture.forget(integer, xid8) IS
    'Takes what one transaction changed out of the queue: no copy will get it. Returns the rows of the queue that went.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA roneo_capture FROM PUBLIC;

-- What an older version wrote for the captures that are here.
DO $do$
DECLARE
    c roneo_capture.capture;
BEGIN
    FOR c IN SELECT k.* FROM roneo_capture.capture AS k ORDER BY k.capture_id LOOP
        PERFORM pg_catalog.pg_advisory_xact_lock(1919905379, c.capture_id);
        PERFORM roneo_capture.write_functions(c);
    END LOOP;
END;
$do$;
RESET ROLE;
COMMIT;
$roneo_setup$
$roneo_outer$;
COMMENT ON FUNCTION roneo.capture_setup() IS 'The script that prepares a source for captures: role and schema roneo_capture, and what they consist of.';
-- What is done on a source to capture the changes of a table: over a connection, or by a person who
-- runs what capture_script prints.

CREATE OR REPLACE FUNCTION roneo.dest_identity()
RETURNS text LANGUAGE sql STABLE
RETURN (SELECT format('%s/%s', c.system_identifier, d.oid)
        FROM pg_control_system() AS c, pg_database AS d WHERE d.datname = current_database());
COMMENT ON FUNCTION roneo.dest_identity() IS 'Which cluster and database this is, for a source to know its copies by.';

CREATE OR REPLACE FUNCTION roneo.dest_label(place_schema name, place_name name)
RETURNS text LANGUAGE sql STABLE
RETURN format('%I.%I of database %I%s', place_schema, place_name, current_database(),
              format(CASE WHEN inet_server_addr() IS NOT NULL THEN ' at %s:%s' END, host(inet_server_addr()), inet_server_port()));
COMMENT ON FUNCTION roneo.dest_label(name, name) IS 'What a person at the source is told of a copy.';

CREATE OR REPLACE FUNCTION roneo.capture_call(source_oid oid, key_columns name[], image_columns name[], row_level boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('SELECT roneo_capture.capture_table(%s::pg_catalog.regclass, %L, %L, %L)',
              source_oid, key_columns, image_columns, row_level);
COMMENT ON FUNCTION roneo.capture_call(oid, name[], name[], boolean) IS 'The statement on the source that makes a capture, or brings it up to date.';

CREATE OR REPLACE FUNCTION roneo.capture_found_query(source_oid oid, key_columns name[], image_columns name[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('SELECT c.capture_id FROM roneo_capture.capture AS c WHERE c.relation = %s AND c.key_columns = %L::pg_catalog.name[] '
              'AND c.image_columns @> %L::pg_catalog.name[] AND roneo_capture.problem(c) IS NULL AND NOT roneo_capture.can_complete(c)',
              source_oid, key_columns, image_columns);
COMMENT ON FUNCTION roneo.capture_found_query(oid, name[], name[]) IS 'A query on the source for a capture that is in order and will do; not one that this role can complete.';

CREATE OR REPLACE FUNCTION roneo.refuse_capture(source_name text, description jsonb, problem text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'RO024',
        MESSAGE = format('changes of source table %I.%I are not captured, and role %I may not change that',
                         description #>> '{relation,schema}', description #>> '{relation,name}', description ->> 'role'),
        DETAIL  = problem,
        HINT    = format('SELECT roneo.capture_script(%L, %L) prints what the owner of the table is to run on the source.',
                         source_name, format('%I.%I', description #>> '{relation,schema}', description #>> '{relation,name}'));
END;
$$;
COMMENT ON FUNCTION roneo.refuse_capture(text, jsonb, text) IS 'Raises RO024 where the role of the connection may not capture a table.';

CREATE OR REPLACE FUNCTION roneo.capture_version()
RETURNS integer LANGUAGE sql IMMUTABLE
RETURN 3;
COMMENT ON FUNCTION roneo.capture_version() IS 'Which roneo_capture.version() a source must have at least.';

CREATE OR REPLACE FUNCTION roneo.prepare_source(link text, source_name text, description jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    IF roneo.ask_link(link, 'SELECT pg_catalog.to_regclass(''roneo_capture.capture'') IS NOT NULL')::boolean
       AND roneo.ask_link(link, 'SELECT roneo_capture.version()')::integer >= roneo.capture_version() THEN
        RETURN;
    END IF;
    PERFORM roneo.tell_link(link, roneo.capture_setup());
    PERFORM roneo.ask_link(link, 'SELECT roneo_capture.allow(session_user)');
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR undefined_object THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    PERFORM roneo.tell_link(link, 'ROLLBACK');
    PERFORM roneo.refuse_capture(source_name, description, problem);
END;
$$;
COMMENT ON FUNCTION roneo.prepare_source(text, text, jsonb) IS
    'Makes schema roneo_capture on the source where it is missing, or older than this version needs; raises RO024 where that is not allowed.';

CREATE OR REPLACE FUNCTION roneo.ensure_capture(
    link text, source_name text, description jsonb, key_columns name[], image_columns name[], row_level boolean)
RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source_oid oid := (description #>> '{relation,oid}')::oid;
    id         text;
    problem    text;
BEGIN
    PERFORM roneo.prepare_source(link, source_name, description);
    BEGIN
        id := roneo.ask_link(link, roneo.capture_found_query(source_oid, key_columns, image_columns));
    EXCEPTION WHEN insufficient_privilege THEN
        GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
        PERFORM roneo.refuse_capture(source_name, description, problem);
    END;
    FOR attempt IN 1 .. roneo.setting('lock_attempts') LOOP
        EXIT WHEN id IS NOT NULL;
        BEGIN
            PERFORM roneo.tell_link(link, format('SET lock_timeout = ''%sms''', roneo.setting('lock_timeout_ms')));
            id := roneo.ask_link(link, roneo.capture_call(source_oid, key_columns, image_columns, row_level));
        EXCEPTION WHEN lock_not_available THEN
            -- Writers who queued up behind us go first.
            PERFORM pg_sleep(0.05 + 0.15 * random());
        WHEN insufficient_privilege THEN
            GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
            PERFORM roneo.refuse_capture(source_name, description, problem);
        END;
    END LOOP;
    IF id IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO016',
            MESSAGE = format('source table %I.%I is in use, its triggers could not be made',
                             description #>> '{relation,schema}', description #>> '{relation,name}'),
            HINT    = 'CREATE TRIGGER waits for open transactions that have written to it; try again when they have ended.';
    END IF;
    PERFORM roneo.tell_link(link, 'RESET lock_timeout');
    RETURN id;
END;
$$;
COMMENT ON FUNCTION roneo.ensure_capture(text, text, jsonb, name[], name[], boolean) IS
    'The number of a capture on the source, which is made or repaired where needed; raises RO024 or RO016.';

CREATE OR REPLACE FUNCTION roneo.register_query(capture_id integer, place_schema name, place_name name)
RETURNS text LANGUAGE sql STABLE
RETURN format('SELECT roneo_capture.register(%s, %L, %L)', capture_id, roneo.dest_label(place_schema, place_name), roneo.dest_identity());
COMMENT ON FUNCTION roneo.register_query(integer, name, name) IS 'The statement on the source that registers a copy, for which from then on everything is kept.';

CREATE OR REPLACE FUNCTION roneo.capture_script(
    source text,
    source_table text,
    key_columns text[] DEFAULT NULL,
    keeps_deleted boolean DEFAULT false,
    row_level boolean DEFAULT false)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    description jsonb := roneo.describe_source(source, source_table, NULL);
    wanted      text[] := coalesce(key_columns, roneo.natural_key(description, NULL)::text[]);
BEGIN
    PERFORM roneo.require_key(description, wanted);
    RETURN concat_ws(E'\n\n',
        format(E'-- Captures the changes of %I.%I for roneo. To be run on the source, with psql, by a superuser;\n'
               '-- or by the owner of the table, if that role may CREATE ROLE and CREATE in the database.',
               description #>> '{relation,schema}', description #>> '{relation,name}'),
        roneo.capture_setup(),
        format('SELECT roneo_capture.allow(%L);', description ->> 'role'),
        '-- CREATE TRIGGER waits for open transactions that have written to the table, and writers behind it.',
        'SET lock_timeout = ''2s''; SET client_min_messages = warning;',
        format('SELECT roneo_capture.capture_table(%L, %L, %L, %L);',
               format('%I.%I', description #>> '{relation,schema}', description #>> '{relation,name}'), wanted::name[],
               CASE WHEN keeps_deleted THEN roneo.column_names(description #> '{relation,columns}') ELSE '{}'::name[] END, row_level));
END;
$$;
COMMENT ON FUNCTION roneo.capture_script(text, text, text[], boolean, boolean) IS
    'What a person at the source can run where the role of the connection may make no triggers there: schema roneo_capture, the rights of that role, the capture. key_columns: the primary key by default. keeps_deleted: for logdel. row_level: row triggers.';
-- What create_inserter and create_updater have in common: reading their arguments, asking the source
-- about the control column, choosing the key, and the first position.

CREATE OR REPLACE FUNCTION roneo.control_column(description jsonb, control text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found jsonb;
BEGIN
    SELECT c.col INTO found
    FROM jsonb_array_elements(description #> '{relation,columns}') AS c (col)
    WHERE c.col ->> 'name' = control;
    IF found IS NULL OR roneo.control_class(found ->> 'type_base') IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = CASE
                WHEN control IS NULL THEN 'no control column is given'
                WHEN found IS NULL THEN format('source table %I.%I has no column %I', description #>> '{relation,schema}',
                                               description #>> '{relation,name}', control)
                ELSE format('column %I of type %s cannot be followed', control, found ->> 'type') END,
            HINT    = 'control => ''updated_at'' names a column whose values grow: a timestamp, a date, an integer, a numeric; a uuid or text that sorts by age.';
    END IF;
    RETURN found;
END;
$$;
COMMENT ON FUNCTION roneo.control_column(jsonb, text) IS
    'The control column out of a description; raises RO007 where there is none, or of a type without an order of age.';

CREATE OR REPLACE FUNCTION roneo.files_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$WITH RECURSIVE tree AS (
        SELECT (%s)::pg_catalog.oid AS oid
        UNION
        SELECT i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
    )
    SELECT coalesce(pg_catalog.jsonb_object_agg(p.oid, p.relfilenode::bigint), '{}')
    FROM tree AS t JOIN pg_catalog.pg_class AS p ON p.oid = t.oid
    WHERE p.relkind = 'r'$query$, relation);
COMMENT ON FUNCTION roneo.files_query(text) IS
    'SQL for the tables that rows of a table come from, with their files; the table is given as an expression of type oid.';

-- pg_sequences hides those of others; a cache too small to matter is the default of one.
CREATE OR REPLACE FUNCTION roneo.control_facts_query(description jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$SELECT pg_catalog.jsonb_build_object(
    'snapshot', pg_catalog.pg_current_snapshot()::text,
    'zone', pg_catalog.current_setting('TimeZone'),
    'cache', (SELECT pg_catalog.max(q.seqcache) FROM pg_catalog.pg_sequence AS q
              JOIN pg_catalog.pg_depend AS d ON d.objid = q.seqrelid AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = %1$s::pg_catalog.oid),
    'inherited', EXISTS (SELECT FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent
                         WHERE p.oid = %1$s::pg_catalog.oid AND p.relkind = 'r'),
    'leaves', (%3$s),
    'xmin', %2$s,
    'plain', NOT EXISTS (
        WITH RECURSIVE tree AS (
            SELECT %1$s::pg_catalog.oid AS oid
            UNION
            SELECT i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid)
        SELECT FROM tree AS t JOIN pg_catalog.pg_class AS p ON p.oid = t.oid WHERE p.relkind NOT IN ('r', 'p')))$query$,
    description #>> '{relation,oid}',
    CASE WHEN description #>> '{relation,kind}' IN ('r', 'p')
         THEN format('pg_catalog.has_column_privilege(%1$s::pg_catalog.oid, ''xmin'', ''SELECT'') AND '
                     '(pg_catalog.has_column_privilege(%1$s::pg_catalog.oid, ''tableoid'', ''SELECT'') OR NOT EXISTS ('
                     'SELECT FROM pg_catalog.pg_class AS p WHERE p.oid = %1$s::pg_catalog.oid AND (p.relkind = ''p'' OR p.relhassubclass)))',
                     description #>> '{relation,oid}')
         ELSE 'false' END,
    roneo.files_query(description #>> '{relation,oid}'));
COMMENT ON FUNCTION roneo.control_facts_query(jsonb) IS
    'A query on the source about the table of a control column: its leaves, and whether rows show their transaction.';

CREATE OR REPLACE FUNCTION roneo.control_values_query(description jsonb, control text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$SELECT pg_catalog.jsonb_build_object(
    'top', (SELECT x.%1$I::pg_catalog.text FROM %2$I.%3$I AS x WHERE x.%1$I IS NOT NULL ORDER BY x.%1$I DESC LIMIT 1),
    'nulls', EXISTS (SELECT FROM %2$I.%3$I AS x WHERE x.%1$I IS NULL))$query$,
    control, description #>> '{relation,schema}', description #>> '{relation,name}');
COMMENT ON FUNCTION roneo.control_values_query(jsonb, text) IS
    'A query on the source about the values of its control column: the highest one, and whether some are missing.';

CREATE OR REPLACE FUNCTION roneo.control_facts(source_name text, description jsonb, control text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    facts   jsonb;
    zone    text;
    problem text;
    link    text := roneo.open_link(source_name);
BEGIN
    zone := roneo.ask_link(link, 'SELECT pg_catalog.current_setting(''TimeZone'')');
    PERFORM roneo.tell_link(link, roneo.source_opening());
    facts := roneo.ask_link(link, roneo.control_facts_query(description))::jsonb;
    -- As the probe reads it: the functions of a view find their names there.
    IF description #>> '{relation,kind}' = 'v' THEN
        PERFORM roneo.ask_link(link, format('SELECT pg_catalog.set_config(''search_path'', %L, true)', description ->> 'path'));
    END IF;
    facts := facts || roneo.ask_link(link, roneo.control_values_query(description, control))::jsonb;
    PERFORM roneo.tell_link(link, 'ROLLBACK');
    PERFORM roneo.close_link(link);
    RETURN facts || jsonb_build_object('zone', zone);
EXCEPTION WHEN insufficient_privilege THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    PERFORM roneo.close_link(link);
    RAISE EXCEPTION USING
        ERRCODE = 'RO009',
        MESSAGE = format('column %I of source table %I.%I may not be read', control, description #>> '{relation,schema}',
                         description #>> '{relation,name}'),
        DETAIL  = problem,
        HINT    = format('On the source: GRANT SELECT ON TABLE %I.%I TO the role of the user mapping; or columns, and xmin (of a partitioned table tableoid too) with them.',
                         description #>> '{relation,schema}', description #>> '{relation,name}');
WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link(link);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.control_facts(text, jsonb, text) IS 'Asks a source about a control column, over dblink; raises RO009 where it may not be read.';

-- The primary key, else the unique index with the fewest columns, else the first by name.
CREATE OR REPLACE FUNCTION roneo.natural_key(description jsonb, columns text[])
RETURNS name[] LANGUAGE sql STABLE
RETURN (
    SELECT k.names
    FROM jsonb_array_elements(description -> 'indexes') AS i (index)
    CROSS JOIN LATERAL (
        SELECT array_agg((c.col ->> 'name')::name ORDER BY e.place) AS names, bool_and((c.col ->> 'not_null')::boolean) AS not_null
        FROM jsonb_array_elements(i.index -> 'keys') WITH ORDINALITY AS e (key, place)
        LEFT JOIN jsonb_array_elements(description #> '{relation,columns}') AS c (col)
            ON quote_ident(c.col ->> 'name') = e.key ->> 'text'
    ) AS k
    WHERE (i.index ->> 'unique')::boolean AND i.index ->> 'predicate' IS NULL
      AND array_position(k.names, NULL) IS NULL AND k.not_null
      AND (columns IS NULL OR k.names <@ columns::name[])
    ORDER BY (i.index ->> 'primary')::boolean DESC, cardinality(k.names), i.index ->> 'name'
    LIMIT 1
);
COMMENT ON FUNCTION roneo.natural_key(jsonb, text[]) IS
    'The key of a source table: unique, without NULLs, not partial, of plain columns that are copied; NULL for none.';

CREATE OR REPLACE FUNCTION roneo.has_arbiter(target regclass, key_columns name[], deleted_column name DEFAULT NULL)
RETURNS boolean LANGUAGE sql STABLE
RETURN EXISTS (
    SELECT FROM pg_index AS i
    WHERE i.indrelid = target AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indexprs IS NULL
      AND pg_get_expr(i.indpred, i.indrelid) IS NOT DISTINCT FROM format(CASE WHEN deleted_column IS NOT NULL THEN '(%I IS NULL)' END, deleted_column)
      AND (SELECT array_agg(a.attname ORDER BY a.attname)
           FROM pg_attribute AS a
           WHERE a.attrelid = target AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1]))
          = (SELECT array_agg(k ORDER BY k) FROM unnest(key_columns) AS k));
COMMENT ON FUNCTION roneo.has_arbiter(regclass, name[], name) IS
    'Whether a table here has a unique index on exactly these columns, by which rows can be put; with deleted_column one of the rows that are not deleted.';

CREATE OR REPLACE FUNCTION roneo.require_key(description jsonb, key_columns text[])
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    SELECT CASE WHEN c.col IS NULL THEN format('the source has no column %I', k)
                ELSE format('column %I can be NULL, and two rows with a NULL never match', k) END
    INTO problem
    FROM unnest(key_columns) AS k
    LEFT JOIN jsonb_array_elements(description #> '{relation,columns}') AS c (col) ON c.col ->> 'name' = k
    WHERE c.col IS NULL OR NOT (c.col ->> 'not_null')::boolean AND description #>> '{relation,kind}' NOT IN ('v', 'm', 'f')
    LIMIT 1;
    IF key_columns IS NULL OR problem IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = CASE WHEN problem IS NULL
                THEN format('source table %I.%I has no key', description #>> '{relation,schema}', description #>> '{relation,name}')
                ELSE format('the key cannot be used: %s', problem) END,
            DETAIL  = 'An updater finds the row to overwrite by its key: the primary key, or a unique index on columns that are NOT NULL.',
            HINT    = 'Give key_columns => ARRAY[…], columns that are NOT NULL and unique together; or use a snapshot.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_key(jsonb, text[]) IS 'Raises RO007 for a key that is missing, unknown, or can be NULL.';

CREATE OR REPLACE FUNCTION roneo.bad_argument(problem text, advice text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'RO007', MESSAGE = problem, HINT = advice;
END;
$$;
COMMENT ON FUNCTION roneo.bad_argument(text, text) IS 'Raises RO007.';

-- A person means a time in the zone of the session; 'today' is one day, however long a repull takes.
CREATE OR REPLACE FUNCTION roneo.settled_value(value text, control_type text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settled text;
BEGIN
    EXECUTE format('SELECT pg_catalog.to_jsonb(%L::%s) #>> ''{}''', value, control_type) INTO settled;
    RETURN settled;
END;
$$;
COMMENT ON FUNCTION roneo.settled_value(text, text) IS
    'A value that a person gave, in a form that does not depend on when and where it is read.';

CREATE OR REPLACE FUNCTION roneo.require_distance(argument text, value text, control_type text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_good boolean := false;
BEGIN
    BEGIN
        is_good := value IS NULL OR CASE roneo.control_class(control_type)
            WHEN 'time' THEN value::interval >= interval '0'
            WHEN 'serial' THEN value::numeric >= 0 AND value::numeric < 'Infinity'
            ELSE value::numeric = 0 END;
    EXCEPTION WHEN data_exception THEN
        -- Reported below.
        NULL;
    END;
    IF NOT is_good THEN
        PERFORM roneo.bad_argument(format('%s is %L, for a control column of type %s', argument, value, control_type),
            CASE roneo.control_class(control_type) WHEN 'time' THEN 'Give an interval such as ''10 minutes''.'
                 WHEN 'serial' THEN 'Give a number such as ''10000''.'
                 ELSE 'Values of this type have no distance: leave it out, late rows are looked for in the whole table.' END);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_distance(text, text, text) IS
    'Raises RO007 for a boundary or look_back that is no distance on that column.';

CREATE OR REPLACE FUNCTION roneo.require_control_arguments(c roneo.control_replica, facts jsonb, start_value text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.require_distance('boundary', c.boundary, c.control_type);
    PERFORM roneo.require_distance('look_back', c.look_back, c.control_type);
    IF c.batch_limit <= 0 THEN
        PERFORM roneo.bad_argument(format('batch_limit is %s', c.batch_limit), 'Give the number of rows that one transaction may read, or NULL.');
    ELSIF c.sweep_every < interval '0' THEN
        PERFORM roneo.bad_argument(format('sweep_every is %s', c.sweep_every), 'Give an interval; 0 sweeps at every refresh.');
    ELSIF c.sweep_every IS NOT NULL AND NOT roneo.follows_xmin(c) THEN
        PERFORM roneo.bad_argument('sweep_every is given, and rows do not show which transaction wrote them',
            'That takes a table, the right to read xmin, and a key or append_only => true.');
    ELSIF c.sweep_every > interval '0' AND c.key_columns IS NULL THEN
        -- Of older ones it is not known which of them the window has had.
        PERFORM roneo.bad_argument(format('sweep_every is %s, for a replica without a key', c.sweep_every),
            'Without a key a sweep finds only what was written since the last refresh: give 0, which sweeps at every refresh.');
    ELSIF c.blackout NOT IN ('auto', 'off', 'on') AND c.blackout !~ '^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$' THEN
        PERFORM roneo.bad_argument(format('blackout is %L', c.blackout), 'Give auto, off, on, or hours such as ''00:30-02:30''.');
    ELSIF c.null_control NOT IN ('refuse', 'read', 'ignore') THEN
        PERFORM roneo.bad_argument(format('null_control is %L', c.null_control), 'Give refuse, read or ignore.');
    ELSIF c.null_control = 'refuse' AND (facts ->> 'nulls')::boolean THEN
        PERFORM roneo.bad_argument(format('rows have no value in the control column %I', c.control),
            'Choose null_control => ''read'' (they are known by their transaction) or ''ignore''.');
    ELSIF c.null_control = 'read' AND NOT roneo.follows_xmin(c) THEN
        PERFORM roneo.bad_argument('null_control is read, and rows do not show which transaction wrote them',
            'That takes a table, the right to read xmin, and a key or append_only => true.');
    END IF;
    -- Not by the list of names: a server's own zone may be of another form, such as <+03>-03.
    BEGIN
        PERFORM now() AT TIME ZONE c.control_zone;
    EXCEPTION WHEN data_exception THEN
        PERFORM roneo.bad_argument(format('control_zone %L is no time zone', c.control_zone), 'pg_timezone_names lists them.');
    END;
    BEGIN
        PERFORM roneo.settled_value(start_value, c.control_type);
    EXCEPTION WHEN data_exception THEN
        PERFORM roneo.bad_argument(format('start_value %L is no value of type %s', start_value, c.control_type),
            'Rows above it are copied.');
    END;
END;
$$;
COMMENT ON FUNCTION roneo.require_control_arguments(roneo.control_replica, jsonb, text) IS
    'Raises RO007 for an argument of create_inserter or create_updater that cannot be.';

CREATE OR REPLACE FUNCTION roneo.with_defaults(c roneo.control_replica, facts jsonb)
RETURNS roneo.control_replica LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind text := roneo.control_class(c.control_type);
BEGIN
    c.boundary := coalesce(c.boundary, CASE
        WHEN roneo.follows_xmin(c) OR kind = 'order' THEN '0'
        WHEN kind = 'time' THEN '10 minutes'
        ELSE '10' END);
    -- Where values have no distance, each refresh looks for late rows in the whole table.
    c.look_back := coalesce(c.look_back, CASE kind
        WHEN 'time' THEN '10 minutes'
        WHEN 'serial' THEN greatest(10000, 10 * coalesce((facts ->> 'cache')::bigint, 1))::text END);
    c.blackout := coalesce(c.blackout, 'auto');
    c.null_control := coalesce(c.null_control, 'refuse');
    c.control_zone := coalesce(c.control_zone, facts ->> 'zone');
    RETURN c;
END;
$$;
COMMENT ON FUNCTION roneo.with_defaults(roneo.control_replica, jsonb) IS
    'Fills in what the caller of create_inserter or create_updater left open.';

CREATE OR REPLACE FUNCTION roneo.highest_here(target regclass, control name)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, YMD'
AS $$
DECLARE
    value text;
BEGIN
    -- Without x. the order would be that of the text.
    EXECUTE format('SELECT x.%1$I::text FROM %2$s AS x WHERE x.%1$I IS NOT NULL ORDER BY x.%1$I DESC LIMIT 1', control, target) INTO value;
    RETURN value;
END;
$$;
COMMENT ON FUNCTION roneo.highest_here(regclass, name) IS 'The highest value of a column of a table here, in the pinned form.';

-- Rows written since the snapshot of the facts are late ones, wherever they are; and so are those
-- of transactions open then, whose starts nobody knows.
CREATE OR REPLACE FUNCTION roneo.first_position(
    c roneo.control_replica, facts jsonb, target regclass, start_value text, adopted boolean, copy_data boolean)
RETURNS roneo.control_replica LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, YMD'
AS $$
BEGIN
    EXECUTE format('SELECT %L::%s::text', start_value, c.control_type) INTO c.last_value;
    c.last_value := coalesce(c.last_value,
        CASE WHEN adopted THEN roneo.highest_here(target, c.control) END,
        CASE WHEN NOT copy_data AND NOT adopted THEN facts ->> 'top' END);
    IF c.last_value IS NOT NULL THEN
        c.horizon := pg_snapshot_xmin((facts ->> 'snapshot')::pg_snapshot);
        c.leaves := facts -> 'leaves';
    END IF;
    RETURN c;
END;
$$;
COMMENT ON FUNCTION roneo.first_position(roneo.control_replica, jsonb, regclass, text, boolean, boolean) IS
    'Where a replica starts: at start_value; at the highest value of an adopted table; at the source''s highest where nothing is to be copied; else at the beginning.';

CREATE OR REPLACE FUNCTION roneo.require_control_here(
    target regclass, description jsonb, method text, key_columns name[], control name, start_value text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    control_here text;
    loose        name;
BEGIN
    SELECT c.col ->> 'type_base' INTO control_here
    FROM jsonb_array_elements(roneo.local_relation(target) -> 'columns') AS c (col) WHERE c.col ->> 'name' = control;
    IF control_here IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO015',
            MESSAGE = format('table %s has no column %I, the control column', target, control),
            HINT    = 'Add it, or name a dest that does not exist.';
    ELSIF start_value IS NULL AND control_here <> (roneo.control_column(description, control) ->> 'type_base')
          AND (roneo.control_class(control_here) = 'serial' AND roneo.control_class(
                   roneo.control_column(description, control) ->> 'type_base') = 'serial') IS NOT TRUE THEN
        PERFORM roneo.bad_argument(format('column %I of table %s is of type %s, and another one at the source', control, target, control_here),
            'So its highest value does not tell where to go on: give start_value.');
    END IF;
    -- An inserter sets nothing; a key has the same value on both sides.
    SELECT a.attname INTO loose FROM pg_attribute AS a
    WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = 'a' AND a.attname <> ALL (key_columns)
      AND a.attname = ANY (roneo.column_names(description #> '{relation,columns}'));
    IF FOUND AND method = 'updater' THEN
        PERFORM roneo.bad_argument(format('column %I of table %s is an identity that cannot be updated', loose, target),
            format('ALTER TABLE %s ALTER COLUMN %I SET GENERATED BY DEFAULT;', target, loose));
    END IF;
    SELECT a.attname INTO loose
    FROM jsonb_array_elements(description #> '{relation,columns}') AS c (col)
    JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = c.col ->> 'name' AND a.attnum > 0 AND NOT a.attnotnull
    WHERE a.attname = ANY (key_columns) AND NOT (c.col ->> 'not_null')::boolean;
    IF FOUND THEN
        PERFORM roneo.bad_argument(format('column %I of the key can be NULL on both sides', loose),
            format('Rows with a NULL would come again and again. ALTER TABLE %s ALTER COLUMN %I SET NOT NULL;', target, loose));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_control_here(regclass, jsonb, text, name[], name, text) IS
    'Raises RO015 or RO007 where an adopted table does not tell how far it has got, or would take rows without a key.';

CREATE OR REPLACE FUNCTION roneo.prepare_target(
    table_schema name, table_name name, description jsonb, method text, columns text[], wish roneo.control_replica,
    with_indexes boolean, start_value text, OUT target regclass, OUT adopted boolean)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key_column name;
BEGIN
    target := to_regclass(format('%I.%I', table_schema, table_name));
    adopted := target IS NOT NULL;
    IF adopted THEN
        PERFORM roneo.require_adoptable(target, roneo.described_columns(description, columns), columns);
        PERFORM roneo.require_control_here(target, description, method, wish.key_columns, wish.control, start_value);
    ELSE
        target := roneo.make_table(table_schema, table_name, description,
            roneo.described_columns(description, columns), with_indexes, true);
        IF wish.key_columns IS NOT NULL AND NOT roneo.has_arbiter(target, wish.key_columns) THEN
            EXECUTE format('CREATE UNIQUE INDEX ON %s (%s)', target, roneo.column_list(wish.key_columns));
        END IF;
        -- The columns of a view can be NULL, and such keys would match nothing.
        FOREACH key_column IN ARRAY coalesce(wish.key_columns, '{}') LOOP
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', target, key_column);
        END LOOP;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.prepare_target(name, name, jsonb, text, text[], roneo.control_replica, boolean, text) IS
    'Makes the table of a replica with a unique index on its key, or adopts the one that is there.';

CREATE OR REPLACE FUNCTION roneo.register_control(
    source text, source_table text, dest text, method text, columns text[], filter text, with_indexes boolean,
    copy_data boolean, refresh_every interval, wish roneo.control_replica, start_value text)
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    description jsonb := roneo.describe_source(source, source_table, filter);
    column_here jsonb := roneo.control_column(description, wish.control);
    facts       jsonb := roneo.control_facts(source, description, wish.control);
    natural_key name[] := roneo.natural_key(description, columns);
    described   jsonb;
    place       record;
    target      record;
    made        roneo.replica;
BEGIN
    SELECT * INTO place FROM roneo.require_dest_name(dest, description);
    PERFORM roneo.require_columns_exist(columns, description);
    described := jsonb_set(description, '{relation,columns}', roneo.described_columns(description, columns));
    PERFORM roneo.require_columns_exist(ARRAY[wish.control]::text[], described);
    PERFORM roneo.require_columns_exist(wish.key_columns::text[], described);
    IF method = 'updater' THEN
        wish.key_columns := coalesce(wish.key_columns, natural_key);
        PERFORM roneo.require_key(description, wish.key_columns::text[]);
    ELSIF NOT wish.append_only OR wish.key_columns IS NOT NULL THEN
        wish.key_columns := coalesce(wish.key_columns, natural_key);
    END IF;
    -- An index of a table says nothing about those that inherit from it.
    wish.key_is_unique := coalesce(wish.key_columns @> natural_key, false) AND NOT (facts ->> 'inherited')::boolean;
    -- As a type to cast to, character has one place.
    wish.control_type := CASE column_here ->> 'type_base' WHEN 'character' THEN 'bpchar' ELSE column_here ->> 'type_base' END;
    wish.reads_xmin := (facts ->> 'xmin')::boolean AND (facts ->> 'plain')::boolean;
    SELECT * INTO target FROM roneo.prepare_target(place.place_schema, place.place_name, description, method, columns, wish,
                                                   with_indexes, start_value);
    IF wish.key_columns IS NOT NULL AND NOT roneo.has_arbiter(target.target, wish.key_columns) THEN
        PERFORM roneo.bad_argument(format('%s has no unique index on (%s)', target.target, roneo.column_list(wish.key_columns)),
            format('CREATE UNIQUE INDEX ON %s (%s);', target.target, roneo.column_list(wish.key_columns)));
    END IF;
    wish := roneo.with_defaults(wish, facts);
    PERFORM roneo.require_control_arguments(wish, facts, start_value);
    wish := roneo.first_position(wish, facts, target.target, roneo.settled_value(start_value, wish.control_type),
                                 target.adopted, copy_data);
    made := roneo.new_replica(source, description, target.target, method, columns, filter, refresh_every);
    wish.replica_id := made.replica_id;
    wish.open_since := '{}';
    wish.repulling := false;
    wish.met_rows := false;
    INSERT INTO roneo.control_replica SELECT wish.*;
    IF copy_data THEN
        PERFORM roneo.refresh(made.dest, raise_errors => true);
    END IF;
    RETURN made.dest;
END;
$$;
COMMENT ON FUNCTION roneo.register_control(text, text, text, text, text[], text, boolean, boolean, interval, roneo.control_replica, text) IS
    'Registers an inserter or updater, whose own arguments are in wish.';
-- What an inserter or updater asks of its source.

CREATE OR REPLACE FUNCTION roneo.serial_top_query(r roneo.replica, c roneo.control_replica)
RETURNS text LANGUAGE sql STABLE
RETURN CASE roneo.control_class(c.control_type) WHEN 'serial'
    -- NaN and Infinity are no place to count from.
    THEN format('(SELECT pg_catalog.max(%I)::text FROM %s%s)', c.control, roneo.source_name_of(r),
                format(CASE c.control_type WHEN 'numeric' THEN ' WHERE %I %s ''1e1000''::pg_catalog.numeric' END,
                       c.control, roneo.own_operator(c, '<')))
    ELSE 'NULL::text' END;
COMMENT ON FUNCTION roneo.serial_top_query(roneo.replica, roneo.control_replica) IS
    'SQL for the highest number of the source''s control column; NULL for one that is no number.';

-- Clock, then open transactions, then the snapshot, in this order: with the snapshot first, a
-- transaction that ends in between would be seen by neither.
CREATE OR REPLACE FUNCTION roneo.control_before(r roneo.replica, c roneo.control_replica)
RETURNS text LANGUAGE sql STABLE
RETURN format($query$SELECT pg_catalog.jsonb_build_object('identity', %s, 'clock', t.clock, 'top', t.top, 'open', o.list, 'state', %s)
FROM (SELECT pg_catalog.clock_timestamp() AS clock, %s AS top OFFSET 0) AS t
CROSS JOIN LATERAL (
    SELECT pg_catalog.jsonb_agg(DISTINCT CASE l.locktype WHEN 'virtualxid' THEN l.virtualxid
                                         ELSE pg_catalog.concat('p/', l.transactionid) END)
    FROM pg_catalog.pg_locks AS l
    WHERE l.granted AND t.clock IS NOT NULL
      AND (l.locktype = 'virtualxid' AND l.pid <> pg_catalog.pg_backend_pid()
           OR l.locktype = 'transactionid' AND l.pid IS NULL)
    OFFSET 0) AS o (list)$query$,
    roneo.identity_query(),
    CASE WHEN r.source_kind IN ('r', 'p') THEN roneo.state_of(roneo.source_regclass(r)) ELSE 'NULL::text' END,
    -- A view is asked inside, under a search_path of its own; it shows no transactions to be in time for.
    CASE r.source_kind WHEN 'v' THEN 'NULL::text' ELSE roneo.serial_top_query(r, c) END);
COMMENT ON FUNCTION roneo.control_before(roneo.replica, roneo.control_replica) IS
    'The query before the snapshot: identity, the clock or the highest value, then the open transactions; and the state, which only has to be older than the snapshot.';

CREATE OR REPLACE FUNCTION roneo.control_leaves(r roneo.replica)
RETURNS text LANGUAGE sql STABLE
RETURN roneo.files_query(roneo.source_regclass(r));
COMMENT ON FUNCTION roneo.control_leaves(roneo.replica) IS 'SQL for the tables that rows come from, with their files.';

CREATE OR REPLACE FUNCTION roneo.upto_query(r roneo.replica, c roneo.control_replica, ready text)
RETURNS text LANGUAGE sql STABLE
RETURN format(
    'coalesce(%s(SELECT %2$I FROM %3$s WHERE %4$s ORDER BY %2$I DESC LIMIT 1))',
    format(CASE WHEN c.batch_limit IS NOT NULL THEN '(SELECT %1$I FROM %2$s WHERE %3$s ORDER BY %1$I OFFSET %4$s LIMIT 1), ' END,
           c.control, roneo.source_name_of(r), ready, c.batch_limit - 1),
    c.control, roneo.source_name_of(r), ready);
COMMENT ON FUNCTION roneo.upto_query(roneo.replica, roneo.control_replica, text) IS
    'SQL for the highest value that this round reads: all rows of one value or none, so that a limit cannot cut through ties, and always gets on.';

CREATE OR REPLACE FUNCTION roneo.exists_query(relation text, condition text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN coalesce(format(CASE WHEN condition IS NOT NULL THEN 'EXISTS (SELECT FROM %s WHERE %s)' END, relation, condition), 'false');
COMMENT ON FUNCTION roneo.exists_query(text, text) IS 'SQL that tells whether there is such a row; false without a condition.';

CREATE OR REPLACE FUNCTION roneo.rewritten_query(r roneo.replica, c roneo.control_replica, m text)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN c.leaves IS NULL OR c.last_value IS NULL OR NOT roneo.follows_xmin(c) OR c.horizon IS NULL THEN 'false'
    -- Inside of CASE the rows are looked at only where a file is another one; as a condition of the
    -- join PostgreSQL would look at them first, in the whole table.
    ELSE format($query$coalesce((SELECT pg_catalog.bool_or(CASE WHEN roneo_then.value <> roneo_now.value
                THEN EXISTS (SELECT FROM %2$s WHERE %3$s%4$I <= %5$s AND %6$s)
                     AND NOT EXISTS (SELECT FROM %2$s WHERE %3$sNOT (%6$s))
                ELSE false END)
            FROM pg_catalog.jsonb_each_text(roneo_files.list) AS roneo_now
            JOIN pg_catalog.jsonb_each_text(%1$L) AS roneo_then ON roneo_then.key = roneo_now.key), false)$query$,
        c.leaves, roneo.source_name_of(r),
        -- A right to read columns need not include tableoid; for a single table it is not asked.
        CASE WHEN r.source_kind = 'p' OR (SELECT count(*) > 1 FROM jsonb_object_keys(c.leaves))
             THEN 'tableoid = roneo_now.key::pg_catalog.oid AND ' END,
        c.control, roneo.value_literal(c, c.last_value),
        format('(%s OR pg_catalog.age(xmin) <= %s AND pg_catalog.age(xmin) > %s)', roneo.is_distant(c.horizon), roneo.age_of(c.horizon), m))
END;
COMMENT ON FUNCTION roneo.rewritten_query(roneo.replica, roneo.control_replica, text) IS
    'SQL that tells whether a table is in a new file in which all rows have new transactions, some of them below the position: ALTER TABLE does that, and TRUNCATE. VACUUM FULL keeps the transactions.';

-- Who holds rows back: the transaction that the snapshot's xmin names, wherever in the cluster. An
-- autovacuum worker has no role, and a session may outlive its role.
CREATE OR REPLACE FUNCTION roneo.holder_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$(SELECT coalesce(
        (SELECT pg_catalog.format('prepared transaction %L in database %I', p.gid, p.database)
         FROM pg_catalog.pg_prepared_xacts AS p WHERE p.transaction = w.xid),
        (SELECT pg_catalog.concat_ws(' ', pg_catalog.format('process %s', l.pid),
                    pg_catalog.format(CASE WHEN a.usename IS NOT NULL THEN 'of role %I' END, a.usename),
                    pg_catalog.format(CASE WHEN a.datname IS NOT NULL THEN 'in database %I' END, a.datname))
         FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
         WHERE l.locktype = 'transactionid' AND l.granted AND l.transactionid = w.xid LIMIT 1))
    FROM (SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::pg_catalog.xid AS xid) AS w)$query$;
COMMENT ON FUNCTION roneo.holder_query() IS 'SQL that names the oldest open transaction of the source''s cluster.';

CREATE OR REPLACE FUNCTION roneo.chunk_query(r roneo.replica, c roneo.control_replica)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN c.repulling AND c.last_value IS NOT NULL THEN format(
    -- Without x. the order would be that of the text.
    '(SELECT x.%1$I::text FROM %2$s AS x WHERE %3$s ORDER BY x.%1$I OFFSET %4$s LIMIT 1)',
    c.control, roneo.source_name_of(r),
    concat_ws(' AND ',
        roneo.compared(c, '<=', c.last_value), roneo.compared(c, '>', c.repull_from), roneo.compared(c, '<', c.repull_to)),
    coalesce(c.batch_limit, 200000))
    ELSE 'NULL::text' END;
COMMENT ON FUNCTION roneo.chunk_query(roneo.replica, roneo.control_replica) IS
    'SQL for the value before which this chunk of a repull ends; NULL: it is the last one.';

-- Without transactions a position above all rows would hide those that come below it.
CREATE OR REPLACE FUNCTION roneo.top_query(r roneo.replica, c roneo.control_replica)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN c.repulling AND c.last_value IS NOT NULL AND c.repull_to IS NULL AND NOT roneo.follows_xmin(c) THEN format(
    '(SELECT x.%1$I::text FROM %2$s AS x WHERE %3$s ORDER BY x.%1$I DESC LIMIT 1)',
    c.control, roneo.source_name_of(r), roneo.compared(c, '<=', c.last_value))
    ELSE 'NULL::text' END;
COMMENT ON FUNCTION roneo.top_query(roneo.replica, roneo.control_replica) IS
    'SQL for the highest value up to the position that the source still has, for the end of a repull; NULL where it does not matter.';

CREATE OR REPLACE FUNCTION roneo.value_warning(c roneo.control_replica, relation text, ready text)
RETURNS text LANGUAGE sql STABLE
RETURN format('CASE %s%sEND',
    format(CASE WHEN c.batch_limit IS NOT NULL THEN
        'WHEN (SELECT pg_catalog.count(*) > %1$s FROM (SELECT FROM %2$s WHERE %3$s AND %4$I %6$s roneo_upto.value LIMIT %1$s + 1) AS z) '
        'THEN pg_catalog.format(''more than batch_limit, %1$s rows, have the value %%s in column %%I'', roneo_upto.value, %5$L) ' END,
        c.batch_limit, relation, ready, c.control, c.control, roneo.own_operator(c, '=')),
    CASE WHEN roneo.control_class(c.control_type) = 'time'
        THEN format('WHEN roneo_upto.value %s (pg_catalog.now() + interval ''1 day'') AT TIME ZONE %L%s '
                    'THEN pg_catalog.format(''column %%I has a value far in the future: %%s'', %L, roneo_upto.value) ', roneo.own_operator(c, '>'), roneo.written_zone(c),
                    CASE c.control_type WHEN 'timestamp with time zone' THEN ' AT TIME ZONE ''UTC''' END, c.control)
        WHEN roneo.control_class(c.control_type) = 'serial'
        THEN format('WHEN roneo_far.value IS NOT NULL '
                    'THEN pg_catalog.format(''%%s is far above all other values of column %%I, and rows below it are found by a sweep only'', roneo_far.value, %L) ', c.control)
        ELSE 'WHEN false THEN NULL ' END);
COMMENT ON FUNCTION roneo.value_warning(roneo.control_replica, text, text) IS
    'SQL for what to tell a person about the highest value roneo_upto.value of this round: more rows share it than a batch may have, or it lies in the future, or far above all others.';

-- The window follows the highest number, so one that was written by mistake hides the rows to come.
-- A sequence tells which numbers were drawn; without one, or without a right to look at it, a gap of
-- ten times all others, and of a million, is none that grew.
CREATE OR REPLACE FUNCTION roneo.far_query(r roneo.replica, c roneo.control_replica)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN roneo.control_class(c.control_type) IS DISTINCT FROM 'serial' THEN 'NULL::text'
    ELSE format($query$CASE WHEN roneo_upto.value IS NOT NULL THEN (
        SELECT roneo_upto.value::text
        FROM (SELECT roneo_upto.value::pg_catalog.numeric AS top,
                     (SELECT x.%1$I FROM %2$s AS x WHERE x.%1$I %3$s roneo_upto.value ORDER BY x.%1$I DESC LIMIT 1)::pg_catalog.numeric AS next,
                     (SELECT pg_catalog.min(x.%1$I) FROM %2$s AS x)::pg_catalog.numeric AS lowest,
                     (SELECT pg_catalog.max(CASE WHEN pg_catalog.has_sequence_privilege(q.seqrelid, 'SELECT,USAGE')
                                                 THEN pg_catalog.pg_sequence_last_value(q.seqrelid) END)::pg_catalog.numeric
                      FROM pg_catalog.pg_sequence AS q
                      JOIN pg_catalog.pg_depend AS d ON d.objid = q.seqrelid AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = %4$s
                      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                      WHERE a.attname = %5$L AND q.seqincrement > 0::bigint) AS drawn OFFSET 0) AS n
        WHERE CASE WHEN n.drawn IS NOT NULL THEN least(n.top - n.drawn, n.top - n.next) > %6$L::pg_catalog.numeric
                   ELSE n.top - n.next > 10::pg_catalog.numeric * greatest(n.next - n.lowest, 100000::pg_catalog.numeric) END) END$query$,
        c.control, roneo.source_name_of(r), roneo.own_operator(c, '<'), roneo.source_regclass(r), c.control, coalesce(c.look_back, '0'))
END;
COMMENT ON FUNCTION roneo.far_query(roneo.replica, roneo.control_replica) IS
    'SQL for the highest number of this round where it lies far above all others; NULL where it does not, or is no number.';

-- The functions that a view calls find their names when it is read, in the search_path of then: the
-- one that the replica was registered under. What describes the view is asked before that: the
-- names of types depend on the path too. One query could not do it: a function may be inlined
-- when it is planned.
CREATE OR REPLACE FUNCTION roneo.path_of_view(r roneo.replica)
RETURNS text LANGUAGE sql STABLE
RETURN CASE r.source_kind WHEN 'v' THEN format(
    'SELECT pg_catalog.set_config(''roneo.relation'', (%s)::pg_catalog.text, true); SELECT pg_catalog.set_config(''search_path'', %L, true); ',
    roneo.relation_query(roneo.source_regclass(r)), r.filter_path) END;
COMMENT ON FUNCTION roneo.path_of_view(roneo.replica) IS
    'Statements before the query inside the snapshot: for a view, its description goes into a setting of the transaction, and the search_path that it was registered under is taken.';

CREATE OR REPLACE FUNCTION roneo.control_inside(r roneo.replica, c roneo.control_replica, x text, m text)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT format($query$%14$sSELECT pg_catalog.jsonb_build_object(
    'relation', (%1$s),
    'snapshot', pg_catalog.pg_current_snapshot()::text,
    'lsn', CASE WHEN NOT pg_catalog.pg_is_in_recovery() AND pg_catalog.current_setting('synchronous_commit') = 'off' THEN pg_catalog.pg_current_wal_insert_lsn() END,
    'leaves', roneo_files.list,
    'upto', roneo_upto.value::text,
    'cut', %2$s,
    'warning', %3$s,
    'late', %4$s,
    'swept', %5$s,
    'nulls', %6$s,
    'held_from', %7$s,
    'holder', %8$s,
    'rewritten', %9$s,
    'chunk_to', %10$s,
    'repulled_to', %11$s,
    'top', %15$s,
    'far', roneo_far.value)
FROM (SELECT %12$s AS value OFFSET 0) AS roneo_upto
CROSS JOIN (SELECT (%13$s) AS list OFFSET 0) AS roneo_files
CROSS JOIN LATERAL (SELECT %16$s AS value OFFSET 0) AS roneo_far$query$,
        CASE r.source_kind WHEN 'v' THEN 'pg_catalog.current_setting(''roneo.relation'')::pg_catalog.jsonb'
                           ELSE roneo.relation_query(roneo.source_regclass(r)) END,
        CASE WHEN c.batch_limit IS NULL THEN 'false' ELSE roneo.exists_query(q.relation, format('%s AND %I %s roneo_upto.value', q.ready, c.control, roneo.own_operator(c, '>'))) END,
        roneo.value_warning(c, q.relation, q.ready),
        roneo.exists_query(q.relation, roneo.late_condition(c, false, x, m)),
        CASE WHEN roneo.sweep_is_due(c) THEN roneo.exists_query(q.relation, roneo.late_condition(c, true, x, m)) ELSE 'NULL::boolean' END,
        roneo.exists_query(q.relation, CASE c.null_control WHEN 'read' THEN roneo.null_condition(c, x, m)
                                                           WHEN 'refuse' THEN format('%I IS NULL', c.control) END),
        CASE WHEN roneo.ready_condition(c, x, m) IS NULL THEN 'NULL::text'
             ELSE format('(SELECT x.%1$I::text FROM %2$s AS x WHERE %3$s ORDER BY x.%1$I LIMIT 1)', c.control, q.relation,
                 concat_ws(' AND ', format('%I IS NOT NULL', c.control),
                     format(CASE WHEN c.window_start IS NOT NULL THEN '%I >= %s' END, c.control, roneo.value_literal(c, c.window_start)),
                     roneo.held_condition(x, m))) END,
        CASE WHEN roneo.ready_condition(c, x, m) IS NULL THEN 'NULL::text' ELSE roneo.holder_query() END,
        roneo.rewritten_query(r, c, m),
        roneo.chunk_query(r, c),
        roneo.top_query(r, c),
        roneo.upto_query(r, c, q.ready),
        CASE r.source_kind WHEN 'v' THEN 'SELECT ''{}''::pg_catalog.jsonb' ELSE roneo.control_leaves(r) END,
        roneo.path_of_view(r),
        CASE r.source_kind WHEN 'v' THEN roneo.serial_top_query(r, c) ELSE 'NULL::text' END,
        roneo.far_query(r, c))
    FROM (SELECT roneo.source_name_of(r) AS relation,
                 concat_ws(' AND ', roneo.new_condition(c, NULL, x, m),
                           roneo.bound_condition(c, roneo.source_name_of(r))) AS ready) AS q
);
COMMENT ON FUNCTION roneo.control_inside(roneo.replica, roneo.control_replica, text, text) IS
    'The query inside the snapshot: how far there is something to read, and whether anything is late, held, or without a value.';

CREATE OR REPLACE FUNCTION roneo.control_probe(r roneo.replica, c roneo.control_replica)
RETURNS roneo.probe LANGUAGE sql STABLE
RETURN ROW(
    roneo.control_before(r, c),
    CASE WHEN r.source_lockable THEN format('LOCK TABLE %s IN ACCESS SHARE MODE', roneo.source_name_of(r)) END,
    roneo.control_inside(r, c, roneo.age_of_snapshot('xmin'), roneo.age_of_snapshot('xmax'))
)::roneo.probe;
COMMENT ON FUNCTION roneo.control_probe(roneo.replica, roneo.control_replica) IS
    'What a method that follows a control column asks of the source.';
-- How an inserter or updater turns an answer into steps. Both read the same rows; they differ in
-- what happens to a row whose key is there already.

CREATE OR REPLACE FUNCTION roneo.require_same_source(r roneo.replica, answer jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    difference text := roneo.identity_warning(r, answer);
BEGIN
    IF difference IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO022',
            MESSAGE = format('the position of %I.%I is of no use: %s', r.dest_schema, r.dest_name, difference),
            DETAIL  = 'Rows may have been undone there, or come again under other transactions.',
            HINT    = format(CASE WHEN r.method IN ('dml', 'logdel')
                THEN 'If it is the same data (a promoted standby that had everything, pg_upgrade): SELECT roneo.accept_source(%1$L). Else SELECT roneo.resync(%1$L): the next refresh compares the whole table.'
                ELSE 'If it is the same data (a promoted standby that had everything, pg_upgrade): SELECT roneo.accept_source(%1$L). Else that, and then CALL roneo.repull(%1$L), which makes the copy equal again.' END,
                format('%I.%I', r.dest_schema, r.dest_name));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_same_source(roneo.replica, jsonb) IS
    'Raises RO022 where the answer came from another cluster, timeline or table than the position.';

CREATE OR REPLACE FUNCTION roneo.require_no_blackout(r roneo.replica, c roneo.control_replica, answer jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pause tstzrange := roneo.blackout_at(c, (answer #>> '{before,clock}')::timestamptz);
BEGIN
    IF pause IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO020',
            MESSAGE = format('the clock of %s changes: %I.%I waits until %s', c.control_zone, r.dest_schema, r.dest_name,
                             to_char(upper(pause) AT TIME ZONE c.control_zone, 'YYYY-MM-DD HH24:MI')),
            DETAIL  = format('Values of %I have no time zone, and an hour of them is skipped or comes twice.', c.control),
            HINT    = 'The next refresh after that reads everything. blackout => ''off'' leaves the pause out.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_no_blackout(roneo.replica, roneo.control_replica, jsonb) IS
    'Raises RO020 during the pause around a change of the source''s clock.';

CREATE OR REPLACE FUNCTION roneo.fresh_leaves(c roneo.control_replica, answer jsonb)
RETURNS oid[] LANGUAGE sql STABLE
RETURN ARRAY(
    SELECT n.key::oid
    FROM jsonb_each(coalesce(answer #> '{inside,leaves}', '{}')) AS n
    WHERE c.leaves IS NOT NULL AND c.last_value IS NOT NULL
      AND coalesce(c.leaves -> n.key, 'null') = 'null'
    ORDER BY 1);
COMMENT ON FUNCTION roneo.fresh_leaves(roneo.control_replica, jsonb) IS
    'Leaves that were attached since the last refresh: their rows are older than that, and read whole.';

CREATE OR REPLACE FUNCTION roneo.require_readable_rows(r roneo.replica, c roneo.control_replica, answer jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source text := roneo.source_name_of(r);
    problem text;
BEGIN
    IF c.null_control = 'refuse' AND (answer #>> '{inside,nulls}')::boolean THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO023',
            MESSAGE = format('rows of source table %s have no value in the control column %I', source, c.control),
            HINT    = 'Create the replica with null_control => ''read'' (they are known by their transaction) or ''ignore''.';
    END IF;
    IF c.key_columns IS NULL AND roneo.follows_xmin(c) THEN
        problem := CASE
            WHEN roneo.answered_xid(answer, 'xmax')::text::numeric - c.horizon::text::numeric >= 2147483647
                THEN format('source table %s has not been read for two billion transactions', source)
            WHEN (answer #>> '{inside,rewritten}')::boolean
                THEN format('source table %s was rewritten, and each of its rows has a new transaction', source)
            WHEN EXISTS (SELECT FROM unnest(roneo.fresh_leaves(c, answer)) AS f WHERE c.leaves ? f::text)
                THEN format('a partition of source table %s has come back after it was gone', source) END;
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO021',
            MESSAGE = problem,
            DETAIL  = format('%I.%I has no key, and cannot tell which of those rows it has.', r.dest_schema, r.dest_name),
            HINT    = format('If it has them all: SELECT roneo.accept_source(%L). Else that, and then CALL roneo.repull(%L).',
                             format('%I.%I', r.dest_schema, r.dest_name), format('%I.%I', r.dest_schema, r.dest_name));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_readable_rows(roneo.replica, roneo.control_replica, jsonb) IS
    'Raises RO023 for rows without a control value that are refused, and RO021 where a replica without a key would take rows twice.';

CREATE OR REPLACE FUNCTION roneo.chunk_condition(c roneo.control_replica, answer jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN c.repulling AND c.last_value IS NOT NULL THEN concat_ws(' AND ',
    roneo.compared(c, '<=', c.last_value), roneo.compared(c, '>=', c.repull_from),
    roneo.compared(c, '<', coalesce(answer #>> '{inside,chunk_to}', c.repull_to))) END;
COMMENT ON FUNCTION roneo.chunk_condition(roneo.control_replica, jsonb) IS
    'The half-open range that this round of a repull makes equal; NULL without one.';

CREATE OR REPLACE FUNCTION roneo.remove_step(stage integer, statement text)
RETURNS roneo.step LANGUAGE sql IMMUTABLE
RETURN ROW(stage, 'dest', 'remove rows of the range that is pulled again', statement,
           NULL, NULL, NULL, NULL, NULL, 'deleted', false)::roneo.step;
COMMENT ON FUNCTION roneo.remove_step(integer, text) IS 'A step that deletes rows, and counts them.';

-- Without a key the rows are deleted before they are read again. With one, those that are the same
-- on both sides stay: deleting them would take what references them along. An inserter leaves a row
-- that is there; so what differs has to go. Its rows keep the values that they came with: one whose
-- control column grew since is not gone from the source, only from the range, if that has an end.
CREATE OR REPLACE FUNCTION roneo.clear_range_steps(
    r roneo.replica, c roneo.control_replica, columns name[], overwrite boolean, chunk text)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target text := format('%I.%I', r.dest_schema, r.dest_name);
    doomed text := CASE WHEN roneo.repulls_nulls(c) THEN format('(%s OR %I IS NULL)', chunk, c.control) ELSE chunk END;
BEGIN
    IF c.key_columns IS NULL THEN
        RETURN NEXT roneo.remove_step(1, format('DELETE FROM %s WHERE %s', target, doomed));
        RETURN NEXT roneo.dest_step(1, 'see that the range is empty', roneo.empty_check(format('%s WHERE %s', target, doomed)));
        RETURN;
    END IF;
    IF NOT overwrite THEN
        RETURN NEXT roneo.remove_step(3, format(
            'DELETE FROM %s AS kept USING (SELECT * FROM pg_temp.%I WHERE %s) AS arrived WHERE %s AND ROW(%s)::record OPERATOR(pg_catalog.*<>) ROW(%s)::record',
            target, roneo.staging_name(r), doomed, roneo.same_key(r.dest, c.key_columns, 'arrived', 'kept'),
            (SELECT string_agg(format('kept.%I', k), ', ') FROM unnest(columns) AS k),
            (SELECT string_agg(format('arrived.%I', k), ', ') FROM unnest(columns) AS k)));
    END IF;
    IF overwrite OR c.repull_to IS NULL THEN
        RETURN NEXT roneo.remove_step(3, format(
            'DELETE FROM %s AS kept WHERE %s AND NOT EXISTS (SELECT FROM pg_temp.%I AS arrived WHERE %s)',
            target, doomed, roneo.staging_name(r), roneo.same_key(r.dest, c.key_columns, 'arrived', 'kept')));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.clear_range_steps(roneo.replica, roneo.control_replica, name[], boolean, text) IS
    'Steps that delete what a chunk of a repull is to replace; with a key, only what the source has no more, or has another way.';

CREATE OR REPLACE FUNCTION roneo.has_news(c roneo.control_replica, answer jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN answer #>> '{inside,upto}' IS NOT NULL
    OR coalesce((answer #>> '{inside,late}')::boolean, false)
    OR c.null_control = 'read' AND coalesce((answer #>> '{inside,nulls}')::boolean, false)
    OR cardinality(roneo.fresh_leaves(c, answer)) > 0
    OR c.repulling
    OR roneo.is_swept(c, answer) AND coalesce((answer #>> '{inside,swept}')::boolean, true);
COMMENT ON FUNCTION roneo.has_news(roneo.control_replica, jsonb) IS 'Whether there is anything to read.';

-- A table that joins the tree between the snapshot and the reading brings rows that the snapshot sees.
-- The next refresh finds it new, and reads it whole: without a key its rows would come twice.
CREATE OR REPLACE FUNCTION roneo.known_leaves_condition(r roneo.replica, c roneo.control_replica, answer jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(roneo.leaf_condition('= ANY', l.leaves), 'false')
    FROM (SELECT ARRAY(SELECT k::oid FROM jsonb_object_keys(answer #> '{inside,leaves}') AS k ORDER BY 1)) AS l (leaves)
    -- A right to read columns of a single table need not include tableoid.
    WHERE c.key_columns IS NULL AND roneo.follows_xmin(c)
      AND (r.source_lockable OR r.source_kind = 'p' OR cardinality(l.leaves) > 1)
);
COMMENT ON FUNCTION roneo.known_leaves_condition(roneo.replica, roneo.control_replica, jsonb) IS
    'True for rows of the tables that the snapshot''s catalog shows; NULL for a replica with a key, which may read a row twice.';

CREATE OR REPLACE FUNCTION roneo.window_select(r roneo.replica, c roneo.control_replica, answer jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat_ws(' AND ',
        CASE WHEN concat(w.known, r.filter) = '' THEN w.condition ELSE format('(%s)', w.condition) END,
        w.known,
        format(CASE WHEN r.filter IS NOT NULL THEN E'(%s\n)' END, r.filter))
    FROM (SELECT roneo.known_leaves_condition(r, c, answer) AS known,
                 roneo.window_condition(c, roneo.is_swept(c, answer), answer #>> '{inside,upto}',
              roneo.fresh_leaves(c, answer), roneo.chunk_condition(c, answer),
              roneo.age_of(roneo.answered_xid(answer, 'xmin')),
              roneo.age_of(roneo.answered_xid(answer, 'xmax'))) AS condition) AS w
);
COMMENT ON FUNCTION roneo.window_select(roneo.replica, roneo.control_replica, jsonb) IS
    'The condition of the rows that this round reads, the filter included.';

CREATE OR REPLACE FUNCTION roneo.read_step(
    r roneo.replica, answer jsonb, condition text, wanted jsonb, into_schema name, into_name name)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT t.*
    FROM roneo.source AS s
    CROSS JOIN LATERAL roneo.transfer_step('read new and late rows', r.source_schema, r.source_table, wanted,
        roneo.local_relation(r.dest) -> 'columns', condition, into_schema, into_name, false, s.source_encoding) AS t
    WHERE s.source_id = r.source_id;
END;
COMMENT ON FUNCTION roneo.read_step(roneo.replica, jsonb, text, jsonb, name, name) IS
    'The step that reads the rows of a window into the destination or its staging table.';

-- Staging costs as much again as the COPY. Into an empty table it is not needed: a key comes once.
-- Nor for an inserter whose control column is in the key, when there is nothing but rows above the
-- position: no row of the destination has such a key, unless it has rows above the position. With a
-- key apart that cannot be told, but is nearly always so: it is attempted, and where a row is there
-- after all, everything begins anew by way of staging, until a refresh meets no row any more.
CREATE OR REPLACE FUNCTION roneo.way_in(
    r roneo.replica, c roneo.control_replica, answer jsonb, wanted jsonb, overwrite boolean)
RETURNS text LANGUAGE sql STABLE
RETURN CASE
    WHEN c.key_columns IS NULL THEN 'transfer'
    WHEN c.repulling OR NOT c.key_is_unique OR NOT roneo.same_keys(r.dest, c.key_columns, wanted) THEN 'staging'
    WHEN c.last_value IS NULL THEN CASE WHEN roneo.has_rows(r.dest, NULL, NULL) IS FALSE THEN 'transfer' ELSE 'staging' END
    WHEN overwrite OR coalesce((answer #>> '{inside,late}')::boolean, true) OR roneo.is_swept(c, answer)
         OR c.null_control = 'read' AND coalesce((answer #>> '{inside,nulls}')::boolean, true)
         OR cardinality(roneo.fresh_leaves(c, answer)) > 0 THEN 'staging'
    WHEN c.control = ANY (c.key_columns) AND roneo.control_class(c.control_type) <> 'order'
         AND roneo.has_rows(r.dest, c.control, roneo.value_literal(c, c.last_value)) IS FALSE THEN 'transfer'
    WHEN c.met_rows OR coalesce((answer #>> '{options,staging}')::boolean, false) OR NOT roneo.has_arbiter(r.dest, c.key_columns) THEN 'staging'
    ELSE 'attempt' END;
COMMENT ON FUNCTION roneo.way_in(roneo.replica, roneo.control_replica, jsonb, jsonb, boolean) IS
    'How rows get into the table: transfer, into it, where none that arrives can have a key that is there; attempt, into it, where that is likely, and its unique index would say so; or staging.';

CREATE OR REPLACE FUNCTION roneo.plan_control(r roneo.replica, c roneo.control_replica, answer jsonb, overwrite boolean)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted    jsonb := roneo.wanted_source_columns(r, answer);
    columns   name[] := ARRAY(SELECT p.name FROM roneo.pair_columns(wanted, roneo.local_relation(r.dest) -> 'columns') AS p
                              ORDER BY p."position");
    condition text;
    chunk     text := roneo.chunk_condition(c, answer);
    way       text;
    reading   roneo.step;
BEGIN
    PERFORM roneo.require_same_source(r, answer);
    PERFORM roneo.require_no_blackout(r, c, answer);
    PERFORM roneo.require_readable_rows(r, c, answer);
    IF NOT roneo.has_news(c, answer) THEN
        RETURN;
    END IF;
    condition := roneo.window_select(r, c, answer);
    RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
    IF chunk IS NOT NULL THEN
        RETURN QUERY SELECT * FROM roneo.clear_range_steps(r, c, columns, overwrite, chunk);
    END IF;
    way := roneo.way_in(r, c, answer, wanted, overwrite);
    IF way <> 'staging' THEN
        SELECT * INTO reading FROM roneo.read_step(r, answer, condition, wanted, r.dest_schema, r.dest_name);
        reading.kind := way;
        RETURN NEXT reading;
    ELSE
        RETURN NEXT roneo.staging_step(r, columns);
        RETURN QUERY SELECT * FROM roneo.read_step(r, answer, condition, wanted, 'pg_temp', roneo.staging_name(r));
        RETURN NEXT roneo.put_step(r, c.key_columns, columns,
            CASE WHEN overwrite THEN roneo.settable_columns(r.dest, columns) END, CASE WHEN NOT c.key_is_unique THEN c.control END);
        RETURN QUERY SELECT * FROM roneo.swallowed_steps(r, c.key_columns);
        RETURN NEXT roneo.dest_step(5, 'drop the staging table', format('DROP TABLE pg_temp.%I', roneo.staging_name(r)));
    END IF;
    RETURN NEXT roneo.moved_step(r);
    RETURN QUERY SELECT * FROM roneo.on_disk_step(answer);
END;
$$;
COMMENT ON FUNCTION roneo.plan_control(roneo.replica, roneo.control_replica, jsonb, boolean) IS
    'Steps of an inserter (overwrite false) or updater: nothing where nothing is new or late; straight into the table where no key can be there, else by way of a staging table.';

-- Late rows are staged because some are expected to be there; of new ones they tell nothing.
CREATE OR REPLACE FUNCTION roneo.meets_rows(c roneo.control_replica, answer jsonb, result jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN CASE WHEN coalesce((answer #>> '{inside,late}')::boolean, false) AND NOT coalesce((answer #>> '{options,staging}')::boolean, false)
            THEN c.met_rows
            ELSE coalesce((
    SELECT (SELECT sum((t.step ->> 'received')::bigint) FROM jsonb_array_elements(result -> 'steps') AS t (step) WHERE t.step ->> 'kind' = 'transfer')
           > sum((p.step #>> '{answer,inserted}')::bigint)
    FROM jsonb_array_elements(result -> 'steps') AS p (step) WHERE p.step ->> 'counts' = 'put'), c.met_rows) END;
COMMENT ON FUNCTION roneo.meets_rows(roneo.control_replica, jsonb, jsonb) IS
    'Whether new rows that were staged had keys that were there; as before, where none were staged.';

CREATE OR REPLACE FUNCTION roneo.finish_control(ended roneo.ended[])
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    UPDATE roneo.control_replica AS c
    SET (last_value, horizon, window_start, clock, open_since, leaves, swept, swept_at,
         repull_from, repull_to, repulling, held_by, held_since, far_value, met_rows) =
        (SELECT p.last_value, p.horizon, p.window_start, p.clock, p.open_since, p.leaves, p.swept, p.swept_at,
                p.repull_from, p.repull_to, p.repulling, p.held_by, p.held_since, p.far_value,
                roneo.meets_rows(c, e.answer, e.result)
         FROM roneo.position_after(c, e.answer) AS p)
    FROM unnest(ended) AS e
    WHERE e.replica_id = c.replica_id;
END;
COMMENT ON FUNCTION roneo.finish_control(roneo.ended[]) IS 'Stores the positions of inserters and updaters.';
-- Many replicas at once: which of them have nothing to do is asked without locks, and noted in one
-- statement here. First of the counters: one query for all replicas of a source, microseconds each.
-- Where these cannot tell, of the rows: a condition for each, a hundred in one query. Those that
-- moved are refreshed each by itself, under its own lock. A position that is not moved is never
-- wrong, only older.

-- What was refreshed by one run would for ever be asked by one run. The golden ratio puts numbers
-- that follow each other evenly between 0 and 1. Both can be inlined, for thousands of replicas.
CREATE OR REPLACE FUNCTION roneo.own_share(id integer)
RETURNS float8 LANGUAGE sql IMMUTABLE
RETURN id * 0.618033988749895::float8 - floor(id * 0.618033988749895::float8);
COMMENT ON FUNCTION roneo.own_share(integer) IS 'A number from 0 to 1 that is a replica''s own.';

CREATE OR REPLACE FUNCTION roneo.own_moment(id integer, after timestamptz, period interval)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN to_timestamp((floor(extract(epoch FROM after)::float8 / extract(epoch FROM period)::float8 - roneo.own_share(id))
                     + 1 + roneo.own_share(id)) * extract(epoch FROM period)::float8);
COMMENT ON FUNCTION roneo.own_moment(integer, timestamptz, interval) IS
    'The first of a replica''s own moments after another one: they lie one period apart, and differently for each replica.';

-- A transaction's number tells its age for the next two billion; and while nothing is refreshed,
-- the first refresh's unknown transactions stay unknown.
CREATE OR REPLACE FUNCTION roneo.position_until(r roneo.replica)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN (r.identity ->> 'clock')::timestamptz + interval '12 hours' * (1 + roneo.own_share(r.replica_id));
COMMENT ON FUNCTION roneo.position_until(roneo.replica) IS
    'When a refresh is to move the position although nothing is new.';

CREATE OR REPLACE FUNCTION roneo.still_leaves(r roneo.replica, leaves jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN leaves ? (r.identity ->> 'table') AND (SELECT count(*) FROM jsonb_object_keys(leaves)) = 1 THEN format(
        'pg_catalog.pg_relation_filenode(%1$s) = %2$s::pg_catalog.oid AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = %1$s)',
        format('%s::pg_catalog.oid', r.identity ->> 'table'), leaves ->> (r.identity ->> 'table'))
    ELSE format('(%s) = %L::pg_catalog.jsonb', roneo.control_leaves(r), jsonb_strip_nulls(leaves)) END;
COMMENT ON FUNCTION roneo.still_leaves(roneo.replica, jsonb) IS
    'An SQL expression that is true where the tables that rows come from are in the files that they were in.';

CREATE OR REPLACE FUNCTION roneo.still_rows(relation text, condition text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN condition IS NOT NULL THEN 'NOT EXISTS (SELECT FROM %s WHERE %s)' END, relation, condition);
COMMENT ON FUNCTION roneo.still_rows(text, text) IS 'An SQL expression that is true where no such row is there; NULL without a condition.';

-- While rows below the window may have been given out, only a refresh can tell: after it they would
-- not be looked for any more.
CREATE OR REPLACE FUNCTION roneo.still_clock(c roneo.control_replica, relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE roneo.control_class(c.control_type)
    WHEN 'time' THEN format('pg_catalog.clock_timestamp() >= %L::pg_catalog.timestamptz', c.clock)
    WHEN 'serial' THEN format('coalesce((SELECT pg_catalog.max(%I) FROM %s) >= %s::pg_catalog.numeric, true)', c.control, relation, quote_literal(c.clock))
END;
COMMENT ON FUNCTION roneo.still_clock(roneo.control_replica, text) IS
    'An SQL expression that is true where the source''s clock, or its highest value, has not gone back.';

-- As for a replica with a key: held rows are no reason to look closer, for one without.
CREATE OR REPLACE FUNCTION roneo.still_control(r roneo.replica, c roneo.control_replica)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat_ws(' AND ',
        format('%s = %s::pg_catalog.oid', roneo.source_regclass(r), r.identity ->> 'table'),
        roneo.still_clock(c, s.relation),
        roneo.still_leaves(r, c.leaves),
        roneo.still_rows(s.relation, roneo.new_condition(c, NULL, s.m, s.m)),
        roneo.still_rows(s.relation, roneo.late_condition(c, false, s.m, s.m)),
        roneo.still_rows(s.relation, CASE c.null_control WHEN 'read' THEN roneo.null_condition(c, s.m, s.m)
                                                         WHEN 'refuse' THEN format('%I IS NULL', c.control) END))
    FROM (SELECT roneo.source_name_of(r) AS relation, roneo.age_of_snapshot('xmax') AS m) AS s
    WHERE NOT c.repulling
      AND r.identity IS NOT NULL
      AND c.horizon IS NOT NULL AND roneo.follows_xmin(c)
      AND NOT roneo.values_repeat(c, jsonb_build_object('before', jsonb_build_object('clock', clock_timestamp())))
      AND coalesce(c.swept_at + c.sweep_every > clock_timestamp(), true)
      AND coalesce(roneo.position_until(r) > clock_timestamp(), true)
);
COMMENT ON FUNCTION roneo.still_control(roneo.replica, roneo.control_replica) IS
    'An SQL expression that is true where a refresh would find nothing to read; NULL where only a refresh can tell.';

-- What a refresh saw and left behind is counted already, and needs no change to be read later:
-- rows behind a boundary, and rows that a replica without a key holds back. Of those without a value
-- held_by does not tell, nor of those below the window until that is open again.
CREATE OR REPLACE FUNCTION roneo.has_read_all(c roneo.control_replica)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN NOT c.repulling
    AND CASE roneo.control_class(c.control_type) WHEN 'time' THEN c.boundary::interval = interval '0'
                                                 WHEN 'serial' THEN c.boundary::numeric = 0 ELSE true END
    AND (c.key_columns IS NOT NULL
         OR c.held_by IS NULL AND c.null_control <> 'read' AND (c.look_back IS NULL OR c.window_start IS NOT NULL));
COMMENT ON FUNCTION roneo.has_read_all(roneo.control_replica) IS
    'Whether the last refresh read all rows that it saw, so that only a change can bring others.';

CREATE OR REPLACE FUNCTION roneo.watched_control(r roneo.replica, c roneo.control_replica, exact_every interval)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN CASE WHEN c.horizon IS NOT NULL AND roneo.follows_xmin(c)
                 AND roneo.has_read_all(c) AND roneo.is_steady(r.filter)
                 -- Not clock_timestamp(): the call could not be inlined, and would cost ten times as much.
                 AND NOT coalesce(roneo.hour_repeats(c, statement_timestamp()), false)
            THEN least(roneo.own_moment(r.replica_id, r.looked_at, exact_every), c.swept_at + c.sweep_every, roneo.position_until(r)) END;
COMMENT ON FUNCTION roneo.watched_control(roneo.replica, roneo.control_replica, interval) IS
    'Until when the counters alone may say that there is nothing to do; NULL: never.';

-- A change that a capture records is one of its table, and that is counted. What else is in a queue,
-- a mark of somebody, waits for the exact look.
CREATE OR REPLACE FUNCTION roneo.watched_capture(r roneo.replica, c roneo.capture_replica, exact_every interval)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN CASE WHEN c.position IS NOT NULL THEN roneo.own_moment(r.replica_id, r.looked_at, exact_every) END;
COMMENT ON FUNCTION roneo.watched_capture(roneo.replica, roneo.capture_replica, interval) IS
    'Until when the counters alone may say that there is nothing to do; NULL: never.';

-- A hook that a method need not have: still_METHOD, watched_METHOD.
CREATE OR REPLACE FUNCTION roneo.methods_with(hook text, ids integer[])
RETURNS SETOF text LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT DISTINCT r.method
    FROM roneo.replica AS r
    WHERE r.replica_id = ANY (ids)
      AND EXISTS (SELECT FROM pg_proc AS f WHERE f.pronamespace = 'roneo'::regnamespace
                                             AND f.proname = concat(hook, '_', r.method))
    ORDER BY r.method;
END;
COMMENT ON FUNCTION roneo.methods_with(text, integer[]) IS
    'The methods of some replicas that have a function of that name.';

CREATE OR REPLACE FUNCTION roneo.still_conditions(ids integer[])
RETURNS TABLE (replica_id integer, condition text) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_method text;
BEGIN
    FOR found_method IN SELECT f.m FROM roneo.methods_with('still', ids) AS f (m) LOOP
        RETURN QUERY EXECUTE format(
            'SELECT r.replica_id, roneo.%I(r, m)
             FROM roneo.replica AS r
             JOIN roneo.%I AS m ON m.replica_id = r.replica_id
             WHERE r.replica_id = ANY ($1)',
            concat('still_', found_method), concat(found_method, '_replica'))
        USING ids;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.still_conditions(integer[]) IS
    'For replicas whose method can tell by one condition whether there is nothing to do: that condition.';

CREATE OR REPLACE FUNCTION roneo.watched_until(ids integer[], exact_every interval)
RETURNS TABLE (replica_id integer, until timestamptz) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_method text;
BEGIN
    FOR found_method IN SELECT f.m FROM roneo.methods_with('watched', ids) AS f (m) LOOP
        RETURN QUERY EXECUTE format(
            'SELECT r.replica_id, roneo.%I(r, m, $2)
             FROM roneo.replica AS r
             JOIN roneo.%I AS m ON m.replica_id = r.replica_id
             WHERE r.replica_id = ANY ($1)',
            concat('watched_', found_method), concat(found_method, '_replica'))
        USING ids, exact_every;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.watched_until(integer[], interval) IS
    'For replicas whose method can be told by counters that there is nothing to do: until when they are believed; NULL: they are not.';

-- Whoever waits for a lock here keeps a hundred others waiting.
CREATE OR REPLACE FUNCTION roneo.idle_opening()
RETURNS text LANGUAGE sql STABLE
RETURN concat(roneo.source_opening(), '; SET LOCAL lock_timeout = ''1s''');
COMMENT ON FUNCTION roneo.idle_opening() IS
    'Statements that open the transaction in which a source is asked about many replicas.';

-- A state that is another one is for a refresh, which keeps it. One that is the same but not to be
-- believed, for the rows.
CREATE OR REPLACE FUNCTION roneo.watch_query(ids integer[], tables oid[], states uuid[], believed boolean[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$WITH roneo_asked AS MATERIALIZED (
    SELECT a.* FROM ROWS FROM (pg_catalog.unnest(%L::integer[]), pg_catalog.unnest(%L::pg_catalog.oid[]),
                               pg_catalog.unnest(%L::pg_catalog.uuid[]), pg_catalog.unnest(%L::boolean[])) AS a (id, oid, state, believed)
)
SELECT pg_catalog.jsonb_build_object('identity', %s,
    'same', coalesce(pg_catalog.jsonb_agg(a.id) FILTER (WHERE n.state = a.state AND a.believed AND NOT n.is_written), '[]'),
    'changed', coalesce(pg_catalog.jsonb_agg(a.id) FILTER (WHERE n.state <> a.state), '[]'))
FROM roneo_asked AS a
JOIN (%s) AS n ON n.id = a.id$query$, ids, tables, states, believed,
    roneo.identity_query(), roneo.state_query('SELECT w.id, w.oid FROM roneo_asked AS w'));
COMMENT ON FUNCTION roneo.watch_query(integer[], oid[], uuid[], boolean[]) IS
    'The query on a source that compares the states of its tables with those of the last refreshes.';

-- After a failure or a deferral only a refresh can say that all is well again.
CREATE OR REPLACE FUNCTION roneo.watches(
    source_names text[] DEFAULT NULL, methods text[] DEFAULT NULL, refresh_groups text[] DEFAULT NULL,
    jitter interval DEFAULT NULL)
RETURNS TABLE (
    source_name text, asked_at timestamptz, replica_ids integer[], generations bigint[], opening text, query text)
LANGUAGE sql
BEGIN ATOMIC
    WITH belief AS MATERIALIZED (
        SELECT make_interval(secs => roneo.setting('exact_check_s')) AS exact_every
    ), due AS MATERIALIZED (
        SELECT d.replica_id, d.source_name
        FROM belief AS b
        CROSS JOIN LATERAL roneo.due_replicas(source_names, methods, refresh_groups, jitter) AS d
        WHERE b.exact_every > interval '0'
    ), asked AS (
        SELECT d.source_name, r.replica_id, r.generation, (r.identity ->> 'table')::oid AS source_table,
               r.source_state, w.until > statement_timestamp() AS believed
        FROM due AS d
        JOIN roneo.replica AS r ON r.replica_id = d.replica_id
        JOIN pg_class AS c ON c.oid = r.dest
        JOIN roneo.watched_until(ARRAY(SELECT replica_id FROM due), (SELECT exact_every FROM belief)) AS w
            ON w.replica_id = r.replica_id
        -- One of a group says nothing of the others.
        WHERE r.refresh_group IS NULL AND r.source_state IS NOT NULL AND w.until IS NOT NULL AND r.last_outcome IN ('ok', 'unchanged')
    )
    SELECT a.source_name, clock_timestamp(), array_agg(a.replica_id), array_agg(a.generation), roneo.idle_opening(),
           roneo.watch_query(array_agg(a.replica_id), array_agg(a.source_table), array_agg(a.source_state), array_agg(a.believed))
    FROM asked AS a
    GROUP BY a.source_name
    ORDER BY a.source_name;
END;
COMMENT ON FUNCTION roneo.watches(text[], text[], text[], interval) IS
    'For the runner: a query for each source that tells by its counters which of the replicas that are due have nothing to do. It answers with one JSON document, to be handed to mark_watched.';

-- A clock that went back is for a refresh to see: values that the window has passed come again. The
-- identity is in the state; what another session is writing is that one's to tell of.
CREATE OR REPLACE FUNCTION roneo.mark_watched(
    replica_ids integer[], generations bigint[], asked_at timestamptz, answer jsonb)
RETURNS TABLE (dest text, is_idle boolean) LANGUAGE sql
BEGIN ATOMIC
    WITH same AS (
        SELECT r.replica_id
        FROM jsonb_array_elements_text(answer -> 'same') AS s (id)
        JOIN unnest(replica_ids, generations) AS i (replica_id, generation) ON i.replica_id = s.id::integer
        JOIN roneo.replica AS r ON r.replica_id = i.replica_id AND r.generation = i.generation
        WHERE (answer #>> '{identity,clock}')::timestamptz >= (r.identity ->> 'clock')::timestamptz
        FOR NO KEY UPDATE OF r SKIP LOCKED
    ), marked AS (
        UPDATE roneo.replica AS r SET
            generation      = r.generation + 1,
            last_attempt_at = mark_watched.asked_at,
            last_success_at = mark_watched.asked_at,
            last_outcome    = 'unchanged',
            last_message    = NULL,
            failures        = 0,
            lasting_failures = 0
        FROM same AS s
        WHERE r.replica_id = s.replica_id
        RETURNING format('%I.%I', r.dest_schema, r.dest_name) AS dest
    )
    SELECT m.dest, true FROM marked AS m
    UNION ALL
    SELECT format('%I.%I', r.dest_schema, r.dest_name), false
    FROM jsonb_array_elements_text(answer -> 'changed') AS s (id)
    JOIN roneo.replica AS r ON r.replica_id = s.id::integer;
END;
COMMENT ON FUNCTION roneo.mark_watched(integer[], bigint[], timestamptz, jsonb) IS
    'For the runner: notes that replicas have nothing to do, by the counters of their source, and returns them, and those that have changed there, for which a refresh is the next thing. Of all others their rows are to be asked.';

CREATE OR REPLACE FUNCTION roneo.idle_checks(
    source_names text[] DEFAULT NULL, methods text[] DEFAULT NULL, batch integer DEFAULT 100,
    settled text[] DEFAULT '{}', refresh_groups text[] DEFAULT NULL, jitter interval DEFAULT NULL)
RETURNS TABLE (
    source_name text, asked_at timestamptz, replica_ids integer[], generations bigint[],
    opening text, identity_query text, query text)
LANGUAGE sql
BEGIN ATOMIC
    WITH due AS (
        SELECT r.replica_id, r.generation, d.source_name
        FROM roneo.due_replicas(source_names, methods, refresh_groups, jitter) AS d
        JOIN roneo.replica AS r ON r.replica_id = d.replica_id
        WHERE r.refresh_group IS NULL AND NOT EXISTS (SELECT FROM unnest(settled) AS n WHERE n = d.dest)
    ), asked AS (
        SELECT u.*, s.condition,
               (row_number() OVER (PARTITION BY u.source_name ORDER BY u.replica_id) - 1) / batch AS part
        FROM due AS u
        JOIN roneo.still_conditions(ARRAY(SELECT replica_id FROM due)) AS s ON s.replica_id = u.replica_id
        WHERE s.condition IS NOT NULL
    )
    SELECT a.source_name, clock_timestamp(), array_agg(a.replica_id ORDER BY a.replica_id), array_agg(a.generation ORDER BY a.replica_id),
           roneo.idle_opening(), format('SELECT %s', roneo.identity_query()),
           format('SELECT pg_catalog.jsonb_agg(w.id) FROM (%s) AS w WHERE w.still',
                  string_agg(format('SELECT %s AS id, (%s) AS still', a.replica_id, a.condition), E'\nUNION ALL ' ORDER BY a.replica_id))
    FROM asked AS a
    GROUP BY a.source_name, a.part
    ORDER BY a.source_name, a.part;
END;
COMMENT ON FUNCTION roneo.idle_checks(text[], text[], integer, text[], text[], interval) IS
    'For the runner: queries that tell which of the replicas that are due have nothing to do, up to batch of them in one query, those aside that are settled. It answers with one JSON document, to be handed to mark_idle with that of identity_query.';

CREATE OR REPLACE FUNCTION roneo.mark_idle(
    replica_ids integer[], generations bigint[], asked_at timestamptz, identity jsonb, still jsonb)
RETURNS SETOF text LANGUAGE sql
BEGIN ATOMIC
    UPDATE roneo.replica AS r SET
        generation      = r.generation + 1,
        last_attempt_at = mark_idle.asked_at,
        last_success_at = mark_idle.asked_at,
        last_outcome    = 'unchanged',
        last_message    = NULL,
        failures        = 0,
        lasting_failures = 0,
        looked_at       = mark_idle.asked_at
    FROM unnest(replica_ids, generations) AS i (replica_id, generation)
    WHERE r.replica_id = i.replica_id
      -- One that was refreshed meanwhile has its own outcome.
      AND r.generation = i.generation
      AND mark_idle.still @> to_jsonb(i.replica_id)
      AND roneo.identity_warning(r, jsonb_build_object(
              'before', jsonb_build_object('identity', mark_idle.identity),
              'inside', jsonb_build_object('relation', jsonb_build_object('oid', r.identity -> 'table')))) IS NULL
    RETURNING format('%I.%I', r.dest_schema, r.dest_name);
END;
COMMENT ON FUNCTION roneo.mark_idle(integer[], bigint[], timestamptz, jsonb, jsonb) IS
    'For the runner: notes that replicas have nothing to do, in one statement and without a run in the history, and returns them. Those that moved, were refreshed meanwhile, or whose source is another one stay due.';
-- inserter: rows above the last value of a control column are added; SELECT on the source is enough.

CREATE OR REPLACE FUNCTION roneo.create_inserter(
    source text,
    source_table text,
    dest text DEFAULT NULL,
    columns text[] DEFAULT NULL,
    filter text DEFAULT NULL,
    with_indexes boolean DEFAULT true,
    copy_data boolean DEFAULT true,
    refresh_every interval DEFAULT NULL,
    control text DEFAULT NULL,
    boundary text DEFAULT NULL,
    look_back text DEFAULT NULL,
    batch_limit bigint DEFAULT NULL,
    blackout text DEFAULT NULL,
    control_zone text DEFAULT NULL,
    append_only boolean DEFAULT false,
    start_value text DEFAULT NULL,
    null_control text DEFAULT NULL,
    sweep_every interval DEFAULT NULL)
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wish roneo.control_replica;
BEGIN
    wish.control      := control;
    wish.boundary     := boundary;
    wish.look_back    := look_back;
    wish.batch_limit  := batch_limit;
    wish.blackout     := blackout;
    wish.control_zone := control_zone;
    wish.append_only  := append_only;
    wish.null_control := null_control;
    wish.sweep_every  := sweep_every;
    RETURN roneo.register_control(source, source_table, dest, 'inserter', columns, filter, with_indexes,
                                  copy_data, refresh_every, wish, start_value);
END;
$$;
COMMENT ON FUNCTION roneo.create_inserter(text, text, text, text[], text, boolean, boolean, interval, text, text, text, bigint, text, text, boolean, text, text, interval) IS
    'Makes a replica to which new rows are added. dest, columns, filter, with_indexes, copy_data, refresh_every: as in create_plain; an existing table keeps its rows. control: the column whose values grow. boundary: how far the upper bound stays behind the source''s clock (an interval) or highest value (a number), a delay; 0 where rows show their transaction, else ten minutes or 10. look_back: how far below the position late values are looked for, no delay; ten minutes, or 10,000. batch_limit: rows a transaction, never cutting through one value. blackout: the pause around a change of the clock of control_zone: auto (only for timestamp without time zone), on, off, or hours. start_value: rows above it. null_control: rows without a value are refused, read or ignored. sweep_every: how often to look through the whole table. append_only: no row of the source is ever updated, so that each row is taken exactly once by its transaction, without a key.';

CREATE OR REPLACE FUNCTION roneo.probe_inserter(r roneo.replica, m roneo.inserter_replica)
RETURNS roneo.probe LANGUAGE sql STABLE
RETURN roneo.control_probe(r, ROW(m.*)::roneo.control_replica);
COMMENT ON FUNCTION roneo.probe_inserter(roneo.replica, roneo.inserter_replica) IS 'Phase one: what to ask of the source.';

CREATE OR REPLACE FUNCTION roneo.plan_inserter(r roneo.replica, m roneo.inserter_replica, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT p.* FROM roneo.plan_control(r, ROW(m.*)::roneo.control_replica, answer, false) AS p;
END;
COMMENT ON FUNCTION roneo.plan_inserter(roneo.replica, roneo.inserter_replica, jsonb) IS 'Phase three: nothing, or the rows above the position and the late ones below it.';

CREATE OR REPLACE FUNCTION roneo.finish_inserter(ended roneo.ended[])
RETURNS void LANGUAGE sql
RETURN roneo.finish_control(ended);
COMMENT ON FUNCTION roneo.finish_inserter(roneo.ended[]) IS 'Phase four: the new position.';

CREATE OR REPLACE FUNCTION roneo.remove_inserter(r roneo.replica, m roneo.inserter_replica, keep_table boolean)
RETURNS TABLE (statement text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('DROP TABLE IF EXISTS %I.%I', r.dest_schema, r.dest_name) WHERE NOT keep_table;
END;
COMMENT ON FUNCTION roneo.remove_inserter(roneo.replica, roneo.inserter_replica, boolean) IS 'What is dropped with it: its table, unless it is kept.';

CREATE OR REPLACE FUNCTION roneo.still_inserter(r roneo.replica, m roneo.inserter_replica)
RETURNS text LANGUAGE sql STABLE
RETURN roneo.still_control(r, ROW(m.*)::roneo.control_replica);
COMMENT ON FUNCTION roneo.still_inserter(roneo.replica, roneo.inserter_replica) IS 'What tells that there is nothing to do.';

CREATE OR REPLACE FUNCTION roneo.watched_inserter(r roneo.replica, m roneo.inserter_replica, exact_every interval)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN roneo.watched_control(r, ROW(m.*)::roneo.control_replica, exact_every);
COMMENT ON FUNCTION roneo.watched_inserter(roneo.replica, roneo.inserter_replica, interval) IS 'Until when counters can tell that there is nothing to do.';
-- updater: rows whose control column grew are inserted or overwritten, by key; SELECT on the source is enough.

CREATE OR REPLACE FUNCTION roneo.create_updater(
    source text,
    source_table text,
    dest text DEFAULT NULL,
    columns text[] DEFAULT NULL,
    filter text DEFAULT NULL,
    with_indexes boolean DEFAULT true,
    copy_data boolean DEFAULT true,
    refresh_every interval DEFAULT NULL,
    control text DEFAULT NULL,
    key_columns text[] DEFAULT NULL,
    boundary text DEFAULT NULL,
    look_back text DEFAULT NULL,
    batch_limit bigint DEFAULT NULL,
    blackout text DEFAULT NULL,
    control_zone text DEFAULT NULL,
    start_value text DEFAULT NULL,
    null_control text DEFAULT NULL,
    sweep_every interval DEFAULT NULL)
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wish roneo.control_replica;
BEGIN
    wish.control      := control;
    wish.boundary     := boundary;
    wish.look_back    := look_back;
    wish.batch_limit  := batch_limit;
    wish.blackout     := blackout;
    wish.control_zone := control_zone;
    wish.key_columns  := key_columns::name[];
    wish.append_only  := false;
    wish.null_control := null_control;
    wish.sweep_every  := sweep_every;
    RETURN roneo.register_control(source, source_table, dest, 'updater', columns, filter, with_indexes,
                                  copy_data, refresh_every, wish, start_value);
END;
$$;
COMMENT ON FUNCTION roneo.create_updater(text, text, text, text[], text, boolean, boolean, interval, text, text[], text, text, bigint, text, text, text, text, interval) IS
    'Makes a replica whose rows are inserted or overwritten when their control column grew. dest, columns, filter, with_indexes, copy_data, refresh_every: as in create_plain; an existing table keeps its rows. key_columns: what rows are matched by; the source''s primary key or best unique index by default. control: the column whose values grow. boundary: how far the upper bound stays behind the source''s clock (an interval) or highest value (a number), a delay; 0 where rows show their transaction, else ten minutes or 10. look_back: how far below the position late values are looked for, no delay; ten minutes, or 10,000. batch_limit: rows a transaction, never cutting through one value. blackout: the pause around a change of the clock of control_zone: auto (only for timestamp without time zone), on, off, or hours. start_value: rows above it. null_control: rows without a value are refused, read or ignored. sweep_every: how often to look through the whole table.';

CREATE OR REPLACE FUNCTION roneo.probe_updater(r roneo.replica, m roneo.updater_replica)
RETURNS roneo.probe LANGUAGE sql STABLE
RETURN roneo.control_probe(r, ROW(m.*)::roneo.control_replica);
COMMENT ON FUNCTION roneo.probe_updater(roneo.replica, roneo.updater_replica) IS 'Phase one: what to ask of the source.';

CREATE OR REPLACE FUNCTION roneo.plan_updater(r roneo.replica, m roneo.updater_replica, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT p.* FROM roneo.plan_control(r, ROW(m.*)::roneo.control_replica, answer, true) AS p;
END;
COMMENT ON FUNCTION roneo.plan_updater(roneo.replica, roneo.updater_replica, jsonb) IS 'Phase three: nothing, or the rows above the position and the late ones below it.';

CREATE OR REPLACE FUNCTION roneo.finish_updater(ended roneo.ended[])
RETURNS void LANGUAGE sql
RETURN roneo.finish_control(ended);
COMMENT ON FUNCTION roneo.finish_updater(roneo.ended[]) IS 'Phase four: the new position.';

CREATE OR REPLACE FUNCTION roneo.remove_updater(r roneo.replica, m roneo.updater_replica, keep_table boolean)
RETURNS TABLE (statement text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('DROP TABLE IF EXISTS %I.%I', r.dest_schema, r.dest_name) WHERE NOT keep_table;
END;
COMMENT ON FUNCTION roneo.remove_updater(roneo.replica, roneo.updater_replica, boolean) IS 'What is dropped with it: its table, unless it is kept.';

CREATE OR REPLACE FUNCTION roneo.still_updater(r roneo.replica, m roneo.updater_replica)
RETURNS text LANGUAGE sql STABLE
RETURN roneo.still_control(r, ROW(m.*)::roneo.control_replica);
COMMENT ON FUNCTION roneo.still_updater(roneo.replica, roneo.updater_replica) IS 'What tells that there is nothing to do.';

CREATE OR REPLACE FUNCTION roneo.watched_updater(r roneo.replica, m roneo.updater_replica, exact_every interval)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN roneo.watched_control(r, ROW(m.*)::roneo.control_replica, exact_every);
COMMENT ON FUNCTION roneo.watched_updater(roneo.replica, roneo.updater_replica, interval) IS 'Until when counters can tell that there is nothing to do.';
CREATE OR REPLACE FUNCTION roneo.begin_repull(
    dest regclass, from_value text DEFAULT NULL, to_value text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c          roneo.control_replica;
    first_one  text;
    first_left text;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    SELECT k.* INTO c
    FROM roneo.control_replica AS k
    JOIN roneo.replica AS r USING (replica_id)
    WHERE r.dest = begin_repull.dest;
    IF NOT FOUND THEN
        PERFORM roneo.bad_argument(format('%s follows no control column', dest),
            'Every refresh of a snapshot or plain replica copies it whole: roneo.refresh(…, force => true).');
    END IF;
    PERFORM roneo.lock_replica(c.replica_id, dest::text, 'Ask again when that refresh has ended.');
    BEGIN
        first_one := roneo.settled_value(from_value, c.control_type);
        first_left := roneo.settled_value(to_value, c.control_type);
    EXCEPTION WHEN data_exception THEN
        PERFORM roneo.bad_argument(format('the range from %s to %s is not one of type %s',
            coalesce(quote_literal(from_value), 'the lowest'), coalesce(quote_literal(to_value), 'the highest'), c.control_type),
            'The first value is pulled again, the last one is not.');
    END;
    UPDATE roneo.control_replica AS k
    SET repulling = true, repull_from = first_one, repull_to = first_left
    WHERE k.replica_id = c.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.begin_repull(regclass, text, text) IS
    'Notes that a range is to be pulled again; the next refreshes do it, in chunks, and go on where one was interrupted. from_value is included, to_value is not; NULL: no end on that side.';

CREATE OR REPLACE PROCEDURE roneo.repull(
    dest regclass, from_value text DEFAULT NULL, to_value text DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    done roneo.run;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM roneo.begin_repull(dest, from_value, to_value);
    COMMIT;
    LOOP
        done := roneo.refresh(dest);
        COMMIT;
        IF done.outcome OPERATOR(pg_catalog.<>) 'ok' THEN
            RAISE EXCEPTION USING
                ERRCODE = coalesce(done.sqlstate, 'RO002'),
                MESSAGE = pg_catalog.concat_ws(': ', 'the repull has not come to its end', done.message),
                DETAIL  = coalesce(done.detail, ''),
                HINT    = 'The next refreshes go on with it.';
        END IF;
        EXIT WHEN NOT coalesce(done.has_more, false);
    END LOOP;
END;
$$;
COMMENT ON PROCEDURE roneo.repull(regclass, text, text) IS
    'Makes a range of an inserter or updater equal to its source again: removes the rows here and reads them anew, one transaction a chunk. from_value is included, to_value is not; NULL: no end on that side. A procedure that commits can fix no search_path in its definition; it pins it in its first statement.';

CREATE OR REPLACE FUNCTION roneo.accept_source(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    UPDATE roneo.replica AS r SET identity = NULL WHERE r.dest = accept_source.dest;
    UPDATE roneo.control_replica AS c
    SET horizon = NULL, window_start = NULL, clock = NULL, open_since = '{}', leaves = NULL, swept = NULL
    FROM roneo.replica AS r
    WHERE r.replica_id = c.replica_id AND r.dest = accept_source.dest;
    PERFORM roneo.accept_capture(dest);
END;
$$;
COMMENT ON FUNCTION roneo.accept_source(regclass) IS
    'Takes the source as it is now for the one that the position belongs to: after a promotion that lost nothing, pg_upgrade, or a rewrite. Its rows up to the position count as copied: with a key they are read once more, without one they are not, and what was committed below the position since the last refresh takes a repull of the last hours.';
-- Refresh groups: replicas that are read in one snapshot and written in one transaction.

CREATE OR REPLACE FUNCTION roneo.set_refresh_group(dest regclass, refresh_group text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r       roneo.replica;
    problem text;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    SELECT k.* INTO STRICT r FROM roneo.replica AS k WHERE k.dest = set_refresh_group.dest;
    problem := CASE
        WHEN refresh_group IS NULL THEN NULL
        WHEN btrim(refresh_group) = '' THEN 'a group needs a name'
        WHEN r.method NOT IN ('inserter', 'updater', 'dml', 'logdel')
            THEN format('a %s is emptied or swapped as a whole, and would not wait for the others', r.method)
        WHEN EXISTS (SELECT FROM roneo.control_replica AS c WHERE c.replica_id = r.replica_id AND c.key_columns IS NULL)
            THEN 'an inserter without a key writes its rows while they are read, and its parents may come later'
        WHEN EXISTS (SELECT FROM roneo.control_replica AS c WHERE c.replica_id = r.replica_id AND c.batch_limit IS NOT NULL)
             OR EXISTS (SELECT FROM roneo.capture_replica AS c WHERE c.replica_id = r.replica_id AND c.batch_limit IS NOT NULL)
            THEN 'a batch_limit would cut through what belongs together'
        WHEN EXISTS (SELECT FROM roneo.replica AS k WHERE k.refresh_group = set_refresh_group.refresh_group AND k.source_id <> r.source_id)
            THEN format('group %s is of another source, and a snapshot is of one', quote_literal(refresh_group)) END;
    IF problem IS NOT NULL THEN
        PERFORM roneo.bad_argument(format('%s cannot be part of a group: %s', dest, problem),
            'A group is for replicas of one source with a key: dml, logdel, updater, inserter.');
    END IF;
    PERFORM roneo.require_one_owner(ARRAY(
        SELECT k.dest FROM roneo.replica AS k WHERE k.refresh_group = set_refresh_group.refresh_group OR k.dest = set_refresh_group.dest));
    -- What is refreshed as one begins as one.
    UPDATE roneo.replica AS k SET windows = o.windows, window_text = o.window_text, window_zone = o.window_zone, priority = o.priority
    FROM (SELECT m.* FROM roneo.replica AS m WHERE m.refresh_group = set_refresh_group.refresh_group ORDER BY m.replica_id LIMIT 1) AS o
    WHERE k.replica_id = r.replica_id;
    UPDATE roneo.replica AS k SET refresh_group = set_refresh_group.refresh_group WHERE k.replica_id = r.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.set_refresh_group(regclass, text) IS
    'Makes a replica part of a group, or of none (NULL). A group is refreshed as one: read in one snapshot of the source and committed in one transaction here, removals children first, rows parents first, so that foreign keys among its tables hold at each commit. Whoever refreshes one of it refreshes all, and it is due when one of it is. If one fails or is deferred, none is changed. Windows and priority are the group''s. Raises RO007 for what cannot be part of a group.';
-- What create_dml and create_logdel have in common.

CREATE OR REPLACE FUNCTION roneo.require_capturable(description jsonb, key_columns text[], columns text[], natural_key name[])
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF description #>> '{relation,kind}' NOT IN ('r', 'p') THEN
        PERFORM roneo.bad_argument(
            format('%I.%I is no table, and its changes cannot be captured', description #>> '{relation,schema}', description #>> '{relation,name}'),
            'Triggers are made on tables. Capture the tables it reads, or use a snapshot, inserter or updater.');
    ELSIF description #>> '{relation,persistence}' = 'u' THEN
        PERFORM roneo.bad_argument(
            format('%I.%I is unlogged', description #>> '{relation,schema}', description #>> '{relation,name}'),
            'A crash of the source empties it, and the queue would not know. Use a snapshot.');
    END IF;
    PERFORM roneo.require_key(description, key_columns);
    IF natural_key IS NULL OR NOT natural_key <@ key_columns::name[] THEN
        PERFORM roneo.bad_argument(format('no unique index of the source vouches for the key (%s)', array_to_string(key_columns, ', ')),
            'Changes are replayed by key: it must hold the columns of the primary key, or of a unique index on NOT NULL columns.');
    ELSIF NOT key_columns <@ coalesce(columns, key_columns) THEN
        PERFORM roneo.bad_argument('the list of columns lacks those of the key', 'Add them, or leave the argument out.');
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_capturable(jsonb, text[], text[], name[]) IS
    'Raises RO007 for a source whose changes cannot be captured, or not by that key.';

-- In one statement two rows can swap a unique value only where that is checked at its end; the key
-- itself must not be deferrable, for ON CONFLICT.
CREATE OR REPLACE FUNCTION roneo.replay_indexes(indexes jsonb, key_columns name[], deleted_column name)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(jsonb_agg(CASE
        WHEN NOT (i.index ->> 'unique')::boolean THEN i.index
        -- A key that was deleted can come again, and its old row stays.
        WHEN deleted_column IS NOT NULL THEN i.index || jsonb_build_object('constraint', false, 'primary', false, 'deferrable', false, 'deferred', false,
            'predicate', concat_ws(' AND ', format(CASE WHEN i.index ->> 'predicate' IS NOT NULL THEN '(%s)' END, i.index ->> 'predicate'),
                                   format('%I IS NULL', deleted_column)))
        WHEN i.names @> ARRAY(SELECT quote_ident(k) FROM unnest(key_columns) AS k) AND cardinality(i.names) = cardinality(key_columns)
            THEN i.index || '{"deferrable": false, "deferred": false}'
        WHEN i.index ->> 'predicate' IS NOT NULL OR i.index ->> 'method' <> 'btree' OR i.expressions
             OR NOT roneo.is_plain_key(i.index || '{"constraint": true}') THEN i.index
        ELSE i.index || '{"constraint": true, "deferrable": true}' END ORDER BY i.nr), '[]')
    FROM (
        SELECT x.index, x.nr, ARRAY(SELECT k.key ->> 'text' FROM jsonb_array_elements(x.index -> 'keys') AS k (key)) AS names,
               EXISTS (SELECT FROM jsonb_array_elements(x.index -> 'keys') AS k (key)
                       WHERE k.key ->> 'text' NOT IN (SELECT quote_ident(u) FROM jsonb_array_elements_text(x.index -> 'uses') AS u)) AS expressions
        FROM jsonb_array_elements(indexes) WITH ORDINALITY AS x (index, nr)) AS i
);
COMMENT ON FUNCTION roneo.replay_indexes(jsonb, name[], name) IS
    'The indexes of a source as a table needs them that changes are replayed into: unique ones other than the key deferrable; for logdel only among rows that are not deleted.';

CREATE OR REPLACE FUNCTION roneo.require_replay_index(target regclass, key_columns name[], deleted_column name)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unconditional regclass;
BEGIN
    IF deleted_column IS NULL THEN
        IF NOT roneo.has_arbiter(target, key_columns) THEN
            PERFORM roneo.bad_argument(format('%s has no unique index on (%s)', target, roneo.column_list(key_columns)),
                format('CREATE UNIQUE INDEX ON %s (%s);', target, roneo.column_list(key_columns)));
        END IF;
        RETURN;
    END IF;
    SELECT i.indexrelid INTO unconditional FROM pg_index AS i
    WHERE i.indrelid = target AND i.indisunique AND coalesce(strpos(pg_get_expr(i.indpred, i.indrelid), format('%I IS NULL', deleted_column)), 0) = 0;
    IF NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = target AND a.attname = deleted_column
                                                     AND a.atttypid = 'timestamptz'::regtype AND NOT a.attnotnull) THEN
        PERFORM roneo.bad_argument(format('%s has no column %I for the time of the deletion', target, deleted_column),
            format('ALTER TABLE %s ADD COLUMN %I timestamptz;', target, deleted_column));
    ELSIF FOUND THEN
        PERFORM roneo.bad_argument(format('unique index %s of %s would not let a deleted key come again', unconditional, target),
            format('Make it one of the rows that are there: … WHERE %I IS NULL.', deleted_column));
    ELSIF NOT roneo.has_arbiter(target, key_columns, deleted_column) THEN
        PERFORM roneo.bad_argument(format('%s has no unique index on (%s) of the rows that are not deleted', target, roneo.column_list(key_columns)),
            format('CREATE UNIQUE INDEX ON %s (%s) WHERE %I IS NULL;', target, roneo.column_list(key_columns), deleted_column));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_replay_index(regclass, name[], name) IS
    'Raises RO007 where a table lacks what rows are matched by, with the statement that makes it.';

CREATE OR REPLACE FUNCTION roneo.make_replay_table(
    table_schema name, table_name name, description jsonb, columns text[], with_indexes boolean,
    key_columns name[], deleted_column name)
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target  regclass;
    statement text;
BEGIN
    target := roneo.make_table(table_schema, table_name, description, roneo.described_columns(description, columns), false, true);
    IF deleted_column IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %s ADD COLUMN %I timestamptz', target, deleted_column);
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', target, deleted_column, 'When the row was deleted on the source; NULL: it is there.');
    END IF;
    IF with_indexes THEN
        FOR statement IN
            SELECT i.statement
            FROM roneo.index_statements(table_schema, table_name,
                roneo.replay_indexes(description -> 'indexes', key_columns, deleted_column),
                roneo.column_names(roneo.described_columns(description, columns)), true) AS i
            ORDER BY i.position
        LOOP
            EXECUTE statement;
        END LOOP;
    END IF;
    IF NOT roneo.has_arbiter(target, key_columns, deleted_column) THEN
        EXECUTE concat_ws(' ', format('CREATE UNIQUE INDEX ON %s (%s)', target, roneo.column_list(key_columns)),
                          format(CASE WHEN deleted_column IS NOT NULL THEN 'WHERE %I IS NULL' END, deleted_column));
    END IF;
    RETURN target;
END;
$$;
COMMENT ON FUNCTION roneo.make_replay_table(name, name, jsonb, text[], boolean, name[], name) IS
    'Makes an empty table that changes can be replayed into.';

CREATE OR REPLACE FUNCTION roneo.image_columns(description jsonb, columns text[], filter text)
RETURNS name[] LANGUAGE sql STABLE
RETURN roneo.column_names(roneo.described_columns(description, CASE WHEN filter IS NULL THEN columns END));
COMMENT ON FUNCTION roneo.image_columns(jsonb, text[], text) IS
    'What is kept of deleted rows: the columns that are copied; with a filter all of them, for it may read any.';

CREATE OR REPLACE FUNCTION roneo.register_consumer(
    source_name text, description jsonb, r roneo.replica, c roneo.capture_replica, image name[])
RETURNS roneo.capture_replica LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    link       text := roneo.open_link(source_name);
    registered jsonb;
BEGIN
    c.capture_id := roneo.ensure_capture(link, source_name, description, c.key_columns, image, c.row_level);
    registered := roneo.ask_link(link, roneo.register_query(c.capture_id, r.dest_schema, r.dest_name))::jsonb;
    PERFORM roneo.close_link(link);
    c.consumer_id := registered ->> 'consumer_id';
    c.position := registered ->> 'position';
    c.packs := registered ->> 'packs';
    c.tables := registered -> 'tables';
    RETURN c;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link(link);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.register_consumer(text, jsonb, roneo.replica, roneo.capture_replica, name[]) IS
    'Captures the source and registers this copy there, committed; returns its row with the numbers and the snapshot from which on everything is kept.';

CREATE OR REPLACE FUNCTION roneo.unregister(source_name text, c roneo.capture_replica)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.call_source(source_name, format('SELECT roneo_capture.expire(%L)', c.consumer_id));
    PERFORM roneo.call_source(source_name, format('SELECT roneo_capture.remove(%s)', c.capture_id));
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING USING
        MESSAGE = format('source %s still keeps changes for a copy that was not made: %s', quote_ident(source_name), SQLERRM),
        HINT    = format('On the source: SELECT roneo_capture.expire(%L); SELECT roneo_capture.remove(%s);', c.consumer_id, c.capture_id);
END;
$$;
COMMENT ON FUNCTION roneo.unregister(text, roneo.capture_replica) IS 'Takes back what register_consumer did; where that cannot be, a warning says how.';

CREATE OR REPLACE FUNCTION roneo.register_capture(
    source text, source_table text, dest text, method text, columns text[], filter text, with_indexes boolean,
    copy_data boolean, refresh_every interval, wish roneo.capture_replica)
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    description jsonb := roneo.describe_source(source, source_table, filter);
    natural_key name[] := roneo.natural_key(description, columns);
    place       record;
    target      regclass;
    made        roneo.replica;
BEGIN
    SELECT * INTO place FROM roneo.require_dest_name(dest, description);
    PERFORM roneo.require_columns_exist(columns, description);
    wish.key_columns := coalesce(wish.key_columns, natural_key);
    PERFORM roneo.require_capturable(description, wish.key_columns::text[], columns, natural_key);
    IF wish.batch_limit <= 0 THEN
        PERFORM roneo.bad_argument(format('batch_limit is %s', wish.batch_limit), 'Give the number of keys that one transaction may read, or NULL.');
    END IF;
    target := to_regclass(format('%I.%I', place.place_schema, place.place_name));
    wish.is_fresh := target IS NULL;
    IF wish.is_fresh THEN
        target := roneo.make_replay_table(place.place_schema, place.place_name, description, columns, with_indexes,
                                          wish.key_columns, wish.deleted_column);
    ELSE
        PERFORM roneo.require_adoptable(target, roneo.described_columns(description, columns), columns);
        PERFORM roneo.require_replay_index(target, wish.key_columns, wish.deleted_column);
    END IF;
    made := roneo.new_replica(source, description, target, method, columns, filter, refresh_every);
    wish.replica_id := made.replica_id;
    -- Last, for it is committed over there.
    wish := roneo.register_consumer(source, description, made, wish,
        CASE WHEN wish.deleted_column IS NULL THEN '{}' ELSE roneo.image_columns(description, columns, filter) END);
    BEGIN
        -- A table that others fill has to be filled after this moment; one of ours is filled by a refresh.
        IF copy_data OR wish.is_fresh THEN
            wish.position := NULL;
        END IF;
        INSERT INTO roneo.capture_replica SELECT wish.*;
        IF copy_data THEN
            PERFORM roneo.refresh(made.dest, raise_errors => true);
        END IF;
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        PERFORM roneo.unregister(source, wish);
        RAISE;
    END;
    RETURN made.dest;
END;
$$;
COMMENT ON FUNCTION roneo.register_capture(text, text, text, text, text[], text, boolean, boolean, interval, roneo.capture_replica) IS
    'Registers a dml or logdel replica, whose own arguments are in wish.';
-- SQL that reads a queue on the source: what became visible since a position.

CREATE OR REPLACE FUNCTION roneo.pending_condition(c roneo.capture_replica, cut text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws(' AND ',
    format('q.xid OPERATOR(pg_catalog.>=) %L::pg_catalog.xid8', pg_snapshot_xmin(c.position)),
    format('NOT pg_catalog.pg_visible_in_snapshot(q.xid, %L::pg_catalog.pg_snapshot)', c.position),
    format(CASE WHEN cut IS NOT NULL THEN 'q.xid OPERATOR(pg_catalog.<) %L::pg_catalog.xid8' END, cut));
COMMENT ON FUNCTION roneo.pending_condition(roneo.capture_replica, text) IS
    'True for what is in the queue q and was not seen at the position; cut: only of transactions below this one.';

CREATE OR REPLACE FUNCTION roneo.queue_query(c roneo.capture_replica, what text, cut text, condition text DEFAULT NULL)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT string_agg(format('SELECT %s FROM roneo_capture.queue_%s_%s AS q WHERE %s', what, c.capture_id, s,
                             concat_ws(' AND ', roneo.pending_condition(c, cut), condition)), E'\n    UNION ALL ' ORDER BY s)
    FROM generate_series(0, 2) AS s
);
COMMENT ON FUNCTION roneo.queue_query(roneo.capture_replica, text, text, text) IS 'What is pending in the three segments of a queue.';

CREATE OR REPLACE FUNCTION roneo.key_count(packs boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN packs THEN 'CASE WHEN q.p1 IS NULL THEN 1 ELSE pg_catalog.cardinality(q.p1) END' ELSE '1' END;
COMMENT ON FUNCTION roneo.key_count(boolean) IS 'SQL for the number of keys in one row of the queue.';

CREATE OR REPLACE FUNCTION roneo.fresh_tables(c roneo.capture_replica, answer jsonb)
RETURNS oid[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(
    SELECT n.key::oid
    FROM jsonb_each(answer #> '{inside,capture,tables}') AS n
    WHERE NOT c.tables ? n.key AND n.value ->> 'file' IS NOT NULL
    ORDER BY 1);
COMMENT ON FUNCTION roneo.fresh_tables(roneo.capture_replica, jsonb) IS
    'Partitions and children that were not there at the position: they may have been filled before they came.';

-- Which keys, one row each however often they changed, in their order: the rows are then looked up in
-- the order of the index, page by page. One key becomes an array of one, for a function in FROM would
-- cost more for each row of the queue.
CREATE OR REPLACE FUNCTION roneo.keys_query(r roneo.replica, c roneo.capture_replica, answer jsonb, cut text)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT format(E'SELECT DISTINCT %1$s FROM (\n    %2$s) AS d ORDER BY %1$s', k.names, concat_ws(E'\n    UNION ALL ',
        (SELECT string_agg(format('SELECT %s FROM roneo_capture.queue_%s_%s AS q WHERE %s', k.found, c.capture_id, s,
             concat_ws(' AND ', roneo.pending_condition(c, cut), 'q.op IS DISTINCT FROM ''r'' AND q.op IS DISTINCT FROM ''t''')),
             E'\n    UNION ALL ' ORDER BY s)
         FROM generate_series(0, 2) AS s),
        (SELECT string_agg(format('SELECT %s FROM %s AS t WHERE t.tableoid OPERATOR(pg_catalog.=) %s::pg_catalog.oid%s', k.columns, roneo.source_name_of(r), f.leaf,
                    format(' AND (%s)', answer #>> ARRAY['inside', 'capture', 'tables', f.leaf::text, 'bounds'])), E'\n    UNION ALL ' ORDER BY f.leaf)
         FROM unnest(roneo.fresh_tables(c, answer)) AS f (leaf))))
    FROM (SELECT string_agg(format('k%s', n.nr), ', ' ORDER BY n.nr) AS names,
                 string_agg(format(CASE WHEN c.packs THEN 'pg_catalog.unnest(coalesce(q.p%1$s, ARRAY[q.k%1$s])) AS k%1$s' ELSE 'q.k%s' END, n.nr),
                            ', ' ORDER BY n.nr) AS found,
                 string_agg(format('t.%I', n.name), ', ' ORDER BY n.nr) AS columns
          FROM unnest(c.key_columns) WITH ORDINALITY AS n (name, nr)) AS k
);
COMMENT ON FUNCTION roneo.keys_query(roneo.replica, roneo.capture_replica, jsonb, text) IS
    'SQL for the keys that changed since the position, as k1, k2 and so on, and those of all rows of tables that are new in the tree.';

CREATE OR REPLACE FUNCTION roneo.source_rows(r roneo.replica)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN r.filter IS NULL THEN '%1$I.%2$I' ELSE E'(SELECT * FROM %1$I.%2$I WHERE (%3$s\n))' END,
              r.source_schema, r.source_table, r.filter);
COMMENT ON FUNCTION roneo.source_rows(roneo.replica) IS 'The rows of the source that are copied, for a FROM clause.';

-- A batch reads rows as they are now, and so finds rows gone that only a later one buries with their
-- last values: until then they stay.
CREATE OR REPLACE FUNCTION roneo.buried_later(c roneo.capture_replica, answer jsonb, cut text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN c.deleted_column IS NOT NULL AND cut IS NOT NULL THEN (
    SELECT format(E'\nLEFT JOIN (SELECT DISTINCT %s FROM (\n    %s) AS d) AS later ON %s', k.names,
                  roneo.queue_query(c, k.names, NULL, format('q.op OPERATOR(pg_catalog.=) ''d'' AND q.xid OPERATOR(pg_catalog.>=) %L::pg_catalog.xid8', cut)),
                  k.matched)
    FROM (SELECT string_agg(format('k%s', n.nr), ', ' ORDER BY n.nr) AS names,
                 string_agg(format('later.k%1$s %2$s k.k%1$s', n.nr, answer #>> ARRAY['inside', 'capture', 'equality', (n.nr - 1)::text]),
                            ' AND ' ORDER BY n.nr) AS matched
          FROM unnest(c.key_columns) WITH ORDINALITY AS n (name, nr)) AS k) END;
COMMENT ON FUNCTION roneo.buried_later(roneo.capture_replica, jsonb, text) IS
    'For a batch of logdel: a join with the keys whose rows are deleted by transactions behind it; else NULL.';

-- No match: the row is gone, or has left the filter.
CREATE OR REPLACE FUNCTION roneo.changed_rows(r roneo.replica, c roneo.capture_replica, wanted jsonb, answer jsonb, cut text)
RETURNS text LANGUAGE sql STABLE
RETURN format(E'(SELECT %1$s, t.%2$I IS NULL AS roneo_gone\nFROM (%3$s) AS k\nLEFT JOIN %4$s AS t ON %5$s%6$s%7$s)',
    (SELECT string_agg(CASE WHEN n.nr IS NULL THEN format('t.%I', w.col ->> 'name')
                            ELSE format('coalesce(t.%1$I, k.k%2$s) AS %1$I', w.col ->> 'name', n.nr) END, ', ' ORDER BY w.place)
     FROM jsonb_array_elements(wanted) WITH ORDINALITY AS w (col, place)
     LEFT JOIN unnest(c.key_columns) WITH ORDINALITY AS n (name, nr) ON n.name = w.col ->> 'name'),
    c.key_columns[1],
    roneo.keys_query(r, c, answer, cut),
    roneo.source_rows(r),
    (SELECT string_agg(format('t.%I %s k.k%s', n.name, answer #>> ARRAY['inside', 'capture', 'equality', (n.nr - 1)::text], n.nr), ' AND ' ORDER BY n.nr)
     FROM unnest(c.key_columns) WITH ORDINALITY AS n (name, nr)),
    roneo.buried_later(c, answer, cut),
    format(CASE WHEN roneo.buried_later(c, answer, cut) IS NOT NULL THEN E'\nWHERE t.%I IS NOT NULL OR later.k1 IS NULL' END, c.key_columns[1]));
COMMENT ON FUNCTION roneo.changed_rows(roneo.replica, roneo.capture_replica, jsonb, jsonb, text) IS
    'SQL for the keys that changed, each with its row as it is now, or with roneo_gone.';

CREATE OR REPLACE FUNCTION roneo.deleted_rows(r roneo.replica, c roneo.capture_replica, wanted jsonb, answer jsonb, cut text)
RETURNS text LANGUAGE sql STABLE
RETURN format(E'(SELECT %s FROM (\n    %s) AS old%s)',
    concat_ws(', ', roneo.column_list(roneo.column_names(wanted)), 'roneo_at'),
    roneo.queue_query(c, concat_ws(', ', (
        SELECT string_agg(format('q.i%s AS %I', i.nr, i.name), ', ' ORDER BY i.nr)
        FROM jsonb_array_elements_text(answer #> '{inside,capture,image_columns}') WITH ORDINALITY AS i (name, nr)
        -- Others may have more kept, which this role may not read.
        WHERE EXISTS (SELECT FROM jsonb_array_elements(CASE WHEN r.filter IS NULL THEN wanted ELSE answer #> '{inside,relation,columns}' END) AS w (col)
                      WHERE w.col ->> 'name' = i.name AND (w.col ->> 'readable')::boolean)), 'q.at AS roneo_at'),
        cut, 'q.op OPERATOR(pg_catalog.=) ''d'''),
    format(CASE WHEN r.filter IS NOT NULL THEN E' WHERE (%s\n)' END, r.filter));
COMMENT ON FUNCTION roneo.deleted_rows(roneo.replica, roneo.capture_replica, jsonb, jsonb, text) IS
    'SQL for the last images of rows that were deleted since the position.';

-- A batch ends between two transactions, but brings rows as they are now. So one of its rows may have
-- a unique value, or a parent, that only a row behind the batch gives up, or is.
CREATE OR REPLACE FUNCTION roneo.usable_batch_limit(target regclass, c roneo.capture_replica)
RETURNS bigint LANGUAGE sql STABLE
RETURN CASE WHEN NOT EXISTS (
        SELECT FROM pg_index AS i
        WHERE i.indrelid = target AND (i.indisunique OR i.indisexclusion)
          AND (i.indnkeyatts <> cardinality(c.key_columns)
               OR EXISTS (SELECT FROM generate_series(0, i.indnkeyatts - 1) AS n
                          LEFT JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = i.indkey[n]
                          WHERE (a.attname = ANY (c.key_columns)) IS NOT TRUE)))
    AND NOT EXISTS (SELECT FROM pg_constraint AS f WHERE f.contype = 'f' AND f.conrelid = target AND f.confrelid = target)
    THEN c.batch_limit END;
COMMENT ON FUNCTION roneo.usable_batch_limit(regclass, roneo.capture_replica) IS
    'The batch_limit of a replica; NULL where its table has unique indexes other than its key, or references itself: there everything that is pending must come at once.';

CREATE OR REPLACE FUNCTION roneo.pending_query(c roneo.capture_replica, batch_limit bigint)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN c.position IS NULL THEN '''{}''::pg_catalog.jsonb'
    ELSE format($query$(SELECT pg_catalog.jsonb_build_object(
        'keys', coalesce(pg_catalog.sum(p.keys), 0),
        'resyncs', pg_catalog.count(*) FILTER (WHERE p.op = 'r'),
        'truncates', pg_catalog.count(*) FILTER (WHERE p.op = 't'),
        'deletes', pg_catalog.count(*) FILTER (WHERE p.op = 'd'),
        'last', (SELECT l.xid::text FROM (%3$s) AS l ORDER BY l.xid DESC LIMIT 1),
        'cut', %2$s)
    FROM (%1$s) AS p)$query$,
        roneo.queue_query(c, format('q.op, %s AS keys', roneo.key_count(c.packs)), NULL),
        -- Whole transactions, in the order of their numbers; what the position has seen must stay seen.
        CASE WHEN batch_limit IS NULL THEN 'NULL' ELSE format($cut$(
            SELECT b.xid::text FROM (
                SELECT a.xid, pg_catalog.sum(a.keys) OVER (ORDER BY a.xid) - a.keys AS before
                FROM (SELECT x.xid, pg_catalog.sum(x.keys) AS keys FROM (%s) AS x GROUP BY x.xid) AS a) AS b
            WHERE b.before < %s ORDER BY b.xid DESC LIMIT 1)$cut$,
            roneo.queue_query(c, format('q.xid, %s AS keys', roneo.key_count(c.packs)), NULL), batch_limit) END,
        roneo.queue_query(c, 'q.xid', NULL))
    END;
COMMENT ON FUNCTION roneo.pending_query(roneo.capture_replica, bigint) IS
    'SQL for how much is pending: keys, marks, deletions that were kept, and with a batch_limit the last transaction of this batch.';
-- What a replica that is fed from a capture asks of its source, and when it believes the answer.

-- Not the position of a transaction that may still be rolled back: what the source hears of, it
-- gives away.
CREATE OR REPLACE FUNCTION roneo.told_position(c roneo.capture_replica)
RETURNS pg_snapshot LANGUAGE sql STABLE
RETURN CASE WHEN (c.written_by = pg_current_xact_id_if_assigned()) IS NOT TRUE THEN c.position END;
COMMENT ON FUNCTION roneo.told_position(roneo.capture_replica) IS 'The position that is committed here; NULL where it is not.';

CREATE OR REPLACE FUNCTION roneo.attend_query(c roneo.capture_replica, told pg_snapshot, told_before pg_snapshot)
RETURNS text LANGUAGE sql STABLE
RETURN format('roneo_capture.attend(%L::pg_catalog.uuid, %L, %L, %L)', c.consumer_id, roneo.dest_identity(), told, told_before);
COMMENT ON FUNCTION roneo.attend_query(roneo.capture_replica, pg_snapshot, pg_snapshot) IS
    'SQL that tells the source how far this copy has got, and what it was told before, which it must remember.';

-- The address at its end is that of this connection, and changes with it.
CREATE OR REPLACE FUNCTION roneo.readdress_query(r roneo.replica, c roneo.capture_replica)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT format('(SELECT roneo_capture.readdress(u.consumer_id, u.dest_identity, %L) FROM roneo_capture.consumer AS u '
                  'WHERE u.consumer_id = %L AND u.dest_identity = %L AND pg_catalog.left(u.destination || '' '', %s) <> %L)',
                  roneo.dest_label(r.dest_schema, r.dest_name), c.consumer_id, roneo.dest_identity(), length(n.name), n.name)
    FROM format('%I.%I of database %I ', r.dest_schema, r.dest_name, current_database()) AS n (name)
);
COMMENT ON FUNCTION roneo.readdress_query(roneo.replica, roneo.capture_replica) IS
    'SQL that tells the source how a copy is called, where it was renamed.';

-- On a standby nothing is told: it could not be written there, and is refused by the plan.
CREATE OR REPLACE FUNCTION roneo.probe_capture(r roneo.replica, c roneo.capture_replica)
RETURNS roneo.probe LANGUAGE sql STABLE
RETURN ROW(
    format('SELECT pg_catalog.jsonb_build_object(''identity'', %s, ''state'', %s, ''attended'', %s)', roneo.identity_query(),
           roneo.state_of(roneo.source_regclass(r)),
           CASE WHEN c.position IS NOT NULL AND roneo.told_position(c) IS NULL THEN '''{"fate": "known"}''::pg_catalog.jsonb'
                ELSE format('CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN %s || pg_catalog.jsonb_build_object(''renamed'', %s) END',
                       roneo.attend_query(c, roneo.told_position(c), c.confirmed), roneo.readdress_query(r, c)) END),
    CASE WHEN r.source_lockable THEN format('LOCK TABLE %s IN ACCESS SHARE MODE', roneo.source_name_of(r)) END,
    format('SELECT pg_catalog.jsonb_build_object(''relation'', (%s), ''snapshot'', pg_catalog.pg_current_snapshot()::text, '
           '''lsn'', CASE WHEN NOT pg_catalog.pg_is_in_recovery() AND pg_catalog.current_setting(''synchronous_commit'') = ''off'' THEN pg_catalog.pg_current_wal_insert_lsn() END, '
           '''capture'', roneo_capture.describe(%s), ''pending'', %s)',
           roneo.relation_query(roneo.source_regclass(r)), c.capture_id, roneo.pending_query(c, roneo.usable_batch_limit(r.dest, c)))
)::roneo.probe;
COMMENT ON FUNCTION roneo.probe_capture(roneo.replica, roneo.capture_replica) IS
    'What to ask: first the identity, and to tell the position; inside the snapshot the state of the capture and how much is pending.';

CREATE OR REPLACE FUNCTION roneo.refuse_position(r roneo.replica, problem text, advice text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dest text := format('%I.%I', r.dest_schema, r.dest_name);
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'RO025',
        MESSAGE = format('the changes of %s cannot be continued: %s', dest, problem),
        DETAIL  = 'Changes may be missing between the copy and the queue. Nothing was changed.',
        HINT    = coalesce(format(advice, dest), format('SELECT roneo.resync(%L): the next refresh compares the whole table.', dest));
END;
$$;
COMMENT ON FUNCTION roneo.refuse_position(roneo.replica, text, text) IS 'Raises RO025: what was captured does not join what is here.';

CREATE OR REPLACE FUNCTION roneo.require_capture(r roneo.replica, c roneo.capture_replica, answer jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    capture jsonb := nullif(answer #> '{inside,capture}', 'null');
    dest    text := format('%I.%I', r.dest_schema, r.dest_name);
    problem text;
BEGIN
    problem := CASE
        WHEN (answer #>> '{before,identity,in_recovery}')::boolean THEN 'the source is a standby, whose snapshots do not show which transactions are open'
        WHEN capture IS NULL THEN format('capture %s is not there any more', c.capture_id)
        WHEN (capture ->> 'relation')::oid IS DISTINCT FROM (answer #>> '{inside,relation,oid}')::oid THEN 'what is captured is another table of that name'
        ELSE capture ->> 'problem' END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO024',
            MESSAGE = format('changes of source table %s are not captured: %s', roneo.source_name_of(r), problem),
            DETAIL  = 'What changed since then is not in the queue, and so nothing was changed here.',
            HINT    = CASE WHEN (answer #>> '{before,identity,in_recovery}')::boolean THEN 'Point the source at the primary.'
                           ELSE format('SELECT roneo.resync(%L) mends the capture, and the next refresh compares the whole table.', dest) END;
    ELSIF capture ->> 'state' <> 'running' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO026',
            MESSAGE = format('the capture of source table %s is %s since %s', roneo.source_name_of(r), capture ->> 'state',
                             to_char((capture ->> 'since')::timestamptz, 'YYYY-MM-DD HH24:MI TZ')),
            DETAIL  = CASE capture ->> 'state' WHEN 'paused' THEN 'Somebody has paused it, and changes are not recorded.'
                           WHEN 'stopped' THEN 'Its queue had grown to its limit, because a copy was not refreshed.'
                           ELSE 'It waits for the end of transactions that write to the table.' END,
            HINT    = CASE capture ->> 'state' WHEN 'paused' THEN format('SELECT roneo.resume_capture(%L) when the change is done.', dest)
                           ELSE 'The next refreshes start it again, and compare the whole table.' END;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_capture(roneo.replica, roneo.capture_replica, jsonb) IS
    'Raises RO024 where changes of the source are not captured, and RO026 (deferred) while they are not yet, or not for now.';

-- What vouches for the rows between the position and now: the same consumer, the same triggers.
CREATE OR REPLACE FUNCTION roneo.require_position(r roneo.replica, c roneo.capture_replica, answer jsonb)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fate   text := answer #>> '{before,attended,fate}';
    gone   text;
    marked boolean := (answer #>> '{inside,pending,resyncs}')::bigint > 0;
BEGIN
    IF fate <> 'known' AND (c.position IS NOT NULL OR fate IN ('expired', 'stranger')) THEN
        PERFORM roneo.refuse_position(r, CASE fate
            WHEN 'expired' THEN 'the source has forgotten this copy, and emptied the queue'
            WHEN 'stranger' THEN format('the source knows %s by its number', answer #>> '{before,attended,destination}')
            WHEN 'ahead' THEN 'the source has gone back behind the position, as a restored one has'
            -- Its transactions may be newer by now, and its log longer, than the position knows.
            WHEN 'forgetful' THEN 'the source does not remember what it was told, as a restored one does not'
            ELSE 'the copy has gone back behind what it had confirmed, as a restored one has' END,
            CASE fate WHEN 'stranger' THEN 'If this is that copy, moved here: SELECT roneo.accept_source(%1$L). Else SELECT roneo.resync(%1$L): the next refresh compares the whole table.' END);
    ELSIF c.position IS NULL OR marked THEN
        RETURN;
    END IF;
    SELECT k.value ->> 'name' INTO gone
    FROM jsonb_each(c.tables) AS k
    WHERE answer #> ARRAY['inside', 'capture', 'tables', k.key] IS NULL AND NOT k.value ? 'accepted'
    LIMIT 1;
    IF FOUND THEN
        PERFORM roneo.refuse_position(r, format('%s is no longer part of the source table', gone),
            'SELECT roneo.accept_source(%1$L) keeps its rows here; SELECT roneo.resync(%1$L) removes them: the next refresh compares the whole table.');
    END IF;
    SELECT k.value ->> 'name' INTO gone
    FROM jsonb_each(c.tables) AS k
    -- More of them is well: a partition that came later has got its own for TRUNCATE.
    WHERE NOT coalesce(answer #> ARRAY['inside', 'capture', 'tables', k.key, 'triggers'] @> nullif(k.value -> 'triggers', 'null'), true)
      AND NOT k.value ? 'accepted'
    LIMIT 1;
    IF FOUND THEN
        PERFORM roneo.refuse_position(r, format('the triggers of %s on the source were disabled or made anew meanwhile', gone));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_position(roneo.replica, roneo.capture_replica, jsonb) IS
    'Raises RO025 where something between the position and now cannot have been captured.';
-- Putting what a capture brought: rows by key, and deletions.

-- A key without a row has NULL for the other columns, which a domain may refuse.
CREATE OR REPLACE FUNCTION roneo.bare_columns(target regclass, columns name[], alias text)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT string_agg(concat(alias, format('%I', c.name), format(CASE WHEN t.typtype = 'd' THEN '::%s' END, format_type(roneo.base_type(t.oid), -1)),
                             CASE WHEN alias = '' AND t.typtype = 'd' THEN format(' AS %I', c.name) END), ', ' ORDER BY c.nr)
    FROM unnest(columns) WITH ORDINALITY AS c (name, nr)
    JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = c.name AND NOT a.attisdropped
    JOIN pg_type AS t ON t.oid = a.atttypid
);
COMMENT ON FUNCTION roneo.bare_columns(regclass, name[], text) IS
    'Columns of a table by alias (with its dot, or empty), those of domains as the types under them.';

CREATE OR REPLACE FUNCTION roneo.image_of(target regclass, columns name[], alias text)
RETURNS text LANGUAGE sql STABLE
RETURN format('ROW(%s)::record', roneo.bare_columns(target, columns, concat(alias, '.')));
COMMENT ON FUNCTION roneo.image_of(regclass, name[], text) IS 'Some columns of a row as a record, whose image can be compared.';

CREATE OR REPLACE FUNCTION roneo.live_condition(c roneo.capture_replica, alias text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN c.deleted_column IS NOT NULL THEN ' AND %s.%I IS NULL' END, alias, c.deleted_column);
COMMENT ON FUNCTION roneo.live_condition(roneo.capture_replica, text) IS 'For logdel: true for a row that is not deleted; NULL for dml.';

-- Columns that unique indexes use, other than the key's own and those that are checked at the end
-- of the statement.
CREATE OR REPLACE FUNCTION roneo.clashing_columns(target regclass, key_columns name[])
RETURNS name[] LANGUAGE sql STABLE
RETURN ARRAY(
    SELECT DISTINCT a.attname
    FROM pg_index AS i
    JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = target AND d.refobjsubid > 0
    JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = d.refobjsubid
    WHERE i.indrelid = target AND (i.indisunique OR i.indisexclusion) AND i.indimmediate
      AND a.attname <> ALL (key_columns)
    ORDER BY 1
);
COMMENT ON FUNCTION roneo.clashing_columns(regclass, name[]) IS
    'Columns in which one row of a batch may take over the unique value of another before that one is written.';

CREATE OR REPLACE FUNCTION roneo.is_referenced(target regclass)
RETURNS boolean LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM pg_constraint AS f WHERE f.contype = 'f' AND f.confrelid = target);
COMMENT ON FUNCTION roneo.is_referenced(regclass) IS 'Whether foreign keys point at a table.';

-- A row that others reference is never taken away to be put back: its children would go, or refuse.
CREATE OR REPLACE FUNCTION roneo.clash_steps(r roneo.replica, c roneo.capture_replica, columns name[])
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.*
    FROM (SELECT ARRAY(SELECT x FROM unnest(roneo.clashing_columns(r.dest, c.key_columns)) AS x WHERE x = ANY (columns)) AS columns) AS u
    CROSS JOIN LATERAL roneo.dest_step(3, 'take out rows whose unique values change', format(
        'DELETE FROM %I.%I AS kept USING pg_temp.%I AS arrived WHERE %s%s AND %s OPERATOR(pg_catalog.*<>) %s',
        r.dest_schema, r.dest_name, roneo.staging_name(r), roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived'),
        roneo.live_condition(c, 'kept'), roneo.image_of(r.dest, u.columns, 'kept'), roneo.image_of(r.dest, u.columns, 'arrived'))) AS s
    WHERE u.columns <> '{}' AND NOT roneo.is_referenced(r.dest);
END;
COMMENT ON FUNCTION roneo.clash_steps(roneo.replica, roneo.capture_replica, name[]) IS
    'A step that makes room where two rows swap values of a unique index that is checked at once; none where foreign keys point here.';

CREATE OR REPLACE FUNCTION roneo.differs_condition(r roneo.replica, c roneo.capture_replica, columns name[])
RETURNS text LANGUAGE sql STABLE
RETURN format('NOT EXISTS (SELECT FROM %I.%I AS present WHERE %s%s AND %s OPERATOR(pg_catalog.*=) %s)',
    r.dest_schema, r.dest_name, roneo.same_key(r.dest, c.key_columns, 'present', 'arrived'), roneo.live_condition(c, 'present'),
    roneo.image_of(r.dest, columns, 'present'), roneo.image_of(r.dest, columns, 'arrived'));
COMMENT ON FUNCTION roneo.differs_condition(roneo.replica, roneo.capture_replica, name[]) IS
    'True for what arrived and is not there already just so: where most of it is, that is cheaper than to put it.';

CREATE OR REPLACE FUNCTION roneo.put_changed_statement(r roneo.replica, c roneo.capture_replica, columns name[], wanted text)
RETURNS text LANGUAGE sql STABLE
RETURN format(E'INSERT INTO %1$I.%2$I AS kept (%3$s) OVERRIDING SYSTEM VALUE\n    SELECT %3$s FROM pg_temp.%4$I AS arrived%5$s\n    ON CONFLICT (%6$s)%7$s DO %8$s',
    r.dest_schema, r.dest_name, roneo.column_list(columns), roneo.staging_name(r),
    format(E'\n    WHERE %s', wanted),
    roneo.column_list(c.key_columns),
    format(CASE WHEN c.deleted_column IS NOT NULL THEN ' WHERE %I IS NULL' END, c.deleted_column),
    (SELECT CASE WHEN s.columns = '{}' THEN 'NOTHING' ELSE format('UPDATE SET %s WHERE %s OPERATOR(pg_catalog.*<>) %s',
         (SELECT string_agg(format('%1$I = excluded.%1$I', k), ', ') FROM unnest(s.columns) AS k),
         roneo.image_of(r.dest, columns, 'kept'), roneo.image_of(r.dest, columns, 'excluded')) END
     FROM (SELECT roneo.settable_columns(r.dest, columns) AS columns) AS s));
COMMENT ON FUNCTION roneo.put_changed_statement(roneo.replica, roneo.capture_replica, name[], text) IS
    'An INSERT of what arrived and is wanted, by key.';

-- A row that was inserted has no xmax; a partitioned table does not show it.
CREATE OR REPLACE FUNCTION roneo.put_changed_step(r roneo.replica, c roneo.capture_replica, columns name[], wanted text)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN (
    SELECT ROW(4, 'dest', 'insert what is new, update what differs',
        CASE WHEN t.relkind = 'p' THEN format(
            E'WITH put AS (\n    %s\n    RETURNING true\n)\nSELECT pg_catalog.jsonb_build_object(''inserted'', least(n.missing, p.n), ''updated'', p.n - least(n.missing, p.n)) AS counts\n'
            'FROM (SELECT pg_catalog.count(*) AS n FROM put) AS p, (SELECT pg_catalog.count(*) AS missing FROM pg_temp.%I AS arrived WHERE %s AND NOT EXISTS (SELECT FROM %I.%I AS kept WHERE %s%s)) AS n',
            x.statement, roneo.staging_name(r), wanted, r.dest_schema, r.dest_name,
            roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived'), roneo.live_condition(c, 'kept'))
        ELSE format(
            E'WITH put AS (\n    %s\n    RETURNING (kept.xmax = 0) AS is_new\n)\nSELECT pg_catalog.jsonb_build_object(''inserted'', pg_catalog.count(*) FILTER (WHERE is_new),\n'
            '                                     ''updated'', pg_catalog.count(*) FILTER (WHERE NOT is_new)) AS counts FROM put', x.statement) END,
        NULL, NULL, NULL, NULL, NULL, 'put', false)::roneo.step
    FROM pg_class AS t, (SELECT roneo.put_changed_statement(r, c, columns, wanted) AS statement) AS x
    WHERE t.oid = r.dest
);
COMMENT ON FUNCTION roneo.put_changed_step(roneo.replica, roneo.capture_replica, name[], text) IS
    'The step that puts what arrived, and answers with how many rows it inserted and updated.';

CREATE OR REPLACE FUNCTION roneo.counting_step(stage integer, purpose text, statement text, counts text)
RETURNS roneo.step LANGUAGE sql IMMUTABLE
RETURN ROW(stage, 'dest', purpose, statement, NULL, NULL, NULL, NULL, NULL, counts, false)::roneo.step;
COMMENT ON FUNCTION roneo.counting_step(integer, text, text, text) IS 'A step on the destination whose number of rows is counted as something.';

-- A key of a parent that changed is there twice for a moment, so that its children can follow; for
-- that unique values must be checked at the end.
CREATE OR REPLACE FUNCTION roneo.removes_later(r roneo.replica, c roneo.capture_replica)
RETURNS boolean LANGUAGE sql STABLE
RETURN roneo.is_referenced(r.dest) AND roneo.clashing_columns(r.dest, c.key_columns) = '{}';
COMMENT ON FUNCTION roneo.removes_later(roneo.replica, roneo.capture_replica) IS
    'Whether rows that are gone are removed after the others were put: foreign keys point at the table.';

-- gone: a condition on the table kept for rows that the source has no more.
CREATE OR REPLACE FUNCTION roneo.remove_gone_step(r roneo.replica, c roneo.capture_replica, answer jsonb, using_rows text, gone text)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN CASE WHEN c.deleted_column IS NULL
    THEN roneo.counting_step(CASE WHEN roneo.removes_later(r, c) THEN 5 ELSE 3 END, 'delete what is gone', format('DELETE FROM %I.%I AS kept%s WHERE %s',
             r.dest_schema, r.dest_name, format(CASE WHEN using_rows IS NOT NULL THEN ' USING %s' END, using_rows), gone), 'deleted')
    ELSE roneo.counting_step(3, 'stamp what is gone', format('UPDATE %I.%I AS kept SET %I = %L::pg_catalog.timestamptz%s WHERE %s%s',
             r.dest_schema, r.dest_name, c.deleted_column, answer #>> '{before,identity,clock}', format(CASE WHEN using_rows IS NOT NULL THEN ' FROM %s' END, using_rows), gone,
             roneo.live_condition(c, 'kept')), 'deleted') END;
COMMENT ON FUNCTION roneo.remove_gone_step(roneo.replica, roneo.capture_replica, jsonb, text, text) IS
    'A step that deletes rows, or for logdel stamps them with the time of the source.';

-- The number of rows that went does not tell: one that was to go could have been gone already.
CREATE OR REPLACE FUNCTION roneo.undeleted_steps(r roneo.replica, c roneo.capture_replica, using_rows text, gone text)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.*
    FROM roneo.dest_step(5, 'see that no trigger kept a row in', format('DO %L', format(
        'BEGIN IF EXISTS (SELECT FROM %I.%I AS kept%s WHERE %s) THEN '
        'RAISE EXCEPTION USING ERRCODE = ''RO014'', MESSAGE = ''rows that are gone from the source are still in the destination'', '
        'HINT = ''Look for a trigger on the destination that prevents deletions.''; END IF; END',
        r.dest_schema, r.dest_name, format(CASE WHEN using_rows IS NOT NULL THEN ', %s' END, using_rows), gone))) AS s
    -- Before each row, at DELETE.
    WHERE c.deleted_column IS NULL
      AND EXISTS (SELECT FROM pg_trigger AS t
                  WHERE (t.tgrelid = r.dest OR t.tgrelid IN (SELECT p.relid FROM pg_partition_tree(r.dest) AS p))
                    AND t.tgtype & 11 = 11 AND t.tgenabled <> 'D');
END;
COMMENT ON FUNCTION roneo.undeleted_steps(roneo.replica, roneo.capture_replica, text, text) IS
    'A step that raises RO014 where rows were to be deleted and are still there; none for a table without a trigger that could do that.';

CREATE OR REPLACE FUNCTION roneo.graves_name(r roneo.replica)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('roneo_deleted_%s', r.replica_id);
COMMENT ON FUNCTION roneo.graves_name(roneo.replica) IS 'The temporary table that the last images of deleted rows arrive in.';

-- The row that is here becomes the first of the deleted ones of its key; a key that was deleted
-- more than once since the position has the others added.
CREATE OR REPLACE FUNCTION roneo.bury_steps(r roneo.replica, c roneo.capture_replica, columns name[])
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.*
    FROM (VALUES (1, roneo.counting_step(3, 'stamp deleted rows, with their last values', format(
            'UPDATE %1$I.%2$I AS kept SET %3$s FROM (SELECT DISTINCT ON (%4$s) * FROM pg_temp.%5$I ORDER BY %4$s, roneo_at) AS arrived WHERE %6$s%7$s',
            r.dest_schema, r.dest_name, concat_ws(', ',
                (SELECT string_agg(format('%1$I = arrived.%1$I', k), ', ') FROM unnest(roneo.settable_columns(r.dest, columns)) AS k),
                format('%I = arrived.roneo_at', c.deleted_column)),
            roneo.column_list(c.key_columns), roneo.graves_name(r),
            roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived'), roneo.live_condition(c, 'kept')), 'deleted')),
        (2, roneo.counting_step(3, 'add rows that came and went meanwhile', format(
            'INSERT INTO %1$I.%2$I (%3$s, %4$I) OVERRIDING SYSTEM VALUE SELECT %3$s, arrived.roneo_at FROM pg_temp.%5$I AS arrived '
            'WHERE NOT EXISTS (SELECT FROM %1$I.%2$I AS kept WHERE %6$s AND kept.%4$I = arrived.roneo_at)',
            r.dest_schema, r.dest_name, roneo.column_list(columns), c.deleted_column, roneo.graves_name(r),
            roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived')), 'deleted'))) AS v (nr, step)
    CROSS JOIN LATERAL (SELECT (v.step).*) AS s
    ORDER BY v.nr;
END;
COMMENT ON FUNCTION roneo.bury_steps(roneo.replica, roneo.capture_replica, name[]) IS 'Steps of logdel for rows that were deleted with their last images.';
-- How a replica that is fed from a capture turns an answer into steps.

-- The last transaction of the batch is in it; what the position has seen stays seen.
CREATE OR REPLACE FUNCTION roneo.cut_of(c roneo.capture_replica, answer jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN (answer #>> '{inside,pending,cut}')::numeric < (answer #>> '{inside,pending,last}')::numeric
    THEN greatest((answer #>> '{inside,pending,cut}')::numeric + 1, pg_snapshot_xmax(c.position)::text::numeric)::text END;
COMMENT ON FUNCTION roneo.cut_of(roneo.capture_replica, jsonb) IS
    'The transaction of the source before which this batch ends; NULL: it takes all.';

-- What reads the table as it is now has the deletions behind a batch too: they are buried with it, or they
-- would be once more by the next one.
CREATE OR REPLACE FUNCTION roneo.without_cut(answer jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN answer #- '{inside,pending,cut}';
COMMENT ON FUNCTION roneo.without_cut(jsonb) IS 'An answer that takes everything that is pending.';

CREATE OR REPLACE FUNCTION roneo.snapshot_before(whole pg_snapshot, cut text)
RETURNS pg_snapshot LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE WHEN cut IS NULL OR cut::numeric >= pg_snapshot_xmax(whole)::text::numeric THEN whole
                ELSE concat(least(pg_snapshot_xmin(whole)::text::numeric, cut::numeric), ':', cut, ':',
                            (SELECT string_agg(x::text, ',' ORDER BY x) FROM pg_snapshot_xip(whole) AS x
                             WHERE x::text::numeric < cut::numeric))::pg_snapshot END
);
COMMENT ON FUNCTION roneo.snapshot_before(pg_snapshot, text) IS
    'A snapshot that sees what this one sees, but of transactions below cut only.';

-- Without a trigger for TRUNCATE, as a new partition is, the file tells.
CREATE OR REPLACE FUNCTION roneo.lost_file(c roneo.capture_replica, answer jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN EXISTS (
    SELECT FROM jsonb_each(c.tables) AS k
    WHERE NOT (k.value ->> 'sees_truncate')::boolean
      AND answer #>> ARRAY['inside', 'capture', 'tables', k.key, 'file'] <> k.value ->> 'file');
COMMENT ON FUNCTION roneo.lost_file(roneo.capture_replica, jsonb) IS
    'Whether a table that could be truncated unseen is in another file.';

-- Even where every row has changed it is cheaper to replay them once than to look for what differs. Only
-- where each has changed several times over do the keys cost more to sort out than all rows to compare.
-- A batch_limit asks for small transactions all the same.
CREATE OR REPLACE FUNCTION roneo.replay_mode(c roneo.capture_replica, answer jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN c.position IS NULL THEN CASE WHEN c.is_fresh THEN 'load' ELSE 'compare' END
    WHEN (answer #>> '{inside,pending,resyncs}')::bigint > 0 OR roneo.lost_file(c, answer) THEN 'compare'
    WHEN (answer #>> '{inside,pending,truncates}')::bigint > 0 THEN 'truncated'
    WHEN c.batch_limit IS NULL AND (answer #>> '{inside,pending,keys}')::numeric > 10000
         AND (answer #>> '{inside,pending,keys}')::numeric > (answer #>> '{inside,capture,rows}')::numeric * 4
         AND (answer #>> '{inside,capture,rows}')::numeric > 0 THEN 'compare'
    WHEN (answer #>> '{inside,pending,keys}')::numeric > 0 OR cardinality(roneo.fresh_tables(c, answer)) > 0 THEN 'replay'
    ELSE 'nothing' END;
COMMENT ON FUNCTION roneo.replay_mode(roneo.capture_replica, jsonb) IS
    'load: into the empty table; compare: read all rows, and bring the table in line; truncated: as compare, or as load where nobody references the table; replay: the rows that changed; nothing.';

-- Who lets the first refresh fill a table that was made empty by other means has not filled it.
CREATE OR REPLACE FUNCTION roneo.is_unfilled(r roneo.replica, c roneo.capture_replica)
RETURNS boolean LANGUAGE sql STABLE
RETURN r.last_success_at IS NULL AND pg_relation_size(r.dest) = 0
    AND NOT EXISTS (SELECT FROM pg_partition_tree(r.dest) AS t WHERE t.isleaf AND pg_relation_size(t.relid) > 0);
COMMENT ON FUNCTION roneo.is_unfilled(roneo.replica, roneo.capture_replica) IS
    'Whether a table that others were to fill is empty still at its first refresh; then all rows are read.';

CREATE OR REPLACE FUNCTION roneo.copied_columns(c roneo.capture_replica, answer jsonb)
RETURNS name[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT k FROM jsonb_array_elements_text(c.tables #> ARRAY[answer #>> '{inside,capture,relation}', 'copied']) AS k);
COMMENT ON FUNCTION roneo.copied_columns(roneo.capture_replica, jsonb) IS 'The columns that the last refresh copied.';

-- A column that is copied now and was not, and one that ALTER TABLE rewrote, have values that no
-- trigger saw. VACUUM FULL moves a table to another file too, and leaves its columns alone.
CREATE OR REPLACE FUNCTION roneo.has_unseen_values(r roneo.replica, c roneo.capture_replica, columns name[], answer jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN (
    SELECT p.was IS NOT NULL AND (
        NOT to_jsonb(columns) <@ coalesce(p.copied, to_jsonb(columns))
        OR EXISTS (
            SELECT FROM jsonb_each(p.is_now) AS k
            WHERE (k.key = ANY (columns) OR r.filter IS NOT NULL)
              AND (k.value -> 'number' IS DISTINCT FROM p.was #> ARRAY[k.key, 'number'] AND k.key = ANY (columns)
                   OR p.moved AND k.value -> 'by' <> p.was #> ARRAY[k.key, 'by'])))
    FROM (SELECT c.tables #> ARRAY[answer #>> '{inside,capture,relation}', 'columns'] AS was,
                 c.tables #> ARRAY[answer #>> '{inside,capture,relation}', 'copied'] AS copied,
                 answer #> ARRAY['inside', 'capture', 'tables', answer #>> '{inside,capture,relation}', 'columns'] AS is_now,
                 EXISTS (SELECT FROM jsonb_each(c.tables) AS t
                         WHERE answer #> ARRAY['inside', 'capture', 'tables', t.key, 'file'] <> t.value -> 'file') AS moved) AS p
);
COMMENT ON FUNCTION roneo.has_unseen_values(roneo.replica, roneo.capture_replica, name[], jsonb) IS
    'Whether columns have to be read again for all rows: they are new here, or were rewritten.';

CREATE OR REPLACE FUNCTION roneo.tables_reached(r roneo.replica, c roneo.capture_replica, answer jsonb, outcome text)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT jsonb_set(answer #> '{inside,capture,tables}', ARRAY[relation, 'copied'], CASE
        WHEN outcome = 'unchanged' AND c.tables #> ARRAY[relation, 'copied'] IS NOT NULL THEN c.tables #> ARRAY[relation, 'copied']
        ELSE (SELECT coalesce(jsonb_agg(p.name ORDER BY p.position), '[]')
              FROM roneo.pair_columns(roneo.wanted_source_columns(r, answer), roneo.local_relation(r.dest) -> 'columns') AS p) END)
    FROM (SELECT answer #>> '{inside,capture,relation}' AS relation) AS n
);
COMMENT ON FUNCTION roneo.tables_reached(roneo.replica, roneo.capture_replica, jsonb, text) IS
    'What is remembered of the source''s tables once an answer has been worked off, with the columns that are copied.';

CREATE OR REPLACE FUNCTION roneo.position_reached(c roneo.capture_replica, answer jsonb)
RETURNS pg_snapshot LANGUAGE sql IMMUTABLE
RETURN roneo.snapshot_before((answer #>> '{inside,snapshot}')::pg_snapshot,
                             CASE WHEN roneo.replay_mode(c, answer) = 'replay' THEN roneo.cut_of(c, answer) END);
COMMENT ON FUNCTION roneo.position_reached(roneo.capture_replica, jsonb) IS 'The position once everything that was planned for an answer has been put.';

CREATE OR REPLACE FUNCTION roneo.extra_column(name text, type text)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN jsonb_build_array(jsonb_build_object('name', name, 'type', type, 'type_bare', type, 'type_base', type,
                                            'type_schema', 'pg_catalog', 'binary', true));
COMMENT ON FUNCTION roneo.extra_column(text, text) IS 'A column that no table has, for what travels beside the rows.';

-- Under its own name, character would be character(1).
CREATE OR REPLACE FUNCTION roneo.without_domains(columns jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(jsonb_agg(c.col || CASE WHEN c.col ->> 'type_kind' = 'd' AND NOT (c.col ->> 'type_array')::boolean
        THEN jsonb_build_object('type', b.name, 'type_bare', b.name) ELSE '{}' END ORDER BY c.nr), '[]')
    FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, nr)
    CROSS JOIN LATERAL (SELECT regexp_replace(regexp_replace(c.col ->> 'type_base', '^character(\[\])?$', 'bpchar\1'), '^bit(\[\])?$', '"bit"\1') AS name) AS b
);
COMMENT ON FUNCTION roneo.without_domains(jsonb) IS 'Columns, those of domains with the types under them.';

CREATE OR REPLACE FUNCTION roneo.transfer_from(
    r roneo.replica, purpose text, rows_of text, wanted jsonb, extra jsonb, into_schema name, into_name name, frozen boolean)
RETURNS roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    step roneo.step;
    here jsonb := (roneo.local_relation(r.dest) -> 'columns') || extra;
BEGIN
    IF into_schema = 'pg_temp' THEN
        wanted := roneo.without_domains(wanted);
        here := roneo.without_domains(here);
    END IF;
    SELECT t.* INTO step
    FROM roneo.source AS s
    CROSS JOIN LATERAL roneo.transfer_step(purpose, r.source_schema, r.source_table, wanted || extra, here, NULL,
                                           into_schema, into_name, frozen, s.source_encoding) AS t
    WHERE s.source_id = r.source_id;
    SELECT format('SELECT %s FROM %s AS source', string_agg(format('%I::%s', p.name, p.cast_type), ', ' ORDER BY p.position), rows_of)
    INTO step.statement
    FROM roneo.pair_columns(wanted || extra, here) AS p;
    RETURN step;
END;
$$;
COMMENT ON FUNCTION roneo.transfer_from(roneo.replica, text, text, jsonb, jsonb, name, name, boolean) IS
    'A step that brings rows of the source, from anything that can stand in a FROM clause, with columns beside those of the table.';

CREATE OR REPLACE FUNCTION roneo.arrival_step(r roneo.replica, table_name text, columns name[], extra text)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN roneo.dest_step(1, 'make a table for what arrives', format(
    'DROP TABLE IF EXISTS pg_temp.%1$I; CREATE TEMPORARY TABLE %1$I ON COMMIT DROP AS SELECT %2$s%3$s FROM ONLY %4$I.%5$I WITH NO DATA',
    table_name, roneo.bare_columns(r.dest, columns, ''), format(CASE WHEN extra IS NOT NULL THEN ', %s' END, extra), r.dest_schema, r.dest_name));
COMMENT ON FUNCTION roneo.arrival_step(roneo.replica, text, name[], text) IS
    'A step that makes an empty temporary table with the columns that are copied, and more.';

CREATE OR REPLACE FUNCTION roneo.replay_steps(r roneo.replica, c roneo.capture_replica, wanted jsonb, columns name[], answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Said this way, few rows are expected, and each is found by the index: to expect half of them, as of
    -- any flag, is to read the whole table.
    gone text := format('(SELECT DISTINCT %1$s FROM pg_temp.%2$I WHERE roneo_gone::integer OPERATOR(pg_catalog.=) 1 ORDER BY %1$s) AS arrived',
                        roneo.column_list(c.key_columns), roneo.staging_name(r));
BEGIN
    RETURN NEXT roneo.arrival_step(r, roneo.staging_name(r), columns, 'false AS roneo_gone');
    RETURN NEXT roneo.transfer_from(r, 'read what changed',
        roneo.changed_rows(r, c, wanted, answer, roneo.cut_of(c, answer)),
        wanted, roneo.extra_column('roneo_gone', 'boolean'), 'pg_temp', roneo.staging_name(r), false);
    RETURN NEXT roneo.remove_gone_step(r, c, answer, gone, roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived'));
    RETURN QUERY SELECT * FROM roneo.undeleted_steps(r, c, gone, roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived'));
    RETURN QUERY SELECT * FROM roneo.clash_steps(r, c, columns);
    RETURN NEXT roneo.put_changed_step(r, c, columns, 'NOT arrived.roneo_gone');
    RETURN NEXT roneo.counting_step(5, 'forget what is gone', format('DELETE FROM pg_temp.%I WHERE roneo_gone', roneo.staging_name(r)), 'gone');
END;
$$;
COMMENT ON FUNCTION roneo.replay_steps(roneo.replica, roneo.capture_replica, jsonb, name[], jsonb) IS
    'Steps that bring the rows whose keys are in the queue: delete or stamp what is gone, put what is there.';

CREATE OR REPLACE FUNCTION roneo.compare_steps(r roneo.replica, c roneo.capture_replica, wanted jsonb, columns name[], answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone text := format('NOT EXISTS (SELECT FROM pg_temp.%I AS arrived WHERE %s)',
                        roneo.staging_name(r), roneo.same_key(r.dest, c.key_columns, 'kept', 'arrived'));
BEGIN
    RETURN NEXT roneo.arrival_step(r, roneo.staging_name(r), columns, NULL);
    RETURN NEXT roneo.transfer_from(r, 'read all rows', roneo.source_rows(r), wanted, '[]', 'pg_temp', roneo.staging_name(r), false);
    RETURN NEXT roneo.remove_gone_step(r, c, answer, NULL, gone);
    RETURN QUERY SELECT * FROM roneo.undeleted_steps(r, c, NULL, gone);
    RETURN QUERY SELECT * FROM roneo.clash_steps(r, c, columns);
    RETURN NEXT roneo.put_changed_step(r, c, columns, roneo.differs_condition(r, c, columns));
END;
$$;
COMMENT ON FUNCTION roneo.compare_steps(roneo.replica, roneo.capture_replica, jsonb, name[], jsonb) IS
    'Steps that read the whole source and bring the table in line: rows that are the same stay untouched, and readers are not disturbed.';

-- To fill a table and index it then takes half the time. A few rows are faster put into indexes that
-- are there; and what somebody has added to an index, its definition does not say.
CREATE OR REPLACE FUNCTION roneo.indexes_later(r roneo.replica, answer jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN answer ->> 'hand' = 'runner'
    AND (answer #>> '{inside,relation,rows_estimate}')::float8 NOT BETWEEN 0 AND 10000
    AND EXISTS (SELECT FROM pg_class AS t WHERE t.oid = r.dest AND t.relkind = 'r' AND NOT t.relispartition)
    AND NOT EXISTS (
        SELECT
        FROM pg_index AS x
        JOIN pg_class AS i ON i.oid = x.indexrelid
        LEFT JOIN pg_constraint AS k ON k.conindid = i.oid AND k.conrelid = x.indrelid AND k.contype IN ('p', 'u', 'x')
        WHERE x.indrelid = r.dest
          AND (x.indisreplident OR x.indisclustered OR NOT x.indisvalid OR i.reltablespace <> 0
               OR obj_description(i.oid, 'pg_class') IS NOT NULL OR obj_description(k.oid, 'pg_constraint') IS NOT NULL
               OR EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = i.oid AND a.attstattarget >= 0)
               -- A view that groups by the key, a part of an extension.
               OR EXISTS (SELECT FROM pg_depend AS d
                          WHERE d.refclassid = 'pg_constraint'::regclass AND d.refobjid = k.oid AND d.deptype = 'n')
               OR EXISTS (SELECT FROM pg_depend AS d
                          WHERE d.classid = 'pg_class'::regclass AND d.objid = i.oid AND d.deptype IN ('e', 'x'))));
COMMENT ON FUNCTION roneo.indexes_later(roneo.replica, jsonb) IS
    'Whether a table that is loaded whole is to be indexed only then, and its indexes are no more than their definitions.';

CREATE OR REPLACE FUNCTION roneo.rebuild_index_statements(relation regclass)
RETURNS TABLE ("position" bigint, purpose text, statement text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT row_number() OVER (ORDER BY x.indisprimary DESC, i.relname),
           format('build index %s', i.relname),
           CASE WHEN k.oid IS NULL THEN pg_get_indexdef(i.oid)
                ELSE format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', n.nspname, t.relname, k.conname, pg_get_constraintdef(k.oid)) END
    FROM pg_index AS x
    JOIN pg_class AS i ON i.oid = x.indexrelid
    JOIN pg_class AS t ON t.oid = x.indrelid
    JOIN pg_namespace AS n ON n.oid = t.relnamespace
    LEFT JOIN pg_constraint AS k ON k.conindid = i.oid AND k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x')
    WHERE x.indrelid = relation
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.rebuild_index_statements(regclass) IS 'Statements that build all indexes of a table as they are now.';

CREATE OR REPLACE FUNCTION roneo.load_steps(r roneo.replica, wanted jsonb, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    as_plain roneo.plain_replica := ROW(r.replica_id, '{}'::name[], NULL, false);
    kind     "char" := (SELECT t.relkind FROM pg_class AS t WHERE t.oid = r.dest);
    later    boolean := roneo.indexes_later(r, answer);
BEGIN
    RETURN QUERY SELECT * FROM roneo.clear_steps(r, as_plain, answer);
    RETURN QUERY
        SELECT (roneo.dest_step(1, d.purpose, d.statement)).*
        FROM roneo.drop_index_statements(r.dest) AS d WHERE later ORDER BY d.position;
    RETURN NEXT roneo.transfer_from(r, 'copy the rows', roneo.source_rows(r), wanted, '[]', r.dest_schema, r.dest_name,
                                    answer ->> 'hand' = 'runner' AND kind = 'r');
    RETURN QUERY
        SELECT (roneo.dest_step(4, d.purpose, d.statement)).*
        FROM roneo.rebuild_index_statements(r.dest) AS d WHERE later ORDER BY d.position;
END;
$$;
COMMENT ON FUNCTION roneo.load_steps(roneo.replica, jsonb, jsonb) IS 'Steps that empty the table and load it.';

CREATE OR REPLACE FUNCTION roneo.graves_steps(r roneo.replica, c roneo.capture_replica, wanted jsonb, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kept    jsonb := (SELECT coalesce(jsonb_agg(w.col ORDER BY w.nr), '[]') FROM jsonb_array_elements(wanted) WITH ORDINALITY AS w (col, nr)
                      WHERE answer #> '{inside,capture,image_columns}' ? (w.col ->> 'name'));
    columns name[] := ARRAY(SELECT p.name FROM roneo.pair_columns(kept, roneo.local_relation(r.dest) -> 'columns') AS p ORDER BY p.position);
BEGIN
    IF c.deleted_column IS NULL OR c.position IS NULL OR coalesce((answer #>> '{inside,pending,deletes}')::bigint, 0) = 0 THEN
        RETURN;
    END IF;
    RETURN NEXT roneo.arrival_step(r, roneo.graves_name(r), columns, 'NULL::timestamptz AS roneo_at');
    RETURN NEXT roneo.graves_transfer(r, c, kept, answer);
    RETURN QUERY SELECT * FROM roneo.bury_steps(r, c, columns);
    RETURN NEXT roneo.dest_step(3, 'drop the table of deleted rows', format('DROP TABLE pg_temp.%I', roneo.graves_name(r)));
END;
$$;

CREATE OR REPLACE FUNCTION roneo.graves_transfer(r roneo.replica, c roneo.capture_replica, kept jsonb, answer jsonb)
RETURNS roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    step roneo.step := roneo.transfer_from(r, 'read the last values of deleted rows',
        roneo.deleted_rows(r, c, kept, answer, CASE WHEN roneo.replay_mode(c, answer) = 'replay' THEN roneo.cut_of(c, answer) END),
        kept, roneo.extra_column('roneo_at', 'timestamp with time zone'), 'pg_temp', roneo.graves_name(r), false);
BEGIN
    step.counts := 'kept';
    RETURN step;
END;
$$;
COMMENT ON FUNCTION roneo.graves_transfer(roneo.replica, roneo.capture_replica, jsonb, jsonb) IS 'The step that brings the last images of deleted rows.';
COMMENT ON FUNCTION roneo.graves_steps(roneo.replica, roneo.capture_replica, jsonb, jsonb) IS
    'For logdel: steps that keep deleted rows with their last values; none where nothing was deleted.';

-- What the source hears it gives away; so the position must be on disk here before.
CREATE OR REPLACE FUNCTION roneo.durable_steps()
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.* FROM roneo.dest_step(1, 'have the commit wait for the disk',
        'SELECT pg_catalog.set_config(''synchronous_commit'', ''on'', true)') AS s
    WHERE current_setting('synchronous_commit') = 'off';
END;
COMMENT ON FUNCTION roneo.durable_steps() IS 'A step for servers with synchronous_commit off, whose crash would set the copy back behind what it confirmed.';

CREATE OR REPLACE FUNCTION roneo.confirm_step(c roneo.capture_replica, answer jsonb)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN ROW(5, 'after', 'tell the source how far the copy is',
    format('SELECT %s', roneo.attend_query(c, roneo.position_reached(c, answer), c.position)), NULL, NULL, NULL, NULL, NULL, NULL, false)::roneo.step;
COMMENT ON FUNCTION roneo.confirm_step(roneo.capture_replica, jsonb) IS
    'A step for after the commit: what is here now, the source need not keep. If it is lost, the next refresh says it.';

CREATE OR REPLACE FUNCTION roneo.plan_capture(r roneo.replica, c roneo.capture_replica, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted  jsonb := roneo.wanted_source_columns(r, answer);
    columns name[] := ARRAY(SELECT p.name FROM roneo.pair_columns(wanted, roneo.local_relation(r.dest) -> 'columns') AS p ORDER BY p.position);
    mode    text;
BEGIN
    PERFORM roneo.require_same_source(r, answer);
    PERFORM roneo.require_capture(r, c, answer);
    PERFORM roneo.require_position(r, c, answer);
    PERFORM roneo.require_no_lost_column(r, ROW(r.replica_id, roneo.copied_columns(c, answer), NULL, false)::roneo.plain_replica, wanted);
    mode := roneo.replay_mode(c, answer);
    mode := CASE WHEN mode IN ('nothing', 'replay') AND (roneo.is_unfilled(r, c) OR roneo.has_unseen_values(r, c, columns, answer)) THEN 'compare' ELSE mode END;
    mode := CASE WHEN r.refresh_group IS NOT NULL AND mode IN ('load', 'truncated') THEN 'compare' ELSE mode END;
    mode := CASE mode WHEN 'truncated' THEN CASE WHEN answer ->> 'hand' = 'runner' AND c.deleted_column IS NULL
                                                      AND NOT roneo.is_referenced(r.dest) THEN 'load' ELSE 'compare' END
                      WHEN 'load' THEN CASE WHEN roneo.is_referenced(r.dest) THEN 'compare' ELSE 'load' END
                      ELSE mode END;
    IF mode = 'nothing' THEN
        RETURN;
    END IF;
    answer := CASE WHEN mode = 'replay' THEN answer ELSE roneo.without_cut(answer) END;
    RETURN QUERY SELECT * FROM roneo.durable_steps();
    IF r.refresh_group IS NOT NULL OR roneo.removes_later(r, c) THEN
        RETURN NEXT roneo.dest_step(1, 'check constraints at the end', 'SET CONSTRAINTS ALL DEFERRED');
    END IF;
    RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
    RETURN QUERY SELECT * FROM roneo.graves_steps(r, c, wanted, answer);
    IF mode = 'load' THEN
        RETURN QUERY SELECT * FROM roneo.raw_bytes_step(answer);
        RETURN QUERY SELECT * FROM roneo.load_steps(r, wanted, answer);
        RETURN NEXT roneo.dest_step(4, 'gather statistics', format('ANALYZE %I.%I', r.dest_schema, r.dest_name));
    ELSE
        RETURN QUERY SELECT * FROM roneo.replay_steps(r, c, wanted, columns, answer) WHERE mode = 'replay';
        RETURN QUERY SELECT * FROM roneo.compare_steps(r, c, wanted, columns, answer) WHERE mode = 'compare';
        RETURN QUERY SELECT 5::smallint, s.kind, s.purpose, s.statement, s.into_table, s.into_list, s.into_types, s.copy_format, s.copy_freeze, s.counts, s.patient
            FROM roneo.swallowed_steps(r, c.key_columns) AS s;
        RETURN NEXT roneo.dest_step(5, 'drop the staging table', format('DROP TABLE pg_temp.%I', roneo.staging_name(r)));
    END IF;
    RETURN NEXT roneo.moved_step(r);
    RETURN QUERY SELECT * FROM roneo.on_disk_step(answer);
    RETURN NEXT roneo.confirm_step(c, answer);
END;
$$;
COMMENT ON FUNCTION roneo.plan_capture(roneo.replica, roneo.capture_replica, jsonb) IS
    'Steps of a dml or logdel replica: nothing where nothing is pending; else the rows that changed; or all rows, where the copy is new, cannot be continued, or each changed several times over.';

CREATE OR REPLACE FUNCTION roneo.finish_capture(ended roneo.ended[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(ended) AS e WHERE roneo.outcome_of(e.result) = 'deferred') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO016',
            MESSAGE = 'the table to be loaded is in use by other sessions',
            HINT    = 'The next refresh tries again.';
    END IF;
    UPDATE roneo.capture_replica AS c SET
        -- Of all modes only the one that reads batches counts what is gone.
        position   = roneo.position_reached(c, CASE WHEN roneo.counted(e.result, 'gone', 'rows') IS NULL THEN roneo.without_cut(e.answer) ELSE e.answer END),
        tables     = roneo.tables_reached(r, c, e.answer, roneo.outcome_of(e.result)),
        written_by = pg_current_xact_id(),
        confirmed  = CASE WHEN e.answer #> '{before,attended}' ? 'position'
                          THEN (e.answer #>> '{before,attended,position}')::pg_snapshot ELSE c.confirmed END,
        is_fresh   = false
    FROM unnest(ended) AS e
    JOIN roneo.replica AS r ON r.replica_id = e.replica_id
    WHERE c.replica_id = e.replica_id
      -- Nothing was pending: the position is as good as a newer one.
      AND (roneo.outcome_of(e.result) <> 'unchanged' OR c.tables IS DISTINCT FROM roneo.tables_reached(r, c, e.answer, 'unchanged'));
END;
$$;
COMMENT ON FUNCTION roneo.finish_capture(roneo.ended[]) IS 'Stores the positions of dml and logdel replicas. Raises RO016 where the table could not be locked.';
-- What a person does with captures beside refreshing from them.

CREATE OR REPLACE FUNCTION roneo.require_captured(dest regclass)
RETURNS roneo.capture_replica LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c roneo.capture_replica;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    SELECT k.* INTO c FROM roneo.capture_replica AS k JOIN roneo.replica AS r USING (replica_id) WHERE r.dest = require_captured.dest;
    IF NOT FOUND THEN
        PERFORM roneo.bad_argument(format('%s is not fed from a capture', dest), 'Only replicas of the methods dml and logdel are.');
    END IF;
    RETURN c;
END;
$$;
COMMENT ON FUNCTION roneo.require_captured(regclass) IS 'What is known of a dml or logdel replica; raises RO001 or RO007 for others.';

CREATE OR REPLACE FUNCTION roneo.tell_source(dest regclass, query text)
RETURNS text LANGUAGE sql
RETURN (
    SELECT roneo.call_source(s.source_name, query)
    FROM roneo.replica AS r JOIN roneo.source AS s USING (source_id) WHERE r.dest = tell_source.dest
);
COMMENT ON FUNCTION roneo.tell_source(regclass, text) IS 'Runs one query on the source of a replica, committed there, and returns its answer.';

CREATE OR REPLACE FUNCTION roneo.leave_source(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c       roneo.capture_replica := roneo.require_captured(dest);
    problem text;
BEGIN
    PERFORM roneo.tell_source(dest, format('SELECT roneo_capture.expire(%L, %L)', c.consumer_id, roneo.dest_identity()));
    PERFORM roneo.tell_source(dest, format('SELECT roneo_capture.remove(%s)', c.capture_id));
EXCEPTION WHEN query_canceled THEN
    RAISE;
WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    RAISE WARNING USING
        MESSAGE = format('the source still captures changes for %s: %s', dest, problem),
        HINT    = format('On the source: SELECT roneo_capture.expire(%L); SELECT roneo_capture.remove(%s);', c.consumer_id, c.capture_id);
END;
$$;
COMMENT ON FUNCTION roneo.leave_source(regclass) IS
    'Ends what the source does for a copy: its place, and with the last one the capture. Where that cannot be, a warning says how it is done there.';

CREATE OR REPLACE FUNCTION roneo.remove_capture(r roneo.replica, c roneo.capture_replica, keep_table boolean)
RETURNS TABLE (statement text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('SELECT roneo.leave_source(%s::regclass)', r.dest::oid)
    UNION ALL
    SELECT format('DROP TABLE %I.%I', n.nspname, t.relname)
    FROM pg_class AS t JOIN pg_namespace AS n ON n.oid = t.relnamespace
    WHERE t.oid = r.dest AND NOT keep_table;
END;
COMMENT ON FUNCTION roneo.remove_capture(roneo.replica, roneo.capture_replica, boolean) IS 'What is dropped with a dml or logdel replica.';

CREATE OR REPLACE FUNCTION roneo.renew_consumer(r roneo.replica, c roneo.capture_replica)
RETURNS roneo.capture_replica LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source_name text := (SELECT s.source_name FROM roneo.source AS s WHERE s.source_id = r.source_id);
    description jsonb := roneo.describe_source(source_name, roneo.source_name_of(r), NULL);
    old         roneo.capture_replica := c;
BEGIN
    PERFORM roneo.require_capturable(description, c.key_columns::text[], r.wanted_columns::text[],
                                     roneo.natural_key(description, r.wanted_columns::text[]));
    c := roneo.register_consumer(source_name, description, r, c,
        CASE WHEN c.deleted_column IS NULL THEN '{}' ELSE roneo.image_columns(description, r.wanted_columns::text[], r.filter) END);
    BEGIN
        -- Of a clone it is the original's, which goes on.
        PERFORM roneo.tell_source(r.dest, format('SELECT roneo_capture.expire(%L, %L)', old.consumer_id, roneo.dest_identity()));
        PERFORM roneo.tell_source(r.dest, format('SELECT roneo_capture.remove(%s)', old.capture_id));
    EXCEPTION WHEN insufficient_privilege OR lock_not_available THEN
        RAISE WARNING USING
            MESSAGE = format('the source still keeps changes for an earlier registration of %I.%I', r.dest_schema, r.dest_name),
            HINT    = format('On the source: SELECT roneo_capture.expire(%L);', old.consumer_id);
    END;
    RETURN c;
END;
$$;
COMMENT ON FUNCTION roneo.renew_consumer(roneo.replica, roneo.capture_replica) IS
    'Mends the capture where needed, registers the copy anew, and ends its old registration.';

CREATE OR REPLACE FUNCTION roneo.resync(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c roneo.capture_replica := roneo.require_captured(dest);
    r roneo.replica;
BEGIN
    SELECT k.* INTO STRICT r FROM roneo.replica AS k WHERE k.dest = resync.dest;
    PERFORM roneo.lock_replica(r.replica_id, dest::text, 'Ask again when that refresh has ended.');
    c := roneo.renew_consumer(r, c);
    UPDATE roneo.replica AS k SET identity = NULL WHERE k.replica_id = r.replica_id;
    UPDATE roneo.capture_replica AS k SET
        capture_id = c.capture_id, consumer_id = c.consumer_id, packs = c.packs, position = NULL, tables = NULL
    WHERE k.replica_id = r.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.resync(regclass) IS
    'Begins a dml or logdel replica anew: mends the capture on the source where that is needed, takes the source as it is now, and has the next refresh compare the whole table. Rows that are the same stay untouched. Raises RO024 where the role of the connection may not mend the capture.';

CREATE OR REPLACE FUNCTION roneo.accept_capture(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c roneo.capture_replica;
BEGIN
    SELECT k.* INTO c FROM roneo.capture_replica AS k JOIN roneo.replica AS r USING (replica_id) WHERE r.dest = accept_capture.dest;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM roneo.tell_source(dest, format('SELECT roneo_capture.readdress(%L, %L, %L)', c.consumer_id, roneo.dest_identity(),
        (SELECT roneo.dest_label(r.dest_schema, r.dest_name) FROM roneo.replica AS r WHERE r.replica_id = c.replica_id)));
    -- They stay known: what was not among them is new, and read whole.
    UPDATE roneo.capture_replica AS k SET tables = (SELECT jsonb_object_agg(t.key, t.value || '{"accepted": true}') FROM jsonb_each(c.tables) AS t)
    WHERE k.replica_id = c.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.accept_capture(regclass) IS
    'For a dml or logdel replica: takes the triggers and partitions of the source as they are now, and makes its place on the source ours.';

CREATE OR REPLACE FUNCTION roneo.pause_capture(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.tell_source(dest, format('SELECT roneo_capture.pause(%s)', (roneo.require_captured(dest)).capture_id));
END;
$$;
COMMENT ON FUNCTION roneo.pause_capture(regclass) IS
    'Around a change of most rows of a source table: from now on nothing is recorded, for any copy. Refreshes are deferred (RO026) until resume_capture.';

CREATE OR REPLACE FUNCTION roneo.resume_capture(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.tell_source(dest, format('SELECT roneo_capture.resume(%s)', (roneo.require_captured(dest)).capture_id));
END;
$$;
COMMENT ON FUNCTION roneo.resume_capture(regclass) IS
    'Ends a pause: changes are recorded again, and the next refresh of every copy compares the whole table.';

CREATE OR REPLACE FUNCTION roneo.set_queue_limit(dest regclass, queue_limit text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bytes bigint;
BEGIN
    BEGIN
        bytes := pg_size_bytes(queue_limit);
    EXCEPTION WHEN data_exception THEN
        -- Reported below.
        NULL;
    END;
    IF coalesce(bytes, 0) <= 0 THEN
        PERFORM roneo.bad_argument(format('queue_limit is %L', queue_limit), 'Give a size such as ''10 GB''.');
    END IF;
    PERFORM roneo.tell_source(dest, format('SELECT roneo_capture.set_limit(%s, %s)', (roneo.require_captured(dest)).capture_id, bytes));
END;
$$;
COMMENT ON FUNCTION roneo.set_queue_limit(regclass, text) IS
    'How large the queue of a captured table may grow on the source, with its unit, before nothing is recorded any more and the copies are compared whole: 10 GB unless it is set.';

CREATE OR REPLACE FUNCTION roneo.pending_transactions(dest regclass)
RETURNS TABLE (transaction_id xid8, changed_keys bigint, truncated boolean) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c roneo.capture_replica := roneo.require_captured(dest);
BEGIN
    IF c.position IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT (t.row ->> 'xid')::xid8, (t.row ->> 'keys')::bigint, (t.row ->> 'truncated')::boolean
        FROM jsonb_array_elements(roneo.tell_source(dest, format(
            'SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(g) ORDER BY g.keys DESC), ''[]'') FROM ('
            'SELECT p.xid::text AS xid, pg_catalog.sum(p.keys) AS keys, pg_catalog.bool_or(p.op IN (''t'', ''r'')) IS TRUE AS truncated FROM (%s) AS p GROUP BY p.xid) AS g',
            roneo.queue_query(c, format('q.xid, q.op, %s AS keys', roneo.key_count(c.packs)), NULL)))::jsonb) AS t (row);
END;
$$;
COMMENT ON FUNCTION roneo.pending_transactions(regclass) IS
    'The transactions of the source whose changes wait for a dml or logdel replica, the largest first: their numbers, how many keys they changed, and whether they truncated or ask for a comparison.';

CREATE OR REPLACE FUNCTION roneo.forget_transaction(dest regclass, transaction_id xid8)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN roneo.tell_source(dest, format('SELECT roneo_capture.forget(%s, %L)', (roneo.require_captured(dest)).capture_id, transaction_id));
END;
$$;
COMMENT ON FUNCTION roneo.forget_transaction(regclass, xid8) IS
    'Takes what one transaction of the source changed out of the queue, for all copies: a mass change that was brought to them by other means, or must not get there. Rows it shares with other transactions still come with their values of then. Returns the rows of the queue that went.';

CREATE OR REPLACE FUNCTION roneo.captures(source text)
RETURNS TABLE (
    capture_id integer, source_table text, key_columns name[], state text, problem text, queue_bytes bigint,
    consumer_id uuid, destination text, role_name name, confirmed_at timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found jsonb := '[]';
BEGIN
    IF roneo.call_source(source, 'SELECT pg_catalog.to_regclass(''roneo_capture.capture'') IS NOT NULL')::boolean THEN
        found := roneo.call_source(source,
            'SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(c) || pg_catalog.jsonb_build_object('
            '''problem'', roneo_capture.problem(c), ''bytes'', roneo_capture.queue_size(c.capture_id), ''consumer'', pg_catalog.to_jsonb(u)) '
            'ORDER BY c.capture_id, u.registered_at), ''[]'') '
            'FROM roneo_capture.capture AS c LEFT JOIN roneo_capture.consumer AS u ON u.capture_id = c.capture_id');
    END IF;
    -- The source knows a copy by the name that it had at its last refresh.
    RETURN QUERY
        SELECT (f.row ->> 'capture_id')::integer, f.row ->> 'relation_name',
               ARRAY(SELECT k::name FROM jsonb_array_elements_text(f.row -> 'key_columns') AS k),
               f.row ->> 'state', f.row ->> 'problem', (f.row ->> 'bytes')::bigint,
               (f.row #>> '{consumer,consumer_id}')::uuid,
               coalesce((SELECT roneo.dest_label(n.nspname, t.relname)
                         FROM roneo.capture_replica AS c
                         JOIN roneo.replica AS r USING (replica_id)
                         JOIN pg_class AS t ON t.oid = r.dest
                         JOIN pg_namespace AS n ON n.oid = t.relnamespace
                         WHERE c.consumer_id = (f.row #>> '{consumer,consumer_id}')::uuid
                           AND f.row #>> '{consumer,dest_identity}' = roneo.dest_identity()), f.row #>> '{consumer,destination}'),
               (f.row #>> '{consumer,role_name}')::name, (f.row #>> '{consumer,confirmed_at}')::timestamptz
        FROM jsonb_array_elements(found) AS f (row);
END;
$$;
COMMENT ON FUNCTION roneo.captures(text) IS
    'What is captured on a source, and for whom: one line a copy, those of other destinations too; problem: why changes are missed, or NULL. A copy that does not confirm any more, because its database is gone, holds the queue until expire_consumer.';

CREATE OR REPLACE FUNCTION roneo.expire_consumer(source text, consumer_id uuid)
RETURNS boolean LANGUAGE sql
RETURN roneo.call_source(source, format('SELECT roneo_capture.expire(%L)', consumer_id))::boolean;
COMMENT ON FUNCTION roneo.expire_consumer(text, uuid) IS
    'Has a source forget a copy, of this or another destination, for which it keeps changes. Should that copy be refreshed again, it says RO025, and is compared whole after resync. False: there was none.';

CREATE OR REPLACE FUNCTION roneo.unprepare_commands()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $do$DO $commands$
BEGIN
    LOCK TABLE roneo_capture.capture IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM roneo_capture.capture) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = 'a capture was made meanwhile';
    END IF;
    DROP OWNED BY roneo_capture;
    BEGIN
        DROP ROLE roneo_capture;
    EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
        -- Another database of the cluster is prepared too, or somebody else made the role.
        NULL;
    END;
END;
$commands$ $do$;
COMMENT ON FUNCTION roneo.unprepare_commands() IS 'What takes schema and role roneo_capture away from a source that has no captures.';

CREATE OR REPLACE FUNCTION roneo.unprepare_source(source text)
RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    link   text := roneo.open_link(source);
    in_use text;
    found  boolean;
BEGIN
    found := roneo.ask_link(link, 'SELECT pg_catalog.to_regclass(''roneo_capture.capture'') IS NOT NULL');
    IF found THEN
        PERFORM roneo.ask_link(link, 'SELECT pg_catalog.count(roneo_capture.remove(c.capture_id)) FROM roneo_capture.capture AS c');
        in_use := roneo.ask_link(link,
            'SELECT pg_catalog.string_agg(pg_catalog.concat_ws('' for '', c.relation_name, u.destination), '', '' ORDER BY c.capture_id, u.registered_at) '
            'FROM roneo_capture.capture AS c LEFT JOIN roneo_capture.consumer AS u ON u.capture_id = c.capture_id');
        IF in_use IS NOT NULL THEN
            RAISE EXCEPTION USING
                ERRCODE = 'dependent_objects_still_exist',
                MESSAGE = format('tables of source %s are captured', quote_ident(source)),
                DETAIL  = format('They are: %s.', in_use),
                HINT    = 'roneo.drop_replica(dest) ends the captures of a copy; roneo.expire_consumer(source, consumer_id) those of one whose database is gone.';
        END IF;
        PERFORM roneo.tell_link(link, 'SET lock_timeout = ''2s''');
        PERFORM roneo.tell_link(link, roneo.unprepare_commands());
        IF roneo.ask_link(link, 'SELECT pg_catalog.to_regrole(''roneo_capture'') IS NOT NULL')::boolean THEN
            RAISE NOTICE 'role roneo_capture stays on source %: another database of its cluster needs it, or this role may not drop it', quote_ident(source);
        END IF;
    END IF;
    PERFORM roneo.close_link(link);
    RETURN found;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link(link);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.unprepare_source(text) IS
    'Takes away from a source what dml and logdel have left there when the last copy is dropped: schema roneo_capture, and the role of that name unless another database of the cluster needs it. False where there is none. Raises 2BP01 where a copy is still fed, of this or another destination.';
-- dml: every insert, update, delete and truncate, captured by triggers on the source and replayed by key.

CREATE OR REPLACE FUNCTION roneo.create_dml(
    source text,
    source_table text,
    dest text DEFAULT NULL,
    columns text[] DEFAULT NULL,
    filter text DEFAULT NULL,
    with_indexes boolean DEFAULT true,
    copy_data boolean DEFAULT true,
    refresh_every interval DEFAULT NULL,
    key_columns text[] DEFAULT NULL,
    capture_mode text DEFAULT 'auto',
    batch_limit bigint DEFAULT NULL)
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wish roneo.capture_replica;
BEGIN
    IF capture_mode NOT IN ('auto', 'statement', 'row') THEN
        PERFORM roneo.bad_argument(format('capture_mode is %L', capture_mode),
            'Give auto (statement triggers where they see everything), statement, or row.');
    END IF;
    wish.key_columns    := key_columns::name[];
    wish.row_level      := capture_mode = 'row';
    wish.batch_limit    := batch_limit;
    RETURN roneo.register_capture(source, source_table, dest, 'dml', columns, filter, with_indexes,
                                  copy_data, refresh_every, wish);
END;
$$;
COMMENT ON FUNCTION roneo.create_dml(text, text, text, text[], text, boolean, boolean, interval, text[], text, bigint) IS
    'Makes a replica that follows every change of its source, deletes included. Triggers on the source record which keys changed. dest, columns, filter, with_indexes, copy_data, refresh_every: as in create_plain; an existing table is compared with the source, row by row, or with copy_data => false is believed to hold what the source had at this moment or later. key_columns: what rows are matched by; the source''s primary key or best unique index by default. capture_mode: statement triggers, or row triggers, which cost less where each statement changes one row; auto: statement, and row where only those see everything. batch_limit: keys a transaction, never cutting through a transaction of the source; not heeded where the table has unique indexes other than its key, or references itself.';

CREATE OR REPLACE FUNCTION roneo.probe_dml(r roneo.replica, m roneo.dml_replica)
RETURNS roneo.probe LANGUAGE sql STABLE
RETURN roneo.probe_capture(r, ROW(m.*)::roneo.capture_replica);
COMMENT ON FUNCTION roneo.probe_dml(roneo.replica, roneo.dml_replica) IS 'Phase one: what to ask of the source.';

CREATE OR REPLACE FUNCTION roneo.plan_dml(r roneo.replica, m roneo.dml_replica, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT p.* FROM roneo.plan_capture(r, ROW(m.*)::roneo.capture_replica, answer) AS p;
END;
COMMENT ON FUNCTION roneo.plan_dml(roneo.replica, roneo.dml_replica, jsonb) IS 'Phase three: nothing, the rows that changed, or all of them.';

CREATE OR REPLACE FUNCTION roneo.finish_dml(ended roneo.ended[])
RETURNS void LANGUAGE sql
RETURN roneo.finish_capture(ended);
COMMENT ON FUNCTION roneo.finish_dml(roneo.ended[]) IS 'Phase four: the new position.';

CREATE OR REPLACE FUNCTION roneo.remove_dml(r roneo.replica, m roneo.dml_replica, keep_table boolean)
RETURNS TABLE (statement text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT x.statement FROM roneo.remove_capture(r, ROW(m.*)::roneo.capture_replica, keep_table) AS x;
END;
COMMENT ON FUNCTION roneo.remove_dml(roneo.replica, roneo.dml_replica, boolean) IS 'What goes with it: its place on the source, and its table unless that is kept.';

CREATE OR REPLACE FUNCTION roneo.watched_dml(r roneo.replica, m roneo.dml_replica, exact_every interval)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN roneo.watched_capture(r, ROW(m.*)::roneo.capture_replica, exact_every);
COMMENT ON FUNCTION roneo.watched_dml(roneo.replica, roneo.dml_replica, interval) IS 'Until when counters can tell that there is nothing to do.';
-- logdel: as dml, but rows that are deleted on the source are kept here, with the time of their deletion.

CREATE OR REPLACE FUNCTION roneo.create_logdel(
    source text,
    source_table text,
    dest text DEFAULT NULL,
    columns text[] DEFAULT NULL,
    filter text DEFAULT NULL,
    with_indexes boolean DEFAULT true,
    copy_data boolean DEFAULT true,
    refresh_every interval DEFAULT NULL,
    key_columns text[] DEFAULT NULL,
    capture_mode text DEFAULT 'auto',
    deleted_column text DEFAULT 'roneo_source_deleted',
    batch_limit bigint DEFAULT NULL)
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wish roneo.capture_replica;
BEGIN
    IF capture_mode NOT IN ('auto', 'statement', 'row') THEN
        PERFORM roneo.bad_argument(format('capture_mode is %L', capture_mode),
            'Give auto (statement triggers where they see everything), statement, or row.');
    ELSIF deleted_column IS NULL OR deleted_column = '' THEN
        PERFORM roneo.bad_argument('deleted_column is empty', 'It names the column for the time of the deletion.');
    END IF;
    wish.key_columns    := key_columns::name[];
    wish.row_level      := capture_mode = 'row';
    wish.deleted_column := deleted_column::name;
    wish.batch_limit    := batch_limit;
    RETURN roneo.register_capture(source, source_table, dest, 'logdel', columns, filter, with_indexes,
                                  copy_data, refresh_every, wish);
END;
$$;
COMMENT ON FUNCTION roneo.create_logdel(text, text, text, text[], text, boolean, boolean, interval, text[], text, text, bigint) IS
    'Makes a replica that follows every change of its source, and keeps deleted rows with their last values, stamped. A key that comes again is a new row beside the old one. dest, columns, filter, with_indexes, copy_data, refresh_every: as in create_plain; an existing table is compared with the source, row by row, or with copy_data => false is believed to hold what the source had at this moment or later. key_columns: what rows are matched by; the source''s primary key or best unique index by default. capture_mode: statement triggers, or row triggers, which cost less where each statement changes one row; auto: statement, and row where only those see everything. batch_limit: keys a transaction, never cutting through a transaction of the source; not heeded where the table has unique indexes other than its key, or references itself. deleted_column: the column for the time of the deletion, which the copy has beside those of the source.';

CREATE OR REPLACE FUNCTION roneo.probe_logdel(r roneo.replica, m roneo.logdel_replica)
RETURNS roneo.probe LANGUAGE sql STABLE
RETURN roneo.probe_capture(r, ROW(m.*)::roneo.capture_replica);
COMMENT ON FUNCTION roneo.probe_logdel(roneo.replica, roneo.logdel_replica) IS 'Phase one: what to ask of the source.';

CREATE OR REPLACE FUNCTION roneo.plan_logdel(r roneo.replica, m roneo.logdel_replica, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT p.* FROM roneo.plan_capture(r, ROW(m.*)::roneo.capture_replica, answer) AS p;
END;
COMMENT ON FUNCTION roneo.plan_logdel(roneo.replica, roneo.logdel_replica, jsonb) IS 'Phase three: nothing, the rows that changed, or all of them.';

CREATE OR REPLACE FUNCTION roneo.finish_logdel(ended roneo.ended[])
RETURNS void LANGUAGE sql
RETURN roneo.finish_capture(ended);
COMMENT ON FUNCTION roneo.finish_logdel(roneo.ended[]) IS 'Phase four: the new position.';

CREATE OR REPLACE FUNCTION roneo.remove_logdel(r roneo.replica, m roneo.logdel_replica, keep_table boolean)
RETURNS TABLE (statement text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT x.statement FROM roneo.remove_capture(r, ROW(m.*)::roneo.capture_replica, keep_table) AS x;
END;
COMMENT ON FUNCTION roneo.remove_logdel(roneo.replica, roneo.logdel_replica, boolean) IS 'What goes with it: its place on the source, and its table unless that is kept.';

CREATE OR REPLACE FUNCTION roneo.watched_logdel(r roneo.replica, m roneo.logdel_replica, exact_every interval)
RETURNS timestamptz LANGUAGE sql STABLE
RETURN roneo.watched_capture(r, ROW(m.*)::roneo.capture_replica, exact_every);
COMMENT ON FUNCTION roneo.watched_logdel(roneo.replica, roneo.logdel_replica, interval) IS 'Until when counters can tell that there is nothing to do.';
-- Registering many tables at once: over one connection to the source, whose answers are planned once
-- for all of them.

CREATE OR REPLACE FUNCTION roneo.hold_source(source_name text)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source roneo.source := roneo.require_source(source_name);
    link   text := roneo.held_link(source.source_id);
BEGIN
    IF roneo.is_open(link) THEN
        PERFORM roneo.disconnect_link(link);
    END IF;
    PERFORM roneo.connect_link(source, link);
    -- What would close it rolls back what is open, and mostly nothing is.
    PERFORM roneo.tell_link(link, 'SET client_min_messages = error; SET plan_cache_mode = force_generic_plan');
    PERFORM roneo.tell_link(link, roneo.source_opening());
    PERFORM roneo.tell_link(link, format('PREPARE roneo_describe (pg_catalog.oid) AS %s', roneo.describe_query('$1')));
    PERFORM roneo.tell_link(link, 'ROLLBACK');
    RETURN link;
END;
$$;
COMMENT ON FUNCTION roneo.hold_source(text) IS
    'Connects to a source, for all in this session that asks it, until let_go_source.';

CREATE OR REPLACE FUNCTION roneo.let_go_source(source_name text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    link text := roneo.held_link((roneo.require_source(source_name)).source_id);
BEGIN
    IF roneo.is_open(link) THEN
        PERFORM roneo.disconnect_link(link);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.let_go_source(text) IS 'Closes the connection of hold_source, where it is open.';

CREATE OR REPLACE FUNCTION roneo.require_method(method text, control text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known text := (SELECT string_agg(substr(f.proname, 8), ', ' ORDER BY f.proname) FROM pg_proc AS f
                   WHERE f.pronamespace = 'roneo'::regnamespace AND starts_with(f.proname::text, 'create_')
                     AND to_regclass(format('roneo.%I', concat(substr(f.proname, 8), '_replica'))) IS NOT NULL);
BEGIN
    IF method = ANY (string_to_array(known, ', ')) IS NOT TRUE THEN
        PERFORM roneo.bad_argument(format('%s is no method', coalesce(quote_literal(method), 'NULL')), format('There are: %s.', known));
    ELSIF method IN ('inserter', 'updater') <> (control IS NOT NULL) THEN
        PERFORM roneo.bad_argument(
            CASE WHEN control IS NULL THEN format('an %s follows a control column, and none is given', method)
                 ELSE format('control is given, and a %s follows no control column', method) END,
            'control => ''id'' names a column that all of the tables have; it is for inserters and updaters.');
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_method(text, text) IS
    'Raises RO007 for a method that does not exist, or does not go with that control column.';

-- What a refresh is to load is loaded from the beginning, as with copy_data, but by whoever comes.
CREATE OR REPLACE FUNCTION roneo.create_one(
    source text, source_table text, dest text, method text, control text, refresh_every interval, with_indexes boolean)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_there boolean := to_regclass(dest) IS NOT NULL;
    made     regclass;
BEGIN
    EXECUTE format('SELECT roneo.%I($1, $2, $3, copy_data => false, refresh_every => $4, with_indexes => $5%s)',
                   concat('create_', method), CASE WHEN control IS NOT NULL THEN ', control => $6' END)
    INTO made USING source, source_table, dest, refresh_every, with_indexes, control;
    UPDATE roneo.control_replica AS c SET last_value = NULL, horizon = NULL, leaves = NULL
    FROM roneo.replica AS r
    WHERE NOT is_there AND r.replica_id = c.replica_id AND r.dest = made;
END;
$$;
COMMENT ON FUNCTION roneo.create_one(text, text, text, text, text, interval, boolean) IS
    'Registers one table by a method, for the first refresh to load.';

CREATE OR REPLACE FUNCTION roneo.create_some(
    source text, source_schema text, names text[], dest_schema text, method text, control text,
    refresh_every interval, with_indexes boolean)
RETURNS text[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one      text;
    code     text;
    message  text;
    hint     text;
    problems text[] := '{}';
BEGIN
    PERFORM roneo.hold_source(source);
    FOREACH one IN ARRAY names LOOP
        BEGIN
            PERFORM roneo.create_one(source, format('%I.%I', source_schema, one), format('%I.%I', dest_schema, one),
                                     method, control, refresh_every, with_indexes);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
            problems := problems || format('%s %s: %s', code, one, concat_ws(' - ', message, nullif(hint, '')));
        END;
    END LOOP;
    PERFORM roneo.let_go_source(source);
    RETURN problems;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.let_go_source(source);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.create_some(text, text, text[], text, text, text, interval, boolean) IS
    'Registers some tables of a schema, each by itself, over one connection; returns what hindered the others.';

CREATE OR REPLACE FUNCTION roneo.tables_to_create(source text, source_schema text, tables text[], dest_schema text)
RETURNS text[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known roneo.source := roneo.require_source(source);
    found text[] := tables;
BEGIN
    IF to_regnamespace(quote_ident(dest_schema)) IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO005',
            MESSAGE = format('schema %I does not exist here', dest_schema),
            HINT    = format('CREATE SCHEMA %I, or name another dest_schema.', dest_schema);
    END IF;
    IF found IS NULL THEN
        found := ARRAY(SELECT t.table_name
                       FROM jsonb_to_recordset(roneo.call_source(source, roneo.tables_probe(source))::jsonb -> 'tables')
                           AS t (schema_name text, table_name text)
                       WHERE t.schema_name = source_schema);
    END IF;
    IF found = '{}' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO004',
            MESSAGE = format('source %s has no table in schema %I', quote_ident(source), source_schema),
            HINT    = 'Give the schema''s name as it is stored, without quotes; views are registered one by one.';
    END IF;
    RETURN ARRAY(
        SELECT DISTINCT f.name FROM unnest(found) AS f (name)
        WHERE NOT EXISTS (SELECT FROM roneo.replica AS r
                          WHERE r.source_id = known.source_id AND r.source_schema = tables_to_create.source_schema AND r.source_table = f.name
                            AND r.dest_schema = tables_to_create.dest_schema AND r.dest_name = f.name)
        ORDER BY f.name);
END;
$$;
COMMENT ON FUNCTION roneo.tables_to_create(text, text, text[], text) IS
    'The tables of a source''s schema, or those that are named, which are not registered yet under their own names; raises RO003, RO004, RO005.';

CREATE OR REPLACE PROCEDURE roneo.create_replicas(
    source text,
    source_schema text,
    dest_schema text DEFAULT NULL,
    method text DEFAULT 'snapshot',
    tables text[] DEFAULT NULL,
    control text DEFAULT NULL,
    refresh_every interval DEFAULT NULL,
    with_indexes boolean DEFAULT true)
LANGUAGE plpgsql
AS $$
DECLARE
    place    text := coalesce(dest_schema, source_schema);
    names    text[];
    problems text[] := '{}';
    wanted   integer;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM roneo.require_method(method, control);
    names := roneo.tables_to_create(source, source_schema, tables, place);
    wanted := cardinality(names);
    -- Each table holds a dozen locks until the commit, and servers have some thousands of them.
    WHILE cardinality(names) > 0 LOOP
        problems := problems || roneo.create_some(source, source_schema, names[1:25], place, method, control, refresh_every, with_indexes);
        names := names[26:];
        COMMIT;
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    END LOOP;
    IF problems <> '{}' THEN
        RAISE EXCEPTION USING
            ERRCODE = left(problems[1], 5),
            MESSAGE = format('%s of %s tables of schema %I could not be registered', cardinality(problems), wanted, source_schema),
            DETAIL  = array_to_string(problems[1:20] || CASE WHEN cardinality(problems) > 20 THEN ARRAY['and others'] END, E'\n'),
            HINT    = 'The others are. Mend what is told, and call this again: it makes what is missing.';
    END IF;
END;
$$;
COMMENT ON PROCEDURE roneo.create_replicas(text, text, text, text, text[], text, interval, boolean) IS
    'Registers all tables of a schema of a source, or the named ones, under their own names and by one method, for the next refreshes to load. What is registered so already is left as it is; what cannot be stops no other, and is raised at the end. Commits 25 tables at a time. A procedure that commits can fix no search_path in its definition; it pins it in its first statement.';
-- What is missing before a refresh can work, as SQL that mends it. Nothing here changes anything.

CREATE OR REPLACE FUNCTION roneo.preflight_probe(name text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked roneo.source := roneo.require_source(name);
BEGIN
    RETURN format($probe$
SELECT pg_catalog.jsonb_build_object(
    'user', current_user,
    'reads_stats', pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'),
    'superuser', (SELECT u.rolsuper FROM pg_catalog.pg_roles AS u WHERE u.rolname = current_user),
    'identity', %s,
    'capture', (
        SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc AS f
                               WHERE f.pronamespace = n.oid AND f.prorettype <> 'pg_catalog.trigger'::pg_catalog.regtype
                                 AND NOT pg_catalog.has_function_privilege(f.oid, 'EXECUTE'))
        FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'roneo_capture'),
    'tables', (
        SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'replica_id', w.replica_id,
            'schema_exists', n.oid IS NOT NULL,
            'usage', pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
            'exists', c.oid IS NOT NULL,
            'kind', c.relkind,
            'readable', pg_catalog.has_table_privilege(c.oid, 'SELECT'),
            'unreadable', (
                SELECT pg_catalog.jsonb_agg(a.attname ORDER BY a.attnum)
                FROM pg_catalog.pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                  AND (w.columns IS NULL OR a.attname = ANY (w.columns))
                  AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')),
            'gone', (
                SELECT pg_catalog.jsonb_agg(k.wanted)
                FROM pg_catalog.unnest(w.columns) AS k (wanted)
                WHERE NOT EXISTS (
                    SELECT FROM pg_catalog.pg_attribute AS a
                    WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attname = k.wanted)),
            'row_security', pg_catalog.row_security_active(c.oid)
        ) ORDER BY w.replica_id), '[]')
        FROM pg_catalog.jsonb_to_recordset(%L)
            AS w (replica_id integer, schema_name name, table_name name, columns name[])
        LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema_name
        LEFT JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.table_name
            AND c.relkind IN ('r', 'p', 'v', 'm', 'f'))
)::text$probe$,
        roneo.identity_query(),
        (SELECT coalesce(jsonb_agg(jsonb_build_object(
             'replica_id', r.replica_id, 'schema_name', r.source_schema,
             'table_name', r.source_table, 'columns', r.wanted_columns)), '[]')
         FROM roneo.replica AS r WHERE r.source_id = asked.source_id));
END;
$$;
COMMENT ON FUNCTION roneo.preflight_probe(text) IS
    'A query for a source: one JSON document that says who asks, which server answers, and what may be read of each replica''s table.';

CREATE OR REPLACE FUNCTION roneo.preflight(name text, answer jsonb)
RETURNS TABLE (side text, item text, ok boolean, detail text, fix text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.require_source(name);
    RETURN QUERY SELECT 'source', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_server(name, answer) AS f;
    RETURN QUERY SELECT 'source', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_capture(name, answer) AS f;
    RETURN QUERY SELECT 'source', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_schemas(answer) AS f;
    RETURN QUERY SELECT 'source', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_tables(answer) AS f;
END;
$$;
COMMENT ON FUNCTION roneo.preflight(text, jsonb) IS
    'Findings about a source from its answer to preflight_probe; fix is SQL to run there.';

CREATE OR REPLACE FUNCTION roneo.preflight_server(name text, answer jsonb)
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'server version', v.number BETWEEN 130000 AND 189999,
           format('PostgreSQL %s; a source may be 13 to 18', v.number / 10000), NULL
    FROM (SELECT (answer #>> '{identity,version}')::integer) AS v (number)
    UNION ALL
    SELECT 'role', true, format('connects as %I%s', answer ->> 'user',
           CASE WHEN (answer ->> 'superuser')::boolean THEN ', a superuser: SELECT alone is enough'
                ELSE '' END), NULL
    UNION ALL
    SELECT 'server', true, format('database %I, %s', answer #>> '{identity,database}',
           CASE WHEN (answer #>> '{identity,in_recovery}')::boolean
                THEN 'a standby: long reads can be cancelled by its replay'
                ELSE 'a primary' END), NULL
    UNION ALL
    SELECT 'encoding',
           answer #>> '{identity,encoding}' <> 'SQL_ASCII' OR s.source_encoding IS NOT NULL
               OR current_setting('server_encoding') = 'SQL_ASCII',
           CASE WHEN answer #>> '{identity,encoding}' <> 'SQL_ASCII'
                THEN answer #>> '{identity,encoding}'
                ELSE format('SQL_ASCII: what its bytes mean is %s', CASE
                     WHEN s.source_encoding IS NOT NULL
                     THEN format('taken to be %s', s.source_encoding)
                     ELSE 'unknown; name it as source_encoding of roneo.source, such as LATIN1'
                     END) END,
           NULL
    FROM roneo.source AS s WHERE s.source_name = name
    UNION ALL
    SELECT 'limits', u.problem IS NULL, coalesce(u.problem, 'can be kept'),
           CASE WHEN u.problem IS NOT NULL THEN format('GRANT pg_read_all_stats TO %I;', answer ->> 'user') END
    FROM roneo.source AS s
    CROSS JOIN LATERAL (SELECT roneo.unread_limits(s, (answer ->> 'reads_stats')::boolean, answer ->> 'user')) AS u (problem)
    WHERE s.source_name = name AND coalesce(s.max_lag::text, s.max_lag_bytes::text, s.max_xmin_age::text) IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.preflight_server(text, jsonb) IS 'Findings about a source as a whole.';

CREATE OR REPLACE FUNCTION roneo.preflight_capture(name text, answer jsonb)
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'schema roneo_capture', coalesce((answer ->> 'capture')::boolean, false),
           CASE WHEN (answer ->> 'capture')::boolean THEN 'may be used'
                WHEN answer ->> 'capture' IS NOT NULL THEN format('%I may not use all of it', answer ->> 'user')
                ELSE 'does not exist: roneo.resync makes it, and roneo.capture_script prints it' END,
           CASE WHEN NOT (answer ->> 'capture')::boolean THEN format('SELECT roneo_capture.allow(%L);', answer ->> 'user') END
    WHERE EXISTS (SELECT FROM roneo.replica AS r JOIN roneo.source AS s USING (source_id)
                  WHERE s.source_name = name AND r.method IN ('dml', 'logdel'));
END;
COMMENT ON FUNCTION roneo.preflight_capture(text, jsonb) IS 'A finding about what dml and logdel need on a source, where it has any.';

CREATE OR REPLACE FUNCTION roneo.preflight_schemas(answer jsonb)
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('schema %I', s.name), coalesce(s.usage, false),
           CASE WHEN s.usage THEN 'may be used'
                WHEN s.schema_exists THEN format('%I has no USAGE', answer ->> 'user')
                ELSE 'does not exist' END,
           CASE WHEN s.schema_exists AND NOT s.usage
                THEN format('GRANT USAGE ON SCHEMA %I TO %I;', s.name, answer ->> 'user') END
    FROM (
        SELECT DISTINCT r.source_schema AS name, t.schema_exists, t.usage
        FROM jsonb_to_recordset(answer -> 'tables')
            AS t (replica_id integer, schema_exists boolean, usage boolean)
        JOIN roneo.replica AS r USING (replica_id)
    ) AS s
    ORDER BY s.name;
END;
COMMENT ON FUNCTION roneo.preflight_schemas(jsonb) IS 'Findings about the schemas that replicas read from.';

CREATE OR REPLACE FUNCTION roneo.preflight_tables(answer jsonb)
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH seen AS (
        SELECT format('%I.%I', r.source_schema, r.source_table) AS name, r.wanted_columns,
               r.filter, t.*, t.readable OR t.unreadable IS NULL AS enough
        FROM jsonb_to_recordset(answer -> 'tables')
            AS t (replica_id integer, "exists" boolean, readable boolean, unreadable name[],
                  gone name[], row_security boolean)
        JOIN roneo.replica AS r USING (replica_id)
    )
    SELECT format('table %s', s.name), s."exists" AND s.enough,
           CASE WHEN NOT s."exists" THEN 'does not exist'
                WHEN s.readable THEN 'may be read'
                WHEN s.enough THEN concat('the columns asked for may be read',
                    CASE WHEN s.filter IS NOT NULL THEN '; the filter may need others' END)
                ELSE format('%I has no SELECT on %s', answer ->> 'user', CASE
                    WHEN s.wanted_columns IS NULL THEN 'it'
                    ELSE format('(%s)', roneo.column_list(s.unreadable)) END) END,
           CASE WHEN s."exists" AND NOT s.enough THEN format('GRANT SELECT%s ON TABLE %s TO %I;',
                    CASE WHEN s.wanted_columns IS NOT NULL
                         THEN format(' (%s)', roneo.column_list(s.unreadable)) ELSE '' END,
                    s.name, answer ->> 'user') END
    FROM seen AS s
    UNION ALL
    SELECT format('columns of %s', s.name), false,
           format('gone from the source: %s', roneo.column_list(s.gone)), NULL
    FROM seen AS s WHERE s."exists" AND s.gone IS NOT NULL
    UNION ALL
    SELECT format('row security of %s', s.name), false,
           format('%I sees only the rows that policies show it', answer ->> 'user'),
           format('ALTER ROLE %I BYPASSRLS;', answer ->> 'user')
    FROM seen AS s WHERE s.row_security
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.preflight_tables(jsonb) IS 'Findings about the tables that replicas read from.';

CREATE OR REPLACE FUNCTION roneo.check_source(name text)
RETURNS TABLE (side text, item text, ok boolean, detail text, fix text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    probe   text := roneo.preflight_probe(name);
    link    text;
    answer  jsonb;
    problem text;
    reason  text;
    advice  text;
BEGIN
    BEGIN
        link := roneo.open_link(name);
    EXCEPTION WHEN SQLSTATE 'RO011' OR query_canceled THEN
        RAISE;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS
            problem = MESSAGE_TEXT, reason = PG_EXCEPTION_DETAIL, advice = PG_EXCEPTION_HINT;
        RETURN QUERY SELECT 'source', 'connection', false,
            concat_ws('. ', problem, nullif(rtrim(reason, '.'), ''), nullif(advice, '')), NULL::text;
        RETURN;
    END;
    BEGIN
        answer := roneo.ask_link(link, probe);
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        -- A dblink connection stays open after a rollback.
        PERFORM roneo.close_link(link);
        RAISE;
    END;
    PERFORM roneo.close_link(link);
    RETURN QUERY SELECT 'source', 'connection', true, 'can be reached', NULL::text;
    RETURN QUERY SELECT f.* FROM roneo.preflight(name, answer) AS f;
END;
$$;
COMMENT ON FUNCTION roneo.check_source(text) IS
    'Whether a source can be reached over dblink and what its role lacks there; fix is SQL to run on the source.';

CREATE OR REPLACE FUNCTION roneo.preflight_local()
RETURNS TABLE (side text, item text, ok boolean, detail text, fix text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT 'destination', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_database() AS f;
    RETURN QUERY SELECT 'destination', format('privileges of %I', current_user), NOT f.lacks,
                        CASE WHEN f.lacks THEN 'are not enough to refresh' ELSE 'are enough to refresh' END,
                        f.fix
                 FROM (SELECT count(*) > 0 AS lacks, string_agg(g, ' ') AS fix
                       FROM roneo.missing_grants(current_user) AS g) AS f;
    RETURN QUERY SELECT 'destination', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_mappings() AS f;
    RETURN QUERY SELECT 'destination', f.item, f.ok, f.detail, f.fix
                 FROM roneo.preflight_replicas() AS f;
END;
$$;
COMMENT ON FUNCTION roneo.preflight_local() IS
    'Findings about this database and what the current role may do in it; fix is SQL to run here.';

CREATE OR REPLACE FUNCTION roneo.preflight_database()
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'server version', v.number BETWEEN 140000 AND 189999,
           format('PostgreSQL %s; a destination may be 14 to 18', v.number / 10000), NULL
    FROM (SELECT current_setting('server_version_num')::integer) AS v (number)
    UNION ALL
    SELECT 'server', NOT pg_is_in_recovery(),
           CASE WHEN pg_is_in_recovery() THEN 'a standby: nothing can be refreshed here'
                ELSE 'a primary' END, NULL
    UNION ALL
    SELECT 'dblink', true,
           CASE WHEN EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'dblink')
                THEN 'installed'
                ELSE 'not installed; refreshes by SQL need it, the roneo program does not' END, NULL
    UNION ALL
    SELECT 'transaction isolation', i.level = 'read committed', format('default is %s', i.level),
           CASE WHEN i.level <> 'read committed'
                THEN format('ALTER ROLE %I IN DATABASE %I SET default_transaction_isolation = %L;',
                            current_user, current_database(), 'read committed') END
    FROM (SELECT current_setting('default_transaction_isolation')) AS i (level);
END;
COMMENT ON FUNCTION roneo.preflight_database() IS 'Findings about the destination as a whole.';

CREATE OR REPLACE FUNCTION roneo.preflight_mappings()
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH asked AS (
        SELECT s.source_name, s.server_name, f.oid AS server_id, m.mapped_role, m.visible,
               has_server_privilege(f.oid, 'USAGE') AS usable,
               r.rolsuper OR EXISTS (SELECT FROM unnest(m.options) AS o
                                     WHERE o LIKE 'password=%') AS has_password
        FROM roneo.source AS s
        JOIN pg_roles AS r ON r.rolname = current_user
        LEFT JOIN pg_foreign_server AS f ON f.srvname = s.server_name
        LEFT JOIN LATERAL roneo.server_mapping(s.server_name, current_user) AS m ON true
    )
    SELECT format('server %I of source %I', a.server_name, a.source_name), coalesce(a.usable, false),
           CASE WHEN a.server_id IS NULL THEN 'does not exist: roneo.create_source makes it again after DELETE FROM roneo.source'
                WHEN a.usable THEN 'may be used' ELSE format('%I has no USAGE', current_user) END,
           CASE WHEN NOT a.usable
                THEN format('GRANT USAGE ON FOREIGN SERVER %I TO %I;', a.server_name, current_user) END
    FROM asked AS a
    UNION ALL
    SELECT format('user mapping for source %I', a.source_name),
           coalesce(a.visible, false),
           CASE WHEN a.mapped_role IS NULL THEN format('%I has none', current_user)
                WHEN NOT a.visible THEN format('%I may not read that of %I', current_user, a.mapped_role)
                WHEN a.has_password THEN format('that of %I', a.mapped_role)
                ELSE 'has no password: dblink, not the roneo program, wants one of all but superusers' END,
           CASE WHEN a.visible IS NOT TRUE
                THEN format('CREATE USER MAPPING FOR %I SERVER %I OPTIONS (user ''…'', password ''…'');',
                            current_user, a.server_name) END
    FROM asked AS a WHERE a.server_id IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.preflight_mappings() IS
    'Findings about the foreign servers and user mappings that the current role connects with.';

CREATE OR REPLACE FUNCTION roneo.preflight_replicas()
RETURNS TABLE (item text, ok boolean, detail text, fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH asked AS (
        SELECT format('%I.%I', r.dest_schema, r.dest_name) AS name, r.method, o.rolname AS owner_name,
               n.nspname, p.wanted,
               pg_has_role(r.owner_id, CASE  -- MEMBER may be without SET from 16 on
                   WHEN current_setting('server_version_num')::integer < 160000
                   THEN 'MEMBER' ELSE 'SET' END) AS member,
               CASE WHEN o.rolname IS NOT NULL
                    THEN has_schema_privilege(o.oid, n.oid, p.wanted) END AS schema_open
        FROM (SELECT q.*, c.relowner AS owner_id, c.relnamespace
              FROM roneo.replica AS q LEFT JOIN pg_class AS c ON c.oid = q.dest) AS r
        LEFT JOIN pg_roles AS o ON o.oid = r.owner_id
        LEFT JOIN pg_namespace AS n ON n.oid = r.relnamespace
        CROSS JOIN LATERAL (SELECT CASE WHEN r.method = 'plain' THEN 'USAGE' ELSE 'CREATE' END)
            AS p (wanted)
    )
    SELECT format('replica %s', a.name), coalesce(a.member, false),
           CASE WHEN a.owner_name IS NULL THEN 'its table or view is gone'
                WHEN a.member THEN format('steps run as its owner %I', a.owner_name)
                ELSE format('%I may not become its owner %I', current_user, a.owner_name) END,
           CASE WHEN NOT a.member THEN format('GRANT %I TO %I;', a.owner_name, current_user) END
    FROM asked AS a
    UNION ALL
    SELECT format('schema of %s', a.name), false,
           format('its owner %I has no %s on it', a.owner_name, a.wanted),
           format('GRANT %s ON SCHEMA %I TO %I;', a.wanted, a.nspname, a.owner_name)
    FROM asked AS a WHERE NOT a.schema_open
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.preflight_replicas() IS
    'Findings about the destinations: whether they exist, and whether the current role may work as their owners.';
CREATE OR REPLACE FUNCTION roneo.protection(c roneo.control_replica, standby boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN c.replica_id IS NULL THEN NULL
    WHEN c.far_value IS NOT NULL THEN format('%s is far above all other values of %I, and rows below it are found by a sweep only: correct it on the source, or set sweep_every',
                                             c.far_value, c.control)
    WHEN NOT roneo.follows_xmin(c) THEN format('late rows are found only within the boundary of %s%s', c.boundary,
        format(CASE WHEN c.key_columns IS NOT NULL AND c.look_back IS NOT NULL THEN ' and the look_back of %s' END, c.look_back))
    WHEN standby THEN format('late rows are known by their transaction; of a standby those older than %s can be missed', c.look_back)
    ELSE 'late rows are known by their transaction'
END;
COMMENT ON FUNCTION roneo.protection(roneo.control_replica, boolean) IS
    'What keeps an inserter or updater from missing rows that are committed late.';

CREATE OR REPLACE VIEW roneo.status AS
SELECT d.dest,
       r.method,
       s.source_name,
       format('%I.%I', r.source_schema, r.source_table) AS source_table,
       x.state,
       CASE
           WHEN x.state IN ('abandoned', 'gone') OR r.quarantined_at IS NOT NULL OR r.failures >= t.failures_critical
                OR w.late > r.refresh_every * (t.late_critical_pct / 100.0) THEN 'CRITICAL'
           WHEN r.failures >= t.failures_warning
                OR w.late > r.refresh_every * (t.late_warning_pct / 100.0) THEN 'WARNING'
           ELSE 'OK'
       END AS alert,
       r.last_success_at,
       date_trunc('second', clock_timestamp() - r.last_success_at) AS age,
       r.refresh_every AS promised_age,
       date_trunc('second', greatest(w.late, interval '0')) AS lag,
       w.due_at,
       r.last_attempt_at,
       r.last_outcome,
       r.failures,
       u.rows_received AS last_rows,
       u.seconds AS last_seconds,
       coalesce(r.last_message, u.message) AS message,
       o.last_value AS position,
       roneo.protection(o, r.identity ->> 'in_recovery' = 'true') AS protection,
       o.held_by,
       o.held_since,
       r.replica_id,
       r.priority,
       r.window_text AS windows,
       r.window_zone,
       r.quarantined_at,
       v.verdict,
       v.verified_at,
       coalesce(v.missing, 0) + coalesce(v.extra, 0) + coalesce(v.changed, 0) AS differences
FROM roneo.replica AS r
JOIN roneo.source AS s USING (source_id)
CROSS JOIN (
    SELECT max(e.value::integer) FILTER (WHERE e.setting_name = 'failures_warning')  AS failures_warning,
           max(e.value::integer) FILTER (WHERE e.setting_name = 'failures_critical') AS failures_critical,
           max(e.value::integer) FILTER (WHERE e.setting_name = 'late_warning_pct')  AS late_warning_pct,
           max(e.value::integer) FILTER (WHERE e.setting_name = 'late_critical_pct') AS late_critical_pct
    FROM roneo.settings AS e
) AS t
LEFT JOIN pg_catalog.pg_class AS c ON c.oid = r.dest
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT v.* FROM roneo.run AS v
    -- A verification that failed is no refresh that did.
    WHERE v.replica_id = r.replica_id AND v.kind <> 'verify'
    ORDER BY v.started_at DESC, v.run_id DESC
    LIMIT 1
) AS u ON true
LEFT JOIN roneo.snapshot_replica AS m ON m.replica_id = r.replica_id
LEFT JOIN roneo.control_replica AS o ON o.replica_id = r.replica_id
LEFT JOIN roneo.verification AS v ON v.replica_id = r.replica_id
CROSS JOIN LATERAL (
    SELECT format('%I.%I', coalesce(n.nspname, r.dest_schema), coalesce(c.relname, r.dest_name)) AS dest
) AS d
CROSS JOIN LATERAL (
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_locks AS l
        JOIN pg_catalog.pg_database AS b ON b.oid = l.database AND b.datname = current_database()
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
          AND l.classid::bigint = roneo.lock_class() AND l.objid::bigint = r.replica_id) AS locked
) AS k
CROSS JOIN LATERAL (
    SELECT CASE
               WHEN c.oid IS NULL THEN 'gone'
               WHEN k.locked THEN 'running'
               -- Between its start record and its lock a runner takes a moment.
               WHEN u.outcome = 'running' AND u.started_at < clock_timestamp() - interval '5 seconds'
                   THEN 'abandoned'
               WHEN u.outcome = 'running' THEN 'running'
               WHEN NOT r.enabled THEN 'disabled'
               WHEN r.quarantined_at IS NOT NULL THEN 'quarantined'
               WHEN r.last_outcome = 'failed' THEN 'failed'
               WHEN m.pending_at IS NOT NULL THEN 'swap pending'
               WHEN r.last_outcome = 'deferred' THEN 'deferred'
               WHEN r.last_success_at IS NULL THEN 'new'
               ELSE 'ok'
           END AS state
) AS x
-- OFFSET 0: worked out once for each. What missed its window is due when the next one opens.
CROSS JOIN LATERAL (
    SELECT CASE WHEN r.enabled THEN roneo.late_by(r) END AS late,
           CASE WHEN r.windows IS NULL OR d.due_at IS NULL THEN d.due_at
                ELSE greatest(d.due_at, nullif(roneo.next_opening(r.windows, r.window_zone, statement_timestamp()), statement_timestamp()))
           END AS due_at
    FROM (SELECT roneo.due_at(r) AS due_at OFFSET 0) AS d
    OFFSET 0
) AS w;
COMMENT ON VIEW roneo.status IS
    'One line a replica: how fresh it is, how fresh it should be, and what hinders it. alert, as the settings say: OK; WARNING after a failure or when later than one interval; CRITICAL after three failures in a row, when later than three intervals; in quarantine; and when its runner was killed, or the destination is gone. A disabled one is never late.';
COMMENT ON COLUMN roneo.status.state IS
    'ok, new, running, deferred, swap pending, failed, abandoned (its runner was killed), disabled, quarantined (it failed too often), gone (the destination was dropped).';
COMMENT ON COLUMN roneo.status.position IS 'The highest control value that was read.';
COMMENT ON COLUMN roneo.status.protection IS 'What keeps an inserter or updater from missing rows that are committed late.';
COMMENT ON COLUMN roneo.status.held_by IS 'The transaction on the source that rows of a replica without a key wait for, since held_since.';
COMMENT ON COLUMN roneo.status.lag IS
    'How long it has been due, from when a refresh could have begun; the latest time in which its windows were shut is left out.';
COMMENT ON COLUMN roneo.status.windows IS 'When a refresh may begin, on the clocks of window_zone; NULL: always.';
COMMENT ON COLUMN roneo.status.quarantined_at IS 'Since when it is not refreshed any more, after too many failures; roneo.release ends that.';
COMMENT ON COLUMN roneo.status.verdict IS 'What the last comparison with the source found; NULL: there was none.';
COMMENT ON COLUMN roneo.status.verified_at IS 'When the whole of it was last known to be equal to its source.';
-- Whether all is well, in rows for people and for what alarms them. Everything is computed from
-- the last success and the clock: where no runner ever ran, that is what is found.

CREATE OR REPLACE FUNCTION roneo.span_text(span interval)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN extract(epoch FROM span) < 120 THEN format('%s s', floor(extract(epoch FROM span)))
    WHEN extract(epoch FROM span) < 7200 THEN format('%s min', floor(extract(epoch FROM span) / 60))
    WHEN extract(epoch FROM span) < 172800 THEN format('%s h', floor(extract(epoch FROM span) / 3600))
    WHEN span IS NOT NULL THEN format('%s d', floor(extract(epoch FROM span) / 86400))
END;
COMMENT ON FUNCTION roneo.span_text(interval) IS 'A length of time in its largest unit, such as 25 min.';

CREATE OR REPLACE FUNCTION roneo.level_rank(level text)
RETURNS integer LANGUAGE sql IMMUTABLE
RETURN CASE level WHEN 'CRITICAL' THEN 0 WHEN 'WARNING' THEN 1 WHEN 'UNKNOWN' THEN 2 ELSE 3 END;
COMMENT ON FUNCTION roneo.level_rank(text) IS 'Orders alert levels, the worst first, as plugins of Nagios do.';

CREATE OR REPLACE FUNCTION roneo.judge_freshness(s roneo.status, late_warning numeric, late_critical numeric)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'freshness', s.dest, j.level,
           concat_ws('; ',
               CASE WHEN s.age IS NULL THEN 'never refreshed' ELSE format('%s old', roneo.span_text(s.age)) END,
               CASE WHEN s.state = 'disabled' THEN 'disabled, so nothing is promised'
                    WHEN s.promised_age IS NULL THEN 'no age is promised'
                    ELSE format('promised every %s', roneo.span_text(s.promised_age)) END,
               format(CASE WHEN s.lag > interval '0' THEN 'due since %s' END, roneo.span_text(s.lag)),
               format(CASE WHEN j.level <> 'OK' AND s.last_outcome IN ('failed', 'deferred') THEN 'last attempt %s: %s' END,
                      s.last_outcome, s.message)),
           CASE WHEN j.level = 'OK' THEN NULL
                WHEN s.state = 'running' THEN 'It is being refreshed now. If that always takes so long, promise less: roneo.set_schedule(dest, refresh_every => …)'
                WHEN s.state = 'quarantined' THEN format('It is in quarantine. Read the error and mend it: roneo history %L', s.dest)
                WHEN s.last_attempt_at > clock_timestamp() - s.lag AND s.last_outcome = 'failed'
                    THEN format('Read the error and mend it: roneo history %L', s.dest)
                WHEN s.last_attempt_at > clock_timestamp() - s.lag AND s.last_outcome = 'deferred'
                    THEN 'Others hold what it needs, here or on the source: end the transaction that the message tells of.'
                ELSE 'No refresh was tried since it is due. Look at the line of cron (roneo run), its mail, --jobs and --max-runtime.' END
    FROM (SELECT CASE
              WHEN s.state = 'disabled' OR s.promised_age IS NULL THEN 'OK'
              WHEN f.factor > late_critical THEN 'CRITICAL'
              WHEN f.factor > late_warning THEN 'WARNING'
              ELSE 'OK' END AS level
          FROM (SELECT extract(epoch FROM s.lag) / extract(epoch FROM s.promised_age)) AS f (factor)) AS j
    WHERE s.state <> 'gone';
END;
COMMENT ON FUNCTION roneo.judge_freshness(roneo.status, numeric, numeric) IS
    'The finding about a replica''s age: how many times refresh_every it may be late.';

CREATE OR REPLACE FUNCTION roneo.judge_failures(s roneo.status, levels jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT CASE WHEN s.quarantined_at IS NULL THEN 'failures' ELSE 'quarantine' END, s.dest,
           CASE WHEN s.quarantined_at IS NOT NULL OR s.failures >= (levels ->> 'failures_critical')::integer THEN 'CRITICAL' ELSE 'WARNING' END,
           concat_ws(': ', format(CASE WHEN s.quarantined_at IS NOT NULL THEN 'in quarantine for %s, and not refreshed any more' END,
                            roneo.span_text(clock_timestamp() - s.quarantined_at)),
                     format('%s in a row, the last one %s ago',
                                  CASE s.failures WHEN 1 THEN '1 failure' ELSE format('%s failures', s.failures) END,
                                  roneo.span_text(clock_timestamp() - s.last_attempt_at)),
                     concat_ws(' ', u.sqlstate, coalesce(u.message, s.message))),
           concat_ws(' ', coalesce(u.hint, format('Read the whole error: roneo history %L.', s.dest)),
                     CASE WHEN s.quarantined_at IS NOT NULL THEN format('When it is mended: roneo release %L', s.dest) END)
    FROM (VALUES (1)) AS one
    LEFT JOIN LATERAL (
        SELECT v.* FROM roneo.run AS v
        WHERE v.replica_id = s.replica_id AND v.outcome = 'failed' AND v.kind <> 'verify'
        ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1
    ) AS u ON true
    WHERE s.quarantined_at IS NOT NULL OR s.failures >= least((levels ->> 'failures_warning')::integer, (levels ->> 'failures_critical')::integer);
END;
COMMENT ON FUNCTION roneo.judge_failures(roneo.status, jsonb) IS
    'The finding about a replica that failed several times in a row, or is in quarantine after that.';

-- A verification that was never made is not due, but new: it has no moment to be late from.
CREATE OR REPLACE FUNCTION roneo.judge_verification(s roneo.status)
RETURNS TABLE (check_name text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'content', 'CRITICAL',
           format('differs from its source, found %s ago: %s missing, %s too many, %s changed',
                  roneo.span_text(clock_timestamp() - v.differed_at), coalesce(v.missing, 0), coalesce(v.extra, 0), coalesce(v.changed, 0)),
           format('Look who wrote here. Which rows: roneo repair %L, and with --apply they are brought in line', s.dest)
    FROM roneo.verification AS v
    -- One that failed since, or did not come to an end, has found nothing better.
    WHERE v.replica_id = s.replica_id AND v.differed_at IS NOT NULL
    UNION ALL
    SELECT 'verification', 'WARNING',
           concat_ws('; ',
               format(CASE WHEN j.is_late THEN 'verified %s ago, promised every %s' END,
                      roneo.span_text(clock_timestamp() - coalesce(v.verified_at, v.checked_at)), roneo.span_text(v.verify_every)),
               CASE WHEN v.failed_run_id IS NOT NULL
                    THEN format('the last verification failed %s ago: %s', roneo.span_text(clock_timestamp() - coalesce(u.ended_at, v.checked_at)),
                                concat_ws(' ', u.sqlstate, coalesce(u.message, v.why)))
                    WHEN v.verdict = 'undecided' THEN format('the last look: %s', v.why) END),
           CASE WHEN v.failed_run_id IS NOT NULL
                THEN concat_ws(' ', coalesce(u.hint, format('Read the whole error and mend it: roneo history %L.', s.dest)),
                               format('Then: roneo verify %L', s.dest))
                ELSE 'Is roneo verify --due in the line of cron, and has it the time (--max-runtime)?' END
    FROM roneo.verification AS v
    LEFT JOIN roneo.run AS u ON u.run_id = v.failed_run_id
    CROSS JOIN LATERAL (
        SELECT v.differed_at IS NULL AND clock_timestamp() - coalesce(v.verified_at, v.checked_at) > 2 * v.verify_every AS is_late) AS j
    WHERE v.replica_id = s.replica_id AND (j.is_late OR v.failed_run_id IS NOT NULL) AND s.state <> 'disabled';
END;
COMMENT ON FUNCTION roneo.judge_verification(roneo.status) IS
    'Findings about a replica that is known to differ from its source, that was to be verified long ago, or whose verification failed.';

CREATE OR REPLACE FUNCTION roneo.judge_state(s roneo.status, levels jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'destination', s.dest, 'CRITICAL', 'the destination was dropped',
           format('Forget the replica, and create it anew: SELECT roneo.drop_replica(%s);',
                  (SELECT r.dest::oid FROM roneo.replica AS r WHERE r.replica_id = s.replica_id))
    WHERE s.state = 'gone'
    UNION ALL
    SELECT 'abandoned', s.dest, 'CRITICAL',
           format('its runner was killed or lost the destination%s', (
               SELECT format(': run %s, %s', u.run_id, u.runner) FROM roneo.run AS u
               WHERE u.replica_id = s.replica_id AND u.outcome = 'running' ORDER BY u.run_id DESC LIMIT 1)),
           format('Nothing of it was committed. Find out who killed it, then: roneo refresh %L', s.dest)
    WHERE s.state = 'abandoned'
    UNION ALL
    SELECT 'held', s.dest, 'WARNING',
           format('rows wait for transaction %s on the source since %s', s.held_by,
                  roneo.span_text(clock_timestamp() - s.held_since)),
           'End that transaction on the source: pg_stat_activity or pg_prepared_xacts has it. Or give the replica a key.'
    WHERE clock_timestamp() - s.held_since > make_interval(secs => (levels ->> 'held_warning_s')::float8)
      AND s.held_by IS NOT NULL
    UNION ALL
    SELECT v.check_name, s.dest, v.level, v.message, v.advice FROM roneo.judge_verification(s) AS v
    UNION ALL
    SELECT 'warning', s.dest, 'WARNING', u.warning,
           CASE WHEN c.far_value IS NOT NULL THEN 'Correct the value on the source, or set sweep_every of roneo.control_replica.'
                ELSE 'The next refresh without it takes this away.' END
    FROM (SELECT v.warning FROM roneo.run AS v
          WHERE v.replica_id = s.replica_id AND v.outcome IN ('ok', 'unchanged', 'deferred') AND v.kind <> 'verify'
          ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1) AS u
    LEFT JOIN roneo.control_replica AS c ON c.replica_id = s.replica_id
    WHERE u.warning IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.judge_state(roneo.status, jsonb) IS
    'Findings about a replica that only a person can mend: dropped, abandoned, held back, warned of.';

CREATE OR REPLACE FUNCTION roneo.judge_size(s roneo.status, levels jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'size', s.dest, 'WARNING',
           format('a copy of the whole table moves %s MB in %s; up to %s MB and %s are set as bearable',
                  round(u.bytes / 1e6), roneo.span_text(make_interval(secs => u.seconds::float8)),
                  coalesce(nullif(levels ->> 'copy_mb_warning', '0'), 'any number of'),
                  coalesce(roneo.span_text(make_interval(secs => nullif(levels ->> 'copy_s_warning', '0')::float8)), 'any time')),
           'Copy only what is new (roneo.create_updater, roneo.create_inserter), fewer columns or rows, or less often; or raise copy_mb_warning, copy_s_warning in roneo.setting.'
    FROM (SELECT v.* FROM roneo.run AS v
          WHERE v.replica_id = s.replica_id AND v.outcome = 'ok' AND v.rows_received IS NOT NULL
          ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1) AS u
    WHERE s.method IN ('snapshot', 'plain')
      AND (u.bytes / 1e6 > nullif((levels ->> 'copy_mb_warning')::integer, 0)
           OR u.seconds > nullif((levels ->> 'copy_s_warning')::integer, 0));
END;
COMMENT ON FUNCTION roneo.judge_size(roneo.status, jsonb) IS
    'The finding about a table that has grown too big to be copied whole.';

-- Of each stretch of the grid only the first run: what people refresh between is not a delay.
CREATE OR REPLACE FUNCTION roneo.scheduled_runs(id integer, since timestamptz)
RETURNS TABLE (due_at timestamptz, started_at timestamptz, ended_at timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT DISTINCT ON (g.due_at) g.due_at, u.started_at, u.ended_at
    FROM roneo.replica AS r
    CROSS JOIN LATERAL (
        -- Enough to tell what is the rule.
        SELECT v.started_at, v.ended_at FROM roneo.run AS v
        WHERE v.replica_id = r.replica_id AND v.outcome = 'ok'
          AND v.started_at >= greatest(since, r.created_at + r.refresh_every)
        ORDER BY v.started_at DESC LIMIT 100
    ) AS u
    CROSS JOIN LATERAL (
        SELECT roneo.opens_at(r, roneo.next_on_grid(r.created_at, r.refresh_every, u.started_at) - r.refresh_every)
    ) AS g (due_at)
    WHERE r.replica_id = id AND r.refresh_every IS NOT NULL
      -- Before its window opened nobody but a person began it.
      AND g.due_at <= u.started_at
    ORDER BY g.due_at, u.started_at;
END;
COMMENT ON FUNCTION roneo.scheduled_runs(integer, timestamptz) IS
    'The latest hundred runs that copied something, the first after each point of the grid, with that point: how late they began at the least.';

CREATE OR REPLACE FUNCTION roneo.judge_promise(s roneo.status, levels jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'promise', s.dest, 'WARNING',
           format('promised every %s, but as a rule %s old before it is fresh again: it starts %s late and takes %s',
                  roneo.span_text(s.promised_age), roneo.span_text(s.promised_age + make_interval(secs => d.waits + d.takes)),
                  roneo.span_text(make_interval(secs => d.waits)), roneo.span_text(make_interval(secs => d.takes))),
           CASE WHEN d.waits > d.takes THEN 'Run the runner more often or with more --jobs, or promise less.'
                ELSE 'Copy less, or by another method, or promise less: roneo.set_schedule(dest, refresh_every => …)' END
    FROM (SELECT count(*) AS runs,
                 percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM u.started_at - u.due_at)::float8) AS waits,
                 percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM u.ended_at - u.started_at)::float8) AS takes
          FROM roneo.scheduled_runs(s.replica_id, now() - interval '1 day') AS u) AS d
    -- One slow run is no rule.
    WHERE d.runs >= 3 AND s.state <> 'disabled'
      AND d.waits + d.takes > extract(epoch FROM s.promised_age) * nullif((levels ->> 'drift_warning_pct')::integer, 0) / 100.0;
END;
COMMENT ON FUNCTION roneo.judge_promise(roneo.status, jsonb) IS
    'The finding about a replica whose real age, in the runs of the last day, is not the promised one.';

CREATE OR REPLACE FUNCTION roneo.judge_runner(late roneo.status[], worst text)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'runner', quote_ident(current_database()), judge_runner.worst,
           format('%s, although %s due for %s',
                  CASE WHEN seen.at IS NULL THEN 'no refresh was ever tried'
                       ELSE format('nothing was tried for %s', roneo.span_text(clock_timestamp() - seen.at)) END,
                  CASE cardinality(late) WHEN 1 THEN '1 replica has been' ELSE format('%s replicas have been', cardinality(late)) END,
                  roneo.span_text(due.lag)),
           'Is the line roneo run in cron, does cron run, and what did it mail? CALL roneo.refresh_due() does the same over SQL.'
    FROM (SELECT max(r.last_attempt_at) FROM roneo.replica AS r) AS seen (at),
         (SELECT max(l.lag) FROM unnest(late) AS l) AS due (lag)
    WHERE due.lag IS NOT NULL
      AND coalesce(seen.at < clock_timestamp() - due.lag, true);
END;
COMMENT ON FUNCTION roneo.judge_runner(roneo.status[], text) IS
    'The finding that nobody refreshes at all: no replica was tried since the first of the late ones was due.';

CREATE OR REPLACE FUNCTION roneo.judge_source(s roneo.source, levels jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'paused', quote_ident(s.source_name), 'WARNING',
           format('nothing is refreshed from it for %s: %s', roneo.span_text(clock_timestamp() - s.paused_since), s.paused_by),
           'Look at that source: its standbys, pg_stat_activity, pg_replication_slots, pg_prepared_xacts. Or change the limit: roneo.set_source_limits.'
    WHERE s.paused_since < clock_timestamp() - make_interval(secs => (levels ->> 'paused_warning_s')::float8)
    UNION ALL
    SELECT 'limits', quote_ident(s.source_name), 'WARNING', format('limits are not kept: %s', s.unread_limits),
           format('roneo preflight %L prints the GRANT.', s.source_name)
    WHERE s.unread_limits IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.judge_source(roneo.source, jsonb) IS
    'Findings about a source: paused for long, or limits that cannot be kept.';

CREATE OR REPLACE FUNCTION roneo.find_problems(ids integer[], late_warning numeric, late_critical numeric, levels jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH watched AS MATERIALIZED (
        SELECT s AS line, f.level AS freshness, f.message, f.advice
        FROM roneo.status AS s
        LEFT JOIN LATERAL roneo.judge_freshness(s, late_warning, late_critical) AS f ON true
        WHERE s.replica_id = ANY (ids)
    )
    SELECT * FROM (
        SELECT r.* FROM (
            SELECT array_agg(w.line) AS lines, min(roneo.level_rank(w.freshness)) AS worst
            FROM watched AS w WHERE w.freshness <> 'OK' AND (w.line).quarantined_at IS NULL) AS late
        CROSS JOIN LATERAL roneo.judge_runner(late.lines, CASE late.worst WHEN 0 THEN 'CRITICAL' ELSE 'WARNING' END) AS r
        UNION ALL
        SELECT 'freshness', (w.line).dest, w.freshness, w.message, w.advice FROM watched AS w WHERE w.freshness IS NOT NULL
        UNION ALL
        SELECT j.* FROM watched AS w CROSS JOIN LATERAL roneo.judge_failures(w.line, levels) AS j
        UNION ALL
        SELECT j.* FROM watched AS w CROSS JOIN LATERAL roneo.judge_state(w.line, levels) AS j
        UNION ALL
        SELECT j.* FROM watched AS w CROSS JOIN LATERAL roneo.judge_size(w.line, levels) AS j
        UNION ALL
        SELECT j.* FROM watched AS w CROSS JOIN LATERAL roneo.judge_promise(w.line, levels) AS j
        UNION ALL
        SELECT j.* FROM roneo.source AS o CROSS JOIN LATERAL roneo.judge_source(o, levels) AS j
        WHERE o.source_name IN (SELECT (w.line).source_name FROM watched AS w)
    ) AS a (check_name, object, level, message, advice)
    ORDER BY roneo.level_rank(a.level), a.check_name = 'runner' DESC, a.check_name, a.object;
END;
COMMENT ON FUNCTION roneo.find_problems(integer[], numeric, numeric, jsonb) IS
    'All findings about some replicas, the worst first.';

CREATE OR REPLACE FUNCTION roneo.watched_replicas(source_names text[], dests regclass[])
RETURNS integer[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stranger regclass;
BEGIN
    PERFORM roneo.require_source(n) FROM unnest(source_names) AS n;
    SELECT d INTO stranger FROM unnest(dests) AS d
    WHERE NOT EXISTS (SELECT FROM roneo.replica AS r WHERE r.dest = d) LIMIT 1;
    IF stranger IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO001',
            MESSAGE = format('table %s is not a replica', stranger),
            HINT    = 'SELECT dest FROM roneo.replica lists those that are.';
    END IF;
    RETURN (SELECT coalesce(array_agg(r.replica_id), '{}')
            FROM roneo.replica AS r
            JOIN roneo.source AS s USING (source_id)
            WHERE (source_names IS NULL OR s.source_name = ANY (source_names))
              AND (dests IS NULL OR r.dest = ANY (dests)));
END;
$$;
COMMENT ON FUNCTION roneo.watched_replicas(text[], regclass[]) IS
    'The replicas of some sources and destinations; NULL: all. Raises RO001 and RO003.';

CREATE OR REPLACE FUNCTION roneo.check(
    source_names text[] DEFAULT NULL, dests regclass[] DEFAULT NULL,
    late_warning numeric DEFAULT NULL, late_critical numeric DEFAULT NULL)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ids    integer[] := roneo.watched_replicas(source_names, dests);
    levels jsonb     := (SELECT jsonb_object_agg(e.setting_name, e.value) FROM roneo.settings AS e);
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN QUERY SELECT 'standby', quote_ident(current_database()), 'OK',
            'a standby: nothing is refreshed here', 'Check the primary.';
    ELSIF ids = '{}' THEN
        RETURN QUERY SELECT 'replicas', quote_ident(current_database()), 'UNKNOWN',
            'there is no replica to check', 'roneo.create_snapshot and its like make replicas.';
    ELSE
        RETURN QUERY SELECT * FROM roneo.find_problems(ids,
            coalesce(late_warning, (levels ->> 'late_warning_pct')::numeric / 100),
            coalesce(late_critical, (levels ->> 'late_critical_pct')::numeric / 100), levels);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.check(text[], regclass[], numeric, numeric) IS
    'Whether all is well: one row a finding, the worst first. Each replica has a row about its freshness, OK or not; all other rows say what is wrong, and what to do. late_warning, late_critical: how many times refresh_every a replica may be late, in place of the settings.';
-- Columns of source and destination that have drifted apart. Like preflight it has two halves: a
-- query for the source, and a function that judges its answer; so the program needs no dblink.

CREATE OR REPLACE FUNCTION roneo.ask_source(name text, query text)
RETURNS text LANGUAGE sql
RETURN roneo.call_source(name, query, roneo.source_opening());
COMMENT ON FUNCTION roneo.ask_source(text, text) IS
    'The one value that a query gives on a source, over dblink, under settings of ours.';

-- One source that does not answer hides nothing of the others.
CREATE OR REPLACE FUNCTION roneo.try_source(name text, query text, OUT answer jsonb, OUT problem text, OUT advice text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reason text;
BEGIN
    answer := roneo.ask_source(name, query)::jsonb;
EXCEPTION WHEN SQLSTATE 'RO011' OR query_canceled THEN
    RAISE;
WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, reason = PG_EXCEPTION_DETAIL, advice = PG_EXCEPTION_HINT;
    problem := concat_ws(': ', problem, nullif(btrim(reason), ''));
    advice  := coalesce(nullif(advice, ''), 'roneo preflight says what is missing.');
END;
$$;
COMMENT ON FUNCTION roneo.try_source(text, text) IS
    'What ask_source answers, or why it could not be asked. Raises only RO011.';

CREATE OR REPLACE FUNCTION roneo.columns_probe(name text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked roneo.source := roneo.require_source(name);
BEGIN
    RETURN format($probe$
SELECT pg_catalog.jsonb_build_object('tables', (
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
        'replica_id', wanted.replica_id, 'relation', (%s)) ORDER BY wanted.replica_id), '[]')
    FROM (
        SELECT k.replica_id, c.oid
        FROM pg_catalog.jsonb_to_recordset(%L) AS k (replica_id integer, schema_name name, table_name name)
        LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = k.schema_name
        LEFT JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = k.table_name
            AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    ) AS wanted))::text$probe$,
        roneo.relation_query('wanted.oid'),
        (SELECT coalesce(jsonb_agg(jsonb_build_object('replica_id', r.replica_id,
             'schema_name', r.source_schema, 'table_name', r.source_table)), '[]')
         FROM roneo.replica AS r WHERE r.source_id = asked.source_id));
END;
$$;
COMMENT ON FUNCTION roneo.columns_probe(text) IS
    'A query for a source, under source_opening(): one JSON document with the columns of each replica''s table.';

-- A wider type takes what a narrower one holds, and so does one that every value of the other is
-- cast to without being asked.
CREATE OR REPLACE FUNCTION roneo.type_fits(source_column jsonb, dest_column jsonb)
RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE
    WHEN s.type = d.type OR s.bare = d.bare AND d.type = d.bare THEN true
    WHEN s.bare = d.bare AND d.bare IN ('character varying', 'character', 'bit varying')
        THEN coalesce(substring(s.type FROM '\((\d+)\)')::integer <= substring(d.type FROM '\((\d+)\)')::integer, false)
    WHEN s.bare = d.bare THEN false
    ELSE d.type = d.bare AND EXISTS (
        SELECT FROM pg_cast AS c
        WHERE c.castsource = to_regtype(s.bare) AND c.casttarget = to_regtype(d.bare) AND c.castcontext = 'i')
END
FROM (SELECT source_column ->> 'type', source_column ->> 'type_bare') AS s (type, bare),
     (SELECT dest_column ->> 'type', dest_column ->> 'type_bare') AS d (type, bare);
$$;
COMMENT ON FUNCTION roneo.type_fits(jsonb, jsonb) IS
    'Whether a column of the destination takes every value that one of the source can hold, as their types say.';

CREATE OR REPLACE FUNCTION roneo.judge_table_columns(r roneo.replica, relation jsonb)
RETURNS TABLE (level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH sent AS (
        SELECT a.col ->> 'name' AS name, a.col
        FROM jsonb_array_elements(relation -> 'columns') AS a (col)
        WHERE r.wanted_columns IS NULL OR a.col ->> 'name' = ANY (r.wanted_columns)
    ), kept AS (
        SELECT a.col ->> 'name' AS name, a.col, d.oid IS NOT NULL AS has_default
        FROM jsonb_array_elements(roneo.local_relation(r.dest) -> 'columns') AS a (col)
        LEFT JOIN pg_attrdef AS d ON d.adrelid = r.dest AND d.adnum = (a.col ->> 'number')::integer
    ), pair AS (
        SELECT coalesce(s.name, k.name) AS name, s.col AS sent, k.col AS kept, k.has_default
        FROM sent AS s FULL JOIN kept AS k ON k.name = s.name
    )
    SELECT 'WARNING', format('column %I %s is new on the source and not copied', p.name, p.sent ->> 'type'),
           format(CASE r.method WHEN 'plain' THEN 'ALTER TABLE %1$s ADD COLUMN %2$I %3$s; -- the next refresh that copies fills it'
                       ELSE 'ALTER TABLE %1$s ADD COLUMN %2$I %3$s; CALL roneo.repull(%1$L); -- fills the rows that are here' END,
                  r.dest, p.name, p.sent ->> 'type')
    FROM pair AS p WHERE p.kept IS NULL
    UNION ALL
    SELECT 'CRITICAL', format('column %I is gone from the source, and the replica copies it by name', w.name),
           'Create the replica anew, with a list of columns that fits; an inserter or updater adopts the table that is kept.'
    FROM unnest(r.wanted_columns) AS w (name) WHERE NOT EXISTS (SELECT FROM sent AS s WHERE s.name = w.name)
    UNION ALL
    SELECT CASE WHEN (p.kept ->> 'not_null')::boolean AND NOT p.has_default AND p.kept ->> 'identity' = '' THEN 'CRITICAL'
                WHEN m.columns IS NOT NULL THEN 'WARNING' ELSE 'OK' END,
           format('column %I is not on the source%s', p.name,
                  CASE WHEN (p.kept ->> 'not_null')::boolean AND NOT p.has_default THEN ', and NOT NULL here: new rows do not fit' END),
           format('ALTER TABLE %s DROP COLUMN %I;', r.dest, p.name)
    FROM pair AS p
    LEFT JOIN roneo.plain_replica AS m ON m.replica_id = r.replica_id AND p.name = ANY (m.columns)
    WHERE p.sent IS NULL AND r.wanted_columns IS NULL AND p.kept ->> 'generated' = '' AND NOT starts_with(p.name, 'roneo_')
    UNION ALL
    SELECT 'WARNING', format('column %I is %s on the source and %s here: values may not fit', p.name, p.sent ->> 'type', p.kept ->> 'type'),
           format('ALTER TABLE %s ALTER COLUMN %I TYPE %s;', r.dest, p.name, p.sent ->> 'type')
    FROM pair AS p
    WHERE p.sent IS NOT NULL AND p.kept IS NOT NULL AND p.kept ->> 'generated' = '' AND NOT roneo.type_fits(p.sent, p.kept)
    UNION ALL
    SELECT 'WARNING', format('column %I is NOT NULL here and not on the source: a row without it fails the refresh', p.name),
           format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', r.dest, p.name)
    FROM pair AS p
    -- Of a view nothing is known.
    WHERE relation ->> 'kind' IN ('r', 'p') AND (p.kept ->> 'not_null')::boolean AND NOT (p.sent ->> 'not_null')::boolean
      AND p.kept ->> 'generated' = '';
END;
COMMENT ON FUNCTION roneo.judge_table_columns(roneo.replica, jsonb) IS
    'How the columns of a source table, in the words of relation_query, and those of a destination that is a table have drifted apart.';

CREATE OR REPLACE FUNCTION roneo.judge_followed_columns(r roneo.replica, relation jsonb)
RETURNS TABLE (level text, message text, advice text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'CRITICAL', format('the %s column %I is gone from the source', n.what, n.name),
           'Create the replica anew, with another one; it adopts the table that is kept.'
    FROM (SELECT 'control', c.control FROM roneo.control_replica AS c WHERE c.replica_id = r.replica_id
          UNION ALL
          SELECT 'key', k FROM roneo.control_replica AS c, unnest(c.key_columns) AS k
          WHERE c.replica_id = r.replica_id AND k <> c.control) AS n (what, name)
    WHERE NOT EXISTS (SELECT FROM jsonb_array_elements(relation -> 'columns') AS a (col) WHERE a.col ->> 'name' = n.name)
    UNION ALL
    -- A view over two tables takes over what its source has become.
    SELECT 'OK', concat('the source has changed: ',
               string_agg(format('%I %s', d.name, CASE WHEN d.old IS NULL THEN 'is new' WHEN d.new IS NULL THEN 'is gone'
                          ELSE format('is %s and was %s', d.new, d.old) END), ', ' ORDER BY d.name)),
           'The next refresh takes it over.'
    FROM (SELECT coalesce(o.col ->> 'name', n.col ->> 'name') AS name, o.col ->> 'type' AS old, n.col ->> 'type' AS new
          FROM (SELECT e.col FROM roneo.snapshot_replica AS m, jsonb_array_elements(m.columns) AS e (col)
                WHERE m.replica_id = r.replica_id) AS o
          FULL JOIN (SELECT e.col FROM jsonb_array_elements(relation -> 'columns') AS e (col)
                     WHERE r.wanted_columns IS NULL OR e.col ->> 'name' = ANY (r.wanted_columns)) AS n
              ON o.col ->> 'name' = n.col ->> 'name') AS d
    WHERE r.method = 'snapshot' AND d.old IS DISTINCT FROM d.new
    HAVING count(*) > 0;
END;
COMMENT ON FUNCTION roneo.judge_followed_columns(roneo.replica, jsonb) IS
    'What became of the columns that an inserter or updater follows, and of those that a snapshot shows.';

CREATE OR REPLACE FUNCTION roneo.judge_columns(name text, answer jsonb)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked roneo.source := roneo.require_source(name);
BEGIN
    RETURN QUERY
        SELECT 'columns', s.dest, j.level, j.message, j.advice
        FROM jsonb_to_recordset(answer -> 'tables') AS t (replica_id integer, relation jsonb)
        JOIN roneo.replica AS r ON r.replica_id = t.replica_id AND r.source_id = asked.source_id
        JOIN roneo.status AS s ON s.replica_id = t.replica_id
        CROSS JOIN LATERAL (
            SELECT 'CRITICAL', format('source table %s is gone', s.source_table),
                   format('roneo.drop_replica(%L), or make the table again.', s.dest)
            WHERE jsonb_typeof(t.relation) IS DISTINCT FROM 'object'
            UNION ALL
            SELECT c.* FROM roneo.judge_followed_columns(r, t.relation) AS c
            WHERE jsonb_typeof(t.relation) = 'object'
            UNION ALL
            SELECT c.* FROM roneo.judge_table_columns(r, t.relation) AS c
            WHERE jsonb_typeof(t.relation) = 'object' AND r.method <> 'snapshot' AND s.state <> 'gone'
        ) AS j (level, message, advice)
        ORDER BY roneo.level_rank(j.level), s.dest, j.message;
END;
$$;
COMMENT ON FUNCTION roneo.judge_columns(text, jsonb) IS
    'Findings about the columns of a source''s replicas, from its answer to columns_probe.';

CREATE OR REPLACE FUNCTION roneo.check_columns(source_names text[] DEFAULT NULL)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    one   text;
    asked record;
BEGIN
    PERFORM roneo.require_source(n) FROM unnest(source_names) AS n;
    FOR one IN SELECT s.source_name FROM roneo.source AS s
               WHERE source_names IS NULL OR s.source_name = ANY (source_names) ORDER BY s.source_name LOOP
        asked := roneo.try_source(one, roneo.columns_probe(one));
        IF asked.answer IS NULL THEN
            RETURN QUERY SELECT 'columns', quote_ident(one), 'UNKNOWN', asked.problem, asked.advice;
        ELSE
            RETURN QUERY SELECT * FROM roneo.judge_columns(one, asked.answer);
        END IF;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.check_columns(text[]) IS
    'Where the columns of sources and destinations have drifted apart, one row a finding, over dblink. A source that cannot be asked is UNKNOWN.';
-- Tables of a source that nobody copies.

CREATE OR REPLACE FUNCTION roneo.tables_probe(name text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.require_source(name);
    -- A partition or child is read with its parent; what belongs to an extension is made by that.
    RETURN $probe$
SELECT pg_catalog.jsonb_build_object('tables', (
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
        'schema_name', n.nspname, 'table_name', c.relname,
        'bytes', (WITH RECURSIVE tree AS (
                      SELECT c.oid
                      UNION
                      SELECT i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid)
                  SELECT pg_catalog.sum(CASE WHEN k.relkind = 'r' THEN pg_catalog.pg_table_size(k.oid) ELSE 0 END)
                  FROM tree AS t JOIN pg_catalog.pg_class AS k ON k.oid = t.oid)
        ) ORDER BY n.nspname, c.relname), '[]')
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'roneo', 'roneo_capture')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                        AND d.deptype = 'e')))::text$probe$;
END;
$$;
COMMENT ON FUNCTION roneo.tables_probe(text) IS 'A query for a source: one JSON document with its tables and their sizes.';

CREATE OR REPLACE FUNCTION roneo.judge_tables(name text, answer jsonb, schemas text[] DEFAULT NULL)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked roneo.source := roneo.require_source(name);
BEGIN
    RETURN QUERY
        SELECT 'missing table', format('%I.%I', t.schema_name, t.table_name), 'WARNING',
               format('no replica copies this table of source %I (%s)', name, pg_size_pretty(t.bytes)),
               CASE WHEN t.bytes < roneo.setting('copy_mb_warning') * 1e6 OR roneo.setting('copy_mb_warning') = 0
                    THEN format('SELECT roneo.create_snapshot(%L, %L);', name, format('%I.%I', t.schema_name, t.table_name))
                    ELSE format('SELECT roneo.create_updater(%L, %L, control => …);', name, format('%I.%I', t.schema_name, t.table_name)) END
        FROM jsonb_to_recordset(answer -> 'tables') AS t (schema_name name, table_name name, bytes bigint)
        WHERE (schemas IS NULL OR t.schema_name = ANY (schemas))
          AND NOT EXISTS (SELECT FROM roneo.replica AS r
                          WHERE r.source_id = asked.source_id AND r.source_schema = t.schema_name
                            AND r.source_table = t.table_name)
        ORDER BY 2;
END;
$$;
COMMENT ON FUNCTION roneo.judge_tables(text, jsonb, text[]) IS
    'The tables in a source''s answer to tables_probe that no replica copies.';

CREATE OR REPLACE FUNCTION roneo.check_missing_tables(source text, schemas text[] DEFAULT NULL)
RETURNS TABLE (check_name text, object text, level text, message text, advice text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked record := roneo.try_source(source, roneo.tables_probe(source));
BEGIN
    IF asked.answer IS NULL THEN
        RETURN QUERY SELECT 'missing table', quote_ident(source), 'UNKNOWN', asked.problem, asked.advice;
    ELSE
        RETURN QUERY SELECT * FROM roneo.judge_tables(source, asked.answer, schemas);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.check_missing_tables(text, text[]) IS
    'Tables of a source, in some schemas or in all, that no replica copies, over dblink. Partitions count as their root.';
-- What the program makes metrics and reports of.

-- Of a row that stands for many refreshes only the first and the last are known; the others are
-- taken to have come at equal distances.
CREATE OR REPLACE FUNCTION roneo.runs_before(u roneo.run, moment timestamptz)
RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN moment <= u.started_at THEN 0
    WHEN u.repeats = 1 OR moment > u.ended_at THEN u.repeats
    ELSE ceil(extract(epoch FROM moment - u.started_at) * (u.repeats - 1)
              / nullif(extract(epoch FROM u.ended_at - u.started_at), 0))
END;
COMMENT ON FUNCTION roneo.runs_before(roneo.run, timestamptz) IS
    'How many of the refreshes that a row of the history stands for had come before a moment, about.';

CREATE OR REPLACE FUNCTION roneo.replica_metrics()
RETURNS TABLE (dest text, source_name text, method text, state text, alert text, created_at float8,
               last_success_at float8, age float8, promised_age float8, lag float8, failures integer,
               refreshes bigint, rows bigint, bytes bigint, seconds numeric, runs jsonb, quarantined_at float8)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.dest, s.source_name, s.method, s.state, s.alert,
           extract(epoch FROM r.created_at), extract(epoch FROM s.last_success_at),
           extract(epoch FROM clock_timestamp() - s.last_success_at),
           extract(epoch FROM s.promised_age), extract(epoch FROM s.lag), s.failures, r.generation,
           u.rows_received, u.bytes, u.seconds,
           (SELECT jsonb_object_agg(g.outcome, g.runs)
            FROM (SELECT h.outcome, sum(h.repeats - roneo.runs_before(h, clock_timestamp() - interval '1 day')) AS runs
                  FROM roneo.run AS h
                  -- No row stands for more than a day.
                  WHERE h.replica_id = s.replica_id AND h.kind <> 'verify' AND h.started_at > clock_timestamp() - interval '3 days'
                    AND (h.started_at > clock_timestamp() - interval '1 day' OR h.repeats > 1 AND h.ended_at > clock_timestamp() - interval '1 day')
                  GROUP BY h.outcome) AS g),
           extract(epoch FROM s.quarantined_at)
    FROM roneo.status AS s
    JOIN roneo.replica AS r ON r.replica_id = s.replica_id
    LEFT JOIN LATERAL (
        SELECT v.* FROM roneo.run AS v
        WHERE v.replica_id = s.replica_id AND v.outcome = 'ok'
        ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1
    ) AS u ON true
    ORDER BY s.dest;
END;
COMMENT ON FUNCTION roneo.replica_metrics() IS
    'Numbers about each replica, times in seconds since 1970: rows, bytes and seconds of the last run that copied, and the outcomes of the runs of a day.';

CREATE OR REPLACE FUNCTION roneo.runs_by_bucket(
    u roneo.run, since timestamptz, until timestamptz, buckets integer, OUT slot integer, OUT runs bigint)
RETURNS SETOF record LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH reach AS (
        SELECT min(p.slot) AS first_slot, max(p.slot) AS last_slot
        FROM (SELECT least(floor(extract(epoch FROM m.moment - since) * buckets / extract(epoch FROM until - since)), buckets - 1)::integer
              FROM (VALUES (greatest(u.started_at, since)),
                           (least(CASE WHEN u.repeats > 1 THEN u.ended_at ELSE u.started_at END, until))) AS m (moment)) AS p (slot)
    ), part AS (
        SELECT k AS slot,
               -- What is rounded away at a border is counted on its other side.
               CASE WHEN k = r.last_slot THEN roneo.runs_before(u, until + interval '1 microsecond')
                    ELSE roneo.runs_before(u, since + (until - since) * ((k + 1)::float8 / buckets)) END
               - CASE WHEN k = r.first_slot THEN roneo.runs_before(u, since)
                      ELSE roneo.runs_before(u, since + (until - since) * (k::float8 / buckets)) END AS runs
        FROM reach AS r
        CROSS JOIN LATERAL generate_series(r.first_slot, r.last_slot) AS k
    )
    SELECT p.slot, p.runs FROM part AS p WHERE p.runs > 0;
END;
COMMENT ON FUNCTION roneo.runs_by_bucket(roneo.run, timestamptz, timestamptz, integer) IS
    'How many of the refreshes that a row of the history stands for fall into each of so many equal stretches of time.';

-- A replica that nothing is new for is noted as fresh without a run. So only after a run that did not
-- succeed the one before that counts; else the delay is what it must have been at the least.
CREATE OR REPLACE FUNCTION roneo.run_buckets(since timestamptz, until timestamptz, buckets integer)
RETURNS TABLE (replica_id integer, bucket integer, runs bigint, copied bigint, failed bigint, deferred bigint,
               rows bigint, bytes bigint, seconds float8, waited float8)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH history AS (
        SELECT u AS run, u.*, lag(u.outcome) OVER before AS former_outcome,
               max(CASE WHEN u.repeats > 1 THEN u.ended_at - make_interval(secs => u.seconds::float8) ELSE u.started_at END)
                   FILTER (WHERE u.outcome IN ('ok', 'unchanged'))
                   OVER (before ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS former_success
        FROM roneo.run AS u
        WHERE u.kind <> 'verify' AND u.started_at <= until AND (u.started_at >= since OR u.repeats > 1 AND u.ended_at >= since)
        WINDOW before AS (PARTITION BY u.replica_id ORDER BY u.started_at, u.run_id)
    )
    SELECT u.replica_id, n.slot,
           sum(n.runs)::bigint, count(*) FILTER (WHERE u.outcome = 'ok'),
           count(*) FILTER (WHERE u.outcome IN ('failed', 'abandoned')),
           count(*) FILTER (WHERE u.outcome = 'deferred'),
           sum(u.rows_received)::bigint, sum(u.bytes)::bigint,
           max(u.seconds) FILTER (WHERE u.outcome = 'ok'),
           max(extract(epoch FROM u.ended_at - d.due_at)) FILTER (WHERE u.outcome = 'ok')
    FROM history AS u
    JOIN roneo.replica AS r ON r.replica_id = u.replica_id
    CROSS JOIN LATERAL (
        SELECT least(roneo.opens_at(r, least(roneo.next_on_grid(r.created_at, r.refresh_every, u.started_at) - r.refresh_every,
                     CASE WHEN u.former_outcome NOT IN ('ok', 'unchanged')
                          THEN roneo.next_on_grid(r.created_at, r.refresh_every, u.former_success) END)), u.started_at)
    ) AS d (due_at)
    CROSS JOIN LATERAL roneo.runs_by_bucket(u.run, since, until, buckets) AS n
    GROUP BY u.replica_id, n.slot
    ORDER BY u.replica_id, n.slot;
END;
COMMENT ON FUNCTION roneo.run_buckets(timestamptz, timestamptz, integer) IS
    'The history in so many equal stretches of time, for plots; waited: the longest time from when one was due to its end, at the least.';

CREATE OR REPLACE FUNCTION roneo.run_failures(since timestamptz, until timestamptz)
RETURNS TABLE (replica_id integer, dest text, times bigint, first_at timestamptz, last_at timestamptz,
               outcome text, sqlstate text, message text, detail text, hint text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT u.replica_id, (array_agg(u.dest ORDER BY u.run_id DESC))[1], count(*), min(u.started_at), max(u.started_at),
           u.outcome, u.sqlstate, CASE u.kind WHEN 'verify' THEN concat('verification: ', u.message) ELSE u.message END,
           (array_agg(u.detail ORDER BY u.run_id DESC))[1], (array_agg(u.hint ORDER BY u.run_id DESC))[1]
    FROM roneo.run AS u
    WHERE u.started_at >= since AND u.started_at <= until AND u.outcome IN ('failed', 'abandoned')
    GROUP BY u.replica_id, u.kind, u.outcome, u.sqlstate, u.message
    ORDER BY max(u.started_at) DESC;
END;
COMMENT ON FUNCTION roneo.run_failures(timestamptz, timestamptz) IS
    'Failed and abandoned runs, those that say the same in one row, the latest first.';
-- A bridge to pg_jobmon, where that is installed and the setting jobmon is 1: each run's end is a
-- job there, with one step. Only its documented functions are called.

CREATE OR REPLACE FUNCTION roneo.jobmon_schema()
RETURNS name LANGUAGE sql STABLE
RETURN coalesce((SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
                 WHERE e.extname = 'pg_jobmon'), 'jobmon');
COMMENT ON FUNCTION roneo.jobmon_schema() IS 'The schema of pg_jobmon; the one it documents where it is not installed as an extension.';

CREATE OR REPLACE FUNCTION roneo.tell_jobmon(ended roneo.run)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    home name    := roneo.jobmon_schema();
    good boolean := ended.outcome NOT IN ('failed', 'abandoned');
    job  bigint;
    step bigint;
BEGIN
    EXECUTE format('SELECT %I.add_job($1)', home) INTO job USING concat('RONEO ', ended.dest);
    EXECUTE format('SELECT %I.add_step($1, $2)', home) INTO step
    USING job, format('Refresh %s, run %s, by %s', ended.method, ended.run_id, coalesce(ended.runner, ended.hand));
    EXECUTE format('SELECT %I.update_step($1, $2, $3)', home)
    USING step, CASE WHEN good THEN 'OK' ELSE 'CRITICAL' END,
          concat_ws('; ', ended.outcome, format('%s rows', ended.rows_received), format('%s s', ended.seconds),
                    concat_ws(' ', ended.sqlstate, ended.message), ended.warning);
    IF good THEN
        EXECUTE format('SELECT %I.close_job($1)', home) USING job;
    ELSE
        EXECUTE format('SELECT %I.fail_job($1)', home) USING job;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.tell_jobmon(roneo.run) IS
    'Makes a run that has ended a job of pg_jobmon, named RONEO and the destination: closed, or failed where the run failed.';

-- At the commit, and not when the run ends: pg_jobmon writes over a connection of its own, and what
-- it once heard is not rolled back. Then the session has the role of the destination's owner, who
-- has no business with pg_jobmon; so it is put aside. Whether it works is no matter of the refresh.
CREATE OR REPLACE FUNCTION roneo.run_told()
RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    worker  text := current_setting('role');
    problem text;
BEGIN
    BEGIN
        PERFORM set_config('role', 'none', true);
        PERFORM roneo.tell_jobmon(NEW);
        PERFORM set_config('role', worker, true);
    EXCEPTION WHEN query_canceled THEN
        RAISE;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
        RAISE WARNING USING
            ERRCODE = SQLSTATE,
            MESSAGE = format('pg_jobmon was not told of run %s: %s', NEW.run_id, problem),
            HINT    = 'Install it, grant this role what it needs, or set jobmon to 0 in roneo.setting.';
    END;
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION roneo.run_told() IS 'A trigger of roneo.run: tells pg_jobmon of runs that have ended.';

-- Both hands make all constraints immediate before they look whether the refresh can be accepted.
CREATE OR REPLACE FUNCTION roneo.put_off_telling()
RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SET CONSTRAINTS roneo.run_told DEFERRED;
    RETURN NEW;
END;
$$;
COMMENT ON FUNCTION roneo.put_off_telling() IS 'A trigger of roneo.run: leaves run_told for the commit.';

-- The conditions are looked at when the row is written, by who writes it. A verification that failed
-- must not count as a failure of the job that refreshes; roneo.check tells of it.
CREATE OR REPLACE TRIGGER put_off_telling BEFORE INSERT OR UPDATE OF outcome ON roneo.run
FOR EACH ROW WHEN (NEW.outcome <> 'running' AND NEW.kind <> 'verify' AND roneo.setting('jobmon') = 1) EXECUTE FUNCTION roneo.put_off_telling();
COMMENT ON TRIGGER put_off_telling ON roneo.run IS 'Leaves run_told for the commit.';

DROP TRIGGER IF EXISTS run_told ON roneo.run;
CREATE CONSTRAINT TRIGGER run_told AFTER INSERT OR UPDATE OF outcome ON roneo.run
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.outcome <> 'running' AND NEW.kind <> 'verify' AND roneo.setting('jobmon') = 1) EXECUTE FUNCTION roneo.run_told();
COMMENT ON TRIGGER run_told ON roneo.run IS 'Tells pg_jobmon of runs that have ended, where the setting jobmon is 1.';
-- Who may look at all of it, and at nothing else.

CREATE OR REPLACE FUNCTION roneo.watch_objects()
RETURNS TABLE (privilege text, kind text, object text, oid oid)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE used (classid, objid) AS (
        -- What PL/pgSQL calls is recorded nowhere, so it is named here; the rest is found.
        SELECT d.classid, d.objid
        FROM pg_depend AS d
        JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'roneo'
        JOIN pg_proc AS f ON d.classid = 'pg_proc'::regclass AND f.oid = d.objid
        WHERE d.deptype = 'e'
          AND f.proname IN ('check', 'watched_replicas', 'require_source', 'find_problems', 'setting',
                            'replica_metrics', 'run_buckets', 'run_failures', 'source_opening', 'columns_probe',
                            'relation_query', 'local_relation', 'judge_columns', 'judge_followed_columns',
                            'judge_table_columns', 'level_rank', 'type_fits', 'tables_probe', 'judge_tables')
        UNION
        -- A view reads its tables as its owner, but calls its functions as whoever reads it.
        SELECT x.refclassid, x.refobjid
        FROM used AS u
        CROSS JOIN LATERAL (
            SELECT d.refclassid, d.refobjid FROM pg_depend AS d
            WHERE u.classid = 'pg_proc'::regclass AND d.classid = u.classid AND d.objid = u.objid
            UNION ALL
            SELECT d.refclassid, d.refobjid
            FROM pg_rewrite AS w
            JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
            WHERE u.classid = 'pg_class'::regclass AND w.ev_class = u.objid AND d.refclassid = 'pg_proc'::regclass
        ) AS x
    )
    SELECT 'SELECT', 'TABLE', c.oid::regclass::text, c.oid
    FROM pg_class AS c
    WHERE c.relnamespace = 'roneo'::regnamespace AND c.relkind IN ('r', 'v')
      AND (c.oid IN (SELECT u.objid FROM used AS u WHERE u.classid = 'pg_class'::regclass)
           OR c.relname IN ('status', 'run', 'settings', 'source', 'sources', 'snapshot_replica', 'plain_replica'))
    UNION ALL
    SELECT 'EXECUTE', 'FUNCTION', f.oid::regprocedure::text, f.oid
    FROM used AS u
    JOIN pg_proc AS f ON u.classid = 'pg_proc'::regclass AND f.oid = u.objid
    WHERE f.pronamespace = 'roneo'::regnamespace;
END;
COMMENT ON FUNCTION roneo.watch_objects() IS 'What a role must be granted to look at the state of replicas.';

CREATE OR REPLACE FUNCTION roneo.watch_grants(role_name name)
RETURNS SETOF text LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('GRANT USAGE ON SCHEMA roneo TO %I;', role_name)
    WHERE NOT has_schema_privilege(role_name, 'roneo', 'USAGE')
    UNION ALL
    SELECT format('GRANT %s ON %s %s TO %I;', w.privilege, w.kind, string_agg(w.object, ', ' ORDER BY w.object), role_name)
    FROM roneo.watch_objects() AS w
    WHERE NOT CASE w.kind WHEN 'TABLE' THEN has_table_privilege(role_name, w.oid, w.privilege)
                          ELSE has_function_privilege(role_name, w.oid, w.privilege) END
    GROUP BY w.privilege, w.kind;
END;
COMMENT ON FUNCTION roneo.watch_grants(name) IS
    'The GRANT statements that a role lacks before it can call roneo status, history, check, metrics and report; it can change nothing by them.';
-- Hashes of rows that are the same on two servers, whatever their version, encoding or collation:
-- of what a copy must repeat to the bit, and of nothing else.
--
-- A row's hash is chained: the hash of each column is the seed of the next one's. Hashes that are
-- XORed or added up do not tell which of two rows has which of two values. The seed occurs once in
-- each link, or the expression would double with every column.

-- By kinds, and not by the types' own hashes: those call 1.0 and 1.00, 0 and -0, '1 mon' and
-- '30 days' the same, fold 64 bits to 32 (bigint, timestamps), leave out a sign, or do not exist.
CREATE OR REPLACE FUNCTION roneo.hash_kind(base_type text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN base_type IN ('smallint', 'integer') THEN 'int4'
    WHEN base_type IN ('boolean', '"char"') THEN 'bool'
    WHEN base_type = 'bigint' THEN 'int8'
    WHEN base_type = 'oid' THEN 'oid'
    WHEN base_type = 'numeric' THEN 'numeric'
    WHEN base_type = 'date' THEN 'date'
    WHEN base_type = 'uuid' THEN 'uuid'
    WHEN base_type = 'timestamp with time zone' THEN 'timestamptz'
    WHEN base_type = 'timestamp without time zone' THEN 'timestamp'
    WHEN base_type = 'time without time zone' THEN 'time'
    WHEN base_type = 'bytea' THEN 'bytes'
    WHEN base_type IN ('character', 'bpchar') THEN 'padded'
    WHEN base_type IN ('real', 'double precision', 'interval', 'time with time zone', 'money', 'inet', 'cidr',
                       'bit', 'bit varying', 'point', 'box', 'path', 'polygon', 'line', 'lseg', 'circle', 'pg_lsn', 'xid8') THEN 'ascii'
    ELSE 'text' END;
COMMENT ON FUNCTION roneo.hash_kind(text) IS
    'How values of a type, as format_type writes it without a length and without the domain around it, are hashed: ascii and text by what they look like as text.';

-- On another encoding the same text has other bytes. What stands in a SQL_ASCII database is told to
-- be of some encoding.
CREATE OR REPLACE FUNCTION roneo.portable_text(expression text, recode text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN recode IS NULL THEN expression
    WHEN recode = 'server' THEN format('pg_catalog.encode(pg_catalog.convert_to(%s, ''UTF8''), ''hex'')', expression)
    ELSE format('pg_catalog.encode(pg_catalog.convert(pg_catalog.convert_to(%s, ''SQL_ASCII''), %L, ''UTF8''), ''hex'')', expression, recode)
END;
COMMENT ON FUNCTION roneo.portable_text(text, text) IS
    'An expression for a text that is the same in any encoding. recode: NULL where both sides have one encoding, server for that of the server, else the encoding that its bytes are of.';

-- jsonb sorts keys by the number of their bytes, and so shows them in another order in another
-- encoding: each value in it is written with the way to it, and these lines are sorted. Where all is
-- ASCII there is nothing to sort.
CREATE OR REPLACE FUNCTION roneo.ordered_keys(expression text, recode text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN recode IS NULL THEN expression ELSE format($query$CASE WHEN ((%1$s)::pg_catalog.text COLLATE "C") !~ '[^\x01-\x7f]' THEN (%1$s)::pg_catalog.text WHEN %1$s IS NOT NULL THEN (
    WITH RECURSIVE roneo_node (path, value) AS (
        SELECT '[]'::pg_catalog.jsonb, (%1$s)::pg_catalog.jsonb
        UNION ALL
        SELECT n.path || pg_catalog.jsonb_build_array(e.step), e.value
        FROM roneo_node AS n
        CROSS JOIN LATERAL (
            SELECT o.key, o.value
            FROM pg_catalog.jsonb_each(CASE pg_catalog.jsonb_typeof(n.value) WHEN 'object' THEN n.value END) AS o (key, value)
            UNION ALL
            SELECT a.place::pg_catalog.text, a.value
            FROM pg_catalog.jsonb_array_elements(CASE pg_catalog.jsonb_typeof(n.value) WHEN 'array' THEN n.value END) WITH ORDINALITY AS a (value, place)) AS e (step, value)
    )
    SELECT pg_catalog.string_agg(l.line, E'\n' ORDER BY %2$s COLLATE "C")
    FROM roneo_node AS n
    CROSS JOIN LATERAL (
        SELECT pg_catalog.concat(n.path, CASE pg_catalog.jsonb_typeof(n.value) WHEN 'object' THEN '{}' WHEN 'array' THEN '[]' ELSE n.value::pg_catalog.text END)) AS l (line)) END$query$,
    expression, roneo.portable_text('l.line', recode)) END;
COMMENT ON FUNCTION roneo.ordered_keys(text, text) IS
    'An expression for a jsonb as a text that does not depend on the order of its keys, where recode says that the two sides have unlike encodings; see portable_text.';

-- What differs only in what the cast to text drops, the blanks of char(n), would go unseen.
CREATE OR REPLACE FUNCTION roneo.text_form(kind text, expression text, recode text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE kind
    WHEN 'text'   THEN roneo.portable_text(format('(%s)::pg_catalog.text COLLATE "C"', expression), recode)
    WHEN 'padded' THEN roneo.portable_text(format('pg_catalog.textin(pg_catalog.bpcharout(%s)) COLLATE "C"', expression), recode)
    WHEN 'bytes'  THEN format('pg_catalog.encode(%s, ''hex'')', expression)
    WHEN 'bool'   THEN format('(%s)::pg_catalog.int4::pg_catalog.text', expression)
    ELSE format('(%s)::pg_catalog.text COLLATE "C"', expression)
END;
COMMENT ON FUNCTION roneo.text_form(text, text, text) IS 'An expression for what a value looks like as text, under the pinned settings.';

CREATE OR REPLACE FUNCTION roneo.hashable_form(kind text, expression text, recode text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN kind = 'bool' THEN format('(%s)::pg_catalog.int4', expression)
    WHEN kind IN ('text', 'padded', 'bytes', 'ascii') THEN roneo.text_form(kind, expression, recode)
    ELSE expression
END;
COMMENT ON FUNCTION roneo.hashable_form(text, text, text) IS 'An expression for a value as the hash of its kind takes it.';

CREATE OR REPLACE FUNCTION roneo.neutral_value(kind text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN kind IN ('int4', 'int8', 'bool', 'oid', 'numeric', 'scaled') THEN '0'
    WHEN kind = 'uuid' THEN '''00000000-0000-0000-0000-000000000000'''
    WHEN kind IN ('date', 'timestamp', 'timestamptz') THEN '''2000-01-01'''
    WHEN kind = 'time' THEN '''00:00:00'''
    ELSE '''''' END;
COMMENT ON FUNCTION roneo.neutral_value(text) IS
    'What stands for NULL in the hash of a kind; that it is NULL is hashed before.';

-- Zero as a float is hashed as its seed, unchanged, and some hashes of numerics differ in their last
-- bit alone; so an integer is hashed after them. Dates and timestamps become floats by what measures
-- ranges, the cheapest function that takes them. As seconds since a day a float has every microsecond
-- of 142 years; of others a hash is taken that those within the minute are part of.
CREATE OR REPLACE FUNCTION roneo.hash_link(kind text, value text, seed text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE
    WHEN kind IN ('int4', 'bool') THEN 'pg_catalog.hashint4extended(%1$s, %2$s)'
    -- By itself it would take the halves of a bigint for one.
    WHEN kind = 'int8' THEN 'pg_catalog.hashint8extended(%1$s, pg_catalog.hashint4extended((%1$s >> 32)::pg_catalog.int4, %2$s))'
    WHEN kind = 'oid' THEN 'pg_catalog.hashoidextended(%1$s, %2$s)'
    -- By itself it takes 1.0 and 1.00 for the same, a number and its negative, and all that are none.
    WHEN kind = 'numeric' THEN
        'pg_catalog.hashint4extended(coalesce(pg_catalog.scale(%1$s) * 2 + (%1$s < 0)::pg_catalog.int4, -pg_catalog.length((%1$s)::pg_catalog.text)), '
        'pg_catalog.hash_numeric_extended(%1$s, %2$s))'
    -- All have one scale, and nothing that is no number but NaN, which is not hashed as zero is.
    WHEN kind = 'scaled' THEN 'pg_catalog.hashint4extended((%1$s < 0)::pg_catalog.int4, pg_catalog.hash_numeric_extended(%1$s, %2$s))'
    WHEN kind = 'uuid' THEN 'pg_catalog.uuid_hash_extended(%1$s, %2$s)'
    WHEN kind = 'date' THEN 'pg_catalog.hashint4extended(0, pg_catalog.hashfloat8extended(pg_catalog.daterange_subdiff(%1$s, ''2000-01-01''), %2$s))'
    WHEN kind = 'time' THEN 'pg_catalog.hashint4extended(0, pg_catalog.hashfloat8extended(pg_catalog.date_part(''epoch'', %1$s), %2$s))'
    WHEN kind IN ('timestamp', 'timestamptz') THEN
        'pg_catalog.hashfloat8extended(CASE WHEN %1$s >= ''1960-01-01'' AND %1$s < ''2100-01-01'' THEN pg_catalog.%3$s(%1$s, ''1959-12-31'') '
        'ELSE pg_catalog.hashint4extended(coalesce(pg_catalog.date_part(''microseconds'', %1$s)::pg_catalog.int4, -1), '
        'pg_catalog.hashfloat8extended(pg_catalog.%3$s(%1$s, ''1959-12-31''), 0))::pg_catalog.float8 END, %2$s)'
    WHEN kind = 'md5' THEN '(''x'' || pg_catalog.left(pg_catalog.md5(pg_catalog.concat(%2$s, '':'', %1$s)), 16))::pg_catalog.bit(64)::pg_catalog.int8'
    ELSE 'pg_catalog.hashtextextended(%1$s, %2$s)'
    END, value, seed, CASE kind WHEN 'timestamp' THEN 'tsrange_subdiff' ELSE 'tstzrange_subdiff' END);
COMMENT ON FUNCTION roneo.hash_link(text, text, text) IS
    'An expression for the hash of a value after those of which seed is the hash; NULL for NULL, but by md5.';

-- Most rows have no NULL, and are told so by one call.
CREATE OR REPLACE FUNCTION roneo.null_flags(columns jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE WHEN count(*) > 0 THEN format('(CASE WHEN pg_catalog.num_nulls(%s) = 0 THEN 0 ELSE %s END)',
        string_agg(n.expression, ', ' ORDER BY n.place),
        string_agg(format('CASE WHEN %s IS NULL THEN %s ELSE 0 END', n.expression, 1 << n.place), ' + ' ORDER BY n.place)) END
    FROM (SELECT c.col ->> 'expression' AS expression, (row_number() OVER (ORDER BY c.nr) - 1)::integer AS place
          FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, nr)
          WHERE (c.col ->> 'nullable')::boolean) AS n
);
COMMENT ON FUNCTION roneo.null_flags(jsonb) IS
    'An expression for an integer that says which of up to thirty columns are NULL; NULL where none can be.';

-- One link a column; which columns are NULL is the first link.
CREATE OR REPLACE FUNCTION roneo.hash_chain(columns jsonb, weak text[], recode text)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    col   jsonb;
    kind  text;
    form  text;
    plain boolean := NOT weak && ARRAY['int4', 'text'];
    flags text := roneo.null_flags(columns);
    chain text := '0';
BEGIN
    IF flags IS NOT NULL THEN
        chain := roneo.hash_link(CASE WHEN plain THEN 'int4' ELSE 'md5' END, flags, chain);
    END IF;
    FOR col IN SELECT c FROM jsonb_array_elements(columns) AS c LOOP
        kind := col ->> 'kind';
        form := CASE WHEN (col ->> 'is_jsonb')::boolean THEN roneo.ordered_keys(col ->> 'expression', recode) ELSE col ->> 'expression' END;
        chain := roneo.hash_link(
            CASE WHEN plain AND kind <> ALL (weak) THEN kind ELSE 'md5' END,
            format(CASE WHEN (col ->> 'nullable')::boolean THEN 'coalesce(%s, %s)' ELSE '(%s)' END,
                CASE WHEN plain AND kind <> ALL (weak) THEN roneo.hashable_form(kind, form, recode)
                     ELSE roneo.text_form(kind, form, recode) END,
                CASE WHEN plain AND kind <> ALL (weak) THEN roneo.neutral_value(kind) ELSE '''''' END),
            chain);
    END LOOP;
    RETURN chain;
END;
$$;
COMMENT ON FUNCTION roneo.hash_chain(jsonb, text[], text) IS
    'An expression for the hash of up to thirty columns, in which those that are not nullable had better not be NULL.';

-- To look for NULL costs in every row. A column that seldom is NULL is hashed as if it never were;
-- where it is, there is no hash, and one is made that looks.
CREATE OR REPLACE FUNCTION roneo.chain_hash(columns jsonb, weak text[], recode text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE WHEN weak = '{}' AND bool_or((c.col ->> 'nullable')::boolean AND (c.col ->> 'seldom_null')::boolean)
        THEN format('coalesce(%s, %s)', roneo.hash_chain(jsonb_agg(CASE WHEN (c.col ->> 'seldom_null')::boolean THEN c.col || '{"nullable": false}' ELSE c.col END
                                                                   ORDER BY c.nr), weak, recode),
                    roneo.hash_chain(columns, weak, recode))
        ELSE roneo.hash_chain(columns, weak, recode) END
    FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, nr)
);
COMMENT ON FUNCTION roneo.chain_hash(jsonb, text[], text) IS
    'An expression for the hash of up to thirty columns: part of row_hash. Nested without end one would outgrow the server''s stack.';

CREATE OR REPLACE FUNCTION roneo.row_hash(columns jsonb, weak text[] DEFAULT '{}', recode text DEFAULT NULL)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE count(*)
        WHEN 0 THEN '0::pg_catalog.int8'
        WHEN 1 THEN max(g.hash)
        ELSE roneo.hash_link(CASE WHEN weak && ARRAY['int4', 'text'] THEN 'md5' ELSE 'ascii' END,
                             format('pg_catalog.concat_ws('','', %s)', string_agg(g.hash, ', ' ORDER BY g.nr)), '0') END
    FROM (
        SELECT (c.nr - 1) / 30 AS nr, roneo.chain_hash(jsonb_agg(c.col ORDER BY c.nr), weak, recode) AS hash
        FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, nr)
        GROUP BY 1
    ) AS g
);
COMMENT ON FUNCTION roneo.row_hash(jsonb, text[], text) IS
    'An expression of type bigint for the hash of a row. columns: a JSON array of objects with expression, kind (hash_kind, or scaled for numerics of one scale), nullable, seldom_null and is_jsonb, alike on both sides but for the expressions. weak: kinds whose hashes are not the same on both (weak_kinds), which are hashed by md5. recode: see portable_text. To be evaluated under the pinned settings.';

CREATE OR REPLACE FUNCTION roneo.hashed_columns(relation_columns jsonb, names name[])
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'expression', quote_ident(n.name), 'kind', roneo.hash_kind(c.col ->> 'type_base'),
               'nullable', true) ORDER BY n.nr), '[]')
    FROM unnest(names) WITH ORDINALITY AS n (name, nr)
    JOIN jsonb_array_elements(relation_columns) AS c (col) ON c.col ->> 'name' = n.name
);
COMMENT ON FUNCTION roneo.hashed_columns(jsonb, name[]) IS
    'What row_hash takes for columns of one table, as columns_query describes them.';

-- Sums are exact: bigints are added up in 128 bits. A row that is there twice counts twice.
CREATE OR REPLACE FUNCTION roneo.hash_sum(hash text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('pg_catalog.count(*) AS rows, coalesce(pg_catalog.sum(%s), 0)::pg_catalog.text AS sum', hash);
COMMENT ON FUNCTION roneo.hash_sum(text) IS
    'A select list for many rows in two values, in any order: how many, and the sum of their hashes as text.';

-- What a hash makes of constants is asked of both sides before a hash is believed: versions and
-- machines could differ. The constants of a kind are one chain.
CREATE OR REPLACE FUNCTION roneo.handshake_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT format('SELECT pg_catalog.jsonb_build_object(%s)', string_agg(format('%L, (%s)::pg_catalog.text', k.kind, k.hash), ', ' ORDER BY k.kind))
    FROM (
        SELECT c.kind, roneo.row_hash(jsonb_agg(jsonb_build_object('expression', c.constant, 'kind', c.kind, 'nullable', c.nr = 1) ORDER BY c.nr)) AS hash
        FROM (VALUES
            ('int4', 1, '(-2147483648)::pg_catalog.int4'), ('int4', 2, '2147483647'), ('int4', 3, '0'), ('int4', 4, '(-1)'),
            ('int8', 1, '(-9223372036854775808)::pg_catalog.int8'), ('int8', 2, '4294967297'), ('int8', 3, '(-1)::pg_catalog.int8'),
            ('bool', 1, 'true'), ('bool', 2, '(-128)::pg_catalog."char"'), ('bool', 3, '''z''::pg_catalog."char"'),
            ('oid', 1, '4294967295::pg_catalog.oid'),
            ('numeric', 1, '1.50'), ('numeric', 2, '''NaN''::pg_catalog.numeric'), ('numeric', 3, '(-123456789012345678901234567890.1234)'), ('numeric', 4, '0.000'),
            ('numeric', 5, '1e100::pg_catalog.numeric'),
            ('scaled', 1, '(-1.50)'), ('scaled', 2, '''NaN''::pg_catalog.numeric'), ('scaled', 3, '10000.00'),
            ('date', 1, '''infinity''::pg_catalog.date'), ('date', 2, '''-infinity''::pg_catalog.date'), ('date', 3, '''4713-01-01 BC''::pg_catalog.date'),
            ('uuid', 1, '''a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11''::pg_catalog.uuid'),
            ('timestamp', 1, '''infinity''::pg_catalog.timestamp'), ('timestamp', 2, '''2024-10-27 01:30:00.123456''::pg_catalog.timestamp'),
            ('timestamp', 3, '''1970-01-01''::pg_catalog.timestamp'), ('timestamp', 4, '''294276-12-31 23:59:59.999999''::pg_catalog.timestamp'),
            ('timestamptz', 1, '''-infinity''::pg_catalog.timestamptz'), ('timestamptz', 2, '''2024-10-27 01:30:00.123456+02''::pg_catalog.timestamptz'),
            ('timestamptz', 3, '''4713-01-01 00:00:00.000001+00 BC''::pg_catalog.timestamptz'),
            ('time', 1, '''24:00''::pg_catalog.time'), ('time', 2, '''12:34:56.789012''::pg_catalog.time'),
            ('bytes', 1, '''\x00ff5c''::pg_catalog.bytea'),
            ('padded', 1, '''ab  ''::pg_catalog.bpchar'),
            ('ascii', 1, '1.50'), ('ascii', 2, '(0.1::pg_catalog.float8 + 0.2::pg_catalog.float8)'), ('ascii', 3, '''-0''::pg_catalog.float4'),
            ('ascii', 4, '''1 mon -1 day 02:03:04.5''::pg_catalog.interval'), ('ascii', 5, '''12.34''::pg_catalog.money'),
            ('text', 1, ''''''), ('text', 2, '''a'''), ('text', 3, '''The quick brown fox jumps over the lazy dog, 13 times.'''),
            ('text', 4, '''{"b": 1.10, "a": null}''::pg_catalog.jsonb'), ('text', 5, '''{a,NULL,"b,c"}''::pg_catalog.text[]')
        ) AS c (kind, nr, constant)
        GROUP BY c.kind
    ) AS k
);
COMMENT ON FUNCTION roneo.handshake_query() IS
    'A query for both sides: what the hash of each kind makes of some constants, as a JSON object.';

CREATE OR REPLACE FUNCTION roneo.weak_kinds(one jsonb, other jsonb)
RETURNS text[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(
    SELECT coalesce(a.key, b.key)
    FROM jsonb_each_text(one) AS a
    FULL JOIN jsonb_each_text(other) AS b ON b.key = a.key
    WHERE a.value IS DISTINCT FROM b.value
    ORDER BY 1);
COMMENT ON FUNCTION roneo.weak_kinds(jsonb, jsonb) IS
    'The kinds whose hashes differ between two answers to handshake_query.';
-- What is compared: the rows that a replica is to have, on its source, with those that it has.
--
-- A verification is the last part of a refresh, in the same transactions: both sides are compared as
-- of the one snapshot of the source that the refresh brought the copy up to. So there is nothing that
-- could have changed meanwhile, and a difference is one.

CREATE OR REPLACE FUNCTION roneo.key_of_table(target regclass, names name[])
RETURNS name[] LANGUAGE sql STABLE
RETURN (
    SELECT k.columns
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    CROSS JOIN LATERAL (
        SELECT array_agg(a.attname ORDER BY n.place) AS columns, bool_and(a.attnotnull AND a.attname = ANY (names)) AS fits
        FROM generate_series(0, i.indnkeyatts - 1) AS n (place)
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n.place]) AS k
    WHERE i.indrelid = target AND i.indisunique AND NOT i.indisexclusion AND i.indisvalid
      AND i.indpred IS NULL AND i.indexprs IS NULL AND k.fits
    ORDER BY i.indisprimary DESC, cardinality(k.columns), c.relname
    LIMIT 1
);
COMMENT ON FUNCTION roneo.key_of_table(regclass, name[]) IS
    'The columns of a unique index without NULLs, of those named, the primary key first; NULL for none.';

CREATE OR REPLACE FUNCTION roneo.verified_snapshot(r roneo.replica, m roneo.snapshot_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN jsonb_build_object('counted', true, 'target', format('%I.%I', m.table_schema, roneo.shown_table(m)));
COMMENT ON FUNCTION roneo.verified_snapshot(roneo.replica, roneo.snapshot_replica, jsonb) IS 'What is particular to a snapshot when it is compared: the table behind the view, and that only counters say whether the source has changed since it was copied.';

CREATE OR REPLACE FUNCTION roneo.verified_plain(r roneo.replica, m roneo.plain_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN '{"counted": true}'::jsonb;
COMMENT ON FUNCTION roneo.verified_plain(roneo.replica, roneo.plain_replica, jsonb) IS 'What is particular to a plain replica when it is compared: that only counters say whether the source has changed since it was copied.';

-- What lies above the position, or is held, is not to be here yet.
CREATE OR REPLACE FUNCTION roneo.verified_control(r roneo.replica, c roneo.control_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN jsonb_build_object(
    'key', to_jsonb(c.key_columns),
    'keyless', c.key_columns IS NULL,
    'range_column', c.control,
    'ready', concat_ws(' AND ',
        CASE WHEN c.last_value IS NULL THEN 'false'
             WHEN c.null_control = 'read' THEN format('(%s OR %I IS NULL)', roneo.compared(c, '<=', c.last_value), c.control)
             ELSE roneo.compared(c, '<=', c.last_value) END,
        roneo.ready_condition(c, roneo.age_of(roneo.answered_xid(answer, 'xmin')), roneo.age_of(roneo.answered_xid(answer, 'xmax')))),
    'trouble', CASE WHEN c.key_columns IS NOT NULL AND NOT c.key_is_unique
                    THEN format('the key (%s) is not unique on the source, and which of its rows is here is not known', roneo.column_list(c.key_columns)) END);
COMMENT ON FUNCTION roneo.verified_control(roneo.replica, roneo.control_replica, jsonb) IS
    'What is particular to an inserter or updater when it is compared: only rows at or below its position are to be here.';

CREATE OR REPLACE FUNCTION roneo.reaches_above(c roneo.control_replica, upto text)
RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer boolean;
BEGIN
    EXECUTE format('SELECT %1$L::%3$s > %2$L::%3$s', upto, c.last_value, c.control_type) INTO answer;
    RETURN coalesce(answer, true);
END;
$$;
COMMENT ON FUNCTION roneo.reaches_above(roneo.control_replica, text) IS
    'Whether rows above the position lie in a range up to a control value; NULL for a range without an end.';

-- A boundary keeps rows away for a while; so do open transactions, where there is no key.
CREATE OR REPLACE FUNCTION roneo.not_compared(c roneo.control_replica, answer jsonb, upto text)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT format(CASE WHEN w.what <> '' THEN '%s are not to be here yet, and were not compared' END, w.what)
    FROM (SELECT concat_ws(', and ',
        CASE WHEN roneo.bound_condition(c, '') IS NULL OR NOT roneo.reaches_above(c, upto) THEN NULL
             WHEN c.last_value IS NULL THEN 'rows of any age'
             ELSE format('rows above %s of %I', c.last_value, c.control) END,
        CASE WHEN c.key_columns IS NULL AND roneo.follows_xmin(c) AND roneo.answered_xid(answer, 'xmin') <> roneo.answered_xid(answer, 'xmax')
             THEN 'rows that wait for a transaction of the source' END)) AS w (what));
COMMENT ON FUNCTION roneo.not_compared(roneo.control_replica, jsonb, text) IS
    'Which rows of its source an inserter or updater is not to have yet, in words; NULL where there can be none.';

CREATE OR REPLACE FUNCTION roneo.verified_inserter(r roneo.replica, m roneo.inserter_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (SELECT roneo.verified_control(r, c, answer) || '{"keeps": true}' FROM roneo.control_replica AS c WHERE c.replica_id = r.replica_id);
COMMENT ON FUNCTION roneo.verified_inserter(roneo.replica, roneo.inserter_replica, jsonb) IS
    'What is particular to an inserter when it is compared: rows that are gone from the source may stay.';

CREATE OR REPLACE FUNCTION roneo.verified_updater(r roneo.replica, m roneo.updater_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (SELECT roneo.verified_control(r, c, answer) FROM roneo.control_replica AS c WHERE c.replica_id = r.replica_id);
COMMENT ON FUNCTION roneo.verified_updater(roneo.replica, roneo.updater_replica, jsonb) IS 'What is particular to an updater when it is compared.';

CREATE OR REPLACE FUNCTION roneo.verified_dml(r roneo.replica, m roneo.dml_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN jsonb_build_object('key', to_jsonb(m.key_columns));
COMMENT ON FUNCTION roneo.verified_dml(roneo.replica, roneo.dml_replica, jsonb) IS 'What is particular to a dml replica when it is compared: its key.';

CREATE OR REPLACE FUNCTION roneo.verified_logdel(r roneo.replica, m roneo.logdel_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN jsonb_build_object('key', to_jsonb(m.key_columns), 'live', format('%I IS NULL', m.deleted_column), 'deleted_column', m.deleted_column);
COMMENT ON FUNCTION roneo.verified_logdel(roneo.replica, roneo.logdel_replica, jsonb) IS
    'What is particular to a logdel replica when it is compared: rows that were deleted on the source do not count.';

-- Each value is compared as the column here would hold it: numeric(10,2) rounds what it is given.
CREATE OR REPLACE FUNCTION roneo.verified_columns(wanted jsonb, present jsonb, seldom_null name[])
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'name', p.name,
        'source_type', p.source_type, 'dest_type', p.dest_type,
        'there', CASE WHEN p.source_type = p.dest_type OR p.cast_type = p.source_type AND d.col ->> 'type_schema' <> 'pg_catalog'
                      THEN quote_ident(p.name) ELSE format('%I::%s', p.name, p.dest_type) END,
        'here', quote_ident(p.name),
        'kind', CASE WHEN p.source_type = p.dest_type AND p.dest_type LIKE 'numeric(%)' THEN 'scaled'
                     WHEN d.col ->> 'type_schema' = 'pg_catalog' AND d.col ->> 'type_extension' IS NULL
                       OR s.col ->> 'type_base' = d.col ->> 'type_base'
                     THEN roneo.hash_kind(d.col ->> 'type_base') ELSE 'text' END,
        'nullable', NOT ((s.col ->> 'not_null')::boolean AND (d.col ->> 'not_null')::boolean),
        'is_jsonb', d.col ->> 'type_base' = 'jsonb',
        'seldom_null', p.name = ANY (seldom_null)) ORDER BY p."position"), '[]')
    FROM roneo.pair_columns(wanted, present) AS p
    JOIN jsonb_array_elements(wanted) AS s (col) ON s.col ->> 'name' = p.name
    JOIN jsonb_array_elements(present) AS d (col) ON d.col ->> 'name' = p.name
);
COMMENT ON FUNCTION roneo.verified_columns(jsonb, jsonb, name[]) IS
    'The columns that are compared: the expression for each on either side, and how it is hashed.';

CREATE OR REPLACE FUNCTION roneo.seldom_null(target regclass)
RETURNS name[] LANGUAGE sql STABLE
RETURN ARRAY(
    SELECT s.attname
    FROM pg_stats AS s
    -- By subqueries: joined, the view would be made for all tables.
    WHERE s.schemaname = (SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = target)
      AND s.tablename = (SELECT c.relname FROM pg_class AS c WHERE c.oid = target)
      AND s.null_frac < 0.01
);
COMMENT ON FUNCTION roneo.seldom_null(regclass) IS 'Columns that have next to no NULL, as far as statistics tell: a guess, by which hashes are made fast.';

-- By bytes, for a text is in another order under another collation.
CREATE OR REPLACE FUNCTION roneo.verified_range(col jsonb, side text, from_value text, to_value text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT nullif(concat_ws(' AND ',
        format(CASE WHEN from_value IS NOT NULL THEN '%1$I%3$s >= %2$L::%4$s%3$s' END, col ->> 'name', from_value, o.order_of, o.type_name),
        -- Rows without a value belong to the range that has no lower end: each row is in one slice.
        format(CASE WHEN to_value IS NULL THEN NULL WHEN from_value IS NULL AND (col ->> 'nullable')::boolean THEN '(%1$I%3$s < %2$L::%4$s%3$s OR %1$I IS NULL)'
                    ELSE '%1$I%3$s < %2$L::%4$s%3$s' END, col ->> 'name', to_value, o.order_of, o.type_name)), '')
    FROM (SELECT CASE WHEN col ->> 'kind' IN ('text', 'padded') THEN '::pg_catalog.text COLLATE "C"' ELSE '' END AS order_of,
                 col ->> CASE side WHEN 'there' THEN 'source_type' ELSE 'dest_type' END AS type_name) AS o
);
COMMENT ON FUNCTION roneo.verified_range(jsonb, text, text, text) IS
    'A condition for the half-open range from a value up to another one, on either side (there, here); NULL for everything.';

CREATE OR REPLACE FUNCTION roneo.verified_part(r roneo.replica, answer jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part jsonb;
BEGIN
    EXECUTE format('SELECT roneo.%I(r, m, $2) FROM roneo.replica AS r JOIN roneo.%I AS m ON m.replica_id = r.replica_id WHERE r.replica_id = $1',
                   concat('verified_', r.method), concat(r.method, '_replica'))
    INTO STRICT part USING r.replica_id, answer;
    RETURN part;
END;
$$;
COMMENT ON FUNCTION roneo.verified_part(roneo.replica, jsonb) IS 'What is particular to the method of a replica when it is compared.';

-- Two servers write characters as other bytes where their encodings differ.
CREATE OR REPLACE FUNCTION roneo.recoded(r roneo.replica, answer jsonb, side text)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT CASE WHEN answer #>> '{before,identity,encoding}' = current_setting('server_encoding') THEN NULL
                WHEN side = 'there' THEN coalesce(s.source_encoding, 'server') ELSE 'server' END
    FROM roneo.source AS s WHERE s.source_id = r.source_id
);
COMMENT ON FUNCTION roneo.recoded(roneo.replica, jsonb, text) IS 'In which encoding the bytes of a side are; NULL where both sides have the same.';

CREATE OR REPLACE FUNCTION roneo.verify_subject(r roneo.replica, answer jsonb, options jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part    jsonb := roneo.verified_part(r, answer);
    target  text := coalesce(part ->> 'target', format('%I.%I', r.dest_schema, r.dest_name));
    wanted  jsonb := roneo.wanted_source_columns(r, answer);
    columns jsonb := roneo.verified_columns(wanted, roneo.local_relation(target::regclass) -> 'columns', roneo.seldom_null(target::regclass));
    names   name[] := ARRAY(SELECT (c.col ->> 'name')::name FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, nr) ORDER BY c.nr);
    key     jsonb := CASE WHEN (part ->> 'keyless')::boolean THEN 'null'
                          ELSE coalesce(nullif(part -> 'key', 'null'), to_jsonb(roneo.key_of_table(target::regclass, names)), 'null') END;
    ranging text := coalesce(part ->> 'range_column', key ->> 0);
    ranged  jsonb := (SELECT c.col FROM jsonb_array_elements(columns) AS c (col) WHERE c.col ->> 'name' = ranging);
BEGIN
    IF coalesce(options ->> 'from', options ->> 'to') IS NOT NULL AND ranged IS NULL THEN
        PERFORM roneo.bad_argument(format('%s has no column to take a range of', target), 'A range is one of the control column, or of the first column of the key.');
    END IF;
    RETURN part || jsonb_build_object(
        'target', target, 'columns', columns, 'wanted', wanted, 'key', key, 'range_column', ranging,
        'not_compared', (SELECT roneo.not_compared(c, answer, options ->> 'to') FROM roneo.control_replica AS c WHERE c.replica_id = r.replica_id),
        'from', roneo.source_name_of(r),
        'filter', r.filter,
        'there', roneo.verified_range(ranged, 'there', options ->> 'from', options ->> 'to'),
        'here', roneo.verified_range(ranged, 'here', options ->> 'from', options ->> 'to'),
        'recode_there', roneo.recoded(r, answer, 'there'),
        'recode_here', roneo.recoded(r, answer, 'here'));
END;
$$;
COMMENT ON FUNCTION roneo.verify_subject(roneo.replica, jsonb, jsonb) IS
    'Everything that says what is compared with what: tables, columns, key, conditions. options: from and to, the half-open range of control values or keys.';
-- What each side is asked. subject: verify_subject; side: there (the source) or here.

CREATE OR REPLACE FUNCTION roneo.side_columns(subject jsonb, side text, names jsonb DEFAULT NULL)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object('expression', c.col ->> side, 'kind', c.col ->> 'kind', 'nullable', c.col -> 'nullable', 'seldom_null', c.col -> 'seldom_null', 'is_jsonb', c.col -> 'is_jsonb') ORDER BY c.nr), '[]')
    FROM jsonb_array_elements(subject -> 'columns') WITH ORDINALITY AS c (col, nr)
    WHERE names IS NULL OR names ? (c.col ->> 'name')
);
COMMENT ON FUNCTION roneo.side_columns(jsonb, text, jsonb) IS 'What row_hash takes for the columns on one side, all or those named.';

CREATE OR REPLACE FUNCTION roneo.side_hash(subject jsonb, side text, weak text[], names jsonb DEFAULT NULL)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN roneo.row_hash(roneo.side_columns(subject, side, names), weak, subject ->> concat('recode_', side));
COMMENT ON FUNCTION roneo.side_hash(jsonb, text, text[], jsonb) IS 'The hash of a row, or of some of its columns, on one side.';

CREATE OR REPLACE FUNCTION roneo.has_key(subject jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN subject -> 'key' <> 'null'::jsonb;
COMMENT ON FUNCTION roneo.has_key(jsonb) IS 'Whether rows are compared by key; else each row is one of those that look like it.';

-- The filter ends with a newline, so that a comment at its end does not swallow the parenthesis.
CREATE OR REPLACE FUNCTION roneo.side_rows(subject jsonb, side text, only_ready boolean, condition text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws(' WHERE ', subject ->> CASE side WHEN 'there' THEN 'from' ELSE 'target' END, nullif(concat_ws(' AND ',
    CASE side WHEN 'there' THEN format(CASE WHEN btrim(subject ->> 'filter', E' \t\r\n') <> '' THEN E'(%s\n)' END, subject ->> 'filter')
              ELSE subject ->> 'live' END,
    CASE WHEN only_ready THEN nullif(concat_ws(' AND ', CASE side WHEN 'there' THEN subject ->> 'ready' END, subject ->> side), '') END,
    condition), ''));
COMMENT ON FUNCTION roneo.side_rows(jsonb, text, boolean, text) IS
    'What follows FROM on one side. only_ready: rows that are to be here, of the range; else with those that are not.';

CREATE OR REPLACE FUNCTION roneo.total_query(subject jsonb, side text, weak text[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('SELECT pg_catalog.to_jsonb(t) FROM (SELECT %s FROM %s) AS t',
              roneo.hash_sum(roneo.side_hash(subject, side, weak)), roneo.side_rows(subject, side, true, NULL));
COMMENT ON FUNCTION roneo.total_query(jsonb, text, text[]) IS 'A query that answers with one JSON document: how many rows there are, and the sum of their hashes.';

-- The sum of the rows' hashes for each of 4096 buckets of the key's hash. Without a key a bucket is
-- one of the whole row's hash, which is computed once.
CREATE OR REPLACE FUNCTION roneo.sums_query(subject jsonb, side text, weak text[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$SELECT pg_catalog.jsonb_build_object('rows', coalesce(pg_catalog.sum(g.n), 0),
    'buckets', coalesce(pg_catalog.jsonb_object_agg(g.bucket, pg_catalog.jsonb_build_array(g.n, g.sum)), '{}'))
FROM (SELECT h.bucket, pg_catalog.count(*) AS n, pg_catalog.sum(h.hash)::pg_catalog.text AS sum
      FROM (%s) AS h (bucket, hash) GROUP BY h.bucket) AS g$query$,
    CASE WHEN roneo.has_key(subject)
        THEN format('SELECT (%s & 4095)::pg_catalog.int4, %s FROM %s', roneo.side_hash(subject, side, weak, subject -> 'key'),
                    roneo.side_hash(subject, side, weak), roneo.side_rows(subject, side, true, NULL))
        ELSE format('SELECT (w.hash & 4095)::pg_catalog.int4, w.hash FROM (SELECT %s FROM %s OFFSET 0) AS w (hash)',
                    roneo.side_hash(subject, side, weak), roneo.side_rows(subject, side, true, NULL)) END);
COMMENT ON FUNCTION roneo.sums_query(jsonb, text, text[]) IS
    'A query that answers with one JSON document: how many rows there are, and in each of 4096 buckets their number and the sum of their hashes.';

CREATE OR REPLACE FUNCTION roneo.differing_buckets(there jsonb, here jsonb)
RETURNS integer[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(
    SELECT coalesce(a.key, b.key)::integer
    FROM jsonb_each(there -> 'buckets') AS a
    FULL JOIN jsonb_each(here -> 'buckets') AS b ON b.key = a.key
    WHERE a.value IS DISTINCT FROM b.value
    ORDER BY 1);
COMMENT ON FUNCTION roneo.differing_buckets(jsonb, jsonb) IS 'The buckets whose sums differ between two answers to sums_query.';

-- A bit for each bucket: a list would be searched for each row before PostgreSQL 14.
CREATE OR REPLACE FUNCTION roneo.bucket_bits(buckets integer[])
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bits   bytea := decode(repeat('00', 512), 'hex');
    bucket integer;
BEGIN
    FOREACH bucket IN ARRAY buckets LOOP
        bits := set_bit(bits, bucket, 1);
    END LOOP;
    RETURN encode(bits, 'hex');
END;
$$;
COMMENT ON FUNCTION roneo.bucket_bits(integer[]) IS 'Buckets as a string of 4096 bits, in hexadecimal digits.';

CREATE OR REPLACE FUNCTION roneo.in_buckets(hash text, bits text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('pg_catalog.get_bit(pg_catalog.decode(%L, ''hex''), (%s & 4095)::pg_catalog.int4) = 1', bits, hash);
COMMENT ON FUNCTION roneo.in_buckets(text, text) IS 'True for a hash in one of the buckets.';

CREATE OR REPLACE FUNCTION roneo.truth(condition text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN condition IS NULL THEN 'true' ELSE format('((%s) IS TRUE)', condition) END;
COMMENT ON FUNCTION roneo.truth(text) IS 'A condition as a value that is never NULL; true for none.';

CREATE OR REPLACE FUNCTION roneo.key_names(subject jsonb)
RETURNS name[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT k.name::name FROM jsonb_array_elements_text(nullif(subject -> 'key', 'null')) WITH ORDINALITY AS k (name, nr) ORDER BY k.nr);
COMMENT ON FUNCTION roneo.key_names(jsonb) IS 'The key''s columns.';

-- Rows that are not ready come too: a row that was here and moved out of reach is not gone.
CREATE OR REPLACE FUNCTION roneo.hashes_there(subject jsonb, weak text[], bits text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN roneo.has_key(subject)
    THEN format('(SELECT %s, %s AS roneo_hash, %s AS roneo_ready, %s AS roneo_inside FROM %s)', roneo.column_list(roneo.key_names(subject)),
                roneo.side_hash(subject, 'there', weak), roneo.truth(subject ->> 'ready'), roneo.truth(subject ->> 'there'),
                roneo.side_rows(subject, 'there', false, roneo.in_buckets(roneo.side_hash(subject, 'there', weak, subject -> 'key'), bits)))
    ELSE format('(SELECT w.roneo_hash, pg_catalog.count(*) AS roneo_count FROM (SELECT %s AS roneo_hash FROM %s OFFSET 0) AS w WHERE %s GROUP BY w.roneo_hash)',
                roneo.side_hash(subject, 'there', weak), roneo.side_rows(subject, 'there', true, NULL), roneo.in_buckets('w.roneo_hash', bits)) END;
COMMENT ON FUNCTION roneo.hashes_there(jsonb, text[], text) IS
    'The keys and hashes of the source''s rows in some buckets, for a FROM clause; without a key how many rows have each hash.';

CREATE OR REPLACE FUNCTION roneo.hashes_here(subject jsonb, weak text[], bits text)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN roneo.has_key(subject)
    THEN format('SELECT %s, %s AS roneo_hash, %s AS roneo_inside FROM %s', roneo.bare_columns((subject ->> 'target')::regclass, roneo.key_names(subject), ''),
                roneo.side_hash(subject, 'here', weak), roneo.truth(subject ->> 'here'),
                roneo.side_rows(subject, 'here', false, roneo.in_buckets(roneo.side_hash(subject, 'here', weak, subject -> 'key'), bits)))
    ELSE format('SELECT w.roneo_hash, pg_catalog.count(*) AS roneo_count FROM (SELECT %s AS roneo_hash FROM %s OFFSET 0) AS w WHERE %s GROUP BY w.roneo_hash',
                roneo.side_hash(subject, 'here', weak), roneo.side_rows(subject, 'here', true, NULL), roneo.in_buckets('w.roneo_hash', bits)) END;
COMMENT ON FUNCTION roneo.hashes_here(jsonb, text[], text) IS 'The same of the rows here.';

CREATE OR REPLACE FUNCTION roneo.verify_table(r roneo.replica, what text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('roneo_%s_%s', what, r.replica_id);
COMMENT ON FUNCTION roneo.verify_table(roneo.replica, text) IS 'A temporary table of a verification: there, differing or shown.';

CREATE OR REPLACE FUNCTION roneo.verify_table_statement(r roneo.replica, subject jsonb, what text, extra text)
RETURNS text LANGUAGE sql STABLE
RETURN format('DROP TABLE IF EXISTS pg_temp.%1$I; CREATE TEMPORARY TABLE %1$I ON COMMIT DROP AS SELECT %2$s FROM %3$s WITH NO DATA',
    roneo.verify_table(r, what),
    concat_ws(', ', roneo.bare_columns((subject ->> 'target')::regclass, roneo.key_names(subject), ''), extra), subject ->> 'target');
COMMENT ON FUNCTION roneo.verify_table_statement(roneo.replica, jsonb, text, text) IS 'A statement that makes an empty temporary table with the key''s columns and more.';

-- A row that the source has, but that is not to be here yet, is no difference whatever is here.
CREATE OR REPLACE FUNCTION roneo.differing_statement(r roneo.replica, subject jsonb, weak text[], bits text)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN roneo.has_key(subject) THEN format($statement$DROP TABLE IF EXISTS pg_temp.%1$I; CREATE TEMPORARY TABLE %1$I ON COMMIT DROP AS
WITH here AS MATERIALIZED (%2$s)
SELECT %3$s, CASE WHEN here.roneo_hash IS NULL THEN 'missing' WHEN there.roneo_hash IS NULL THEN 'extra' ELSE 'changed' END AS roneo_kind
FROM pg_temp.%4$I AS there FULL JOIN here USING (%3$s)
WHERE CASE WHEN here.roneo_hash IS NULL THEN there.roneo_ready AND there.roneo_inside
           WHEN there.roneo_hash IS NULL THEN here.roneo_inside
           ELSE there.roneo_ready AND (there.roneo_inside OR here.roneo_inside) AND there.roneo_hash <> here.roneo_hash END$statement$,
    roneo.verify_table(r, 'differing'), roneo.hashes_here(subject, weak, bits), roneo.column_list(roneo.key_names(subject)), roneo.verify_table(r, 'there'))
ELSE format($statement$DROP TABLE IF EXISTS pg_temp.%1$I; CREATE TEMPORARY TABLE %1$I ON COMMIT DROP AS
SELECT coalesce(there.roneo_hash, here.roneo_hash) AS roneo_hash, coalesce(there.roneo_count, 0) - coalesce(here.roneo_count, 0) AS roneo_lacks,
       CASE WHEN coalesce(there.roneo_count, 0) > coalesce(here.roneo_count, 0) THEN 'missing' ELSE 'extra' END AS roneo_kind
FROM pg_temp.%3$I AS there FULL JOIN (%2$s) AS here ON here.roneo_hash = there.roneo_hash
WHERE there.roneo_count IS DISTINCT FROM here.roneo_count$statement$,
    roneo.verify_table(r, 'differing'), roneo.hashes_here(subject, weak, bits), roneo.verify_table(r, 'there')) END;
COMMENT ON FUNCTION roneo.differing_statement(roneo.replica, jsonb, text[], text) IS
    'A statement that finds, from what has arrived and what is here, the keys that differ and how; without a key the hashes, and how many rows are lacking (or, below zero, too many).';

CREATE OR REPLACE FUNCTION roneo.key_object(subject jsonb, alias text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (SELECT format('pg_catalog.jsonb_build_object(%s)', string_agg(format('%L, %s.%I::pg_catalog.text', k.name, alias, k.name), ', ' ORDER BY k.nr))
        FROM unnest(roneo.key_names(subject)) WITH ORDINALITY AS k (name, nr));
COMMENT ON FUNCTION roneo.key_object(jsonb, text) IS 'SQL for a key as a JSON object of texts.';

-- What is asked of the source again is its keys, in arrays of up to five thousand.
CREATE OR REPLACE FUNCTION roneo.found_query(r roneo.replica, subject jsonb, shown integer)
RETURNS text LANGUAGE sql STABLE
RETURN format($query$SELECT pg_catalog.jsonb_build_object('missing', %2$s, 'extra', %3$s, 'changed', pg_catalog.count(*) FILTER (WHERE d.roneo_kind = 'changed'),
    'shown', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('kind', s.roneo_kind, %4$s))
              FROM (SELECT * FROM pg_temp.%1$I ORDER BY %5$s LIMIT %6$s) AS s))
FROM pg_temp.%1$I AS d$query$, roneo.verify_table(r, 'differing'),
    CASE WHEN roneo.has_key(subject) THEN 'pg_catalog.count(*) FILTER (WHERE d.roneo_kind = ''missing'')' ELSE 'coalesce(pg_catalog.sum(d.roneo_lacks) FILTER (WHERE d.roneo_lacks > 0), 0)' END,
    CASE WHEN roneo.has_key(subject) THEN 'pg_catalog.count(*) FILTER (WHERE d.roneo_kind = ''extra'')' ELSE '- coalesce(pg_catalog.sum(d.roneo_lacks) FILTER (WHERE d.roneo_lacks < 0), 0)' END,
    CASE WHEN roneo.has_key(subject) THEN format('''key'', %s', roneo.key_object(subject, 's')) ELSE '''rows'', pg_catalog.abs(s.roneo_lacks)' END,
    CASE WHEN roneo.has_key(subject) THEN roneo.column_list(roneo.key_names(subject)) ELSE 'roneo_hash' END, shown);
COMMENT ON FUNCTION roneo.found_query(roneo.replica, jsonb, integer) IS 'A query that counts the differences by kind, and names some.';

CREATE OR REPLACE FUNCTION roneo.chunks_query(r roneo.replica, columns name[], condition text, most integer)
RETURNS text LANGUAGE sql STABLE
RETURN format($query$SELECT coalesce(pg_catalog.jsonb_agg(c.arrays ORDER BY c.roneo_chunk), '[]') FROM (
    SELECT d.roneo_chunk, pg_catalog.jsonb_build_array(%1$s) AS arrays
    FROM (SELECT f.*, (pg_catalog.row_number() OVER (ORDER BY %2$s) - 1) / 5000 AS roneo_chunk FROM pg_temp.%3$I AS f WHERE %4$s ORDER BY %2$s LIMIT %5$s) AS d
    GROUP BY d.roneo_chunk) AS c$query$,
    (SELECT string_agg(format('pg_catalog.array_agg(d.%I::pg_catalog.text ORDER BY %s)::pg_catalog.text', k.name, roneo.column_list(columns)), ', ' ORDER BY k.nr)
     FROM unnest(columns) WITH ORDINALITY AS k (name, nr)),
    roneo.column_list(columns), roneo.verify_table(r, 'differing'), condition, most);
COMMENT ON FUNCTION roneo.chunks_query(roneo.replica, name[], text, integer) IS
    'A query for what was found, as a JSON array of chunks of up to five thousand, each an array of each column.';

CREATE OR REPLACE FUNCTION roneo.chunk_condition_there(subject jsonb, chunk jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(%s) IN (SELECT * FROM ROWS FROM (%s) AS w)', roneo.column_list(roneo.key_names(subject)), (
    SELECT string_agg(format('pg_catalog.unnest(%L::%s[])', chunk ->> (k.nr::integer - 1), c.col ->> 'source_type'), ', ' ORDER BY k.nr)
    FROM unnest(roneo.key_names(subject)) WITH ORDINALITY AS k (name, nr)
    JOIN jsonb_array_elements(subject -> 'columns') AS c (col) ON c.col ->> 'name' = k.name));
COMMENT ON FUNCTION roneo.chunk_condition_there(jsonb, jsonb) IS 'True for the rows of the source with the keys of a chunk.';

-- A text of each column is compared, or, where none is to be shown, its hash.
CREATE OR REPLACE FUNCTION roneo.column_images(subject jsonb, side text, weak text[], shows boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT format('ARRAY[%s]', string_agg(CASE WHEN shows THEN concat('(', roneo.text_form(c.col ->> 'kind', c.col ->> side, NULL), ')::pg_catalog.text')
                    ELSE concat('(', roneo.row_hash(jsonb_build_array(jsonb_build_object('expression', c.col ->> side, 'kind', c.col ->> 'kind', 'nullable', true, 'is_jsonb', c.col -> 'is_jsonb')),
                                        weak, subject ->> concat('recode_', side)), ')::pg_catalog.text') END, ', ' ORDER BY c.nr))
    FROM jsonb_array_elements(subject -> 'columns') WITH ORDINALITY AS c (col, nr)
);
COMMENT ON FUNCTION roneo.column_images(jsonb, text, text[], boolean) IS 'SQL for an array with a text or a hash of each column.';

CREATE OR REPLACE FUNCTION roneo.images_there(subject jsonb, weak text[], chunk jsonb, shows boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(SELECT %s, %s AS roneo_images FROM %s)', roneo.column_list(roneo.key_names(subject)), roneo.column_images(subject, 'there', weak, shows),
              roneo.side_rows(subject, 'there', false, roneo.chunk_condition_there(subject, chunk)));
COMMENT ON FUNCTION roneo.images_there(jsonb, text[], jsonb, boolean) IS 'The columns of the source''s rows with some keys, for a FROM clause.';

CREATE OR REPLACE FUNCTION roneo.changed_columns_query(r roneo.replica, subject jsonb, weak text[], shows boolean)
RETURNS text LANGUAGE sql STABLE
RETURN format($query$SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('key', %1$s, 'columns', x.columns%2$s)), '[]')
FROM pg_temp.%3$I AS there
JOIN (SELECT %4$s, %5$s AS roneo_images FROM %6$s) AS here USING (%7$s)
CROSS JOIN LATERAL (
    SELECT pg_catalog.jsonb_agg(n.name ORDER BY n.nr) AS columns, pg_catalog.jsonb_object_agg(n.name, pg_catalog.jsonb_build_array(n.one, n.other)) AS differing
    FROM ROWS FROM (pg_catalog.unnest(there.roneo_images), pg_catalog.unnest(here.roneo_images), pg_catalog.unnest(%8$L::pg_catalog.text[])) WITH ORDINALITY AS n (one, other, name, nr)
    WHERE n.one IS DISTINCT FROM n.other) AS x
WHERE x.columns IS NOT NULL$query$,
    roneo.key_object(subject, 'there'), CASE WHEN shows THEN ', ''values'', x.differing' END, roneo.verify_table(r, 'shown'),
    roneo.bare_columns((subject ->> 'target')::regclass, roneo.key_names(subject), ''), roneo.column_images(subject, 'here', weak, shows),
    roneo.side_rows(subject, 'here', false, NULL), roneo.column_list(roneo.key_names(subject)),
    ARRAY(SELECT c.col ->> 'name' FROM jsonb_array_elements(subject -> 'columns') WITH ORDINALITY AS c (col, nr) ORDER BY c.nr));
COMMENT ON FUNCTION roneo.changed_columns_query(roneo.replica, jsonb, text[], boolean) IS
    'A query for the columns in which the rows that arrived differ from those here, with both values where they are to be shown.';
-- Bringing the rows that differ in line, and no others, in the transaction that found them.

CREATE OR REPLACE FUNCTION roneo.repairs_deletes(subject jsonb, options jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN coalesce((options ->> 'deletes')::boolean, NOT coalesce((subject ->> 'keeps')::boolean, false));
COMMENT ON FUNCTION roneo.repairs_deletes(jsonb, jsonb) IS
    'Whether rows that the source has no more are a difference, and removed by a repair: as asked for, else by every method but inserter.';

CREATE OR REPLACE FUNCTION roneo.same_here(subject jsonb, one text, other text)
RETURNS text LANGUAGE sql STABLE
RETURN roneo.same_key((subject ->> 'target')::regclass, roneo.key_names(subject), one, other);
COMMENT ON FUNCTION roneo.same_here(jsonb, text, text) IS 'True where two rows have the same key.';

CREATE OR REPLACE FUNCTION roneo.and_live(subject jsonb, alias text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN subject ->> 'deleted_column' IS NOT NULL THEN ' AND %s.%I IS NULL' END, alias, subject ->> 'deleted_column');
COMMENT ON FUNCTION roneo.and_live(jsonb, text) IS 'For logdel: and the row is not a deleted one.';

CREATE OR REPLACE FUNCTION roneo.repair_transfer(r roneo.replica, subject jsonb, rows_of text)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN roneo.transfer_from(r, 'read the rows that differ', rows_of, subject -> 'wanted', '[]', 'pg_temp', roneo.staging_name(r), false);
COMMENT ON FUNCTION roneo.repair_transfer(roneo.replica, jsonb, text) IS 'The step that reads rows to be repaired.';

CREATE OR REPLACE FUNCTION roneo.repair_delete_step(r roneo.replica, subject jsonb, answer jsonb)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN roneo.counting_step(3, CASE WHEN subject ->> 'deleted_column' IS NULL THEN 'delete what is gone' ELSE 'stamp what is gone' END,
    CASE WHEN subject ->> 'deleted_column' IS NULL THEN format('DELETE FROM %s AS kept USING pg_temp.%I AS differing WHERE differing.roneo_kind = ''extra'' AND %s',
        subject ->> 'target', roneo.verify_table(r, 'differing'), roneo.same_here(subject, 'kept', 'differing'))
    ELSE format('UPDATE %s AS kept SET %I = %L::pg_catalog.timestamptz FROM pg_temp.%I AS differing WHERE differing.roneo_kind = ''extra'' AND %s%s',
        subject ->> 'target', subject ->> 'deleted_column', answer #>> '{before,identity,clock}', roneo.verify_table(r, 'differing'),
        roneo.same_here(subject, 'kept', 'differing'), roneo.and_live(subject, 'kept')) END, 'deleted');
COMMENT ON FUNCTION roneo.repair_delete_step(roneo.replica, jsonb, jsonb) IS 'The step that removes rows which the source has no more; for logdel they are stamped.';

-- Rows that exchange unique values cannot be updated one by one where the index is checked at once.
CREATE OR REPLACE FUNCTION roneo.repair_clash_steps(r roneo.replica, subject jsonb, columns name[])
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.*
    FROM (SELECT ARRAY(SELECT x FROM unnest(roneo.clashing_columns((subject ->> 'target')::regclass, roneo.key_names(subject))) AS x WHERE x = ANY (columns)) AS columns) AS u
    CROSS JOIN LATERAL roneo.dest_step(3, 'take out rows whose unique values change', format(
        'DELETE FROM %s AS kept USING pg_temp.%I AS arrived WHERE %s%s AND %s OPERATOR(pg_catalog.*<>) %s',
        subject ->> 'target', roneo.staging_name(r), roneo.same_here(subject, 'kept', 'arrived'), roneo.and_live(subject, 'kept'),
        roneo.image_of((subject ->> 'target')::regclass, u.columns, 'kept'), roneo.image_of((subject ->> 'target')::regclass, u.columns, 'arrived'))) AS s
    WHERE u.columns <> '{}' AND NOT roneo.is_referenced((subject ->> 'target')::regclass);
END;
COMMENT ON FUNCTION roneo.repair_clash_steps(roneo.replica, jsonb, name[]) IS
    'A step that makes room where rows exchange unique values; none where foreign keys point here.';

CREATE OR REPLACE FUNCTION roneo.repair_put_steps(r roneo.replica, subject jsonb, columns name[])
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target   regclass := (subject ->> 'target')::regclass;
    settable name[] := roneo.settable_columns(target, columns);
BEGIN
    RETURN QUERY SELECT * FROM roneo.repair_clash_steps(r, subject, columns);
    IF cardinality(settable) > 0 THEN
        RETURN NEXT roneo.counting_step(4, 'update what differs', format('UPDATE %s AS kept SET %s FROM pg_temp.%I AS arrived WHERE %s%s AND %s OPERATOR(pg_catalog.*<>) %s',
            subject ->> 'target', (SELECT string_agg(format('%1$I = arrived.%1$I', k), ', ') FROM unnest(settable) AS k),
            roneo.staging_name(r), roneo.same_here(subject, 'kept', 'arrived'), roneo.and_live(subject, 'kept'),
            roneo.image_of(target, columns, 'kept'), roneo.image_of(target, columns, 'arrived')), 'updated');
    END IF;
    RETURN NEXT roneo.counting_step(4, 'insert what is missing', format(
        'INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM pg_temp.%I AS arrived WHERE NOT EXISTS (SELECT FROM %1$s AS kept WHERE %5$s%6$s)',
        subject ->> 'target', roneo.column_list(columns), (SELECT string_agg(format('arrived.%I', k), ', ') FROM unnest(columns) AS k),
        roneo.staging_name(r), roneo.same_here(subject, 'kept', 'arrived'), roneo.and_live(subject, 'kept')), 'inserted');
    RETURN NEXT roneo.dest_step(5, 'see that all of it is there', format('DO %L', format(
        'BEGIN IF EXISTS (SELECT FROM pg_temp.%I AS arrived WHERE NOT EXISTS (SELECT FROM %s AS kept WHERE %s%s AND %s OPERATOR(pg_catalog.*=) %s)) THEN '
        'RAISE EXCEPTION USING ERRCODE = ''RO014'', MESSAGE = ''rows that were repaired are not in the destination as they came'', '
        'HINT = ''Look for a trigger on the destination that swallows or changes rows, or for an identity column that may not be updated.''; END IF; END',
        roneo.staging_name(r), subject ->> 'target', roneo.same_here(subject, 'kept', 'arrived'), roneo.and_live(subject, 'kept'),
        roneo.image_of(target, columns, 'kept'), roneo.image_of(target, columns, 'arrived'))));
END;
$$;
COMMENT ON FUNCTION roneo.repair_put_steps(roneo.replica, jsonb, name[]) IS
    'Steps that put rows that have arrived: those that are there are updated, others inserted; an error where a trigger had it otherwise.';

CREATE OR REPLACE FUNCTION roneo.lacking_rows(subject jsonb, weak text[], chunk jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(SELECT %1$s FROM (SELECT %1$s, n.roneo_hash, pg_catalog.row_number() OVER (PARTITION BY n.roneo_hash) AS roneo_nr '
    'FROM (SELECT %1$s, %2$s AS roneo_hash FROM %3$s OFFSET 0) AS n) AS d '
    'JOIN ROWS FROM (pg_catalog.unnest(%4$L::pg_catalog.int8[]), pg_catalog.unnest(%5$L::pg_catalog.int8[])) AS w (roneo_hash, roneo_lacks) ON w.roneo_hash = d.roneo_hash AND d.roneo_nr <= w.roneo_lacks)',
    (SELECT string_agg(format('%I', c.col ->> 'name'), ', ' ORDER BY c.nr) FROM jsonb_array_elements(subject -> 'columns') WITH ORDINALITY AS c (col, nr)),
    roneo.side_hash(subject, 'there', weak), roneo.side_rows(subject, 'there', true, NULL), chunk ->> 0, chunk ->> 1);
COMMENT ON FUNCTION roneo.lacking_rows(jsonb, text[], jsonb) IS 'Rows of a source without a key that are missing here, each as often as it is missing, for a FROM clause.';

-- Without a key one of several rows that look alike is as good as another.
CREATE OR REPLACE FUNCTION roneo.repair_alike_steps(r roneo.replica, subject jsonb, weak text[], columns name[])
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.*
    FROM (VALUES
        (1, roneo.counting_step(3, 'delete what is too many', format(
            'DELETE FROM %1$s WHERE (tableoid, ctid) IN (SELECT d.tableoid, d.ctid FROM (SELECT n.*, pg_catalog.row_number() OVER (PARTITION BY n.roneo_hash) AS roneo_nr '
            'FROM (SELECT tableoid, ctid, %2$s AS roneo_hash FROM %3$s OFFSET 0) AS n) AS d '
            'JOIN pg_temp.%4$I AS w ON w.roneo_hash = d.roneo_hash AND d.roneo_nr <= - w.roneo_lacks)',
            subject ->> 'target', roneo.side_hash(subject, 'here', weak), roneo.side_rows(subject, 'here', true, NULL), roneo.verify_table(r, 'differing')), 'deleted')),
        (2, roneo.counting_step(4, 'insert what is missing', format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %2$s FROM pg_temp.%3$I',
            subject ->> 'target', roneo.column_list(columns), roneo.staging_name(r)), 'inserted'))) AS v (nr, step)
    CROSS JOIN LATERAL (SELECT (v.step).*) AS s
    ORDER BY v.nr;
END;
COMMENT ON FUNCTION roneo.repair_alike_steps(roneo.replica, jsonb, text[], name[]) IS 'Steps that bring a table without a key in line.';

CREATE OR REPLACE FUNCTION roneo.repair_steps(r roneo.replica, subject jsonb, state jsonb, answer jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    columns name[] := ARRAY(SELECT (c.col ->> 'name')::name FROM jsonb_array_elements(subject -> 'columns') WITH ORDINALITY AS c (col, nr) ORDER BY c.nr);
    weak    text[] := ARRAY(SELECT jsonb_array_elements_text(state -> 'weak'));
    target  regclass := (subject ->> 'target')::regclass;
BEGIN
    RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
    RETURN NEXT roneo.dest_step(1, 'make a table for what arrives', format(
        'DROP TABLE IF EXISTS pg_temp.%1$I; CREATE TEMPORARY TABLE %1$I ON COMMIT DROP AS SELECT %2$s FROM %3$s WITH NO DATA',
        roneo.staging_name(r), roneo.bare_columns(target, columns, ''), subject ->> 'target'));
    RETURN QUERY
        SELECT (roneo.repair_transfer(r, subject, CASE WHEN roneo.has_key(subject)
            THEN format('(SELECT %s FROM %s)', (SELECT string_agg(format('%I', k), ', ') FROM unnest(columns) AS k),
                        roneo.side_rows(subject, 'there', false, concat_ws(' AND ', subject ->> 'ready', roneo.chunk_condition_there(subject, c.chunk))))
            ELSE roneo.lacking_rows(subject, weak, c.chunk) END)).*
        FROM jsonb_array_elements(state -> 'chunks') WITH ORDINALITY AS c (chunk, nr)
        ORDER BY c.nr;
    IF NOT roneo.has_key(subject) THEN
        RETURN QUERY SELECT s.* FROM roneo.repair_alike_steps(r, subject, weak, columns) AS s
                     WHERE s.counts <> 'deleted' OR roneo.repairs_deletes(subject, state -> 'options');
    ELSE
        IF roneo.repairs_deletes(subject, state -> 'options') THEN
            RETURN NEXT roneo.repair_delete_step(r, subject, answer);
        END IF;
        RETURN QUERY SELECT * FROM roneo.repair_put_steps(r, subject, columns);
    END IF;
    RETURN NEXT roneo.moved_step(r);
END;
$$;
COMMENT ON FUNCTION roneo.repair_steps(roneo.replica, jsonb, jsonb, jsonb) IS
    'Steps that bring the rows that were found in line: read by their keys in the same snapshot, then deleted, updated and inserted here.';
-- A verification, or a repair, as an alternation of two pure functions: verify_plan says what to do
-- next, and verify_judge what to make of the reports. A hand carries the state from one to the other
-- without reading it, after finish_refresh and before the commit, while the source's snapshot is open.
--
-- A step of kind compare is two queries, one for each side, to be run at the same time: statement is
-- for the source, into_types the one for here.

CREATE OR REPLACE FUNCTION roneo.compare_step(purpose text, there text, here text)
RETURNS roneo.step LANGUAGE sql IMMUTABLE
RETURN ROW(2, 'compare', purpose, there, NULL, NULL, here, NULL, NULL, NULL, false)::roneo.step;
COMMENT ON FUNCTION roneo.compare_step(text, text, text) IS 'A step that is a query on each side, at the same time; each answers with one JSON document.';

CREATE OR REPLACE FUNCTION roneo.asking_step(purpose text, query text)
RETURNS roneo.step LANGUAGE sql IMMUTABLE
RETURN ROW(4, 'dest', purpose, query, NULL, NULL, NULL, NULL, NULL, 'put', false)::roneo.step;
COMMENT ON FUNCTION roneo.asking_step(text, text) IS 'A step that is a query here and answers with one JSON document.';

CREATE OR REPLACE FUNCTION roneo.key_wanted(subject jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (SELECT coalesce(jsonb_agg(w.col ORDER BY w.nr), '[]') FROM jsonb_array_elements(subject -> 'wanted') WITH ORDINALITY AS w (col, nr)
        WHERE subject -> 'key' ? (w.col ->> 'name'));
COMMENT ON FUNCTION roneo.key_wanted(jsonb) IS 'The source''s columns that are the key.';

CREATE OR REPLACE FUNCTION roneo.rows_steps(r roneo.replica, subject jsonb, state jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    weak   text[] := ARRAY(SELECT jsonb_array_elements_text(state -> 'weak'));
    keyed  boolean := roneo.has_key(subject);
    names  name[] := CASE WHEN keyed THEN roneo.key_names(subject) ELSE '{roneo_hash,roneo_lacks}' END;
BEGIN
    RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
    RETURN NEXT roneo.dest_step(1, 'make a table for keys and hashes', roneo.verify_table_statement(r, subject, 'there',
        CASE WHEN keyed THEN 'NULL::pg_catalog.int8 AS roneo_hash, NULL::pg_catalog.bool AS roneo_ready, NULL::pg_catalog.bool AS roneo_inside'
             ELSE 'NULL::pg_catalog.int8 AS roneo_hash, NULL::pg_catalog.int8 AS roneo_count' END));
    RETURN NEXT roneo.transfer_from(r, 'read keys and hashes where sums differ', roneo.hashes_there(subject, weak, state ->> 'bits'),
        roneo.key_wanted(subject), roneo.extra_column('roneo_hash', 'bigint') || CASE WHEN keyed
            THEN roneo.extra_column('roneo_ready', 'boolean') || roneo.extra_column('roneo_inside', 'boolean')
            ELSE roneo.extra_column('roneo_count', 'bigint') END,
        'pg_temp', roneo.verify_table(r, 'there'), false);
    RETURN NEXT roneo.dest_step(4, 'find what differs', roneo.differing_statement(r, subject, weak, state ->> 'bits'));
    RETURN NEXT roneo.asking_step('count it', roneo.found_query(r, subject, greatest((state #>> '{options,show}')::integer, 1)));
    IF (state #>> '{options,apply}')::boolean THEN
        RETURN NEXT roneo.asking_step('collect keys', roneo.chunks_query(r, names,
            CASE WHEN keyed THEN 'f.roneo_kind <> ''extra''' ELSE 'f.roneo_kind = ''missing''' END, roneo.most_repaired() + 1));
    END IF;
    RETURN NEXT roneo.moved_step(r);
END;
$$;
COMMENT ON FUNCTION roneo.rows_steps(roneo.replica, jsonb, jsonb) IS
    'Steps that find, in the buckets whose sums differ, the keys that do: only keys and hashes are moved, into a temporary table here.';

CREATE OR REPLACE FUNCTION roneo.shown_chunk(subject jsonb, state jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT jsonb_agg(k.list ORDER BY k.nr)
    FROM (SELECT n.nr, array_agg(s.one -> 'key' ->> n.name ORDER BY s.nr)::text AS list
          FROM unnest(roneo.key_names(subject)) WITH ORDINALITY AS n (name, nr)
          CROSS JOIN jsonb_array_elements(state -> 'shown') WITH ORDINALITY AS s (one, nr)
          WHERE s.one ->> 'kind' = 'changed'
          GROUP BY n.nr) AS k
);
COMMENT ON FUNCTION roneo.shown_chunk(jsonb, jsonb) IS 'The keys of rows whose columns are to be named, as an array of each column of the key.';

CREATE OR REPLACE FUNCTION roneo.columns_steps(r roneo.replica, subject jsonb, state jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    weak   text[] := ARRAY(SELECT jsonb_array_elements_text(state -> 'weak'));
    shows  boolean := (state #>> '{options,values}')::boolean;
BEGIN
    RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
    RETURN NEXT roneo.dest_step(1, 'make a table for columns', roneo.verify_table_statement(r, subject, 'shown', 'NULL::pg_catalog.text[] AS roneo_images'));
    RETURN NEXT roneo.transfer_from(r, 'read the columns of rows that differ', roneo.images_there(subject, weak, roneo.shown_chunk(subject, state), shows),
        roneo.key_wanted(subject), roneo.extra_column('roneo_images', 'text[]'), 'pg_temp', roneo.verify_table(r, 'shown'), false);
    RETURN NEXT roneo.asking_step('see which columns differ', roneo.changed_columns_query(r, subject, weak, shows));
END;
$$;
COMMENT ON FUNCTION roneo.columns_steps(roneo.replica, jsonb, jsonb) IS 'Steps that tell in which columns rows differ.';

-- A copy that was not made because the source had counted nothing new: its sessions hand their counters
-- over within ten seconds.
CREATE OR REPLACE FUNCTION roneo.settle_step(r roneo.replica, seconds numeric)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN ROW(2, 'check', 'wait for what the source has counted', format(
    'DO ''BEGIN PERFORM pg_catalog.pg_sleep(%s); PERFORM pg_catalog.pg_stat_clear_snapshot(); END''; SELECT pg_catalog.jsonb_build_object(''state'', %s)',
    seconds, roneo.state_of(roneo.source_regclass(r))), NULL, NULL, NULL, NULL, NULL, NULL, false)::roneo.step;
COMMENT ON FUNCTION roneo.settle_step(roneo.replica, numeric) IS 'A step on the source that asks again, after a while, whether the table has changed.';

CREATE OR REPLACE FUNCTION roneo.verify_steps(r roneo.replica, answer jsonb, state jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    subject jsonb := state -> 'subject';
    weak    text[] := ARRAY(SELECT jsonb_array_elements_text(state -> 'weak'));
BEGIN
    CASE state ->> 'phase'
        WHEN 'hands' THEN
            RETURN NEXT roneo.compare_step('see that both sides hash alike', roneo.handshake_query(), roneo.handshake_query());
        WHEN 'total' THEN
            RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
            RETURN NEXT roneo.compare_step('add up hashes on both sides', roneo.total_query(subject, 'there', weak), roneo.total_query(subject, 'here', weak));
            RETURN NEXT roneo.moved_step(r);
        WHEN 'sums' THEN
            RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
            RETURN NEXT roneo.compare_step('see where hashes differ', roneo.sums_query(subject, 'there', weak), roneo.sums_query(subject, 'here', weak));
            RETURN NEXT roneo.moved_step(r);
        WHEN 'rows' THEN
            RETURN QUERY SELECT * FROM roneo.raw_bytes_step(answer);
            RETURN QUERY SELECT * FROM roneo.rows_steps(r, subject, state);
        WHEN 'settle' THEN
            RETURN NEXT roneo.settle_step(r, (state #>> '{options,settle}')::numeric);
        WHEN 'columns' THEN
            RETURN QUERY SELECT * FROM roneo.columns_steps(r, subject, state);
        WHEN 'repair' THEN
            RETURN QUERY SELECT * FROM roneo.repair_steps(r, subject, state, answer);
        WHEN 'done' THEN
            RETURN;
    END CASE;
END;
$$;
COMMENT ON FUNCTION roneo.verify_steps(roneo.replica, jsonb, jsonb) IS 'The steps of the phase that a verification is in; none when it is done.';

CREATE OR REPLACE FUNCTION roneo.replica_of(answer jsonb)
RETURNS roneo.replica LANGUAGE sql STABLE
RETURN (SELECT r FROM roneo.replica AS r WHERE r.replica_id = (answer ->> 'replica_id')::integer);
COMMENT ON FUNCTION roneo.replica_of(jsonb) IS 'The replica that an answer is about.';

CREATE OR REPLACE FUNCTION roneo.verify_plan(answer jsonb, state jsonb)
RETURNS TABLE (
    replica_id integer, number integer, stage integer, kind text, purpose text, statement text,
    into_table text, into_list text, into_types text, copy_out text, copy_in text,
    counts text, patient boolean, here text
)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT r.replica_id, s.ordinality::integer, s.stage::integer, s.kind, s.purpose, s.statement, s.into_table, s.into_list,
           CASE WHEN s.kind <> 'compare' THEN s.into_types END,
           CASE WHEN s.kind = 'transfer' THEN roneo.copy_out(t.step, o.source_encoding) END,
           CASE WHEN s.kind = 'transfer' THEN roneo.copy_in(t.step, o.source_encoding) END,
           s.counts, coalesce(s.patient, false), CASE WHEN s.kind = 'compare' THEN s.into_types END
    FROM roneo.replica AS r
    JOIN roneo.source AS o ON o.source_id = r.source_id
    CROSS JOIN LATERAL roneo.verify_steps(r, answer, state) WITH ORDINALITY AS s
    CROSS JOIN LATERAL (SELECT ROW(s.stage, s.kind, s.purpose, s.statement, s.into_table, s.into_list,
                                   s.into_types, s.copy_format, s.copy_freeze, s.counts, s.patient)::roneo.step) AS t (step)
    WHERE r.replica_id = (answer ->> 'replica_id')::integer
    ORDER BY 2;
END;
COMMENT ON FUNCTION roneo.verify_plan(jsonb, jsonb) IS
    'What a verification does next: steps as of plan_refresh, to be run as the destination''s owner, and steps of kind compare, which are statement on the source and here on the destination, at the same time. None: it is done.';

CREATE OR REPLACE FUNCTION roneo.most_repaired()
RETURNS integer LANGUAGE sql IMMUTABLE
RETURN 100000;
COMMENT ON FUNCTION roneo.most_repaired() IS 'How many rows a repair reads by their keys; beyond, a copy of the whole is the better repair.';

CREATE OR REPLACE FUNCTION roneo.verify_start(answer jsonb, options jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    subject jsonb := roneo.verify_subject(roneo.replica_of(answer), answer, options);
BEGIN
    RETURN jsonb_build_object('subject', subject, 'options', '{"show": 100, "values": false, "repair": false, "apply": false, "most_deleted": 10, "settle": 11}'::jsonb || jsonb_strip_nulls(options)) || CASE
        WHEN subject ->> 'trouble' IS NOT NULL THEN jsonb_build_object('phase', 'done', 'verdict', 'undecided', 'why', subject -> 'trouble')
        ELSE '{"phase": "hands"}' END;
END;
$$;
COMMENT ON FUNCTION roneo.verify_start(jsonb, jsonb) IS
    'The state that a verification begins with. options: from, to (a half-open range of control values or keys), skipped and state (that the copy was not made because the source was in this state), show (how many differences are named), values (with their values), repair, apply, deletes (whether rows that the source has no more are a difference), most_deleted (percent that a repair may remove), settle (seconds until the source''s counters are believed).';

CREATE OR REPLACE FUNCTION roneo.reported(reports jsonb, kind text, nr integer DEFAULT 0)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT r.report -> 'answer'
    FROM jsonb_array_elements(reports) WITH ORDINALITY AS r (report, place)
    WHERE r.report ->> 'kind' = reported.kind AND nullif(r.report -> 'answer', 'null') IS NOT NULL
    ORDER BY r.place
    OFFSET nr LIMIT 1
);
COMMENT ON FUNCTION roneo.reported(jsonb, text, integer) IS 'The answer of the first step of a kind that has one, or of a later one.';

CREATE OR REPLACE FUNCTION roneo.judge_sums(state jsonb, reports jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sums    jsonb := roneo.reported(reports, 'compare');
    buckets integer[] := roneo.differing_buckets(sums -> 'there', sums -> 'here');
BEGIN
    RETURN state || jsonb_build_object('rows_there', sums #> '{there,rows}', 'rows_here', sums #> '{here,rows}') || CASE
        WHEN buckets = '{}' THEN '{"phase": "done", "verdict": "equal"}'
        ELSE jsonb_build_object('phase', 'rows', 'bits', roneo.bucket_bits(buckets)) END;
END;
$$;
COMMENT ON FUNCTION roneo.judge_sums(jsonb, jsonb) IS 'Equal, or where to look.';

CREATE OR REPLACE FUNCTION roneo.refusal(state jsonb, found jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN NOT (state #>> '{options,repair}')::boolean THEN NULL
    WHEN (found ->> 'deletable')::boolean
         AND (found ->> 'extra')::numeric * 100 > (state ->> 'rows_here')::numeric * (state #>> '{options,most_deleted}')::numeric
        THEN format('a repair would remove %s of %s rows, more than %s percent', found ->> 'extra', state ->> 'rows_here', state #>> '{options,most_deleted}')
    WHEN (found ->> 'missing')::bigint + (found ->> 'changed')::bigint > roneo.most_repaired()
        THEN format('%s rows are more than a repair reads one by one; copy the table again', (found ->> 'missing')::bigint + (found ->> 'changed')::bigint)
END;
COMMENT ON FUNCTION roneo.refusal(jsonb, jsonb) IS 'Why a repair is not made; NULL where it may be.';

CREATE OR REPLACE FUNCTION roneo.judge_rows(subject jsonb, state jsonb, reports jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deletes boolean := roneo.repairs_deletes(subject, state -> 'options');
    found   jsonb := roneo.reported(reports, 'dest') || jsonb_build_object('deletable', deletes);
    refused text := roneo.refusal(state, found);
    wrong   bigint := (found ->> 'missing')::bigint + (found ->> 'changed')::bigint + CASE WHEN deletes THEN (found ->> 'extra')::bigint ELSE 0 END;
BEGIN
    IF wrong > 0 AND (subject ->> 'counted')::boolean AND (state #>> '{options,skipped}')::boolean AND NOT state ? 'settled' AND state #>> '{options,state}' IS NOT NULL THEN
        RETURN state || '{"phase": "settle"}';
    END IF;
    state := state - 'bits' || jsonb_build_object('missing', found -> 'missing', 'extra', found -> 'extra', 'changed', found -> 'changed',
        'shown', CASE WHEN (state #>> '{options,show}')::integer > 0 THEN coalesce(nullif(found -> 'shown', 'null'), '[]') ELSE '[]' END,
        'chunks', coalesce(roneo.reported(reports, 'dest', 1), '[]'),
        'verdict', CASE WHEN wrong > 0 THEN 'differs' ELSE 'equal' END,
        'refused', refused IS NOT NULL,
        'why', CASE WHEN refused IS NOT NULL THEN refused
                    WHEN NOT deletes AND (found ->> 'extra')::bigint > 0 THEN format('%s rows are gone from the source and kept here', found ->> 'extra') END);
    RETURN state || jsonb_build_object('phase', CASE
        WHEN wrong = 0 THEN 'done'
        WHEN roneo.has_key(subject) AND state -> 'shown' @> '[{"kind": "changed"}]' THEN 'columns'
        WHEN (state #>> '{options,apply}')::boolean AND refused IS NULL THEN 'repair'
        ELSE 'done' END);
END;
$$;
COMMENT ON FUNCTION roneo.judge_rows(jsonb, jsonb, jsonb) IS 'The verdict, by the differences that were found, and what is to follow.';

CREATE OR REPLACE FUNCTION roneo.judge_shown(state jsonb, reports jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN state || jsonb_build_object(
    'phase', CASE WHEN (state #>> '{options,apply}')::boolean AND NOT (state ->> 'refused')::boolean THEN 'repair' ELSE 'done' END,
    'shown', (SELECT jsonb_agg(s.one || coalesce(d.one - 'key', '{}') ORDER BY s.nr)
              FROM jsonb_array_elements(state -> 'shown') WITH ORDINALITY AS s (one, nr)
              LEFT JOIN jsonb_array_elements(roneo.reported(reports, 'dest')) AS d (one) ON d.one -> 'key' = s.one -> 'key' AND s.one ->> 'kind' = 'changed'));
COMMENT ON FUNCTION roneo.judge_shown(jsonb, jsonb) IS 'The differences, with the columns that differ.';

CREATE OR REPLACE FUNCTION roneo.report_count(reports jsonb, what text)
RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN (SELECT coalesce(sum((r.report ->> 'rows')::bigint), 0) FROM jsonb_array_elements(reports) AS r (report)
        WHERE r.report ->> 'kind' = 'dest' AND r.report ->> 'counts' = what);
COMMENT ON FUNCTION roneo.report_count(jsonb, text) IS 'How many rows steps touched that count as something.';

CREATE OR REPLACE FUNCTION roneo.judge_repair(subject jsonb, state jsonb, reports jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted jsonb := jsonb_build_object('deleted', CASE WHEN roneo.repairs_deletes(subject, state -> 'options') THEN (state ->> 'extra')::bigint ELSE 0 END);
    done   jsonb := jsonb_build_object('deleted', roneo.report_count(reports, 'deleted'),
                                       'inserted', roneo.report_count(reports, 'inserted'), 'updated', roneo.report_count(reports, 'updated'));
BEGIN
    IF NOT done @> wanted OR NOT roneo.has_key(subject) AND done -> 'inserted' <> state -> 'missing' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO014',
            MESSAGE = format('the repair of %s is not accepted: %s rows were to be removed and %s were', subject ->> 'target', wanted ->> 'deleted', done ->> 'deleted'),
            HINT    = 'Look for a trigger or a rule on the destination that prevents it.';
    END IF;
    RETURN state - 'chunks' || done || jsonb_build_object('phase', 'done', 'verdict', 'repaired', 'steps',
        (SELECT jsonb_agg(r.report - 'answer' ORDER BY r.nr) FROM jsonb_array_elements(reports) WITH ORDINALITY AS r (report, nr)));
END;
$$;
COMMENT ON FUNCTION roneo.judge_repair(jsonb, jsonb, jsonb) IS 'What a repair has done; raises RO014 where rows did not go.';

CREATE OR REPLACE FUNCTION roneo.verify_judge(answer jsonb, state jsonb, reports jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r       roneo.replica := roneo.replica_of(answer);
    subject jsonb := state -> 'subject';
    told    jsonb;
BEGIN
    PERFORM roneo.require_unmoved(r, jsonb_build_object('steps', reports));
    PERFORM roneo.require_complete(r, jsonb_build_object('planned', jsonb_array_length(reports), 'steps', reports));
    CASE state ->> 'phase'
        WHEN 'hands' THEN
            told := roneo.reported(reports, 'compare');
            -- Who repairs expects differences.
            RETURN state || jsonb_build_object('phase', CASE WHEN (state #>> '{options,repair}')::boolean THEN 'sums' ELSE 'total' END, 'weak', to_jsonb(roneo.weak_kinds(told -> 'there', told -> 'here')));
        WHEN 'total' THEN
            told := roneo.reported(reports, 'compare');
            RETURN state || CASE WHEN told -> 'there' = told -> 'here'
                THEN jsonb_build_object('phase', 'done', 'verdict', 'equal', 'rows_there', told #> '{there,rows}', 'rows_here', told #> '{here,rows}')
                ELSE '{"phase": "sums"}' END;
        WHEN 'sums' THEN
            RETURN roneo.judge_sums(state, reports);
        WHEN 'rows' THEN
            RETURN roneo.judge_rows(subject, state, reports);
        WHEN 'settle' THEN
            -- It has changed after all; what was found says nothing, and a copy is made first.
            RETURN state || CASE WHEN roneo.reported(reports, 'check') ->> 'state' IS DISTINCT FROM state #>> '{options,state}'
                                 THEN '{"phase": "done", "verdict": "undecided", "again": true, "why": "the source was changing"}'::jsonb
                                 ELSE '{"phase": "rows", "settled": true}' END;
        WHEN 'columns' THEN
            RETURN roneo.judge_shown(state, reports);
        WHEN 'repair' THEN
            RETURN roneo.judge_repair(subject, state, reports);
    END CASE;
END;
$$;
COMMENT ON FUNCTION roneo.verify_judge(jsonb, jsonb, jsonb) IS
    'The next state of a verification, from the reports of its steps as of finish_refresh. Raises RO013 where the source was rewritten meanwhile, RO014 where rows were lost on the way.';

CREATE OR REPLACE FUNCTION roneo.verify_options(dest regclass, options jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (options ->> 'show')::integer NOT BETWEEN 0 AND 10000 THEN
        PERFORM roneo.bad_argument(format('%s differences cannot be shown', options ->> 'show'), 'Give a number from 0 to 10000.');
    ELSIF (options ->> 'most_deleted')::numeric NOT BETWEEN 0 AND 100 THEN
        PERFORM roneo.bad_argument(format('most_deleted is %s percent', options ->> 'most_deleted'), 'Give a percentage from 0 to 100.');
    END IF;
    RETURN jsonb_strip_nulls(jsonb_build_object('deletes', (
        SELECT v.deletes FROM roneo.verification AS v JOIN roneo.replica AS r USING (replica_id) WHERE r.dest = verify_options.dest)))
        || jsonb_strip_nulls(options);
END;
$$;
COMMENT ON FUNCTION roneo.verify_options(regclass, jsonb) IS
    'Options of a verification, with what set_verification has said of the replica; raises RO007 for values that make no sense.';
-- What is kept of a verification, and the run that a repair is.

CREATE OR REPLACE FUNCTION roneo.record_repair(r roneo.replica, answer jsonb, state jsonb, facts jsonb)
RETURNS bigint LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO roneo.run (replica_id, dest, method, hand, kind, outcome, started_at, ended_at, seconds,
                           inserted, updated, deleted, message, steps, runner)
    VALUES (r.replica_id, format('%I.%I', r.dest_schema, r.dest_name), r.method, answer ->> 'hand', 'repair', 'ok',
            coalesce((facts ->> 'started_at')::timestamptz, clock_timestamp()), clock_timestamp(), round((facts ->> 'seconds')::numeric, 3),
            (state ->> 'inserted')::bigint, (state ->> 'updated')::bigint, (state ->> 'deleted')::bigint,
            format('%s rows differed', (state ->> 'missing')::bigint + (state ->> 'extra')::bigint + (state ->> 'changed')::bigint),
            state -> 'steps', facts ->> 'runner')
    RETURNING run_id;
END;
COMMENT ON FUNCTION roneo.record_repair(roneo.replica, jsonb, jsonb, jsonb) IS 'Writes a repair into the history.';

CREATE OR REPLACE FUNCTION roneo.record_slice(id integer, slice integer, state jsonb)
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    UPDATE roneo.verification_slice AS s SET
        checked_at = clock_timestamp(), verdict = state ->> 'verdict',
        rows_there = (state ->> 'rows_there')::bigint, rows_here = (state ->> 'rows_here')::bigint,
        missing = (state ->> 'missing')::bigint, extra = (state ->> 'extra')::bigint, changed = (state ->> 'changed')::bigint
    WHERE s.replica_id = id AND s.slice = record_slice.slice;
END;
COMMENT ON FUNCTION roneo.record_slice(integer, integer, jsonb) IS 'Keeps what was found in one slice.';

-- Of the whole, or of all slices together. A slice that could not be compared leaves the time of the
-- last one that could.
CREATE OR REPLACE FUNCTION roneo.record_verdict(id integer, state jsonb)
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO roneo.verification AS v (replica_id, checked_at, verdict, why, rows_there, rows_here, missing, extra, changed,
                                         verified_at, repaired_at, repaired, differed_at, failed_run_id)
    VALUES (id, clock_timestamp(), state ->> 'verdict', state ->> 'why', (state ->> 'rows_there')::bigint, (state ->> 'rows_here')::bigint,
            coalesce((state ->> 'missing')::bigint, 0), coalesce((state ->> 'extra')::bigint, 0), coalesce((state ->> 'changed')::bigint, 0),
            CASE WHEN state ->> 'verdict' IN ('equal', 'repaired') AND (state ->> 'whole')::boolean THEN (state ->> 'since')::timestamptz END,
            CASE WHEN state ->> 'verdict' = 'repaired' THEN clock_timestamp() END,
            coalesce((state ->> 'inserted')::bigint + (state ->> 'updated')::bigint + (state ->> 'deleted')::bigint, 0),
            CASE WHEN state ->> 'verdict' = 'differs' THEN clock_timestamp() END, (state ->> 'failed_run')::bigint)
    ON CONFLICT (replica_id) DO UPDATE SET
        checked_at = excluded.checked_at, verdict = excluded.verdict, rows_there = excluded.rows_there, rows_here = excluded.rows_here,
        why = CASE WHEN (state ->> 'failing')::boolean THEN coalesce(excluded.why, v.why) ELSE excluded.why END,
        missing = CASE WHEN excluded.verdict = 'undecided' AND v.differed_at IS NOT NULL THEN v.missing ELSE excluded.missing END,
        extra   = CASE WHEN excluded.verdict = 'undecided' AND v.differed_at IS NOT NULL THEN v.extra ELSE excluded.extra END,
        changed = CASE WHEN excluded.verdict = 'undecided' AND v.differed_at IS NOT NULL THEN v.changed ELSE excluded.changed END,
        differed_at = CASE WHEN excluded.verdict = 'undecided' THEN v.differed_at ELSE excluded.differed_at END,
        failed_run_id = CASE WHEN (state ->> 'failing')::boolean THEN coalesce(excluded.failed_run_id, v.failed_run_id) END,
        verified_at = coalesce(excluded.verified_at, v.verified_at), repaired_at = coalesce(excluded.repaired_at, v.repaired_at),
        repaired = v.repaired + excluded.repaired;
END;
COMMENT ON FUNCTION roneo.record_verdict(integer, jsonb) IS 'Keeps what the last verification found of a replica. whole and since: whether all of it was looked at, and when first. failing: whether some of it could not be looked at, last by failed_run.';

CREATE OR REPLACE FUNCTION roneo.slices_together(id integer, state jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT state || jsonb_build_object(
        'failing', bool_or(s.verdict = 'undecided' AND s.checked_at IS NOT NULL),
        'whole', bool_and(s.verdict IN ('equal', 'repaired') AND s.checked_at IS NOT NULL), 'since', min(s.checked_at),
        'verdict', CASE WHEN bool_or(s.verdict = 'differs') THEN 'differs'
                        WHEN bool_or(s.verdict = 'undecided' OR s.checked_at IS NULL) THEN 'undecided' ELSE state ->> 'verdict' END,
        'why', CASE WHEN bool_or(s.checked_at IS NULL) THEN format('%s of %s slices have been compared', count(s.checked_at), count(*)) ELSE state ->> 'why' END,
        'rows_there', sum(s.rows_there), 'rows_here', sum(s.rows_here),
        'missing', coalesce(sum(s.missing) FILTER (WHERE s.verdict <> 'repaired'), 0), 'extra', coalesce(sum(s.extra) FILTER (WHERE s.verdict <> 'repaired'), 0),
        'changed', coalesce(sum(s.changed) FILTER (WHERE s.verdict <> 'repaired'), 0))
    FROM roneo.verification_slice AS s WHERE s.replica_id = id
);
COMMENT ON FUNCTION roneo.slices_together(integer, jsonb) IS 'What is known of a replica by its slices, after one of them was compared.';

CREATE OR REPLACE FUNCTION roneo.verify_finish(answer jsonb, state jsonb, facts jsonb)
RETURNS TABLE (
    dest text, verdict text, why text, rows_there bigint, rows_here bigint, missing bigint, extra bigint, changed bigint,
    inserted bigint, updated bigint, deleted bigint, run_id bigint, differences jsonb, retry boolean,
    not_compared text, copied_anew boolean
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    r     roneo.replica := roneo.replica_of(answer);
    slice integer := (state #>> '{options,slice}')::integer;
    made  bigint;
    above text    := CASE WHEN state ->> 'verdict' <> 'undecided' THEN state #>> '{subject,not_compared}' END;
    anew  boolean := state ->> 'verdict' <> 'undecided' AND coalesce((state #>> '{subject,counted}')::boolean, false)
                     AND NOT coalesce((state #>> '{options,skipped}')::boolean, false);
BEGIN
    IF state ->> 'verdict' = 'repaired' THEN
        made := roneo.record_repair(r, answer, state, facts);
    END IF;
    state := state || jsonb_build_object('noted', nullif(concat_ws('; ', state ->> 'why', above,
        CASE WHEN anew THEN 'copied anew first: only that copy was compared' END), ''));
    IF slice IS NOT NULL THEN
        PERFORM roneo.record_slice(r.replica_id, slice, state);
        PERFORM roneo.record_verdict(r.replica_id, roneo.slices_together(r.replica_id, state || jsonb_build_object('why', state -> 'noted')));
    ELSIF coalesce(state #>> '{options,from}', state #>> '{options,to}') IS NULL AND NOT coalesce((state ->> 'again')::boolean, false) THEN
        PERFORM roneo.record_verdict(r.replica_id, state || jsonb_build_object('whole', true, 'since', clock_timestamp(), 'why', state -> 'noted'));
    END IF;
    RETURN QUERY SELECT format('%I.%I', r.dest_schema, r.dest_name), state ->> 'verdict', state ->> 'why',
        (state ->> 'rows_there')::bigint, (state ->> 'rows_here')::bigint,
        coalesce((state ->> 'missing')::bigint, e.none), coalesce((state ->> 'extra')::bigint, e.none), coalesce((state ->> 'changed')::bigint, e.none),
        (state ->> 'inserted')::bigint, (state ->> 'updated')::bigint, (state ->> 'deleted')::bigint,
        made, coalesce(state -> 'shown', '[]'), coalesce((state ->> 'again')::boolean, false), above, anew
        FROM (SELECT CASE state ->> 'verdict' WHEN 'equal' THEN 0 END::bigint AS none) AS e;
END;
$$;
COMMENT ON FUNCTION roneo.verify_finish(jsonb, jsonb, jsonb) IS
    'Keeps the verdict of a verification that is done, and returns it. facts: started_at, seconds, runner. retry: the source was changing, and the whole is to be done again with the option force. not_compared: which rows are not to be here yet; NULL: there can be none. copied_anew: the refresh copied all of it, and so only that copy was compared.';

-- The slices of a replica whose source is away fail alike, and are told in one row.
CREATE OR REPLACE FUNCTION roneo.same_failure(id integer, sqlstate_code text, message text, facts jsonb)
RETURNS bigint LANGUAGE sql STABLE
RETURN (
    SELECT u.run_id
    FROM (SELECT v.* FROM roneo.run AS v WHERE v.replica_id = id ORDER BY v.started_at DESC, v.run_id DESC LIMIT 1) AS u
    WHERE u.kind = 'verify' AND u.sqlstate = sqlstate_code AND u.message = concat_ws(': ', facts ->> 'step', same_failure.message)
      AND u.hand = coalesce(facts ->> 'hand', 'sql') AND u.runner IS NOT DISTINCT FROM facts ->> 'runner'
      AND u.started_at > clock_timestamp() - interval '1 day');
COMMENT ON FUNCTION roneo.same_failure(integer, text, text, jsonb) IS
    'The run that already tells of such a failed verification; NULL: the last run of the replica tells something else.';

-- Whatever of it failed, its refresh too: that one was not due, and when it is it will meet the same
-- error, and count it. So a verification moves no schedule, and nothing into quarantine.
CREATE OR REPLACE FUNCTION roneo.record_failed_verification(
    dest regclass, options jsonb, sqlstate_code text, message text, detail text, hint text, facts jsonb)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r     roneo.replica;
    ended bigint := (facts ->> 'run_id')::bigint;
    slice integer := (options ->> 'slice')::integer;
    state jsonb;
BEGIN
    -- Only the answer to the COMMIT was lost: what it committed says how it ended.
    IF EXISTS (SELECT FROM roneo.run AS u WHERE u.run_id = ended AND u.outcome IN ('ok', 'unchanged')) THEN
        RETURN (SELECT u.outcome FROM roneo.run AS u WHERE u.run_id = ended);
    END IF;
    SELECT k.* INTO STRICT r FROM roneo.replica AS k WHERE k.dest = record_failed_verification.dest;
    PERFORM roneo.note_pause(r.source_id, sqlstate_code, record_failed_verification.message);
    ended := roneo.end_failed_run(r, 'verify', coalesce(ended, roneo.same_failure(r.replica_id, sqlstate_code, record_failed_verification.message, facts)),
        sqlstate_code, record_failed_verification.message, detail, hint, facts);
    -- Who cancels a verification, or comes while others hold the lock, need not be told of it by an alarm.
    state := jsonb_build_object('verdict', 'undecided', 'why', record_failed_verification.message, 'failing', true,
        'failed_run', CASE WHEN roneo.failure_outcome(sqlstate_code) = 'failed' AND NOT coalesce((facts ->> 'cancelled')::boolean, false) THEN ended END);
    IF slice IS NOT NULL THEN
        PERFORM roneo.record_slice(r.replica_id, slice, state);
        PERFORM roneo.record_verdict(r.replica_id, roneo.slices_together(r.replica_id, state));
    ELSIF options IS NOT NULL AND coalesce(options ->> 'from', options ->> 'to') IS NULL THEN
        PERFORM roneo.record_verdict(r.replica_id, state);
    END IF;
    PERFORM roneo.forget_old_runs(r.replica_id);
    RETURN roneo.failure_outcome(sqlstate_code);
END;
$$;
COMMENT ON FUNCTION roneo.record_failed_verification(regclass, jsonb, text, text, text, text, jsonb) IS
    'Records a verification that was rolled back, with the refresh it began with, in a transaction of its own: as a run of kind verify, which counts as no refresh, and that there is no verdict. options: as of verify_start; NULL: of another one of its refresh group. Returns failed, or deferred, as record_failure does.';

CREATE OR REPLACE FUNCTION roneo.set_verification(dest regclass, verify_every interval, deletes boolean DEFAULT NULL)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id integer;
BEGIN
    SELECT r.replica_id INTO id FROM roneo.replica AS r WHERE r.dest = set_verification.dest;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO001',
            MESSAGE = format('%s is not a replica', dest),
            HINT    = 'SELECT dest FROM roneo.replica lists those that are.';
    ELSIF verify_every <= interval '0' THEN
        PERFORM roneo.bad_argument(format('verify_every is %s', verify_every), 'Give an interval such as ''1 week''; NULL: only when told to.');
    END IF;
    INSERT INTO roneo.verification (replica_id, verify_every, deletes) VALUES (id, set_verification.verify_every, set_verification.deletes)
    ON CONFLICT (replica_id) DO UPDATE SET verify_every = excluded.verify_every, deletes = excluded.deletes;
    -- They are made anew, by the size of the table as it is then.
    DELETE FROM roneo.verification_slice AS s WHERE s.replica_id = id;
END;
$$;
COMMENT ON FUNCTION roneo.set_verification(regclass, interval, boolean) IS
    'How often a replica is to be compared with its source by verify_due; NULL: only when told to. deletes: whether rows that the source has no more are a difference and removed by a repair; NULL: for all methods but inserter.';
-- Verifications and repairs by the SQL hand, over dblink. The runner does the same over COPY.

-- Both sides work at the same time.
CREATE OR REPLACE FUNCTION roneo.compare_over_link(link text, there text, here text, owner name)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    theirs jsonb;
    ours   jsonb;
BEGIN
    EXECUTE format('SELECT %s($1, $2)', roneo.dblink_function('dblink_send_query')) USING link, there;
    ours := roneo.ask_as(owner, here);
    EXECUTE format('SELECT answer::jsonb FROM %s($1) AS t (answer text)', roneo.dblink_function('dblink_get_result')) INTO STRICT theirs USING link;
    -- Only an empty result sets the connection free.
    EXECUTE format('SELECT answer FROM %s($1) AS t (answer text)', roneo.dblink_function('dblink_get_result')) USING link;
    RETURN jsonb_build_object('answer', jsonb_build_object('there', theirs, 'here', ours));
END;
$$;
COMMENT ON FUNCTION roneo.compare_over_link(text, text, text, name) IS 'Runs a query on the source and one here, and returns both answers.';

CREATE OR REPLACE FUNCTION roneo.phase_over_link(answer jsonb, state jsonb, link text, owner name)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    planned record;
    report  jsonb;
    reports jsonb := '[]';
BEGIN
    FOR planned IN
        SELECT p.*, ROW(p.stage, p.kind, p.purpose, p.statement, p.into_table, p.into_list, p.into_types, NULL, NULL, p.counts, p.patient)::roneo.step AS step
        FROM roneo.verify_plan(answer, state) AS p ORDER BY p.number
    LOOP
        report := CASE planned.kind WHEN 'compare' THEN roneo.compare_over_link(link, planned.statement, planned.here, owner)
                                    ELSE roneo.run_step(planned.kind, planned.step, link, owner) END;
        reports := reports || ('{"outcome": "done"}'::jsonb || report || jsonb_build_object(
            'number', planned.number, 'kind', planned.kind, 'purpose', planned.purpose, 'counts', planned.counts));
    END LOOP;
    RETURN reports;
END;
$$;
COMMENT ON FUNCTION roneo.phase_over_link(jsonb, jsonb, text, name) IS 'Executes what verify_plan says is next; returns the report of each step.';

CREATE OR REPLACE FUNCTION roneo.verify_over_link(dest regclass, options jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    brought record;
    state   jsonb;
BEGIN
    -- With this option the snapshot of the source stays open.
    SELECT b.* INTO STRICT brought FROM roneo.bring_over_link(dest, options || '{"verify": true}') AS b;
    IF brought.again OR brought.outcome = 'deferred' THEN
        PERFORM roneo.end_over_link(brought.link);
        RETURN jsonb_build_object('again', brought.again, 'verdict', 'undecided', 'why', coalesce(brought.message, 'there is more to read first'));
    END IF;
    state := roneo.verify_start(brought.answer,
        options || jsonb_build_object('skipped', brought.outcome = 'unchanged', 'state', brought.answer #> '{before,state}'));
    WHILE state ->> 'phase' <> 'done' LOOP
        state := roneo.verify_judge(brought.answer, state,
            roneo.phase_over_link(brought.answer, state, brought.link, brought.dest_owner));
    END LOOP;
    PERFORM roneo.run_as(brought.dest_owner, 'SET CONSTRAINTS ALL IMMEDIATE');
    PERFORM roneo.tell_link(brought.link, 'ROLLBACK');
    PERFORM roneo.end_over_link(brought.link);
    RETURN (SELECT to_jsonb(f) FROM roneo.verify_finish(brought.answer, state, jsonb_build_object(
        'started_at', brought.began, 'seconds', extract(epoch FROM clock_timestamp() - brought.began))) AS f);
END;
$$;
COMMENT ON FUNCTION roneo.verify_over_link(regclass, jsonb) IS 'Refreshes a replica and compares it with its source in the same snapshot.';

CREATE OR REPLACE FUNCTION roneo.verify_or_stage(dest regclass, options jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN roneo.verify_over_link(dest, options);
EXCEPTION WHEN SQLSTATE 'RO027' THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link_of(dest);
    RETURN roneo.verify_over_link(dest, options || '{"staging": true}');
END;
$$;
COMMENT ON FUNCTION roneo.verify_or_stage(regclass, jsonb) IS
    'The same; anew, by way of staging, where the refresh met rows that were not expected.';

CREATE OR REPLACE FUNCTION roneo.verify_with(dest regclass, options jsonb)
RETURNS TABLE (
    verdict text, why text, rows_there bigint, rows_here bigint, missing bigint, extra bigint, changed bigint,
    inserted bigint, updated bigint, deleted bigint, run_id bigint, differences jsonb, not_compared text, copied_anew boolean
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, YMD'
SET IntervalStyle = 'postgres'
SET extra_float_digits = 3
SET bytea_output = 'hex'
SET xmloption = 'content'
SET lc_monetary = 'C'
SET standard_conforming_strings = 'on'
SET row_security = off
SET jit = off
SET statement_timeout = 0
SET lock_timeout = 0
SET idle_in_transaction_session_timeout = 0
SET client_min_messages = warning
AS $$
#variable_conflict use_column
DECLARE
    done    jsonb := '{"again": true}';
    began   timestamptz := clock_timestamp();
    code    text;
    message text;
    detail  text;
    hint    text;
    context text;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    options := roneo.verify_options(dest, options);
    BEGIN
        FOR attempt IN 1 .. 1000 LOOP
            done := roneo.verify_or_stage(dest, options);
            EXIT WHEN NOT coalesce((done ->> 'again')::boolean OR (done ->> 'retry')::boolean, false);
            options := options || CASE WHEN (done ->> 'retry')::boolean THEN '{"force": true}'::jsonb ELSE '{}' END;
        END LOOP;
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        -- A dblink connection stays open after a rollback.
        PERFORM roneo.close_link_of(dest);
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
                                hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
        -- What was cancelled on the source is a failure like any other.
        IF code IN ('42601', 'RO007', 'RO010', 'RO014') OR code = '57014' AND context !~ 'on (unnamed )?dblink connection' THEN
            RAISE;
        END IF;
        SELECT p.* INTO code, message, detail, hint
        FROM roneo.name_limit(dest, began, code, message, detail, hint) AS p;
        done := jsonb_build_object('verdict', 'undecided', 'why', message);
        -- Who holds the lock records what comes of it.
        PERFORM roneo.record_failed_verification(dest, options, code, message, nullif(detail, ''), nullif(hint, ''),
            jsonb_build_object('hand', 'sql', 'seconds', extract(epoch FROM clock_timestamp() - began))) WHERE code <> 'RO002';
    END;
    RETURN QUERY SELECT done ->> 'verdict', done ->> 'why', (done ->> 'rows_there')::bigint, (done ->> 'rows_here')::bigint,
        (done ->> 'missing')::bigint, (done ->> 'extra')::bigint, (done ->> 'changed')::bigint,
        (done ->> 'inserted')::bigint, (done ->> 'updated')::bigint, (done ->> 'deleted')::bigint, (done ->> 'run_id')::bigint,
        coalesce(done -> 'differences', '[]'), done ->> 'not_compared', coalesce((done ->> 'copied_anew')::boolean, false);
END;
$$;
COMMENT ON FUNCTION roneo.verify_with(regclass, jsonb) IS 'What roneo.verify and roneo.repair do, with the options of verify_start.';

CREATE OR REPLACE FUNCTION roneo.verify(
    dest regclass, from_value text DEFAULT NULL, to_value text DEFAULT NULL, show integer DEFAULT 100, show_values boolean DEFAULT false,
    deletes boolean DEFAULT NULL)
RETURNS TABLE (
    verdict text, why text, rows_there bigint, rows_here bigint, missing bigint, extra bigint, changed bigint, differences jsonb,
    not_compared text, copied_anew boolean
)
LANGUAGE sql
BEGIN ATOMIC
    SELECT v.verdict, v.why, v.rows_there, v.rows_here, v.missing, v.extra, v.changed, v.differences, v.not_compared, v.copied_anew
    FROM roneo.verify_with(dest, jsonb_build_object('from', from_value, 'to', to_value, 'show', show, 'values', show_values, 'deletes', deletes)) AS v;
END;
COMMENT ON FUNCTION roneo.verify(regclass, text, text, integer, boolean, boolean) IS
    'Refreshes a replica, and compares all its rows with those of its source in the same snapshot, over dblink. from_value, to_value: only this half-open range of the control column, or of the first column of the key. show: how many differences are named, by key; show_values: with the values that differ. deletes: whether rows that the source has no more are a difference; NULL: as set_verification says, else for all methods but inserter. Returns one row: verdict (equal, differs, undecided), why it is undecided, numbers of rows there and here, missing here, extra here, and changed; not_compared: which rows are not to be here yet, where there can be any; copied_anew: its refresh copied the whole, and only that copy was compared.';

CREATE OR REPLACE FUNCTION roneo.repair(
    dest regclass, apply boolean DEFAULT false, from_value text DEFAULT NULL, to_value text DEFAULT NULL, deletes boolean DEFAULT NULL,
    most_deleted numeric DEFAULT 10, show integer DEFAULT 100, show_values boolean DEFAULT false)
RETURNS TABLE (
    verdict text, why text, missing bigint, extra bigint, changed bigint, inserted bigint, updated bigint, deleted bigint, run_id bigint, differences jsonb,
    not_compared text, copied_anew boolean
)
LANGUAGE sql
BEGIN ATOMIC
    SELECT v.verdict, v.why, v.missing, v.extra, v.changed, v.inserted, v.updated, v.deleted, v.run_id, v.differences, v.not_compared, v.copied_anew
    FROM roneo.verify_with(dest, jsonb_build_object('repair', true, 'apply', coalesce(apply, false), 'from', from_value, 'to', to_value, 'deletes', deletes,
        'most_deleted', most_deleted, 'show', show, 'values', show_values)) AS v;
END;
COMMENT ON FUNCTION roneo.repair(regclass, boolean, text, text, boolean, numeric, integer, boolean) IS
    'Does what roneo.verify does, and brings exactly the rows that differ in line, in the same transaction. apply => false, the default, only says what would be done. deletes: also removes rows that the source has no more; NULL: as set_verification says, else for all methods but inserter. most_deleted: it removes nothing at all where that would be more than this percentage of the rows. Returns one row: verdict repaired, equal, undecided, or differs, and why it was not repaired. A repair is a run in roneo.run, of kind repair.';
-- Verifications that come round: of large replicas in slices, the one that was looked at longest ago
-- first, so that a little time now and then is enough to know all of it.

-- The statistics of the table cut it into ranges with as many rows each, whatever the values are.
CREATE OR REPLACE FUNCTION roneo.slice_bounds(target regclass, range_column name, wanted integer)
RETURNS text[] LANGUAGE sql STABLE
RETURN (
    SELECT ARRAY(SELECT x.bound FROM (SELECT b.bounds[1 + (n * (cardinality(b.bounds) - 1)) / wanted] AS bound, n FROM generate_series(1, wanted - 1) AS n) AS x
                 GROUP BY x.bound ORDER BY min(x.n))
    FROM (SELECT s.histogram_bounds::text::text[] AS bounds
          FROM pg_stats AS s JOIN pg_class AS c ON c.relname = s.tablename JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = s.schemaname
          WHERE c.oid = target AND s.attname = range_column AND s.histogram_bounds IS NOT NULL
          ORDER BY s.inherited DESC LIMIT 1) AS b
    WHERE cardinality(b.bounds) > wanted
);
COMMENT ON FUNCTION roneo.slice_bounds(regclass, name, integer) IS
    'Values of a column that cut a table into about as many parts of one size; NULL where the statistics do not tell.';

CREATE OR REPLACE FUNCTION roneo.range_column_of(r roneo.replica)
RETURNS TABLE (target regclass, range_column name) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT t.target, coalesce(c.control, k.key_columns[1], (roneo.key_of_table(t.target, ARRAY(
               SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = t.target AND a.attnum > 0 AND NOT a.attisdropped)))[1])
    FROM (SELECT coalesce((SELECT to_regclass(format('%I.%I', m.table_schema, roneo.shown_table(m)))
                           FROM roneo.snapshot_replica AS m WHERE m.replica_id = r.replica_id), r.dest)::regclass AS target) AS t
    LEFT JOIN roneo.control_replica AS c ON c.replica_id = r.replica_id
    LEFT JOIN roneo.capture_replica AS k ON k.replica_id = r.replica_id;
END;
COMMENT ON FUNCTION roneo.range_column_of(roneo.replica) IS 'The table behind a replica, and the column that ranges of it are of.';

-- Only where both sides order values alike without being told to.
CREATE OR REPLACE FUNCTION roneo.make_slices(id integer)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r      roneo.replica;
    place  record;
    bounds text[];
BEGIN
    SELECT k.* INTO STRICT r FROM roneo.replica AS k WHERE k.replica_id = id;
    SELECT p.*, least(c.reltuples / 500000, 90)::integer AS wanted, roneo.hash_kind(format_type(roneo.base_type(a.atttypid), NULL)) AS kind INTO place
    FROM roneo.range_column_of(r) AS p
    JOIN pg_class AS c ON c.oid = p.target
    LEFT JOIN pg_attribute AS a ON a.attrelid = p.target AND a.attname = p.range_column;
    IF place.wanted > 1 AND place.kind IN ('int4', 'int8', 'date', 'timestamp', 'timestamptz', 'uuid') THEN
        bounds := roneo.slice_bounds(place.target, place.range_column, place.wanted);
    END IF;
    INSERT INTO roneo.verification_slice (replica_id, slice, from_value, to_value)
    SELECT id, n, bounds[n - 1], bounds[n] FROM generate_series(1, coalesce(cardinality(bounds), 0) + 1) AS n;
END;
$$;
COMMENT ON FUNCTION roneo.make_slices(integer) IS
    'Cuts a replica into slices of about half a million rows, up to ninety; one slice where its statistics or the type of its key do not allow it.';

CREATE OR REPLACE FUNCTION roneo.due_verifications()
RETURNS TABLE (dest regclass, dest_text text, options jsonb, checked_at timestamptz) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM roneo.make_slices(v.replica_id)
    FROM roneo.verification AS v
    WHERE v.verify_every IS NOT NULL AND NOT EXISTS (SELECT FROM roneo.verification_slice AS s WHERE s.replica_id = v.replica_id);
    RETURN QUERY
        SELECT r.dest, format('%I.%I', r.dest_schema, r.dest_name),
               jsonb_strip_nulls(jsonb_build_object('slice', s.slice, 'from', s.from_value, 'to', s.to_value)), s.checked_at
        FROM roneo.verification AS v
        JOIN roneo.verification_slice AS s ON s.replica_id = v.replica_id
        JOIN roneo.replica AS r ON r.replica_id = v.replica_id
        WHERE r.enabled AND (s.checked_at IS NULL OR s.checked_at + v.verify_every <= clock_timestamp())
        ORDER BY s.checked_at NULLS FIRST, s.replica_id, s.slice;
END;
$$;
COMMENT ON FUNCTION roneo.due_verifications() IS
    'The slices of replicas that are to be compared now, the one that was looked at longest ago first; cuts those that have none yet. options: for verify_start.';

CREATE OR REPLACE PROCEDURE roneo.verify_due(max_runtime interval DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    began timestamptz := pg_catalog.clock_timestamp();
    due   record;
    list  jsonb;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    list := (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('dest', d.dest::oid, 'options', d.options)) FROM roneo.due_verifications() AS d);
    COMMIT;
    FOR due IN SELECT (d ->> 'dest')::oid AS dest, d -> 'options' AS options FROM pg_catalog.jsonb_array_elements(list) AS d LOOP
        EXIT WHEN pg_catalog.clock_timestamp() > began + max_runtime;
        PERFORM pg_catalog.count(*) FROM roneo.verify_with(due.dest::regclass, due.options) AS v;
        COMMIT;
    END LOOP;
END;
$$;
COMMENT ON PROCEDURE roneo.verify_due(interval) IS
    'Compares what is due by set_verification, one slice a transaction, and begins nothing after max_runtime. A procedure that commits can fix no search_path in its definition; it pins it in its first statement.';

CREATE OR REPLACE VIEW roneo.verifications AS
SELECT format('%I.%I', r.dest_schema, r.dest_name) AS dest, r.method, v.verify_every, v.verdict, v.why, v.checked_at, v.verified_at,
       coalesce(v.missing, 0) + coalesce(v.extra, 0) + coalesce(v.changed, 0) AS differences, v.missing, v.extra, v.changed,
       v.repaired, v.repaired_at, s.slices, s.slices_due
FROM roneo.replica AS r
LEFT JOIN roneo.verification AS v ON v.replica_id = r.replica_id
LEFT JOIN LATERAL (
    SELECT count(*) AS slices, count(*) FILTER (WHERE c.checked_at IS NULL OR c.checked_at + v.verify_every <= clock_timestamp()) AS slices_due
    FROM roneo.verification_slice AS c WHERE c.replica_id = r.replica_id) AS s ON true;
COMMENT ON VIEW roneo.verifications IS
    'For each replica: what its last comparison found, when the whole of it was last known to be equal, and how many rows were repaired.';
-- What a source's tables are, what its server has counted of them, and what its role may do: one
-- document, from which tables are observed and methods advised. It reads catalogs and counters, no row.

-- A value that grows by itself has a default, or is given by a trigger: whoever writes to NEW.column
-- in a trigger before INSERT or UPDATE. That is a guess from the text of the function, and said so.
CREATE OR REPLACE FUNCTION roneo.survey_controls_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'name', a.attname, 'type', format_type(a.atttypid, NULL), 'base', b.base,
        'not_null', a.attnotnull, 'readable', has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
        'given', CASE WHEN a.attidentity <> '' THEN 'identity'
                      WHEN d.text LIKE '%nextval(%' THEN 'serial'
                      WHEN d.text ~* '\m(now|current_timestamp|clock_timestamp|transaction_timestamp|statement_timestamp|localtimestamp)\M' THEN 'clock'
                      WHEN d.text ~* '(uuid_?v7|uuid_generate_v7|uuid7|ulid|ksuid)' THEN 'uuid' END,
        'touched', EXISTS (
            SELECT FROM pg_trigger AS g JOIN pg_proc AS f ON f.oid = g.tgfoid
            WHERE g.tgrelid = a.attrelid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 19 = 19
              AND (f.prosrc ~* concat('\mnew\."?', regexp_replace(a.attname, '(\W)', '\\\1', 'g'), '"?\s*:?=')
                   OR f.proname = 'moddatetime' AND encode(g.tgargs, 'escape') = concat(a.attname, '\000'))),
        'indexed', EXISTS (
            SELECT FROM pg_index AS i
            WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL
              AND (SELECT k.relam FROM pg_class AS k WHERE k.oid = i.indexrelid) = 403)
        ) ORDER BY a.attnum), '[]')
    FROM pg_attribute AS a
    CROSS JOIN LATERAL (
        SELECT format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) AS base FROM pg_type AS t WHERE t.oid = a.atttypid) AS b
    LEFT JOIN LATERAL (
        SELECT pg_get_expr(e.adbin, e.adrelid) AS text FROM pg_attrdef AS e
        WHERE e.adrelid = a.attrelid AND e.adnum = a.attnum AND a.attgenerated = '') AS d ON true
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND b.base IN ('timestamp with time zone', 'timestamp without time zone', 'date', 'smallint', 'integer', 'bigint', 'uuid')
      AND (b.base LIKE 'timestamp%' OR b.base IN ('date', 'uuid') OR d.text LIKE '%nextval(%' OR a.attidentity <> ''
           OR EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisprimary AND i.indnatts = 1 AND i.indkey[0] = a.attnum))$query$;
COMMENT ON FUNCTION roneo.survey_controls_query() IS
    'SQL for the columns of table c that a copy could follow, as a JSON array: part of survey_probe.';

-- As natural_key chooses it.
CREATE OR REPLACE FUNCTION roneo.survey_key_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $query$
    SELECT k.names
    FROM pg_index AS i
    CROSS JOIN LATERAL (
        SELECT jsonb_agg(a.attname ORDER BY u.place) AS names, bool_and(a.attnotnull) AND count(a.attname) = count(*) AS is_key
        FROM unnest((i.indkey::smallint[])[0:i.indnkeyatts - 1]) WITH ORDINALITY AS u (number, place)
        LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.number AND u.number > 0) AS k
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND k.is_key
    ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid
    LIMIT 1$query$;
COMMENT ON FUNCTION roneo.survey_key_query() IS 'SQL for the key of table c, as a JSON array: part of survey_probe.';

-- The size of a table that is locked against everybody cannot be asked without waiting, so it is left out.
CREATE OR REPLACE FUNCTION roneo.survey_relations_query(schemas text[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
WITH RECURSIVE root AS (
    SELECT c.oid
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'roneo', 'roneo_capture')
      AND (%1$L::name[] IS NULL OR n.nspname = ANY (%1$L::name[]))
      AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
), tree AS (
    SELECT r.oid AS root, r.oid FROM root AS r
    UNION
    SELECT t.root, i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
), lock AS MATERIALIZED (
    SELECT l.relation, bool_or(l.mode = 'AccessExclusiveLock') AS closed
    FROM pg_locks AS l
    WHERE l.locktype = 'relation' AND l.granted
      AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
      AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
    GROUP BY l.relation
)
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'oid', c.oid::bigint, 'root', t.root::bigint, 'schema', n.nspname, 'name', c.relname, 'kind', c.relkind,
    'persistence', c.relpersistence, 'rows', c.reltuples::bigint, 'written', k.relation IS NOT NULL, 'closed', coalesce(k.closed, false),
    'ins', pg_stat_get_tuples_inserted(c.oid), 'upd', pg_stat_get_tuples_updated(c.oid), 'del', pg_stat_get_tuples_deleted(c.oid),
    'hot', pg_stat_get_tuples_hot_updated(c.oid), 'live', pg_stat_get_live_tuples(c.oid),
    'reads', pg_stat_get_numscans(c.oid) + coalesce((SELECT sum(pg_stat_get_numscans(x.indexrelid)) FROM pg_index AS x WHERE x.indrelid = c.oid), 0),
    'file', pg_relation_filenode(c.oid)::bigint,
    'bytes', CASE WHEN k.closed IS NOT TRUE AND c.relkind IN ('r', 'm') THEN pg_table_size(c.oid) END,
    'readable', has_table_privilege(c.oid, 'SELECT'),
    'shape', (SELECT md5(string_agg(concat_ws(' ', a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attisdropped, a.atthasmissing), ',' ORDER BY a.attnum))
              FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0))
    || CASE WHEN t.oid <> t.root THEN '{}' ELSE jsonb_build_object(
        'usage', has_schema_privilege(n.oid, 'USAGE'),
        'triggers', pg_has_role(c.relowner, 'USAGE') OR has_table_privilege(c.oid, 'TRIGGER'), 'owned', pg_has_role(c.relowner, 'USAGE'),
        'xmin', c.relkind IN ('r', 'p') AND has_column_privilege(c.oid, 'xmin', 'SELECT'),
        'row_security', row_security_active(c.oid), 'key', (%2$s), 'controls', (%3$s)) END
    ORDER BY n.nspname, c.relname), '[]')
FROM tree AS t
JOIN pg_class AS c ON c.oid = t.oid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN lock AS k ON k.relation = c.oid$query$, schemas, roneo.survey_key_query(), roneo.survey_controls_query());
COMMENT ON FUNCTION roneo.survey_relations_query(text[]) IS
    'SQL for the tables and views of a source in some schemas or all, partitions and children with their root, as a JSON array: part of survey_probe.';

CREATE OR REPLACE FUNCTION roneo.survey_probe(name text, schemas text[] DEFAULT NULL)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.require_source(name);
    IF schemas = '{}' THEN
        PERFORM roneo.bad_argument('the list of schemas is empty', 'Leave the argument out for all schemas.');
    END IF;
    RETURN format($probe$SELECT jsonb_build_object(
    'relations', (%s),
    'identity', %s, 'track_counts', %s,
    'snapshot', pg_current_snapshot()::text,
    'user', current_user,
    'superuser', (SELECT u.rolsuper FROM pg_roles AS u WHERE u.rolname = current_user),
    'creates', has_database_privilege(current_database(), 'CREATE')
        AND (SELECT u.rolsuper OR u.rolcreaterole FROM pg_roles AS u WHERE u.rolname = current_user),
    'capture', (
        SELECT has_schema_privilege(n.oid, 'USAGE')
               AND NOT EXISTS (SELECT FROM pg_proc AS f
                               WHERE f.pronamespace = n.oid AND f.prorettype <> 'trigger'::regtype AND NOT has_function_privilege(f.oid, 'EXECUTE'))
        FROM pg_namespace AS n WHERE n.nspname = 'roneo_capture'))::text$probe$,
        roneo.survey_relations_query(schemas), roneo.identity_query(), roneo.track_counts_query());
END;
$$;
COMMENT ON FUNCTION roneo.survey_probe(text, text[]) IS
    'A query for a source, under source_opening(): one JSON document with its tables, in some schemas or all, what was counted of them, and what the role may do.';
-- Looks at a source's tables now and then, and keeps what was seen: counters, files, sizes, highest
-- values. A table that is as it was costs one row however often it is looked at, and no look at its rows.

-- Each statement takes a snapshot of its own: what is counted is asked before the rows are looked at.
CREATE OR REPLACE FUNCTION roneo.observe_opening(time_limit interval)
RETURNS text LANGUAGE sql STABLE
RETURN concat(replace(roneo.source_opening(), 'REPEATABLE READ', 'READ COMMITTED'),
              format('; SET LOCAL statement_timeout = %s; SET LOCAL lock_timeout = ''1s''',
                     least(round(extract(epoch FROM greatest(time_limit, '0')) * 1000), 2147483647)));
COMMENT ON FUNCTION roneo.observe_opening(interval) IS
    'Statements that open the transaction in which a source is looked at, each statement limited in time; 0: not limited.';

-- One probe of the index for each table: their history may be long.
CREATE OR REPLACE FUNCTION roneo.latest_state(wanted_source integer, wanted_relation oid)
RETURNS roneo.observed_state LANGUAGE sql STABLE
RETURN (SELECT s FROM roneo.observed_state AS s WHERE s.source_id = wanted_source AND s.relation = wanted_relation
        ORDER BY s.state_id DESC LIMIT 1);
COMMENT ON FUNCTION roneo.latest_state(integer, oid) IS 'What was last seen of a table of a source; NULL: nothing.';

CREATE OR REPLACE FUNCTION roneo.latest_observation(wanted_source integer)
RETURNS roneo.observation LANGUAGE sql STABLE
RETURN (SELECT o FROM roneo.observation AS o WHERE o.source_id = wanted_source ORDER BY o.observation_id DESC LIMIT 1);
COMMENT ON FUNCTION roneo.latest_observation(integer) IS 'The last look at a source; NULL for none.';

CREATE OR REPLACE FUNCTION roneo.went_back(old pg_snapshot, new pg_snapshot)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN pg_snapshot_xmax(new) < pg_snapshot_xmax(old);
COMMENT ON FUNCTION roneo.went_back(pg_snapshot, pg_snapshot) IS 'Whether a server is younger in transactions than it was.';

CREATE OR REPLACE FUNCTION roneo.is_other_server(before roneo.observation, survey jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN (before.identity ->> 'system_identifier', before.identity ->> 'timeline', before.identity ->> 'database')
       IS DISTINCT FROM (survey #>> '{identity,system_identifier}', survey #>> '{identity,timeline}', survey #>> '{identity,database}')
       OR roneo.went_back(before.snapshot, (survey ->> 'snapshot')::pg_snapshot);
COMMENT ON FUNCTION roneo.is_other_server(roneo.observation, jsonb) IS
    'Whether what answers is not what was looked at before: another cluster, timeline or database, or an earlier time.';

-- Why counters of now cannot be compared with those of the last look; NULL: they can.
CREATE OR REPLACE FUNCTION roneo.era_break(before roneo.observation, survey jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN CASE
    WHEN before.observation_id IS NULL THEN 'first look'
    WHEN before.identity ->> 'system_identifier' <> survey #>> '{identity,system_identifier}' THEN 'another cluster answered'
    WHEN before.identity ->> 'timeline' <> survey #>> '{identity,timeline}' THEN 'promoted, or restored to an earlier time'
    WHEN roneo.is_other_server(before, survey) THEN 'restored, or another database answered'
    WHEN before.identity ->> 'in_recovery' <> survey #>> '{identity,in_recovery}' THEN 'no standby any more, or one now'
    WHEN before.identity -> 'stats_discarded' <> survey #> '{identity,stats_discarded}'
         AND before.identity ->> 'postmaster_start' <> survey #>> '{identity,postmaster_start}' THEN 'crashed, counters lost'
    WHEN before.identity -> 'stats_reset' IS DISTINCT FROM survey #> '{identity,stats_reset}'
         OR before.identity -> 'stats_discarded' <> survey #> '{identity,stats_discarded}' THEN 'counters reset'
    WHEN before.identity ->> 'postmaster_start' <> survey #>> '{identity,postmaster_start}' THEN 'restarted'
    WHEN before.identity ->> 'track_counts' <> survey ->> 'track_counts' THEN 'track_counts changed'
END;
COMMENT ON FUNCTION roneo.era_break(roneo.observation, jsonb) IS
    'Why what a source counts now does not go on from the last look; NULL: it does.';

-- Why counters of this server prove nothing even while they go on; NULL: they do.
CREATE OR REPLACE FUNCTION roneo.counters_doubt(survey jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN survey #>> '{identity,in_recovery}' = 'true' THEN 'a standby does not count'
    WHEN survey ->> 'track_counts' <> 'on' THEN format('track_counts is %s', survey ->> 'track_counts')
    WHEN (survey #>> '{identity,version}')::integer < 150000 THEN 'before PostgreSQL 15 an idle session may keep its counts'
END;
COMMENT ON FUNCTION roneo.counters_doubt(jsonb) IS 'Why the counters of a source prove nothing; NULL: they do.';

-- A server that is stopped in order writes its counters down.
CREATE OR REPLACE FUNCTION roneo.hides_changes(reason text)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN coalesce(reason NOT IN ('restarted', 'before PostgreSQL 15 an idle session may keep its counts'), false);
COMMENT ON FUNCTION roneo.hides_changes(text) IS
    'Whether all that was written between two looks may go unseen, for a reason of era_break or counters_doubt: not only what a session had not handed over.';

CREATE OR REPLACE FUNCTION roneo.is_same_state(s roneo.observed_state, relation jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN (s.inserted, s.updated, s.deleted, s.shape, s.schema_name, s.table_name, s.root::bigint) IS NOT DISTINCT FROM
       ((relation ->> 'ins')::bigint, (relation ->> 'upd')::bigint, (relation ->> 'del')::bigint, relation ->> 'shape',
        (relation ->> 'schema')::name, (relation ->> 'name')::name, (relation ->> 'root')::bigint)
   AND s.file IS NOT DISTINCT FROM (relation ->> 'file')::bigint;
COMMENT ON FUNCTION roneo.is_same_state(roneo.observed_state, jsonb) IS 'Whether a table counts and is stored as when it was last looked at.';

-- Rows of transactions that began after a snapshot, or were open in it. Frozen rows keep old, perhaps
-- wrapped numbers, which look as if from the future. Open subtransactions of that time are not known.
CREATE OR REPLACE FUNCTION roneo.newer_rows(row_name name, seen pg_snapshot)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws(' OR ', format('age(%1$I.xmin) BETWEEN 0 AND age(%2$L::xid)', row_name,
                                (pg_snapshot_xmax(seen)::text::numeric % 4294967296)::text),
    (SELECT format('%I.xmin::text = ANY (%L::text[])', row_name, array_agg((x::text::numeric % 4294967296)::text))
     FROM pg_snapshot_xip(seen) AS x HAVING count(*) > 0));
COMMENT ON FUNCTION roneo.newer_rows(name, pg_snapshot) IS
    'A condition for rows of a source that a snapshot did not see, by their transactions.';

-- above: rows beyond the highest value of then. late: rows that came since, below it; of a table that
-- is too big to be read, among the 10,000 highest only.
CREATE OR REPLACE FUNCTION roneo.observe_control_query(relation jsonb, control jsonb, seen jsonb, whole boolean)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT format($query$jsonb_build_object(%1$L, jsonb_build_object(
    'top', (SELECT x.%1$I::text FROM %2$I.%3$I AS x WHERE x.%1$I IS NOT NULL ORDER BY x.%1$I DESC LIMIT 1),
    'above', %4$s, 'late', %5$s))$query$,
    control ->> 'name', relation ->> 'schema', relation ->> 'name',
    CASE WHEN seen ->> 'at' IS NULL THEN 'NULL'
         ELSE format('(SELECT count(*) FROM (SELECT FROM %1$I.%2$I AS x WHERE %3$s LIMIT 1000001) AS n)',
             relation ->> 'schema', relation ->> 'name',
             CASE WHEN t.top IS NULL THEN format('x.%I IS NOT NULL', control ->> 'name')
                  ELSE format('x.%I > %L::%s', control ->> 'name', t.top, control ->> 'base') END) END,
    CASE WHEN seen ->> 'at' IS NULL OR NOT (relation ->> 'xmin')::boolean THEN 'NULL'
         WHEN t.top IS NULL THEN '0'
         ELSE format(CASE WHEN whole THEN '(SELECT count(*) FROM %1$I.%2$I AS x WHERE x.%3$I <= %4$L::%5$s AND (%6$s))'
                          ELSE '(SELECT count(*) FROM (SELECT x.xmin FROM %1$I.%2$I AS x WHERE x.%3$I <= %4$L::%5$s ORDER BY x.%3$I DESC LIMIT 10000) AS x WHERE %6$s)' END,
             relation ->> 'schema', relation ->> 'name', control ->> 'name', t.top, control ->> 'base',
             roneo.newer_rows('x', (seen ->> 'at')::pg_snapshot)) END)
FROM (SELECT seen #>> ARRAY['columns', control ->> 'name', 'top'] AS top) AS t
);
COMMENT ON FUNCTION roneo.observe_control_query(jsonb, jsonb, jsonb, boolean) IS
    'SQL for what became of a column that may grow, since a table''s values were last looked at: part of observe_values_probe.';

-- A table whose file is another one: were its rows copied as they were (VACUUM FULL, CLUSTER), written
-- anew (ALTER TABLE), or are they gone (TRUNCATE)? Old transactions, new ones, or no rows tell.
CREATE OR REPLACE FUNCTION roneo.observe_file_query(relation jsonb, seen pg_snapshot)
RETURNS text LANGUAGE sql STABLE
RETURN format('(SELECT jsonb_build_object(''old'', count(*) FILTER (WHERE NOT (%1$s)), ''new'', count(*) FILTER (WHERE %1$s)) '
              'FROM (SELECT x.xmin FROM ONLY %2$I.%3$I AS x LIMIT 100000) AS x)',
              roneo.newer_rows('x', seen), relation ->> 'schema', relation ->> 'name');
COMMENT ON FUNCTION roneo.observe_file_query(jsonb, pg_snapshot) IS
    'SQL for whose rows a table has whose file is another one: part of observe_values_probe.';

CREATE OR REPLACE FUNCTION roneo.observe_table_query(relation jsonb, old roneo.observed_state, seen_at pg_snapshot, bytes numeric, scan_bytes numeric)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT format('(%s::bigint, (SELECT jsonb_build_object(''at'', pg_current_snapshot()::text, ''scanned'', %s, ''columns'', %s, ''file'', %s)))',
        relation ->> 'oid', CASE WHEN bytes <= scan_bytes THEN 'true' ELSE 'false' END,
        coalesce(string_agg(roneo.observe_control_query(relation, c.control,
            CASE WHEN seen_at IS NOT NULL THEN old.control END, bytes <= scan_bytes), ' || '), 'NULL'),
        CASE WHEN seen_at IS NOT NULL AND old.file <> (relation ->> 'file')::bigint AND (relation ->> 'xmin')::boolean
             THEN roneo.observe_file_query(relation, seen_at) ELSE 'NULL' END)
    FROM (VALUES (0)) AS one
    LEFT JOIN jsonb_array_elements(relation -> 'controls') AS c (control)
        ON (c.control ->> 'readable')::boolean AND ((c.control ->> 'indexed')::boolean OR bytes <= scan_bytes)
);
COMMENT ON FUNCTION roneo.observe_table_query(jsonb, roneo.observed_state, pg_snapshot, numeric, numeric) IS
    'SQL for the values and rows of one table that is not as it was: part of observe_values_probe. seen_at: the last look, where it can be compared with.';

-- Nothing is asked of what cannot be read without waiting, or is not all here; nor of more tables than
-- can be locked at a time. One subquery each: planning a UNION of so many takes minutes.
CREATE OR REPLACE FUNCTION roneo.observe_values_probe(name text, survey jsonb, scan_bytes bigint)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked_id integer := (roneo.require_source(name)).source_id;
    before   roneo.observation := roneo.latest_observation(asked_id);
    seen_at  pg_snapshot := CASE WHEN NOT roneo.is_other_server(before, survey) THEN before.snapshot END;
    query    text;
BEGIN
    WITH relation AS (
        SELECT e.relation, (e.relation ->> 'root')::bigint AS root, s AS state,
               s.state_id IS NULL OR NOT roneo.is_same_state(s, e.relation) AS is_changed
        FROM jsonb_array_elements(survey -> 'relations') AS e (relation)
        CROSS JOIN LATERAL roneo.latest_state(asked_id, (e.relation ->> 'oid')::bigint::oid) AS s
    ), tree AS (
        SELECT r.root, sum((r.relation ->> 'bytes')::numeric) AS bytes
        FROM relation AS r
        GROUP BY r.root
        HAVING bool_or(r.is_changed) AND bool_and(r.relation ->> 'kind' IN ('r', 'p') AND NOT (r.relation ->> 'closed')::boolean)
    )
    SELECT string_agg(roneo.observe_table_query(r.relation, r.state, seen_at, coalesce(t.bytes, 0), scan_bytes), E',\n') INTO query
    FROM (SELECT t.* FROM tree AS t ORDER BY t.bytes DESC NULLS LAST LIMIT 500) AS t
    JOIN relation AS r ON r.root = t.root
    JOIN relation AS top ON top.root = t.root AND (top.relation ->> 'oid')::bigint = t.root
    WHERE (r.relation ->> 'readable')::boolean AND (top.relation ->> 'usage')::boolean AND NOT (top.relation ->> 'row_security')::boolean
      AND ((r.relation ->> 'oid')::bigint = t.root AND jsonb_array_length(r.relation -> 'controls') > 0
           OR (r.state).file <> (r.relation ->> 'file')::bigint);
    RETURN CASE WHEN query IS NOT NULL
                THEN format('SELECT jsonb_object_agg(v.oid, v.found)::text FROM (VALUES %s) AS v (oid, found)', query) END;
END;
$$;
COMMENT ON FUNCTION roneo.observe_values_probe(text, jsonb, bigint) IS
    'A query for a source, after its answer to survey_probe: the highest values of what may grow, and what came since the last look, of tables that have changed. Tables up to so many bytes are read, of at most 500 trees, the biggest first. NULL: nothing is to be asked.';

CREATE OR REPLACE FUNCTION roneo.store_states(seen roneo.observation, survey jsonb, found jsonb)
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    WITH relation AS (
        SELECT e.relation, s AS state, found -> (e.relation ->> 'oid') AS found,
               s.era = seen.era AND roneo.is_same_state(s, e.relation) AND found -> (e.relation ->> 'oid') IS NULL AS is_same
        FROM jsonb_array_elements(survey -> 'relations') AS e (relation)
        CROSS JOIN LATERAL roneo.latest_state(seen.source_id, (e.relation ->> 'oid')::bigint::oid) AS s
        WHERE e.relation ->> 'kind' IN ('r', 'p')
    ), tree AS (
        -- What a tree has counted in all: with it the rows above are compared.
        SELECT r.relation -> 'root' AS root, sum((r.relation ->> 'ins')::bigint) AS counted FROM relation AS r GROUP BY 1
    ), extended AS (
        UPDATE roneo.observed_state AS s
        SET last_seen = seen.observation_id, bytes = coalesce((r.relation ->> 'bytes')::bigint, s.bytes), reads = (r.relation ->> 'reads')::bigint,
            live = (r.relation ->> 'live')::bigint, rows_estimate = (r.relation ->> 'rows')::bigint, is_written = (r.relation ->> 'written')::boolean
        FROM relation AS r
        WHERE s.state_id = (r.state).state_id AND r.is_same
    )
    INSERT INTO roneo.observed_state (source_id, era, relation, root, schema_name, table_name, kind, first_seen, last_seen,
        inserted, updated, deleted, hot_updated, live, reads, rows_estimate, bytes, file, shape, is_written, control, file_rows)
    SELECT seen.source_id, seen.era, (r.relation ->> 'oid')::bigint::oid, (r.relation ->> 'root')::bigint::oid,
           r.relation ->> 'schema', r.relation ->> 'name', (r.relation ->> 'kind')::"char", seen.observation_id, seen.observation_id,
           (r.relation ->> 'ins')::bigint, (r.relation ->> 'upd')::bigint, (r.relation ->> 'del')::bigint, (r.relation ->> 'hot')::bigint,
           (r.relation ->> 'live')::bigint, (r.relation ->> 'reads')::bigint, (r.relation ->> 'rows')::bigint,
           coalesce((r.relation ->> 'bytes')::bigint, (r.state).bytes), (r.relation ->> 'file')::bigint, r.relation ->> 'shape',
           (r.relation ->> 'written')::boolean,
           -- Values that were not asked for now stay those of then, with their snapshot.
           CASE WHEN jsonb_typeof(r.found -> 'columns') = 'object' THEN (r.found - 'file') || jsonb_build_object('counted', t.counted)
                ELSE (r.state).control || jsonb_build_object('kept', true) END,
           nullif(r.found -> 'file', 'null')
    FROM relation AS r
    LEFT JOIN tree AS t ON t.root = r.relation -> 'oid'
    WHERE r.is_same IS NOT TRUE;
END;
COMMENT ON FUNCTION roneo.store_states(roneo.observation, jsonb, jsonb) IS
    'Writes what was seen of each table: a row where something is new, else the time of the last row.';

CREATE OR REPLACE FUNCTION roneo.record_observation(
    name text, schemas text[], survey jsonb, looked jsonb, problem text DEFAULT NULL, keep_days integer DEFAULT 90)
RETURNS roneo.observation LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked_id integer := (roneo.require_source(name)).source_id;
    before   roneo.observation;
    seen     roneo.observation;
    broken   text;
BEGIN
    -- Two at a time would both go on from the same look. Replicas are locked by positive numbers.
    PERFORM pg_advisory_xact_lock(roneo.lock_class(), -asked_id);
    before := roneo.latest_observation(asked_id);
    broken := roneo.era_break(before, survey);
    INSERT INTO roneo.observation (source_id, era, era_reason, identity, snapshot, schemas, doubt, tables, problem)
    VALUES (asked_id, coalesce(before.era, 0) + (broken IS NOT NULL)::integer, broken,
            (survey -> 'identity') - 'clock' - 'lsn' || jsonb_build_object('track_counts', survey -> 'track_counts'),
            (survey ->> 'snapshot')::pg_snapshot, schemas, roneo.counters_doubt(survey),
            (SELECT count(*) FROM jsonb_array_elements(survey -> 'relations') AS e (relation)
             WHERE e.relation -> 'oid' = e.relation -> 'root' AND e.relation ->> 'kind' IN ('r', 'p')), problem)
    RETURNING * INTO seen;
    PERFORM roneo.store_states(seen, survey, looked);
    PERFORM roneo.forget_observations(asked_id, keep_days);
    RETURN seen;
END;
$$;
COMMENT ON FUNCTION roneo.record_observation(text, text[], jsonb, jsonb, text, integer) IS
    'Keeps a look at a source: its answers to survey_probe and observe_values_probe, or why the second was not given. Forgets what is older than keep_days.';

-- The look at which a kept state was first seen is kept too, so that its time is known.
CREATE OR REPLACE FUNCTION roneo.forget_observations(source_id integer, keep_days integer)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    oldest bigint;
BEGIN
    IF coalesce(keep_days, 0) < 1 THEN
        PERFORM roneo.bad_argument(format('keep_days is %s', coalesce(keep_days::text, 'NULL')), 'Give a number of days from 1 on.');
    END IF;
    SELECT min(o.observation_id) INTO oldest FROM roneo.observation AS o
    WHERE o.source_id = forget_observations.source_id AND o.observed_at > now() - make_interval(days => keep_days);
    DELETE FROM roneo.observed_state AS s WHERE s.source_id = forget_observations.source_id AND s.last_seen < oldest;
    DELETE FROM roneo.observation AS o
    WHERE o.source_id = forget_observations.source_id AND o.observation_id < oldest
      AND NOT EXISTS (SELECT FROM roneo.observed_state AS s
                      WHERE s.source_id = o.source_id AND o.observation_id IN (s.first_seen, s.last_seen));
END;
$$;
COMMENT ON FUNCTION roneo.forget_observations(integer, integer) IS 'Deletes looks at a source, and what was seen, that are older.';

CREATE OR REPLACE FUNCTION roneo.observe(
    source text,
    schemas text[] DEFAULT NULL,
    scan_mb integer DEFAULT 64,
    time_limit interval DEFAULT '30 seconds',
    keep_days integer DEFAULT 90)
RETURNS roneo.observation LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    probe   text := roneo.survey_probe(source, schemas);
    link    text := roneo.open_link(source);
    survey  jsonb;
    looked   jsonb;
    problem text;
BEGIN
    PERFORM roneo.tell_link(link, roneo.observe_opening(time_limit));
    survey := roneo.ask_link(link, probe);
    probe := roneo.observe_values_probe(source, survey, scan_mb * 1000000::bigint);
    IF probe IS NOT NULL THEN
        BEGIN
            looked := roneo.ask_link(link, probe);
        EXCEPTION WHEN OTHERS THEN
            -- Counters and files are worth keeping without it.
            GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
        END;
    END IF;
    PERFORM roneo.close_link(link);
    RETURN roneo.record_observation(source, schemas, survey, looked, problem, keep_days);
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link(link);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.observe(text, text[], integer, interval, integer) IS
    'Looks at the tables of a source, over dblink, and keeps what their server has counted; roneo.changes tells what became of them. scan_mb: tables up to this size are read when they have changed. time_limit: of each of two queries; 0: none.';
-- What became of a source's tables, told from the looks of roneo.observe. Only what counters that went
-- on, files and transactions of rows say together is called proven.

-- file_rows knows up to 100,000 rows. Rows that the counters did not see come were written by ALTER TABLE.
CREATE OR REPLACE FUNCTION roneo.file_event(before roneo.observed_state, s roneo.observed_state)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN before.file IS NOT DISTINCT FROM s.file THEN NULL
    WHEN s.file_rows IS NULL THEN 'new file'
    WHEN (s.file_rows ->> 'old')::bigint > 0 OR before.live = 0 AND s.inserted = before.inserted THEN 'packed'
    WHEN before.era = s.era AND (s.file_rows ->> 'new')::bigint > s.inserted - before.inserted THEN 'rewritten'
    ELSE 'truncated'
END;
COMMENT ON FUNCTION roneo.file_event(roneo.observed_state, roneo.observed_state) IS
    'Why the file of a table is another one: packed (VACUUM FULL, CLUSTER: the rows are the same), rewritten (ALTER TABLE), truncated, or new file where that could not be told.';

-- From zero on it is what was counted since, and so the least that happened.
CREATE OR REPLACE FUNCTION roneo.counted_between(old bigint, new bigint, broken text)
RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN old IS NULL THEN 0
    WHEN new < old THEN new
    WHEN NOT roneo.hides_changes(broken) THEN new - old
    WHEN broken ~ 'counters (lost|reset)' THEN new
    ELSE 0
END;
COMMENT ON FUNCTION roneo.counted_between(bigint, bigint, text) IS
    'How many rows at least were counted between two looks. broken: why a counter does not go on, see era_break; NULL: it does.';

CREATE OR REPLACE FUNCTION roneo.observed_steps(wanted_source integer, from_look bigint, to_look bigint)
RETURNS TABLE (relation oid, root oid, state roneo.observed_state, before roneo.observed_state, broken text,
               inserted bigint, updated bigint, deleted bigint, event text, is_altered boolean)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT p.relation, (p.s).root, p.s, p.b, e.broken,
           roneo.counted_between((p.b).inserted, (p.s).inserted, e.broken),
           roneo.counted_between((p.b).updated, (p.s).updated, e.broken),
           roneo.counted_between((p.b).deleted, (p.s).deleted, e.broken),
           CASE WHEN (p.b).state_id IS NOT NULL THEN roneo.file_event(p.b, p.s) END,
           (p.b).shape <> (p.s).shape
    FROM (
        SELECT s.relation, s, lag(s) OVER (PARTITION BY s.relation ORDER BY s.state_id) AS b
        FROM roneo.observed_state AS s
        WHERE s.source_id = wanted_source AND s.last_seen >= from_look AND s.first_seen <= to_look
    ) AS p (relation, s, b)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN (p.b).era <> (p.s).era THEN (
                SELECT string_agg(DISTINCT o.era_reason, ', ') FROM roneo.observation AS o
                WHERE o.source_id = wanted_source AND o.era > (p.b).era AND o.era <= (p.s).era AND o.era_reason IS NOT NULL)
                WHEN (p.s).inserted < (p.b).inserted OR (p.s).updated < (p.b).updated OR (p.s).deleted < (p.b).deleted
                THEN 'counters went back' END) AS e (broken);
END;
COMMENT ON FUNCTION roneo.observed_steps(integer, bigint, bigint) IS
    'Each change that looks at a source have seen between two of them, with what was counted; and what each table was at first.';

CREATE OR REPLACE FUNCTION roneo.observed_relations(wanted_source integer, from_look bigint, to_look bigint)
RETURNS TABLE (relation oid, root oid, schema_name name, table_name name, kind "char", first_look bigint, last_look bigint,
               inserted bigint, updated bigint, deleted bigint, bytes bigint, grown bigint, rows_estimate bigint, reads bigint,
               is_new boolean, is_gone boolean, is_written boolean, is_altered boolean, events text[], broken text[],
               changed_after bigint, changed_until bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH step AS (SELECT s.* FROM roneo.observed_steps(wanted_source, from_look, to_look) AS s),
    summed AS (
        SELECT s.relation, min((s.state).first_seen) AS first_seen, max((s.state).last_seen) AS last_seen,
               max((s.state).state_id) AS newest, min((s.state).state_id) AS oldest,
               sum(s.inserted)::bigint AS inserted, sum(s.updated)::bigint AS updated, sum(s.deleted)::bigint AS deleted,
               array_agg(DISTINCT s.event) FILTER (WHERE s.event IS NOT NULL) AS events, bool_or(s.is_altered) AS is_altered,
               array_agg(DISTINCT s.broken) FILTER (WHERE s.broken IS NOT NULL) AS broken,
               max((s.before).last_seen) FILTER (WHERE s.inserted + s.updated + s.deleted > 0 OR s.event IS NOT NULL OR s.is_altered) AS changed_after,
               max((s.state).first_seen) FILTER (WHERE s.inserted + s.updated + s.deleted > 0 OR s.event IS NOT NULL OR s.is_altered) AS changed_until
        FROM step AS s
        GROUP BY s.relation
    )
    SELECT m.relation, n.root, n.schema_name, n.table_name, n.kind, greatest(m.first_seen, from_look), least(m.last_seen, to_look),
           -- Of a table that came meanwhile all is new.
           m.inserted + CASE WHEN m.first_seen > covering.first_look THEN o.inserted ELSE 0 END, m.updated, m.deleted, n.bytes, n.bytes - o.bytes, n.rows_estimate, n.reads - o.reads,
           m.first_seen > covering.first_look, m.last_seen < covering.last_look, n.is_written, coalesce(m.is_altered, false),
           coalesce(m.events, '{}'), coalesce(m.broken, '{}'), m.changed_after, m.changed_until
    FROM summed AS m
    JOIN roneo.observed_state AS n ON n.state_id = m.newest
    JOIN roneo.observed_state AS o ON o.state_id = m.oldest
    CROSS JOIN LATERAL (
        SELECT min(l.observation_id), max(l.observation_id)
        FROM roneo.observation AS l
        WHERE l.source_id = wanted_source AND l.observation_id BETWEEN from_look AND to_look
          AND (l.schemas IS NULL OR n.schema_name = ANY (l.schemas))) AS covering (first_look, last_look);
END;
COMMENT ON FUNCTION roneo.observed_relations(integer, bigint, bigint) IS
    'What became of each table and partition of a source between two looks.';

-- All rows that came are above the highest value of the look before. Proven where every row that came
-- was looked at: by reading the table, or by as many rows above as were counted.
CREATE OR REPLACE FUNCTION roneo.grown_columns(wanted_source integer, from_look bigint, to_look bigint, wanted_relation oid)
RETURNS TABLE (column_name text, is_proven boolean) LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH look AS (
        SELECT s.state_id, s.control, row_number() OVER (ORDER BY s.state_id) AS place,
               last_value((s.control ->> 'counted')::bigint) OVER w - first_value((s.control ->> 'counted')::bigint) OVER w AS counted
        FROM roneo.observed_state AS s
        WHERE s.source_id = wanted_source AND s.relation = wanted_relation AND s.last_seen >= from_look AND s.first_seen <= to_look
        WINDOW w AS (ORDER BY s.state_id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    )
    SELECT c.name, bool_and((l.control ->> 'scanned')::boolean) OR sum((c.seen ->> 'above')::bigint) = max(l.counted)
    FROM look AS l
    CROSS JOIN LATERAL jsonb_each(l.control -> 'columns') AS c (name, seen)
    WHERE l.place > 1
    GROUP BY c.name
    HAVING bool_and(coalesce(l.control -> 'kept', 'false') = 'false' AND (c.seen ->> 'late')::bigint = 0)
       AND count(*) = (SELECT count(*) - 1 FROM look) AND sum((c.seen ->> 'above')::bigint) > 0
    ORDER BY 2 DESC, 1;
END;
COMMENT ON FUNCTION roneo.grown_columns(integer, bigint, bigint, oid) IS
    'The columns of a table whose values all new rows were above, as far as was seen, and whether that is proven.';

CREATE OR REPLACE FUNCTION roneo.change_verdict(
    is_gone boolean, lost_part boolean, events text[], inserted bigint, updated bigint, deleted bigint, is_altered boolean,
    is_new boolean, self_new boolean, is_hidden boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN is_gone THEN 'gone'
    WHEN 'truncated' = ANY (events) THEN 'truncated'
    WHEN deleted > 0 OR lost_part THEN 'deleted from'
    WHEN updated > 0 THEN 'updated'
    WHEN events && '{rewritten,"new file"}' OR is_altered THEN 'rewritten'
    WHEN self_new THEN 'new'
    WHEN inserted > 0 OR is_new THEN 'grows'
    WHEN is_hidden THEN 'unknown'
    ELSE 'unchanged'
END;
COMMENT ON FUNCTION roneo.change_verdict(boolean, boolean, text[], bigint, bigint, bigint, boolean, boolean, boolean, boolean) IS
    'What became of a table, in one or two words: the worst of what happened to who copied its rows before. is_hidden: it may have been written to without a trace.';

CREATE OR REPLACE FUNCTION roneo.change_remarks(events text[], is_altered boolean, is_new boolean, lost_part boolean, is_written boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws('; ',
    CASE WHEN 'packed' = ANY (events) THEN 'packed by VACUUM FULL or CLUSTER, with the same rows' END,
    CASE WHEN is_altered THEN 'its columns were changed' END,
    CASE WHEN is_new THEN 'a part of it is new' END,
    CASE WHEN lost_part THEN 'a part of it is gone' END,
    CASE WHEN is_written THEN 'somebody was writing at the last look' END);
COMMENT ON FUNCTION roneo.change_remarks(text[], boolean, boolean, boolean, boolean) IS 'What is to be known of a verdict besides.';

CREATE OR REPLACE FUNCTION roneo.observed_trees(wanted_source integer, from_look bigint, to_look bigint, by_partition boolean)
RETURNS TABLE (relation oid, inserted bigint, updated bigint, deleted bigint, rows_estimate bigint, bytes bigint, grown bigint, reads bigint,
               parts bigint, is_gone boolean, lost_part boolean, self_new boolean, is_new boolean, is_written boolean, is_altered boolean, events text[], broken text[],
               first_look bigint, last_look bigint, changed_after bigint, changed_until bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH relation AS (
        SELECT r.*, CASE WHEN by_partition THEN r.relation ELSE r.root END AS shown
        FROM roneo.observed_relations(wanted_source, from_look, to_look) AS r
        WHERE NOT (by_partition AND r.kind = 'p')
    )
    SELECT r.shown, sum(r.inserted)::bigint, sum(r.updated)::bigint, sum(r.deleted)::bigint,
           sum(r.rows_estimate) FILTER (WHERE r.kind = 'r' AND NOT r.is_gone AND r.rows_estimate >= 0)::bigint,
           coalesce(sum(r.bytes) FILTER (WHERE NOT r.is_gone), 0)::bigint, coalesce(sum(r.grown) FILTER (WHERE NOT r.is_gone), 0)::bigint, sum(r.reads)::bigint,
           count(*) FILTER (WHERE r.kind = 'r' AND NOT r.is_gone AND r.relation <> r.shown),
           coalesce(bool_or(r.is_gone) FILTER (WHERE r.relation = r.shown), false), bool_or(r.is_gone), coalesce(bool_or(r.is_new) FILTER (WHERE r.relation = r.shown), false), bool_or(r.is_new), bool_or(r.is_written), bool_or(r.is_altered),
           ARRAY(SELECT DISTINCT e FROM relation AS x CROSS JOIN unnest(x.events) AS e WHERE x.shown = r.shown ORDER BY e),
           ARRAY(SELECT DISTINCT b FROM relation AS x CROSS JOIN unnest(x.broken) AS b WHERE x.shown = r.shown ORDER BY b),
           min(r.first_look), max(r.last_look), max(r.changed_after), max(r.changed_until)
    FROM relation AS r
    GROUP BY r.shown;
END;
COMMENT ON FUNCTION roneo.observed_trees(integer, bigint, bigint, boolean) IS
    'What became of each table of a source between two looks, its partitions and children added up; or of each partition.';

CREATE OR REPLACE FUNCTION roneo.changes(
    source text,
    schemas text[] DEFAULT NULL,
    since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL,
    by_partition boolean DEFAULT false)
RETURNS TABLE (source_table text, part_of text, verdict text, proven boolean, grows_by text, grows_by_proven boolean,
               inserted bigint, updated bigint, deleted bigint, rows_estimate bigint, bytes bigint, bytes_grown bigint, reads bigint,
               parts bigint, looks bigint, observed_from timestamptz, observed_until timestamptz,
               changed_after timestamptz, changed_until timestamptz, remarks text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked_id  integer := (roneo.require_source(source)).source_id;
    from_look bigint;
    to_look   bigint;
BEGIN
    SELECT min(o.observation_id), max(o.observation_id) INTO from_look, to_look
    FROM roneo.observation AS o
    WHERE o.source_id = asked_id AND o.observed_at >= coalesce(since, '-infinity') AND o.observed_at <= coalesce(until, 'infinity');
    RETURN QUERY
        SELECT format('%I.%I', s.schema_name, s.table_name),
               (SELECT format('%I.%I', p.schema_name, p.table_name) FROM roneo.observed_state AS p
                WHERE p.source_id = asked_id AND p.relation = s.root AND s.root <> s.relation ORDER BY p.state_id DESC LIMIT 1),
               v.verdict, v.doubts IS NULL AND n.looks > 1, g.columns, CASE WHEN g.columns IS NOT NULL THEN g.is_proven AND v.doubts IS NULL END,
               t.inserted, t.updated, t.deleted, t.rows_estimate, t.bytes, t.grown, t.reads, t.parts, n.looks, n.since, n.until,
               (SELECT o.observed_at FROM roneo.observation AS o WHERE o.observation_id = t.changed_after),
               (SELECT o.observed_at FROM roneo.observation AS o WHERE o.observation_id = t.changed_until),
               nullif(concat_ws('; ', v.doubts, nullif(roneo.change_remarks(t.events, t.is_altered, t.is_new AND NOT t.self_new, t.lost_part AND NOT t.is_gone, t.is_written AND t.changed_until IS NOT NULL), '')), '')
        FROM roneo.observed_trees(asked_id, from_look, to_look, by_partition) AS t
        CROSS JOIN LATERAL (SELECT x.* FROM roneo.observed_state AS x WHERE x.source_id = asked_id AND x.relation = t.relation
                            ORDER BY x.state_id DESC LIMIT 1) AS s
        CROSS JOIN LATERAL (
            SELECT count(*), min(o.observed_at), max(o.observed_at), max(o.doubt), bool_or(roneo.hides_changes(o.doubt)) FROM roneo.observation AS o
            WHERE o.source_id = asked_id AND o.observation_id BETWEEN t.first_look AND t.last_look
              AND (o.schemas IS NULL OR s.schema_name = ANY (o.schemas))) AS n (looks, since, until, doubt, is_hidden)
        CROSS JOIN LATERAL (
            SELECT roneo.change_verdict(t.is_gone, t.lost_part, t.events, t.inserted, t.updated, t.deleted, t.is_altered, t.is_new, t.self_new,
                                        n.looks < 2 OR n.is_hidden OR EXISTS (SELECT FROM unnest(t.broken) AS b WHERE roneo.hides_changes(b))),
                   nullif(concat_ws('; ', CASE WHEN n.looks < 2 THEN 'looked at once only' END, nullif(array_to_string(t.broken, ', '), ''), n.doubt,
                                    -- A procedure that commits as it goes is counted at its end.
                                    CASE WHEN t.is_written AND t.changed_until IS NULL THEN 'somebody was writing at the last look' END,
                                    CASE WHEN 'new file' = ANY (t.events) THEN 'its file is another one, and why could not be told' END), '')) AS v (verdict, doubts)
        LEFT JOIN LATERAL (
            SELECT string_agg(c.column_name, ', '), bool_or(c.is_proven)
            FROM (SELECT c.*, bool_or(c.is_proven) OVER () AS any_proven FROM roneo.grown_columns(asked_id, from_look, to_look, t.relation) AS c) AS c
            WHERE v.verdict = 'grows' AND c.is_proven = c.any_proven) AS g (columns, is_proven) ON true
        WHERE changes.schemas IS NULL OR s.schema_name = ANY (changes.schemas)
        ORDER BY t.bytes DESC, 1;
END;
$$;
COMMENT ON FUNCTION roneo.changes(text, text[], timestamptz, timestamptz, boolean) IS
    'What became of a source''s tables while roneo.observe looked at them: which never changed, which only grow and by which column, which are updated, deleted from, truncated or rewritten, and of which that is unknown; and whether it is proven.';
-- The content of a table, or of a part of it, in one line: the same wherever the rows are the same,
-- whatever their order, their files, the server and its version.

-- Of the destination too. Where the table may be locked, that precedes the snapshot: a TRUNCATE in
-- between would make it look empty.
CREATE OR REPLACE FUNCTION roneo.fingerprint_find_query(wanted text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.parse_name(wanted, NULL);
    RETURN format($query$SELECT pg_catalog.jsonb_build_object('path', pg_catalog.current_setting('search_path'), 'role', current_user,
    'encoding', pg_catalog.current_setting('server_encoding'), 'oid', pg_catalog.to_regclass(%1$L)::pg_catalog.oid,
    'lock', (SELECT pg_catalog.format('LOCK TABLE %%I.%%I IN ACCESS SHARE MODE', n.nspname, c.relname)
             FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
             WHERE c.oid = pg_catalog.to_regclass(%1$L) AND c.relkind IN ('r', 'p', 'v')
               AND pg_catalog.has_table_privilege(c.oid, 'SELECT')))::text$query$, wanted);
END;
$$;
COMMENT ON FUNCTION roneo.fingerprint_find_query(text) IS
    'A query for whichever server has the table: where its name leads, under the search_path of the role, and how to lock it. Raises RO006.';

CREATE OR REPLACE FUNCTION roneo.fingerprint_opening(named jsonb, time_limit interval DEFAULT NULL)
RETURNS text LANGUAGE sql STABLE
RETURN concat_ws('; ', roneo.source_opening(),
    format('SET LOCAL statement_timeout = %s', least(round(extract(epoch FROM greatest(time_limit, '0')) * 1000), 2147483647)),
    named ->> 'lock');
COMMENT ON FUNCTION roneo.fingerprint_opening(jsonb, interval) IS
    'Statements that open the transaction in which a fingerprint is taken: one snapshot, read only, each statement limited in time.';

CREATE OR REPLACE FUNCTION roneo.fingerprint_path(named jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('SET LOCAL search_path = %s', coalesce(nullif(named ->> 'path', ''), ''''''));
COMMENT ON FUNCTION roneo.fingerprint_path(jsonb) IS
    'A statement after which a condition, and what a view calls, is found as the role finds it.';

-- What a database of another encoding makes of the same characters.
CREATE OR REPLACE FUNCTION roneo.utf8_bytes(characters text)
RETURNS bytea LANGUAGE sql STABLE
RETURN convert_to(characters, CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END);
COMMENT ON FUNCTION roneo.utf8_bytes(text) IS
    'A text in UTF8, whatever the encoding here; of SQL_ASCII its bytes as they are.';

-- By name, so that neither dropped columns nor their order matter.
CREATE OR REPLACE FUNCTION roneo.fingerprint_columns(description jsonb, columns text[])
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object('name', c.col ->> 'name', 'type', c.col ->> 'type',
                                                 'kind', roneo.hash_kind(c.col ->> 'type_base')) ORDER BY roneo.utf8_bytes(c.col ->> 'name')), '[]')
    FROM jsonb_array_elements(description #> '{relation,columns}') AS c (col)
    WHERE columns IS NULL OR c.col ->> 'name' = ANY (columns)
);
COMMENT ON FUNCTION roneo.fingerprint_columns(jsonb, text[]) IS 'What a fingerprint is taken of, in its order.';

CREATE OR REPLACE FUNCTION roneo.fingerprint_weak(hash text)
RETURNS text[] LANGUAGE sql IMMUTABLE
RETURN CASE hash WHEN 'md5' THEN ARRAY['ascii', 'bool', 'bytes', 'date', 'int4', 'int8', 'numeric', 'oid', 'padded', 'text', 'time', 'timestamp', 'timestamptz', 'uuid'] ELSE '{}' END;
COMMENT ON FUNCTION roneo.fingerprint_weak(text) IS 'The kinds that are hashed by md5: with md5, all of them.';

CREATE OR REPLACE FUNCTION roneo.require_fingerprintable(place text, wanted text, description jsonb, columns text[], hash text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    closed name[];
BEGIN
    IF place IS NULL AND coalesce(description -> 'relation', 'null') = 'null' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO004',
            MESSAGE = format('this database has no table %s', wanted),
            DETAIL  = format('Looked for as role %s, whose search_path is %s.', description ->> 'role', description ->> 'path'),
            HINT    = 'Name the source that has it, or the schema too.';
    END IF;
    PERFORM roneo.require_described(coalesce(place, 'here'), wanted, description);
    PERFORM roneo.require_columns_exist(columns, description);
    IF hash NOT IN ('fast', 'md5') OR hash IS NULL THEN
        PERFORM roneo.bad_argument(format('there is no hash called %s', coalesce(quote_ident(hash), 'NULL')),
                                   'Say fast, or md5 between servers whose own hashes differ.');
    END IF;
    SELECT array_agg((c.col ->> 'name')::name ORDER BY (c.col ->> 'number')::integer) INTO closed
    FROM jsonb_array_elements(description #> '{relation,columns}') AS c (col)
    WHERE (columns IS NULL OR c.col ->> 'name' = ANY (columns)) AND NOT (c.col ->> 'readable')::boolean;
    IF closed IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I may not read %s of %s', description ->> 'role', roneo.column_list(closed), wanted),
            HINT    = format('GRANT SELECT ON TABLE %I.%I TO %I; or choose columns that it may read.', description #>> '{relation,schema}',
                             description #>> '{relation,name}', description ->> 'role');
    ELSIF (description #>> '{relation,row_security}')::boolean THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I sees only the rows of %s that policies show it', description ->> 'role', wanted),
            HINT    = format('ALTER ROLE %I BYPASSRLS; or take it as another role.', description ->> 'role');
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_fingerprintable(text, text, jsonb, text[], text) IS
    'Raises RO004, RO007 or RO009 where no fingerprint can be taken.';

CREATE OR REPLACE FUNCTION roneo.bytes_are_of(place text, description jsonb)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    declared text;
BEGIN
    IF description ->> 'encoding' <> 'SQL_ASCII' THEN
        RETURN 'server';
    END IF;
    declared := (SELECT s.source_encoding FROM roneo.source AS s WHERE s.source_name = place);
    IF declared IS NULL THEN
        PERFORM roneo.bad_argument(
            format('%s is a SQL_ASCII database, and what its bytes mean is not known', coalesce(format('source %I', place), 'this')),
            CASE WHEN place IS NULL THEN 'Take it without any_encoding.'
                 ELSE format('UPDATE roneo.source SET source_encoding = ''LATIN1'' WHERE source_name = %L; or whichever it is.', place) END);
    END IF;
    RETURN declared;
END;
$$;
COMMENT ON FUNCTION roneo.bytes_are_of(text, jsonb) IS
    'In which encoding the bytes of a place are, as portable_text takes it. Raises RO007 for a SQL_ASCII database that is not said to have one.';

CREATE OR REPLACE FUNCTION roneo.fingerprint_query(
    place text, wanted text, description jsonb, filter text, columns text[], hash text, any_encoding boolean)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    relation jsonb := description -> 'relation';
    hashed   jsonb;
    taken_of text;
BEGIN
    PERFORM roneo.require_fingerprintable(place, wanted, description, columns, hash);
    SELECT jsonb_agg(jsonb_build_object('expression', quote_ident(c.col ->> 'name'), 'kind', c.col -> 'kind', 'nullable', true,
                                        'is_jsonb', d.col ->> 'type_base' = 'jsonb') ORDER BY c.nr)
    INTO hashed
    FROM jsonb_array_elements(roneo.fingerprint_columns(description, columns)) WITH ORDINALITY AS c (col, nr)
    JOIN jsonb_array_elements(relation -> 'columns') AS d (col) ON d.col ->> 'name' = c.col ->> 'name';
    taken_of := format('%I.%I', relation ->> 'schema', relation ->> 'name');
    IF filter IS NOT NULL THEN
        -- Twice, as in filter_query: what leaves its parentheses fails.
        taken_of := format(E'%1$s WHERE (%2$s\n) AND CASE WHEN %2$s\n THEN true END', taken_of, filter);
    END IF;
    RETURN format($query$SELECT pg_catalog.jsonb_build_object('rows', f.rows, 'sum', f.sum, 'handshake', (%1$s),
    'snapshot', pg_catalog.pg_current_snapshot()::text, 'taken_at', %2$s, 'version', pg_catalog.current_setting('server_version'),
    'database', pg_catalog.current_database(), 'system_identifier', (SELECT c.system_identifier::text FROM pg_catalog.pg_control_system() AS c),
    'seconds', pg_catalog.round(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - pg_catalog.statement_timestamp())::numeric, 3))::text
FROM (SELECT %3$s FROM %4$s) AS f$query$,
        roneo.handshake_query(), roneo.utc_text('pg_catalog.statement_timestamp()'),
        roneo.hash_sum(roneo.row_hash(coalesce(hashed, '[]'), roneo.fingerprint_weak(hash), CASE WHEN any_encoding THEN roneo.bytes_are_of(place, description) END)), taken_of);
END;
$$;
COMMENT ON FUNCTION roneo.fingerprint_query(text, text, jsonb, text, text[], text, boolean) IS
    'A query for the server that has a described table: count and sum of hashes of its rows. Raises RO004, RO007, RO009.';

-- How rows were hashed: what servers make of constants differs where their hashes do.
CREATE OR REPLACE FUNCTION roneo.fingerprint_scheme(columns jsonb, handshake jsonb, encoding text, hash text, any_encoding boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN left(md5(concat_ws(' ', hash,
    CASE WHEN hash <> 'md5' THEN (SELECT string_agg(h.key || h.value, ' ' ORDER BY h.key COLLATE "C") FROM jsonb_each_text(handshake) AS h
                                  WHERE h.key IN ('int4', 'text') OR h.key IN (SELECT c.col ->> 'kind' FROM jsonb_array_elements(columns) AS c (col))) END,
    CASE WHEN any_encoding THEN 'any' WHEN EXISTS (SELECT FROM jsonb_array_elements(columns) AS c (col) WHERE c.col ->> 'kind' IN ('text', 'padded'))
         THEN encoding END)), 8);
COMMENT ON FUNCTION roneo.fingerprint_scheme(jsonb, jsonb, text, text, boolean) IS
    'Eight digits that two fingerprints must share to be compared.';

CREATE OR REPLACE FUNCTION roneo.fingerprint_document(
    place text, description jsonb, filter text, columns text[], hash text, any_encoding boolean, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT jsonb_build_object(
        'fingerprint', format('roneo1:%s:%s:%s:%s', answer ->> 'rows', md5(answer ->> 'sum'), d.columns_digest, d.scheme),
        'algorithm', 1, 'hash', hash, 'any_encoding', any_encoding, 'scheme', d.scheme,
        'source', place, 'table', format('%I.%I', description #>> '{relation,schema}', description #>> '{relation,name}'),
        'filter', filter, 'columns', d.columns, 'columns_digest', d.columns_digest,
        'rows', answer -> 'rows', 'sum', answer -> 'sum', 'taken_at', answer -> 'taken_at', 'snapshot', answer -> 'snapshot',
        'seconds', answer -> 'seconds', 'server_version', answer -> 'version', 'database', answer -> 'database',
        'system_identifier', answer -> 'system_identifier', 'encoding', description -> 'encoding')
    FROM (SELECT c.columns, roneo.fingerprint_scheme(c.columns, answer -> 'handshake', description ->> 'encoding', hash, any_encoding) AS scheme,
                 (SELECT left(md5(roneo.utf8_bytes(string_agg(format('%I %s', e.col ->> 'name', e.col ->> 'type'), ',' ORDER BY e.nr))), 8)
                  FROM jsonb_array_elements(c.columns) WITH ORDINALITY AS e (col, nr)) AS columns_digest
          FROM (SELECT roneo.fingerprint_columns(description, fingerprint_document.columns)) AS c (columns)) AS d
);
COMMENT ON FUNCTION roneo.fingerprint_document(text, jsonb, text, text[], text, boolean, jsonb) IS
    'What a fingerprint says, from the answer to fingerprint_query.';

CREATE OR REPLACE FUNCTION roneo.remote_fingerprint(
    source_name text, wanted text, filter text, columns text[], time_limit interval, hash text, any_encoding boolean)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    link        text := roneo.open_link(source_name);
    named       jsonb;
    description jsonb;
    answer      jsonb;
BEGIN
    PERFORM roneo.parse_name(wanted, NULL);
    -- It says which grant is missing where a schema is closed.
    PERFORM roneo.find_over_link(link, source_name, wanted);
    named := roneo.ask_link(link, roneo.fingerprint_find_query(wanted));
    PERFORM roneo.tell_link(link, roneo.fingerprint_opening(named, time_limit));
    description := named || roneo.ask_link(link, roneo.describe_query(named ->> 'oid'))::jsonb;
    PERFORM roneo.require_fingerprintable(source_name, wanted, description, columns, hash);
    PERFORM roneo.tell_link(link, roneo.fingerprint_path(named));
    IF filter IS NOT NULL THEN
        PERFORM roneo.try_filter(link, description, filter);
    END IF;
    answer := roneo.ask_link(link, roneo.fingerprint_query(source_name, wanted, description, filter, columns, hash, any_encoding));
    PERFORM roneo.close_link(link);
    RETURN roneo.fingerprint_document(source_name, description, filter, columns, hash, any_encoding, answer);
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link(link);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.remote_fingerprint(text, text, text, text[], interval, text, boolean) IS
    'The fingerprint of a table of a source, over dblink.';

-- Under the search_path of its caller, which names in the filter are found by: all of ours is qualified.
CREATE OR REPLACE FUNCTION roneo.try_local_filter(description jsonb, filter text, path text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    PERFORM set_config('search_path', path, true);
    EXECUTE roneo.filter_query(description #>> '{relation,schema}', description #>> '{relation,name}', filter);
EXCEPTION WHEN query_canceled THEN
    RAISE;
WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    PERFORM roneo.refuse_filter(description, filter, problem);
END;
$$;
COMMENT ON FUNCTION roneo.try_local_filter(jsonb, text, text) IS 'Raises RO007 where a table of this database does not accept the filter.';

CREATE OR REPLACE FUNCTION roneo.local_fingerprint(
    wanted text, filter text, columns text[], hash text, any_encoding boolean, path text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, YMD'
SET IntervalStyle = 'postgres'
SET extra_float_digits = 3
SET bytea_output = 'hex'
SET xmloption = 'content'
SET lc_monetary = 'C'
SET standard_conforming_strings = 'on'
SET row_security = off
AS $$
DECLARE
    named       jsonb;
    description jsonb;
    answer      jsonb;
BEGIN
    PERFORM set_config('search_path', path, true);
    EXECUTE roneo.fingerprint_find_query(wanted) INTO named;
    IF named ->> 'lock' IS NOT NULL THEN
        EXECUTE named ->> 'lock';
    END IF;
    PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
    EXECUTE roneo.describe_query(named ->> 'oid') INTO description;
    description := named || description;
    PERFORM roneo.require_fingerprintable(NULL, wanted, description, columns, hash);
    PERFORM set_config('search_path', path, true);
    IF filter IS NOT NULL THEN
        PERFORM roneo.try_local_filter(description, filter, path);
    END IF;
    EXECUTE roneo.fingerprint_query(NULL, wanted, description, filter, columns, hash, any_encoding) INTO answer;
    RETURN roneo.fingerprint_document(NULL, description, filter, columns, hash, any_encoding, answer);
END;
$$;
COMMENT ON FUNCTION roneo.local_fingerprint(text, text, text[], text, boolean, text) IS
    'The fingerprint of a table of this database.';

-- A parsed body has no path of its own, and so knows that of its caller.
CREATE OR REPLACE FUNCTION roneo.fingerprint(
    relation text,
    filter text DEFAULT NULL,
    columns text[] DEFAULT NULL,
    source text DEFAULT NULL,
    time_limit interval DEFAULT NULL,
    hash text DEFAULT 'fast',
    any_encoding boolean DEFAULT false)
RETURNS jsonb LANGUAGE sql
RETURN CASE WHEN source IS NOT NULL
    THEN roneo.remote_fingerprint(source, relation, filter, columns, time_limit, hash, any_encoding)
    ELSE roneo.local_fingerprint(relation, filter, columns, hash, any_encoding, current_setting('search_path')) END;
COMMENT ON FUNCTION roneo.fingerprint(text, text, text[], text, interval, text, boolean) IS
    'The content of a table or view here, or of a source over dblink, or of the rows that a condition is true for, as a short text under the key fingerprint, with what it was taken of. Equal texts: equal rows, in any order, of any version. time_limit: of each query on the source. hash: fast, or md5 between servers whose own hashes differ. any_encoding: for servers of unlike encodings.';

CREATE OR REPLACE FUNCTION roneo.fingerprint_parts(given text)
RETURNS text[] LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    line text := btrim(given, E' \n\r\t');
BEGIN
    IF starts_with(line, '{') THEN
        line := line::jsonb ->> 'fingerprint';
    END IF;
    IF line ~ '^roneo[0-9]+:[0-9]+:[0-9a-f]{32}:[0-9a-f]{8}:[0-9a-f]{8}$' THEN
        RETURN string_to_array(line, ':');
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'RO007',
        MESSAGE = 'this is not a fingerprint',
        HINT    = 'A fingerprint begins with roneo1: and is what roneo fingerprint prints, or the JSON of --json.';
EXCEPTION WHEN invalid_text_representation THEN
    RAISE EXCEPTION USING
        ERRCODE = 'RO007',
        MESSAGE = 'this is neither a fingerprint nor JSON',
        HINT    = 'A fingerprint begins with roneo1: and is what roneo fingerprint prints, or the JSON of --json.';
END;
$$;
COMMENT ON FUNCTION roneo.fingerprint_parts(text) IS
    'Version, rows, content, columns and scheme of a fingerprint, given as its line or its JSON; raises RO007.';

CREATE OR REPLACE FUNCTION roneo.compare_fingerprints(one text, other text, OUT is_equal boolean, OUT difference text)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE WHEN a[1] <> b[1] OR a[4] = b[4] AND a[5] <> b[5] THEN NULL ELSE a = b END,
           CASE WHEN a[1] <> b[1] THEN 'taken by other versions of roneo: take both by one'
                -- Which columns there are decides how they are hashed.
                WHEN a[4] <> b[4] THEN concat('other columns or types', CASE WHEN a[2] <> b[2] THEN format(', and %s rows, not %s', b[2], a[2]) END)
                WHEN a[5] <> b[5] THEN 'hashed in different ways: take both with the same options; with md5 and any_encoding if they are of unlike servers'
                WHEN a[2] <> b[2] THEN format('%s rows, not %s', b[2], a[2])
                WHEN a[3] <> b[3] THEN 'as many rows, but not the same' END
    FROM (SELECT roneo.fingerprint_parts(one), roneo.fingerprint_parts(other)) AS p (a, b);
END;
COMMENT ON FUNCTION roneo.compare_fingerprints(text, text) IS
    'Whether two fingerprints, as lines or as JSON, are of the same rows, and what differs; NULL where that cannot be told.';
-- Which method suits which table of a source: from what its columns, keys and rights are, what it counts,
-- and what roneo.observe has seen of it.

-- Rows a day, from looks where there were two; else from the server's counters, which may have counted
-- the load of the table.
CREATE OR REPLACE FUNCTION roneo.change_rates(source_name text, survey jsonb)
RETURNS TABLE (relation bigint, days numeric, inserted numeric, updated numeric, deleted numeric, verdict text, grows_by text, known_from text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH counted AS (
        SELECT (e.relation ->> 'root')::bigint AS relation, sum((e.relation ->> 'ins')::numeric) AS inserted,
               sum((e.relation ->> 'upd')::numeric) AS updated, sum((e.relation ->> 'del')::numeric) AS deleted
        FROM jsonb_array_elements(survey -> 'relations') AS e (relation)
        WHERE e.relation ->> 'kind' IN ('r', 'p')
        GROUP BY 1
    ), since AS (
        SELECT greatest((survey #>> '{identity,stats_reset}')::timestamptz, (survey #>> '{identity,stats_discarded}')::timestamptz) AS at,
               (survey #>> '{identity,clock}')::timestamptz AS now,
               survey #>> '{identity,in_recovery}' = 'false' AND survey ->> 'track_counts' = 'on' AS counts
    ), seen AS (
        SELECT c.*, extract(epoch FROM c.observed_until - c.observed_from) / 86400 AS days,
               n.relation
        FROM roneo.changes(source_name) AS c
        JOIN (SELECT format('%I.%I', e.relation ->> 'schema', e.relation ->> 'name') AS name, (e.relation ->> 'oid')::bigint AS relation
              FROM jsonb_array_elements(survey -> 'relations') AS e (relation)) AS n ON n.name = c.source_table
        WHERE c.looks > 1 AND c.observed_until > c.observed_from AND c.verdict <> 'unknown'
    )
    SELECT c.relation, CASE WHEN s.days > 1 / 24.0 THEN s.days WHEN s.days IS NULL AND since.now - since.at > interval '1 day' THEN extract(epoch FROM since.now - since.at) / 86400 END,
           coalesce(s.inserted, CASE WHEN since.counts THEN c.inserted END), coalesce(s.updated, CASE WHEN since.counts THEN c.updated END),
           coalesce(s.deleted, CASE WHEN since.counts THEN c.deleted END), s.verdict || CASE WHEN s.proven THEN '' ELSE '?' END, s.grows_by,
           CASE WHEN s.days IS NOT NULL THEN concat('observed since ', to_char(s.observed_from, 'YYYY-MM-DD HH24:MI'),
                                                    CASE WHEN NOT s.proven THEN format(', not proven (%s)', s.remarks) END)
                WHEN since.counts THEN concat('counted since ', to_char(since.at, 'YYYY-MM-DD HH24:MI')) END
    FROM counted AS c CROSS JOIN since LEFT JOIN seen AS s ON s.relation = c.relation;
END;
COMMENT ON FUNCTION roneo.change_rates(text, jsonb) IS
    'How many rows of each table of a source came, changed and went, in how many days, and how that is known. days: NULL where they are too few for a rate. verdict: as changes has it, with a question mark where it is not proven; NULL where nothing is known.';

-- First what was seen to grow, then what is made to; an index before none.
CREATE OR REPLACE FUNCTION roneo.control_choice(controls jsonb, follows_updates boolean, grows_by text)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT c.col
    FROM jsonb_array_elements(controls) WITH ORDINALITY AS c (col, nr)
    WHERE CASE WHEN follows_updates THEN (c.col ->> 'touched')::boolean
               ELSE c.col ->> 'given' IS NOT NULL OR c.col ->> 'name' = ANY (string_to_array(grows_by, ', ')) END
    ORDER BY (c.col ->> 'indexed')::boolean DESC, coalesce(c.col ->> 'name' = ANY (string_to_array(grows_by, ', ')), false) DESC,
             (c.col ->> 'not_null')::boolean DESC, array_position('{identity,serial,clock,uuid}'::text[], c.col ->> 'given'), c.nr
    LIMIT 1
);
COMMENT ON FUNCTION roneo.control_choice(jsonb, boolean, text) IS
    'The column that an inserter, or an updater, best follows; NULL for none.';

-- facts: kind, unlogged, standby, small, key, inserted, updated, deleted, share (of rows that change
-- between two refreshes), grow, touch (columns), keep_deleted, verdict. The first that fits.
CREATE OR REPLACE FUNCTION roneo.method_choice(f jsonb, OUT method text, OUT reason text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT c.method, c.reason
    FROM (SELECT f ->> 'kind' IN ('r', 'p') AS is_table, f -> 'key' <> 'null' AS has_key, NOT (f ->> 'unlogged')::boolean AND NOT (f ->> 'standby')::boolean AS can_capture,
                 (f ->> 'inserted')::numeric AS ins, (f ->> 'updated')::numeric AS upd, (f ->> 'deleted')::numeric AS del,
                 f -> 'grow' <> 'null' AS grows, f -> 'touch' <> 'null' AS is_touched) AS t
    CROSS JOIN LATERAL (VALUES
        (1, f ->> 'kind' = 'v', 'snapshot', 'a view: nothing tells what changed in it'),
        (2, f ->> 'kind' = 'm', 'snapshot', 'a materialized view: nothing tells what changed in it'),
        (3, f ->> 'kind' = 'f', 'snapshot', 'a foreign table: better make its server a source'),
        (4, (f ->> 'keep_deleted')::boolean AND t.has_key AND t.can_capture, 'logdel', 'deleted rows are to stay here'),
        (5, (f ->> 'small')::boolean, 'snapshot', concat('small', CASE WHEN t.ins + t.upd + t.del = 0 THEN ', and skipped while nothing changes' END)),
        (6, t.ins + t.upd + t.del = 0 AND f ->> 'verdict' = 'unchanged', 'snapshot', 'it never changed while it was observed, and is skipped as long as that is so'),
        (7, t.ins + t.upd + t.del = 0 AND f ->> 'verdict' = 'unchanged?', 'snapshot', 'no change was seen while it was observed, and it is skipped as long as that is so'),
        (7, t.ins + t.upd + t.del = 0 AND f ->> 'verdict' IS NULL, 'snapshot', 'no change is counted, and it is skipped as long as that is so'),
        (8, (f ->> 'share')::numeric > 0.5, 'snapshot', 'most rows change between two refreshes'),
        (9, t.upd + t.del = 0 AND t.grows AND t.has_key, 'inserter', format('rows are only added, and %s grows with them', quote_ident(f #>> '{grow,name}'))),
        (10, t.upd + t.del = 0 AND t.grows, 'inserter', format('rows are only added, and %s grows with them; there is no key, so append_only is your word that it stays so', quote_ident(f #>> '{grow,name}'))),
        (11, NOT t.has_key, 'snapshot', 'it has no key to match rows by'),
        (12, t.del = 0 AND t.is_touched, 'updater', format('no row is deleted, and a trigger gives each changed one a new %s', quote_ident(f #>> '{touch,name}'))),
        (13, t.can_capture, 'dml', CASE WHEN t.del > 0 THEN 'deletes must arrive' ELSE 'rows change, and no column tells which' END),
        (14, t.is_touched, 'updater', format('a trigger gives each changed row a new %s; deletes do not arrive', quote_ident(f #>> '{touch,name}'))),
        (15, t.grows AND t.upd = 0, 'inserter', format('%s grows with new rows; deletes do not arrive', quote_ident(f #>> '{grow,name}'))),
        (16, true, 'snapshot', CASE WHEN (f ->> 'standby')::boolean THEN 'a standby counts nothing and takes no triggers' ELSE 'it is unlogged, and no column tells which rows changed' END)
    ) AS c (place, fits, method, reason)
    WHERE c.fits
    ORDER BY c.place
    LIMIT 1;
END;
COMMENT ON FUNCTION roneo.method_choice(jsonb) IS 'The method for a table with these facts, and why.';

CREATE OR REPLACE FUNCTION roneo.method_statement(
    source_name text, table_name text, method text, control text, has_key boolean, refresh_every interval, is_big boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('SELECT roneo.create_%s(%s);', method, concat_ws(', ', quote_literal(source_name), quote_literal(table_name),
    CASE WHEN method IN ('inserter', 'updater') THEN format('control => %L', control) END,
    CASE WHEN method = 'inserter' AND NOT has_key THEN 'append_only => true' END,
    CASE WHEN is_big THEN 'copy_data => false' END,
    format('refresh_every => %L', refresh_every)));
COMMENT ON FUNCTION roneo.method_statement(text, text, text, text, boolean, interval, boolean) IS
    'The statement that registers a replica as advised.';

-- What the role of the source lacks, as statements to be run there.
CREATE OR REPLACE FUNCTION roneo.method_needs(source_name text, survey jsonb, relation jsonb, method text, control jsonb)
RETURNS text[] LANGUAGE sql STABLE
RETURN array_remove(ARRAY[
    CASE WHEN NOT (relation ->> 'usage')::boolean THEN format('GRANT USAGE ON SCHEMA %I TO %I;', relation ->> 'schema', survey ->> 'user') END,
    CASE WHEN NOT (relation ->> 'readable')::boolean THEN format('GRANT SELECT ON TABLE %I.%I TO %I;', relation ->> 'schema', relation ->> 'name', survey ->> 'user') END,
    CASE WHEN (relation ->> 'row_security')::boolean THEN format('ALTER ROLE %I BYPASSRLS;', survey ->> 'user') END,
    CASE WHEN method IN ('inserter', 'updater') AND NOT (control ->> 'indexed')::boolean
         THEN format('CREATE INDEX %sON %I.%I (%I);', CASE WHEN relation ->> 'kind' = 'r' THEN 'CONCURRENTLY ' END,
                     relation ->> 'schema', relation ->> 'name', control ->> 'name') END,
    CASE WHEN method IN ('dml', 'logdel') AND NOT (survey ->> 'superuser')::boolean
              AND NOT ((relation ->> 'owned')::boolean AND coalesce((survey ->> 'capture')::boolean, (survey ->> 'creates')::boolean))
         THEN format('-- a DBA runs what this prints: roneo preflight %s --capture %s%s', source_name,
                     format('%I.%I', relation ->> 'schema', relation ->> 'name'), CASE WHEN method = 'logdel' THEN ' --keeps-deleted' END) END], NULL);
COMMENT ON FUNCTION roneo.method_needs(text, jsonb, jsonb, text, jsonb) IS
    'What is missing on a source before a table can be copied by a method, as SQL to run there.';

CREATE OR REPLACE FUNCTION roneo.method_rights(survey jsonb, relation jsonb, method text)
RETURNS text LANGUAGE sql STABLE
RETURN concat('SELECT: ', CASE WHEN (relation ->> 'usage')::boolean AND (relation ->> 'readable')::boolean THEN 'yes' ELSE 'no' END,
    CASE WHEN method IN ('dml', 'logdel') THEN concat('; owner: ', CASE WHEN (survey ->> 'superuser')::boolean OR (relation ->> 'owned')::boolean THEN 'yes' ELSE 'no' END,
         '; roneo_capture: ', CASE WHEN (survey ->> 'superuser')::boolean OR (survey ->> 'capture')::boolean THEN 'yes'
                                   WHEN survey ->> 'capture' IS NULL AND (survey ->> 'creates')::boolean THEN 'can be made' ELSE 'no' END) END);
COMMENT ON FUNCTION roneo.method_rights(jsonb, jsonb, text) IS 'Which rights a method needs on a source, and whether the role has them.';

-- Megabytes a second: what refreshes of this source did, else a guess.
CREATE OR REPLACE FUNCTION roneo.copy_speed(source_name text, OUT bytes_a_second numeric, OUT is_measured boolean)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT coalesce(m.speed, 30000000), m.speed IS NOT NULL
    FROM (SELECT sum(u.bytes) / nullif(sum(u.seconds), 0) AS speed
          FROM roneo.run AS u
          JOIN roneo.replica AS r USING (replica_id)
          JOIN roneo.source AS s USING (source_id)
          WHERE s.source_name = copy_speed.source_name AND u.outcome = 'ok' AND u.bytes > 1000000) AS m;
END;
COMMENT ON FUNCTION roneo.copy_speed(text) IS 'How many bytes a second refreshes of a source have copied; 30 MB where none of more than 1 MB was measured.';

CREATE OR REPLACE FUNCTION roneo.advice_facts(source_name text, survey jsonb, refresh_every interval, small_mb integer, keep_deleted boolean)
RETURNS TABLE (relation jsonb, facts jsonb) LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH entry AS MATERIALIZED (
        SELECT e.relation FROM jsonb_array_elements(survey -> 'relations') AS e (relation)
    ), tree AS (
        SELECT l.relation -> 'root' AS root, sum((l.relation ->> 'bytes')::bigint) AS bytes,
               sum(CASE WHEN (l.relation ->> 'rows')::bigint >= 0 THEN (l.relation ->> 'rows')::bigint ELSE (l.relation ->> 'live')::bigint END)
                   FILTER (WHERE l.relation ->> 'kind' <> 'p') AS rows
        FROM entry AS l
        GROUP BY 1
    )
    SELECT e.relation, jsonb_build_object(
        'kind', e.relation -> 'kind', 'unlogged', e.relation ->> 'persistence' = 'u', 'standby', survey #> '{identity,in_recovery}',
        'small', coalesce(t.bytes <= small_mb * 1000000::bigint, false), 'key', e.relation -> 'key', 'keep_deleted', keep_deleted,
        'bytes', t.bytes, 'rows', t.rows, 'inserted', r.inserted, 'updated', r.updated, 'deleted', r.deleted, 'days', r.days,
        'known_from', r.known_from, 'verdict', r.verdict,
        'share', (r.inserted + r.updated + r.deleted) / nullif(r.days * nullif(t.rows, 0), 0) * (extract(epoch FROM refresh_every) / 86400),
        'grow', roneo.control_choice(e.relation -> 'controls', false, r.grows_by),
        'touch', roneo.control_choice(e.relation -> 'controls', true, NULL))
    FROM tree AS t
    JOIN entry AS e ON e.relation -> 'oid' = t.root
    LEFT JOIN roneo.change_rates(source_name, survey) AS r ON r.relation = (e.relation ->> 'oid')::bigint;
END;
COMMENT ON FUNCTION roneo.advice_facts(text, jsonb, interval, integer, boolean) IS 'What a method is chosen by, of each table of a source.';

CREATE OR REPLACE FUNCTION roneo.advice_remarks(relation jsonb, facts jsonb, method text, control jsonb, is_big boolean)
RETURNS text LANGUAGE sql STABLE
RETURN nullif(concat_ws('; ',
    CASE WHEN method IN ('inserter', 'updater') AND NOT (control ->> 'not_null')::boolean
         THEN format('%I may be NULL: say null_control if it is', control ->> 'name') END,
    CASE WHEN method IN ('inserter', 'updater') AND is_big
         THEN 'load what is there with: roneo refresh --repull, after it is made' END,
    CASE WHEN relation ->> 'kind' IN ('r', 'p') AND relation -> 'key' = 'null' THEN 'no key' END,
    CASE WHEN relation ->> 'persistence' = 'u' THEN 'unlogged' END,
    CASE WHEN facts ->> 'known_from' IS NULL AND relation ->> 'kind' IN ('r', 'p') THEN 'nothing is known of its changes' END), '');
COMMENT ON FUNCTION roneo.advice_remarks(jsonb, jsonb, text, jsonb, boolean) IS 'What is to be known of an advice besides.';

CREATE OR REPLACE FUNCTION roneo.judge_methods(
    name text, survey jsonb, refresh_every interval DEFAULT '10 minutes', small_mb integer DEFAULT 100,
    keep_deleted boolean DEFAULT false, as_tables boolean DEFAULT false)
RETURNS TABLE (source_table text, kind text, method text, reason text, control text, key_columns text[], rows_estimate bigint, bytes bigint,
               added_per_day numeric, updated_per_day numeric, deleted_per_day numeric, known_from text,
               refresh_bytes bigint, refresh_seconds numeric, speed_is_measured boolean, rights text, needs text[], remarks text,
               copied_as text, statement text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT n.name, CASE f.relation ->> 'kind' WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned' WHEN 'v' THEN 'view' WHEN 'm' THEN 'matview' ELSE 'foreign' END,
           c.method, m.reason, c.control ->> 'name', ARRAY(SELECT jsonb_array_elements_text(nullif(f.relation -> 'key', 'null'))),
           (f.facts ->> 'rows')::bigint, (f.facts ->> 'bytes')::bigint,
           round((f.facts ->> 'inserted')::numeric / d.days, 1), round((f.facts ->> 'updated')::numeric / d.days, 1), round((f.facts ->> 'deleted')::numeric / d.days, 1),
           f.facts ->> 'known_from', b.refresh_bytes, round(b.refresh_bytes / v.bytes_a_second, 2), v.is_measured,
           roneo.method_rights(survey, f.relation, c.method), roneo.method_needs(judge_methods.name, survey, f.relation, c.method, c.control),
           roneo.advice_remarks(f.relation, f.facts, c.method, c.control, d.is_big), u.copied_as,
           CASE WHEN u.copied_as IS NULL THEN concat(
               CASE WHEN to_regnamespace(quote_ident(f.relation ->> 'schema')) IS NULL THEN format('CREATE SCHEMA IF NOT EXISTS %I; ', f.relation ->> 'schema') END,
               roneo.method_statement(judge_methods.name, n.name, c.method, c.control ->> 'name', f.relation -> 'key' <> 'null', refresh_every, d.is_big)) END
    FROM roneo.advice_facts(name, survey, refresh_every, small_mb, keep_deleted) AS f
    CROSS JOIN roneo.copy_speed(name) AS v
    CROSS JOIN LATERAL roneo.method_choice(f.facts) AS m
    CROSS JOIN LATERAL (SELECT CASE WHEN m.method = 'snapshot' AND as_tables THEN 'plain' ELSE m.method END,
                               nullif(CASE m.method WHEN 'inserter' THEN f.facts -> 'grow' WHEN 'updater' THEN f.facts -> 'touch' END, 'null')) AS c (method, control)
    CROSS JOIN LATERAL (SELECT format('%I.%I', f.relation ->> 'schema', f.relation ->> 'name')) AS n (name)
    CROSS JOIN LATERAL (SELECT nullif((f.facts ->> 'days')::numeric, 0), coalesce((f.facts ->> 'bytes')::bigint > 100000000, false)) AS d (days, is_big)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN c.method IN ('snapshot', 'plain') THEN (f.facts ->> 'bytes')::bigint
                    WHEN f.facts ->> 'share' IS NOT NULL THEN least(1, (f.facts ->> 'share')::numeric) * (f.facts ->> 'bytes')::bigint END::bigint) AS b (refresh_bytes)
    LEFT JOIN LATERAL (
        SELECT string_agg(format('%I.%I by %s', r.dest_schema, r.dest_name, r.method), ', ' ORDER BY r.replica_id)
        FROM roneo.replica AS r JOIN roneo.source AS s USING (source_id)
        WHERE s.source_name = judge_methods.name AND r.source_schema = f.relation ->> 'schema' AND r.source_table = f.relation ->> 'name') AS u (copied_as) ON true
    ORDER BY (f.facts ->> 'bytes')::bigint DESC NULLS LAST, n.name;
END;
COMMENT ON FUNCTION roneo.judge_methods(text, jsonb, interval, integer, boolean, boolean) IS
    'A method for each table of a source, from its answer to survey_probe; see advise.';

CREATE OR REPLACE FUNCTION roneo.advise(
    source text,
    schemas text[] DEFAULT NULL,
    refresh_every interval DEFAULT '10 minutes',
    small_mb integer DEFAULT 100,
    keep_deleted boolean DEFAULT false,
    as_tables boolean DEFAULT false)
RETURNS TABLE (source_table text, kind text, method text, reason text, control text, key_columns text[], rows_estimate bigint, bytes bigint,
               added_per_day numeric, updated_per_day numeric, deleted_per_day numeric, known_from text,
               refresh_bytes bigint, refresh_seconds numeric, speed_is_measured boolean, rights text, needs text[], remarks text,
               copied_as text, statement text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (refresh_every > interval '0') IS NOT TRUE OR (small_mb >= 0) IS NOT TRUE THEN
        PERFORM roneo.bad_argument(format('refresh_every is %s and small_mb is %s', coalesce(refresh_every::text, 'NULL'), coalesce(small_mb::text, 'NULL')),
                                   'Give an interval above 0, and megabytes from 0 on.');
    END IF;
    RETURN QUERY SELECT * FROM roneo.judge_methods(source, roneo.ask_source(source, roneo.survey_probe(source, schemas))::jsonb,
                                                   refresh_every, small_mb, keep_deleted, as_tables);
END;
$$;
COMMENT ON FUNCTION roneo.advise(text, text[], interval, integer, boolean, boolean) IS
    'A method for each table of a source, with the reason, what it costs, what is missing there, and the statement that registers it; over dblink. small_mb: up to this size a table is copied whole. keep_deleted: deleted rows are to stay here. as_tables: plain in place of snapshot.';
-- Who may run what, in one place, last.

-- A refresh writes state, never what a replica is: who may refresh cannot give another's replica a
-- filter or a post_script, which would run as its owner.
CREATE OR REPLACE FUNCTION roneo.needed_grants()
RETURNS TABLE (privilege text, relation regclass, columns name[])
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'SELECT', c.oid::regclass, NULL::name[]
    FROM pg_depend AS d
    JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
    WHERE e.extname = 'roneo' AND d.deptype = 'e' AND c.relkind IN ('r', 'v')
      AND c.oid <> 'roneo.grantee'::regclass
    UNION ALL
    SELECT w.privilege, 'roneo.run'::regclass, NULL
    FROM (VALUES ('INSERT'), ('UPDATE'), ('DELETE')) AS w (privilege)
    UNION ALL
    SELECT 'UPDATE', 'roneo.source'::regclass, ARRAY['paused_since', 'paused_by', 'unread_limits']::name[]
    UNION ALL
    SELECT w.privilege, w.relation, NULL
    FROM (VALUES ('INSERT', 'roneo.verification'::regclass), ('UPDATE', 'roneo.verification'),
                 ('INSERT', 'roneo.verification_slice'), ('UPDATE', 'roneo.verification_slice')) AS w (privilege, relation)
    UNION ALL
    -- Not for a refresh: for roneo.observe, which the same role calls.
    SELECT w.privilege, t.relation, NULL
    FROM (VALUES ('INSERT'), ('UPDATE'), ('DELETE')) AS w (privilege),
         (VALUES ('roneo.observation'::regclass), ('roneo.observed_state'::regclass)) AS t (relation)
    UNION ALL
    SELECT 'UPDATE', s.relation, array_agg(a.attname ORDER BY a.attnum)
    FROM (VALUES
        ('roneo.replica'::regclass,
         ARRAY['source_id', 'source_schema', 'source_table', 'method', 'wanted_columns', 'filter',
               'filter_path', 'refresh_every', 'enabled', 'created_at', 'replica_id', 'source_lockable', 'refresh_group',
               'priority', 'windows', 'window_text', 'window_zone', 'refresh_timeout']),
        ('roneo.control_replica'::regclass,
         ARRAY['replica_id', 'control', 'control_type', 'key_columns', 'key_is_unique', 'append_only', 'null_control',
               'reads_xmin', 'boundary', 'look_back', 'batch_limit', 'blackout', 'control_zone', 'sweep_every']),
        ('roneo.capture_replica'::regclass,
         ARRAY['replica_id', 'capture_id', 'consumer_id', 'key_columns', 'row_level', 'packs', 'deleted_column', 'batch_limit']),
        ('roneo.snapshot_replica'::regclass,
         ARRAY['replica_id', 'table_schema', 'first_table', 'second_table', 'check_changes',
               'max_skip_age', 'post_script']),
        ('roneo.plain_replica'::regclass,
         ARRAY['replica_id', 'sequences', 'truncate_cascade'])
    ) AS s (relation, not_state)
    JOIN pg_attribute AS a ON a.attrelid = s.relation AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attname <> ALL (s.not_state)
    GROUP BY s.relation;
END;
COMMENT ON FUNCTION roneo.needed_grants() IS 'What a role must be granted on our tables and views before it can refresh.';

CREATE OR REPLACE FUNCTION roneo.missing_grants(role_name name)
RETURNS SETOF text LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('GRANT USAGE ON SCHEMA roneo TO %I;', role_name)
    WHERE NOT has_schema_privilege(role_name, 'roneo', 'USAGE')
    UNION ALL
    SELECT format('GRANT %s%s ON TABLE %s TO %I;', n.privilege,
                  CASE WHEN n.columns IS NULL THEN ''
                       ELSE format(' (%s)', roneo.column_list(n.columns)) END,
                  string_agg(n.relation::text, ', ' ORDER BY n.relation::text), role_name)
    FROM roneo.needed_grants() AS n
    WHERE CASE WHEN n.columns IS NULL
          THEN NOT has_table_privilege(role_name, n.relation, n.privilege)
          ELSE EXISTS (SELECT FROM unnest(n.columns) AS k
                       WHERE NOT has_column_privilege(role_name, n.relation, k::text, n.privilege)) END
    GROUP BY n.privilege, n.columns
    UNION ALL
    SELECT format('GRANT EXECUTE ON ROUTINE %s TO %I;',
                  string_agg(f.oid::regprocedure::text, ', ' ORDER BY f.oid), role_name)
    FROM pg_depend AS d
    JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    JOIN pg_proc AS f ON d.classid = 'pg_proc'::regclass AND d.objid = f.oid
    WHERE e.extname = 'roneo' AND d.deptype = 'e'
      AND NOT has_function_privilege(role_name, f.oid, 'EXECUTE')
    HAVING count(*) > 0;
END;
COMMENT ON FUNCTION roneo.missing_grants(name) IS
    'The GRANT statements that a role lacks before it can refresh the replicas that it owns.';

-- A view reads its tables as its owner, but calls its functions as whoever reads it.
CREATE OR REPLACE FUNCTION roneo.status_objects()
RETURNS TABLE (privilege text, object text, acl aclitem[])
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE used AS (
        SELECT d.refobjid
        FROM pg_rewrite AS w
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        WHERE w.ev_class = 'roneo.status'::regclass AND d.refclassid = 'pg_proc'::regclass
        UNION
        SELECT d.refobjid
        FROM used AS u
        JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = u.refobjid
        WHERE d.refclassid = 'pg_proc'::regclass
    )
    SELECT 'USAGE', 'SCHEMA roneo', n.nspacl FROM pg_namespace AS n WHERE n.nspname = 'roneo'
    UNION ALL
    SELECT 'SELECT', format('TABLE %s', c.oid::regclass), c.relacl
    FROM pg_class AS c WHERE c.oid IN ('roneo.status'::regclass, 'roneo.run'::regclass)
    UNION ALL
    SELECT 'EXECUTE', format('FUNCTION %s', f.oid::regprocedure), f.proacl
    FROM used AS u
    JOIN pg_proc AS f ON f.oid = u.refobjid
    WHERE f.pronamespace = 'roneo'::regnamespace;
END;
COMMENT ON FUNCTION roneo.status_objects() IS 'What a role must be granted to see the status of replicas, and their runs.';

CREATE OR REPLACE FUNCTION roneo.wrapper_name(owner name)
RETURNS name LANGUAGE sql IMMUTABLE
RETURN CASE WHEN octet_length(owner::text) <= 52 THEN concat('refresh_as_', owner)
            ELSE concat('refresh_as_', md5(owner::text)) END::name;
COMMENT ON FUNCTION roneo.wrapper_name(name) IS
    'The function that refreshes as an owner of destinations; a long name is replaced by its hash.';

-- SECURITY DEFINER, and owned by the owner of the destinations: steps, filters and post scripts run
-- as that role, never as the one who calls, nor as the owner of the extension.
CREATE OR REPLACE FUNCTION roneo.wrapper_statement(owner name)
RETURNS text LANGUAGE sql STABLE
RETURN format($statement$
CREATE OR REPLACE FUNCTION roneo.%1$I(dest regclass)
RETURNS roneo.run LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $wrapper$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class AS c
                   WHERE c.oid = dest AND c.relowner = %2$L::regrole AND current_user = %3$L) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('%%s is not a table or view of role %%I', dest, %3$L),
            HINT    = 'roneo.grant_refresh(role, dest) makes the function that refreshes it.';
    END IF;
    RETURN roneo.refresh(dest);
END;
$wrapper$$statement$, roneo.wrapper_name(owner), quote_ident(owner), owner);
COMMENT ON FUNCTION roneo.wrapper_statement(name) IS 'The statement that makes the wrapper of an owner.';

CREATE OR REPLACE FUNCTION roneo.grant_refresh(grantee text, dest regclass DEFAULT NULL)
RETURNS SETOF regprocedure LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner   name;
    wrapper regprocedure;
    seen    record;
BEGIN
    PERFORM roneo.refuse_grantee(grantee, dest);
    FOR owner IN
        SELECT DISTINCT pg_get_userbyid(c.relowner)
        FROM roneo.replica AS r JOIN pg_class AS c ON c.oid = r.dest
        WHERE r.dest = grant_refresh.dest OR grant_refresh.dest IS NULL
        ORDER BY 1
    LOOP
        PERFORM roneo.refuse_owner(owner);
        wrapper := roneo.run_make_wrapper(owner);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', wrapper, grantee);
        INSERT INTO roneo.grantee (role_name, dest_owner) VALUES (grantee, owner)
        ON CONFLICT DO NOTHING;
        RETURN NEXT wrapper;
    END LOOP;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO001',
            MESSAGE = 'there is no replica to grant the refresh of',
            HINT    = 'roneo.create_snapshot and roneo.create_plain make replicas.';
    END IF;
    FOR seen IN SELECT o.* FROM roneo.status_objects() AS o LOOP
        EXECUTE format('GRANT %s ON %s TO %I', seen.privilege, seen.object, grantee);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.grant_refresh(text, regclass) IS
    'Lets a role refresh replicas, of all owners or of the owner of dest, and see their status; returns the functions it calls, one an owner.';

CREATE OR REPLACE FUNCTION roneo.revoke_refresh(grantee text, dest regclass DEFAULT NULL)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner   name;
    wrapper regprocedure;
    seen    record;
BEGIN
    FOR owner IN
        DELETE FROM roneo.grantee AS g
        WHERE g.role_name = revoke_refresh.grantee
          AND (dest IS NULL OR g.dest_owner = (SELECT pg_get_userbyid(c.relowner)
                                               FROM pg_class AS c WHERE c.oid = dest))
        RETURNING g.dest_owner
    LOOP
        wrapper := to_regprocedure(format('roneo.%I(regclass)', roneo.wrapper_name(owner)));
        IF wrapper IS NULL THEN
            CONTINUE;
        ELSIF EXISTS (SELECT FROM roneo.grantee AS g WHERE g.dest_owner = owner) THEN
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM %I', wrapper, grantee);
        ELSE
            EXECUTE format('DROP FUNCTION %s', wrapper);
        END IF;
    END LOOP;
    -- An owner of destinations needs them for refreshes of its own.
    IF FOUND AND NOT EXISTS (SELECT FROM roneo.grantee AS g
                             WHERE revoke_refresh.grantee IN (g.role_name, g.dest_owner)) THEN
        FOR seen IN SELECT o.* FROM roneo.status_objects() AS o LOOP
            EXECUTE format('REVOKE %s ON %s FROM %I', seen.privilege, seen.object, grantee);
        END LOOP;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.revoke_refresh(text, regclass) IS 'Takes back what grant_refresh gave.';

CREATE OR REPLACE FUNCTION roneo.refuse_grantee(grantee text, dest regclass)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = grantee) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'undefined_object',
            MESSAGE = format('role %s does not exist', coalesce(quote_ident(grantee), 'NULL')),
            HINT    = 'Refreshes are granted to single roles, and never to PUBLIC.';
    ELSIF dest IS NOT NULL
          AND NOT EXISTS (SELECT FROM roneo.replica AS r WHERE r.dest = refuse_grantee.dest) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO001',
            MESSAGE = format('table %s is not a replica', dest),
            HINT    = 'SELECT dest FROM roneo.replica lists those that are.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.refuse_grantee(text, regclass) IS
    'Raises an error where grant_refresh names no role or no replica.';

CREATE OR REPLACE FUNCTION roneo.refuse_owner(owner name)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lacking text;
BEGIN
    IF (SELECT o.rolsuper FROM pg_roles AS o WHERE o.rolname = owner) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('refreshes of what superuser %I owns cannot be granted', owner),
            DETAIL  = 'Whoever may refresh would run the steps as a superuser.',
            HINT    = 'Give the destinations to another role: ALTER TABLE … OWNER TO, for a snapshot ALTER VIEW … OWNER TO and its two tables.';
    END IF;
    SELECT string_agg(g.statement, ' ') INTO lacking FROM (
        SELECT roneo.missing_grants(owner)
        UNION ALL
        SELECT format('GRANT USAGE ON FOREIGN SERVER %I TO %I;', u.srvname, owner)
        FROM roneo.servers_of(owner) AS u WHERE NOT u.usable
        UNION ALL
        SELECT format('CREATE USER MAPPING FOR %I SERVER %I OPTIONS (user ''…'', password ''…'');',
                      owner, u.srvname)
        FROM roneo.servers_of(owner) AS u WHERE NOT u.mapped
    ) AS g (statement);
    IF lacking IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I, the owner of the destinations, could not refresh them itself', owner),
            DETAIL  = 'A granted refresh runs with the privileges of that role.',
            HINT    = format('Run: %s', lacking);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.refuse_owner(name) IS
    'Raises an error, with the GRANTs that mend it, where an owner of destinations could not refresh them over dblink.';

CREATE OR REPLACE FUNCTION roneo.servers_of(owner name)
RETURNS TABLE (srvname name, usable boolean, mapped boolean)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT DISTINCT f.srvname, has_server_privilege(owner, f.oid, 'USAGE'),
           EXISTS (SELECT FROM roneo.server_mapping(f.srvname, owner))
    FROM roneo.replica AS r
    JOIN pg_class AS c ON c.oid = r.dest AND pg_get_userbyid(c.relowner) = owner
    JOIN roneo.source AS s ON s.source_id = r.source_id
    JOIN pg_foreign_server AS f ON f.srvname = s.server_name;
END;
COMMENT ON FUNCTION roneo.servers_of(name) IS
    'The servers that an owner''s replicas read from, and whether that role may connect through them.';

-- The new owner of a function needs CREATE on its schema for a moment, unless a superuser gives it.
CREATE OR REPLACE FUNCTION roneo.run_make_wrapper(owner name)
RETURNS regprocedure LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    signature text    := format('roneo.%I(regclass)', roneo.wrapper_name(owner));
    lend      boolean := NOT has_schema_privilege(owner, 'roneo', 'CREATE');
    known     boolean := to_regprocedure(signature) IS NOT NULL;
BEGIN
    IF known AND owner = (SELECT pg_get_userbyid(f.proowner) FROM pg_proc AS f
                          WHERE f.oid = to_regprocedure(signature)) THEN
        RETURN to_regprocedure(signature);
    END IF;
    EXECUTE roneo.wrapper_statement(owner);
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', signature);
    -- DROP EXTENSION takes it along.
    EXECUTE format('ALTER FUNCTION %s DEPENDS ON EXTENSION roneo', signature);
    IF lend THEN
        EXECUTE format('GRANT CREATE ON SCHEMA roneo TO %I', owner);
    END IF;
    EXECUTE format('ALTER FUNCTION %s OWNER TO %I', signature, owner);
    IF lend THEN
        EXECUTE format('REVOKE CREATE ON SCHEMA roneo FROM %I', owner);
    END IF;
    RETURN to_regprocedure(signature);
END;
$$;
COMMENT ON FUNCTION roneo.run_make_wrapper(name) IS
    'Makes the function that refreshes as an owner of destinations, where it does not exist yet.';

-- From PUBLIC is taken only what was never settled: what an install or an update has just made. A
-- REVOKE of more would tell pg_dump that the users' grants came with the extension, and lose them.
DO $$
DECLARE
    object record;
BEGIN
    FOR object IN
        WITH own AS (
            SELECT d.classid, d.objid
            FROM pg_catalog.pg_depend AS d
            JOIN pg_catalog.pg_extension AS e
                ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid
            WHERE e.extname = 'roneo' AND d.deptype = 'e'
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_init_privs AS i
                              WHERE i.classoid = d.classid AND i.objoid = d.objid)
        )
        SELECT 'ROUTINE' AS kind, f.oid::regprocedure::text AS name
        FROM own JOIN pg_catalog.pg_proc AS f
            ON own.classid = 'pg_catalog.pg_proc'::regclass AND f.oid = own.objid
        WHERE EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(f.proacl,
                          pg_catalog.acldefault('f', f.proowner))) AS p WHERE p.grantee = 0)
        UNION ALL
        SELECT CASE WHEN c.relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass::text
        FROM own JOIN pg_catalog.pg_class AS c
            ON own.classid = 'pg_catalog.pg_class'::regclass AND c.oid = own.objid
        WHERE EXISTS (SELECT FROM pg_catalog.aclexplode(c.relacl) AS p WHERE p.grantee = 0)
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM PUBLIC', object.kind, object.name);
    END LOOP;
END;
$$;

-- What grant_refresh relied on, for functions and views that an update has made anew, and for
-- nothing else: pg_dump takes a GRANT of ours for a part of the extension. (After restoring a dump
-- of an updated database, grant_refresh gives these again.)
DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT roneo.missing_grants(g.dest_owner)
        FROM (SELECT DISTINCT dest_owner FROM roneo.grantee) AS g
        JOIN pg_catalog.pg_roles AS o ON o.rolname = g.dest_owner
        UNION ALL
        SELECT format('GRANT %s ON %s TO %I', s.privilege, s.object, g.role_name)
        FROM (SELECT DISTINCT role_name FROM roneo.grantee) AS g
        JOIN pg_catalog.pg_roles AS o ON o.rolname = g.role_name
        JOIN roneo.status_objects() AS s ON NOT EXISTS (
            SELECT FROM pg_catalog.aclexplode(s.acl) AS p
            WHERE p.grantee = o.oid AND p.privilege_type = s.privilege)
    LOOP
        EXECUTE statement;
    END LOOP;
END;
$$;
