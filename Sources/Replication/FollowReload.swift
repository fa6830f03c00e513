import Postgres
import Synchronization

/// Makes a follower go round at once.
public final class FollowReload: Sendable {
    let bell: Bell
    private let isWanted = Atomic<Bool>(false)

    /// Fails when the process has no file descriptor left.
    public init() throws {
        bell = try Bell()
    }

    /// May be called from any thread: look at once what is due, and leave nothing alone because of
    /// what happened before.
    public func callAsFunction() {
        isWanted.store(true, ordering: .sequentiallyConsistent)
        bell.ring()
    }

    /// Whether somebody asked for it since the last time.
    func take() -> Bool {
        isWanted.exchange(false, ordering: .sequentiallyConsistent)
    }
}
