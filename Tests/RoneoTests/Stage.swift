import Postgres
import TestSupport
import Testing

/// A source and a destination with the extension, for one test.
struct Stage {
    let pair: DatabasePair
    /// Open connections of the test itself, as superuser.
    let source: Connection
    let dest: Connection

    private static let template: String = {
        let name = "with_roneo"
        do {
            try TestClusters.source.createDatabase(name)
            try TestClusters.destination.createDatabase(name)
            try TestClusters.destination.psql(
                "CREATE EXTENSION dblink; CREATE EXTENSION roneo;", database: name)
        } catch {
            fatalError(
                "the extension cannot be installed, run this by make test T=RoneoTests: \(error)")
        }
        return name
    }()

    init() throws {
        pair = try DatabasePair(template: Self.template)
        source = try pair.connectSource()
        dest = try pair.connectDestination()
        try dest.execute("SELECT roneo.create_source('src', \(pair.source))")
    }

    /// A source table of some rows, and its replica of the same name.
    func makeReplica(
        _ name: String = "t", method: String = "snapshot", rows: Int = 100, every: String? = nil
    ) throws {
        try source.execute(
            SQL(
                verbatim: """
                    CREATE TABLE \(name) (id int PRIMARY KEY, v text NOT NULL);
                    INSERT INTO \(name) SELECT n, 'row ' || n FROM generate_series(1, \(rows)) AS n
                    """))
        try register(name, method: method, every: every)
    }

    /// A view that gives a row now and then, for hours: a copy of it is interrupted in the middle,
    /// never at its end. Its replica already has the two rows of an earlier refresh.
    func makeSlowReplica(_ name: String = "slow", method: String = "plain") throws {
        try source.execute(
            SQL(
                verbatim:
                    "CREATE VIEW \(name) AS SELECT n AS id, 'old' AS v FROM generate_series(1, 2) n"
            ))
        try register(name, method: method)
        _ = try dest.execute("SELECT roneo.refresh(\(name)::regclass, raise_errors => true)")
        try source.execute(
            SQL(
                verbatim: """
                    CREATE OR REPLACE VIEW \(name) AS
                    SELECT n AS id, CASE WHEN pg_sleep(0.01) IS NOT NULL THEN 'new' END AS v
                    FROM generate_series(1, 1000000) AS n
                    """))
    }

    /// The slow view gives its rows at once from now on.
    func makeFast(_ name: String = "slow") throws {
        try source.execute(
            SQL(
                verbatim: """
                    CREATE OR REPLACE VIEW \(name) AS
                    SELECT n AS id, 'new' AS v FROM generate_series(1, 3) AS n
                    """))
    }

    func register(_ name: String, method: String, every: String? = nil) throws {
        let create: SQL =
            method == "plain"
            ? """
            SELECT roneo.create_plain('src', \(name), \(name), copy_data => false, \
            refresh_every => \(every)::interval)
            """
            : """
            SELECT roneo.create_snapshot('src', \(name), \(name), copy_data => false, \
            refresh_every => \(every)::interval)
            """
        try dest.execute(create)
    }

    func run(_ arguments: String...) throws -> RoneoProcess.Ended {
        try start(arguments).wait()
    }

    func start(
        _ arguments: [String], environment: [String: String] = [:]
    ) throws -> RoneoProcess {
        try RoneoProcess(arguments + ["-d", pair.destination], environment: environment)
    }

    /// Starts a refresh, and comes back when it is in the middle of its copy.
    func startSlowRefresh(_ name: String = "slow") async throws -> RoneoProcess {
        let process = try start(["refresh", name])
        let isCopying = try await eventually { try copies(on: source) > 0 && copies(on: dest) > 0 }
        try #require(isCopying)
        return process
    }

    private func copies(on connection: Connection) throws -> Int {
        let found = try connection.execute(
            """
            SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND state = 'active' AND query LIKE 'COPY %' AND pid <> pg_backend_pid()
            """)
        return found.value.flatMap { Int($0) } ?? 0
    }

    /// Ends the backend that does the copy.
    func terminateCopy(on connection: Connection) throws {
        try connection.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE datname = current_database() AND state = 'active' AND query LIKE 'COPY %'
            """)
    }

    /// A value of the destination; nil is NULL.
    func value(_ sql: SQL) throws -> String? {
        try dest.execute(sql).value
    }

    /// The rows of a copy in one line: `1 old, 2 old`.
    func rows(_ name: String = "slow") throws -> String {
        try value(
            SQL(verbatim: "SELECT string_agg(id || ' ' || v, ', ' ORDER BY id) FROM \(name)")) ?? ""
    }

    /// Whether a refresh left nothing behind on either side but what it committed.
    func isClean() throws -> Bool {
        let checks: [SQL] = [
            """
            SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND pid <> pg_backend_pid() AND application_name LIKE 'roneo %'
            """,
            """
            SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database \
            WHERE d.datname = current_database() AND l.pid <> pg_backend_pid() \
            AND l.locktype IN ('advisory', 'relation')
            """,
            "SELECT count(*) FROM pg_class WHERE relpersistence = 't'",
        ]
        for connection in [source, dest] {
            for check in checks where try connection.execute(check).value != "0" { return false }
        }
        return true
    }
}
