import Postgres

/// Looks at the state of the replicas and changes nothing.
public struct Inspection: Sendable {
    public var destination: Destination
    /// Connections of sources that are not to be taken from the destination's user mappings.
    public var sourceConninfos: [String: String] = [:]
    public var cancel: CancelToken

    public init(destination: Destination, cancel: CancelToken) {
        self.destination = destination
        self.cancel = cancel
    }

    /// A line a replica: how fresh it is. The column `json` has the line as JSON.
    public func status() async throws -> Records {
        try await read(
            """
            SELECT s.*, extract(epoch FROM s.age) AS age_seconds, \
            extract(epoch FROM s.promised_age) AS promised_age_seconds, \
            extract(epoch FROM s.lag) AS lag_seconds, \(verbatim: Self.statusJSON) AS json \
            FROM roneo.status AS s ORDER BY s.dest
            """)
    }

    /// A line a source: its limits, and whether it is left alone because of one of them. The column
    /// `json` has the line as JSON.
    public func sources() async throws -> Records {
        try await read(
            """
            SELECT s.*, extract(epoch FROM s.max_snapshot) AS snapshot_seconds, \
            extract(epoch FROM s.max_lag) AS lag_seconds, \
            extract(epoch FROM clock_timestamp() - s.paused_since) AS paused_seconds, \
            to_jsonb(s)::text AS json FROM roneo.sources AS s ORDER BY s.source_name
            """)
    }

    /// A row of `roneo.status` as JSON: for programs, the spans of time in seconds too.
    static let statusJSON: StaticString = """
        (to_jsonb(s) || jsonb_build_object('age_seconds', extract(epoch FROM s.age), \
        'promised_age_seconds', extract(epoch FROM s.promised_age), \
        'lag_seconds', extract(epoch FROM s.lag)))::text
        """

    /// The latest runs, newest first. The column `json` has the line as JSON.
    ///
    /// A run that is recorded as running while nobody works on its replica was abandoned: whoever
    /// comes next writes that down, and until then it is seen here. One that stands for many
    /// refreshes is as new as the last of them.
    public func history(_ dest: String?, limit: Int) async throws -> Records {
        try await read(
            """
            SELECT r.*, to_char(r.started_at, 'YYYY-MM-DD HH24:MI:SS') AS started, \
            to_char(r.ended_at, 'YYYY-MM-DD HH24:MI:SS') AS ended, to_jsonb(r)::text AS json \
            FROM (SELECT u.run_id, u.replica_id, u.dest, u.method, u.hand, \
            CASE WHEN u.outcome = 'running' AND s.state IS DISTINCT FROM 'running' \
            THEN 'abandoned' ELSE u.outcome END AS outcome, \
            u.started_at, u.ended_at, u.seconds, u.rows_sent, u.rows_received, u.inserted, \
            u.updated, u.unchanged, u.ignored, u.deleted, u.bytes, u.sqlstate, u.message, \
            u.detail, u.hint, u.warning, u.steps, u.runner, u.repeats, u.kind \
            FROM roneo.run AS u LEFT JOIN roneo.status AS s ON s.dest = u.dest) AS r \
            WHERE \(dest)::regclass IS NULL OR r.replica_id IN ( \
            SELECT u.replica_id FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
            JOIN roneo.run AS u ON u.dest = format('%I.%I', n.nspname, c.relname) \
            WHERE c.oid = \(dest)::regclass) \
            ORDER BY CASE WHEN r.repeats > 1 THEN r.ended_at ELSE r.started_at END DESC, \
            r.run_id DESC LIMIT \(limit)::bigint
            """)
    }

    /// What a refresh would do now: it locks, asks the sources, plans, and rolls back.
    public func plans(_ dests: [String], options: RefreshOptions) async throws -> [ReplicaPlan] {
        try await onWorker { worker in
            try dests.map { dest in
                var round = RefreshRound(dest, options: options, worker: worker)
                defer { worker.rollBack() }
                do {
                    try round.begin()
                    try round.probe()
                    return ReplicaPlan(
                        dest: round.dest, source: round.sourceName,
                        method: round.asked?.method ?? "", steps: try round.plan())
                } catch {
                    throw Failure(any: error, during: "planning the refresh of \(round.dest)")
                }
            }
        }
    }

    /// What is missing on either side before refreshes can work.
    public func preflight(source: String?) async throws -> [Finding] {
        try await onWorker { worker in
            let connection = try worker.destination(for: "preflight")
            var findings = Finding.all(
                try connection.execute("SELECT * FROM roneo.preflight_local()"), of: nil)
            var names = [source].compactMap { $0 }
            if source == nil {
                let known = try connection.execute(
                    "SELECT source_name FROM roneo.source ORDER BY source_name")
                names = (0..<known.count).compactMap { known[$0, 0] }
            }
            for name in names {
                findings += try preflight(name, connection, worker)
            }
            return findings
        }
    }

    private func preflight(
        _ name: String, _ connection: Connection, _ worker: Worker
    ) throws -> [Finding] {
        let probe = try connection.execute("SELECT roneo.preflight_probe(\(name))").value ?? ""
        let source: Connection
        do {
            source = try worker.source(named: name, for: "preflight", mappings: connection)
        } catch {
            // No way to the source, or none that this role may know, is a finding like others.
            if cancel.isFired { throw error }
            let failure = Failure(any: error, during: nil)
            let words = [failure.message, failure.detail, failure.hint].compactMap { $0 }
            return [
                Finding(
                    side: "source", source: name, item: "connection", isOk: false,
                    detail: words.joined(separator: "\n"), fix: nil)
            ]
        }
        let answer = try source.execute(SQL(verbatim: probe)).value
        let reached = Finding(
            side: "source", source: name, item: "connection", isOk: true,
            detail: "can be reached", fix: nil)
        return [reached]
            + Finding.all(
                try connection.execute("SELECT * FROM roneo.preflight(\(name), \(answer)::jsonb)"),
                of: name)
    }

    /// What a DBA runs on the source to capture a table, where the role of the connection may not.
    public func captureScript(
        source: String, table: String, keepsDeleted: Bool
    ) async throws -> String {
        try await read(
            """
            SELECT roneo.capture_script(\(source), \(table), \
            keeps_deleted => \(keepsDeleted)::boolean) AS script
            """)[0, "script"] ?? ""
    }

    private func read(_ sql: SQL) async throws -> Records {
        try await onWorker { worker in
            do {
                return Records(try worker.destination(for: "inspection").execute(sql))
            } catch let error as PostgresError where !error.isCancelled {
                throw Failure(destination: error)
            }
        }
    }

    /// On a thread of its own, after a look at the extension's version. A standby may be looked at.
    func onWorker<T: Sendable>(
        _ body: @escaping @Sendable (Worker) throws -> T
    ) async throws -> T {
        let runner = RunnerIdentity.current
        let context = RefreshContext(
            destination: destination, sourceConninfos: sourceConninfos, runner: runner,
            journal: Journal(destination, runner: runner), cancel: cancel,
            observer: SilentObserver())
        return try await onOwnThread(cancel: cancel) { _ in
            let worker = Worker(context)
            defer { worker.close() }
            let connection = try worker.destination(for: "inspection")
            try Destination.checkVersion(connection)
            // Programs read these too, whatever the role's habits are.
            try connection.execute("SET intervalstyle = 'postgres'")
            return try body(worker)
        }
    }
}
