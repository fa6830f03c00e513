import Postgres

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What a fingerprint is to be taken of.
public struct FingerprintRequest: Sendable {
    /// A table or view, as SQL writes it.
    public var table: String
    /// The source that has it; nil: the destination.
    public var source: String?
    /// Only rows for which this condition is true.
    public var filter: String?
    /// Only these columns; nil: all.
    public var columns: [String]?
    /// Whether to hash by md5, between servers whose own hashes differ.
    public var usesMD5 = false
    /// Whether texts are to be the same in any encoding.
    public var anyEncoding = false
    /// How long a query may take, in seconds; nil: as long as it takes.
    public var timeLimit: Double?
    /// What to compare with: a fingerprint, or its document.
    public var other: String?

    public init(table: String) {
        self.table = table
    }

    fileprivate var hash: String { usesMD5 ? "md5" : "fast" }
}

/// A fingerprint that was taken, and how it compares.
public struct FingerprintReading: Sendable {
    /// The one line.
    public let line: String
    /// All that is known of it, as JSON.
    public let document: JSON
    /// Whether it is that of the same rows; nil: not compared, or not comparable.
    public let isEqual: Bool?
    /// What differs.
    public let difference: String?
}

/// What is looked at when a source is observed.
public struct ObservationRequest: Sendable {
    public var source: String
    /// Only these schemas; nil: all.
    public var schemas: [String]?
    /// Up to how many megabytes a table that has changed is read.
    public var scanMegabytes = 64
    /// How long each of two queries may take, in seconds.
    public var timeLimit = 30.0
    /// How long looks are kept.
    public var keepDays = 90

    public init(source: String) {
        self.source = source
    }
}

/// What methods are to be advised for.
public struct AdviceRequest: Sendable {
    public var source: String
    /// Only these schemas; nil: all.
    public var schemas: [String]?
    /// How fresh copies are to be, in seconds.
    public var refreshEvery = 600.0
    /// Up to how many megabytes a table is copied whole.
    public var smallMegabytes = 100
    /// Whether deleted rows are to stay.
    public var keepDeleted = false
    /// Whether copies are to be tables.
    public var asTables = false

    public init(source: String) {
        self.source = source
    }
}

extension Inspection {
    /// The fingerprint of a table, taken in one snapshot, read only.
    public func fingerprint(_ request: FingerprintRequest) async throws -> FingerprintReading {
        try await onWorker { worker in
            let planner = try worker.destination(for: "fingerprint")
            // Before anything is read: what cannot be compared must not cost a scan.
            if let other = request.other {
                try planner.execute("SELECT roneo.fingerprint_parts(\(other))")
            }
            let find = try planner.execute("SELECT roneo.fingerprint_find_query(\(request.table))")
            let server =
                try request.source.map {
                    try worker.source(named: $0, for: "fingerprint", mappings: planner)
                } ?? planner
            defer { server.rollback() }
            let named = try server.execute(SQL(verbatim: find.value ?? "")).value
            let description = try describe(named, request, planner, server)
            let query = try planner.execute(
                """
                SELECT roneo.fingerprint_query(\(request.source), \(request.table), \
                \(description)::jsonb, \(request.filter), \(request.columns)::text[], \
                \(request.hash), \(request.anyEncoding)::boolean)
                """)
            let path = try planner.execute("SELECT roneo.fingerprint_path(\(named)::jsonb)")
            try server.execute(SQL(verbatim: path.value ?? ""))
            try tryFilter(request, description, planner, server)
            let answer = try server.execute(SQL(verbatim: query.value ?? "")).value
            server.rollback()
            return try reading(request, description, answer, planner)
        }
    }

    /// Opens the transaction, and describes the table in its snapshot.
    private func describe(
        _ named: String?, _ request: FingerprintRequest, _ planner: Connection, _ server: Connection
    ) throws -> String? {
        let limit = request.timeLimit
        let plans = try planner.execute(
            """
            SELECT roneo.fingerprint_opening(\(named)::jsonb, make_interval(secs => \(limit)::float8)), \
            roneo.describe_query(\(named)::jsonb ->> 'oid')
            """)
        try server.execute(SQL(verbatim: plans[0, 0] ?? ""))
        let described = try server.execute(SQL(verbatim: plans[0, 1] ?? "")).value
        return try planner.execute("SELECT \(named)::jsonb || \(described)::jsonb").value
    }

    /// The condition by itself, so that an error in it is told as such.
    private func tryFilter(
        _ request: FingerprintRequest, _ description: String?, _ planner: Connection,
        _ server: Connection
    ) throws {
        guard let filter = request.filter else { return }
        let query = try planner.execute(
            """
            SELECT roneo.filter_query(d #>> '{relation,schema}', d #>> '{relation,name}', \(filter)) \
            FROM (SELECT \(description)::jsonb) AS x (d)
            """)
        do {
            try server.execute(SQL(verbatim: query.value ?? ""))
        } catch {
            if error.isCancelled || error.isConnectionFailure { throw error }
            server.rollback()
            try planner.execute(
                "SELECT roneo.refuse_filter(\(description)::jsonb, \(filter), \(error.message))")
        }
    }

