import ArgumentParser
import Replication

struct Release: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "End the quarantine of replicas that failed too often.",
        discussion: """
            A replica that fails quarantine_after times in a row, for a reason that does not pass by \
            itself, is not refreshed any more: "roneo status" and "roneo check" say so, and "roneo \
            history DEST" says why. When that is mended, this makes it due again, with all of its \
            refresh group. "roneo refresh DEST" does the same where it succeeds.
            """)

    @Argument(help: "Destination tables or views, as SQL writes them.")
    var dest: [String]

    @OptionGroup(title: "Destination") var target: DestinationOptions

    func run() async throws {
        let release = QuarantineRelease(
            Inspection(
                destination: target.destination, cancel: try Interruption.cancelToken()))
        let released = try await reported { try await release(dest) }
        guard Terminal.output.isTerminal else { return }
        for (dest, was) in released {
            Terminal.output.line(
                was ? "\(dest.printable) is released." : "\(dest.printable) was in no quarantine.")
        }
    }
}
