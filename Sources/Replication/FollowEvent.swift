/// What a follower has to tell.
public enum FollowEvent: Sendable, Equatable {
    /// It has had its first look at the destination, whatever came of it.
    case began
    /// Work has come to its end, or went on for a minute; without replicas: nothing to do for a
    /// minute. `stopped` says why, where the destination is away.
    case round(RunReport)
    /// Nothing can be done for now; told once, not at each attempt.
    case trouble(RunError)
    /// That is over.
    case recovered(after: Duration)
    /// Waiting would not help: it ends as soon as what runs has ended.
    case failed(RunError)
}

/// Hears what a follower has to tell.
public protocol FollowListener: Sendable {
    /// In their order, one at a time; the work does not wait for it.
    func heard(_ event: FollowEvent) async
    /// Called at each turn of the watching thread, which waits for it.
    func isAlive()
}

/// How a follower ended.
public enum FollowEnd: Sendable, Equatable {
    /// The time was up, or it was told to stop: nothing was interrupted.
    case done
    /// It was told to stop, and refreshes were cancelled for that.
    case interrupted
    /// Nothing it could wait for would help.
    case failed(RunError)
}
