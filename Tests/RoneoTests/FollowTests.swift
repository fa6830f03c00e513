import Foundation
import Postgres
import TestSupport
import Testing

/// Inserters and updaters by the program: what they read, and what it says.
@Suite struct FollowTests {
    @Test(
        "a backlog is read in batches, each committed by itself",
        arguments: ["inserter", "updater"])
    func batches(method: String) throws {
        let stage = try Stage()
        try stage.follow(method, rows: 95, "batch_limit => 10")
        let ended = try stage.run("refresh", "log", "-v")
        #expect(ended.status == 0, "\(ended)")
        #expect(
            try stage.value("SELECT string_agg(inserted::text, ' ' ORDER BY run_id) FROM roneo.run")
                == "10 10 10 10 10 10 10 10 10 5")
        #expect(
            try stage.value("SELECT string_agg(has_more::text, ' ' ORDER BY run_id) FROM roneo.run")
                == "true true true true true true true true true false")
        #expect(try stage.value("SELECT count(DISTINCT xmin::text) FROM log") == "10")
        #expect(try stage.isEqual())
    }

    @Test func moreTiesThanTheLimitAreAWarning() throws {
        let stage = try Stage()
        try stage.follow(rows: 9, "batch_limit => 4")
        try stage.source.execute("UPDATE log SET n = 3 WHERE id BETWEEN 3 AND 7")
        let ended = try stage.run("refresh", "log")
        let warning = "more than batch_limit, 4 rows, have the value 3 in column n"
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.errors == "roneo: public.log: warning: \(warning)\n")
        #expect(
            try stage.value("SELECT string_agg(warning, ' ') FROM roneo.run") == warning,
            "once, in the run that it is about")
        #expect(try stage.run("history", "log").output.contains(warning))
        #expect(try stage.isEqual())
    }

    @Test func whatIsThereAgainstExpectationIsStaged() async throws {
        let stage = try Stage()
        try stage.follow(rows: 10)
        #expect(try stage.run("refresh", "log").status == 0)
        // Others' transactions on the shared servers may make it look for late rows, which are staged.
        var id = 10
        let isMet = try await eventually {
            id += 2
            try stage.write(id...id + 1)
            try stage.dest.execute("INSERT INTO log (id, v) VALUES (\(id)::int, 'mine')")
            let before = try stage.value("SELECT count(*) FROM roneo.run")
            let ended = try stage.run("refresh", "log")
            try #require([0, 75].contains(ended.status), "\(ended)")
            let runs = try stage.value("SELECT count(*) FROM roneo.run")
            try #require(Int(runs ?? "") == (Int(before ?? "") ?? 0) + 1, "one run for both")
            return try stage.value("SELECT met_rows FROM roneo.control_replica") == "t"
        }
        #expect(isMet)
        #expect(try stage.value("SELECT v FROM log WHERE id = \(id)") == "mine")
        #expect(try stage.value("SELECT count(*) FROM log WHERE id = \(id + 1)") == "1")
        #expect(
            try stage.value("SELECT count(*) FROM roneo.run WHERE outcome NOT IN ('ok')") == "0")
    }

    @Test func aRangeIsPulledAgain() throws {
        let stage = try Stage()
        try stage.follow("updater", rows: 100, "batch_limit => 7, look_back => '0'")
        #expect(try stage.run("refresh", "log").status == 0)
        // As if nothing else had been open on the servers that these tests share.
        try stage.dest.execute(
            "UPDATE roneo.control_replica SET window_start = last_value, open_since = '{}'")
        try stage.dest.execute("DELETE FROM log WHERE id IN (8, 50)")
        try stage.dest.execute("INSERT INTO log (id, n) VALUES (1009, 9), (1050, 50)")
        let bad = try stage.run("refresh", "log", "--repull", "--from", "nine")
        #expect(bad.status == 1)
        #expect(bad.errors.contains("RO007"))
        #expect(try stage.run("refresh", "log", "--from", "1").status == 64)

        let range = try stage.run("refresh", "log", "--repull", "--from", "1", "--to", "50")
        #expect(range.status == 0, "\(range)")
        #expect(
            try stage.value(
                "SELECT string_agg(id::text, ' ' ORDER BY id) FROM log WHERE n IN (8, 9, 50)")
                == "8 9 1050", "the end is not part of the range")
        #expect(try stage.run("refresh", "log", "--repull").status == 0)
        #expect(try stage.isEqual())
        #expect(try stage.value("SELECT bool_or(repulling) FROM roneo.control_replica") == "f")
    }

    @Test func aSweepFindsWhatLiesBelowTheWindow() throws {
        let stage = try Stage()
        try stage.follow("updater", rows: 10)
        #expect(try stage.run("refresh", "log").status == 0)
        // As if nothing else had been open on the servers that these tests share.
        try stage.dest.execute(
            "UPDATE roneo.control_replica SET window_start = last_value, open_since = '{}'")
        try stage.source.execute("INSERT INTO log VALUES (11, -100)")
        #expect(try stage.run("refresh", "log").status == 0)
        #expect(try stage.value("SELECT count(*) FROM log") == "10")
        #expect(try stage.run("refresh", "log", "--sweep").status == 0)
        #expect(try stage.isEqual())
    }

    @Test func aChangeOfTheClockIsWaitedFor() throws {
        let stage = try Stage()
        // A zone whose clock changes in the hour that is now. Jn does not count 29 February.
        let zone = try stage.value(
            """
            SELECT format('AAA0BBB-1,J%s/%s,J%s/0', extract(doy FROM d), extract(hour FROM now), \
            1 + (extract(doy FROM d)::int + 99) % 365) FROM \
            (SELECT now() AT TIME ZONE 'UTC' AS now) AS n, \
            LATERAL make_date(2023, extract(month FROM now)::int, \
            least(extract(day FROM now)::int, \
            CASE extract(month FROM now) WHEN 2 THEN 28 ELSE 31 END)) AS d
            """)
        try stage.follow("updater", rows: 3)
        try stage.source.execute("ALTER TABLE log ALTER at TYPE timestamp")
        try stage.dest.execute("SELECT roneo.drop_replica('log', keep_table => false)")
        try stage.dest.execute(
            """
            SELECT roneo.create_updater('src', 'public.log', control => 'at', copy_data => false, \
            start_value => '-infinity', control_zone => \(zone), refresh_every => '1 minute')
            """)
        let deferred = try stage.run("refresh", "log")
        #expect(deferred.status == 75, "\(deferred)")
        #expect(try stage.run("run").status == 75)
        #expect(
            try stage.value(
                "SELECT string_agg(DISTINCT outcome || ' ' || sqlstate, ', ') FROM roneo.run")
                == "deferred RO020")
        #expect(try stage.value("SELECT count(*) FROM log") == "0")
        #expect(try stage.run("history", "log").output.contains("waits until"))
        try stage.dest.execute("UPDATE roneo.control_replica SET blackout = 'off'")
        #expect(try stage.run("refresh", "log").status == 0)
        #expect(try stage.value("SELECT count(*) FROM log") == "3")
    }

    @Test(
        "what stops a replica comes with its way out",
        arguments: [
            (
                "RO022", "accept_source",
                "UPDATE roneo.replica SET identity = identity || '{\"timeline\": \"0000000F\"}'", ""
            ),
            ("RO023", "null_control =>", "", "INSERT INTO log VALUES (99)"),
        ])
    func stopped(code: String, hint: String, here: String, there: String) throws {
        let stage = try Stage()
        try stage.follow(rows: 3)
        #expect(try stage.run("refresh", "log").status == 0)
        try stage.dest.execute(SQL(verbatim: "\(here.isEmpty ? "SELECT" : here)"))
        try stage.source.execute(SQL(verbatim: "\(there.isEmpty ? "SELECT" : there)"))
        let before = try stage.state()
        let ended = try stage.run("refresh", "log")
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.errors.contains("sqlstate: \(code)"))
        #expect(ended.errors.contains("hint:") && ended.errors.contains(hint))
        #expect(try stage.state() == before)
    }

    @Test func whatItFollowsIsShown() throws {
        let stage = try Stage()
        try stage.follow("updater", rows: 12, "batch_limit => 5")
        let plan = try stage.run("plan", "log")
        #expect(plan.output.contains("public.log: updater of source src"), "\(plan)")
        #expect(plan.output.contains("read new and late rows"))
        #expect(plan.output.contains("n > '-1'::integer AND n <= '5'::integer"))
        #expect(try stage.value("SELECT count(*) FROM log") == "0")

        #expect(try stage.run("refresh", "log").status == 0)
        let history = try stage.run("history", "log")
        #expect(history.output.components(separatedBy: "public.log").count == 4, "\(history)")
        let status = try stage.run("status", "--json")
        #expect(status.output.contains("\"position\": \"12\""), "\(status)")
        #expect(status.output.contains("late rows are known by their transaction"))
    }

    /// Without a key: a row that two of them took would be there twice.
    @Test func runnersAtOnceTakeEachRowOnce() async throws {
        let stage = try Stage()
        try stage.follow(key: false, "batch_limit => 3")
        for round in 0..<4 {
            try stage.write(round * 20 + 1...round * 20 + 20)
            let runners = try (1...3).map { _ in try stage.start(["refresh", "log"]) }
            for ended in runners.map({ $0.wait() }) {
                #expect([0, 75].contains(ended.status), "\(ended)")
            }
        }
        #expect(try await stage.refreshUntilEqual())
    }
}
