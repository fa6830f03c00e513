import Postgres

/// The watching thread of a follower: it asks what is due, puts that on the board, and sleeps until
/// more will be.
///
/// It refreshes nothing itself, so that no source and no big table can hold it up. No statement of
/// its own may take long either.
final class FollowWatch {
    private let query: DueQuery
    private let board: FollowBoard
    private let context: RefreshContext
    private let reload: FollowReload
    private let listener: any FollowListener
    private let deadline: ContinuousClock.Instant?
    private let patience: Duration
    private let longestSleep: Duration
    private let tell: (FollowEvent) -> Void
    private let startThreads: (Int) -> Void

    private var connection: Connection?
    private var trouble = FollowTrouble()
    private var hasBegun = false
    /// What waiting does not mend.
    private var failure: RunError?
    /// Whether the last look at the destination was in vain.
    private var isAway = false
    private var lastRound = ContinuousClock.now

    /// Replicas that fall due one after the other are taken together.
    private static let shortestSleep = Duration.milliseconds(500)
    /// New replicas and changed schedules are seen after that at the latest.
    private static let longestSleep = Duration.seconds(30)

    init(
        _ follow: Follow, query: DueQuery, board: FollowBoard, context: RefreshContext,
        deadline: ContinuousClock.Instant?, tell: @escaping (FollowEvent) -> Void,
        startThreads: @escaping (Int) -> Void
    ) {
        reload = follow.reload
        listener = follow.listener
        // Two such waits are possible between one sign of life and the next.
        longestSleep = min(Self.longestSleep, follow.watchdog.map { $0 / 4 } ?? Self.longestSleep)
        patience = longestSleep
        self.query = query
        self.board = board
        self.context = context
        self.deadline = deadline
        self.tell = tell
        self.startThreads = startThreads
    }

    /// Goes round until it is told to stop; or until the time is up, or waiting helps no more, and
    /// what ran then has ended.
    /// - Throws: what waiting does not mend.
    func callAsFunction() throws(RunError) {
        defer {
            board.stop()
            connection?.close()
        }
        while !context.cancel.isFired {
            listener.isAlive()
            let pause = isOver ? .seconds(1) : turn()
            if !hasBegun, failure == nil { tell(.began) }
            hasBegun = true
            tellRound()
            if isOver, board.isIdle { break }
            // Nobody has worked for a while.
            if board.isDeserted { context.journal.close() }
            sleep(pause)
        }
        if let failure { throw failure }
    }

    /// Whether nothing more is to be begun.
    private var isOver: Bool {
        guard failure != nil || deadline.map({ $0 <= .now }) == true else { return false }
        board.stop()
        return true
    }

    /// One look at the destination.
    /// - Returns: how long nothing new is to be expected.
    private func turn() -> Duration {
        do throws(RunError) {
            if let lost = board.takeLoss() { throw lost }
            let pause = try pass()
            isAway = false
            if trouble.error != nil, board.isProven {
                let lasted = trouble.end(now: .now)
                lasted.map { tell(.recovered(after: $0)) }
            }
            return pause
        } catch {
            if context.cancel.isFired { return .zero }
            board.close()
            isAway = true
            if error.failure.sqlState == SQLState.versionMismatch {
                failure = error
                tell(.failed(error))
                return .zero
            }
            connection?.close()
            connection = nil
            if trouble.add(error, now: .now) { tell(.trouble(error)) }
            return trouble.pause
        }
    }

    /// - Returns: how long it takes until more is due.
    private func pass() throws(RunError) -> Duration {
        let due: [RefreshQueue.Entry]
        let more: Duration?
        do {
            let connection = try primary()
            // In this order: see there.
            more = try query.untilMore(connection, timeLimit: patience)
            due = try query.due(connection, timeLimit: patience)
            board.limit(try DueQuery.caps(connection, timeLimit: patience))
        } catch {
            throw RunError(any: error)
        }
        let (threads, again) = board.offer(due)
        if threads > 0 { startThreads(threads) }
        return [more, again.map { $0 - .now }, longestSleep].compactMap { $0 }.min() ?? longestSleep
    }

    /// The destination, with an extension that is known here. One that was closed while nobody
    /// looked is no trouble.
    private func primary() throws(RunError) -> Connection {
        if let open = connection {
            do throws(RunError) {
                return try checked(open)
            } catch {
                guard error.status == .unreachable else { throw error }
                open.close()
                connection = nil
            }
        }
        let new = try context.destination.connect(
            applicationName: context.runner.applicationName(for: "follow"), cancel: context.cancel)
        connection = new
        return try checked(new)
    }

    private func checked(_ connection: Connection) throws(RunError) -> Connection {
        guard try Destination.isPrimary(connection, timeLimit: patience) else {
            throw RunError.standby
        }
        return connection
    }

    /// Tells what has ended; and once a minute that nothing has.
    private func tellRound() {
        if let report = board.takeRound() {
            lastRound = .now
            tell(.round(report))
        } else if ContinuousClock.now - lastRound >= FollowBoard.longestRound {
            lastRound = .now
            var report = RunReport()
            report.isStandby = trouble.error == .standby
            report.stopped = report.isStandby ? nil : trouble.error
            tell(.round(report))
        }
    }

    /// Until more is due or something has ended, and at once when it is asked to go round.
    private func sleep(_ pause: Duration) {
        let now = ContinuousClock.now
        let earliest = now + Self.shortestSleep
        var end = max(earliest, now + min(pause, longestSleep))
        if let deadline, deadline > now { end = min(end, deadline) }
        while !context.cancel.isFired, end > .now {
            if reload.take() {
                board.forgetRests()
                trouble.forgetAttempts()
                break
            }
            let isNews = reload.bell.wait(for: end - .now, or: context.cancel)
            // What has ended says nothing new of a destination that is away.
            if isNews, !isAway { end = min(end, earliest) }
        }
        // The look that comes now sees all of it.
        reload.bell.silence()
    }
}
