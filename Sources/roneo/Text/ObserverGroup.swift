import Replication

/// Tells several observers the same.
struct ObserverGroup: RefreshObserver {
    let members: [any RefreshObserver]

    func began(_ dest: String) {
        for member in members { member.began(dest) }
    }

    func beganStep(_ dest: String, number: Int, of total: Int, purpose: String) {
        for member in members {
            member.beganStep(dest, number: number, of: total, purpose: purpose)
        }
    }

    func endedStep(_ dest: String, _ result: StepResult) {
        for member in members { member.endedStep(dest, result) }
    }

    func endedPhase(_ dest: String, _ phase: RefreshPhase, after duration: Duration) {
        for member in members { member.endedPhase(dest, phase, after: duration) }
    }

    func moved(_ dest: String, rows: Int64, bytes: Int64) {
        for member in members { member.moved(dest, rows: rows, bytes: bytes) }
    }

    func lost(_ dest: String, purpose: String, _ failure: Failure) {
        for member in members { member.lost(dest, purpose: purpose, failure) }
    }

    func ended(_ dest: String, _ report: ReplicaReport) {
        for member in members { member.ended(dest, report) }
    }
}
