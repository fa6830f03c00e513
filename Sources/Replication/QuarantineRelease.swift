import Postgres

/// Ends the quarantine of replicas.
public struct QuarantineRelease: Sendable {
    public var inspection: Inspection

    public init(_ inspection: Inspection) {
        self.inspection = inspection
    }

    /// All of them or, where one is no replica, none.
    /// - Returns: whether each one was in quarantine.
    public func callAsFunction(_ dests: [String]) async throws -> [(dest: String, was: Bool)] {
        try await inspection.onWorker { worker in
            let connection = try worker.destination(for: "release")
            guard try Destination.isPrimary(connection) else {
                throw Failure(
                    sqlState: SQLState.readOnlyTransaction,
                    message: "the destination is a standby", hint: "Release on its primary.")
            }
            do {
                let released = try connection.execute(
                    """
                    SELECT w.dest, roneo.release(roneo.dest_of(w.dest)) \
                    FROM unnest(\(dests)::text[]) WITH ORDINALITY AS w (dest, nr) ORDER BY w.nr
                    """)
                return (0..<released.count).map { (released[$0, 0] ?? "", released[$0, 1] == "t") }
            } catch let error as PostgresError where !error.isCancelled {
                throw Failure(destination: error)
            }
        }
    }
}
