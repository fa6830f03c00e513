import Foundation
import TestSupport
import Testing

@testable import roneo

/// What `--json` prints is what `docs/json.md` says, field by field.
///
/// A new command needs its line in the first table there, the tables of its objects, and its call in
/// ``JSONDocumentTests/calls``; a new field its line. A field that is not in the page, or is there
/// and never printed, is an issue that names it.
@Suite struct JSONDocumentTests {
    /// `docs/json.md`, read as a schema.
    private struct Page {
        var commands: [String: String] = [:]
        var objects: [String: [String: String]] = [:]

        init() throws {
            let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
                .deletingLastPathComponent().deletingLastPathComponent()
                .appendingPathComponent("docs/json.md")
            var section = ""
            for line in try String(contentsOf: path, encoding: .utf8).split(separator: "\n") {
                if line.hasPrefix("#") {
                    section = String(line.drop { "# ".contains($0) })
                    if line.hasPrefix("### ") { objects[section] = [:] }
                }
                let cells = line.split(separator: "|").map {
                    $0.trimmingCharacters(in: .whitespaces)
                }
                guard line.hasPrefix("| "), cells.count > 1 else { continue }
                guard !["field", "command"].contains(cells[0]) else { continue }
                if section == "Commands" {
                    commands[cells[0]] = cells[1]
                } else {
                    #expect(cells.count == 3, "\(line)")
                    objects[section]?[cells[0]] = cells[1]
                }
            }
        }
    }

    /// Compares values with types, and keeps in mind what it has seen.
    private final class Reader {
        let page: Page
        var seen: [String: Set<String>] = [:]
        var problems: Set<String> = []

        init(_ page: Page) {
            self.page = page
        }

        func read(_ value: Any, as type: String, at place: String) {
            if type.hasSuffix("?") {
                guard !(value is NSNull) else { return }
                return read(value, as: String(type.dropLast()), at: place)
            }
            if type.hasPrefix("[") {
                guard let values = value as? [Any] else { return wrong(value, type, place) }
                for element in values { read(element, as: inner(type), at: place + "[]") }
            } else if type.hasPrefix("{") {
                guard let members = value as? [String: Any] else {
                    return wrong(value, type, place)
                }
                for member in members.values { read(member, as: inner(type), at: place) }
            } else if let fields = page.objects[type] {
                guard let object = value as? [String: Any] else { return wrong(value, type, place) }
                for (name, member) in object {
                    guard let type = fields[name] else {
                        problems.insert("\(place).\(name) is not in docs/json.md")
                        continue
                    }
                    read(member, as: type, at: "\(place).\(name)")
                }
                for (name, type) in fields where object[name] == nil && !type.hasSuffix("?") {
                    problems.insert("\(place).\(name) is in docs/json.md and not printed")
                }
                seen[type, default: []].formUnion(object.keys)
            } else if !isScalar(value, type) {
                wrong(value, type, place)
            }
        }

        private func inner(_ type: String) -> String { String(type.dropFirst().dropLast()) }

        private func wrong(_ value: Any, _ type: String, _ place: String) {
            problems.insert("\(place) is no \(type): \(value)")
        }

