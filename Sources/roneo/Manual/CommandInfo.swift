#if canImport(FoundationEssentials)
    // Comes with ArgumentParser anyway, and is all that the manual needs of it.
    import FoundationEssentials
#else
    import Foundation
#endif

/// A command as its definition has it: what the manual is made of.
struct CommandInfo: Decodable {
    let commandName: String
    let abstract: String?
    let discussion: String?
    let shouldDisplay: Bool
    let arguments: [ArgumentInfo]?
    let subcommands: [CommandInfo]?

    /// The program, with all of its commands.
    static func root() throws -> CommandInfo {
        struct Tool: Decodable {
            let command: CommandInfo
        }
        let definitions = Data(Roneo._dumpHelp().utf8)
        return try JSONDecoder().decode(Tool.self, from: definitions).command
    }

    /// The commands there are for people, without `help`.
    var commands: [CommandInfo] {
        (subcommands ?? []).filter { $0.shouldDisplay && $0.commandName != "help" }
    }

    /// Arguments there are for people, without --version and --help.
    var shown: [ArgumentInfo] {
        (arguments ?? []).filter { $0.shouldDisplay && !$0.isEverywhere }
    }
}

/// An argument, option or flag as its definition has it.
struct ArgumentInfo: Decodable {
    struct Name: Decodable {
        let kind: String
        let name: String

        var dashes: String { kind == "long" ? "--" : "-" }
    }

    let kind: String
    let names: [Name]?
    let preferredName: Name?
    let valueName: String?
    let abstract: String?
    let defaultValue: String?
    let sectionTitle: String?
    let isOptional: Bool
    let isRepeating: Bool
    let shouldDisplay: Bool
    let completionKind: Completion?

    /// Which of its cases it is; what belongs to it does not matter here.
    struct Completion: Decodable {
        let isCustom: Bool

        init(from decoder: any Decoder) throws {
            enum Key: CodingKey {
                case custom
            }
            isCustom = try decoder.container(keyedBy: Key.self).contains(.custom)
        }
    }

    /// Whether the database is asked for what it may be.
    var isCompleted: Bool { completionKind?.isCustom ?? false }
    var isPositional: Bool { kind == "positional" }
    var takesValue: Bool { kind == "option" }
    var isEverywhere: Bool { ["version", "help"].contains(preferredName?.name) }

    /// A sentence that tells the default, where the definition has one that says something.
    var defaultText: String? {
        guard takesValue, let defaultValue, !defaultValue.contains("(") else { return nil }
        return "The default is \(defaultValue)."
    }
}
