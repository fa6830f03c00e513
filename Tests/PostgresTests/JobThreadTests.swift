import Postgres
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

@Suite struct JobThreadTests {
    private struct Mishap: Error, Equatable {}

    @Test func resultsComeBack() async throws {
        let values = try await withThrowingTaskGroup(of: Int.self) { group in
            for number in 1...20 {
                group.addTask { try await onOwnThread { _ in number * number } }
            }
            return try await group.reduce(0, +)
        }
        #expect(values == 2870)
    }

    @Test func errorsComeBack() async {
        await #expect(throws: Mishap()) { try await onOwnThread { _ in throw Mishap() } }
    }

    @Test func aCancelledTaskFiresTheToken() async throws {
        let task = Task {
            try await onOwnThread { cancel in
                while !cancel.isFired { usleep(1000) }
                return cancel.isFired
            }
        }
        task.cancel()
        #expect(try await task.value)
    }

    @Test func aTaskCancelledBeforeItsStartSeesAFiredToken() async throws {
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await onOwnThread { $0.isFired }
        }
        #expect(try await task.value)
    }
}
