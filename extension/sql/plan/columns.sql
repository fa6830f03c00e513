-- Columns of the source, matched with what this database has, and lists of names.

CREATE OR REPLACE FUNCTION roneo.local_type(col jsonb)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_type text;
    extension  text := col ->> 'type_extension';
BEGIN
    IF to_regtype(col ->> 'type') IS NOT NULL THEN
        RETURN col ->> 'type';
    END IF;
    -- The same extension can be in another schema here.
    SELECT format('%I.%I%s%s', n.nspname, t.typname, col ->> 'type_modifier',
                  CASE WHEN (col ->> 'type_array')::boolean THEN '[]' END)
    INTO found_type
    FROM pg_extension AS x
    JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid
        AND d.classid = 'pg_type'::regclass AND d.deptype = 'e'
    JOIN pg_type AS t ON t.oid = d.objid
    JOIN pg_namespace AS n ON n.oid = t.typnamespace
    WHERE x.extname = extension AND t.typname = col ->> 'type_name';
    IF to_regtype(found_type) IS NOT NULL THEN
        RETURN found_type;
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'RO015',
        MESSAGE = format('type %s of column "%s" does not exist here',
            coalesce(format('%I.%I', col ->> 'type_schema', col ->> 'type_name'), col ->> 'type'),
            col ->> 'name'),
        HINT = coalesce(
            col ->> 'type_ddl',
            format(CASE WHEN extension IS NOT NULL THEN 'CREATE EXTENSION %I;' END, extension),
            'Create the type here, or leave the column out with the argument columns.');
END;
$$;
COMMENT ON FUNCTION roneo.local_type(jsonb) IS
    'The type that a column of the source gets in this database.';

-- A value is cast to a built-in type without its length: an explicit cast to varchar(10) cuts,
-- where the destination's own column says that the value is too long.
CREATE OR REPLACE FUNCTION roneo.pair_columns(source_columns jsonb, dest_columns jsonb)
RETURNS TABLE ("position" integer, name name, source_type text, cast_type text, dest_type text,
               is_binary boolean, fetch_type text)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    WITH pair AS (
        SELECT s.nr, s.col ->> 'name' AS name, s.col AS sent, d.col AS kept,
               coalesce(d.col ->> 'type_bare', d.col ->> 'type') AS kept_type,
               d.col ->> 'type_schema' = 'pg_catalog' AND d.col ->> 'type_extension' IS NULL
                   AS built_in
        FROM jsonb_array_elements(source_columns) WITH ORDINALITY AS s(col, nr)
        JOIN jsonb_array_elements(dest_columns) AS d(col) ON d.col ->> 'name' = s.col ->> 'name'
        WHERE coalesce(d.col ->> 'generated', '') = ''
    )
    SELECT row_number() OVER (ORDER BY p.nr)::integer,
           p.name::name,
           p.sent ->> 'type',
           CASE WHEN p.built_in THEN p.kept_type ELSE p.sent ->> 'type' END,
           p.kept ->> 'type',
           coalesce((p.kept ->> 'binary')::boolean AND (p.built_in OR (
               (p.sent ->> 'binary')::boolean AND p.sent ->> 'type' = p.kept ->> 'type'
               AND p.sent ->> 'type_base' IS NOT DISTINCT FROM p.kept ->> 'type_base')), false),
           CASE WHEN p.built_in THEN p.kept_type ELSE p.kept ->> 'type' END
    FROM pair AS p
    ORDER BY p.nr;
END;
COMMENT ON FUNCTION roneo.pair_columns(jsonb, jsonb) IS
    'The columns that rows are copied between, in the source''s order: what each is cast to on '
    'the source, and whether its values can travel in binary form.';

CREATE OR REPLACE FUNCTION roneo.column_list(names name[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(string_agg(quote_ident(u.name), ', ' ORDER BY u.position), '')
    FROM unnest(names) WITH ORDINALITY AS u(name, position)
);
COMMENT ON FUNCTION roneo.column_list(name[]) IS 'Names, quoted, with commas between them.';

CREATE OR REPLACE FUNCTION roneo.missing_columns(wanted text[], present text[])
RETURNS SETOF text LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT unnest(wanted) EXCEPT SELECT unnest(present);
END;
COMMENT ON FUNCTION roneo.missing_columns(text[], text[]) IS
    'The names that are wanted and not present.';

CREATE OR REPLACE FUNCTION roneo.fit_name(base text, suffix text)
RETURNS name LANGUAGE sql STABLE
RETURN (
    SELECT concat(left(base, n), suffix)::name
    FROM generate_series(0, least(char_length(base), 63)) AS n
    WHERE octet_length(left(base, n)) + octet_length(suffix)
        <= current_setting('max_identifier_length')::integer
    ORDER BY n DESC
    LIMIT 1
);
COMMENT ON FUNCTION roneo.fit_name(text, text) IS
    'A name with a suffix, the name shortened by whole characters until both fit the bytes of an '
    'identifier.';

CREATE OR REPLACE FUNCTION roneo.parse_name(input text, default_schema name,
                                            OUT schema name, OUT name name)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts text[];
    most  integer := current_setting('max_identifier_length')::integer;
BEGIN
    BEGIN
        parts := parse_ident(input);
    EXCEPTION WHEN invalid_parameter_value THEN
        -- Reported below, with the code and the hint of all bad names.
        parts := NULL;
    END;
    IF parts IS NULL OR cardinality(parts) > 2 THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO006',
            MESSAGE = format('"%s" is not the name of a table', input),
            HINT = 'Write schema.table, as in SQL. Names with capitals, dots or spaces need double '
                'quotes: ''"Odd Name"."T.x"''.';
    END IF;
    IF EXISTS (SELECT FROM unnest(parts) AS part WHERE octet_length(part) > most) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO006',
            MESSAGE = format('name %s is too long', input),
            HINT = format('A name has at most %s bytes; letters outside ASCII take two or more.',
                          most);
    END IF;
    name := parts[cardinality(parts)]::name;
    schema := CASE cardinality(parts) WHEN 2 THEN parts[1]::name ELSE default_schema END;
END;
$$;
COMMENT ON FUNCTION roneo.parse_name(text, name) IS
    'The schema and name that a text names as SQL would, without cutting either.';
