import ArgumentParser

struct Demo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "See it work: two throw-away clusters, end to end, in a minute.")

    func run() async throws {}
}
