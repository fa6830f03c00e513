import ArgumentParser

struct Install: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Put the extension's files where pg_config says, or say how.")

    func run() async throws {}
}
