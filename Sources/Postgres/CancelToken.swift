import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Stops what runs on another thread: the one thing that jobs share with their caller.
///
/// An atomic flag for those that look, and a pipe for those that sleep in poll(). A token may be
/// shared by any number of jobs, and once fired it stays so.
public final class CancelToken: Sendable {
    private let fired = Atomic<Bool>(false)
    private let readEnd: Int32
    private let writeEnd: Int32

    /// A token that is not fired; fails when the process has no file descriptor left.
    public init() throws(PostgresError) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else {
            throw PostgresError(
                origin: .local,
                message: "could not make a pipe: \(String(cString: strerror(errno)))")
        }
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        readEnd = ends[0]
        writeEnd = ends[1]
    }

    deinit {
        close(readEnd)
        close(writeEnd)
    }

    /// Cancels; may be called from any thread, more than once.
    public func fire() {
        guard !fired.exchange(true, ordering: .sequentiallyConsistent) else { return }
        // The byte is never read, so that every sleeper sees it, whenever it looks.
        var byte: UInt8 = 1
        _ = write(writeEnd, &byte, 1)
    }

    /// Whether it was fired.
    public var isFired: Bool { fired.load(ordering: .sequentiallyConsistent) }

    /// Readable from the moment that the token is fired: for poll().
    public var fileDescriptor: Int32 { readEnd }
}
