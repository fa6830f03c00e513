-- What the methods share: asking the source about one table, and reading the answer.

CREATE OR REPLACE FUNCTION roneo.source_name_of(r roneo.replica)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('%I.%I', r.source_schema, r.source_table);
COMMENT ON FUNCTION roneo.source_name_of(roneo.replica) IS 'The qualified name of the source table.';

CREATE OR REPLACE FUNCTION roneo.source_regclass(r roneo.replica)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('pg_catalog.to_regclass(%L)', roneo.source_name_of(r));
COMMENT ON FUNCTION roneo.source_regclass(roneo.replica) IS
    'An SQL expression that is the source table''s oid on the source, or NULL where it is gone.';

CREATE OR REPLACE FUNCTION roneo.table_probe(r roneo.replica)
RETURNS roneo.probe LANGUAGE sql STABLE
RETURN ROW(
    -- Before the snapshot: inside it the counters can show a row that the snapshot does not see,
    -- and whoever stores that loses the change.
    -- The state comes first: it must not know of a change that the counters beside it do not.
    format('SELECT pg_catalog.jsonb_build_object(''state'', s.state, ''identity'', %s, ''track_counts'', %s, ''filter'', %L::text, ''leaves'', (%s)) FROM (SELECT %s AS state OFFSET 0) AS s',
           roneo.identity_query(), roneo.track_counts_query(), r.filter,
           roneo.leaves_query(roneo.source_regclass(r)), roneo.state_of(roneo.source_regclass(r))),
    CASE WHEN r.source_lockable
         THEN format('LOCK TABLE %s IN ACCESS SHARE MODE', roneo.source_name_of(r)) END,
    format('SELECT pg_catalog.jsonb_build_object(''relation'', (%s))',
           roneo.relation_query(roneo.source_regclass(r)))
)::roneo.probe;
COMMENT ON FUNCTION roneo.table_probe(roneo.replica) IS
    'What every method that reads a whole table asks: identity, counters and files before the snapshot, columns inside it.';

-- A leaf that has left the tree, and that nobody locked for reading, was not read though the
-- snapshot has it.
CREATE OR REPLACE FUNCTION roneo.moved_query(relation text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$
WITH RECURSIVE tree AS (
    SELECT (%1$s)::oid AS oid
    UNION
    SELECT i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
)
SELECT pg_catalog.jsonb_build_object('moved', pg_catalog.count(*) = 0 OR pg_catalog.bool_or(
    c.relkind IN ('r', 'm') AND c.relfilenode <> 0
    AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)
    OR c.oid NOT IN (
        SELECT p.relid::oid FROM pg_catalog.pg_partition_tree(%1$s) AS p
        UNION ALL
        SELECT k.relation FROM pg_catalog.pg_locks AS k
        WHERE k.pid = pg_catalog.pg_backend_pid() AND k.locktype = 'relation')))
FROM tree AS t
JOIN pg_catalog.pg_class AS c ON c.oid = t.oid$query$, relation);
COMMENT ON FUNCTION roneo.moved_query(text) IS
    'SQL that tells whether a table, or one that inherits from it, is in another file or no more in the tree, now, than the snapshot knew: the one reads the catalog under the snapshot, the other does not.';

-- With synchronous_commit off a transaction is visible before it is on disk: after a crash it never
-- was, its number is given to another one, and the copy would have the one and miss the other. The
-- WAL writer brings commits there within three of its cycles; behind them can stand what a
-- transaction has written that is open still, and nobody writes that out until it ends.
CREATE OR REPLACE FUNCTION roneo.on_disk_step(answer jsonb)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 2, 'check', 'see that the source has on disk what was read', format($query$
WITH RECURSIVE wait AS (
    SELECT 1 AS n, pg_catalog.pg_current_wal_flush_lsn() OPERATOR(pg_catalog.>=) %1$L::pg_catalog.pg_lsn AS is_there,
           (SELECT pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) (s.setting::pg_catalog.float8 OPERATOR(pg_catalog.*) '4 ms'::pg_catalog.interval)
            FROM pg_catalog.pg_settings AS s WHERE s.name OPERATOR(pg_catalog.=) 'wal_writer_delay') AS enough
    UNION ALL
    SELECT w.n OPERATOR(pg_catalog.+) 1,
           pg_catalog.pg_current_wal_flush_lsn() OPERATOR(pg_catalog.>=) %1$L::pg_catalog.pg_lsn
           OR pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>) w.enough
              AND pg_catalog.pg_current_wal_flush_lsn() OPERATOR(pg_catalog.>=) pg_catalog.pg_current_wal_lsn(),
           w.enough
    -- Of the row before, or it would sleep but once.
    FROM wait AS w, LATERAL pg_catalog.pg_sleep(CASE WHEN w.n OPERATOR(pg_catalog.>) 0 THEN 0.005 END)
    WHERE NOT w.is_there AND (w.n OPERATOR(pg_catalog.<) 1000 OR pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) w.enough)
)
SELECT pg_catalog.jsonb_build_object('on_disk', pg_catalog.bool_or(w.is_there)) FROM wait AS w$query$, answer #>> '{inside,lsn}'),
           NULL, NULL, NULL, NULL, NULL::boolean, NULL, false
    WHERE answer #>> '{inside,lsn}' IS NOT NULL;
