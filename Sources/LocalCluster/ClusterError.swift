#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What keeps a throw-away cluster from being made or changed.
public struct ClusterError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What is wrong, and where that helps, what to install.
    public let description: String

    init(_ description: String) { self.description = description }

    /// A failed call of the operating system, with its reason.
    static func system(_ what: String) -> ClusterError {
        ClusterError("\(what): \(String(cString: strerror(errno)))")
    }
}
