import Postgres

/// Refreshes what falls due, as it falls due, until it is told to stop.
///
/// One thread watches the clock of the destination, up to `jobs` others work. There are no waves:
/// what falls due while a big table is copied is begun as soon as a thread is free. A thread and its
/// connections are given up when there was nothing to do for a while.
public struct Follow: Sendable {
    /// Which replicas, where, and how many at a time.
    public var run: RefreshRun
    public var listener: any FollowListener
    /// Makes it look at once.
    public var reload: FollowReload
    /// Within this time somebody wants to hear that it is alive; nil: nobody does.
    public var watchdog: Duration?

    /// How long a thread keeps its connections for the next refresh.
    private static let idleLimit = Duration.seconds(15)
    /// And how long at all: a server's process remembers every table that it has seen.
    private static let ageLimit = Duration.seconds(600)

    /// - Parameter run: with what is due as its selection.
    public init(_ run: RefreshRun, reload: FollowReload, listener: any FollowListener) {
        self.run = run
        self.reload = reload
        self.listener = listener
    }

    /// - Parameter cancel: when fired, nothing more is begun, what runs is cancelled on both
    ///   servers, rolled back and recorded.
    public func callAsFunction(cancel: CancelToken) async throws -> FollowEnd {
        guard case .due(let filter) = run.selection else {
            preconditionFailure("only what is due can be followed")
        }
        let runner = RunnerIdentity.current
        let journal = Journal(run.destination, runner: runner, stallTimeout: run.stallTimeout)
        defer { journal.close() }
        let context = run.context(
            began: .now, runner: runner, journal: journal, cancel: cancel)
        let deadline = context.deadline
        let board = try FollowBoard(
            jobs: run.jobs, perSource: run.perSource, deadline: deadline, cancel: cancel,
            news: reload.bell)
        let query = DueQuery(filter: filter)

        let (events, post) = AsyncStream.makeStream(of: FollowEvent.self)
        async let told: Void = tell(events)
        let failure = await withTaskGroup(of: RunError?.self) { group in
            let (helpers, wanted) = AsyncStream.makeStream(of: Int.self)
            group.addTask {
                defer { wanted.finish() }
                return await watch(board, context, query, deadline, post, wanted)
            }
            for await count in helpers {
                for _ in 0..<count {
                    group.addTask {
                        await work(board, context, query)
                        return nil
                    }
                }
            }
            var failure: RunError?
            for await ended in group { failure = failure ?? ended }
            return failure
        }
        if let report = board.takeRound(isLast: true) { post.yield(.round(report)) }
        post.finish()
        await told
        return failure.map { .failed($0) } ?? (board.isInterrupted ? .interrupted : .done)
    }

    private func tell(_ events: AsyncStream<FollowEvent>) async {
        for await event in events { await listener.heard(event) }
    }

    private func watch(
        _ board: FollowBoard, _ context: RefreshContext, _ query: DueQuery,
        _ deadline: ContinuousClock.Instant?, _ post: AsyncStream<FollowEvent>.Continuation,
        _ wanted: AsyncStream<Int>.Continuation
    ) async -> RunError? {
        do {
            try await onOwnThread(cancel: context.cancel) { _ in
                let watch = FollowWatch(
                    self, query: query, board: board, context: context, deadline: deadline,
                    tell: { post.yield($0) }, startThreads: { wanted.yield($0) })
                try watch()
            }
            return nil
        } catch let told as RunError {
            return told
        } catch {
            let failure = RunError(.replicaFailed, Failure(any: error, during: "watching"))
            post.yield(.failed(failure))
            return failure
        }
    }

    /// A thread from its start to its end.
    private func work(
        _ board: FollowBoard, _ context: RefreshContext, _ query: DueQuery
    ) async {
        do {
            try await onOwnThread(cancel: context.cancel) { _ in
                let worker = Worker(context)
                defer { worker.close() }
                do {
                    // A server without room for one more leaves the work to the others.
                    _ = try worker.destination(for: "helper")
                } catch {
                    board.threadEnded(context.cancel.isFired ? nil : error as? RunError)
                    return
                }
                work(worker, board, query)
            }
        } catch {
            board.threadEnded(RunError(.replicaFailed, Failure(any: error, during: "starting")))
        }
    }

    private func work(_ worker: Worker, _ board: FollowBoard, _ query: DueQuery) {
        let oldest = ContinuousClock.now + Self.ageLimit
        while oldest > .now, !board.isStopped, !worker.context.cancel.isFired {
            if let next = board.next() {
                guard carryOut(next, worker, board, query) else {
                    return board.threadEnded(nil)
                }
            } else if !board.work.wait(for: Self.idleLimit, or: worker.context.cancel),
                board.leave()
            {
                return
            }
        }
        board.threadEnded(nil)
    }

    /// - Returns: false where the destination cannot be reached any more.
    private func carryOut(
        _ work: FollowBoard.Work, _ worker: Worker, _ board: FollowBoard, _ query: DueQuery
    ) -> Bool {
        switch work {
        case .refresh(let entry):
            var options = run.options
            options.onlyIfDue = true
            let job = RefreshJob(entry.dest, options: options, worker: worker)
            let reports = job()
            if let lost = job.destinationLost, !worker.context.cancel.isFired {
                board.lost(work, lost)
                return false
            }
            board.ended(entry, reports)
        case .look(let entry, let source):
            var query = query
            query.filter.sources = [source]
            do {
                let found = try query.look(worker, try worker.destination(for: "due"))
                board.looked(entry, source: source, found.entries, idle: found.idle)
            } catch {
                worker.rollBack()
                board.lost(work, RunError(any: error))
                return false
            }
        }
        return true
    }
}
