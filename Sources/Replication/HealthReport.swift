/// What a check found.
public struct HealthReport: Sendable, Equatable {
    /// Numbers about a replica that was looked at, in seconds.
    public struct Replica: Sendable, Equatable {
        public let dest: String
        public let age: Double?
        public let promisedAge: Double?
        /// How many times its interval it is late.
        public let lateness: Double?
    }

    /// The worst first.
    public var findings: [CheckFinding] = []
    public var replicas: [Replica] = []
    public var isStandby = false
    public var lateWarning: Double?
    public var lateCritical: Double?

    public init() {}

    /// That nothing could be looked at.
    public init(unknown reason: String, advice: String? = nil) {
        findings = [
            CheckFinding(
                check: "destination", object: "", level: .unknown, message: reason, advice: advice)
        ]
    }

    public var level: AlertLevel { findings.map(\.level).min { $0.rank < $1.rank } ?? .ok }

    /// What somebody should look at.
    public var problems: [CheckFinding] { findings.filter { $0.level != .ok } }

    public var lateness: Double? { replicas.compactMap(\.lateness).max() }

    public func count(_ level: AlertLevel) -> Int { findings.count { $0.level == level } }
}
