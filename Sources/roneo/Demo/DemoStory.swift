import LocalCluster
import Postgres
import Replication

/// What the demonstration does, step by step, and tells while doing it.
struct DemoStory: Sendable {
    let stage: DemoStage
    private let began = ContinuousClock.now

    init(_ stage: DemoStage) {
        self.stage = stage
    }

    /// A copy at the end, beside its source.
    struct Verdict: Sendable {
        let dest: String
        let source: ContentHash
        let copy: ContentHash

        var isEqual: Bool { source == copy }

        var json: JSON {
            .object([
                "dest": JSON(dest), "rows": JSON(copy.rows), "source_hash": JSON(source.hash),
                "dest_hash": JSON(copy.hash), "equal": JSON(isEqual),
            ])
        }
    }

    /// What all of them say together.
    static func json(_ verdicts: [Verdict]) -> JSON {
        .object([
            "equal": JSON(verdicts.allSatisfy(\.isEqual)),
            "replicas": .array(verdicts.map(\.json)),
        ])
    }

    /// Plays all of it, and compares every copy with its source in the end.
    func play(_ narrator: Narrator) async throws -> [Verdict] {
        narrator.step("A source: pgbench's tables, and some with odd names and types")
        try await stage.createSource()
        narrator.say("500,000 accounts, a table named \"T.x, 100%\", a view, a partitioned table;")
        narrator.say(
            "a role \"reader\" that may SELECT and nothing else. No extension is installed there.")

        narrator.step("A destination: CREATE EXTENSION roneo")
        guard try await stage.createDestination() else {
            let failure = Failure(
                sqlState: SQLState.undefinedSchema,
                message: "the extension's files are not where this server looks for them",
                hint: "Run \"make -C extension install\" or \"roneo install\", then this again.")
            throw RunError(.configuration, failure)
        }
        try await stage.createSourceAndReplicas()
        narrator.say("roneo.create_source('shop', …), and then for each table one line such as")
        narrator.say("roneo.create_snapshot('shop', 'public.pgbench_accounts'),")
        narrator.say(
            "roneo.create_updater('shop', 'public.customers', control => 'updated_at'), or")
        narrator.say("roneo.create_dml('shop', 'public.orders').")
        narrator.say("dml and logdel need triggers, which \"reader\" may not make: a DBA ran what")
        narrator.say("roneo preflight shop --capture public.orders has printed.")
        narrator.say("Orders and their lines are one refresh group, with a foreign key.")

        narrator.step(
            "The application writes to the source all the time: pgbench in the background")
        let load = Task { try await writeMeanwhile() }
        let verdicts: [Verdict]
        do {
            try await refreshes(narrator)
            try await deletes(narrator)
            try await changes(narrator)
            try await failure(narrator)
            try await damage(narrator)
            verdicts = try await ending(narrator, load)
        } catch {
            load.cancel()
            throw error
        }
        let matched = verdicts.allSatisfy(\.isEqual)
        let took = Quantity.seconds(ContinuousClock.now - began)
        narrator.verdict(
            matched
                ? "All \(DemoStage.replicas.count) copies equal their sources, after \(took)."
                : "NOT all copies equal their sources, after \(took).", isGood: matched)
        return verdicts
    }

    private func refreshes(_ narrator: Narrator) async throws {
        narrator.step(
            "roneo refresh: the first copies, two at a time, each one of its own snapshot")
        narrator.show(try await refresh(DemoStage.replicas.map(\.dest), jobs: 2))

        narrator.step("Again, three times, while pgbench goes on writing")
        let busy = DemoStage.replicas.filter { !$0.dest.contains("Odd") }.map(\.dest)
        for _ in 1...3 {
            try await writeOn()
            narrator.say(ReportText.summary(try await refresh(busy, jobs: 2)))
        }

        narrator.step(
            "The same by SQL alone, over dblink: SELECT roneo.refresh('pgbench_branches')")
        try await writeOn()
        let run = try await stage.onDestination { connection in
            Records(
                try connection.execute(
                    "SELECT outcome, rows_received, seconds FROM roneo.refresh('pgbench_branches')")
            )
        }
        narrator.say(
            "\(run[0, "outcome"] ?? "?"): \(run[0, "rows_received"] ?? "?") rows in "
                + "\(run[0, "seconds"] ?? "?") s")

        narrator.step("What has not changed is not copied")
        narrator.show(try await refresh([DemoStage.oddTable]))
    }

