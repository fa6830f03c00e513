import ArgumentParser
import Replication

struct Refresh: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Refresh replicas now, due or not.")

    @Argument(help: "Destination tables or views as SQL writes them, such as '\"Odd\".\"T.x\"'.")
    var dest: [String]

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @OptionGroup(title: "Sources") var sources: SourceOptions
    @OptionGroup(title: "Output") var output: OutputOptions

    @Option(name: .shortAndLong, help: "How many replicas to refresh at a time.")
    var jobs = 1
    @Flag(help: "Copy although nothing seems to have changed.")
    var force = false
    @Flag(help: "Drop what depends on a view that must be built anew.")
    var dropDependents = false

    func validate() throws {
        try JobCount.check(jobs, nil)
    }

    func run() async throws {
        var run = RefreshRun(destination: target.destination, selection: .named(dest))
        run.sourceConninfos = sources.conninfos
        run.options = RefreshOptions(dropDependents: dropDependents, force: force)
        run.jobs = jobs
        try await output.carryOut(run)
    }
}
