/// The SQLSTATEs that this program decides by.
public enum SQLState {
    public static let cannotConnect = "08001"
    public static let connectionFailure = "08006"
    public static let notNullViolation = "23502"
    public static let foreignKeyViolation = "23503"
    public static let uniqueViolation = "23505"
    public static let checkViolation = "23514"
    public static let readOnlyTransaction = "25006"
    public static let inFailedTransaction = "25P02"
    public static let invalidPassword = "28P01"
    public static let invalidAuthorization = "28000"
    public static let undefinedDatabase = "3D000"
    public static let undefinedSchema = "3F000"
    public static let serializationFailure = "40001"
    public static let deadlockDetected = "40P01"
    public static let insufficientPrivilege = "42501"
    public static let undefinedTable = "42P01"
    public static let undefinedFunction = "42883"
    public static let tooManyConnections = "53300"
    public static let lockNotAvailable = "55P03"
    public static let queryCanceled = "57014"
    public static let adminShutdown = "57P01"
    public static let crashShutdown = "57P02"
    public static let cannotConnectNow = "57P03"
    public static let idleInTransactionTimeout = "25P03"
    public static let systemError = "58000"

    // Those of the extension.
    /// The table is not a replica.
    public static let notAReplica = "RO001"
    /// Another session is refreshing the replica.
    public static let beingRefreshed = "RO002"
    /// No source has this name.
    public static let noSuchSource = "RO003"
    /// The source's table is missing or cannot be read.
    public static let sourceTableMissing = "RO004"
    /// The destination exists and cannot be used.
    public static let destinationUnusable = "RO005"
    /// A name is invalid or too long.
    public static let badName = "RO006"
    /// An argument is wrong.
    public static let badArgument = "RO007"
    /// The source cannot be reached.
    public static let sourceUnreachable = "RO008"
    /// A privilege is missing.
    public static let privilegeMissing = "RO009"
    /// The transaction's isolation level is not READ COMMITTED.
    public static let wrongIsolation = "RO010"
    /// dblink is missing.
    public static let dblinkMissing = "RO011"
    /// Objects that depend on the destination would be dropped.
    public static let dependentsExist = "RO012"
    /// The source changed while it was read.
    public static let sourceChanged = "RO013"
    /// Rows sent and arrived differ, or a step was not reported.
    public static let accounting = "RO014"
    /// The columns of the two sides do not fit.
    public static let columnsDoNotFit = "RO015"
    /// A view or a lock is busy.
    public static let busy = "RO016"
    /// Other tables' rows would be lost.
    public static let inboundForeignKeys = "RO017"
    /// The destination or one of its tables is gone.
    public static let destinationGone = "RO018"
    /// The versions of extension and program do not fit.
    public static let versionMismatch = "RO019"
    /// Rows were copied into a table where their keys were not expected, and one was there.
    public static let rowsAreThere = "RO027"
}
