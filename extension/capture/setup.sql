-- What a source keeps for the methods dml and logdel: plain SQL, no extension. To be run by a
-- superuser, or by a role that may CREATE ROLE and CREATE in this database; running it again brings
-- an older one up to date. PostgreSQL 13 or later.
--
-- A capture is a table and its key. Triggers write the keys of changed rows, each with its
-- transaction, into one of three segments; destinations read what became visible between two of
-- their snapshots, and say how far they have got; what all of them have is emptied by TRUNCATE.

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;

DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'roneo_capture') THEN
        -- Another database of this cluster may be prepared at this moment.
        BEGIN
            CREATE ROLE roneo_capture NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
    IF NOT pg_catalog.pg_has_role(current_user, 'roneo_capture', 'USAGE') THEN
        EXECUTE pg_catalog.format('GRANT roneo_capture TO %I', current_user);
    END IF;
    IF pg_catalog.to_regnamespace('roneo_capture') IS NULL THEN
        CREATE SCHEMA roneo_capture AUTHORIZATION roneo_capture;
    END IF;
END;
$do$;

-- Everything below belongs to that role, which nobody can log in as.
SET LOCAL ROLE roneo_capture;
COMMENT ON SCHEMA roneo_capture IS 'Records which rows changed, for roneo.';

CREATE TABLE IF NOT EXISTS roneo_capture.capture (
    capture_id    integer     GENERATED ALWAYS AS IDENTITY,
    relation      oid         NOT NULL,
    relation_name text        NOT NULL,
    key_columns   name[]      NOT NULL,
    key_types     text[]      NOT NULL,
    image_columns name[]      NOT NULL DEFAULT '{}',
    image_types   text[]      NOT NULL DEFAULT '{}',
    row_level     boolean     NOT NULL,
    packs         boolean     NOT NULL,
    segment       integer     NOT NULL DEFAULT 0,
    queue_limit   bigint      NOT NULL DEFAULT 10737418240,
    state         text        NOT NULL DEFAULT 'running',
    state_since   timestamptz NOT NULL DEFAULT now(),
    awaited       text[],
    CONSTRAINT capture_pkey PRIMARY KEY (capture_id),
    CONSTRAINT capture_relation_key_columns_key UNIQUE (relation, key_columns),
    CONSTRAINT capture_segment_chk CHECK (segment BETWEEN 0 AND 2),
    CONSTRAINT capture_queue_limit_chk CHECK (queue_limit > 0),
    CONSTRAINT capture_state_chk CHECK (state IN ('running', 'paused', 'stopped', 'restarting'))
);
COMMENT ON TABLE roneo_capture.capture IS 'A table whose changes are recorded, by its key.';
COMMENT ON COLUMN roneo_capture.capture.image_columns IS
    'Columns whose last values are kept when a row is deleted, for logdel, in the queue as i1, i2 and so on; an empty name: one that is gone.';
COMMENT ON COLUMN roneo_capture.capture.row_level IS
    'Whether triggers fire for each row; else for each statement, which is blind for partitions, inheritance and logical replication.';
COMMENT ON COLUMN roneo_capture.capture.packs IS 'Whether many keys are written as arrays.';
COMMENT ON COLUMN roneo_capture.capture.segment IS 'The segment that is written now: table queue_ID_SEGMENT.';
COMMENT ON COLUMN roneo_capture.capture.queue_limit IS 'Bytes of all segments, above which nothing is recorded any more; the copies are then made anew.';
COMMENT ON COLUMN roneo_capture.capture.state IS
    'running; paused by a person; stopped by queue_limit; restarting: waiting for the transactions that may still record nothing.';

CREATE TABLE IF NOT EXISTS roneo_capture.consumer (
    consumer_id   uuid        NOT NULL,
    capture_id    integer     NOT NULL,
    role_name     name        NOT NULL,
    destination   text        NOT NULL,
    dest_identity text        NOT NULL,
    position      pg_snapshot NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    confirmed_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT consumer_pkey PRIMARY KEY (consumer_id),
    CONSTRAINT consumer_capture_id_fkey FOREIGN KEY (capture_id) REFERENCES roneo_capture.capture
);
COMMENT ON TABLE roneo_capture.consumer IS 'A copy that is fed from a capture, and how far it has got.';
COMMENT ON COLUMN roneo_capture.consumer.position IS 'It has everything that this snapshot sees; what it does not see is kept for it.';
COMMENT ON COLUMN roneo_capture.consumer.role_name IS 'The role that registered it, which may speak for it.';

-- With the schema qualified everywhere, operators included, and no SET: that would cost 7 us a call.
CREATE OR REPLACE FUNCTION roneo_capture.version()
RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 3';
COMMENT ON FUNCTION roneo_capture.version() IS 'Of what is installed here; a destination says which it needs.';

CREATE OR REPLACE FUNCTION roneo_capture.queue_name(capture_id integer, segment integer)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('roneo_capture.queue_%s_%s', capture_id, segment) $$;
COMMENT ON FUNCTION roneo_capture.queue_name(integer, integer) IS 'The table of a segment.';

-- By the clock: random() would use up numbers of the application's own sequence.
CREATE OR REPLACE FUNCTION roneo_capture.one_of_many()
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT $body$pg_catalog.interval_hash(pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '2020-01-01 00:00+00'::pg_catalog.timestamptz) OPERATOR(pg_catalog.<) '-2143289344'::pg_catalog.int4$body$
$$;
COMMENT ON FUNCTION roneo_capture.one_of_many() IS 'A condition that is true for about one call of a thousand, which looks at the size of the queue.';

