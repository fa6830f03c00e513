import Postgres
import TestSupport
import Testing

@Suite struct ConnectionTests {
    let pair: DatabasePair

    init() throws { pair = try DatabasePair() }

    @Test func valuesTravelAsParameters() throws {
        let connection = try pair.connectSource()
        let nasty = "'; DROP TABLE t; -- \"\\ $1 ä\n"
        let nothing: String? = nil
        let result = try connection.execute(
            """
            SELECT \(nasty)::text AS "Odd ""Name", \(nothing)::text AS nothing,
                   \(41)::int + 1 AS sum, \(["a", "b\"c"])::text[] AS list
            """)
        #expect(result.count == 1)
        #expect(result.columns == ["Odd \"Name", "nothing", "sum", "list"])
        #expect(result[0, "Odd \"Name"] == nasty)
        #expect(result[0, "nothing"] == nil)
        #expect(result[0, "sum"] == "42")
        #expect(result[0, 3] == #"{a,"b\"c"}"#)
        #expect(result.value == nasty)
    }

    @Test func aValueCannotBecomeSQL() throws {
        let connection = try pair.connectSource()
        try connection.execute("CREATE TABLE t (v text)")
        let attack = "x'); DROP TABLE t; --"
        try connection.execute("INSERT INTO t VALUES (\(attack))")
        #expect(try connection.execute("SELECT v FROM t").value == attack)
    }

    @Test func anEmptyStringIsNotNull() throws {
        let connection = try pair.connectSource()
        let result = try connection.execute("SELECT \("")::text IS NULL, ''::text")
        #expect(result[0, 0] == "f")
        #expect(result[0, 1] == "")
    }

    @Test func tagsAndCounts() throws {
        let connection = try pair.connectSource()
        #expect(try connection.execute("CREATE TABLE t (i int)").commandTag == "CREATE TABLE")
        let inserted = try connection.execute("INSERT INTO t SELECT generate_series(1, 5)")
        #expect(inserted.commandTag == "INSERT 0 5")
        #expect(inserted.affectedRows == 5)
        #expect(inserted.isEmpty)
        #expect(inserted.value == nil)
        #expect(try connection.execute("").count == 0)
    }

    @Test func severalStatementsGiveTheLastResult() throws {
        let connection = try pair.connectSource()
        let result = try connection.execute("CREATE TABLE t (i int); SELECT 1; SELECT 2 AS two")
        #expect(result[0, "two"] == "2")
    }

