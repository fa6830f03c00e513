import Foundation
import Postgres
import TestSupport
import Testing

@Suite struct VerifyTests {
    /// Three replicas of one table, copied, by methods that behave differently when compared.
    private func makeStage() throws -> Stage {
        let stage = try Stage()
        try stage.makeReplica("t", method: "plain", rows: 1000)
        for create in [
            "dml('src', 't', 't_dml')", "updater('src', 't', 't_updater', control => 'id')",
        ] {
            try stage.dest.execute(SQL(verbatim: "SELECT roneo.create_\(create)"))
        }
        #expect(try stage.run("refresh", "t", "t_dml", "t_updater").status == 0)
        return stage
    }

    /// What `verify --json` says.
    private struct Report: Decodable {
        struct Replica: Decodable {
            struct Difference: Decodable, Equatable {
                let kind: String
                var key: [String: String]?
                var columns: [String]?
                var values: [String: [String?]]?
            }
            let dest: String
            let verdict: String
            let why: String?
            let rows_there: Int?
            let rows_here: Int?
            let missing: Int?
            let extra: Int?
            let changed: Int?
            let inserted: Int?
            let updated: Int?
            let deleted: Int?
            let run_id: Int?
            let differences: [Difference]
            let not_compared: String?
            let copied_anew: Bool
        }
        let exit_status: Int
        let replicas: [Replica]
    }

    private func report(_ ended: RoneoProcess.Ended) throws -> Report {
        try JSONDecoder().decode(Report.self, from: Data(ended.output.utf8))
    }

