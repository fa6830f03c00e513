import Foundation
import TestSupport
import Testing

@testable import roneo

/// Completions, in the shells themselves: keys are typed on a terminal, and what the command then
/// gets for arguments is looked at.
///
/// For a new command or option nothing is to be done here but to give what is a replica, a source,
/// a group or a method its `completion:`; ``namesAreCompletedEverywhere()`` says where that was
/// forgotten.
@Suite struct CompletionTests {
    /// A folder with the program in it, and start files for the shells.
    private final class Folder {
        let url = FileManager.default.temporaryDirectory
            .appendingPathComponent("roneo-shell-\(UUID().uuidString)")
        var path: String { url.path }

        init() throws {
            let bin = url.appendingPathComponent("bin")
            try FileManager.default.createDirectory(at: bin, withIntermediateDirectories: true)
            try FileManager.default.createSymbolicLink(
                atPath: bin.appendingPathComponent("roneo").path,
                withDestinationPath: RoneoProcess.path)
            // What is entered is printed, a word in brackets; what asks for completions, asks.
            let stand = """
                roneo() { case $1 in ---completion) command roneo "$@";; *) printf 'got '; printf '<%s>' "$@"; echo;; esac; }
                """
            for shell in ["bash", "zsh", "fish"] {
                let script = try RoneoProcess.run("completions", shell)
                try #require(script.status == 0)
                try write(shell == "zsh" ? "_roneo" : "roneo.\(shell)", script.output)
            }
            let fish = url.appendingPathComponent("config/fish")
            try FileManager.default.createDirectory(at: fish, withIntermediateDirectories: true)
            try write(
                "config/fish/config.fish",
                """
                source \(path)/roneo.fish
                function fish_prompt; end
                function fish_greeting; end
                function roneo; echo; echo "got "(printf '<%s>' $argv); end

                """)
            try write(".bashrc", "PS1=\n. \(path)/roneo.bash\n\(stand)\n")
            try write(
                ".zshrc",
                """
                PS1=
                fpath=(\(path) $fpath)
                autoload -Uz compinit; compinit -u -D
                \(stand)

                """)
        }

