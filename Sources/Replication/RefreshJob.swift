import Postgres

/// The refresh of one replica, with its group where it has one, from its lock to its commit.
///
/// It follows the protocol of the extension's phases and knows no method: what is to be done is
/// text that the extension planned, and what a source answers is passed on unread.
final class RefreshJob {
    private let dest: String
    private var options: RefreshOptions
    private let worker: Worker
    private var report: ReplicaReport
    /// What became of the others of its group.
    private var others: [ReplicaReport] = []
    private var during = "beginning"
    private var members: [RefreshRound.Member] = []
    /// The runs of the present round by replica, once their start is recorded.
    private var runIds: [Int: Int64] = [:]
    private let began = ContinuousClock.now
    private var limits = RefreshLimits.none
    /// Further rounds, and further attempts, are of a refresh that has begun.
    private var isFirstRound = true
    /// Set where the destination cannot be reached any more, and no other job need try.
    private(set) var destinationLost: RunError?

    /// Trying again after a deadlock or a serialization failure, where that costs little. All else
    /// that may pass needs longer than that, and has the next run.
    private static let attempts = 3
    private static let quick = Duration.seconds(10)
    /// More rounds than any method needs: a plan that never ends must not go unseen.
    private static let mostRounds = 100_000

    init(_ dest: String, options: RefreshOptions, worker: Worker) {
        self.dest = dest
        self.options = options
        self.worker = worker
        report = ReplicaReport(dest: dest, outcome: .failed)
    }

    /// - Returns: the report of the replica, and those of the others of its group.
    func callAsFunction() -> [ReplicaReport] {
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
        return [report] + others
    }

    private var isTimeUp: Bool {
        worker.context.deadline.map { ContinuousClock.now >= $0 } ?? false
    }

    /// After a pause, in which the other transaction may come to its end.
    private func isWorthAnotherTry() -> Bool {
        guard report.outcome == .failed, report.failure?.kind == .conflict,
            ContinuousClock.now - began < Self.quick, !isTimeUp
        else { return false }
        return (try? worker.pause(.milliseconds(.random(in: 50...500)))) != nil
    }

    private func rounds() throws {
        report.failure = nil
        report.verdict = nil
        report.warning = nil
        report.rows = 0
        report.bytes = 0
        try beginRepull()
        for _ in 0..<Self.mostRounds {
            // What is left to read has its position, and the next run.
            guard try roundOrStaged(), !isTimeUp, !isOutOfTime else { return }
        }
        throw Failure(
            sqlState: SQLState.accounting, message: "the plan of \(dest) does not come to an end")
    }

    /// What is committed stays; the rest is for the next refresh.
    private var isOutOfTime: Bool {
        limits.ofRefresh(began: began)?.isOver == true || worker.context.runLimit?.isOver == true
    }

    /// Notes what is to be pulled again; the rounds then do it, in chunks, and so does whoever comes
    /// next where they are interrupted.
    private func beginRepull() throws {
        guard let range = options.repull else { return }
        during = "noting what is to be pulled again"
        try worker.destination(for: dest).execute(
            "SELECT roneo.begin_repull(roneo.dest_of(\(dest)), \(range.from), \(range.to))")
    }

    /// A round, and once more by way of staging where rows were there that were not expected.
    private func roundOrStaged() throws -> Bool {
        do {
            return try round()
        } catch let failure as Failure where failure.sqlState == SQLState.rowsAreThere {
            options.staging = true
            defer { options.staging = false }
            report.rows = 0
            report.bytes = 0
            return try round(goesOn: true)
        }
    }

