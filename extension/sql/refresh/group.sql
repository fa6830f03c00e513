-- Refresh groups: replicas that are read in one snapshot and written in one transaction.

CREATE OR REPLACE FUNCTION roneo.set_refresh_group(dest regclass, refresh_group text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r       roneo.replica;
    problem text;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    SELECT k.* INTO STRICT r FROM roneo.replica AS k WHERE k.dest = set_refresh_group.dest;
    problem := CASE
        WHEN refresh_group IS NULL THEN NULL
        WHEN btrim(refresh_group) = '' THEN 'a group needs a name'
        WHEN r.method NOT IN ('inserter', 'updater', 'dml', 'logdel')
            THEN format('a %s is emptied or swapped as a whole, and would not wait for the others', r.method)
        WHEN EXISTS (SELECT FROM roneo.control_replica AS c WHERE c.replica_id = r.replica_id AND c.key_columns IS NULL)
            THEN 'an inserter without a key writes its rows while they are read, and its parents may come later'
        WHEN EXISTS (SELECT FROM roneo.control_replica AS c WHERE c.replica_id = r.replica_id AND c.batch_limit IS NOT NULL)
             OR EXISTS (SELECT FROM roneo.capture_replica AS c WHERE c.replica_id = r.replica_id AND c.batch_limit IS NOT NULL)
            THEN 'a batch_limit would cut through what belongs together'
        WHEN EXISTS (SELECT FROM roneo.replica AS k WHERE k.refresh_group = set_refresh_group.refresh_group AND k.source_id <> r.source_id)
            THEN format('group %s is of another source, and a snapshot is of one', quote_literal(refresh_group)) END;
    IF problem IS NOT NULL THEN
        PERFORM roneo.bad_argument(format('%s cannot be part of a group: %s', dest, problem),
            'A group is for replicas of one source with a key: dml, logdel, updater, inserter.');
    END IF;
    PERFORM roneo.require_one_owner(ARRAY(
        SELECT k.dest FROM roneo.replica AS k WHERE k.refresh_group = set_refresh_group.refresh_group OR k.dest = set_refresh_group.dest));
    -- What is refreshed as one begins as one.
    UPDATE roneo.replica AS k SET windows = o.windows, window_text = o.window_text, window_zone = o.window_zone, priority = o.priority
    FROM (SELECT m.* FROM roneo.replica AS m WHERE m.refresh_group = set_refresh_group.refresh_group ORDER BY m.replica_id LIMIT 1) AS o
    WHERE k.replica_id = r.replica_id;
    UPDATE roneo.replica AS k SET refresh_group = set_refresh_group.refresh_group WHERE k.replica_id = r.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.set_refresh_group(regclass, text) IS
    'Makes a replica part of a group, or of none (NULL). A group is refreshed as one: read in one snapshot of the source and committed in one transaction here, removals children first, rows parents first, so that foreign keys among its tables hold at each commit. Whoever refreshes one of it refreshes all, and it is due when one of it is. If one fails or is deferred, none is changed. Windows and priority are the group''s. Raises RO007 for what cannot be part of a group.';
