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
            let script = Roneo.completionScript(for: kind)
            return self == .bash ? Self.withoutExpansion(script) : script
        }

        /// As generated, bash would expand names as it does a command line (that is what compgen
        /// makes of a list), losing their quotes and running what looks like a command. They are
        /// chosen by their beginnings already, so they are taken as they are.
        private static func withoutExpansion(_ script: String) -> String {
            let caller = "__roneo_add_completions -W \"$(__roneo_custom_complete"
            let function = """
                __roneo_add_names() {
                    local name
                    while IFS='' read -r name; do
                        [[ -z "${name}" ]] || COMPREPLY+=("${name}")
                    done <<<"${1}"
                }

                __roneo_custom_complete() {
                """
            return script.replacing(caller, with: "__roneo_add_names \"$(__roneo_custom_complete")
                .replacing("__roneo_custom_complete() {", with: function, maxReplacements: 1)
        }
    }

    @Argument(help: "bash, zsh or fish.")
    var shell: Shell

    func run() async throws {
        Terminal.output.line(shell.script)
    }
}
