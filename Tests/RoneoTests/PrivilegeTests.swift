import Postgres
import TestSupport
import Testing

/// A runner that is no superuser.
@Suite struct PrivilegeTests {
    private let stage: Stage
    private let role: String
    private let owner: String
    /// How the runner's role connects to the destination.
    private let conninfo: String

    init() throws {
        stage = try Stage()
        role = "runner_\(stage.pair.name)"
        owner = "owner_\(stage.pair.name)"
        conninfo = TestClusters.destination.conninfo(database: stage.pair.name, user: role)
        try stage.makeReplica(method: "plain", every: "1 hour")
        try stage.dest.execute(
            SQL(
                verbatim:
                    "CREATE ROLE \(role) LOGIN; CREATE ROLE \(owner); ALTER TABLE t OWNER TO \(owner)"
            ))
    }

    @Test func whatItLacksIsPrintedAndThenItWorks() throws {
        let refused = try run("run")
        #expect(refused.status == 78, "\(refused)")
        #expect(refused.errors.contains("missing_grants"))

        let missing = try stage.dest.execute("SELECT roneo.missing_grants(\(role)::name)")
        for row in 0..<missing.count {
            try stage.dest.execute(SQL(verbatim: missing[row, 0] ?? ""))
        }
        let preflight = try run("preflight")
        #expect(preflight.status == 1, "it may not become the owner yet: \(preflight)")
        #expect(preflight.output.contains("GRANT \(owner) TO \(role);"))
        try stage.dest.execute(SQL(verbatim: "GRANT \(owner) TO \(role)"))

        let ended = try run("run", "--source-conninfo", "src=\(stage.pair.source)")
        #expect(ended.status == 0, "\(ended)")
        #expect(try stage.value("SELECT count(*) FROM t") == "100")
        #expect(try stage.value("SELECT outcome FROM roneo.run") == "ok")
    }

    @Test func whoMayOnlyLookSeesStatusAndHistory() throws {
        #expect(try stage.run("refresh", "t").status == 0)
        let refused = try run("status")
        #expect(refused.status == 1)
        #expect(refused.errors.contains("permission denied"))
        let grants = try stage.dest.execute(
            "SELECT format('GRANT %s ON %s TO %I', privilege, object, \(role)::name) FROM roneo.status_objects()"
        )
        for row in 0..<grants.count {
            try stage.dest.execute(SQL(verbatim: grants[row, 0] ?? ""))
        }
        for arguments in [["status"], ["history"], ["history", "t"]] {
            let ended = try RoneoProcess(arguments + ["-d", conninfo]).wait()
            #expect(ended.status == 0, "\(ended)")
            #expect(ended.output.contains("public.t"))
        }
    }

    @Test func whoOnlyWatchesMayLookAtEverything() throws {
        #expect(try stage.run("refresh", "t").status == 0)
        let refused = try run("check")
        #expect(refused.status == 3, "\(refused)")
        #expect(refused.output.contains("permission denied"), "\(refused)")
        let grants = try stage.dest.execute("SELECT roneo.watch_grants(\(role)::name)")
        for row in 0..<grants.count {
            try stage.dest.execute(SQL(verbatim: grants[row, 0] ?? ""))
        }
        let looks = [
            ["status"], ["history"], ["check"], ["check", "t"], ["metrics"],
            ["report", "--html", "-"],
            [
                "check", "--columns", "--missing-tables", "--source-conninfo",
                "src=\(stage.pair.source)",
            ],
        ]
        for arguments in looks {
            let ended = try RoneoProcess(arguments + ["-d", conninfo]).wait()
            #expect(ended.status == 0, "\(arguments): \(ended)")
            #expect(ended.errors.isEmpty, "\(ended)")
        }
        #expect(try run("refresh", "t").status != 0)
        #expect(try stage.value("SELECT count(*) FROM roneo.run") == "1")
    }

    private func run(_ arguments: String...) throws -> RoneoProcess.Ended {
        try RoneoProcess(arguments + ["-d", conninfo]).wait()
    }
}
