import ArgumentParser
import Replication

struct Roneo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "roneo",
        abstract: "Keeps copies of PostgreSQL tables fresh.",
        discussion: """
            The destination database, with the extension roneo in it, is found as by psql: by \
            -h, -p, -U, -d, a connection string or URI given as -d, and the PG* environment. \
            Passwords come from the password file, a service or the environment.

            Exit status: 0 done, or nothing due; 1 a replica failed; 64 usage; 69 destination \
            unreachable; 75 nothing done, others hold the locks or a source is away: try later; \
            78 extension missing or of an unknown version; 128+N ended by signal N. Of check: 0 \
            OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
            """,
        version: "roneo \(programVersion) (for extension roneo \(Destination.knownVersionsText))",
        subcommands: [
            Run.self, Refresh.self, Plan.self, Status.self, History.self, Check.self,
            Metrics.self, Report.self, Preflight.self, Advise.self, Observe.self, Changes.self,
            Fingerprint.self, Install.self, Demo.self,
        ],
        // -h is the host, as in every program of PostgreSQL's.
        helpNames: .long)
}
