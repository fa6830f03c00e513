-- From 0.4.0 on: verification, and change analysis.

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

-- Keys are matched by the operator of their index, and one function knows which index serves.
DROP FUNCTION roneo.key_match(name[], text, text);
DROP FUNCTION roneo.has_arbiter(regclass, name[]);
DROP FUNCTION roneo.has_live_arbiter(regclass, name[], name);
