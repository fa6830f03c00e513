import Replication

/// What a check found, as a plugin of Nagios says it.
enum PluginText {
    /// One line with performance data, then a line for each finding that is not OK.
    static func text(_ report: HealthReport, named dests: [String]) -> String {
        var first = "RONEO \(report.level.rawValue) - \(plain(headline(report)))"
        let numbers = performance(report, named: dests)
        if !numbers.isEmpty { first += " | " + numbers.joined(separator: " ") }
        var lines = [first]
        for finding in report.problems where !finding.object.isEmpty {
            lines.append("\(finding.level.rawValue): \(plain(words(finding)))")
            if let advice = finding.advice { lines.append("  \(plain(advice))") }
        }
        if let advice = report.problems.first?.advice, report.problems[0].object.isEmpty {
            lines.append("  \(plain(advice))")
        }
        return lines.map { $0 + "\n" }.joined()
    }

    static func json(_ report: HealthReport) -> JSON {
        .object([
            "status": JSON(report.level.rawValue),
            "exit_status": JSON(report.level.exitCode),
            "message": JSON(headline(report)),
            "checked_at": JSON(Timestamp.now().description),
            "replicas": JSON(report.replicas.count),
            "lateness": JSON(verbatim: report.lateness.map { number($0) }),
            "findings": .array(report.findings.map(\.json)),
        ])
    }

    private static func headline(_ report: HealthReport) -> String {
        let problems = report.problems
        guard let worst = problems.first else {
            if report.isStandby { return report.findings[0].message }
            return report.replicas.count == 1
                ? words(report.findings[0])
                : "\(report.replicas.count) replicas, all as fresh as promised"
        }
        guard !worst.object.isEmpty else { return worst.message }
        let count = problems.count == 1 ? "1 finding" : "\(problems.count) findings"
        let replicas =
            report.replicas.count == 1 ? "1 replica" : "\(report.replicas.count) replicas"
        return report.replicas.isEmpty
            ? words(worst) : "\(count) in \(replicas): \(words(worst))"
    }

    private static func words(_ finding: CheckFinding) -> String {
        "\(finding.check) of \(finding.object): \(finding.message)"
    }

    private static func performance(_ report: HealthReport, named dests: [String]) -> [String] {
        guard !report.replicas.isEmpty else { return [] }
        let warning = report.lateWarning ?? 1
        let critical = report.lateCritical ?? 3
        var numbers = ["replicas=\(report.replicas.count);;;0"]
        for level in [AlertLevel.critical, .warning, .unknown] {
            numbers.append("\(level.rawValue.lowercased())=\(report.count(level));;;0")
        }
        if let lateness = report.lateness {
            numbers.append("lateness=\(number(lateness));\(number(warning));\(number(critical));0")
        }
        // Of all replicas that would be more than a monitoring system takes.
        for replica in report.replicas where !dests.isEmpty {
            guard let age = replica.age else { continue }
            let limits = replica.promisedAge.map {
                "\(number($0 * (1 + warning)));\(number($0 * (1 + critical)))"
            }
            numbers.append("\(label("\(replica.dest) age"))=\(number(age))s;\(limits ?? ";");0")
        }
        return numbers
    }

    /// In single quotes, which are doubled; an equals sign may not stand in it.
    private static func label(_ text: String) -> String {
        var label = ""
        for character in plain(text) {
            switch character {
            case "'": label += "''"
            case "=": label += "_"
            default: label.append(character)
            }
        }
        return "'\(label)'"
    }

    /// Without what separates the parts of a plugin's output.
    private static func plain(_ text: String) -> String {
        String(
            text.split(separator: "\n").joined(separator: " ").printable
                .map { $0 == "|" ? "¦" : $0 })
    }

    /// At most two digits behind the point, none where they are 0.
    private static func number(_ value: Double) -> String {
        let hundredths = Int64((value * 100).rounded())
        let (whole, rest) = hundredths.quotientAndRemainder(dividingBy: 100)
        return rest == 0 ? "\(whole)" : "\(whole).\(rest < 10 ? "0" : "")\(rest)"
    }
}
