import Logging
import Postgres
import Replication

/// Turns what happens into log lines.
struct LogObserver: RefreshObserver {
    let logger: Logger

    init(_ logger: Logger) {
        self.logger = logger
    }

    func began(_ dest: String) {
        logger.debug("refresh begins", metadata: ["dest": "\(dest)"])
    }

    func beganStep(_ dest: String, number: Int, of total: Int, purpose: String) {
        logger.debug(
            "step begins",
            metadata: [
                "dest": "\(dest)", "phase": "\(RefreshPhase.steps.rawValue)", "step": "\(number)",
                "steps": "\(total)", "purpose": "\(purpose)",
            ])
    }

    func endedStep(_ dest: String, _ result: StepResult) {
        var metadata: Logger.Metadata = [
            "dest": "\(dest)", "phase": "\(RefreshPhase.steps.rawValue)",
            "purpose": "\(result.step.purpose)", "outcome": "\(result.outcome.rawValue)",
            "seconds": "\(JSON(result.duration))",
        ]
        metadata["rows"] = result.rows.map { "\($0)" }
        metadata["bytes"] = result.bytes.map { "\($0)" }
        logger.debug("step ended", metadata: metadata)
    }

    func endedPhase(_ dest: String, _ phase: RefreshPhase, after duration: Duration) {
        logger.debug(
            "phase ended",
            metadata: [
                "dest": "\(dest)", "phase": "\(phase.rawValue)", "seconds": "\(JSON(duration))",
            ])
    }

    func moved(_ dest: String, rows: Int64, bytes: Int64) {}

    func lost(_ dest: String, purpose: String, _ failure: Failure) {
        logger.notice(
            "not done, the next refresh makes up for it",
            metadata: ["dest": "\(dest)"].merging(fields(failure)) { _, new in new })
    }

    /// The end of the whole run, or of one round of a follower's.
    func ended(_ report: RunReport, what: String = "run ended") {
        var metadata: Logger.Metadata = [
            "exit_status": "\(report.exitStatus.code)",
            "rows": "\(report.rows)",
            "bytes": "\(report.bytes)",
            "seconds": "\(JSON(report.duration))",
            "not_begun": "\(report.notBegun.count)",
        ]
        for outcome in ReplicaReport.Outcome.allCases where report.count(outcome) > 0 {
            metadata[outcome.rawValue] = "\(report.count(outcome))"
        }
        if let signal = report.signal { metadata["signal"] = "\(signal)" }
        if let stopped = report.stopped {
            logger.error("run stopped early", metadata: fields(stopped.failure))
        }
        logger.info(
            report.isStandby ? "destination is a standby" : "\(what)", metadata: metadata)
    }

    /// A follower can do nothing for now.
    func trouble(_ failure: Failure) {
        logger.error("waiting for the destination", metadata: fields(failure))
    }

    func recovered(after duration: Duration) {
        logger.notice("going on", metadata: ["seconds": "\(JSON(duration))"])
    }

    /// Nothing could be done at all.
    func failed(_ failure: Failure) {
        logger.error("run failed", metadata: fields(failure))
    }

    func ended(_ dest: String, _ report: ReplicaReport) {
        var metadata: Logger.Metadata = [
            "dest": "\(report.dest)",
            "outcome": "\(report.outcome.rawValue)",
            "rows": "\(report.rows)",
            "bytes": "\(report.bytes)",
            "seconds": "\(JSON(report.duration))",
        ]
        metadata["source"] = report.source.map { "\($0)" }
        metadata["method"] = report.method.map { "\($0)" }
        metadata["run_id"] = report.runId.map { "\($0)" }
        if let failure = report.failure {
            metadata.merge(fields(failure)) { _, new in new }
        }
        if let warning = report.warning { metadata["warning"] = "\(warning)" }
        let level: Logger.Level =
            switch report.outcome {
            case .ok, .unchanged: report.warning == nil ? .info : .warning
            // Somebody else is at it: so runners share the work.
            case .deferred where report.failure?.sqlState == SQLState.beingRefreshed: .info
            case .deferred, .cancelled: .warning
            case .failed: .error
            }
        logger.log(level: level, "refresh ended", metadata: metadata)
    }

    private func fields(_ failure: Failure) -> Logger.Metadata {
        var metadata: Logger.Metadata = [
            "sqlstate": "\(failure.sqlState)", "error": "\(failure.message)",
        ]
        metadata["during"] = failure.during.map { "\($0)" }
        metadata["detail"] = failure.detail.map { "\($0)" }
        metadata["hint"] = failure.hint.map { "\($0)" }
        return metadata
    }
}
