import Foundation
import Postgres
import TestSupport
import Testing

/// Which of the replicas that are due `roneo run` begins, and what becomes of those that fail.
@Suite struct ScheduleTests {
    /// Replicas of one table, all due; the first one for longest.
    private func makeStage(_ names: [String]) throws -> Stage {
        let stage = try Stage()
        try stage.source.execute(
            "CREATE TABLE t AS SELECT n AS id, 'row ' || n AS v FROM generate_series(1, 10) AS n")
        for (place, name) in names.enumerated() {
            try stage.dest.execute(
                "SELECT roneo.create_plain('src', 't', \(name), copy_data => false, refresh_every => '1 day')"
            )
            try stage.dest.execute(
                """
                UPDATE roneo.replica \
                SET created_at = now() - make_interval(mins => 60 - \(place)::integer) \
                WHERE dest = \(name)::regclass
                """)
        }
        return stage
    }

    /// What was refreshed, in the order in which it began.
    private func begun(_ stage: Stage) throws -> String {
        try stage.value("SELECT string_agg(dest, ' ' ORDER BY run_id) FROM roneo.run") ?? ""
    }

    @Test func aGroupIsChosenByItsName() throws {
        let stage = try makeStage(["alone"])
        try stage.source.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
        for (name, group) in [("a", "pair"), ("b", "pair"), ("c", "Odd, \"group\"")] {
            try stage.dest.execute(
                """
                SELECT roneo.create_updater('src', 't', \(name), control => 'id', \
                copy_data => false, refresh_every => '1 day')
                """)
            try stage.dest.execute("SELECT roneo.set_refresh_group(\(name)::regclass, \(group))")
        }
        #expect(try stage.run("run", "--group", "none").status == 0)
        #expect(try begun(stage) == "")
        #expect(try stage.run("run", "--group", "Odd, \"group\"").status == 0)
        #expect(try begun(stage) == "public.c")
        #expect(try stage.run("run", "--group", "none", "--group", "pair").status == 0)
        #expect(try begun(stage) == "public.c public.a public.b")
        #expect(try stage.run("run", "--method", "updater").status == 0)
        #expect(try stage.value("SELECT count(*) FROM alone") == "0")
    }

    @Test func aShutWindowIsRespectedAndToldOf() throws {
        let stage = try makeStage(["shut", "open"])
        let hours: SQL = """
            SELECT to_char(now() AT TIME ZONE 'UTC' + interval '2 hours', 'HH24:MI') || '-' \
            || to_char(now() AT TIME ZONE 'UTC' + interval '4 hours', 'HH24:MI')
            """
        let windows = try #require(try stage.value(hours))
        try stage.dest.execute(
            "SELECT roneo.set_schedule('shut', windows => \(windows), zone => 'UTC')")
        #expect(try stage.run("run").status == 0)
        #expect(try begun(stage) == "public.open")
        let status = try stage.run("status")
        #expect(status.output.contains("\(windows) UTC"), "\(status)")
        let check = try stage.run("check")
        #expect(check.status == 0, "\(check)")
        #expect(try stage.run("refresh", "shut").status == 0)
        #expect(try begun(stage) == "public.open public.shut")
    }

    @Test func thePriorityDecides() throws {
        let stage = try makeStage(["a", "b", "c"])
        try stage.dest.execute("SELECT roneo.set_schedule('c', priority => 5)")
        try stage.dest.execute("SELECT roneo.set_schedule('a', priority => -5)")
        #expect(try stage.run("run").status == 0)
        #expect(try begun(stage) == "public.c public.b public.a")
    }

    @Test func jitterPutsOffByLessThanItsSpan() throws {
        let stage = try makeStage(["a", "b", "c"])
        try stage.dest.execute("UPDATE roneo.replica SET created_at = now() - interval '2 days'")
        try stage.dest.execute("UPDATE roneo.replica SET created_at = now() WHERE dest_name = 'a'")
        let expected = try dueUnderJitter(stage)
        #expect(try stage.run("run", "--jitter", "20h").status == 0)
        #expect(try begun(stage) == expected)
        #expect(try stage.run("run", "--jitter", "0").status == 0)
        #expect(try stage.value("SELECT count(*) FROM roneo.run WHERE dest = 'public.a'") == "1")
        #expect(try stage.run("run", "--jitter", "-1h").status == 64)
        #expect(try stage.run("run", "--jitter", "often").status == 64)
    }

    /// What is to come of it, by each one's own shift: the new one is not due for hours.
    private func dueUnderJitter(_ stage: Stage) throws -> String {
        try stage.value(
            """
            SELECT string_agg('public.' || r.dest_name, ' ' ORDER BY s.due_at) FROM roneo.replica AS r, \
            LATERAL (SELECT r.created_at + roneo.jitter_shift(r, roneo.jitter_salt(), 72000) AS due_at) AS s \
            WHERE s.due_at <= now()
            """) ?? ""
    }

