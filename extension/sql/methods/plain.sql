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
