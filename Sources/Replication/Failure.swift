import Postgres

/// Why a refresh did not end well, with what a person needs to mend it.
public struct Failure: Error, Sendable, Equatable {
    public let sqlState: String
    public let message: String
    public let detail: String?
    public let hint: String?
    /// What was being done, such as "step 4 of 9: fill the hidden table".
    public let during: String?

    public init(
        sqlState: String, message: String, detail: String? = nil, hint: String? = nil,
        during: String? = nil
    ) {
        self.sqlState = sqlState
        self.message = message
        self.detail = detail
        self.hint = hint
        self.during = during
    }

    public init(_ error: PostgresError, during: String? = nil) {
        self.init(
            sqlState: error.code, message: error.message, detail: error.detail, hint: error.hint,
            during: during)
    }

    /// An error of the destination; where a privilege is missing there, with the way out.
    init(destination error: PostgresError) {
        let isPrivilege = error.sqlState == SQLState.insufficientPrivilege && error.hint == nil
        let hint =
            "As the extension's owner: SELECT roneo.missing_grants('ROLE') prints the GRANTs."
        self.init(
            sqlState: error.code, message: error.message, detail: error.detail,
            hint: isPrivilege ? hint : error.hint)
    }

    /// Any error of a refresh, whatever layer it is from.
    init(any error: any Error, during: String?) {
        switch error {
        case let error as PostgresError:
            self.init(error, during: during)
        case let error as RelayError:
            let refusal = error.error
            self.init(
                sqlState: refusal.code, message: refusal.message,
                // The context of a COPY names table, line and column.
                detail: refusal.detail ?? refusal.context, hint: refusal.hint,
                // A limit of all of it is no side's.
                during: refusal.origin == .timeLimit
                    ? during : during.map { "\($0), on the \(error.side.rawValue)" })
        case let error as RunError:
            self.init(any: error.failure, during: during)
        case let error as Failure:
            self.init(
                sqlState: error.sqlState, message: error.message, detail: error.detail,
                hint: error.hint, during: error.during ?? during)
        default:
            self.init(sqlState: SQLState.systemError, message: "\(error)", during: during)
        }
    }

    public var kind: FailureKind { FailureKind(sqlState: sqlState) }

    /// It as `--json` prints it.
    public var json: JSON {
        .object([
            "sqlstate": JSON(sqlState),
            "message": JSON(message),
            "detail": JSON(detail),
            "hint": JSON(hint),
            "during": JSON(during),
        ])
    }
}
