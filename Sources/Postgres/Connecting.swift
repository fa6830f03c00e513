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
        let given = options(pointer)
        let timeout = configuredTimeout(given) ?? timeout
        do throws(Interruption) {
            _ = try poll(pointer, token, until: .after(timeout))
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
        Keepalive().apply(to: PQsocket(pointer), unlessIn: given)
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

    /// Whether a server answers there, be it with a refusal. It is asked twice.
    /// - Parameter token: ends the waiting, whereupon the answer means nothing.
    func isAnswered(within time: Duration, cancel token: CancelToken?) -> Bool {
        for _ in 1...2 where token?.isFired != true {
            guard let handle = try? start() else { return false }
            let answer = try? poll(handle.pointer, token, until: .after(time), firstByte: true)
            if answer == true { return true }
        }
        return false
    }

    /// - Returns: whether the server has said anything, as far as that was asked.
    private func poll(
        _ pointer: OpaquePointer, _ token: CancelToken?, until deadline: Deadline,
        firstByte: Bool = false
    ) throws(Interruption) -> Bool {
        guard PQstatus(pointer) != CONNECTION_BAD else { return false }
        var wanted = Readiness.writable
        while true {
            // libpq may have moved on to the next address: another socket.
            let socket = PQsocket(pointer)
            _ = try wait(for: (socket, wanted), tokens: (token, nil), until: deadline)
            if firstByte, wanted == .readable, Self.hasInput(socket) { return true }
            switch PQconnectPoll(pointer) {
            case PGRES_POLLING_READING: wanted = .readable
            case PGRES_POLLING_WRITING: wanted = .writable
            default: return PQstatus(pointer) == CONNECTION_OK
            }
        }
    }

    private static func hasInput(_ socket: Int32) -> Bool {
        var byte: UInt8 = 0
        return recv(socket, &byte, 1, Int32(MSG_PEEK)) > 0
    }

    /// What libpq has found in conninfo, service and environment.
    private func options(_ pointer: OpaquePointer) -> [String: String] {
        guard let options = PQconninfo(pointer) else { return [:] }
        defer { PQconninfoFree(options) }
        var found: [String: String] = [:]
        var option = options
        while let keyword = option.pointee.keyword {
            if let value = option.pointee.val, value.pointee != 0 {
                found[String(cString: keyword)] = String(cString: value)
            }
            option += 1
        }
        return found
    }

    /// libpq itself heeds it only where it blocks; two seconds are its own least.
    private func configuredTimeout(_ given: [String: String]) -> Duration? {
        given["connect_timeout"].flatMap { Int($0) }.flatMap { seconds in
            seconds > 0 ? .seconds(max(2, seconds)) : nil
        }
    }

    private func place(of pointer: OpaquePointer) -> String {
        guard let host = PQhost(pointer), host.pointee != 0 else { return "" }
        return ": \(String(cString: host))"
    }
}
