import Testing

@testable import Replication

@Suite struct RefreshQueueTests {
    private let now = ContinuousClock.now

    @Test func theLongestWaitingComesFirst() {
        var queue = queue(["a1", "b1", "a2"])
        #expect(drain(&queue) == ["a1", "b1", "a2"])
        #expect(queue.waiting.isEmpty)
    }

    @Test func aSourceThatIsFullIsPassedOver() {
        var queue = queue(["a1", "a2", "b1"], perSource: 1)
        let first = queue.next(now: now)
        #expect(first?.dest == "a1")
        #expect(queue.next(now: now)?.dest == "b1")
        #expect(queue.next(now: now) == nil)
        if let first { queue.ended(first) }
        #expect(queue.next(now: now)?.dest == "a2")
    }

    @Test func whatLocksTheSameTakesTurns() {
        var queue = RefreshQueue(perSource: .max, deadline: nil)
        queue.add([
            .init(dest: "a", slice: "1", turn: "a"), .init(dest: "a", slice: "2", turn: "a"),
            .init(dest: "b", turn: "b"), .init(dest: "c"), .init(dest: "c"),
        ])
        let first = queue.next(now: now)
        #expect(first?.slice == "1")
        #expect(drain(&queue) == ["b", "c", "c"])
        if let first { queue.ended(first) }
        #expect(queue.next(now: now)?.slice == "2")
    }

    @Test func anUnknownSourceIsNotCounted() {
        var queue = RefreshQueue(perSource: 1, deadline: nil)
        queue.add(["x", "y"].map { .init(dest: $0, source: nil) })
        #expect(drain(&queue) == ["x", "y"])
    }

    @Test func nothingBeginsAfterTheTimeIsUp() {
        var queue = queue(["a1", "a2"], deadline: now + .seconds(10))
        #expect(queue.next(now: now + .seconds(9))?.dest == "a1")
        #expect(queue.next(now: now + .seconds(10)) == nil)
        #expect(queue.next(now: now) == nil, "and the clock does not bring it back")
        #expect(queue.waiting.map(\.dest) == ["a2"])
    }

    @Test func nothingBeginsAfterAStop() {
        var queue = queue(["a1"])
        queue.stop()
        #expect(queue.next(now: now) == nil)
    }

    @Test func whatWouldNotEndInTimeIsPassedOver() {
        var queue = RefreshQueue(perSource: .max, deadline: now + .seconds(100))
        queue.add([
            .init(dest: "first", expected: .seconds(10)),
            .init(dest: "long", expected: .seconds(95)),
            .init(dest: "short", expected: .seconds(90)), .init(dest: "unknown"),
        ])
        #expect(queue.next(now: now)?.dest == "first")
        #expect(queue.next(now: now + .seconds(10))?.dest == "short")
        #expect(queue.next(now: now + .seconds(99))?.dest == "unknown")
        #expect(queue.next(now: now + .seconds(99)) == nil)
        #expect(queue.waiting.map(\.dest) == ["long"])
    }

    @Test func theFirstBeginsHoweverLongItTakes() {
        var queue = RefreshQueue(perSource: .max, deadline: now + .seconds(100))
        queue.add([
            .init(dest: "longer than all", expected: .seconds(1_000)),
            .init(dest: "as long", expected: .seconds(1_000)),
        ])
        #expect(drain(&queue) == ["longer than all"])
    }

    @Test func nothingBeginsAfterItsWindowHasShut() {
        var queue = RefreshQueue(perSource: .max, deadline: nil)
        queue.add([.init(dest: "shut", beginBefore: now + .seconds(5)), .init(dest: "open")])
        #expect(queue.next(now: now + .seconds(5))?.dest == "open")
        #expect(queue.next(now: now + .seconds(6)) == nil)
        #expect(queue.waiting.map(\.dest) == ["shut"])
    }

    /// Names whose first letter is their source's.
    private func queue(
        _ dests: [String], perSource: Int = .max, deadline: ContinuousClock.Instant? = nil
    ) -> RefreshQueue {
        var queue = RefreshQueue(perSource: perSource, deadline: deadline)
        queue.add(dests.map { .init(dest: $0, source: String($0.prefix(1))) })
        return queue
    }

    private func drain(_ queue: inout RefreshQueue) -> [String] {
        var dests: [String] = []
        while let entry = queue.next(now: now) { dests.append(entry.dest) }
        return dests
    }
}
