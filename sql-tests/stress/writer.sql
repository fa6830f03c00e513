\set pause random(1, 2500)
\set fate random(1, 10)
BEGIN;
SELECT 1;
\if :fate > 5
\sleep :pause ms
\endif
INSERT INTO app.keyed (v) VALUES ('a'), ('b');
INSERT INTO app.keyless (v) VALUES ('a'), ('b');
INSERT INTO app.numbered (v) VALUES ('a');
INSERT INTO app.local (v) VALUES ('a'), ('b');
SAVEPOINT one;
INSERT INTO app.keyed (v) VALUES ('in a savepoint');
INSERT INTO app.keyless (v) VALUES ('in a savepoint');
INSERT INTO app.numbered (v) VALUES ('in a savepoint');
UPDATE app.keyed SET v = v || '+', at = now() WHERE id = (SELECT id FROM app.keyed ORDER BY random() LIMIT 1);
\if :fate = 3
ROLLBACK TO one;
\else
RELEASE one;
\endif
\if :fate < 4
\sleep :pause ms
\endif
\if :fate = 1
ROLLBACK;
\elif :fate = 2
PREPARE TRANSACTION 'stress_:client_id';
\sleep :pause ms
COMMIT PREPARED 'stress_:client_id';
\else
COMMIT;
\endif
