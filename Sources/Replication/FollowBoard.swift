import Postgres
import Synchronization

/// What the threads of a follower share: the queue, which the watching thread fills again and again
/// while the others work it off, and what became of what was in it.
final class FollowBoard: Sendable {
    /// What a thread may do next.
    enum Work: Equatable {
        /// Refresh it.
        case refresh(RefreshQueue.Entry)
        /// Find out which of a source's replicas have nothing to do; the entry keeps its place.
        case look(RefreshQueue.Entry, source: String)
    }

    private struct State {
        var queue: RefreshQueue
        var running: Set<String> = []
        /// Sources that are being asked which of their replicas are idle.
        var looking: Set<String> = []
        /// Replicas of which that was asked already: they are to be refreshed.
        var settled: Set<String> = []
        var rests = FollowRests()
        var ended: [ReplicaReport] = []
        var roundBegan: ContinuousClock.Instant?
        var lastEnd: ContinuousClock.Instant?
        var threads = 0
        /// Nothing is begun while it is not known how the destination is.
        var isOpen = false
        var lost: RunError?
        /// After a loss: nobody has worked there since.
        var isDoubtful = false
        var isInterrupted = false

        var isQuiet: Bool { running.isEmpty && looking.isEmpty && queue.waiting.isEmpty }
    }

    /// How long what has ended may wait for the rest of its round.
    static let longestRound = Duration.seconds(60)

    /// Wakes threads that wait for work.
    let work: Bell
    /// Wakes the watching thread.
    let news: Bell
    private let jobs: Int
    private let cancel: CancelToken
    private let state: Mutex<State>

    init(
        jobs: Int, perSource: Int, deadline: ContinuousClock.Instant?, cancel: CancelToken,
        news: Bell
    ) throws(PostgresError) {
        self.jobs = jobs
        self.cancel = cancel
        self.news = news
        work = try Bell()
        state = Mutex(State(queue: RefreshQueue(perSource: perSource, deadline: deadline)))
    }
}

// MARK: - For the watching thread

extension FollowBoard {
    /// Puts what is due on the board, in place of what waits there.
    /// - Returns: how many threads are to be started for it, and when the first of those that were
    ///   tried a moment ago may be tried again.
    func offer(
        _ due: [RefreshQueue.Entry], now: ContinuousClock.Instant = .now
    ) -> (threads: Int, again: ContinuousClock.Instant?) {
        state.withLock { state in
            state.isOpen = true
            let dests = Set(due.map(\.dest))
            state.rests.keep(dests.union(state.running))
            state.settled.formIntersection(dests)
            state.queue.replace(
                due.filter {
                    !state.running.contains($0.dest) && !state.rests.isResting($0.dest, now: now)
                })
            guard !state.queue.isStopped else { return (0, nil) }
            let waiting = state.queue.waiting.count
            if waiting > 0, state.roundBegan == nil { state.roundBegan = now }
            let busy = state.running.count + state.looking.count
            let wanted = max(0, min(jobs, busy + waiting) - state.threads)
            state.threads += wanted
            work.ring(times: min(waiting, jobs))
            return (wanted, state.rests.firstEnd(now: now))
        }
    }

    /// Sources that may have fewer connections than all others.
    func limit(_ caps: [String: Int]) {
        state.withLock { $0.queue.caps = caps }
    }

    /// Begins nothing until the next ``offer(_:now:)``.
    func close() {
        state.withLock { $0.isOpen = false }
    }

    /// Begins nothing more.
    func stop() {
        state.withLock { $0.queue.stop() }
        work.ring(times: jobs)
    }

    /// Whether nothing more is begun.
    var isStopped: Bool { state.withLock { $0.queue.isStopped } }

    /// Whether no thread is left, nor its connections.
    var isDeserted: Bool { state.withLock { $0.threads == 0 } }

    /// Whether nobody works.
    var isIdle: Bool { state.withLock { $0.running.isEmpty && $0.looking.isEmpty } }

    /// Tries at once what would rest.
    func forgetRests() {
        state.withLock { $0.rests.clear() }
    }

    /// That a thread has lost the destination; once.
    func takeLoss() -> RunError? {
        state.withLock { state in
            defer { state.lost = nil }
            return state.lost
        }
    }

    /// Whether the destination has been of use since it was lost.
    var isProven: Bool { state.withLock { !$0.isDoubtful || $0.isQuiet } }

    /// What has ended, where nothing is left to do or some of it has waited long enough; nil: wait.
    func takeRound(now: ContinuousClock.Instant = .now, isLast: Bool = false) -> RunReport? {
        state.withLock { state in
            guard let began = state.roundBegan else { return nil }
            guard state.isQuiet || isLast || now - began >= Self.longestRound else { return nil }
            state.roundBegan = state.isQuiet ? nil : now
            guard !state.ended.isEmpty || isLast else { return nil }
            var report = RunReport()
            report.replicas = state.ended
            report.duration = (state.isQuiet ? state.lastEnd ?? now : now) - began
            if isLast { report.notBegun = state.queue.waiting.map(\.dest) }
            state.ended = []
            return report
        }
    }

