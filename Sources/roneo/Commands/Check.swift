import ArgumentParser
import Replication

struct Check: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say whether all is well, as a plugin of Nagios does.",
        usage: "roneo check [<options>] [<dest> ...]",
        discussion: """
            One line, with performance data behind a bar; then what was found, with what to do \
            about it. Lateness is computed from the last success, so a runner that never ran is \
            noticed too: this is what to let a monitoring system call, not the mail of cron.

              roneo check -d wh                  all replicas
              roneo check -d wh app.orders       one, with its age as a number
              roneo check -d wh --critical 2     CRITICAL two intervals after it was due
              roneo check -d wh --columns        also columns that have drifted apart

            Failures in a row, sizes and delays that are borne are settings: SELECT * FROM \
            roneo.settings.

            Exit status: 0 OK, also on a standby; 1 WARNING; 2 CRITICAL; 3 UNKNOWN: the \
            destination cannot be reached, nothing is there to look at, or the command line is \
            wrong.
            """)

    @Argument(
        help: "Destination tables or views, as SQL writes them; all of them otherwise.",
        completion: .replicas)
    var dest: [String] = []

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @OptionGroup(title: "Sources") var sources: SourceOptions

    @Option(
        name: .customLong("source"), help: "Only replicas of this source; repeatable.",
        completion: .sources)
    var onlySources: [String] = []
    @Option(
        help: ArgumentHelp(
            "WARNING when later than this many times its interval; else late_warning_pct.",
            valueName: "times"))
    var warning: Double?
    @Option(
        help: ArgumentHelp(
            "CRITICAL when later than this many times its interval; else late_critical_pct.",
            valueName: "times"))
    var critical: Double?
    @Flag(help: "Ask the sources for columns that have drifted apart.")
    var columns = false
    @Flag(help: "Ask the sources for tables that no replica copies.")
    var missingTables = false
    @Option(
        help: ArgumentHelp(
            "UNKNOWN when there is no answer after this time, such as 10s.", valueName: "time"))
    var timeout = TimeSpan(argument: "30s")!
    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        for (name, value) in [("--warning", warning), ("--critical", critical)] {
            guard value.map({ $0 >= 0 && $0.isFinite }) ?? true else {
                throw ValidationError("\(name) must be a number from 0 on.")
            }
        }
        if let warning, let critical, warning > critical {
            throw ValidationError("--warning must not be greater than --critical.")
        }
        guard timeout.duration > .zero else {
            throw ValidationError("--timeout must be more than nothing.")
        }
    }

    func run() async throws {
        let token = try Interruption.cancelToken()
        var inspection = Inspection(destination: target.destination, cancel: token)
        inspection.sourceConninfos = sources.conninfos
        var check = HealthCheck(inspection)
        check.sources = onlySources.isEmpty ? nil : onlySources
        check.dests = dest.isEmpty ? nil : dest
        check.lateWarning = warning
        check.lateCritical = critical
        check.withColumns = columns
        check.withMissingTables = missingTables

        let clock = Task.detached {
            try await Task.sleep(for: timeout.duration)
            tell(HealthReport(unknown: "no answer within \(Quantity.seconds(timeout.duration))"))
            Self.exit(withError: ExitCode(AlertLevel.unknown.exitCode))
        }
        let report: HealthReport
        do {
            report = try await check()
        } catch {
            let end = EarlyEnd(error)
            if Interruption.signal != nil { throw end.exitCode }
            let words = [end.failure.message, end.failure.detail].compactMap { $0 }
            report = HealthReport(
                unknown: words.joined(separator: ": "), advice: end.failure.hint)
        }
        clock.cancel()
        tell(report)
        throw ExitCode(report.level.exitCode)
    }

    private func tell(_ report: HealthReport) {
        if json {
            Terminal.output.line(PluginText.json(report).description)
        } else {
            Terminal.output.write(PluginText.text(report, named: dest))
        }
    }

    /// A command line that makes no sense is UNKNOWN to who reads exit statuses as a plugin's, and
    /// not 64.
    static func tellUnknown(_ message: String) {
        Terminal.output.write(
            PluginText.text(HealthReport(unknown: message.withoutSecrets), named: []))
    }
}
