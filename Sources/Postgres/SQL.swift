/// A statement and the values of its parameters.
///
/// Interpolation never becomes text: `"SELECT f(\(name)::regclass)"` is `SELECT f($1::regclass)`
/// and one parameter. ``init(verbatim:)`` is the one door for text.
public struct SQL: Sendable, Equatable {
    /// The statement, with `$1`, `$2`, … where values were.
    public private(set) var text: String
    /// The values in text form, in order; nil is NULL.
    public private(set) var parameters: [String?]

    /// Text that is to run as it is: what the extension planned, and nothing a user typed.
    public init(verbatim text: String) {
        self.text = text
        self.parameters = []
    }

    /// A statement and its parameters, where the statement was made elsewhere and has `$1`, ….
    public init(verbatim text: String, parameters: [String?]) {
        self.text = text
        self.parameters = parameters
    }
}

extension SQL: ExpressibleByStringInterpolation {
    public init(stringLiteral value: String) {
        self.init(verbatim: value)
    }

    public init(stringInterpolation interpolation: Interpolation) {
        self = interpolation.sql
    }

    /// Collects the pieces of a literal: text as text, values as parameters.
    public struct Interpolation: StringInterpolationProtocol {
        var sql = SQL(verbatim: "")

        public init(literalCapacity: Int, interpolationCount: Int) {}

        public mutating func appendLiteral(_ literal: String) {
            sql.text += literal
        }

        /// Text of this program's own: what is the same in several statements.
        public mutating func appendInterpolation(verbatim text: StaticString) {
            sql.text += "\(text)"
        }

        /// A value: becomes the next parameter.
        public mutating func appendInterpolation(_ value: some LosslessStringConvertible) {
            append(value.description)
        }

        /// A value that may be missing: nil is NULL.
        public mutating func appendInterpolation(_ value: (some LosslessStringConvertible)?) {
            append(value?.description)
        }

        /// Several texts as one array parameter: `\(names)::text[]`.
        public mutating func appendInterpolation(_ values: [String]) {
            append(SQL.arrayLiteral(values))
        }

        /// Several texts as one array parameter, or NULL.
        public mutating func appendInterpolation(_ values: [String]?) {
            append(values.map(SQL.arrayLiteral))
        }

        private mutating func append(_ value: String?) {
            sql.parameters.append(value)
            sql.text += "$\(sql.parameters.count)"
        }
    }

    /// The input form of an array of texts, every element quoted.
    static func arrayLiteral(_ values: [String]) -> String {
        var literal = "{"
        for value in values {
            if literal.utf8.count > 1 { literal += "," }
            literal += "\""
            for character in value.unicodeScalars {
                if character == "\"" || character == "\\" { literal += "\\" }
                literal.unicodeScalars.append(character)
            }
            literal += "\""
        }
        return literal + "}"
    }
}