CREATE OR REPLACE FUNCTION roneo_capture.look_at_size(c roneo_capture.capture, condition text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT format(E'\n    IF %s THEN\n        PERFORM roneo_capture.guard(%s);\n    END IF;',
              concat_ws(' OR ', condition, roneo_capture.one_of_many()), c.capture_id)
$$;
COMMENT ON FUNCTION roneo_capture.look_at_size(roneo_capture.capture, text) IS
    'What a trigger function does where the condition holds, and now and then.';

-- What is done to a column must never fail what the application writes. So the columns of a changed row are
-- named without their table, inside a query that offers the same names as NULLs of a type that no table has:
-- one that was renamed or dropped is found there. One that is not, or no more, of the type of its column in the
-- queue fits only the second of these two: where both fit, the first needs no cast of its last argument. That
-- is settled when a session plans the statement. Without a SET, so that nothing of these four is left in the plan.
CREATE OR REPLACE FUNCTION roneo_capture.kept(value anyelement, queued anyelement, choice integer)
RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT $1';
COMMENT ON FUNCTION roneo_capture.kept(anyelement, anyelement, integer) IS 'A column of a changed row.';

CREATE OR REPLACE FUNCTION roneo_capture.kept(value anyelement, queued anycompatible, choice bigint)
RETURNS anycompatible LANGUAGE sql IMMUTABLE AS 'SELECT $2';
COMMENT ON FUNCTION roneo_capture.kept(anyelement, anycompatible, bigint) IS
    'In the place of a column that is missing, or has another type: what the queue is given instead, a NULL.';

CREATE OR REPLACE FUNCTION roneo_capture.is_missing(value anyelement, queued anyelement, choice integer)
RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
COMMENT ON FUNCTION roneo_capture.is_missing(anyelement, anyelement, integer) IS 'A column that is there.';

CREATE OR REPLACE FUNCTION roneo_capture.is_missing(value anyelement, queued anycompatible, choice bigint)
RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
COMMENT ON FUNCTION roneo_capture.is_missing(anyelement, anycompatible, bigint) IS 'A column that was renamed or dropped, or given another type.';

-- Else a session goes on to read NEW and OLD as the table was when it planned, and fails at a column that has
-- another type since: nothing else in such a statement names the table. It is gone once that is planned.
CREATE OR REPLACE FUNCTION roneo_capture.names_table(c roneo_capture.capture)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('%L::pg_catalog.regclass IS NOT NULL', c.relation) $$;
COMMENT ON FUNCTION roneo_capture.names_table(roneo_capture.capture) IS
    'A condition that is always true, and has a statement planned anew when the table changes.';

-- A CASE of a column and NULL has the type under its domain, as the queue has; nothing is left of it either.
CREATE OR REPLACE FUNCTION roneo_capture.changed_rows(c roneo_capture.capture, rows_of text, with_images boolean)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('%s(SELECT %s) AS missing, LATERAL (SELECT %s OR NOT %s AS gone, %s FROM %s) AS x',
    format(CASE WHEN rows_of IN ('NEW', 'OLD') THEN '(SELECT (%s).*) AS r, ' END, rows_of),
    string_agg(DISTINCT format('NULL::roneo_capture.consumer AS %I', w.name), ', '),
    string_agg(format('roneo_capture.is_missing(%s)', w.found), ' OR '),
    roneo_capture.names_table(c),
    string_agg(format('roneo_capture.kept(%s) AS %s', w.found, w.queued), ', '),
    CASE WHEN rows_of IN ('NEW', 'OLD') THEN '(SELECT r.*) AS n' ELSE rows_of END)
FROM (
    SELECT n.name, n.queued, format('CASE WHEN true THEN %I END, (NULL::%s).%s, 1', n.name, roneo_capture.queue_name(c.capture_id, c.segment), n.queued)
    FROM (
        SELECT k.name, format('k%s', k.n) FROM unnest(c.key_columns) WITH ORDINALITY AS k (name, n)
        UNION ALL
        SELECT i.name, format('i%s', i.n) FROM unnest(c.image_columns) WITH ORDINALITY AS i (name, n)
        WHERE with_images AND i.name <> '') AS n (name, queued)) AS w (name, queued, found)
$$;
COMMENT ON FUNCTION roneo_capture.changed_rows(roneo_capture.capture, text, boolean) IS
    'Rows of newt or oldt, or the row NEW or OLD, for a FROM clause, as x: k1 and so on, i1 and so on, and gone where one of these columns is.';

CREATE OR REPLACE FUNCTION roneo_capture.queue_rows(c roneo_capture.capture, rows_of text, with_images boolean)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('INSERT INTO %s (xid, op, %s) SELECT pg_catalog.pg_current_xact_id(), CASE WHEN x.gone THEN ''r''%s END::pg_catalog."char", %s FROM %s',
    roneo_capture.queue_name(c.capture_id, c.segment),
    concat_ws(', ', CASE WHEN with_images THEN 'at' END, l.names),
    CASE WHEN with_images THEN ' ELSE ''d''' END,
    concat_ws(', ', CASE WHEN with_images THEN 'pg_catalog.clock_timestamp()' END, l.found),
    roneo_capture.changed_rows(c, rows_of, with_images))
FROM (
    SELECT string_agg(w.name, ', ') AS names, string_agg(concat('x.', w.name), ', ') AS found
    FROM (
        SELECT format('k%s', n) FROM generate_series(1, cardinality(c.key_columns)) AS n
        UNION ALL
        SELECT format('i%s', i.n) FROM unnest(c.image_columns) WITH ORDINALITY AS i (name, n)
        WHERE with_images AND i.name <> '') AS w (name)) AS l
$$;
COMMENT ON FUNCTION roneo_capture.queue_rows(roneo_capture.capture, text, boolean) IS
    'An INSERT of changed rows into the queue, as deletions with their last values or by their keys alone; where a column is gone, as marks that have all copies compared.';

-- The first 64 keys of a statement are rows, the others arrays of about 500. The transaction id is
-- asked for only where a row is written: a statement that changes nothing must not burn one. For one
-- row each IF counts, so that there is only one.
CREATE OR REPLACE FUNCTION roneo_capture.statement_body(c roneo_capture.capture, rows_of text)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE
    WHEN rows_of = 'oldt' AND c.image_columns <> '{}' THEN
        roneo_capture.queue_rows(c, rows_of, true) || E';\n    GET DIAGNOSTICS n = ROW_COUNT;'
        || roneo_capture.look_at_size(c, 'n OPERATOR(pg_catalog.>=) 64')
    WHEN NOT c.packs THEN
        roneo_capture.queue_rows(c, rows_of, false) || E';\n    GET DIAGNOSTICS n = ROW_COUNT;'
        || roneo_capture.look_at_size(c, 'n OPERATOR(pg_catalog.>=) 64')
    ELSE format($body$%1$s LIMIT 64;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n OPERATOR(pg_catalog.=) 64 OR %2$s THEN
        INSERT INTO %3$s (xid, %4$s)
        SELECT pg_catalog.pg_current_xact_id(), %5$s
        FROM (SELECT %6$s, pg_catalog.row_number() OVER () OPERATOR(pg_catalog./) 500 AS part FROM %7$s OFFSET 64) AS rest
        GROUP BY part;
        PERFORM roneo_capture.guard(%8$s);
    END IF;$body$, roneo_capture.queue_rows(c, rows_of, false), roneo_capture.one_of_many(),
        roneo_capture.queue_name(c.capture_id, c.segment), l.ps, l.packed, l.ks,
        roneo_capture.changed_rows(c, rows_of, false), c.capture_id) END
FROM (SELECT string_agg(format('p%s', n), ', ' ORDER BY n) AS ps,
             string_agg(format('x.k%s', n), ', ' ORDER BY n) AS ks,
             string_agg(format('pg_catalog.array_agg(rest.k%s)', n), ', ' ORDER BY n) AS packed
      FROM generate_series(1, cardinality(c.key_columns)) AS n) AS l
$$;
COMMENT ON FUNCTION roneo_capture.statement_body(roneo_capture.capture, text) IS
    'What a statement trigger does with its transition table newt or oldt.';

CREATE OR REPLACE FUNCTION roneo_capture.row_body(c roneo_capture.capture, of_row text)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT roneo_capture.queue_rows(c, of_row, of_row = 'OLD' AND c.image_columns <> '{}')
$$;
COMMENT ON FUNCTION roneo_capture.row_body(roneo_capture.capture, text) IS 'What a row trigger does with NEW or OLD.';

-- A WHEN of the trigger would be read anew by each statement. The old key is looked at once the new one was
-- found: an IF offers no other names. It is said only once: (OLD).id is found by its place when that was
-- planned, where OLD.id is looked up again, under a name that may be another one since.
CREATE OR REPLACE FUNCTION roneo_capture.changed_body(c roneo_capture.capture)
RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format($body$%1$s WHERE NOT x.gone;
    IF NOT FOUND THEN
        INSERT INTO %2$s (xid, op) VALUES (pg_catalog.pg_current_xact_id(), 'r');
    ELSIF NOT (%3$s) OR %5$s THEN
        IF NOT (%3$s) THEN
            %4$s;
        ELSE
            PERFORM roneo_capture.guard(%6$s);
        END IF;
    END IF;$body$, roneo_capture.row_body(c, 'NEW'), roneo_capture.queue_name(c.capture_id, c.segment),
        concat_ws(' AND ', roneo_capture.same_key(c, '(OLD)', '(NEW)'), roneo_capture.names_table(c)), roneo_capture.row_body(c, 'OLD'), roneo_capture.one_of_many(), c.capture_id);
END;
$$;
COMMENT ON FUNCTION roneo_capture.changed_body(roneo_capture.capture) IS 'What a row trigger does with an updated row: its old key too, where that is another one.';

-- The segment is a literal: to look it up would cost 3 to 5 us a statement. A session that still
-- runs the text from before a rotation does no harm: nothing is emptied unless all have read it.
CREATE OR REPLACE FUNCTION roneo_capture.write_functions(c roneo_capture.capture)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT w.kind, w.body
        FROM (VALUES
            ('new',     roneo_capture.statement_body(c, 'newt')),
            ('old',     roneo_capture.statement_body(c, 'oldt')),
            ('row_new', roneo_capture.row_body(c, 'NEW') || ';' || roneo_capture.look_at_size(c, NULL)),
            ('row_old', roneo_capture.row_body(c, 'OLD') || ';' || roneo_capture.look_at_size(c, NULL)),
            ('row_changed', roneo_capture.changed_body(c)),
            ('truncate', format('INSERT INTO %s (xid, op) VALUES (pg_catalog.pg_current_xact_id(), CASE WHEN TG_RELID OPERATOR(pg_catalog.=) %s THEN ''t'' ELSE ''r'' END);',
                                roneo_capture.queue_name(c.capture_id, c.segment), c.relation))) AS w (kind, body)
    LOOP
        EXECUTE format($function$CREATE OR REPLACE FUNCTION roneo_capture.%I()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$
#variable_conflict use_column
DECLARE
    n pg_catalog.int8;
BEGIN
    %s
    RETURN NULL;
END;
$body$ $function$, format('%s_%s', part.kind, c.capture_id),
            CASE WHEN c.state IN ('paused', 'stopped') THEN '-- Nothing is recorded.' ELSE part.body END);
        EXECUTE format('REVOKE ALL ON FUNCTION roneo_capture.%I() FROM PUBLIC', format('%s_%s', part.kind, c.capture_id));
        EXECUTE format('COMMENT ON FUNCTION roneo_capture.%I() IS %L', format('%s_%s', part.kind, c.capture_id),
                       format('Records what changes in %s.', c.relation_name));
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo_capture.write_functions(roneo_capture.capture) IS
    'Writes the trigger functions of a capture, for its segment and its state.';

CREATE OR REPLACE FUNCTION roneo_capture.lock_functions(id integer)
RETURNS boolean LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$ SELECT pg_try_advisory_xact_lock(1919905379, id) $$;
COMMENT ON FUNCTION roneo_capture.lock_functions(integer) IS
    'To be taken before functions are written: two sessions that replace one function wait for each other, or fail.';

-- Called by the triggers: whatever happens here must not fail the application's statement.
CREATE OR REPLACE FUNCTION roneo_capture.guard(id integer)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c roneo_capture.capture;
BEGIN
    SELECT k.* INTO c FROM roneo_capture.capture AS k WHERE k.capture_id = id;
    IF c.state = 'running' AND roneo_capture.queue_size(id) > c.queue_limit AND roneo_capture.lock_functions(id) THEN
        UPDATE roneo_capture.capture AS k SET state = 'stopped', state_since = clock_timestamp(), awaited = NULL
        WHERE k.capture_id IN (SELECT s.capture_id FROM roneo_capture.capture AS s WHERE s.capture_id = id FOR UPDATE SKIP LOCKED)
        RETURNING k.* INTO c;
        IF FOUND THEN
            PERFORM roneo_capture.write_functions(c);
        END IF;
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'roneo_capture: the queue of % could not be stopped: %', c.relation_name, SQLERRM;
END;
$$;
COMMENT ON FUNCTION roneo_capture.guard(integer) IS
    'Stops a capture whose queue has outgrown its limit, before it fills the disk; its copies are then made anew.';

CREATE OR REPLACE FUNCTION roneo_capture.queue_size(id integer)
RETURNS bigint LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(sum(pg_total_relation_size(to_regclass(roneo_capture.queue_name(id, s)))), 0)::bigint
FROM generate_series(0, 2) AS s
$$;
COMMENT ON FUNCTION roneo_capture.queue_size(integer) IS 'Bytes that the segments of a capture take.';

CREATE OR REPLACE FUNCTION roneo_capture.own_tables(relation oid)
RETURNS TABLE (relid oid, relkind "char", is_partition boolean, filenode oid) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH RECURSIVE tree AS (
    SELECT relation AS oid
    UNION
    SELECT i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
)
SELECT c.oid, c.relkind, c.relispartition, c.relfilenode
FROM tree AS t JOIN pg_class AS c ON c.oid = t.oid
$$;
COMMENT ON FUNCTION roneo_capture.own_tables(oid) IS 'A table and all its partitions or children.';

CREATE OR REPLACE FUNCTION roneo_capture.needs_rows(relation oid)
RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = relation AND c.relkind = 'p')
    OR EXISTS (SELECT FROM pg_inherits AS i WHERE relation IN (i.inhparent, i.inhrelid))
    OR EXISTS (SELECT FROM pg_subscription_rel AS s WHERE s.srrelid = relation)
