import ArgumentParser
import Replication

struct Release: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "End the quarantine of replicas that failed too often.",
        usage: "roneo release [<options>] <dest> ...",
        discussion: """
              roneo release -d wh app.orders app.customers

            A replica that fails quarantine_after times in a row, for a reason that does not pass by \
            itself, is not refreshed any more: "roneo status" and "roneo check" say so, and "roneo \
            history DEST" says why. When that is mended, this makes it due again, with all of its \
            refresh group. "roneo refresh DEST" does the same where it succeeds.

            Exit status: 0 none of them is in quarantine any more; 1 one is no replica, or the \
            destination is a standby: then none is released.
            """)

    @Argument(
        help: "Destination tables or views, as SQL writes them.", completion: .replicas)
    var dest: [String]

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @Flag(help: "Print whether each was in quarantine, as JSON.")
    var json = false

    func run() async throws {
        let release = QuarantineRelease(
            Inspection(
                destination: target.destination, cancel: try Interruption.cancelToken()))
        let released = try await reported { try await release(dest) }
        if json {
            let list = released.map {
                JSON.object(["dest": JSON($0.dest), "was_quarantined": JSON($0.was)])
            }
            Terminal.output.line(JSON.array(list).description)
        } else if Terminal.output.isTerminal {
            for (dest, was) in released {
                Terminal.output.line(
                    was
                        ? "\(dest.printable) is released."
                        : "\(dest.printable) was in no quarantine.")
            }
        }
    }
}
