import Postgres

/// Why nothing could be done at all.
public struct RunError: Error, Sendable, Equatable {
    public let status: ExitStatus
    public let failure: Failure

    public init(_ status: ExitStatus, _ failure: Failure) {
        self.status = status
        self.failure = failure
    }

    /// An error of the destination outside of any replica's refresh.
    init(destination error: PostgresError) {
        if error.origin == .timeLimit {
            let failure = Failure(
                sqlState: SQLState.connectionFailure,
                message: "the destination does not answer: \(error.message)")
            self.init(.unreachable, failure)
        } else if error.origin == .connecting || error.isConnectionFailure {
            self.init(.unreachable, Failure(error, during: "connecting to the destination"))
        } else {
            self.init(.configuration, Failure(destination: error))
        }
    }

    /// Whatever ended something that is no replica's.
    init(any error: any Error) {
        switch error {
        case let error as RunError: self = error
        case let error as PostgresError: self.init(destination: error)
        default: self.init(.replicaFailed, Failure(any: error, during: nil))
        }
    }

    /// For one who waits for a primary.
    static let standby = RunError(
        .tryLater,
        Failure(
            sqlState: SQLState.readOnlyTransaction, message: "the destination is a standby",
            hint: "Nothing is refreshed until it is promoted."))
}
