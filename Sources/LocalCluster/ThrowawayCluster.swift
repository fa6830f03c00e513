import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A PostgreSQL cluster for a demonstration or a test, gone when it is no longer used.
///
/// It listens on a Unix socket of its own and nowhere else, takes everyone at their word, and does
/// not care for its data (`fsync = off`).
public final class ThrowawayCluster: Sendable {
    /// The folder of everything that belongs to it, the socket included.
    public let directory: String
    /// The programs that run it.
    public let binaries: ServerBinaries
    /// The number in the socket's name.
    public let port = 5432
    /// The name of the role that may do everything.
    public let superuser = "postgres"

    private let account: Account
    private let running = Mutex(false)
    private var data: String { "\(directory)/data" }

    /// Makes a cluster and starts it.
    ///
    /// - Parameters:
    ///   - name: part of the directory's name.
    ///   - settings: further lines of postgresql.conf, such as `["wal_level": "logical"]`.
    public convenience init(
        name: String = "cluster", settings: [String: String] = [:]
    )
        throws(ClusterError)
    {
        try self.init(empty: name, binaries: ServerBinaries.find())
        try call(
            "initdb", "-D", data, "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        try configure(Self.baseSettings.merging(settings) { $1 })
        try start()
    }

    private init(empty name: String, binaries: ServerBinaries) throws(ClusterError) {
        self.binaries = binaries
        account = try Account.forServers()
        // A socket's path has room for about 100 bytes only; TMPDIR may be longer.
        var template = Array("/tmp/roneo-\(name)-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw .system("could not make a folder in /tmp") }
        directory = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        if let owner = account.owner, chown(directory, owner.user, owner.group) != 0 {
            throw .system("could not hand \(directory) to the server's user")
        }
        Leftovers.shared.expect(self.directory, stop: stopCommand("immediate"), account)
    }

    deinit { remove() }

    private static let baseSettings = [
        "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
        // Who waits until a commit is on disk need not wait for long.
        "wal_writer_delay": "10ms",
        "listen_addresses": "", "shared_buffers": "32MB", "max_connections": "60",
        "timezone": "UTC", "log_timezone": "UTC", "jit": "off",
    ]

    private func configure(_ settings: [String: String]) throws(ClusterError) {
        var settings = settings
        settings["port"] = "\(port)"
        settings["unix_socket_directories"] = directory
        let lines = settings.sorted { $0.key < $1.key }.map { name, value in
            "\(name) = '\(value.doubling("'"))'\n"
        }
        // The server's user owns the file, and so writes it.
        let program = try Program.run(
            ["sh", "-c", "cat >> data/postgresql.conf"], in: directory, as: account,
            input: lines.joined())
        guard program.status == 0 else { throw ClusterError(program.output) }
    }
}

// MARK: - Life and death

extension ThrowawayCluster {
    /// Whether it was started and not stopped since.
    public var isRunning: Bool { running.withLock { $0 } }

    /// Starts it again, and waits until it takes connections.
    public func start() throws(ClusterError) {
        let log = "\(directory)/log"
        let program = try Program.run(
            ["\(binaries.directory)/pg_ctl", "start", "-w", "-D", data, "-l", log, "-s"],
            in: directory, as: account)
        guard program.status == 0 else {
            let tail = try? Program.run(["tail", "-n", "20", log], in: directory)
            throw ClusterError(
                "the server does not start: \(program.output)\(tail?.output ?? "")")
        }
        running.withLock { $0 = true }
    }

    /// Stops it properly; the data stays for another start.
    public func stop() throws(ClusterError) { try stop("fast") }

    /// Stops it as a crash would: the next start recovers.
    public func crash() throws(ClusterError) { try stop("immediate") }

    /// Stops and starts it.
    public func restart() throws(ClusterError) {
        try stop()
        try start()
    }

    /// Makes a standby a server of its own.
    public func promote() throws(ClusterError) {
        try call("pg_ctl", "promote", "-w", "-D", data, "-s")
    }

    /// A streaming standby of this cluster, started.
    /// - Parameter settings: lines of postgresql.conf that differ from this cluster's.
    public func standby(settings: [String: String] = [:]) throws(ClusterError) -> ThrowawayCluster {
        let standby = try ThrowawayCluster(empty: "standby", binaries: binaries)
        try standby.call(
            "pg_basebackup", "-d", conninfo(database: ""), "-D", standby.data, "-R", "-X", "stream",
            "-c", "fast", "--no-sync")
        try standby.configure(settings)
        try standby.start()
        return standby
    }

    /// Stops it and removes every trace; safe to call again.
    ///
    /// Done at the latest at deinit or the normal end of the process.
    public func remove() {
        running.withLock { $0 = false }
        Leftovers.shared.remove(directory)
    }

    private func stop(_ mode: String) throws(ClusterError) {
        let program = try Program.run(stopCommand(mode), in: directory, as: account)
        guard program.status == 0 else { throw ClusterError(program.output) }
        running.withLock { $0 = false }
    }

    private func stopCommand(_ mode: String) -> [String] {
        ["\(binaries.directory)/pg_ctl", "stop", "-w", "-D", data, "-m", mode, "-s"]
    }
}

// MARK: - Use

extension ThrowawayCluster {
    /// How to connect, for libpq.
    public func conninfo(database: String = "postgres", user: String? = nil) -> String {
        let parts = [
            ("host", directory), ("port", "\(port)"), ("user", user ?? superuser),
            ("dbname", database),
        ]
        return parts.filter { !$0.1.isEmpty }
            .map { "\($0)='\(escaped($1))'" }.joined(separator: " ")
    }

    /// Makes a database.
    public func createDatabase(_ name: String, template: String? = nil) throws(ClusterError) {
        let template = template.map { " TEMPLATE \(quoted($0))" } ?? ""
        try psql("CREATE DATABASE \(quoted(name))\(template)")
    }

    /// Drops a database, throwing out who is connected.
    public func dropDatabase(_ name: String) throws(ClusterError) {
        try psql("DROP DATABASE \(quoted(name)) WITH (FORCE)")
    }

    /// Runs SQL through psql; returns what it prints, unaligned, without headers.
    @discardableResult
    public func psql(_ sql: String, database: String = "postgres") throws(ClusterError) -> String {
        let program = try Program.run(
            [
                "\(binaries.directory)/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d",
                conninfo(database: database), "-f", "-",
            ], in: directory, input: sql)
        guard program.status == 0 else { throw ClusterError(program.output) }
        return program.output.hasSuffix("\n") ? String(program.output.dropLast()) : program.output
    }

    private func call(_ name: String, _ arguments: String...) throws(ClusterError) {
        let program = try Program.run(
            ["\(binaries.directory)/\(name)"] + arguments, in: directory, as: account)
        guard program.status == 0 else { throw ClusterError("\(name): \(program.output)") }
    }

    private func quoted(_ name: String) -> String { "\"\(name.doubling("\""))\"" }

    private func escaped(_ value: String) -> String {
        value.reduce(into: "") { text, character in
            if character == "'" || character == "\\" { text += "\\" }
            text.append(character)
        }
    }
}

extension String {
    /// The text with every occurrence of a quote written twice.
    fileprivate func doubling(_ quote: Character) -> String {
        reduce(into: "") { text, character in
            text.append(character)
            if character == quote { text.append(character) }
        }
    }
}
