import ArgumentParser
import Postgres
import Replication

extension OutputOptions {
    /// Carries out a run, shows it while it goes on, tells its end, and exits with its status.
    /// - Parameter ending: what else is to be done at the end, whatever that is; true where it was.
    func carryOut(
        _ run: RefreshRun, ending: ((RunEnd) async -> Bool)? = nil
    ) async throws {
        let began = ContinuousClock.now
        do {
            let report = try await show(run)
            let status = report.exitStatus.code
            let end = RunEnd(report: report, exitStatus: status, duration: report.duration)
            let isDone = await ending?(end) ?? true
            throw ExitCode(status == 0 && !isDone ? ExitStatus.replicaFailed.code : status)
        } catch let early as EarlyExit {
            let duration = ContinuousClock.now - began
            _ = await ending?(
                RunEnd(report: nil, exitStatus: early.code.rawValue, duration: duration))
            throw early.code
        }
    }

    private func show(_ run: RefreshRun) async throws -> RunReport {
        var run = run
        let token = try Interruption.cancelToken()
        let log = logs ? LogObserver(logger()) : nil
        let display =
            Terminal.error.isTerminal && !logsOnStderr && !json ? LiveDisplay(Terminal.error) : nil
        let observers: [(any RefreshObserver)?] = [log, display]
        run.observer = ObserverGroup(members: observers.compactMap { $0 })
        display?.start()
        defer { display?.finish() }

        var report = try await reporting(log) { try await run(cancel: token) }
        report.signal = Interruption.signal
        display?.finish()
        tell(
            report, log, isDrawn: display != nil,
            isVerification: run.options.verification != nil)
        return report
    }

    /// What was compared and what was found. Where all is equal and nobody looks, nothing is said.
    private func tellVerdicts(_ report: RunReport) {
        if json {
            Terminal.output.line(VerdictText.json(report).description)
        } else if verbose || Terminal.output.isTerminal && !logsOnStderr
            || report.replicas.contains(where: { $0.verdict?.outcome == .differs })
        {
            Terminal.output.write(VerdictText.text(report, Terminal.output))
        }
    }

    /// - Parameter isLogged: the log lines say all of it; else those for machines do.
    func tell(
        _ report: RunReport, _ log: LogObserver?, isDrawn: Bool, isVerification: Bool = false,
        what: String = "run ended", isLogged: Bool? = nil
    ) {
        log?.ended(report, what: what)
        if isVerification {
            tellVerdicts(report)
        } else if json {
            Terminal.output.line(report.json.description)
        } else if verbose || Terminal.output.isTerminal && !logsOnStderr {
            Terminal.output.line(ReportText.summary(report))
        }
        guard !(isLogged ?? (logFormat == .json && logsOnStderr)) else { return }
        for replica in report.replicas {
            let words = [
                ReportText.failure(replica, Terminal.error),
                isDrawn ? nil : ReportText.warning(replica, Terminal.error),
            ]
            for text in words.compactMap({ $0 }) { Terminal.error.line(text) }
        }
        if let stopped = report.stopped {
            Terminal.error.line(ReportText.block(stopped.failure, Terminal.error))
        }
    }

    private func reporting<T>(
        _ log: LogObserver?, _ body: () async throws -> T
    ) async throws -> T {
        do {
            return try await body()
        } catch {
            let end = EarlyEnd(error)
            log?.failed(end.failure)
            if logFormat != .json || !logsOnStderr { end.tell() }
            throw EarlyExit(code: end.exitCode)
        }
    }
}

/// How a run ended.
struct RunEnd: Sendable {
    /// Nil where nothing could be done at all.
    let report: RunReport?
    let exitStatus: Int32
    let duration: Duration
}

/// An end that has been told already.
private struct EarlyExit: Error {
    let code: ExitCode
}
