import Postgres

/// One round of a refresh: the four phases, each a call of the extension, on two connections.
///
/// Of a replica that belongs to a refresh group, the whole group: it is read in one transaction of
/// the source and written in one of the destination.
struct RefreshRound {
    /// What was asked for.
    private(set) var dest: String
    /// The replica that was asked for, and the others of its group.
    private(set) var members: [Member] = []
    private(set) var sourceName = ""
    private(set) var backend: Int32 = 0
    /// By the destination's clock, which also says what is due.
    private(set) var startedAt = ""

    /// How long a source may take over what is only told to it: nobody waits for that.
    private static let afterwards = Duration.seconds(10)

    private let options: RefreshOptions
    private let worker: Worker
    private var destination: Connection!
    private var source: Connection!
    private var owner = ""
    /// The role setting to return to, once another one has been taken.
    private var ownRole: String?
    private var answers: [RoundAnswer] = []
    private var lockTimeout = "0"
    private var lockAttempts = 1

    /// A replica of the round.
    struct Member {
        let dest: String
        let replicaId: Int
        let method: String
        fileprivate let questions: Questions
    }

    /// What the source is asked, in this order.
    fileprivate struct Questions {
        let before: String?
        let opening: String?
        let lock: String?
        let inside: String?
    }

    /// What became of a replica in the round.
    struct Ended {
        let replicaId: Int
        let runId: Int64?
        let outcome: ReplicaReport.Outcome
        let again: Bool
        let message: String?
        let warning: String?
    }

    /// The replica that was asked for.
    var asked: Member? { members.first { $0.dest == dest } ?? members.first }

    init(_ dest: String, options: RefreshOptions, worker: Worker) {
        self.dest = dest
        self.options = options
        self.worker = worker
    }

    /// Phase one: locks the replicas, and hears what to ask their source.
    mutating func begin() throws {
        destination = try worker.destination(for: dest)
        backend = destination.backendPID
        try destination.execute("BEGIN")
        let begun = try destination.execute(
            """
            SELECT b.*, b.replica_id = (SELECT r.replica_id FROM roneo.replica AS r \
            WHERE r.dest = roneo.dest_of(\(dest))) AS asked, \
            to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS now \
            FROM roneo.begin_refresh(ARRAY[roneo.dest_of(\(dest))]) AS b
            """)
        guard !begun.isEmpty else {
            throw Failure(
                sqlState: SQLState.notAReplica, message: "table \(dest) is not a replica")
        }
        for row in 0..<begun.count {
            if begun[row, "asked"] == "t" { dest = begun[row, "dest"] ?? dest }
        }
        sourceName = begun[0, "source_name"] ?? ""
        members = (0..<begun.count).map { row in
            Member(
                dest: begun[row, "dest"] ?? "",
                replicaId: begun[row, "replica_id"].flatMap { Int($0) } ?? 0,
                method: begun[row, "method"] ?? "",
                questions: Questions(
                    before: begun[row, "before"], opening: begun[row, "opening"],
                    lock: begun[row, "lock"], inside: begun[row, "inside"]))
        }
        if let busy = (0..<begun.count).first(where: { begun[$0, "state"] != "ready" }) {
            throw Failure(
                sqlState: SQLState.beingRefreshed,
                message: "\(begun[busy, "dest"] ?? dest) is being refreshed by another session")
        }
        startedAt = begun[0, "now"] ?? ""
        // Those of a group have one owner.
        owner = begun[0, "dest_owner"] ?? ""
        lockTimeout = begun[0, "lock_timeout_ms"] ?? "0"
        lockAttempts = begun[0, "lock_attempts"].flatMap { Int($0) } ?? 1
    }

    /// Phase two: asks the source, first outside and then inside of the transaction that stays
    /// open until the rows are read.
    mutating func probe() throws {
        source = try worker.source(named: sourceName, for: dest, mappings: destination)
        let before = try members.map { try ask($0.questions.before) }
        try ask(members.first?.questions.opening)
        try lockSource(members.compactMap(\.questions.lock))
        answers = try zip(members, before).map { member, before in
            RoundAnswer(
                replicaId: member.replicaId, options: options, before: before,
                inside: try ask(member.questions.inside))
        }
    }

