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
