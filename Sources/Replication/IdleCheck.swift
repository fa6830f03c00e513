import Postgres

/// Finds out which of many replicas have nothing to do: without locks, a batch in one query of
/// their source, and noted in one statement on the destination.
///
/// What it cannot find out stays due, and is told by the refresh itself.
struct IdleCheck {
    let worker: Worker
    let sources: [String]?
    let methods: [String]?

    /// The replicas that have nothing to do, as `roneo.due` names them, each with its source.
    func callAsFunction(_ destination: Connection) throws -> [String: String] {
        let batches = try destination.execute(
            "SELECT * FROM roneo.idle_checks(\(sources)::text[], \(methods)::text[])")
        var idle: [String: String] = [:]
        var identities: [String: String?] = [:]
        for row in 0..<batches.count {
            let name = batches[row, "source_name"] ?? ""
            do {
                let source = try worker.source(named: name, for: "idle", mappings: destination)
                if identities[name] == nil {
                    identities[name] = try ask(source, batches[row, "identity_query"])
                }
                let still = try ask(source, batches[row, "query"])
                let marked = try destination.execute(
                    """
                    SELECT * FROM roneo.mark_idle(\(batches[row, "replica_ids"])::integer[], \
                    \(batches[row, "generations"])::bigint[], \
                    \(batches[row, "asked_at"])::timestamptz, \(identities[name] ?? nil)::jsonb, \
                    \(still)::jsonb)
                    """)
                for marked in (0..<marked.count).compactMap({ marked[$0, 0] }) {
                    idle[marked] = name
                }
            } catch {
                // One table that is gone fails the query for a hundred others.
                if worker.context.cancel.isFired { throw error }
                worker.rollBack()
            }
        }
        return idle
    }

    private func ask(_ source: Connection, _ query: String?) throws -> String? {
        try source.execute(SQL(verbatim: query ?? "")).value
    }
}
