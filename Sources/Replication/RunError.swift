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
        if error.origin == .connecting || error.isConnectionFailure {
            self.init(.unreachable, Failure(error, during: "connecting to the destination"))
        } else {
            self.init(.configuration, Failure(destination: error))
        }
    }
}
