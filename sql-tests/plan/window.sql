-- Which rows a refresh reads: the conditions as text, then what they match among rows of known transactions.
SET client_min_messages = warning;
SELECT plan(52);

CREATE FUNCTION c(key_columns name[] DEFAULT NULL, follows boolean DEFAULT true, last_value text DEFAULT NULL, window_start text DEFAULT NULL,
    horizon xid8 DEFAULT NULL, type text DEFAULT 'integer', boundary text DEFAULT '0', null_control text DEFAULT 'ignore', zone text DEFAULT 'UTC',
    swept xid8 DEFAULT NULL, repulling boolean DEFAULT false, repull_from text DEFAULT NULL)
RETURNS roneo.control_replica LANGUAGE plpgsql AS $$
DECLARE
    made roneo.control_replica;
BEGIN
    made.control := 'At'; made.control_type := type; made.key_columns := key_columns; made.append_only := follows; made.reads_xmin := follows;
    made.last_value := last_value; made.window_start := window_start; made.horizon := horizon; made.boundary := boundary; made.control_zone := zone;
    made.null_control := null_control; made.swept := swept; made.repulling := repulling; made.repull_from := repull_from;
    RETURN made;
END;
$$;

-- Literals.
SELECT is(roneo.age_of(x::xid8), format('(SELECT pg_catalog.age(%L::pg_catalog.xid))', wanted), format('the transaction %s is %s there', x, wanted))
FROM (VALUES ('3', '3'), ('4294967295', '4294967295'), ('4294967296', '0'), ('4294967299', '3'), ('12884901891', '3'), ('18446744073709551615', '4294967295')) AS v (x, wanted);
SELECT is(roneo.age_of(NULL), NULL, 'no transaction, no age');
SELECT is(roneo.is_distant('5000000000'),
    '(SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::pg_catalog.numeric - 5000000000 >= 2147483647)', 'what is too far away is known');
SELECT is(roneo.value_literal(c(type => t), v), format('%L::%s', v, t), format('%s stays what it is', v)) FROM (VALUES
    ('numeric', '0.30000000000000000000000000000000001'), ('timestamp with time zone', '2026-06-01 12:00:00.123456+00'), ('timestamp without time zone', '0044-03-15 12:00:00 BC'),
    ('timestamp with time zone', 'infinity'), ('text', 'it''s \ "here"; -- %s'), ('bigint', '-9223372036854775808')) AS v (t, v);
