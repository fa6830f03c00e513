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
        for query in [Self.query(kind), Self.statusQuery(kind)] {
            let found = try? connection.execute(
                SQL(verbatim: query), timeLimit: Self.patience)
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
    private static func query(_ kind: Kind) -> String {
        switch kind {
        case .replica:
            """
            SELECT format('%I.%I', coalesce(n.nspname, r.dest_schema), \
            coalesce(c.relname, r.dest_name)), r.dest::text FROM roneo.replica AS r \
            LEFT JOIN pg_class AS c ON c.oid = r.dest \
            LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace ORDER BY 1
            """
        case .source:
            "SELECT source_name, source_name FROM roneo.source ORDER BY 1"
        case .group:
            """
            SELECT DISTINCT refresh_group, refresh_group FROM roneo.replica \
            WHERE refresh_group IS NOT NULL ORDER BY 1
            """
        case .method:
            "SELECT DISTINCT method, method FROM roneo.replica ORDER BY 1"
        }
    }

    private static func statusQuery(_ kind: Kind) -> String {
        switch kind {
        case .replica: "SELECT dest, to_regclass(dest)::text FROM roneo.status ORDER BY 1"
        case .source: "SELECT DISTINCT source_name, source_name FROM roneo.status ORDER BY 1"
        case .method: "SELECT DISTINCT method, method FROM roneo.status ORDER BY 1"
        // The status does not tell.
        case .group: "SELECT NULL, NULL WHERE false"
        }
    }
}
