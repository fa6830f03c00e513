import Postgres

/// Finds out which of many replicas have nothing to do: without locks, and noted in one statement
/// on the destination.
///
/// A source's counters are asked about all of its replicas in one query. Where these cannot tell,
/// the rows are asked, a batch in one query. What stays unknown is told by the refresh itself.
struct IdleCheck {
    let worker: Worker
    let filter: DueFilter

    /// By the counters: the replicas that have nothing to do, as `roneo.due` names them, each with
    /// its source; and those that have changed, whose refresh is the next thing.
    func askCounters(
        _ destination: Connection
    ) throws -> (idle: [String: String], changed: Set<String>) {
        var idle: [String: String] = [:]
        var changed: Set<String> = []
        let watches = try destination.execute(
            """
            SELECT * FROM roneo.watches(\(filter.sources)::text[], \(filter.methods)::text[], \
            \(filter.groups)::text[], \(filter.jitterText)::interval)
            """)
        for row in 0..<watches.count {
            let name = watches[row, "source_name"] ?? ""
            try isolated {
                let source = try worker.source(named: name, for: "idle", mappings: destination)
                let answer = try ask(
                    source, watches[row, "query"], opening: watches[row, "opening"])
                let marked = try destination.execute(
                    """
                    SELECT dest, is_idle FROM roneo.mark_watched(\
                    \(watches[row, "replica_ids"])::integer[], \
                    \(watches[row, "generations"])::bigint[], \
                    \(watches[row, "asked_at"])::timestamptz, \(answer)::jsonb)
                    """)
                for row in 0..<marked.count {
                    guard let dest = marked[row, 0] else { continue }
                    if marked[row, 1] == "t" { idle[dest] = name } else { changed.insert(dest) }
                }
            }
        }
        return (idle, changed)
    }

    /// By their rows, of those that are due and not settled: the replicas that have nothing to do.
    func askRows(_ destination: Connection, settled: Set<String>) throws -> [String: String] {
        var idle: [String: String] = [:]
        let batches = try destination.execute(
            """
            SELECT * FROM roneo.idle_checks(\(filter.sources)::text[], \(filter.methods)::text[], \
            settled => \(Array(settled))::text[], refresh_groups => \(filter.groups)::text[], \
            jitter => \(filter.jitterText)::interval)
            """)
        var identities: [String: String?] = [:]
        for row in 0..<batches.count {
            let name = batches[row, "source_name"] ?? ""
            try isolated {
                let source = try worker.source(named: name, for: "idle", mappings: destination)
                if identities[name] == nil {
                    identities[name] = try ask(source, batches[row, "identity_query"])
                }
                let still = try ask(source, batches[row, "query"], opening: batches[row, "opening"])
                let marked = try destination.execute(
                    """
                    SELECT * FROM roneo.mark_idle(\(batches[row, "replica_ids"])::integer[], \
                    \(batches[row, "generations"])::bigint[], \
                    \(batches[row, "asked_at"])::timestamptz, \(identities[name] ?? nil)::jsonb, \
                    \(still)::jsonb)
                    """)
                for dest in (0..<marked.count).compactMap({ marked[$0, 0] }) {
                    idle[dest] = name
                }
            }
        }
        return idle
    }

    /// One table that is gone fails the query for all others, which then are refreshed.
    private func isolated(_ body: () throws -> Void) throws {
        do {
            try body()
        } catch {
            if worker.context.cancel.isFired { throw error }
            worker.rollBack()
        }
    }

    /// - Parameter opening: what begins the transaction of a query that needs one; a snapshot of
    ///   it goes no further than this query.
    private func ask(
        _ source: Connection, _ query: String?, opening: String? = nil
    ) throws -> String? {
        if let opening { try source.execute(SQL(verbatim: opening)) }
        let answer = try source.execute(SQL(verbatim: query ?? "")).value
        if opening != nil { try source.execute("COMMIT") }
        return answer
    }
}
