-- Sources: what create_source makes of a connection string, and what comes out again.
SET client_min_messages = warning;
BEGIN;
SELECT plan(48);

CREATE FUNCTION parsed(conninfo text) RETURNS jsonb LANGUAGE sql
RETURN roneo.parse_conninfo(conninfo);

-- Keywords and values, as libpq reads them.
SELECT is(parsed('host=db1 port=5433 dbname=app user=reader'),
    '{"host": "db1", "port": "5433", "dbname": "app", "user": "reader"}',
    'keywords and values are read');
SELECT is(parsed(E'  host = db1\n\tport= 5433 dbname =app  '),
    '{"host": "db1", "port": "5433", "dbname": "app"}', 'spaces around = and between options do not matter');
SELECT is(parsed($$password='it\'s a \\ "secret"' host=h$$),
    '{"password": "it''s a \\ \"secret\"", "host": "h"}', 'quoted values keep spaces, quotes and backslashes');
SELECT is(parsed($$password=a\ b\'c\\d=e host=''$$),
    '{"password": "a b''c\\d=e"}', 'backslashes escape outside quotes too, and an empty value is none');
SELECT is(parsed($$options='-c geqo=off'dbname=a dbname=b$$),
    '{"options": "-c geqo=off", "dbname": "b"}', 'a quote ends a value, and the last of two options counts');
SELECT is(parsed(''), '{}', 'nothing at all is the defaults');
SELECT throws_ok($$ SELECT parsed('host') $$, 'RO007', NULL, 'a word without = is refused');
SELECT throws_ok($$ SELECT parsed('host = ''open=') $$, 'RO007', NULL, 'an open quote is refused');
SELECT is(parsed('host= port=5'), '{"host": "port=5"}', 'what follows = is the value, be it after a space');
SELECT throws_ok($$ SELECT parsed('password=my secret') $$, 'RO007',
    'conninfo cannot be read: no option with "=" and a complete value at character 13',
    'the error names a place, and not what stands there');
SELECT throws_ok($$ SELECT parsed('host=h client_encoding=LATIN1') $$, 'RO007', NULL,
    'client_encoding is set by roneo itself');

-- URIs.
SELECT is(parsed('postgresql://'), '{}', 'an empty URI is the defaults');
SELECT is(parsed('postgresql://reader:s%40f%2Fe%25@db1:5433/app'),
    '{"user": "reader", "password": "s@f/e%", "host": "db1", "port": "5433", "dbname": "app"}',
    'a URI is read, percent signs decoded');
SELECT is(parsed('postgres://a,b:5433,[2001:db8::1]:5434/app'),
    '{"host": "a,b,2001:db8::1", "port": ",5433,5434", "dbname": "app"}',
    'several hosts keep their ports, IPv6 loses its brackets');
SELECT is(parsed('postgres://[::1]/app'), '{"host": "::1", "dbname": "app"}', 'IPv6 needs no port');
SELECT is(parsed('postgresql:///app?host=/var/run/postgresql&port=5433'),
    '{"host": "/var/run/postgresql", "port": "5433", "dbname": "app"}', 'a socket directory comes as a parameter');
SELECT is(parsed('postgresql://%2Ftmp%2Fsock:5433/app'),
    '{"host": "/tmp/sock", "port": "5433", "dbname": "app"}', 'or as a host with percent signs');
SELECT is(parsed('postgresql://h/app?ssl=true&application_name=a%20b&target_session_attrs=any'),
    '{"host": "h", "dbname": "app", "sslmode": "require", "application_name": "a b", "target_session_attrs": "any"}',
    'parameters are options, ssl=true is sslmode=require');
SELECT is(parsed('postgresql://us%C3%A9r@/d%C3%A9'), '{"user": "usér", "dbname": "dé"}', 'bytes become characters');
SELECT is(parsed('postgresql://h?sslmode=disable'), '{"host": "h", "sslmode": "disable"}', 'the database may be left out');
SELECT throws_ok($$ SELECT parsed('postgresql://h/app?sslmode') $$, 'RO007', NULL, 'a parameter needs a value');
SELECT throws_ok($$ SELECT parsed('postgresql://h/app?a=b=c') $$, 'RO007', NULL, 'and only one');
SELECT throws_ok($$ SELECT parsed('postgresql://u:%zz@h/app') $$, 'RO007', NULL, 'a bad percent sign is refused');
SELECT throws_ok($$ SELECT parsed('postgresql://u:%ff@h/app') $$, 'RO007', NULL, 'and so are bytes that are no characters');
SELECT throws_ok($$ SELECT parsed('postgresql://[::1/app') $$, 'RO007', NULL, 'and an open bracket');

-- Servers and mappings.
SELECT lives_ok($$ SELECT roneo.create_source('Odd "Näme"; %s',
    $c$host=/tmp dbname='it\'s' user=u password='p \\ \'q'$c$, username => 'other', source_encoding => 'latin-1') $$,
    'a source may have any name');
SELECT is(concat_ws(' ', server_name, owns_server, source_encoding), 'roneo_Odd "Näme"; %s t LATIN1',
    'its server is named after it') FROM roneo.source;
SELECT is(roneo.source_conninfo('Odd "Näme"; %s'),
    $$connect_timeout='10' dbname='it\'s' host='/tmp' keepalives_count='3' keepalives_idle='30' keepalives_interval='10' password='p \\ \'q' tcp_user_timeout='60000' user='other'$$,
    'the connection string comes out quoted, with timeouts, and arguments override it');
SELECT is(parsed(roneo.source_conninfo('Odd "Näme"; %s')) ->> 'password', 'p \ ''q', 'and is read as it was written');
SELECT lives_ok($$ INSERT INTO roneo.setting VALUES ('connect_timeout_s', '3') $$, 'the timeout is a setting');
SELECT alike(roneo.source_conninfo('Odd "Näme"; %s'), 'connect_timeout=''3''%', 'that is used');
SELECT throws_ok($$ SELECT roneo.create_source('Odd "Näme"; %s', 'host=x') $$, '42710', NULL, 'a name is given once');
SELECT lives_ok(format('SELECT roneo.create_source(%L, %L)', repeat('é', 40), 'host=x'), 'a long name is shortened');
SELECT is(octet_length(server_name::text), 62, 'by whole characters') FROM roneo.source WHERE source_name = repeat('é', 40);

SELECT throws_ok($$ SELECT roneo.create_source('', 'host=x') $$, 'RO006', NULL, 'an empty name is refused');
SELECT throws_ok($$ SELECT roneo.create_source('s') $$, 'RO007', NULL, 'neither conninfo nor server is refused');
SELECT throws_ok($$ SELECT roneo.create_source('s', 'host=x', server => 'y') $$, 'RO007', NULL, 'and so are both');
SELECT throws_ok($$ SELECT roneo.create_source('s', server => 'no such') $$, '42704', NULL, 'a server must exist');
SELECT throws_ok($$ SELECT roneo.create_source('s', 'host=x', for_role => 'no such') $$, '42704', NULL, 'a role too');
SELECT throws_ok($$ SELECT roneo.create_source('s', 'host=x', source_encoding => 'klingon') $$, 'RO007', NULL, 'an encoding too');

CREATE FUNCTION whole_error(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE m text; d text; h text; c text; s text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL,
        h = PG_EXCEPTION_HINT, c = PG_EXCEPTION_CONTEXT;
    -- The last lines are the statement of this test, which holds the secret itself.
    RETURN concat_ws(E'\n', s, m, d, h, split_part(c, E'\nSQL statement " SELECT roneo.create_source', 1));
END;
$$;
SELECT unalike(whole_error($$ SELECT roneo.create_source('s', 'host=x pasword=secret1') $$), '%secret1%',
    'no error shows a mistyped password');

-- Adopted servers.
CREATE SERVER existing FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host '/tmp', application_name 'app');
CREATE USER MAPPING FOR PUBLIC SERVER existing OPTIONS (user 'everyone');
SELECT roneo.create_source('adopted', server => 'existing');
SELECT unalike(whole_error($$ SELECT roneo.create_source('s', server => 'existing', password => 'secret1', for_role => 'public') $$),
    '%secret1%', 'nor one that cannot be kept, because there is a mapping already');
SELECT alike(roneo.source_conninfo('adopted'), '%host=''/tmp'' keepalives_count=''3'' keepalives_idle=''30'' keepalives_interval=''10'' tcp_user_timeout=''60000'' user=''everyone''',
    'the mapping of PUBLIC is used where there is no other, application_name left to who connects');
SELECT throws_ok($$ SELECT roneo.drop_source('nobody') $$, 'RO003', NULL, 'an unknown source is refused');
SELECT lives_ok($$ SELECT roneo.drop_source('adopted'), roneo.drop_source('Odd "Näme"; %s') $$, 'sources are dropped');
SELECT is(string_agg(srvname, ' '), 'existing', 'with the server that was made, without the one that was found')
FROM pg_foreign_server WHERE srvname ~ 'existing|Odd';

-- Another role.
CREATE ROLE roneo_test_other;
GRANT USAGE ON SCHEMA roneo TO roneo_test_other;
GRANT SELECT ON ALL TABLES IN SCHEMA roneo TO roneo_test_other;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA roneo TO roneo_test_other;
SELECT roneo.create_source('hidden', 'host=x', for_role => 'public');
SET LOCAL ROLE roneo_test_other;
SELECT throws_ok($$ SELECT roneo.source_conninfo('hidden') $$, 'RO009', NULL, 'a mapping that a role may not read is an error');
SELECT throws_ok($$ SELECT roneo.create_source('s', 'host=x') $$, 'RO009', NULL, 'as is a wrapper that it may not use');
RESET ROLE;

SELECT finish();
ROLLBACK;
