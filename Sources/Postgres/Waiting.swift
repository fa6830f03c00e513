#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A moment after which waiting is over; none means never.
struct Deadline {
    private let end: ContinuousClock.Instant?

    static let never = Deadline(end: nil)

    static func at(_ end: ContinuousClock.Instant?) -> Deadline { Deadline(end: end) }

    static func earliest(_ one: Deadline, _ other: Deadline) -> Deadline {
        guard let first = one.end, let second = other.end else {
            return one.end == nil ? other : one
        }
        return Deadline(end: min(first, second))
    }

    static func after(_ limit: Duration?) -> Deadline {
        Deadline(end: limit.map { .now + $0 })
    }

    private init(end: ContinuousClock.Instant?) { self.end = end }

    var isOver: Bool { end.map { $0 <= .now } ?? false }

    /// For poll(): -1 is for ever. Rounded up, so that nobody spins through the last millisecond.
    var milliseconds: Int32 {
        guard let end else { return -1 }
        let left = (end - .now).components
        let milliseconds = left.seconds * 1000 + left.attoseconds / 1_000_000_000_000_000 + 1
        return Int32(clamping: max(0, milliseconds))
    }
}

/// What poll() is to look for.
struct Readiness: OptionSet {
    let rawValue: Int16

    static let readable = Readiness(rawValue: Int16(POLLIN))
    static let writable = Readiness(rawValue: Int16(POLLOUT))
    /// An error or the peer's end: reading or writing will tell which.
    static let broken = Readiness(rawValue: Int16(POLLERR | POLLHUP | POLLNVAL))
}

/// Why a wait ended otherwise than by a socket's readiness.
enum Interruption: Error, Equatable {
    case cancelled
    /// The time that the call was given.
    case timeLimit
    /// A limit of the connection itself; what runs is to be cancelled.
    case overdue(PostgresError)
    /// The server is not there any more; there is nobody to be told.
    case silent(PostgresError)
}

/// The one wait: sleeps until a socket is ready, a token is fired or the time is over.
///
/// Sockets below 0 are left out; the answer has one entry for each.
func wait(
    for first: (socket: Int32, wanted: Readiness),
    or second: (socket: Int32, wanted: Readiness) = (-1, []),
    tokens: (CancelToken?, CancelToken?), until deadline: Deadline
) throws(Interruption) -> (Readiness, Readiness) {
    let firstToken = tokens.0?.fileDescriptor ?? -1
    let secondToken = tokens.1 === tokens.0 ? -1 : tokens.1?.fileDescriptor ?? -1
    var entries = (
        pollfd(fd: first.socket, events: first.wanted.rawValue, revents: 0),
        pollfd(fd: second.socket, events: second.wanted.rawValue, revents: 0),
        pollfd(fd: firstToken, events: Int16(POLLIN), revents: 0),
        pollfd(fd: secondToken, events: Int16(POLLIN), revents: 0)
    )
    while true {
        let ready = withUnsafeMutablePointer(to: &entries) {
            $0.withMemoryRebound(to: pollfd.self, capacity: 4) {
                poll($0, 4, deadline.milliseconds)
            }
        }
        if entries.2.revents != 0 || entries.3.revents != 0, ready > 0 { throw .cancelled }
        if ready > 0 {
            return (
                Readiness(rawValue: entries.0.revents), Readiness(rawValue: entries.1.revents)
            )
        }
        // poll() only fails for a signal here (the entries are ours), and then just goes on.
        if deadline.isOver { throw .timeLimit }
    }
}
