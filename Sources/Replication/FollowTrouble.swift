import Postgres

/// Since when nothing can be done, what was said about it, and when to try again.
struct FollowTrouble {
    private var told: RunError?
    private var since: ContinuousClock.Instant?
    private var attempts = 0

    private static let longestPause = Duration.seconds(30)

    var error: RunError? { told }

    /// - Returns: whether this is to be told.
    mutating func add(_ error: RunError, now: ContinuousClock.Instant) -> Bool {
        attempts += 1
        since = since ?? now
        defer { told = error }
        return told.map { Self.key($0) != Self.key(error) } ?? true
    }

    /// - Returns: how long it lasted; nil where there was none.
    mutating func end(now: ContinuousClock.Instant) -> Duration? {
        defer { self = FollowTrouble() }
        return since.map { now - $0 }
    }

    /// One second, two, three, up to half a minute: most servers are back after a few.
    var pause: Duration { min(.seconds(max(1, attempts)), Self.longestPause) }

    mutating func forgetAttempts() {
        attempts = 0
    }

    /// A server that restarts says something else at each stage; that is all one.
    private static func key(_ error: RunError) -> String {
        switch error.failure.kind {
        case .unavailable, .lost: "away"
        case .busy, .conflict, .permanent: error.failure.sqlState
        }
    }
}
