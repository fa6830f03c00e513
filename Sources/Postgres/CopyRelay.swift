import CLibPQ

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What a transfer moved.
public struct CopyTally: Equatable, Sendable {
    /// Rows that the source says it sent.
    public let sent: Int64
    /// Rows that the destination says it stored: fewer where a trigger swallows some.
    public let received: Int64
    /// Bytes on the way, the format's own included.
    public let bytes: Int64

    /// A tally of the given counts.
    public init(sent: Int64, received: Int64, bytes: Int64) {
        self.sent = sent
        self.received = received
        self.bytes = bytes
    }
}

/// A transfer that failed, and on which side.
public struct RelayError: Error, Equatable, Sendable {
    /// A side of a transfer.
    public enum Side: String, Sendable {
        case source
        case destination
    }

    /// Whose error it is; the destination's when the transfer was cancelled from here.
    public let side: Side
    /// The error itself.
    public let error: PostgresError

    /// An error of one side.
    public init(side: Side, error: PostgresError) {
        self.side = side
        self.error = error
    }
}

/// Moves rows from one server to another by COPY, on one thread.
public enum CopyRelay {
    /// Copies, and waits for both ends.
    ///
    /// After an error both connections can be used again (for ROLLBACK) where their server lives.
    /// A destination whose `client_min_messages` is `error` makes failures quickest to see.
    /// - Parameters:
    ///   - copyOut: `COPY … TO STDOUT …`
    ///   - copyIn: `COPY … FROM STDIN …`, of the same format.
    ///   - progress: called after every chunk with the rows and bytes so far (of a binary COPY,
    ///     the end mark is counted as a row; the tally has the servers' own counts).
    public static func copy(
        from source: Connection, _ copyOut: String, to destination: Connection, _ copyIn: String,
        progress: ((_ rows: Int64, _ bytes: Int64) -> Void)? = nil
    ) throws(RelayError) -> CopyTally {
        var transfer = Transfer(source: source, destination: destination, progress: progress)
        do throws(Transfer.Failure) {
            try transfer.begin(copyOut, copyIn)
            try transfer.stream()
            return try transfer.finish()
        } catch {
            throw transfer.giveUp(after: error)
        }
    }
}

/// One COPY from a source to a destination.
private struct Transfer {
    /// How a transfer ends before its time. An error that is nil is still with the server.
    enum Failure: Error {
        case source(PostgresError?)
        case destination(PostgresError?)
        case interrupted(Interruption, waitingFor: RelayError.Side)
    }

    let source: Connection
    let destination: Connection
    let progress: ((_ rows: Int64, _ bytes: Int64) -> Void)?
    var rows: Int64 = 0
    var bytes: Int64 = 0
    /// When the destination last gave a sign of life: rows can come so slowly that none is sent on
    /// for hours.
    var destinationSeen = ContinuousClock.now

    /// Starts both COPYs, the source's first: where its query fails, nothing else has happened.
    mutating func begin(_ copyOut: String, _ copyIn: String) throws(Failure) {
        guard source.cancelToken?.isFired != true, destination.cancelToken?.isFired != true else {
            throw .interrupted(.cancelled, waitingFor: .destination)
        }
        do { try source.send(SQL(verbatim: copyOut)) } catch { throw .source(error) }
        try awaitFirstRow()
        _ = try result(of: source, expecting: .copyOut, Failure.source)
        do { try destination.send(SQL(verbatim: copyIn)) } catch { throw .destination(error) }
        _ = try result(of: destination, expecting: .copyIn, Failure.destination)
    }

