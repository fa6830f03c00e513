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

            With --follow it stays, and refreshes what falls due as it falls due. It waits for a \
            destination that is away; TERM ends it, with 0 where nothing was interrupted; HUP \
            makes it look at once. It tells systemd that it is ready and alive (Type=notify).

            Exit status: 0 done, or nothing due, or a standby; 1 a replica failed, or the metrics \
            file cannot be written; 75 nothing done, others hold the locks or a source is away.
            """)

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @OptionGroup(title: "Sources") var sources: SourceOptions
    @OptionGroup(title: "Limits") var limits: LimitOptions
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
        name: .customLong("group"), help: "Only replicas of this refresh group; repeatable.",
        completion: .groups)
    var onlyGroups: [String] = []
    @Option(
        help: ArgumentHelp(
            "Begin nothing more after this time, such as 50min, nor what usually takes longer than "
                + "what is left of it; the first one begins in any case.", valueName: "span"))
    var maxRuntime: TimeSpan?
    @Flag(help: "Stay, as a service, and refresh what falls due.")
    var follow = false
    @Option(
        help: ArgumentHelp(
            "Let each replica be due up to this much later, such as 5min: always the same for one "
                + "replica, so that not all of them begin at the full hour.", valueName: "span"))
    var jitter: TimeSpan?
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
                DueFilter(
                    sources: onlySources.isEmpty ? nil : onlySources,
                    methods: onlyMethods.isEmpty ? nil : onlyMethods,
                    groups: onlyGroups.isEmpty ? nil : onlyGroups, jitter: jitter?.duration)))
        run.sourceConninfos = sources.conninfos
        run.jobs = jobs
        limits.apply(to: &run)
        run.perSource = perSource ?? .max
        run.maxRuntime = maxRuntime?.duration
        let metrics = metricsFile.map { MetricsFile(path: $0, destination: target.destination) }
        if follow { return try await output.follow(run, metrics) }
        guard let metrics else { return try await output.carryOut(run) }
        try await output.carryOut(run) { await metrics.write($0) }
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