END;
COMMENT ON FUNCTION roneo.on_disk_step(jsonb) IS
    'A step on the source that waits, up to five seconds or four cycles of the WAL writer, until all that the snapshot saw is on its disk; none where the answer does not say how far its log was.';

CREATE OR REPLACE FUNCTION roneo.takes_own_path(r roneo.replica)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN r.filter IS NOT NULL OR r.source_kind = 'v';
COMMENT ON FUNCTION roneo.takes_own_path(roneo.replica) IS
    'Whether the source is read under the search_path that the replica was registered under.';

CREATE OR REPLACE FUNCTION roneo.moved_step(r roneo.replica)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN ROW(2, 'check', 'see that the source was not rewritten meanwhile',
    format('%s%s', CASE WHEN roneo.takes_own_path(r) THEN 'SET LOCAL search_path = pg_catalog, pg_temp; ' END,
           roneo.moved_query(roneo.source_regclass(r))),
    NULL, NULL, NULL, NULL, NULL, NULL, false)::roneo.step;
COMMENT ON FUNCTION roneo.moved_step(roneo.replica) IS
    'A step on the source that compares its files with those that the snapshot knows: a rewrite in between would have hidden rows.';

-- A filter finds its names in the search_path it was registered under, and so do the functions that
-- a view calls.
CREATE OR REPLACE FUNCTION roneo.filter_path_step(r roneo.replica)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 2, 'check', 'take the search_path that it was registered under',
           format('SELECT pg_catalog.jsonb_build_object(''search_path'', pg_catalog.set_config(''search_path'', %L, true))',
                  r.filter_path),
           NULL, NULL, NULL, NULL, NULL::boolean, NULL, false
    WHERE roneo.takes_own_path(r);
END;
COMMENT ON FUNCTION roneo.filter_path_step(roneo.replica) IS
    'A step on the source that sets the search_path under which the replica was registered; none for a table without a filter.';

-- The source would stop at the first byte that is no character of client_encoding, and could not
-- say where it stands; the COPY here names the column.
CREATE OR REPLACE FUNCTION roneo.raw_bytes_step(answer jsonb)
RETURNS SETOF roneo.step LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 2, 'check', 'let the bytes of a SQL_ASCII source out as they are',
           'SELECT pg_catalog.jsonb_build_object(''client_encoding'', pg_catalog.set_config(''client_encoding'', ''SQL_ASCII'', true))',
           NULL, NULL, NULL, NULL, NULL::boolean, NULL, false
    WHERE answer #>> '{before,identity,encoding}' = 'SQL_ASCII' AND answer ->> 'hand' = 'runner';
END;
COMMENT ON FUNCTION roneo.raw_bytes_step(jsonb) IS
    'A step on a SQL_ASCII source that leaves it to the destination to check what the bytes are; none for others, and none over dblink, which checks nothing.';

