import Replication

/// A page about the latest days that needs nothing else: no script, no font, no picture.
struct ReportPage {
    private let chronicle: Chronicle
    private let lines: [ReplicaLine]
    private let everything: ReportHistory
    private let plot: Plot

    init(_ chronicle: Chronicle) {
        self.chronicle = chronicle
        let isTerse = chronicle.replicas.rows.count > 200
        plot = Plot(columns: chronicle.buckets, isTerse: isTerse)
        var histories: [String: ReportHistory] = [:]
        var everything = ReportHistory()
        for row in chronicle.plots.rows.indices {
            histories[chronicle.plots[row, "replica_id"] ?? "", default: .init()]
                .add(chronicle.plots, row)
            everything.add(chronicle.plots, row)
        }
        self.everything = everything
        var worst: [String: AlertLevel] = [:]
        for finding in chronicle.health.findings {
            let known = worst[finding.object] ?? .ok
            worst[finding.object] = finding.level.rank < known.rank ? finding.level : known
        }
        lines = chronicle.replicas.rows.indices.map { row in
            ReplicaLine(
                chronicle.replicas, row, findings: worst,
                isStandby: chronicle.health.isStandby,
                history: histories[chronicle.replicas[row, "replica_id"] ?? ""] ?? .init())
        }.sorted(by: <)
    }

    var html: String {
        let title = "roneo: \(chronicle.database)"
        return "<!DOCTYPE html>\n"
            + HTML.element(
                "html", "lang=\"en\"",
                HTML.element(
                    "head", "",
                    "<meta charset=\"utf-8\">",
                    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
                    "<meta name=\"color-scheme\" content=\"light dark\">",
                    HTML.element("title", "", HTML.escaped(title)),
                    HTML.element("style", "", ReportStyle.css)),
                HTML.element(
                    "body", "", head,
                    HTML.element("main", "", tiles, timeline, attention, replicas, failures), foot))
            + "\n"
    }

    // MARK: - Parts

    private var head: String {
        let level = chronicle.health.level
        let days = chronicle.days == 1 ? "last 24 hours" : "last \(chronicle.days) days"
        return HTML.element(
            "header", "class=\"\(level.rawValue)\"",
            HTML.element(
                "div", "class=\"title\"", "<b>roneo</b>",
                HTML.text("span", "name", chronicle.database)),
            HTML.text("h1", "verdict", verdict),
            HTML.text("p", "quiet", "\(days), up to \(chronicle.madeAt)"))
    }

    private var verdict: String {
        let bad = lines.count { $0.level != .ok }
        if chronicle.health.isStandby { return "A standby: its primary refreshes" }
        if lines.isEmpty { return "There is no replica" }
        if bad == 0 {
            guard chronicle.health.problems.isEmpty else {
                return chronicle.health.problems[0].message
            }
            return lines.count == 1
                ? "The replica is fresh" : "All \(lines.count) replicas are fresh"
        }
        return "\(bad) of \(lines.count) replicas \(bad == 1 ? "needs" : "need") attention"
    }

    private var tiles: String {
        let total = everything.total
        func tile(_ value: String, _ name: String, _ style: String = "") -> String {
            HTML.element(
                "div", "class=\"tile \(style)\"", HTML.text("b", "value", value),
                HTML.text("span", "quiet", name))
        }
        let levels: [(AlertLevel, String)] = [
            (.critical, "critical"), (.warning, "warning"), (.ok, "well"),
        ]
        return HTML.element(
            "section", "class=\"tiles\"",
            levels.map { level, name in
                let count = lines.count { $0.level == level }
                return tile("\(count)", name, count > 0 ? level.rawValue : "none")
            }.joined(),
            tile(Quantity.count(total.runs), "recorded runs"),
            tile(Quantity.count(total.failed), "failed", total.failed > 0 ? "CRITICAL" : "none"),
            tile(Quantity.count(total.rows), "rows copied"),
            tile(Quantity.bytes(total.bytes), "moved"))
    }

    /// All replicas together, with the times that hold for the plots below as well.
    private var timeline: String {
        let quarters = (0...4).map { chronicle.marks[$0 * chronicle.buckets / 4] }
        return HTML.element(
            "section", "class=\"card all\"",
            cell(
                "runs of all replicas, by \(stretch)", nil,
                plot.strip(everything.cells(chronicle.marks))),
            cell(
                "rows",
                maximum(everything.values { Double($0.rows) }) { Quantity.count(Int64($0)) },
                plot.bars(everything.values { Double($0.rows) }), "tall"),
            HTML.element(
                "div", "class=\"axis quiet\"",
                quarters.map { HTML.element("span", "", HTML.escaped($0)) }.joined()))
    }

