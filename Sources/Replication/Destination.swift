import Postgres

/// Where the copies live, and how to get there.
public struct Destination: Sendable {
    /// Keywords and values, a URI or a database's name, as libpq takes them.
    public let conninfo: String
    /// libpq's keywords that are stronger than those in `conninfo`.
    public let options: [String: String]

    public init(conninfo: String = "", options: [String: String] = [:]) {
        self.conninfo = conninfo
        self.options = options
    }

    /// The versions of the extension that this program can work with begin so.
    private static let knownVersions = ["0.5."]

    /// The versions of the extension that this program can work with, for people.
    public static var knownVersionsText: String {
        knownVersions.map { $0 + "x" }.joined(separator: ", ")
    }

    /// A connection that hears nothing but errors, so that what a server sends during a COPY is
    /// one, and that writes, whatever a database's or a role's defaults are.
    func connect(
        applicationName: String, cancel: CancelToken?,
        timeout: Duration = .seconds(30)
    ) throws(RunError) -> Connection {
        do {
            let connection = try Connection(
                conninfo: conninfo, applicationName: applicationName,
                options: options.merging(["client_encoding": "UTF8"]) { given, _ in given },
                cancel: cancel, connectTimeout: timeout)
            try connection.execute(
                """
                SET client_min_messages = error; SET default_transaction_read_only = off; \
                SET default_transaction_isolation = 'read committed'; \
                SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; \
                SET tcp_keepalives_count = 3; SET tcp_user_timeout = 60000
                """)
            return connection
        } catch {
            throw RunError(destination: error)
        }
    }

    /// Whether the database is one this program can work in; false on a standby, where there is
    /// nothing to do.
    static func isPrimary(
        _ connection: Connection, timeLimit: Duration? = nil
    ) throws(RunError) -> Bool {
        do {
            let answer = try connection.execute("SELECT pg_is_in_recovery()", timeLimit: timeLimit)
            if answer.value == "t" { return false }
        } catch {
            throw RunError(destination: error)
        }
        try checkVersion(connection, timeLimit: timeLimit)
        return true
    }

    /// Throws unless the extension is there and of a version known here.
    static func checkVersion(
        _ connection: Connection, timeLimit: Duration? = nil
    ) throws(RunError) {
        let version: String
        do {
            // Not roneo.version(): who may only look at the status may not call it.
            let found = try connection.execute(
                "SELECT extversion FROM pg_extension WHERE extname = 'roneo'",
                timeLimit: timeLimit)
            version = found.value ?? ""
        } catch {
            throw RunError(destination: error)
        }
        guard !version.isEmpty else {
            let failure = Failure(
                sqlState: SQLState.undefinedSchema,
                message: "the extension roneo is not installed in the destination database",
                hint: "Run \"roneo install\" on the server, then CREATE EXTENSION roneo there.")
            throw RunError(.configuration, failure)
        }
        guard knownVersions.contains(where: version.hasPrefix) else {
            let failure = Failure(
                sqlState: SQLState.versionMismatch,
                message: "this program does not know version \(version) of the extension",
                detail: "It knows \(knownVersionsText).",
                hint: "Use the program of the same release, or ALTER EXTENSION roneo UPDATE.")
            throw RunError(.configuration, failure)
        }
    }
}