        /// Files that nobody here has made.
        func strangers() throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: path).filter { $0 == "pwned" }
        }

        deinit { try? FileManager.default.removeItem(at: url) }

        func write(_ name: String, _ text: String) throws {
            try text.write(
                to: url.appendingPathComponent(name), atomically: true, encoding: .utf8)
        }
    }

    /// Types lines with tabs in them into an interactive shell.
    /// - Returns: the words of each line as its command got them.
    private func type(_ lines: [String], in shell: String) throws -> [String] {
        let folder = try Folder()
        let start = [
            "bash": "bash --noprofile --rcfile $1/.bashrc -i", "zsh": "zsh -i",
            "fish": "fish --private -i",
        ][shell]!
        let typed = lines.map { $0 + "\n" }.joined() + "exit\n"
        let ended = try RoneoProcess(
            shell: """
                export PATH="$1/bin:$PATH" TERM=dumb ZDOTDIR="$1" XDG_CONFIG_HOME="$1/config"
                    cd "$1"
                printf %s "$2" | timeout 60 script -qec "\(start)" /dev/null
                """, [folder.path, typed]
        ).wait()
        #expect(try folder.strangers().isEmpty, "a name is no command")
        let printed = ended.output.split(whereSeparator: \.isNewline).filter {
            $0.hasPrefix("got ")
        }
        #expect(printed.count == lines.count, "\(ended)")
        return printed.map { String($0.dropFirst(4)) }
    }

    @Test("a tab completes what the database has", arguments: ["bash", "zsh", "fish"])
    func names(shell: String) throws {
        guard
            try SystemProgram.has(shell, "script", "timeout", for: "completions in \(shell)")
        else { return }
        let stage = try Stage()
        try stage.makeReplica("orders")
        try stage.makeReplica("\"Odd, 100%\"")
        try stage.makeReplica("\"$(touch pwned)\"")
        let conninfo = stage.pair.destination.replacing("'", with: "")
        let there = "-d '\(conninfo)'"
        let host = try #require(
            conninfo.split(separator: " ").first { $0.hasPrefix("host=") })
        let port = try #require(
            conninfo.split(separator: " ").first { $0.hasPrefix("port=") })
        let uri = "postgresql:///\(stage.pair.name)?\(host)&\(port)&user=postgres"
        // bash writes a name with a dollar as no shell can read it, whatever is completed; so
        // there it is only looked for among others.
        let odd = shell == "bash" ? "\\\"" : "\\\"\\$"
        let shown = "<-d><\(conninfo)>"
        let pairs: [(String, String)] = [
            ("roneo ref\tx", "<refresh><x>"),
            ("roneo refresh \(there) public.ord\t", "<refresh>\(shown)<public.orders>"),
            (
                "roneo plan \(there) 'public.\"O\t",
                "<plan>\(shown)<public.\"Odd, 100%\">"
            ),
            (
                "roneo plan \(there) public.\(odd)\t",
                "<plan>\(shown)<public.\"\(shell == "bash" ? "" : "$(touch pwned)\"")>"
            ),
            ("roneo run \(there) --source s\t", "<run>\(shown)<--source><src>"),
            // Options that come later are not looked at: nothing is completed.
            ("roneo check ord\t \(there)", "<check><ord>\(shown)"),
            ("roneo check \(there) ord\t", "<check>\(shown)<orders>"),
            (
                "roneo run --dbname='\(uri)' --source s\t",
                "<run><--dbname=\(uri)><--source><src>"
            ),
            ("roneo run \(there) --method sn\t", "<run>\(shown)<--method><snapshot>"),
            ("roneo run --log-f\tj\t", "<run><--log-format><json>"),
            ("roneo completions f\t", "<completions><fish>"),
        ]
        // Its script, which ArgumentParser makes, takes a second for each.
        let tried = shell == "fish" ? pairs.prefix(4) : pairs[...]
        let lines = try type(tried.map(\.0), in: shell)
        for (line, wanted) in zip(lines, tried.map(\.1)) { #expect(line == wanted) }
    }

    @Test(
        "what cannot be asked completes nothing, says nothing, and soon",
        arguments: [
            ["-h", "/nonexistent"], ["-d", "postgresql://x?hosts=1"], ["-d", "$DATABASE"], ["deaf"],
        ])
    func silence(options: [String]) throws {
        let server = try DeafServer()
        let options = options == ["deaf"] ? ["-d", "'\(server.conninfo)'"] : options
        let words = ["roneo", "refresh"] + options + [""]
        let ended = try RoneoProcess(
            ["---completion", "refresh", "--", "positional@0", "\(words.count - 1)", "0"] + words,
            environment: ["SAP_SHELL": "bash", "SAP_SHELL_VERSION": "5.2"]
        ).wait()
        #expect(ended.status == 0, "\(ended)")
        #expect(!ended.output.contains { !$0.isWhitespace }, "\(ended)")
        #expect(ended.errors.isEmpty, "\(ended)")
    }

    @Test func whoMayOnlyLookCompletesToo() throws {
        let stage = try Stage()
        try stage.makeReplica("orders")
        let role = "looks_\(stage.pair.name)"
        try stage.dest.execute(.init(verbatim: "CREATE ROLE \(role) LOGIN"))
        let grants = try stage.dest.execute(
            "SELECT format('GRANT %s ON %s TO %I', privilege, object, \(role)::name) FROM roneo.status_objects()"
        )
        for row in 0..<grants.count {
            try stage.dest.execute(.init(verbatim: grants[row, 0] ?? ""))
        }
        let conninfo = TestClusters.destination.conninfo(database: stage.pair.name, user: role)
        let ended = try RoneoProcess(
            [
                "---completion", "check", "--", "positional@0", "4", "0", "roneo", "check", "-d",
                "\"\(conninfo)\"", "",
            ], environment: ["SAP_SHELL": "bash", "SAP_SHELL_VERSION": "5.2"]
        ).wait()
        #expect(ended.output.contains("public.orders"), "\(ended)")
    }

    @Test func namesAreCompletedEverywhere() throws {
        for command in try CommandInfo.root().commands {
            for argument in command.shown {
                let name = argument.isPositional ? argument.valueName : argument.preferredName?.name
                guard let name, ["dest", "source", "group", "method"].contains(name) else {
                    continue
                }
                #expect(
                    argument.isCompleted,
                    "\(name) of roneo \(command.commandName) has no completion: in its definition"
                )
            }
        }
    }

    @Test(
        "words are read as the shell will read them",
        arguments: [
            ("plain", "plain"), ("'a b'", "a b"), ("\"a 'b'\"", "a 'b'"), ("a\\ b", "a b"),
            ("\"a\\nb\"", "a\\nb"), ("'host=x dbname='\\''y'\\'''", "host=x dbname='y'"),
            ("'open", "open"), ("$x", nil), ("\"$x\"", nil), ("'$x'", "$x"), ("`x`", nil),
        ] as [(String, String?)])
    func words(word: String, text: String?) {
        #expect(ShellWords.unquoted(word) == text)
    }

    @Test(
        "options lead to the destination, however they are written",
        arguments: [
            (["-h", "a"], "host", "a"), (["-ha"], "host", "a"), (["--host=a"], "host", "a"),
            (["--host", "=", "a"], "host", "a"), (["-p", "1"], "port", "1"),
            (["--username", "u"], "user", "u"),
        ])
    func options(words: [String], keyword: String, value: String) throws {
        let line = ShellWords(
            ["roneo", "run"] + words + [""], index: words.count + 2, prefix: "", shell: .bash)
        #expect(line.destination?.options[keyword] == value)
    }
}
