import Foundation
import TestSupport
import Testing

/// Metrics: what `roneo metrics` prints and `roneo run --metrics-file` leaves.
@Suite struct MetricsTests {
    private let folder: URL
    private var file: String { folder.appendingPathComponent("roneo.prom").path }

    init() throws {
        folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("roneo-metrics-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    /// The samples of a text by name and labels. What is not in the format is an issue.
    private func samples(_ text: String) throws -> [String: Double] {
        let name = "[a-z][a-z0-9_]*"
        let label = "[a-z_]+=\"(?:[^\"\\\\\\n]|\\\\[\\\\\"n])*\""
        let sample = try Regex("^(\(name))(\\{\(label)(?:,\(label))*\\})? (-?[0-9][0-9.e+-]*)$")
        var found: [String: Double] = [:]
        var family = ""
        #expect(text.hasSuffix("\n"))
        for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
            if line.hasPrefix("# HELP ") {
                family = String(line.split(separator: " ")[2])
                #expect(
                    !found.keys.contains { $0.hasPrefix(family + "{") || $0 == family }, "\(line)")
            } else if line.hasPrefix("# TYPE ") {
                let type = family.hasSuffix("_total") ? "counter" : "gauge"
                #expect(line == "# TYPE \(family) \(type)")
            } else if let match = String(line).wholeMatch(of: sample) {
                #expect(match.output[1].substring.map(String.init) == family, "\(line)")
                let key = line.split(separator: " ").dropLast().joined(separator: " ")
                #expect(found[key] == nil, "twice: \(line)")
                found[key] = match.output[3].substring.flatMap { Double($0) }
            } else {
                Issue.record("not in the format: \(line)")
            }
        }
        return found
    }

    private func written() throws -> String {
        try String(contentsOfFile: file, encoding: .utf8)
    }

    /// What Prometheus itself says of it, where `scripts/bootstrap` could get its checker.
    private func promtool(_ text: String) throws {
        let found = try RoneoProcess(
            shell: """
                PATH=$PATH:.build/tools
                command -v promtool >/dev/null || exit 0
                printf %s "$1" | promtool check metrics 2>&1
                """,
            [text]
        ).wait()
        #expect(found.status == 0, "\(found)")
        #expect(found.output.isEmpty, "\(found)")
    }

    @Test func aRunLeavesTheNumbersOfReplicasAndItself() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let stage = try Stage()
        try stage.makeReplica("t", every: "1 hour")
        try stage.makeReplica("\"o\\d\"\"d\"", method: "plain")
        let ended = try stage.run("run", "--metrics-file", file)
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.isEmpty && ended.errors.isEmpty, "\(ended)")
        let text = try written()
        let found = try samples(text)
        let t = "dest=\"public.t\",source=\"src\",method=\"snapshot\""
        #expect(found["roneo_up"] == 1)
        #expect(found["roneo_replica_last_copy_rows{\(t)}"] == 100)
        #expect(found["roneo_replica_promised_age_seconds{\(t)}"] == 3600)
        #expect(found["roneo_replica_consecutive_failures{\(t)}"] == 0)
        #expect(found["roneo_replica_refreshes_total{\(t)}"] == 1)
        #expect(found["roneo_replica_runs_last_day{\(t),outcome=\"ok\"}"] == 1)
        #expect(found["roneo_replica_state{\(t),state=\"ok\"}"] == 1)
        #expect(found["roneo_replica_last_copy_bytes{\(t)}"].map { $0 > 0 } == true)
        let success = try #require(found["roneo_replica_last_success_timestamp_seconds{\(t)}"])
        let end = try #require(found["roneo_runner_last_end_timestamp_seconds"])
        #expect(success <= end + 1)
        #expect(found["roneo_runner_exit_status"] == 0)
        #expect(found["roneo_runner_replicas{outcome=\"ok\"}"] == 1)
        #expect(found["roneo_runner_rows"] == 100)
        let odd = "dest=\"public.\\\"o\\\\d\\\"\\\"d\\\"\",source=\"src\",method=\"plain\""
        #expect(found["roneo_replica_alert_level{\(odd)}"] == 0, "\(text)")
        #expect(found["roneo_replica_last_success_timestamp_seconds{\(odd)}"] == nil)
        try promtool(text)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["roneo.prom"])

        let printed = try stage.run("metrics")
        #expect(printed.status == 0, "\(printed)")
        let alone = try samples(printed.output)
        #expect(Set(alone.keys).isSubset(of: found.keys))
        #expect(!alone.keys.contains { $0.hasPrefix("roneo_runner") })
        try promtool(printed.output)
    }

    @Test func failuresAreThereToo() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let stage = try Stage()
        try stage.makeReplica(every: "1 hour")
        try stage.source.execute("DROP TABLE t")
        try Data("old".utf8).write(to: URL(fileURLWithPath: file))
        let ended = try stage.run("run", "--metrics-file", file)
        #expect(ended.status == 1, "\(ended)")
        let found = try samples(written())
        let t = "dest=\"public.t\",source=\"src\",method=\"snapshot\""
        #expect(found["roneo_replica_consecutive_failures{\(t)}"] == 1)
        #expect(found["roneo_replica_alert_level{\(t)}"] == 1)
        #expect(found["roneo_replica_runs_last_day{\(t),outcome=\"failed\"}"] == 1)
        #expect(found["roneo_runner_replicas{outcome=\"failed\"}"] == 1)
        #expect(found["roneo_runner_exit_status"] == 1)
    }

    @Test func aDestinationThatIsAwayIsWrittenDown() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let ended = try RoneoProcess.run("run", "-h", "/nonexistent", "--metrics-file", file)
        #expect(ended.status == 69, "\(ended)")
        #expect(ended.errors.contains("/nonexistent"))
        let found = try samples(written())
        #expect(found["roneo_up"] == 0)
        #expect(found["roneo_runner_exit_status"] == 69)
        #expect(!found.keys.contains { $0.hasPrefix("roneo_replica") })
        try promtool(written())
        #expect(try RoneoProcess.run("metrics", "-h", "/nonexistent").status == 69)
    }

    @Test func aFileThatCannotBeWrittenIsToldAndFails() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let stage = try Stage()
        try stage.makeReplica(every: "1 hour")
        let ended = try stage.run("run", "--metrics-file", "\(folder.path)/no/such/folder.prom")
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.errors.contains("folder.prom"))
        #expect(
            try stage.value("SELECT outcome FROM roneo.run") == "ok",
            "the work is done all the same")
        // A folder of that name stays, and nothing beside it.
        let taken = try stage.run("run", "--metrics-file", folder.path)
        #expect(taken.status == 1, "\(taken)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
    }
}
