import Foundation
import Postgres
import TestSupport
import Testing

/// `roneo run --follow` while servers go and come back: clusters of its own, one test after the
/// other.
@Suite(.serialized) struct ServiceRestartTests {
    private static let source = make("away-source")
    private static let destination = make("away-dest")

    private static func make(_ name: String) -> ThrowawayCluster {
        do { return try ThrowawayCluster(name: name) } catch {
            fatalError("no cluster for the tests: \(error)")
        }
    }

    private let database: String

    /// A database on each side, with a replica of two rows that is due each second.
    init() throws {
        database = "away_\(UInt32.random(in: 0 ... .max))"
        for cluster in [Self.source, Self.destination] { try cluster.createDatabase(database) }
        try Self.source.psql(
            "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)",
            database: database)
        let conninfo = Self.source.conninfo(database: database)
            .replacingOccurrences(of: "'", with: "''")
        try Self.destination.psql(
            """
            CREATE EXTENSION dblink; CREATE EXTENSION roneo;
            SELECT roneo.create_source('src', '\(conninfo)');
            SELECT roneo.create_plain('src', 't', refresh_every => '1 s', copy_data => false)
            """, database: database)
    }

    private func follow(_ cluster: ThrowawayCluster = destination) throws -> RoneoProcess {
        try RoneoProcess([
            "run", "--follow", "--log-level", "info", "-d", cluster.conninfo(database: database),
        ])
    }

    private func runs(
        _ outcome: String, _ cluster: ThrowawayCluster = destination
    ) throws -> Int {
        let count = try cluster.psql(
            "SELECT count(*) FROM roneo.run WHERE outcome = '\(outcome)'", database: database)
        return Int(count) ?? 0
    }

    /// Ends it, and returns what it has logged other than that refreshes and rounds ended.
    private func end(_ process: RoneoProcess) -> (status: Int32, messages: [String]) {
        process.send(SIGTERM)
        let ended = process.wait()
        let messages = ended.errors.split(separator: "\n")
            .compactMap { $0.split(separator: "\"").dropFirst().first.map(String.init) }
            .filter { !["refresh ended", "round ended"].contains($0) }
        return (ended.status, messages)
    }

    @Test("a destination that comes back is gone on with", arguments: [true, false])
    func destination(crashes: Bool) async throws {
        let process = try follow()
        #expect(try await eventually { try runs("ok") > 0 })
        if crashes { try Self.destination.crash() } else { try Self.destination.stop() }
        #expect(
            try await eventually { process.errorsSoFar.contains("waiting for the destination") })
        try Self.destination.start()
        let before = try runs("ok")
        #expect(try await eventually { try runs("ok") > before })
        let ended = end(process)
        #expect([0, 143].contains(ended.status))
        #expect(ended.messages == ["waiting for the destination", "going on"])
    }

    @Test func aSourceThatComesBackIsReadAgain() async throws {
        let process = try follow()
        #expect(try await eventually { try runs("ok") > 0 })
        try Self.source.crash()
        #expect(try await eventually { try runs("failed") > 0 })
        #expect(
            try Self.destination.psql(
                "SELECT state, failures FROM roneo.status", database: database) == "failed|1")
        try Self.source.start()
        // It is left alone for a minute; so that minute is over.
        let before = try runs("ok")
        try Self.destination.psql(
            "UPDATE roneo.replica SET last_attempt_at = last_attempt_at - interval '1 minute'",
            database: database)
        process.send(SIGHUP)
        #expect(try await eventually { try runs("ok") > before })
        let ended = end(process)
        #expect([0, 143].contains(ended.status))
        #expect(ended.messages == [], "a source is its replicas' matter")
    }

    @Test func aStandbyIsFollowedOnceItIsPromoted() async throws {
        let standby = try Self.destination.standby()
        let caughtUp = try await eventually {
            (try? standby.psql("SELECT 1", database: database)) == "1"
        }
        #expect(caughtUp)
        let process = try follow(standby)
        #expect(
            try await eventually { process.errorsSoFar.contains("the destination is a standby") })
        try standby.promote()
        #expect(try await eventually { try runs("ok", standby) > 0 })
        let ended = end(process)
        #expect([0, 143].contains(ended.status))
        #expect(ended.messages == ["waiting for the destination", "going on"])
        standby.remove()
    }
}
