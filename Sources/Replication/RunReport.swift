/// What a run did: every replica that was tried, and those that were not.
public struct RunReport: Sendable, Equatable {
    public var replicas: [ReplicaReport] = []
    /// Due, but not begun: the time was up or the runner was told to stop.
    public var notBegun: [String] = []
    /// The destination is a standby, where there is nothing to do.
    public var isStandby = false
    /// The signal that ended it.
    public var signal: Int32?
    /// Why it ended early: the destination went away.
    public var stopped: RunError?
    public var duration: Duration = .zero

    public init() {}

    public func count(_ outcome: ReplicaReport.Outcome) -> Int {
        replicas.count { $0.outcome == outcome }
    }

    public var rows: Int64 { replicas.reduce(0) { $0 + $1.rows } }
    public var bytes: Int64 { replicas.reduce(0) { $0 + $1.bytes } }

    public var exitStatus: ExitStatus {
        if let signal { return .signal(signal) }
        if let stopped { return stopped.status }
        let isWrong = replicas.contains { replica in
            switch replica.verdict?.outcome {
            case .differs: true
            case .undecided: replica.outcome == .ok || replica.outcome == .unchanged
            case .equal, .repaired, nil: false
            }
        }
        if isWrong { return .replicaFailed }
        let failed = replicas.filter { $0.outcome == .failed }
        if failed.contains(where: { $0.failure?.kind != .unavailable }) { return .replicaFailed }
        let done = count(.ok) + count(.unchanged)
        if done == 0, !failed.isEmpty || count(.deferred) > 0 { return .tryLater }
        return failed.isEmpty ? .success : .replicaFailed
    }

    public var json: JSON {
        .object([
            "run": JSON(RunnerIdentity.current.runId),
            "standby": JSON(isStandby),
            "signal": JSON(signal),
            "stopped": stopped?.failure.json ?? .null,
            "seconds": JSON(duration),
            "exit_status": JSON(exitStatus.code),
            "replicas": .array(replicas.map(\.json)),
            "not_begun": .array(notBegun.map { JSON($0) }),
        ])
    }
}
