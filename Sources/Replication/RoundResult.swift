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
