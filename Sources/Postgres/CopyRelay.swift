/// What a transfer moved.
public struct CopyTally: Equatable, Sendable {
    /// Rows that the source says it sent.
    public let sent: Int64
    /// Rows that the destination says it stored: fewer where a trigger swallows some.
    public let received: Int64
    /// Bytes on the way, the format's own included.
    public let bytes: Int64
}

/// A transfer that failed, and on which side.
public struct RelayError: Error, Equatable, Sendable {
    /// A side of a transfer.
    public enum Side: String, Sendable {
        case source
        case destination
    }
    /// Whose error it is.
    public let side: Side
    /// The error itself.
    public let error: PostgresError
}

/// Moves rows from one server to another by COPY, on one thread.
public enum CopyRelay {
    /// Copies, and waits for both ends.
    ///
    /// After an error both connections can be used again (for ROLLBACK) where their server lives.
    /// - Parameters:
    ///   - copyOut: `COPY … TO STDOUT …`
    ///   - copyIn: `COPY … FROM STDIN …`, of the same format.
    ///   - progress: called now and then with the rows and bytes so far.
    public static func copy(
        from source: Connection, _ copyOut: String, to destination: Connection, _ copyIn: String,
        progress: ((_ rows: Int64, _ bytes: Int64) -> Void)? = nil
    ) throws(RelayError) -> CopyTally { fatalError() }
}
