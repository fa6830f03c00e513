import CLibPQ

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Makes a connection, waiting in no other place than poll().
struct Connecting {
    private let keywords: [(String, String)]
    private let token: CancelToken?
    private let timeout: Duration?
    private let onNotice: ((PostgresError) -> Void)?

    init(
        _ keywords: [(String, String)], cancel token: CancelToken?, timeout: Duration?,
        _ onNotice: ((PostgresError) -> Void)?
    ) {
        self.keywords = keywords
        self.token = token
        self.timeout = timeout
        self.onNotice = onNotice
    }

    func callAsFunction() throws(PostgresError) -> ConnectionHandle {
        if token?.isFired == true { throw .cancelled }
        try checkForm()
        let handle = try start()
        let pointer = handle.pointer
        // The only way to learn the SQLSTATE of a refusal is to have it in the message.
        PQsetErrorVerbosity(pointer, PQERRORS_VERBOSE)
        let timeout = timeout ?? configuredTimeout(pointer)
        do throws(Interruption) {
            try poll(pointer, until: .after(timeout))
        } catch {
            guard error == .timeLimit else { throw .cancelled }
            throw PostgresError(
                origin: .connecting, severity: "FATAL",
                message: "no connection within \(timeout ?? .zero)\(place(of: pointer))")
        }
        guard PQstatus(pointer) == CONNECTION_OK else {
            throw PostgresError(connection: pointer, origin: .connecting)
        }
        PQsetErrorVerbosity(pointer, PQERRORS_DEFAULT)
        guard PQsetnonblocking(pointer, 1) == 0 else {
            throw PostgresError(connection: pointer, origin: .connecting)
        }
        return handle
    }

    /// Of a connection string that it does not understand, libpq repeats a part, or all of it: what
    /// it trips over is as a rule a password with a space or a sign that should have been quoted.
    private func checkForm() throws(PostgresError) {
        guard let conninfo = keywords.first?.1,
            conninfo.contains("=") || conninfo.hasPrefix("postgresql://")
                || conninfo.hasPrefix("postgres://")
        else { return }
        var words: UnsafeMutablePointer<CChar>?
        if let options = PQconninfoParse(conninfo, &words) {
            PQconninfoFree(options)
            return
        }
        let reason = words.map { Discretion.withoutQuotedText(String(cString: $0)) } ?? "?"
        PQfreemem(words)
        throw PostgresError(
            origin: .connecting, severity: "FATAL",
            message: "a connection string is not understood: \(reason)".split(separator: "\n")
                .joined(separator: " "),
            hint: "Values with spaces are put in single quotes; in a URI, what is no letter, digit "
                + "or one of -._~ is written as % and two hexadecimal digits.")
    }

    private func start() throws(PostgresError) -> ConnectionHandle {
        let names = keywords.map { strdup($0.0) }
        let values = keywords.map { strdup($0.1) }
        defer {
            for string in names + values { free(string) }
        }
        let pointer = PQconnectStartParams(
            names.map { UnsafePointer($0) } + [nil], values.map { UnsafePointer($0) } + [nil], 1)
        guard let pointer else {
            throw PostgresError(origin: .local, message: "out of memory")
        }
        return ConnectionHandle(pointer, notices: NoticeCounter(onNotice))
    }

    private func poll(_ pointer: OpaquePointer, until deadline: Deadline) throws(Interruption) {
        guard PQstatus(pointer) != CONNECTION_BAD else { return }
        var wanted = Readiness.writable
        while true {
            // libpq may have moved on to the next address: another socket.
            _ = try wait(for: (PQsocket(pointer), wanted), tokens: (token, nil), until: deadline)
            switch PQconnectPoll(pointer) {
            case PGRES_POLLING_READING: wanted = .readable
            case PGRES_POLLING_WRITING: wanted = .writable
            default: return
            }
        }
    }

    /// What conninfo, service or environment say; libpq itself heeds it only where it blocks.
    private func configuredTimeout(_ pointer: OpaquePointer) -> Duration? {
        guard let options = PQconninfo(pointer) else { return nil }
        defer { PQconninfoFree(options) }
        var option = options
        while let keyword = option.pointee.keyword {
            if strcmp(keyword, "connect_timeout") == 0, let value = option.pointee.val,
                let seconds = Int(String(cString: value)), seconds > 0
            {
                // Two is libpq's own least.
                return .seconds(max(2, seconds))
            }
            option += 1
        }
        return nil
    }

    private func place(of pointer: OpaquePointer) -> String {
        guard let host = PQhost(pointer), host.pointee != 0 else { return "" }
        return ": \(String(cString: host))"
    }
}
