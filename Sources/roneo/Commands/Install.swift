import ArgumentParser
import Replication

struct Install: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Put the extension's files where pg_config says, or say how.",
        discussion: """
            On the destination's server, from a checkout in which the extension is built \
            (make -C extension). DESTDIR is honoured, as by make install. Sources need nothing.
            """)

    @Option(help: "The folder with roneo.control and the scripts; else that of the checkout.")
    var from: String?
    @Option(help: "The server's pg_config; else PG_CONFIG, else the one in PATH.")
    var pgConfig: String?
    @Flag(name: [.customShort("n"), .long], help: "Only say what would be written.")
    var dryRun = false

    func run() async throws {
        do {
            let files = try ExtensionFiles(in: from)
            let program = pgConfig ?? environment("PG_CONFIG") ?? "pg_config"
            let target = try ExtensionFiles.target(pgConfig: program)
            if dryRun {
                for path in files.paths { Terminal.output.line("\(path) -> \(target)") }
                return
            }
            try install(files, to: target, program)
        } catch let error as InstallationError {
            Terminal.error.line(
                Terminal.error.styled("roneo: \(error.message)", .red)
                    + (error.hint.map { "\n  hint:     \($0)" } ?? ""))
            throw ExitCode(ExitStatus.replicaFailed.code)
        }
    }

    private func install(
        _ files: ExtensionFiles, to target: String, _ program: String
    ) throws {
        do {
            for path in try files.install(to: target) { Terminal.output.line("installed \(path)") }
            Terminal.output.line("Now, in the destination database: CREATE EXTENSION roneo;")
        } catch var error {
            // Who may not write there learns the line that does it.
            if error.hint == nil {
                let command = CommandLine.arguments[0]
                error.hint =
                    "Run: sudo \(command) install --from \(files.directory) --pg-config \(program)"
            }
            throw error
        }
    }
}
