import ArgumentParser
import Replication

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show how fresh every replica is.",
        usage: "roneo status [<options>]",
        discussion: """
            A line each: its state, the age of the copy and the promised one, how late it is, what \
            the last refresh moved, and what hinders it. The same is the view roneo.status.

              roneo status -d wh
              roneo status -d wh --json | jq '.[] | select(.alert != "OK") | .dest'

            Exit status: 0, however fresh they are; "roneo check" judges.
            """)

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @Flag(help: "Show the sources instead: their limits, and which are left alone.")
    var sources = false
    @Flag(help: "Print JSON.")
    var json = false

    func run() async throws {
        let inspection = Inspection(
            destination: target.destination, cancel: try Interruption.cancelToken())
        let records = try await reported {
            sources ? try await inspection.sources() : try await inspection.status()
        }
        if json {
            Terminal.output.line(RecordText.json(records))
        } else if sources {
            Terminal.output.write(RecordText.sources(records, Terminal.output))
        } else {
            Terminal.output.write(RecordText.status(records, Terminal.output))
        }
    }
}
