/// Hears what refreshes do while they do it, from the threads they do it on.
///
/// `dest` is the name that was asked for, the same in all calls of one refresh. ``moved`` is called
/// for every chunk of a transfer, so it must be quick and must not wait.
public protocol RefreshObserver: Sendable {
    func began(_ dest: String)
    func beganStep(_ dest: String, number: Int, of total: Int, purpose: String)
    func endedStep(_ dest: String, _ result: StepResult)
    func endedPhase(_ dest: String, _ phase: RefreshPhase, after duration: Duration)
    func moved(_ dest: String, rows: Int64, bytes: Int64)
    /// Something after the commit failed, which the next refresh makes up for.
    func lost(_ dest: String, purpose: String, _ failure: Failure)
    func ended(_ dest: String, _ report: ReplicaReport)
}

/// The parts of a round of a refresh, in their order.
public enum RefreshPhase: String, Sendable, CaseIterable {
    case lock, probe, plan, record, steps, finish, commit
}

extension RefreshObserver {
    /// Only logs want to know.
    public func endedStep(_ dest: String, _ result: StepResult) {}
    public func endedPhase(_ dest: String, _ phase: RefreshPhase, after duration: Duration) {}
    /// Nothing a person need know.
    public func lost(_ dest: String, purpose: String, _ failure: Failure) {}
}

/// Hears nothing.
public struct SilentObserver: RefreshObserver {
    public init() {}

    public func began(_ dest: String) {}
    public func beganStep(_ dest: String, number: Int, of total: Int, purpose: String) {}
    public func moved(_ dest: String, rows: Int64, bytes: Int64) {}
    public func ended(_ dest: String, _ report: ReplicaReport) {}
}
