-- A row in each table that the oldest version had, and what users do with an extension: grants,
-- and a view on a view of ours. Names its columns, so that it fits every later version too.
SET timezone = 'UTC';
CREATE TABLE public.orders (id integer PRIMARY KEY);
CREATE TABLE public.orders_snap1 (id integer);
CREATE TABLE public.orders_snap2 (id integer);
CREATE VIEW public.shown_orders AS SELECT id FROM public.orders_snap1;

INSERT INTO roneo.source (source_name, server_name, owns_server, source_encoding, created_at)
VALUES ('shop', 'shop', true, NULL, '2026-01-02 03:04:05'),
       ('Odd "Name"', 'odd', false, 'LATIN1', '2026-01-02 03:04:06');

INSERT INTO roneo.replica (source_id, source_schema, source_table, source_kind, source_lockable,
    dest, dest_schema, dest_name, method, wanted_columns, filter, filter_path, refresh_every,
    created_at, generation, last_success_at, last_outcome, identity)
VALUES (1, 'app', 'orders', 'r', true, 'public.orders', 'public', 'orders', 'plain', NULL, NULL,
        'public', '1 hour', '2026-01-02 03:04:07', 3, '2026-01-03 00:00:00', 'ok',
        '{"system_identifier": "7"}'),
       (2, 'App', 'Orders', 'v', false, 'public.shown_orders', 'public', 'shown_orders', 'snapshot',
        '{id}', 'id > 0', 'app, public', NULL, '2026-01-02 03:04:08', 0, NULL, NULL, NULL);

INSERT INTO roneo.plain_replica (replica_id, sequences, truncate_cascade, columns)
VALUES (1, '{public.orders_id_seq}', true, '{id}');

INSERT INTO roneo.snapshot_replica (replica_id, table_schema, first_table, second_table, columns,
    fingerprint, loaded_at)
VALUES (2, 'public', 'orders_snap1', 'orders_snap2', '[{"name": "id"}]', '{"size": "8192"}',
        '2026-01-03 00:00:01');

INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, ended_at, seconds,
    rows_sent, rows_received, inserted, steps)
VALUES (1, 'public.orders', 'plain', 'runner', 'ok', '2026-01-03 00:00:00', '2026-01-03 00:00:02',
        2, 5, 5, 5, '[{"number": 1}]'),
       (1, 'public.orders', 'plain', 'sql', 'failed', '2026-01-04 00:00:00', '2026-01-04 00:00:01',
        1, NULL, NULL, NULL, NULL);

INSERT INTO roneo.setting (setting_name, value) VALUES ('history_days', '30');

GRANT USAGE ON SCHEMA roneo TO reader;
GRANT SELECT ON roneo.status TO reader WITH GRANT OPTION;
GRANT SELECT (dest, outcome), UPDATE (message) ON roneo.run TO reader;
GRANT EXECUTE ON FUNCTION roneo.version() TO reader;
GRANT EXECUTE ON FUNCTION roneo.setting(text) TO PUBLIC;

CREATE VIEW public.late AS SELECT dest, lag FROM roneo.status WHERE lag > interval '0';
