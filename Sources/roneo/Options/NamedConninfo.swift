import ArgumentParser

/// `NAME=CONNINFO`
struct NamedConninfo: ExpressibleByArgument, Equatable {
    let name: String
    let conninfo: String

    init?(argument: String) {
        let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return nil }
        name = String(parts[0])
        conninfo = String(parts[1])
    }
}
