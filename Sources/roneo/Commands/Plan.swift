import ArgumentParser
import Replication

struct Plan: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print what a refresh would do now, and change nothing.",
        usage: "roneo plan [<options>] <dest> ...",
        discussion: """
            It asks the source as a refresh does, prints each step with its SQL, and rolls back.

              roneo plan -d wh app.orders
              roneo plan -d wh app.orders --force     although nothing has changed

            Exit status: 0, also where nothing would be done; 1 no such replica, or no plan; 75 \
            it is being refreshed right now, or the source is away.
            """)

    @Argument(help: "Destination tables or views, as SQL writes them.", completion: .replicas)
    var dest: [String]

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @OptionGroup(title: "Sources") var sources: SourceOptions

    @Flag(help: "Print JSON.")
    var json = false
    @Flag(help: "Plan a copy although nothing seems to have changed.")
    var force = false
    @Flag(help: "Plan to drop what depends on a view that must be built anew.")
    var dropDependents = false

    func run() async throws {
        var inspection = Inspection(
            destination: target.destination, cancel: try Interruption.cancelToken())
        inspection.sourceConninfos = sources.conninfos
        let options = RefreshOptions(dropDependents: dropDependents, force: force)
        let plans = try await reported { try await inspection.plans(dest, options: options) }
        if json {
            Terminal.output.line(JSON.array(plans.map(\.json)).description)
        } else {
            Terminal.output.write(PlanText.text(plans, Terminal.output))
        }
    }
}
