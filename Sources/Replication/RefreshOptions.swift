/// What a caller may ask of a refresh beyond the refresh.
public struct RefreshOptions: Sendable, Equatable {
    /// Drop what depends on a view that has to be built anew.
    public var dropDependents: Bool
    /// Copy although nothing seems to have changed.
    public var force: Bool

    public init(dropDependents: Bool = false, force: Bool = false) {
        self.dropDependents = dropDependents
        self.force = force
    }
}
