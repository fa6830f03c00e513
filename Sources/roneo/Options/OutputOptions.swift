import ArgumentParser
import Logging
import Replication

/// What a command that refreshes says, and how.
struct OutputOptions: ParsableArguments {
    @Flag(help: "Print the report as JSON.")
    var json = false
    @Flag(name: .shortAndLong, help: "Print the summary also where there is no terminal.")
    var verbose = false
    @Option(
        help: ArgumentHelp(
            "Write log lines of this level and above to stderr: "
                + "trace, debug, info, notice, warning, error, critical.",
            valueName: "level"))
    var logLevel: Logger.Level?
    @Option(help: "Write log lines as text (key=value) or json.")
    var logFormat: LineLogHandler.Format?

    /// Whether what happens is written as log lines; then no progress is drawn between them.
    var logs: Bool { logLevel != nil || logFormat != nil }

    /// A logger for all of it, every line with the run's id.
    func logger() -> Logger {
        var logger = Logger(label: "roneo") { _ in
            LineLogHandler(format: logFormat ?? .text, logLevel: logLevel ?? .info)
        }
        logger[metadataKey: "run"] = "\(RunnerIdentity.current.runId)"
        return logger
    }
}

extension Logger.Level: @retroactive ExpressibleByArgument {}
extension LineLogHandler.Format: ExpressibleByArgument {}

/// A length of time: `90`, `90s`, `15min`, `1h30min`.
struct TimeSpan: ExpressibleByArgument, Equatable {
    let duration: Duration

    init?(argument: String) {
        var rest = Substring(argument)
        var seconds: Int64 = 0
        repeat {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            guard let number = Int64(digits), number < 1 << 31 else { return nil }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { $0.isLetter }
            rest = rest.dropFirst(unit.count)
            switch unit {
            case "", "s", "sec": seconds += number
            case "m", "min": seconds += number * 60
            case "h": seconds += number * 3_600
            case "d": seconds += number * 86_400
            default: return nil
            }
        } while !rest.isEmpty
        duration = .seconds(seconds)
    }
}
