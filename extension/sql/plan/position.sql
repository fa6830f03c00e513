-- The position of an inserter or updater, and how a refresh moves it.

CREATE OR REPLACE FUNCTION roneo.answered_xid(answer jsonb, bound text)
RETURNS xid8 LANGUAGE sql IMMUTABLE
RETURN CASE bound WHEN 'xmin' THEN pg_snapshot_xmin((answer #>> '{inside,snapshot}')::pg_snapshot)
                  ELSE pg_snapshot_xmax((answer #>> '{inside,snapshot}')::pg_snapshot) END;
COMMENT ON FUNCTION roneo.answered_xid(jsonb, text) IS 'The xmin or xmax of the snapshot that a source was read under.';

CREATE OR REPLACE FUNCTION roneo.clock_order(c roneo.control_replica, clock text)
RETURNS numeric LANGUAGE sql STABLE
RETURN CASE roneo.control_class(c.control_type) WHEN 'serial' THEN clock::numeric
                                                ELSE extract(epoch FROM clock::timestamptz) END;
COMMENT ON FUNCTION roneo.clock_order(roneo.control_replica, text) IS 'A clock of open_starts as a number, to order by.';

CREATE OR REPLACE FUNCTION roneo.clock_of(c roneo.control_replica, answer jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN CASE roneo.control_class(c.control_type) WHEN 'serial' THEN coalesce(answer #>> '{before,top}', answer #>> '{inside,top}', c.clock, '0')
                                                ELSE answer #>> '{before,clock}' END;
COMMENT ON FUNCTION roneo.clock_of(roneo.control_replica, jsonb) IS
    'What the source''s clock showed before its open transactions were listed; of a serial, its highest value.';

CREATE OR REPLACE FUNCTION roneo.clock_was_set_back(c roneo.control_replica, answer jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN roneo.clock_order(c, roneo.clock_of(c, answer)) < roneo.clock_order(c, c.clock);
COMMENT ON FUNCTION roneo.clock_was_set_back(roneo.control_replica, jsonb) IS
    'Whether the source''s clock shows an earlier time than at the last refresh, or its highest value is lower than then; NULL at the first one.';

-- What was written meanwhile can lie below the window, which was made with the old clock.
CREATE OR REPLACE FUNCTION roneo.values_repeat(c roneo.control_replica, answer jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN coalesce(
    roneo.clock_was_set_back(c, answer)
    OR roneo.control_class(c.control_type) = 'time'
       AND roneo.zone_offset(roneo.written_zone(c), (answer #>> '{before,clock}')::timestamptz)
           < roneo.zone_offset(roneo.written_zone(c), c.clock::timestamptz),
    false);
COMMENT ON FUNCTION roneo.values_repeat(roneo.control_replica, jsonb) IS
    'Whether values below those of the last refresh were given out since: the clock was set back, or an hour of local time came twice.';

-- A transaction that was not open at the last refresh began after the clock that was read before
-- it. At the first one nothing is known of those that are open, nor when that clock was set back
-- since. A prepared transaction turns up
-- under a new name: it inherits the oldest start of all.
CREATE OR REPLACE FUNCTION roneo.open_starts(c roneo.control_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT coalesce(jsonb_object_agg(o.name, CASE
        WHEN c.clock IS NULL OR roneo.clock_was_set_back(c, answer) THEN 'unknown'
        WHEN c.open_since ? o.name THEN c.open_since ->> o.name
        WHEN o.name NOT LIKE 'p/%' THEN c.clock
        WHEN EXISTS (SELECT FROM jsonb_each_text(c.open_since) AS k WHERE k.value = 'unknown') THEN 'unknown'
        ELSE coalesce((SELECT k.value FROM jsonb_each_text(c.open_since) AS k
                       ORDER BY roneo.clock_order(c, k.value) LIMIT 1), c.clock) END), '{}')
    FROM jsonb_array_elements_text(coalesce(nullif(answer #> '{before,open}', 'null'), '[]')) AS o (name)
);
COMMENT ON FUNCTION roneo.open_starts(roneo.control_replica, jsonb) IS
    'The transactions that are open on the source, each with a clock from before its start, or unknown.';

-- How far back from the source's clock a row can lie that an open transaction has yet to commit.
CREATE OR REPLACE FUNCTION roneo.lowest_time(c roneo.control_replica, answer jsonb, open_since jsonb)
RETURNS timestamp LANGUAGE sql STABLE
RETURN (
    SELECT min(roneo.lowest_local(roneo.written_zone(c), s.since,
                                  (answer #>> '{before,clock}')::timestamptz))
    FROM (
        SELECT (answer #>> '{before,clock}')::timestamptz AS since
        UNION ALL
        -- A clock that was set back shows the time in between once more.
        SELECT (answer #>> '{before,clock}')::timestamptz - ((c.clock)::timestamptz - (answer #>> '{before,clock}')::timestamptz)
        WHERE c.clock::timestamptz > (answer #>> '{before,clock}')::timestamptz
        UNION ALL
        SELECT CASE k.value WHEN 'unknown' THEN '-infinity' ELSE k.value END::timestamptz
        FROM jsonb_each_text(open_since) AS k
    ) AS s
);
COMMENT ON FUNCTION roneo.lowest_time(roneo.control_replica, jsonb, jsonb) IS
    'The lowest time, as the control column would show it, that a row can have which is not visible yet.';

CREATE OR REPLACE FUNCTION roneo.lowest_serial(c roneo.control_replica, answer jsonb, open_since jsonb)
RETURNS numeric LANGUAGE sql STABLE
RETURN (
    SELECT CASE WHEN bool_or(k.value = 'unknown') THEN '-Infinity'::numeric
                ELSE least(roneo.clock_of(c, answer)::numeric, min(nullif(k.value, 'unknown')::numeric)) END
    FROM (SELECT 1) AS one
    LEFT JOIN jsonb_each_text(open_since) AS k ON true
);
COMMENT ON FUNCTION roneo.lowest_serial(roneo.control_replica, jsonb, jsonb) IS
    'The lowest number that a row can have which is not visible yet, blocks of cached numbers aside.';

CREATE OR REPLACE FUNCTION roneo.window_after(c roneo.control_replica, answer jsonb, open_since jsonb, last_value text)
RETURNS text LANGUAGE sql STABLE
RETURN CASE
    WHEN last_value IS NULL OR c.look_back IS NULL THEN NULL
    WHEN roneo.control_class(c.control_type) = 'time' THEN (
        SELECT CASE WHEN l.lowest > '-infinity' THEN roneo.as_control(c.control_type, l.lowest) END
        FROM (SELECT least(
                  roneo.as_timestamp(c.control_type, last_value),
                  roneo.as_timestamp(c.control_type, answer #>> '{inside,held_from}'),
                  roneo.lowest_time(c, answer, open_since))
              -- Between the start of a statement and its virtual transaction id passes a moment.
              - greatest(c.look_back::interval, interval '1 second') AS lowest) AS l)
    WHEN roneo.control_class(c.control_type) = 'serial' THEN (
        SELECT CASE WHEN l.lowest > '-Infinity' THEN
                    (CASE c.control_type WHEN 'numeric' THEN l.lowest
                     ELSE greatest(floor(l.lowest), CASE c.control_type WHEN 'smallint' THEN -32768 WHEN 'integer' THEN -2147483648
                                                                        ELSE -9223372036854775808 END) END)::text END
        FROM (SELECT least(last_value::numeric, (answer #>> '{inside,held_from}')::numeric,
                           roneo.lowest_serial(c, answer, open_since))
                     - greatest(c.look_back::numeric, 1) AS lowest) AS l)
END;
COMMENT ON FUNCTION roneo.window_after(roneo.control_replica, jsonb, jsonb, text) IS
    'Down to which value the next refresh looks for late rows; NULL: down to the lowest.';

CREATE OR REPLACE FUNCTION roneo.sweep_is_due(c roneo.control_replica)
RETURNS boolean LANGUAGE sql STABLE
RETURN coalesce(c.swept_at + c.sweep_every <= clock_timestamp(), false);
COMMENT ON FUNCTION roneo.sweep_is_due(roneo.control_replica) IS
    'Whether the probe is to ask for late rows in the whole table.';

-- Whether one was due is the probe's to say: the time goes on while it is asked.
CREATE OR REPLACE FUNCTION roneo.is_swept(c roneo.control_replica, answer jsonb)
RETURNS boolean LANGUAGE sql STABLE
RETURN roneo.follows_xmin(c) AND (
    coalesce((answer #>> '{options,sweep}')::boolean, false)
    OR coalesce((answer #>> '{inside,rewritten}')::boolean, false)
    OR answer #>> '{inside,swept}' IS NOT NULL
    OR roneo.values_repeat(c, answer));
COMMENT ON FUNCTION roneo.is_swept(roneo.control_replica, jsonb) IS
    'Whether late rows are looked for in the whole table this time: told to, due, because every row has a new transaction, or because values come again.';

CREATE OR REPLACE FUNCTION roneo.leaves_after(c roneo.control_replica, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT coalesce(jsonb_object_agg(coalesce(n.key, k.key), n.value), '{}')
    FROM jsonb_each(coalesce(answer #> '{inside,leaves}', '{}')) AS n
    FULL JOIN jsonb_each(coalesce(c.leaves, '{}')) AS k ON k.key = n.key
);
COMMENT ON FUNCTION roneo.leaves_after(roneo.control_replica, jsonb) IS
    'All leaves that were ever seen, with their present files; null for one that is gone, and may return.';

CREATE OR REPLACE FUNCTION roneo.position_after(c roneo.control_replica, answer jsonb)
RETURNS roneo.control_replica LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    after   roneo.control_replica := c;
    inside  jsonb := answer -> 'inside';
    is_held boolean := inside ->> 'held_from' IS NOT NULL;
BEGIN
    after.last_value := coalesce(inside ->> 'upto', c.last_value);
    after.open_since := CASE WHEN roneo.follows_xmin(c) THEN roneo.open_starts(c, answer) ELSE '{}' END;
    after.window_start := roneo.window_after(c, answer, after.open_since, after.last_value);
    -- Of what is held, the probe saw only the rows in the window.
    IF c.key_columns IS NULL AND roneo.answered_xid(answer, 'xmin') <> roneo.answered_xid(answer, 'xmax')
       AND (c.repulling OR roneo.is_swept(c, answer) OR cardinality(roneo.fresh_leaves(c, answer)) > 0) THEN
        after.window_start := NULL;
    END IF;
    after.clock := roneo.clock_of(c, answer);
    after.horizon := greatest(c.horizon, roneo.answered_xid(answer, 'xmin'));
    after.leaves := roneo.leaves_after(c, answer);
    IF roneo.is_swept(c, answer) OR c.swept IS NULL THEN
        after.swept := after.horizon;
        after.swept_at := clock_timestamp();
    END IF;
    after.held_by := CASE WHEN is_held THEN coalesce(inside ->> 'holder', 'a transaction that is not shown') END;
    after.held_since := CASE WHEN is_held THEN coalesce(
        CASE WHEN c.held_by = after.held_by THEN c.held_since END, clock_timestamp()) END;
    after.far_value := CASE WHEN inside ->> 'upto' IS NOT NULL THEN inside ->> 'far'
                            WHEN roneo.control_class(c.control_type) = 'serial'
                                 AND roneo.clock_of(c, answer)::numeric >= c.far_value::numeric THEN c.far_value END;
    IF c.repulling THEN
        after.repull_from := inside ->> 'chunk_to';
        after.repulling := after.repull_from IS NOT NULL;
        after.repull_to := CASE WHEN after.repulling THEN c.repull_to END;
        -- The source may have gone back behind the position; rows it has there from now on are new.
        IF NOT after.repulling AND c.repull_to IS NULL AND NOT roneo.follows_xmin(c) THEN
            after.last_value := coalesce(inside ->> 'upto', inside ->> 'repulled_to');
        END IF;
    END IF;
    RETURN after;
END;
$$;
COMMENT ON FUNCTION roneo.position_after(roneo.control_replica, jsonb) IS
    'The position once everything that was planned for an answer has been put.';
