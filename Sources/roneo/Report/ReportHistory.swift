import Replication

/// What happened to one replica, or to all of them, stretch by stretch.
struct ReportHistory {
    struct Stretch {
        var runs: Int64 = 0
        var copied: Int64 = 0
        var failed: Int64 = 0
        var deferred: Int64 = 0
        var rows: Int64 = 0
        var bytes: Int64 = 0
        var seconds: Double = 0
        /// The longest time from a point of the grid to the end of its refresh.
        var waited: Double = 0
    }

    private(set) var stretches: [Int: Stretch] = [:]

    mutating func add(_ records: Records, _ row: Int) {
        guard let bucket = records[row, "bucket"].flatMap({ Int($0) }) else { return }
        func whole(_ column: String) -> Int64 { records[row, column].flatMap { Int64($0) } ?? 0 }
        func real(_ column: String) -> Double { records[row, column].flatMap { Double($0) } ?? 0 }
        var stretch = stretches[bucket] ?? Stretch()
        stretch.runs += whole("runs")
        stretch.copied += whole("copied")
        stretch.failed += whole("failed")
        stretch.deferred += whole("deferred")
        stretch.rows += whole("rows")
        stretch.bytes += whole("bytes")
        stretch.seconds = max(stretch.seconds, real("seconds"))
        stretch.waited = max(stretch.waited, real("waited"))
        stretches[bucket] = stretch
    }

    var total: Stretch {
        stretches.values.reduce(into: Stretch()) { sum, stretch in
            sum.runs += stretch.runs
            sum.copied += stretch.copied
            sum.failed += stretch.failed
            sum.deferred += stretch.deferred
            sum.rows += stretch.rows
            sum.bytes += stretch.bytes
            sum.seconds = max(sum.seconds, stretch.seconds)
            sum.waited = max(sum.waited, stretch.waited)
        }
    }

    func values(_ value: (Stretch) -> Double) -> [(column: Int, value: Double)] {
        stretches.sorted { $0.key < $1.key }.map { ($0.key, value($0.value)) }
    }

    /// What a strip shows: failures at the bottom, and never too small to be seen.
    func cells(
        _ marks: [String]
    ) -> [(column: Int, shares: [(mark: Plot.Mark, share: Double)], words: String)] {
        stretches.sorted { $0.key < $1.key }.map { column, stretch in
            let idle = stretch.runs - stretch.failed - stretch.deferred - stretch.copied
            let counts: [(Plot.Mark, Int64)] = [
                (.bad, stretch.failed), (.waited, stretch.deferred), (.good, stretch.copied),
                (.idle, max(0, idle)),
            ]
            let seen = counts.filter { $0.1 > 0 }.map { mark, count in
                (mark, max(mark == .bad ? 0.2 : 0.1, Double(count) / Double(stretch.runs)))
            }
            let sum = seen.reduce(0) { $0 + $1.1 }
            let end = column + 1 < marks.count ? marks[column + 1] : ""
            var words = ["\(marks[column]) to \(end): \(Self.count(stretch.runs, "run"))"]
            if stretch.failed > 0 { words.append("\(Quantity.count(stretch.failed)) failed") }
            if stretch.deferred > 0 { words.append("\(Quantity.count(stretch.deferred)) deferred") }
            if stretch.copied > 0 {
                words.append("\(Quantity.rows(stretch.rows)), \(Quantity.bytes(stretch.bytes))")
            }
            return (
                column, seen.map { (mark: $0.0, share: $0.1 / sum) }, words.joined(separator: ", ")
            )
        }
    }

    static func count(_ number: Int64, _ noun: String) -> String {
        "\(Quantity.count(number)) \(noun)\(number == 1 ? "" : "s")"
    }
}
