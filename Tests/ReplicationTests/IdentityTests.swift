import Testing

@testable import Replication

@Suite struct IdentityTests {
    private let runner = RunnerIdentity(runId: "a1b2c3", host: "db1", process: 42)

    @Test(
        "an application's name has at most 63 bytes and no broken character",
        arguments: [
            ("app.orders", "roneo a1b2c3 app.orders"),
            (
                String(repeating: "x", count: 80),
                "roneo a1b2c3 " + String(repeating: "x", count: 50)
            ),
            (
                String(repeating: "é", count: 40),
                "roneo a1b2c3 " + String(repeating: "é", count: 25)
            ),
            (
                String(repeating: "漢", count: 40),
                "roneo a1b2c3 " + String(repeating: "漢", count: 16)
            ),
        ])
    func applicationName(dest: String, name: String) {
        #expect(runner.applicationName(for: dest) == name)
        #expect(runner.applicationName(for: dest).utf8.count <= 63)
    }

    @Test func theHistoryKeepsRunHostAndProcess() {
        #expect(runner.description == "a1b2c3 db1 42")
        #expect(RunnerIdentity.current.runId.count == 6)
        #expect(RunnerIdentity.current.process > 0)
    }

    @Test(
        "times are printed in UTC",
        arguments: [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_767_225_599_999_999, "2025-12-31T23:59:59.999999Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        ] as [(Int64, String)])
    func timestamps(microseconds: Int64, text: String) {
        #expect(Timestamp(microseconds: microseconds).description == text)
    }
}
