import ArgumentParser
import Postgres
import Replication

extension OutputOptions {
    /// Follows until it is told to stop, tells what happens, and exits with the status of its end.
    func follow(_ run: RefreshRun, _ metrics: MetricsFile?) async throws {
        let token = try Interruption.cancelToken()
        let reload = try FollowReload()
        // The end of a terminal is a HUP too, and ends what runs there.
        if !Terminal.isAny { Interruption.onHangup { reload() } }
        let log = logs ? LogObserver(logger()) : nil
        let display =
            Terminal.error.isTerminal && !logs && !json ? LiveDisplay(Terminal.error) : nil
        let observers: [(any RefreshObserver)?] = [log, display]
        var run = run
        run.observer = ObserverGroup(members: observers.compactMap { $0 })
        let voice = FollowVoice(output: self, log: log, display: display, metrics: metrics)
        var follow = Follow(run, reload: reload, listener: voice)
        follow.watchdog = ServiceManager.watchdog
        display?.start()
        defer { display?.finish() }

        let end = try await reported { try await follow(cancel: token) }
        ServiceManager.current?.isStopping()
        display?.finish()
        let status = status(of: end)
        await voice.ended(end, status)
        throw ExitCode(status.code)
    }

    /// A service that was told to end and had nothing in its hands has ended well.
    private func status(of end: FollowEnd) -> ExitStatus {
        switch end {
        case .done: .success
        case .interrupted: Interruption.signal.map { .signal($0) } ?? .success
        case .failed(let error): error.status
        }
    }
}

/// What a follower says, to whom it wants to hear it.
private actor FollowVoice: FollowListener {
    let output: OutputOptions
    let log: LogObserver?
    let display: LiveDisplay?
    let metrics: MetricsFile?
    /// What was said already about the file of metrics.
    private var metricsProblem: String?

    init(
        output: OutputOptions, log: LogObserver?, display: LiveDisplay?, metrics: MetricsFile?
    ) {
        self.output = output
        self.log = log
        self.display = display
        self.metrics = metrics
    }

    nonisolated func isAlive() { ServiceManager.current?.isAlive() }

    func heard(_ event: FollowEvent) async {
        switch event {
        case .began:
            ServiceManager.current?.isReady()
        case .round(var report):
            if report.replicas.contains(where: { $0.outcome == .cancelled }) {
                report.signal = Interruption.signal
            }
            if !report.replicas.isEmpty {
                aside {
                    output.tell(
                        report, log, isDrawn: display != nil, what: "round ended",
                        isLogged: log != nil)
                }
            }
            await measure(report, report.exitStatus, report.duration)
        case .trouble(let error):
            ServiceManager.current?.status("waiting: \(error.failure.message)")
            log?.trouble(error.failure)
            say(
                ReportText.block(error.failure, Terminal.error)
                    + "\nroneo: waiting until that is over")
        case .recovered(let duration):
            ServiceManager.current?.status("following")
            log?.recovered(after: duration)
            say("roneo: going on after \(Quantity.seconds(duration))")
        case .failed(let error):
            ServiceManager.current?.status("ending: \(error.failure.message)")
            log?.failed(error.failure)
            say(ReportText.block(error.failure, Terminal.error))
        }
    }

    /// Where log lines are written, they say it.
    private func say(_ text: String) {
        guard log == nil else { return }
        aside { Terminal.error.line(text) }
    }

    private func aside(_ body: () -> Void) {
        if let display { display.aside(body) } else { body() }
    }

    func ended(_ end: FollowEnd, _ status: ExitStatus) async {
        guard case .failed = end else { return }
        await measure(nil, status, .zero)
    }

    /// A file that cannot be written is told once.
    private func measure(
        _ report: RunReport?, _ status: ExitStatus, _ duration: Duration
    ) async {
        let end = RunEnd(report: report, exitStatus: status.code, duration: duration)
        let problem = await metrics?.problem(writing: end)
        if let problem, problem != metricsProblem { aside { MetricsFile.tell(problem) } }
        metricsProblem = problem
    }
}
