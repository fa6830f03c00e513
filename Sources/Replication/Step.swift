/// A step of a plan, as the extension made it. What it does is its text; nothing here knows more.
public struct Step: Sendable, Equatable {
    public let replicaId: Int
    public let number: Int
    public let stage: Int
    public let kind: Kind
    public let purpose: String
    public let statement: String
    /// For a transfer, the complete COPY statements of both ends.
    public let copyOut: String?
    public let copyIn: String?
    /// What its rows are counted as.
    public let counts: String?
    /// Whether it waits for its lock only shortly, several times, and may be put off.
    public let patient: Bool

    /// Whether it brings rows over.
    public var movesRows: Bool { kind == .transfer || kind == .attempt }

    /// What a step counts as that answers with its counts.
    static let putCount = "put"

    var json: JSON {
        .object([
            "number": JSON(number),
            "stage": JSON(stage),
            "kind": JSON(kind.rawValue),
            "purpose": JSON(purpose),
            "statement": JSON(statement),
            "copy_out": JSON(copyOut),
            "copy_in": JSON(copyIn),
            "counts": JSON(counts),
            "patient": JSON(patient),
        ])
    }

    /// - attempt: a transfer into a table where the keys of these rows are not expected; if one is
    ///   there, the refresh begins anew by way of a staging table.
    public enum Kind: String, Sendable {
        case source, dest, transfer, attempt, check, after
    }
}
