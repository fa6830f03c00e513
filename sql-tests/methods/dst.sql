-- Alone in the cluster: others' transactions would hold rows back.
-- Replicas that live through changes of the clock. The time is ours: a hand of a few lines takes the
-- functions of a refresh through it, with real rows and transactions.
SET client_min_messages = warning;
SELECT plan(49);

CREATE TABLE state (mode text PRIMARY KEY, c roneo.control_replica, refreshed integer DEFAULT 0, paused integer DEFAULT 0);
CREATE TABLE arrived (mode text, id integer, xmin_seen text);
SELECT format('host=%s port=%s dbname=%s user=postgres', :'socket', :'port', :'dest_db') AS dest_conninfo \gset
SELECT dblink_connect(s, :'dest_conninfo') FROM unnest('{long,writer}'::text[]) AS s \g /dev/null

CREATE FUNCTION start(type text, zone text, blackout text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    made roneo.control_replica;
    one  text;
BEGIN
    PERFORM dblink_exec('writer', format('DROP TABLE IF EXISTS s; CREATE TABLE s (id integer, at %s); CREATE INDEX ON s (at)', type));
    DELETE FROM state;
    DELETE FROM arrived;
    FOREACH one IN ARRAY '{keyless,keyed,batches,blind}'::text[] LOOP
        made := NULL;
        made.control := 'at'; made.control_type := CASE type WHEN 'timestamptz' THEN 'timestamp with time zone' WHEN 'timestamp' THEN 'timestamp without time zone' ELSE type END;
        made.look_back := '10 minutes'; made.boundary := '0'; made.control_zone := zone; made.blackout := blackout; made.null_control := 'refuse';
        made.open_since := '{}'; made.repulling := false; made.append_only := true;
        made.reads_xmin := one <> 'blind'; made.key_columns := CASE one WHEN 'keyed' THEN '{id}'::name[] END;
        made.batch_limit := CASE one WHEN 'batches' THEN 2 END;
        INSERT INTO state VALUES (one, made);
    END LOOP;
END;
$$;

-- One refresh: the probe is the real one, but for its clock.
CREATE FUNCTION refresh_at(s state, clock timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    r       roneo.replica;
    asked   roneo.probe;
    before  jsonb;
    inside  jsonb;
    answer  jsonb;
    c       roneo.control_replica := s.c;
BEGIN
    IF roneo.blackout_at(c, clock) IS NOT NULL THEN
        UPDATE state SET paused = paused + 1 WHERE mode = s.mode;
        RETURN false;
    END IF;
    r.source_schema := 'public'; r.source_table := 's'; r.source_kind := 'r';
    asked := roneo.control_probe(r, c);
    EXECUTE asked.before INTO before;
    EXECUTE asked.inside INTO inside;
    answer := jsonb_build_object('before', before || jsonb_build_object('clock', clock), 'inside', inside);
    IF roneo.has_news(c, answer) THEN
        EXECUTE format('INSERT INTO arrived SELECT %L, id, xmin::text FROM s WHERE %s', s.mode, roneo.window_select(r, c, answer));
    END IF;
    UPDATE state SET refreshed = refreshed + 1, c = roneo.position_after(s.c, answer) WHERE mode = s.mode;
    RETURN coalesce((inside ->> 'cut')::boolean, false);
END;
$$;

-- A row every five minutes, a refresh every fifteen, and a transaction that stays open, again and again: for
-- half an hour, and not at the change, or for more than an hour. The clock is set back by jump in the middle.
CREATE PROCEDURE live(around timestamptz, jump interval, ends integer DEFAULT 11) LANGUAGE plpgsql AS $$
DECLARE
    clock timestamptz;
    zone  text := (SELECT (c).control_zone FROM state WHERE mode = 'keyless');
    kind  text := (SELECT (c).control_type FROM state WHERE mode = 'keyless');
    value text;
    one   state;
    again boolean;
BEGIN
    PERFORM set_config('TimeZone', 'UTC', false);
    FOR n IN 1 .. 64 LOOP
        clock := around - interval '160 minutes' + n * interval '5 minutes' - CASE WHEN n > 32 THEN jump ELSE '0' END;
        value := CASE kind WHEN 'timestamp with time zone' THEN clock::text ELSE (clock AT TIME ZONE zone)::text END;
        IF n % 16 = 5 THEN PERFORM dblink_exec('long', 'BEGIN'); END IF;
        IF n % 16 IN (5, 9, 15) AND (n % 16 < ends OR ends < 5) THEN PERFORM dblink_exec('long', format('INSERT INTO s VALUES (%s, %L)', 1000 + n, value)); END IF;
        IF n % 16 = ends AND n > 5 THEN PERFORM dblink_exec('long', 'COMMIT'); END IF;
        PERFORM dblink_exec('writer', format('INSERT INTO s VALUES (%s, %L)', n, value));
        CONTINUE WHEN n % 3 <> 0;
        FOR one IN SELECT * FROM state LOOP
            COMMIT;
            again := true;
            WHILE again LOOP
                SELECT s.* INTO one FROM state AS s WHERE s.mode = one.mode;
                again := refresh_at(one, clock);
                COMMIT;
            END LOOP;
        END LOOP;
    END LOOP;
    PERFORM dblink_exec('long', 'ROLLBACK');
    -- The pause ends sometime.
    FOR n IN 1 .. 3 LOOP
        FOR one IN SELECT * FROM state LOOP
            again := true;
            WHILE again LOOP
                SELECT s.* INTO one FROM state AS s WHERE s.mode = one.mode;
                again := refresh_at(one, clock + n * interval '4 hours');
                COMMIT;
            END LOOP;
        END LOOP;
    END LOOP;
END;
$$;

CREATE FUNCTION verdict(description text, modes text[] DEFAULT '{keyless,keyed,batches}') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    one text;
BEGIN
    FOREACH one IN ARRAY modes LOOP
        RETURN NEXT is((SELECT format('%s lost, %s doubled', count(*) FILTER (WHERE a.id IS NULL), coalesce(sum(a.n - 1) FILTER (WHERE one <> 'keyed'), 0))
                        FROM s LEFT JOIN (SELECT id, count(*) AS n FROM arrived AS k WHERE k.mode = one GROUP BY id) AS a USING (id)),
                       '0 lost, 0 doubled', concat(description, ', ', one));
    END LOOP;
END;
$$;
-- What a cursor that only knows the last value would have read.
CREATE FUNCTION lost_by_cursor() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT count(*) FROM s WHERE NOT EXISTS (SELECT FROM arrived AS a WHERE a.mode = 'blind' AND a.id = s.id));
END;
$$;

SELECT start('timestamp', 'America/New_York', 'off') \g /dev/null
CALL live('2025-11-02 06:00+00', '0');
SELECT * FROM verdict('New York falls back, without a pause');
SELECT start('timestamp', 'America/New_York', 'off') \g /dev/null
CALL live('2025-11-02 06:00+00', '0', 3);
SELECT * FROM verdict('while a transaction is open');
SELECT cmp_ok((SELECT count(*) FROM s), '>', 70::bigint, 'among rows of transactions that were open for an hour');
SELECT cmp_ok(lost_by_cursor(), '>', 15::bigint, 'a cursor without transactions loses the hour and the late rows');
SELECT is((SELECT sum(paused) FROM state), 0::bigint, 'nothing paused');
SELECT start('timestamp', 'America/New_York', 'auto') \g /dev/null
CALL live('2025-11-02 06:00+00', '0');
SELECT * FROM verdict('New York falls back, with a pause');
SELECT cmp_ok((SELECT min(paused) FROM state), '>', 5, 'that all of them kept');
-- Late rows are lost to a replica without transactions, but not those of the hour.
SELECT is((SELECT count(*) FROM s WHERE id < 1000 AND NOT EXISTS (SELECT FROM arrived AS a WHERE a.mode = 'blind' AND a.id = s.id)), 0::bigint,
    'with it, not even one without transactions loses the hour');
SELECT is((SELECT count(*) - count(DISTINCT id) FROM arrived WHERE mode = 'blind'), 0::bigint, 'or reads it twice');
SELECT start('timestamp', 'America/New_York', 'off') \g /dev/null
CALL live('2025-03-09 07:00+00', '0');
SELECT * FROM verdict('New York springs forward, without a pause');
SELECT start('timestamp', 'America/New_York', 'auto') \g /dev/null
CALL live('2025-03-09 07:00+00', '0');
SELECT * FROM verdict('New York springs forward, with a pause');
SELECT start('timestamp', 'Europe/Berlin', 'off') \g /dev/null
CALL live('2025-10-26 01:00+00', '0');
SELECT * FROM verdict('Berlin falls back');
SELECT start('timestamp', 'Australia/Lord_Howe', 'off') \g /dev/null
CALL live('2025-04-05 15:00+00', '0');
SELECT * FROM verdict('Lord Howe falls back by half an hour');
SELECT start('timestamp', 'Australia/Lord_Howe', 'off') \g /dev/null
CALL live('2025-10-04 15:30+00', '0');
SELECT * FROM verdict('Lord Howe springs forward');
SELECT start('timestamp', 'America/Sao_Paulo', 'off') \g /dev/null
CALL live('2018-02-18 02:00+00', '0');
SELECT * FROM verdict('Sao Paulo falls back at midnight');
SELECT start('timestamp', 'America/Sao_Paulo', 'auto') \g /dev/null
CALL live('2018-02-18 02:00+00', '0');
SELECT * FROM verdict('Sao Paulo falls back, with a pause');
SELECT start('date', 'America/Sao_Paulo', 'off') \g /dev/null
CALL live('2018-02-18 02:00+00', '0');
SELECT * FROM verdict('dates at that midnight');

-- Clocks that are set by hand.
SELECT start('timestamptz', 'UTC', 'auto') \g /dev/null
CALL live('2025-06-01 12:00+00', '2 hours');
SELECT * FROM verdict('a clock that is set back by two hours');
SELECT cmp_ok(lost_by_cursor(), '>', 15::bigint, 'a cursor without transactions loses two hours');
SELECT start('timestamptz', 'UTC', 'auto') \g /dev/null
CALL live('2025-06-01 12:00+00', '10 years');
SELECT * FROM verdict('by ten years');
SELECT start('timestamptz', 'UTC', 'auto') \g /dev/null
CALL live('2025-06-01 12:00+00', '-10 years');
SELECT * FROM verdict('or forward by as much');
