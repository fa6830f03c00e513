import CLibPQ

/// One connection to a server, used by one thread from its beginning to its end.
///
/// Deliberately not Sendable. Every wait is one poll() over the socket and the cancel pipe.
public final class Connection {
    /// Where a connection is with its transaction.
    public enum TransactionStatus: Sendable {
        /// Outside of a transaction.
        case idle
        /// A statement is running.
        case active
        /// In a transaction.
        case inTransaction
        /// In a transaction that can only be rolled back.
        case inFailedTransaction
        /// The connection is lost.
        case unknown
    }

    /// Connects.
    ///
    /// - Parameters:
    ///   - conninfo: keywords and values, a URI or a database's name, as libpq takes them; the
    ///     environment, services and the password file are honoured.
    ///   - applicationName: what `pg_stat_activity` shows.
    ///   - options: further libpq keywords (`keepalives_idle`, `options`, …), stronger than
    ///     those of `conninfo`.
    ///   - cancel: ends every wait of this connection when fired.
    ///   - connectTimeout: for all hosts together; without it, `connect_timeout` of the conninfo
    ///     for each host, and none by default.
    ///   - onNotice: gets the server's notices, which are dropped otherwise.
    public init(
        conninfo: String, applicationName: String, options: [String: String] = [:],
        cancel: CancelToken? = nil, connectTimeout: Duration? = nil,
        onNotice: ((PostgresError) -> Void)? = nil
    ) throws(PostgresError) { fatalError() }

    /// Runs a statement and waits for its end.
    ///
    /// Without parameters several statements are allowed (then they are one transaction, unless
    /// they say otherwise); the last result is returned, and the first error is thrown.
    /// - Parameter timeLimit: cancels the statement and throws when it is over.
    @discardableResult
    public func execute(_ sql: SQL, timeLimit: Duration? = nil) throws(PostgresError) -> QueryResult
    {
        fatalError()
    }

    /// The server's version as a number: 150018.
    public var serverVersion: Int { fatalError() }
    /// The process that serves this connection.
    public var backendPID: Int32 { fatalError() }
    /// A setting that the server reports by itself, such as `server_encoding`.
    public func parameterStatus(_ name: String) -> String? { fatalError() }
    /// Where the connection is with its transaction.
    public var transactionStatus: TransactionStatus { fatalError() }
    /// Whether the connection still works, as far as is known here.
    public var isOpen: Bool { fatalError() }
    /// The token given at the start.
    public var cancelToken: CancelToken? { fatalError() }
    /// Ends the connection; safe to call again.
    public func close() { fatalError() }
}
