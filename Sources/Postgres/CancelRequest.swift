import CLibPQ
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Asks a server to cancel what a connection runs, without ever waiting long for it.
///
/// PQcancel makes a connection of its own and blocks; where packets vanish, for minutes. So it runs
/// on a thread that may be left behind. (libpq 17 has PQcancelStart; when 17 is the oldest
/// supported client this file can go.)
final class CancelRequest: @unchecked Sendable {
    // Given to one thread, which alone uses it; freed when both that thread and the waiter are done.
    private let pointer: OpaquePointer
    private let succeeded = Atomic<Bool>(false)
    private let done: CancelToken

    private init?(_ connection: OpaquePointer) {
        guard let token = try? CancelToken(), let pointer = PQgetCancel(connection) else {
            return nil
        }
        self.pointer = pointer
        done = token
    }

    deinit { PQfreeCancel(pointer) }

    /// Whether the server took the request within the time.
    static func send(for connection: OpaquePointer, within limit: Duration) -> Bool {
        guard let request = CancelRequest(connection) else { return false }
        let started = JobThread.start {
            var message = [CChar](repeating: 0, count: 256)
            let answer = PQcancel(request.pointer, &message, Int32(message.count))
            request.succeeded.store(answer == 1, ordering: .sequentiallyConsistent)
            request.done.fire()
        }
        guard started else { return false }
        _ = try? wait(
            for: (request.done.fileDescriptor, .readable), tokens: (nil, nil),
            until: .after(limit))
        return request.succeeded.load(ordering: .sequentiallyConsistent)
    }
}
