import Replication

/// The replicas' status and the history of runs, as tables.
enum RecordText {
    /// An array of the rows' own JSON.
    static func json(_ records: Records) -> String {
        let rows = records.rows.indices.map { JSON(verbatim: records[$0, "json"]) }
        return JSON.array(rows).description
    }

    static func status(_ records: Records, _ terminal: Terminal) -> String {
        guard !records.rows.isEmpty else { return "No replica is registered.\n" }
        var grid = TextGrid([
            .init(title: "replica", shrinks: true),
            .init(title: "method", isOptional: true),
            .init(title: "source", shrinks: true, isOptional: true),
            .init(title: "state"),
            .init(title: "age", alignment: .right),
            .init(title: "every", alignment: .right, isOptional: true),
            .init(title: "late", alignment: .right, isOptional: true),
            .init(title: "rows", alignment: .right, isOptional: true),
            .init(title: "took", alignment: .right, isOptional: true),
            .init(title: "verified", isOptional: true),
            .init(title: "message", shrinks: true, isOptional: true),
        ])
        for row in records.rows.indices {
            grid.add([
                .init(records[row, "dest"]),
                .init(records[row, "method"]),
                .init(records[row, "source_name"]),
                .init(records[row, "state"], style(alert: records[row, "alert"])),
                .init(age(records[row, "age_seconds"])),
                .init(age(records[row, "promised_age_seconds"])),
                .init(late(records[row, "lag_seconds"])),
                .init(count(records[row, "last_rows"])),
                .init(seconds(records[row, "last_seconds"])),
                .init(records[row, "verdict"], records[row, "verdict"] == "differs" ? .red : nil),
                .init(records[row, "message"]),
            ])
        }
        return text(grid, terminal)
    }

    static func history(_ records: Records, _ terminal: Terminal) -> String {
        guard !records.rows.isEmpty else { return "There has been no run.\n" }
        var grid = TextGrid([
            .init(title: "run", alignment: .right),
            .init(title: "started"),
            .init(title: "replica", shrinks: true),
            .init(title: "hand", isOptional: true),
            .init(title: "outcome"),
            .init(title: "rows", alignment: .right, isOptional: true),
            .init(title: "bytes", alignment: .right, isOptional: true),
            .init(title: "took", alignment: .right, isOptional: true),
            .init(title: "message", shrinks: true, isOptional: true),
        ])
        for row in records.rows.indices {
            let outcome = records[row, "outcome"]
            let code = records[row, "sqlstate"].map { "\($0) " } ?? ""
            let message = records[row, "message"] ?? records[row, "warning"]
            grid.add([
                .init(records[row, "run_id"]),
                .init(records[row, "started"]),
                .init(records[row, "dest"]),
                .init(records[row, "hand"]),
                .init(outcome, style(outcome: outcome)),
                .init(count(records[row, "rows_received"])),
                .init(records[row, "bytes"].flatMap { Int64($0) }.map { Quantity.bytes($0) }),
                .init(seconds(records[row, "seconds"])),
                .init(message.map { code + $0 }),
            ])
        }
        return text(grid, terminal)
    }

    private static func text(_ grid: TextGrid, _ terminal: Terminal) -> String {
        grid.lines(width: terminal.width) { terminal.styled($0, $1) }
            .map { $0 + "\n" }.joined()
    }

    private static func age(_ seconds: String?) -> String? {
        seconds.flatMap { Double($0) }.map { Quantity.age($0) }
    }

    /// Nothing where it is not late.
    private static func late(_ seconds: String?) -> String? {
        seconds.flatMap { Double($0) }.flatMap { $0 > 0 ? Quantity.age($0) : nil }
    }

    private static func count(_ text: String?) -> String? {
        text.flatMap { Int64($0) }.map { Quantity.count($0) }
    }

    private static func seconds(_ text: String?) -> String? {
        text.flatMap { Double($0) }.map { Quantity.seconds(.seconds($0)) }
    }

    private static func style(alert: String?) -> Style? {
        switch alert {
        case "CRITICAL": .red
        case "WARNING": .yellow
        default: .green
        }
    }

    private static func style(outcome: String?) -> Style? {
        switch outcome {
        case "ok": .green
        case "failed", "abandoned": .red
        case "deferred", "running": .yellow
        default: nil
        }
    }
}
