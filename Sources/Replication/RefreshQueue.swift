/// The replicas still to refresh, in the order in which they came: no more than so many at a time
/// of one source, none after its window has shut, none that would not end before the time is up.
///
/// A worker that gets nothing may end although entries are left: those belong to sources whose
/// places are all taken, or wait for their turn, and each of those workers asks again when its
/// replica is done. Those that there is no time for are not begun any more: there is never more of
/// it.
struct RefreshQueue: Sendable {
    struct Entry: Sendable, Equatable {
        let dest: String
        /// nil until the extension has said which; then it is not counted against any source.
        var source: String?
        /// How long it usually takes; nil: not known.
        var expected: Duration?
        /// When its window shuts; nil: never.
        var beginBefore: ContinuousClock.Instant?
        /// Of a slice that is to be compared: which, as the extension says it.
        var slice: String?
        /// Those with the same one lock the same replicas, and so begin one after the other.
        var turn: String?
    }

    private(set) var waiting: [Entry] = []
    private(set) var isStopped = false
    private var hasBegun = false
    private var running: [String: Int] = [:]
    private var turns: Set<String> = []
    private let perSource: Int
    /// Sources that may have fewer.
    var caps: [String: Int] = [:]
    private let deadline: ContinuousClock.Instant?

    init(perSource: Int, deadline: ContinuousClock.Instant?) {
        self.perSource = perSource
        self.deadline = deadline
    }

    mutating func add(_ entries: [Entry]) {
        waiting += entries
    }

    /// These and no others wait from now on.
    mutating func replace(_ entries: [Entry]) {
        waiting = entries
    }

    /// The next replica to begin, which the caller gives back with ``ended(_:)``.
    mutating func next(
        now: ContinuousClock.Instant, where isAllowed: (Entry) -> Bool = { _ in true }
    ) -> Entry? {
        if let deadline, now >= deadline { isStopped = true }
        guard !isStopped,
            let index = waiting.firstIndex(where: {
                hasPlace($0) && hasTurn($0) && hasTime($0, now) && isAllowed($0)
            })
        else { return nil }
        let entry = waiting.remove(at: index)
        hasBegun = true
        if let source = entry.source { running[source, default: 0] += 1 }
        if let turn = entry.turn { turns.insert(turn) }
        return entry
    }

    mutating func ended(_ entry: Entry) {
        if let source = entry.source { running[source, default: 1] -= 1 }
        if let turn = entry.turn { turns.remove(turn) }
    }

    /// Begins nothing more.
    mutating func stop() {
        isStopped = true
    }

    /// The first one has it whatever it takes: what takes longer than the whole would wait for ever.
    private func hasTime(_ entry: Entry, _ now: ContinuousClock.Instant) -> Bool {
        if let beginBefore = entry.beginBefore, now >= beginBefore { return false }
        guard hasBegun, let deadline, let expected = entry.expected else { return true }
        return now + expected <= deadline
    }

    private func hasTurn(_ entry: Entry) -> Bool {
        entry.turn.map { !turns.contains($0) } ?? true
    }

    private func hasPlace(_ entry: Entry) -> Bool {
        guard let source = entry.source else { return true }
        return running[source, default: 0] < min(perSource, caps[source] ?? .max)
    }
}
