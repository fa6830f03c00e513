import Postgres

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The two connections of one thread, kept from one refresh to the next.
final class Worker {
    let context: RefreshContext
    private var destination: Connection?
    private var source: (conninfo: String, connection: Connection)?
    /// The source whose connections are counted, and the lock on the destination that counts ours.
    private var slot: (name: String, key: Int)?

    /// When the present refresh is to end.
    var refreshLimit: TimeLimit? { didSet { keepToLimits() } }
    /// When its snapshot on the source is to be gone.
    var snapshotLimit: TimeLimit? { didSet { keepToLimits() } }

    /// Enough for a statement that does nothing, on any server that is well.
    private static let pingTime = Duration.seconds(30)
    /// For whom neither conninfo nor service nor environment say it.
    private static let connectTimeout = Duration.seconds(10)
    /// How often, and how long each time, it is waited for a place among a source's connections.
    private static let slotWaits = (count: 25, each: Duration.milliseconds(200))

    init(_ context: RefreshContext) {
        self.context = context
    }

    deinit { close() }

    /// The destination, outside of a transaction, named after what it works on.
    func destination(for dest: String) throws -> Connection {
        let name = context.runner.applicationName(for: dest)
        if let open = destination {
            if try rename(open, name) { return open }
            // With its session the lock that counted our connection is gone.
            if slot != nil { closeSource() }
        }
        let new = try context.destination.connect(applicationName: name, cancel: context.cancel)
        new.stallTimeout = context.stallTimeout
        destination = new
        keepToLimits()
        return new
    }

    private func keepToLimits() {
        let own = TimeLimit.earliest(refreshLimit, snapshotLimit)
        let limit = TimeLimit.earliest(own, context.runLimit)
        destination?.limit = limit
        source?.connection.limit = limit
    }

    /// The source, outside of a transaction, by a connection string of the caller's, or else that
    /// of the destination's foreign server and user mapping.
    func source(
        named name: String, for dest: String, mappings: Connection
    ) throws -> Connection {
        try context.sources.require(name)
        let given = context.sourceConninfos[name]
        let found = try mappings.execute(
            """
            SELECT CASE WHEN \(given)::text IS NULL THEN roneo.source_conninfo(\(name)) END, \
            s.source_id, s.max_connections \
            FROM (VALUES (1)) AS one LEFT JOIN roneo.source AS s ON s.source_name = \(name)
            """)
        if let id = found[0, "source_id"].flatMap({ Int($0) }) {
            let limit = found[0, "max_connections"].flatMap { Int($0) }
            try takeSlot(of: name, id: id, limit: limit, mappings)
        }
        let began = ContinuousClock.now
        do {
            return try source(given ?? found[0, 0] ?? "", for: dest)
        } catch let error as PostgresError where !error.isCancelled {
            let failure = Failure(
                sqlState: error.sqlState ?? SQLState.sourceUnreachable,
                message: "source \(name) cannot be reached: \(error.message)",
                detail: error.detail, hint: error.hint)
            if error.origin == .connecting, error.sqlState == nil, began + .seconds(1) < .now {
                context.sources.refuse(name, failure, for: SourceGuard.silence)
            }
            throw failure
        }
    }

    /// A place among the connections that the source may have from this destination, for as long as
    /// ours is kept. One process's jobs are held back by its queue; these are for other processes.
    private func takeSlot(
        of name: String, id: Int, limit: Int?, _ destination: Connection
    ) throws {
        if let slot {
            if slot.name == name { return }
            closeSource()
            try destination.execute("SELECT roneo.give_back_slot(\(slot.key)::integer)")
            self.slot = nil
        }
        guard let limit else { return }
        // One without a place, of another source or from before there was a limit.
        closeSource()
        for _ in 0..<Self.slotWaits.count {
            let key = try destination.execute(
                "SELECT roneo.try_source_slot(\(id)::integer, \(limit)::integer, true)")
            if let key = key.value.flatMap({ Int($0) }) {
                slot = (name, key)
                return
            }
            try pause(Self.slotWaits.each)
        }
        throw Failure(
            sqlState: SQLState.sourceFull,
            message: "source \(name) has \(limit) \(limit == 1 ? "connection" : "connections") "
                + "from here, as many as it may have",
            hint: "Nothing to do: the next refresh tries again. Run fewer at a time "
                + "(--per-source), or raise max_connections with roneo.set_source_limits.")
    }

    private func closeSource() {
        source?.connection.close()
        source = nil
    }

    /// One of an earlier refresh is used again where it is the same source and still there.
    private func source(_ conninfo: String, for dest: String) throws -> Connection {
        let name = context.runner.applicationName(for: dest)
        if let open = source, open.conninfo == conninfo, try rename(open.connection, name) {
            return open.connection
        }
        closeSource()
        let new = try Connection(
            conninfo: conninfo, applicationName: name, options: ["client_encoding": "UTF8"],
            cancel: context.cancel, connectTimeout: Self.connectTimeout,
            stallTimeout: context.stallTimeout)
        source = (conninfo, new)
        keepToLimits()
        noticeLostClients(new)
        return new
    }

    /// A source that sorts for hours finds out meanwhile that nobody waits for the rows any more.
    private func noticeLostClients(_ source: Connection) {
        guard source.serverVersion >= 140_000 else { return }
        // Not every platform can.
        _ = try? source.execute(
            "SELECT set_config('client_connection_check_interval', '5s', false)",
            timeLimit: Self.pingTime)
    }

    /// Ends whatever transactions are open, also after the cancel token was fired.
    func rollBack() {
        source?.connection.rollback()
        destination?.rollback()
    }

    func close() {
        source?.connection.close()
        destination?.close()
    }

    /// Waits, unless it is told to stop.
    func pause(_ duration: Duration) throws {
        var wait = pollfd(
            fd: context.cancel.fileDescriptor, events: Int16(POLLIN), revents: 0)
        _ = poll(&wait, 1, Int32(duration / .milliseconds(1)))
        if context.cancel.isFired { throw PostgresError.cancelled }
    }

    /// False where the connection was closed while it waited: nothing of this refresh is lost.
    private func rename(_ connection: Connection, _ name: String) throws -> Bool {
        guard connection.isOpen else { return false }
        do {
            try connection.execute(
                "SELECT set_config('application_name', \(name), false)", timeLimit: Self.pingTime)
            return true
        } catch {
            guard error.isConnectionFailure || !connection.isOpen else { throw error }
            connection.close()
            return false
        }
    }
}
