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