CREATE OR REPLACE FUNCTION roneo.require_relation(r roneo.replica, answer jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    relation jsonb := nullif(answer #> '{inside,relation}', 'null');
BEGIN
    IF relation IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO004',
            MESSAGE = format('source table %s does not exist', roneo.source_name_of(r)),
            DETAIL  = format('%I.%I was copied from it.', r.dest_schema, r.dest_name),
            HINT    = 'If it was renamed, create the replica anew; if it is gone for good, SELECT roneo.drop_replica(…) keeps the copy.';
    ELSIF (relation ->> 'row_security')::boolean THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('row-level security hides rows of source table %s', roneo.source_name_of(r)),
            DETAIL  = 'A copy of some of its rows would look like a copy of all of them.',
            HINT    = 'ALTER ROLE … BYPASSRLS on the source, or replicate a view that shows the rows you mean.';
    ELSIF NOT coalesce((relation ->> 'readable')::boolean, false) AND r.wanted_columns IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('source table %s may not be read', roneo.source_name_of(r)),
            HINT    = format('On the source: GRANT SELECT ON TABLE %s TO the role of the user mapping. roneo.check_source and roneo preflight print it exactly.',
                             roneo.source_name_of(r));
    END IF;
    RETURN relation;
END;
$$;
COMMENT ON FUNCTION roneo.require_relation(roneo.replica, jsonb) IS
    'The description of the source table out of an answer; raises RO004 where it is gone, RO009 where it may not be read whole.';

CREATE OR REPLACE FUNCTION roneo.wanted_source_columns(r roneo.replica, answer jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    relation jsonb := roneo.require_relation(r, answer);
    found    jsonb;
    lost     text;
    closed   text;
BEGIN
    SELECT coalesce(jsonb_agg(c.col ORDER BY (c.col ->> 'number')::integer), '[]'),
           string_agg(quote_ident(c.col ->> 'name'), ', ' ORDER BY (c.col ->> 'number')::integer)
               FILTER (WHERE NOT (c.col ->> 'readable')::boolean)
    INTO found, closed
    FROM jsonb_array_elements(relation -> 'columns') AS c (col)
    WHERE r.wanted_columns IS NULL OR c.col ->> 'name' = ANY (r.wanted_columns);
    SELECT string_agg(quote_ident(w), ', ') INTO lost
    FROM unnest(r.wanted_columns) AS w
    WHERE NOT EXISTS (SELECT FROM jsonb_array_elements(found) AS c (col) WHERE c.col ->> 'name' = w);
    IF lost IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO015',
            MESSAGE = format('source table %s has no column %s', roneo.source_name_of(r), lost),
            HINT    = 'The list of columns names it. Create the replica anew with a list that fits.';
    ELSIF closed IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('columns of source table %s may not be read: %s', roneo.source_name_of(r), closed),
            HINT    = format('On the source: GRANT SELECT (%s) ON TABLE %s TO the role of the user mapping. roneo.check_source and roneo preflight print it exactly.',
                             closed, roneo.source_name_of(r));
    END IF;
    RETURN found;
END;
$$;
COMMENT ON FUNCTION roneo.wanted_source_columns(roneo.replica, jsonb) IS
    'The columns of the source that a replica copies, in the source''s order; raises RO015 where one of its list is gone, RO009 where one may not be read.';

CREATE OR REPLACE FUNCTION roneo.dest_step(stage integer, purpose text, statement text, patient boolean DEFAULT false)
RETURNS roneo.step LANGUAGE sql IMMUTABLE
RETURN ROW(stage, 'dest', purpose, statement, NULL, NULL, NULL, NULL, NULL, NULL, patient)::roneo.step;
COMMENT ON FUNCTION roneo.dest_step(integer, text, text, boolean) IS
    'A step that is a statement on the destination.';

CREATE OR REPLACE FUNCTION roneo.privilege_statements(of_table regclass, onto text)
RETURNS TABLE (statement text, column_names name[], grantee oid) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('GRANT %s%s ON %s TO %s%s', a.privilege_type,
                  CASE WHEN p.attname IS NOT NULL THEN format(' (%I)', p.attname) END, onto,
                  CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                  CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END),
           CASE WHEN p.attname IS NULL THEN '{}'::name[] ELSE ARRAY[p.attname] END,
           a.grantee
    FROM (SELECT NULL::name AS attname, 0 AS attnum, c.relacl AS acl
          FROM pg_class AS c WHERE c.oid = of_table
          UNION ALL
          SELECT t.attname, t.attnum, t.attacl
          FROM pg_attribute AS t
          WHERE t.attrelid = of_table AND t.attnum > 0 AND NOT t.attisdropped) AS p
    CROSS JOIN LATERAL aclexplode(p.acl) AS a
    ORDER BY p.attnum, a.grantee, a.privilege_type;
END;
COMMENT ON FUNCTION roneo.privilege_statements(regclass, text) IS
    'GRANTs that give another relation the privileges of a table and of its columns.';
