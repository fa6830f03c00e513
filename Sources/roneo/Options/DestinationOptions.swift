import ArgumentParser
import Postgres
import Replication

/// Where the destination is, as libpq's programs say it.
struct DestinationOptions: ParsableArguments {
    @Option(
        name: [.customShort("h"), .long],
        help: "Server's host, or the directory of its socket.", completion: .directory)
    var host: String?
    @Option(name: .shortAndLong, help: "Server's port.")
    var port: UInt16?
    @Option(
        name: [.customShort("U"), .long],
        help: ArgumentHelp("Role to connect as.", valueName: "role"))
    var username: String?
    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "Destination database: its name, a connection string or a URI.",
            valueName: "database"))
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
