import Postgres
import Synchronization

/// INT and TERM: what runs is cancelled, a second one ends the process at once.
enum Interruption {
    private static let token = Result { try CancelToken() }
    private static let received = Atomic<Int32>(0)

    /// To be called before any thread starts.
    static func watch() {
        SignalWatch.start { signal in
            received.store(signal, ordering: .sequentiallyConsistent)
            try? token.get().fire()
        }
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
