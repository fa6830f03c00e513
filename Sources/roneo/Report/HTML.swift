/// Pieces of a page.
enum HTML {
    /// Text as text, wherever it stands.
    static func escaped(_ text: String) -> String {
        var safe = ""
        for scalar in text.printable.unicodeScalars {
            switch scalar {
            case "&": safe += "&amp;"
            case "<": safe += "&lt;"
            case ">": safe += "&gt;"
            case "\"": safe += "&quot;"
            case "'": safe += "&#39;"
            default: safe.unicodeScalars.append(scalar)
            }
        }
        return safe
    }

    /// Escaped text behind the # of a link, where spaces and percent signs mean something else.
    static func fragment(_ text: String) -> String {
        text.map { $0 == "%" ? "%25" : $0 == " " ? "%20" : String($0) }.joined()
    }

    /// An element around other elements.
    static func element(_ name: String, _ attributes: String = "", _ content: String...) -> String {
        let space = attributes.isEmpty ? "" : " "
        return "<\(name)\(space)\(attributes)>\(content.joined())</\(name)>"
    }

    /// An element of a class around text.
    static func text(_ name: String, _ style: String, _ text: String?) -> String {
        text.map { element(name, "class=\"\(style)\"", escaped($0)) } ?? ""
    }
}
