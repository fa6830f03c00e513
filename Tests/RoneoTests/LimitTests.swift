import Foundation
import Postgres
import TestSupport
import Testing

/// Refreshes that take too long, and sources that are spared.
@Suite struct LimitTests {
    @Test func aRefreshThatTakesTooLongFailsAndStopsNoOther() async throws {
        let stage = try Stage()
        try stage.makeSlowReplica()
        try stage.makeReplica("t", method: "plain")
        try stage.dest.execute("SELECT roneo.set_refresh_timeout('slow', '1 s')")
        let ended = try stage.run("refresh", "slow", "t", "--jobs", "2")
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.errors.contains("RO030"))
        #expect(ended.errors.contains("has taken 00:00:01, as long as it may"))
        #expect(ended.errors.contains("roneo.set_refresh_timeout('public.slow', …)"))
        #expect(try stage.value("SELECT count(*) FROM t") == "100")
        #expect(try lastRun(stage, of: "slow") == "failed RO030")
        try await expectUnharmed(stage)
    }

    @Test func aSnapshotThatIsOpenForTooLongIsEnded() async throws {
        let stage = try Stage()
        try stage.makeSlowReplica(method: "snapshot")
        try stage.dest.execute("SELECT roneo.set_source_limits('src', max_snapshot => '1 s')")
        let ended = try stage.run("refresh", "slow")
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.errors.contains("a snapshot of source src has been open for 00:00:01"))
        #expect(try lastRun(stage, of: "slow") == "failed RO031")
        try await expectUnharmed(stage)
    }

    @Test func whatIsDoneAfterTheSnapshotMayTakeItsTime() throws {
        let stage = try Stage()
        try stage.makeReplica("t", method: "plain")
        try stage.dest.execute(
            """
            SELECT roneo.set_source_limits('src', max_snapshot => '3 s'); \
            CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql \
            AS 'BEGIN PERFORM pg_sleep(3.5); RETURN NULL; END'; \
            CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED \
            FOR EACH ROW WHEN (new.id = 7) EXECUTE FUNCTION dawdle()
            """)
        let ended = try stage.run("refresh", "t")
        #expect(ended.status == 0, "\(ended)")
        #expect(try stage.value("SELECT count(*) FROM t") == "100")
    }

    @Test func theTimeOfARunEndsWhatStillRuns() async throws {
        let stage = try Stage()
        try stage.makeSlowReplica()
        try stage.dest.execute(
            """
            UPDATE roneo.replica SET refresh_every = '1 s', created_at = now() - interval '2 hours', \
            last_success_at = now() - interval '1 hour'
            """)
        let ended = try stage.run("run", "--cancel-after", "1s")
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.errors.contains("cancelled: the run has taken 1.0 seconds"))
        #expect(ended.errors.contains("--cancel-after"))
        #expect(try lastRun(stage, of: "slow") == "failed RO030")
        try await expectUnharmed(stage)
    }

    @Test func twoRunnersShareTheConnectionsOfASource() async throws {
        let stage = try Stage()
        try stage.makeSlowReplica()
        try stage.makeReplica("t", method: "plain")
        try stage.dest.execute("SELECT roneo.set_source_limits('src', max_connections => 1)")
        let first = try await stage.startSlowRefresh()
        let second = try stage.run("refresh", "t")
        #expect(second.status == 75, "\(second)")
        #expect(try lastRun(stage, of: "t") == "deferred RO033")
        let sources = try stage.run("status", "--sources")
        #expect(sources.output.contains("1 of 1"), "\(sources)")
        first.send(SIGTERM)
        #expect(first.wait().status == 143)
        let third = try stage.run("refresh", "t")
        #expect(third.status == 0, "\(third)")
    }

    @Test func theJobsOfOneRunnerTakeTurns() throws {
        let stage = try Stage()
        for name in ["a", "b", "c", "d"] { try stage.makeReplica(name, method: "plain") }
        try stage.dest.execute("SELECT roneo.set_source_limits('src', max_connections => 1)")
        let ended = try stage.run("refresh", "a", "b", "c", "d", "--jobs", "4")
        #expect(ended.status == 0, "\(ended)")
        #expect(
            try stage.value("SELECT count(*) FROM roneo.run WHERE outcome <> 'ok'") == "0")
    }

    @Test func aPausedSourceIsLeftAlone() async throws {
        let stage = try Stage()
        for name in ["a", "b", "c"] { try stage.makeReplica(name, method: "plain") }
        try stage.dest.execute("SELECT roneo.set_source_limits('src', max_xmin_age => 3000)")
        let holder = try stage.pair.connectSource()
        try holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        try stage.source.execute(
            "DO $$BEGIN FOR n IN 1..4000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END$$"
        )
        for _ in 1...2 {
            let ended = try stage.run("refresh", "a", "b", "c", "--jobs", "2", "--json")
            #expect(ended.status == 75, "\(ended)")
            #expect(ended.output.contains("source src is paused: its oldest snapshot, of process "))
        }
        #expect(try stage.value("SELECT count(*) FROM roneo.run") == "3", "one row a replica")
        #expect(try stage.run("status", "--sources").output.contains("paused"))
        #expect(try stage.run("status", "--sources", "--json").output.contains("\"max_xmin_age\""))
        holder.close()
        #expect(
            try await eventually {
                try stage.run("refresh", "a", "b", "c", "--jobs", "2").status == 0
            })
        #expect(try stage.value("SELECT state FROM roneo.sources") == "ok")
    }

    @Test func aRoleThatMayNotKnowIsToldSo() throws {
        let stage = try Stage()
        try stage.makeReplica("t", method: "plain")
        try stage.source.execute(
            """
            DROP ROLE IF EXISTS blind; CREATE ROLE blind LOGIN; GRANT SELECT ON t TO blind
            """)
        try stage.dest.execute(
            """
            SELECT roneo.set_source_limits('src', max_lag => '1 min'); \
            ALTER USER MAPPING FOR CURRENT_USER SERVER roneo_src OPTIONS (SET user 'blind')
            """)
        let ended = try stage.run("refresh", "t")
        #expect(ended.status == 0, "\(ended)")
        let preflight = try stage.run("preflight", "src")
        #expect(preflight.status == 1)
        #expect(preflight.output.contains("GRANT pg_read_all_stats TO blind;"), "\(preflight)")
        #expect(
            try stage.value("SELECT level FROM roneo.check() WHERE check_name = 'limits'")
                == "WARNING")
        try stage.source.execute("DROP OWNED BY blind; DROP ROLE blind")
    }

    @Test(arguments: [
        ["--cancel-after", "0"], ["--cancel-after", "soon"], ["--stall-timeout", "-1"],
    ])
    func wrongLimitsAreUsageErrors(arguments: [String]) throws {
        let ended = try RoneoProcess(["run"] + arguments).wait()
        #expect(ended.status == 64, "\(ended)")
    }

    private func lastRun(_ stage: Stage, of name: String) throws -> String? {
        try stage.dest.execute(
            """
            SELECT concat_ws(' ', outcome, sqlstate) FROM roneo.run \
            WHERE dest = \("public.\(name)") ORDER BY run_id DESC LIMIT 1
            """
        ).value
    }

    /// As in ``FailureTests``: nothing is left, and the next refresh goes through.
    private func expectUnharmed(_ stage: Stage) async throws {
        #expect(try await eventually(stage.isClean))
        #expect(try stage.rows() == "1 old, 2 old")
        try stage.makeFast()
        // A busy machine may take a second for it.
        try stage.dest.execute(
            "SELECT roneo.set_refresh_timeout('slow', NULL), roneo.set_source_limits('src')")
        let ended = try stage.run("refresh", "slow")
        #expect(ended.status == 0, "\(ended)")
        #expect(try stage.rows() == "1 new, 2 new, 3 new")
    }
}
