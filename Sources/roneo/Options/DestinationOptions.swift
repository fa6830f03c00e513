import ArgumentParser
import Postgres
import Replication

/// Where the destination is, as libpq's programs say it.
struct DestinationOptions: ParsableArguments {
    @Option(
        name: [.customShort("h"), .long],
        help: "Server's host, or the directory of its socket.")
    var host: String?
    @Option(name: .shortAndLong, help: "Server's port.")
    var port: UInt16?
    @Option(name: [.customShort("U"), .long], help: "Role to connect as.")
    var username: String?
    @Option(
        name: .shortAndLong,
        help: "Destination database: its name, a connection string or a URI.")
    var dbname: String?
    @Flag(
        name: [.customShort("w"), .long],
        help: "Never ask for a password (as roneo never does).")
    var noPassword = false

    var destination: Destination {
        var options: [String: String] = [:]
        options["host"] = host
        options["port"] = port.map { String($0) }
        options["user"] = username
        return Destination(conninfo: dbname ?? "", options: options)
    }
}

/// How to reach sources other than by their user mappings.
struct SourceOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "How to connect to a source, in place of its user mapping; repeatable.",
            valueName: "name=conninfo"))
    var sourceConninfo: [NamedConninfo] = []

    var conninfos: [String: String] {
        Dictionary(sourceConninfo.map { ($0.name, $0.conninfo) }) { _, last in last }
    }

    func validate() throws {
        let names = sourceConninfo.map(\.name)
        guard Set(names).count == names.count else {
            throw ValidationError("A source is given more than one --source-conninfo.")
        }
    }
}

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
