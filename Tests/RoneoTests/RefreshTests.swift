import Foundation
import Postgres
import TestSupport
import Testing

@Suite struct RefreshTests {
    @Test("a refresh copies all rows and says nothing", arguments: ["snapshot", "plain"])
    func refresh(method: String) async throws {
        let stage = try Stage()
        try stage.makeReplica(method: method)
        let ended = try stage.run("refresh", "t")
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.isEmpty && ended.errors.isEmpty)
        #expect(try stage.value("SELECT count(*) FROM t WHERE v = 'row ' || id") == "100")
        #expect(
            try stage.value("SELECT outcome || ' ' || hand || ' ' || rows_received FROM roneo.run")
                == "ok runner 100")
        #expect(try await eventually(stage.isClean))
    }

    @Test func whatHasNotChangedIsNotCopiedUnlessForced() throws {
        let stage = try Stage()
        try stage.makeReplica()
        for (arguments, outcome) in [
            (["refresh", "t"], "ok"), (["refresh", "t"], "unchanged"),
            (["refresh", "t", "--force"], "ok"),
        ] {
            #expect(try stage.start(arguments).wait().status == 0)
            #expect(
                try stage.value("SELECT outcome FROM roneo.run ORDER BY run_id DESC LIMIT 1")
                    == outcome)
        }
    }

    @Test func oddNamesAreArgumentsLikeOthers() throws {
        let stage = try Stage()
        try stage.source.execute(
            #"CREATE SCHEMA "a.b"; CREATE TABLE "a.b"."x "" y%" AS SELECT 1 AS id"#)
        try stage.dest.execute(#"CREATE SCHEMA "a.b""#)
        try stage.register(#""a.b"."x "" y%""#, method: "snapshot")
        let ended = try stage.run("refresh", #""a.b"."x "" y%""#)
        #expect(ended.status == 0, "\(ended)")
        #expect(try stage.value(#"SELECT count(*) FROM "a.b"."x "" y%""#) == "1")
    }

    @Test func whatIsNoReplicaIsNamed() throws {
        let stage = try Stage()
        let ended = try stage.run("refresh", "pg_class", "missing")
        #expect(ended.status == 1)
        #expect(ended.errors.contains("RO001"))
        #expect(ended.errors.contains("42P01"))
    }

    @Test func oneFailureStopsNoOther() throws {
        let stage = try Stage()
        for name in ["a", "b", "c"] { try stage.makeReplica(name) }
        try stage.source.execute("DROP TABLE b")
        let ended = try stage.run("refresh", "a", "b", "c", "--jobs", "2")
        #expect(ended.status == 1)
        #expect(ended.output.isEmpty)
        #expect(ended.errors.contains("refresh of public.b from source src failed"))
        #expect(ended.errors.contains("RO004"))
        #expect(try stage.value("SELECT count(*) FROM a") == "100")
        #expect(try stage.value("SELECT count(*) FROM c") == "100")
        #expect(
            try stage.value("SELECT outcome FROM roneo.run WHERE dest = 'public.b'") == "failed")
    }

    @Test func aMissingPrivilegeComesWithTheWayOut() throws {
        let stage = try Stage()
        try stage.makeReplica()
        let role = "reader_of_\(stage.pair.name)"
        try stage.source.execute(SQL(verbatim: "CREATE ROLE \(role) LOGIN"))
        let conninfo = TestClusters.source.conninfo(database: stage.pair.name, user: role)
        let failed = try stage.run("refresh", "t", "--source-conninfo", "src=\(conninfo)")
        #expect(failed.status == 1, "\(failed)")
        #expect(failed.errors.contains("sqlstate:"))

        let preflight = try stage.run("preflight", "src", "--source-conninfo", "src=\(conninfo)")
        #expect(preflight.status == 1)
        let grants = preflight.output.split(separator: "\n").filter { $0.hasPrefix("GRANT ") }
        #expect(!grants.isEmpty, "\(preflight)")
        for grant in grants { try stage.source.execute(SQL(verbatim: String(grant))) }
        #expect(try stage.run("refresh", "t", "--source-conninfo", "src=\(conninfo)").status == 0)
        #expect(try stage.value("SELECT count(*) FROM t") == "100")
    }

    @Test func aRoleThatOnlyReadsGetsAScriptForTheDBA() throws {
        let stage = try Stage()
        let role = "only_reads_\(stage.pair.name)"
        try stage.source.execute(
            SQL(
                verbatim: """
                    CREATE ROLE \(role) LOGIN; CREATE TABLE t (id int PRIMARY KEY, v text);
                    INSERT INTO t VALUES (1, 'one'); GRANT SELECT ON t TO \(role)
                    """))
        let conninfo = TestClusters.source.conninfo(database: stage.pair.name, user: role)
        try stage.dest.execute("SELECT roneo.create_source('reading', \(conninfo))")
        #expect(throws: PostgresError.self) {
            try stage.dest.execute("SELECT roneo.create_logdel('reading', 'public.t')")
        }
        let ended = try stage.run("preflight", "reading", "--capture", "t", "--keeps-deleted")
        #expect(ended.status == 0, "\(ended)")
        try stage.source.execute(SQL(verbatim: ended.output))
        try stage.dest.execute("SELECT roneo.create_logdel('reading', 'public.t')")
        try stage.source.execute("DELETE FROM t")
        #expect(try stage.run("refresh", "t").status == 0)
        #expect(try stage.value("SELECT v FROM t WHERE roneo_source_deleted IS NOT NULL") == "one")

        let unknown = try stage.run("preflight", "reading", "--capture", "nothing")
        #expect(unknown.status == 1)
        #expect(unknown.errors.contains("RO004"))
    }

    @Test func aGroupIsRefreshedOnceHoweverManyOfItAreNamed() throws {
        let stage = try Stage()
        for name in ["a", "b", "c"] {
            try stage.source.execute(
                SQL(
                    verbatim: """
                        CREATE TABLE \(name) (id int PRIMARY KEY);
                        INSERT INTO \(name) SELECT generate_series(1, 100)
                        """))
            try stage.dest.execute(
                "SELECT roneo.create_dml('src', \(name), \(name), copy_data => false)")
        }
        try stage.dest.execute(
            """
            SELECT roneo.set_refresh_group('a', 'both'); \
            SELECT roneo.set_refresh_group('b', 'both')
            """)
        #expect(try stage.run("refresh", "c", "b", "a").status == 0)
        #expect(
            try stage.value(
                "SELECT string_agg(dest || ' ' || outcome, ', ' ORDER BY run_id) FROM roneo.run")
                == "public.c ok, public.a ok, public.b ok")
        let unknown = try stage.run("refresh", "a", "b", "no \"name")
        #expect(unknown.status == 1)
        #expect(try stage.value("SELECT count(*) FROM b") == "100")
        // Who has nothing to do while another one is copied has no run of its own either.
        try stage.source.execute("INSERT INTO a VALUES (101)")
        #expect(try stage.run("refresh", "a").status == 0)
        #expect(
            try stage.value(
                """
                SELECT string_agg(concat_ws(' ', dest, outcome, repeats), ', ' ORDER BY run_id) \
                FROM roneo.run WHERE dest <> 'public.c' AND started_at > (SELECT max(ended_at) \
                FROM roneo.run WHERE dest = 'public.b' AND outcome = 'ok')
                """) == "public.a unchanged 2, public.b unchanged 3, public.a ok 1")
    }

    @Test func dependentsAreDroppedOnlyWhenAskedFor() throws {
        let stage = try Stage()
        try stage.makeReplica()
        #expect(try stage.run("refresh", "t").status == 0)
        try stage.dest.execute("CREATE VIEW on_it AS SELECT v FROM t")
        try stage.source.execute("ALTER TABLE t DROP COLUMN v")
        let refused = try stage.run("refresh", "t")
        #expect(refused.status == 1)
        #expect(refused.errors.contains("RO012"))
        #expect(refused.errors.contains("on_it"))
        #expect(try stage.value("SELECT count(*) FROM on_it") == "100")
        let dropped = try stage.run("refresh", "t", "--drop-dependents")
        #expect(dropped.status == 0, "\(dropped)")
        #expect(try stage.value("SELECT to_regclass('on_it')") == nil)
    }

    /// Triggers that wait for the COMMIT among them.
    @Test func nothingRunsWithMoreRightsThanTheOwner() throws {
        let stage = try Stage()
        try stage.makeReplica(method: "plain", rows: 1)
        let owner = "owner_of_\(stage.pair.name)"
        try stage.dest.execute(
            SQL(
                verbatim: """
                    CREATE ROLE \(owner);
                    CREATE TABLE seen (place text, who name DEFAULT current_user);
                    CREATE TABLE more (id int);
                    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql
                        AS 'BEGIN INSERT INTO public.seen VALUES (tg_name); RETURN NULL; END';
                    CREATE FUNCTION add() RETURNS trigger LANGUAGE plpgsql
                        AS 'BEGIN SET CONSTRAINTS ALL DEFERRED; INSERT INTO public.more VALUES (1);
                            RETURN NULL; END';
                    CREATE CONSTRAINT TRIGGER at_checks AFTER INSERT ON t
                        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
                    CREATE CONSTRAINT TRIGGER at_checks_too AFTER INSERT ON t
                        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION add();
                    CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON more
                        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
                    CREATE TRIGGER at_once AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
                    ALTER TABLE t OWNER TO \(owner);
                    ALTER TABLE seen OWNER TO \(owner);
                    ALTER TABLE more OWNER TO \(owner)
                    """))
        let ended = try stage.run("refresh", "t")
        #expect(ended.status == 0, "\(ended)")
        #expect(
            try stage.value("SELECT string_agg(place || ' ' || who, ', ' ORDER BY place) FROM seen")
                == "at_checks \(owner), at_commit \(owner), at_once \(owner)")
    }

    @Test func aSourceThatIsAwayIsTriedLater() throws {
        let stage = try Stage()
        try stage.makeReplica()
        let ended = try stage.run("refresh", "t", "--source-conninfo", "src=host=/nonexistent")
        #expect(ended.status == 75, "\(ended)")
        #expect(ended.errors.contains("source src cannot be reached"))
    }

    @Test func aLockedReplicaIsTriedLater() throws {
        let stage = try Stage()
        try stage.makeReplica()
        try stage.dest.execute(
            "SELECT pg_advisory_lock(roneo.lock_class(), replica_id) FROM roneo.replica")
        let ended = try stage.run("refresh", "t")
        #expect(ended.status == 75, "\(ended)")
        #expect(ended.errors.isEmpty, "an overlap is no reason for a mail")
        try stage.dest.execute("SELECT pg_advisory_unlock_all()")
        #expect(try stage.run("refresh", "t").status == 0)
    }
}

