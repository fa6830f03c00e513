import Postgres

/// Refreshes many replicas, several at a time. One that fails never stops another.
public struct RefreshRun: Sendable {
    /// Which replicas.
    public enum Selection: Sendable {
        /// Those of them that are due.
        case due(DueFilter)
        /// These, due or not.
        case named([String])
        /// All that are there, due or not.
        case all
        /// Slices of replicas whose comparison with the source is due.
        case dueVerifications
    }

    public var destination: Destination
    public var selection: Selection
    public var options = RefreshOptions()
    /// Connections of sources that are not to be taken from the destination's user mappings.
    public var sourceConninfos: [String: String] = [:]
    /// How many replicas to refresh at a time.
    public var jobs = 1
    /// How many of those may read from one source.
    public var perSource = Int.max
    /// Begins nothing after that, nor what usually takes longer than what is left of it.
    public var maxRuntime: Duration?
    /// Cancels what still runs after that.
    public var cancelAfter: Duration?
    /// How long a server may say nothing before it is asked whether it is there; nil: for ever.
    public var stallTimeout: Duration? = .seconds(60)
    public var observer: any RefreshObserver = SilentObserver()

    public init(destination: Destination, selection: Selection) {
        self.destination = destination
        self.selection = selection
    }

    /// - Parameter cancel: when fired, nothing more is begun, what runs is cancelled on both
    ///   servers, rolled back and recorded.
    /// - Throws: ``RunError`` where nothing could be done at all.
    public func callAsFunction(cancel: CancelToken) async throws -> RunReport {
        let began = ContinuousClock.now
        let runner = RunnerIdentity.current
        let journal = Journal(destination, runner: runner, stallTimeout: stallTimeout)
        defer { journal.close() }
        let context = context(began: began, runner: runner, journal: journal, cancel: cancel)
        let board = RefreshBoard(
            perSource: perSource, deadline: context.deadline, cancel: cancel)

        try await withThrowingTaskGroup(of: Void.self) { group in
            let (helpers, wanted) = AsyncStream.makeStream(of: Int.self)
            // The first thread finds out what is to be done, calls for help, and goes on working.
            group.addTask {
                try await onOwnThread(cancel: cancel) { _ in
                    defer { wanted.finish() }
                    let worker = Worker(context)
                    defer { worker.close() }
                    guard let entries = try entries(worker, board) else {
                        board.isStandby()
                        return
                    }
                    // Whoever may not read them hears that from the refresh itself.
                    board.limit((try? DueQuery.caps(worker.destination(for: "due"))) ?? [:])
                    board.fill(entries)
                    wanted.yield(min(jobs, entries.count) - 1)
                    wanted.finish()
                    try work(worker, board)
                }
            }
            for await count in helpers where count > 0 {
                for _ in 0..<count {
                    group.addTask {
                        try await onOwnThread(cancel: cancel) { _ in
                            let worker = Worker(context)
                            defer { worker.close() }
                            // A server without room for one more leaves the work to the others.
                            guard (try? worker.destination(for: "helper")) != nil else { return }
                            try work(worker, board)
                        }
                    }
                }
            }
            while let ended = await group.nextResult() {
                // What was refreshed before the destination went away is still worth telling.
                if case .failure(let error) = ended { try board.stop(error) }
            }
        }
        return board.report(after: ContinuousClock.now - began)
    }

    /// What the jobs of a run share.
    func context(
        began: ContinuousClock.Instant, runner: RunnerIdentity, journal: Journal,
        cancel: CancelToken
    ) -> RefreshContext {
        RefreshContext(
            destination: destination, sourceConninfos: sourceConninfos, runner: runner,
            journal: journal, cancel: cancel, observer: observer,
            deadline: [maxRuntime, cancelAfter].compactMap { $0 }.min().map { began + $0 },
            stallTimeout: stallTimeout,
            runLimit: cancelAfter.map { Self.limit(began + $0, of: $0) })
    }

