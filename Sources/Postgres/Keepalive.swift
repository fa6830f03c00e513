#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// How soon the system notices that a peer is gone without a word: a minute, in place of hours.
///
/// Set after libpq has resolved conninfo, service and environment, so that whatever the caller says
/// in any of them stays.
struct Keepalive {
    /// Seconds of silence before it is asked, between two questions, and how many there are.
    var idle: Int32 = 30
    var interval: Int32 = 10
    var count: Int32 = 3
    /// Milliseconds that sent bytes may stay unacknowledged.
    var userTimeout: Int32 = 60_000

    /// A Unix socket has none of this, and refuses.
    func apply(to socket: Int32, unlessIn given: [String: String]) {
        #if canImport(Glibc)
            let options = [
                ("keepalives_idle", TCP_KEEPIDLE, idle),
                ("keepalives_interval", TCP_KEEPINTVL, interval),
                ("keepalives_count", TCP_KEEPCNT, count),
                ("tcp_user_timeout", TCP_USER_TIMEOUT, userTimeout),
            ]
        #else
            let options = [
                ("keepalives_idle", TCP_KEEPALIVE, idle),
                ("keepalives_interval", TCP_KEEPINTVL, interval),
                ("keepalives_count", TCP_KEEPCNT, count),
            ]
        #endif
        guard given["keepalives"] != "0" else { return }
        for (keyword, option, value) in options where given[keyword] == nil {
            var value = value
            _ = setsockopt(
                socket, Int32(IPPROTO_TCP), option, &value,
                socklen_t(MemoryLayout<Int32>.size))
        }
    }
}
