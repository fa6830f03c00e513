import Foundation
import Postgres
import TestSupport
import Testing

/// `roneo run --follow`: what it does by itself, and how it ends.
@Suite struct ServiceTests {
    private func follow(
        _ stage: Stage, _ arguments: String..., environment: [String: String] = [:]
    ) throws -> RoneoProcess {
        try stage.start(["run", "--follow"] + arguments, environment: environment)
    }

    private func runs(_ stage: Stage, of name: String) throws -> Int {
        let count = try stage.value(
            "SELECT count(*) FROM roneo.run WHERE dest = \("public." + name) AND outcome = 'ok'")
        return count.flatMap { Int($0) } ?? 0
    }

    @Test func itWakesWhenAReplicaIsDueAndSeesNewOnes() async throws {
        let stage = try Stage()
        try stage.makeReplica("t", method: "plain", every: "1 s")
        let process = try follow(stage, "--json", "--jobs", "2")
        #expect(try await eventually { try runs(stage, of: "t") >= 2 })
        try stage.makeReplica("later", method: "plain", every: "1 hour")
        #expect(try await eventually { try runs(stage, of: "later") == 1 })
        // What is not wanted any more is not done any more.
        try stage.dest.execute("UPDATE roneo.replica SET enabled = false WHERE dest_name = 't'")
        process.send(SIGTERM)
        let ended = process.wait()
        #expect([0, 143].contains(ended.status), "the other one may be in work: \(ended)")
        #expect(ended.errors.isEmpty)
        let rounds = try ended.output.split(separator: "\n").map {
            try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
        }
        let replicas = rounds.flatMap { $0?["replicas"] as? [[String: Any]] ?? [] }
        #expect(rounds.count >= 2, "\(ended)")
        #expect(replicas.count { $0["dest"] as? String == "public.later" } == 1)
        #expect(try await eventually(stage.isClean))
    }

