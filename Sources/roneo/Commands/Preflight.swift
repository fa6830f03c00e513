import ArgumentParser
import Replication

struct Preflight: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say what is missing on either side, as SQL that mends it.",
        usage: "roneo preflight [<options>] [<source>]",
        discussion: """
            Run it after registering a source, and when a refresh says that a right is missing.

              roneo preflight -d wh            the destination and all sources
              roneo preflight -d wh shop       the destination and one

            Exit status: 0 nothing is missing; 1 something is.

            With --capture it looks at nothing, and prints the script that a superuser of the source, \
            or the owner of that table, runs there with psql before create_dml or create_logdel, \
            where the role of the connection may make no triggers:

              roneo preflight -d wh shop --capture app.orders >capture.sql
            """)

    @Argument(
        help: "Only this source; all of them otherwise.",
        completion: .sources)
    var source: String?
    @Option(
        help: ArgumentHelp(
            "Print the script that captures this table of the source.", valueName: "table"))
    var capture: String?
    @Flag(help: "With --capture: for logdel, which keeps the last values of deleted rows.")
    var keepsDeleted = false

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @OptionGroup(title: "Sources") var sources: SourceOptions
    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        guard capture == nil || source != nil else {
            throw ValidationError("--capture is of a table of one source: name it.")
        }
        guard capture != nil || !keepsDeleted else {
            throw ValidationError("--keeps-deleted goes with --capture.")
        }
        guard capture == nil || !json else {
            throw ValidationError("The script of --capture is SQL, and never JSON.")
        }
    }

    func run() async throws {
        var inspection = Inspection(
            destination: target.destination, cancel: try Interruption.cancelToken())
        inspection.sourceConninfos = sources.conninfos
        if let source, let capture {
            let script = try await reported { [inspection] in
                try await inspection.captureScript(
                    source: source, table: capture, keepsDeleted: keepsDeleted)
            }
            Terminal.output.line(script)
            return
        }
        let findings = try await reported { try await inspection.preflight(source: source) }
        if json {
            Terminal.output.line(JSON.array(findings.map(\.json)).description)
        } else {
            Terminal.output.write(FindingText.text(findings, Terminal.output))
        }
        guard findings.allSatisfy(\.isOk) else {
            throw ExitCode(ExitStatus.replicaFailed.code)
        }
    }
}
