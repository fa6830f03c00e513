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

    public enum Kind: String, Sendable {
        case source, dest, transfer, check, after
    }
}

/// What became of a step.
public struct StepResult: Sendable, Equatable {
    public enum Outcome: String, Sendable {
        case done, skipped, deferred
    }

    public let step: Step
    public var outcome: Outcome
    public var sent: Int64?
    public var received: Int64?
    public var rows: Int64?
    public var bytes: Int64?
    public var duration: Duration = .zero
    /// The JSON document a check answered with.
    public var answer: String?

    public init(_ step: Step, _ outcome: Outcome) {
        self.step = step
        self.outcome = outcome
    }

    var json: JSON {
        .object([
            "number": JSON(step.number),
            "stage": JSON(step.stage),
            "kind": JSON(step.kind.rawValue),
            "purpose": JSON(step.purpose),
            "counts": JSON(step.counts),
            "outcome": JSON(outcome.rawValue),
            "sent": JSON(sent),
            "received": JSON(received),
            "rows": JSON(rows),
            "bytes": JSON(bytes),
            "seconds": JSON(duration),
            "answer": JSON(verbatim: answer),
        ])
    }
}
