import Replication

/// What was found out about a source's tables.
enum AnalysisText {
    /// One line about a look.
    static func look(_ seen: Records, _ source: String) -> String {
        let tables = Quantity.count(Int64(seen[0, "tables"] ?? "") ?? 0)
        let news = Quantity.count(Int64(seen[0, "news"] ?? "") ?? 0)
        let words = [
            "\(source.printable): look \(seen[0, "observation_id"] ?? "") at \(tables) tables, \(news) with news",
            seen[0, "era_reason"], seen[0, "doubt"],
        ]
        return words.compactMap { $0 }.joined(separator: "; ")
    }

    static func changes(_ records: Records, _ source: String, _ terminal: Terminal) -> String {
        guard !records.rows.isEmpty else {
            return "Nothing was observed of \(source.printable): roneo observe looks at it.\n"
        }
        var grid = TextGrid([
            .init(title: "table", shrinks: true),
            .init(title: "became"),
            .init(title: "grows by", shrinks: true, isOptional: true),
            .init(title: "added", alignment: .right, isOptional: true),
            .init(title: "changed", alignment: .right, isOptional: true),
            .init(title: "deleted", alignment: .right, isOptional: true),
            .init(title: "last", alignment: .right, isOptional: true),
            .init(title: "size", alignment: .right),
            .init(title: "observed", alignment: .right, isOptional: true),
            .init(title: "remarks", shrinks: true, isOptional: true),
        ])
        for row in records.rows.indices {
            let isProven = records[row, "proven"] == "t"
            let grows = records[row, "grows_by"].map {
                records[row, "grows_by_proven"] == "t" ? $0 : "\($0)?"
            }
            let verdict = records[row, "verdict"] ?? ""
            grid.add([
                .init(records[row, "source_table"]),
                .init(isProven ? verdict : "\(verdict)?", style(verdict, isProven)),
                .init(grows),
                .init(some(records[row, "inserted"])),
                .init(some(records[row, "updated"])),
                .init(some(records[row, "deleted"])),
                .init(records[row, "changed_ago"].flatMap { Double($0) }.map { Quantity.age($0) }),
                .init(bytes(records[row, "bytes"])),
                .init(records[row, "observed_for"].flatMap { Double($0) }.map { Quantity.age($0) }),
                .init(records[row, "remarks"]),
            ])
        }
        return text(grid, terminal)
    }

    static func advice(_ records: Records, _ source: String, _ terminal: Terminal) -> String {
        guard !records.rows.isEmpty else { return "\(source.printable) has no tables there.\n" }
        var grid = TextGrid([
            .init(title: "table", shrinks: true),
            .init(title: "method"),
            .init(title: "by", shrinks: true, isOptional: true),
            .init(title: "rows", alignment: .right, isOptional: true),
            .init(title: "size", alignment: .right, isOptional: true),
            .init(title: "+/day", alignment: .right, isOptional: true),
            .init(title: "~/day", alignment: .right, isOptional: true),
            .init(title: "-/day", alignment: .right, isOptional: true),
            .init(title: "a refresh", alignment: .right, isOptional: true),
            .init(title: "takes", alignment: .right, isOptional: true),
        ])
        for row in records.rows.indices {
            let method = records[row, "method"] ?? ""
            let seconds = records[row, "refresh_seconds"].flatMap { Double($0) }
                .map { Quantity.seconds(.seconds($0)) }
            let isMeasured = records[row, "speed_is_measured"] == "t"
            grid.add([
                .init(records[row, "source_table"]),
                .init(method, records[row, "copied_as"] == nil ? .cyan : .dim),
                .init(records[row, "control"]),
                .init(
                    records[row, "rows_estimate"].flatMap { Int64($0) }.map { Quantity.count($0) }),
                .init(bytes(records[row, "bytes"])),
                .init(rate(records[row, "added_per_day"])),
                .init(rate(records[row, "updated_per_day"])),
                .init(rate(records[row, "deleted_per_day"])),
                .init(bytes(records[row, "refresh_bytes"])),
                .init(seconds.map { isMeasured ? $0 : "~\($0)" }),
            ])
        }
        var lines = [text(grid, terminal)]
        for row in records.rows.indices {
            lines.append(reasons(records, row, terminal))
        }
        return lines.joined(separator: "\n")
    }

    /// Why, what is missing, and the statement.
    private static func reasons(_ records: Records, _ row: Int, _ terminal: Terminal) -> String {
        let name = (records[row, "source_table"] ?? "").printable
        var lines = [
            "\(terminal.styled(name, .bold)): \(records[row, "method"] ?? ""), \(records[row, "reason"]?.printable ?? "")"
        ]
        let known = [
            records[row, "known_from"], records[row, "rights"].map { "rights: \($0)" },
            records[row, "remarks"],
        ]
        lines.append("  " + known.compactMap { $0?.printable }.joined(separator: "; "))
        if let copied = records[row, "copied_as"] {
            lines.append("  copied already: \(copied.printable)")
        }
        lines += needed(records, row).map { "  on the source: \($0)" }
        if let statement = records[row, "statement"] { lines.append("  \(statement)") }
        return lines.map { $0 + "\n" }.joined()
    }

    /// Statements for psql at the destination; what is for the source stands in comments.
    static func script(_ records: Records, _ source: String) -> String {
        var lines = ["-- Copies of \(source.printable), as roneo advise sees them."]
        for row in records.rows.indices {
            let name = (records[row, "source_table"] ?? "").printable
            lines += ["", "-- \(name): \(records[row, "reason"]?.printable ?? "")"]
            if let remarks = records[row, "remarks"] { lines.append("-- \(remarks.printable)") }
            if let copied = records[row, "copied_as"] {
                lines.append("-- copied already: \(copied.printable)")
            }
            lines += needed(records, row).map { "-- on the source: \($0)" }
            if let statement = records[row, "statement"] { lines.append(statement) }
        }
        return lines.map { $0 + "\n" }.joined()
    }

    private static func needed(_ records: Records, _ row: Int) -> [String] {
        (records[row, "needed"] ?? "").split(separator: "\n").map { String($0).printable }
    }

    private static func text(_ grid: TextGrid, _ terminal: Terminal) -> String {
        grid.lines(width: terminal.width) { terminal.styled($0, $1) }
            .map { $0 + "\n" }.joined()
    }

    private static func bytes(_ text: String?) -> String? {
        text.flatMap { Int64($0) }.map { Quantity.bytes($0) }
    }

    /// Nothing where there were none.
    private static func some(_ text: String?) -> String? {
        text.flatMap { Int64($0) }.flatMap { $0 == 0 ? nil : Quantity.count($0) }
    }

    private static func rate(_ text: String?) -> String? {
        text.flatMap { Double($0) }.map { $0 > 0 && $0 < 1 ? "<1" : Quantity.count(Int64($0)) }
    }

    private static func style(_ verdict: String, _ isProven: Bool) -> Style? {
        switch verdict {
        case "unchanged": isProven ? .green : nil
        case "grows", "new": .cyan
        default: .yellow
        }
    }
}
