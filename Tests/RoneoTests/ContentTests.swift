import Postgres
import TestSupport
import Testing

/// What is copied is what was there, whatever its type.
@Suite struct ContentTests {
    /// Settings of the one who refreshes must not matter, those of the one who compares are fixed.
    private static let rows: SQL = """
        SELECT string_agg(t::text, E'\n' ORDER BY t::text) FROM \
        (SELECT set_config('extra_float_digits', '3', false), set_config('TimeZone', 'UTC', false), \
        set_config('DateStyle', 'ISO', false)) AS settings, everything AS t
        """

    private static let types = """
        CREATE SCHEMA "Types";
        CREATE EXTENSION citext SCHEMA "Types";
        CREATE TYPE "Types".mood AS ENUM ('sad', 'so "so"', 'happy');
        CREATE DOMAIN "Types".positive AS int CHECK (VALUE > 0);
        CREATE TYPE "Types".pair AS (a int, "B b" text);
        """

    private static let table = #"""
        CREATE TABLE everything (
            dropped int,
            "Id" int GENERATED ALWAYS AS IDENTITY, small int2, big int8, num numeric, fixed numeric(9,3),
            r float4, d float8, money_ money, flag bool, c char(5), vc varchar(9), txt text,
            nam name, one "char", by bytea, b bit(5), vb bit varying, j json, jb jsonb, x xml, u uuid,
            ts timestamp, tz timestamptz(3), dt date, tm time, tmz timetz, iv interval,
            ip inet, net cidr, mac macaddr, mac8 macaddr8, pt point, ln line, sg lseg, bx box,
            pth path, pol polygon, cir circle, vec tsvector, q tsquery, rng int4range,
            trng tstzrange, mrng nummultirange, lsn pg_lsn, xid xid8, snap pg_snapshot, jp jsonpath,
            ints int[], texts text[][], moods "Types".mood[], mood "Types".mood,
            pos "Types".positive, pair "Types".pair, pairs "Types".pair[], ci "Types".citext,
            cis "Types".citext[], reg regclass, o oid, v oidvector, twice int GENERATED ALWAYS AS (small * 2) STORED
        );
        ALTER TABLE everything DROP COLUMN dropped;
        INSERT INTO everything (txt) VALUES (NULL), (''), (E'\\N'), (E'\\.'), (E'a\tb\nc\r\\d'), ('é漢👍🏽');
        INSERT INTO everything (small, big, num, fixed, r, d, money_, flag, c, vc, nam, one, by, b, vb,
            j, jb, x, u, ts, tz, dt, tm, tmz, iv, ip, net, mac, mac8, pt, ln, sg, bx, pth, pol, cir,
            vec, q, rng, trng, mrng, lsn, xid, snap, jp, ints, texts, moods, mood, pos, pair, pairs,
            ci, cis, reg, o, v)
        VALUES (-32768, -9223372036854775808, 'NaN', 123456.789, '-Infinity', 4.9e-324, 12.34, true,
            'ab', 'x ', 'n', 'y', '\x00ff5c', B'10101', B'1', '{"b" : 1.10, "a": 1, "a": "\u00e9"}',
            '{"x": [1.10, null]}', '<a b="c"/>', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
            '4713-01-01 00:00:00 BC', 'infinity', '0044-03-15 BC', '24:00', '12:00+05:30',
            '1 year -3 days 04:05:06.789', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03',
            '08:00:2b:01:02:03:04:05', '(1,2)', '{1,2,3}', '[(0,0),(1,1)]', '(1,1),(0,0)',
            '[(0,0),(1,1)]', '((0,0),(1,1),(1,0))', '<(0,0),1>', 'a:1A fat:2', 'fat & !rat',
            '[1,5)', 'empty', '{[1,2),[5,)}', '16/B374D848', '18446744073709551615',
            '10:20:10,14', '$.a[*] ? (@ > 1)', '[0:1]={1,NULL}', '{{a,"b,"},{NULL,""}}',
            '{happy,NULL}', 'so "so"', 7, '(1,"x ""y"" , z")', ARRAY['(,)', '(2,)']::"Types".pair[],
            'CiText', '{Ab,aB}', 'pg_class', 4294967295, '1 2 3'),
            (1, 1, 1e-300, -0.001, 0.1, 0.1, -0.01, false, '', '', '', '', '', B'00000', B'', 'null',
            'null', '', NULL, 'infinity', '0001-01-01 00:00:00+00 BC', 'infinity', '00:00',
            '00:00-15:59', '-1 mons +30 days', '0.0.0.0', '::/0', NULL, NULL, NULL, NULL, NULL, NULL,
            NULL, NULL, NULL, '', '', 'empty', '(,)', '{}', '0/0', '0', NULL, '$', '{}', '{}', '{}',
            'sad', NULL, '(,)', '{}', '', '{}', NULL, 0, '');
        """#

    @Test("every type arrives as it was", arguments: ["snapshot", "plain"])
    func types(method: String) throws {
        let stage = try Stage()
        try stage.source.execute(SQL(verbatim: Self.types))
        try stage.source.execute(SQL(verbatim: Self.table))
        try stage.dest.execute(SQL(verbatim: Self.types))
        try stage.register("everything", method: method)
        // Neither side's habits may show in the copy.
        for connection in [stage.source, stage.dest] {
            try connection.execute(
                SQL(
                    verbatim: """
                        ALTER DATABASE \(stage.pair.name) SET TimeZone = 'Asia/Kathmandu';
                        ALTER DATABASE \(stage.pair.name) SET DateStyle = 'German, DMY';
                        ALTER DATABASE \(stage.pair.name) SET IntervalStyle = 'sql_standard';
                        ALTER DATABASE \(stage.pair.name) SET bytea_output = 'escape';
                        ALTER DATABASE \(stage.pair.name) SET extra_float_digits = -10;
                        ALTER DATABASE \(stage.pair.name) SET default_transaction_isolation = 'serializable';
                        ALTER DATABASE \(stage.pair.name) SET default_transaction_read_only = on
                        """))
        }
        let ended = try stage.run("refresh", "everything")
        #expect(ended.status == 0, "\(ended)")
        let there = try stage.source.execute(Self.rows).value
        let here = try stage.dest.execute(Self.rows).value
        #expect(there?.split(separator: "\n").count ?? 0 >= 8)
        #expect(here == there)
    }

    @Test(
        "tables of any shape arrive",
        arguments: [
            ("CREATE TABLE t ()", "INSERT INTO t DEFAULT VALUES; INSERT INTO t DEFAULT VALUES"),
            ("CREATE TABLE t (id int)", ""),
            (
                """
                DO $$BEGIN EXECUTE (SELECT format('CREATE TABLE t (%s)', string_agg(format(
                    'c%s text DEFAULT %L', n, n), ', ')) FROM generate_series(1, 1000) AS n); END$$
                """, "INSERT INTO t DEFAULT VALUES"
            ),
            (
                "CREATE TABLE t (wide text)",
                "INSERT INTO t SELECT repeat('é' || n, 2000000) FROM generate_series(1, 3) AS n"
            ),
        ], ["snapshot", "plain"])
    func shapes(table: (create: String, fill: String), method: String) throws {
        let stage = try Stage()
        try stage.source.execute(SQL(verbatim: table.create))
        if !table.fill.isEmpty { try stage.source.execute(SQL(verbatim: table.fill)) }
        try stage.register("t", method: method)
        let ended = try stage.run("refresh", "t")
        #expect(ended.status == 0, "\(ended)")
        let sum: SQL = "SELECT count(*) || ' ' || coalesce(sum(hashtext(t::text)), 0) FROM t"
        #expect(try stage.dest.execute(sum).value == stage.source.execute(sum).value)
    }
}
