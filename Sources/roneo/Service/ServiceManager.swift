#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Tells systemd how a service of `Type=notify` is, as sd_notify(3) does: a datagram to the socket
/// that the environment names. Without one there is nobody to tell.
struct ServiceManager: Sendable {
    private let socketPath: String

    /// The one that started this process.
    static let current = ServiceManager(socketPath: environment("NOTIFY_SOCKET"))

    init?(socketPath: String?) {
        // '@' begins a name that is not in the file system.
        guard let socketPath, let first = socketPath.first, first == "/" || first == "@" else {
            return nil
        }
        self.socketPath = socketPath
    }

    /// Within this time it wants to hear that the process is alive, or it ends it.
    static var watchdog: Duration? {
        guard let time = environment("WATCHDOG_USEC").flatMap({ Int64($0) }), time > 0 else {
            return nil
        }
        // A process that was started by the one that is watched is not meant.
        let process = environment("WATCHDOG_PID").map { Int32($0) == getpid() } ?? true
        return process ? .microseconds(time) : nil
    }

    func isReady() { send("READY=1\nSTATUS=following") }

    func isAlive() { send("WATCHDOG=1") }

    func isStopping() { send("STOPPING=1\nSTATUS=stopping") }

    /// A line for `systemctl status`.
    func status(_ text: String) {
        send("STATUS=\(text.split(separator: "\n").joined(separator: " "))")
    }

    /// Nobody waits for it, and one that gets lost is no reason to stop the work.
    private func send(_ message: String) {
        #if canImport(Glibc)
            let datagram = Int32(SOCK_DGRAM.rawValue)
        #else
            let datagram = SOCK_DGRAM
        #endif
        let descriptor = socket(AF_UNIX, datagram, 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        var path = Array(socketPath.utf8)
        var address = sockaddr_un()
        guard path.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
        if path[0] == UInt8(ascii: "@") { path[0] = 0 }
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
        // A name that is not in the file system has no end but its length.
        let length = MemoryLayout<sockaddr_un>.offset(of: \.sun_path)! + path.count
        let bytes = Array(message.utf8)
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { target in
                _ = sendto(descriptor, bytes, bytes.count, 0, target, socklen_t(length))
            }
        }
    }
}
