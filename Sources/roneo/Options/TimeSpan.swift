import ArgumentParser

/// A length of time: `90`, `90s`, `15min`, `1h30min`.
struct TimeSpan: ExpressibleByArgument, Equatable {
    let duration: Duration

    /// `30s`
    var defaultValueDescription: String { "\(duration.components.seconds)s" }

    init?(argument: String) {
        var rest = Substring(argument)
        var seconds: Int64 = 0
        repeat {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            guard let number = Int64(digits), number < 1 << 31 else { return nil }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { $0.isLetter }
            rest = rest.dropFirst(unit.count)
            switch unit {
            case "", "s", "sec": seconds += number
            case "m", "min": seconds += number * 60
            case "h": seconds += number * 3_600
            case "d": seconds += number * 86_400
            default: return nil
            }
        } while !rest.isEmpty
        duration = .seconds(seconds)
    }
}
