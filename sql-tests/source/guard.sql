-- A replica follows its destination to a new name, and cannot be pointed at another relation.
SET client_min_messages = error;
SELECT plan(5);

SELECT on_source('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)') \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT roneo.create_plain('src', 't') \g /dev/null
CREATE TABLE victim (id int PRIMARY KEY);
INSERT INTO victim VALUES (7);

SELECT throws_ok($$ UPDATE roneo.replica SET dest = 'victim' $$, 'RO009', NULL,
    'another relation is refused');
SELECT throws_ok($$ UPDATE roneo.replica SET dest = 'victim', dest_name = 'victim' $$, 'RO009', NULL,
    'with its name too');
SELECT throws_ok($$ UPDATE roneo.replica SET dest_name = 'victim' $$, 'RO009', NULL,
    'and its name alone');

ALTER TABLE t RENAME TO renamed;
SELECT is((roneo.refresh('renamed')).outcome, 'ok', 'a destination that was renamed is refreshed');
SELECT is((SELECT concat_ws(' ', dest, dest_name) FROM roneo.replica), 'renamed renamed', 'under its new name');

SELECT * FROM finish();
