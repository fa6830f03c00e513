-- Hashes of rows that are the same on two servers, whatever their version, encoding or collation:
-- of what a copy must repeat to the bit, and of nothing else.
--
-- A row's hash is chained: the hash of each column is the seed of the next one's. Hashes that are
-- XORed or added up do not tell which of two rows has which of two values. The seed occurs once in
-- each link, or the expression would double with every column.

-- By kinds, and not by the types' own hashes: those call 1.0 and 1.00, 0 and -0, '1 mon' and
-- '30 days' the same, fold 64 bits to 32 (bigint, timestamps), leave out a sign, or do not exist.
CREATE OR REPLACE FUNCTION roneo.hash_kind(base_type text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN base_type IN ('smallint', 'integer') THEN 'int4'
    WHEN base_type IN ('boolean', '"char"') THEN 'bool'
    WHEN base_type = 'bigint' THEN 'int8'
    WHEN base_type = 'oid' THEN 'oid'
    WHEN base_type = 'numeric' THEN 'numeric'
    WHEN base_type = 'date' THEN 'date'
    WHEN base_type = 'uuid' THEN 'uuid'
    WHEN base_type = 'timestamp with time zone' THEN 'timestamptz'
    WHEN base_type = 'timestamp without time zone' THEN 'timestamp'
    WHEN base_type = 'time without time zone' THEN 'time'
    WHEN base_type = 'bytea' THEN 'bytes'
    WHEN base_type IN ('character', 'bpchar') THEN 'padded'
    WHEN base_type IN ('real', 'double precision', 'interval', 'time with time zone', 'money', 'inet', 'cidr',
                       'bit', 'bit varying', 'point', 'box', 'path', 'polygon', 'line', 'lseg', 'circle', 'pg_lsn', 'xid8') THEN 'ascii'
    ELSE 'text' END;
COMMENT ON FUNCTION roneo.hash_kind(text) IS
    'How values of a type, as format_type writes it without a length and without the domain around it, are hashed: ascii and text by what they look like as text.';

-- On another encoding the same text has other bytes. What stands in a SQL_ASCII database is told to
-- be of some encoding.
CREATE OR REPLACE FUNCTION roneo.portable_text(expression text, recode text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN recode IS NULL THEN expression
    WHEN recode = 'server' THEN format('pg_catalog.encode(pg_catalog.convert_to(%s, ''UTF8''), ''hex'')', expression)
    ELSE format('pg_catalog.encode(pg_catalog.convert(pg_catalog.convert_to(%s, ''SQL_ASCII''), %L, ''UTF8''), ''hex'')', expression, recode)
END;
COMMENT ON FUNCTION roneo.portable_text(text, text) IS
    'An expression for a text that is the same in any encoding. recode: NULL where both sides have one encoding, server for that of the server, else the encoding that its bytes are of.';

-- jsonb sorts keys by the number of their bytes, and so shows them in another order in another
-- encoding: each value in it is written with the way to it, and these lines are sorted. Where all is
-- ASCII there is nothing to sort.
CREATE OR REPLACE FUNCTION roneo.ordered_keys(expression text, recode text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN recode IS NULL THEN expression ELSE format($query$CASE WHEN ((%1$s)::pg_catalog.text COLLATE "C") !~ '[^\x01-\x7f]' THEN (%1$s)::pg_catalog.text WHEN %1$s IS NOT NULL THEN (
    WITH RECURSIVE roneo_node (path, value) AS (
        SELECT '[]'::pg_catalog.jsonb, (%1$s)::pg_catalog.jsonb
        UNION ALL
        SELECT n.path || pg_catalog.jsonb_build_array(e.step), e.value
        FROM roneo_node AS n
        CROSS JOIN LATERAL (
            SELECT o.key, o.value
            FROM pg_catalog.jsonb_each(CASE pg_catalog.jsonb_typeof(n.value) WHEN 'object' THEN n.value END) AS o (key, value)
            UNION ALL
            SELECT a.place::pg_catalog.text, a.value
            FROM pg_catalog.jsonb_array_elements(CASE pg_catalog.jsonb_typeof(n.value) WHEN 'array' THEN n.value END) WITH ORDINALITY AS a (value, place)) AS e (step, value)
    )
    SELECT pg_catalog.string_agg(l.line, E'\n' ORDER BY %2$s COLLATE "C")
    FROM roneo_node AS n
    CROSS JOIN LATERAL (
        SELECT pg_catalog.concat(n.path, CASE pg_catalog.jsonb_typeof(n.value) WHEN 'object' THEN '{}' WHEN 'array' THEN '[]' ELSE n.value::pg_catalog.text END)) AS l (line)) END$query$,
    expression, roneo.portable_text('l.line', recode)) END;
COMMENT ON FUNCTION roneo.ordered_keys(text, text) IS
    'An expression for a jsonb as a text that does not depend on the order of its keys, where recode says that the two sides have unlike encodings; see portable_text.';

-- What differs only in what the cast to text drops, the blanks of char(n), would go unseen.
CREATE OR REPLACE FUNCTION roneo.text_form(kind text, expression text, recode text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE kind
    WHEN 'text'   THEN roneo.portable_text(format('(%s)::pg_catalog.text COLLATE "C"', expression), recode)
    WHEN 'padded' THEN roneo.portable_text(format('pg_catalog.textin(pg_catalog.bpcharout(%s)) COLLATE "C"', expression), recode)
    WHEN 'bytes'  THEN format('pg_catalog.encode(%s, ''hex'')', expression)
    WHEN 'bool'   THEN format('(%s)::pg_catalog.int4::pg_catalog.text', expression)
    ELSE format('(%s)::pg_catalog.text COLLATE "C"', expression)
END;
COMMENT ON FUNCTION roneo.text_form(text, text, text) IS 'An expression for what a value looks like as text, under the pinned settings.';

CREATE OR REPLACE FUNCTION roneo.hashable_form(kind text, expression text, recode text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN kind = 'bool' THEN format('(%s)::pg_catalog.int4', expression)
    WHEN kind IN ('text', 'padded', 'bytes', 'ascii') THEN roneo.text_form(kind, expression, recode)
    ELSE expression
END;
COMMENT ON FUNCTION roneo.hashable_form(text, text, text) IS 'An expression for a value as the hash of its kind takes it.';

CREATE OR REPLACE FUNCTION roneo.neutral_value(kind text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN kind IN ('int4', 'int8', 'bool', 'oid', 'numeric', 'scaled') THEN '0'
    WHEN kind = 'uuid' THEN '''00000000-0000-0000-0000-000000000000'''
    WHEN kind IN ('date', 'timestamp', 'timestamptz') THEN '''2000-01-01'''
    WHEN kind = 'time' THEN '''00:00:00'''
    ELSE '''''' END;
COMMENT ON FUNCTION roneo.neutral_value(text) IS
    'What stands for NULL in the hash of a kind; that it is NULL is hashed before.';

-- Zero as a float is hashed as its seed, unchanged, and some hashes of numerics differ in their last
-- bit alone; so an integer is hashed after them. Dates and timestamps become floats by what measures
-- ranges, the cheapest function that takes them. As seconds since a day a float has every microsecond
-- of 142 years; of others a hash is taken that those within the minute are part of.
CREATE OR REPLACE FUNCTION roneo.hash_link(kind text, value text, seed text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format(CASE
    WHEN kind IN ('int4', 'bool') THEN 'pg_catalog.hashint4extended(%1$s, %2$s)'
    -- By itself it would take the halves of a bigint for one.
    WHEN kind = 'int8' THEN 'pg_catalog.hashint8extended(%1$s, pg_catalog.hashint4extended((%1$s >> 32)::pg_catalog.int4, %2$s))'
    WHEN kind = 'oid' THEN 'pg_catalog.hashoidextended(%1$s, %2$s)'
    -- By itself it takes 1.0 and 1.00 for the same, a number and its negative, and all that are none.
    WHEN kind = 'numeric' THEN
        'pg_catalog.hashint4extended(coalesce(pg_catalog.scale(%1$s) * 2 + (%1$s < 0)::pg_catalog.int4, -pg_catalog.length((%1$s)::pg_catalog.text)), '
        'pg_catalog.hash_numeric_extended(%1$s, %2$s))'
    -- All have one scale, and nothing that is no number but NaN, which is not hashed as zero is.
    WHEN kind = 'scaled' THEN 'pg_catalog.hashint4extended((%1$s < 0)::pg_catalog.int4, pg_catalog.hash_numeric_extended(%1$s, %2$s))'
    WHEN kind = 'uuid' THEN 'pg_catalog.uuid_hash_extended(%1$s, %2$s)'
    WHEN kind = 'date' THEN 'pg_catalog.hashint4extended(0, pg_catalog.hashfloat8extended(pg_catalog.daterange_subdiff(%1$s, ''2000-01-01''), %2$s))'
    WHEN kind = 'time' THEN 'pg_catalog.hashint4extended(0, pg_catalog.hashfloat8extended(pg_catalog.date_part(''epoch'', %1$s), %2$s))'
    WHEN kind IN ('timestamp', 'timestamptz') THEN
        'pg_catalog.hashfloat8extended(CASE WHEN %1$s >= ''1960-01-01'' AND %1$s < ''2100-01-01'' THEN pg_catalog.%3$s(%1$s, ''1959-12-31'') '
        'ELSE pg_catalog.hashint4extended(coalesce(pg_catalog.date_part(''microseconds'', %1$s)::pg_catalog.int4, -1), '
        'pg_catalog.hashfloat8extended(pg_catalog.%3$s(%1$s, ''1959-12-31''), 0))::pg_catalog.float8 END, %2$s)'
    WHEN kind = 'md5' THEN '(''x'' || pg_catalog.left(pg_catalog.md5(pg_catalog.concat(%2$s, '':'', %1$s)), 16))::pg_catalog.bit(64)::pg_catalog.int8'
    ELSE 'pg_catalog.hashtextextended(%1$s, %2$s)'
    END, value, seed, CASE kind WHEN 'timestamp' THEN 'tsrange_subdiff' ELSE 'tstzrange_subdiff' END);
COMMENT ON FUNCTION roneo.hash_link(text, text, text) IS
    'An expression for the hash of a value after those of which seed is the hash; NULL for NULL, but by md5.';

-- Most rows have no NULL, and are told so by one call.
CREATE OR REPLACE FUNCTION roneo.null_flags(columns jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE WHEN count(*) > 0 THEN format('(CASE WHEN pg_catalog.num_nulls(%s) = 0 THEN 0 ELSE %s END)',
        string_agg(n.expression, ', ' ORDER BY n.place),
        string_agg(format('CASE WHEN %s IS NULL THEN %s ELSE 0 END', n.expression, 1 << n.place), ' + ' ORDER BY n.place)) END
    FROM (SELECT c.col ->> 'expression' AS expression, (row_number() OVER (ORDER BY c.nr) - 1)::integer AS place
          FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, nr)
          WHERE (c.col ->> 'nullable')::boolean) AS n
);
COMMENT ON FUNCTION roneo.null_flags(jsonb) IS
    'An expression for an integer that says which of up to thirty columns are NULL; NULL where none can be.';

-- One link a column; which columns are NULL is the first link.
CREATE OR REPLACE FUNCTION roneo.hash_chain(columns jsonb, weak text[], recode text)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    col   jsonb;
    kind  text;
    form  text;
    plain boolean := NOT weak && ARRAY['int4', 'text'];
    flags text := roneo.null_flags(columns);
    chain text := '0';
BEGIN
    IF flags IS NOT NULL THEN
        chain := roneo.hash_link(CASE WHEN plain THEN 'int4' ELSE 'md5' END, flags, chain);
    END IF;
    FOR col IN SELECT c FROM jsonb_array_elements(columns) AS c LOOP
        kind := col ->> 'kind';
        form := CASE WHEN (col ->> 'is_jsonb')::boolean THEN roneo.ordered_keys(col ->> 'expression', recode) ELSE col ->> 'expression' END;
        chain := roneo.hash_link(
            CASE WHEN plain AND kind <> ALL (weak) THEN kind ELSE 'md5' END,
            format(CASE WHEN (col ->> 'nullable')::boolean THEN 'coalesce(%s, %s)' ELSE '(%s)' END,
                CASE WHEN plain AND kind <> ALL (weak) THEN roneo.hashable_form(kind, form, recode)
                     ELSE roneo.text_form(kind, form, recode) END,
                CASE WHEN plain AND kind <> ALL (weak) THEN roneo.neutral_value(kind) ELSE '''''' END),
            chain);
    END LOOP;
    RETURN chain;
END;
$$;
COMMENT ON FUNCTION roneo.hash_chain(jsonb, text[], text) IS
    'An expression for the hash of up to thirty columns, in which those that are not nullable had better not be NULL.';

-- To look for NULL costs in every row. A column that seldom is NULL is hashed as if it never were;
-- where it is, there is no hash, and one is made that looks.
CREATE OR REPLACE FUNCTION roneo.chain_hash(columns jsonb, weak text[], recode text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE WHEN weak = '{}' AND bool_or((c.col ->> 'nullable')::boolean AND (c.col ->> 'seldom_null')::boolean)
        THEN format('coalesce(%s, %s)', roneo.hash_chain(jsonb_agg(CASE WHEN (c.col ->> 'seldom_null')::boolean THEN c.col || '{"nullable": false}' ELSE c.col END
                                                                   ORDER BY c.nr), weak, recode),
                    roneo.hash_chain(columns, weak, recode))
        ELSE roneo.hash_chain(columns, weak, recode) END
    FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, nr)
);
COMMENT ON FUNCTION roneo.chain_hash(jsonb, text[], text) IS
    'An expression for the hash of up to thirty columns: part of row_hash. Nested without end one would outgrow the server''s stack.';

CREATE OR REPLACE FUNCTION roneo.row_hash(columns jsonb, weak text[] DEFAULT '{}', recode text DEFAULT NULL)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT CASE count(*)
        WHEN 0 THEN '0::pg_catalog.int8'
        WHEN 1 THEN max(g.hash)
        ELSE roneo.hash_link(CASE WHEN weak && ARRAY['int4', 'text'] THEN 'md5' ELSE 'ascii' END,
                             format('pg_catalog.concat_ws('','', %s)', string_agg(g.hash, ', ' ORDER BY g.nr)), '0') END
    FROM (
        SELECT (c.nr - 1) / 30 AS nr, roneo.chain_hash(jsonb_agg(c.col ORDER BY c.nr), weak, recode) AS hash
        FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (col, nr)
        GROUP BY 1
    ) AS g
);
COMMENT ON FUNCTION roneo.row_hash(jsonb, text[], text) IS
    'An expression of type bigint for the hash of a row. columns: a JSON array of objects with expression, kind (hash_kind, or scaled for numerics of one scale), nullable, seldom_null and is_jsonb, alike on both sides but for the expressions. weak: kinds whose hashes are not the same on both (weak_kinds), which are hashed by md5. recode: see portable_text. To be evaluated under the pinned settings.';

CREATE OR REPLACE FUNCTION roneo.hashed_columns(relation_columns jsonb, names name[])
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'expression', quote_ident(n.name), 'kind', roneo.hash_kind(c.col ->> 'type_base'),
               'nullable', true) ORDER BY n.nr), '[]')
    FROM unnest(names) WITH ORDINALITY AS n (name, nr)
    JOIN jsonb_array_elements(relation_columns) AS c (col) ON c.col ->> 'name' = n.name
);
COMMENT ON FUNCTION roneo.hashed_columns(jsonb, name[]) IS
    'What row_hash takes for columns of one table, as columns_query describes them.';

