import Logging
import Replication

/// Log lines for machines: `key=value` pairs or JSON, one line an event, on stderr.
struct LineLogHandler: LogHandler {
    enum Format: String, CaseIterable, Sendable {
        case text, json
    }

    let format: Format
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { _, new in new }
        let pairs = all.map { ($0.key, $0.value.description) }.sorted { $0.0 < $1.0 }
        Terminal.error.line(
            Self.line(
                format, Timestamp.now(), "\(event.level)", event.message.description, pairs))
    }

    static func line(
        _ format: Format, _ time: Timestamp, _ level: String, _ message: String,
        _ pairs: [(String, String)]
    ) -> String {
        let all = [("time", time.description), ("level", level), ("msg", message)] + pairs
        switch format {
        case .json:
            let members = all.map { "\(JSON($0.0)):\(jsonValue($0.0, $0.1))" }
            return "{" + members.joined(separator: ",") + "}"
        case .text:
            return all.map { "\($0.0)=\(value($0.1))" }.joined(separator: " ")
        }
    }

    /// These are numbers in every line.
    private static let numbers: Set<String> = [
        "rows", "bytes", "seconds", "run_id", "exit_status", "not_begun", "signal",
        "ok", "unchanged", "deferred", "failed", "cancelled",
    ]

    private static func jsonValue(_ key: String, _ value: String) -> JSON {
        numbers.contains(key) ? JSON(verbatim: value) : JSON(value)
    }

    /// In quotes where it would not be one word otherwise.
    private static func value(_ text: String) -> String {
        let isWord = text.unicodeScalars.allSatisfy {
            $0.value > 0x20 && $0 != "\"" && $0 != "=" && $0 != "\\"
        }
        return isWord && !text.isEmpty ? text : JSON(text).description
    }
}

/// Turns what happens into log lines.
struct LogObserver: RefreshObserver {
    let logger: Logger

    init(_ logger: Logger) {
        self.logger = logger
    }

    func began(_ dest: String) {
        logger.debug("refresh begins", metadata: ["dest": "\(dest)"])
    }

    func beganStep(_ dest: String, number: Int, of total: Int, purpose: String) {
        logger.debug(
            "step begins",
            metadata: ["dest": "\(dest)", "step": "\(number)/\(total)", "purpose": "\(purpose)"])
    }

    func moved(_ dest: String, rows: Int64, bytes: Int64) {}

    /// The end of the whole run.
    func ended(_ report: RunReport) {
        var metadata: Logger.Metadata = [
            "exit_status": "\(report.exitStatus.code)",
            "rows": "\(report.rows)",
            "bytes": "\(report.bytes)",
            "seconds": "\(JSON(report.duration))",
            "not_begun": "\(report.notBegun.count)",
        ]
        for outcome in ReplicaReport.Outcome.allCases where report.count(outcome) > 0 {
            metadata[outcome.rawValue] = "\(report.count(outcome))"
        }
        if let signal = report.signal { metadata["signal"] = "\(signal)" }
        if let stopped = report.stopped {
            logger.error("run stopped early", metadata: fields(stopped.failure))
        }
        logger.info(report.isStandby ? "destination is a standby" : "run ended", metadata: metadata)
    }

    /// Nothing could be done at all.
    func failed(_ failure: Failure) {
        logger.error("run failed", metadata: fields(failure))
    }

    func ended(_ dest: String, _ report: ReplicaReport) {
        var metadata: Logger.Metadata = [
            "dest": "\(report.dest)",
            "outcome": "\(report.outcome.rawValue)",
            "rows": "\(report.rows)",
            "bytes": "\(report.bytes)",
            "seconds": "\(JSON(report.duration))",
        ]
        metadata["source"] = report.source.map { "\($0)" }
        metadata["method"] = report.method.map { "\($0)" }
        metadata["run_id"] = report.runId.map { "\($0)" }
        if let failure = report.failure {
            metadata.merge(fields(failure)) { _, new in new }
        }
        if let warning = report.warning { metadata["warning"] = "\(warning)" }
        let level: Logger.Level =
            switch report.outcome {
            case .ok, .unchanged: report.warning == nil ? .info : .warning
            case .deferred, .cancelled: .warning
            case .failed: .error
            }
        logger.log(level: level, "refresh ended", metadata: metadata)
    }

    private func fields(_ failure: Failure) -> Logger.Metadata {
        var metadata: Logger.Metadata = [
            "sqlstate": "\(failure.sqlState)", "error": "\(failure.message)",
        ]
        metadata["during"] = failure.during.map { "\($0)" }
        metadata["detail"] = failure.detail.map { "\($0)" }
        metadata["hint"] = failure.hint.map { "\($0)" }
        return metadata
    }
}

/// Tells several observers the same.
struct ObserverGroup: RefreshObserver {
    let members: [any RefreshObserver]

    func began(_ dest: String) {
        for member in members { member.began(dest) }
    }

    func beganStep(_ dest: String, number: Int, of total: Int, purpose: String) {
        for member in members {
            member.beganStep(dest, number: number, of: total, purpose: purpose)
        }
    }

    func moved(_ dest: String, rows: Int64, bytes: Int64) {
        for member in members { member.moved(dest, rows: rows, bytes: bytes) }
    }

    func ended(_ dest: String, _ report: ReplicaReport) {
        for member in members { member.ended(dest, report) }
    }
}