$$;
COMMENT ON FUNCTION roneo_capture.needs_rows(oid) IS
    'Whether statement triggers would miss changes: partitions, inheritance, tables fed by logical replication.';

-- The queue holds what a domain is made of: where a column has no value, and where many keys are
-- packed, a NULL stands, which a domain may refuse.
CREATE OR REPLACE FUNCTION roneo_capture.base_type(type_id oid)
RETURNS oid LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH RECURSIVE base AS (
    SELECT t.oid, t.typtype, t.typbasetype FROM pg_type AS t WHERE t.oid = type_id
    UNION ALL
    SELECT t.oid, t.typtype, t.typbasetype FROM base AS b JOIN pg_type AS t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
)
SELECT b.oid FROM base AS b WHERE b.typtype <> 'd'
$$;
COMMENT ON FUNCTION roneo_capture.base_type(oid) IS 'What a domain, of a domain perhaps, is made of; other types are their own.';

CREATE OR REPLACE FUNCTION roneo_capture.column_types(relation oid, names name[])
RETURNS text[] LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT array_agg(format_type(roneo_capture.base_type(a.atttypid), -1) ORDER BY n.place)
FROM unnest(names) WITH ORDINALITY AS n (name, place)
LEFT JOIN pg_attribute AS a ON a.attrelid = relation AND a.attname = n.name AND a.attnum > 0 AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION roneo_capture.column_types(oid, name[]) IS
    'The types of columns, without their lengths and under their domains; NULL for one that is gone.';

-- Two keys that the table takes for one are one in the queue too.
CREATE OR REPLACE FUNCTION roneo_capture.collate_clause(relation oid, name name)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT format(' COLLATE %I.%I', n.nspname, l.collname)
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = roneo_capture.base_type(a.atttypid) AND t.typcollation <> a.attcollation
JOIN pg_collation AS l ON l.oid = a.attcollation
JOIN pg_namespace AS n ON n.oid = l.collnamespace
WHERE a.attrelid = relation AND a.attname = collate_clause.name
$$;
COMMENT ON FUNCTION roneo_capture.collate_clause(oid, name) IS 'The COLLATE of a column that has not that of its type; else NULL.';

-- An array of arrays would be unnested whole, and one of rows into their columns.
CREATE OR REPLACE FUNCTION roneo_capture.can_pack(relation oid, names name[])
RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT NOT EXISTS (
    SELECT FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = roneo_capture.base_type(a.atttypid)
    WHERE a.attrelid = relation AND a.attname = ANY (names) AND (t.typcategory = 'A' OR t.typtype = 'c' OR t.typarray = 0))
$$;
COMMENT ON FUNCTION roneo_capture.can_pack(oid, name[]) IS 'Whether values of columns can be written many at a time, as arrays.';

-- As the one who calls. The role of the queue makes columns of these types.
CREATE OR REPLACE FUNCTION roneo_capture.open_schemas(relation oid, names name[])
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    closed name;
BEGIN
    FOR closed IN
        SELECT DISTINCT n.nspname
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = roneo_capture.base_type(a.atttypid)
        LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
        JOIN pg_namespace AS n ON n.oid IN (t.typnamespace, l.collnamespace)
        WHERE a.attrelid = relation AND a.attname = ANY (names) AND NOT has_schema_privilege('roneo_capture', n.oid, 'USAGE')
    LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO roneo_capture', closed);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo_capture.open_schemas(oid, name[]) IS
    'Lets the role that owns the queues use the types and collations of columns.';

