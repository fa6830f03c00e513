-- Tables that writers change all the while, but for the ids up to 1000, and a replica of each method.
SET client_min_messages = warning;
SELECT public.dblink_exec(:'source_conninfo', $$
    CREATE SCHEMA app;
    CREATE TABLE app.orders (id bigint PRIMARY KEY, v text, n numeric, at timestamptz NOT NULL DEFAULT clock_timestamp());
    INSERT INTO app.orders SELECT i, 'v' || i, i * 1.10 FROM generate_series(1, 20000) AS i;
    CREATE SEQUENCE app.order_id START 20001;
    CREATE TABLE app.items (LIKE app.orders INCLUDING ALL);
    INSERT INTO app.items SELECT * FROM app.orders;
    CREATE TABLE app.events (at timestamptz NOT NULL DEFAULT clock_timestamp(), v text);
    CREATE INDEX ON app.events (at);
    INSERT INTO app.events (v) SELECT 'v' || i % 100 FROM generate_series(1, 5000) AS i;
    CREATE TABLE app.small (id int PRIMARY KEY, v text);
    INSERT INTO app.small SELECT i, 'v' FROM generate_series(1, 3000) AS i $$);
SELECT roneo.create_source('src', :'source_conninfo');
CREATE SCHEMA app;
SELECT roneo.create_dml('src', 'app.orders', 'app.orders_dml'), roneo.create_logdel('src', 'app.orders', 'app.orders_logdel'),
       roneo.create_updater('src', 'app.items', 'app.items_updater', control => 'at'),
       roneo.create_inserter('src', 'app.events', 'app.events_inserter', control => 'at', append_only => true),
       roneo.create_plain('src', 'app.small', 'app.small_plain'), roneo.create_snapshot('src', 'app.small', 'app.small_snapshot');

-- What is planted, one row a call, in a replica at random. Those that are copied whole lose it again.
CREATE TABLE public.planted (dest text, difference jsonb);
CREATE FUNCTION public.plant() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    target text := (ARRAY['app.orders_dml', 'app.orders_logdel', 'app.items_updater'])[1 + floor(random() * 3)];
    kind   text := (ARRAY['missing', 'extra', 'changed'])[1 + floor(random() * 3)];
    key    bigint := 1 + floor(random() * 1000);
BEGIN
    IF kind = 'extra' THEN key := -key; END IF;
    EXECUTE CASE kind WHEN 'missing' THEN format('DELETE FROM %s WHERE id = %s', target, key)
                      WHEN 'changed' THEN format('UPDATE %s SET n = n::numeric(10,3) WHERE id = %s', target, key)
                      ELSE format('INSERT INTO %s (id, v, at) VALUES (%s, NULL, now() - interval ''1 day'')', target, key) END;
    INSERT INTO public.planted VALUES (target, jsonb_build_object('kind', kind, 'key', jsonb_build_object('id', key::text)));
    RETURN target;
END $$;
