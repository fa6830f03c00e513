import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// One of the process's output streams, and what may be shown on it.
struct Terminal: Sendable {
    let descriptor: Int32
    let isTerminal: Bool
    let hasColors: Bool

    static let output = Terminal(descriptor: 1)
    static let error = Terminal(descriptor: 2)

    /// Whether any of the process's streams, the input too, is one.
    static var isAny: Bool { (0...2).contains { isatty($0) == 1 } }

    init(descriptor: Int32) {
        self.descriptor = descriptor
        isTerminal = isatty(descriptor) == 1
        let wantsNone = environment("NO_COLOR").map { !$0.isEmpty } ?? false
        hasColors = isTerminal && !wantsNone && environment("TERM") != "dumb"
    }

    /// Columns; nil where the text goes to no terminal and so has no edge.
    var width: Int? {
        guard isTerminal else { return nil }
        var size = winsize()
        if ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 {
            return Int(size.ws_col)
        }
        return environment("COLUMNS").flatMap { Int($0) }.flatMap { $0 > 0 ? $0 : nil } ?? 80
    }

    /// Why something could not be written, in the system's words. A reader that went away, or a
    /// stream that was closed, is none.
    var problem: String? {
        let number = Self.problems.withLock { $0[descriptor] }
        return number.map { String(cString: strerror($0)) }
    }

    private static let problems = Mutex<[Int32: Int32]>([:])

    /// Writes all of it. A reader that went away is no reason to stop the work: the rest is lost.
    func write(_ text: String) {
        var text = text
        text.withUTF8 { bytes in
            var rest = UnsafeRawBufferPointer(bytes)
            while let base = rest.baseAddress, !rest.isEmpty {
                #if canImport(Glibc)
                    let written = Glibc.write(descriptor, base, rest.count)
                #else
                    let written = Darwin.write(descriptor, base, rest.count)
                #endif
                if written < 0 {
                    if errno == EINTR { continue }
                    if errno == EAGAIN {
                        var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                        _ = poll(&wait, 1, 1_000)
                        continue
                    }
                    let number = errno
                    if number != EPIPE, number != EBADF {
                        Self.problems.withLock { $0[descriptor] = number }
                    }
                    return
                }
                rest = UnsafeRawBufferPointer(rebasing: rest[written...])
            }
        }
    }

    func line(_ text: String = "") {
        write(text + "\n")
    }

    /// The text in a style, where there are colours.
    func styled(_ text: String, _ style: Style) -> String {
        hasColors ? "\u{1b}[\(style.rawValue)m\(text)\u{1b}[0m" : text
    }
}

enum Style: String, Sendable {
    case bold = "1"
    case dim = "2"
    case red = "31"
    case green = "32"
    case yellow = "33"
    case cyan = "36"
}

func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
}