    @Test func aHangupMakesItLookAtOnce() async throws {
        let stage = try Stage()
        try stage.makeReplica("t", method: "plain", every: "1 hour")
        let process = try follow(stage)
        #expect(try await eventually { try runs(stage, of: "t") == 1 })
        // From here on it has no reason to wake for half a minute.
        try stage.makeReplica("later", method: "plain", every: "1 hour")
        process.send(SIGHUP)
        #expect(try await eventually { try runs(stage, of: "later") == 1 })
        process.send(SIGINT)
        let ended = process.wait()
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.isEmpty && ended.errors.isEmpty, "it has nothing to say: \(ended)")
    }

    @Test func aSlowRefreshAndASilentSourceHoldUpNoOther() async throws {
        let stage = try Stage()
        let deaf = try DeafServer()
        try stage.makeSlowReplica()
        for name in ["quick", "silent"] {
            try stage.makeReplica(name, method: "plain", every: "1 s")
        }
        try stage.dest.execute(
            """
            SELECT roneo.create_source('deaf', \(deaf.conninfo));
            """)
        try stage.dest.execute(
            """
            UPDATE roneo.replica SET source_id = (SELECT source_id FROM roneo.source \
            WHERE source_name = 'deaf') WHERE dest_name = 'silent'
            """)
        try stage.dest.execute(
            "UPDATE roneo.replica SET refresh_every = '1 s' WHERE dest_name = 'slow'")
        let process = try follow(stage, "--jobs", "3")
        let begun = try await eventually {
            try stage.value(
                "SELECT count(*) FROM roneo.run WHERE dest = 'public.slow' AND outcome = 'running'")
                == "1"
        }
        #expect(begun)
        let before = try runs(stage, of: "quick")
        #expect(try await eventually { try runs(stage, of: "quick") >= before + 2 })
        #expect(
            try stage.value(
                "SELECT outcome FROM roneo.run WHERE dest = 'public.slow' ORDER BY run_id DESC LIMIT 1"
            )
                == "running")
        process.send(SIGTERM)
        let ended = process.wait()
        #expect(ended.status == 143, "what it had begun was interrupted: \(ended)")
        #expect(try stage.rows() == "1 old, 2 old")
        #expect(
            try stage.value(
                """
                SELECT outcome || ' ' || sqlstate FROM roneo.run WHERE dest = 'public.slow' \
                ORDER BY run_id DESC LIMIT 1
                """) == "failed 57014")
        #expect(try await eventually(stage.isClean))
    }

    @Test func twoFollowersShareTheWorkAndNeverDoubleIt() async throws {
        let stage = try Stage()
        let names = ["a", "b", "c", "d", "e", "f"]
        for name in names { try stage.makeReplica(name, method: "plain", every: "1 day") }
        let both = try (0..<2).map { _ in try follow(stage, "--jobs", "2") }
        let count = { (sql: SQL) in Int(try stage.value(sql) ?? "") ?? -1 }
        var cycles = 0
        let shared = try await eventually {
            // All are done, and become due once more.
            guard try count("SELECT count(*) FROM roneo.due()") == 0,
                try count("SELECT count(*) FROM roneo.run WHERE outcome = 'running'") == 0
            else { return false }
            cycles += 1
            let runs = try count("SELECT count(*) FROM roneo.run")
            #expect(runs == names.count * cycles, "each was refreshed once each time")
            guard runs == names.count * cycles else { return true }
            let runners = try count(
                "SELECT count(DISTINCT split_part(runner, ' ', 1)) FROM roneo.run")
            if cycles >= 4, runners == 2 { return true }
            try stage.dest.execute(
                "UPDATE roneo.replica SET last_success_at = last_success_at - interval '1 day'")
            for process in both { process.send(SIGHUP) }
            return false
        }
        #expect(shared)
        for process in both { process.send(SIGTERM) }
        for process in both {
            let ended = process.wait()
            #expect(ended.status == 0, "\(ended)")
            #expect(ended.output.isEmpty && ended.errors.isEmpty, "\(ended)")
        }
        #expect(try await eventually(stage.isClean))
    }

    @Test func whatAnotherHasRefreshedMeanwhileIsLeftAlone() async throws {
        let stage = try Stage()
        try stage.makeSlowReplica()
        try stage.makeReplica("t", method: "plain", every: "1 hour")
        try stage.dest.execute(
            """
            UPDATE roneo.replica SET refresh_every = '1 hour', last_success_at = NULL, \
            created_at = created_at - interval '1 day' WHERE dest_name = 'slow'
            """)
        let process = try stage.start(["run", "--json"])
        let isCopying = try await eventually {
            try stage.value("SELECT count(*) FROM roneo.run WHERE outcome = 'running'") == "1"
        }
        #expect(isCopying)
        #expect(try stage.run("refresh", "t").status == 0)
        let runsOfT = try runs(stage, of: "t")
        #expect(
            try await eventually {
                try stage.terminateCopy(on: stage.source)
                return try stage.value("SELECT outcome FROM roneo.run WHERE dest = 'public.slow'")
                    != "running"
            })
        let ended = process.wait()
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.output.contains("refreshed by another session meanwhile"), "\(ended)")
        #expect(try runs(stage, of: "t") == runsOfT)
    }

    @Test("systemd hears how it is", arguments: [false, true])
    func notify(isAbstract: Bool) async throws {
        let stage = try Stage()
        try stage.makeReplica("t", method: "plain", every: "1 hour")
        let manager = try NotifySocket(isAbstract: isAbstract)
        let process = try follow(
            stage, environment: ["NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "2000000"])
        let isAlive = try await eventually {
            manager.messages.count { $0 == "WATCHDOG=1" } >= 3
        }
        #expect(isAlive, "it wakes for that too: \(manager.messages)")
        #expect(manager.messages.count { $0.hasPrefix("READY=1") } == 1)
        process.send(SIGTERM)
        #expect(process.wait().status == 0)
        #expect(manager.messages.last?.hasPrefix("STOPPING=1") == true)
    }

    @Test func metricsAreWrittenAfterEachRound() async throws {
        let stage = try Stage()
        try stage.makeReplica("t", method: "plain", every: "1 hour")
        let file = FileManager.default.temporaryDirectory
            .appendingPathComponent("roneo-follow-\(UUID().uuidString).prom")
        defer { try? FileManager.default.removeItem(at: file) }
        // Numbers of the round itself would be gone after a minute.
        let hasWritten = { (rows: Int) in
            let text = (try? String(contentsOf: file, encoding: .utf8)) ?? ""
            return text.contains("roneo_runner_exit_status 0\n")
                && text.split(separator: "\n").contains {
                    $0.hasPrefix("roneo_replica_last_copy_rows{") && $0.hasSuffix(" \(rows)")
                }
        }
        let process = try follow(stage, "--metrics-file", file.path)
        #expect(try await eventually { hasWritten(100) })
        try stage.source.execute("INSERT INTO t VALUES (101, 'new')")
        try stage.dest.execute(
            "UPDATE roneo.replica SET created_at = created_at - interval '1 hour'")
        try stage.dest.execute("UPDATE roneo.replica SET last_success_at = created_at")
        process.send(SIGHUP)
        #expect(try await eventually { hasWritten(101) })
        process.send(SIGTERM)
        #expect(process.wait().status == 0)
    }

    @Test func afterItsTimeItBeginsNothingAndEndsWell() async throws {
        let stage = try Stage()
        try stage.makeReplica("t", method: "plain", every: "1 s")
        try stage.makeReplica("broken", method: "plain", every: "1 s")
        try stage.source.execute("DROP TABLE broken")
        let ended = try stage.run("run", "--follow", "--max-runtime", "4s")
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.errors.contains("refresh of public.broken from source src failed"))
        #expect(
            ended.errors.components(separatedBy: "roneo: ").count == 2, "it is left alone: \(ended)"
        )
        #expect(try runs(stage, of: "t") >= 1)
    }

    @Test func itWaitsForTheExtensionAndKnowsItsVersions() async throws {
        let stage = try Stage()
        try stage.makeReplica("t", method: "plain", every: "1 s")
        let setVersion = { (version: String) in
            _ = try stage.dest.execute(
                "UPDATE pg_extension SET extversion = \(version) WHERE extname = 'roneo'")
        }
        let known = try #require(
            try stage.value("SELECT extversion FROM pg_extension WHERE extname = 'roneo'"))
        // As another name it is not there.
        try stage.dest.execute("UPDATE pg_extension SET extname = 'away' WHERE extname = 'roneo'")
        let process = try follow(stage, "--log-level", "info")
        let log = { process.errorsSoFar }
        #expect(try await eventually { log().contains("msg=\"waiting for the destination\"") })
        try stage.dest.execute("UPDATE pg_extension SET extname = 'roneo' WHERE extname = 'away'")
        #expect(try await eventually { try runs(stage, of: "t") >= 1 })
        try setVersion("9.9")
        let ended = process.wait()
        #expect(ended.status == 78, "\(ended)")
        #expect(ended.errors.components(separatedBy: "waiting for the destination").count == 2)
        #expect(ended.errors.components(separatedBy: "msg=\"going on\"").count == 2)
        #expect(ended.errors.contains("does not know version 9.9"))
        try setVersion(known)
        #expect(try await eventually(stage.isClean))
    }
}
