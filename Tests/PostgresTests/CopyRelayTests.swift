import Postgres
import TestSupport
import Testing

@Suite struct CopyRelayTests {
    let pair: DatabasePair
    let source: Connection
    let destination: Connection

    init() throws {
        pair = try DatabasePair()
        source = try pair.connectSource()
        destination = try pair.connectDestination()
    }

    // MARK: Rows that arrive

    @Test(arguments: ["binary", "text", "csv"])
    func manyRowsArriveAsTheyWere(format: String) throws {
        try both("CREATE TABLE t (id bigint, name text, at timestamptz, n numeric, b bytea)")
        try source.execute(
            """
            INSERT INTO t
            SELECT g, CASE WHEN g % 7 > 0 THEN repeat(E'ä\\\\"\\n\\t,', g % 40) END,
                   'epoch'::timestamptz + g * interval '1 s', g / 3.0,
                   sha256(g::text::bytea)
            FROM generate_series(1, 100000) AS g
            """)
        var told: (rows: Int64, bytes: Int64) = (0, 0)
        let tally = try copy("t", format: format) { rows, bytes in told = (rows, bytes) }
        #expect(tally.sent == 100_000)
        #expect(tally.received == 100_000)
        #expect(tally.bytes == told.bytes)
        #expect((100_000...100_001).contains(told.rows))
        try expectSameRows("t")
    }

    @Test(arguments: ["binary", "text"])
    func wideValuesArrive(format: String) throws {
        try both("CREATE TABLE t (id int, v text)")
        try source.execute(
            """
            INSERT INTO t SELECT g, repeat(md5(g::text), 2048 * g) FROM generate_series(0, 40) AS g
            """)
        let tally = try copy("t", format: format)
        #expect(tally.sent == 41)
        #expect(tally.received == 41)
        #expect(tally.bytes > 41 * 64 * 1024)
        try expectSameRows("t")
    }

    @Test(arguments: ["binary", "text"])
    func noRowsAreNoError(format: String) throws {
        try both("CREATE TABLE t (id int)")
        let tally = try copy("t", format: format)
        #expect(tally.sent == 0)
        #expect(tally.received == 0)
        #expect(source.isOpen && destination.isOpen)
    }

    @Test(arguments: ["binary", "text"])
    func noColumnsAreNoError(format: String) throws {
        try both("CREATE TABLE t ()")
        try source.execute("INSERT INTO t SELECT FROM generate_series(1, 3)")
        let tally = try copy("t", format: format)
        #expect(tally.sent == 3)
        #expect(tally.received == 3)
    }

