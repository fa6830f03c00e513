#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A small shell that outlives this process, whichever way it ends, and then runs a command.
///
/// It reads from a pipe that only this process holds open: the end of the pipe is the end of the
/// process. So not even `kill -9` leaves a server behind.
struct Guardian: Sendable {
    private let shell: pid_t
    private let pipe: Int32

    /// Begins to wait; nil where the system has no process or descriptor left.
    init?(then command: [String]) {
        var ends: [Int32] = [-1, -1]
        #if canImport(Darwin)
            guard Darwin.pipe(&ends) == 0 else { return nil }
        #else
            guard Glibc.pipe(&ends) == 0 else { return nil }
        #endif
        defer { close(ends[0]) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let null = open("/dev/null", O_WRONLY | O_CLOEXEC)
        defer { close(null) }
        let waiting = ["sh", "-c", "read -r _; exec \"$@\"", "sh"] + command
        guard let shell = try? Program.spawn(waiting, ends[0], null, inOwnGroup: true) else {
            close(ends[1])
            return nil
        }
        self.shell = shell
        pipe = ends[1]
    }

    /// Not needed any more: everything has been done.
    func dismiss() {
        kill(shell, SIGKILL)
        waitpid(shell, nil, 0)
        close(pipe)
    }
}
