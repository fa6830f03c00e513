import Replication

/// A run's report in words.
enum ReportText {
    /// One line for a replica that ended: `ok  app.orders  1,000 rows  23 kB  0.12 s`
    static func line(
        _ report: ReplicaReport, _ terminal: Terminal, destWidth: Int = 0
    ) -> String {
        let dest = report.dest.printable
        let space = String(repeating: " ", count: max(0, destWidth - dest.displayWidth))
        var parts = [mark(report.outcome, terminal), dest + space]
        switch report.outcome {
        case .ok:
            parts.append(Quantity.rows(report.rows))
            parts.append(Quantity.bytes(report.bytes))
        case .unchanged, .deferred, .failed, .cancelled:
            break
        }
        parts.append(Quantity.seconds(report.duration))
        let message = report.message ?? report.failure?.message
        if let message { parts.append(message.printable) }
        if let warning = report.warning {
            parts.append(terminal.styled("warning: \(warning.printable)", .yellow))
        }
        return parts.joined(separator: "  ")
    }

    /// The last line: `3 ok, 2 unchanged: 1,000 rows, 23 kB in 0.40 s`
    static func summary(_ report: RunReport) -> String {
        if report.isStandby { return "The destination is a standby: nothing to do here." }
        var counts = ReplicaReport.Outcome.allCases.compactMap { outcome in
            report.count(outcome) > 0 ? "\(report.count(outcome)) \(outcome.rawValue)" : nil
        }
        if !report.notBegun.isEmpty { counts.append("\(report.notBegun.count) not begun") }
        guard !counts.isEmpty else { return "Nothing is due." }
        let moved = "\(Quantity.rows(report.rows)), \(Quantity.bytes(report.bytes))"
        return "\(counts.joined(separator: ", ")): \(moved) in \(Quantity.seconds(report.duration))"
    }

    /// One block for a person, or a mail of cron's: which replica, what was being done, and what
    /// the server said.
    static func failure(_ report: ReplicaReport, _ terminal: Terminal) -> String? {
        guard let failure = report.failure, report.outcome == .failed else { return nil }
        let source = report.source.map { " from source \($0.printable)" } ?? ""
        let what = report.verdict == nil ? "refresh" : "verification"
        return block(
            "\(what) of \(report.dest.printable)\(source) failed", failure.message, failure,
            terminal)
    }

    /// A line for what a person should know of a refresh that went well.
    static func warning(_ report: ReplicaReport, _ terminal: Terminal) -> String? {
        report.warning.map {
            terminal.styled("roneo: \(report.dest.printable): warning: \($0.printable)", .yellow)
        }
    }

    /// A block for an error that is no replica's.
    static func block(_ failure: Failure, _ terminal: Terminal) -> String {
        block(failure.message, nil, failure, terminal)
    }

    private static func block(
        _ title: String, _ message: String?, _ failure: Failure, _ terminal: Terminal
    ) -> String {
        let fields: [(String, String?)] = [
            ("during:  ", failure.during),
            ("error:   ", message),
            ("detail:  ", failure.detail),
            ("hint:    ", failure.hint),
            ("sqlstate:", failure.sqlState),
        ]
        let lines = fields.compactMap { name, value in value.map { "  \(name) \(indented($0))" } }
        let head = terminal.styled("roneo: \(indented(title))", .red)
        return ([head] + lines).joined(separator: "\n")
    }

    private static func indented(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false)
            .map { String($0).trimmingEnds().printable }.joined(separator: "\n            ")
    }

    private static func mark(
        _ outcome: ReplicaReport.Outcome, _ terminal: Terminal
    ) -> String {
        switch outcome {
        case .ok: terminal.styled("ok       ", .green)
        case .unchanged: terminal.styled("unchanged", .dim)
        case .deferred: terminal.styled("deferred ", .yellow)
        case .failed: terminal.styled("failed   ", .red)
        case .cancelled: terminal.styled("cancelled", .yellow)
        }
    }
}
