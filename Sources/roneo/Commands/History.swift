import ArgumentParser
import Replication

struct History: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the latest runs, newest first.",
        usage: "roneo history [<options>] [<dest>]",
        discussion: """
            A run is one attempt to refresh one replica, whoever made it. A replica that is idle \
            leaves none. The same is the table roneo.run.

              roneo history -d wh app.orders
              roneo history -d wh --limit 100 --json
            """)

    @Argument(help: "Only those of this destination table or view.", completion: .replicas)
    var dest: String?

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @Option(name: .shortAndLong, help: ArgumentHelp("How many runs.", valueName: "count"))
    var limit = 20
    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        guard limit >= 1 else { throw ValidationError("--limit must be at least 1.") }
    }

    func run() async throws {
        let inspection = Inspection(
            destination: target.destination, cancel: try Interruption.cancelToken())
        let records = try await reported { try await inspection.history(dest, limit: limit) }
        if json {
            Terminal.output.line(RecordText.json(records))
        } else {
            Terminal.output.write(RecordText.history(records, Terminal.output))
        }
    }
}
