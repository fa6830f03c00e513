import Foundation
import Postgres
import TestSupport
import Testing

@testable import roneo

/// Every way in which a command ends, by the built program: the status that cron or a script acts
/// on, and the words beside it.
///
/// The commands come from the program itself. A new one fails here with its name until it is in
/// ``least`` (the fewest words with which it does something); where it ends otherwise than others do,
/// that goes into ``expected(_:_:)``. Statuses of a run's many ends, as values, are in ExitStatusTests.
@Suite struct ExitStatusPathTests {
    /// The fewest words with which each command does its work on a stage with the replica `t`.
    private static let least: [String: [String]] = [
        "run": ["run"], "refresh": ["refresh", "t"], "plan": ["plan", "t"], "status": ["status"],
        "release": ["release", "t"],
        "history": ["history"], "check": ["check"], "metrics": ["metrics"],
        "report": ["report", "--html", "-"], "preflight": ["preflight"],
        "verify": ["verify"], "repair": ["repair", "t"], "advise": ["advise", "src"],
        "observe": ["observe", "src"], "changes": ["changes", "src"],
        "fingerprint": ["fingerprint", "t", "--source", "src"],
    ]
    /// Those that know no destination.
    private static let local: Set = ["install", "completions", "demo"]

    /// What keeps a command from its work.
    private enum Obstacle: String, CaseIterable {
        case unreachable, noExtension, unknownVersion, noRights, nonsense
    }

    private static func expected(_ obstacle: Obstacle, _ command: String) -> Int32 {
        // A plugin knows four statuses, and this is what it does not know.
        if command == "check" { return 3 }
        return switch obstacle {
        case .nonsense: 64
        case .unreachable: 69
        case .noExtension, .unknownVersion: 78
        // A run, and a verification of all, then can do nothing at all; what is asked for by name, or
        // looked at, is refused.
        case .noRights: ["run", "verify"].contains(command) ? 78 : 1
        }
    }

    private static let commands: [String] = {
        do { return try CommandInfo.root().commands.map(\.commandName) } catch { fatalError() }
    }()

