-- What the real destination of the check copies.
CREATE SCHEMA app;
CREATE TABLE app.orders (id integer PRIMARY KEY, note text NOT NULL);
INSERT INTO app.orders VALUES (1, 'a'), (2, 'b'), (3, 'c');
GRANT USAGE ON SCHEMA app TO reader;
GRANT SELECT ON app.orders TO reader;
