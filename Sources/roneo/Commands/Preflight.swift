import ArgumentParser
import Replication

struct Preflight: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say what is missing on either side, as SQL that mends it.",
        discussion: "Exit status 1 when something is.")

    @Argument(help: "Only this source; all of them otherwise.")
    var source: String?

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @OptionGroup(title: "Sources") var sources: SourceOptions
    @Flag(help: "Print JSON.")
    var json = false

    func run() async throws {
        var inspection = Inspection(
            destination: target.destination, cancel: try Interruption.cancelToken())
        inspection.sourceConninfos = sources.conninfos
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
