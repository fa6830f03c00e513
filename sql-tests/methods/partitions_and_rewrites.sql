-- Alone in the cluster: others' transactions would hold rows back.
-- What happens to the source's files and leaves: rows with old values under a new leaf, rows with new transactions.
SET client_min_messages = warning;
SELECT plan(44);

CREATE FUNCTION ids(dest regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT string_agg(id::text, '' '' ORDER BY id) FROM %s', dest) INTO found;
    RETURN found;
END;
$$;
CREATE FUNCTION outcome(dest regclass) RETURNS text LANGUAGE sql RETURN (roneo.refresh(dest)).outcome;
CREATE FUNCTION code(dest regclass) RETURNS text LANGUAGE sql RETURN (roneo.refresh(dest)).sqlstate;
-- Source, keyless and keyed replica have the same rows.
CREATE FUNCTION same(source_table text, description text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    there text := source_value(format('SELECT string_agg(id::text, '' '' ORDER BY id) FROM %s', source_table));
BEGIN
    RETURN NEXT is(ids(format('%s_log', source_table)), there, concat(description, ': without a key'));
    RETURN NEXT is(ids(format('%s_keyed', source_table)), there, concat(description, ': with a key'));
END;
$$;
CREATE FUNCTION two(source_table text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM roneo.create_inserter('src', source_table, dest => format('%s_log', source_table), control => 'at', append_only => true),
            roneo.create_updater('src', source_table, dest => format('%s_keyed', source_table), control => 'at');
END;
$$;
CREATE FUNCTION told(session text, statement text) RETURNS text LANGUAGE sql RETURN dblink_exec(session, statement);

SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
SELECT dblink_connect('open', :'source_conninfo') \g /dev/null

-- Partitions.
SELECT on_source($$
    CREATE TABLE parts (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE p2025 PARTITION OF parts FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE p2026 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2100-01-01');
    CREATE TABLE p2024 (id int NOT NULL, at timestamptz NOT NULL);
    CREATE TABLE unrelated (id int);
    INSERT INTO p2024 VALUES (1, '2024-06-01'), (2, '2024-07-01');
    INSERT INTO parts VALUES (3, '2025-06-01'), (4, now()) $$) \g /dev/null
SELECT two('parts') \g /dev/null
SELECT * FROM same('parts', 'rows of all partitions');
SELECT on_source('INSERT INTO parts VALUES (5, now()); ALTER TABLE parts ATTACH PARTITION p2024 FOR VALUES FROM (''2024-01-01'') TO (''2025-01-01'')') \g /dev/null
SELECT outcome('parts_log'), outcome('parts_keyed') \g /dev/null
SELECT * FROM same('parts', 'a partition of old rows that was attached');
SELECT is(outcome(d), 'unchanged', format('%s reads it once', d)) FROM unnest('{parts_log,parts_keyed}'::regclass[]) AS d;
SELECT on_source($$ CREATE TABLE p2023 PARTITION OF parts FOR VALUES FROM ('2023-01-01') TO ('2024-01-01'); INSERT INTO parts VALUES (6, now()) $$) \g /dev/null
SELECT outcome('parts_log'), outcome('parts_keyed') \g /dev/null
SELECT * FROM same('parts', 'a new partition, and a new row');

-- One that is attached while rows are held.
SELECT on_source($$ CREATE TABLE p2022 (id int NOT NULL, at timestamptz NOT NULL) $$) \g /dev/null
SELECT told('open', 'BEGIN; INSERT INTO unrelated VALUES (1)') \g /dev/null
SELECT on_source($$ INSERT INTO p2022 VALUES (7, '2022-06-01'); ALTER TABLE parts ATTACH PARTITION p2022 FOR VALUES FROM ('2022-01-01') TO ('2023-01-01') $$) \g /dev/null
SELECT outcome('parts_log'), outcome('parts_keyed') \g /dev/null
SELECT is(ids('parts_log'), '1 2 3 4 5 6', 'its rows are held like others');
SELECT outcome('parts_log') \g /dev/null
SELECT told('open', 'COMMIT') \g /dev/null
SELECT outcome('parts_log'), outcome('parts_keyed') \g /dev/null
SELECT * FROM same('parts', 'and not forgotten');

-- Or between the registration and the first refresh.
SELECT roneo.create_inserter('src', 'parts', dest => 'parts_later', control => 'at', append_only => true, copy_data => false) \g /dev/null
SELECT on_source($$ CREATE TABLE p2021 (id int NOT NULL, at timestamptz NOT NULL); INSERT INTO p2021 VALUES (21, '2021-06-01');
    ALTER TABLE parts ATTACH PARTITION p2021 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01') $$) \g /dev/null
SELECT is(outcome('parts_later'), 'ok', 'a partition that was attached before the first refresh');
SELECT is(ids('parts_later'), '21', 'is a new one too');
SELECT on_source('ALTER TABLE parts DETACH PARTITION p2021') \g /dev/null

-- Detached, and back.
SELECT on_source('ALTER TABLE parts DETACH PARTITION p2025; INSERT INTO parts VALUES (8, now())') \g /dev/null
SELECT outcome('parts_log'), outcome('parts_keyed') \g /dev/null
SELECT is(ids(d), '1 2 3 4 5 6 7 8', format('%s keeps the rows of a partition that is gone', d)) FROM unnest('{parts_log,parts_keyed}'::regclass[]) AS d;
SELECT on_source('INSERT INTO p2025 VALUES (9, ''2025-07-01''); ALTER TABLE parts ATTACH PARTITION p2025 FOR VALUES FROM (''2025-01-01'') TO (''2026-01-01'')') \g /dev/null
SELECT is(outcome('parts_keyed'), 'ok', 'with a key one that comes back is read again');
SELECT is(ids('parts_keyed'), '1 2 3 4 5 6 7 8 9', 'with what came to it meanwhile');
SELECT is(code('parts_log'), 'RO021', 'without a key that is an error');
SELECT is(ids('parts_log'), '1 2 3 4 5 6 7 8', 'and nothing is doubled');
SELECT roneo.accept_source('parts_log') \g /dev/null
CALL roneo.repull('parts_log');
SELECT * FROM same('parts', 'after accept_source and a repull');

-- Rewrites.
SELECT on_source($$ CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v text); CREATE INDEX t_at ON t (at);
    INSERT INTO t VALUES (1, '2026-01-01', 'a'), (2, now(), 'b') $$) \g /dev/null
SELECT two('t') \g /dev/null
SELECT told('open', 'BEGIN; INSERT INTO unrelated VALUES (2)') \g /dev/null
SELECT on_source('INSERT INTO t VALUES (3, now() - interval ''1 minute'', ''late'')') \g /dev/null
SELECT outcome('t_log'), outcome('t_keyed') \g /dev/null
SELECT told('open', 'COMMIT'), told('open', 'VACUUM FULL t') \g /dev/null
SELECT is(outcome('t_log'), 'ok', 'VACUUM FULL beside a late row is no rewrite');
SELECT is(outcome('t_keyed'), 'ok', 'nor with a key');
SELECT * FROM same('t', 'the late row');
SELECT told('open', 'CLUSTER t USING t_at') \g /dev/null
SELECT is(outcome(d), 'unchanged', format('CLUSTER changes nothing for %s', d)) FROM unnest('{t_log,t_keyed}'::regclass[]) AS d;
SELECT on_source($$ ALTER TABLE t ALTER v TYPE varchar(9) USING concat(v, '!'); INSERT INTO t VALUES (4, now(), 'new') $$) \g /dev/null
SELECT is(code('t_log'), 'RO021', 'ALTER TABLE with a rewrite stops a keyless replica');
SELECT is(outcome('t_keyed'), 'ok', 'and has a keyed one read all rows again');
SELECT is((SELECT string_agg(v, ' ' ORDER BY id) FROM t_keyed), 'a! b! late! new', 'with the values that the rewrite gave them');
SELECT roneo.accept_source('t_log') \g /dev/null
SELECT is(outcome('t_log'), 'ok', 'after accept_source it goes on');
SELECT * FROM same('t', 'with the rows above its position');
SELECT is(outcome('t_keyed'), 'unchanged', 'the rewrite is read once');
SELECT on_source($$ TRUNCATE t; INSERT INTO t VALUES (1, '2026-01-01', 'again'), (5, now(), 'b') $$) \g /dev/null
SELECT is(code('t_log'), 'RO021', 'TRUNCATE and the same values again stop a keyless replica');
SELECT is(outcome('t_keyed'), 'ok', 'a keyed one reads them');
SELECT is((SELECT string_agg(concat(id, v), ' ' ORDER BY id) FROM t_keyed), '1again 2b! 3late! 4new 5b', 'and keeps what it had');

-- Children by inheritance.
SELECT on_source($$ CREATE TABLE mother (id int PRIMARY KEY, at timestamptz); CREATE TABLE kid () INHERITS (mother); CREATE TABLE stray (id int NOT NULL, at timestamptz);
    INSERT INTO mother VALUES (1, now()); INSERT INTO kid VALUES (2, now()); INSERT INTO stray VALUES (3, '2020-01-01') $$) \g /dev/null
SELECT two('mother') \g /dev/null
SELECT * FROM same('mother', 'rows of children');
SELECT on_source('ALTER TABLE stray INHERIT mother; INSERT INTO kid VALUES (4, now())') \g /dev/null
SELECT outcome('mother_log'), outcome('mother_keyed') \g /dev/null
SELECT * FROM same('mother', 'a child that joined');
SELECT on_source('INSERT INTO kid VALUES (1, now())') \g /dev/null
SELECT is(outcome('mother_keyed'), 'ok', 'a key that comes twice among children is no error');

-- Another table of that name.
SELECT on_source('DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, at timestamptz, v text); INSERT INTO t VALUES (9, now(), ''other'')') \g /dev/null
SELECT is(code('t_keyed'), 'RO022', 'a table that was made again is another one');
SELECT roneo.accept_source('t_keyed') \g /dev/null
SELECT is(outcome('t_keyed'), 'ok', 'unless someone says otherwise');
