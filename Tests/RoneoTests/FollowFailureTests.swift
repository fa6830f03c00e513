import Foundation
import Postgres
import TestSupport
import Testing

/// Inserters and updaters that are interrupted: rows and position stay together, and the next
/// refresh brings what is missing, once.
@Suite(.serialized) struct FollowFailureTests {
    /// Where a refresh is held up, for something to happen to it there.
    enum Place: String, CaseIterable {
        case asking, reading, putting, finishing, committing
    }

    enum Side: String, CaseIterable {
        case source, destination
    }

    @Test("a cancel in the middle of a transfer", arguments: [SIGINT, SIGTERM], [true, false])
    func cancelled(signal: Int32, key: Bool) async throws {
        let held = try await Held(at: .reading, key: key)
        held.process.send(signal)
        #expect(held.process.wait().status == (signal == SIGINT ? 130 : 143))
        try await held.expectUnharmed()
        #expect(
            try held.stage.value("SELECT count(*) FROM roneo.run WHERE sqlstate = '57014'") == "1")
    }

    @Test("a runner that is killed", arguments: Place.allCases, [true, false])
    func killed(place: Place, key: Bool) async throws {
        let held = try await Held(at: place, key: key)
        held.process.send(SIGKILL)
        #expect(held.process.wait().status == 128 + SIGKILL)
        try await held.expectUnharmed(isAsked: true)
    }

    @Test("a backend that is terminated", arguments: Place.allCases, Side.allCases)
    func terminated(place: Place, side: Side) async throws {
        for key in [true, false] {
            let held = try await Held(at: place, key: key)
            try held.terminate(side)
            // The source has done its part when everything is read; without a key, when it is put.
            let isRead = ![.asking, .reading, key ? .reading : .putting].contains(place)
            if side == .source && isRead {
                try held.letGo()
                let ended = held.process.wait()
                #expect(ended.status == 0, "\(ended)")
                #expect(try await held.stage.refreshUntilEqual())
            } else {
                // Whoever waits for one side hears of the other one's end when that side answers.
                if (side == .destination) == (place == .asking) && place != .reading {
                    try held.letGo()
                }
                let ended = held.process.wait()
                #expect(ended.status == 1, "\(ended)")
                try await held.expectUnharmed()
            }
        }
    }

    @Test("a COMMIT that fails", arguments: [true, false])
    func commitFails(key: Bool) async throws {
        let stage = try Stage()
        try stage.follow(key ? "updater" : "inserter", key: key, rows: 5)
        #expect(try await stage.refreshUntilEqual())
        try stage.dest.execute(
            """
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
            'BEGIN RAISE EXCEPTION ''not today''; END'
            """)
        try stage.runAtCommit("refuse")
        try stage.write(6...9)
        let before = try stage.state()
        // Where another test's transaction holds the rows back there is nothing to fail yet.
        #expect(
            try await eventually {
                let ended = try stage.run("refresh", "log")
                return ended.status == 1 && ended.errors.contains("not today")
            })
        #expect(try stage.state()[1] == before[1])
        #expect(
            try stage.value("SELECT last_value FROM roneo.control_replica") == "5",
            "the position stays with the rows")
        try stage.dest.execute("DROP FUNCTION refuse CASCADE")
        #expect(try await stage.refreshUntilEqual())
    }

    /// Without a key: what was committed and is read again would be there twice.
    @Test func killsAtAnyMomentLoseAndDoubleNothing() async throws {
        let stage = try Stage()
        try stage.follow(key: false, "batch_limit => 2")
        var kills = 0
        for round in 0..<25 {
            try stage.write(round * 8 + 1...round * 8 + 8)
            let process = try stage.start(["refresh", "log"])
            // From its first steps to the last of its batches.
            try await Task.sleep(for: .milliseconds(round * 6))
            process.send(SIGKILL)
            if process.wait().status == 128 + SIGKILL { kills += 1 }
        }
        #expect(kills > 0)
        #expect(try await stage.refreshUntilEqual())
    }
}

/// A refresh that is held up, and the session that does it.
private struct Held {
    let stage: Stage
    let process: RoneoProcess
    private let place: FollowFailureTests.Place
    private let holder: Connection
    private let before: [String?]

