import CLibPQ

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Rows that a statement returned, in text form, and what else the server said of it.
public struct QueryResult {
    let handle: ResultHandle

    /// How many rows there are.
    public var count: Int { Int(PQntuples(handle.pointer)) }

    /// Whether no row came back.
    public var isEmpty: Bool { count == 0 }

    /// The columns' names, in order.
    public var columns: [String] {
        (0..<PQnfields(handle.pointer)).map { String(cString: PQfname(handle.pointer, $0)) }
    }

    /// What the server calls the statement's effect: `INSERT 0 5`, `COPY 7`, `BEGIN`.
    public var commandTag: String { String(cString: PQcmdStatus(handle.pointer)) }

    /// Rows that the statement touched; 0 where that is no question.
    public var affectedRows: Int64 { Int64(String(cString: PQcmdTuples(handle.pointer))) ?? 0 }

    /// A value by row, from 0, and column name; nil is NULL.
    ///
    /// A column that the statement does not return is a mistake of the program, and ends it.
    public subscript(row: Int, column: String) -> String? {
        // Not PQfnumber: that would fold the name to lower case.
        guard
            let number = (0..<PQnfields(handle.pointer))
                .first(where: { strcmp(PQfname(handle.pointer, $0), column) == 0 })
        else { preconditionFailure("the result has no column \(column), only \(columns)") }
        return self[row, Int(number)]
    }

    /// A value by row and column number, both from 0; nil is NULL.
    public subscript(row: Int, column: Int) -> String? {
        precondition((0..<count).contains(row), "the result has \(count) rows, not row \(row)")
        let (row, column) = (Int32(row), Int32(column))
        guard PQgetisnull(handle.pointer, row, column) == 0 else { return nil }
        let bytes = UnsafeRawBufferPointer(
            start: PQgetvalue(handle.pointer, row, column),
            count: Int(PQgetlength(handle.pointer, row, column)))
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The first column of the first row; nil when there is none, or it is NULL.
    public var value: String? {
        isEmpty || PQnfields(handle.pointer) == 0 ? nil : self[0, 0]
    }
}
