import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The clusters that this process has yet to remove: none may outlive it.
final class Leftovers: Sendable {
    static let shared = Leftovers()

    private struct Site: Sendable {
        let stop: [String]
        let account: Account
        let guardian: Guardian?
    }

    private let sites = Mutex<[String: Site]>([:])

    private init() {
        atexit { Leftovers.shared.removeAll() }
    }

    /// Remembers a folder, and how to stop the server in it.
    func expect(_ directory: String, stop: [String], _ account: Account) {
        // Once more for the case that this process is killed.
        let script = "cd \"$0\" && \"$@\"; cd / && rm -rf -- \"$0\""
        let guardian = Guardian(then: ["sh", "-c", script, directory] + account.prefix + stop)
        sites.withLock {
            $0[directory] = Site(stop: stop, account: account, guardian: guardian)
        }
    }

    /// Stops the server and deletes the folder, if that has not been done.
    func remove(_ directory: String) {
        guard let site = sites.withLock({ $0.removeValue(forKey: directory) }) else { return }
        // Where no server runs this fails, and that is as good.
        _ = try? Program.run(site.stop, in: directory, as: site.account)
        _ = try? Program.run(["rm", "-rf", "--", directory], in: "/")
        site.guardian?.dismiss()
    }

    private func removeAll() {
        for directory in sites.withLock({ Array($0.keys) }) { remove(directory) }
    }
}
