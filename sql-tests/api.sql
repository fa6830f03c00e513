-- The public interface is the one in api.txt. 'make api' writes that again; look at its diff.
\ir support/api.sql
\set expected `cat sql-tests/api.txt`

SELECT plan(3);

CREATE TEMPORARY VIEW present AS SELECT format('%s: %s', object, line) AS line FROM api;
CREATE TEMPORARY TABLE listed AS
SELECT line FROM string_to_table(:'expected', E'\n') AS t(line);

SELECT cmp_ok((SELECT count(*) FROM listed), '>', 50::bigint, 'there is a list');
SELECT is_empty('SELECT line FROM listed EXCEPT ALL SELECT line FROM present',
    'nothing of the list is missing or different');
SELECT is_empty('SELECT line FROM present EXCEPT ALL SELECT line FROM listed',
    'and nothing was added to the interface');

SELECT * FROM finish();
