import Postgres

/// Waits until something that happens elsewhere has happened; gives up after 30 s.
public func eventually(_ condition: () throws -> Bool) async throws -> Bool {
    for _ in 0..<1500 {
        if try condition() { return true }
        try await Task.sleep(for: .milliseconds(20))
    }
    return false
}

extension DatabasePair {
    /// Whether no backend but the asking one is left in either database.
    public func isDeserted() throws -> Bool {
        for connection in [try connectSource(), try connectDestination()] {
            let others = try connection.execute(
                """
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                """)
            if others.value != "0" { return false }
        }
        return true
    }
}