-- citext and its like are equal by an operator of their own, which no search_path need show.
CREATE OR REPLACE FUNCTION roneo_capture.equality(type_id oid)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce((
    SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
    FROM pg_opclass AS k
    JOIN pg_am AS m ON m.oid = k.opcmethod AND m.amname = 'btree'
    JOIN pg_amop AS a ON a.amopfamily = k.opcfamily AND a.amoplefttype = k.opcintype AND a.amoprighttype = k.opcintype
        AND a.amopstrategy = 3
    JOIN pg_operator AS o ON o.oid = a.amopopr
    JOIN pg_namespace AS n ON n.oid = o.oprnamespace
    -- By a subquery, once: else it is asked for each of these rows.
    WHERE k.opcdefault AND k.opcintype = (SELECT roneo_capture.base_type(type_id))), 'OPERATOR(pg_catalog.=)')
$$;
COMMENT ON FUNCTION roneo_capture.equality(oid) IS 'The operator by which an index finds values of a type.';

-- Not by comparing images of records: pg_dump cannot write that down again, and pg_upgrade uses it.
CREATE OR REPLACE FUNCTION roneo_capture.same_key(c roneo_capture.capture, one text, other text)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT string_agg(format('%1$s.%3$I %4$s %2$s.%3$I', one, other, k.name, roneo_capture.equality(a.atttypid)), ' AND ' ORDER BY k.n)
FROM unnest(c.key_columns) WITH ORDINALITY AS k (name, n)
LEFT JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attname = k.name
$$;
COMMENT ON FUNCTION roneo_capture.same_key(roneo_capture.capture, text, text) IS 'A condition on two rows: their key is the same.';

CREATE OR REPLACE FUNCTION roneo_capture.key_changed(c roneo_capture.capture)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('NOT (%s)', roneo_capture.same_key(c, 'OLD', 'NEW')) $$;
COMMENT ON FUNCTION roneo_capture.key_changed(roneo_capture.capture) IS
    'A condition on OLD and NEW: the key is another one.';

CREATE OR REPLACE FUNCTION roneo_capture.images_left(c roneo_capture.capture)
RETURNS name[] LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(array_agg(CASE WHEN roneo_capture.column_types(c.relation, ARRAY[i.name]) = ARRAY[i.type] THEN i.name ELSE '' END ORDER BY i.n), '{}')
FROM unnest(c.image_columns, c.image_types) WITH ORDINALITY AS i (name, type, n)
$$;
COMMENT ON FUNCTION roneo_capture.images_left(roneo_capture.capture) IS
    'The columns of which last values are kept, with an empty name for each that is gone or of another type.';

CREATE OR REPLACE FUNCTION roneo_capture.make_segments(c roneo_capture.capture)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queue text;
BEGIN
    FOR segment IN 0 .. 2 LOOP
        queue := roneo_capture.queue_name(c.capture_id, segment);
        EXECUTE format('CREATE TABLE IF NOT EXISTS %s (xid xid8 NOT NULL, op "char", at timestamptz, %s)', queue, (
            SELECT string_agg(concat(format('k%s %s%s', t.n, t.type, l.clause),
                                     CASE WHEN c.packs THEN format(', p%s %s[]%s', t.n, t.type, l.clause) END), ', ' ORDER BY t.n)
            FROM unnest(c.key_types, c.key_columns) WITH ORDINALITY AS t (type, name, n)
            CROSS JOIN LATERAL roneo_capture.collate_clause(c.relation, t.name) AS l (clause)));
        FOR place IN 1 .. cardinality(c.image_types) LOOP
            EXECUTE format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS i%s %s', queue, place, c.image_types[place]);
        END LOOP;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo_capture.make_segments(roneo_capture.capture) IS
    'Makes the three tables of a queue, or adds to them what is missing.';

-- Of the images only what the role may read in the table itself.
CREATE OR REPLACE FUNCTION roneo_capture.open_queue(c roneo_capture.capture, reader name)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    columns text := concat_ws(', ', 'xid', 'op', 'at',
        (SELECT string_agg(concat_ws(', ', format('k%s', n), format(CASE WHEN c.packs THEN 'p%s' END, n)), ', ' ORDER BY n)
         FROM generate_series(1, cardinality(c.key_columns)) AS n),
        (SELECT string_agg(format('i%s', i.n), ', ' ORDER BY i.n)
         FROM unnest(c.image_columns) WITH ORDINALITY AS i (name, n)
         JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attname = i.name
         WHERE has_column_privilege(reader, c.relation, a.attnum, 'SELECT')));
BEGIN
    FOR segment IN 0 .. 2 LOOP
        EXECUTE format('GRANT SELECT (%s) ON %s TO %I', columns, roneo_capture.queue_name(c.capture_id, segment), reader);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo_capture.open_queue(roneo_capture.capture, name) IS 'Lets a role read the queue of a capture.';

CREATE OR REPLACE FUNCTION roneo_capture.retype(c roneo_capture.capture, types text[])
RETURNS roneo_capture.capture LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queues text := (SELECT string_agg(roneo_capture.queue_name(c.capture_id, s), ', ') FROM generate_series(0, 2) AS s);
    reader name;
BEGIN
    EXECUTE format('DROP TABLE IF EXISTS %s', queues);
    UPDATE roneo_capture.capture AS k SET
        key_types = types, packs = roneo_capture.can_pack(k.relation, k.key_columns)
    WHERE k.capture_id = c.capture_id RETURNING k.* INTO c;
    PERFORM roneo_capture.make_segments(c);
    FOR reader IN SELECT DISTINCT u.role_name FROM roneo_capture.consumer AS u WHERE u.capture_id = c.capture_id LOOP
        PERFORM roneo_capture.open_queue(c, reader);
    END LOOP;
    EXECUTE format('INSERT INTO %s (xid, op) VALUES (pg_current_xact_id(), ''r'')', roneo_capture.queue_name(c.capture_id, c.segment));
    RETURN c;
END;
$$;
COMMENT ON FUNCTION roneo_capture.retype(roneo_capture.capture, text[]) IS
    'Makes the queue anew for a key whose columns have other types; all its copies are to be made anew.';

CREATE OR REPLACE FUNCTION roneo_capture.prepare(
    of_table regclass, key_columns name[], image_columns name[] DEFAULT '{}', row_level boolean DEFAULT false)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c     roneo_capture.capture;
    types text[] := roneo_capture.column_types(of_table, key_columns);
    owner name := (SELECT pg_get_userbyid(k.relowner) FROM pg_class AS k WHERE k.oid = of_table);
    added name[];
