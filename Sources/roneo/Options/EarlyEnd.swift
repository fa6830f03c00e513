import ArgumentParser
import Postgres
import Replication

/// An error that ends a command.
struct EarlyEnd {
    let status: ExitStatus
    let failure: Failure

    init(_ error: any Error) {
        switch error {
        case let error as RunError: (status, failure) = (error.status, error.failure)
        case let error as Failure: (status, failure) = (ExitStatus(of: error), error)
        case let error as PostgresError: (status, failure) = (.replicaFailed, Failure(error))
        default:
            let failure = Failure(sqlState: SQLState.systemError, message: "\(error)")
            (status, self.failure) = (.replicaFailed, failure)
        }
    }

    var exitCode: ExitCode {
        ExitCode((Interruption.signal.map { ExitStatus.signal($0) } ?? status).code)
    }

    func tell() {
        guard Interruption.signal == nil else { return }
        Terminal.error.line(ReportText.block(failure, Terminal.error))
    }
}

/// Carries out what a command asks for; an error is told, and ends the command with its status.
func reported<T>(_ body: () async throws -> T) async throws -> T {
    do {
        return try await body()
    } catch {
        let end = EarlyEnd(error)
        end.tell()
        throw end.exitCode
    }
}
