import Foundation
import TestSupport
import Testing

@testable import roneo

/// Help and manual: both are made of the same definitions, in which nothing may be missing.
///
/// A new command needs an abstract, a discussion with an example ("  roneo NAME …"), where statuses
/// other than those of every command matter a line "Exit status: …", a `usage:` where its own would
/// be wider than a terminal, and a help text for each option. The manual then has it by itself.
@Suite struct ManualTests {
    private static let commands: [CommandInfo] = {
        do { return try CommandInfo.root().commands } catch { fatalError("\(error)") }
    }()

    private func manual() throws -> String {
        let ended = try RoneoProcess.run("manual", environment: ["SOURCE_DATE_EPOCH": "0"])
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.contains(".Dd January 1, 1970\n"))
        return ended.output
    }

    @Test func eachCommandTeachesHowItIsUsed() throws {
        #expect(Self.commands.count > 10)
        for command in Self.commands {
            let name = command.commandName
            #expect(command.abstract?.hasSuffix(".") == true, "roneo \(name) has no abstract")
            #expect(
                command.discussion?.contains("roneo \(name) ") == true
                    || command.discussion?.contains("roneo \(name)\n") == true,
                "the discussion of roneo \(name) has no example")
            for argument in command.shown {
                let which = argument.preferredName?.name ?? argument.valueName ?? "?"
                #expect(
                    argument.abstract?.isEmpty == false,
                    "\(which) of roneo \(name) has no help text")
            }
        }
    }

    @Test func helpFitsATerminal() throws {
        for name in [nil] + Self.commands.map({ Optional($0.commandName) }) {
            let ended = try RoneoProcess(
                (name.map { [$0] } ?? []) + ["--help"], environment: ["COLUMNS": "80"]
            ).wait()
            #expect(ended.status == 0)
            for line in ended.output.split(separator: "\n") where line.count > 80 {
                Issue.record("wider than 80 columns, in the help of \(name ?? "roneo"): \(line)")
            }
        }
        let root = try RoneoProcess.run("--help").output
        let day = ["roneo preflight", "create_source", "roneo run", "roneo status", "roneo check"]
        let places = day.compactMap { root.range(of: $0)?.lowerBound }
        #expect(places.count == day.count && places == places.sorted(), "the order of a day")
    }

    @Test func theManualHasEveryCommandAndOption() throws {
        let page = try manual().replacing("\\-", with: "-")
        for command in Self.commands {
            #expect(page.contains("\n.Ss roneo \(command.commandName)\n"))
            #expect(page.contains("\n.Cm \\&\(command.commandName)\n"))
            for argument in command.arguments ?? [] where argument.shouldDisplay {
                for name in argument.names ?? [] {
                    let flag = (name.dashes == "--" ? "Fl Fl \\&" : "Fl \\&") + name.name
                    #expect(
                        page.contains("\n.It \(flag)") || page.contains(" , \(flag)"),
                        "\(name.dashes)\(name.name) of roneo \(command.commandName)")
                }
            }
        }
        for section in ["ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"] {
            #expect(page.contains("\n.Sh \(section)\n"))
        }
        for status in [0, 1, 64, 69, 75, 78] { #expect(page.contains("\n.It \(status)\n")) }
    }

    @Test(
        "who formats manuals has nothing against it",
        arguments: [
            ("mandoc", "mandoc -T lint -W warning"),
            ("man", "MANROFFSEQ= LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -l -E UTF-8 -Z"),
        ])
    func lint(program: String, command: String) throws {
        guard try SystemProgram.has(program, for: "what \(program) says of the manual") else {
            return
        }
        let file = FileManager.default.temporaryDirectory
            .appendingPathComponent("roneo-manual-\(UUID().uuidString).1")
        defer { try? FileManager.default.removeItem(at: file) }
        try manual().write(to: file, atomically: true, encoding: .utf8)
        let ended = try RoneoProcess(
            shell: "\(command) \"$1\" 2>&1 >/dev/null | grep -v mandoc.db; true", [file.path]
        ).wait()
        #expect(ended.output.isEmpty, "\(ended)")
    }

    /// Manual and completions below a folder that is gone with it.
    private final class Installed {
        let root = FileManager.default.temporaryDirectory
            .appendingPathComponent("roneo-prefix-\(UUID().uuidString)")
        let said: String
        var share: String { root.path + "/usr/share" }

        init() throws {
            let ended = try RoneoProcess.run(
                "install", "--without-extension", "--prefix", "/usr",
                environment: ["DESTDIR": root.path])
            #expect(ended.status == 0, "\(ended)")
            said = ended.output
        }

        deinit { try? FileManager.default.removeItem(at: root) }
    }

    @Test func installPutsManualAndCompletionsWhereTheyAreLookedFor() throws {
        let installed = try Installed()
        for (path, beginning) in [
            ("man/man1/roneo.1", ".Dd "), ("bash-completion/completions/roneo", "#!/bin/bash"),
            ("zsh/site-functions/_roneo", "#compdef roneo"),
            ("fish/vendor_completions.d/roneo.fish", "function __roneo"),
        ] {
            let text = try String(contentsOfFile: "\(installed.share)/\(path)", encoding: .utf8)
            #expect(text.hasPrefix(beginning), "\(path)")
            #expect(installed.said.contains("\(installed.share)/\(path)\n"))
        }
    }

    @Test(
        "shells and man find by themselves what is installed",
        arguments: [
            (
                "/usr/share/bash-completion/bash_completion",
                """
                bash --noprofile --norc -c \
                    ". $2; _completion_loader roneo; complete -p roneo | grep -w _roneo"
                """
            ),
            // A system's zsh may know the places of its packages by other names, but this one.
            ("zsh", "zsh -f -c 'print -l $fpath' | grep -x /usr/local/share/zsh/site-functions"),
            (
                "fish",
                """
                fish --private -c \
                    'contains "$XDG_DATA_DIRS/fish/vendor_completions.d" $fish_complete_path'
                """
            ),
            ("man", "man -M \"$1/man\" -w roneo | grep -Fx \"$1/man/man1/roneo.1\""),
        ])
    func found(by reader: String, command: String) throws {
        guard try SystemProgram.has(reader, for: "whether it finds what is installed") else {
            return
        }
        let installed = try Installed()
        let ended = try RoneoProcess(
            shell: """
                export XDG_DATA_DIRS="$1" XDG_DATA_HOME="$1/home" HOME="$1/home"
                \(command)
                """, [installed.share, reader]
        ).wait()
        #expect(ended.status == 0, "\(ended)")
    }

    @Test func whoMayNotWriteThereLearnsTheLineThatDoes() throws {
        let ended = try RoneoProcess.run(
            "install", "--without-extension", "--prefix", "/proc/no")
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.errors.contains("sudo"), "\(ended)")
        #expect(try RoneoProcess.run("install", "--prefix", "not/absolute").status == 1)
        #expect(
            try RoneoProcess.run("install", "--without-extension", "--from", "/").status == 64)
    }
}
