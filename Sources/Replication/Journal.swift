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
    /// Why it was not reached, and until when nobody tries again: each job would wait in turn.
    private let absence = Mutex<(failure: Failure, until: ContinuousClock.Instant)?>(nil)
    /// Enough for a row; a destination that is gone must not hold up the end.
    private let patience = Duration.seconds(10)

    private let stallTimeout: Duration?

    init(
        _ destination: Destination, runner: RunnerIdentity, stallTimeout: Duration? = .seconds(60)
    ) {
        self.destination = destination
        self.stallTimeout = stallTimeout
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
        try value(
            """
            SELECT roneo.record_failure(ARRAY[roneo.dest_of(\(dest))], \(failure.sqlState), \
            \(failure.message), \(failure.detail), \(failure.hint), \
            \(facts(failure, runId, duration).description)::jsonb)
            """)
    }

    /// Whether a replica is not refreshed any more after its failures.
    func isQuarantined(_ dest: String) throws -> Bool {
        try value(
            """
            SELECT r.quarantined_at IS NOT NULL FROM roneo.replica AS r \
            WHERE r.dest = roneo.dest_of(\(dest))
            """) == "t"
    }

    /// Notes what a source says of its load; why it is to be left alone, where that is so.
    func judgeLoad(_ source: String, _ answer: String) throws -> String? {
        try value("SELECT roneo.judge_load(\(source), \(answer)::jsonb)")
    }

    /// Commits that a replica could not be compared with its source, and returns what that makes of
    /// it: failed or deferred. It does not count as a refresh.
    ///
    /// - Parameter options: nil of another one of its refresh group, which was not to be compared.
    func recordFailedVerification(
        _ dest: String, _ failure: Failure, _ options: VerificationOptions?, runId: Int64?,
        duration: Duration, isCancelled: Bool
    ) throws -> String? {
        try value(
            """
            SELECT roneo.record_failed_verification(roneo.dest_of(\(dest)), \
            \(options?.json.description)::jsonb, \(failure.sqlState), \(failure.message), \
            \(failure.detail), \(failure.hint), \
            \(facts(failure, runId, duration, isCancelled: isCancelled).description)::jsonb)
            """)
    }

    private func facts(
        _ failure: Failure, _ runId: Int64?, _ duration: Duration, isCancelled: Bool = false
    ) -> JSON {
        .object([
            "run_id": JSON(runId),
            "hand": JSON("runner"),
            "runner": JSON(runner.description),
            "seconds": JSON(duration),
            "step": JSON(failure.during),
            "cancelled": isCancelled ? JSON(true) : .null,
        ])
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
        if let absence = absence.withLock({ $0 }), absence.until > .now { throw absence.failure }
        let new: Connection
        let began = ContinuousClock.now
        do throws(RunError) {
            new = try destination.connect(
                applicationName: runner.applicationName(for: "journal"), cancel: nil)
        } catch {
            // The job's own connection may still be there: this is one replica's failure.
            let failure = error.failure
            if began + .seconds(1) < .now {
                absence.withLock { $0 = (failure, .now + .seconds(30)) }
            }
            throw failure
        }
        new.stallTimeout = stallTimeout
        connection = new
        return try new.execute(sql, timeLimit: patience).value
    }
}
