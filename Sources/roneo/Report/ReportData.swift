import Replication

/// What a report is made of, for programs.
enum ReportData {
    static func json(_ chronicle: Chronicle) -> JSON {
        .object([
            "database": JSON(chronicle.database),
            "since": JSON(chronicle.since),
            "until": JSON(chronicle.until),
            "buckets": JSON(chronicle.buckets),
            "health": PluginText.json(chronicle.health),
            "replicas": RecordText.array(chronicle.replicas),
            "runs": RecordText.array(chronicle.plots),
            "failures": RecordText.array(chronicle.failures),
        ])
    }
}
