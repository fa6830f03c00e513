import Foundation
import Testing

@Suite struct CommandLineTests {
    @Test(
        "a command line that makes no sense is refused with 64 and a word on stderr",
        arguments: [
            ["nonsense"], ["refresh"], ["plan"], ["refresh", "t", "--nonsense"],
            ["run", "--jobs", "0"], ["run", "--jobs", "many"], ["run", "--per-source", "0"],
            ["run", "--max-runtime", "soon"], ["run", "-p", "70000"], ["run", "-h"],
            ["run", "--source-conninfo", "nothing"], ["run", "--source-conninfo", "=dbname=x"],
            ["run", "--source-conninfo", "a=dbname=x", "--source-conninfo", "a=dbname=y"],
            ["run", "--log-level", "loud"], ["run", "--log-format", "xml"],
            ["history", "--limit", "0"], ["status", "t"], ["preflight", "--capture", "t"],
            ["preflight", "shop", "--keeps-deleted"],
            ["preflight", "shop", "--capture", "t", "--json"],
        ])
    func usage(arguments: [String]) throws {
        let ended = try RoneoProcess(arguments).wait()
        #expect(ended.status == 64, "\(ended)")
        #expect(ended.output.isEmpty)
        #expect(ended.errors.contains("Error:"))
    }

    @Test func theVersionIsThatOfTheExtension() throws {
        let control = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("extension/roneo.control")
        let line = try String(contentsOf: control, encoding: .utf8)
            .split(separator: "\n").first { $0.hasPrefix("default_version") }
        let version = try #require(line?.split(separator: "'").dropFirst().first)
        let ended = try RoneoProcess.run("--version")
        #expect(ended.status == 0)
        #expect(ended.output.hasPrefix("roneo \(version) "))
    }

    @Test func helpIsHelpAndHIsTheHost() throws {
        let help = try RoneoProcess.run("refresh", "--help")
        #expect(help.status == 0)
        #expect(help.output.contains("-h, --host"))
        #expect(help.output.contains("--drop-dependents"))
    }

    @Test(
        "a destination that cannot be reached is 69",
        arguments: [
            ["status", "-h", "/nonexistent", "-p", "5432"], ["run", "-d", "host=/nonexistent"],
            ["refresh", "t", "-d", "postgresql:///x?host=/nonexistent"],
            ["plan", "t", "-h", "/nonexistent"], ["preflight", "-h", "/nonexistent"],
        ])
    func unreachable(arguments: [String]) throws {
        let ended = try RoneoProcess(arguments).wait()
        #expect(ended.status == 69, "\(ended)")
        #expect(ended.output.isEmpty)
        #expect(ended.errors.contains("/nonexistent"))
    }

    @Test func theEnvironmentSaysWhereAsForPsql() throws {
        let ended = try RoneoProcess.run("run", environment: ["PGHOST": "/nowhere/at/all"])
        #expect(ended.status == 69)
        #expect(ended.errors.contains("/nowhere/at/all"))
    }

    @Test func installPutsTheFilesUnderDestdir() throws {
        let root = FileManager.default.temporaryDirectory
            .appendingPathComponent("roneo-destdir-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: root) }
        let from = root.appendingPathComponent("from")
        try FileManager.default.createDirectory(at: from, withIntermediateDirectories: true)
        let control = from.appendingPathComponent("roneo.control")
        try "default_version = '7.1'\n".write(to: control, atomically: true, encoding: .utf8)

        let unbuilt = try RoneoProcess.run("install", "--from", from.path)
        #expect(unbuilt.status == 1)
        #expect(unbuilt.errors.contains("make -C"))

        let script = from.appendingPathComponent("roneo--7.1.sql")
        try "SELECT 1;\n".write(to: script, atomically: true, encoding: .utf8)
        let dry = try RoneoProcess.run(
            "install", "--dry-run", "--from", from.path, environment: ["DESTDIR": root.path])
        #expect(dry.status == 0, "\(dry)")
        #expect(try files(under: root) == ["roneo--7.1.sql", "roneo.control"])

        let installed = try RoneoProcess.run(
            "install", "--from", from.path, environment: ["DESTDIR": root.path])
        #expect(installed.status == 0, "\(installed)")
        #expect(
            try files(under: root)
                == ["roneo--7.1.sql", "roneo--7.1.sql", "roneo.control", "roneo.control"])
    }

    @Test func installWithoutFilesOrServerSaysWhatToDo() throws {
        let nowhere = try RoneoProcess.run("install", "--from", "/")
        #expect(nowhere.status == 1)
        #expect(nowhere.errors.contains("roneo.control"))
        let noServer = try RoneoProcess.run("install", "--pg-config", "/nonexistent/pg_config")
        #expect(noServer.status == 1)
    }

    private func files(under root: URL) throws -> [String] {
        let all = FileManager.default.enumerator(atPath: root.path)?.allObjects as? [String] ?? []
        return all.filter { $0.contains("roneo--") || $0.hasSuffix(".control") }
            .map { $0.split(separator: "/").last.map(String.init) ?? "" }.sorted()
    }
}
