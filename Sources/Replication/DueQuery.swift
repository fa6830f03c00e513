import Postgres

/// What is due, asked of the extension: the one place where a runner does.
struct DueQuery: Sendable, Equatable {
    /// Only those of these sources; nil: of all.
    var sources: [String]?
    /// Only those of these methods; nil: of all.
    var methods: [String]?

    /// What is due now, longest waiting first.
    func due(
        _ connection: Connection, timeLimit: Duration? = nil
    ) throws(PostgresError) -> [RefreshQueue.Entry] {
        let due = try connection.execute(
            "SELECT * FROM roneo.due(\(sources)::text[], \(methods)::text[])", timeLimit: timeLimit)
        return (0..<due.count).map { row in
            RefreshQueue.Entry(dest: due[row, "dest"] ?? "", source: due[row, "source_name"])
        }
    }

    /// How long it takes by the destination's clock until more is due; nil: for ever.
    ///
    /// To be asked before ``due(_:timeLimit:)``: what falls due in between is then told by one of
    /// the two.
    func untilMore(
        _ connection: Connection, timeLimit: Duration? = nil
    ) throws(PostgresError) -> Duration? {
        let next = try connection.execute(
            """
            SELECT extract(epoch FROM roneo.next_due(\(sources)::text[], \(methods)::text[]) \
            - clock_timestamp())::float8
            """, timeLimit: timeLimit)
        // A schedule may well lie beyond what a Duration holds.
        return next.value.flatMap { Double($0) }.map { .seconds(min(max($0, 0), 1e9)) }
    }

    /// What is to be refreshed, after those that are idle were found out and marked.
    func look(
        _ worker: Worker, _ connection: Connection
    ) throws -> (entries: [RefreshQueue.Entry], idle: [ReplicaReport]) {
        let check = IdleCheck(worker: worker, sources: sources, methods: methods)
        // Those that are idle by their counters are marked, and not due any more.
        var (idle, changed) = try check.askCounters(connection)
        let entries = try due(connection).filter { idle[$0.dest] == nil }
        // A single one is asked as soon as it is refreshed.
        if entries.count > 1, !entries.allSatisfy({ changed.contains($0.dest) }) {
            changed.formUnion(idle.keys)
            idle.merge(try check.askRows(connection, settled: changed)) { first, _ in first }
        }
        let reports = idle.map { dest, source in
            var report = ReplicaReport(dest: dest, outcome: .unchanged)
            report.source = source
            return report
        }
        return (entries.filter { idle[$0.dest] == nil }, reports)
    }
}
