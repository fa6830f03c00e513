import Replication
import Synchronization

/// Tells the demonstration's story.
final class Narrator: Sendable {
    let terminal: Terminal
    private let steps = Atomic<Int>(0)

    init(_ terminal: Terminal) {
        self.terminal = terminal
    }

    /// A numbered headline.
    func step(_ title: String) {
        let number = steps.add(1, ordering: .relaxed).newValue
        terminal.line()
        terminal.line(terminal.styled("\(number). \(title)", .bold))
    }

    func say(_ text: String) {
        terminal.line("   \(text)")
    }

    /// What a program prints.
    func quote(_ text: String) {
        for line in text.split(separator: "\n") { terminal.line("     \(line)") }
    }

    /// How each replica of a run went.
    func show(_ report: RunReport) {
        let width = report.replicas.map(\.dest.displayWidth).max() ?? 0
        for replica in report.replicas {
            quote(ReportText.line(replica, terminal, destWidth: width))
        }
    }

    func verdict(_ text: String, isGood: Bool) {
        terminal.line()
        terminal.line(terminal.styled(text, isGood ? .green : .red))
    }
}
