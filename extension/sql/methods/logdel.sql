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
