/// A table for people: a header, a line under it, columns as wide as what stands in them, cut to
/// fit a terminal.
///
/// There are packages that draw tables and colours; both import all of Foundation, which alone
/// takes longer to load than `roneo status` takes to run. This is what is needed of them.
struct TextGrid: Sendable {
    enum Alignment: Sendable {
        case left, right
    }

    struct Column: Sendable {
        let title: String
        var alignment = Alignment.left
        /// Whether it gives way where the terminal is too narrow.
        var shrinks = false
        /// Whether it is left out where nothing stands in it, or the terminal is much too narrow.
        var isOptional = false
    }

    struct Cell: Sendable, ExpressibleByStringLiteral {
        let text: String
        var style: Style?

        init(_ text: String?, _ style: Style? = nil) {
            self.text = (text ?? "").printable
            self.style = style
        }

        init(stringLiteral value: String) {
            self.init(value)
        }
    }

    let columns: [Column]
    private(set) var rows: [[Cell]] = []

    init(_ columns: [Column]) {
        self.columns = columns
    }

    mutating func add(_ cells: [Cell]) {
        precondition(cells.count == columns.count)
        rows.append(cells)
    }

    /// - Parameter width: of the terminal; nil where nothing must be cut.
    func lines(width: Int?, style: (String, Style) -> String = { text, _ in text }) -> [String] {
        let (shown, widths) = layout(within: width)
        let header = shown.map { style(pad(columns[$0].title, $0, widths), .bold) }
        let rule = shown.map { String(repeating: "-", count: widths[$0]) }
        let body = rows.map { row in
            shown.map { index in
                let text = pad(row[index].text, index, widths)
                return row[index].style.map { style(text, $0) } ?? text
            }
        }
        return ([header, rule] + body).map { $0.joined(separator: "  ").trimmingEnd() }
    }

    /// No column gets narrower than that.
    private static let leastWidth = 16

    /// The columns to show, and their widths. Where the terminal is too narrow for all of them,
    /// optional ones go: the last first, and those with long texts after the others.
    private func layout(within total: Int?) -> (shown: [Int], widths: [Int]) {
        var shown = columns.indices.filter { index in
            !columns[index].isOptional || rows.contains { !$0[index].text.isEmpty }
        }
        while true {
            let widths = columnWidths(shown, within: total)
            guard let total, sum(shown, widths) > total,
                let last = shown.lastIndex(where: { columns[$0].isOptional && !columns[$0].shrinks }
                )
                    ?? shown.lastIndex(where: { columns[$0].isOptional })
            else { return (shown, widths) }
            shown.remove(at: last)
        }
    }

    private func sum(_ shown: [Int], _ widths: [Int]) -> Int {
        shown.reduce(2 * (shown.count - 1)) { $0 + widths[$1] }
    }

    private func columnWidths(_ shown: [Int], within total: Int?) -> [Int] {
        var widths = columns.indices.map { index in
            rows.reduce(columns[index].title.displayWidth) { max($0, $1[index].text.displayWidth) }
        }
        guard let total else { return widths }
        // The widest column that may gives way first, a column at a time, so that short ones stay.
        while sum(shown, widths) > total {
            let candidates = shown.filter {
                columns[$0].shrinks && widths[$0] > Self.leastWidth
            }
            guard let widest = candidates.max(by: { widths[$0] < widths[$1] }) else { break }
            widths[widest] -= 1
        }
        return widths
    }

    private func pad(_ text: String, _ index: Int, _ widths: [Int]) -> String {
        let shown = text.cut(to: widths[index])
        let space = String(repeating: " ", count: max(0, widths[index] - shown.displayWidth))
        return columns[index].alignment == .left ? shown + space : space + shown
    }
}

extension String {
    /// Without control characters, which a name may hold and a terminal would obey.
    var printable: String {
        var text = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "\n": text += "\\n"
            case "\t": text += "\\t"
            case "\r": text += "\\r"
            default:
                if scalar.properties.generalCategory == .control {
                    text += "\\u{\(String(scalar.value, radix: 16))}"
                } else {
                    text.unicodeScalars.append(scalar)
                }
            }
        }
        return text
    }

    /// The columns it takes on a terminal.
    var displayWidth: Int {
        reduce(0) { $0 + $1.displayWidth }
    }

    /// The text, or its beginning and an ellipsis.
    func cut(to width: Int) -> String {
        guard displayWidth > width else { return self }
        var text = ""
        var used = 0
        for character in self {
            guard used + character.displayWidth < width else { break }
            text.append(character)
            used += character.displayWidth
        }
        return text + "…"
    }

    /// Without the white space around it.
    func trimmingEnds() -> String {
        let text = drop { $0.isWhitespace }
        return String(text.prefix(text.count - text.reversed().prefix { $0.isWhitespace }.count))
    }

    func trimmingEnd() -> String {
        var text = Substring(self)
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}

extension Character {
    /// Two for East Asian wide characters and emoji, one for the others.
    fileprivate var displayWidth: Int {
        guard let scalar = unicodeScalars.first else { return 0 }
        switch scalar.value {
        case 0x1100...0x115f, 0x2e80...0x303e, 0x3041...0xa4cf, 0xac00...0xd7a3,
            0xf900...0xfaff, 0xfe30...0xfe6f, 0xff00...0xff60, 0xffe0...0xffe6,
            0x1f300...0x1f64f, 0x1f900...0x1f9ff, 0x20000...0x3fffd:
            return 2
        default:
            return 1
        }
    }
}
