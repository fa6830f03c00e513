-- Statements that make, index and reshape the table on the destination.

CREATE OR REPLACE FUNCTION roneo.clause(word text, body text)
RETURNS text LANGUAGE sql IMMUTABLE STRICT
RETURN format('%s %s', word, body);
COMMENT ON FUNCTION roneo.clause(text, text) IS
    'A clause of a statement: a keyword and what follows it; NULL without the latter.';

CREATE OR REPLACE FUNCTION roneo.options_clause(options jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT format('(%s)', string_agg(
        format('%I = %L', split_part(o.option, '=', 1),
               substr(o.option, strpos(o.option, '=') + 1)), ', ' ORDER BY o.position))
    FROM jsonb_array_elements_text(options) WITH ORDINALITY AS o(option, position)
    HAVING count(*) > 0
);
COMMENT ON FUNCTION roneo.options_clause(jsonb) IS
    'Options as the catalogs keep them (name=value), in parentheses; NULL for none.';

-- An extension, and so its operator classes, can be in another schema here.
CREATE OR REPLACE FUNCTION roneo.opclass_clause(method text, key jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat_ws(' ',
        CASE WHEN here.n = 1 AND NOT here.same THEN here.opclass ELSE key ->> 'opclass' END,
        roneo.options_clause(key -> 'opclass_options'))
    FROM (
        SELECT count(*) AS n, max(format('%I.%I', n.nspname, o.opcname)) AS opclass,
               coalesce(bool_or(n.nspname = part.names[1]), false) AS same
        FROM (SELECT parse_ident(key ->> 'opclass')) AS part(names)
        JOIN pg_opclass AS o ON o.opcname = part.names[2]
        JOIN pg_am AS m ON m.oid = o.opcmethod AND m.amname = method
        JOIN pg_namespace AS n ON n.oid = o.opcnamespace
    ) AS here
    WHERE key ->> 'opclass' IS NOT NULL
);
COMMENT ON FUNCTION roneo.opclass_clause(text, jsonb) IS
    'The operator class of a key with its options; NULL for the default one.';