    /// One round of the four phases; true when the extension wants another one.
    ///
    /// - Parameter goesOn: whether its start has been recorded.
    private func round(goesOn: Bool = false) throws -> Bool {
        let began = ContinuousClock.now
        if !goesOn { runIds = [:] }
        members = []
        var round = RefreshRound(dest, options: options, worker: worker)
        defer {
            worker.rollBack()
            worker.refreshLimit = nil
            worker.snapshotLimit = nil
        }

        during = "locking the replica"
        defer { members = round.members }
        try timed(.lock) { try round.begin() }
        limits = round.limits
        worker.refreshLimit = limits.ofRefresh(began: began)
        report.dest = round.dest
        report.source = round.sourceName
        report.method = round.asked?.method
        guard try isWanted(round) else { return false }

        during = "asking the source"
        try timed(.probe) { try round.probe() }
        during = "planning"
        let steps = try timed(.plan) { try round.plan() }

        var results: [StepResult] = []
        if !steps.isEmpty {
            during = "recording the start"
            // The others of its group have nothing to do, and nothing that could be abandoned.
            let busy = round.members.filter { member in
                runIds[member.replicaId] == nil
                    && steps.contains { $0.replicaId == member.replicaId }
            }
            try timed(.record) {
                for member in busy {
                    runIds[member.replicaId] = try worker.context.journal.recordStart(member.dest)
                }
            }
            report.runId = round.asked.flatMap { runIds[$0.replicaId] }
            results = try timed(.steps) { try execute(steps, of: &round) }
        }

        during = "finishing"
        let told =
            round.members.map { member in
                let own = results.filter { $0.step.replicaId == member.replicaId }
                return RoundResult(
                    replicaId: member.replicaId, runId: runIds[member.replicaId],
                    startedAt: round.startedAt, duration: ContinuousClock.now - began,
                    planned: own.count, steps: own, runner: worker.context.runner,
                    backend: round.backend)
            }
        let ended = try timed(.finish) { try round.finish(told) }
        let verified = try verify(&round, ended, began: began)
        during = "committing"
        try timed(.commit) {
            try round.commit(steps.filter { $0.kind == .after }) {
                worker.context.observer.lost(dest, purpose: $0.purpose, $1)
            }
        }
        tell(ended, results, of: round)
        report.verdict = verified
        if verified?.wantsCopy == true { options.force = true }
        return ended.contains(where: \.again) || verified?.wantsCopy == true
    }

    /// Compares the replica with its source, in the snapshot that it was brought up to.
    /// - Returns: nil where that was not asked for, or there is more to read first.
    private func verify(
        _ round: inout RefreshRound, _ ended: [RefreshRound.Ended],
        began: ContinuousClock.Instant
    ) throws -> Verdict? {
        guard let wanted = options.verification, let asked = round.asked,
            let end = ended.first(where: { $0.replicaId == asked.replicaId }), !end.again
        else { return nil }
        guard end.outcome != .deferred else {
            return Verdict(outcome: .undecided, why: end.message)
        }
        during = "comparing"
        var comparison = try Comparison(
            of: &round, wanted, copied: end.outcome == .ok)
        while case let steps = try comparison.plan(), !steps.isEmpty {
            comparison.take(try execute(steps, of: &round))
            during = "judging"
            try comparison.judge()
        }
        return try comparison.finish(
            startedAt: round.startedAt, duration: ContinuousClock.now - began,
            runner: worker.context.runner)
    }

    /// False where somebody else has refreshed it since it was due.
    private func isWanted(_ round: RefreshRound) throws -> Bool {
        defer { isFirstRound = false }
        guard isFirstRound, options.onlyIfDue, try !round.isStillDue() else { return true }
        report.outcome = .unchanged
        report.message = "refreshed by another session meanwhile"
        return false
    }

    /// Does a phase, and says how long it took.
    private func timed<T>(_ phase: RefreshPhase, _ body: () throws -> T) throws -> T {
        let began = ContinuousClock.now
        let result = try body()
        worker.context.observer.endedPhase(dest, phase, after: ContinuousClock.now - began)
        return result
    }