@Suite struct RunTests {
    @Test func nothingDueIsNothingSaid() throws {
        let stage = try Stage()
        try stage.makeReplica()
        let ended = try stage.run("run")
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.isEmpty && ended.errors.isEmpty)
        #expect(try stage.value("SELECT count(*) FROM roneo.run") == "0")
    }

    @Test func whatIsDueIsRefreshedOnce() throws {
        let stage = try Stage()
        for name in ["a", "b", "c", "d", "e"] { try stage.makeReplica(name, every: "1 hour") }
        try stage.makeReplica("manual")
        let ended = try stage.run("run", "--jobs", "3", "--per-source", "2")
        #expect(ended.status == 0, "\(ended)")
        #expect(
            try stage.value(
                "SELECT string_agg(dest || ' ' || outcome, ', ' ORDER BY dest) FROM roneo.run")
                == "public.a ok, public.b ok, public.c ok, public.d ok, public.e ok")
        #expect(try stage.run("run").status == 0)
        #expect(try stage.value("SELECT count(*) FROM roneo.run") == "5")
    }

    @Test func aDestinationThatWasDroppedIsNamedAndStopsNoOther() throws {
        let stage = try Stage()
        for name in ["a", "b"] { try stage.makeReplica(name, method: "plain", every: "1 hour") }
        try stage.dest.execute("DROP TABLE a")
        let ended = try stage.run("run")
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.errors.contains("RO018"))
        #expect(
            try stage.value(
                "SELECT string_agg(dest || ' ' || outcome, ', ' ORDER BY dest) FROM roneo.run")
                == "public.a failed, public.b ok")
        #expect(try stage.run("status").output.contains("gone"))
        #expect(try stage.run("run").status == 0, "it is left alone for a while")
    }

    @Test func sourcesAndMethodsNarrowTheChoice() throws {
        let stage = try Stage()
        try stage.makeReplica("a", method: "snapshot", every: "1 hour")
        try stage.makeReplica("b", method: "plain", every: "1 hour")
        #expect(try stage.run("run", "--source", "other").status == 0)
        #expect(try stage.value("SELECT count(*) FROM roneo.run") == "0")
        #expect(try stage.run("run", "--source", "src", "--method", "plain").status == 0)
        #expect(try stage.value("SELECT string_agg(dest, ',') FROM roneo.run") == "public.b")
    }

    @Test func nothingBeginsWhenTheTimeIsUp() throws {
        let stage = try Stage()
        try stage.makeReplica(every: "1 hour")
        let ended = try stage.run("run", "--max-runtime", "0s", "--verbose")
        #expect(ended.status == 0)
        #expect(ended.output.contains("1 not begun"))
        #expect(try stage.value("SELECT count(*) FROM roneo.run") == "0")
    }

    @Test func aDatabaseWithoutTheExtensionIs78() throws {
        let pair = try DatabasePair()
        for command in [["run"], ["refresh", "t"], ["status"], ["plan", "t"], ["preflight"]] {
            let ended = try RoneoProcess(command + ["-d", pair.destination]).wait()
            #expect(ended.status == 78, "\(ended)")
            #expect(ended.errors.contains("CREATE EXTENSION roneo"))
        }
    }

    @Test func anUnknownVersionOfTheExtensionIs78() throws {
        let stage = try Stage()
        try stage.dest.execute(
            "UPDATE pg_extension SET extversion = '9.9.9' WHERE extname = 'roneo'")
        let ended = try stage.run("run")
        #expect(ended.status == 78)
        #expect(ended.errors.contains("9.9.9"))
        #expect(ended.errors.contains("0.5.x"))
    }

    @Test func onAStandbyThereIsNothingToDo() throws {
        let stage = try Stage()
        try stage.makeReplica(every: "1 hour")
        let standby = try TestClusters.destination.standby()
        defer { standby.remove() }
        let conninfo = standby.conninfo(database: stage.pair.name)
        let ended = try RoneoProcess.run("run", "-d", conninfo)
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.isEmpty && ended.errors.isEmpty)
        for words in [
            ["refresh", "t"], ["status"], ["history"], ["check"], ["metrics"],
            ["report", "--html", "-"],
        ] {
            let ended = try RoneoProcess(words + ["-d", conninfo]).wait()
            #expect(ended.status == 0, "\(words): \(ended)")
            #expect(ended.errors.isEmpty, "\(words): \(ended)")
        }
    }
}