SELECT is(roneo.value_literal(c(), NULL), NULL, 'no value, no literal');
CREATE FUNCTION evaluated(expression text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE got text; BEGIN EXECUTE format('SELECT %s', expression) INTO got; RETURN got; END $$;
SELECT is(evaluated(roneo.value_literal(c(type => t), v)), v, format('and is read as it is: %s', v)) FROM (VALUES
    ('numeric', '0.30000000000000000000000000000000001'), ('timestamp with time zone', '2026-06-01 12:00:00.123456+00'), ('text', 'it''s \ "here"; -- %s'), ('bpchar', 'two w')) AS v (t, v);

-- The conditions.
CREATE FUNCTION part(what text, c roneo.control_replica, upto text DEFAULT NULL, swept boolean DEFAULT false) RETURNS text LANGUAGE sql
RETURN CASE what WHEN 'new' THEN roneo.new_condition(c, upto, 'X', 'M') WHEN 'late' THEN roneo.late_condition(c, swept, 'X', 'M')
                 WHEN 'null' THEN roneo.null_condition(c, 'X', 'M') WHEN 'bound' THEN roneo.bound_condition(c, 's.t') WHEN 'ready' THEN roneo.ready_condition(c, 'X', 'M') END;
CREATE FUNCTION since(p text, x text) RETURNS text LANGUAGE sql
RETURN format(CASE x WHEN 'X' THEN '%1$s' ELSE '(%2$s OR %1$s)' END,
    format('pg_catalog.age(xmin) <= (SELECT pg_catalog.age(%L::pg_catalog.xid)) AND pg_catalog.age(xmin) > %s', p, x), roneo.is_distant(p::xid8));
SELECT is(v.got, v.wanted, v.description) FROM (VALUES
    (part('ready', c()), 'NOT (X > M AND pg_catalog.age(xmin) <= X AND pg_catalog.age(xmin) > M)', 'without a key, what is older than all open transactions is ready'),
    (part('ready', c('{id}')), NULL, 'with one, everything'),
    (part('ready', c(follows => false)), NULL, 'and where rows do not show their transaction'),
    (part('new', c('{id}')), '"At" IS NOT NULL', 'at first all rows are new'),
    (part('new', c('{id}', last_value => '7'), '9'), '"At" > ''7''::integer AND "At" <= ''9''::integer', 'then those above the position, up to the end of the round'),
    (part('new', c(last_value => '7'), '9'), '"At" > ''7''::integer AND "At" <= ''9''::integer AND NOT (X > M AND pg_catalog.age(xmin) <= X AND pg_catalog.age(xmin) > M)', 'that are ready'),
    (part('late', c('{id}')), NULL, 'at first none is late'),
    (part('late', c(last_value => '7')), NULL, 'nor without a key, where nothing is known of them'),
    (part('late', c('{id}', last_value => '7')), '"At" <= ''7''::integer AND true', 'with a key, all may be'),
    (part('late', c('{id}', last_value => '7', window_start => '5', horizon => '44')), format('"At" >= ''5''::integer AND "At" <= ''7''::integer AND %s', since('44', 'M')), 'of a window, those of newer transactions'),
    (part('late', c(last_value => '7', window_start => '5', horizon => '4294967340')), format('"At" >= ''5''::integer AND "At" <= ''7''::integer AND %s', since('44', 'X')), 'that are ready, without a key'),
    (part('late', c('{id}', last_value => '7', window_start => '5', horizon => '44', swept => '33'), swept => true), format('"At" <= ''7''::integer AND %s', since('33', 'M')), 'a sweep looks everywhere, since the last one'),
    (part('late', c(last_value => '7', window_start => '5', horizon => '44', swept => '33'), swept => true), format('"At" <= ''7''::integer AND %s', since('44', 'X')), 'without a key, since the last refresh'),
    (part('late', c('{id}', false, '7', '5', '44')), '"At" OPERATOR(pg_catalog.>=) ''5''::integer AND "At" OPERATOR(pg_catalog.<=) ''7''::integer', 'without transactions, a window is read again by key'),
    (part('late', c(NULL, false, '7', '5', '44')), NULL, 'and not at all without one'),
    (part('null', c(null_control => 'ignore')), NULL, 'rows without a value may be ignored'),
    (part('null', c(null_control => 'read')), '"At" IS NULL AND NOT (X > M AND pg_catalog.age(xmin) <= X AND pg_catalog.age(xmin) > M)', 'or read'),
    (part('null', c('{id}', null_control => 'read')), '"At" IS NULL', 'at first all'),
    (part('null', c(null_control => 'read', horizon => '44')), format('"At" IS NULL AND %s', since('44', 'X')), 'then those of newer transactions'),
    (part('null', c('{id}', null_control => 'read', horizon => '44', last_value => '7', repulling => true)), '"At" IS NULL', 'and all again in a repull of everything'),
    (part('bound', c()), NULL, 'without a boundary there is no bound'),
    (part('bound', c(boundary => '10')), '"At" <= ((SELECT pg_catalog.max("At") FROM s.t) - 10)', 'of numbers it is one below the highest'),
    (part('bound', c(type => 'timestamp with time zone')), NULL, 'of times none, where rows are known'),
    (part('bound', c(type => 'timestamp with time zone', boundary => '1 hour')), '"At" < ((pg_catalog.now() - ''1 hour''::pg_catalog.interval) AT TIME ZONE ''UTC'') AT TIME ZONE ''UTC''', 'one below the clock'),
    (part('bound', c(follows => false, type => 'timestamp without time zone', zone => 'Asia/Tokyo')), '"At" OPERATOR(pg_catalog.<) ((pg_catalog.now() - ''0''::pg_catalog.interval) AT TIME ZONE ''Asia/Tokyo'')', 'in the zone of the column, and never in the future'),
    (part('bound', c(follows => false, type => 'date', boundary => '1 day')), '"At" OPERATOR(pg_catalog.<) ((pg_catalog.now() - ''1 day''::pg_catalog.interval) AT TIME ZONE ''UTC'')::pg_catalog.date', 'a day is over before its rows are read'),
    (part('bound', c(type => 'uuid')), NULL, 'where values have no distance there is none')
) AS v (got, wanted, description);

-- Rows of six transactions in two leaves, one value NULL. The first transaction is frozen.
CREATE TABLE s ("At" integer, leaf integer) PARTITION BY LIST (leaf);
CREATE TABLE s1 PARTITION OF s FOR VALUES IN (1);
CREATE TABLE s2 PARTITION OF s FOR VALUES IN (2);
CREATE TABLE xids (n integer PRIMARY KEY, x xid8);
SELECT format($$ INSERT INTO s SELECT nullif(a, 0), l FROM generate_series(0, 9) AS a, generate_series(1, 2) AS l; $$),
       format('INSERT INTO xids SELECT %s, xmin::text::xid8 FROM s ORDER BY age(xmin) LIMIT 1', n),
       CASE n WHEN 1 THEN 'VACUUM (FREEZE) s' ELSE 'ANALYZE s' END
FROM generate_series(1, 6) AS n \gexec
INSERT INTO xids SELECT 7, pg_snapshot_xmax(pg_current_snapshot());
CREATE TABLE rows AS SELECT "At", leaf, x.n, s.tableoid AS leaf_oid FROM s JOIN xids AS x ON s.xmin::text = x.x::text;
SELECT is((SELECT count(*) FROM rows), 120::bigint, 'there are rows of six transactions');

CREATE TABLE tried AS
SELECT keyed, follows, last_value, window_start, p, x, swept, upto, chunk, fresh, nulls
FROM unnest('{false,true}'::bool[]) AS keyed, unnest('{false,true}'::bool[]) AS follows, unnest('{NULL,5}'::int[]) AS last_value, unnest('{NULL,3}'::int[]) AS window_start,
     unnest('{NULL,3}'::int[]) AS p, unnest('{5,7}'::int[]) AS x, unnest('{false,true}'::bool[]) AS swept, unnest('{NULL,8}'::int[]) AS upto,
     unnest('{false,true}'::bool[]) AS chunk, unnest('{false,true}'::bool[]) AS fresh, unnest('{read,ignore}'::text[]) AS nulls
WHERE (follows OR nulls = 'ignore' AND NOT swept) AND (last_value IS NOT NULL OR NOT chunk AND NOT fresh) AND (NOT fresh OR last_value IS NOT NULL);

-- The same in other words.
CREATE FUNCTION wanted(t tried, r rows) RETURNS boolean LANGUAGE sql
RETURN CASE
    WHEN t.follows AND NOT t.keyed AND r.n >= t.x THEN false
    WHEN t.fresh AND r.leaf = 2 THEN CASE WHEN r."At" IS NULL THEN t.nulls = 'read' ELSE r."At" <= coalesce(t.upto, t.last_value) END
    WHEN r."At" IS NULL THEN t.nulls = 'read' AND r.n >= coalesce(t.p, 0)
    WHEN t.chunk AND r."At" BETWEEN 2 AND 3 THEN true
    WHEN r."At" > coalesce(t.last_value, 0) THEN coalesce(r."At" <= t.upto, false)
    WHEN t.follows AND t.keyed THEN r.n >= coalesce(CASE WHEN t.swept THEN 2 END, t.p, 0) AND (t.swept OR r."At" >= coalesce(t.window_start, 0))
    WHEN t.follows THEN r.n >= coalesce(t.p, 99) AND (t.swept OR r."At" >= coalesce(t.window_start, 0))
    ELSE t.keyed AND r."At" >= coalesce(t.window_start, 99)
END;
CREATE FUNCTION condition(t tried, turns numeric DEFAULT 0) RETURNS text LANGUAGE sql
RETURN roneo.window_condition(
    c(CASE WHEN t.keyed THEN '{id}'::name[] END, t.follows, t.last_value::text, t.window_start::text, (SELECT ((x::text)::numeric + turns)::text::xid8 FROM xids WHERE n = t.p),
      null_control => t.nulls, swept => (SELECT ((x::text)::numeric + turns)::text::xid8 FROM xids WHERE n = 2), repulling => t.chunk, repull_from => '2'),
    t.swept, t.upto::text, CASE WHEN t.fresh THEN ARRAY['s2'::regclass::oid] END, CASE WHEN t.chunk THEN '"At" <= 5 AND "At" >= 2 AND "At" < 4' END,
    roneo.age_of((SELECT ((x::text)::numeric + turns)::text::xid8 FROM xids WHERE n = t.x)), roneo.age_of((SELECT ((x::text)::numeric + turns)::text::xid8 FROM xids WHERE n = 7)));
CREATE FUNCTION found(condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    got text;
BEGIN
    IF condition = '' THEN RETURN NULL; END IF;
    EXECUTE format('SELECT string_agg(concat(x.n, ''/'', "At", ''/'', leaf), '' '' ORDER BY x.n, "At", leaf) 
        FROM (SELECT xmin::text AS writer, "At", leaf FROM s WHERE %s) AS r JOIN xids AS x ON r.writer = x.x::text', condition) INTO got;
    RETURN got;
END;
$$;
CREATE TABLE results AS
SELECT t::tried AS t, found(condition(t)) AS got, (SELECT string_agg(concat(r.n, '/', r."At", '/', r.leaf), ' ' ORDER BY r.n, r."At", r.leaf) FROM rows AS r WHERE wanted(t, r)) AS wanted
FROM tried AS t;
SELECT cmp_ok((SELECT count(*) FROM results), '>', 500::bigint, 'many cases');
SELECT cmp_ok((SELECT count(DISTINCT wanted) FROM results), '>', 100::bigint, 'of which many differ');
SELECT is((SELECT count(*) FROM results WHERE got IS DISTINCT FROM wanted), 0::bigint, 'each condition matches the rows it should, and no others');
SELECT is_empty('SELECT t, got, wanted FROM results WHERE got IS DISTINCT FROM wanted LIMIT 3', 'not one of them fails');
SELECT is((SELECT count(*) FROM tried AS t WHERE found(condition(t, 4294967296::numeric * 3)) IS DISTINCT FROM found(condition(t))), 0::bigint,
    'transactions of a later turn of the counter match the same rows');
