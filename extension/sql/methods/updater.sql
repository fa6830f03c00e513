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
