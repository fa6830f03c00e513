import Postgres
import TestSupport
import Testing

/// A stage whose replica is fed from a capture, with gates at which its refreshes can be held.
struct CapturedStage {
    let stage: Stage
    let method: String

    /// Where a refresh is held, in the order of its steps.
    enum Hold: String, CaseIterable, CustomTestStringConvertible {
        case attending, locking, reading, removing, putting, finishing, telling

        /// The side whose backend waits.
        var isAtSource: Bool {
            switch self {
            case .attending, .locking, .reading, .telling: true
            case .removing, .putting, .finishing: false
            }
        }
        var testDescription: String { rawValue }
    }

    /// A session that keeps a gate closed.
    struct Gate {
        fileprivate let keeper: Connection
        func open() { keeper.close() }
    }

    private static let gates: SQL = """
        CREATE FUNCTION public.gate(number int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM pg_advisory_lock_shared(number); PERFORM pg_advisory_unlock_shared(number); \
        RETURN true; END $$; \
        CREATE FUNCTION public.pass_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM public.gate(tg_argv[0]::int); \
        RETURN CASE WHEN tg_op = 'DELETE' THEN old ELSE new END; END $$
        """
    private static let readGate = 1
    private static let removeGate = 2
    private static let putGate = 3

    /// Table `t` of a hundred rows, and its replica, which was loaded by SQL.
    init(_ method: String, isLoaded: Bool = true, batchLimit: Int? = nil) throws {
        stage = try Stage()
        self.method = method
        for connection in [stage.source, stage.dest] { try connection.execute(Self.gates) }
        try stage.source.execute(
            """
            CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL); \
            INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 100) AS n
            """)
        try stage.dest.execute(
            SQL(
                verbatim: """
                    SELECT roneo.create_\(method)('src', 't', 't', filter => 'public.gate(\(Self.readGate))',
                        copy_data => \(isLoaded), batch_limit => \(batchLimit.map(String.init) ?? "NULL"))
                    """))
        // What is deleted in dml is stamped in logdel, before anything is put.
        let removal = method == "dml" ? "DELETE" : "UPDATE"
        try stage.dest.execute(
            SQL(
                verbatim: """
                    CREATE TRIGGER remove_gate BEFORE \(removal) ON t
                        FOR EACH ROW EXECUTE FUNCTION pass_gate(\(Self.removeGate));
                    CREATE TRIGGER put_gate BEFORE INSERT ON t
                        FOR EACH ROW EXECUTE FUNCTION pass_gate(\(Self.putGate))
                    """))
    }

    /// One change of each kind.
    func change() throws {
        try stage.source.execute(
            """
            UPDATE t SET v = v || '+' WHERE id <= 3; DELETE FROM t WHERE id IN (4, 5); \
            INSERT INTO t SELECT n, 'new ' || n FROM generate_series(101, 103) AS n; \
            UPDATE t SET id = 200 WHERE id = 6
            """)
    }

    /// Closes a gate, from now until it is opened.
    func close(_ hold: Hold) throws -> Gate {
        let keeper =
            hold.isAtSource ? try stage.pair.connectSource() : try stage.pair.connectDestination()
        let key: SQL =
            switch hold {
            case .attending, .telling: "BEGIN; SELECT FROM roneo_capture.consumer FOR UPDATE"
            case .locking: "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE"
            case .reading: "SELECT pg_advisory_lock(\(Self.readGate))"
            case .removing: "SELECT pg_advisory_lock(\(Self.removeGate))"
            case .putting: "SELECT pg_advisory_lock(\(Self.putGate))"
            case .finishing: "BEGIN; SELECT FROM roneo.capture_replica FOR UPDATE"
            }
        try keeper.execute(key)
        return Gate(keeper: keeper)
    }

    /// Starts a refresh, and comes back when it stands before a gate.
    func startRefresh(
        heldAt hold: Hold, _ arguments: String...
    ) async throws
        -> (RoneoProcess, Gate)
    {
        // The source is told at the beginning too; so that gate is closed behind the refresh.
        guard hold == .telling else {
            let gate = try close(hold)
            let process = try stage.start(["refresh", "t"] + arguments)
            try #require(try await eventually { try isHeld(atSource: hold.isAtSource) })
            return (process, gate)
        }
        let (process, before) = try await startRefresh(heldAt: .putting)
        let gate = try close(.telling)
        before.open()
        try #require(try await eventually { try isHeld(atSource: true) })
        return (process, gate)
    }

    private func isHeld(atSource: Bool) throws -> Bool {
        try (atSource ? stage.source : stage.dest).execute(
            """
            SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND application_name LIKE 'roneo %' AND wait_event_type = 'Lock'
            """
        ).value == "1"
    }

    /// Ends the refresh's backend on one side.
    func terminateRefresh(on connection: Connection) throws {
        try connection.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE datname = current_database() AND application_name LIKE 'roneo %' \
            AND application_name NOT LIKE '% journal'
            """)
    }

    /// The rows of the source in one line.
    func sourceRows() throws -> String {
        try stage.source.execute("SELECT string_agg(concat(id, ' ', v), ', ' ORDER BY id) FROM t")
            .value ?? ""
    }

    /// The rows of the replica that are not deleted.
    func liveRows() throws -> String {
        let live = method == "dml" ? "true" : "roneo_source_deleted IS NULL"
        return try stage.value(
            SQL(
                verbatim:
                    "SELECT string_agg(concat(id, ' ', v), ', ' ORDER BY id) FROM t WHERE \(live)"))
            ?? ""
    }

    /// What logdel has kept of the rows that ``change()`` deletes.
    func graves() throws -> String? {
        guard method == "logdel" else { return nil }
        return try stage.value(
            """
            SELECT string_agg(concat(id, ' ', v), ', ' ORDER BY id) FROM t \
            WHERE roneo_source_deleted IS NOT NULL
            """)
    }

    /// Whether the source knows how far the replica is.
    func isConfirmed() throws -> Bool {
        let told = try stage.source.execute("SELECT position::text FROM roneo_capture.consumer")
        let reached = try stage.dest.execute("SELECT position::text FROM roneo.capture_replica")
        return told.value != nil && told.value == reached.value
    }

    /// A refresh brings everything, each deleted row once.
    func expectCatchUp(sourceLocation: SourceLocation = #_sourceLocation) throws {
        let ended = try stage.run("refresh", "t")
        #expect(ended.status == 0, "\(ended)", sourceLocation: sourceLocation)
        #expect(try liveRows() == sourceRows(), sourceLocation: sourceLocation)
        if method == "logdel" {
            #expect(try graves() == "4 row 4, 5 row 5, 6 row 6", sourceLocation: sourceLocation)
        }
        #expect(try isConfirmed(), sourceLocation: sourceLocation)
    }
}
