import ArgumentParser
import Replication

struct Changes: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Tell what became of a source's tables while they were observed.",
        usage: "roneo changes [<options>] <source>",
        discussion: """
            Which never changed, which only grow and by which column, which are updated, deleted \
            from, truncated or rewritten. A question mark stands behind what is not proven: a \
            crash, a reset of the counters, or another server in between, or one look only; the \
            remark says why.

              roneo changes shop -d warehouse --since 7d

            Exit status: 0, also where nothing was observed; 1 no such source.
            """)

    @Argument(
        help: "The source, which \"roneo observe\" has looked at.", completion: .sources)
    var source: String

    @OptionGroup(title: "Destination") var target: DestinationOptions

    @Option(name: .customLong("schema"), help: "Only this schema; repeatable.")
    var schemas: [String] = []
    @Option(help: "Looks from this time on: 7d, or a time as SQL writes it.")
    var since: TimePoint?
    @Option(help: "Looks up to this time.")
    var until: TimePoint?
    @Flag(help: "Each partition by itself.")
    var partitions = false
    @Flag(help: "Print JSON.")
    var json = false

    func run() async throws {
        let inspection = Inspection(
            destination: target.destination, cancel: try Interruption.cancelToken())
        let records = try await reported {
            try await inspection.changes(
                source, schemas: schemas.isEmpty ? nil : schemas, since: since, until: until,
                byPartition: partitions)
        }
        if json {
            Terminal.output.line(RecordText.json(records))
        } else {
            Terminal.output.write(AnalysisText.changes(records, source, Terminal.output))
        }
    }
}

extension TimePoint: ExpressibleByArgument {
    public init?(argument: String) {
        if let span = TimeSpan(argument: argument) {
            self.init(secondsAgo: span.duration / .seconds(1))
        } else if !argument.isEmpty {
            self.init(argument)
        } else {
            return nil
        }
    }
}