    /// Whether a refresh was cancelled.
    var isInterrupted: Bool { state.withLock { $0.isInterrupted } }
}

// MARK: - For the working threads

extension FollowBoard {
    /// The next thing to do, to be given back with ``ended(_:_:)`` or ``looked(_:source:_:idle:)``.
    func next(now: ContinuousClock.Instant = .now) -> Work? {
        state.withLock { state in
            if cancel.isFired { state.queue.stop() }
            guard state.isOpen else { return nil }
            let (looking, settled) = (state.looking, state.settled)
            let entry = state.queue.next(now: now) { entry in
                settled.contains(entry.dest) || entry.source.map { !looking.contains($0) } ?? true
            }
            guard let entry else { return nil }
            // A single one is asked as soon as it is refreshed.
            if let source = entry.source, !settled.contains(entry.dest),
                state.queue.waiting.contains(where: {
                    $0.source == source && !settled.contains($0.dest)
                })
            {
                state.looking.insert(source)
                return .look(entry, source: source)
            }
            state.running.insert(entry.dest)
            return .refresh(entry)
        }
    }

    /// A refresh has ended.
    func ended(
        _ entry: RefreshQueue.Entry, _ reports: [ReplicaReport],
        now: ContinuousClock.Instant = .now
    ) {
        let isNews = state.withLock { state in
            state.queue.ended(entry)
            state.running.remove(entry.dest)
            state.settled.remove(entry.dest)
            // What another one refreshes is that one's to tell.
            state.ended += reports.filter {
                $0.failure?.sqlState != SQLState.beingRefreshed || $0.outcome != .deferred
            }
            state.lastEnd = now
            state.isDoubtful = false
            // By the name that it was asked for: others of its group come with it.
            if let first = reports.first { state.rests.ended(entry.dest, first.outcome, now: now) }
            if reports.contains(where: { $0.outcome == .cancelled }) { state.isInterrupted = true }
            return state.queue.waiting.count < jobs
        }
        // While there is enough to do, nobody need look for more.
        if isNews { news.ring() }
        work.ring()
    }

    /// A source was asked.
    /// - Parameters:
    ///   - found: what is to be refreshed.
    ///   - idle: what is not.
    func looked(
        _ entry: RefreshQueue.Entry, source: String, _ found: [RefreshQueue.Entry],
        idle: [ReplicaReport], now: ContinuousClock.Instant = .now
    ) {
        state.withLock { state in
            giveBack(entry, source, &state)
            let idleDests = Set(idle.map(\.dest))
            let left = state.queue.waiting.filter { !idleDests.contains($0.dest) }
            state.queue.replace(left)
            state.settled.formUnion(left.lazy.filter { $0.source == source }.map(\.dest))
            state.settled.formUnion(found.map(\.dest))
            state.ended += idle
            state.lastEnd = now
            state.isDoubtful = false
            work.ring(times: min(left.count, jobs))
        }
        news.ring()
    }

    /// The destination cannot be reached any more.
    func lost(_ work: Work, _ error: RunError) {
        state.withLock { state in
            switch work {
            case .look(let entry, let source): giveBack(entry, source, &state)
            case .refresh(let entry):
                state.queue.ended(entry)
                state.running.remove(entry.dest)
            }
            state.lost = error
            state.isDoubtful = true
            state.isOpen = false
        }
        news.ring()
    }

    private func giveBack(_ entry: RefreshQueue.Entry, _ source: String, _ state: inout State) {
        state.queue.ended(entry)
        state.looking.remove(source)
        // It had waited longest. Another look at what is due may have brought it back meanwhile.
        if !state.queue.waiting.contains(where: { $0.dest == entry.dest }) {
            state.queue.replace([entry] + state.queue.waiting)
        }
    }

    /// A thread that has waited in vain for work may end. False: there is some.
    func leave() -> Bool {
        state.withLock { state in
            guard state.queue.isStopped || !state.isOpen || state.queue.waiting.isEmpty else {
                return false
            }
            state.threads -= 1
            return true
        }
    }

    /// A thread has ended, whatever there is to do.
    /// - Parameter error: it could not connect; where it was the only one, that is the destination's
    ///   matter.
    func threadEnded(_ error: RunError?) {
        state.withLock { state in
            state.threads -= 1
            guard let error, state.threads == 0 else { return }
            state.lost = error
            state.isDoubtful = true
            state.isOpen = false
        }
        // What it leaves waiting may need another one.
        news.ring()
    }
}
