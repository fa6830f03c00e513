import ArgumentParser
import Replication

struct Manual: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print the manual page in mdoc.",
        discussion: """
            From the same definitions as --help. "roneo install" and "make install" put it where \
            man looks; elsewhere: roneo manual | man -l -
            """,
        shouldDisplay: false)

    func run() async throws {
        Terminal.output.write(try await reported { try ManualPage.text() })
    }
}
