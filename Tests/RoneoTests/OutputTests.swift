import FoundationEssentials
import TestSupport
import Testing

@testable import roneo

@Suite struct OutputTests {
    private struct AnyReplica: Decodable {
        let dest: String
    }

    @Test("what --json prints is JSON", arguments: ["status", "history", "plan t"])
    func lists(command: String) throws {
        let stage = try Stage()
        try stage.makeReplica()
        #expect(try stage.run("refresh", "t").status == 0)
        let ended = try stage.start(command.split(separator: " ").map(String.init) + ["--json"])
            .wait()
        #expect(ended.status == 0, "\(ended)")
        let rows = try JSONDecoder().decode([AnyReplica].self, from: Data(ended.output.utf8))
        #expect(rows.map(\.dest) == ["public.t"])
    }

    @Test func refreshesThatFindNothingToDoAreOneLine() throws {
        let stage = try Stage()
        try stage.makeReplica()
        try stage.makeReplica("other", method: "plain")
        try stage.dest.execute(
            """
            INSERT INTO roneo.run (replica_id, dest, method, hand, outcome, started_at, ended_at, \
            seconds, repeats) SELECT replica_id, 'public.t', 'snapshot', 'runner', 'unchanged', \
            now() - interval '1 hour', now() + interval '1 hour', 0.01, 1234 FROM roneo.replica \
            WHERE dest_name = 't'
            """)
        #expect(try stage.run("refresh", "other").status == 0)
        let lines = try stage.run("history").output.split(separator: "\n")
        try #require(lines.count == 4, "\(lines)")
        #expect(
            lines[2].contains("public.t") && lines[2].contains("1,234 times until 20"),
            "the last of them is the newest: \(lines)")
    }

    @Test func theReportOfARunIsJSON() throws {
        struct Report: Decodable, Equatable {
            struct Replica: Decodable, Equatable {
                struct Problem: Decodable, Equatable {
                    let sqlstate: String
                    let message: String
                }
                let dest: String
                let outcome: String
                let rows: Int
                let error: Problem?
            }
            let exit_status: Int
            let replicas: [Replica]
        }
        let stage = try Stage()
        try stage.makeReplica("good", every: "1 hour")
        let good = try stage.run("run", "--json")
        let report = try JSONDecoder().decode(Report.self, from: Data(good.output.utf8))
        #expect(
            report
                == Report(
                    exit_status: 0,
                    replicas: [.init(dest: "public.good", outcome: "ok", rows: 100, error: nil)]))

        let bad = try stage.run("refresh", "\"no such\"", "--json")
        #expect(bad.status == 1)
        let failed = try JSONDecoder().decode(Report.self, from: Data(bad.output.utf8))
        #expect(failed.exit_status == 1)
        #expect(failed.replicas.first?.error?.sqlstate == "42P01")
    }

    @Test func preflightIsJSON() throws {
        struct Finding: Decodable {
            let side: String
            let item: String
            let ok: Bool
        }
        let stage = try Stage()
        try stage.makeReplica()
        let ended = try stage.run("preflight", "--json")
        let findings = try JSONDecoder().decode([Finding].self, from: Data(ended.output.utf8))
        #expect(Set(findings.map(\.side)) == ["source", "destination"])
        #expect(ended.status == (findings.allSatisfy(\.ok) ? 0 : 1))
    }

    @Test func logLinesAreJSONOrPairs() throws {
        struct Line: Decodable {
            let level: String
            let msg: String
            let dest: String?
            let rows: Int?
            let sqlstate: String?
        }
        let stage = try Stage()
        try stage.makeReplica()
        let json = try stage.run("refresh", "t", "missing", "--log-format", "json")
        let lines = try json.errors.split(separator: "\n").map {
            try JSONDecoder().decode(Line.self, from: Data($0.utf8))
        }
        #expect(lines.contains { $0.dest == "public.t" && $0.rows == 100 })
        #expect(lines.contains { $0.level == "error" && $0.sqlstate == "42P01" })
        #expect(json.output.isEmpty)

        let text = try stage.run("refresh", "t", "--log-level", "debug")
        #expect(text.errors.split(separator: "\n").allSatisfy { $0.hasPrefix("time=") })
        #expect(text.errors.contains("outcome=unchanged"))
    }

    @Test func planChangesNothing() throws {
        let stage = try Stage()
        try stage.makeReplica()
        let ended = try stage.run("plan", "t")
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.contains("COPY "))
        #expect(ended.output.contains("public.t: snapshot of source src"))
        #expect(try stage.value("SELECT count(*) FROM roneo.run") == "0")
        #expect(try stage.value("SELECT count(*) FROM t") == "0")
    }

    @Test(
        "a reader that goes away does not matter",
        arguments: ["status --json", "history --json", "plan t", "refresh t -v --force"])
    func closedOutput(command: String) throws {
        let stage = try Stage()
        try stage.makeReplica()
        let line = "\"$RONEO\" \(command) -d \"$1\""
        for shell in ["\(line) | true", "\(line) | head -c 1", "\(line) >&-"] {
            let ended = try RoneoProcess(shell: shell, [stage.pair.destination]).wait()
            #expect(ended.status == 0, "\(shell): \(ended)")
        }
        #expect(try stage.run("refresh", "t", "--force").status == 0)
    }
}

