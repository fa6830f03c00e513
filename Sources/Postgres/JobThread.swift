#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Runs a job on a thread of its own, and lets async code wait for it.
///
/// What the job opens, it closes: connections never leave their thread. When the task is cancelled
/// the job's token is fired.
/// - Parameter cancel: a token of the caller's, which may serve several jobs; else a new one.
public func onOwnThread<T: Sendable>(
    cancel: CancelToken? = nil, _ body: @escaping @Sendable (CancelToken) throws -> T
) async throws -> T {
    let token = if let cancel { cancel } else { try CancelToken() }
    return try await withTaskCancellationHandler {
        try await withCheckedThrowingContinuation { continuation in
            let started = JobThread.start {
                continuation.resume(with: Result { try body(token) })
            }
            if !started {
                continuation.resume(
                    throwing: PostgresError(origin: .local, message: "could not start a thread"))
            }
        }
    } onCancel: {
        token.fire()
    }
}

/// A thread for one job, which no signal disturbs.
enum JobThread {
    /// Enough for libpq with TLS and for our own calls; the system's default is 8 times that.
    private static let stackSize = 1 << 20

    fileprivate final class Work: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    /// Starts it; false when the system has no thread left.
    static func start(_ body: @escaping @Sendable () -> Void) -> Bool {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setstacksize(&attributes, stackSize)
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        let work = Unmanaged.passRetained(Work(body))
        #if canImport(Darwin)
            var thread: pthread_t?
        #else
            var thread = pthread_t()
        #endif
        let failure = pthread_create(&thread, &attributes, runWork, work.toOpaque())
        if failure != 0 { work.release() }
        return failure == 0
    }
}

#if canImport(Darwin)
    private typealias ThreadArgument = UnsafeMutableRawPointer
#else
    private typealias ThreadArgument = UnsafeMutableRawPointer?
#endif

// A function of its own, because the concurrency checker of Swift 6.3 crashes on a closure here.
private func runWork(_ argument: ThreadArgument) -> UnsafeMutableRawPointer? {
    let argument: UnsafeMutableRawPointer? = argument
    var all = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_BLOCK, &all, nil)
    if let argument {
        Unmanaged<JobThread.Work>.fromOpaque(argument).takeRetainedValue().body()
    }
    return nil
}
