import ArgumentParser
import Replication

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

@main
enum Main {
    /// Not async: the main thread would then wait in dispatch_main(), which on Linux unblocks all
    /// signals, so that INT and TERM would kill the process before anything is rolled back.
    static func main() {
        keepStandardStreams()
        Interruption.watch()
        Task.detached {
            do {
                // Completions are asked for synchronously, and so are arguments.
                var command = try Roneo.parseAsRoot()
                if var command = command as? AsyncParsableCommand {
                    try await command.run()
                } else {
                    try command.run()
                }
                end(nil)
            } catch {
                end(error)
            }
        }
        while true { pause() }
    }

    /// Whoever closes stdout for us would have a connection take its number, and what is printed go
    /// to a server.
    private static func keepStandardStreams() {
        for stream: Int32 in 0...2 where fcntl(stream, F_GETFD) < 0 {
            // It gets the lowest number that is free.
            _ = open("/dev/null", stream == 0 ? O_RDONLY : O_WRONLY)
        }
    }

    /// Whether exit statuses are a plugin's: a command line that makes no sense is UNKNOWN then.
    private static var isPlugin: Bool { CommandLine.arguments.dropFirst().first == "check" }

    private static func end(_ error: (any Error)?) -> Never {
        let code = error.map { Roneo.exitCode(for: $0) } ?? .success
        if isPlugin, code == .validationFailure, let error {
            Check.tellUnknown(Roneo.message(for: error))
            exit(AlertLevel.unknown.exitCode)
        }
        // What was asked for is not where it was wanted, as on a full disk.
        if code == .success, let problem = Terminal.output.problem {
            Terminal.error.line(
                Terminal.error.styled("roneo: stdout cannot be written: \(problem)", .red))
            exit(isPlugin ? AlertLevel.unknown.exitCode : ExitStatus.replicaFailed.code)
        }
        guard let error else { exit(0) }
        if code == .validationFailure {
            // The words of a command line may be a connection string's.
            Terminal.error.line(Roneo.fullMessage(for: error).withoutSecrets)
            exit(code.rawValue)
        }
        Roneo.exit(withError: error)
    }
}
