import Postgres

/// What all refreshes of a process have in common.
struct RefreshContext: Sendable {
    let destination: Destination
    /// Connections of sources that are not to be taken from the destination's user mappings.
    let sourceConninfos: [String: String]
    let runner: RunnerIdentity
    let journal: Journal
    let cancel: CancelToken
    let observer: any RefreshObserver
    /// When nothing more is begun, no further round either.
    var deadline: ContinuousClock.Instant?
    /// How long a server may say nothing before it is asked whether it is there.
    var stallTimeout: Duration? = .seconds(60)
    /// When whatever still runs is cancelled.
    var runLimit: TimeLimit?
    let sources = SourceGuard()
}
