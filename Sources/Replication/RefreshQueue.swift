/// The replicas still to refresh: longest waiting first, no more than so many at a time of one
/// source, none after the time is up.
///
/// A worker that gets nothing may end although entries are left: those belong to sources whose
/// places are all taken, and each of those workers asks again when its replica is done.
struct RefreshQueue: Sendable {
    struct Entry: Sendable, Equatable {
        let dest: String
        /// nil until the extension has said which; then it is not counted against any source.
        let source: String?
        /// Of a slice that is to be compared: which, as the extension says it.
        var slice: String?
    }

    private(set) var waiting: [Entry] = []
    private(set) var isStopped = false
    private var running: [String: Int] = [:]
    private let perSource: Int
    private let deadline: ContinuousClock.Instant?

    init(perSource: Int, deadline: ContinuousClock.Instant?) {
        self.perSource = perSource
        self.deadline = deadline
    }

    mutating func add(_ entries: [Entry]) {
        waiting += entries
    }

    /// The next replica to begin, which the caller gives back with ``ended(_:)``.
    mutating func next(now: ContinuousClock.Instant) -> Entry? {
        if let deadline, now >= deadline { isStopped = true }
        guard !isStopped, let index = waiting.firstIndex(where: hasPlace) else { return nil }
        let entry = waiting.remove(at: index)
        if let source = entry.source { running[source, default: 0] += 1 }
        return entry
    }

    mutating func ended(_ entry: Entry) {
        if let source = entry.source { running[source, default: 1] -= 1 }
    }

    /// Begins nothing more.
    mutating func stop() {
        isStopped = true
    }

    private func hasPlace(_ entry: Entry) -> Bool {
        guard let source = entry.source else { return true }
        return running[source, default: 0] < perSource
    }
}
