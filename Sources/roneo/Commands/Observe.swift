import ArgumentParser
import Replication

struct Observe: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look at a source's tables, so that their changes can be told.",
        usage: "roneo observe [<options>] <source>",
        discussion: """
            Counters, files, sizes and highest values are kept at the destination; a table that is \
            as it was costs nothing but the time of the look. "roneo changes" and "roneo advise" \
            tell what it amounts to.

              */10 * * * *  roneo observe shop -d warehouse              cron's line
              roneo observe shop -d warehouse --every 10min --for 7d     stay that long

            Exit status: 0 looked at, also where values could not be read; 1 no such source, or no \
            right to look; 75 the source is away. With --every it waits for what is away.
            """)

    @Argument(help: "The source.", completion: .sources)
    var source: String

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @OptionGroup(title: "Sources") var sources: SourceOptions

    @Option(name: .customLong("schema"), help: "Only this schema; repeatable.")
    var schemas: [String] = []
    @Option(help: "Up to how many megabytes a table that has changed is read.")
    var scanMb = 64
    @Option(help: "How long each of two queries may take; 0: as long as it takes.")
    var timeLimit = TimeSpan(argument: "30s")!
    @Option(help: "How many days looks are kept.")
    var keepDays = 90
    @Option(help: "Look again and again, after this time.")
    var every: TimeSpan?
    @Option(name: .customLong("for"), help: "With --every: how long.")
    var total: TimeSpan?
    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        guard (0...1_000_000).contains(scanMb) else {
            throw ValidationError("--scan-mb must be from 0 to 1000000.")
        }
        guard (1...36_500).contains(keepDays) else {
            throw ValidationError("--keep-days must be from 1 to 36500.")
        }
        guard every.map({ $0.duration > .zero }) ?? true else {
            throw ValidationError("--every must be more than nothing.")
        }
        guard total == nil || every != nil else {
            throw ValidationError("--for goes with --every.")
        }
    }

    func run() async throws {
        var inspection = Inspection(
            destination: target.destination, cancel: try Interruption.cancelToken())
        inspection.sourceConninfos = sources.conninfos
        var request = ObservationRequest(source: source)
        request.schemas = schemas.isEmpty ? nil : schemas
        request.scanMegabytes = scanMb
        request.timeLimit = timeLimit.duration / .seconds(1)
        request.keepDays = keepDays
        let began = ContinuousClock.now
        while true {
            try await look(inspection, request)
            guard let every else { return }
            if let total, ContinuousClock.now + every.duration > began + total.duration { return }
            guard try await inspection.wait(every.duration) else {
                throw ExitCode((Interruption.signal.map { ExitStatus.signal($0) } ?? .success).code)
            }
        }
    }

    /// Who stays is not sent away by a source or destination that is not there for a while.
    private func look(_ inspection: Inspection, _ request: ObservationRequest) async throws {
        do {
            let seen = try await inspection.observe(request)
            if json {
                Terminal.output.line(seen[0, "json"] ?? "")
            } else if Terminal.output.isTerminal {
                Terminal.output.line(AnalysisText.look(seen, source))
            }
            if let problem = seen[0, "problem"], !json {
                Terminal.error.line(
                    "roneo: values of \(source.printable) were not read: \(problem.printable)")
            }
        } catch {
            let end = EarlyEnd(error)
            end.tell()
            guard every != nil, Interruption.signal == nil,
                [.tryLater, .unreachable].contains(end.status)
            else { throw end.exitCode }
        }
    }
}
