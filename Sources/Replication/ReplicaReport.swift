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
    /// What a comparison with the source found, where one was asked for.
    public var verdict: Verdict?

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

    /// What a comparison found, for programs.
    public var verdictJSON: JSON {
        .object([
            "dest": JSON(dest),
            "source": JSON(source),
            "method": JSON(method),
            "verdict": JSON(verdict?.outcome.rawValue),
            "why": JSON(verdict?.why),
            "rows_there": JSON(verdict?.rowsThere),
            "rows_here": JSON(verdict?.rowsHere),
            "missing": JSON(verdict?.missing),
            "extra": JSON(verdict?.extra),
            "changed": JSON(verdict?.changed),
            "inserted": JSON(verdict?.inserted),
            "updated": JSON(verdict?.updated),
            "deleted": JSON(verdict?.deleted),
            "run_id": JSON(verdict?.runId),
            "seconds": JSON(duration),
            "differences": verdict?.differences ?? .array([]),
            "not_compared": JSON(verdict?.notCompared),
            "copied_anew": JSON(verdict?.copiedAnew ?? false),
            "error": failure?.json ?? .null,
        ])
    }
}
