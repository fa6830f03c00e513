import Postgres
import Synchronization

/// Writes into the destination's history what must stay there when a refresh is rolled back, or
/// its process killed: beginnings and failures.
///
/// One connection for all jobs of the process, made when first needed. It listens to no cancel
/// token, since what was cancelled is to be recorded as well.
final class Journal: Sendable {
    private let destination: Destination
    private let runner: RunnerIdentity
    private let connection = Mutex<Connection?>(nil)
    /// Enough for a row; a destination that is gone must not hold up the end.
    private let patience = Duration.seconds(10)

    init(_ destination: Destination, runner: RunnerIdentity) {
        self.destination = destination
        self.runner = runner
    }

    /// Commits that a refresh has begun, and returns the number of its run.
    func recordStart(_ dest: String) throws -> Int64? {
        let run = try value(
            "SELECT roneo.record_start(roneo.dest_of(\(dest)), \(runner.description))")
        return run.flatMap { Int64($0) }
    }

    /// Commits that a refresh failed, and returns what that makes of it: failed or deferred.
    func recordFailure(
        _ dest: String, _ failure: Failure, runId: Int64?, duration: Duration
    ) throws -> String? {
        let more = JSON.object([
            "run_id": JSON(runId),
            "hand": JSON("runner"),
            "runner": JSON(runner.description),
            "seconds": JSON(duration),
            "step": JSON(failure.during),
        ])
        return try value(
            """
            SELECT roneo.record_failure(ARRAY[roneo.dest_of(\(dest))], \(failure.sqlState), \
            \(failure.message), \(failure.detail), \(failure.hint), \(more.description)::jsonb)
            """)
    }

    /// Commits that a replica could not be compared with its source.
    func recordUndecided(_ dest: String, _ why: String, _ options: VerificationOptions?) throws {
        _ = try value(
            """
            SELECT roneo.record_undecided(roneo.dest_of(\(dest)), \(why), \
            \(options?.json.description ?? "{}")::jsonb)
            """)
    }

    func close() {
        connection.withLock { connection in
            connection?.close()
            connection = nil
        }
    }

    private func value(_ sql: SQL) throws -> String? {
        try connection.withLock { (connection) throws -> String? in
            try value(sql, over: &connection)
        }
    }

    private func value(_ sql: SQL, over connection: inout Connection?) throws -> String? {
        if let open = connection, open.isOpen {
            do {
                return try open.execute(sql, timeLimit: patience).value
            } catch {
                guard error.isConnectionFailure else { throw error }
                open.close()
            }
        }
        let new: Connection
        do throws(RunError) {
            new = try destination.connect(
                applicationName: runner.applicationName(for: "journal"), cancel: nil)
        } catch {
            // The job's own connection may still be there: this is one replica's failure.
            throw error.failure
        }
        connection = new
        return try new.execute(sql, timeLimit: patience).value
    }
}
