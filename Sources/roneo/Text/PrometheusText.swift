import Postgres
import Replication

/// Metrics in the text format of Prometheus, as its node exporter reads them from a file.
struct PrometheusText {
    private var lines: [String] = []

    /// - Parameters:
    ///   - reading: nil where the destination could not be asked.
    ///   - end: of a run; nil where there was none.
    static func text(_ reading: MetricsReading?, after end: RunEnd? = nil) -> String {
        var text = PrometheusText()
        text.add(
            "up", "Whether the destination could be asked.", [([], reading == nil ? "0" : "1")])
        if let reading { text.add(reading) }
        if let end { text.add(end) }
        return text.lines.map { $0 + "\n" }.joined()
    }

    private mutating func add(_ reading: MetricsReading) {
        add(
            "info", "The versions of program and extension; always 1.",
            [([("version", programVersion), ("extension", reading.extensionVersion)], "1")])
        add(
            "standby", "Whether the destination is a standby, which refreshes nothing.",
            [([], reading.isStandby ? "1" : "0")])
        let replicas = reading.replicas
        for (column, name, help) in Self.gauges {
            add(
                "replica_\(name)", help,
                replicas.rows.indices.compactMap { row in
                    replicas[row, column].map { (labels(replicas, row), $0) }
                })
        }
        add(
            "replica_refreshes_total", "Refreshes that ended, whatever came of them.",
            replicas.rows.indices.map { (labels(replicas, $0), replicas[$0, "refreshes"] ?? "0") },
            type: "counter")
        add(
            "replica_alert_level", "As roneo.status says: 0 OK, 1 WARNING, 2 CRITICAL.",
            replicas.rows.indices.map { row in
                let level = replicas[row, "alert"].flatMap { AlertLevel(rawValue: $0) } ?? .unknown
                return (labels(replicas, row), "\(level.exitCode)")
            })
        add(
            "replica_state", "The state of the replica, as a label; always 1.",
            replicas.rows.indices.map { row in
                (labels(replicas, row) + [("state", replicas[row, "state"] ?? "")], "1")
            })
        add(
            "replica_runs_last_day", "Recorded runs of the last 24 hours, by their outcome.",
            replicas.rows.indices.flatMap { row in
                Self.outcomes.map { outcome in
                    (
                        labels(replicas, row) + [("outcome", outcome)],
                        replicas[row, "runs_\(outcome)"] ?? "0"
                    )
                }
            })
    }

    private static let outcomes = ["ok", "unchanged", "deferred", "failed", "abandoned"]

    private mutating func add(_ end: RunEnd) {
        add(
            "runner_duration_seconds", "How long the last roneo run took.",
            [([], "\(JSON(end.duration))")])
        add(
            "runner_last_end_timestamp_seconds", "When the last roneo run ended.",
            [([], "\(Timestamp.now().microseconds / 1_000_000)")])
        add(
            "runner_exit_status", "The exit status of the last roneo run.",
            [([], "\(end.exitStatus)")])
        guard let report = end.report else { return }
        add(
            "runner_replicas", "Replicas that the last roneo run looked at, by what came of it.",
            ReplicaReport.Outcome.allCases.map {
                ([("outcome", $0.rawValue)], "\(report.count($0))")
            } + [([("outcome", "not_begun")], "\(report.notBegun.count)")])
        add("runner_rows", "Rows that the last roneo run moved.", [([], "\(report.rows)")])
        add("runner_bytes", "Bytes that the last roneo run moved.", [([], "\(report.bytes)")])
    }

    /// Columns of `roneo.replica_metrics()`.
    private static let gauges: [(column: String, name: String, help: String)] = [
        ("created_at", "created_timestamp_seconds", "When the replica was made."),
        (
            "last_success_at", "last_success_timestamp_seconds",
            "Start of the last refresh that ended well; missing where there was none."
        ),
        ("age", "age_seconds", "How old the copy is at most."),
        ("promised_age", "promised_age_seconds", "How old it may get; missing: any age."),
        ("lag", "lag_seconds", "How long it has been due and not refreshed."),
        ("failures", "consecutive_failures", "Failed refreshes in a row."),
        (
            "quarantined_at", "quarantined_timestamp_seconds",
            "Since when it is not refreshed any more, after too many failures; missing where it is."
        ),
        ("rows", "last_copy_rows", "Rows that the last refresh with any copied."),
        ("bytes", "last_copy_bytes", "Bytes that the last refresh with any moved, about."),
        ("seconds", "last_copy_duration_seconds", "How long that took."),
    ]

    private typealias Label = (name: String, value: String)

    private func labels(_ records: Records, _ row: Int) -> [Label] {
        [
            ("dest", records[row, "dest"] ?? ""), ("source", records[row, "source_name"] ?? ""),
            ("method", records[row, "method"] ?? ""),
        ]
    }

    /// A family of metrics, which is left out where it has no sample.
    private mutating func add(
        _ name: String, _ help: String, _ samples: [(labels: [Label], value: String)],
        type: String = "gauge"
    ) {
        guard !samples.isEmpty else { return }
        lines.append("# HELP roneo_\(name) \(help)")
        lines.append("# TYPE roneo_\(name) \(type)")
        for sample in samples {
            let labels = sample.labels.map { "\($0.name)=\"\(Self.escaped($0.value))\"" }
            let braces = labels.isEmpty ? "" : "{\(labels.joined(separator: ","))}"
            lines.append("roneo_\(name)\(braces) \(sample.value)")
        }
    }

    private static func escaped(_ value: String) -> String {
        var text = ""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\\": text += "\\\\"
            case "\"": text += "\\\""
            case "\n": text += "\\n"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }
}

/// Where metrics are left for Prometheus's node exporter.
struct MetricsFile {
    let path: String
    let destination: Destination

    /// A destination that cannot be asked is told in the file; that it cannot be written, on
    /// stderr.
    /// - Returns: whether the file is there.
    func write(_ end: RunEnd) async -> Bool {
        guard let problem = await problem(writing: end) else { return true }
        Self.tell(problem)
        return false
    }

    static func tell(_ problem: String) {
        Terminal.error.line(Terminal.error.styled("roneo: \(problem.printable)", .red))
    }

    /// - Returns: why the file cannot be written; nil where it was.
    func problem(writing end: RunEnd) async -> String? {
        // The token of a signal has been fired for good, and this takes a moment only.
        let token = try? CancelToken()
        var reading: MetricsReading?
        if let token {
            reading = try? await Inspection(destination: destination, cancel: token).metrics()
        }
        return File.replace(path, with: PrometheusText.text(reading, after: end))
    }
}