    @Test func severalStatementsFailTogether() throws {
        let connection = try pair.connectSource()
        let error = #expect(throws: PostgresError.self) {
            try connection.execute("CREATE TABLE t (i int); SELECT 1 / 0; SELECT 2")
        }
        #expect(error?.sqlState == "22012")
        #expect(try connection.execute("SELECT to_regclass('t')").value == nil)
    }

    @Test func errorsKeepTheirFieldsApart() throws {
        let connection = try pair.connectSource()
        let error = #expect(throws: PostgresError.self) {
            try connection.execute(
                """
                DO $$ BEGIN
                    RAISE EXCEPTION USING ERRCODE = 'RO001', MESSAGE = 'table t is not a replica',
                        DETAIL = 'None has been set up.', HINT = 'Look there.', TABLE = 't';
                END $$
                """)
        }
        #expect(error?.sqlState == SQLState.notAReplica)
        #expect(error?.severity == "ERROR")
        #expect(error?.message == "table t is not a replica")
        #expect(error?.detail == "None has been set up.")
        #expect(error?.hint == "Look there.")
        #expect(error?.context?.hasPrefix("PL/pgSQL function inline_code_block") == true)
        #expect(error?.tableName == "t")
        #expect(error?.origin == .server)
        #expect(error?.isConnectionFailure == false)
    }

    @Test func errorsShowNoValues() throws {
        let connection = try pair.connectSource()
        try connection.execute("CREATE TABLE t (v text CONSTRAINT t_v_key UNIQUE, i int)")
        try connection.execute("INSERT INTO t VALUES ('secret')")
        for sql: SQL in [
            "INSERT INTO t VALUES (\("secret"))", "INSERT INTO t (i) VALUES (\("secret"))",
        ] {
            let error = #expect(throws: PostgresError.self) { try connection.execute(sql) }
            #expect(error?.description.contains("secret") == false)
        }
    }

    @Test func aFailedTransactionCanBeRolledBack() throws {
        let connection = try pair.connectSource()
        #expect(connection.transactionStatus == .idle)
        try connection.execute("BEGIN; CREATE TABLE t (i int)")
        #expect(connection.transactionStatus == .inTransaction)
        #expect(throws: PostgresError.self) { try connection.execute("SELECT 1 / 0") }
        #expect(connection.transactionStatus == .inFailedTransaction)
        connection.rollback()
        #expect(connection.transactionStatus == .idle)
        #expect(connection.isOpen)
    }

    @Test func whatTheServerReports() throws {
        let connection = try pair.connectSource()
        #expect(connection.serverVersion / 10000 == TestClusters.source.binaries.majorVersion)
        #expect(connection.parameterStatus("client_encoding") == "UTF8")
        #expect(connection.parameterStatus("no_such") == nil)
        let pid = try connection.execute("SELECT pg_backend_pid()").value
        #expect(pid == "\(connection.backendPID)")
        let name = try connection.execute("SELECT current_setting('application_name')").value
        #expect(name == "test \(pair.name) source")
    }

    @Test func anEmptyApplicationNameAndURIsWork() throws {
        let directory = TestClusters.source.directory.split(separator: "/").joined(separator: "%2F")
        let connection = try Connection(
            conninfo:
                "postgresql://postgres@%2F\(directory):5432/\(pair.name)?client_encoding=LATIN1",
            applicationName: "", options: ["options": "-c statement_timeout=12345"])
        let result = try connection.execute(
            "SELECT current_database(), current_setting('statement_timeout')")
        #expect(result[0, 0] == pair.name)
        #expect(result[0, 1] == "12345ms")
        #expect(connection.parameterStatus("client_encoding") == "UTF8")
    }

    @Test func noticesAreHandedOverAndNotPrinted() throws {
        final class Heard { var messages: [String] = [] }
        let heard = Heard()
        let connection = try Connection(
            conninfo: pair.source, applicationName: "notices",
            onNotice: { heard.messages.append($0.message) })
        try connection.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
        #expect(heard.messages == ["one", "two"])
    }

    @Test func copyIsNotForExecute() throws {
        let connection = try pair.connectSource()
        try connection.execute("CREATE TABLE t (i int)")
        for statement in [
            "COPY t FROM STDIN", "COPY t TO STDOUT",
            "COPY (SELECT generate_series(1, 1000000)) TO STDOUT",
        ] {
            let error = #expect(throws: PostgresError.self) {
                try connection.execute(SQL(verbatim: statement))
            }
            #expect(error?.origin == .local)
            #expect(try connection.execute("SELECT 1").value == "1")
        }
    }

    @Test func aTimeLimitCancelsTheStatementOnly() throws {
        let connection = try pair.connectSource()
        let error = #expect(throws: PostgresError.self) {
            try connection.execute("SELECT pg_sleep(60)", timeLimit: .milliseconds(50))
        }
        #expect(error?.origin == .timeLimit)
        #expect(error?.code == SQLState.queryCanceled)
        #expect(error?.isCancelled == false)
        #expect(try connection.execute("SELECT 1", timeLimit: .seconds(60)).value == "1")
    }

    @Test func aClosedConnectionSaysSo() throws {
        let connection = try pair.connectSource()
        connection.close()
        connection.close()
        #expect(!connection.isOpen)
        #expect(connection.transactionStatus == .unknown)
        let error = #expect(throws: PostgresError.self) { try connection.execute("SELECT 1") }
        #expect(error?.code == SQLState.connectionFailure)
    }

    @Test func anEndedBackendGivesTheServersLastWord() throws {
        let connection = try pair.connectSource()
        let other = try pair.connectSource()
        try other.execute("SELECT pg_terminate_backend(\(connection.backendPID), 30000)")
        let error = #expect(throws: PostgresError.self) { try connection.execute("SELECT 1") }
        #expect(error?.sqlState == SQLState.adminShutdown)
        #expect(error?.isConnectionFailure == true)
        #expect(!connection.isOpen)
        #expect(throws: PostgresError.self) { try connection.execute("SELECT 1") }
    }

    @Test func nothingIsLeftBehind() async throws {
        do {
            let connection = try pair.connectSource()
            try connection.execute("BEGIN")
        }
        #expect(try await eventually(pair.isDeserted))
    }
}

@Suite struct ConnectingTests {
    @Test func aRefusalHasItsSQLState() throws {
        let error = #expect(throws: PostgresError.self) {
            try Connection(
                conninfo: TestClusters.source.conninfo(database: "no_such_database"),
                applicationName: "test")
        }
        #expect(error?.sqlState == SQLState.undefinedDatabase)
        #expect(error?.origin == .connecting)
        #expect(error?.isConnectionFailure == true)
        #expect(error?.message.contains("no_such_database") == true)
        #expect(error?.message.contains(SQLState.undefinedDatabase) == false)
        #expect(error?.message.contains("LOCATION") == false)
    }

    @Test func noServerIsACodeOfTheStandard() throws {
        let error = #expect(throws: PostgresError.self) {
            try Connection(
                conninfo: "host=/tmp/no-such-folder user=u dbname=d password=hush",
                applicationName: "test")
        }
        #expect(error?.sqlState == nil)
        #expect(error?.code == SQLState.cannotConnect)
        #expect(error?.description.contains("hush") == false)
    }

    @Test(arguments: ["host=a =b", "postgresql://u@h:notaport/d", "nosuchkeyword=1"])
    func badConnectionStringsAreErrors(conninfo: String) {
        let error = #expect(throws: PostgresError.self) {
            try Connection(conninfo: conninfo, applicationName: "test")
        }
        #expect(error?.origin == .connecting)
    }

    @Test func aServerThatDoesNotAnswerIsGivenUp() throws {
        let deaf = try DeafServer()
        let error = #expect(throws: PostgresError.self) {
            try Connection(
                conninfo: deaf.conninfo, applicationName: "test",
                connectTimeout: .milliseconds(50))
        }
        #expect(error?.origin == .connecting)
        #expect(error?.code == SQLState.cannotConnect)
    }

    @Test func theTimeoutOfTheConnectionStringIsHeeded() throws {
        let deaf = try DeafServer()
        let error = #expect(throws: PostgresError.self) {
            try Connection(conninfo: deaf.conninfo + " connect_timeout=1", applicationName: "test")
        }
        #expect(
            error?.message.hasPrefix("no connection within 2.0 seconds: /tmp/roneo-deaf-") == true)
    }
}
