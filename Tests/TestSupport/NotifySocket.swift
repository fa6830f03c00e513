import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Hears what a service tells systemd.
public final class NotifySocket: Sendable {
    /// What goes into the environment as `NOTIFY_SOCKET`.
    public let name: String
    private let socket: Int32
    private let heard = Mutex<[String]>([])

    /// Begins to listen.
    /// - Parameter isAbstract: under a name that is not in the file system, as systemd may choose.
    public init(isAbstract: Bool = false) throws {
        name =
            "\(isAbstract ? "@" : "/tmp/")roneo-notify-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        #if canImport(Darwin)
            socket = Darwin.socket(AF_UNIX, SOCK_DGRAM, 0)
        #else
            socket = Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        #endif
        _ = fcntl(socket, F_SETFL, O_NONBLOCK)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var path = Array(name.utf8)
        if isAbstract { path[0] = 0 }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
        let length = MemoryLayout<sockaddr_un>.offset(of: \.sun_path)! + path.count
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(socket, $0, socklen_t(length))
            }
        }
        guard bound == 0 else { throw ClusterSetupError() }
    }

    deinit {
        close(socket)
        if name.hasPrefix("/") { unlink(name) }
    }

    /// All messages so far, in their order.
    public var messages: [String] {
        heard.withLock { heard in
            var bytes = [UInt8](repeating: 0, count: 4_096)
            while case let count = recv(socket, &bytes, bytes.count, 0), count > 0 {
                heard.append(String(decoding: bytes[..<count], as: UTF8.self))
            }
            return heard
        }
    }
}
