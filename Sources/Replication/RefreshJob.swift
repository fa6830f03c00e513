import Postgres

/// The refresh of one replica, from its lock to its commit.
///
/// It follows the protocol of the extension's phases and knows no method: what is to be done is
/// text that the extension planned, and what a source answers is passed on unread.
final class RefreshJob {
    private let dest: String
    private let options: RefreshOptions
    private let worker: Worker
    private var report: ReplicaReport
    private var during = "beginning"
    /// The run of the present round, once its start is recorded.
    private var runId: Int64?
    private let began = ContinuousClock.now
    /// Set where the destination cannot be reached any more, and no other job need try.
    private(set) var destinationLost: RunError?

    /// Trying again after a deadlock or a serialization failure.
    private static let attempts = 3
    /// More rounds than any method needs: a plan that never ends must not go unseen.
    private static let mostRounds = 100_000

    init(_ dest: String, options: RefreshOptions, worker: Worker) {
        self.dest = dest
        self.options = options
        self.worker = worker
        report = ReplicaReport(dest: dest, outcome: .failed)
    }

    func callAsFunction() -> ReplicaReport {
        let observer = worker.context.observer
        observer.began(dest)
        for attempt in 1...Self.attempts where attempt == 1 || isWorthAnotherTry() {
            do {
                try rounds()
            } catch {
                destinationLost = error as? RunError
                worker.rollBack()
                record(failure(error))
            }
        }
        report.duration = ContinuousClock.now - began
        observer.ended(dest, report)
        return report
    }

    /// After a pause, in which the other transaction may come to its end.
    private func isWorthAnotherTry() -> Bool {
        guard report.outcome == .failed, report.failure?.kind == .conflict else { return false }
        return (try? worker.pause(.milliseconds(.random(in: 50...500)))) != nil
    }

    private func rounds() throws {
        report.failure = nil
        report.warning = nil
        report.rows = 0
        report.bytes = 0
        try beginRepull()
        for _ in 0..<Self.mostRounds where try !round() {
            return
        }
        throw Failure(
            sqlState: SQLState.accounting, message: "the plan of \(dest) does not come to an end")
    }

    /// Notes what is to be pulled again; the rounds then do it, in chunks, and so does whoever comes
    /// next where they are interrupted.
    private func beginRepull() throws {
        guard let range = options.repull else { return }
        during = "noting what is to be pulled again"
        try worker.destination(for: dest).execute(
            "SELECT roneo.begin_repull(roneo.dest_of(\(dest)), \(range.from), \(range.to))")
    }

    /// One round of the four phases; true when the extension wants another one.
    private func round() throws -> Bool {
        let began = ContinuousClock.now
        runId = nil
        var round = RefreshRound(dest, options: options, worker: worker)
        defer { worker.rollBack() }

        during = "locking the replica"
        try round.begin()
        report.dest = round.dest
        report.source = round.sourceName
        report.method = round.method

        during = "asking the source"
        try round.probe()
        during = "planning"
        let steps = try round.plan()

        var results: [StepResult] = []
        if !steps.isEmpty {
            during = "recording the start"
            runId = try worker.context.journal.recordStart(round.dest)
            report.runId = runId
            results = try execute(steps, of: &round)
        }

        during = "finishing"
        let ended = try round.finish(
            RoundResult(
                replicaId: round.replicaId, runId: runId, startedAt: round.startedAt,
                duration: ContinuousClock.now - began, planned: steps.count, steps: results,
                runner: worker.context.runner, backend: round.backend))
        during = "committing"
        try round.commit(steps.filter { $0.kind == .after })
        report.runId = ended.runId ?? runId
        report.outcome = ended.outcome
        report.message = ended.message
        // A later round, which had no reason for it, takes no warning back.
        report.warning = ended.warning ?? report.warning
        return ended.again
    }

    /// All steps in their order, as the destination's owner.
    private func execute(_ steps: [Step], of round: inout RefreshRound) throws -> [StepResult] {
        during = "becoming the destination's owner"
        try round.becomeOwner()
        var results: [StepResult] = []
        var isPutOff = false
        let lastRead = steps.last { $0.kind == .transfer || $0.kind == .check }
        for step in steps {
            guard !isPutOff, step.kind != .after else {
                results.append(StepResult(step, .skipped))
                continue
            }
            during = "step \(step.number) of \(steps.count): \(step.purpose)"
            worker.context.observer.beganStep(
                dest, number: step.number, of: steps.count, purpose: step.purpose)
            let (rows, bytes) = (report.rows, report.bytes)
            let result = try round.execute(step) { [dest, observer = worker.context.observer] in
                observer.moved(dest, rows: rows + $0, bytes: bytes + $1)
            }
            report.rows += result.sent ?? 0
            report.bytes += result.bytes ?? 0
            isPutOff = result.outcome == .deferred
            results.append(result)
            // Indexes are built without holding up the source.
            if step == lastRead { round.releaseSource() }
        }
        during = "checking what is deferred"
        try round.becomeOneself()
        return results
    }

    /// What went wrong; where a server only says that a privilege is missing, with the way out.
    private func failure(_ error: any Error) -> Failure {
        let failure = Failure(any: error, during: during)
        guard failure.sqlState == SQLState.insufficientPrivilege, failure.hint == nil else {
            return failure
        }
        let source = report.source.map { " \($0)" } ?? ""
        return Failure(
            sqlState: failure.sqlState, message: failure.message, detail: failure.detail,
            hint: "Run \"roneo preflight\(source)\": it prints the GRANTs that are missing.",
            during: failure.during)
    }

    /// Tells the destination's history, and settles what the failure makes of the report.
    private func record(_ failure: Failure) {
        report.failure = failure
        report.outcome = failure.kind == .busy ? .deferred : .failed
        if worker.context.cancel.isFired { report.outcome = .cancelled }
        // Who holds the lock records what comes of it.
        guard failure.sqlState != SQLState.beingRefreshed else { return }
        // A history that cannot be written is no second failure: the report tells of the first.
        let outcome = try? worker.context.journal.recordFailure(
            report.dest, failure, runId: runId, duration: ContinuousClock.now - began)
        switch outcome.flatMap({ ReplicaReport.Outcome(rawValue: $0) }) {
        case .deferred where report.outcome == .failed:
            report.outcome = .deferred
        case let ended? where ended == .ok || ended == .unchanged:
            // It was the answer to the COMMIT that got lost.
            report.outcome = ended
            report.failure = nil
        default:
            break
        }
    }
}
