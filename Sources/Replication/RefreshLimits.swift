import Postgres

/// How long a refresh may take, and what its source is spared, as `roneo.refresh_limits` says it.
struct RefreshLimits {
    private let timeout: (duration: Duration, error: PostgresError)?
    private let snapshot: (duration: Duration, error: PostgresError)?
    /// What is asked of the source before anything else.
    let loadQuery: String?
    /// What makes the source's server keep to them too, should this program not be able to.
    let sourceCommands: String?

    static let none = RefreshLimits()

    private init() {
        (timeout, snapshot, loadQuery, sourceCommands) = (nil, nil, nil, nil)
    }

    /// From a row of `roneo.refresh_limits`.
    init(_ row: QueryResult) {
        func limit(_ name: String, _ sqlState: String) -> (Duration, PostgresError)? {
            row[0, "\(name)_ms"].flatMap { Int($0) }.map { milliseconds in
                (
                    .milliseconds(milliseconds),
                    PostgresError(
                        origin: .timeLimit, sqlState: sqlState,
                        message: row[0, "\(name)_text"] ?? "", hint: row[0, "\(name)_hint"])
                )
            }
        }
        timeout = limit("timeout", SQLState.refreshTimeout)
        snapshot = limit("snapshot", SQLState.snapshotTooOld)
        loadQuery = row[0, "load_query"]
        sourceCommands = row[0, "source_commands"]
    }

    /// The end of a round that began then.
    func ofRefresh(began: ContinuousClock.Instant) -> TimeLimit? {
        timeout.map { TimeLimit(end: began + $0.duration, error: $0.error) }
    }

    /// The end of a snapshot that is taken now.
    func ofSnapshot() -> TimeLimit? {
        snapshot.map { TimeLimit(end: .now + $0.duration, error: $0.error) }
    }
}
