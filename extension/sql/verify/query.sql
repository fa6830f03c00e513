-- What each side is asked. subject: verify_subject; side: there (the source) or here.

CREATE OR REPLACE FUNCTION roneo.side_columns(subject jsonb, side text, names jsonb DEFAULT NULL)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object('expression', c.col ->> side, 'kind', c.col ->> 'kind', 'nullable', c.col -> 'nullable', 'seldom_null', c.col -> 'seldom_null', 'is_jsonb', c.col -> 'is_jsonb') ORDER BY c.nr), '[]')
    FROM jsonb_array_elements(subject -> 'columns') WITH ORDINALITY AS c (col, nr)
    WHERE names IS NULL OR names ? (c.col ->> 'name')
);
COMMENT ON FUNCTION roneo.side_columns(jsonb, text, jsonb) IS 'What row_hash takes for the columns on one side, all or those named.';

CREATE OR REPLACE FUNCTION roneo.side_hash(subject jsonb, side text, weak text[], names jsonb DEFAULT NULL)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN roneo.row_hash(roneo.side_columns(subject, side, names), weak, subject ->> concat('recode_', side));
COMMENT ON FUNCTION roneo.side_hash(jsonb, text, text[], jsonb) IS 'The hash of a row, or of some of its columns, on one side.';