    init(at place: FollowFailureTests.Place, key: Bool) async throws {
        self.place = place
        let stage = try Stage()
        self.stage = stage
        try stage.follow(key ? "updater" : "inserter", key: key, rows: 5)
        try #require(try await stage.refreshUntilEqual())
        // Enough for a transfer that nobody waits for the end of.
        try stage.write(6...5_000)
        // What others have open on the servers that these tests share would hold them back.
        try #require(
            try await eventually {
                try stage.source.execute(
                    """
                    SELECT bool_and(age(xmin) > age(pg_snapshot_xmin(pg_current_snapshot())::xid)) \
                    FROM log
                    """
                ).value == "t"
            })
        before = try stage.state()
        holder =
            try place == .asking ? stage.pair.connectSource() : stage.pair.connectDestination()
        try holder.execute("BEGIN")
        switch place {
        case .asking: try holder.execute("LOCK TABLE log IN ACCESS EXCLUSIVE MODE")
        case .reading: try stage.holdReading(at: 4_000)
        case .putting: try holder.execute("LOCK TABLE log IN SHARE MODE")
        case .finishing: try holder.execute("SELECT FROM roneo.control_replica FOR UPDATE")
        case .committing:
            try stage.dest.execute(
                """
                CREATE TABLE gate (id int); \
                CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
                'BEGIN LOCK TABLE public.gate IN ACCESS SHARE MODE; RETURN NULL; END'
                """)
            try stage.runAtCommit("wait")
            try holder.execute("LOCK TABLE gate IN ACCESS EXCLUSIVE MODE")
        }
        process = try stage.start(["refresh", "log"])
        let side = place == .asking ? stage.source : stage.dest
        let isHeld = try await eventually {
            try stage.isHeld(reading: place == .reading, on: side)
        }
        try #require(isHeld, "\(place): \(process.errorsSoFar)")
    }

    /// Ends what the refresh waits for.
    func letGo() throws { holder.rollback() }

    func terminate(_ side: FollowFailureTests.Side) throws {
        let connection = side == .source ? stage.source : stage.dest
        let ended = try connection.execute(
            """
            SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
            WHERE datname = current_database() AND application_name LIKE 'roneo %' \
            AND (state <> 'idle' OR \(side == .source))
            """)
        #expect(ended.value != "0")
    }

    /// Rows and position are as they were; then a refresh that brings everything once.
    func expectUnharmed(
        isAsked: Bool = false, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        #expect(try stage.state() == before, sourceLocation: sourceLocation)
        holder.close()
        try stage.goOnReading()
        #expect(try await eventually(stage.isClean), sourceLocation: sourceLocation)
        // A COMMIT that was sent is the server's, whatever becomes of who sent it.
        if place != .committing || !isAsked {
            #expect(try stage.state() == before, sourceLocation: sourceLocation)
        }
        #expect(try await stage.refreshUntilEqual(), sourceLocation: sourceLocation)
    }
}

extension Stage {
    /// Has a trigger function run in the COMMIT of whoever writes to the copy, and no sooner.
    fileprivate func runAtCommit(_ function: String) throws {
        try dest.execute(
            SQL(
                verbatim: """
                    CREATE TABLE more (id int);
                    CREATE FUNCTION put_off() RETURNS trigger LANGUAGE plpgsql AS
                        'BEGIN SET CONSTRAINTS ALL DEFERRED; INSERT INTO public.more VALUES (1);
                            RETURN NULL; END';
                    CREATE CONSTRAINT TRIGGER at_checks AFTER INSERT ON log
                        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
                        WHEN (new.id % 1000 = 6) EXECUTE FUNCTION put_off();
                    CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON more
                        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION \(function)()
                    """))
    }

    /// Whether a runner's session waits for a lock, or copies on both sides.
    fileprivate func isHeld(reading: Bool, on connection: Connection) throws -> Bool {
        let waits: SQL = """
            SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND application_name LIKE 'roneo %' AND wait_event_type = 'Lock'
            """
        let copies: SQL = """
            SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND application_name LIKE 'roneo %' AND state = 'active' AND query LIKE 'COPY %'
            """
        guard reading else { return try connection.execute(waits).value != "0" }
        return try source.execute(copies).value != "0" && dest.execute(copies).value != "0"
    }
}
