/// Leaves those alone for a while that are still due after an attempt: somebody holds their lock, or
/// the destination could not be told that they failed. What it was told it leaves alone by itself.
struct FollowRests: Sendable {
    private struct Rest {
        var length: Duration
        var end: ContinuousClock.Instant
    }

    private static let shortest = Duration.seconds(1)
    private static let longest = Duration.seconds(60)

    private var rests: [String: Rest] = [:]

    /// After an attempt: a second, then two, four, up to a minute; none after a good one.
    mutating func ended(
        _ dest: String, _ outcome: ReplicaReport.Outcome, now: ContinuousClock.Instant
    ) {
        guard outcome != .ok, outcome != .unchanged else {
            rests[dest] = nil
            return
        }
        let length = rests[dest].map { min($0.length * 2, Self.longest) } ?? Self.shortest
        rests[dest] = Rest(length: length, end: now + length)
    }

    func isResting(_ dest: String, now: ContinuousClock.Instant) -> Bool {
        rests[dest].map { $0.end > now } ?? false
    }

    /// When the first of those that rest may be tried again.
    func firstEnd(now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        rests.values.map(\.end).filter { $0 > now }.min()
    }

    /// Forgets all others: they are not due any more.
    mutating func keep(_ dests: Set<String>) {
        rests = rests.filter { dests.contains($0.key) }
    }

    /// Forgets all.
    mutating func clear() {
        rests = [:]
    }
}
