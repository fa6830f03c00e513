#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A pipe inside of this process, whose readable end wakes threads from poll(). Neither end blocks,
/// or is inherited.
final class WakePipe: Sendable {
    let readEnd: Int32
    private let writeEnd: Int32

    /// Fails when the process has no file descriptor left.
    init() throws(PostgresError) {
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

    /// May be called from any thread. What a full pipe has no room for is dropped.
    func put(_ count: Int) {
        let bytes = [UInt8](repeating: 1, count: max(0, min(count, 4_096)))
        _ = write(writeEnd, bytes, bytes.count)
    }

    /// How many bytes there were, of at most so many.
    func take(atMost count: Int) -> Int {
        var bytes = [UInt8](repeating: 0, count: count)
        return max(0, read(readEnd, &bytes, count))
    }
}
