-- The content of a table, or of a part of it, in one line: the same wherever the rows are the same,
-- whatever their order, their files, the server and its version.

-- Of the destination too. Where the table may be locked, that precedes the snapshot: a TRUNCATE in
-- between would make it look empty.
CREATE OR REPLACE FUNCTION roneo.fingerprint_find_query(wanted text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.parse_name(wanted, NULL);
    RETURN format($query$SELECT pg_catalog.jsonb_build_object('path', pg_catalog.current_setting('search_path'), 'role', current_user,
    'encoding', pg_catalog.current_setting('server_encoding'), 'oid', pg_catalog.to_regclass(%1$L)::pg_catalog.oid,
    'lock', (SELECT pg_catalog.format('LOCK TABLE %%I.%%I IN ACCESS SHARE MODE', n.nspname, c.relname)
             FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
             WHERE c.oid = pg_catalog.to_regclass(%1$L) AND c.relkind IN ('r', 'p', 'v')
               AND pg_catalog.has_table_privilege(c.oid, 'SELECT')))::text$query$, wanted);
END;
$$;
COMMENT ON FUNCTION roneo.fingerprint_find_query(text) IS
    'A query for whichever server has the table: where its name leads, under the search_path of the role, and how to lock it. Raises RO006.';

CREATE OR REPLACE FUNCTION roneo.fingerprint_opening(named jsonb, time_limit interval DEFAULT NULL)
RETURNS text LANGUAGE sql STABLE
RETURN concat_ws('; ', roneo.source_opening(),
    format('SET LOCAL statement_timeout = %s', least(round(extract(epoch FROM greatest(time_limit, '0')) * 1000), 2147483647)),
    named ->> 'lock');
COMMENT ON FUNCTION roneo.fingerprint_opening(jsonb, interval) IS
    'Statements that open the transaction in which a fingerprint is taken: one snapshot, read only, each statement limited in time.';

CREATE OR REPLACE FUNCTION roneo.fingerprint_path(named jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('SET LOCAL search_path = %s', coalesce(nullif(named ->> 'path', ''), ''''''));
COMMENT ON FUNCTION roneo.fingerprint_path(jsonb) IS
    'A statement after which a condition, and what a view calls, is found as the role finds it.';

-- What a database of another encoding makes of the same characters.
CREATE OR REPLACE FUNCTION roneo.utf8_bytes(characters text)
RETURNS bytea LANGUAGE sql STABLE
RETURN convert_to(characters, CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END);
COMMENT ON FUNCTION roneo.utf8_bytes(text) IS
    'A text in UTF8, whatever the encoding here; of SQL_ASCII its bytes as they are.';

-- By name, so that neither dropped columns nor their order matter.
CREATE OR REPLACE FUNCTION roneo.fingerprint_columns(description jsonb, columns text[])
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object('name', c.col ->> 'name', 'type', c.col ->> 'type',
                                                 'kind', roneo.hash_kind(c.col ->> 'type_base')) ORDER BY roneo.utf8_bytes(c.col ->> 'name')), '[]')
    FROM jsonb_array_elements(description #> '{relation,columns}') AS c (col)
    WHERE columns IS NULL OR c.col ->> 'name' = ANY (columns)
);
COMMENT ON FUNCTION roneo.fingerprint_columns(jsonb, text[]) IS 'What a fingerprint is taken of, in its order.';

CREATE OR REPLACE FUNCTION roneo.fingerprint_weak(hash text)
RETURNS text[] LANGUAGE sql IMMUTABLE
RETURN CASE hash WHEN 'md5' THEN ARRAY['ascii', 'bool', 'bytes', 'date', 'int4', 'int8', 'numeric', 'oid', 'padded', 'text', 'time', 'timestamp', 'timestamptz', 'uuid'] ELSE '{}' END;
COMMENT ON FUNCTION roneo.fingerprint_weak(text) IS 'The kinds that are hashed by md5: with md5, all of them.';