    /// What is to be refreshed, in this order; nil on a standby.
    private func entries(
        _ worker: Worker, _ board: RefreshBoard
    ) throws -> [RefreshQueue.Entry]? {
        let connection = try worker.destination(for: "due")
        guard try Destination.isPrimary(connection) else { return nil }
        switch selection {
        case .named(let dests):
            var seen: Set<String> = []
            let wanted = dests.filter { seen.insert($0).inserted }
            let places = try? places(of: wanted, connection)
            // What is no name at all, its own job reports. Each is compared by itself.
            let first = options.verification == nil ? try? onePerGroup(wanted, connection) : nil
            return (first ?? wanted)
                .map { places?[$0] ?? RefreshQueue.Entry(dest: $0) }
        case .all:
            let all = try connection.execute(
                """
                SELECT format('%I.%I', r.dest_schema, r.dest_name), s.source_name, \
                \(verbatim: Self.turn) \
                FROM roneo.replica AS r JOIN roneo.source AS s USING (source_id) \
                WHERE r.enabled ORDER BY r.dest_schema, r.dest_name
                """)
            return (0..<all.count).map {
                RefreshQueue.Entry(dest: all[$0, 0] ?? "", source: all[$0, 1], turn: all[$0, 2])
            }
        case .dueVerifications:
            let due = try connection.execute(
                """
                SELECT d.dest_text, s.source_name, \(verbatim: Self.turn), d.options \
                FROM roneo.due_verifications() WITH ORDINALITY AS d \
                JOIN roneo.replica AS r ON r.dest = d.dest \
                JOIN roneo.source AS s USING (source_id) ORDER BY d.ordinality
                """)
            return (0..<due.count).map {
                RefreshQueue.Entry(
                    dest: due[$0, 0] ?? "", source: due[$0, 1], slice: due[$0, 3], turn: due[$0, 2])
            }
        case .due(let filter):
            let found = try DueQuery(filter: filter).look(worker, connection)
            found.idle.forEach(board.add)
            return found.entries
        }
    }

    private static func limit(_ end: ContinuousClock.Instant, of time: Duration) -> TimeLimit {
        TimeLimit(
            end: end,
            error: PostgresError(
                origin: .timeLimit, sqlState: SQLState.refreshTimeout,
                message: "cancelled: the run has taken \(time), as long as it may",
                hint: "--cancel-after says so. What was committed before stays, and the next run "
                    + "goes on. roneo history shows which step takes the time."))
    }

    /// What locks the same replicas: one by itself, or a refresh group.
    private static let turn: StaticString =
        "concat_ws(' ', r.source_id, coalesce('group ' || r.refresh_group, r.replica_id::text))"

    /// What is known of them before they begin.
    private func places(
        of dests: [String], _ connection: Connection
    ) throws -> [String: RefreshQueue.Entry] {
        let known = try connection.execute(
            """
            SELECT w.dest, s.source_name, \(verbatim: Self.turn) FROM unnest(\(dests)::text[]) AS w (dest) \
            JOIN roneo.replica AS r ON r.dest = roneo.dest_named(w.dest) \
            JOIN roneo.source AS s ON s.source_id = r.source_id
            """)
        var places: [String: RefreshQueue.Entry] = [:]
        for row in 0..<known.count {
            let dest = known[row, 0] ?? ""
            places[dest] = RefreshQueue.Entry(
                dest: dest, source: known[row, 1], turn: known[row, 2])
        }
        return places
    }

    /// The others of a refresh group come with the first one of it.
    private func onePerGroup(_ dests: [String], _ connection: Connection) throws -> [String] {
        guard dests.count > 1 else { return dests }
        let first = try connection.execute(
            """
            SELECT min(w.nr) FROM unnest(\(dests)::text[]) WITH ORDINALITY AS w (dest, nr) \
            LEFT JOIN roneo.replica AS r ON r.dest = roneo.dest_named(w.dest) \
            GROUP BY r.source_id, r.refresh_group, \
            CASE WHEN r.refresh_group IS NULL THEN w.nr END ORDER BY 1
            """)
        return (0..<first.count).compactMap { first[$0, 0].flatMap { Int($0) } }
            .map { dests[$0 - 1] }
    }

    private func work(_ worker: Worker, _ board: RefreshBoard) throws {
        var options = options
        if case .due = selection { options.onlyIfDue = true }
        while let entry = board.next() {
            var options = options
            options.verification?.given = entry.slice
            let job = RefreshJob(entry.dest, options: options, worker: worker)
            defer { board.ended(entry) }
            // The others of a group were refreshed, but not compared.
            let reports = job()
            let told = options.verification == nil ? reports[...] : reports.prefix(1)
            told.forEach(board.add)
            if let error = job.destinationLost { throw error }
        }
    }
}
