import Foundation
import Testing

/// What stands in packaging/ is a command line that the program takes.
@Suite struct PackagingTests {
    private static let folder = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("packaging")

    private static func text(_ path: String) throws -> String {
        try String(contentsOf: folder.appendingPathComponent(path), encoding: .utf8)
    }

    /// The arguments after the program's name, in the one line that has it.
    private static func arguments(_ path: String) throws -> [String] {
        let lines = try text(path).split(separator: "\n").filter { !$0.hasPrefix("#") }
        let found = lines.compactMap { $0.range(of: "/usr/local/bin/roneo ").map { $0.upperBound } }
        try #require(found.count == 1)
        let line = try #require(lines.first { $0.contains("/usr/local/bin/roneo ") })
        return line[found[0]...].split(separator: " ").map(String.init)
    }

    /// The options that the example of an environment proposes.
    private static func options() throws -> [String] {
        let line = try text("environment").split(separator: "\n")
            .first { $0.contains("RONEO_OPTIONS=") }
        return try #require(line?.split(separator: "=", maxSplits: 1).last)
            .split(separator: " ").map {
                $0.replacingOccurrences(of: "/run/roneo/", with: "/dev/shm/")
            }
    }

    @Test("a round", arguments: ["cron/roneo", "systemd/roneo-run.service"])
    func round(path: String) throws {
        let arguments = try Self.arguments(path).flatMap {
            $0 == "$RONEO_OPTIONS" ? try Self.options() : [$0]
        }
        let ended = try RoneoProcess(arguments, environment: ["PGHOST": "/nowhere/at/all"]).wait()
        #expect(ended.status == 69, "\(ended)")
    }

    @Test func theService() throws {
        let arguments = try Self.arguments("systemd/roneo.service").flatMap {
            $0 == "$RONEO_OPTIONS" ? try Self.options() : [$0]
        }
        #expect(arguments.contains("--follow"))
        let ended = try RoneoProcess(
            arguments + ["--max-runtime", "0"], environment: ["PGHOST": "/nowhere/at/all"]
        ).wait()
        #expect(ended.status == 0, "\(ended)")
    }

    /// By systemd itself, where that is installed.
    @Test func theUnitsAreWellFormed() throws {
        let found = try RoneoProcess(
            shell: """
                command -v systemd-analyze >/dev/null || exit 0
                units=$(mktemp -d) && trap 'rm -rf "$units"' EXIT
                cp "$1"/*.service "$1"/*.timer "$units"
                sed -i "s|/usr/local/bin/roneo|$RONEO|; /^Documentation=/d" "$units"/*
                systemd-analyze verify "$units"/* 2>&1
                """, [Self.folder.appendingPathComponent("systemd").path]
        ).wait()
        #expect(found.status == 0, "\(found)")
        #expect(found.output.isEmpty, "\(found)")
    }
}
