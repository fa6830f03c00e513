import Postgres

/// What a failed attempt calls for, told by its SQLSTATE and never by its message.
public enum FailureKind: Sendable, Equatable {
    /// Others hold a lock, or the source moved while it was read: try later, nothing is wrong.
    case busy
    /// A server is away, starting or full: try later.
    case unavailable
    /// A connection was lost in the middle of the work.
    case lost
    /// Two transactions got into each other's way: trying again at once is right.
    case conflict
    /// Someone has to mend something first.
    case permanent

    public init(sqlState: String) {
        switch sqlState {
        case SQLState.beingRefreshed, SQLState.sourceChanged, SQLState.busy,
            SQLState.lockNotAvailable, SQLState.sourcePaused, SQLState.sourceFull:
            self = .busy
        case SQLState.serializationFailure, SQLState.deadlockDetected:
            self = .conflict
        case SQLState.cannotConnect, SQLState.cannotConnectNow, SQLState.tooManyConnections,
            SQLState.sourceUnreachable:
            self = .unavailable
        case SQLState.adminShutdown, SQLState.crashShutdown:
            self = .lost
        default:
            self = sqlState.hasPrefix("08") ? .lost : .permanent
        }
    }
}
