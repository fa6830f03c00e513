-- plain: tables that reference the destination, and what it references itself.
SET client_min_messages = warning;
SELECT no_plan();

SELECT on_source($$
    CREATE TABLE customers (id int PRIMARY KEY, chief int);
    INSERT INTO customers SELECT i, i + 1 FROM generate_series(1, 500) AS i;
    UPDATE customers SET chief = NULL WHERE id = 500;
$$);
SELECT roneo.create_source('main', :'source_conninfo');
CREATE TABLE customers (id int PRIMARY KEY, chief int);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers);
CREATE TABLE "Lines %" (id int, order_id int REFERENCES orders);
CREATE TABLE bystander (id int);
CREATE FUNCTION fill() RETURNS void LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO customers VALUES (1), (7000) ON CONFLICT DO NOTHING;
    INSERT INTO orders VALUES (1, 1), (2, 7000);
    INSERT INTO "Lines %" VALUES (1, 1);
END;
CREATE FUNCTION counts() RETURNS TABLE (c bigint, o bigint, l bigint, b bigint) LANGUAGE sql
RETURN ROW((SELECT count(*) FROM customers), (SELECT count(*) FROM orders),
           (SELECT count(*) FROM "Lines %"), (SELECT count(*) FROM bystander));
CREATE FUNCTION detail_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS found = PG_EXCEPTION_DETAIL;
    RETURN found;
END $$;
INSERT INTO bystander VALUES (1);
SELECT fill();

-- Others' rows are lost only where somebody said so.
SELECT throws_ok($$ SELECT roneo.create_plain('main', 'customers') $$, 'RO017', NULL,
    'a table that others reference is not taken');
SELECT matches(detail_of($$ SELECT roneo.create_plain('main', 'customers') $$), 'orders.*"Lines %"',
    'and they are named, those behind them too');
SELECT unalike(detail_of($$ SELECT roneo.create_plain('main', 'customers') $$), '%bystander%',
    'but no others');
SELECT results_eq('SELECT * FROM counts()', 'VALUES (2::bigint, 2::bigint, 1::bigint, 1::bigint)',
    'nothing changes');
SELECT lives_ok($$ SELECT roneo.create_plain('main', 'customers', truncate_cascade => true) $$,
    'where that is wanted it is taken');
SELECT results_eq('SELECT * FROM counts()', 'VALUES (500::bigint, 0::bigint, 0::bigint, 1::bigint)',
    'and they are emptied with it');
SELECT fill();
SELECT alike(string_agg(purpose, '; '), '%with it%orders%"Lines \%"%', 'a dry run says so')
FROM roneo.plan('customers');
SELECT is((roneo.refresh('customers')).outcome, 'ok', 'each time');
SELECT results_eq('SELECT * FROM counts()', 'VALUES (500::bigint, 0::bigint, 0::bigint, 1::bigint)',
    'again');

-- A reference that is made later.
SELECT roneo.drop_replica('customers');
ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey;
SELECT roneo.create_plain('main', 'customers');
SELECT fill();
ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES customers ON DELETE CASCADE;
SELECT is((roneo.refresh('customers')).sqlstate, 'RO017',
    'a reference that was made later is respected');
SELECT results_eq('SELECT * FROM counts()', 'VALUES (501::bigint, 2::bigint, 1::bigint, 1::bigint)',
    'nothing is deleted on its behalf');
ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey;

-- References to itself, to rows that come later.
SELECT is((roneo.refresh('customers')).outcome, 'ok', 'without it the table is copied again');
ALTER TABLE customers ADD CONSTRAINT later FOREIGN KEY (chief) REFERENCES customers DEFERRABLE INITIALLY IMMEDIATE;
SELECT is((roneo.refresh('customers')).message, NULL, 'a table that references itself can be copied');
ALTER TABLE customers ALTER CONSTRAINT later NOT DEFERRABLE;
SELECT is((roneo.refresh('customers')).message, NULL, 'also where nothing can be deferred');
SELECT is(count(*), 500::bigint, 'all of it') FROM customers;
SELECT on_source('UPDATE customers SET chief = 9999 WHERE id = 7');
SELECT is((roneo.refresh('customers')).sqlstate, '23503',
    'a reference to nothing is the server''s error');
SELECT is(count(*), 500::bigint, 'which leaves the rows as they were')
FROM customers WHERE chief IS DISTINCT FROM 9999;

SELECT * FROM finish();
