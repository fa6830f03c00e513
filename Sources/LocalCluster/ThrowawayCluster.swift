/// What keeps a throw-away cluster from being made or changed.
public struct ClusterError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What is wrong, and where that helps, what to install.
    public let description: String
}

/// A PostgreSQL cluster for a demonstration or a test, gone when it is no longer used.
///
/// It listens on a Unix socket of its own and nowhere else, takes everyone at their word, and
/// does not care for its data (`fsync = off`).
public final class ThrowawayCluster: @unchecked Sendable {
    /// Makes a cluster and starts it.
    ///
    /// - Parameters:
    ///   - name: part of the directory's name.
    ///   - settings: further lines of postgresql.conf, such as `["wal_level": "logical"]`.
    public init(name: String = "cluster", settings: [String: String] = [:]) throws(ClusterError) {
        fatalError()
    }
    /// Everything of this cluster, the socket included.
    public var directory: String { fatalError() }
    /// The folder of the server's programs.
    public var binaries: String { fatalError() }
    public var port: Int { fatalError() }
    public var superuser: String { fatalError() }
    /// The server's major version, such as 15.
    public var majorVersion: Int { fatalError() }
    public var isRunning: Bool { fatalError() }
    public func start() throws(ClusterError) { fatalError() }
    /// Stops it properly; the data stays for another `start`.
    public func stop() throws(ClusterError) { fatalError() }
    public func restart() throws(ClusterError) { fatalError() }
    /// Stops it as a crash would: the next start recovers.
    public func crash() throws(ClusterError) { fatalError() }
    public func promote() throws(ClusterError) { fatalError() }
    /// A streaming standby of this cluster, started.
    public func standby(settings: [String: String] = [:]) throws(ClusterError) -> ThrowawayCluster
    { fatalError() }
    public func createDatabase(_ name: String, template: String? = nil) throws(ClusterError) {
        fatalError()
    }
    public func dropDatabase(_ name: String) throws(ClusterError) { fatalError() }
    /// Runs SQL through psql; returns what it prints, unaligned, without headers.
    @discardableResult
    public func psql(_ sql: String, database: String = "postgres") throws(ClusterError) -> String {
        fatalError()
    }
    /// How to connect, for libpq.
    public func conninfo(database: String = "postgres", user: String? = nil) -> String {
        fatalError()
    }
    /// Stops it and removes every trace; safe to call again. Done at the latest at deinit or
    /// the normal end of the process.
    public func remove() { fatalError() }
}
