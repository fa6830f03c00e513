import FoundationEssentials
import Postgres
import TestSupport
import Testing

/// Observe, changes, advise and fingerprint, as a DBA calls them.
@Suite struct AnalysisTests {
    private func stage() throws -> Stage {
        let stage = try Stage()
        try stage.source.execute(
            """
            CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)
            """)
        try write(stage, "INSERT INTO log (v) SELECT n FROM generate_series(1, 100) AS n")
        try stage.source.execute("CREATE TABLE still (id int PRIMARY KEY)")
        return stage
    }

    private struct Change: Decodable {
        let source_table: String
        let verdict: String
        let proven: Bool
        let grows_by: String?
        let inserted: Int
    }

    /// What sessions have counted is theirs for a moment; this one hands it over.
    private func write(_ stage: Stage, _ sql: String) throws {
        let connection = try stage.pair.connectSource()
        try connection.execute(SQL(verbatim: sql))
        connection.close()
    }

    @Test func changesAreToldFromLooks() async throws {
        let stage = try stage()
        let none = try stage.run("changes", "src")
        #expect(none.status == 0, "\(none)")
        #expect(none.output.contains("Nothing was observed of src"))
        let first = try stage.run("observe", "src")
        #expect(first.status == 0, "\(first)")
        #expect(first.output.isEmpty, "silent where there is no terminal: \(first)")
        #expect(first.errors.isEmpty)
        try write(stage, "INSERT INTO log (v) VALUES ('a'), ('b')")
        let isSeen = try await eventually {
            let look = try stage.run("observe", "src", "--json")
            #expect(look.status == 0, "\(look)")
            let told = try stage.run("changes", "src", "--json")
            let changes = try JSONDecoder().decode([Change].self, from: Data(told.output.utf8))
            return changes.contains {
                $0.source_table == "public.log" && $0.verdict == "grows" && $0.proven
                    && $0.grows_by == "id" && $0.inserted == 2
            }
                && changes.contains {
                    $0.source_table == "public.still" && $0.verdict == "unchanged"
                }
        }
        #expect(isSeen)
        let grid = try stage.run("changes", "src", "--since", "1h", "--schema", "public")
        #expect(grid.output.contains("public.log"), "\(grid)")
        #expect(grid.output.contains("grows"))
        #expect(try stage.run("changes", "src", "--until", "2000-01-01").output.contains("Nothing"))
    }

