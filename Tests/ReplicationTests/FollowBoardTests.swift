import Postgres
import Testing

@testable import Replication

@Suite struct FollowBoardTests {
    private let now = ContinuousClock.now
    private let cancel: CancelToken
    private let board: FollowBoard

    init() throws {
        cancel = try CancelToken()
        board = try FollowBoard(
            jobs: 3, perSource: 2, deadline: nil, cancel: cancel, news: try Bell())
    }

    /// Names whose first letter is their source's.
    private func entries(_ dests: String...) -> [RefreshQueue.Entry] {
        dests.map { .init(dest: $0, source: String($0.prefix(1))) }
    }

    private func entry(_ dest: String) -> RefreshQueue.Entry { entries(dest)[0] }

    private func report(_ dest: String, _ outcome: ReplicaReport.Outcome) -> [ReplicaReport] {
        [ReplicaReport(dest: dest, outcome: outcome)]
    }

    @Test func asManyThreadsAreStartedAsThereIsWorkFor() {
        #expect(board.offer(entries("a1"), now: now).threads == 1)
        #expect(board.offer(entries("a1", "b1"), now: now).threads == 1, "one is there")
        #expect(board.offer(entries("a1", "b1", "c1", "d1", "e1"), now: now).threads == 1)
        #expect(board.offer(entries("a1", "b1", "c1", "d1", "e1"), now: now).threads == 0)
        #expect(!board.leave(), "there is work")
        _ = board.offer([], now: now)
        #expect(board.leave())
        #expect(board.offer(entries("a1", "b1", "c1"), now: now).threads == 1)
    }

    @Test func whatRunsIsNotBegunAgainAlthoughItIsStillDue() {
        _ = board.offer(entries("a1"), now: now)
        #expect(board.next(now: now) == .refresh(entry("a1")))
        _ = board.offer(entries("a1", "b1"), now: now)
        #expect(board.next(now: now) == .refresh(entry("b1")))
        #expect(board.next(now: now) == nil)
        board.ended(entry("a1"), report("a1", .ok), now: now)
        _ = board.offer(entries("a1"), now: now)
        #expect(board.next(now: now) == .refresh(entry("a1")), "and is due again")
    }

    @Test func whatIsNotDueAnyMoreIsNotBegun() {
        _ = board.offer(entries("a1", "b1"), now: now)
        _ = board.offer(entries("b1"), now: now)
        #expect(board.next(now: now) == .refresh(entry("b1")))
        #expect(board.next(now: now) == nil)
    }

    @Test func ofSeveralFromOneSourceTheIdleOnesAreFoundOutFirst() {
        _ = board.offer(entries("a1", "a2", "a3", "b1"), now: now)
        #expect(board.next(now: now) == .look(entry("a1"), source: "a"))
        #expect(board.next(now: now) == .refresh(entry("b1")), "others do not wait for that")
        #expect(board.next(now: now) == nil, "those of the source do")
        // The watching thread comes by meanwhile.
        _ = board.offer(entries("a1", "a2", "a3", "b1"), now: now)
        board.looked(
            entry("a1"), source: "a", entries("a1", "a3"), idle: report("a2", .unchanged), now: now)
        #expect(board.next(now: now) == .refresh(entry("a1")))
        #expect(board.next(now: now) == .refresh(entry("a3")))
        #expect(board.next(now: now) == nil)
    }

    @Test func aLookTakesAPlaceAtItsSource() {
        _ = board.offer(entries("a1", "a2"), now: now)
        #expect(board.next(now: now) == .look(entry("a1"), source: "a"))
        board.looked(entry("a1"), source: "a", entries("a1", "a2"), idle: [], now: now)
        _ = board.offer(entries("a1", "a2", "a3"), now: now)
        #expect(board.next(now: now) == .refresh(entry("a1")))
        #expect(board.next(now: now) == .refresh(entry("a2")))
        #expect(board.next(now: now) == nil, "both places are taken")
        board.ended(entry("a1"), report("a1", .ok), now: now)
        #expect(board.next(now: now) == .refresh(entry("a3")), "a single one is not looked at")
    }

