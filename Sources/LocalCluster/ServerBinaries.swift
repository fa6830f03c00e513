#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The programs of an installed PostgreSQL server.
public struct ServerBinaries: Equatable, Sendable {
    /// Their folder.
    public let directory: String
    /// The server's major version, such as 15.
    public let majorVersion: Int

    /// The oldest server that can be a destination.
    static let oldestMajor = 14

    /// The programs to use: those of `RONEO_BINDIR`, else those that pg_config names, else the
    /// newest of the usual places.
    public static func find() throws(ClusterError) -> ServerBinaries {
        if let wanted = getenv("RONEO_BINDIR") {
            let directory = String(cString: wanted)
            guard let found = ServerBinaries(in: directory) else {
                throw ClusterError(
                    "RONEO_BINDIR is \(directory), where no initdb, postgres and pg_ctl are")
            }
            return found
        }
        let configured = namedByPgConfig().map { [$0] } ?? []
        return try newest(of: usualPlaces(), preferring: configured)
    }

    static func newest(
        of places: [String], preferring preferred: [ServerBinaries] = []
    )
        throws(ClusterError) -> ServerBinaries
    {
        if let found = preferred.first(where: { $0.majorVersion >= oldestMajor }) { return found }
        let found = places.compactMap(ServerBinaries.init(in:))
            .max { $0.majorVersion < $1.majorVersion }
        if let found, found.majorVersion >= oldestMajor { return found }
        throw ClusterError(
            """
            no PostgreSQL server programs (initdb, postgres, pg_ctl) of version \(oldestMajor) or \
            newer were found. Install them (Debian and Ubuntu: apt install postgresql; Fedora: \
            dnf install postgresql-server; macOS: brew install postgresql), or set RONEO_BINDIR \
            to their folder.
            """)
    }

    /// The programs in a folder, if they are there and run.
    init?(in directory: String) {
        let names = ["initdb", "postgres", "pg_ctl"]
        guard names.allSatisfy({ access("\(directory)/\($0)", X_OK) == 0 }),
            let version = try? Program.run(["\(directory)/postgres", "--version"], in: "/"),
            version.status == 0,
            // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
            let number = version.output.split(separator: " ").dropFirst(2).first,
            let major = Int(number.prefix { $0.isNumber })
        else { return nil }
        self.directory = directory
        majorVersion = major
    }

    private static func namedByPgConfig() -> ServerBinaries? {
        let program = getenv("PG_CONFIG").map { String(cString: $0) } ?? "pg_config"
        guard let answer = try? Program.run([program, "--bindir"], in: "/"), answer.status == 0
        else { return nil }
        return ServerBinaries(in: String(answer.output.prefix { $0 != "\n" }))
    }

    private static func usualPlaces() -> [String] {
        let versions = (oldestMajor...30).reversed()
        let path = getenv("PATH").map { String(cString: $0) } ?? ""
        return versions.flatMap {
            [
                "/usr/lib/postgresql/\($0)/bin", "/usr/pgsql-\($0)/bin",
                "/opt/homebrew/opt/postgresql@\($0)/bin", "/usr/local/opt/postgresql@\($0)/bin",
            ]
        } + path.split(separator: ":").map(String.init)
    }
}
