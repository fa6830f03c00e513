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
