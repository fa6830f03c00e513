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
            "Write log lines of this level and above; debug tells phases and steps.",
            valueName: "level"))
    var logLevel: Logger.Level?
    @Option(
        help: ArgumentHelp(
            "Write log lines as text (key=value) or json.", valueName: "format"))
    var logFormat: LineLogHandler.Format?
    @Option(
        help: ArgumentHelp(
            "Write log lines to stderr, or to syslog, syslog:daemon, syslog:local0 … "
                + "(journald reads that too).",
            valueName: "target"),
        completion: .list(["stderr", "syslog"]))
    var logTo: LogTarget?

    /// Whether what happens is written as log lines.
    var logs: Bool { logLevel != nil || logFormat != nil || logTo != nil }

    /// Whether it is on stderr; then no progress is drawn between the lines.
    var logsOnStderr: Bool { logs && (logTo ?? .stderr) == .stderr }

    /// A logger for all of it, every line with the run's id.
    func logger() -> Logger {
        var logger = Logger(label: "roneo") { _ in
            LineLogHandler(
                format: logFormat ?? .text, target: logTo ?? .stderr, logLevel: logLevel ?? .info)
        }
        logger[metadataKey: "run"] = "\(RunnerIdentity.current.runId)"
        return logger
    }
}

extension Logger.Level: @retroactive ExpressibleByArgument {}
extension LineLogHandler.Format: ExpressibleByArgument {}