    @Test func nothingIsSaidOfReplicasThatAreEqual() async throws {
        let stage = try makeStage()
        let ended = try stage.run("verify", "--jobs", "2")
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.isEmpty && ended.errors.isEmpty)
        #expect(
            try stage.value(
                "SELECT count(*) FROM roneo.verifications WHERE verdict = 'equal'") == "3")
        let told = try stage.run("verify", "--verbose")
        #expect(told.output.contains("public.t_dml      dml      equal    1,000"), "\(told)")
        #expect(try await eventually(stage.isClean))
    }

    @Test func whatDiffersIsListedAndRepaired() async throws {
        let stage = try makeStage()
        try stage.dest.execute(
            """
            UPDATE t_dml SET v = 'secret' WHERE id = 7; DELETE FROM t_dml WHERE id = 8; \
            INSERT INTO t_dml VALUES (-1, 'secret'); INSERT INTO t_updater VALUES (-5, 'x')
            """)
        let ended = try stage.run("verify")
        #expect(ended.status == 1)
        #expect(ended.output.contains("changed     id=7   v\n"), "\(ended)")
        #expect(ended.output.contains("missing     id=8\n"))
        #expect(ended.output.contains("extra       id=-1\n"))
        #expect(ended.output.contains("extra       id=-5\n"))
        #expect(!ended.output.contains("secret") && ended.errors.isEmpty)

        let dry = try stage.run("repair", "t_dml", "--show-values")
        #expect(dry.status == 1)
        #expect(dry.output.contains("v: 'row 7' there, 'secret' here"), "\(dry)")
        #expect(try stage.value("SELECT count(*) FROM t_dml WHERE v = 'secret'") == "2")

        let json = try report(stage.run("repair", "t_dml", "t_updater", "--apply", "--json"))
        #expect(json.exit_status == 0)
        #expect(json.replicas.map(\.verdict) == ["repaired", "repaired"])
        let first = try #require(json.replicas.first { $0.dest == "public.t_dml" })
        #expect([first.inserted, first.updated, first.deleted] == [1, 1, 1])
        #expect(
            first.differences.contains(.init(kind: "changed", key: ["id": "7"], columns: ["v"])))
        #expect(
            try stage.value(
                SQL(
                    verbatim:
                        "SELECT kind || ' ' || hand FROM roneo.run WHERE run_id = \(first.run_id ?? 0)"
                ))
                == "repair runner")
        #expect(try stage.run("verify").status == 0)
        #expect(try await eventually(stage.isClean))
    }

    @Test func eachOfARefreshGroupIsCompared() throws {
        let stage = try Stage()
        for name in ["parent", "child"] {
            try stage.source.execute(
                SQL(
                    verbatim: """
                        CREATE TABLE \(name) (id int PRIMARY KEY, v text); \
                        INSERT INTO \(name) SELECT n, 'v' FROM generate_series(1, 50) AS n
                        """))
            try stage.dest.execute(SQL(verbatim: "SELECT roneo.create_dml('src', '\(name)')"))
            try stage.dest.execute(
                "SELECT roneo.set_refresh_group(\(name)::regclass, 'both')")
        }
        try stage.dest.execute(
            "DELETE FROM parent WHERE id = 7; UPDATE child SET v = 'x' WHERE id = 8")
        for dests in [["parent", "child"], []] {
            let ended = try stage.start(["verify", "--json"] + dests).wait()
            #expect(ended.status == 1, "\(ended)")
            let found = try report(ended).replicas.map {
                "\($0.dest) \($0.verdict) \($0.missing ?? -1) \($0.changed ?? -1)"
            }
            #expect(
                found.sorted() == ["public.child differs 0 1", "public.parent differs 1 0"])
        }
        #expect(try stage.run("repair", "child", "--apply").status == 0)
        #expect(try stage.value("SELECT v FROM child WHERE id = 8") == "v")
        #expect(try stage.value("SELECT count(*) FROM parent") == "49", "not asked for")
        #expect(try stage.run("repair", "parent", "child", "--apply").status == 0)
        #expect(try stage.run("verify").status == 0)
        #expect(try stage.value("SELECT count(*) FROM parent") == "50")
    }

    @Test func partsOfATableAreComparedByThemselves() throws {
        let stage = try makeStage()
        try stage.dest.execute("DELETE FROM t_dml WHERE id IN (10, 900)")
        #expect(try stage.run("verify", "t_dml", "--from", "11", "--to", "900").status == 0)
        let ended = try stage.run("verify", "t_dml", "--from", "900", "--json")
        let json = try report(ended)
        #expect(ended.status == 1)
        #expect(json.replicas[0].missing == 1)
        #expect(json.replicas[0].rows_there == 101)
        #expect(try stage.run("verify", "t_dml", "--show", "0", "--json").output.contains("[]"))
    }

    @Test func whatIsDueIsComparedSliceBySlice() throws {
        let stage = try makeStage()
        try stage.dest.execute(
            """
            ANALYZE t_dml; UPDATE pg_class SET reltuples = 2e6 WHERE oid = 't_dml'::regclass; \
            SELECT roneo.set_verification('t_dml', '1 day'); UPDATE t_dml SET v = '' WHERE id = 3
            """)
        let idle = try stage.run("verify", "--due", "--max-runtime", "0s", "--verbose")
        #expect(idle.status == 0, "\(idle)")
        let ended = try stage.run("verify", "--due", "--json")
        #expect(ended.status == 1)
        #expect(
            try report(ended).replicas.map(\.verdict) == ["differs", "equal", "equal", "equal"])
        #expect(
            try stage.value(
                "SELECT verdict || ' ' || changed FROM roneo.verifications WHERE slices = 4")
                == "differs 1")
        #expect(try stage.run("verify", "--due").status == 0)
    }

    @Test func whatCannotBeComparedIsUndecided() async throws {
        let stage = try makeStage()
        try stage.source.execute("DROP TABLE t CASCADE")
        let ended = try stage.run("verify", "t_updater", "t_dml", "--json")
        #expect(ended.status == 1)
        let json = try report(ended)
        #expect(Set(json.replicas.map(\.verdict)) == ["undecided"])
        #expect(json.replicas.allSatisfy { $0.why?.isEmpty == false })
        #expect(
            try stage.value(
                "SELECT count(*) FROM roneo.verifications WHERE verdict = 'undecided'") == "2")
        try stage.dest.execute("BEGIN; SELECT roneo.lock_replicas(ARRAY['t_dml'::regclass])")
        let busy = try stage.run("verify", "t_dml")
        try stage.dest.execute("ROLLBACK")
        #expect(busy.status == 75, "\(busy)")
        #expect(try await eventually(stage.isClean))
    }

    @Test func aFailureOnOneSideEndsTheOther() async throws {
        let stage = try makeStage()
        let process = try stage.start(["verify", "t_dml"])
        _ = process.wait()
        // A filter that fails in the middle: while the source fails, the destination adds up.
        try stage.source.execute(
            "CREATE TABLE f (id int PRIMARY KEY, v int); INSERT INTO f VALUES (1, 1)")
        try stage.dest.execute(
            "SELECT roneo.create_plain('src', 'f', 'f', filter => '1 / v > 0', copy_data => true)")
        try stage.source.execute("INSERT INTO f VALUES (2, 0)")
        let ended = try stage.run("verify", "f")
        #expect(ended.status == 1)
        #expect(ended.errors.contains("division by zero"), "\(ended)")
        #expect(try await eventually(stage.isClean))
    }

    /// The latest run of a replica, and what its replica knows of failures.
    private func lastRun(_ stage: Stage, _ dest: String) throws -> String? {
        try stage.value(
            """
            SELECT concat_ws(' ', u.kind, u.hand, u.outcome, 'failures', r.failures, r.last_outcome) \
            FROM roneo.run AS u JOIN roneo.replica AS r USING (replica_id) \
            WHERE r.dest = \(dest)::regclass ORDER BY u.run_id DESC LIMIT 1
            """)
    }

    @Test func oneThatFailsIsNoRefreshThatFailed() async throws {
        let stage = try Stage()
        try stage.source.execute(
            """
            CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE switch (); \
            CREATE FUNCTION allowed(int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN 1 / \
            (CASE WHEN EXISTS (SELECT FROM public.switch) THEN 0 ELSE 1 END) = 1; END'
            """)
        try stage.dest.execute(
            "SELECT roneo.create_dml('src', 't', filter => 'public.allowed(id)', refresh_every => '1 hour')"
        )
        #expect(try stage.run("verify", "t").status == 0)
        let due = try stage.value("SELECT due_at FROM roneo.status")
        try stage.source.execute("INSERT INTO switch DEFAULT VALUES")
        for _ in 1...4 {
            let ended = try stage.run("verify", "t")
            #expect(ended.status == 1)
            #expect(ended.errors.contains("roneo: verification of public.t from source src failed"))
        }
        #expect(try lastRun(stage, "t") == "verify runner failed failures 0 unchanged")
        #expect(try stage.value("SELECT due_at FROM roneo.status") == due)
        #expect(try stage.value("SELECT count(*) FROM roneo.run WHERE kind = 'verify'") == "4")
        #expect(try stage.run("history").output.contains("verify  failed"))
        let check = try stage.run("check")
        #expect(check.status == 1, "\(check)")
        #expect(check.output.contains("the last verification failed"))
        #expect(!check.output.contains("in a row"), "\(check)")

        let away = try stage.run(
            "repair", "t", "--apply", "--source-conninfo", "src=host=/nonexistent dbname=x")
        #expect(away.status == 75, "\(away)")
        #expect(try lastRun(stage, "t") == "verify runner failed failures 0 unchanged")
        try stage.source.execute("DELETE FROM switch")
        #expect(try stage.run("verify").status == 0)
        #expect(try stage.run("check").status == 0)
        #expect(try await eventually(stage.isClean))
    }

    @Test func norIsOneThatIsCancelled() async throws {
        let stage = try Stage()
        try stage.makeSlowReplica()
        let process = try stage.start(["verify", "slow"])
        let isCopying = try await eventually {
            try stage.value("SELECT count(*) FROM roneo.run WHERE outcome = 'running'") == "1"
        }
        try #require(isCopying)
        process.send(SIGINT)
        #expect(process.wait().status == 130)
        #expect(try lastRun(stage, "slow") == "verify runner failed failures 0 ok")
        #expect(
            try stage.value("SELECT verdict FROM roneo.verifications") == "undecided")
        #expect(try stage.run("check").status == 0, "who cancelled it knows")
        #expect(try await eventually(stage.isClean))
    }

    @Test func aGroupThatIsRefreshedForOneFailsForThatOne() throws {
        let stage = try Stage()
        for name in ["parent", "child"] {
            try stage.source.execute(SQL(verbatim: "CREATE TABLE \(name) (id int PRIMARY KEY)"))
            try stage.dest.execute("SELECT roneo.create_dml('src', \(name))")
            try stage.dest.execute("SELECT roneo.set_refresh_group(\(name)::regclass, 'both')")
        }
        #expect(try stage.run("refresh", "parent").status == 0)
        for name in ["parent", "child"] {
            try stage.source.execute(SQL(verbatim: "INSERT INTO \(name) VALUES (-7)"))
        }
        try stage.dest.execute("ALTER TABLE parent ADD CHECK (id > 0)")
        #expect(try stage.run("verify", "child").status == 1)
        #expect(try lastRun(stage, "child") == "verify runner failed failures 0 unchanged")
        #expect(try lastRun(stage, "parent") == "verify runner failed failures 0 unchanged")
        #expect(
            try stage.value(
                "SELECT string_agg(dest, ' ') FROM roneo.verifications WHERE verdict = 'undecided'")
                == "public.child")
        #expect(
            try stage.value("SELECT count(*) FROM roneo.status WHERE state <> 'ok'") == "0")
    }

    @Test func severalAreComparedAtATime() async throws {
        let stage = try makeStage()
        try stage.source.execute(
            """
            CREATE FUNCTION gate(int) RETURNS boolean LANGUAGE plpgsql SET lock_timeout = 0 AS \
            'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN true; END'
            """)
        for name in ["a", "b"] {
            try stage.dest.execute(
                """
                SELECT roneo.create_dml('src', 't', \(name), filter => 'public.gate(id)')
                """)
            try stage.dest.execute("SELECT roneo.set_verification(\(name)::regclass, '1 day')")
        }
        try stage.dest.execute(
            """
            ANALYZE t_dml; UPDATE pg_class SET reltuples = 2e6 WHERE oid = 't_dml'::regclass; \
            SELECT roneo.set_verification('t_dml', '1 day')
            """)
        try stage.source.execute("SELECT pg_advisory_lock(42)")
        let process = try stage.start(["verify", "--due", "--jobs", "3", "--json"])
        let areTogether = try await eventually {
            try stage.source.execute(
                """
                SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database \
                WHERE d.datname = current_database() AND locktype = 'advisory' AND NOT granted
                """
            ).value == "2"
        }
        #expect(areTogether)
        try stage.source.execute("SELECT pg_advisory_unlock(42)")
        let ended = process.wait()
        #expect(ended.status == 0, "\(ended)")
        let found = try report(ended).replicas
        #expect(found.map(\.verdict) == Array(repeating: "equal", count: 6))
        #expect(found.filter { $0.dest == "public.t_dml" }.count == 4, "one slice after the other")
        #expect(try await eventually(stage.isClean))
    }

    @Test func whatTheVerdictLeavesOutIsSaid() throws {
        let stage = try makeStage()
        try stage.dest.execute(
            "SELECT roneo.create_updater('src', 't', 'bounded', control => 'id', boundary => '10')")
        let note = "rows above 990 of id are not to be here yet, and were not compared"
        let first = try stage.run("verify", "--verbose")
        #expect(first.status == 0)
        #expect(first.output.contains("\npublic.bounded: \(note)\n"), "\(first)")
        #expect(first.output.split(separator: "\n").count == 7, "\(first)")
        try stage.source.execute("INSERT INTO t VALUES (1001, 'new')")
        let second = try stage.run("verify", "--verbose")
        #expect(
            second.output.contains(
                "\ncopied anew first, so only that copy was compared: 1 replica\n"), "\(second)")
        let json = try report(stage.run("verify", "bounded", "t_updater", "--json")).replicas
        #expect(json.map(\.not_compared) == [note.replacing("990", with: "991"), nil])
        #expect(json.map(\.copied_anew) == [false, false])
    }

    @Test(
        "wrong arguments are refused",
        arguments: [
            ["verify", "--due", "t"], ["verify", "--show", "-1"], ["verify", "--jobs", "0"],
            ["repair"], ["repair", "t", "--most-deleted", "101"],
            ["verify", "--due", "--from", "1"], ["verify", "--due", "--jobs", "0"],
            ["verify", "--due", "--per-source", "0"],
        ])
    func wrongArguments(arguments: [String]) throws {
        let ended = try RoneoProcess(arguments).wait()
        #expect(ended.status == 64, "\(ended)")
    }
}