@Suite struct TextTests {
    @Test(
        "numbers as people read them",
        arguments: [
            (Quantity.count(0), "0"), (Quantity.count(999), "999"),
            (Quantity.count(1_000), "1,000"), (Quantity.count(-1_234_567), "-1,234,567"),
            (Quantity.rows(1), "1 row"), (Quantity.rows(2_000), "2,000 rows"),
            (Quantity.bytes(0), "0 B"), (Quantity.bytes(999), "999 B"),
            (Quantity.bytes(1_000), "1.0 kB"), (Quantity.bytes(9_960), "10 kB"),
            (Quantity.bytes(999_499), "999 kB"), (Quantity.bytes(999_500), "1.0 MB"),
            (Quantity.bytes(56_200_000), "56 MB"),
            (Quantity.seconds(.milliseconds(4)), "0.00 s"),
            (Quantity.seconds(.milliseconds(1_234)), "1.23 s"),
            (Quantity.seconds(.milliseconds(12_345)), "12.3 s"),
            (Quantity.seconds(.milliseconds(59_960)), "1 min 00 s"),
            (Quantity.seconds(.seconds(125)), "2 min 05 s"),
            (Quantity.seconds(.seconds(3_723)), "1 h 02 min"),
            (Quantity.age(0.4), "just now"), (Quantity.age(119), "119 s"),
            (Quantity.age(120), "2 min"), (Quantity.age(7_200), "2 h"),
            (Quantity.age(200_000), "2 d"),
        ])
    func quantities(text: String, expected: String) {
        #expect(text == expected)
    }

    @Test(
        "lengths of time on the command line",
        arguments: [
            ("90", 90), ("90s", 90), ("15min", 900), ("15m", 900), ("1h30min", 5_400),
            ("2d", 172_800), ("0s", 0), ("", nil), ("h", nil), ("5 min", nil), ("-5", nil),
            ("1w", nil), ("99999999999", nil),
        ] as [(String, Int?)])
    func timeSpans(argument: String, seconds: Int?) {
        #expect(TimeSpan(argument: argument)?.duration == seconds.map { .seconds($0) })
    }

    @Test func aGridIsAsWideAsItsText() {
        var grid = TextGrid([
            .init(title: "name"), .init(title: "n", alignment: .right),
            .init(title: "note", isOptional: true),
        ])
        grid.add([.init("漢字"), .init("1"), .init(nil)])
        grid.add([.init("long name\u{7}"), .init("1,000"), .init(nil)])
        #expect(
            grid.lines(width: nil) == [
                "name                n",
                "--------------  -----",
                "漢字                1",
                "long name\\u{7}  1,000",
            ])
    }

    @Test(
        "a grid is cut to fit where it may be",
        arguments: [
            (nil, "a very long name of a table  42  more"),
            (40, "a very long name of a table  42  more"),
            (30, "a very long name of…  42  more"),
            (25, "a very long name of …  42"),
            (20, "a very long nam…  42"),
            (5, "a very long nam…  42"),
        ] as [(Int?, String)])
    func cutting(width: Int?, line: String) {
        var grid = TextGrid([
            .init(title: "name", shrinks: true), .init(title: "n", alignment: .right),
            .init(title: "note", isOptional: true),
        ])
        grid.add([.init("a very long name of a table"), .init("42"), .init("more")])
        #expect(grid.lines(width: width).last == line)
    }

    @Test(
        "log lines quote what is not one word",
        arguments: [
            ("word", "k=word"), ("two words", "k=\"two words\""), ("", "k=\"\""),
            ("a=b", "k=\"a=b\""), ("say \"x\"\n", #"k="say \"x\"\n""#),
        ])
    func pairs(value: String, text: String) {
        let line = LineLogHandler.line(
            .text, .init(microseconds: 0), "info", "done", [("k", value)])
        #expect(line == "time=1970-01-01T00:00:00.000000Z level=info msg=done \(text)")
    }
}
