/// What went wrong between here and a PostgreSQL server.
///
/// It keeps the server's fields apart, so that callers decide by SQLSTATE and never by message.
/// Values of rows are taken out of the server's words, and passwords never get in.
public struct PostgresError: Error, Equatable, Sendable {
    /// Who noticed that something was wrong.
    public enum Origin: Equatable, Sendable {
        /// The server refused; `sqlState` says why.
        case server
        /// No connection could be made.
        case connecting
        /// The connection was lost on the way.
        case connectionLost
        /// A cancel token was fired, and what ran on the server was cancelled.
        case cancelled
        /// A time limit given to a call was over, and what ran on the server was cancelled.
        case timeLimit
        /// The call cannot work, whatever the server says (an operating system's error, a misuse).
        case local
    }

    /// Who noticed.
    public let origin: Origin
    /// Five characters, such as "23505"; nil when no server answered.
    public let sqlState: String?
    /// `ERROR`, `FATAL` or `PANIC`, never translated.
    public let severity: String
    /// What is wrong with which object, in one line as a rule.
    public let message: String
    /// More about it, without the values of rows.
    public let detail: String?
    /// What to do about it.
    public let hint: String?
    /// Where the server was: functions, the line of a COPY. Without the values of rows.
    public let context: String?
    /// The schema that the error is about, where the server tells.
    public let schemaName: String?
    /// The table that the error is about, where the server tells.
    public let tableName: String?
    /// The column that the error is about, where the server tells.
    public let columnName: String?
    /// The constraint that the error is about, where the server tells.
    public let constraintName: String?

    /// An error of the given parts.
    public init(
        origin: Origin = .server, sqlState: String? = nil, severity: String = "ERROR",
        message: String, detail: String? = nil, hint: String? = nil, context: String? = nil,
        schemaName: String? = nil, tableName: String? = nil, columnName: String? = nil,
        constraintName: String? = nil
    ) {
        self.origin = origin
        self.sqlState = sqlState
        self.severity = severity
        self.message = message
        self.detail = detail
        self.hint = hint
        self.context = context
        self.schemaName = schemaName
        self.tableName = tableName
        self.columnName = columnName
        self.constraintName = constraintName
    }
}

extension PostgresError {
    /// What a fired cancel token makes of whatever was running.
    public static let cancelled = PostgresError(
        origin: .cancelled, sqlState: SQLState.queryCanceled, message: "cancelled on request")

    /// The token was fired. (A server's own `statement_timeout` has the same SQLSTATE, but is
    /// not this.)
    public var isCancelled: Bool { origin == .cancelled }

    /// No server answered, or it went away: trying later may help.
    public var isConnectionFailure: Bool {
        switch origin {
        case .connecting, .connectionLost: true
        case .server:
            [SQLState.adminShutdown, SQLState.crashShutdown, SQLState.cannotConnectNow]
                .contains(sqlState) || severity == "FATAL" || sqlState?.hasPrefix("08") == true
        case .cancelled, .timeLimit, .local: false
        }
    }

    /// The SQLSTATE to record: where no server gave one, that of the standard for what happened.
    public var code: String {
        if let sqlState { return sqlState }
        switch origin {
        case .connecting: return SQLState.cannotConnect
        case .server, .connectionLost: return SQLState.connectionFailure
        case .cancelled, .timeLimit: return SQLState.queryCanceled
        case .local: return SQLState.systemError
        }
    }
}

extension PostgresError: CustomStringConvertible {
    /// For people, as psql shows it: message, detail, hint, context.
    public var description: String {
        var text = "\(severity): \(message) (\(code))"
        if let detail { text += "\nDETAIL: \(detail)" }
        if let hint { text += "\nHINT: \(hint)" }
        if let context { text += "\nCONTEXT: \(context)" }
        return text
    }
}