BEGIN
    IF NOT pg_has_role(session_user, owner, 'MEMBER') AND NOT has_table_privilege(session_user, of_table, 'TRIGGER') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('role %I may make no triggers on %s', session_user, of_table);
    END IF;
    IF array_position(types, NULL) IS NOT NULL OR cardinality(types) IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column',
            MESSAGE = format('%s has not all of the key columns %s', of_table, key_columns);
    END IF;
    INSERT INTO roneo_capture.capture (relation, relation_name, key_columns, key_types, row_level, packs)
    SELECT of_table, format('%I.%I', n.nspname, k.relname), prepare.key_columns, types,
           prepare.row_level OR roneo_capture.needs_rows(of_table),
           roneo_capture.can_pack(of_table, prepare.key_columns)
    FROM pg_class AS k JOIN pg_namespace AS n ON n.oid = k.relnamespace
    WHERE k.oid = of_table
    ON CONFLICT ON CONSTRAINT capture_relation_key_columns_key DO NOTHING;
    SELECT k.* INTO STRICT c FROM roneo_capture.capture AS k
    WHERE k.relation = prepare.of_table AND k.key_columns = prepare.key_columns
    FOR UPDATE;
    PERFORM pg_advisory_xact_lock(1919905379, c.capture_id);
    IF c.key_types <> types THEN
        c := roneo_capture.retype(c, types);
    END IF;
    c.image_columns := roneo_capture.images_left(c);
    IF NOT c.image_columns @> prepare.image_columns THEN
        added := ARRAY(SELECT i FROM unnest(prepare.image_columns) AS i WHERE i <> ALL (c.image_columns));
        c.image_columns := c.image_columns || added;
        c.image_types := c.image_types || roneo_capture.column_types(of_table, added);
    END IF;
    UPDATE roneo_capture.capture AS k SET
        image_columns = c.image_columns, image_types = c.image_types,
        row_level = k.row_level OR roneo_capture.needs_rows(of_table)
    WHERE k.capture_id = c.capture_id
    RETURNING k.* INTO c;
    PERFORM roneo_capture.make_segments(c);
    PERFORM roneo_capture.write_functions(c);
    EXECUTE format('GRANT EXECUTE ON FUNCTION roneo_capture.new_%1$s(), roneo_capture.old_%1$s(), roneo_capture.row_new_%1$s(), roneo_capture.row_old_%1$s(), roneo_capture.row_changed_%1$s(), roneo_capture.truncate_%1$s() TO %2$I, %3$I',
                   c.capture_id, session_user, owner);
    RETURN c.capture_id;
END;
$$;
COMMENT ON FUNCTION roneo_capture.prepare(regclass, name[], name[], boolean) IS
    'Makes the queue and the trigger functions of a capture, or adds columns to what is kept of deleted rows; returns its number. The triggers are made by attach.';

CREATE OR REPLACE FUNCTION roneo_capture.wanted_triggers(c roneo_capture.capture)
RETURNS TABLE (relid oid, name name, definition text, inherited boolean) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT t.relid, w.name,
       format(w.definition, format('roneo_capture_%s_%s', c.capture_id, w.kind), t.relid::regclass, c.capture_id, changed.condition),
       t.is_partition AND t.relid <> c.relation
FROM roneo_capture.own_tables(c.relation) AS t
CROSS JOIN roneo_capture.key_changed(c) AS changed (condition)
CROSS JOIN LATERAL (
    SELECT v.kind, format('roneo_capture_%s_%s', c.capture_id, v.kind)::name AS name, v.definition
    FROM (VALUES
        (false, 'insert', 'CREATE TRIGGER %I AFTER INSERT ON %s REFERENCING NEW TABLE AS newt FOR EACH STATEMENT EXECUTE FUNCTION roneo_capture.new_%s()'),
        (false, 'update', 'CREATE TRIGGER %I AFTER UPDATE ON %s REFERENCING NEW TABLE AS newt FOR EACH STATEMENT EXECUTE FUNCTION roneo_capture.new_%s()'),
        (false, 'delete', 'CREATE TRIGGER %I AFTER DELETE ON %s REFERENCING OLD TABLE AS oldt FOR EACH STATEMENT EXECUTE FUNCTION roneo_capture.old_%s()'),
        (true,  'add',    'CREATE TRIGGER %I AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION roneo_capture.row_new_%s()'),
        (true,  'change', 'CREATE TRIGGER %I AFTER UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION roneo_capture.row_changed_%s()'),
        (true,  'remove', 'CREATE TRIGGER %I AFTER DELETE ON %s FOR EACH ROW EXECUTE FUNCTION roneo_capture.row_old_%s()'),
        (false, 'key',    'CREATE TRIGGER %I AFTER UPDATE ON %s FOR EACH ROW WHEN (%4$s) EXECUTE FUNCTION roneo_capture.row_old_%3$s()'),
        (NULL,  'truncate', 'CREATE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION roneo_capture.truncate_%s()')
    ) AS v (rows, kind, definition)
    WHERE coalesce(v.rows = c.row_level, true)
      AND (t.relkind IN ('r', 'p'))
      -- A partition gets its row triggers from its root.
      AND (v.kind = 'truncate' OR NOT t.is_partition OR t.relid = c.relation)) AS w
$$;
COMMENT ON FUNCTION roneo_capture.wanted_triggers(roneo_capture.capture) IS
    'The triggers of a capture that have to be made; partitions get those for rows from their root.';

-- As the one who calls: a trigger is made by who has the TRIGGER privilege, and said to fire always
-- by the owner of the table. CREATE TRIGGER waits for all writers: what comes after it is recorded.
CREATE OR REPLACE FUNCTION roneo_capture.attach(id integer)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c      roneo_capture.capture;
    wanted record;
    stale  record;
BEGIN
    SELECT k.* INTO STRICT c FROM roneo_capture.capture AS k WHERE k.capture_id = id;
    FOR stale IN
        SELECT g.tgname, g.tgrelid FROM pg_trigger AS g
        WHERE g.tgname LIKE format('roneo\_capture\_%s\_%%', id) AND g.tgparentid = 0
          AND g.tgrelid IN (SELECT t.relid FROM roneo_capture.own_tables(c.relation) AS t)
          AND NOT EXISTS (SELECT FROM roneo_capture.wanted_triggers(c) AS w WHERE (w.relid, w.name) = (g.tgrelid, g.tgname))
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', stale.tgname, stale.tgrelid::regclass);
    END LOOP;
    FOR wanted IN
        SELECT w.*, g.oid AS found, g.tgenabled
        FROM roneo_capture.wanted_triggers(c) AS w
        LEFT JOIN pg_trigger AS g ON g.tgrelid = w.relid AND g.tgname = w.name
        ORDER BY w.inherited, w.relid, w.name
    LOOP
        IF wanted.found IS NULL THEN
            EXECUTE wanted.definition;
        END IF;
        IF wanted.tgenabled IS DISTINCT FROM 'A' THEN
            EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', wanted.relid::regclass, wanted.name);
        END IF;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo_capture.attach(integer) IS
    'Makes the triggers of a capture, as the owner of the table, those that are missing or were disabled.';

CREATE OR REPLACE FUNCTION roneo_capture.capture_table(
    of_table regclass, key_columns name[], image_columns name[] DEFAULT '{}', row_level boolean DEFAULT false)
RETURNS integer LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id integer;
BEGIN
    PERFORM roneo_capture.open_schemas(of_table, key_columns || image_columns);
    id := roneo_capture.prepare(of_table, key_columns, image_columns, row_level);
    PERFORM roneo_capture.attach(id);
    RETURN id;
END;
$$;
COMMENT ON FUNCTION roneo_capture.capture_table(regclass, name[], name[], boolean) IS
    'Begins to record the changes of a table, or brings its capture up to date; returns its number.';

CREATE OR REPLACE FUNCTION roneo_capture.allow(role_name name)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queue text;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA roneo_capture TO %I', role_name);
    EXECUTE format('GRANT SELECT ON roneo_capture.capture, roneo_capture.consumer TO %I', role_name);
    EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA roneo_capture TO %I', role_name);
END;
$$;
COMMENT ON FUNCTION roneo_capture.allow(name) IS
    'Lets a role capture the tables that it owns, and feed copies from the captures of tables that it may read.';

