/// Runs a job on a thread of its own, and lets async code wait for it.
///
/// When the task is cancelled the job's token is fired. A token given by the caller may serve
/// several jobs.
public func onOwnThread<T: Sendable>(
    cancel: CancelToken? = nil, _ body: @escaping @Sendable (CancelToken) throws -> T
) async throws -> T { fatalError() }

/// Waits for INT, TERM and HUP, so that no code runs inside a signal handler.
public enum SignalWatch {
    /// To be called first thing in `main`, before any thread starts.
    ///
    /// The first signal calls `onFirst` with its number, on the watching thread; the second one
    /// ends the process at once with 128 + its number. SIGPIPE is ignored from now on.
    public static func start(onFirst: @escaping @Sendable (_ signal: Int32) -> Void) {
        fatalError()
    }
}
