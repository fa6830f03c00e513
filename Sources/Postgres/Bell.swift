#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Wakes threads that have nothing to do.
///
/// Each ring wakes one that waits, or the next one that will. A ring too many does no harm: whoever
/// is woken looks for itself what there is to do.
public final class Bell: Sendable {
    private let readEnd: Int32
    private let writeEnd: Int32

    /// Fails when the process has no file descriptor left.
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

    /// May be called from any thread. A pipe that is full wakes as many as there can be.
    public func ring(times: Int = 1) {
        var bytes = [UInt8](repeating: 1, count: max(0, min(times, 4_096)))
        _ = write(writeEnd, &bytes, bytes.count)
    }

    /// Sleeps until it rings, the token is fired or the time is over.
    /// - Returns: whether it rang.
    public func wait(for limit: Duration, or token: CancelToken) -> Bool {
        let ready = try? Postgres.wait(
            for: (readEnd, .readable), tokens: (token, nil), until: .after(limit))
        guard ready != nil else { return false }
        var byte: UInt8 = 0
        return read(readEnd, &byte, 1) == 1
    }

    /// Forgets that it rang.
    public func silence() {
        var bytes = [UInt8](repeating: 0, count: 4_096)
        while read(readEnd, &bytes, bytes.count) > 0 {}
    }
}
