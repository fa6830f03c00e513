import Postgres
import TestSupport
import Testing

/// Replicas that follow a control column.
extension Stage {
    /// A source table `log` of numbered rows, and a replica of it.
    /// - Parameters:
    ///   - arguments: those of `create_METHOD` after the source table, `control` aside.
    ///   - key: without one the replica is append_only, and takes each row exactly once.
    func follow(
        _ method: String = "inserter", key: Bool = true, rows: Int = 0, _ arguments: String = ""
    ) throws {
        try source.execute(
            SQL(
                verbatim: """
                    CREATE TABLE log (id int \(key ? "PRIMARY KEY" : ""), n int, \
                    at timestamptz DEFAULT clock_timestamp(), v text)
                    """))
        try source.execute(SQL(verbatim: "CREATE INDEX ON log (n)"))
        try write(1...max(1, rows))
        if rows == 0 { try source.execute("DELETE FROM log") }
        let all = [
            "'src', 'public.log', copy_data => false, start_value => '-1'",
            arguments.contains("control =>") ? "" : "control => 'n'", arguments,
            key ? "" : "append_only => true",
        ]
        let list = all.filter { !$0.isEmpty }.joined(separator: ", ")
        try dest.execute(SQL(verbatim: "SELECT roneo.create_\(method)(\(list))"))
    }

    /// Rows of these numbers, in one transaction.
    func write(_ ids: ClosedRange<Int>) throws {
        try source.execute(
            """
            INSERT INTO log (id, n, v) SELECT g, g, 'row ' || g \
            FROM generate_series(\(ids.lowerBound)::int, \(ids.upperBound)::int) AS g
            """)
    }

    /// From now on reading stops at a row, and asking what there is to read does not. For hours: where
    /// many tests run at a time a while passes before one looks again.
    ///
    /// What comes before it fills more than one chunk, so that both sides are in the middle of it.
    func holdReading(at row: Int) throws {
        try dest.execute(
            "UPDATE roneo.replica SET filter = format('pg_catalog.pg_sleep(CASE n WHEN %s THEN 3600 ELSE 0 END) IS NOT NULL', \(row)::int)"
        )
    }

    func goOnReading() throws { try dest.execute("UPDATE roneo.replica SET filter = NULL") }

    /// What both sides have: rows, position and all that belongs to it.
    func state() throws -> [String?] {
        try [value("SELECT c::text FROM roneo.control_replica AS c"), content(dest)]
    }

    /// Whether the copy has each row of the source, once, and nothing else.
    func isEqual() throws -> Bool { try content(source) == content(dest) }

    /// Refreshes until nothing is left; others' transactions on the shared servers hold rows back.
    func refreshUntilEqual() async throws -> Bool {
        try await eventually {
            let ended = try run("refresh", "log")
            try #require([0, 75].contains(ended.status), "\(ended)")
            return try isEqual()
        }
    }

    private func content(_ connection: Connection) throws -> String? {
        try connection.execute(
            "SELECT string_agg(l::text, ' ' ORDER BY l.id, l.v) FROM log AS l"
        ).value
    }
}
