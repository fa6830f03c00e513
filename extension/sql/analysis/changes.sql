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
