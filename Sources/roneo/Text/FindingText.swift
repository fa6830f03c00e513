import Replication

/// What preflight found: a line each, and then the SQL that mends what is missing.
enum FindingText {
    static func text(_ findings: [Finding], _ terminal: Terminal) -> String {
        var lines: [String] = []
        var place = ""
        for finding in findings {
            if finding.place != place {
                place = finding.place
                lines.append(terminal.styled(place, .bold))
            }
            let mark =
                finding.isOk
                ? terminal.styled("ok     ", .green) : terminal.styled("MISSING", .red)
            let detail = (finding.detail ?? "").split(separator: "\n")
                .map { String($0).trimmingEnds().printable }
            let words = [finding.item.printable, detail.first].compactMap { $0 }
            lines.append("  \(mark)  \(words.joined(separator: ": "))")
            lines += detail.dropFirst().map { "             \($0)" }
        }
        let fixes = findings.filter { !$0.isOk && $0.fix != nil }
        if !fixes.isEmpty {
            lines += ["", terminal.styled("To mend it", .bold)]
            place = ""
            for finding in fixes {
                if finding.place != place {
                    place = finding.place
                    lines.append("-- on the \(place)")
                }
                lines.append(finding.fix ?? "")
            }
        }
        return lines.map { $0 + "\n" }.joined()
    }
}

extension Finding {
    fileprivate var place: String {
        source.map { "\(side) \($0.printable)" } ?? side
    }
}
