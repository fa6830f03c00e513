import Postgres

/// Refreshes many replicas, several at a time. One that fails never stops another.
public struct RefreshRun: Sendable {
    /// Which replicas.
    public enum Selection: Sendable {
        /// Those that are due, of these sources and methods; nil: of all.
        case due(sources: [String]?, methods: [String]?)
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
    /// Begins nothing after that.
    public var maxRuntime: Duration?
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
        let journal = Journal(destination, runner: runner)
        defer { journal.close() }
        let context = RefreshContext(
            destination: destination, sourceConninfos: sourceConninfos, runner: runner,
            journal: journal, cancel: cancel, observer: observer)
        let board = RefreshBoard(
            perSource: perSource, deadline: maxRuntime.map { began + $0 }, cancel: cancel)

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

    /// What is to be refreshed, longest waiting first; nil on a standby.
    private func entries(
        _ worker: Worker, _ board: RefreshBoard
    ) throws -> [RefreshQueue.Entry]? {
        let connection = try worker.destination(for: "due")
        guard try Destination.isPrimary(connection) else { return nil }
        switch selection {
        case .named(let dests):
            var seen: Set<String> = []
            let wanted = dests.filter { seen.insert($0).inserted }
            // What is no name at all, its own job reports.
            return ((try? onePerGroup(wanted, connection)) ?? wanted)
                .map { RefreshQueue.Entry(dest: $0, source: nil) }
        case .all:
            let all = try connection.execute(
                """
                SELECT format('%I.%I', dest_schema, dest_name) FROM roneo.replica \
                WHERE enabled ORDER BY dest_schema, dest_name
                """)
            return (0..<all.count).map { RefreshQueue.Entry(dest: all[$0, 0] ?? "", source: nil) }
        case .dueVerifications:
            let due = try connection.execute(
                "SELECT dest_text, options FROM roneo.due_verifications()")
            return (0..<due.count).map {
                RefreshQueue.Entry(dest: due[$0, 0] ?? "", source: nil, slice: due[$0, 1])
            }
        case .due(let sources, let methods):
            let check = IdleCheck(worker: worker, sources: sources, methods: methods)
            // Those that are idle by their counters are marked, and not due any more.
            var (idle, changed) = try check.askCounters(connection)
            let due = try connection.execute(
                "SELECT * FROM roneo.due(\(sources)::text[], \(methods)::text[])")
            let entries = (0..<due.count).map { row in
                RefreshQueue.Entry(dest: due[row, "dest"] ?? "", source: due[row, "source_name"])
            }.filter { idle[$0.dest] == nil }
            // A single one is asked as soon as it is refreshed.
            if entries.count > 1, !entries.allSatisfy({ changed.contains($0.dest) }) {
                changed.formUnion(idle.keys)
                idle.merge(try check.askRows(connection, settled: changed)) { first, _ in first }
            }
            for (dest, source) in idle {
                var report = ReplicaReport(dest: dest, outcome: .unchanged)
                report.source = source
                board.add(report)
            }
            return entries.filter { idle[$0.dest] == nil }
        }
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
        while let entry = board.next() {
            var options = options
            options.verification?.given = entry.slice
            let job = RefreshJob(entry.dest, options: options, worker: worker)
            defer { board.ended(entry) }
            for report in job() { board.add(report) }
            if let error = job.destinationLost { throw error }
        }
    }
}
