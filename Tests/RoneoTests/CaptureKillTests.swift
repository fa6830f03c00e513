import Foundation
import Postgres
import TestSupport
import Testing

/// Whatever ends a refresh, at whatever step: the next one brings everything, and nothing twice.
@Suite(.serialized) struct CaptureKillTests {
    enum Victim: String, CaseIterable, CustomTestStringConvertible {
        case runner, destination, source
        var testDescription: String { rawValue }
    }

    @Test(
        "a refresh of dml is killed", arguments: CapturedStage.Hold.allCases, Victim.allCases)
    func dml(hold: CapturedStage.Hold, victim: Victim) async throws {
        try await kill(victim, at: hold, of: CapturedStage("dml"))
    }

    @Test(
        "a refresh of logdel is killed", arguments: CapturedStage.Hold.allCases, Victim.allCases)
    func logdel(hold: CapturedStage.Hold, victim: Victim) async throws {
        try await kill(victim, at: hold, of: CapturedStage("logdel"))
    }

    @Test("a first load is killed", arguments: Victim.allCases)
    func load(victim: Victim) async throws {
        let captured = try CapturedStage("dml", isLoaded: false)
        let (process, gate) = try await captured.startRefresh(heldAt: .putting)
        try end(process, victim, captured)
        gate.open()
        #expect(process.wait().status != 0)
        #expect(try await eventually(captured.stage.isClean))
        #expect(try captured.liveRows() == "")
        try captured.change()
        try captured.expectCatchUp()
    }

    private func kill(
        _ victim: Victim, at hold: CapturedStage.Hold, of captured: CapturedStage
    ) async throws {
        let before = try captured.sourceRows()
        try captured.change()
        let (process, gate) = try await captured.startRefresh(heldAt: hold)
        try end(process, victim, captured)
        gate.open()
        let ended = process.wait()
        #expect(try await eventually(captured.stage.isClean))
        if hold == .telling || victim == .source && !hold.isAtSource {
            // It is committed: the source is not needed any more once all is read.
            #expect(ended.status == 0 || victim == .runner, "\(ended)")
            #expect(try captured.liveRows() == captured.sourceRows())
            #expect(try captured.isConfirmed() == (victim != .source))
        } else {
            #expect(ended.status != 0)
            #expect(try captured.liveRows() == before)
            #expect(try captured.graves() == nil)
        }
        try captured.expectCatchUp()
        // And what comes after it.
        try captured.stage.source.execute("UPDATE t SET v = 'last' WHERE id IN (1, 50, 101)")
        try captured.expectCatchUp()
    }

    private func end(
        _ process: RoneoProcess, _ victim: Victim, _ captured: CapturedStage
    ) throws {
        switch victim {
        case .runner:
            process.send(SIGKILL)
            _ = process.wait()
        case .destination: try captured.terminateRefresh(on: captured.stage.dest)
        case .source: try captured.terminateRefresh(on: captured.stage.source)
        }
    }

    /// Constraints are checked before the end; what is refused after that is refused by the COMMIT.
    @Test("the COMMIT itself fails", arguments: ["dml", "logdel"])
    func commitFails(method: String) throws {
        let captured = try CapturedStage(method)
        let before = try captured.liveRows()
        try captured.stage.dest.execute(
            """
            CREATE FUNCTION put_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            SET CONSTRAINTS ALL DEFERRED; RETURN new; END $$; \
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            RAISE EXCEPTION 'not today'; END $$; \
            CREATE TRIGGER put_off BEFORE UPDATE ON roneo.capture_replica \
            FOR EACH ROW EXECUTE FUNCTION put_off(); \
            CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON roneo.capture_replica \
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()
            """)
        try captured.change()
        let ended = try captured.stage.run("refresh", "t")
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.errors.contains("committing") && ended.errors.contains("not today"))
        #expect(try captured.liveRows() == before)
        try captured.stage.dest.execute(
            """
            DROP TRIGGER refuse ON roneo.capture_replica; \
            DROP TRIGGER put_off ON roneo.capture_replica
            """)
        try captured.expectCatchUp()
    }

    @Test("who called the refresh rolls back", arguments: ["dml", "logdel"])
    func callerRollsBack(method: String) throws {
        let captured = try CapturedStage(method)
        let before = try captured.liveRows()
        try captured.change()
        let refresh: SQL = "SELECT (roneo.refresh('t', raise_errors => true)).outcome"
        try captured.stage.dest.execute("BEGIN")
        #expect(try captured.stage.value(refresh) == "ok")
        try captured.stage.source.execute("DELETE FROM t WHERE id = 70")
        // What this transaction may still take back is not told to the source.
        #expect(try captured.stage.value(refresh) == "ok")
        #expect(try captured.stage.value(refresh) == "unchanged")
        #expect(try captured.liveRows() == captured.sourceRows())
        try captured.stage.source.execute("INSERT INTO t VALUES (70, 'row 70')")
        try captured.stage.dest.execute("ROLLBACK")
        try captured.stage.source.execute(
            "SELECT roneo_capture.rotate(capture_id, 1) FROM roneo_capture.capture")
        #expect(try captured.liveRows() == before)
        #expect(try captured.stage.run("refresh", "t").status == 0)
        #expect(try captured.liveRows() == captured.sourceRows())
        if method == "logdel" {
            #expect(try captured.graves() == "4 row 4, 5 row 5, 6 row 6, 70 row 70")
        }
    }
}
