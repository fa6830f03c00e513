import Postgres

/// Rows for people to read: values as text, by the names of their columns.
public struct Records: Sendable, Equatable {
    public let columns: [String]
    public let rows: [[String?]]

    public init(columns: [String], rows: [[String?]]) {
        self.columns = columns
        self.rows = rows
    }

    public init(_ result: QueryResult) {
        let columns = result.columns
        self.init(
            columns: columns,
            rows: (0..<result.count).map { row in columns.indices.map { result[row, $0] } })
    }

    /// The value; nil where it is NULL, or there is no such column.
    public subscript(row: Int, column: String) -> String? {
        columns.firstIndex(of: column).flatMap { rows[row][$0] }
    }
}
