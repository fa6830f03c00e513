/// Wakes threads that have nothing to do.
///
/// Each ring wakes one that waits, or the next one that will. A ring too many does no harm: whoever
/// is woken looks for itself what there is to do.
public final class Bell: Sendable {
    private let rings: WakePipe

    /// Fails when the process has no file descriptor left.
    public init() throws(PostgresError) {
        rings = try WakePipe()
    }

    /// May be called from any thread. A pipe that is full wakes as many as there can be.
    public func ring(times: Int = 1) {
        rings.put(times)
    }

    /// Sleeps until it rings, the token is fired or the time is over.
    /// - Returns: whether it rang.
    public func wait(for limit: Duration, or token: CancelToken) -> Bool {
        let ready = try? Postgres.wait(
            for: (rings.readEnd, .readable), tokens: (token, nil), until: .after(limit))
        return ready != nil && rings.take(atMost: 1) == 1
    }

    /// Forgets that it rang.
    public func silence() {
        while rings.take(atMost: 4_096) > 0 {}
    }
}
