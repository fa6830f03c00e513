import Postgres

/// Something that a check of the extension found.
public struct CheckFinding: Sendable, Equatable {
    /// What was looked at, such as `freshness`.
    public let check: String
    /// The destination, source, database or table that it is about.
    public let object: String
    public let level: AlertLevel
    public let message: String
    public let advice: String?

    public init(
        check: String, object: String, level: AlertLevel, message: String, advice: String? = nil
    ) {
        self.check = check
        self.object = object
        self.level = level
        self.message = message
        self.advice = advice
    }

    static func all(_ rows: QueryResult) -> [CheckFinding] {
        (0..<rows.count).map { row in
            CheckFinding(
                check: rows[row, "check_name"] ?? "", object: rows[row, "object"] ?? "",
                level: rows[row, "level"].flatMap { AlertLevel(rawValue: $0) } ?? .unknown,
                message: rows[row, "message"] ?? "", advice: rows[row, "advice"])
        }
    }

    public var json: JSON {
        .object([
            "check": JSON(check),
            "object": JSON(object),
            "level": JSON(level.rawValue),
            "message": JSON(message),
            "advice": JSON(advice),
        ])
    }
}
