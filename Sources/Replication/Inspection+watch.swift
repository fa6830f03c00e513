import Postgres

extension Inspection {
    /// Numbers about each replica, as `roneo.replica_metrics()` gives them, the runs of a day by
    /// outcome in columns of their own; whether the destination is a standby.
    public func metrics() async throws -> MetricsReading {
        try await onWorker { worker in
            let connection = try worker.destination(for: "metrics")
            let isStandby = try connection.execute("SELECT pg_is_in_recovery()").value == "t"
            let version = try connection.execute(
                "SELECT extversion FROM pg_extension WHERE extname = 'roneo'")
            return MetricsReading(
                isStandby: isStandby, extensionVersion: version.value ?? "",
                replicas: Records(
                    try connection.execute(
                        """
                        SELECT m.*, m.runs ->> 'ok' AS runs_ok, m.runs ->> 'unchanged' AS runs_unchanged, \
                        m.runs ->> 'deferred' AS runs_deferred, m.runs ->> 'failed' AS runs_failed, \
                        m.runs ->> 'abandoned' AS runs_abandoned, to_jsonb(m)::text AS json FROM roneo.replica_metrics() AS m
                        """)))
        }
    }

    /// What a report of the latest days is made of, in so many equal stretches of time.
    public func chronicle(days: Int, buckets: Int) async throws -> Chronicle {
        let check = HealthCheck(self)
        let health = try await check()
        return try await onWorker { worker in
            let connection = try worker.destination(for: "report")
            let frame = try connection.execute(
                """
                SELECT to_jsonb(now()) #>> '{}' AS until, \
                to_jsonb(now() - make_interval(days => \(days)::integer)) #>> '{}' AS since, \
                current_database() AS database, to_char(now(), 'YYYY-MM-DD HH24:MI TZ') AS made_at
                """)
            let (since, until) = (frame[0, "since"], frame[0, "until"])
            let marks = try connection.execute(
                """
                SELECT to_char(\(since)::timestamptz + n * (\(until)::timestamptz - \(since)::timestamptz) / \(buckets)::integer, \
                'Mon DD HH24:MI') FROM generate_series(0, \(buckets)::integer) AS n ORDER BY n
                """)
            return Chronicle(
                since: since ?? "", until: until ?? "",
                database: frame[0, "database"] ?? "", madeAt: frame[0, "made_at"] ?? "", days: days,
                buckets: buckets, marks: (0..<marks.count).map { marks[$0, 0] ?? "" },
                health: health,
                replicas: Records(
                    try connection.execute(
                        """
                        SELECT s.*, extract(epoch FROM s.age) AS age_seconds, \
                        extract(epoch FROM s.promised_age) AS promised_seconds, \
                        extract(epoch FROM s.lag) AS lag_seconds, \
                        to_char(s.last_success_at, 'YYYY-MM-DD HH24:MI:SS') AS succeeded, \
                        \(verbatim: Self.statusJSON) AS json \
                        FROM roneo.status AS s ORDER BY s.dest
                        """)),
                plots: Records(
                    try connection.execute(
                        """
                        SELECT b.*, to_jsonb(b)::text AS json FROM roneo.run_buckets( \
                        \(since)::timestamptz, \(until)::timestamptz, \(buckets)::integer) AS b
                        """)),
                failures: Records(
                    try connection.execute(
                        """
                        SELECT f.*, to_char(f.first_at, 'Mon DD HH24:MI') AS first_seen, \
                        to_char(f.last_at, 'Mon DD HH24:MI') AS last_seen, \
                        to_jsonb(f)::text AS json FROM \
                        roneo.run_failures(\(since)::timestamptz, \(until)::timestamptz) AS f LIMIT 200
                        """)))
        }
    }
}

/// Numbers for a monitoring system.
public struct MetricsReading: Sendable {
    public let isStandby: Bool
    public let extensionVersion: String
    public let replicas: Records

    public init(isStandby: Bool, extensionVersion: String, replicas: Records) {
        self.isStandby = isStandby
        self.extensionVersion = extensionVersion
        self.replicas = replicas
    }
}

/// The state of the replicas and what happened in the latest days.
public struct Chronicle: Sendable {
    public let since: String
    public let until: String
    public let database: String
    public let madeAt: String
    public let days: Int
    public let buckets: Int
    /// The moments between the stretches of time, the first and the last included.
    public let marks: [String]
    public let health: HealthReport
    public let replicas: Records
    public let plots: Records
    public let failures: Records

    public init(
        since: String, until: String, database: String, madeAt: String, days: Int, buckets: Int,
        marks: [String], health: HealthReport, replicas: Records, plots: Records, failures: Records
    ) {
        self.since = since
        self.until = until
        self.database = database
        self.madeAt = madeAt
        self.days = days
        self.buckets = buckets
        self.marks = marks
        self.health = health
        self.replicas = replicas
        self.plots = plots
        self.failures = failures
    }
}