    /// How long one column of a plot is.
    private var stretch: String {
        let seconds = Int64(chronicle.days) * 86_400 / Int64(chronicle.buckets)
        return seconds < 7_200 ? "\(seconds / 60) min" : "\(seconds / 3_600) h"
    }

    private var attention: String {
        let problems = chronicle.health.problems
        guard !problems.isEmpty else { return "" }
        let items = problems.prefix(100).map { finding in
            HTML.element(
                "li", "class=\"\(finding.level.rawValue)\"",
                HTML.text("span", "badge \(finding.level.rawValue)", finding.level.rawValue),
                HTML.element(
                    "div", "", what(finding.object),
                    HTML.text("span", "quiet", " \(finding.check)"),
                    HTML.text("p", "message", finding.message),
                    HTML.text("p", "advice", finding.advice)))
        }
        let rest = problems.count - items.count
        return HTML.element(
            "section", "", "<h2>What needs attention</h2>",
            HTML.element("ul", "class=\"findings\"", items.joined()),
            rest > 0 ? HTML.text("p", "quiet", "and \(rest) more: roneo check") : "")
    }

    private var replicas: String {
        guard !lines.isEmpty else { return "" }
        return HTML.element(
            "section", "", "<h2>Replicas</h2>",
            "<p class=\"quiet legend\"><i class=\"good\"></i>copied <i class=\"idle\"></i>nothing to copy "
                + "<i class=\"waited\"></i>deferred <i class=\"bad\"></i>failed. Delay: from when it was due "
                + "to when it was fresh, the dashed line is one interval. All plots cover the same time.</p>",
            lines.map { card($0) }.joined())
    }

    private func card(_ line: ReplicaLine) -> String {
        let history = line.history
        let waited = history.values(\.waited).filter { _ in line.promised != nil }
        return HTML.element(
            "article",
            "class=\"card replica \(line.level.rawValue)\" id=\"\(HTML.escaped(line.dest))\"",
            HTML.element(
                "div", "class=\"who\"",
                HTML.element("h3", "", HTML.escaped(line.dest)),
                HTML.element(
                    "p", "class=\"quiet\"", HTML.escaped("\(line.method) of \(line.source)")),
                HTML.text("span", "badge \(line.level.rawValue)", line.state),
                line.failures > 0
                    ? HTML.text("span", "badge CRITICAL", "\(line.failures) failed in a row") : ""),
            gauge(line),
            cell(
                "runs", Quantity.count(history.total.runs),
                plot.strip(history.cells(chronicle.marks))),
            cell(
                "delay", maximum(waited) { Quantity.age($0) },
                plot.bars(waited, limit: line.promised)),
            cell(
                "rows", maximum(history.values { Double($0.rows) }) { Quantity.count(Int64($0)) },
                plot.bars(history.values { Double($0.rows) })),
            cell(
                "duration", maximum(history.values(\.seconds)) { Quantity.seconds(.seconds($0)) },
                plot.bars(history.values(\.seconds))),
            line.isExplained ? "" : HTML.text("p", "message", line.message))
    }

    /// How old the copy is, against what was promised and what is borne.
    private func gauge(_ line: ReplicaLine) -> String {
        let age = line.age.map { $0 < 1 ? "0 s" : Quantity.age($0) } ?? "new"
        guard let promised = line.promised, promised > 0 else {
            return HTML.element(
                "div", "class=\"age\"", HTML.text("b", "value", age),
                HTML.text(
                    "span", "quiet", line.age == nil ? "never refreshed" : "old, none promised")
            )
        }
        let warning = promised * (1 + (chronicle.health.lateWarning ?? 1))
        let critical = promised * (1 + (chronicle.health.lateCritical ?? 3))
        func percent(_ seconds: Double) -> Int { Int(min(100, seconds / (critical * 1.1) * 100)) }
        let fill = line.age.map { max(2, percent($0)) } ?? 0
        return HTML.element(
            "div", "class=\"age\"", HTML.text("b", "value", age),
            HTML.text(
                "span", "quiet",
                "\(line.age == nil ? "never refreshed" : "old"), \(Quantity.age(promised)) promised"
            ),
            HTML.element(
                "div", "class=\"gauge\" title=\"\(HTML.escaped(line.succeeded))\"",
                "<i class=\"\(line.level.rawValue)\" style=\"width:\(fill)%\"></i>",
                "<b style=\"left:\(percent(promised))%\"></b><b style=\"left:\(percent(warning))%\"></b>",
                "<b style=\"left:\(percent(critical))%\"></b>"))
    }

