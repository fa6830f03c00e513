/// How bad something is, as Nagios and its like understand it.
public enum AlertLevel: String, Sendable, CaseIterable {
    case ok = "OK"
    case warning = "WARNING"
    case critical = "CRITICAL"
    /// Nobody can tell.
    case unknown = "UNKNOWN"

    /// What a plugin ends with.
    public var exitCode: Int32 {
        switch self {
        case .ok: 0
        case .warning: 1
        case .critical: 2
        case .unknown: 3
        }
    }

    /// The worst first, as the plugins' guidelines have it.
    public var rank: Int {
        switch self {
        case .critical: 0
        case .warning: 1
        case .unknown: 2
        case .ok: 3
        }
    }
}
