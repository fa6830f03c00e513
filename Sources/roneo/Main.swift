@main
enum Main {
    static func main() async {
        Interruption.watch()
        await Roneo.main()
    }
}
