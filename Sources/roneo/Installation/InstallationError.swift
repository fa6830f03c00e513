/// What keeps the extension's files from being installed, and what to do about it.
struct InstallationError: Error, Equatable {
    let message: String
    var hint: String?
}
