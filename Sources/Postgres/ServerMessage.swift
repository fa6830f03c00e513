import CLibPQ

extension PostgresError {
    /// The error that a result carries, without the values of rows.
    init(result: OpaquePointer) {
        func field(_ code: Int32) -> String? {
            PQresultErrorField(result, code).map { String(cString: $0) }
        }
        guard let sqlState = field(diagSQLState) else {
            // Only libpq itself speaks without a SQLSTATE, and only when the connection is gone.
            self.init(
                origin: .connectionLost, severity: "FATAL",
                message: Self.oneParagraph(String(cString: PQresultErrorMessage(result))))
            return
        }
        let discretion = Discretion(sqlState: sqlState)
        self.init(
            origin: .server, sqlState: sqlState, severity: field(diagSeverity) ?? "ERROR",
            message: discretion.message(field(diagMessage) ?? ""),
            detail: field(diagDetail).map(discretion.detail), hint: field(diagHint),
            context: field(diagContext).map(discretion.context),
            schemaName: field(diagSchema), tableName: field(diagTable),
            columnName: field(diagColumn), constraintName: field(diagConstraint))
    }

    /// What libpq says of a connection that could not be made or got lost.
    ///
    /// While connecting, libpq has been asked to be verbose, since that is the only way to learn
    /// the SQLSTATE: `…failed: FATAL:  3D000: database "x" does not exist`.
    init(connection: OpaquePointer, origin: Origin) {
        var lines: [String] = []
        var state: String?
        for line in String(cString: PQerrorMessage(connection)).split(separator: "\n")
        where !line.hasPrefix("LOCATION:  ") {
            var pieces = Substring(line).components(separatedBy: ":  ")
            if pieces.count > 1, let found = pieces[1].leadingSQLState {
                state = found
                pieces[1].removeFirst(7)
            }
            lines.append(pieces.joined(separator: ": "))
        }
        self.init(
            origin: origin, sqlState: state, severity: "FATAL",
            message: lines.isEmpty ? "the connection failed" : lines.joined(separator: "\n"))
    }

    private static func oneParagraph(_ text: String) -> String {
        text.split(whereSeparator: \.isNewline).map { $0.drop(while: \.isWhitespace) }
            .joined(separator: " ")
    }
}

/// Takes the values of rows out of a server's words.
///
/// By the form of the words, since servers speak many languages: a value is in quotes in errors of
/// class 22 (data), in parentheses in details of class 23 (constraints), and behind a colon in
/// the context of a COPY.
struct Discretion {
    let sqlState: String

    private var isDataError: Bool { sqlState.hasPrefix("22") }
    private var isConstraintError: Bool { sqlState.hasPrefix("23") }
    // Their quotes hold the names of encodings.
    private var isEncodingError: Bool { ["22021", "22P05"].contains(sqlState) }

    func message(_ text: String) -> String {
        isDataError && !isEncodingError ? Self.withoutQuotedText(text) : text
    }

    func detail(_ text: String) -> String {
        if isDataError { return Self.withoutQuotedText(text) }
        guard isConstraintError else { return text }
        let values = text.range(of: ")=(")?.upperBound ?? text.range(of: "(")?.upperBound
        guard let values, let end = text.lastIndex(of: ")"), values <= end else { return text }
        return text[..<values] + "…" + text[end...]
    }

    func context(_ text: String) -> String {
        var kept: [Substring] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            let prefixes = ["COPY ", "JSON "]
            guard prefixes.contains(where: line.hasPrefix) || isDataError else {
                kept.append(line)
                continue
            }
            guard let colon = line.range(of: ": ") else {
                kept.append(line)
                continue
            }
            kept.append(line[..<colon.lowerBound])
            // The value may go on for any number of lines.
            break
        }
        return kept.joined(separator: "\n")
    }

    static func withoutQuotedText(_ text: String) -> String {
        guard let first = text.firstIndex(of: "\""), let last = text.lastIndex(of: "\""),
            first < last
        else { return text }
        return text[...first] + "…" + text[last...]
    }
}

// FoundationEssentials would bring these, and the time to load it.
extension StringProtocol {
    /// Where a text occurs first.
    fileprivate func range(of text: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            let rest = self[start...]
            if rest.hasPrefix(text) {
                return start..<index(start, offsetBy: text.count)
            }
            start = index(after: start)
        }
        return nil
    }

    fileprivate func components(separatedBy text: String) -> [String] {
        var pieces: [String] = []
        var rest = self[...]
        while let found = rest.range(of: text) {
            pieces.append(String(rest[..<found.lowerBound]))
            rest = rest[found.upperBound...]
        }
        return pieces + [String(rest)]
    }

    /// The SQLSTATE of `3D000: database …`.
    fileprivate var leadingSQLState: String? {
        let state = prefix(5)
        guard state.utf8.count == 5, dropFirst(5).hasPrefix(": "),
            state.utf8.allSatisfy({ (48...57).contains($0) || (65...90).contains($0) })
        else { return nil }
        return String(state)
    }
}
