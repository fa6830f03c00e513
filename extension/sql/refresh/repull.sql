CREATE OR REPLACE FUNCTION roneo.begin_repull(
    dest regclass, from_value text DEFAULT NULL, to_value text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c          roneo.control_replica;
    first_one  text;
    first_left text;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    SELECT k.* INTO c
    FROM roneo.control_replica AS k
    JOIN roneo.replica AS r USING (replica_id)
    WHERE r.dest = begin_repull.dest;
    IF NOT FOUND THEN
        PERFORM roneo.bad_argument(format('%s follows no control column', dest),
            'Every refresh of a snapshot or plain replica copies it whole: roneo.refresh(…, force => true).');
    END IF;
    PERFORM roneo.lock_replica(c.replica_id, dest::text, 'Ask again when that refresh has ended.');
    BEGIN
        first_one := roneo.settled_value(from_value, c.control_type);
        first_left := roneo.settled_value(to_value, c.control_type);
    EXCEPTION WHEN data_exception THEN
        PERFORM roneo.bad_argument(format('the range from %s to %s is not one of type %s',
            coalesce(quote_literal(from_value), 'the lowest'), coalesce(quote_literal(to_value), 'the highest'), c.control_type),
            'The first value is pulled again, the last one is not.');
    END;
    UPDATE roneo.control_replica AS k
    SET repulling = true, repull_from = first_one, repull_to = first_left
    WHERE k.replica_id = c.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.begin_repull(regclass, text, text) IS
    'Notes that a range is to be pulled again; the next refreshes do it, in chunks, and go on where one was interrupted. from_value is included, to_value is not; NULL: no end on that side.';

CREATE OR REPLACE PROCEDURE roneo.repull(
    dest regclass, from_value text DEFAULT NULL, to_value text DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    done roneo.run;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM roneo.begin_repull(dest, from_value, to_value);
    COMMIT;
    LOOP
        done := roneo.refresh(dest);
        COMMIT;
        IF done.outcome OPERATOR(pg_catalog.<>) 'ok' THEN
            RAISE EXCEPTION USING
                ERRCODE = coalesce(done.sqlstate, 'RO002'),
                MESSAGE = pg_catalog.concat_ws(': ', 'the repull has not come to its end', done.message),
                DETAIL  = coalesce(done.detail, ''),
                HINT    = 'The next refreshes go on with it.';
        END IF;
        EXIT WHEN NOT coalesce(done.has_more, false);
    END LOOP;
END;
$$;
COMMENT ON PROCEDURE roneo.repull(regclass, text, text) IS
    'Makes a range of an inserter or updater equal to its source again: removes the rows here and reads them anew, one transaction a chunk. from_value is included, to_value is not; NULL: no end on that side. A procedure that commits can fix no search_path in its definition; it pins it in its first statement.';

CREATE OR REPLACE FUNCTION roneo.accept_source(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    UPDATE roneo.replica AS r SET identity = NULL WHERE r.dest = accept_source.dest;
    UPDATE roneo.control_replica AS c
    SET horizon = NULL, window_start = NULL, clock = NULL, open_since = '{}', leaves = NULL, swept = NULL
    FROM roneo.replica AS r
    WHERE r.replica_id = c.replica_id AND r.dest = accept_source.dest;
    PERFORM roneo.accept_capture(dest);
END;
$$;
COMMENT ON FUNCTION roneo.accept_source(regclass) IS
    'Takes the source as it is now for the one that the position belongs to: after a promotion that lost nothing, pg_upgrade, or a rewrite. Its rows up to the position count as copied: with a key they are read once more, without one they are not, and what was committed below the position since the last refresh takes a repull of the last hours.';