    private var failures: String {
        let found = chronicle.failures
        guard !found.rows.isEmpty else { return "" }
        let items = found.rows.indices.map { row in
            let times = found[row, "times"].flatMap { Int64($0) } ?? 1
            let when =
                times == 1
                ? found[row, "last_seen"] ?? ""
                : "\(Quantity.count(times)) times, \(found[row, "first_seen"] ?? "") to \(found[row, "last_seen"] ?? "")"
            return HTML.element(
                "li", "class=\"CRITICAL\"",
                HTML.text(
                    "span", "badge CRITICAL", found[row, "sqlstate"] ?? found[row, "outcome"]),
                HTML.element(
                    "div", "", what(found[row, "dest"] ?? ""),
                    HTML.text("span", "quiet", " \(when)"),
                    HTML.text("p", "message", found[row, "message"]),
                    HTML.text("p", "quiet", found[row, "detail"]),
                    HTML.text("p", "advice", found[row, "hint"])))
        }
        return HTML.element(
            "section", "", "<h2>Failures</h2>",
            HTML.element("ul", "class=\"findings\"", items.joined()))
    }

    private var foot: String {
        HTML.text(
            "footer", "quiet",
            "roneo \(programVersion). Runs that had nothing to do and were not recorded are not shown; "
                + "the history is kept for history_days.")
    }

    // MARK: - Pieces

    /// A name, which leads to the replica that it is of.
    private func what(_ name: String) -> String {
        let name = HTML.escaped(name)
        guard lines.contains(where: { HTML.escaped($0.dest) == name }) else {
            return HTML.element("b", "", name)
        }
        return HTML.element("a", "href=\"#\(HTML.fragment(name))\"", HTML.element("b", "", name))
    }

    private func cell(
        _ name: String, _ value: String?, _ plot: String, _ style: String = ""
    ) -> String {
        HTML.element(
            "div", "class=\"plot \(style)\"",
            HTML.element(
                "p", "class=\"quiet\"", HTML.escaped(name), HTML.text("span", "value", value)),
            plot)
    }

    /// The greatest value in words; nil where there is none.
    private func maximum(
        _ values: [(column: Int, value: Double)], _ words: (Double) -> String
    ) -> String? {
        values.map(\.value).max().flatMap { $0 > 0 ? "max \(words($0))" : nil }
    }
}

/// What the page says of one replica; those that need attention come first.
private struct ReplicaLine: Comparable {
    let dest: String
    let method: String
    let source: String
    let state: String
    let message: String?
    let level: AlertLevel
    /// Whether findings say what its level is about.
    let isExplained: Bool
    let failures: Int
    let age: Double?
    let promised: Double?
    let late: Double
    let succeeded: String
    let history: ReportHistory

    init(
        _ records: Records, _ row: Int, findings: [String: AlertLevel], isStandby: Bool,
        history: ReportHistory
    ) {
        func real(_ column: String) -> Double? { records[row, column].flatMap { Double($0) } }
        dest = records[row, "dest"] ?? ""
        method = records[row, "method"] ?? ""
        source = "\(records[row, "source_table"] ?? "") in \(records[row, "source_name"] ?? "")"
        state = records[row, "state"] ?? ""
        message = records[row, "message"]
        failures = records[row, "failures"].flatMap { Int($0) } ?? 0
        age = real("age_seconds")
        promised = real("promised_seconds")
        succeeded = records[row, "succeeded"].map { "last success \($0)" } ?? "never refreshed"
        late = (real("lag_seconds") ?? 0) / (real("promised_seconds") ?? .infinity)
        let alert = records[row, "alert"].flatMap { AlertLevel(rawValue: $0) } ?? .unknown
        // What was found is listed above, and was found a moment earlier; a standby finds nothing.
        let found = findings[records[row, "dest"] ?? ""]
        isExplained = found != nil || alert == .ok
        level = found ?? (isStandby ? .ok : alert)
        self.history = history
    }

    static func < (one: ReplicaLine, other: ReplicaLine) -> Bool {
        if one.level.rank != other.level.rank { return one.level.rank < other.level.rank }
        if one.late != other.late { return one.late > other.late }
        if one.failures != other.failures { return one.failures > other.failures }
        return one.dest < other.dest
    }

    static func == (one: ReplicaLine, other: ReplicaLine) -> Bool { one.dest == other.dest }
}
