/// A piece of JSON text.
///
/// Documents of a source go into a result as they came: putting text together keeps every digit of
/// a numeric, every order of keys, which a parser and a printer would not.
public struct JSON: Sendable, Equatable, CustomStringConvertible {
    public let description: String

    /// Text that is JSON already, such as a document of the server.
    public init(verbatim text: String) {
        description = text
    }

    /// The same, where a missing document is null.
    public init(verbatim text: String?) {
        description = text ?? "null"
    }

    public init(_ string: String) {
        var text = "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case "\u{0}"..<" ", "\u{7f}":
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        description = text + "\""
    }

    public init(_ string: String?) {
        self = string.map { JSON($0) } ?? .null
    }

    public init(_ number: some BinaryInteger) {
        description = String(number)
    }

    public init(_ number: (some BinaryInteger)?) {
        self = number.map { JSON($0) } ?? .null
    }

    public init(_ flag: Bool) {
        description = flag ? "true" : "false"
    }

    /// A number of seconds, to the microsecond.
    public init(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        let micros = String(attoseconds / 1_000_000_000_000)
        let padded = String(repeating: "0", count: 6 - micros.count) + micros
        description = "\(seconds).\(padded)"
    }

    public static let null = JSON(verbatim: "null")

    public static func array(_ elements: some Sequence<JSON>) -> JSON {
        JSON(verbatim: "[" + elements.map(\.description).joined(separator: ",") + "]")
    }

    public static func object(_ members: KeyValuePairs<String, JSON>) -> JSON {
        let parts = members.map { "\(JSON($0.key)):\($0.value)" }
        return JSON(verbatim: "{" + parts.joined(separator: ",") + "}")
    }
}
