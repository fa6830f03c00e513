import Synchronization

/// Stops what runs on another thread: the one thing that jobs share with their caller.
///
/// An atomic flag for those that look, and a pipe for those that sleep in poll(). A token may be
/// shared by any number of jobs, and once fired it stays so.
public final class CancelToken: Sendable {
    private let fired = Atomic<Bool>(false)
    private let wake: WakePipe

    /// A token that is not fired; fails when the process has no file descriptor left.
    public init() throws(PostgresError) {
        wake = try WakePipe()
    }

    /// Cancels; may be called from any thread, more than once.
    public func fire() {
        guard !fired.exchange(true, ordering: .sequentiallyConsistent) else { return }
        // The byte is never read, so that every sleeper sees it, whenever it looks.
        wake.put(1)
    }

    /// Whether it was fired.
    public var isFired: Bool { fired.load(ordering: .sequentiallyConsistent) }

    /// Readable from the moment that the token is fired: for poll().
    public var fileDescriptor: Int32 { wake.readEnd }
}
