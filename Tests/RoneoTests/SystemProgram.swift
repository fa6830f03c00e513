import Testing

/// What the machine has that some tests need and the program does not: shells, readers of manuals.
///
/// `scripts/bootstrap test` installs it where there is apt-get, and so its absence is a failure
/// there. Elsewhere it is said aloud what is left out.
enum SystemProgram {
    /// Whether programs, or files by their path, are all there.
    /// - Parameter purpose: what is left out without them.
    static func has(
        _ names: String..., for purpose: String, sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> Bool {
        let missing = try names.filter { try !isThere($0) }
        guard !missing.isEmpty else { return true }
        if try isThere("apt-get") {
            Issue.record(
                "not installed: \(missing.joined(separator: ", ")); scripts/bootstrap test does that",
                sourceLocation: sourceLocation)
        } else {
            for name in missing { print("skipped: \(purpose), because \(name) is not installed") }
        }
        return false
    }

    private static func isThere(_ name: String) throws -> Bool {
        try RoneoProcess(shell: "[ -e \"$1\" ] || command -v \"$1\"", [name]).wait().status == 0
    }
}