    @Test func oneTransactionTakesSeveralTransfers() throws {
        try both("CREATE TABLE t (id int)")
        try source.execute("INSERT INTO t VALUES (1), (2)")
        try source.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try destination.execute("BEGIN")
        for _ in 1...3 { #expect(try copy("t").received == 2) }
        try destination.execute("COMMIT")
        #expect(try destination.execute("SELECT count(*) FROM t").value == "6")
    }

    @Test func rowsThatATriggerSwallowsAreMissed() throws {
        try both("CREATE TABLE t (id int)")
        try source.execute("INSERT INTO t SELECT generate_series(1, 1000)")
        try destination.execute(
            """
            CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql
                AS 'BEGIN IF new.id % 2 = 0 THEN RETURN NULL; END IF; RETURN new; END';
            CREATE TRIGGER swallow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION swallow()
            """)
        let tally = try copy("t")
        #expect(tally.sent == 1000)
        #expect(tally.received == 500)
    }

    @Test func noticesOfTheDestinationAreNoFailure() throws {
        try both("CREATE TABLE t (id int)")
        try source.execute("INSERT INTO t SELECT generate_series(1, 50000)")
        try destination.execute(
            """
            CREATE FUNCTION talk() RETURNS trigger LANGUAGE plpgsql
                AS 'BEGIN IF new.id % 100 = 0 THEN RAISE WARNING ''hm''; END IF; RETURN new; END';
            CREATE TRIGGER talk BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION talk();
            SET client_min_messages = warning
            """)
        #expect(try copy("t").received == 50000)
    }

    // MARK: Failures

    @Test func aRefusedRowEndsTheTransferAtOnce() throws {
        try both("CREATE TABLE t (id int, v text)")
        try destination.execute("ALTER TABLE t ADD CONSTRAINT few CHECK (id < 1000)")
        try source.execute(
            "INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series(1, 200000) AS g")
        try begin()
        var moved: Int64 = 0
        let error = failure { try copy("t") { _, bytes in moved = bytes } }
        #expect(error?.side == .destination)
        #expect(error?.error.sqlState == SQLState.checkViolation)
        #expect(error?.error.constraintName == "few")
        #expect(error?.error.context?.hasPrefix("COPY t, line 1000") == true)
        // The table has 100 MB.
        #expect(moved < 20_000_000)
        try expectBothUsable()
    }

    @Test func aFailureAtTheEndIsTheServersOwn() throws {
        try both("CREATE TABLE t (id int)")
        try source.execute("INSERT INTO t VALUES (1), (1)")
        try destination.execute("CREATE UNIQUE INDEX ON t (id)")
        try begin()
        let error = failure { try copy("t") }
        #expect(error?.side == .destination)
        #expect(error?.error.sqlState == SQLState.uniqueViolation)
        #expect(error?.error.detail == "Key (id)=(…) already exists.")
        try expectBothUsable()
    }

    @Test func aQueryThatFailsHalfwayIsTheSourcesError() throws {
        try destination.execute("CREATE TABLE t (id int)")
        try begin()
        let error = failure {
            try CopyRelay.copy(
                from: source,
                "COPY (SELECT 1 / (50000 - g) FROM generate_series(1, 100000) AS g)"
                    + " TO STDOUT (FORMAT binary)",
                to: destination, "COPY t FROM STDIN (FORMAT binary)")
        }
        #expect(error?.side == .source)
        #expect(error?.error.sqlState == "22012")
        #expect(source.transactionStatus == .inFailedTransaction)
        #expect(destination.transactionStatus == .inFailedTransaction)
        try expectBothUsable()
        #expect(try destination.execute("SELECT count(*) FROM t").value == "0")
    }

    @Test func aTransferThatCannotStartSaysOnWhichSide() throws {
        try both("CREATE TABLE t (id int)")
        let noSource = failure { try copy("missing", into: "t") }
        #expect(noSource?.side == .source)
        #expect(noSource?.error.sqlState == SQLState.undefinedTable)
        try expectBothUsable()
        try source.execute("INSERT INTO t SELECT generate_series(1, 100000)")
        let noDestination = failure { try copy("t", into: "missing") }
        #expect(noDestination?.side == .destination)
        #expect(noDestination?.error.sqlState == SQLState.undefinedTable)
        try expectBothUsable()
    }

    @Test func statementsThatAreNoCopyAreRefused() throws {
        try both("CREATE TABLE t (id int)")
        let error = failure {
            try CopyRelay.copy(from: source, "SELECT 1", to: destination, "COPY t FROM STDIN")
        }
        #expect(error?.side == .source)
        #expect(error?.error.origin == .local)
        let other = failure {
            try CopyRelay.copy(from: source, "COPY t TO STDOUT", to: destination, "SELECT 1")
        }
        #expect(other?.side == .destination)
        #expect(other?.error.origin == .local)
        try expectBothUsable()
    }

    @Test(arguments: [RelayError.Side.source, .destination])
    func aBackendThatIsKilledIsAnError(side: RelayError.Side) async throws {
        try destination.execute("CREATE TABLE t (id bigint, v text)")
        try begin()
        let victim = side == .source ? source : destination
        let killer = side == .source ? try pair.connectSource() : try pair.connectDestination()
        var isKilled = false
        let error = failure {
            try CopyRelay.copy(
                from: source,
                "COPY (SELECT generate_series(1::bigint, 1000000000), repeat('x', 1000))"
                    + " TO STDOUT (FORMAT binary)",
                to: destination, "COPY t FROM STDIN (FORMAT binary)",
                progress: { _, _ in
                    guard !isKilled else { return }
                    isKilled = true
                    _ = try? killer.execute("SELECT pg_terminate_backend(\(victim.backendPID))")
                })
        }
        #expect(error?.side == side)
        // A source that is killed while it waits for us to read says nothing more.
        let codes = [SQLState.adminShutdown, SQLState.connectionFailure]
        #expect(error.map { codes.contains($0.error.code) } == true)
        #expect(error?.error.isConnectionFailure == true)
        #expect(!victim.isOpen)
        let survivor = side == .source ? destination : source
        survivor.rollback()
        #expect(try survivor.execute("SELECT 1").value == "1")
        for connection in [source, destination, killer] { connection.close() }
        #expect(try await eventually(pair.isDeserted))
    }

    @Test func aClosedSideIsAnError() throws {
        try both("CREATE TABLE t (id int)")
        destination.close()
        #expect(failure { try copy("t") }?.side == .destination)
        #expect(try source.execute("SELECT 1").value == "1")
        source.close()
        #expect(failure { try copy("t") }?.side == .source)
    }

    // MARK: Support

    private func both(_ statement: String) throws {
        try source.execute(SQL(verbatim: statement))
        try destination.execute(SQL(verbatim: statement))
    }

    private func begin() throws {
        try source.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try destination.execute("BEGIN")
    }

    private func copy(
        _ table: String, into other: String? = nil, format: String = "binary",
        progress: ((Int64, Int64) -> Void)? = nil
    ) throws(RelayError) -> CopyTally {
        try CopyRelay.copy(
            from: source, "COPY (SELECT * FROM \(table)) TO STDOUT (FORMAT \(format))",
            to: destination, "COPY \(other ?? table) FROM STDIN (FORMAT \(format))",
            progress: progress)
    }

    private func failure(_ body: () throws -> CopyTally) -> RelayError? {
        #expect(throws: RelayError.self) { try body() }
    }

    private func expectSameRows(_ table: String) throws {
        let sum = SQL(
            verbatim: """
                SELECT count(*), sum(hash_record_extended(t, 0)) FROM \(table) AS t
                """)
        let (here, there) = (try source.execute(sum), try destination.execute(sum))
        #expect(here[0, 0] == there[0, 0])
        #expect(here[0, 1] == there[0, 1])
    }

    private func expectBothUsable() throws {
        for connection in [source, destination] {
            connection.rollback()
            #expect(try connection.execute("SELECT 1").value == "1")
        }
    }
}