-- Sums are exact: bigints are added up in 128 bits. A row that is there twice counts twice.
CREATE OR REPLACE FUNCTION roneo.hash_sum(hash text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('pg_catalog.count(*) AS rows, coalesce(pg_catalog.sum(%s), 0)::pg_catalog.text AS sum', hash);
COMMENT ON FUNCTION roneo.hash_sum(text) IS
    'A select list for many rows in two values, in any order: how many, and the sum of their hashes as text.';

-- What a hash makes of constants is asked of both sides before a hash is believed: versions and
-- machines could differ. The constants of a kind are one chain.
CREATE OR REPLACE FUNCTION roneo.handshake_query()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT format('SELECT pg_catalog.jsonb_build_object(%s)', string_agg(format('%L, (%s)::pg_catalog.text', k.kind, k.hash), ', ' ORDER BY k.kind))
    FROM (
        SELECT c.kind, roneo.row_hash(jsonb_agg(jsonb_build_object('expression', c.constant, 'kind', c.kind, 'nullable', c.nr = 1) ORDER BY c.nr)) AS hash
        FROM (VALUES
            ('int4', 1, '(-2147483648)::pg_catalog.int4'), ('int4', 2, '2147483647'), ('int4', 3, '0'), ('int4', 4, '(-1)'),
            ('int8', 1, '(-9223372036854775808)::pg_catalog.int8'), ('int8', 2, '4294967297'), ('int8', 3, '(-1)::pg_catalog.int8'),
            ('bool', 1, 'true'), ('bool', 2, '(-128)::pg_catalog."char"'), ('bool', 3, '''z''::pg_catalog."char"'),
            ('oid', 1, '4294967295::pg_catalog.oid'),
            ('numeric', 1, '1.50'), ('numeric', 2, '''NaN''::pg_catalog.numeric'), ('numeric', 3, '(-123456789012345678901234567890.1234)'), ('numeric', 4, '0.000'),
            ('numeric', 5, '1e100::pg_catalog.numeric'),
            ('scaled', 1, '(-1.50)'), ('scaled', 2, '''NaN''::pg_catalog.numeric'), ('scaled', 3, '10000.00'),
            ('date', 1, '''infinity''::pg_catalog.date'), ('date', 2, '''-infinity''::pg_catalog.date'), ('date', 3, '''4713-01-01 BC''::pg_catalog.date'),
            ('uuid', 1, '''a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11''::pg_catalog.uuid'),
            ('timestamp', 1, '''infinity''::pg_catalog.timestamp'), ('timestamp', 2, '''2024-10-27 01:30:00.123456''::pg_catalog.timestamp'),
            ('timestamp', 3, '''1970-01-01''::pg_catalog.timestamp'), ('timestamp', 4, '''294276-12-31 23:59:59.999999''::pg_catalog.timestamp'),
            ('timestamptz', 1, '''-infinity''::pg_catalog.timestamptz'), ('timestamptz', 2, '''2024-10-27 01:30:00.123456+02''::pg_catalog.timestamptz'),
            ('timestamptz', 3, '''4713-01-01 00:00:00.000001+00 BC''::pg_catalog.timestamptz'),
            ('time', 1, '''24:00''::pg_catalog.time'), ('time', 2, '''12:34:56.789012''::pg_catalog.time'),
            ('bytes', 1, '''\x00ff5c''::pg_catalog.bytea'),
            ('padded', 1, '''ab  ''::pg_catalog.bpchar'),
            ('ascii', 1, '1.50'), ('ascii', 2, '(0.1::pg_catalog.float8 + 0.2::pg_catalog.float8)'), ('ascii', 3, '''-0''::pg_catalog.float4'),
            ('ascii', 4, '''1 mon -1 day 02:03:04.5''::pg_catalog.interval'), ('ascii', 5, '''12.34''::pg_catalog.money'),
            ('text', 1, ''''''), ('text', 2, '''a'''), ('text', 3, '''The quick brown fox jumps over the lazy dog, 13 times.'''),
            ('text', 4, '''{"b": 1.10, "a": null}''::pg_catalog.jsonb'), ('text', 5, '''{a,NULL,"b,c"}''::pg_catalog.text[]')
        ) AS c (kind, nr, constant)
        GROUP BY c.kind
    ) AS k
);
COMMENT ON FUNCTION roneo.handshake_query() IS
    'A query for both sides: what the hash of each kind makes of some constants, as a JSON object.';

CREATE OR REPLACE FUNCTION roneo.weak_kinds(one jsonb, other jsonb)
RETURNS text[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(
    SELECT coalesce(a.key, b.key)
    FROM jsonb_each_text(one) AS a
    FULL JOIN jsonb_each_text(other) AS b ON b.key = a.key
    WHERE a.value IS DISTINCT FROM b.value
    ORDER BY 1);
COMMENT ON FUNCTION roneo.weak_kinds(jsonb, jsonb) IS
    'The kinds whose hashes differ between two answers to handshake_query.';
