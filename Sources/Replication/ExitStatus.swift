/// What the process says to cron when it ends.
public enum ExitStatus: Sendable, Equatable {
    /// Done, or nothing was due.
    case success
    /// At least one replica failed, or differs.
    case replicaFailed
    /// The command line was wrong.
    case usage
    /// The destination could not be reached.
    case unreachable
    /// Nothing was done, because others hold the locks or a source is away for a while.
    case tryLater
    /// The extension is missing, or of a version this program does not know.
    case configuration
    /// A signal ended it.
    case signal(Int32)

    /// That of a command which one failure ended.
    public init(of failure: Failure) {
        switch failure.kind {
        case .busy, .unavailable: self = .tryLater
        case .lost, .conflict, .permanent: self = .replicaFailed
        }
    }

    /// As sysexits(3) and shells number them.
    public var code: Int32 {
        switch self {
        case .success: 0
        case .replicaFailed: 1
        case .usage: 64
        case .unreachable: 69
        case .tryLater: 75
        case .configuration: 78
        case .signal(let number): 128 + number
        }
    }
}
