#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Waits for INT, TERM and HUP on a thread, so that no code runs inside a signal handler.
public enum SignalWatch {
    private static let awaited = [SIGINT, SIGTERM, SIGHUP]

    /// To be called first thing in `main`, before any thread starts.
    ///
    /// The first signal calls `onFirst` with its number, on the watching thread; the second one
    /// ends the process at once with 128 + its number. SIGPIPE is ignored from now on.
    /// - Parameter onHangup: called by each HUP; where it returns true that was all there is to it.
    public static func start(
        onHangup: @escaping @Sendable () -> Bool = { false },
        onFirst: @escaping @Sendable (_ signal: Int32) -> Void
    ) {
        signal(SIGPIPE, SIG_IGN)
        let watched = awaited.filter { number in
            // A shell's `&` starts its children with SIGINT ignored, and an ignored signal never
            // reaches sigwait. What `nohup` has ignored stays so: that is its purpose.
            let former = signal(number, SIG_DFL)
            guard number == SIGHUP, isIgnored(former) else { return true }
            signal(number, SIG_IGN)
            return false
        }
        block(watched)
        _ = JobThread.start {
            var set = signalSet(watched)
            var isFirst = true
            while true {
                var number: Int32 = 0
                guard sigwait(&set, &number) == 0 else { continue }
                if number == SIGHUP, onHangup() { continue }
                guard isFirst else { _exit(128 + number) }
                isFirst = false
                onFirst(number)
            }
        }
    }

    private static func block(_ signals: [Int32]) {
        var set = signalSet(signals)
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    private static func signalSet(_ signals: [Int32]) -> sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for number in signals { sigaddset(&set, number) }
        return set
    }

    private static func isIgnored(_ handler: (@convention(c) (Int32) -> Void)?) -> Bool {
        unsafeBitCast(handler, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
    }
}