    private var answersJSON: String { JSON.array(answers.map(\.json)).description }

    /// Phase three: the steps, in order. None: there is nothing to do.
    func plan() throws -> [Step] {
        let rows = try destination.execute(
            "SELECT * FROM roneo.plan_refresh(\(answersJSON)::jsonb)")
        return try (0..<rows.count).map { try Step(rows, row: $0) }
    }

    /// Does one step. One that waited in vain for its lock is reported as deferred.
    func execute(
        _ step: Step, progress: @escaping (_ rows: Int64, _ bytes: Int64) -> Void
    ) throws -> StepResult {
        let began = ContinuousClock.now
        var result = StepResult(step, .done)
        switch step.kind {
        case .dest where step.counts == Step.putCount:
            // How many rows it inserted and how many it updated is more than a command tag says.
            result.answer = try destination.execute(SQL(verbatim: step.statement)).value
        case .dest:
            if let rows = try executeOnDestination(step) {
                result.rows = rows
            } else {
                result.outcome = .deferred
            }
        case .transfer, .attempt:
            let tally = try transfer(step, progress: progress)
            result.sent = tally.sent
            result.received = tally.received
            result.rows = tally.received
            result.bytes = tally.bytes
        case .check:
            result.answer = try source.execute(SQL(verbatim: step.statement)).value
        case .source, .after:
            throw Failure(
                sqlState: SQLState.versionMismatch,
                message: "this program does not know what to do with a step of kind \(step.kind)")
        }
        result.duration = ContinuousClock.now - began
        return result
    }

    private func transfer(
        _ step: Step, progress: @escaping (_ rows: Int64, _ bytes: Int64) -> Void
    ) throws -> CopyTally {
        do {
            return try CopyRelay.copy(
                from: source, step.copyOut ?? "", to: destination, step.copyIn ?? "",
                progress: progress)
        } catch {
            let failure = Failure(any: error, during: step.purpose)
            guard step.kind == .attempt, failure.sqlState == SQLState.uniqueViolation else {
                throw error
            }
            throw Failure(sqlState: SQLState.rowsAreThere, message: failure.message)
        }
    }

    /// Ends the source's transaction: its snapshot and its lock are in others' way.
    func releaseSource() {
        source.rollback()
    }

    /// Phase four: the accounting, and what the extension makes of it.
    func finish(_ results: [RoundResult]) throws -> [Ended] {
        let rows = try destination.execute(
            """
            SELECT * FROM roneo.finish_refresh(\(answersJSON)::jsonb, \
            \(JSON.array(results.map(\.json)).description)::jsonb)
            """)
        let ended = (0..<rows.count).compactMap { row in
            rows[row, "outcome"].flatMap { ReplicaReport.Outcome(rawValue: $0) }.map { outcome in
                Ended(
                    replicaId: rows[row, "replica_id"].flatMap { Int($0) } ?? 0,
                    runId: rows[row, "run_id"].flatMap { Int64($0) }, outcome: outcome,
                    again: rows[row, "again"] == "t", message: rows[row, "message"],
                    warning: rows[row, "warning"])
            }
        }
        guard ended.count == members.count else {
            throw Failure(
                sqlState: SQLState.versionMismatch,
                message: "this program does not know how the refresh of \(dest) ended")
        }
        return ended
    }

    /// Makes it so, then does on the source what may only be done once it is so.
    ///
    /// - Parameter lost: hears of steps that failed. They are idempotent, and the next refresh makes
    ///   up for them; so this one is none the worse.
    func commit(_ after: [Step], lost: (Step, Failure) -> Void) throws {
        // A trigger of the owner's that is still deferred runs in the COMMIT, as the role of then.
        if ownRole != nil { try setRole(owner) }
        // Once it is sent, only the server knows what came of it; so it is not cancelled from here.
        let tag = try destination.execute("COMMIT", heedsCancel: false).commandTag
        guard tag == "COMMIT" else {
            throw Failure(
                sqlState: SQLState.inFailedTransaction,
                message: "the destination answered COMMIT with \(tag)")
        }
        // From here on it is done, whatever becomes of the source.
        source.rollback()
        for step in after {
            do {
                try source.execute(SQL(verbatim: step.statement), timeLimit: Self.afterwards)
            } catch {
                lost(step, Failure(error, during: step.purpose))
            }
        }
    }

