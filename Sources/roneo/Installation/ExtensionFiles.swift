import LocalCluster

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The extension's files: where they are, and where a server looks for them.
struct ExtensionFiles {
    /// The folder with `roneo.control`.
    let directory: String
    /// Paths of the control file and of all scripts.
    let paths: [String]

    /// Those in a folder, or else in the checkout that the program is in.
    init(in given: String?) throws(InstallationError) {
        let directory = try Self.find(given)
        self.directory = directory
        let built = File.names(in: directory)
            .filter { $0.hasPrefix("roneo--") && $0.hasSuffix(".sql") }
        let released = File.names(in: "\(directory)/released").filter { $0.hasSuffix(".sql") }
        let version = try Self.version(directory)
        guard built.contains("roneo--\(version).sql") else {
            throw InstallationError(
                message: "the scripts of version \(version) are not built in \(directory)",
                hint: "Run: make -C \(directory)")
        }
        paths =
            ["\(directory)/roneo.control"] + built.sorted().map { "\(directory)/\($0)" }
            + released.filter { !built.contains($0) }.sorted().map { "\(directory)/released/\($0)" }
    }

    /// Where the server that a pg_config belongs to looks for extensions.
    static func target(pgConfig: String) throws(InstallationError) -> String {
        let answer = try? Program.run([pgConfig, "--sharedir"], in: "/")
        guard let answer, answer.status == 0 else {
            throw InstallationError(
                message: "\(pgConfig) does not say where the server's files are",
                hint: "Name the server's own with --pg-config or PG_CONFIG, such as "
                    + "/usr/lib/postgresql/17/bin/pg_config.")
        }
        let root = environment("DESTDIR") ?? ""
        return "\(root)\(answer.output.prefix { $0 != "\n" })/extension"
    }

    /// Puts them there, each beside its place first and then renamed, so that no server ever reads
    /// half a script. Returns the paths written.
    func install(to target: String) throws(InstallationError) -> [String] {
        if environment("DESTDIR")?.isEmpty == false { File.makeDirectory(target) }
        guard access(target, F_OK) == 0 else {
            throw InstallationError(
                message: "there is no folder \(target)",
                hint: "Install the PostgreSQL server first, or name another one with --pg-config.")
        }
        guard access(target, W_OK) == 0 else {
            throw InstallationError(message: "\(target) may not be written: permission denied")
        }
        var written: [String] = []
        for path in paths {
            let name = path.split(separator: "/").last ?? ""
            let place = "\(target)/\(name)"
            guard File.copy(path, to: "\(place).new"), rename("\(place).new", place) == 0 else {
                let reason = String(cString: strerror(errno))
                unlink("\(place).new")
                throw InstallationError(message: "\(place) could not be written: \(reason)")
            }
            written.append(place)
        }
        return written
    }

    private static func find(_ given: String?) throws(InstallationError) -> String {
        var candidates: [String] = []
        if let given {
            candidates = [given]
        } else {
            var folder = File.executable()[...]
            while let slash = folder.lastIndex(of: "/") {
                folder = folder[..<slash]
                candidates.append("\(folder)/extension")
            }
        }
        for candidate in candidates where access("\(candidate)/roneo.control", R_OK) == 0 {
            return File.resolved(candidate)
        }
        throw InstallationError(
            message: given.map { "there is no roneo.control in \($0)" }
                ?? "this program is not in a checkout of roneo, so the extension's files are not found",
            hint: "Give the checkout's folder \"extension\" with --from.")
    }

    /// `default_version` of the control file.
    private static func version(_ directory: String) throws(InstallationError) -> String {
        let lines = File.text("\(directory)/roneo.control").split(separator: "\n")
        for line in lines where line.hasPrefix("default_version") {
            let parts = line.split(separator: "'")
            if parts.count > 1 { return String(parts[1]) }
        }
        throw InstallationError(message: "\(directory)/roneo.control names no default_version")
    }
}
