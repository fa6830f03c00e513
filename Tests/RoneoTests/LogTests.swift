import Foundation
import Postgres
import TestSupport
import Testing

@testable import roneo

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What logs tell, where they go, and what never gets into them.
@Suite struct LogTests {
    private static let secret = "sesame-7319"
    private static let value = "alice-4711"

    /// Each way in which something is said.
    private static let formats = [
        [], ["--json"], ["--log-format", "json", "--log-level", "trace"],
        ["--log-format", "text", "--log-level", "trace"],
    ]

    @Test(
        "values of rows are in no log, report or error",
        arguments: [
            ("ALTER TABLE t ADD CONSTRAINT short CHECK (length(v) < 5)", "23514"),
            ("INSERT INTO t VALUES (0, 'alice-4711'); ALTER TABLE t ADD UNIQUE (v)", "23505"),
            ("ALTER TABLE t ALTER v TYPE varchar(3)", "22001"),
            ("ALTER TABLE t ALTER v TYPE int USING 1", "22P02"),
            (
                """
                CREATE TABLE p (v text PRIMARY KEY); \
                ALTER TABLE t ADD FOREIGN KEY (v) REFERENCES p DEFERRABLE INITIALLY DEFERRED
                """, "23503"
            ),
        ])
    func values(obstacle: String, sqlState: String) throws {
        let stage = try Stage()
        try stage.makeReplica("t", method: "plain", rows: 0)
        try stage.dest.execute(SQL(verbatim: obstacle))
        try stage.source.execute("INSERT INTO t VALUES (1, 'alice-4711'), (2, 'alice-4711')")
        for format in Self.formats {
            let ended = try stage.start(["refresh", "t"] + format).wait()
            #expect(ended.status == 1, "\(ended)")
            let said = ended.output + ended.errors
            #expect(!said.contains(Self.value), "\(format): \(ended)")
            #expect(said.contains("sqlstate"), "\(ended)")
        }
        for words in [["history", "--json"], ["status", "--json"], ["check"], ["metrics"]] {
            let ended = try stage.start(words).wait()
            #expect(!(ended.output + ended.errors).contains(Self.value), "\(words): \(ended)")
        }
        let page = try stage.run("report", "--html", "-")
        #expect(page.status == 0 && !page.output.contains(Self.value))
    }

    @Test(
        "passwords are in no log, report or error",
        arguments: [
            "password=sesame-7319 host=/nowhere", "host=/nowhere password='sesame-7319",
            "password=a sesame-7319 host=x", "password = sesame-7319 hots=x",
            "postgresql://u:sesame-7319@/d?host=/nowhere", "postgresql://u:sesame-7319@[::1/d",
            "postgresql://u:%zzsesame-7319@h/d", "postgresql://u@h/d?sesame-7319",
            "password=\\sesame-7319 port=x",
        ])
    func passwords(conninfo: String) throws {
        let stage = try Stage()
        try stage.makeReplica()
        for format in [["--json"], ["--log-format", "json", "--log-level", "trace"]] {
            let here = try RoneoProcess(["run", "-d", conninfo] + format).wait()
            #expect(here.status == 69, "\(here)")
            #expect(!(here.output + here.errors).contains(Self.secret), "\(here)")
            let there = try stage.start(
                ["refresh", "t", "--source-conninfo", "src=\(conninfo)"] + format
            ).wait()
            #expect(there.status == 75, "\(there)")
            #expect(!(there.output + there.errors).contains(Self.secret), "\(there)")
        }
        let history = try stage.run("history", "--json")
        #expect(!history.output.contains(Self.secret), "\(history)")
    }

    /// Typed where it does not belong, it would be repeated to whom cron mails.
    @Test(arguments: [
        ["status", "postgresql://u:sesame-7319@h/d"], ["check", "-x", "password='sesame-7319 x'"],
        ["run", "--source-conninfo", "postgresql://u:sesame-7319@h/d"],
        ["run", "--no-such", "host=x PASSWORD = sesame-7319 user=y"],
    ])
    func aWrongCommandLineIsNotRepeatedWithItsPassword(words: [String]) throws {
        let ended = try RoneoProcess(words).wait()
        #expect(!(ended.output + ended.errors).contains(Self.secret), "\(ended)")
        #expect(ended.status == (words[0] == "check" ? 3 : 64), "\(ended)")
    }

