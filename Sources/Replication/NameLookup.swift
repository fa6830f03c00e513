import Postgres

/// Names to choose from, for a shell that completes a command line: quick, or nothing at all.
public struct NameLookup: Sendable {
    /// What is looked for.
    public enum Kind: String, Sendable, CaseIterable {
        case replica, source, group, method
    }

    /// For the connection, and again for the answer: a key was pressed, and somebody waits.
    static let patience = Duration.seconds(1)

    private let destination: Destination

    public init(_ destination: Destination) {
        self.destination = destination
    }

    /// Names that begin with what has been typed; none where they cannot be had in time.
    public func names(_ kind: Kind, beginningWith prefix: String) -> [String] {
        guard
            let connection = try? destination.connect(
                applicationName: "roneo completion", cancel: nil, timeout: Self.patience)
        else { return [] }
        defer { connection.close() }
        // Who may see no more than the status completes from that.
        for table in ["roneo.source LEFT JOIN roneo.replica USING (source_id)", "roneo.status"] {
            let found = try? connection.execute(
                SQL(verbatim: Self.query(kind, from: table)), timeLimit: Self.patience)
            guard let found else { continue }
            for column in 0..<2 {
                let names = (0..<found.count).compactMap { found[$0, column] }
                    .filter { $0.hasPrefix(prefix) }
                if !names.isEmpty { return names }
            }
            return []
        }
        return []
    }

    /// In the first column the names as roneo writes them; in the second shorter ones that mean the
    /// same here, for who does not type the schema.
    private static func query(_ kind: Kind, from table: String) -> String {
        let column =
            switch kind {
            case .replica: "dest"
            case .source: "source_name"
            case .group: "refresh_group"
            case .method: "method"
            }
        let short = kind == .replica ? "to_regclass(dest)::text" : column
        return """
            SELECT DISTINCT \(column), \(short) FROM \(table) \
            WHERE \(column) IS NOT NULL ORDER BY 1
            """
    }
}
