/// A moment after which a connection does not wait any longer, and what it says then.
///
/// Unlike the time limit of a call it spans any number of calls.
public struct TimeLimit: Sendable {
    /// The moment.
    public let end: ContinuousClock.Instant
    /// What is thrown: which limit it was, and what to do about it.
    public let error: PostgresError

    /// A limit; the error should be of origin `timeLimit`.
    public init(end: ContinuousClock.Instant, error: PostgresError) {
        self.end = end
        self.error = error
    }

    /// Whether the time is over.
    public var isOver: Bool { end <= .now }

    /// The one that ends first.
    public static func earliest(_ one: TimeLimit?, _ other: TimeLimit?) -> TimeLimit? {
        guard let one, let other else { return one ?? other }
        return one.end <= other.end ? one : other
    }
}
