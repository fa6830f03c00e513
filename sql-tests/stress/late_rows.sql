-- The source and the replicas of sql-tests/stress/late_rows. \set source_db, source_conninfo.
\connect :source_db
CREATE SCHEMA app;
CREATE TABLE app.keyed (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), v text);
CREATE INDEX ON app.keyed (at);
CREATE TABLE app.keyless (id bigserial, at timestamptz NOT NULL DEFAULT now(), v text);
CREATE INDEX ON app.keyless (at);
CREATE TABLE app.numbered (id bigserial, v text);
CREATE INDEX ON app.numbered (id);
CREATE TABLE app.local (id bigserial, at timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'Europe/Berlin'), v text)
    PARTITION BY HASH (id);
CREATE TABLE app.local_0 PARTITION OF app.local FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE app.local_1 PARTITION OF app.local FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE INDEX ON app.local (at);

\connect :dest_db
CREATE SCHEMA app;
CREATE TABLE app.keyless (id bigint, at timestamptz, v text, arrived xid8 DEFAULT pg_current_xact_id());
SELECT roneo.create_source('stress', :'source_conninfo');
SELECT roneo.create_inserter('stress', 'app.keyed', control => 'at', batch_limit => 300, refresh_every => '1 ms');
SELECT roneo.create_updater('stress', 'app.keyed', 'app.updated', control => 'at', refresh_every => '1 ms');
SELECT roneo.create_inserter('stress', 'app.keyless', control => 'at', append_only => true, batch_limit => 100,
                             refresh_every => '1 ms');
SELECT roneo.create_inserter('stress', 'app.numbered', control => 'id', append_only => true, batch_limit => 50,
                             refresh_every => '1 ms');
SELECT roneo.create_inserter('stress', 'app.local', control => 'at', append_only => true,
                             control_zone => 'Europe/Berlin', refresh_every => '1 ms');

-- What many a cron script does: rows above the highest that is there, with a boundary of a second.
CREATE TABLE public.plain_cursor (id bigint, at timestamptz);
CREATE FUNCTION public.plain_cursor_refresh(boundary interval) RETURNS void LANGUAGE sql AS $$
    INSERT INTO public.plain_cursor
    SELECT s.* FROM public.dblink(current_setting('stress.source_conninfo'), format(
        'SELECT id, at FROM app.keyless WHERE at > %L AND at < now() - %L::interval',
        coalesce((SELECT max(at) FROM public.plain_cursor), '-infinity'), boundary)) AS s (id bigint, at timestamptz)
$$;
