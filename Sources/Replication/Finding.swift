import Postgres

/// Something that a refresh needs, and whether it is there.
public struct Finding: Sendable, Equatable {
    /// Where: `source` or `destination`.
    public let side: String
    /// Which source, where it is one.
    public let source: String?
    public let item: String
    public let isOk: Bool
    public let detail: String?
    /// SQL to run on that side, as a rule.
    public let fix: String?

    static func all(_ rows: QueryResult, of source: String?) -> [Finding] {
        (0..<rows.count).map { row in
            Finding(
                side: rows[row, "side"] ?? "", source: source, item: rows[row, "item"] ?? "",
                isOk: rows[row, "ok"] != "f", detail: rows[row, "detail"], fix: rows[row, "fix"])
        }
    }

    public var json: JSON {
        .object([
            "side": JSON(side),
            "source": JSON(source),
            "item": JSON(item),
            "ok": JSON(isOk),
            "detail": JSON(detail),
            "fix": JSON(fix),
        ])
    }
}
