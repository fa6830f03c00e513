#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The few things done with files, without Foundation.
enum File {
    static func names(in directory: String) -> [String] {
        guard let folder = opendir(directory) else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            names.append(
                withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 1) { String(cString: $0) }
                })
        }
        return names
    }

    static func text(_ path: String) -> String {
        String(decoding: bytes(path) ?? [], as: UTF8.self)
    }

    static func copy(_ path: String, to other: String) -> Bool {
        guard let bytes = bytes(path) else { return false }
        let file = open(other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard file >= 0 else { return false }
        // Whatever the caller's umask: the server's user must be able to read it.
        var isWritten = fchmod(file, 0o644) == 0
        var rest = bytes[...]
        while isWritten, !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
            isWritten = count > 0
            rest = rest.dropFirst(max(0, count))
        }
        return close(file) == 0 && isWritten
    }

    /// Writes beside the file and renames, so that no reader ever sees a part of it.
    /// - Returns: what went wrong, in the system's words; nil where nothing did.
    ///
    /// A device or a pipe, which a rename would put an ordinary file in place of, is written to.
    static func replace(_ path: String, with text: String) -> String? {
        if isSpecial(path) { return fill(path, with: text) }
        let folder = path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
        let name = path.split(separator: "/").last.map(String.init) ?? path
        let beside = (folder + [".\(name).\(getpid())"]).joined(separator: "/")
        if let problem = fill(beside, with: text) {
            unlink(beside)
            return problem
        }
        guard rename(beside, path) == 0 else {
            defer { unlink(beside) }
            return problem("\(path) cannot be replaced")
        }
        return nil
    }

    private static func isSpecial(_ path: String) -> Bool {
        var found = stat()
        guard stat(path, &found) == 0 else { return false }
        return ![S_IFREG, S_IFDIR].contains(found.st_mode & S_IFMT)
    }

    private static func fill(_ path: String, with text: String) -> String? {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard file >= 0 else { return problem("\(path) cannot be written") }
        var isWritten = isSpecial(path) || fchmod(file, 0o644) == 0
        var rest = Array(text.utf8)[...]
        while isWritten, !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
            isWritten = count > 0
            rest = rest.dropFirst(max(0, count))
        }
        let reason = isWritten ? nil : problem("\(path) cannot be written")
        guard close(file) == 0, reason == nil else {
            return reason ?? problem("\(path) cannot be written")
        }
        return nil
    }

    private static func problem(_ what: String) -> String {
        "\(what): \(String(cString: strerror(errno)))"
    }

    static func makeDirectory(_ path: String) {
        var made = ""
        for part in path.split(separator: "/") {
            made += "/\(part)"
            mkdir(made, 0o755)
        }
    }

    /// Where this program is.
    static func executable() -> String {
        #if canImport(Glibc)
            let path = "/proc/self/exe"
        #else
            let path = CommandLine.arguments[0]
        #endif
        return resolved(path)
    }

    static func resolved(_ path: String) -> String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }

    private static func bytes(_ path: String) -> [UInt8]? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = read(file, &buffer, buffer.count)
            if count < 0 { return nil }
            if count == 0 { return bytes }
            bytes += buffer[..<count]
        }
    }
}
