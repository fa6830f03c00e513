import Postgres

/// All rows of a table in one line: how many, and the sum of their hashes.
///
/// The order of rows does not matter, a row twice does, and so does every byte of every value. Each
/// row is hashed as text, under settings that make the text the same on both sides; sums are exact.
struct ContentHash: Sendable, Equatable {
    /// Names of the columns, sorted: a column missing on one side must not go unseen.
    let columns: String
    let rows: Int64
    let hash: String

    init(of table: String, on connection: Connection) throws {
        try connection.execute(
            """
            BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = pg_catalog; \
            SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; \
            SET LOCAL IntervalStyle = 'postgres'; SET LOCAL extra_float_digits = 3; \
            SET LOCAL bytea_output = 'hex'
            """)
        // The server writes the statement, as it knows how to quote names.
        let statement = try connection.execute(
            """
            SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname), \
            format('SELECT count(*), coalesce(sum(hashtextextended(ROW(%s)::text, 0)), 0) FROM %s', \
            string_agg(quote_ident(attname), ', ' ORDER BY attname), attrelid::regclass) \
            FROM pg_attribute WHERE attrelid = \(table)::regclass AND attnum > 0 \
            AND NOT attisdropped GROUP BY attrelid
            """)
        columns = statement.isEmpty ? "" : statement[0, 0] ?? ""
        let sums = try connection.execute(
            SQL(verbatim: statement.isEmpty ? "SELECT 0, 0" : statement[0, 1] ?? ""))
        rows = sums[0, 0].flatMap { Int64($0) } ?? 0
        hash = sums[0, 1] ?? ""
        try connection.execute("COMMIT")
    }
}