        private func isScalar(_ value: Any, _ type: String) -> Bool {
            // A boolean is a number to Foundation, too.
            let isBoolean =
                (value as? NSNumber).map { String(cString: $0.objCType) == "c" } ?? false
            switch type {
            case "any": return true
            case "boolean": return isBoolean
            case "number": return value is NSNumber && !isBoolean
            case "integer":
                guard let number = value as? NSNumber, !isBoolean else { return false }
                return number.doubleValue == number.doubleValue.rounded()
            case "text": return value is String
            case "timestamp":
                let form = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)/
                return (value as? String)?.wholeMatch(of: form) != nil
            case "interval":
                let form = /(-?\d+ (years?|mons?|days?) ?)*(-?\d\d+:\d\d:\d\d(\.\d+)?)?/
                return (value as? String).map { !$0.isEmpty && $0.wholeMatch(of: form) != nil }
                    ?? false
            default: return false
            }
        }
    }

    /// Each command as it is called here, on a stage with a good replica, one that fails, one of a
    /// method with a position and one without a key; several calls where one does not show everything.
    private static let calls: [String: [[String]]] = [
        "run": [["--json"], ["--json"]],
        "refresh": [["good", "bad", "--json"], ["\"no such\"", "--json"]],
        "release": [["good", "--json"]],
        "plan": [["follows", "good", "--force", "--json"]],
        "status": [["--json"]],
        "status --sources": [["--json"]],
        "history": [["--json"]],
        "check": [["--json"], ["--json", "no_such"]],
        "metrics": [["--json"]],
        "report": [["--json"]],
        "preflight": [["--json"]],
        "verify": [["--json"], ["captured", "--show-values", "--json"]],
        "repair": [["captured", "loose", "--json"], ["captured", "--apply", "--json"]],
        "observe": [["src", "--json"], ["src", "--schema", "public", "--json"]],
        "changes": [["src", "--json"], ["src", "--partitions", "--json"]],
        "advise": [["src", "--json"]],
        "fingerprint": [["good", "--json"], ["good", "--source", "src", "--json"]],
        "fingerprint --compare": [
            ["roneo1:1:d41d8cd98f00b204e9800998ecf8427e:01234567:01234567", "good", "--json"]
        ],
    ]

    private func document(_ ended: RoneoProcess.Ended) throws -> Any {
        #expect(ended.output.hasSuffix("\n"), "\(ended)")
        return try JSONSerialization.jsonObject(
            with: Data(ended.output.utf8), options: .fragmentsAllowed)
    }

    private func makeStage() throws -> Stage {
        let stage = try Stage()
        try stage.makeReplica("good", every: "1 hour")
        try stage.makeReplica("bad", every: "1 hour")
        try stage.source.execute(
            "CREATE TABLE follows (id int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), v text); INSERT INTO follows VALUES (1)"
        )
        try stage.source.execute(
            "CREATE TABLE loose (id int NOT NULL); INSERT INTO loose SELECT generate_series(1, 100)"
        )
        try stage.dest.execute(
            "SELECT roneo.create_updater('src', 'follows', 'follows', control => 'at', copy_data => false, refresh_every => '1 hour')"
        )
        try stage.dest.execute(
            "SELECT roneo.create_inserter('src', 'loose', 'loose', control => 'id', refresh_every => '1 hour')"
        )
        // Others' transactions on the shared servers let an updater mend by itself what differs.
        try stage.source.execute(
            "CREATE TABLE captured (id int PRIMARY KEY, v text); INSERT INTO captured VALUES (1, 'v')"
        )
        try stage.dest.execute(
            "SELECT roneo.create_dml('src', 'captured', refresh_every => '1 hour')")
        try stage.source.execute("DROP TABLE bad")
        return stage
    }

    /// Makes copies differ from their sources, with a key and without one.
    private func spoil(_ stage: Stage) throws {
        try stage.dest.execute(
            "UPDATE captured SET v = 'other'; DELETE FROM loose WHERE id = 1"
        )
    }

    @Test func eachCommandPrintsWhatThePageSays() throws {
        let page = try Page()
        let stage = try makeStage()
        let reader = Reader(page)
        // What was refreshed is what is looked at: those that leave something behind come first.
        let order = ["run", "refresh", "verify", "repair", "observe"]
        let names = order + Self.calls.keys.filter { !order.contains($0) }.sorted()
        for name in names {
            let type = try #require(page.commands[name], "roneo \(name) is not in docs/json.md")
            if name == "verify" { try spoil(stage) }
            for arguments in Self.calls[name] ?? [] {
                let ended = try stage.start(
                    name.split(separator: " ").map { String($0) } + arguments
                ).wait()
                reader.read(try document(ended), as: type, at: name)
            }
        }
        let folder =
            FileManager.default.temporaryDirectory.path + "/roneo-json-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for arguments in [["--dry-run"], []] {
            let ended = try RoneoProcess(
                ["install", "--without-extension", "--json"] + arguments,
                environment: ["DESTDIR": folder]
            ).wait()
            reader.read(
                try document(ended), as: page.commands["install"] ?? "", at: "install")
        }
        // The demonstration takes a minute: only what it prints at its end is made here.
        let verdict = DemoStory.Verdict(
            dest: "public.good", source: try ContentHash(of: "public.good", on: stage.source),
            copy: try ContentHash(of: "public.good", on: stage.dest))
        #expect(verdict.isEqual)
        let demo = Data(DemoStory.json([verdict]).description.utf8)
        reader.read(
            try JSONSerialization.jsonObject(with: demo), as: page.commands["demo"] ?? "",
            at: "demo")
        for problem in reader.problems.sorted() { Issue.record("\(problem)") }
        for (object, fields) in page.objects where object != "log" {
            let missing = Set(fields.keys).subtracting(reader.seen[object] ?? [])
            #expect(missing.isEmpty, "\(object): in docs/json.md, and never printed")
        }
    }

    @Test func everyCommandIsInThePageAndCalledHere() throws {
        let page = try Page()
        let files = ["completions"]
        for command in try CommandInfo.root().commands where !files.contains(command.commandName) {
            let name = command.commandName
            #expect(
                command.shown.contains { $0.preferredName?.name == "json" },
                "roneo \(name) has no --json")
            #expect(page.commands[name] != nil, "roneo \(name) is not in docs/json.md")
            #expect(
                Self.calls[name] != nil || ["install", "demo"].contains(name),
                "roneo \(name) is not called in JSONDocumentTests")
        }
        for type in page.commands.values {
            #expect(page.objects[type.filter { !"[]?".contains($0) }] != nil, "\(type)")
        }
    }

    @Test func logLinesAreWhatThePageSays() throws {
        let reader = Reader(try Page())
        let stage = try makeStage()
        for arguments in [
            ["refresh", "good", "bad"], ["refresh", "good"], ["run"], ["verify"],
            ["repair", "loose", "--apply"],
        ] {
            if arguments == ["verify"] { try spoil(stage) }
            let ended = try stage.start(
                arguments + ["--log-format", "json", "--log-level", "trace"]
            ).wait()
            for line in ended.errors.split(separator: "\n") {
                let value = try JSONSerialization.jsonObject(with: Data(line.utf8))
                reader.read(value, as: "log", at: "log")
            }
        }
        for problem in reader.problems.sorted() { Issue.record("\(problem)") }
        let needed: Set = [
            "run", "dest", "phase", "rows", "bytes", "seconds", "sqlstate", "run_id", "step",
        ]
        #expect(needed.isSubset(of: reader.seen["log"] ?? []))
    }
}
