import Postgres

/// A comparison of a replica with its source at the end of a round, and the repair of what differs.
///
/// It alternates two functions of the extension: one says what to do next, the other what to make
/// of the reports. The state goes from one to the other unread.
struct Comparison {
    private let destination: Connection
    private let answer: String
    private var state: String
    private var results: [StepResult] = []

    /// - Parameter copied: whether the refresh had anything to do.
    init(of round: inout RefreshRound, _ options: VerificationOptions, copied: Bool) throws {
        destination = round.destination
        let asked = round.asked?.replicaId
        answer =
            (round.answers.first { $0.replicaId == asked } ?? round.answers[0]).json.description
        state =
            try destination.execute(
                """
                SELECT roneo.verify_start(a.answer, roneo.verify_options(roneo.dest_of(\(round.dest)), \
                \(options.json.description)::jsonb) || jsonb_build_object('skipped', \
                \(copied ? "f" : "t")::boolean, 'state', a.answer #> '{before,state}')) \
                FROM (SELECT \(answer)::jsonb) AS a (answer)
                """
            ).value ?? ""
    }

    /// What to do next; nothing when the verdict is there.
    func plan() throws -> [Step] {
        let rows = try destination.execute(
            """
            SELECT * FROM roneo.verify_plan(\(answer)::jsonb, \(state)::jsonb) ORDER BY number
            """)
        return try (0..<rows.count).map { row in
            var step = try Step(rows, row: row)
            step.here = rows[row, "here"]
            return step
        }
    }

    mutating func take(_ results: [StepResult]) {
        self.results = results
    }

    mutating func judge() throws {
        state =
            try destination.execute(
                """
                SELECT roneo.verify_judge(\(answer)::jsonb, \(state)::jsonb, \
                \(JSON.array(results.map(\.json)).description)::jsonb)
                """
            ).value ?? ""
    }

    /// Keeps the verdict, in the transaction of the refresh, and returns it.
    func finish(startedAt: String, duration: Duration, runner: RunnerIdentity) throws -> Verdict {
        let facts = JSON.object([
            "started_at": JSON(startedAt), "seconds": JSON(duration),
            "runner": JSON(runner.description),
        ])
        let row = try destination.execute(
            """
            SELECT * FROM roneo.verify_finish(\(answer)::jsonb, \(state)::jsonb, \
            \(facts.description)::jsonb)
            """)
        guard let outcome = row[0, "verdict"].flatMap({ Verdict.Outcome(rawValue: $0) }) else {
            throw Failure(
                sqlState: SQLState.versionMismatch,
                message: "this program does not know the verdict \(row[0, "verdict"] ?? "")")
        }
        func number(_ column: String) -> Int64? { row[0, column].flatMap { Int64($0) } }
        var verdict = Verdict(outcome: outcome, why: row[0, "why"])
        verdict.rowsThere = number("rows_there")
        verdict.rowsHere = number("rows_here")
        verdict.missing = number("missing")
        verdict.extra = number("extra")
        verdict.changed = number("changed")
        verdict.inserted = number("inserted")
        verdict.updated = number("updated")
        verdict.deleted = number("deleted")
        verdict.runId = number("run_id")
        verdict.wantsCopy = row[0, "retry"] == "t"
        verdict.notCompared = row[0, "not_compared"]
        verdict.copiedAnew = row[0, "copied_anew"] == "t"
        verdict.differences = JSON(verbatim: row[0, "differences"] ?? "[]")
        verdict.lines = try lines(of: verdict.differences)
        return verdict
    }

    /// The differences in words, which the server takes out of their document.
    private func lines(of differences: JSON) throws -> [Verdict.Line] {
        let rows = try destination.execute(
            """
            SELECT d.one ->> 'kind' AS kind, coalesce((SELECT string_agg(format('%s=%s', k.key, \
            k.value), ', ') FROM jsonb_each_text(d.one -> 'key') AS k), \
            format(CASE d.one ->> 'rows' WHEN '1' THEN '%s row' ELSE '%s rows' END, d.one ->> 'rows')) AS key, \
            (SELECT string_agg(CASE WHEN d.one ? 'values' THEN format('%s: %s there, %s here', c.name, \
            coalesce(quote_literal(d.one #>> ARRAY['values', c.name, '0']), 'NULL'), \
            coalesce(quote_literal(d.one #>> ARRAY['values', c.name, '1']), 'NULL')) \
            ELSE c.name END, ', ' ORDER BY c.nr) \
            FROM jsonb_array_elements_text(d.one -> 'columns') WITH ORDINALITY AS c (name, nr)) \
            FROM jsonb_array_elements(\(differences.description)::jsonb) WITH ORDINALITY AS d (one, nr) \
            ORDER BY d.nr
            """)
        return (0..<rows.count).map { row in
            Verdict.Line(
                kind: rows[row, 0] ?? "", key: rows[row, 1] ?? "", columns: rows[row, 2] ?? "")
        }
    }
}
