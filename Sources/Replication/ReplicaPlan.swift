/// What the next refresh of a replica would do.
public struct ReplicaPlan: Sendable, Equatable {
    public let dest: String
    public let source: String
    public let method: String
    public let steps: [Step]

    public var json: JSON {
        .object([
            "dest": JSON(dest),
            "source": JSON(source),
            "method": JSON(method),
            "steps": .array(steps.map(\.json)),
        ])
    }
}
