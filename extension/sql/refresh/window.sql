-- Windows: the hours of the week in which a refresh may begin, on the clocks of a time zone. They
-- are kept as minutes from Monday 00:00; one that goes on over the end of the week ends behind it.

CREATE OR REPLACE FUNCTION roneo.bad_schedule(problem text, advice text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'RO028', MESSAGE = problem, HINT = advice;
END;
$$;
COMMENT ON FUNCTION roneo.bad_schedule(text, text) IS 'Raises RO028.';

CREATE OR REPLACE FUNCTION roneo.day_number(day text)
RETURNS integer LANGUAGE sql IMMUTABLE
RETURN array_position('{mon,tue,wed,thu,fri,sat,sun}'::text[], left(day, 3)) - 1;
COMMENT ON FUNCTION roneo.day_number(text) IS 'Monday is 0.';

CREATE OR REPLACE FUNCTION roneo.window_pattern()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('^(%1$s(-%1$s)?(,%1$s(-%1$s)?)*)?(^|$|\s+)(%2$s-%3$s(,%2$s-%3$s)*)?$',
    '(mon(day)?|tue(sday)?|wed(nesday)?|thu(rsday)?|fri(day)?|sat(urday)?|sun(day)?)',
    '([01]?[0-9]|2[0-3]):[0-5][0-9]', '(([01]?[0-9]|2[0-3]):[0-5][0-9]|24:00)');
COMMENT ON FUNCTION roneo.window_pattern() IS
    'A regular expression for one window: days, hours or both, without spaces around commas and dashes.';

CREATE OR REPLACE FUNCTION roneo.window_days(one text)
RETURNS TABLE (day integer) LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT DISTINCT (p.first + n) % 7
    FROM regexp_split_to_table(coalesce(substring(one FROM '^[a-z][a-z,-]*'), 'mon-sun'), ',') AS d (days)
    CROSS JOIN LATERAL (
        SELECT roneo.day_number(split_part(d.days, '-', 1)),
               roneo.day_number(coalesce(nullif(split_part(d.days, '-', 2), ''), d.days))
    ) AS p (first, last)
    CROSS JOIN LATERAL generate_series(0, (p.last - p.first + 7) % 7) AS n;
END;
COMMENT ON FUNCTION roneo.window_days(text) IS 'The days that a window begins on; all where it names none.';

CREATE OR REPLACE FUNCTION roneo.window_hours(one text)
RETURNS TABLE (begins integer, ends integer) LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT t.m[1]::integer * 60 + t.m[2]::integer, t.m[3]::integer * 60 + t.m[4]::integer
    FROM regexp_split_to_table(coalesce(substring(one FROM '[0-9].*$'), '00:00-24:00'), ',') AS h (hours)
    CROSS JOIN LATERAL regexp_match(h.hours, '(\d+):(\d+)-(\d+):(\d+)') AS t (m);
END;
COMMENT ON FUNCTION roneo.window_hours(text) IS
    'The hours of a window as minutes of the day; the whole day where it names none.';

CREATE OR REPLACE FUNCTION roneo.window_minutes(one text)
RETURNS int4multirange LANGUAGE sql IMMUTABLE
RETURN (
    SELECT range_agg(int4range(d.day * 1440 + h.begins,
                               d.day * 1440 + h.ends + CASE WHEN h.ends > h.begins THEN 0 ELSE 1440 END))
    FROM roneo.window_days(one) AS d CROSS JOIN roneo.window_hours(one) AS h
);
COMMENT ON FUNCTION roneo.window_minutes(text) IS
    'One window as minutes of the week. Past midnight it belongs to the day that it begins on.';

CREATE OR REPLACE FUNCTION roneo.folded_week(week int4multirange)
RETURNS int4multirange LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    WITH folded AS (
        SELECT range_agg(p.part) AS week
        FROM (SELECT unnest(week * '{[0,10080)}'::int4multirange) AS part
              UNION ALL
              SELECT int4range(lower(o.part) - 10080, upper(o.part) - 10080)
              FROM unnest(week * '{[10080,20160)}'::int4multirange) AS o (part)) AS p
    )
    SELECT f.week - coalesce(int4multirange(a.head), '{}') - coalesce(int4multirange(a.tail), '{}')
           + CASE WHEN a.head IS NULL OR a.tail IS NULL
                  THEN coalesce(int4multirange(coalesce(a.head, a.tail)), '{}')
                  ELSE int4multirange(int4range(lower(a.tail), upper(a.head) + 10080)) END
    FROM folded AS f
    CROSS JOIN LATERAL (
        SELECT (SELECT w FROM unnest(f.week) AS w WHERE lower(w) = 0 AND upper(w) < 10080) AS head,
               (SELECT w FROM unnest(f.week) AS w WHERE upper(w) = 10080 AND lower(w) > 0) AS tail
    ) AS a;
END;
COMMENT ON FUNCTION roneo.folded_week(int4multirange) IS
    'Minutes of the week, of which what lies behind its end is put at its beginning; but a window that goes on over the end stays one.';

CREATE OR REPLACE FUNCTION roneo.windows_of(windows text)
RETURNS int4multirange LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    given text;
    one   text;
    week  int4multirange := '{}';
BEGIN
    FOREACH given IN ARRAY regexp_split_to_array(windows, ';') LOOP
        one := regexp_replace(lower(regexp_replace(given, '\s*([,-])\s*', '\1', 'g')), '^\s+|\s+$', '', 'g');
        CONTINUE WHEN one = '';
        IF one !~ roneo.window_pattern() THEN
            PERFORM roneo.bad_schedule(format('%L is not a window', btrim(given)),
                'Give days, hours or both, several with semicolons: ''mon-fri 22:00-06:00; sat,sun''. Hours are from 00:00 to 24:00.');
        ELSIF EXISTS (SELECT FROM roneo.window_hours(one) AS h WHERE h.begins = h.ends) THEN
            PERFORM roneo.bad_schedule(format('window %L ends when it begins', btrim(given)),
                'A whole day is 00:00-24:00, or the day without hours.');
        END IF;
        week := week + roneo.window_minutes(one);
    END LOOP;
    RETURN nullif(nullif(roneo.folded_week(week), '{}'), '{[0,10080)}');
END;
$$;
COMMENT ON FUNCTION roneo.windows_of(text) IS
    'Windows as a person writes them, such as mon-fri 22:00-06:00; sat,sun: as minutes of the week. NULL: always. Raises RO028.';

CREATE OR REPLACE FUNCTION roneo.zone_of(zone text)
RETURNS text LANGUAGE plpgsql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known text := (SELECT z.name FROM pg_timezone_names AS z WHERE lower(z.name) = lower(zone) ORDER BY z.name = zone DESC LIMIT 1);
BEGIN
    IF known IS NULL THEN
        PERFORM roneo.bad_schedule(format('%L is not the name of a time zone', zone),
            'SELECT name FROM pg_timezone_names lists them, such as Europe/Berlin.');
    END IF;
    RETURN known;
END;
$$;
COMMENT ON FUNCTION roneo.zone_of(text) IS
    'A time zone as PostgreSQL spells it. Raises RO028 for one that it has no rules of.';

-- A local time that clocks skip is read by the clock as it was before, so a window that would begin
-- then begins as much later, and keeps its length; of a time that comes twice the second is meant.
CREATE OR REPLACE FUNCTION roneo.openings(windows int4multirange, zone text, around timestamptz)
RETURNS TABLE (opens timestamptz, shuts timestamptz) LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT o.opens,
           CASE WHEN o.opens AT TIME ZONE zone = l.begins THEN (l.begins + l.length) AT TIME ZONE zone
                ELSE o.opens + l.length END
    FROM (SELECT date_trunc('week', around AT TIME ZONE zone) AS monday) AS w
    CROSS JOIN generate_series(-2, 1) AS n
    CROSS JOIN unnest(windows) AS r
    CROSS JOIN LATERAL (
        SELECT w.monday + make_interval(days => 7 * n, mins => lower(r)) AS begins,
               make_interval(mins => upper(r) - lower(r)) AS length
    ) AS l
    CROSS JOIN LATERAL (SELECT l.begins AT TIME ZONE zone AS opens) AS o;
END;
COMMENT ON FUNCTION roneo.openings(int4multirange, text, timestamptz) IS
    'When windows open and shut, from two weeks before a point of time to one week after it.';

CREATE OR REPLACE FUNCTION roneo.next_opening(windows int4multirange, zone text, at timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN (SELECT min(greatest(o.opens, at)) FROM roneo.openings(windows, zone, at) AS o WHERE o.shuts > at);
COMMENT ON FUNCTION roneo.next_opening(int4multirange, text, timestamptz) IS
    'The first point of time, not before another one, that lies in a window.';

-- What waits for a window to open would all begin at that moment: under jitter each a little later,
-- and still in that window.
CREATE OR REPLACE FUNCTION roneo.due_in_window(windows int4multirange, zone text, at timestamptz, shift interval)
RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE WHEN o.opens <= at THEN at
                ELSE o.opens + make_interval(secs => mod(extract(epoch FROM shift), extract(epoch FROM o.shuts - o.opens))::float8) END
    FROM roneo.openings(windows, zone, at) AS o WHERE o.shuts > at
    ORDER BY o.opens LIMIT 1
);
COMMENT ON FUNCTION roneo.due_in_window(int4multirange, text, timestamptz, interval) IS
    'When a replica is due that is due at some point of time but for its windows: then, or when the next one opens, so much later.';

CREATE OR REPLACE FUNCTION roneo.opens_at(r roneo.replica, at timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN CASE WHEN r.windows IS NULL THEN at ELSE roneo.next_opening(r.windows, r.window_zone, at) END;
COMMENT ON FUNCTION roneo.opens_at(roneo.replica, timestamptz) IS
    'The first point of time, not before another one, at which a refresh of this replica may begin.';

CREATE OR REPLACE FUNCTION roneo.shuts_at(windows int4multirange, zone text, at timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN (SELECT max(o.shuts) FROM roneo.openings(windows, zone, at) AS o WHERE o.opens <= at AND o.shuts > at);
COMMENT ON FUNCTION roneo.shuts_at(int4multirange, text, timestamptz) IS
    'When the window shuts that is open at a point of time; NULL: none is open.';

-- The shut time that it is in, or that ended last, is left out: in the morning nobody is alarmed by
-- what only the night may mend, nor in the first minute of the night. All others count, or a replica
-- that may begin for an hour a day would be ten times as late before anyone heard of it.
CREATE OR REPLACE FUNCTION roneo.open_lag(windows int4multirange, zone text, since timestamptz, until timestamptz)
RETURNS interval LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE
        WHEN NOT n.is_open THEN greatest(n.shut - b.begins, interval '0')
        WHEN b.begins >= n.opened THEN greatest(until - b.begins, interval '0')
        ELSE until - n.opened + greatest(n.shut - b.begins, interval '0') END
    -- A function called in here would be planned anew for each replica.
    FROM (SELECT min(greatest(o.opens, since)) AS begins FROM roneo.openings(windows, zone, since) AS o WHERE o.shuts > since) AS b
    CROSS JOIN (
        SELECT bool_or(o.opens <= until AND o.shuts > until) AS is_open,
               max(o.opens) FILTER (WHERE o.opens <= until) AS opened,
               max(o.shuts) FILTER (WHERE o.shuts <= until) AS shut
        FROM roneo.openings(windows, zone, until) AS o
    ) AS n
    WHERE b.begins IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.open_lag(int4multirange, text, timestamptz, timestamptz) IS
    'How long after the first point of time in a window, not before since, another one is; the latest time in which all were shut does not count.';
