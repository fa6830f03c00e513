/// How the refresh of one replica went.
public struct ReplicaReport: Sendable, Equatable {
    public enum Outcome: String, Sendable, CaseIterable {
        /// The copy is fresh.
        case ok
        /// It was already.
        case unchanged
        /// Somebody else holds what it needs; the next run does it.
        case deferred
        case failed
        /// The runner was told to stop.
        case cancelled
    }

    public var dest: String
    public var source: String?
    public var method: String?
    public var outcome: Outcome
    public var runId: Int64?
    public var rows: Int64 = 0
    public var bytes: Int64 = 0
    public var duration: Duration = .zero
    /// What the extension has to say about a good end.
    public var message: String?
    public var warning: String?
    public var failure: Failure?

    public init(dest: String, outcome: Outcome) {
        self.dest = dest
        self.outcome = outcome
    }

    public var json: JSON {
        .object([
            "dest": JSON(dest),
            "source": JSON(source),
            "method": JSON(method),
            "outcome": JSON(outcome.rawValue),
            "run_id": JSON(runId),
            "rows": JSON(rows),
            "bytes": JSON(bytes),
            "seconds": JSON(duration),
            "message": JSON(message),
            "warning": JSON(warning),
            "error": failure?.json ?? .null,
        ])
    }
}