CREATE OR REPLACE FUNCTION roneo.has_key(subject jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN subject -> 'key' <> 'null'::jsonb;
COMMENT ON FUNCTION roneo.has_key(jsonb) IS 'Whether rows are compared by key; else each row is one of those that look like it.';

-- The filter ends with a newline, so that a comment at its end does not swallow the parenthesis.
CREATE OR REPLACE FUNCTION roneo.side_rows(subject jsonb, side text, only_ready boolean, condition text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat_ws(' WHERE ', subject ->> CASE side WHEN 'there' THEN 'from' ELSE 'target' END, nullif(concat_ws(' AND ',
    CASE side WHEN 'there' THEN format(CASE WHEN btrim(subject ->> 'filter', E' \t\r\n') <> '' THEN E'(%s\n)' END, subject ->> 'filter')
              ELSE subject ->> 'live' END,
    CASE WHEN only_ready THEN nullif(concat_ws(' AND ', CASE side WHEN 'there' THEN subject ->> 'ready' END, subject ->> side), '') END,
    condition), ''));
COMMENT ON FUNCTION roneo.side_rows(jsonb, text, boolean, text) IS
    'What follows FROM on one side. only_ready: rows that are to be here, of the range; else with those that are not.';

CREATE OR REPLACE FUNCTION roneo.total_query(subject jsonb, side text, weak text[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('SELECT pg_catalog.to_jsonb(t) FROM (SELECT %s FROM %s) AS t',
              roneo.hash_sum(roneo.side_hash(subject, side, weak)), roneo.side_rows(subject, side, true, NULL));
COMMENT ON FUNCTION roneo.total_query(jsonb, text, text[]) IS 'A query that answers with one JSON document: how many rows there are, and the sum of their hashes.';

-- The sum of the rows' hashes for each of 4096 buckets of the key's hash. Without a key a bucket is
-- one of the whole row's hash, which is computed once.
CREATE OR REPLACE FUNCTION roneo.sums_query(subject jsonb, side text, weak text[])
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format($query$SELECT pg_catalog.jsonb_build_object('rows', coalesce(pg_catalog.sum(g.n), 0),
    'buckets', coalesce(pg_catalog.jsonb_object_agg(g.bucket, pg_catalog.jsonb_build_array(g.n, g.sum)), '{}'))
FROM (SELECT h.bucket, pg_catalog.count(*) AS n, pg_catalog.sum(h.hash)::pg_catalog.text AS sum
      FROM (%s) AS h (bucket, hash) GROUP BY h.bucket) AS g$query$,
    CASE WHEN roneo.has_key(subject)
        THEN format('SELECT (%s & 4095)::pg_catalog.int4, %s FROM %s', roneo.side_hash(subject, side, weak, subject -> 'key'),
                    roneo.side_hash(subject, side, weak), roneo.side_rows(subject, side, true, NULL))
        ELSE format('SELECT (w.hash & 4095)::pg_catalog.int4, w.hash FROM (SELECT %s FROM %s OFFSET 0) AS w (hash)',
                    roneo.side_hash(subject, side, weak), roneo.side_rows(subject, side, true, NULL)) END);
COMMENT ON FUNCTION roneo.sums_query(jsonb, text, text[]) IS
    'A query that answers with one JSON document: how many rows there are, and in each of 4096 buckets their number and the sum of their hashes.';

CREATE OR REPLACE FUNCTION roneo.differing_buckets(there jsonb, here jsonb)
RETURNS integer[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(
    SELECT coalesce(a.key, b.key)::integer
    FROM jsonb_each(there -> 'buckets') AS a
    FULL JOIN jsonb_each(here -> 'buckets') AS b ON b.key = a.key
    WHERE a.value IS DISTINCT FROM b.value
    ORDER BY 1);
COMMENT ON FUNCTION roneo.differing_buckets(jsonb, jsonb) IS 'The buckets whose sums differ between two answers to sums_query.';

-- A bit for each bucket: a list would be searched for each row before PostgreSQL 14.
CREATE OR REPLACE FUNCTION roneo.bucket_bits(buckets integer[])
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bits   bytea := decode(repeat('00', 512), 'hex');
    bucket integer;
BEGIN
    FOREACH bucket IN ARRAY buckets LOOP
        bits := set_bit(bits, bucket, 1);
    END LOOP;
    RETURN encode(bits, 'hex');
END;
$$;
COMMENT ON FUNCTION roneo.bucket_bits(integer[]) IS 'Buckets as a string of 4096 bits, in hexadecimal digits.';

CREATE OR REPLACE FUNCTION roneo.in_buckets(hash text, bits text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('pg_catalog.get_bit(pg_catalog.decode(%L, ''hex''), (%s & 4095)::pg_catalog.int4) = 1', bits, hash);
COMMENT ON FUNCTION roneo.in_buckets(text, text) IS 'True for a hash in one of the buckets.';

CREATE OR REPLACE FUNCTION roneo.truth(condition text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN condition IS NULL THEN 'true' ELSE format('((%s) IS TRUE)', condition) END;
COMMENT ON FUNCTION roneo.truth(text) IS 'A condition as a value that is never NULL; true for none.';

CREATE OR REPLACE FUNCTION roneo.key_names(subject jsonb)
RETURNS name[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT k.name::name FROM jsonb_array_elements_text(nullif(subject -> 'key', 'null')) WITH ORDINALITY AS k (name, nr) ORDER BY k.nr);
COMMENT ON FUNCTION roneo.key_names(jsonb) IS 'The key''s columns.';

-- Rows that are not ready come too: a row that was here and moved out of reach is not gone.
CREATE OR REPLACE FUNCTION roneo.hashes_there(subject jsonb, weak text[], bits text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN roneo.has_key(subject)
    THEN format('(SELECT %s, %s AS roneo_hash, %s AS roneo_ready, %s AS roneo_inside FROM %s)', roneo.column_list(roneo.key_names(subject)),
                roneo.side_hash(subject, 'there', weak), roneo.truth(subject ->> 'ready'), roneo.truth(subject ->> 'there'),
                roneo.side_rows(subject, 'there', false, roneo.in_buckets(roneo.side_hash(subject, 'there', weak, subject -> 'key'), bits)))
    ELSE format('(SELECT w.roneo_hash, pg_catalog.count(*) AS roneo_count FROM (SELECT %s AS roneo_hash FROM %s OFFSET 0) AS w WHERE %s GROUP BY w.roneo_hash)',
                roneo.side_hash(subject, 'there', weak), roneo.side_rows(subject, 'there', true, NULL), roneo.in_buckets('w.roneo_hash', bits)) END;
COMMENT ON FUNCTION roneo.hashes_there(jsonb, text[], text) IS
    'The keys and hashes of the source''s rows in some buckets, for a FROM clause; without a key how many rows have each hash.';

CREATE OR REPLACE FUNCTION roneo.hashes_here(subject jsonb, weak text[], bits text)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN roneo.has_key(subject)
    THEN format('SELECT %s, %s AS roneo_hash, %s AS roneo_inside FROM %s', roneo.bare_columns((subject ->> 'target')::regclass, roneo.key_names(subject), ''),
                roneo.side_hash(subject, 'here', weak), roneo.truth(subject ->> 'here'),
                roneo.side_rows(subject, 'here', false, roneo.in_buckets(roneo.side_hash(subject, 'here', weak, subject -> 'key'), bits)))
    ELSE format('SELECT w.roneo_hash, pg_catalog.count(*) AS roneo_count FROM (SELECT %s AS roneo_hash FROM %s OFFSET 0) AS w WHERE %s GROUP BY w.roneo_hash',
                roneo.side_hash(subject, 'here', weak), roneo.side_rows(subject, 'here', true, NULL), roneo.in_buckets('w.roneo_hash', bits)) END;
COMMENT ON FUNCTION roneo.hashes_here(jsonb, text[], text) IS 'The same of the rows here.';

CREATE OR REPLACE FUNCTION roneo.verify_table(r roneo.replica, what text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('roneo_%s_%s', what, r.replica_id);
COMMENT ON FUNCTION roneo.verify_table(roneo.replica, text) IS 'A temporary table of a verification: there, differing or shown.';

CREATE OR REPLACE FUNCTION roneo.verify_table_statement(r roneo.replica, subject jsonb, what text, extra text)
RETURNS text LANGUAGE sql STABLE
RETURN format('DROP TABLE IF EXISTS pg_temp.%1$I; CREATE TEMPORARY TABLE %1$I ON COMMIT DROP AS SELECT %2$s FROM %3$s WITH NO DATA',
    roneo.verify_table(r, what),
    concat_ws(', ', roneo.bare_columns((subject ->> 'target')::regclass, roneo.key_names(subject), ''), extra), subject ->> 'target');
COMMENT ON FUNCTION roneo.verify_table_statement(roneo.replica, jsonb, text, text) IS 'A statement that makes an empty temporary table with the key''s columns and more.';

-- A row that the source has, but that is not to be here yet, is no difference whatever is here.
CREATE OR REPLACE FUNCTION roneo.differing_statement(r roneo.replica, subject jsonb, weak text[], bits text)
RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN roneo.has_key(subject) THEN format($statement$DROP TABLE IF EXISTS pg_temp.%1$I; CREATE TEMPORARY TABLE %1$I ON COMMIT DROP AS
WITH here AS MATERIALIZED (%2$s)
SELECT %3$s, CASE WHEN here.roneo_hash IS NULL THEN 'missing' WHEN there.roneo_hash IS NULL THEN 'extra' ELSE 'changed' END AS roneo_kind
FROM pg_temp.%4$I AS there FULL JOIN here USING (%3$s)
WHERE CASE WHEN here.roneo_hash IS NULL THEN there.roneo_ready AND there.roneo_inside
           WHEN there.roneo_hash IS NULL THEN here.roneo_inside
           ELSE there.roneo_ready AND (there.roneo_inside OR here.roneo_inside) AND there.roneo_hash <> here.roneo_hash END$statement$,
    roneo.verify_table(r, 'differing'), roneo.hashes_here(subject, weak, bits), roneo.column_list(roneo.key_names(subject)), roneo.verify_table(r, 'there'))
ELSE format($statement$DROP TABLE IF EXISTS pg_temp.%1$I; CREATE TEMPORARY TABLE %1$I ON COMMIT DROP AS
SELECT coalesce(there.roneo_hash, here.roneo_hash) AS roneo_hash, coalesce(there.roneo_count, 0) - coalesce(here.roneo_count, 0) AS roneo_lacks,
       CASE WHEN coalesce(there.roneo_count, 0) > coalesce(here.roneo_count, 0) THEN 'missing' ELSE 'extra' END AS roneo_kind
FROM pg_temp.%3$I AS there FULL JOIN (%2$s) AS here ON here.roneo_hash = there.roneo_hash
WHERE there.roneo_count IS DISTINCT FROM here.roneo_count$statement$,
    roneo.verify_table(r, 'differing'), roneo.hashes_here(subject, weak, bits), roneo.verify_table(r, 'there')) END;
COMMENT ON FUNCTION roneo.differing_statement(roneo.replica, jsonb, text[], text) IS
    'A statement that finds, from what has arrived and what is here, the keys that differ and how; without a key the hashes, and how many rows are lacking (or, below zero, too many).';

CREATE OR REPLACE FUNCTION roneo.key_object(subject jsonb, alias text)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (SELECT format('pg_catalog.jsonb_build_object(%s)', string_agg(format('%L, %s.%I::pg_catalog.text', k.name, alias, k.name), ', ' ORDER BY k.nr))
        FROM unnest(roneo.key_names(subject)) WITH ORDINALITY AS k (name, nr));
COMMENT ON FUNCTION roneo.key_object(jsonb, text) IS 'SQL for a key as a JSON object of texts.';

-- What is asked of the source again is its keys, in arrays of up to five thousand.
CREATE OR REPLACE FUNCTION roneo.found_query(r roneo.replica, subject jsonb, shown integer)
RETURNS text LANGUAGE sql STABLE
RETURN format($query$SELECT pg_catalog.jsonb_build_object('missing', %2$s, 'extra', %3$s, 'changed', pg_catalog.count(*) FILTER (WHERE d.roneo_kind = 'changed'),
    'shown', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('kind', s.roneo_kind, %4$s))
              FROM (SELECT * FROM pg_temp.%1$I ORDER BY %5$s LIMIT %6$s) AS s))
FROM pg_temp.%1$I AS d$query$, roneo.verify_table(r, 'differing'),
    CASE WHEN roneo.has_key(subject) THEN 'pg_catalog.count(*) FILTER (WHERE d.roneo_kind = ''missing'')' ELSE 'coalesce(pg_catalog.sum(d.roneo_lacks) FILTER (WHERE d.roneo_lacks > 0), 0)' END,
    CASE WHEN roneo.has_key(subject) THEN 'pg_catalog.count(*) FILTER (WHERE d.roneo_kind = ''extra'')' ELSE '- coalesce(pg_catalog.sum(d.roneo_lacks) FILTER (WHERE d.roneo_lacks < 0), 0)' END,
    CASE WHEN roneo.has_key(subject) THEN format('''key'', %s', roneo.key_object(subject, 's')) ELSE '''rows'', pg_catalog.abs(s.roneo_lacks)' END,
    CASE WHEN roneo.has_key(subject) THEN roneo.column_list(roneo.key_names(subject)) ELSE 'roneo_hash' END, shown);
COMMENT ON FUNCTION roneo.found_query(roneo.replica, jsonb, integer) IS 'A query that counts the differences by kind, and names some.';

CREATE OR REPLACE FUNCTION roneo.chunks_query(r roneo.replica, columns name[], condition text, most integer)
RETURNS text LANGUAGE sql STABLE
RETURN format($query$SELECT coalesce(pg_catalog.jsonb_agg(c.arrays ORDER BY c.roneo_chunk), '[]') FROM (
    SELECT d.roneo_chunk, pg_catalog.jsonb_build_array(%1$s) AS arrays
    FROM (SELECT f.*, (pg_catalog.row_number() OVER (ORDER BY %2$s) - 1) / 5000 AS roneo_chunk FROM pg_temp.%3$I AS f WHERE %4$s ORDER BY %2$s LIMIT %5$s) AS d
    GROUP BY d.roneo_chunk) AS c$query$,
    (SELECT string_agg(format('pg_catalog.array_agg(d.%I::pg_catalog.text ORDER BY %s)::pg_catalog.text', k.name, roneo.column_list(columns)), ', ' ORDER BY k.nr)
     FROM unnest(columns) WITH ORDINALITY AS k (name, nr)),
    roneo.column_list(columns), roneo.verify_table(r, 'differing'), condition, most);
COMMENT ON FUNCTION roneo.chunks_query(roneo.replica, name[], text, integer) IS
    'A query for what was found, as a JSON array of chunks of up to five thousand, each an array of each column.';

CREATE OR REPLACE FUNCTION roneo.chunk_condition_there(subject jsonb, chunk jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(%s) IN (SELECT * FROM ROWS FROM (%s) AS w)', roneo.column_list(roneo.key_names(subject)), (
    SELECT string_agg(format('pg_catalog.unnest(%L::%s[])', chunk ->> (k.nr::integer - 1), c.col ->> 'source_type'), ', ' ORDER BY k.nr)
    FROM unnest(roneo.key_names(subject)) WITH ORDINALITY AS k (name, nr)
    JOIN jsonb_array_elements(subject -> 'columns') AS c (col) ON c.col ->> 'name' = k.name));
COMMENT ON FUNCTION roneo.chunk_condition_there(jsonb, jsonb) IS 'True for the rows of the source with the keys of a chunk.';

-- A text of each column is compared, or, where none is to be shown, its hash.
CREATE OR REPLACE FUNCTION roneo.column_images(subject jsonb, side text, weak text[], shows boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN (
    SELECT format('ARRAY[%s]', string_agg(CASE WHEN shows THEN concat('(', roneo.text_form(c.col ->> 'kind', c.col ->> side, NULL), ')::pg_catalog.text')
                    ELSE concat('(', roneo.row_hash(jsonb_build_array(jsonb_build_object('expression', c.col ->> side, 'kind', c.col ->> 'kind', 'nullable', true, 'is_jsonb', c.col -> 'is_jsonb')),
                                        weak, subject ->> concat('recode_', side)), ')::pg_catalog.text') END, ', ' ORDER BY c.nr))
    FROM jsonb_array_elements(subject -> 'columns') WITH ORDINALITY AS c (col, nr)
);
COMMENT ON FUNCTION roneo.column_images(jsonb, text, text[], boolean) IS 'SQL for an array with a text or a hash of each column.';

CREATE OR REPLACE FUNCTION roneo.images_there(subject jsonb, weak text[], chunk jsonb, shows boolean)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('(SELECT %s, %s AS roneo_images FROM %s)', roneo.column_list(roneo.key_names(subject)), roneo.column_images(subject, 'there', weak, shows),
              roneo.side_rows(subject, 'there', false, roneo.chunk_condition_there(subject, chunk)));
COMMENT ON FUNCTION roneo.images_there(jsonb, text[], jsonb, boolean) IS 'The columns of the source''s rows with some keys, for a FROM clause.';

CREATE OR REPLACE FUNCTION roneo.changed_columns_query(r roneo.replica, subject jsonb, weak text[], shows boolean)
RETURNS text LANGUAGE sql STABLE
RETURN format($query$SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('key', %1$s, 'columns', x.columns%2$s)), '[]')
FROM pg_temp.%3$I AS there
JOIN (SELECT %4$s, %5$s AS roneo_images FROM %6$s) AS here USING (%7$s)
CROSS JOIN LATERAL (
    SELECT pg_catalog.jsonb_agg(n.name ORDER BY n.nr) AS columns, pg_catalog.jsonb_object_agg(n.name, pg_catalog.jsonb_build_array(n.one, n.other)) AS differing
    FROM ROWS FROM (pg_catalog.unnest(there.roneo_images), pg_catalog.unnest(here.roneo_images), pg_catalog.unnest(%8$L::pg_catalog.text[])) WITH ORDINALITY AS n (one, other, name, nr)
    WHERE n.one IS DISTINCT FROM n.other) AS x
WHERE x.columns IS NOT NULL$query$,
    roneo.key_object(subject, 'there'), CASE WHEN shows THEN ', ''values'', x.differing' END, roneo.verify_table(r, 'shown'),
    roneo.bare_columns((subject ->> 'target')::regclass, roneo.key_names(subject), ''), roneo.column_images(subject, 'here', weak, shows),
    roneo.side_rows(subject, 'here', false, NULL), roneo.column_list(roneo.key_names(subject)),
    ARRAY(SELECT c.col ->> 'name' FROM jsonb_array_elements(subject -> 'columns') WITH ORDINALITY AS c (col, nr) ORDER BY c.nr));
COMMENT ON FUNCTION roneo.changed_columns_query(roneo.replica, jsonb, text[], boolean) IS
    'A query for the columns in which the rows that arrived differ from those here, with both values where they are to be shown.';
