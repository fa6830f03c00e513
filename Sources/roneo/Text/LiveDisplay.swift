import Replication
import Synchronization

/// Progress on a terminal: a line for each replica being refreshed, redrawn in place; a line that
/// stays for each that ended.
final class LiveDisplay: RefreshObserver {
    private struct Line {
        let dest: String
        let began: ContinuousClock.Instant
        var step = ""
        var rows: Int64 = 0
        var bytes: Int64 = 0
        var transferBegan: ContinuousClock.Instant?
        var transferred: Duration?
    }

    private struct State {
        var lines: [Line] = []
        var drawn = 0
        var isOver = false
    }

    private static let mostLines = 12

    private let terminal: Terminal
    private let state = Mutex(State())

    init(_ terminal: Terminal) {
        self.terminal = terminal
    }

    /// Redraws ten times a second until ``finish()``; an index that is being built reports nothing.
    func start() {
        Task.detached { [self] in
            while !state.withLock({ $0.isOver }) {
                state.withLock { redraw(&$0, ended: nil) }
                try? await Task.sleep(for: .milliseconds(100))
            }
        }
    }

    func finish() {
        state.withLock { state in
            guard !state.isOver else { return }
            state.lines = []
            redraw(&state, ended: nil)
            state.isOver = true
        }
    }

    /// Takes the lines away while something else is printed.
    func aside(_ body: () -> Void) {
        state.withLock { state in
            if state.drawn > 0 { terminal.write("\u{1b}[\(state.drawn)A\r\u{1b}[J") }
            state.drawn = 0
            body()
        }
    }

    func began(_ dest: String) {
        state.withLock { $0.lines.append(Line(dest: dest.printable, began: .now)) }
    }

    func beganStep(_ dest: String, number: Int, of total: Int, purpose: String) {
        change(dest) { line in
            line.step = "\(number)/\(total) \(purpose)"
            if let began = line.transferBegan, line.transferred == nil {
                line.transferred = ContinuousClock.now - began
            }
        }
    }

    func moved(_ dest: String, rows: Int64, bytes: Int64) {
        change(dest) { line in
            line.rows = rows
            line.bytes = bytes
            if line.transferBegan == nil { line.transferBegan = .now }
        }
    }

    func ended(_ dest: String, _ report: ReplicaReport) {
        state.withLock { state in
            state.lines.removeAll { $0.dest == dest.printable }
            redraw(&state, ended: ReportText.line(report, terminal))
        }
    }

    private func change(_ dest: String, _ body: (inout Line) -> Void) {
        state.withLock { state in
            guard let index = state.lines.firstIndex(where: { $0.dest == dest.printable }) else {
                return
            }
            body(&state.lines[index])
        }
    }

    private func redraw(_ state: inout State, ended: String?) {
        guard !state.isOver, state.drawn > 0 || !state.lines.isEmpty || ended != nil else { return }
        let width = (terminal.width ?? 80) - 1
        var text = state.drawn > 0 ? "\u{1b}[\(state.drawn)A\r\u{1b}[J" : ""
        if let ended { text += ended + "\n" }
        // More lines than the terminal has would not be drawn over.
        let shown = state.lines.prefix(Self.mostLines)
        for line in shown {
            text += self.text(line).cut(to: width) + "\n"
        }
        state.drawn = shown.count
        if state.lines.count > shown.count {
            text += "  and \(state.lines.count - shown.count) more\n"
            state.drawn += 1
        }
        terminal.write(text)
    }

    private func text(_ line: Line) -> String {
        var parts = [line.dest, Quantity.seconds(ContinuousClock.now - line.began)]
        if let began = line.transferBegan {
            let spent = line.transferred ?? (ContinuousClock.now - began)
            let rate = Double(line.bytes) / max(spent / .seconds(1), 0.001)
            parts.append(Quantity.rows(line.rows))
            parts.append("\(Quantity.bytes(line.bytes)) (\(Quantity.bytes(Int64(rate)))/s)")
        }
        if !line.step.isEmpty { parts.append(line.step.printable) }
        return "  " + parts.joined(separator: "  ")
    }
}
