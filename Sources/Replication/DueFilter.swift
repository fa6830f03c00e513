/// Which of the replicas that are due are wanted; nil: all.
public struct DueFilter: Sendable, Equatable {
    public var sources: [String]?
    public var methods: [String]?
    public var groups: [String]?
    /// How much later than its grid a replica is due at most; how much exactly, its name says.
    public var jitter: Duration?

    public init(
        sources: [String]? = nil, methods: [String]? = nil, groups: [String]? = nil,
        jitter: Duration? = nil
    ) {
        self.sources = sources
        self.methods = methods
        self.groups = groups
        self.jitter = jitter
    }

    /// As PostgreSQL reads an interval.
    var jitterText: String? {
        jitter.map { "\($0 / .seconds(1)) seconds" }
    }
}
