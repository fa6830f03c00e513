import CLibPQ

/// One connection to a server, used by one thread from its beginning to its end.
///
/// Deliberately not Sendable. Every wait is one poll() over the socket and the cancel pipe.
public final class Connection {
    /// Where a connection is with its transaction.
    public enum TransactionStatus: Sendable {
        /// Outside of a transaction.
        case idle
        /// A statement is running.
        case active
        /// In a transaction.
        case inTransaction
        /// In a transaction that can only be rolled back.
        case inFailedTransaction
        /// The connection is lost.
        case unknown
    }

    /// What the protocol allows next.
    enum Phase {
        case idle
        case busy
        case copyIn
        case copyOut
    }

    /// How long a server gets to end what was cancelled, before the connection is given up.
    static let drainLimit = Duration.seconds(3)

    /// The token given at the start.
    public let cancelToken: CancelToken?
    /// When to give up whatever runs, however many calls it takes; COMMIT and ROLLBACK are spared.
    public var limit: TimeLimit?
    /// How long a server may say nothing before it is asked whether it is still there; nil: for
    /// ever. One that computes for hours still takes a second connection, one that is stopped or
    /// cut off does not.
    public var stallTimeout: Duration?
    private let connecting: Connecting
    private var isSettling = false
    private var handle: ConnectionHandle?
    private(set) var phase = Phase.idle

    /// Connects.
    ///
    /// Looking up a host's name cannot be cancelled: that is libpq's and the system's own wait.
    /// - Parameters:
    ///   - conninfo: keywords and values, a URI or a database's name, as libpq takes them; the
    ///     environment, services and the password file are honoured.
    ///   - applicationName: what `pg_stat_activity` shows.
    ///   - options: further libpq keywords (`keepalives_idle`, `options`, …), stronger than
    ///     those of `conninfo`.
    ///   - cancel: ends every wait of this connection when fired.
    ///   - connectTimeout: for all hosts together, where libpq finds no `connect_timeout` in
    ///     conninfo, service or environment.
    ///   - stallTimeout: see the property.
    ///   - onNotice: gets the server's notices, which are dropped otherwise.
    public init(
        conninfo: String, applicationName: String, options: [String: String] = [:],
        cancel: CancelToken? = nil, connectTimeout: Duration? = nil,
        stallTimeout: Duration? = nil, onNotice: ((PostgresError) -> Void)? = nil
    ) throws(PostgresError) {
        cancelToken = cancel
        self.stallTimeout = stallTimeout
        var keywords = [("dbname", conninfo)]
        keywords += options.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        keywords += [("application_name", applicationName), ("client_encoding", "UTF8")]
        connecting = Connecting(keywords, cancel: cancel, timeout: connectTimeout, onNotice)
        handle = try connecting()
    }

    /// Runs a statement and waits for its end.
    ///
    /// Without parameters several statements are allowed (then they are one transaction, unless
    /// they say otherwise); the last result is returned, and the first error is thrown.
    /// - Parameters:
    ///   - timeLimit: cancels the statement and throws when it is over.
    ///   - heedsCancel: false for what must run after a cancel, such as ROLLBACK, and for COMMIT,
    ///     of which nobody could tell otherwise whether it took place.
    @discardableResult
    public func execute(
        _ sql: SQL, timeLimit: Duration? = nil, heedsCancel: Bool = true
    ) throws(PostgresError) -> QueryResult {
        let deadline = Deadline.after(timeLimit)
        if heedsCancel { try heedInterruption() }
        try send(sql)
        return try outcome(until: deadline, timeLimit, heedsCancel: heedsCancel)
    }

    /// Runs a statement on each of two connections, both at the same time, and waits for both ends.
    ///
    /// If one fails, the other one is cancelled.
    public static func executeTogether(
        _ first: (connection: Connection, sql: SQL), _ second: (connection: Connection, sql: SQL)
    ) throws(PostgresError) -> (QueryResult, QueryResult) {
        try first.connection.heedInterruption()
        try second.connection.heedInterruption()
        try first.connection.send(first.sql)
        let results: (QueryResult, QueryResult)
        do throws(PostgresError) {
            try second.connection.send(second.sql)
            let one = try first.connection.outcome(until: .never, nil, heedsCancel: true)
            results = (
                one, try second.connection.outcome(until: .never, nil, heedsCancel: true)
            )
        } catch {
            _ = first.connection.settle(cancelling: true)
            _ = second.connection.settle(cancelling: true)
            throw error
        }
        return results
    }

