import ArgumentParser

/// How to reach sources other than by their user mappings.
struct SourceOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "How to connect to a source, in place of its user mapping; repeatable.",
            valueName: "name=conninfo"))
    var sourceConninfo: [NamedConninfo] = []

    var conninfos: [String: String] {
        Dictionary(sourceConninfo.map { ($0.name, $0.conninfo) }) { _, last in last }
    }

    func validate() throws {
        let names = sourceConninfo.map(\.name)
        guard Set(names).count == names.count else {
            throw ValidationError("A source is given more than one --source-conninfo.")
        }
    }
}
