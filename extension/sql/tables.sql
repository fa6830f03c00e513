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