    /// Moves the rows, in chunks of about 64 KiB: far fewer messages for the destination's server
    /// to take apart.
    mutating func stream() throws(Failure) {
        let outgoing: OpaquePointer
        do { outgoing = try source.pointer() } catch { throw .source(error) }
        var chunk = CopyChunk()
        defer { chunk.deallocate() }
        while true {
            var row: UnsafeMutablePointer<CChar>?
            let length = Int(PQgetCopyData(outgoing, &row, 1))
            guard length > 0, let row else {
                guard length == 0 else { break }
                try seeDestination()
                try awaitSource()
                continue
            }
            defer { PQfreemem(row) }
            rows += 1
            bytes += Int64(length)
            if chunk.append(row, length) { continue }
            try put(chunk.bytes)
            destinationSeen = .now
            chunk.clear()
            if !chunk.append(row, length) {
                try put(UnsafeRawBufferPointer(start: row, count: length))
            }
        }
        source.endCopyOut()
        try put(chunk.bytes)
    }

    /// Ends both COPYs and takes both counts.
    func finish() throws(Failure) -> CopyTally {
        let sent = try result(of: source, expecting: .idle, Failure.source)
        guard destination.endCopyIn() else { throw .destination(nil) }
        let received = try result(of: destination, expecting: .idle, Failure.destination)
        return CopyTally(sent: sent, received: received, bytes: bytes)
    }

    /// Ends what both sides are doing, and finds out why.
    func giveUp(after failure: Failure) -> RelayError {
        switch failure {
        case .source(let known):
            let told = source.settle(cancelling: known == nil)
            _ = destination.settle(cancelling: true)
            return RelayError(side: .source, error: known ?? told ?? .lost)
        case .destination(let known):
            let told = destination.settle(cancelling: known == nil)
            _ = source.settle(cancelling: true)
            return RelayError(side: .destination, error: known ?? told ?? .lost)
        case .interrupted(let interruption, let side):
            // The one that is not waited for is asked to end, whatever became of the other.
            let (slow, other) = side == .source ? (source, destination) : (destination, source)
            let error = slow.giveUp(after: interruption)
            _ = other.settle(cancelling: true)
            return RelayError(side: side, error: error)
        }
    }

    private func side(of connection: Connection) -> RelayError.Side {
        connection === source ? .source : .destination
    }

    /// Waits until a side has got to a phase; returns the rows that its COPY was about.
    private func result(
        of connection: Connection, expecting phase: Connection.Phase,
        _ failure: (PostgresError?) -> Failure
    ) throws(Failure) -> Int64 {
        var count: Int64 = 0
        while connection.phase != phase {
            let result: ResultHandle?
            do {
                result = try connection.nextResult(until: .never, heedsCancel: true)
            } catch {
                throw .interrupted(error, waitingFor: side(of: connection))
            }
            guard let result else { break }
            if let error = connection.error(of: result) { throw failure(error) }
            count = QueryResult(handle: result).affectedRows
        }
        guard connection.phase == phase else {
            throw failure(PostgresError(origin: .local, message: "the statement is no such COPY"))
        }
        return count
    }

    /// Asks a destination that nothing was sent to for long whether it is still there.
    private mutating func seeDestination() throws(Failure) {
        guard let patience = destination.stallTimeout, destinationSeen + patience < .now else {
            return
        }
        do {
            try destination.requireAnswer(cancel: destination.cancelToken)
        } catch {
            throw .interrupted(error, waitingFor: .destination)
        }
        destinationSeen = .now
    }

    /// Waits for the source, which may compute for hours before it says anything. Meanwhile the
    /// destination has nothing to say but that it goes away.
    private mutating func awaitFirstRow() throws(Failure) {
        let (outgoing, incoming): (OpaquePointer, OpaquePointer)
        do { outgoing = try source.pointer() } catch { throw .source(error) }
        do { incoming = try destination.pointer() } catch { throw .destination(error) }
        while PQisBusy(outgoing) == 1, PQsocket(outgoing) >= 0 {
            try seeDestination()
            let wanted: Readiness = PQflush(outgoing) == 1 ? [.readable, .writable] : .readable
            let ready = try sleep(
                watching: source, (PQsocket(outgoing), wanted),
                or: (PQsocket(incoming), .readable))
            if !ready.1.isEmpty, !destination.takeInput() {
                throw .destination(
                    PostgresError(connection: incoming, origin: .connectionLost))
            }
            // Parses what it said.
            if !ready.1.isEmpty { _ = PQisBusy(incoming) }
            if !ready.0.isDisjoint(with: [.readable, .broken]), !source.takeInput() { return }
        }
    }

