import FoundationEssentials
import TestSupport
import Testing

/// `roneo check`: what a monitoring system reads, and the exit status that it acts on.
@Suite struct CheckTests {
    private struct Answer: Decodable {
        struct Finding: Decodable {
            let check: String
            let object: String
            let level: String
            let message: String
            let advice: String?
        }
        let status: String
        let exit_status: Int32
        let message: String
        let checked_at: String
        let replicas: Int
        let lateness: Double?
        let findings: [Finding]
    }

    private func answer(_ ended: RoneoProcess.Ended) throws -> Answer {
        try JSONDecoder().decode(Answer.self, from: Data(ended.output.utf8))
    }

    /// A replica of an hour's promise that was refreshed so many minutes ago.
    private func stage(refreshed minutes: Int) throws -> Stage {
        let stage = try Stage()
        try stage.makeReplica(every: "1 hour")
        #expect(try stage.run("refresh", "t").status == 0)
        try stage.dest.execute(
            """
            UPDATE roneo.replica SET created_at = now() - interval '600 minutes' - interval '30 minutes', \
            last_success_at = now() - make_interval(mins => \(minutes)::integer), \
            last_attempt_at = now() - make_interval(mins => \(minutes)::integer)
            """)
        return stage
    }

    @Test(
        "the exit status is a plugin's, and the first line says the same",
        arguments: [
            (5, [String](), Int32(0), "OK"), (115, [], 1, "WARNING"), (235, [], 2, "CRITICAL"),
            (115, ["--warning", "2"], 0, "OK"), (235, ["--critical", "4"], 1, "WARNING"),
            (115, ["--warning", "0.5", "--critical", "0.8"], 2, "CRITICAL"),
            (235, ["--source", "src", "t"], 2, "CRITICAL"),
        ])
    func levels(minutes: Int, arguments: [String], status: Int32, word: String) throws {
        let stage = try stage(refreshed: minutes)
        let ended = try stage.start(["check"] + arguments).wait()
        #expect(ended.status == status, "\(ended)")
        #expect(ended.output.hasPrefix("RONEO \(word) - "), "\(ended)")
        #expect(ended.errors.isEmpty)
        let first = try #require(ended.output.split(separator: "\n").first)
        #expect(first.split(separator: "|").count == 2, "one bar, before the numbers: \(first)")
        #expect(first.contains("| replicas=1;;;0 "))

        let json = try answer(stage.start(["check", "--json"] + arguments).wait())
        #expect(json.status == word)
        #expect(json.exit_status == status)
        #expect(json.replicas == 1)
        #expect(json.checked_at.hasSuffix("Z"))
        #expect(
            json.findings.contains {
                $0.check == "freshness" && $0.object == "public.t" && $0.level == word
            })
    }

    @Test func aRunnerThatStoppedIsNoticedAndTold() throws {
        let stage = try stage(refreshed: 235)
        let ended = try stage.run("check")
        #expect(ended.output.contains("CRITICAL: runner of "), "\(ended)")
        #expect(ended.output.contains("although 1 replica has been due for"))
        #expect(ended.output.contains("\n  Is the line roneo run in cron"))
    }

    @Test func failuresAreToldWithTheirError() throws {
        let stage = try stage(refreshed: 5)
        try stage.source.execute("ALTER TABLE t RENAME TO \"was|t\"")
        #expect(try stage.run("refresh", "t").status == 1)
        let warned = try stage.run("check")
        #expect(warned.status == 1, "\(warned)")
        #expect(warned.output.contains("1 failure in a row"))
        #expect(warned.output.contains("RO004"))
        try stage.dest.execute("INSERT INTO roneo.setting VALUES ('failures_warning', '2')")
        #expect(try stage.run("check").status == 0)
        try stage.dest.execute("INSERT INTO roneo.setting VALUES ('failures_critical', '1')")
        #expect(try stage.run("check").status == 2)
    }

    @Test func aNamedReplicaGivesItsAge() throws {
        let stage = try Stage()
        try stage.makeReplica("\"it's = |odd\"", every: "1 hour")
        #expect(try stage.run("refresh", "\"it's = |odd\"").status == 0)
        let ended = try stage.run("check", "\"it's = |odd\"")
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.contains(" 'public.\"it''s _ ¦odd\" age'="), "\(ended)")
        #expect(ended.output.contains("s;7200;14400;0\n"), "\(ended)")
    }

    @Test func noReplicaIsUnknown() throws {
        let ended = try Stage().run("check")
        #expect(ended.status == 3, "\(ended)")
        #expect(ended.output.hasPrefix("RONEO UNKNOWN - "))
    }

    @Test(
        "what cannot be looked at is unknown, with the reason in the first line",
        arguments: [
            (["-h", "/nonexistent"], "/nonexistent"),
            (["-d", "postgresql:///x?host=/nonexistent"], "/nonexistent"),
            (["--warning", "soon"], "soon"), (["--warning", "3", "--critical", "2"], "--critical"),
            (["--critical", "-1"], "--critical"), (["--critical=-1"], "--critical"),
            (["--nonsense"], "--nonsense"),
            (["--timeout", "0"], "--timeout"),
        ])
    func unknown(arguments: [String], word: String) throws {
        let ended = try RoneoProcess(["check"] + arguments).wait()
        #expect(ended.status == 3, "\(ended)")
        let first = try #require(ended.output.split(separator: "\n").first)
        #expect(first.hasPrefix("RONEO UNKNOWN - "), "\(ended)")
        #expect(first.contains(word), "\(ended)")
    }

    @Test(
        "so is what is not there", arguments: [["no_such"], ["pg_class"], ["--source", "nobody"]])
    func strangers(arguments: [String]) throws {
        let stage = try stage(refreshed: 5)
        let ended = try stage.start(["check"] + arguments).wait()
        #expect(ended.status == 3, "\(ended)")
        #expect(ended.output.contains(arguments.last ?? "?"), "\(ended)")
        let json = try answer(stage.start(["check", "--json"] + arguments).wait())
        #expect(json.exit_status == 3)
        #expect(json.status == "UNKNOWN")
    }

    @Test func aDatabaseWithoutTheExtensionIsUnknown() throws {
        let pair = try DatabasePair()
        let ended = try RoneoProcess.run("check", "-d", pair.destination)
        #expect(ended.status == 3, "\(ended)")
        #expect(ended.output.contains("CREATE EXTENSION"), "\(ended)")
    }

    @Test func aServerThatDoesNotAnswerIsUnknownInTime() throws {
        let server = try DeafServer()
        let ended = try RoneoProcess.run(
            "check", "--timeout", "1s", "-d", server.conninfo)
        #expect(ended.status == 3, "\(ended)")
        #expect(ended.output.hasPrefix("RONEO UNKNOWN - no answer within 1.00 s"), "\(ended)")
    }

    @Test func helpIsHelp() throws {
        let ended = try RoneoProcess.run("check", "--help")
        #expect(ended.status == 0)
        #expect(ended.output.contains("--missing-tables"))
    }

    @Test func columnsAndTablesOfSourcesAreAskedForOverTheWayThatIsGiven() throws {
        let stage = try Stage()
        try stage.makeReplica("t", method: "plain", every: "1 hour")
        try stage.makeReplica("other", method: "plain", every: "1 hour")
        #expect(try stage.run("run").status == 0)
        // Over dblink nobody gets there any more.
        try stage.dest.execute("ALTER SERVER roneo_src OPTIONS (SET host '/nowhere')")
        #expect(try stage.run("check", "--columns", "--missing-tables").status == 3)
        func check(_ arguments: String...) throws -> RoneoProcess.Ended {
            try stage.start(
                ["check", "--source-conninfo", "src=\(stage.pair.source)"] + arguments
            ).wait()
        }
        #expect(try check("--columns", "--missing-tables").status == 0)
        try stage.source.execute("ALTER TABLE t ADD w int; CREATE TABLE alone (id int)")
        #expect(try check().status == 0)
        let columns = try check("--columns")
        #expect(columns.status == 1, "\(columns)")
        #expect(columns.output.contains("ALTER TABLE public.t ADD COLUMN w integer;"), "\(columns)")
        #expect(try check("--columns", "other").status == 0)
        #expect(try check("--columns", "t").status == 1)
        let tables = try check("--missing-tables")
        #expect(tables.status == 1, "\(tables)")
        #expect(tables.output.contains("WARNING: missing table of public.alone"), "\(tables)")
    }

    @Test func aSourceThatIsAwayIsUnknownAndHidesNothingWorse() throws {
        let stage = try stage(refreshed: 5)
        let away = ["check", "--columns", "--source-conninfo", "src=host=/nowhere"]
        let ended = try stage.start(away).wait()
        #expect(ended.status == 3, "\(ended)")
        #expect(ended.output.contains("/nowhere"), "\(ended)")
        try stage.dest.execute("UPDATE roneo.replica SET failures = 1, last_outcome = 'failed'")
        #expect(try stage.start(away).wait().status == 1)
        #expect(try stage.start(["check"]).wait().status == 1)
    }
}
