/// What a caller may ask of a refresh beyond the refresh.
public struct RefreshOptions: Sendable, Equatable {
    /// Drop what depends on a view that has to be built anew.
    public var dropDependents: Bool
    /// Copy although nothing seems to have changed.
    public var force: Bool
    /// Look for late rows in the whole table.
    public var sweep: Bool
    /// Copy into a staging table: an attempt without it has failed.
    var staging = false
    /// Pull a range again, before anything else.
    public var repull: Range?

    /// Values of a control column as the source writes them; nil: no end on that side.
    public struct Range: Sendable, Equatable {
        /// The first value that is pulled again.
        public var from: String?
        /// The first value that is not.
        public var to: String?

        public init(from: String? = nil, to: String? = nil) {
            self.from = from
            self.to = to
        }
    }

    public init(
        dropDependents: Bool = false, force: Bool = false, sweep: Bool = false,
        repull: Range? = nil
    ) {
        self.dropDependents = dropDependents
        self.force = force
        self.sweep = sweep
        self.repull = repull
    }
}
