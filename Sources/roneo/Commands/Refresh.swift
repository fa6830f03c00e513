import ArgumentParser
import Replication

struct Refresh: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Refresh replicas now, due or not.",
        usage: "roneo refresh [<options>] <dest> ...",
        discussion: """
              roneo refresh -d wh app.orders '"Odd"."T.x"'
              roneo refresh -d wh app.orders --force             although unchanged
              roneo refresh -d wh app.orders --sweep             late rows, anywhere
              roneo refresh -d wh app.orders --repull --from 2026-01-01

            Those of a refresh group come together, whichever of them is named. What "roneo plan" \
            prints is what this does.

            Exit status: 0 all are fresh; 1 one failed, or is no replica; 75 nothing done, others \
            hold the locks or the source is away.
            """)

    @Argument(
        help: "Destination tables or views as SQL writes them, such as '\"Odd\".\"T.x\"'.",
        completion: .replicas)
    var dest: [String]

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @OptionGroup(title: "Sources") var sources: SourceOptions
    @OptionGroup(title: "Limits") var limits: LimitOptions
    @OptionGroup(title: "Output") var output: OutputOptions

    @Option(name: .shortAndLong, help: "How many replicas to refresh at a time.")
    var jobs = 1
    @Flag(help: "Copy although nothing seems to have changed.")
    var force = false
    @Flag(help: "Drop what depends on a view that must be built anew.")
    var dropDependents = false

    @Flag(help: "Look for late rows in the whole table (inserters and updaters).")
    var sweep = false
    @Flag(help: "Pull everything again, or a range (inserters and updaters).")
    var repull = false
    @Option(
        help: ArgumentHelp(
            "With --repull: the first control value of the range.", valueName: "value"))
    var from: String?
    @Option(
        help: ArgumentHelp(
            "With --repull: the first control value behind the range.", valueName: "value"))
    var to: String?

    func validate() throws {
        try JobCount.check(jobs, nil)
        guard repull || (from == nil && to == nil) else {
            throw ValidationError("--from and --to go with --repull.")
        }
    }

    func run() async throws {
        var run = RefreshRun(destination: target.destination, selection: .named(dest))
        run.sourceConninfos = sources.conninfos
        run.options = RefreshOptions(
            dropDependents: dropDependents, force: force, sweep: sweep,
            repull: repull ? .init(from: from, to: to) : nil)
        run.jobs = jobs
        limits.apply(to: &run)
        try await output.carryOut(run)
    }
}
