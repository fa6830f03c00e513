import Postgres

/// What is due, asked of the extension: the one place where a runner does.
struct DueQuery: Sendable, Equatable {
    var filter: DueFilter

    /// What is due now, in the order in which it is to be refreshed.
    func due(
        _ connection: Connection, timeLimit: Duration? = nil
    ) throws(PostgresError) -> [RefreshQueue.Entry] {
        let due = try connection.execute(
            """
            SELECT d.dest, d.source_name, d.expected_seconds, \
            extract(epoch FROM d.begin_before - clock_timestamp()) AS open_seconds \
            FROM roneo.due(\(filter.sources)::text[], \(filter.methods)::text[], \
            \(filter.groups)::text[], \(filter.jitterText)::interval) AS d
            """, timeLimit: timeLimit)
        let asked = ContinuousClock.now
        func span(_ row: Int, _ name: String) -> Duration? {
            due[row, name].flatMap { Double($0) }.map { .seconds($0) }
        }
        return (0..<due.count).map { row in
            RefreshQueue.Entry(
                dest: due[row, "dest"] ?? "", source: due[row, "source_name"],
                expected: span(row, "expected_seconds"),
                beginBefore: span(row, "open_seconds").map { asked + $0 })
        }
    }

    /// How many connections those sources may have that have a limit.
    static func caps(
        _ connection: Connection, timeLimit: Duration? = nil
    ) throws(PostgresError) -> [String: Int] {
        let limited = try connection.execute(
            "SELECT source_name, max_connections FROM roneo.source WHERE max_connections > 0",
            timeLimit: timeLimit)
        var caps: [String: Int] = [:]
        for row in 0..<limited.count {
            caps[limited[row, 0] ?? ""] = limited[row, 1].flatMap { Int($0) }
        }
        return caps
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
            SELECT extract(epoch FROM roneo.next_due(\(filter.sources)::text[], \
            \(filter.methods)::text[], \(filter.groups)::text[], \(filter.jitterText)::interval) \
            - clock_timestamp())::float8
            """, timeLimit: timeLimit)
        // A schedule may well lie beyond what a Duration holds.
        return next.value.flatMap { Double($0) }.map { .seconds(min(max($0, 0), 1e9)) }
    }

    /// What is to be refreshed, after those that are idle were found out and marked.
    func look(
        _ worker: Worker, _ connection: Connection
    ) throws -> (entries: [RefreshQueue.Entry], idle: [ReplicaReport]) {
        let check = IdleCheck(worker: worker, filter: filter)
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
