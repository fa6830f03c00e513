\set pause random(1, 400)
\set fate random(1, 10)
\set id random(1001, 20000)
\set other random(1001, 20000)
BEGIN;
INSERT INTO app.orders (id, v, n) VALUES (nextval('app.order_id'), 'new', 1.0);
UPDATE app.orders SET v = v || '+', n = n + 0.10 WHERE id = :id;
DELETE FROM app.orders WHERE id = :other;
INSERT INTO app.events (v) VALUES ('a'), ('a'), ('b');
\if :fate > 5
\sleep :pause ms
\endif
UPDATE app.items SET v = v || '+', at = clock_timestamp() WHERE id = :id;
INSERT INTO app.items (id, v) VALUES (currval('app.order_id'), 'new');
UPDATE app.small SET v = v || '+' WHERE id = :other % 3000 + 1;
\if :fate = 1
ROLLBACK;
\else
COMMIT;
\endif