    /// Makes reports of what the extension said at the end.
    private func tell(
        _ ended: [RefreshRound.Ended], _ results: [StepResult], of round: RefreshRound
    ) {
        others = []
        for (member, end) in round.members.compactMap({ member in
            ended.first { $0.replicaId == member.replicaId }.map { (member, $0) }
        }) {
            let isAsked = member.dest == round.dest
            var told = isAsked ? report : ReplicaReport(dest: member.dest, outcome: end.outcome)
            told.source = round.sourceName
            told.method = member.method
            told.runId = end.runId ?? runIds[member.replicaId]
            told.outcome = end.outcome
            told.message = end.message
            // A later round, which had no reason for it, takes no warning back.
            told.warning = end.warning ?? told.warning
            if round.members.count > 1 {
                let own = results.filter { $0.step.replicaId == member.replicaId }
                told.rows = own.reduce(0) { $0 + ($1.sent ?? 0) }
                told.bytes = own.reduce(0) { $0 + ($1.bytes ?? 0) }
            }
            if isAsked { report = told } else { others.append(told) }
        }
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
            // Each replica of a group counts its own.
            let number = results.count + 1
            during = "step \(number) of \(steps.count): \(step.purpose)"
            worker.context.observer.beganStep(
                dest, number: number, of: steps.count, purpose: step.purpose)
            let (rows, bytes) = (report.rows, report.bytes)
            let result = try round.execute(step) { [dest, observer = worker.context.observer] in
                observer.moved(dest, rows: rows + $0, bytes: bytes + $1)
            }
            report.rows += result.sent ?? 0
            report.bytes += result.bytes ?? 0
            isPutOff = result.outcome == .deferred
            results.append(result)
            worker.context.observer.endedStep(dest, result)
            // Indexes are built without holding up the source.
            if step == lastRead, options.verification == nil { round.releaseSource() }
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

    /// For each of a group; what it makes of the replica that was asked for.
    private func recordFailure(_ failure: Failure) -> String? {
        guard options.verification == nil else { return recordFailedVerification(failure) }
        let duration = ContinuousClock.now - began
        for member in members where member.dest != report.dest {
            _ = try? worker.context.journal.recordFailure(
                member.dest, failure, runId: runIds[member.replicaId], duration: duration)
        }
        let runId = members.first { $0.dest == report.dest }.flatMap { runIds[$0.replicaId] }
        return try? worker.context.journal.recordFailure(
            report.dest, failure, runId: runId, duration: duration)
    }

    /// A verification is no refresh that failed. Others of the group that were to be refreshed with it
    /// have a run that has begun.
    private func recordFailedVerification(_ failure: Failure) -> String? {
        func record(
            _ dest: String, _ options: VerificationOptions?, _ runId: Int64?
        ) -> String? {
            try? worker.context.journal.recordFailedVerification(
                dest, failure, options, runId: runId, duration: ContinuousClock.now - began,
                isCancelled: worker.context.cancel.isFired)
        }
        for member in members where member.dest != report.dest {
            if let runId = runIds[member.replicaId] { _ = record(member.dest, nil, runId) }
        }
        let runId = members.first { $0.dest == report.dest }.flatMap { runIds[$0.replicaId] }
        return record(report.dest, options.verification, runId)
    }

    /// Tells the destination's history, and settles what the failure makes of the report.
    private func record(_ failure: Failure) {
        report.failure = failure
        report.outcome = failure.kind == .busy ? .deferred : .failed
        if worker.context.cancel.isFired { report.outcome = .cancelled }
        if options.verification != nil {
            report.verdict = Verdict(outcome: .undecided, why: failure.message)
        }
        // Who holds the lock records what comes of it.
        guard failure.sqlState != SQLState.beingRefreshed else { return }
        // A history that cannot be written is no second failure: the report tells of the first.
        let outcome = recordFailure(failure)
        others = members.filter { $0.dest != report.dest }.map { member in
            var other = report
            other.dest = member.dest
            other.method = member.method
            other.runId = runIds[member.replicaId]
            return other
        }
        switch outcome.flatMap({ ReplicaReport.Outcome(rawValue: $0) }) {
        case .deferred where report.outcome == .failed:
            report.outcome = .deferred
        case let ended? where ended == .ok || ended == .unchanged:
            // It was the answer to the COMMIT that got lost.
            report.outcome = ended
            report.failure = nil
        case .failed
        where options.verification == nil
            && (try? worker.context.journal.isQuarantined(report.dest)) == true:
            report.warning =
                "in quarantine: not refreshed any more until it is mended and released (roneo release)"
        default:
            break
        }
    }
}