    /// Nothing is begun once it is cancelled, or its time is up.
    private func heedInterruption() throws(PostgresError) {
        if cancelToken?.isFired == true { throw .cancelled }
        if let limit, limit.isOver { throw limit.error }
    }

    /// The end of what was sent.
    private func outcome(
        until deadline: Deadline, _ timeLimit: Duration?, heedsCancel: Bool
    ) throws(PostgresError) -> QueryResult {
        var last: ResultHandle?
        do {
            while let result = try nextResult(until: deadline, heedsCancel: heedsCancel) {
                if let error = error(of: result) {
                    _ = settle(cancelling: false)
                    throw error
                }
                last = result
                guard phase != .copyIn, phase != .copyOut else { break }
            }
        } catch let error as PostgresError {
            throw error
        } catch {
            throw giveUp(after: error as? Interruption ?? .cancelled, timeLimit)
        }
        guard phase == .idle else {
            _ = settle(cancelling: true)
            throw PostgresError(origin: .local, message: "COPY needs both of its ends: CopyRelay")
        }
        guard let last else { throw .lost }
        return QueryResult(handle: last)
    }

    /// Rolls back, cancelled or not. Where even that does not work the connection is closed, and
    /// the server rolls back by itself.
    public func rollback() {
        guard isOpen, transactionStatus != .idle else { return }
        do {
            try execute("ROLLBACK", timeLimit: Self.drainLimit, heedsCancel: false)
        } catch {
            close()
        }
    }

    /// Ends the connection; safe to call again. Letting go of the last reference does the same.
    public func close() {
        handle = nil
        phase = .idle
    }
}

// MARK: - What the server tells

extension Connection {
    /// The server's version as a number, such as 150018; 0 when the connection is closed.
    public var serverVersion: Int { handle.map { Int(PQserverVersion($0.pointer)) } ?? 0 }

    /// The process that serves this connection; 0 when it is closed.
    public var backendPID: Int32 { handle.map { PQbackendPID($0.pointer) } ?? 0 }

    /// A setting that the server reports by itself, such as `server_encoding`.
    public func parameterStatus(_ name: String) -> String? {
        handle.flatMap { PQparameterStatus($0.pointer, name) }.map { String(cString: $0) }
    }

    /// Where the connection is with its transaction.
    public var transactionStatus: TransactionStatus {
        switch handle.map({ PQtransactionStatus($0.pointer) }) {
        case PQTRANS_IDLE: .idle
        case PQTRANS_ACTIVE: .active
        case PQTRANS_INTRANS: .inTransaction
        case PQTRANS_INERROR: .inFailedTransaction
        default: .unknown
        }
    }

    /// Whether the connection still works, as far as is known on this side.
    public var isOpen: Bool { handle.map { PQstatus($0.pointer) == CONNECTION_OK } ?? false }
}

// MARK: - For this module: one exchange, step by step

extension Connection {
    /// For the calls of libpq; not to be kept.
    func pointer() throws(PostgresError) -> OpaquePointer {
        guard let handle else { throw .lost }
        return handle.pointer
    }

    /// How many notices the server has sent.
    var noticeCount: Int { handle?.notices.count ?? 0 }

    /// Hands a statement to libpq, without waiting.
    func send(_ sql: SQL) throws(PostgresError) {
        let pointer = try pointer()
        guard phase == .idle else {
            throw PostgresError(origin: .local, message: "the connection is busy")
        }
        let accepted =
            if sql.parameters.isEmpty {
                PQsendQuery(pointer, sql.text)
            } else {
                withCStrings(sql.parameters) { values in
                    PQsendQueryParams(
                        pointer, sql.text, Int32(values.count), nil, values, nil, nil, 0)
                }
            }
        guard accepted == 1 else {
            let origin = isOpen ? PostgresError.Origin.local : .connectionLost
            throw PostgresError(connection: pointer, origin: origin)
        }
        phase = .busy
    }

