import ArgumentParser
import Replication

/// What verify and repair have in common.
struct ComparisonOptions: ParsableArguments {
    @Option(help: "Look only at rows from this value of the control column or key on.")
    var from: String?
    @Option(help: "Look only at rows below this value of the control column or key.")
    var to: String?
    @Option(help: "How many differences to name.")
    var show = 20
    @Flag(help: "Name the values that differ too, and not only the columns.")
    var showValues = false
    @Flag(
        inversion: .prefixedNo,
        help: ArgumentHelp(
            "Rows that the source has no more are a difference. By default for every method but "
                + "inserter, which keeps them."))
    var deletes: Bool?

    func validate() throws {
        guard (0...10_000).contains(show) else {
            throw ValidationError("--show must be from 0 to 10000.")
        }
    }

    var options: VerificationOptions {
        var options = VerificationOptions()
        options.from = from
        options.to = to
        options.show = show
        options.showsValues = showValues
        options.deletes = deletes
        return options
    }
}

struct Verify: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compare replicas with their sources, row by row, and list what differs.",
        usage: "roneo verify [<options>] [<dest> ...]",
        discussion: """
            Each replica is refreshed first, and compared in the snapshot of its source that the \
            refresh read: so nothing that changes meanwhile is taken for a difference. Only hashes \
            travel, and the keys of what differs.

              roneo verify -d wh                                all of them
              roneo verify -d wh app.orders --from 2026-01-01   a part of one
              roneo verify -d wh --due --max-runtime 1h         cron's line, at night
              roneo verify -d wh --due --jobs 4 --per-source 2  several at a time

            One that fails is told by check and history, and counts as no refresh that failed.

            Exit status: 0 all are equal, or nothing is due; 1 one differs, failed, or cannot be \
            compared; 75 nothing done, others hold the locks or a source is away.
            """)

    @Argument(
        help: "Destination tables or views, as SQL writes them; all without one.",
        completion: .replicas)
    var dest: [String] = []

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @OptionGroup(title: "Sources") var sources: SourceOptions
    @OptionGroup(title: "Comparison") var comparison: ComparisonOptions
    @OptionGroup(title: "Output") var output: OutputOptions

    @Option(name: .shortAndLong, help: "How many replicas to compare at a time.")
    var jobs = 1
    @Option(help: ArgumentHelp("How many of them may read from one source.", valueName: "jobs"))
    var perSource: Int?
    @Flag(
        help: ArgumentHelp(
            "Compare what is due by roneo.set_verification, large replicas in slices, the one "
                + "that was looked at longest ago first."))
    var due = false
    @Option(help: "Begin nothing more after this time, such as 10min.")
    var maxRuntime: TimeSpan?

    func validate() throws {
        try JobCount.check(jobs, perSource)
        guard !due || (dest.isEmpty && comparison.from == nil && comparison.to == nil)
        else { throw ValidationError("--due takes no DEST, --from or --to.") }
    }

    func run() async throws {
        var run = RefreshRun(
            destination: target.destination,
            selection: due ? .dueVerifications : dest.isEmpty ? .all : .named(dest))
        run.sourceConninfos = sources.conninfos
        run.options.verification = comparison.options
        run.jobs = jobs
        run.perSource = perSource ?? .max
        run.maxRuntime = maxRuntime?.duration
        try await output.carryOut(run)
    }
}

struct Repair: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Bring the rows that differ from their source in line; without --apply only say which.",
        usage: "roneo repair [<options>] <dest> ...",
        discussion: """
            Does what verify does, and then inserts, updates and removes exactly the rows that \
            differ, in the same transaction. It removes nothing where that would be more than \
            --most-deleted percent of the rows.

              roneo repair -d wh app.orders             what would be done
              roneo repair -d wh app.orders --apply     that

            Exit status: 0 all are equal now; 1 one differs still, failed, or is no replica; 75 \
            nothing done, others hold the locks or a source is away.
            """)

    @Argument(help: "Destination tables or views, as SQL writes them.", completion: .replicas)
    var dest: [String]

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @OptionGroup(title: "Sources") var sources: SourceOptions
    @OptionGroup(title: "Comparison") var comparison: ComparisonOptions
    @OptionGroup(title: "Output") var output: OutputOptions

    @Flag(help: "Do it, and do not only say what would be done.")
    var apply = false
    @Option(
        help: ArgumentHelp("How many percent of the rows may be removed.", valueName: "percent"))
    var mostDeleted: Double = 10

    func validate() throws {
        guard (0...100).contains(mostDeleted) else {
            throw ValidationError("--most-deleted must be from 0 to 100.")
        }
    }

    func run() async throws {
        var run = RefreshRun(destination: target.destination, selection: .named(dest))
        run.sourceConninfos = sources.conninfos
        var options = comparison.options
        options.repairs = true
        options.applies = apply
        options.mostDeleted = "\(mostDeleted)"
        run.options.verification = options
        try await output.carryOut(run)
    }
}
