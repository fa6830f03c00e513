import Postgres
import Synchronization

/// What the threads of a run share: the queue, and what became of what was in it.
final class RefreshBoard: Sendable {
    private struct State {
        var queue: RefreshQueue
        var report = RunReport()
    }

    private let state: Mutex<State>
    private let cancel: CancelToken

    init(perSource: Int, deadline: ContinuousClock.Instant?, cancel: CancelToken) {
        state = Mutex(State(queue: RefreshQueue(perSource: perSource, deadline: deadline)))
        self.cancel = cancel
    }

    func fill(_ entries: [RefreshQueue.Entry]) {
        state.withLock { $0.queue.add(entries) }
    }

    /// How many at a time may read from which source.
    func limit(_ caps: [String: Int]) {
        state.withLock { $0.queue.caps = caps }
    }

    func next() -> RefreshQueue.Entry? {
        state.withLock { state in
            if cancel.isFired { state.queue.stop() }
            return state.queue.next(now: .now)
        }
    }

    func ended(_ entry: RefreshQueue.Entry) {
        state.withLock { $0.queue.ended(entry) }
    }

    func add(_ replica: ReplicaReport) {
        state.withLock { $0.report.replicas.append(replica) }
    }

    func isStandby() {
        state.withLock { $0.report.isStandby = true }
    }

    /// Begins nothing more after an error that is no replica's. Throws it where nothing was begun.
    func stop(_ error: any Error) throws {
        try state.withLock { state in
            state.queue.stop()
            if cancel.isFired { return }
            guard let error = error as? RunError, !state.report.replicas.isEmpty else {
                throw (error as? PostgresError).map { RunError(destination: $0) } ?? error
            }
            state.report.stopped = error
        }
    }

    func report(after duration: Duration) -> RunReport {
        state.withLock { state in
            state.report.notBegun = state.queue.waiting.map(\.dest)
            state.report.duration = duration
            return state.report
        }
    }
}
