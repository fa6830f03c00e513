/// Numbers as people read them.
enum Quantity {
    /// `1,234,567`
    static func count(_ number: Int64) -> String {
        let digits = String(number.magnitude)
        var grouped = ""
        for (index, digit) in digits.enumerated() {
            if index > 0, (digits.count - index) % 3 == 0 { grouped.append(",") }
            grouped.append(digit)
        }
        return number < 0 ? "-" + grouped : grouped
    }

    /// `1 row`, `2 rows`
    static func rows(_ number: Int64) -> String {
        number == 1 ? "1 row" : "\(count(number)) rows"
    }

    /// `512 B`, `1.5 kB`, `23 MB`, in steps of 1,000
    static func bytes(_ number: Int64) -> String {
        var value = Double(number)
        var unit = "B"
        for larger in ["kB", "MB", "GB", "TB", "PB"] where value >= 999.5 {
            value /= 1_000
            unit = larger
        }
        return unit == "B" ? "\(number) B" : "\(short(value)) \(unit)"
    }

    /// `0.42 s`, `12.3 s`, `2 min 05 s`, `1 h 02 min`
    static func seconds(_ duration: Duration) -> String {
        let seconds = duration / .seconds(1)
        if seconds < 9.995 { return "\(decimals(seconds, 2)) s" }
        if seconds < 59.95 { return "\(decimals(seconds, 1)) s" }
        let whole = Int64(seconds.rounded())
        if whole < 3_600 { return "\(whole / 60) min \(twoDigits(whole % 60)) s" }
        return "\(whole / 3_600) h \(twoDigits(whole / 60 % 60)) min"
    }

    /// `just now`, `42 s`, `5 min`, `3 h`, `12 d`: what passed, in its largest unit
    static func age(_ seconds: Double) -> String {
        switch seconds {
        case ..<1: "just now"
        case ..<120: "\(Int64(seconds)) s"
        case ..<7_200: "\(Int64(seconds / 60)) min"
        case ..<172_800: "\(Int64(seconds / 3_600)) h"
        default: "\(Int64(seconds / 86_400)) d"
        }
    }

    /// Three digits that count: `1.23`, `12.3`, `123`
    private static func short(_ value: Double) -> String {
        value < 9.95 ? decimals(value, 1) : decimals(value, 0)
    }

    /// Rounded to some places, without the C library's printf and its locale.
    private static func decimals(_ value: Double, _ places: Int) -> String {
        var scale: Int64 = 1
        for _ in 0..<places { scale *= 10 }
        let scaled = Int64((value * Double(scale)).rounded())
        guard places > 0 else { return String(scaled) }
        let fraction = String(scaled % scale)
        let zeros = String(repeating: "0", count: places - fraction.count)
        return "\(scaled / scale).\(zeros)\(fraction)"
    }

    private static func twoDigits(_ number: Int64) -> String {
        number < 10 ? "0\(number)" : String(number)
    }
}
