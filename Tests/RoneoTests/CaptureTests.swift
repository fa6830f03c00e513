import Foundation
import Postgres
import TestSupport
import Testing

@Suite(.serialized) struct CaptureTests {
    @Test("the first refresh loads frozen rows", arguments: ["dml", "logdel"])
    func load(method: String) throws {
        let captured = try CapturedStage(method, isLoaded: false)
        let reader = try captured.stage.pair.connectDestination()
        try reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        let ended = try captured.stage.run("refresh", "t")
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.isEmpty && ended.errors.isEmpty)
        // Frozen rows are seen by an older snapshot too; others would be missing.
        #expect(try reader.execute("SELECT count(*) FROM t").value == "100")
        #expect(try captured.liveRows() == captured.sourceRows())
        let run: SQL = "SELECT concat_ws(' ', outcome, hand, inserted) FROM roneo.run"
        #expect(try captured.stage.value(run) == "ok runner 100")
        #expect(try captured.isConfirmed())
    }

    @Test("the first refresh builds the indexes after the rows", arguments: ["dml", "logdel"])
    func indexes(method: String) throws {
        let captured = try CapturedStage(method, isLoaded: false)
        let stage = captured.stage
        try stage.dest.execute(
            """
            CREATE INDEX extra ON t (lower(v)) WHERE id > 1; \
            ALTER TABLE t ADD CONSTRAINT at_end UNIQUE (id, v) DEFERRABLE INITIALLY DEFERRED
            """)
        let definitions: SQL = """
            SELECT string_agg(concat_ws(' ', pg_get_indexdef(x.indexrelid), k.conname, \
            pg_get_constraintdef(k.oid)), '; ' ORDER BY x.indexrelid::regclass::text) \
            FROM pg_index AS x LEFT JOIN pg_constraint AS k ON k.conindid = x.indexrelid \
            WHERE x.indrelid = 't'::regclass
            """
        let oids: SQL =
            "SELECT max(indexrelid::bigint) FROM pg_index WHERE indrelid = 't'::regclass"
        let (before, known) = (try stage.value(definitions), try stage.value(oids))
        #expect(try stage.run("refresh", "t").status == 0)
        #expect(try stage.value(definitions) == before)
        #expect(try stage.value(oids) != known)
        try captured.change()
        try captured.expectCatchUp()
    }

    @Test func anIndexThatOthersDependOnStays() throws {
        let captured = try CapturedStage("dml", isLoaded: false)
        let stage = captured.stage
        try stage.dest.execute("CREATE VIEW by_key AS SELECT id, v FROM t GROUP BY id")
        let oids: SQL =
            "SELECT max(indexrelid::bigint) FROM pg_index WHERE indrelid = 't'::regclass"
        let known = try stage.value(oids)
        let ended = try stage.run("refresh", "t")
        #expect(ended.status == 0, "\(ended)")
        #expect(try stage.value(oids) == known)
        #expect(try captured.liveRows() == captured.sourceRows())
    }

    @Test("what changed is brought and counted", arguments: ["dml", "logdel"])
    func replay(method: String) throws {
        let captured = try CapturedStage(method)
        try captured.change()
        try captured.expectCatchUp()
        let counts: SQL = """
            SELECT concat_ws(' ', outcome, inserted, updated, unchanged, deleted) FROM roneo.run \
            ORDER BY run_id DESC LIMIT 1
            """
        // 200 is new, since 6 went.
        #expect(try captured.stage.value(counts) == "ok 4 3 0 3")
        #expect(try captured.stage.run("refresh", "t").status == 0)
        #expect(try captured.stage.value(counts) == "unchanged")
    }

    @Test("a backlog is read in batches", arguments: ["dml", "logdel"])
    func batches(method: String) throws {
        let captured = try CapturedStage(method, batchLimit: 10)
        for first in [10, 20, 30, 40, 50] {
            try captured.stage.source.execute(
                "UPDATE t SET v = 'later' WHERE id BETWEEN \(first)::int AND \(first + 9)::int")
        }
        // Deletes what an earlier batch has changed.
        try captured.stage.source.execute("DELETE FROM t WHERE id IN (15, 35, 99)")
        #expect(try captured.stage.run("refresh", "t").status == 0)
        #expect(try captured.liveRows() == captured.sourceRows())
        if method == "logdel" {
            #expect(try captured.graves() == "15 later, 35 later, 99 row 99")
        }
        #expect(
            try captured.stage.value(
                """
                SELECT string_agg(has_more::text, ' ' ORDER BY run_id) FROM roneo.run \
                WHERE hand = 'runner'
                """) == "true true true true true false")
        #expect(try captured.isConfirmed())
    }

    @Test func aPausedCaptureIsWaitedFor() throws {
        let captured = try CapturedStage("dml")
        try captured.stage.dest.execute("SELECT roneo.pause_capture('t')")
        try captured.change()
        let deferred = try captured.stage.run("refresh", "t")
        #expect(deferred.status == 75, "\(deferred)")
        #expect(
            try captured.stage.value("SELECT concat_ws(' ', state, failures) FROM roneo.status")
                == "deferred 0")
        try captured.stage.dest.execute("SELECT roneo.resume_capture('t')")
        try captured.expectCatchUp()
    }

    @Test func aTableInUseIsLoadedLater() throws {
        let captured = try CapturedStage("dml", isLoaded: false)
        try captured.stage.dest.execute(
            "INSERT INTO roneo.setting VALUES ('lock_timeout_ms', '20'), ('lock_attempts', '2')")
        let reader = try captured.stage.pair.connectDestination()
        try reader.execute("BEGIN; SELECT FROM t")
        let deferred = try captured.stage.run("refresh", "t")
        #expect(deferred.status == 75, "\(deferred)")
        reader.close()
        try captured.change()
        try captured.expectCatchUp()
    }

    @Test func whatIsNotCapturedIsShownWithTheWayOut() throws {
        let captured = try CapturedStage("dml")
        try captured.stage.source.execute("DROP TRIGGER roneo_capture_1_update ON t")
        try captured.change()
        let before = try captured.liveRows()
        for command in [["refresh", "t"], ["plan", "t"]] {
            let failed = try captured.stage.start(command).wait()
            #expect(failed.status == 1, "\(failed)")
            #expect(failed.errors.contains("RO024"))
            #expect(failed.errors.contains("SELECT roneo.resync('public.t')"))
        }
        #expect(try captured.liveRows() == before)
        try captured.stage.dest.execute("SELECT roneo.resync('public.t')")
        try captured.expectCatchUp()
    }

    @Test func twoRefreshesAtOnceAreOne() async throws {
        let captured = try CapturedStage("dml")
        try captured.change()
        let (first, gate) = try await captured.startRefresh(heldAt: .putting)
        let second = try captured.stage.run("refresh", "t")
        #expect(second.status == 75, "\(second)")
        gate.open()
        #expect(first.wait().status == 0)
        #expect(try captured.liveRows() == captured.sourceRows())
    }

    @Test func whatFailsAfterTheCommitIsOnlyLogged() async throws {
        let captured = try CapturedStage("dml")
        try captured.change()
        let (process, gate) = try await captured.startRefresh(
            heldAt: .putting, "--log-level", "notice")
        try captured.stage.source.execute(
            "ALTER FUNCTION roneo_capture.attend RENAME TO away")
        gate.open()
        let ended = process.wait()
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.errors.contains("42883"), "\(ended)")
        #expect(try captured.liveRows() == captured.sourceRows())
        #expect(try !captured.isConfirmed())
        try captured.stage.source.execute(
            "ALTER FUNCTION roneo_capture.away RENAME TO attend")
        try captured.stage.source.execute("UPDATE t SET v = 'last' WHERE id = 1")
        try captured.expectCatchUp()
    }

    @Test func plansAndStatesAreShown() throws {
        let captured = try CapturedStage("logdel")
        try captured.change()
        let position: SQL = "SELECT position::text FROM roneo.capture_replica"
        let before = try captured.stage.value(position)
        let plan = try captured.stage.run("plan", "t")
        #expect(plan.status == 0, "\(plan)")
        for purpose in [
            "read the last values of deleted rows", "read what changed",
            "tell the source how far the copy is",
        ] {
            #expect(plan.output.contains(purpose), "\(plan)")
        }
        #expect(try captured.stage.value(position) == before)
        #expect(try captured.graves() == nil)
        for command in ["status", "history"] {
            let shown = try captured.stage.run(command)
            #expect(shown.status == 0)
            #expect(shown.output.contains("public.t"), "\(shown)")
        }
        try captured.expectCatchUp()
    }
}