    @Test func phasesAreToldOneLineAnEvent() throws {
        let stage = try Stage()
        try stage.makeReplica()
        let ended = try stage.run("refresh", "t", "--log-level", "debug")
        #expect(ended.status == 0, "\(ended)")
        let lines = ended.errors.split(separator: "\n")
        let phases = lines.filter { $0.contains("msg=\"phase ended\"") }
        for phase in ["lock", "probe", "plan", "record", "steps", "finish", "commit"] {
            let line = phases.first { $0.contains("phase=\(phase) ") }
            #expect(line?.contains("dest=t") == true, "\(phase): \(ended)")
            #expect(line?.contains("seconds=") == true)
        }
        let step = lines.first { $0.contains("msg=\"step ended\"") && $0.contains("rows=100") }
        #expect(step?.contains("bytes=") == true, "\(ended)")
        #expect(lines.allSatisfy { $0.hasPrefix("time=") && $0.contains(" run=") })
        // What is normal says no more than how it ended.
        let usual = try stage.run("refresh", "t", "--log-format", "text", "--force")
        #expect(usual.errors.split(separator: "\n").count == 2, "\(usual)")
    }

    @Test func linesGoToSyslogWithLevelAndFacility() throws {
        guard let log = DeviceLog() else {
            print("skipped: logging to syslog, because /dev/log is another's or may not be made")
            return
        }
        let stage = try Stage()
        try stage.makeReplica()
        let ended = try stage.run("refresh", "t", "missing %s", "--log-to", "syslog:local3")
        #expect(ended.status == 1)
        #expect(ended.errors.contains("refresh of missing %s"), "cron still hears of it: \(ended)")
        #expect(!ended.errors.contains("msg="))
        let lines = log.lines().filter { $0.contains("roneo[") }
        // Facility local3 is 19; info is 6, err 3.
        #expect(
            lines.contains {
                $0.hasPrefix("<\(19 * 8 + 6)>") && $0.contains("dest=public.t")
                    && $0.contains("rows=100")
            }, "\(lines)")
        #expect(
            lines.contains {
                $0.hasPrefix("<\(19 * 8 + 3)>") && $0.contains("dest=\"missing %s\"")
            },
            "\(lines)")
        let json = try stage.run("refresh", "t", "--log-to", "syslog", "--log-format", "json")
        #expect(json.status == 0 && json.errors.isEmpty, "\(json)")
        let said = log.lines().compactMap { $0.firstIndex(of: "{").map($0.suffix(from:)) }
        #expect(!said.isEmpty)
        for line in said { _ = try JSONSerialization.jsonObject(with: Data(line.utf8)) }
    }

    @Test(
        "where logs go is checked",
        arguments: ["syslog:", "syslog:nowhere", "syslog:a:b", "file", ""])
    func targets(target: String) throws {
        #expect(try RoneoProcess.run("run", "--log-to", target).status == 64)
    }

    @Test func aMissingSyslogIsNoFailure() throws {
        let stage = try Stage()
        try stage.makeReplica()
        let ended = try stage.run("refresh", "t", "--log-to", "syslog")
        #expect(ended.status == 0, "\(ended)")
        #expect(try stage.value("SELECT count(*) FROM t") == "100")
    }
}

/// The socket that syslog(3) writes to, where nobody else has made one.
private final class DeviceLog {
    private let socket: Int32

    init?() {
        #if os(Linux)
            guard !FileManager.default.fileExists(atPath: "/dev/log") else { return nil }
            socket = Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { place in
                Array("/dev/log".utf8CString).withUnsafeBytes { place.copyMemory(from: $0) }
            }
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            guard bound == 0 else { return nil }
        #else
            return nil
        #endif
    }

    /// What has arrived.
    func lines() -> [String] {
        var lines: [String] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = recv(socket, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            guard count > 0 else { return lines }
            lines.append(String(decoding: buffer[..<count], as: UTF8.self))
        }
    }

    deinit {
        close(socket)
        unlink("/dev/log")
    }
}