    /// Waits for the next result of what was sent; nil when the server is ready for more.
    func nextResult(
        until deadline: Deadline, heedsCancel: Bool
    ) throws(Interruption)
        -> ResultHandle?
    {
        guard let pointer = handle?.pointer else { return nil }
        while PQisBusy(pointer) == 1 {
            // A lost connection is no reason to stop here: what the server said last may be in
            // the buffer, and PQgetResult knows what to make of it.
            guard try receive(until: deadline, heedsCancel: heedsCancel) else { break }
        }
        guard let result = PQgetResult(pointer) else {
            phase = .idle
            return nil
        }
        switch PQresultStatus(result) {
        case PGRES_COPY_IN: phase = .copyIn
        case PGRES_COPY_OUT, PGRES_COPY_BOTH: phase = .copyOut
        default: phase = .busy
        }
        return ResultHandle(result)
    }

    /// Waits for bytes from the server and takes them in, sending meanwhile what is still to be
    /// sent; false when the connection is lost.
    func receive(until deadline: Deadline, heedsCancel: Bool) throws(Interruption) -> Bool {
        guard let pointer = handle?.pointer, PQsocket(pointer) >= 0 else { return false }
        let wanted: Readiness = PQflush(pointer) == 1 ? [.readable, .writable] : .readable
        let token = heedsCancel ? cancelToken : nil
        let (ready, _) = try watch(
            (PQsocket(pointer), wanted), tokens: (token, nil),
            limit: heedsCancel ? limit : nil, until: deadline
        ) { () throws(Interruption) in try requireAnswer(cancel: token) }
        return ready.isDisjoint(with: [.readable, .broken]) || takeInput()
    }

    /// Waits for this connection's server, and for another one's socket where it is told to.
    ///
    /// A server that has been silent for long is asked, by another connection, whether it is there.
    /// - Parameter onSilence: asks, and throws where there is no answer.
    func watch(
        _ first: (Int32, Readiness), or second: (Int32, Readiness) = (-1, []),
        tokens: (CancelToken?, CancelToken?), limit: TimeLimit?, until deadline: Deadline,
        onSilence: () throws(Interruption) -> Void
    ) throws(Interruption) -> (Readiness, Readiness) {
        while true {
            let silence = isSettling ? Deadline.never : .after(stallTimeout)
            let given = Deadline.earliest(deadline, .at(limit?.end))
            do throws(Interruption) {
                return try wait(
                    for: first, or: second, tokens: tokens, until: .earliest(given, silence))
            } catch {
                guard error == .timeLimit else { throw error }
            }
            if let limit, limit.isOver { throw .overdue(limit.error) }
            if deadline.isOver { throw .timeLimit }
            do throws(Interruption) {
                try onSilence()
            } catch {
                // It may have come back at the last moment.
                let ready = try? wait(for: first, or: second, tokens: tokens, until: .after(.zero))
                guard let ready else { throw error }
                return ready
            }
        }
    }

    /// Asks, by another connection, whether the server is there.
    func requireAnswer(cancel token: CancelToken?) throws(Interruption) {
        guard !connecting.isAnswered(within: pingTime, cancel: token) else { return }
        if token?.isFired == true { throw .cancelled }
        throw .silent(.silent(for: stallTimeout ?? .zero))
    }

    /// A host under load takes some time to accept a connection.
    private var pingTime: Duration { min(.seconds(10), max(.seconds(1), stallTimeout ?? .zero)) }

    /// Brings the connection to its rest, or to its end; what is to be thrown.
    func giveUp(after interruption: Interruption, _ timeLimit: Duration? = nil) -> PostgresError {
        switch interruption {
        case .silent(let error):
            close()
            return error
        case .overdue(let error):
            _ = settle(cancelling: true)
            return error
        case .timeLimit:
            _ = settle(cancelling: true)
            return .timeLimit(timeLimit)
        case .cancelled:
            _ = settle(cancelling: true)
            return .cancelled
        }
    }

