CREATE OR REPLACE FUNCTION roneo.plan_refresh(answers jsonb)
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
COMMENT ON FUNCTION roneo.plan_refresh(jsonb) IS
    'Third phase: from what the sources answered to numbered steps in the order of their execution, with the COPY statements of each transfer. No steps: nothing to do.';