CREATE OR REPLACE FUNCTION roneo.require_fingerprintable(place text, wanted text, description jsonb, columns text[], hash text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    closed name[];
BEGIN
    IF place IS NULL AND coalesce(description -> 'relation', 'null') = 'null' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO004',
            MESSAGE = format('this database has no table %s', wanted),
            DETAIL  = format('Looked for as role %s, whose search_path is %s.', description ->> 'role', description ->> 'path'),
            HINT    = 'Name the source that has it, or the schema too.';
    END IF;
    PERFORM roneo.require_described(coalesce(place, 'here'), wanted, description);
    PERFORM roneo.require_columns_exist(columns, description);
    IF hash NOT IN ('fast', 'md5') OR hash IS NULL THEN
        PERFORM roneo.bad_argument(format('there is no hash called %s', coalesce(quote_ident(hash), 'NULL')),
                                   'Say fast, or md5 between servers whose own hashes differ.');
    END IF;
    SELECT array_agg((c.col ->> 'name')::name ORDER BY (c.col ->> 'number')::integer) INTO closed
    FROM jsonb_array_elements(description #> '{relation,columns}') AS c (col)
    WHERE (columns IS NULL OR c.col ->> 'name' = ANY (columns)) AND NOT (c.col ->> 'readable')::boolean;
    IF closed IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I may not read %s of %s', description ->> 'role', roneo.column_list(closed), wanted),
            HINT    = format('GRANT SELECT ON TABLE %I.%I TO %I; or choose columns that it may read.', description #>> '{relation,schema}',
                             description #>> '{relation,name}', description ->> 'role');
    ELSIF (description #>> '{relation,row_security}')::boolean THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('role %I sees only the rows of %s that policies show it', description ->> 'role', wanted),
            HINT    = format('ALTER ROLE %I BYPASSRLS; or take it as another role.', description ->> 'role');
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_fingerprintable(text, text, jsonb, text[], text) IS
    'Raises RO004, RO007 or RO009 where no fingerprint can be taken.';

CREATE OR REPLACE FUNCTION roneo.bytes_are_of(place text, description jsonb)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    declared text;
BEGIN
    IF description ->> 'encoding' <> 'SQL_ASCII' THEN
        RETURN 'server';
    END IF;
    declared := (SELECT s.source_encoding FROM roneo.source AS s WHERE s.source_name = place);
    IF declared IS NULL THEN
        PERFORM roneo.bad_argument(
            format('%s is a SQL_ASCII database, and what its bytes mean is not known', coalesce(format('source %I', place), 'this')),
            CASE WHEN place IS NULL THEN 'Take it without any_encoding.'
                 ELSE format('UPDATE roneo.source SET source_encoding = ''LATIN1'' WHERE source_name = %L; or whichever it is.', place) END);
    END IF;
    RETURN declared;
END;
$$;
COMMENT ON FUNCTION roneo.bytes_are_of(text, jsonb) IS
    'In which encoding the bytes of a place are, as portable_text takes it. Raises RO007 for a SQL_ASCII database that is not said to have one.';

CREATE OR REPLACE FUNCTION roneo.fingerprint_query(
    place text, wanted text, description jsonb, filter text, columns text[], hash text, any_encoding boolean)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    relation jsonb := description -> 'relation';
    hashed   jsonb;
    taken_of text;
BEGIN
    PERFORM roneo.require_fingerprintable(place, wanted, description, columns, hash);
    SELECT jsonb_agg(jsonb_build_object('expression', quote_ident(c.col ->> 'name'), 'kind', c.col -> 'kind', 'nullable', true,
                                        'is_jsonb', d.col ->> 'type_base' = 'jsonb') ORDER BY c.nr)
    INTO hashed
    FROM jsonb_array_elements(roneo.fingerprint_columns(description, columns)) WITH ORDINALITY AS c (col, nr)
    JOIN jsonb_array_elements(relation -> 'columns') AS d (col) ON d.col ->> 'name' = c.col ->> 'name';
    taken_of := format('%I.%I', relation ->> 'schema', relation ->> 'name');
    IF filter IS NOT NULL THEN
        -- Twice, as in filter_query: what leaves its parentheses fails.
        taken_of := format(E'%1$s WHERE (%2$s\n) AND CASE WHEN %2$s\n THEN true END', taken_of, filter);
    END IF;
    RETURN format($query$SELECT pg_catalog.jsonb_build_object('rows', f.rows, 'sum', f.sum, 'handshake', (%1$s),
    'snapshot', pg_catalog.pg_current_snapshot()::text, 'taken_at', %2$s, 'version', pg_catalog.current_setting('server_version'),
    'database', pg_catalog.current_database(), 'system_identifier', (SELECT c.system_identifier::text FROM pg_catalog.pg_control_system() AS c),
    'seconds', pg_catalog.round(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - pg_catalog.statement_timestamp())::numeric, 3))::text
FROM (SELECT %3$s FROM %4$s) AS f$query$,
        roneo.handshake_query(), roneo.utc_text('pg_catalog.statement_timestamp()'),
        roneo.hash_sum(roneo.row_hash(coalesce(hashed, '[]'), roneo.fingerprint_weak(hash), CASE WHEN any_encoding THEN roneo.bytes_are_of(place, description) END)), taken_of);
END;
$$;
COMMENT ON FUNCTION roneo.fingerprint_query(text, text, jsonb, text, text[], text, boolean) IS
    'A query for the server that has a described table: count and sum of hashes of its rows. Raises RO004, RO007, RO009.';

-- How rows were hashed: what servers make of constants differs where their hashes do.
CREATE OR REPLACE FUNCTION roneo.fingerprint_scheme(columns jsonb, handshake jsonb, encoding text, hash text, any_encoding boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN left(md5(concat_ws(' ', hash,
    CASE WHEN hash <> 'md5' THEN (SELECT string_agg(h.key || h.value, ' ' ORDER BY h.key COLLATE "C") FROM jsonb_each_text(handshake) AS h
                                  WHERE h.key IN ('int4', 'text') OR h.key IN (SELECT c.col ->> 'kind' FROM jsonb_array_elements(columns) AS c (col))) END,
    CASE WHEN any_encoding THEN 'any' WHEN EXISTS (SELECT FROM jsonb_array_elements(columns) AS c (col) WHERE c.col ->> 'kind' IN ('text', 'padded'))
         THEN encoding END)), 8);
COMMENT ON FUNCTION roneo.fingerprint_scheme(jsonb, jsonb, text, text, boolean) IS
    'Eight digits that two fingerprints must share to be compared.';

CREATE OR REPLACE FUNCTION roneo.fingerprint_document(
    place text, description jsonb, filter text, columns text[], hash text, any_encoding boolean, answer jsonb)
RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT jsonb_build_object(
        'fingerprint', format('roneo1:%s:%s:%s:%s', answer ->> 'rows', md5(answer ->> 'sum'), d.columns_digest, d.scheme),
        'algorithm', 1, 'hash', hash, 'any_encoding', any_encoding, 'scheme', d.scheme,
        'source', place, 'table', format('%I.%I', description #>> '{relation,schema}', description #>> '{relation,name}'),
        'filter', filter, 'columns', d.columns, 'columns_digest', d.columns_digest,
        'rows', answer -> 'rows', 'sum', answer -> 'sum', 'taken_at', answer -> 'taken_at', 'snapshot', answer -> 'snapshot',
        'seconds', answer -> 'seconds', 'server_version', answer -> 'version', 'database', answer -> 'database',
        'system_identifier', answer -> 'system_identifier', 'encoding', description -> 'encoding')
    FROM (SELECT c.columns, roneo.fingerprint_scheme(c.columns, answer -> 'handshake', description ->> 'encoding', hash, any_encoding) AS scheme,
                 (SELECT left(md5(roneo.utf8_bytes(string_agg(format('%I %s', e.col ->> 'name', e.col ->> 'type'), ',' ORDER BY e.nr))), 8)
                  FROM jsonb_array_elements(c.columns) WITH ORDINALITY AS e (col, nr)) AS columns_digest
          FROM (SELECT roneo.fingerprint_columns(description, fingerprint_document.columns)) AS c (columns)) AS d
);
COMMENT ON FUNCTION roneo.fingerprint_document(text, jsonb, text, text[], text, boolean, jsonb) IS
    'What a fingerprint says, from the answer to fingerprint_query.';

CREATE OR REPLACE FUNCTION roneo.remote_fingerprint(
    source_name text, wanted text, filter text, columns text[], time_limit interval, hash text, any_encoding boolean)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    link        text := roneo.open_link(source_name);
    named       jsonb;
    description jsonb;
    answer      jsonb;
BEGIN
    PERFORM roneo.parse_name(wanted, NULL);
    -- It says which grant is missing where a schema is closed.
    PERFORM roneo.find_over_link(link, source_name, wanted);
    named := roneo.ask_link(link, roneo.fingerprint_find_query(wanted));
    PERFORM roneo.tell_link(link, roneo.fingerprint_opening(named, time_limit));
    description := named || roneo.ask_link(link, roneo.describe_query(named ->> 'oid'))::jsonb;
    PERFORM roneo.require_fingerprintable(source_name, wanted, description, columns, hash);
    PERFORM roneo.tell_link(link, roneo.fingerprint_path(named));
    IF filter IS NOT NULL THEN
        PERFORM roneo.try_filter(link, description, filter);
    END IF;
    answer := roneo.ask_link(link, roneo.fingerprint_query(source_name, wanted, description, filter, columns, hash, any_encoding));
    PERFORM roneo.close_link(link);
    RETURN roneo.fingerprint_document(source_name, description, filter, columns, hash, any_encoding, answer);
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link(link);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.remote_fingerprint(text, text, text, text[], interval, text, boolean) IS
    'The fingerprint of a table of a source, over dblink.';

-- Under the search_path of its caller, which names in the filter are found by: all of ours is qualified.
CREATE OR REPLACE FUNCTION roneo.try_local_filter(description jsonb, filter text, path text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    PERFORM set_config('search_path', path, true);
    EXECUTE roneo.filter_query(description #>> '{relation,schema}', description #>> '{relation,name}', filter);
EXCEPTION WHEN query_canceled THEN
    RAISE;
WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    PERFORM roneo.refuse_filter(description, filter, problem);
END;
$$;
COMMENT ON FUNCTION roneo.try_local_filter(jsonb, text, text) IS 'Raises RO007 where a table of this database does not accept the filter.';

CREATE OR REPLACE FUNCTION roneo.local_fingerprint(
    wanted text, filter text, columns text[], hash text, any_encoding boolean, path text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, YMD'
SET IntervalStyle = 'postgres'
SET extra_float_digits = 3
SET bytea_output = 'hex'
SET xmloption = 'content'
SET lc_monetary = 'C'
SET standard_conforming_strings = 'on'
SET row_security = off
AS $$
DECLARE
    named       jsonb;
    description jsonb;
    answer      jsonb;
BEGIN
    PERFORM set_config('search_path', path, true);
    EXECUTE roneo.fingerprint_find_query(wanted) INTO named;
    IF named ->> 'lock' IS NOT NULL THEN
        EXECUTE named ->> 'lock';
    END IF;
    PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
    EXECUTE roneo.describe_query(named ->> 'oid') INTO description;
    description := named || description;
    PERFORM roneo.require_fingerprintable(NULL, wanted, description, columns, hash);
    PERFORM set_config('search_path', path, true);
    IF filter IS NOT NULL THEN
        PERFORM roneo.try_local_filter(description, filter, path);
    END IF;
    EXECUTE roneo.fingerprint_query(NULL, wanted, description, filter, columns, hash, any_encoding) INTO answer;
    RETURN roneo.fingerprint_document(NULL, description, filter, columns, hash, any_encoding, answer);
END;
$$;
COMMENT ON FUNCTION roneo.local_fingerprint(text, text, text[], text, boolean, text) IS
    'The fingerprint of a table of this database.';

-- A parsed body has no path of its own, and so knows that of its caller.
CREATE OR REPLACE FUNCTION roneo.fingerprint(
    relation text,
    filter text DEFAULT NULL,
    columns text[] DEFAULT NULL,
    source text DEFAULT NULL,
    time_limit interval DEFAULT NULL,
    hash text DEFAULT 'fast',
    any_encoding boolean DEFAULT false)
RETURNS jsonb LANGUAGE sql
RETURN CASE WHEN source IS NOT NULL
    THEN roneo.remote_fingerprint(source, relation, filter, columns, time_limit, hash, any_encoding)
    ELSE roneo.local_fingerprint(relation, filter, columns, hash, any_encoding, current_setting('search_path')) END;
COMMENT ON FUNCTION roneo.fingerprint(text, text, text[], text, interval, text, boolean) IS
    'The content of a table or view here, or of a source over dblink, or of the rows that a condition is true for, as a short text under the key fingerprint, with what it was taken of. Equal texts: equal rows, in any order, of any version. time_limit: of each query on the source. hash: fast, or md5 between servers whose own hashes differ. any_encoding: for servers of unlike encodings.';

CREATE OR REPLACE FUNCTION roneo.fingerprint_parts(given text)
RETURNS text[] LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    line text := btrim(given, E' \n\r\t');
BEGIN
    IF starts_with(line, '{') THEN
        line := line::jsonb ->> 'fingerprint';
    END IF;
    IF line ~ '^roneo[0-9]+:[0-9]+:[0-9a-f]{32}:[0-9a-f]{8}:[0-9a-f]{8}$' THEN
        RETURN string_to_array(line, ':');
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'RO007',
        MESSAGE = 'this is not a fingerprint',
        HINT    = 'A fingerprint begins with roneo1: and is what roneo fingerprint prints, or the JSON of --json.';
EXCEPTION WHEN invalid_text_representation THEN
    RAISE EXCEPTION USING
        ERRCODE = 'RO007',
        MESSAGE = 'this is neither a fingerprint nor JSON',
        HINT    = 'A fingerprint begins with roneo1: and is what roneo fingerprint prints, or the JSON of --json.';
END;
$$;
COMMENT ON FUNCTION roneo.fingerprint_parts(text) IS
    'Version, rows, content, columns and scheme of a fingerprint, given as its line or its JSON; raises RO007.';

CREATE OR REPLACE FUNCTION roneo.compare_fingerprints(one text, other text, OUT is_equal boolean, OUT difference text)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE WHEN a[1] <> b[1] OR a[4] = b[4] AND a[5] <> b[5] THEN NULL ELSE a = b END,
           CASE WHEN a[1] <> b[1] THEN 'taken by other versions of roneo: take both by one'
                -- Which columns there are decides how they are hashed.
                WHEN a[4] <> b[4] THEN concat('other columns or types', CASE WHEN a[2] <> b[2] THEN format(', and %s rows, not %s', b[2], a[2]) END)
                WHEN a[5] <> b[5] THEN 'hashed in different ways: take both with the same options; with md5 and any_encoding if they are of unlike servers'
                WHEN a[2] <> b[2] THEN format('%s rows, not %s', b[2], a[2])
                WHEN a[3] <> b[3] THEN 'as many rows, but not the same' END
    FROM (SELECT roneo.fingerprint_parts(one), roneo.fingerprint_parts(other)) AS p (a, b);
END;
COMMENT ON FUNCTION roneo.compare_fingerprints(text, text) IS
    'Whether two fingerprints, as lines or as JSON, are of the same rows, and what differs; NULL where that cannot be told.';