    /// Takes in what has arrived, without waiting; false when the connection is lost.
    func takeInput() -> Bool {
        guard let pointer = handle?.pointer, PQconsumeInput(pointer) == 1 else { return false }
        // What was encrypted and did not fit at once waits in OpenSSL or GSSAPI, where poll() does
        // not see it.
        let isPlain = PQsslInUse(pointer) == 0 && PQgssEncInUse(pointer) == 0
        return isPlain || PQconsumeInput(pointer) == 1
    }

    /// The end of COPY OUT was seen: its result comes next.
    func endCopyOut() { phase = .busy }

    /// Ends COPY IN, well or with a reason for failing; false when the connection is lost.
    func endCopyIn(failing reason: String? = nil) -> Bool {
        guard let pointer = handle?.pointer else { return false }
        phase = .busy
        return PQputCopyEnd(pointer, reason) == 1
    }

    /// The error that a result is, if it is one.
    func error(of result: ResultHandle) -> PostgresError? {
        switch PQresultStatus(result.pointer) {
        case PGRES_FATAL_ERROR, PGRES_BAD_RESPONSE, PGRES_NONFATAL_ERROR:
            PostgresError(result: result.pointer)
        default: nil
        }
    }

    /// Brings the connection back to where a statement can be sent, whatever it was doing; closes
    /// it when the server does not play along for three seconds.
    ///
    /// Heeds no cancel token: this is what happens after one was fired.
    /// - Returns: the first error that the server gave meanwhile.
    func settle(cancelling: Bool) -> PostgresError? {
        var first: PostgresError?
        guard handle != nil, phase != .idle else { return nil }
        isSettling = true
        defer { isSettling = false }
        if phase == .copyIn {
            _ = endCopyIn(failing: "the transfer was given up")
            // As a rule that is enough, and no request for a cancel goes astray.
            drain(until: .after(.milliseconds(250)), &first)
        }
        if cancelling, phase != .idle, isOpen, let pointer = try? pointer() {
            guard CancelRequest.send(for: pointer, within: .seconds(2)) else {
                // One that arrives later would hit another statement.
                close()
                return first
            }
        }
        drain(until: .after(Self.drainLimit), &first)
        if phase != .idle { close() }
        return first
    }

    private func drain(until deadline: Deadline, _ first: inout PostgresError?) {
        do throws(Interruption) {
            while let pointer = handle?.pointer, phase != .idle {
                switch phase {
                case .idle: return
                case .copyIn: _ = endCopyIn(failing: "the transfer was given up")
                case .copyOut:
                    var row: UnsafeMutablePointer<CChar>?
                    let length = PQgetCopyData(pointer, &row, 1)
                    PQfreemem(row)
                    if length < 0 { endCopyOut() }
                    if length == 0, try !receive(until: deadline, heedsCancel: false) {
                        endCopyOut()
                    }
                case .busy:
                    if let result = try nextResult(until: deadline, heedsCancel: false),
                        first == nil
                    {
                        first = error(of: result)
                    }
                }
                if deadline.isOver { return }
            }
        } catch {}
    }
}

extension PostgresError {
    static let lost = PostgresError(
        origin: .connectionLost, severity: "FATAL", message: "the connection is closed")

    fileprivate static func silent(for time: Duration) -> PostgresError {
        PostgresError(
            origin: .connectionLost, severity: "FATAL",
            message: "the server has said nothing for \(time), and takes no connection either",
            hint: "It is stopped, overloaded or cut off. A server that only takes long over a "
                + "query takes connections; --stall-timeout says when it is asked.")
    }

    fileprivate static func timeLimit(_ limit: Duration?) -> PostgresError {
        PostgresError(
            origin: .timeLimit, sqlState: SQLState.queryCanceled,
            message: "no answer within \(limit ?? .zero)")
    }
}

/// C strings for the duration of a call; nil stays a null pointer.
private func withCStrings<Result>(
    _ strings: [String?], _ body: ([UnsafePointer<CChar>?]) -> Result
) -> Result {
    var bytes: [CChar] = []
    let starts = strings.map { string -> Int? in
        guard let string else { return nil }
        defer { bytes += string.utf8.map(CChar.init(bitPattern:)) + [0] }
        return bytes.count
    }
    return bytes.withUnsafeBufferPointer { buffer in
        body(starts.map { start in start.map { buffer.baseAddress! + $0 } })
    }
}
