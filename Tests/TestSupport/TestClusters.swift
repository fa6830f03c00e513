@_exported import LocalCluster
import Postgres
import Synchronization

/// The two clusters that all tests of one process share, made when first asked for and removed at
/// the end of the process.
public enum TestClusters {
    /// Where tables are copied from.
    public static let source = make("source")
    /// Where they are copied to.
    public static let destination = make("dest")

    private static func make(_ name: String) -> ThrowawayCluster {
        do {
            return try ThrowawayCluster(
                name: name,
                settings: [
                    "wal_level": "logical", "max_prepared_transactions": "10",
                    "track_commit_timestamp": "on",
                    // All tests of a process run at a time, the slower the machine the more.
                    "max_connections": "300",
                ])
        } catch {
            fatalError("no cluster for the tests: \(error)")
        }
    }
}

/// A database on each side, for one test.
public struct DatabasePair: Sendable {
    /// The name of both databases.
    public let name: String
    /// libpq's connection string of the source's database, as superuser.
    public let source: String
    /// libpq's connection string of the destination's database, as superuser.
    public let destination: String

    private static let serial = Atomic<Int>(0)

    /// Makes two databases of a new name.
    /// - Parameter template: the databases to copy, which nobody may be connected to; else empty.
    public init(template: String? = nil) throws {
        let serial = Self.serial.add(1, ordering: .relaxed).newValue
        name = "test_\(serial)"
        for cluster in [TestClusters.source, TestClusters.destination] {
            try cluster.createDatabase(name, template: template)
        }
        source = TestClusters.source.conninfo(database: name)
        destination = TestClusters.destination.conninfo(database: name)
    }

    /// A connection to the source's database.
    public func connectSource(cancel: CancelToken? = nil) throws -> Connection {
        try Connection(conninfo: source, applicationName: "test \(name) source", cancel: cancel)
    }

    /// A connection to the destination's database.
    public func connectDestination(cancel: CancelToken? = nil) throws -> Connection {
        try Connection(
            conninfo: destination, applicationName: "test \(name) dest",
            options: ["options": "-c client_min_messages=error"], cancel: cancel)
    }
}