CREATE OR REPLACE FUNCTION roneo.nulls_clause(index jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN (index ->> 'nulls_not_distinct')::boolean
             AND current_setting('server_version_num')::integer >= 150000
            THEN 'NULLS NOT DISTINCT' END;
COMMENT ON FUNCTION roneo.nulls_clause(jsonb) IS
    'NULLS NOT DISTINCT where the source''s index says so and this server knows it.';

CREATE OR REPLACE FUNCTION roneo.index_tail(index jsonb, nulls text DEFAULT NULL)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN nullif(concat_ws(' ',
    (
        SELECT format('INCLUDE (%s)', string_agg(u.name, ', ' ORDER BY u.position))
        FROM jsonb_array_elements_text(index -> 'include') WITH ORDINALITY AS u(name, position)
        HAVING count(*) > 0
    ),
    nulls,
    roneo.clause('WITH', roneo.options_clause(index -> 'with'))
), '');
COMMENT ON FUNCTION roneo.index_tail(jsonb, text) IS
    'What follows the keys of an index: included columns and storage parameters.';

CREATE OR REPLACE FUNCTION roneo.is_plain_key(index jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN (index ->> 'constraint')::boolean AND NOT EXISTS (
    SELECT FROM jsonb_array_elements(index -> 'keys') AS k(key)
    WHERE k.key ->> 'collation' IS NOT NULL OR k.key ->> 'opclass' IS NOT NULL
       OR (k.key ->> 'desc')::boolean OR (k.key ->> 'nulls_first')::boolean
);
COMMENT ON FUNCTION roneo.is_plain_key(jsonb) IS
    'Whether an index can be made as a constraint; very old ones can be of a kind that is no '
    'longer allowed.';

CREATE OR REPLACE FUNCTION roneo.key_statement(table_schema name, table_name name, index jsonb,
                                               own_name text)
RETURNS text LANGUAGE sql STABLE
RETURN concat_ws(' ',
    format('ALTER TABLE %I.%I ADD', table_schema, table_name),
    roneo.clause('CONSTRAINT', own_name),
    CASE WHEN (index ->> 'primary')::boolean THEN 'PRIMARY KEY' ELSE 'UNIQUE' END,
    roneo.nulls_clause(index),
    format('(%s)', (
        SELECT string_agg(k.key ->> 'text', ', ' ORDER BY k.position)
        FROM jsonb_array_elements(index -> 'keys') WITH ORDINALITY AS k(key, position))),
    roneo.index_tail(index),
    CASE WHEN (index ->> 'deferrable')::boolean THEN 'DEFERRABLE' END,
    CASE WHEN (index ->> 'deferred')::boolean THEN 'INITIALLY DEFERRED' END
);
COMMENT ON FUNCTION roneo.key_statement(name, name, jsonb, text) IS
    'ALTER TABLE for a primary key or unique constraint of the source.';

CREATE OR REPLACE FUNCTION roneo.index_statement(table_schema name, table_name name, index jsonb,
                                                 own_name text)
RETURNS text LANGUAGE sql STABLE
RETURN concat_ws(' ',
    'CREATE',
    CASE WHEN (index ->> 'unique')::boolean THEN 'UNIQUE' END,
    'INDEX',
    own_name,
    format('ON %I.%I USING %I', table_schema, table_name, index ->> 'method'),
    format('(%s)', (
        SELECT string_agg(concat_ws(' ',
            k.key ->> 'text',
            roneo.clause('COLLATE', k.key ->> 'collation'),
            roneo.opclass_clause(index ->> 'method', k.key),
            CASE WHEN (k.key ->> 'desc')::boolean THEN 'DESC' END,
            CASE WHEN (k.key ->> 'desc')::boolean AND NOT (k.key ->> 'nulls_first')::boolean
                     THEN 'NULLS LAST'
                 WHEN NOT (k.key ->> 'desc')::boolean AND (k.key ->> 'nulls_first')::boolean
                     THEN 'NULLS FIRST'
            END), ', ' ORDER BY k.position)
        FROM jsonb_array_elements(index -> 'keys') WITH ORDINALITY AS k(key, position))),
    roneo.index_tail(index, roneo.nulls_clause(index)),
    roneo.clause('WHERE', index ->> 'predicate')
);
COMMENT ON FUNCTION roneo.index_statement(name, name, jsonb, text) IS
    'CREATE INDEX for an index of the source.';

-- Those with a name of their own first, lest a name that PostgreSQL chooses is one of theirs.
CREATE OR REPLACE FUNCTION roneo.index_statements(table_schema name, table_name name, indexes jsonb,
                                                  columns name[], keep_names boolean)
RETURNS TABLE ("position" bigint, purpose text, statement text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH wanted AS (
        SELECT e.index, e.nr, CASE WHEN keep_names AND to_regclass(format('%I.%I', table_schema, e.index ->> 'name')) IS NULL
                           THEN quote_ident(e.index ->> 'name') END AS own_name
        FROM jsonb_array_elements(indexes) WITH ORDINALITY AS e(index, nr)
        WHERE NOT EXISTS (
            SELECT FROM jsonb_array_elements_text(e.index -> 'uses') AS u(name)
            WHERE u.name <> ALL (columns))
    )
    SELECT row_number() OVER (ORDER BY w.own_name IS NULL, w.nr),
           format('build index %s', w.index ->> 'name'),
           CASE WHEN roneo.is_plain_key(w.index)
               THEN roneo.key_statement(table_schema, table_name, w.index, w.own_name)
               ELSE roneo.index_statement(table_schema, table_name, w.index, w.own_name)
           END
    FROM wanted AS w
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.index_statements(name, name, jsonb, name[], boolean) IS
    'Statements that build the source''s indexes whose columns are all there, under their own '
    'names where those are free.';

CREATE OR REPLACE FUNCTION roneo.drop_index_statements(relation regclass)
RETURNS TABLE ("position" bigint, purpose text, statement text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT row_number() OVER (ORDER BY k.oid IS NULL, i.relname),
           format('drop index %s', i.relname),
           CASE WHEN k.oid IS NULL THEN format('DROP INDEX %I.%I', n.nspname, i.relname)
                ELSE format('ALTER TABLE %I.%I DROP CONSTRAINT %I',
                            n.nspname, t.relname, k.conname)
           END
    FROM pg_index AS x
    JOIN pg_class AS i ON i.oid = x.indexrelid
    JOIN pg_class AS t ON t.oid = x.indrelid
    JOIN pg_namespace AS n ON n.oid = i.relnamespace
    LEFT JOIN pg_constraint AS k ON k.conindid = i.oid AND k.conrelid = t.oid
        AND k.contype IN ('p', 'u', 'x')
    WHERE x.indrelid = relation
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.drop_index_statements(regclass) IS
    'Statements that drop all indexes of a table, those of constraints first.';

CREATE OR REPLACE FUNCTION roneo.column_definition(col jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN concat_ws(' ',
    quote_ident(col ->> 'name'),
    roneo.local_type(col),
    roneo.clause('COLLATE', col ->> 'collation'),
    CASE WHEN (col ->> 'not_null')::boolean THEN 'NOT NULL' END
);
COMMENT ON FUNCTION roneo.column_definition(jsonb) IS
    'A column of the source as CREATE TABLE and ADD COLUMN take it.';

CREATE OR REPLACE FUNCTION roneo.table_statement(table_schema name, table_name name, columns jsonb)
RETURNS text LANGUAGE sql STABLE
RETURN format('CREATE TABLE %I.%I (%s)', table_schema, table_name, (
    SELECT string_agg(roneo.column_definition(e.col), ', ' ORDER BY e.position)
    FROM jsonb_array_elements(columns) WITH ORDINALITY AS e(col, position)
));
COMMENT ON FUNCTION roneo.table_statement(name, name, jsonb) IS
    'CREATE TABLE for columns of the source; generated and identity columns become ordinary ones.';

CREATE OR REPLACE FUNCTION roneo.same_shape(present jsonb, wanted jsonb)
RETURNS boolean LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH here AS (
        SELECT p.col ->> 'name' AS name, p.col ->> 'type' AS type,
               p.col ->> 'collation' AS collation, p.col ->> 'not_null' AS not_null
        FROM jsonb_array_elements(present) AS p(col)
    ), there AS (
        SELECT w.col ->> 'name' AS name, roneo.local_type(w.col) AS type,
               w.col ->> 'collation' AS collation, w.col ->> 'not_null' AS not_null
        FROM jsonb_array_elements(wanted) AS w(col)
    )
    SELECT NOT EXISTS (
        (TABLE here EXCEPT TABLE there) UNION ALL (TABLE there EXCEPT TABLE here)
    );
END;
COMMENT ON FUNCTION roneo.same_shape(jsonb, jsonb) IS
    'Whether columns of this database are as the source''s columns would be made, in any order.';

-- A source column is the same one while its number is; in another table only its name tells.
CREATE OR REPLACE FUNCTION roneo.column_fates(present jsonb, known jsonb, wanted jsonb,
                                              same_table boolean)
RETURNS TABLE (nr bigint, old_name name, new_name name, passing_name name, present jsonb, col jsonb)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    WITH here AS (
        SELECT p.col, p.nr, p.col ->> 'name' AS name, k.col ->> 'number' AS number
        FROM jsonb_array_elements(column_fates.present) WITH ORDINALITY AS p(col, nr)
        LEFT JOIN jsonb_array_elements(known) AS k(col)
            ON same_table AND k.col ->> 'name' = p.col ->> 'name'
    ), there AS (
        SELECT w.col, w.nr, w.col ->> 'name' AS name, w.col ->> 'number' AS number
        FROM jsonb_array_elements(wanted) WITH ORDINALITY AS w(col, nr)
    ), by_number AS (
        SELECT h.name AS old_name, t.name AS new_name
        FROM here AS h JOIN there AS t ON t.number = h.number
    ), matched AS (
        SELECT b.old_name, b.new_name FROM by_number AS b
        UNION ALL
        SELECT h.name, h.name FROM here AS h JOIN there AS t ON t.name = h.name
        WHERE h.name NOT IN (SELECT b.old_name FROM by_number AS b)
          AND h.name NOT IN (SELECT b.new_name FROM by_number AS b)
    ), fate AS (
        SELECT coalesce(t.nr, h.nr) AS nr, h.name AS old_name, t.name AS new_name,
               h.col AS present, t.col,
               -- Another column still has the new name, and gives it up.
               t.name IN (SELECT r.old_name FROM matched AS r
                          WHERE r.old_name <> r.new_name) AND t.name <> h.name AS in_passing
        FROM here AS h
        LEFT JOIN matched AS m ON m.old_name = h.name
        FULL JOIN there AS t ON t.name = m.new_name
    )
    SELECT f.nr, f.old_name::name, f.new_name::name,
           CASE WHEN f.in_passing THEN roneo.fit_name(md5(f.old_name), '_passing') END,
           f.present, f.col
    FROM fate AS f;
END;
COMMENT ON FUNCTION roneo.column_fates(jsonb, jsonb, jsonb, boolean) IS
    'What becomes of each column of a copy: the name it gets (NULL: it goes), and what it passes '
    'through where another still has that name.';

CREATE OR REPLACE FUNCTION roneo.reshape_statements(table_schema name, table_name name,
    present jsonb, known jsonb, wanted jsonb, same_table boolean)
RETURNS TABLE ("position" bigint, purpose text, statement text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH fate AS (
        SELECT f.* FROM roneo.column_fates(present, known, wanted, same_table) AS f
    ), change AS (
        SELECT 1 AS phase, f.nr, format('drop column %s', f.old_name) AS purpose,
               format('DROP COLUMN %I', f.old_name) AS action
        FROM fate AS f WHERE f.new_name IS NULL
        UNION ALL
        SELECT 2, f.nr, format('rename column %s out of the way', f.old_name),
               format('RENAME COLUMN %I TO %I', f.old_name, f.passing_name)
        FROM fate AS f WHERE f.passing_name IS NOT NULL
        UNION ALL
        SELECT CASE WHEN f.passing_name IS NULL THEN 3 ELSE 4 END, f.nr,
               format('rename column %s to %s', f.old_name, f.new_name),
               format('RENAME COLUMN %I TO %I', coalesce(f.passing_name, f.old_name), f.new_name)
        FROM fate AS f WHERE f.old_name <> f.new_name
        UNION ALL
        SELECT 5, f.nr, format('add column %s', f.new_name),
               format('ADD COLUMN %s', roneo.column_definition(f.col))
        FROM fate AS f WHERE f.old_name IS NULL
        UNION ALL
        SELECT 6, f.nr, format('change type of column %s', f.new_name),
               concat_ws(' ', format('ALTER COLUMN %I TYPE', f.new_name), roneo.local_type(f.col),
                         roneo.clause('COLLATE', f.col ->> 'collation'), 'USING NULL')
        FROM fate AS f
        WHERE f.old_name IS NOT NULL AND f.new_name IS NOT NULL
          AND (roneo.local_type(f.col) <> f.present ->> 'type'
               OR f.col ->> 'collation' IS DISTINCT FROM f.present ->> 'collation')
        UNION ALL
        SELECT 7, f.nr, format('change NOT NULL of column %s', f.new_name),
               format('ALTER COLUMN %I %s NOT NULL', f.new_name,
                      CASE WHEN (f.col ->> 'not_null')::boolean THEN 'SET' ELSE 'DROP' END)
        FROM fate AS f
        WHERE f.old_name IS NOT NULL AND f.new_name IS NOT NULL
          AND f.col ->> 'not_null' <> f.present ->> 'not_null'
    )
    SELECT row_number() OVER (ORDER BY c.phase, c.nr), c.purpose,
           format('ALTER TABLE %I.%I %s', table_schema, table_name, c.action)
    FROM change AS c
    ORDER BY 1;
END;
COMMENT ON FUNCTION roneo.reshape_statements(name, name, jsonb, jsonb, jsonb, boolean) IS
    'ALTER TABLE statements that turn an empty copy of what the source''s columns were into one '
    'of what they are.';
