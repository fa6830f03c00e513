-- Many replicas at once: which of them have nothing to do is asked without locks, a hundred in one
-- query of their source, and noted in one statement here. Those that moved are refreshed each by
-- itself, under its own lock. A position that is not moved is never wrong, only older.

CREATE OR REPLACE FUNCTION roneo.still_leaves(r roneo.replica, leaves jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN leaves ? (r.identity ->> 'table') AND (SELECT count(*) FROM jsonb_object_keys(leaves)) = 1 THEN format(
        'pg_catalog.pg_relation_filenode(%1$s) = %2$s::pg_catalog.oid AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = %1$s)',
        format('%s::pg_catalog.oid', r.identity ->> 'table'), leaves ->> (r.identity ->> 'table'))
    ELSE format('(%s) = %L::pg_catalog.jsonb', roneo.control_leaves(r), jsonb_strip_nulls(leaves)) END;
COMMENT ON FUNCTION roneo.still_leaves(roneo.replica, jsonb) IS
    'An SQL expression that is true where the tables that rows come from are in the files that they were in.';

CREATE OR REPLACE FUNCTION roneo.still_rows(relation text, condition text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE WHEN condition IS NOT NULL THEN 'NOT EXISTS (SELECT FROM %s WHERE %s)' END, relation, condition);
COMMENT ON FUNCTION roneo.still_rows(text, text) IS 'An SQL expression that is true where no such row is there; NULL without a condition.';

-- While rows below the window may have been given out, only a refresh can tell: after it they would
-- not be looked for any more.
CREATE OR REPLACE FUNCTION roneo.still_clock(c roneo.control_replica, relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE roneo.control_class(c.control_type)
    WHEN 'time' THEN format('pg_catalog.clock_timestamp() >= %L::pg_catalog.timestamptz', c.clock)
    WHEN 'serial' THEN format('coalesce((SELECT pg_catalog.max(%I) FROM %s) >= %s::pg_catalog.numeric, true)', c.control, relation, quote_literal(c.clock))
END;
COMMENT ON FUNCTION roneo.still_clock(roneo.control_replica, text) IS
    'An SQL expression that is true where the source''s clock, or its highest value, has not gone back.';

-- As for a replica with a key: held rows are no reason to look closer, for one without.
CREATE OR REPLACE FUNCTION roneo.still_control(r roneo.replica, c roneo.control_replica)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat_ws(' AND ',
        format('%s = %s::pg_catalog.oid', roneo.source_regclass(r), r.identity ->> 'table'),
        roneo.still_clock(c, s.relation),
        roneo.still_leaves(r, c.leaves),
        roneo.still_rows(s.relation, roneo.new_condition(c, NULL, s.m, s.m)),
        roneo.still_rows(s.relation, roneo.late_condition(c, false, s.m, s.m)),
        roneo.still_rows(s.relation, CASE c.null_control WHEN 'read' THEN roneo.null_condition(c, s.m, s.m)
                                                         WHEN 'refuse' THEN format('%I IS NULL', c.control) END))
    FROM (SELECT roneo.source_name_of(r) AS relation, roneo.age_of_snapshot('xmax') AS m) AS s
    WHERE NOT c.repulling
      AND r.identity IS NOT NULL
      AND c.horizon IS NOT NULL AND roneo.follows_xmin(c)
      AND NOT roneo.values_repeat(c, jsonb_build_object('before', jsonb_build_object('clock', clock_timestamp())))
      AND coalesce(c.swept_at + c.sweep_every > clock_timestamp(), true)
);
COMMENT ON FUNCTION roneo.still_control(roneo.replica, roneo.control_replica) IS
    'An SQL expression that is true where a refresh would find nothing to read; NULL where only a refresh can tell.';

CREATE OR REPLACE FUNCTION roneo.still_conditions(ids integer[])
RETURNS TABLE (replica_id integer, condition text) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_method text;
BEGIN
    FOR found_method IN
        SELECT DISTINCT r.method
        FROM roneo.replica AS r
        WHERE r.replica_id = ANY (ids)
          AND EXISTS (SELECT FROM pg_proc AS f WHERE f.pronamespace = 'roneo'::regnamespace
                                                 AND f.proname = concat('still_', r.method))
        ORDER BY 1
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT r.replica_id, roneo.%I(r, m)
             FROM roneo.replica AS r
             JOIN roneo.%I AS m ON m.replica_id = r.replica_id
             WHERE r.replica_id = ANY ($1)',
            concat('still_', found_method), concat(found_method, '_replica'))
        USING ids;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.still_conditions(integer[]) IS
    'For replicas whose method can tell by one condition whether there is nothing to do: that condition.';