    @Test func whatIsBusyIsLeftAloneForAWhile() {
        _ = board.offer(entries("a1"), now: now)
        _ = board.next(now: now)
        board.ended(entry("a1"), report("a1", .deferred), now: now)
        #expect(board.offer(entries("a1"), now: now).again == now + .seconds(1))
        #expect(board.next(now: now) == nil)
        let later = now + .seconds(1)
        #expect(board.offer(entries("a1"), now: later).again == nil)
        #expect(board.next(now: later) == .refresh(entry("a1")))
        board.ended(entry("a1"), report("a1", .deferred), now: later)
        #expect(board.offer(entries("a1"), now: later).again == later + .seconds(2))
        board.forgetRests()
        _ = board.offer(entries("a1"), now: later)
        #expect(board.next(now: later) == .refresh(entry("a1")))
    }

    @Test func aLossClosesTheBoardUntilTheDestinationIsSeen() throws {
        let error = RunError(.unreachable, Failure(sqlState: "08001", message: "gone"))
        _ = board.offer(entries("a1", "b1"), now: now)
        let work = try #require(board.next(now: now))
        board.lost(work, error)
        #expect(board.next(now: now) == nil)
        #expect(board.takeLoss() == error)
        #expect(board.takeLoss() == nil)
        _ = board.offer(entries("a1", "b1"), now: now)
        #expect(!board.isProven, "nobody has worked there since")
        #expect(board.next(now: now) == .refresh(entry("a1")), "it was not begun")
        board.ended(entry("a1"), report("a1", .ok), now: now)
        #expect(board.isProven)
    }

    @Test func aRoundEndsWhenNothingIsLeftOrAfterAMinute() {
        #expect(board.takeRound(now: now) == nil)
        _ = board.offer(entries("a1", "b1"), now: now)
        _ = board.next(now: now)
        _ = board.next(now: now)
        board.ended(entry("a1"), report("a1", .ok), now: now + .seconds(2))
        #expect(board.takeRound(now: now + .seconds(3)) == nil, "one is not done")
        let early = board.takeRound(now: now + .seconds(60))
        #expect(early?.replicas.map(\.dest) == ["a1"])
        board.ended(entry("b1"), report("b1", .ok), now: now + .seconds(70))
        _ = board.offer([], now: now + .seconds(70))
        let last = board.takeRound(now: now + .seconds(71))
        #expect(last?.replicas.map(\.dest) == ["b1"])
        #expect(last?.duration == .seconds(10))
        #expect(board.takeRound(now: now + .seconds(200)) == nil)
    }

    @Test func afterAStopNothingBeginsAndWhatWasCancelledIsKnown() {
        _ = board.offer(entries("a1", "b1"), now: now)
        _ = board.next(now: now)
        cancel.fire()
        #expect(board.next(now: now) == nil)
        #expect(!board.isInterrupted)
        board.ended(entry("a1"), report("a1", .cancelled), now: now)
        #expect(board.isInterrupted)
        let last = board.takeRound(now: now, isLast: true)
        #expect(last?.notBegun == ["b1"])
    }
}

@Suite struct FollowPauseTests {
    private let now = ContinuousClock.now

    @Test func restsGrowToAMinuteAndEndWithAGoodEnd() {
        var rests = FollowRests()
        var lengths: [Duration] = []
        for _ in 0..<8 {
            rests.ended("a", .deferred, now: now)
            lengths.append((rests.firstEnd(now: now) ?? now) - now)
        }
        #expect(lengths == [1, 2, 4, 8, 16, 32, 60, 60].map { .seconds($0) })
        rests.ended("a", .unchanged, now: now)
        #expect(!rests.isResting("a", now: now))
        rests.ended("a", .failed, now: now)
        rests.ended("b", .failed, now: now)
        rests.keep(["b"])
        #expect(!rests.isResting("a", now: now))
        #expect(rests.isResting("b", now: now))
    }

    @Test func troubleIsToldOnceUntilItIsAnother() {
        var trouble = FollowTrouble()
        func add(_ states: String...) -> [Bool] {
            states.map {
                let failure = Failure(sqlState: $0, message: "no")
                return trouble.add(RunError(.unreachable, failure), now: now)
            }
        }
        func end() -> Duration? { trouble.end(now: now + .seconds(5)) }

        #expect(end() == nil)
        // Shut down, refused, starting up.
        #expect(add("08006", "08001", "57P03") == [true, false, false])
        #expect(trouble.pause == .seconds(3))
        #expect(add("28P01", "28P01") == [true, false], "that is another matter")
        _ = (0..<50).map { _ in add("28P01") }
        #expect(trouble.pause == .seconds(30))
        #expect(end() == .seconds(5))
        #expect(add("08001") == [true], "the next one is told again")
        #expect(trouble.pause == .seconds(1))
    }
}