    private func deletes(_ narrator: Narrator) async throws {
        narrator.step("Deletes arrive: DELETE FROM orders WHERE id <= 100, with their lines")
        try await stage.executeOnSource("DELETE FROM orders WHERE id <= 100")
        // The lines come along, as one of their group.
        narrator.show(try await refresh(["public.orders", "public.orders_kept"]))
        let left = try await stage.onDestination { connection in
            Records(
                try connection.execute(
                    """
                    SELECT (SELECT count(*) FROM orders WHERE id <= 100) AS orders, \
                    (SELECT count(*) FROM order_lines WHERE order_id <= 100) AS lines, \
                    (SELECT count(*) FROM orders_kept WHERE id <= 100 \
                    AND roneo_source_deleted IS NOT NULL) AS kept
                    """))
        }
        narrator.say(
            "dml has \(left[0, "orders"] ?? "?") of them left, and \(left[0, "lines"] ?? "?") lines; "
                + "logdel keeps \(left[0, "kept"] ?? "?"), with the time of their deletion.")
    }

    private func changes(_ narrator: Narrator) async throws {
        narrator.step("A column more on the source: ALTER TABLE pgbench_tellers ADD COLUMN note …")
        try await stage.executeOnSource(
            "ALTER TABLE pgbench_tellers ADD COLUMN note varchar(20) NOT NULL DEFAULT 'new'")
        narrator.show(try await refresh(["public.pgbench_tellers"]))
        let columns = try await stage.onDestination {
            try $0.execute(
                """
                SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' \
                ORDER BY attnum) FROM pg_attribute \
                WHERE attrelid = 'public.pgbench_tellers'::regclass AND attnum > 0
                """
            ).value ?? ""
        }
        narrator.say("The copy now has: \(columns)")
    }

    private func failure(_ narrator: Narrator) async throws {
        narrator.step("Something goes wrong: REVOKE SELECT ON pgbench_branches FROM reader")
        try await stage.executeOnSource(
            "REVOKE SELECT ON pgbench_branches FROM reader")
        let failed = try await refresh(["public.pgbench_branches", "public.pgbench_history"])
        narrator.show(failed)
        for replica in failed.replicas {
            ReportText.failure(replica, narrator.terminal).map { narrator.quote($0) }
        }
        let rows = try await stage.onDestination {
            try $0.execute("SELECT count(*) FROM public.pgbench_branches").value ?? "?"
        }
        narrator.say(
            "The old copy is still there (\(rows) rows), and the other replica was refreshed.")
        try await stage.executeOnSource(
            "GRANT SELECT ON pgbench_branches TO reader")
        narrator.say("GRANT SELECT, and once more:")
        try await writeOn()
        narrator.show(try await refresh(["public.pgbench_branches"]))
    }

    private func damage(_ narrator: Narrator) async throws {
        narrator.step("Somebody writes into the copy of orders: one row changed, one deleted")
        try await stage.onDestination { connection in
            _ = try connection.execute(
                """
                UPDATE orders SET total = total + 1 WHERE id = (SELECT max(id) FROM orders); \
                DELETE FROM order_lines WHERE order_id = (SELECT max(id) FROM orders) AND line = 1
                """)
        }
        narrator.say("roneo verify orders order_lines, while the application goes on writing:")
        let dests = ["public.orders", "public.order_lines"]
        narrator.quote(VerdictText.text(try await compare(dests), narrator.terminal))
        narrator.say("roneo repair --apply brings exactly these rows in line:")
        narrator.quote(
            VerdictText.text(try await compare(dests, repairs: true), narrator.terminal))
    }

    private func ending(
        _ narrator: Narrator, _ load: Task<Void, any Error>
    ) async throws -> [Verdict] {
        narrator.step("pgbench stops, a last refresh of all")
        try await stopWriting()
        _ = try? await load.value
        let written = try await stage.onSource {
            try $0.execute("SELECT count(*) FROM pgbench_history").value ?? "?"
        }
        narrator.say("It has written \(written) transactions meanwhile.")
        narrator.show(try await refresh(DemoStage.replicas.map(\.dest), jobs: 2))
        for _ in 1...50 where try await stage.isHeld() {
            try await Task.sleep(for: .milliseconds(100))
            _ = try await refresh(DemoStage.replicas.filter { $0.control != nil }.map(\.dest))
        }

        narrator.step("roneo status")
        let inspection = Inspection(destination: stage.destinationAddress, cancel: stage.cancel)
        narrator.quote(RecordText.status(try await inspection.status(), narrator.terminal))

        narrator.step(
            "Are they equal? All rows of both sides: their number and the sum of their hashes")
        return try await verify(narrator)
    }

