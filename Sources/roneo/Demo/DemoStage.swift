import LocalCluster
import Postgres
import Replication

/// What the demonstration plays on: two clusters, a database on each.
///
/// The SQL here is the demonstration's scenery, such as any user would write; of the replication's
/// own there is none.
struct DemoStage: Sendable {
    let source: ThrowawayCluster
    let destination: ThrowawayCluster
    let cancel: CancelToken

    static let sourceDatabase = "shop"
    static let destinationDatabase = "copies"

    /// A copy that the demonstration makes, and what of.
    struct Replica: Sendable {
        let method: String
        let source: String
        let dest: String
        /// The column that an inserter or updater follows.
        var control: String?
        /// What is to equal the source, where the copy has more than that.
        var compared: String?
        /// Refreshed together with the others of this name.
        var group: String?
    }

    static let replicas = [
        Replica(
            method: "snapshot", source: "public.pgbench_accounts", dest: "public.pgbench_accounts"),
        Replica(
            method: "snapshot", source: "public.pgbench_tellers", dest: "public.pgbench_tellers"),
        Replica(
            method: "snapshot", source: "public.pgbench_branches", dest: "public.pgbench_branches"),
        Replica(
            method: "plain", source: "public.pgbench_history", dest: "public.pgbench_history"),
        Replica(
            method: "inserter", source: "public.pgbench_history", dest: "public.history_by_time",
            control: "mtime"),
        Replica(
            method: "updater", source: "public.customers", dest: "public.customers",
            control: "updated_at"),
        Replica(method: "dml", source: "public.orders", dest: "public.orders", group: "sales"),
        Replica(
            method: "dml", source: "public.order_lines", dest: "public.order_lines",
            group: "sales"),
        Replica(
            method: "logdel", source: "public.orders", dest: "public.orders_kept",
            compared: "public.orders_there"),
        Replica(method: "snapshot", source: oddTable, dest: oddTable),
        Replica(method: "plain", source: oddTable, dest: #""Odd Schema"."once more, plain""#),
        Replica(
            method: "plain", source: #""Odd Schema"."cheap ""things""""#,
            dest: #""Odd Schema".cheap"#),
        Replica(
            method: "snapshot", source: #""Odd Schema".by_year"#, dest: #""Odd Schema".by_year"#),
    ]

    static let oddTable = #""Odd Schema"."T.x, 100%""#

    /// Starts both clusters at the same time.
    static func build(cancel: CancelToken) async throws -> DemoStage {
        async let source = onOwnThread(cancel: cancel) { _ in
            try ThrowawayCluster(name: "source")
        }
        async let destination = onOwnThread(cancel: cancel) { _ in
            try ThrowawayCluster(name: "dest")
        }
        return DemoStage(
            source: try await source, destination: try await destination, cancel: cancel)
    }

    func remove() {
        source.remove()
        destination.remove()
    }

    /// Where the runner finds the copies.
    var destinationAddress: Destination {
        Destination(conninfo: destination.conninfo(database: Self.destinationDatabase))
    }

    /// On the source, as the application that owns the tables.
    func onSource<T: Sendable>(
        _ body: @escaping @Sendable (Connection) throws -> T
    ) async throws -> T {
        try await on(source, Self.sourceDatabase, body)
    }

    func executeOnSource(_ sql: SQL) async throws {
        try await onSource { connection in _ = try connection.execute(sql) }
    }

    func onDestination<T: Sendable>(
        _ body: @escaping @Sendable (Connection) throws -> T
    ) async throws -> T {
        try await on(destination, Self.destinationDatabase, body)
    }

    private func on<T: Sendable>(
        _ cluster: ThrowawayCluster, _ database: String,
        _ body: @escaping @Sendable (Connection) throws -> T
    ) async throws -> T {
        try await onOwnThread(cancel: cancel) { cancel in
            let connection = try Connection(
                conninfo: cluster.conninfo(database: database), applicationName: "roneo demo",
                cancel: cancel)
            defer { connection.close() }
            return try body(connection)
        }
    }
}

// MARK: - Scenery

extension DemoStage {
    /// The application's database: pgbench's tables, some with odd names and types, and a role
    /// that may only read.
    func createSource() async throws {
        try await onOwnThread(cancel: cancel) { [self] _ in
            try source.createDatabase(Self.sourceDatabase)
            try pgbench("-i", "-s", "5", "-q")
        }
        try await executeOnSource(SQL(verbatim: Self.oddTables))
        try await executeOnSource(SQL(verbatim: Self.reader))
    }

    /// False where the extension's files are not where this server looks for them.
    func createDestination() async throws -> Bool {
        try await onOwnThread(cancel: cancel) { [self] _ in
            try destination.createDatabase(Self.destinationDatabase)
        }
        return try await onDestination { connection in
            let found = try connection.execute(
                "SELECT FROM pg_available_extensions WHERE name = 'roneo'")
            guard !found.isEmpty else { return false }
            try connection.execute(
                """
                CREATE EXTENSION dblink; CREATE EXTENSION roneo; CREATE SCHEMA "Odd Schema"; \
                CREATE TYPE "Odd Schema".mood AS ENUM ('sad', 'ok', 'happy')
                """)
            return true
        }
    }

    /// What the DBA of the source runs, because "reader" may make no triggers there.
    func captureOnSource() async throws {
        let inspection = Inspection(destination: destinationAddress, cancel: cancel)
        for table in ["public.orders", "public.order_lines"] {
            let script = try await inspection.captureScript(
                source: "shop", table: table, keepsDeleted: true)
            try await executeOnSource(SQL(verbatim: script))
        }
    }

    func createSourceAndReplicas() async throws {
        let address = source.conninfo(database: Self.sourceDatabase, user: "reader")
        try await onDestination { connection in
            _ = try connection.execute("SELECT roneo.create_source('shop', \(address))")
        }
        try await captureOnSource()
        try await onDestination { connection in
            for replica in Self.replicas {
                try connection.execute(Self.creation(of: replica))
                if let group = replica.group {
                    try connection.execute(
                        "SELECT roneo.set_refresh_group(\(replica.dest)::regclass, \(group))")
                }
            }
            try connection.execute(
                """
                ALTER TABLE public.order_lines ADD FOREIGN KEY (order_id) REFERENCES public.orders; \
                CREATE VIEW public.orders_there AS SELECT id, customer_id, total \
                FROM public.orders_kept WHERE roneo_source_deleted IS NULL
                """)
        }
    }

    /// One function a method, as a user would call it; the names are parameters.
    private static func creation(of replica: Replica) -> SQL {
        switch replica.method {
        case "inserter":
            """
            SELECT roneo.create_inserter('shop', \(replica.source), \(replica.dest), \
            control => \(replica.control), append_only => true)
            """
        case "updater":
            """
            SELECT roneo.create_updater('shop', \(replica.source), \(replica.dest), \
            control => \(replica.control))
            """
        case "dml":
            """
            SELECT roneo.create_dml('shop', \(replica.source), \(replica.dest), \
            copy_data => false)
            """
        case "logdel":
            """
            SELECT roneo.create_logdel('shop', \(replica.source), \(replica.dest), \
            copy_data => false)
            """
        case "plain":
            """
            SELECT roneo.create_plain('shop', \(replica.source), \(replica.dest), \
            copy_data => false)
            """
        default:
            """
            SELECT roneo.create_snapshot('shop', \(replica.source), \(replica.dest), \
            copy_data => false)
            """
        }
    }

    /// Rows that wait for a transaction on the source, which may be anybody's, are to come yet.
    func isHeld() async throws -> Bool {
        try await onDestination {
            try $0.execute("SELECT count(*) FROM roneo.status WHERE held_by IS NOT NULL").value
                != "0"
        }
    }

    /// Runs pgbench to its end and returns what it printed.
    @discardableResult
    func pgbench(_ arguments: String...) throws -> Program {
        let address = ["-h", source.directory, "-p", "\(source.port)", "-U", source.superuser]
        let program = try Program.run(
            ["\(source.binaries.directory)/pgbench"] + address + arguments
                + [Self.sourceDatabase],
            in: source.directory)
        if arguments.contains("-i"), program.status != 0 {
            throw Failure(
                sqlState: SQLState.systemError, message: "pgbench failed: \(program.output)",
                hint:
                    "It comes with the server's programs (Debian and Ubuntu: apt install postgresql)."
            )
        }
        return program
    }

    private static let oddTables = #"""
        CREATE TABLE public.customers (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT clock_timestamp());
        INSERT INTO public.customers (name)
            SELECT format('customer %s', n) FROM generate_series(1, 10000) AS n;
        CREATE INDEX ON public.customers (updated_at);
        CREATE TABLE public.orders (
            id bigserial PRIMARY KEY, customer_id bigint NOT NULL REFERENCES public.customers,
            total numeric NOT NULL DEFAULT 0);
        CREATE TABLE public.order_lines (
            order_id bigint REFERENCES public.orders ON DELETE CASCADE, line int, price numeric,
            PRIMARY KEY (order_id, line));
        INSERT INTO public.orders (customer_id) SELECT 1 + n % 10000 FROM generate_series(1, 20000) AS n;
        INSERT INTO public.order_lines
            SELECT id, line, line * 1.5 FROM public.orders, generate_series(1, 3) AS line;
        CREATE SCHEMA "Odd Schema";
        CREATE TYPE "Odd Schema".mood AS ENUM ('sad', 'ok', 'happy');
        CREATE TABLE "Odd Schema"."T.x, 100%" (
            "Id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            "select" text COLLATE "C" NOT NULL,
            "ünï ""quoted""" varchar(40),
            price numeric, ratio float8, at timestamptz, local timestamp(3), day date,
            span interval, flag boolean, tags text[], doc jsonb, raw bytea, addr inet, uid uuid,
            during tstzrange, feeling "Odd Schema".mood, code char(4), bits bit(5),
            doubled numeric GENERATED ALWAYS AS (price * 2) STORED
        );
        INSERT INTO "Odd Schema"."T.x, 100%" ("select", "ünï ""quoted""", price, ratio, at, local,
            day, span, flag, tags, doc, raw, addr, uid, during, feeling, code, bits)
        SELECT 'row ' || n, CASE WHEN n % 3 > 0 THEN E'tab\t, quote'' "é" ' || n END,
            CASE n % 5 WHEN 0 THEN 'NaN' WHEN 1 THEN NULL ELSE n / 7.0 END,
            CASE n % 4 WHEN 0 THEN 'infinity' ELSE sqrt(n) END,
            CASE n % 6 WHEN 0 THEN '-infinity' ELSE timestamptz '2026-01-01' + n * interval '1 hour' END,
            timestamp '2026-10-25 02:30' + n * interval '1 second', date '0044-03-15 BC' + n,
            make_interval(months => n, secs => n / 3.0), n % 2 = 0,
            ARRAY['a,b', NULL, n::text], jsonb_build_object('n', n, 'list', jsonb_build_array(1.10, null)),
            decode(md5(n::text), 'hex'), inet '10.0.0.0' + n, md5(n::text)::uuid,
            tstzrange(now(), now() + n * interval '1 day'),
            (ARRAY['sad', 'ok', 'happy'])[1 + n % 3]::"Odd Schema".mood, 'c' || n % 9, (n % 32)::bit(5)
        FROM generate_series(1, 3000) AS n;
        CREATE INDEX ON "Odd Schema"."T.x, 100%" (lower("select")) WHERE flag;
        CREATE INDEX ON "Odd Schema"."T.x, 100%" USING gin (tags);
        CREATE UNIQUE INDEX ON "Odd Schema"."T.x, 100%" (uid) INCLUDE (price);
        CREATE VIEW "Odd Schema"."cheap ""things""" AS
            SELECT "Id", "select", price FROM "Odd Schema"."T.x, 100%" WHERE price < 100;
        CREATE TABLE "Odd Schema".by_year (year int NOT NULL, n int NOT NULL, PRIMARY KEY (year, n))
            PARTITION BY LIST (year);
        CREATE TABLE "Odd Schema".y2025 PARTITION OF "Odd Schema".by_year FOR VALUES IN (2025);
        CREATE TABLE "Odd Schema".y2026 PARTITION OF "Odd Schema".by_year FOR VALUES IN (2026);
        INSERT INTO "Odd Schema".by_year SELECT 2025 + n % 2, n FROM generate_series(1, 5000) AS n;
        """#

    private static let reader = """
        CREATE ROLE reader LOGIN;
        GRANT USAGE ON SCHEMA public, "Odd Schema" TO reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA public, "Odd Schema" TO reader;
        """
}