    @Test func eachCommandIsTriedHere() {
        for command in Self.commands where Self.least[command] == nil {
            #expect(
                Self.local.contains(command),
                "roneo \(command): add its least arguments to ExitStatusPathTests.least")
        }
        #expect(Set(Self.least.keys).isSubset(of: Self.commands))
    }

    @Test("a destination that is not there, or has no such extension", arguments: Self.least.keys)
    func obstacles(command: String) throws {
        let words = Self.least[command] ?? []
        let empty = try DatabasePair()
        let other = try Stage()
        try other.dest.execute(
            "UPDATE pg_extension SET extversion = '9.9.9' WHERE extname = 'roneo'")
        let stage = try Stage()
        try stage.makeReplica(every: "1 hour")
        let stranger = "stranger_\(stage.pair.name)"
        try stage.dest.execute(SQL(verbatim: "CREATE ROLE \(stranger) LOGIN"))
        let ways: [(Obstacle, [String], String)] = [
            (.unreachable, ["-h", "/nonexistent"], "/nonexistent"),
            (.noExtension, ["-d", empty.destination], "CREATE EXTENSION"),
            (.unknownVersion, ["-d", other.pair.destination], "9.9.9"),
            (
                .noRights,
                [
                    "-d",
                    TestClusters.destination.conninfo(database: stage.pair.name, user: stranger),
                ], "permission denied"
            ),
            (.nonsense, ["--no-such-option"], "no-such-option"),
        ]
        for (obstacle, arguments, word) in ways {
            let ended = try RoneoProcess(words + arguments).wait()
            #expect(ended.status == Self.expected(obstacle, command), "\(obstacle): \(ended)")
            #expect((ended.output + ended.errors).contains(word), "\(obstacle): \(ended)")
            #expect(command == "check" || ended.output.isEmpty, "\(obstacle): \(ended)")
        }
        #expect(try stage.value("SELECT count(*) FROM roneo.run") == "0")
    }

    @Test("INT and TERM end what waits", arguments: Self.least.keys, [SIGINT, SIGTERM])
    func signals(command: String, signal: Int32) async throws {
        let server = try DeafServer()
        let process = try RoneoProcess((Self.least[command] ?? []) + ["-d", server.conninfo])
        // What waits has its signals blocked, or would be killed, and not end with a status.
        #expect(try await eventually { try process.blocks(signal) })
        process.send(signal)
        let ended = process.wait()
        #expect(ended.status == 128 + signal, "\(ended)")
        #expect(!ended.isKilled, "\(ended)")
        #expect(ended.output.isEmpty, "\(ended)")
    }

    @Test(
        "where stdout leads does not change the work, and a full disk is said",
        arguments: Self.least.keys)
    func outputs(command: String) throws {
        let stage = try Stage()
        try stage.makeReplica(every: "1 hour")
        let words = (Self.least[command] ?? []).joined(separator: " ")
        // Only these print nothing by themselves.
        let more =
            [
                "run": " -v", "refresh": " -v", "verify": " -v", "repair": " -v",
                "release": " --json", "observe": " --json",
            ][command] ?? ""
        let line = "\"$RONEO\" \(words)\(more) -d \"$1\""
        let usual = try RoneoProcess(shell: line, [stage.pair.destination]).wait()
        for shell in ["\(line) | true", "\(line) >&-", "\(line) | head -c 1"] {
            let ended = try RoneoProcess(shell: shell, [stage.pair.destination]).wait()
            #expect(ended.status == usual.status, "\(shell): \(ended)")
            #expect(!ended.errors.contains("stdout"), "\(shell): \(ended)")
        }
        guard usual.status == 0 else { return }
        let full = try RoneoProcess(shell: "\(line) >/dev/full", [stage.pair.destination]).wait()
        #expect(full.status == (command == "check" ? 3 : 1), "\(full)")
        #expect(full.errors.contains("stdout cannot be written: No space left"), "\(full)")
    }

    @Test func aFullDiskUndoesNoRefresh() throws {
        let stage = try Stage()
        try stage.makeReplica(every: "1 hour")
        let line = "\"$RONEO\" run --json -d \"$1\" >/dev/full"
        let ended = try RoneoProcess(shell: line, [stage.pair.destination]).wait()
        #expect(ended.status == 1, "\(ended)")
        #expect(try stage.value("SELECT count(*) FROM t") == "100")
        #expect(try stage.value("SELECT outcome FROM roneo.run") == "ok")
        // Neither its log nor its complaints are worth a refresh.
        try stage.source.execute("DELETE FROM t WHERE id > 10")
        for more in ["refresh t --force --log-level debug", "refresh t missing"] {
            _ = try RoneoProcess(
                shell: "\"$RONEO\" \(more) -d \"$1\" 2>/dev/full", [stage.pair.destination]
            ).wait()
        }
        #expect(try stage.value("SELECT count(*) FROM t") == "10")
    }

    @Test func devicesAreWrittenToAndNeverReplaced() throws {
        let stage = try Stage()
        let full = try stage.run("run", "--metrics-file", "/dev/full")
        #expect(full.status == 1, "\(full)")
        #expect(full.errors.contains("No space left"), "\(full)")
        #expect(try stage.run("report", "--html", "/dev/full").status == 1)
        #expect(try stage.run("report", "--html", "/dev/null").status == 0)
        let kinds = try RoneoProcess(shell: "test -c /dev/full && test -c /dev/null", []).wait()
        #expect(kinds.status == 0)
    }

    @Test(
        "what others hold is tried later",
        arguments: [
            (["run"], Int32(75)), (["refresh", "t"], 75), (["plan", "t"], 75), (["status"], 0),
            (["history"], 0), (["check"], 0), (["metrics"], 0), (["preflight"], 0),
            (["report", "--html", "-"], 0), (["verify"], 75), (["verify", "t"], 75),
            (["repair", "t", "--apply"], 75), (["advise", "src"], 0), (["observe", "src"], 0),
            (["changes", "src"], 0), (["fingerprint", "t"], 0),
        ] as [([String], Int32)])
    func locked(words: [String], status: Int32) throws {
        let stage = try Stage()
        try stage.makeReplica(every: "1 hour")
        let holder = try stage.pair.connectDestination()
        try holder.execute("BEGIN; SELECT * FROM roneo.begin_refresh(ARRAY['t'::regclass])")
        let ended = try stage.start(words).wait()
        #expect(ended.status == status, "\(ended)")
        #expect(try stage.value("SELECT count(*) FROM t") == "0")
    }

    @Test(
        "a source that is away is tried later, where it is needed",
        arguments: [
            (["run"], Int32(75)), (["refresh", "t"], 75), (["plan", "t"], 75), (["preflight"], 1),
            (["check"], 0), (["check", "--columns"], 3), (["verify", "t"], 75),
            (["repair", "t"], 75), (["advise", "src"], 75), (["observe", "src"], 75),
            (["fingerprint", "t", "--source", "src"], 75), (["fingerprint", "t"], 0),
        ] as [([String], Int32)])
    func sourceAway(words: [String], status: Int32) throws {
        let stage = try Stage()
        try stage.makeReplica(every: "1 hour")
        let ended = try stage.start(words + ["--source-conninfo", "src=host=/nowhere"]).wait()
        #expect(ended.status == status, "\(ended)")
        #expect(status == 0 || (ended.output + ended.errors).contains("/nowhere"), "\(ended)")
    }

    @Test(
        "what fails, or is no replica, is named",
        arguments: [
            (["run"], Int32(1), "RO004"), (["refresh", "t"], 1, "RO004"),
            (["plan", "t"], 1, "RO004"), (["refresh", "pg_class"], 1, "RO001"),
            (["plan", "pg_class"], 1, "RO001"), (["refresh", "no_such"], 1, "42P01"),
            (["plan", "no_such"], 1, "42P01"), (["history", "no_such"], 1, "42P01"),
            (["check", "no_such"], 3, "no_such"), (["check", "pg_class"], 3, "pg_class"),
            (["preflight", "nobody"], 1, "nobody"), (["verify"], 1, "RO004"),
            (["verify", "t"], 1, "RO004"), (["verify", "pg_class"], 1, "RO001"),
            (["verify", "no_such"], 1, "42P01"), (["repair", "t"], 1, "RO004"),
            (["repair", "no_such"], 1, "42P01"), (["advise", "nobody"], 1, "RO003"),
            (["observe", "nobody"], 1, "RO003"), (["changes", "nobody"], 1, "RO003"),
            (["fingerprint", "t", "--source", "src"], 1, "RO004"),
            (["fingerprint", "no_such"], 1, "RO004"), (["refresh", "a b"], 1, "a b"),
            (["run", "--source", "nobody"], 0, ""), (["run", "--method", "none"], 0, ""),
        ] as [([String], Int32, String)])
    func failures(words: [String], status: Int32, word: String) throws {
        let stage = try Stage()
        try stage.makeReplica(every: "1 hour")
        try stage.source.execute("DROP TABLE t")
        let ended = try stage.start(words).wait()
        #expect(ended.status == status, "\(ended)")
        let said = ended.output + ended.errors
        #expect(word.isEmpty ? said.isEmpty : said.contains(word), "\(ended)")
    }

    @Test(
        "files that cannot be written are named",
        arguments: [["run", "--metrics-file"], ["report", "--html"]],
        ["/nonexistent/x", "/proc/x", "/"])
    func files(words: [String], path: String) throws {
        let ended = try Stage().start(words + [path]).wait()
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.errors.hasPrefix("roneo: /"), "\(ended)")
        #expect(ended.output.isEmpty)
    }

    @Test func whatNeedsNoDestinationEndsAsOthersDo() throws {
        #expect(try RoneoProcess.run("completions", "tcsh").status == 64)
        #expect(try RoneoProcess.run("completions").status == 64)
        for shell in ["bash", "zsh", "fish"] {
            #expect(try RoneoProcess.run("completions", shell).status == 0)
        }
        for line in ["completions bash", "manual", "install --without-extension -n"] {
            let full = try RoneoProcess(shell: "\"$RONEO\" \(line) >/dev/full", []).wait()
            #expect(full.status == 1, "\(full)")
        }
        #expect(try RoneoProcess.run("install", "--no-such-option").status == 64)
        #expect(try RoneoProcess.run("install", "--from", "/").status == 1)
        let demo = try RoneoProcess.run("demo", environment: ["RONEO_BINDIR": "/nonexistent"])
        #expect(demo.status == 1, "\(demo)")
        #expect(demo.errors.contains("/nonexistent"), "\(demo)")
        #expect(try RoneoProcess.run("demo", "now").status == 64)
        #expect(try RoneoProcess.run("--version").status == 0)
        #expect(try RoneoProcess.run("no-such-command").status == 64)
    }
}