CREATE OR REPLACE FUNCTION roneo_capture.problem(c roneo_capture.capture)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(
    CASE WHEN NOT EXISTS (SELECT FROM pg_class AS k WHERE k.oid = c.relation) THEN 'its table was dropped'
         WHEN roneo_capture.column_types(c.relation, c.key_columns) IS DISTINCT FROM c.key_types
             THEN format('the key columns %s were renamed, dropped or changed', array_to_string(c.key_columns, ', '))
         WHEN roneo_capture.images_left(c) <> c.image_columns
             THEN format('columns whose last values are kept were renamed, dropped or changed: %s', (
                      SELECT string_agg(i, ', ') FROM unnest(c.image_columns) AS i WHERE i <> ALL (roneo_capture.images_left(c))))
         WHEN EXISTS (SELECT FROM roneo_capture.own_tables(c.relation) AS t WHERE t.relkind = 'f')
             THEN 'one of its partitions is a foreign table, whose rows can change where no trigger of ours is'
         WHEN NOT c.row_level AND roneo_capture.needs_rows(c.relation)
             THEN 'the table has become part of a tree, or is fed by logical replication: row triggers are needed' END,
    (SELECT format('trigger %s on %s %s', w.name, w.relid::regclass,
                   CASE WHEN g.oid IS NULL THEN 'is missing' ELSE 'is disabled, or does not fire always' END)
     FROM roneo_capture.wanted_triggers(c) AS w
     LEFT JOIN pg_trigger AS g ON g.tgrelid = w.relid AND g.tgname = w.name
         AND g.tgfoid IN (SELECT f.oid FROM pg_proc AS f WHERE f.pronamespace = 'roneo_capture'::regnamespace)
     -- A new partition has no trigger for TRUNCATE yet; its file tells.
     WHERE (g.oid IS NULL AND NOT w.inherited) OR g.tgenabled <> 'A'
     ORDER BY w.relid, w.name LIMIT 1),
    (SELECT format('trigger %s on %s is disabled, or does not fire always', g.tgname, g.tgrelid::regclass)
     FROM roneo_capture.own_tables(c.relation) AS t
     JOIN pg_trigger AS g ON g.tgrelid = t.relid
     WHERE g.tgname LIKE format('roneo\_capture\_%s\_%%', c.capture_id) AND g.tgenabled <> 'A'
     ORDER BY g.tgrelid, g.tgname LIMIT 1))
$$;
COMMENT ON FUNCTION roneo_capture.problem(roneo_capture.capture) IS
    'Why a capture would miss changes of its table, now; NULL where it does not.';

-- What is no problem can still be better: the file of a partition without a trigger for TRUNCATE is
-- watched, and VACUUM FULL changes it too.
CREATE OR REPLACE FUNCTION roneo_capture.can_complete(c roneo_capture.capture)
RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT EXISTS (
    SELECT FROM roneo_capture.wanted_triggers(c) AS w
    JOIN pg_class AS k ON k.oid = w.relid AND pg_has_role(k.relowner, 'MEMBER')
    WHERE NOT EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = w.relid AND g.tgname = w.name))
$$;
COMMENT ON FUNCTION roneo_capture.can_complete(roneo_capture.capture) IS
    'Whether a capture lacks triggers that this role can make.';

-- ALTER TABLE can give a column other values, and no trigger fires: it writes the row of the column
-- in the catalog, and the table to another file.
CREATE OR REPLACE FUNCTION roneo_capture.column_prints(relation oid)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT jsonb_object_agg(a.attname, jsonb_build_object('number', a.attnum, 'by', concat_ws(' ', a.xmin, d.xmin)))
FROM pg_attribute AS a
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated <> ''
WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION roneo_capture.column_prints(oid) IS
    'The columns of a table with their numbers, and the transactions that last wrote them in the catalog.';

-- The transaction that last wrote a trigger's row in the catalog: whoever disabled it and enabled
-- it again has left a trace.
CREATE OR REPLACE FUNCTION roneo_capture.describe(id integer)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT jsonb_build_object(
    'capture_id', c.capture_id, 'relation', c.relation, 'name', c.relation_name, 'state', c.state, 'since', c.state_since,
    'key_columns', to_jsonb(c.key_columns), 'image_columns', to_jsonb(c.image_columns), 'packs', c.packs,
    'problem', roneo_capture.problem(c),
    'equality', (SELECT jsonb_agg(roneo_capture.equality(a.atttypid) ORDER BY k.n)
                 FROM unnest(c.key_columns) WITH ORDINALITY AS k (name, n)
                 LEFT JOIN pg_attribute AS a ON a.attrelid = c.relation AND a.attname = k.name),
    'rows', (SELECT k.reltuples FROM pg_class AS k WHERE k.oid = c.relation),
    'tables', (SELECT jsonb_object_agg(t.relid, jsonb_build_object(
                   'name', t.relid::regclass::text, 'file', CASE WHEN t.relkind = 'r' THEN t.filenode END,
                   'sees_truncate', coalesce(g.sees_truncate, false), 'triggers', g.print,
                   'columns', CASE WHEN t.relid = c.relation THEN roneo_capture.column_prints(t.relid) END,
                   'bounds', CASE WHEN t.is_partition AND t.relid <> c.relation THEN pg_get_partition_constraintdef(t.relid) END))
               FROM roneo_capture.own_tables(c.relation) AS t
               LEFT JOIN LATERAL (
                   SELECT jsonb_object_agg(r.tgname, concat_ws(' ', r.oid, r.tgfoid, r.tgenabled, r.xmin)) AS print,
                          bool_or(r.tgname LIKE '%\_truncate') AS sees_truncate
                   FROM pg_trigger AS r
                   WHERE r.tgrelid = t.relid AND r.tgname LIKE format('roneo\_capture\_%s\_%%', id)) AS g ON true))
FROM roneo_capture.capture AS c
WHERE c.capture_id = id
$$;
COMMENT ON FUNCTION roneo_capture.describe(integer) IS
    'What a refresh looks at before it believes a capture: its state, what is wrong with it, and each of its tables with its file and a print of each of its triggers.';

CREATE OR REPLACE FUNCTION roneo_capture.require_own(id uuid)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner name := (SELECT u.role_name FROM roneo_capture.consumer AS u WHERE u.consumer_id = id);
BEGIN
    IF owner IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_roles AS o, pg_roles AS me
        WHERE o.rolname = owner AND me.rolname = session_user
          AND (me.rolsuper OR pg_has_role(me.oid, o.oid, 'MEMBER') OR pg_has_role(me.oid, 'roneo_capture', 'MEMBER'))) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('consumer %s was registered by role %I', id, owner),
            HINT = format('roneo.resync registers the copy for role %I; or GRANT %I TO %I.', session_user, owner, session_user);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo_capture.require_own(uuid) IS 'Raises an error for the consumer of another role.';

CREATE OR REPLACE FUNCTION roneo_capture.require_party(id integer)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM roneo_capture.capture AS c
        LEFT JOIN pg_class AS k ON k.oid = c.relation
        LEFT JOIN roneo_capture.consumer AS u ON u.capture_id = c.capture_id
        WHERE c.capture_id = id
          AND (pg_has_role(session_user, 'roneo_capture', 'MEMBER') OR pg_has_role(session_user, k.relowner, 'MEMBER')
               OR u.role_name = session_user)) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('capture %s is not of a table of role %I, nor does it feed a copy of that role', id, session_user);
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo_capture.require_party(integer) IS
    'Raises an error for who neither owns the captured table nor feeds a copy from it.';

