import Logging
import Replication

/// Log lines for machines: `key=value` pairs or JSON, one line an event, on stderr or for syslog.
struct LineLogHandler: LogHandler {
    enum Format: String, CaseIterable, Sendable {
        case text, json
    }

    let format: Format
    var target = LogTarget.stderr
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { _, new in new }
        let pairs = all.map { ($0.key, $0.value.description) }.sorted { $0.0 < $1.0 }
        target.write(
            Self.line(
                format, Timestamp.now(), "\(event.level)", event.message.description, pairs),
            event.level)
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
        "rows", "bytes", "seconds", "run_id", "exit_status", "not_begun", "signal", "step",
        "steps",
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
