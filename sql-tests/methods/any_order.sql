-- Alone in the cluster: others' transactions would hold rows back.
-- Transactions, savepoints, prepared ones, VACUUM, rewrites, refreshes, sweeps and repulls in an order
-- made by chance; its seed is in the output, and SEED in the environment sets it.
SET client_min_messages = warning;
SELECT plan(6);

\set given `echo "${SEED:-}"`
SELECT coalesce(nullif(:'given', ''), round(random()::numeric, 6)::text) AS seed \gset
SELECT diag(format('seed %s', :'seed'));
SELECT on_source($$
    CREATE TABLE log (id bigserial, at timestamptz DEFAULT clock_timestamp(), v text) PARTITION BY HASH (id);
    CREATE TABLE log0 PARTITION OF log FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE log1 PARTITION OF log FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE num (id serial, v text);
    ALTER SEQUENCE num_id_seq CACHE 5;
    CREATE TABLE upd (id serial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(), v text);
    INSERT INTO log (v) SELECT 'x' FROM generate_series(1, 20);
    INSERT INTO num (v) SELECT 'x' FROM generate_series(1, 20);
    INSERT INTO upd (v) SELECT 'x' FROM generate_series(1, 20) $$) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT roneo.create_inserter('src', 'public.log', control => 'at', append_only => true, batch_limit => 7) \g /dev/null
SELECT roneo.create_inserter('src', 'public.num', control => 'id', append_only => true, batch_limit => 5) \g /dev/null
SELECT roneo.create_updater('src', 'public.upd', control => 'at', batch_limit => 6) \g /dev/null
SELECT roneo.create_inserter('src', 'public.upd', dest => 'ins', control => 'at') \g /dev/null
SELECT dblink_connect(s, :'source_conninfo') FROM unnest('{one,two,three,other}'::text[]) AS s \g /dev/null
SELECT dblink_exec('other', 'SET lock_timeout = ''20ms''') \g /dev/null
CREATE TABLE session (name text, is_open boolean DEFAULT false);
INSERT INTO session VALUES ('one'), ('two'), ('three');
CREATE TABLE prepared (gid text);
CREATE TABLE problem (message text);

CREATE FUNCTION any_of(choices text[]) RETURNS text LANGUAGE sql RETURN choices[1 + floor(random() * cardinality(choices))::integer];
CREATE FUNCTION any_value(dest text) RETURNS text LANGUAGE sql
RETURN CASE WHEN random() < 0.7 THEN source_value(format('SELECT %I FROM %I ORDER BY random() LIMIT 1',
    CASE dest WHEN 'num' THEN 'id' ELSE 'at' END, CASE dest WHEN 'ins' THEN 'upd' ELSE dest END)) END;

CREATE FUNCTION write(session session, n integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT session.is_open THEN
        PERFORM dblink_exec(session.name, 'BEGIN');
        UPDATE session AS s SET is_open = true WHERE s.name = session.name;
    END IF;
    PERFORM dblink_exec(session.name, 'SAVEPOINT a') WHERE random() < 0.3;
    PERFORM dblink_exec(session.name, format('INSERT INTO log (at, v) VALUES (clock_timestamp() - random() * interval ''5 minutes'', %1$L);
        INSERT INTO num (v) VALUES (%1$L); INSERT INTO upd (v) VALUES (%1$L)', n));
    PERFORM dblink_exec(session.name, format('UPDATE upd SET v = %L, at = clock_timestamp()
        WHERE id = (SELECT id FROM upd ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED)', n)) WHERE random() < 0.2;
END;
$$;
CREATE FUNCTION end_one(session session, n integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ending text := any_of('{COMMIT,COMMIT,COMMIT,COMMIT,ROLLBACK,PREPARE}');
BEGIN
    IF ending = 'PREPARE' THEN
        ending := format('PREPARE TRANSACTION ''any order %s''', n);
        INSERT INTO prepared VALUES (format('any order %s', n));
    END IF;
    PERFORM dblink_exec(session.name, ending);
    UPDATE session AS s SET is_open = false WHERE s.name = session.name;
END;
$$;
CREATE FUNCTION disturb() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM dblink_exec('other', any_of(ARRAY['VACUUM FULL log0', 'VACUUM (FREEZE) num', 'VACUUM FULL num', 'VACUUM (FREEZE) log',
        'VACUUM FULL upd', 'ALTER TABLE upd ALTER v TYPE text USING concat(v, ''a'')']));
EXCEPTION WHEN lock_not_available THEN
    NULL;
END;
$$;
CREATE FUNCTION settle(gid text, ending text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM dblink_exec('other', format('%s PREPARED %L', ending, gid));
    DELETE FROM prepared AS p WHERE p.gid = settle.gid;
END;
$$;

CREATE PROCEDURE live(steps integer) LANGUAGE plpgsql AS $$
DECLARE
    chance float8;
    one    session;
    dest   text;
    gid    text;
    told   text;
BEGIN
    FOR n IN 1 .. steps LOOP
        chance := random();
        dest := any_of('{log,num,upd,ins}');
        SELECT s.* INTO one FROM session AS s ORDER BY random() LIMIT 1;
        CASE
            WHEN chance < 0.45 THEN PERFORM write(one, n);
            WHEN chance < 0.60 AND one.is_open THEN PERFORM end_one(one, n);
            WHEN chance < 0.65 THEN PERFORM settle(p.gid, any_of('{COMMIT,COMMIT,COMMIT,ROLLBACK}')) FROM (SELECT * FROM prepared LIMIT 1) AS p;
            WHEN chance < 0.68 THEN PERFORM disturb();
            WHEN chance < 0.73 THEN PERFORM roneo.begin_repull(dest::regclass, any_value(dest), any_value(dest));
            ELSE
                told := (roneo.refresh(dest::regclass, sweep => random() < 0.1)).message;
                INSERT INTO problem SELECT concat(dest, ': ', told) WHERE told IS NOT NULL;
        END CASE;
        COMMIT;
    END LOOP;
    PERFORM dblink_exec(s.name, 'COMMIT') FROM session AS s WHERE s.is_open;
    PERFORM settle(p.gid, 'COMMIT') FROM prepared AS p;
    COMMIT;
    FOR n IN 1 .. 3 LOOP
        FOREACH dest IN ARRAY '{log,num,upd,ins}'::text[] LOOP
            WHILE coalesce((roneo.refresh(dest::regclass)).has_more, false) LOOP
                COMMIT;
            END LOOP;
            COMMIT;
        END LOOP;
    END LOOP;
END;
$$;
SELECT setseed(:'seed'::float8) \g /dev/null
CALL live(300);

SELECT is_empty('SELECT DISTINCT message FROM problem', 'nothing failed');
SELECT cmp_ok((SELECT count(*) FROM log), '>', 40::bigint, 'there are rows');
CREATE FUNCTION here(dest text, what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    rows text;
BEGIN
    EXECUTE format('SELECT string_agg(%1$s, '' '' ORDER BY %1$s) FROM %2$I', what, dest) INTO rows;
    RETURN rows;
END;
$$;
SELECT is(here(d, what), source_value(format('SELECT string_agg(%1$s, '' '' ORDER BY %1$s) FROM %2$I', what, s)), format('%s has each row, once', d))
FROM (VALUES ('log', 'log', 'concat(id, ''-'', v)'), ('num', 'num', 'concat(id, ''-'', v)'), ('upd', 'upd', 'concat(id, ''-'', v)'), ('ins', 'upd', 'id::text')) AS v (d, s, what);
