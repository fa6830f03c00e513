-- A destination with a replica of each method, as a user makes it: role keeper owns the copies,
-- role reader may refresh them and see their status.
SELECT roneo.create_source('shop', :'source_conninfo');
SELECT roneo.create_plain('shop', 'app.orders', 'public.orders', refresh_every => '1 hour');
SELECT roneo.create_snapshot('shop', 'app.orders', 'public."Orders seen"', filter => 'id > 0');
CREATE VIEW public.late AS SELECT dest, lag FROM roneo.status WHERE lag > interval '0';

GRANT USAGE, CREATE ON SCHEMA public TO keeper;
ALTER TABLE public.orders OWNER TO keeper;
ALTER VIEW public."Orders seen" OWNER TO keeper;
SELECT format('ALTER TABLE %I.%I OWNER TO keeper', m.table_schema, hidden.name)
FROM roneo.snapshot_replica AS m,
     unnest(ARRAY[m.first_table, m.second_table]) AS hidden(name) \gexec
-- Who is not a superuser can use dblink only where the source asks for a password.
SELECT server_name FROM roneo.source \gset
GRANT USAGE ON FOREIGN SERVER :"server_name" TO keeper;
CREATE USER MAPPING FOR keeper SERVER :"server_name"
    OPTIONS (user 'reader', password 'reader secret');
SELECT roneo.missing_grants('keeper') \gexec
SELECT roneo.grant_refresh('reader');
