import Foundation
import Testing

/// The built program, as a user or cron runs it.
struct RoneoProcess {
    /// How it ended, and what it said.
    struct Ended: CustomTestStringConvertible {
        /// The exit status, or 128 + the signal that killed it.
        let status: Int32
        let output: String
        let errors: String
        /// It had no chance to choose its status.
        var isKilled = false

        var testDescription: String { "status \(status)\n\(output)\(errors)" }
    }

    private let process = Process()
    private let files = (output: TemporaryFile(), errors: TemporaryFile())

    /// It stands beside the test bundle in the build folder.
    static let path: String = {
        let bundle = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        var folder =
            FileManager.default.fileExists(atPath: "/proc/self/exe")
            ? bundle.deletingLastPathComponent() : Bundle.main.bundleURL
        while folder.path != "/" {
            let candidate = folder.appendingPathComponent("roneo").path
            var isFolder: ObjCBool = false
            if FileManager.default.fileExists(atPath: candidate, isDirectory: &isFolder),
                !isFolder.boolValue
            {
                return candidate
            }
            folder.deleteLastPathComponent()
        }
        fatalError("the program is not beside its tests")
    }()

    /// Starts it.
    init(_ arguments: [String], environment: [String: String] = [:]) throws {
        try self.init(program: Self.path, arguments, environment)
    }

    /// Starts a shell's line, in which `$RONEO` is the program and `$1` … are the arguments.
    init(shell line: String, _ arguments: [String]) throws {
        try self.init(
            program: "/bin/bash", ["-o", "pipefail", "-c", line, "bash"] + arguments,
            ["RONEO": Self.path])
    }

    private init(
        program: String, _ arguments: [String], _ environment: [String: String]
    ) throws {
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment
            .filter { !$0.key.hasPrefix("PG") || $0.key == "PG_CONFIG" }
            .merging(environment) { $1 }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = files.output.handle
        process.standardError = files.errors.handle
        try process.run()
    }

    /// Runs it to its end.
    static func run(_ arguments: String..., environment: [String: String] = [:]) throws -> Ended {
        try RoneoProcess(arguments, environment: environment).wait()
    }

    func wait() -> Ended {
        process.waitUntilExit()
        let isKilled = process.terminationReason == .uncaughtSignal
        return Ended(
            status: isKilled ? 128 + process.terminationStatus : process.terminationStatus,
            output: files.output.text, errors: files.errors.text, isKilled: isKilled)
    }

    /// Whether a signal would not kill it, but wait; true where the system does not tell.
    func blocks(_ signal: Int32) throws -> Bool {
        let path = "/proc/\(process.processIdentifier)/status"
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return true }
        let line = text.split(separator: "\n").first { $0.hasPrefix("SigBlk:") }
        let mask = line.flatMap { UInt64($0.dropFirst(7).drop { $0.isWhitespace }, radix: 16) } ?? 0
        return mask & 1 << UInt64(signal - 1) != 0
    }

    /// What it has said on stderr by now.
    var errorsSoFar: String { files.errors.text }

    func send(_ signal: Int32) {
        kill(process.processIdentifier, signal)
    }
}

/// A file rather than a pipe: nothing has to be read while the program runs.
private struct TemporaryFile {
    let url = FileManager.default.temporaryDirectory
        .appendingPathComponent("roneo-test-\(UUID().uuidString)")
    let handle: FileHandle

    init() {
        _ = FileManager.default.createFile(atPath: url.path, contents: nil)
        do { handle = try FileHandle(forUpdating: url) } catch { fatalError("\(error)") }
        // Gone with its last handle.
        try? FileManager.default.removeItem(at: url)
    }

    /// Read without moving the place that the program writes at.
    var text: String {
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65_536)
        while case let count = pread(
            handle.fileDescriptor, &piece, piece.count, off_t(bytes.count)), count > 0
        {
            bytes += piece[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
