#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Which process a refresh was carried out by: what `roneo.run` keeps and what a DBA sees.
public struct RunnerIdentity: Sendable, Equatable, CustomStringConvertible {
    /// Six hexadecimal digits, drawn anew by each process.
    public let runId: String
    public let host: String
    public let process: Int32

    public init(runId: String, host: String, process: Int32) {
        self.runId = runId
        self.host = host
        self.process = process
    }

    /// This process.
    public static let current = RunnerIdentity(
        runId: String(UInt32.random(in: 0x10_0000...0xff_ffff), radix: 16),
        host: hostName(),
        process: getpid())

    public var description: String { "\(runId) \(host) \(process)" }

    /// `roneo <run id> <dest>`, as short as a server keeps it: 63 bytes, no character cut in two.
    ///
    /// Servers before 16 show any other byte than printable ASCII as a question mark; that is
    /// theirs to do.
    public func applicationName(for dest: String) -> String {
        var name = "roneo \(runId) "
        for character in dest {
            guard name.utf8.count + character.utf8.count <= 63 else { break }
            name.append(character)
        }
        return name
    }

    private static func hostName() -> String {
        var bytes = [CChar](repeating: 0, count: 256)
        guard gethostname(&bytes, bytes.count - 1) == 0 else { return "localhost" }
        let name = bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return String(decoding: name, as: UTF8.self)
    }
}
