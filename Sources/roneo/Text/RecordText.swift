import Replication

/// The replicas' status and the history of runs, as tables.
enum RecordText {
    /// An array of the rows' own JSON.
    static func json(_ records: Records) -> String {
        array(records).description
    }

    static func array(_ records: Records) -> JSON {
        .array(records.rows.indices.map { JSON(verbatim: records[$0, "json"]) })
    }

    static func json(_ reading: MetricsReading) -> JSON {
        .object([
            "program_version": JSON(programVersion),
            "extension_version": JSON(reading.extensionVersion),
            "standby": JSON(reading.isStandby),
            "read_at": JSON(Timestamp.now().description),
            "replicas": array(reading.replicas),
        ])
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
            .init(title: "priority", alignment: .right, isOptional: true),
            .init(title: "windows", shrinks: true, isOptional: true),
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
                .init(records[row, "priority"].flatMap { $0 == "0" ? nil : $0 }),
                .init(windows(records, row)),
                .init(records[row, "verdict"], records[row, "verdict"] == "differs" ? .red : nil),
                .init(records[row, "message"]),
            ])
        }
        return text(grid, terminal)
    }

    static func sources(_ records: Records, _ terminal: Terminal) -> String {
        guard !records.rows.isEmpty else { return "No source is registered.\n" }
        var grid = TextGrid([
            .init(title: "source", shrinks: true),
            .init(title: "replicas", alignment: .right),
            .init(title: "state"),
            .init(title: "since", alignment: .right, isOptional: true),
            .init(title: "connections", alignment: .right, isOptional: true),
            .init(title: "snapshot", alignment: .right, isOptional: true),
            .init(title: "lag", alignment: .right, isOptional: true),
            .init(title: "lag bytes", alignment: .right, isOptional: true),
            .init(title: "xmin age", alignment: .right, isOptional: true),
            .init(title: "message", shrinks: true, isOptional: true),
        ])
        for row in records.rows.indices {
            let limit = records[row, "max_connections"]
            let state = records[row, "state"]
            grid.add([
                .init(records[row, "source_name"]),
                .init(records[row, "replicas"]),
                .init(state, state == "ok" ? .green : .yellow),
                .init(age(records[row, "paused_seconds"])),
                .init(limit.map { "\(records[row, "connections"] ?? "0") of \($0)" }),
                .init(age(records[row, "snapshot_seconds"])),
                .init(age(records[row, "lag_seconds"])),
                .init(bytes(records[row, "max_lag_bytes"])),
                .init(count(records[row, "max_xmin_age"])),
                .init(records[row, "paused_by"] ?? records[row, "unread_limits"]),
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
            .init(title: "kind", isOptional: true),
            .init(title: "outcome"),
            .init(title: "rows", alignment: .right, isOptional: true),
            .init(title: "bytes", alignment: .right, isOptional: true),
            .init(title: "took", alignment: .right, isOptional: true),
            .init(title: "message", shrinks: true, isOptional: true),
        ])
        for row in records.rows.indices {
            let outcome = records[row, "outcome"]
            let code = records[row, "sqlstate"].map { "\($0) " } ?? ""
            let message = [
                repeats(records[row, "repeats"], until: records[row, "ended"]),
                records[row, "message"] ?? records[row, "warning"],
            ].compactMap { $0 }.joined(separator: "; ")
            grid.add([
                .init(records[row, "run_id"]),
                .init(records[row, "started"]),
                .init(records[row, "dest"]),
                .init(records[row, "hand"]),
                .init(records[row, "kind"].flatMap { $0 == "refresh" ? nil : $0 }),
                .init(outcome, style(outcome: outcome)),
                .init(count(records[row, "rows_received"])),
                .init(bytes(records[row, "bytes"])),
                .init(seconds(records[row, "seconds"])),
                .init(message.isEmpty ? nil : code + message),
            ])
        }
        return text(grid, terminal)
    }

    /// Nothing for a row that stands for one refresh.
    private static func repeats(_ count: String?, until end: String?) -> String? {
        guard let count = count.flatMap({ Int64($0) }), count > 1 else { return nil }
        return "\(Quantity.count(count)) times until \(end ?? "now")"
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

    private static func windows(_ records: Records, _ row: Int) -> String? {
        records[row, "windows"].map { "\($0) \(records[row, "window_zone"] ?? "")" }
    }

    private static func count(_ text: String?) -> String? {
        text.flatMap { Int64($0) }.map { Quantity.count($0) }
    }

    private static func bytes(_ text: String?) -> String? {
        text.flatMap { Int64($0) }.map { Quantity.bytes($0) }
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
