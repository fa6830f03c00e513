import Replication

/// roneo(1) in mdoc: from the definitions of the commands, and a few sections of its own.
struct ManualPage {
    private var lines: [String] = []
    private let root: CommandInfo

    static func text() throws -> String {
        var page = ManualPage(root: try CommandInfo.root())
        page.write()
        return page.lines.map { $0 + "\n" }.joined()
    }

    private init(root: CommandInfo) {
        self.root = root
    }

    private mutating func write() {
        lines = [".Dd \(Self.date())", ".Dt RONEO 1", ".Os", ".Sh NAME", ".Nm roneo"]
        lines.append(".Nd \(Self.escaped(Self.headline(root.abstract)))")
        synopsis()
        lines.append(".Sh DESCRIPTION")
        add(prose: root.discussion)
        lines.append(".Sh COMMANDS")
        for command in root.commands { add(command) }
        lines.append(".Sh COMMON OPTIONS")
        for title in sharedTitles {
            lines.append(".Ss \(Self.escaped(title))")
            add(arguments: root.commands.flatMap(\.shown).filter { $0.sectionTitle == title })
        }
        lines.append(".Ss Every command")
        add(arguments: (root.arguments ?? []).filter(\.isEverywhere))
        for section in ManualText.sections {
            lines.append(".Sh \(section.title)")
            lines += section.mdoc.split(separator: "\n").map(String.init)
        }
    }

    private mutating func synopsis() {
        lines.append(".Sh SYNOPSIS")
        for command in root.commands {
            lines += [".Nm", ".Cm \(Self.argument(command.commandName))"]
            if command.shown.contains(where: { !$0.isPositional }) {
                lines.append(".Op Ar options")
            }
            for argument in command.shown where argument.isPositional {
                let value = "Ar \(Self.argument(argument.valueName ?? ""))"
                let dots = argument.isRepeating ? " ..." : ""
                lines.append(argument.isOptional ? ".Op \(value)\(dots)" : ".\(value)\(dots)")
            }
        }
        lines += [".Nm", ".Cm help", ".Op Ar command"]
    }

    /// Titles of groups of options that several commands have.
    private var sharedTitles: [String] {
        var count: [String: Int] = [:]
        var order: [String] = []
        for command in root.commands {
            for title in Set(command.shown.compactMap(\.sectionTitle)) {
                count[title, default: 0] += 1
                if !order.contains(title) { order.append(title) }
            }
        }
        return order.filter { count[$0, default: 0] > 1 }.sorted()
    }

    private mutating func add(_ command: CommandInfo) {
        lines += [".Ss roneo \(Self.escaped(command.commandName))"]
        add(prose: command.abstract)
        add(prose: command.discussion, isFirst: false)
        let shared = sharedTitles
        add(arguments: command.shown.filter { !shared.contains($0.sectionTitle ?? "") })
        let taken = shared.filter { title in command.shown.contains { $0.sectionTitle == title } }
        guard !taken.isEmpty else { return }
        lines += [".Pp", "Also the common options of:"]
        lines.append("\(Self.escaped(taken.joined(separator: ", ").lowercased())).")
    }

    /// A list of them, each name once.
    private mutating func add(arguments: [ArgumentInfo]) {
        guard !arguments.isEmpty else { return }
        lines.append(".Bl -tag -width Ds")
        var seen: Set<String> = []
        for argument in arguments {
            let names = Self.names(argument)
            guard seen.insert(names).inserted else { continue }
            lines.append(".It \(names)")
            add(sentences: argument.abstract ?? "")
            if let text = argument.defaultText { add(sentences: text) }
        }
        lines.append(".El")
    }

    private static func names(_ argument: ArgumentInfo) -> String {
        let value = "Ar \(Self.argument(argument.valueName ?? ""))"
        guard !argument.isPositional else { return value }
        let names = (argument.names ?? []).sorted { $0.dashes.count < $1.dashes.count }
        return names.map { name in
            let flag = (name.dashes == "--" ? "Fl Fl " : "Fl ") + Self.argument(name.name)
            return argument.takesValue ? "\(flag) \(value)" : flag
        }.joined(separator: " , ")
    }

    /// Paragraphs; lines that are indented stay as they are.
    private mutating func add(prose text: String?, isFirst: Bool = true) {
        guard let text, !text.isEmpty else { return }
        var isFirst = isFirst
        var isLiteral = false
        var paragraph: [Substring] = []
        func flushed(_ page: inout ManualPage) {
            guard !paragraph.isEmpty else { return }
            if !isFirst { page.lines.append(".Pp") }
            isFirst = false
            page.add(sentences: paragraph.joined(separator: " "))
            paragraph = []
        }
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix("  ") {
                flushed(&self)
                if !isLiteral { lines.append(".Bd -literal -offset indent") }
                isLiteral = true
                isFirst = false
                lines.append(Self.escaped(String(line.dropFirst(2))))
                continue
            }
            if isLiteral { lines.append(".Ed") }
            isLiteral = false
            if line.isEmpty { flushed(&self) } else { paragraph.append(line) }
        }
        flushed(&self)
        if isLiteral { lines.append(".Ed") }
    }

    /// A sentence a line, as mdoc wants it, and no line longer than a terminal.
    private mutating func add(sentences text: String) {
        var line = ""
        for word in text.split(whereSeparator: { $0 == " " || $0 == "\n" }) {
            if Self.escaped("\(line) \(word)").count > 78, !line.isEmpty {
                lines.append(Self.escaped(line))
                line = ""
            }
            line += line.isEmpty ? String(word) : " \(word)"
            if word.last == "." || word.hasSuffix(".)") {
                lines.append(Self.escaped(line))
                line = ""
            }
        }
        if !line.isEmpty { lines.append(Self.escaped(line)) }
    }

    /// As `.Nd` wants it: no full stop, no capital.
    private static func headline(_ text: String?) -> String {
        guard let text, let first = text.first else { return "" }
        let body = first.lowercased() + text.dropFirst()
        return body.hasSuffix(".") ? String(body.dropLast()) : body
    }

    /// Text that roff takes as it is.
    private static func escaped(_ text: String) -> String {
        var line = text.first.map { ".'".contains($0) } == true ? "\\&" : ""
        for character in text {
            switch character {
            case "\\": line += "\\e"
            case "-": line += "\\-"
            case "…": line += "..."
            default: line.append(character)
            }
        }
        return line
    }

    /// An argument of a macro that is no macro itself.
    private static func argument(_ text: String) -> String {
        "\\&" + escaped(text)
    }

    /// Of today; of `SOURCE_DATE_EPOCH` where builds have to be the same every day.
    private static func date() -> String {
        let epoch = environment("SOURCE_DATE_EPOCH").flatMap { Int64($0) }
        let now = epoch.map { Timestamp(microseconds: $0 * 1_000_000) } ?? .now()
        let parts = now.description.prefix(10).split(separator: "-").compactMap { Int($0) }
        let months = [
            "January", "February", "March", "April", "May", "June", "July", "August",
            "September", "October", "November", "December",
        ]
        return "\(months[parts[1] - 1]) \(parts[2]), \(parts[0])"
    }
}