    /// Waits for the source, and looks after the destination meanwhile.
    private func awaitSource() throws(Failure) {
        let (outgoing, incoming): (OpaquePointer, OpaquePointer)
        do { outgoing = try source.pointer() } catch { throw .source(error) }
        do { incoming = try destination.pointer() } catch { throw .destination(error) }
        let ready = try sleep(
            watching: source, (PQsocket(outgoing), .readable),
            or: (PQsocket(incoming), .readable))
        if !ready.1.isEmpty { try heedDestination() }
        if !ready.0.isEmpty, !source.takeInput() { throw .source(nil) }
    }

    /// Hands bytes to the destination and waits until they are gone: so the source is read no
    /// faster than the destination writes, and memory stays flat.
    private func put(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
        guard let start = bytes.baseAddress?.assumingMemoryBound(to: CChar.self),
            !bytes.isEmpty
        else { return }
        let incoming: OpaquePointer
        do { incoming = try destination.pointer() } catch { throw .destination(error) }
        var taken = PQputCopyData(incoming, start, Int32(bytes.count))
        while taken >= 0 {
            let left = PQflush(incoming)
            guard left >= 0 else { break }
            if left == 0, taken == 1 {
                progress?(rows, self.bytes)
                return
            }
            if left == 1 {
                let ready = try sleep(
                    watching: destination, (PQsocket(incoming), [.readable, .writable]))
                if !ready.0.isDisjoint(with: [.readable, .broken]) { try heedDestination() }
            }
            if taken == 0 { taken = PQputCopyData(incoming, start, Int32(bytes.count)) }
        }
        throw .destination(nil)
    }

    /// A destination that speaks during COPY IN has failed, unless it only sent a notice.
    ///
    /// libpq leaves an error unread until the end of the COPY, which would send the rest of the
    /// table into the void.
    private func heedDestination() throws(Failure) {
        let former = destination.noticeCount
        guard destination.takeInput(), let incoming = try? destination.pointer() else {
            throw .destination(nil)
        }
        // Parses the notices that have come.
        _ = PQisBusy(incoming)
        if destination.noticeCount == former { throw .destination(nil) }
    }

    private func sleep(
        watching slow: Connection, _ first: (Int32, Readiness),
        or second: (Int32, Readiness) = (-1, [])
    ) throws(Failure) -> (Readiness, Readiness) {
        let other = slow === source ? destination : source
        var asked = slow
        do throws(Interruption) {
            return try slow.watch(
                first, or: second, tokens: (source.cancelToken, destination.cancelToken),
                limit: .earliest(source.limit, destination.limit), until: .never
            ) { () throws(Interruption) in
                // While one computes, the other may go.
                for connection in [slow, other] {
                    asked = connection
                    try connection.requireAnswer(cancel: connection.cancelToken)
                }
            }
        } catch {
            throw .interrupted(error, waitingFor: side(of: asked))
        }
    }
}

/// Rows waiting to be sent together.
private struct CopyChunk {
    private static let capacity = 64 * 1024
    private let memory = UnsafeMutableRawPointer.allocate(
        byteCount: capacity, alignment: MemoryLayout<Int>.alignment)
    private var used = 0

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: memory, count: used) }

    /// Adds a row; false when it does not fit.
    mutating func append(_ row: UnsafePointer<CChar>, _ length: Int) -> Bool {
        guard used + length <= Self.capacity else { return false }
        memcpy(memory + used, row, length)
        used += length
        return true
    }

    mutating func clear() { used = 0 }

    func deallocate() { memory.deallocate() }
}
