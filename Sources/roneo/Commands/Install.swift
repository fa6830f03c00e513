import ArgumentParser
import Replication

struct Install: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Put the extension's files, the manual and completions in place.",
        usage: "roneo install [<options>]",
        discussion: """
            On the destination's server, from a checkout in which the extension is built \
            (make -C extension). The extension's files go where pg_config says; the manual page \
            and the completions for bash, zsh and fish below PREFIX/share. DESTDIR is honoured, \
            as by make install. Sources need nothing.

              sudo .build/release/roneo install
              roneo install --dry-run                    only say what would be written
              roneo install --without-extension          on a host that only runs roneo

            Exit status: 0; 1 when something could not be written, with the line that does it.
            """)

    @Option(
        help: ArgumentHelp(
            "The folder with roneo.control and the scripts; else that of the checkout.",
            valueName: "folder"),
        completion: .directory)
    var from: String?
    @Option(
        help: ArgumentHelp(
            "The server's pg_config; else PG_CONFIG, else the one in PATH.", valueName: "file"),
        completion: .file())
    var pgConfig: String?
    @Option(
        help: ArgumentHelp(
            "Where manual and completions go; else where roneo is, or /usr/local.",
            valueName: "folder"),
        completion: .directory)
    var prefix: String?
    @Flag(help: "Only the manual and the completions.")
    var withoutExtension = false
    @Flag(name: [.customShort("n"), .long], help: "Only say what would be written.")
    var dryRun = false
    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        guard !withoutExtension || (from == nil && pgConfig == nil) else {
            throw ValidationError("--from and --pg-config do not go with --without-extension.")
        }
    }

    func run() async throws {
        do {
            let shell = try ShellFiles(prefix: prefix)
            let program = pgConfig ?? environment("PG_CONFIG") ?? "pg_config"
            let files = withoutExtension ? nil : try ExtensionFiles(in: from)
            let target = files == nil ? nil : try ExtensionFiles.target(pgConfig: program)
            var pairs = (files?.paths ?? []).map { (String?.some($0), target ?? "") }
            pairs += shell.paths.map { (nil, $0) }
            if dryRun { return tell(pairs) }
            try install(files, to: target, shell, program)
        } catch let error as InstallationError {
            Terminal.error.line(
                Terminal.error.styled("roneo: \(error.message)", .red)
                    + (error.hint.map { "\n  hint:     \($0)" } ?? ""))
            throw ExitCode(ExitStatus.replicaFailed.code)
        }
    }

    /// What would be done: a file and where it goes, or only where, when its text is made here.
    private func tell(_ pairs: [(String?, String)]) {
        if json {
            let list = pairs.map { JSON.object(["from": JSON($0), "to": JSON($1)]) }
            return Terminal.output.line(JSON.object(["would_install": .array(list)]).description)
        }
        for (from, to) in pairs {
            Terminal.output.line(from.map { "\($0) -> \(to)" } ?? "-> \(to)")
        }
    }

    private func install(
        _ files: ExtensionFiles?, to target: String?, _ shell: ShellFiles, _ program: String
    ) throws {
        do {
            // Half of it would be worse than nothing.
            if let place = shell.obstacle() {
                throw InstallationError(message: "\(place) may not be written: permission denied")
            }
            var written: [String] = []
            if let files, let target { written += try files.install(to: target) }
            written += try shell.install()
            if json {
                let list = JSON.array(written.map { JSON($0) })
                return Terminal.output.line(JSON.object(["installed": list]).description)
            }
            for path in written { Terminal.output.line("installed \(path)") }
            guard files != nil else { return }
            Terminal.output.line("Now, in the destination database: CREATE EXTENSION roneo;")
        } catch var error as InstallationError {
            // Who may not write there learns the line that does it.
            if error.hint == nil {
                var words = ["sudo", CommandLine.arguments[0], "install"]
                if let files { words += ["--from", files.directory, "--pg-config", program] }
                if files == nil { words.append("--without-extension") }
                if let prefix { words += ["--prefix", prefix] }
                error.hint = "Run: " + words.joined(separator: " ")
            }
            throw error
        }
    }
}
