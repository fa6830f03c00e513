import ArgumentParser
import Replication

struct Metrics: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print metrics for Prometheus.",
        usage: "roneo metrics [<options>]",
        discussion: """
            In its text format: last success, age, lag, rows, bytes, seconds, failures and state \
            of each replica. "roneo run --metrics-file FILE" leaves them where the node exporter \
            finds them, together with numbers about the run itself. Points of time are values, so \
            that a runner that has stopped is seen:

              time() - roneo_replica_last_success_timestamp_seconds
                > 3 * roneo_replica_promised_age_seconds

            The same as JSON: roneo metrics -d wh --json
            """)

    @OptionGroup(title: "Destination") var target: DestinationOptions
    @Flag(help: "Print JSON.")
    var json = false

    func run() async throws {
        let inspection = Inspection(
            destination: target.destination, cancel: try Interruption.cancelToken())
        let reading = try await reported { try await inspection.metrics() }
        guard !json else { return Terminal.output.line(RecordText.json(reading).description) }
        Terminal.output.write(PrometheusText.text(reading))
    }
}
