import Postgres
import TestSupport
import Testing

@testable import LocalCluster

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

@Suite struct ThrowawayClusterTests {
    @Test func itLivesCrashesFollowsAndVanishes() async throws {
        let cluster = try ThrowawayCluster(name: "life", settings: ["work_mem": "5MB"])
        #expect(try cluster.psql("SHOW work_mem") == "5MB")
        #expect(try cluster.psql("SHOW listen_addresses") == "")
        try cluster.createDatabase("odd \"name'")
        try cluster.psql("CREATE TABLE t AS SELECT 1 AS i; CHECKPOINT", database: "odd \"name'")
        try cluster.createDatabase("copy", template: "odd \"name'")

        try cluster.crash()
        #expect(!cluster.isRunning)
        #expect(throws: ClusterError.self) { try cluster.psql("SELECT 1") }
        try cluster.start()
        #expect(try cluster.psql("SELECT i FROM t", database: "copy") == "1")
        try cluster.dropDatabase("copy")
        try cluster.restart()
        #expect(cluster.isRunning)

        let standby = try cluster.standby(settings: ["hot_standby": "on"])
        #expect(try standby.psql("SELECT pg_is_in_recovery()") == "t")
        try cluster.psql("CREATE TABLE news (i int)")
        #expect(
            try await eventually {
                try standby.psql("SELECT to_regclass('news') IS NOT NULL") == "t"
            })
        try standby.promote()
        #expect(try standby.psql("SELECT pg_is_in_recovery()") == "f")

        for used in [standby, cluster] {
            used.remove()
            used.remove()
            #expect(access(used.directory, F_OK) != 0)
        }
    }

    @Test func oneThatIsForgottenVanishesToo() throws {
        var directory = ""
        do {
            let cluster = try ThrowawayCluster(name: "forgotten")
            directory = cluster.directory
            #expect(try cluster.psql("SELECT 1") == "1")
        }
        #expect(access(directory, F_OK) != 0)
    }

    @Test func missingProgramsAreAnErrorThatSaysWhatToInstall() throws {
        let error = #expect(throws: ClusterError.self) {
            try ServerBinaries.newest(of: ["/no/such/folder", "/tmp"])
        }
        #expect(error?.description.contains("apt install postgresql") == true)
        #expect(ServerBinaries(in: TestClusters.source.binaries.directory) != nil)
    }

    @Test func aSettingThatServersRefuseIsAnErrorThatQuotesThem() {
        let error = #expect(throws: ClusterError.self) {
            try ThrowawayCluster(name: "refused", settings: ["no_such_setting": "1"])
        }
        #expect(error?.description.contains("no_such_setting") == true)
    }
}
