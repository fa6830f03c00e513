#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

@main
enum Main {
    /// Not async: the main thread would then wait in dispatch_main(), which on Linux unblocks all
    /// signals, so that INT and TERM would kill the process before anything is rolled back.
    static func main() {
        Interruption.watch()
        Task.detached {
            if CommandLine.arguments.dropFirst().first == "check" {
                await Check.main(asPluginOf: Roneo.self)
            } else {
                await Roneo.main()
            }
            exit(0)
        }
        while true { pause() }
    }
}
