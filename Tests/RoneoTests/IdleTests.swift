import Foundation
import Postgres
import TestSupport
import Testing

/// Replicas that have nothing to do, as `roneo run` finds out without refreshing them.
@Suite struct IdleTests {
    private static let methods = ["inserter", "updater", "snapshot"]

    /// A source table `t` with a replica of each method, all refreshed, of which none is idle only
    /// by luck: the rows were counted before.
    private func makeStage() async throws -> Stage {
        let stage = try Stage()
        try write(stage, "CREATE TABLE t (id int PRIMARY KEY, v text)")
        try write(stage, "INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 100) AS n")
        // So long that nobody's own moment to ask the rows comes while this runs.
        try stage.dest.execute("INSERT INTO roneo.setting VALUES ('exact_check_s', '99999999')")
        try stage.dest.execute(
            """
            SELECT roneo.create_inserter('src', 't', 'inserter', control => 'id', \
            refresh_every => '1 ms'), \
            roneo.create_updater('src', 't', 'updater', control => 'id', refresh_every => '1 ms'), \
            roneo.create_snapshot('src', 't', 'snapshot', refresh_every => '1 ms')
            """)
        let isQuiet = try await eventually {
            let refreshed = try refreshes(stage)
            #expect(try stage.run("run").status == 0)
            return try refreshes(stage) == refreshed
        }
        try #require(isQuiet)
        return stage
    }

    /// What a session has counted others know when it has ended.
    private func write(_ stage: Stage, _ statement: String) throws {
        let writer = try stage.pair.connectSource()
        try writer.execute(SQL(verbatim: statement))
        writer.close()
    }

    private func refreshes(_ stage: Stage) throws -> String? {
        try stage.value("SELECT sum(repeats) FROM roneo.run")
    }

    private func rows(_ stage: Stage) throws -> String? {
        try stage.value(
            """
            SELECT (SELECT count(*) FROM inserter) || ' ' || (SELECT count(*) FROM updater) \
            || ' ' || (SELECT count(*) FROM snapshot)
            """)
    }

    /// How many replicas were looked at as a whole since the test has looked.
    private func generations(_ stage: Stage) throws -> Int {
        Int(try stage.value("SELECT sum(generation) FROM roneo.replica") ?? "") ?? 0
    }

    @Test func countersTellWithoutARefresh() async throws {
        let stage = try await makeStage()
        let (before, looked) = (
            try generations(stage), try stage.value("SELECT max(looked_at) FROM roneo.replica")
        )
        let refreshed = try refreshes(stage)
        let ended = try stage.run("run", "--json")
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.components(separatedBy: "\"unchanged\"").count - 1 == 3, "\(ended)")
        #expect(try generations(stage) == before + 3)
        #expect(try refreshes(stage) == refreshed)
        #expect(try stage.value("SELECT max(looked_at) FROM roneo.replica") == looked)
        #expect(try await eventually(stage.isClean))
    }

    @Test func whatIsCountedIsRefreshed() async throws {
        let stage = try await makeStage()
        try write(stage, "INSERT INTO t VALUES (101, 'new')")
        let isCopied = try await eventually {
            #expect(try stage.run("run").status == 0)
            return try rows(stage) == "101 101 101"
        }
        #expect(isCopied)
    }

    @Test func rowsAreAskedWhereCountersAreNotBelieved() async throws {
        let stage = try await makeStage()
        // A transaction of another test that is open has rows read again.
        let isAsked = try await eventually {
            let refreshed = try refreshes(stage)
            try stage.dest.execute(
                "UPDATE roneo.replica SET looked_at = now() - interval '4 years'")
            #expect(try stage.run("run").status == 0)
            #expect(
                try stage.value(
                    """
                    SELECT string_agg(method, ' ' ORDER BY method) FROM roneo.replica \
                    WHERE looked_at > now() - interval '1 minute'
                    """) == "inserter updater")
            return try refreshes(stage) == refreshed
        }
        #expect(isAsked)
    }

    /// A session that is in the middle of writing holds its lock, and a closed table holds up nobody.
    @Test(arguments: ["ROW EXCLUSIVE", "ACCESS EXCLUSIVE"])
    func aLockedTableKeepsNoOtherWaiting(mode: String) async throws {
        let stage = try await makeStage()
        try write(stage, "CREATE TABLE u (id int PRIMARY KEY, v text)")
        try stage.dest.execute(
            "SELECT roneo.create_updater('src', 'u', 'u', control => 'id', refresh_every => '1 ms')"
        )
        #expect(try stage.run("run").status == 0)
        let before = try generations(stage)
        try stage.source.execute("BEGIN")
        try stage.source.execute(SQL(verbatim: "LOCK TABLE u IN \(mode) MODE"))
        let running = try stage.start(["run"])
        let areMarked = try await eventually { try generations(stage) >= before + 3 }
        #expect(areMarked)
        try stage.source.execute("ROLLBACK")
        #expect(running.wait().status == 0)
    }

    @Test func aSourceThatIsAwayStopsNoOther() async throws {
        let stage = try await makeStage()
        try stage.dest.execute("SELECT roneo.create_source('away', \(stage.pair.source))")
        for name in ["far", "farther"] {
            try stage.dest.execute(
                "SELECT roneo.create_snapshot('away', 't', \(name), refresh_every => '1 ms')")
        }
        #expect(try stage.run("run").status == 0)
        let refreshed = try refreshes(stage)
        let ended = try stage.run("run", "--source-conninfo", "away=host=/nonexistent")
        #expect(ended.status != 0)
        #expect(
            try stage.value(
                """
                SELECT string_agg(dest || ' ' || outcome, ', ' ORDER BY dest) FROM roneo.run \
                WHERE run_id > (SELECT max(run_id) - 2 FROM roneo.run)
                """) == "public.far failed, public.farther failed")
        #expect(Int(try refreshes(stage) ?? "") == (Int(refreshed ?? "") ?? 0) + 2)
        // Failed ones wait for their refresh, whatever the counters say.
        try stage.dest.execute(
            "UPDATE roneo.replica SET last_attempt_at = now() - interval '1 hour'")
        #expect(try stage.run("run").status == 0)
        #expect(Int(try refreshes(stage) ?? "") == (Int(refreshed ?? "") ?? 0) + 4)
    }
}
