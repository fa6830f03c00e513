import Postgres
import Synchronization

/// What the jobs of a process tell each other of sources, so that not each of a thousand replicas
/// finds out by itself that its source is silent or paused.
final class SourceGuard: Sendable {
    private struct Known {
        var answered: ContinuousClock.Instant?
        var refusal: (failure: Failure, until: ContinuousClock.Instant)?
    }

    private let known = Mutex<[String: Known]>([:])

    /// How long an answer about a source's load is good for.
    static let freshness = Duration.seconds(10)
    /// How long one that did not take a connection in time is not asked again.
    static let silence = Duration.seconds(60)

    /// Throws what is known against a source.
    func require(_ name: String) throws {
        let refusal = known.withLock { $0[name]?.refusal }
        if let refusal, refusal.until > .now { throw refusal.failure }
    }

    /// Whether the load of a source is to be asked now. Those that ask at the same time all do.
    func isToBeAsked(_ name: String) -> Bool {
        known.withLock { known in
            known[name]?.answered.map { $0 + Self.freshness <= .now } ?? true
        }
    }

    /// The source is within its limits.
    func accept(_ name: String) {
        known.withLock { $0[name, default: Known()].answered = .now }
    }

    /// Lets others know that a source is not to be read for now.
    func refuse(_ name: String, _ failure: Failure, for time: Duration) {
        known.withLock { $0[name, default: Known()].refusal = (failure, .now + time) }
    }
}
