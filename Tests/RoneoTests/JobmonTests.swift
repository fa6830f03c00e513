import Postgres
import TestSupport
import Testing

/// The bridge to pg_jobmon, by what has its functions: the runner commits as the owner of the
/// destination, who has no business there.
@Suite struct JobmonTests {
    private func stage() throws -> Stage {
        let stage = try Stage()
        let owner = "jobmon_owner_\(stage.pair.name)"
        try stage.makeReplica(method: "plain")
        try stage.dest.execute(
            SQL(
                verbatim: """
                    CREATE ROLE \(owner);
                    ALTER TABLE t OWNER TO \(owner);
                    CREATE SCHEMA jobmon;
                    CREATE TABLE jobmon.heard (job bigint GENERATED ALWAYS AS IDENTITY, name text, status text, ended text, who name);
                    CREATE FUNCTION jobmon.add_job(name text) RETURNS bigint LANGUAGE sql AS
                        'INSERT INTO jobmon.heard (name, who) VALUES (name, current_user) RETURNING job';
                    CREATE FUNCTION jobmon.add_step(job bigint, step text) RETURNS bigint LANGUAGE sql AS 'SELECT job';
                    CREATE FUNCTION jobmon.update_step(step bigint, status text, message text) RETURNS void LANGUAGE sql AS
                        'UPDATE jobmon.heard SET status = $2 WHERE job = $1';
                    CREATE FUNCTION jobmon.close_job(job bigint) RETURNS void LANGUAGE sql AS
                        'UPDATE jobmon.heard SET ended = ''closed'' WHERE job = $1';
                    CREATE FUNCTION jobmon.fail_job(job bigint) RETURNS void LANGUAGE sql AS
                        'UPDATE jobmon.heard SET ended = ''failed'' WHERE job = $1';
                    INSERT INTO roneo.setting VALUES ('jobmon', '1');
                    """))
        return stage
    }

    private func heard(_ stage: Stage) throws -> String? {
        try stage.value(
            """
            SELECT string_agg(concat_ws(' ', name, status, ended, who), ', ' ORDER BY job) FROM jobmon.heard
            """)
    }

    @Test func eachRunIsToldOnceByWhoCameIn() throws {
        let stage = try stage()
        #expect(try stage.run("refresh", "t").status == 0)
        #expect(try heard(stage) == "RONEO public.t OK closed postgres")
        try stage.source.execute("DROP TABLE t")
        #expect(try stage.run("refresh", "t").status == 1)
        #expect(
            try heard(stage)
                == "RONEO public.t OK closed postgres, RONEO public.t CRITICAL failed postgres")
    }

    @Test func whereItCannotBeToldRefreshesGoOn() throws {
        let stage = try stage()
        try stage.dest.execute("DROP SCHEMA jobmon CASCADE")
        let ended = try stage.run("refresh", "t")
        #expect(ended.status == 0, "\(ended)")
        #expect(try stage.value("SELECT count(*) FROM t") == "100")
        #expect(try stage.value("SELECT last_outcome FROM roneo.replica") == "ok")
    }
}
