#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A run of another program, to its end.
package struct Program {
    /// What it printed, on both of its outputs.
    package let output: String
    /// Its exit status, or 128 + the signal that ended it.
    package let status: Int32

    /// Runs a program in a directory, as the server's user where we are root.
    ///
    /// Output goes through a file and not through a pipe, which a server that the program leaves
    /// behind would keep open. The environment's PG* variables are kept away from it.
    package static func run(
        _ command: [String], in directory: String, as account: Account = .caller,
        input: String = ""
    ) throws(ClusterError) -> Program {
        // posix_spawn could change the folder too, but not by a function that Swift's Glibc has.
        let command =
            ["sh", "-c", "cd \"$0\" && exec \"$@\"", directory] + account.prefix + command
        let (inputFile, outputFile) = (try temporaryFile(), try temporaryFile())
        defer {
            close(inputFile)
            close(outputFile)
        }
        var bytes = Array(input.utf8)[...]
        while !bytes.isEmpty {
            let written = bytes.withUnsafeBytes { write(inputFile, $0.baseAddress, $0.count) }
            guard written > 0 else { throw .system("could not write a temporary file") }
            bytes = bytes.dropFirst(written)
        }
        lseek(inputFile, 0, SEEK_SET)
        let child = try spawn(command, inputFile, outputFile)
        var state: Int32 = 0
        while waitpid(child, &state, 0) < 0 {
            guard errno == EINTR else { throw .system("could not wait for \(command[0])") }
        }
        let signal = state & 0x7f
        return Program(
            output: contents(of: outputFile), status: signal == 0 ? state >> 8 & 0xff : 128 + signal
        )
    }

    /// Starts a program without waiting for it.
    /// - Parameter inOwnGroup: out of reach of the terminal's ^C.
    static func spawn(
        _ command: [String], _ input: Int32, _ output: Int32, inOwnGroup: Bool = false
    ) throws(ClusterError) -> pid_t {
        #if canImport(Darwin)
            var files: posix_spawn_file_actions_t?
            var attributes: posix_spawnattr_t?
        #else
            var files = posix_spawn_file_actions_t()
            var attributes = posix_spawnattr_t()
        #endif
        posix_spawn_file_actions_init(&files)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&files)
            posix_spawnattr_destroy(&attributes)
        }
        posix_spawn_file_actions_adddup2(&files, input, 0)
        posix_spawn_file_actions_adddup2(&files, output, 1)
        posix_spawn_file_actions_adddup2(&files, output, 2)
        // Our own threads block signals; a server must not inherit that.
        var (none, all) = (sigset_t(), sigset_t())
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        let group = inOwnGroup ? POSIX_SPAWN_SETPGROUP : 0
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | group))
        var arguments = command.map { strdup($0) } + [nil]
        var environment = environmentForServers().map { strdup($0) } + [nil]
        defer {
            for string in arguments + environment { free(string) }
        }
        var child: pid_t = 0
        let failure = posix_spawnp(
            &child, command[0], &files, &attributes, &arguments, &environment)
        guard failure == 0 else {
            throw ClusterError(
                "could not run \(command[0]): \(String(cString: strerror(failure)))")
        }
        return child
    }

    private static func environmentForServers() -> [String] {
        var variables: [String] = []
        var entry = environ
        while let variable = entry.pointee {
            let text = String(cString: variable)
            if !text.hasPrefix("PG"), !text.hasPrefix("LC_"), !text.hasPrefix("LANG") {
                variables.append(text)
            }
            entry += 1
        }
        return variables + ["LC_ALL=C"]
    }

    private static func temporaryFile() throws(ClusterError) -> Int32 {
        var template = Array("/tmp/roneo-run-XXXXXX".utf8CString)
        let file = mkstemp(&template)
        guard file >= 0 else { throw .system("could not make a temporary file") }
        unlink(template)
        // Both ends are handed over by number; nothing else may keep them.
        _ = fcntl(file, F_SETFD, FD_CLOEXEC)
        return file
    }

    private static func contents(of file: Int32) -> String {
        lseek(file, 0, SEEK_SET)
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 8192)
        while true {
            let count = read(file, &buffer, buffer.count)
            guard count > 0 else { break }
            text += buffer[..<count]
        }
        return String(decoding: text, as: UTF8.self)
    }
}

/// Who runs the servers: the caller, or where that is root (whom servers refuse) someone else.
package struct Account: Sendable {
    /// The user's and group's numbers when they are not the caller's.
    let owner: (user: uid_t, group: gid_t)?
    /// What is put before a command.
    let prefix: [String]

    package static let caller = Account(owner: nil, prefix: [])

    static func forServers() throws(ClusterError) -> Account {
        guard geteuid() == 0 else { return .caller }
        for name in ["postgres", "nobody"] {
            guard let entry = getpwnam(name) else { continue }
            return Account(
                owner: (entry.pointee.pw_uid, entry.pointee.pw_gid),
                prefix: ["runuser", "-u", name, "--"])
        }
        throw ClusterError(
            "PostgreSQL does not run as root, and there is no user \"postgres\" to run it as. "
                + "Run this as another user, or: useradd --system postgres")
    }
}
