import ArgumentParser
import Replication

struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Refresh the replicas that are due.",
        usage: "roneo run [<options>]",
        discussion: """
            This is cron's line. It prints nothing when all is well, and one block on stderr for \
            each replica that failed; one that fails never stops another.

              * * * * *  roneo run -d 'host=wh dbname=wh' --metrics-file /var/x/roneo.prom
              roneo run -d wh --jobs 4 --per-source 2 --max-runtime 50min
              roneo run -d wh --source shop --json

            Exit status: 0 done, or nothing due, or a standby; 1 a replica failed, or the metrics \
            file cannot be written; 75 nothing done, others hold the locks or a source is away.
            """)

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @OptionGroup(title: "Sources") var sources: SourceOptions
    @OptionGroup(title: "Output") var output: OutputOptions

    @Option(name: .shortAndLong, help: "How many replicas to refresh at a time.")
    var jobs = 1
    @Option(help: ArgumentHelp("How many of them may read from one source.", valueName: "jobs"))
    var perSource: Int?
    @Option(
        name: .customLong("source"), help: "Only replicas of this source; repeatable.",
        completion: .sources)
    var onlySources: [String] = []
    @Option(
        name: .customLong("method"), help: "Only replicas of this method; repeatable.",
        completion: .methods)
    var onlyMethods: [String] = []
    @Option(
        help: ArgumentHelp("Begin nothing more after this time, such as 50min.", valueName: "time"))
    var maxRuntime: TimeSpan?
    @Option(
        help: ArgumentHelp(
            "Write metrics for Prometheus to this file when all is done, whatever came of it: "
                + "beside it first, then renamed.", valueName: "file"),
        completion: .file())
    var metricsFile: String?

    func validate() throws {
        try JobCount.check(jobs, perSource)
    }

    func run() async throws {
        var run = RefreshRun(
            destination: target.destination,
            selection: .due(
                sources: onlySources.isEmpty ? nil : onlySources,
                methods: onlyMethods.isEmpty ? nil : onlyMethods))
        run.sourceConninfos = sources.conninfos
        run.jobs = jobs
        run.perSource = perSource ?? .max
        run.maxRuntime = maxRuntime?.duration
        guard let metricsFile else { return try await output.carryOut(run) }
        try await output.carryOut(run) { end in
            await MetricsFile(path: metricsFile, destination: target.destination).write(end)
        }
    }
}

enum JobCount {
    static func check(_ jobs: Int, _ perSource: Int?) throws {
        guard (1...1_000).contains(jobs) else {
            throw ValidationError("--jobs must be from 1 to 1000.")
        }
        guard perSource ?? 1 >= 1 else {
            throw ValidationError("--per-source must be at least 1.")
        }
    }
}
