import ArgumentParser
import Replication

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

extension CompletionKind {
    /// Replicas of the database that the command line leads to.
    static let replicas = names(.replica)
    /// Its sources.
    static let sources = names(.source)
    /// Its refresh groups.
    static let groups = names(.group)
    /// The methods of its replicas.
    static let methods = names(.method)

    private static func names(_ kind: NameLookup.Kind) -> CompletionKind {
        .custom { words, index, prefix in
            // A host's name that is looked up for ever must not hold up the shell either.
            signal(SIGALRM) { _ in _exit(0) }
            alarm(3)
            let line = ShellWords(
                words, index: index, prefix: prefix, shell: CompletionShell.requesting,
                version: CompletionShell.requestingVersion)
            guard let destination = line.destination else { return [] }
            return NameLookup(destination).names(kind, beginningWith: line.prefix)
                .compactMap { word($0, for: CompletionShell.requesting) }
        }
    }

    /// A name as the script of a shell takes it: zsh's has descriptions behind colons.
    static func word(_ name: String, for shell: CompletionShell?) -> String? {
        // A line each: what has several is for nobody to type.
        guard !name.unicodeScalars.contains(where: { $0.properties.generalCategory == .control })
        else { return nil }
        guard shell == .zsh else { return name }
        return name.replacing("\\", with: "\\\\").replacing(":", with: "\\:")
    }
}
