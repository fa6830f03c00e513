import ArgumentParser
import LocalCluster
import Replication

struct Demo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "See it work: two throw-away clusters, end to end, in a minute.",
        discussion: """
            Needs a PostgreSQL server's programs and the extension's files (roneo install). Exit \
            status 0 when all copies equal their sources by content.
            """)

    func run() async throws {
        let cancel = try Interruption.cancelToken()
        let equal = try await reported {
            Terminal.output.line("Two throw-away PostgreSQL clusters start in /tmp …")
            let stage = try await DemoStage.build(cancel: cancel)
            defer {
                stage.remove()
                Terminal.output.line("Both clusters are gone again.")
            }
            return try await DemoStory(stage).play()
        }
        if !equal { throw ExitCode(ExitStatus.replicaFailed.code) }
    }
}
