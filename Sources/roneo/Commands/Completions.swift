import ArgumentParser

struct Completions: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print the completion script of a shell.",
        discussion: """
            "roneo install" and "make install" put these where the shells look. Elsewhere:

              roneo completions bash >~/.local/share/bash-completion/completions/roneo
              roneo completions zsh >~/.zfunc/_roneo     # a folder of fpath
              roneo completions fish >~/.config/fish/completions/roneo.fish

            Names of replicas, sources, groups and methods come from the database that the \
            options typed so far lead to, or the environment (PGHOST …). A database that gives no \
            answer within a second or two completes nothing, and says nothing.
            """)

    /// The shells there are scripts for.
    enum Shell: String, ExpressibleByArgument, CaseIterable {
        case bash, zsh, fish

        /// The script.
        var script: String {
            let kind: CompletionShell =
                switch self {
                case .bash: .bash
                case .zsh: .zsh
                case .fish: .fish
                }
            return Roneo.completionScript(for: kind)
        }
    }

    @Argument(help: "bash, zsh or fish.")
    var shell: Shell

    func run() async throws {
        Terminal.output.line(shell.script)
    }
}
