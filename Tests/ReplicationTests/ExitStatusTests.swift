import Testing

@testable import Replication

@Suite struct ExitStatusTests {
    @Test(
        "the status of a run follows from how its replicas ended",
        arguments: [
            ([], 0),
            (["ok"], 0),
            (["unchanged"], 0),
            (["ok", "deferred"], 0),
            (["deferred"], 75),
            (["deferred", "deferred"], 75),
            (["source away"], 75),
            (["source away", "deferred"], 75),
            (["ok", "source away"], 1),
            (["rejected"], 1),
            (["ok", "rejected"], 1),
            (["deferred", "rejected"], 1),
            (["source away", "rejected"], 1),
            (["lost"], 1),
        ] as [([String], Int32)])
    func ofARun(ends: [String], code: Int32) {
        var report = RunReport()
        report.replicas = ends.map(replica)
        #expect(report.exitStatus.code == code)
    }

    @Test func aSignalComesFirst() {
        var report = RunReport()
        report.replicas = [replica("rejected")]
        report.signal = 15
        #expect(report.exitStatus.code == 143)
        report.signal = 2
        #expect(report.exitStatus.code == 130)
    }

    @Test func aDestinationThatWentAwayIsUnreachable() {
        var report = RunReport()
        report.replicas = [replica("ok"), replica("lost")]
        report.stopped = RunError(.unreachable, Failure(sqlState: "08006", message: "gone"))
        #expect(report.exitStatus.code == 69)
    }

    @Test(
        "the codes are those of sysexits and shells",
        arguments: [
            (Replication.ExitStatus.success, 0), (.replicaFailed, 1), (.usage, 64),
            (.unreachable, 69),
            (.tryLater, 75), (.configuration, 78), (.signal(15), 143),
        ] as [(Replication.ExitStatus, Int32)])
    func codes(status: Replication.ExitStatus, code: Int32) {
        #expect(status.code == code)
    }

    @Test(
        "a failure is classified by its SQLSTATE",
        arguments: [
            ("RO002", .busy), ("RO013", .busy), ("RO016", .busy), ("55P03", .busy),
            ("40001", .conflict), ("40P01", .conflict),
            ("08001", .unavailable), ("57P03", .unavailable), ("53300", .unavailable),
            ("RO008", .unavailable),
            ("08006", .lost), ("57P01", .lost), ("57P02", .lost),
            ("23505", .permanent), ("42501", .permanent), ("57014", .permanent),
            ("53100", .permanent), ("RO015", .permanent),
        ] as [(String, FailureKind)])
    func kinds(sqlState: String, kind: FailureKind) {
        #expect(FailureKind(sqlState: sqlState) == kind)
    }

    private func replica(_ end: String) -> ReplicaReport {
        let failures = ["source away": "RO008", "rejected": "23514", "lost": "57P01"]
        var report = ReplicaReport(
            dest: "t", outcome: ReplicaReport.Outcome(rawValue: end) ?? .failed)
        report.failure = failures[end].map { Failure(sqlState: $0, message: end) }
        return report
    }
}
