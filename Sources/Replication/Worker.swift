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

    init(_ context: RefreshContext) {
        self.context = context
    }

    deinit { close() }

    /// The destination, outside of a transaction, named after what it works on.
    func destination(for dest: String) throws -> Connection {
        let name = context.runner.applicationName(for: dest)
        if let open = destination, try rename(open, name) { return open }
        let new = try context.destination.connect(applicationName: name, cancel: context.cancel)
        destination = new
        return new
    }

    /// The source, outside of a transaction, by a connection string of the caller's, or else that
    /// of the destination's foreign server and user mapping.
    func source(
        named name: String, for dest: String, mappings: Connection
    ) throws -> Connection {
        var conninfo = context.sourceConninfos[name]
        if conninfo == nil {
            conninfo = try mappings.execute("SELECT roneo.source_conninfo(\(name))").value
        }
        do {
            return try source(conninfo ?? "", for: dest)
        } catch let error as PostgresError where !error.isCancelled {
            throw Failure(
                sqlState: error.sqlState ?? SQLState.sourceUnreachable,
                message: "source \(name) cannot be reached: \(error.message)",
                detail: error.detail, hint: error.hint)
        }
    }

    /// One of an earlier refresh is used again where it is the same source and still there.
    private func source(_ conninfo: String, for dest: String) throws -> Connection {
        let name = context.runner.applicationName(for: dest)
        if let open = source, open.conninfo == conninfo, try rename(open.connection, name) {
            return open.connection
        }
        source?.connection.close()
        source = nil
        let new = try Connection(
            conninfo: conninfo, applicationName: name, options: ["client_encoding": "UTF8"],
            cancel: context.cancel)
        source = (conninfo, new)
        return new
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
            try connection.execute("SELECT set_config('application_name', \(name), false)")
            return true
        } catch {
            guard error.isConnectionFailure else { throw error }
            connection.close()
            return false
        }
    }
}