    private func reading(
        _ request: FingerprintRequest, _ description: String?, _ answer: String?,
        _ planner: Connection
    ) throws -> FingerprintReading {
        let found = try planner.execute(
            """
            SELECT d ->> 'fingerprint', d::text, c.is_equal, c.difference \
            FROM roneo.fingerprint_document(\(request.source), \(description)::jsonb, \
            \(request.filter), \(request.columns)::text[], \(request.hash), \
            \(request.anyEncoding)::boolean, \(answer)::jsonb) AS d \
            LEFT JOIN LATERAL roneo.compare_fingerprints(\(request.other), d::text) AS c \
            ON \(request.other)::text IS NOT NULL
            """)
        return FingerprintReading(
            line: found[0, 0] ?? "", document: JSON(verbatim: found[0, 1]),
            isEqual: found[0, 2].map { $0 == "t" }, difference: found[0, 3])
    }

    /// Looks at a source's tables and keeps what was seen: one row, of `roneo.observation`.
    public func observe(_ request: ObservationRequest) async throws -> Records {
        try await onWorker { worker in
            let planner = try worker.destination(for: "observe")
            let plans = try planner.execute(
                """
                SELECT roneo.survey_probe(\(request.source), \(request.schemas)::text[]), \
                roneo.observe_opening(make_interval(secs => \(request.timeLimit)::float8))
                """)
            let source = try worker.source(
                named: request.source, for: "observe", mappings: planner)
            defer { source.rollback() }
            try source.execute(SQL(verbatim: plans[0, 1] ?? ""))
            let survey = try source.execute(SQL(verbatim: plans[0, 0] ?? "")).value
            let probe = try planner.execute(
                """
                SELECT roneo.observe_values_probe(\(request.source), \(survey)::jsonb, \
                \(request.scanMegabytes)::bigint * 1000000)
                """
            ).value
            var values: String?
            var problem: String?
            if let probe {
                do {
                    values = try source.execute(SQL(verbatim: probe)).value
                } catch {
                    if cancel.isFired { throw error }
                    // Counters and files are worth keeping without it.
                    problem = Failure(any: error, during: nil).message
                }
            }
            let seen = try planner.execute(
                """
                SELECT o.*, to_jsonb(o)::text AS json, (SELECT count(*) FROM roneo.observed_state AS s \
                WHERE s.first_seen = o.observation_id AND s.relation = s.root) AS news \
                FROM roneo.record_observation(\(request.source), \(request.schemas)::text[], \
                \(survey)::jsonb, \(values)::jsonb, \(problem), \(request.keepDays)::integer) AS o
                """)
            return Records(seen)
        }
    }

    /// What became of a source's tables. The column `json` has the line as JSON.
    /// - Parameter since: a time as SQL takes it, or how many seconds ago.
    public func changes(
        _ source: String, schemas: [String]?, since: TimePoint?, until: TimePoint?,
        byPartition: Bool
    ) async throws -> Records {
        try await onWorker { worker in
            Records(
                try worker.destination(for: "changes").execute(
                    """
                    SELECT c.*, extract(epoch FROM clock_timestamp() - c.changed_until) AS changed_ago, \
                    extract(epoch FROM c.observed_until - c.observed_from) AS observed_for, to_jsonb(c)::text AS json \
                    FROM roneo.changes(\(source), \(schemas)::text[], \
                    coalesce(\(since?.text)::timestamptz, now() - make_interval(secs => \(since?.secondsAgo)::float8)), \
                    coalesce(\(until?.text)::timestamptz, now() - make_interval(secs => \(until?.secondsAgo)::float8)), \
                    \(byPartition)::boolean) AS c
                    """))
        }
    }

    /// A method for each table of a source. The column `json` has the line as JSON, `needed` what
    /// is missing on the source, line by line.
    public func advice(_ request: AdviceRequest) async throws -> Records {
        try await onWorker { worker in
            let planner = try worker.destination(for: "advise")
            let plans = try planner.execute(
                """
                SELECT roneo.survey_probe(\(request.source), \(request.schemas)::text[]), \
                roneo.source_opening()
                """)
            let source = try worker.source(named: request.source, for: "advise", mappings: planner)
            defer { source.rollback() }
            try source.execute(SQL(verbatim: plans[0, 1] ?? ""))
            let survey = try source.execute(SQL(verbatim: plans[0, 0] ?? "")).value
            return Records(
                try planner.execute(
                    """
                    SELECT a.*, array_to_string(a.needs, E'\\n') AS needed, to_jsonb(a)::text AS json \
                    FROM roneo.judge_methods(\(request.source), \(survey)::jsonb, \
                    make_interval(secs => \(request.refreshEvery)::float8), \
                    \(request.smallMegabytes)::integer, \(request.keepDeleted)::boolean, \
                    \(request.asTables)::boolean) AS a
                    """))
        }
    }

    /// Waits; false where it was told to stop meanwhile.
    public func wait(_ duration: Duration) async throws -> Bool {
        try await onOwnThread(cancel: cancel) { token in
            var sleep = pollfd(fd: token.fileDescriptor, events: Int16(POLLIN), revents: 0)
            _ = poll(&sleep, 1, Int32(min(duration / .milliseconds(1), 2_000_000_000)))
            return !token.isFired
        }
    }
}

/// A point of time, as SQL takes it or as how long ago it was.
public struct TimePoint: Sendable, Equatable {
    public let text: String?
    public let secondsAgo: Double?

    public init(_ text: String) {
        self.text = text
        secondsAgo = nil
    }

    public init(secondsAgo: Double) {
        text = nil
        self.secondsAgo = secondsAgo
    }
}
