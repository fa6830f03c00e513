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