    @Test func whatWouldNotEndInTimeIsNotBegun() throws {
        let stage = try makeStage(["short", "long", "unknown"])
        try stage.dest.execute(
            """
            INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, ended_at, seconds) \
            SELECT replica_id, 'earlier', 'plain', 'runner', 'ok', now() - interval '1 day', now(), 7200 \
            FROM roneo.replica WHERE dest_name = 'long'
            """)
        let ended = try stage.run("run", "--max-runtime", "1h", "--json")
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.contains("\"not_begun\":[\"public.long\"]"), "\(ended)")
        #expect(try begun(stage) == "earlier public.short public.unknown")
        // Alone it is the first one.
        #expect(try stage.run("run", "--max-runtime", "1h").status == 0)
        #expect(try begun(stage) == "earlier public.short public.unknown public.long")
    }

    @Test func noFurtherBatchBeginsAfterTheTimeIsUp() async throws {
        let stage = try Stage()
        try stage.source.execute(
            "CREATE TABLE t AS SELECT n AS id FROM generate_series(1, 100000) AS n")
        try stage.source.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
        // While others' transactions of before are open, all rows may be late, and are read at once.
        let isQuiet = try await eventually {
            try stage.source.execute(
                """
                SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint % 4294967296 \
                > (SELECT xmin::text::bigint FROM t LIMIT 1)
                """
            ).value == "t"
        }
        try #require(isQuiet)
        try stage.dest.execute(
            """
            SELECT roneo.create_updater('src', 't', control => 'id', batch_limit => 10, \
            copy_data => false, refresh_every => '1 day')
            """)
        let ended = try stage.run("run", "--max-runtime", "2s")
        #expect(ended.status == 0, "\(ended)")
        #expect(try stage.value("SELECT count(*) < 100000 FROM t") == "t")
        let rest = try stage.value(
            "SELECT bool_and(has_more) FROM roneo.run WHERE outcome = 'ok' AND hand = 'runner'")
        #expect(rest != "f")
    }

    @Test func quarantineIsLoudAndEnds() throws {
        let stage = try makeStage(["a", "b"])
        try stage.dest.execute("INSERT INTO roneo.setting VALUES ('quarantine_after', '2')")
        try stage.source.execute("ALTER TABLE t RENAME TO hidden")
        let rested: SQL = "UPDATE roneo.replica SET last_attempt_at = now() - interval '2 hours'"
        let first = try stage.run("run")
        #expect(first.status == 1)
        #expect(!first.errors.contains("quarantine"), "\(first)")
        try stage.dest.execute(rested)
        let second = try stage.run("run")
        #expect(second.status == 1)
        #expect(second.errors.contains("in quarantine"), "\(second)")
        try stage.dest.execute(rested)
        #expect(try stage.run("run").status == 0)
        #expect(try stage.value("SELECT count(*) FROM roneo.run") == "4")

        #expect(try stage.run("status").output.contains("quarantined"))
        let check = try stage.run("check")
        #expect(check.status == 2)
        #expect(check.output.contains("roneo release 'public.a'"), "\(check)")
        let metrics = try stage.run("metrics").output
        #expect(metrics.contains("roneo_replica_quarantined_timestamp_seconds{dest=\"public.a\""))

        try stage.source.execute("ALTER TABLE hidden RENAME TO t")
        let released = try stage.run("release", "a")
        #expect(released.status == 0, "\(released)")
        #expect(released.output.isEmpty && released.errors.isEmpty, "\(released)")
        #expect(try stage.run("run").status == 0)
        #expect(try stage.value("SELECT count(*) FROM a") == "10")
        #expect(try stage.value("SELECT count(*) FROM b") == "0")
        #expect(try stage.run("refresh", "b").status == 0)
        #expect(try stage.run("check").status == 0)
    }

    @Test func onlyReplicasAreReleased() throws {
        let stage = try makeStage(["a"])
        try stage.dest.execute(
            "UPDATE roneo.replica SET quarantined_at = now(), failures = 10, lasting_failures = 10")
        let unknown = try stage.run("release", "a", "nothing")
        #expect(unknown.status == 1)
        #expect(unknown.errors.contains("\"nothing\" does not exist"), "\(unknown)")
        let strange = try stage.run("release", "a", "pg_class")
        #expect(strange.status == 1)
        #expect(strange.errors.contains("RO001"), "\(strange)")
        #expect(try stage.value("SELECT quarantined_at IS NULL FROM roneo.replica") == "f")
        #expect(try stage.run("release").status == 64)
        #expect(try RoneoProcess.run("release", "a", "-h", "/nonexistent").status == 69)
    }
}
