import FoundationEssentials
import Testing

@testable import Replication

@Suite struct JSONTests {
    @Test(
        "every text comes back from a parser as it went in",
        arguments: [
            "", "plain", "\"quoted\"", "back\\slash", "line\nfeed", "tab\tand\rreturn",
            "\u{0}\u{1f}",
            "\u{7f}", "é 漢字 👍🏽", "\u{2028}", "</script>",
        ])
    func texts(text: String) throws {
        let json = JSON.array([JSON(text)]).description
        #expect(try JSONDecoder().decode([String].self, from: Data(json.utf8)) == [text])
    }

    @Test(
        "durations are numbers of seconds",
        arguments: [
            (Duration.zero, "0.000000"), (.seconds(90), "90.000000"),
            (.milliseconds(1), "0.001000"), (.nanoseconds(1_999), "0.000001"),
        ])
    func durations(duration: Duration, text: String) {
        #expect(JSON(duration).description == text)
    }

    @Test func aDocumentOfTheSourceIsPassedOnAsItCame() {
        let document = #"{"b" : 1.10, "a":1e400,"a":"\u0041"}"#
        let answer = RoundAnswer(
            replicaId: 7, options: RefreshOptions(dropDependents: true, force: false),
            before: nil, inside: document)
        #expect(
            answer.json.description
                == #"{"replica_id":7,"hand":"runner","options":{"drop_dependents":true,"#
                + #""force":false,"sweep":false,"staging":false,"verify":false},"#
                + #""before":null,"inside":"#
                + document + "}")
    }

    @Test func aResultNamesEveryStep() throws {
        let step = Step(
            replicaId: 7, number: 1, stage: 2, kind: .transfer, purpose: #"copy "all""#,
            statement: "SELECT 1", copyOut: "COPY", copyIn: "COPY", counts: "inserted",
            patient: false)
        var done = StepResult(step, .done)
        (done.sent, done.received, done.rows, done.bytes) = (5, 5, 5, 100)
        let result = RoundResult(
            replicaId: 7, runId: nil, startedAt: "1970-01-01T00:00:00.000000Z",
            duration: .seconds(1), planned: 2, steps: [done, StepResult(step, .skipped)],
            runner: RunnerIdentity(runId: "abc", host: "h", process: 1), backend: 42)

        struct Decoded: Decodable, Equatable {
            struct Step: Decodable, Equatable {
                let number: Int
                let purpose: String
                let outcome: String
                let sent: Int?
                let received: Int?
            }
            let replica_id: Int
            let run_id: Int?
            let started_at: String
            let planned: Int
            let runner: String
            let steps: [Step]
        }
        let decoded = try JSONDecoder().decode(
            Decoded.self, from: Data(result.json.description.utf8))
        #expect(
            decoded
                == Decoded(
                    replica_id: 7, run_id: nil, started_at: "1970-01-01T00:00:00.000000Z",
                    planned: 2, runner: "abc h 1",
                    steps: [
                        .init(
                            number: 1, purpose: #"copy "all""#, outcome: "done", sent: 5,
                            received: 5),
                        .init(
                            number: 1, purpose: #"copy "all""#, outcome: "skipped", sent: nil,
                            received: nil),
                    ]))
    }
}
