#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The manual page and the completions, where man and the shells look for those of programs that
/// are installed beside the system's own.
struct ShellFiles {
    /// Such as `/usr/local`.
    let prefix: String

    /// - Parameter prefix: else the one that the program itself is installed under, else
    ///   `/usr/local`.
    init(prefix given: String?) throws(InstallationError) {
        guard given?.hasPrefix("/") ?? true else {
            throw InstallationError(
                message: "--prefix \(given ?? "") is no absolute path",
                hint: "Name it from the root, such as /usr/local.")
        }
        let bin = "/bin/roneo"
        let program = File.executable()
        let own = program.hasSuffix(bin) ? String(program.dropLast(bin.count)) : nil
        prefix = given ?? own ?? "/usr/local"
    }

    /// Where each goes, DESTDIR included.
    var paths: [String] {
        let root = environment("DESTDIR") ?? ""
        return Self.contents.map { content in
            // Without XDG_DATA_DIRS fish looks for no completions in /usr/local, but always here.
            let site = "\(root)/etc/fish/completions"
            if prefix == "/usr/local", content.path.hasPrefix("fish/"), access(site, F_OK) == 0 {
                return "\(site)/roneo.fish"
            }
            return "\(root)\(prefix)/share/\(content.path)"
        }
    }

    /// The first folder on the way that is there, where it may not be written.
    func obstacle() -> String? {
        for path in paths {
            var folder = path[...]
            repeat {
                folder = folder[..<(folder.lastIndex(of: "/") ?? folder.startIndex)]
            } while !folder.isEmpty && access(String(folder), F_OK) != 0
            let place = folder.isEmpty ? "/" : String(folder)
            if access(place, W_OK) != 0 { return place }
        }
        return nil
    }

    /// Writes them; returns the paths.
    func install() throws(InstallationError) -> [String] {
        for (path, content) in zip(paths, Self.contents) {
            File.makeDirectory(String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]))
            let text: String
            do {
                text = try content.text()
            } catch {
                throw InstallationError(message: "\(path) could not be made: \(error)")
            }
            if let problem = File.replace(path, with: text) {
                throw InstallationError(message: problem)
            }
        }
        return paths
    }

    private static let contents: [(path: String, text: @Sendable () throws -> String)] = [
        ("man/man1/roneo.1", { try ManualPage.text() }),
        ("bash-completion/completions/roneo", { Completions.Shell.bash.script + "\n" }),
        ("zsh/site-functions/_roneo", { Completions.Shell.zsh.script + "\n" }),
        ("fish/vendor_completions.d/roneo.fish", { Completions.Shell.fish.script + "\n" }),
    ]
}
