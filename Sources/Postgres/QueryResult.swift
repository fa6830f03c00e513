import CLibPQ

/// Rows that a statement returned, in text form, and what else the server said of it.
public struct QueryResult {
    let handle: ResultHandle

    /// How many rows there are.
    public var count: Int { fatalError() }
    /// The columns' names, in order.
    public var columns: [String] { fatalError() }
    /// Whether no row came back.
    public var isEmpty: Bool { count == 0 }
    /// What the server calls the statement's effect: `INSERT 0 5`, `COPY 7`, `BEGIN`.
    public var commandTag: String { fatalError() }
    /// Rows that the statement touched; 0 where that is no question.
    public var affectedRows: Int64 { fatalError() }
    /// A value by row and column name; nil is NULL. An unknown column is a programmer's error.
    public subscript(row: Int, column: String) -> String? { fatalError() }
    /// A value by row and column number, from 0; nil is NULL.
    public subscript(row: Int, column: Int) -> String? { fatalError() }
    /// The first column of the first row; nil when there is none, or it is NULL.
    public var value: String? { isEmpty ? nil : self[0, 0] }
}

/// Owns one PGresult.
final class ResultHandle {
    let pointer: OpaquePointer
    init(_ pointer: OpaquePointer) { self.pointer = pointer }
    deinit { PQclear(pointer) }
}
