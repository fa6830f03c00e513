-- The source and the replicas of sql-tests/stress/captures. part: source or dest;
-- \set source_conninfo, batch_limit for the latter.
\if :is_source
CREATE SCHEMA app;
CREATE TABLE app.ordinary (id int PRIMARY KEY, v text NOT NULL);
CREATE TABLE app.composite (a int, b text, u int CONSTRAINT composite_u_key UNIQUE DEFERRABLE, v text NOT NULL, PRIMARY KEY (a, b));
CREATE TABLE app.parted (id int, region int, v text NOT NULL, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE app.parted_0 PARTITION OF app.parted FOR VALUES IN (0);
CREATE TABLE app.parted_1 PARTITION OF app.parted FOR VALUES IN (1);
CREATE TABLE app.parted_rest PARTITION OF app.parted DEFAULT PARTITION BY RANGE (id);
CREATE TABLE app.parted_low PARTITION OF app.parted_rest FOR VALUES FROM (MINVALUE) TO (1000);
CREATE TABLE app.parted_high PARTITION OF app.parted_rest FOR VALUES FROM (1000) TO (MAXVALUE);
INSERT INTO app.ordinary SELECT n, 'first' || n FROM generate_series(1, 2000) AS n;
INSERT INTO app.composite SELECT n, 'b' || n % 3, n, 'first' || n FROM generate_series(1, 2000) AS n;
INSERT INTO app.parted SELECT n, n % 4, 'first' || n FROM generate_series(1, 2000) AS n;

-- What really went, row by row, to compare the records of logdel with. Its own v tells each version
-- of a row from all others; truncated: the row went by TRUNCATE, which shows no rows.
CREATE TABLE app.gone (table_name text, key text, v text, truncated boolean);
CREATE INDEX ON app.gone (table_name, key);
CREATE FUNCTION app.key_of(t text, r jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE t WHEN 'ordinary' THEN r ->> 'id' WHEN 'composite' THEN (r ->> 'a') || '/' || (r ->> 'b')
                  ELSE (r ->> 'id') || '/' || (r ->> 'region') END $$;
CREATE FUNCTION app.note_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO app.gone
    SELECT TG_ARGV[0], app.key_of(TG_ARGV[0], to_jsonb(OLD)), OLD.v, false
    WHERE TG_OP = 'DELETE' OR app.key_of(TG_ARGV[0], to_jsonb(OLD)) <> app.key_of(TG_ARGV[0], to_jsonb(NEW));
    RETURN NULL;
END $$;
CREATE FUNCTION app.note_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO app.gone SELECT %1$L, app.key_of(%1$L, to_jsonb(t)), t.v, true FROM %2$s AS t', TG_ARGV[0], TG_RELID::regclass);
    RETURN NULL;
END $$;
SELECT format('CREATE TRIGGER note_gone AFTER UPDATE OR DELETE ON app.%1$I FOR EACH ROW EXECUTE FUNCTION app.note_gone(%1$L)', t)
FROM unnest(ARRAY['ordinary', 'composite', 'parted']) AS t \gexec
SELECT format('CREATE TRIGGER note_truncated BEFORE TRUNCATE ON app.%1$I FOR EACH STATEMENT EXECUTE FUNCTION app.note_truncated(%2$L)',
              c.relname, split_part(c.relname, '_', 1))
FROM pg_class AS c WHERE c.relnamespace = 'app'::regnamespace AND c.relkind = 'r' AND c.relname <> 'gone' \gexec

-- Each kind of change, at a place of its own by chance.
CREATE TABLE app.done (kind text, n bigint);
CREATE FUNCTION app.v() RETURNS text LANGUAGE sql AS 'SELECT gen_random_uuid()::text';
CREATE FUNCTION app.num(top int) RETURNS int LANGUAGE sql AS 'SELECT 1 + floor(random() * top)::int';

CREATE PROCEDURE app.change_ordinary(kind int) LANGUAGE plpgsql AS $$
DECLARE
    a int := app.num(3000);
    b int := app.num(3000);
BEGIN
    IF kind <= 3 THEN
        INSERT INTO app.ordinary VALUES (a, app.v()) ON CONFLICT (id) DO UPDATE SET v = excluded.v;
    ELSIF kind <= 5 THEN
        DELETE FROM app.ordinary WHERE id = a;
    ELSIF kind <= 7 THEN
        UPDATE app.ordinary SET v = app.v() WHERE id = a;
    ELSIF kind = 8 THEN
        UPDATE app.ordinary SET id = b, v = app.v() WHERE id = a AND NOT EXISTS (SELECT FROM app.ordinary WHERE id = b);
    ELSIF kind = 9 THEN
        UPDATE app.ordinary SET v = app.v() WHERE id BETWEEN a AND a + app.num(900);
    ELSIF kind = 10 THEN
        DELETE FROM app.ordinary WHERE id BETWEEN a AND a + app.num(200);
    ELSIF kind = 11 THEN
        INSERT INTO app.ordinary SELECT n, app.v() FROM generate_series(a, a + app.num(900)) AS n ON CONFLICT DO NOTHING;
    ELSE
        -- Comes, goes and comes again within a transaction.
        DELETE FROM app.ordinary WHERE id = a;
        INSERT INTO app.ordinary VALUES (a, app.v()) ON CONFLICT DO NOTHING;
        DELETE FROM app.ordinary WHERE id = a;
    END IF;
END $$;

CREATE PROCEDURE app.change_composite(kind int) LANGUAGE plpgsql AS $$
DECLARE
    x int := app.num(3000);
    y int := app.num(3000);
BEGIN
    IF kind <= 3 THEN
        INSERT INTO app.composite VALUES (x, 'b' || app.num(3), app.num(100000), app.v())
        ON CONFLICT (a, b) DO UPDATE SET v = excluded.v;
    ELSIF kind <= 5 THEN
        DELETE FROM app.composite WHERE a = x;
    ELSIF kind <= 7 THEN
        UPDATE app.composite SET v = app.v() WHERE a = x;
    ELSIF kind = 8 THEN
        UPDATE app.composite SET b = 'b' || app.num(3), v = app.v() WHERE a = x;
    ELSIF kind <= 10 THEN
        -- Two rows, or many, take over each other's unique values.
        UPDATE app.composite AS c SET u = o.u, v = app.v()
        FROM app.composite AS o
        WHERE c.a + o.a = x + y AND c.b = o.b AND c.a <> o.a AND abs(c.a - x) < 20 AND abs(o.a - y) < 20;
    ELSIF kind = 11 THEN
        INSERT INTO app.composite SELECT n, 'b' || n % 3, n + 200000 * app.num(9), app.v()
        FROM generate_series(x, x + app.num(300)) AS n ON CONFLICT (a, b) DO NOTHING;
    ELSE
        DELETE FROM app.composite WHERE a BETWEEN x AND x + app.num(100);
    END IF;
END $$;

CREATE PROCEDURE app.change_parted(kind int) LANGUAGE plpgsql AS $$
DECLARE
    x int := app.num(3000);
    r int := app.num(5) - 1;
BEGIN
    IF kind <= 2 THEN
        INSERT INTO app.parted VALUES (x, r, app.v()) ON CONFLICT (id, region) DO UPDATE SET v = excluded.v;
    ELSIF kind = 3 THEN
        INSERT INTO app.parted_1 VALUES (x, 1, app.v()) ON CONFLICT DO NOTHING;
        DELETE FROM app.parted_0 WHERE id BETWEEN x AND x + 3;
    ELSIF kind <= 5 THEN
        DELETE FROM app.parted WHERE id = x;
    ELSIF kind <= 7 THEN
        UPDATE app.parted SET v = app.v() WHERE id = x;
        UPDATE app.parted_low SET v = app.v() WHERE id = x;
    ELSIF kind = 8 THEN
        -- Rows move from one partition to another.
        UPDATE app.parted SET region = r, v = app.v() WHERE id = x AND region <> r
           AND NOT EXISTS (SELECT FROM app.parted AS p WHERE p.id = x AND p.region = r)
           AND region = (SELECT min(region) FROM app.parted WHERE id = x);
    ELSIF kind = 9 THEN
        UPDATE app.parted SET v = app.v() WHERE id BETWEEN x AND x + app.num(400);
    ELSIF kind = 10 THEN
        INSERT INTO app.parted SELECT n, n % 5, app.v() FROM generate_series(x, x + app.num(400)) AS n ON CONFLICT DO NOTHING;
    ELSIF kind = 11 THEN
        DELETE FROM app.parted_high WHERE id BETWEEN x AND x + app.num(50);
    ELSE
        DELETE FROM app.parted WHERE id BETWEEN x AND x + app.num(100);
    END IF;
END $$;

-- Who comes too late to a key, a value or a lock leaves it: the savepoint is rolled back.
CREATE PROCEDURE app.change(kind int) LANGUAGE plpgsql AS $$
DECLARE
    what text := (ARRAY['ordinary', 'composite', 'parted'])[app.num(3)];
BEGIN
    EXECUTE format('CALL app.change_%s(%s)', what, kind);
EXCEPTION WHEN unique_violation OR deadlock_detected THEN
    NULL;
END $$;

CREATE PROCEDURE app.truncate_one() LANGUAGE plpgsql SET lock_timeout = '700ms' AS $$
DECLARE
    what text := (ARRAY['ordinary', 'composite', 'parted', 'parted_0', 'parted_high', 'parted_rest'])[app.num(6)];
BEGIN
    EXECUTE format('TRUNCATE app.%I', what);
    EXECUTE format('CALL app.change_%s(11)', split_part(what, '_', 1));
EXCEPTION WHEN lock_not_available OR deadlock_detected OR unique_violation THEN
    NULL;
END $$;
\else
CREATE EXTENSION dblink;
CREATE EXTENSION roneo;
CREATE SCHEMA app;
SELECT roneo.create_source('stress', :'source_conninfo');
SELECT roneo.create_dml('stress', 'app.' || t, refresh_every => '1 ms', batch_limit => nullif(:'batch_limit', '')::bigint)
FROM unnest(ARRAY['ordinary', 'composite', 'parted']) AS t;
SELECT roneo.create_logdel('stress', 'app.' || t, 'app.' || t || '_kept', refresh_every => '1 ms', batch_limit => nullif(:'batch_limit', '')::bigint)
FROM unnest(ARRAY['ordinary', 'composite', 'parted']) AS t;
\endif
