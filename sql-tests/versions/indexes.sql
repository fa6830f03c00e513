-- What the indexes of one table are, however they are called.
SELECT regexp_replace(pg_get_indexdef(indexrelid), 'INDEX \S+ ON (ONLY )?\S+', 'INDEX ON')
FROM pg_index
WHERE indrelid = :'relation'::regclass;
