import ArgumentParser
import LocalCluster
import Replication

struct Demo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "See it work: two throw-away clusters, end to end, in a minute.",
        discussion: """
            Needs a PostgreSQL server's programs and the extension's files (roneo install). It \
            touches nothing but a folder in /tmp, and removes that at the end.

              roneo demo
              RONEO_BINDIR=/usr/lib/postgresql/17/bin roneo demo --json

            Exit status: 0 when all copies equal their sources by content; 1 when one differs; 78 \
            when the extension's files are not where the server looks for them.
            """)

    @Flag(help: "Tell the story on stderr, and print JSON at its end.")
    var json = false

    func run() async throws {
        let cancel = try Interruption.cancelToken()
        let narrator = Narrator(json ? .error : .output)
        let verdicts = try await reported {
            narrator.terminal.line("Two throw-away PostgreSQL clusters start in /tmp …")
            let stage = try await DemoStage.build(cancel: cancel)
            defer {
                stage.remove()
                narrator.terminal.line("Both clusters are gone again.")
            }
            return try await DemoStory(stage).play(narrator)
        }
        if json { Terminal.output.line(DemoStory.json(verdicts).description) }
        if !verdicts.allSatisfy(\.isEqual) { throw ExitCode(ExitStatus.replicaFailed.code) }
    }
}
