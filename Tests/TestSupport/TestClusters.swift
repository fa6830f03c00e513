@_exported import LocalCluster
import Postgres

/// The two clusters that all tests of one process share, made when first asked for.
public enum TestClusters {
    /// Where tables are copied from.
    public static let source: ThrowawayCluster = make("source")
    /// Where they are copied to.
    public static let destination: ThrowawayCluster = make("dest")

    private static func make(_ name: String) -> ThrowawayCluster {
        do { return try ThrowawayCluster(name: name) } catch { fatalError("\(error)") }
    }
}

/// A database on each side, for one test.
public struct DatabasePair: Sendable {
    /// libpq's connection string of the source's database, as superuser.
    public let source: String
    /// libpq's connection string of the destination's database, as superuser.
    public let destination: String
    /// The name of both databases.
    public let name: String

    /// Makes two empty databases of a new name, or copies of the templates.
    public init(template: String? = nil) throws { fatalError() }

    /// A connection to the source's database.
    public func connectSource(cancel: CancelToken? = nil) throws -> Connection { fatalError() }
    /// A connection to the destination's database.
    public func connectDestination(cancel: CancelToken? = nil) throws -> Connection { fatalError() }
}
