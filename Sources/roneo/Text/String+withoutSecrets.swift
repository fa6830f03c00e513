extension String {
    /// Without the passwords of connection strings that somebody typed where none belongs.
    var withoutSecrets: String {
        var text = self
        text.replace(/(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s'&]+)/.ignoresCase()) {
            "\($0.output.1)…"
        }
        text.replace(/(\w:\/\/[^\s:\/@]*:)[^\s@]*@/) { "\($0.output.1)…@" }
        return text
    }
}
