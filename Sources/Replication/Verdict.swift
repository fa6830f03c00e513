/// What a comparison of a replica with its source found.
public struct Verdict: Sendable, Equatable {
    public enum Outcome: String, Sendable, CaseIterable {
        case equal
        case differs
        /// It differed, and what differed was brought in line.
        case repaired
        /// It could not be compared; why says what was in the way.
        case undecided
    }

    public var outcome: Outcome
    public var why: String?
    public var rowsThere: Int64?
    public var rowsHere: Int64?
    /// Rows of the source that are not here.
    public var missing: Int64?
    /// Rows here that the source has not.
    public var extra: Int64?
    /// Rows with other values here.
    public var changed: Int64?
    public var inserted: Int64?
    public var updated: Int64?
    public var deleted: Int64?
    /// The run that a repair is.
    public var runId: Int64?
    /// Which rows are not to be here yet, and were left out; nil: there can be none.
    public var notCompared: String?
    /// Whether its refresh copied the whole: what differed before is gone with it.
    public var copiedAnew = false
    /// Some of the differences, as the extension describes them.
    public var differences = JSON(verbatim: "[]")
    /// The same in words.
    public var lines: [Line] = []
    /// Whether the source turned out to have changed since the copy, which is to be made first.
    var wantsCopy = false

    /// A difference.
    public struct Line: Sendable, Equatable {
        public let kind: String
        public let key: String
        /// Which columns differ, perhaps with their values.
        public let columns: String
    }

    public init(outcome: Outcome, why: String? = nil) {
        self.outcome = outcome
        self.why = why
    }
}

/// What is asked of a comparison.
public struct VerificationOptions: Sendable, Equatable {
    /// The first value of the control column or key to look at; nil: from the lowest.
    public var from: String?
    /// The first one not to look at; nil: up to the highest.
    public var to: String?
    /// How many differences are named.
    public var show = 100
    /// Whether with the values that differ.
    public var showsValues = false
    /// Whether they are to be repaired.
    public var repairs = false
    /// Whether that is done, and not only said.
    public var applies = false
    /// Whether rows that the source has no more are a difference; nil: as the replica is set.
    public var deletes: Bool?
    /// Percentage of the rows that a repair may remove.
    public var mostDeleted: String?
    /// Options of the extension's own, such as which slice it is.
    var given: String?

    public init() {}

    var json: JSON {
        if let given { return JSON(verbatim: given) }
        return .object([
            "from": JSON(from),
            "to": JSON(to),
            "show": JSON(show),
            "values": JSON(showsValues),
            "repair": JSON(repairs),
            "apply": JSON(applies),
            "deletes": deletes.map { JSON($0) } ?? .null,
            "most_deleted": JSON(mostDeleted),
        ])
    }
}
