import Postgres
import TestSupport
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Limits of a connection that span any number of calls, and servers that say nothing.
@Suite struct LimitTests {
    let pair: DatabasePair

    init() throws { pair = try DatabasePair() }

    private static let tooLong = PostgresError(
        origin: .timeLimit, sqlState: SQLState.refreshTimeout, message: "it took too long")

    private func limit(_ time: Duration) -> TimeLimit {
        TimeLimit(end: .now + time, error: Self.tooLong)
    }

    @Test func aLimitEndsWhatRuns() async throws {
        let connection = try pair.connectSource()
        try connection.execute("BEGIN; CREATE TABLE t (i int)")
        connection.limit = limit(.milliseconds(50))
        #expect(throws: Self.tooLong) { try connection.execute("SELECT pg_sleep(600)") }
        #expect(throws: Self.tooLong, "and all that comes later") {
            try connection.execute("SELECT 1")
        }
        connection.rollback()
        #expect(connection.isOpen, "but neither ROLLBACK nor the connection")
        connection.limit = nil
        #expect(try connection.execute("SELECT to_regclass('t')").value == nil)
    }

    @Test func aCommitIsSpared() throws {
        let connection = try pair.connectSource()
        try connection.execute("BEGIN; CREATE TABLE t (i int)")
        connection.limit = limit(.zero)
        try connection.execute("COMMIT", heedsCancel: false)
        connection.limit = nil
        #expect(try connection.execute("SELECT to_regclass('t')").value == "t")
    }

    @Test("a limit of either side ends a transfer", arguments: [true, false])
    func transfer(ofSource: Bool) async throws {
        let (source, destination) = (try pair.connectSource(), try pair.connectDestination())
        try destination.execute("CREATE TABLE t (i int)")
        try destination.execute("BEGIN")
        (ofSource ? source : destination).limit = limit(.milliseconds(50))
        let error = #expect(throws: RelayError.self) {
            _ = try CopyRelay.copy(
                from: source,
                "COPY (SELECT n FROM generate_series(1, 1000000) AS n WHERE pg_sleep(0.01) IS NOT NULL)"
                    + " TO STDOUT",
                to: destination, "COPY t FROM STDIN")
        }
        #expect(error?.error == Self.tooLong)
        destination.limit = nil
        destination.rollback()
        #expect(try destination.execute("SELECT count(*) FROM t").value == "0")
    }

    @Test func aServerThatComputesIsWaitedFor() throws {
        let connection = try pair.connectSource()
        connection.stallTimeout = .milliseconds(20)
        #expect(try connection.execute("SELECT 'done' FROM pg_sleep(0.3)").value == "done")
    }

    @Test func aServerThatIsStoppedIsGivenUp() throws {
        let cluster = try ThrowawayCluster(name: "stopped")
        let connection = try Connection(
            conninfo: cluster.conninfo(database: "postgres"), applicationName: "test",
            stallTimeout: .milliseconds(100))
        let postmaster = try connection.execute(
            "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")
        let processes = [postmaster.value.flatMap { Int32($0) } ?? 0, connection.backendPID]
        try #require(processes.allSatisfy { $0 > 1 })
        for process in processes { kill(process, SIGSTOP) }
        defer { for process in processes { kill(process, SIGCONT) } }
        let error = #expect(throws: PostgresError.self) { try connection.execute("SELECT 1") }
        #expect(error?.origin == .connectionLost)
        #expect(error?.code == SQLState.connectionFailure)
        #expect(error?.message.contains("takes no connection") == true, "\(error as Any)")
        #expect(!connection.isOpen)
    }

    @Test func aDestinationThatGoesWhileTheSourceComputesIsNoticed() async throws {
        let pair = pair
        let task = Task {
            try await onOwnThread { _ in
                let destination = try pair.connectDestination()
                try destination.execute("CREATE TABLE t (i int)")
                _ = try CopyRelay.copy(
                    from: try pair.connectSource(),
                    "COPY (SELECT 1 FROM pg_sleep(600)) TO STDOUT",
                    to: destination, "COPY t FROM STDIN")
            }
        }
        let isComputing = try await eventually {
            try pair.connectSource().execute(
                """
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event = 'PgSleep'
                """
            ).value == "1"
        }
        try #require(isComputing)
        try pair.connectDestination().execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
            """)
        let error = await #expect(throws: RelayError.self) { try await task.value }
        #expect(error?.side == .destination)
        #expect(error?.error.isConnectionFailure == true)
        #expect(try await eventually(pair.isDeserted))
    }
}