    @Test func whoStaysLooksAgain() throws {
        let stage = try stage()
        let ended = try stage.run("observe", "src", "--every", "1s", "--for", "2s", "--json")
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.split(separator: "\n").count >= 2)
    }

    @Test func whoStaysIsSentAwayBySignals() async throws {
        let stage = try stage()
        let process = try stage.start(["observe", "src", "--every", "1h"])
        #expect(
            try await eventually {
                try stage.value("SELECT count(*) FROM roneo.observation") == "1"
            })
        process.send(15)
        #expect(process.wait().status == 143)
    }

    @Test func adviceIsSQLThatRuns() async throws {
        let stage = try stage()
        let isCounted = try await eventually {
            let text = try stage.run("advise", "src", "--small-mb", "0")
            #expect(text.status == 0, "\(text)")
            return text.output.contains("public.log: inserter, rows are only added")
        }
        #expect(isCounted)
        let script = try stage.run("advise", "src", "--small-mb", "0", "--sql")
        #expect(
            script.output.contains("-- public.log: rows are only added, and id grows with them\n"))
        try stage.dest.execute(SQL(verbatim: script.output))
        #expect(
            try stage.value(
                "SELECT string_agg(dest_name || ' ' || method, ', ' ORDER BY dest_name) FROM roneo.replica"
            )
                == "log inserter, still snapshot")
        let again = try stage.run("advise", "src", "--sql")
        #expect(!again.output.contains("SELECT roneo.create"), "\(again)")
        #expect(again.output.contains("-- copied already: public.log by inserter"))
    }

    @Test func fingerprintsTellEqualFromDifferent() throws {
        let stage = try stage()
        try stage.dest.execute("CREATE TABLE log (v text, gone int, id bigint)")
        try stage.dest.execute("ALTER TABLE log DROP gone")
        try stage.dest.execute(
            "INSERT INTO log SELECT k::text AS v, k AS id FROM generate_series(1, 100) AS k ORDER BY k DESC"
        )
        let there = try stage.run("fingerprint", "log", "--source", "src")
        #expect(there.status == 0, "\(there)")
        #expect(there.output.hasPrefix("roneo1:100:"))
        let line = String(there.output.dropLast())
        let same = try stage.run("fingerprint", "log", "--compare", line)
        #expect(same.status == 0, "\(same)")
        #expect(same.output == there.output)

        let document = try stage.run("fingerprint", "log", "--source", "src", "--json")
        let file = "/tmp/roneo-fingerprint-\(UInt64.random(in: 0...UInt64.max)).json"
        try document.output.write(toFile: file, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: file) }
        #expect(try stage.run("fingerprint", "log", "--compare", file).status == 0)

        try stage.dest.execute("UPDATE log SET v = 'x' WHERE id = 7")
        let other = try stage.run("fingerprint", "log", "--compare", file)
        #expect(other.status == 1, "\(other)")
        #expect(other.errors == "different: as many rows, but not the same\n")
        let told = try stage.run("fingerprint", "log", "--compare", file, "--json")
        #expect(told.status == 1)
        #expect(told.output.hasPrefix(#"{"equal":false,"difference":"as many rows"#), "\(told)")
        for (part, status) in [("id <> 7", Int32(0)), ("id > 6", 1)] {
            let slice = try stage.run("fingerprint", "log", "--source", "src", "--where", part)
            let here = try stage.run(
                "fingerprint", "log", "--where", part, "--compare",
                String(slice.output.dropLast()))
            #expect(here.status == status, "\(here)")
        }
        let columns = try stage.run("fingerprint", "log", "--source", "src", "--columns", "id")
        #expect(
            try stage.run(
                "fingerprint", "log", "--columns", "id", "--compare",
                String(columns.output.dropLast())
            ).status == 0)
        #expect(try stage.isClean())
    }

    @Test(
        "what cannot be is told, and changes nothing",
        arguments: [
            (["fingerprint", "nothing"], Int32(1), "RO004"),
            (["fingerprint", "log", "--source", "nowhere"], 1, "RO003"),
            (["fingerprint", "log", "--source", "src", "--where", "nope = 1"], 1, "RO007"),
            (["fingerprint", "log", "--source", "src", "--columns", "id,nope"], 1, "RO007"),
            (["fingerprint", "log", "--source", "src", "--columns", "id,"], 64, "--columns"),
            (["fingerprint", "log", "--compare", "roneo1:x"], 1, "RO007"),
            (["fingerprint", "log", "--compare", "/nonexistent"], 64, "/nonexistent"),
            (
                [
                    "fingerprint", "log", "--source", "src", "--where", "pg_sleep(1) IS NULL",
                    "--time-limit", "1s",
                ], 1, "57014"
            ),
            (["observe", "nowhere"], 1, "RO003"), (["observe", "src", "--for", "1h"], 64, "--for"),
            (["observe", "src", "--keep-days", "0"], 64, "--keep-days"),
            (["changes", "nowhere"], 1, "RO003"),
            (["changes", "src", "--since", "soon"], 1, "22007"),
            (["advise", "nowhere"], 1, "RO003"),
            (["advise", "src", "--sql", "--json"], 64, "--sql"),
            (["advise", "src", "--refresh-every", "0"], 64, "--refresh-every"),
        ])
    func refusals(arguments: [String], status: Int32, word: String) throws {
        let stage = try stage()
        let ended = try stage.start(arguments).wait()
        #expect(ended.status == status, "\(ended)")
        #expect(ended.errors.contains(word), "\(ended)")
        #expect(try stage.value("SELECT count(*) FROM roneo.observation") == "0")
    }
}
