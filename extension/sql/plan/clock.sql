-- Distances on a control column: between clocks and values, and across changes of the clock.
-- All time types are compared as timestamps of the zone that the column is written in; a
-- timestamptz is written in UTC, which has no changes.

CREATE OR REPLACE FUNCTION roneo.control_class(control_type text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN control_type IN ('timestamp with time zone', 'timestamp without time zone', 'date') THEN 'time'
    WHEN control_type IN ('smallint', 'integer', 'bigint', 'numeric') THEN 'serial'
    WHEN control_type IN ('uuid', 'text', 'character varying', 'character', 'bpchar') THEN 'order'
END;
COMMENT ON FUNCTION roneo.control_class(text) IS
    'time, serial, or order (values have an order but no distance); NULL for a type that cannot be followed.';

CREATE OR REPLACE FUNCTION roneo.written_zone(c roneo.control_replica)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE c.control_type WHEN 'timestamp with time zone' THEN 'UTC' ELSE c.control_zone END;
COMMENT ON FUNCTION roneo.written_zone(roneo.control_replica) IS 'The zone that the values of a control column are written in.';

CREATE OR REPLACE FUNCTION roneo.zone_offset(zone text, at timestamptz)
RETURNS interval LANGUAGE sql STABLE
RETURN (at AT TIME ZONE zone) - (at AT TIME ZONE 'UTC');
COMMENT ON FUNCTION roneo.zone_offset(text, timestamptz) IS 'How far a zone''s clock is ahead of UTC at a point of time.';

CREATE OR REPLACE FUNCTION roneo.hour_repeats(c roneo.control_replica, moment timestamptz)
RETURNS boolean LANGUAGE sql STABLE
RETURN c.control_type IN ('timestamp without time zone', 'date')
    AND roneo.zone_offset(c.control_zone, moment) < roneo.zone_offset(c.control_zone, c.clock::timestamptz);
COMMENT ON FUNCTION roneo.hour_repeats(roneo.control_replica, timestamptz) IS
    'Whether the clock that values are written by was set back between the last refresh and a point of time, as in autumn.';

-- A clock that was set back since shows values again that it showed before: so much lower may a
-- row be that was written after that point of time.
CREATE OR REPLACE FUNCTION roneo.lowest_local(zone text, since timestamptz, until timestamptz)
RETURNS timestamp LANGUAGE sql STABLE
RETURN CASE WHEN isfinite(since)
    THEN (since AT TIME ZONE zone)
         - greatest(interval '0', roneo.zone_offset(zone, since) - roneo.zone_offset(zone, until))
    ELSE '-infinity'::timestamp END;
COMMENT ON FUNCTION roneo.lowest_local(text, timestamptz, timestamptz) IS
    'The lowest value that a clock of that zone can have shown between two points of time.';

CREATE OR REPLACE FUNCTION roneo.as_timestamp(control_type text, value text)
RETURNS timestamp LANGUAGE sql STABLE
RETURN CASE control_type WHEN 'timestamp with time zone' THEN value::timestamptz AT TIME ZONE 'UTC'
                         ELSE value::timestamp END;
COMMENT ON FUNCTION roneo.as_timestamp(text, text) IS 'A control value of a time type, as the clock of its zone shows it.';

CREATE OR REPLACE FUNCTION roneo.as_control(control_type text, value timestamp)
RETURNS text LANGUAGE sql STABLE
RETURN CASE control_type
    WHEN 'timestamp with time zone' THEN (value AT TIME ZONE 'UTC')::text
    WHEN 'date' THEN value::date::text
    ELSE value::text END;
COMMENT ON FUNCTION roneo.as_control(text, timestamp) IS 'The inverse of as_timestamp; rounds a date down.';

-- Not a list of dates: what the zone's data says. Hours first, then the minute.
CREATE OR REPLACE FUNCTION roneo.zone_changes(zone text, around timestamptz)
RETURNS TABLE (at timestamptz, shift interval) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT m.minute, roneo.zone_offset(zone, m.minute) - roneo.zone_offset(zone, m.minute - interval '1 minute')
    FROM generate_series(date_trunc('hour', around) - interval '30 hours',
                         date_trunc('hour', around) + interval '30 hours', interval '1 hour') AS h (hour)
    CROSS JOIN LATERAL generate_series(h.hour + interval '1 minute', h.hour + interval '1 hour',
                                       interval '1 minute') AS m (minute)
    WHERE roneo.zone_offset(zone, h.hour) <> roneo.zone_offset(zone, h.hour + interval '1 hour')
      AND roneo.zone_offset(zone, m.minute) <> roneo.zone_offset(zone, m.minute - interval '1 minute');
END;
COMMENT ON FUNCTION roneo.zone_changes(text, timestamptz) IS
    'The changes of a zone''s clock within thirty hours of a point of time, and by how much it is set forward.';

CREATE OR REPLACE FUNCTION roneo.blackout_hours(blackout text, OUT opens interval, OUT closes interval)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT h.opens, CASE WHEN h.closes > h.opens THEN h.closes ELSE h.closes + interval '24 hours' END
    FROM (SELECT CASE WHEN blackout LIKE '%-%' THEN split_part(blackout, '-', 1)::interval ELSE interval '00:30' END,
                 CASE WHEN blackout LIKE '%-%' THEN split_part(blackout, '-', 2)::interval ELSE interval '02:30' END) AS h (opens, closes);
END;
COMMENT ON FUNCTION roneo.blackout_hours(text) IS
    'The local hours of a blackout, counted from midnight: 00:30 to 02:30, or those given, which may end on the next day.';

-- Of the nights before and after a change the nearer one: a clock set back at midnight shows the
-- day before again.
CREATE OR REPLACE FUNCTION roneo.blackout_at(c roneo.control_replica, moment timestamptz)
RETURNS tstzrange LANGUAGE sql STABLE
RETURN (
    SELECT w.pause
    FROM roneo.zone_changes(c.control_zone, moment) AS z
    CROSS JOIN roneo.blackout_hours(c.blackout) AS h
    CROSS JOIN LATERAL (
        SELECT (d.day + h.opens) AT TIME ZONE c.control_zone AS opens, (d.day + h.closes) AT TIME ZONE c.control_zone AS closes
        FROM generate_series(-1, 1) AS n
        CROSS JOIN LATERAL (SELECT (z.at AT TIME ZONE c.control_zone)::date + n) AS d (day)
        ORDER BY abs(extract(epoch FROM (d.day + (h.opens + h.closes) / 2) AT TIME ZONE c.control_zone - z.at))
        LIMIT 1
    ) AS night
    CROSS JOIN LATERAL (SELECT tstzrange(
        least(night.opens, z.at - greatest(z.shift, -z.shift)),
        greatest(night.closes, z.at + greatest(z.shift, -z.shift))) AS pause) AS w
    WHERE c.blackout <> 'off'
      AND (c.control_type = 'timestamp without time zone' OR c.blackout <> 'auto')
      AND w.pause @> moment
    LIMIT 1
);
COMMENT ON FUNCTION roneo.blackout_at(roneo.control_replica, timestamptz) IS
    'The pause around a change of the clock that a point of time falls into, wide enough to contain the hour that is skipped or repeated; NULL outside.';
