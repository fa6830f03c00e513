-- To change the type of a captured column fails no write of the application, of no session, and is noticed.
\ir ../support/capture.sql
SELECT no_plan();
SELECT roneo.create_source('src', :'source_conninfo') \g /dev/null
-- A session of the application that has written before, and stays.
SELECT dblink_connect('old', :'source_conninfo') \g /dev/null
CREATE FUNCTION told_code(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM dblink_exec('old', statement);
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END;
$$;
-- Columns, each with a value for the number %1$s before and after its type has changed. First those whose
-- type stays the same but for its length.
CREATE TEMP TABLE change (n int GENERATED ALWAYS AS IDENTITY, old_type text, new_type text, before text, after text, using_value text, noticed boolean DEFAULT true);
INSERT INTO change (old_type, new_type, before, after, noticed, using_value) VALUES
    ('varchar(5)',   'varchar(20)',   '''a''',                    'repeat(''a'', 20)',                          false, NULL),
    ('char(4)',      'char(9)',       '''a''',                    'repeat(''a'', 9)',                           false, NULL),
    ('numeric(6,2)', 'numeric(12,4)', '1.25',                     '12345678.1234',                              false, NULL),
    ('bit(4)',       'bit(9)',        '''1010''',                 '''101010101''',                              false, '%I::bit(9)'),
    ('varbit(4)',    'varbit(9)',     '''1''',                    '''101010101''',                              false, NULL),
    ('timestamp(0)', 'timestamp(6)',  '''2020-01-01 00:00:00''',  '''2020-01-01 00:00:00.123456''',             false, NULL),
    ('time(0)',      'time(6)',       '''01:00:00''',             '''01:00:00.123456''',                        false, NULL),
    ('interval day', 'interval',      '''1 day''',                '''1 day 00:00:01''',                         false, NULL),
    ('whole',        'integer',       '1',                        '-5',                                         false, NULL);
INSERT INTO change (old_type, new_type, before, after, using_value) VALUES
    ('smallint',     'integer',       '1',                        '70000',                                      NULL),
    ('integer',      'bigint',        '1',                        '5000000000',                                 NULL),
    ('integer',      'numeric',       '1',                        '1e30',                                       NULL),
    ('integer',      'text',          '1',                        '''one''',                                    NULL),
    ('integer',      'uuid',          '1',                        'md5(''1'')::uuid',                           'md5(%I::text)::uuid'),
    ('integer',      'whole',         '1',                        '1',                                          NULL),
    ('bigint',       'integer',       '1',                        '1',                                          NULL),
    ('varchar(5)',   'text',          '''a''',                    'repeat(''a'', 20)',                          NULL),
    ('char(4)',      'text',          '''a''',                    'repeat(''a'', 20)',                          NULL),
    ('real',         'float8',        '1.5',                      '1e300',                                      NULL),
    ('date',         'timestamptz',   '''2020-01-01''',           '''2020-01-01 12:00''',                       NULL),
    ('timestamp',    'timestamptz',   '''2020-01-01 12:00''',     '''2020-01-01 12:00''',                       NULL),
    ('text',         'integer',       '''1''',                    '12',                                         '1'),
    ('mood',         'text',          '''glad''',                 '''who knows''',                              NULL),
    ('integer[]',    'bigint[]',      '''{1}''',                  '''{5000000000}''',                           NULL),
    ('integer',      'integer[]',     '1',                        '''{1,2}''',                                  'ARRAY[%I]'),
    ('pair',         'text',          '''(1,2)''',                '''no pair''',                                NULL),
    ('int4range',    'int8range',     '''[1,2)''',                '''[1,5000000000)''',                         'int8range(lower(%I), upper(%I))');
CREATE DOMAIN whole AS integer CHECK (VALUE > 0) NOT NULL; CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TYPE pair AS (a int, b int);
SELECT on_source($$ CREATE DOMAIN whole AS integer CHECK (VALUE > 0) NOT NULL; CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TYPE pair AS (a int, b int) $$) \g /dev/null
CREATE FUNCTION work(relation text, first integer, changed integer) RETURNS text LANGUAGE sql STABLE
RETURN (SELECT format('INSERT INTO %1$I SELECT g, %2$s FROM generate_series(%3$s, %3$s + 99) AS g; UPDATE %1$I SET v = ''up'' WHERE id = %3$s; UPDATE %1$I SET id = %3$s + 900 WHERE id = %3$s; DELETE FROM %1$I WHERE id > %3$s AND id < %3$s + 9',
                      relation, string_agg(CASE WHEN c.n <= changed THEN c.after ELSE c.before END, ', ' ORDER BY c.n), first) FROM change AS c);
CREATE FUNCTION retyped(relation text, changed integer) RETURNS text LANGUAGE sql STABLE
RETURN (SELECT format('ALTER TABLE %1$I ALTER %2$I TYPE %3$s%4$s', relation, 'c' || c.n, c.new_type, format(' USING (' || replace(c.using_value, '%I', '%1$I') || ')', 'c' || c.n)) FROM change AS c WHERE c.n = changed);
CREATE FUNCTION changed_one_by_one(relation text, works_in text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    c change;
BEGIN
    FOR c IN SELECT * FROM change ORDER BY n LOOP
        PERFORM on_source(retyped(relation, c.n));
        RETURN NEXT is(code(work(relation, 1000 * c.n, c.n)), 'done', format('%s: %s to %s fails no write', works_in, c.old_type, c.new_type));
        RETURN NEXT is(told_code(work(relation, 1000 * c.n + 500, c.n)), 'done', format('%s: nor one of a session that stays', works_in));
    END LOOP;
END;
$$;
SELECT on_source((SELECT format('CREATE TABLE %I (id int, %s, v text%s)', t.name, string_agg(format('c%s %s', c.n, c.old_type), ', ' ORDER BY c.n),
                                CASE WHEN t.name = 'keyed' THEN format(', PRIMARY KEY (id, %s)', string_agg(format('c%s', c.n), ', ' ORDER BY c.n)) ELSE ', PRIMARY KEY (id)' END) FROM change AS c))
FROM unnest('{keyed,statement,row}'::text[]) AS t (name) \g /dev/null
SELECT roneo.create_dml('src', 'keyed', capture_mode => 'row') \g /dev/null
SELECT roneo.create_logdel('src', x, capture_mode => x) FROM unnest('{statement,row}'::text[]) AS x \g /dev/null
SELECT is(told_code(work(x, 1, 0)), 'done', 'the application works') FROM unnest('{keyed,statement,row}'::text[]) AS x;
SELECT did(x::regclass) FROM unnest('{keyed,statement,row}'::text[]) AS x;
SELECT changed_one_by_one(x, x) FROM unnest('{keyed,statement,row}'::text[]) AS x;
SELECT * FROM finish();
