import Postgres

/// Asks whether all is well: the destination always, the sources where told to.
public struct HealthCheck: Sendable {
    public var inspection: Inspection
    /// Only replicas of these sources; nil: of all.
    public var sources: [String]?
    /// Only these destinations; nil: all.
    public var dests: [String]?
    /// How many times its interval a replica may be late; nil: as the settings say.
    public var lateWarning: Double?
    public var lateCritical: Double?
    /// Whether to ask the sources for columns that have drifted apart.
    public var withColumns = false
    /// Whether to ask the sources for tables that nobody copies.
    public var withMissingTables = false

    public init(_ inspection: Inspection) {
        self.inspection = inspection
    }

    public func callAsFunction() async throws -> HealthReport {
        try await inspection.onWorker { worker in
            let connection = try worker.destination(for: "check")
            var report = HealthReport()
            report.findings = CheckFinding.all(
                try connection.execute(
                    """
                    SELECT * FROM roneo.check(\(sources)::text[], \(dests)::text[]::regclass[], \
                    \(lateWarning)::numeric, \(lateCritical)::numeric)
                    """))
            report.isStandby = report.findings.contains { $0.check == "standby" }
            guard !report.isStandby else { return report }
            try measure(&report, connection)
            if withColumns || withMissingTables {
                for name in try names(connection) {
                    let wanted = Set(report.replicas.map(\.dest))
                    report.findings += try ask(name, connection, worker).filter {
                        // Columns are asked for all replicas of a source.
                        $0.check != "columns" || wanted.contains($0.object)
                    }
                }
            }
            report.findings.sort { $0.level.rank < $1.level.rank }
            return report
        }
    }

    /// How late what was looked at is, and how late it may be.
    private func measure(_ report: inout HealthReport, _ connection: Connection) throws {
        let looked = report.findings.filter { ["freshness", "destination"].contains($0.check) }
        let levels = try connection.execute(
            """
            SELECT round(coalesce(\(lateWarning)::numeric, roneo.setting('late_warning_pct') / 100.0), 2)::float8, \
            round(coalesce(\(lateCritical)::numeric, roneo.setting('late_critical_pct') / 100.0), 2)::float8
            """)
        report.lateWarning = levels[0, 0].flatMap { Double($0) }
        report.lateCritical = levels[0, 1].flatMap { Double($0) }
        let numbers = try connection.execute(
            """
            SELECT s.dest, extract(epoch FROM clock_timestamp() - s.last_success_at) AS age, \
            extract(epoch FROM s.promised_age) AS promised_age, \
            CASE WHEN s.state <> 'disabled' \
            THEN (extract(epoch FROM s.lag) / extract(epoch FROM s.promised_age))::float8 END AS lateness \
            FROM roneo.status AS s WHERE s.dest = ANY (\(looked.map(\.object))::text[])
            """)
        report.replicas = (0..<numbers.count).map { row in
            HealthReport.Replica(
                dest: numbers[row, "dest"] ?? "",
                age: numbers[row, "age"].flatMap { Double($0) },
                promisedAge: numbers[row, "promised_age"].flatMap { Double($0) },
                lateness: numbers[row, "lateness"].flatMap { Double($0) })
        }
    }

    private func names(_ connection: Connection) throws -> [String] {
        if let sources { return sources }
        let known = try connection.execute("SELECT source_name FROM roneo.source ORDER BY 1")
        return (0..<known.count).compactMap { known[$0, 0] }
    }

    /// A source that does not answer hides nothing of the others.
    private func ask(
        _ name: String, _ connection: Connection, _ worker: Worker
    ) throws -> [CheckFinding] {
        do {
            let source = try worker.source(named: name, for: "check", mappings: connection)
            defer { source.rollback() }
            let opening = try connection.execute("SELECT roneo.source_opening()").value ?? ""
            try source.execute(SQL(verbatim: opening))
            var findings: [CheckFinding] = []
            if withColumns {
                let probe = try connection.execute("SELECT roneo.columns_probe(\(name))").value
                let answer = try source.execute(SQL(verbatim: probe ?? "")).value
                let judged = try connection.execute(
                    "SELECT * FROM roneo.judge_columns(\(name), \(answer)::jsonb)")
                findings += CheckFinding.all(judged)
            }
            if withMissingTables {
                let probe = try connection.execute("SELECT roneo.tables_probe(\(name))").value
                let answer = try source.execute(SQL(verbatim: probe ?? "")).value
                findings += CheckFinding.all(
                    try connection.execute(
                        "SELECT * FROM roneo.judge_tables(\(name), \(answer)::jsonb)"))
            }
            return findings
        } catch {
            if inspection.cancel.isFired { throw error }
            let failure = Failure(any: error, during: nil)
            let words = [failure.message, failure.detail].compactMap { $0 }.joined(separator: ": ")
            return [
                CheckFinding(
                    check: "source", object: name, level: .unknown, message: words,
                    advice: failure.hint ?? "roneo preflight says what is missing.")
            ]
        }
    }
}
