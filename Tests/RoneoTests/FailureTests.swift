import Foundation
import Postgres
import TestSupport
import Testing

/// Refreshes that end in the middle: the destination stays as it was, nothing is left behind, and
/// the next refresh is right.
@Suite struct FailureTests {
    @Test(
        "INT and TERM cancel both servers and roll back",
        arguments: [SIGINT, SIGTERM], ["plain", "snapshot"])
    func signals(signal: Int32, method: String) async throws {
        let stage = try Stage()
        try stage.makeSlowReplica(method: method)
        let process = try await stage.startSlowRefresh()
        process.send(signal)
        let ended = process.wait()
        #expect(ended.status == (signal == SIGINT ? 130 : 143), "\(ended)")
        #expect(
            try stage.value(
                "SELECT outcome || ' ' || sqlstate FROM roneo.run ORDER BY run_id DESC LIMIT 1")
                == "failed 57014")
        try await expectUnharmed(stage)
    }

    @Test func aKilledRunnerIsSeenAfterwards() async throws {
        let stage = try Stage()
        try stage.makeSlowReplica()
        let process = try await stage.startSlowRefresh()
        process.send(SIGKILL)
        #expect(process.wait().status == 128 + SIGKILL)
        #expect(
            try stage.value("SELECT outcome FROM roneo.run ORDER BY run_id DESC LIMIT 1")
                == "running")
        #expect(try await eventually(stage.isClean), "its backends notice by themselves")
        #expect(
            try await eventually {
                let status = try stage.run("status")
                let history = try stage.run("history", "slow")
                return status.output.contains("abandoned") && history.output.contains("abandoned")
            })
        try await expectUnharmed(stage)
        #expect(
            try stage.value("SELECT count(*) FROM roneo.run WHERE outcome = 'abandoned'") == "1")
        #expect(try stage.value("SELECT count(*) FROM roneo.run WHERE outcome = 'running'") == "0")
    }

    @Test("a backend that is terminated fails the refresh", arguments: ["source", "destination"])
    func terminated(side: String) async throws {
        let stage = try Stage()
        try stage.makeSlowReplica()
        let process = try await stage.startSlowRefresh()
        try stage.terminateCopy(on: side == "source" ? stage.source : stage.dest)
        let ended = process.wait()
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.errors.contains("refresh of public.slow from source src failed"))
        #expect(ended.errors.contains("on the \(side)"))
        #expect(
            try stage.value("SELECT outcome FROM roneo.run ORDER BY run_id DESC LIMIT 1")
                == "failed")
        try await expectUnharmed(stage)
    }

    @Test(
        "a destination that rejects a row keeps what it had",
        arguments: [
            ("ALTER TABLE slow ADD CONSTRAINT no_new CHECK (v = 'old')", "23514"),
            (
                """
                CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
                    AS 'BEGIN RAISE EXCEPTION ''not today''; END';
                CREATE TRIGGER refuse BEFORE INSERT ON slow
                    FOR EACH ROW WHEN (new.v = 'new') EXECUTE FUNCTION refuse()
                """, "P0001"
            ),
        ])
    func rejected(obstacle: String, sqlState: String) async throws {
        let stage = try Stage()
        try stage.makeSlowReplica()
        try stage.makeFast()
        try stage.dest.execute(SQL(verbatim: obstacle))
        let ended = try stage.run("refresh", "slow")
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.errors.contains(sqlState))
        #expect(ended.errors.contains("on the destination"))
        try stage.dest.execute(
            """
            ALTER TABLE slow DROP CONSTRAINT IF EXISTS no_new; \
            DROP TRIGGER IF EXISTS refuse ON slow
            """)
        try await expectUnharmed(stage)
    }

    @Test func aTriggerThatSwallowsRowsIsNoticed() async throws {
        let stage = try Stage()
        try stage.makeSlowReplica()
        try stage.makeFast()
        try stage.dest.execute(
            """
            CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
            CREATE TRIGGER swallow BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION swallow()
            """)
        let ended = try stage.run("refresh", "slow")
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.errors.contains("RO014"))
        try stage.dest.execute("DROP TRIGGER swallow ON slow")
        try await expectUnharmed(stage)
    }

    @Test func aDeadlockIsTriedAgain() throws {
        let stage = try Stage()
        try stage.makeSlowReplica()
        try stage.makeFast()
        // A sequence counts the attempts: a rollback does not take it back.
        try stage.dest.execute(
            """
            CREATE SEQUENCE attempts; \
            CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN \
            IF nextval('public.attempts') < 3 THEN RAISE EXCEPTION USING ERRCODE = '40P01'; END IF; \
            RETURN NULL; END$$; \
            CREATE TRIGGER stumble AFTER INSERT ON slow EXECUTE FUNCTION stumble()
            """)
        let ended = try stage.run("refresh", "slow")
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.errors.isEmpty)
        #expect(try stage.rows() == "1 new, 2 new, 3 new")
        #expect(
            try stage.value(
                "SELECT string_agg(outcome, ',' ORDER BY run_id) FROM roneo.run WHERE hand = 'runner'"
            )
                == "failed,failed,ok")
    }

    @Test func bothServersShowWhoIsWorkingOnWhat() async throws {
        let stage = try Stage()
        try stage.makeSlowReplica()
        let process = try await stage.startSlowRefresh()
        for connection in [stage.source, stage.dest] {
            let name =
                try connection.execute(
                    """
                    SELECT application_name FROM pg_stat_activity \
                    WHERE datname = current_database() AND query LIKE 'COPY %' AND state = 'active'
                    """
                ).value ?? ""
            #expect(name.hasPrefix("roneo ") && name.hasSuffix("slow"), "\(name)")
        }
        process.send(SIGTERM)
        #expect(process.wait().status == 143)
    }

    @Test func twoRefreshesAtOnceAreOne() async throws {
        let stage = try Stage()
        try stage.makeSlowReplica()
        let first = try await stage.startSlowRefresh()
        let second = try stage.run("refresh", "slow")
        #expect(second.status == 75, "\(second)")
        first.send(SIGTERM)
        #expect(first.wait().status == 143)
        try await expectUnharmed(stage)
    }

    @Test func aBusyViewIsShownLater() async throws {
        let stage = try Stage()
        try stage.makeReplica()
        #expect(try stage.run("refresh", "t").status == 0)
        try stage.dest.execute(
            "INSERT INTO roneo.setting VALUES ('lock_timeout_ms', '20'), ('lock_attempts', '2')")
        try stage.source.execute("DELETE FROM t WHERE id > 10")
        let reader = try stage.pair.connectDestination()
        try reader.execute("BEGIN; SELECT count(*) FROM t")
        let deferred = try stage.run("refresh", "t", "--force")
        #expect(deferred.status == 75, "\(deferred)")
        #expect(try reader.execute("SELECT count(*) FROM t").value == "100")
        reader.close()
        #expect(try stage.run("refresh", "t").status == 0)
        #expect(try stage.value("SELECT count(*) FROM t") == "10")
    }

    @Test func theSourceIsNotHeldUpWhileTheViewIsBusy() async throws {
        let (stage, reader, process) = try await waitingForAReader()
        #expect(
            try await eventually {
                try stage.source.execute(
                    """
                    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND application_name LIKE 'roneo %' AND state <> 'idle'
                    """
                ).value == "0"
            })
        reader.close()
        #expect(process.wait().status == 0)
        #expect(try stage.value("SELECT count(*) FROM t") == "10")
    }

    @Test func aWaitForALockIsCancelledToo() async throws {
        let (stage, reader, process) = try await waitingForAReader()
        process.send(SIGTERM)
        #expect(process.wait().status == 143)
        reader.close()
        #expect(try await eventually(stage.isClean))
        #expect(try stage.value("SELECT count(*) FROM t") == "100")
        #expect(try stage.run("refresh", "t").status == 0)
        #expect(try stage.value("SELECT count(*) FROM t") == "10")
    }

    /// A refresh that has loaded its 10 rows, and waits for one who still reads the old 100.
    private func waitingForAReader() async throws -> (Stage, Connection, RoneoProcess) {
        let stage = try Stage()
        try stage.makeReplica()
        #expect(try stage.run("refresh", "t").status == 0)
        try stage.dest.execute(
            "INSERT INTO roneo.setting VALUES ('lock_timeout_ms', '100'), ('lock_attempts', '9999')"
        )
        try stage.source.execute("DELETE FROM t WHERE id > 10")
        let reader = try stage.pair.connectDestination()
        try reader.execute("BEGIN; SELECT count(*) FROM t")
        let process = try stage.start(["refresh", "t", "--force"])
        let isWaiting = try await eventually {
            try stage.dest.execute(
                """
                SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND application_name LIKE 'roneo %' AND wait_event_type = 'Lock'
                """
            ).value != "0"
        }
        try #require(isWaiting)
        return (stage, reader, process)
    }

    /// What was there before is still there and nothing else is; then a refresh that goes through.
    private func expectUnharmed(
        _ stage: Stage, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        #expect(try await eventually(stage.isClean), sourceLocation: sourceLocation)
        #expect(try stage.rows() == "1 old, 2 old", sourceLocation: sourceLocation)
        try stage.makeFast()
        let ended = try stage.run("refresh", "slow")
        #expect(ended.status == 0, "\(ended)", sourceLocation: sourceLocation)
        #expect(try stage.rows() == "1 new, 2 new, 3 new", sourceLocation: sourceLocation)
        #expect(try await eventually(stage.isClean), sourceLocation: sourceLocation)
    }
}
