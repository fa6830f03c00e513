import ArgumentParser
import Replication

struct Report: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write a page about the latest days: freshness, lag, rows, failures.",
        usage: "roneo report [<options>]",
        discussion: """
            One file that needs nothing else, for a browser, a mail or an archive: what needs \
            attention, with what to do about it; for each replica its freshness and small plots of \
            runs, delay, rows and durations; failures with their messages. What is worst comes \
            first.

              roneo report -d wh --html /var/www/roneo.html --days 7
              roneo report -d wh --json

            Exit status: 0 however things are; 1 when the file cannot be written.
            """)

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @Option(
        help: ArgumentHelp("The file to write; - for stdout.", valueName: "file"),
        completion: .file(extensions: ["html"]))
    var html: String?
    @Flag(help: "Print JSON: what the page is made of.")
    var json = false
    @Option(help: "How many days back.")
    var days = 7

    func validate() throws {
        guard html != nil || json else {
            throw ValidationError("Say where the page goes: --html FILE, or --json for its data.")
        }
        guard html != "-" || !json else {
            throw ValidationError("Page and JSON cannot both go to stdout.")
        }
        guard (1...3_650).contains(days) else {
            throw ValidationError("--days must be from 1 to 3650.")
        }
    }

    func run() async throws {
        let inspection = Inspection(
            destination: target.destination, cancel: try Interruption.cancelToken())
        let days = days
        let chronicle = try await reported {
            try await inspection.chronicle(days: days, buckets: Self.buckets(days))
        }
        if json { Terminal.output.line(ReportData.json(chronicle).description) }
        guard let html else { return }
        let page = ReportPage(chronicle).html
        guard html != "-" else { return Terminal.output.write(page) }
        if let problem = File.replace(html, with: page) {
            Terminal.error.line(Terminal.error.styled("roneo: \(problem.printable)", .red))
            throw ExitCode(ExitStatus.replicaFailed.code)
        }
    }

    /// So many stretches of time as a plot can show, of a round number of minutes or hours.
    static func buckets(_ days: Int) -> Int {
        let aDay = [96, 48, 24, 12, 6, 4, 3, 2, 1].first { $0 * days <= 96 }
        return aDay.map { $0 * days } ?? 90
    }
}
