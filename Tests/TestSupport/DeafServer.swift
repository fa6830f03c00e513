#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A socket that takes connections and never says a word.
public final class DeafServer: Sendable {
    /// What leads to it.
    public var conninfo: String { "host=\(directory) port=5432 user=u dbname=d" }

    private let directory: String
    private let socket: Int32

    /// Begins to listen.
    public init() throws {
        var template = Array("/tmp/roneo-deaf-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw ClusterSetupError() }
        directory = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        #if canImport(Darwin)
            socket = Darwin.socket(AF_UNIX, SOCK_STREAM, 0)
        #else
            socket = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        #endif
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let path = Array("\(directory)/.s.PGSQL.5432".utf8CString)
        withUnsafeMutableBytes(of: &address.sun_path) { place in
            path.withUnsafeBytes { place.copyMemory(from: $0) }
        }
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard bound == 0, listen(socket, 5) == 0 else { throw ClusterSetupError() }
    }

    deinit {
        close(socket)
        unlink("\(directory)/.s.PGSQL.5432")
        rmdir(directory)
    }
}

/// The operating system refused what a test needs.
struct ClusterSetupError: Error {}
