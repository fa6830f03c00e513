import ArgumentParser
import Replication

struct Advise: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say by which method each table of a source is best copied, and why.",
        usage: "roneo advise [<options>] <source>",
        discussion: """
            From keys, columns, indexes, triggers and rights, from what the source counts, and from \
            what "roneo observe" has seen of it. It changes nothing; --sql prints the statements \
            that register the replicas, to be looked through and run.

              roneo advise shop -d warehouse --schema app --sql >replicas.sql

            Exit status: 0; 1 no such source, or no right to look; 75 the source is away.
            """)

    @Argument(help: "The source.", completion: .sources)
    var source: String

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @OptionGroup(title: "Sources") var sources: SourceOptions

    @Option(name: .customLong("schema"), help: "Only this schema; repeatable.")
    var schemas: [String] = []
    @Option(help: "How fresh copies are to be.")
    var refreshEvery = TimeSpan(argument: "10min")!
    @Option(help: "Up to how many megabytes a table is copied whole.")
    var smallMb = 100
    @Flag(help: "Deleted rows are to stay at the destination.")
    var keepDeleted = false
    @Flag(help: "Tables that are copied whole are to be tables, and no views.")
    var asTables = false
    @Flag(help: "Print statements.")
    var sql = false
    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        guard !sql || !json else { throw ValidationError("Either --sql or --json.") }
        guard refreshEvery.duration > .zero else {
            throw ValidationError("--refresh-every must be more than nothing.")
        }
        guard (0...1_000_000_000).contains(smallMb) else {
            throw ValidationError("--small-mb must be from 0 on.")
        }
    }

    func run() async throws {
        var inspection = Inspection(
            destination: target.destination, cancel: try Interruption.cancelToken())
        inspection.sourceConninfos = sources.conninfos
        var request = AdviceRequest(source: source)
        request.schemas = schemas.isEmpty ? nil : schemas
        request.refreshEvery = refreshEvery.duration / .seconds(1)
        request.smallMegabytes = smallMb
        request.keepDeleted = keepDeleted
        request.asTables = asTables
        let records = try await reported { [inspection, request] in
            try await inspection.advice(request)
        }
        if json {
            Terminal.output.line(RecordText.json(records))
        } else if sql {
            Terminal.output.write(AnalysisText.script(records, source))
        } else {
            Terminal.output.write(AnalysisText.advice(records, source, Terminal.output))
        }
    }
}
