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
                "sweep": JSON(options.sweep),
                "staging": JSON(options.staging),
            ]),
            "before": JSON(verbatim: before),
            "inside": JSON(verbatim: inside),
        ])
    }
}
