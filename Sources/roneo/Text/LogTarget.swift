import ArgumentParser
import Logging

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Where log lines go.
enum LogTarget: Equatable, Sendable, ExpressibleByArgument {
    case stderr
    /// By syslog(3), under the name roneo, with a facility's number.
    case syslog(facility: Int32)

    /// As `syslog.conf` calls them, with their numbers: part of the protocol (RFC 5424).
    private static let facilities: [String: Int32] = {
        let named: [String: Int32] = [
            "user": 1, "mail": 2, "daemon": 3, "auth": 4, "lpr": 6, "news": 7, "uucp": 8,
            "cron": 9, "authpriv": 10,
        ]
        let local = (Int32(0)...7).map { ("local\($0)", 16 + $0) }
        return named.merging(local) { first, _ in first }
    }()

    init?(argument: String) {
        let parts = argument.split(separator: ":", omittingEmptySubsequences: false).map(
            String.init)
        switch (parts[0], parts.count) {
        case ("stderr", 1): self = .stderr
        case ("syslog", 1), ("syslog", 2):
            guard let number = Self.facilities[parts.count == 2 ? parts[1] : "daemon"] else {
                return nil
            }
            self = .syslog(facility: number)
        default: return nil
        }
    }

    /// Writes a line.
    func write(_ line: String, _ level: Logger.Level) {
        guard case .syslog(let facility) = self else { return Terminal.error.line(line) }
        _ = Self.opened
        line.withCString { text in
            // The line is an argument and never the format: a percent sign in it is just that.
            withVaList([OpaquePointer(text)]) {
                vsyslog(facility << 3 | Self.severity(level), "%s", $0)
            }
        }
    }

    private static func severity(_ level: Logger.Level) -> Int32 {
        switch level {
        case .trace, .debug: LOG_DEBUG
        case .info: LOG_INFO
        case .notice: LOG_NOTICE
        case .warning: LOG_WARNING
        case .error: LOG_ERR
        case .critical: LOG_CRIT
        }
    }

    /// syslog keeps the pointer to the name.
    private static let opened: Void = openlog(strdup("roneo"), LOG_PID, 3 << 3)
}
