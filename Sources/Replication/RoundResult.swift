/// What a round did, as `roneo.finish_refresh` wants to hear it.
struct RoundResult: Sendable, Equatable {
    let replicaId: Int
    /// The run whose start was recorded; none was for a replica with nothing to do.
    let runId: Int64?
    let startedAt: String
    let duration: Duration
    let planned: Int
    let steps: [StepResult]
    let runner: RunnerIdentity
    /// The process of the destination server.
    let backend: Int32

    var json: JSON {
        .object([
            "replica_id": JSON(replicaId),
            "run_id": JSON(runId),
            "started_at": JSON(startedAt),
            "seconds": JSON(duration),
            "planned": JSON(planned),
            "steps": .array(steps.map(\.json)),
            "runner": JSON(runner.description),
            "backend": JSON(backend),
        ])
    }
}

/// What the source said, as `roneo.plan_refresh` and `roneo.finish_refresh` want to hear it.
struct RoundAnswer: Sendable, Equatable {
    let replicaId: Int
    let options: RefreshOptions
    /// JSON documents of the source, embedded as they came.
    let before: String?
    let inside: String?

    var json: JSON {
        .object([
            "replica_id": JSON(replicaId),
            "hand": JSON("runner"),
            "options": .object([
                "drop_dependents": JSON(options.dropDependents),
                "force": JSON(options.force),
            ]),
            "before": JSON(verbatim: before),
            "inside": JSON(verbatim: inside),
        ])
    }
}

/// What a caller may ask of a refresh beyond the refresh.
public struct RefreshOptions: Sendable, Equatable {
    /// Drop what depends on a view that has to be built anew.
    public var dropDependents: Bool
    /// Copy although nothing seems to have changed.
    public var force: Bool

    public init(dropDependents: Bool = false, force: Bool = false) {
        self.dropDependents = dropDependents
        self.force = force
    }
}
