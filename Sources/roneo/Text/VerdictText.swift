import Replication

/// What comparisons found, in words and for programs.
enum VerdictText {
    static func json(_ report: RunReport) -> JSON {
        .object([
            "run": JSON(RunnerIdentity.current.runId),
            "standby": JSON(report.isStandby),
            "signal": JSON(report.signal),
            "stopped": report.stopped?.failure.json ?? .null,
            "seconds": JSON(report.duration),
            "exit_status": JSON(report.exitStatus.code),
            "replicas": .array(report.replicas.map(\.verdictJSON)),
            "not_begun": .array(report.notBegun.map { JSON($0) }),
        ])
    }

    static func text(_ report: RunReport, _ terminal: Terminal) -> String {
        if report.isStandby { return "The destination is a standby: nothing to do here.\n" }
        guard !report.replicas.isEmpty else { return "Nothing is due.\n" }
        var grid = TextGrid([
            .init(title: "replica", shrinks: true),
            .init(title: "method", isOptional: true),
            .init(title: "verdict"),
            .init(title: "rows", alignment: .right, isOptional: true),
            .init(title: "missing", alignment: .right, isOptional: true),
            .init(title: "extra", alignment: .right, isOptional: true),
            .init(title: "changed", alignment: .right, isOptional: true),
            .init(title: "took", alignment: .right, isOptional: true),
            .init(title: "why", shrinks: true, isOptional: true),
        ])
        for replica in report.replicas {
            let verdict = replica.verdict
            grid.add([
                .init(replica.dest), .init(replica.method),
                .init(verdict?.outcome.rawValue ?? "undecided", style(of: verdict)),
                .init(verdict?.rowsHere.map(Quantity.count)),
                .init(count(verdict, verdict?.missing)), .init(count(verdict, verdict?.extra)),
                .init(count(verdict, verdict?.changed)),
                .init(Quantity.seconds(replica.duration)),
                .init(verdict?.why ?? replica.failure?.message),
            ])
        }
        let found = report.replicas.flatMap { details(of: $0, terminal) }
        let more = report.notBegun.isEmpty ? [] : ["\(report.notBegun.count) not begun"]
        let lines =
            grid.lines(width: terminal.width, style: terminal.styled) + notes(report) + found + more
        return lines.joined(separator: "\n") + "\n"
    }

    /// What the verdicts do not vouch for. Slices of a replica that say the same say it once.
    private static func notes(_ report: RunReport) -> [String] {
        let copied = distinct(report.replicas.filter { $0.verdict?.copiedAnew == true }.map(\.dest))
        let recopies =
            copied.isEmpty
            ? []
            : ["copied anew first, so only that copy was compared: \(replicas(copied.count))"]
        return recopies
            + distinct(
                report.replicas.compactMap { replica in
                    replica.verdict?.notCompared.map {
                        "\(replica.dest.printable): \($0.printable)"
                    }
                })
    }

    private static func replicas(_ count: Int) -> String {
        count == 1 ? "1 replica" : "\(Quantity.count(Int64(count))) replicas"
    }

    private static func distinct(_ texts: [String]) -> [String] {
        var seen: Set<String> = []
        return texts.filter { seen.insert($0).inserted }
    }

    /// Nothing where all is well, so that what is not stands out.
    private static func count(_ verdict: Verdict?, _ number: Int64?) -> String? {
        guard verdict?.outcome != .equal || number ?? 0 > 0 else { return nil }
        return number.map(Quantity.count)
    }

    private static func style(of verdict: Verdict?) -> Style {
        switch verdict?.outcome {
        case .equal, .repaired: .green
        case .differs: .red
        case .undecided, nil: .yellow
        }
    }

    /// The differences of a replica, a line each.
    private static func details(of replica: ReplicaReport, _ terminal: Terminal) -> [String] {
        guard let verdict = replica.verdict, !verdict.lines.isEmpty else { return [] }
        var grid = TextGrid([
            .init(title: "difference"), .init(title: "row", shrinks: true),
            .init(title: "columns", shrinks: true, isOptional: true),
        ])
        for line in verdict.lines {
            grid.add([.init(line.kind), .init(line.key), .init(line.columns)])
        }
        let found = (verdict.missing ?? 0) + (verdict.extra ?? 0) + (verdict.changed ?? 0)
        let rest = found - Int64(verdict.lines.count)
        return ["", replica.dest.printable] + [done(verdict)].compactMap { $0 }
            + grid.lines(width: terminal.width, style: terminal.styled)
            + (rest > 0 ? ["and \(Quantity.count(rest)) more"] : [])
    }

    private static func done(_ verdict: Verdict) -> String? {
        guard let inserted = verdict.inserted, let updated = verdict.updated,
            let deleted = verdict.deleted
        else { return nil }
        return "inserted \(Quantity.count(inserted)), updated \(Quantity.count(updated)), "
            + "removed \(Quantity.count(deleted))"
    }
}
