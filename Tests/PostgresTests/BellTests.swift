import Postgres
import Testing

@Suite struct BellTests {
    @Test func aRingWakesWhoeverComesNext() throws {
        let bell = try Bell()
        let cancel = try CancelToken()
        #expect(!bell.wait(for: .zero, or: cancel))
        bell.ring(times: 2)
        #expect(bell.wait(for: .seconds(30), or: cancel))
        #expect(bell.wait(for: .seconds(30), or: cancel))
        #expect(!bell.wait(for: .zero, or: cancel))
        bell.ring(times: 3)
        bell.silence()
        #expect(!bell.wait(for: .zero, or: cancel))
    }

    @Test func aRingAndATokenWakeSleepers() async throws {
        let bell = try Bell()
        let cancel = try CancelToken()
        async let woken = onOwnThread(cancel: cancel) { bell.wait(for: .seconds(300), or: $0) }
        bell.ring()
        #expect(try await woken)
        async let cancelled = onOwnThread(cancel: cancel) { bell.wait(for: .seconds(300), or: $0) }
        cancel.fire()
        #expect(try await cancelled == false)
    }

    @Test func moreRingsThanAPipeHoldsDoNotBlock() throws {
        let bell = try Bell()
        for _ in 0..<100 { bell.ring(times: 4_096) }
        #expect(bell.wait(for: .seconds(30), or: try CancelToken()))
    }
}
