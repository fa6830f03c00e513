import ArgumentParser
import Replication

/// The words of a command line that a shell is completing, as it has them: quotes and all.
struct ShellWords {
    /// The whole words before the one that is being completed, without their quotes.
    let words: [String]
    /// What has been typed of that one, without its quotes.
    let prefix: String

    init(
        _ given: [String], index: Int, prefix: String, shell: CompletionShell?,
        version: String? = nil
    ) {
        let before = Array(given.prefix(max(0, index)))
        let whole = shell == .bash ? Self.joined(before) : before
        // Before its version 4 fish has taken the quotes away already.
        let major = version?.split(separator: ".").first.flatMap { Int($0) } ?? 4
        let isPlain = shell == .fish && major < 4
        words = whole.map { isPlain ? $0 : Self.unquoted($0) ?? "" }
        self.prefix = isPlain ? prefix : Self.unquoted(prefix) ?? ""
    }

    /// Where the options on the command line lead; nil where they cannot be known, because the
    /// shell has yet to put something in.
    var destination: Destination? {
        guard !words.contains(where: \.isEmpty) else { return nil }
        var options: [String: String] = [:]
        for (keyword, names) in Self.names {
            options[keyword] = names.lazy.compactMap(value).first
        }
        let conninfo = options.removeValue(forKey: "dbname")
        return Destination(conninfo: conninfo ?? "", options: options)
    }

    private static let names = [
        "host": ["-h", "--host"], "port": ["-p", "--port"], "user": ["-U", "--username"],
        "dbname": ["-d", "--dbname"],
    ]

    /// `-h x`, `-hx`, `--host x` and `--host=x`
    private func value(of name: String) -> String? {
        for (index, word) in words.enumerated() {
            if word == name { return index + 1 < words.count ? words[index + 1] : nil }
            let joint = name.hasPrefix("--") ? "\(name)=" : name
            if word.hasPrefix(joint), joint.hasPrefix("--") || !word.hasPrefix("--") {
                return String(word.dropFirst(joint.count))
            }
        }
        return nil
    }

    /// bash takes words apart at each `=` and `:`, and a URI with them.
    private static func joined(_ words: [String]) -> [String] {
        var whole: [String] = []
        var isGlued = false
        for word in words {
            let isBreak = !word.isEmpty && word.allSatisfy { "=:".contains($0) }
            if (isBreak || isGlued) && !whole.isEmpty {
                whole[whole.count - 1] += word
            } else {
                whole.append(word)
            }
            isGlued = isBreak
        }
        return whole
    }

    /// As the shell will read it; nil where it would put something in.
    static func unquoted(_ word: String) -> String? {
        var text = ""
        var quote: Character?
        var characters = word.makeIterator()
        while let character = characters.next() {
            switch (character, quote) {
            case ("'", "'"), ("\"", "\""): quote = nil
            case (_, "'"): text.append(character)
            case ("\\", _):
                guard let next = characters.next() else { break }
                if quote == "\"", !"\\\"$`".contains(next) { text.append("\\") }
                text.append(next)
            case ("$", _), ("`", _): return nil
            case ("'", nil), ("\"", nil): quote = character
            default: text.append(character)
            }
        }
        return text
    }
}
