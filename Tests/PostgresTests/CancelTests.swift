import Postgres
import TestSupport
import Testing

@Suite struct CancelTests {
    let pair: DatabasePair

    init() throws { pair = try DatabasePair() }

    @Test func aStatementIsCancelledOnTheServerToo() async throws {
        let pair = pair
        let task = Task {
            try await onOwnThread { cancel in
                let connection = try pair.connectSource(cancel: cancel)
                try connection.execute("BEGIN; CREATE TABLE t (i int)")
                var seen: PostgresError?
                do throws(PostgresError) {
                    try connection.execute("SELECT pg_sleep(600)")
                } catch {
                    seen = error
                }
                let refused = try? connection.execute("SELECT 1")
                connection.rollback()
                let isIdle = connection.isOpen && connection.transactionStatus == .idle
                return (seen, isIdle && refused == nil)
            }
        }
        #expect(try await eventually { try isSleeping() })
        task.cancel()
        let (error, isUsable) = try await task.value
        #expect(error == .cancelled)
        #expect(error?.isCancelled == true)
        #expect(isUsable)
        #expect(try await eventually(pair.isDeserted))
    }

    @Test func aSharedTokenStopsSeveralJobs() async throws {
        let pair = pair
        let token = try CancelToken()
        let jobs = (1...2).map { _ in
            Task {
                try await onOwnThread(cancel: token) { cancel in
                    _ = try pair.connectSource(cancel: cancel).execute("SELECT pg_sleep(600)")
                }
            }
        }
        #expect(try await eventually { try isSleeping(2) })
        token.fire()
        for job in jobs {
            await #expect(throws: PostgresError.cancelled) { try await job.value }
        }
        #expect(try await eventually(pair.isDeserted))
    }

    @Test func connectingIsCancelled() async throws {
        let deaf = try DeafServer()
        let task = Task {
            try await onOwnThread { cancel in
                _ = try Connection(
                    conninfo: deaf.conninfo, applicationName: "test", cancel: cancel)
            }
        }
        try await Task.sleep(for: .milliseconds(50))
        task.cancel()
        await #expect(throws: PostgresError.cancelled) { try await task.value }
    }

    @Test func aTransferIsCancelledOnBothSides() async throws {
        let pair = pair
        let token = try CancelToken()
        let (error, isUsable) = try await onOwnThread(cancel: token) { cancel in
            let source = try pair.connectSource(cancel: cancel)
            let destination = try pair.connectDestination(cancel: cancel)
            try destination.execute("CREATE TABLE t (i bigint, v text)")
            try destination.execute("BEGIN")
            var seen: RelayError?
            do throws(RelayError) {
                _ = try CopyRelay.copy(
                    from: source,
                    "COPY (SELECT generate_series(1::bigint, 1000000000), repeat('x', 1000))"
                        + " TO STDOUT (FORMAT binary)",
                    to: destination, "COPY t FROM STDIN (FORMAT binary)",
                    progress: { _, _ in cancel.fire() })
            } catch {
                seen = error
            }
            let areOpen = source.isOpen && destination.isOpen
            destination.rollback()
            let rows = try destination.execute("SELECT count(*) FROM t", heedsCancel: false)
            return (seen, areOpen && rows.value == "0")
        }
        #expect(error?.error == .cancelled)
        #expect(isUsable)
        #expect(try await eventually(pair.isDeserted))
    }

    @Test func aTransferThatWaitsForALockIsCancelled() async throws {
        let pair = pair
        let holder = try pair.connectDestination()
        try holder.execute("CREATE TABLE t (i int)")
        try holder.execute("BEGIN; LOCK TABLE t")
        let task = Task {
            try await onOwnThread { cancel in
                let source = try pair.connectSource(cancel: cancel)
                let destination = try pair.connectDestination(cancel: cancel)
                _ = try CopyRelay.copy(
                    from: source, "COPY (SELECT 1) TO STDOUT", to: destination,
                    "COPY t FROM STDIN")
            }
        }
        #expect(
            try await eventually {
                try pair.connectDestination().execute(
                    """
                    SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
                    WHERE NOT l.granted AND d.datname = current_database()
                    """
                ).value == "1"
            })
        task.cancel()
        let error = await #expect(throws: RelayError.self) { try await task.value }
        #expect(error?.error == .cancelled)
    }

    @Test func aFiredTokenStopsWhatIsStartedLater() throws {
        let token = try CancelToken()
        let connection = try pair.connectSource(cancel: token)
        token.fire()
        token.fire()
        #expect(token.isFired)
        #expect(throws: PostgresError.cancelled) { try connection.execute("SELECT 1") }
        #expect(try connection.execute("SELECT 1", heedsCancel: false).value == "1")
        #expect(throws: PostgresError.cancelled) { try pair.connectSource(cancel: token) }
    }

    private func isSleeping(_ count: Int = 1) throws -> Bool {
        let found = try pair.connectSource().execute(
            """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event = 'PgSleep'
            """)
        return found.value == "\(count)"
    }
}