    /// From here to ``becomeOneself()`` nothing has more rights than the destination's owner.
    mutating func becomeOwner() throws {
        let session = try destination.execute("SELECT current_user, current_setting('role')")
        guard session[0, 0] != owner else { return }
        ownRole = session[0, 1]
        try setRole(owner)
    }

    /// What deferred constraints have against the rows is said here, and not by the COMMIT.
    func becomeOneself() throws {
        try destination.execute("SET CONSTRAINTS ALL IMMEDIATE")
        if let ownRole { try setRole(ownRole) }
    }

    private func setRole(_ role: String) throws {
        try destination.execute("SELECT set_config('role', \(role), true)")
    }

    /// A table that cannot be locked is judged by the plan: it knows what to say of one that is
    /// gone, and where it can be read all the same, its files are compared.
    private func lockSource(_ locks: [String]) throws {
        for (index, lock) in locks.enumerated() {
            do {
                try ask(lock)
            } catch let error as PostgresError {
                let wrongObjectType = "42809"
                let reasons = [
                    SQLState.undefinedTable, SQLState.insufficientPrivilege, wrongObjectType,
                ]
                guard reasons.contains(error.code) else { throw error }
                // With it the locks before are gone.
                source.rollback()
                try ask(members.first?.questions.opening)
                var others = locks
                others.remove(at: index)
                return try lockSource(others)
            }
        }
    }

    @discardableResult
    private func ask(_ text: String?) throws -> String? {
        guard let text else { return nil }
        return try source.execute(SQL(verbatim: text)).value
    }

    /// - Returns: the rows it touched; nil where a patient step did not get its lock.
    private func executeOnDestination(_ step: Step) throws -> Int64? {
        let statement = SQL(verbatim: step.statement)
        guard step.patient else { return try destination.execute(statement).affectedRows }
        try destination.execute("SAVEPOINT roneo_step")
        for attempt in 1...max(1, lockAttempts) {
            do {
                try destination.execute("SELECT set_config('lock_timeout', \(lockTimeout), true)")
                let rows = try destination.execute(statement).affectedRows
                try destination.execute("RELEASE SAVEPOINT roneo_step")
                try destination.execute("SET LOCAL lock_timeout = 0")
                return rows
            } catch {
                guard error.sqlState == SQLState.lockNotAvailable else { throw error }
                try destination.execute("ROLLBACK TO SAVEPOINT roneo_step")
            }
            // The lock's queue goes on meanwhile: whoever waited behind this step gets its turn.
            if attempt < lockAttempts { try worker.pause(.milliseconds(.random(in: 50...250))) }
        }
        try destination.execute("RELEASE SAVEPOINT roneo_step")
        return nil
    }
}

extension Step {
    /// A row of `roneo.plan_refresh`.
    init(_ rows: QueryResult, row: Int) throws {
        let name = rows[row, "kind"] ?? ""
        guard let kind = Kind(rawValue: name) else {
            throw Failure(
                sqlState: SQLState.versionMismatch,
                message: "this program does not know steps of kind \(name)")
        }
        self.init(
            replicaId: rows[row, "replica_id"].flatMap { Int($0) } ?? 0,
            number: rows[row, "number"].flatMap { Int($0) } ?? 0,
            stage: rows[row, "stage"].flatMap { Int($0) } ?? 0,
            kind: kind,
            purpose: rows[row, "purpose"] ?? "",
            statement: rows[row, "statement"] ?? "",
            copyOut: rows[row, "copy_out"],
            copyIn: rows[row, "copy_in"],
            counts: rows[row, "counts"],
            patient: rows[row, "patient"] == "t")
    }
}
