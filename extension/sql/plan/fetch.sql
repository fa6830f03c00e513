-- The statement that reads the rows on the source, and the COPY around it.

-- The filter ends with a newline, so that a comment at its end does not swallow the parenthesis.
CREATE OR REPLACE FUNCTION roneo.source_select(source_schema name, source_table name,
    source_columns jsonb, dest_columns jsonb, filter text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws(' ',
    'SELECT',
    (
        SELECT string_agg(format('%I::%s', p.name, p.cast_type), ', ' ORDER BY p.position)
        FROM roneo.pair_columns(source_columns, dest_columns) AS p
    ),
    format('FROM %I.%I', source_schema, source_table),
    CASE WHEN btrim(filter, E' \t\r\n') <> '' THEN format(E'WHERE (%s\n)', filter) END
);
COMMENT ON FUNCTION roneo.source_select(name, name, jsonb, jsonb, text) IS
    'The SELECT for the source, each column cast to the type that the destination takes.';

CREATE OR REPLACE FUNCTION roneo.transfer_step(purpose text, source_schema name, source_table name,
    source_columns jsonb, dest_columns jsonb, filter text, into_schema name, into_name name,
    freeze boolean, source_encoding text)
RETURNS roneo.step LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT 2::smallint,
           'transfer',
           purpose,
           roneo.source_select(source_schema, source_table, source_columns, dest_columns, filter),
           format('%I.%I', into_schema, into_name),
           coalesce(string_agg(quote_ident(p.name), ', ' ORDER BY p.position), ''),
           coalesce(string_agg(format('%I %s', p.name, p.fetch_type), ', ' ORDER BY p.position),
                    'nothing boolean'),
           CASE WHEN source_encoding IS NULL AND coalesce(bool_and(p.is_binary), true)
               THEN 'binary' ELSE 'text' END,
           "freeze",
           'inserted',
           false
    FROM roneo.pair_columns(source_columns, dest_columns) AS p;
END;
COMMENT ON FUNCTION roneo.transfer_step(text, name, name, jsonb, jsonb, text, name, name,
    boolean, text) IS
    'The step that brings rows of the source into a table of this database.';

-- A SQL_ASCII source would refuse bytes that are no characters of client_encoding; with the encoding
-- that they really have they go out as they are, and are converted here.
CREATE OR REPLACE FUNCTION roneo.encoding_option(s roneo.step, source_encoding text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN s.copy_format = 'text' AND source_encoding IS NOT NULL
            THEN format('ENCODING %L', source_encoding) END;
COMMENT ON FUNCTION roneo.encoding_option(roneo.step, text) IS
    'The option of COPY that says in which encoding the rows travel; NULL for client_encoding.';

CREATE OR REPLACE FUNCTION roneo.copy_out(s roneo.step, source_encoding text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('COPY (%s) TO STDOUT (%s)', s.statement,
    concat_ws(', ', format('FORMAT %s', s.copy_format), roneo.encoding_option(s, source_encoding)));
COMMENT ON FUNCTION roneo.copy_out(roneo.step, text) IS
    'The COPY that reads a transfer''s rows on the source.';

CREATE OR REPLACE FUNCTION roneo.copy_in(s roneo.step, source_encoding text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('COPY %s FROM STDIN (%s)',
    concat_ws(' ', s.into_table, format(CASE WHEN s.into_list <> '' THEN '(%s)' END, s.into_list)),
    concat_ws(', ',
        format('FORMAT %s', s.copy_format),
        CASE WHEN s.copy_freeze THEN 'FREEZE true' END,
        roneo.encoding_option(s, source_encoding))
);
COMMENT ON FUNCTION roneo.copy_in(roneo.step, text) IS
    'The COPY that writes a transfer''s rows here.';