CREATE OR REPLACE FUNCTION roneo_capture.register(id integer, destination text, dest_identity text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made   roneo_capture.consumer;
    c      roneo_capture.capture;
    -- Before the position: a partition that comes in between is new.
    tables jsonb := roneo_capture.describe(id) -> 'tables';
BEGIN
    SELECT k.* INTO STRICT c FROM roneo_capture.capture AS k WHERE k.capture_id = id FOR UPDATE;
    IF EXISTS (SELECT FROM unnest(c.key_columns) AS k WHERE NOT has_column_privilege(session_user, c.relation, k, 'SELECT')) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('role %I may not read the key of %s', session_user, c.relation_name);
    END IF;
    INSERT INTO roneo_capture.consumer (consumer_id, capture_id, role_name, destination, dest_identity, position)
    VALUES (gen_random_uuid(), id, session_user, register.destination, register.dest_identity, pg_current_snapshot())
    RETURNING * INTO made;
    PERFORM roneo_capture.open_queue(c, session_user);
    RETURN jsonb_build_object('consumer_id', made.consumer_id, 'position', made.position::text, 'packs', c.packs, 'tables', tables);
END;
$$;
COMMENT ON FUNCTION roneo_capture.register(integer, text, text) IS
    'A new copy that is to be fed. From this moment all changes are kept for it.';

CREATE OR REPLACE FUNCTION roneo_capture.expire(id uuid, dest_identity text DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo_capture.require_own(id);
    DELETE FROM roneo_capture.consumer AS u
    WHERE u.consumer_id = id AND (expire.dest_identity IS NULL OR u.dest_identity = expire.dest_identity);
    RETURN FOUND;
END;
$$;
COMMENT ON FUNCTION roneo_capture.expire(uuid, text) IS
    'Forgets a copy: nothing is kept for it any more. Should it come back, it is made anew. dest_identity: only if it is the copy of that database.';

CREATE OR REPLACE FUNCTION roneo_capture.readdress(id uuid, dest_identity text, destination text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo_capture.require_own(id);
    UPDATE roneo_capture.consumer AS u SET dest_identity = readdress.dest_identity, destination = readdress.destination
    WHERE u.consumer_id = id;
    RETURN FOUND;
END;
$$;
COMMENT ON FUNCTION roneo_capture.readdress(uuid, text, text) IS 'A copy has moved to another database, or another cluster.';

-- Functions first: dropping one drops its triggers, whoever owns the table.
CREATE OR REPLACE FUNCTION roneo_capture.remove(id integer)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $$
DECLARE
    kind text;
BEGIN
    IF NOT EXISTS (SELECT FROM roneo_capture.capture AS k WHERE k.capture_id = id) THEN
        RETURN false;
    END IF;
    PERFORM FROM roneo_capture.capture AS k WHERE k.capture_id = id FOR UPDATE;
    IF NOT FOUND OR EXISTS (SELECT FROM roneo_capture.consumer AS u WHERE u.capture_id = id) THEN
        RETURN false;
    END IF;
    FOREACH kind IN ARRAY ARRAY['new', 'old', 'row_new', 'row_old', 'row_changed', 'truncate'] LOOP
        EXECUTE format('DROP FUNCTION IF EXISTS roneo_capture.%I() CASCADE', format('%s_%s', kind, id));
    END LOOP;
    FOR segment IN 0 .. 2 LOOP
        EXECUTE format('DROP TABLE IF EXISTS %s', roneo_capture.queue_name(id, segment));
    END LOOP;
    DELETE FROM roneo_capture.capture AS k WHERE k.capture_id = id;
    RETURN true;
END;
$$;
COMMENT ON FUNCTION roneo_capture.remove(integer) IS
    'Ends a capture that feeds no copy: triggers, functions and queue are dropped. False where one is still fed. Waits two seconds for locks.';

-- A single copy reads all that is there. Where one of several lags, the others must not read its
-- backlog again and again; and the index costs each single-row change a microsecond.
CREATE OR REPLACE FUNCTION roneo_capture.index_segment(id integer, segment integer)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queue text := roneo_capture.queue_name(id, segment);
    name  text := format('queue_%s_%s_xid_idx', id, segment);
    is_shared boolean := (SELECT count(*) FROM roneo_capture.consumer AS u WHERE u.capture_id = id) > 1;
BEGIN
    IF is_shared = (to_regclass(format('roneo_capture.%I', name)) IS NOT NULL) THEN
        RETURN;
    END IF;
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', queue);
    EXECUTE format(CASE WHEN is_shared THEN 'CREATE INDEX %I ON %s (xid)' ELSE 'DROP INDEX roneo_capture.%I' END, name, queue);
EXCEPTION WHEN lock_not_available THEN
    -- The next time it is looked at.
    NULL;
END;
$$;
COMMENT ON FUNCTION roneo_capture.index_segment(integer, integer) IS
    'Gives an empty segment the index that several copies need, or takes it away, if nobody is using it.';

-- What is to be emptied is checked under the lock, so that a row that came meanwhile is never lost.
CREATE OR REPLACE FUNCTION roneo_capture.empty_segment(id integer, segment integer)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queue text := roneo_capture.queue_name(id, segment);
    found boolean;
BEGIN
    IF pg_relation_size(to_regclass(queue)) = 0 THEN
        PERFORM roneo_capture.index_segment(id, segment);
        RETURN true;
    END IF;
    -- Without the lock first: a copy that lags must not make others wait at each look.
    FOR attempt IN 1 .. 2 LOOP
        EXECUTE format($check$SELECT EXISTS (
            SELECT FROM roneo_capture.consumer AS u, %s AS q
            WHERE u.capture_id = %s AND q.xid >= pg_snapshot_xmin(u.position) AND NOT pg_visible_in_snapshot(q.xid, u.position))$check$,
            queue, id) INTO found;
        IF found THEN
            RETURN false;
        ELSIF attempt = 1 THEN
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', queue);
        END IF;
    END LOOP;
    EXECUTE format('TRUNCATE %s', queue);
    PERFORM roneo_capture.index_segment(id, segment);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END;
$$;
COMMENT ON FUNCTION roneo_capture.empty_segment(integer, integer) IS
    'Empties a segment that all copies have read, if nobody is using it; tells whether it is empty.';

CREATE OR REPLACE FUNCTION roneo_capture.rotate(id integer, at_size bigint DEFAULT 1048576)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c       roneo_capture.capture;
    is_free boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING ERRCODE = 'active_sql_transaction', MESSAGE = 'a queue is rotated in READ COMMITTED only';
    END IF;
    SELECT k.* INTO c FROM roneo_capture.capture AS k WHERE k.capture_id = id AND k.state = 'running';
    IF NOT FOUND
       OR (SELECT max(pg_relation_size(to_regclass(roneo_capture.queue_name(id, s)))) FROM generate_series(0, 2) AS s) < at_size
       OR NOT roneo_capture.lock_functions(id) THEN
        RETURN false;
    END IF;
    SELECT k.* INTO c FROM roneo_capture.capture AS k WHERE k.capture_id = id AND k.state = 'running' FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM roneo_capture.empty_segment(id, (c.segment + 2) % 3);
    is_free := roneo_capture.empty_segment(id, (c.segment + 1) % 3)
        AND pg_relation_size(to_regclass(roneo_capture.queue_name(id, c.segment))) >= at_size;
    IF is_free THEN
        c.segment := (c.segment + 1) % 3;
        UPDATE roneo_capture.capture AS k SET segment = c.segment WHERE k.capture_id = id;
        PERFORM roneo_capture.write_functions(c);
    END IF;
    RETURN is_free;
END;
$$;
COMMENT ON FUNCTION roneo_capture.rotate(integer, bigint) IS
    'Once a segment has grown to that size in bytes, empties those that are not written, where all copies have read them; and if it is the one that is written, writes to the next. Tells whether it did that.';

-- Writers that came from before the stop may still hold a segment; nobody must wait behind us.
CREATE OR REPLACE FUNCTION roneo_capture.discard(id integer)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queues text := (SELECT string_agg(roneo_capture.queue_name(id, s), ', ') FROM generate_series(0, 2) AS s);
BEGIN
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', queues);
    EXECUTE format('TRUNCATE %s', queues);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END;
$$;
COMMENT ON FUNCTION roneo_capture.discard(integer) IS 'Empties a queue whose copies are to be made anew; false while it is in use.';

-- A transaction that is prepared has another name from then on: while one of those that are awaited
-- has gone, each prepared one may be it.
CREATE OR REPLACE FUNCTION roneo_capture.still_awaited(awaited text[], writers text[])
RETURNS text[] LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN awaited IS NULL THEN writers ELSE ARRAY(
    SELECT w FROM unnest(writers) AS w
    WHERE w = ANY (awaited)
       OR w LIKE '-1/%' AND EXISTS (SELECT FROM unnest(awaited) AS a WHERE a NOT LIKE '-1/%' AND a <> ALL (writers))) END
$$;
COMMENT ON FUNCTION roneo_capture.still_awaited(text[], text[]) IS
    'Of transactions that are awaited those that still write, by their virtual numbers; NULL: all that write now.';

-- A capture that recorded nothing for a while starts again when the last transaction that may still
-- run the empty functions has ended; then all copies are told to be made anew.
CREATE OR REPLACE FUNCTION roneo_capture.restart(id integer)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c       roneo_capture.capture;
    writers text[];
BEGIN
    SELECT k.* INTO c FROM roneo_capture.capture AS k WHERE k.capture_id = id FOR UPDATE;
    IF c.state = 'stopped' AND roneo_capture.lock_functions(id) AND roneo_capture.discard(id) THEN
        UPDATE roneo_capture.capture AS k SET state = 'restarting', state_since = clock_timestamp(), awaited = NULL
        WHERE k.capture_id = id RETURNING k.* INTO c;
        PERFORM roneo_capture.write_functions(c);
    ELSIF c.state = 'restarting' THEN
        SELECT coalesce(array_agg(DISTINCT l.virtualtransaction), '{}') INTO writers
        FROM pg_locks AS l
        WHERE l.locktype = 'relation' AND l.granted AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
          AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
          AND l.relation IN (SELECT t.relid FROM roneo_capture.own_tables(c.relation) AS t);
        c.awaited := roneo_capture.still_awaited(c.awaited, writers);
        c.state := CASE WHEN c.awaited = '{}' THEN 'running' ELSE 'restarting' END;
        IF c.state = 'running' THEN
            EXECUTE format('INSERT INTO %s (xid, op) VALUES (pg_current_xact_id(), ''r'')', roneo_capture.queue_name(id, c.segment));
        END IF;
        UPDATE roneo_capture.capture AS k SET state = c.state, awaited = nullif(c.awaited, '{}') WHERE k.capture_id = id;
    END IF;
    RETURN c.state;
END;
$$;
COMMENT ON FUNCTION roneo_capture.restart(integer) IS
    'Brings a capture that was stopped one step nearer to running, and returns its state. It takes two calls, and the end of the transactions that wrote meanwhile.';

-- Who was refused is refused the next time as well: nothing is written but for a copy that is known.
CREATE OR REPLACE FUNCTION roneo_capture.attend(id uuid, dest_identity text, told text, told_before text DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    u    roneo_capture.consumer;
    have pg_snapshot := told::pg_snapshot;
    fate text;
BEGIN
    PERFORM roneo_capture.require_own(id);
    SELECT k.* INTO u FROM roneo_capture.consumer AS k WHERE k.consumer_id = id;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('fate', 'expired', 'position', told);
    END IF;
    fate := CASE
        WHEN u.dest_identity <> attend.dest_identity THEN 'stranger'
        WHEN pg_snapshot_xmax(have) > pg_snapshot_xmax(pg_current_snapshot()) THEN 'ahead'
        -- A transaction that it had is open for it again.
        WHEN pg_snapshot_xmax(have) < pg_snapshot_xmax(u.position)
             OR EXISTS (SELECT FROM pg_snapshot_xip(have) AS x WHERE pg_visible_in_snapshot(x, u.position)) THEN 'behind'
        WHEN u.position::text NOT IN (told, told_before) THEN 'forgetful'
        ELSE 'known' END;
    IF fate = 'known' THEN
        -- Now and then also where nothing changes: who looks for copies that are gone sees when they last came.
        IF have IS NULL OR have::text <> u.position::text OR u.confirmed_at < now() - interval '1 hour' THEN
            -- One that is to be made anew needs nothing from before now.
            UPDATE roneo_capture.consumer AS k SET position = coalesce(have, pg_current_snapshot()), confirmed_at = now()
            WHERE k.consumer_id = id;
        END IF;
        PERFORM roneo_capture.restart(u.capture_id)
        FROM roneo_capture.capture AS k WHERE k.capture_id = u.capture_id AND k.state IN ('stopped', 'restarting');
        PERFORM roneo_capture.rotate(u.capture_id);
    END IF;
    RETURN jsonb_build_object('fate', fate, 'confirmed', u.position::text, 'position', told, 'destination', u.destination,
        'segment', (SELECT k.segment FROM roneo_capture.capture AS k WHERE k.capture_id = u.capture_id));
END;
$$;
COMMENT ON FUNCTION roneo_capture.attend(uuid, text, text, text) IS
    'Called by a refresh before its snapshot: a copy says how far it has got (NULL: it is to be made anew), and hears whether that can be. expired: it was forgotten; stranger: another destination has its number; ahead or behind: source or destination were set back; forgetful: the source knows neither this nor what it was told_before, and so was set back and has gone on since.';

CREATE OR REPLACE FUNCTION roneo_capture.pause(id integer)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c roneo_capture.capture;
BEGIN
    PERFORM roneo_capture.require_party(id);
    PERFORM pg_advisory_xact_lock(1919905379, id);
    UPDATE roneo_capture.capture AS k SET state = 'paused', state_since = clock_timestamp(), awaited = NULL
    WHERE k.capture_id = id RETURNING k.* INTO STRICT c;
    PERFORM roneo_capture.write_functions(c);
END;
$$;
COMMENT ON FUNCTION roneo_capture.pause(integer) IS
    'Records nothing until resume, so that a change of most rows costs nothing; the copies are then made anew.';

CREATE OR REPLACE FUNCTION roneo_capture.resume(id integer)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo_capture.require_party(id);
    UPDATE roneo_capture.capture AS k SET state = 'stopped', state_since = clock_timestamp()
    WHERE k.capture_id = id AND k.state = 'paused';
    PERFORM roneo_capture.restart(id);
END;
$$;
COMMENT ON FUNCTION roneo_capture.resume(integer) IS 'Ends a pause; the next refresh of each copy makes it anew.';

CREATE OR REPLACE FUNCTION roneo_capture.set_limit(id integer, bytes bigint)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo_capture.require_party(id);
    UPDATE roneo_capture.capture AS k SET queue_limit = bytes WHERE k.capture_id = id;
END;
$$;
COMMENT ON FUNCTION roneo_capture.set_limit(integer, bigint) IS 'How many bytes the queue of a capture may take.';

CREATE OR REPLACE FUNCTION roneo_capture.mark(id integer)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo_capture.require_party(id);
    EXECUTE format('INSERT INTO %s (xid, op) VALUES (pg_current_xact_id(), ''r'')',
        roneo_capture.queue_name(id, (SELECT k.segment FROM roneo_capture.capture AS k WHERE k.capture_id = id)));
END;
$$;
COMMENT ON FUNCTION roneo_capture.mark(integer) IS 'Tells all copies of a capture to be made anew.';

CREATE OR REPLACE FUNCTION roneo_capture.forget(id integer, transaction_id xid8)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone  bigint;
    total bigint := 0;
BEGIN
    PERFORM roneo_capture.require_party(id);
    FOR segment IN 0 .. 2 LOOP
        EXECUTE format('DELETE FROM %s WHERE xid = $1', roneo_capture.queue_name(id, segment)) USING transaction_id;
        GET DIAGNOSTICS gone = ROW_COUNT;
        total := total + gone;
    END LOOP;
    RETURN total;
END;
$$;
COMMENT ON FUNCTION roneo_capture.forget(integer, xid8) IS
    'Takes what one transaction changed out of the queue: no copy will get it. Returns the rows of the queue that went.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA roneo_capture FROM PUBLIC;

-- What an older version wrote for the captures that are here.
DO $do$
DECLARE
    c roneo_capture.capture;
BEGIN
    FOR c IN SELECT k.* FROM roneo_capture.capture AS k ORDER BY k.capture_id LOOP
        PERFORM pg_catalog.pg_advisory_xact_lock(1919905379, c.capture_id);
        PERFORM roneo_capture.write_functions(c);
    END LOOP;
END;
$do$;
RESET ROLE;
COMMIT;
