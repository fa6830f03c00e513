import ArgumentParser
import Replication

/// When a command that refreshes gives up.
struct LimitOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Cancel what still runs after this time, such as 55min, and begin nothing more.",
            valueName: "span"))
    var cancelAfter: TimeSpan?
    @Option(
        help: ArgumentHelp(
            "Ask a server that has said nothing for this time whether it is still there, and give "
                + "up where it is not (default: 60s; 0: never).", valueName: "span"))
    var stallTimeout: TimeSpan?

    func apply(to run: inout RefreshRun) {
        run.cancelAfter = cancelAfter?.duration
        guard let given = stallTimeout?.duration else { return }
        run.stallTimeout = given == .zero ? nil : given
    }

    func validate() throws {
        guard cancelAfter?.duration != .zero else {
            throw ValidationError("--cancel-after must be longer than nothing.")
        }
    }
}