    private func verify(_ narrator: Narrator) async throws -> [Verdict] {
        async let sources = stage.onSource { connection in
            try DemoStage.replicas.map { try ContentHash(of: $0.source, on: connection) }
        }
        async let copies = stage.onDestination { connection in
            try DemoStage.replicas.map {
                try ContentHash(of: $0.compared ?? $0.dest, on: connection)
            }
        }
        let pairs = Array(zip(try await sources, try await copies))
        var grid = TextGrid([
            .init(title: "copy", shrinks: true),
            .init(title: "rows", alignment: .right),
            .init(title: "hash of the source", alignment: .right, shrinks: true),
            .init(title: "hash of the copy", alignment: .right, shrinks: true),
            .init(title: ""),
        ])
        for (replica, (source, copy)) in zip(DemoStage.replicas, pairs) {
            grid.add([
                .init(replica.dest), .init(Quantity.count(copy.rows)), .init(source.hash),
                .init(copy.hash),
                source == copy ? .init("equal", .green) : .init("DIFFERENT", .red),
            ])
        }
        let lines = grid.lines(width: narrator.terminal.width.map { $0 - 4 }) {
            narrator.terminal.styled($0, $1)
        }
        narrator.quote(lines.joined(separator: "\n"))
        return zip(DemoStage.replicas, pairs).map {
            Verdict(dest: $0.dest, source: $1.0, copy: $1.1)
        }
    }

    private func refresh(_ dests: [String], jobs: Int = 1) async throws -> RunReport {
        var run = RefreshRun(destination: stage.destinationAddress, selection: .named(dests))
        run.jobs = jobs
        let report = try await run(cancel: stage.cancel)
        if stage.cancel.isFired { throw PostgresError.cancelled }
        return report
    }

    private func compare(_ dests: [String], repairs: Bool = false) async throws -> RunReport {
        var run = RefreshRun(destination: stage.destinationAddress, selection: .named(dests))
        var options = VerificationOptions()
        options.repairs = repairs
        options.applies = repairs
        run.options.verification = options
        let report = try await run(cancel: stage.cancel)
        if stage.cancel.isFired { throw PostgresError.cancelled }
        return report
    }

    /// Lets the application write a little more. A busy session is counted once a second, and a
    /// refresh before that would say "unchanged", leaving what is new to the next one.
    private func writeOn() async throws {
        for _ in 1...15 where !stage.cancel.isFired {
            try await Task.sleep(for: .milliseconds(100))
        }
        if stage.cancel.isFired { throw PostgresError.cancelled }
        try await stage.executeOnSource(
            """
            UPDATE customers SET name = name || '.', updated_at = clock_timestamp() \
            WHERE id % 10 = 0; \
            INSERT INTO customers (name) SELECT 'new' FROM generate_series(1, 5); \
            WITH o AS (INSERT INTO orders (customer_id) SELECT id FROM customers WHERE name = 'new' \
            RETURNING id) INSERT INTO order_lines SELECT id, 1, 9.99 FROM o; \
            UPDATE orders SET total = total + 1 WHERE id % 100 = 0; \
            DELETE FROM orders WHERE id IN (SELECT id FROM orders WHERE id > 100 LIMIT 5)
            """)
    }

    /// Not as fast as it can: the demonstration is to be seen on a small machine too.
    private func writeMeanwhile() async throws {
        try await onOwnThread(cancel: stage.cancel) { [stage] _ in
            _ = try stage.pgbench("-n", "-c", "2", "-R", "200", "-T", "120")
        }
    }

    /// The application is stopped from the server's side, wherever it is in its work. What its
    /// sessions did is counted when they end, and a refresh believes those counters.
    private func stopWriting() async throws {
        try await stage.onSource { connection in
            try connection.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE application_name = 'pgbench'
                """)
            let left: SQL = """
                SELECT count(*), pg_sleep(0.05) FROM pg_stat_activity \
                WHERE application_name = 'pgbench'
                """
            while try connection.execute(left).value != "0" {}
        }
    }
}