CREATE OR REPLACE FUNCTION roneo.idle_checks(
    source_names text[] DEFAULT NULL, methods text[] DEFAULT NULL, batch integer DEFAULT 100)
RETURNS TABLE (
    source_name text, asked_at timestamptz, replica_ids integer[], generations bigint[],
    identity_query text, query text)
LANGUAGE sql
BEGIN ATOMIC
    WITH due AS (
        SELECT r.replica_id, r.generation, d.source_name
        FROM roneo.due(source_names, methods) AS d
        JOIN roneo.replica AS r ON format('%I.%I', r.dest_schema, r.dest_name) = d.dest
    ), asked AS (
        SELECT u.*, s.condition,
               (row_number() OVER (PARTITION BY u.source_name ORDER BY u.replica_id) - 1) / batch AS part
        FROM due AS u
        JOIN roneo.still_conditions(ARRAY(SELECT replica_id FROM due)) AS s ON s.replica_id = u.replica_id
        WHERE s.condition IS NOT NULL
    )
    SELECT a.source_name, clock_timestamp(), array_agg(a.replica_id ORDER BY a.replica_id), array_agg(a.generation ORDER BY a.replica_id),
           format('SELECT %s', roneo.identity_query()),
           format('SELECT pg_catalog.jsonb_agg(w.id) FROM (%s) AS w WHERE w.still',
                  string_agg(format('SELECT %s AS id, (%s) AS still', a.replica_id, a.condition), E'\nUNION ALL ' ORDER BY a.replica_id))
    FROM asked AS a
    GROUP BY a.source_name, a.part
    ORDER BY a.source_name, a.part;
END;
COMMENT ON FUNCTION roneo.idle_checks(text[], text[], integer) IS
    'For the runner: queries that tell which of the replicas that are due have nothing to do, up to batch of them in one query. It answers with one JSON document, to be handed to mark_idle with that of identity_query.';

CREATE OR REPLACE FUNCTION roneo.mark_idle(
    replica_ids integer[], generations bigint[], asked_at timestamptz, identity jsonb, still jsonb)
RETURNS SETOF text LANGUAGE sql
BEGIN ATOMIC
    UPDATE roneo.replica AS r SET
        generation      = r.generation + 1,
        last_attempt_at = mark_idle.asked_at,
        last_success_at = mark_idle.asked_at,
        last_outcome    = 'unchanged',
        last_message    = NULL,
        failures        = 0
    FROM unnest(replica_ids, generations) AS i (replica_id, generation)
    WHERE r.replica_id = i.replica_id
      -- One that was refreshed meanwhile has its own outcome.
      AND r.generation = i.generation
      AND mark_idle.still @> to_jsonb(i.replica_id)
      AND roneo.identity_warning(r, jsonb_build_object(
              'before', jsonb_build_object('identity', mark_idle.identity),
              'inside', jsonb_build_object('relation', jsonb_build_object('oid', r.identity -> 'table')))) IS NULL
    RETURNING format('%I.%I', r.dest_schema, r.dest_name);
END;
COMMENT ON FUNCTION roneo.mark_idle(integer[], bigint[], timestamptz, jsonb, jsonb) IS
    'For the runner: notes that replicas have nothing to do, in one statement and without a run in the history, and returns them. Those that moved, were refreshed meanwhile, or whose source is another one stay due.';
