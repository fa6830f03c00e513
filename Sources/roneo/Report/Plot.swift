/// Small plots as inline SVG: a column for each stretch of time, as wide as the page makes it.
struct Plot {
    /// What happened in a stretch of time.
    enum Mark: String {
        case good, waited, bad
        /// Ran, and had nothing to copy.
        case idle
    }

    /// How many stretches of time there are.
    let columns: Int
    /// Whether to do without words, where there are so many plots that these would be the most of
    /// the page.
    var isTerse = false

    private static let height = 28.0

    /// A column for each stretch with runs, of shares that add up to 1, with words for who points
    /// at it.
    func strip(
        _ cells: [(column: Int, shares: [(mark: Mark, share: Double)], words: String)]
    ) -> String {
        guard !isTerse else { return svg(paths(cells.map { ($0.column, $0.shares) })) }
        let groups = cells.map { cell in
            "<g><title>\(HTML.escaped(cell.words))</title>\(paths([(cell.column, cell.shares)]))</g>"
        }
        return svg(groups.joined())
    }

    /// One path for each mark.
    private func paths(_ cells: [(column: Int, shares: [(mark: Mark, share: Double)])]) -> String {
        var paths: [String: String] = [:]
        for (column, shares) in cells {
            var bottom = Self.height
            for (mark, share) in shares {
                let top = bottom - share * Self.height
                paths[mark.rawValue, default: ""] +=
                    "M\(column) \(Self.number(bottom))V\(Self.number(top))h.82V\(Self.number(bottom))z"
                bottom = top
            }
        }
        return paths.sorted { $0.key < $1.key }
            .map { "<path class=\"\($0.key)\" d=\"\($0.value)\"/>" }.joined()
    }

    /// A bar for each value, as high as it is of the greatest; those above a limit stand out.
    func bars(_ values: [(column: Int, value: Double)], limit: Double? = nil) -> String {
        let top = values.map(\.value).max() ?? 0
        guard top > 0 else { return svg("") }
        var paths: [String: String] = [:]
        for (column, value) in values where value > 0 {
            let style = limit.map { value > $0 } ?? false ? "above" : "bar"
            // What is there can be seen, however small.
            let height = max(1.2, value / top * Self.height)
            paths[style, default: ""] +=
                "M\(column) 28v-\(Self.number(height))h.82V28z"
        }
        var marks = paths.sorted { $0.key < $1.key }
            .map { "<path class=\"\($0.key)\" d=\"\($0.value)\"/>" }.joined()
        if let limit, limit < top {
            let y = Self.number(Self.height - limit / top * Self.height)
            marks += "<path class=\"limit\" d=\"M0 \(y)H\(columns)\"/>"
        }
        return svg(marks)
    }

    private func svg(_ marks: String) -> String {
        "<svg viewBox=\"0 0 \(columns) 28\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
            + "\(marks)</svg>"
    }

    /// With one digit behind the point.
    private static func number(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }
}
