import ArgumentParser
import Replication

struct Fingerprint: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print one line that is the same wherever a table's rows are the same.",
        usage: "roneo fingerprint [<options>] <table>",
        discussion: """
            Whatever their order, files, server and version. The table, of the destination where no \
            source is named, is read in one snapshot and nothing is written; views, partitioned and \
            foreign tables will do.

              roneo fingerprint app.orders --source shop                       there
              roneo fingerprint app.orders                                     here
              roneo fingerprint app.orders --source shop --where "id < 1000"   a part of it
              roneo fingerprint app.orders --source shop --json >before.json
              roneo fingerprint app.orders --source shop --compare before.json

            Exit status: 0 taken, and the same where compared; 1 not the same, not comparable, or \
            no such table; 64 also where a file to compare with cannot be read; 75 the source is away.
            """)

    @Argument(help: "A table or view, as SQL writes it.", completion: .replicas)
    var table: String

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @OptionGroup(title: "Sources") var sources: SourceOptions

    @Option(help: "The source that has it; else the destination.", completion: .sources)
    var source: String?
    @Option(name: .customLong("where"), help: "Only rows for which this condition is true.")
    var filter: String?
    @Option(help: "Only these columns, with commas between them.")
    var columns: String?
    @Option(
        help: ArgumentHelp(
            "Compare with a fingerprint, or with that in a file (- is stdin).",
            valueName: "fingerprint|file"),
        completion: .file())
    var compare: String?
    @Flag(name: .customLong("md5"), help: "Hash by MD5, for servers whose own hashes differ.")
    var usesMD5 = false
    @Flag(help: "Hash texts so that the server's encoding does not matter.")
    var anyEncoding = false
    @Option(help: ArgumentHelp("How long a query may take, such as 10min.", valueName: "span"))
    var timeLimit: TimeSpan?
    @Flag(help: "Print JSON, with all that is known of it.")
    var json = false

    func validate() throws {
        if let columns,
            columns.split(separator: ",", omittingEmptySubsequences: false)
                .contains(where: \.isEmpty)
        {
            throw ValidationError("--columns are names with commas between them.")
        }
    }

    func run() async throws {
        var inspection = Inspection(
            destination: target.destination, cancel: try Interruption.cancelToken())
        inspection.sourceConninfos = sources.conninfos
        var request = FingerprintRequest(table: table)
        request.source = source
        request.filter = filter
        request.columns = columns?.split(separator: ",").map { String($0) }
        request.usesMD5 = usesMD5
        request.anyEncoding = anyEncoding
        request.timeLimit = timeLimit.map { $0.duration / .seconds(1) }
        request.other = try compare.map { try Self.given($0) }
        let reading = try await reported { [inspection, request] in
            try await inspection.fingerprint(request)
        }
        tell(reading)
        guard compare == nil || reading.isEqual == true else {
            throw ExitCode(ExitStatus.replicaFailed.code)
        }
    }

    private func tell(_ reading: FingerprintReading) {
        guard json else {
            Terminal.output.line(reading.line)
            if let difference = reading.difference {
                let word = reading.isEqual == nil ? "not comparable" : "different"
                Terminal.error.line(
                    Terminal.error.styled("\(word): \(difference.printable)", .red))
            } else if reading.isEqual == true, Terminal.output.isTerminal {
                Terminal.output.line(Terminal.output.styled("the same", .green))
            }
            return
        }
        guard compare != nil else { return Terminal.output.line(reading.document.description) }
        Terminal.output.line(
            JSON.object([
                "equal": reading.isEqual.map { JSON($0) } ?? .null,
                "difference": JSON(reading.difference), "taken": reading.document,
            ]).description)
    }

    /// A fingerprint stands for itself; all else is a file that has one.
    private static func given(_ argument: String) throws -> String {
        if argument.hasPrefix("roneo"), argument.contains(":") { return argument }
        let text = File.text(argument == "-" ? "/dev/stdin" : argument)
        guard !text.isEmpty else {
            Terminal.error.line(
                "roneo: \(argument.printable) is no fingerprint, and no file that can be read")
            throw ExitCode(ExitStatus.usage.code)
        }
        return text
    }
}
