import Postgres
import Synchronization

/// INT, TERM and HUP: what runs is cancelled, a second one ends the process at once.
enum Interruption {
    private static let token = Result { try CancelToken() }
    private static let received = Atomic<Int32>(0)
    private static let hangup = Mutex<(@Sendable () -> Void)?>(nil)

    /// To be called before any thread starts.
    static func watch() {
        SignalWatch.start(onHangup: {
            guard let reload = hangup.withLock({ $0 }) else { return false }
            reload()
            return true
        }) { signal in
            received.store(signal, ordering: .sequentiallyConsistent)
            try? token.get().fire()
        }
    }

    /// From now on a HUP ends nothing, but calls this.
    static func onHangup(_ reload: @escaping @Sendable () -> Void) {
        hangup.withLock { $0 = reload }
    }

    /// Fired by the first signal.
    static func cancelToken() throws -> CancelToken {
        try token.get()
    }

    /// The signal that has arrived, if one has.
    static var signal: Int32? {
        let number = received.load(ordering: .sequentiallyConsistent)
        return number == 0 ? nil : number
    }
}
