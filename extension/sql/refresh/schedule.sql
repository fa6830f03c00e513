CREATE OR REPLACE FUNCTION roneo.set_schedule(
    dest regclass,
    refresh_every interval DEFAULT NULL,
    windows text DEFAULT NULL,
    zone text DEFAULT NULL,
    priority integer DEFAULT NULL)
RETURNS timestamptz LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    week     int4multirange;
    is_fixed boolean := windows IS NOT NULL;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    week := roneo.windows_of(windows);
    zone := coalesce(roneo.zone_of(zone), (SELECT r.window_zone FROM roneo.replica AS r WHERE r.dest = set_schedule.dest));
    IF refresh_every < interval '0' THEN
        PERFORM roneo.bad_schedule(format('refresh_every is %s', refresh_every), 'Give an interval such as ''1 hour''; ''0'': only when told to.');
    ELSIF priority NOT BETWEEN -100 AND 100 THEN
        PERFORM roneo.bad_schedule(format('priority is %s', priority), 'Give a number from -100 to 100; 0 is that of all others.');
    ELSIF week IS NOT NULL AND zone IS NULL THEN
        PERFORM roneo.bad_schedule(format('windows %L are on the clocks of no time zone', windows),
            'Say which one: zone => ''Europe/Berlin''. SELECT name FROM pg_timezone_names lists them.');
    ELSIF NOT is_fixed AND zone IS NOT NULL
          AND EXISTS (SELECT FROM roneo.replica AS r WHERE r.dest = set_schedule.dest AND r.windows IS NULL) THEN
        PERFORM roneo.bad_schedule(format('zone is %s, and there are no windows', zone),
            'Give both: windows => ''22:00-06:00'', zone => ''Europe/Berlin''.');
    END IF;
    UPDATE roneo.replica AS r SET refresh_every = nullif(set_schedule.refresh_every, interval '0')
    WHERE r.dest = set_schedule.dest AND set_schedule.refresh_every IS NOT NULL;
    -- A group is refreshed as one.
    UPDATE roneo.replica AS r SET
        windows     = CASE WHEN is_fixed THEN week ELSE r.windows END,
        window_text = CASE WHEN week IS NOT NULL THEN btrim(set_schedule.windows) WHEN NOT is_fixed THEN r.window_text END,
        window_zone = CASE WHEN week IS NOT NULL OR NOT is_fixed THEN zone END,
        priority    = coalesce(set_schedule.priority, r.priority)
    WHERE r.dest = ANY (roneo.with_group(ARRAY[set_schedule.dest]));
    RETURN (SELECT roneo.due_at(r) FROM roneo.replica AS r WHERE r.dest = set_schedule.dest);
END;
$$;
COMMENT ON FUNCTION roneo.set_schedule(regclass, interval, text, text, integer) IS
    'Says when a replica is refreshed, and returns when it is due next; what is not given stays. refresh_every: the promised age; 0: only when told to. windows: when a refresh may begin, such as mon-fri 22:00-06:00; sat,sun, on the clocks of zone; always: an empty text. priority: from -100 to 100, higher ones come first. Windows and priority are those of its whole refresh group. Raises RO001 and RO028.';
