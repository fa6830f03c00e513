import ArgumentParser
import Replication

struct Roneo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "roneo",
        abstract: "Keeps copies of PostgreSQL tables fresh.",
        discussion: """
            The order of a day:

              roneo preflight -d warehouse       what is missing, as SQL to run
              psql -d warehouse                  SELECT roneo.create_source(…);
                                                 SELECT roneo.create_snapshot(…);
              roneo run -d warehouse             what is due: the line for cron
              roneo status -d warehouse          how fresh each copy is
              roneo check -d warehouse           is all well: for monitoring
              roneo verify -d warehouse          are the copies what they should be

            The destination database, with the extension roneo in it, is found as by psql: by \
            -h, -p, -U, -d, a connection string or URI given as -d, and the PG* environment. \
            Passwords come from the password file, a service or the environment.

            Exit status: 0 done, or nothing due; 1 a replica failed or differs; 64 usage; 69 destination \
            unreachable; 75 nothing done, others hold the locks or a source is away: try later; \
            78 extension missing or of an unknown version; 128+N ended by signal N. Of check: 0 \
            OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. More is in the manual: man roneo
            """,
        version: "roneo \(programVersion) (for extension roneo \(Destination.knownVersionsText))",
        subcommands: [
            Run.self, Refresh.self, Release.self, Plan.self, Verify.self, Repair.self,
            Status.self, History.self, Check.self, Metrics.self, Report.self, Preflight.self,
            Advise.self, Observe.self, Changes.self, Fingerprint.self, Install.self,
            Completions.self, Manual.self, Demo.self,
        ],
        // -h is the host, as in every program of PostgreSQL's.
        helpNames: .long)
}
